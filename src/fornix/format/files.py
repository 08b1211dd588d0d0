"""Models and other messages in files: which format, how it is read, and how it is written.

Decides which of the four formats a name or an extension stands for, turns bytes into messages and
back, and turns whatever a parser raises into an error that names the file. Saving is atomic.
Payloads in place are the business of `wire`, files beside the model of `external`.
"""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, TypeVar

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError, EncodeError, Message

from fornix.dtype import STRING
from fornix.errors import ExternalDataError, FormatError, FornixError, NoSuchFile
from fornix.format import compiled, external, safetensors, utf8, wire
from fornix.format.atomic import replacement, write_file
from fornix.format.limits import DEFAULT, MESSAGE_BYTES, Limits
from fornix.format.mapped import MappedBytes, MappedFile, Memory, Payload, Region, open_file
from fornix.format.messages import ModelProto, TensorProto, own
from fornix.format.tensors import layout, to_array
from fornix.format.walk import descriptor_of, tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

M = TypeVar("M", bound=Message)
PathLike = str | os.PathLike[str]

PROTOBUF, TEXTPROTO, JSON, TEXT = "protobuf", "textproto", "json", "onnxtxt"
FORMATS: dict[str, tuple[str, ...]] = {
    PROTOBUF: (".onnx", ".pb"),
    TEXTPROTO: (".txtpb", ".textproto", ".prototxt", ".pbtxt"),
    JSON: (".json", ".onnxjson"),
    TEXT: (".onnxtxt", ".onnxtext"),
}
_BY_EXTENSION = {extension: name for name, group in FORMATS.items() for extension in group}
_NOTATION = {
    "ModelProto": "model",
    "GraphProto": "graph",
    "FunctionProto": "function",
    "NodeProto": "node",
    "AttributeProto": "attribute",
    "TensorProto": "tensor",
    "TypeProto": "type",
    "ValueInfoProto": "value_info",
}
# In a file of external data, bytes: a page from 1 MiB on, so that it can be mapped apart; else
# what the widest vector loads want.
_PAGE, _VECTOR, _LARGE = 4096, 64, 1 << 20
# Bytes read at once from what has no size.
_PART = 1 << 20
# What the parsers of protobuf raise for text that is not what it should be.
_TEXT_ERRORS = (
    text_format.ParseError,
    json_format.ParseError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    DeprecationWarning,  # bad escapes in strings, where warnings are errors
)


def path_of(file: object) -> str | None:
    """The absolute path of a path, or of an open file that has one."""
    if not isinstance(file, str | os.PathLike):
        file = getattr(file, "name", None)
    return os.path.abspath(file) if isinstance(file, str | os.PathLike) else None


def format_of(file: object, fallback: str = PROTOBUF) -> str:
    """The format that the extension of a path or open file stands for."""
    path = path_of(file)
    return _BY_EXTENSION.get(os.path.splitext(path)[1], fallback) if path else fallback


def read_bytes(source: PathLike | IO[bytes]) -> bytes:
    """All bytes of a path or of an open binary file.

    Raises NoSuchFile for a path that cannot be read, FormatError for more than protobuf takes.
    """
    if not isinstance(source, str | os.PathLike):
        return _read_open(source)
    descriptor = open_file(source)
    try:
        with open(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode):
                _require_message_size(status.st_size, os.fspath(source))
                return stream.read()
            return b"".join(_bounded(stream, os.fspath(source)))
    except OSError as error:  # a folder, for one
        reason = error.strerror or str(error)
        raise NoSuchFile(f"{os.fspath(source)}: a readable file is required: {reason}") from error


def _read_open(source: IO[bytes]) -> bytes:
    read = getattr(source, "read", None)
    if read is None:
        raise FormatError(
            f"a path or an open binary file is required, found {type(source).__name__}"
        )
    data: bytes = read()
    return data


