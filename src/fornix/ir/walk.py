"""Traversal of a model: every graph, node, value and tensor, subgraphs and functions included.

All of it is iterative, so nesting cannot exhaust the stack, and goes depth-first in the order of
the model: a node comes ahead of what its subgraphs hold. `nodes` may be used while the model
changes, under the rules that `fornix.ir.chain` states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.nesting import inner_graphs, own_values
from fornix.ir.tensor import SparseTensor

if TYPE_CHECKING:
    from fornix.ir.tensor import Tensor

    Root = Model | Function | Graph


def roots(root: Root) -> list[Graph]:
    """The graphs that stand in no node: a model's own and those of its functions."""
    if isinstance(root, Model):
        return [root.graph, *(function.graph for function in root.functions)]
    return [root.graph] if isinstance(root, Function) else [root]


def graphs(root: Root) -> Iterator[Graph]:
    """Every graph, each ahead of its subgraphs; those of model functions last."""
    for top in roots(root):
        yield top
        yield from inner_graphs(top)


def nodes(root: Root) -> Iterator[Node]:
    """Every node at any depth, each ahead of the nodes in its subgraphs."""
    for top in roots(root):
        stack = [iter(top.nodes)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node
            stack.extend(iter(graph.nodes) for graph in reversed(node.graphs))


def values(root: Root) -> Iterator[Value]:
    """Every value that is defined and not omitted, graph by graph."""
    for graph in graphs(root):
        yield from own_values(graph)


def attributes(root: Root) -> Iterator[Attribute]:
    """Every attribute of every node, and every default of a model function."""
    for node in nodes(root):
        yield from node.attributes.values()
    functions = root.functions if isinstance(root, Model) else [root]
    for function in functions:
        if isinstance(function, Function):
            yield from function.defaults.values()


def tensors(root: Root) -> Iterator[Tensor]:
    """Every stored tensor, initializers first; of a sparse one, values and indices."""
    for graph in graphs(root):
        for value in graph.initializer_values:
            yield from stored_parts(value.tensor)
    for attribute in attributes(root):
        if attribute.kind in _TENSOR_KINDS:
            held = attribute.value
            for tensor in held if isinstance(held, list) else [held]:
                yield from stored_parts(tensor)


def stored_parts(tensor: Tensor | None) -> list[Tensor]:
    """The dense tensors that ``tensor`` consists of."""
    if isinstance(tensor, SparseTensor):
        return [tensor.values, tensor.indices]
    return [] if tensor is None else [tensor]


def captured_values(holder: Node | Graph) -> list[Value]:
    """The values from outside that a graph, or the subgraphs of a node, use; each once."""
    own = [holder] if isinstance(holder, Graph) else []
    inside = dict.fromkeys([*own, *inner_graphs(holder)])
    found: dict[Value, None] = {}
    for graph in inside:
        for value in read_values(graph):
            if value.graph not in inside:
                found[value] = None
    return list(found)


def read_values(graph: Graph) -> Iterator[Value]:
    """What the nodes of ``graph`` read and what it lists as outputs, subgraphs aside."""
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None:
                yield value
    yield from graph.outputs


_TENSOR_KINDS = {
    AttributeKind.TENSOR,
    AttributeKind.TENSORS,
    AttributeKind.SPARSE_TENSOR,
    AttributeKind.SPARSE_TENSORS,
}
