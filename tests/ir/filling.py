"""Messages with any fields set, by reflection over their descriptors."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from fornix.format.messages import ModelProto

TEXTS = ["", "a", "b", "x", "y", "é", "ai.onnx", "N", "N + 1"]
BYTES = [b"", b"a", b"\xff\xfe"]
FLOATS = [0.0, 1.5, -0.0, float("nan"), float("inf")]
INTEGERS = [0, 1, 2, 7, -1]
# Fields 2047 and 2046, which the standard does not have: a number and bytes.
UNKNOWN = b"\xf8\x7f\x2a\xf2\x7f\x03abc"
# A string of NodeProto.input, ValueInfoProto.name, … that is not UTF-8.
NOT_UTF8 = b"\x0a\x01\xff"


def fill(message: Any, draw: random.Random, depth: int, share: float) -> None:
    """Set each field with probability ``share``, messages in it up to ``depth``."""
    for field in message.DESCRIPTOR.fields:
        if draw.random() > share:
            continue
        for _ in range(draw.choice([1, 2, 3]) if field.is_repeated else 1):
            if field.message_type is None:
                set_scalar(message, field, draw)
            elif depth > 0:
                held = getattr(message, field.name)
                inner = held.add() if field.is_repeated else held
                inner.SetInParent()
                fill(inner, draw, depth - 1, share)
    if draw.random() < 0.2:
        message.MergeFromString(UNKNOWN)
    first = message.DESCRIPTOR.fields_by_number.get(1)
    if draw.random() < 0.1 and first is not None and first.type == FieldDescriptor.TYPE_STRING:
        message.MergeFromString(NOT_UTF8)


def set_scalar(message: Any, field: FieldDescriptor, draw: random.Random) -> None:
    value = scalar(field, draw)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def scalar(field: FieldDescriptor, draw: random.Random) -> object:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        return draw.choice(TEXTS)
    if kind == FieldDescriptor.TYPE_BYTES:
        return draw.choice(BYTES)
    if kind in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
        return draw.choice(FLOATS)
    if kind == FieldDescriptor.TYPE_ENUM:
        numbers = [] if field.enum_type is None else [x.number for x in field.enum_type.values]
        return draw.choice(numbers)
    if kind == FieldDescriptor.TYPE_UINT64:
        return draw.choice([0, 1, 2**64 - 1])
    return draw.choice(INTEGERS)


def filled(seed: int) -> ModelProto:
    """A model whose fields, at any depth, are set at random."""
    draw = random.Random(seed)
    message = ModelProto()
    fill(message, draw, draw.choice([3, 4, 5, 6]), draw.choice([0.2, 0.4, 0.6]))
    return message


def full(depth: int) -> ModelProto:
    """A model in which every field is set, messages up to ``depth``."""
    message = ModelProto()
    fill(message, random.Random(0), depth, 1.0)
    return message
