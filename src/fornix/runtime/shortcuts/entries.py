"""Tables of native entries: what feeds have to be, where results go, and which kernels run.

Decides how types and places become the words that `compile.entry` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fornix.compile.entry import Entry, entry, functions
from fornix.ir.graph import Value
from fornix.runtime.memory import LentMemory

ArrayType = tuple[tuple[int, ...], np.dtype[Any]]


class Work(NamedTuple):
    """Addresses: of records and their number, of scratch memory and the status."""

    records: int
    lines: int
    scratch: int
    status: int


class EntryTable:
    """The table of an entry, with everything that it points to."""

    def __init__(
        self,
        types: Mapping[Value, ArrayType | None],
        places: Mapping[Value, Sequence[int]],
        inputs: Sequence[Value],
    ) -> None:
        """``places`` are the addresses of words that are told where a value lies.

        A value without type is a dictionary among ``inputs``, else a list that a kernel makes.
        """
        self.types, self.places = types, places
        self.kept: list[object] = []
        self._inputs = [[self._object(value.name), *self._row(value)] for value in inputs]

    def entry(
        self,
        outputs: Sequence[Value],
        work: Work,
        code: int,
        lent: Sequence[LentMemory | None] | None = None,
        *,
        runs: bool,
        releases: bool,
    ) -> Entry:
        """An entry, by ``code``, that makes ``outputs`` and runs kernels or only notes addresses.

        Those of ``outputs`` that are ``lent`` memory lie there.
        """
        results: list[list[int]] = []
        for value, memory in zip(outputs, lent or [None] * len(outputs), strict=True):
            results.append([*self._row(value), 0 if memory is None else memory.place.ctypes.data])
            self.kept.append(memory)
        *first, dicts, increase, decrease, save, restore, based = functions()
        head = [
            *first, len(self._inputs), len(results), work.records, work.lines if runs else 0,
            work.scratch, work.status, dicts, increase, decrease,
            *((save, restore) if releases and runs else (0, 0)), based,
        ]  # fmt: skip
        words = [word for row in (*self._inputs, *results) for word in row]
        return entry(np.array([*head, *words], np.int64), code)

    def _row(self, value: Value) -> list[int]:
        """What a value has to be, and where it is told where that lies."""
        places = self.places.get(value, ())
        told = [self._words(places), len(places)]
        known = self.types[value]
        if known is None:
            return [0, 0, 0, *told]
        shape, dtype = known
        return [self._object(dtype), len(shape), self._words(shape), *told]

    def _object(self, thing: object) -> int:
        self.kept.append(thing)
        return id(thing)

    def _words(self, numbers: Sequence[int]) -> int:
        array = np.array([*numbers, 0], np.int64)
        self.kept.append(array)
        return array.ctypes.data
