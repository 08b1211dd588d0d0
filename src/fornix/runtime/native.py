"""Compiled units run one after the other: one native call for all of them.

Decides where their values lie and what is made once: for the extents of a run, and for a frame, the
memory of one run at a time. What a run does then is write the addresses of its
inputs and results into tables and start the driver.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fornix.compile import driver as words
from fornix.compile.kernel import CompiledKernel
from fornix.compile.support import Support
from fornix.compile.units import NativeUnit
from fornix.ir.graph import Value
from fornix.ir.loops import Buffer
from fornix.runtime.extents import Extents
from fornix.runtime.memory import (
    ALIGNMENT,
    Lifetime,
    aligned_bytes,
    place,
    readable,
    shared_results,
    size_class,
)
from fornix.runtime.packing import StoredData, is_prepared
from fornix.runtime.providers import NotAsCompiled, Placement, Run, Step
from fornix.runtime.threads import Pool

if TYPE_CHECKING:
    from fornix.compile.program import Compiled

Array = np.ndarray[Any, np.dtype[Any]]

MAX_BOUND = 32
"""Sets of extents for which tables are kept."""
MAX_FRAMES = 4
"""Frames kept for callers at the same time."""
MAX_IDLE = 4
"""Sets of extents beside that of a run whose frames stay; memory of others serves new ones."""
KEPT_BYTES = 256 << 20
"""Memory for runs up to which that of extents which are not in use stays."""
WORTH_SHARING = 60_000
"""Nanoseconds of a run, from which on waking another thread pays."""
PIECE = 4_000
"""Nanoseconds of work in a piece of a kernel at least: taking one costs 100 to 200."""
PIECES = 16
"""Pieces of a kernel for each thread at most; the last ones even out who began when."""
OPERATIONS_PER_NANOSECOND, BYTES_PER_NANOSECOND = 50, 30
"""What a thread does, roughly: guesses that decide about pieces, never about results."""

Drive: TypeAlias = "Callable[[Frame, Bound], int]"


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
    ) -> None:
        """``interface`` is what it reads and what it writes for others.

        Without ``compiled`` it is for the caller to say which extents the code is made for.
        """
        self.units = tuple(units)
        self.reads, self.writes = map(tuple, interface)
        self.data = data
        self.stored = tuple(data.tables)
        self.pool = pool
        self.results = shared_results()
        self.support = support
        self.drive = support.drive
        self.compiled = compiled
        self._bound: OrderedDict[tuple[int, ...], Bound] = OrderedDict()

    def holds(self, run: Run) -> bool:
        return self.compiled is None or self.compiled.holds(run.extents, self.units)

    def placements(self) -> Iterator[Placement]:
        for unit in self.units:
            kernels = tuple(kernel.name for kernel in unit.code.kernels)
            for node in unit.unit.nodes:
                yield Placement(node.name, node.op_type, node.domain, kernels, "")

    def run(self, values: dict[Value, Any], run: Run) -> None:
        if run.is_ended is None:
            self.run_with(values, run, self._drive)
        else:
            self.run_with(values, run, partial(self._drive_until, run.is_ended))

    def run_with(self, values: dict[Value, Any], run: Run, drive: Drive) -> None:
        """Like `run`; ``drive`` runs the kernels, and gives what the driver's status says."""
        bound = self.bound(run)
        frame = self._frame(bound)
        given = [self._input(values[v], v, bound) for v in self.reads]
        made = [self.results.array(*bound.types[v]) for v in self.writes]
        for array, slots in zip((*given, *made), frame.slots, strict=True):
            address = array.ctypes.data
            for slot in slots:
                frame.arguments[slot] = address
        status = drive(frame, bound)
        if len(bound.frames) < MAX_FRAMES:
            bound.frames.append(frame)
        if status:
            record = bound.records[status >> words.CODE_BITS][0]
            raise NotAsCompiled(f"{record.name}: check {status & 0xFFFFFFFF} failed")
        values.update(zip(self.writes, made, strict=True))

    def _frame(self, bound: Bound) -> Frame:
        """Memory for a run: new, or that of extents which were not in use of late."""
        try:
            return bound.frames.pop()
        except IndexError:
            kept = bound.nbytes
        memory: Array | None = None
        others = [x for x in reversed(list(self._bound.values())) if x is not bound and x.frames]
        for rank, other in enumerate(others):
            kept += other.nbytes * len(other.frames)
            if kept > KEPT_BYTES:
                other.frames.clear()
            elif rank >= MAX_IDLE:
                with suppress(IndexError):  # another thread has just taken it
                    memory = other.frames.pop().memory
        is_fit = memory is not None and bound.nbytes <= memory.size <= 2 * bound.nbytes
        return Frame(bound, memory if is_fit else None)

    def _input(self, array: Any, value: Value, bound: Bound) -> Array:
        shape, dtype = bound.types[value]
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            found = getattr(array, "shape", type(array).__name__)
            raise NotAsCompiled(f"'{value.name}' was to be {dtype}{list(shape)}, is {found}")
        return readable(array)

    def _drive(self, frame: Frame, bound: Bound) -> int:
        """Run the kernels; the driver's status."""
        table, count = frame.records.ctypes.data, len(bound.records)
        status = frame.status.ctypes.data
        frame.status[0] = 0
        scratch = frame.scratch.ctypes.data
        if self.is_alone(bound):
            return self.drive(table, count, scratch, 1, status)
        frame.records[:, words.TAKEN : words.DONE + 1] = 0
        self.pool.drive(self.support, (table, count, scratch, bound.scratch, status))
        return int(frame.status[0])

    def _drive_until(self, is_ended: Callable[[], bool], frame: Frame, bound: Bound) -> int:
        """Like `_drive`, kernel by kernel, up to the end that somebody wants."""
        frame.status[0] = 0
        frame.records[:, words.TAKEN : words.DONE + 1] = 0
        table, status = frame.records.ctypes.data, frame.status.ctypes.data
        alone = self.is_alone(bound)
        failed: list[int] = []

        def work(index: int) -> None:
            scratch = frame.scratch.ctypes.data + index * bound.scratch
            for number in range(len(bound.records)):
                if is_ended() or frame.status[0]:
                    return
                record = table + number * words.RECORD_WORDS * 8
                if self.drive(record, 1, scratch, int(alone), status):
                    failed.append(number)

        if alone:
            work(0)
        else:
            self.pool.run(work)
        return int(frame.status[0]) | (min(failed) << words.CODE_BITS if failed else 0)

    def is_alone(self, bound: Bound) -> bool:
        """Whether one thread does it all."""
        return not bound.is_worth_sharing or self.pool.threads == 1

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
        extent = Extents(symbols)
        self.types: dict[Value, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.extent = extent
        self.records: list[tuple[CompiledKernel, Array, int]] = []
        self.units: list[NativeUnit] = []
        """For each kernel, the unit that it belongs to."""
        self.homes: list[list[object]] = []
        """For each kernel, what lies behind each of its arguments: a value, a table, an offset."""
        self.frames: deque[Frame] = deque()
        self.nanoseconds = 0.0
        """About how long one thread takes."""
        self._temporaries: dict[tuple[int, Buffer], int] = {}
        for unit in step.units:
            for buffers, own in (
                (unit.code.inputs, unit.unit.inputs),
                (unit.code.outputs, unit.unit.outputs),
            ):
                for buffer, index in buffers.items():
                    shape = tuple(map(extent, buffer.shape))
                    self.types[own[index]] = shape, buffer.dtype.numpy
        offsets = self._offsets(extent)
        for number, unit in enumerate(step.units):
            for kernel in unit.code.kernels:
                if is_prepared(unit.code, kernel):
                    continue
                syms = np.array([symbols[name] for name in kernel.symbols] or [0], np.int64)
                nanoseconds = self._nanoseconds(kernel)
                self.nanoseconds += nanoseconds
                self.records.append((kernel, syms, self._pieces(kernel, nanoseconds)))
                self.units.append(unit)
                self.homes.append(
                    [self._home(unit, number, buffer, offsets) for buffer in kernel.arguments]
                )
        scratch = max((extent(kernel.scratch) for kernel, _, _ in self.records), default=0)
        self.scratch = -(-scratch // ALIGNMENT) * ALIGNMENT
        self.nbytes = self.block + self.scratch * step.pool.threads
        self.is_worth_sharing = self.nanoseconds >= WORTH_SHARING and any(
            n > 1 for _, _, n in self.records
        )

    def _pieces(self, kernel: CompiledKernel, nanoseconds: float) -> int:
        """Into how many pieces threads cut ``kernel``; results do not depend on it."""
        most = min(self.extent(kernel.parallel), PIECES * self.step.pool.threads)
        return max(1, min(most, int(nanoseconds / PIECE)))

    def _nanoseconds(self, kernel: CompiledKernel) -> float:
        """About how long one thread takes; where data decide that, long."""
        work = kernel.work
        operations, read, written = map(self.extent, (work.operations, work.read, work.written))
        if not (operations or written):
            return PIECE * PIECES * self.step.pool.threads
        return operations / OPERATIONS_PER_NANOSECOND + (read + written) / BYTES_PER_NANOSECOND

    def _offsets(self, extent: Extents) -> dict[object, int]:
        """Where in the block each value lies that only this step reads, and each temporary."""
        step = self.step
        keep = {*step.writes, *step.reads, *step.data.tables}
        first: dict[object, int] = {}
        last: dict[object, int] = {}
        sizes: dict[object, int] = {}
        for number, unit in enumerate(step.units):
            for value in (*unit.unit.inputs, *unit.unit.outputs):
                if value not in keep:
                    shape, dtype = self.types[value]
                    sizes[value] = math.prod(shape) * dtype.itemsize
                    first.setdefault(value, number)
                    last[value] = number
            for buffer in unit.code.temporaries:
                key = (number, buffer)
                if key in step.data.prepared:
                    continue
                sizes[key] = max(1, extent(buffer.elements)) * buffer.dtype.numpy.itemsize
                first[key] = last[key] = number
        spans = [Lifetime(sizes[key], first[key], last[key]) for key in sizes]
        offsets, size = place(spans)
        self.block = -(-size // ALIGNMENT) * ALIGNMENT
        return dict(zip(sizes, offsets, strict=True))

    def _home(
        self, unit: NativeUnit, number: int, buffer: Buffer, offsets: Mapping[object, int]
    ) -> object:
        code = unit.code
        if buffer in code.tables:
            return readable(code.tables[buffer])
        data = self.step.data
        if (number, buffer) in data.prepared:
            return data.prepared[number, buffer]
        if buffer in code.inputs or buffer in code.outputs:
            own, index = (
                (unit.unit.inputs, code.inputs[buffer])
                if buffer in code.inputs
                else (unit.unit.outputs, code.outputs[buffer])
            )
            value = own[index]
            if value in data.tables:
                return data.tables[value]
            return offsets.get(value, value)
        return offsets[number, buffer]


class Frame:
    """Memory and tables for one run at a time."""

    def __init__(self, bound: Bound, memory: Array | None = None) -> None:
        """``memory`` has room for the values and everybody's scratch; without it, a new one has."""
        step = bound.step
        self.memory = aligned_bytes(size_class(bound.nbytes)) if memory is None else memory
        self.scratch = self.memory[bound.block :]
        self.status = np.zeros(1, np.int64)
        count = sum(map(len, bound.homes))
        self.arguments = np.zeros(max(count, 1), np.int64)
        self.records = np.zeros((len(bound.records), words.RECORD_WORDS), np.int64)
        self.kept: list[Array] = []
        places: dict[Value, list[int]] = {v: [] for v in (*step.reads, *step.writes)}
        slot = 0
        base = self.memory.ctypes.data
        for row, (kernel, syms, chunks), homes in zip(
            self.records, bound.records, bound.homes, strict=True
        ):
            row[words.FUNCTION] = kernel.address
            row[words.ARGUMENTS] = self.arguments.ctypes.data + 8 * slot
            row[words.SYMBOLS] = syms.ctypes.data
            row[words.CHUNKS] = chunks
            for home in homes:
                if isinstance(home, int):
                    self.arguments[slot] = base + home
                elif isinstance(home, np.ndarray):
                    self.arguments[slot] = home.ctypes.data
                elif isinstance(home, Value):
                    places[home].append(slot)
                slot += 1
        self.slots = list(places.values())
