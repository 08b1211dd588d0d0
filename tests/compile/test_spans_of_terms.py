"""Products of few rows and columns with many terms, a span of terms after the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule.contraction import contraction
from fornix.compile.schedule.spans_of_terms import in_spans
from fornix.dtype import FLOAT32, INT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, constant, reduce, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import compiled

SMALL = 64 << 10
"""Bytes of a second cache that few terms fill."""


def product(rows: int, columns: int, terms: DimLike, dtype: DType = FLOAT32) -> Tensor:
    """max(Σ a[k, i] · b[k, j], c[j]): what follows a transposition."""
    a, b = tensor("a", (terms, rows), dtype), tensor("b", (terms, columns), dtype)
    c = tensor("c", (columns,), dtype)

    def at(i: DimLike, j: DimLike) -> Scalar:
        return apply("max", reduce("sum", terms, lambda k: a[k, i] * b[k, j]), c[j])

    return compute((rows, columns), at)


def are_spans(result: Tensor, l2_bytes: int = SMALL) -> bool:
    buffer = stored(result).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    c = contraction(buffer.source)
    assert c is not None
    return in_spans(c, dataclasses.replace(Target.host(), l2_bytes=l2_bytes)) is not None


@pytest.mark.parametrize(
    ("rows", "columns", "terms"), [(2, 5, 4000), (17, 33, 1025), (64, 64, 1200), (3, 100, 1537)]
)
@pytest.mark.parametrize("level", LEVELS)
def test_all_terms_are_summed(rows: int, columns: int, terms: int, level: str) -> None:
    stream = np.random.default_rng(0)
    a, b = (stream.integers(-3, 4, (terms, n)).astype(np.float32) for n in (rows, columns))
    c = stream.integers(-9, 9, columns).astype(np.float32)
    result = product(rows, columns, terms)
    assert are_spans(result)
    small = dataclasses.replace(target(level), l2_bytes=SMALL)
    for chunks in (1, 3):
        found = compiled(result, {"a": a, "b": b, "c": c}, target=small, chunks=chunks)
        np.testing.assert_array_equal(found, np.maximum(a.T @ b, c))


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b = np.ones((1500, 9), np.float32), np.ones((1500, 20), np.float32)
    a[1499, 3], b[7, 5], c = np.inf, np.nan, np.zeros(20, np.float32)
    small = dataclasses.replace(Target.host(), l2_bytes=SMALL)
    found = compiled(product(9, 20, 1500), {"a": a, "b": b, "c": c}, target=small)
    np.testing.assert_array_equal(found, np.maximum(a.T @ b, c))


def test_a_product_that_the_second_cache_holds_stays_whole() -> None:
    assert are_spans(product(64, 64, 10_000), 2 << 20)
    assert not are_spans(product(64, 64, 4000), 2 << 20)


def test_so_does_a_product_of_a_single_span() -> None:
    assert not are_spans(product(2, 4096, 512))
    assert are_spans(product(2, 4096, 513))


def test_so_do_those_of_many_columns_of_open_length_and_of_other_types() -> None:
    assert not are_spans(product(100, 100, 10_000))
    assert not are_spans(product(64, 64, symbol("N", least=1)))
    assert not are_spans(product(64, 64, 10_000, INT32))


def test_stored_factors_are_packed_as_a_whole() -> None:
    a, w = tensor("a", (10, 4000), FLOAT32), constant(np.ones((4000, 20), np.float32))
    y = compute((10, 20), lambda i, j: reduce("sum", 4000, lambda k: a[i, k] * w[k, j]))
    assert not are_spans(y)
