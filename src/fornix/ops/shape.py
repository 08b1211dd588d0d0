"""Shapes as data, and data in other shapes: Shape, Size, Reshape, Flatten, Expand, Identity.

None of these computes elements. Inference matters most here: exporters compute shapes with these
operators, so each propagates contents, symbolic ones included. Squeeze and Unsqueeze are in
`squeeze.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fornix.dtype import INT64
from fornix.errors import ConvertError, Fail, ShapeError, require
from fornix.ir.attribute import AttributeKind
from fornix.ir.dim import Dim, DimLike, exact_quotient, is_nonnegative, known, minimum
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, apply, compute, const, index, load, select
from fornix.ops.adapt import attribute_to_input, constant_input, input_to_attribute
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import (
    ADDRESSES,
    KNOWN_ELEMENTS,
    Array,
    Fact,
    as_value,
    axes_listed,
    reshaped_value,
    static,
    tensor,
    unranked,
)
from fornix.ops.geometry import broadcast_shapes, listed, normalize_axis, row_major, shape_text
from fornix.ops.op import op
from fornix.ops.types import BF16, E8M0, F4, F8, FLOAT, I2, I4, I64, OPT, SEQ, TENSOR

Shape = (
    op("Shape (data: T) => (shape: T1)", since=1, T=TENSOR, T1=I64)
    .since(13, T=+BF16)
    .since(15, "Shape <end: int?, start: int = 0> (data: T) => (shape: T1)")
    .since(19, T=+F8)
    .since(21, T=+I4)
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Shape.infer
def infer_shape(data: Fact, *, start: int = 0, end: int | None = None, node: InferNode) -> Fact:
    if not data.has_rank:
        return tensor(INT64, (node.unknown("the rank of its input is unknown"),))
    extents = data.shape[start:end]
    return tensor(INT64, (len(extents),), as_value(extents))


@Shape.kernel
def shape(data: Array, *, start: int = 0, end: int | None = None) -> Array:
    """Extents of ``data`` along the axes from ``start`` up to, not including, ``end``.

    data[*S] → shape[end − start]; negative bounds count from the rank, and both are clamped to it.
    Source: ONNX Shape-15.
    """
    return np.array(data.shape[start:end], np.int64)


@Shape.lower
def lower_shape(data: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    extents = data.shape[start:end]

    def at(i: DimLike) -> Scalar:
        found: Scalar = const(0, INT64)
        for axis, extent in enumerate(extents):
            found = select(apply("eq", index(i), index(axis)), index(extent), found)
        return found

    return compute((len(extents),), at)


Size = (
    op("Size (data: T) => (size: T1)", since=1, T=TENSOR, T1=I64)
    .since(13, T=+BF16)
    .since(19, T=+F8)
    .since(21, T=+I4)
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Size.infer
def infer_size(data: Fact) -> Fact:
    if not data.has_rank:
        return tensor(INT64, ())
    return tensor(INT64, (), as_value(math.prod(data.shape)))


@Size.kernel
def size(data: Array) -> Array:
    """Number of elements of ``data``: data[*S] → size[] = ∏ S, as int64; 1 of a scalar."""
    return np.array(data.size, np.int64)


@Size.lower
def lower_size(data: Tensor) -> Tensor:
    return compute((), lambda: index(math.prod(data.shape)))


Reshape = (
    op("Reshape <consumed_inputs: ints?, shape: ints?> (data: T) => (reshaped: T)",
       since=1, T=FLOAT)
    .since(5, "Reshape (data: T, shape: tensor(int64)) => (reshaped: T)", T=+(TENSOR - FLOAT))
    .since(13, T=+BF16)
    .since(14, "Reshape <allowzero: int = 0> (data: T, shape: tensor(int64)) => (reshaped: T)")
    .since(19, T=+F8)
    .since(21, T=+I4)
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)  # fmt: skip


@Reshape.infer
def infer_reshape(
    data: Fact, shape: Fact | list[int] | None = None, *, allowzero: int = 0, node: InferNode
) -> Fact:
    wanted = _wanted_extents(shape, node)
    if wanted is None:
        return unranked(data.dtype)
    extents = _reshaped(data.shape if data.has_rank else None, wanted, bool(allowzero), node)
    return tensor(data.dtype, extents, reshaped_value(data.value, extents))


def _wanted_extents(shape: Fact | list[int] | None, node: InferNode) -> list[DimLike | None] | None:
    """The entries of the target shape, None for those unknown; None if even the rank is unknown."""
    if shape is None or isinstance(shape, list):
        return list(shape or [])
    if shape.value is not None:
        return listed(shape.value, "shape")
    rank = axes_listed(shape)
    return None if rank is None else [None] * rank


def _reshaped(
    source: tuple[DimLike, ...] | None,
    wanted: Sequence[DimLike | None],
    keeps_zero: bool,
    node: InferNode,
) -> list[DimLike]:
    """The extents that ``wanted`` stands for: 0 copies an extent, −1 takes what is left."""
    _check_target(wanted, keeps_zero)
    extents: list[DimLike] = []
    for axis, entry in enumerate(wanted):
        if entry is None or _is_undetermined(entry):
            extents.append(node.unknown(f"entry {axis} of its shape is computed at run time"))
        elif entry == 0 and not keeps_zero:
            extents.append(_copied(source, axis, node))
        else:
            extents.append(entry)
    if -1 in wanted:
        # What is copied stands on both sides; it may be 0, by which nothing can be divided.
        copied = {i for i, entry in enumerate(wanted) if entry == 0 and not keeps_zero}
        rest = [n for i, n in enumerate(extents) if n != -1 and i not in copied]
        held = None if source is None else [n for i, n in enumerate(source) if i not in copied]
        extents[list(wanted).index(-1)] = _left_over(source, held, rest, node)
    elif source is not None:
        have, want = known(math.prod(source)), known(math.prod(extents))
        require(
            have is None or want is None or have == want,
            f"data{shape_text(source)} has {have} elements, which do not fill "
            f"{shape_text(extents)}",
        )
    return extents


def _is_undetermined(entry: DimLike) -> bool:
    """Whether ``entry`` may turn out to be −1 or 0, which stand for other extents."""
    return isinstance(entry, Dim) and bool(entry.unknowns) and is_nonnegative(entry) is None


def _check_target(wanted: Sequence[DimLike | None], keeps_zero: bool) -> None:
    require(
        sum(entry == -1 for entry in wanted) <= 1,
        f"shape may hold −1 once, got {shape_text(wanted)}",
    )
    require(
        all(known(entry) is None or known(entry) >= -1 for entry in wanted),  # type: ignore[operator]
        f"entries of shape must be −1 or more, got {shape_text(wanted)}",
    )
    require(
        not (keeps_zero and -1 in wanted and 0 in wanted),
        f"with allowzero=1, shape may not hold both 0 and −1, got {shape_text(wanted)}",
    )


def _copied(source: tuple[DimLike, ...] | None, axis: int, node: InferNode) -> DimLike:
    if source is None:
        return node.unknown(f"copies axis {axis} of a value whose rank is unknown")
    require(
        axis < len(source),
        f"entry {axis} of shape is 0 and copies that axis, but data{shape_text(source)} has none",
    )
    return source[axis]


def _left_over(
    source: tuple[DimLike, ...] | None,
    extents: list[DimLike] | None,
    others: list[DimLike],
    node: InferNode,
) -> DimLike:
    """The extent that −1 stands for: the elements of ``extents`` over those of ``others``."""
    if source is None or extents is None:
        return node.unknown("−1 divides a number of elements that is unknown")
    for extent in [n for n in others if n != 0 and n in extents]:
        if extent in extents:
            extents.remove(extent)
            others.remove(extent)
    left: DimLike = math.prod(extents)
    rest: DimLike = math.prod(others)
    if left == 0 and rest == 0:
        return node.unknown("−1 stands for any extent where there are no elements")
    have, taken = known(left), known(rest)
    require(
        taken != 0 and (have is None or taken is None or have % taken == 0),
        f"data{shape_text(source)} has {left} elements, which the other extents, {rest} together, "
        "do not divide",
    )
    quotient = exact_quotient(left, rest)
    return left // rest if quotient is None else quotient


@Reshape.kernel
def reshape(data: Array, shape: Array | list[int] | None = None, *, allowzero: int = 0) -> Array:
    """``data`` with the same elements, in row-major order, in another ``shape``.

    data[*S] → reshaped[*shape]. 0 in ``shape`` copies the extent of that axis (with allowzero=1 it
    is the extent 0), and one −1 stands for what is left. Raises ShapeError if the elements do not
    fill the shape. Source: ONNX Reshape-14.
    """
    wanted = [] if shape is None else [*listed(shape, "shape")]
    if data.size and all(n > 0 or n == -1 for n in wanted):  # NumPy reads these as ONNX does
        with suppress(ValueError):
            return data.reshape(wanted)
    _check_target(wanted, bool(allowzero))
    copied: set[int] = set()
    if not allowzero:
        for axis, entry in enumerate(wanted):
            if entry == 0:
                copied.add(axis)
                require(
                    axis < data.ndim,
                    f"entry {axis} of shape is 0 and copies that axis, but "
                    f"data{shape_text(data.shape)} has none",
                )
                wanted[axis] = data.shape[axis]
    if -1 in wanted:
        rest = [n for axis, n in enumerate(wanted) if n != -1 and axis not in copied]
        wanted[wanted.index(-1)] = _remaining(data.shape, copied, rest)
    require(
        math.prod(wanted) == data.size,
        f"data{shape_text(data.shape)} has {data.size} elements, which do not fill "
        f"{shape_text(wanted)}",
    )
    return data.reshape(wanted)


@Reshape.lower
def lower_reshape(
    data: Tensor,
    shape: Tensor | list[int] | None = None,
    *,
    allowzero: int = 0,
    node: LowerNode,
) -> Tensor:
    return reshaped(data, node.shape())


def reshaped(data: Tensor, shape: Sequence[DimLike]) -> Tensor:
    """``data`` in another shape: an index becomes an address, and that an index of ``data``.

    Where the data lie in memory in row-major order, the address serves as it is.
    """
    if 0 in shape:
        return compute(shape, lambda *_: 0, data.dtype)

    def at(*i: DimLike) -> Scalar:
        address = row_major(i, shape)
        if data.buffer is not None and data.buffer.is_row_major:
            return load(data.buffer, address)
        place: list[DimLike] = []
        for extent in data.shape[:0:-1]:
            place.insert(0, address % extent)
            address = address // extent
        return data[(address, *place) if data.rank else ()]

    return compute(shape, at)


@Reshape.adapt(1, 5)
def reshape_1_to_5(node: Node, graph: Graph) -> None:
    node.remove_attribute("consumed_inputs")
    if "shape" not in node.attributes:
        node.set_attribute("shape", [], AttributeKind.INTS)
    attribute_to_input(node, graph, "shape", 1)


@Reshape.adapt(5, 1)
def reshape_5_to_1(node: Node, graph: Graph) -> None:
    input_to_attribute(node, graph, "shape", 1, 1)


@Reshape.adapt(14, 13)
def reshape_14_to_13(node: Node, _: Graph) -> None:
    if node.attr("allowzero", 0):
        shape = constant_input(node, 1, "opset 13 reads 0 as a copy of an extent")
        if shape is not None and (shape == 0).any():
            raise ConvertError("opset 13 has no shape with the extent 0 (allowzero=1)")
    node.remove_attribute("allowzero")


def _remaining(source: tuple[int, ...], copied: Collection[int], taken: Sequence[int]) -> int:
    """The extent that −1 stands for beside axes that are ``copied`` and the extents ``taken``.

    Without elements any extent would do; leaving out what is copied, and then zeros on both sides,
    gives the one that inference finds for a symbolic extent: [0, S, 768] as [0, S, 12, −1] ends
    in 64.
    """
    held = [n for axis, n in enumerate(source) if axis not in copied]
    have, rest = math.prod(held), math.prod(taken)
    if have == 0 and rest == 0:
        have, rest = (math.prod(n for n in extents if n) for extents in (held, taken))
    require(
        rest != 0 and have % rest == 0,
        f"data{shape_text(source)} has {have} elements, which the other extents, {rest} together, "
        "do not divide",
    )
    return have // rest


Flatten = (
    op("Flatten <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(9, T=+(TENSOR - FLOAT))
    .since(11)
    .since(13, T=+BF16)
    .since(21, T=+(F8 | I4))
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Flatten.infer
def infer_flatten(input: Fact, *, axis: int) -> Fact:
    split = _split_axis(axis, input.rank)
    return tensor(input.dtype, (math.prod(input.shape[:split]), math.prod(input.shape[split:])))


@Flatten.kernel
def flatten(input: Array, *, axis: int) -> Array:
    """``input`` as a matrix: the axes before ``axis`` become rows, the others columns.

    input[*A, *B] → output[∏A, ∏B]; axis = 0 gives one row. Source: ONNX Flatten-11.
    """
    split = _split_axis(axis, input.ndim)
    return input.reshape(math.prod(input.shape[:split]), math.prod(input.shape[split:]))


@Flatten.lower
def lower_flatten(input: Tensor, *, axis: int) -> Tensor:
    split = _split_axis(axis, input.rank)
    return reshaped(input, (math.prod(input.shape[:split]), math.prod(input.shape[split:])))


def _split_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front; the rank itself is allowed."""
    return rank if axis == rank else normalize_axis(axis, rank)


