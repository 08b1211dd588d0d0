from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

ML: dict[str, Any] = {"domain": "ai.onnx.ml", "opset": 3}
N = symbol("N")
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
DTYPES = (np.float32, np.float64, np.int32, np.int64)
# The peer sums some 20 products of magnitude 1 in float32.
TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5}
# Coupled probabilities are only as exact as the iteration's own bound, 0.005 / classes.
COUPLED: dict[str, Any] = {"rtol": 0.0, "atol": 2e-3}


def rows(dtype: Any = np.float32) -> Any:
    return (np.random.default_rng(5).standard_normal((8, 3)) * 2).astype(dtype)


def machine(classes: int, kernel: str = "RBF", **more: Any) -> dict[str, Any]:
    stream = np.random.default_rng(classes)
    per_class = [2 + c % 3 for c in range(classes)]
    count, pairs = sum(per_class), classes * (classes - 1) // 2

    def floats(size: int) -> list[float]:
        return [float(v) for v in stream.standard_normal(size).astype(np.float32)]

    return {
        "kernel_type": kernel,
        "kernel_params": [0.25, 0.5, 2.0],
        "vectors_per_class": per_class,
        "support_vectors": floats(count * 3),
        "coefficients": floats((classes - 1) * count),
        "rho": floats(pairs),
        "classlabels_ints": [c * c + 1 for c in range(classes)],
        **more,
    }


