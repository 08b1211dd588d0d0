from __future__ import annotations

import pytest

from fornix.errors import GraphError
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.order import is_sorted, sort, sorted_nodes
from fornix.ir.verify import verify
from tests.ir.graphs import BRANCHES, chain, model, names, node


def test_a_graph_in_order_stays_as_it_is() -> None:
    graph = model(BRANCHES).graph
    before = list(graph.nodes)
    assert is_sorted(graph)
    assert sorted_nodes(graph) == before
    sort(graph)
    assert list(graph.nodes) == before


def test_only_what_must_move_moves() -> None:
    graph = chain(5)
    graph.move_before(None, graph.nodes[1])
    assert not is_sorted(graph)
    sort(graph)
    assert names(graph.nodes) == ["n0", "n1", "n2", "n3", "n4"]
    verify(graph)


def test_what_subgraphs_capture_comes_first() -> None:
    graph = model(BRANCHES).graph
    graph.move_before(graph.nodes[0], node(graph, "If"))
    assert not is_sorted(graph)
    sort(graph)
    assert [item.op_type for item in graph.nodes] == ["Mul", "Clip", "If"]
    verify(graph)


def test_long_chains_are_sorted_without_recursion() -> None:
    graph = chain(5000)
    graph.move_before(None, *reversed(list(graph.nodes)))
    sort(graph)
    assert names(graph.nodes)[:3] == ["n0", "n1", "n2"]
    assert is_sorted(graph)


def test_a_cycle_names_its_nodes() -> None:
    graph = chain(3)
    graph.nodes[0].set_input(0, graph.nodes[2].output)
    message = (
        r"node 'n0' \(Relu\): a node cannot need its own result, found the cycle "
        r"node 'n0' \(Relu\) ← node 'n2' \(Relu\) ← node 'n1' \(Relu\) ← node 'n0' \(Relu\)"
    )
    with pytest.raises(GraphError, match=message):
        sort(graph)
    assert names(graph.nodes) == ["n0", "n1", "n2"]


def test_a_long_cycle_is_shortened() -> None:
    graph = chain(20)
    graph.nodes[0].set_input(0, graph.nodes[19].output)
    with pytest.raises(GraphError, match=r"node 'n13' \(Relu\) ← 12 more ← node 'n0'"):
        sort(graph)


def test_values_of_other_graphs_need_no_order() -> None:
    x = Value("x")
    graph = Graph("g", [x])
    graph.append(Node("", "Add", [x, Node("", "Neg", [x]).output]))
    assert is_sorted(graph)
    assert len(sorted_nodes(graph)) == 1
