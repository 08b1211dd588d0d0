"""Loop bodies that take their counter or condition as a tensor of one element.

The standard has scalars there. Older converters declare one axis of extent 1, which onnxruntime
goes by, and what such a body computes has that axis, too.
"""

from __future__ import annotations

import numpy as np

from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ir.walk import nodes

FORMAL = 2
"""Inputs of a body that the loop itself supplies: the counter and the condition."""
RESHAPES_BY_INPUT = 5
"""The first opset whose Reshape reads the shape."""


def with_scalar_counters(model: Model) -> Model:
    """``model``, or a copy whose bodies take scalars and give them their axis themselves."""
    if model.opset_imports.get("", 0) < RESHAPES_BY_INPUT or not _long_inputs(model):
        return model
    changed = model.clone()
    for body, value in _long_inputs(changed):
        _take_scalar(body, value)
    return changed


def _long_inputs(model: Model) -> list[tuple[Graph, Value]]:
    """Counters and conditions with an axis, and the bodies that take them."""
    bodies = [
        body
        for node in nodes(model)
        if node.op_type == "Loop" and not node.domain
        for body in node.graphs
    ]
    return [
        (body, value)
        for body in bodies
        for value in body.inputs[:FORMAL]
        if isinstance(value.type, TensorType) and value.type.shape == (1,)
    ]


def _take_scalar(body: Graph, value: Value) -> None:
    """Let ``value`` be a scalar, and a Reshape of it be what the nodes of ``body`` read."""
    name = body.fresh_name(f"{value.name}_shape")
    shape = body.add_initializer(ArrayTensor(np.array([1], np.int64), name), name)
    reshape = Node("", "Reshape", [shape, shape], 1)
    first = next(iter(body.nodes), None)
    if first is None:
        body.append(reshape)
    else:
        body.insert_before(first, reshape)
    value.replace_all_uses_with(reshape.output)
    reshape.set_input(0, value)
    if isinstance(value.type, TensorType):
        value.type = TensorType(value.type.dtype, ())
