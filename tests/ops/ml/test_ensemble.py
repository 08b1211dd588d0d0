from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from fornix.dtype import FLOAT32, FLOAT64
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op
from tests.ops.ml.plants import COMPARISONS, Plant, attributes_5, features, grow, sums

ML: dict[str, Any] = {"domain": "ai.onnx.ml", "opset": 5}
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
# Weights of some ten trees, added in float32 by the peer.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def forest(seed: int = 0, trees: int = 6, **how: Any) -> list[Plant]:
    stream = np.random.default_rng(seed)
    plants = [grow(stream, **how) for _ in range(3 * trees)]
    return [plant for plant in plants if plant.children][:trees]


def as_messages(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("targets", [1, 3])
def test_tree_ensemble_is_onnxruntimes(dtype: Any, aggregate: int, targets: int) -> None:
    plants = forest(modes=tuple(COMPARISONS)[:6], targets=targets)
    attributes = attributes_5(plants, dtype, targets) | {"aggregate_function": aggregate}
    x = features(np.random.default_rng(1)).astype(dtype)
    wanted = peer("TreeEnsemble", [x], as_messages(attributes), **ML)
    check_node("TreeEnsemble", [x], attributes, expected=wanted, **TOLERANCE, **ML)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensemble_walks_every_mode_as_the_standard_tells(dtype: Any, aggregate: int) -> None:
    plants = forest(modes=tuple(COMPARISONS), missing=True)
    attributes = attributes_5(plants, dtype, 3) | {"aggregate_function": aggregate}
    x = features(np.random.default_rng(1)).astype(dtype)
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    expected = sums(plants, x, 3, AGGREGATES[aggregate]).astype(dtype)
    rtol = 2e-3 if dtype is np.float16 else 1e-5
    check_node("TreeEnsemble", [x], attributes, expected=[expected], rtol=rtol, atol=rtol, **ML)


def test_sets_are_onnxruntimes() -> None:
    plants = forest(modes=("BRANCH_MEMBER",), targets=2, unit=1.0)  # the peer knows integers only
    attributes = attributes_5(plants, np.float32, 2)
    x = features(np.random.default_rng(1), unit=1.0)
    wanted = peer("TreeEnsemble", [x], as_messages(attributes), **ML)
    check_node("TreeEnsemble", [x], attributes, expected=wanted, **TOLERANCE, **ML)


def test_sets_may_be_empty_and_the_last_one_open() -> None:
    leaves = [Plant(votes=[(0, 1.0)]), Plant(votes=[(0, 2.0)])]
    first = Plant("BRANCH_MEMBER", 0, [], children=leaves)
    second = Plant("BRANCH_MEMBER", 0, [0.0, 2.0], children=leaves)
    attributes = attributes_5([first, second], np.float32, 1)
    attributes["membership_values"] = attributes["membership_values"][:-1]
    x = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    expected = np.array([[3], [4], [3], [4]], np.float32)
    check_node("TreeEnsemble", [x], attributes, expected=[expected], **ML)


def test_a_tree_may_be_a_leaf() -> None:
    attributes = attributes_5(
        [Plant("BRANCH_LEQ", 0, 0.0, children=[leaf := Plant(votes=[(0, 7.0)]), leaf])],
        np.float32,
        1,
    ) | {
        "leaf_targetids": [0], "leaf_weights": np.array([7], np.float32), "nodes_featureids": [5],
        "nodes_truenodeids": [0], "nodes_falsenodeids": [0],
    }  # fmt: skip
    x = np.zeros((2, 1), np.float32)
    check_node("TreeEnsemble", [x], attributes, expected=[np.full((2, 1), 7, np.float32)], **ML)


@pytest.mark.parametrize(("transform", "of_peer"), [(1, 2), (2, 1), (3, 3)])
def test_tree_ensemble_transforms_its_scores(transform: int, of_peer: int) -> None:
    # The standard says 1 is SOFTMAX and 2 is LOGISTIC; onnxruntime has them the other way round.
    attributes = attributes_5(forest(), np.float32, 3) | {"post_transform": transform}
    x = features(np.random.default_rng(1))
    wanted = peer("TreeEnsemble", [x], as_messages(attributes | {"post_transform": of_peer}), **ML)
    check_node("TreeEnsemble", [x], attributes, expected=wanted, **TOLERANCE, **ML)


def test_tree_ensemble_infers_its_targets() -> None:
    x = tensor(FLOAT64, (symbol("N"), 4))
    attributes = attributes_5(forest(), np.float64, 5)
    [y] = infer_op("TreeEnsemble", [x], attributes, **ML)
    assert (y.dtype, y.shape) == (FLOAT64, (symbol("N"), 5))
    del attributes["n_targets"]
    assert infer_op("TreeEnsemble", [x], attributes, **ML)[0].shape[1] == 3


def changed(**change: Any) -> dict[str, Any]:
    leaves = [Plant(votes=[(0, 1.0)]), Plant(votes=[(1, 2.0)])]
    inner = Plant("BRANCH_MEMBER", 0, [1.0], children=leaves)
    root = Plant("BRANCH_LEQ", 0, 0.0, children=[inner, Plant(votes=[(1, 5.0)])])
    return attributes_5([root], np.float32, 2) | change


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (changed(tree_roots=[2]), "tree_roots must index one of 2 nodes, got 2"),
        (changed(tree_roots=[]), "tree_roots must name the root of a tree, found none"),
        (changed(nodes_truenodeids=[5, 0]), r"nodes_truenodeids\[0\] must index one of 2 nodes, g"),
        (changed(nodes_falsenodeids=[0, -1]), r"nodes_falsenodeids\[1\] must index one of 3 leave"),
        (changed(nodes_truenodeids=[0, 0]), "must lead to leaves, found a cycle"),
        (changed(tree_roots=[1], nodes_trueleafs=[0, 0]), "must lead to leaves, found a cycle"),
        (changed(nodes_splits=np.zeros(3)), r"nodes_splits must have as many entries as nodes_mod"),
        (changed(nodes_modes=np.array([9, 6])), "nodes_modes must be 0 to 6, got 9"),
        (changed(leaf_weights=np.zeros(1)), r"leaf_weights must have as many entries as leaf_targ"),
        (changed(leaf_targetids=[0, 1, 2]), "leaf_targetids must name one of 2 targets, got 2"),
        (changed(leaf_targetids=[0, 1, -1]), "leaf_targetids must name one of 2 targets, got -1"),
        (changed(n_targets=0), "n_targets must be positive, got 0"),
        (changed(membership_values=np.array([1, np.nan, 2])), r"BRANCH_MEMBER node \(1\), .*got 2"),
        (changed(aggregate_function=4), r"one of 0 \(AVERAGE\), 1 \(SUM\), 2 \(MIN\), 3 \(MAX\)"),
        (changed(post_transform=-1), r"post_transform must be one of 0 \(NONE\), 1 \(SOFTMAX\), 2"),
        (changed(nodes_featureids=[0, 3]), "X must have at least 4 features, which the trees read"),
    ],
)  # fmt: skip
def test_tree_ensemble_says_what_does_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("TreeEnsemble", [np.zeros((2, 1), np.float32)], attributes, **ML)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_truenodeids": [0]}, r"nodes_truenodeids must have as many entries .*\(2\), got 1"),
        ({"nodes_splits": np.zeros(3, np.float32)}, r"nodes_splits must have .*\(2\), got 3"),
        ({"leaf_weights": np.zeros(1, np.float32)}, r"leaf_weights must have .*\(3\), got 1"),
        ({"leaf_weights": np.zeros(3)}, "leaf_weights must be float32 as X is, found float64"),
        ({"nodes_splits": np.zeros(2)}, "nodes_splits must be float32 as X is, found float64"),
    ],
)
def test_tree_ensemble_infers_nothing_of_lists_that_do_not_fit(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises((ShapeError, DTypeError), match=message):
        infer_op("TreeEnsemble", [tensor(FLOAT32, (2, 1))], changed(**change), **ML)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensembles_are_lowered_to_a_walk(dtype: Any, aggregate: int) -> None:
    plants = forest(modes=tuple(COMPARISONS), missing=True)
    attributes = attributes_5(plants, dtype, 3) | {"aggregate_function": aggregate}
    x = features(np.random.default_rng(1)).astype(dtype)
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    for transform in range(5):
        check_lowering("TreeEnsemble", [x], attributes | {"post_transform": transform}, **ML)


EDGES = [-np.inf, -1.0, -5e-45, -0.0, 0.0, 5e-45, 1.0, np.inf, np.nan]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("trees", [1, 7, 8, 9, 20])
def test_lowered_trees_compare_at_the_edges_as_the_kernel_does(dtype: Any, trees: int) -> None:
    stream = np.random.default_rng(trees)
    plants = forest(trees, trees, modes=tuple(COMPARISONS), missing=True)
    attributes = attributes_5(plants, dtype, 3)
    splits = attributes["nodes_splits"]
    attributes["nodes_splits"] = stream.choice(EDGES, splits.shape).astype(splits.dtype)
    x = stream.choice(EDGES, (17, 4)).astype(dtype)
    check_lowering("TreeEnsemble", [x], attributes, **ML)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(0, 1, 2, 9), (30, 300)])
