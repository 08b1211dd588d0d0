"""Where the time of a run goes: kernel by kernel, and node by node where NumPy kernels run.

Decides what is measured and how: a profiled run does what an ordinary one does, in the same order
and on the same memory, but stops between kernels to read the clock. All threads go from kernel to
kernel together, so that nobody is woken in between. Ordinary runs know nothing of this.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fornix.compile.driver import DONE, RECORD_WORDS, TAKEN, role
from fornix.compile.kernel import CompiledKernel
from fornix.compile.peak import Peak, measure
from fornix.compile.program import memo
from fornix.compile.units import NativeUnit
from fornix.ir.buffer import Buffer
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.reference.plan import Plan
from fornix.runtime.native import Bound, Frame, NativeStep
from fornix.runtime.packing import is_prepared
from fornix.runtime.providers import KernelStep, Run, Step
from fornix.runtime.threads import Pool
from fornix.runtime.timeline import array_types

NUMPY, BODIES = "numpy", "bodies"
"""The kinds of what runs a NumPy kernel, and of one that drives bodies, which may be compiled."""
LIMIT_SECONDS = 30.0
"""Runs are not repeated beyond this."""


@dataclass(frozen=True)
class Span:
    """From ``begin``, in seconds since the first run began, for ``seconds``."""

    begin: float
    seconds: float


@dataclass
class Entry:
    """A kernel, or a node that has none."""

    name: str
    kind: str
    """How its loops run: "map", "row", "contraction" …; `NUMPY` or `BODIES` if none does."""
    nodes: tuple[Node, ...]
    read: tuple[TensorType, ...]
    """Of its arguments."""
    written: tuple[TensorType, ...]
    """Of its results."""
    stored: int
    """Bytes of arguments that are stored or packed data."""
    operations: int | None
    """Arithmetic operations; None where nobody counts them."""
    bytes: int
    """Bytes of arguments and results, each once."""
    reason: str = ""
    """Why a NumPy kernel runs."""
    spans: list[Span] = field(default_factory=list)
    """One for each run."""

    @property
    def types(self) -> tuple[str, ...]:
        """Of its results, as texts."""
        return tuple(map(str, self.written))

    @property
    def seconds(self) -> float:
        """The median."""
        return float(np.median([span.seconds for span in self.spans]))

    @property
    def is_numpy(self) -> bool:
        """Whether a NumPy kernel runs."""
        return self.kind == NUMPY


@dataclass
class Profile:
    """What some runs did, in order."""

    entries: list[Entry]
    runs: list[Span]
    """Whole runs."""
    threads: int

    @property
    def seconds(self) -> float:
        """The median of whole runs."""
        return float(np.median([span.seconds for span in self.runs]))


@dataclass(frozen=True)
class Prepared:
    """What a run consists of: steps, what they start from, and what goes after each."""

    steps: Sequence[Step]
    releases: Sequence[Sequence[Value]]
    values: Mapping[Value, Any]
    run: Run

    @staticmethod
    def of_plan(plan: Plan, feeds: Mapping[Value, Any]) -> Prepared:
        """A run of NumPy kernels alone."""
        reason = "the model runs on NumPy kernels"
        return Prepared(
            [KernelStep(step, plan, reason) for step in plan.steps],
            [step.release for step in plan.steps],
            {**plan.constants, **feeds},
            Run({}, ()),
        )


def profile(prepared: Prepared, repeats: int, threads: int) -> Profile:
    """The profile of ``repeats`` runs, after one that is not counted.

    There are fewer if they take long. Raises NotAsCompiled if NumPy kernels have to do it.
    """
    clock = time.perf_counter
    watch = _Watch(clock)
    with np.errstate(all="ignore"):
        watch.run(prepared)
        watch = _Watch(clock)
        while len(watch.runs) < repeats and clock() - watch.begin < LIMIT_SECONDS:
            watch.run(prepared)
    return Profile(watch.entries, watch.runs, threads)


def watched(prepared: Prepared) -> tuple[dict[Value, Any], list[Entry], float]:
    """One run: what is left of its values, its entries, and when it began by `perf_counter`."""
    watch = _Watch(time.perf_counter)
    with np.errstate(all="ignore"):
        values = watch.run(prepared)
    return values, watch.entries, watch.begin


def measured_peak(threads: int) -> Peak:
    """What ``threads`` threads of this machine can do at best."""
    return measure(threads, Pool(threads).run, memo().cache)


class _Watch:
    """Runs steps and notes how long each kernel takes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.begin = clock()
        self.entries: list[Entry] = []
        self.runs: list[Span] = []
        self._place = 0

    def run(self, prepared: Prepared) -> dict[Value, Any]:
        """Run the steps; the values that are left."""
        values = dict(prepared.values)
        self._place = 0
        start = self.clock()
        for step, release in zip(prepared.steps, prepared.releases, strict=True):
            prepared.run.check()
            told = step.informed(values, prepared.run) if isinstance(step, NativeStep) else None
            if isinstance(step, NativeStep) and told is not None:
                step.run_with(values, told, partial(self._drive, prepared.run.is_ended))
            else:
                before = self.clock()
                step.run(values, prepared.run)
                after = self.clock()
                if self._place == len(self.entries):
                    self.entries.append(_of_step(step, values))
                self._note(before, [after])
            for value in release:
                values.pop(value, None)
        prepared.run.check()
        self.runs.append(self._span(start, self.clock()))
        return values

    def _span(self, start: float, end: float) -> Span:
        return Span(start - self.begin, end - start)

    def _note(self, start: float, ends: Sequence[float]) -> None:
        """Add spans to the entries that come next."""
        for end in ends:
            self.entries[self._place].spans.append(self._span(start, end))
            self._place += 1
            start = end

    def _drive(self, is_ended: Callable[[], bool] | None, frame: Frame, bound: Bound) -> int:
        """Run the kernels of a native step one after the other; the status of the first failure."""
        step = bound.step
        table, count = frame.records.ctypes.data, len(frame.records)
        scratch, status = frame.scratch.ctypes.data, frame.status.ctypes.data
        alone = step.is_alone(bound)
        frame.records[:, TAKEN : DONE + 1] = 0
        frame.status[0] = 0
        ends: list[float] = []

        def work(index: int) -> None:
            own = scratch + index * bound.scratch
            for number in range(count):
                if is_ended is not None and is_ended():
                    return
                step.drive(
                    table + number * RECORD_WORDS * 8, 1, own, role(index, alone=alone), status
                )
                if index == 0:
                    ends.append(self.clock())

        start = self.clock()
        if alone:
            work(0)
        else:
            step.pool.run(work)
        if self._place == len(self.entries):
            self.entries += _of_kernels(bound)
        self._note(start, ends)
        return int(frame.status[0])


