"""Graphs within graphs: what is inside a node or graph, and what may leave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.errors import GraphError
from fornix.ir.node import Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fornix.ir.graph import Graph
    from fornix.ir.value import Value


def own_values(graph: Graph) -> Iterator[Value]:
    """The values that ``graph`` itself defines, and that have a name: inputs first."""
    yield from graph.inputs
    for value in graph.initializer_values:
        if not value.is_input:
            yield value
    for node in graph.nodes:
        for value in node.outputs:
            if not value.is_omitted:
                yield value


def fed_inputs(body: Graph) -> tuple[Value, ...]:
    """The inputs of ``body``, a node's attribute, that the operator gives.

    The others have stored values: up to IR version 3 those are listed as inputs as well, behind.
    """
    return tuple(value for value in body.inputs if not value.is_initializer)


def inner_graphs(holder: Node | Graph) -> Iterator[Graph]:
    """The graphs inside a node or graph at any depth, outer ones first."""
    stack = holder.graphs[::-1]
    while stack:
        graph = stack.pop()
        yield graph
        stack += graph.graphs[::-1]


def check_unused(value: Value, going: Collection[Node]) -> None:
    """Raise GraphError if anything but the nodes ``going``, and what they hold, uses ``value``."""
    for use in value.uses:
        if not stands_in(use.node, going):
            raise GraphError(
                f"{value.producer.label if value.producer else value.name}: nothing may use what "
                f"is removed, found '{value.name}' read by {use.node.label}"
            )
    for graph in value.output_of:
        if not (isinstance(graph.owner, Node) and stands_in(graph.owner, going)):
            raise GraphError(
                f"{value.producer.label if value.producer else value.name}: nothing may use what "
                f"is removed, found '{value.name}' as an output of {graph.label}"
            )


def stands_in(node: Node, holders: Collection[Node]) -> bool:
    """Whether ``node``, or a node around it, is one of ``holders``."""
    current: Node | None = node
    while current is not None:
        if current in holders:
            return True
        owner = None if current.graph is None else current.graph.owner
        current = owner if isinstance(owner, Node) else None
    return False
