from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64, STRING
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

ML: dict[str, Any] = {"domain": "ai.onnx.ml", "opset": 3}
N = symbol("N")
DTYPES = (np.float32, np.float64, np.int32, np.int64)
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
# Sums of four products of magnitude up to 10, in float32 by the peer.
RTOL, ATOL = 1e-5, 1e-5
# Of the rational approximation that both sides use, near 0 and 1.
PROBIT_RTOL = 1e-3


def rows(dtype: Any = np.float32, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal((6, 4)) * 3).astype(dtype)


def classifier(classes: int, scores: int, **more: Any) -> dict[str, Any]:
    stream = np.random.default_rng(classes)
    return {
        "coefficients": stream.standard_normal(scores * 4).astype(np.float32).tolist(),
        "intercepts": stream.standard_normal(scores).astype(np.float32).tolist(),
        "classlabels_ints": [10 * c + 3 for c in range(classes)],
        **more,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("classes", "scores"), [(3, 3), (2, 2), (2, 1)])
@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_classifier_is_onnxruntimes(
    dtype: Any, classes: int, scores: int, transform: str
) -> None:
    attributes = classifier(classes, scores, post_transform=transform)
    wanted = peer("LinearClassifier", [rows(dtype)], attributes, outputs=2, **ML)
    check_node(
        "LinearClassifier", [rows(dtype)], attributes, expected=wanted, rtol=RTOL, atol=ATOL, **ML
    )


def test_linear_classifier_with_probit_is_onnxruntimes() -> None:
    x = np.array([[0.1, 0.7], [0.45, 0.3]], np.float32)
    attributes = {
        "coefficients": [1.0, 0.0, 0.0, 1.0],
        "intercepts": [0.0, 0.1],
        "classlabels_strings": ["a", "b"],
        "post_transform": "PROBIT",
    }
    wanted = peer("LinearClassifier", [x], attributes, outputs=2, **ML)
    check_node(
        "LinearClassifier", [x], attributes, expected=wanted, rtol=PROBIT_RTOL, atol=1e-6, **ML
    )


def test_linear_classifier_takes_one_row_and_labels_of_text() -> None:
    attributes = classifier(3, 3) | {"classlabels_strings": ["x", "yy", "zzz"]}
    del attributes["classlabels_ints"]
    wanted = peer("LinearClassifier", [rows()[0]], attributes, outputs=2, **ML)
    check_node("LinearClassifier", [rows()[0]], attributes, expected=wanted, rtol=RTOL, **ML)


def test_linear_classifier_does_without_intercepts() -> None:
    attributes = classifier(3, 3)
    wanted = peer(
        "LinearClassifier", [rows()], attributes | {"intercepts": [0.0] * 3}, outputs=2, **ML
    )
    del attributes["intercepts"]
    check_node("LinearClassifier", [rows()], attributes, expected=wanted, rtol=RTOL, **ML)


def test_linear_classifier_of_no_rows_gives_none() -> None:
    labels, scores = run_op(
        "LinearClassifier", [np.zeros((0, 4), np.float32)], classifier(3, 3), outputs=2, **ML
    )
    assert labels.shape == (0,)
    assert scores.shape == (0, 3)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (classifier(3, 2), "coefficients must hold 3 rows of 4 features, one per class, got 8"),
        (classifier(3, 3, intercepts=[1.0]), r"intercepts must have one entry per score \(3\)"),
        (classifier(3, 3, classlabels_ints=[]), "one of classlabels_ints and classlabels_strings"),
        (classifier(3, 3, post_transform="TANH"), "post_transform must be one of NONE, SOFTMAX"),
    ],
)
def test_linear_classifier_says_what_does_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("LinearClassifier", [rows()], attributes, outputs=2, **ML)


def test_classifiers_infer_labels_and_scores() -> None:
    labels, scores = infer_op(
        "LinearClassifier", [tensor(FLOAT32, (N, 4))], classifier(3, 3), outputs=2, **ML
    )
    assert (labels.dtype, labels.shape) == (INT64, (N,))
    assert (scores.dtype, scores.shape) == (FLOAT32, (N, 3))
    attributes = {"coefficients": [1.0] * 8, "classlabels_strings": ["a", "b"]}
    labels, scores = infer_op("LinearClassifier", [unranked(FLOAT32)], attributes, outputs=2, **ML)
    assert (labels.dtype, labels.rank, scores.shape[1]) == (STRING, 1, 2)


