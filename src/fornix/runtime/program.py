"""A program: a model divided between providers, as steps that run in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.format.mapped import MappedFile, mapped_files
from fornix.ir.dim import Dim
from fornix.ir.graph import Value
from fornix.runtime.memory import owned
from fornix.runtime.providers import (
    NotAsCompiled,
    Placement,
    Run,
    Step,
)
from fornix.runtime.sizing.extents import Range

if TYPE_CHECKING:
    from fornix.runtime.control.ways import LearningFlow, ProgramFlow


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
        files: Sequence[MappedFile] = (),
    ) -> None:
        """``symbols`` are given numbers by inputs: which, and by which axis.

        ``constants`` are the stored values that steps read from here, or that are outputs;
        ``files`` are read in place, too.
        """
        self.inputs = {value.name: value for value in inputs}
        self.outputs = {value.name: value for value in outputs}
        self.symbols = symbols
        self.ranges: Mapping[str, Range] = {}
        """What some symbols are taken to be; set by who makes the program."""
        self.telling: Sequence[str] | None = None
        """Inputs with numbers that nodes may need to know, where whoever kept it says that."""
        self.steps, self.constants, self.placements = steps, constants, placements
        self.releases = _releases(steps, {*outputs, *constants})
        self.uses_numpy = any(step.uses_numpy for step in steps)
        self._own = {v for step in steps if step.owns_results for v in step.writes}
        self.declared = [v for v in inputs if _is_open(v)]
        self.scalars = [v.name for v in inputs if getattr(v.type, "shape", None) == ()]
        stored = [*constants, *(value for step in steps for value in step.stored)]
        in_files = mapped_files(getattr(value.constant, "place", None) for value in stored)
        self.files = tuple(dict.fromkeys((*in_files, *files)))
        """Files whose bytes steps read in place."""

    @cached_property
    def flow(self) -> ProgramFlow | LearningFlow | None:
        """All steps in one native call, if they are machine code and control flow alone."""
        from fornix.runtime.control.ways import program_flow  # noqa: PLC0415 - few programs have one

        return program_flow(self)

    def run_for(self, feeds: Mapping[str, Any]) -> Run:
        """What the shapes of ``feeds`` make of the symbols; raises NotAsCompiled for others."""
        for name in self.scalars:
            if feeds[name].ndim:
                raise NotAsCompiled(f"'{name}' is declared as a scalar and is none")
        extents = {
            name: feeds[value.name].shape[axis] for name, (value, axis) in self.symbols.items()
        }
        return Run(extents, tuple(extents.values()))

    def holds(self, run: Run, feeds: Mapping[str, Any]) -> bool:
        """Whether the steps are made for such feeds."""
        if any(extent < 1 for extent in run.key) or self.outside(run):
            return False
        for value in self.declared:
            shape = getattr(value.type, "shape", None) or ()
            expected = [d.bind(run.extents) if isinstance(d, Dim) else d for d in shape]
            if list(feeds[value.name].shape) != expected:
                return False
        return all(step.holds(run) for step in self.steps)

    def outside(self, run: Run) -> dict[str, int]:
        """The extents of ``run`` that the steps are not made for: too short, too long, uneven."""
        found: dict[str, int] = {}
        for name, (least, most, unit) in self.ranges.items():
            extent = run.extents.get(name, least)
            limit = most.bind(run.extents) if isinstance(most, Dim) else most
            is_long = limit is not None and not (isinstance(limit, int) and extent <= limit)
            if extent < least or is_long or extent % unit:
                found[name] = extent
        return found

    def is_known_to_hold(self, run: Run) -> bool:
        """Whether it is certain without the model that the steps are made for such a run."""
        return all(step.is_known_to_hold(run) for step in self.steps)

    def run(self, feeds: Mapping[str, Any], run: Run, names: Sequence[str]) -> list[Any]:
        """Results by name, in memory of their own."""
        return self.results(self.computed(feeds, run), names)

    def computed(self, feeds: Mapping[str, Any], run: Run) -> dict[Value, Any]:
        """The values that are left after the last step: those of outputs, and stored ones."""
        for file in self.files:
            file.check()
        values = self.start(feeds)
        if self.uses_numpy:
            with np.errstate(all="ignore"):
                self._run_steps(values, run)
        else:
            self._run_steps(values, run)
        run.check()
        if run.allowance is not None:
            run.allowance.require(values, "its results take more")
        return values

    def start(self, feeds: Mapping[str, Any]) -> dict[Value, Any]:
        """The values that are there before the first step."""
        values: dict[Value, Any] = dict(self.constants)
        for name, feed in feeds.items():
            values[self.inputs[name]] = feed
        return values

    def _run_steps(self, values: dict[Value, Any], run: Run) -> None:
        for step, release in zip(self.steps, self.releases, strict=True):
            run.check()
            if run.allowance is not None:
                run.allowance.before(step, values, run)
            step.run(values, run)
            for value in release:
                values.pop(value, None)

    def results(self, values: Mapping[Value, Any], names: Sequence[str]) -> list[Any]:
        """Results by name, in memory of their own, from what is left after the last step."""
        own = self._own.copy()
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
    """After each step, the values that nothing reads later; no step says that it reads data."""
    last: dict[Value, int] = {}
    for index, step in enumerate(steps):
        last |= dict.fromkeys((*step.writes, *step.reads), index)
    found: list[list[Value]] = [[] for _ in steps]
    for value, index in last.items():
        if value not in stay and value.constant is None:
            found[index].append(value)
    return [tuple(values) for values in found]
