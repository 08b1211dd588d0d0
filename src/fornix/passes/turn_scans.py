"""Scans along other axes than the first, as Scans of rows between Transposes.

For sessions alone: a row then lies in one piece, which native code reads and writes where it is.
Decides which nodes are turned: those of the main graph whose scanned values have known ranks, and
types that Transpose takes.
"""

from __future__ import annotations

import numpy as np

from fornix.infer import Inference
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType
from fornix.ops import schema_of
from fornix.ops.fact import Fact
from fornix.ops.scanning import Scanning
from fornix.passes.make import Maker

AXES = ("scan_input_axes", "scan_output_axes")


def turn_scans(model: Model, inference: Inference) -> bool:
    """Turn what is scanned along other axes; whether there was any.

    Afterwards the model has to be inferred anew.
    """
    opset = model.opset_imports.get("", 0)
    if opset < Scanning.SINCE:
        return False
    found = [n for n in model.graph.nodes if n.op_type == "Scan" and not n.domain]
    turned = [_turn(node, opset, Maker(node, model.graph, inference), inference) for node in found]
    return any(turned)


def _turn(node: Node, opset: int, make: Maker, inference: Inference) -> bool:
    """Whether ``node`` scans rows now, and did not before."""
    if node in inference.broken or not any(any(node.attr(name, ())) for name in AXES):
        return False
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    scanning = Scanning.of(len(node.inputs), len(given.pop("body").outputs), **given)
    inputs = list(enumerate(scanning.input_axes, scanning.states))
    outputs = list(enumerate(scanning.output_axes, scanning.states))
    scanned = [node.inputs[place] for place, _ in inputs]
    made = [node.outputs[place] for place, _ in outputs if place < len(node.outputs)]
    if not all(v is not None and _turns(inference.fact(v), opset) for v in (*scanned, *made)):
        return False
    for place, axis in inputs:
        value = node.inputs[place]
        if value is not None and axis:
            node.inputs = [
                *node.inputs[:place],
                _first(value, axis, make),
                *node.inputs[place + 1 :],
            ]
    for value, (_, axis) in zip(made, outputs, strict=False):
        if axis:
            _back(value, axis, node, inference)
    for name in AXES:
        node.remove_attribute(name)
    return True


def _turns(fact: Fact, opset: int) -> bool:
    """Whether Transpose of ``opset`` takes such an array."""
    schema = schema_of("", "Transpose", opset)
    types = schema.allowed(schema.formal_input(0))
    return fact.has_rank and fact.type is not None and fact.type.constraint in types


def _first(value: Value, axis: int, make: Maker) -> Value:
    """``value`` with an axis of it first."""
    fact = make.fact(value)
    if fact.constant is not None:
        return make.value(np.ascontiguousarray(np.moveaxis(fact.constant, axis, 0)))
    return make.Transpose(value, perm=_moved(fact.rank, axis % fact.rank, 0))


def _moved(rank: int, source: int, target: int) -> list[int]:
    """The axes in their order, but that one is in another place."""
    perm = list(range(rank))
    perm.insert(target, perm.pop(source))
    return perm


def _back(value: Value, axis: int, node: Node, inference: Inference) -> None:
    """Let whoever reads ``value``, whose rows are on the first axis now, read it turned back."""
    known = inference.fact(value)
    perm = _moved(known.rank, 0, axis % known.rank)
    turning = Node("", "Transpose", [value], 1, {"perm": perm}, name=node.name)
    turning.metadata.update(node.metadata)
    turning.output.type = known.type if value.is_output else None
    if node.graph is not None:
        node.graph.insert_after(node, turning)
    value.replace_all_uses_with(turning.output)
    turning.inputs = [value]
    shape = tuple(known.shape[perm.index(place)] for place in range(known.rank))
    value.type = TensorType(known.dtype, shape)
