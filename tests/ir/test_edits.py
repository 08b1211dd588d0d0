"""Random edits: whatever is done through the methods of the IR leaves it verifiable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.errors import GraphError
from fornix.ir import walk
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.load import from_message, to_message
from fornix.ir.nesting import own_values
from fornix.ir.order import is_sorted, sort
from fornix.ir.tensor import ArrayTensor
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, model

Draw = st.DataObject


def some_graph(whole: Model, data: Draw) -> Graph:
    return data.draw(st.sampled_from(list(walk.graphs(whole))))


def some_node(graph: Graph, data: Draw) -> Node | None:
    return data.draw(st.sampled_from(list(graph.nodes))) if len(graph.nodes) else None


def visible(graph: Graph, before: Node | None, data: Draw) -> Value:
    """A value that a node ahead of ``before`` in ``graph`` may read."""
    found: list[Value] = []
    inner: Graph | None = graph
    stop = before
    while inner is not None:
        for value in own_values(inner):
            if value.producer is not None and value.producer is stop:
                break
            found.append(value)
        stop = inner.owner if isinstance(inner.owner, Node) else None
        inner = inner.parent
    return data.draw(st.sampled_from(found))


def insert(graph: Graph, data: Draw) -> None:
    anchor = some_node(graph, data)
    source = visible(graph, anchor, data)
    new = Node("", data.draw(st.sampled_from(["Relu", "Neg"])), [source, None, source])
    if anchor is None:
        graph.append(new)
    else:
        graph.insert_before(anchor, new)


def insert_after(graph: Graph, data: Draw) -> None:
    anchor = some_node(graph, data)
    if anchor is not None:
        outputs = [*anchor.outputs, visible(graph, anchor, data)]
        source = data.draw(st.sampled_from([x for x in outputs if not x.is_omitted]))
        graph.insert_after(anchor, Node("", "Neg", [source], data.draw(st.integers(1, 3))))


def insert_branch(graph: Graph, data: Draw) -> None:
    if graph.parent is not None and graph.parent.parent is not None:
        return
    anchor = some_node(graph, data)
    source = visible(graph, anchor, data)
    branch = Graph("branch")
    branch.append(Node("", "Relu", [source]))
    branch.outputs = branch.nodes[0].outputs
    holder = Node("", "If", [source], attributes={"then_branch": branch})
    if data.draw(st.booleans()):
        holder.set_attribute("else_branch", branch.clone())
    if anchor is None:
        graph.append(holder)
    else:
        graph.insert_before(anchor, holder)


def remove(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None:
        graph.remove(node)


def remove_and_put_back(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None:
        follower = graph.nodes.follower(node)
        graph.remove(node)
        if follower is None:
            graph.append(node)
        else:
            graph.insert_before(follower, node)


def replace(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None:
        graph.replace(node, visible(graph, node, data))


def rewire(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None:
        node.set_input(data.draw(st.integers(0, 3)), visible(graph, node, data))


def store(graph: Graph, data: Draw) -> None:
    value = graph.add_initializer(ArrayTensor(np.zeros(2, np.float32)))
    if data.draw(st.booleans()):
        graph.remove_initializer(value)


def add_input(graph: Graph, data: Draw) -> None:
    graph.inputs = (*graph.inputs, Value())
    if data.draw(st.booleans()):
        graph.inputs = graph.inputs[:-1]


def list_output(graph: Graph, data: Draw) -> None:
    value = visible(graph, None, data)
    if value.graph is graph and not value.is_output:
        graph.outputs = (*graph.outputs, value)
    elif data.draw(st.booleans()):
        graph.outputs = graph.outputs[1:]


def rename(graph: Graph, data: Draw) -> None:
    visible(graph, None, data).name = graph.fresh_name(data.draw(st.sampled_from("abc")))


def shuffle(graph: Graph, data: Draw) -> None:
    graph.move_before(None, *data.draw(st.permutations(list(graph.nodes))))
    sort(graph)
    assert is_sorted(graph)


def drop_branch(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None and node.graphs:
        node.remove_attribute("else_branch")


def add_output(graph: Graph, data: Draw) -> None:
    node = some_node(graph, data)
    if node is not None:
        node.outputs = (*node.outputs, Value())
        if data.draw(st.booleans()):
            node.outputs = node.outputs[:-1]


EDITS: list[Callable[[Graph, Draw], None]] = [
    *(insert, insert_after, insert_branch, remove, remove_and_put_back, replace, rewire, store),
    *(add_input, list_output, rename, shuffle, drop_branch, add_output),
]


@settings(max_examples=100)
@given(st.data())
def test_random_edits_leave_a_model_sound(data: Draw) -> None:
    whole = model(BRANCHES)
    for edit in data.draw(st.lists(st.sampled_from(EDITS), max_size=25)):
        with suppress(GraphError):  # refused, and then nothing has changed
            edit(some_graph(whole, data), data)
        verify(whole)
    written = to_message(whole)
    again = from_message(written)
    verify(again)
    assert to_message(again) == written
    assert to_message(whole.clone()) == written


@settings(max_examples=50)
@given(st.data())
def test_an_edit_that_is_refused_changes_nothing(data: Draw) -> None:
    whole = model(BRANCHES)
    for edit in (replace, remove, list_output, add_output):
        before = to_message(whole)
        try:
            edit(some_graph(whole, data), data)
        except GraphError:
            assert to_message(whole) == before
