"""Forests as tables for machine code: branches of two ways, tops of trees as bits, votes of leaves.

A node becomes one or more *branches*: a column is at most a threshold, or not; a column is a
feature, or one with its sign changed. What is missing compares as "not", so it is the sign that
decides which way it goes. A set is searched by halves: its values, and what lies between them, are
intervals. The children of a branch are branches, or leaves: leaf k is written ~k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fornix.ops.fact import Array
from fornix.ops.ml.forest import Forest, Members

SHIFT = 6
LANES = 1 << SHIFT
"""Rows that go down together."""
EXITS = 32
"""Branches and leaves that the top of a tree leads to at most: the bits of a number."""
DEEP_EXITS = 16
"""The same where trees go on below their tops: a level more in bits costs as much as a step."""


@dataclass(frozen=True)
class Branches:
    """The branches of all trees in one numbering."""

    column: Array
    """What each branch compares; from ``features`` on, features with their signs changed."""
    threshold: Array
    left: Array
    """Where columns go that are at most the threshold."""
    right: Array
    roots: Array
    features: int
    leaves: int
    """Leaves, and one more that no branch leads to: it stands for trees that are not there."""

    @classmethod
    def of(cls, forest: Forest, dtype: np.dtype[Any]) -> Branches:
        """The nodes of ``forest``, one branch each, then those that some need besides."""
        is_inner = ~forest.is_leaf
        code = np.where(is_inner, np.cumsum(is_inner) - 1, -np.cumsum(forest.is_leaf))
        ways = code[forest.following[is_inner]]
        members = forest.members
        sets = np.full(len(ways), -1) if members is None else members.set_of[is_inner]
        # What asks for a set goes one way here, and is searched for below.
        under, at, over, missing = np.where(sets[:, None] < 0, ways, ways[:, :1]).T
        threshold = forest.threshold[is_inner].astype(dtype)
        column = forest.feature[is_inner]
        under = np.where(threshold == -np.inf, at, under)  # nothing is below
        before = _before(threshold)
        bound = np.where((under != at) & (at == over), before, threshold)
        left, right = under.copy(), over.copy()
        is_one_way = (under == at) & (at == over)
        turned = ~is_one_way & ((under == at) | (at == over)) & (missing == under)
        always = turned & (bound == np.inf)
        right[always] = under[always]
        turned &= ~always
        # x ≤ b if −x is not at most the number before −b.
        column[turned] += forest.features
        bound[turned] = _before(-bound[turned])
        left[turned], right[turned] = over[turned], under[turned]
        parts = [[column, bound, left, right]]
        total = column.size
        # Three ways: what is at most the threshold is compared with the number before it.
        [split] = np.nonzero((under != at) & (at != over))
        parts.append([column[split], before[split], under[split], at[split]])
        left[split] = total + np.arange(split.size)
        total += split.size
        # What is missing goes a way of its own: only that is not at most infinity.
        [apart] = np.nonzero(~turned & ~always & (missing != right))
        parts.append([a[apart].copy() for a in (column, bound, left, right)])
        bound[apart], right[apart] = np.inf, missing[apart]
        left[apart] = total + np.arange(apart.size)
        column, bound, left, right = (np.concatenate(entry) for entry in zip(*parts, strict=True))
        leaves = int(forest.is_leaf.sum()) + 1
        made = cls(column, bound, left, right, code[forest.roots], forest.features, leaves)
        return made if members is None else made._searching(members, sets, ways)

    def _searching(self, members: Members, sets: Array, ways: Array) -> Branches:
        """The same, where branches that ask for one of ``sets`` search it."""
        [asking] = np.nonzero(sets >= 0)
        asking = asking[np.argsort(sets[asking])]
        total = self.column.size
        found = _Intervals.of(members, ways[asking], self.threshold.dtype)
        own = (np.repeat(self.column[asking], found.sizes), *found.halves(total))
        whole = (self.column, self.threshold, self.left, self.right)
        column, bound, left, right = map(np.concatenate, zip(whole, own, strict=True))
        first = total + np.cumsum(found.sizes) - found.sizes
        for entries in (column, bound, left, right):
            entries[asking] = entries[first]
        return Branches(column, bound, left, right, self.roots, self.features, self.leaves)

    @property
    def width(self) -> int:
        """Elements of 32 bits that a record takes: column, both children, threshold."""
        return 3 + self.threshold.dtype.itemsize // 4

    def records(self, places: Array) -> Array:
        """Leaves in reverse, then branches; children are told by their distance from the latter.

        A leaf leads to itself, and has its votes' place where branches have thresholds.
        """
        width, count = self.width, self.column.size
        table = np.zeros((self.leaves + count, width), np.int32)
        ends, rest = table[: self.leaves][::-1], table[self.leaves :]
        ends[:, 1:3] = ~np.arange(self.leaves)[:, None] * width
        ends[:, 3] = places
        rest[:, 0] = self.column * LANES
        rest[:, 1], rest[:, 2] = self.left * width, self.right * width
        rest[:, 3:] = self.threshold[:, None].view(np.int32)
        return table.reshape(-1)

    def depth(self) -> int:
        """Steps from the roots to leaves, on average over leaves; over some if nodes are shared."""
        reached, leaves, steps, depth = self.roots, 0, 0, 0
        budget = 2 * (self.column.size + self.roots.size)
        while reached.size and budget > 0:
            budget -= reached.size
            inner = reached[reached >= 0]
            leaves += reached.size - inner.size
            steps += depth * (reached.size - inner.size)
            reached, depth = np.concatenate([self.left[inner], self.right[inner]]), depth + 1
        return round(steps / max(leaves, 1))


class _Intervals(NamedTuple):
    """What sets and the gaps between their values lead to: an interval more than bounds a set."""

    bound: Array
    """The greatest number of each interval but the last, which is for what is missing."""
    exits: Array
    sizes: Array
    """Bounds of each set."""

    @classmethod
    def of(cls, members: Members, ways: Array, dtype: np.dtype[Any]) -> _Intervals:
        """Those of all sets, of which each leads one of its ``ways``."""
        no, yes, _, missing = ways.T
        owner, place = np.divmod(members.keys, max(members.values.size, 1))
        values = members.values[place].astype(dtype)
        before = _before(values)
        is_some = np.stack([before != values, np.ones_like(values, bool)], axis=1)
        sizes = np.bincount(owner, is_some.sum(axis=1), len(ways)).astype(np.intp)
        bound = np.stack([before, values], axis=1)[is_some]
        exits = np.stack([no[owner], yes[owner]], axis=1)[is_some]
        ends = np.cumsum(sizes)
        bound = np.insert(bound, ends, np.inf)  # at most which all is but what is missing
        last = np.stack([no, missing], axis=1).reshape(-1)
        return cls(bound, np.insert(exits, np.repeat(ends, 2), last), sizes + 1)

    def halves(self, start: int) -> tuple[Array, Array, Array]:
        """Bounds, and where each leads, left and right, by numbers from ``start`` on.

        The first of a set is the middle one; what it leads to follows, left ones ahead of right.
        """
        high, number = np.cumsum(self.sizes), np.arange(self.sizes.size)
        low = place = high - self.sizes
        order, left, right = np.empty((3, self.bound.size), np.intp)
        while low.size:
            middle = (low + high) // 2
            order[place] = middle
            near, far = place + 1, place + 1 + middle - low
            for to, begin, end, inner in (left, low, middle, near), (right, middle + 1, high, far):
                to[place] = np.where(begin < end, start + inner, self.exits[begin + number])
            low, high = np.append(low, middle + 1), np.append(middle, high)
            place, number = np.append(near, far), np.tile(number, 2)
            low, high, place, number = (entry[low < high] for entry in (low, high, place, number))
        return self.bound[order], left, right


def _before(numbers: Array) -> Array:
    """The greatest number below each of ``numbers``; −∞ below the least."""
    with np.errstate(over="ignore"):
        lower: Array = np.nextafter(numbers, numbers.dtype.type(-np.inf))
    return lower


@dataclass(frozen=True)
class Top:
    """The uppermost branches of a tree, of which each row strikes out the exits behind some."""

    branches: list[int]
    kept: list[int]
    """For each of the branches, the bits of exits that remain where its column exceeds."""
    exits: list[int]
    """Branches and leaves behind, bit by bit."""

    @classmethod
    def of(cls, branches: Branches, root: int, limit: int) -> Top:
        """The top of the tree with up to ``limit`` exits, level by level."""
        nodes, below = [root], [(0, 0)]
        exits, at = 1, 0
        while at < len(nodes) and exits < limit:
            node = nodes[at]
            if node >= 0:
                below[at] = (len(nodes), len(nodes) + 1)
                nodes += [int(branches.left[node]), int(branches.right[node])]
                below += [(0, 0), (0, 0)]
                exits += 1
            at += 1
        order = _leftmost_first(below)
        first = {place: bit for bit, place in enumerate(order)}
        bits = [1 << first[place] if place in first else 0 for place in range(len(nodes))]
        inner = [place for place in range(len(nodes)) if below[place] != (0, 0)]
        for place in reversed(inner):
            bits[place] = bits[below[place][0]] | bits[below[place][1]]
        kept = [~bits[below[place][0]] for place in inner]
        return cls([nodes[place] for place in inner], kept, [nodes[place] for place in order])

    @property
    def is_whole(self) -> bool:
        """Whether all exits are leaves."""
        return all(node < 0 for node in self.exits)


def _leftmost_first(below: list[tuple[int, int]]) -> list[int]:
    """The places without others below them, from left to right."""
    order, stack = [], [0]
    while stack:
        place = stack.pop()
        left, right = below[place]
        if left:
            stack += [right, left]
        else:
            order.append(place)
    return order


def top_of(branches: Branches, root: int) -> Top:
    """The whole tree if it is small, else so much of it as is worth its bits."""
    top = Top.of(branches, root, EXITS)
    return top if top.is_whole else Top.of(branches, root, DEEP_EXITS)
