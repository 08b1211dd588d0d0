"""Windows with steps along rows, whose rows are reduced first."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import FLOAT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Tensor, tensor
from fornix.ops.pool import pool_window
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, compiled
from tests.compile.test_window import mean, normal, pooled

CASES = [
    ((64, 64), (5, 5), (3, 3), (2, 2, 2, 2)), ((21, 17), (6, 6), (4, 4), (3, 3, 3, 3)),
    ((9, 40), (5, 7), (4, 3), (3, 0, 2, 1)), ((5, 6, 50), (3, 3, 3), (2, 2, 2), (1,) * 6),
    ((30, 31), (4, 5), (4, 3), (0, 0, 0, 0)), ((3, 70), (3, 9), (2, 4), (1, 3, 2, 2)),
]  # fmt: skip


def given(
    size: tuple[DimLike, ...],
    taps: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """The largest and the mean of what lies in windows of x[1, 2, *size]."""
    x = tensor("x", (1, 2, *size), FLOAT32)
    window = pool_window(x.shape, list(taps), strides=list(strides), pads=list(pads))
    return pooled("max", x, window), mean(x, window)


def schedules(x: Tensor, level: str = "host") -> list[str]:
    return [kernel.schedule for kernel in Runner([x], target(level)).kernels]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES)
def test_rows_of_windows_are_reduced_before_steps_are_taken(
    case: tuple[tuple[int, ...], ...], level: str
) -> None:
    size, *window = case
    for y in given(size, *window):
        assert schedules(y) == ["folded"]
        for at_end in (True, False):
            check(y, {"x": normal(1, 2, *size)}, target=target(level), at_end=at_end)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "case",
    [((3, 3), (2, 2), (1,) * 4), ((6, 6), (4, 4), (3,) * 4), ((5, 4), (4, 3), (0, 0, 2, 1))],
)
def test_one_kernel_reduces_rows_of_windows_of_every_image(
    case: tuple[tuple[int, ...], ...], level: str
) -> None:
    h, w = (symbol(name, least=6) for name in "hw")
    for y in given((h, w), *case):
        assert schedules(y) == ["folded"]
        for height, width in ((6, 6), (7, 33), (21, 13), (18, 64)):
            feeds = {"x": normal(1, 2, height, width)}
            extents = {"h": height, "w": width}
            check(y, feeds, extents, target=target(level), at_end=height % 2 == 0)


def test_nan_wins_where_rows_are_reduced_first() -> None:
    data = normal(1, 2, 64, 64)
    data[0, 1, 31, 31] = np.nan
    (y, _) = given((64, 64), (5, 5), (3, 3), (2,) * 4)
    assert np.isnan(check(y, {"x": data})).sum() == 4


def test_windows_that_are_read_faster_at_once_are_not_folded() -> None:
    h, w = (symbol(name, least=8) for name in "hw")
    for size, taps, strides, pads in (
        ((28, 28), (3, 3), (2, 2), (0,) * 4),
        ((h, w), (2, 2), (2, 2), (0,) * 4),
        ((28, 28), (3, 3), (1, 1), (1,) * 4),
        ((h, w), (40, 40), (2, 2), (0,) * 4),
    ):
        assert "folded" not in schedules(given(size, taps, strides, pads)[0])


def test_processors_that_gather_where_lanes_are_masked_fold_more() -> None:
    for extent, schedule in ((32, "window"), (30, "folded")):
        (y, _) = given((extent, extent), (3, 3), (2, 2), (1, 1, 0, 0))
        assert schedules(y, "x86-64-v3") == ["folded"]
        (y, _) = given((extent + 1, extent + 1), (3, 3), (2, 2), (0,) * 4)
        assert schedules(y, "x86-64-v3") == [schedule]


def test_nothing_is_read_behind_the_last_row_in_scratch_memory() -> None:
    (y, _) = given((20, 27), (7, 3), (3, 3), (0, 1, 5, 2))
    assert schedules(y, "x86-64-v3") == ["folded"]
    check(y, {"x": normal(1, 2, 20, 27)}, target=target("x86-64-v3"))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "uint8"])
def test_narrow_elements_are_widened_where_rows_are_reduced(name: str) -> None:
    dtype = DType.of(name)
    x = tensor("x", (1, 2, 40, 37), dtype)
    window = pool_window(x.shape, [5, 5], strides=[3, 3], pads=[2] * 4)
    y = pooled("max", x, window)
    assert schedules(y) == ["folded"]
    check(y, {"x": np.random.default_rng(0).integers(0, 99, (1, 2, 40, 37)).astype(dtype.numpy)})


def test_rows_of_one_image_are_divided_between_threads() -> None:
    h, w = (symbol(name, least=6) for name in "hw")
    for size in ((64, 64), (h, w)):
        x = tensor("x", (1, 1, *size), FLOAT32)
        window = pool_window(x.shape, [5, 5], strides=[3, 3], pads=[2] * 4)
        (kernel,) = Runner([pooled("max", x, window)]).kernels
        assert kernel.schedule == "folded"
        chunks = kernel.parallel
        assert (chunks if isinstance(chunks, int) else chunks.bind({"h": 64, "w": 64})) == 6


def test_chunks_never_change_a_bit_of_what_is_reduced_row_by_row() -> None:
    for y in given((33, 64), (5, 5), (3, 3), (2,) * 4):
        feeds = {"x": normal(1, 2, 33, 64)}
        whole = compiled(y, feeds)
        for chunks in (2, 7):
            assert compiled(y, feeds, chunks=chunks).tobytes() == whole.tobytes()
