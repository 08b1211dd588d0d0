"""Rows that lie apart in memory, which several sums read."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.schedule.gathered import JOINED, LEAST, gathered
from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Scalar, Store, Tensor, apply, compute, reduce, tensor
from fornix.ir.loops.tensor import stored
from fornix.ops.move import lower_concat
from tests.compile.levels import LEVELS, target
from tests.compile.native import check


def turned(x: Tensor, inner: int) -> Tensor:
    """x[N, A, inner, C] as rows [N, A * C * inner], C before ``inner``."""
    n, a, _, c = x.shape

    def at(i: DimLike, k: DimLike) -> Scalar:
        return x[i, k // (c * inner), k % inner, k // inner % c]

    return compute((n, a * c * inner), at)


def normalized(x: Tensor) -> Tensor:
    n, k = x.shape
    assert isinstance(k, int)
    total = compute((n,), lambda i: reduce("sum", (k,), lambda j: x[i, j]) / k)
    apart = compute(x.shape, lambda i, j: x[i, j] - total[i])
    spread = compute((n,), lambda i: reduce("sum", (k,), lambda j: apart[i, j] * apart[i, j]))
    return compute(x.shape, lambda i, j: apart[i, j] / apply("sqrt", spread[i] + 1e-5))


def parts(x: Tensor) -> list[Store] | None:
    buffer = stored(x).buffer
    assert buffer is not None
    assert isinstance(buffer.source, Store)
    return gathered(buffer.source)


def data(shape: tuple[int, ...], dtype: DType = FLOAT32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype.numpy)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize(
    "shape", [(2, 3, 2, 8), (1, 1, 5, 7), (3, 2, 4, 33), (1, 17, 2, 16), (0, 3, 2, 8)]
)
def test_rows_apart_are_put_side_by_side_for_a_norm(
    shape: tuple[int, ...], dtype: DType, level: str
) -> None:
    y = normalized(turned(tensor("x", shape, dtype), shape[2]))
    found = parts(y)
    assert found is not None
    assert len(found) == 2
    assert all(a.extent in {shape[0], np.prod(shape[1:])} for a in found[0].axes)
    check(y, {"x": data(shape, dtype)}, target=target(level))


def test_any_number_of_rows_is_one_kernel() -> None:
    y = normalized(turned(tensor("x", (symbol("n"), 3, 2, 8), FLOAT32), 2))
    assert parts(y)
    for n in (0, 1, 5):
        check(y, {"x": data((n, 3, 2, 8))}, {"n": n})


def test_what_is_not_finite_stays_in_its_row() -> None:
    x = data((3, 3, 2, 8))
    x[0, 1, 1, 3], x[1, 2, 0, 7] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        check(normalized(turned(tensor("x", x.shape, FLOAT32), 2)), {"x": x})


def test_rows_are_read_in_place_where_a_copy_gains_nothing() -> None:
    x = tensor("x", (2, 3, 2, 8), FLOAT32)
    rows = turned(x, 2)
    k = rows.shape[1]
    once = compute((2,), lambda i: reduce("sum", (k,), lambda j: rows[i, j]))
    assert parts(once) is None
    assert parts(normalized(tensor("y", (2, 48), FLOAT32))) is None
    short = turned(tensor("z", (2, 1, 2, LEAST // 2 - 1), FLOAT32), 2)
    assert parts(normalized(short)) is None


def weighed(widths: tuple[int, ...], rows: DimLike, dtype: DType = FLOAT32) -> Tensor:
    """The products of rows that are joined of others with one column."""
    row = lower_concat(*(tensor(f"x{i}", (rows, w), dtype) for i, w in enumerate(widths)), axis=1)
    column = tensor("w", (sum(widths),), dtype)
    return compute(
        (rows,), lambda i: reduce("sum", (sum(widths),), lambda k: row[i, k] * column[k])
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("widths", [(12,) * 6, (1, 2, 3, 4, 5, 17), (40, 1, 1, 1, 1, 40)])
def test_rows_of_many_parts_are_joined_before_their_sums(
    widths: tuple[int, ...], dtype: DType, level: str
) -> None:
    feeds = {f"x{i}": data((3, w), dtype) for i, w in enumerate(widths)}
    feeds["w"] = data((sum(widths),), dtype)
    y = weighed(widths, 3, dtype)
    found = parts(y)
    assert found is not None
    assert [a.extent for a in found[0].axes] == [3, sum(widths)]
    check(y, feeds, target=target(level))
    y = weighed(widths, symbol("n"), dtype)
    for n in (0, 1, 3):
        fewer = {name: x if name == "w" else x[:n] for name, x in feeds.items()}
        check(y, fewer, {"n": n}, target=target(level))


def test_what_is_not_finite_in_a_part_stays_in_its_row() -> None:
    feeds = {f"x{i}": data((3, 5)) for i in range(8)} | {"w": data((40,))}
    feeds["x3"][1, 2], feeds["x7"][2, 4] = np.nan, -np.inf
    check(weighed((5,) * 8, 3), feeds)


def test_few_parts_are_chosen_between_in_their_sum() -> None:
    assert parts(weighed((12,) * JOINED, 3)) is None
    assert parts(weighed((2,) * (LEAST // 2 - 1), 3)) is None


def test_several_sums_read_one_copy_of_joined_rows() -> None:
    rows = lower_concat(*(tensor(f"x{i}", (3, 9), FLOAT32) for i in range(7)), axis=1)
    y = normalized(rows)
    found = parts(y)
    assert found is not None
    assert len(found) == 2
    check(y, {f"x{i}": data((3, 9)) for i in range(7)})
