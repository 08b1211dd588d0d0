"""What a session makes of a model: which kernels nodes became part of, what became of others.

Optimizes and compiles as a session does, and watches. Decides what is known of each node; how that
is shown is the command line's business.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fornix.compile.kernel import CompiledKernel
from fornix.compile.units import NativeUnit
from fornix.errors import InvalidArgument
from fornix.ir.dim import DimLike
from fornix.ir.graph import Model
from fornix.ir.types import TensorType, type_text
from fornix.ir.walk import nodes
from fornix.passes import Level, optimize_explained
from fornix.passes import Step as PassStep
from fornix.passes.lineage import Lineage, Origin, named
from fornix.runtime.control.calls import without_calls
from fornix.runtime.making import native_of
from fornix.runtime.native import NativeStep
from fornix.runtime.options import SessionOptions
from fornix.runtime.packing import is_prepared
from fornix.runtime.program import Program
from fornix.runtime.programs import Programs
from fornix.runtime.providers import CPUExecutionProvider, KernelStep, Placement, Provider, Step


@dataclass(frozen=True)
class Kernel:
    """A kernel: how its loops run, what it gives, into how many chunks it can be cut."""

    name: str
    kind: str
    results: tuple[str, ...]
    chunks: DimLike
    is_ahead: bool
    """Whether it runs once, when the session is made: it arranges weights."""


@dataclass(frozen=True)
class Unit:
    """Nodes of the optimized model that became one group of kernels, or one that has none."""

    number: int
    """The place in a run, from 1."""
    nodes: tuple[Origin, ...]
    inside: tuple[str, ...]
    """Names of the nodes in subgraphs of its nodes."""
    results: tuple[tuple[str, str], ...]
    """Names and types of the values that others read."""
    kernels: tuple[Kernel, ...]
    reason: str
    """Why it has no kernel."""
    provider: str


@dataclass(frozen=True)
class Fate:
    """What became of a node of the model as it was given."""

    origin: Origin
    units: tuple[int, ...]
    """The units that it is part of; none if it is gone."""
    lost_in: str
    """The pass that made it part of nothing."""


@dataclass(frozen=True)
class Explanation:
    """Everything about a model."""

    nodes_before: int
    nodes_after: int
    steps: list[PassStep]
    units: list[Unit]
    fates: list[Fate]
    optimize_seconds: float
    compile_seconds: float


def explain(
    model: Model, options: SessionOptions | None = None, providers: Sequence[Provider] = ()
) -> Explanation:
    """What a session with ``options`` and ``providers`` makes of ``model``."""
    options = options or SessionOptions()
    chosen = tuple(providers) or (CPUExecutionProvider(),)
    level = Level.ALL if options.level is None else options.level
    lineage = Lineage()
    begin = time.perf_counter()
    flat = model if level is Level.NONE else without_calls(model)
    optimized, steps = optimize_explained(
        named(flat), level, native=native_of(options), watch=lineage
    )
    middle = time.perf_counter()
    plain = dataclasses.replace(options, graph_optimization_level=Level.NONE)
    program = Programs(lambda: optimized, chosen, plain).general
    end = time.perf_counter()
    units = list(_units(program))
    return Explanation(
        nodes_before=len(lineage.origins),
        nodes_after=sum(1 for _ in nodes(optimized.graph)),
        steps=steps,
        units=units,
        fates=list(_fates(lineage, units)),
        optimize_seconds=middle - begin,
        compile_seconds=end - middle,
    )


def fates_of(explanation: Explanation, name: str) -> list[Fate]:
    """What became of the nodes called ``name``; raises InvalidArgument if there is none."""
    found = [fate for fate in explanation.fates if fate.origin.name == name]
    if not found:
        names = [fate.origin.name for fate in explanation.fates]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InvalidArgument(f"the name of a node is required, found '{name}'{hint}")
    return found


def _units(program: Program) -> Iterator[Unit]:
    placements = iter(program.placements)
    number = 0
    for step in program.steps:
        if isinstance(step, NativeStep):
            for unit in step.units:
                number += 1
                places = [next(placements) for _ in unit.unit.nodes]
                yield _native(number, unit, places[0].provider)
            continue
        for _ in step.placements():
            number += 1
            yield _other(number, step, next(placements))


def _native(number: int, unit: NativeUnit, provider: str) -> Unit:
    types = {
        index: str(TensorType(buffer.dtype, buffer.shape))
        for buffer, index in unit.code.outputs.items()
    }
    return Unit(
        number=number,
        nodes=tuple(Origin(node.name, node.op_type) for node in unit.unit.nodes),
        inside=(),
        results=tuple((value.name, types[k]) for k, value in enumerate(unit.unit.outputs)),
        kernels=tuple(_kernel(unit, kernel) for kernel in unit.code.kernels),
        reason="",
        provider=provider,
    )


def _other(number: int, step: Step, place: Placement) -> Unit:
    """A node that a step runs which is not native."""
    node = step.planned.node if isinstance(step, KernelStep) else None
    return Unit(
        number=number,
        nodes=(Origin(place.node, place.op_type),),
        inside=() if node is None else tuple(n.name for g in node.graphs for n in nodes(g)),
        results=tuple((value.name, type_text(value.type)) for value in step.writes),
        kernels=(),
        reason=place.reason,
        provider=place.provider,
    )


def _kernel(unit: NativeUnit, kernel: CompiledKernel) -> Kernel:
    return Kernel(
        name=kernel.name,
        kind=kernel.schedule,
        results=tuple(str(TensorType(b.dtype, b.shape)) for b in kernel.outputs),
        chunks=kernel.shares if kernel.parallel == 1 else kernel.parallel,
        is_ahead=is_prepared(unit.code, kernel),
    )


def _fates(lineage: Lineage, units: Sequence[Unit]) -> Iterator[Fate]:
    places: dict[str, list[int]] = {}
    for unit in units:
        for node in unit.nodes:
            places.setdefault(node.name, []).append(unit.number)
        for name in unit.inside:
            places.setdefault(name, []).append(unit.number)
    became = lineage.became()
    for origin in lineage.origins:
        found = dict.fromkeys(n for name in became.get(origin, ()) for n in places.get(name, ()))
        yield Fate(origin, tuple(found), lineage.gone.get(origin, ""))


def origins_of(explanation: Explanation) -> Mapping[int, list[Origin]]:
    """The nodes of the model as it was given that are part of each unit."""
    found: dict[int, list[Origin]] = {unit.number: [] for unit in explanation.units}
    for fate in explanation.fates:
        for number in fate.units:
            found[number].append(fate.origin)
    return found
