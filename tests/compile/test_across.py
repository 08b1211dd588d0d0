"""Depthwise convolutions of images in rows that are computed in blocks of channels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fornix.compile.blocked import LEAST_LANES
from fornix.compile.convolution import convolution
from fornix.compile.schedule.across import across_by_size, across_stages
from fornix.compile.target import Target
from fornix.dtype import FLOAT16, FLOAT32, FLOAT64, INT8, INT32, UINT8, DType
from fornix.ir.dim import Dim, symbol
from fornix.ir.loops import Scalar, Tensor, cast, compute, const, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import conv, lower_conv, lower_convolve
from fornix.ops.quantize_loops import lower_quantized
from fornix.ops.window import Window
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, assert_close, check
from tests.compile.test_direct import blocked, data, image, lanes
from tests.compile.test_phases import source
from tests.ir.interpreter import interpret

N, H, W = (symbol(name, least=1) for name in "NHW")


def depthwise(x: Tensor, taps: int, dtype: DType = FLOAT32, **more: Any) -> Tensor:
    """A convolution of each channel by a filter of its own, of whole numbers."""
    (channels, axes) = int(x.shape[1]), len(x.shape) - 2  # type: ignore[arg-type]
    w = constant(data(dtype, (channels, 1, *[taps] * axes), {}, 1))
    return lower_conv(x, w, constant(data(dtype, (channels,), {}, 3)), group=channels, **more)


def is_across(y: Tensor, lanes: int = 16, **options: Any) -> bool:
    found = convolution(source(stored(y)))
    assert found is not None
    return across_stages(found, lanes, **{"is_wide": False, **options}) is not None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("shape", "taps", "more"),
    [
        ((2, 32, 7, 9), 7, {"strides": [2, 2], "pads": [3] * 4}),
        ((1, 24, 14, 11), 5, {"strides": [3, 3], "pads": [2, 1, 0, 2]}),
        ((1, 16, 7, 7), 9, {"pads": [4] * 4}),
        ((1, 16, 12, 15), 5, {"strides": [1, 2], "dilations": [2, 2]}),
        ((2, 8, 3, 5, 7), 3, {"strides": [2] * 3, "pads": [1] * 6}),
    ],
)
def test_short_or_strided_rows_are_summed_in_blocks(
    shape: tuple[int, ...], taps: int, more: dict[str, Any], level: str
) -> None:
    y = depthwise(tensor("x", shape, FLOAT32), taps, **more)
    assert is_across(y)
    x = data(FLOAT32, shape, {}, 2)
    x[0, 1].flat[3] = np.nan  # reaches its own windows only
    check(compute(y.shape, lambda *i: s.maximum(y[i], 0.0)), {"x": x}, target=target(level))
    (found,) = Runner([y], target(level), chunks=3).run({"x": x})
    w, bias = (
        data(FLOAT32, d, {}, k)
        for d, k in (((shape[1], 1, *[taps] * (len(shape) - 2)), 1), (shape[1:2], 3))
    )
    np.testing.assert_array_equal(found, conv(x, w, bias, group=shape[1], **more))


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT64, DType.of("bfloat16")])
def test_every_float_is_summed(dtype: DType) -> None:
    y = depthwise(tensor("x", (1, 16, 9, 9), dtype), 5, dtype, strides=[2, 2])
    check(y, {"x": data(dtype, (1, 16, 9, 9), {}, 2)})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    ("size", "taps", "strides", "dtype"),
    [((9, 20), 7, 1, UINT8), ((12, 7), 5, 2, UINT8), ((3, 50), 11, 1, INT8)],
)
def test_bytes_are_summed_so_too(
    size: tuple[int, int], taps: int, strides: int, dtype: DType, is_open: bool, level: str
) -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (2, 24, *size)).astype(np.uint8).view(dtype.numpy)
    w = rng.integers(-128, 128, (24, 1, taps, taps)).astype(np.int8)
    dims = (H, W) if is_open else size
    more: dict[str, Any] = {"strides": [strides] * 2, "pads": [taps // 2] * 4}
    x, win = tensor("x", (2, 24, *dims), dtype), Window.of(dims, (taps, taps), **more)
    moved = compute(x.shape, lambda *i: cast(x[i], INT32) - 7)
    y = lower_convolve(moved, constant(w.astype(np.int32)), win, 24)
    assert is_across(y)
    runner = Runner([y], target(level), chunks=3)
    (found,) = runner.run({"x": given}, dict(zip("HW", size, strict=True)) if is_open else {})
    wanted = conv(given.astype(np.float64) - 7, w.astype(np.float64), group=24, **more)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("size", "taps", "strides", "is_turned"),
    [(28, 3, 1, False), (28, 5, 2, False), (33, 5, 2, True), (28, 9, 2, True)],
)
def test_rows_of_bytes_that_fill_vectors_are_kept_where_they_can_be_masked(
    size: int, taps: int, strides: int, is_turned: bool
) -> None:
    more: dict[str, Any] = {"strides": [strides] * 2, "pads": [taps // 2] * 4}
    x, win = tensor("x", (1, 32, size, size), UINT8), Window.of((size, size), (taps, taps), **more)
    moved = compute(x.shape, lambda *i: cast(x[i], INT32) - 7)
    y = lower_convolve(moved, constant(np.ones((32, 1, taps, taps), np.int32)), win, 32)
    assert is_across(y) == is_turned
    assert is_across(y, lanes=8, least_masked=4)
    if taps == 3:  # narrower elements alone need no masks
        assert not is_across(depthwise(tensor("x", x.shape, FLOAT32), 3, **more), least_masked=4)


def test_every_second_float_of_a_row_is_read_where_lanes_of_two_vectors_are_picked() -> None:
    more: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4}
    y = depthwise(tensor("x", (1, 32, 56, 56), FLOAT32), 3, **more)
    assert is_across(y, lanes=8, least_masked=4)
    assert not is_across(y, lanes=8)
    check(y, {"x": data(FLOAT32, (1, 32, 56, 56), {}, 2)}, target=target("x86-64-v3"), chunks=3)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    ("size", "taps", "strides"), [((9, 20), 5, 1), ((12, 7), 3, 2), ((3, 50), 7, 2), ((1, 2), 3, 2)]
)
def test_results_that_are_narrower_are_finished_in_blocks(
    size: tuple[int, int], taps: int, strides: int, is_open: bool, level: str
) -> None:
    dims = (H, W) if is_open else size
    more: dict[str, Any] = {"strides": [strides] * 2, "pads": [taps // 2] * 4}
    sums = depthwise(tensor("x", (2, 48, *dims), FLOAT32), taps, **more)
    y = compute(sums.shape, lambda *i: quantized(sums[i]))
    found = convolution(source(stored(y)))
    assert found is not None
    stages = across_stages(found, 16, is_wide=False)
    assert stages is not None
    assert [stage.buffer.dtype for stage in stages] == [FLOAT32, UINT8, UINT8]
    x = data(FLOAT32, (2, 48, *size), {}, 2)
    symbols = dict(zip("HW", size, strict=True)) if is_open else {}
    (made,) = Runner([y], target(level), chunks=3).run({"x": x}, symbols)
    w, bias = data(FLOAT32, (48, 1, taps, taps), {}, 1), data(FLOAT32, (48,), {}, 3)
    wanted = conv(x, w, bias, group=48, **more)
    np.testing.assert_array_equal(made, np.clip(np.rint(wanted / 4) + 7, 0, 255))


def quantized(value: Scalar) -> Scalar:
    """A quarter of ``value`` as a byte whose zero is 7."""
    return lower_quantized(value * 0.25, const(7, UINT8), UINT8)


def test_what_a_sum_meets_at_its_place_waits_for_rows() -> None:
    x, r = (tensor(name, (1, 16, 9, 9), FLOAT32) for name in "xr")
    sums = depthwise(x, 5, strides=[1, 1], pads=[2] * 4)
    y = compute(sums.shape, lambda *i: quantized(sums[i] + r[i]))
    found = convolution(source(stored(y)))
    assert found is not None
    stages = across_stages(found, 16, is_wide=False)
    assert stages is not None
    assert [stage.buffer.dtype for stage in stages] == [FLOAT32, FLOAT32, UINT8]


def test_bytes_in_steps_along_rows_of_open_length_are_summed_in_blocks_from_few_taps_on() -> None:
    for strides, pays in (([1, 1], False), ([2, 2], True)):
        sums = depthwise(tensor("x", (1, 32, H, W), FLOAT32), 3, strides=strides, pads=[1] * 4)
        assert not is_across(sums)
        y = compute(sums.shape, lambda *i, of=sums: quantized(of[i]))
        assert is_across(y) is pays
        assert not is_across(y, is_near=False)
    many = depthwise(tensor("x", (1, 32, H, W), FLOAT32), 5, pads=[2] * 4)
    y = compute(many.shape, lambda *i: quantized(many[i]))
    assert is_across(y, is_near=False)


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_tells_whether_the_second_cache_is_near_enough_for_blocks(level: str) -> None:
    more: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4}
    sums = depthwise(tensor("x", (N, 16, H, W), FLOAT32), 3, **more)
    y = compute(sums.shape, lambda *i: quantized(sums[i]))
    found = convolution(source(stored(y)))
    assert found is not None
    room = 16 * FLOAT32.bits // 8 * 20
    masked = dataclasses.replace(Target.masked("x86-64-v4"), l2_bytes=room)
    chosen = across_by_size(found, masked, 16)
    assert chosen is not None
    is_chosen = chosen[1]
    assert isinstance(is_chosen, Dim)
    runner = Runner([y], dataclasses.replace(target(level), l2_bytes=room), chunks=3)
    w, bias = data(FLOAT32, (16, 1, 3, 3), {}, 1), data(FLOAT32, (16,), {}, 3)
    for n, height, width, is_it in ((1, 7, 11, 1), (1, 8, 10, 0), (2, 19, 33, 0), (1, 3, 5, 1)):
        extents = {"N": n, "H": height, "W": width}
        assert is_chosen.bind(extents) == is_it
        x = data(FLOAT32, (n, 16, height, width), {}, 2)
        (made,) = runner.run({"x": x}, extents)
        wanted = conv(x, w, bias, group=16, **more)
        np.testing.assert_array_equal(made, np.clip(np.rint(wanted / 4) + 7, 0, 255))


def test_extents_may_be_open() -> None:
    x = tensor("x", (N, 16, H, W), FLOAT32)
    more: dict[str, Any] = {"strides": [2, 2], "pads": [2] * 4}
    y = depthwise(x, 5, **more)
    assert is_across(y)
    runner = Runner([y], chunks=2)
    w, bias = data(FLOAT32, (16, 1, 5, 5), {}, 1), data(FLOAT32, (16,), {}, 3)
    for n, h, width in ((1, 1, 1), (2, 3, 5), (1, 8, 40), (3, 20, 7)):
        symbols = {"N": n, "H": h, "W": width}
        feeds = {"x": data(FLOAT32, x.shape, symbols, 2)}
        expected = conv(feeds["x"], w, bias, group=16, **more)
        np.testing.assert_array_equal(runner.run(feeds, symbols)[0], expected)


def test_long_rows_and_few_taps_stay_as_they_are() -> None:
    near: dict[str, Any] = {"pads": [1] * 4}
    far: dict[str, Any] = {"strides": [2, 2]}
    assert not is_across(depthwise(tensor("x", (1, 32, 56, 56), FLOAT32), 3, **near))
    assert not is_across(depthwise(tensor("x", (1, 32, 7, 7), FLOAT32), 3, **near))
    assert not is_across(depthwise(tensor("x", (1, 32, H, W), FLOAT32), 3, **far))
    assert not is_across(depthwise(tensor("x", (1, 17, 7, 7), FLOAT32), 7, **far))


@pytest.mark.parametrize(("filters", "wanted"), [(1, True), (2, False)])
def test_channels_that_several_filters_read_are_not_repeated(filters: int, wanted: bool) -> None:
    w = constant(data(FLOAT32, (16 * filters, 1, 4, 4), {}, 1))
    x = tensor("x", (N, 16, H, W), FLOAT32)
    assert is_across(lower_conv(x, w, None, group=16, strides=[2, 2])) is wanted


def test_what_lies_in_blocks_already_is_left_to_windows() -> None:
    y = depthwise(image("x", (1, 16, 9, 9), FLOAT32, 16), 7, strides=[2, 2])
    assert not is_across(blocked(y, 16))
    assert not is_across(blocked(depthwise(image("x", (1, 72, 9, 9), FLOAT32, 72), 3), 72))


def test_few_taps_at_far_steps_stay_between_two_layouts() -> None:
    y = depthwise(image("x", (1, 16, 40), FLOAT32, 16), 2, strides=[4])
    assert not is_across(y)
    assert not is_across(blocked(depthwise(tensor("x", (1, 17, 9, 9), FLOAT32), 3), 16))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("layouts", ["rows to blocks", "blocks to rows"])
@pytest.mark.parametrize(
    ("shape", "taps", "more"),
    [
        ((2, 32, 7, 9), 3, {"pads": [1] * 4}),
        ((1, 48, 11, 40), 3, {"strides": [2, 2], "pads": [0, 1, 2, 1]}),
        ((1, 16, 12, 15), 5, {"strides": [1, 2], "dilations": [2, 2]}),
        ((1, 32, 1, 2), 3, {"pads": [1] * 4}),
        ((2, 16, 3, 5, 7), 3, {"strides": [2, 1, 1], "pads": [1] * 6}),
        ((1, 32, 50), 4, {"dilations": [3]}),
    ],
)
def test_what_lies_in_rows_on_one_side_is_turned(
    shape: tuple[int, ...], taps: int, more: dict[str, Any], layouts: str, level: str
) -> None:
    width = lanes(FLOAT32, level)
    before, behind = (1, width) if layouts == "rows to blocks" else (width, 1)
    plain = depthwise(image("x", shape, FLOAT32, before), taps, **more)
    y = blocked(compute(plain.shape, lambda *i: s.maximum(plain[i], 0.0)), behind)
    if width >= LEAST_LANES:
        assert is_across(y, width)
    x = data(FLOAT32, shape, {}, 2)
    x[0, 1].flat[-1] = np.nan  # reaches its own windows only
    check(y, {"x": x}, target=target(level), chunks=3)


@pytest.mark.parametrize("channels", [24, 72, 200])
@pytest.mark.parametrize("is_read", [True, False])
def test_one_block_may_hold_all_channels_of_one_side(channels: int, is_read: bool) -> None:
    shape = (1, channels, 6, 5)
    plain = depthwise(image("x", shape, FLOAT32, channels if is_read else 1), 3, pads=[1] * 4)
    y = blocked(plain, 1 if is_read else channels)
    assert is_across(y)
    check(y, {"x": data(FLOAT32, shape, {}, 2)}, chunks=2)


@pytest.mark.parametrize("is_read", [True, False])
def test_extents_may_be_open_where_one_side_is_turned(is_read: bool) -> None:
    x = image("x", (N, 16, H, W), FLOAT32, 16 if is_read else 1)
    y = blocked(depthwise(x, 3, strides=[2, 2], pads=[1] * 4), 1 if is_read else 16)
    assert is_across(y)
    runner = Runner([y], chunks=2)
    for n, h, width in ((1, 1, 1), (2, 3, 5), (1, 8, 17)):
        symbols = {"N": n, "H": h, "W": width}
        feeds = {"x": data(FLOAT32, x.shape, symbols, 2)}
        assert_close(runner.run(feeds, symbols)[0], interpret(y, feeds, symbols))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("channels", [32, 24])
def test_channels_may_be_the_last_axis_of_one_side(
    channels: int, is_read: bool, level: str
) -> None:
    shape = (2, channels, 6, 5)
    if is_read:
        x = tensor("x", (2, 6, 5, channels), FLOAT32)
        seen = compute(shape, lambda n, c, i, j: x[n, i, j, c])
        y = depthwise(seen, 3, pads=[1] * 4)
    else:
        x = tensor("x", shape, FLOAT32)
        plain = depthwise(x, 3, pads=[1] * 4)
        y = compute((2, 6, 5, channels), lambda n, i, j, c: plain[n, c, i, j])
    assert is_across(y)
    given = data(FLOAT32, x.shape, {}, 2)
    given.flat[-1] = np.nan  # reaches its own windows only
    check(y, {"x": given}, target=target(level), chunks=3)


def test_the_last_axis_holds_channels_that_fill_blocks() -> None:
    x = tensor("x", (1, 9, 9, 17), FLOAT32)
    assert not is_across(depthwise(compute((1, 17, 9, 9), lambda n, c, i, j: x[n, i, j, c]), 3))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("taps", "more"),
    [
        (4, {"pads": [0, 1, 2, 1]}),
        (7, {"pads": [3] * 4}),
        (9, {"pads": [4, 3, 4, 5]}),
        (19, {"pads": [9] * 4}),
        (5, {"dilations": [2, 3], "pads": [4, 6] * 2}),
    ],
)
def test_rows_of_open_length_are_summed_in_blocks(
    taps: int, more: dict[str, Any], level: str
) -> None:
    y = depthwise(tensor("x", (N, 24, H, W), FLOAT32), taps, **more)
    assert is_across(y)
    runner = Runner([y], target(level), chunks=2)
    w, bias = data(FLOAT32, (24, 1, taps, taps), {}, 1), data(FLOAT32, (24,), {}, 3)
    for n, h, width in ((1, 2, 2), (2, 3, 6), (1, 9, 10), (1, 11, 19), (1, 30, 4), (1, 5, 61)):
        x = data(FLOAT32, (n, 24, h, width), {}, 2)
        x[0, 1].flat[1] = np.nan
        (found,) = runner.run({"x": x}, {"N": n, "H": h, "W": width})
        wanted = conv(x, w, bias, group=24, **more)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_a_processor_that_is_wide_sums_many_taps_in_blocks() -> None:
    y = depthwise(tensor("x", (1, 32, 32, 32), FLOAT32), 6, pads=[2, 2, 3, 3])
    assert is_across(y, is_wide=True)
    assert not is_across(y)
    near: dict[str, Any] = {"pads": [3] * 4}
    assert is_across(depthwise(tensor("x", (1, 32, 28, 28), FLOAT32), 7, **near))
    few = depthwise(tensor("x", (1, 32, 28, 28), FLOAT32), 3, pads=[1] * 4)
    assert not is_across(few, is_wide=True)
    halves = depthwise(tensor("x", (1, 24, 28, 28), FLOAT32), 7, **near)
    assert not is_across(halves, is_wide=True)
