"""Inputs by chance, for trying a model out: seeded, of the declared types and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.cli.dims import Dims
from fornix.dtype import DType
from fornix.errors import InvalidArgument
from fornix.ir.graph import Value
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type, type_text

WORDS = np.array(["ash", "beech", "birch", "elm", "fir", "lime", "oak", "pine"], dtype=object)

SEQUENCE_LENGTH = 2
"""Elements of a sequence."""

NARROW_BITS = 16
"""Integers up to this width are data; wider ones are mostly indices, sizes or masks."""


def random_feed(value: Value, dims: Dims, random: np.random.Generator) -> Any:
    """Something that fits ``value``; raises InvalidArgument for types that have no chance."""
    return of_type(value.type, value, dims, random)


def of_type(type_: Type | None, value: Value, dims: Dims, random: np.random.Generator) -> Any:
    """Something of ``type_``."""
    if isinstance(type_, SequenceType):
        return [of_type(type_.elem, value, dims, random) for _ in range(SEQUENCE_LENGTH)]
    if isinstance(type_, OptionalType):
        return of_type(type_.elem, value, dims, random)
    if not isinstance(type_, TensorType) or type_.dtype is None:
        raise InvalidArgument(
            f"input '{value.name}' is {type_text(type_)}: --random makes tensors only; feed it "
            "with --input"
        )
    shape = dims.shape(value, type_)
    try:
        return elements(type_.dtype, shape, random)
    except (MemoryError, ValueError) as error:  # more bytes than there are, or than can be counted
        raise InvalidArgument(
            f"input '{value.name}' of shape {list(shape)} does not fit into memory; "
            "feed it with --input"
        ) from error


def elements(dtype: DType, shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """A tensor by chance.

    Floats are normal with mean 0 and deviation 1; integers of 32 and 64 bits are 0 or 1, so that
    they can be indices and masks, narrower ones anything; strings are words.
    """
    if dtype.kind == "string":
        return random.choice(WORDS, shape)
    if dtype.kind == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind == "complex":
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype.numpy)
    if dtype.is_integer and dtype.bits > NARROW_BITS:
        return random.integers(0, 2, shape).astype(dtype.numpy)
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype.is_signed else 0
        return random.integers(low, low + (1 << dtype.bits), shape).astype(dtype.numpy)
    return convert(np.asarray(random.normal(size=shape), np.float32), dtype)
