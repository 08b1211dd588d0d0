"""Precision of kernels and lowerings: narrow floats are widened, and the result rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.ir.dim import DimLike, less
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops.fact import Array


def wide_dtype(dtype: DType) -> DType:
    """The type in which elements of ``dtype`` are added and multiplied: float32 at least."""
    return FLOAT32 if dtype.is_float and dtype.bits < FLOAT32.bits else dtype


def widened(x: Array) -> Array:
    """``x``, in float32 if its elements are narrower floats."""
    dtype = DType.of(x.dtype)
    wide = wide_dtype(dtype)
    return x if wide is dtype else x.astype(np.float32)


def mean_over(x: Array, axes: Sequence[int]) -> Array:
    """Means of floats along ``axes``, which keep the extent 1; 0 of nothing, see ReduceMean."""
    count = max(1, math.prod(x.shape[axis] for axis in axes))
    return np.asarray(np.add.reduce(x, axis=tuple(axes), keepdims=True) / x.dtype.type(count))


def wide_element(x: Tensor, place: tuple[DimLike, ...], dtype: DType | None = None) -> Scalar:
    """The element of ``x`` that meets ``place`` when x broadcasts, in ``dtype`` or its wide one."""
    own = place[len(place) - x.rank :]
    at = tuple(0 if _is_one(extent) else i for i, extent in zip(own, x.shape, strict=True))
    return cast(x[at], dtype or wide_dtype(x.dtype))


def _is_one(extent: DimLike) -> bool:
    """Whether ``extent`` is 1 wherever there are elements; one of 0 has no element 0 to read."""
    return extent != 0 and less(1, extent) is False


def cast_tensor(x: Tensor, dtype: DType) -> Tensor:
    """``x`` converted to ``dtype``; itself if it has it."""
    return x if x.dtype is dtype else compute(x.shape, lambda *i: cast(x[i], dtype))


__all__ = ["cast_tensor", "mean_over", "wide_dtype", "wide_element", "widened"]
