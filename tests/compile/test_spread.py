"""Convolutions to few filters as products of places by taps, spread over the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.convolution import convolution
from fornix.compile.schedule.spread import spread
from fornix.dtype import FLOAT32
from fornix.ir.dim import known, symbol
from fornix.ir.loops import Tensor, compute, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import conv, conv_transpose, lower_conv, lower_conv_transpose
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check
from tests.compile.test_direct import lanes
from tests.compile.test_phases import integers, source

N, H, W = (symbol(name, least=1) for name in "NHW")


def is_spread(y: Tensor) -> bool:
    found = convolution(source(stored(y)))
    assert found is not None
    return spread(found, lanes(FLOAT32)) is not None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("shape", "filters", "taps", "pads"),
    [
        ((1, 70, 6, 7), 2, (9, 9), [4, 4, 4, 4]),
        ((2, 64, 3, 5, 4), 3, (5, 3, 5), [2, 1, 0, 2, 1, 3]),
        ((1, 64, 11), 1, (80,), [40, 39]),
    ],
)
def test_short_rows_of_few_filters_with_many_taps(
    shape: tuple[int, ...], filters: int, taps: tuple[int, ...], pads: list[int], level: str
) -> None:
    """Vectors along them would be few, and each of their sums wait for the one before."""
    x = integers(*shape, seed=1)
    fed = tensor("x", shape, FLOAT32)
    w, back = integers(filters, shape[1], *taps), integers(shape[1], filters, *taps)
    plain = lower_conv(fed, constant(w), None, pads=pads)
    transposed = lower_conv_transpose(fed, constant(back), None, pads=pads)
    wanted = [conv(x, w, pads=pads), conv_transpose(x, back, pads=pads)]
    for y, expected in zip((plain, transposed), wanted, strict=True):
        assert is_spread(y)
        (found,) = Runner([y], target(level), chunks=3).run({"x": x})
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("level", LEVELS)
def test_results_that_are_larger_than_their_image_meet_nothing_beside_it(level: str) -> None:
    x, w = integers(1, 64, 4, 3, seed=1), integers(64, 5, 11, 11)
    y = lower_conv_transpose(tensor("x", x.shape, FLOAT32), constant(w), None)
    assert is_spread(y)
    (found,) = Runner([y], target(level), chunks=3).run({"x": x})
    np.testing.assert_array_equal(found, conv_transpose(x, w))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("filters", "taps", "pads", "sizes"),
    [
        (3, (5, 5), [2] * 4, [(4, 3), (9, 40), (1, 21), (1, 22)]),
        (3, (25,), [12, 12], [(7,), (21,), (22,)]),
        (5, (11, 11), [0] * 4, [(4, 3), (1, 1), (25, 30)]),
    ],
)
def test_open_images_are_spread_where_a_run_tells_that_it_pays(
    filters: int, taps: tuple[int, ...], pads: list[int], sizes: list[tuple[int, ...]], level: str
) -> None:
    """Rows are short, or many results meet nothing beside the image."""
    axes = [symbol(name, least=1) for name in "DHW"[-len(taps) :]]
    fed, back = tensor("x", (N, 64, *axes), FLOAT32), integers(64, filters, *taps)
    y = lower_conv_transpose(fed, constant(back), None, pads=pads)
    found = convolution(source(stored(y)))
    assert found is not None
    made = spread(found, lanes(FLOAT32))
    assert made is not None
    assert known(made[1]) is None
    runner = Runner([y], target(level), chunks=3)
    for n, size in enumerate(sizes, 1):
        x = integers(n, 64, *size, seed=n)
        told = {str(axis): extent for axis, extent in zip(axes, size, strict=True)}
        (found_y,) = runner.run({"x": x}, {"N": n, **told})
        wanted = conv_transpose(x, back, pads=pads)
        np.testing.assert_array_equal(found_y.reshape(wanted.shape), wanted)


def test_rows_that_fill_vectors_are_summed_at_once() -> None:
    w = constant(integers(3, 64, 5, 5))
    for width, is_it in ((8, True), (200, False)):
        x = tensor("x", (1, 64, 8, width), FLOAT32)
        assert is_spread(lower_conv(x, w, pads=[2] * 4)) == is_it


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("shape", "filters", "taps", "attributes"),
    [
        ((2, 16, 5, 17), 1, (4, 4), {"strides": [2, 2], "pads": [1] * 4}),
        ((1, 20, 5, 7), 3, (3, 3), {"strides": [2, 2], "output_padding": [1, 1]}),
        ((1, 32, 4, 5), 2, (5, 4), {"strides": [3, 4], "group": 2, "pads": [1, 0, 2, 3]}),
        ((2, 17, 9), 4, (16,), {"strides": [8], "pads": [4, 4]}),
        ((1, 64, 6, 7), 2, (3, 5), {"strides": [1, 2], "pads": [1, 2, 1, 1]}),
        ((1, 16, 2, 3, 5), 1, (2, 3, 4), {"strides": [2, 1, 2]}),
        ((1, 6, 4, 5), 3, (7, 5), {"strides": [5, 4], "group": 6}),
        ((1, 3, 4, 5), 2, (3, 3), {"strides": [2, 2], "pads": [1] * 4}),
        ((1, 5, 3, 4), 20, (7, 6), {"strides": [5, 5]}),
    ],
)
def test_transposed_convolutions_to_few_filters(
    shape: tuple[int, ...],
    filters: int,
    taps: tuple[int, ...],
    attributes: dict[str, Any],
    level: str,
) -> None:
    w = integers(shape[1], filters, *taps)
    y = lower_conv_transpose(tensor("x", shape, FLOAT32), constant(w), None, **attributes)
    assert is_spread(y)
    x = integers(*shape, seed=1)
    (found,) = Runner([y], target(level), chunks=3).run({"x": x})
    np.testing.assert_array_equal(found, conv_transpose(x, w, **attributes))


def test_what_is_not_finite_reaches_only_what_it_is_part_of() -> None:
    w = integers(3, 2, 3, 3, seed=1) + 4
    y = lower_conv_transpose(
        tensor("x", (1, 3, H, W), FLOAT32), constant(w), None, strides=[2, 2], pads=[1] * 4
    )
    runner = Runner([y])
    for h, width, value in ((5, 7, np.inf), (3, 40, np.nan), (1, 1, -np.inf)):
        x = integers(1, 3, h, width)
        x[0, 0, h // 2, width // 2] = value
        (found,) = runner.run({"x": x}, {"H": h, "W": width})
        with np.errstate(invalid="ignore"):
            wanted = conv_transpose(x, w, strides=[2, 2], pads=[1] * 4)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("dilation", [1, 2])
def test_windows_of_many_channels(dilation: int) -> None:
    more: dict[str, Any] = {"pads": [dilation] * 4, "dilations": [dilation] * 2}
    w = integers(3, 64, 3, 3)
    z = lower_conv(tensor("x", (N, 64, H, W), FLOAT32), constant(w), **more)
    assert is_spread(z)
    y = compute(z.shape, lambda *i: s.maximum(z[i], 0.0))
    runner = Runner([y], chunks=2)
    for n, h, width in ((1, 1, 1), (2, 3, 5), (1, 8, 40)):
        x = integers(n, 64, h, width, seed=1)
        (found,) = runner.run({"x": x}, {"N": n, "H": h, "W": width})
        wanted = np.maximum(conv(x, w, **more), 0)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_other_sums_are_taken_at_once() -> None:
    x = tensor("x", (1, 64, 9, 9), FLOAT32)
    for filters, taps, strides in ((8, 9, 1), (3, 3, 2), (32, 3, 1)):
        w = constant(integers(filters, 64, taps, taps))
        assert not is_spread(lower_conv(x, w, strides=[strides] * 2))
    w = constant(integers(64, 32, 4, 4))
    assert not is_spread(lower_conv_transpose(x, w, None, strides=[2, 2]))


def test_the_last_place_of_the_image_is_the_last_that_is_read() -> None:
    w = integers(16, 2, 3, 3)
    y = lower_conv_transpose(
        tensor("x", (1, 16, 7, 9), FLOAT32), constant(w), None, strides=[2] * 2
    )
    check(stored(y, "y"), {"x": integers(1, 16, 7, 9)})


@pytest.mark.parametrize(("stride", "dilation"), [(2, 3), (3, 4), (2, 2)])
def test_taps_that_lie_apart_are_none_of_one_phase(stride: int, dilation: int) -> None:
    more: dict[str, Any] = {"strides": [stride], "dilations": [dilation]}
    w, x = integers(16, 2, 4), integers(1, 16, 7, seed=1)
    y = lower_conv_transpose(tensor("x", x.shape, FLOAT32), constant(w), None, **more)
    assert not is_spread(y)
    (found,) = Runner([y]).run({"x": x})
    np.testing.assert_array_equal(found, conv_transpose(x, w, **more))