def with_probabilities(classes: int, **more: Any) -> dict[str, Any]:
    pairs = classes * (classes - 1) // 2
    a = [-1.0 - 0.1 * i for i in range(pairs)]
    return machine(classes, prob_a=a, prob_b=[0.05] * pairs, **more)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_svm_classifier_is_onnxruntimes(kernel: str, classes: int) -> None:
    attributes = machine(classes, kernel)
    wanted = peer("SVMClassifier", [rows()], attributes, outputs=2, **ML)
    check_node("SVMClassifier", [rows()], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("transform", ["LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [2, 3])
def test_svm_scores_are_transformed_as_by_onnxruntime(transform: str, classes: int) -> None:
    attributes = machine(classes, post_transform=transform)
    wanted = peer("SVMClassifier", [rows()], attributes, outputs=2, **ML)
    check_node("SVMClassifier", [rows()], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_svm_probabilities_are_onnxruntimes(classes: int, dtype: Any) -> None:
    attributes = with_probabilities(classes)
    wanted = peer("SVMClassifier", [rows(dtype)], attributes, outputs=2, **ML)
    check_node("SVMClassifier", [rows(dtype)], attributes, expected=wanted, **COUPLED, **ML)


@pytest.mark.slow
def test_svm_probabilities_solve_the_coupling_of_pairs() -> None:
    from sklearn.datasets import load_iris
    from sklearn.svm import SVC

    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    fitted = SVC(gamma=0.5, decision_function_shape="ovo").fit(x, y)
    decisions = fitted.decision_function(x)
    # libsvm's probabilities from these decisions, coupled by the definition: p minimises
    # Σ (r_ji·p_i − r_ij·p_j)² with Σ p = 1, here by its linear equations.
    a, b = np.array([-2.0, -1.5, -1.0]), np.array([0.1, 0.0, -0.1])
    r = 1 / (1 + np.exp(decisions * a + b))
    vectors = fitted.support_vectors_.astype(np.float32)
    attributes = {
        "kernel_type": "RBF",
        "kernel_params": [0.5, 0.0, 3.0],
        "vectors_per_class": fitted.n_support_.tolist(),
        "support_vectors": vectors.reshape(-1).tolist(),
        "coefficients": fitted.dual_coef_.reshape(-1).tolist(),
        "rho": fitted.intercept_.tolist(),
        "prob_a": a.tolist(),
        "prob_b": b.tolist(),
        "classlabels_ints": [0, 1, 2],
    }
    labels, z = run_op("SVMClassifier", [x], attributes, outputs=2, **ML)
    expected = np.array([_coupled(*row) for row in r])
    np.testing.assert_allclose(z, expected, atol=0.005)
    assert np.array_equal(labels, fitted.predict(x))


def _coupled(r01: float, r02: float, r12: float) -> Any:
    r = np.array([[0, r01, r02], [1 - r01, 0, r12], [1 - r02, 1 - r12, 0]])
    q = -r.T * r + np.diag((r**2).sum(axis=0))
    kkt = np.block([[q, np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]])
    return np.linalg.solve(kkt, [0, 0, 0, 1])[:3]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_svm_classifier_without_vectors_is_linear(classes: int, sign: int) -> None:
    stream = np.random.default_rng(classes)
    weights = np.abs(stream.standard_normal(classes * 3)).astype(np.float32)
    weights[0] *= sign
    attributes = {
        "coefficients": weights.tolist(),
        "kernel_params": [0.0, 0.0, 0.0],
        "rho": [0.25],
        "classlabels_strings": ["a", "b", "c"][:classes],
    }
    wanted = peer("SVMClassifier", [rows()], attributes, outputs=2, **ML)
    check_node("SVMClassifier", [rows()], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor_is_onnxruntimes(kernel: str, one_class: int) -> None:
    source = machine(2, kernel)
    attributes = {
        "kernel_type": kernel,
        "kernel_params": source["kernel_params"],
        "support_vectors": source["support_vectors"],
        "coefficients": source["coefficients"],
        "rho": [0.125],
        "n_supports": len(source["coefficients"]),
        "one_class": one_class,
    }
    wanted = peer("SVMRegressor", [rows()], attributes, **ML)
    check_node("SVMRegressor", [rows()], attributes, expected=wanted, **TOLERANCE, **ML)


def test_svm_regressor_without_vectors_is_linear() -> None:
    attributes = {"coefficients": [1.0, -2.0, 0.5], "rho": [0.25]}
    expected = (rows() @ np.array([1, -2, 0.5], np.float32) + np.float32(0.25))[:, None]
    check_node("SVMRegressor", [rows()], attributes, expected=[expected], rtol=1e-5, **ML)


def test_svm_infers_how_many_scores_there_are() -> None:
    x = tensor(FLOAT32, (N, 3))
    for attributes, scores in [
        (machine(2), 2),
        (machine(4), 6),
        (with_probabilities(4), 4),
        ({"classlabels_ints": [1, 2, 3]}, 3),
    ]:
        labels, z = infer_op("SVMClassifier", [x], attributes, outputs=2, **ML)
        assert (labels.dtype, labels.shape, z.shape) == (INT64, (N,), (N, scores))
    [y] = infer_op("SVMRegressor", [x], {}, **ML)
    assert y.shape == (N, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_type": "COSINE"}, "kernel_type must be one of LINEAR, POLY, RBF, SIGMOID, got"),
        ({"kernel_params": [1.0]}, "kernel_params must be gamma, coef0 and degree, got 1 entries"),
        ({"support_vectors": [1.0] * 5}, "support_vectors must hold 9 rows of features, got 5"),
        ({"support_vectors": [1.0] * 9}, r"X must have 1 features, as the attributes say, got X\["),
        ({"coefficients": [1.0]}, "coefficients must hold 2 rows of 9, got 1"),
        ({"rho": [1.0]}, r"rho must have one entry per pair of classes \(3\), got 1"),
        ({"prob_a": [1.0]}, r"prob_a must have one entry per pair of classes \(3\), got 1"),
        ({"prob_a": [1.0] * 3}, r"prob_b must have as many entries as prob_a \(3\), got 0"),
        ({"vectors_per_class": [9]}, r"vectors_per_class must have one entry ≥ 0 per class \(3\)"),
        ({"classlabels_ints": [1]}, "classes must be two or more to be compared, got 1"),
        ({"classlabels_ints": []}, "one of classlabels_ints and classlabels_strings must name"),
    ],
)
def test_svm_classifier_says_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("SVMClassifier", [rows()], machine(3) | change, outputs=2, **ML)


def test_linear_svms_need_rho_and_weights() -> None:
    labels = {"classlabels_ints": [1, 2, 3]}
    with pytest.raises(ShapeError, match="coefficients must hold 3 rows of 3, got 0"):
        run_op("SVMClassifier", [rows()], labels, outputs=2, **ML)
    with pytest.raises(ShapeError, match="rho must have an entry, found none"):
        run_op("SVMClassifier", [rows()], {"coefficients": [1.0] * 9, **labels}, outputs=2, **ML)
    with pytest.raises(ShapeError, match="rho must have one entry, got 0"):
        run_op("SVMRegressor", [rows()], {"coefficients": [1.0] * 3}, **ML)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("classes", [2, 3])
def test_svm_classifier_is_lowered(kernel: str, classes: int) -> None:
    for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
        attributes = machine(classes, kernel, post_transform=transform)
        check_lowering("SVMClassifier", [rows()], attributes, outputs=2, symbolic=False, **ML)


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_svm_classifier_is_lowered(classes: int) -> None:
    stream = np.random.default_rng(0)
    attributes = {
        "coefficients": stream.standard_normal(classes * 4).tolist(), "rho": [0.2],
        "classlabels_ints": [5, 3, 8][:classes],
    }  # fmt: skip
    x = stream.standard_normal((5, 4)).astype(np.float32)
    check_lowering("SVMClassifier", [x], attributes, outputs=2, symbolic=False, **ML)
    attributes["coefficients"] = np.abs(attributes["coefficients"]).tolist()
    check_lowering("SVMClassifier", [x], attributes, outputs=2, symbolic=False, **ML)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor_is_lowered(kernel: str, one_class: int) -> None:
    stream = np.random.default_rng(0)
    attributes = {
        "coefficients": stream.standard_normal(6).tolist(), "rho": [0.1], "n_supports": 6,
        "support_vectors": stream.standard_normal(24).tolist(), "kernel_type": kernel,
        "kernel_params": [0.4, 0.5, 2.0], "one_class": one_class,
    }  # fmt: skip
    x = stream.standard_normal((5, 4)).astype(np.float32)
    check_lowering("SVMRegressor", [x], attributes, symbolic=False, **ML)
    attributes |= {"n_supports": 0, "coefficients": [1.0, -2.0, 3.0, 0.5]}
    check_lowering("SVMRegressor", [x], attributes, symbolic=False, **ML)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_coupled_probabilities_are_lowered(classes: int) -> None:
    attributes = with_probabilities(classes)
    check_lowering("SVMClassifier", [rows()], attributes, outputs=2, symbolic=False, **ML)


@pytest.mark.parametrize("op_type", ["SVMClassifier", "SVMRegressor"])
def test_nothing_is_near_an_infinite_feature(op_type: str) -> None:
    x = np.array([[np.inf, 0], [-np.inf, np.inf], [0, 0]], np.float32)
    attributes: dict[str, Any] = {
        "coefficients": [1.0, -2.0], "support_vectors": [0.0, 1.0, 2.0, 0.0],
        "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 0.0], "rho": [0.25],
    }  # fmt: skip
    if op_type == "SVMRegressor":
        attributes["n_supports"] = 2
    else:
        attributes |= {"vectors_per_class": [1, 1], "classlabels_ints": [0, 1]}
    count = 1 if op_type == "SVMRegressor" else 2
    own = np.exp(-0.5) - 2 * np.exp(-2) + 0.25
    score = np.array([[0.25], [0.25], [own]])
    wanted = score if count == 1 else np.hstack([-score, score])
    found = run_op(op_type, [x], attributes, outputs=count, **ML)
    np.testing.assert_allclose(found[-1], wanted, rtol=1e-6)
    check_lowering(op_type, [x], attributes, outputs=count, symbolic=False, **ML)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "SIGMOID"])
@pytest.mark.parametrize("classes", [3, 9, 12])
def test_vectors_of_other_classes_have_no_part_in_a_decision(kernel: str, classes: int) -> None:
    attributes = machine(classes, kernel)
    vectors = np.array(attributes["support_vectors"]).reshape(-1, 3)
    vectors[0, 0] = 0.0  # nothing times infinity is no number, for the first class alone
    vectors[1:, 0] = 1.0
    attributes["support_vectors"] = vectors.reshape(-1).tolist()
    attributes["coefficients"] = np.abs(attributes["coefficients"]).tolist()
    for count in (1, 3, 5):
        x = rows()[:count].copy()
        x[0, 0] = np.inf
        _, scores = run_op("SVMClassifier", [x], attributes, outputs=2, **ML)
        assert np.isnan(scores[0]).any()
        assert not np.isnan(scores[0]).all()
        check_lowering("SVMClassifier", [x], attributes, outputs=2, symbolic=False, **ML)


def test_linear_machines_of_both_signs_are_their_sums_of_vectors(rng: np.random.Generator) -> None:
    vectors, coefficients = rng.standard_normal((30, 4)), rng.standard_normal(30)
    attributes = {
        "coefficients": coefficients.tolist(), "support_vectors": vectors.reshape(-1).tolist(),
        "kernel_type": "LINEAR", "rho": [0.5], "n_supports": 30,
    }  # fmt: skip
    x = rng.standard_normal((7, 4)).astype(np.float32)
    wanted = x @ (coefficients @ vectors)[:, None] + 0.5
    x[4, 1], x[5, 2], x[6, 0] = np.inf, -np.inf, np.nan
    [found] = run_op("SVMRegressor", [x], attributes, **ML)
    np.testing.assert_allclose(found[:4], wanted[:4], rtol=1e-5, atol=1e-6)
    assert np.isnan(found[4:]).all()
    check_lowering("SVMRegressor", [x], attributes, symbolic=False, **ML)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_linear_machines_are_lowered_beside_what_is_no_number(classes: int) -> None:
    attributes = machine(classes, "LINEAR")
    for count in (1, 3, 5):
        x = rows()[:count].copy()
        x[-1, 0], x[0, 1] = np.inf, np.nan
        check_lowering("SVMClassifier", [x], attributes, outputs=2, symbolic=False, **ML)
