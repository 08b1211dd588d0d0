"""Pools: a maximum, mean or norm over sliding windows, over whole channels, or over regions.

Windows are reduced one axis after the other (`window.slide`), which takes taps₁ + taps₂ passes
instead of taps₁ · taps₂.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from fornix.dtype import INT64, DType
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal
from fornix.ops.call import InferNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.types import BF16, FLOAT, I8, I64, U8
from fornix.ops.window import (
    Window,
    WindowAttributes,
    explicit_padding,
    per_axis,
    plain,
    slide,
)


def pool_window(
    x: Sequence[DimLike], kernel_shape: list[int] | None, **window: Unpack[WindowAttributes]
) -> Window:
    """The window of a pool over data of shape ``x``."""
    require(len(x) >= 3, f"X must have rank 3 or more, got X{shape_text(x)}")
    require(kernel_shape, "kernel_shape is required, found none")
    taps = per_axis(kernel_shape, len(x) - 2, "kernel_shape")
    return Window.of(x[2:], taps, **window)


MaxPool = (
    op("""MaxPool <auto_pad: string = "NOTSET", kernel_shape: ints, pads: ints?, strides: ints?>
                  (X: T) => (Y: T)""", since=1, T=FLOAT)
    .since(8, """MaxPool <auto_pad: string = "NOTSET", kernel_shape: ints, pads: ints?,
                          storage_order: int = 0, strides: ints?>
                         (X: T) => (Y: T, Indices: I?)""", I=I64)
    .since(10, """MaxPool <auto_pad: string = "NOTSET", ceil_mode: int = 0, dilations: ints?,
                           kernel_shape: ints, pads: ints?, storage_order: int = 0, strides: ints?>
                          (X: T) => (Y: T, Indices: I?)""")
    .since(11)
    .since(12, T=+(I8 | U8))
    .since(22, T=+BF16)
)  # fmt: skip


@MaxPool.infer
def infer_max_pool(
    x: Fact,
    *,
    kernel_shape: list[int],
    storage_order: int = 0,
    node: InferNode,
    **window: Unpack[WindowAttributes],
) -> tuple[Fact, ...]:
    shape = (*x.shape[:2], *pool_window(x.shape, kernel_shape, **window).out)
    return (tensor(x.dtype, shape), tensor(INT64, shape))[: node.output_count]


@MaxPool.kernel
def max_pool(
    x: Array,
    *,
    kernel_shape: list[int],
    storage_order: int = 0,
    node: RunNode,
    **window: Unpack[WindowAttributes],
) -> Array | tuple[Array, Array]:
    """Maximum of every window; Indices says where in the flattened ``X`` it lies, first of equals.

    x[N, C, *S] → y[N, C, *O]. NaN prevails. A window that holds only padding gives the least value
    and index −1. Indices counts row-major, with storage_order=1 column-major within a channel.
    Source: ONNX MaxPool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window)
    if not node.wants(1):
        return slide(np.maximum, x, win, lowest(x.dtype))
    return _max_pool_indexed(x, win, storage_order=storage_order)


def lowest(dtype: np.dtype[Any]) -> Array:
    """The neutral element of the maximum: −∞, or the least integer."""
    found = DType.of(dtype)
    least = np.iinfo(dtype).min if found.is_integer else -np.inf
    return np.asarray(least).astype(dtype)


def _max_pool_indexed(x: Array, window: Window, *, storage_order: int) -> tuple[Array, Array]:
    """Maximum and its place, one axis after the other from the last: the first of equals wins."""
    index = _places(x.shape, storage_order)
    for axis in reversed(range(len(window.size))):
        shape = list(x.shape)
        shape[2 + axis] = window.shape[axis]
        best, where = np.full(shape, lowest(x.dtype), x.dtype), np.full(shape, -1, np.int64)
        for tap in range(window.tap_shape[axis]):
            out, data = window.along(axis, tap)
            place = (slice(None),) * (2 + axis)
            value, found = x[(*place, data)], index[(*place, data)]
            held, at = best[(*place, out)], where[(*place, out)]
            # `value != value` is NaN; an empty place (−1) takes whatever comes, −∞ too.
            better = (value > held) | ((value != value) & (held == held)) | (at < 0)  # noqa: PLR0124
            better &= found >= 0
            np.copyto(held, value, where=better)
            np.copyto(at, found, where=better)
        x, index = best, where
    return x, index


