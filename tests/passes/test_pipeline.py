from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.errors import InvalidArgument, LimitError
from fornix.infer import infer_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import Level, optimize
from fornix.passes.apply import apply_rules
from fornix.passes.pattern import P, any_, rewrite
from fornix.passes.pipeline import Native
from fornix.reference import ReferenceEvaluator

RANDOM = np.random.default_rng(3)


def model_of(text: str, opset: int = 20) -> Model:
    header = f'<ir_version: 9, opset_import: ["" : {opset}]>'
    return from_message(parser.parse_model(header + text))


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.nodes]


def check(
    text: str, expected: list[str], opset: int = 20, rtol: float = 0.0, **feeds: Any
) -> Model:
    """Optimize with the verifier on, compare the operators left, and the results."""
    model = model_of(text, opset)
    optimized = optimize(model, debug=True)
    assert operators(optimized) == expected
    wanted = ReferenceEvaluator(model).run(None, feeds)
    found = ReferenceEvaluator(optimized).run(None, feeds)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)
    assert [v.name for v in optimized.graph.outputs] == [v.name for v in model.graph.outputs]
    return optimized


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


X = floats(2, 3, 4)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Identity (x) y = Relu (a)", ["Relu"]),
        ("a = Dropout (x) y = Relu (a)", ["Relu"]),
        ("a = Cast <to = 1> (x) y = Relu (a)", ["Relu"]),
        ("a = Transpose <perm = [0, 1, 2]> (x) y = Relu (a)", ["Relu"]),
        ("a = Transpose (x) b = Transpose (a) y = Relu (b)", ["Relu"]),
        ("a = Transpose <perm = [0, 2, 1]> (x) y = Transpose (a)", ["Transpose"]),
        ("a = Concat <axis = 0> (x) y = Relu (a)", ["Relu"]),
        ("a = Shape (x) b = Reshape (x, a) y = Relu (b)", ["Relu"]),
        ("one = Constant <value_float = 1.0> () a = Mul (x, one) y = Relu (a)", ["Relu"]),
        ("one = Constant <value_float = 1.0> () a = Div (x, one) y = Relu (a)", ["Relu"]),
        ("a = Relu (x) b = Relu (x) y = Add (a, b)", ["Relu", "Add"]),
        ("a = Neg (x) y = Relu (x)", ["Relu"]),
    ],
)  # fmt: skip
def test_work_that_changes_nothing_disappears(body: str, expected: list[str]) -> None:
    check(f"f (float[N, 3, 4] x) => (float[?, ?, ?] y) {{ {body} }}", expected, x=X)


@pytest.mark.parametrize(
    "body",
    [
        "zero = Constant <value_float = 0.0> () y = Add (x, zero)",  # turns −0 into 0
        "ones = Constant <value_floats = [1.0, 1.0, 1.0, 1.0]> () y = Mul (v, ones)",
    ],
)
def test_work_that_changes_something_stays(body: str) -> None:
    text = f"f (float[N, 3, 4] x, float[1] v) => (float[] y) {{ {body} }}"
    optimized = optimize(model_of(text), debug=True)
    assert operators(optimized)[-1] in {"Add", "Mul"}


def test_dropout_that_trains_stays() -> None:
    text = """f (float[N] x) => (float[N] y) <float r = {0.5}, bool t = {1}> {
        y = Dropout (x, r, t) }"""
    assert operators(optimize(model_of(text))) == ["Dropout"]


def test_an_output_that_is_an_input_keeps_a_node() -> None:
    check("f (float[N, 3, 4] x) => (float[N, 3, 4] y) { y = Identity (x) }", ["Identity"], x=X)


def test_shapes_computed_from_static_extents_are_stored() -> None:
    text = """f (float[2, 3, 4] x) => (float[6, 4] y)
        <int64[1] last = {-1}, int64 two = {2}, int64[1] zero = {0}> {
        s = Shape (x)
        n = Gather (s, two)
        u = Unsqueeze (n, zero)
        t = Concat <axis = 0> (last, u)
        y = Reshape (x, t)
    }"""
    check(text, ["Reshape"], x=X)


def test_a_computed_target_with_one_open_extent_is_stored() -> None:
    text = """f (float[N, S, 12] x) => (float[] y)
        <int64[2] first = {0, 1}, int64[2] heads = {3, 4}> {
        s = Shape (x)
        outer = Gather (s, first)
        t = Concat <axis = 0> (outer, heads)
        y = Reshape (x, t)
    }"""
    optimized = check(text, ["Reshape"], x=floats(2, 5, 12))
    [target] = [value.tensor for value in optimized.graph.initializer_values]
    assert target is not None
    assert target.numpy().tolist() == [0, 0, 3, 4]


