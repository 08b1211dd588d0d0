"""The short way to results: a native entry for feeds like those of an earlier run.

Decides which runs get one: of a program that is nothing but one native step, for extents that are
so little work that no other thread is woken, and that nobody minds waiting for with the GIL held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.compile.entry import Entry, entry, functions, is_available
from fornix.ir.graph import Value
from fornix.runtime.native import Bound, Frame, NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import Run

QUICK_NANOSECONDS = 20_000
"""Of a run, roughly, up to which the GIL is kept."""


class QuickCall:
    """An entry, with everything that its table points to."""

    def __init__(
        self, bound: Bound, feeds: Mapping[Value, np.ndarray[Any, Any]], outputs: Sequence[Value]
    ) -> None:
        self.frame = frame = Frame(bound)
        self.kept: list[object] = []
        step = bound.step
        slots = dict(zip((*step.reads, *step.writes), frame.slots, strict=True))
        rows: list[list[int]] = []
        for value, array in feeds.items():
            what = [self._object(value.name), self._object(array.dtype), array.ndim]
            rows.append([*what, self._words(array.shape), *self._places(slots.get(value, []))])
        for value in outputs:
            shape, dtype = bound.types[value]
            what = [self._object(dtype), len(shape), self._words(shape)]
            rows.append([*what, *self._places(slots[value]), 0])
        *first, dicts, increase, decrease = functions()
        head = [
            *first, len(feeds), len(outputs), frame.records.ctypes.data, len(frame.records),
            frame.scratch.ctypes.data, frame.status.ctypes.data, dicts, increase, decrease,
        ]  # fmt: skip
        self.table = np.array([*head, *(word for row in rows for word in row)], np.int64)
        self.call: Entry = entry(self.table, step.support.entry)

    def _object(self, thing: object) -> int:
        self.kept.append(thing)
        return id(thing)

    def _words(self, numbers: Sequence[int]) -> int:
        array = np.array([*numbers, 0], np.int64)
        self.kept.append(array)
        return array.ctypes.data

    def _places(self, slots: Sequence[int]) -> tuple[int, int]:
        base = self.frame.arguments.ctypes.data
        return self._words([base + 8 * slot for slot in slots]), len(slots)


def quick_call(program: Program, run: Run, feeds: Mapping[str, Any]) -> QuickCall | None:
    """A short way for feeds like ``feeds``, which have been checked; None if there is none."""
    if not is_available() or len(program.steps) != 1 or program.files:
        return None
    step, outputs = program.steps[0], list(program.outputs.values())
    if not isinstance(step, NativeStep) or len(set(outputs)) < len(outputs):
        return None
    bound = step.bound(run)
    arrays = {value: feeds[name] for name, value in program.inputs.items() if name in feeds}
    is_plain = all(type(a) is np.ndarray and a.dtype.kind not in "OSU" for a in arrays.values())
    if not is_plain or len(arrays) < len(program.inputs) or bound.nanoseconds > QUICK_NANOSECONDS:
        return None
    return QuickCall(bound, arrays, outputs) if set(outputs) <= set(step.writes) else None
