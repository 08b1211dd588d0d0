"""Extremes along an axis and where they are: ArgMax, ArgMin, TopK.

NaN counts as an extreme, and of equal elements the first is meant unless an attribute says else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64, UINT64
from fornix.errors import ConvertError, require
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    bitcast,
    cast,
    compute,
    const,
    gathered,
    index,
    reduce,
    routine,
    select,
    stored,
)
from fornix.ops import ranking_loops
from fornix.ops import scalar as s
from fornix.ops.adapt import stored as stored_value
from fornix.ops.adapt import taken_input
from fornix.ops.along import along, merged, with_units
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, shape_text, single
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, FLOAT, I64, INT, NUMERIC

ArgMax = (
    op("""ArgMax <axis: int = 0, keepdims: int = 1> (data: T) => (reduced: tensor(int64))""",
       since=1, T=NUMERIC)
    .since(11)
    .since(12, """ArgMax <axis: int = 0, keepdims: int = 1, select_last_index: int = 0> (data:
                    T) => (reduced: tensor(int64))""")
    .since(13, T=+BF16)
)  # fmt: skip

ArgMin = (
    op("""ArgMin <axis: int = 0, keepdims: int = 1> (data: T) => (reduced: tensor(int64))""",
       since=1, T=NUMERIC)
    .since(11)
    .since(12, """ArgMin <axis: int = 0, keepdims: int = 1, select_last_index: int = 0> (data:
                    T) => (reduced: tensor(int64))""")
    .since(13, T=+BF16)
)  # fmt: skip


@ArgMax.infer
@ArgMin.infer
def infer_arg(data: Fact, *, axis: int, keepdims: int, select_last_index: int = 0) -> Fact:
    place = normalize_axis(axis, data.rank)
    return tensor(INT64, _left(data.shape, place, bool(keepdims)))


def _left(shape: Sequence[DimLike], axis: int, keeps: bool) -> list[DimLike]:
    """Extents without that of ``axis``, which is 1 if it ``keeps`` its place."""
    return [*shape[:axis], *([1] if keeps else []), *shape[axis + 1 :]]


@ArgMax.kernel
def arg_max(data: Array, *, axis: int, keepdims: int, select_last_index: int = 0) -> Array:
    """Index of the greatest element along ``axis``, the first or, on request, the last of several.

    data[*A, N, *B] → reduced[*A, 1, *B], or [*A, *B] with keepdims=0. NaN counts as greatest.
    Raises ShapeError if the axis is empty. Source: ONNX ArgMax-13.
    """
    return _arg(np.argmax, data, axis, bool(keepdims), bool(select_last_index))


@ArgMin.kernel
def arg_min(data: Array, *, axis: int, keepdims: int, select_last_index: int = 0) -> Array:
    """Index of the least element along ``axis``, the first or, on request, the last of several.

    data[*A, N, *B] → reduced[*A, 1, *B], or [*A, *B] with keepdims=0. NaN counts as least.
    Raises ShapeError if the axis is empty. Source: ONNX ArgMin-13.
    """
    return _arg(np.argmin, data, axis, bool(keepdims), bool(select_last_index))


def _arg(
    find: Callable[..., Array], data: Array, axis: int, keeps: bool, takes_last: bool
) -> Array:
    axis = normalize_axis(axis, data.ndim)
    require(
        data.shape[axis] > 0,
        f"axis {axis} of data{shape_text(data.shape)} must have an element to choose from",
    )
    data = widened(data)
    if takes_last:
        found = data.shape[axis] - 1 - find(np.flip(data, axis), axis, keepdims=keeps)
    else:
        found = find(data, axis, keepdims=keeps)
    return np.asarray(found, np.int64)


@ArgMax.lower
def lower_arg_max(data: Tensor, *, axis: int, keepdims: int, select_last_index: int = 0) -> Tensor:
    return _lower_arg("max", data, axis, bool(keepdims), bool(select_last_index))


@ArgMin.lower
def lower_arg_min(data: Tensor, *, axis: int, keepdims: int, select_last_index: int = 0) -> Tensor:
    return _lower_arg("min", data, axis, bool(keepdims), bool(select_last_index))


def _lower_arg(op: str, data: Tensor, axis: int, keeps: bool, takes_last: bool) -> Tensor:
    """The least, or greatest, k where x[k] is the extreme; NaN counts as the extreme."""
    place = normalize_axis(axis, data.rank)
    x, extent = cast_tensor(data, wide_dtype(data.dtype)), data.shape[place]
    extreme = along(op, x, [place])
    choose, worst = ("max", index(-1)) if takes_last else ("min", index(extent))

    def at(*i: DimLike) -> Scalar:
        def candidate(k: DimLike) -> Scalar:
            value = x[merged(x.rank, [place], i, [k])]
            is_extreme = s.equal(value, extreme[i])
            if x.dtype.is_float:
                is_extreme = s.logical_or(is_extreme, s.isnan(value))
            return select(is_extreme, index(k), worst)

        return reduce(choose, extent, candidate)

    found = compute(extreme.shape, at)
    return with_units(found, [place]) if keeps else found


TopK = (
    op("TopK <axis: int = -1, k: int> (X: T) => (Values: T, Indices: I)", since=1, T=FLOAT, I=I64)
    .since(10, "TopK <axis: int = -1> (X: T, K: tensor(int64)) => (Values: T, Indices: I)")
    .since(11, """TopK <axis: int = -1, largest: int = 1, sorted: int = 1> (X: T, K:
                  tensor(int64)) => (Values: T, Indices: I)""", T=+INT)
    .since(24, T=+BF16)
)  # fmt: skip


@TopK.infer
def infer_top_k(
    X: Fact,
    K: Fact | None = None,
    *,
    axis: int,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
    node: InferNode,
) -> tuple[Fact, Fact]:
    place = normalize_axis(axis, X.rank)
    count: DimLike | None = k
    if K is not None:
        count = None if K.value is None else single(K.value, "K")
    if count is None:
        count = node.unknown("K is computed at run time")
    extent, wanted = known(X.shape[place]), known(count)
    require(
        wanted is None or (wanted >= 0 and (extent is None or wanted <= extent)),
        f"K must be in [0, {X.shape[place]}], the extent of axis {axis}, got {count}",
    )
    shape = (*X.shape[:place], count, *X.shape[place + 1 :])
    return tensor(X.dtype, shape), tensor(INT64, shape)


@TopK.kernel
def top_k(
    X: Array,
    K: Array | None = None,
    *,
    axis: int,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Array, Array]:
    """The K greatest, or least, elements along ``axis``, in order, and their indices.

    X[*A, N, *B] → Values, Indices[*A, K, *B]. Of equal elements the one with the lower index comes
    first; NaN counts as greatest. Raises ShapeError unless 0 ≤ K ≤ N. Source: ONNX TopK-11.
    """
    place = normalize_axis(axis, X.ndim)
    count = int(k if K is None else single(K, "K"))  # type: ignore[arg-type]
    extent = X.shape[place]
    require(
        0 <= count <= extent, f"K must be in [0, {extent}], the extent of axis {axis}, got {count}"
    )
    keys = widened(X).swapaxes(place, -1)
    if extent < SELECTED or not 0 < count <= extent // PART:
        chosen = _ranking(keys, bool(largest))[..., :count]
    else:
        found = [_foremost(row, count, bool(largest)) for row in keys.reshape(-1, extent)]
        chosen = np.array(found, np.int64).reshape(*keys.shape[:-1], count)
    chosen = np.ascontiguousarray(chosen.swapaxes(place, -1), np.int64)
    return np.take_along_axis(X, chosen, place), chosen


SELECTED, PART = 512, 4
"""Rows of ``SELECTED`` elements are sorted only where more than a ``PART``-th of them is wanted."""


def _ranking(keys: Array, is_largest: bool) -> Array:
    """Places along the last axis from the foremost element to the last; of equals the lower first.

    A stable sort of the reversed axis, read from the end, keeps lower places first too.
    """
    step = -1 if is_largest else 1
    order: Array = keys[..., ::step].argsort(-1, kind="stable")
    return keys.shape[-1] - 1 - order[..., ::step] if is_largest else order


GROUPS = 256
"""So many groups at least: extremes of long groups are found many groups at a time."""


def _foremost(row: Array, count: int, is_largest: bool) -> Array:
    """The first ``count`` places of the ranking of ``row``, of which few elements are sorted.

    Groups of elements have one extreme each; as many groups as ``count`` reach the bound, the one
    of these extremes with that rank, and so do ``count`` elements. None behind it is chosen, and
    nearly all that reach it are. If NaN is the bound, nothing is behind it, and all are sorted.
    """
    size = max(1, len(row) // max(PART * count, GROUPS))
    groups = len(row) // size
    members = row[: size * groups].reshape(size, groups)
    extremes = (np.maximum if is_largest else np.fmin).reduce(members)
    rank = groups - count if is_largest else count - 1
    extremes.partition(rank)
    is_behind = row < extremes[rank] if is_largest else row > extremes[rank]
    near: Array = (~is_behind).nonzero()[0]
    chosen: Array = near[_ranking(row[near], is_largest)[:count]]
    return chosen


RANKED = 64
"""So many elements are ranked by comparing each with all, if half of them are chosen."""
FEW = 31
"""Rows that are not longer are selected from like others: of 28 elements in a sixth to a third of
the time, as loops over them fill vectors badly."""


LONG = 256
"""Floats from which on a row of keys, which are made in a few operations of each, is not written
to be read again: 2,000 rows of 5,000 take 1.4 ms for 3.9. Keys of integers never are."""


@TopK.lower
def lower_top_k(
    X: Tensor,
    K: Tensor | None = None,
    *,
    axis: int,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
    node: LowerNode,
) -> tuple[Tensor, Tensor]:
    """The foremost keys of each row by selecting them; of short rows, by all ranks or in turn."""
    place = normalize_axis(axis, X.rank)
    return lower_foremost(X, place, node.shape()[place], is_largest=bool(largest))


def lower_foremost(
    X: Tensor, place: int, count: DimLike, *, is_largest: bool
) -> tuple[Tensor, Tensor]:
    """The first ``count`` elements of the ranking along an axis, and their places."""
    shape = (*X.shape[:place], count, *X.shape[place + 1 :])
    few, extent = known(count), known(X.shape[place])
    if few is not None and extent is not None and FEW < extent <= RANKED and 2 * few >= extent:
        return _by_ranks(X, place, few, is_largest=is_largest)
    if few == 1:
        return _first(X, place, is_largest=is_largest)
    places = _selected(X, place, count, is_largest=is_largest)

    def chosen(*i: DimLike) -> Scalar:
        return places[(*_beside(i, place), i[place])]

    def value(*i: DimLike) -> Scalar:
        return X[(*i[:place], gathered(chosen(*i), X.shape[place]), *i[place + 1 :])]

    return compute(shape, value), compute(shape, chosen)


def _first(X: Tensor, place: int, *, is_largest: bool) -> tuple[Tensor, Tensor]:
    """The least key of each row, and the least place that has it."""
    extent = X.shape[place]
    number = _short if (known(extent) or MOST_SHORT) < MOST_SHORT else index
    keys = compute(X.shape, lambda *i: sort_key(X[i], is_largest=is_largest))
    if X.buffer is None or (X.dtype.is_float and (known(extent) or 0) < LONG):
        keys = stored(keys, "keys")
    least = along("min", keys, [place])

    def position(*i: DimLike) -> Scalar:
        def candidate(at: DimLike) -> Scalar:
            key = keys[merged(X.rank, [place], _beside(i, place), [at])]
            is_least = apply("eq", key, least[_beside(i, place)])
            return select(is_least, number(at), number(extent))

        return reduce("min", extent, candidate)

    shape = (*X.shape[:place], 1, *X.shape[place + 1 :])
    return _at_places(X, place, stored(compute(shape, position), "places"))


def _at_places(X: Tensor, place: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """The elements at ``places`` along an axis, and these as they are told."""

    def value(*i: DimLike) -> Scalar:
        at = gathered(cast(places[i], INT64), X.shape[place])
        return X[merged(X.rank, [place], _beside(i, place), [at])]

    return compute(places.shape, value), compute(places.shape, lambda *i: cast(places[i], INT64))


def _by_ranks(X: Tensor, place: int, count: int, *, is_largest: bool) -> tuple[Tensor, Tensor]:
    """The rank of each element is how many come before it; the first ``count`` are looked up."""
    extent = X.shape[place]
    keys = stored(compute(X.shape, lambda *i: sort_key(X[i], is_largest=is_largest)), "keys")

    def rank(*i: DimLike) -> Scalar:
        def before(at: DimLike) -> Scalar:
            other, own = keys[merged(X.rank, [place], _beside(i, place), [at])], keys[i]
            is_first = apply("eq", other, own) & (_short(at) < _short(i[place]))
            return cast((other < own) | is_first, INT32)

        return reduce("sum", extent, before)

    ranks = stored(compute(X.shape, rank), "ranks")

    def position(*i: DimLike) -> Scalar:
        def candidate(at: DimLike) -> Scalar:
            found = ranks[merged(X.rank, [place], _beside(i, place), [at])]
            return select(apply("eq", found, _short(i[place])), _short(at), _short(extent))

        return reduce("min", extent, candidate)

    shape = (*X.shape[:place], count, *X.shape[place + 1 :])
    return _at_places(X, place, stored(compute(shape, position), "places"))


def _selected(X: Tensor, place: int, count: DimLike, *, is_largest: bool) -> Tensor:
    """The places of the first elements of each row, which is the last axis."""
    extent, rows = X.shape[place], _left(X.shape, place, keeps=False)

    def key(*i: DimLike) -> Scalar:
        return sort_key(X[(*i[:place], i[-1], *i[place:-1])], is_largest=is_largest)

    keys = stored(compute((*rows, extent), key), "keys")
    bits = keys.dtype.bits
    (places,) = routine(
        ranking_loops.select,
        math.prod(rows),
        [keys],
        [((*rows, count), INT64)],
        lambda row: (row * extent, row * count, extent, count, bits, int(X.dtype.is_float)),
        scratch=[(extent, INT64), (extent, INT64), (ranking_loops.BUCKETS, INT64)],
        operations=math.prod(rows) * (VISIT * extent + RANK * count),
    )
    return places


VISIT, RANK = 12, 1000
"""Operations that selecting takes for each element, and for each that is chosen, roughly."""


MOST_SHORT = 2**31
"""Places of which 32 bits do not hold one."""


def _short(d: DimLike) -> Scalar:
    """A place among few, in as many bits as most keys have."""
    return cast(index(d), INT32)


def _beside(i: tuple[DimLike, ...], place: int) -> tuple[DimLike, ...]:
    """The place along the other axes."""
    return (*i[:place], *i[place + 1 :])


def sort_key(x: Scalar, *, is_largest: bool) -> Scalar:
    """A signed integer, the least of the greatest or else of the least, as the kernel orders them.

    Zeros are equal and NaN is greatest. What ends in zeros does so with either sign: digits that
    all have in common are not sorted by.
    """
    turn = -1 if is_largest else 0
    if x.dtype.is_float:
        wide = FLOAT64 if x.dtype is FLOAT64 else FLOAT32
        number = cast(x, wide)
        bits = bitcast(number + 0.0, SAME_WIDTH[wide])  # of zeros the one without a sign
        least = -(2 ** (wide.bits - 1))
        if is_largest:
            key = select(bits < 0, bits ^ least, 0 - bits)
        else:
            key = select(bits < 0, least - bits, bits)
        return select(s.isnan(number), const(least ^ ~turn, bits.dtype), key)
    if x.dtype is UINT64:
        return bitcast(x, INT64) ^ (-(2**63) ^ turn)
    return cast(x, INT32 if x.dtype.bits < 32 or x.dtype is INT32 else INT64) ^ turn


SAME_WIDTH = {FLOAT32: INT32, FLOAT64: INT64}


@TopK.adapt(1, 10)
def top_k_1_to_10(node: Node, graph: Graph) -> None:
    count = np.array([node.attr("k")], np.int64)
    node.remove_attribute("k")
    node.set_input(1, stored_value(node, graph, count))


@TopK.adapt(10, 1)
def top_k_10_to_1(node: Node, graph: Graph) -> None:
    count = taken_input(node, graph, 1, "opset 1 takes k as an attribute")
    node.set_attribute("k", 0 if count is None else int(count.reshape(-1)[0]))


@TopK.adapt(11, 10)
def top_k_11_to_10(node: Node, _: Graph) -> None:
    if not node.attr("largest", 1):
        raise ConvertError("opset 10 finds the greatest elements only (largest=1)")
    node.remove_attribute("largest")
    node.remove_attribute("sorted")
