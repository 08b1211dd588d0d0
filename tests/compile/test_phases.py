from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.blocked import blocked_buffer
from fornix.compile.convolution import convolution
from fornix.compile.cost import outer_reductions
from fornix.compile.phases import phases
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Store, Tensor, apply, compute, const, constant, stored, tensor
from fornix.ops.conv import conv, conv_transpose, lower_conv, lower_conv_transpose
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, whole

H, W = (symbol(name, least=1) for name in "HW")
LANES = 16


def integers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def source(x: Tensor) -> Store:
    assert x.buffer is not None
    assert isinstance(x.buffer.source, Store)
    return x.buffer.source


@pytest.mark.parametrize(
    ("taps", "stride", "attributes", "left"),
    [
        ((2, 2), (2, 2), {}, [1, 1, 1, 1]),
        ((4, 4), (2, 2), {"pads": [1] * 4}, [4, 4, 4, 4]),
        ((3, 3), (2, 2), {"pads": [1, 1, 0, 0]}, [1, 2, 2, 4]),
        ((5, 2), (1, 2), {"pads": [2, 0, 2, 0]}, [5, 5]),
        ((3, 3), (3, 1), {}, [3, 3, 3]),
    ],
)
def test_each_phase_meets_taps_of_its_own(
    taps: tuple[int, int], stride: tuple[int, int], attributes: dict[str, Any], left: list[int]
) -> None:
    x, w = tensor("x", (2, 8, 5, 7), FLOAT32), tensor("w", (8, 32, *taps), FLOAT32)
    y = lower_conv_transpose(x, w, None, strides=list(stride), **attributes)
    parts = phases(source(stored(y)))
    sums = [outer_reductions(part.value) for part in parts]
    counts = [math.prod(whole(a.extent, {}) for a in e.axes) // 8 for (e,) in sums]
    assert sorted(counts) == left


@pytest.mark.parametrize(
    ("taps", "stride", "dilation", "left"),
    [
        (1, 2, 1, [1]),
        (1, 3, 2, [1]),
        (1, 8, 1, [1]),
        (3, 2, 2, [9]),
        (3, 2, 4, [9]),
        (3, 4, 2, [1, 2, 2, 4]),
        (4, 4, 2, [4, 4, 4, 4]),
    ],
)
def test_places_that_no_tap_reaches_are_left_out(
    taps: int, stride: int, dilation: int, left: list[int]
) -> None:
    x, w = tensor("x", (1, 8, 5, 7), FLOAT32), tensor("w", (8, 32, taps, taps), FLOAT32)
    window: dict[str, Any] = {"strides": [stride] * 2, "dilations": [dilation] * 2}
    y = lower_conv_transpose(x, w, None, pads=[1, 0, 0, 0], **window)
    sums = [outer_reductions(part.value) for part in phases(source(stored(y)))]
    counts = [math.prod(whole(a.extent, {}) for a in e.axes) // 8 for (e,) in filter(None, sums)]
    assert sorted(counts) == left


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("filters", "group", "taps", "window"),
    [
        (32, 1, (1, 1), {"strides": [2, 2]}),
        (8, 1, (1, 1), {"strides": [2, 3], "output_padding": [1, 2]}),
        (8, 1, (1, 1), {"strides": [5, 7], "output_padding": [4, 0]}),
        (5, 1, (1, 3), {"strides": [1, 2], "dilations": [1, 2], "pads": [0, 1, 0, 2]}),
        (1, 8, (3, 3), {"strides": [2, 2], "dilations": [2, 2], "pads": [1, 2, 1, 2]}),
        (16, 2, (2, 3), {"strides": [4, 2], "dilations": [2, 4], "pads": [1, 0, 0, 1]}),
        (40, 1, (3, 3), {"strides": [4, 4], "dilations": [2, 2], "pads": [2] * 4}),
    ],
)
@pytest.mark.parametrize("extents", [(5, 7), (1, 2), (H, W)])
def test_steps_with_a_divisor_in_common_are_as_transposed_convolutions_say(
    filters: int, group: int, taps: tuple[int, int], window: Any, extents: Any, level: str
) -> None:
    shape = (2, 8, *(5 if e is H else 7 if e is W else e for e in extents))
    weights, bias = integers(8, filters, *taps), integers(filters * group, seed=2)
    x = tensor("x", (2, 8, *extents), FLOAT32)
    y = lower_conv_transpose(x, constant(weights), constant(bias, "b"), group=group, **window)
    feed = integers(*shape, seed=1)
    wanted = conv_transpose(feed, weights, bias, group=group, **window)
    runner = Runner([y], target(level), chunks=3)
    np.testing.assert_array_equal(runner.run({"x": feed}, {"H": 5, "W": 7})[0], wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_phases_that_are_too_many_are_summed_where_guards_of_quotients_hold(level: str) -> None:
    weights, feed = integers(4, 32, 5, 3), integers(2, 4, 5, 7, seed=1)
    window: dict[str, Any] = {"strides": [8, 8], "dilations": [3, 3], "pads": [4] * 4}
    x = tensor("x", (2, 4, H, W), FLOAT32)
    y = lower_conv_transpose(x, constant(weights), None, group=4, **window)
    found = Runner([y], target(level), chunks=3).run({"x": feed}, {"H": 5, "W": 7})[0]
    np.testing.assert_array_equal(found, conv_transpose(feed, weights, None, group=4, **window))


def test_far_places_that_no_tap_reaches_do_not_hide_phases() -> None:
    x, w = tensor("x", (1, 8, 5, 7), FLOAT32), tensor("w", (8, 32, 3, 8), FLOAT32)
    y = lower_conv_transpose(x, w, None, strides=[16, 8], dilations=[16, 1])
    assert len(phases(source(stored(y)))) == 8


@pytest.mark.parametrize("block", [1, LANES])
@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("symbols", [{}, {"H": 5, "W": 7}])
def test_phases_together_are_the_whole(taps: int, block: int, symbols: dict[str, int]) -> None:
    extents = (H, W) if symbols else (5, 7)
    x = tensor("x", (2, 8, *extents), FLOAT32)
    attributes: dict[str, Any] = {"pads": [1] * 4, "output_padding": [1, 1]} if taps == 3 else {}
    y = lower_conv_transpose(
        x, constant(integers(8, 32, taps, taps)), None, strides=[2, 2], **attributes
    )
    buffer = None if block == 1 else blocked_buffer("y", y.shape, FLOAT32, block)
    y = stored(y, "y", buffer)
    check(y, {"x": integers(2, 8, 5, 7, seed=1)}, symbols)


def test_what_has_one_phase_stays_whole() -> None:
    x, w = tensor("x", (1, 8, 9, 9), FLOAT32), tensor("w", (8, 8, 3, 3), FLOAT32)
    for y in (lower_conv(x, w, None, strides=[2, 2]), lower_conv_transpose(x, w, None)):
        store = source(stored(y))
        assert phases(store) == [store]


def test_phases_of_an_extent_that_the_stride_does_not_divide_are_not_of_one_length() -> None:
    x, w = tensor("x", (1, 8, 4, 4), FLOAT32), constant(integers(8, 32, 3, 3))
    y = stored(lower_conv_transpose(x, w, None, strides=[2, 2]))
    parts = phases(source(y))
    assert [[a.extent for a in part.axes[2:]] for part in parts] == [[5, 5], [5, 4], [4, 5], [4, 4]]
    check(y, {"x": integers(1, 8, 4, 4)})


@pytest.mark.parametrize("h", [1, 2, 4, 9])
@pytest.mark.parametrize("stride", [2, 3])
def test_so_are_those_of_an_open_extent(stride: int, h: int) -> None:
    x, w = tensor("x", (1, 8, H, W), FLOAT32), constant(integers(8, 32, 4, 4))
    y = stored(lower_conv_transpose(x, w, None, strides=[stride] * 2, pads=[1, 0, 0, 0]))
    assert len(phases(source(y))) == stride**2
    check(y, {"x": integers(1, 8, h, 5)}, {"H": h, "W": 5})


@pytest.mark.parametrize("filters", [2, 3, 20])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_of_transposed_convolutions_are_those_of_others(filters: int, stride: int) -> None:
    x, w = tensor("x", (1, 8, 5, 7), FLOAT32), constant(integers(8, filters, 4, 4))
    y = stored(lower_conv_transpose(x, w, None, strides=[stride] * 2, pads=[1] * 4))
    for part in phases(source(y)):
        conv = convolution(part)
        assert conv is not None
        assert [s.taps for s in conv.spatial] == [4 // stride] * 2
    check(y, {"x": integers(1, 8, 5, 7)})


def test_transposed_convolutions_run_as_convolutions() -> None:
    x, w = tensor("x", (1, 8, 4, 4), FLOAT32), constant(integers(8, 32, 2, 2))
    y = stored(lower_conv_transpose(x, w, None, strides=[2, 2]))
    assert [k.schedule for k in Runner([y]).kernels].count("convolution") == 4


@pytest.mark.parametrize("group", [1, 8])
def test_phases_that_meet_no_taps_sum_nothing(group: int) -> None:
    x, w = tensor("x", (2, 8, 5, 4), FLOAT32), constant(integers(8, 16 // group, 2, 2))
    b = constant(integers(16, seed=2), "b")
    y = stored(lower_conv_transpose(x, w, b, strides=[3, 3], group=group))
    parts = [outer_reductions(part.value) for part in phases(source(y))]
    assert len(parts) == 2 * 2 + 3  # rows without taps are one phase
    check(y, {"x": integers(2, 8, 5, 4, seed=1)})


@pytest.mark.parametrize("extents", [(5, 4), (3, 4, 5)])
def test_transposed_convolutions_channel_by_channel_are_taken_apart(
    extents: tuple[int, ...],
) -> None:
    axes = len(extents)
    x = tensor("x", (1, 8, *extents), FLOAT32)
    w = constant(integers(8, 1, *[3] * axes))
    y = stored(lower_conv_transpose(x, w, None, strides=[2] * axes, group=8))
    assert len(Runner([y]).kernels) >= 2**axes
    check(y, {"x": integers(1, 8, *extents, seed=1)})


@pytest.mark.parametrize("filters", [3, 20])
def test_odd_extents_are_compiled_too(filters: int) -> None:
    x, w = tensor("x", (1, 8, 8, 8), FLOAT32), constant(integers(8, filters, 3, 3))
    y = stored(lower_conv_transpose(x, w, None, strides=[2, 2]))
    assert len(Runner([y]).kernels) > 1
    check(y, {"x": integers(1, 8, 8, 8)})


def convolutions(y: Tensor, target: Target | None = None) -> int:
    kinds = [k.schedule for k in Runner([y], target).kernels]
    return kinds.count("convolution") + kinds.count("contraction")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("shape", "filters", "taps", "attributes"),
    [
        ((1, 8, 5, 37), 1, (2, 2), {"strides": [2, 2]}),
        ((2, 6, 4, 5), 3, (4, 3), {"strides": [2, 2], "pads": [1, 0, 1, 2]}),
        ((1, 6, 4, 5), 5, (4, 4), {"strides": [4, 4], "group": 2}),
        ((1, 4, 9), 20, (20,), {"strides": [10], "output_padding": [7]}),
        ((1, 3, 2, 3, 5), 2, (2, 3, 2), {"strides": [2, 1, 3], "dilations": [1, 2, 1]}),
        ((1, 2, 3, 2, 3), 4, (2, 3, 7), {"strides": [4, 4, 2], "dilations": [1, 1, 3]}),
        ((1, 32, 3, 3), 32, (9, 9), {"strides": [5, 5], "pads": [2] * 4}),
        ((2, 3, 4, 5), 1, (10, 9), {"strides": [5, 4], "pads": [3, 2, 3, 2], "group": 3}),
        ((1, 3, 6), 2, (40,), {"strides": [20], "pads": [10, 9], "group": 3}),
    ],
)
def test_few_filters_or_many_phases_are_one_convolution(
    shape: tuple[int, ...], filters: int, taps: tuple[int, ...], attributes: Any, level: str
) -> None:
    x, weights = tensor("x", shape, FLOAT32), integers(shape[1], filters, *taps)
    y = lower_conv_transpose(x, constant(weights), None, **attributes)
    feed = integers(*shape, seed=1)
    wanted = conv_transpose(feed, weights, None, **attributes)
    for at_end in (True, False):
        runner = Runner([y], target(level), chunks=3, at_end=at_end)
        np.testing.assert_array_equal(runner.run({"x": feed})[0], wanted)
    assert convolutions(y, target(level)) <= 1


@pytest.mark.parametrize(("stride", "group"), [(2, 1), (3, 1), (4, 1), (5, 8)])
def test_joined_phases_take_any_extents(stride: int, group: int) -> None:
    x, w = tensor("x", (2, 8, H, W), FLOAT32), constant(integers(8, 3, stride + 2, 4))
    y = lower_conv_transpose(x, w, None, strides=[stride] * 2, pads=[1] * 4, group=group)
    assert convolutions(y) <= 1
    for h, w_ in ((1, 1), (3, 40)):
        check(y, {"x": integers(2, 8, h, w_)}, {"H": h, "W": w_})


@pytest.mark.parametrize("taps", [2, 4, 9])
def test_one_filter_over_one_image_is_a_convolution_too(taps: int) -> None:
    x, w = tensor("x", (1, 16, 5, 17), FLOAT32), constant(integers(16, 1, taps, taps))
    z = lower_conv_transpose(x, w, None, strides=[2, 2])
    y = compute(z.shape, lambda n, c, i, j: apply("max", z[0, 0, i, j], const(0, FLOAT32)))
    conv = convolution(source(stored(y)))
    assert conv is not None
    assert len(conv.spatial) == 2
    assert "contraction" in [k.schedule for k in Runner([y]).kernels]
    check(y, {"x": integers(1, 16, 5, 17)})


def test_filters_in_blocks_keep_their_phases_apart() -> None:
    x, w = tensor("x", (1, 8, 6, 6), FLOAT32), constant(integers(8, 32, 4, 4))
    assert convolutions(lower_conv_transpose(x, w, None, strides=[2, 2])) == 4


@pytest.mark.parametrize(("taps", "share"), [(3, 0.9), (4, 0.6)])
def test_phases_are_transformed_but_not_the_zeros_between_places(taps: int, share: float) -> None:
    """Winograd's algorithm takes fewer operations than the taps that meet data."""
    rng = np.random.default_rng(0)
    feed, weights = (
        rng.standard_normal(shape, np.float32) for shape in ((2, 64, 19, 28), (64, 32, taps, taps))
    )
    x, w = tensor("x", feed.shape, FLOAT32), constant(weights)
    window: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4}
    runner = Runner([stored(lower_conv_transpose(x, w, None, **window))])
    kernels = [k for k in runner.kernels if not k.is_constant]
    assert "winograd" in [k.schedule for k in kernels]
    counts = [int(str(k.work.operations)) for k in kernels]
    assert sum(counts) < share * 2 * feed.size * weights[0].size
    (found,) = runner.run({"x": feed})
    wanted = conv_transpose(feed.astype(np.float64), weights.astype(np.float64), None, **window)
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


def test_a_sum_over_padding_leaves_no_place_to_the_sum_that_follows() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 80, 21), np.float32)
    more = rng.standard_normal((2, 4, 8), np.float32)
    w, v = (rng.standard_normal((17, n, 1), np.float32) for n in (80, 4))
    shape = (symbol("N"), 80, 21)
    image = Tensor(shape, FLOAT32, buffer=blocked_buffer("x", shape, FLOAT32, 16))
    a = lower_conv(image, constant(w), strides=[3], pads=[1, 2])
    b = lower_conv(tensor("more", (symbol("N"), 4, 8), FLOAT32), constant(v))
    y = compute(a.shape, lambda *i: a[i] + b[i])
    found = Runner([y]).run({"x": x, "more": more}, {"N": 2})[0].reshape(2, 17, 8)
    wanted = conv(x, w, strides=[3], pads=[1, 2]) + conv(more, v)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
