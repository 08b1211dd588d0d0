"""Sums down a matrix that is read as it lies, alone or with a row: its rows in their order."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule import schedule
from fornix.dtype import FLOAT32, INT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

N = symbol("N", least=1)


def product(terms: DimLike, columns: int, batch: int = 1, dtype: DType = FLOAT32) -> Tensor:
    """max(Σ a[b, k] · w[b, k, j], 0)."""
    a, w = tensor("a", (batch, terms), dtype), tensor("w", (batch, terms, columns), dtype)

    def at(b: DimLike, j: DimLike) -> Scalar:
        return apply("max", reduce("sum", terms, lambda k: a[b, k] * w[b, k, j]), 0)

    return compute((batch, columns), at)


def is_streamed(result: Tensor) -> bool:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    (piece,) = schedule(buffer.source, Target.host())
    return "sums" in {scratch.name for scratch in piece.nest.scratch}


@pytest.mark.parametrize(
    ("terms", "columns", "batch", "dtype"),
    [(1024, 256, 1, FLOAT32), (263, 1000, 2, FLOAT32), (65, 4099, 1, FLOAT32),
     (263, 1000, 1, INT32), (263, 1001, 1, FLOAT32), (1024, 300, 1, FLOAT32)],
)  # fmt: skip
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_all_terms_and_columns_are_summed(
    terms: int, columns: int, batch: int, dtype: DType, level: str, *, is_open: bool
) -> None:
    stream = np.random.default_rng(0)
    a = stream.integers(-9, 9, (batch, terms)).astype(dtype.numpy)
    w = stream.integers(-9, 9, (batch, terms, columns)).astype(dtype.numpy)
    result = product(N if is_open else terms, columns, batch, dtype)
    assert is_streamed(result)
    for chunks in (1, 3):
        how = {"target": target(level), "chunks": chunks}
        made = compiled(result, {"a": a, "w": w}, {"N": terms}, **how)
        np.testing.assert_array_equal(made, np.maximum(np.einsum("bk,bkj->bj", a, w), 0))


@pytest.mark.parametrize(("columns", "parallel"), [(500, 1), (700, 2), (1300, 2), (4096, 4)])
def test_threads_share_columns_in_long_pieces(columns: int, parallel: int) -> None:
    buffer = stored(product(1024, columns)).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    (piece,) = schedule(buffer.source, Target.host())
    assert piece.nest.parallel == parallel


def test_what_caches_hold_goes_in_tiles() -> None:
    assert not is_streamed(product(100, 1000))
    assert not is_streamed(product(10_000, 100))


def mean(rows: DimLike, columns: int, batch: int = 1, dtype: DType = FLOAT32) -> Tensor:
    """(Σ x[b, k, j]²) · 2 + y[j]."""
    x, y = tensor("x", (batch, rows, columns), dtype), tensor("y", (columns,), dtype)

    def at(b: DimLike, j: DimLike) -> Scalar:
        return reduce("sum", rows, lambda k: x[b, k, j] * x[b, k, j]) * 2 + y[j]

    return compute((batch, columns), at)


@pytest.mark.parametrize(
    ("rows", "columns", "batch", "dtype"),
    [(256, 1024, 1, FLOAT32), (131, 2049, 2, FLOAT32), (65, 4099, 1, INT32), (130, 1031, 2, INT32)],
)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_rows_alone_are_summed_too(
    rows: int, columns: int, batch: int, dtype: DType, level: str, *, is_open: bool
) -> None:
    stream = np.random.default_rng(0)
    x = stream.integers(-9, 9, (batch, rows, columns)).astype(dtype.numpy)
    y = stream.integers(-9, 9, columns).astype(dtype.numpy)
    result = mean(N if is_open else rows, columns, batch, dtype)
    if rows * columns >= 1 << 18 and not is_open:
        assert is_streamed(result)
    for chunks in (1, 3):
        how = {"target": target(level), "chunks": chunks}
        made = compiled(result, {"x": x, "y": y}, {"N": rows}, **how)
        np.testing.assert_array_equal(made, (x * x).sum(1, dtype=dtype.numpy) * 2 + y)


def test_rows_within_a_page_are_summed_in_tiles() -> None:
    assert not is_streamed(mean(1000, 1000))
    assert not is_streamed(mean(100, 2000))
    assert is_streamed(mean(1000, 1024))


def test_what_is_not_finite_stays_in_its_column() -> None:
    x = np.ones((300, 1100), np.float32)
    x[7, 3], x[8, 5], x[299, 1099] = np.inf, np.nan, -np.inf
    values = tensor("x", x.shape, FLOAT32)
    result = compute((1100,), lambda j: reduce("sum", 300, lambda k: values[k, j]))
    assert is_streamed(result)
    np.testing.assert_array_equal(compiled(result, {"x": x}), x.sum(0))
