"""Axes of extent 1 that go and come: Squeeze, Unsqueeze."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.errors import ShapeError
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor, compute
from fornix.ops.adapt import attribute_to_input, input_to_attribute
from fornix.ops.along import merged, outside, with_units
from fornix.ops.call import LowerNode
from fornix.ops.fact import (
    Array,
    Fact,
    axes_listed,
    reshaped_value,
    tensor,
    unranked,
)
from fornix.ops.geometry import listed, normalize_axes, shape_text
from fornix.ops.op import op
from fornix.ops.types import BF16, E8M0, F4, F8, I2, I4, TENSOR

Squeeze = (
    op("Squeeze <axes: ints?> (data: T) => (squeezed: T)", since=1, T=TENSOR)
    .since(11)
    .since(13, "Squeeze (data: T, axes: tensor(int64)?) => (squeezed: T)", T=+BF16)
    .since(21, T=+(F8 | I4))
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Squeeze.infer
def infer_squeeze(data: Fact, axes: Fact | list[int] | None = None) -> Fact:
    named = _named_axes(axes)
    if axes is not None and named is None:
        return _rank_changed(data, axes, -1)
    if named is None:
        drop = {axis for axis, extent in enumerate(data.shape) if extent == 1}
        if any(known(extent) is None for extent in data.shape):
            return unranked(data.dtype)  # a symbolic extent may turn out to be 1
    else:
        drop = set(normalize_axes(named, data.rank))
        _check_squeezed(data.shape, drop)
    extents = [extent for axis, extent in enumerate(data.shape) if axis not in drop]
    return tensor(data.dtype, extents, reshaped_value(data.value, extents))


@Squeeze.kernel
def squeeze(data: Array, axes: Array | list[int] | None = None) -> Array:
    """``data`` without the named axes, whose extents must be 1; without ``axes``, without any 1.

    data[*A, 1, *B] → squeezed[*A, *B]. Raises ShapeError if a named axis has another extent.
    Source: ONNX Squeeze-13.
    """
    if axes is None:
        return data.reshape([extent for extent in data.shape if extent != 1])
    drop = set(normalize_axes(listed(axes, "axes"), data.ndim))
    _check_squeezed(data.shape, drop)
    return data.reshape([extent for axis, extent in enumerate(data.shape) if axis not in drop])


@Squeeze.lower
def lower_squeeze(
    data: Tensor, axes: Tensor | list[int] | None = None, *, node: LowerNode
) -> Tensor:
    named = node.numbers(1) if isinstance(axes, Tensor) else axes
    if named is not None:
        drop = set(normalize_axes(named, data.rank))
        _check_squeezed(data.shape, drop)
    elif any(known(extent) is None for extent in data.shape):
        node.decline("without axes, extents decide at run time which axes go")
    else:
        drop = {axis for axis, extent in enumerate(data.shape) if extent == 1}
    return compute(
        outside(data.shape, drop), lambda *i: data[merged(data.rank, drop, i, [0] * len(drop))]
    )


@Squeeze.adapt(11, 13)
def squeeze_11_to_13(node: Node, graph: Graph) -> None:
    attribute_to_input(node, graph, "axes", 1)


@Squeeze.adapt(13, 11)
def squeeze_13_to_11(node: Node, graph: Graph) -> None:
    input_to_attribute(node, graph, "axes", 1, 11)


def _check_squeezed(shape: Sequence[DimLike], drop: set[int]) -> None:
    for axis in sorted(drop):
        if known(shape[axis]) not in {None, 1}:
            raise ShapeError(
                f"axis {axis} of data{shape_text(shape)} must be 1 to be squeezed, "
                f"found {shape[axis]}"
            )


Unsqueeze = (
    op("Unsqueeze <axes: ints> (data: T) => (expanded: T)", since=1, T=TENSOR)
    .since(11)
    .since(13, "Unsqueeze (data: T, axes: tensor(int64)) => (expanded: T)", T=+BF16)
    .since(21, T=+(F8 | I4))
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Unsqueeze.infer
def infer_unsqueeze(data: Fact, axes: Fact | list[int]) -> Fact:
    named = _named_axes(axes)
    if named is None:
        return _rank_changed(data, axes, 1)
    extents = _unsqueezed(data.shape, named)
    return tensor(data.dtype, extents, reshaped_value(data.value, extents))


@Unsqueeze.kernel
def unsqueeze(data: Array, axes: Array | list[int]) -> Array:
    """``data`` with axes of extent 1 inserted, so that they end up at the positions ``axes``.

    data[*A, *B] → expanded[*A, 1, *B]. Negative axes count from the end of the result. Raises
    ShapeError if an axis is named twice. Source: ONNX Unsqueeze-13.
    """
    return data.reshape(_unsqueezed(data.shape, listed(axes, "axes")))


@Unsqueeze.adapt(11, 13)
def unsqueeze_11_to_13(node: Node, graph: Graph) -> None:
    attribute_to_input(node, graph, "axes", 1)


@Unsqueeze.adapt(13, 11)
def unsqueeze_13_to_11(node: Node, graph: Graph) -> None:
    input_to_attribute(node, graph, "axes", 1, 11)


@Unsqueeze.lower
def lower_unsqueeze(data: Tensor, axes: Tensor | list[int], *, node: LowerNode) -> Tensor:
    named = node.numbers(1) if isinstance(axes, Tensor) else axes
    return with_units(data, normalize_axes(named, data.rank + len(named)))


def _unsqueezed(shape: Sequence[DimLike], axes: Sequence[int]) -> list[DimLike]:
    rank = len(shape) + len(axes)
    places = normalize_axes(axes, rank)
    if len(places) == 1:
        return [*shape[: places[0]], 1, *shape[places[0] :]]
    rest = iter(shape)
    return [1 if axis in places else next(rest) for axis in range(rank)]


def _named_axes(axes: Fact | list[int] | None) -> list[int] | None:
    """The axes that an attribute or a known input names."""
    if not isinstance(axes, Fact):
        return axes
    return None if axes.constant is None else listed(axes.constant, "axes")


def _rank_changed(data: Fact, axes: Fact | list[int] | None, sign: int) -> Fact:
    """``data`` after axes that are known in number only went or came."""
    count = axes_listed(axes) if isinstance(axes, Fact) else None
    if count is None or data.rank + sign * count < 0:
        return unranked(data.dtype)
    return tensor(data.dtype, [None] * (data.rank + sign * count))
