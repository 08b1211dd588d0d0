"""Short ways through control flow: for a whole program, and for a node between other steps.

Decides when a `Flow` is made, for values of which types, and with how much memory. A node of which
nobody knows ahead what it reads gets one for the extents that it meets, as bodies get programs.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.forks import tell
from fornix.ir.graph import Value
from fornix.runtime.control.bodies import Family
from fornix.runtime.control.draws import is_written
from fornix.runtime.control.flow import Flow
from fornix.runtime.control.places import Budget, Fed
from fornix.runtime.memory import ALIGNMENT, size_class
from fornix.runtime.native import MAX_FRAMES, NativeStep
from fornix.runtime.providers import NotAsCompiled, Run, Step
from fornix.runtime.shortcuts.generic import ArrayType, ShortWay, array_type
from fornix.runtime.stored.inner import BodyPlace, Form

if TYPE_CHECKING:
    from fornix.runtime.program import Program

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

BUDGET = 1 << 20
"""Bytes for each result of a loop that may end early, at first."""
LATE = 1 << 16
"""Bytes for values whose sizes only a run tells, at first."""
MAX_BUDGET = 1 << 30
"""Of either at most."""
MAX_ENTRIES = 1 << 18
"""Elements of a list that is fed, up to which it is read within a call: each takes 80 bytes."""
WIDENINGS = 8
"""How often a call is repeated with more memory before it is left to others."""
TRIALS = 8
"""Runs without a way after which one is looked for again in the second run, the third, the
fifth, and so on."""
DOUBLINGS = 10
"""How often the number of runs between two looks is doubled."""


class FlowWay:
    """Arrays to the outputs of some steps, by callers at the same time."""

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[tuple[Value, ArrayType | Fed]],
        outputs: Sequence[Value],
        *,
        is_wary: bool = False,
    ) -> None:
        """Raises NotAsCompiled if there is none.

        One that ``is_wary`` takes extents that are carried, or in bodies told by data, for equal
        only where that is known.
        """
        self._parts = steps, inputs, outputs
        self._budget = Budget(ALIGNMENT, BUDGET, LATE, is_wary=is_wary)
        self._wary: FlowWay | None = None
        """What does it instead once extents were seen to change that were taken for equal."""
        self._may_be_wary = not is_wary
        self._flows = deque([self._flow()])

    def _flow(self) -> Flow:
        return Flow(*self._parts, self._budget)

    def __call__(self, arrays: list[Any], flag: ctypes.c_int64 | None = None) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way, or ``flag`` is set."""
        if self._wary is not None:
            return self._wary(arrays, flag)
        try:
            flow = self._flows.pop()
        except IndexError:  # others are at work with all there are
            flow = self._flow()
        results = flow(arrays, flag)
        for _ in range(WIDENINGS):
            if results is not None or not self._widened(flow):
                break
            flow = self._flow()
            results = flow(arrays, flag)
        if results is None and flow.is_guessed and not (flag and flag.value):
            return self._warily(arrays, flag)
        if len(self._flows) < MAX_FRAMES and flow.budget == self._budget:
            self._flows.append(flow)
        return results

    def _warily(self, arrays: list[Any], flag: ctypes.c_int64 | None) -> list[Any] | None:
        """The outputs, if it is that which ended a call; whether it is, is asked once."""
        if not self._may_be_wary:
            return None
        self._may_be_wary = False
        try:
            other = FlowWay(*self._parts, is_wary=True)
        except (NotAsCompiled, FornixError):
            return None
        results = other(arrays, flag)
        if results is not None:
            self._wary = other
        return results

    def _widened(self, flow: Flow) -> bool:
        """Whether there is to be more memory than ``flow`` had."""
        budget = self._budget
        if flow.budget != budget:  # another caller has seen to it
            return True
        if flow.lacks_entries > MAX_ENTRIES:
            return False
        if flow.lacks_entries:
            self._budget = budget._replace(entries=size_class(2 * flow.lacks_entries))
        elif flow.lacks:
            self._budget = budget._replace(block=size_class(2 * flow.lacks))
        elif flow.lacks_rows and budget.rows < MAX_BUDGET:
            self._budget = budget._replace(rows=min(8 * budget.rows, MAX_BUDGET))
        elif flow.lacks_late and budget.late < MAX_BUDGET:
            self._budget = budget._replace(late=min(8 * budget.late, MAX_BUDGET))
        else:
            return False
        self._flows.clear()
        return True


