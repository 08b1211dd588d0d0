"""Forests as loops: a routine that adds up the votes of the leaves which rows reach.

Sixty-four rows go through a tree together. Its top is no walk: every branch there is compared with
all rows side by side and strikes out, of those that go right, the exits to its left; the lowest bit
that remains is the exit (Lucchese et al., "QuickScorer", 2015). Below, eight rows step down at a
time, so that the memory which one waits for is read while others compare. Few rows go one by one,
through eight trees at a time.
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, apply, compute, constant, reduce, select
from fornix.ir.loops.routines import (
    Memory,
    after,
    alike,
    lanes,
    lowest_bit,
    number_in,
    pick,
    put_lanes,
    routine,
    wide,
)
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.geometry import shape_text
from fornix.ops.ml.forest import Forest
from fornix.ops.ml.forest_tables import LANES, SHIFT, Branches, top_of
from fornix.ops.ml.vote_tables import NEUTRAL, VoteTable, vote_table
from fornix.ops.precision import cast_tensor

REDUCTIONS = {"SUM": "sum", "AVERAGE": "sum", "MIN": "min", "MAX": "max"}
PART = 1 << 12
"""Steps from a part's roots to leaves: what is worth a thread of its own, even for one row."""
TOGETHER = 8
"""Trees, or rows, that step down together."""
ENOUGH = 6
"""Rows that go together; fewer go one by one."""
COLUMNS = 1 << 12
"""Columns up to which they do: a megabyte of float32."""
STEP = 64
"""Operations that take as long as a step, roughly."""


def lower_sums(forest: Forest, x: Tensor, targets: int, aggregate: str, node: LowerNode) -> Tensor:
    """`Forest.sums` for lowerings: x[N, F] → [N, targets] float64."""
    require(
        (known(x.shape[1]) or forest.features) >= forest.features,
        f"X must have at least {forest.features} features, which the trees read, "
        f"got X{shape_text(x.shape)}",
    )
    if NEUTRAL[aggregate] != 0 and not np.isfinite(forest.votes.weight).all():
        node.decline("extremes of votes that are not finite are found by the kernel")
    votes = vote_table(forest, targets, aggregate)
    if votes is None:
        node.decline(f"votes of {forest.is_leaf.size} nodes for {targets} targets fill no table")
    sums = _sums_of_parts(forest, x, targets, aggregate, votes)
    trees, neutral = forest.roots.size, NEUTRAL[aggregate]

    def at(n: DimLike, e: DimLike) -> Scalar:
        total = sums[0, n, e]
        if sums.shape[0] != 1:
            total = reduce(REDUCTIONS[aggregate], sums.shape[0], lambda p: sums[p, n, e])
        if aggregate == "AVERAGE":
            return total / float(trees)
        # Without a vote the extreme is infinite, and the result 0.
        return total if aggregate == "SUM" else select(apply("eq", total, neutral), 0, total)

    return compute((x.shape[0], targets), at)


