"""Large stored tensors replaced by nodes that make tensors of the same shape.

For small files that show the structure of a model: what the tensors held is lost.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import InvalidArgument, NotSupported
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor, SparseTensor, Tensor
from fornix.ir.walk import graphs

BEGINS = {"ConstantOfShape": 9, "Range": 11}
"""The opsets in which the operators begin that are put in."""

INPUTS_REQUIRED = 3
"""Up to this IR version every initializer is an input as well."""


def replace_constants(
    model: Model, threshold: int = 128, *, fill: float = 0.5, use_range: bool = False
) -> Model:
    """A copy of ``model`` that makes its tensors of more than ``threshold`` elements.

    By ConstantOfShape of ``fill`` or, with ``use_range``, as Range / N. Nodes of an earlier call
    change likewise. Raises InvalidArgument for an opset without these operators, NotSupported for
    a large tensor that is sparse, and for Constants that hold no tensor.
    """
    opset = model.opset_imports.get("", 0)
    for op_type in ("Range", "ConstantOfShape") if use_range else ("ConstantOfShape",):
        if "" in model.opset_imports and opset < BEGINS[op_type]:
            raise InvalidArgument(
                f"{op_type}: opset {BEGINS[op_type]} or newer is required, found {opset}"
            )
    changed = model.clone()
    for graph in list(graphs(changed)):
        _replace_initializers(graph, threshold, fill, listed=changed.ir_version <= INPUTS_REQUIRED)
        for node in list(graph.nodes):
            if node.domain in {"", "ai.onnx"}:
                _replace_node(graph, node, threshold, fill, use_range=use_range)
    return changed


def _replace_initializers(graph: Graph, threshold: int, fill: float, *, listed: bool) -> None:
    first = next(iter(graph.nodes), None)
    for value in graph.initializer_values:
        tensor = value.tensor
        if tensor is None or math.prod(tensor.shape) <= threshold:
            continue
        _refuse_sparse(tensor, value.name)
        name = value.name
        stored = ArrayTensor(np.array(tensor.shape, np.int64), f"{name}__SHAPE")
        shape = graph.add_initializer(stored, graph.fresh_name(f"{name}__SHAPE"))
        if listed:
            shape.type = shape.type  # inputs say of what type they are
            graph.inputs = (*graph.inputs, shape)
        node = _filled(shape, tensor.dtype, fill)
        if first is None:
            graph.append(node)
        else:
            graph.insert_before(first, node)
        _take_place(graph, value, node.output)


def _take_place(graph: Graph, value: Value, made: Value) -> None:
    """Let ``made`` stand for the initializer ``value``, under its name."""
    name = value.name
    value.replace_all_uses_with(made, outputs=False)
    graph.outputs = [made if x is value else x for x in graph.outputs]
    graph.inputs = [x for x in graph.inputs if x is not value]
    graph.remove_initializer(value)
    made.name = name


def _replace_node(
    graph: Graph, node: Node, threshold: int, fill: float, *, use_range: bool
) -> None:
    if node.op_type == "Constant":
        _replace_constant(graph, node, threshold, fill, use_range=use_range)
    elif node.op_type == "ConstantOfShape":
        if use_range:
            _replace_by_range(graph, node)
        else:
            node.set_attribute("value", _one(_dtype_of(node), fill))


def _replace_constant(
    graph: Graph, node: Node, threshold: int, fill: float, *, use_range: bool
) -> None:
    tensor = node.attr("value")
    if not hasattr(tensor, "shape") or isinstance(tensor, SparseTensor):
        names = ", ".join(node.attributes)
        raise NotSupported(f"{node.label}: a tensor in 'value' is required, found {names}")
    if math.prod(tensor.shape) <= threshold:
        return
    stored = ArrayTensor(np.array(tensor.shape, np.int64))
    name = graph.fresh_name(f"{tensor.name or node.output.name}__SHAPE")
    shape = Node("", "Constant", (), [name], {"value": stored})
    made = _filled(shape.output, tensor.dtype, fill)
    graph.insert_before(node, shape, made)
    graph.replace(node, made.output)
    if use_range:
        _replace_by_range(graph, made)


def _replace_by_range(graph: Graph, node: Node) -> None:
    """Range(0, N, 1) / N in the shape that ``node`` is given, N being its number of elements."""
    [shape] = node.inputs
    code = _dtype_of(node).code

    def add(op_type: str, *inputs: Value | None, **attributes: object) -> Value:
        new = Node("", op_type, inputs, 1, attributes)
        graph.insert_before(node, new)
        return new.output

    zero, one = add("Constant", value_int=0), add("Constant", value_int=1)
    count = add("ReduceProd", shape, keepdims=0)
    numbers = add("Cast", add("Range", zero, count, one), to=code)
    flat = add("Div", numbers, add("Cast", count, to=code))
    graph.replace(node, add("Reshape", flat, shape))


def _dtype_of(node: Node) -> DType:
    held: Attribute | None = node.attributes.get("value")
    return FLOAT32 if held is None else DType.of(held.value.dtype)


def _filled(shape: Value, dtype: DType, fill: float) -> Node:
    return Node("", "ConstantOfShape", [shape], 1, {"value": _one(dtype, fill)})


def _one(dtype: DType, fill: float) -> ArrayTensor:
    return ArrayTensor(np.array([fill]).astype(dtype.numpy))


def _refuse_sparse(tensor: Tensor, name: str) -> None:
    if isinstance(tensor, SparseTensor):
        raise NotSupported(f"initializer '{name}': a dense tensor is required, found a sparse one")
