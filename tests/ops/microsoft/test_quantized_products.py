from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree
from tests.ops.microsoft.test_quantized import quanta, scale

rng = np.random.default_rng(9)
PAIRS = pytest.mark.parametrize(
    ("left", "right"), [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)]
)


def zero(dtype: Any) -> Any:
    return np.array(rng.integers(-9, 9) + (128 if dtype is np.uint8 else 0), dtype)


def floats(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@PAIRS
@pytest.mark.parametrize("is_per_column", [False, True])
def test_a_product_is_scaled_to_floats(left: Any, right: Any, is_per_column: bool) -> None:
    columns = (5,) if is_per_column else ()
    b_scale = np.asarray(rng.random(columns) * 0.1 + 0.01, np.float32)
    b_zero = np.full(columns, zero(right), right)
    inputs = [quanta(2, 3, 16, dtype=left), quanta(16, 5, dtype=right), scale(0.02), b_scale]
    agree("MatMulIntegerToFloat", [*inputs, zero(left), b_zero, floats(5)], rtol=1e-5, atol=1e-4)
    agree("MatMulIntegerToFloat", inputs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("right", [np.int8, np.uint8])
@pytest.mark.parametrize("is_per_column", [False, True])
def test_a_factor_is_quantised_on_the_way(right: Any, is_per_column: bool) -> None:
    columns = (5,) if is_per_column else (1,)
    b_scale = np.asarray(rng.random(columns) * 0.1 + 0.01, np.float32)
    b_zero = np.full(columns, zero(right), right)
    inputs = [floats(3, 16), quanta(16, 5, dtype=right), b_scale, b_zero, floats(5)]
    agree("DynamicQuantizeMatMul", inputs, rtol=1e-4, atol=1e-4)
    agree("DynamicQuantizeMatMul", inputs[:3], rtol=1e-4, atol=1e-4)


@PAIRS
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("result", [None, "quanta"])
def test_gemm_ends_in_floats_or_quanta(
    left: Any, right: Any, trans: int, result: str | None
) -> None:
    a = quanta(16, 3, dtype=left) if trans else quanta(3, 16, dtype=left)
    b = quanta(5, 16, dtype=right) if trans else quanta(16, 5, dtype=right)
    bias = rng.integers(-5000, 5000, 5).astype(np.int32)
    inputs = [a, scale(0.02), zero(left), b, scale(0.03), zero(right), bias]
    inputs += [] if result is None else [scale(0.5), zero(left)]
    flags = {"transA": trans, "transB": trans, "alpha": 0.75}
    agree("QGemm", inputs, flags, rtol=1e-5, atol=1 if result else 1e-3)


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_takes_a_scale_per_column(trans: int) -> None:
    b = quanta(5, 16, dtype=np.int8) if trans else quanta(16, 5, dtype=np.int8)
    b_scale = (rng.random(5) * 0.1).astype(np.float32)
    inputs = [quanta(3, 16, dtype=np.uint8), scale(0.02), zero(np.uint8), b, b_scale]
    inputs += [np.zeros(5, np.int8), None, scale(0.5), zero(np.uint8)]
    agree("QGemm", inputs, {"transB": trans}, rtol=0, atol=1)


def test_gemm_says_what_does_not_fit() -> None:
    def run(*more: Any, a: Any = None) -> None:
        a = quanta(3, 4, dtype=np.uint8) if a is None else a
        inputs = [a, scale(1), zero(np.uint8), quanta(4, 5, dtype=np.int8), scale(1)]
        run_op("QGemm", [*inputs, zero(np.int8), *more], domain=DOMAIN, opset=1)

    with pytest.raises(ShapeError, match="y_scale and y_zero_point come together"):
        run(None, scale(1))
    with pytest.raises(ShapeError, match=r"C must broadcast to .* \[3, 5\], got C\[4\]"):
        run(np.zeros(4, np.int32))
    with pytest.raises(ShapeError, match="A and B must be matrices"):
        run(a=quanta(1, 3, 4, dtype=np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_quanta_have_8_or_16_bits(dtype: Any, axis: int | None) -> None:
    x = floats(2, 3, 4) * 50
    count = () if axis is None else x.shape[axis : axis + 1]
    flags = {} if axis is None else {"axis": axis}
    y_scale = np.asarray(rng.random(count) + 0.01, np.float32)
    origin = np.full(count, zero(dtype), dtype)
    [y] = agree("QuantizeLinear", [x, y_scale, origin], flags, rtol=0, atol=0)
    agree("DequantizeLinear", [y, y_scale, origin], flags)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_quanta_of_4_bits_saturate(dtype: Any) -> None:
    x, origin = np.array([-100, -2, 0, 2.5, 3.5, 100], np.float32), np.array(1, dtype)
    [y] = run_op("QuantizeLinear", [x, scale(1), origin], domain=DOMAIN, opset=1)
    low, high = (-8, 7) if dtype is ml_dtypes.int4 else (0, 15)
    assert y.astype(int).tolist() == [low, max(-1, low), 1, 3, 5, high]


def test_the_second_axis_is_that_of_scales() -> None:
    x, scales = floats(2, 3), np.array([1, 2, 4], np.float32)
    [y] = run_op("QuantizeLinear", [x, scales, np.zeros(3, np.int8)], domain=DOMAIN, opset=1)
    assert y.tolist() == np.rint(x / scales).tolist()
