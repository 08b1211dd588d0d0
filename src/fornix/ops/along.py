"""Loop tensors reduced along axes: what lowerings of rows, statistics and norms are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from fornix.dtype import DType
from fornix.ir.dim import DimLike, maximum
from fornix.ir.loops import Scalar, Tensor, cast, compute, index, reduce

T = TypeVar("T")


def along(op: str, x: Tensor, axes: Collection[int]) -> Tensor:
    """``op`` of ``x`` over ``axes``, which go: x[*S] → [*S without axes]."""

    def at(*i: DimLike) -> Scalar:
        return reduce(op, box, lambda *k: x[merged(x.rank, axes, i, k)])

    box = tuple(extent for axis, extent in enumerate(x.shape) if axis in axes)
    return compute(outside(x.shape, axes), at)


def mapped(function: Callable[[Scalar], Scalar], x: Tensor) -> Tensor:
    """``function`` of every element of ``x``."""
    return compute(x.shape, lambda *i: function(x[i]))


def mean_along(x: Tensor, axes: Collection[int]) -> Tensor:
    """The arithmetic mean of the floats ``x`` over ``axes``, which go; 0 of nothing."""
    total, count = along("sum", x, axes), count_along(x.shape, axes, x.dtype)
    return compute(total.shape, lambda *i: total[i] / count)


def count_along(shape: Sequence[DimLike], axes: Collection[int], dtype: DType) -> Scalar:
    """Number of elements that a mean of ``shape`` over ``axes`` divides by, as ``dtype``."""
    return cast(index(maximum(math.prod(shape[axis] for axis in axes), 1)), dtype)


def outside(place: Sequence[DimLike], axes: Collection[int]) -> tuple[DimLike, ...]:
    """What ``place``, or a shape, says of the axes that are not among ``axes``."""
    return tuple(entry for axis, entry in enumerate(place) if axis not in axes)


def merged(
    rank: int, axes: Collection[int], others: Sequence[T], own: Sequence[T]
) -> tuple[T, ...]:
    """The place whose indices along ``axes`` are ``own`` and along the rest ``others``."""
    rest, along_axes = iter(others), iter(own)
    return tuple(next(along_axes if axis in axes else rest) for axis in range(rank))


def with_units(x: Tensor, axes: Collection[int]) -> Tensor:
    """``x`` with axes of extent 1 put in, so that they end up at ``axes``."""
    rank = x.rank + len(axes)
    shape = merged(rank, axes, x.shape, [1] * len(axes))
    return compute(shape, lambda *i: x[outside(i, axes)])
