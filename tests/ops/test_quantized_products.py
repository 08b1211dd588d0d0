from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import BFLOAT16, FLOAT8E4M3FN, FLOAT8E5M2, INT8, INT32, UINT8, DType
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

TYPES = (INT8, UINT8)


def whole(shape: tuple[int, ...], dtype: DType, seed: int = 0) -> Any:
    low = -128 if dtype.is_signed else 0
    return np.random.default_rng(seed).integers(low, low + 256, shape).astype(dtype.numpy)


def scalar(value: Any, dtype: DType) -> Any:
    return np.array(value, dtype.numpy)


def single(value: float) -> Any:
    return np.array(value, np.float32)


@pytest.mark.parametrize("b_type", TYPES)
@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((4, 7), (7, 3)), ((2, 4, 7), (7, 3)), ((2, 1, 4, 7), (3, 7, 2))]
)
def test_mat_mul_integer_is_onnxruntimes(b_type: DType, a_shape: Any, b_shape: Any) -> None:
    a, b = whole(a_shape, UINT8), whole(b_shape, b_type, 1)
    zeros = [scalar(12, UINT8), scalar(3, b_type)]
    per_column = np.arange(b_shape[-1]).astype(b_type.numpy)
    for inputs in ([a, b], [a, b, *zeros], [a, b, zeros[0], per_column]):
        if len(b_shape) > 2 and inputs[-1] is per_column:
            continue
        wanted = peer("MatMulInteger", inputs)
        check_node("MatMulInteger", inputs, expected=wanted)


def test_zero_points_of_rows_and_stacks_are_subtracted() -> None:
    a, b = whole((2, 4, 5), INT8), whole((2, 5, 3), UINT8, 1)
    rows, columns = whole((2, 4, 1), INT8, 2), whole((2, 1, 3), UINT8, 3)
    exact = (a.astype(np.int64) - rows) @ (b.astype(np.int64) - columns)
    check_node("MatMulInteger", [a, b, rows, columns], expected=[exact.astype(np.int32)])
    exact = (a[0].astype(np.int64) - rows[0]) @ b[0].astype(np.int64)
    check_node("MatMulInteger", [a[0], b[0], rows[0, :, 0]], expected=[exact.astype(np.int32)])


@pytest.mark.parametrize("terms", [258, 259, 40_000])
def test_sums_are_exact_and_wrap_at_32_bits(terms: int) -> None:
    a, b = np.full((1, terms), 255, np.uint8), np.full((terms, 1), 255, np.uint8)
    a[0, 0] = 254
    exact = np.array([[terms * 255 * 255 - 255]])
    check_node("MatMulInteger", [a, b], expected=[exact.astype(np.int32)])


def test_mat_mul_integer_says_what_does_not_fit() -> None:
    a, b = whole((4, 5), INT8), whole((5, 3), INT8)
    message = r"a_zero_point must be one number or have one per row of the matrices \[4, 5\], got"
    with pytest.raises(ShapeError, match=message):
        run_op("MatMulInteger", [a, b, whole((5,), INT8)])
    facts = [tensor(INT8, shape) for shape in ((4, 5), (5, 3), (), (4,))]
    with pytest.raises(ShapeError, match=r"b_zero_point must be one number or have one per column"):
        infer_op("MatMulInteger", facts)


def test_products_infer_symbolic_rows() -> None:
    n = symbol("N")
    [y] = infer_op("MatMulInteger", [tensor(UINT8, (n, 5)), tensor(INT8, (5, 3))])
    assert (y.dtype, y.shape) == (INT32, (n, 3))
    x, w = tensor(UINT8, (n, 3, 8, 8)), tensor(INT8, (4, 3, 3, 3))
    assert infer_op("ConvInteger", [x, w], {"strides": [2, 2]})[0].shape == (n, 4, 3, 3)


@pytest.mark.parametrize("y_type", TYPES)
@pytest.mark.parametrize("shape", [(4, 9), (2, 4, 9)])
def test_q_linear_mat_mul_is_onnxruntimes(y_type: DType, shape: Any) -> None:
    a, b = whole(shape, y_type), whole((9, 3), y_type, 1)
    zero = scalar(3, y_type)
    for b_scale, b_zero in [
        (single(0.02), scalar(7, y_type)),
        (np.array([0.02, 0.5, 0.001], np.float32), scalar([1, 2, 3], y_type)),
    ]:
        inputs = [a, single(0.5), zero, b, b_scale, b_zero, single(2.5), zero]
        wanted = peer("QLinearMatMul", inputs, opset=10)
        check_node("QLinearMatMul", inputs, expected=wanted, opset=10)


