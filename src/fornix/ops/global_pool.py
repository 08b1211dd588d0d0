"""Pools over whole channels: GlobalAveragePool, GlobalMaxPool, GlobalLpPool."""

from __future__ import annotations

import numpy as np

from fornix.errors import require
from fornix.ir.loops import Tensor, cast
from fornix.ops.along import along, mapped, mean_along, with_units
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.op import op
from fornix.ops.pool import lowest, powers, root
from fornix.ops.precision import cast_tensor, mean_over, wide_dtype, widened
from fornix.ops.types import BF16, FLOAT

GlobalAveragePool = (
    op("GlobalAveragePool (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip

GlobalMaxPool = (
    op("GlobalMaxPool (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip

GlobalLpPool = (
    op("GlobalLpPool <p: float = 2.0> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(2, "GlobalLpPool <p: int = 2> (X: T) => (Y: T)")
    .since(22, T=+BF16)
)


@GlobalAveragePool.infer
@GlobalMaxPool.infer
@GlobalLpPool.infer
def infer_global_pool(x: Fact, *, p: float = 2) -> Fact:
    _spatial_axes(x.rank)
    return tensor(x.dtype, (*x.shape[:2], *[1] * (x.rank - 2)))


def _spatial_axes(rank: int) -> tuple[int, ...]:
    require(rank >= 2, f"X must have rank 2 or more, got rank {rank}")
    return tuple(range(2, rank))


@GlobalAveragePool.kernel
def global_average_pool(x: Array) -> Array:
    """Mean of every channel: x[N, C, *S] → y[N, C, 1 …].

    Accumulates float16 and bfloat16 in float32. Source: ONNX GlobalAveragePool-22.
    """
    mean = mean_over(widened(x), _spatial_axes(x.ndim))
    return mean.astype(x.dtype, copy=False)


@GlobalAveragePool.lower
def lower_global_average_pool(x: Tensor) -> Tensor:
    axes = _spatial_axes(x.rank)
    mean = mean_along(cast_tensor(x, wide_dtype(x.dtype)), axes)
    return with_units(cast_tensor(mean, x.dtype), axes)


@GlobalMaxPool.kernel
def global_max_pool(x: Array) -> Array:
    """Maximum of every channel: x[N, C, *S] → y[N, C, 1 …]; NaN prevails.

    Source: ONNX GlobalMaxPool-22.
    """
    axes, least = _spatial_axes(x.ndim), lowest(x.dtype)
    return np.asarray(np.maximum.reduce(x, axis=axes, keepdims=True, initial=least[()]))


@GlobalMaxPool.lower
def lower_global_max_pool(x: Tensor) -> Tensor:
    axes = _spatial_axes(x.rank)
    top = along("max", cast_tensor(x, wide_dtype(x.dtype)), axes)
    return with_units(cast_tensor(top, x.dtype), axes)


@GlobalLpPool.kernel
def global_lp_pool(x: Array, *, p: float = 2) -> Array:
    """Lp norm of every channel, (Σ |x|ᵖ)^(1/p): x[N, C, *S] → y[N, C, 1 …].

    Accumulates float16 and bfloat16 in float32. Source: ONNX GlobalLpPool-22.
    """
    total = np.sum(powers(widened(x), p), axis=_spatial_axes(x.ndim), keepdims=True)
    norm: Array = root(np.asarray(total), p)
    return norm.astype(x.dtype, copy=False)


@GlobalLpPool.lower
def lower_global_lp_pool(x: Tensor, *, p: float = 2) -> Tensor:
    axes = _spatial_axes(x.rank)
    wide = cast_tensor(x, wide_dtype(x.dtype))
    total = along("sum", mapped(lambda v: powers(v, p), wide), axes)
    norm = mapped(lambda v: cast(root(v, p), x.dtype), total)
    return with_units(norm, axes)
