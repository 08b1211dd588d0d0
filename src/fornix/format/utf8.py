"""Whether every text field of a message is text.

ONNX is written in proto2, whose parsers take any bytes for a string and hand out `bytes` instead
of `str` for what is not UTF-8. Here the same fields are declared in proto3, whose parsers look:
asking costs one more parse, not a walk in Python. Who must ask is decided by the callers.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from fornix.errors import FormatError
from fornix.format import damage, messages
from fornix.format.mapped import Memory

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor


def require(data: bytes, descriptor: Descriptor, name: str) -> None:
    """Raise FormatError if a string in the message ``data`` is not UTF-8; ``name`` is the file."""
    try:
        _strict(descriptor.full_name).FromString(data)
    except DecodeError as error:
        found = damage.find(Memory(data), descriptor, utf8=True)
        where = found.relative() if found else "every string must be UTF-8"
        raise FormatError(f"{name}: {where}") from error


@cache
def _strict(full_name: str) -> type[Message]:
    """The message of that name, declared in proto3."""
    pool = _pool()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto()
    messages.DESCRIPTOR.CopyToProto(file)
    file.syntax = "proto3"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool
