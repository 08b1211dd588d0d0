"""Tensors in other order and in parts: Transpose, Concat, Split, Tile.

None of these looks at elements, so every rule holds for every dtype, and all propagate contents,
since exporters compute shapes with them. Their kin with geometry of their own stand in `slice.py`,
`pad.py` and `shuffle.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from fornix.errors import ConvertError, ShapeError, require
from fornix.ir.dim import Dim, DimLike, ceildiv, is_nonnegative, known, unknown
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, compute, index, select
from fornix.ir.loops import stored as in_memory
from fornix.ops.adapt import attribute_to_input, input_to_attribute, shape_of, stored
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import (
    KNOWN_ELEMENTS,
    Array,
    Fact,
    axes_listed,
    dims_of,
    static,
    tensor,
    unranked,
)
from fornix.ops.geometry import listed, normalize_axis, shape_text, single, unified
from fornix.ops.op import op
from fornix.ops.types import BF16, E8M0, F4, F8, FLOAT, I2, I4, I64, TENSOR

Transpose = (
    op("Transpose <perm: ints?> (data: T) => (transposed: T)", since=1, T=TENSOR)
    .since(13, T=+BF16)
    .since(21, T=+(F8 | I4))
    .since(23, T=+F4)
    .since(24, T=+E8M0)
    .since(25, T=+I2)
)


@Transpose.infer
def infer_transpose(data: Fact, *, perm: list[int] | None = None) -> Fact:
    if perm is not None and not data.has_rank:
        return tensor(data.dtype, [None] * len(perm))
    order = permutation(data.rank, perm)
    value = None if data.value is None else data.value.transpose(order)
    return tensor(data.dtype, [data.shape[axis] for axis in order], value)


@Transpose.kernel
def transpose(data: Array, *, perm: list[int] | None = None) -> Array:
    """``data`` with its axes in the order ``perm``; without ``perm``, in reverse.

    data[*S] → transposed[S[perm[0]], S[perm[1]], …]. Raises ShapeError unless ``perm`` names each
    axis once. Source: ONNX Transpose-13.
    """
    return data.transpose(permutation(data.ndim, perm))


@Transpose.lower
def lower_transpose(data: Tensor, *, perm: list[int] | None = None) -> Tensor:
    order = permutation(data.rank, perm)
    source = [order.index(axis) for axis in range(data.rank)]
    return compute(
        [data.shape[axis] for axis in order], lambda *i: data[tuple(i[axis] for axis in source)]
    )


def permutation(rank: int, perm: Sequence[int] | None) -> tuple[int, ...]:
    """``perm`` as a checked tuple; absent, it reverses the axes."""
    if perm is None:
        return tuple(reversed(range(rank)))
    require(
        sorted(perm) == list(range(rank)),
        f"perm must be a permutation of {shape_text(range(rank))}, data having rank {rank}, "
        f"got {list(perm)}",
    )
    return tuple(perm)


Concat = (
    op("Concat <axis: int?> (inputs: T+) => (concat_result: T)", since=1, T=FLOAT)
    .since(4, "Concat <axis: int> (inputs: T+) => (concat_result: T)", T=+(TENSOR - FLOAT))
    .since(11)
    .since(13, T=+BF16)
)


@Concat.adapt(1, 4)
def concat_1_to_4(node: Node, _: Graph) -> None:
    """The axis is told, also where it is that of the channels."""
    node.set_attribute("axis", node.attr("axis", 1))


@Concat.infer
def infer_concat(*inputs: Fact, axis: int = 1) -> Fact:
    ranked = [fact for fact in inputs if fact.has_rank]
    if not ranked:
        return unranked(inputs[0].dtype)
    extents, place = _concatenated([fact.shape for fact in ranked], axis)
    if len(ranked) < len(inputs):
        extents[place] = unknown("Concat: the rank of an input is unknown")
    return tensor(inputs[0].dtype, extents, _concatenated_value(inputs, place))


@Concat.kernel
def concat(*inputs: Array, axis: int = 1) -> Array:
    """The inputs one behind the other along ``axis``; their other extents must agree.

    inputs[*A, Nᵢ, *B] → concat_result[*A, Σ Nᵢ, *B]. Raises ShapeError if the extents do not agree.
    Before opset 4, ``axis`` is 1 unless given.
    Source: ONNX Concat-13.
    """
    try:
        return np.concatenate(inputs, axis)
    except ValueError:  # the rule says which extents do not agree
        _concatenated([x.shape for x in inputs], axis)
        raise


@Concat.lower
def lower_concat(*inputs: Tensor, axis: int = 1) -> Tensor:
    extents, place = _concatenated([x.shape for x in inputs], axis)
    total = extents[place]
    if isinstance(total, Dim) and len(total.symbols) > MANY_OPEN:
        size = math.isqrt(len(inputs) - 1) + 1
        groups = (inputs[k : k + size] for k in range(0, len(inputs), size))
        inputs = tuple(in_memory(lower_concat(*group, axis=axis)) for group in groups)
    starts = list(accumulate((x.shape[place] for x in inputs), initial=0))

    is_stack = all(x.shape[place] == 1 for x in inputs)

    def at(*i: DimLike) -> Scalar:
        # Of single ones each is read wherever they are: guards in the way of vectors gain nothing.
        places = [0 if is_stack else i[place] - start for start in starts]
        parts = [
            x.get((*i[:place], own, *i[place + 1 :]), False)
            for x, own in zip(inputs, places, strict=False)
        ]
        return _part_at(i[place], parts, starts[1:-1])

    return compute(extents, at)


MANY_OPEN = 16
"""Symbols in the extent of the result from which on parts are joined in groups of them first.

