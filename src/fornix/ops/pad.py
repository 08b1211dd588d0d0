"""Pad and CenterCropPad: axes made longer or shorter at either end.

A negative pad cuts. What stands in new places is a constant or comes from elsewhere on the same
axis, as `_origin` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fornix.dtype import DType
from fornix.errors import require
from fornix.ir.attribute import AttributeKind
from fornix.ir.dim import DimLike, is_nonnegative, known, maximum, minimum
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import TRUE, Scalar, Tensor, compute, index, select
from fornix.ops.adapt import (
    attribute_to_input,
    check_attribute,
    constant_input,
    drop_inputs,
    dtype_of,
    input_to_attribute,
    stored,
)
from fornix.ops.call import BodyNode, InferNode, LowerNode
from fornix.ops.fact import Array, Fact, dims_of, tensor
from fornix.ops.geometry import listed, normalize_axes, shape_text, single
from fornix.ops.op import op
from fornix.ops.shuffle import zero_of
from fornix.ops.types import (
    BF16,
    BOOL,
    COMPLEX,
    E8M0,
    F4,
    F8,
    FLOAT,
    I2,
    I4,
    I32,
    I64,
    INT,
    STRING,
    TENSOR,
)

D = TypeVar("D", int, DimLike)

Pad = (
    op("""Pad <mode: string = "constant", paddings: ints, value: float = 0.0> (data: T) =>
              (output: T)""", since=1, T=FLOAT)
    .since(2, """Pad <mode: string = "constant", pads: ints, value: float = 0.0> (data: T) =>
                     (output: T)""")
    .since(11, """Pad <mode: string = "constant">
                      (data: T, pads: tensor(int64), constant_value: T?) => (output: T)""", T=+INT)
    .since(13, T=+(COMPLEX | BF16 | BOOL | STRING))
    .since(18, """Pad <mode: string = "constant">
                      (data: T, pads: tensor(int64), constant_value: T?, axes: Tind?) =>
                      (output: T)""", Tind=I32 | I64)
    .since(19, note="mode wrap")
    .since(21, T=+(F8 | I4))
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)  # fmt: skip

MODES = ("constant", "reflect", "edge", "wrap")


@Pad.infer
def infer_pad(
    data: Fact,
    pads: Fact | list[int] | None = None,
    constant_value: Fact | None = None,
    axes: Fact | None = None,
    *,
    mode: str,
    value: float = 0.0,
    paddings: list[int] | None = None,
    node: InferNode,
) -> Fact:
    _check_mode(mode)
    given = pads if paddings is None else paddings
    entries = dims_of(given.value) if isinstance(given, Fact) else given
    named = None if axes is None or axes.constant is None else listed(axes.constant, "axes")
    if axes is not None and named is None and axes.has_rank and axes.shape == (1,) == (data.rank,):
        named = [0]  # there is no other
    if entries is None or (axes is not None and named is None):
        reason = "its pads are computed at run time"
        padded = range(data.rank) if named is None else normalize_axes(named, data.rank)
        extents = list(data.shape)
        for axis in padded:
            extents[axis] = node.unknown(reason)
        return tensor(data.dtype, extents)
    ends = margins(data.rank, entries, named)
    extents = _padded_extents(data.shape, ends)
    if mode != "constant":
        _check_repeated(data.shape, ends, mode)
    return tensor(data.dtype, extents)


@Pad.kernel
def pad(
    data: Array,
    pads: Array | list[int] | None = None,
    constant_value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str,
    value: float = 0.0,
    paddings: list[int] | None = None,
) -> Array:
    """``data`` with elements added at both ends of axes, or cut off where a pad is negative.

    data[*S] → output[S + before + after], pads = [before each axis …, after each axis …]. New
    elements are ``constant_value``, the nearest element (edge), or continue the axis mirrored at
    its ends (reflect) or as a ring (wrap); for the latter three, what is cut off is cut off first.
    Source: ONNX Pad-19.
    """
    _check_mode(mode)
    entries = listed(pads if paddings is None else paddings, "pads")
    named = None if axes is None else listed(axes, "axes")
    ends = margins(data.ndim, entries, named)
    tensor(None, _padded_extents(data.shape, ends))  # which may be beyond all integers
    if mode == "constant":
        filler = np.asarray(value, data.dtype) if pads is None or isinstance(pads, list) else None
        if constant_value is not None:
            filler = single(constant_value, "constant_value")
        return _with_constant(data, ends, zero_of(data.dtype) if filler is None else filler)
    _check_repeated(data.shape, ends, mode)
    return _with_own(data, ends, mode)


@Pad.lower
def lower_pad(
    data: Tensor,
    pads: Tensor | list[int] | None = None,
    constant_value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str,
    value: float = 0.0,
    paddings: list[int] | None = None,
    node: LowerNode,
) -> Tensor:
    _check_mode(mode)
    given = pads if paddings is None else paddings
    entries = node.required(1) if isinstance(given, Tensor) else list(given or [])
    named = None if axes is None else node.numbers(3)
    ends = margins(data.rank, entries, named)
    extents = _padded_extents(data.shape, ends)
    if mode != "constant":
        return compute(extents, lambda *i: _mirrored(data, ends, i, (), mode))
    filler = _filler(data.dtype, value)

    def at(*i: DimLike) -> Scalar:
        place = tuple(k - before for k, (before, _) in zip(i, ends, strict=True))
        if constant_value is None:
            return data.get(place, filler)
        inside: Scalar = TRUE
        for k, n in zip(place, data.shape, strict=True):
            inside = inside & (index(k) >= 0) & (index(k) < index(n))
        constant = constant_value[(0,) * constant_value.rank]
        return select(inside, data.get(place, filler), constant)

    return compute(extents, at)


def _filler(dtype: DType, value: float) -> float | bool:
    """``value``, or what stands for it in numbers that cannot be it."""
    least = zero_of(dtype.numpy).item()  # 2⁻¹²⁷ of float8e8m0, which has no zero
    return (least or value) if dtype.is_float else False


MIRRORED_AXES = 2
"""Innermost of the padded axes along which each part of the result has an expression of its own.

