"""Loop bodies that declare other shapes of their inputs than the loop gives them.

The counter and the condition are scalars. Older converters declare one axis of extent 1, which
onnxruntime goes by, and what such a body computes has that axis, too. Carried values have the
shapes that they have, from one iteration to the next: what is declared of them cannot change that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fornix.ir.dim import known
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ir.walk import nodes

FORMAL = 2
"""Inputs of a body that the loop itself supplies: the counter and the condition."""
RESHAPES_BY_INPUT = 5
"""The first opset whose Reshape reads the shape."""


def with_fitting_bodies(model: Model) -> Model:
    """``model``, or a copy whose bodies take what their loops give them.

    They take scalars and reshape these themselves, and declare no shape that a carried value does
    not begin with.
    """
    if model.opset_imports.get("", 0) < RESHAPES_BY_INPUT:
        return model
    if not (any(_long_inputs(model)) or any(_misdeclared(model))):
        return model
    changed = model.clone()
    for value in list(_misdeclared(changed)):
        if isinstance(value.type, TensorType):
            value.type = TensorType(value.type.dtype, None)
    for body, value in list(_long_inputs(changed)):
        _take_scalar(body, value)
    return changed


def _loops(model: Model) -> Iterator[tuple[Node, Graph]]:
    """Loops with their bodies."""
    for node in nodes(model):
        if node.op_type == "Loop" and not node.domain:
            yield from ((node, body) for body in node.graphs)


def _long_inputs(model: Model) -> Iterator[tuple[Graph, Value]]:
    """Bodies, and counters and conditions that they take with an axis."""
    for _, body in _loops(model):
        for value in body.inputs[:FORMAL]:
            if isinstance(value.type, TensorType) and value.type.shape == (1,):
                yield body, value


def _misdeclared(model: Model) -> Iterator[Value]:
    """Inputs of bodies whose declared shape is not that of the value that is carried first."""
    for node, body in _loops(model):
        for value, given in zip(body.inputs[FORMAL:], node.inputs[FORMAL:], strict=False):
            if given is not None and _contradict(value, given):
                yield value


def _contradict(value: Value, given: Value) -> bool:
    """Whether the shapes that two values are said to have cannot both be right."""
    held = given.type if given.constant is None else given.constant
    shapes = [getattr(value.type, "shape", None), getattr(held, "shape", None)]
    if shapes[0] is None or shapes[1] is None:
        return False
    if len(shapes[0]) != len(shapes[1]):
        return True
    pairs = [(known(a), known(b)) for a, b in zip(*shapes, strict=True)]
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


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
