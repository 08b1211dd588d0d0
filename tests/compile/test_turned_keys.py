"""Attention of few queries whose keys, or values, lie end to end along the keys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.compiler import write_all
from fornix.compile.cost import accesses
from fornix.compile.nest import Block, Chunks, Lanes, Loop, Put, Statement, Turn, When
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, apply, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import assert_close
from tests.compile.test_attention import S, T, expected, feeds_of, runner_of


def turned(name: str, groups: int, count: DimLike, size: int, *, is_turned: bool) -> Tensor:
    """``count`` keys or values of four heads in groups, which lie one after the other or turned."""
    each = 4 // groups
    if not is_turned:
        apart = tensor(name, (groups, count, size), FLOAT32)
        return compute((4, count, size), lambda h, j, d: apart[h // each, j, d])
    lying = tensor(name, (groups, size, count), FLOAT32)
    return compute((4, count, size), lambda h, j, d: lying[h // each, d, j])


def attend(queries: DimLike, keys: DimLike, which: str, groups: int = 4) -> Tensor:
    """Attention of 4 heads with its keys, its values or both ``turned``."""
    q = tensor("q", (4, queries, 20), FLOAT32)
    k = turned("k", groups, keys, 20, is_turned="k" in which)
    v = turned("v", groups, keys, 9, is_turned="v" in which)

    def score(h: DimLike, i: DimLike, j: DimLike) -> Scalar:
        return reduce("sum", 20, lambda d: q[h, i, d] * 0.3 * k[h, j, d])

    scores = compute((4, queries, keys), score)
    top = compute((4, queries), lambda h, i: reduce("max", keys, lambda j: scores[h, i, j]))
    powers = compute(scores.shape, lambda *p: apply("exp", scores[p] - top[p[:2]]))
    total = compute((4, queries), lambda h, i: reduce("sum", keys, lambda j: powers[h, i, j]))

    def mean(h: DimLike, i: DimLike, e: DimLike) -> Scalar:
        return reduce("sum", keys, lambda j: powers[h, i, j] / total[h, i] * v[h, j, e])

    return compute((4, queries, 9), mean)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("which", ["k", "v"])
def test_few_queries_read_them_as_they_lie(
    level: str, which: str, rng: np.random.Generator
) -> None:
    result = attend(S, T, which)
    for queries, keys in ((1, 1), (3, 17), (7, 300), (2, 2049), (9, 70)):
        feeds = feeds_of((queries, keys, 20, 9), rng, groups=4)
        lying = {**feeds, which: np.ascontiguousarray(feeds[which].swapaxes(1, 2))}
        runner = runner_of(result, 3, target(level), at_end=True)
        [found] = runner.run(lying, {"S": queries, "T": keys})
        assert_close(found, expected(feeds))


def inner(steps: Block) -> Iterator[Statement]:
    """All ``steps``, and those in them."""
    for step in steps:
        yield step
        if isinstance(step, Loop | When | Lanes | Chunks):
            yield from inner(step.body)


@pytest.mark.parametrize(
    ("which", "lanes"), [("", {"v"}), ("k", {"k", "v"}), ("v", set()), ("kv", {"k"})]
)
def test_lanes_are_what_lies_side_by_side(which: str, lanes: set[str]) -> None:
    (kernel,) = write_all([stored(attend(S, 50, which))], Target.host())
    few, *_ = kernel.nest.body
    rows = [step for step in inner((few,)) if isinstance(step, Lanes)]
    puts = [put for step in rows for put in step.body if isinstance(put, Put)]
    read = {e.buffer.name for e in accesses(put.value for put in puts)}
    assert read & {"k", "v"} == lanes


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("queries", "which"), [(1, "k"), (3, "kv")])
def test_heads_that_share_them_read_them_as_they_lie(
    level: str, queries: int, which: str, rng: np.random.Generator
) -> None:
    result = attend(queries, T, which, groups=2)
    for keys in (1, 17, 64, 85, 300, 2049):
        feeds = feeds_of((queries, keys, 20, 9), rng)
        lying = feeds | {x: np.ascontiguousarray(feeds[x].swapaxes(1, 2)) for x in which}
        runner = runner_of(result, 3, target(level), at_end=True)
        [found] = runner.run(lying, {"T": keys})
        assert_close(found, expected(feeds))


@pytest.mark.parametrize(("which", "is_turned"), [("", True), ("k", False)])
def test_keys_that_lie_along_lanes_are_not_turned_for_heads_that_share_them(
    which: str, *, is_turned: bool
) -> None:
    (kernel,) = write_all([stored(attend(1, 50, which, groups=2))], Target.host())
    assert any(isinstance(step, Turn) for step in inner(kernel.nest.body)) is is_turned
