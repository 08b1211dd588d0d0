from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.errors import Fail, InvalidArgument

LOGS = """<ir_version: 8, opset_import: ["" : 18]>
    logs (float[N] x) => (float[N] y) <float[1] half = {0.5}> {
        ["shift"] s = Sub (x, half)
        ["log"] l = Log (s)
        ["end"] y = Mul (l, l)
    }"""


def session() -> fornix.InferenceSession:
    return fornix.InferenceSession(parser.parse_model(LOGS))


def test_a_trace_gives_every_node_with_what_it_read_and_made() -> None:
    x = np.array([1.5, 2.5], np.float32)
    found = list(session().trace({"x": x}))
    assert [(node.name, node.op_type) for node in found] == [
        ("shift", "Sub"),
        ("log", "Log"),
        ("end", "Mul"),
    ]
    assert [(list(node.inputs), list(node.outputs)) for node in found] == [
        (["x", "half"], ["s"]),
        (["s"], ["l"]),
        (["l"], ["y"]),
    ]
    np.testing.assert_array_equal(found[0].inputs["x"], x)
    np.testing.assert_allclose(found[1].outputs["l"], np.log(x - 0.5), rtol=1e-6)
    np.testing.assert_array_equal(found[2].outputs["y"], session().run(["y"], {"x": x})[0])


def test_a_trace_stops_at_the_first_node_that_makes_a_nan_and_says_from_what() -> None:
    message = r"^node 'log' \(Log, opset 18\): the first NaN of the run is in its output 'l', "
    nodes = session().trace({"x": np.array([0, 2], np.float32)}, stop="nan")
    assert [next(nodes).name, next(nodes).name] == ["shift", "log"]
    with pytest.raises(Fail, match=message + r"made from 's' float32\[2\] from -0.5 to 1.5$"):
        next(nodes)


def test_infinities_stop_a_trace_where_that_is_asked_for() -> None:
    x = np.array([0.5, 2], np.float32)
    assert len(list(session().trace({"x": x}, stop="nan"))) == 3
    with pytest.raises(Fail, match="the first infinity of the run is in its output 'l'"):
        list(session().trace({"x": x}, stop="inf"))


def test_a_trace_stops_at_what_is_known() -> None:
    with pytest.raises(InvalidArgument, match="stop must be 'nan', 'inf' or None, found 'NaN'"):
        next(session().trace({"x": np.ones(2, np.float32)}, stop="NaN"))  # type: ignore[arg-type]


def test_feeds_that_are_not_finite_are_named() -> None:
    with pytest.raises(Fail, match=r"^input 'x': finite numbers are required .* found NaN$"):
        list(session().trace({"x": np.array([np.nan], np.float32)}, stop="nan"))


def traced(body: str, stop: Literal["nan", "inf"]) -> list[str]:
    """Names of the nodes that ran on x = [1, 2]."""
    model = f"""<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) {body}"""
    nodes = fornix.InferenceSession(parser.parse_model(model)).trace(
        {"x": np.array([1, 2], np.float32)},
        stop=stop,
    )
    return [node.name for node in nodes]


def test_a_nan_that_the_model_stores_is_found_where_it_enters_the_run() -> None:
    body = """<float[2] w = {0, 1}, float[1] zero = {0}> {
        ["a"] n = Div (w, zero) ["b"] y = Add (x, n) }"""
    with pytest.raises(Fail, match=r"node 'a' .* the first NaN of the run is in its output 'n'"):
        traced(body, "nan")
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[2] x) => (float[2] y) <float[2] w = {0, 1}> { ["b"] y = Mul (x, w) }""")
    model.graph.initializer[0].float_data[0] = np.nan
    nodes = fornix.InferenceSession(model).trace({"x": np.ones(2, np.float32)}, stop="nan")
    with pytest.raises(Fail, match=r"node 'b' .* made from 'x' .* to 1, 'w' .* to nan, stored$"):
        list(nodes)


MASK = """ ["m"] far = Constant <value_float = -inf> () ["a"] s = Add (x, far) """


def test_infinities_that_are_meant_stop_no_trace_and_excuse_no_nan() -> None:
    one_is_left = MASK + """["w"] e = Exp (s) ["z"] y = Add (x, e)"""
    assert traced("{" + one_is_left + "}", "inf") == ["m", "a", "w", "z"]
    with pytest.raises(Fail, match=r"node 'z' .* the first NaN of the run is in its output 'y'"):
        traced("{" + MASK + """["z"] y = Softmax (s) }""", "inf")


LOOP = """{
    n = Constant <value_int = 3> () c = Constant <value = bool {1}> ()
    ["steps"] y = Loop <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] t) {
        on = Identity (go) ["less"] d = Sub (s, x) ["root"] t = Sqrt (d) }> (n, c, x) }"""


def test_a_nan_inside_of_a_body_is_traced_to_the_node_and_the_iteration() -> None:
    with pytest.raises(Fail) as caught:
        traced(LOOP, "nan")
    assert str(caught.value) == (
        "node 'root' (Sqrt, opset 18), iteration 1 of node 'steps' (Loop, opset 18): the first NaN "
        "of the run is in its output 't', made from 'd' float32[2] from -2 to -1"
    )
    sound = LOOP.replace("Sqrt", "Exp")
    assert traced(sound, "nan")[-1] == "steps"


def test_nodes_in_bodies_are_traced_with_the_way_to_them_and_their_iterations() -> None:
    model = f"""<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) {LOOP}"""
    session = fornix.InferenceSession(parser.parse_model(model.replace("Sqrt", "Neg")))
    found = list(session.trace({"x": np.array([1, 2], np.float32)}))
    inside = [node for node in found if node.path]
    assert {node.path for node in inside} == {("steps",)}
    named = [(node.name, node.iterations) for node in inside if node.name]
    assert named == [(name, (i,)) for i in range(3) for name in ("less", "root")]
    assert (found[-1].name, found[-1].path, found[-1].iterations) == ("steps", (), ())
    np.testing.assert_array_equal(inside[-1].inputs["d"], -inside[-1].outputs["t"])


def test_a_trace_that_nobody_follows_to_its_end_leaves_no_thread() -> None:
    nodes = session().trace({"x": np.ones(2, np.float32)})
    next(nodes)
    del nodes
    assert "trace" not in {thread.name for thread in threading.enumerate()}


def test_intermediate_values_are_fetched_by_name() -> None:
    x = np.array([1.5, 2.5], np.float32)
    s, y = session().run(["s", "y"], {"x": x})
    np.testing.assert_array_equal(s, x - 0.5)
    np.testing.assert_allclose(y, np.log(x - 0.5) ** 2, rtol=1e-6)
