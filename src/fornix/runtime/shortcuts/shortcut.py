"""The short way through a program of several steps: native ones in one call, kernels between.

Decides when there is one: when formulas tell for which extents native steps are made. What arrays
have to be is checked in native code, once for all inputs and again by each call, or here where
there is none. What is too much for such a call is done as in any run; what does not go this way at
all goes the long one from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Value
from fornix.ir.types import OptionalType, SequenceType, TensorType
from fornix.runtime.native import NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import NotAsCompiled, Run, Step
from fornix.runtime.shortcuts.generic import Guard, ShortWay
from fornix.runtime.shortcuts.straight import Straight, StraightWay

Fits: TypeAlias = Callable[[Sequence[Any]], bool]
Steady: TypeAlias = Callable[[list[Any]], list[Any] | None]
"""Gives the outputs for values that look like others; None if they are to go another way."""
Make: TypeAlias = Callable[[Straight, Sequence[Value], Sequence[Value]], StraightWay]
"""Makes a function of steps, and of what they read and write."""
Looks: TypeAlias = tuple[object, ...]
ARRAY = np.ndarray
ANY = Run({}, ())
"""A run of which only control flow is told anything."""


class Shortcut:
    """Values of inputs to values of outputs, through all steps of a program."""

    def __init__(self, program: Program, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        self.program, self.inputs, self.outputs = program, inputs, outputs
        native = [step for step in program.steps if isinstance(step, NativeStep)]
        others = [step for step in program.steps if not isinstance(step, NativeStep)]
        self._is_closed = (
            not all(step.tells_its_extents for step in native)
            or not all(step.uses_numpy for step in others)
            or not set(inputs).isdisjoint(program.constants)
            or len(set(inputs)) < len(inputs)
            or (not native and bool(program.ranges))
        )
        self._fits: Fits | None = None
        self._straight: Straight | None = None
        self._way: StraightWay = _no_way
        self._others: dict[Hashable, Steady] = {}

    def open(self) -> None:
        """Make what checks inputs, once the long way has been gone."""
        if self._fits is not None or self._is_closed:
            return
        try:
            self._straight = laid(self.program, self.inputs, self.outputs, is_known=True)
            self._way = self._straight.made(self.outputs)
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

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way."""
        return self.again(values) if self.fits(values) else None

    def fits(self, values: Sequence[Any]) -> bool:
        """Whether it is made for values that look like these."""
        return self._fits is not None and self._fits(values)

    def again(self, values: Sequence[Any]) -> list[Any] | None:
        """The outputs, like those for values that look alike."""
        return tried(self._way, values)

    def other(self, key: Hashable, make: Make) -> Steady | None:
        """What ``make`` makes of the same steps, once there are any; the same for a ``key``."""
        if self._straight is None:
            return None
        if key not in self._others:
            made = make(self._straight, self.inputs, self.outputs)
            self._others[key] = partial(tried, made)
        return self._others[key]


def tried(way: StraightWay, values: Sequence[Any]) -> list[Any] | None:
    """What ``way`` gives; None if the long way has to say what is wrong."""
    try:
        return way(values, ANY)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - it is said later
        return None


def looks(values: Sequence[Any]) -> Looks:
    """Of arrays their element types and extents, of others the class."""
    return tuple([(v.dtype, v.shape) if type(v) is ARRAY else type(v) for v in values])


def _no_way(*_: object) -> None:
    """Give no results."""


def laid(
    program: Program, inputs: Sequence[Value], outputs: Sequence[Value], *, is_known: bool
) -> Straight:
    """The steps one after the other, native ones in a row as one call.

    If ``is_known``, inputs are of the right types, texts too.
    """
    straight = Straight(inputs, program.constants)
    for is_native, group in groupby(program.steps, _is_native):
        row = list(group)
        if not is_native:
            for step in row:
                straight.step(step, program.constants, is_known=is_known)
            continue
        others = (step for step in program.steps if step not in row)
        read = set(outputs).union(*(step.reads for step in others))
        written = [value for step in row for value in step.writes if value in read]
        call = _Row(program, [step for step in row if isinstance(step, NativeStep)], written)
        straight.move(call, call.reads, written)
    return straight