Of 90 open parts the last one begins at a sum of 89: code for all is as long as the square of that
and takes seconds to make.
"""
CHAINED = 8
"""Parts up to which one is asked for after the other: chains nest as deep as they are long."""


def _part_at(place: DimLike, parts: Sequence[Scalar], ends: Sequence[DimLike]) -> Scalar:
    """The one of ``parts`` that ``place`` lies in, of which all but the last have ``ends``."""
    if len(parts) == 1:
        return parts[0]
    first = 1 if len(parts) <= CHAINED else len(parts) // 2
    before = _part_at(place, parts[:first], ends[: first - 1])
    behind = _part_at(place, parts[first:], ends[first:])
    return select(index(place) < index(ends[first - 1]), before, behind)


def _concatenated(shapes: Sequence[Sequence[DimLike]], axis: int) -> tuple[list[DimLike], int]:
    """Extents of the result, and ``axis`` counted from the front."""
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes):
        raise ShapeError(f"inputs must have one rank, found {_texts(shapes)}")
    place = normalize_axis(axis, rank)
    extents: list[DimLike] = []
    for position, dims in enumerate(zip(*shapes, strict=True)):
        extent = sum(dims) if position == place else unified(dims)
        if extent is None:
            found = _texts(shapes)
            raise ShapeError(f"extents other than that of axis {place} must agree, found {found}")
        extents.append(extent)
    return extents, place


def _texts(shapes: Sequence[Sequence[DimLike]]) -> str:
    """What ``shapes`` there are, for messages."""
    return " and ".join(map(shape_text, dict.fromkeys(map(tuple, shapes))))


def _concatenated_value(inputs: Sequence[Fact], axis: int) -> Array | None:
    """Contents of the result; entries of inputs with unknown contents become unknown integers.

    So an exporter's [N, unknown, 768] keeps what is known of it.
    """
    values = [fact.value for fact in inputs]
    if all(value is None for value in values):
        return None
    parts = []
    for fact, value in zip(inputs, values, strict=True):
        shape = static(fact.shape) if fact.has_rank else None
        if shape is None or math.prod(shape) > KNOWN_ELEMENTS:
            return None
        if value is None:
            reason = "Concat: an entry of an input is computed at run time"
            value = np.empty(shape, object)
            value[...] = np.reshape([unknown(reason, None) for _ in value.flat], shape)
        parts.append(value)
    return np.concatenate(parts, axis)


Split = (
    op('Split <axis: int?, split: ints?> (input: T, split: T?) => ("outputs...": T+)',
       since=1, T=FLOAT)
    .since(2, "Split <axis: int = 0, split: ints?> (input: T) => (outputs: T+)",
           T=+(TENSOR - FLOAT))
    .since(11)
    .since(13, "Split <axis: int = 0> (input: T, split: tensor(int64)?) => (outputs: T+)", T=+BF16)
    .since(18, """Split <axis: int = 0, num_outputs: int?> (input: T, split: tensor(int64)?) =>
                      (outputs: T+)""")
)  # fmt: skip


@Split.infer
def infer_split_1(
    input: Fact,
    lengths: Fact | None = None,
    *,
    axis: int = 0,
    split: list[int] | None = None,
    node: InferNode,
) -> tuple[Fact, ...]:
    if lengths is None or split is not None:
        return infer_split(input, split, axis=axis, node=node)
    if lengths.constant is None:
        return infer_split(input, Fact(lengths.type), axis=axis, node=node)
    given = [int(length) for length in listed(lengths.constant, "split")]
    return infer_split(input, given, axis=axis, node=node)


@Split.infer(since=2)
def infer_split(
    input: Fact,
    split: Fact | list[int] | None = None,
    *,
    axis: int,
    num_outputs: int | None = None,
    node: InferNode,
) -> tuple[Fact, ...]:
    place = normalize_axis(axis, input.rank)
    extent = input.shape[place]
    lengths = dims_of(split.value) if isinstance(split, Fact) else split
    parts: Sequence[DimLike]
    if split is not None and lengths is None:
        reason = "the lengths of the parts are computed at run time"
        parts = [node.unknown(reason) for _ in range(node.output_count)]
    else:
        _check_split_choice(lengths, num_outputs, node.output_count)
        parts = split_lengths(extent, node.output_count, lengths, may_differ=node.version >= 18)
    values = _split_value(input.value, parts, place)
    shape = input.shape
    return tuple(
        tensor(input.dtype, (*shape[:place], part, *shape[place + 1 :]), value)
        for part, value in zip(parts, values, strict=True)
    )


@Split.kernel
def split_1(
    input: Array,
    lengths: Array | None = None,
    *,
    axis: int = 0,
    split: list[int] | None = None,
    node: RunNode,
) -> tuple[Array, ...]:
    """`split` with the lengths of the parts as an attribute or as numbers of the input's dtype."""
    if split is None and lengths is not None:
        split = [int(length) for length in listed(lengths, "split")]
    return split_(input, split, axis=axis, node=node)


