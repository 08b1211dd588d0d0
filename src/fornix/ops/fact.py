"""What inference knows about one value: its type, and its contents where they are known.

A `Fact` is what `infer` rules receive and return. Shapes hold `int` or `Dim`, never None: an
unknown extent is an unknown `Dim`, which says why it is unknown. Reading the shape of a fact
without rank raises `UnknownRank`; the caller of the rule then falls back to what the type variables
say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import DimLike, known, unknown
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type

if TYPE_CHECKING:
    from fornix.ir.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

KNOWN_ELEMENTS = 4096
"""Elements up to which contents are worth knowing: shapes, axes, sizes, small tables."""


MAX_RANK = 64
"""Axes that a tensor may have, as in NumPy."""


ADDRESSES = 2**47
"""Bytes that a process can address."""


MAX_EXTENT = 2**63 - 1
"""What an extent of a tensor can be at most, in messages and in memory."""


class UnknownRank(Exception):
    """A rule asked for the shape of a value whose rank is unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """Type and, where known, contents of one value."""

    type: Type | None = None
    known_value: Array | None = None
    """Contents as an object array of `int` or `Dim`, of the value's shape."""
    tensor: Tensor | None = field(default=None, repr=False)
    """Contents as stored data."""
    quotient: tuple[Array, int] | None = None
    """Contents that need not be integers: numbers of at least 0 as in `known_value`, and the
    positive integer that divides them all."""

    @property
    def dtype(self) -> DType | None:
        """Element type, or None where it is unknown or the value is no tensor."""
        return getattr(self.type, "dtype", None)

    @property
    def tells(self) -> bool:
        """Whether anything is known of the contents."""
        return any(x is not None for x in (self.tensor, self.known_value, self.quotient))

    @property
    def has_rank(self) -> bool:
        """Whether the number of axes is known."""
        return getattr(self.type, "shape", None) is not None

    @property
    def shape(self) -> tuple[DimLike, ...]:
        """Extents, one per axis; raises `UnknownRank` where their number is unknown."""
        shape = getattr(self.type, "shape", None)
        if shape is None:
            raise UnknownRank
        return tuple(shape)

    @property
    def rank(self) -> int:
        """Number of axes; raises `UnknownRank` where it is unknown."""
        return len(self.shape)

    @property
    def constant(self) -> Array | None:
        """Contents as an array if every element is known and there are few of them."""
        if self.tensor is not None:
            size = math.prod(self.tensor.shape)
            return self.tensor.numpy() if size <= KNOWN_ELEMENTS else None
        value, dtype = self.known_value, self.dtype
        if value is None or dtype is None or any(not isinstance(v, int) for v in value.flat):
            return None
        return value.astype(dtype.numpy)

    @property
    def value(self) -> Array | None:
        """Contents as an object array of `int` or `Dim`; of floats, where all are integers."""
        if self.known_value is not None:
            return self.known_value
        dtype = self.dtype
        if dtype is None or dtype.kind not in {"int", "uint", "bool", "float"}:
            return None
        constant = self.constant
        if constant is None or (dtype.is_float and not _holds_integers(constant)):
            return None
        as_int = constant.astype(np.int64 if dtype.kind != "uint" else np.uint64)
        return np.asarray(as_int.astype(object)).reshape(constant.shape)

    def __str__(self) -> str:
        return str(self.type) if self.type is not None else "a value of unknown type"


EXACT_FLOATS = 2**24
"""Integers below are exact in float32; larger floats are not read as integers."""


def _holds_integers(x: Array) -> bool:
    """Whether the floats ``x`` are integers of moderate size; −0 is none."""
    wide = x.astype(np.float64)
    is_integer = (np.abs(wide) < EXACT_FLOATS) & (wide == np.rint(wide))
    return bool(np.all(is_integer & ((wide != 0) | ~np.signbit(wide))))


