"""Applying rules to a graph until none applies any more.

Where a rule applies, what nobody reads any longer goes at once, so that guards which count uses see
the graph as it will be. Rules rely on what the standard promises; where a model does not keep it,
a rule that trips leaves the node as it is, for its kernel to refuse by name.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from fornix.errors import FornixError, LimitError
from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import captured_values, graphs
from fornix.ops.call import REFUSALS
from fornix.ops.fact import UnknownRank
from fornix.passes.make import Maker
from fornix.passes.pattern import Rule

log = logging.getLogger(__name__)

Result = TypeVar("Result")

Changes = Counter[str]
"""How often a pass did what; the keys are names of rules, or say what was done."""

MAX_ROUNDS = 64
"""Rounds in which rules may enable each other; a set that needs more does not terminate."""


def apply_rules(root: Graph, rules: Iterable[Rule], inference: Inference) -> Changes:
    """Rewrite ``root`` and its subgraphs by ``rules``; returns how often each applied."""
    table = _by_operator(rules, inference)
    applied: Changes = Counter()
    for _ in range(MAX_ROUNDS):
        found = [name for graph in list(graphs(root)) for name in _round(graph, table, inference)]
        if not found:
            return applied
        applied.update(found)
    names = ", ".join(sorted({rule.name for group in table.values() for rule in group}))
    raise LimitError(f"rules must come to an end, found {MAX_ROUNDS} rounds of {names}")


def _round(graph: Graph, table: Mapping[str, list[Rule]], inference: Inference) -> Iterator[str]:
    """Try the rules at each node once; yields the names of those that applied."""
    for node in graph.nodes:
        rules = table.get(node.op_type)
        if rules is not None:
            yield from _apply(node, graph, rules, inference)


def _by_operator(rules: Iterable[Rule], inference: Inference) -> Mapping[str, list[Rule]]:
    """The rules by the operator they begin at; none where a model redefines the standard's."""
    table: dict[str, list[Rule]] = defaultdict(list)
    if all(domain for domain, _, _ in inference.functions):
        for rule in rules:
            table[rule.pattern.op_type].append(rule)
    return dict(table)


def _apply(node: Node, graph: Graph, rules: list[Rule], inference: Inference) -> list[str]:
    """The name of the rule that applied to ``node``, if one did.

    One that cannot run stays, to say so.
    """
    if node in inference.broken:
        return []
    if len(node.outputs) > 1 and any(value.is_used for value in node.outputs[1:]):
        return []
    for rule in rules:
        result = attempt(rule.name, rule.apply, node, Maker(node, graph, inference))
        if result is None:
            continue
        if node.op_type != "Identity" or result.can_replace(node.output):
            replace(node, [result], inference)
            return [rule.name]
    return []


def attempt(
    name: str, change: Callable[[Node, Maker], Result | None], node: Node, make: Maker
) -> Result | None:
    """What ``change`` makes of ``node``; None where the node is not as ``change`` relies on."""
    try:
        return change(node, make)
    except UnknownRank:
        return None
    except (FornixError, *REFUSALS) as error:
        log.debug("%s leaves %s: %s: %s", name, node.label, type(error).__name__, error)
        return None


def replace(node: Node, results: Sequence[Value], inference: Inference) -> None:
    """Let ``results`` stand for the outputs of ``node``; it goes, and all that only it read."""
    graph = node.graph
    if graph is None:
        return
    standing = []
    for old, new in zip(node.outputs, results, strict=False):
        if old.is_output and (new in standing or not new.can_replace(old)):
            new = Maker(node, graph, inference).Identity(new)
        if old.is_output:
            new.type, new.doc_string = old.declared_type, old.doc_string  # what the graph promises
        inference.facts.setdefault(new, inference.fact(old))
        standing.append(new)
    read = read_by(node)
    graph.replace(node, *standing)
    sweep(read)


def read_by(node: Node) -> list[Value]:
    """What ``node`` and its subgraphs read from outside."""
    inputs = [value for value in node.inputs if value is not None]
    return [*inputs, *captured_values(node)] if node.graphs else inputs


def sweep(values: Iterable[Value]) -> int:
    """Remove the producers of ``values`` that nobody reads, and what only they read.

    Stored values go likewise, unless they are inputs. Returns the number of nodes removed.
    """
    waiting = list(values)
    removed = 0
    while waiting:
        value = waiting.pop()
        graph, node = value.graph, value.producer
        if graph is None or value.is_used:
            continue
        if node is None:
            if value.is_initializer and not value.is_input:
                graph.remove_initializer(value)
        elif not any(output.is_used for output in node.outputs):
            waiting += read_by(node)
            graph.remove(node)
            removed += 1
    return removed
