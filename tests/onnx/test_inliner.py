from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import inliner as peer
from onnx import parser
from onnx.reference import ReferenceEvaluator

from fornix.errors import LimitError, ValidationError
from fornix.format.limits import Limits
from fornix.ir.load import from_message
from fornix.onnx import inliner
from fornix.passes.inline import inline_functions
from tests.onnx.surface import names_of, parameters_of

X = np.array([[1, -2, 3], [4, 5, -6]], np.float32)


def model(opset: int = 18) -> Any:
    return parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": {opset}, "l": 1]>
        g (float[2, 3] x) => (float[2, 3] y) {{ a = l.F <k = 2.0> (x) y = l.G(a) }}
        <opset_import: ["": 18], domain: "l"> F <k> (a) => (b) {{
            c = Constant <value_float: float = @k> () b = Mul(a, c) }}
        <opset_import: ["": 18, "l": 1], domain: "l"> G (a) => (b) {{
            c = l.F <k = 3.0> (a) b = Relu(c) }}"""
    )


def shown(message: Any) -> tuple[list[str], dict[str, list[str]]]:
    functions = {f.name: [node.op_type for node in f.node] for f in message.functions}
    return [node.op_type for node in message.graph.node], functions


def result(message: Any) -> Any:
    found = onnx.ModelProto.FromString(message.SerializeToString())
    return ReferenceEvaluator(found).run(None, {"x": X})[0]


@pytest.mark.parametrize("name", names_of(peer))
def test_signatures_are_the_peers(name: str) -> None:
    assert parameters_of(getattr(inliner, name)) == parameters_of(getattr(peer, name))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("inline_local_functions", ()),
        ("inline_local_functions", (True,)),
        ("inline_selected_functions", ([("l", "F")],)),
        ("inline_selected_functions", ([("l", "F")], True)),
        ("inline_selected_functions", ([],)),
        ("inline_selected_functions", ([], True)),
    ],
)
def test_calls_are_replaced_where_the_peer_replaces_them(name: str, arguments: Any) -> None:
    expected = getattr(peer, name)(model(), *arguments)
    found = getattr(inliner, name)(model(), *arguments)
    assert shown(found) == shown(expected)
    onnx.checker.check_model(onnx.ModelProto.FromString(found.SerializeToString()))
    np.testing.assert_array_equal(result(found), np.maximum(X * 6, 0))


def test_functions_of_another_opset_stay_unless_they_may_be_converted() -> None:
    assert shown(inliner.inline_local_functions(model(21)))[0] == ["F", "G"]
    converted = inliner.inline_local_functions(model(21), convert_version=True)
    assert shown(converted) == (["Constant", "Mul", "Constant", "Mul", "Relu"], {})
    np.testing.assert_array_equal(result(converted), np.maximum(X * 6, 0))


def test_chosen_functions_of_another_opset_are_converted() -> None:
    found = inliner.inline_selected_functions(model(21), [("l", "F")])
    assert shown(found)[0] == ["Constant", "Mul", "G"]
    np.testing.assert_array_equal(result(found), np.maximum(X * 6, 0))


def test_operators_that_are_defined_by_others_count_as_functions_if_asked_for() -> None:
    source = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2, 3] x) => (float[2, 3] y) '
        "{ a = Gelu(x) y = Softplus(a) }"
    )
    for module in (peer, inliner):
        chosen = module.inline_selected_functions(
            source, [("", "Gelu")], inline_schema_functions=True
        )
        others = module.inline_selected_functions(
            source, [("", "Gelu")], exclude=True, inline_schema_functions=True
        )
        none = module.inline_selected_functions(source, [("", "Gelu")])
        assert shown(none)[0] == ["Gelu", "Softplus"]
        assert "Gelu" not in shown(chosen)[0]
        assert shown(chosen)[0][-1] == "Softplus"
        assert shown(others)[0][0] == "Gelu"
        assert "Softplus" not in shown(others)[0]
        np.testing.assert_allclose(result(chosen), result(source), rtol=1e-5)
        np.testing.assert_allclose(result(others), result(source), rtol=1e-5)


def test_what_is_no_model_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="ModelProto is required"):
        inliner.inline_local_functions("model.onnx")  # type: ignore[arg-type]


IN_BRANCH = """k = Constant <value_int = 1> () c = Cast <to = 9> (k) b = If(c) <
    then_branch = t () => (d) { d = l.G(a) }, else_branch = e () => (d) { d = Neg(a) }>"""


@pytest.mark.parametrize(
    ("body", "chain"),
    [
        ("b = l.F(a)", "F → F"),
        ("b = l.G(a)", "F → G → F"),
        (IN_BRANCH, "F → G → F"),
    ],
)
def test_functions_that_call_themselves_are_refused(body: str, chain: str) -> None:
    source = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20, "l": 1]>
        g (float[2] x) => (float[2] y) {{ y = l.F(x) }}
        <opset_import: ["": 20, "l": 1], domain: "l"> F (a) => (b) {{ {body} }}
        <opset_import: ["": 20, "l": 1], domain: "l"> G (a) => (b) {{ b = l.F(a) }}"""
    )
    with pytest.raises(ValidationError, match=f"must not call themselves, found {chain}"):
        inliner.inline_local_functions(source)


def test_functions_that_would_fill_the_memory_are_refused() -> None:
    doubling = [
        f'<opset_import: ["": 20, "l": 1], domain: "l"> F{i} (a) => (b) '
        f"{{ c = l.F{i + 1}(a) b = l.F{i + 1}(c) }}"
        for i in range(60)
    ]
    source = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "l": 1]> g (float[2] x) => (float[2] y) '
        "{ y = l.F0(x) }" + "\n".join(doubling) + '<opset_import: ["": 20], domain: "l"> '
        "F60 (a) => (b) { b = Neg(a) }"
    )
    with pytest.raises(LimitError, match="function_nodes"):
        inline_functions(from_message(source), limits=Limits(function_nodes=2000))
    before = time.monotonic()
    with pytest.raises(LimitError, match=r"function_nodes is limited to .* found \d{19};"):
        inliner.inline_local_functions(source)
    assert time.monotonic() - before < 5  # said before ten million nodes are made


def test_calls_with_too_many_inputs_are_refused() -> None:
    source = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "l": 1]> g (float[2] x) => (float[2] y) '
        '{ y = l.F(x, x) } <opset_import: ["": 20], domain: "l"> F (a) => (b) { b = Neg(a) }'
    )
    with pytest.raises(ValidationError, match=r"function 'l.F' takes 1 inputs, found 2"):
        inliner.inline_local_functions(source)


def test_operators_that_break_their_schema_stay() -> None:
    source = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) '
        "{ a = Gelu <nonsense = 1> (x) y = Softplus(a) }"
    )
    found = inliner.inline_selected_functions(source, [], True, inline_schema_functions=True)
    assert shown(found)[0][0] == "Gelu"
    assert "Softplus" not in shown(found)[0]
