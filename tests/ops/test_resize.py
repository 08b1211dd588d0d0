from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, INT64
from fornix.errors import DTypeError, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import Fact, as_value, tensor, unranked
from fornix.ops.interpolate import NEAREST_MODES, TRANSFORMATIONS
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, lower_op, peer, run_op

F32_SUM = 2e-5
"""Elements of size 1, weighted with positions that the peers compute in float32."""

N, C, H, W = (symbol(name) for name in "NCHW")

TF_NEAREST = "tf_half_pixel_for_nn"
ALIGNED = [t for t in TRANSFORMATIONS if t != "tf_crop_and_resize"]


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("transformation", ALIGNED)
@pytest.mark.parametrize("opset", [11, 13, 18, 19])
def test_nearest_agrees_with_onnxruntime(transformation: str, opset: int) -> None:
    if transformation == "half_pixel_symmetric" and opset < 19:
        return
    x = np.arange(40, dtype=np.float32).reshape(1, 1, 5, 8)
    roi = f32() if opset == 11 else None
    # The peer's half_pixel_symmetric is a rounding step off: floor and ceil would show it.
    modes = NEAREST_MODES[: 2 if transformation == "half_pixel_symmetric" else 4]
    for nearest_mode, height, width in itertools.product(modes, (3, 5, 10, 11), (2, 7, 24)):
        attributes = {
            "coordinate_transformation_mode": transformation, "nearest_mode": nearest_mode
        }  # fmt: skip
        inputs = [x, roi, f32() if opset == 11 else None, i64(1, 1, height, width)]
        expected = peer("Resize", inputs, attributes, opset=opset)
        check_node("Resize", inputs, attributes, opset=opset, expected=expected)


@pytest.mark.parametrize("transformation", ALIGNED)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation_agrees_with_onnxruntime(mode: str, transformation: str) -> None:
    x = normal(2, 3, 5, 8)
    for exclude, height, width in itertools.product((0, 1), (3, 10), (2, 7, 24)):
        attributes = {
            "mode": mode, "coordinate_transformation_mode": transformation,
            "exclude_outside": exclude if mode == "cubic" else 0, "cubic_coeff_a": -0.6,
        }  # fmt: skip
        inputs = [x, None, None, i64(2, 3, height, width)]
        expected = peer("Resize", inputs, attributes, opset=19)
        check_node(
            "Resize", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM
        )  # fmt: skip


def test_scales_agree_with_onnxruntime_where_the_target_is_whole() -> None:
    x = normal(1, 2, 4, 6)
    for mode, transformation, height, width in itertools.product(
        ("nearest", "linear", "cubic"), ALIGNED, (0.5, 1.25, 3.0), (0.5, 1.5)
    ):
        attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
        inputs = [x, None, f32(1, 1, height, width)]
        expected = peer("Resize", inputs, attributes, opset=19)
        check_node("Resize", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(3, 5), (20, 4), (9, 40)])