def _bounded(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The bytes of a pipe or device, which may have no end."""
    total = 0
    while part := stream.read(_PART):
        total += len(part)
        _require_message_size(total, name)
        yield part


def _require_message_size(size: int, name: str) -> None:
    if size > MESSAGE_BYTES:
        raise FormatError(
            f"{name}: a message of at most 2 GiB is required, found {size} bytes; "
            "fornix.load reads larger models"
        )


def read_model(
    source: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    load_external_data: bool = True,
    allow_links: bool = False,
    limits: Limits = DEFAULT,
) -> ModelProto:
    """The model in ``source`` as an ordinary message that holds all of its data.

    Raises FormatError for damaged files and above 2 GiB, which `open_model` can read, and
    ExternalDataError for external data that is unsafe or not there.
    """
    model = read_message(source, ModelProto, format, limits=limits)
    path = path_of(source)
    if load_external_data and path is not None:
        load_external(model, os.path.dirname(path), allow_links=allow_links)
    return model


def load_external(model: Message, folder: PathLike, *, allow_links: bool = False) -> None:
    """Move the external data of every tensor within ``model`` into it."""
    files = external.Folder(folder, allow_links=allow_links)
    for tensor in tensors(model):
        if external.is_external(tensor):
            tensor.raw_data = files.read(tensor)
            tensor.data_location = TensorProto.DEFAULT
            tensor.ClearField("external_data")


def open_model(
    source: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    allow_links: bool = False,
    limits: Limits = DEFAULT,
) -> wire.Skeleton[ModelProto]:
    """The model in ``source`` with its large tensors left where they are, whatever their size.

    Raises as `read_model` does, and FormatError for text that is not UTF-8; external data is
    looked at when a tensor's payload is asked for.
    """
    path = path_of(source)
    folder = external.Folder(os.path.dirname(path), allow_links=allow_links) if path else None
    form = format or format_of(source)
    if form == PROTOBUF:
        region = compiled.model_in(_region(source))
        skeleton = wire.scan(region, ModelProto, folder=folder, strict=True)
    else:
        skeleton = wire.Skeleton(read_message(source, ModelProto, form, limits=limits), folder)
    model = skeleton.message
    nodes = len(model.graph.node) + sum(len(function.node) for function in model.functions)
    limits.check("nodes", nodes, label(source))
    return skeleton


def _region(source: PathLike | IO[bytes]) -> Region:
    """A file to be mapped; what cannot be, in memory."""
    if isinstance(source, str | os.PathLike):
        descriptor = open_file(source)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return MappedFile(descriptor, os.fspath(source))
        os.close(descriptor)
    return Memory(read_bytes(source), label(source))


def read_message(
    source: PathLike | IO[bytes],
    message: type[M],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    limits: Limits = DEFAULT,
) -> M:
    """The ``message`` in ``source``; raises FormatError for damaged files."""
    form = format or format_of(source)
    return decode(read_bytes(source), message(), form, label(source), limits=limits)


def label(source: PathLike | IO[bytes]) -> str:
    """What errors call ``source``."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "<file>"))


def decode(
    data: bytes | str,
    message: M,
    format: str = PROTOBUF,  # noqa: A002 - onnx's name for it
    name: str = "<bytes>",
    *,
    limits: Limits = DEFAULT,
) -> M:
    """``message``, ours or onnx's and empty, with what ``data`` from the file ``name`` holds.

    Raises FormatError, or LimitError for text larger than ``limits`` allow.
    """
    require_format(format)
    if format == PROTOBUF:
        return _from_wire(data, message, name)
    limits.check("text_bytes", len(data), name)
    try:
        text = data if isinstance(data, str) else bytes(data).decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{name}: byte {error.start}: text in UTF-8 is required, "
            f"found byte 0x{data[error.start]:02x}"
        ) from error
    if format == TEXT:
        return _from_text(text, message, name)
    try:
        if format == JSON:
            return json_format.Parse(text, message)
        return text_format.Parse(text, message)
    except _TEXT_ERRORS as error:
        kind = descriptor_of(message).name
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)[:500]
        raise FormatError(f"{name}: {kind} in {format} is required: {reason}") from error


