"""Names: a prefix for all of a graph's, or new names for single values, nodes and functions.

Values know their uses, so that renaming one reaches every node that reads it, in subgraphs too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fornix.errors import InvalidArgument
from fornix.ir.graph import Graph, Model, Value
from fornix.ir.nesting import own_values
from fornix.ir.walk import graphs, nodes


@dataclass(frozen=True)
class Parts:
    """What a prefix goes ahead of."""

    nodes: bool = True
    """Names of nodes, and all names in the subgraphs that they hold."""
    edges: bool = True
    """Results of nodes that are not outputs of the graph."""
    inputs: bool = True
    outputs: bool = True
    initializers: bool = True
    value_infos: bool = True
    """Results whose types the graph lists."""
    functions: bool = True
    """Model functions, and with them the nodes that call them."""


EVERYTHING = Parts()


def prefix(model: Model, text: str, parts: Parts = EVERYTHING) -> Model:
    """A copy of ``model`` with ``text`` ahead of its names; empty names stay empty."""
    changed = model.clone()
    _prefix(changed.graph, text, parts)
    if parts.functions:
        table = changed.function_table
        for node in nodes(changed):
            if (node.domain, node.op_type, node.overload) in table:
                node.op_type = text + node.op_type
        for function in changed.functions:
            function.name = text + function.name
    return changed


def prefix_graph(graph: Graph, text: str, parts: Parts = EVERYTHING) -> Graph:
    """A copy of ``graph`` with ``text`` ahead of its names."""
    changed = graph.clone()
    _prefix(changed, text, parts)
    return changed


def _prefix(graph: Graph, text: str, parts: Parts) -> None:
    chosen = dict.fromkeys(_chosen(graph, parts))
    if parts.nodes:
        for node in nodes(graph):
            node.name = text + node.name if node.name else ""
        for inner in graphs(graph):
            if inner is not graph:
                chosen |= dict.fromkeys(own_values(inner))
    for value in chosen:
        if value.name:
            value.name = text + value.name


def value_names(graph: Graph) -> list[str]:
    """The names of all values, those of subgraphs included, in an order that edits keep."""
    return [value.name for inner in graphs(graph) for value in own_values(inner)]


def _chosen(graph: Graph, parts: Parts) -> Iterator[Value]:
    """The values of ``graph`` itself whose names change."""
    if parts.edges:
        outputs = set(graph.outputs)
        yield from (x for node in graph.nodes for x in node.outputs if x not in outputs)
    if parts.inputs:
        yield from graph.inputs
    if parts.outputs:
        yield from (value for value in graph.outputs if value.graph is graph)
    if parts.initializers:
        yield from graph.initializer_values
    if parts.value_infos:
        yield from (item for item in graph.declared if isinstance(item, Value))


def rename(model: Model, names: Mapping[str, str]) -> Model:
    """A copy of ``model`` in which values and nodes of the main graph have new names.

    Values are looked for first, then nodes. Raises InvalidArgument for a name that neither has and
    for a new name that another value has already.
    """
    changed = model.clone()
    values = {value.name: value for value in own_values(changed.graph) if value.name}
    by_node = {node.name: node for node in changed.graph.nodes if node.name}
    staying = values.keys() - names.keys()
    for old, new in names.items():
        if old in values:
            if not new or new in staying or list(names.values()).count(new) > 1:
                raise InvalidArgument(
                    f"rename: a name that no other value has is required for {old!r}, found {new!r}"
                )
            values[old].name = new
        elif old in by_node:
            by_node[old].name = new
        else:
            raise InvalidArgument(f"rename: {_unknown(old, [*values, *by_node])}")
    return changed


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"the name of a value or node is required, found {name!r}{hint}"
