"""Names while a graph is read: which value a name means at a place.

A name means the nearest definition ahead of it, in its own graph or in those around it. What is
not defined yet is given a value that stands in for it, so that graphs in any order, and names that
nothing defines, can be read: once the graph is complete, a later definition takes its place, in
that graph or in one around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fornix.ir.graph import Graph, Value


class Scope:
    """The names that a graph defines so far, inside those of the graph around it."""

    __slots__ = ("around", "graph", "missing", "names")

    def __init__(self, graph: Graph, around: Scope | None = None) -> None:
        self.graph = graph
        self.around = around
        self.names: dict[str, Value] = {}
        self.missing: dict[str, Value] = {}

    def define(self, value: Value) -> None:
        """From here on its name means ``value``."""
        self.names[value.name] = value

    def find(self, name: str) -> Value:
        """What ``name`` means here."""
        found = self.names.get(name)
        if found is None and self.around is not None:
            found = self._find_around(name)
        if found is None:
            found = self.missing.get(name)
        if found is None:
            found = self.missing[name] = self.graph.add_undefined(name)
        return found

    def _find_around(self, name: str) -> Value | None:
        scope = self.around
        while scope is not None:
            found = scope.names.get(name)
            if found is not None:
                return found
            scope = scope.around
        return None

    def close(self) -> None:
        """Give what is missing to definitions that came later, or to the graph around."""
        found: dict[Value, Value] = {}
        for name, stand_in in self.missing.items():
            later = self.names.get(name)
            if later is None and self.around is not None:
                later = self.around.missing.setdefault(name, stand_in)
                if later is stand_in:
                    stand_in.note_owner(self.around.graph)
            if later is not None and later is not stand_in:
                found[stand_in] = later
        substitute(found)


def substitute(values: dict[Value, Value]) -> None:
    """Let the values of the dict be read and listed wherever its keys are."""
    for graph in {graph: None for old in values for graph in old.output_of}:
        graph.outputs = tuple(values.get(x, x) for x in graph.outputs)
        graph.alternates = {values.get(x, x): raw for x, raw in graph.alternates.items()}
    for old, new in values.items():
        old.replace_all_uses_with(new, outputs=False)
