from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile import nest
from fornix.compile.blocked import blocked_buffer
from fornix.compile.compiler import write_all
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import (
    Scalar,
    Store,
    Tensor,
    Variable,
    apply,
    cast,
    compute,
    constant,
    reduce,
    tensor,
)
from fornix.ir.loops.tensor import stored
from fornix.ops import scalar
from fornix.ops.conv import conv, lower_conv, lower_convolve
from fornix.ops.window import Window
from tests.compile.levels import EMULATED, LEVELS, target
from tests.compile.native import Runner, check, compiled
from tests.compile.test_phases import integers

LANES = 16


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def blocked(x: Tensor, lanes: int = LANES) -> Tensor:
    """``x`` in memory, in blocks of channels."""
    buffer = blocked_buffer("y", x.shape, x.dtype, lanes)
    axes = tuple(Variable("i", n) for n in x.shape)
    place = tuple(a.dim for a in axes)
    buffer.source = Store(buffer, axes, buffer.address(place), x[place])
    return Tensor(x.shape, x.dtype, buffer=buffer)


def windows(x: Tensor, taps: int, stride: int = 1, dilation: int = 1) -> Window:
    """Square windows with as much padding as keeps the extent of the image, but for the stride."""
    pad, twice = dilation * (taps // 2), [stride] * 2
    return Window.of(
        x.shape[2:], (taps, taps), strides=twice, pads=[pad] * 4, dilations=[dilation] * 2
    )


def depthwise(x: Tensor, taps: int, stride: int = 1, dilation: int = 1) -> Tensor:
    channels = x.shape[1]
    assert isinstance(channels, int)
    w = constant(normal(channels, 1, taps, taps, seed=1), "w")
    return lower_convolve(x, w, windows(x, taps, stride, dilation), channels)


def pooled(op: str, x: Tensor, window: Window) -> Tensor:
    """The sum or maximum of each window, computed in float32."""
    wide = compute(x.shape, lambda *i: cast(x[i], FLOAT32))
    neutral = -np.inf if op == "max" else 0.0

    def at(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        taps = window.taps
        return reduce(op, taps, lambda *k: wide.get((n, c, *window.place(o, k)), neutral))

    return compute((*x.shape[:2], *window.out), at)


def mean(x: Tensor, window: Window) -> Tensor:
    """The mean of each window over what lies in the data."""
    ones = compute(x.shape, lambda *_: 1.0, FLOAT32)
    total, count = pooled("sum", x, window), pooled("sum", ones, window)
    return compute(total.shape, lambda *i: total[i] / apply("max", count[i], 1.0))


def schedule(x: Tensor) -> str:
    return Runner([x]).kernels[-1].schedule


CASES = [
    (3, 1, 1, 7), (3, 1, 1, 15), (3, 2, 1, 16), (5, 2, 1, 28), (7, 1, 1, 20), (2, 1, 1, 14),
    (3, 1, 2, 19), (3, 1, 1, 1), (5, 1, 1, 2),
]  # fmt: skip


@pytest.mark.parametrize("is_blocked", [False, True])
@pytest.mark.parametrize(("taps", "stride", "dilation", "extent"), CASES)
def test_depthwise_windows_equal_the_sum_over_their_taps(
    taps: int, stride: int, dilation: int, extent: int, is_blocked: bool
) -> None:
    shape = (1, LANES if is_blocked else 3, extent, extent)
    x = tensor("x", shape, FLOAT32)
    y = depthwise(blocked(x) if is_blocked else x, taps, stride, dilation)
    y = blocked(y) if is_blocked else y
    assert schedule(y) == "window" or extent < taps
    for at_end in (True, False):
        check(y, {"x": normal(*shape)}, at_end=at_end)


def test_rows_longer_than_a_step_of_vectors_are_cut() -> None:
    for width in (130, 224, 250):
        x = tensor("x", (2, 1, 5, width), FLOAT32)
        y = depthwise(x, 3)
        assert schedule(y) == "window"
        check(y, {"x": normal(2, 1, 5, width)})


def channels_last(height: DimLike, width: DimLike, channels: int, taps: int) -> Tensor:
    """Windows of images x[1, H, W, C]."""
    x = tensor("x", (1, height, width, channels), FLOAT32)
    image = compute((1, channels, height, width), lambda n, c, i, j: x[n, i, j, c])
    y = depthwise(image, taps)
    return compute((1, height, width, channels), lambda n, i, j, c: y[n, c, i, j])


@pytest.mark.parametrize("channels", [5, 16, 33])
def test_images_whose_channels_come_last_are_read_in_vectors_of_channels(channels: int) -> None:
    z = channels_last(9, 30, channels, 3)
    assert schedule(z) == "window"
    check(z, {"x": normal(1, 9, 30, channels)})


def inside(y: Tensor) -> nest.Block:
    """What each chunk of the windows of ``y`` does."""
    *_, kernel = write_all([stored(y)], Target.host())
    (chunks,) = kernel.nest.body
    assert isinstance(chunks, nest.Chunks)
    return chunks.body


def test_whole_rows_are_read_before_the_next_ones() -> None:
    x = tensor("x", (2, 3, 1000, 300), FLOAT32)
    first, between, last = inside(depthwise(x, 3))
    assert isinstance(first, nest.Lanes)
    assert isinstance(between, nest.Loop)
    assert [type(step) for step in between.body] == [nest.Lanes]
    assert isinstance(last, nest.Lanes)
    (channels,) = inside(channels_last(40, 30, 32, 3))
    assert isinstance(channels, nest.Lanes)
    assert [type(step) for step in channels.body] == [nest.Window, nest.Loop, nest.Window]


def test_images_that_are_near_are_read_in_columns_whose_borders_are_asked_for_once() -> None:
    (columns,) = inside(depthwise(tensor("x", (2, 3, 30, 240), FLOAT32), 3))
    assert isinstance(columns, nest.Lanes)
    assert [type(step) for step in columns.body] == [nest.Window, nest.Loop, nest.Window]


@pytest.mark.parametrize("vectors", [8, 10, 14, 15])
def test_rows_of_many_vectors_leave_registers_for_several_rows(vectors: int) -> None:
    lanes = Target.host().vector_bytes // 4
    (columns,) = inside(depthwise(tensor("x", (2, 3, 20, vectors * lanes), FLOAT32), 3))
    assert isinstance(columns, nest.Lanes)
    assert columns.units == 4


@pytest.mark.parametrize("level", LEVELS)
def test_channels_that_end_within_a_vector_are_computed_in_whole_ones(level: str) -> None:
    h, w = (symbol(name, least=1) for name in "hw")
    z = channels_last(h, w, 41, 3)
    *_, text = (kernel.code.text for kernel in write_all([stored(z)], target(level)))
    assert "masked" not in text
    runners = [
        Runner([z], target(level), chunks=chunks, at_end=at_end)
        for chunks, at_end in ((1, True), (3, False))
    ]
    for height, width in ((1, 1), (5, 16), (9, 33)):
        extents, x = {"h": height, "w": width}, normal(1, height, width, 41)
        filters = normal(41, 1, 3, 3, seed=1)
        wanted = conv(x.transpose(0, 3, 1, 2), filters, None, group=41, pads=[1] * 4)
        (found,), (again,) = (runner.run({"x": x}, extents) for runner in runners)
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), wanted, rtol=1e-5, atol=1e-5)
        assert again.tobytes() == found.tobytes()


