"""Linear models and scaling of rows: LinearClassifier, LinearRegressor, Normalizer, Scaler.

Features of type float32 are computed in float32, all others in float64; the standard wants float32
results of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    constant,
    index,
    reduce,
    select,
    stored,
)
from fornix.ops.along import along, mapped
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.ml.scores import (
    check_transform,
    first_maximum,
    float_attribute,
    label_dtype,
    labelled,
    labels_of,
    lower_rows,
    lower_transformed,
    lower_two_scores,
    of_features,
    row_count,
    rows_of,
    transformed,
    two_scores,
)
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.scalar import sqrt
from fornix.ops.types import F32, F64, I32, I64, STRING
from fornix.ops.window import plain

LinearClassifier = op(
    """LinearClassifier <classlabels_ints: ints?, classlabels_strings: strings?,
                         coefficients: floats, intercepts: floats?, multi_class: int = 0,
                         post_transform: string = "NONE">
                        (X: T1) => (Y: T2, Z: tensor(float))""",
    since=1, domain="ai.onnx.ml", T1=F32 | F64 | I32 | I64, T2=STRING | I64,
)  # fmt: skip


@LinearClassifier.infer
def infer_linear_classifier(
    X: Fact,
    *,
    coefficients: list[float],
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    post_transform: str,
    **_: object,
) -> tuple[Fact, Fact]:
    check_transform(post_transform)
    labels = labels_of(classlabels_ints, classlabels_strings)
    dtype = label_dtype(classlabels_strings)
    if not X.has_rank:
        return tensor(dtype, [None]), tensor(FLOAT32, [None, len(labels)])
    rows, features = row_count(X), known(X.shape[-1])
    if features is not None:
        _check_linear(len(coefficients), None, features, len(labels))
    return tensor(dtype, [rows]), tensor(FLOAT32, [rows, len(labels)])


@LinearClassifier.kernel
def linear_classifier(
    X: Array,
    *,
    coefficients: list[float],
    intercepts: list[float] | None = None,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    multi_class: int,
    post_transform: str,
    node: RunNode,
) -> tuple[Array, Array]:
    """The class with the largest score X·coefficientsᵀ + intercepts, and the scores.

    X[N, F] · coefficients[E·F] + intercepts[E] → Y[N], Z[N, E]; post_transform applies to Z alone.
    Two classes with one score s, that of the second: it wins if s > 0, and Z is [1 − s, s], or
    [σ(−s), σ(s)] with LOGISTIC, as in onnxruntime. multi_class has no effect.
    float32 features compute in float32, others in float64. Source: ONNX ai.onnx.ml
    LinearClassifier-1.
    """
    check_transform(post_transform)
    rows = rows_of(X)
    labels = labels_of(classlabels_ints, classlabels_strings)
    _check_linear(len(coefficients), intercepts, rows.shape[1], len(labels))
    scores = _linear(rows, node.once(lambda: float_attribute(coefficients)), intercepts)
    if scores.shape[1] == 1 and len(labels) == 2:
        score = scores[:, 0]
        winners = (score > 0).astype(np.intp)
        z = two_scores(score, post_transform, is_margin=False)
    else:
        winners = np.argmax(scores, axis=1) if scores.size else np.zeros(len(rows), np.intp)
        z = transformed(scores, post_transform)
    return labels[winners], z.astype(np.float32, copy=False)


@LinearClassifier.lower
def lower_linear_classifier(
    X: Tensor,
    *,
    coefficients: list[float],
    intercepts: list[float] | None = None,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    multi_class: int,
    post_transform: str,
    node: LowerNode,
) -> tuple[Tensor, Tensor]:
    check_transform(post_transform)
    rows, labels = lower_rows(X), labels_of(classlabels_ints, classlabels_strings)
    if known(rows.shape[1]) is None and len(labels) == 2:
        node.decline("whether there are two scores depends on the number of features")
    rows = of_features(rows, len(coefficients) // max(len(labels), 1))
    features = plain(rows.shape[1])
    _check_linear(len(coefficients), intercepts, features, len(labels))
    # In memory, for the winner and the transform ask for each score several times.
    scores = stored(
        _lower_linear(rows, float_attribute(coefficients), intercepts, features), "scores"
    )
    if scores.shape[1] == 1 and len(labels) == 2:
        score = compute(scores.shape[:1], lambda n: scores[n, 0])
        winners = compute(score.shape, lambda n: select(score[n] > 0, index(1), index(0)))
        z = lower_two_scores(score, post_transform, is_margin=False)
    else:
        winners = first_maximum(scores)
        z = lower_transformed(scores, post_transform)
    return labelled(winners, labels), cast_tensor(z, FLOAT32)


def _lower_linear(
    rows: Tensor, weights: Array, intercepts: Sequence[float] | None, features: int
) -> Tensor:
    """`_linear` for lowerings."""
    dtype = rows.dtype.numpy
    matrix = constant(weights.astype(dtype).reshape(-1, features).T)
    offsets = constant(float_attribute(intercepts, dtype)) if intercepts else None

    def at(n: DimLike, e: DimLike) -> Scalar:
        score = reduce("sum", features, lambda k: rows[n, k] * matrix[k, e])
        return score if offsets is None else score + offsets[e]

    return compute((rows.shape[0], matrix.shape[1]), at)


def _check_linear(
    coefficients: int, intercepts: Sequence[float] | None, features: int, classes: int
) -> None:
    """Raise ShapeError unless there are scores for every class, or one for two classes."""
    scores = coefficients // features if features else 0
    require(
        scores * features == coefficients and (scores == classes or (scores == 1 and classes == 2)),
        f"coefficients must hold {classes} rows of {features} features, one per class, "
        f"got {coefficients}",
    )
    _check_intercepts(intercepts, scores)


def _check_intercepts(intercepts: Sequence[float] | None, scores: int) -> None:
    require(
        not intercepts or len(intercepts) == scores,
        f"intercepts must have one entry per score ({scores}), got {len(intercepts or ())}",
    )


def _linear(rows: Array, weights: Array, intercepts: Sequence[float] | None) -> Array:
    """rows[N, F] · weights[E·F]ᵀ + intercepts[E] → [N, E]."""
    scores: Array = rows @ weights.astype(rows.dtype, copy=False).reshape(-1, rows.shape[1]).T
    return scores + float_attribute(intercepts, rows.dtype) if intercepts else scores


LinearRegressor = op(
    """LinearRegressor <coefficients: floats?, intercepts: floats?,
                        post_transform: string = "NONE", targets: int = 1>
                       (X: T) => (Y: tensor(float))""",
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip


@LinearRegressor.infer
def infer_linear_regressor(
    X: Fact,
    *,
    coefficients: list[float] | None = None,
    targets: int,
    post_transform: str,
    **_: object,
) -> Fact:
    check_transform(post_transform)
    if not X.has_rank:
        return tensor(FLOAT32, [None, targets])
    rows, features = row_count(X), known(X.shape[-1])
    if features is not None:
        _check_targets(len(coefficients or ()), features, targets)
    return tensor(FLOAT32, [rows, targets])


@LinearRegressor.kernel
def linear_regressor(
    X: Array,
    *,
    coefficients: list[float] | None = None,
    intercepts: list[float] | None = None,
    targets: int,
    post_transform: str,
    node: RunNode,
) -> Array:
    """Linear regression: X·coefficientsᵀ + intercepts, one result per target.

    X[N, F] · coefficients[T·F] + intercepts[T] → Y[N, T]; post_transform applies to Y, whatever the
    number of targets. float32 features compute in float32, others in float64.
    Source: ONNX ai.onnx.ml LinearRegressor-1.
    """
    check_transform(post_transform)
    rows = rows_of(X)
    _check_targets(len(coefficients or ()), rows.shape[1], targets)
    _check_intercepts(intercepts, targets)
    scores = _linear(rows, node.once(lambda: float_attribute(coefficients)), intercepts)
    return transformed(scores, post_transform).astype(np.float32, copy=False)


@LinearRegressor.lower
def lower_linear_regressor(
    X: Tensor,
    *,
    coefficients: list[float] | None = None,
    intercepts: list[float] | None = None,
    targets: int,
    post_transform: str,
    node: LowerNode,
) -> Tensor:
    check_transform(post_transform)
    rows = of_features(lower_rows(X), len(coefficients or ()) // max(targets, 1))
    features = plain(rows.shape[1])
    _check_targets(len(coefficients or ()), features, targets)
    _check_intercepts(intercepts, targets)
    scores = _lower_linear(rows, float_attribute(coefficients), intercepts, features)
    return cast_tensor(lower_transformed(scores, post_transform), FLOAT32)


def _check_targets(coefficients: int, features: int, targets: int) -> None:
    require(
        targets > 0 and coefficients == targets * features and coefficients,
        f"coefficients must hold {targets} rows of {features} features, one per target, "
        f"got {coefficients}",
    )


Normalizer = op(
    'Normalizer <norm: string = "MAX"> (X: T) => (Y: tensor(float))',
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip

NORMS = ("MAX", "L1", "L2")


@Normalizer.infer
def infer_normalizer(X: Fact, *, norm: str) -> Fact:
    _check_norm(norm)
    row_count(X)
    return tensor(FLOAT32, X.shape)


@Normalizer.kernel
def normalizer(X: Array, *, norm: str) -> Array:
    """Every row divided by its norm: its maximum, the sum of magnitudes (L1) or its length (L2).

    X[N, C] → Y[N, C]; rows with norm 0 stay as they are. MAX is the largest element, not the
    largest magnitude. float32 computes in float32, other types in float64.
    Source: ONNX ai.onnx.ml Normalizer-1.
    """
    _check_norm(norm)
    rows = rows_of(X)
    if norm == "L1":
        size = np.abs(rows).sum(axis=1, keepdims=True)
    elif norm == "L2":
        size = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    else:
        size = rows.max(axis=1, keepdims=True, initial=-np.inf)
    divided = rows / np.where(size == 0, 1, size)
    return divided.reshape(X.shape).astype(np.float32, copy=False)


@Normalizer.lower
def lower_normalizer(X: Tensor, *, norm: str) -> Tensor:
    _check_norm(norm)
    rows = lower_rows(X)
    if norm == "L1":
        size = along("sum", mapped(abs, rows), [1])
    elif norm == "L2":
        size = mapped(sqrt, along("sum", mapped(lambda v: v * v, rows), [1]))
    else:
        size = along("max", rows, [1])

    def divided(n: DimLike, k: DimLike) -> Scalar:
        divisor = select(apply("eq", size[n], 0), 1, size[n])
        return cast(rows[n, k] / divisor, FLOAT32)

    return compute(X.shape, lambda *i: divided(*i) if len(i) == 2 else divided(0, *i))


def _check_norm(norm: str) -> None:
    require(norm in NORMS, f"norm must be one of {', '.join(NORMS)}, got {norm!r}")


Scaler = op(
    "Scaler <offset: floats?, scale: floats?> (X: T) => (Y: tensor(float))",
    since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64,
)  # fmt: skip


@Scaler.infer
def infer_scaler(
    X: Fact, *, offset: list[float] | None = None, scale: list[float] | None = None
) -> Fact:
    for name, values in (("offset", offset), ("scale", scale)):
        _check_per_feature(X.shape, values, name)
    return tensor(FLOAT32, X.shape)


@Scaler.kernel
def scaler(
    X: Array, *, offset: list[float] | None = None, scale: list[float] | None = None
) -> Array:
    """(X − offset) · scale, both per feature (the last axis) or one for all.

    X[*S, F] → Y[*S, F]; absent, the offset is 0 and the scale 1. float32 computes in float32, other
    types in float64. Source: ONNX ai.onnx.ml Scaler-1.
    """
    y = X if X.dtype == np.float32 else X.astype(np.float64)
    for name, values in (("offset", offset), ("scale", scale)):
        _check_per_feature(X.shape, values, name)
    if offset:
        y = y - float_attribute(offset, y.dtype)
    if scale:
        y = y * float_attribute(scale, y.dtype)
    return y.reshape(X.shape).astype(np.float32, copy=False)


@Scaler.lower
def lower_scaler(
    X: Tensor, *, offset: list[float] | None = None, scale: list[float] | None = None
) -> Tensor:
    wide = FLOAT32 if X.dtype is FLOAT32 else FLOAT64
    for name, values in (("offset", offset), ("scale", scale)):
        _check_per_feature(X.shape, values, name)
    offsets, factors = (
        constant(float_attribute(values, wide.numpy)) if values else None
        for values in (offset, scale)
    )

    def at(*i: DimLike) -> Scalar:
        y = cast(X[i], wide)
        if offsets is not None:
            y = y - offsets[i[-1] if offsets.shape[0] != 1 else 0]
        if factors is not None:
            y = y * factors[i[-1] if factors.shape[0] != 1 else 0]
        return cast(y, FLOAT32)

    return compute(X.shape, at)


def _check_per_feature(x: Sequence[object], values: Sequence[float] | None, name: str) -> None:
    """Raise ShapeError unless ``values`` fit the features, the last axis of ``x``."""
    if not values or len(values) == 1:
        return
    require(len(x) > 0, f"{name} must have one entry for a scalar X, got {len(values)}")
    last = x[-1]
    require(
        not isinstance(last, int) or last == len(values),
        f"{name} must have one entry or one per feature of X{shape_text(x)}, got {len(values)}",
    )
