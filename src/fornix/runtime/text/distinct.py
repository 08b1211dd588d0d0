"""What machine code does of Unique of texts: it tells them apart, and Python sorts those."""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.compile.text import routines as words
from fornix.ir.graph import Node
from fornix.runtime.providers import OwnWay, Run, TextCode
from fornix.runtime.text.tables import TextTable, attributes_of

FEW = 1 << 12
"""Entries of the table that is tried first: it stays in the first cache."""


class Distinct(OwnWay):
    """Distinct texts, where each comes first, which of them each text is, how often each occurs."""

    def __init__(self, node: Node, code: TextCode) -> None:
        given, self.results = attributes_of(node), len(node.outputs)
        self.table = TextTable(words.TELL_APART, code)
        self.call, self.axis = self.table.call(), given.get("axis")
        self.is_sorted = bool(given.get("sorted", 1))

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        if texts.ndim != 1 and self.axis is not None:
            return None
        numbers, counts = np.empty(texts.size, np.int64), np.empty(texts.size, np.int64)
        places = np.empty(texts.size + 1, np.int64)
        whole = 2 << texts.size.bit_length()
        for size in sorted({min(whole, FEW), whole}):
            entries, keys = np.empty((size, 2), np.int64), np.empty((size // 2 + 1, 2), np.int64)
            entries.fill(-1)
            if self.call([texts, numbers, places, counts, entries, keys]) is None:
                return None
            if places[0] >= 0:
                break
        count = int(places[0])
        places, counts = places[1 : count + 1], counts[:count]
        found = texts.reshape(-1)[places]
        if not self.is_sorted:
            return [found, places.copy(), numbers, counts.copy()][: self.results]
        order = np.array(sorted(range(count), key=found.tolist().__getitem__), np.int64)
        ranks = np.empty(count, np.int64)
        ranks[order] = np.arange(count)
        return [found[order], places[order], ranks[numbers], counts[order]][: self.results]