@Split.kernel(since=2)
def split_(
    input: Array,
    split: Array | list[int] | None = None,
    *,
    axis: int,
    num_outputs: int | None = None,
    node: RunNode,
) -> tuple[Array, ...]:
    """``input`` in parts along ``axis``: as long as ``split`` says, or equally long.

    input[*A, N, *B] → outputs[*A, Nᵢ, *B], Σ Nᵢ = N. From opset 18 on, equal parts may leave a
    shorter last one; before, the extent must be a multiple of their number. Raises ShapeError if
    the parts do not fill the axis. Source: ONNX Split-18.
    """
    place = normalize_axis(axis, input.ndim)
    wanted = None if split is None else listed(split, "split")
    _check_split_choice(wanted, num_outputs, node.output_count)
    parts = split_lengths(
        input.shape[place], node.output_count, wanted, may_differ=node.version >= 18
    )
    ends = np.cumsum(np.array(parts, np.int64))
    return tuple(np.split(input, ends[:-1], place))


@Split.adapt(11, 13)
def split_11_to_13(node: Node, graph: Graph) -> None:
    attribute_to_input(node, graph, "split", 1)


@Split.adapt(13, 11)
def split_13_to_11(node: Node, graph: Graph) -> None:
    input_to_attribute(node, graph, "split", 1, 11)


@Split.adapt(13, 18)
def split_13_to_18(node: Node, _: Graph) -> None:
    """Without lengths, the number of parts is told."""
    if len(node.inputs) == 1:
        node.set_attribute("num_outputs", len(node.outputs))


