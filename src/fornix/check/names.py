"""Names of values: each defined once, ahead of its uses, and visible where it is read.

Unlike `fornix.ir.verify`, which stops at the first breach of an invariant, this goes on and tells
them all; where it finds nothing, `verify` has the last word.
"""

from __future__ import annotations

import difflib

from fornix.check.finding import Findings, place, way
from fornix.errors import FornixError, GraphError, LimitError
from fornix.format.limits import Limits
from fornix.ir import walk
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.verify import place_text, unseen, verify

# Suggestions compare a name with all others, so only the first undefined names get one.
_SUGGESTIONS = 20


def check_names(model: Model, findings: Findings, limits: Limits) -> None:
    """Note values that lack a name, share one, or are read where they are not visible."""
    found = Findings()
    for graph in walk.roots(model):
        Visit(found, limits).graph(graph, f"{way(graph)}{graph.label}")
    for finding in found.all:
        findings.error(finding.subject, finding.message)
    if not found.all:
        try:
            verify(model, limits=limits)
        except (GraphError, LimitError) as error:
            findings.error("model", error)


class Visit:
    """One walk through a graph and its subgraphs, with what is visible so far."""

    def __init__(self, findings: Findings, limits: Limits) -> None:
        self.findings = findings
        self.limits = limits
        self.visible: dict[Value, None] = {}
        self.names: dict[str, Value] = {}
        self.suggested = 0

    def graph(self, graph: Graph, label: str, depth: int = 0) -> None:
        """Visit the nodes of ``graph``; what it defines is forgotten at its end."""
        self.limits.check("nesting", depth, label)
        outside, names_outside = len(self.visible), dict(self.names)
        stored = (value for value in graph.initializer_values if not value.is_input)
        for value in (*graph.inputs, *stored):
            self.define(value, label)
        for node in graph.nodes:
            self.node(node, depth)
        for value in graph.outputs:
            if value not in self.visible:
                self.report(value, "output", None, label)
            elif depth and value.graph is not graph:
                self.findings.error(
                    label,
                    f"output '{value.name}' has to be computed inside, found it in "
                    f"{place_text(value)}; put an Identity between",
                )
        while len(self.visible) > outside:
            self.visible.popitem()
        self.names = names_outside

    def node(self, node: Node, depth: int) -> None:
        where = place(node)
        for index, read in enumerate(node.inputs):
            if read is not None and read not in self.visible:
                self.report(read, f"input {index}", node, where)
        for inner in node.graphs:
            self.graph(inner, f"{way(node.graph)}{inner.label}", depth + 1)
        for value in node.outputs:
            if not value.is_omitted:
                self.define(value, where)

    def define(self, value: Value, where: str) -> None:
        """Make ``value`` visible; note if its name is missing or taken."""
        if not value.name:
            self.findings.error(where, "a value needs a name, found one without")
        other = self.names.setdefault(value.name, value)
        if other is not value or value in self.visible:
            self.findings.error(
                where,
                f"'{value.name}' has to be the only value of that name, found another in "
                f"{place_text(other)}",
            )
        self.visible[value] = None

    def report(self, value: Value, role: str, reader: Node | None, where: str) -> None:
        """Note that ``reader`` reads ``value``, which is not visible there."""
        try:
            message = str(unseen(value, role, reader))
        except FornixError as error:  # a cycle, which says more
            message = str(error)
        if value.is_undefined and self.suggested < _SUGGESTIONS:
            self.suggested += 1
            same = (name for name in self.names if name.lower() == value.name.lower())
            close = [*same][:1] or difflib.get_close_matches(value.name, self.names, 1)
            message += f"; did you mean '{close[0]}'?" if close else ""
        self.findings.error(where, message)
