"""Programs: a model divided between providers, as steps that run in order.

A program is made for extents that are at least 1. A run with an extent of 0, or with extents that
do not agree the way the code takes for granted, gets a program of its own in which these extents
are numbers; if that does not do either, NumPy kernels take over (`Programs.run` says so).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.format.mapped import mapped_files
from fornix.ir.dim import Dim
from fornix.ir.graph import Model, Value
from fornix.runtime.memory import owned
from fornix.runtime.options import SessionOptions
from fornix.runtime.providers import (
    KernelStep,
    NotAsCompiled,
    Placement,
    Provider,
    Run,
    Step,
)
from fornix.runtime.threads import shared_pool

if TYPE_CHECKING:
    from fornix.runtime.quick import QuickCall
    from fornix.runtime.shelf import Shelf

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
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        symbols: Mapping[str, tuple[Value, int]],
        steps: Sequence[Step],
        constants: Mapping[Value, Any],
        placements: Sequence[Placement] = (),
    ) -> None:
        """``symbols`` are given numbers by inputs: which, and by which axis.

        ``constants`` are the stored values that steps read from here, or that are outputs.
        """
        self.inputs = {value.name: value for value in inputs}
        self.outputs = {value.name: value for value in outputs}
        self.symbols = symbols
        self.steps, self.constants, self.placements = steps, constants, placements
        self.releases = _releases(steps, {*outputs, *constants})
        self.has_kernels = any(isinstance(step, KernelStep) for step in steps)
        self.declared = [v for v in inputs if _is_open(v)]
        stored = [*constants, *(value for step in steps for value in step.stored)]
        self.files = mapped_files(getattr(value.constant, "place", None) for value in stored)
        """Files whose bytes steps read in place."""

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
        for file in self.files:
            file.check()
        values = self.start(feeds)
        if self.has_kernels:
            with np.errstate(all="ignore"):
                self._run_steps(values, run)
        else:
            self._run_steps(values, run)
        run.check()
        return self._results(values, names)

    def start(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """The values that are there before the first step."""
        values: dict[Value, Any] = dict(self.constants)
        for name, feed in feeds.items():
            values[self.inputs[name]] = feed
        return values

    def _run_steps(self, values: dict[Value, Any], run: Run) -> None:
        for step, release in zip(self.steps, self.releases, strict=True):
            run.check()
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


def _is_open(value: Value) -> bool:
    return any(isinstance(d, Dim) for d in getattr(value.type, "shape", None) or ())


def _releases(steps: Sequence[Step], stay: set[Value]) -> list[tuple[Value, ...]]:
    """After each step, the values that nothing reads later."""
    last: dict[Value, int] = {}
    for index, step in enumerate(steps):
        last |= dict.fromkeys((*step.writes, *step.reads), index)
    found: list[list[Value]] = [[] for _ in steps]
    for value, index in last.items():
        if value not in stay:
            found[index].append(value)
    return [tuple(values) for values in found]


class Programs:
    """The programs of a session: one for extents in general, others for special ones.

    The general one may be recalled from an earlier process. It serves the extents that it is known
    to serve; when others come, the model is compiled here as if there were no such program.
    """

    def __init__(
        self,
        model: Callable[[], Model],
        providers: Sequence[Provider],
        options: SessionOptions,
        shelf: Shelf | None = None,
    ) -> None:
        self._model, self.providers, self.options = model, tuple(providers), options
        self.pool = shared_pool(options.threads)
        self.shelf = shelf
        self._special: dict[tuple[tuple[str, int], ...], Program] = {}
        self._chosen: OrderedDict[tuple[int, ...], Program | None] = OrderedDict()
        self._short: OrderedDict[tuple[int, ...], QuickCall | None] = OrderedDict()
        self._lock = threading.RLock()
        recalled = shelf.program(self.pool) if shelf else None
        self.is_recalled = recalled is not None
        self.general = recalled or self._make({})
        if shelf and not recalled:
            shelf.keep(self.general, model())

    @property
    def whole(self) -> Program:
        """The general program as it is made from the model, with all that is known about it."""
        with self._lock:
            if self.is_recalled:
                self.general, self.is_recalled = self._make({}), False
                self._chosen.clear()
                self._short.clear()
        return self.general

    def _make(self, numbers: Mapping[str, int]) -> Program:
        from fornix.runtime.making import make_program  # noqa: PLC0415 - with the optimizer

        return make_program(self._model(), self.providers, self.options, self.pool, numbers)

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

    def run(
        self,
        feeds: Mapping[str, Any],
        names: Sequence[str],
        is_ended: Callable[[], bool] | None = None,
    ) -> list[Any]:
        """Results by name; raises NotAsCompiled if NumPy kernels are to do it."""
        program, run = self.chosen(feeds)
        return program.run(feeds, replace(run, is_ended=is_ended) if is_ended else run, names)

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
        if self._general_holds(run, feeds):
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

    def _general_holds(self, run: Run, feeds: Mapping[str, Any]) -> bool:
        """Whether the general program is made for such feeds."""
        if self.is_recalled and self.shelf and self.shelf.serves(run.key):
            return self.general.holds(run, feeds)
        holds = self.whole.holds(run, feeds)
        if holds and self.shelf:
            self.shelf.note(run.key)
        return holds

    def _for_numbers(self, numbers: Mapping[str, int], feeds: Mapping[str, Any]) -> Program | None:
        """The program in which symbols have these ``numbers``, if it does for ``feeds``."""
        key = tuple(sorted(numbers.items()))
        if key not in self._special:
            if not numbers or len(self._special) >= MAX_PROGRAMS:
                return None
            self._special[key] = self._make(numbers)
        program = self._special[key]
        return program if program.holds(program.run_for(feeds), feeds) else None
