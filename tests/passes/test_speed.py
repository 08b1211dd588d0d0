"""Passes are linear: so many µs per node and pass, on long chains of what they rewrite."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.passes.pipeline import Step, optimize_explained

NODES = 4000
LIMIT = 60e-6
"""Seconds of processor time per node and pass in a model of which a quarter is rewritten …"""
REWRITE_LIMIT = 300e-6
"""… and where every node is: that makes a node, infers it and sweeps two."""
GROWTH = 2.5
"""How much longer each node may take in a chain of four times the length."""

Link = Callable[[Graph, Value, int], Node]


def stored(graph: Graph, array: object) -> Value:
    return graph.add_initializer(ArrayTensor(np.asarray(array)), graph.fresh_name("c"))


def rolled(graph: Graph, x: Value, index: int) -> Node:
    return Node("", "Transpose", [x], attributes={"perm": [1, 2, 0]})


def doubled(graph: Graph, x: Value, index: int) -> Node:
    factor = np.float32(2 if index % 2 else 0.5)
    return Node("", "Mul", [x, stored(graph, factor)])


def shifted(graph: Graph, x: Value, index: int) -> Node:
    return Node("", "Tanh" if index % 2 else "Add", [x] if index % 2 else [x, x])


def wrapped(graph: Graph, x: Value, index: int) -> Node:
    axis = stored(graph, np.array([0]))
    return Node("", "Squeeze" if index % 2 else "Unsqueeze", [x, axis])


def gated(graph: Graph, x: Value, index: int) -> Node:
    if index % 2 == 0 or x.producer is None:
        return Node("", "Sigmoid", [x])
    return Node("", "Mul", [x, x.producer.inputs[0]])


def kept(graph: Graph, x: Value, index: int) -> Node:
    return Node("", "Identity", [x])


def repeated(graph: Graph, x: Value, index: int) -> Node:
    return Node("", "Relu", [graph.inputs[0]]) if index % 2 else Node("", "Sin", [x])


def mixed(graph: Graph, x: Value, index: int) -> Node:
    """What most graphs are made of, and one in four that goes."""
    ordinary = ("Tanh", "Add", "Softmax", "Relu", "Mul", "Sqrt")
    if index % 4:
        kind = ordinary[index % len(ordinary)]
        return Node("", kind, [x, graph.inputs[0]] if kind in {"Add", "Mul"} else [x])
    return LINKS[index // 4 % len(LINKS)](graph, x, index)


LINKS = (rolled, doubled, shifted, wrapped, gated, kept, repeated)


def chain(link: Link, count: int) -> Model:
    graph = Graph("chain", [Value("x", TensorType(FLOAT32, (3, 3, 3)))])
    value = graph.inputs[0]
    for index in range(count):
        node = link(graph, value, index)
        graph.append(node)
        value = node.output
    end = Node("", "Relu", [value])
    graph.append(end)
    graph.outputs = [end.output]
    return Model(graph, {"": 24})


def slowest(link: Link, count: int) -> float:
    """Seconds per node of the slowest pass."""
    start, before = time.process_time(), time.perf_counter()
    steps: list[Step] = optimize_explained(chain(link, count))[1]
    share = (time.process_time() - start) / (time.perf_counter() - before)  # of the processor
    return share * max(step.seconds for step in steps) / count


@pytest.mark.slow
@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.__name__)
def test_a_pass_that_rewrites_every_node_takes_microseconds(link: Link) -> None:
    assert min(slowest(link, NODES) for _ in range(3)) <= REWRITE_LIMIT


@pytest.mark.slow
def test_a_pass_takes_microseconds_per_node() -> None:
    assert min(slowest(mixed, NODES) for _ in range(3)) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.__name__)
def test_a_pass_is_linear(link: Link) -> None:
    one, four = (min(slowest(link, n) for _ in range(3)) for n in (1000, 4000))
    assert four <= GROWTH * max(one, LIMIT / 4)
