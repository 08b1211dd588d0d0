"""Rows of few elements, a vector of which is reduced at a time."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.schedule import schedule
from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Tensor, cast, compute, index, reduce, select, stored, tensor
from fornix.ops import scalar as s
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check
from tests.compile.test_phases import source
from tests.compile.test_row import results, rows

COUNTS = [1, 16, 35]
"""Rows: fewer than a vector holds, as many, some more."""


def reduced(x: Tensor) -> dict[str, Tensor]:
    """Results of one element for each row of ``x``, and of a row each."""
    height, width = x.shape
    total = compute((height,), lambda i: reduce("sum", width, lambda k: x[i, k] * x[i, k]))
    top = compute((height,), lambda i: reduce("max", width, lambda k: x[i, k]))
    found = compute(
        (height,),
        lambda i: reduce(
            "min", width, lambda k: select(s.equal(x[i, k], top[i]), index(k), index(width))
        ),
    )
    return {
        "sum": total,
        "greatest": top,
        "least": compute((height,), lambda i: reduce("min", width, lambda k: x[i, k])),
        "place": found,
        "shifted": compute(x.shape, lambda i, j: x[i, j] - top[i] + x[i, j]),
    }


def data(height: int, width: int, dtype: DType) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((height, width)) * 9).astype(dtype.numpy)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [2, 6, 16, 23, 32])
def test_rows_of_few_elements_are_reduced_with_every_special_value(level: str, width: int) -> None:
    x = np.concatenate([rows(width), rows(width, seed=1)[:13]])
    for y in results(tensor("x", x.shape, FLOAT32)).values():
        check(y, {"x": x}, target=target(level), chunks=3)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("height", COUNTS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, INT32, INT64])
def test_any_number_of_short_rows_is_reduced_and_nothing_beside_is_touched(
    height: int, dtype: DType, *, at_end: bool
) -> None:
    for width in (2, 5):
        x = data(height, width, dtype)
        for y in reduced(tensor("x", x.shape, dtype)).values():
            check(y, {"x": x}, at_end=at_end, chunks=2)


@pytest.mark.parametrize("height", [1, 16, 47])
def test_short_rows_may_be_as_many_as_a_run_tells(height: int) -> None:
    n, x = symbol("n", 1), data(height, 6, FLOAT32)
    found = {**results(t := tensor("x", (n, 6), FLOAT32)), **reduced(t)}
    for y in found.values():
        check(y, {"x": x}, {"n": height}, chunks=2)


def test_short_rows_are_the_same_in_however_many_chunks() -> None:
    x = data(1003, 7, FLOAT32)
    y = results(tensor("x", x.shape, FLOAT32))["log softmax"]
    one, three = (Runner([y], chunks=n).run({"x": x})[0] for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_short_rows_of_rows_that_lie_apart_are_reduced() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40, 5)).astype(np.float32)
    t = tensor("x", x.shape, FLOAT32)
    y = compute((3, 33), lambda b, i: reduce("sum", 5, lambda k: t[b, i + 2, k]))
    check(y, {"x": x}, chunks=3)


def test_what_is_the_same_for_a_row_is_read_beside_it() -> None:
    x, w = data(50, 4, FLOAT32), data(50, 1, FLOAT32)[:, 0]
    b = data(1, 4, FLOAT32)[0]
    t, u, v = (
        tensor("x", x.shape, FLOAT32),
        tensor("w", w.shape, FLOAT32),
        tensor("b", b.shape, FLOAT32),
    )
    mean = compute((50,), lambda i: reduce("sum", 4, lambda k: t[i, k]) * 0.25)
    y = compute(x.shape, lambda i, j: (t[i, j] - mean[i]) * u[i] + v[j])
    check(y, {"x": x, "w": w, "b": b})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [17, 24, 31, 32])
def test_rows_of_two_vectors_are_reduced_in_vectors(level: str, width: int) -> None:
    x = np.concatenate([rows(width), rows(width, seed=1)[:13]])
    found = reduced(tensor("x", x.shape, FLOAT32))
    for y in (found["least"], found["greatest"], found["place"]):
        check(y, {"x": x}, target=target(level), chunks=3)
    for dtype in (FLOAT32, FLOAT64, INT32, INT64):
        t = tensor("x", (21, width), dtype)
        y = reduced(t)["sum"]
        check(y, {"x": data(21, width, dtype)}, target=target(level), at_end=True)
        assert Runner([y], target=target(level)).kernels[0].schedule == "map"


@pytest.mark.parametrize(("width", "is_short"), [(2, True), (10, True), (17, False), (1, False)])
def test_rows_of_up_to_16_elements_are_short(width: int, *, is_short: bool) -> None:
    x = tensor("x", (100, width), FLOAT32)
    y = compute((100,), lambda i: cast(reduce("max", width, lambda k: x[i, k]), FLOAT64))
    assert (Runner([y]).kernels[0].schedule == "short") is is_short


@pytest.mark.parametrize(
    ("name", "width", "kind"),
    [
        ("log softmax", 21, "short"),
        ("log softmax", 32, "short"),
        ("log softmax", 33, "row"),
        ("softmax", 21, "row"),
    ],
)
def test_rows_of_more_are_short_where_each_asks_for_a_function(
    name: str, width: int, kind: str
) -> None:
    y = results(tensor("x", (100, width), FLOAT32))[name]
    assert schedule(source(stored(y)), target("x86-64-v4"))[0].nest.kind == kind
