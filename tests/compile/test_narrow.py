"""Stored halves that are packed as such, and widened where they are multiplied."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule import schedule
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Store, Tensor, cast, compute, constant, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import IS_WIDE, LEVELS, target
from tests.compile.native import check, compiled

ROWS = symbol("rows", least=1)
WIDE_LEVELS = [*LEVELS, pytest.param("cooperlake", marks=IS_WIDE)]
HALVES = [FLOAT16, BFLOAT16]
rng = np.random.default_rng(3)


def halves(dtype: DType, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(dtype.numpy)


def product(rows: DimLike, weights: Any, *, rounded: bool = False) -> Tensor:
    """x[M, K] of float32 times stored halves w[K, N]."""
    k, n = weights.shape
    x, w = tensor("x", (rows, k), FLOAT32), constant(weights, "w")
    dtype = DType.of(weights.dtype) if rounded else FLOAT32
    return compute(
        (rows, n),
        lambda i, j: cast(reduce("sum", k, lambda t: x[i, t] * cast(w[t, j], FLOAT32)), dtype),
    )


def packed_types(result: Tensor, target: Target) -> set[DType]:
    """The types of what is written once, from stored data."""
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    pieces = schedule(buffer.source, target)
    stores = [store for piece in pieces for store in piece.stores]
    return {s.buffer.dtype for s in stores if s.buffer.name.startswith("packed")}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("level", WIDE_LEVELS)
@pytest.mark.parametrize("rows", [1, 2, 7, 20, 61])
def test_products_by_stored_halves_are_those_of_float32(
    rows: int, level: str, dtype: DType
) -> None:
    for k, n in ((3, 5), (33, 50), (20, 129)):
        weights, feeds = halves(dtype, k, n), {"x": halves(FLOAT32, rows, k)}
        given = target(level)
        check(product(rows, weights), feeds, target=given, at_end=n % 2 == 0)
        check(product(ROWS, weights), feeds, {"rows": rows}, target=given, at_end=n % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
def test_large_products_of_any_number_of_rows_agree(dtype: DType) -> None:
    weights = halves(dtype, 200, 300)
    result = product(ROWS, weights, rounded=True)
    for rows in (1, 55, 56, 130):
        x = halves(FLOAT32, rows, 200)
        found = compiled(result, {"x": x}, {"rows": rows}).astype(np.float64)
        exact = x.astype(np.float64) @ weights.astype(np.float64)
        eps = float(ml_dtypes.finfo(weights.dtype).eps)
        np.testing.assert_allclose(found, exact, rtol=eps, atol=1e-4)
        parts = compiled(result, {"x": x}, {"rows": rows}, chunks=7)
        assert parts.astype(np.float64).tobytes() == found.tobytes()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("rows", [1, 60])
def test_stored_halves_that_are_not_finite_stay_so(rows: int, dtype: DType) -> None:
    weights = halves(dtype, 64, 96)
    weights[3, 5], weights[4, 6], weights[9, 95] = np.inf, np.nan, -np.inf
    result = product(ROWS, weights)
    x = np.abs(halves(FLOAT32, rows, 64)) + 1
    found = compiled(result, {"x": x}, {"rows": rows})
    assert (found[:, 5] == np.inf).all()
    assert np.isnan(found[:, 6]).all()
    assert (found[:, 95] == -np.inf).all()
    assert np.isfinite(found[:, 7:95]).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
def test_panels_hold_halves_where_there_may_be_few_rows(level: str, dtype: DType) -> None:
    weights = halves(dtype, 96, 96)
    for rows in (1, 20, ROWS):
        assert packed_types(product(rows, weights), target(level)) == {dtype}


@pytest.mark.parametrize("dtype", HALVES)
def test_panels_are_widened_ahead_for_many_rows_in_vectors(dtype: DType) -> None:
    weights = halves(dtype, 96, 96)
    assert packed_types(product(200, weights), target("x86-64-v3")) == {FLOAT32}


def test_processors_that_widen_float16_bit_by_bit_hold_float32() -> None:
    oldest = target("x86-64")
    assert packed_types(product(1, halves(FLOAT16, 96, 96)), oldest) == {FLOAT32}
    assert packed_types(product(1, halves(BFLOAT16, 96, 96)), oldest) == {BFLOAT16}
