"""What the tables of a native step say whatever the extents; made once: new ones cost little.

Decides where each argument of each kernel comes from: a fixed address, the inputs and results of
the step, which a run brings, or a place in the block of memory that a run works in.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import mul
from typing import Any

import numpy as np

from fornix.compile.kernel import CompiledKernel
from fornix.compile.units import NativeUnit
from fornix.ir.buffer import Buffer
from fornix.ir.dim import DimLike, maximum
from fornix.ir.graph import Value
from fornix.runtime.memory import readable
from fornix.runtime.packing import StoredData, is_prepared
from fornix.runtime.sizing.placing import Join

Array = np.ndarray[Any, np.dtype[Any]]
Key = Value | tuple[int, Buffer]
"""What lies in the block: a value, or a temporary of a unit by its number."""


@dataclass(frozen=True)
class JoinedUnit:
    """A unit whose result consists of what it reads, all of which is in the block."""

    kernels: slice
    """By number."""
    join: Join
    runs: DimLike
    """1: parts that lie where the result has them are not copied."""


@dataclass
class Stay:
    """When something is in the block: from one unit to another, by number."""

    first: int
    last: int


class Wiring:
    """The kernels of a step in order, and what lies behind their arguments."""

    def __init__(
        self,
        units: Sequence[NativeUnit],
        interface: tuple[Sequence[Value], Sequence[Value]],
        data: StoredData,
    ) -> None:
        """``interface`` is what the step reads and what it writes for others."""
        self.units = units
        self.data = data
        outside = {*interface[0], *interface[1], *data.tables}
        self.stays = _stays(units, outside, data.places)
        """What is in the block."""
        self.outside = [value for side in interface for value in side]
        """What runs bring and take away."""
        self.kernels = [(kernel, unit) for _, unit, kernel in self._running()]
        self.functions = np.array([kernel.address for kernel, _ in self.kernels], np.int64)
        self.symbols = [name for kernel, _ in self.kernels for name in kernel.symbols]
        """Names of symbols, as many as each kernel has, one kernel after the other."""
        self.symbol_starts = _starts(len(kernel.symbols) for kernel, _ in self.kernels)
        """Of each kernel, the first of its `symbols`."""
        self.starts = _starts(len(kernel.arguments) for kernel, _ in self.kernels)
        """Of each kernel, the first of its `arguments`."""
        places: dict[Key, list[int]] = {value: [] for value in self.outside}
        places |= {place: [] for place in data.places}
        order = {key: number for number, key in enumerate(self.stays)}
        arguments: list[int] = []
        inside: list[tuple[int, int]] = []
        self.kept: list[Array] = []
        """What lies at fixed addresses."""
        for home in self._homes():
            slot = len(arguments)
            arguments.append(0)
            if isinstance(home, np.ndarray):
                self.kept.append(home)
                arguments[slot] = home.ctypes.data
            elif home in order:
                inside.append((slot, order[home]))
            else:
                places[home].append(slot)
        self.arguments = np.array(arguments or [0], np.int64)
        """Addresses of all arguments, 0 where a run decides, or what is packed is not there."""
        self.inside, self.entries = np.array(inside or np.empty((0, 2)), np.int64).T
        """Arguments that lie in the block, and the number there of what each one is."""
        self.slots = [places[value] for value in dict.fromkeys(self.outside)]
        """Of each input and result, the arguments that are its address."""
        self._packed = {place: places[place] for place in data.places if places[place]}
        """The same of packed weights, as long as that is not there."""

    def pack(self, parallel: Sequence[int] | None = None) -> None:
        """Have the packed weights that kernels read at their addresses.

        Only those of kernels that have any work, if ``parallel`` tells of each what it has.
        """
        wanted = {
            place: slots
            for place, slots in self._packed.copy().items()
            if parallel is None or any(parallel[self._kernel_of(slot)] for slot in slots)
        }
        if not wanted:
            return
        found = self.data.packed(wanted.keys())
        for place, slots in wanted.items():
            self.kept.append(found[place])
            self.arguments[slots] = found[place].ctypes.data
            self._packed.pop(place, None)  # not before: other threads take it for done then

    @cached_property
    def joined(self) -> list[JoinedUnit]:
        """Units that do nothing but copy from the block to the block."""
        return list(self._joined())

    def _joined(self) -> Iterator[JoinedUnit]:
        order, start = {key: number for number, key in enumerate(self.stays)}, 0
        for unit in self.units:
            stop = start + sum(not is_prepared(unit.code, kernel) for kernel in unit.code.kernels)
            joined = unit.code.joined
            if joined is not None:
                parts = [order.get(unit.unit.inputs[place]) for place in joined.parts]
                whole = order.get(unit.unit.outputs[0])
                own = tuple(part for part in parts if part is not None)
                if whole is not None and len(own) == len(parts):
                    yield JoinedUnit(slice(start, stop), Join(whole, own), joined.runs)
            start = stop

    @cached_property
    def users(self) -> Array:
        """The kernels, by number, of the arguments that lie in the block."""
        found: Array = np.searchsorted(self.starts, self.inside, side="right") - 1
        return found

    def _kernel_of(self, slot: int) -> int:
        """The kernel, by number, that an argument is of."""
        return bisect.bisect_right(self.starts, slot) - 1

    @cached_property
    def types(self) -> Mapping[Value, tuple[tuple[DimLike, ...], np.dtype[Any]]]:
        """Of what units read and write: dims of its extents, and its element type."""
        return types_of(self.units)

    @cached_property
    def sizes(self) -> Sequence[tuple[DimLike, int]]:
        """Of what is in the block: a number of elements, and the bytes of one."""
        return [self._size(key) for key in self.stays]

    def _size(self, key: Key) -> tuple[DimLike, int]:
        if isinstance(key, Value):
            return self.size_of(key)
        buffer = key[1]
        return maximum(buffer.elements, 1), buffer.dtype.numpy.itemsize

    def size_of(self, value: Value) -> tuple[DimLike, int]:
        """How many elements ``value`` has, and the bytes of one."""
        shape, dtype = self.types[value]
        return reduce(mul, shape, 1), dtype.itemsize

    def _running(self) -> Iterator[tuple[int, NativeUnit, CompiledKernel]]:
        """The kernels that runs run, with their units and the numbers of these."""
        for number, unit in enumerate(self.units):
            for kernel in unit.code.kernels:
                if not is_prepared(unit.code, kernel):
                    yield number, unit, kernel

    def _homes(self) -> Iterator[Key | Array]:
        """What lies behind each argument of each kernel."""
        for number, unit, kernel in self._running():
            for buffer in kernel.arguments:
                yield self._home(number, unit, buffer)

    def _home(self, number: int, unit: NativeUnit, buffer: Buffer) -> Key | Array:
        """What lies behind an argument."""
        code = unit.code
        if buffer in code.tables:
            return readable(code.tables[buffer])
        if buffer in code.inputs:
            value = unit.unit.inputs[code.inputs[buffer]]
        elif buffer in code.outputs:
            value = unit.unit.outputs[code.outputs[buffer]]
        else:
            return number, buffer
        return self.data.tables.get(value, value)


def _stays(
    units: Sequence[NativeUnit], outside: Collection[Value], prepared: Collection[object]
) -> Mapping[Key, Stay]:
    """When values that only the units read are in the block, and temporaries."""
    stays: dict[Key, Stay] = {}
    computed = {value for unit in units for value in unit.unit.outputs}
    for number, unit in enumerate(units):
        for value in (*unit.unit.inputs, *unit.unit.outputs):
            is_stored = value.constant is not None and value not in computed
            if value not in outside and not is_stored:
                stays.setdefault(value, Stay(number, number)).last = number
        for buffer in unit.code.temporaries:
            if (number, buffer) not in prepared:
                stays[number, buffer] = Stay(number, number)
    return stays


def types_of(
    units: Sequence[NativeUnit],
) -> dict[Value, tuple[tuple[DimLike, ...], np.dtype[Any]]]:
    """Of what ``units`` read and write: dims of its extents, and its element type."""
    found: dict[Value, tuple[tuple[DimLike, ...], np.dtype[Any]]] = {}
    for unit in units:
        code = unit.code
        for buffer, index in code.inputs.items():
            found[unit.unit.inputs[index]] = tuple(buffer.shape), buffer.dtype.numpy
        for buffer, index in code.outputs.items():
            found[unit.unit.outputs[index]] = tuple(buffer.shape), buffer.dtype.numpy
    return found


def _starts(counts: Iterable[int]) -> Array:
    """Where each of some rows begins that lie one after the other."""
    return np.array(list(itertools.accumulate(counts, initial=0))[:-1], np.int64)
