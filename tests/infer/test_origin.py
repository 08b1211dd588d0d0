from __future__ import annotations

import pytest
from onnx import parser

from fornix.infer import Inference, infer_model, origin, origins
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from tests.conformance.cases import Case, cases

FIRST_OF_EACH = {frozenset(c.operators): c for c in reversed(cases().values())}.values()


def inferred(text: str) -> tuple[Model, Inference]:
    model = from_message(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}'))
    return model, infer_model(model)


def told(text: str, axis: int) -> list[str]:
    """The origins of an extent of the first output, line by line."""
    model, found = inferred(text)
    return [str(one) for one in origins(found, model.graph.outputs[0], axis)]


HEADS = """f (float[N, S, 768] x) => (float[] y) {
    shape = Shape (x)
    zero = Constant <value_int: int = 0> ()
    batch = Gather (shape, zero)
    axes = Constant <value_ints: ints = [0]> ()
    first = Unsqueeze (batch, axes)
    rest = Constant <value_ints: ints = [-1, 12, 64]> ()
    target = Concat <axis = 0> (first, rest)
    y = Reshape (x, target)
}"""


def test_an_extent_is_followed_through_computed_shapes_to_the_input() -> None:
    lines = told(HEADS, 0)
    assert lines[0] == "axis 0 of 'y' is N: node for 'y' (Reshape): element 0 of 'target'"
    assert "element 0 of 'shape' is N: node for 'shape' (Shape): axis 0 of 'x'" in lines
    assert "axis 0 of 'x' is N: declared of the input" in lines


def test_an_extent_that_a_constant_states_ends_there() -> None:
    assert told(HEADS, 2) == [
        "axis 2 of 'y' is 12: node for 'y' (Reshape): element 2 of 'target'",
        "element 2 of 'target' is 12: node for 'target' (Concat): element 1 of 'rest'",
        "element 1 of 'rest' is 12: node for 'rest' (Constant) states it",
    ]


def test_an_extent_that_is_computed_has_a_formula() -> None:
    model, found = inferred("""f (float[N, 3, H, W] x, float[8, 3, 3, 3] w) => (float[] y) {
        y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)
    }""")
    one = origin(found, model.graph.outputs[0], 2)
    assert [str(place) for place in one.sources] == ["axis 2 of 'x'", "axis 2 of 'w'"]
    text = one.reason.removeprefix("node for 'y' (Conv) makes it ")
    assert text != one.reason
    for image, taps in ((224, 3), (31, 5)):  # ⌊(image + 2 − taps) / 2⌋ + 1
        formula = text.replace("x[2]", str(image)).replace("w[2]", str(taps))
        assert eval(formula) == (image + 2 - taps) // 2 + 1  # noqa: S307 - our own text


def test_extents_that_agree_come_from_all_that_agree() -> None:
    text = "f (float[2, M] x, float[M] b) => (float[] y) { y = Add (x, b) }"
    assert told(text, 1) == [
        "axis 1 of 'y' is M: node for 'y' (Add) makes it from axis 1 of 'x', axis 0 of 'b'",
        "axis 1 of 'x' is M: declared of the input",
        "axis 0 of 'b' is M: declared of the input",
    ]
    assert told(text, 0)[0] == "axis 0 of 'y' is 2: node for 'y' (Add): axis 0 of 'x'"


def test_weights_are_stored() -> None:
    text = "f (float[N, 2] x) => (float[] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}> {"
    assert told(f"{text} y = MatMul (x, w) }}", 1)[1:] == [
        "axis 1 of 'w' is 3: stored with the model"
    ]


def test_what_only_the_model_declares_is_told_with_what_the_node_knows() -> None:
    why = "? (Reshape: entry 0 of its shape is computed at run time)"
    text = """f (float[2, M] x, int64[2] s) => (float[5, K] y) { y = Reshape (x, s) }"""
    assert told(text, 0) == [
        "axis 0 of 'y' is 5: declared by the model; node for 'y' (Reshape) alone leaves it " + why
    ]


