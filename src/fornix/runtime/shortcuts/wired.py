"""A native step as instructions: what its extents have to be, where its values lie, what runs.

Whoever writes a call puts several of them together, and decides where inputs and results lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fornix.compile import machine as words
from fornix.ir.graph import Value
from fornix.runtime.native import (
    BYTES_PER_NANOSECOND,
    OPERATIONS_PER_NANOSECOND,
    NativeStep,
)
from fornix.runtime.sizing.formulas import Formulas

Array = np.ndarray[Any, np.dtype[Any]]
Instruction: TypeAlias = tuple[int, int, int, int]


class WiredStep:
    """The tables of a step that other instructions of the same ``formulas`` run."""

    def __init__(
        self,
        step: NativeStep,
        formulas: Formulas,
        room: Callable[[int], int],
        is_empty: int | None = None,
    ) -> None:
        """``room`` gives the slot of the address of memory, for the slot of a number of bytes.

        Where the slot ``is_empty`` holds 1 nothing runs: whatever has no elements may have none.
        It holds anything where an extent is below 0.
        """
        self.step, self.wiring, self.formulas = step, step.wiring, formulas
        self.wiring.pack()
        self.arguments = self.wiring.arguments.copy()
        self._slots = dict(zip((*step.inputs, *step.writes), self.wiring.slots, strict=True))
        self._agree(is_empty)
        for slot, address in self._inside(room):
            self._argument(slot, address)
        self._symbols()
        starts = self.arguments.ctypes.data + 8 * self.wiring.starts
        symbols = self.symbols.ctypes.data + 8 * self.wiring.symbol_starts
        self.records = np.stack([self.wiring.functions, starts, symbols], 1)

    def _agree(self, is_empty: int | None) -> None:
        """What extents have to be for the code to be made for them."""
        formulas = self.formulas
        spare = formulas.number(0)
        if is_empty is not None:  # an extent may be 0 then, though not below
            at_most = formulas.apply(words.LEAST, is_empty, formulas.number(1))
            spare = formulas.apply(words.GREATEST, at_most, spare)
        equal, reach, _ = self.step.conditions
        for one, other in equal:
            formulas.check(words.EQUAL, formulas.of(one), formulas.of(other))
        for one, other in reach:
            most = formulas.of(one)
            if other == 1:
                most = formulas.apply(words.ADD, most, spare)
            formulas.check(words.REACH, most, formulas.of(other))

    def _inside(self, room: Callable[[int], int]) -> list[tuple[int, int]]:
        """Arguments that are what only kernels see, and the slots of their addresses."""
        formulas, wiring = self.formulas, self.wiring
        places: list[int] = []
        for elements, itemsize in wiring.sizes:
            size = formulas.apply(words.MULTIPLY, formulas.of(elements), formulas.number(itemsize))
            places.append(room(size))
        pairs = zip(wiring.inside.tolist(), wiring.entries.tolist(), strict=True)
        return [(slot, places[number]) for slot, number in pairs]

    def _symbols(self) -> None:
        """Write symbols where kernels look for them."""
        names = self.wiring.symbols
        self.symbols = np.zeros(len(names) + 1, np.int64)
        for index, name in enumerate(names):
            self.formulas.put(self.formulas.symbol(name), self.symbols.ctypes.data + 8 * index)

    def _argument(self, slot: int, address: int) -> None:
        known = self.formulas.known(address)
        if known is None:
            self.formulas.put(address, self.arguments.ctypes.data + 8 * slot)
        else:
            self.arguments[slot] = known

    def place(self, value: Value, address: int) -> None:
        """Let ``value`` lie, in the whole call, at the address in a slot."""
        for slot in self._slots.get(value, ()):
            self._argument(slot, address)

    def placing(self, value: Value, address: int) -> list[Instruction]:
        """Instructions that let ``value`` lie at the address in a slot from then on."""
        first = self.arguments.ctypes.data
        places = [self.formulas.number(first + 8 * slot) for slot in self._slots.get(value, ())]
        return [(words.PUT, address, address, place) for place in places]

    @property
    def work(self) -> int:
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

    @property
    def scratch(self) -> int:
        """The slot of how much memory a kernel needs beside its values."""
        formulas, most = self.formulas, self.formulas.number(0)
        for kernel, _ in self.wiring.kernels:
            most = formulas.apply(words.GREATEST, most, formulas.of(kernel.scratch))
        return most

    def running(self, scratch: int) -> Sequence[Instruction]:
        """Instructions that run the kernels, with scratch memory at the address in a slot."""
        first, row = self.records.ctypes.data, self.records.strides[0]
        records = [self.formulas.number(first + row * n) for n in range(len(self.records))]
        status = self.formulas.slot()
        return [(words.RUN, status, record, scratch) for record in records]
