"""Programs: a model divided between providers, as steps that run in order.

A program is made for extents that are at least 1. A run with an extent of 0, or with extents that
do not agree the way the code takes for granted, gets a program of its own in which these extents
are numbers; if that does not do either, NumPy kernels take over (`Programs.run` says so).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.errors import NotSupported
from fornix.infer import infer_model
from fornix.ir.dim import Dim
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.passes import Level, optimize
from fornix.reference.plan import Plan, Scope
from fornix.runtime.extents import bound_symbols, name_extents
from fornix.runtime.memory import owned
from fornix.runtime.options import SessionOptions
from fornix.runtime.providers import (
    KernelStep,
    NotAsCompiled,
    Part,
    Placement,
    Provider,
    Run,
    Step,
)
from fornix.runtime.threads import Pool

if TYPE_CHECKING:
    from fornix.runtime.quick import QuickCall

MAX_PROGRAMS = 8
"""Programs for special extents that a session makes before it leaves them to NumPy kernels."""
MAX_SHORT = 64
"""Sets of extents that have a short way."""
MAX_KEYS = 1024
"""Sets of extents of which it is remembered which program they run."""


class Program:
    """A model with some extents fixed, ready to run."""

    def __init__(
        self,
        source: Model,
        providers: Sequence[Provider],
        options: SessionOptions,
        pool: Pool,
        numbers: Mapping[str, int],
    ) -> None:
        level = options.level
        if level is None:
            level = Level.ALL if providers[0].optimizes else Level.NONE
        model = optimize(source, level)
        name_extents(model, numbers)
        graph = model.graph
        inference = infer_model(model)
        self.plan = Plan(graph, Scope(model.opset_imports, model.function_table))
        self.inputs = {value.name: value for value in graph.inputs}
        self.outputs = {value.name: value for value in graph.outputs}
        self.symbols = bound_symbols(graph.inputs)
        self.steps: list[Step] = []
        self.placements: list[Placement] = []
        for provider, nodes in _shared_out(list(graph.nodes), providers, inference):
            part = Part(
                tuple(nodes),
                _needed(nodes),
                inference,
                self.plan,
                frozenset(self.symbols),
                options,
                pool,
            )
            steps = provider.compile(part)
            self.steps += steps
            self.placements += [
                Placement(p.node, p.op_type, p.domain, p.kernels, p.reason, provider.name)
                for step in steps
                for p in step.placements()
            ]
        self.releases = _releases(self.steps, graph)
        self.has_kernels = any(isinstance(step, KernelStep) for step in self.steps)
        self.declared = [v for v in graph.inputs if _is_open(v)]
        self._check_placements(options)

    def _check_placements(self, options: SessionOptions) -> None:
        if options.config_entries.get("session.disable_cpu_ep_fallback") != "1":
            return
        for place in self.placements:
            if not place.kernels:
                raise NotSupported(
                    f"node '{place.node}' ({place.op_type}): with session.disable_cpu_ep_fallback "
                    f"every node must be compiled, but {place.reason}"
                )

    def run_for(self, feeds: Mapping[str, Any]) -> Run:
        """What the shapes of ``feeds`` make of the symbols; raises NotAsCompiled for others."""
        extents = {
            name: feeds[value.name].shape[axis] for name, (value, axis) in self.symbols.items()
        }
        return Run(extents, tuple(extents.values()))

    def holds(self, run: Run, feeds: Mapping[str, Any]) -> bool:
        """Whether the steps are made for such feeds."""
        if any(extent < 1 for extent in run.key):
            return False
        for value in self.declared:
            shape = getattr(value.type, "shape", None) or ()
            expected = [d.bind(run.extents) if isinstance(d, Dim) else d for d in shape]
            if list(feeds[value.name].shape) != expected:
                return False
        return all(step.holds(run) for step in self.steps)

    def run(self, feeds: Mapping[str, Any], run: Run, names: Sequence[str]) -> list[Any]:
        """Results by name, in memory of their own."""
        values = self.start(feeds)
        if self.has_kernels:
            with np.errstate(all="ignore"):
                self._run_steps(values, run)
        else:
            self._run_steps(values, run)
        return self._results(values, names)

    def start(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """The values that are there before the first step."""
        values: dict[Value, Any] = dict(self.plan.constants)
        for name, feed in feeds.items():
            values[self.inputs[name]] = feed
        return values

    def _run_steps(self, values: dict[Value, Any], run: Run) -> None:
        for step, release in zip(self.steps, self.releases, strict=True):
            step.run(values, run)
            for value in release:
                values.pop(value, None)

    def _results(self, values: dict[Value, Any], names: Sequence[str]) -> list[Any]:
        own = {v for step in self.steps if step.owns_results for v in step.writes}
        results: list[Any] = []
        for name in names:
            value = self.outputs[name]
            if value not in values:
                raise NotAsCompiled(f"nothing computes '{name}'")
            result = values[value]
            results.append(result if value in own else owned(result))
            own.discard(value)  # a second time it has to be another array
        return results


def _fixed(source: Model) -> Model:
    """``source`` with all initializers constant; who feeds one gets NumPy kernels."""
    if not any(value.is_initializer for value in source.graph.inputs):
        return source
    model = source.clone()
    model.graph.inputs = [v for v in model.graph.inputs if not v.is_initializer]
    return model


def _is_open(value: Value) -> bool:
    return any(isinstance(d, Dim) for d in getattr(value.type, "shape", None) or ())


def _shared_out(
    nodes: Sequence[Node], providers: Sequence[Provider], inference: Any
) -> list[tuple[Provider, list[Node]]]:
    """The nodes in their order, those in a row that one provider takes together."""
    parts: list[tuple[Provider, list[Node]]] = []
    for node in nodes:
        taker = next((p for p in providers if p.takes(node, inference)), None)
        if taker is None:
            names = ", ".join(provider.name for provider in providers)
            raise NotSupported(f"{node.label}: a provider must take it, none of {names} does")
        if parts and parts[-1][0] is taker:
            parts[-1][1].append(node)
        else:
            parts.append((taker, [node]))
    return parts


def _needed(nodes: Sequence[Node]) -> frozenset[Value]:
    """The results of ``nodes`` that others read."""
    inside = set(nodes)
    needed: set[Value] = set()
    for node in nodes:
        for value in node.outputs:
            if value.is_output or any(user not in inside for user in value.users):
                needed.add(value)
    return frozenset(needed)


def _releases(steps: Sequence[Step], graph: Graph) -> list[tuple[Value, ...]]:
    """After each step, the values that nothing reads later."""
    last: dict[Value, int] = {}
    for index, step in enumerate(steps):
        last |= dict.fromkeys((*step.writes, *step.reads), index)
    stay = {*graph.outputs, *graph.initializer_values}
    found: list[list[Value]] = [[] for _ in steps]
    for value, index in last.items():
        if value not in stay:
            found[index].append(value)
    return [tuple(values) for values in found]


class Programs:
    """The programs of a session: one for extents in general, others for special ones."""

    def __init__(
        self, source: Model, providers: Sequence[Provider], options: SessionOptions
    ) -> None:
        self.source, self.providers, self.options = _fixed(source), tuple(providers), options
        self.pool = Pool(options.threads)
        self.general = Program(self.source, providers, options, self.pool, {})
        self._special: dict[tuple[tuple[str, int], ...], Program] = {}
        self._chosen: OrderedDict[tuple[int, ...], Program | None] = OrderedDict()
        self._short: OrderedDict[tuple[int, ...], QuickCall | None] = OrderedDict()
        self._lock = threading.Lock()

    def short_way(self, feeds: Mapping[str, Any]) -> QuickCall | None:
        """A short way to all outputs for feeds like ``feeds``, which have just been run."""
        run = self.general.run_for(feeds)
        if run.key not in self._short:
            from fornix.runtime.quick import quick_call  # noqa: PLC0415 - imports llvmlite

            is_general = self._chosen.get(run.key) is self.general
            made = quick_call(self.general, run, feeds) if is_general else None
            self._short[run.key] = made
            while len(self._short) > MAX_SHORT:
                self._short.popitem(last=False)
        return self._short.get(run.key)

    def run(self, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
        """Results by name; raises NotAsCompiled if NumPy kernels are to do it."""
        program, run = self.chosen(feeds)
        return program.run(feeds, run, names)

    def chosen(self, feeds: Mapping[str, Any]) -> tuple[Program, Run]:
        """The program for ``feeds``; raises NotAsCompiled if NumPy kernels are to do it."""
        run = self.general.run_for(feeds)
        program = self._chosen.get(run.key, self.general)
        if run.key not in self._chosen:
            with self._lock:
                program = self._choose(run, feeds)
        if program is None:
            raise NotAsCompiled("these extents are left to NumPy kernels")
        if program is not self.general:
            run = program.run_for(feeds)
        return program, run

    def _choose(self, run: Run, feeds: Mapping[str, Any]) -> Program | None:
        """The program for the extents of ``run``."""
        found: Program | None = None
        if self.general.holds(run, feeds):
            found = self.general
        else:
            zeros = {name: n for name, n in run.extents.items() if n == 0}
            found = self._for_numbers(zeros, feeds) if zeros else None
            found = found or self._for_numbers(
                {name: n for name, n in run.extents.items() if n <= 1}, feeds
            )
        self._chosen[run.key] = found
        while len(self._chosen) > MAX_KEYS:
            self._chosen.popitem(last=False)
        return found

    def _for_numbers(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> Program | None:
        """The program in which symbols have these ``numbers``, if it does for ``feeds``."""
        key = tuple(sorted(numbers.items()))
        if key not in self._special:
            if not numbers or len(self._special) >= MAX_PROGRAMS:
                return None
            self._special[key] = Program(
                self.source, self.providers, self.options, self.pool, numbers
            )
        program = self._special[key]
        return program if program.holds(program.run_for(feeds), feeds) else None