@pytest.mark.parametrize("extents", [(20, 20), (symbol("h", least=1), symbol("w", least=1))])
def test_rows_of_taps_that_windows_do_not_share_are_a_loop(
    extents: tuple[DimLike, DimLike],
) -> None:
    *_, kernel = write_all([stored(channels_last(*extents, LANES, 5))], target("x86-64-v4"))
    written = 14 * 5  # windows by taps that lie side by side
    assert kernel.code.text.count("llvm.fma") <= 3 * written + 5 + 1


@pytest.mark.parametrize("is_blocked", [False, True])
@pytest.mark.parametrize("op", ["max", "sum", "mean"])
def test_pools_share_partial_results(op: str, is_blocked: bool) -> None:
    for taps, stride, extent in ((3, 2, 17), (3, 1, 12), (5, 1, 20), (4, 2, 30)):
        shape = (1, LANES if is_blocked else 2, extent, extent)
        x = tensor("x", shape, FLOAT32)
        given = blocked(x) if is_blocked else x
        window = windows(x, taps, stride)
        y = mean(given, window) if op == "mean" else pooled(op, given, window)
        y = blocked(y) if is_blocked else y
        assert schedule(y) == "window"
        check(y, {"x": normal(*shape)})


@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
def test_pools_of_open_extents_end_in_rows_of_one_where_registers_are_few(level: str) -> None:
    h, w = (symbol(name, least=4) for name in "hw")
    x = tensor("x", (1, 3, h, w), FLOAT32)
    runner = Runner([pooled("max", x, windows(x, 3))], target(level))
    for height, width in ((4, 4), (7, 41)):
        data = normal(1, 3, height, width)
        (found,) = runner.run({"x": data}, {"h": height, "w": width})
        padded = np.pad(data, [(0, 0)] * 2 + [(1, 1)] * 2, constant_values=-np.inf)
        views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        np.testing.assert_array_equal(found, views.max((-2, -1)))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_rows_of_open_windows_with_padding_are_read_in_steps(
    stride: int, level: str, at_end: bool
) -> None:
    h, w = (symbol(name, least=1) for name in "hw")
    x = tensor("x", (1, 2, h, w), FLOAT32)
    result = pooled("max", x, windows(x, 3, stride))
    runner = Runner([result], target(level), at_end=at_end)
    for height, width in ((1, 1), (2, 3), (9, 33), (14, 64), (30, 137)):
        data = integers(1, 2, height, width)
        data[0, 0, height // 2, width // 2] = np.nan
        data[0, 1] = -np.inf  # as is what lies beside the image
        (found,) = runner.run({"x": data}, {"h": height, "w": width})
        padded = np.pad(data, [(0, 0)] * 2 + [(1, 1)] * 2, constant_values=-np.inf)
        views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        np.testing.assert_array_equal(found, views[:, :, ::stride, ::stride].max((-2, -1)))


def test_masks_whose_size_is_no_power_of_2_are_made_where_they_are_used() -> None:
    h, w = (symbol(name, least=1) for name in "hw")
    x = tensor("x", (1, 2, h, w), FLOAT32)
    result = mean(x, Window.of((h, w), (3, 3), strides=[1, 3], pads=[1] * 4))
    *_, kernel = write_all([stored(result)], target("x86-64-v4"))
    made: set[str] = set()
    reads = 0
    for line in kernel.code.text.splitlines():
        if line.endswith(":"):  # a block begins
            made.clear()
        elif "<48 x i32> <i32" in line:
            made.add(line.split()[0])
        elif "masked.load.v48f32" in line and "call" in line:
            reads += 1
            masks = [text.split()[-1] for text in line.split(",") if "<48 x i1>" in text]
            assert made.issuperset(mask for mask in masks if mask.startswith("%"))
    assert reads > 0


@pytest.mark.parametrize(
    ("name", "stride", "level"),
    [
        ("uint8", 1, "x86-64-v3"),
        ("int8", 2, "x86-64-v3"),
        pytest.param("uint8", 4, "x86-64-v3", marks=pytest.mark.slow),
        pytest.param("int8", 2, "x86-64", marks=pytest.mark.slow),
        pytest.param("float16", 1, "x86-64", marks=pytest.mark.slow),
        pytest.param("float16", 2, "x86-64", marks=pytest.mark.slow),
        pytest.param("int8", 2, "aarch64", marks=EMULATED),
    ],
)
def test_narrow_rows_with_padding_are_read_in_whole_vectors(
    name: str, stride: int, level: str
) -> None:
    """No instruction masks such elements before AVX-512, and lanes are not asked one by one."""
    h, w = (symbol(name, least=1) for name in "hw")
    x = tensor("x", (2, 17, h, w), DType.of(name))
    moved = compute(x.shape, lambda *i: cast(x[i], FLOAT32) + 1.0)
    filters, pads = integers(17, 1, 3, 3), [1, 2, 1, 2]
    win = Window.of((h, w), (3, 3), strides=[stride] * 2, pads=pads)
    result = lower_convolve(moved, constant(filters), win, 17)
    *_, kernel = write_all([stored(result)], target(level))
    assert "masked.load" not in kernel.code.text
    assert "masked.gather" not in kernel.code.text
    for at_end in (False, True):  # of what may be read
        runner = Runner([result], target(level), chunks=2, at_end=at_end)
        for height, width in ((1, 1), (2, 3), (4, 16), (3, 39)):
            data = integers(2, 17, height, width).astype(x.dtype.numpy)
            (found,) = runner.run({"x": data}, {"h": height, "w": width})
            wanted = conv(
                data.astype(np.float32) + 1, filters, strides=[stride] * 2, pads=pads, group=17
            )
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("is_blocked", [False, True])
def test_nan_wins_in_every_window_that_holds_it(is_blocked: bool) -> None:
    shape = (1, LANES, 9, 18)
    x = tensor("x", shape, FLOAT32)
    y = pooled("max", blocked(x) if is_blocked else x, windows(x, 3, 2))
    data = normal(*shape)
    data[0, 3, ::4, 5] = np.nan
    data[0, 4, 2, :] = -np.nan
    found = check(blocked(y) if is_blocked else y, {"x": data})
    assert np.isnan(found).any()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32(name: str) -> None:
    dtype = DType.of(name)
    x = tensor("x", (1, 3, 9, 21), dtype)
    wide = pooled("sum", x, windows(x, 3))
    y = compute(wide.shape, lambda *i: cast(wide[i], dtype))
    assert schedule(y) == "window"
    check(y, {"x": normal(1, 3, 9, 21).astype(dtype.numpy)})


@pytest.mark.parametrize("is_blocked", [False, True])
@pytest.mark.parametrize("taps", [3, pytest.param(7, marks=pytest.mark.slow)])
def test_one_kernel_serves_images_of_every_extent(taps: int, is_blocked: bool) -> None:
    n, h, w = (symbol(name, least=1) for name in "nhw")
    channels = LANES if is_blocked else 2
    x = tensor("x", (n, channels, h, w), FLOAT32)
    given = blocked(x) if is_blocked else x
    results = [depthwise(given, taps), mean(given, windows(x, taps, 2))]
    for result, name in zip(results, ("window", "window" if is_blocked else "folded"), strict=True):
        y = blocked(result) if is_blocked else result
        assert schedule(y) == name
        for batch, height, width in ((1, 1, 1), (2, 5, 33), (1, 20, 3), (1, 29, 31)):
            feeds = {"x": normal(batch, channels, height, width)}
            check(y, feeds, {"n": batch, "h": height, "w": width})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("taps", "dilation"), [(3, 2), *(pytest.param(9, d, marks=pytest.mark.slow) for d in (1, 3))]
)
def test_dilated_windows_of_any_extent_slide_too(taps: int, dilation: int, level: str) -> None:
    h, w = (symbol(name, least=1) for name in "hw")
    x, filters = tensor("x", (1, 2, h, w), FLOAT32), integers(2, 1, taps, taps, seed=1)
    more: dict[str, Any] = {
        "group": 2,
        "pads": [taps // 2 * dilation] * 4,
        "dilations": [dilation] * 2,
    }
    y = stored(lower_conv(x, constant(filters), None, **more))
    runner = Runner([y], target(level))
    assert runner.kernels[-1].schedule == "window"
    for height, width in ((1, 1), (4, 7), (6, 16), (7, 17), (13, 65)):
        data = integers(1, 2, height, width)
        data[0, 0, height // 2, width // 2] = np.nan  # reaches its own windows only
        (found,) = runner.run({"x": data}, {"h": height, "w": width})
        np.testing.assert_array_equal(found, conv(data, filters, None, **more))


def test_work_on_the_result_is_done_in_the_same_visit() -> None:
    x = tensor("x", (2, 3, 10, 30), FLOAT32)
    b = constant(normal(3, seed=2), "b")
    y = depthwise(x, 3)

    def short(*i: DimLike) -> Scalar:
        return apply("max", y[i] + b[i[1]], 0.0)

    def long(*i: DimLike) -> Scalar:
        z = y[i] + b[i[1]]
        return z / (1.0 + scalar.exp(-z))

    for function in (short, long):
        result = compute(y.shape, function)
        assert [k.schedule for k in Runner([result]).kernels] == ["window"]
        check(result, {"x": normal(2, 3, 10, 30)})


def test_chunks_never_change_a_bit_of_a_window() -> None:
    x = tensor("x", (2, 5, 23, 30), FLOAT32)
    feeds = {"x": normal(2, 5, 23, 30)}
    for y in (depthwise(x, 5), mean(x, windows(x, 3, 2))):
        whole = compiled(y, feeds)
        for chunks in (2, 3, 16):
            assert compiled(y, feeds, chunks=chunks).tobytes() == whole.tobytes()


@pytest.mark.parametrize("level", LEVELS[1:])
def test_windows_on_processors_with_fewer_registers(level: str) -> None:
    x = tensor("x", (1, 3, 19, 40), FLOAT32)
    for y in (depthwise(x, 7), depthwise(x, 3, 2), mean(x, windows(x, 3))):
        options: dict[str, Any] = {"target": target(level)}
        check(y, {"x": normal(1, 3, 19, 40)}, **options)


def test_windows_that_do_not_overlap_are_left_to_maps() -> None:
    x = tensor("x", (1, 3, 8, 32), FLOAT32)
    window = Window.of((8, 32), (2, 2), strides=[2, 2])
    y = pooled("max", x, window)
    assert schedule(y) == "map"
    check(y, {"x": normal(1, 3, 8, 32)})


@pytest.mark.parametrize("level", LEVELS)
def test_places_that_long_rows_of_large_windows_count_are_read_from_no_table(level: str) -> None:
    x = tensor("x", (1, 1, 12, 400), FLOAT32)
    y = mean(x, windows(x, 6, 2))
    check(y, {"x": normal(1, 1, 12, 400)}, target=target(level), chunks=3)


def test_integers_are_compared_in_windows_too() -> None:
    x = tensor("x", (1, 2, 9, 37), DType.of("int8"))
    window = windows(x, 3)

    def at(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        return reduce("max", window.taps, lambda *k: x.get((n, c, *window.place(o, k)), -128))

    data = np.random.default_rng(0).integers(-128, 128, (1, 2, 9, 37)).astype(np.int8)
    y = compute(x.shape, at)
    assert schedule(y) == "window"
    check(y, {"x": data})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("block", [1, LANES])
@pytest.mark.parametrize(
    ("taps", "more"),
    [
        pytest.param((13, 13), {}, marks=pytest.mark.slow),
        ((12, 15), {"strides": [2, 1], "dilations": [1, 2]}),
        ((1, 7), {}),
        ((9, 1), {"strides": [2, 2]}),
    ],
)
def test_windows_are_large_or_lines(
    taps: tuple[int, int], more: dict[str, Any], block: int, level: str
) -> None:
    data, w = integers(2, 16, 9, 21), integers(16, 1, *taps, seed=1)
    pads = [3, 6, 9, 8]
    x = tensor("x", data.shape, FLOAT32)
    if block > 1:
        x = blocked(x)
    y = lower_conv(x, constant(w), None, group=16, pads=pads, **more)
    if block > 1:
        y = blocked(y)
    wanted = conv(data, w, None, group=16, pads=pads, **more)
    assert "window" in [k.schedule for k in Runner([y], target(level)).kernels]
    for at_end in (True, False):
        found = compiled(y, {"x": data}, target=target(level), chunks=3, at_end=at_end)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (31, 1), (8, 3)])
def test_rows_of_sounds_are_read_from_a_copy_with_its_padding(taps: int, stride: int) -> None:
    data, w = integers(2, 5, 70), integers(5, 1, taps, seed=1)
    more: dict[str, Any] = {"group": 5, "pads": [taps // 2, taps], "strides": [stride]}
    y = lower_conv(tensor("x", data.shape, FLOAT32), constant(w), None, **more)
    assert len(Runner([y]).kernels) > 1
    found = compiled(y, {"x": data}, chunks=2)
    np.testing.assert_array_equal(found, conv(data, w, None, **more))


@pytest.mark.parametrize(
    ("taps", "stride"), [((13, 13), 1), pytest.param((5, 5, 5), 3, marks=pytest.mark.slow)]
)
def test_large_windows_of_any_extent_are_loops(taps: tuple[int, ...], stride: int) -> None:
    extents = [symbol(name, least=1) for name in "dhw"[: len(taps)]]
    data, w = integers(1, 2, *[9] * len(taps)), integers(2, 1, *taps, seed=1)
    x = tensor("x", (1, 2, *extents), FLOAT32)
    more: dict[str, Any] = {
        "group": 2,
        "pads": [3] * 2 * len(taps),
        "strides": [stride] * len(taps),
    }
    y = stored(lower_conv(x, constant(w), None, **more))
    texts = [kernel.code.text for kernel in write_all([y], Target.host())]
    assert max(text.count("llvm.fma") for text in texts) < 1000
    symbols = dict.fromkeys("dhw"[: len(taps)], 9)
    for at_end in (True, False):
        found = compiled(y, {"x": data}, symbols, at_end=at_end)
        np.testing.assert_array_equal(found, conv(data, w, None, **more))


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_rows_whose_windows_share_nothing_are_divided_between_chunks(rows: int) -> None:
    x = tensor("x", (1, rows, 40), FLOAT32)
    y = pooled("max", x, Window.of((40,), (5,), pads=[2, 2]))
    feeds = {"x": normal(1, rows, 40)}
    whole = check(y, feeds, at_end=True)
    for chunks in (2, 7):
        assert compiled(y, feeds, chunks=chunks).tobytes() == whole.tobytes()
    (kernel,) = Runner([y]).kernels
    assert (kernel.parallel == 1) is (rows < 50)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("high", "wide"), [(1, 3), (9, 40), (37, 70)])
@pytest.mark.parametrize(("taps", "stride"), [(3, 2), (7, 3)])
def test_pools_of_open_extents_that_move_on_by_several_taps_are_divided_between_chunks(
    taps: int, stride: int, high: int, wide: int, level: str
) -> None:
    names = [symbol(name, least=1) for name in "hw"]
    symbols, shape = {"h": high, "w": wide}, (1, 5, high, wide)
    x = tensor("x", (1, 5, *names), FLOAT32)
    y = pooled("max", x, windows(x, taps, stride))
    assert all(kernel.parallel != 1 for kernel in Runner([y], target(level)).kernels)
    whole = check(y, {"x": normal(*shape)}, symbols, target=target(level), at_end=True)
    for chunks in (2, 7):
        found = compiled(y, {"x": normal(*shape)}, symbols, target=target(level), chunks=chunks)
        assert found.tobytes() == whole.tobytes()