def test_nodes_of_constants_are_run_once() -> None:
    text = """f (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> {
        t = Transpose (w)
        n = Neg (t)
        y = MatMul (x, n)
    }"""
    check(text, ["MatMul"], x=floats(3, 2))


@pytest.mark.parametrize("omit", [False, True])
def test_broken_nodes_of_constants_stay(omit: bool) -> None:
    model = model_of("f () => (float[] y) <float one = {1}> { y = Gemm (one, one) }")
    node = next(iter(model.graph.nodes))
    if omit:
        node.inputs = (None, None)
    assert operators(optimize(model, debug=True)) == ["Gemm"]


def test_a_large_result_of_a_small_constant_is_not_stored() -> None:
    text = """f (float[N, 1] x) => (float[N, 1000000] y) <float one = {1}, int64[1] n = {1000000}> {
        big = Expand (one, n)
        y = Mul (x, big)
    }"""
    assert "Expand" in operators(optimize(model_of(text)))


def test_what_is_small_again_of_a_large_result_is_stored() -> None:
    text = """f (float[N] x) => (float[] y) <float one = {1}, int64[2] size = {1000, 1000}> {
        big = Expand (one, size)
        m = ReduceMax <keepdims = 0> (big)
        y = Add (x, m)
    }"""
    assert operators(optimize(model_of(text))) == ["Add"]


def test_random_nodes_are_neither_folded_nor_merged() -> None:
    text = """f () => (float[2] y) {
        a = RandomNormal <shape = [2]> ()
        b = RandomNormal <shape = [2]> ()
        y = Sub (a, b)
    }"""
    assert operators(optimize(model_of(text))) == ["RandomNormal", "RandomNormal", "Sub"]


@pytest.mark.parametrize("bias", ["", ", b"])
def test_batchnorm_folds_into_the_convolution_before_it(bias: str) -> None:
    filters = ", ".join(map(str, RANDOM.random(54)))
    text = f"""f (float[N, 2, 5, 5] x) => (float[N, 3, 3, 3] y)
        <float[3, 2, 3, 3] w = {{{filters}}}, float[3] b = {{1, 2, 3}},
         float[3] s = {{1, 2, 3}}, float[3] o = {{4, 5, 6}}, float[3] m = {{1, 0, -1}},
         float[3] v = {{1, 4, 9}}> {{
        c = Conv (x, w{bias})
        y = BatchNormalization (c, s, o, m, v)
    }}"""
    check(text, ["Conv"], rtol=1e-5, x=floats(2, 2, 5, 5))


def test_batchnorm_spares_a_convolution_that_others_read() -> None:
    text = """f (float[N, 1, 2, 2] x) => (float[] y, float[] c)
        <float[1, 1, 1, 1] w = {2}, float[1] s = {1}> {
        c = Conv (x, w)
        y = BatchNormalization (c, s, s, s, s)
    }"""
    check(text, ["Conv", "BatchNormalization"], x=floats(1, 1, 2, 2))


GELU = {
    "half last": "h = Div (x, r) e = Erf (h) g = Add (e, one) m = Mul (x, g) y = Mul (m, half)",
    "half first": "h = Div (x, r) e = Erf (h) g = Add (one, e) m = Mul (half, x) y = Mul (m, g)",
    "times": "h = Mul (x, q) e = Erf (h) g = Add (e, one) m = Mul (g, half) y = Mul (x, m)",
}
CONSTANTS = """<float r = {1.4142135}, float q = {0.70710678}, float one = {1}, float half = {0.5},
    float three = {3}, float c = {0.044715}, float k = {0.7978846}>"""


@pytest.mark.parametrize("spelling", GELU)
def test_gelu_is_found_in_every_spelling(spelling: str) -> None:
    text = f"f (float[N, 3, 4] x) => (float[] y) {CONSTANTS} {{ {GELU[spelling]} }}"
    check(text, ["Gelu"], rtol=1e-5, x=X)
    assert "Gelu" not in operators(optimize(model_of(text), "basic"))


def test_gelu_is_left_alone_before_its_opset() -> None:
    text = f"f (float[N] x) => (float[] y) {CONSTANTS} {{ {GELU['times']} }}"
    assert "Erf" in operators(optimize(model_of(text, opset=17)))