def _of_step(step: Step, values: Mapping[Value, Any]) -> Entry:
    """The entry of a step that is not native."""
    nodes = (step.planned.node,) if isinstance(step, KernelStep) else ()
    read, written = ([values.get(v) for v in vs] for vs in (step.reads, step.writes))
    arrays = [x for x in (*read, *written) if isinstance(x, np.ndarray)]
    placements = list(step.placements())
    return Entry(
        name="+".join(place.op_type for place in placements) or type(step).__name__,
        kind=_kind(nodes, step),
        nodes=nodes,
        read=array_types(read),
        written=array_types(written),
        stored=sum(
            value.constant.nbytes
            for node in nodes
            for value in node.inputs
            if value is not None and value.constant is not None
        ),
        operations=None,
        bytes=sum(x.nbytes for x in arrays),
        reason=next((place.reason for place in placements), ""),
    )


def _kind(nodes: tuple[Node, ...], step: Step) -> str:
    if not nodes:
        return type(step).__name__
    return BODIES if any(node.graphs for node in nodes) else NUMPY


def _of_kernels(bound: Bound) -> Iterator[Entry]:
    """The entries of the kernels of a native step."""
    for kernel, unit in bound.wiring.kernels:
        work = kernel.work
        yield Entry(
            name=kernel.name,
            kind=kernel.schedule,
            nodes=unit.unit.nodes,
            read=tuple(_types(_read(kernel), bound)),
            written=tuple(_types(kernel.outputs, bound)),
            stored=sum(_nbytes(b, bound) for b in _read(kernel) if _is_stored(b, unit)),
            operations=bound.extent(work.operations),
            bytes=bound.extent(work.read) + bound.extent(work.written),
        )


def _read(kernel: CompiledKernel) -> list[Buffer]:
    return [buffer for buffer in kernel.arguments if buffer not in kernel.outputs]


def _types(buffers: Iterable[Buffer], bound: Bound) -> Iterator[TensorType]:
    for buffer in buffers:
        yield TensorType(buffer.dtype, tuple(map(bound.extent, buffer.shape)))


def _nbytes(buffer: Buffer, bound: Bound) -> int:
    return math.prod(map(bound.extent, buffer.shape)) * buffer.dtype.numpy.itemsize


def _is_stored(buffer: Buffer, unit: NativeUnit) -> bool:
    """Whether ``buffer`` holds stored data, or what was packed of them."""
    code = unit.code
    if buffer in code.inputs:
        return unit.unit.inputs[code.inputs[buffer]].constant is not None
    packs = (kernel for kernel in code.kernels if is_prepared(code, kernel))
    return buffer in code.tables or any(buffer in kernel.outputs for kernel in packs)