@pytest.mark.parametrize("dtype", [FLOAT8E4M3FN, FLOAT8E5M2])
def test_q_linear_mat_mul_multiplies_float8(dtype: DType) -> None:
    stream = np.random.default_rng(0)
    a = stream.standard_normal((3, 5)).astype(np.float32).astype(dtype.numpy)
    b = stream.standard_normal((5, 2)).astype(np.float32).astype(dtype.numpy)
    zero, scale = scalar(0, dtype), np.array(0.5, BFLOAT16.numpy)
    exact = a.astype(np.float64) @ b.astype(np.float64) * 0.5
    expected = exact.astype(np.float32).astype(dtype.numpy)
    check_node("QLinearMatMul", [a, scale, zero, b, scale, zero, scale, zero], expected=[expected])


def test_q_linear_mat_mul_takes_scales_per_row() -> None:
    a, b = whole((3, 6), INT8), whole((6, 4), INT8, 1)
    a_scale, b_scale = np.array([0.5, 1, 2], np.float32), np.array([1, 2, 0.25, 4], np.float32)
    y_scale, y_zero = np.array([64, 128, 32], np.float32), scalar([1, -2, 3], INT8)
    exact = (a.astype(np.int64) @ b.astype(np.int64)) * a_scale[:, None] * b_scale
    rounded = np.rint(exact / y_scale[:, None]) + y_zero[:, None]
    expected = np.clip(rounded, -128, 127).astype(np.int8)
    zeros = [scalar([0] * n, INT8) for n in (3, 4)]
    inputs = [a, a_scale, zeros[0], b, b_scale, zeros[1], y_scale, y_zero]
    check_node("QLinearMatMul", inputs, expected=[expected])


WINDOWS: tuple[dict[str, Any], ...] = (
    {},
    {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"dilations": [2, 1]},
)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("w_type", TYPES)
def test_conv_integer_is_onnxruntimes(window: dict[str, Any], group: int, w_type: DType) -> None:
    x, w = whole((2, 4, 7, 6), UINT8), whole((6, 4 // group, 3, 2), w_type, 1)
    attributes = {"group": group, **window}
    for zeros in ([], [scalar(9, UINT8), scalar(5, w_type)]):
        wanted = peer("ConvInteger", [x, w, *zeros], attributes)
        check_node("ConvInteger", [x, w, *zeros], attributes, expected=wanted)


def test_conv_integer_takes_a_zero_point_per_filter() -> None:
    x, w = whole((1, 2, 9), INT8), whole((3, 2, 4), INT8, 1)
    zeros = scalar([1, -2, 3], INT8)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), 4, 2)
    exact = np.einsum("ncot,mct->nmo", windows, w.astype(np.int64) - zeros[:, None, None])
    inputs = [x, w, scalar(0, INT8), zeros]
    check_node("ConvInteger", inputs, expected=[exact.astype(np.int32)])


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("w_type", TYPES)
def test_q_linear_conv_is_onnxruntimes(window: dict[str, Any], group: int, w_type: DType) -> None:
    x, w = whole((2, 4, 7, 6), UINT8), whole((6, 4 // group, 3, 2), w_type, 1)
    bias = np.arange(-3000, 3000, 1000, dtype=np.int32)
    attributes = {"group": group, **window}
    scales = np.linspace(0.001, 0.1, 6, dtype=np.float32)
    for w_scale, w_zero in [(single(0.01), scalar(3, w_type)), (scales, scalar([4] * 6, w_type))]:
        inputs = [x, single(0.5), scalar(100, UINT8), w, w_scale, w_zero, single(1.5),
                  scalar(90, UINT8), bias]  # fmt: skip
        for given in (inputs, inputs[:-1]):
            wanted = peer("QLinearConv", given, attributes)
            found = run_op("QLinearConv", given, attributes)[0]
            # The peer multiplies by a reciprocal here and there: ties may go the other way.
            assert np.abs(found.astype(int) - wanted[0]).max() <= 1
            assert (found != wanted[0]).mean() < 1e-2
            check_node("QLinearConv", given, attributes, expected=[found])


def test_q_linear_conv_rounds_ties_to_even_before_the_zero_point() -> None:
    x, w = scalar([1, 2, 3, 5], UINT8).reshape(1, 1, 4), scalar([[[1]]], UINT8)
    one, zero = single(1), scalar(0, UINT8)
    inputs = [x, one, zero, w, one, zero, single(2), scalar(1, UINT8)]
    expected = scalar([1, 2, 3, 3], UINT8).reshape(1, 1, 4)
    check_node("QLinearConv", inputs, expected=[expected])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {4: np.ones(3, np.float32)},
            r"w_scale must be one number or have one per filter \(2\), g",
        ),
        ({5: np.zeros(5, np.uint8)}, r"w_zero_point must be one number or have one per filter"),
        ({8: np.zeros(5, np.int32)}, r"B must have one element per filter \(2\), got B\[5\]"),
        ({1: np.ones(2, np.float32)}, r"x_scale must be one number, got x_scale\[2\]"),
        ({2: np.zeros(2, np.uint8)}, r"x_zero_point must be one number, got x_zero_point\[2\]"),
        ({7: np.zeros(2, np.uint8)}, r"y_zero_point must be one number, got y_zero_point\[2\]"),
        ({3: np.zeros((2, 4, 3, 3), np.uint8)}, "reads 4 channels, but X"),
    ],
)
def test_q_linear_conv_says_what_does_not_fit(change: dict[int, Any], message: str) -> None:
    inputs: list[Any] = [
        whole((1, 3, 5, 5), UINT8), single(1), scalar(0, UINT8), whole((2, 3, 3, 3), UINT8),
        single(1), scalar(0, UINT8), single(1), scalar(0, UINT8), np.zeros(2, np.int32),
    ]  # fmt: skip
    for index, value in change.items():
        inputs[index] = value
    with pytest.raises(ShapeError, match=message):
        run_op("QLinearConv", inputs)