Expand = (
    op("Expand (input: T, shape: tensor(int64)) => (output: T)", since=8, T=TENSOR)
    .since(13, T=+BF16)
)  # fmt: skip


@Expand.infer
def infer_expand(input: Fact, shape: Fact, *, node: InferNode) -> Fact:
    if shape.value is None:
        count = axes_listed(shape)
        if count is None:
            return unranked(input.dtype)
        own = (1,) * (count - input.rank) + input.shape
        untouched = max(input.rank - count, 0)
        changed = [_expanded(extent, node) for extent in own[untouched:]]
        return tensor(input.dtype, [*own[:untouched], *changed])
    extents = broadcast_shapes(input.shape, _target(shape.value))
    value, fixed = input.value, static(extents)
    if value is None or fixed is None or math.prod(fixed) > KNOWN_ELEMENTS:
        return tensor(input.dtype, extents)
    return tensor(input.dtype, extents, np.broadcast_to(value, fixed))


def _target(shape: Any) -> list[DimLike]:
    """The extents that ``shape`` lists."""
    extents: list[DimLike] = listed(shape, "shape")
    if any(is_nonnegative(extent) is False for extent in extents):
        raise ShapeError(f"entries of shape must be 0 or more, got {shape_text(extents)}")
    return extents


def _expanded(extent: DimLike, node: InferNode) -> DimLike:
    """What ``extent`` becomes by an unknown target: it stays, unless it is or may be 1."""
    if known(extent) not in {None, 1}:
        return extent
    return node.unknown("its shape is computed at run time")


