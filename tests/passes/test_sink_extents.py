"""What bodies capture and extents tell is computed in them, of what has these extents."""

from __future__ import annotations

import numpy as np
from onnx import parser

from fornix.infer import infer_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ir.verify import verify
from fornix.ir.walk import graphs
from fornix.passes.sink_extents import sink_extents
from fornix.runtime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
NESTED = """f (float[N, K] x, bool c, int64 trips) => (float[N] y) {
    shape = Shape (x)
    n = Gather <axis = 0> (shape, zero)
    rows = Unsqueeze (n, axes)
    begin = ConstantOfShape (rows)
    y = Loop (trips, c, begin) <body = go (int64 i, bool k, float[A] s) => (bool k, float[B] t) {
        t = If (k) <
            then_branch = a () => (float[P] p) { e = Cast <to = 1> (rows) p = Add (s, e) },
            else_branch = b () => (float[Q] q) { q = Reshape (s, rows) }>
    }>
}""".replace("{", "<int64 zero = {0}, int64[1] axes = {0}> {", 1)


def sunk(text: str) -> tuple[Model, bool]:
    """The model of ``text`` after the pass, valid, and whether that changed it."""
    model = from_message(parser.parse_model(HEAD + text))
    is_changed = sink_extents(model, infer_model(model))
    verify(model)
    return model, is_changed


def operators(model: Model) -> list[list[str]]:
    """Those of each graph."""
    return [[node.op_type for node in graph.nodes] for graph in graphs(model)]


def test_chains_go_as_deep_as_they_are_read() -> None:
    model, is_changed = sunk(NESTED)
    assert is_changed
    chain = ["Shape", "Gather", "Unsqueeze"]
    assert operators(model) == [
        [*chain, "ConstantOfShape", "Loop"],
        ["If"],
        [*chain, "Cast", "Add"],
        [*chain, "Reshape"],
    ]


def test_they_are_computed_no_more_where_nobody_reads_them() -> None:
    model, _ = sunk(NESTED.replace("ConstantOfShape (rows)", "ReduceSum <keepdims = 0> (x, axes)"))
    assert operators(model)[0] == ["ReduceSum", "Loop"]


def test_results_stay() -> None:
    x = np.ones((3, 2), np.float32)
    session = InferenceSession(parser.parse_model(HEAD + NESTED))
    for _ in range(4):
        (found,) = session.run(None, {"x": x, "c": np.array(True), "trips": np.array(2)})
        np.testing.assert_array_equal(found, np.full(3, 6, np.float32))


def test_what_is_fed_or_hangs_on_data_stays_outside() -> None:
    fed = """f (float[N] x, int64[1] n, bool c) => (float[P] y) {
        y = If (c) <
            then_branch = a () => (float[P] p) { p = Expand (x, n) },
            else_branch = b () => (float[Q] q) { q = Identity (x) }>
    }"""
    assert not sunk(fed)[1]
    counted = fed.replace("int64[1] n, ", "").replace(
        "y = If", "z = NonZero (x) n = Shape (z) y = If"
    )
    assert not sunk(counted.replace("Expand (x, n)", "ConstantOfShape (n)"))[1]


def test_extents_of_texts_stay_outside() -> None:
    text = """f (string[N] x, float v, bool c) => (float[P] y) {
        n = Shape (x)
        y = If (c) <
            then_branch = a () => (float[P] p) { p = Expand (v, n) },
            else_branch = b () => (float[Q] q) { q = ConstantOfShape (n) }>
    }"""
    assert not sunk(text)[1]
    assert sunk(text.replace("string[N] x", "double[N] x"))[1]


def test_long_chains_stay_outside() -> None:
    text = """f (float[N] x, bool c) => (float[P] y) {
        n0 = Shape (x)
        LONG
        y = If (c) <
            then_branch = a () => (float[P] p) { p = ConstantOfShape (nEND) },
            else_branch = b () => (float[Q] q) { q = Identity (x) }>
    }"""
    for length, expected in [(10, True), (15, True), (16, False), (30, False)]:
        chain = " ".join(f"n{k + 1} = Add (n{k}, n{k})" for k in range(length))
        assert sunk(text.replace("LONG", chain).replace("END", str(length)))[1] is expected


def test_a_value_that_a_body_hands_on_is_captured_as_before() -> None:
    text = """f (float[N] x, bool c) => (int64[1] y) {
        n = Shape (x)
        y = If (c) <
            then_branch = a () => (int64[1] n) { },
            else_branch = b () => (int64[1] q) { q = Neg (n) }>
    }""".replace("{ }", "{ u = Neg (n) }")
    model, _ = sunk(text)
    assert operators(model)[0] == ["Shape", "If"]
    session = InferenceSession(parser.parse_model(HEAD + text))
    for c in (True, False):
        (found,) = session.run(None, {"x": np.ones(3, np.float32), "c": np.array(c)})
        assert found == (3 if c else -3)
