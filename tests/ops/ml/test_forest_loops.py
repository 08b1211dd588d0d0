"""Forests in machine code give what walking them node by node gives, bit by bit."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from fornix.dtype import FLOAT32, FLOAT64
from fornix.ir.dim import symbol
from fornix.ir.loops import tensor
from fornix.ops.call import LowerNode
from fornix.ops.ml import forest_loops, vote_tables
from fornix.ops.ml.ensemble import Nodes
from fornix.ops.ml.forest import Forest
from fornix.ops.ml.forest_loops import lower_sums
from fornix.ops.ml.forest_tables import Branches, Top
from fornix.ops.ml.trees import _forest
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner
from tests.ops.ml.plants import (
    COMPARISONS,
    Plant,
    attributes_3,
    attributes_5,
    grow,
    reached,
)

MODES = tuple(COMPARISONS)[:6]
NUMBERS = {np.dtype(np.float32): FLOAT32, np.dtype(np.float64): FLOAT64}
NOBODY = cast("LowerNode", None)


def plants(seed: int, trees: int, **how: Any) -> list[Plant]:
    stream = np.random.default_rng(seed)
    return [grow(stream, **how) for _ in range(trees)]


def forest(grown: list[Plant]) -> Forest:
    found = attributes_3(grown, "target")
    tree, node, given = (found.pop(f"target_{name}") for name in ("treeids", "nodeids", "ids"))
    weights = np.array(found.pop("target_weights"), np.float32)
    return _forest(cast("Any", found), "target", tree, node, given, weights, max(given) + 1)


def forest_of_doubles(grown: list[Plant], targets: int, step: float = 1 + 1e-12) -> Forest:
    found = attributes_5(grown, np.float64, targets)
    splits = found["nodes_splits"] * step
    nodes = Nodes(
        found["nodes_modes"],
        found["nodes_featureids"],
        splits,
        (found["nodes_truenodeids"], found["nodes_falsenodeids"]),
        (found["nodes_trueleafs"], found["nodes_falseleafs"]),
        found["nodes_missing_value_tracks_true"],
        found.get("membership_values"),
    )
    return nodes.forest(found["tree_roots"], found["leaf_targetids"], found["leaf_weights"] / 3)


def rows_of(seed: int, rows: int, dtype: Any = np.float32, *, missing: bool = False) -> Any:
    stream = np.random.default_rng(seed)
    x = (stream.integers(-6, 7, (rows, 4)) * 0.25).astype(dtype)
    if missing:
        x[stream.random(x.shape) < 0.2] = np.nan
    return x


def check(
    made: Forest,
    feeds: list[Any],
    targets: int,
    aggregate: str = "SUM",
    level: str = "host",
    rtol: float = 0,
) -> None:
    rows = symbol("N")
    x = tensor("x", (rows, 4), NUMBERS[feeds[0].dtype])
    sums = lower_sums(made, x, targets, aggregate, NOBODY)
    runners = [Runner([sums], target(level), chunks=chunks) for chunks in (1, 3)]
    for feed in feeds:
        expected = made.sums(feed, targets, aggregate)
        for runner in runners:
            [found] = runner.run({"x": feed}, {"N": len(feed)})
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("targets", [1, 2, 3, 19])
def test_rows_reach_the_leaves_that_the_kernel_finds(targets: int) -> None:
    shallow = plants(3, 5, depth=3, targets=targets, votes=min(targets, 2))
    made = forest(shallow + plants(9, 5, depth=9, targets=targets, votes=min(targets, 2)))
    check(made, [rows_of(rows, rows) for rows in (1, 5, 6, 17, 64, 131)], targets)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
def test_votes_are_put_together_in_every_way(aggregate: str, targets: int) -> None:
    made = forest(plants(targets, 9, targets=targets, modes=MODES, missing=True))
    check(made, [rows_of(n, n, missing=True) for n in (2, 40)], targets, aggregate)


@pytest.mark.parametrize("level", EVERY)
def test_every_processor_compares_features_that_are_missing(level: str) -> None:
    made = forest(plants(1, 5, depth=7, modes=MODES, missing=True))
    check(made, [rows_of(n, n, missing=True) for n in (3, 70)], 3, level=level)


@pytest.mark.parametrize("level", EVERY)
def test_doubles_are_compared_as_doubles(level: str) -> None:
    made = forest_of_doubles(plants(3, 10, depth=7, modes=MODES, missing=True), 3)
    check(made, [rows_of(n, n, np.float64, missing=True) for n in (3, 70)], 3, level=level)


@pytest.mark.parametrize("level", EVERY)
def test_every_processor_searches_sets(level: str) -> None:
    made = forest_of_doubles(plants(2, 10, depth=7, modes=tuple(COMPARISONS), missing=True), 3, 1)
    assert made.members is not None
    check(made, [rows_of(n, n, np.float64, missing=True) for n in (3, 70)], 3, level=level)


@pytest.mark.parametrize("size", [0, 1, 2, 100, 1000])
def test_a_set_is_searched_in_as_many_steps_as_halves_take(size: int) -> None:
    leaves = [Plant(votes=[(0, 1.0)]), Plant(votes=[(0, 2.0)])]
    grown = [Plant("BRANCH_MEMBER", 0, [*range(n)], True, leaves) for n in (3, size)]
    branches = Branches.of(forest_of_doubles(grown, 1, 1), np.dtype(np.float64))
    here, steps = branches.roots[1:], 0
    while here.size:
        here, steps = np.unique([branches.left[here], branches.right[here]]), steps + 1
        here = here[here >= 0]
    assert steps == (2 * size + 1).bit_length()  # two bounds a value, and one that none exceeds


def test_trees_that_vote_for_a_target_each_need_no_table_of_all() -> None:
    grown = [tree for k in range(40) for tree in plants(k, 1, targets=1)]
    stack = list(enumerate(grown))
    while stack:
        tree, plant = stack.pop()
        plant.votes = [(tree % 20, weight) for _, weight in plant.votes]
        stack += [(tree, child) for child in plant.children]
    made = forest(grown)
    votes = vote_tables.vote_table(made, 20, "SUM")
    assert votes is not None
    assert votes.width == 1
    check(made, [rows_of(n, n) for n in (3, 40)], 20)


def test_few_votes_for_many_targets_are_lists() -> None:
    made = forest(plants(0, 10, targets=500, votes=2))
    votes = vote_tables.vote_table(made, 500, "SUM")
    assert votes is not None
    assert votes.width == 0
    check(made, [rows_of(n, n) for n in (3, 40)], 500)


def test_leaves_may_give_nothing() -> None:
    made = forest(plants(0, 10, targets=3, votes=0) + plants(1, 2, targets=3))
    for aggregate in ("SUM", "MIN"):
        check(made, [rows_of(n, n) for n in (3, 40)], 3, aggregate)


def test_roots_may_be_leaves() -> None:
    made = forest([Plant(votes=[(0, 2.5)]), *plants(1, 2, targets=1)])
    check(made, [rows_of(n, n) for n in (3, 40)], 1)
    check(forest([Plant(votes=[(0, 2.5)])]), [rows_of(n, n) for n in (3, 40)], 1)


def test_parts_of_large_forests_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest_loops, "PART", 16)
    made = forest(plants(0, 41, targets=2))
    check(made, [rows_of(n, n) for n in (3, 40)], 2, rtol=1e-14)


@pytest.mark.parametrize("missing", [False, True])
def test_rows_of_many_columns_go_one_by_one(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest_loops, "COLUMNS", 2)
    made = forest(plants(0, 9, missing=missing))
    check(made, [rows_of(n, n, missing=missing) for n in (3, 70)], 3)


@pytest.mark.parametrize("limit", [1, 2, 5, 32])
def test_what_is_not_struck_out_is_where_a_walk_comes_to(limit: int) -> None:
    made = forest(plants(2, 1, depth=6))
    branches = Branches.of(made, np.dtype(np.float32))
    top = Top.of(branches, int(branches.roots[0]), limit)
    for row in rows_of(0, 50):
        left = -1
        for branch, kept in zip(top.branches, top.kept, strict=True):
            if not row[branches.column[branch]] <= branches.threshold[branch]:
                left &= kept
        node = int(branches.roots[0])
        while node in top.branches:
            is_left = row[branches.column[node]] <= branches.threshold[node]
            node = int((branches.left if is_left else branches.right)[node])
        assert top.exits[(left & -left).bit_length() - 1] == node


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
def test_thresholds_at_the_ends_of_numbers_are_compared_exactly(mode: str, dtype: Any) -> None:
    most, least = float(np.finfo(np.float32).max), 2.0**-149
    ends = [0.0, -0.0, least, -least, most, -most, np.inf, -np.inf, np.nan]
    leaves = [Plant(votes=[(0, 1.0)]), Plant(votes=[(0, 2.0)])]
    ways = [(t, tracks) for t in ends for tracks in (False, True)]
    grown = [Plant(mode, 0, t, tracks, leaves) for t, tracks in ways]
    x = np.zeros((len(ends), 4), dtype)
    x[:, 0] = ends
    check(forest(grown), [x], 1)
    given = [[1 if reached(p, row) is leaves[0] else 2 for p in grown] for row in x]
    assert forest(grown).sums(x, 1, "SUM").tolist() == [[sum(row)] for row in given]
