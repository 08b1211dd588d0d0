"""Elements at near places from memory, picked out of vectors that are read whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.cost import stride_of
from fornix.compile.emit.picked import picked_bits
from fornix.compile.nest import Nest
from fornix.compile.schedule.map import lanes_along, lanes_of, normal, vector_axis
from fornix.compile.schedule.picked import ROWS, picked_nest
from fornix.dtype import BOOL, FLOAT16, FLOAT32, FLOAT64, INT64, UINT8, DType
from fornix.errors import Fail
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Store, Tensor, compute, gathered, tensor
from fornix.ir.loops.tensor import stored
from tests.compile.levels import EVERY, target
from tests.compile.native import Runner, check, compiled
from tests.ir.interpreter import Array

C, H, W, I, J = (symbol(name, least=0) for name in "CHWIJ")
WIDTHS = [1, 7, 16, 33, 100]
RISES = {
    "repeated": lambda j: j // 2,
    "mild": lambda j: j * 3 // 4,
    "twofold": lambda j: 2 * j,
    "fourfold": lambda j: 4 * j,
    "fivefold": lambda j: 5 * j,
    "falling": lambda j: 40 - j // 3,
    "mixed": lambda j: j * 7919 % 41,
}
"""Places by the number of the element."""
DTYPES = [UINT8, BOOL, FLOAT16, FLOAT32, FLOAT64, INT64]


def nearest(
    dtype: DType, shape: tuple[DimLike, DimLike, DimLike], size: tuple[DimLike, DimLike]
) -> Tensor:
    """[C, *size] of ``x`` [C, H, W] at the places that ``rows`` and ``columns`` hold."""
    x = tensor("x", shape, dtype)
    rows, columns = (tensor(n, (s,), INT64) for n, s in zip(("rows", "columns"), size, strict=True))
    return compute(
        (shape[0], *size),
        lambda c, i, j: x[c, gathered(rows[i], shape[1]), gathered(columns[j], shape[2])],
    )


def feeds(
    dtype: DType, shape: tuple[int, int, int], size: tuple[int, int], rise: str
) -> dict[str, Array]:
    x = np.random.default_rng(0).integers(0, 2 if dtype is BOOL else 100, shape)
    rows, columns = (RISES[rise](np.arange(n)) for n in size)
    return {
        "x": x.astype(dtype.numpy),
        "rows": np.clip(rows, 0, shape[1] - 1).astype(np.int64),
        "columns": np.clip(columns, 0, shape[2] - 1).astype(np.int64),
    }


def nest_of(y: Tensor, processor: Target) -> Nest | None:
    buffer = stored(y).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    store = normal(buffer.source)
    lanes = lanes_of(store, processor)
    vector = vector_axis(store, lanes) or store.axes[-1]
    assert stride_of(store.address, vector) == 1
    return picked_nest(store, vector, processor, lanes_along(store, vector, lanes))


def expected(given: dict[str, Array]) -> Array:
    return given["x"][:, given["rows"]][:, :, given["columns"]]


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_those_at_their_places_however_these_rise(
    dtype: DType, at_end: bool, level: str
) -> None:
    y = nearest(dtype, (C, H, W), (I, J))
    runner = Runner([y], target(level), chunks=3, at_end=at_end)
    for k, (width, rise) in enumerate(itertools.product(WIDTHS, RISES)):
        shape, size = (2, 9, WIDTHS[k % len(WIDTHS)]), (ROWS + k % 3, width)
        given = feeds(dtype, shape, size, rise)
        found = runner.run(given, dict(zip("CHWIJ", (*shape, *size), strict=True)))
        np.testing.assert_array_equal(found[0], expected(given))


@pytest.mark.parametrize("level", EVERY)
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", [UINT8, BOOL, FLOAT16, FLOAT32, INT64])
def test_rows_twice_as_long_end_with_those_that_they_are_made_of(
    dtype: DType, at_end: bool, level: str
) -> None:
    runner = Runner([nearest(dtype, (C, H, W), (I, J))], target(level), chunks=2, at_end=at_end)
    for length, more in itertools.product((1, 8, 17, 50), (-1, 0)):
        shape, size = (2, 3, length), (6, 2 * length + more)
        given = feeds(dtype, shape, size, "repeated")
        found = runner.run(given, dict(zip("CHWIJ", (*shape, *size), strict=True)))
        np.testing.assert_array_equal(found[0], expected(given))


@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
@pytest.mark.parametrize("length", [1, 15, 64, 200])
def test_extents_may_be_known(length: int, level: str) -> None:
    for width in (7, 33):
        shape, size = (3, 5, length), (11, width)
        runner = Runner([nearest(FLOAT32, shape, size)], target(level), chunks=2)
        for rise in RISES:
            given = feeds(FLOAT32, shape, size, rise)
            np.testing.assert_array_equal(runner.run(given)[0], expected(given))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_there_may_be_no_rows_or_columns_or_one(count: int) -> None:
    y = nearest(FLOAT32, (C, H, W), (I, J))
    for size in ((count, 5), (5, count)):
        values = dict(zip("CHWIJ", (2, 3, 4, *size), strict=True))
        check(y, feeds(FLOAT32, (2, 3, 4), size, "repeated"), values, chunks=2)


@pytest.mark.parametrize("where", ["rows", "columns"])
@pytest.mark.parametrize("wrong", [-1, 9, 1 << 40])
def test_places_out_of_range_fail(wrong: int, where: str) -> None:
    y = nearest(FLOAT32, (C, H, W), (I, J))
    given = feeds(FLOAT32, (2, 9, 9), (18, 18), "repeated")
    given[where][17] = wrong
    values = {"C": 2, "H": 9, "W": 9, "I": 18, "J": 18}
    with pytest.raises(Fail, match="index"):
        compiled(y, given, values)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
@pytest.mark.parametrize("size", [(0, 40), (5, 0)])
def test_nothing_is_read_of_images_without_elements(
    size: tuple[int, int], level: str, at_end: bool
) -> None:
    runner = Runner([nearest(FLOAT32, (2, H, W), (I, J))], target(level), at_end=at_end)
    given: dict[str, Array] = {
        "x": np.zeros((2, *size), np.float32),
        "rows": np.zeros(6, np.int64),
        "columns": np.arange(40) // 3,
    }
    with pytest.raises(Fail, match="index"):
        runner.run(given, {"H": size[0], "W": size[1], "I": 6, "J": 40})


def test_rows_more_than_twice_as_long_fail() -> None:
    y = nearest(FLOAT32, (C, H, W), (I, J))
    given = feeds(FLOAT32, (2, 9, 9), (18, 18), "repeated")
    given["columns"] = np.arange(19) // 2
    with pytest.raises(Fail, match="index"):
        compiled(y, given, {"C": 2, "H": 9, "W": 9, "I": 18, "J": 19})


@pytest.mark.parametrize("rise", RISES)
def test_sums_of_several_elements_take_weights_of_rows_and_columns(rise: str) -> None:
    x, at = tensor("x", (C, H, W), FLOAT32), tensor("at", (2, J), INT64)
    rows, weight, own = (
        tensor("rows", (I,), INT64),
        tensor("weight", (2, J), FLOAT32),
        tensor("own", (I,), FLOAT32),
    )
    y = compute(
        (C, I, J),
        lambda c, i, j: (
            x[c, gathered(rows[i], H), gathered(at[0, j], W)] * weight[0, j]
            + x[c, gathered(rows[i], H), gathered(at[1, j], W)] * weight[1, j]
            + own[i]
        ),
    )
    shape, size = (2, 9, 50), (20, 37)
    given = feeds(FLOAT32, shape, size, rise)
    columns = given.pop("columns")
    draw = np.random.default_rng(1)
    given["at"] = np.stack([columns, np.clip(columns + 1, 0, 49)])
    given["weight"] = draw.random((2, 37), np.float32)
    given["own"] = draw.random(20, np.float32)
    check(y, given, dict(zip("CHWIJ", (*shape, *size), strict=True)), chunks=2)


def test_places_that_count_from_the_end_or_differ_from_row_to_row_are_looked_up() -> None:
    x, at = tensor("x", (H, W), FLOAT32), tensor("at", (I, J), INT64)
    y = compute((I, J), lambda i, j: x[i, gathered(at[i, j], W)])
    assert nest_of(y, Target.masked("cooperlake")) is None
    y = compute((I, J), lambda i, j: x[i, gathered(at[0, j], W, wraps=True)])
    assert nest_of(y, Target.masked("cooperlake")) is None
    y = compute((I, J), lambda i, j: x[i, gathered(at[0, j], W)])
    assert nest_of(y, Target.masked("cooperlake")) is not None


@pytest.mark.parametrize(
    ("level", "dtype", "lanes", "bits"),
    [
        ("cooperlake", FLOAT32, 16, 32),
        ("cooperlake", FLOAT64, 8, 64),
        ("cooperlake", FLOAT16, 32, 16),
        ("cooperlake", UINT8, 32, 16),
        ("cooperlake", UINT8, 16, 16),
        ("x86-64-v3", FLOAT32, 8, 32),
        ("x86-64-v3", FLOAT64, 4, None),
        ("x86-64-v3", FLOAT16, 16, None),
        ("x86-64", FLOAT32, 4, None),
    ],
)
def test_processors_pick_elements_of_some_sizes(
    level: str, dtype: DType, lanes: int, bits: int | None
) -> None:
    assert picked_bits(Target.masked(level), dtype, lanes) == bits
