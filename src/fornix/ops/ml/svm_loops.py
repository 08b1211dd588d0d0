"""Support vector machines as loops: similarities by tables, votes by counting, and a routine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from fornix.dtype import FLOAT64
from fornix.ir.dim import DimLike, known
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
from fornix.ir.loops.routines import Memory, after, routine
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.ml.scores import first_maximum, logistic, lower_rows
from fornix.ops.precision import cast_tensor

ROUNDS = 100
"""Iterations after which the coupling of pairwise probabilities gives up, as in libsvm."""

COUPLING_ERROR = 0.005
"""Error at which it stops, divided by the number of classes, as in libsvm."""

LEAST_PROBABILITY = 1e-7
"""Pairwise probabilities stay so far from 0 and 1, as in libsvm."""


def wide_rows(x: Tensor, node: LowerNode) -> Tensor:
    """The rows of features in float64; declines if their number is not known."""
    if known(x.shape[-1]) is None:
        node.decline("the number of features is known at run time only")
    return cast_tensor(lower_rows(x), FLOAT64)


def linear(rows: Tensor, matrix: Array, offsets: Array) -> Tensor:
    """rows[N, F] · matrix[E, F]ᵀ + offsets[E] → [N, E], in float64."""
    weights, shifts = constant(matrix.T.astype(np.float64)), constant(offsets.astype(np.float64))

    def at(n: DimLike, e: DimLike) -> Scalar:
        return reduce("sum", matrix.shape[1], lambda k: rows[n, k] * weights[k, e]) + shifts[e]

    return compute((rows.shape[0], matrix.shape[0]), at)


def lower_similarity(rows: Tensor, support: Array, kind: str, params: Sequence[float]) -> Tensor:
    """`svm._similarity` for lowerings, the arguments being checked.

    It lies in memory, as what each row adds to it does: what is left to sum are products alone.
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
    products = linear(rows, support, np.zeros(count))
    if kind == "LINEAR":
        return products

    def at(n: DimLike, v: DimLike) -> Scalar:
        inner = gamma * products[n, v] + constant_term
        return apply("tanh", inner) if kind == "SIGMOID" else apply("pow", inner, degree)

    return stored(compute(products.shape, at), "similar")


def pair_weights(weights: Array, per_class: Sequence[int]) -> Array:
    """For every pair of classes i < j the weights of all support vectors, see `svm._decisions`."""
    stops = np.cumsum(per_class)
    table = weights.reshape(len(per_class) - 1, -1)
    parts = [slice(stop - n, stop) for stop, n in zip(stops, per_class, strict=True)]
    pairs = list(combinations(range(len(per_class)), 2))
    matrix = np.zeros((len(pairs), table.shape[1]))
    for row, (i, j) in zip(matrix, pairs, strict=True):
        row[parts[i]] += table[j - 1, parts[i]]
        row[parts[j]] += table[i, parts[j]]
    return matrix


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
