"""Transposes of narrow elements, whose lanes are put in turn, two tiles at once."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import BOOL, FLOAT32, UINT8, UINT16, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Tensor, apply, cast, compute, tensor
from tests.compile.levels import LEVELS, target
from tests.compile.native import check, check_all

SIZES = [(1, 40), (7, 31), (16, 32), (17, 33), (40, 3), (45, 70), (64, 128)]
"""Rows and columns: below a pair of tiles, whole pairs, and what is left of them."""


def numbers(dtype: DType, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype.numpy)


def turned(x: Tensor) -> Tensor:
    b, m, n = x.shape
    return compute((b, n, m), lambda i, j, k: x[i, k, j])


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [UINT8, UINT16])
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_narrow_elements_are_turned_at_any_size(
    m: int, n: int, dtype: DType, level: str, at_end: bool
) -> None:
    feeds = {"x": numbers(dtype, 2, m, n)}
    y = turned(tensor("x", (2, m, n), dtype))
    found = check(y, feeds, at_end=at_end, target=target(level), chunks=3)
    np.testing.assert_array_equal(found, feeds["x"].swapaxes(1, 2))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "open_axes"), [(UINT8, "bmn"), (UINT8, "n"), (UINT16, "m")])
@pytest.mark.parametrize(("m", "n"), [(7, 31), (45, 33)])
def test_extents_that_a_run_tells_fill_pairs_or_not(
    m: int, n: int, dtype: DType, level: str, open_axes: str
) -> None:
    extents = {"b": 2, "m": m, "n": n}
    dims = [symbol(a) if a in open_axes else extent for a, extent in extents.items()]
    symbols = {a: extents[a] for a in open_axes}
    feeds = {"x": numbers(dtype, 2, m, n)}
    y = turned(tensor("x", tuple(dims), dtype))
    found = check(y, feeds, symbols, at_end=True, target=target(level), chunks=2)
    np.testing.assert_array_equal(found, feeds["x"].swapaxes(1, 2))


@pytest.mark.parametrize("level", LEVELS)
def test_turned_bytes_are_computed_with(level: str) -> None:
    m, n = symbol("m"), symbol("n")
    x, w = tensor("x", (m, n), UINT8), tensor("w", (n, m), UINT8)
    widened = compute((n, m), lambda i, j: cast(x[j, i], FLOAT32))
    added = compute((n, m), lambda i, j: x[j, i] + w[i, j])
    flipped = compute((n, m), lambda i, j: apply("lt", x[j, i], w[i, j]))
    feeds = {"x": numbers(UINT8, 45, 70), "w": numbers(UINT8, 70, 45)}
    results = [widened, added, flipped]
    check_all(results, feeds, {"m": 45, "n": 70}, target=target(level), chunks=2)


@pytest.mark.parametrize("level", LEVELS)
def test_bools_that_are_computed_are_turned_as_bits(level: str) -> None:
    x = tensor("x", (45, 70), BOOL)
    data = numbers(UINT8, 45, 70) > 100
    check(compute((70, 45), lambda i, j: apply("not", x[j, i])), {"x": data}, target=target(level))
