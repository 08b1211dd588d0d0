"""The short way to results: for feeds like those of an earlier run, checked in native code.

Decides which runs get one. Where a program is nothing but one native step, so little work that no
other thread is woken, and that nobody minds waiting for with the GIL held, a native entry does
everything; else it checks the feeds alone, and the step does the rest. Of other programs the steps
run one after the other, or in one call where all that is not compiled is control flow.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fornix.compile.entry import Entry, is_available
from fornix.errors import FornixError
from fornix.format.mapped import MappedFile
from fornix.ir.graph import Value
from fornix.runtime.feeds import are_texts
from fornix.runtime.memory import LARGE_BYTES, LentMemory
from fornix.runtime.native import WORTH_SHARING, Bound, Frame, NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled, Run, Step
from fornix.runtime.shortcuts.chain import ABSENT, ChainCall, chain_call, read_by_code
from fornix.runtime.shortcuts.entries import EntryTable, Work
from fornix.runtime.shortcuts.joint import joint_call
from fornix.runtime.shortcuts.short import QuickCall, at_once, is_plain, no_results
from fornix.runtime.shortcuts.unread import UnreadCall, without_unread

QUICK_NANOSECONDS = 20_000
"""Of a run, roughly, up to which the GIL is kept."""
JOINT_NANOSECONDS = WORTH_SHARING
"""The same for numbers and texts in one call: one by one, their steps take 6 µs more."""
LENT_BYTES = 16 << 20
"""Large results of a run, together, up to which native code makes them: what takes longer to
compute does not mind how they are made."""
CALLS_BEFORE_FLOW = 2
"""Runs after which it pays to make one call of several steps."""

Arrays = Mapping[Value, np.ndarray[Any, Any]]


class WholeCall:
    """An entry that does everything, in a frame of its own, and keeps the GIL."""

    def __init__(self, bound: Bound, feeds: Arrays, outputs: Sequence[Value]) -> None:
        self.frame = Frame(bound)
        table = _table(bound, self.frame, _declared(feeds))
        work, code = Work(*self.frame.program), bound.step.support.entry
        self.call: Entry = table.entry(outputs, work, code, runs=True, releases=False)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that are over before anybody could end them."""
        return at_once(self.call, options)


class DrivenCall:
    """A step of which each frame gets an entry when it is used, which releases the GIL.

    The entry makes results, large ones in memory that is used again, and runs the kernels unless
    other threads may help. Very large results are made by `ResultMemory`.
    """

    def __init__(
        self, bound: Bound, feeds: Arrays, outputs: Sequence[Value], files: Sequence[MappedFile]
    ) -> None:
        self.bound, self.files = bound, files
        self.declared = _declared(feeds)
        self.outputs = outputs
        types = [bound.types[value] for value in outputs]
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in types]
        self.sizes = [size if size >= LARGE_BYTES else 0 for size in sizes]
        self.makes_results = sum(self.sizes) <= LENT_BYTES
        if not bound.frames:  # a step that went a way of its own keeps none
            bound.frames.append(bound.step.frame(bound))

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None if they are not like those that this was made for."""
        if type(feeds) is not dict:
            return None
        feeds = feeds.copy()  # others may take arrays out of theirs while the GIL is released
        for file in self.files:
            file.check()
        frames = self.bound.frames
        try:
            frame = frames.pop()
        except IndexError:
            return None
        try:
            entry = frame.entry or self._entry(frame, feeds)
            results = None if entry is None else entry(feeds)
            if results is None or frame.is_run:
                return results
            return self._driven(frame, results)
        finally:
            frames.append(frame)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that somebody may want to end, unless they are short."""
        is_short = self.bound.nanoseconds < WORTH_SHARING
        return at_once(self.call, options) if is_short else no_results

    def _driven(self, frame: Frame, results: list[Any]) -> list[Any] | None:
        """The outputs, computed with other threads if these help; the entry may have made them."""
        step = self.bound.step
        if not self.makes_results:
            made = dict(zip(step.writes, step.results_in(frame, self.bound), strict=True))
            results = [made[value] for value in self.outputs]
        return None if step.drive_frame(frame, self.bound) else results

    def _entry(self, frame: Frame, feeds: Mapping[str, Any]) -> Entry | None:
        """The entry of ``frame``, made for the first feeds that have the right extents."""
        for value, (shape, _) in self.declared.items():
            if getattr(feeds.get(value.name), "shape", None) != shape:
                return None
        table = _table(self.bound, frame, self.declared)
        work, code = Work(*frame.program), self.bound.step.support.entry
        if not self.makes_results:
            frame.entry = table.entry((), work, code, runs=False, releases=True)
            return frame.entry
        memory = self.bound.step.results
        lent = [LentMemory(size, memory) if size else None for size in self.sizes]
        frame.is_run = not self.bound.may_be_shared
        call = table.entry(self.outputs, work, code, lent, runs=frame.is_run, releases=True)
        large = [one for one in lent if one is not None]
        frame.entry = partial(_with_memory, large, call) if large else call
        return frame.entry


