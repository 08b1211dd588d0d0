from __future__ import annotations

import numpy as np

from fornix.ir import walk
from fornix.ir.graph import Attribute, Function, Graph, Node, Value
from fornix.ir.tensor import ArrayTensor, SparseTensor
from tests.ir.graphs import BRANCHES, model, names, node, value


def with_function() -> tuple[Function, Node]:
    x = Value("fx")
    body = Graph("body", [x])
    made = Node("", "Constant", attributes={"value": np.ones(2)}, name="const")
    body.append(made, Node("", "Add", [x, made.output], name="add"))
    body.outputs = (body.nodes[1].output,)
    function = Function("d", "f", body, {"": 17})
    function.defaults["scale"] = Attribute.of("scale", np.zeros(3))
    return function, made


def test_graphs_come_ahead_of_their_subgraphs_and_functions_last() -> None:
    whole = model(BRANCHES)
    function, _ = with_function()
    whole.functions.append(function)
    assert names(walk.graphs(whole)) == ["main", "then", "other", "body"]
    assert names(walk.graphs(whole.graph)) == ["main", "then", "other"]
    assert names(walk.graphs(function)) == ["body"]


def test_nodes_come_ahead_of_those_in_their_subgraphs() -> None:
    whole = model(BRANCHES)
    found = [item.op_type for item in walk.nodes(whole)]
    assert found == ["Mul", "Clip", "If", "Add", "Neg", "Sub"]


def test_nodes_can_be_removed_on_the_way() -> None:
    whole = model(BRANCHES)
    whole.graph.outputs = ()
    for item in walk.nodes(whole):
        if item.op_type == "If" and item.graph is not None:
            item.graph.remove(item)
    assert [item.op_type for item in walk.nodes(whole)] == ["Mul", "Clip"]


def test_values_are_all_that_have_a_name() -> None:
    whole = model(BRANCHES)
    node(whole.graph, "Mul").set_outputs([value(whole.graph, "a"), ""])
    assert names(walk.values(whole)) == ["x", "c", "w", "a", "b", "y", "t", "k", "e"]


def test_tensors_are_found_wherever_they_are() -> None:
    whole = model(BRANCHES)
    function, made = with_function()
    whole.functions.append(function)
    values, indices = ArrayTensor(np.ones(1)), ArrayTensor(np.array([3]))
    branch = node(whole.graph, "If").attr("else_branch")
    stored = SparseTensor(values, indices, (5,))
    branch.append(Node("", "Op", attributes={"many": [np.ones(1), np.ones(2)], "s": stored}))
    many = branch.nodes[-1].attr("many")
    assert list(walk.tensors(whole)) == [
        whole.graph.initializers["w"].tensor,
        *many,
        values,
        indices,
        made.attr("value"),
        function.defaults["scale"].value,
    ]
    assert list(walk.tensors(function)) == [
        made.attr("value"),
        function.defaults["scale"].value,
    ]
    assert names(walk.attributes(function)) == ["value", "scale"]


def test_captured_values_come_from_outside_and_once() -> None:
    graph = model(BRANCHES).graph
    branch = node(graph, "If")
    then, other = branch.graphs
    assert names(walk.captured_values(branch)) == ["a", "b", "w"]
    assert names(walk.captured_values(then)) == ["a", "b"]
    assert names(walk.captured_values(other)) == ["a", "w"]
    assert not walk.captured_values(graph)
    then.outputs = (value(graph, "x"),)
    assert names(walk.captured_values(branch)) == ["a", "b", "x", "w"]


def test_nesting_does_not_exhaust_the_stack() -> None:
    graph = Graph("top")
    inner = graph
    for _ in range(500):
        holder = Node("", "If", attributes={"then_branch": Graph("g")})
        inner.append(holder)
        inner = holder.attr("then_branch")
    assert len(list(walk.graphs(graph))) == 501
    assert len(list(walk.nodes(graph))) == 500
