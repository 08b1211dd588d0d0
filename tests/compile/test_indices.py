"""Index expressions of which each lane has its own value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.compiler import write_all
from fornix.compile.emit.indices import MANY_TERMS
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, maximum, minimum, symbol
from fornix.ir.loops import compute, index, stored, tensor
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

ROWS = 3


def place(i: Any, j: Any, n: Any, m: Any, numbers: list[int], least: Any, most: Any) -> Any:
    """One of many index expressions that do not move evenly along ``j``."""
    a, b, c, d, e, f = numbers
    q, r = (j * d + i) // (e + 1), (j + n) // (m + 1)
    products = a * q * n * m - b * q + c * r * q + q * i * n + d * j * n - f * j
    return products + e * least(j, m) * n + b * most(r, i) + i * n + m + numbers[c]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("columns", "n", "m"), [(7, 1, 1), (16, 4, 3), (37, 13, 2)])
def test_sums_of_what_lanes_share_and_what_they_do_not_are_exact(
    columns: int, n: int, m: int, level: str
) -> None:
    numbers = [int(x) for x in np.random.default_rng(columns).integers(1, 6, 6)]
    rows, lanes = np.arange(ROWS)[:, None], np.arange(columns)
    wanted = place(rows, lanes, n, m, numbers, np.minimum, np.maximum)
    first = int(wanted.min())
    given = np.arange(int(np.ptp(wanted)) + 1, dtype=np.float32)
    x = tensor("x", given.shape, FLOAT32)

    def at(i: DimLike, j: DimLike) -> Any:
        return place(i, j, symbol("N"), symbol("M"), numbers, minimum, maximum)

    symbols = {"N": n, "M": m}
    own = compute((ROWS, columns), lambda i, j: index(at(i, j)) + 0)
    read = compute((ROWS, columns), lambda i, j: x[at(i, j) - first])
    found = compiled(own, {}, symbols, target=target(level))
    np.testing.assert_array_equal(found, wanted)
    found = compiled(read, {"x": given}, symbols, target=target(level))
    np.testing.assert_array_equal(found, given[wanted - first])


@pytest.mark.parametrize("level", LEVELS)
def test_sums_of_many_symbols_are_few_values_to_llvm(level: str) -> None:
    count = 40
    total: Any = sum((symbol(f"n{k}") for k in range(count)), 0)
    made = compute((ROWS, total), lambda i, j: index(i * total + j - total) + 0)
    symbols = {f"n{k}": k % 3 for k in range(count)}
    columns = sum(symbols.values())
    found = compiled(made, {}, symbols, target=target(level))
    np.testing.assert_array_equal(found.ravel(), np.arange(-columns, (ROWS - 1) * columns))
    *_, text = (kernel.code.text for kernel in write_all([stored(made)], target(level)))
    assert text.count("freeze") >= count // MANY_TERMS
