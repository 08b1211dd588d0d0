"""Relatives of convolution: sampling at computed places, folding columns back, carrying a state.

DeformConv, Col2Im and CausalConvWithState; each ends in the products or windows of `conv.py` and
`window.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np

from fornix.dtype import BOOL, INT32, DType
from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, equal, is_nonnegative, known
from fornix.ir.loops import (
    TRUE,
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    reduce,
    select,
    stored,
)
from fornix.ops.call import BodyNode, InferNode, LowerNode
from fornix.ops.conv import add_bias, check_bias, conv_taps, convolve
from fornix.ops.fact import Array, Fact, UnknownRank, axes_listed, dims_of, tensor
from fornix.ops.geometry import agreed_shape, listed, of_rank, row_major, shape_text
from fornix.ops.op import op
from fornix.ops.precision import wide_dtype, widened
from fornix.ops.sampling_loops import Tap, corner_tap, weighted
from fornix.ops.types import BF16, F16, F32, FLOAT, TENSOR
from fornix.ops.window import Window, WindowAttributes, fold, plain

MANY_CHANNELS = 8
"""Channels that are displaced alike, from which on they are read side by side, at places and with
weights that are computed before. Of 64 the nine taps of 32x32 places take 0.2 ms so for 0.9."""

DeformConv = (
    op("""DeformConv <dilations: ints?, group: int = 1, kernel_shape: ints?, offset_group: int = 1,
                      pads: ints?, strides: ints?>
                     (X: T, W: T, offset: T, B: T?, mask: T?) => (Y: T)""", since=19, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip


@DeformConv.infer
def infer_deform_conv(
    x: Fact,
    w: Fact,
    offset: Fact,
    b: Fact | None = None,
    mask: Fact | None = None,
    *,
    group: int = 1,
    offset_group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    win = Window.of(x.shape[2:], conv_taps(x.shape, w.shape, group, kernel_shape), **window)
    if offset.has_rank:
        _check_offset("offset", offset.shape, x.shape, win, offset_group)
    if mask is not None and mask.has_rank:
        _check_offset("mask", mask.shape, x.shape, win, offset_group)
    check_bias(b.shape if b is not None and b.has_rank else None, w.shape[0])
    return tensor(x.dtype, (x.shape[0], w.shape[0], *win.out))


@DeformConv.kernel
def deform_conv(
    x: Array,
    w: Array,
    offset: Array,
    b: Array | None = None,
    mask: Array | None = None,
    *,
    group: int = 1,
    offset_group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Convolution whose taps are displaced by ``offset`` and weighted by ``mask``.

    x[N, C, *S] · w[M, C/group, *K] + b[M] → y[N, M, *O]; offset[N, G · ∏K · rank, *O] and
    mask[N, G · ∏K, *O] with G = offset_group. Between elements x is interpolated linearly, outside
    it is 0. Computes float16 and bfloat16 in float32. Source: ONNX DeformConv-22.
    """
    win = Window.of(x.shape[2:], conv_taps(x.shape, w.shape, group, kernel_shape), **window)
    _check_offset("offset", offset.shape, x.shape, win, offset_group)
    check_bias(None if b is None else b.shape, w.shape[0])
    if mask is not None:
        _check_offset("mask", mask.shape, x.shape, win, offset_group)
    n, m, rank = x.shape[0], w.shape[0], len(win.size)
    filters = widened(w).reshape(group, m // group, math.prod(w.shape[1:]))
    y = np.empty((n, m, *win.shape), filters.dtype)
    for image in range(n):
        shifts = widened(offset[image]).reshape(
            offset_group, *win.tap_shape, rank, *win.shape
        )  # fmt: skip
        columns = _sampled(widened(x[image]), np.moveaxis(shifts, rank + 1, 0), win)
        if mask is not None:
            columns *= widened(mask[image]).reshape(offset_group, 1, -1)
        product = filters @ columns.reshape(group, filters.shape[2], math.prod(win.shape))
        y[image] = product.reshape(m, *win.shape)
    return add_bias(y, b).astype(x.dtype, copy=False)


@DeformConv.lower
def lower_deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    group: int = 1,
    offset_group: int = 1,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    win = Window.of(x.shape[2:], conv_taps(x.shape, w.shape, group, kernel_shape), **window)
    for name, given in (("offset", offset), ("mask", mask)):
        if given is not None:
            _check_offset(name, given.shape, x.shape, win, offset_group)
    check_bias(None if b is None else b.shape, w.shape[0])
    rank, per_group, filters = len(win.size), w.shape[1], w.shape[0] // group
    share = x.shape[1] // offset_group
    kept = stored if group > 1 or (known(share) or 0) >= MANY_CHANNELS else _as_it_is
    columns = _lower_sampled(x, offset, mask, win, offset_group, kept)
    if group > 1 and (known(per_group) or 0) < MANY_CHANNELS:
        columns = _places_side_by_side(columns, rank)

    def at(n: DimLike, m: DimLike, *o: DimLike) -> Scalar:
        def product(*gkc: DimLike) -> Scalar:
            g, k, c = gkc[0], gkc[1:-1], gkc[-1]
            if group == 1:
                return columns[n, *o, *gkc] * cast(w[m, g * share + c, *k], columns.dtype)
            channel = m // filters * per_group + c
            g, own = (0, channel) if offset_group == 1 else (channel // share, channel % share)
            return columns[n, *o, g, *k, own] * cast(w[m, c, *k], columns.dtype)

        groups, channels = (offset_group, share) if group == 1 else (1, per_group)
        y = reduce("sum", (groups, *win.taps, channels), product)
        return cast(y if b is None else y + cast(b[m], y.dtype), x.dtype)

    return compute((x.shape[0], w.shape[0], *win.out[:rank]), at)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _places_side_by_side(columns: Tensor, rank: int) -> Tensor:
    """``columns`` [N, *O, …] of short sums, whose vectors are places: they lie as [N, …, *O]."""
    n, *shape = columns.shape
    turned = (n, *shape[rank:], *shape[:rank])
    x = stored(compute(turned, lambda n, *i: columns[n, *i[-rank:], *i[:-rank]]))
    return compute(columns.shape, lambda n, *i: x[n, *i[rank:], *i[:rank]])


def _lower_sampled(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    win: Window,
    groups: int,
    kept: Callable[[Tensor], Tensor],
) -> Tensor:
    """The images at the displaced taps, weighted by ``mask``: [N, *O, G, *K, C / G].

    ``kept`` is asked of what all channels of a place read, of the image with these side by side and
    of the result.
    """
    wide, rank, share = wide_dtype(x.dtype), len(win.size), x.shape[1] // groups
    turned = (x.shape[0], *x.shape[2:], x.shape[1])
    image = kept(compute(turned, lambda n, *sc: cast(x[n, sc[-1], *sc[:-1]], wide)))
    sides = [_sides(offset, win, axis, groups, wide) for axis in range(rank)]
    places, weights = ([kept(tensor) for tensor in of] for of in zip(*sides, strict=True))

    def at(n: DimLike, *ogkc: DimLike) -> Scalar:
        o, g, k, c = ogkc[:rank], ogkc[rank], ogkc[rank + 1 : -1], ogkc[-1]
        sides = [(n, *o[:-1], side, g, *k, o[-1]) for side in (0, 1)]
        taps = [
            [(gathered(place[side], extent), weight[side]) for side in sides]
            for place, weight, extent in zip(places, weights, win.size, strict=True)
        ]
        parts = weighted(taps, lambda at: image[n, *at, g * share + c])
        total = sum(parts[1:], start=parts[0])
        tap = row_major((g, *k), (groups, *win.taps))
        return total if mask is None else total * cast(mask[n, tap, *o], wide)

    return kept(compute((x.shape[0], *win.out, groups, *win.taps, share), at))


def _sides(
    offset: Tensor, win: Window, axis: int, groups: int, wide: DType
) -> tuple[Tensor, Tensor]:
    """The elements on both sides of displaced taps along ``axis``, and what they weigh.

    Both are [N, *O, 2, G, *K, last of O]: what a row of places asks for lies together.
    """
    rank = len(win.size)

    def tap(n: DimLike, *place: DimLike) -> Tap:
        o = (*place[: rank - 1], place[-1])
        side, g, k = place[rank - 1], place[rank], place[rank + 1 : -1]
        number = row_major((g, *k), (groups, *win.taps)) * rank + axis
        at = cast(index(win.place(o, k)[axis]), wide) + cast(offset[n, number, *o], wide)
        near = apply("floor", at) + cast(index(side), wide)
        return corner_tap(near, 1 - abs(at - near), win.size[axis], is_clipped=False)

    shape = (offset.shape[0], *win.out[:-1], 2, groups, *win.taps, win.out[-1])
    places = compute(shape, lambda *i: cast(index(tap(*i)[0]), INT32))
    return places, compute(shape, lambda *i: tap(*i)[1])


def _check_offset(
    name: str, shape: Sequence[DimLike], x: Sequence[DimLike], window: Window, groups: int
) -> None:
    """Raise ShapeError unless offset or mask has a place for every tap of every output element."""
    require(
        groups > 0 and (known(x[1]) or 0) % groups == 0,
        f"the channels of X{shape_text(x)} must be a multiple of offset_group={groups}",
    )
    per_tap = len(window.size) if name == "offset" else 1
    channels: DimLike = groups * per_tap
    for taps in window.taps:
        channels = channels * taps
    wanted = (x[0], channels, *window.out)
    fits = len(shape) == len(wanted) and all(
        equal(a, b) is not False for a, b in zip(shape, wanted, strict=True)
    )
    require(fits, f"{name} must be {shape_text(wanted)}, got {name}{shape_text(shape)}")


def _sampled(x: Array, shifts: Array, window: Window) -> Array:
    """One image at the displaced taps: x[C, *S] → [G, C/G, ∏K · ∏O].

    shifts[rank, G, *K, *O] says by how much each tap of each output element is displaced.
    """
    groups, size = shifts.shape[1], window.size
    data = x.reshape(groups, x.shape[0] // groups, -1)
    places = [_tap_places(window, axis) + shifts[axis] for axis in range(len(size))]
    corners = [np.floor(place) for place in places]
    total = np.zeros((*data.shape[:2], shifts[0, 0].size), x.dtype)
    for corner in itertools.product((0, 1), repeat=len(size)):
        weight = np.ones(shifts.shape[1:], x.dtype)
        index = np.zeros(shifts.shape[1:], np.int64)
        inside = np.ones(shifts.shape[1:], np.bool_)
        for axis, step in enumerate(corner):
            extent, at = plain(size[axis]), corners[axis] + step
            weight *= 1 - np.abs(places[axis] - at)
            within = (at >= 0) & (at < extent)
            inside &= within
            index = index * extent + np.where(within, at, 0).astype(np.int64)
        weight = np.where(inside, weight, 0).reshape(groups, 1, -1)
        total += np.take_along_axis(data, index.reshape(groups, 1, -1), 2) * weight
    return total


def _tap_places(window: Window, axis: int) -> Array:
    """Where the undisplaced taps lie along one axis, shaped to broadcast over [G, *K, *O]."""
    rank = len(window.size)
    taps = np.arange(window.tap_shape[axis]) * window.dilation[axis]
    outputs = np.arange(window.shape[axis]) * window.stride[axis] - plain(window.before[axis])
    behind = [1] * (rank - 1 - axis)
    return taps.reshape(-1, *behind, *[1] * rank) + outputs.reshape(-1, *behind)


Col2Im = op("""Col2Im <dilations: ints?, pads: ints?, strides: ints?>
                      (input: T, image_shape: tensor(int64), block_shape: tensor(int64))
                   => (output: T)""", since=18, T=TENSOR | BF16)  # fmt: skip


@Col2Im.infer
def infer_col2im(
    input: Fact,
    image_shape: Fact,
    block_shape: Fact,
    *,
    node: InferNode,
    **window: Unpack[WindowAttributes],
) -> Fact:
    require(
        input.rank == 3, f"input must be [N, C · taps, blocks], got input{shape_text(input.shape)}"
    )
    n, columns, blocks = input.shape
    listed = [window.get("strides"), window.get("dilations"), (window.get("pads") or [])[::2]]
    axes = next((len(entries) for entries in listed if entries), None)
    size = _listed(image_shape, block_shape, node, "image_shape", axes)
    taps = dims_of(block_shape.value)
    if taps is None:
        return tensor(input.dtype, (n, node.unknown("block_shape is not known"), *size))
    _check_block(size, taps)
    channels = _check_columns(columns, blocks, Window.of(size, taps, **window))
    return tensor(input.dtype, (n, channels, *size))


def _listed(
    values: Fact, other: Fact, node: InferNode, name: str, axes: int | None = None
) -> list[DimLike]:
    """The contents of ``values``, or as many unknown extents: ``axes`` if no input says it."""
    contents = dims_of(values.value)
    if contents is not None:
        return contents
    counts = [axes_listed(v) for v in (values, other)]
    count = next((count for count in (*counts, axes) if count is not None), None)
    if count is None:
        raise UnknownRank
    return [node.unknown(f"{name}[{axis}]") for axis in range(count)]


def _check_block(size: Sequence[DimLike], taps: Sequence[DimLike]) -> None:
    require(
        len(size) == len(taps),
        f"block_shape must have an entry for each of image_shape's {len(size)}, got {len(taps)}",
    )
    require(
        all(known(n) is None or is_nonnegative(n - 1) for n in taps),
        f"entries of block_shape must be 1 or more, got {shape_text(taps)}",
    )


def _check_columns(columns: DimLike, blocks: DimLike, window: Window) -> DimLike:
    """The number of channels in so many columns; raises ShapeError unless both counts fit."""
    taps: DimLike = 1
    places: DimLike = 1
    for tap, out in zip(window.taps, window.out, strict=True):
        taps, places = taps * tap, places * out
    require(
        equal(columns % taps, 0) is not False,
        f"the columns must be a multiple of the block's {taps} elements, got {columns}",
    )
    require(
        equal(blocks, places) is not False,
        f"an image of {shape_text(window.size)} has {places} blocks, but the input has {blocks}",
    )
    return columns // taps


@Col2Im.kernel
def col2im(
    input: Array, image_shape: Array, block_shape: Array, **window: Unpack[WindowAttributes]
) -> Array:
    """Sum of blocks at their places in an image: the transpose of taking blocks out of it.

    input[N, C · ∏block, blocks] → output[N, C, *image]; what falls on padding is dropped.
    Accumulates float16 and bfloat16 in float32. Source: ONNX Col2Im-18.
    """
    require(
        input.ndim == 3, f"input must be [N, C · taps, blocks], got input{shape_text(input.shape)}"
    )
    if input.dtype == object:
        raise NotSupported("blocks of strings have no sum")
    size, taps = listed(image_shape, "image_shape"), listed(block_shape, "block_shape")
    _check_block(size, taps)
    win = Window.of(size, taps, **window)
    channels = plain(_check_columns(input.shape[1], input.shape[2], win))
    columns = widened(input).reshape(input.shape[0], channels, *taps, *win.shape)
    return fold(columns, win).astype(input.dtype, copy=False)


@Col2Im.lower
def lower_col2im(
    input: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    require(
        input.rank == 3, f"input must be [N, C · taps, blocks], got input{shape_text(input.shape)}"
    )
    size, taps = node.required(1), node.required(2)
    _check_block(size, taps)
    win = Window.of(size, taps, **window)
    channels, wide = _check_columns(input.shape[1], input.shape[2], win), wide_dtype(input.dtype)

    def at(n: DimLike, c: DimLike, *i: DimLike) -> Scalar:
        def part(*k: DimLike) -> Scalar:
            # Tap k of block o lies on i where o · stride = i + before − k · dilation.
            ahead = zip(i, k, win.before, win.dilation, strict=True)
            steps = [at + before - tap * dilation for at, tap, before, dilation in ahead]
            blocks = [step // stride for step, stride in zip(steps, win.stride, strict=True)]
            is_there: Scalar = TRUE
            for step, o, stride, count in zip(steps, blocks, win.stride, win.out, strict=True):
                is_there &= apply("eq", index(o * stride), index(step))
                is_there &= (index(o) >= 0) & (index(o) < index(count))
            column, block = row_major((c, *k), (channels, *taps)), row_major(blocks, win.out)
            value = cast(input.get((n, column, block), 0), wide)
            return select(is_there, value, 0)

        return cast(reduce("or" if wide is BOOL else "sum", taps, part), input.dtype)

    return compute((input.shape[0], channels, *size), at)


CausalConvWithState = op(
    """CausalConvWithState <activation: string = "none">
                           (input: T, weight: T, bias: T?, past_state: T?)
                        => (output: T, present_state: T)""",
    since=27, T=BF16 | F16 | F32, undetermined=True,
)  # fmt: skip

ACTIVATIONS = ("none", "silu", "swish")


@CausalConvWithState.infer
def infer_causal_conv(
    input: Fact,
    weight: Fact,
    bias: Fact | None = None,
    past_state: Fact | None = None,
    *,
    activation: str = "none",
    dilation: int = 1,
) -> tuple[Fact, Fact]:
    past = past_state.shape if past_state is not None and past_state.has_rank else None
    x, w = of_rank(input, 3, "input"), of_rank(weight, 3, "weight")
    reach = _check_causal(x.shape, w.shape, past, activation, dilation)
    check_bias(bias.shape if bias is not None and bias.has_rank else None, x.shape[1])
    [channels] = agreed_shape(x.shape[1:2], w.shape[:1], bias)
    state = agreed_shape((x.shape[0], channels, reach), past)
    return tensor(input.dtype, (*state[:2], x.shape[2])), tensor(input.dtype, state)


@CausalConvWithState.kernel
def causal_conv(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    past_state: Array | None = None,
    *,
    activation: str = "none",
    dilation: int = 1,
) -> tuple[Array, Array]:
    """Depthwise convolution along time that sees the present and the past only.

    input[B, C, L] · weight[C, 1, K] + bias[C] → output[B, C, L]; past_state[B, C, K − 1] stands
    ahead of the input (absent, zeros), and the last K − 1 places of both are present_state.
    activation silu (or swish) gives y · sigmoid(y). Computes float16 and bfloat16 in float32.
    Source: ONNX CausalConvWithState-27.
    """
    past = None if past_state is None else past_state.shape
    reach = plain(_check_causal(input.shape, weight.shape, past, activation, dilation))
    check_bias(None if bias is None else bias.shape, input.shape[1])
    if past_state is None:
        past_state = np.zeros((*input.shape[:2], reach), input.dtype)
    sequence = np.concatenate([past_state, input], axis=2)
    taps = weight.shape[2:]
    window = Window.of(sequence.shape[2:], taps, dilations=[dilation]) if input.shape[2] else None
    if window is None:
        return input, sequence
    y = convolve(widened(sequence), widened(weight), window, input.shape[1])
    y = add_bias(y, bias)
    if activation != "none":
        y = y / (1 + np.exp(-y))
    present = sequence[:, :, sequence.shape[2] - reach :]
    return y.astype(input.dtype, copy=False), present


@CausalConvWithState.body(since=27)
def causal_conv_body(*, node: BodyNode) -> str:
    padded = """
        Missing = Sub (Taps, One)
        Pads = Concat <axis = 0> (Missing, Zero)
        Time = Constant <value_ints = [2]> ()
        Sequence = Pad (input, Pads, , Time)"""
    sequence = "Sequence = Concat <axis = 2> (past_state, input)" if node.has(3) else padded
    shifted = """
        WideBias = Cast <to = 1> (bias)
        Shift = Unsqueeze (WideBias, One)
        Shifted = Add (Sums, Shift)"""
    activated = """
        Gate = Sigmoid (Shifted)
        Activated = Mul (Shifted, Gate)"""
    plain_text = "Activated = Identity (Shifted)"
    return f"""
        Zero = Constant <value_ints = [0]> ()
        One = Constant <value_ints = [1]> ()
        Length = Shape <start = 2> (input)
        Taps = Shape <start = 2> (weight)
        {sequence}
        Start = Constant <value_int = 0> ()
        Next = Constant <value_int = 1> ()
        Steps = Squeeze (Length)
        Reach = Squeeze (Taps)
        Places = Range (Start, Steps, Next)
        Rows = Unsqueeze (Places, One)
        Columns = Range (Start, Reach, Next)
        Windows = Add (Rows, Columns)
        Wide = Cast <to = 1> (Sequence)
        Seen = Gather <axis = 2> (Wide, Windows)
        Factors = Cast <to = 1> (weight)
        Products = Mul (Seen, Factors)
        Along = Constant <value_ints = [3]> ()
        Sums = ReduceSum <keepdims = 0> (Products, Along)
        {shifted if node.has(2) else "Shifted = Identity (Sums)"}
        {plain_text if node.attributes["activation"] == "none" else activated}
        output = CastLike (Activated, input)
        End = Constant <value_ints = [9223372036854775807]> ()
        Axis = Constant <value_ints = [2]> ()
        present_state = Slice (Sequence, Length, End, Axis)
    """


@CausalConvWithState.lower
def lower_causal_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    activation: str = "none",
    dilation: int = 1,
) -> tuple[Tensor, Tensor]:
    past = None if past_state is None else past_state.shape
    reach = _check_causal(input.shape, weight.shape, past, activation, dilation)
    check_bias(None if bias is None else bias.shape, input.shape[1])
    wide, (batch, channels, length) = wide_dtype(input.dtype), input.shape

    def present(b: DimLike, c: DimLike, t: DimLike) -> Scalar:
        """What stands at ``t``, counted from the start of the past."""
        new = input.get((b, c, t - reach), 0)
        if past_state is None:
            return new
        return select(index(t) < index(reach), past_state.get((b, c, t), 0), new)

    def at(b: DimLike, c: DimLike, t: DimLike) -> Scalar:
        y = reduce(
            "sum",
            weight.shape[2],
            lambda k: cast(present(b, c, t + k * dilation), wide) * cast(weight[c, 0, k], wide),
        )
        if bias is not None:
            y = y + cast(bias[c], wide)
        if activation != "none":
            y = y / (1 + apply("exp", -y))
        return cast(y, input.dtype)

    state = compute((batch, channels, reach), lambda b, c, t: present(b, c, length + t))
    return compute(input.shape, at), state


def _check_causal(
    x: Sequence[DimLike],
    w: Sequence[DimLike],
    past: Sequence[DimLike] | None,
    activation: str,
    dilation: int,
) -> DimLike:
    """How many places before its own an output reads; raises ShapeError if the shapes disagree."""
    require(
        activation in ACTIVATIONS,
        f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}",
    )
    require(len(x) == 3, f"input must be [batch, channels, length], got input{shape_text(x)}")
    fits = len(w) == 3 and equal(w[0], x[1]) is not False and equal(w[1], 1) is not False
    require(fits, f"weight must be [{x[1]}, 1, taps], got weight{shape_text(w)}")
    require(w[2] != 0, f"weight must have taps, got weight{shape_text(w)}")
    require(dilation > 0, f"dilation must be 1 or more, got {dilation}")
    reach = (w[2] - 1) * dilation
    if past is not None:
        wanted = (*x[:2], reach)
        fits = len(past) == 3 and all(
            equal(a, b) is not False for a, b in zip(past, wanted, strict=True)
        )
        require(fits, f"past_state must be {shape_text(wanted)}, got past_state{shape_text(past)}")
    return reach
