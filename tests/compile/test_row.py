"""Rows that are reduced and used again: what NaN and infinities in them become."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fornix.compile.nest import Chunks, Fold
from fornix.compile.reductions import reductions
from fornix.compile.schedule import schedule
from fornix.compile.schedule.row import by_reciprocals, row_axis, row_nest
from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Apply, Scalar, Tensor, apply, compute, reduce, select, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.move import lower_concat
from tests.compile.levels import LEVELS, target
from tests.compile.native import check
from tests.compile.test_phases import source

WIDTHS = [1, 5, 17, 64, 197, 300, 515]
SPECIAL = (np.nan, np.inf, -np.inf, 3e38, -3e38, -104.5, -88.0, 0.0, -0.0)


def rows(width: int, seed: int = 0) -> np.ndarray:
    """Ordinary rows, and some with every special value at drawn places, alone or all over."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((24, width)) * 30).astype(np.float32)
    for k, special in enumerate(SPECIAL):
        x[k, rng.integers(width)] = special
        x[len(SPECIAL) + k] = special
    x[-1, rng.integers(0, width, 3)] = np.nan, np.inf, -np.inf
    return x


def results(x: Tensor) -> dict[str, Tensor]:
    """What is made of rows and their extremes, by name."""
    height, width = x.shape
    top = compute((height,), lambda i: reduce("max", width, lambda k: x[i, k]))
    low = compute((height,), lambda i: reduce("min", width, lambda k: x[i, k]))
    power = compute(x.shape, lambda i, j: s.exp(x[i, j] - top[i]))
    total = compute((height,), lambda i: reduce("sum", width, lambda k: power[i, k]))

    def of(value: object) -> Tensor:
        return compute(x.shape, value)  # type: ignore[arg-type]

    def is_high(i: int) -> Scalar:
        return apply("lt", 0.0, top[i])

    return {
        "softmax": of(lambda i, j: power[i, j] / total[i]),
        "log softmax": of(lambda i, j: x[i, j] - top[i] - s.log(total[i])),
        "below": of(lambda i, j: low[i] - x[i, j]),
        "power alone": of(lambda i, j: power[i, j] + (total[i] - total[i]) * 0.0),
        "chosen by the maximum": of(lambda i, j: select(is_high(i), x[i, j], x[i, j] / total[i])),
        "maximum of both": of(lambda i, j: apply("max", top[i], x[i, j] / total[i])),
        "turned by the maximum": of(lambda i, j: select(is_high(i), x[i, j], -x[i, j])),
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_with_special_values_are_what_the_interpreter_says(width: int, level: str) -> None:
    data = rows(width)
    for y in results(tensor("x", data.shape, FLOAT32)).values():
        check(y, {"x": data}, target=target(level), chunks=3)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("width", [65, 197, 205, 211, 300])
def test_the_rest_of_a_row_touches_nothing_outside(width: int, at_end: bool) -> None:
    data = rows(width, seed=1)
    check(
        results(tensor("x", data.shape, FLOAT32))["softmax"],
        {"x": data},
        at_end=at_end,
        target=target("x86-64-v3"),
    )


def test_exponentials_below_a_maximum_of_something_else_have_a_limit() -> None:
    data = np.array([[0.0, 100.0, np.inf], [1e30, -np.inf, np.nan]], np.float32)
    x = tensor("x", data.shape, FLOAT32)
    top = compute((2,), lambda i: reduce("max", 2, lambda k: x[i, k] * 0.5))
    check(compute((2, 3), lambda i, j: s.exp(x[i, j] - top[i])), {"x": data})


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("width", [3, 16, 40, 700])
def test_rows_are_divided_by_subnormal_sums_of_their_own(width: int, dtype: DType) -> None:
    """The reciprocal of a subnormal number may be infinite where the quotient is not."""
    least = np.finfo(dtype.numpy).smallest_subnormal
    data = np.tile(np.arange(1, width + 1, dtype=dtype.numpy) * least, (19, 1))
    data[3], data[4], data[5] = 0, -least, np.finfo(dtype.numpy).tiny
    x = tensor("x", data.shape, dtype)
    total = compute((19,), lambda i: reduce("sum", width, lambda k: x[i, k]))
    y = check(compute(x.shape, lambda i, j: x[i, j] / total[i]), {"x": data})
    assert np.isfinite(y[np.arange(19) != 3]).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("width", [1, 16, 197, 700])
def test_rows_are_divided_by_roots_of_sums(width: int, dtype: DType, level: str) -> None:
    limits = np.finfo(dtype.numpy)
    data = np.random.default_rng(3).standard_normal((19, width)).astype(dtype.numpy)
    data[3], data[4], data[5], data[6, 0] = 0, limits.smallest_subnormal, limits.max, np.nan
    data[7] = np.inf
    x = tensor("x", data.shape, dtype)
    total = compute((19,), lambda i: reduce("sum", width, lambda k: apply("abs", x[i, k])))
    root = compute((19,), lambda i: s.sqrt(total[i]))
    check(compute(x.shape, lambda i, j: x[i, j] / root[i]), {"x": data}, target=target(level))


def test_quotients_of_what_is_computed_of_extremes_stay_quotients() -> None:
    """Those are rounded where rows are quantized: an ulp more or less would be seen."""
    x = tensor("x", (19, 700), FLOAT32)
    top = compute((19,), lambda i: reduce("max", 700, lambda k: x[i, k]))

    def operation(by: Tensor) -> str:
        store = source(stored(compute(x.shape, lambda i, j: x[i, j] / by[i])))
        found = by_reciprocals(store.value, set(reductions([store.value])), store.axes[-1])
        assert isinstance(found, Apply)
        return found.op

    assert operation(compute((19,), lambda i: top[i] * (1 / 127))) == "div"
    assert operation(compute((19,), lambda i: s.sqrt(top[i]))) == "mul"


def asked(x: Tensor) -> list[int]:
    """How many lines of the next row each stage of a softmax asks for."""
    store = source(stored(results(x)["softmax"]))
    axis = store.axes[-1]
    found = row_axis(store, axis)
    assert found is not None
    (chunks,) = row_nest(store, *found, target("x86-64-v4")).body
    assert isinstance(chunks, Chunks)
    return [len(part.ahead) for part in chunks.body if isinstance(part, Fold)]


def test_the_next_row_is_asked_for_while_exponentials_are_computed() -> None:
    assert asked(tensor("x", (24, 515), FLOAT32)) == [0, 1]
    assert asked(tensor("x", (symbol("n"), symbol("m")), FLOAT32)) == [0, 1]
    assert asked(tensor("x", (24, 1 << 20), FLOAT32)) == [0, 0]  # no near cache holds such a row


def test_no_line_is_asked_for_that_only_a_sum_within_the_row_names() -> None:
    x = tensor("x", (24, symbol("k"), 515), FLOAT32)
    sums = compute((24, 515), lambda i, j: reduce("sum", symbol("k"), lambda k: x[i, k, j]))
    assert asked(sums) == [0, 0]


@pytest.mark.parametrize("width", [1, 17, 300, 1025])
@pytest.mark.parametrize("name", ["softmax", "log softmax"])
def test_open_rows_are_kept_where_results_lie(name: str, width: int) -> None:
    data = rows(width)
    x = tensor("x", (symbol("n"), symbol("m")), FLOAT32)
    symbols = {"n": len(data), "m": width}
    check(results(x)[name], {"x": data}, symbols, at_end=True, chunks=3)


def joined(heights: Sequence[int], width: int, batch: DimLike = 2) -> dict[str, Tensor]:
    """What is made of rows that come of one of several tensors, by name."""
    parts = [tensor(f"x{k}", (batch, n, width), FLOAT32) for k, n in enumerate(heights)]
    x = lower_concat(*parts, axis=1)
    top = compute(x.shape[:2], lambda b, i: reduce("max", width, lambda k: x[b, i, k]))
    power = compute(x.shape, lambda b, i, j: s.exp(x[b, i, j] - top[b, i]))
    total = compute(x.shape[:2], lambda b, i: reduce("sum", width, lambda k: power[b, i, k]))
    softmax = compute(x.shape, lambda b, i, j: power[b, i, j] / total[b, i])
    return {"softmax": softmax, "sum": total, "top": top}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("heights", "width"),
    [((19, 5, 1), 4), ((19, 5, 1), 21), ((1, 40), 1), ((1, 40), 300), ((2, 1, 3, 1) * 3, 5)],
)
def test_joined_rows_are_what_the_interpreter_says(
    heights: tuple[int, ...], width: int, level: str
) -> None:
    rng = np.random.default_rng(width)
    feeds = {
        f"x{k}": rng.standard_normal((2, n, width)).astype(np.float32)
        for k, n in enumerate(heights)
    }
    feeds["x1"][0, 0, -1], feeds["x0"][-1, 0, 0] = np.nan, -np.inf
    for y in joined(heights, width).values():
        check(y, feeds, target=target(level), chunks=3)
    y = joined(heights, width, symbol("n"))["softmax"]
    check(y, {name: x[:1] for name, x in feeds.items()}, {"n": 1}, target=target(level))


def test_joined_rows_are_scheduled_apart() -> None:
    heights = 19, 5, 2
    for y in joined(heights, 21, symbol("n")).values():
        pieces = schedule(source(stored(y)), target("x86-64-v4"))
        assert [p.stores[0].axes[1].extent for p in pieces] == [*heights]
