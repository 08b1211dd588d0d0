"""What `onnx.serialization` offers: serializers by format, and the registry that finds them.

The four built-in ones are `fornix.format.files` under onnx's names; more can be registered.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, TypeVar

from google.protobuf import json_format, text_format
from google.protobuf import message as protobuf

from fornix.errors import FormatError
from fornix.format import files

__all__ = ["ProtoSerializer", "registry"]

_Proto = TypeVar("_Proto", bound=protobuf.Message)


class _DecodeError(FormatError, protobuf.DecodeError):
    """Damaged bytes, also for those who catch what protobuf raises."""


class _TextError(FormatError, text_format.ParseError):
    """Text that cannot be read, also for those who catch what protobuf raises."""


class _JsonError(FormatError, json_format.ParseError):
    """JSON that cannot be read, also for those who catch what protobuf raises."""


_ERRORS: dict[str, type[FormatError]] = {
    files.PROTOBUF: _DecodeError,
    files.TEXTPROTO: _TextError,
    files.JSON: _JsonError,
}


class ProtoSerializer(Protocol):
    """What a format needs to be registered; extensions begin with a dot."""

    @property
    def supported_format(self) -> str:
        """The name of the format."""

    @property
    def file_extensions(self) -> Collection[str]:
        """The extensions that stand for it."""

    def serialize_proto(self, proto: Any) -> Any:
        """``proto`` in this format."""

    def deserialize_proto(self, serialized: Any, proto: _Proto) -> _Proto:
        """``proto`` with what ``serialized`` says."""


class BuiltIn:
    """One of the formats of `fornix.format.files`."""

    def __init__(self, name: str) -> None:
        self.supported_format = name
        self.file_extensions: Collection[str] = frozenset(files.FORMATS[name])

    def serialize_proto(self, proto: protobuf.Message) -> bytes:
        """``proto`` in this format; raises TypeError for anything but a message."""
        if not isinstance(proto, protobuf.Message):
            raise TypeError(f"a protobuf message is required, found {type(proto).__name__}")
        return files.encode(proto, self.supported_format)

    def deserialize_proto(self, serialized: bytes | str, proto: _Proto) -> _Proto:
        """``proto`` with what ``serialized`` says; raises FormatError for damage."""
        return self.read(serialized, proto, "<bytes>")

    def read(self, serialized: bytes | str, proto: _Proto, name: str) -> _Proto:
        """The same, with the name of the file for errors."""
        accepted = bytes if self.supported_format == files.PROTOBUF else (bytes, str)
        if not isinstance(serialized, accepted):
            wanted = "bytes" if accepted is bytes else "bytes or str"
            raise TypeError(f"{wanted} is required, found {type(serialized).__name__}")
        try:
            return files.decode(serialized, proto, self.supported_format, name)
        except FormatError as error:
            kind = _ERRORS.get(self.supported_format)
            if kind is None:
                raise
            raise kind(str(error)) from error


class _Registry:
    """The serializers by format and by extension."""

    def __init__(self) -> None:
        self._serializers: dict[str, ProtoSerializer] = {}
        self._extension_to_format: dict[str, str] = {}

    def register(self, serializer: ProtoSerializer) -> None:
        """Add a serializer; it takes over its format and extensions."""
        self._serializers[serializer.supported_format] = serializer
        for extension in serializer.file_extensions:
            self._extension_to_format[extension] = serializer.supported_format

    def get(self, fmt: str) -> ProtoSerializer:
        """The serializer of a format; raises FormatError if there is none."""
        if fmt not in self._serializers:
            known = ", ".join(self._serializers)
            raise FormatError(f"format {fmt!r}: one of {known} is required")
        return self._serializers[fmt]

    def get_format_from_file_extension(self, file_extension: str) -> str | None:
        """The format that an extension such as ".onnx" stands for."""
        return self._extension_to_format.get(file_extension)


registry = _Registry()
for _name in files.FORMATS:
    registry.register(BuiltIn(_name))