SHORT = 1 << 12
"""Bytes, up to which one element is written sooner than NumPy makes a view that repeats it."""


@Expand.kernel
def expand(input: Array, shape: Array) -> Array:
    """``input`` repeated so that it has the common shape of itself and ``shape``.

    input[*S] → output[*V], to which S and ``shape`` broadcast, as in NumPy: an entry 1 keeps the
    extent of ``input``. Raises ShapeError if the shapes do not broadcast. Source: ONNX Expand-13.
    """
    target: tuple[Any, ...] = tuple(_target(shape))
    common = target
    if input.size != 1 or input.ndim > len(target):  # one element becomes what is asked for
        try:
            common = np.broadcast_shapes(input.shape, target)
        except ValueError:  # which extents differ, the rule says
            broadcast_shapes(input.shape, target)
            raise
    taken = math.prod(common) * input.itemsize
    if taken >= ADDRESSES:  # that it is a view would only put it off
        raise Fail(
            f"output must fit into memory, found {shape_text(common)} of {taken:,} bytes; "
            "ask for fewer elements"
        )
    if input.size == 1 and taken <= SHORT:
        result = np.empty(common, input.dtype)
        result[...] = input
        return result
    return np.broadcast_to(input, common)


@Expand.lower
def lower_expand(input: Tensor, shape: Tensor, *, node: LowerNode) -> Tensor:
    target = node.facts[1]
    if target is None or target.value is None:
        node.decline("whether the shapes broadcast is known only in a run")
    extents = node.shape()
    own = extents[len(extents) - input.rank :]

    def at(*i: DimLike) -> Scalar:
        places = zip(i[len(i) - input.rank :], input.shape, own, strict=True)
        return input[tuple(_source(k, extent, target) for k, extent, target in places)]

    return compute(extents, at)


def _source(place: DimLike, extent: DimLike, target: DimLike) -> DimLike:
    """Where an axis of ``extent``, expanded to ``target``, is read for ``place``.

    A symbolic extent is either 1 or the target. It is taken for that if it is a number: a run in
    which it is 1 has a program in which 1 is stored.
    """
    if extent == target or (isinstance(target, int) and extent != 1):
        return place
    return 0 if extent == 1 else minimum(place, extent - 1)


Identity = (
    op("Identity (input: T) => (output: T)", since=1, T=TENSOR)
    .since(13, T=+BF16)
    .since(14, "Identity (input: V) => (output: V)", V=TENSOR | BF16 | SEQ(TENSOR))
    .since(16, V=+OPT(TENSOR | SEQ(TENSOR)))
    .since(19, V=+F8)
    .since(21, V=+I4)
    .since(23, V=+F4)
    .since(24, V=+E8M0)
    .since(25, V=+I2)
)


@Identity.infer
def infer_identity(input: Fact) -> Fact:
    return input


@Identity.kernel
def identity(input: Array) -> Array:
    """``input`` itself: a tensor, a sequence or an optional, of any shape."""
    return input


@Identity.lower
def lower_identity(input: Tensor) -> Tensor:
    return input
