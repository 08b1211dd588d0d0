"""Parts of operators whose results are as long as data say: how many there are, and what is there.

Once it is known how many elements fulfil a condition, the rest of the work has extents like any
other. Sessions therefore take Compress, NonMaxSuppression, NonZero and Unique apart into operators
of this file (`passes.split_counted`); models have none of them. Each either says how many, of
results that have room for all that there may be, or is told.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.dtype import BOOL, FLOAT32, INT8, INT64
from fornix.ir.dim import DimLike, minimum
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
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
from fornix.ops import PART_DOMAIN, ranking_loops, search_loops
from fornix.ops.boxes import check_boxes, non_max_suppression
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.extremes import sort_key
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, single, unflattened
from fornix.ops.op import op
from fornix.ops.precision import wide_dtype
from fornix.ops.search import compress, non_zero, unique
from fornix.ops.types import BF16, NUMERIC
from fornix.ops.types import BOOL as TRUTHS

Count = op(
    "Count (X: T) => (count: tensor(int64))", since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | TRUTHS
)


@Count.infer
def infer_count(X: Fact) -> Fact:
    return tensor(INT64, ())


@Count.kernel
def count_(X: Array) -> Array:
    """How many elements of ``X`` are not zero."""
    return np.array(np.count_nonzero(X), np.int64)


@Count.lower
def lower_count(X: Tensor) -> Tensor:
    def total() -> Scalar:
        return reduce("sum", X.shape, lambda *k: cast(_differs(X[k]), INT64))

    return compute((), total)


def _differs(x: Scalar) -> Scalar:
    """Whether ``x`` is not zero."""
    return x if x.dtype is BOOL else apply("ne", cast(x, wide_dtype(x.dtype)), 0)


def told(count: Fact, node: InferNode) -> DimLike:
    """The number that ``count`` holds."""
    known: DimLike | None = None if count.value is None else single(count.value, "count")
    return node.unknown("how many there are is counted at run time") if known is None else known


Places = op(
    "Places (X: T, count: tensor(int64)) => (Y: tensor(int64))",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | TRUTHS,
)  # fmt: skip


@Places.infer
def infer_places(X: Fact, count: Fact, *, node: InferNode) -> Fact:
    return tensor(INT64, (X.rank, told(count, node)))


@Places.kernel
def places_(X: Array, count: Array) -> Array:
    """NonZero of an ``X`` with ``count`` elements that are not zero."""
    return non_zero(X)


@Places.lower
def lower_places(X: Tensor, count: Tensor, *, node: LowerNode) -> Tensor:
    shape = node.shape()
    found, extent = _listed(X, shape[1]), math.prod(X.shape)

    def at(axis: DimLike, k: DimLike) -> Scalar:
        if X.rank == 1:
            return found[k]
        parts = unflattened(gathered(found[k], extent), X.shape)
        if isinstance(axis, int):
            return index(parts[axis])
        value = index(parts[-1])
        for number, part in enumerate(parts[:-1]):
            value = select(apply("eq", index(axis), number), index(part), value)
        return value

    return compute(shape, at, INT64)


def _listed(x: Tensor, count: DimLike) -> Tensor:
    """The first ``count`` places in row-major order of elements that are not zero."""
    yes, no = const(-1, INT8), const(0, INT8)
    mask = stored(compute(x.shape, lambda *i: select(_differs(x[i]), yes, no)), "mask")
    extent = math.prod(x.shape)
    (places,) = routine(
        search_loops.list_places,
        1,
        [mask],
        [((count,), INT64)],
        lambda _: (extent, count),
        operations=extent,
    )
    return places


Chosen = op(
    """Chosen <axis: int?> (input: T, condition: tensor(bool), count: tensor(int64)) =>
           (output: T)""",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | TRUTHS,
)  # fmt: skip


@Chosen.infer
def infer_chosen(
    input: Fact, condition: Fact, count: Fact, *, axis: int | None = None, node: InferNode
) -> Fact:
    number = told(count, node)
    if axis is None:
        return tensor(input.dtype, (number,))
    place = normalize_axis(axis, input.rank)
    return tensor(input.dtype, (*input.shape[:place], number, *input.shape[place + 1 :]))


@Chosen.kernel
def chosen(input: Array, condition: Array, count: Array, *, axis: int | None = None) -> Array:
    """Compress of an ``input`` with a condition that holds ``count`` times."""
    return compress(input, condition, axis=axis)


@Chosen.lower
def lower_chosen(
    input: Tensor, condition: Tensor, count: Tensor, *, axis: int | None = None, node: LowerNode
) -> Tensor:
    shape = node.shape()
    place = 0 if axis is None else normalize_axis(axis, input.rank)
    found = _listed(condition, shape[place])

    def at(*i: DimLike) -> Scalar:
        if axis is None:
            where = gathered(found[i[0]], math.prod(input.shape))
            return input[unflattened(where, input.shape)]
        return input[(*i[:place], gathered(found[i[place]], input.shape[place]), *i[place + 1 :])]

    return compute(shape, at)


Front = op(
    "Front (X: T, count: tensor(int64)) => (Y: T)",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16 | TRUTHS,
)  # fmt: skip


@Front.infer
def infer_front(X: Fact, count: Fact, *, node: InferNode) -> Fact:
    return tensor(X.dtype, (told(count, node), *X.shape[1:]))


@Front.kernel
def front(X: Array, count: Array) -> Array:
    """The first ``count`` parts of ``X``."""
    return X[: int(single(count, "count"))]


@Front.lower
def lower_front(X: Tensor, count: Tensor, *, node: LowerNode) -> Tensor:
    return compute(node.shape(), lambda i, *rest: X[(gathered(index(i), X.shape[0]), *rest)])


Distinct = op(
    """Distinct <sorted: int = 1> (X: T) =>
           (first: tensor(int64), group: tensor(int64), counts: tensor(int64),
            number: tensor(int64))""",
    since=1, domain=PART_DOMAIN, T=NUMERIC | BF16,
)  # fmt: skip


@Distinct.infer
def infer_distinct(X: Fact, *, sorted: int) -> tuple[Fact, ...]:
    lists = tensor(INT64, X.shape)
    return lists, lists, lists, tensor(INT64, (1,))


@Distinct.kernel
def distinct(X: Array, *, sorted: int) -> tuple[Array, ...]:
    """What Unique says of a list, with zeros where others are no first ones."""
    _, first, group, counts = unique(X, sorted=sorted)
    rest = (0, len(X) - len(first))
    return np.pad(first, rest), group, np.pad(counts, rest), np.array([len(first)], np.int64)


@Distinct.lower
def lower_distinct(X: Tensor, *, sorted: int) -> tuple[Tensor, ...]:
    keys = stored(compute(X.shape, lambda i: sort_key(X[i], is_largest=False)), "keys")
    (extent,) = X.shape
    lists = [((extent,), INT64)] * 3
    return routine(
        search_loops.list_distinct,
        1,
        [keys],
        [*lists, ((1,), INT64)],
        lambda _: (extent, sorted),
        scratch=[(extent, INT64), (extent, INT64), (ranking_loops.DIGITS, INT64)],
        operations=VISIT * extent,
    )


Suppressed = op(
    """Suppressed <center_point_box: int = 0>
           (boxes: tensor(float), scores: tensor(float), limit: tensor(int64),
            overlap: tensor(float), floor: tensor(float)?) =>
           (rows: tensor(int64), number: tensor(int64))""",
    since=1, domain=PART_DOMAIN,
)  # fmt: skip


@Suppressed.infer
def infer_suppressed(
    boxes: Fact,
    scores: Fact,
    limit: Fact,
    overlap: Fact,
    floor: Fact | None = None,
    *,
    center_point_box: int,
    node: InferNode,
) -> tuple[Fact, Fact]:
    check_boxes(boxes.shape, scores.shape)
    images, classes, count = scores.shape
    most = minimum(told(limit, node), count)
    return tensor(INT64, (images * classes * most, 3)), tensor(INT64, (1,))


@Suppressed.kernel
def suppressed(
    boxes: Array,
    scores: Array,
    limit: Array,
    overlap: Array,
    floor: Array | None = None,
    *,
    center_point_box: int,
) -> tuple[Array, Array]:
    """What NonMaxSuppression selects, and zeros behind it; and how many rows that is."""
    args = (boxes, scores, limit, overlap, floor)
    rows = non_max_suppression(*args, center_point_box=center_point_box)
    most = min(int(single(limit, "limit")), scores.shape[2])
    room = math.prod(scores.shape[:2]) * most
    number = np.array([len(rows)], np.int64)
    return np.pad(rows, ((0, room - len(rows)), (0, 0))), number


@Suppressed.lower
def lower_suppressed(
    boxes: Tensor,
    scores: Tensor,
    limit: Tensor,
    overlap: Tensor,
    floor: Tensor | None = None,
    *,
    center_point_box: int,
    node: LowerNode,
) -> tuple[Tensor, ...]:
    images, classes, count = scores.shape
    shape, groups = node.shape(), images * classes
    most = minimum(node.required(2)[0], count)
    corners = stored(_corners(boxes, is_centered=bool(center_point_box)), "corners")

    def key(*i: DimLike) -> Scalar:
        least = None if floor is None else floor[(0,) * floor.rank]
        return _score_key(scores[i], least)

    keys = stored(compute(scores.shape, key), "keys")
    bound = stored(compute((1,), lambda _: overlap[(0,) * overlap.rank]), "overlap")
    bits, room = keys.dtype.bits, search_loops.CORNERS * count
    return routine(
        search_loops.suppress,
        1,
        [corners, keys, bound],
        [(shape, INT64), ((1,), INT64)],
        lambda _: (groups, classes, count, most, NONE, bits),
        scratch=[*[(count, INT64)] * 3, (ranking_loops.BUCKETS, INT64), (room, FLOAT32)],
        operations=VISIT * groups * count,
    )


LAST, NONE = 2**31 - 2, 2**31 - 1
"""Keys of scores that are no numbers, and of those that are too low."""
VISIT = 20
"""Operations for each element, roughly."""


def _score_key(score: Scalar, floor: Scalar | None) -> Scalar:
    """A key that is least for the best score; of one that is no number it is the last of all."""
    key = sort_key(score, is_largest=True)
    if floor is not None:
        return select(apply("lt", floor, score), key, const(NONE, key.dtype))
    return select(apply("ne", score, score), const(LAST, key.dtype), key)


def _corners(boxes: Tensor, *, is_centered: bool) -> Tensor:
    """Boxes as their lower and upper ends along both axes: like `boxes.corners`."""

    def at(n: DimLike, k: DimLike, c: DimLike) -> Scalar:
        axis = c % 2
        one, other = boxes[n, k, axis], boxes[n, k, axis + 2]
        is_low = apply("lt", index(c), 2)
        if is_centered:
            half = other * 0.5
            return select(is_low, one - half, one + half)
        return select(is_low, apply("min", one, other), apply("max", one, other))

    return compute((*boxes.shape[:2], 4), at)
