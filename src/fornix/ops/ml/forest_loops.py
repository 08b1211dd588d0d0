"""Forests as loops: all trees step down together, and their votes are summed from a table.

A leaf follows itself, so that as many steps as the deepest tree has lead every row to its leaves.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    constant,
    reduce,
    scan,
    select,
)
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text
from fornix.ops.ml.forest import SIDES, Forest
from fornix.ops.scalar import isnan

VOTES = 1 << 22
"""Entries up to which votes become a table of nodes × targets: 32 MiB of float64."""

NEUTRAL = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": math.inf, "MAX": -math.inf}
COMBINE = {"SUM": np.add, "AVERAGE": np.add, "MIN": np.minimum, "MAX": np.maximum}
REDUCTIONS = {"SUM": "sum", "AVERAGE": "sum", "MIN": "min", "MAX": "max"}


def lower_sums(forest: Forest, x: Tensor, targets: int, aggregate: str, node: LowerNode) -> Tensor:
    """`Forest.sums` for lowerings: x[N, F] → [N, targets] float64."""
    require(
        (known(x.shape[1]) or forest.features) >= forest.features,
        f"X must have at least {forest.features} features, which the trees read, "
        f"got X{shape_text(x.shape)}",
    )
    if forest.members is not None:
        node.decline("sets of values are looked up by search")
    if forest.is_leaf.size * targets > VOTES:
        node.decline(f"votes of {forest.is_leaf.size} nodes for {targets} targets fill no table")
    trees, depth = forest.roots.size, _depth(forest)
    leaf, votes = _leaves(forest, x, depth), constant(_votes(forest, targets, aggregate))

    def at(n: DimLike, e: DimLike) -> Scalar:
        total = reduce(REDUCTIONS[aggregate], trees, lambda t: votes[leaf[depth, n, t], e])
        if aggregate == "AVERAGE":
            return total / float(trees)
        # Without a vote the extreme is infinite, and the result 0.
        neutral = NEUTRAL[aggregate]
        return total if aggregate == "SUM" else select(apply("eq", total, neutral), 0, total)

    return compute((x.shape[0], targets), at)


def _depth(forest: Forest) -> int:
    """Steps from the roots to the deepest leaf."""
    reached, depth = np.unique(forest.roots), 0
    while not forest.is_leaf[reached].all():
        reached, depth = np.unique(forest.following[reached]), depth + 1
    return depth


def _leaves(forest: Forest, x: Tensor, depth: int) -> Tensor:
    """Where each row stands in each tree after each step: [depth + 1, N, trees]."""
    is_exact = x.dtype is FLOAT32 and forest.threshold.dtype != np.float64
    wide = FLOAT32 if is_exact else FLOAT64
    threshold = constant(forest.threshold.astype(wide.numpy))
    feature, root = constant(forest.feature.astype(np.int64)), constant(_int64(forest.roots))
    following = constant(_int64(forest.following))
    shape = (x.shape[0], forest.roots.size)

    def step(_: DimLike, node: Tensor) -> Tensor:
        def at(n: DimLike, t: DimLike) -> Scalar:
            here = node[n, t]
            value, bound = cast(x[n, feature[here]], wide), threshold[here]
            side = cast(value >= bound, INT64) + cast(value > bound, INT64)
            return following[here, select(isnan(value), SIDES - 1, side)]

        return compute(shape, at)

    [history] = scan(depth, [compute(shape, lambda _, t: root[t])], step)
    return history


def _int64(x: Array) -> Array:
    return x.astype(np.int64)


def _votes(forest: Forest, targets: int, aggregate: str) -> Array:
    """What each node gives to each target: [nodes, targets]; neutral where it gives nothing."""
    votes, count = forest.votes, forest.is_leaf.size
    table = np.full((count, targets), NEUTRAL[aggregate])
    owner = np.repeat(np.arange(count), np.diff(votes.start))
    COMBINE[aggregate].at(table, (owner, votes.target), votes.weight)
    return table
