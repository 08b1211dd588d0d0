"""Routines mean in machine code what they mean in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.emit.routines import routine_texts
from fornix.dtype import BOOL, FLOAT32, INT8, INT32, INT64, UINT8, DType
from fornix.errors import NotSupported
from fornix.ir.dim import symbol
from fornix.ir.loops import routine, tensor
from fornix.ir.loops.routines import leading_zeros
from fornix.ops import ranking_loops
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner, check


def collatz(x: Any, y: Any, start: int, end: int) -> None:
    for i in range(start, end):
        n = max(abs_of(x[i]), 1)
        turns = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            turns += 1
            if turns == 50:
                break
        y[i] = turns


def abs_of(n: int) -> int:
    if n < 0:
        return -n
    return n


def logic(x: Any, y: Any, start: int, end: int) -> None:
    last = -1
    for i in range(end - 1, start - 1, -1):
        y[i] = False
        if i % 3 == 0:
            continue
        is_odd = not x[i] % 2 < 1
        y[i] = is_odd and (x[i] > 3 or last == i + 1)
        last = i if is_odd else ~last


def halves(x: Any, y: Any, start: int, end: int) -> None:
    for i in range(start, end):
        y[i] = min(x[i] * 0.5 - 1.0, 3.25) / 3.0


def swaps(x: Any, y: Any, start: int, end: int) -> None:
    one = start
    other = end - 1
    for i in range(start, end):
        y[i] = x[i]
    while one < other:
        y[one], y[other] = y[other], y[one]
        one, other = one + 1, other - 1


def bits(x: Any, y: Any, start: int, end: int) -> None:
    for i in range(start, end):
        y[i] = leading_zeros(((x[i] << (i % 57)) | 1) if i % 4 != 0 else 1 << (i % 63))


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize(
    ("function", "dtype", "result"),
    [
        (bits, INT64, INT8),
        (collatz, INT32, INT64),
        (collatz, UINT8, INT8),
        (logic, INT8, BOOL),
        (halves, FLOAT32, FLOAT32),
        (swaps, INT64, INT64),
    ],
)
def test_a_routine_does_in_machine_code_what_python_does(
    function: Callable[..., None], dtype: DType, result: DType, level: str
) -> None:
    x = np.random.default_rng(0).integers(0, 100, (3, 20)).astype(dtype.numpy)
    given = tensor("x", (3, 20), dtype)
    (made,) = routine(
        function, 3, [given], [((3, 20), result)], lambda row: (row * 20, row * 20 + 20)
    )
    wanted = np.zeros(60, result.numpy)
    flat = x.reshape(-1)
    for row in range(3):
        if dtype is FLOAT32:
            function(flat, wanted, row * 20, row * 20 + 20)
        else:
            function(flat.tolist(), wanted, row * 20, row * 20 + 20)
    for chunks in (1, 3):
        found = Runner([made], target(level), chunks=chunks).run({"x": x})[0]
        np.testing.assert_array_equal(found, wanted.reshape(3, 20))


def rest(x: Any, y: Any, start: int) -> None:
    y[start] = x[start] % x[start]


def unknown(x: Any, y: Any, start: int) -> None:
    y[start] = x[nowhere]  # type: ignore[name-defined] # noqa: F821 - that is the mistake


def mixed(x: Any, y: Any, start: int) -> None:
    value = 1
    if start > 0:
        value = x[start]
    y[start] = value


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (rest, "no Mod of float"),
        (unknown, "knows no 'nowhere'"),
        (mixed, "'0.value' is of several types"),
    ],
)
def test_what_no_routine_says_is_an_error(function: Callable[..., None], message: str) -> None:
    with pytest.raises(NotSupported, match=message):
        routine_texts("f", function, [FLOAT32, FLOAT32, None])


@pytest.mark.parametrize("is_float", [0, 1])
@pytest.mark.parametrize("dtype", [INT32, INT64], ids=str)
@pytest.mark.parametrize(
    ("extent", "wanted"),
    [(1, 1), (7, 3), (63, 63), (100, 50), (200, 9), (300, 200), (700, 690), (2100, 300)],
)
def test_the_foremost_places_are_those_of_a_stable_sort(
    dtype: DType, extent: int, wanted: int, is_float: int
) -> None:
    random = np.random.default_rng(extent)
    info = np.iinfo(dtype.numpy)
    keys = random.integers(info.min, info.max, (8, extent), dtype.numpy, endpoint=True)
    keys[1] = random.integers(-3, 3, extent)
    keys[2] = random.choice([info.min, info.max, 0], extent)
    keys[3] = np.sort(keys[3])[::-1]
    keys[4] = random.integers(0, 5000, extent) - 2**30
    keys[5] = info.max - random.integers(0, 3000, extent)
    keys[6] = info.min + random.integers(0, 100, extent)
    keys[7] = random.integers(-1024, 1024, extent)
    rows, n, k = symbol("R"), symbol("N"), symbol("K")
    given = tensor("keys", (rows, n), dtype)
    (places,) = routine(
        ranking_loops.select,
        rows,
        [given],
        [((rows, k), INT64)],
        lambda row: (row * n, row * k, n, k, dtype.bits, is_float),
        scratch=[(n, INT64), (n, INT64), (ranking_loops.BUCKETS, INT64)],
    )
    symbols = {"R": len(keys), "N": extent, "K": wanted}
    order = np.argsort(keys, axis=1, kind="stable")[:, :wanted]
    for at_end in (True, False):
        runner = Runner([places], Target.host(), chunks=2, at_end=at_end)
        np.testing.assert_array_equal(runner.run({"keys": keys}, symbols)[0], order)


def test_the_interpreter_runs_routines() -> None:
    x = np.arange(12, dtype=np.int64).reshape(2, 6)
    given = tensor("x", (2, 6), INT64)
    (made,) = routine(swaps, 2, [given], [((2, 6), INT64)], lambda row: (row * 6, row * 6 + 6))
    np.testing.assert_array_equal(check(made, {"x": x}), x[:, ::-1])
