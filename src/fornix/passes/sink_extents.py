"""Numbers that extents tell, computed in the bodies that read them, of what has these extents.

For sessions alone: a body is compiled by itself, for the types of what it captures. A number that
is computed ahead of it is anything there, and what is as long as it says may not fit the rest;
computed in the body it is known to be the extent that other inputs have. Decides which numbers
these are: those that are known as expressions of extents, by a few nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from fornix.dtype import STRING
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.walk import captured_values, graphs
from fornix.passes.apply import sweep

BEGINNING = frozenset({"Shape", "Size"})
"""Operators that read extents and no elements."""
MAX_NODES = 16
"""Of a chain: they are computed anew in each iteration where NumPy kernels run the body."""


def sink_extents(model: Model, inference: Inference) -> bool:
    """Have bodies compute what they capture and extents tell; whether there was any.

    Afterwards the model has to be inferred anew.
    """
    found: dict[Value, None] = {}
    for graph in [graph for graph in graphs(model.graph) if graph is not model.graph]:
        for value in filter(partial(_is_told, inference), captured_values(graph)):
            chain: dict[Node, None] = {}
            if _collect(value, inference, chain, MAX_NODES):
                _compute_in(graph, value, chain, inference)
                found[value] = None
    sweep(found)
    return bool(found)


def _is_told(inference: Inference, value: Value) -> bool:
    """Whether it is known of which extents numbers are made, and not merely which they are."""
    known = inference.fact(value).value
    entries = [] if known is None else list(known.flat)
    is_open = any(isinstance(entry, Dim) for entry in entries)
    return is_open and not any(
        entry is None or (isinstance(entry, Dim) and has_unknown(entry)) for entry in entries
    )


def _collect(value: Value, inference: Inference, found: dict[Node, None], left: int) -> bool:
    """Add the nodes that compute ``value`` of extents in their order; whether it is these alone.

    At most ``left`` of them one behind the other.
    """
    node = value.producer
    if node is None or node.graphs or left == 0:
        return False
    if node not in found:
        read = [v for v in node.inputs if v is not None and v.constant is None]
        if node.op_type in BEGINNING and not node.domain:
            is_whole = all(_has_extents(v, inference) for v in read)
        else:
            is_whole = all(_collect(v, inference, found, left - 1) for v in read)
        if not is_whole:
            return False
        found[node] = None
    return len(found) <= MAX_NODES


def _has_extents(value: Value, inference: Inference) -> bool:
    """Whether it is an array of numbers of so many axes, which compiled bodies may capture."""
    fact = inference.fact(value)
    return fact.has_rank and fact.dtype is not None and fact.dtype is not STRING


def _compute_in(graph: Graph, value: Value, chain: Iterable[Node], inference: Inference) -> None:
    """Let nodes in ``graph`` read a copy of ``value``, which copies of ``chain`` compute there."""
    users = [use for use in value.uses if graph in _around(use[0])]
    if not users:  # the graph hands it on
        return
    first, made = next(iter(graph.nodes)), dict[Value, Value]()
    for node in chain:
        inputs = [None if v is None else made.get(v, v) for v in node.inputs]
        copy = Node(
            node.domain, node.op_type, inputs, len(node.outputs), dict(node.attributes),
            name=node.name, overload=node.overload,
        )  # fmt: skip
        graph.insert_before(first, copy)
        made |= zip(node.outputs, copy.outputs, strict=True)
        inference.update([copy])
    for user, index in users:
        user.set_input(index, made[value])


def _around(node: Node) -> Iterator[Graph]:
    """The graph that ``node`` stands in, and those that this one stands in."""
    graph = node.graph
    while graph is not None:
        yield graph
        graph = graph.parent
