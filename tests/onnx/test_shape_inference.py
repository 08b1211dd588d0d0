from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import shape_inference as peer

from fornix.errors import DTypeError, InferenceError, ShapeError, ValidationError
from fornix.onnx import defs, shape_inference
from tests.onnx.surface import parameters_of

HEADER = '<ir_version: 10, opset_import: ["": 20, "mine": 1]>'


def model(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + graph)


def shapes(message: Any) -> dict[str, str]:
    """Types of values by name, as text."""
    found = onnx.ModelProto.FromString(message.SerializeToString())
    infos = [*found.graph.value_info, *found.graph.output]
    return {v.name: onnx.helper.printable_type(v.type) for v in infos}


@pytest.mark.parametrize("name", ["infer_shapes", "infer_shapes_path"])
def test_signatures_are_the_peers(name: str) -> None:
    assert parameters_of(getattr(shape_inference, name)) == parameters_of(getattr(peer, name))


@pytest.mark.parametrize(
    "graph",
    [
        "g (float[?, 3] x) => (float[?, 3] y) { a = Relu(x) y = Relu(a) }",
        "g (float[2, 3] x) => (float[2, 4] y) { a = Relu(x) y = Relu(a) }",
        "g (float[2, 3] x, float[4, 5] z) => (float[2, 4] y) { y = MatMul(x, z) }",
        "g (float[2, 3] x, float[3, 5] z) => (y) { y = MatMul(x, z) }",
        "g (float[2, 3] x, int64[3] z) => (int64[2] y) { y = MatMul(x, z) }",
        "g (float[N, 3] x) => (float[N, 3] y) { y = mine.Op(x) }",
        "g (float[N, 3] x) => (y) { s = Shape(x) y = Reshape(x, s) }",
        """g (bool c, float[2] x) => (y) { y = If(c) <
            then_branch = t () => (a) { a = Neg(x) },
            else_branch = e () => (b) { b = Abs(x) }> }""",
    ],
)
def test_models_get_the_types_that_the_peer_gives_them(graph: str) -> None:
    expected = shapes(peer.infer_shapes(model(graph), data_prop=True))
    assert shapes(shape_inference.infer_shapes(model(graph))) == expected


def test_extents_are_exact_where_the_peer_gives_up() -> None:
    graph = "g (float[N, 3] x) => (y, z) { y = Concat <axis = 0> (x, x) z = Transpose(y) }"
    found = shapes(shape_inference.infer_shapes(model(graph)))
    assert found == {"y": "FLOAT, 2*Nx3", "z": "FLOAT, 3x2*N"}


def test_what_only_a_run_can_tell_has_one_name_wherever_it_is_the_same() -> None:
    graph = """g (float[unk__0, 3] x) => (y, w) {
        z = NonZero(x) y = Concat <axis = 1> (z, z) w = NonZero(y) }"""
    found = shapes(shape_inference.infer_shapes(model(graph)))
    assert found == {
        "z": "INT64, 2xunk__1",
        "y": "INT64, 2x2*unk__1",
        "w": "INT64, 2xunk__2",
    }


