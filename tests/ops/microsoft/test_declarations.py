from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import _pybind_state

import fornix
from fornix import ops
from fornix.errors import SchemaError
from fornix.onnx import checker, defs
from fornix.onnx.parser import parse_model
from fornix.ops.matrix import description
from fornix.ops.op import Operator
from fornix.ops.signature import Occurrence

DECLARED = ops.contributed("com.microsoft")
ALL = {**DECLARED, **ops.contributed("com.microsoft.nchwc")}
THEIRS = {(s.domain, s.name): s for s in _pybind_state.get_all_operator_schema()}


@pytest.mark.parametrize("operator", ALL.values(), ids=lambda operator: operator.name)
def test_a_declaration_has_the_inputs_outputs_and_attributes_of_onnxruntime(
    operator: Operator,
) -> None:
    ours, theirs = operator.schemas[0], THEIRS[operator.domain, operator.name]
    assert len(operator.schemas) == 1
    assert ours.since_version == theirs.since_version
    for mine, other in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
        assert [formal.name for formal in mine] == [formal.name for formal in other]
        assert [formal.occurrence is Occurrence.OPTIONAL for formal in mine] == [
            str(formal.option).endswith("Optional") for formal in other
        ]
        assert [ours.allowed(formal) for formal in mine] == [
            frozenset(formal.types) for formal in other
        ]
    assert ours.attributes.keys() == theirs.attributes.keys()
    for name, attribute in theirs.attributes.items():
        assert ours.attributes[name].is_required == attribute.required, name
        assert ours.attributes[name].kind == str(attribute.type).rsplit(".", 1)[-1].lower()


@pytest.mark.parametrize("operator", ALL.values(), ids=lambda operator: operator.name)
def test_an_operator_has_inference_a_kernel_and_a_description(operator: Operator) -> None:
    for kind in ("infer", "kernel"):
        assert operator.rule(kind, 1) is not None
    assert description(operator)
    assert operator.rule("lower", 1) or operator.rule("opaque", 1)


def test_defaults_of_attributes_are_those_of_onnxruntime() -> None:
    for key, operator in ALL.items():
        for name, attribute in THEIRS[key].attributes.items():
            proto = onnx.AttributeProto()
            proto.ParseFromString(attribute._default_value)
            mine = operator.schemas[0].attributes[name].default
            if not proto.type:
                assert mine is None, (key, name)
                continue
            theirs = onnx.helper.get_attribute_value(proto)
            theirs = theirs.decode() if isinstance(theirs, bytes) else theirs
            assert mine == (
                pytest.approx(theirs, rel=1e-6) if isinstance(theirs, float) else theirs
            )


MODEL = """
    <ir_version: 10, opset_import: ["": 22, "com.microsoft": 1]>
    g (float[N, 2] x, float[2] w) => (float[N, 2] y) {{
        h = SimplifiedLayerNormalization (x, w)
        y = com.microsoft.{0} (h)
    }}"""


def test_models_that_mix_domains_are_inferred_checked_and_run() -> None:
    model = parse_model(MODEL.format("Gelu"))
    checker.check_model(model, full_check=True, check_custom_domain=True)
    session = fornix.InferenceSession(model)
    x = np.array([[3, 4]], np.float32)
    [y] = session.run(None, {"x": x, "w": np.ones(2, np.float32)})
    norm = x / np.sqrt(12.5)
    np.testing.assert_allclose(y, norm * [[0.8019, 0.8711]], rtol=1e-3)
    assert str(session.get_outputs()[0].shape) == "['N', 2]"


EARLY = """
    <ir_version: 6, opset_import: ["": 10]>
    g (float[N, 4] x, float[4] w, float[4] b) => (float[N, 4] y) {
        y = LayerNormalization <axis: int = -1, epsilon: float = 0.1> (x, w, b)
    }"""


def test_layers_are_normalized_in_models_of_opsets_that_had_no_operator_for_it() -> None:
    model = parse_model(EARLY)
    with pytest.raises(checker.ValidationError, match=r"needs ai\.onnx opset 17 or newer"):
        checker.check_model(model)
    x, w, b = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    feeds = {"x": x, "w": w[0], "b": b[0]}
    session = fornix.InferenceSession(model)
    theirs = onnxruntime.InferenceSession(model.SerializeToString())
    np.testing.assert_allclose(session.run(None, feeds)[0], theirs.run(None, feeds)[0], rtol=1e-5)
    assert all(place.kernels for place in session.placement())


def test_an_operator_that_nobody_declares_is_unknown_and_its_neighbour_is_named() -> None:
    model = parse_model(MODEL.format("FastGelus"))
    with pytest.raises(SchemaError, match="found 'FastGelus'; did you mean 'FastGelu'"):
        fornix.InferenceSession(model)


def test_the_facade_of_onnx_has_no_schemas_of_the_domain() -> None:
    assert ops.find("com.microsoft", "Gelu")
    assert not defs.has_schema("Gelu", domain="com.microsoft")
    assert not defs.has_schema("SimplifiedLayerNormalization")
    assert "com.microsoft" not in {schema.domain for schema in defs.get_all_schemas()}


def test_nodes_of_the_domain_are_not_checked_as_their_owner_may_have_added_to_them() -> None:
    text = MODEL.format("Gelu").replace("(h)", "<later: int = 1> (h)")
    checker.check_model(parse_model(text))


def test_declarations_are_read_when_a_model_asks_for_them() -> None:
    code = (
        "import sys; from fornix import ops; ops.find('', 'Gelu');"
        "print([name for name in sys.modules if 'ops.microsoft' in name])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "[]"


def test_the_page_lists_all_operators() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "microsoft.md").read_text(encoding="utf-8")
    rows = page[page.index("| activations") :].split("\n\n")[0]
    listed = re.findall(r"[A-Z]\w+", rows.replace("(in the default domain)", ""))
    assert sorted(listed) == sorted(name for _, name in DECLARED)
