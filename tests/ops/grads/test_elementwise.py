from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.ops.grads.harness import Array, Case, Peer, check, random

X = random(3, 4)
POSITIVE = random(3, 4, low=0.3, high=3.0)
UNIT = random(3, 4, low=-0.9, high=0.9)
ROW = random(4, seed=5)
BLOCK = random(2, 1, 4, seed=6)

# Extents declared, symbolic, and not even their number known.
ALL = ("static", "symbolic", "unknown")

UNARY: list[tuple[str, Peer, Array]] = [
    ("Abs", torch.abs, X),
    ("Exp", torch.exp, X),
    ("Log", torch.log, POSITIVE),
    ("Sqrt", torch.sqrt, POSITIVE),
    ("Reciprocal", torch.reciprocal, POSITIVE),
    ("Erf", torch.erf, X),
    ("Sin", torch.sin, X),
    ("Cos", torch.cos, X),
    ("Tan", torch.tan, UNIT),
    ("Asin", torch.asin, UNIT),
    ("Acos", torch.acos, UNIT),
    ("Atan", torch.atan, X),
    ("Sinh", torch.sinh, X),
    ("Cosh", torch.cosh, X),
    ("Asinh", torch.asinh, X),
    ("Acosh", torch.acosh, POSITIVE + 1),
    ("Atanh", torch.atanh, UNIT),
    ("Neg", torch.neg, X),
    ("Floor", torch.floor, X),
    ("Ceil", torch.ceil, X),
    ("Round", torch.round, X),
    ("Sign", torch.sign, X),
]


@pytest.mark.parametrize(("name", "function", "x"), UNARY, ids=[name for name, *_ in UNARY])
def test_a_function_has_the_slope_of_its_formula(name: str, function: Peer, x: Array) -> None:
    check(name, [x], peer=function, dims=ALL)


@pytest.mark.parametrize("other", [ROW, BLOCK, np.array(1.5)], ids=["row", "block", "scalar"])
@pytest.mark.parametrize(
    ("name", "function"),
    [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)],
)
def test_gradients_are_summed_over_broadcast_axes(name: str, function: Peer, other: Array) -> None:
    check(name, [X, other], peer=function, dims=ALL)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("Max", [X, BLOCK, ROW]), ("Max", [X]), ("Min", [X, BLOCK]), ("Sum", [X, BLOCK, ROW]),
     ("Mean", [X, BLOCK, ROW]), ("Mean", [X])],
)  # fmt: skip
def test_operators_of_any_number_of_inputs(name: str, inputs: list[Array]) -> None:
    check(name, inputs, dims=ALL)


def test_equal_maxima_share_the_gradient() -> None:
    check("Max", [np.array([1.0, 2.0]), np.array([1.0, 3.0])], peer=torch.maximum,
          differences=False)  # fmt: skip


def test_pow_differentiates_by_base_and_exponent() -> None:
    check("Pow", [POSITIVE, BLOCK], peer=torch.pow, dims=ALL)


def test_pow_of_a_negative_base_differentiates_by_the_base() -> None:
    check("Pow", [X, np.array(3.0)], peer=lambda x, _: x**3, of_inputs=[0], dims=ALL)
    check("Pow", [X, np.array(2)], peer=lambda x, _: x**2, dims=ALL)


def test_pow_is_flat_where_the_exponent_is_zero() -> None:
    x = np.array([0.0, 0.0, 2.0, -1.0])
    exponent = np.array([0.0, 2.0, 0.0, 1.0])
    check("Pow", [x, exponent], peer=torch.pow, of_inputs=[0], differences=False)


def test_mod_passes_the_gradient_to_the_dividend() -> None:
    check("Mod", [X * 3, BLOCK], {"fmod": 1}, peer=torch.fmod, dims=ALL)


def test_where_sends_the_gradient_to_what_was_chosen() -> None:
    check("Where", [X > 0, BLOCK, ROW], peer=torch.where, dims=ALL)


BOUNDS: list[list[Any]] = [
    [X, np.array(-1.0), np.array(1.0)],
    [X, None, np.array(1.0)],
    [X, np.array(-1.0), None],
    [X],
]


@pytest.mark.parametrize("inputs", BOUNDS, ids=["both", "max", "min", "none"])
def test_clip_differentiates_by_its_bounds_too(inputs: list[Array]) -> None:
    check("Clip", inputs, dims=ALL)


def test_clip_passes_the_gradient_at_its_bounds() -> None:
    inputs = [np.array([-1.0, 0.0, 1.0]), np.array(-1.0), np.array(1.0)]
    check("Clip", inputs, peer=torch.clamp, of_inputs=[0], differences=False)


def test_absolute_values_are_flat_at_zero() -> None:
    check("Abs", [np.array([0.0, -2.0])], peer=torch.abs, differences=False)


def test_a_cast_between_floats_casts_the_gradient_back() -> None:
    case = Case("Cast", [X.astype(np.float32)], {"to": 11})
    [gradient] = case.gradients(["x0"])
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, case.weights.astype(np.float32))


def test_cast_like_ignores_the_values_of_what_it_is_like() -> None:
    case = Case("CastLike", [X, np.ones((), np.float32)])
    by_data, by_type = case.gradients(["x0", "x1"])
    np.testing.assert_array_equal(by_data, case.weights.astype(np.float64))
    assert by_type == 0
