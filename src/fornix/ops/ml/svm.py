"""Support vector machines: SVMClassifier and SVMRegressor, with or without support vectors.

Everything is computed in float64 and rounded once to the float32 that the standard wants: distances
in the RBF kernel cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import require
from fornix.ir.loops import Tensor, cast, compute, stored
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.ml.scores import (
    check_features,
    check_transform,
    float_attribute,
    label_dtype,
    labelled,
    labels_of,
    logistic,
    lower_transformed,
    lower_two_scores,
    row_count,
    rows_of,
    transformed,
    two_scores,
)
from fornix.ops.ml.svm_loops import (
    COUPLING_ERROR,
    LEAST_PROBABILITY,
    ROUNDS,
    coupled,
    linear,
    linear_logistic,
    linear_winners,
    lower_decisions,
    most_votes,
    wide_rows,
)
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.types import F32, F64, I32, I64, STRING
from fornix.ops.window import plain

KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")

SVMClassifier = op(
    """SVMClassifier <classlabels_ints: ints?, classlabels_strings: strings?,
                      coefficients: floats?, kernel_params: floats?,
                      kernel_type: string = "LINEAR", post_transform: string = "NONE",
                      prob_a: floats?, prob_b: floats?, rho: floats?, support_vectors: floats?,
                      vectors_per_class: ints?>
                     (X: T1) => (Y: T2, Z: tensor(float))""",
    since=1, domain="ai.onnx.ml", T1=F32 | F64 | I32 | I64, T2=STRING | I64,
)  # fmt: skip


@SVMClassifier.infer
def infer_svm_classifier(
    X: Fact,
    *,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    vectors_per_class: list[int] | None = None,
    prob_a: list[float] | None = None,
    post_transform: str,
    **_: object,
) -> tuple[Fact, Fact]:
    check_transform(post_transform)
    classes = len(labels_of(classlabels_ints, classlabels_strings))
    rows = row_count(X) if X.has_rank else None
    is_pairwise = sum(vectors_per_class or ()) > 0 and not prob_a
    scores = max(classes * (classes - 1) // 2, 2) if is_pairwise else classes
    return tensor(label_dtype(classlabels_strings), [rows]), tensor(FLOAT32, [rows, scores])


@SVMClassifier.kernel
def svm_classifier(
    X: Array,
    *,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    coefficients: list[float] | None = None,
    kernel_params: list[float] | None = None,
    kernel_type: str,
    post_transform: str,
    prob_a: list[float] | None = None,
    prob_b: list[float] | None = None,
    rho: list[float] | None = None,
    support_vectors: list[float] | None = None,
    vectors_per_class: list[int] | None = None,
    node: RunNode,
) -> tuple[Array, Array]:
    """The class that wins most comparisons of pairs of classes, and the scores.

    X[N, F] → Y[N], Z[N, E·(E − 1)/2] decisions per pair, or with prob_a and prob_b Z[N, E], their
    probabilities coupled. Two classes without those: Z[N, 2] = [−s, s], as in onnxruntime.
    Decisions: Σ coefficients · K(X, support_vectors) + rho, with K linear, (γ·x·s + c)ᵈ,
    exp(−γ·|x − s|²) or tanh(γ·x·s + c), where kernel_params is γ, c, d. Without vectors_per_class
    scores are linear, X·coefficientsᵀ + rho, and the largest wins. Computes in float64.
    Sources: ONNX ai.onnx.ml SVMClassifier-1; Wu, Lin and Weng, "Probability estimates for
    multi-class classification by pairwise coupling", 2004, algorithm 2.
    """
    check_transform(post_transform)
    rows = rows_of(X).astype(np.float64, copy=False)
    labels = labels_of(classlabels_ints, classlabels_strings)
    weights, vectors = node.once(lambda: _tables(coefficients, support_vectors))
    offsets, count = float_attribute(rho), len(labels)
    if not sum(vectors_per_class or ()):
        return _linear_classes(rows, labels, weights, offsets, post_transform)
    per_class = vectors_per_class or []
    _check_machine(count, weights.size, offsets.size, per_class, prob_a, prob_b)
    similar = _similarity(rows, vectors, sum(per_class), kernel_type, kernel_params)
    decisions = np.stack(list(_decisions(similar, weights, offsets, per_class)), axis=1)
    winners = _most_votes(decisions, count)
    if prob_a:
        pairs = logistic(-(decisions * float_attribute(prob_a) + float_attribute(prob_b)))
        z = transformed(_coupled(pairs, count), post_transform)
    elif count == 2:
        z = two_scores(decisions[:, 0], post_transform, is_margin=post_transform == "NONE")
    else:
        z = transformed(decisions, post_transform)
    return labels[winners], z.astype(np.float32)


@SVMClassifier.lower
def lower_svm_classifier(
    X: Tensor,
    *,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    coefficients: list[float] | None = None,
    kernel_params: list[float] | None = None,
    kernel_type: str,
    post_transform: str,
    prob_a: list[float] | None = None,
    prob_b: list[float] | None = None,
    rho: list[float] | None = None,
    support_vectors: list[float] | None = None,
    vectors_per_class: list[int] | None = None,
    node: LowerNode,
) -> tuple[Tensor, Tensor]:
    check_transform(post_transform)
    labels = labels_of(classlabels_ints, classlabels_strings)
    weights, vectors = _tables(coefficients, support_vectors)
    offsets, count, per_class = float_attribute(rho), len(labels), vectors_per_class or []
    rows = wide_rows(X, _features(vectors, sum(per_class), weights.size // max(count, 1)))
    features = plain(rows.shape[1])
    if not sum(per_class):
        _check_weights(weights.size, count, features)
        require(offsets.size > 0, "rho must have an entry, found none")
        matrix = weights.reshape(count, features)
        scores = stored(linear(rows, matrix, np.full(count, offsets[0])), "scores")
        winners = linear_winners(scores, count, is_positive=bool((weights >= 0).all()))
        return labelled(winners, labels), cast_tensor(
            lower_transformed(scores, post_transform), FLOAT32
        )
    _check_machine(count, weights.size, offsets.size, per_class, prob_a, prob_b)
    support = _support(vectors, sum(per_class), features, kernel_type, kernel_params)
    params = kernel_params or NO_PARAMS
    machine = support, kernel_type, params, weights, offsets, per_class
    decisions = stored(lower_decisions(rows, *machine), "decisions")
    if prob_a:
        pairs = linear_logistic(decisions, float_attribute(prob_a), float_attribute(prob_b))
        z = lower_transformed(coupled(pairs, count), post_transform)
    elif count == 2:
        score = compute(decisions.shape[:1], lambda n: decisions[n, 0])
        z = lower_two_scores(score, post_transform, is_margin=post_transform == "NONE")
    else:
        z = lower_transformed(decisions, post_transform)
    return labelled(most_votes(decisions, count), labels), cast_tensor(z, FLOAT32)


def _linear_classes(
    rows: Array, labels: Array, weights: Array, offsets: Array, transform: str
) -> tuple[Array, Array]:
    """Linear scores of every class. Of two classes the second wins as in onnxruntime.

    That is when the largest score of either is positive, or at least ½ if no weight is negative.
    """
    count, features = len(labels), rows.shape[1]
    _check_weights(weights.size, count, features)
    require(offsets.size > 0, "rho must have an entry, found none")
    scores = rows @ weights.reshape(count, features).T + offsets[0]
    winners = scores.argmax(axis=1)
    if count == 2:
        best = scores.max(axis=1)
        wins = best >= 0.5 if (weights >= 0).all() else best > 0
        winners = np.where(wins, 1, winners)
    return labels[winners], transformed(scores, transform).astype(np.float32)


def _check_weights(found: int, rows: int, columns: int) -> None:
    require(
        found == rows * columns and found > 0,
        f"coefficients must hold {rows} rows of {columns}, got {found}",
    )


def _check_machine(
    classes: int,
    weights: int,
    offsets: int,
    per_class: Sequence[int],
    prob_a: Sequence[float] | None,
    prob_b: Sequence[float] | None,
) -> None:
    """Raise ShapeError unless the attributes describe one machine per pair of classes."""
    require(classes >= 2, f"classes must be two or more to be compared, got {classes}")
    require(
        len(per_class) == classes and min(per_class) >= 0,
        f"vectors_per_class must have one entry ≥ 0 per class ({classes}), got {list(per_class)}",
    )
    _check_weights(weights, classes - 1, sum(per_class))
    pairs = classes * (classes - 1) // 2
    for name, found in (("rho", offsets), ("prob_a", len(prob_a or ()))):
        require(
            found == pairs or (name == "prob_a" and not found),
            f"{name} must have one entry per pair of classes ({pairs}), got {found}",
        )
    require(
        len(prob_a or ()) == len(prob_b or ()),
        f"prob_b must have as many entries as prob_a ({len(prob_a or ())}), "
        f"got {len(prob_b or ())}",
    )


def _tables(
    coefficients: Sequence[float] | None, vectors: Sequence[float] | None
) -> tuple[Array, Array]:
    """Coefficients and support vectors, flat."""
    return float_attribute(coefficients, np.float64), float_attribute(vectors, np.float64)


def _similarity(
    rows: Array,
    vectors: Array,
    count: int,
    kind: str,
    params: Sequence[float] | None,
) -> Array:
    """K(row, support vector) of every pair: rows[N, F] · vectors[count, F] → [N, count]."""
    support = _support(vectors, count, rows.shape[1], kind, params)
    gamma, constant, degree = params or NO_PARAMS
    products = rows @ support.T
    if kind == "RBF":
        own = np.square(rows).sum(axis=1)[:, None]
        distances = np.maximum(own + np.square(support).sum(axis=1) - 2 * products, 0)
        # Nothing is near what is infinite: its products with vectors are no numbers.
        return np.asarray(np.exp(-gamma * np.where(own == np.inf, np.inf, distances)))
    if kind == "LINEAR":
        return np.asarray(products)
    inner = gamma * products + constant
    return np.asarray(np.tanh(inner) if kind == "SIGMOID" else inner**degree)


NO_PARAMS = (0.0, 0.0, 0.0)
"""gamma, coef0 and degree where kernel_params is absent."""


def _features(vectors: Array, count: int, linear: int) -> int:
    """How many features ``count`` vectors have, or weights if there are none."""
    return vectors.size // count if count > 0 else linear


def _support(
    vectors: Array, count: int, features: int, kind: str, params: Sequence[float] | None
) -> Array:
    """The support vectors [count, F]; raises ShapeError unless the attributes fit."""
    require(kind in KERNELS, f"kernel_type must be one of {', '.join(KERNELS)}, got {kind!r}")
    require(
        len(params or ()) in {0, 3},
        f"kernel_params must be gamma, coef0 and degree, got {len(params or ())} entries",
    )
    require(
        vectors.size % count == 0,
        f"support_vectors must hold {count} rows of features, got {vectors.size} entries",
    )
    check_features((features,), vectors.size // count)
    return vectors.reshape(count, vectors.size // count)


def _decisions(
    similar: Array, weights: Array, offsets: Array, per_class: Sequence[int]
) -> Iterator[Array]:
    """The decision of every pair of classes i < j, positive for i: each [N].

    Row j − 1 of the weights holds those of class i's vectors against j, row i those of j's.
    """
    stops = np.cumsum(per_class)
    table = weights.reshape(len(per_class) - 1, -1)
    parts = [slice(stop - n, stop) for stop, n in zip(stops, per_class, strict=True)]
    for index, (i, j) in enumerate(combinations(range(len(per_class)), 2)):
        own = similar[:, parts[i]] @ table[j - 1, parts[i]]
        yield own + similar[:, parts[j]] @ table[i, parts[j]] + offsets[index]


def _most_votes(decisions: Array, classes: int) -> Array:
    """The class that wins most pairs of every row; the first of equals."""
    votes = np.zeros((len(decisions), classes), np.int64)
    for index, (i, j) in enumerate(combinations(range(classes), 2)):
        is_first = decisions[:, index] > 0
        votes[:, i] += is_first
        votes[:, j] += ~is_first
    return np.asarray(votes.argmax(axis=1))


def _coupled(pairs: Array, classes: int) -> Array:
    """Probabilities[N, E] of the classes that fit the probabilities of pairs[N, E·(E − 1)/2] best.

    Minimises Σ (r_ji·p_i − r_ij·p_j)² over p with Σ p = 1, one class after the other; a row rests
    as soon as it is close enough.
    """
    pairs = np.clip(pairs, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    r = np.zeros((len(pairs), classes, classes))
    for index, (i, j) in enumerate(combinations(range(classes), 2)):
        r[:, i, j], r[:, j, i] = pairs[:, index], 1 - pairs[:, index]
    q = -r * r.swapaxes(1, 2)
    q[:, np.arange(classes), np.arange(classes)] = np.square(r).sum(axis=1)
    p = np.full((len(pairs), classes), 1 / classes)
    going = np.arange(len(pairs))
    for _ in range(ROUNDS):
        gradient = (q[going] @ p[going][:, :, None])[:, :, 0]
        value = (p[going] * gradient).sum(axis=1)
        far = np.abs(gradient - value[:, None]).max(axis=1) >= COUPLING_ERROR / classes
        going, gradient, value = going[far], gradient[far], value[far]
        if not going.size:
            break
        p[going] = _coupling_round(q[going], p[going], gradient, value)
    return p


def _coupling_round(q: Array, p: Array, gradient: Array, value: Array) -> Array:
    """One pass over the classes: each moves to its optimum, and all are scaled to sum 1."""
    for t in range(p.shape[1]):
        own = q[:, t, t]
        step = (value - gradient[:, t]) / own
        scale = 1 + step
        value = (value + step * (step * own + 2 * gradient[:, t])) / scale**2
        gradient = (gradient + step[:, None] * q[:, t]) / scale[:, None]
        p[:, t] += step
        p /= scale[:, None]
    return p


SVMRegressor = op(
    """SVMRegressor <coefficients: floats?, kernel_params: floats?,
                     kernel_type: string = "LINEAR", n_supports: int = 0, one_class: int = 0,
                     post_transform: string = "NONE", rho: floats?, support_vectors: floats?>
                    (X: T) => (Y: tensor(float))""",
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip


@SVMRegressor.infer
def infer_svm_regressor(X: Fact, *, post_transform: str, **_: object) -> Fact:
    check_transform(post_transform)
    return tensor(FLOAT32, [row_count(X) if X.has_rank else None, 1])


@SVMRegressor.kernel
def svm_regressor(
    X: Array,
    *,
    coefficients: list[float] | None = None,
    kernel_params: list[float] | None = None,
    kernel_type: str,
    n_supports: int,
    one_class: int,
    post_transform: str,
    rho: list[float] | None = None,
    support_vectors: list[float] | None = None,
    node: RunNode,
) -> Array:
    """Support vector regression: Σ coefficients · K(X, support_vectors) + rho.

    X[N, F] → Y[N, 1]; K as in SVMClassifier, and linear without support vectors. one_class gives
    the sign instead, 1 for members and −1 for outliers. Computes in float64.
    Source: ONNX ai.onnx.ml SVMRegressor-1.
    """
    check_transform(post_transform)
    rows = rows_of(X).astype(np.float64, copy=False)
    weights, vectors = node.once(lambda: _tables(coefficients, support_vectors))
    offsets = float_attribute(rho)
    require(offsets.size == 1, f"rho must have one entry, got {offsets.size}")
    if n_supports > 0:
        rows = _similarity(rows, vectors, n_supports, kernel_type, kernel_params)
    _check_weights(weights.size, 1, rows.shape[1])
    scores = (rows @ weights + offsets[0])[:, None]
    if one_class:
        return np.where(scores > 0, np.float32(1), np.float32(-1))
    return transformed(scores, post_transform).astype(np.float32)


@SVMRegressor.lower
def lower_svm_regressor(
    X: Tensor,
    *,
    coefficients: list[float] | None = None,
    kernel_params: list[float] | None = None,
    kernel_type: str,
    n_supports: int,
    one_class: int,
    post_transform: str,
    rho: list[float] | None = None,
    support_vectors: list[float] | None = None,
    node: LowerNode,
) -> Tensor:
    check_transform(post_transform)
    weights, vectors = _tables(coefficients, support_vectors)
    rows = wide_rows(X, _features(vectors, n_supports, weights.size))
    offsets = float_attribute(rho)
    require(offsets.size == 1, f"rho must have one entry, got {offsets.size}")
    if n_supports > 0:
        support = _support(vectors, n_supports, plain(rows.shape[1]), kernel_type, kernel_params)
        _check_weights(weights.size, 1, n_supports)
        machine = support, kernel_type, kernel_params or NO_PARAMS, weights, offsets, [n_supports]
        scores = lower_decisions(rows, *machine)
    else:
        _check_weights(weights.size, 1, plain(rows.shape[1]))
        scores = linear(rows, weights[None], offsets)
    if one_class:
        return compute(scores.shape, lambda *i: cast(scores[i] > 0, FLOAT32) * 2 - 1)
    return cast_tensor(lower_transformed(scores, post_transform), FLOAT32)
