from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from fornix.dtype import INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor
from tests.ops.harness import check_node, infer_op, peer, run_op

RANDOM = np.random.default_rng(5)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, np.inf, -np.inf, np.nan, 1e-40, 3e38])
F32_RTOL = 4 * 2.0**-23  # a few units in the last place of float32
N = symbol("N")

UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Erf": special.erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Round": np.round,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Sqrt": np.sqrt,
    "Tan": np.tan,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_functions_of_one_element_equal_their_formula(name: str, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        x = np.concatenate([SPECIAL, RANDOM.standard_normal(20)]).astype(dtype)
        wide = x.astype(np.float64)
        wanted = UNARY[name](wide).astype(dtype)
    step = float(ml_dtypes.finfo(dtype).eps)
    # sin and cos of 3e38 depend on every bit of π; everything else is within a few steps.
    x, wanted = (
        a[np.abs(wide) < 1e30] if name in {"Sin", "Cos", "Tan"} else a for a in (x, wanted)
    )
    check_node(name, [x], expected=[wanted], rtol=8 * step, atol=8 * step)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", [*INTEGERS, np.float32, np.float64, np.float16])
def test_functions_of_two_elements_broadcast(name: str, dtype: Any) -> None:
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    low, high = (info.min, info.max) if info else (-9, 9)
    a = RANDOM.integers(low, high, (3, 1, 4), dtype=dtype if info else np.int64).astype(dtype)
    b = RANDOM.integers(low, high, (2, 1), dtype=dtype if info else np.int64).astype(dtype)
    with np.errstate(all="ignore"):
        wanted = BINARY[name](a, b)
    check_node(name, [a, b], expected=[wanted])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_divide_towards_zero(dtype: Any) -> None:
    a = np.array([7, 9, 100, 0], dtype)
    b = np.array([2, 4, 7, 5], dtype)
    if np.dtype(dtype).kind == "i":
        a, b = np.concatenate([a, -a, a]), np.concatenate([b, b, -b])
    wanted = np.array([math.trunc(int(x) / int(y)) for x, y in zip(a, b, strict=True)], dtype)
    check_node("Div", [a, b], expected=[wanted])


@pytest.mark.parametrize(("name", "attributes"), [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})])
def test_integers_are_not_divided_by_zero(name: str, attributes: dict[str, int]) -> None:
    with pytest.raises(Fail, match="an integer is divided by zero"):
        run_op(name, [np.array([1, 2]), np.array([1, 0])], attributes)


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_rest_has_the_sign_of_the_divisor_or_the_dividend(fmod: int, dtype: Any) -> None:
    a = np.array([7, -7, 7, -7, 6, -6], dtype)
    b = np.array([3, 3, -3, -3, 3, -3], dtype)
    wanted = (np.fmod if fmod else np.mod)(a, b)
    check_node("Mod", [a, b], {"fmod": fmod}, expected=[wanted])


@pytest.mark.parametrize("base", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("exponent", [np.float32, np.int32, np.int64, np.float64])
def test_powers_have_the_dtype_of_the_base(base: Any, exponent: Any) -> None:
    x = np.array([1, 2, 3, 10], base)
    y = np.array([0, 3, 2, 1], exponent)
    check_node("Pow", [x, y], expected=peer("Pow", [x, y], opset=15))


@pytest.mark.parametrize("base", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_exponents_are_not_rounded_to_the_dtype_of_the_base(base: Any) -> None:
    # A negative number has no power of 5e-324, and its sign follows 2²⁴ + 1.
    x, tiny = np.array([-2, 2, -1, 0], base), np.array([5e-324, 5e-324, 2.0000000001, 1e-310])
    wanted = np.array([np.nan, 1, np.nan, 0], base)
    check_node("Pow", [x, tiny], expected=[wanted])
    odd = np.array([2**24 + 1, 0, 2**40 + 1, 1])
    unit = np.array([-1, 1, -1, 0], base)
    check_node("Pow", [unit, odd], expected=[unit])


def test_integers_to_a_negative_power_round_towards_zero() -> None:
    x = np.array([1, -1, 2, 5])
    check_node("Pow", [x, np.array(-1)], expected=[np.array([1, -1, 0, 0])])


def test_integer_powers_are_exact_beyond_float64() -> None:
    check_node("Pow", [np.array([3]), np.array([39])], expected=[np.array([3**39])])


def test_old_binary_operators_align_the_second_input_with_an_axis() -> None:
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    b = np.array([10, 20, 30], np.float32)
    attributes = {"broadcast": 1, "axis": 1}
    check_node("Add", [a, b], attributes, opset=6, expected=[a + b[:, None]])
    check_node("Sub", [a, a[0]], {"broadcast": 1, "axis": 1}, opset=1, expected=[a - a[0]])
    tail = {"broadcast": 1}
    check_node("Mul", [a, a[0, 0]], tail, opset=6, expected=[a * a[0, 0]])


def test_old_binary_operators_do_not_broadcast_unasked() -> None:
    a = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"without broadcast=1, B\[3\] must equal A\[2, 3\]"):
        run_op("Add", [a, a[0]], opset=6)
    with pytest.raises(ShapeError, match=r"B\[2\] must equal the part of A\[2, 3\] from axis 1"):
        run_op("Add", [a, np.zeros(2, np.float32)], {"broadcast": 1, "axis": 1}, opset=6)


def test_shapes_that_do_not_broadcast_are_named() -> None:
    message = r"shapes must broadcast, got \[2, 3\] and \[4\]: 3 and 4 differ"
    with pytest.raises(ShapeError, match=message):
        run_op("Add", [np.zeros((2, 3)), np.zeros(4)])


@pytest.mark.parametrize("name", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_inputs(name: str, count: int) -> None:
    inputs = [RANDOM.standard_normal((3, 1)[: 1 + i % 2]).astype(np.float32) for i in range(count)]
    check_node(name, inputs, opset=13, expected=peer(name, inputs), rtol=F32_RTOL)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (None, 0.5), (0.5, None), (2.0, 1.0)])
def test_clip_takes_bounds_as_inputs_and_as_attributes(
    low: float | None, high: float | None
) -> None:
    x = RANDOM.standard_normal((3, 4)).astype(np.float32)
    wanted = x if low is None else np.maximum(x, np.float32(low))
    wanted = wanted if high is None else np.minimum(wanted, np.float32(high))
    bounds = [None if b is None else np.array(b, np.float32) for b in (low, high)]
    check_node("Clip", [x, *bounds], expected=[wanted])
    named = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
    check_node("Clip", [x], named, opset=6, expected=[wanted])


def test_contents_are_propagated_through_arithmetic() -> None:
    shape = tensor(INT64, (2,), as_value([N, 6]))
    two = tensor(INT64, (), as_value(2))
    for name, wanted in (
        ("Add", [N + 2, 8]),
        ("Mul", [2 * N, 12]),
        ("Sub", [N - 2, 4]),
        ("Div", [N // 2, 3]),
        ("Mod", [N % 2, 0]),
    ):
        [fact] = infer_op(name, [shape, two])
        assert fact.value is not None, name
        assert list(fact.value) == wanted


def test_contents_that_would_overflow_are_not_propagated() -> None:
    big = tensor(INT64, (1,), as_value([2**62]))
    [fact] = infer_op("Mul", [big, big])
    assert fact.value is None
