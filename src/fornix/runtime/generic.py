"""The short way of a step: arrays in, results out, in one native call whatever the extents are.

Writes down what a run computes from extents: whether the code is made for them, how large values
are and where they lie, how much work it is. An array's extents are operands of these instructions,
so that other ones cost nothing more. Decides which steps get such a call, and for how much work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul
from typing import Any, TypeAlias

import numpy as np

from fornix.compile import machine as words
from fornix.compile.entry import entry, is_available
from fornix.compile.generic import head
from fornix.compile.support import Support
from fornix.dtype import INT64
from fornix.ir.dim import Dim, DimLike
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.runtime.formulas import Formulas
from fornix.runtime.memory import ALIGNMENT, LARGE_BYTES, aligned_bytes, size_class
from fornix.runtime.native import (
    BYTES_PER_NANOSECOND,
    OPERATIONS_PER_NANOSECOND,
    WORTH_SHARING,
    NativeStep,
)
from fornix.runtime.providers import NotAsCompiled

Array = np.ndarray[Any, np.dtype[Any]]

ArrayType: TypeAlias = tuple[tuple[DimLike, ...], np.dtype[Any]]
Call: TypeAlias = Callable[[Any], list[Any] | None]

LONGEST = 200_000
"""Nanoseconds of a call, roughly, up to which the GIL is kept where one thread does all."""


class ShortWay:
    """A step for all extents that its code is made for, as long as it is little work."""

    def __init__(
        self,
        step: NativeStep,
        symbols: Sequence[str] = (),
        inputs: Sequence[Value] | None = None,
    ) -> None:
        """It takes arrays of the types of ``inputs``, of what the step reads unless told otherwise.

        Of ``symbols``, those that the step needs and the inputs do not give follow as `symbols`.
        """
        self.step = step
        self.inputs = step.reads if inputs is None else tuple(inputs)
        self._call: GenericCall | None = None
        self._is_closed = not is_available()
        self.types: list[ArrayType] = []
        try:
            self.types = [_type(value, step) for value in self.inputs]
        except NotAsCompiled:
            self._is_closed = True
        given = {d.name for shape, _ in self.types for d in shape if isinstance(d, Dim)}
        self.symbols = [name for name in symbols if name in symbols_of(step) - given]
        """Those whose numbers follow the inputs, as an array of int64."""

    def __call__(self, arrays: list[Any]) -> list[Any] | None:
        """What the step writes; None if it has to be done the long way."""
        call = self._call
        if call is None:
            return None
        results = call.call(arrays)
        if results is None and call.lacks:
            self._open(size_class(2 * call.lacks))
        return results

    def open(self) -> None:
        """Make the call; called after the long way, since steps that run once need none."""
        if self._call is None and not self._is_closed:
            self._is_closed = bool(self.step.conditions[-1])
            self._open(ALIGNMENT)

    def _open(self, memory: int) -> None:
        if self._is_closed:
            return
        try:
            self._call = GenericCall(self, memory)
        except NotAsCompiled:
            self._is_closed = True


def symbols_of(step: NativeStep) -> set[str]:
    """The symbols in what a step reads, writes and asks its kernels to compute."""
    dims = (d for shape, _ in step.types.values() for d in shape if isinstance(d, Dim))
    found = {name for d in dims for name in d.symbols}
    kernels = (kernel for unit in step.units for kernel in unit.code.kernels)
    return found.union(*(kernel.symbols for kernel in kernels))


def _type(value: Value, step: NativeStep | None = None) -> ArrayType:
    """What arrays of a value are: as ``step`` reads it, or as it is declared.

    Raises NotAsCompiled if it is no tensor of known rank.
    """
    found = step.types.get(value) if step else None
    if found is not None:
        return found
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.shape is None or type_.dtype is None:
        raise NotAsCompiled(f"'{value.name}' is no tensor of known rank")
    return tuple(0 if d is None else d for d in type_.shape), type_.dtype.numpy


class _Checked:
    """A native function of arrays of some types, and the instructions that check their extents."""

    def __init__(self) -> None:
        self.formulas = Formulas()
        self.kept: list[object] = []
        """What the instructions point to."""

    def given(self, type_: ArrayType) -> list[int]:
        """The row of an input: dtype, rank, the slots of its first extent and of its address."""
        shape, dtype = type_
        slots = [self.formulas.slot() for _ in shape]
        for extent, slot in zip(shape, slots, strict=True):
            if isinstance(extent, Dim) and extent.name is not None:
                self.formulas.symbols.setdefault(extent.name, slot)
        address = self.formulas.slot()
        return [self.keep(dtype), len(slots), slots[0] if slots else address, address]

    def check(self, types: Sequence[ArrayType], rows: Sequence[Sequence[int]]) -> None:
        """End it unless extents are those of ``types``, and symbols at least 1."""
        formulas = self.formulas
        for slot in formulas.symbols.values():
            formulas.check(words.REACH, slot, formulas.number(1))
        for (shape, _), (_, rank, first, _) in zip(types, rows, strict=False):
            for slot, extent in zip(range(first, first + rank), shape, strict=True):
                wanted = formulas.of(extent)
                if wanted != slot:
                    formulas.check(words.EQUAL, slot, wanted)

    def function(self, rows: Sequence[Sequence[int]], results: int, address: int) -> Call:
        """What Python calls, with the code at ``address``."""
        self.code, self.slots = self.formulas.instructions(), self.formulas.start()
        work = self.code.ctypes.data, len(self.code), self.slots.ctypes.data
        first = (*head()[:7], len(rows), results, *work, 0, *head()[7:])
        table = np.array([*first, *(word for row in rows for word in row)], np.int64)
        made: Call = entry(table, address)
        return made

    def keep(self, thing: object) -> int:
        """The address of an object, which stays."""
        self.kept.append(thing)
        return id(thing)


class Guard(_Checked):
    """Tells whether arrays are of the types of ``inputs``, whose symbols are one number each."""

    def __init__(self, inputs: Sequence[Value], support: Support) -> None:
        """Raises NotAsCompiled where something is no formula of extents."""
        super().__init__()
        types = [_type(value) for value in inputs]
        rows = [self.given(type_) for type_ in types]
        named = frozenset(self.formulas.symbols)
        self.check(types, rows)
        if set(self.formulas.symbols) > named:
            raise NotAsCompiled("its inputs do not say what all symbols are")
        self.call = self.function(rows, 0, support.generic)
        """Arrays to an empty list, or None if they are not."""


class GenericCall(_Checked):
    """The call of a `ShortWay`, with memory for the values that only kernels see."""

    def __init__(self, way: ShortWay, memory: int) -> None:
        """``memory`` is in bytes. Raises NotAsCompiled where something is no formula of extents."""
        super().__init__()
        self.step, self.wiring = way.step, way.step.wiring
        self.capacity, self.memory = memory, aligned_bytes(memory)
        self.arguments = self.wiring.arguments.copy()
        step = self.step
        places = dict(zip((*step.reads, *step.writes), self.wiring.slots, strict=True))
        rows = [self.given(type_) for type_ in way.types]
        if way.symbols:
            rows.append(self._numbers(way.symbols))
        named = frozenset(self.formulas.symbols)
        self.check(way.types, rows)
        self._agree()
        scratch = self._inside()
        self._symbols()
        for value, row in zip(way.inputs, rows, strict=False):
            self._argument(row[-1], places.get(value, ()))
        for number, value in enumerate(step.writes):
            self._argument(self._make(value, number), places[value])
        self._run(scratch)
        if set(self.formulas.symbols) > named:
            raise NotAsCompiled("its inputs do not say what all symbols are")
        self.call = self.function(rows, len(step.writes), step.support.generic)

    @property
    def lacks(self) -> int:
        """The memory that it would have needed for the last call; 0 if it was not that."""
        needed = int(self.slots[self.needed])
        return needed if needed > self.capacity else 0

    def _numbers(self, symbols: Sequence[str]) -> list[int]:
        """The row of an array with the numbers of ``symbols``."""
        formulas = self.formulas
        extent, address = formulas.slot(), formulas.slot()
        for index, name in enumerate(symbols):
            offset = formulas.number(8 * index)
            place = formulas.apply(words.ADD, address, offset)
            number = formulas.apply(words.READ_LONG, place, place)
            formulas.symbols.setdefault(name, number)
        return [self.keep(INT64.numpy), 1, extent, address]

    def _agree(self) -> None:
        """What extents have to be for the code to be made for them, and for so short a call."""
        formulas = self.formulas
        equal, reach, _ = self.step.conditions
        for one, other in equal:
            formulas.check(words.EQUAL, formulas.of(one), formulas.of(other))
        for one, other in reach:
            formulas.check(words.REACH, formulas.of(one), formulas.of(other))
        longest = LONGEST if self.step.pool.threads == 1 else WORTH_SHARING
        most = longest * BYTES_PER_NANOSECOND * OPERATIONS_PER_NANOSECOND
        formulas.check(words.REACH, formulas.number(most), self._work())

    def _work(self) -> int:
        """The slot of how long it takes: a nanosecond counts as all that is done in one."""
        formulas, total = self.formulas, self.formulas.number(0)
        for kernel, _ in self.wiring.kernels:
            work = kernel.work
            moved = formulas.apply(words.ADD, formulas.of(work.read), formulas.of(work.written))
            parts = (
                (formulas.of(work.operations), BYTES_PER_NANOSECOND),
                (moved, OPERATIONS_PER_NANOSECOND),
            )
            for slot, weight in parts:
                part = formulas.apply(words.MULTIPLY, slot, formulas.number(weight))
                total = formulas.apply(words.ADD, total, part)
        return total

    def _inside(self) -> int:
        """Place what only kernels see; gives the slot of the address of scratch memory."""
        formulas, wiring = self.formulas, self.wiring
        base = formulas.number(self.memory.ctypes.data)
        ends = [formulas.number(0)]
        for elements, itemsize in wiring.sizes:
            size = formulas.apply(words.MULTIPLY, formulas.of(elements), formulas.number(itemsize))
            ends.append(formulas.apply(words.ADD, ends[-1], self._rounded(size)))
        for slot, number in zip(wiring.inside.tolist(), wiring.entries.tolist(), strict=True):
            self._argument(formulas.apply(words.ADD, base, ends[number]), [slot])
        scratch = formulas.number(0)
        for kernel, _ in wiring.kernels:
            scratch = formulas.apply(words.GREATEST, scratch, formulas.of(kernel.scratch))
        self.needed = formulas.apply(words.ADD, ends[-1], scratch)
        formulas.check(words.REACH, formulas.number(self.capacity), self.needed)
        return formulas.apply(words.ADD, base, ends[-1])

    def _rounded(self, slot: int) -> int:
        """The next multiple of the alignment."""
        formulas, unit = self.formulas, self.formulas.number(ALIGNMENT)
        more = formulas.apply(words.ADD, slot, formulas.number(ALIGNMENT - 1))
        return formulas.apply(words.MULTIPLY, formulas.apply(words.FLOOR, more, unit), unit)

    def _symbols(self) -> None:
        """Write symbols where kernels look for them."""
        names = self.wiring.symbols
        self.symbols = np.zeros(len(names) + 1, np.int64)
        for index, name in enumerate(names):
            self.formulas.put(self.formulas.symbol(name), self.symbols.ctypes.data + 8 * index)

    def _argument(self, address: int, slots: Sequence[int]) -> None:
        """Let arguments of kernels be the ``address`` in a slot."""
        known = self.formulas.known(address)
        for slot in slots:
            if known is None:
                self.formulas.put(address, self.arguments.ctypes.data + 8 * slot)
            else:
                self.arguments[slot] = known

    def _make(self, value: Value, number: int) -> int:
        """Make a result, if `ResultMemory` has none of its size; the slot of its address."""
        formulas = self.formulas
        shape, dtype = self.wiring.types[value]
        extents = np.zeros(len(shape) + 1, np.int64)
        for axis, extent in enumerate(shape):
            slot = formulas.of(extent)
            known = formulas.known(slot)
            if known is None:
                formulas.put(slot, extents.ctypes.data + 8 * axis)
            else:
                extents[axis] = known
        elements = formulas.of(reduce(mul, shape, 1))
        size = formulas.apply(words.MULTIPLY, elements, formulas.number(dtype.itemsize))
        formulas.check(words.REACH, formulas.number(LARGE_BYTES), size)
        row = np.array([self.keep(dtype), len(shape), extents.ctypes.data, number], np.int64)
        self.kept += [extents, row]
        address, place = formulas.slot(), formulas.number(row.ctypes.data)
        formulas.code.append((words.MAKE, address, place, place))
        return address

    def _run(self, scratch: int) -> None:
        """Run the kernels, one after the other."""
        formulas, wiring = self.formulas, self.wiring
        starts = self.arguments.ctypes.data + 8 * wiring.starts
        symbols = self.symbols.ctypes.data + 8 * wiring.symbol_starts
        self.records = np.stack([wiring.functions, starts, symbols], 1)
        status = formulas.slot()
        for line in range(len(self.records)):
            record = formulas.number(self.records.ctypes.data + self.records.strides[0] * line)
            formulas.code.append((words.RUN, status, record, scratch))
