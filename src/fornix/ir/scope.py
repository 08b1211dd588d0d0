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
        for name, stand_in in self.missing.items():
            later = self.names.get(name)
            if later is None and self.around is not None:
                later = self.around.missing.get(name)
                if later is None:
                    stand_in.note_owner(self.around.graph)
                    self.around.missing[name] = stand_in
                    continue
            if later is not None:
                substitute(stand_in, later)


def substitute(stand_in: Value, value: Value) -> None:
    """Let ``value`` be read and listed wherever ``stand_in`` is."""
    for graph in stand_in.output_of:
        graph.outputs = tuple(value if x is stand_in else x for x in graph.outputs)
        if stand_in in graph.alternates:
            graph.alternates[value] = graph.alternates.pop(stand_in)
    stand_in.replace_all_uses_with(value, outputs=False)
