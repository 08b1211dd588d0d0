"""Scans that carry nothing: sessions compute all rows at once, and what the standard says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import Native, optimize
from fornix.reference import ReferenceEvaluator

RNG = np.random.default_rng(4)
A = RNG.standard_normal((5, 3), np.float32)
POINTS = RNG.standard_normal((7, 3), np.float32)
DIFFERENCE = A[:, None] - POINTS[None]
METRICS = {
    "r = ReduceSumSquare <keepdims = 0> (d, one)": (DIFFERENCE**2).sum(2),
    "m = Abs (d) r = ReduceSum <keepdims = 0> (m, one)": np.abs(DIFFERENCE).sum(2),
    "m = Abs (d) r = ReduceMax <keepdims = 0> (m, last)": np.abs(DIFFERENCE).max(2),
    "m = Abs (d) p = Pow (m, three) q = ReduceSum <keepdims = 0> (p, last) r = Sqrt (q)": np.sqrt(
        (np.abs(DIFFERENCE) ** 3).sum(2)
    ),
}


def model_of(
    body: str, *, more: str = "", after: str = "Identity (s)", rows: int | str = 7, opset: int = 18
) -> Model:
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g (float[N, 3] a, float[{rows}, 3] x) => (float[N, 3] kept, float[T, N] y)
    <float three = {{3}}> {{
        kept, y = Scan <num_scan_inputs = 1, {more} body = b (float[N, 3] s, float[3] row)
            => (float[N, 3] t, float[N] out) <int64[1] one = {{1}}, int64[1] last = {{-1}}> {{
            t = {after}
            {body}
            out = Identity (r)
        }}> (a, x)
    }}"""
    return from_message(parse_model(text))


def operators(model: Model) -> list[str]:
    return [n.op_type for n in optimize(model, native=Native()).graph.nodes]


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("rows", [7, "T"])
def test_distances_row_by_row_are_those_of_all(metric: str, rows: int | str) -> None:
    model = model_of(f"d = Sub (s, row) {metric}", rows=rows)
    assert "Scan" not in operators(model)
    assert "Scan" in [n.op_type for n in optimize(model).graph.nodes]
    feeds = {"a": A, "x": POINTS}
    session = InferenceSession(model)
    for found in (
        session.run(None, feeds),
        ReferenceEvaluator(optimize(model, native=Native())).run(None, feeds),
    ):
        np.testing.assert_array_equal(found[0], A)
        np.testing.assert_allclose(found[1], METRICS[metric].T, rtol=1e-5)
    kept, y = session.run(None, {"a": A[:0], "x": POINTS})
    assert (kept.shape, y.shape) == ((0, 3), (7, 0))


def test_axes_may_be_an_attribute() -> None:
    model = model_of("d = Sub (s, row) r = ReduceMin <axes = [-1], keepdims = 0> (d)", opset=15)
    assert "Scan" not in operators(model)
    _, y = ReferenceEvaluator(optimize(model, native=Native())).run(None, {"a": A, "x": POINTS})
    np.testing.assert_array_equal(y, DIFFERENCE.min(2).T)


STAYING: dict[str, dict[str, Any]] = {
    "d = Sub (s, row) r = ReduceSum <keepdims = 0> (d, one)": {"after": "Add (s, row)"},
    "d = Sub(s, row) r = ReduceSum <keepdims = 0> (d, one)": {"more": "scan_input_directions=[1],"},
    "d = Sub (s, row) e = Mul (d, d) r = ReduceSum <keepdims = 0> (e, one)": {},
    "d = Sub (s, s) r = ReduceSum <keepdims = 0> (d, one)": {},
    "r = MatMul (s, row)": {},
    "u = Floor (row) d = Sub (s, u) r = ReduceSum <keepdims = 0> (d, one)": {},
}


@pytest.mark.parametrize("body", list(STAYING))
def test_other_scans_stay(body: str) -> None:
    model = model_of(body, **STAYING[body])
    assert operators(model).count("Scan") == 1
    expected = ReferenceEvaluator(model).run(None, {"a": A, "x": POINTS})
    found = InferenceSession(model).run(None, {"a": A, "x": POINTS})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", ["T", "U"])
def test_as_many_rows_of_each_are_required(rows: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 18]>
    g (float[T, 3] a, float[{rows}, 3] b) => (float[T] y) {{
        y = Scan <num_scan_inputs = 2, body = c (float[3] p, float[3] q) => (float r) {{
            d = Sub (p, q)
            r = ReduceSumSquare <keepdims = 0> (d)
        }}> (a, b)
    }}"""
    session = InferenceSession(from_message(parse_model(text)))
    with pytest.raises(FornixError):
        session.run(None, {"a": A, "b": A[:1]})
