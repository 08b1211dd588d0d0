"""Narrow rows that repeat, made a few at once and copied."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.cost import stride_of
from fornix.compile.schedule.map import lanes_of, normal
from fornix.compile.schedule.repeated import ROWS, as_column, repeated
from fornix.dtype import BOOL, FLOAT16, FLOAT32, FLOAT64, UINT8, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Store, Tensor, compute, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import check, whole

N = symbol("N", least=0)
MANY = 1055


def rows(width: int, height: DimLike, dtype: DType) -> Tensor:
    x = tensor("x", (width,), dtype)
    return compute((height, width), lambda _, j: x[(j,)])


def parts(y: Tensor) -> list[Store] | None:
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    store = normal(buffer.source)
    return repeated(store, lanes_of(store, Target.host()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [2, 3, 10, 17, 31])
@pytest.mark.parametrize("dtype", [UINT8, BOOL, FLOAT16, FLOAT32, FLOAT64])
def test_rows_are_the_same_however_wide_they_are(dtype: DType, width: int, level: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, width).astype(dtype.numpy)
    check(rows(width, MANY, dtype), {"x": x}, target=target(level), chunks=3)


@pytest.mark.parametrize("count", [0, 1, ROWS - 1, ROWS, ROWS + 1, 1024, MANY])
def test_any_number_of_rows_that_a_run_tells_is_written(count: int) -> None:
    x = np.arange(10, dtype=np.uint8)
    check(rows(10, N, UINT8), {"x": x}, {"N": count}, chunks=2)


def test_many_narrow_rows_are_copied_from_a_few() -> None:
    found = parts(rows(10, MANY, UINT8))
    assert found is not None
    first, copies, last = found
    assert [a.extent for a in first.axes] == [ROWS, 10]
    assert stride_of(copies.address, copies.axes[-1]) == 1
    assert [a.extent for a in copies.axes] == [MANY // ROWS, ROWS * 10]
    assert [a.extent for a in last.axes] == [MANY % ROWS, 10]


@pytest.mark.parametrize(("height", "width"), [(1000, 10), (MANY, 64), (MANY, 200)])
def test_few_rows_and_those_that_fill_vectors_are_written_alone(height: int, width: int) -> None:
    assert parts(rows(width, height, UINT8)) is None


def test_rows_that_differ_are_written_alone() -> None:
    x = tensor("x", (MANY, 1), UINT8)
    assert parts(compute((MANY, 10), lambda i, _: x[i, 0])) is None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [0, 1, 2, 20])
@pytest.mark.parametrize("dtype", [UINT8, FLOAT32])
def test_elements_that_a_run_repeats_once_or_more_are_the_same(
    dtype: DType, width: int, level: str
) -> None:
    x = tensor("x", (MANY, 1), dtype)
    y = tensor("y", (MANY, N), dtype)
    repeats = compute((MANY, N), lambda i, _: x[i, 0])
    sums = compute((MANY, N), lambda i, j: x[i, 0] + y[i, j])
    feeds = {
        "x": np.arange(MANY)[:, None].astype(dtype.numpy),
        "y": np.arange(MANY * width).reshape(MANY, width).astype(dtype.numpy),
    }
    again = compute((2, MANY, N), lambda _, i, __: x[i, 0])
    check(repeats, {"x": feeds["x"]}, {"N": width}, target=target(level), chunks=3)
    check(again, {"x": feeds["x"]}, {"N": width}, target=target(level), chunks=3)
    check(sums, feeds, {"N": width}, target=target(level), chunks=3)


def test_what_repeats_once_is_one_row() -> None:
    x = tensor("x", (MANY, 1), UINT8)
    buffer = stored(compute((MANY, N), lambda i, _: x[i, 0])).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    found = as_column(buffer.source, buffer.source.axes[-1])
    assert found is not None
    is_it, column = found
    assert [a.extent for a in column.axes] == [MANY]
    assert [whole(is_it, {"N": n}) for n in range(4)] == [0, 1, 0, 0]
    assert as_column(buffer.source, buffer.source.axes[0]) is None
