"""The short way through a program of several steps: native ones in one call, kernels between.

Decides when there is one: when formulas tell for which extents native steps are made. What arrays
have to be is checked in native code, once for all inputs and again by each call. What is too much
for such a call is done as in any run; what does not go this way at all goes the long one from the
beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from fornix.errors import FornixError
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.runtime.native import NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled, Run, Step
from fornix.runtime.shortcuts.generic import Guard, ShortWay

Row: TypeAlias = tuple[ShortWay | None, Sequence[Step]]


class Shortcut:
    """Values of inputs to values of outputs, through all steps of a program."""

    def __init__(self, program: Program, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        self.program, self.inputs, self.outputs = program, inputs, outputs
        tensors = [isinstance(value.type, TensorType) for value in inputs]
        self._arrays = [index for index, is_array in enumerate(tensors) if is_array]
        self._guard: Guard | None = None
        native = [step for step in program.steps if isinstance(step, NativeStep)]
        others = [step for step in program.steps if not isinstance(step, NativeStep)]
        self._is_closed = not (
            native
            and all(step.tells_its_extents for step in native)
            and all(step.uses_numpy for step in others)
        )
        self._rows: list[Row] = []

    def open(self) -> None:
        """Make what checks inputs, once the long way has been gone."""
        if self._guard is not None or self._is_closed:
            return
        self._rows = self._made_rows()
        support = next(way.steps[0].support for way, _ in self._rows if way is not None)
        try:
            self._guard = Guard([self.inputs[index] for index in self._arrays], support)
        except NotAsCompiled:
            self._is_closed = True

    def _made_rows(self) -> list[Row]:
        """Steps by what runs them."""
        rows: list[Row] = []
        symbols = sorted(self.program.symbols)
        read_later = set(self.outputs)
        for is_native, steps in groupby(reversed(self.program.steps), _is_native):
            row = list(steps)[::-1]
            way: ShortWay | None = None
            if is_native:
                native = [step for step in row if isinstance(step, NativeStep)]
                written = [value for step in row for value in step.writes]
                way = ShortWay(native, symbols, outputs=[v for v in written if v in read_later])
                way.open()
            read_later.update(value for step in row for value in step.reads)
            rows.append((way, row))
        return rows[::-1]

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way."""
        guard = self._guard
        if guard is None or guard.call([values[index] for index in self._arrays]) is None:
            return None
        found: dict[Value, Any] = dict(self.program.constants)
        found.update(zip(self.inputs, values, strict=True))
        try:
            for way, steps in self._rows:
                results = None if way is None else way(self._given(way, found))
                if way is not None and results is not None:
                    found.update(zip(way.outputs, results, strict=True))
                elif not self._run(steps, found):
                    return None
        except (FornixError, NotAsCompiled):
            return None  # the long way says what is wrong
        return [found[value] for value in self.outputs]

    def _given(self, way: ShortWay, found: dict[Value, Any]) -> list[Any]:
        """What ``way`` takes."""
        arrays = [found[value] for value in way.inputs]
        if way.symbols:
            extents = self._extents(found)
            arrays.append(np.array([extents[name] for name in way.symbols], np.int64))
        return arrays

    def _extents(self, found: dict[Value, Any]) -> dict[str, int]:
        places = self.program.symbols.items()
        return {name: found[value].shape[axis] for name, (value, axis) in places}

    def _run(self, steps: Sequence[Step], found: dict[Value, Any]) -> bool:
        """Run ``steps`` as in any run, if they are made for these extents."""
        extents = self._extents(found)
        run = Run(extents, tuple(extents.values()))
        for step in steps:
            if isinstance(step, NativeStep):
                if not step.is_known_to_hold(run):
                    return False
                step.run_long(found, run)
            else:
                step.run(found, run)
        return True


def _is_native(step: Step) -> bool:
    return isinstance(step, NativeStep)
