"""Convolutions whose groups have few filters: rows of one channel in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.convolution import convolution
from fornix.compile.schedule.planes import plane_stages
from fornix.dtype import FLOAT16, FLOAT32, FLOAT64, DType
from fornix.ir.dim import equal
from fornix.ir.loops import Store, Tensor, compute, constant, stored, tensor
from fornix.ops import scalar as s
from fornix.ops.conv import conv, lower_conv, lower_conv_transpose
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner, check, compiled
from tests.compile.test_direct import H, N, Shape, W, blocked, data, image, lanes

GROUPS = [(4, 3, 6), (32, 4, 4), (16, 2, 2), (4, 12, 12), (16, 1, 2), (2, 20, 20)]
"""Groups, channels of each, filters of each, which fill no vectors."""


def grouped(x: Tensor, groups: int, filters: int, taps: tuple[int, ...], **more: Any) -> Tensor:
    """A convolution of ``x`` by whole numbers."""
    shape = (groups * filters, int(x.shape[1]) // groups, *taps)  # type: ignore[arg-type]
    weights, bias = (constant(data(x.dtype, s, {}, k)) for k, s in enumerate((shape, shape[:1])))
    return lower_conv(x, weights, bias, group=groups, **more)


def schedules(y: Tensor, level: str = "host") -> list[str]:
    return [k.schedule for k in Runner([y], target(level)).kernels]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("groups", "channels", "filters"), GROUPS)
def test_groups_of_few_filters_are_products_of_rows(
    groups: int, channels: int, filters: int, level: str
) -> None:
    shape = (2, groups * channels, 5, 19)
    y = grouped(tensor("x", shape, FLOAT32), groups, filters, (3, 3), pads=[1, 0, 1, 1])
    assert schedules(y, level)[-1] == "contraction"
    check(y, {"x": data(FLOAT32, shape, {}, 2)}, target=target(level), chunks=3)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("filters", "step"), [(3, 2), (2, 3)])
def test_rows_of_images_that_no_cache_holds_are_asked_for(
    filters: int, step: int, level: str
) -> None:
    shape = (1, 128, 90, 66)
    y = grouped(tensor("x", shape, FLOAT32), 1, filters, (3, 3), strides=[step] * 2, pads=[1] * 4)
    are_few = filters * 4 < lanes(FLOAT32, level)  # less than a quarter of a vector
    assert ("contraction" if are_few else "convolution") in schedules(y, level)
    assert shape[1] * shape[2] * shape[3] * 4 > target(level).l2_bytes // 2
    check(y, {"x": data(FLOAT32, shape, {}, 2)}, target=target(level), chunks=3)


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT64, DType.of("bfloat16")])
def test_every_float_is_convolved(dtype: DType) -> None:
    y = grouped(tensor("x", (1, 12, 6, 21), dtype), 4, 6, (3, 3), pads=[1] * 4)
    check(y, {"x": data(dtype, (1, 12, 6, 21), {}, 2)})


@pytest.mark.parametrize(
    "more",
    [
        {"strides": [2, 2]},
        {"strides": [1, 3], "pads": [0, 2, 1, 0]},
        {"dilations": [2, 3], "pads": [2] * 4},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"strides": [4, 4], "dilations": [1, 3], "pads": [1, 3, 1, 2]},
        {"strides": [2, 4], "dilations": [3, 5], "pads": [3, 5] * 2},
    ],
)
def test_windows_of_every_kind_are_convolved(more: dict[str, Any]) -> None:
    y = grouped(tensor("x", (2, 12, 9, 37), FLOAT32), 4, 6, (3, 3), **more)
    assert schedules(y)[-1] == "contraction"
    check(y, {"x": data(FLOAT32, (2, 12, 9, 37), {}, 2)})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("shape", "taps", "more"),
    [
        ((1, 1, 333), (5,), {"pads": [2, 2]}),
        ((2, 1, 500), (10,), {"strides": [5]}),
        ((1, 3, 9, 63), (3, 3), {"strides": [2, 2], "pads": [1] * 4}),
        ((1, 2, 3, 4, 30), (2, 2, 3), {"pads": [0, 1, 1] * 2}),
    ],
)
def test_sums_of_few_terms_are_written_row_by_row(
    shape: tuple[int, ...], taps: tuple[int, ...], more: dict[str, Any], level: str
) -> None:
    w = data(FLOAT32, (32, shape[1], *taps), {}, 1)
    y = stored(lower_conv(tensor("x", shape, FLOAT32), constant(w), None, **more))
    assert schedules(y, level)[-1] == "contraction"
    x = data(FLOAT32, shape, {}, 2)
    x.flat[x.size // 2] = np.nan
    (found,) = Runner([y], target(level), chunks=3).run({"x": x})
    np.testing.assert_array_equal(found, conv(x, w, None, **more))


def test_few_terms_that_lie_far_apart_or_between_zeros_are_summed_in_blocks() -> None:
    x, w = tensor("x", (1, 3, 32, 64), FLOAT32), constant(data(FLOAT32, (32, 3, 4, 4), {}, 1))
    assert "convolution" in schedules(stored(lower_conv(x, w, None, strides=[4, 4])))
    w = constant(data(FLOAT32, (3, 32, 4, 4), {}, 1))
    assert "convolution" in schedules(stored(lower_conv_transpose(x, w, None, strides=[2, 2])))


@pytest.mark.parametrize("shape", [(2, 12, 40), (1, 12, 4, 5, 9)])
def test_images_have_any_number_of_axes(shape: tuple[int, ...]) -> None:
    axes = len(shape) - 2
    y = grouped(tensor("x", shape, FLOAT32), 4, 3, (3,) * axes, pads=[1] * 2 * axes)
    check(y, {"x": data(FLOAT32, shape, {}, 2)})


@pytest.mark.parametrize("extents", [{"N": 1, "H": 3, "W": 1}, {"N": 2, "H": 8, "W": 50}])
def test_extents_may_be_open(extents: dict[str, int]) -> None:
    shape: Shape = (N, 12, H, W)
    y = grouped(tensor("x", shape, FLOAT32), 4, 6, (3, 3), pads=[1] * 4)
    check(y, {"x": data(FLOAT32, shape, extents, 2)}, extents)


@pytest.mark.parametrize("width", [37, 20, 7])
def test_of_taps_fewer_than_a_step_is_long_what_they_read_is_copied(width: int) -> None:
    shape, extents = (1, 12, H, W), {"H": 16, "W": width}
    more = {"strides": [4, 4], "dilations": [3, 3], "pads": [3] * 4}
    y = stored(grouped(tensor("x", shape, FLOAT32), 12, 3, (3, 3), **more))
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    c = convolution(y.buffer.source)
    assert c is not None
    copy, _ = plane_stages(c) or []
    assert equal(copy.buffer.elements, y.buffer.elements * 9 // 3) is True
    check(y, {"x": data(FLOAT32, shape, extents, 2)}, extents)


def test_images_in_blocks_are_read_and_written() -> None:
    shape = (2, 32, 5, 9)
    y = grouped(image("x", shape, FLOAT32, 16), 8, 4, (3, 3), pads=[1] * 4)
    check(blocked(y, 16), {"x": data(FLOAT32, shape, {}, 2)})


def test_the_result_may_have_its_channels_last() -> None:
    c = grouped(tensor("x", (2, 12, 5, 19), FLOAT32), 4, 6, (3, 3), pads=[1] * 4)
    y = compute([2, 5, 19, 24], lambda n, h, w, m: c[n, m, h, w])
    assert "contraction" in schedules(y)
    check(y, {"x": data(FLOAT32, (2, 12, 5, 19), {}, 2)})


@pytest.mark.parametrize(("groups", "channels", "filters"), GROUPS)
def test_what_is_not_finite_reaches_its_own_group_only(
    groups: int, channels: int, filters: int
) -> None:
    values = np.ones((1, groups * channels, 3, 3), np.float32)
    values[0, 0, 1, 1] = np.nan
    y = grouped(tensor("x", values.shape, FLOAT32), groups, filters, (3, 3), pads=[1] * 4)
    found = compiled(y, {"x": values})
    assert np.isnan(found[:, :filters]).all()
    assert np.isfinite(found[:, filters:]).all()


@pytest.mark.parametrize("filters", [1, 3])
@pytest.mark.parametrize("block", [1, 16])
def test_few_filters_without_groups_are_products_of_rows(filters: int, block: int) -> None:
    shape = (2, 16, 6, 21)
    y = grouped(image("x", shape, FLOAT32, block), 1, filters, (3, 3))
    assert "map" not in schedules(y)[1:]
    check(y, {"x": data(FLOAT32, shape, {}, 2)})


@pytest.mark.parametrize("taps", [(7,), (3, 5)])
@pytest.mark.parametrize("padded", [0, 2])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_one_filter_and_what_follows_it_are_computed_at_once(
    taps: tuple[int, ...], padded: int, dtype: DType
) -> None:
    shape = (1, 24, *(8,) * (len(taps) - 1), 61)
    stored_once = constant(data(dtype, (24, *taps), {}, 1))
    w = compute((1, 24, *taps), lambda _, *i: stored_once[i])  # whose filter nothing depends on
    sums = lower_conv(tensor("x", shape, dtype), w, None, pads=[padded] * 2 * len(taps))
    y = compute(sums.shape, lambda *i: s.maximum(sums[i] * 0.5, -3.0))
    *copies, last = schedules(y)
    assert copies == ["map"] * (padded > 0)
    assert last in {"contraction", "window"}
    check(y, {"x": data(dtype, shape, {}, 2)})


@pytest.mark.parametrize("filters", [1, 3])
@pytest.mark.parametrize("group", [1, 2])
def test_transposed_ones_of_few_filters_are_convolved(filters: int, group: int) -> None:
    x = tensor("x", (2, 16, 5, 19), FLOAT32)
    w = constant(data(FLOAT32, (16, filters, 4, 4), {}, 1))
    y = lower_conv_transpose(x, w, None, strides=[2, 2], pads=[1] * 4, group=group)
    if group == 1:
        assert set(schedules(y)) & {"contraction", "convolution"}
    check(y, {"x": data(FLOAT32, (2, 16, 5, 19), {}, 2)})
