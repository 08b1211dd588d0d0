"""Parts of the optimizer where golden graphs would say less: bounds, names, what passes report."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.errors import GraphError, LimitError
from fornix.format.limits import Limits
from fornix.format.text import parse_model
from fornix.infer import infer_model
from fornix.ir.graph import Model, Node
from fornix.ir.load import from_message
from fornix.ir.verify import verify
from fornix.passes import Level, optimize, optimize_explained
from fornix.passes.fold_constants import FREE_TOTAL, Budget, fold_constants
from fornix.passes.inline import inline_functions
from fornix.reference import ReferenceEvaluator


def model_of(text: str, opset: int = 21) -> Model:
    return from_message(parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}'))


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.nodes]


def test_steps_tell_what_was_done_and_how_many_nodes_are_left() -> None:
    model = model_of("f (float[N] x) => (float[N] y) { a = Neg (x) b = Neg (a) y = Relu (b) }")
    steps = optimize_explained(model)[1]
    [step] = [step for step in steps if step.changes]
    assert (step.name, dict(step.changes)) == ("canonicalize", {"cancel_twice": 1})
    assert (step.nodes_before, step.nodes_after) == (3, 1)
    assert step.seconds > 0
    assert optimize_explained(model, Level.NONE)[1] == []


def test_folding_stops_where_the_model_would_grow_too_much() -> None:
    size = 2**17  # bytes per result, 32768 floats, more than is free for each but 4 times its input
    lines = "".join(f"t{i} = Tile (w, four) u{i} = Add (t{i}, x) " for i in range(200))
    sums = "y = Sum (" + ", ".join(f"u{i}" for i in range(200)) + ")"
    data = ", ".join(["1"] * 8192)
    text = f"""f (float[1] x) => (float[32768] y) <float[8192] w = {{{data}}},
        int64[1] four = {{4}}> {{ {lines} {sums} }}"""
    model = model_of(text)
    fold_constants(model.graph, infer_model(model))
    left = operators(model).count("Tile")
    assert 200 - left == FREE_TOTAL // size
    assert Budget.of(model.graph).left >= FREE_TOTAL


@pytest.mark.parametrize("name", ["Exp", "Log", "Tanh", "Sin"])
def test_functions_of_stored_numbers_are_rounded_once(name: str) -> None:
    numbers = np.linspace(1e-4, 3, 1000, dtype=np.float32)
    data = ", ".join(map(repr, numbers.tolist()))
    text = f"""f (float[1000] x) => (float[1000] y) <float[1000] c = {{{data}}}> {{
        a = {name} (c) y = Add (x, a) }}"""
    model = model_of(text)
    fold_constants(model.graph, infer_model(model))
    (left,) = model.graph.nodes
    (constant,) = (v.constant for v in left.inputs if v is not None and v.constant is not None)
    exact = getattr(np, name.lower())(numbers.astype(np.float64))
    np.testing.assert_array_equal(constant.numpy(), exact.astype(np.float32))


@pytest.mark.parametrize(
    ("rows", "is_shared", "left"), [(200, True, 1), (200, False, 0), (2, True, 0)]
)
def test_a_large_table_that_others_read_is_not_stored_a_second_time(
    rows: int, left: int, *, is_shared: bool
) -> None:
    data = ", ".join(["1"] * (rows * 100))
    other = "r = Gather (w, i)" if is_shared else "r = Cast <to = 1> (i)"
    text = f"""f (float[N, 100] x, int64[M] i) => (y, r) <float[{rows}, 100] w = {{{data}}}> {{
        t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t) {other} }}"""
    model = model_of(text)
    fold_constants(model.graph, infer_model(model))
    assert operators(model).count("Transpose") == left


def test_a_model_that_redefines_an_operator_is_left_to_itself() -> None:
    text = """f (float[N] x) => (float[N] y) { a = Neg (x) y = Neg (a) }
        <domain: "", opset_import: ["" : 21]> Neg (v) => (w) { w = Abs (v) }"""
    assert operators(optimize(model_of(text))) == ["Neg", "Neg"]


def test_a_branch_with_a_subgraph_is_inlined_with_names_of_its_own() -> None:
    text = """f (float[N] x, bool c) => (float[N] y) <bool t = {1}> {
        a = Abs (x)
        b = If (t) <
            then_branch = g () => (float[N] r) {
                r = If (c) <
                    then_branch = h () => (float[N] s) { d = Neg (a) s = Exp (d) },
                    else_branch = i () => (float[N] s) { d = Sin (a) s = Exp (d) }>
            },
            else_branch = j () => (float[N] r) { r = Cos (x) }>
        y = Add (a, b)
    }"""
    model = model_of(text)
    optimized = optimize(model, debug=True)
    assert operators(optimized) == ["Abs", "If", "Add"]
    for c in (True, False):
        feeds = {"x": np.array([1, 2], np.float32), "c": np.array(c)}
        one, other = (ReferenceEvaluator(m).run(None, feeds) for m in (model, optimized))
        np.testing.assert_array_equal(one[0], other[0])


NESTED = """<ir_version: 9, opset_import: ["" : 21, "f" : 1]>
    m (float[N] x) => (float[N] y) { y = f.Twice (x) }
    <domain: "f", opset_import: ["" : 21, "f" : 1]> Twice (v) => (w) {
        a = f.Once (v) w = f.Once (a) }
    <domain: "f", opset_import: ["" : 21]> Once (v) => (w) { w = Neg (v) }"""


def test_functions_that_call_functions_are_inlined() -> None:
    model = from_message(parse_model(NESTED))
    changes = inline_functions(model)
    verify(model)
    assert operators(model) == ["Neg", "Neg"]
    assert changes.total() == 3
    assert model.functions == []


def test_inlining_is_bounded() -> None:
    model = from_message(parse_model(NESTED))
    with pytest.raises(LimitError, match="function_nodes is limited to 1, found 5"):
        inline_functions(model, limits=Limits(function_nodes=1))  # three calls, two Neg


def test_inlining_needs_a_place() -> None:
    from fornix.passes.inline import _moved

    model = model_of("f (float[N] x) => (float[N] y) { y = Relu (x) }")
    with pytest.raises(GraphError, match="it must stand in a graph to be inlined"):
        _moved(model.graph, Node("", "If", name="n"), [])


def test_outputs_keep_names_and_types() -> None:
    text = "f (float[N, 2] x) => (float[N, 2] y) { a = Transpose (x) y = Transpose (a) }"
    model = model_of(text)
    [before], [after] = model.graph.outputs, optimize(model).graph.outputs
    assert (after.name, after.declared_type) == (before.name, before.declared_type)


@pytest.mark.parametrize(
    ("opset", "attributes", "stays"),
    [(6, "", True), (6, "<is_test = 1>", False), (1, "<is_test = 0>", True), (7, "", False)],
)
def test_dropouts_before_opset_7_train_unless_they_say_otherwise(
    opset: int, attributes: str, stays: bool
) -> None:
    text = f"f (float[N] x) => (float[N] y) {{ a = Dropout {attributes} (x) y = Abs (a) }}"
    assert ("Dropout" in operators(optimize(model_of(text, opset)))) is stays
