"""Random trees in both notations, and a walk through them, node by node, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

COMPARISONS = {
    "BRANCH_LEQ": lambda x, t: x <= t,
    "BRANCH_LT": lambda x, t: x < t,
    "BRANCH_GTE": lambda x, t: x >= t,
    "BRANCH_GT": lambda x, t: x > t,
    "BRANCH_EQ": lambda x, t: x == t,
    "BRANCH_NEQ": lambda x, t: x != t,
    "BRANCH_MEMBER": lambda x, t: x in t,
}


@dataclass
class Plant:
    """A node; without children it is a leaf, whose votes are (target, weight)."""

    mode: str = "LEAF"
    feature: int = 0
    threshold: Any = 0.0
    tracks_true: bool = False
    children: list[Plant] = field(default_factory=list)
    votes: list[tuple[int, float]] = field(default_factory=list)


def grow(
    stream: np.random.Generator,
    *,
    features: int = 4,
    targets: int = 3,
    depth: int = 4,
    modes: tuple[str, ...] = ("BRANCH_LEQ",),
    votes: int | None = None,
    missing: bool = False,
    unit: float = 0.25,
) -> Plant:
    """A random tree; thresholds are whole units, so that features meet them exactly."""
    if depth == 0 or stream.random() < 0.15:
        count = 1 if votes is None else votes
        ids = stream.permutation(targets)[:count]
        return Plant(votes=[(int(i), float(np.float32(stream.standard_normal()))) for i in ids])
    mode = str(stream.choice(modes))
    threshold: Any = float(stream.integers(-4, 5)) * unit
    if mode == "BRANCH_MEMBER":
        threshold = sorted({float(v) * unit for v in stream.integers(-4, 5, 3)})
    sub: dict[str, Any] = {
        "features": features, "targets": targets, "depth": depth - 1, "modes": modes,
        "votes": votes, "missing": missing, "unit": unit,
    }  # fmt: skip
    children = [grow(stream, **sub), grow(stream, **sub)]
    tracks = missing and bool(stream.integers(2))
    return Plant(mode, int(stream.integers(features)), threshold, tracks, children)


def features(stream: np.random.Generator, rows: int = 30, unit: float = 0.25) -> Any:
    """Four features per row, whole units like the thresholds."""
    return (stream.integers(-6, 7, (rows, 4)) * unit).astype(np.float32)


def reached(plant: Plant, row: Any) -> Plant:
    """The leaf that ``row`` reaches."""
    while plant.children:
        value = float(row[plant.feature])
        if np.isnan(value):
            is_true = plant.tracks_true
        else:
            is_true = COMPARISONS[plant.mode](value, plant.threshold)
        plant = plant.children[0 if is_true else 1]
    return plant


def sums(plants: list[Plant], x: Any, targets: int, aggregate: str = "SUM") -> Any:
    """What the leaves that each row reaches give together."""
    y = np.zeros((len(x), targets))
    for row, values in enumerate(x):
        for target in range(targets):
            given = [w for p in plants for t, w in reached(p, values).votes if t == target]
            y[row, target] = {
                "SUM": sum,
                "AVERAGE": lambda given: sum(given) / len(plants),
                "MIN": lambda given: min(given, default=0),
                "MAX": lambda given: max(given, default=0),
            }[aggregate](given)
    return y


def attributes_3(plants: list[Plant], votes: str, first: int = 0) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor (``votes`` = target) or -Classifier (class).

    Nodes of each tree are numbered from ``first``.
    """
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids",
                     "falsenodeids", "missing_value_tracks_true")
    }  # fmt: skip
    given: dict[str, list[Any]] = {
        f"{votes}_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")
    }
    for tree, plant in enumerate(plants):
        listed = [plant]
        for node in listed:
            listed += node.children
        number = {id(node): first + index for index, node in enumerate(listed)}
        for node in listed:
            on_true, on_false = [number[id(child)] for child in node.children] or (0, 0)
            entry = (tree, number[id(node)], node.mode, node.feature, node.threshold, on_true,
                     on_false, int(node.tracks_true))  # fmt: skip
            for name, value in zip(nodes, entry, strict=True):
                nodes[name].append(value)
            votes_of_node = [(tree, number[id(node)], *vote) for vote in node.votes]
            for name, column in zip(given, zip(*votes_of_node, strict=True), strict=False):
                given[name] += column
    return nodes | given


def attributes_5(plants: list[Plant], dtype: Any, targets: int) -> dict[str, Any]:
    """The attributes of TreeEnsemble."""
    inner: list[Plant] = []
    leaves: list[Plant] = []
    for plant in plants:
        listed = [plant]
        for node in listed:
            listed += node.children
        inner += [node for node in listed if node.children]
        leaves += [node for node in listed if not node.children]
    place = {id(n): i for group in (inner, leaves) for i, n in enumerate(group)}
    modes = [tuple(COMPARISONS).index(node.mode) for node in inner]
    sets = [[*node.threshold, np.nan] for node in inner if node.mode == "BRANCH_MEMBER"]
    plain = [0.0 if node.mode == "BRANCH_MEMBER" else node.threshold for node in inner]
    found: dict[str, Any] = {
        "n_targets": targets,
        "tree_roots": [place[id(plant)] for plant in plants],
        "nodes_modes": np.array(modes, np.uint8),
        "nodes_featureids": [node.feature for node in inner],
        "nodes_splits": np.array(plain, dtype),
        "nodes_missing_value_tracks_true": [int(node.tracks_true) for node in inner],
        "leaf_targetids": [leaf.votes[0][0] for leaf in leaves],
        "leaf_weights": np.array([leaf.votes[0][1] for leaf in leaves], dtype),
    }
    for branch, name in enumerate(("true", "false")):
        children = [node.children[branch] for node in inner]
        found[f"nodes_{name}nodeids"] = [place[id(child)] for child in children]
        found[f"nodes_{name}leafs"] = [int(not child.children) for child in children]
    if sets:
        found["membership_values"] = np.array([v for group in sets for v in group], dtype)
    return found
