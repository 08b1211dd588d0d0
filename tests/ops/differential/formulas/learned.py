"""Models of ai.onnx.ml, one row at a time: products, trees walked from the root, maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "BRANCH_LEQ": lambda x, split: x <= split,
    "BRANCH_LT": lambda x, split: x < split,
    "BRANCH_GTE": lambda x, split: x >= split,
    "BRANCH_GT": lambda x, split: x > split,
    "BRANCH_EQ": lambda x, split: x == split,
    "BRANCH_NEQ": lambda x, split: x != split,
}
MODES = (*COMPARISONS, "BRANCH_MEMBER")
"""What the numbers in ``nodes_modes`` of TreeEnsemble mean."""
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
NEARLY_ZERO = 1e-7


def transformed(y: Any, transform: str) -> Any:
    """Scores[N, E] after the transform."""
    if transform == "LOGISTIC":
        return 1 / (1 + np.exp(-y))
    if transform in {"SOFTMAX", "SOFTMAX_ZERO"}:
        e = np.exp(y - y.max(1, keepdims=True))
        if transform == "SOFTMAX_ZERO":  # what is nearly 0 has no part in it
            e = np.where(np.abs(y) > NEARLY_ZERO, e, y * np.exp(-y.max(1, keepdims=True)))
            parts = np.where(np.abs(y) > NEARLY_ZERO, e, 0).sum(1, keepdims=True)
            return e / np.where(parts == 0, 1, parts)
        return e / e.sum(1, keepdims=True)
    return y


def linear_regressor(case: Case) -> list[Any]:
    given = case.attributes
    x = case.inputs[0].astype(np.float64)
    targets = given["targets"]
    y = x @ np.reshape(given["coefficients"], (targets, -1)).T
    y = y + np.array(given.get("intercepts") or [0.0] * targets)
    return [transformed(y, given.get("post_transform", "NONE")).astype(np.float32)]


def aggregated(votes: list[float], way: str, trees: int) -> float:
    """What the votes of the trees for one target make."""
    if way in {"MIN", "MAX"}:
        return (min if way == "MIN" else max)(votes) if votes else 0.0
    return sum(votes) / (trees if way == "AVERAGE" else 1)


def tree_regressor(case: Case) -> list[Any]:
    """Nodes are named by tree and number, votes by the same."""
    given = case.attributes
    names = list(zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True))
    place = {name: i for i, name in enumerate(names)}
    trees = sorted(set(given["nodes_treeids"]))
    named = zip(given["target_treeids"], given["target_nodeids"], strict=True)
    votes: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for leaf, target, weight in zip(
        named, given["target_ids"], given["target_weights"], strict=True
    ):
        votes.setdefault(leaf, []).append((target, weight))
    y = np.zeros((len(case.inputs[0]), given["n_targets"]))
    for row, x in enumerate(case.inputs[0].astype(np.float64)):
        reached = []
        for tree in trees:
            at = place[tree, min(node for owner, node in names if owner == tree)]
            while given["nodes_modes"][at] != "LEAF":
                side = "nodes_truenodeids" if _goes_true(given, at, x) else "nodes_falsenodeids"
                at = place[tree, given[side][at]]
            reached += votes[names[at]]
        for target in range(y.shape[1]):
            own = [weight for voted, weight in reached if voted == target]
            way = given.get("aggregate_function", "SUM")
            y[row, target] = aggregated(own, way, len(trees))
    y += np.array(given.get("base_values") or 0.0)
    return [transformed(y, given.get("post_transform", "NONE")).astype(np.float32)]


def _goes_true(given: Mapping[str, Any], at: int, row: Any) -> bool:
    x = row[given["nodes_featureids"][at]]
    if np.isnan(x):
        return bool(given["nodes_missing_value_tracks_true"][at])
    return COMPARISONS[given["nodes_modes"][at]](x, given["nodes_values"][at])


def tree_ensemble(case: Case) -> list[Any]:
    """Nodes and leaves are numbered apart; sets of members end with NaN."""
    given = case.attributes
    members = _sets(given.get("membership_values"), given["nodes_modes"])
    x = case.inputs[0].astype(np.float64)
    weights = given["leaf_weights"].astype(np.float64)
    y = np.zeros((len(x), given["n_targets"]))
    for row, features in enumerate(x):
        reached = [_leaf(given, root, features, members) for root in given["tree_roots"]]
        for target in range(y.shape[1]):
            own = [weights[leaf] for leaf in reached if given["leaf_targetids"][leaf] == target]
            way = AGGREGATES[given.get("aggregate_function", 1)]
            y[row, target] = aggregated(own, way, len(reached))
    return [transformed(y, TRANSFORMS[given.get("post_transform", 0)]).astype(case.inputs[0].dtype)]


def _sets(values: Any, modes: Any) -> dict[int, set[float]]:
    """The members that each node asks for."""
    ends = iter([] if values is None else values.astype(np.float64).tolist())
    found: dict[int, set[float]] = {}
    for node, mode in enumerate(modes):
        if MODES[mode] == "BRANCH_MEMBER":
            found[node] = set()
            while not np.isnan(value := next(ends)):
                found[node].add(value)
    return found


def _leaf(given: Mapping[str, Any], at: int, row: Any, members: dict[int, set[float]]) -> int:
    is_leaf = False
    while not is_leaf:
        x = row[given["nodes_featureids"][at]]
        if np.isnan(x):
            is_true = bool((given.get("nodes_missing_value_tracks_true") or [0] * (at + 1))[at])
        elif at in members:
            is_true = x in members[at]
        else:
            mode = MODES[given["nodes_modes"][at]]
            is_true = COMPARISONS[mode](x, float(given["nodes_splits"][at]))
        side = "true" if is_true else "false"
        is_leaf, at = bool(given[f"nodes_{side}leafs"][at]), given[f"nodes_{side}nodeids"][at]
    return at


def cast_map(case: Case) -> list[Any]:
    """Values by ascending key, or at the places that the keys name."""
    given, entries = case.attributes, case.inputs[0]
    kind = given.get("cast_to", "TO_FLOAT")

    def cast(value: Any) -> Any:
        if kind == "TO_STRING":
            return value if isinstance(value, str) else f"{value:f}"
        number = float(value)
        return np.int64(number) if kind == "TO_INT64" else np.float32(number)

    dtype = {"TO_STRING": object, "TO_INT64": np.int64, "TO_FLOAT": np.float32}[kind]
    if given.get("map_form", "DENSE") == "DENSE":
        return [np.array([[cast(entries[key]) for key in sorted(entries)]], dtype)]
    y = np.full((1, given["max_map"]), "0.f" if dtype is object else 0, dtype)
    for key, value in entries.items():
        if key < given["max_map"]:
            y[0, key] = cast(value)
    return [y]


FORMULAS: dict[str, Formula] = {
    "CastMap": cast_map,
    "LinearRegressor": linear_regressor,
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleRegressor": tree_regressor,
}
