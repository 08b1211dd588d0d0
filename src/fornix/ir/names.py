"""Names that are not taken: one giver per model graph or function, subgraphs included."""

from __future__ import annotations

from collections import Counter


class NameGiver:
    """Counts the names in use, of values and nodes alike, and makes new ones."""

    __slots__ = ("_next", "_taken")

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._next: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Note one more thing called ``name``; the empty name is none."""
        if name:
            self._taken[name] += 1

    def discard(self, name: str) -> None:
        """Note one thing less called ``name``."""
        if self._taken[name] > 1:
            self._taken[name] -= 1
        else:
            del self._taken[name]

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def fresh(self, prefix: str) -> str:
        """``prefix`` if nothing is called so, else ``prefix_1``, ``prefix_2``, …; not yet taken."""
        name = prefix or "value"
        if name not in self._taken:
            return name
        number = self._next.get(prefix, 1)
        while f"{name}_{number}" in self._taken:
            number += 1
        self._next[prefix] = number + 1
        return f"{name}_{number}"
