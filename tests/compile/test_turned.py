"""Transposes of narrow elements, whose lanes are put in turn, two tiles at once."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.schedule import schedule
from fornix.dtype import BOOL, FLOAT32, FLOAT64, INT64, UINT8, UINT16, DType
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, apply, cast, compute, constant, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import LEVELS, target
from tests.compile.native import check, check_all, whole

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
@pytest.mark.parametrize("dtype", [INT64, FLOAT64])
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_wide_elements_are_turned_at_any_size(m: int, n: int, dtype: DType, level: str) -> None:
    feeds = {"x": numbers(dtype, 2, m, n)}
    y = turned(tensor("x", (2, m, n), dtype))
    found = check(y, feeds, at_end=True, target=target(level), chunks=3)
    np.testing.assert_array_equal(found, feeds["x"].swapaxes(1, 2))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [3, 16, 45])
def test_tiles_of_bytes_are_as_wide_as_the_axis_that_they_cross(n: int, level: str) -> None:
    feeds = {"x": numbers(UINT8, 5, n, 8)}
    y = turned(tensor("x", (5, n, 8), UINT8))
    found = check(y, feeds, at_end=True, target=target(level), chunks=3)
    np.testing.assert_array_equal(found, feeds["x"].swapaxes(1, 2))
    buffer = stored(turned(tensor("x", (5, 100, 8), UINT8))).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    (piece,) = schedule(buffer.source, target(level))
    assert (piece.nest.kind, piece.nest.lanes) == ("turned", 8)


@pytest.mark.parametrize("columns", [16, 24, 32, 48])
def test_bytes_are_turned_to_rows_shorter_than_a_vector(columns: int) -> None:
    buffer = stored(turned(tensor("x", (2, columns, 700), UINT8))).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    assert [p.nest.kind for p in schedule(buffer.source, target("x86-64-v4"))] == ["turned"]


@pytest.mark.parametrize("dtype", [INT64, FLOAT64, FLOAT32])
def test_tiles_do_not_wait_for_gathering_to_pay(dtype: DType) -> None:
    buffer = stored(turned(tensor("x", (2, 1000, 77), dtype))).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    on = target("x86-64-v3")
    assert [piece.nest.kind for piece in schedule(buffer.source, on)] == ["turned"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "open_axes"), [(UINT8, "bmn"), (UINT8, "n"), (UINT16, "m")])
@pytest.mark.parametrize(("m", "n"), [(7, 31), (45, 33), (16, 3), (1, 1), (33, 16), (5, 17)])
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


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [UINT8, UINT16, FLOAT32])
@pytest.mark.parametrize(("pixels", "channels"), [(131, 3), (1, 3), (3, 37), (41, 2)])
def test_pictures_of_any_number_of_channels_are_laid_apart_and_together(
    pixels: int, channels: int, dtype: DType, level: str
) -> None:
    n, p, c = symbol("n"), symbol("p"), symbol("c")
    feeds = {
        "x": numbers(dtype, 2, pixels, channels),
        "y": numbers(dtype, 2, channels, pixels),
    }
    apart, together = tensor("x", (n, p, c), dtype), tensor("y", (n, c, p), dtype)
    symbols = {"n": 2, "p": pixels, "c": channels}
    results = [turned(apart), turned(together)]
    found = check_all(results, feeds, symbols, target=target(level), chunks=3)
    for given, result in zip(feeds.values(), found, strict=True):
        np.testing.assert_array_equal(result, given.swapaxes(1, 2))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 50])
def test_one_of_two_ways_turns_any_number_of_channels(count: int) -> None:
    y = stored(turned(tensor("x", (symbol("n"), symbol("p"), symbol("c")), UINT8)))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    pieces = schedule(y.buffer.source, target("x86-64-v4"))
    told = [whole(piece.is_run, {"c": count}) for piece in pieces]
    assert sorted(told) == [0, 1]


def test_stored_data_are_turned_in_one_way() -> None:
    table = constant(np.arange(64, dtype=np.float32).reshape(8, 8))
    m, n = symbol("m", most=8), symbol("n", most=8)
    y = compute((n, m), lambda i, j: table[j, i])
    check(y, {}, {"m": 2, "n": 1})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(2, 1500, 3), (1, 70, 4), (3, 333, 2)])
def test_few_channels_that_are_stored_are_laid_apart(shape: tuple[int, ...], level: str) -> None:
    x = tensor("x", shape, FLOAT32)
    feeds = {"x": numbers(FLOAT32, *shape)}
    found = check(turned(x), feeds, at_end=True, target=target(level), chunks=5)
    np.testing.assert_array_equal(found, feeds["x"].swapaxes(1, 2))
