"""Single arguments of the wrong kind: classes that onnx raises, which are ValueErrors as well."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import pytest

import fornix.onnx
import fornix.onnx.utils
from fornix.errors import ExternalDataError, InvalidUse, ValidationError
from fornix.onnx import checker, compose, defs, helper, inliner, numpy_helper, shape_inference
from fornix.onnx.model_container import make_large_tensor_proto
from fornix.onnx.reference import ReferenceEvaluator
from fornix.onnx.version_converter import convert_version

MODEL = """<ir_version: 10, opset_import: ["": 18]>
    g (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }"""


def model() -> Any:
    return fornix.onnx.parser.parse_model(MODEL)


def peer(package: Any, module: str) -> Any:
    __import__(f"{package.__name__}.{module}")
    return getattr(package, module)


NODE = onnx.helper.make_node("Relu", ["x"], ["y"])
# What both packages are asked, each with the one that answers; the argument named first is wrong.
REFUSED: dict[str, Callable[[Any], Any]] = {
    "name of a value": lambda o: o.helper.make_tensor_value_info(None, 1, [2]),
    "name of a sequence's type": lambda o: o.helper.make_tensor_sequence_value_info(None, 1, [2]),
    "operator": lambda o: o.helper.make_node(None, ["x"], ["y"]),
    "inputs": lambda o: o.helper.make_node("Relu", None, ["y"]),
    "domain": lambda o: o.helper.make_node("Relu", ["x"], ["y"], domain=[]),
    "version": lambda o: o.helper.make_opsetid("", None),
    "nodes": lambda o: o.helper.make_graph(None, "g", [], []),
    "name of a function": lambda o: o.helper.make_function("d", None, [], [], [], []),
    "name of a tensor": lambda o: o.helper.make_tensor(None, 1, [1], [1.0]),
    "element type": lambda o: o.helper.make_tensor("t", 777, [1], [1.0]),
    "key of an attribute": lambda o: o.helper.make_attribute(None, 1),
    "type of a reference": lambda o: o.helper.make_attribute_ref("a", None),
    "no dtype": lambda o: o.helper.np_dtype_to_tensor_dtype(None),
    "context": lambda o: o.checker.check_node(o.helper.make_node("Relu", ["x"], ["y"]), ctx=3),
    "operator of a schema": lambda o: o.defs.get_schema(b"Relu"),
    "domain of a schema": lambda o: o.defs.has("Relu", 13, 3),
    "since": lambda o: o.defs.OpSchema("F", "d", "1"),
    "description": lambda o: o.defs.OpSchema("F", "d", 1, 3),
    "parameters": lambda o: o.defs.OpSchema("F", "d", 1, inputs=["x"]),
    "attributes": lambda o: o.defs.OpSchema("F", "d", 1, attributes="x"),
    "determinism": lambda o: o.defs.OpSchema("F", "d", 1, node_determinism=777),
    "name of a parameter": lambda o: o.defs.OpSchema.FormalParameter(3, "T"),
    "occurrence": lambda o: o.defs.OpSchema.FormalParameter("x", "T", param_option=777),
    "is_homogeneous": lambda o: o.defs.OpSchema.FormalParameter("x", "T", is_homogeneous=1),
    "type of an attribute": lambda o: o.defs.OpSchema.Attribute("a", type=777),
    "required": lambda o: o.defs.OpSchema.Attribute("a", o.defs.OpSchema.AttrType.INT, required=1),
    "types": lambda o: o.defs.OpSchema.TypeConstraintParam("T", "tensor(float)"),
    "each type": lambda o: o.defs.OpSchema.TypeConstraintParam("T", [3]),
    "count": lambda o: o.defs.OpSchema.is_infinite("3"),
    "body": lambda o: o.defs.get_schema("Celu").get_function_with_opset_version("12"),
    "inference": lambda o: o.defs.OpSchema("F", "d", 1).set_type_and_shape_inference_function(3),
    "axis": lambda o: o.compose.expand_out_dim(o.parser.parse_model(MODEL), "0"),
    "map of names": lambda o: o.compose.add_prefix_graph(
        o.parser.parse_model(MODEL).graph, "p", name_map=3
    ),
    "functions": lambda o: o.inliner.inline_selected_functions(o.parser.parse_model(MODEL), ["x"]),
    "dictionary": lambda o: o.numpy_helper.from_dict(None),
    "target": lambda o: o.version_converter.convert_version(o.parser.parse_model(MODEL), 777),
    "path of nothing": lambda o: o.save(o.parser.parse_model(MODEL), None),
    "path to extract to": lambda o: o.utils.extract_model(__file__, None, ["x"], ["y"]),
    "file that is missing": lambda o: o.load("nowhere.onnx"),
    "format": lambda o: o.load_from_string(b"", format=[]),
    "feeds": lambda o: o.reference.ReferenceEvaluator(o.parser.parse_model(MODEL)).run(None, 3),
    "fetch": lambda o: o.reference.ReferenceEvaluator(o.parser.parse_model(MODEL)).run(
        ["z"], {"x": np.ones((2, 3), np.float32)}
    ),
    "no feed": lambda o: o.reference.ReferenceEvaluator(o.parser.parse_model(MODEL)).run(None, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_argument_of_the_wrong_kind_raises_what_onnx_raises(case: str) -> None:
    for module in ("reference", "utils", "version_converter", "inliner", "compose", "parser"):
        peer(onnx, module)
        peer(fornix.onnx, module)
    with pytest.raises(Exception) as expected:
        REFUSED[case](onnx)
    base = next(k for k in type(expected.value).__mro__ if k.__module__ == "builtins")
    with pytest.raises(base):
        REFUSED[case](fornix.onnx)


def test_messages_say_the_argument_and_what_it_must_be() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="OpSchema: name must be text, found int"):
        defs.OpSchema(wrong, "d", 1)
    with pytest.raises(ValueError, match="each of inputs must be FormalParameter, found str"):
        defs.OpSchema("F", "d", 1, inputs=["x"])  # type: ignore[list-item] # wrong on purpose
    with pytest.raises(TypeError, match="a type from 1 to 14 is required, found 77"):
        defs.OpSchema.Attribute("a", 77)
    with pytest.raises(TypeError, match="pairs of domain and name are required, found 'x'"):
        inliner.inline_selected_functions(model(), ["x"])  # type: ignore[list-item] # as above
    with pytest.raises(TypeError, match="Relu-14: a function is required, found int"):
        defs.get_schema("Relu").set_type_and_shape_inference_function(wrong)
    with pytest.raises(TypeError, match="a NumPy dtype is required, found None"):
        numpy_helper.create_random_int((2,), None)  # type: ignore[arg-type] # as above
    with pytest.raises(TypeError, match="merge_graphs: name must be text or None, found int"):
        compose.merge_graphs(model().graph, model().graph, [], name=wrong)
    with pytest.raises(TypeError, match="tensor_type must be int, found NoneType"):
        make_large_tensor_proto("#t", "t", None, (3,))  # type: ignore[arg-type] # as above


def test_none_stands_for_no_opsets() -> None:
    assert helper.find_min_ir_version_for(None) == onnx.helper.find_min_ir_version_for([])
    made = helper.make_model_gen_version(model().graph, opset_imports=None)
    assert made.ir_version == onnx.helper.make_model_gen_version(
        onnx.parser.parse_model(MODEL).graph, opset_imports=None
    ).ir_version  # fmt: skip


def members(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", ["", "FormalParameter", "Attribute", "TypeConstraintParam"])
def test_classes_of_schemas_show_the_members_of_their_instances(kind: str) -> None:
    theirs, ours = onnx.defs.OpSchema, defs.OpSchema
    assert members(getattr(theirs, kind) if kind else theirs) <= members(
        getattr(ours, kind) if kind else ours
    )


def test_numbers_stand_for_members_of_enumerations() -> None:
    for schemas in (onnx.defs, defs):
        kind: Any = schemas.OpSchema
        assert kind("F", "d", 1, node_determinism=1).non_deterministic
        parameter = kind.FormalParameter("x", "T", param_option=1)
        assert parameter.option == kind.FormalParameterOption.Optional


def test_members_of_parameters_stay_as_they_are() -> None:
    for schemas in (onnx.defs, defs):
        parameter: Any = schemas.get_schema("Relu").inputs[0]
        with pytest.raises(AttributeError):
            parameter.name = "other"
        own: Any = schemas.OpSchema("F", "d", 1)
        own.doc = "told later"
        assert own.doc == "told later"


def test_missing_models_are_errors_of_checking_as_well() -> None:
    for check in (checker.check_model, shape_inference.infer_shapes_path):
        with pytest.raises(ValidationError) as found:
            check("nowhere.onnx")
        assert isinstance(found.value, FileNotFoundError)
        with pytest.raises(onnx.checker.ValidationError):
            getattr(
                onnx.checker if check is checker.check_model else onnx.shape_inference,
                check.__name__,
            )("nowhere.onnx")


def test_targets_and_fetches_that_do_not_exist_are_value_errors_too() -> None:
    with pytest.raises(InvalidUse, match=r"an opset of ai.onnx from 1 to 28 is required"):
        convert_version(model(), 777)
    with pytest.raises(InvalidUse, match="fetches must name values of the graph"):
        ReferenceEvaluator(model()).run(["z"], {"x": np.ones((2, 3), np.float32)})


def test_paths_may_be_bytes(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    given = model()
    given.graph.initializer.append(tensor)
    path = os.fsencode(tmp_path / "m.onnx")
    fornix.onnx.save(given, path, save_as_external_data=True, location="w.bin", size_threshold=0)  # type: ignore[arg-type] # bytes
    assert len(onnx.load(path).graph.initializer) == 1
    found = fornix.onnx.load(path)  # type: ignore[arg-type] # bytes
    assert numpy_helper.to_array(found.graph.initializer[0])[1, 2] == 5
    with pytest.raises(TypeError, match="a path or an open binary file is required, found int"):
        fornix.onnx.save(given, 3)  # type: ignore[arg-type] # no path


def test_the_remedy_for_links_can_be_followed(tmp_path: Path) -> None:
    given = model()
    given.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), "w"))
    folder = tmp_path / "m"
    folder.mkdir()
    fornix.onnx.save(given, folder / "m.onnx", save_as_external_data=True, location="w.bin",
                     size_threshold=0)  # fmt: skip
    (folder / "w.bin").rename(tmp_path / "w.bin")
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ExternalDataError, match=r"fornix.load\(path, allow_links=True\)"):
        fornix.onnx.load(folder / "m.onnx")
    read = fornix.load(folder / "m.onnx", allow_links=True)
    stored = read.graph.initializers["w"].tensor
    assert stored is not None
    assert stored.numpy().sum() == 6
