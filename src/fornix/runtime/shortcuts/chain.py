"""The short way through small native steps with NumPy kernels beside them.

Decides which programs have one: those of little work, of which each step is machine code for known
extents, the kernel of a node without bodies, or control flow beside such kernels. Everything that a
run would look up is looked up once. What is not exactly as it was is left to the long way, which
says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fornix.ir.graph import Value
from fornix.ir.types import OptionalType, SequenceType, TensorType
from fornix.runtime.feeds import are_texts
from fornix.runtime.memory import owned_at
from fornix.runtime.native import NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled, OwnWay, Run, Step
from fornix.runtime.providers import may_warn as nodes_may_warn
from fornix.runtime.shortcuts.short import at_once, is_plain
from fornix.runtime.shortcuts.shortcut import laid
from fornix.runtime.shortcuts.straight import Straight, StraightWay

if TYPE_CHECKING:
    from fornix.compile.entry import Entry
    from fornix.runtime.native import Bound, Frame

_Looking: TypeAlias = "_Look | _MapLook | _ListLook | _MissingLook"
EntryOf: TypeAlias = "Callable[[NativeStep, Bound], tuple[Entry, Frame]]"
"""What runs a step, and the memory that it runs in."""


FEW = 1 << 14
"""Elements that are fed up to which what they choose is taken to be little work."""
ABSENT = object()
"""What is fed for names that are not there: nothing that would do."""


class ChainCall:
    """Steps one after the other, for feeds like those that it was made for."""

    def __init__(
        self,
        way: StraightWay,
        looks: Sequence[_Looking],
        are_copied: Sequence[bool],
        run: Run,
        *,
        may_warn: bool,
        may_last: bool,
    ) -> None:
        """From what is looked at to results, of which some ``are_copied`` to be the caller's."""
        self.way, self.looks, self.are_copied = way, looks, are_copied
        self.run, self.may_warn, self.may_last = run, may_warn, may_last

    def call(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """The outputs for ``feeds``; None if they are to go the long way."""
        return self.done(feeds, self.run)

    def done(self, feeds: Mapping[str, Any], run: Run) -> list[Any] | None:
        """The same in this very ``run``."""
        if type(feeds) is not dict or len(feeds) != len(self.looks):
            return None
        given = []
        for look in self.looks:
            array = feeds.get(look.name, ABSENT)
            if not look.fits(array):
                return None
            given.append(array)
        try:
            if not self.may_warn:
                results = self.way(given, run)
            else:
                with np.errstate(all="ignore"):
                    results = self.way(given, run)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the long way says what is wrong
            return None
        if results is not None:
            for end, is_copied in enumerate(self.are_copied):
                if is_copied:
                    results[end] = owned_at(results, end)
        return results

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that somebody may want to end if there is control flow in them."""
        if not self.may_last or not is_plain(options):
            return at_once(self.call, options)
        is_ended = partial(getattr, options, "terminate")
        return partial(self.done, run=replace(self.run, is_ended=is_ended, flag=options.flag))


def chain_call(
    program: Program,
    run: Run,
    feeds: Mapping[str, Any],
    entry_of: EntryOf,
    nanoseconds: float,
    *,
    may_flow: bool,
) -> ChainCall | None:
    """A call for feeds like ``feeds``, if native steps take less than so long together.

    None too where all that is not machine code is control flow, which ``may_flow`` as one call.
    """
    native = [step for step in program.steps if isinstance(step, NativeStep)]
    learns = any(step.learned is not None for step in native)
    if program.files or (learns and not _may_learn(native, feeds)):
        return None
    others = [step for step in program.steps if not isinstance(step, NativeStep)]
    driven = [step for step in others if step.kernel is None]
    if any(step.control is None for step in driven) or (may_flow and _may_flow(others)):
        return None
    inputs, outputs = [*program.inputs.values()], [*program.outputs.values()]
    if learns:
        straight = laid(program, inputs, outputs, is_known=False)
    else:
        bounds = {step: step.bound(run) for step in native}
        if sum(bound.nanoseconds for bound in bounds.values()) > nanoseconds:
            return None
        straight = Straight(inputs, program.constants)
        for step in program.steps:
            if isinstance(step, NativeStep):
                straight.entry(*entry_of(step, bounds[step]), step)
            else:
                straight.step(step, program.constants, is_known=False)
    way = straight.made(outputs)
    trusted = read_by_code(program)
    looks = [_look(v, feeds[name], trusted) for name, v in program.inputs.items()]
    kernels = [step.kernel for step in program.steps if step.way is None]
    may_warn = any(kernel.may_warn for kernel in kernels if kernel is not None) or any(
        nodes_may_warn(step.control.node) for step in driven if step.control is not None
    )
    copied = _copied(program)
    return ChainCall(way, looks, copied, run, may_warn=may_warn, may_last=bool(driven))


def _may_learn(native: Sequence[NativeStep], feeds: Mapping[str, Any]) -> bool:
    """Whether steps that learn extents may stand among kernels: of texts, and if that is little."""
    arrays = [feed for feed in feeds.values() if type(feed) is np.ndarray]
    is_little = any(a.dtype == object for a in arrays) and sum(a.size for a in arrays) <= FEW
    return is_little and all(step.tells_its_extents for step in native)


def read_by_code(program: Program) -> set[str]:
    """The inputs that only machine code for texts reads, which looks at each of them."""
    found = set()
    for name, value in program.inputs.items():
        readers = [step for step in program.steps if value in step.reads]
        is_read = all(step.code is not None and step.way is not None for step in readers)
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


class _ListLook:
    """What a sequence has to be, or what may be missing: of arrays of a type."""

    def __init__(self, name: str, elem: TensorType) -> None:
        self.name, self.dtype = name, None if elem.dtype is None else elem.dtype.numpy
        self.rank = None if elem.shape is None else len(elem.shape)
        self.fixed = [(a, d) for a, d in enumerate(elem.shape or ()) if isinstance(d, int)]
        """Axes whose extents are declared."""

    def fits(self, feed: Any) -> bool:
        """Whether it is that."""
        if feed is None or type(feed) is not list:
            return False
        for array in feed:
            if type(array) is not np.ndarray or array.dtype != self.dtype:
                return False
            if self.rank not in {None, array.ndim}:
                return False
            if self.fixed and any(array.shape[axis] != extent for axis, extent in self.fixed):
                return False
        if self.dtype != object:
            return True
        if self.rank != 0:
            return all(map(are_texts, feed))
        return are_texts(np.fromiter([x.item() for x in feed], object, len(feed)))


class _MissingLook:
    """A feed that is missing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fits(self, feed: Any) -> bool:
        """Whether it is that."""
        return feed is None


def _look(value: Value, feed: Any, trusted: Collection[str]) -> _Looking:
    """What a feed has to be to be like ``feed``."""
    if feed is None:
        return _MissingLook(value.name)
    if type(feed) is list:
        return _ListLook(value.name, element_type(value))
    if type(feed) is dict:
        return _MapLook(value.name, feed)
    return _Look(value.name, feed, is_trusted=value.name in trusted)


def element_type(value: Value) -> TensorType:
    """The type of the arrays that a sequence, which may be missing, holds.

    Raises NotAsCompiled where there is none.
    """
    type_ = value.type.elem if isinstance(value.type, OptionalType) else value.type
    elem = type_.elem if isinstance(type_, SequenceType) else None
    if not isinstance(elem, TensorType):
        raise NotAsCompiled(f"'{value.name}' holds more than a look can tell")
    return elem


def _kinds(feed: dict[Any, Any]) -> tuple[set[type], set[type]]:
    return set(map(type, feed)), set(map(type, feed.values()))


def _may_flow(steps: Sequence[Step]) -> bool:
    """Whether ``steps`` are control flow, which may become one native call with machine code."""
    from fornix.runtime.control.draws import is_written  # noqa: PLC0415 - of control flow

    has_flow = any(step.control is not None for step in steps)
    return has_flow and all(step.control is not None or is_written(step.single) for step in steps)


def _copied(program: Program) -> list[bool]:
    """Which results have to be copied to be the caller's own."""
    makers = [s for s in program.steps if s.owns_results or isinstance(s.way, OwnWay)]
    own = {v for step in makers for v in step.writes}
    found = []
    for value in program.outputs.values():
        found.append(value not in own)
        own.discard(value)  # a second time it has to be another array
    return found
