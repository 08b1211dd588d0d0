"""The short way to results: for feeds like those of an earlier run, checked in native code.

Decides which runs get one: of a program that is nothing but one native step. Where they are so
little work that no other thread is woken, and that nobody minds waiting for with the GIL held, a
native entry does everything; else it checks the feeds alone, and the step does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fornix.compile.entry import Entry, entry, functions, is_available
from fornix.format.mapped import MappedFile
from fornix.ir.graph import Value
from fornix.runtime.native import Bound, Frame, NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import Run

QUICK_NANOSECONDS = 20_000
"""Of a run, roughly, up to which the GIL is kept."""

Arrays = Mapping[Value, np.ndarray[Any, Any]]


class QuickCall(Protocol):
    """A short way for feeds like those that it was made for."""

    @property
    def call(self) -> Entry:
        """Feeds to results; None if they are to go the long way."""


class WholeCall:
    """An entry that does everything, in a frame of its own."""

    def __init__(self, bound: Bound, feeds: Arrays, outputs: Sequence[Value]) -> None:
        self.frame = frame = Frame(bound)
        self.table = _Table(bound, frame, _declared(feeds))
        for value, place in zip(outputs, self.table.places(outputs), strict=True):
            self.table.add_result(*bound.types[value], place)
        self.call: Entry = self.table.entry(runs=True)


class DrivenCall:
    """A step whose feeds are checked by an entry; each of its frames gets one when it is used."""

    def __init__(
        self, bound: Bound, feeds: Arrays, outputs: Sequence[Value], files: Sequence[MappedFile]
    ) -> None:
        self.bound, self.files = bound, files
        self.declared = _declared(feeds)
        order = bound.step.writes
        self.order = [order.index(value) for value in outputs]

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None if they are not like those that this was made for."""
        if type(feeds) is not dict:
            return None
        feeds = feeds.copy()  # others may take arrays out of theirs while the GIL is released
        for file in self.files:
            file.check()
        bound = self.bound
        try:
            frame = bound.frames.pop()
        except IndexError:
            return None
        try:
            check = frame.check or self._check(frame, feeds)
            if check is None or check(feeds) is None:
                return None
            made = bound.step.results_in(frame, bound)
            status = bound.step.drive_frame(frame, bound)
        finally:
            bound.frames.append(frame)
        return None if status else [made[index] for index in self.order]

    def _check(self, frame: Frame, feeds: Mapping[str, Any]) -> Entry | None:
        """The entry of ``frame``, made for the first feeds that have the right extents."""
        for value, (_, shape) in self.declared.items():
            if getattr(feeds.get(value.name), "shape", None) != shape:
                return None
        frame.check = _Table(self.bound, frame, self.declared).entry(runs=False)
        return frame.check


class _Table:
    """The table of an entry, with everything that it points to."""

    def __init__(
        self,
        bound: Bound,
        frame: Frame,
        feeds: Mapping[Value, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> None:
        self.frame, self.code = frame, bound.step.support.entry
        self.kept: list[object] = []
        step = bound.step
        self._slots = dict(zip((*step.reads, *step.writes), frame.slots, strict=True))
        self._inputs: list[list[int]] = []
        self._results: list[list[int]] = []
        for (value, (dtype, shape)), place in zip(feeds.items(), self.places(feeds), strict=True):
            what = [self._object(value.name), self._object(dtype), len(shape), self._words(shape)]
            self._inputs.append([*what, *place])

    def places(self, values: Sequence[Value] | Mapping[Value, object]) -> list[tuple[int, int]]:
        """Of each value, where the words lie that are to be its address, and how many."""
        base = self.frame.arguments.ctypes.data
        found = [self._slots.get(value, []) for value in values]
        return [(self._words([base + 8 * slot for slot in x]), len(x)) for x in found]

    def add_result(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], place: tuple[int, int]
    ) -> None:
        """Let the entry make a result."""
        self._results.append([self._object(dtype), len(shape), self._words(shape), *place, 0])

    def entry(self, *, runs: bool) -> Entry:
        """The entry; it runs the kernels, or checks and notes the inputs only."""
        frame = self.frame
        *first, dicts, increase, decrease = functions()
        records, count, scratch, status = frame.program
        head = [
            *first, len(self._inputs), len(self._results), records, count if runs else 0,
            scratch, status, dicts, increase, decrease,
        ]  # fmt: skip
        words = [word for row in (*self._inputs, *self._results) for word in row]
        frame.kept = self.kept
        return entry(np.array([*head, *words], np.int64), self.code)

    def _object(self, thing: object) -> int:
        self.kept.append(thing)
        return id(thing)

    def _words(self, numbers: Sequence[int]) -> int:
        array = np.array([*numbers, 0], np.int64)
        self.kept.append(array)
        return array.ctypes.data


def _declared(feeds: Arrays) -> dict[Value, tuple[np.dtype[Any], tuple[int, ...]]]:
    return {value: (array.dtype, array.shape) for value, array in feeds.items()}


def quick_call(program: Program, run: Run, feeds: Mapping[str, Any]) -> QuickCall | None:
    """A short way for feeds like ``feeds``, which have been checked; None if there is none."""
    if not is_available() or len(program.steps) != 1:
        return None
    step, outputs = program.steps[0], list(program.outputs.values())
    if not isinstance(step, NativeStep) or len(set(outputs)) < len(outputs):
        return None
    bound = step.bound(run)
    arrays = {value: feeds[name] for name, value in program.inputs.items() if name in feeds}
    is_plain = all(type(a) is np.ndarray and a.dtype.kind not in "OSU" for a in arrays.values())
    if not is_plain or len(arrays) < len(program.inputs) or not set(outputs) <= set(step.writes):
        return None
    if program.files or bound.nanoseconds > QUICK_NANOSECONDS:
        return DrivenCall(bound, arrays, outputs, program.files)
    return WholeCall(bound, arrays, outputs)
