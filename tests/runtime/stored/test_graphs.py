"""Models as JSON knows them: they come back as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.dtype import FLOAT32, INT4, INT64
from fornix.format.messages import ModelProto, own
from fornix.ir.attribute import Attribute
from fornix.ir.clone import clone
from fornix.ir.dim import symbol, unknown
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.load import from_message, to_message
from fornix.ir.tensor import ArrayTensor, SparseTensor
from fornix.ir.types import MapType, OpaqueType, SequenceType, TensorType, Type
from fornix.runtime.stored.graphs import graph_of, graph_text
from fornix.runtime.stored.notes import NotKept

Array = np.ndarray[Any, np.dtype[Any]]


def again(model: Model) -> Model:
    """The model that is read where ``model`` was written."""
    arrays: list[Array] = []

    def store(array: Array) -> int:
        arrays.append(array)
        return len(arrays) - 1

    text = graph_text(model, store)
    assert json.loads(text)
    return graph_of(text, arrays.__getitem__)


def message(model: Model) -> bytes:
    return bytes(to_message(model).SerializeToString(deterministic=True))


def with_attributes(**attributes: object) -> Model:
    """A model of one node that has these."""
    x = Value("x", TensorType(FLOAT32, (symbol("N"), 2)))
    held = {name: Attribute.of(name, held) for name, held in attributes.items()}
    node = Node("own", "Node", [x, None], [Value("y")], held)
    graph = Graph("g", [x], node.outputs, [node])
    return Model(graph, {"": 18, "own": 1})


ATTRIBUTES: dict[str, Callable[[], object]] = {
    "number": lambda: -(2**63),
    "float": lambda: float("inf"),
    "floats": lambda: [0.1, float("-inf"), -0.0],
    "text": lambda: 'a "word"\n☃',
    "bytes": lambda: b"\xff\x00",
    "texts": lambda: ["", "b", b"\xfe"],
    "tensor": lambda: ArrayTensor(np.arange(6, dtype=np.float16).reshape(2, 3), "t"),
    "small": lambda: ArrayTensor(np.arange(-3, 4).astype(INT4.numpy)),
    "words": lambda: ArrayTensor(np.array([["a"], ["☃"]], object)),
    "nothing": lambda: ArrayTensor(np.zeros((0, 3), np.int64)),
    "scalar": lambda: ArrayTensor(np.array(7)),
    "sparse": lambda: SparseTensor(
        ArrayTensor(np.ones(2, np.float32), "s"), ArrayTensor(np.array([1, 3])), (2, 2)
    ),
    "type": lambda: SequenceType(MapType(INT64, TensorType(None, (None, symbol("batch size"))))),
}


@pytest.mark.parametrize("kind", list(ATTRIBUTES))
def test_attributes_of_every_kind_come_back(kind: str) -> None:
    model = with_attributes(held=ATTRIBUTES[kind]())
    assert message(again(model)) == message(model)


def test_what_is_no_number_comes_back() -> None:
    model = with_attributes(held=float("nan"))
    (node,) = again(model).graph.nodes
    assert np.isnan(node.attributes["held"].value)


def test_graphs_within_and_functions_come_back() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["z"])], "inner", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Twice", ["y"], ["t"], domain="own", by=3),
    ]
    graph = helper.make_graph(
        nodes, "outer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2]),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["2*N", None])],
    )  # fmt: skip
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)], ["by"],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)
    model = from_message(own(made, ModelProto))
    found = again(model)
    assert message(found) == message(model)
    assert message(clone(found)) == message(model)


def test_of_extents_that_nobody_knows_nothing_is_said() -> None:
    model = with_attributes()
    (y,) = model.graph.outputs
    y.type = TensorType(FLOAT32, (unknown("only a run tells"), 3))
    (found,) = again(model).graph.outputs
    assert found.type == TensorType(FLOAT32, (None, 3))


def test_what_json_has_no_form_for_is_not_kept() -> None:
    found: Type = OpaqueType("own", "Thing")
    with pytest.raises(NotKept):
        again(with_attributes(held=found))