def test_the_tanh_form_of_gelu_is_found() -> None:
    text = f"""f (float[N, 3, 4] x) => (float[] y) {CONSTANTS} {{
        p = Pow (x, three) a = Mul (p, c) b = Add (x, a) d = Mul (b, k) e = Tanh (d)
        g = Add (e, one) m = Mul (x, g) y = Mul (half, m)
    }}"""
    check(text, ["Gelu"], rtol=1e-5, x=X)


def test_layer_normalization_is_found() -> None:
    text = """f (float[N, 3, 4] x) => (float[] y)
        <float two = {2}, float eps = {0.00001}, float[4] s = {1, 2, 3, 4},
         float[4] b = {1, 1, 0, 2}, int64[1] last = {-1}> {
        m = ReduceMean (x, last)
        d = Sub (x, m)
        p = Pow (d, two)
        v = ReduceMean (p, last)
        e = Add (v, eps)
        r = Sqrt (e)
        n = Div (d, r)
        w = Mul (n, s)
        y = Add (w, b)
    }"""
    check(text, ["LayerNormalization"], rtol=1e-4, x=X)


ROOTS = ["q = Div (x, r)", "i = Reciprocal (r) q = Mul (x, i)", "i = Div (one, r) q = Mul (i, x)"]


@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize("over", ROOTS)
def test_squares_of_half_precision_are_summed_in_single(over: str, opset: int) -> None:
    text = f"""f (float16[N, 4] x) => (float16[] y)
        <float w2 = {{2}}, float w1 = {{1}}, float we = {{0.001}}, float[4] ws = {{1, 2, 3, 4}},
         int64[1] last = {{-1}}> {{
        two = Cast <to = 10> (w2) one = Cast <to = 10> (w1)
        eps = Cast <to = 10> (we) s = Cast <to = 10> (ws)
        p = Pow (x, two) m = ReduceMean (p, last) e = Add (m, eps) r = Sqrt (e) {over}
        y = Mul (s, q)
    }}"""
    model = model_of(text, opset)
    optimized = optimize(model, debug=True, native=Native())
    of_standard = opset >= 23
    fused = "RMSNormalization" if of_standard else "SimplifiedLayerNormalization"
    assert operators(optimized) == [fused]
    assert (fused in operators(optimize(model))) == of_standard
    x = (floats(5, 4) * [[1000], [300], [1], [0.01], [0]]).astype(np.float16)
    [y] = ReferenceEvaluator(optimized).run(None, {"x": x})
    wide = x.astype(np.float64)
    root = np.sqrt(np.square(wide).mean(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(y, wide / root * np.arange(1, 5), rtol=2e-3)


def test_subgraphs_are_optimized_too() -> None:
    text = """f (bool c, float[N] x) => (float[] y) {
        y = If (c) <
            then_branch = g () => (float[] t) { a = Identity (x) t = Relu (a) },
            else_branch = h () => (float[] e) { b = Neg (x) d = Neg (x) e = Add (b, d) }
        >
    }"""
    optimized = check(text, ["If"], c=np.array(False), x=floats(3))
    [node] = optimized.graph.nodes
    found = Counter(inner.op_type for graph in node.graphs for inner in graph.nodes)
    assert found == {"Relu": 1, "Neg": 1, "Sub": 1}


def test_the_model_itself_is_left_as_it_is() -> None:
    model = model_of("f (float[N] x) => (float[N] y) { a = Identity (x) y = Relu (a) }")
    optimize(model)
    assert operators(model) == ["Identity", "Relu"]


def test_level_none_changes_nothing() -> None:
    model = model_of("f (float[N] x) => (float[N] y) { a = Identity (x) y = Relu (a) }")
    assert operators(optimize(model, Level.NONE)) == ["Identity", "Relu"]


def test_an_unknown_level_is_refused() -> None:
    model = model_of("f (float[N] x) => (float[N] y) { y = Relu (x) }")
    with pytest.raises(InvalidArgument, match="level must be one of none, basic, extended, all"):
        optimize(model, "max")


def test_rules_that_never_end_are_stopped() -> None:
    @rewrite(P.Relu(any_("x")))
    def again(x: Any, make: Any) -> Any:
        return make.Relu(x)

    model = model_of("f (float[N] x) => (float[N] y) { y = Relu (x) }")
    with pytest.raises(LimitError, match="rules must come to an end, found 64 rounds of again"):
        apply_rules(model.graph, again, infer_model(model))