def test_antialiasing_without_outside_agrees_with_torch(mode: str, size: tuple[int, int]) -> None:
    x = normal(2, 3, 17, 23)
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x), size, mode=name, antialias=True, align_corners=False
    ).numpy()
    attributes = {
        "mode": mode, "antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5, "axes": [2, 3]
    }  # fmt: skip
    inputs = [x, None, None, i64(*size)]
    check_node("Resize", inputs, attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("align", [False, True])
def test_linear_agrees_with_torch_in_every_rank(rank: int, *, align: bool) -> None:
    x = normal(2, 3, *(6, 5, 4)[:rank])
    size = (9, 3, 8)[:rank]
    name = ("linear", "bilinear", "trilinear")[rank - 1]
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x), size, mode=name, align_corners=align
    ).numpy()
    transformation = "align_corners" if align else "pytorch_half_pixel"
    attributes = {"mode": "linear", "coordinate_transformation_mode": transformation}
    inputs = [x, None, None, i64(2, 3, *size)]
    check_node("Resize", inputs, attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_and_resize_agrees_with_onnxruntime(mode: str) -> None:
    x = normal(1, 1, 6, 7)
    for top, bottom, height in itertools.product((-0.3, 0.2), (0.7, 1.4), (1, 4, 9)):
        inputs = [x, f32(0, 0, top, 0.1, 1, 1, bottom, 0.8), None, i64(1, 1, height, 5)]
        attributes = {
            "mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 10.0,
        }  # fmt: skip
        expected = peer("Resize", inputs, attributes, opset=19)
        check_node("Resize", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_aspect_policies_agree_with_onnxruntime(policy: str, mode: str) -> None:
    x = normal(1, 2, 5, 7)
    for axes, height, width in itertools.product(([2, 3], [3, 2]), (3, 8), (4, 9)):
        inputs = [x, None, None, i64(height, width)]
        attributes = {"mode": mode, "axes": axes, "keep_aspect_ratio_policy": policy}
        expected = peer("Resize", inputs, attributes, opset=19)
        attributes["axes"] = [axis - 4 for axis in axes]
        check_node("Resize", inputs, attributes, expected=expected, rtol=F32_SUM, atol=F32_SUM)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_10_agrees_with_onnxruntime(mode: str) -> None:
    x = normal(1, 1, 6, 12)
    for height, width in itertools.product((0.6, 1.0, 2.5), (0.3, 0.5, 1.3)):
        inputs = [x, f32(1, 1, height, width)]
        expected = peer("Resize", inputs, {"mode": mode}, opset=10)
        check_node(
            "Resize", inputs, {"mode": mode}, opset=10, expected=expected, rtol=F32_SUM,
            atol=F32_SUM,
        )  # fmt: skip


@pytest.mark.parametrize("opset", [1, 7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_agrees_with_onnxruntime(opset: int, mode: str) -> None:
    x = normal(1, 2, 3, 4)
    scales = [1.0, 1.0, 2.0, 1.75]
    expected = peer("Upsample", [x, f32(*scales)], {"mode": mode}, opset=9)
    named = {"mode": "bilinear" if (opset, mode) == (1, "linear") else mode}
    inputs = [x, f32(*scales)] if opset == 9 else [x]
    if opset == 1:
        named |= {"height_scale": 2.0, "width_scale": 1.75}  # type: ignore[dict-item]
    elif opset == 7:
        named |= {"scales": scales}  # type: ignore[dict-item]
    check_node(
        "Upsample", inputs, named, opset=opset, expected=expected, rtol=F32_SUM, atol=F32_SUM
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_floats_are_interpolated_wide_and_rounded_once(dtype: Any, mode: str) -> None:
    x = normal(1, 2, 4, 5, dtype=dtype)
    inputs = [None, None, i64(1, 2, 7, 3)]
    [wide] = run_op("Resize", [x.astype(np.float64), *inputs], {"mode": mode})
    wanted = wide.astype(np.float32).astype(dtype) if dtype != np.float64 else wide
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node("Resize", [x, *inputs], {"mode": mode}, expected=[wanted], rtol=step, atol=step / 64)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_integers_are_rounded_to_nearest_and_saturate(dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, info.max, 0, 1], dtype)
    inputs = [x, None, None, i64(10)]
    [cubic] = run_op("Resize", inputs, {"mode": "cubic"})
    assert cubic.dtype == dtype
    assert cubic.max() == info.max  # cubic weights overshoot
    assert cubic.min() == info.min
    [linear] = run_op("Resize", inputs, {"mode": "linear"})
    assert linear[-3:].tolist() == [0, 1, 1]  # 0.25, 0.75, 1


@pytest.mark.parametrize(
    "x",
    [
        np.array(["a", "b"], object),
        np.array([True, False]),
        np.array([1 + 2j, 3j], np.complex64),
        np.array([2, 5], np.uint16),
    ],
)
def test_nearest_takes_every_dtype(x: Any) -> None:
    check_node("Resize", [x, None, f32(2)], {}, expected=[np.repeat(x, 2)])


def test_complex_numbers_are_interpolated() -> None:
    x = np.array([1 + 2j, 3 - 2j], np.complex64)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    wanted = np.array([1 + 2j, 2, 3 - 2j], np.complex64)
    check_node("Resize", [x, None, None, i64(3)], attributes, expected=[wanted])


def test_an_infinite_neighbour_without_weight_leaves_no_nan() -> None:
    x = f32(1, np.inf, 3, -np.inf)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    check_node("Resize", [x, None, None, i64(4)], attributes, expected=[x])
    wanted = f32(1, np.inf, np.inf, np.inf, 3, -np.inf, -np.inf)
    check_node("Resize", [x, None, None, i64(7)], attributes, expected=[wanted])


def test_empty_tensors_and_scalars_pass() -> None:
    empty = np.zeros((0, 3), np.float32)
    wanted = np.zeros((0, 6), np.float32)
    check_node("Resize", [empty, None, f32(1, 2)], {"mode": "linear"}, expected=[wanted])
    check_node("Resize", [f32(1, 2), None, None, i64(0)], {"mode": "linear"}, expected=[f32()])
    scalar = np.array(3, np.float32)
    check_node("Resize", [scalar, None, f32()], {"mode": "linear"}, expected=[scalar])


def test_an_extent_is_scaled_with_one_float32_product() -> None:
    # float32(0.7) · 10 is 6.9999999, which rounds to 7.
    x = np.arange(10, dtype=np.float32)
    [y] = run_op("Resize", [x, None, f32(0.7)], {})
    assert y.shape == peer("Resize", [x, None, f32(0.7)], {}, opset=19)[0].shape == (7,)


def resized(shape: Any, *inputs: Fact | None, opset: int = 19, **attributes: Any) -> Any:
    [fact] = infer_op("Resize", [tensor(FLOAT32, shape), *inputs], attributes, opset=opset)
    return fact


def test_symbolic_extents_are_scaled_by_whole_and_simple_factors() -> None:
    fact = resized((N, C, H, W), None, fact_of(f32(1, 1, 2, 0.5)))
    assert fact.shape == (N, C, 2 * H, W // 2)
    assert resized((N, C, H), None, fact_of(f32(1, 1, 1.5))).shape == (N, C, 3 * H // 2)


def test_symbolic_extents_with_odd_factors_stay_unknown() -> None:
    fact = resized((N, C, H, W), None, fact_of(f32(1, 1, 0.6, 1)))
    assert fact.shape[:2] == (N, C)
    assert fact.shape[2] != H
    assert fact.shape[3] == W


def test_sizes_become_extents_even_when_symbolic() -> None:
    sizes = tensor(INT64, (4,), as_value([N, C, 2 * H, 7]))
    assert resized((N, C, H, W), None, None, sizes).shape == (N, C, 2 * H, 7)
    [fact] = infer_op("Resize", [unranked(FLOAT32), None, None, sizes], {})
    assert fact.shape == (N, C, 2 * H, 7)


def test_only_named_axes_change() -> None:
    sizes = tensor(INT64, (2,))
    fact = resized((N, C, H, W), None, None, sizes, axes=[-1, 2])
    assert fact.shape[:2] == (N, C)
    assert "computed" in str(fact.shape[2].unknowns)


@pytest.mark.parametrize(("policy", "wanted"), [("not_larger", (6, 8)), ("not_smaller", (8, 11))])
def test_a_policy_gives_extents_or_formulas_of_them(policy: str, wanted: tuple[int, int]) -> None:
    sizes = fact_of(i64(8, 8))
    attributes: Any = {"axes": [2, 3], "keep_aspect_ratio_policy": policy}
    assert resized((N, C, 5, 7), None, None, sizes, **attributes).shape == (N, C, *wanted)
    shape = resized((N, C, H, W), None, None, sizes, **attributes).shape
    assert tuple(extent.bind({"H": 5, "W": 7}) for extent in shape[2:]) == wanted
    unknown = resized((N, C, H, W), None, None, tensor(INT64, (2,)), **attributes)
    assert "computed" in str(unknown.shape[2].unknowns)


def test_upsample_infers_products() -> None:
    [fact] = infer_op("Upsample", [tensor(FLOAT32, (N, C, H, 3))], {"scales": [1, 1, 2, 2.5]},
                      opset=7)  # fmt: skip
    assert fact.shape == (N, C, 2 * H, 7)
    attributes = {"height_scale": 3.0, "width_scale": 2.0}
    [fact] = infer_op("Upsample", [tensor(FLOAT32, (N, C, H, W))], attributes, opset=1)
    assert fact.shape == (N, C, 3 * H, 2 * W)


X4 = np.zeros((1, 1, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([X4], {}, "either scales or sizes is required, found neither"),
        ([X4, None, f32(1, 1, 1, 1), i64(1, 1, 1, 1)], {}, "scales or sizes is .*found both"),
        ([X4, None, f32(1, 2)], {}, "scales must have one element per resized axis, 4, found 2"),
        ([X4, None, None, i64(2)], {}, "sizes must have one element per resized axis, 4, found 1"),
        ([X4, None, f32(1, 1, 0, 1)], {}, "scales must be positive, got"),
        ([X4, None, None, i64(1, 1, -1, 1)], {}, "sizes must not be negative, got"),
        ([X4, None, f32(1, 1, 2, 2)], {"mode": "sinc"}, "mode must be among .*'sinc'"),
        ([X4, None, f32(1, 1, 2, 2)], {"nearest_mode": "up"}, "nearest_mode must be among"),
        (
            [X4, None, f32(1, 1, 2, 2)],
            {"coordinate_transformation_mode": "polar"},
            "coordinate_transformation_mode must be among",
        ),
        ([X4, None, f32(1, 1, 2, 2)], {"antialias": 1}, "antialias=1 needs mode linear or cubic"),
        (
            [X4, None, None, i64(1, 1, 2, 2)],
            {"keep_aspect_ratio_policy": "crop"},
            "keep_aspect_ratio_policy must be among",
        ),
        (
            [X4, f32(0, 1), None, i64(1, 1, 2, 2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            r"roi with a start and an end for each of 4 axes, found \[2\]",
        ),
        (
            [np.zeros((1, 0), np.float32), None, None, i64(1, 2)],
            {},
            "axis 1 has no elements to read, but 2 are required",
        ),
        ([X4, None, None, i64(3)], {"axes": [4]}, "axes must be in"),
    ],
)
def test_resize_says_what_is_wrong(inputs: Any, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Resize", inputs, attributes)


def test_strings_can_only_be_repeated() -> None:
    words = np.array(["a"], object)
    with pytest.raises(DTypeError, match="mode 'linear' needs numbers, found X of string"):
        run_op("Resize", [words, None, f32(2)], {"mode": "linear"})
    with pytest.raises(DTypeError, match="fills with a number, found X of string"):
        run_op(
            "Resize",
            [words, f32(0, 1), f32(2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
        )


@pytest.mark.parametrize(
    ("shape", "attributes", "opset", "message"),
    [
        ((1, 2), {"height_scale": 2.0, "width_scale": 2.0}, 1, "X must have 4 axes"),
        ((2,), {"scales": [0.5]}, 7, "scales must be at least 1"),
        ((1,), {"scales": [math.nan]}, 7, r"scales must be at least 1, got \[nan\]"),
        ((1,), {"scales": [math.inf]}, 7, r"scales must be positive, got \[inf\]"),
        ((2,), {"scales": [2.0], "mode": "cubic"}, 7, "mode must be among .*'cubic'"),
        ((2,), {"scales": [2.0, 1.0]}, 7, "scales must have one element per resized axis"),
    ],
)
def test_upsample_says_what_is_wrong(
    shape: tuple[int, ...], attributes: dict[str, Any], opset: int, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Upsample", [np.zeros(shape, np.float32)], attributes, opset=opset)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_nothing_is_inferred_from_scales_that_are_no_numbers(factor: float) -> None:
    [fact] = infer_op("Upsample", [tensor(FLOAT32, (4,))], {"scales": [factor]}, opset=7)
    assert not isinstance(fact.shape[0], int)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transformation", ALIGNED)
def test_resize_is_lowered_to_reads_with_weights(mode: str, transformation: str) -> None:
    x = normal(1, 2, 5, 7)
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
    any_extent = transformation != "tf_half_pixel_for_nn"
    for scales in (f32(1, 1, 2, 3), f32(1, 1, 0.625, 1.5), f32(1, 1, 2.75, 0.5)):
        check_lowering("Resize", [x, None, scales], attributes, symbolic=any_extent)
    check_lowering("Resize", [x, None, f32(1, 1, 2.7, 0.6)], attributes, symbolic=False)
    for sizes in (i64(1, 2, 9, 4), i64(1, 2, 5, 21), i64(1, 2, 1, 7)):
        check_lowering("Resize", [x, None, None, sizes], attributes, symbolic=any_extent)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_weights_of_loops_may_leave_out_what_lies_outside_or_reach_farther(mode: str) -> None:
    x, scales = normal(1, 2, 9, 7), f32(1, 1, 0.25, 2)
    for attributes in ({"exclude_outside": 1}, {"antialias": 1}):
        given = {"mode": mode, "cubic_coeff_a": -0.5, **attributes}
        check_lowering("Resize", [x, None, scales], given)
        check_lowering("Resize", [normal(2, 90), None, f32(1, 0.05)], given, symbolic=False)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_loops_fill_what_a_region_has_outside(mode: str) -> None:
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.5,
    }
    x, roi = normal(1, 2, 6, 8), f32(0, 0, -0.2, 0.3, 1, 1, 0.8, 1.4)
    for scales in (f32(1, 1, 2, 1.5), f32(1, 1, 0.5, 1)):
        check_lowering("Resize", [x, roi, scales], attributes, symbolic=False)


def test_loops_resize_all_axes_by_one_scale() -> None:
    for policy in ("not_larger", "not_smaller"):
        attributes = {"keep_aspect_ratio_policy": policy, "mode": "linear", "axes": [1, 2]}
        inputs = [normal(2, 4, 6), None, None, i64(7, 9)]
        check_lowering("Resize", inputs, attributes, symbolic=False)


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("transformation", ["asymmetric", "half_pixel"])
def test_nearest_along_symbolic_axes_is_lowered_to_arithmetic(
    nearest: str, transformation: str
) -> None:
    attributes = {"nearest_mode": nearest, "coordinate_transformation_mode": transformation}
    for shape in ((2, 3, 4, 5), (1, 2, 7, 31)):
        for scales in (f32(1, 1, 2, 2), f32(1, 1, 3, 1.5), f32(1, 1, 0.5, 0.25)):
            check_lowering("Resize", [normal(*shape), None, scales], attributes)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int32])
def test_every_dtype_is_resized_by_loops(dtype: Any) -> None:
    x = (normal(1, 2, 4, 6) * 50).astype(dtype)
    for mode in ("nearest", "linear", "cubic"):
        attributes = {"mode": mode}
        check_lowering("Resize", [x, None, f32(1, 1, 2.3, 0.7)], attributes, symbolic=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_older_versions_are_lowered_too(mode: str) -> None:
    x, scales = normal(1, 2, 4, 6), f32(1, 1, 2, 1.5)
    check_lowering("Resize", [x, scales], {"mode": mode}, opset=10)
    check_lowering("Resize", [x, f32(1, 1, 0.5, 0.75)], {"mode": mode}, opset=10)
    check_lowering("Upsample", [x, scales], {"mode": mode}, opset=9)
    attributes = {"mode": mode, "scales": scales.tolist()}
    check_lowering("Upsample", [x], attributes, opset=7)
    old = {"mode": mode, "height_scale": 2.0, "width_scale": 3.0}
    check_lowering("Upsample", [x], old, opset=1)


def test_an_infinite_neighbour_without_weight_leaves_no_nan_in_loops() -> None:
    x = np.array([[1, np.inf, 2, 3]], np.float32)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    check_lowering("Resize", [x, None, f32(1, 0.5)], attributes)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([normal(2, 3), None, None, i64(2, 5)], {"keep_aspect_ratio_policy": "not_larger"}),
        (
            [normal(4, 3), f32(0, 0.2, 1, 1.3), f32(1, 2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
        ),
        ([normal(2, 90), None, None, i64(2, 5)], {"mode": "linear", "antialias": 1}),
        ([normal(9, 13), None, None, i64(2, 50)], {"mode": "cubic", "antialias": 1}),
        ([normal(4, 6), None, f32(1, 1.5)], {"coordinate_transformation_mode": TF_NEAREST}),
    ],
)
def test_extents_and_regions_of_a_run_are_lowered(
    inputs: list[Any], attributes: dict[str, Any]
) -> None:
    check_lowering("Resize", inputs, attributes)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([normal(2, 3), None, f32(1, 2)[None]], {}, "its input scales is computed at run"),
        (
            [normal(2, 3), f32(0, 1), f32(1, 2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "regions need a start and an end for each axis",
        ),
    ],
)
def test_what_loops_do_not_resize_stays_with_the_kernel(
    inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotLowered, match=message):
        lower_op("Resize", inputs, attributes, is_symbolic="regions" in message)
