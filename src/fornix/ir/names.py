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

    def fresh(self, prefix: str, also: NameGiver | None = None) -> str:
        """``prefix`` if nothing is called so, else ``prefix_1``, ``prefix_2``, …; not yet taken.

        Nothing in ``also`` is called so either.
        """
        name = found = prefix or "value"
        number = self._next.get(name, 1)
        while found in self._taken or (also is not None and found in also):
            found = f"{name}_{number}"
            number += 1
        self._next[name] = number
        return found