def _sums_of_parts(
    forest: Forest, x: Tensor, targets: int, aggregate: str, votes: VoteTable
) -> Tensor:
    """What the trees of each part of the forest give together: [parts, N, targets]."""
    compared = [forest.threshold, *([] if forest.members is None else [forest.members.values])]
    is_exact = x.dtype is FLOAT32 and all(part.dtype != np.float64 for part in compared)
    dtype = FLOAT32 if is_exact else FLOAT64
    branches = Branches.of(forest, dtype.numpy)
    trees, depth = forest.roots.size, branches.depth()
    parts = max(trees * (depth + 1) // PART, 1)
    per_part = -(-trees // (parts * TOGETHER)) * TOGETHER
    parts = -(-trees // per_part)
    tables = _tables(branches, votes, depth, parts * per_part)
    used = _columns(branches)
    facts = np.zeros(FACTS, np.int32)
    columns = int(branches.column.max(initial=0)) + 1
    facts[LEAVES], facts[TREES], facts[PER_PART] = branches.leaves * branches.width, trees, per_part
    facts[USED], facts[PLAIN] = used.size, int((used < branches.features).sum())
    facts[FEATURES], facts[STEPS], facts[TOP] = branches.features, depth, branches.width - 1
    facts[TOGETHER_FROM] = ENOUGH if columns <= COLUMNS else LANES + 1
    facts[MODE] = {"MIN": -1, "MAX": 1}.get(aggregate, 0)
    facts[TARGETS], facts[WIDTH] = targets, votes.width
    facts[IS_PLAIN] = votes.width == 1 and facts[MODE] == 0
    facts[NOTHING] = votes.places[-1]
    stripes = targets if votes.width < 2 else votes.width
    facts[STRIPES] = stripes
    facts[BY_TARGET], facts[BY_LANE] = (LANES, 1) if votes.width == 1 else (1, stripes)
    rows, width = x.shape
    blocks = (rows + LANES - 1) // LANES

    def numbers(call: DimLike) -> tuple[DimLike, ...]:
        count = 1 if blocks == 0 else blocks  # without rows nothing is called
        return call % count * LANES, call // count, rows, width

    (sums,) = routine(
        sum_votes,
        blocks * parts,
        [
            cast_tensor(x, dtype),
            *map(constant, (facts, used, *tables, votes.weights, votes.listed.astype(np.int32))),
        ],
        [((parts, rows, targets), FLOAT64)],
        numbers,
        scratch=[
            (max(columns if columns <= COLUMNS else -(-columns // LANES), 1) * LANES, dtype),
            (LANES, INT32),
            (LANES * stripes, FLOAT64),
        ],
        operations=STEP * rows * trees * (depth + 1),
    )
    return sums


(
    LEAVES,
    TREES,
    PER_PART,
    USED,
    PLAIN,
    FEATURES,
    STEPS,
    TOP,
    TOGETHER_FROM,
    MODE,
    TARGETS,
    WIDTH,
    IS_PLAIN,
    NOTHING,
    STRIPES,
    BY_TARGET,
    BY_LANE,
    FACTS,
) = range(18)
"""Places of what `sum_votes` is told of a forest, and their number."""

TOPS, TOPS_END, WAYS_OUT, BELOW, GOES_TO, ROOT, FIELDS = range(7)
"""Places of what it is told of a tree, and their number."""


def _columns(branches: Branches) -> Array:
    """Features that are read, then those whose signs are changed, as features + feature."""
    is_inner = branches.left != branches.right
    return np.unique(branches.column[is_inner]).astype(np.int32)


def _tables(
    branches: Branches, votes: VoteTable, depth: int, trees: int
) -> tuple[Array, Array, Array, Array]:
    """Tops, exits, records and trees; trees that are too few are leaves that give nothing."""
    width, top_width = branches.width, branches.width - 1
    rows: list[tuple[int, int]] = []
    exits: list[int] = []
    table = np.zeros((trees, FIELDS), np.int32)
    table[:, ROOT], table[:, BELOW] = -branches.leaves * width, -1
    for tree, root in enumerate(branches.roots.tolist()):
        top = top_of(branches, root)
        table[tree, TOPS] = len(rows) * top_width
        rows += list(zip(top.branches, top.kept, strict=True))
        table[tree, TOPS_END] = len(rows) * top_width
        table[tree, WAYS_OUT] = len(exits)
        if top.is_whole:
            exits += votes.places[[~node for node in top.exits]].tolist()
        else:
            exits += [node * width for node in top.exits]
            table[tree, BELOW] = max(depth - (len(top.exits) - 1).bit_length(), 0)
        table[tree, GOES_TO], table[tree, ROOT] = votes.target[tree], root * width
    tops = np.zeros((len(rows), top_width), np.int32)
    chosen = np.array([node for node, _ in rows], np.intp)
    tops[:, 0] = branches.column[chosen] * LANES
    tops[:, 1] = np.array([kept for _, kept in rows], np.int64).astype(np.uint32).view(np.int32)
    tops[:, 2:] = branches.threshold[chosen][:, None].view(np.int32)
    return (
        _some(tops.reshape(-1)),
        np.array(exits, np.int32),
        branches.records(votes.places),
        table.reshape(-1),
    )


def _some(table: Array) -> Array:
    """``table``, or one zero where it is empty."""
    return table if table.size else np.zeros(1, table.dtype)


def sum_votes(
    x: Memory,
    facts: Memory,
    used: Memory,
    tops: Memory,
    exits: Memory,
    records: Memory,
    trees: Memory,
    votes: Memory,
    listed: Memory,
    sums: Memory,
    tile: Memory,
    reached: Memory,
    totals: Memory,
    first: int,
    part: int,
    rows: int,
    width: int,
) -> None:
    """The votes for up to `LANES` rows, from the ``first`` on, of the trees of a part."""
    nodes = after(records, facts[LEAVES])
    start = part * facts[PER_PART]
    end = min(start + facts[PER_PART], facts[TREES])
    count = min(rows - first, LANES)
    to = (part * rows + first) * facts[TARGETS]
    if count >= facts[TOGETHER_FROM]:
        fill(x, facts, used, tile, first * width, width, count, LANES)
        clear(facts, votes, totals, LANES)
        for tree in range(start, end):
            own = after(trees, tree * FIELDS)
            strike(tops, tile, reached, own, facts[TOP], count)
            if own[BELOW] >= 0:
                descend(tile, nodes, after(exits, own[WAYS_OUT]), reached, own[BELOW], count)
            add_for_lanes(facts, own, exits, votes, listed, totals, reached, count)
        put(facts, totals, sums, to, count)
    else:
        for row in range(count):
            clear(facts, votes, totals, 1)
            here = after(x, (first + row) * width)
            if facts[USED] > facts[PLAIN]:
                fill(x, facts, used, tile, (first + row) * width, width, 1, 1)
                here = after(tile, 0)
            for tree in range(start, end, TOGETHER):
                own = after(trees, tree * FIELDS)
                descend_from_roots(here, nodes, own, reached, facts[STEPS])
                add_for_trees(facts, own, votes, listed, totals, reached)
            put(facts, totals, sums, to + row * facts[TARGETS], 1)


def fill(
    x: Memory,
    facts: Memory,
    used: Memory,
    tile: Memory,
    start: int,
    width: int,
    count: int,
    step: int,
) -> None:
    """The columns of so many rows, one column after the other."""
    for k in range(facts[PLAIN]):
        to = after(tile, used[k] * step)
        a = after(x, start + used[k])
        b = after(a, width)
        c = after(b, width)
        d = after(c, width)
        lane = 0
        at = 0
        while lane + 4 <= count:
            to[lane], to[lane + 1], to[lane + 2], to[lane + 3] = a[at], b[at], c[at], d[at]
            lane += 4
            at += 4 * width
        while lane < count:
            to[lane] = a[at]
            lane += 1
            at += width
    for k in range(facts[PLAIN], facts[USED]):
        for lane in range(count):
            value = x[start + lane * width + used[k] - facts[FEATURES]]
            tile[used[k] * step + lane] = 0.0 - value


def clear(facts: Memory, votes: Memory, totals: Memory, count: int) -> None:
    """No votes for so many lanes."""
    nothing = wide(votes[facts[NOTHING]])
    for lane in range(count):
        for stripe in range(facts[STRIPES]):
            totals[lane * facts[BY_LANE] + stripe * facts[BY_TARGET]] = nothing


def put(facts: Memory, totals: Memory, sums: Memory, to: int, count: int) -> None:
    """The totals of so many lanes as sums."""
    for lane in range(count):
        for e in range(facts[TARGETS]):
            place = lane * facts[BY_LANE] + e * facts[BY_TARGET]
            sums[to + lane * facts[TARGETS] + e] = totals[place]


def strike(tops: Memory, tile: Memory, reached: Memory, own: Memory, top: int, count: int) -> None:
    """The exit of a tree's top that each lane takes."""
    at, end = own[TOPS], own[TOPS_END]
    a = alike(-1, 16)
    b, c, d = a, a, a
    if count <= 16:
        while at < end:
            a = struck(a, tops, after(tile, tops[at]), at)
            at += top
        put_lanes(reached, 0, lowest_bit(a))
    else:
        while at < end:
            x = after(tile, tops[at])
            a = struck(a, tops, x, at)
            b = struck(b, tops, after(x, 16), at)
            c = struck(c, tops, after(x, 32), at)
            d = struck(d, tops, after(x, 48), at)
            at += top
        put_lanes(reached, 0, lowest_bit(a))
        put_lanes(reached, 16, lowest_bit(b))
        put_lanes(reached, 32, lowest_bit(c))
        put_lanes(reached, 48, lowest_bit(d))


def struck(exits: Memory, tops: Memory, x: Memory, at: int) -> Memory:
    """The exits that remain."""
    is_left = lanes(x, 0, 16) <= number_in(tops, at + 2, x)
    return pick(is_left, exits, exits & tops[at + 1])


def descend(
    tile: Memory, nodes: Memory, exits: Memory, reached: Memory, steps: int, count: int
) -> None:
    """From the exit of each lane to the place of its leaf's votes."""
    for lane in range(0, count, TOGETHER):
        x, out = after(tile, lane), after(reached, lane)
        a, b, c, d = exits[out[0]], exits[out[1]], exits[out[2]], exits[out[3]]
        e, f, g, h = exits[out[4]], exits[out[5]], exits[out[6]], exits[out[7]]
        left = steps
        while left > 0 or (a & b & c & d & e & f & g & h) >= 0:
            a = below(x, nodes, a, 0)
            b = below(x, nodes, b, 1)
            c = below(x, nodes, c, 2)
            d = below(x, nodes, d, 3)
            e = below(x, nodes, e, 4)
            f = below(x, nodes, f, 5)
            g = below(x, nodes, g, 6)
            h = below(x, nodes, h, 7)
            left -= 1
        out[0], out[1], out[2], out[3] = nodes[a + 3], nodes[b + 3], nodes[c + 3], nodes[d + 3]
        out[4], out[5], out[6], out[7] = nodes[e + 3], nodes[f + 3], nodes[g + 3], nodes[h + 3]


def below(x: Memory, nodes: Memory, node: int, lane: int) -> int:
    """The branch or leaf that follows, for a lane of columns side by side."""
    return following(after(x, lane), nodes, node, nodes[node])


def following(x: Memory, nodes: Memory, node: int, column: int) -> int:
    """The branch or leaf behind a branch."""
    is_right = not x[column] <= number_in(nodes, node + 3, x)
    return nodes[node + 1 + is_right]  # type: ignore[no-any-return] # memory has any elements


def descend_from_roots(
    x: Memory, nodes: Memory, trees: Memory, reached: Memory, steps: int
) -> None:
    """From the roots of trees to the places of leaves' votes, for one row of columns."""
    a, b, c, d = root_of(trees, 0), root_of(trees, 1), root_of(trees, 2), root_of(trees, 3)
    e, f, g, h = root_of(trees, 4), root_of(trees, 5), root_of(trees, 6), root_of(trees, 7)
    left = steps
    while left > 0 or (a & b & c & d & e & f & g & h) >= 0:
        a = following(x, nodes, a, nodes[a] >> SHIFT)
        b = following(x, nodes, b, nodes[b] >> SHIFT)
        c = following(x, nodes, c, nodes[c] >> SHIFT)
        d = following(x, nodes, d, nodes[d] >> SHIFT)
        e = following(x, nodes, e, nodes[e] >> SHIFT)
        f = following(x, nodes, f, nodes[f] >> SHIFT)
        g = following(x, nodes, g, nodes[g] >> SHIFT)
        h = following(x, nodes, h, nodes[h] >> SHIFT)
        left -= 1
    out = reached
    out[0], out[1], out[2], out[3] = nodes[a + 3], nodes[b + 3], nodes[c + 3], nodes[d + 3]
    out[4], out[5], out[6], out[7] = nodes[e + 3], nodes[f + 3], nodes[g + 3], nodes[h + 3]


def root_of(trees: Memory, tree: int) -> int:
    """Where the ``tree``-th one from here begins."""
    return trees[tree * FIELDS + ROOT]  # type: ignore[no-any-return]


def add_for_lanes(
    facts: Memory,
    own: Memory,
    exits: Memory,
    votes: Memory,
    listed: Memory,
    totals: Memory,
    reached: Memory,
    count: int,
) -> None:
    """The votes of the leaves that lanes reach in a tree."""
    out, into = after(exits, own[WAYS_OUT]), after(totals, own[GOES_TO] * facts[BY_TARGET])
    if facts[IS_PLAIN] != 0 and own[BELOW] < 0:
        for lane in range(0, count, 4):
            into[lane] += wide(votes[out[reached[lane]]])
            into[lane + 1] += wide(votes[out[reached[lane + 1]]])
            into[lane + 2] += wide(votes[out[reached[lane + 2]]])
            into[lane + 3] += wide(votes[out[reached[lane + 3]]])
    elif facts[IS_PLAIN] != 0:
        for lane in range(0, count, 4):
            into[lane] += wide(votes[reached[lane]])
            into[lane + 1] += wide(votes[reached[lane + 1]])
            into[lane + 2] += wide(votes[reached[lane + 2]])
            into[lane + 3] += wide(votes[reached[lane + 3]])
    else:
        for lane in range(count):
            place = out[reached[lane]] if own[BELOW] < 0 else reached[lane]
            add(facts, votes, listed, into, place, lane * facts[BY_LANE])


def add_for_trees(
    facts: Memory, trees: Memory, votes: Memory, listed: Memory, totals: Memory, reached: Memory
) -> None:
    """The votes of the leaves that a row reaches in trees."""
    if facts[IS_PLAIN] != 0 and facts[TARGETS] == 1:
        total = totals[0] + wide(votes[reached[0]]) + wide(votes[reached[1]])
        total = total + wide(votes[reached[2]]) + wide(votes[reached[3]])
        total = total + wide(votes[reached[4]]) + wide(votes[reached[5]])
        totals[0] = total + wide(votes[reached[6]]) + wide(votes[reached[7]])
    else:
        for k in range(TOGETHER):
            to = trees[k * FIELDS + GOES_TO] * facts[BY_TARGET]
            add(facts, votes, listed, totals, reached[k], to)


def add(facts: Memory, votes: Memory, listed: Memory, totals: Memory, place: int, to: int) -> None:
    """The votes at ``place`` to the totals from ``to`` on."""
    width = facts[WIDTH]
    if facts[MODE] != 0:
        for e in range(width):
            totals[to + e] = extreme(facts[MODE], totals[to + e], wide(votes[place + e]))
    elif width == 1:
        totals[to] += wide(votes[place])
    elif width == 2:
        put_lanes(totals, to, lanes(totals, to, 2) + wide(lanes(votes, place, 2)))
    elif width == 4:
        put_lanes(totals, to, lanes(totals, to, 4) + wide(lanes(votes, place, 4)))
    elif width > 0:
        for e in range(0, width, 8):
            put_lanes(totals, to + e, lanes(totals, to + e, 8) + wide(lanes(votes, place + e, 8)))
    else:
        while listed[place] >= 0:
            totals[to + listed[place]] += wide(votes[place])
            place += 1
        totals[to + ~listed[place]] += wide(votes[place])


def extreme(mode: int, x: float, y: float) -> float:
    """The lesser, or with a positive ``mode`` the greater."""
    return min(x, y) if mode < 0 else max(x, y)