def _with_memory(
    lent: Sequence[LentMemory], entry: Entry, feeds: Mapping[str, Any]
) -> list[Any] | None:
    """What ``entry`` gives for ``feeds``, with memory for large results."""
    for one in lent:
        one.take()
    try:
        return entry(feeds)
    finally:
        for one in lent:
            one.leave()


class StepsCall:
    """The steps of a program one after the other, without another look at what feeds are.

    Texts are looked at by the code that reads them, and here where kernels do.
    """

    def __init__(
        self, program: Program, run: Run, feeds: Mapping[str, Any], texts: Collection[str] = ()
    ) -> None:
        """``texts`` names those that are looked at here."""
        self.program, self.run, self.texts = program, run, texts
        self.names = list(program.outputs)
        arrays = {name: feed for name, feed in feeds.items() if type(feed) is np.ndarray}
        self.declared = [(name, array.dtype, array.shape) for name, array in arrays.items()]
        self._others = {name: type(feeds[name]) for name in feeds.keys() - arrays}
        """The classes of what is no array."""
        self._count = len(feeds)
        self._calls = 0
        self._chain: ChainCall | None = None
        """What does it instead, once no native call can."""

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None if they are not like those that this was made for."""
        return self._done(feeds, self.run)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that somebody may want to end."""
        if not is_plain(options):
            return no_results
        is_ended = partial(getattr, options, "terminate")
        run = replace(self.run, is_ended=is_ended, flag=options.flag)
        return partial(self._done, run=run)

    def _done(self, feeds: Mapping[str, Any], run: Run) -> list[Any] | None:
        if self._chain is not None:
            return self._chain.done(feeds, run)
        if type(feeds) is not dict or len(feeds) != self._count:
            return None
        flow = self.program.flow if self._calls >= CALLS_BEFORE_FLOW else None
        results = None if flow is None else flow(feeds, run.flag)
        return self._by_steps(feeds, run) if results is None else results

    def _by_steps(self, feeds: Mapping[str, Any], run: Run) -> list[Any] | None:
        for name, dtype, shape in self.declared:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                return None
        self._calls = calls = self._calls + 1
        if calls == CALLS_BEFORE_FLOW + 1 and self.program.flow is None:
            self._chain = self._chained(feeds)
        if self._others or not all(are_texts(feeds[name]) for name in self.texts):
            return None
        try:
            return self.program.run(feeds, run, self.names)
        except (NotAsCompiled, FornixError):  # the long way says what is wrong
            return None

    def _chained(self, feeds: Mapping[str, Any]) -> ChainCall | None:
        """The steps one by one, if all of ``feeds``, which nobody has checked, may be alike."""
        found = {name: type(feeds.get(name, ABSENT)) for name in self._others}
        if found != self._others or dict in found.values():  # keys of maps may be of any class
            return None
        return chained_call(self.program, self.run, feeds, may_flow=False)


def _table(
    bound: Bound, frame: Frame, feeds: Mapping[Value, tuple[tuple[int, ...], np.dtype[Any]]]
) -> EntryTable:
    """The table of an entry for ``feeds``, which ``frame`` keeps."""
    step, base = bound.step, frame.arguments.ctypes.data
    slots = zip((*step.reads, *step.writes), frame.slots, strict=True)
    places = {value: [base + 8 * slot for slot in own] for value, own in slots}
    table = EntryTable({**bound.types, **feeds}, places, list(feeds))
    frame.kept = table.kept
    return table


def _declared(feeds: Arrays) -> dict[Value, tuple[tuple[int, ...], np.dtype[Any]]]:
    return {value: (array.shape, array.dtype) for value, array in feeds.items()}


MAP, LIST = "map", "list"


