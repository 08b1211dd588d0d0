from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import Fact, as_value, tensor
from fornix.ops.window import Window
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

F32_SUM = 1e-5
"""A window's elements, of size 1, summed in another order."""

N, C, H, W = (symbol(name) for name in "NCHW")


def random_window(rng: np.random.Generator, rank: int, *, is_dilated: bool) -> dict[str, Any]:
    """Attributes where onnxruntime follows the standard: it ignores dilations for SAME."""
    taps = rng.integers(1, 5, rank)
    strides = rng.integers(1, 4, rank)
    attributes: dict[str, Any] = {"kernel_shape": taps.tolist()}
    padding = rng.choice(["pads", "pads", "VALID", "SAME_UPPER", "SAME_LOWER"])
    if padding == "pads":
        attributes["pads"] = [int(rng.integers(0, k)) for k in (*taps, *taps)]
    else:
        attributes["auto_pad"] = str(padding)
        strides = np.minimum(strides, taps)
    if is_dilated and not padding.startswith("SAME"):
        attributes["dilations"] = rng.integers(1, 3, rank).tolist()
    return {**attributes, "strides": strides.tolist()}


def since(opset: int, first: int, attributes: dict[str, Any]) -> dict[str, Any]:
    return attributes if opset >= first else {}


@pytest.mark.parametrize("opset", [8, 10, 12, 22])
def test_max_pool_and_its_indices_agree_with_onnxruntime(opset: int) -> None:
    rng = np.random.default_rng(opset)
    for order, ceil_mode, rank in itertools.product((0, 1), (0, 1), (1, 2, 3)):
        attributes = {
            **random_window(rng, rank, is_dilated=opset >= 10),
            "storage_order": order,
            **since(opset, 10, {"ceil_mode": ceil_mode}),
        }
        x = rng.integers(-4, 4, (2, 2, *rng.integers(7, 10, rank))).astype(np.float32)
        expected = peer("MaxPool", [x], attributes, opset=opset, outputs=2)
        check_node("MaxPool", [x], attributes, opset=opset, expected=expected)
        check_node("MaxPool", [x], attributes, opset=opset, expected=expected[:1])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, ml_dtypes.bfloat16, np.float64])
def test_max_pool_is_exact_in_every_dtype(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (1, 2, 6, 6)).astype(dtype)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    wide = run_op("MaxPool", [x.astype(np.float32)], attributes, outputs=2)
    expected = [wide[0].astype(dtype), wide[1]]
    check_node("MaxPool", [x], attributes, expected=expected)
    check_node("MaxPool", [x], attributes, expected=expected[:1])


def test_max_pool_lets_nan_prevail() -> None:
    x = np.array([[[1, np.nan, 3, -np.inf]]], np.float32)
    wanted = torch.nn.functional.max_pool1d(torch.from_numpy(x), 2, 1).numpy()
    attributes = {"kernel_shape": [2]}
    check_node("MaxPool", [x], attributes, expected=[wanted, np.array([[[1, 1, 2]]])])
    check_node("MaxPool", [x], attributes, expected=[wanted])


def test_a_window_of_minus_infinity_has_a_place_and_one_of_padding_has_none() -> None:
    x = np.full((1, 1, 2), -np.inf, np.float32)
    attributes = {"kernel_shape": [1], "pads": [1, 1]}
    check_node(
        "MaxPool", [x], attributes, expected=[np.full((1, 1, 4), -np.inf, np.float32),
                                              np.array([[[-1, 0, 1, -1]]])],
    )  # fmt: skip
    least = np.full((1, 1, 2), -128, np.int8)
    [y] = run_op("MaxPool", [least], attributes)
    assert y.tolist() == [[[-128] * 4]]


@pytest.mark.parametrize("opset", [7, 10, 11, 19, 22])
def test_average_pool_agrees_with_onnxruntime(opset: int) -> None:
    rng = np.random.default_rng(opset)
    for include, ceil_mode, rank in itertools.product((0, 1), (0, 1), (1, 2, 3)):
        attributes = {
            **random_window(rng, rank, is_dilated=opset >= 19),
            "count_include_pad": include,
            **since(opset, 10, {"ceil_mode": ceil_mode}),
        }
        x = rng.standard_normal((2, 2, *rng.integers(7, 10, rank))).astype(np.float32)
        expected = peer("AveragePool", [x], attributes, opset=opset)
        check_node(
            "AveragePool", [x], attributes, opset=opset, expected=expected, rtol=F32_SUM,
            atol=F32_SUM,
        )  # fmt: skip


