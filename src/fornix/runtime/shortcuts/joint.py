"""The short way through machine code for numbers and for texts, all of it in one native call.

Decides which programs have one: those of little work, of which each step is machine code for known
extents, or a node that speaks of texts or maps and has machine code for it. Kernels of numbers and
those of texts stand in one list of records; what one leaves to the caller ends the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fornix.compile import driver as words
from fornix.compile.entry import DATA, Entry
from fornix.ir.graph import Value
from fornix.runtime.links import Link, LinkedWay
from fornix.runtime.memory import aligned_bytes
from fornix.runtime.native import Bound, Frame, NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import Run, Step
from fornix.runtime.shortcuts.entries import ArrayType, EntryTable, Work
from fornix.runtime.shortcuts.short import at_once

Array = np.ndarray[Any, np.dtype[Any]]
Types = dict[Value, "ArrayType | None"]


class JointCall:
    """An entry for one run at a time, and what it works in."""

    def __init__(self, entry: Entry, kept: list[object], *, may_turn: bool, copies: bool) -> None:
        """``may_turn`` says that other Python code may run meanwhile, as garbage is collected.

        With ``copies``, what is fed is read after that.
        """
        self.entry, self.kept, self._copies = entry, kept, copies
        self._free = [entry]
        self.call: Entry = self._alone if may_turn else entry

    def _alone(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None too while another call goes on."""
        try:
            entry = self._free.pop()
        except IndexError:
            return None
        try:
            return entry(feeds.copy() if self._copies and type(feeds) is dict else feeds)
        finally:
            self._free.append(entry)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that are over before anybody could end them."""
        return at_once(self.call, options)


def joint_call(
    program: Program, run: Run, feeds: Mapping[str, Any], nanoseconds: float
) -> JointCall | None:
    """A call for feeds like ``feeds``, if native steps take less than so long together."""
    native = [step for step in program.steps if isinstance(step, NativeStep)]
    outputs = list(program.outputs.values())
    written = {value for step in program.steps for value in step.writes}
    codes = [step.code for step in program.steps if step.code is not None]
    supports = [step.support for step in native] + [code.support for code in codes]
    is_plain = supports and not program.files and len(set(outputs)) == len(outputs)
    if not is_plain or not written.issuperset(outputs):
        return None
    if any(step.learned is not None for step in native):
        return None
    if sum(step.bound(run).nanoseconds for step in native) > nanoseconds:
        return None
    types: Types = {value: _type(feeds[name]) for name, value in program.inputs.items()}
    parts = _Parts(types, {value: place for place, value in enumerate(outputs)})
    if not all(parts.add(step, run) for step in program.steps):
        return None
    if any(_needs_reader(types[v]) and v not in parts.places for v in program.inputs.values()):
        return None
    return parts.call(list(program.inputs.values()), outputs, supports[0].entry)


def _type(feed: Any) -> ArrayType | None:
    return (feed.shape, feed.dtype) if isinstance(feed, np.ndarray) else None


def _needs_reader(known: ArrayType | None) -> bool:
    """Whether something has to look at what is in it: that it is not Python's numbers is known."""
    return known is None or known[1].hasobject


class _Parts:
    """Records, and what they read and write."""

    def __init__(self, types: Types, outputs: Mapping[Value, int]) -> None:
        """``types`` are those of inputs; ``outputs`` have a place among the results."""
        self.types, self.outputs = types, outputs
        self._fed = {*types}
        self.places: dict[Value, list[tuple[Array, int]]] = {}
        """Of each value, the elements that are told where it lies."""
        self.kept: list[object] = []
        self._records: list[Array] = []
        self._last: list[Array] = []
        self._scratch = 0
        self._makes = self._copies = False

    def add(self, step: Step, run: Run) -> bool:
        """Whether ``step`` could be added."""
        if isinstance(step, NativeStep):
            return self._add_native(step, step.bound(run))
        way = step.way
        if not isinstance(way, LinkedWay) or len(step.reads) != 1 or len(step.writes) != 1:
            return False
        [read], [written] = step.reads, step.writes
        link = way.link(self.types[read]) if read in self.types else None
        if link is None or (link.result is None and written not in self.outputs):
            return False
        self._add_link(link, read, written)
        return True

    def _add_native(self, step: NativeStep, bound: Bound) -> bool:
        if any(self.types.get(value) != bound.types[value] for value in step.inputs):
            return False
        frame = Frame(bound)
        for value, slots in zip((*step.inputs, *step.writes), frame.slots, strict=True):
            self._tell(value, [(frame.arguments, slot) for slot in slots])
        self.types.update((value, bound.types[value]) for value in step.writes)
        self._records.append(frame.records)
        self._scratch = max(self._scratch, bound.scratch)
        self.kept.append(frame)
        return True

    def _add_link(self, link: Link, read: Value, written: Value) -> None:
        self._tell(read, [(link.table, link.source)])
        self._tell(written, [(link.table, link.target)])
        self.types[written] = link.result
        if link.result is None:
            link.table[link.place] = self.outputs[written]
        this = np.zeros(DATA // 8 + 1, np.int64)
        this[-1] = link.table.ctypes.data
        record = np.zeros((1, words.RECORD_WORDS), np.int64)
        record[:, words.FUNCTION], record[:, words.ARGUMENTS] = link.function, this.ctypes.data
        record[:, words.CHUNKS] = 1
        # What makes objects among the results lets others run: it comes when all else is read.
        (self._last if link.result is None else self._records).append(record)
        self._makes = self._makes or link.makes
        self._copies = self._copies or (link.makes and read in self._fed)
        self.kept += [link, this]

    def _tell(self, value: Value, places: list[tuple[Array, int]]) -> None:
        self.places.setdefault(value, []).extend(places)

    def call(self, inputs: list[Value], outputs: list[Value], code: int) -> JointCall | None:
        """The call; None if objects would pass from one record to another."""
        for value, (shape, dtype) in self._between({*inputs, *outputs}):
            if dtype.hasobject:
                return None
            memory = aligned_bytes(int(np.prod(shape)) * dtype.itemsize)
            self.kept.append(memory)
            for array, at in self.places[value]:
                array[at] = memory.ctypes.data
        records = np.concatenate([*self._records, *self._last])
        scratch, status = aligned_bytes(self._scratch), np.zeros(1, np.int64)
        self.kept += [records, scratch, status]
        work = Work(records.ctypes.data, len(records), scratch.ctypes.data, status.ctypes.data)
        told = {
            value: [array.ctypes.data + 8 * at for array, at in places]
            for value, places in self.places.items()
        }
        table = EntryTable(self.types, told, inputs)
        made = table.entry(outputs, work, code, runs=True, releases=False)
        kept = [*self.kept, table.kept]
        return JointCall(made, kept, may_turn=self._makes, copies=self._copies)

    def _between(self, outside: set[Value]) -> Iterator[tuple[Value, ArrayType]]:
        """What one record writes for another."""
        for value, known in self.types.items():
            if value not in outside and known is not None:
                yield value, known
