from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser

from fornix import InferenceSession
from fornix.errors import (
    DTypeError,
    Fail,
    FormatError,
    InvalidArgument,
    LimitError,
    SchemaError,
    ValidationError,
)
from fornix.format.limits import DEFAULT, Limits
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator

X = np.array([1.0, -2.0, 3.0], np.float32)


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(text)


def run(text: str, **feeds: Any) -> list[Any]:
    return list(ReferenceEvaluator(model(text)).run(None, feeds))


RELU = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[N] x) => (float[N] y) { h = Relu (x) y = Neg (h) }"""


def test_models_graphs_nodes_and_functions_can_be_evaluated() -> None:
    whole = model(RELU)
    wanted = [-1.0, 0.0, -3.0]
    function = helper.make_function(
        "my", "F", ["x"], ["y"], list(whole.graph.node), [helper.make_opsetid("", 18)]
    )
    for source in (whole, from_message(whole), whole.SerializeToString(), function):
        np.testing.assert_array_equal(ReferenceEvaluator(source).run(None, {"x": X})[0], wanted)
    graph = ReferenceEvaluator(whole.graph, opsets={"": 18})
    np.testing.assert_array_equal(graph.run(None, {"x": X})[0], wanted)
    node = ReferenceEvaluator(whole.graph.node[0])
    np.testing.assert_array_equal(node.run(None, {"x": X})[0], np.maximum(X, 0))


def test_names_and_opsets_are_those_of_the_model() -> None:
    evaluator = ReferenceEvaluator(model(RELU))
    assert evaluator.input_names == ["x"]
    assert evaluator.output_names == ["y"]
    assert evaluator.opsets == {"": 18}


def test_intermediate_values_can_be_had_by_name_or_all_at_once() -> None:
    evaluator = ReferenceEvaluator(model(RELU))
    np.testing.assert_array_equal(evaluator.run(["h"], {"x": X})[0], np.maximum(X, 0))
    everything = evaluator.run(None, {"x": X}, intermediate=True)
    assert {"x", "h", "y"} <= set(everything)
    np.testing.assert_array_equal(everything["x"], X)


def test_names_that_do_not_exist_are_refused() -> None:
    evaluator = ReferenceEvaluator(model(RELU))
    with pytest.raises(InvalidArgument, match=r"its outputs are y\), found 'z'"):
        evaluator.run(["z"], {"x": X})
    with pytest.raises(InvalidArgument, match=r"inputs of the graph \(x\), found 'z'"):
        evaluator.run(None, {"z": X})
    with pytest.raises(InvalidArgument, match="feeds must hold every input, found none for x"):
        evaluator.run(None, {})


def test_verbose_logs_every_node(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fornix.reference"):
        ReferenceEvaluator(model(RELU), verbose=1).run(None, {"x": X})
    assert len(caplog.records) == 2
    assert "node for 'h' (Relu): h = float32(3,)" in caplog.text


def test_attribute_references_take_the_callers_value() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a, float[N] b) {
            a = my.F <slope = 0.5> (x)
            b = my.F <slope = 0.25> (x)
        }
        <domain: "my", opset_import: ["" : 18]>
        F <slope> (v) => (w) { w = LeakyRelu <alpha: float = @slope> (v) }"""
    a, b = run(text, x=X)
    np.testing.assert_array_equal(a, [1, -1, 3])
    np.testing.assert_array_equal(b, [1, -0.5, 3])


def test_attribute_references_reach_through_nested_functions_and_defaults_hold() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a, float[N] b) {
            a = my.G (x)
            b = my.G <s = 0.25> (x)
        }
        <domain: "my", opset_import: ["" : 18, "my" : 1]>
        G <s: float = 0.5> (v) => (w) { w = my.F <slope: float = @s> (v) }
        <domain: "my", opset_import: ["" : 18]>
        F <slope> (v) => (w) { w = LeakyRelu <alpha: float = @slope> (v) }"""
    a, b = run(text, x=X)
    np.testing.assert_array_equal(a, [1, -1, 3])
    np.testing.assert_array_equal(b, [1, -0.5, 3])


def test_functions_have_opsets_of_their_own() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[2, 3, 4] x) => (float[2, 3, 4] a) { a = my.F (x) }
        <domain: "my", opset_import: ["" : 11]>
        F (v) => (w) { w = Softmax (v) }"""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    [found] = run(text, x=x)
    np.testing.assert_allclose(found.reshape(2, -1).sum(1), 1, rtol=1e-6)


