"""Values that do not live at once in one block of memory.

Decides where each of them lies, and which parts of larger values lie where these have them, so that
nobody has to copy them there.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from fornix.runtime.memory import ALIGNMENT

MOST_SPANS, LEAST_MOMENTS = 64, 16
"""Into which the moments of a run are cut; that each of these has."""
NEAR = 2
"""How many times fewer rows those of some spans are, to be put in order."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A value in the block: its size in bytes, and the steps from ``first`` to ``last``."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Join:
    """A value that is others one behind the other, all by number."""

    whole: int
    parts: tuple[int, ...]


class Placing:
    """Lifetimes, and places of some of them beside each other."""

    def __init__(self, lifetimes: Iterable[Lifetime]) -> None:
        self.lifetimes = list(lifetimes)
        """Of parts, as long as anything lives that they are part of."""
        self._beside: dict[int, dict[int, int]] = {}
        """Of what has places beside others, where all of these begin."""
        self._pieces: dict[int, list[int]] = {}
        """What values consist of that have no memory but that of their parts."""

    def join(self, join: Join) -> bool:
        """Let the parts of ``join`` lie in their whole; whether they can.

        Of joins of which one has the whole of another as its part, that comes first.
        """
        beside = self._joined(join)
        if beside is None or join.whole in self._beside:
            return False
        pieces = [piece for part in join.parts for piece in self._pieces.get(part, [part])]
        last = self.lifetimes[join.whole].last
        longer = {
            p: replace(self.lifetimes[p], last=max(self.lifetimes[p].last, last)) for p in pieces
        }
        alone = [i for i in beside if i not in self._pieces and i != join.whole]
        if _collide((beside[i], longer.get(i, self.lifetimes[i])) for i in alone):
            return False
        self._pieces[join.whole] = pieces
        for piece, lifetime in longer.items():
            self.lifetimes[piece] = lifetime
        self._beside.update(dict.fromkeys(beside, beside))
        return True

    def _joined(self, join: Join) -> dict[int, int] | None:
        """Where all begin that lie beside what ``join`` names; None if one would lie twice."""
        found, end = {join.whole: 0}, 0
        for part in join.parts:
            size = self.lifetimes[part].size
            if part in found or size % ALIGNMENT:
                return None
            found[part] = end
            end += size
        if end != self.lifetimes[join.whole].size:
            return None
        groups: dict[tuple[int, int], dict[int, int]] = {}
        for part in join.parts:
            own = self._beside.get(part, {part: 0})
            groups[id(own), found[part] - own[part]] = own
        for (_, shift), own in groups.items():
            for other, start in own.items():
                if found.setdefault(other, start + shift) != start + shift:
                    return None
        return found

    def places(self) -> tuple[list[int], int]:
        """Offsets in one block, what is large first, and its size."""
        offsets = [0] * len(self.lifetimes)
        placed = _Placed(1 + max((own.last for own in self.lifetimes), default=0))
        for starts in sorted(self._rigid(), key=lambda own: -self._extent(own)):
            rows = [(start, self.lifetimes[i]) for i, start in starts if i not in self._pieces]
            base = _lowest(rows, placed)
            for start, lifetime in rows:
                placed.add(base + start, lifetime)
            for i, start in starts:
                offsets[i] = base + start
        return offsets, max((end for _, end, _, _ in placed.rows), default=0)

    def _rigid(self) -> Iterator[list[tuple[int, int]]]:
        """What is placed together, and where each begins, the first at 0."""
        seen: set[int] = set()
        for index in range(len(self.lifetimes)):
            beside = self._beside.get(index, {index: 0})
            if index not in seen:
                seen.update(beside)
                least = min(beside.values())
                yield [(i, start - least) for i, start in beside.items()]

    def _extent(self, starts: Sequence[tuple[int, int]]) -> int:
        return max(start + self.lifetimes[i].size for i, start in starts)


def _collide(rows: Iterable[tuple[int, Lifetime]]) -> bool:
    """Whether two that begin where ``rows`` say lie in the same place at the same time."""
    ordered = sorted((start, start + own.size, own.first, own.last) for start, own in rows)
    for number, (_, end, first, last) in enumerate(ordered, 1):
        for begin, _, born, gone in islice(ordered, number, None):
            if begin >= end:
                break
            if born <= last and first <= gone:
                return True
    return False


class _Placed:
    """What has places, in the order of these, as rows: begin and end, first and last moment.

    Most values live shortly: what may be in their way is looked for in their span of moments.
    """

    def __init__(self, moments: int) -> None:
        self.rows: list[tuple[int, int, int, int]] = []
        self._length = max(-(-moments // MOST_SPANS), LEAST_MOMENTS)
        self._spans: list[list[tuple[int, int, int, int]]] = [
            [] for _ in range(0, moments, self._length)
        ]

    def add(self, begin: int, own: Lifetime) -> None:
        """Let ``own`` lie from ``begin`` on."""
        row = begin, begin + _in_lines(own.size), own.first, own.last
        for rows in (self.rows, *self._of(own)):
            bisect.insort(rows, row)

    def near(self, own: Lifetime) -> Sequence[tuple[int, int, int, int]]:
        """All rows that live at a moment of ``own``, and others."""
        found = self._of(own)
        return sorted(chain(*found)) if NEAR * sum(map(len, found)) < len(self.rows) else self.rows

    def _of(self, own: Lifetime) -> list[list[tuple[int, int, int, int]]]:
        return self._spans[own.first // self._length : own.last // self._length + 1]


def _lowest(rows: Sequence[tuple[int, Lifetime]], placed: _Placed) -> int:
    """The least address from which on ``rows`` meet nothing that is ``placed``."""
    base, before = 0, -1
    while base != before:
        before = base
        for start, lifetime in rows:
            base = _past(base + start, lifetime, placed) - start
    return base


def _past(start: int, own: Lifetime, placed: _Placed) -> int:
    """The least address, ``start`` or behind it, that is free for ``own``."""
    size = _in_lines(own.size)
    for begin, end, born, gone in placed.near(own):
        if begin >= start + size:
            break
        if start < end and born <= own.last and own.first <= gone:
            start = end
    return start


def _in_lines(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