def require_format(name: str) -> None:
    """Raise FormatError unless ``name`` is one of the formats."""
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise FormatError(f"format {name!r}: one of {known} is required")


def _from_wire(data: bytes | str, message: M, name: str) -> M:
    if isinstance(data, str):
        raise FormatError(f"{name}: bytes are required in format protobuf, found text")
    if descriptor_of(message).name == "ModelProto":
        data = compiled.model_bytes(data, name)
    _require_message_size(len(data), name)
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise wire.malformed(Memory(data, name), descriptor_of(message)) from error
    return message


def _from_text(text: str, message: M, name: str) -> M:
    """A message in ONNX's own notation."""
    from fornix.format import text as notation  # noqa: PLC0415 - most models need no parser

    found: Message = getattr(notation, f"parse_{_notion(message)}")(text, name)
    message.ParseFromString(found.SerializePartialToString())
    return message


def encode(message: Message, format: str = PROTOBUF) -> bytes:  # noqa: A002 - onnx's name for it
    """``message``, ours or onnx's, in a format.

    Raises FormatError above 2 GiB, and for text that is not UTF-8 where the format has no way to
    write it.
    """
    require_format(format)
    if format == TEXTPROTO:
        return text_format.MessageToString(message).encode()
    try:
        data = message.SerializePartialToString()
    except (EncodeError, ValueError) as error:
        raise FormatError(
            f"{descriptor_of(message).name}: at most 2 GiB can be written as one message; "
            "save_as_external_data=True keeps tensors in a file of their own"
        ) from error
    if format == PROTOBUF:
        return data
    kind = descriptor_of(message)
    utf8.require(data, kind, kind.name)
    if format == JSON:
        return json_format.MessageToJson(message, preserving_proto_field_name=True).encode()
    from fornix.format import text as notation  # noqa: PLC0415 - most models need no printer

    printed: str = getattr(notation, f"print_{_notion(message)}")(own(message))
    return printed.encode()


def _notion(message: Message) -> str:
    """What the functions that parse and print ONNX text call this kind of message."""
    kind = descriptor_of(message).name
    if kind not in _NOTATION:
        raise FormatError(f"ONNX text has no notation for a {kind}; use textproto")
    return _NOTATION[kind]


def write_bytes(target: PathLike | IO[bytes], parts: Iterable[Buffer]) -> None:
    """Write to an open file, or to a path: whole or not at all."""
    if isinstance(target, str | os.PathLike):
        write_file(target, parts)
    else:
        for part in parts:
            target.write(part)


def write_message(
    message: Message,
    target: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
) -> None:
    """Write any message to a path, atomically, or to an open file."""
    if isinstance(target, str | os.PathLike):
        refuse_own_data(message, target)
    write_bytes(target, [encode(message, format or format_of(target))])


def write_model(
    model: ModelProto | wire.Skeleton[ModelProto],
    target: PathLike | IO[bytes],
    format: str | None = None,  # noqa: A002 - onnx's name for it
    *,
    external_data: str | None = None,
    threshold: int = wire.THRESHOLD,
    allow_links: bool = False,
) -> None:
    """Write a model of any size to a path, atomically, or to an open file.

    ``external_data`` names a file beside the model that gets the tensors of ``threshold`` bytes
    and more; an old file of that name is replaced, which is safe even if the model is mapped from
    it. Model and data change their names one right after the other, not at once. ``model`` itself
    stays as it is. A name that ends in ``.safetensors`` makes it a file of that format, which other
    software can read by the names of tensors.
    """
    skeleton = model if isinstance(model, wire.Skeleton) else wire.Skeleton(own(model))
    form = format or format_of(target)
    if external_data is None:
        if isinstance(target, str | os.PathLike):
            refuse_own_data(skeleton.message, target)
        write_bytes(target, _parts(skeleton, form))
        return
    path = path_of(target)
    if path is None or not isinstance(target, str | os.PathLike):
        raise ExternalDataError("external data needs a model that is saved by its path")
    skeleton = skeleton.copy()
    data = external.ExternalFile(os.path.dirname(path), external_data, allow_links=allow_links)
    try:
        _move_out(skeleton, data, threshold)
        refuse_own_data(skeleton.message, target)
        with replacement(path) as new:
            for part in _parts(skeleton, form):
                new.write(part)
            new.flush()
            data.commit()
    finally:
        data.discard()


