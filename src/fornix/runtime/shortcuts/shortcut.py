"""The short way through a program of several steps: native ones in one call, kernels between.

Decides when there is one: when formulas tell for which extents native steps are made. What arrays
have to be is checked in native code, once for all inputs and again by each call, or here where
there is none. What is too much for such a call is done as in any run; what does not go this way at
all goes the long one from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Value
from fornix.ir.types import OptionalType, SequenceType, TensorType
from fornix.runtime.native import NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled, Run, Step
from fornix.runtime.shortcuts.chain import Move, moved
from fornix.runtime.shortcuts.generic import Guard, ShortWay

Fits: TypeAlias = Callable[[Sequence[Any]], bool]
ANY = Run({}, ())
"""A run of which only control flow is told anything."""


class Shortcut:
    """Values of inputs to values of outputs, through all steps of a program."""

    def __init__(self, program: Program, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        self.program, self.inputs, self.outputs = program, inputs, outputs
        self._constants = [*program.constants.values()]
        numbered = dict.fromkeys([*program.constants, *inputs])
        self.places = {value: place for place, value in enumerate(numbered)}
        native = [step for step in program.steps if isinstance(step, NativeStep)]
        others = [step for step in program.steps if not isinstance(step, NativeStep)]
        self._is_closed = (
            not all(step.tells_its_extents for step in native)
            or not all(step.uses_numpy for step in others)
            or len(numbered) < len(program.constants) + len(inputs)
            or (not native and bool(program.ranges))
        )
        self._fits: Fits | None = None
        self._moves: list[Move] = []
        self._ends: list[int] = []

    def open(self) -> None:
        """Make what checks inputs, once the long way has been gone."""
        if self._fits is not None or self._is_closed:
            return
        try:
            self._moves = list(self._made_moves())
            self._ends = [self.places[value] for value in self.outputs]
            self._fits = self._guard()
        except (NotAsCompiled, KeyError):
            self._is_closed = True

    def _guard(self) -> Fits:
        """What tells whether inputs are those that the program is made for."""
        native = [step for step in self.program.steps if isinstance(step, NativeStep)]
        if not native:
            return _Looks(self.inputs).fit
        tensors = [isinstance(value.type, TensorType) for value in self.inputs]
        arrays = [index for index, is_array in enumerate(tensors) if is_array]
        guard = Guard([self.inputs[index] for index in arrays], native[0].support)
        return lambda values: guard.call([values[index] for index in arrays]) is not None

    def _made_moves(self) -> Iterator[Move]:
        """What runs the steps one after the other."""
        for is_native, group in groupby(self.program.steps, _is_native):
            row = list(group)
            native = [step for step in row if isinstance(step, NativeStep)]
            if is_native:
                written = self._read_later(native)
                yield _Row(self, native, written)
                self._add(written)
                continue
            for step in row:
                yield moved(step, self.places, self.program.constants, is_known=True)
                self._add(step.writes)

    def _add(self, written: Sequence[Value]) -> None:
        """Number what a move adds."""
        for value in written:
            self.places[value] = len(self.places)

    def _read_later(self, row: Sequence[Step]) -> list[Value]:
        """What ``row`` writes for others."""
        others = (step for step in self.program.steps if step not in row)
        read = set(self.outputs).union(*(step.reads for step in others))
        return [value for step in row for value in step.writes if value in read]

    def long(
        self, steps: Sequence[NativeStep], values: Sequence[Any]
    ) -> Mapping[Value, Any] | None:
        """What is there after ``steps`` have run as in any run; None if that is not known to do."""
        told = self.program.symbols.items()
        extents = {name: values[self.places[v]].shape[axis] for name, (v, axis) in told}
        run = Run(extents, tuple(extents.values()))
        found = {v: values[place] for v, place in self.places.items() if place < len(values)}
        for step in steps:
            if not step.is_known_to_hold(run):
                return None
            step.run_long(found, run)
        return found

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way."""
        if self._fits is None or not self._fits(values):
            return None
        found = [*self._constants, *values]
        try:
            for move in self._moves:
                results = move(found, ANY)
                if results is None:
                    return None
                found += results
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the long way says what is wrong
            return None
        return [found[place] for place in self._ends]


class _Row:
    """Native steps in one call."""

    def __init__(self, owner: Shortcut, steps: Sequence[NativeStep], outputs: list[Value]) -> None:
        program, places = owner.program, owner.places
        self.owner, self.steps = owner, steps
        self.way = ShortWay(steps, sorted(program.symbols), outputs=outputs)
        self.way.open()
        self._read = [places[value] for value in self.way.inputs]
        told = (program.symbols[name] for name in self.way.symbols)
        self._told = [(places[value], axis) for value, axis in told]

    def __call__(self, values: list[Any], run: Run) -> Sequence[Any] | None:  # noqa: ARG002 - as all have it
        given = [values[place] for place in self._read]
        if self._told:
            given.append(np.array([values[at].shape[axis] for at, axis in self._told], np.int64))
        results = self.way(given)
        if results is not None:
            return results
        found = self.owner.long(self.steps, values)
        return None if found is None else [found[value] for value in self.way.outputs]


class _Looks:
    """What inputs have to be: arrays of the types that a program is made for, or none at all."""

    def __init__(self, inputs: Sequence[Value]) -> None:
        """Raises NotAsCompiled where that is more than extents by number or by name."""
        self._types = [_array_type(value) for value in inputs]

    def fit(self, values: Sequence[Any]) -> bool:
        """Whether ``values`` are that."""
        told: dict[DimLike, int] = {}
        for value, (dtype, shape, is_fixed) in zip(values, self._types, strict=True):
            if type(value) is not np.ndarray:
                if dtype is not None:
                    return False
                continue
            if (value.dtype is not dtype and value.dtype != dtype) or value.ndim != len(shape):
                return False
            is_alike = value.shape == shape if is_fixed else _agree(told, shape, value.shape)
            if not is_alike:
                return False
        return True


def _agree(told: dict[DimLike, int], shape: Sequence[DimLike], found: Sequence[int]) -> bool:
    """Whether extents are those of ``shape``; what symbols are is ``told``."""
    return all(
        number == wanted
        if isinstance(wanted, int)
        else number >= 1 and told.setdefault(wanted, number) == number
        for wanted, number in zip(shape, found, strict=True)
    )


def _array_type(value: Value) -> tuple[np.dtype[Any] | None, tuple[DimLike, ...], bool]:
    """The dtype and extents of arrays, and whether these are numbers; no dtype if it is none."""
    type_ = value.type
    if isinstance(type_, SequenceType | OptionalType):
        return None, (), False
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        raise NotAsCompiled(f"'{value.name}' is no tensor of known rank")
    shape = tuple(NO_EXTENT if d is None else d for d in type_.shape)
    if any(isinstance(d, Dim) and not d.name for d in shape):
        raise NotAsCompiled(f"'{value.name}' has extents that are computed")
    return type_.dtype.numpy, shape, all(isinstance(d, int) for d in shape)


NO_EXTENT = -1
"""The extent of what nobody declares: no array has it."""


def _is_native(step: Step) -> bool:
    return isinstance(step, NativeStep)
