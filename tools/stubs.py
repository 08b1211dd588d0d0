"""Writes `src/fornix/format/messages.pyi`, the types of the message classes.

Decides how a field looks to a type checker: scalars are attributes, repeated and message fields
are read-only properties, because protobuf refuses to assign them. What fields there are is decided
by the table in `fornix.format.fields`. Run it after changing the table:

    python tools/stubs.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor

from fornix.format.messages import DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor, EnumDescriptor

TARGET = Path(__file__).parents[1] / "src/fornix/format/messages.pyi"

_HEAD = """# Types of the ONNX messages; written by tools/stubs.py.
# ruff: noqa: A002, N802 - the names are those of protobuf and of the standard

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeVar, overload

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import (
    RepeatedCompositeFieldContainer as _Messages,
)
from google.protobuf.internal.containers import (
    RepeatedScalarFieldContainer as _Scalars,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)

DESCRIPTOR: FileDescriptor

@overload
def own(source: _M) -> _M: ...
@overload
def own(source: object, expected: type[_M]) -> _M: ...
"""

_PYTHON_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_UINT64: "int",
    FieldDescriptor.CPPTYPE_ENUM: "int",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
}


def render() -> str:
    """The stub file's text, formatted."""
    lines = [_HEAD]
    for enum in DESCRIPTOR.enum_types_by_name.values():
        lines += _enum(enum)
    for descriptor in DESCRIPTOR.message_types_by_name.values():
        lines += ["", *_message(descriptor)]
    text = "\n".join(lines)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(
        command, input=text, text=True, capture_output=True, check=True, encoding="utf-8"
    ).stdout


def _enum(enum: EnumDescriptor) -> Iterator[str]:
    yield f"{enum.name}: EnumTypeWrapper"
    for value in enum.values:
        yield f"{value.name}: Final = {value.number}"


def _message(descriptor: Descriptor) -> Iterator[str]:
    yield f"class {descriptor.name}(Message):"
    for nested in descriptor.nested_types:
        yield from (f"    {line}" for line in _message(nested))
        yield ""
    for enum in descriptor.enum_types:
        yield from (f"    {line}" for line in _enum(enum))
    for field in descriptor.fields:
        yield f"    {field.name.upper()}_FIELD_NUMBER: Final = {field.number}"
    for field in descriptor.fields:
        yield from _field(field)
    yield "    def __init__(self, *,"
    yield from (
        f"        {field.name}: {_initial(field)} | None = ...," for field in descriptor.fields
    )
    yield "    ) -> None: ..."
    groups = [f'"{x.name}"' for x in descriptor.oneofs]
    present = [f'"{x.name}"' for x in descriptor.fields if not _is_repeated(x)] + groups
    if present:
        yield f"    def HasField(self, field_name: Literal[{', '.join(present)}]) -> bool: ..."
    every = [f'"{x.name}"' for x in descriptor.fields] + groups
    yield f"    def ClearField(self, field_name: Literal[{', '.join(every)}]) -> None: ..."
    for group in descriptor.oneofs:
        members = ", ".join(f'"{x.name}"' for x in group.fields)
        yield (
            f'    def WhichOneof(self, oneof_group: Literal["{group.name}"])'
            f" -> Literal[{members}] | None: ..."
        )


def _field(field: FieldDescriptor) -> list[str]:
    kind = _element(field)
    if _is_repeated(field):
        kind = f"_Messages[{kind}]" if field.message_type else f"_Scalars[{kind}]"
    elif not field.message_type:
        return [f"    {field.name}: {kind}"]
    return ["    @property", f"    def {field.name}(self) -> {kind}: ..."]


def _initial(field: FieldDescriptor) -> str:
    """What the constructor takes for a field."""
    kind = _element(field)
    if field.message_type:
        kind = f"{kind} | Mapping[str, object]"
    elif field.enum_type:
        kind = "int | str"
    return f"Iterable[{kind}]" if _is_repeated(field) else kind


def _element(field: FieldDescriptor) -> str:
    if field.message_type:
        return field.message_type.full_name.removeprefix("onnx.")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "bytes"
    return _PYTHON_TYPES.get(field.cpp_type, "str")


def _is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 7 drops `label`, protobuf 5 lacks `is_repeated`.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(getattr(field, "label") == FieldDescriptor.LABEL_REPEATED)  # noqa: B009


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
