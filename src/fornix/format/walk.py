"""Where tensors can be in a message, read off the descriptors: sparse, in subgraphs, in functions.

Decides which fields lead to a `TensorProto`; what is done with the tensors is left to the callers.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from fornix.format.messages import TensorProto

_TENSOR = "onnx.TensorProto"


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """The description of a message or of its class."""
    return cast("Descriptor", message.DESCRIPTOR)


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor within ``message``, ours or onnx's, at any depth."""
    descriptor = descriptor_of(message)
    if descriptor.full_name == _TENSOR:
        yield cast("TensorProto", message)
        return
    for field in tensor_fields(descriptor):
        if is_repeated(field):
            for inner in getattr(message, field.name):
                yield from tensors(inner)
        elif message.HasField(field.name):
            yield from tensors(getattr(message, field.name))


@cache
def tensor_fields(descriptor: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields of a message that are tensors or hold messages with tensors."""
    return tuple(
        field
        for field in descriptor.fields
        if field.message_type is not None and _TENSOR in _reachable(field.message_type)
    )


@cache
def _reachable(descriptor: Descriptor) -> frozenset[str]:
    """The names of the messages that one of this kind can hold, its own included."""
    found: set[str] = set()
    waiting = [descriptor]
    while waiting:
        kind = waiting.pop()
        if kind.full_name not in found:
            found.add(kind.full_name)
            waiting += [x.message_type for x in kind.fields if x.message_type is not None]
    return frozenset(found)


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field holds a list; protobuf 5 and 7 spell the question differently."""
    answer = getattr(field, "is_repeated", None)
    if answer is None:
        answer = getattr(field, "label", None) == FieldDescriptor.LABEL_REPEATED
    return bool(answer)
