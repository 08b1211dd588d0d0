"""What is computed of values of unknown rank, as a body of its own.

For sessions alone: a body is compiled for what it meets, so that nodes behind an If that squeezes
or does not are compiled once a run has told how many axes there are. Decides where such a body
begins: at operators of elements and arrays, not at those that only hand values on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fornix.infer import Inference
from fornix.ir.attribute import AttributeKind
from fornix.ir.clone import clone
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.passes.apply import read_by

HANDING_ON = frozenset({
    "ConcatFromSequence", "Identity", "If", "Loop", "Optional", "OptionalGetElement",
    "OptionalHasElement", "Scan", "SequenceAt", "SequenceConstruct", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
})  # fmt: skip
"""Operators that native code has for values of any rank."""


def outline_unranked(model: Model, inference: Inference) -> bool:
    """Put all that depends on what has no rank in the body of an If; whether there was any."""
    graph = model.graph
    tail = _tail(graph, inference)
    results = [value for node in tail for value in node.outputs if value.is_output]
    if not results or any(not isinstance(inference.fact(v).type, TensorType) for v in results):
        return False
    certain = graph.add_initializer(ArrayTensor(np.array(True)))
    bodies = {name: _body(tail, results) for name in ("then_branch", "else_branch")}
    node = Node("", "If", [certain], len(results), bodies)
    graph.insert_before(tail[-1], node)  # what it captures is computed by then
    for old, new in zip(results, node.outputs, strict=True):
        new.type = old.declared_type
        old.replace_all_uses_with(new)
    graph.remove(*reversed(tail))
    return True


def _tail(graph: Graph, inference: Inference) -> list[Node]:
    """The nodes that compute something of unknown rank, and all that read their results."""
    found: list[Node] = []
    reached: set[Value] = set()
    for node in graph.nodes:
        read = read_by(node)
        begins = node.op_type not in HANDING_ON and any(_is_unranked(v, inference) for v in read)
        if begins or not reached.isdisjoint(read):
            found.append(node)
            reached.update(node.outputs)
    return found


def _is_unranked(value: Value, inference: Inference) -> bool:
    """Whether it is a tensor that a node computes, of nobody knows how many axes."""
    fact = inference.fact(value)
    is_tensor = isinstance(fact.type, TensorType) and fact.dtype is not None
    return is_tensor and not fact.has_rank and value.producer is not None


def _body(nodes: Sequence[Node], results: Sequence[Value]) -> Graph:
    """A graph of copies of ``nodes``, which captures what they read of others."""
    body, made = Graph(), dict[Value, Value]()
    for node in nodes:
        inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
        copy = Node(
            node.domain, node.op_type, inputs, len(node.outputs), _attributes(node, made),
            name=node.name, overload=node.overload,
        )  # fmt: skip
        body.append(copy)
        made |= zip(node.outputs, copy.outputs, strict=True)
    body.outputs = [made[value] for value in results]
    return body


def _attributes(node: Node, made: Mapping[Value, Value]) -> dict[str, object]:
    """Attributes of ``node``; graphs are copies, in which values are those ``made``."""
    return {
        name: clone(attribute.value, made) if attribute.kind is AttributeKind.GRAPH else attribute
        for name, attribute in node.attributes.items()
    }
