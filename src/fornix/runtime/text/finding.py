"""What machine code does that looks through texts: words, matches, hashes, numbers as texts.

Makes the tables for nodes of these operators from their attributes. Where a table says no more than
that something is left, all of the array is left to the kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from fornix.compile.text import finding
from fornix.compile.text import routines as words
from fornix.ir.graph import Node
from fornix.ops.microsoft.text import END, START
from fornix.ops.text_automata import Automaton, matching, running
from fornix.ops.text_automata import finding as finds
from fornix.ops.text_classes import ASCII, WordClass, word_class
from fornix.runtime.links import ArrayType, Link, LinkedWay
from fornix.runtime.providers import OwnWay, Run, TextCode, Way
from fornix.runtime.text.tables import ROOM, TextTable, attributes_of

WORD = 2**32 - 1
_NO_SPACE = WordClass(bytes([*(not chr(code).isspace() for code in range(ASCII)), 1]), False, 1)
"""What lies between white space, to which characters beyond ASCII are told to belong or not."""


def found_way(node: Node, code: TextCode) -> Way | None:
    """What does the work of ``node``; None if its kernel has to."""
    given = attributes_of(node)
    match node.op_type:
        case "RegexFullMatch":
            automaton = matching(given.get("pattern", ""))
            return None if automaton is None else Mapped(
                _looking(finding.MATCH, automaton, code), np.dtype(np.bool_)
            )  # fmt: skip
        case "MurmurHash3":
            return _hashing(given, code)
        case "StringSplit":
            return _splitting(given, code)
        case "Tokenizer":
            return _tokenizing(given, code)
        case _:
            return None


def found_table(task: int, code: TextCode) -> TextTable:
    """A table that has room for a text, and remembers others."""
    table = TextTable(task, code)
    table.words[words.ROOM] = ROOM
    narrow = np.zeros(ROOM + 16, np.uint8)
    table.kept.append(narrow)
    table.words[words.NARROW] = narrow.ctypes.data + 8  # eight bytes ahead of a text are read
    table.put(finding.MEMO, np.full((finding.REMEMBERS, 3), -1, np.int64))
    table.put(finding.REMEMBERED, np.full(finding.REMEMBERS, None, object))
    letters = list(map(chr, range(ASCII)))
    table.kept.append(letters)
    table.put(finding.LETTERS, np.array(list(map(id, letters)), np.int64))
    _point(table, {finding.EMPTY: ""})
    table.words[finding.MOST] = -1
    return table


def _point(table: TextTable, texts: Mapping[int, str]) -> None:
    """Let words be texts."""
    for word, text in texts.items():
        table.kept.append(text)
        table.words[word] = id(text)


def _looking(task: int, automaton: Automaton, code: TextCode) -> TextTable:
    table = found_table(task, code)
    table.put(finding.MOVES, automaton.moves)
    table.words[finding.START] = automaton.start
    table.words[finding.FINAL] = automaton.final
    return table


class Mapped(LinkedWay):
    """Each text to a number."""

    def __init__(self, table: TextTable, dtype: np.dtype[Any]) -> None:
        self.table, self.dtype, self.call = table, dtype, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        found = self.call([texts, np.empty(texts.shape, self.dtype)])
        return None if found is None else [found]

    def link(self, read: ArrayType | None) -> Link | None:
        if read is None or not read[1].hasobject:
            return None
        return self.table.link(math.prod(read[0]), (read[0], self.dtype))


def _hashing(given: Mapping[str, Any], code: TextCode) -> Way:
    table = found_table(finding.HASH, code)
    table.words[finding.SEED] = given.get("seed", 0) & WORD
    size = np.zeros(1, np.int64)
    table.put(finding.SIZE_AT, size)
    return Mapped(table, np.dtype(np.uint32 if given.get("positive", 1) else np.int32))


class _Words(OwnWay):
    """Each text to a row of its words, behind them what fills it."""

    ranks: Container[int] = range(64)
    """How many axes texts may have."""

    def __init__(self, table: TextTable, *, has_marks: bool, gives_counts: bool) -> None:
        self.table, self.call = table, table.call()
        self.has_marks, self.gives_counts = has_marks, gives_counts
        self.room = 64

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        if texts.ndim not in self.ranks:
            return None
        counts, spans = np.empty(texts.shape, np.int64), np.empty((self.room, 2), np.int64)
        if self.call([texts, counts, spans]) is None:
            return None
        while spans[0, 0] >= len(spans):  # not once: somebody may put other texts there meanwhile
            spans = np.empty((int(spans[0, 0]) + 1, 2), np.int64)
            if self.call([texts, counts, spans]) is None:
                return None
        self.room = len(spans)
        width = counts.item() if counts.size == 1 else int(counts.max(initial=0))
        if self.has_marks and width:
            width += 2
        found = np.empty((*texts.shape, width), object)
        if found.size and self.call([texts, counts, spans, found]) is None:
            return None
        return [found, counts] if self.gives_counts else [found]


def _splitting(given: Mapping[str, Any], code: TextCode) -> Way | None:
    delimiter, most = given.get("delimiter", ""), given.get("maxsplit")
    automaton = finds(re.escape(delimiter)) if delimiter else running(_NO_SPACE)
    if automaton is None:
        return None
    table = _looking(finding.FIND, automaton, code)
    table.words[finding.IS_CUT] = int(bool(delimiter))
    if len(delimiter) == 1 and delimiter.isascii():
        table.words[finding.CUTS] = ord(delimiter) * words.ONES
    table.words[words.SPACES] = int(not delimiter)
    table.words[words.LEAST] = int(not delimiter)
    table.words[finding.MOST] = -1 if most is None or most < 0 else most
    _point(table, {finding.PAD: ""})
    return _Words(table, has_marks=False, gives_counts=True)


def _tokenizing(given: Mapping[str, Any], code: TextCode) -> Way | None:
    expression, separators = given.get("tokenexp"), given.get("separators")
    if (expression is None) == (separators is None) or given["mincharnum"] < 1:
        return None
    known = word_class(expression, separators)
    alone = expression if expression is not None else (separators or [""])[0]
    automaton = running(known) if known is not None else finds(alone)
    if automaton is None or (known is None and expression is None and len(separators or ()) != 1):
        return None
    table = _looking(finding.FIND, automaton, code)
    table.words[finding.IS_CUT] = int(known is None and expression is None)
    least = 1 if known is None else known.least
    table.words[words.LEAST] = max(least, given["mincharnum"])
    _point(table, {finding.PAD: given["pad_value"]})
    if given["mark"]:
        _point(table, {finding.FIRST_MARK: START, finding.LAST_MARK: END})
    made = _Words(table, has_marks=bool(given["mark"]), gives_counts=False)
    made.ranks = {1, 2}
    return made
