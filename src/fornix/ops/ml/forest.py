"""Forests: decision trees as tables, walked for all rows and trees at once.

A `Forest` is what the three tree operators share, whatever attributes describe it. All rows stand
at the roots of all trees, and every step moves each of them one level down, until all are at
leaves. Tables are checked when they are made: whatever a model says, a walk ends after as many
steps as there are nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fornix.errors import require
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text

BRANCHES = {
    "BRANCH_LEQ": (1, 1, 0),
    "BRANCH_LT": (1, 0, 0),
    "BRANCH_GTE": (0, 1, 1),
    "BRANCH_GT": (0, 0, 1),
    "BRANCH_EQ": (0, 1, 0),
    "BRANCH_NEQ": (1, 0, 1),
    "BRANCH_MEMBER": (0, 1, 0),
}
"""For every mode, whether a feature below, at and above the threshold takes the true branch.

TreeEnsemble-5 numbers the modes in this order. A member of a set counts as "at".
"""

NEQ, MEMBER = 5, 6
"""Positions in `BRANCHES`."""

SIDES = 4
"""Outcomes of a comparison: below, at, above, missing."""

WALKED = 1 << 17
"""Rows × trees that walk together: the state of the walk stays in cache."""

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
"""How results of trees are put together; TreeEnsemble-5 numbers them in this order."""


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one numbering, leaves included."""

    roots: Array
    """The root of each tree: [trees]."""
    feature: Array
    """The feature that each node reads: [nodes]."""
    threshold: Array
    """What it is compared with: [nodes]."""
    following: Array
    """The next node for each of the four sides: [nodes, 4]; a leaf follows itself."""
    is_leaf: Array
    votes: Votes
    members: Members | None = None
    features: int = field(init=False)
    """Features that the nodes read, up to the highest."""

    def __post_init__(self) -> None:
        read = self.feature[~self.is_leaf]
        lowest = read.min(initial=0)
        require(lowest >= 0, f"nodes_featureids must not be negative, got {lowest}")
        object.__setattr__(self, "features", int(read.max(initial=-1)) + 1)
        check_acyclic(self.following, self.is_leaf, self.roots)

    def sums(self, x: Array, targets: int, aggregate: str) -> Array:
        """What the leaves that each row reaches give together: x[N, F] → [N, targets] float64."""
        require(
            x.shape[1] >= self.features,
            f"X must have at least {self.features} features, which the trees read, "
            f"got X{shape_text(x.shape)}",
        )
        total = np.empty((x.shape[0], targets))
        step = max(1, WALKED // max(1, self.roots.size))
        for start in range(0, x.shape[0], step):
            rows = slice(start, start + step)
            total[rows] = self.votes.gathered(self.leaves(x[rows]), targets, aggregate)
        return total / self.roots.size if aggregate == "AVERAGE" else total

    def leaves(self, x: Array) -> Array:
        """The leaf that each row reaches in each tree: x[N, F] → [N, trees]."""
        rows, trees = x.shape[0], self.roots.size
        flat, following = x.reshape(-1), self.following.reshape(-1)
        reached = np.tile(self.roots, rows)
        [place] = np.nonzero(~self.is_leaf[reached])
        node, offset = reached[place], place // max(trees, 1) * x.shape[1]
        while place.size:
            side = self._sides(node, flat[offset + self.feature[node]])
            node = following[node * SIDES + side]
            is_done = self.is_leaf[node]
            if is_done.any():
                reached[place[is_done]] = node[is_done]
                going = ~is_done
                place, node, offset = place[going], node[going], offset[going]
        return reached.reshape(rows, trees)

    def _sides(self, node: Array, value: Array) -> Array:
        """Where each value lies of its node's threshold: 0 below, 1 at, 2 above, 3 missing."""
        threshold = self.threshold[node]
        side = (value >= threshold).astype(np.intp) + (value > threshold)
        if self.members is not None:
            self.members.mark(node, value, side)
        if value.dtype.kind == "f":
            side[np.isnan(value)] = SIDES - 1
        return side


@dataclass(frozen=True)
class Votes:
    """What leaves give to targets: entry e gives weight[e] to target[e], entries by node."""

    start: Array
    """The first entry of each node, and the number of all: [nodes + 1]."""
    target: Array
    weight: Array

    @classmethod
    def of(cls, nodes: int, node: Array, target: Array, weight: Array) -> Votes:
        """Votes from lists in any order."""
        order = np.argsort(node, kind="stable")
        start = np.zeros(nodes + 1, np.intp)
        np.cumsum(np.bincount(node, minlength=nodes), out=start[1:])
        return cls(start, target[order], weight[order].astype(np.float64))

    def gathered(self, leaves: Array, targets: int, aggregate: str) -> Array:
        """The votes of leaves[N, trees] put together: [N, targets]; without any vote, 0."""
        rows, trees = leaves.shape
        first = self.start[leaves.reshape(-1)]
        count = self.start[leaves.reshape(-1) + 1] - first
        row = np.repeat(np.arange(rows), trees)
        if (count == 1).all():
            entry = first
        else:
            row = np.repeat(row, count)
            entry = np.repeat(first - np.cumsum(count) + count, count) + np.arange(row.size)
        place = row * targets + self.target[entry]
        weight = self.weight[entry]
        if aggregate in {"SUM", "AVERAGE"}:
            total = np.bincount(place, weight, rows * targets)
        else:
            extreme = np.minimum if aggregate == "MIN" else np.maximum
            total = np.full(rows * targets, np.inf if aggregate == "MIN" else -np.inf)
            extreme.at(total, place, weight)
            total[np.bincount(place, minlength=rows * targets) == 0] = 0
        return np.asarray(total, np.float64).reshape(rows, targets)


@dataclass(frozen=True)
class Members:
    """The sets of BRANCH_MEMBER nodes: pairs of a set and a value, as sorted keys."""

    set_of: Array
    """The set of each node, −1 for nodes that compare: [nodes]."""
    values: Array
    """Every value of any set, sorted."""
    keys: Array

    @classmethod
    def of(cls, nodes: int, members: Array, listed: Array) -> Members:
        """Sets for the nodes ``members``, from values that NaN separates."""
        is_end = np.isnan(listed)
        sets = int(is_end.sum()) + int(listed.size > 0 and not is_end[-1])
        require(
            sets == members.size,
            f"membership_values must hold one set per BRANCH_MEMBER node ({members.size}), "
            f"separated by NaN, got {sets}",
        )
        set_of = np.full(nodes, -1)
        set_of[members] = np.arange(members.size)
        owner = (np.cumsum(is_end) - is_end)[~is_end]
        values, index = np.unique(listed[~is_end], return_inverse=True)
        keys = np.sort(owner * values.size + index.reshape(-1))
        return cls(set_of, values, keys[np.diff(keys, prepend=-1) > 0])

    def mark(self, node: Array, value: Array, side: Array) -> None:
        """Set ``side`` to 1 for members of their node's set, and to 0 for others."""
        set_of = self.set_of[node]
        [asked] = np.nonzero(set_of >= 0)
        if not asked.size:
            return
        sought = value[asked]
        if not self.keys.size:
            side[asked] = 0
            return
        index = np.minimum(np.searchsorted(self.values, sought), self.values.size - 1)
        key = set_of[asked] * self.values.size + index
        found = np.minimum(np.searchsorted(self.keys, key), self.keys.size - 1)
        side[asked] = (self.values[index] == sought) & (self.keys[found] == key)


def branch_table(
    modes: Array, on_true: Array, on_false: Array, tracks_true: Array | None, threshold: Array
) -> Array:
    """The next node for each side: [nodes, 4].

    ``modes`` index `BRANCHES`. A missing feature follows ``tracks_true``, or the false branch; a
    threshold that is NaN equals nothing.
    """
    takes = np.array(list(BRANCHES.values()), bool)[modes]
    unordered = np.isnan(threshold) & (modes != MEMBER)
    takes[unordered] = (modes == NEQ)[unordered, None]
    missing = np.zeros(len(modes), bool) if tracks_true is None else tracks_true != 0
    return np.where(np.column_stack([takes, missing]), on_true[:, None], on_false[:, None])


def check_acyclic(following: Array, is_leaf: Array, roots: Array) -> None:
    """Raise ShapeError if a walk from a root could come back to a node."""
    [inner] = np.nonzero(~is_leaf)
    children = np.sort(following[inner], axis=1)
    is_new = np.ones(children.shape, bool)
    is_new[:, 1:] = children[:, 1:] != children[:, :-1]
    is_new &= ~is_leaf[children]
    parents = np.bincount(children[is_new], minlength=len(following))
    if (parents <= 1).all() and not parents[roots].any():
        return  # a tree below every root
    for node in _ordered(following, is_leaf, roots):
        require(node >= 0, "the branches of a tree must lead to leaves, found a cycle")


def _ordered(following: Array, is_leaf: Array, roots: Array) -> Iterator[int]:
    """Inner nodes below the roots, children first; −1 stands for a cycle."""
    entered, left = set[int](), set[int]()
    for root in roots.tolist():
        stack = [root]
        while stack:
            node = stack[-1]
            if node in left or is_leaf[node]:
                stack.pop()
            elif node in entered:
                stack.pop()
                left.add(node)
                yield node
            else:
                entered.add(node)
                below = set(following[node].tolist()) - left
                yield from [-1] if below & entered else []
                stack += below
