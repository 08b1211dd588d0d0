"""Where the nodes of a model went: which node they became part of, or which pass they fell to.

Watches an optimization pass by pass (`optimize_explained(…, watch=lineage)`) and compares graphs:
passes know nothing of it. It relies on one thing: a node that replaces another bears its name, so
`named` gives every node one of its own first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fornix.ir.graph import Model, Node
from fornix.ir.walk import nodes


@dataclass(frozen=True)
class Origin:
    """A node of the model as it was given."""

    name: str
    op_type: str


def named(model: Model) -> Model:
    """A copy of ``model`` in which no two nodes have the same name, and none has none."""
    copy = model.clone()
    seen: Counter[str] = Counter()
    for node in nodes(copy.graph):
        name = node.name or next((v.name for v in node.outputs if v.name), node.op_type)
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return copy


class Lineage:
    """What became of the nodes of a model: call it after each pass."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        """Nodes in their order, those in subgraphs included."""
        self.gone: dict[Origin, str] = {}
        """Nodes that are part of none any more, and the pass that made them so."""
        self._parts: dict[Node, frozenset[Origin]] = {}
        self._users: dict[Node, list[Node]] = {}

    def __call__(self, name: str, model: Model) -> None:
        """Note what pass ``name`` made of ``model``; the first call is of the model as given."""
        now = list(nodes(model.graph))
        if not self.origins:
            found = {node: Origin(node.name, node.op_type) for node in now}
            self.origins = list(found.values())
            self._parts = {node: frozenset({origin}) for node, origin in found.items()}
        else:
            self._follow(name, now)
        self._users = {n: [u for v in n.outputs for u in v.users] for n in now}

    def became(self) -> dict[Origin, list[str]]:
        """For each node that is part of others now, the names of these."""
        found: dict[Origin, dict[str, None]] = {}
        for node, parts in self._parts.items():
            for origin in parts:
                found.setdefault(origin, {})[node.name] = None
        return {origin: list(names) for origin, names in found.items()}

    def _follow(self, name: str, now: Iterable[Node]) -> None:
        """Hand what removed nodes were part of to those that stand in their place."""
        alive = dict.fromkeys(now)
        made: dict[str, list[Node]] = {}
        for node in alive:
            if node not in self._parts:
                made.setdefault(node.name, []).append(node)
        heirs: dict[Node, dict[Node, None]] = {}
        parts = {node: self._parts.get(node, frozenset()) for node in alive}
        for node in reversed(self._parts):
            if node in alive:
                continue
            found = dict.fromkeys(made.get(node.name, ()))
            if not found:
                found = {h: None for user in self._users[node] for h in heirs.get(user, ())}
            heirs[node] = found
            for heir in found:
                parts[heir] = parts[heir] | self._parts[node]
        left = frozenset().union(*parts.values()) if parts else frozenset()
        lost = frozenset().union(*self._parts.values()) - left if self._parts else left
        self.gone |= {origin: name for origin in self.origins if origin in lost}
        self._parts = parts