@Split.adapt(18, 13)
def split_18_to_13(node: Node, graph: Graph) -> None:
    """Parts that are not equal are told by their lengths."""
    count = node.attr("num_outputs")
    node.remove_attribute("num_outputs")
    if count is None:
        return
    shape = shape_of(node.inputs[0], "input")
    extent = shape[normalize_axis(node.attr("axis", 0), len(shape))]
    if not isinstance(extent, int):
        raise ConvertError(
            f"before opset 18 parts are equal or of known lengths, found {count} parts of "
            f"{'an unknown extent' if extent is None else extent}"
        )
    if extent % count:
        lengths = split_lengths(extent, count, None, may_differ=True)
        node.set_input(1, stored(node, graph, np.array(lengths, np.int64)))


@Split.lower
def lower_split_1(
    input: Tensor,
    lengths: Tensor | None = None,
    *,
    axis: int = 0,
    split: list[int] | None = None,
    node: LowerNode,
) -> tuple[Tensor, ...]:
    if split is None and lengths is not None:
        split = [int(length) for length in listed(node.constant(1), "split")]
    return lower_split(input, split, axis=axis, node=node)


@Split.lower(since=2)
def lower_split(
    input: Tensor,
    split: Tensor | list[int] | None = None,
    *,
    axis: int,
    num_outputs: int | None = None,
    node: LowerNode,
) -> tuple[Tensor, ...]:
    place = normalize_axis(axis, input.rank)
    wanted = node.required(1) if isinstance(split, Tensor) else split
    _check_split_choice(wanted, num_outputs, node.output_count)
    parts = split_lengths(
        input.shape[place], node.output_count, wanted, may_differ=node.version >= 18
    )
    return tuple(
        _part(input, place, start, part)
        for start, part in zip(accumulate(parts, initial=0), parts, strict=False)
    )


def _part(x: Tensor, axis: int, start: DimLike, extent: DimLike) -> Tensor:
    """``extent`` elements of ``x`` along ``axis``, from ``start`` on."""
    return compute(
        (*x.shape[:axis], extent, *x.shape[axis + 1 :]),
        lambda *i: x[(*i[:axis], i[axis] + start, *i[axis + 1 :])],
    )


def _check_split_choice(
    wanted: Sequence[DimLike] | None, num_outputs: int | None, outputs: int
) -> None:
    require(
        wanted is None or num_outputs is None,
        f"either split or num_outputs may be given, found split={shape_text(wanted or [])} and "
        f"num_outputs={num_outputs}",
    )
    require(
        num_outputs in {None, outputs},
        f"num_outputs must be the number of outputs, {outputs}, got {num_outputs}",
    )


