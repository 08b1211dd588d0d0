"""Where the time of a run goes: kernel by kernel, and node by node where NumPy kernels run.

Decides what is measured and how: a profiled run does what an ordinary one does, in the same order
and on the same memory, but stops between kernels to read the clock. All threads go from kernel to
kernel together, so that nobody is woken in between. Ordinary runs know nothing of this. What bodies
of control flow do is measured in a run of its own, in which Python drives them kernel by kernel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from fornix.compile.driver import DONE, RECORD_WORDS, TAKEN, role
from fornix.compile.kernel import CompiledKernel
from fornix.compile.peak import Peak, measure
from fornix.compile.program import memo
from fornix.compile.units import NativeUnit
from fornix.ir.buffer import Buffer
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.nesting import fed_inputs
from fornix.ir.types import TensorType
from fornix.reference.plan import Body, Plan
from fornix.reference.plan import Step as PlannedNode
from fornix.reference.scope import Environment
from fornix.runtime.control.bodies import CompiledBody
from fornix.runtime.native import Bound, Frame, NativeStep
from fornix.runtime.packing import is_prepared
from fornix.runtime.program import Program
from fornix.runtime.providers import KernelStep, NotAsCompiled, Run, Step
from fornix.runtime.reports.timeline import array_types
from fornix.runtime.threads import Pool

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
    """Bytes of arguments and results, each once; 0 where there was nothing to do."""
    reason: str = ""
    """Why a NumPy kernel runs."""
    spans: list[Span] = field(default_factory=list)
    """One for each run, or for each time that a body ran."""
    path: tuple[str, ...] = ()
    """The nodes around it, the outermost first, if it is in a body."""

    @property
    def types(self) -> tuple[str, ...]:
        """Of its results, as texts."""
        return tuple(map(str, self.written))

    @property
    def seconds(self) -> float:
        """The median."""
        return float(np.median([span.seconds for span in self.spans]))

    @property
    def total(self) -> float:
        """The seconds of all spans: those of one run, if it is in a body."""
        return sum(span.seconds for span in self.spans)

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
    inside: list[Entry] = field(default_factory=list)
    """What ran in bodies in one more run; their time is part of that of the nodes around them."""

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
        inner = _Watch(clock, watch.begin, looks_inside=True)
        if any(isinstance(step, KernelStep) and step.control for step in prepared.steps):
            inner.run(prepared)
    return Profile(watch.entries, watch.runs, threads, list(inner.inside(())))


def watched(prepared: Prepared) -> tuple[dict[Value, Any], list[Entry], float]:
    """One run: what is left of its values, its entries, and when it began by `perf_counter`.

    Those of bodies, too: so nodes with bodies take longer than in other runs.
    """
    watch = _Watch(time.perf_counter, looks_inside=True)
    with np.errstate(all="ignore"):
        values = watch.run(prepared)
    return values, [*watch.entries, *watch.inside(())], watch.begin


def measured_peak(threads: int) -> Peak:
    """What ``threads`` threads of this machine can do at best."""
    return measure(threads, Pool(threads).run, memo().cache)


class _Watch:
    """Runs steps and notes how long each kernel takes."""

    def __init__(
        self,
        clock: Callable[[], float],
        begin: float | None = None,
        *,
        looks_inside: bool = False,
    ) -> None:
        """Times count from ``begin``, or from now on."""
        self.clock = clock
        self.begin = clock() if begin is None else begin
        self.looks_inside = looks_inside
        self.entries: list[Entry] = []
        self.runs: list[Span] = []
        self._place = 0
        self._steps: dict[KernelStep, PlannedNode] = {}
        self._inner: dict[tuple[Node, object], _Watch] = {}
        """By node, and by what runs in its bodies: a program, or a graph on NumPy kernels."""

    def inside(self, path: tuple[str, ...]) -> Iterator[Entry]:
        """The entries of what ran in bodies, in the nodes called so by ``path``."""
        for (node, _), watch in self._inner.items():
            around = (*path, node.name or node.op_type)
            for entry in watch.entries:
                entry.path = around
                yield entry
            yield from watch.inside(around)

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
                if self.looks_inside and isinstance(step, KernelStep) and step.control:
                    self._look_inside(step, values, prepared.run)
                else:
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

    def _look_inside(self, step: KernelStep, values: dict[Value, Any], run: Run) -> None:
        """Run a node with bodies, these kernel by kernel."""
        node, plan = step.planned.node, step.plan
        if step not in self._steps:
            own = partial(_WatchedBody, self, node, run)
            self._steps[step] = plan.step_with(node, own)
        plan.evaluate(self._steps[step], values)

    def of(self, node: Node, what: object) -> _Watch:
        """Who watches ``what`` runs in a body of ``node``."""
        if (node, what) not in self._inner:
            self._inner[node, what] = _Watch(self.clock, self.begin, looks_inside=True)
        return self._inner[node, what]

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


class _WatchedBody:
    """A body that is run kernel by kernel, by whoever would run it otherwise."""

    def __init__(self, watch: _Watch, node: Node, run: Run, graph: Graph, body: Body) -> None:
        self.watch, self.node, self.graph, self.body = watch, node, graph, body
        self.run_of_node = run
        self.size = body.size

    def run(self, inputs: Mapping[Value, Any], environment: Environment | None = None) -> list[Any]:
        """Values of the body's outputs."""
        return self.opened(environment or {})(list(inputs.values()))

    def opened(self, environment: Environment) -> Callable[[Sequence[Any]], list[Any]]:
        """What runs it on values of its inputs, again and again in the same ``environment``."""
        return lambda inputs: self._once(inputs, environment)

    def _once(self, inputs: Sequence[Any], environment: Environment) -> list[Any]:
        plan = self.body
        if isinstance(plan, CompiledBody):
            with suppress(NotAsCompiled):
                return plan.computed_by(self._computed, inputs, environment)
            plan = plan.kernels
        if not isinstance(plan, Plan):
            return plan.opened(environment)(inputs)
        given = dict(zip(fed_inputs(self.graph), inputs, strict=True))
        prepared = Prepared.of_plan(plan, {**environment, **given})
        values = self.watch.of(self.node, self.graph).run(prepared)
        return [values[value] for value in self.graph.outputs]

    def _computed(
        self, program: Program, feeds: Mapping[str, Any], run: Run
    ) -> Mapping[Value, Any]:
        own = replace(run, is_ended=self.run_of_node.is_ended)
        prepared = Prepared(program.steps, program.releases, program.start(feeds), own)
        return self.watch.of(self.node, program).run(prepared)


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
    for (kernel, unit), pieces in zip(bound.wiring.kernels, bound.pieces.tolist(), strict=True):
        work = kernel.work
        has_work = pieces > 0 and bound.extent(kernel.parallel) > 0
        yield Entry(
            name=kernel.name,
            kind=kernel.schedule,
            nodes=unit.unit.nodes,
            read=tuple(_types(_read(kernel), bound)),
            written=tuple(_types(kernel.outputs, bound)),
            stored=sum(_nbytes(b, bound) for b in _read(kernel) if _is_stored(b, unit)),
            operations=bound.extent(work.operations) * has_work,
            bytes=(bound.extent(work.read) + bound.extent(work.written)) * has_work,
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
