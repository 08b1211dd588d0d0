"""Tree ensembles with votes at leaves: TreeEnsembleClassifier and TreeEnsembleRegressor.

TreeEnsemble, which replaces both since opset 5, is in `ensemble.py`. Here attributes become a
`Forest`, checked, and sums of votes become labels and scores. Features are compared exactly,
whatever the dtypes of features and thresholds; votes are added in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from fornix.dtype import FLOAT32, INT64, DType
from fornix.errors import require
from fornix.ir.loops import Tensor, cast, compute, constant
from fornix.ops.along import mapped, with_units
from fornix.ops.call import LowerNode, RunNode
from fornix.ops.extremes import lower_arg_max
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.ml.forest import (
    AGGREGATES,
    BRANCHES,
    MEMBER,
    SIDES,
    Forest,
    Votes,
    branch_table,
)
from fornix.ops.ml.forest_loops import lower_sums
from fornix.ops.ml.scores import (
    check_transform,
    label_dtype,
    labels_of,
    lower_rows,
    lower_transformed,
    lower_two_scores,
    pair,
    probit,
    row_count,
    rows_of,
    transformed,
    two_scores,
)
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.types import F32, F64, I32, I64, STRING

MODES = (*tuple(BRANCHES)[:MEMBER], "LEAF")
"""Modes of nodes before TreeEnsemble-5: sets came with it, and leaves were nodes."""

LEAF = len(MODES) - 1


class NodeAttributes(TypedDict, total=False):
    """The nodes of trees, as parallel lists; leaves are nodes too."""

    nodes_treeids: list[int]
    nodes_nodeids: list[int]
    nodes_modes: list[str]
    nodes_featureids: list[int]
    nodes_values: list[float]
    nodes_values_as_tensor: Array
    nodes_truenodeids: list[int]
    nodes_falsenodeids: list[int]
    nodes_missing_value_tracks_true: list[int]
    nodes_hitrates: list[float]
    nodes_hitrates_as_tensor: Array


TreeEnsembleClassifier = (
    op("""TreeEnsembleClassifier <base_values: floats?, class_ids: ints?, class_nodeids: ints?,
                                  class_treeids: ints?, class_weights: floats?,
                                  classlabels_int64s: ints?, classlabels_strings: strings?,
                                  nodes_falsenodeids: ints?, nodes_featureids: ints?,
                                  nodes_hitrates: floats?, nodes_missing_value_tracks_true: ints?,
                                  nodes_modes: strings?, nodes_nodeids: ints?,
                                  nodes_treeids: ints?, nodes_truenodeids: ints?,
                                  nodes_values: floats?, post_transform: string = "NONE">
                                 (X: T1) => (Y: T2, Z: tensor(float))""",
       since=1, domain="ai.onnx.ml", T1=F32 | F64 | I32 | I64, T2=STRING | I64)
    .since(3, """TreeEnsembleClassifier <base_values: floats?, base_values_as_tensor: tensor?,
                                         class_ids: ints?, class_nodeids: ints?,
                                         class_treeids: ints?, class_weights: floats?,
                                         class_weights_as_tensor: tensor?,
                                         classlabels_int64s: ints?, classlabels_strings: strings?,
                                         nodes_falsenodeids: ints?, nodes_featureids: ints?,
                                         nodes_hitrates: floats?, nodes_hitrates_as_tensor: tensor?,
                                         nodes_missing_value_tracks_true: ints?,
                                         nodes_modes: strings?, nodes_nodeids: ints?,
                                         nodes_treeids: ints?, nodes_truenodeids: ints?,
                                         nodes_values: floats?, nodes_values_as_tensor: tensor?,
                                         post_transform: string = "NONE">
                                        (X: T1) => (Y: T2, Z: tensor(float))""")
    .since(5, deprecated=True)
)  # fmt: skip


@TreeEnsembleClassifier.infer
def infer_tree_ensemble_classifier(
    X: Fact,
    *,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    post_transform: str,
    **_: object,
) -> tuple[Fact, Fact]:
    check_transform(post_transform)
    labels = labels_of(classlabels_int64s, classlabels_strings, "classlabels_int64s")
    rows = row_count(X) if X.has_rank else None
    return tensor(label_dtype(classlabels_strings), [rows]), tensor(FLOAT32, [rows, len(labels)])


@TreeEnsembleClassifier.kernel
def tree_ensemble_classifier(
    X: Array,
    *,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    class_treeids: list[int] | None = None,
    class_nodeids: list[int] | None = None,
    class_ids: list[int] | None = None,
    class_weights: list[float] | None = None,
    class_weights_as_tensor: Array | None = None,
    base_values: list[float] | None = None,
    base_values_as_tensor: Array | None = None,
    post_transform: str,
    node: RunNode,
    **nodes: Unpack[NodeAttributes],
) -> tuple[Array, Array]:
    """The class with the largest sum of votes of all trees plus base values, and the scores.

    X[N, F] → Y[N], Z[N, E]; post_transform applies to Z alone. Where only one of two classes ever
    gets votes, its score s decides as in onnxruntime: the second class wins if s > ½, or s > 0 if a
    weight is negative; Z is [1 − s, s] or [−s, s], with LOGISTIC [σ(−s), σ(s)], if the votes are
    for the first, and [0, s] if they are for the second. A single class is 1 where s > 0, else 0.
    Sums are rounded to float32 (to float64 if an attribute is float64) before they are compared.
    A missing feature (NaN) follows nodes_missing_value_tracks_true, in every mode.
    Source: ONNX ai.onnx.ml TreeEnsembleClassifier-3.
    """
    check_transform(post_transform)
    labels = labels_of(classlabels_int64s, classlabels_strings, "classlabels_int64s")
    weights = _floats("class_weights", class_weights, class_weights_as_tensor)
    base = _floats("base_values", base_values, base_values_as_tensor)
    forest = node.once(
        lambda: _forest(
            nodes, "class", class_treeids, class_nodeids, class_ids, weights, len(labels)
        )
    )
    targets = forest.votes.target
    _check_targets("class_ids", targets, len(labels), "classes")
    rows = rows_of(X)
    dtype = np.result_type(np.float32, weights.dtype, base.dtype)
    sums = forest.sums(rows, len(labels), "SUM")
    only = int(targets[0]) if targets.size and (targets == targets[0]).all() else None
    if len(labels) == 1 or (len(labels) == 2 and only is not None):
        score = (sums[:, only or 0] + _base_of_one(base, only or 0, len(labels))).astype(dtype)
        winners, z = _binary(
            score, len(labels), only or 0, base, post_transform, is_margin=bool((weights < 0).any())
        )
        if len(labels) == 1:
            labels = _two_labels(labels)
    else:
        scores = (sums + _base_of_all(base, len(labels))).astype(dtype)
        winners, z = scores.argmax(axis=1), transformed(scores, post_transform)
    return labels[winners], z.astype(np.float32, copy=False)


@TreeEnsembleClassifier.lower
def lower_tree_ensemble_classifier(
    X: Tensor,
    *,
    classlabels_int64s: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    class_treeids: list[int] | None = None,
    class_nodeids: list[int] | None = None,
    class_ids: list[int] | None = None,
    class_weights: list[float] | None = None,
    class_weights_as_tensor: Array | None = None,
    base_values: list[float] | None = None,
    base_values_as_tensor: Array | None = None,
    post_transform: str,
    node: LowerNode,
    **nodes: Unpack[NodeAttributes],
) -> tuple[Tensor, Tensor]:
    labels = labels_of(classlabels_int64s, classlabels_strings, "classlabels_int64s")
    weights = _floats("class_weights", class_weights, class_weights_as_tensor)
    base = _floats("base_values", base_values, base_values_as_tensor)
    count = len(labels)
    forest = _forest(nodes, "class", class_treeids, class_nodeids, class_ids, weights, count)
    targets = forest.votes.target
    _check_targets("class_ids", targets, count, "classes")
    sums = lower_sums(forest, lower_rows(X), count, "SUM", node)
    dtype = DType.of(np.result_type(np.float32, weights.dtype, base.dtype))
    only = int(targets[0]) if targets.size and (targets == targets[0]).all() else None
    if count == 1 or (count == 2 and only is not None):
        added = _base_of_one(base, only or 0, count)
        score = compute(sums.shape[:1], lambda n: cast(sums[n, only or 0] + added, dtype))
        is_margin = bool((weights < 0).any())
        winners, z = _lower_binary(
            score, count, only or 0, base, post_transform, is_margin=is_margin
        )
        labels = _two_labels(labels) if count == 1 else labels
    else:
        offset = constant(_base_of_all(base, count))
        scores = compute(sums.shape, lambda n, e: cast(sums[n, e] + offset[e], dtype))
        winners = lower_arg_max(scores, axis=1, keepdims=0)
        z = lower_transformed(scores, post_transform)
    names = constant(labels)
    return mapped(lambda winner: names[winner], winners), cast_tensor(z, FLOAT32)


def _lower_binary(
    score: Tensor, classes: int, only: int, base: Array, transform: str, *, is_margin: bool
) -> tuple[Tensor, Tensor]:
    """`_binary` for lowerings."""
    threshold = 0.0 if classes == 1 or is_margin else 0.5
    winners = mapped(lambda v: cast(v > threshold, INT64), score)
    if classes == 1:
        z = mapped(probit, score) if transform == "PROBIT" else score
        return winners, with_units(z, [1])
    if only == 0:
        return winners, lower_two_scores(score, transform, is_margin=is_margin)
    first = float(base[0]) if base.size == 2 else 0.0
    other = compute(score.shape, lambda *_: first, score.dtype)
    return winners, lower_transformed(pair(other, score), transform)


def _two_labels(labels: Array) -> Array:
    """What a classifier with one class answers: 0 or 1, as in onnxruntime."""
    require(
        labels.dtype != object,
        f"classlabels_strings must name at least two classes, got {labels.tolist()}",
    )
    return np.array([0, 1], np.int64)


def _binary(
    score: Array, classes: int, only: int, base: Array, transform: str, *, is_margin: bool
) -> tuple[Array, Array]:
    """Which rows are positive, and the scores, where only one class gets votes."""
    if classes == 1:
        z = probit(score) if transform == "PROBIT" else score
        return (score > 0).astype(np.intp), z[:, None]
    winners = (score > (0 if is_margin else 0.5)).astype(np.intp)
    if only == 0:
        return winners, two_scores(score, transform, is_margin=is_margin)
    other = np.full_like(score, base[0] if base.size == 2 else 0)
    return winners, transformed(np.stack([other, score], axis=1), transform)


def _base_of_one(base: Array, only: int, classes: int) -> float:
    """The base value of the only class that gets votes; a single one counts for any."""
    require(
        base.size <= classes,
        f"base_values must have up to {classes} entries, one per class, got {base.size}",
    )
    return float(base[min(only, base.size - 1)]) if base.size else 0.0


def _base_of_all(base: Array, classes: int, what: str = "class") -> Array:
    """Base values of all classes. One for two classes is that of the first, as in onnxruntime."""
    if base.size == 1 and classes == 2 and what == "class":
        return np.array([base[0], 0], np.float64)
    require(
        base.size in {0, classes},
        f"base_values must have one entry per {what} ({classes}), got {base.size}",
    )
    return base.astype(np.float64) if base.size else np.zeros(classes)


TreeEnsembleRegressor = (
    op("""TreeEnsembleRegressor <aggregate_function: string = "SUM", base_values: floats?,
                                 n_targets: int?, nodes_falsenodeids: ints?,
                                 nodes_featureids: ints?, nodes_hitrates: floats?,
                                 nodes_missing_value_tracks_true: ints?, nodes_modes: strings?,
                                 nodes_nodeids: ints?, nodes_treeids: ints?,
                                 nodes_truenodeids: ints?, nodes_values: floats?,
                                 post_transform: string = "NONE", target_ids: ints?,
                                 target_nodeids: ints?, target_treeids: ints?,
                                 target_weights: floats?>
                                (X: T) => (Y: tensor(float))""",
       since=1, domain="ai.onnx.ml", T=F32 | F64 | I32 | I64)
    .since(3, """TreeEnsembleRegressor <aggregate_function: string = "SUM", base_values: floats?,
                                        base_values_as_tensor: tensor?, n_targets: int?,
                                        nodes_falsenodeids: ints?, nodes_featureids: ints?,
                                        nodes_hitrates: floats?, nodes_hitrates_as_tensor: tensor?,
                                        nodes_missing_value_tracks_true: ints?,
                                        nodes_modes: strings?, nodes_nodeids: ints?,
                                        nodes_treeids: ints?, nodes_truenodeids: ints?,
                                        nodes_values: floats?, nodes_values_as_tensor: tensor?,
                                        post_transform: string = "NONE", target_ids: ints?,
                                        target_nodeids: ints?, target_treeids: ints?,
                                        target_weights: floats?, target_weights_as_tensor: tensor?>
                                       (X: T) => (Y: tensor(float))""")
    .since(5, deprecated=True)
)  # fmt: skip


@TreeEnsembleRegressor.infer
def infer_tree_ensemble_regressor(
    X: Fact,
    *,
    n_targets: int | None = None,
    target_ids: list[int] | None = None,
    post_transform: str,
    aggregate_function: str,
    **_: object,
) -> Fact:
    check_transform(post_transform)
    _check_aggregate(aggregate_function)
    targets = _target_count(n_targets, target_ids)
    return tensor(FLOAT32, [row_count(X) if X.has_rank else None, targets])


@TreeEnsembleRegressor.kernel
def tree_ensemble_regressor(
    X: Array,
    *,
    n_targets: int | None = None,
    target_treeids: list[int] | None = None,
    target_nodeids: list[int] | None = None,
    target_ids: list[int] | None = None,
    target_weights: list[float] | None = None,
    target_weights_as_tensor: Array | None = None,
    base_values: list[float] | None = None,
    base_values_as_tensor: Array | None = None,
    aggregate_function: str,
    post_transform: str,
    node: RunNode,
    **nodes: Unpack[NodeAttributes],
) -> Array:
    """What the leaves that a row reaches give together, per target, plus base values.

    X[N, F] → Y[N, T]; AVERAGE divides by the number of trees, MIN and MAX see only the trees that
    give a target anything. post_transform applies to Y, whatever the number of targets. A missing
    feature (NaN) follows nodes_missing_value_tracks_true, in every mode. Votes add in float64.
    Source: ONNX ai.onnx.ml TreeEnsembleRegressor-3.
    """
    check_transform(post_transform)
    _check_aggregate(aggregate_function)
    weights = _floats("target_weights", target_weights, target_weights_as_tensor)
    base = _floats("base_values", base_values, base_values_as_tensor)
    targets = _target_count(n_targets, target_ids)
    forest = node.once(
        lambda: _forest(
            nodes, "target", target_treeids, target_nodeids, target_ids, weights, targets
        )
    )
    _check_targets("target_ids", forest.votes.target, targets, "targets")
    sums = forest.sums(rows_of(X), targets, aggregate_function)
    scores = sums + _base_of_all(base, targets, "target")
    return transformed(scores, post_transform).astype(np.float32)


@TreeEnsembleRegressor.lower
def lower_tree_ensemble_regressor(
    X: Tensor,
    *,
    n_targets: int | None = None,
    target_treeids: list[int] | None = None,
    target_nodeids: list[int] | None = None,
    target_ids: list[int] | None = None,
    target_weights: list[float] | None = None,
    target_weights_as_tensor: Array | None = None,
    base_values: list[float] | None = None,
    base_values_as_tensor: Array | None = None,
    aggregate_function: str,
    post_transform: str,
    node: LowerNode,
    **nodes: Unpack[NodeAttributes],
) -> Tensor:
    _check_aggregate(aggregate_function)
    weights = _floats("target_weights", target_weights, target_weights_as_tensor)
    base = _floats("base_values", base_values, base_values_as_tensor)
    targets = _target_count(n_targets, target_ids)
    forest = _forest(nodes, "target", target_treeids, target_nodeids, target_ids, weights, targets)
    _check_targets("target_ids", forest.votes.target, targets, "targets")
    sums = lower_sums(forest, lower_rows(X), targets, aggregate_function, node)
    offset = constant(_base_of_all(base, targets, "target"))
    scores = compute(sums.shape, lambda n, e: sums[n, e] + offset[e])
    return cast_tensor(lower_transformed(scores, post_transform), FLOAT32)


def _target_count(stated: int | None, ids: Sequence[int] | None) -> int:
    """Number of targets; not stated, what the targets of the leaves need."""
    require(stated is None or stated > 0, f"n_targets must be positive, got {stated}")
    return max(ids or (0,)) + 1 if stated is None else stated


def _check_aggregate(name: str) -> None:
    require(
        name in AGGREGATES,
        f"aggregate_function must be one of {', '.join(AGGREGATES)}, got {name!r}",
    )


def _check_targets(name: str, targets: Array, count: int, what: str) -> None:
    wrong = targets[(targets < 0) | (targets >= count)]
    require(not wrong.size, f"{name} must name one of {count} {what}, got {wrong[:1].tolist()}")


def _floats(name: str, values: Sequence[float] | None, as_tensor: Array | None) -> Array:
    """An attribute that may be given as a list of float32 or as a tensor."""
    require(
        not values or as_tensor is None,
        f"one of {name} and {name}_as_tensor must be left out, found both",
    )
    if as_tensor is not None:
        return np.asarray(as_tensor).reshape(-1)
    return np.asarray(values or [], np.float32)


def _forest(
    nodes: NodeAttributes,
    votes: str,
    trees: Sequence[int] | None,
    ids: Sequence[int] | None,
    targets: Sequence[int] | None,
    weights: Array,
    scores: int,
) -> Forest:
    """The forest that the attributes of a classifier or regressor describe.

    Where there is one score, a leaf has one vote, the first that is listed, as in onnxruntime:
    skl2onnx writes the numbers of leaves so, as often as there are classes.
    """
    values = _floats("nodes_values", nodes.get("nodes_values"), nodes.get("nodes_values_as_tensor"))
    lists = _node_lists(nodes, values)
    modes = _mode_codes(nodes.get("nodes_modes", []))
    is_leaf = modes == LEAF
    index = NodeIndex(lists["nodes_treeids"], lists["nodes_nodeids"])
    own = np.arange(modes.size)
    following = np.repeat(own[:, None], SIDES, axis=1)
    inner = own[~is_leaf]
    children = [
        index.children(lists[f"nodes_{which}nodeids"], inner, which) for which in ("true", "false")
    ]
    tracks = nodes.get("nodes_missing_value_tracks_true")
    following[inner] = branch_table(
        modes[inner],
        children[0],
        children[1],
        None if not tracks else lists["nodes_missing_value_tracks_true"][inner],
        values[inner],
    )
    given = _vote_lists(votes, trees, ids, targets, weights)
    places = index.places(given[0], given[1], f"{votes}_nodeids")
    target = given[2]
    if scores == 1:
        places, first = np.unique(places, return_index=True)
        target, weights = target[first], weights[first]
    return Forest(
        index.roots,
        np.where(is_leaf, 0, lists["nodes_featureids"]),
        values,
        following,
        is_leaf,
        Votes.of(modes.size, places, target, weights),
    )


def _node_lists(nodes: Mapping[str, Any], values: Array) -> dict[str, Array]:
    """The integer attributes of nodes as arrays, all of one length."""
    count = len(nodes.get("nodes_nodeids", ()))
    require(count > 0, "nodes_nodeids must name the nodes of the trees, found none")
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    lists = {f"nodes_{name}": nodes.get(f"nodes_{name}", ()) for name in names}
    tracks = nodes.get("nodes_missing_value_tracks_true", ())
    if tracks:
        lists["nodes_missing_value_tracks_true"] = tracks
    for name, found in {
        **lists, "nodes_modes": nodes.get("nodes_modes", ()), "nodes_values": values
    }.items():  # fmt: skip
        require(
            len(found) == count,
            f"{name} must have as many entries as nodes_nodeids ({count}), got {len(found)}",
        )
    return {name: np.asarray(found, np.int64) for name, found in lists.items()}


def _mode_codes(modes: Sequence[str]) -> Array:
    codes = {mode: code for code, mode in enumerate(MODES)}
    for mode in set(modes):
        require(mode in codes, f"nodes_modes must be one of {', '.join(MODES)}, got {mode!r}")
    return np.array([codes[mode] for mode in modes], np.intp)


def _vote_lists(
    name: str,
    trees: Sequence[int] | None,
    ids: Sequence[int] | None,
    targets: Sequence[int] | None,
    weights: Array,
) -> tuple[Array, Array, Array]:
    """Tree, node and target of every vote."""
    lists = (("treeids", trees), ("nodeids", ids), ("ids", targets))
    for suffix, found in lists:
        require(
            len(found or ()) == weights.size,
            f"{name}_{suffix} must have as many entries as {name}_weights ({weights.size}), "
            f"got {len(found or ())}",
        )
    tree, node, target = (np.asarray(found or [], np.int64) for _, found in lists)
    return tree, node, target


class NodeIndex:
    """Nodes by tree and number: positions in the attributes' lists."""

    def __init__(self, trees: Array, nodes: Array) -> None:
        self.tree_names, first, self._tree = np.unique(
            trees, return_index=True, return_inverse=True
        )
        self.node_names, node = np.unique(nodes, return_inverse=True)
        self.roots = first
        """The first node of each tree in the lists."""
        keys = self._tree * self.node_names.size + node
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        [twice] = np.nonzero(self._keys[1:] == self._keys[:-1])
        place = self._order[twice[0]] if twice.size else 0
        require(
            not twice.size,
            f"node {nodes[place]} of tree {trees[place]} must be listed once, found it twice",
        )

    def children(self, names: Array, inner: Array, which: str) -> Array:
        """Positions of the nodes that ``names`` calls the children of the nodes ``inner``."""
        trees = self.tree_names[self._tree[inner]]
        return self.places(trees, names[inner], f"nodes_{which}nodeids")

    def places(self, trees: Array, nodes: Array, attribute: str) -> Array:
        """The position of each node, given by tree and number; raises if there is none."""
        tree, node = _rank(self.tree_names, trees), _rank(self.node_names, nodes)
        key = tree * self.node_names.size + node
        found = np.minimum(np.searchsorted(self._keys, key), self._keys.size - 1)
        is_known = (self._keys[found] == key) & (tree >= 0) & (node >= 0)
        [wrong] = np.nonzero(~is_known)
        if wrong.size:
            require(
                condition=False,
                message=f"{attribute} must name nodes of the same tree, but tree "
                f"{trees[wrong[0]]} has no node {nodes[wrong[0]]}",
            )
        return self._order[found]


def _rank(names: Array, sought: Array) -> Array:
    """The place of each number in the sorted ``names``, −1 where they lack it."""
    place = np.minimum(np.searchsorted(names, sought), names.size - 1)
    return np.where(names[place] == sought, place, -1)
