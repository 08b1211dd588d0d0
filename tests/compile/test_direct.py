from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fornix.compile.schedule as schedules
from fornix.compile import Target
from fornix.compile.blocked import Blocked, blocked_buffer
from fornix.compile.compiler import write_all
from fornix.compile.convolution import Convolution, convolution
from fornix.compile.nest import Chunks, Loop, Patch
from fornix.compile.schedule import direct_boxes as boxes
from fornix.compile.schedule.direct import direct_stages
from fornix.compile.schedule.inside import data_of, share
from fornix.compile.schedule.packing import order
from fornix.compile.schedule.winograd import Stage
from fornix.dtype import FLOAT16, FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, known, symbol
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Store, Tensor, Variable, compute, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import conv, lower_conv
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, whole
from tests.compile.test_phases import source

Shape = tuple[DimLike, ...]
N, H, W = (symbol(name, least=1) for name in "NHW")


def lanes(dtype: DType, level: str = "host") -> int:
    return target(level).vector_bytes // max(4, dtype.bits // 8)


def image(name: str, shape: Shape, dtype: DType, block: int) -> Tensor:
    if block == 1:
        return tensor(name, shape, dtype)
    return Tensor(shape, dtype, buffer=blocked_buffer(name, shape, dtype, block))


def blocked(x: Tensor, block: int) -> Tensor:
    return stored(x, "y", blocked_buffer("y", x.shape, x.dtype, block))


def text_of(y: Tensor, processor: Target) -> str:
    """The code of the last kernel of ``y``."""
    return write_all([y], processor)[-1].code.text


def data(dtype: DType, shape: Shape, symbols: Mapping[str, int], seed: int) -> np.ndarray:
    numbers = [whole(d, symbols) for d in shape]
    rng = np.random.default_rng(seed)
    return rng.integers(-3, 4, numbers).astype(dtype.numpy)  # sums of their products are exact


@pytest.fixture(autouse=True)
def are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct sums of whole numbers are exact, those of Winograd's transforms need not be."""
    monkeypatch.setattr(schedules, "winograd_algorithm", lambda *_: None)


def convolved(
    x: Shape,
    w: tuple[int, ...],
    *,
    dtype: DType = FLOAT32,
    symbols: Mapping[str, int] | None = None,
    blocks: tuple[int, int] | None = None,
    level: str = "host",
    chunks: int = 1,
    **attributes: Any,
) -> None:
    """Hold a convolution of images in blocks, with weights that are stored, to the interpreter."""
    given, own = blocks or (lanes(dtype, level),) * 2
    a = image("x", x, dtype, given)
    weights, bias = (constant(data(dtype, shape, {}, k)) for k, shape in enumerate((w, w[:1])))
    y = blocked(lower_conv(a, weights, bias, **attributes), own)
    assert Runner([y], target(level)).kernels[-1].schedule == "convolution"
    feeds = {"x": data(dtype, x, symbols or {}, 2)}
    check(y, feeds, symbols, target=target(level), chunks=chunks)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("channels", [(16, 16), (24, 40), (3, 7), (2, 64), (80, 48)])
