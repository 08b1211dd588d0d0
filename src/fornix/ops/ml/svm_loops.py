"""Support vector machines as loops: similarities by tables, votes by counting, and a routine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64
from fornix.ir.dim import DimLike
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    compute,
    const,
    constant,
    index,
    reduce,
    select,
    stored,
)
from fornix.ir.loops.routines import Memory, after, lanes, put_lanes, routine
from fornix.ops.fact import Array
from fornix.ops.ml.scores import first_maximum, logistic, lower_rows, of_features
from fornix.ops.precision import cast_tensor

ROUNDS = 100
"""Iterations after which the coupling of pairwise probabilities gives up, as in libsvm."""

COUPLING_ERROR = 0.005
"""Error at which it stops, divided by the number of classes, as in libsvm."""

LEAST_PROBABILITY = 1e-7
"""Pairwise probabilities stay so far from 0 and 1, as in libsvm."""


def wide_rows(x: Tensor, features: int) -> Tensor:
    """The rows of features, of which there are as many as a table says, in float64."""
    return cast_tensor(of_features(lower_rows(x), features), FLOAT64)


def linear(rows: Tensor, matrix: Array, offsets: Array) -> Tensor:
    """rows[N, F] · matrix[E, F]ᵀ + offsets[E] → [N, E], in the precision of the rows."""
    dtype = rows.dtype.numpy
    weights, shifts = constant(matrix.T.astype(dtype)), constant(offsets.astype(dtype))

    def at(n: DimLike, e: DimLike) -> Scalar:
        return reduce("sum", matrix.shape[1], lambda k: rows[n, k] * weights[k, e]) + shifts[e]

    return compute((rows.shape[0], matrix.shape[0]), at)


def lower_similarity(
    rows: Tensor, support: Array, kind: str, params: Sequence[float], *, is_read_once: bool
) -> Tensor:
    """`svm._similarity` for lowerings, the arguments being checked.

    It lies in memory, as what each row adds to it does: what is left to sum are products alone.
    Of few features a power takes less time than memory, if it is read but once.
    """
    gamma, constant_term, degree = params
    count, features = support.shape
    if kind == "RBF":
        squares = linear(rows, -2 * support, np.square(support).sum(axis=1))
        own = stored(
            compute(
                rows.shape[:1],
                lambda n: reduce("sum", features, lambda k: rows[n, k] * rows[n, k]),
            ),
            "squares",
        )

        def near(n: DimLike, v: DimLike) -> Scalar:
            distance = apply("max", own[n] + squares[n, v], 0.0)
            is_infinite = apply("eq", own[n], math.inf)
            return apply("exp", -gamma * select(is_infinite, const(math.inf, FLOAT64), distance))

        return stored(compute(squares.shape, near), "similar")
    if kind == "SIGMOID":
        # What comes of it lies between −1 and 1; in float64 it takes three times as long. Rows are
        # stored, as each product would convert them anew.
        rows = stored(cast_tensor(rows, FLOAT32), "rows")
    products = linear(rows, support, np.zeros(count))
    if kind == "LINEAR":
        return products

    def at(n: DimLike, v: DimLike) -> Scalar:
        inner = gamma * products[n, v] + constant_term
        return apply("tanh", inner) if kind == "SIGMOID" else apply("pow", inner, degree)

    similar = compute(products.shape, at)
    if kind == "SIGMOID" or features > NARROW or not is_read_once:
        similar = stored(similar, "similar")
    return cast_tensor(similar, FLOAT64)


LANES = 8
"""Rows of weights that are summed side by side."""
TOGETHER = 4
"""Rows of similarities that go through the weights together, so that none waits for its sums."""


def decided(similar: Tensor, weights: Array, offsets: Array, per_class: Sequence[int]) -> Tensor:
    """`svm._decisions` for lowerings: similar[N, V] → [N, pairs of classes]; one of one class."""
    table = weights.reshape(-1, sum(per_class)).astype(np.float64)
    if len(per_class) <= 2:
        return linear(similar, table, offsets)
    classes, count = len(per_class), table.shape[1]
    width = -(-(classes - 1) // LANES) * LANES
    # The last row is what sums begin with.
    lined = np.zeros((count + 1, width))
    lined[:count, : classes - 1] = table.T
    starts = np.cumsum([0, *per_class])
    rows = similar.shape[0]
    shape = (rows, len(offsets))
    (decisions,) = routine(
        sum_pairs,
        (rows + TOGETHER - 1) // TOGETHER,
        [stored(similar, "similar"), *map(constant, (lined, starts, offsets.astype(np.float64)))],
        [(shape, FLOAT64)],
        lambda call: (call * TOGETHER, rows, classes, count, width),
        scratch=[(TOGETHER * classes * width, FLOAT64)],
        operations=rows * (count * width),
    )
    return decisions


def sum_pairs(
    similar: Memory,
    weights: Memory,
    starts: Memory,
    offsets: Memory,
    decisions: Memory,
    sums: Memory,
    first: int,
    rows: int,
    classes: int,
    count: int,
    width: int,
) -> None:
    """The decisions of some rows: for a pair of classes, what the vectors of both give to it.

    Vectors of other classes have no part in it: what is infinite there would make it no number.
    """
    a, b = after(similar, first * count), after(similar, min(first + 1, rows - 1) * count)
    c = after(similar, min(first + 2, rows - 1) * count)
    d = after(similar, min(first + 3, rows - 1) * count)
    each = classes * width
    for own in range(classes):
        for line in range(0, width, LANES):
            e = lanes(weights, count * width + line, LANES)
            f, g, h = e, e, e
            for v in range(starts[own], starts[own + 1]):
                weight = lanes(weights, v * width + line, LANES)
                e = e + weight * a[v]
                f = f + weight * b[v]
                g = g + weight * c[v]
                h = h + weight * d[v]
            to = own * width + line
            put_lanes(sums, to, e)
            put_lanes(sums, to + each, f)
            put_lanes(sums, to + 2 * each, g)
            put_lanes(sums, to + 3 * each, h)
    for row in range(min(rows - first, TOGETHER)):
        add_pairs(after(sums, row * each), offsets, decisions, (first + row), classes, width)


def add_pairs(
    sums: Memory, offsets: Memory, decisions: Memory, row: int, classes: int, width: int
) -> None:
    """For every pair of classes i < j what i's vectors give to j − 1, j's to i, and its offset."""
    pair = 0
    to = row * (classes * (classes - 1) // 2)
    for i in range(classes):
        for j in range(i + 1, classes):
            both = sums[i * width + j - 1] + sums[j * width + i]
            decisions[to + pair] = both + offsets[pair]
            pair += 1


def lower_decisions(
    rows: Tensor,
    support: Array,
    kind: str,
    params: Sequence[float],
    weights: Array,
    offsets: Array,
    per_class: Sequence[int],
) -> Tensor:
    """Decisions of every pair of classes, or of a machine of one: rows[N, F] → [N, P].

    Vectors of linear machines are summed ahead of all rows where that is less work.
    """
    ahead = _summed(support, weights.astype(np.float64), per_class) if kind == "LINEAR" else None
    if ahead is None:
        is_read_once = len(per_class) <= 2
        similar = lower_similarity(rows, support, kind, params, is_read_once=is_read_once)
        return decided(similar, weights, offsets, per_class)
    decisions = linear(rows, ahead, offsets)

    def nothing(n: DimLike) -> Scalar:
        return reduce("sum", support.shape[1], lambda k: rows[n, k] - rows[n, k])

    beside = stored(compute(rows.shape[:1], nothing), "nothing")
    return compute(decisions.shape, lambda n, p: decisions[n, p] + beside[n])


def _summed(support: Array, weights: Array, per_class: Sequence[int]) -> Array | None:
    """Each pair's sum of vectors [P, F]; None if that is more to multiply, or means something else.

    An infinite feature makes decisions no numbers where it adds to them with both signs, as it does
    in any machine of many vectors.
    """
    if len(per_class) * (len(per_class) - 1) // 2 > len(support):
        return None
    sums = list[Array]()
    for table, chosen in _pairs(weights, per_class):
        terms = table[:, None] * support[chosen]
        if not ((terms >= 0).any(axis=0) & (terms <= 0).any(axis=0)).all():
            return None
        sums.append(terms.sum(axis=0))
    return np.stack(sums)


def _pairs(weights: Array, per_class: Sequence[int]) -> Iterator[tuple[Array, Array]]:
    """Of each pair of classes the weights that count, and the numbers of their vectors.

    A single class is a machine of its own, with all vectors.
    """
    ends = np.cumsum(per_class)
    parts = [np.arange(end - n, end) for end, n in zip(ends, per_class, strict=True)]
    if len(parts) == 1:
        yield weights, parts[0]
    table = weights.reshape(-1, ends[-1])
    for i, j in combinations(range(len(parts)), 2):
        own, other = table[j - 1, parts[i]], table[i, parts[j]]
        yield np.concatenate([own, other]), np.concatenate([parts[i], parts[j]])


def most_votes(decisions: Tensor, classes: int) -> Tensor:
    """`svm._most_votes` for lowerings."""
    pairs = np.array(list(combinations(range(classes), 2)), np.int64).reshape(-1, 2)
    table = constant(pairs)

    def votes(n: DimLike, c: DimLike) -> Scalar:
        def vote(p: DimLike) -> Scalar:
            winner = select(decisions[n, p] > 0, table[p, 0], table[p, 1])
            return select(apply("eq", winner, index(c)), index(1), index(0))

        return reduce("sum", len(pairs), vote)

    return first_maximum(compute((decisions.shape[0], classes), votes))


def linear_winners(scores: Tensor, classes: int, *, is_positive: bool) -> Tensor:
    """The class that wins by linear scores; of two, the second as `svm._linear_classes` says."""
    winners = first_maximum(scores)
    if classes != 2:
        return winners

    def at(n: DimLike) -> Scalar:
        best = apply("max", scores[n, 0], scores[n, 1])
        wins = best >= 0.5 if is_positive else best > 0
        return select(wins, index(1), winners[n])

    return compute(winners.shape, at)


def linear_logistic(decisions: Tensor, factors: Array, offsets: Array) -> Tensor:
    """σ(−(decisions · factors + offsets)), which are the probabilities of pairs of classes."""
    a, b = constant(factors.astype(np.float64)), constant(offsets.astype(np.float64))

    def at(n: DimLike, p: DimLike) -> Scalar:
        value = logistic(-(decisions[n, p] * a[p] + b[p]))
        return apply("min", apply("max", value, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)

    return compute(decisions.shape, at)


def coupled(pairs: Tensor, classes: int) -> Tensor:
    """`svm._coupled` for lowerings, of probabilities that are not too near to 0 and 1."""
    rows, count = pairs.shape
    bounds = constant(np.array([1 / classes, COUPLING_ERROR / classes, 0.0]))
    (fitted,) = routine(
        couple,
        rows,
        [stored(pairs, "pairs"), bounds],
        [((rows, classes), FLOAT64)],
        lambda row: (row, classes, count),
        scratch=[(classes * classes, FLOAT64), (classes, FLOAT64)],
        operations=rows * (TYPICAL_ROUNDS * classes * classes),
    )
    return fitted


NARROW = 16
"""Features up to which products of rows and vectors need not be computed in tiles."""

TYPICAL_ROUNDS = 20
"""Operations for each pair of classes, roughly: five rounds."""


def couple(
    pairs: Memory,
    bounds: Memory,
    fitted: Memory,
    q: Memory,
    gradient: Memory,
    row: int,
    classes: int,
    count: int,
) -> None:
    """Probabilities of the classes that fit those of a row's pairs best.

    ``bounds`` are what each begins with, the error at which to stop, and nothing.
    """
    p = after(fitted, row * classes)
    pair_terms(after(pairs, row * count), q, classes, bounds[2])
    for t in range(classes):
        p[t] = bounds[0]
    for _ in range(ROUNDS):
        value = bounds[2]
        for t in range(classes):
            total = bounds[2]
            for k in range(classes):
                total += q[t * classes + k] * p[k]
            gradient[t] = total
            value += p[t] * total
        is_far = 0
        for t in range(classes):
            if gradient[t] - value >= bounds[1] or value - gradient[t] >= bounds[1]:
                is_far = 1
        if is_far == 0:
            break
        for t in range(classes):
            own = q[t * classes + t]
            step = (value - gradient[t]) / own
            scale = 1.0 + step
            value = (value + step * (step * own + 2.0 * gradient[t])) / (scale * scale)
            p[t] += step
            for k in range(classes):
                gradient[k] = (gradient[k] + step * q[t * classes + k]) / scale
                p[k] = p[k] / scale


def pair_terms(pairs: Memory, q: Memory, classes: int, nothing: float) -> None:
    """The matrix q of `couple`: −r_ij · r_ji, and on its diagonal Σ r_ji²."""
    for t in range(classes):
        q[t * classes + t] = nothing
    at = 0
    for i in range(classes):
        for j in range(i + 1, classes):
            r = pairs[at]
            rest = 1.0 - r
            q[i * classes + j] = nothing - r * rest
            q[j * classes + i] = nothing - r * rest
            q[i * classes + i] += rest * rest
            q[j * classes + j] += r * r
            at += 1
