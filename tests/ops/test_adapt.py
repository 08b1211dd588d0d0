from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fornix import ops
from fornix.errors import ConvertError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Graph, Model, Node
from fornix.ir.load import from_message, to_message
from fornix.ir.verify import verify

X = np.arange(12, dtype=np.float32).reshape(1, 4, 3)


def model_of(
    op_type: str, opset: int, axes: Any, outputs: int, *, is_attribute: bool, is_stored: bool = True
) -> Model:
    """A model of one node whose list of integers is an attribute or an input called "list"."""
    name = "split" if op_type == "Split" else "axes"
    names = [f"y{i}" for i in range(outputs)]
    inputs = ["x"] if is_attribute else ["x", "list"]
    attributes = {name: axes} if is_attribute else {}
    if op_type == "Split":
        attributes["axis"] = 1
    node = helper.make_node(op_type, inputs, names, **attributes)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)]
    stored = []
    if not is_attribute and is_stored:
        stored.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), "list"))
    elif not is_attribute:
        given.append(helper.make_tensor_value_info("list", TensorProto.INT64, [None]))
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
    graph = helper.make_graph([node], "g", given, results, stored)
    return from_message(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    )


def adapted(model: Model, source: int, target: int) -> Node:
    """The node of ``model`` after its adapter, the model importing the opset ``target``."""
    node = next(node for node in model.graph.nodes if node.op_type != "Constant")
    operator = ops.find("", node.op_type)
    assert operator is not None
    operator.adapters[source, target](node, model.graph)
    model.opset_imports[""] = target
    verify(model)
    return node


def results_of(model: Model) -> list[Any]:
    """What onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        to_message(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": X}))


CASES = [("Squeeze", [0], 1), ("Unsqueeze", [0, 2], 1), ("Split", [1, 3], 2)]


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_a_list_becomes_an_input_in_opset_13(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 11, entries, outputs, is_attribute=True)
    before = results_of(model)
    node = adapted(model, 11, 13)
    assert set(node.attributes) <= {"axis"}
    assert len(node.inputs) == 2
    for one, other in zip(results_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_a_constant_list_becomes_an_attribute_in_opset_11(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 13, entries, outputs, is_attribute=False)
    before = results_of(model)
    node = adapted(model, 13, 11)
    assert node.attr("split" if op_type == "Split" else "axes") == entries
    assert len(node.inputs) == 1
    for one, other in zip(results_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("op_type", "entries", "outputs"), CASES)
def test_there_and_back_leaves_the_model_as_it_was(
    op_type: str, entries: list[int], outputs: int
) -> None:
    model = model_of(op_type, 11, entries, outputs, is_attribute=True)
    [node] = model.graph.nodes
    before = {name: attribute.value for name, attribute in node.attributes.items()}
    adapted(model, 11, 13)
    assert len(model.graph.nodes) == 2
    adapted(model, 13, 11)
    assert list(model.graph.nodes) == [node]
    assert {name: attribute.value for name, attribute in node.attributes.items()} == before


@pytest.mark.parametrize(("op_type", "outputs"), [("Squeeze", 1), ("Split", 3)])
def test_a_node_without_a_list_stays_as_it_is(op_type: str, outputs: int) -> None:
    for source, target in ((11, 13), (13, 11)):
        node = Node("", op_type, [None], outputs)
        operator = ops.find("", op_type)
        assert operator is not None
        operator.adapters[source, target](node, Graph())
        assert not node.attributes
        assert len(node.inputs) == 1


def test_a_list_computed_at_run_time_has_no_place_in_opset_11() -> None:
    model = model_of("Squeeze", 13, [0], 1, is_attribute=False, is_stored=False)
    message = (
        "opset 11 takes axes as an attribute, so it must be a constant, but 'list' is computed at "
        "run time"
    )
    with pytest.raises(ConvertError) as raised:
        adapted(model, 13, 11)
    assert str(raised.value) == message


def test_a_list_that_the_caller_of_a_function_gives_stays_a_reference() -> None:
    graph = Graph()
    node = Node("", "Squeeze", [None], 1)
    node.set_attribute("axes", Attribute("axes", AttributeKind.INTS, None, "along"))
    graph.append(node)
    operator = ops.find("", "Squeeze")
    assert operator is not None
    operator.adapters[11, 13](node, graph)
    source = node.inputs[1]
    assert source is not None
    assert source.producer is not None
    assert source.producer.attributes["value_ints"].ref == "along"
