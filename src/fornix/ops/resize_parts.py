"""Parts of Resize by scales: how long axes become, and a Resize that is told.

What a scale that is no simple fraction makes of an extent, one rounded float32 product, is no
formula of it, and of scales that a run computes nothing is known before. Sessions therefore take
Resize apart into operators of this file (`passes.split_resized`); models have none of them.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, select
from fornix.ops import PART_DOMAIN
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.op import op
from fornix.ops.resize import ReadingAttributes, axes_of, lower_resized, resize, sampling_of
from fornix.ops.resize_axes import EXACT_EXTENT, check_enlarging, scaled, scaled_in_run
from fornix.ops.types import BF16, BOOL, FLOAT, NUMERIC

NOT_SCALED = -1
"""The extent that scales give that are not positive numbers."""

ScaledExtents = op(
    """ScaledExtents <axes: ints?, least: float = 0.0>
                     (X: T, scales: tensor(float)) => (sizes: tensor(int64))""",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | BOOL,
)  # fmt: skip


@ScaledExtents.infer
def infer_scaled_extents(
    X: Fact, scales: Fact, *, axes: list[int] | None = None, least: float = 0.0
) -> Fact:
    numbers = axes_of(X.rank, axes)
    sizes = np.full(len(numbers), None, object)
    if scales.constant is not None:
        factors = scales.constant.reshape(-1).tolist()
        sizes[:] = [scaled(X.shape[n], f) for n, f in zip(numbers, factors, strict=True)]
    return Fact(tensor(INT64, (len(numbers),)).type, sizes)


@ScaledExtents.kernel
def scaled_extents(
    X: Array, scales: Array, *, axes: list[int] | None = None, least: float = 0.0
) -> Array:
    """How long Resize makes ``axes`` of ``X`` by ``scales``; −1 where these are none."""
    pairs = zip(axes_of(X.ndim, axes), scales.reshape(-1).tolist(), strict=True)
    sizes = [scaled(X.shape[number], scale) if scale >= least else None for number, scale in pairs]
    return np.array([NOT_SCALED if size is None else size for size in sizes], np.int64)


@ScaledExtents.lower
def lower_scaled_extents(
    X: Tensor, scales: Tensor, *, axes: list[int] | None = None, least: float = 0.0
) -> Tensor:
    numbers = axes_of(X.rank, axes)

    def size(place: DimLike) -> Scalar:
        length = index(X.shape[numbers[0]])
        for number, axis in enumerate(numbers[1:], 1):
            is_own = apply("eq", index(place), number)
            length = select(is_own, index(X.shape[axis]), length)
        scale = scales[place]
        is_scale = (scale > 0) & (scale >= least) & (scale < float("inf"))
        product = cast(cast(length, FLOAT32) * scale, FLOAT64)
        wide = cast(length, FLOAT64) * cast(scale, FLOAT64)
        found = apply("floor", select(length >= EXACT_EXTENT, wide, product))
        return cast(select(is_scale, found, NOT_SCALED), INT64)

    return compute((len(numbers),), size)


Resized = op(
    """Resized <antialias: int = 0, axes: ints?,
                coordinate_transformation_mode: string = "half_pixel",
                cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
                extrapolation_value: float = 0.0, least: float = 0.0, mode: string = "nearest",
                nearest_mode: string = "round_prefer_floor">
               (X: T, roi: T2?, scales: tensor(float), sizes: tensor(int64)) => (Y: T)""",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | BOOL, T2=FLOAT,
)  # fmt: skip


@Resized.infer
def infer_resized(
    X: Fact,
    roi: Fact | None,
    scales: Fact,
    sizes: Fact,
    *,
    axes: list[int] | None = None,
    node: InferNode,
    **_: object,
) -> Fact:
    shape = list(X.shape)
    numbers = axes_of(X.rank, axes)
    told = [None] * len(numbers) if sizes.value is None else sizes.value.tolist()
    for number, size in zip(numbers, told, strict=True):
        shape[number] = node.unknown("its extent is computed") if size is None else size
    return tensor(X.dtype, shape)


@Resized.kernel
def resized(
    X: Array,
    roi: Array | None,
    scales: Array,
    sizes: Array,
    *,
    axes: list[int] | None = None,
    least: float = 0.0,
    **reading: Unpack[ReadingAttributes],
) -> Array:
    """Resize of ``X`` by ``scales``, to ``sizes``."""
    if least > 0:
        check_enlarging(scales)
    return resize(X, roi, scales, axes=axes, **reading)


@Resized.lower
def lower_told(
    X: Tensor,
    roi: Tensor | None,
    scales: Tensor,
    sizes: Tensor,
    *,
    axes: list[int] | None = None,
    least: float = 0.0,
    node: LowerNode,
    **reading: Unpack[ReadingAttributes],
) -> Tensor:
    fact, extents = node.facts[2], node.shape()
    stored = None if fact is None else fact.constant
    mapped = scaled_in_run(X, axes_of(X.rank, axes), scales if stored is None else stored, extents)
    return lower_resized(X, roi, mapped, sampling_of(**reading), node)
