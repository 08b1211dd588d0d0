"""Graphs for tests, from ONNX text."""

from __future__ import annotations

import onnx.parser

from fornix.format.messages import ModelProto, own
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.load import from_message

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'

# A chain with a shared value, an omitted input and a branch that captures from outside.
BRANCHES = """
main (float[N] x, bool c) => (float[N] y)
<float[1] w = {2.0}>
{
  a = Mul(x, w)
  b = Clip(a, , w)
  y = If(c) <
    then_branch = then () => (float[N] t) { t = Add(a, b) },
    else_branch = other () => (float[N] e) { k = Neg(a)  e = Sub(k, w) }
  >
}
"""


def message(text: str) -> ModelProto:
    return own(onnx.parser.parse_model(HEAD + text), ModelProto)


def model(text: str) -> Model:
    return from_message(message(text))


def node(graph: Graph, op_type: str) -> Node:
    """The first node with this operator."""
    return next(x for x in graph.nodes if x.op_type == op_type)


def value(graph: Graph, name: str) -> Value:
    """The value that ``graph`` itself defines by this name."""
    made = [x for item in graph.nodes for x in item.outputs]
    return next(x for x in (*graph.inputs, *graph.initializer_values, *made) if x.name == name)


def chain(length: int) -> Graph:
    """``length`` nodes Relu, one after the other."""
    source = Value("x")
    graph = Graph("chain", [source])
    for number in range(length):
        graph.append(Node("", "Relu", [source], [f"y{number}"], name=f"n{number}"))
        source = graph.nodes[-1].output
    graph.outputs = (source,)
    return graph


def names(nodes: object) -> list[str]:
    return [item.name for item in nodes]  # type: ignore[attr-defined]
