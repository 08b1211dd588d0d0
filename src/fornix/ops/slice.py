"""Slice: every ``step``-th element of an axis, from ``start`` up to ``end``.

The arithmetic of positions that count from either end and are clamped stands in `cut`, on integers
for the kernel and on dims for inference.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.errors import ConvertError, ShapeError, require
from fornix.ir.dim import Dim, DimLike, ceildiv, is_nonnegative, known, maximum, minimum
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor, compute
from fornix.ops.adapt import attribute_to_input, constant_input, drop_inputs, input_to_attribute
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, axes_listed, dims_of, tensor
from fornix.ops.geometry import listed, normalize_axes
from fornix.ops.op import op
from fornix.ops.types import BF16, I32, I64, TENSOR

Slice = (
    op("Slice <axes: ints?, ends: ints, starts: ints> (data: T) => (output: T)", since=1, T=TENSOR)
    .since(10, """Slice (data: T, starts: Tind, ends: Tind, axes: Tind?, steps: Tind?) =>
                      (output: T)""", Tind=I32 | I64)
    .since(11)
    .since(13, T=+BF16)
)  # fmt: skip

BEYOND = 2**31 - 1
"""A position from here on means the end of a symbolic axis: exporters write INT_MAX for it."""


@Slice.infer
def infer_slice(
    data: Fact,
    starts: Fact | list[int],
    ends: Fact | list[int],
    axes: Fact | list[int] | None = None,
    steps: Fact | None = None,
    *,
    node: InferNode,
) -> Fact:
    count = _count(starts, ends)
    places = _places(data.rank, count, axes)
    if places is None:
        reason = "which axes it cuts is computed at run time"
        return tensor(data.dtype, [node.unknown(reason) for _ in data.shape])
    firsts, lasts = _positions(starts, len(places)), _positions(ends, len(places))
    strides = [1] * len(places) if steps is None else _positions(steps, len(places))
    extents = list(data.shape)
    cuts: list[slice | None] = [slice(None)] * data.rank
    for axis, first, last, stride in zip(places, firsts, lasts, strides, strict=True):
        step = known(stride)
        window = None
        if step is not None and first is not None and last is not None:
            window = cut(data.shape[axis], first, last, step)
        if window is None:
            extents[axis] = node.unknown(f"where it cuts axis {axis} is computed at run time")
            cuts[axis] = None
        else:
            extents[axis] = window[1]
            cuts[axis] = _builtin(window, step or 1)
    value = data.value
    if value is None or None in cuts:
        return tensor(data.dtype, extents)
    return tensor(data.dtype, extents, value[tuple(cuts)])


def _count(*lists: Fact | list[int]) -> int | None:
    """The number of axes that are cut."""
    for given in lists:
        if isinstance(given, list):
            return len(given)
        if (count := axes_listed(given)) is not None:
            return count
    return None


def _places(rank: int, count: int | None, axes: Fact | list[int] | None) -> tuple[int, ...] | None:
    """The axes that are cut, or None if that is computed at run time."""
    if isinstance(axes, Fact):
        if axes.constant is None:
            return None
        axes = listed(axes.constant, "axes")
    if axes is None:
        return None if count is None else cut_axes(rank, count, None)
    return cut_axes(rank, len(axes) if count is None else count, axes)


def cut_axes(rank: int, count: int, axes: Sequence[int] | None) -> tuple[int, ...]:
    """The axes that ``count`` starts stand for; without ``axes``, the first ones."""
    named = range(count) if axes is None else axes
    if len(named) != count:
        raise ShapeError(f"axes must have {count} entries, as starts has, got {list(named)}")
    return normalize_axes(named, rank)


def _positions(given: Fact | list[int], count: int) -> Sequence[DimLike | None]:
    """One entry per axis, None where it is computed at run time."""
    positions = given if isinstance(given, list) else dims_of(given.value)
    if positions is None:
        return [None] * count
    if len(positions) != count:
        raise ShapeError(
            f"starts, ends, axes and steps must have equally many entries, found {count} and "
            f"{len(positions)}"
        )
    return positions


@Slice.kernel
def slice_(
    data: Array,
    starts: Array | list[int],
    ends: Array | list[int],
    axes: Array | list[int] | None = None,
    steps: Array | None = None,
) -> Array:
    """Every ``steps[i]``-th element of axis ``axes[i]`` from ``starts[i]`` up to ``ends[i]``.

    Negative positions count from the end and all are clamped to the axis; a negative step goes
    backward. Without ``axes`` the first axes are meant. Source: ONNX Slice-13.
    """
    firsts, lasts = listed(starts, "starts"), listed(ends, "ends")
    named = None if axes is None else listed(axes, "axes")
    places = cut_axes(data.ndim, len(firsts), named)
    strides = [1] * len(firsts) if steps is None else listed(steps, "steps")
    _positions(lasts, len(places))
    _positions(strides, len(places))
    cuts: list[slice | None] = [slice(None)] * data.ndim
    for axis, first, last, step in zip(places, firsts, lasts, strides, strict=True):
        if step > 0:  # forward, Python clamps as the standard does
            cuts[axis] = slice(first, last, step)
            continue
        window = cut(data.shape[axis], first, last, step)
        cuts[axis] = window and _builtin(window, step)
    return data[tuple(cuts)]


@Slice.lower
def lower_slice(
    data: Tensor,
    starts: Tensor | list[int],
    ends: Tensor | list[int],
    axes: Tensor | list[int] | None = None,
    steps: Tensor | None = None,
    *,
    node: LowerNode,
) -> Tensor:
    firsts = starts if isinstance(starts, list) else node.required(1)
    lasts = ends if isinstance(ends, list) else node.required(2)
    named = node.numbers(3) if isinstance(axes, Tensor) else axes
    places = cut_axes(data.rank, len(firsts), named)
    strides = [1] * len(places) if steps is None else node.numbers(4)
    extents: list[DimLike] = list(data.shape)
    heads: list[DimLike] = [0] * data.rank
    scales = [1] * data.rank
    for axis, first, last, step in zip(places, firsts, lasts, strides, strict=True):
        window = cut(data.shape[axis], first, last, step)
        if window is None:
            node.decline(f"from which end positions on axis {axis} count depends on extents")
        (heads[axis], extents[axis]), scales[axis] = window, step
    return compute(
        extents,
        lambda *i: data[tuple(h + k * s for h, k, s in zip(heads, i, scales, strict=True))],
    )


@Slice.adapt(1, 10)
def slice_1_to_10(node: Node, graph: Graph) -> None:
    for index, name in enumerate(("starts", "ends", "axes"), 1):
        attribute_to_input(node, graph, name, index)


@Slice.adapt(10, 1)
def slice_10_to_1(node: Node, graph: Graph) -> None:
    steps = constant_input(node, 4, "opset 1 takes every element of a slice")
    if steps is not None and (steps != 1).any():
        raise ConvertError(f"opset 1 takes every element of a slice, found steps {steps.tolist()}")
    drop_inputs(node, graph, 4)
    for index, name in ((3, "axes"), (2, "ends"), (1, "starts")):
        input_to_attribute(node, graph, name, index, 1)


def cut(extent: DimLike, start: DimLike, end: DimLike, step: int) -> tuple[DimLike, DimLike] | None:
    """First position and number of elements of a cut; None where a sign cannot be told.

    With n = ``extent`` and positions counted from the front: forward, from a = max(start, 0), the
    elements lie in a span of min(end, n) − a; backward, from a = min(max(start, 0), n − 1), of
    a − max(end, −1). Their number is ⌈span / |step|⌉, at least 0. Source: ONNX Slice-13.
    """
    require(step != 0, "steps must not be 0, got 0")
    first, last = _from_front(start, extent), _from_front(end, extent)
    if first is None or last is None:
        return None
    # A span is one minimum of differences, so that n − max(n − 3, 0) becomes min(3, n).
    if step > 0:
        span = minimum(last - first, last, extent - first, extent)
        head = minimum(maximum(first, 0), extent)
    else:
        top = maximum(first, 0)
        span = minimum(top - last, top + 1, extent - 1 - last, extent)
        head = minimum(top, extent - 1)
    return head, maximum(ceildiv(span, abs(step)), 0)


def _from_front(position: DimLike, extent: DimLike) -> DimLike | None:
    """``position`` counted from the front, not yet clamped; None if its sign is unknown."""
    if isinstance(position, int) and isinstance(extent, Dim) and abs(position) >= BEYOND:
        return extent if position > 0 else -1
    is_from_front = is_nonnegative(position)
    if is_from_front is None:
        return None
    return position if is_from_front else position + extent


def _builtin(window: tuple[DimLike, DimLike], step: int) -> slice | None:
    """The cut in Python's terms, or None if it is symbolic."""
    first, count = map(known, window)
    if first is None or count is None:
        return None
    stop = first + count * step
    return slice(first, stop if count and stop >= 0 else None if count else first, step)