def test_an_unknown_extent_tells_why_and_where() -> None:
    text = "f (float[2, M] x) => (float[] y) { p = NonZero (x)  y = Transpose (p) }"
    why = "? (NonZero: how many elements differ from zero)"
    assert told(text, 0) == [
        f"axis 0 of 'y' is {why}: node for 'y' (Transpose): axis 1 of 'p'",
        f"axis 1 of 'p' is {why}: node for 'p' (NonZero) makes it",
    ]
    assert told("f (float[?] x) => (float[] y) { y = Relu (x) }", 0)[1:] == [
        "axis 0 of 'x' is ? (axis 0 of 'x' is declared without extent): declared without extent"
    ]


BRANCHES = """f (bool c, float[2, 3] a, float[2, 3] b) => (float[] y) {
    y = If (c) < then_branch = g () => (float[] t) { t = Relu (a) },
                 else_branch = h () => (float[] e) { e = Relu (b) } >
}"""


def test_captured_values_are_sources() -> None:
    line = "axis 1 of 'y' is 3: node for 'y' (If) makes it from axis 1 of 'a', axis 1 of 'b'"
    assert told(BRANCHES, 1)[0] == line


SCAN = """f (float[2] s, float[N, 2] x) => (float[] y, float[] z) {
    y, z = Scan <num_scan_inputs = 1, body = g (float[2] a, float[2] b) => (float[2] c, float[2] d)
        { c = Add (a, b)  d = Relu (b) }> (s, x)
}"""


def test_inputs_of_a_body_are_given_by_its_node() -> None:
    model, found = inferred(SCAN)
    [body] = model.graph.nodes[0].graphs
    assert origin(found, body.inputs[1], 0).reason == "given by node for 'y' (Scan)"
    assert origin(found, model.graph.outputs[1], 0).reason == "node for 'y' (Scan): axis 0 of 'x'"


CALLS = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
    f (float[2, N] a) => (float[] y) { y = my.Twice (a) }
    <domain: "my", opset_import: ["" : 18]> Twice (v) => (w) { w = Add (v, v) }"""


def test_calls_of_functions_are_one_step_and_their_insides_say_so() -> None:
    model = from_message(parser.parse_model(CALLS))
    found = infer_model(model)
    y = model.graph.outputs[0]
    assert origin(found, y, 1).reason == "node for 'y' (my.Twice): axis 1 of 'a'"
    inside = model.functions[0].graph
    assert origin(found, inside.inputs[0], 0).reason == "given by calls of function 'my.Twice'"
    reason = origin(found, inside.outputs[0], 0).reason
    assert reason == "follows from a call of function 'my.Twice'"


def test_contents_that_are_no_integers_are_followed_as_a_whole() -> None:
    lines = told(
        """f (float[N, 4] x) => (float[] y) <float[2] scales = {1.0, 2.5}> {
            y = Resize (x, , scales)
        }""",
        1,
    )
    assert lines[0].startswith("axis 1 of 'y' is 10: node for 'y' (Resize) makes it")
    assert "the contents of 'scales': stored with the model" in lines


FEW = 20
"""Nodes of a model up to which all its extents are followed."""


@pytest.mark.parametrize("case", FIRST_OF_EACH, ids=lambda case: case.name)
def test_every_extent_of_the_standards_cases_has_an_origin(case: Case) -> None:
    model = from_message(case.model)
    if len(model.graph.nodes) > FEW:
        return
    found = infer_model(model)
    for value in model.graph.outputs:
        fact = found.fact(value)
        for axis, extent in enumerate(fact.shape if fact.has_rank else ()):
            chain = list(origins(found, value, axis))
            assert chain[0].extent == extent
            assert all(one.reason for one in chain)
            assert any(not one.sources for one in chain)
            assert isinstance(extent, int) or not extent.unknowns or all(extent.unknowns)
