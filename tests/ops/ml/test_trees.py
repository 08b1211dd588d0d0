from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from fornix.dtype import FLOAT32, STRING
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op
from tests.ops.ml.plants import Plant, attributes_3, features, grow, sums

ML: dict[str, Any] = {"domain": "ai.onnx.ml", "opset": 3}
N = symbol("N")
COMPARING = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
AGGREGATES = ("SUM", "AVERAGE", "MIN", "MAX")
# A few dozen weights of magnitude 1, added in float32 by the peer.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
DTYPES = (np.float32, np.float64, np.int32, np.int64)


def forest(seed: int = 0, trees: int = 5, **how: Any) -> list[Plant]:
    stream = np.random.default_rng(seed)
    return [grow(stream, **how) for _ in range(trees)]


def stump(low: list[tuple[int, float]], high: list[tuple[int, float]]) -> list[Plant]:
    """One tree that asks whether feature 0 is at most 1."""
    return [Plant("BRANCH_LEQ", 0, 1.0, children=[Plant(votes=low), Plant(votes=high)])]


TWO_ROWS = np.array([[0.0], [2.0]], np.float32)


@pytest.mark.parametrize("mode", [*COMPARING, "all"])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_regressor_is_onnxruntimes(mode: str, aggregate: str) -> None:
    plants = forest(modes=COMPARING if mode == "all" else (mode,), votes=2)
    attributes = attributes_3(plants, "target") | {
        "n_targets": 3,
        "aggregate_function": aggregate,
        "base_values": [0.5, -1.0, 0.0],
    }
    x = features(np.random.default_rng(1))
    wanted = peer("TreeEnsembleRegressor", [x], attributes, **ML)
    check_node("TreeEnsembleRegressor", [x], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_regressor_of_one_target_is_onnxruntimes(aggregate: str) -> None:
    attributes = attributes_3(forest(targets=1), "target") | {
        "n_targets": 1,
        "aggregate_function": aggregate,
        "base_values": [0.25],
    }
    x = features(np.random.default_rng(1))
    wanted = peer("TreeEnsembleRegressor", [x], attributes, **ML)
    check_node("TreeEnsembleRegressor", [x], attributes, expected=wanted, **TOLERANCE, **ML)
    wanted = [wanted[0][:1]]
    check_node("TreeEnsembleRegressor", [x[0]], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("mode", COMPARING)
def test_missing_features_follow_their_track_in_every_mode(mode: str) -> None:
    plants = forest(modes=(mode,), missing=True, trees=8)
    x = features(np.random.default_rng(1))
    x[np.random.default_rng(2).random(x.shape) < 0.4] = np.nan
    attributes = attributes_3(plants, "target") | {"n_targets": 3}
    expected = sums(plants, x, 3).astype(np.float32)
    check_node("TreeEnsembleRegressor", [x], attributes, expected=[expected], **TOLERANCE, **ML)
    if mode != "BRANCH_NEQ":  # there the peer takes the true branch, whatever the track says
        wanted = peer("TreeEnsembleRegressor", [x], attributes, **ML)
        check_node("TreeEnsembleRegressor", [x], attributes, expected=wanted, **TOLERANCE, **ML)


def test_missing_features_take_the_false_branch_without_tracks() -> None:
    attributes = attributes_3(stump([(0, 1.0)], [(0, 2.0)]), "target")
    del attributes["nodes_missing_value_tracks_true"]
    [y] = run_op("TreeEnsembleRegressor", [np.full((1, 1), np.nan)], attributes, **ML)
    assert y.tolist() == [[2.0]]


@pytest.mark.parametrize("mode", COMPARING)
def test_a_threshold_that_is_nan_equals_nothing(mode: str) -> None:
    plant = Plant(
        mode, 0, float("nan"), children=[Plant(votes=[(0, 1.0)]), Plant(votes=[(0, 2.0)])]
    )
    attributes = attributes_3([plant], "target") | {"n_targets": 1}
    wanted = peer("TreeEnsembleRegressor", [TWO_ROWS], attributes, **ML)
    check_node("TreeEnsembleRegressor", [TWO_ROWS], attributes, expected=wanted, **ML)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_features_is_onnxruntimes(dtype: Any) -> None:
    attributes = attributes_3(forest(votes=3), "class") | {"classlabels_int64s": [5, 6, 9]}
    x = (features(np.random.default_rng(1)) * 2).astype(dtype)
    wanted = peer("TreeEnsembleClassifier", [x], attributes, outputs=2, **ML)
    check_node("TreeEnsembleClassifier", [x], attributes, expected=wanted, **TOLERANCE, **ML)


def test_double_tensors_are_exact() -> None:
    threshold = 0.1 + 2.0**-50
    plant = Plant("BRANCH_LT", 0, 0.0, children=[Plant(votes=[(0, 0.0)]), Plant(votes=[(0, 0.0)])])
    attributes = attributes_3([plant], "target") | {
        "n_targets": 1,
        "nodes_values_as_tensor": np.array([threshold, 0, 0]),
        "target_weights_as_tensor": np.array([2.0**25 + 1, 5.0]),
        "base_values_as_tensor": np.array([-(2.0**25)]),
    }
    del attributes["nodes_values"]
    del attributes["target_weights"]
    x = np.array([[0.1], [threshold], [0.2]])
    expected = np.array([[1.0], [5 - 2.0**25], [5 - 2.0**25]], np.float32)
    check_node("TreeEnsembleRegressor", [x], attributes, expected=[expected], **ML)
    messages = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
    }
    assert np.array_equal(peer("TreeEnsembleRegressor", [x], messages, **ML)[0], expected)


def test_many_rows_and_trees_are_what_single_ones_give() -> None:
    plants = forest(trees=40, depth=6, votes=2)
    x = features(np.random.default_rng(1), rows=4000)
    attributes = attributes_3(plants, "target") | {"n_targets": 3}
    [y] = run_op("TreeEnsembleRegressor", [x], attributes, **ML)
    some = slice(3300, 3320)  # beyond the first piece of rows
    np.testing.assert_allclose(y[some], sums(plants, x[some], 3), **TOLERANCE)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("base", [[], [0.25, -0.5, 1.0]])
def test_classifier_of_three_classes_is_onnxruntimes(transform: str, base: list[float]) -> None:
    attributes = attributes_3(forest(votes=3), "class") | {
        "classlabels_strings": ["a", "b", "c"],
        "post_transform": transform,
        **({"base_values": base} if base else {}),
    }
    x = features(np.random.default_rng(1))
    wanted = peer("TreeEnsembleClassifier", [x], attributes, outputs=2, **ML)
    check_node("TreeEnsembleClassifier", [x], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("only", [0, 1])
@pytest.mark.parametrize("low", [0.2, -0.2])
def test_two_classes_with_one_score_are_onnxruntimes(transform: str, only: int, low: float) -> None:
    plants = stump([(only, low)], [(only, 0.7)])
    attributes = attributes_3(plants, "class") | {
        "classlabels_int64s": [10, 20],
        "post_transform": transform,
    }
    wanted = peer("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)
    check_node("TreeEnsembleClassifier", [TWO_ROWS], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("low", [0.2, -0.2])
def test_two_classes_with_one_score_and_base_value_are_onnxruntimes(low: float) -> None:
    plants = stump([(0, low)], [(0, 0.7)])
    attributes = attributes_3(plants, "class") | {
        "classlabels_strings": ["no", "yes"],
        "base_values": [0.125],
    }
    wanted = peer("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)
    check_node("TreeEnsembleClassifier", [TWO_ROWS], attributes, expected=wanted, **TOLERANCE, **ML)


def test_two_classes_with_votes_for_both_give_the_larger_one() -> None:
    # onnxruntime answers 1 here, which is not even a label.
    plants = stump([(0, 0.8), (1, 0.2)], [(0, 0.3), (1, 0.7)])
    attributes = attributes_3(plants, "class") | {"classlabels_int64s": [10, 20]}
    expected = [np.array([10, 20]), np.array([[0.8, 0.2], [0.3, 0.7]], np.float32)]
    check_node("TreeEnsembleClassifier", [TWO_ROWS], attributes, expected=expected, **ML)


def test_two_classes_count_a_base_value_each() -> None:
    plants = stump([(1, 0.2)], [(1, 0.7)])
    attributes = attributes_3(plants, "class") | {
        "classlabels_int64s": [10, 20],
        "base_values": [0.25, 0.5],
    }
    expected = [np.array([20, 20]), np.array([[0.25, 0.7], [0.25, 1.2]], np.float32)]
    check_node("TreeEnsembleClassifier", [TWO_ROWS], attributes, expected=expected, rtol=1e-6, **ML)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_a_single_class_is_onnxruntimes(transform: str) -> None:
    attributes = attributes_3(stump([(0, -0.2)], [(0, 0.7)]), "class") | {
        "classlabels_int64s": [7],
        "post_transform": transform,
    }
    wanted = peer("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)
    check_node("TreeEnsembleClassifier", [TWO_ROWS], attributes, expected=wanted, **ML)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_leaf_has_one_vote_where_there_is_one_target(aggregate: str) -> None:
    attributes = attributes_3(stump([(0, 3.0), (0, 1.0), (0, 5.0)], [(0, -2.0)]), "target") | {
        "n_targets": 1,
        "aggregate_function": aggregate,
    }
    wanted = peer("TreeEnsembleRegressor", [TWO_ROWS], attributes, **ML)
    assert wanted[0].tolist() == [[3.0], [-2.0]]
    check_node("TreeEnsembleRegressor", [TWO_ROWS], attributes, expected=wanted, **ML)
    check_lowering("TreeEnsembleRegressor", [TWO_ROWS], attributes, **ML)


def test_votes_of_a_leaf_for_one_of_several_targets_are_added() -> None:
    attributes = attributes_3(stump([(1, 3.0), (1, 1.0)], [(0, -2.0)]), "target") | {"n_targets": 2}
    wanted = peer("TreeEnsembleRegressor", [TWO_ROWS], attributes, **ML)
    assert wanted[0].tolist() == [[0.0, 4.0], [-2.0, 0.0]]
    check_node("TreeEnsembleRegressor", [TWO_ROWS], attributes, expected=wanted, **ML)


def test_ties_go_to_the_first_class_as_in_sklearn() -> None:
    # Ten trees of which five vote for each class with the float32 number next to 0.1.
    plants = [p for low in (0.1, 0.0) for p in stump([(0, low)], [(0, low)]) * 5]
    attributes = attributes_3(plants, "class") | {"classlabels_int64s": [0, 1]}
    labels, scores = run_op("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)
    assert labels.tolist() == [0, 0]
    assert scores.tolist() == [[0.5, 0.5]] * 2


def test_regressor_applies_its_transform_to_one_target_too() -> None:
    attributes = attributes_3(stump([(0, -1.0)], [(0, 2.0)]), "target") | {
        "n_targets": 1,
        "post_transform": "LOGISTIC",
    }
    expected = (1 / (1 + np.exp(np.array([[1.0], [-2.0]])))).astype(np.float32)
    check_node(
        "TreeEnsembleRegressor", [TWO_ROWS], attributes, expected=[expected], rtol=1e-6, **ML
    )


def test_trees_infer_rows_and_targets() -> None:
    x = tensor(FLOAT32, (N, 4))
    labels, scores = infer_op(
        "TreeEnsembleClassifier", [x], {"classlabels_strings": ["a", "b"]}, outputs=2, **ML
    )
    assert (labels.dtype, labels.shape, scores.shape) == (STRING, (N,), (N, 2))
    assert infer_op("TreeEnsembleRegressor", [x], {"n_targets": 5}, **ML)[0].shape == (N, 5)
    assert infer_op("TreeEnsembleRegressor", [x], {"target_ids": [0, 2]}, **ML)[0].shape == (N, 3)


def test_leaves_may_be_shared_and_nodes_too() -> None:
    attributes: dict[str, Any] = {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_featureids": [0] * 5,
        "nodes_values": [1.0, 0.0, 2.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 2, 3, 0, 0],
        "nodes_falsenodeids": [2, 3, 4, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [3, 4],
        "target_ids": [0, 0],
        "target_weights": [1.0, 5.0],
    }
    x = np.array([[-1], [0.5], [1.5], [3]], np.float32)
    [y] = run_op("TreeEnsembleRegressor", [x], attributes, **ML)
    assert y.reshape(-1).tolist() == [1, 1, 1, 5]


def test_nodes_may_be_numbered_from_any_number() -> None:
    plants = forest()
    x = features(np.random.default_rng(1))
    attributes = attributes_3(plants, "target", first=-5) | {"n_targets": 3}
    expected = sums(plants, x, 3).astype(np.float32)
    check_node("TreeEnsembleRegressor", [x], attributes, expected=[expected], **TOLERANCE, **ML)


def changed(**change: Any) -> dict[str, Any]:
    return attributes_3(stump([(0, 1.0)], [(1, 2.0)]), "target") | {"n_targets": 2} | change


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (changed(nodes_truenodeids=[99, 0, 0]), "but tree 0 has no node 99"),
        (changed(nodes_falsenodeids=[0, 0, 0]), "must lead to leaves, found a cycle"),
        (changed(nodes_modes=["BRANCH_LEQ", "BRANCH_LT", "LEAF"], nodes_truenodeids=[1, 1, 0],
                 nodes_falsenodeids=[2, 2, 0]), "must lead to leaves, found a cycle"),
        (changed(nodes_nodeids=[0, 1, 1]), "node 1 of tree 0 must be listed once, found it twice"),
        (changed(nodes_modes=["BRANCH", "LEAF", "LEAF"]), "nodes_modes must be one of BRANCH_LEQ"),
        (changed(nodes_values=[1.0]), r"nodes_values must have as many entries as .* \(3\), got 1"),
        (changed(nodes_nodeids=[]), "nodes_nodeids must name the nodes of the trees, found none"),
        (changed(nodes_featureids=[-1, 0, 0]), "nodes_featureids must not be negative, got -1"),
        (changed(nodes_featureids=[7, 0, 0]), r"X must have at least 8 features, .* got X\[2, 1\]"),
        (changed(target_nodeids=[99, 2]), "target_nodeids must name nodes of the same tree, but"),
        (changed(target_treeids=[0]), "target_treeids must have as many entries as target_weights"),
        (changed(target_ids=[0, 2]), r"target_ids must name one of 2 targets, got \[2\]"),
        (changed(n_targets=0), "n_targets must be positive, got 0"),
        (changed(base_values=[1.0]), r"base_values must have one entry per target \(2\), got 1"),
        (changed(aggregate_function="MEAN"), "aggregate_function must be one of AVERAGE, SUM, MIN"),
        (changed(nodes_values_as_tensor=np.zeros(3)), "nodes_values_as_tensor must be left out, f"),
    ],
)  # fmt: skip
def test_regressor_says_what_does_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("TreeEnsembleRegressor", [TWO_ROWS], attributes, **ML)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classlabels_int64s": []}, "one of classlabels_int64s and classlabels_strings must name"),
        ({"classlabels_int64s": [1, 2]}, r"class_ids must name one of 2 classes, got \[2\]"),
        ({"base_values": [1.0]}, r"base_values must have one entry per class \(3\), got 1"),
        ({"post_transform": "EXP"}, "post_transform must be one of NONE, SOFTMAX, LOGISTIC"),
    ],
)
def test_classifier_says_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    plants = stump([(0, 1.0)], [(2, 2.0)])
    attributes = attributes_3(plants, "class") | {"classlabels_int64s": [1, 2, 3]} | change
    with pytest.raises(ShapeError, match=message):
        run_op("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)


def test_one_score_needs_labels_and_base_values_that_fit() -> None:
    attributes = attributes_3(stump([(0, 1.0)], [(0, 2.0)]), "class")
    text = attributes | {"classlabels_strings": ["a"]}
    with pytest.raises(ShapeError, match=r"must name at least two classes, got \['a'\]"):
        run_op("TreeEnsembleClassifier", [TWO_ROWS], text, outputs=2, **ML)
    many = attributes | {"classlabels_int64s": [1, 2], "base_values": [1.0] * 3}
    with pytest.raises(ShapeError, match="base_values must have up to 2 entries, one per class, g"):
        run_op("TreeEnsembleClassifier", [TWO_ROWS], many, outputs=2, **ML)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_regressors_are_lowered_to_a_walk(aggregate: str, dtype: Any) -> None:
    plants = forest(modes=COMPARING, votes=2)
    attributes = attributes_3(plants, "target") | {
        "n_targets": 3,
        "aggregate_function": aggregate,
        "base_values": [0.5, -1.0, 0.0],
    }
    x = features(np.random.default_rng(1)).astype(dtype)
    check_lowering("TreeEnsembleRegressor", [x], attributes, **ML)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_classifiers_are_lowered_to_a_walk(transform: str, classes: int) -> None:
    attributes = attributes_3(forest(targets=classes), "class") | {
        "classlabels_int64s": [7, 3, 5][:classes],
        "post_transform": transform,
    }
    x = features(np.random.default_rng(1))
    check_lowering("TreeEnsembleClassifier", [x], attributes, outputs=2, **ML)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "PROBIT"])
@pytest.mark.parametrize("only", [0, 1])
@pytest.mark.parametrize("low", [0.2, -0.2])
def test_two_classes_with_one_score_are_lowered(transform: str, only: int, low: float) -> None:
    attributes = attributes_3(stump([(only, low)], [(only, 0.7)]), "class") | {
        "classlabels_int64s": [4, 6],
        "post_transform": transform,
    }
    check_lowering("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)


def test_missing_features_are_lowered() -> None:
    plants = forest(modes=COMPARING)
    x = features(np.random.default_rng(1))
    x[::2, 1] = np.nan
    attributes = attributes_3(plants, "target") | {"n_targets": 3}
    check_lowering("TreeEnsembleRegressor", [x], attributes, **ML)


def test_labels_that_are_strings_stay_with_the_kernel() -> None:
    attributes = attributes_3(forest(), "class") | {"classlabels_strings": ["a", "b", "c"]}
    with pytest.raises(NotLowered, match=r"loops hold tensors of numbers and bools, found string"):
        lower_op("TreeEnsembleClassifier", [TWO_ROWS], attributes, outputs=2, **ML)
