"""What classifiers and regressors share: rows of features, class labels, transforms of scores.

The standard names five transforms and leaves open what becomes of two classes with one score; there
the classifiers do what onnxruntime does (`two_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.dtype import FLOAT16, FLOAT32, FLOAT64, INT64, STRING, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    compute,
    constant,
    gathered,
    index,
    reduce,
    select,
)
from fornix.ops import scalar as s
from fornix.ops.along import along, mapped
from fornix.ops.fact import Array, Fact
from fornix.ops.geometry import shape_text
from fornix.ops.precision import cast_tensor

ERF_CONSTANT = 0.147
"""Of Winitzki's approximation to the inverse error function, the one that peers use."""

NEARLY_ZERO = 1e-7
"""Magnitude up to which SOFTMAX_ZERO takes a score for zero, as in the peers."""


def rows_of(x: Array) -> Array:
    """``x`` as rows of features, a vector being one row: float32 stays, the rest is float64."""
    _check_rows(x.shape)
    rows = x if x.ndim == 2 else x[None]
    if x.dtype == np.float32:
        return rows
    return rows.astype(np.float32 if x.dtype == np.float16 else np.float64)


def row_count(x: Fact) -> DimLike:
    """Number of rows of features in ``x``."""
    _check_rows(x.shape)
    return x.shape[0] if x.rank == 2 else 1


def _check_rows(shape: Sequence[DimLike]) -> None:
    require(
        1 <= len(shape) <= 2,
        f"X must be rows of features or one such row, got X{shape_text(shape)}",
    )


def check_features(x: Sequence[DimLike], features: int) -> None:
    """Raise ShapeError unless rows of shape ``x`` have so many features."""
    require(
        known(x[-1]) in {None, features},
        f"X must have {features} features, as the attributes say, got X{shape_text(x)}",
    )


def label_dtype(strings: Sequence[str] | None) -> DType:
    """Element type of class labels: strings if there are any."""
    return STRING if strings else INT64


def labels_of(
    ints: Sequence[int] | None, strings: Sequence[str] | None, ints_name: str = "classlabels_ints"
) -> Array:
    """The class labels as an array."""
    require(
        bool(ints) or bool(strings),
        f"one of {ints_name} and classlabels_strings must name the classes, found neither",
    )
    return np.array(strings, object) if strings else np.array(ints, np.int64)


def transformed(scores: Array, transform: str) -> Array:
    """``scores``[N, E] after ``transform``, in their dtype; SOFTMAX works along each row."""
    check_transform(transform)
    result: Array
    if transform in ELEMENTWISE:
        result = ELEMENTWISE[transform](scores)
        return result
    if transform == "SOFTMAX":
        return _softmax(scores)
    return _softmax_zero(scores) if transform == "SOFTMAX_ZERO" else scores


TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""Transforms of scores; TreeEnsemble-5 gives them these numbers."""


def check_transform(transform: str) -> None:
    """Raise ShapeError unless ``transform`` is one that the standard names."""
    require(
        transform in TRANSFORMS,
        f"post_transform must be one of {', '.join(TRANSFORMS)}, got {transform!r}",
    )


def two_scores(score: Array, transform: str, *, is_margin: bool) -> Array:
    """The scores[N, 2] of two classes of which only the second one's ``score``[N] is computed.

    The first class gets −score of a margin and 1 − score of a probability. LOGISTIC gives
    σ(∓score) either way, PROBIT ∓probit(score); no other transform applies, as in onnxruntime.
    """
    check_transform(transform)
    if transform == "LOGISTIC":
        return np.stack([logistic(-score), logistic(score)], axis=1)
    if transform == "PROBIT":
        score, is_margin = probit(score), True
    first = -score if is_margin else 1 - score
    return np.stack([first, score], axis=1)


def logistic(x: s.Operand) -> s.Operand:
    """σ(x) = 1 / (1 + exp(−x)), without overflow; of arrays and of loop scalars."""
    small = s.exp(-s.abs(x))
    return s.where(s.less(x, 0), small, 1.0) / (1.0 + small)


def probit(x: s.Operand) -> s.Operand:
    """√2 · erf⁻¹(2x − 1), by the approximation of erf⁻¹ that the peers use (relative error 2e-3).

    Of arrays and of loop scalars.
    Source: S. Winitzki, "A handy approximation for the error function and its inverse", 2008.
    """
    signed = 2.0 * x - 1.0
    log = s.log((1.0 - signed) * (1.0 + signed))
    half = 2 / (math.pi * ERF_CONSTANT) + log / 2.0
    inverse = s.sqrt(s.sqrt(half * half - log / ERF_CONSTANT) - half)
    at_end = s.equal(s.abs(signed), 1.0)
    return math.sqrt(2) * s.sign(signed) * s.where(at_end, math.inf, inverse)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _softmax_zero(scores: Array) -> Array:
    """Softmax over the scores that are not zero; those stay zero."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    powers = np.where(np.abs(scores) > NEARLY_ZERO, powers, 0)
    total = powers.sum(axis=1, keepdims=True)
    return np.asarray(powers / np.where(total == 0, 1, total)).astype(scores.dtype)


