"""Products of few rows with a matrix whose columns lie end to end: rows in the place of columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule.contraction import (
    WIDE_L1,
    contraction,
    is_worth_packing,
    shape_of,
)
from fornix.compile.schedule.exchanged import exchanged
from fornix.dtype import FLOAT32, FLOAT64, INT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

SMALL = 4 << 10
"""Bytes of a second cache that few numbers fill."""


def product(rows: DimLike, columns: int, terms: int, dtype: DType = FLOAT32) -> Tensor:
    """max(Σ a[i, k] · b[j, k], c[j])."""
    a, b = tensor("a", (rows, terms), dtype), tensor("b", (columns, terms), dtype)
    c = tensor("c", (columns,), dtype)

    def at(i: DimLike, j: DimLike) -> Scalar:
        return apply("max", reduce("sum", terms, lambda k: a[i, k] * b[j, k]), c[j])

    return compute((rows, columns), at)


def store_of(result: Tensor) -> Store:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return buffer.source


def is_exchanged(result: Tensor, lanes: int = 16, l2_bytes: int = SMALL) -> bool:
    c = contraction(store_of(result))
    assert c is not None
    return exchanged(c, dataclasses.replace(Target.host(), l2_bytes=l2_bytes), lanes) is not None


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, INT32])
@pytest.mark.parametrize("level", LEVELS)
def test_few_rows_of_any_number_give_what_they_are(level: str, dtype: DType) -> None:
    stream = np.random.default_rng(0)
    small = dataclasses.replace(target(level), l2_bytes=SMALL)
    for rows, columns, terms in (
        (2, 33, 61),
        (3, 5, 1024),
        (7, 90, 40),
        (8, 17, 100),
        (13, 40, 99),
    ):
        a, b = (stream.integers(-3, 4, (n, terms)).astype(dtype.numpy) for n in (rows, columns))
        c = stream.integers(-9, 9, columns).astype(dtype.numpy)
        result = product(rows, columns, terms, dtype)
        for chunks in (1, 3):
            found = compiled(result, {"a": a, "b": b, "c": c}, target=small, chunks=chunks)
            np.testing.assert_array_equal(found, np.maximum(a @ b.T, c))


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b, c = np.ones((5, 90), np.float32), np.ones((40, 90), np.float32), np.zeros(40, np.float32)
    a[2, 89], b[39, 5] = np.inf, np.nan
    small = dataclasses.replace(Target.host(), l2_bytes=SMALL)
    found = compiled(product(5, 40, 90), {"a": a, "b": b, "c": c}, target=small)
    np.testing.assert_array_equal(found, np.maximum(a @ b.T, c))


def test_rows_that_fill_vectors_or_that_a_run_tells_stay_rows() -> None:
    assert is_exchanged(product(16, 40, 90))
    assert not is_exchanged(product(16, 40, 90), lanes=8)
    assert not is_exchanged(product(1, 40, 90))
    assert not is_exchanged(product(symbol("M"), 40, 90))


def test_two_rows_read_a_matrix_one_after_the_other_unless_it_is_far() -> None:
    assert not is_exchanged(product(2, 40, 90), l2_bytes=40 * 90 * 4)
    assert is_exchanged(product(2, 40, 90), l2_bytes=40 * 90 * 4 // 8)
    c = contraction(store_of(product(2, 40, 90)))
    assert c is not None
    assert not is_worth_packing(c)


def test_a_matrix_that_is_near_is_turned() -> None:
    assert is_exchanged(product(4, 40, 90), l2_bytes=40 * 90 * 4)
    assert not is_exchanged(product(4, 40, 90), l2_bytes=40 * 90 * 4 + 1)


@pytest.mark.parametrize(("terms", "height"), [(1000, 14), (1024, 8), (2048, 8), (1536, 14)])
def test_rows_that_are_pages_apart_are_few(terms: int, height: int) -> None:
    a, b = tensor("a", (200, terms), FLOAT32), tensor("b", (terms, 16), FLOAT32)
    result = compute((200, 16), lambda i, j: reduce("sum", terms, lambda k: a[i, k] * b[k, j]))
    c = contraction(store_of(result))
    assert c is not None
    wide = target("x86-64-v4")
    near = dataclasses.replace(wide, l1_bytes=32 << 10)
    assert shape_of(c, near, 16) == (height, 1)
    assert shape_of(c, dataclasses.replace(wide, l1_bytes=WIDE_L1), 16) == (14, 1)
