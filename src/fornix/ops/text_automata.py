r"""Regular expressions as tables of moves: for compiled code that looks for words.

Reads what RE2 and Python mean alike and a table can do: characters, classes, groups, alternatives
and repetitions, greedy or not. Anchors, references, flags and characters beyond ASCII are left to
the kernels, and so is what would take a table of many states.

A match begins as early as it can, and of those the longest counts, as in onnxruntime, where Python
takes what is named first. A state is a set of places in the expression: K. Thompson, Regular
Expression Search Algorithm, 1968.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from fornix.ops.text_classes import ASCII, ATOM, WordClass, entries_of

WIDTH = ASCII + 1
"""Moves of a state: for each ASCII character, and one for all others."""
MOST_STATES, MOST_PLACES, MOST_VISITS = 256, 1000, 100_000
"""Of a table, of an expression, and of places while a table is made: a tenth of a second."""
_ATOM = re.compile(ATOM)
_REPEATED = re.compile(r"(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??(?![*+?{])")


Finder: TypeAlias = Callable[[str], Iterable[tuple[int, int]]]
"""Where the matches in a text begin and end."""


class Automaton(NamedTuple):
    """A table of moves."""

    moves: np.ndarray[tuple[int], np.dtype[np.int32]]
    """Where the moves of the next state begin, by where those of a state begin plus a character.

    The state 0 leads nowhere else.
    """
    start: int
    final: int
    """Where the moves of the states begin at which a match may end."""
    is_empty: bool
    """Whether no character at all is a match."""


@dataclass(frozen=True)
class _Set:
    """One character of a class."""

    entries: bytes


@dataclass(frozen=True)
class _Row:
    """One part behind the other."""

    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Choice:
    """One of several."""

    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Repeat:
    """A part so many times; ``most`` is None where nothing ends it."""

    part: _Part
    least: int
    most: int | None


_Part: TypeAlias = _Set | _Row | _Choice | _Repeat


class _Left(Exception):
    """The expression is one for the kernel."""


def finding(expression: str) -> Automaton | None:
    """What finds the matches of ``expression``, none of them empty; None if kernels have to."""
    made = _made(expression)
    return None if made is None or made.is_empty else made


def finder(expression: str) -> Finder | None:
    """What tells where the matches of ``expression`` lie in a text, as compiled code does."""
    made = finding(expression)
    return None if made is None else partial(_spans, made.moves.tolist(), made.start, made.final)


def _spans(moves: list[int], start: int, final: int, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(text):
        state, here, end = start, at, at
        while here < len(text) and state:
            state = moves[state + min(ord(text[here]), ASCII)]
            here += 1
            if state >= final:
                end = here
        if end > at:
            yield at, end
        at = max(end, at + 1)


def matching(expression: str) -> Automaton | None:
    """What tells whether ``expression`` matches the whole of a text; None if kernels have to."""
    inner = expression.removeprefix("^")
    if inner.endswith("$") and not inner.endswith("\\$"):
        inner = inner[:-1]
    # of alternatives, an anchor belongs to the outer ones alone
    return None if inner != expression and "|" in inner else _made(inner)


def running(words: WordClass) -> Automaton:
    """What finds the runs of characters of a class, or each of them."""
    one = _Set(words.entries)
    return _table(one if words.is_single else _Repeat(one, 1, None))


def _made(expression: str) -> Automaton | None:
    try:
        part = _Reader(expression).read()
        re.compile(expression, re.ASCII)  # what is no expression, the kernel tells
        return _table(part)
    except (_Left, re.error, RecursionError):
        return None


# ── reading


class _Reader:
    """An expression as far as it is read."""

    def __init__(self, text: str) -> None:
        if not text.isascii():
            raise _Left
        self.text, self.at = text, 0

    def read(self) -> _Part:
        """The whole expression."""
        found = self._choice()
        if self.at < len(self.text):
            raise _Left
        return found

    def _choice(self) -> _Part:
        parts = [self._row()]
        while self.text.startswith("|", self.at):
            self.at += 1
            parts.append(self._row())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _row(self) -> _Part:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self._repeated(self._one()))
        return parts[0] if len(parts) == 1 else _Row(tuple(parts))

    def _one(self) -> _Part:
        if self.text.startswith("(", self.at):
            self.at += 3 if self.text.startswith("(?:", self.at) else 1
            if self.text.startswith("?", self.at):
                raise _Left
            inner = self._choice()
            self.at += 1  # the bracket, without which it would be no expression
            return inner
        atom = _ATOM.match(self.text, self.at)
        entries = None if atom is None else entries_of(atom[0])
        if atom is None or entries is None:
            raise _Left
        self.at = atom.end()
        return _Set(entries)

    def _repeated(self, part: _Part) -> _Part:
        found = _REPEATED.match(self.text, self.at)
        if found is None and self.text[self.at : self.at + 1] in {"*", "+", "?", "{"}:
            raise _Left
        if found is None:
            return part
        self.at = found.end()
        sign, least, comma, most = found.groups()
        low = int(least) if least else int(sign == "+")
        high = int(most) if most else None if comma or sign in {"*", "+"} else 1 if sign else low
        if max(low, high or 0) > MOST_PLACES:
            raise _Left
        return _Repeat(part, low, high)


# ── places


@dataclass
class _Places:
    """Places in an expression: at each a character is read, or it goes on at others."""

    sets: list[bytes | None] = field(default_factory=lambda: [None])
    following: list[list[int]] = field(default_factory=lambda: [[]])
    """Where it goes on. Place 0 is the end."""
    visits: int = 0

    def add(self, entries: bytes | None, following: list[int]) -> int:
        """A new place."""
        if len(self.sets) >= MOST_PLACES:
            raise _Left
        self.sets.append(entries)
        self.following.append(following)
        return len(self.sets) - 1

    def ahead(self, part: _Part, behind: int) -> int:
        """The place where ``part`` begins if ``behind`` follows."""
        match part:
            case _Set():
                return self.add(part.entries, [behind])
            case _Row():
                for one in reversed(part.parts):
                    behind = self.ahead(one, behind)
                return behind
            case _Choice():
                return self.add(None, [self.ahead(one, behind) for one in part.parts])
            case _Repeat():
                return self._repeated(part, behind)

    def _repeated(self, part: _Repeat, behind: int) -> int:
        end = behind
        if part.most is None:
            behind = self.add(None, [])
            again = self.ahead(part.part, behind)
            self.following[behind] = [again, end]
        for _ in range((part.most or part.least) - part.least):
            behind = self.add(None, [self.ahead(part.part, behind), end])
        for _ in range(part.least):
            end, behind = behind, self.ahead(part.part, behind)
            if behind == end:  # nothing, however often
                break
        return behind

    def reached(self, starts: Iterable[int]) -> tuple[int, ...]:
        """The places of characters, and the end, that come next."""
        seen: set[int] = set()
        waiting = list(starts)
        while waiting:
            place = waiting.pop()
            if place not in seen:
                seen.add(place)
                waiting += self.following[place] if self.sets[place] is None else ()
        self.visits += len(seen)
        if self.visits > MOST_VISITS:
            raise _Left
        return tuple(sorted(p for p in seen if not p or self.sets[p] is not None))


# ── states


def _table(part: _Part) -> Automaton:
    """The table of an expression."""
    places = _Places()
    first = places.reached([places.ahead(part, 0)])
    groups = _groups([entries for entries in places.sets if entries is not None])
    states: list[tuple[int, ...]] = [(), first]
    numbers, rows = {(): 0, first: 1}, []
    for state in states:
        row = []
        for character in groups.values():
            after = [
                places.following[place][0]
                for place in state
                if (entries := places.sets[place]) is not None and entries[character]
            ]
            reached = places.reached(after)
            row.append(numbers.setdefault(reached, len(numbers)))
        states += list(numbers)[len(states) :]
        if len(states) > MOST_STATES:
            raise _Left
        rows.append(row)
    return _laid_out(states, rows, list(groups))


def _groups(sets: Sequence[bytes]) -> dict[tuple[int, ...], int]:
    """Characters that all ``sets`` treat alike: those, and the first of them."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for character in range(WIDTH):
        alike.setdefault(tuple(entries[character] for entries in sets), []).append(character)
    return {tuple(characters): characters[0] for characters in alike.values()}


def _laid_out(
    states: Sequence[tuple[int, ...]],
    rows: Sequence[Sequence[int]],
    groups: Sequence[tuple[int, ...]],
) -> Automaton:
    """The table, with the states at which a match may end behind all others."""
    order = sorted(range(len(states)), key=lambda n: 0 in states[n])
    begins = np.empty(len(states), np.int32)
    begins[order] = np.arange(len(states), dtype=np.int32) * WIDTH
    moves = np.zeros((len(states), WIDTH), np.int32)
    for state, row in enumerate(rows):
        for characters, following in zip(groups, row, strict=True):
            moves[begins[state] // WIDTH, list(characters)] = begins[following]
    count = sum(0 in state for state in states)
    final = (len(states) - count) * WIDTH
    return Automaton(moves.reshape(-1), int(begins[1]), final, 0 in states[1])