def float_attribute(values: Sequence[float] | None, dtype: Any = np.float32) -> Array:
    """A list of floats, which models store as float32, as an array; absent, an empty one."""
    return np.asarray([] if values is None else values, dtype)


ELEMENTWISE = {"LOGISTIC": logistic, "PROBIT": probit}
"""Transforms of each score by itself."""


def lower_transformed(scores: Tensor, transform: str) -> Tensor:
    """`transformed` for lowerings."""
    check_transform(transform)
    if transform in ELEMENTWISE:
        return mapped(ELEMENTWISE[transform], scores)
    if transform == "NONE":
        return scores
    top = along("max", scores, [1])
    powers = compute(scores.shape, lambda n, e: s.exp(scores[n, e] - top[n]))
    if transform == "SOFTMAX":
        total = along("sum", powers, [1])
        return compute(scores.shape, lambda n, e: powers[n, e] / total[n])
    counted = compute(
        scores.shape,
        lambda n, e: select(abs(scores[n, e]) > NEARLY_ZERO, powers[n, e], 0),
    )
    sums = mapped(lambda v: select(apply("eq", v, 0), 1, v), along("sum", counted, [1]))
    return compute(scores.shape, lambda n, e: counted[n, e] / sums[n])


def lower_two_scores(score: Tensor, transform: str, *, is_margin: bool) -> Tensor:
    """`two_scores` for lowerings."""
    check_transform(transform)
    if transform == "LOGISTIC":
        return pair(mapped(lambda v: logistic(-v), score), mapped(logistic, score))
    if transform == "PROBIT":
        score, is_margin = mapped(probit, score), True
    return pair(mapped(lambda v: -v if is_margin else 1 - v, score), score)


def pair(first: Tensor, second: Tensor) -> Tensor:
    """Two scores per row side by side: [N], [N] → [N, 2]."""
    return compute(
        (*first.shape, 2), lambda n, e: select(apply("eq", index(e), 0), first[n], second[n])
    )


def lower_rows(x: Tensor) -> Tensor:
    """`rows_of` for lowerings."""
    _check_rows(x.shape)
    rows = x if x.rank == 2 else compute((1, *x.shape), lambda _, k: x[k])
    return cast_tensor(rows, FLOAT32 if x.dtype in {FLOAT16, FLOAT32} else FLOAT64)


def of_features(rows: Tensor, features: int) -> Tensor:
    """``rows`` of so many features, where only a run tells how many there are.

    In rows of more or fewer the places that are read lie outside of what is fed: proofs of bounds
    leave such runs to the kernel, which says what is wrong.
    """
    extent = rows.shape[1]
    if known(extent) is not None:
        return rows
    shape = (rows.shape[0], features)
    return compute(shape, lambda n, k: rows[n, k + (features - extent)])


def first_maximum(scores: Tensor) -> Tensor:
    """The index of the largest score of each row, the first of equals; NaN is the largest."""
    rows, classes = scores.shape
    top = along("max", scores, [1])

    def at(n: DimLike) -> Scalar:
        def candidate(e: DimLike) -> Scalar:
            score = scores[n, e]
            is_top = s.logical_or(s.equal(score, top[n]), s.isnan(score))
            return select(is_top, index(e), index(classes))

        return reduce("min", classes, candidate)

    return compute((rows,), at)


def labelled(winners: Tensor, labels: Array) -> Tensor:
    """The integer labels of the classes that win."""
    table = constant(labels)
    return compute(winners.shape, lambda n: table[gathered(winners[n], len(labels))])
