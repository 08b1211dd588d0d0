"""Compiled units run one after the other: one native call for all of them.

Decides where their values lie and what is made once: for the extents of a run, and for a frame, the
memory of one run at a time. What a run does then is write the addresses of its
inputs and results into tables and start the driver.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fornix.compile import driver as words
from fornix.compile.support import Support
from fornix.compile.units import NativeUnit
from fornix.errors import FornixError
from fornix.ir.dim import DimLike
from fornix.ir.graph import Node, Value
from fornix.runtime.memory import (
    ALIGNMENT,
    aligned_bytes,
    readable,
    shared_results,
    size_class,
)
from fornix.runtime.packing import StoredData
from fornix.runtime.providers import NotAsCompiled, Placement, Run, Step, Unequal
from fornix.runtime.sizing.extents import Extents
from fornix.runtime.sizing.formulas import Evaluator
from fornix.runtime.sizing.learned import Learned
from fornix.runtime.sizing.sizes import Numbers, Sizes
from fornix.runtime.threads import Pool
from fornix.runtime.wiring import Wiring, types_of

if TYPE_CHECKING:
    from fornix.compile.entry import Entry
    from fornix.compile.program import Compiled
    from fornix.runtime.shortcuts.generic import ShortWay
    from fornix.runtime.targets import Targets

Array = np.ndarray[Any, np.dtype[Any]]

MAX_BOUND = 32
"""Sets of extents for which tables are kept."""
MAX_FRAMES = 4
"""Frames kept for callers at the same time."""
MAX_IDLE = 4
"""Sets of extents beside that of a run whose frames stay; memory of others serves new ones."""
KEPT_BYTES = 256 << 20
"""Memory for runs up to which that of extents which are not in use stays."""
WORTH_SHARING, WORTH_HELP = 60_000, 20_000
"""Nanoseconds of a run, from which on waking another thread pays, and from which on one that is
awake helps: to start and end together takes about 2,000."""
WORTH_MEASURING = 500_000
"""Nanoseconds below which runs are measured, as guesses may be four times too high."""
TRIALS, ALONE = 6, 3
"""Runs that are measured, and how many of them, the last ones, one thread does."""
HANDOVER = 1_500
"""Nanoseconds that a kernel takes longer, at most, if threads share it: they wait for each other,
and for what caches of others hold."""
PIECE = 4_000
"""Nanoseconds of work in a piece of a kernel at least: taking one costs 100 to 200."""
SHORT_PIECE = 1_000
"""The same up to one piece for each thread, in a run that threads share: what one of them alone
has written comes to the others' caches line by line, 50 KB in 8,000."""
SHARED_STEP = 2_000
"""Nanoseconds of work in a step at least that threads share, of which each waits for the other."""
PIECES = 16
"""Pieces of a kernel for each thread at most; the last ones even out who began when."""
FEW_UNITS = 4
"""Units of a step up to which its short way is made at once: that takes no longer than the long way
does, which most such steps then never go."""
OPERATIONS_PER_NANOSECOND, BYTES_PER_NANOSECOND = 50, 30
"""What a thread does, roughly: guesses that decide about pieces, never about results."""

Drive: TypeAlias = "Callable[[Frame, Bound], int]"
Pairs: TypeAlias = Sequence[tuple[DimLike, DimLike]]


