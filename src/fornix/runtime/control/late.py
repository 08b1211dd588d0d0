"""Numbers that a native call learns while it runs: computed where they stand, each time anew.

What extents of feeds decide is computed once, ahead of everything. Where kernels compute a number
that decides about extents, formulas of it are instructions among those that run kernels. Decides
which formulas these are, what extents are called that nothing else has a name for, and where values
of such sizes lie: memory is taken piece by piece, and given back with the iteration that took it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fornix.compile import machine as words
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.runtime.control.places import Code
from fornix.runtime.memory import ALIGNMENT, aligned_bytes
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.shortcuts.generic import ArrayType, CheckedCall
from fornix.runtime.sizing.extents import LATE
from fornix.runtime.sizing.formulas import Formulas


class LateFormulas(Formulas):
    """Formulas of which some are computed among what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.running: Code = []
        """What runs, as far as it is written down."""
        self.late: set[int] = set()
        """The slots that hold what is learned, and what is computed of it."""
        self.is_closed = False
        """Whether everybody who knows symbols has named them."""
        self.branches = 0
        """Levels of branches that are being written: those ask of extents where they run."""
        self._names: dict[int, Dim] = {}

    def emit(self, what: int, x: int, a: int, b: int) -> None:
        is_asked = self.branches and what in {words.EQUAL, words.REACH}
        if is_asked or not self.late.isdisjoint((a, b)):
            self.running.append((what, x, a, b))
            self.late.update({x} - {a})
        else:
            super().emit(what, x, a, b)

    def symbol(self, name: str) -> int:
        if self.is_closed and name not in self.symbols:
            raise NotAsCompiled("its inputs do not say what all symbols are")
        return super().symbol(name)

    def slot_of(self, what: int, a: int, b: int) -> int:
        """The slot of what an instruction gives that runs here."""
        slot = self.slot()
        self.running.append((what, slot, a, b))
        self.late.add(slot)
        return slot

    def learn(self, name: str, slot: int) -> None:
        """Let a symbol be what ``slot`` holds, up to the end of the `scope`."""
        if name in self.symbols and self.symbols[name] not in self.late:
            raise NotAsCompiled(f"'{name}' is two numbers")
        if name in self.symbols:
            self._dims, self._atoms = {}, {}
        self.symbols[name] = slot

    @contextmanager
    def scope(self, *, is_branch: bool = False) -> Iterator[None]:
        """What is learned and computed late in here is forgotten behind it: it may be jumped over.

        Names of extents stay.
        """
        self.branches += is_branch
        dims, atoms, symbols = dict(self._dims), dict(self._atoms), dict(self.symbols)
        try:
            yield
        finally:
            self.branches -= is_branch
            early = {d: slot for d, slot in self._dims.items() if slot not in self.late}
            self._dims = early | dims
            self._atoms = {a: s for a, s in self._atoms.items() if s not in self.late} | atoms
            names = {name: self.symbols[name] for d in self._names.values() for name in d.symbols}
            self.symbols = symbols | names

    def is_told(self, extent: DimLike) -> bool:
        """Whether all symbols of an extent are known here."""
        return isinstance(extent, int) or extent.symbols <= self.symbols.keys()

    def is_late(self, type_: ArrayType | None) -> bool:
        """Whether only a run tells extents of arrays of a type."""
        return type_ is not None and any(self.of(extent) in self.late for extent in type_[0])

    def named(self, type_: ArrayType) -> ArrayType:
        """``type_`` with a name for each extent that is learned: what it is made of may change."""
        return tuple(map(self._named, type_[0])), type_[1]

    def _named(self, extent: DimLike) -> DimLike:
        slot = self.of(extent)
        return self.extent(slot) if slot in self.late else extent

    def extent(self, slot: int) -> Dim:
        """The extent that a late slot holds."""
        if slot not in self._names:
            name = f"{LATE}{len(self._names)}"
            self._names[slot] = symbol(name, 0)
            self.symbols[name] = slot
        return self._names[slot]

    def changing(self) -> int:
        """A slot for a late number that others change."""
        slot = self.slot()
        self.late.add(slot)
        return slot


