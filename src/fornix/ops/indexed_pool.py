"""Pools whose places are data: MaxUnpool writes where indices say, MaxRoiPool reads regions."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    scatter,
    select,
    stored,
)
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.region_loops import maxima_of_cells
from fornix.ops.types import BF16, FLOAT, I64
from fornix.ops.window import explicit_padding, per_axis, plain

Shape = Sequence[DimLike]

MaxUnpool = (
    op("""MaxUnpool <kernel_shape: ints, pads: ints?, strides: ints?>
                    (X: T1, I: T2, output_shape: T2?) => (output: T1)""",
       since=9, T1=FLOAT, T2=I64)
    .since(11)
    .since(22, T1=+BF16)
)  # fmt: skip


@MaxUnpool.infer
def infer_max_unpool(
    x: Fact,
    i: Fact,
    output_shape: Fact | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
    node: InferNode,
) -> Fact:
    _unpooled_shape(x.shape, i.shape, kernel_shape, pads, strides)
    if output_shape is None:
        shape = agreed_shape(x, i)
        return tensor(x.dtype, _unpooled_shape(shape, shape, kernel_shape, pads, strides))
    if output_shape.has_rank:
        _check_unpooled(output_shape.shape, x.rank)
    if output_shape.value is not None:
        return tensor(x.dtype, list(output_shape.value))
    return tensor(x.dtype, [node.unknown(f"output_shape[{axis}]") for axis in range(x.rank)])


@MaxUnpool.kernel
def max_unpool(
    x: Array,
    i: Array,
    output_shape: Array | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    """Zeros, and every element of ``X`` where ``I`` says it came from; the last of equals wins.

    x[N, C, *S] → y[N, C, *O], O = (S − 1) · stride + taps − pads. ``I`` counts in a tensor of that
    shape; the result is then cut or filled with zeros to ``output_shape``.
    Raises Fail if an index lies outside. Source: ONNX MaxUnpool-22 and its test cases.
    """
    shape = [plain(d) for d in _unpooled_shape(x.shape, i.shape, kernel_shape, pads, strides)]
    size = math.prod(shape)
    outside = i[(i < 0) | (i >= size)]
    require(not outside.size, f"I must lie in [0, {size}), found {outside[:1]}", Fail)
    flat = np.zeros(size, x.dtype)
    flat[i.reshape(-1)] = x.reshape(-1)
    y = flat.reshape(shape)
    if output_shape is None:
        return y
    _check_unpooled(output_shape.shape, x.ndim)
    wanted = np.zeros([int(n) for n in output_shape], x.dtype)
    common = tuple(slice(0, min(a, b)) for a, b in zip(shape, wanted.shape, strict=True))
    wanted[common] = y[common]
    return wanted


@MaxUnpool.lower
def lower_max_unpool(
    x: Tensor,
    i: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
    node: LowerNode,
) -> Tensor:
    shape = _unpooled_shape(x.shape, i.shape, kernel_shape, pads, strides)
    size = math.prod(shape)
    # Places count in all of the result: along its last axis, where neighbours lie side by side.
    lead = (0,) * (len(shape) - 1)
    y = scatter(
        compute(shape, lambda *_: 0, x.dtype),
        x.shape,
        lambda *u: (*lead, gathered(i[u], size)),
        lambda *u: x[u],
    )
    if output_shape is None:
        return y
    _check_unpooled(output_shape.shape, x.rank)
    return compute(node.required(2), lambda *o: y.get(o, 0))


def _check_unpooled(shape: Shape, rank: int) -> None:
    fits = len(shape) == 1 and equal(shape[0], rank) is not False
    require(
        fits,
        f"output_shape must have one entry per axis of X ({rank}), got shape {shape_text(shape)}",
    )


def _unpooled_shape(
    x: Shape,
    i: Shape,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> list[DimLike]:
    """The shape of the data whose pool has the shape ``x``."""
    require(len(x) >= 3, f"X must have rank 3 or more, got X{shape_text(x)}")
    agrees = len(i) == len(x) and all(equal(a, b) is not False for a, b in zip(i, x, strict=True))
    require(agrees, f"I must have the shape of X{shape_text(x)}, got I{shape_text(i)}")
    rank = len(x) - 2
    taps, stride = per_axis(kernel_shape, rank, "kernel_shape"), per_axis(strides, rank, "strides")
    before, after = explicit_padding(pads, rank)
    spatial = zip(x[2:], taps, stride, before, after, strict=True)
    return [*x[:2], *((n - 1) * s + k - b - a for n, k, s, b, a in spatial)]


MaxRoiPool = (
    op("""MaxRoiPool <pooled_shape: ints, spatial_scale: float = 1.0>
                     (X: T, rois: T) => (Y: T)""", since=1, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip

FARTHEST = 2.0**31
"""Corners of regions beyond which their extent is no number of elements."""


@MaxRoiPool.infer
def infer_max_roi_pool(
    x: Fact, rois: Fact, *, pooled_shape: list[int], spatial_scale: float = 1.0
) -> Fact:
    _check_regions(x.shape, rois.shape, pooled_shape)
    return tensor(x.dtype, (rois.shape[0], x.shape[1], *pooled_shape))


@MaxRoiPool.kernel
def max_roi_pool(
    x: Array, rois: Array, *, pooled_shape: list[int], spatial_scale: float = 1.0
) -> Array:
    """Maximum over the cells of a grid laid on each region of an image; an empty cell gives 0.

    x[N, C, H, W] · rois[R, 5] → y[R, C, *pooled_shape]; a region is (image, x₁, y₁, x₂, y₂), its
    corners scaled by spatial_scale, rounded, and both inside. Cells overlap by their rounding.
    Raises Fail if a region names no image. Source: ONNX MaxRoiPool-22, cells as in Fast R-CNN §2.1.
    """
    _check_regions(x.shape, rois.shape, pooled_shape)
    y = np.zeros((rois.shape[0], x.shape[1], *pooled_shape), x.dtype)
    for region, (image, x1, y1, x2, y2) in enumerate(rois.astype(np.float64)):
        require(0 <= image < x.shape[0], f"no image {image:g} among {x.shape[0]}", Fail)
        corners = [float(v) * spatial_scale for v in (y1, y2, x1, x2)]
        is_near = all(abs(v) < FARTHEST for v in corners)
        require(is_near, f"regions must have finite corners within ±2^31, got {corners}", Fail)
        top, bottom, left, right = map(_round_half_away, corners)
        rows = enumerate(_cells(top, bottom, pooled_shape[0], x.shape[2]))
        columns = list(enumerate(_cells(left, right, pooled_shape[1], x.shape[3])))
        for (i, row), (j, column) in itertools.product(rows, columns):
            cell = x[int(image), :, row, column]
            if cell.size:
                y[region, :, i, j] = cell.max(axis=(1, 2))
    return y


@MaxRoiPool.lower
def lower_max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: list[int], spatial_scale: float = 1.0
) -> Tensor:
    _check_regions(x.shape, rois.shape, pooled_shape)
    dtype = wide_dtype(x.dtype)
    regions, (height, width), (tall, wide) = rois.shape[0], x.shape[2:], pooled_shape

    def corner(r: DimLike, place: int) -> Scalar:
        return cast(rois[r, place], FLOAT64) * spatial_scale

    def image(r: DimLike) -> Scalar:
        near = [abs(corner(r, place)) < FARTHEST for place in range(1, 5)]
        number = cast(apply("floor", cast(rois[r, 0], FLOAT64)), INT64)
        number = select(
            functools.reduce(operator.and_, near), number, -1
        )  # kernels say what is wrong
        return index(gathered(number, x.shape[0]))

    def bounds(count: int, first: int, size: DimLike) -> tuple[Tensor, Tensor]:
        pair = [_lower_bound(corner, count, first, size, is_end=end) for end in (False, True)]
        low, high = (stored(compute((regions, count), at), "bound") for at in pair)
        return low, high

    images = stored(compute((regions,), image), "image")
    above_below, before_behind = bounds(tall, 2, height), bounds(wide, 1, width)
    plain = stored(cast_tensor(x, dtype))
    return cast_tensor(maxima_of_cells(plain, images, above_below, before_behind), x.dtype)


def _lower_bound(
    corner: Callable[[DimLike, int], Scalar], count: int, first: int, size: DimLike, *, is_end: bool
) -> Callable[[DimLike, DimLike], Scalar]:
    """`_cells` for lowerings: where cell k of region r begins or ends along an axis of ``size``."""

    def at(r: DimLike, k: DimLike) -> Scalar:
        begin, end = (_lower_rounded(corner(r, place)) for place in (first, first + 2))
        cell = cast(apply("max", end - begin + 1, 1), FLOAT32) / count
        way = cast(index(k + 1 if is_end else k), FLOAT32) * cell
        steps = cast(apply("ceil" if is_end else "floor", way), INT64)
        return apply("min", apply("max", begin + steps, 0), index(size))

    return at


def _lower_rounded(x: Scalar) -> Scalar:
    """`_round_half_away` for lowerings."""
    whole = cast(apply("floor", abs(x) + 0.5), INT64)
    return select(x < 0, -whole, whole)


def _check_regions(x: Shape, rois: Shape, pooled_shape: Sequence[int]) -> None:
    require(len(x) == 4, f"X must be [N, C, H, W], got X{shape_text(x)}")
    regions = len(rois) == 2 and equal(rois[1], 5) is not False
    require(regions, f"rois must be [R, 5], got rois{shape_text(rois)}")
    positive = len(pooled_shape) == 2 and min(pooled_shape) > 0
    require(positive, f"pooled_shape must be two positive extents, got {list(pooled_shape)}")


def _round_half_away(x: float) -> int:
    return math.floor(abs(x) + 0.5) * (-1 if x < 0 else 1)


def _cells(first: int, last: int, count: int, size: int) -> list[slice]:
    """The interval from ``first`` to ``last``, both inside, as ``count`` cells cut to the data."""
    extent = np.float32(max(last - first + 1, 1))
    clip = functools.partial(np.clip, a_min=0, a_max=size)
    cell = extent / np.float32(count)
    return [
        slice(int(clip(first + math.floor(k * cell))), int(clip(first + math.ceil((k + 1) * cell))))
        for k in range(count)
    ]
