from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fornix import InferenceSession
from fornix.errors import DTypeError, FornixError, NotSupported, ValidationError
from fornix.infer import infer_model, infer_strictly
from fornix.ir.load import from_message
from fornix.ops.grads import expand_gradients
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model
from tests.ops.grads.harness import TRAINING, random

HEAD = """<ir_version: 10, opset_import: ["": {opset}, "ai.onnx.ml": 5,
                                       "ai.onnx.preview.training": 1, "own": 1]>"""
X, W, B = random(2, 3), random(3, 4, seed=1), random(4, seed=2)


def model(graph: str, functions: str = "", opset: int = 22) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD.format(opset=opset) + graph + functions)


def run(graph: str, feeds: dict[str, Any], functions: str = "", opset: int = 22) -> list[Any]:
    """The outputs, which evaluator and session agree on."""
    message = model(graph, functions, opset)
    found: list[Any] = ReferenceEvaluator(message).run(None, feeds)
    session = InferenceSession(message.SerializeToString())
    for one, other in zip(found, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    return found


def torched(*arrays: Any) -> list[torch.Tensor]:
    return [torch.tensor(x, requires_grad=True) for x in arrays]


def close(found: Any, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-9, atol=1e-12)


LAYER = """
    h = MatMul(x, w)
    a = Tanh(h)
    y = ReduceSum <keepdims = 0> (a)
"""


def test_a_tensor_that_is_no_scalar_is_summed() -> None:
    graph = f"""g (double[2, 3] x, double[3, 4] w) => (dw) {{
        {LAYER}
        dw = {TRAINING}.Gradient <xs = ["w"], zs = ["x"], y = "a"> (w, x)
    }}"""
    x, w = torched(X, W)
    close(run(graph, {"x": X, "w": W})[0], torch.autograd.grad((x @ w).tanh().sum(), w)[0])


def test_intermediate_tensors_and_omitted_outputs() -> None:
    graph = f"""g (double[2, 3] x, double[3, 4] w) => (dh) {{
        {LAYER}
        dh = {TRAINING}.Gradient <xs = ["h"], y = "y"> (h)
    }}"""
    message = model(graph)
    gradient = message.graph.node[-1]
    gradient.input.append("w")
    gradient.attribute[0].strings.append(b"w")
    gradient.output.insert(0, "")
    names = gradient.attribute[0].strings
    names[:] = [b"w", b"h"]
    gradient.input[:] = ["w", "h"]
    found = ReferenceEvaluator(message).run(None, {"x": X, "w": W})
    h = torch.tensor(X @ W, requires_grad=True)
    close(found[0], torch.autograd.grad(h.tanh().sum(), h)[0])


def test_a_tensor_behind_an_independent_one_does_not_count() -> None:
    graph = f"""g (double[2, 3] x, double[3, 4] w) => (dw, dh) {{
        {LAYER}
        dw, dh = {TRAINING}.Gradient <xs = ["w", "h"], y = "y"> (w, h)
    }}"""
    dw, dh = run(graph, {"x": X, "w": W})
    np.testing.assert_array_equal(dw, np.zeros_like(W))
    np.testing.assert_allclose(dh, 1 - np.tanh(X @ W) ** 2)


def test_inputs_may_be_other_tensors_than_those_named() -> None:
    graph = f"""g (double[2, 3] x, double[3, 4] w, double[5, 3] z, double[3, 4] v) => (y, dv) {{
        {LAYER}
        dv = {TRAINING}.Gradient <xs = ["w"], zs = ["x"], y = "y"> (v, z)
    }}"""
    z, v = random(5, 3, seed=4), random(3, 4, seed=5)
    y, dv = run(graph, {"x": X, "w": W, "z": z, "v": v})
    np.testing.assert_allclose(y, np.tanh(X @ W).sum())
    z_, v_ = torched(z, v)
    close(dv, torch.autograd.grad((z_ @ v_).tanh().sum(), v_)[0])


def test_one_tensor_for_two_names_gets_two_gradients() -> None:
    graph = f"""g (double[2] a, double[2] b, double[2] c) => (da, db) {{
        y = Mul(a, b)
        da, db = {TRAINING}.Gradient <xs = ["a", "b"], y = "y"> (c, c)
    }}"""
    feeds = {name: random(2, seed=i) for i, name in enumerate("abc")}
    da, db = run(graph, feeds)
    np.testing.assert_array_equal(da, feeds["c"])
    np.testing.assert_array_equal(db, feeds["c"])


def test_what_y_does_not_depend_on_has_gradient_zero() -> None:
    graph = f"""g (double[2, N] x, double[N] w) => (dx, dw) {{
        y = Relu(x)
        dx, dw = {TRAINING}.Gradient <xs = ["x", "w"], y = "y"> (x, w)
    }}"""
    dx, dw = run(graph, {"x": X, "w": np.ones(3)})
    np.testing.assert_array_equal(dx, X > 0)
    np.testing.assert_array_equal(dw, np.zeros(3))


def test_nothing_passes_integers() -> None:
    graph = f"""g (double[2, 3] x) => (dx) {{
        i = Cast <to = 7> (x)
        f = Cast <to = 11> (i)
        y = Mul(f, f)
        dx = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    }}"""
    np.testing.assert_array_equal(run(graph, {"x": X})[0], np.zeros_like(X))


def test_a_tensor_read_twice_gets_the_sum() -> None:
    graph = f"""g (double[2, 3] x) => (dx) {{
        s = Sin(x)
        y = Mul(s, x)
        dx = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    }}"""
    np.testing.assert_allclose(run(graph, {"x": X})[0], np.sin(X) + X * np.cos(X))


def test_gradients_of_gradients() -> None:
    graph = f"""g (double[3] x) => (d1, d2, d3) {{
        y = Pow(x, x)
        d1 = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
        d2 = {TRAINING}.Gradient <xs = ["x"], y = "d1"> (x)
        d3 = {TRAINING}.Gradient <xs = ["x"], y = "d2"> (x)
    }}"""
    data = random(3, low=0.5, high=2.0)
    [x] = torched(data)
    expected, y = [], x**x
    for _ in range(3):
        y = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
        expected.append(y)
    for found, wanted in zip(run(graph, {"x": data}), expected, strict=True):
        close(found, wanted)


TWICE = [
    ("Conv(x, w)", (1, 2, 5), (2, 2, 3), torch.conv1d),
    ("Softmax(s)", (2, 4), (4, 3), lambda x, w: (x @ w).softmax(-1)),
    ("LayerNormalization(x, w)", (2, 4), (4,),
     lambda x, w: torch.nn.functional.layer_norm(x, (4,), w)),
    ("MaxPool <kernel_shape = [2]> (p)", (1, 2, 5), (2, 1),
     lambda x, w: torch.nn.functional.max_pool1d(x * x * w, 2, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("node", "x", "w", "function"), TWICE)
def test_second_derivatives_of_layers(node: str, x: Any, w: Any, function: Any) -> None:
    shapes = [f"double[{', '.join(map(str, shape))}]" for shape in (x, w)]
    before = {"s": "s = MatMul(x, w)", "p": "q = Mul(x, x)\n p = Mul(q, w)"}
    graph = f"""g ({shapes[0]} x, {shapes[1]} w) => (dw, dxw) {{
        {next((text for name, text in before.items() if f"({name})" in node), "")}
        n = {node}
        y = Mul(n, n)
        dw = {TRAINING}.Gradient <xs = ["w"], zs = ["x"], y = "y"> (w, x)
        q2 = Mul(dw, dw)
        dxw = {TRAINING}.Gradient <xs = ["x"], zs = ["w"], y = "q2"> (x, w)
    }}"""
    data = {"x": random(*x), "w": random(*w, seed=1)}
    first, second = run(graph, data)
    x_, w_ = torched(data["x"], data["w"])
    dw = torch.autograd.grad((function(x_, w_) ** 2).sum(), w_, create_graph=True)[0]
    np.testing.assert_allclose(first, dw.detach().numpy(), rtol=1e-6)
    expected = torch.autograd.grad((dw * dw).sum(), x_)[0].numpy()
    np.testing.assert_allclose(second, expected, rtol=1e-5, atol=1e-8)


BRANCHES = f"""g (bool c, double[2, 3] x, double[3] w) => (y, dx, dw) {{
    y = If (c) <
        then_branch = t () => (a) {{ s = Sin(x) a = Mul(s, w) }},
        else_branch = e () => (b) {{ b = Exp(x) }}
    >
    dx, dw = {TRAINING}.Gradient <xs = ["x", "w"], y = "y"> (x, w)
}}"""


@pytest.mark.parametrize("chosen", [True, False])
def test_both_branches_are_differentiated(chosen: bool) -> None:
    w = random(3, seed=3)
    _, dx, dw = run(BRANCHES, {"c": np.array(chosen), "x": X, "w": w})
    np.testing.assert_allclose(dx, np.cos(X) * w if chosen else np.exp(X))
    np.testing.assert_allclose(dw, np.sin(X).sum(0) if chosen else np.zeros(3))


def test_a_gradient_inside_a_branch() -> None:
    graph = f"""g (bool c, double[2, 3] x) => (r) {{
        y = Sin(x)
        r = If (c) <
            then_branch = t () => (d) {{
                q = Mul(y, x)
                d = {TRAINING}.Gradient <xs = ["x"], y = "q"> (x)
            }},
            else_branch = e () => (z) {{ z = Identity(x) }}
        >
    }}"""
    found = run(graph, {"c": np.array(True), "x": X})[0]
    np.testing.assert_allclose(found, np.sin(X) + X * np.cos(X))


FUNCTIONS = """
<domain: "own", opset_import: ["": 22]> Leaky <slope: float = 0.5> (x) => (y)
{ y = LeakyRelu <alpha: float = @slope> (x) }
<domain: "own", opset_import: ["": 22, "own": 1]> Twice <slope: float> (x, w) => (y, z)
{ a = own.Leaky <slope: float = @slope> (x)  y = Mul(a, w)  z = Identity(w) }
"""


def test_model_functions_are_differentiated_through() -> None:
    graph = f"""g (double[2, 3] x, double[3] w) => (n, dx, dw) {{
        n, unused = own.Twice <slope = 0.25> (x, w)
        y = Mul(n, n)
        dx, dw = {TRAINING}.Gradient <xs = ["x", "w"], y = "y"> (x, w)
    }}"""
    data = random(3, seed=3)
    n, dx, dw = run(graph, {"x": X, "w": data}, FUNCTIONS)
    x, w = torched(X, data)
    expected = torch.nn.functional.leaky_relu(x, 0.25) * w
    close(n, expected)
    wanted = torch.autograd.grad((expected**2).sum(), [x, w])
    close(dx, wanted[0])
    close(dw, wanted[1])


def test_y_may_be_the_result_of_a_function() -> None:
    graph = f"""g (double[2, 3] x) => (y, dx) {{
        y = own.Leaky(x)
        dx = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    }}"""
    y, dx = run(graph, {"x": X}, FUNCTIONS)
    np.testing.assert_allclose(y, np.where(X > 0, X, X / 2))
    np.testing.assert_array_equal(dx, np.where(X > 0, 1, 0.5))


def test_operators_with_a_body_and_no_rule() -> None:
    graph = f"""g (double[1, 2, 3] t) => (dt) {{
        size = Constant <value_ints = [1, 1, 2, 3]> ()
        grid = AffineGrid(t, size)
        y = Mul(grid, grid)
        dt = {TRAINING}.Gradient <xs = ["t"], y = "y"> (t)
    }}"""
    data = random(1, 2, 3)
    [t] = torched(data)
    grid = torch.nn.functional.affine_grid(t, [1, 1, 2, 3], align_corners=False)
    np.testing.assert_allclose(
        run(graph, {"t": data})[0],
        torch.autograd.grad((grid**2).sum(), t)[0].numpy(),
        rtol=1e-6,
    )


def test_gradients_may_come_in_any_order() -> None:
    graph = f"""g (double[3] x) => (d1, d2) {{
        y = Sin(x)
        d1 = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
        d2 = {TRAINING}.Gradient <xs = ["x"], y = "d1"> (x)
    }}"""
    message = model(graph)
    y, first, second = message.graph.node
    del message.graph.node[:]
    message.graph.node.extend([second, first, y])
    data = random(3)
    d1, d2 = ReferenceEvaluator(message).run(None, {"x": data})
    np.testing.assert_allclose(d1, np.cos(data))
    np.testing.assert_allclose(d2, -np.sin(data))


def test_a_gradient_of_itself_is_told() -> None:
    graph = f"""g (double[3] x) => (d) {{
        y = Mul(d, x)
        d = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    }}"""
    message = model("g (double[3] x) => (x) {}")
    message.graph.CopyFrom(onnx.parser.parse_graph(graph))
    with pytest.raises(ValidationError, match="must not depend on its own results"):
        ReferenceEvaluator(message)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    given = from_message(model(BRANCHES))
    text = str(given)
    assert expand_gradients(given, infer_model) is not given
    assert str(given) == text
    plain = from_message(model("g (double[2] x) => (y) { y = Relu(x) }"))
    assert as_model(plain) is plain


def test_what_was_expanded_is_inferred() -> None:
    expanded = expand_gradients(from_message(model(BRANCHES)), infer_model)
    inference = infer_strictly(expanded)
    dx, dw = expanded.graph.outputs[1:]
    assert (dx.name, dw.name) == ("dx", "dw")
    assert str(inference.fact(dx).type) == "float64[2, 3]"
    assert not any(node.op_type == "Gradient" for node in expanded.graph.nodes)


SIMPLE = f"""g (double[2, 2] x, int64[2] i) => (dx) {{
    y = %s
    dx = {TRAINING}.Gradient <xs = ["%s"], y = "%s"> (%s)
}}"""

WRONG: list[tuple[tuple[str, str, str, str], type[FornixError], str]] = [
    (("Relu(x)", "x", "z", "x"), ValidationError,
     r"node for 'dx' \(.*Gradient, opset 1\): xs, zs and y must name tensors of its graph"),
    (("Relu(x)", "x", "y", "x, i"), ValidationError, "one input per name in xs and zs, 1, found 2"),
    (("Relu(x)", "i", "y", "i"), DTypeError,
     r"y and xs must be floating-point tensors, found 'i' of type int64\[2\]"),
    (("own.Unheard(x)", "x", "y", "x"), NotSupported, "the element type of 'y' has to be known"),
    (("ai.onnx.ml.Normalizer(x)", "x", "y", "x"), NotSupported,
     r"node for 'y' \(.*Normalizer, .*\): it lies on the way of a Gradient, and Norm.* has no"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "error", "message"), WRONG)
def test_what_is_wrong_is_told(
    parts: tuple[str, ...], error: type[FornixError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ReferenceEvaluator(model(SIMPLE % parts))


def test_more_outputs_than_names_are_told() -> None:
    message = model(SIMPLE % ("Relu(x)", "x", "y", "x"))
    message.graph.node[-1].output.append("more")
    with pytest.raises(ValidationError, match="at most one output per name in xs, 1, found 2"):
        ReferenceEvaluator(message)


def test_old_opsets_are_declined() -> None:
    with pytest.raises(NotSupported, match="opset 12 and later, the model imports 11; convert it"):
        ReferenceEvaluator(model(SIMPLE % ("Relu(x)", "x", "y", "x"), opset=11))


def test_a_gradient_in_a_function_is_declined() -> None:
    function = f"""
    <domain: "own", opset_import: ["": 22, "{TRAINING}": 1]> F (x) => (d)
    {{ y = Relu(x)  d = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x) }}"""
    with pytest.raises(NotSupported, match="a Gradient has to stand outside of functions"):
        ReferenceEvaluator(model("g (double[2] x) => (d) { d = own.F(x) }", function))


def test_a_body_of_another_opset_is_declined() -> None:
    function = """
    <domain: "own", opset_import: ["": 11]> F (x) => (y) { y = Softmax(x) }"""
    graph = SIMPLE % ("own.F(x)", "x", "y", "x")
    with pytest.raises(NotSupported, match=r"its body is written in opset 11 of ai\.onnx, where "
                       "Softmax differs from opset 22"):  # fmt: skip
        ReferenceEvaluator(model(graph, function))


def test_symbolic_broadcasting_needs_computed_axes() -> None:
    graph = f"""g (double[N] x, double[M] w) => (dx) {{
        y = Mul(x, w)
        dx = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    }}"""
    feeds = {"x": np.ones(1), "w": np.arange(3.0)}
    np.testing.assert_array_equal(run(graph, feeds)[0], [3.0])
    with pytest.raises(NotSupported, match="declare shapes or convert to opset 13"):
        ReferenceEvaluator(model(graph, opset=12))