@pytest.mark.parametrize("b_type", TYPES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_products_of_integers_are_lowered(b_type: DType, batch: Any) -> None:
    a, b = whole((*batch, 4, 7), UINT8), whole((7, 3), b_type, 1)
    for zeros in (
        [],
        [scalar(12, UINT8), scalar(3, b_type)],
        [whole((4,), UINT8), whole((3,), b_type)],
        [None, whole((3,), b_type)],
    ):
        check_lowering("MatMulInteger", [a, b, *zeros])


def test_sums_that_wrap_are_lowered() -> None:
    a, b = np.full((1, 40_000), 255, np.uint8), np.full((40_000, 1), 255, np.uint8)
    check_lowering("MatMulInteger", [a, b])


@pytest.mark.parametrize("stored", [INT8, UINT8, FLOAT8E4M3FN])
def test_quantised_products_are_lowered(stored: DType) -> None:
    a, b = ((whole(s, INT8) % 7).astype(stored.numpy) for s in ((2, 4, 5), (5, 3)))
    per_row = [np.linspace(0.1, 0.5, 4, dtype=np.float32), np.arange(4).astype(stored.numpy)]
    per_column = [np.linspace(0.1, 0.5, 3, dtype=np.float32), np.arange(3).astype(stored.numpy)]
    one = [single(0.2), scalar(1, stored)]
    check_lowering("QLinearMatMul", [a, *one, b, *one, *one])
    check_lowering("QLinearMatMul", [a, *per_row, b, *per_column, *one])


@pytest.mark.parametrize("group", [1, 2])
def test_quantised_convolutions_are_lowered(group: int) -> None:
    x, w = whole((2, 4, 6, 5), UINT8), whole((6, 4 // group, 3, 2), INT8, 1)
    attributes = {"group": group, "pads": [1, 0, 1, 1], "strides": [2, 1]}
    where = {"symbolic": group == 1}
    zeros = [scalar(7, UINT8), whole((6,), INT8)]
    for inputs in ([x, w], [x, w, zeros[0]], [x, w, zeros[0], scalar(2, INT8)], [x, w, *zeros]):
        check_lowering("ConvInteger", inputs, attributes, **where)
    scales = np.linspace(0.01, 0.05, 6, dtype=np.float32)
    bias = np.arange(6, dtype=np.int32) * 100
    for of_w, zero in ((scales, zeros[1]), (single(0.02), scalar(1, INT8))):
        inputs = [x, single(0.1), zeros[0], w, of_w, zero, single(0.3), scalar(5, UINT8), bias]
        check_lowering("QLinearConv", inputs, attributes, **where)
        check_lowering("QLinearConv", inputs[:-1], attributes, **where)
