"""Pools: a maximum, mean or norm over sliding windows.

Windows are reduced one axis after the other (`window.slide`), which takes taps₁ + taps₂ passes
instead of taps₁ · taps₂. Pools over whole channels are in `global_pool.py`, those whose places are
data in `indexed_pool.py`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from fornix.dtype import INT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, less, minimum
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce, select
from fornix.ops import scalar
from fornix.ops.along import mapped
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, static, tensor
from fornix.ops.geometry import row_major, shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, FLOAT, I8, I64, U8
from fornix.ops.window import (
    Window,
    WindowAttributes,
    per_axis,
    plain,
    slide,
)

Shape = Sequence[DimLike]


def pool_window(
    x: Shape, kernel_shape: list[int] | None, **window: Unpack[WindowAttributes]
) -> Window:
    """The window of a pool over data of shape ``x``."""
    require(len(x) >= 3, f"X must have rank 3 or more, got X{shape_text(x)}")
    require(kernel_shape, "kernel_shape is required, found none")
    taps = per_axis(kernel_shape, len(x) - 2, "kernel_shape")
    return Window.of(x[2:], taps, **window)


MOST_TAPS = 2**20
"""Taps that loops take over data of unknown extent, where none can be trimmed."""


def lowered_window(
    x: Shape, kernel_shape: list[int] | None, node: LowerNode, **window: Unpack[WindowAttributes]
) -> Window:
    """The window of a pool, trimmed, for its loops."""
    win = pool_window(x, kernel_shape, **window).trimmed()
    if less(math.prod(win.taps), MOST_TAPS) is False and static(win.size) is None:
        node.decline("its window may go far beyond the data")
    return win


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

    x[N, C, *S] → y[N, C, *O], O = ⌊(S + pads − reach) / stride⌋ + 1 as in Conv; with ceil_mode
    rounded up, unless the last window would begin in the padding. NaN prevails. A window that holds
    only padding gives the least value and index −1. Indices counts row-major, with storage_order=1
    column-major within a channel.
    Source: ONNX MaxPool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window).trimmed()
    if not node.wants(1):
        return slide(np.maximum, x, win, lowest(x.dtype))
    return _max_pool_indexed(x, win, storage_order=storage_order)


@MaxPool.lower
def lower_max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    storage_order: int = 0,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> tuple[Tensor, ...]:
    win = lowered_window(x.shape, kernel_shape, node, **window)
    shape = (*x.shape[:2], *win.out)
    least = lowest(x.dtype.numpy).item()

    def top(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        return reduce("max", win.taps, lambda *k: wide.get((n, c, *win.place(o, k)), least))

    wide = cast_tensor(x, wide_dtype(x.dtype))
    y = compute(shape, top)
    outputs = (cast_tensor(y, x.dtype), _lower_places(wide, y, win, storage_order))
    return outputs[: node.output_count]


NOWHERE = np.iinfo(np.int64).max


def _lower_places(x: Tensor, y: Tensor, window: Window, storage_order: int) -> Tensor:
    """The first place, row-major, that holds the maximum, or NaN if that is the maximum."""
    places = compute(x.shape, lambda *i: index(row_major(i, x.shape)))

    def first(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        def candidate(*k: DimLike) -> Scalar:
            place = (n, c, *window.place(o, k))
            value = x.get(place, 0)
            is_best = scalar.equal(value, y[n, c, *o])
            if x.dtype.is_float:
                is_best = is_best | scalar.isnan(value)
            return select(is_best, places.get(place, NOWHERE), NOWHERE)

        found = reduce("min", window.taps, candidate)
        at = _column_major(found, (n, c), x.shape) if storage_order else found
        return select(scalar.equal(found, NOWHERE), -1, at)

    return compute(y.shape, first)


def _column_major(place: Scalar, channel: tuple[DimLike, DimLike], shape: Shape) -> Scalar:
    """A row-major place in a tensor, its spatial axes counted column-major instead."""
    size = shape[2:]
    base = index(row_major(channel, shape[:2]) * math.prod(size))
    rest, result = place - base, base
    for axis in reversed(range(len(size))):
        extent = index(size[axis])
        result = result + rest % extent * index(math.prod(size[:axis]))
        rest = apply("div", rest, extent)
    return result


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

    x[N, C, *S] → y[N, C, *O], O as in MaxPool. With count_include_pad, padding counts as zeros;
    what ceil_mode adds beyond the padding never counts; a window without elements gives 0.
    Accumulates float16 and bfloat16 in float32.
    Source: ONNX AveragePool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window)
    total = slide(np.add, widened(x), win.trimmed(), 0)
    counts = window_counts(
        win if count_include_pad else win.trimmed(), include_padding=bool(count_include_pad)
    )
    for axis, count in enumerate(counts):
        divisor = np.maximum(count, 1).reshape(-1, *[1] * (len(win.size) - 1 - axis))
        total /= divisor.astype(total.dtype)
    return total.astype(x.dtype, copy=False)


@AveragePool.lower
def lower_average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    count_include_pad: int = 0,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    win = pool_window(x.shape, kernel_shape, **window)
    inner = lowered_window(x.shape, kernel_shape, node, **window)
    wide = cast_tensor(x, wide_dtype(x.dtype))
    ones = [compute((n,), lambda *_: 1.0, wide.dtype) for n in inner.size]

    def count(axis: int, o: DimLike) -> Scalar:
        """How many taps of the output element ``o`` lie in the data along ``axis``."""
        step, dilation = inner.stride[axis], inner.dilation[axis]
        place = o * step - inner.before[axis]
        taps = (inner.taps[axis],)
        return reduce("sum", taps, lambda k: ones[axis].get(place + k * dilation, 0))

    def mean(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        total = reduce("sum", inner.taps, lambda *k: wide.get((n, c, *inner.place(o, k)), 0))
        if count_include_pad:
            padded = [padded_taps(win, axis, place) for axis, place in enumerate(o)]
            return total / cast(index(math.prod(padded)), wide.dtype)
        inside = (count(axis, place) for axis, place in enumerate(o))
        found: Scalar = scalar.maximum(functools.reduce(operator.mul, inside), 1.0)
        return total / found

    return cast_tensor(compute((*x.shape[:2], *win.out), mean), x.dtype)


def padded_taps(window: Window, axis: int, out: DimLike) -> DimLike:
    """How many taps of the output element ``out`` lie in the padded data along one axis."""
    room = window.size[axis] + window.before[axis] + window.after[axis]
    taps, stride = window.taps[axis], window.stride[axis]
    if less((window.out[axis] - 1) * stride + window.reach[axis], room + 1):
        return taps
    return minimum(taps, (room - 1 - out * stride) // window.dilation[axis] + 1)


def window_counts(window: Window, *, include_padding: bool) -> list[Array]:
    """Per axis, how many taps of each output element lie in the data, or in the padded data."""
    counts = []
    for axis, extent in enumerate(window.shape):
        if include_padding:
            counts.append(np.full(extent, window.tap_shape[axis], np.int64))
            counts[-1][-1:] = plain(padded_taps(window, axis, extent - 1))  # none before is cut
            continue
        counts.append(np.zeros(extent, np.int64))
        for tap in range(window.tap_shape[axis]):
            counts[-1][window.along(axis, tap)[0]] += 1
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

    x[N, C, *S] → y[N, C, *O], O as in MaxPool; padding counts as zeros. Accumulates float16 and
    bfloat16 in float32. Source: ONNX LpPool-22.
    """
    win = pool_window(x.shape, kernel_shape, **window).trimmed()
    norm: Array = root(slide(np.add, powers(widened(x), p), win, 0), p)
    return norm.astype(x.dtype, copy=False)


@LpPool.lower
def lower_lp_pool(
    x: Tensor,
    *,
    kernel_shape: list[int] | None = None,
    p: float = 2,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    win = lowered_window(x.shape, kernel_shape, node, **window)
    powered = mapped(lambda v: powers(v, p), cast_tensor(x, wide_dtype(x.dtype)))

    def at(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        total = reduce("sum", win.taps, lambda *k: powered.get((n, c, *win.place(o, k)), 0))
        return cast(root(total, p), x.dtype)

    return compute((*x.shape[:2], *win.out), at)


def powers(x: scalar.Operand, p: float) -> scalar.Operand:
    """|x|ᵖ, of arrays and of loop scalars."""
    require(p > 0, f"p must be positive, got {p}")
    if p == 2:
        return x * x
    return scalar.abs(x) if p == 1 else scalar.pow(scalar.abs(x), float(p))


def root(total: scalar.Operand, p: float) -> scalar.Operand:
    """total^(1/p), of arrays and of loop scalars."""
    if p == 2:
        return scalar.sqrt(total)
    return total if p == 1 else scalar.pow(total, 1 / p)
