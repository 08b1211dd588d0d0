"""Where tensors can be in a message, read off the descriptors: sparse, in subgraphs, in functions.

Decides which fields lead to a `TensorProto`; what is done with the tensors is left to the callers.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from fornix.format.messages import TensorProto

_TENSOR = "onnx.TensorProto"


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """The description of a message or of its class."""
    return cast("Descriptor", message.DESCRIPTOR)


class _Plan(list[tuple[str, bool, "_Plan"]]):
    """The fields of a message that lead to tensors: name, whether a list, and the plan inside."""


# The end of a plan: a tensor.
_FOUND = _Plan()


def tensors(message: Message) -> list[TensorProto]:
    """Every tensor within ``message``, ours or onnx's, at any depth."""
    found: list[Message] = []
    plan = _plan(descriptor_of(message))
    if plan is _FOUND:
        found.append(message)
    else:
        _collect(message, plan, found)
    return cast("list[TensorProto]", found)


def _collect(message: Message, plan: _Plan, found: list[Message]) -> None:
    """Add the tensors of ``message``; a plan, because a graph may have 100,000 attributes."""
    for name, many, inside in plan:
        if not many and not message.HasField(name):
            continue
        entries = getattr(message, name) if many else (getattr(message, name),)
        if inside is _FOUND:
            found.extend(entries)
        else:
            for entry in entries:
                _collect(entry, inside, found)


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    known: dict[str, _Plan] = {_TENSOR: _FOUND}

    def plan(kind: Descriptor) -> _Plan:
        if kind.full_name not in known:
            made = known[kind.full_name] = _Plan()
            for field in tensor_fields(kind):
                if field.message_type is not None:
                    made.append((field.name, is_repeated(field), plan(field.message_type)))
        return known[kind.full_name]

    return plan(descriptor)


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
