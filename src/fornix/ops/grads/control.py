"""Derivative of If: an If whose branches give the gradients of what the branches read.

Each branch computes again what its own results depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.ir.graph import Graph, Node, Value
from fornix.ops.control import If
from fornix.ops.grads.node import GradNode
from fornix.ops.grads.reverse import differentiate
from fornix.ops.grads.scan import learn
from fornix.ops.grads.term import Make, Term


@If.grad
def grad_if(cond: Term, *, then_branch: Graph, else_branch: Graph, node: GradNode) -> None:
    branches = [_branch(graph, node) for graph in (then_branch, else_branch)]
    names = ("then_branch", "else_branch")
    made = Node(
        "",
        "If",
        [cond.value],
        len(node.captured),
        dict(zip(names, branches, strict=True)),
        name=node.make.label,
    )
    node.make.insert(made)
    for value, gradient in zip(node.captured, made.outputs, strict=True):
        node.of_captured[value] = node.make.term(gradient)


def _branch(graph: Graph, node: GradNode) -> Graph:
    """A branch that gives the gradients of all captured values, zeros where it reads none."""
    branch = graph.clone()
    make = Make(branch, None, node.make.knowledge, node.make.label)
    learn(branch, make)
    seeds: dict[Value, Term] = {}
    for value, gradient in zip(branch.outputs, node.gradients, strict=True):
        if gradient is not None:
            seed = make.term(gradient.value)
            seeds[value] = seeds[value] + seed if value in seeds else seed
    found = differentiate(seeds, node.captured, make)
    branch.outputs = [x.value for x in _results(found, node, make)]
    return branch


def _results(found: Sequence[Term | None], node: GradNode, make: Make) -> list[Term]:
    return [
        make.Identity(make.zeros(make.term(value)) if gradient is None else gradient)
        for value, gradient in zip(node.captured, found, strict=True)
    ]