def _kind(feed: Any) -> str:
    """The kind of an array's dtype, or that it is a map or a list; empty for all else."""
    if type(feed) is np.ndarray:
        return str(feed.dtype.kind)
    if feed is None or type(feed) is list:
        return LIST
    return MAP if type(feed) is dict else ""


def quick_call(program: Program, run: Run, feeds: Mapping[str, Any]) -> QuickCall | None:
    """A short way for feeds like ``feeds``, which have been checked; None if there is none."""
    kinds = {_kind(feed) for feed in feeds.values()}
    if not is_available() or kinds & {"", "S", "U"} or len(feeds) < len(program.inputs):
        return None
    if "O" in kinds:
        less = without_unread(program, feeds)
        if less is not None:
            return _beside_unread(less, program.inputs.keys() - less.inputs.keys(), run, feeds)
    if LIST in kinds:
        return _stepwise(program, run, feeds, has_texts="O" in kinds)
    outputs = list(program.outputs.values())
    step = program.steps[0] if len(program.steps) == 1 else None
    is_whole = isinstance(step, NativeStep) and len(set(outputs)) == len(outputs)
    if not isinstance(step, NativeStep) or not is_whole or not set(outputs) <= set(step.writes):
        return _of_steps(program, run, feeds, has_texts="O" in kinds)
    if "O" in kinds:
        return None
    if step.learned is not None:
        return StepsCall(program, run, feeds)
    bound = step.bound(run)
    arrays = {value: feeds[name] for name, value in program.inputs.items()}
    if program.files or bound.nanoseconds > QUICK_NANOSECONDS:
        return DrivenCall(bound, arrays, outputs, program.files)
    return WholeCall(bound, arrays, outputs)


def _beside_unread(
    program: Program, unread: Collection[str], run: Run, feeds: Mapping[str, Any]
) -> QuickCall | None:
    """The short way of what is left of a program without ``unread`` texts."""
    others = {name: feed for name, feed in feeds.items() if name not in unread}
    short = quick_call(program, run, others)
    return None if short is None else UnreadCall(short, {n: feeds[n].shape for n in unread})


def chained_call(
    program: Program, run: Run, feeds: Mapping[str, Any], *, may_flow: bool
) -> ChainCall | None:
    """A short way through steps one by one, where they are little work."""
    try:
        return chain_call(program, run, feeds, _step_entry, QUICK_NANOSECONDS, may_flow=may_flow)
    except NotAsCompiled:
        return None


def _is_in_calls(step: Step) -> bool:
    """Whether native calls have a way of their own for the node that ``step`` is."""
    if step.single is None:
        return False
    from fornix.runtime.control.draws import is_written  # noqa: PLC0415 - few programs have any

    return is_written(step.single)


def _of_steps(
    program: Program, run: Run, feeds: Mapping[str, Any], *, has_texts: bool
) -> QuickCall | None:
    """A short way through several steps."""
    is_driven = has_texts and any(step.control for step in program.steps)
    if (is_driven or any(map(_is_in_calls, program.steps))) and program.flow is not None:
        return _stepwise(program, run, feeds, has_texts=has_texts)
    if len(feeds) == len(program.inputs):
        joint = joint_call(program, run, feeds, JOINT_NANOSECONDS)
        if joint is not None:
            return joint
        chained = chained_call(program, run, feeds, may_flow=True)
        if chained is not None:
            return chained
    if MAP in map(_kind, feeds.values()):
        return None
    return _stepwise(program, run, feeds, has_texts=has_texts)


def _stepwise(
    program: Program, run: Run, feeds: Mapping[str, Any], *, has_texts: bool
) -> StepsCall:
    """The steps one by one."""
    if not has_texts:
        return StepsCall(program, run, feeds)
    texts = {name for name, feed in feeds.items() if _kind(feed) == "O"}
    by_code = read_by_code(program)
    run = replace(run, is_looked_at=texts.isdisjoint(by_code))
    return StepsCall(program, run, feeds, texts - by_code)


def _step_entry(step: NativeStep, bound: Bound) -> tuple[Entry, Frame]:
    """An entry for the values that ``step`` reads, which keeps the GIL, and its own frame."""
    frame = Frame(bound)
    declared = {value: bound.types[value] for value in step.inputs}
    work, code = Work(*frame.program), step.support.entry
    table = _table(bound, frame, declared)
    return table.entry(step.writes, work, code, runs=True, releases=False), frame