def split_lengths(
    extent: DimLike, count: int, wanted: Sequence[DimLike] | None, *, may_differ: bool
) -> list[DimLike]:
    """Lengths of ``count`` parts of an axis: ``wanted`` after a check, or equal ones.

    ``may_differ`` lets the last of the equal parts be shorter.
    """
    if wanted is not None:
        _check_lengths(extent, count, wanted)
        return list(wanted)
    if may_differ:
        part = ceildiv(extent, count)
        last = extent - part * (count - 1)
        require(
            is_nonnegative(last) is not False,
            f"{count} equal parts of {extent} elements would be {part} long and leave {last} for "
            "the last",
        )
        return [part] * (count - 1) + [last]
    whole = known(extent)
    require(
        whole is None or whole % count == 0,
        f"{extent} elements must be a multiple of the {count} outputs; give the lengths as split",
    )
    return [extent // count] * count


def _check_lengths(extent: DimLike, count: int, wanted: Sequence[DimLike]) -> None:
    require(
        len(wanted) == count,
        f"split must have an entry for each of the {count} outputs, got {shape_text(wanted)}",
    )
    require(
        all(is_nonnegative(length) is not False for length in wanted),
        f"entries of split must be 0 or more, got {shape_text(wanted)}",
    )
    total, whole = known(sum(wanted)), known(extent)
    require(
        total is None or whole is None or total == whole,
        f"the entries of split must add up to {extent}, got {shape_text(wanted)}, which is {total}",
    )


def _split_value(
    value: Array | None, parts: Sequence[DimLike], axis: int
) -> list[Array] | list[None]:
    fixed = static(parts)
    if value is None or fixed is None:
        return [None] * len(parts)
    return np.split(value, np.cumsum(fixed)[:-1], axis)


Tile = (
    op("Tile (input: T, tiles: T, axis: T) => (output: T)", since=1, T=FLOAT, T1=I64)
    .since(6, "Tile (input: T, repeats: T1) => (output: T)", T=+(TENSOR - FLOAT))
    .since(13, T=+BF16)
)  # fmt: skip


@Tile.infer
def infer_tile_1(input: Fact, tiles: Fact, axis: Fact) -> Fact:
    if tiles.constant is None or axis.constant is None:
        return tensor(input.dtype, [None] * input.rank)
    repeats = _repeats_1(input.rank, tiles.constant, axis.constant)
    return tensor(input.dtype, _tiled(input.shape, repeats))


def _repeats_1(rank: int, tiles: Array, axis: Array) -> list[int]:
    place = normalize_axis(int(single(axis, "axis")), rank)
    count = int(single(tiles, "tiles"))
    return [count if index == place else 1 for index in range(rank)]


@Tile.infer(since=6)
def infer_tile(input: Fact, repeats: Fact) -> Fact:
    if repeats.has_rank and repeats.rank > 1:
        raise ShapeError(f"repeats must have one axis, found shape {shape_text(repeats.shape)}")
    if repeats.value is None:
        rank = input.rank if input.has_rank else axes_listed(repeats)
        return unranked(input.dtype) if rank is None else tensor(input.dtype, [None] * rank)
    extents = _tiled(input.shape, listed(repeats.value, "repeats"))
    times, fixed = repeats.constant, static(extents)
    if input.value is None or times is None or fixed is None or math.prod(fixed) > KNOWN_ELEMENTS:
        return tensor(input.dtype, extents)
    return tensor(input.dtype, extents, np.tile(input.value, times.reshape(-1).tolist()))


@Tile.kernel
def tile_1(input: Array, tiles: Array, axis: Array) -> Array:
    """`tile` along one ``axis``. Source: ONNX Tile-1."""
    repeats = _repeats_1(input.ndim, tiles, axis)
    _tiled(input.shape, repeats)
    return np.tile(input, repeats)


@Tile.kernel(since=6)
def tile(input: Array, repeats: Array) -> Array:
    """``input`` repeated ``repeats[i]`` times along each axis i.

    input[*S] → output[S[0] · repeats[0], …]. Source: ONNX Tile-13.
    """
    times = listed(repeats, "repeats")
    _tiled(input.shape, times)
    return np.tile(input, times) if times else input


@Tile.lower
def lower_tile_1(input: Tensor, tiles: Tensor, axis: Tensor, *, node: LowerNode) -> Tensor:
    return _lower_tiled(input, _repeats_1(input.rank, node.constant(1), node.constant(2)))


@Tile.lower(since=6)
def lower_tile(input: Tensor, repeats: Tensor, *, node: LowerNode) -> Tensor:
    return _lower_tiled(input, node.required(1))


def _lower_tiled(input: Tensor, repeats: Sequence[DimLike]) -> Tensor:
    extents = _tiled(input.shape, repeats)
    if 0 in input.shape:  # no element to read
        return compute(extents, lambda *_: False, input.dtype)
    return compute(
        extents, lambda *i: input[tuple(k % n for k, n in zip(i, input.shape, strict=True))]
    )


def _tiled(shape: Sequence[DimLike], repeats: Sequence[DimLike]) -> list[DimLike]:
    require(
        len(repeats) == len(shape),
        f"repeats must have an entry for each axis of input{shape_text(shape)}, "
        f"got {shape_text(repeats)}",
    )
    require(
        all(is_nonnegative(times) is not False for times in repeats),
        f"repeats must be 0 or more, got {shape_text(repeats)}",
    )
    return [extent * times for extent, times in zip(shape, repeats, strict=True)]
