"""Votes of leaves as tables: where each leaf's lie, and how they are added up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fornix.ops.fact import Array
from fornix.ops.ml.forest import Forest
from fornix.ops.ml.forest_tables import LANES

VOTES = 1 << 22
"""Numbers up to which votes become a table of leaves × targets, and totals of lanes × targets."""
FEW = 32
"""Targets up to which a table is filled, whatever part of it is zero."""

NEUTRAL = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": math.inf, "MAX": -math.inf}
COMBINE = {"SUM": np.add, "AVERAGE": np.add, "MIN": np.minimum, "MAX": np.maximum}


@dataclass(frozen=True)
class VoteTable:
    """Numbers that leaves give, from each one's place on."""

    weights: Array
    places: Array
    """Of each leaf, and last of one that gives nothing."""
    width: int
    """Targets that a leaf gives numbers to, one after the other; 0 if it lists them."""
    target: Array
    """Of each tree, what a width of 1 goes to."""
    listed: Array
    """Of each number in a list, its target; the last one of a leaf as ~target."""


def vote_table(forest: Forest, targets: int, aggregate: str) -> VoteTable | None:
    """The votes of a forest, in the shape that fits them; None if there is no good one."""
    if targets * LANES > VOTES:
        return None
    leaves = int(forest.is_leaf.sum())
    only = _only_targets(forest) if targets > 1 else np.zeros(forest.roots.size, np.intp)
    if only is not None:
        table = _filled(forest, 1, aggregate, is_folded=True)
        return _dense(table, 1, only)
    width = next((k for k in (2, 4) if k >= targets), -(-targets // 8) * 8)
    is_small = (leaves + 1) * width <= VOTES
    entries = int((forest.votes.weight != 0).sum())
    if is_small and (targets <= FEW or 2 * entries >= leaves * targets or _is_extreme(aggregate)):
        return _dense(
            _filled(forest, width, aggregate), width, np.zeros(forest.roots.size, np.intp)
        )
    return None if _is_extreme(aggregate) else _listed(forest)


def _is_extreme(aggregate: str) -> bool:
    return aggregate in {"MIN", "MAX"}


def _dense(table: Array, width: int, target: Array) -> VoteTable:
    places = np.arange(len(table)) * width
    return VoteTable(_narrow(table.reshape(-1)), places, width, target, np.zeros(1, np.int32))


def _narrow(weights: Array) -> Array:
    """The same as float32, if they are."""
    with np.errstate(over="ignore"):
        single = weights.astype(np.float32)
    return single if np.array_equal(single, weights, equal_nan=True) else weights


def _filled(forest: Forest, width: int, aggregate: str, *, is_folded: bool = False) -> Array:
    """What each leaf, and last none, gives to each target: neutral where it gives nothing."""
    votes, rank = forest.votes, np.cumsum(forest.is_leaf) - 1
    table = np.full((int(forest.is_leaf.sum()) + 1, width), NEUTRAL[aggregate])
    owner = np.repeat(np.arange(forest.is_leaf.size), np.diff(votes.start))
    counted = forest.is_leaf[owner]
    target = np.zeros_like(votes.target) if is_folded else votes.target
    place = (rank[owner[counted]], target[counted])
    COMBINE[aggregate].at(table, place, votes.weight[counted])
    return table


def _only_targets(forest: Forest) -> Array | None:
    """The target of each tree, if no tree has leaves for several."""
    votes = forest.votes
    owner = np.repeat(np.arange(forest.is_leaf.size), np.diff(votes.start))
    lowest = np.full(forest.is_leaf.size, np.iinfo(np.int64).max)
    np.minimum.at(lowest, owner, votes.target)
    highest = np.full(forest.is_leaf.size, -1)
    np.maximum.at(highest, owner, votes.target)
    tree, reached = np.arange(forest.roots.size), forest.roots
    first = np.full(forest.roots.size, np.iinfo(np.int64).max)
    last = np.full(forest.roots.size, -1)
    budget = 4 * (forest.feature.size + forest.roots.size)
    while reached.size:
        budget -= reached.size
        if budget < 0:  # nodes that trees share
            return None
        np.minimum.at(first, tree, lowest[reached])
        np.maximum.at(last, tree, highest[reached])
        going = ~forest.is_leaf[reached]
        below = forest.following[reached[going]]
        is_new = np.ones(below.shape, bool)
        for side in range(1, below.shape[1]):
            is_new[:, side] = (below[:, :side] != below[:, side : side + 1]).all(axis=1)
        tree, reached = np.repeat(tree[going], is_new.sum(axis=1)), below[is_new]
    return np.maximum(last, 0) if (first >= last).all() else None


def _listed(forest: Forest) -> VoteTable:
    """Votes as they come, those of leaves alone and none of zero."""
    votes = forest.votes
    owner = np.repeat(np.arange(forest.is_leaf.size), np.diff(votes.start))
    [leaves] = np.nonzero(forest.is_leaf)
    kept = forest.is_leaf[owner] & (votes.weight != 0)
    owner, target, weight = owner[kept], votes.target[kept], votes.weight[kept]
    start, end = np.searchsorted(owner, leaves), np.searchsorted(owner, leaves, "right")
    listed = np.append(target, ~0)
    listed[end[end > start] - 1] = ~target[end[end > start] - 1]
    places = np.append(np.where(end > start, start, target.size), target.size)
    return VoteTable(
        _narrow(np.append(weight, 0.0)), places, 0, np.zeros(forest.roots.size, np.intp), listed
    )