def test_subgraphs_are_annotated_too() -> None:
    graph = """g (bool c, float[2] x) => (y) { y = If(c) <
        then_branch = t () => (a) { b = Neg(x) a = Exp(b) },
        else_branch = e () => (d) { d = Abs(x) }> }"""
    inferred = shape_inference.infer_shapes(model(graph))
    branches = {a.name: a.g for a in inferred.graph.node[0].attribute}
    assert branches["then_branch"].value_info[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_contradictions_are_raised_when_they_are_asked_for() -> None:
    shape = model("g (float[2, 3] x, float[4, 5] z) => (y) { y = MatMul(x, z) }")
    shape_inference.infer_shapes(shape, check_type=True)
    with pytest.raises(ShapeError, match=r"node for 'y' \(MatMul, opset 20\)"):
        shape_inference.infer_shapes(shape, strict_mode=True)
    dtype = model("g (float[2, 3] x, int64[3] z) => (y) { y = MatMul(x, z) }")
    with pytest.raises(DTypeError, match="B is int64"):
        shape_inference.infer_shapes(dtype, check_type=True)
    assert issubclass(DTypeError, InferenceError)
    assert shape_inference.InferenceError is InferenceError
    unknown = model("g (float[2] x) => (y) { y = mine.Op(x) }")
    shape_inference.infer_shapes(unknown, check_type=True, strict_mode=True)


def test_bytes_are_taken_and_paths_are_not() -> None:
    message = model("g (float[2] x) => (y) { y = Neg(x) }")
    found = shape_inference.infer_shapes(message.SerializeToString())
    assert shapes(found) == {"y": "FLOAT, 2"}
    assert not message.graph.output[0].type.tensor_type.HasField("shape")
    path: Any = "model.onnx"
    with pytest.raises(
        TypeError, match=r"found the path 'model.onnx'. For .* use infer_shapes_path"
    ):
        shape_inference.infer_shapes(path)


def test_from_file_to_file(tmp_path: Path) -> None:
    message = model("g (float[2, 300] x) => (y) { z = Add(x, w) y = Neg(z) }")
    weight = onnx.numpy_helper.from_array(np.ones((2, 300), np.float32), "w")
    message.graph.initializer.append(weight)
    path = tmp_path / "model.onnx"
    onnx.save(message, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    data = (tmp_path / "w.bin").read_bytes()
    shape_inference.infer_shapes_path(path, tmp_path / "inferred.onnx")
    inferred = onnx.load(tmp_path / "inferred.onnx")
    assert shapes(inferred) == {"z": "FLOAT, 2x300", "y": "FLOAT, 2x300"}
    assert onnx.numpy_helper.to_array(inferred.graph.initializer[0]).sum() == 600
    assert (tmp_path / "w.bin").read_bytes() == data
    shape_inference.infer_shapes_path(str(path))
    assert shapes(onnx.load(path)) == shapes(inferred)


@pytest.mark.parametrize("name", ["infer_node_outputs", "infer_function_output_types"])
def test_signatures_of_single_nodes_are_the_peers(name: str) -> None:
    assert parameters_of(getattr(shape_inference, name)) == parameters_of(getattr(peer, name))


def test_one_node_is_inferred_as_by_the_peer() -> None:
    types = {"x": onnx.helper.make_tensor_type_proto(1, ["N", 4])}
    data = {"s": onnx.helper.make_tensor("s", 7, [1], [-1])}
    types["s"] = onnx.helper.make_tensor_type_proto(7, [1])
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    theirs = peer.infer_node_outputs(onnx.defs.get_schema("Reshape"), node, types, data)
    ours = shape_inference.infer_node_outputs(defs.get_schema("Reshape"), node, types, data)
    assert ours.keys() == theirs.keys() == {"y"}
    assert [d.WhichOneof("value") for d in theirs["y"].tensor_type.shape.dim] == [None]
    assert ours["y"].tensor_type.shape.dim[0].dim_param == "4*N"


def test_one_node_is_refused_as_by_the_peer() -> None:
    schema = defs.get_schema("Add")
    node = onnx.helper.make_node("Add", ["x", "z"], ["y"])
    types = {name: onnx.helper.make_tensor_type_proto(1, [n]) for name, n in (("x", 3), ("z", 4))}
    with pytest.raises(KeyError):
        shape_inference.infer_node_outputs(schema, node, {})
    with pytest.raises(InferenceError, match="shapes must broadcast"):
        shape_inference.infer_node_outputs(schema, node, types)
    short = onnx.helper.make_node("Add", ["x"], ["y"])
    with pytest.raises(ValidationError, match="Add-14 takes 2 inputs, found 1"):
        shape_inference.infer_node_outputs(schema, short, types)


def test_a_call_of_a_function_is_inferred_as_by_the_peer() -> None:
    function = onnx.parser.parse_function(
        '<opset_import: ["": 20], domain: "l"> F <axis> (a) => (b, c) '
        "{ b = Concat <axis: int = @axis> (a, a) c = Shape(b) }"
    )
    types = [onnx.helper.make_tensor_type_proto(1, [2, 3])]
    attributes = [onnx.helper.make_attribute("axis", 1)]
    theirs = peer.infer_function_output_types(function, types, attributes)
    ours = shape_inference.infer_function_output_types(function, types, attributes)
    assert [x.SerializeToString() for x in ours] == [x.SerializeToString() for x in theirs]
    attributes = [onnx.helper.make_attribute("axis", 5)]
    with pytest.raises(peer.InferenceError):
        peer.infer_function_output_types(function, types, attributes)
    with pytest.raises(InferenceError, match="axis"):
        shape_inference.infer_function_output_types(function, types, attributes)


def test_a_damaged_tensor_is_a_contradiction_under_strict_rules() -> None:
    stored = [onnx.helper.make_tensor(name, 1, (), [1.0]) for name in ("start", "limit")]
    damaged = onnx.TensorProto(name="delta", data_type=1, int64_data=[2])
    node = onnx.helper.make_node("Range", ["start", "limit", "delta"], ["y"])
    end = onnx.helper.make_tensor_value_info("y", 1, None)
    graph = onnx.helper.make_graph([node], "g", [], [end], [*stored, damaged])
    model = onnx.helper.make_model(graph)
    for inference in (peer, shape_inference):
        with pytest.raises((peer.InferenceError, InferenceError), match="delta"):
            inference.infer_shapes(model, strict_mode=True)
        inference.infer_shapes(model)