def test_overloads_are_told_apart() -> None:
    whole = model("""<ir_version: 10, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a, float[N] b) { a = my.F (x) b = my.F (x) }
        <domain: "my", opset_import: ["" : 18]> F (v) => (w) { w = Neg (v) }
        <domain: "my", opset_import: ["" : 18]> F (v) => (w) { w = Abs (v) }""")
    whole.functions[1].overload = whole.graph.node[1].overload = "abs"
    a, b = ReferenceEvaluator(whole).run(None, {"x": X})
    np.testing.assert_array_equal(a, -X)
    np.testing.assert_array_equal(b, np.abs(X))


def test_functions_that_call_each_other_in_a_circle_are_named() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a) { a = my.F (x) }
        <domain: "my", opset_import: ["" : 18, "my" : 1]> F (v) => (w) { w = my.G (v) }
        <domain: "my", opset_import: ["" : 18, "my" : 1]> G (v) => (w) { w = my.F (v) }"""
    with pytest.raises(ValidationError, match="must not call themselves, found F → G → F"):
        run(text, x=X)


def test_a_chain_of_functions_that_is_too_long_is_refused() -> None:
    count = DEFAULT.nesting + 2
    functions = "".join(
        f'<domain: "my", opset_import: ["" : 18, "my" : 1]> '
        f"F{i} (v) => (w) {{ w = my.F{i + 1} (v) }}\n"
        for i in range(count)
    )
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a) {{ a = my.F0 (x) }}
        {functions}<domain: "my", opset_import: ["" : 18]> F{count} (v) => (w) {{ w = Neg (v) }}"""
    with pytest.raises(LimitError, match=r"call of function 'my.F100': nesting is limited to 100"):
        run(text, x=X)


def test_a_function_that_is_called_often_is_prepared_once() -> None:
    depth = 15
    functions = "".join(
        f'<domain: "my", opset_import: ["" : 18, "my" : 1]> F{i} (v) => (w) '
        f"{{ a = my.F{i + 1} (v) b = my.F{i + 1} (v) w = Add (a, b) }}\n"
        for i in range(depth)
    )
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a) {{ a = my.F0 (x) }}
        {functions}
        <domain: "my", opset_import: ["" : 18]> F{depth} (v) => (w) {{ w = Identity (v) }}"""
    plan = ReferenceEvaluator(model(text)).plan
    assert len(plan.scope.plans) == depth + 1
    assert plan.size == 1 + 3 * (2**depth - 1) + 2**depth


def test_a_function_with_too_many_inputs_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a) { a = my.F (x, x) }
        <domain: "my", opset_import: ["" : 18]> F (v) => (w) { w = Neg (v) }"""
    with pytest.raises(ValidationError, match="function F takes 1 inputs, found 2"):
        run(text, x=X)


def test_subgraphs_read_outer_values() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x, bool c) => (float[N] y) {
            double = Add (x, x)
            y = If (c) <
                then_branch = g () => (float[] t) { t = Add (double, x) },
                else_branch = h () => (float[] e) { e = Identity (x) }
            >
        }"""
    np.testing.assert_array_equal(run(text, x=X, c=np.array(True))[0], 3 * X)
    np.testing.assert_array_equal(run(text, x=X, c=np.array(False))[0], X)


COUNT = """<ir_version: 8, opset_import: ["" : 18]>
    f (int64 limit, float[N] x) => (float[N] last, float[] every) {
        last, every = Loop (limit, , x) <
            body = g (int64 i, bool c, float[N] v) => (bool go, float[N] w, float[N] s) {
                go = Identity (c)
                w = Add (v, x)
                s = Identity (v)
            }
        >
    }"""


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_loop_carries_and_stacks(limit: int) -> None:
    last, every = run(COUNT, limit=np.array(limit), x=X)
    np.testing.assert_array_equal(last, X * (limit + 1))
    assert every.shape == (limit, *((3,) if limit else (0,)))


def test_a_loop_ends_when_its_body_says_so() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float x) => (float last) {
            last = Loop ( , , x) <
                body = g (int64 i, bool c, float v) => (bool go, float w)
                <float ten = {10}> { w = Add (v, v) go = Less (w, ten) }
            >
        }"""
    assert run(text, x=np.array(1.0, np.float32))[0] == 16