def _places(shape: Sequence[int], storage_order: int) -> Array:
    """The index of every element of [N, C, *S] in a flattened tensor."""
    size = math.prod(shape[2:])
    channel = np.arange(math.prod(shape[:2]), dtype=np.int64).reshape(*shape[:2], 1) * size
    within = np.arange(size, dtype=np.int64)
    within = within.reshape(shape[2:], order="F" if storage_order else "C")
    return np.asarray(channel.reshape(*shape[:2], *[1] * within.ndim) + within)


AveragePool = (
    op("""AveragePool <auto_pad: string = "NOTSET", kernel_shape: ints, pads: ints?, strides: ints?>
                      (X: T) => (Y: T)""", since=1, T=FLOAT)
    .since(7, """AveragePool <auto_pad: string = "NOTSET", count_include_pad: int = 0,
                              kernel_shape: ints, pads: ints?, strides: ints?>
                             (X: T) => (Y: T)""")
    .since(10, """AveragePool <auto_pad: string = "NOTSET", ceil_mode: int = 0,
                               count_include_pad: int = 0, kernel_shape: ints, pads: ints?,
                               strides: ints?>
                              (X: T) => (Y: T)""")
    .since(11)
    .since(19, """AveragePool <auto_pad: string = "NOTSET", ceil_mode: int = 0,
                               count_include_pad: int = 0, dilations: ints?, kernel_shape: ints,
                               pads: ints?, strides: ints?>
                              (X: T) => (Y: T)""")
    .since(22, T=+BF16)
)  # fmt: skip


@AveragePool.infer
def infer_average_pool(
    x: Fact,
    *,
    kernel_shape: list[int],
    count_include_pad: int = 0,
    **window: Unpack[WindowAttributes],
) -> Fact:
    return tensor(x.dtype, (*x.shape[:2], *pool_window(x.shape, kernel_shape, **window).out))


@AveragePool.kernel
def average_pool(
    x: Array,
    *,
    kernel_shape: list[int],
    count_include_pad: int = 0,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Mean of every window, over the elements inside the data.

    x[N, C, *S] → y[N, C, *O]. With count_include_pad, padding counts as zeros; what ceil_mode adds
    beyond the padding never counts; a window without elements gives 0. Accumulates float16 and
    bfloat16 in float32.
    Source: ONNX AveragePool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window)
    total = slide(np.add, widened(x), win, 0)
    for axis, count in enumerate(window_counts(win, include_padding=bool(count_include_pad))):
        divisor = np.maximum(count, 1).reshape(-1, *[1] * (len(win.size) - 1 - axis))
        total /= divisor.astype(total.dtype)
    return total.astype(x.dtype, copy=False)


def window_counts(window: Window, *, include_padding: bool) -> list[Array]:
    """Per axis, how many taps of each output element lie in the data, or in the padded data."""
    if include_padding:
        sizes = zip(window.size, window.before, window.after, strict=True)
        padded = tuple(n + b + a for n, b, a in sizes)
        window = replace(window, size=padded, before=(0,) * len(padded))
    counts = []
    for axis, extent in enumerate(window.shape):
        count = np.zeros(extent, np.int64)
        for tap in range(window.tap_shape[axis]):
            count[window.along(axis, tap)[0]] += 1
        counts.append(count)
    return counts