class NativeStep(Step):
    """Units in a row; values that nobody else reads lie in one block of memory."""

    owns_results = owns_data = True

    def __init__(
        self,
        units: Sequence[NativeUnit],
        interface: tuple[Sequence[Value], Sequence[Value]],
        data: StoredData,
        pool: Pool,
        support: Support,
        compiled: Compiled | None = None,
        agreement: tuple[Pairs, Pairs] | None = None,
    ) -> None:
        """``interface`` is what its kernels read and what it writes for others.

        Without ``compiled`` it is for the caller to say which extents the code is made for, where
        ``agreement``, the pairs of `conditions`, does not.
        """
        self.units = tuple(units)
        self.inputs, self.writes = map(tuple, interface)
        """What its kernels read, and what they write for others."""
        self.reads = self.inputs
        self.data = data
        self.stored = tuple(data.tables)
        self.pool = pool
        self.results = shared_results()
        self.support = support
        self.drive = support.drive
        self.compiled, self.agreement = compiled, agreement
        self.short: ShortWay | None = None
        """Takes runs of little work."""
        self._wiring: Wiring | None = None
        self._bound: OrderedDict[tuple[int, ...], Bound] = OrderedDict()

    def learn(self, learned: Learned) -> None:
        """Have symbols that it learns from what it reads, before it runs."""
        self.learned = learned
        self.reads = tuple(dict.fromkeys((*self.inputs, *learned.values)))

    def holds(self, run: Run) -> bool:
        if self.compiled is None or self.learned is not None:
            return True
        asked = self.conditions[-1]
        if self._agreement(run.extents) is None:
            asked = [node for unit in self.units for node in unit.unit.nodes]
        return self.compiled.holds(run.extents, asked)

    def is_known_to_hold(self, run: Run) -> bool:
        if self.learned is not None:
            return True  # it sees to that itself
        return self.tells_its_extents and self._agreement(run.extents) is not None

    @property
    def tells_its_extents(self) -> bool:
        """Whether `conditions` are known, and all that is asked of extents."""
        known = self.compiled is not None or self.agreement is not None
        return known and not self.conditions[-1]

    @cached_property
    def conditions(self) -> tuple[Pairs, Pairs, Sequence[Node]]:
        """What suffices of extents for the code, and the nodes that are to be asked beside it.

        Pairs of extents that are equal, and pairs of which the first is no less.
        """
        if self.compiled is None:
            return *(self.agreement or ((), ())), ()
        agreement, asked = self.compiled.conditions(self.units)
        return agreement.equal, agreement.reach, asked

    @cached_property
    def _agreement(self) -> Evaluator:
        """Computes something for extents that agree."""
        equal, reach, _ = self.conditions
        return Evaluator(self.support.machine, (), equal, reach)

    def placements(self) -> Iterator[Placement]:
        for unit in self.units:
            kernels = tuple(kernel.name for kernel in unit.code.kernels)
            for node in unit.unit.nodes:
                yield Placement(node.name, node.op_type, node.domain, kernels, "")

    def run(self, values: dict[Value, Any], run: Run) -> None:
        short = None if run.targets else self.short
        if short is not None:
            if len(self.units) <= FEW_UNITS:
                short.open()
            arrays = [values[v] for v in self.reads]
            if short.symbols:
                arrays.append(np.array([run.extents[name] for name in short.symbols], np.int64))
            results = short(arrays)
            if results is not None:
                values.update(zip(self.writes, results, strict=True))
                return
        nanoseconds = self.run_long(values, run)
        if short is not None and nanoseconds < WORTH_SHARING:
            short.open()

    def run_long(self, values: dict[Value, Any], run: Run) -> float:
        """Like `run`, whatever there is to do; about how many nanoseconds one thread takes."""
        told = self.informed(values, run)
        if told is None:
            self.run_kernels(values, run)
            return math.inf
        drive = self.drive_frame
        if run.is_ended is not None:
            drive = partial(self._drive_until, run.is_ended)
        self.run_with(values, told, drive)
        return self.bound(told).nanoseconds

    def informed(self, values: Mapping[Value, Any], run: Run) -> Run | None:
        """``run`` with what the step learns from ``values``; None if its code is not made for it.

        Raises NotAsCompiled where formulas do not tell that, Unequal where extents broadcast that
        were taken for equal.
        """
        if self.learned is None:
            return run
        found = self.learned.extents(values)
        if found is None:
            return None
        extents = {**run.extents, **found}
        if self._agreement(extents) is None:
            self._require_equal(extents)
            return None
        return replace(run, extents=extents, key=tuple(extents.values()))

    def _require_equal(self, extents: Mapping[str, int]) -> None:
        """Raise Unequal if one of two extents that are to be equal is 1, and the other is not."""
        number = Extents(extents)
        for one, other in self.conditions[0]:
            ends: set[int] = set()
            with suppress(NotAsCompiled, FornixError):  # where a divisor is 0
                ends = {number(one), number(other)}
            if 1 in ends and len(ends) > 1:
                raise Unequal(f"{one} and {other} are {sorted(ends)}")

    def run_kernels(self, values: dict[Value, Any], run: Run) -> None:
        """Like `run`, by NumPy kernels."""
        if self.learned is None:
            raise TypeError("only a step that learns has NumPy kernels of its own")
        try:
            made = self.learned.run(values, run)
        except (FornixError, KeyError) as error:
            # The model as it was given says what is wrong, and has values that no code needs.
            raise NotAsCompiled(str(error)) from error
        values.update((value, made[value]) for value in self.writes)

    def run_with(self, values: dict[Value, Any], run: Run, drive: Drive) -> None:
        """Like `run`, for what is `informed`; ``drive`` runs the kernels and gives their status."""
        bound = self.bound(run)
        frame = self.frame(bound)
        given = [self._input(values[v], v, bound) for v in self.inputs]
        frame.place(given, frame.slots)
        made = self.results_in(frame, bound, run.targets)
        status = drive(frame, bound)
        if len(bound.frames) < MAX_FRAMES:
            bound.frames.append(frame)
        if status:
            record, _ = bound.wiring.kernels[status >> words.CODE_BITS]
            raise NotAsCompiled(f"{record.name}: check {status & 0xFFFFFFFF} failed")
        values.update(zip(self.writes, made, strict=True))

    def results_in(self, frame: Frame, bound: Bound, targets: Targets | None = None) -> list[Array]:
        """Arrays for what the step writes, where ``frame`` says that kernels write it.

        New ones, or of ``targets`` those that fit.
        """
        made = [self._result(v, bound, targets) for v in self.writes]
        frame.place(made, frame.slots[len(self.inputs) :])
        return made

    def frame(self, bound: Bound) -> Frame:
        """Memory for a run: new, or that of extents which were not in use of late."""
        try:
            return bound.frames.pop()
        except IndexError:
            kept = bound.nbytes
        memory: Array | None = None
        others = [x for x in reversed(self.bounds.values()) if x is not bound and x.frames]
        for rank, other in enumerate(others):
            kept += other.nbytes * len(other.frames)
            if kept > KEPT_BYTES:
                other.frames.clear()
            elif rank >= MAX_IDLE:
                with suppress(IndexError):  # another thread has just taken it
                    memory = other.frames.pop().memory
        is_fit = memory is not None and bound.nbytes <= memory.size <= 2 * bound.nbytes
        return Frame(bound, memory if is_fit else None)

    def _result(self, value: Value, bound: Bound, targets: Targets | None) -> Array:
        shape, dtype = bound.types[value]
        target = targets.get(value.name) if targets else None
        if target is not None and target.shape == shape and target.dtype == dtype:
            return target
        return self.results.array(shape, dtype)

    def _input(self, array: Any, value: Value, bound: Bound) -> Array:
        shape, dtype = bound.types[value]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            found = getattr(array, "shape", type(array).__name__)
            raise NotAsCompiled(f"'{value.name}' was to be {dtype}{list(shape)}, is {found}")
        return readable(array)

    def drive_frame(self, frame: Frame, bound: Bound) -> int:
        """Run the kernels; the driver's status."""
        table, count, scratch, status = frame.program
        frame.status[0] = 0
        alone = partial(self.drive, table, count, scratch, words.ALONE, status)
        if self.is_alone(bound):
            return alone()
        if bound.trials <= 0:
            return self._drive_together(frame, bound)
        found = bound.measure(alone, partial(self._drive_together, frame, bound))
        if not bound.may_be_shared:
            frame.entry = None  # a new one runs the kernels itself
        return found

    def _drive_together(self, frame: Frame, bound: Bound) -> int:
        table, count, scratch, status = frame.program
        frame.records[:, words.TAKEN : words.DONE + 1] = 0
        self.pool.drive(self.support, (table, count, scratch, bound.scratch, status))
        return int(frame.status[0])

    def _drive_until(self, is_ended: Callable[[], bool], frame: Frame, bound: Bound) -> int:
        """Like `drive_frame`, kernel by kernel, up to the end that somebody wants."""
        frame.status[0] = 0
        frame.records[:, words.TAKEN : words.DONE + 1] = 0
        table, _, scratch, status = frame.program
        alone = self.is_alone(bound)
        failed: list[int] = []

        def work(index: int) -> None:
            own = scratch + index * bound.scratch
            for number in range(len(frame.records)):
                if is_ended() or frame.status[0]:
                    return
                record = table + number * words.RECORD_WORDS * 8
                if self.drive(record, 1, own, words.role(index, alone=alone), status):
                    failed.append(number)

        if alone:
            work(0)
        else:
            self.pool.run(work)
        return int(frame.status[0]) | (min(failed) << words.CODE_BITS if failed else 0)

    def is_alone(self, bound: Bound) -> bool:
        """Whether one thread does it all."""
        if not bound.may_be_shared or bound.taken >= WORTH_SHARING:
            return not bound.may_be_shared
        return not self.pool.is_at_hand()

    @property
    def wiring(self) -> Wiring:
        """What does not depend on extents."""
        if self._wiring is None:
            self._wiring = Wiring(self.units, (self.inputs, self.writes), self.data)
        return self._wiring

    def shrink(self) -> None:
        for bound in self.bounds.values():
            bound.frames.clear()

    @property
    def bounds(self) -> OrderedDict[tuple[int, ...], Bound]:
        """The step for extents of late, by their numbers; those of the last run come last."""
        return self._bound.copy()  # at one time: other threads change it

    @cached_property
    def types(self) -> Mapping[Value, tuple[tuple[DimLike, ...], np.dtype[Any]]]:
        """Of what units read and write: dims of its extents, and its element type."""
        sources = () if self.learned is None else self.learned.sources.values()
        return {source.value: (source.shape, source.dtype) for source in sources} | types_of(
            self.units
        )

    @cached_property
    def sizes(self) -> Sizes:
        """What extents decide."""
        return Sizes(self.wiring, self.support.machine)

    def bound(self, run: Run) -> Bound:
        """The step for the extents of ``run``."""
        bound = self._bound.get(run.key)
        if bound is not None:
            with suppress(KeyError):  # another thread has just removed it
                self._bound.move_to_end(run.key)
        else:
            bound = self._bound[run.key] = Bound(self, run.extents)
            while len(self._bound) > MAX_BOUND:
                self._bound.popitem(last=False)
        return bound


