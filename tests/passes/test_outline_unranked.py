"""What is computed of values of unknown rank is the body of an If, which is compiled as it meets
ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.infer import infer_model
from fornix.ir.load import from_message
from fornix.ir.verify import verify
from fornix.passes.outline_unranked import outline_unranked
from fornix.runtime import InferenceSession, SessionOptions

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
SQUEEZES = """f (float[N,K,4] x, float[4,4] w, bool c) => (float[] y, float[] z, int64[R] s) {
    e = Relu (x)
    one = Constant <value_ints = [1]> ()
    h = If (c) <
        then_branch = a () => (float[N,4] p) { p = Squeeze (e, one) },
        else_branch = b () => (float[N,K,4] q) { q = Identity (e) }>
    m = MatMul (h, w)
    t = Tanh (m)
    s = Shape (t)
    y = Softmax <axis = -1> (t)
    z = If (c) <
        then_branch = d () => (float[] u) { u = Neg (t) },
        else_branch = g () => (float[] v) { v = Add (t, h) }>
}"""


def wanted(x: Any, w: Any, c: Any) -> list[Any]:
    h = np.maximum(x, 0)
    h = h[:, 0] if c else h
    t = np.tanh(h.astype(np.float64) @ w)
    e = np.exp(t)
    return [e / e.sum(-1, keepdims=True), -t if c else t + h, np.array(t.shape)]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_has_no_rank_before_a_run_is_compiled_in_it(threads: int) -> None:
    options = SessionOptions(intra_op_num_threads=threads)
    session = InferenceSession(parser.parse_model(HEAD + SQUEEZES), options)
    reasons = {p.op_type: p.reason for p in session.placement()}
    assert {"MatMul", "Tanh", "Softmax"}.isdisjoint(reasons)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 4)).astype(np.float32)
    for n, k, c in [(3, 1, True), (3, 1, False), (5, 2, False), (1, 1, True), (0, 1, True)] * 3:
        x = rng.standard_normal((n, k, 4)).astype(np.float32)
        found = session.run(None, {"x": x, "w": w, "c": np.array(c)})
        for result, truth in zip(found, wanted(x, w, c), strict=True):
            assert result.shape == truth.shape
            np.testing.assert_allclose(result, truth, rtol=2e-5, atol=2e-6)


def test_the_model_stays_valid_and_keeps_its_outputs() -> None:
    model = from_message(parser.parse_model(HEAD + SQUEEZES))
    assert outline_unranked(model, infer_model(model))
    verify(model)
    assert [node.op_type for node in model.graph.nodes] == ["Relu", "Constant", "If", "If"]
    assert [value.name for value in model.graph.outputs] == ["y", "z", "s"]
    assert not outline_unranked(model, infer_model(model))


def test_what_the_body_reads_may_be_computed_between_its_nodes() -> None:
    text = """f (float[N] x, float[K] v, bool c) => (float[] y) {
        one = Constant <value_ints = [1]> ()
        h = If (c) <
            then_branch = a () => (float[N,1] p) { p = Unsqueeze (x, one) },
            else_branch = b () => (float[N] q) { q = Identity (x) }>
        r = Relu (h)
        s = ReduceSum <keepdims = 0> (v)
        y = Add (r, s)
    }"""
    model = from_message(parser.parse_model(HEAD + text))
    assert outline_unranked(model, infer_model(model))
    verify(model)
    x, v = np.array([-1, 2], np.float32), np.array([3, 4], np.float32)
    session = InferenceSession(parser.parse_model(HEAD + text))
    for c, truth in ((True, [[7], [9]]), (False, [7, 9])):
        (found,) = session.run(None, {"x": x, "v": v, "c": np.array(c)})
        np.testing.assert_array_equal(found, np.array(truth, np.float32))


def test_what_only_hands_on_values_without_rank_stays() -> None:
    text = """f (bool c, float[N,4] x) => (float[] y) {
        y = If (c) <
            then_branch = a () => (float[N,4] p) { p = Exp (x) },
            else_branch = b () => (float[4] q) { q = ReduceSum <keepdims = 0> (x, zero) }>
    }""".replace("(x, zero)", "(x)").replace("float[4] q", "float q")
    model = from_message(parser.parse_model(HEAD + text))
    assert not outline_unranked(model, infer_model(model))