def test_a_scan_runs_along_any_axis_in_any_direction() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[2] start, float[2, 3] x) => (float[2] last, float[2, 3] sums) {
            last, sums = Scan <
                num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
                scan_output_axes = [-1], scan_output_directions = [1],
                body = g (float[2] s, float[2] v) => (float[2] t, float[2] u) {
                    t = Add (s, v)
                    u = Identity (t)
                }
            > (start, x)
        }"""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    last, sums = run(text, start=np.zeros(2, np.float32), x=x)
    np.testing.assert_array_equal(last, x.sum(1))
    np.testing.assert_array_equal(sums, np.cumsum(x[:, ::-1], 1)[:, ::-1])


def test_a_missing_opset_import_is_named() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x) => (float[N] y) { y = other.F (x) }"""
    with pytest.raises(ValidationError, match="an opset import for domain 'other' is required"):
        run(text, x=X)


def test_a_value_used_before_it_is_computed_is_named() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x) => (float[N] y) { y = Neg (h) h = Neg (x) }"""
    with pytest.raises(ValidationError, match="input 'h' must be computed before"):
        run(text, x=X)


def test_what_numpy_refuses_becomes_an_error_of_the_node() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x, float[N] y) => (float[N] z) { z = MatMul (x, y) }"""
    with pytest.raises((Fail, ValueError), match=r"^node for 'z' \(MatMul, opset 18\): "):
        run(text, x=X, y=X[:2])


def test_functions_that_expand_beyond_measure_are_refused() -> None:
    count = 60
    functions = "".join(
        f'<domain: "my", opset_import: ["" : 18, "my" : 1]> '
        f"F{i} (v) => (w) {{ u = my.F{i + 1} (v) w = my.F{i + 1} (u) }}\n"
        for i in range(count)
    )
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] x) => (float[N] a) {{ a = my.F0 (x) }}
        {functions}<domain: "my", opset_import: ["" : 18]> F{count} (v) => (w) {{ w = Neg (v) }}"""
    with pytest.raises(LimitError, match=r"function_nodes is limited to \d+, found \d+"):
        run(text, x=X)


def test_what_memory_cannot_hold_becomes_an_error_of_the_node() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        f (int64[2] shape) => (float[A, B] y) { y = ConstantOfShape (shape) }"""
    message = r"^node for 'y' \(ConstantOfShape, opset 18\): output must fit into memory, found"
    with pytest.raises(Fail, match=message):
        run(text, shape=np.array([2**30, 2**30]))


@pytest.mark.parametrize("data", [b"garbage!", b"\x08"])
def test_damaged_bytes_are_an_error_of_the_format(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"byte \d, in \w+: "):
        ReferenceEvaluator(data)


def test_a_file_without_a_graph_has_nothing_to_run(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    for source, name in ((path, "m.onnx"), (b"", "the model")):
        with pytest.raises(ValidationError, match=f"{name}: a graph .* is required, found none"):
            ReferenceEvaluator(source)


def test_limits_can_be_raised_by_who_evaluates() -> None:
    with pytest.raises(LimitError, match="function_nodes is limited to 1, found 2"):
        _ = ReferenceEvaluator(model(RELU), limits=Limits(function_nodes=1)).plan


def test_an_attribute_of_another_kind_is_refused() -> None:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], alpha="x")
    with pytest.raises(SchemaError, match="LeakyRelu-16: attribute alpha is float, found string"):
        ReferenceEvaluator(node).run(None, {"x": X})


def test_functions_take_their_attributes_from_the_caller() -> None:
    function = onnx.parser.parse_function(
        """<domain: "my", opset_import: ["" : 18]>
        Slope <alpha> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }"""
    )
    evaluator = ReferenceEvaluator(function)
    for alpha in (0.5, 0.25):
        (y,) = evaluator.run(None, {"x": X}, {"alpha": alpha})
        np.testing.assert_array_equal(y, np.where(X < 0, X * np.float32(alpha), X))
    (y,) = ReferenceEvaluator(
        helper.make_node("Slope", ["x"], ["y"], domain="my", alpha=0.5),
        opsets={"": 18, "my": 1},
        functions=[evaluator],
    ).run(None, {"x": X})
    np.testing.assert_array_equal(y, np.where(X < 0, X * np.float32(0.5), X))


@pytest.mark.parametrize(
    "text",
    [
        "f (float[N] x) => (float[N] y) { y = Relu (x) y = Neg (x) }",
        "f (float[N] x) => (float[N] y) <float[1] y = {1}> { y = Relu (x) }",
        "f (float[N] x, float[N] x) => (float[N] y) { y = Relu (x) }",
    ],
)
def test_values_that_share_a_name_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"graph 'f': '[xy]' has to be the only value"):
        ReferenceEvaluator(model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')).run(
            None, {"x": X}
        )