class Bound:
    """A step for the extents of a run: shapes, offsets and sizes of pieces as numbers."""

    def __init__(self, step: NativeStep, symbols: Mapping[str, int]) -> None:
        self.step = step
        self.wiring = wiring = step.wiring
        self.extent = Extents(symbols)
        self.frames: deque[Frame] = deque()
        numbers = step.sizes.numbers(symbols)
        wiring.pack(numbers.parallel.tolist())
        self.types = numbers.types
        """Of what the step reads and writes."""
        placement = step.sizes.placed(numbers.sizes, numbers.joined)
        self.block = -(-placement.size // ALIGNMENT) * ALIGNMENT
        self.offsets = placement.offsets[wiring.entries]
        """Of each argument that lies in the block, where."""
        self.symbols = np.array([*(symbols[name] for name in wiring.symbols), 0], np.int64)
        shares = [kernel.shares if kernel.shares > 1 else 0 for kernel, _ in wiring.kernels]
        self.shares = np.array(shares, np.int64)
        """Of kernels whose steps threads share, into how many pieces they cut one; 0: others."""
        nanoseconds, self.pieces = self._load(numbers)
        for unit in placement.joined:
            self.pieces[unit.kernels] = nanoseconds[unit.kernels] = 0
        """Into how many pieces threads cut each kernel; results do not depend on it.

        None of what copies parts to where they lie.
        """
        self.scratch = -(-int(numbers.scratch.max(initial=0)) // ALIGNMENT) * ALIGNMENT
        self.nbytes = self.block + self.scratch * step.pool.threads
        self.nanoseconds = float(nanoseconds.sum())
        """About how long one thread takes."""
        is_cut = step.pool.threads > 1 and self.pieces.max(initial=1) > 1
        self.may_be_shared = bool(is_cut) and self.nanoseconds >= min(WORTH_HELP, WORTH_SHARING)
        """Whether other threads help; where it is short, only if they are at hand."""
        self.taken, self._least = self.nanoseconds, [math.inf, math.inf]
        """How long one thread takes: as guessed, then as measured."""
        is_measured = self.may_be_shared and self.nanoseconds < WORTH_MEASURING
        self.trials = TRIALS if is_measured else 0
        """Runs until that is measured."""

    def measure(self, alone: Callable[[], int], together: Callable[[], int]) -> int:
        """The status of a run of one of the two; after the last it is decided if others help.

        They do not where the run takes longer with them and handing its kernels over may be why.
        """
        self.trials -= 1
        one = self.trials < ALONE
        start = time.perf_counter_ns()
        status = (alone if one else together)()
        self._least[one] = min(self._least[one], time.perf_counter_ns() - start)
        if self.trials <= 0 and not status:
            shared, self.taken = self._least
            is_long = self.taken >= 2 * HANDOVER * len(self.wiring.kernels)
            self.may_be_shared = is_long or shared < self.taken
        return status

    def _load(self, numbers: Numbers) -> tuple[Array, Array]:
        """About how many nanoseconds one thread takes for each kernel, and in how many pieces.

        Where data decide how long it takes, it is long.
        """
        most = PIECES * self.step.pool.threads
        nanoseconds = numbers.operations / OPERATIONS_PER_NANOSECOND
        nanoseconds += (numbers.read + numbers.written) / BYTES_PER_NANOSECOND
        nanoseconds[(numbers.operations == 0) & (numbers.written == 0)] = PIECE * most
        worth = np.minimum(nanoseconds / PIECE, most)
        if worth.max(initial=0) >= 2:
            worth = np.maximum(worth, np.minimum(nanoseconds / SHORT_PIECE, self.step.pool.threads))
        pieces = np.maximum(np.minimum(worth.astype(np.int64), numbers.parallel), 1)
        is_shared = (
            (self.shares > 0)
            & (numbers.parallel == 1)
            & (nanoseconds >= SHARED_STEP * numbers.steps)
        )
        if self.step.pool.threads > 1:
            pieces[is_shared] = (numbers.steps * self.shares)[is_shared]
        self.shares[pieces == 1] = 0
        return nanoseconds, pieces


class Frame:
    """Memory and tables for one run at a time."""

    def __init__(self, bound: Bound, memory: Array | None = None) -> None:
        """``memory`` has room for the values and everybody's scratch; without it, a new one has."""
        wiring = bound.wiring
        self.memory = aligned_bytes(size_class(bound.nbytes)) if memory is None else memory
        self.scratch = self.memory[bound.block :]
        self.status = np.zeros(1, np.int64)
        self.arguments = wiring.arguments.copy()
        self.arguments[wiring.inside] = self.memory.ctypes.data + bound.offsets
        self.symbols = bound.symbols  # the records point into it
        self.records = np.zeros((len(wiring.kernels), words.RECORD_WORDS), np.int64)
        self.records[:, words.FUNCTION] = wiring.functions
        self.records[:, words.ARGUMENTS] = self.arguments.ctypes.data + 8 * wiring.starts
        self.records[:, words.SYMBOLS] = self.symbols.ctypes.data + 8 * wiring.symbol_starts
        self.records[:, words.CHUNKS] = bound.pieces
        self.records[:, words.SHARES] = bound.shares
        self.slots = wiring.slots
        self.program = (
            self.records.ctypes.data, len(self.records), self.scratch.ctypes.data,
            self.status.ctypes.data,
        )  # fmt: skip
        """What the driver takes: records and their number, scratch memory, the status."""
        self.entry: Entry | None = None
        """What a short way calls with feeds, once there is one."""
        self.is_run = False
        """Whether that runs the kernels."""
        self.kept: list[object] = []
        """What that reads."""

    def place(self, arrays: Sequence[Array], slots: Sequence[Sequence[int]]) -> None:
        """Let kernels find each of ``arrays`` behind the arguments that ``slots`` number."""
        for array, own in zip(arrays, slots, strict=False):
            address = array.ctypes.data
            for slot in own:
                self.arguments[slot] = address