LpPool = (
    op("""LpPool <auto_pad: string = "NOTSET", kernel_shape: ints?, p: float = 2.0, pads: ints?,
                  strides: ints?>
                 (X: T) => (Y: T)""", since=1, T=FLOAT)
    .since(2, """LpPool <auto_pad: string = "NOTSET", kernel_shape: ints, p: int = 2, pads: ints?,
                         strides: ints?>
                        (X: T) => (Y: T)""")
    .since(11)
    .since(18, """LpPool <auto_pad: string = "NOTSET", ceil_mode: int = 0, dilations: ints?,
                          kernel_shape: ints, p: int = 2, pads: ints?, strides: ints?>
                         (X: T) => (Y: T)""")
    .since(22, T=+BF16)
)  # fmt: skip


@LpPool.infer
def infer_lp_pool(
    x: Fact,
    *,
    kernel_shape: list[int] | None = None,
    p: float = 2,
    **window: Unpack[WindowAttributes],
) -> Fact:
    return tensor(x.dtype, (*x.shape[:2], *pool_window(x.shape, kernel_shape, **window).out))


@LpPool.kernel
def lp_pool(
    x: Array,
    *,
    kernel_shape: list[int] | None = None,
    p: float = 2,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Lp norm of every window: y = (Σ |x|ᵖ)^(1/p).

    x[N, C, *S] → y[N, C, *O]. Accumulates float16 and bfloat16 in float32.
    Source: ONNX LpPool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window)
    total = slide(np.add, powers(widened(x), p), win, 0)
    return root(total, p).astype(x.dtype, copy=False)


def powers(x: Array, p: float) -> Array:
    """|x|ᵖ."""
    require(p > 0, f"p must be positive, got {p}")
    if p == 2:
        return np.square(x)
    magnitude = np.abs(x)
    return magnitude if p == 1 else magnitude ** x.dtype.type(p)


def root(total: Array, p: float) -> Array:
    """total^(1/p)."""
    if p == 2:
        return np.sqrt(total)
    return total if p == 1 else np.asarray(total ** total.dtype.type(1 / p))


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
    mean = np.mean(widened(x), axis=_spatial_axes(x.ndim), keepdims=True)
    return np.asarray(mean).astype(x.dtype, copy=False)


@GlobalMaxPool.kernel
def global_max_pool(x: Array) -> Array:
    """Maximum of every channel: x[N, C, *S] → y[N, C, 1 …]; NaN prevails.

    Source: ONNX GlobalMaxPool-22.
    """
    axes, least = _spatial_axes(x.ndim), lowest(x.dtype)
    return np.asarray(np.maximum.reduce(x, axis=axes, keepdims=True, initial=least[()]))


@GlobalLpPool.kernel
def global_lp_pool(x: Array, *, p: float = 2) -> Array:
    """Lp norm of every channel, (Σ |x|ᵖ)^(1/p): x[N, C, *S] → y[N, C, 1 …].

    Accumulates float16 and bfloat16 in float32. Source: ONNX GlobalLpPool-22.
    """
    total = np.sum(powers(widened(x), p), axis=_spatial_axes(x.ndim), keepdims=True)
    return root(np.asarray(total), p).astype(x.dtype, copy=False)


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
    inferred = _unpooled_shape(x.shape, i.shape, kernel_shape, pads, strides)
    if output_shape is None:
        return tensor(x.dtype, inferred)
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


def _check_unpooled(shape: Sequence[DimLike], rank: int) -> None:
    fits = len(shape) == 1 and equal(shape[0], rank) is not False
    require(
        fits,
        f"output_shape must have one entry per axis of X ({rank}), got shape {shape_text(shape)}",
    )


def _unpooled_shape(
    x: Sequence[DimLike],
    i: Sequence[DimLike],
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
        scaled = [_round_half_away(v * spatial_scale) for v in (y1, y2, x1, x2)]
        rows = _cells(scaled[0], scaled[1], pooled_shape[0], x.shape[2])
        columns = _cells(scaled[2], scaled[3], pooled_shape[1], x.shape[3])
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                cell = x[int(image), :, row, column]
                if cell.size:
                    y[region, :, i, j] = cell.max(axis=(1, 2))
    return y


def _check_regions(
    x: Sequence[DimLike], rois: Sequence[DimLike], pooled_shape: Sequence[int]
) -> None:
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
