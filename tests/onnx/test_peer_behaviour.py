"""Behaviour of onnx that its own tests hold it to: classes of errors, words, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google.protobuf.json_format
import google.protobuf.text_format
import numpy as np
import onnx
import onnx.reference
import pytest

import fornix.onnx
from fornix.errors import ExternalDataError, FormatError, ValidationError
from fornix.onnx import (
    compose,
    defs,
    external_data_helper,
    helper,
    numpy_helper,
    parser,
    shape_inference,
)
from fornix.onnx.reference import ReferenceEvaluator
from fornix.onnx.reference.op_run import OpFunction, OpRun

MODEL = """<ir_version: 10, opset_import: ["": 18, "local": 1], producer_name: "tests">
    g (float[N] x) => (float[N] y) <float[1] w = {2}> { a = Relu (x)  y = local.Twice (a) }
    <domain: "local", opset_import: ["": 18]> Twice <k: int = 2> (x) => (y) { y = Add (x, x) }"""


def peer_of(message: Any) -> Any:
    kind = getattr(onnx, type(message).__name__)
    return kind.FromString(message.SerializeToString())


@pytest.mark.parametrize("field", ["", "graph", "functions"])
def test_models_graphs_and_functions_show_themselves_in_one_line(field: str) -> None:
    message: Any = parser.parse_model(MODEL)
    message.graph.value_info.add(name="v")
    part = getattr(message, field) if field else message
    part = part[0] if field == "functions" else part
    assert repr(part) == repr(peer_of(part))
    assert repr(type(part)()) == repr(peer_of(type(part)()))
    assert str(part) == str(peer_of(part))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("textproto", google.protobuf.text_format.ParseError),
        ("json", google.protobuf.json_format.ParseError),
    ],
)
def test_text_that_cannot_be_read_is_also_an_error_of_protobuf(
    tmp_path: Path, kind: str, error: type[Exception]
) -> None:
    path = tmp_path / "model"
    path.write_text("no model")
    with pytest.raises(error) as found:
        fornix.onnx.load(path, format=kind)
    assert isinstance(found.value, FormatError)


def test_unsafe_external_data_is_also_a_validation_error(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "w")
    external_data_helper.set_external_data(tensor, location="/etc/passwd")
    with pytest.raises(ValidationError) as found:
        external_data_helper.save_external_data(tensor, str(tmp_path))
    assert isinstance(found.value, ExternalDataError)


def test_names_of_declarations_and_indices_overlap() -> None:
    def graph(names: tuple[str, str]) -> Any:
        made = parser.parse_graph("g (float[2] x) => (float[2] y) { y = Identity (x) }")
        made.value_info.add(name=names[0])
        sparse = made.sparse_initializer.add(dims=[3])
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), names[1]))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), names[1] + "_at"))
        return made

    one, two = graph(("v", "s")), graph(("v", "s"))
    found = dict(compose.check_overlapping_names(one, two))
    assert found["value_info"] == ["v"]
    assert found["sparse_initializer"] == ["s", "s_at"]
    prefixed = compose.add_prefix_graph(one, "p/")
    assert compose.check_overlapping_names(prefixed, two) == []
    assert onnx.compose.check_overlapping_names(peer_of(prefixed), peer_of(two)) == []


def test_schemas_take_text_and_are_deterministic_unless_told() -> None:
    made = defs.OpSchema("Op", "test", 1)
    assert made.node_determinism is defs.OpSchema.NodeDeterminism.Deterministic
    wrong: list[Any] = [(1, "test"), ("Op", 1)]
    for arguments in wrong:
        with pytest.raises(TypeError, match="must be text, found int"):
            defs.OpSchema(*arguments, since_version=1)  # type: ignore[misc] # not text


def test_opaque_types_may_stand_in_schemas() -> None:
    kind = "opaque(test,RNG)"
    made = defs.OpSchema("Op", "test", 1, outputs=[defs.OpSchema.FormalParameter("r", kind)])
    assert made.outputs[0].types == {kind}


def test_containers_that_are_uneven_raise_what_onnx_raises() -> None:
    with pytest.raises(TypeError, match="a map has values of one type, found float64 and int64"):
        numpy_helper.from_dict({0: np.array(1), 1: np.array(0.5)})
    with pytest.raises(NotImplementedError, match="holds str or bytes, found int"):
        numpy_helper.from_array(np.array([42], dtype=object))
    uneven = numpy_helper.from_dict({1: np.array(1.0)})
    uneven.keys.append(2)
    with pytest.raises(IndexError, match="2 keys need as many values, found 1"):
        numpy_helper.to_dict(uneven)


def test_types_that_a_schema_forbids_are_no_matter_of_inference() -> None:
    schema = defs.get_schema("Add", 14)
    node = helper.make_node("Add", ["a", "b"], ["c"])
    types = {name: helper.make_tensor_type_proto(t, [3]) for name, t in (("a", 1), ("b", 2))}
    with pytest.raises(ValidationError, match="they must agree"):
        shape_inference.infer_node_outputs(schema, node, types)


def test_an_empty_type_is_an_input_left_out() -> None:
    function = parser.parse_function(
        '<opset_import: ["": 18], domain: "local"> f (x, s, z) => (y) {'
        " y = QuantizeLinear (x, s, z) }"
    )
    float_ = helper.make_tensor_type_proto(1, None)
    given = [float_, float_, fornix.onnx.TypeProto()]
    (found,) = shape_inference.infer_function_output_types(function, given, [])
    assert found.tensor_type.elem_type == fornix.onnx.TensorProto.UINT8


def test_operators_that_nobody_implements_are_refused_at_once() -> None:
    model = parser.parse_model(MODEL.replace("local.Twice", "local.Thrice"))
    with pytest.raises(NotImplementedError, match=r"Thrice.*; register it: @fornix.op"):
        ReferenceEvaluator(model)

    class Thrice(OpRun):
        op_domain = "local"

        def _run(self, x: Any) -> Any:
            return (x * 3,)

    (y,) = ReferenceEvaluator(model, new_ops=[Thrice]).run(None, {"x": np.ones(2, np.float32)})
    assert y.tolist() == [3, 3]


def test_only_what_runs_can_be_evaluated() -> None:
    with pytest.raises(TypeError, match="model, graph, function or node is required, found Value"):
        ReferenceEvaluator(helper.make_tensor_value_info("x", 1, [1]))


def test_evaluators_tell_what_they_consist_of() -> None:
    evaluator = ReferenceEvaluator(parser.parse_model(MODEL))
    assert [type(node).__name__ for node in evaluator.rt_nodes_] == ["Relu", "OpFunction"]
    relu, call = evaluator.rt_nodes_
    x = np.array([-1, 2], np.float32)
    assert [y.tolist() for y in relu.run(x)] == [[0, 2]]
    assert isinstance(call, OpFunction)
    assert [y.tolist() for y in call.run(x)] == [[-2, 4]]
    (function,) = evaluator.functions_.values()
    assert isinstance(function, ReferenceEvaluator)
    assert [node.op_type for node in function.nodes_] == ["Add"]
    assert (function.attributes_, function.onnx_graph_) == ([], None)
    assert (evaluator.input_names_, evaluator.output_names_) == (["x"], ["y"])
    assert evaluator.rt_inits_["w"].tolist() == [2]
    assert [tensor.name for tensor in evaluator.inits_] == ["w"]
    assert evaluator.opsets_ == {"": 18, "local": 1}
    assert set(evaluator.all_types_) == {"x", "y"}


@pytest.mark.parametrize("verbose", [2, 3, 4, 11])
@pytest.mark.parametrize("count", [3, 7])
def test_levels_of_verbosity_print_what_onnx_prints(
    verbose: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = parser.parse_model(MODEL.replace("local.Twice (a)", "Add (a, w)"))
    feeds = {"x": np.arange(count, dtype=np.float32)}
    ReferenceEvaluator(model, verbose=verbose).run(None, feeds)
    ours = capsys.readouterr().out
    peer = onnx.reference.ReferenceEvaluator(peer_of(model), verbose=verbose)
    peer.run(None, feeds)
    assert ours == capsys.readouterr().out


def test_operators_may_be_evaluated_by_bodies_that_depend_on_types() -> None:
    from fornix.onnx.reference.op_run import OpRunExpand

    class CastLike(OpRunExpand):
        op_domain = ""

    model = parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
        g (float[N] x) => (float16[N] z) { h = Cast <to = 10> (x)  z = CastLike (x, h) }""")
    (z,) = ReferenceEvaluator(model, new_ops=[CastLike]).run(None, {"x": np.ones(2, np.float32)})
    assert z.dtype == np.float16
