"""Elements at given positions: Gather, GatherElements, GatherND, and OneHot, which marks them.

Positions are data and untrusted: `checked` is the one place that compares them with the extent that
they index, for `scatter.py` too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import INT64
from fornix.errors import ConvertError, Fail, FornixError, ShapeError, require
from fornix.ir.dim import DimLike, is_nonnegative, known, less
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, gathered, index, select
from fornix.ops.adapt import constant_input
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.gather_loops import columns_of
from fornix.ops.geometry import normalize_axis, shape_text, single, unified
from fornix.ops.op import op
from fornix.ops.types import BF16, I32, I64, NUMERIC, TENSOR


def checked(
    indices: Array,
    extent: int,
    axis: int,
    *,
    name: str = "indices",
    error: type[FornixError] = Fail,
) -> Array:
    """``indices`` counted from the front, after a check that they lie in [−extent, extent).

    Raises ``error`` with the first index that does not.
    """
    if indices.size == 0:
        return indices
    low, high = _ends(indices)
    if low < -extent or high >= extent:
        wrong = np.argwhere((indices < -extent) | (indices >= extent))[0]
        allowed = f"in [{-extent}, {extent - 1}]" if extent else "none"
        place = f"{name}{shape_text(wrong)}" if indices.ndim else name
        raise error(
            f"{place} must be {allowed} for axis {axis}, whose extent is {extent}, "
            f"found {indices[tuple(wrong)]}"
        )
    return np.where(indices < 0, indices.astype(np.int64) + extent, indices) if low < 0 else indices


FEW = 16
"""Numbers, up to which Python's own are compared sooner than NumPy begins."""


def _ends(indices: Array) -> tuple[int, int]:
    """The least and the greatest of ``indices``; NumPy takes microseconds for few, too."""
    if indices.size > FEW:
        return int(indices.min()), int(indices.max())
    numbers = indices.ravel().tolist()
    return min(numbers), max(numbers)


def _check_known(indices: Fact, extent: DimLike, axis: int) -> Array | None:
    """The indices counted from the front, if they and the extent are known."""
    size, found = known(extent), indices.constant
    return None if size is None or found is None else checked(found, size, axis, error=ShapeError)


Gather = (
    op("Gather <axis: int = 0> (data: T, indices: Tind) => (output: T)",
       since=1, T=TENSOR, Tind=I32 | I64)
    .since(11)
    .since(13, T=+BF16)
)  # fmt: skip


@Gather.infer
def infer_gather(data: Fact, indices: Fact, *, axis: int) -> Fact:
    place = normalize_axis(axis, data.rank)
    extents = (*data.shape[:place], *indices.shape, *data.shape[place + 1 :])
    where = _check_known(indices, data.shape[place], place)
    if data.value is None or where is None:
        return tensor(data.dtype, extents)
    return tensor(data.dtype, extents, _taken(data.value, where, place))


@Gather.kernel
def gather(data: Array, indices: Array, *, axis: int) -> Array:
    """The slices of ``data`` along ``axis`` whose numbers ``indices`` holds.

    data[*A, N, *B] · indices[*I] → output[*A, *I, *B]; negative indices count from the end.
    Raises Fail if an index is out of range. Source: ONNX Gather-13.
    """
    place = normalize_axis(axis, data.ndim)
    if not data.size:  # of which NumPy may take anything
        checked(indices, data.shape[place], place)
    try:
        found = data.take(indices, place)
        return found if type(found) is np.ndarray else np.asarray(found, data.dtype)
    except IndexError:  # which says of no index where it stands
        return _taken(data, checked(indices, data.shape[place], place), place)


@Gather.lower
def lower_gather(data: Tensor, indices: Tensor, *, axis: int, node: LowerNode) -> Tensor:
    place = normalize_axis(axis, data.rank)
    if place == 1 and indices.rank == 1:
        picked = columns_of(data, node.known(1))
        if picked is not None:
            return picked
    return lower_taken(data, indices, place)


def lower_taken(data: Tensor, indices: Tensor, place: int) -> Tensor:
    """The elements of ``data`` at ``indices`` along axis ``place``, each index checked."""
    behind = place + indices.rank

    def at(*i: DimLike) -> Scalar:
        where = gathered(indices[i[place:behind]], data.shape[place], wraps=True)
        return data[(*i[:place], where, *i[behind:])]

    return compute((*data.shape[:place], *indices.shape, *data.shape[place + 1 :]), at)


def _taken(data: Array, indices: Array, axis: int) -> Array:
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return np.take(data, indices.reshape(-1), axis).reshape(shape)