def _parts(skeleton: wire.Skeleton[ModelProto], form: str) -> Iterable[Buffer]:
    if form == PROTOBUF:
        return wire.contents(skeleton)
    return [encode(skeleton.whole(), form)]


def _move_out(
    skeleton: wire.Skeleton[ModelProto], data: external.ExternalFile, threshold: int
) -> None:
    """Write the payloads of ``threshold`` bytes and more to ``data``."""
    moving: list[tuple[TensorProto, Payload]] = []
    for tensor in tensors(skeleton.message):
        payload = skeleton.payload(tensor) or _held(tensor, threshold)
        if payload is not None and payload.nbytes >= threshold:
            moving.append((tensor, payload))
    if data.location.endswith(safetensors.EXTENSION):
        _move_named(moving, data)
        return
    for tensor, payload in moving:
        alignment = _PAGE if payload.nbytes >= _LARGE else _VECTOR
        place = data.append(wire.parts(payload), alignment)
        external.set_reference(tensor, data.location, *place)


def _held(tensor: TensorProto, threshold: int) -> Payload | None:
    """The bytes that ``tensor`` holds itself, those of typed fields if they are many enough.

    None of strings, which cannot stand elsewhere, and of a tensor that is not sound.
    """
    if tensor.HasField("raw_data"):
        return MappedBytes.of(tensor.raw_data)
    try:
        declared = layout(tensor)
        if declared.dtype is STRING or declared.nbytes < threshold:
            return None
        return MappedBytes.of(declared.dtype.pack(to_array(tensor)))
    except FornixError:
        return None


def _move_named(moving: Iterable[tuple[TensorProto, Payload]], data: external.ExternalFile) -> None:
    """Write payloads as a safetensors file; those of types that it lacks stay in the model.

    A tensor without a name gets one, and one whose name another has already.
    """
    by_name: dict[str, TensorProto] = {}
    entries = []
    for tensor, payload in moving:
        declared = layout(tensor)
        fits = payload.nbytes == declared.nbytes
        if not fits or not safetensors.can_hold(declared.dtype, declared.shape):
            continue
        own = name = tensor.name or "tensor"
        number = 1
        while name in by_name or name == safetensors.METADATA:
            name, number = f"{own}_{number}", number + 1
        by_name[name] = tensor
        entries.append(safetensors.Entry(name, declared.dtype, declared.shape, payload))
    header, ordered = safetensors.arranged(entries)
    data.append([header])
    for entry in ordered:
        place = data.append(wire.parts(entry.payload))
        external.set_reference(by_name[entry.name], data.location, *place)


def refuse_own_data(message: Message, target: PathLike) -> None:
    """Raise ExternalDataError if a tensor keeps its data in the very file to be written."""
    path = os.path.realpath(target)
    folder = os.path.dirname(os.path.abspath(target))
    for tensor in tensors(message):
        if external.is_external(tensor):
            location = external.reference(tensor).location
            is_path = "\0" not in location
            if is_path and os.path.realpath(os.path.join(folder, location)) == path:
                raise ExternalDataError(
                    f"{os.fspath(target)}: tensor {tensor.name!r} keeps its data in this file, "
                    "which saving the model would replace; choose another name"
                )