def test_types_that_the_schema_does_not_allow_are_refused() -> None:
    softmax = helper.make_node("Softmax", ["x"], ["y"])
    with pytest.raises(
        DTypeError, match=r"^node for 'y' \(Softmax, .*\): input is int64\[2\], but "
    ):
        ReferenceEvaluator(softmax).run(None, {"x": np.arange(2)})
    add = helper.make_node("Add", ["x", "y"], ["z"])
    message = (
        r"B is int8\[3\], but another input of the same type T is float32\[3\]; they must agree"
    )
    with pytest.raises(DTypeError, match=message):
        ReferenceEvaluator(add).run(None, {"x": X, "y": X.astype(np.int8)})
    absolute = helper.make_node("Abs", ["x"], ["y"])
    with pytest.raises(DTypeError, match=r"X is seq\(float32\[3\]\), but Abs-13 allows tensor"):
        ReferenceEvaluator(absolute).run(None, {"x": [X]})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('ir_version: 10, opset_import: ["" : 99]', "ai.onnx up to 28 is required, found 99"),
        ('ir_version: 10, opset_import: ["" : 20, "ai.onnx.ml" : 6]',
         "6; export the model for opset 5 or older"),
        ('ir_version: 1000000000, opset_import: ["" : 20]',
         "an IR version up to 14 is required, found 1000000000; save the model with an older one"),
    ],
)  # fmt: skip
def test_versions_from_after_this_release_are_refused(header: str, message: str) -> None:
    model = parse_model(f"<{header}> g (float x) => (float y) {{ y = Relu (x) }}")
    for evaluate in (ReferenceEvaluator, InferenceSession):
        with pytest.raises(ValidationError, match=re.escape(message)):
            evaluate(model)


def test_functions_import_opsets_that_exist_and_other_domains_any() -> None:
    header = '<ir_version: 10, opset_import: ["" : 20, "f" : 700]> g (float x) => (float y)'
    body = '{ y = f.twice (x) } <domain: "f", opset_import: ["" : %d]> twice (x) => (y)'
    text = header + body + " { y = Add (x, x) }"
    assert ReferenceEvaluator(parse_model(text % 20)).run(None, {"x": np.float32(2)}) == [4]
    with pytest.raises(ValidationError, match=r"twice.*: an opset of ai.onnx up to 28 is required"):
        ReferenceEvaluator(parse_model(text % 29))


def test_sessions_and_evaluators_hold_models_to_limits() -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float x) => (float y) '
    model = parse_model(text + "{ a = Relu (x) b = Relu (a) y = Relu (b) }")
    for evaluate in (ReferenceEvaluator, InferenceSession):
        message = r"nodes is limited to 2, found 3; pass limits=Limits\(nodes=3\) to allow it"
        with pytest.raises(LimitError, match=message):
            evaluate(model, limits=Limits(nodes=2))
        evaluate(model, limits=Limits(nodes=3))


def test_a_body_of_ir_version_3_lists_what_it_stores_behind_its_inputs() -> None:
    """The standard allows it; converters from TensorFlow wrote such bodies."""
    source = parse_model("""
        <ir_version: 3, opset_import: ["": 8]>
        g (int64 m, bool c, float[1] s) => (float[1] y) {
            y = Loop (m, c, s) <
                body = b (int64 i, bool go, float[1] state, float[1] step) =>
                       (bool on, float[1] next) <float[1] step = {10}>
                { on = Identity (go) next = Add (state, step) }
            >
        }
    """)
    feeds = {"m": np.array(3), "c": np.array(True), "s": np.array([1], np.float32)}
    for session in (ReferenceEvaluator(from_message(source)), InferenceSession(source)):
        [y] = session.run(None, feeds)
        assert y.tolist() == [31]


@pytest.mark.parametrize(
    ("feed", "found"),
    [(None, "NoneType"), ({"a": 1}, "dict"), (object(), "object"), (2**70, "int")],
)
@pytest.mark.parametrize("dtype", ["float", "string"])
def test_feeds_that_no_tensor_can_be_are_refused(feed: Any, found: str, dtype: str) -> None:
    text = (
        f'<ir_version: 10, opset_import: ["": 21]> g ({dtype}[2] x) => (y) {{ y = Identity (x) }}'
    )
    with pytest.raises(InvalidArgument, match=rf"feed of 'x' must be \w+\[2\], found {found}$"):
        run(text, x=feed)


def test_evaluators_can_be_pickled() -> None:
    one = ReferenceEvaluator(model(RELU))
    other = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(other.run(None, {"x": X})[0], [-1.0, 0.0, -3.0])
