"""Images: CropAndResize, and GroupNorm as diffusion models have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, gathered, index, select, stored
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, dims_of, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.group_norm import group_normalization, lower_group_normalization
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_shape
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.sampling_loops import extent_as
from fornix.ops.types import F16, F32, FLOAT, I32

Size = TypeVar("Size", int, DimLike)

CropAndResize = op(
    """CropAndResize <extrapolation_value: float = 0.0, mode: string = "bilinear">
                     (X: T1, rois: T1, batch_indices: T2, crop_size: T2) => (Y: T1)""",
    since=1, domain=DOMAIN, T1=FLOAT, T2=I32,
)  # fmt: skip


@CropAndResize.infer
def infer_crop_and_resize(
    x: Fact,
    rois: Fact,
    batch_indices: Fact,
    crop_size: Fact,
    *,
    extrapolation_value: float,
    mode: str,
    node: InferNode,
) -> Fact:
    if x.has_rank and rois.has_rank:
        _check_regions(x.shape, rois.shape, mode)
    check_shape("batch_indices", batch_indices, rois.shape[:1])
    check_shape("crop_size", crop_size, (2,))
    size = dims_of(crop_size.value)
    height, width = (
        [node.unknown("crop_size is computed at run time") for _ in range(2)]
        if size is None
        else _crop_size(size)
    )
    return tensor(x.dtype, (rois.shape[0], x.shape[1], height, width))


@CropAndResize.kernel
def crop_and_resize(
    x: Array,
    rois: Array,
    batch_indices: Array,
    crop_size: Array,
    *,
    extrapolation_value: float,
    mode: str,
) -> Array:
    """Regions of images, each sampled at crop_size points per axis.

    X[N, C, H, W], rois[R, 4] of y₁, x₁, y₂, x₂ in units of H − 1 and W − 1, batch_indices[R] →
    Y[R, C, *crop_size]. Points go evenly from one end to the other, a single one is the middle;
    the sample is bilinear, or with mode nearest that of the nearest pixel, halves rounding up, and
    extrapolation_value outside. Source: onnxruntime's contributed operators, CropAndResize-1.
    """
    _check_regions(x.shape, rois.shape, mode)
    inside = (batch_indices >= 0) & (batch_indices < len(x))
    require(bool(inside.all()), f"batch_indices must be in [0, {len(x) - 1}]", Fail)
    height, width = _crop_size(crop_size.tolist())
    y = np.full((len(rois), x.shape[1], height, width), extrapolation_value, x.dtype)
    for place, (box, image) in enumerate(zip(widened(rois), batch_indices, strict=True)):
        rows, columns = _points(box[::2], x.shape[2], height), _points(box[1::2], x.shape[3], width)
        kept = np.ix_(np.arange(x.shape[1]), *(np.flatnonzero(seen) for _, seen in (rows, columns)))
        at = [points[seen] for points, seen in (rows, columns)]
        y[place][kept] = _sampled(widened(x[image]), at[0], at[1], mode).astype(x.dtype)
    return y


@CropAndResize.lower
def lower_crop_and_resize(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    crop_size: Tensor,
    *,
    extrapolation_value: float,
    mode: str,
    node: LowerNode,
) -> Tensor:
    _check_regions(x.shape, rois.shape, mode)
    size, wide = _crop_size(node.required(3)), wide_dtype(x.dtype)

    def point(r: DimLike, axis: int, place: DimLike) -> Scalar:
        last = extent_as(x.shape[2 + axis], wide) - 1
        first, end = (cast(rois[r, side], wide) * last for side in (axis, axis + 2))
        steps = cast(index(size[axis] - 1), wide)
        is_several = steps > 0
        between = cast(index(place), wide) * ((end - first) / select(is_several, steps, 1))
        return select(is_several, first + between, (first + end) / 2)

    def at(r: DimLike, c: DimLike, i: DimLike, j: DimLike) -> Scalar:
        image = gathered(batch_indices[r], x.shape[0])
        points, extents = (point(r, 0, i), point(r, 1, j)), x.shape[2:]
        row, column = (_is_inside(at, extent) for at, extent in zip(points, extents, strict=True))
        is_seen = row & column

        def pixel(*places: Scalar) -> Scalar:
            whole = zip(places, extents, strict=True)
            at = (gathered(cast(place, INT64), extent) for place, extent in whole)
            return cast(x[(image, c, *at)], wide)

        inner = [select(is_seen, at, 0) for at in points]
        sample = (
            _lower_nearest(pixel, *inner) if mode == "nearest" else _lower_linear(pixel, *inner)
        )
        return cast(select(is_seen, sample, extrapolation_value), x.dtype)

    return compute((rois.shape[0], x.shape[1], *size), at)


def _is_inside(at: Scalar, extent: DimLike) -> Scalar:
    return (at >= 0) & (at <= extent_as(extent, at.dtype) - 1)


def _lower_nearest(pixel: Callable[..., Scalar], row: Scalar, column: Scalar) -> Scalar:
    return pixel(apply("floor", row + 0.5), apply("floor", column + 0.5))


def _lower_linear(pixel: Callable[..., Scalar], row: Scalar, column: Scalar) -> Scalar:
    (top, left), (bottom, end) = (
        (apply(rounded, row), apply(rounded, column)) for rounded in ("floor", "ceil")
    )
    down, right = row - top, column - left
    above, below = (pixel(at, left) * (1 - right) + pixel(at, end) * right for at in (top, bottom))
    return above * (1 - down) + below * down


def _check_regions(x: Sequence[DimLike], rois: Sequence[DimLike], mode: str) -> None:
    require(
        len(x) == 4 and len(rois) == 2 and equal(rois[1], 4) is not False,
        f"X must be [N, C, H, W] and rois [R, 4], got {shape_text(x)} and {shape_text(rois)}",
    )
    require(mode in {"bilinear", "nearest"}, f"mode must be bilinear or nearest, got {mode}")


def _crop_size(numbers: Sequence[Size]) -> tuple[Size, Size]:
    require(
        len(numbers) == 2 and all((known(number) or 0) >= 0 for number in numbers),
        f"crop_size must be a height and a width, got {shape_text(numbers)}",
    )
    return numbers[0], numbers[1]


def _points(ends: Array, extent: int, count: int) -> tuple[Array, Array]:
    """Where along an axis of ``extent`` pixels the samples lie, and which of them inside."""
    first, last = ends * (extent - 1)
    if count == 1:
        points = np.array([(first + last) / 2], ends.dtype)
    else:
        points = first + np.arange(count, dtype=ends.dtype) * ((last - first) / (count - 1))
    return points, (points >= 0) & (points <= extent - 1)


def _sampled(image: Array, rows: Array, columns: Array, mode: str) -> Array:
    """``image`` [C, H, W] at rows × columns."""
    if mode == "nearest":
        nearest = [np.floor(points + 0.5).astype(np.int64) for points in (rows, columns)]
        return np.asarray(image[:, nearest[0][:, None], nearest[1]])
    low = [np.floor(points).astype(np.int64) for points in (rows, columns)]
    high = [np.ceil(points).astype(np.int64) for points in (rows, columns)]
    down, right = (rows - low[0])[:, None], columns - low[1]
    above, below = (
        image[:, r[:, None], low[1]] * (1 - right) + image[:, r[:, None], high[1]] * right
        for r in (low[0], high[0])
    )
    return np.asarray(above * (1 - down) + below * down)


GroupNorm = op(
    """GroupNorm <activation: int, channels_last: int = 1, epsilon: float = 1e-05, groups: int>
                 (X: T, gamma: M, beta: M) => (Y: T)""",
    since=1, domain=DOMAIN, T=F16 | F32, M=F16 | F32,
)  # fmt: skip


@GroupNorm.infer
def infer_group_norm(
    x: Fact,
    gamma: Fact,
    beta: Fact,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> Fact:
    channels = x.shape[-1 if channels_last else 1]
    check_shape("gamma", gamma, (channels,))
    check_shape("beta", beta, (channels,))
    require(
        groups > 0 and not (isinstance(channels, int) and channels % groups),
        f"{channels} channels must fall into groups alike, got groups={groups}",
    )
    return tensor(x.dtype, x.shape)


@GroupNorm.kernel
def group_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> Array:
    """GroupNormalization of images, y · Sigmoid(y) of it if activation is 1.

    X[N, H, W, C] · gamma[C] · beta[C] → Y[N, H, W, C], or with channels_last 0 X[N, C, H, W] → Y
    like it. Computes in float32. Source: onnxruntime's contributed operators, GroupNorm-1.
    """
    _check_activation(activation)
    wide = np.ascontiguousarray(np.moveaxis(widened(x), -1, 1)) if channels_last else widened(x)
    factors, shifts = widened(gamma), widened(beta)
    y = group_normalization(wide, factors, shifts, num_groups=groups, epsilon=epsilon)
    y = y / (1 + np.exp(-y)) if activation else y
    y = np.moveaxis(y, 1, -1) if channels_last else y
    return np.ascontiguousarray(y.astype(x.dtype, copy=False))


@GroupNorm.lower
def lower_group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> Tensor:
    _check_activation(activation)
    rows: Tensor = x
    if channels_last:
        batch, *places, channels = x.shape
        rows = stored(compute((batch, channels, *places), lambda n, c, *i: x[(n, *i, c)]), "rows")
    wide = cast_tensor(rows, FLOAT32)
    factors, shifts = cast_tensor(gamma, FLOAT32), cast_tensor(beta, FLOAT32)
    y = lower_group_normalization(wide, factors, shifts, num_groups=groups, epsilon=epsilon)

    def at(*i: DimLike) -> Scalar:
        value = y[(i[0], i[-1], *i[1:-1]) if channels_last else i]
        if activation:
            value = value / (1.0 + apply("exp", -value))
        return cast(value, x.dtype)

    return compute(x.shape, at)


def _check_activation(activation: int) -> None:
    require(activation in {0, 1}, f"activation must be 0 or 1, got {activation}")
