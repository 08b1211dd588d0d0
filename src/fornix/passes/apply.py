"""Applying rules to a graph until none applies any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fornix.errors import LimitError
from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.passes.make import Maker
from fornix.passes.pattern import Rule

MAX_ROUNDS = 64
"""Rounds in which rules may enable each other; a set that needs more does not terminate."""


def apply_rules(root: Graph, rules: Iterable[Rule], inference: Inference) -> int:
    """Rewrite ``root`` and its subgraphs by ``rules``; returns how often one applied."""
    by_operator: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_operator[rule.pattern.op_type].append(rule)
    applied = 0
    for _ in range(MAX_ROUNDS):
        count = sum(
            _apply(node, graph, by_operator[node.op_type], inference)
            for graph in list(graphs(root))
            for node in graph.nodes
            if node.op_type in by_operator
        )
        if count == 0:
            return applied
        applied += count
    names = ", ".join(sorted({rule.name for group in by_operator.values() for rule in group}))
    raise LimitError(f"rules must come to an end, found {MAX_ROUNDS} rounds of {names}")


def _apply(node: Node, graph: Graph, rules: list[Rule], inference: Inference) -> bool:
    if len(node.outputs) > 1 and any(value.is_used for value in node.outputs[1:]):
        return False
    for rule in rules:
        result = rule.apply(node, Maker(node, graph, inference))
        if result is None:
            continue
        if node.op_type != "Identity" or result.can_replace(node.output):
            replace(graph, node, result, inference)
            return True
    return False


def replace(graph: Graph, node: Node, result: Value, inference: Inference) -> None:
    """Let ``result`` stand for the first output of ``node``, and remove the node."""
    old = node.outputs[0]
    if not result.can_replace(old):
        result = Maker(node, graph, inference).Identity(result)
    inference.facts.setdefault(result, inference.fact(old))
    graph.replace(node, result)
