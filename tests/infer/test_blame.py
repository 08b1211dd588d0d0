from __future__ import annotations

import time

import pytest
from onnx import parser

import fornix.onnx
from fornix.check import check_model
from fornix.edit.shapes import set_shapes
from fornix.errors import ShapeError, ValidationError
from fornix.infer import explained, infer_model, infer_strictly
from fornix.ir.load import from_message


def told(body: str, ends: str) -> str:
    """What follows on the finding of the checker about the only wrong node of a model."""
    text = f'<ir_version: 10, opset_import: ["": 21]> g {ends} {{ {body} }}'
    [finding] = check_model(from_message(parser.parse_model(text)))
    return str(finding).partition("; ")[2]


def test_an_extent_is_followed_through_nodes_that_hand_it_on() -> None:
    ends = "(float[N, 3] x, float[3, 5] w, float[4, 2] v) => (float[A, B] y)"
    body = "h = MatMul (x, w) r = Relu (h) s = Add (r, r) [fc2] y = MatMul (s, v)"
    assert told(body, ends) == (
        "axis 1 of 's' is 5, as axis 1 of 'w': declared of the input; "
        "axis 0 of 'v' is 4: declared of the input"
    )


def test_a_computed_extent_is_shown_with_its_formula() -> None:
    ends = "(float[N, 3, 32, 32] x, float[6, 3, 5, 5] w, float[128, 2] v) => (float[A, B] y)"
    body = """h = Conv (x, w) p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (h)
              [flat] f = Flatten (p) y = Gemm (f, v)"""
    assert told(body, ends) == (
        "axis 1 of 'f' is 1176: node 'flat' (Flatten) makes it p[1]*p[2]*p[3], "
        "where axis 1 of 'p' is 6, axis 2 of 'p' is 14, axis 3 of 'p' is 14; "
        "axis 0 of 'v' is 128: declared of the input"
    )


def test_elements_of_a_target_shape_are_to_blame_too() -> None:
    body = "[c] s = Constant <value_ints = [2, 5]> () y = Reshape (x, s)"
    text = told(body, "(float[12] x) => (float[A, B] y)")
    assert "axis 0 of 'x' is 12: declared of the input" in text
    assert "element 1 of 's' is 5: node 'c' (Constant) states it" in text


def test_of_many_inputs_only_the_odd_one_is_to_blame() -> None:
    ends = "(float[2, 3] a, float[9, 3] b, float[7, 4] c) => (float[A, B] y)"
    assert told("y = Concat <axis = 0> (a, b, c, a)", ends) == (
        "axis 1 of 'c' is 4: declared of the input"
    )


def test_makers_of_the_inputs_are_named_where_no_single_extent_is_to_blame() -> None:
    ends = "(float[2, 3] a, float[5] b) => (float[A, B] y)"
    text = told("[t] r = Transpose (b) y = Add (a, r)", ends.replace("[5] b", "[4, 5] b"))
    assert text == (
        "'a' is float32[2, 3]: declared of the input; "
        "'r' is float32[5, 4]: made by node 't' (Transpose)"
    )
    text = told("y = MatMul (a, s)", f"{ends} <float s = {{1}}>")
    assert text.endswith("; 's' is float32[]: stored with the model")


def test_outputs_that_are_declared_otherwise_tell_what_was_inferred() -> None:
    text = told("[r] y = Relu (x)", "(float[2, 7] x) => (float[3, 7] y)")
    assert text == "axis 0 of 'y' is 2, as axis 0 of 'x': declared of the input"
    assert told("[r] y = Relu (x)", "(float[2, 7] x) => (float[7] y)") == ""


def test_nodes_of_bodies_are_explained_with_what_is_known_outside() -> None:
    ends = "(bool b, float[2, 3] x, float[4, 5] w) => (float[A, B] y)"
    body = """y = If (b) <then_branch = t () => (float[A, B] z) { z = MatMul (x, w) },
                       else_branch = e () => (float[A, B] u) { u = Identity (x) }>"""
    assert "axis 1 of 'x' is 3: declared of the input; axis 0 of 'w' is 4" in told(body, ends)


WRONG = """<ir_version: 10, opset_import: ["": 21]>
    g (float[2, 3] x, float[4, 5] w) => (float[A, B] y) { [m] y = MatMul (x, w) }"""
ENDS = "; axis 1 of 'x' is 3: declared of the input; axis 0 of 'w' is 4: declared of the input"


def test_strict_rules_explain_what_they_raise() -> None:
    message = parser.parse_model(WRONG)
    with pytest.raises(ShapeError) as found:
        infer_strictly(from_message(message))
    assert str(found.value).endswith(ENDS)
    with pytest.raises(fornix.onnx.shape_inference.InferenceError) as found:
        fornix.onnx.shape_inference.infer_shapes(message, strict_mode=True)
    assert str(found.value).endswith(ENDS)
    with pytest.raises(ValidationError) as error:
        fornix.onnx.checker.check_model(message, full_check=True)
    assert str(error.value).endswith(ENDS)
    right = from_message(parser.parse_model(WRONG.replace("[4, 5]", "[3, 5]")))
    with pytest.raises(ShapeError) as found:
        set_shapes(right, {"w": [4, 5]})
    assert str(found.value).endswith(ENDS)


def test_an_error_is_explained_once_and_only_among_the_first() -> None:
    many = " ".join(f"y{i} = MatMul (x, w)" for i in range(40))
    ends = "(float[2, 3] x, float[4, 5] w) => (float[A, B] y0)"
    text = f'<ir_version: 10, opset_import: ["": 21]> g {ends} {{ {many} }}'
    found = infer_model(from_message(parser.parse_model(text)))
    texts = [str(explained(found, explained(found, error))) for error in found.errors]
    assert [text.count("declared of the input") for text in texts] == [2] * 16 + [0] * 24


def test_what_would_take_long_is_not_explained() -> None:
    wide = ", ".join(["a"] * 20_000)
    ends = "(float[2, 3] a, float[7, 4] b) => (float[A, B] y)"
    started = time.perf_counter()
    assert told(f"y = Concat <axis = 0> ({wide}, b)", ends) == ""
    assert time.perf_counter() - started < 2


def test_extents_are_left_with_a_node_that_has_bodies() -> None:
    ends = "(bool b, float[2, 3] x, float[4, 5] w) => (float[A, B] y)"
    body = """[i] h = If (b) <then_branch = t () => (float[A, B] z) { z = Relu (x) },
                           else_branch = e () => (float[A, B] u) { u = Neg (x) }>
              y = MatMul (h, w)"""
    assert told(body, ends) == (
        "axis 1 of 'h' is 3: node 'i' (If) makes it; axis 0 of 'w' is 4: declared of the input"
    )
