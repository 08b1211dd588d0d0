from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.convolution import convolution
from fornix.compile.schedule.whole_groups import with_whole_groups
from fornix.dtype import FLOAT16, FLOAT32, INT32, UINT8
from fornix.ir.loops import Tensor, constant, stored, tensor
from fornix.ir.loops.scalar import const
from fornix.ops.byte_products import lower_byte_convolution
from fornix.ops.conv import conv, lower_conv
from fornix.ops.window import Window
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check
from tests.compile.test_direct import H, N, W, data
from tests.compile.test_phases import source
from tests.compile.test_planes import grouped, schedules

WINDOWS: list[tuple[int, int, int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (2, 3, 12, (7, 5), (3, 3), {"pads": [1] * 4}),
    (2, 3, 26, (7, 8), (2, 2), {"strides": [3, 3]}),
    (5, 6, 18, (9, 7), (3, 3), {"strides": [2, 2], "pads": [1, 0, 1, 2]}),
    (2, 2, 17, (9, 10), (3, 2), {"strides": [2, 3], "dilations": [3, 2], "pads": [3, 1] * 2}),
    (2, 3, 30, (40,), (5,), {"strides": [4], "pads": [2, 1]}),
    (2, 2, 29, (3, 4, 5), (3, 1, 3), {"pads": [1, 0, 1] * 2}),
]
"""Groups, channels and filters of each, the image, taps, and what else there is to know."""


def is_filled(y: Tensor, level: str = "host") -> bool:
    """Whether sums of whole blocks are taken, not of rows."""
    return "convolution" in schedules(y, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("count", "channels", "filters", "image", "taps", "more"), WINDOWS)
def test_groups_that_fill_no_vectors_are_filled_up_where_rows_are_worse(
    count: int,
    channels: int,
    filters: int,
    image: tuple[int, ...],
    taps: tuple[int, ...],
    more: dict[str, Any],
    level: str,
) -> None:
    shape = (2, count * channels, *image)
    w = data(FLOAT32, (count * filters, channels, *taps), {}, 0)
    b = data(FLOAT32, w.shape[:1], {}, 1)
    y = lower_conv(tensor("x", shape, FLOAT32), constant(w), constant(b), group=count, **more)
    x = data(FLOAT32, shape, {}, 2)
    x.flat[x.size // 2], x.flat[-1] = np.nan, np.inf
    found = [Runner([y], target(level), chunks=n).run({"x": x})[0] for n in (1, 3)]
    np.testing.assert_array_equal(found[0], found[1])
    with np.errstate(invalid="ignore"):
        wanted = conv(*(a.astype(np.float64) for a in (x, w, b)), group=count, **more)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_elements_of_rows_that_lie_apart_are_worse(level: str) -> None:
    x = tensor("x", (1, 12, 7, 22), FLOAT32)
    assert is_filled(grouped(x, 4, 14, (2, 2), strides=[3, 3]), level)


def test_long_rows_are_better_than_blocks_with_holes() -> None:
    x = tensor("x", (1, 100, 28, 64), FLOAT32)
    assert not is_filled(grouped(x, 5, 20, (3, 3), pads=[1] * 4))


@pytest.mark.parametrize("extents", [{"N": 1, "H": 3, "W": 2}, {"N": 2, "H": 8, "W": 50}])
def test_extents_may_be_open(extents: dict[str, int]) -> None:
    y = grouped(tensor("x", (N, 12, H, W), FLOAT32), 4, 12, (3, 3), strides=[3, 3], pads=[1] * 4)
    assert is_filled(y)
    check(y, {"x": data(FLOAT32, (N, 12, H, W), extents, 2)}, extents)


@pytest.mark.parametrize(("filters", "lanes", "block"), [(4, 16, 8), (12, 16, 16), (4, 8, 8)])
def test_few_filters_of_bytes_fill_halves_of_vectors(filters: int, lanes: int, block: int) -> None:
    x, win = tensor("x", (1, 16, 6, 20), UINT8), Window.of((6, 20), (3, 3))
    w = constant(np.ones((4 * filters, 4, 3, 3), np.int8))
    y = lower_byte_convolution(x, w, const(7, INT32), None, win, 4)
    found = convolution(source(stored(y)))
    assert found is not None
    assert found.sums_words
    filled = with_whole_groups(found, lanes, is_wide=False)
    assert filled is not None
    assert filled[0].buffer.shape[1] == 4 * block


def test_narrow_numbers_are_summed_so_too() -> None:
    y = grouped(tensor("x", (1, 12, 6, 7), FLOAT16), 4, 12, (3, 3), pads=[1] * 4)
    check(y, {"x": data(FLOAT16, (1, 12, 6, 7), {}, 2)})


@pytest.mark.parametrize(
    ("filters", "is_filled_up"), [(24, True), (40, True), (8, False), (32, False)]
)
def test_halves_of_vectors_are_filled_up_where_whole_ones_are_as_fast(
    filters: int, is_filled_up: bool
) -> None:
    y = grouped(tensor("x", (2, 2 * 6, 5, 20), FLOAT32), 2, filters, (3, 3), pads=[1] * 4)
    found = convolution(source(stored(y)))
    assert found is not None
    assert (with_whole_groups(found, 16, is_wide=True) is not None) == is_filled_up
    assert with_whole_groups(found, 16, is_wide=False) is None
    check(y, {"x": data(FLOAT32, (2, 2 * 6, 5, 20), {}, 2)})
