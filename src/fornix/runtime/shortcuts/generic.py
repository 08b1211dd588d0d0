"""The short way of a step: arrays in, results out, in one native call whatever the extents are.

Writes down what a run computes from extents: whether the code is made for them, how large values
are and where they lie, how much work it is. An array's extents are operands of these instructions,
so that other ones cost nothing more. Decides which steps get such a call, and for how much work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from fornix.runtime.memory import ALIGNMENT, LARGE_BYTES, GuessedMemory, aligned_bytes, size_class
from fornix.runtime.native import (
    BYTES_PER_NANOSECOND,
    OPERATIONS_PER_NANOSECOND,
    WORTH_HELP,
    NativeStep,
)
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.shortcuts.wired import Instruction, WiredStep
from fornix.runtime.sizing.extents import told
from fornix.runtime.sizing.formulas import Formulas

Array = np.ndarray[Any, np.dtype[Any]]

ArrayType: TypeAlias = tuple[tuple[DimLike, ...], np.dtype[Any]]
Call: TypeAlias = Callable[[Any], list[Any] | None]

FIRST_BYTES = 1 << 12
"""Memory that a call has at first: more is taken once it is known how much it needs."""
LONG = 8
"""Bytes of an int64."""
LONGEST = 200_000
"""Nanoseconds of a call, roughly, up to which the GIL is kept where one thread does all."""
WORTH_LEARNING = 100_000
"""The same where others might help with steps that learn: those take 40,000 more in the long way,
as they look up what extents decide."""


class ShortWay:
    """Steps in a row, for all extents that their code is made for, as long as it is little work."""

    def __init__(
        self,
        steps: Sequence[NativeStep],
        symbols: Sequence[str] = (),
        inputs: Sequence[Value] | None = None,
        outputs: Sequence[Value] | None = None,
    ) -> None:
        """From ``inputs`` to ``outputs``: what the steps read and write unless told otherwise.

        Of ``symbols``, those that the steps need and the inputs do not give follow as `symbols`.
        """
        self.steps = tuple(steps)
        written = dict.fromkeys(value for step in steps for value in step.writes)
        read = dict.fromkeys(value for step in steps for value in step.reads)
        self.inputs = tuple(inputs or (value for value in read if value not in written))
        self.outputs = tuple(written if outputs is None else outputs)
        self._call: GenericCall | None = None
        self._is_closed = not is_available()
        self.types: list[ArrayType] = []
        try:
            self.types = [array_type(value, steps) for value in self.inputs]
        except NotAsCompiled:
            self._is_closed = True
        given = {d.name for shape, _ in self.types for d in shape if isinstance(d, Dim)}
        needed = set[str]().union(*map(symbols_of, steps)) - given
        self.symbols = [name for name in symbols if name in needed]
        """Those whose numbers follow the inputs, as an array of int64."""

    def __call__(self, arrays: list[Any]) -> list[Any] | None:
        """What the step writes; None if it has to be done the long way."""
        call = self._call
        if call is None:
            return None
        results = call.call(arrays)
        return self._again(call, arrays) if results is None else results

    def _again(self, call: GenericCall, arrays: list[Any]) -> list[Any] | None:
        """The same by another call, if memory is all that ``call`` lacks."""
        if not call.lacks and not call.is_small:
            return None
        memory = size_class(2 * call.lacks) or call.capacity
        self._open(memory, lends=call.lends or call.is_small)
        return self._call.call(arrays) if self._call else None

    @property
    def is_open(self) -> bool:
        """Whether there is a call, for some extents at least."""
        return self._call is not None

    def open(self) -> None:
        """Make the call; called after the long way, since steps that run once need none."""
        if self._call is None and not self._is_closed:
            self._is_closed = not all(step.tells_its_extents for step in self.steps)
            self._open(FIRST_BYTES)

    def _open(self, memory: int, *, lends: bool = False) -> None:
        if self._is_closed:
            return
        try:
            self._call = (LendingCall if lends else GenericCall)(self, memory)
        except NotAsCompiled:
            self._is_closed = True


def _longest(steps: Sequence[NativeStep]) -> int:
    """Nanoseconds of a call of ``steps`` at most."""
    if steps[0].pool.threads == 1:
        return LONGEST
    return WORTH_HELP if all(step.learned is None for step in steps) else WORTH_LEARNING


def symbols_of(step: NativeStep) -> set[str]:
    """The symbols in what a step reads, writes and asks its kernels to compute."""
    dims = (d for shape, _ in step.types.values() for d in shape if isinstance(d, Dim))
    found = {name for d in dims for name in d.symbols}
    kernels = (kernel for unit in step.units for kernel in unit.code.kernels)
    return found.union(*(kernel.symbols for kernel in kernels))


def array_type(value: Value, steps: Iterable[NativeStep] = ()) -> ArrayType:
    """What arrays of a value are: as one of ``steps`` reads it, or as it is declared.

    Raises NotAsCompiled if it is no tensor of known rank.
    """
    for step in steps:
        if value in step.types:
            return step.types[value]
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.shape is None or type_.dtype is None:
        raise NotAsCompiled(f"'{value.name}' is no tensor of known rank")
    return tuple(0 if d is None else d for d in type_.shape), type_.dtype.numpy


class CheckedCall:
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
            name, _ = told(extent)
            if name is not None:
                self.formulas.symbols.setdefault(name, slot)
        address = self.formulas.slot()
        return [self.keep(dtype), len(slots), slots[0] if slots else address, address]

    def check(self, types: Sequence[ArrayType], rows: Sequence[Sequence[int]]) -> None:
        """End it unless extents are those of ``types``, and symbols at least 1."""
        formulas = self.formulas
        for slot in formulas.symbols.values():
            formulas.check(words.REACH, slot, formulas.number(1))
        for type_, row in zip(types, rows, strict=False):
            self.compare(type_, row)

    def compare(self, type_: ArrayType, row: Sequence[int]) -> None:
        """End it unless the extents of an input are those of its type.

        Raises NotAsCompiled where these depend on symbols that are not known yet.
        """
        formulas, (shape, _), (_, rank, first, _) = self.formulas, type_, row
        named = len(formulas.symbols)
        for slot, extent in zip(range(first, first + rank), shape, strict=True):
            wanted = formulas.of(extent)
            if wanted != slot:
                formulas.check(words.EQUAL, slot, wanted)
        if len(formulas.symbols) > named:
            raise NotAsCompiled("its inputs do not say what all symbols are")

    def check_work(self, work: int, nanoseconds: int) -> None:
        """End it if what the slot ``work`` holds takes longer."""
        most = nanoseconds * BYTES_PER_NANOSECOND * OPERATIONS_PER_NANOSECOND
        self.formulas.check(words.REACH, self.formulas.number(most), work)

    def reserve(self, capacity: int) -> None:
        """Have so many bytes for what only instructions and kernels see."""
        self.capacity, self.memory = capacity, aligned_bytes(capacity)
        self._base = self.formulas.number(self.memory.ctypes.data)
        self._end = self.formulas.number(0)
        self.needed = self.formulas.slot()

    def room(self, size: int) -> int:
        """The slot of the address of memory, for the slot of a number of bytes."""
        formulas, unit = self.formulas, self.formulas.number(ALIGNMENT)
        address = formulas.apply(words.ADD, self._base, self._end)
        more = formulas.apply(words.ADD, size, formulas.number(ALIGNMENT - 1))
        rounded = formulas.apply(words.MULTIPLY, formulas.apply(words.FLOOR, more, unit), unit)
        self._end = formulas.apply(words.ADD, self._end, rounded)
        return address

    def close(self, scratch: int) -> int:
        """Check that there is memory enough; the slot of the address of its last part.

        ``scratch`` is the slot of how large that has to be.
        """
        formulas = self.formulas
        formulas.code.append((words.ADD, self.needed, self._end, scratch))
        formulas.check(words.REACH, formulas.number(self.capacity), self.needed)
        return formulas.apply(words.ADD, self._base, self._end)

    @property
    def lacks(self) -> int:
        """The memory that it would have needed for the last call; 0 if it was not that."""
        needed = int(self.slots[self.needed])
        return needed if needed > self.capacity else 0

    def nbytes(self, type_: ArrayType) -> int:
        """The slot of how many bytes arrays of a type have."""
        shape, dtype = type_
        formulas, elements = self.formulas, self.formulas.of(reduce(mul, shape, 1))
        return formulas.apply(words.MULTIPLY, elements, formulas.number(dtype.itemsize))

    def elements_of(self, step: NativeStep) -> int:
        """The slot of how many elements ``step`` writes; where it is 0, there is nothing to do."""
        shapes = [shape for shape, _ in map(step.types.__getitem__, step.writes)]
        return self.formulas.of(sum((reduce(mul, shape, 1) for shape in shapes), 0))

    def is_zero(self, slot: int) -> int:
        """The slot that holds 1 if ``slot`` holds 0, and 0 or less if it holds more."""
        formulas = self.formulas
        less = formulas.apply(words.MULTIPLY, slot, formulas.number(-1))
        return formulas.apply(words.ADD, less, formulas.number(1))

    def making(
        self, shape: Sequence[int], dtype: np.dtype[Any], number: int, lent: int = 0
    ) -> tuple[list[Instruction], int]:
        """Instructions that make result ``number``, and the slot that gets its address.

        ``shape`` are slots, ``lent`` is where the array stands that it is to lie in, if any is.
        """
        formulas = self.formulas
        extents = np.zeros(len(shape) + 1, np.int64)
        instructions: list[Instruction] = []
        for axis, slot in enumerate(shape):
            known = formulas.known(slot)
            if known is None:
                place = formulas.number(extents.ctypes.data + 8 * axis)
                instructions.append((words.PUT, slot, slot, place))
            else:
                extents[axis] = known
        words_ = self.keep(dtype), len(shape), extents.ctypes.data, number, 0, lent
        row = np.array(words_, np.int64)
        self.kept += [extents, row]
        address, place = formulas.slot(), formulas.number(row.ctypes.data)
        return [*instructions, (words.MAKE, address, place, place)], address

    def function(self, rows: Sequence[Sequence[int]], results: int, address: int) -> Call:
        """What Python calls, with the code at ``address``; raises NotAsCompiled if it cannot."""
        if not is_available():
            raise NotAsCompiled("objects of this Python are not laid out as native calls expect")
        self.code, self.slots = self.formulas.instructions(), self.formulas.start()
        work = self.code.ctypes.data, len(self.code), self.slots.ctypes.data
        *known, based = head()
        first = (*known[:7], len(rows), results, *work, 0, *known[7:], 0, based)
        table = np.array([*first, *(word for row in rows for word in row)], np.int64)
        made: Call = entry(table, address)
        return made

    def keep(self, thing: object) -> int:
        """The address of an object, which stays."""
        self.kept.append(thing)
        return id(thing)


class Guard(CheckedCall):
    """Tells whether arrays are of the types of ``inputs``, whose symbols are one number each."""

    def __init__(self, inputs: Sequence[Value], support: Support) -> None:
        """Raises NotAsCompiled where something is no formula of extents."""
        super().__init__()
        types = [array_type(value) for value in inputs]
        rows = [self.given(type_) for type_ in types]
        self.check(types, rows)
        self.call = self.function(rows, 0, support.generic)
        """Arrays to an empty list, or None if they are not."""


class GenericCall(CheckedCall):
    """The call of a `ShortWay`, with memory for the values that only kernels see."""

    lends = False
    """Whether large results get memory that is used again; else there are none."""

    def __init__(self, way: ShortWay, memory: int) -> None:
        """``memory`` is in bytes. Raises NotAsCompiled where something is no formula of extents."""
        super().__init__()
        self.way = way
        self.result_sizes = dict[int, int]()
        """By the numbers of results, the slots of their bytes."""
        self.reserve(memory)
        self._work = self.formulas.number(0)
        self._longest = _longest(way.steps)
        self._places: dict[Value, int] = {}
        """Slots with the addresses of values."""
        rows = [self.given(type_) for type_ in way.types]
        if way.symbols:
            rows.append(self._numbers(way.symbols))
        self._take(rows)
        for step in way.steps:
            self._learn(step)
            self._add(step)
        support = way.steps[0].support
        self.call = self.function(rows, len(way.outputs), support.generic)

    def _take(self, rows: Sequence[Sequence[int]]) -> None:
        """Check the inputs; those that tell numbers come first, as others are compared to these."""
        formulas = self.formulas
        for name, slot in list(formulas.symbols.items()):
            formulas.check(words.REACH, slot, formulas.number(0 if self._is_learned(name) else 1))
        given = zip(self.way.inputs, self.way.types, rows, strict=False)
        told = {value for step in self.way.steps for value in self._told_by(step)}
        for value, type_, row in sorted(given, key=lambda entry: entry[0] not in told):
            self._places[value] = row[-1]
            if value not in told:
                for step in self.way.steps:
                    self._learn(step)
            self.compare(type_, row)

    def _is_learned(self, name: str) -> bool:
        """Whether every step that needs a symbol learns it: the code of such serves 0 as well."""
        steps = [step for step in self.way.steps if name in symbols_of(step)]
        return all(step.learned is not None and name in step.learned.sources for step in steps)

    def _told_by(self, step: NativeStep) -> Mapping[Value, Sequence[str]]:
        """The values of which ``step`` learns elements, and the symbols that these are."""
        found: dict[Value, list[str]] = {}
        for name, source in () if step.learned is None else step.learned.sources.items():
            if source.is_element:
                found.setdefault(source.value, []).append(name)
        return found

    def _learn(self, step: NativeStep) -> None:
        """Read the numbers that ``step`` learns from elements of values that are there."""
        formulas = self.formulas
        sources = {} if step.learned is None else step.learned.sources
        for name, source in sources.items():
            address = self._places.get(source.value)
            if not source.is_element or name in formulas.symbols or address is None:
                continue
            size = source.dtype.itemsize
            place = formulas.apply(words.ADD, address, formulas.number(size * source.place))
            read = words.READ_LONG if size == LONG else words.READ_INT
            formulas.symbols[name] = formulas.apply(read, place, place)
            formulas.check(words.REACH, formulas.symbols[name], formulas.number(0))

    def _add(self, step: NativeStep) -> None:
        """Everything that a call does for ``step``."""
        formulas, outputs = self.formulas, self.way.outputs
        named = frozenset(formulas.symbols)
        elements = None if step.learned is None else self.elements_of(step)
        is_empty = None if elements is None else self.is_zero(elements)
        wired = WiredStep(step, formulas, self.room, is_empty)
        self.kept.append(wired)
        self._work = formulas.apply(words.ADD, self._work, wired.work)
        self.check_work(self._work, self._longest)
        for value in step.writes:
            if value in outputs:
                self._places[value] = self._make(step.types[value], outputs.index(value))
            else:
                self._places[value] = self.room(self.nbytes(step.types[value]))
        for value in (*step.inputs, *step.writes):
            wired.place(value, self._places[value])
        scratch, end = self.close(wired.scratch), formulas.slot()
        if elements is not None:
            formulas.code.append((words.JUMP, elements, elements, end))
        formulas.code += wired.running(scratch)
        formulas.values[end] = len(formulas.code)
        if set(formulas.symbols) > named:
            raise NotAsCompiled("its inputs do not say what all symbols are")

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

    def _make(self, type_: ArrayType, number: int) -> int:
        """Make a result, if `ResultMemory` has none of its size; the slot of its address."""
        shape, dtype = type_
        formulas, size = self.formulas, self.nbytes(type_)
        self.result_sizes[number] = size
        lent = self.lent(number, size)
        extents = [formulas.of(extent) for extent in shape]
        instructions, address = self.making(extents, dtype, number, lent)
        formulas.code += instructions
        return address

    def lent(self, number: int, size: int) -> int:  # noqa: ARG002 - others ask for the number
        """Check the size in a slot of result ``number``; where the array stands that it lies in."""
        self.formulas.check(words.REACH, self.formulas.number(LARGE_BYTES), size)
        return 0

    @property
    def is_small(self) -> bool:
        """Whether a result was too large for it."""
        return not self.lends and any(
            self.slots[slot] > LARGE_BYTES for slot in self.result_sizes.values()
        )


class LendingCall(GenericCall):
    """The same with large results in memory that is used again, one caller at a time.

    It expects them to be of the sizes that they had last.
    """

    lends = True

    def __init__(self, way: ShortWay, memory: int) -> None:
        """As in `GenericCall`."""
        self._lock = threading.Lock()
        self._memory = way.steps[0].results
        self._guessed = [GuessedMemory() for _ in way.outputs]
        super().__init__(way, memory)
        self._native, self.call = self.call, self._lend

    def lent(self, number: int, size: int) -> int:
        """Check the size in a slot of result ``number``; where the array stands that it lies in."""
        formulas, one = self.formulas, self._guessed[number]
        least, most = (formulas.number(address) for address in one.bounds)
        formulas.check(words.REACH, size, formulas.apply(words.READ_LONG, least, least))
        formulas.check(words.REACH, formulas.apply(words.READ_LONG, most, most), size)
        return one.place

    def _lend(self, arrays: list[Any]) -> list[Any] | None:
        """The results for ``arrays``; None if they have to be computed the long way."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            results = self._done(arrays)
            for _ in self._guessed:  # sizes of later results are known once earlier ones fit
                if results is not None or not self._fitted():
                    break
                results = self._done(arrays)
            return results
        finally:
            self._lock.release()

    def _done(self, arrays: list[Any]) -> list[Any] | None:
        for one in self._guessed:
            one.take(self._memory)
        try:
            return self._native(arrays)
        finally:
            for one in self._guessed:
                one.leave()

    def _fitted(self) -> bool:
        """Expect the size that a result was to have; whether there was one that did not fit."""
        slots = self.result_sizes.items()
        return any(self._guessed[number].fit(int(self.slots[slot])) for number, slot in slots)