class LateCall(CheckedCall):
    """A call with memory for values whose sizes only a run tells."""

    formulas: LateFormulas

    def __init__(self) -> None:
        super().__init__()
        self.formulas = LateFormulas()
        self.pieces = 0
        """How many pieces of late memory are asked for."""
        self.fresh: set[int] = set()
        """Slots of the addresses of such pieces, of the iteration that is being written."""
        self.is_counted = False
        """Whether somebody bounds what a run may take, which a call does not tell."""
        self.filled: list[tuple[int, int]] = []
        """Slots of how many pieces of memory are in use, and how many there are."""

    def reserve_late(self, capacity: int) -> None:
        """Have so many bytes for it."""
        self.cursor, self.end = self._reserved(capacity)
        """The slots of where the next piece begins, and up to where there is memory."""
        self._staying = self._reserved(capacity)
        """The same of what is not given back as iterations end."""

    def _reserved(self, capacity: int) -> tuple[int, int]:
        """The slots of where memory for so many bytes begins and ends."""
        formulas, memory = self.formulas, aligned_bytes(capacity)
        self.kept.append(memory)
        cursor, end, zero = formulas.slot(), formulas.slot(), formulas.number(0)
        start = memory.ctypes.data
        for slot, place in ((cursor, start), (end, start + capacity)):
            formulas.running.append((words.ADD, slot, formulas.number(place), zero))
        return cursor, end

    @property
    def lacks_late(self) -> bool:
        """Whether the last call needed more of it."""
        pairs = (self.cursor, self.end), self._staying
        is_over = any(int(self.slots[cursor]) > int(self.slots[end]) for cursor, end in pairs)
        return is_over or any(self.slots[used] >= self.slots[most] for used, most in self.filled)

    def room(self, size: int) -> int:
        formulas = self.formulas
        if size in formulas.late:
            return self.late_room(size)
        if formulas.branches:  # extents may be below 0 in one that does not run
            size = formulas.apply(words.GREATEST, size, formulas.number(0))
        return super().room(size)

    def late_room(self, size: int) -> int:
        """Like `room`, of late memory."""
        self.pieces += 1
        address = self._taken(size, self.cursor, self.end)
        self.fresh.add(address)
        return address

    def staying_room(self, size: int) -> int:
        """The same, of memory that stays until the call is over."""
        return self._taken(size, *self._staying)

    def _taken(self, size: int, cursor: int, end: int) -> int:
        """The slot of the address of memory from that between two others."""
        if self.is_counted:
            raise NotAsCompiled("memory_limit counts what is as large as only a run tells")
        formulas = self.formulas
        zero, unit = formulas.number(0), formulas.number(ALIGNMENT)
        formulas.running.append((words.REACH, size, size, zero))
        address = formulas.slot_of(words.ADD, cursor, zero)
        more = formulas.apply(words.ADD, size, formulas.number(ALIGNMENT - 1))
        rounded = formulas.apply(words.MULTIPLY, formulas.apply(words.FLOOR, more, unit), unit)
        formulas.running.append((words.ADD, cursor, cursor, rounded))
        formulas.running.append((words.REACH, end, end, cursor))
        return address


class LateMemory:
    """What becomes of late memory around an iteration: nothing, where none is taken."""

    def __init__(self, call: LateCall) -> None:
        """What runs ahead of the first iteration."""
        self.call, self.formulas = call, call.formulas

    def set(self, slot: int, other: int) -> None:
        """Let a slot hold what another one holds."""
        self.formulas.running.append((words.ADD, slot, other, self.formulas.number(0)))

    def enter(self) -> None:
        """What runs as an iteration begins."""

    def turn(self) -> None:
        """What runs as it ends."""

    def leave(self) -> None:
        """What runs behind the last one."""


class Mark(LateMemory):
    """Each iteration gives back what it takes."""

    def __init__(self, call: LateCall) -> None:
        super().__init__(call)
        self.mark = self.formulas.slot()
        self.set(self.mark, call.cursor)

    def enter(self) -> None:
        self.set(self.call.cursor, self.mark)

    def leave(self) -> None:
        self.enter()


class Halves(LateMemory):
    """What an iteration takes stays until the next one is over: they take halves in turns."""

    def __init__(self, call: LateCall) -> None:
        super().__init__(call)
        formulas = self.formulas
        self.own, self.other = (
            (formulas.slot(), formulas.slot()),
            (formulas.slot(), formulas.slot()),
        )
        """Where the half of this iteration begins and ends, and that of the next one."""
        self.all, middle = formulas.slot(), self._middle()
        self.set(self.all, call.end)
        places = call.cursor, middle, middle, call.end
        for slot, place in zip((*self.own, *self.other), places, strict=True):
            self.set(slot, place)

    def _middle(self) -> int:
        """The slot of the place between two halves of what is left."""
        formulas, call = self.formulas, self.call
        less = formulas.slot_of(words.MULTIPLY, call.cursor, formulas.number(-1))
        left = formulas.slot_of(words.ADD, call.end, less)
        pairs = formulas.apply(words.FLOOR, left, formulas.number(2 * ALIGNMENT))
        half = formulas.apply(words.MULTIPLY, pairs, formulas.number(ALIGNMENT))
        return formulas.apply(words.ADD, call.cursor, half)

    def enter(self) -> None:
        self.set(self.call.cursor, self.own[0])
        self.set(self.call.end, self.own[1])

    def turn(self) -> None:
        for one, other in zip(self.own, self.other, strict=True):
            spare = self.formulas.slot()
            self.set(spare, one)
            self.set(one, other)
            self.set(other, spare)

    def leave(self) -> None:
        self.set(self.call.end, self.all)
