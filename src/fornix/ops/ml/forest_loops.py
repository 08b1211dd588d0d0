"""Forests as loops: trees step down several at a time, and their votes are summed from a table.

A leaf follows itself, so that as many steps as the deepest tree has lead a row to its leaves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, apply, compute, constant, reduce, select
from fornix.ir.loops.routines import Memory, routine
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text
from fornix.ops.ml.forest import Forest
from fornix.ops.precision import cast_tensor

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
    trees, leaf = forest.roots.size, _leaves(forest, x)
    votes = constant(_votes(forest, targets, aggregate))

    def at(n: DimLike, e: DimLike) -> Scalar:
        total = reduce(REDUCTIONS[aggregate], trees, lambda t: votes[leaf[n, t], e])
        if aggregate == "AVERAGE":
            return total / float(trees)
        # Without a vote the extreme is infinite, and the result 0.
        neutral = NEUTRAL[aggregate]
        return total if aggregate == "SUM" else select(apply("eq", total, neutral), 0, total)

    return compute((x.shape[0], targets), at)


def _leaves(forest: Forest, x: Tensor) -> Tensor:
    """The leaf that each row reaches in each tree, and in some more: [N, trees or more]."""
    is_exact = x.dtype is FLOAT32 and forest.threshold.dtype != np.float64
    wide = FLOAT32 if is_exact else FLOAT64
    rows, features = x.shape
    blocks = -(-forest.roots.size // TOGETHER)
    roots = np.resize(forest.roots, blocks * TOGETHER)
    feature, threshold, following = _two_ways(forest, wide.numpy)
    is_leaf = np.append(forest.is_leaf, np.zeros(feature.size - forest.is_leaf.size, bool))
    depths = [_depth(following, is_leaf, block) for block in roots.reshape(blocks, TOGETHER)]
    tables = (
        feature.astype(np.int32),
        threshold,
        following.reshape(-1).astype(np.int32),
        roots.astype(np.int32),
        np.array(depths, np.int32),
    )

    def numbers(row: DimLike) -> tuple[DimLike, ...]:
        count = 1 if rows == 0 else rows  # without rows nothing is walked
        block, n = row // count, row % count
        return n * features, block, n * roots.size + block * TOGETHER

    (leaves,) = routine(
        walk,
        rows * blocks,
        [cast_tensor(x, wide), *map(constant, tables)],
        [((rows, roots.size), INT32)],
        numbers,
        operations=STEP * rows * TOGETHER * sum(depths),
    )
    return leaves


def _depth(following: Array, is_leaf: Array, roots: Array) -> int:
    """Steps from ``roots`` to the deepest leaf."""
    reached, depth = np.unique(roots), 0
    while not is_leaf[reached].all():
        reached, depth = np.unique(following[reached]), depth + 1
    return depth


TOGETHER = 8
"""Trees that step down together: the memory that one waits for is read while others compare."""
STEP = 6
"""Operations of a step, roughly."""


def walk(
    x: Memory,
    feature: Memory,
    threshold: Memory,
    following: Memory,
    roots: Memory,
    depths: Memory,
    leaves: Memory,
    row: int,
    block: int,
    to: int,
) -> None:
    """The leaves that the row of features at ``row`` reaches in the trees of a block."""
    first = block * TOGETHER
    a, b, c, d = roots[first], roots[first + 1], roots[first + 2], roots[first + 3]
    e, f, g, h = roots[first + 4], roots[first + 5], roots[first + 6], roots[first + 7]
    for _ in range(depths[block]):
        a = below(x, feature, threshold, following, row, a)
        b = below(x, feature, threshold, following, row, b)
        c = below(x, feature, threshold, following, row, c)
        d = below(x, feature, threshold, following, row, d)
        e = below(x, feature, threshold, following, row, e)
        f = below(x, feature, threshold, following, row, f)
        g = below(x, feature, threshold, following, row, g)
        h = below(x, feature, threshold, following, row, h)
    leaves[to], leaves[to + 1], leaves[to + 2], leaves[to + 3] = a, b, c, d
    leaves[to + 4], leaves[to + 5], leaves[to + 6], leaves[to + 7] = e, f, g, h


def below(
    x: Memory, feature: Memory, threshold: Memory, following: Memory, row: int, node: int
) -> int:
    """The node that follows; see `_two_ways`."""
    value = x[row + feature[node]]
    is_missing = value != value  # noqa: PLR0124 - NaN alone
    side = (value <= threshold[node]) + 2 * is_missing
    return following[WAYS * node + side]  # type: ignore[no-any-return] # memory has any elements


WAYS = 3
"""A feature lies above its threshold, or not, or is missing."""


def _two_ways(forest: Forest, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
    """Features, thresholds and the nodes that follow, one of `WAYS` after the other.

    What is below a threshold is at most the number before it. Where what lies at a threshold goes
    another way than both sides, the threshold is compared with first, then the number before it.
    """
    threshold, feature = forest.threshold.astype(dtype), forest.feature
    under, at, over, missing = forest.following.T
    before = np.nextafter(threshold, -np.inf, dtype=dtype)
    under = np.where(threshold == -np.inf, at, under)
    [split] = np.nonzero((under != at) & (at != over))
    more = np.arange(split.size) + feature.size
    is_less = (under != at) & (at == over)
    first = np.column_stack([over, under, missing])
    first[split, 1] = more
    second = np.column_stack([at, under, missing])[split]
    return (
        np.append(feature, feature[split]),
        np.append(np.where(is_less, before, threshold), before[split]),
        np.concatenate([first, second]),
    )


def _votes(forest: Forest, targets: int, aggregate: str) -> Array:
    """What each node gives to each target: [nodes, targets]; neutral where it gives nothing."""
    votes, count = forest.votes, forest.is_leaf.size
    table = np.full((count, targets), NEUTRAL[aggregate])
    owner = np.repeat(np.arange(count), np.diff(votes.start))
    COMBINE[aggregate].at(table, (owner, votes.target), votes.weight)
    return table