@pytest.mark.parametrize("include", [False, True])
def test_average_pool_counts_in_ceil_mode_as_torch_does(*, include: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 8, 9)).astype(np.float32)
    wanted = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x), 3, 2, 1, ceil_mode=True, count_include_pad=include
    ).numpy()
    attributes = {
        "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1,
        "count_include_pad": int(include),
    }  # fmt: skip
    check_node("AveragePool", [x], attributes, expected=[wanted], rtol=F32_SUM, atol=F32_SUM)


def test_average_pool_before_7_leaves_padding_out() -> None:
    x = np.ones((1, 1, 4), np.float32)
    attributes = {"kernel_shape": [3], "pads": [1, 1]}
    check_node("AveragePool", [x], attributes, opset=1, expected=[x])


def test_the_mean_of_a_window_without_elements_is_zero() -> None:
    x = np.ones((1, 1, 1), np.float32)
    attributes = {"kernel_shape": [2], "dilations": [2], "pads": [1, 1]}
    check_node("AveragePool", [x], attributes, expected=[np.zeros((1, 1, 1), np.float32)])


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("opset", [2, 11, 18, 22])
def test_lp_pool_agrees_with_onnxruntime(opset: int, p: int) -> None:
    rng = np.random.default_rng(opset)
    for rank in (1, 2, 3):
        attributes = {**random_window(rng, rank, is_dilated=opset >= 18), "p": p}
        x = rng.standard_normal((2, 2, *rng.integers(7, 10, rank))).astype(np.float32)
        expected = peer("LpPool", [x], attributes, opset=opset)
        check_node(
            "LpPool", [x], attributes, opset=opset, expected=expected, rtol=F32_SUM, atol=F32_SUM
        )


def test_lp_pool_1_has_a_real_p() -> None:
    x = np.array([[[1.0, -2.0, 3.0]]], np.float32)
    wanted = [[[(1 + 2**1.5) ** (2 / 3), (2**1.5 + 3**1.5) ** (2 / 3)]]]
    attributes = {"kernel_shape": [2], "p": 1.5}
    check_node(
        "LpPool", [x], attributes, opset=1, expected=[np.array(wanted, np.float32)], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "attributes", "reference"),
    [
        ("GlobalAveragePool", {}, lambda x: x.mean((2, 3), keepdims=True)),
        ("GlobalMaxPool", {}, lambda x: x.max((2, 3), keepdims=True)),
        ("GlobalLpPool", {"p": 1}, lambda x: np.abs(x).sum((2, 3), keepdims=True)),
        ("GlobalLpPool", {}, lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True))),
        ("GlobalLpPool", {"p": 3}, lambda x: np.cbrt(np.abs(x**3).sum((2, 3), keepdims=True))),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_global_pools_reduce_each_channel(
    name: str, attributes: dict[str, Any], reference: Any, dtype: Any
) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(dtype)
    wanted = np.asarray(reference(x.astype(np.float64)), dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    check_node(name, [x], attributes, expected=[wanted], rtol=4 * step, atol=step)


def test_a_global_pool_without_spatial_axes_changes_nothing() -> None:
    x = np.array([[1, 2]], np.float32)
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        check_node(name, [x], expected=[x])


def test_max_unpool_undoes_max_pool() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 6, 4)).astype(np.float32)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, places = run_op("MaxPool", [x], attributes, outputs=2)
    expected = peer("MaxUnpool", [y, places], attributes)
    check_node("MaxUnpool", [y, places], attributes, expected=expected)
    check_node("MaxPool", [np.where(expected[0] == x, x, -9)], attributes, expected=[y, places])


def test_max_unpool_takes_its_shape_from_an_input_if_it_is_known() -> None:
    pooled, places = tensor(FLOAT32, (N, C, H, W)), tensor(INT64, (N, C, H, W))
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    [y] = infer_op("MaxUnpool", [pooled, places], attributes)
    assert y.shape == (N, C, 2 * H, 2 * W)
    shape = tensor(INT64, (4,), as_value([N, C, 9, 9]))
    [y] = infer_op("MaxUnpool", [pooled, places, shape], attributes)
    assert y.shape == (N, C, 9, 9)
    [y] = infer_op("MaxUnpool", [pooled, places, tensor(INT64, (4,))], attributes)
    assert y.rank == 4


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_max_roi_pool_agrees_with_onnxruntime(scale: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 11, 13)).astype(np.float32)
    corners = np.sort(rng.integers(0, int(13 / scale), (12, 2, 2)), axis=1).reshape(12, 4)
    images = rng.integers(0, 2, (12, 1))
    rois = np.concatenate([images, corners], axis=1).astype(np.float32)
    attributes = {"pooled_shape": [3, 2], "spatial_scale": scale}
    expected = peer("MaxRoiPool", [x, rois], attributes, opset=13)
    check_node("MaxRoiPool", [x, rois], attributes, expected=expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 7)])
