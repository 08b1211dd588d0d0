"""The order of nodes: every node behind those whose results it needs.

A node needs the producers of its inputs and of the values that its subgraphs capture. The order
found is the one that the nodes have already, changed only where it must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.errors import GraphError
from fornix.ir.walk import captured_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fornix.ir.graph import Graph, Node


def sorted_nodes(graph: Graph) -> list[Node]:
    """The nodes of ``graph`` in topological order, stable.

    Raises GraphError naming the nodes of a cycle.
    """
    done: dict[Node, None] = {}
    for first in graph.nodes:
        if first in done:
            continue
        open_ = {first: None}  # the path from `first`, in order
        path = [(first, needed_nodes(first))]
        while path:
            node, rest = path[-1]
            needed = next((x for x in rest if x not in done), None)
            if needed is None:
                path.pop()
                del open_[node]
                done[node] = None
            elif needed in open_:
                raise cycle_error(list(open_), needed)
            else:
                open_[needed] = None
                path.append((needed, needed_nodes(needed)))
    return list(done)


def sort(graph: Graph) -> None:
    """Put the nodes of ``graph`` in topological order; subgraphs keep theirs.

    Raises GraphError naming the nodes of a cycle, before anything changes.
    """
    graph.move_before(None, *sorted_nodes(graph))


def is_sorted(graph: Graph) -> bool:
    """Whether every node stands behind those that it needs."""
    seen: set[Node] = set()
    for node in graph.nodes:
        if any(needed not in seen for needed in needed_nodes(node)):
            return False
        seen.add(node)
    return True


def needed_nodes(node: Node) -> Iterator[Node]:
    """The nodes of the same graph whose results ``node`` or a subgraph of it uses."""
    graph = node.graph
    for value in node.inputs:
        if value is not None and value.producer is not None and value.producer.graph is graph:
            yield value.producer
    if node.graphs:
        for value in captured_values(node):
            if value.producer is not None and value.producer.graph is graph:
                yield value.producer


def cycle_error(path: list[Node], again: Node) -> GraphError:
    """The error for a ``path`` of needs that leads back to ``again``, a node on it."""
    cycle = path[path.index(again) :]
    shown = [node.label for node in cycle[:_SHOWN]]
    if len(cycle) > _SHOWN:
        shown.append(f"{len(cycle) - _SHOWN} more")
    return GraphError(
        f"{again.label}: a node cannot need its own result, found the cycle {' ← '.join(shown)} "
        f"← {again.label}"
    )


# Nodes of a cycle that its message names.
_SHOWN = 8