def test_sets_of_any_numbers_are_searched_as_the_kernel_does(
    dtype: Any, sizes: tuple[int, ...]
) -> None:
    stream = np.random.default_rng(len(sizes))
    numbers = np.array([*EDGES[:-1], *stream.standard_normal(400)], dtype)
    near = np.nextafter(numbers, dtype(np.inf))
    leaves = [[Plant(votes=[(0, 2.0**k)]), Plant(votes=[(0, 3.0 * 2**k)])] for k in range(9)]
    plants = [
        Plant("BRANCH_MEMBER", k % 2, stream.choice(numbers, size).tolist(), k % 3 == 0, pair)
        for k, (pair, size) in enumerate(zip(leaves, sizes * 4, strict=False))
    ]
    attributes = attributes_5(plants, dtype, 1)
    among = np.concatenate([numbers, near, [dtype(np.nan)]])
    for rows in (1, 200):
        check_lowering("TreeEnsemble", [stream.choice(among, (rows, 2))], attributes, **ML)


def test_votes_for_too_many_targets_stay_with_the_kernel() -> None:
    attributes = attributes_5(forest(targets=1), np.float32, 1) | {"n_targets": 1 << 22}
    with pytest.raises(NotLowered, match=r"votes of \d+ nodes for 4194304 targets fill no table"):
        lower_op("TreeEnsemble", [features(np.random.default_rng(1))], attributes, **ML)


@pytest.mark.parametrize("aggregate", [2, 3])  # MIN, MAX
@pytest.mark.parametrize("vote", [np.inf, -np.inf, np.nan])
def test_extremes_of_votes_that_are_not_finite_stay_with_the_kernel(
    aggregate: int, vote: float
) -> None:
    plants = [Plant("BRANCH_LEQ", children=[Plant(votes=[(0, vote)]), Plant(votes=[(0, 1.0)])])]
    attributes = attributes_5(plants, np.float32, 1) | {"aggregate_function": aggregate}
    x = np.zeros((2, 4), np.float32)
    np.testing.assert_array_equal(run_op("TreeEnsemble", [x], attributes, **ML)[0], [[vote]] * 2)
    with pytest.raises(NotLowered, match="votes that are not finite are found by the kernel"):
        lower_op("TreeEnsemble", [x], attributes, **ML)
