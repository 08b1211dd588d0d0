"""Cancel what cuts and joins along one axis.

1. Concat(Split(x)), all parts in their order, is x
2. Split(Concat(x, y, …)) into the same parts gives x, y, …
3. Concat(…, Concat(x, y), …) is one Concat, if nobody else reads the inner one
"""

from __future__ import annotations

from collections import Counter

from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Maker


def cancel_splits(root: Graph, inference: Inference) -> Changes:
    """Apply the three cases in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in graph.nodes:
            if node.domain or node.op_type not in {"Concat", "Split"}:
                continue
            make = Maker(node, graph, inference)
            results = attempt("cancel_splits", _joined, node, make)
            if results:
                replace(node, results, inference)
                changes[f"cancelled {node.op_type}"] += 1
    return changes


def _joined(node: Node, make: Maker) -> list[Value]:
    """What replaces the results of ``node``, by the first case that applies."""
    return _whole(node, make) or _parts(node, make) or _flat(node, make)


def _axis(node: Node, make: Maker) -> int | None:
    """The axis that a Concat or Split works along, counted from the first; None if not known."""
    fact = make.fact(node.outputs[0])
    default = 1 if node.op_type == "Concat" else 0  # Concat had a default up to opset 3
    return node.attr("axis", default) % fact.rank if fact.has_rank and fact.rank else None


def _whole(node: Node, make: Maker) -> list[Value]:
    """What was split, if the Concat ``node`` joins all of its parts in order."""
    first = node.inputs[0] if node.inputs else None
    split = None if first is None else first.producer
    if node.op_type != "Concat" or split is None or split.op_type != "Split" or split.domain:
        return []
    if tuple(node.inputs) != split.outputs or _axis(node, make) != _axis(split, make):
        return []
    return [value for value in split.inputs[:1] if value is not None]


def _parts(node: Node, make: Maker) -> list[Value]:
    """What was joined, if the Split ``node`` cuts it where it was joined."""
    whole = node.inputs[0] if node.inputs else None
    concat = None if whole is None else whole.producer
    if node.op_type != "Split" or concat is None or concat.op_type != "Concat" or concat.domain:
        return []
    parts = [value for value in concat.inputs if value is not None]
    axis = _axis(node, make)
    if axis is None or axis != _axis(concat, make) or len(parts) != len(node.outputs):
        return []
    pairs = [(make.fact(x), make.fact(y)) for x, y in zip(parts, node.outputs, strict=True)]
    fits = all(x.has_rank and y.has_rank and x.shape[axis] == y.shape[axis] for x, y in pairs)
    return parts if fits else []


def _flat(node: Node, make: Maker) -> list[Value]:
    """One Concat of what ``node`` and the Concats that it alone reads join."""
    axis = _axis(node, make)
    if node.op_type != "Concat" or axis is None:
        return []
    inputs: list[Value | None] = []
    for value in node.inputs:
        inner = None if value is None else value.producer
        is_own = value is not None and value.use_count == 1 and not value.is_output
        if inner is None or inner.op_type != "Concat" or inner.domain or not is_own:
            inputs.append(value)
        else:
            inputs += inner.inputs if _axis(inner, make) == axis else [value]
    if len(inputs) == len(node.inputs):
        return []
    return [make.node("Concat", tuple(inputs), {"axis": axis})]
