"""Eliminate what need not be computed: nodes that nobody reads, and nodes that repeat another.

1. dead: a node none of whose results is used, in the order from the end, so chains go at once
2. common: of nodes of one operator with equal attributes and the same inputs, the first stays
3. initializers that nobody reads, unless they are inputs
"""

from __future__ import annotations

from fornix import ops
from fornix.infer import Inference
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs

_COMPARED = {
    AttributeKind.INT,
    AttributeKind.FLOAT,
    AttributeKind.STRING,
    AttributeKind.INTS,
    AttributeKind.FLOATS,
    AttributeKind.STRINGS,
}
"""Kinds of attributes that are compared by content; nodes with others are left alone."""

Key = tuple[object, ...]


def eliminate_dead(root: Graph, inference: Inference) -> int:  # noqa: ARG001 - passes are alike
    """Remove nodes and initializers of ``root`` and its subgraphs that nobody reads."""
    removed = 0
    for graph in reversed(list(graphs(root))):
        for node in reversed(list(graph.nodes)):
            if not any(value.is_used for value in node.outputs):
                graph.remove(node)
                removed += 1
        for value in list(graph.initializer_values):
            if not value.is_used and not value.is_input:
                graph.remove_initializer(value)
    return removed


def eliminate_common(root: Graph, inference: Inference) -> int:
    """Let the first of equal nodes stand for the others, within each graph."""
    return sum(_merge(graph, inference) for graph in list(graphs(root)))


def _merge(graph: Graph, inference: Inference) -> int:
    first: dict[Key, Node] = {}
    merged = 0
    for node in graph.nodes:
        key = _key(node, inference)
        if key is None:
            continue
        kept = first.setdefault(key, node)
        if kept is not node and all(map(_may_stand_for, kept.outputs, node.outputs)):
            graph.replace(node, *kept.outputs)
            merged += 1
    return merged


def _may_stand_for(kept: Value, other: Value) -> bool:
    return kept.can_replace(other)


def _key(node: Node, inference: Inference) -> Key | None:
    """What equal nodes share; None if ``node`` must not be merged."""
    operator = ops.find(node.domain, node.op_type)
    if operator is None or not operator.is_deterministic:
        return None
    if (node.domain, node.op_type, node.overload) in inference.functions:
        return None
    attributes = [_content(attribute) for attribute in node.attributes.values()]
    if None in attributes:
        return None
    wanted = tuple(node.wants(index) for index in range(len(node.outputs)))
    inputs = tuple(map(id, node.inputs))
    return node.domain, node.op_type, inputs, wanted, frozenset(attributes)


def _content(attribute: Attribute) -> Key | None:
    if attribute.ref is not None or attribute.kind not in _COMPARED:
        return None
    value = attribute.value
    return attribute.name, attribute.kind, tuple(value) if isinstance(value, list) else value
