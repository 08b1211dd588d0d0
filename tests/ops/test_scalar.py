from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, FLOAT64, INT8, INT32, INT64, UINT8, DType
from fornix.errors import DTypeError, Fail
from fornix.ir.dim import symbol
from fornix.ir.loops import Scalar, compute, tensor
from fornix.ops import scalar as s
from tests.ir.interpreter import interpret

N, M = symbol("N"), symbol("M", least=1)

FLOATS = [0.0, -0.0, 0.5, -0.5, 1.0, -1.5, 2.5, 3.5, 1e-20, -70.0, np.inf, -np.inf, np.nan]
SIGNED = [0, 1, -1, 2, -3, 7, -7, 127, -128]
UNSIGNED = [0, 1, 2, 3, 7, 8, 127, 128, 255]


def array(dtype: DType) -> np.ndarray:
    values: Any = FLOATS if dtype.is_float else SIGNED if dtype.kind == "int" else UNSIGNED
    return np.array(values, dtype.numpy)


def on_loops(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    n = len(arrays[0])
    tensors = [tensor(f"x{k}", (n,), DType.of(a.dtype)) for k, a in enumerate(arrays)]
    result = compute((n,), lambda i: function(*(t[i] for t in tensors)))
    return interpret(result, {f"x{k}": a for k, a in enumerate(arrays)})


def same(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Check that the function gives the same bits on arrays and on loop scalars."""
    with np.errstate(all="ignore"):
        found = function(*arrays)
    assert isinstance(found, np.ndarray)
    lowered = on_loops(function, *arrays)
    assert lowered.dtype == found.dtype
    np.testing.assert_array_equal(lowered, found)
    return found


# ── arrays and loop scalars ────────────────────────────────────────────────────────────────────

UNARY_FLOAT = [
    *("sqrt", "exp", "log", "erf", "floor", "ceil", "trunc", "rint", "isnan", "isinf"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
]


@pytest.mark.parametrize("name", [*UNARY_FLOAT, "neg", "abs", "sign"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_functions_of_a_float_agree(name: str, dtype: DType) -> None:
    found = same(getattr(s, name), array(dtype))
    assert found.dtype == (bool if name.startswith("is") else dtype.numpy)


@pytest.mark.parametrize("name", ["neg", "abs", "sign", "bitwise_not"])
@pytest.mark.parametrize("dtype", [INT8, UINT8, INT64])
def test_functions_of_an_integer_agree(name: str, dtype: DType) -> None:
    same(getattr(s, name), array(dtype))


BINARY = [
    *("add", "sub", "mul", "div", "mod", "fmod", "maximum", "minimum"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
]
BINARY_INTEGER = ["pow", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"]


@pytest.mark.parametrize("name", [*BINARY, "pow"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_functions_of_two_floats_agree(name: str, dtype: DType) -> None:
    x = array(dtype)
    for y in (x, x[::-1].copy()):
        same(getattr(s, name), x, y)
    same(lambda v: getattr(s, name)(v, 2.0), x)
    same(lambda v: getattr(s, name)(2, v), x)


@pytest.mark.parametrize("name", [*BINARY, *BINARY_INTEGER])
@pytest.mark.parametrize("dtype", [INT8, UINT8, INT32])
def test_functions_of_two_integers_agree(name: str, dtype: DType) -> None:
    x = array(dtype)
    y = np.array([3, 1, 2, 5, 4, 7, 6, 2, 3], dtype.numpy)
    same(getattr(s, name), x, y)
    same(lambda v: getattr(s, name)(v, 3), x)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "equal", "not_equal"])
def test_functions_of_bools_agree(name: str) -> None:
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    same(getattr(s, name), x, y)
    same(s.logical_not, x)
    same(lambda c: s.where(c, 1.0, s.cast(c, FLOAT32)), x)


@pytest.mark.parametrize("target", [INT32, UINT8, FLOAT64, FLOAT32])
def test_conversions_agree(target: DType) -> None:
    same(lambda v: s.cast(v, target), np.array([0.0, 1.9, -2.9, 200.0], np.float32))
    same(lambda v: s.cast(v, target), np.array([0, 1, 255], np.uint8))


def test_where_clip_and_bitcast_agree() -> None:
    x = array(FLOAT32)
    same(lambda v: s.where(s.less(v, 0.0), 0.0, v), x)
    same(lambda v: s.clip(v, -1.0, 2), x)
    same(lambda v: s.clip(v, 3.0, 2.0), x)
    same(lambda v: s.bitcast(v, INT32), x)


def test_the_error_function_is_close_to_the_c_library_s() -> None:
    x = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(s.erf(x), [math.erf(v) for v in x], rtol=1e-15)
    assert s.erf(x.astype(np.float32)).dtype == np.float32


def test_integer_division_rounds_towards_zero() -> None:
    x, y = np.array([7, -7, 7, -7, 6]), np.array([2, 2, -2, -2, -2])
    np.testing.assert_array_equal(s.div(x, y), [3, -3, -3, 3, -3])
    np.testing.assert_array_equal(s.fmod(x, y), [1, -1, 1, -1, 0])
    np.testing.assert_array_equal(s.mod(x, y), [1, 1, -1, -1, 0])


def test_arrays_of_rank_zero_stay_arrays() -> None:
    x = np.array(-2.0, np.float32)
    for found in (s.exp(x), s.maximum(x, 0.0), s.where(s.less(x, 0.0), 1.0, x), s.sign(x)):
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
    assert s.exp(x * 0.5).dtype == np.float32  # an operator gave a NumPy scalar


# ── what is refused ────────────────────────────────────────────────────────────────────────────

X = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: s.add(X, np.ones(3)), "one dtype, found float32 and float64; write a cast"),
        (lambda: s.mul(X, np.sqrt(0.5)), "one dtype, found float32 and float64; write a cast"),
        (lambda: s.exp(np.arange(3)), "exp is not defined for int64"),
        (lambda: s.add(np.arange(3), 0.5), "a float stands in an expression of int64"),
        (lambda: s.add(np.zeros(3, np.uint8), 256), "256 does not fit uint8"),
        (lambda: s.where(np.arange(3), X, X), "a condition is a bool, found int64"),
        (lambda: s.where(X > 0, X, np.ones(3)), "one dtype, found float32 and float64"),
        (lambda: s.logical_and(X > 0, X), "logical and is defined for bool, found float32"),
        (lambda: s.bitwise_and(X, X), "and is not defined for float32"),
        (lambda: s.bitcast(X, FLOAT64), "bitcast keeps the width, found float32 and float64"),
        (lambda: s.shift_left(X, X), "shl is not defined for float32"),
    ],
)
def test_mixed_dtypes_are_errors(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        wrong()


def test_integer_division_by_zero_fails() -> None:
    for function in (s.div, s.mod, s.fmod):
        with pytest.raises(Fail, match="an integer is divided by zero"):
            function(np.arange(3), np.arange(3))


def test_a_negative_power_of_an_integer_fails() -> None:
    for power in (s.pow, lambda a, b: on_loops(s.pow, a, b)):
        with pytest.raises(Fail, match="an integer is raised to a negative power"):
            power(np.array([2, 2]), np.array([1, -1]))


# ── dims ───────────────────────────────────────────────────────────────────────────────────────


def dims(*values: Any) -> np.ndarray:
    return np.array(values, object)


def test_functions_of_dims_propagate_shapes() -> None:
    assert list(s.add(dims(N, 3), 1)) == [N + 1, 4]
    assert list(s.mul(dims(N, 3), dims(2, N))) == [2 * N, 3 * N]
    assert list(s.div(dims(4 * N, 7, -7), 2)) == [2 * N, 3, -3]
    assert list(s.fmod(dims(7, -7), 2)) == [1, -1]
    assert list(s.mod(dims(7, -7, 4 * N), 2)) == [1, 1, 0]
    assert list(s.maximum(dims(N, -1), 0)) == [N, 0]
    assert list(s.minimum(dims(N), dims(N + 1))) == [N]
    assert list(s.neg(dims(N))) == [-N]
    assert list(s.abs(dims(N, -3))) == [N, 3]
    assert list(s.sign(dims(M, -3, 0))) == [1, -1, 0]
    assert list(s.floor(dims(N, 3))) == [N, 3]
    assert list(s.cast(dims(N, 3), INT32)) == [N, 3]


def test_comparisons_of_dims_are_bools_where_they_are_decided() -> None:
    found = s.equal(dims(N, 3, N), dims(N, 3, N + 1))
    assert found.dtype == bool
    assert found.tolist() == [True, True, False]
    assert s.less(dims(N), dims(N + 1)).tolist() == [True]
    assert s.greater_equal(dims(N), 0).tolist() == [True]
    assert list(s.where(np.array([True, False]), dims(N, N), -1)) == [N, -1]
    assert s.logical_not(s.equal(dims(N), N)).tolist() == [False]


@pytest.mark.parametrize(
    "undecided",
    [
        lambda: s.equal(dims(N), 3),
        lambda: s.less(dims(N), 3),
        lambda: s.div(dims(N - 5), 2),
        lambda: s.sign(dims(N)),
        lambda: s.exp(dims(N)),
        lambda: s.cast(dims(N), FLOAT32),
    ],
)
def test_what_is_not_decided_is_not_propagated(undecided: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        undecided()


def test_division_of_dims_by_zero_fails() -> None:
    with pytest.raises(Fail, match="an integer is divided by zero"):
        s.div(dims(3), 0)


def test_a_single_dim_stays_a_dim() -> None:
    assert s.add(N, 1) == N + 1
    assert s.maximum(2, 3) == 3


def test_strings_compare_and_are_chosen() -> None:
    x, y = dims("a", "b"), dims("a", "c")
    assert s.equal(x, y).tolist() == [True, False]
    assert s.where(np.array([True, False]), x, y).tolist() == ["a", "c"]


def test_where_broadcasts_texts_and_dims_and_keeps_bools() -> None:
    is_first = np.array([[True], [False]])
    texts = np.array(["a", "b"], object)
    assert s.where(is_first, texts, texts[::-1]).tolist() == [["a", "b"], ["b", "a"]]
    assert s.where(is_first, dims(N, 1), dims(M, 2)).tolist() == [[N, 1], [M, 2]]
    decided = s.where(is_first, np.array([True], object), np.array([False], object))
    assert decided.dtype == bool
    assert decided.tolist() == [[True], [False]]


def test_functions_of_loop_scalars_give_loop_scalars() -> None:
    x = tensor("x", (2,), FLOAT32)[0]
    for found in (s.exp(x), s.where(s.less(x, 0.0), 0, x), s.sign(x), s.isinf(x), s.cast(x, INT8)):
        assert isinstance(found, Scalar)