GatherElements = (
    op("GatherElements <axis: int = 0> (data: T, indices: Tind) => (output: T)",
       since=11, T=TENSOR, Tind=I32 | I64)
    .since(13, T=+BF16)
)  # fmt: skip


@GatherElements.infer
def infer_gather_elements(data: Fact, indices: Fact, *, axis: int) -> Fact:
    if not indices.has_rank:
        return tensor(data.dtype, [None] * data.rank)
    if not data.has_rank:
        return tensor(data.dtype, indices.shape)
    place = normalize_axis(axis, data.rank)
    check_inside(data.shape, indices.shape, place)
    where = _check_known(indices, data.shape[place], place)
    if data.value is None or where is None:
        return tensor(data.dtype, indices.shape)
    return tensor(data.dtype, indices.shape, _taken_along(data.value, where, place))


@GatherElements.kernel
def gather_elements(data: Array, indices: Array, *, axis: int) -> Array:
    """For each element of ``indices``, that element of its line of ``data`` along ``axis``.

    output[i, j, k] = data[i, indices[i, j, k], k] for axis = 1, and so on for any rank and axis.
    Raises Fail if an index is out of range. Source: ONNX GatherElements-13.
    """
    place = normalize_axis(axis, data.ndim)
    check_inside(data.shape, indices.shape, place)
    return _taken_along(data, checked(indices, data.shape[place], place), place)