class _Row:
    """Native steps in one call."""

    def __init__(self, program: Program, steps: Sequence[NativeStep], outputs: list[Value]) -> None:
        self.symbols, self.steps = program.symbols, steps
        self.way = ShortWay(steps, sorted(program.symbols), outputs=outputs)
        self.way.open()
        written = {value for step in steps for value in step.writes}
        read = [value for step in steps for value in step.reads if value not in written]
        telling = [value for value, _ in program.symbols.values()]
        self.reads = list(dict.fromkeys([*self.way.inputs, *telling, *read]))
        self._count = len(self.way.inputs)
        told = (program.symbols[name] for name in self.way.symbols)
        self._told = [(self.reads.index(value), axis) for value, axis in told]

    def __call__(self, values: list[Any], run: Run) -> Sequence[Any] | None:  # noqa: ARG002 - as all have it
        given = values[: self._count]
        if self._told:
            given.append(np.array([values[at].shape[axis] for at, axis in self._told], np.int64))
        results = self.way(given)
        return self._long(values) if results is None else results

    def _long(self, values: Sequence[Any]) -> list[Any] | None:
        """The same as in any run; None if that is not known to do."""
        found = dict(zip(self.reads, values, strict=True))
        extents = {name: found[v].shape[axis] for name, (v, axis) in self.symbols.items()}
        run = Run(extents, tuple(extents.values()))
        for step in self.steps:
            if not step.is_known_to_hold(run):
                return None
            step.run_long(found, run)
        return [found[value] for value in self.way.outputs]


class _Looks:
    """What inputs have to be: arrays of the types that a program is made for, or none at all."""

    def __init__(self, inputs: Sequence[Value]) -> None:
        """Raises NotAsCompiled where that is more than extents by number or by name."""
        self._types = [_array_type(value) for value in inputs]
        self._last: Looks | None = None
        """The looks of values that were that."""

    def fit(self, values: Sequence[Any]) -> bool:
        """Whether ``values`` are that; those that look like the last ones are."""
        found = looks(values)
        if found != self._last:
            if not self._are_of_types(values):
                return False
            self._last = found
        return True

    def _are_of_types(self, values: Sequence[Any]) -> bool:
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


def fit_test(values: Sequence[Value], others: Sequence[Value], straight: Straight) -> str:
    """A term of Python, which holds if variables of ``values`` are what a program is made for.

    What ``others`` are in theirs is known to be.
    """
    told: dict[DimLike, str] = {}
    for value in others:
        _extent_terms(_array_type(value)[1], straight.read([value]), told)
    terms = list[str]()
    for value in values:
        name, (dtype, shape, is_fixed) = straight.read([value]), _array_type(value)
        is_array = f"type({name}) is {straight.bind(ARRAY)}"
        if dtype is None:
            terms.append(f"not {is_array}")
            continue
        terms += [is_array, f"{name}.dtype == {straight.bind(dtype)}"]
        if is_fixed:
            terms.append(f"{name}.shape == {shape}")
        else:
            terms.append(f"{name}.ndim == {len(shape)}")
            terms += _extent_terms(shape, name, told)
    return " and ".join(terms)


def _extent_terms(shape: Sequence[DimLike], name: str, told: dict[DimLike, str]) -> list[str]:
    """What holds of the extents of a variable; where symbols are found first is ``told``."""
    terms = list[str]()
    for axis, wanted in enumerate(shape):
        found = f"{name}.shape[{axis}]"
        if isinstance(wanted, int):
            terms.append(f"{found} == {wanted}")
        elif wanted in told:
            terms.append(f"{found} == {told[wanted]}")
        else:
            told[wanted] = found
            terms.append(f"{found} >= 1")
    return terms


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