@pytest.mark.parametrize("stride", [1, 2])
def test_channels_need_not_fill_blocks(channels: tuple[int, int], stride: int, level: str) -> None:
    c, m = channels
    convolved((2, c, 5, 9), (m, c, 3, 2), level=level, strides=[stride] * 2, pads=[1, 0, 1, 1])
    convolved((2, c, 5, 9), (m, c, 1, 1), level=level, strides=[stride] * 2)


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT32, FLOAT64, DType.of(ml_dtypes.bfloat16)])
def test_every_float_is_convolved(dtype: DType) -> None:
    convolved((1, 32, 6, 7), (32, 32, 3, 3), dtype=dtype, strides=[2, 1], pads=[1] * 4)
    convolved((1, 32, 6, 7), (32, 32, 1, 1), dtype=dtype)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [2] * 4, "dilations": [2, 2]},
        {"pads": [0, 3, 1, 0], "dilations": [1, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"pads": [1] * 4, "group": 2},
    ],
)
def test_windows_of_every_kind_are_convolved(attributes: dict[str, Any]) -> None:
    group = attributes.get("group", 1)
    convolved((1, 64, 10, 11), (64, 64 // group, 3, 3), **attributes)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("groups", "channels", "filters"),
    [(2, 8, 8), (2, 24, 24), (3, 6, 16), (2, 1, 8)],
)
def test_groups_need_not_fill_blocks(groups: int, channels: int, filters: int, level: str) -> None:
    x, w = (2, groups * channels, 5, 9), (groups * filters, channels, 3, 2)
    convolved(x, w, level=level, group=groups, pads=[1, 0, 1, 1])
    half = lanes(FLOAT32, level) // 2
    convolved(x, w, level=level, group=groups, strides=[2, 2], blocks=(half, half))


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((2, 32, 19), (48, 32, 5)),
        ((1, 16, 4, 5, 6), (32, 16, 3, 3, 3)),
        ((3, 20, 1, 1), (40, 20, 1, 1)),
    ],
)
def test_images_have_any_number_of_axes(x: Shape, w: tuple[int, ...]) -> None:
    convolved(x, w, pads=[w[-1] // 2] * 2 * (len(w) - 2))


def test_an_image_that_is_not_blocked_is_read_as_it_lies() -> None:
    own = lanes(FLOAT32)
    convolved((1, 3, 17, 19), (64, 3, 7, 7), blocks=(1, own), strides=[2, 2], pads=[3] * 4)
    convolved((2, 3, 16, 24), (32, 3, 8, 8), blocks=(1, own), strides=[8, 8])


@pytest.mark.parametrize(
    ("n", "h", "w"), [(1, 1, 1), (2, 3, 6), (1, 8, 7), (1, 2, 16), (3, 4, 29), (1, 1, 43)]
)
def test_extents_may_be_known_at_run_time_only(n: int, h: int, w: int) -> None:
    symbols = {"N": n, "H": h, "W": w}
    convolved((N, 32, H, W), (48, 32, 3, 5), symbols=symbols, pads=[1, 2] * 2)
    convolved((N, 32, H, W), (16, 32, 1, 1), symbols=symbols)
    convolved((N, 32, W), (16, 32, 3), symbols=symbols, pads=[1] * 2)


@pytest.mark.parametrize("filters", [16, 24])
def test_padding_may_lie_on_both_sides_of_rows_of_one_pixel(filters: int) -> None:
    symbols = {"N": 2, "H": 5}
    convolved((N, 8, H, 1), (filters, 8, 3, 3), symbols=symbols, pads=[1] * 4)
    convolved((2, 8, 5, 1), (filters, 8, 1, 3), pads=[0, 1, 0, 1])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
def test_rows_of_unknown_length_are_done_in_boxes_of_every_size(
    level: str, *, at_end: bool
) -> None:
    x, w = tensor("x", (N, 5, H, W), FLOAT32), data(FLOAT32, (16, 5, 3, 2), {}, 1)
    own = lanes(FLOAT32, level)
    y = blocked(lower_conv(x, constant(w), None, strides=[1, 2], pads=[1, 0, 1, 1]), own)
    runner = Runner([y], target(level), at_end=at_end)
    for h, width in itertools.product((1, 2, 3, 5), (1, 5, 8, 13, 20, 33)):
        symbols = {"N": 2, "H": h, "W": width}
        feeds = {"x": data(FLOAT32, x.shape, symbols, h * width)}
        feeds["x"][1, 1, h // 2, width // 2] = np.nan  # reaches its own windows only
        (found,) = runner.run(feeds, symbols)
        expected = conv(feeds["x"], w, None, strides=[1, 2], pads=[1, 0, 1, 1])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("level", LEVELS)
def test_volumes_of_unknown_extents_may_have_rows_shorter_than_any_box(level: str) -> None:
    x, w = tensor("x", (1, 5, N, H, W), FLOAT32), data(FLOAT32, (20, 5, 3, 3, 3), {}, 1)
    attributes: dict[str, Any] = {"strides": [1, 2, 2], "pads": [1] * 6}
    runner = Runner(
        [stored(lower_conv(x, constant(w), None, **attributes))], target(level), chunks=3
    )
    for d, h, width in itertools.product((1, 3), (1, 3, 6), (1, 3, 5, 8)):
        symbols = {"N": d, "H": h, "W": width}
        feeds = {"x": data(FLOAT32, x.shape, symbols, h * width)}
        (found,) = runner.run(feeds, symbols)
        np.testing.assert_array_equal(found, conv(feeds["x"], w, None, **attributes))


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("level", LEVELS)
def test_rows_of_images_as_networks_are_fed_fill_boxes_of_every_size(
    blocks: int, level: str
) -> None:
    own = lanes(FLOAT32, level)
    x, w = tensor("x", (1, 3, H, W), FLOAT32), data(FLOAT32, (blocks * own, 3, 3, 3), {}, 1)
    y = blocked(lower_conv(x, constant(w), None, strides=[2, 2], pads=[1, 2, 0, 1]), own)
    runner = Runner([y], target(level), at_end=True)
    for h, width in ((9, 3), (47, 47), (61, 29), (55, 250)):
        feeds = {"x": data(FLOAT32, x.shape, {"H": h, "W": width}, width)}
        feeds["x"][0, 2, h // 2, [0, -1]] = np.inf, np.nan
        (found,) = runner.run(feeds, {"H": h, "W": width})
        with np.errstate(invalid="ignore"):
            expected = conv(feeds["x"], w, None, strides=[2, 2], pads=[1, 2, 0, 1])
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("blocks", [3, 5, 7])
@pytest.mark.parametrize("level", LEVELS)
def test_rows_of_unknown_length_may_have_blocks_of_filters_that_are_no_pairs(
    blocks: int, level: str
) -> None:
    own = lanes(FLOAT32, level)
    x, w = tensor("x", (1, 6, H, W), FLOAT32), data(FLOAT32, (blocks * own - 3, 6, 3, 3), {}, 1)
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4}
    runner = Runner([blocked(lower_conv(x, constant(w), None, **attributes), own)], target(level))
    for h, width in ((1, 40), (2, 3), (5, 14), (7, 29), (56, 57)):
        feeds = {"x": data(FLOAT32, x.shape, {"H": h, "W": width}, width)}
        (found,) = runner.run(feeds, {"H": h, "W": width})
        np.testing.assert_array_equal(found, conv(feeds["x"], w, None, **attributes))


@pytest.mark.parametrize(("is_wide", "rows"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("blocks", [3, 5, 7])
def test_two_rows_of_unknown_length_are_done_at_once_where_loads_are_no_limit(
    blocks: int, rows: int, *, is_wide: bool
) -> None:
    narrow = Target.masked("x86-64-v4")
    wide = dataclasses.replace(narrow, features=narrow.features | {"amx-tile"})
    weights = constant(np.ones((blocks * 16, 64, 3, 3), np.float32))
    y = lower_conv(tensor("x", (1, 64, H, W), FLOAT32), weights, None, pads=[1] * 4)
    found = convolution(source(blocked(y, 16)))
    assert found is not None
    assert boxes.box_of(found, blocks, wide if is_wide else narrow).rows == rows


def test_boxes_of_several_rows_are_for_taps_that_are_near_and_more_channels_than_are_fed() -> None:
    for c, dilation, rows in ((8, 1, H + 2), (8, 9, H), (3, 1, H)):
        x, w = tensor("x", (1, c, H, W), FLOAT32), constant(data(FLOAT32, (16, c, 3, 3), {}, 1))
        y = blocked(lower_conv(x, w, None, dilations=[dilation] * 2, pads=[dilation] * 4), 16)
        found = convolution(source(y))
        assert found is not None
        (image, *_) = direct_stages(found, Target.host(), 16) or []
        assert isinstance(image, Store)
        assert image.axes[-2].extent == rows


@pytest.mark.parametrize("target_name", ["x86-64-v4", "x86-64-v3"])
def test_boxes_of_open_rows_are_small_where_taps_are_so_far_that_large_ones_meet_padding(
    target_name: str,
) -> None:
    pixels = []
    for dilation in (1, 12):
        weights = constant(np.ones((128, 64, 3, 3), np.float32))
        window: dict[str, Any] = {"pads": [dilation] * 4, "dilations": [dilation] * 2}
        x = tensor("x", (1, 64, H, W), FLOAT32)
        y = lower_conv(x, weights, None, **window)
        found = convolution(source(blocked(y, 16)))
        assert found is not None
        box = boxes.box_of(found, 8, Target.masked(target_name))
        pixels.append(box.rows * box.pixels)
    has_choice = target_name == "x86-64-v4"  # fewer registers leave none
    assert (pixels[1] < pixels[0]) == has_choice


@pytest.mark.parametrize(("h", "w"), [(1, 1), (3, 5), (10, 10)])
def test_pixels_of_single_taps_are_one_row_whatever_their_extents(h: int, w: int) -> None:
    x = image("x", (1, 32, H, W), FLOAT32, 16)
    y = blocked(lower_conv(x, constant(data(FLOAT32, (32, 32, 1, 1), {}, 1)), None), 16)
    found = convolution(source(y))
    assert found is not None
    *_, last = direct_stages(found, Target.host(), 16) or []
    assert isinstance(last, Stage)
    assert [a.extent for a in last.stores[0].axes].count(H * W) == 1
    check(y, {"x": data(FLOAT32, x.shape, {"H": h, "W": w}, 2)}, {"H": h, "W": w})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("taps", [1, 3])
def test_threads_share_rows_of_unknown_length(taps: int, level: str) -> None:
    own = lanes(FLOAT32, level)
    x, w = image("x", (1, 16, W), FLOAT32, own), data(FLOAT32, (16, 16, taps), {}, 1)
    y = blocked(lower_conv(x, constant(w), None, pads=[taps // 2] * 2), own)
    for chunks in (1, 3):
        runner = Runner([y], target(level), chunks=chunks)
        for n in (1, 5, 13, 36, 49, 66, 112, 113, 127, 250, 700):
            feeds = {"x": data(FLOAT32, x.shape, {"W": n}, n)}
            (found,) = runner.run(feeds, {"W": n})
            sums = [k for k in runner.kernels if k.schedule == "convolution"]
            shares = [whole(kernel.parallel, {"W": n}) for kernel in sums]
            assert n < 127 or max(shares) > 1
            expected = conv(feeds["x"], w, None, pads=[taps // 2] * 2)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunks", [1, 2, 3, 64, 100])
def test_chunks_never_change_a_bit(chunks: int) -> None:
    convolved((2, 32, 9, 17), (64, 32, 3, 3), chunks=chunks, strides=[2, 2], pads=[1] * 4)
    convolved((N, 32, 7, 7), (64, 32, 1, 1), symbols={"N": 2}, chunks=chunks)


@pytest.mark.parametrize("channels", [32, 24])
@pytest.mark.parametrize("is_long", [False, True])
def test_what_is_done_with_the_sums_happens_in_place(channels: int, is_long: bool) -> None:
    x = image("x", (1, 16, 6, 9), FLOAT32, lanes(FLOAT32))
    r = image("r", (1, channels, 6, 9), FLOAT32, lanes(FLOAT32))
    weights = constant(data(FLOAT32, (channels, 16, 1, 1), {}, 0))
    bias = constant(data(FLOAT32, (channels,), {}, 1))
    z = lower_conv(x, weights, bias)

    def finish(*i: DimLike) -> Any:
        e = z[i] + r[i]
        return e / (1.0 + s.exp(-e)) if is_long else s.maximum(e, 0.0)

    y = blocked(compute(z.shape, finish), lanes(FLOAT32))
    check(y, {"x": data(FLOAT32, x.shape, {}, 2), "r": data(FLOAT32, r.shape, {}, 3)})
    assert [k.schedule for k in Runner([y]).kernels][-1] == "convolution"


@pytest.mark.parametrize("filters", [16, 40, 9])
@pytest.mark.parametrize("symbols", [{}, {"N": 2, "H": 6, "W": 9}])
def test_a_result_that_is_not_blocked_takes_the_way_through_one_that_is(
    filters: int, symbols: dict[str, int]
) -> None:
    shape: Shape = (N, 16, H, W) if symbols else (2, 16, 6, 9)
    x = image("x", shape, FLOAT32, lanes(FLOAT32))
    r = tensor("r", (*shape[:1], filters, *shape[2:]), FLOAT32)
    weights = constant(data(FLOAT32, (filters, 16, 3, 5), {}, 0))
    z = lower_conv(x, weights, None, pads=[1, 2, 1, 2])
    y = stored(compute(z.shape, lambda *i: s.maximum(z[i] + r[i], 0.0)))
    feeds = {"x": data(FLOAT32, shape, symbols, 2), "r": data(FLOAT32, r.shape, symbols, 3)}
    check(y, feeds, symbols)
    schedules = [k.schedule for k in Runner([y]).kernels]
    rest = schedules[-schedules[::-1].index("convolution") :]
    assert rest
    assert filters == 9 or set(rest) == {"turned"}  # one filter beside a block is no tile


def test_a_product_with_few_pixels_takes_that_way_too() -> None:
    x = tensor("x", (2, 256, 7, 7), FLOAT32)
    weights = constant(data(FLOAT32, (64, 256, 1, 1), {}, 0))
    y = stored(lower_conv(x, weights, None))
    check(y, {"x": data(FLOAT32, x.shape, {}, 2)})
    schedules = [k.schedule for k in Runner([y]).kernels]
    assert "convolution" in schedules


def test_a_result_with_its_channels_last_is_written_as_it_is() -> None:
    x = tensor("x", (2, 3, 16, 24), FLOAT32)
    weights = constant(data(FLOAT32, (40, 3, 4, 4), {}, 0))
    z = lower_conv(x, weights, None, strides=[4, 4])
    y = stored(compute((2, 4, 6, 40), lambda n, h, w, c: z[n, c, h, w]))
    check(y, {"x": data(FLOAT32, x.shape, {}, 2)})
    assert [k.schedule for k in Runner([y]).kernels][-1] == "convolution"


def test_images_that_are_computed_are_written_once() -> None:
    x = image("x", (1, 32, 6, 9), FLOAT32, lanes(FLOAT32))
    relu = compute(x.shape, lambda *i: s.maximum(x[i], 0.0))
    weights = constant(data(FLOAT32, (32, 32, 3, 3), {}, 0))
    y = blocked(lower_conv(relu, weights, None, pads=[1] * 4, strides=[2, 2]), lanes(FLOAT32))
    check(y, {"x": data(FLOAT32, x.shape, {}, 2)})
    assert [k.schedule for k in Runner([y]).kernels][-1] == "convolution"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("place", "taps", "attributes"),
    [
        ((9, 11), (3, 3), {"dilations": [6, 8], "pads": [6, 8] * 2}),  # beside some rows, no taps
        ((5, 7), (5, 7), {"pads": [2, 3] * 2}),
        ((8, 6), (7, 1), {"pads": [3, 0] * 2, "strides": [2, 1]}),
        ((4, 9), (3, 4), {"pads": [1, 3, 1, 2], "strides": [1, 2]}),
        ((3, 7), (2, 3), {"pads": [0, 4, 0, 1], "dilations": [1, 2]}),
        ((3, 4), (1, 3), {"pads": [2, 5] * 2}),  # places that meet nothing but padding
        ((4, 6, 5), (3, 3, 3), {"dilations": [3, 1, 4], "pads": [3, 1, 4] * 2}),
    ],
)
def test_taps_in_the_padding_are_left_out(
    place: tuple[int, ...], taps: tuple[int, ...], attributes: dict[str, Any], level: str
) -> None:
    convolved((2, 24, *place), (40, 24, *taps), level=level, **attributes)
    convolved((1, 16, *place), (8, 16, *taps), level=level, blocks=(1, 8), **attributes)


def test_the_share_of_taps_that_meet_data_is_counted() -> None:
    weights = constant(data(FLOAT32, (16, 16, 3, 3), {}, 0))
    y = lower_conv(tensor("x", (1, 16, 4, 9), FLOAT32), weights, pads=[1, 1] * 2)
    store = blocked(y, 16).buffer
    assert store is not None
    assert isinstance(store.source, Store)
    found = convolution(store.source)
    assert found is not None
    rows, pixels = found.spatial
    assert share(data_of(found), {}) == pytest.approx(10 / 12 * 25 / 27)
    assert share(data_of(found), {rows: 4, pixels: 9}) == 1


@pytest.mark.parametrize(("channels", "written"), [(16, 4), (6, 3), (10, 2), (17, 1)])
def test_taps_that_read_the_same_elements_are_never_written_side_by_side(
    channels: int, written: int
) -> None:
    weights = constant(data(FLOAT32, (16, channels, 3, 3), {}, 0))
    y = blocked(lower_conv(tensor("x", (1, channels, 9, 9), FLOAT32), weights, pads=[1] * 4), 16)
    found = convolution(source(y))
    assert found is not None
    assert [a.extent for a in order(found).written] == [written]


def test_weights_that_are_fed_are_packed_in_each_run() -> None:
    x = image("x", (1, 16, 6, 9), FLOAT32, lanes(FLOAT32))
    w = tensor("w", (32, 16, 3, 3), FLOAT32)
    y = blocked(lower_conv(x, w, None, strides=[2, 2]), lanes(FLOAT32))
    check(y, {"x": data(FLOAT32, x.shape, {}, 2), "w": data(FLOAT32, w.shape, {}, 3)})


def box_of(conv: Convolution, host: Target) -> tuple[list[Variable], Patch]:
    """The box of a direct sum, and the axes around it."""
    stages = direct_stages(conv, host, host.vector_bytes // 4)
    assert stages is not None
    stage = stages[-1]
    assert isinstance(stage, Stage)
    (chunks,) = stage.nest.body
    assert isinstance(chunks, Chunks)
    axes, body = [*chunks.axes], chunks.body[0]
    while isinstance(body, Loop):
        axes, body = [*axes, body.axis], body.body[0]
    assert isinstance(body, Patch)
    return axes, body


@pytest.mark.parametrize(("channels", "least"), [(4, 1), (64, 4), (1100, 12)])
def test_weights_that_come_from_far_are_used_for_many_pixels(channels: int, least: int) -> None:
    host = Target.masked("x86-64-v4")
    host = dataclasses.replace(host, l1_bytes=48 << 10, l2_bytes=1 << 20)
    size = lanes(FLOAT32, "x86-64-v4")
    weights = constant(np.ones((7 * size, channels, 3, 3), np.float32))
    y = blocked(lower_conv(image("x", (1, channels, 22, 22), FLOAT32, 1), weights), size)
    conv = convolution(source(y))
    assert conv is not None
    *pixels, blocks = box_of(conv, host)[1].spans
    assert (blocks.count > 4) == (least == 1)
    assert math.prod(span.count for span in pixels) >= least


def test_the_next_panel_of_weights_is_asked_for_while_one_is_in_use() -> None:
    features = target("host").features - {"amx-bf16"}
    host = dataclasses.replace(target("host"), features=features, l2_bytes=1 << 20)
    weights = constant(np.ones((128, 128, 3, 3), np.float32))
    x = image("x", (N, 128, 7, 7), FLOAT32, lanes(FLOAT32))
    y = blocked(lower_conv(x, weights, pads=[1, 1, 1, 1]), lanes(FLOAT32))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    conv = convolution(y.buffer.source)
    assert conv is not None
    axes, body = box_of(conv, host)
    group, panel, *others = [*axes, *(taps.axis for taps in body.loops)]
    asked = set()
    for values in itertools.product(
        *(range(a.extent) if isinstance(a.extent, int) else [5] for a in others)
    ):
        at: dict[Atom, DimLike] = {group: 0, panel: 1, **dict(zip(others, values, strict=True))}
        asked |= {known(substitute(place, at, {})) for _, place in body.ahead}
    elements = 128 * 128 * 9 // (known(panel.extent) or 1)
    lines = {place // 16 for place in asked if place is not None}
    assert lines >= set(range(2 * elements // 16, 3 * elements // 16))
    assert len(lines) < 1.5 * elements / 16


@pytest.mark.parametrize(("places", "is_far"), [(180, True), (60, False), (None, True)])
@pytest.mark.parametrize("level", LEVELS)
def test_what_sums_are_added_to_is_asked_for_if_it_may_be_far(
    places: int | None, is_far: bool, level: str
) -> None:
    small = dataclasses.replace(target(level), l2_bytes=32 << 10)
    length: DimLike = W if places is None else places
    channels, size = 64, lanes(FLOAT32, level)
    x, r = (image(name, (1, channels, length), FLOAT32, size) for name in "xr")
    z = lower_conv(x, constant(data(FLOAT32, (channels, channels, 2), {}, 1)), pads=[1, 0])
    y = blocked(compute(z.shape, lambda *i: z[i] + r[i]), size)
    asked = [line for line in text_of(y, small).splitlines() if "call void @llvm.prefetch" in line]
    written = [line for line in asked if "i32 1, i32 3" in line]
    assert len(asked) == 2 * len(written)  # as much is read as is written
    assert bool(asked) == is_far
    symbols = {"W": places or 37}
    feeds = {b: data(FLOAT32, t.shape, symbols, 2) for b, t in (("x", x), ("r", r))}
    check(y, feeds, symbols if places is None else {}, target=small)


@pytest.mark.parametrize(
    ("channels", "filters", "is_kept"),
    [(128, 512, True), (512, 128, True), (64, 64, False)],
)
def test_a_panel_of_weights_that_are_asked_for_ahead_stays_while_all_pixels_pass(
    channels: int, filters: int, is_kept: bool
) -> None:
    host = dataclasses.replace(Target.masked("x86-64-v4"), l1_bytes=48 << 10, l2_bytes=4 << 20)
    size = lanes(FLOAT32, "x86-64-v4")
    weights = constant(np.ones((filters, channels, 1, 1), np.float32))
    y = blocked(lower_conv(image("x", (1, channels, 28, 28), FLOAT32, size), weights), size)
    conv = convolution(source(y))
    assert conv is not None
    axes, body = box_of(conv, host)
    names = [axis.name for axis in axes]
    assert (names[1] == "p") == is_kept
    assert (names[-1] == "p") != is_kept
    assert bool(body.ahead) == is_kept


def test_a_blocked_image_has_its_channels_side_by_side() -> None:
    layout = Blocked((2, 24, 3, 5), 16)
    assert layout.elements == 2 * 2 * 3 * 5 * 16
    assert layout((0, 1, 0, 0)) == 1
    assert layout((0, 0, 0, 1)) == 16
    assert layout((0, 17, 0, 0)) == 3 * 5 * 16 + 1
    assert layout((1, 23, 2, 4)) == layout.elements - 9


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("channels", "group"), [((24, 40), 1), ((40, 24), 1), ((72, 72), 72)])
def test_one_block_may_hold_all_channels_though_half_a_vector_is_left(
    channels: tuple[int, int], group: int, level: str
) -> None:
    c, m = channels
    its = dataclasses.replace(target(level), is_strict=True)
    for taps, stride in ((1, 1), (3, 1), (3, 2)):
        given = image("x", (2, c, 9, 7), FLOAT32, c)
        w, bias = (constant(data(FLOAT32, s, {}, 3)) for s in ((m, c // group, taps, taps), (m,)))
        y = lower_conv(given, w, bias, group=group, pads=[taps // 2] * 4, strides=[stride] * 2)
        feeds = {"x": data(FLOAT32, (2, c, 9, 7), {}, 2)}
        for chunks in (1, 3):
            check(blocked(y, m), feeds, target=its, chunks=chunks)


@pytest.mark.parametrize("group", [1, 16])
@pytest.mark.parametrize("level", ["host", "x86-64-v3"])
@pytest.mark.skipif(not Target.host().is_x86, reason="other processors keep such numbers")
def test_terms_below_normal_numbers_are_zero_unless_accuracy_is_strict(
    group: int, level: str
) -> None:
    tiny = np.finfo(np.float32).tiny
    x = np.full((1, 16, 8, 8), tiny / 4, np.float32)
    w = np.full((16, 16 // group, 3, 3), 2.0, np.float32)
    exact = conv(x, w, None, group=group, pads=[1] * 4)
    given = image("x", x.shape, FLOAT32, lanes(FLOAT32, level))
    y = lower_conv(given, constant(w, "w"), None, group=group, pads=[1] * 4)
    for is_strict, wanted in ((False, 0 * exact), (True, exact)):
        its = dataclasses.replace(target(level), is_strict=is_strict)
        runner = Runner([blocked(y, lanes(FLOAT32, level))], its)
        assert runner.kernels[-1].schedule in {"convolution", "window"}
        np.testing.assert_array_equal(runner.run({"x": x})[0], wanted)
        assert x[0, 0, 0, 0] * np.float32(2) == tiny / 2  # this thread keeps them, then as before
