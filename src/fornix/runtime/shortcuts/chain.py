"""The short way through small native steps with NumPy kernels beside them.

Decides which programs have one: those of little work, of which each step is machine code for known
extents, the kernel of a node without bodies, or control flow beside such kernels. Everything that a
run would look up is looked up once. What is not exactly as it was is left to the long way, which
says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fornix.ir.graph import Value
from fornix.runtime.feeds import are_texts
from fornix.runtime.memory import owned_at
from fornix.runtime.native import NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import OwnWay, Run, Step
from fornix.runtime.shortcuts.short import at_once, is_plain

if TYPE_CHECKING:
    from fornix.compile.entry import Entry
    from fornix.runtime.native import Bound, Frame

Move: TypeAlias = "Callable[[list[Any], Run], Sequence[Any] | None]"
"""From the values so far to those of the next step; None if it is not made for them."""
EntryOf: TypeAlias = "Callable[[NativeStep, Bound], tuple[Entry, Frame]]"
"""What runs a step, and the memory that it runs in."""


class ChainCall:
    """Steps one after the other, for feeds like those that it was made for."""

    def __init__(
        self,
        constants: list[Any],
        looks: Sequence[_Look | _MapLook],
        moves: Sequence[Move],
        ends: Sequence[tuple[int, bool]],
        run: Run,
        *,
        may_warn: bool,
        may_last: bool,
    ) -> None:
        """Values are numbered: constants, feeds, what the moves add one after the other.

        ``ends`` are the numbers of results, and which are copied to be the caller's own.
        """
        self.constants, self.looks, self.moves, self.ends = constants, looks, moves, ends
        self.run, self.may_warn, self.may_last = run, may_warn, may_last

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None if they are to go the long way."""
        return self._done(feeds, self.run)

    def _done(self, feeds: Mapping[str, Any], run: Run) -> list[Any] | None:
        if type(feeds) is not dict or len(feeds) != len(self.looks):
            return None
        values = self.constants.copy()
        for look in self.looks:
            array = feeds.get(look.name)
            if not look.fits(array):
                return None
            values.append(array)
        try:
            if not self.may_warn:
                is_done = self._moved(values, run)
            else:
                with np.errstate(all="ignore"):
                    is_done = self._moved(values, run)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the long way says what is wrong
            return None
        if not is_done:
            return None
        return [owned_at(values, end) if is_copied else values[end] for end, is_copied in self.ends]

    def _moved(self, values: list[Any], run: Run) -> bool:
        """Whether all steps could add their values."""
        for move in self.moves:
            results = move(values, run)
            if results is None:
                return False
            values += results
        return True

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that somebody may want to end if there is control flow in them."""
        if not self.may_last or not is_plain(options):
            return at_once(self.call, options)
        is_ended = partial(getattr, options, "terminate")
        return partial(self._done, run=replace(self.run, is_ended=is_ended, flag=options.flag))


def chain_call(
    program: Program, run: Run, feeds: Mapping[str, Any], entry_of: EntryOf, nanoseconds: float
) -> ChainCall | None:
    """A call for feeds like ``feeds``, if native steps take less than so long together."""
    native = [step for step in program.steps if isinstance(step, NativeStep)]
    if program.files or any(step.learned is not None for step in native):
        return None
    others = [step for step in program.steps if not isinstance(step, NativeStep)]
    driven = [step for step in others if step.kernel is None]
    if driven and not _are_driven(driven, others):
        return None
    bounds = {step: step.bound(run) for step in native}
    if sum(bound.nanoseconds for bound in bounds.values()) > nanoseconds:
        return None
    constants = {v: c for v, c in program.constants.items() if v not in program.inputs.values()}
    places: dict[Value, int] = {}
    for value in (*constants, *program.inputs.values()):
        places[value] = len(places)
    moves: list[Move] = []
    for step in program.steps:
        if isinstance(step, NativeStep):
            moves.append(_Native(step, *entry_of(step, bounds[step]), places))
        elif step.kernel is None:
            moves.append(_driven(step, places, program.constants))
        else:
            moves.append(_kernel(step, places))
        for value in step.writes:
            places[value] = len(places)
    trusted = read_by_code(program)
    looks = [
        _MapLook(name, feed)
        if type(feed := feeds[name]) is dict
        else _Look(name, feed, is_trusted=name in trusted)
        for name in program.inputs
    ]
    kernels = [step.kernel for step in program.steps if step.way is None]
    may_warn = any(kernel.may_warn for kernel in kernels if kernel is not None)
    ends = _ends(program, places)
    return ChainCall(
        list(constants.values()), looks, moves, ends, run, may_warn=may_warn, may_last=bool(driven)
    )


def read_by_code(program: Program) -> set[str]:
    """The inputs that only machine code for texts reads, which looks at each of them."""
    found = set()
    for name, value in program.inputs.items():
        readers = [step for step in program.steps if value in step.reads]
        is_read = all(not isinstance(step, NativeStep) and step.way is not None for step in readers)
        if readers and is_read and value not in program.outputs.values():
            found.add(name)
    return found


class _Look:
    """What an array has to be."""

    def __init__(self, name: str, array: np.ndarray[Any, Any], *, is_trusted: bool) -> None:
        """Of texts that are ``is_trusted`` each is looked at later."""
        self.name, self.dtype, self.shape = name, array.dtype, array.shape
        self.is_text = array.dtype == object and not is_trusted
        self.is_single = array.size == 1

    def fits(self, array: Any) -> bool:
        """Whether it is that."""
        if type(array) is not np.ndarray or array.dtype != self.dtype or array.shape != self.shape:
            return False
        if not self.is_text:
            return True
        if self.is_single:
            return type(array.item()) is str
        return are_texts(array)


class _MapLook:
    """What a map has to be: one with keys and values of types that a map has had before."""

    def __init__(self, name: str, feed: dict[Any, Any]) -> None:
        self.name, self.kinds = name, _kinds(feed)

    def fits(self, feed: Any) -> bool:
        """Whether it is that."""
        return type(feed) is dict and _kinds(feed) == self.kinds


def _kinds(feed: dict[Any, Any]) -> tuple[set[type], set[type]]:
    return set(map(type, feed)), set(map(type, feed.values()))


class _Native:
    """A native step, in a frame that stays as long as this."""

    def __init__(
        self, step: NativeStep, entry: Entry, frame: Frame, places: Mapping[Value, int]
    ) -> None:
        self.entry, self.frame = entry, frame
        self.named = [(value.name, places[value]) for value in step.inputs]

    def __call__(self, values: list[Any], run: Run) -> list[Any] | None:  # noqa: ARG002 - as all have it
        return self.entry({name: values[place] for name, place in self.named})


def _are_driven(steps: Sequence[Step], others: Sequence[Step]) -> bool:
    """Whether ``steps`` are control flow, beside which some of the ``others`` are kernels.

    Else they may become one native call together.
    """
    from fornix.runtime.control.draws import is_written  # noqa: PLC0415 - of control flow

    beside = any(step.control is None and not is_written(step.single) for step in others)
    return beside and all(step.control is not None for step in steps)


def _driven(step: Step, places: Mapping[Value, int], constants: Mapping[Value, Any]) -> Move:
    """Control flow, as in any run."""
    read = [(value, places[value]) for value in step.reads]

    def move(values: list[Any], run: Run) -> Sequence[Any] | None:
        run.check()
        found = dict(constants)
        found.update((value, values[place]) for value, place in read)
        step.run(found, run)
        run.check()
        return [found[value] for value in step.writes]

    return move


def _kernel(step: Step, places: Mapping[Value, int]) -> Move:
    kernel = step.kernel
    if kernel is None:
        raise TypeError("the kernel of a node without bodies is asked for")
    call, inputs, constants, _ = kernel
    count = len(step.writes)
    fixed = [None if value is None else constants.get(value) for value in inputs]
    read = [
        (index, places[value])
        for index, value in enumerate(inputs)
        if value is not None and value not in constants
    ]

    way, read_by_way = step.way, [places[value] for value in step.reads]

    def move(values: list[Any], run: Run) -> Sequence[Any] | None:
        if way is not None:  # else the long way, which looks at texts first
            return way([values[k] for k in read_by_way], run)
        given = fixed.copy()
        for index, place in read:
            given[index] = values[place]
        results = call(given)
        return results[:count] if len(results) >= count else None  # others are left out

    return move


def _ends(program: Program, places: Mapping[Value, int]) -> list[tuple[int, bool]]:
    """Where results are, and which have to be copied to be the caller's own."""
    makers = [s for s in program.steps if s.owns_results or isinstance(s.way, OwnWay)]
    own = {v for step in makers for v in step.writes}
    ends = []
    for value in program.outputs.values():
        ends.append((places[value], value not in own))
        own.discard(value)  # a second time it has to be another array
    return ends
