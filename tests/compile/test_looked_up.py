"""Bytes that are made of one byte each: values of all 256, and vectors that look them up."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.schedule.looked_up import LEAST, looked_up
from fornix.compile.schedule.map import lanes_of, normal
from fornix.dtype import FLOAT32, INT8, UINT8, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import (
    Scalar,
    Store,
    Tensor,
    apply,
    cast,
    compute,
    index,
    reduce,
    stored,
    tensor,
)
from tests.compile.levels import LEVELS, OF_BYTES, target
from tests.compile.native import check

N = symbol("N", least=0)
SOURCES = [INT8, UINT8]


def quantized(e: Scalar, scale: float, dtype: DType) -> Scalar:
    low, high = (-128, 127) if dtype is INT8 else (0, 255)
    y = apply("rint", apply("div", e, scale))
    return cast(apply("min", apply("max", y, low), high), dtype)


def sigmoid(e: Scalar) -> Scalar:
    return apply("div", 1.0, 1.0 + apply("exp", -cast(e, FLOAT32) * 0.05))


def chain(given: DType, made: DType, shape: tuple[DimLike, ...]) -> Tensor:
    """x·σ(x) of bytes, quantised, as it stands between two quantised convolutions."""
    x = tensor("x", shape, given)
    return compute(shape, lambda *i: quantized(cast(x[i], FLOAT32) * sigmoid(x[i]), 0.75, made))


def parts(y: Tensor, on: Target) -> object:
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    store = normal(buffer.source)
    return looked_up(store, on, lanes_of(store, on))


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize("given", SOURCES)
@pytest.mark.parametrize("made", SOURCES)
def test_every_byte_becomes_what_it_becomes_alone(given: DType, made: DType, level: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (41, 101)).astype(np.uint8).view(given.numpy)
    check(chain(given, made, x.shape), {"x": x}, target=target(level), chunks=3)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [0, 1, 33])
def test_rows_of_any_number_are_looked_up(count: int, level: str) -> None:
    x = np.random.default_rng(1).integers(0, 256, (count, 300)).astype(np.uint8)
    check(chain(UINT8, UINT8, (N, 300)), {"x": x}, {"N": count}, target=target(level), chunks=2)


@pytest.mark.parametrize("level", LEVELS)
def test_every_second_byte_is_looked_up(level: str) -> None:
    x = np.random.default_rng(2).integers(-128, 128, (20, 420)).astype(np.int8)
    given = tensor("x", x.shape, INT8)
    y = compute((420, 10), lambda i, j: quantized(sigmoid(given[2 * j, i]), 1 / 255, UINT8))
    check(y, {"x": x}, target=target(level), chunks=3)


def test_what_is_few_or_quick_is_computed() -> None:
    on = Target.masked("x86-64-v3")
    assert parts(chain(UINT8, INT8, (LEAST,)), on) is not None
    assert parts(chain(UINT8, INT8, (LEAST - 1,)), on) is None
    x = tensor("x", (LEAST,), UINT8)
    assert parts(compute((LEAST,), lambda i: apply("min", x[i], 7)), on) is None


def test_bytes_of_any_number_are_looked_up() -> None:
    for shape in ((N,), (N, 64, symbol("h"), symbol("w"))):
        assert parts(chain(UINT8, INT8, shape), Target.masked("x86-64-v3")) is not None


def test_bytes_are_looked_up_where_vectors_of_them_are() -> None:
    y = chain(UINT8, INT8, (LEAST,))
    assert parts(y, Target.masked("x86-64")) is None
    assert parts(y, Target.aarch64()) is None


def test_bytes_made_of_two_are_computed() -> None:
    x = tensor("x", (2, LEAST), UINT8)
    on = Target.masked("x86-64-v3")
    two = compute((LEAST,), lambda i: quantized(sigmoid(x[0, i]) + sigmoid(x[1, i]), 0.1, UINT8))
    assert parts(two, on) is None
    placed = compute(
        (LEAST,), lambda i: quantized(sigmoid(x[0, i]) + cast(index(i), FLOAT32), 9, UINT8)
    )
    assert parts(placed, on) is None


@pytest.mark.parametrize("rows", [N, LEAST])
def test_means_of_bytes_are_computed(rows: DimLike) -> None:
    x = tensor("x", (rows, 4), UINT8)
    sums = compute((rows,), lambda i: reduce("sum", (4,), lambda k: cast(x[i, k], FLOAT32)))
    y = compute((rows,), lambda i: quantized(sums[i], 2.5, UINT8))
    assert parts(y, Target.masked("x86-64-v3")) is None
    data = np.random.default_rng(3).integers(0, 256, (LEAST, 4)).astype(np.uint8)
    check(y, {"x": data}, {} if rows == LEAST else {"N": LEAST})
