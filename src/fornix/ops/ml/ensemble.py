"""TreeEnsemble: trees whose nodes and leaves stand in lists of their own, and sets as thresholds.

The walk is `forest.py`'s; here the attributes become its tables, checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.dtype import DType
from fornix.errors import DTypeError, require
from fornix.ir.loops import Tensor
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.ml.forest import (
    AGGREGATES,
    BRANCHES,
    MEMBER,
    SIDES,
    Forest,
    Members,
    Votes,
    branch_table,
)
from fornix.ops.ml.forest_loops import lower_sums
from fornix.ops.ml.scores import (
    TRANSFORMS,
    lower_rows,
    lower_transformed,
    row_count,
    rows_of,
    transformed,
)
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.types import FLOAT

TreeEnsemble = op(
    """TreeEnsemble <aggregate_function: int = 1, leaf_targetids: ints, leaf_weights: tensor,
                     membership_values: tensor?, n_targets: int?, nodes_falseleafs: ints,
                     nodes_falsenodeids: ints, nodes_featureids: ints, nodes_hitrates: tensor?,
                     nodes_missing_value_tracks_true: ints?, nodes_modes: tensor,
                     nodes_splits: tensor, nodes_trueleafs: ints, nodes_truenodeids: ints,
                     post_transform: int = 0, tree_roots: ints>
                    (X: T) => (Y: T)""",
    since=5, domain="ai.onnx.ml", T=FLOAT,
)  # fmt: skip


@TreeEnsemble.infer
def infer_tree_ensemble(
    X: Fact,
    *,
    nodes_splits: Array,
    leaf_targetids: list[int],
    leaf_weights: Array,
    n_targets: int | None = None,
    aggregate_function: int,
    post_transform: int,
    **attributes: Any,
) -> Fact:
    _numbered(AGGREGATES, aggregate_function, "aggregate_function")
    _numbered(TRANSFORMS, post_transform, "post_transform")
    if X.dtype is not None:
        _check_dtypes(X.dtype, nodes_splits, leaf_weights)
    _check_lengths(
        attributes["nodes_modes"].size,
        {
            **{name: attributes[name] for name in LISTS_OF_NODES},
            "nodes_splits": nodes_splits.reshape(-1),
            "nodes_missing_value_tracks_true": attributes.get("nodes_missing_value_tracks_true")
            or None,
        },
    )
    _check_weights(leaf_weights, len(leaf_targetids))
    targets = _target_count(n_targets, leaf_targetids)
    return tensor(X.dtype, [row_count(X) if X.has_rank else None, targets])


LISTS_OF_NODES = (
    "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs",
    "nodes_falseleafs",
)  # fmt: skip
"""Lists of integers that every ensemble has, with an entry for each node."""


def _check_lengths(count: int, lists: Mapping[str, Sequence[float] | Array | None]) -> None:
    """Raise ShapeError unless those of ``lists`` that are given have ``count`` entries."""
    for name, found in lists.items():
        require(
            found is None or len(found) == count,
            f"{name} must have as many entries as nodes_modes ({count}), "
            f"got {0 if found is None else len(found)}",
        )


def _check_weights(weights: Array, leaves: int) -> None:
    require(
        weights.size == leaves,
        f"leaf_weights must have as many entries as leaf_targetids ({leaves}), got {weights.size}",
    )


def _check_dtypes(dtype: DType, splits: Array, weights: Array) -> None:
    for name, values in (("nodes_splits", splits), ("leaf_weights", weights)):
        found = DType.of(values.dtype)
        require(dtype is found, f"{name} must be {dtype} as X is, found {found}", DTypeError)


@TreeEnsemble.kernel
def tree_ensemble(
    X: Array,
    *,
    tree_roots: list[int],
    nodes_modes: Array,
    nodes_featureids: list[int],
    nodes_splits: Array,
    nodes_truenodeids: list[int],
    nodes_trueleafs: list[int],
    nodes_falsenodeids: list[int],
    nodes_falseleafs: list[int],
    leaf_targetids: list[int],
    leaf_weights: Array,
    nodes_missing_value_tracks_true: list[int] | None = None,
    nodes_hitrates: Array | None = None,
    membership_values: Array | None = None,
    n_targets: int | None = None,
    aggregate_function: int,
    post_transform: int,
    node: RunNode,
) -> Array:
    """What the leaves that a row reaches in all trees give together, per target.

    X[N, F] → Y[N, T]; nodes compare a feature with a threshold, or ask whether it is a member of a
    set. AVERAGE divides by the number of trees, MIN and MAX see only the trees that give a target
    anything, which otherwise is 0. A missing feature (NaN) follows nodes_missing_value_tracks_true.
    Weights are added in float64; post_transform applies whatever the number of targets.
    Source: ONNX ai.onnx.ml TreeEnsemble-5.
    """
    aggregate = _numbered(AGGREGATES, aggregate_function, "aggregate_function")
    transform = _numbered(TRANSFORMS, post_transform, "post_transform")
    nodes = Nodes(
        nodes_modes,
        nodes_featureids,
        nodes_splits,
        (nodes_truenodeids, nodes_falsenodeids),
        (nodes_trueleafs, nodes_falseleafs),
        nodes_missing_value_tracks_true,
        membership_values,
    )
    forest = node.once(lambda: nodes.forest(tree_roots, leaf_targetids, leaf_weights))
    _check_dtypes(DType.of(X.dtype), nodes_splits, leaf_weights)
    targets = _target_count(n_targets, leaf_targetids)
    sums = forest.sums(rows_of(X), targets, aggregate)
    return transformed(sums, transform).astype(X.dtype)


@TreeEnsemble.lower
def lower_tree_ensemble(
    X: Tensor,
    *,
    tree_roots: list[int],
    nodes_modes: Array,
    nodes_featureids: list[int],
    nodes_splits: Array,
    nodes_truenodeids: list[int],
    nodes_trueleafs: list[int],
    nodes_falsenodeids: list[int],
    nodes_falseleafs: list[int],
    leaf_targetids: list[int],
    leaf_weights: Array,
    nodes_missing_value_tracks_true: list[int] | None = None,
    nodes_hitrates: Array | None = None,
    membership_values: Array | None = None,
    n_targets: int | None = None,
    aggregate_function: int,
    post_transform: int,
    node: LowerNode,
) -> Tensor:
    nodes = Nodes(
        nodes_modes,
        nodes_featureids,
        nodes_splits,
        (nodes_truenodeids, nodes_falsenodeids),
        (nodes_trueleafs, nodes_falseleafs),
        nodes_missing_value_tracks_true,
        membership_values,
    )
    sums = lower_sums(
        nodes.forest(tree_roots, leaf_targetids, leaf_weights),
        lower_rows(X),
        _target_count(n_targets, leaf_targetids),
        _numbered(AGGREGATES, aggregate_function, "aggregate_function"),
        node,
    )
    transform = _numbered(TRANSFORMS, post_transform, "post_transform")
    return cast_tensor(lower_transformed(sums, transform), X.dtype)


def _numbered(names: Sequence[str], number: int, attribute: str) -> str:
    """The one of ``names`` that ``number`` stands for."""
    listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
    require(0 <= number < len(names), f"{attribute} must be one of {listed}, got {number}")
    return names[number]


def _target_count(stated: int | None, ids: Sequence[int]) -> int:
    """Number of targets, which holds all that leaves name; not stated, as many as they need."""
    highest, lowest = max(ids, default=0), min(ids, default=0)
    count = highest + 1 if stated is None else stated
    require(count > 0, f"n_targets must be positive, got {count}")
    require(
        0 <= lowest <= highest < count,
        f"leaf_targetids must name one of {count} targets, got {lowest if lowest < 0 else highest}",
    )
    return count


@dataclass(frozen=True)
class Nodes:
    """The attributes that describe inner nodes, branches as (true, false)."""

    modes: Array
    features: Sequence[int]
    splits: Array
    children: tuple[Sequence[int], Sequence[int]]
    are_leaves: tuple[Sequence[int], Sequence[int]]
    tracks_true: Sequence[int] | None
    membership: Array | None

    def forest(self, roots: Sequence[int], targets: Sequence[int], weights: Array) -> Forest:
        """The forest of these nodes, leaves numbered after them."""
        modes = np.asarray(self.modes).reshape(-1).astype(np.intp)
        count, leaves = modes.size, len(targets)
        self._check(count, roots)
        _check_weights(weights, leaves)
        children = [self._children(index, count, leaves) for index in range(2)]
        following = np.repeat(np.arange(count + leaves)[:, None], SIDES, axis=1)
        splits = np.asarray(self.splits).reshape(-1)
        tracks = np.asarray(self.tracks_true, np.int64) if self.tracks_true else None
        following[:count] = branch_table(modes, children[0], children[1], tracks, splits)
        # A node of which both branches lead to one leaf stands for that leaf; it reads nothing.
        feature = np.zeros(count + leaves, np.intp)
        feature[:count] = np.where(children[0] == children[1], 0, self.features)
        own = np.arange(count, count + leaves)
        return Forest(
            np.asarray(roots, np.intp),
            feature,
            np.concatenate([splits, np.zeros(leaves, splits.dtype)]),
            following,
            np.arange(count + leaves) >= count,
            Votes.of(count + leaves, own, np.asarray(targets, np.intp), weights.reshape(-1)),
            self._members(modes, count + leaves),
        )

    def _check(self, count: int, roots: Sequence[int]) -> None:
        """Raise ShapeError unless the lists have one length and roots are nodes."""
        _check_lengths(
            count,
            {
                "nodes_featureids": self.features,
                "nodes_splits": self.splits.reshape(-1),
                "nodes_truenodeids": self.children[0],
                "nodes_falsenodeids": self.children[1],
                "nodes_trueleafs": self.are_leaves[0],
                "nodes_falseleafs": self.are_leaves[1],
                "nodes_missing_value_tracks_true": self.tracks_true or None,
            },
        )
        require(len(roots) > 0, "tree_roots must name the root of a tree, found none")
        wrong = [root for root in roots if not 0 <= root < count]
        require(
            not wrong, f"tree_roots must index one of {count} nodes, got {wrong[0] if wrong else 0}"
        )
        modes = np.asarray(self.modes).reshape(-1)
        high = modes.max(initial=0)
        require(high < len(BRANCHES), f"nodes_modes must be 0 to {len(BRANCHES) - 1}, got {high}")

    def _children(self, branch: int, count: int, leaves: int) -> Array:
        """Where one branch of each node leads, in the common numbering of nodes and leaves."""
        child = np.asarray(self.children[branch], np.int64)
        is_leaf = np.asarray(self.are_leaves[branch], np.int64) != 0
        bound = np.where(is_leaf, leaves, count)
        [wrong] = np.nonzero((child < 0) | (child >= bound))
        name = ("nodes_truenodeids", "nodes_falsenodeids")[branch]
        if wrong.size:
            place = wrong[0]
            what = "leaves" if is_leaf[place] else "nodes"
            require(
                condition=False,
                message=f"{name}[{place}] must index one of {bound[place]} {what}, "
                f"got {child[place]}",
            )
        return np.where(is_leaf, child + count, child)

    def _members(self, modes: Array, count: int) -> Members | None:
        """The sets of nodes that ask for membership, if there are any."""
        [asking] = np.nonzero(modes == MEMBER)
        listed = None if self.membership is None else np.asarray(self.membership).reshape(-1)
        if not asking.size and (listed is None or not listed.size):
            return None
        return Members.of(count, asking, np.zeros(0) if listed is None else listed)