def test_max_roi_pool_is_lowered(shape: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, 5, 9)).astype(dtype)
    x[0, 0, 1, 2] = np.nan
    corners = rng.uniform(-8, 24, (9, 4))  # beyond the image, and the wrong way round
    rois = np.concatenate([rng.integers(0, 2, (9, 1)), corners], axis=1).astype(dtype)
    attributes = {"pooled_shape": list(shape), "spatial_scale": 0.5}
    check_lowering("MaxRoiPool", [x, rois], attributes, rtol=0, atol=0)


def test_pools_infer_symbolic_extents() -> None:
    x = tensor(FLOAT32, (N, C, H, W))
    facts = infer_op(
        "MaxPool", [x], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, outputs=2
    )
    for fact, dtype in zip(facts, (FLOAT32, INT64), strict=True):
        assert fact.dtype is dtype
        assert fact.shape == (N, C, (H - 1) // 2 + 1, (W - 1) // 2 + 1)
    same = {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}
    assert infer_op("AveragePool", [x], same)[0].shape == (N, C, H, W)
    assert infer_op("GlobalMaxPool", [x])[0].shape == (N, C, 1, 1)


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "opset", "message"),
    [
        ("MaxPool", [zeros(1, 2)], {"kernel_shape": [2]}, 22,
         r"X must have rank 3 or more, got X\[1, 2\]"),
        ("AveragePool", [zeros(1, 2, 3)], {"kernel_shape": [2, 2]}, 22,
         r"kernel_shape must have one entry per spatial axis \(1\), got \[2, 2\]"),
        ("LpPool", [zeros(1, 2, 3)], {}, 1, "kernel_shape is required, found none"),
        ("GlobalMaxPool", [zeros(2)], {}, 22, "X must have rank 2 or more, got rank 1"),
        ("MaxUnpool", [zeros(1, 2, 3), zeros(1, 2, 4, dtype=np.int64)], {"kernel_shape": [2]}, 22,
         r"I must have the shape of X\[1, 2, 3\], got I\[1, 2, 4\]"),
        ("MaxUnpool", [zeros(1, 2), zeros(1, 2, dtype=np.int64)], {"kernel_shape": []}, 22,
         r"X must have rank 3 or more, got X\[1, 2\]"),
        ("MaxUnpool",
         [zeros(1, 2, 3), zeros(1, 2, 3, dtype=np.int64), zeros(2, dtype=np.int64)],
         {"kernel_shape": [2]}, 22,
         r"output_shape must have one entry per axis of X \(3\), got shape \[2\]"),
        ("MaxRoiPool", [zeros(1, 2, 3), zeros(1, 5)], {"pooled_shape": [1, 1]}, 22,
         r"X must be \[N, C, H, W\], got X\[1, 2, 3\]"),
        ("MaxRoiPool", [zeros(1, 2, 3, 3), zeros(1, 4)], {"pooled_shape": [1, 1]}, 22,
         r"rois must be \[R, 5\], got rois\[1, 4\]"),
        ("MaxRoiPool", [zeros(1, 2, 3, 3), zeros(1, 5)], {"pooled_shape": [0, 1]}, 22,
         r"pooled_shape must be two positive extents, got \[0, 1\]"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], opset: int, message: str
) -> None:
    facts: list[Fact | None] = [tensor(None, x.shape) for x in inputs]
    with pytest.raises(ShapeError, match=message):
        run_op(name, inputs, attributes, opset=opset)
    with pytest.raises(ShapeError, match=message):
        infer_op(name, facts, attributes, opset=opset)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "error", "message"),
    [
        ("LpPool", [zeros(1, 1, 3)], {"kernel_shape": [1], "p": 0}, ShapeError,
         "p must be positive, got 0"),
        ("MaxUnpool", [zeros(1, 1, 1), np.full((1, 1, 1), 2)], {"kernel_shape": [2]}, Fail,
         r"I must lie in \[0, 2\), found \[2\]"),
        ("MaxRoiPool", [zeros(1, 1, 3, 3), np.full((1, 5), 1, np.float32)],
         {"pooled_shape": [1, 1]}, Fail, "no image 1 among 1"),
        ("MaxRoiPool", [zeros(1, 1, 3, 3), np.array([[0, 1, 1, 1e30, 1]], np.float32)],
         {"pooled_shape": [1, 1]}, Fail, r"regions must have finite corners within ±2\^31, got"),
    ],
)  # fmt: skip
def test_contents_that_do_not_fit_are_named(
    name: str, inputs: list[Any], attributes: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        run_op(name, inputs, attributes)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_lowered_max_pool_equals_its_kernel(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for rank, order in itertools.product((1, 2, 3), (0, 1)):
        attributes = {**random_window(rng, rank, is_dilated=True), "storage_order": order}
        x = rng.integers(-3, 3, (2, 2, *rng.integers(7, 10, rank))).astype(dtype)
        if dtype != np.int8:
            x[0, 0, :3] = np.nan
            x[1, 1] = -np.inf
        for outputs in (1, 2):
            check_lowering("MaxPool", [x], attributes, outputs=outputs)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_lowered_average_pool_equals_its_kernel(include: int, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for rank in (1, 2, 3):
        attributes = {
            **random_window(rng, rank, is_dilated=True),
            "count_include_pad": include,
            "ceil_mode": 1,
        }
        x = rng.standard_normal((2, 2, *rng.integers(7, 10, rank))).astype(dtype)
        step = max(F32_SUM, float(ml_dtypes.finfo(dtype).eps))
        check_lowering("AveragePool", [x], attributes, rtol=step, atol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_lowered_global_average_pool_equals_its_kernel(dtype: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(dtype)
    step = max(F32_SUM, float(ml_dtypes.finfo(dtype).eps))
    check_lowering("GlobalAveragePool", [x], rtol=step, atol=F32_SUM)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_pools_of_maxima_and_norms_are_lowered(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5)).astype(dtype)
    check_lowering("GlobalMaxPool", [x])
    for p in (1, 2, 3):
        check_lowering("GlobalLpPool", [x], {"p": p})
        attributes = {**random_window(rng, 2, is_dilated=True), "p": p}
        check_lowering("LpPool", [np.tile(x, 3)], attributes, opset=22)
    x[0, 0, 1, 2] = np.nan
    check_lowering("GlobalMaxPool", [x])


def test_max_unpool_is_lowered() -> None:
    stream = np.random.default_rng(0)
    x = stream.standard_normal((1, 2, 3, 4)).astype(np.float32)
    places = stream.permutation(2 * 6 * 8)[: x.size].reshape(x.shape)
    places[0, 0, 0, :2] = 5
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check_lowering("MaxUnpool", [x, places], attributes)
    check_lowering("MaxUnpool", [x, places, np.array([1, 2, 7, 5])], attributes)


# What windows far beyond the data hold: every window of twelve elements under SAME reads them all.
REACHING = {"kernel_shape": [2**40], "auto_pad": "SAME_UPPER"}


@pytest.mark.parametrize(
    ("name", "attributes", "wanted"),
    [
        ("MaxPool", REACHING, 11.0),
        ("LpPool", {**REACHING, "p": 1}, 66.0),
        ("AveragePool", REACHING, 5.5),
        ("AveragePool", {**REACHING, "count_include_pad": 1}, 66 / 2**40),
        ("MaxPool", {"kernel_shape": [10**9], "pads": [5 * 10**8, 5 * 10**8 - 12]}, 11.0),
    ],
)
def test_windows_far_beyond_the_data_cost_no_more_than_the_data(
    name: str, attributes: dict[str, Any], wanted: float
) -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 12)
    (y,) = run_op(name, [x], attributes)
    np.testing.assert_allclose(y[0, 0, -1], wanted, rtol=F32_SUM)
    check_lowering(name, [x], attributes, symbolic=False)


def test_windows_that_may_go_far_beyond_the_data_are_left_to_the_kernel() -> None:
    x = np.zeros((1, 1, 12), np.float32)
    for name in ("MaxPool", "LpPool", "AveragePool"):
        with pytest.raises(NotLowered, match="its window may go far beyond the data"):
            lower_op(name, [x], REACHING, is_symbolic=True)


def test_places_of_windows_far_beyond_the_data() -> None:
    x = np.array([[[3.0, 7.0, 7.0]]], np.float32)
    y, places = run_op("MaxPool", [x], REACHING, outputs=2)
    assert y.tolist() == [[[7.0, 7.0, 7.0]]]
    assert places.tolist() == [[[1, 1, 1]]]


def test_dilated_windows_are_trimmed_to_taps_that_meet_data() -> None:
    window = Window.of((5,), (9,), dilations=[3], pads=[13, 11], strides=[2])
    trimmed = window.trimmed()
    assert (window.taps, trimmed.taps, trimmed.before, trimmed.out) == ((9,), (3,), (4,), (3,))
    meets = [(o, o * 2 + k * 3 - 13) for o in range(3) for k in range(9)]
    kept = [(o, o * 2 + k * 3 - 4) for o in range(3) for k in range(3)]
    assert {m for m in meets if 0 <= m[1] < 5} == {m for m in kept if 0 <= m[1] < 5}
