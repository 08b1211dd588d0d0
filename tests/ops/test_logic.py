from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix.dtype import INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor
from tests.ops.harness import check_node, infer_op, run_op

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
LOGIC: dict[str, Callable[[Any, Any], Any]] = {
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}
BITS: dict[str, Callable[[Any, Any], Any]] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
NUMBERS = np.array([[0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]])


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64])
def test_comparisons_broadcast_and_no_nan_compares(name: str, dtype: Any) -> None:
    with np.errstate(invalid="ignore"):
        x = NUMBERS.astype(dtype)
    check_node(name, [x, x.T], expected=[COMPARISONS[name](x, x.T)])


def test_strings_and_bools_can_be_equal() -> None:
    words = np.array(["a", "b", "ä"], object)
    check_node("Equal", [words, words[:1]], expected=[np.array([True, False, False])])
    truths = np.array([True, False])
    check_node("Equal", [truths, truths[::-1]], expected=[np.array([False, False])])


@pytest.mark.parametrize("name", LOGIC)
def test_logic_of_all_truths(name: str) -> None:
    x = np.array([False, True])
    check_node(name, [x, x[:, None]], expected=[LOGIC[name](x, x[:, None])])
    old = {"broadcast": 1}
    square = np.array([[False, True], [True, True]])
    check_node(name, [square, x], old, opset=1, expected=[LOGIC[name](square, x)])


def test_not_turns_every_truth() -> None:
    check_node("Not", [np.array([False, True])], expected=[np.array([True, False])])


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_bits_of_every_width(name: str, dtype: Any) -> None:
    a = np.array([0b1100, 0b1010, 1], dtype)
    b = np.array([0b1010, 0b0110, 3], dtype)
    check_node(name, [a, b], expected=[BITS[name](a, b)])
    check_node("BitwiseNot", [a], expected=[np.invert(a)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int16])
def test_bits_shift_both_ways(dtype: Any) -> None:
    x = np.array([16, 4, 1], dtype)
    y = np.array([1, 2, 3], dtype)
    check_node("BitShift", [x, y], {"direction": "LEFT"}, expected=[x << y])
    check_node("BitShift", [x, y], {"direction": "RIGHT"}, expected=[x >> y])


def test_a_shift_needs_a_direction() -> None:
    x = np.array([1], np.uint8)
    with pytest.raises(ShapeError, match="direction must be LEFT or RIGHT, got 'UP'"):
        run_op("BitShift", [x, x], {"direction": "UP"})


@pytest.mark.parametrize("negative", [0, 1])
@pytest.mark.parametrize("positive", [0, 1])
def test_infinities_of_the_signs_asked_for(negative: int, positive: int) -> None:
    x = NUMBERS.astype(np.float32)
    wanted = ((x == np.inf) & bool(positive)) | ((x == -np.inf) & bool(negative))
    attributes = {"detect_negative": negative, "detect_positive": positive}
    check_node("IsInf", [x], attributes, expected=[wanted])
    check_node("IsNaN", [x], expected=[np.isnan(x)])


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, object, np.complex64])
def test_where_chooses_elements_of_any_dtype(dtype: Any) -> None:
    condition = np.array([[True], [False]])
    x = np.array(["1", "0"], object) if dtype is object else np.array([1, 0]).astype(dtype)
    y = np.array(["2"], object) if dtype is object else np.array([2]).astype(dtype)
    check_node("Where", [condition, x, y], expected=[np.where(condition, x, y)])


def test_comparisons_of_symbols_are_propagated_where_decided() -> None:
    extent = symbol("N")
    shape = tensor(INT64, (2,), as_value([extent + 1, 3]))
    zero = tensor(INT64, (), as_value(0))
    [fact] = infer_op("Greater", [shape, zero])
    assert fact.value is not None
    assert list(fact.value) == [True, True]
    [open_fact] = infer_op("Greater", [shape, tensor(INT64, (), as_value(2))])
    assert open_fact.value is None