@GatherElements.lower
def lower_gather_elements(data: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    place = normalize_axis(axis, data.rank)
    check_inside(data.shape, indices.shape, place)

    def at(*i: DimLike) -> Scalar:
        where = gathered(indices[i], data.shape[place], wraps=True)
        return data[(*i[:place], where, *i[place + 1 :])]

    return compute(indices.shape, at)


def _taken_along(data: Array, indices: Array, axis: int) -> Array:
    lines = tuple(
        slice(None) if place == axis else slice(extent)
        for place, extent in enumerate(indices.shape)
    )
    return np.take_along_axis(data[lines], indices.astype(np.int64), axis)


def check_inside(data: Sequence[DimLike], indices: Sequence[DimLike], axis: int) -> None:
    """Raise ShapeError unless ``indices`` has a place in ``data`` beside ``axis``."""
    fits = len(data) == len(indices) and not any(
        less(n, m) for place, (n, m) in enumerate(zip(data, indices, strict=True)) if place != axis
    )
    if not fits:
        raise ShapeError(
            f"indices{shape_text(indices)} must have the rank of data{shape_text(data)} and, "
            f"beside axis {axis}, no greater extent"
        )


GatherND = (
    op("GatherND (data: T, indices: tensor(int64)) => (output: T)", since=11, T=TENSOR)
    .since(12, """GatherND <batch_dims: int = 0> (data: T, indices: tensor(int64)) =>
                      (output: T)""")
    .since(13, T=+BF16)
)  # fmt: skip


@GatherND.infer
def infer_gather_nd(data: Fact, indices: Fact, *, batch_dims: int = 0) -> Fact:
    depth = known(indices.shape[-1]) if indices.rank else 0
    if depth is None:
        return unranked(data.dtype)
    _check_tuples(data.shape, indices.shape, batch_dims, depth)
    return tensor(data.dtype, (*indices.shape[:-1], *data.shape[batch_dims + depth :]))


@GatherND.kernel
def gather_nd(data: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """The parts of ``data`` that the last axis of ``indices`` addresses.

    With b = ``batch_dims`` shared leading axes,
    data[*B, *D, *E] · indices[*B, *I, k] → output[*B, *I, *E], the k entries indexing the axes D.
    Raises Fail if an index is out of range. Source: ONNX GatherND-13.
    """
    depth = indices.shape[-1] if indices.ndim else 0
    _check_tuples(data.shape, indices.shape, batch_dims, depth)
    batch, count = (math.prod(x) for x in (data.shape[:batch_dims], indices.shape[batch_dims:-1]))
    where = [
        checked(indices[..., j], data.shape[batch_dims + j], batch_dims + j).reshape(batch, count)
        for j in range(depth)
    ]
    if batch_dims:
        flat = data.reshape(batch, *data.shape[batch_dims:])
        picked: Array = flat[(np.arange(batch)[:, np.newaxis], *where)]
    else:
        picked = data[tuple(where)]
    return picked.reshape((*indices.shape[:-1], *data.shape[batch_dims + depth :]))


@GatherND.lower
def lower_gather_nd(
    data: Tensor, indices: Tensor, *, batch_dims: int = 0, node: LowerNode
) -> Tensor:
    depth = known(indices.shape[-1]) if indices.rank else 0
    if depth is None:
        node.decline("how many axes its indices address depends on an extent")
    _check_tuples(data.shape, indices.shape, batch_dims, depth)
    lead, end = indices.rank - 1, batch_dims + depth

    def at(*i: DimLike) -> Scalar:
        where = [
            gathered(indices[(*i[:lead], j)], data.shape[batch_dims + j], wraps=True)
            for j in range(depth)
        ]
        return data[(*i[:batch_dims], *where, *i[lead:])]

    return compute((*indices.shape[:-1], *data.shape[end:]), at)


def _check_tuples(
    data: Sequence[DimLike], indices: Sequence[DimLike], batch_dims: int, depth: int
) -> None:
    if not 0 <= batch_dims < min(len(data), len(indices)):
        raise ShapeError(
            f"batch_dims must be less than the ranks of data{shape_text(data)} and "
            f"indices{shape_text(indices)}, got {batch_dims}"
        )
    agree = all(unified(pair) is not None for pair in zip(data, indices[:batch_dims], strict=False))
    if not agree:
        raise ShapeError(
            f"the first {batch_dims} extents of data{shape_text(data)} and "
            f"indices{shape_text(indices)} must agree"
        )
    if not 1 <= depth <= len(data) - batch_dims:
        raise ShapeError(
            f"the last axis of indices{shape_text(indices)} must index 1 to "
            f"{len(data) - batch_dims} axes of data{shape_text(data)}, found {depth}"
        )


OneHot = (
    op("OneHot <axis: int = -1> (indices: T1, depth: T2, values: T3) => (output: T3)",
       since=9, T1=NUMERIC, T2=NUMERIC, T3=TENSOR)
    .since(11, note="negative indices count from the end")
    .since(28, T3=+BF16)
)  # fmt: skip


@OneHot.adapt(11, 9)
def one_hot_11_to_9(node: Node, _: Graph) -> None:
    """Before opset 11, negative indices do not count from the end."""
    indices = constant_input(node, 0, "before opset 11 no index of OneHot counts from the end")
    if indices is None or (indices < 0).any():
        raise ConvertError("before opset 11 no index of OneHot counts from the end, found one")


@OneHot.infer
def infer_one_hot(indices: Fact, depth: Fact, values: Fact, *, axis: int, node: InferNode) -> Fact:
    place = normalize_axis(axis, indices.rank + 1)
    extent: DimLike = node.unknown("its depth is computed at run time")
    if depth.value is not None:
        extent = single(depth.value, "depth")
    elif depth.constant is not None:
        extent = _depth_of(depth.constant)
    _check_depth(extent)
    if values.has_rank:
        _check_values(values.shape)
    return tensor(values.dtype, (*indices.shape[:place], extent, *indices.shape[place:]))


@OneHot.kernel
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int, node: RunNode) -> Array:
    """values[1] where the position on a new ``axis`` is the index, values[0] elsewhere.

    indices[*A, *B] → output[*A, depth, *B]; an index outside of the axis marks nothing. From opset
    11 on, negative indices count from its end. Source: ONNX OneHot-11.
    """
    place = normalize_axis(axis, indices.ndim + 1)
    extent = _depth_of(depth)
    _check_depth(extent)
    _check_values(values.shape)
    wanted = np.expand_dims(indices.astype(np.int64), place)
    if node.version >= 11:
        wanted = np.where(wanted < 0, wanted + extent, wanted)
    positions = np.arange(extent).reshape(-1, *[1] * (indices.ndim - place))
    marked: Array = values[(positions == wanted).astype(np.intp)]
    return marked


def _depth_of(depth: Array) -> int:
    number = single(depth, "depth")
    require(math.isfinite(number), f"depth must be a number of classes, got {number}")
    return int(number)


@OneHot.lower
def lower_one_hot(
    indices: Tensor, depth: Tensor, values: Tensor, *, axis: int, node: LowerNode
) -> Tensor:
    place = normalize_axis(axis, indices.rank + 1)
    extents = node.shape()

    def at(*i: DimLike) -> Scalar:
        wanted = cast(indices[(*i[:place], *i[place + 1 :])], INT64)
        if node.version >= 11:
            wanted = select(wanted < 0, wanted + index(extents[place]), wanted)
        return select(apply("eq", wanted, index(i[place])), values[1], values[0])

    return compute(extents, at)


def _check_values(shape: Sequence[DimLike]) -> None:
    fits = len(shape) == 1 and known(shape[0]) in {2, None}
    require(fits, f"values must be [off, on], found {shape_text(shape)}")


def _check_depth(extent: DimLike) -> None:
    require(is_nonnegative(extent) is not False, f"depth must be 0 or more, got {extent}")
