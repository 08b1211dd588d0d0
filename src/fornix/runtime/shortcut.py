"""The short way through a program of several steps: each native one in one call, kernels between.

Decides when there is one: when every native step has a short way of its own. What arrays have to be
is checked in native code, once for all inputs and again by each step. Whatever does not go this way
has to go the long one from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.errors import FornixError
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.runtime.generic import Guard, ShortWay
from fornix.runtime.native import NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import KernelStep, NotAsCompiled, Run

NO_RUN = Run({}, ())
"""Kernels do not ask what extents are."""


class Shortcut:
    """Values of inputs to values of outputs, through all steps of a program."""

    def __init__(self, program: Program, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        self.program, self.inputs, self.outputs = program, inputs, outputs
        tensors = [isinstance(value.type, TensorType) for value in inputs]
        self._arrays = [index for index, is_array in enumerate(tensors) if is_array]
        self._guard: Guard | None = None
        self._is_closed = False
        self._steps: list[tuple[ShortWay | None, NativeStep | KernelStep]] = []
        self._places = program.symbols
        """Where symbols get their numbers from: which input, and by which axis."""
        for step in program.steps:
            if isinstance(step, NativeStep):
                self._steps.append((step.short, step))
                self._is_closed |= step.short is None
            elif isinstance(step, KernelStep):
                self._steps.append((None, step))
            else:
                self._is_closed = True

    def open(self) -> None:
        """Make what checks inputs, once the long way has been gone."""
        if self._guard is None and not self._is_closed:
            try:
                support = next(s.support for _, s in self._steps if isinstance(s, NativeStep))
                self._guard = Guard([self.inputs[index] for index in self._arrays], support)
            except (NotAsCompiled, StopIteration):
                self._is_closed = True

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way."""
        guard = self._guard
        if guard is None or guard.call([values[index] for index in self._arrays]) is None:
            return None
        found: dict[Value, Any] = dict(self.program.constants)
        found.update(zip(self.inputs, values, strict=True))
        try:
            for short, step in self._steps:
                if short is None:
                    step.run(found, NO_RUN)
                    continue
                arrays = [found[value] for value in step.reads]
                if short.symbols:
                    places = [self._places[name] for name in short.symbols]
                    numbers = [found[value].shape[axis] for value, axis in places]
                    arrays.append(np.array(numbers, np.int64))
                results = short(arrays)
                if results is None:
                    return None
                found.update(zip(step.writes, results, strict=True))
        except FornixError:
            return None  # the long way says what is wrong
        return [found[value] for value in self.outputs]