def test_features_are_rows_or_one_row() -> None:
    cube = np.zeros((2, 3, 4), np.float32)
    for x in (cube, np.array(1, np.float32)):
        with pytest.raises(ShapeError, match="X must be rows of features or one such row, got X"):
            run_op("LinearClassifier", [x], classifier(3, 3), outputs=2, **ML)
    with pytest.raises(ShapeError, match=r"got X\[2, 3, 4\]"):
        infer_op("LinearRegressor", [tensor(FLOAT32, cube.shape)], {"coefficients": [1.0]}, **ML)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_regressor_is_onnxruntimes(targets: int, transform: str) -> None:
    stream = np.random.default_rng(targets)
    attributes = {
        "coefficients": stream.standard_normal(targets * 4).astype(np.float32).tolist(),
        "intercepts": stream.standard_normal(targets).astype(np.float32).tolist(),
        "targets": targets,
        "post_transform": transform if targets > 1 else "NONE",
    }
    wanted = peer("LinearRegressor", [rows()], attributes, **ML)
    check_node("LinearRegressor", [rows()], attributes, expected=wanted, rtol=RTOL, atol=ATOL, **ML)


def test_linear_regressor_applies_its_transform_to_one_target_too() -> None:
    attributes = {"coefficients": [0.5, -1.0, 0.25, 2.0], "post_transform": "LOGISTIC"}
    score = rows().astype(np.float64) @ [0.5, -1.0, 0.25, 2.0]
    expected = (1 / (1 + np.exp(-score)))[:, None].astype(np.float32)
    check_node("LinearRegressor", [rows()], attributes, expected=[expected], rtol=1e-5, **ML)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_other_features_than_float32_compute_in_float64(dtype: Any) -> None:
    x, weights = np.array([[2**24 + 1, 1]], dtype), [1.0, -16777216.0]
    [y] = run_op("LinearRegressor", [x], {"coefficients": weights}, **ML)
    assert y.tolist() == [[1.0]]


def test_linear_regressor_says_what_does_not_fit() -> None:
    for attributes in ({}, {"coefficients": [1.0] * 5}, {"coefficients": [1.0] * 4, "targets": 0}):
        with pytest.raises(
            ShapeError, match=r"coefficients must hold \d rows of 4 features, one p"
        ):
            run_op("LinearRegressor", [rows()], attributes, **ML)
        with pytest.raises(ShapeError, match="coefficients must hold"):
            infer_op("LinearRegressor", [tensor(FLOAT32, (N, 4))], attributes, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer_is_onnxruntimes(dtype: Any, norm: str) -> None:
    x = rows(dtype)
    x[2] = 0
    x[3] = -np.abs(x[3]) - 1
    for data in (x, x[0]):
        wanted = peer("Normalizer", [data], {"norm": norm}, **ML)
        check_node("Normalizer", [data], {"norm": norm}, expected=wanted, rtol=1e-6, **ML)


def test_normalizer_refuses_other_norms() -> None:
    with pytest.raises(ShapeError, match="norm must be one of MAX, L1, L2, got 'L3'"):
        run_op("Normalizer", [rows()], {"norm": "L3"}, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 4])
def test_scaler_is_onnxruntimes(dtype: Any, count: int) -> None:
    attributes = {"offset": [1.5, 2.0, -1.0, 0.25][:count], "scale": [2.0, 0.5, 3.0, -1.0][:count]}
    for data in (rows(dtype), rows(dtype)[0]):
        wanted = peer("Scaler", [data], attributes, **ML)
        check_node("Scaler", [data], attributes, expected=wanted, rtol=1e-6, **ML)


def test_scaler_takes_offset_or_scale_alone() -> None:
    check_node("Scaler", [rows()], {"scale": [2.0]}, expected=[rows() * 2], **ML)
    check_node("Scaler", [rows()], {"offset": [2.0]}, expected=[rows() - 2], **ML)


def test_scaler_says_what_does_not_fit() -> None:
    with pytest.raises(
        ShapeError, match=r"scale must have one entry or one per feature of X\[6, 4"
    ):
        run_op("Scaler", [rows()], {"scale": [1.0, 2.0]}, **ML)
    with pytest.raises(ShapeError, match="offset must have one entry for a scalar X, got 2"):
        run_op("Scaler", [np.array(1.0)], {"offset": [1.0, 2.0]}, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_models_are_lowered(dtype: Any, transform: str) -> None:
    for classes, scores in ((3, 3), (2, 2), (2, 1)):
        attributes = classifier(classes, scores, post_transform=transform)
        check_lowering(
            "LinearClassifier", [rows(dtype)], attributes, outputs=2, symbolic=False, **ML
        )
    for x in (rows(dtype), rows(dtype)[0]):
        for intercepts in ({}, {"intercepts": [0.5, -1.0]}):
            attributes = {"coefficients": np.linspace(-1, 1, 8).tolist(), "targets": 2}
            attributes |= {**intercepts, "post_transform": transform}
            check_lowering("LinearRegressor", [x], attributes, symbolic=False, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_is_lowered(dtype: Any) -> None:
    for x in (rows(dtype), rows(dtype)[0], np.zeros((2, 3), dtype)):
        for norm in ("MAX", "L1", "L2"):
            check_lowering("Normalizer", [x], {"norm": norm}, **ML)
    for attributes in ({}, {"offset": [1.0]}, {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [0.3]}):
        check_lowering("Scaler", [rows(dtype)], attributes, **ML)
