from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix.ir.chain import NodeChain
from fornix.ir.graph import Node
from tests.ir.graphs import chain, names


def make(count: int) -> tuple[NodeChain, list[Node]]:
    nodes = [Node("", "Relu", name=f"n{number}") for number in range(count)]
    links = NodeChain()
    for node in nodes:
        links.insert(node, None)
    return links, nodes


def test_it_is_a_sequence() -> None:
    links, nodes = make(5)
    assert list(links) == nodes
    assert list(reversed(links)) == nodes[::-1]
    assert len(links) == 5
    assert [links[index] for index in range(-5, 5)] == nodes + nodes
    assert links[1:4:2] == nodes[1:4:2]
    assert nodes[2] in links
    assert Node("", "Relu") not in links
    assert links.index(nodes[3]) == 3
    assert repr(links) == repr(nodes)


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_says_how_many_there_are(index: int) -> None:
    links, _ = make(5)
    with pytest.raises(IndexError, match=f"the graph has 5 nodes, found index {index}"):
        _ = links[index]


def test_iteration_goes_on_behind_a_node_that_is_removed() -> None:
    links, nodes = make(4)
    seen = []
    for node in links:
        seen.append(node)
        links.unlink(node)
    assert seen == nodes
    assert not len(links)


def test_iteration_does_not_meet_what_is_removed_ahead() -> None:
    links, nodes = make(4)
    seen = []
    for node in links:
        seen.append(node)
        if node is nodes[0]:
            links.unlink(nodes[1])
            links.unlink(nodes[2])
    assert seen == [nodes[0], nodes[3]]


def test_iteration_meets_what_is_inserted_ahead_and_not_what_is_inserted_behind() -> None:
    links, nodes = make(2)
    early, late = Node("", "Relu"), Node("", "Relu")
    seen = []
    for node in links:
        seen.append(node)
        if node is nodes[0]:
            links.insert(early, nodes[0])
            links.insert(late, nodes[1])
    assert seen == [nodes[0], late, nodes[1]]
    assert list(links) == [early, nodes[0], late, nodes[1]]


def test_iteration_meets_the_replacement_that_is_put_into_the_gap() -> None:
    links, nodes = make(3)
    new = Node("", "Relu")
    seen = []
    for node in links:
        seen.append(node)
        if node is nodes[1]:
            links.unlink(node)
            links.insert(new, nodes[2])
    assert seen == [nodes[0], nodes[1], new, nodes[2]]


def test_iteration_finds_its_place_when_everything_before_it_goes_too() -> None:
    links, nodes = make(5)
    new = Node("", "Relu")
    seen = []
    for node in links:
        seen.append(node)
        if node is nodes[2]:
            for old in nodes[:4]:
                links.unlink(old)
            links.insert(new, nodes[4])
    assert seen == [*nodes[:3], new, nodes[4]]


def test_reverse_iteration_follows_the_same_rules() -> None:
    links, nodes = make(4)
    new = Node("", "Relu")
    seen = []
    for node in reversed(links):
        seen.append(node)
        if node is nodes[2]:
            links.unlink(nodes[2])
            links.unlink(nodes[1])
            links.insert(new, nodes[3])
    assert seen == [nodes[3], nodes[2], new, nodes[0]]


def test_a_node_that_moves_ahead_is_met_again() -> None:
    graph = chain(3)
    first = graph.nodes[0]
    seen = []
    for node in graph.nodes:
        seen.append(node)
        if len(seen) == 1:
            graph.move_before(None, node)
    assert names(seen) == ["n0", "n1", "n2", "n0"]
    assert seen[0] is seen[-1] is first


@given(st.lists(st.tuples(st.sampled_from("rib"), st.integers(0, 20)), max_size=30))
def test_no_order_of_changes_makes_an_iteration_meet_a_place_twice(
    changes: list[tuple[str, int]],
) -> None:
    links, nodes = make(6)
    removed: set[Node] = set()
    seen: list[Node] = []
    waiting = iter(changes)
    for node in links:
        assert node not in removed
        seen.append(node)
        for action, place in [change for change in [next(waiting, None)] if change]:
            current = list(links)
            if action == "r" and current:
                gone = current[place % len(current)]
                links.unlink(gone)
                removed.add(gone)
            elif len(nodes) < 30:
                anchor = current[place % len(current)] if current and action == "b" else None
                nodes.append(Node("", "Relu"))
                links.insert(nodes[-1], anchor)
    assert len(seen) == len(set(seen))
    assert [node for node in links if node in seen] == [node for node in seen if node in links]
