"""Convolution and its transpose: sums of products over sliding windows.

Each is one matrix product per group over unfolded windows (`window.py`), in pieces small enough to
stay in cache. Those that sample at computed places or carry a state are in `conv_variants.py`, the
quantised ones in `quantize`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike, equal, known, maximum
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce, select
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, FLOAT
from fornix.ops.window import (
    Window,
    WindowAttributes,
    explicit_padding,
    fold,
    is_same,
    last_axes,
    pad,
    per_axis,
    plain,
    spans,
    split_padding,
    unfold,
)

UNFOLDED_ELEMENTS = 1 << 20
"""Elements unfolded at a time: 4 MiB of float32, about what a core's share of the cache holds."""

DEPTHWISE_ELEMENTS = 1 << 16
"""Output elements of a depthwise convolution computed at a time: in cache for all taps."""

Conv = (
    op("""Conv <auto_pad: string = "NOTSET", dilations: ints?, group: int = 1, kernel_shape: ints?,
                pads: ints?, strides: ints?>
               (X: T, W: T, B: T?) => (Y: T)""", since=1, T=FLOAT)
    .since(11)
    .since(22, T=+BF16)
)  # fmt: skip


@Conv.infer
def infer_conv(
    x: Fact,
    w: Fact,
    b: Fact | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(b.shape if b is not None and b.has_rank else None, w.shape[0])
    return tensor(x.dtype, (x.shape[0], w.shape[0], *Window.of(x.shape[2:], taps, **window).out))


@Conv.kernel
def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Cross-correlation of ``X`` with the filters ``W``, plus a bias per filter.

    x[N, C, *S] · w[M, C/group, *K] + b[M] → y[N, M, *O], O = ⌊(S + pads − reach) / stride⌋ + 1
    where reach = (K − 1) · dilation + 1. pads are those before each axis, then those after each;
    auto_pad SAME_UPPER and SAME_LOWER give O = ⌈S / stride⌉ with the odd one after or before.
    Accumulates float16 and bfloat16 in float32.
    Raises ShapeError if C ≠ group · w.shape[1] or M is no multiple of group.
    Source: ONNX Conv-22.
    """
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(None if b is None else b.shape, w.shape[0])
    y = convolve(widened(x), widened(w), Window.of(x.shape[2:], taps, **window), group)
    return add_bias(y, b).astype(x.dtype, copy=False)


@Conv.lower
def lower_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    y = lower_convolve(x, w, Window.of(x.shape[2:], taps, **window), group)
    if b is None:
        return cast_tensor(y, x.dtype)
    return compute(y.shape, lambda *i: cast(y[i] + cast(b[i[1]], y.dtype), x.dtype))


def lower_convolve(
    x: Tensor,
    w: Tensor,
    win: Window,
    group: int,
    product: Callable[[Scalar, Scalar], Scalar] = operator.mul,
    border: int = 0,
) -> Tensor:
    """`convolve` for lowerings, in the wide dtype of the elements; padding is ``border``."""
    wide, per_group, filters = wide_dtype(x.dtype), w.shape[1], w.shape[0] // group

    def at(n: DimLike, m: DimLike, *o: DimLike) -> Scalar:
        def term(c: DimLike, *k: DimLike) -> Scalar:
            channel = c if group == 1 else m // filters * per_group + c
            element = cast(x.get((n, channel, *win.place(o, k)), border), wide)
            return product(element, cast(w[m, c, *k], wide))

        return reduce("sum", (per_group, *win.taps), term)

    return compute((x.shape[0], w.shape[0], *win.out), at)


def conv_taps(
    x: Sequence[DimLike], w: Sequence[DimLike], group: int, kernel_shape: Sequence[int] | None
) -> Sequence[DimLike]:
    """The taps of a convolution of shape ``x`` with filters of shape ``w``, both checked."""
    require(
        len(x) >= 3 and len(w) == len(x),
        f"the weight tensor W and X must have one rank, at least 3, got W{shape_text(w)} and "
        f"X{shape_text(x)}",
    )
    require(group > 0, f"group must be positive, got {group}")
    require(
        equal(x[1], w[1] * group) is not False,
        f"W{shape_text(w)} with group={group} reads {w[1] * group} channels, "
        f"but X{shape_text(x)} has {x[1]}",
    )
    require(
        (known(w[0]) or 0) % group == 0,
        f"the filters must be a multiple of group={group}, got {w[0]} in W{shape_text(w)}",
    )
    return _checked_taps(w, kernel_shape)


def _checked_taps(w: Sequence[DimLike], kernel_shape: Sequence[int] | None) -> Sequence[DimLike]:
    """The spatial extents of ``w``, which ``kernel_shape`` may repeat, not contradict."""
    taps = w[2:]
    require(all(known(k) != 0 for k in taps), f"W must have taps, got W{shape_text(w)}")
    if not kernel_shape:
        return taps
    agrees = len(kernel_shape) == len(taps) and all(
        equal(k, t) is not False for k, t in zip(kernel_shape, taps, strict=True)
    )
    require(
        agrees,
        f"kernel_shape must repeat the taps of W{shape_text(w)}, got {list(kernel_shape)}",
    )
    return kernel_shape


def check_bias(shape: Sequence[DimLike] | None, filters: DimLike) -> None:
    """Raise ShapeError unless a bias of this shape has one element per filter."""
    if shape is not None:
        require(
            len(shape) == 1 and equal(shape[0], filters) is not False,
            f"B must have one element per filter ({filters}), got B{shape_text(shape)}",
        )


def add_bias(y: Array, b: Array | None) -> Array:
    """``y``, which nobody else holds, with a bias added to each channel."""
    if b is not None:
        y += widened(b).reshape(-1, *[1] * (y.ndim - 2))
    return y


def convolve(x: Array, w: Array, window: Window, group: int) -> Array:
    """Cross-correlation in the dtype of ``x`` and ``w``: x[N, C, *S] · w[M, C/group, *K].

    One matrix product per group and piece, a copy of whose windows is all the memory it takes;
    a depthwise convolution multiplies and adds tap by tap instead.
    """
    n, m, per_group = x.shape[0], w.shape[0], w.shape[1]
    if per_group == 1 and group > 1:
        return _convolve_depthwise(x, w, window)
    filters = w.reshape(group, m // group, math.prod(w.shape[1:]))
    if window.is_pointwise:
        sampled = x[last_axes(slice(None, None, s) for s in window.stride)]
        y = filters @ sampled.reshape(n, group, per_group, math.prod(window.shape))
        return y.reshape(n, m, *window.shape)
    y = np.empty((n, m, *window.shape), x.dtype)
    padded, inner = pad(x, window), unpadded(window)
    for images, rows, part in _pieces(n, math.prod(filters.shape[0:3:2]), inner):
        columns = unfold(padded[(images, slice(None), _rows_read(inner, rows))], part)
        batch = columns.shape[0]
        product = filters @ columns.reshape(batch, group, filters.shape[2], math.prod(part.shape))
        y[images, :, rows] = product.reshape(batch, m, *part.shape)
    return y


def unpadded(window: Window) -> Window:
    """``window`` over data that already has its padding."""
    zero = (0,) * len(window.size)
    size = tuple(
        (o - 1) * s + r for o, s, r in zip(window.out, window.stride, window.reach, strict=True)
    )
    return replace(window, size=size, before=zero, after=zero)


def _pieces(n: int, taps: int, window: Window) -> Iterator[tuple[slice, slice, Window]]:
    """Images and output rows (of the first spatial axis) to compute at a time, with their window.

    ``taps`` counts elements read per output element, all groups together.
    """
    rows, *others = window.shape
    per_row = max(1, taps * math.prod(others))
    height = min(rows, max(1, UNFOLDED_ELEMENTS // per_row))
    depth = max(1, UNFOLDED_ELEMENTS // (per_row * max(rows, 1))) if height == rows else 1
    for image in range(0, n, depth):
        for row in range(0, rows, max(height, 1)):
            stop = min(row + height, rows)
            part = replace(window, out=(stop - row, *others))
            yield slice(image, image + depth), slice(row, stop), unpadded(part)


def _rows_read(window: Window, rows: slice) -> slice:
    """Where along the first spatial axis of padded data the output ``rows`` read."""
    stride = window.stride[0]
    return slice(rows.start * stride, (rows.stop - 1) * stride + plain(window.reach[0]))


def _convolve_depthwise(x: Array, w: Array, window: Window) -> Array:
    """Convolution in which every channel has filters of its own: x[N, C, *S] · w[C·k, 1, *K]."""
    n, c = x.shape[:2]
    multiple = w.shape[0] // c
    filters = w.reshape(c, multiple, *w.shape[2:])
    y = np.zeros((n, c, multiple, *window.shape), x.dtype)
    places = list(window.places())
    step = max(1, DEPTHWISE_ELEMENTS // max(1, multiple * math.prod(window.shape)))
    ones = [1] * len(window.size)
    for image in range(n):
        for start in range(0, c, step):
            channels = slice(start, start + step)
            data, target = x[image, channels, None], y[image, channels]
            for tap, out, read in places:
                factor = filters[last_axes(tap)][channels]
                factor = factor.reshape(len(factor), multiple, *ones)
                target[last_axes(out)] += data[last_axes(read)] * factor
    return y.reshape(n, c * multiple, *window.shape)


ConvTranspose = (
    op("""ConvTranspose <auto_pad: string = "NOTSET", dilations: ints?, group: int = 1,
                         kernel_shape: ints?, output_padding: ints?, output_shape: ints?,
                         pads: ints?, strides: ints?>
                        (X: T, W: T, B: T?) => (Y: T)""", since=1, T=FLOAT)
    .since(11)
    .since(22, T=+BF16)
)  # fmt: skip


class TransposeAttributes(WindowAttributes, total=False):
    """The attributes that describe the window of a transposed convolution."""

    output_padding: list[int] | None
    output_shape: list[int] | None


@ConvTranspose.infer
def infer_conv_transpose(
    x: Fact,
    w: Fact,
    b: Fact | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[TransposeAttributes],
) -> Fact:
    taps = _transposed_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(b.shape if b is not None and b.has_rank else None, w.shape[1] * group)
    size = transposed_window(x.shape[2:], taps, **window).size
    return tensor(x.dtype, (x.shape[0], w.shape[1] * group, *size))


@ConvTranspose.kernel
def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[TransposeAttributes],
) -> Array:
    """The transpose of a convolution: every element of ``X`` adds a multiple of the filters.

    x[N, C, *S] · w[C, M/group, *K] + b[M] → y[N, M, *O],
    O = (S − 1) · stride + output_padding + reach − pads, or output_shape, which then sets the
    padding; SAME gives O = S · stride. Accumulates float16 and bfloat16 in float32.
    Source: ONNX ConvTranspose-22.
    """
    taps = _transposed_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(None if b is None else b.shape, w.shape[1] * group)
    win = transposed_window(x.shape[2:], taps, **window)
    y = _convolve_transposed(widened(x), widened(w), win, group)
    return add_bias(y, b).astype(x.dtype, copy=False)


@ConvTranspose.lower
def lower_conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[TransposeAttributes],
) -> Tensor:
    taps = _transposed_taps(x.shape, w.shape, group, kernel_shape)
    win = transposed_window(x.shape[2:], taps, **window)
    wide, channels, filters = wide_dtype(x.dtype), x.shape[1] // group, w.shape[1]

    def at(n: DimLike, m: DimLike, *o: DimLike) -> Scalar:
        first = m // filters * channels

        def product(c: DimLike, *back: DimLike) -> Scalar:
            # Tap k of the element i of X lies on o where i · stride = o + before − k · dilation:
            # from the last tap to the first, places ascend as in any convolution.
            k = [count - 1 - j for count, j in zip(taps, back, strict=True)]
            ahead = zip(o, k, win.before, win.dilation, strict=True)
            steps = [i + before - j * dilation for i, j, before, dilation in ahead]
            place = [step // stride for step, stride in zip(steps, win.stride, strict=True)]
            value = cast(x.get((n, first + c, *place), 0), wide)
            for step, i, stride in zip(steps, place, win.stride, strict=True):
                value = select(apply("eq", index(i * stride), index(step)), value, 0)
            return value * cast(w[first + c, m % filters, *k], wide)

        y = reduce("sum", (channels, *taps), product)
        return cast(y if b is None else y + cast(b[m], wide), x.dtype)

    return compute((x.shape[0], w.shape[1] * group, *win.size), at)


def _transposed_taps(
    x: Sequence[DimLike], w: Sequence[DimLike], group: int, kernel_shape: Sequence[int] | None
) -> Sequence[DimLike]:
    require(
        len(x) >= 3 and len(w) == len(x),
        f"the weight tensor W and X must have one rank, at least 3, got W{shape_text(w)} and "
        f"X{shape_text(x)}",
    )
    require(
        equal(x[1], w[0]) is not False,
        f"W{shape_text(w)} reads {w[0]} channels, but X{shape_text(x)} has {x[1]}",
    )
    require(
        group > 0 and (known(w[0]) or 0) % group == 0,
        f"the channels must be a multiple of group={group}, got {w[0]} in W{shape_text(w)}",
    )
    return _checked_taps(w, kernel_shape)


def transposed_window(
    size: Sequence[DimLike],
    taps: Sequence[DimLike],
    *,
    strides: list[int] | None = None,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    ceil_mode: int = 0,
) -> Window:
    """The window of the convolution whose transpose this is: its output has the extent ``size``.

    Padding that makes the output larger than all windows together is taken as 0, as in onnxruntime:
    the rest of the output is then empty.
    """
    rank = len(size)
    stride = per_axis(strides, rank, "strides")
    dilation = per_axis(dilations, rank, "dilations")
    extra = _output_padding(output_padding, rank)
    reach = spans(taps, dilation)
    full = [
        (n - 1) * s + e + r for n, s, e, r in zip(size, stride, extra, reach, strict=True)
    ]  # fmt: skip
    wanted: Sequence[DimLike] | None = None
    if output_shape:
        wanted = _output_shape(output_shape, rank)
    elif is_same(auto_pad):
        wanted = [n * s for n, s in zip(size, stride, strict=True)]
    before: tuple[DimLike, ...]
    after: tuple[DimLike, ...]
    if wanted is None:
        before, after = explicit_padding(pads if auto_pad != "VALID" else None, rank)
    else:
        total = [maximum(f - o, 0) for f, o in zip(full, wanted, strict=True)]
        before, after = split_padding(total, auto_pad)
    extent = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
    if output_shape:
        extent = tuple(output_shape[-rank:])
    require(
        all((known(e) or 0) >= 0 for e in extent),
        f"padding {shape_text(before)} and {shape_text(after)} must leave an output, "
        f"got extent {shape_text(extent)}",
    )
    return Window(extent, tuple(taps), stride, dilation, before, after, tuple(size))


def _output_padding(values: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    if not values:
        return (0,) * rank
    require(
        len(values) == rank and min(values) >= 0,
        f"output_padding must have one entry ≥ 0 per spatial axis ({rank}), got {list(values)}",
    )
    return tuple(values)


def _output_shape(values: Sequence[int], rank: int) -> list[int]:
    """The spatial extents in ``values``, ahead of which old exporters put batch and channels."""
    require(
        len(values) in {rank, rank + 2} and min(values) >= 0,
        f"output_shape must have one entry ≥ 0 per spatial axis ({rank}), got {list(values)}",
    )
    return list(values[-rank:])


def _convolve_transposed(x: Array, w: Array, window: Window, group: int) -> Array:
    """x[N, C, *O] · w[C, M/group, *K] → [N, M, *S]: a product per group, folded."""
    n, c = x.shape[:2]
    m = w.shape[1] * group
    filters = w.reshape(group, c // group, math.prod(w.shape[1:])).swapaxes(1, 2)
    data = x.reshape(n, group, c // group, math.prod(x.shape[2:]))
    y = np.empty((n, m, *map(plain, window.size)), x.dtype)
    step = max(1, UNFOLDED_ELEMENTS // max(1, m * math.prod((*window.tap_shape, *x.shape[2:]))))
    for start in range(0, n, step):
        images = slice(start, start + step)
        columns = filters @ data[images]
        shape = (columns.shape[0], m, *window.tap_shape, *window.shape)
        y[images] = fold(columns.reshape(shape), window)
    return y
