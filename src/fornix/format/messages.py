"""The ONNX messages as protobuf classes of our own: `ModelProto`, `GraphProto`, `TensorProto`, ….

The classes are built at import from the table in `fields`, in a descriptor pool that nothing else
uses: their full names are those of the standard ("onnx.ModelProto"), and still `onnx`, TensorFlow
or any protobuf user may register the same names in the same process. What the fields mean is left
to the rest of `format`; the types that a type checker sees are in `messages.pyi`.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message, reflection
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from fornix.errors import FormatError
from fornix.format.fields import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, FileDescriptor

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint64": _Field.TYPE_UINT64,
}


def own(source: object, expected: type[message.Message] | None = None) -> message.Message:
    """``source`` as one of our messages: itself, or a copy of another pool's ONNX message.

    Raises FormatError for anything that is not a message of the standard, or not ``expected``.
    """
    name = getattr(getattr(source, "DESCRIPTOR", None), "full_name", "")
    ours = _CLASSES.get(name)
    if ours is None or not isinstance(source, message.Message) or ours is not (expected or ours):
        wanted = expected.__qualname__ if expected else "an ONNX message"
        raise FormatError(f"{wanted} is required, found {name or type(source).__name__}")
    if isinstance(source, ours):
        return source
    try:
        return ours.FromString(source.SerializePartialToString())
    except (message.EncodeError, message.DecodeError, ValueError) as error:
        raise FormatError(f"{name}: at most 2 GiB can be copied, found more") from error


def _file(table: str) -> descriptor_pb2.FileDescriptorProto:
    """The description that protoc would make of the messages in ``table``."""
    file = descriptor_pb2.FileDescriptorProto(name="fornix/onnx.proto", package="onnx")
    blocks = [block.split("\n") for block in table.strip().split("\n\n")]
    enums = {lines[0].split()[1] for lines in blocks if lines[0].startswith("enum ")}
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for head, *lines in blocks:
        kind, path = head.split()
        scope, _, name = path.rpartition(".")
        if kind == "enum":
            enum = (found[scope] if scope else file).enum_type.add(name=name)
            for item in " ".join(lines).split():
                value, number = item.split("=")
                enum.value.add(name=value, number=int(number))
            continue
        target = found[scope].nested_type.add() if scope else file.message_type.add()
        target.name = name
        found[path] = target
        for line in lines:
            _add_line(target, line.split(), enums)
    return file


def _add_line(target: descriptor_pb2.DescriptorProto, words: list[str], enums: set[str]) -> None:
    """Add one line of the table, a field or what is reserved, to a message."""
    if words[0] == "reserved":
        for word in words[1:]:
            if word[0].isdigit():
                first, _, last = word.partition("-")
                target.reserved_range.add(start=int(first), end=int(last or first) + 1)
            else:
                target.reserved_name.append(word)
        return
    number, name, kind, *oneof = words
    base = kind.rstrip("*+")
    field = target.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind != base:
        field.label = _Field.LABEL_REPEATED
    if kind.endswith("+"):
        field.options.packed = True
    if base in _SCALARS:
        field.type = _SCALARS[base]
    else:
        field.type = _Field.TYPE_ENUM if base in enums else _Field.TYPE_MESSAGE
        field.type_name = f".onnx.{base}"
    if oneof:
        if not target.oneof_decl:
            target.oneof_decl.add(name=oneof[0])
        field.oneof_index = 0


def _message_class(descriptor: Descriptor, scope: str = "") -> type[message.Message]:
    """The class of a message, known by its place in this module so that it pickles."""
    path = scope + descriptor.name
    members: dict[str, object] = {
        nested.name: _message_class(nested, f"{path}.") for nested in descriptor.nested_types
    }
    members |= {"DESCRIPTOR": descriptor, "__module__": __name__, "__qualname__": path}
    made = _METACLASS(descriptor.name, (message.Message,), members)
    _CLASSES[descriptor.full_name] = made
    # protobuf's own pickling looks the full name up in its default pool, where we are not.
    copyreg.pickle(made, _reduce)
    return made


def _reduce(
    source: message.Message,
) -> tuple[Callable[..., message.Message], tuple[type[message.Message], bytes]]:
    return _restore, (type(source), source.SerializePartialToString())


def _restore(made: type[message.Message], payload: bytes) -> message.Message:
    return made.FromString(payload)


def _build() -> FileDescriptor:
    """Bind every class, enum and enum value of the standard in this module."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file(TABLE).SerializeToString())
    file = pool.FindFileByName("fornix/onnx.proto")
    for enum in file.enum_types_by_name.values():
        globals()[enum.name] = EnumTypeWrapper(enum)
        globals().update((value.name, value.number) for value in enum.values)
    for descriptor in file.message_types_by_name.values():
        globals()[descriptor.name] = _message_class(descriptor)
    return file


_METACLASS = cast("Callable[..., type[message.Message]]", reflection.GeneratedProtocolMessageType)
_CLASSES: dict[str, type[message.Message]] = {}
DESCRIPTOR = _build()