class ProgramFlow:
    """Feeds to the results of a program."""

    def __init__(self, program: Program) -> None:
        """Raises NotAsCompiled if it has steps that are neither machine code nor control flow."""
        inputs = [(v, Fed.of(v.type) or array_type(v)) for v in program.inputs.values()]
        outputs = list(program.outputs.values())
        self._way = FlowWay(program.steps, inputs, outputs)
        self._names, self._files = list(program.inputs), program.files
        self._lists = [k for k, (_, type_) in enumerate(inputs) if isinstance(type_, Fed)]

    def __call__(
        self, feeds: Mapping[str, Any], flag: ctypes.c_int64 | None = None
    ) -> list[Any] | None:
        """The results; None if they have to be computed the long way, or ``flag`` is set."""
        for file in self._files:
            file.check()
        try:
            given = [feeds[name] for name in self._names]
        except KeyError:
            return None
        for place in self._lists:  # others may take arrays out of theirs while the GIL is released
            if type(given[place]) is list:
                given[place] = given[place].copy()
        return self._way(given, flag)


class LearningFlow:
    """Feeds to the results of native steps of which some learn what others compute."""

    def __init__(self, program: Program) -> None:
        """Raises NotAsCompiled if there are others, or nothing to learn."""
        steps = [step for step in program.steps if isinstance(step, NativeStep)]
        outputs = list(program.outputs.values())
        written = {value for step in steps for value in step.writes}
        if len(steps) < len(program.steps) or all(step.learned is None for step in steps):
            raise NotAsCompiled("there is nothing to learn, or more than machine code")
        if not {*outputs} <= written or len({*outputs}) < len(outputs):
            raise NotAsCompiled("a call gives what its steps write, and each result once")
        self._way = ShortWay(steps, inputs=list(program.inputs.values()), outputs=outputs)
        self._way.open()
        self._names, self._files = list(program.inputs), program.files

    def __call__(
        self,
        feeds: Mapping[str, Any],
        flag: ctypes.c_int64 | None = None,  # noqa: ARG002 - it is over before anybody ends it
    ) -> list[Any] | None:
        """The results; None if they have to be computed the long way."""
        for file in self._files:
            file.check()
        try:
            return self._way([feeds[name] for name in self._names])
        except KeyError:
            return None


def program_flow(program: Program) -> ProgramFlow | LearningFlow | None:
    """The call of ``program``, if there is one."""
    is_driven = any(step.control or is_written(step.single) for step in program.steps)
    try:
        return ProgramFlow(program) if is_driven else LearningFlow(program)
    except (NotAsCompiled, FornixError) as reason:
        log.debug("no call of the whole program: %s", reason)
        return None


class ControlWay:
    """A node with bodies: from its second run on what it meets for the second time is one call.

    So is what another process has met as often.
    """

    def __init__(self, step: Step, place: BodyPlace | None = None) -> None:
        """For which extents there are calls is kept at ``place``."""
        self.step, self.place = step, place
        self._families: dict[tuple[object, ...], Family[FlowWay]] = {}
        self._last: FlowWay | None = None
        self._in_vain = self._rest = 0
        """Runs in a row that found none, and how many of the next ones are not to look for any."""
        self.forget()
        tell(self)

    def forget(self) -> None:
        """In the child of a fork: whoever was making a way is not there."""
        self._lock = threading.RLock()

    def __call__(self, arrays: list[Any], run: Run) -> list[Any] | None:
        """What the step writes; None if its kernel has to do it."""
        if self._rest > 0:
            self._rest -= 1
            return None
        results = None if self._last is None else self._last(arrays, run.flag)
        if results is None and is_available():
            way = self._found(arrays)
            if way is not None and way is not self._last:
                self._last = way
                results = way(arrays, run.flag)
        self._in_vain = 0 if results is not None else self._in_vain + 1
        if self._in_vain >= TRIALS:
            self._rest = 1 << min(self._in_vain - TRIALS, DOUBLINGS)
        return results

    def _found(self, arrays: Sequence[Any]) -> FlowWay | None:
        """The way for ``arrays``; None the first time, and where there is none."""
        if any(type(array) is not np.ndarray for array in arrays):
            return None
        kinds = tuple([array.dtype for array in arrays])
        shapes = tuple([array.shape for array in arrays])
        with self._lock:
            key = (*kinds, *map(len, shapes))
            family = self._families.get(key)
            if family is None:
                kept = self.place.forms(key) if self.place else ()
                family = self._families[key] = Family(kept)
            return family.program(shapes, lambda form: self._way(key, kinds, form))

    def _way(
        self, key: Sequence[object], kinds: Sequence[np.dtype[Any]], form: Form
    ) -> FlowWay | None:
        """The way for arrays of these kinds and extents; the next process is told of it."""
        inputs = list(zip(self.step.reads, zip(form, kinds, strict=True), strict=True))
        try:
            made = FlowWay([self.step], inputs, self.step.writes)
            if self.place is not None:
                self.place.note(key, form)
            return made
        except (NotAsCompiled, FornixError) as reason:
            log.debug("%s: %s", self.step.writes[0].name, reason)
            return None
