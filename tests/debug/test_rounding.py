from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.debug.part import Part, part_to, plan_of
from fornix.debug.prepare import prepared
from fornix.debug.rounding import judge, terms, unit
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from fornix.format.text import parse_model
from fornix.ir.graph import Node
from fornix.ops.conv import conv, conv_transpose
from fornix.reference.source import as_model

RANDOM = np.random.default_rng(0)


def part(body: str, ends: str = "(float[N,M] x) => (float[N,M] y)") -> Part:
    text = f'<ir_version: 9, opset_import: ["" : 21]> g {ends} {{ {body} }}'
    flat = prepared(as_model(parse_model(text)))
    return part_to(plan_of(flat), flat.graph.outputs[0], {"x", "a", "b"})


def explains(where: Part, found: Any, **given: Any) -> bool:
    return judge(where, given, found).is_explained


def test_units_are_half_the_distance_of_neighbours_of_1() -> None:
    assert unit(FLOAT16) == 2**-11
    assert unit(BFLOAT16) == 2**-8
    assert unit(FLOAT32) == 2**-24
    assert unit(FLOAT64) == 2**-53


def test_terms_are_those_that_an_element_adds() -> None:
    def count(op_type: str, *shapes: tuple[int, ...], made: tuple[int, ...]) -> int:
        return terms(Node("", op_type), [np.zeros(s) for s in shapes], [np.zeros(made)])

    assert count("Conv", (1, 8, 9, 9), (16, 8, 3, 3), made=(1, 16, 7, 7)) == 8 * 3 * 3
    assert count("MatMul", (4, 32), (32, 5), made=(4, 5)) == 32
    assert count("ReduceSum", (4, 100), made=(4, 1)) == 100
    assert count("Add", (4, 4), (4, 4), made=(4, 4)) == 1


def test_any_order_of_a_sum_is_explained_and_narrower_terms_are_not() -> None:
    a = RANDOM.normal(size=(16, 512)).astype(np.float32)
    b = RANDOM.normal(size=(512, 16)).astype(np.float32)
    product = part("y = MatMul (a, b)", "(float[N,K] a, float[K,M] b) => (float[N,M] y)")
    naive = np.zeros((16, 16), np.float32)
    for k in range(512):
        naive += a[:, k : k + 1] * b[k : k + 1]
    assert explains(product, naive, a=a, b=b)
    assert explains(product, naive[:, :], a=a, b=b)
    half = a.astype(np.float16).astype(np.float32) @ b.astype(np.float16).astype(np.float32)
    assert not explains(product, half, a=a, b=b)


@pytest.mark.parametrize(
    ("operator", "evaluate"), [("Conv", conv), ("ConvTranspose", conv_transpose)]
)
def test_convolutions_may_be_off_by_what_transforms_round(operator: str, evaluate: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in ((1, 2, 9, 9), (2, 2, 3, 3)))
    where = part(
        f"y = {operator}(x, w)", "(float[1,2,9,9] x, float[2,2,3,3] w) => (float[1,2,N,M] y)"
    )
    exact = evaluate(x.astype(np.float64), w.astype(np.float64), None)
    largest = np.abs(exact).max()
    for error, is_explained in ((2e-5, True), (2e-4, False)):
        found = (exact + error * largest).astype(np.float32)
        assert explains(where, found, x=x, w=w) is is_explained


def test_what_only_chooses_or_moves_has_to_be_exact() -> None:
    x = np.array([[0.5, 1.5, -2.5]], np.float32)
    assert explains(part("y = Round (x)"), np.array([[0, 2, -2]], np.float32), x=x)
    assert not explains(part("y = Round (x)"), np.array([[1, 2, -3]], np.float32), x=x)
    off = np.nextafter(x, np.float32(9))
    assert not explains(part("y = Relu (x)"), off, x=x)


def test_a_decision_that_is_close_may_fall_either_way() -> None:
    body = "c = Constant <value = float {3}> () t = Div (x, c) y = Floor (t)"
    x = np.array([[3 * (1 - 2**-24), 1.5]], np.float32)
    assert explains(part(body), np.array([[1, 0]], np.float32), x=x)
    assert explains(part(body), np.array([[0, 0]], np.float32), x=x)
    assert not explains(part(body), np.array([[1, 1]], np.float32), x=x)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinity_and_nan_have_to_be_where_they_are_due(value: float) -> None:
    x = np.array([[1, value]], np.float32)
    assert explains(part("y = Tanh (x)"), np.tanh(x), x=x)
    assert explains(part("y = Abs (x)"), np.array([[1, value]], np.float32), x=x)
    assert not explains(part("y = Abs (x)"), np.array([[1, 5]], np.float32), x=x)
    assert not explains(part("y = Abs (x)"), np.array([[value, value]], np.float32), x=x)


def test_extents_that_floats_compute_are_exact() -> None:
    body = """c = Constant <value = float[1] {7}> () d = Constant <value = float[1] {0.5}> ()
              e = Mul (c, d) f = Floor (e) k = Cast <to = 7> (f)
              z = Constant <value = int64[1] {0}> () y = Slice (x, z, k)"""
    x = RANDOM.normal(size=(7, 2)).astype(np.float32)
    assert explains(part(body), x[:3], x=x)
    assert not explains(part(body), x[:4], x=x)