Loops over parts of rows whose number only a run tells are not written: of such axes it is the last.
"""


def _mirrored(
    data: Tensor,
    ends: Sequence[tuple[DimLike, DimLike]],
    place: tuple[DimLike, ...],
    found: tuple[DimLike, ...],
    mode: str,
) -> Scalar:
    """The element that stands at ``place``: a choice of three for every axis that is padded.

    ``found`` is where it stands in the data along the first axes. The parts are chosen by where
    they begin, so that loops over each part read neighbours.
    """
    axis = len(found)
    if axis == data.rank:
        return data.get(found, _filler(data.dtype, 0.0))
    (before, after), n, k = ends[axis], data.shape[axis], place[axis]

    def with_place(at: DimLike) -> Scalar:
        return _mirrored(data, ends, place, (*found, at), mode)

    if (before, after) == (0, 0):
        return with_place(k)
    far = _own_index(n, (before, after), k, mode)
    left = sum(both != (0, 0) for both in ends[axis:])
    is_open = any(known(d) is None for d in (n, before, after))
    if left > (1 if is_open else MIRRORED_AXES):
        return with_place(far)
    extent = n + before + after
    low = minimum(maximum(before, 0), extent)
    high = maximum(minimum(before + n, extent), low)
    own, is_near = k - before, _is_near(n, (before, after), mode)
    value = with_place(own)
    if low != 0:
        first = {"edge": 0, "wrap": own + n}.get(mode, -own) if is_near else far
        value = select(index(k) >= index(low), value, with_place(first))
    if high != extent:
        last = {"edge": n - 1, "wrap": own - n}.get(mode, 2 * (n - 1) - own) if is_near else far
        value = select(index(k) < index(high), value, with_place(last))
    return value


def _is_near(n: DimLike, pads: tuple[DimLike, DimLike], mode: str) -> bool:
    """Whether an axis of ``n`` elements is known to go on by no more than it has."""
    most = n - 1 if mode == "reflect" else n
    return all(is_nonnegative(d) is True for k in pads for d in (k, most - k))


def _own_index(n: DimLike, both: tuple[DimLike, DimLike], k: DimLike, mode: str) -> DimLike:
    """Which element of an axis stands at ``k`` of the result."""
    before, after = both
    first, last = maximum(-before, 0), maximum(-after, 0)
    kept = n - first - last
    has_any = is_nonnegative(kept - 1) is not False
    require(has_any, f"mode {mode} needs an element to repeat")
    own = first + _own_place(k - maximum(before, 0), kept, mode)
    is_open = any(known(d) is None for d in (n, before, after))
    # Of extents that a run tells no proof finds that it is inside, which it is.
    return minimum(maximum(own, 0), n - 1) if is_open else own


def _own_place(k: DimLike, extent: DimLike, mode: str) -> DimLike:
    if mode == "edge":
        return minimum(maximum(k, 0), extent - 1)
    if mode == "wrap" or extent == 1:
        return k % extent
    # An extent that turns out to be 1 has period 0; with 1 instead, its one element repeats.
    period = maximum(2 * (extent - 1), 1)
    phase = k % period
    return minimum(phase, period - phase)


def _check_mode(mode: str) -> None:
    require(mode in MODES, f"mode must be one of {', '.join(MODES)}, got {mode!r}")


def margins(rank: int, pads: Sequence[D], axes: Sequence[int] | None) -> list[tuple[D, D]]:
    """The pads before and after each axis; without ``axes``, ``pads`` speaks of all."""
    places = range(rank) if axes is None else normalize_axes(axes, rank)
    count = len(places)
    require(
        len(pads) == 2 * count,
        f"pads must have {2 * count} entries, two for each of {count} axes, got {shape_text(pads)}",
    )
    ends: list[tuple[D, D]] = [(0, 0)] * rank
    for axis, before, after in zip(places, pads[:count], pads[count:], strict=True):
        ends[axis] = (before, after)
    return ends


def _padded_extents(
    shape: Sequence[DimLike], ends: Sequence[tuple[DimLike, DimLike]]
) -> list[DimLike]:
    extents = [n + before + after for n, (before, after) in zip(shape, ends, strict=True)]
    for axis, extent in enumerate(extents):
        require(
            is_nonnegative(extent) is not False,
            f"pads {ends[axis][0]} and {ends[axis][1]} of axis {axis} cut more than the "
            f"{shape[axis]} elements that data{shape_text(shape)} has there",
        )
    return extents


def _check_repeated(
    shape: Sequence[DimLike], ends: Sequence[tuple[DimLike, DimLike]], mode: str
) -> None:
    """What stands in new places is an element of the axis, unless none is known to be kept."""
    for axis, (n, both) in enumerate(zip(shape, ends, strict=True)):
        kept = n - sum((maximum(-pad, 0) for pad in both), 0)
        grows = any(is_nonnegative(pad - 1) for pad in both)
        require(
            not grows or is_nonnegative(kept - 1) is not False,
            f"mode {mode} needs an element to repeat, but axis {axis} of "
            f"data{shape_text(shape)} has none left",
        )


def _with_constant(data: Array, ends: list[tuple[int, int]], filler: Array) -> Array:
    shape = [n + before + after for n, (before, after) in zip(data.shape, ends, strict=True)]
    result = np.empty(shape, data.dtype)
    result[...] = filler
    sources, targets = [], []
    for n, extent, (before, _) in zip(data.shape, shape, ends, strict=True):
        source, target = max(-before, 0), max(before, 0)
        count = max(min(n - source, extent - target), 0)
        sources.append(slice(source, source + count))
        targets.append(slice(target, target + count))
    result[tuple(targets)] = data[tuple(sources)]
    return result


def _with_own(data: Array, ends: list[tuple[int, int]], mode: str) -> Array:
    for axis, (before, after) in enumerate(ends):
        first, last = max(-before, 0), data.shape[axis] - max(-after, 0)
        data = data[(*[slice(None)] * axis, slice(first, last))]
        if before > 0 or after > 0:
            places = np.arange(-max(before, 0), last - first + max(after, 0))
            data = np.take(data, _origin(places, last - first, mode), axis)
    return data


def _origin(place: Array, extent: int, mode: str) -> Array:
    """The positions on an axis that ``place``, counted from its first element, shows."""
    if mode == "edge":
        return np.minimum(np.maximum(place, 0), extent - 1)
    if mode == "wrap" or extent == 1:
        return np.mod(place, extent)
    period = 2 * (extent - 1)
    phase = np.mod(place, period)
    return np.where(phase < extent, phase, period - phase)


CenterCropPad = op(
    "CenterCropPad <axes: ints?> (input_data: T, shape: Tind) => (output_data: T)",
    since=18, T=TENSOR | BF16, Tind=I32 | I64,
)  # fmt: skip


@CenterCropPad.infer
def infer_center_crop_pad(
    input_data: Fact, shape: Fact, *, axes: list[int] | None = None, node: InferNode
) -> Fact:
    places = _crop_axes(input_data.rank, axes)
    wanted = dims_of(shape.value)
    extents = list(input_data.shape)
    if wanted is not None:
        _check_crop(wanted, places)
    for entry, axis in enumerate(places):
        reason = f"the extent of axis {axis} is computed at run time"
        extents[axis] = node.unknown(reason) if wanted is None else wanted[entry]
    return tensor(input_data.dtype, extents)


@CenterCropPad.kernel
def center_crop_pad(input_data: Array, shape: Array, *, axes: list[int] | None = None) -> Array:
    """The middle of ``input_data``, or ``input_data`` in the middle of zeros, in a given shape.

    input_data[*S] → output_data[*shape]; ``shape`` has an entry for each of ``axes``, or for every
    axis. Where the difference is odd, a crop begins half an element to the left and padding is one
    longer at the end. Source: ONNX CenterCropPad-18.
    """
    places = _crop_axes(input_data.ndim, axes)
    wanted = listed(shape, "shape")
    _check_crop(wanted, places)
    ends = [(0, 0)] * input_data.ndim
    for axis, extent in zip(places, wanted, strict=True):
        grown = extent - input_data.shape[axis]
        before = grown // 2 if grown >= 0 else -(-grown // 2)
        ends[axis] = (before, grown - before)
    return _with_constant(input_data, ends, zero_of(input_data.dtype))


@CenterCropPad.lower
def lower_center_crop_pad(
    input_data: Tensor, shape: Tensor, *, axes: list[int] | None = None, node: LowerNode
) -> Tensor:
    places = _crop_axes(input_data.rank, axes)
    wanted = node.required(1)
    _check_crop(wanted, places)
    extents: list[DimLike] = list(input_data.shape)
    befores: list[DimLike] = [0] * input_data.rank
    for axis, extent in zip(places, wanted, strict=True):
        grown = extent - extents[axis]
        befores[axis] = maximum(grown, 0) // 2 - maximum(-grown, 0) // 2
        extents[axis] = extent
    return compute(
        extents,
        lambda *i: input_data.get(tuple(k - b for k, b in zip(i, befores, strict=True)), False),
    )


@CenterCropPad.body(since=18)
def center_crop_pad_body(*, node: BodyNode) -> str:
    chosen = """
        Axes = Constant <value_ints: ints = @axes> ()
        Old = Gather (Extents, Axes)"""
    is_told = "axes" in node.attributes
    return f"""
        Extents = Shape (input_data)
        {chosen if is_told else "Old = Identity (Extents)"}
        New = Cast <to = 7> (shape)
        Growth = Sub (New, Old)
        Zero = Constant <value_ints = [0]> ()
        Two = Constant <value_ints = [2]> ()
        Added = Max (Growth, Zero)
        Before = Div (Added, Two)
        After = Sub (Added, Before)
        Pads = Concat <axis = 0> (Before, After)
        Loss = Neg (Growth)
        Removed = Max (Loss, Zero)
        Start = Div (Removed, Two)
        Kept = Min (Old, New)
        End = Add (Start, Kept)
        Cropped = Slice (input_data, Start, End{", Axes" if is_told else ""})
        output_data = Pad (Cropped, Pads{", , Axes" if is_told else ""})
    """


def _crop_axes(rank: int, axes: Sequence[int] | None) -> tuple[int, ...]:
    return normalize_axes(range(rank) if axes is None else axes, rank)


def _check_crop(wanted: Sequence[DimLike], axes: Sequence[int]) -> None:
    require(
        len(wanted) == len(axes) and all((known(extent) or 0) >= 0 for extent in wanted),
        f"shape must have {len(axes)} entries of 0 or more, one for each axis, "
        f"got {shape_text(wanted)}",
    )


@Pad.adapt(1, 2)
def pad_1_to_2(node: Node, _: Graph) -> None:
    node.set_attribute("pads", node.attr("paddings"), AttributeKind.INTS)
    node.remove_attribute("paddings")


@Pad.adapt(2, 1)
def pad_2_to_1(node: Node, _: Graph) -> None:
    node.set_attribute("paddings", node.attr("pads"), AttributeKind.INTS)
    node.remove_attribute("pads")


@Pad.adapt(2, 11)
def pad_2_to_11(node: Node, graph: Graph) -> None:
    value = node.attr("value", 0.0)
    node.remove_attribute("value")
    attribute_to_input(node, graph, "pads", 1)
    if value != 0:
        dtype = dtype_of(node.inputs[0], "data").numpy
        node.set_input(2, stored(node, graph, np.array(value, dtype)))


@Pad.adapt(11, 2)
def pad_11_to_2(node: Node, graph: Graph) -> None:
    value = constant_input(node, 2, "opset 2 takes the value as an attribute")
    drop_inputs(node, graph, 2)
    input_to_attribute(node, graph, "pads", 1, 2)
    if value is not None:
        node.set_attribute("value", float(value.reshape(())))


@Pad.adapt(19, 18)
def pad_19_to_18(node: Node, _: Graph) -> None:
    check_attribute(node, "mode", ["constant", "reflect", "edge"], 19, default="constant")