def tensor(
    dtype: DType | None, shape: Iterable[DimLike | None], value: Array | None = None
) -> Fact:
    """The fact of a tensor; a None among the dims stands for an unknown extent.

    Raises ShapeError for an extent that no 64-bit integer holds.
    """
    dims = tuple(unknown("it is computed at run time") if dim is None else dim for dim in shape)
    for dim in dims:
        if type(dim) is int and dim > MAX_EXTENT:
            raise ShapeError(f"an extent of at most 2^63 - 1 is required, found the overflow {dim}")
    return Fact(TensorType(dtype, dims), value)


def unranked(dtype: DType | None) -> Fact:
    """The fact of a tensor whose number of axes is unknown."""
    return Fact(TensorType(dtype, None))


def dims_of(value: Array | None) -> list[DimLike] | None:
    """The elements of a one-dimensional known value, ready to become dims.

    Raises ShapeError for more axes; a scalar stands for a list of one.
    """
    if value is not None and value.ndim > 1:
        raise ShapeError(f"a list must have one axis, found shape {list(value.shape)}")
    return None if value is None else list(value.reshape(-1))


def axes_listed(fact: Fact) -> int | None:
    """The number of entries of a list with one for each axis, or None.

    More than `MAX_RANK` are no list of axes, whatever its type says: nothing that long is built.
    """
    count = known(fact.shape[0]) if fact.has_rank and fact.rank == 1 else None
    return None if count is None or count > MAX_RANK else count


def static(shape: Iterable[DimLike]) -> tuple[int, ...] | None:
    """The shape as plain integers, or None if an extent is symbolic."""
    dims = [known(dim) for dim in shape]
    return tuple(d for d in dims if d is not None) if None not in dims else None


def as_value(contents: object) -> Array:
    """``contents``, a dim or a sequence of dims, as the known value of a tensor."""
    value = np.empty(len(contents) if isinstance(contents, (list, tuple)) else (), object)
    value[...] = contents
    return value


def reshaped_value(value: Array | None, extents: Iterable[DimLike]) -> Array | None:
    """``value`` in the shape ``extents`` if both are known and fit."""
    fixed = static(extents)
    if value is None or fixed is None or math.prod(fixed) != value.size:
        return None
    return value.reshape(fixed)


def join(one: Fact, other: Fact, reason: str) -> Fact:
    """What holds for a value that is either ``one`` or ``other``; contents only where equal.

    Extents that differ become unknown for ``reason``. Raises DTypeError if kinds of types differ.
    """
    type_ = join_types(one.type, other.type, reason)
    if one.tensor is not None and one.tensor is other.tensor:
        return Fact(type_, None, one.tensor)
    a, b = one.value, other.value
    same = a is not None and b is not None and a.shape == b.shape and bool(np.all(a == b))
    return Fact(type_, a if same else None)


def join_types(one: Type | None, other: Type | None, reason: str) -> Type | None:
    """The type that both ``one`` and ``other`` have; see `join`."""
    if one is None or other is None or one == other:
        return one if one == other else None
    if isinstance(one, TensorType) and isinstance(other, TensorType):
        dtype = one.dtype if one.dtype is other.dtype or other.dtype is None else other.dtype
        if one.dtype is not None and dtype is not one.dtype:
            raise DTypeError(f"both must have one element type, found {one} and {other}")
        if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
            return TensorType(dtype)
        shape = tuple(
            a if a == b else unknown(reason) for a, b in zip(one.shape, other.shape, strict=True)
        )
        return TensorType(dtype, shape)
    for kind in (SequenceType, OptionalType):
        if isinstance(one, kind) and isinstance(other, kind):
            return kind(join_types(one.elem, other.elem, reason))
    if isinstance(one, OptionalType):
        return OptionalType(join_types(one.elem, other, reason))
    if isinstance(other, OptionalType):
        return OptionalType(join_types(one, other.elem, reason))
    raise DTypeError(f"both must have one type, found {one} and {other}")
