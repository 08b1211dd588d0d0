"""Bools that are moved and no more, which go as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import BOOL, INT64
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, apply, compute, gathered, index, select, tensor
from tests.compile.levels import LEVELS, target
from tests.compile.native import check


def bools(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, shape).astype(bool)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "n"), [(1, 7), (5, 70), (16, 16), (17, 33)])
def test_bools_are_turned_and_copied_at_any_size(m: int, n: int, level: str, at_end: bool) -> None:
    data = bools(m, n)
    x = tensor("x", data.shape, BOOL)
    for y in (
        compute((n, m), lambda i, j: x[j, i]),
        compute((m, n), lambda i, j: x[i, j]),
        compute((m, n), lambda i, j: x[i, n - 1 - j]),
        compute((n, m), lambda i, j: apply("not", x[j, i])),
    ):
        check(y, {"x": data}, at_end=at_end, target=target(level), chunks=2)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(("m", "n"), [(3, 5), (20, 40)])
def test_what_lies_beside_bools_is_the_default(m: int, n: int, default: bool, level: str) -> None:
    data = bools(m, n)
    x = tensor("x", data.shape, BOOL)
    rows = compute((m, n + 3), lambda i, j: x.get((i, j - 1), default=default))
    columns = compute((n + 3, m), lambda i, j: x.get((j, i - 1), default=default))
    check(rows, {"x": data}, target=target(level))
    check(columns, {"x": data}, target=target(level))


@pytest.mark.parametrize("level", LEVELS)
def test_bools_are_gathered_and_chosen(level: str) -> None:
    data, places = bools(9, 40), np.array([3, 0, 8, 8, 1], np.int64)
    x, p = tensor("x", data.shape, BOOL), tensor("p", places.shape, INT64)
    rows = compute((5, 40), lambda i, j: x[gathered(p[i], 9), j])
    columns = compute((40, 5), lambda i, j: x[gathered(p[j], 9), i])
    chosen = compute((9, 40), lambda i, j: select(x[i, j], x[i, j], apply("lt", index(j), 7)))
    for y in (rows, columns):
        check(y, {"x": data, "p": places}, target=target(level))
    check(chosen, {"x": data}, target=target(level))


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("count", "length"), [(1, 9), (2, 64), (3, 65), (3, 200), (4, 130)])
def test_few_rows_of_bools_are_woven_and_taken_apart(
    count: int, length: int, level: str, at_end: bool
) -> None:
    data = bools(count * length)
    x = tensor("x", data.shape, BOOL)
    woven = compute((length, count), lambda i, j: x[j * length + i])
    apart = compute((count, length), lambda i, j: x[j * count + i])
    for y in (woven, apart):
        check(y, {"x": data}, at_end=at_end, target=target(level), chunks=2)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "n"), [(1, 3), (9, 40), (33, 129)])
def test_bools_are_chosen_by_place(m: int, n: int, level: str) -> None:
    data = bools(2, m, n)
    x = tensor("x", data.shape, BOOL)

    def below(i: DimLike, j: DimLike) -> Scalar:
        return select(index(i) < index(j), x[0, i, j], False)

    def above(i: DimLike, j: DimLike) -> Scalar:
        return select(index(i) < index(j), True, select(x[0, i, j], x[1, i, j], x[1, i, 0]))

    for y in (below, above):
        check(compute((m, n), y), {"x": data}, target=target(level))
