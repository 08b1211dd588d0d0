"""Formulas: dims as instructions for the native interpreter, each written down once.

What a run's extents decide (sizes, offsets, numbers of pieces, conditions) is a list of dims that
does not change from run to run. Decides in which order they are computed and in which slot each
lies; what only numbers decide is computed here and now.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fornix.compile import machine as words
from fornix.ir.dim import Dim, DimLike
from fornix.ir.dim.expression import Atom, Extreme, Floor, Symbol, terms_of
from fornix.runtime.providers import NotAsCompiled

Array = np.ndarray[Any, np.dtype[Any]]

_BITS = 63
"""Of numbers; the machine has no others."""


class Formulas:
    """Instructions, and the slots that they work in."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []
        self.values: list[int] = []
        """What each slot holds in the beginning."""
        self.symbols: dict[str, int] = {}
        """The slots of symbols, which somebody fills before the instructions run."""
        self._numbers: dict[int, int] = {}
        self._dims: dict[Dim, int] = {}
        self._atoms: dict[Atom, int] = {}
        self._known: dict[int, int] = {}
        """The slots that hold numbers whatever the extents, and these."""

    def slot(self, value: int = 0) -> int:
        """A new slot."""
        self.values.append(value)
        return len(self.values) - 1

    def number(self, value: int) -> int:
        """The slot of a number."""
        if value not in self._numbers:
            if value.bit_length() > _BITS:
                raise NotAsCompiled(f"{value} is beyond what native code counts to")
            slot = self._numbers[value] = self.slot(value)
            self._known[slot] = value
        return self._numbers[value]

    def known(self, slot: int) -> int | None:
        """What ``slot`` holds, if that is the same in every run."""
        return self._known.get(slot)

    def symbol(self, name: str) -> int:
        """The slot of a symbol."""
        if name not in self.symbols:
            self.symbols[name] = self.slot()
        return self.symbols[name]

    def apply(self, what: int, a: int, b: int) -> int:
        """The slot of what an instruction makes of the slots ``a`` and ``b``."""
        one, other = self.known(a), self.known(b)
        if one is not None and other is not None and what in _ARITHMETIC:
            return self.number(_ARITHMETIC[what](one, other))
        if what == words.ADD and 0 in {one, other}:
            return b if one == 0 else a
        if what == words.MULTIPLY and 1 in {one, other}:
            return b if one == 1 else a
        slot = self.slot()
        self.emit(what, slot, a, b)
        return slot

    def emit(self, what: int, x: int, a: int, b: int) -> None:
        """Add an instruction."""
        self.code.append((what, x, a, b))

    def check(self, what: int, a: int, b: int) -> None:
        """End the run unless `EQUAL` or `REACH` holds of two slots."""
        self.emit(what, a, a, b)

    def put(self, slot: int, address: int) -> None:
        """Write what ``slot`` holds to ``address``."""
        self.emit(words.PUT, slot, slot, self.number(address))

    def of(self, d: DimLike) -> int:
        """The slot of ``d``."""
        if isinstance(d, int):
            return self.number(d)
        if d not in self._dims:
            slots = [self._monomial(m, c) for m, c in terms_of(d).items()]
            self._dims[d] = self._folded(words.ADD, slots)
        return self._dims[d]

    def _monomial(self, monomial: Sequence[Atom], coefficient: int) -> int:
        factors = [self._atom(atom) for atom in monomial]
        return self._folded(words.MULTIPLY, [*factors, self.number(coefficient)])

    def _atom(self, atom: Atom) -> int:
        if atom not in self._atoms:
            if isinstance(atom, Symbol):
                self._atoms[atom] = self.symbol(atom.name)
            elif isinstance(atom, Floor):
                slots = self.of(atom.num), self.of(atom.den)
                self._atoms[atom] = self.apply(words.FLOOR, *slots)
            elif isinstance(atom, Extreme):
                what = words.LEAST if atom.kind == "min" else words.GREATEST
                self._atoms[atom] = self._folded(what, [self.of(d) for d in atom.inner])
            else:
                raise NotAsCompiled(f"{atom} is no extent of a run")
        return self._atoms[atom]

    def _folded(self, what: int, slots: Sequence[int]) -> int:
        found = slots[0] if slots else self.number(0)
        for slot in slots[1:]:
            found = self.apply(what, found, slot)
        return found

    def instructions(self) -> Array:
        """The instructions as the machine reads them."""
        return np.array(self.code or np.empty((0, words.WORDS)), np.int64)

    def start(self) -> Array:
        """The slots as they are in the beginning."""
        return np.array(self.values or [0], np.int64)


_ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    words.ADD: operator.add,
    words.MULTIPLY: operator.mul,
    words.FLOOR: operator.floordiv,
    words.LEAST: min,
    words.GREATEST: max,
}


class Evaluator:
    """Some dims, computed together for the extents of a run."""

    def __init__(
        self,
        machine: words.Machine,
        dims: Iterable[DimLike],
        equal: Iterable[tuple[DimLike, DimLike]] = (),
        reach: Iterable[tuple[DimLike, DimLike]] = (),
    ) -> None:
        """Also checks that the pairs of ``equal`` are, and the first of ``reach`` no less."""
        formulas = Formulas()
        self.places = np.array([formulas.of(d) for d in dims], np.int64)
        for one, other in equal:
            formulas.check(words.EQUAL, formulas.of(one), formulas.of(other))
        for one, other in reach:
            formulas.check(words.REACH, formulas.of(one), formulas.of(other))
        self.machine, self.formulas = machine, formulas
        self.code, self.slots = formulas.instructions(), formulas.start()
        self.names = list(formulas.symbols.items())

    def __call__(self, extents: Mapping[str, int]) -> Array | None:
        """The dims as numbers; None if a check does not hold, or a number is too large."""
        slots = self.slots.copy()
        for name, slot in self.names:
            slots[slot] = extents[name]
        status = self.machine(self.code.ctypes.data, len(self.code), slots.ctypes.data)
        found: Array = slots[self.places]
        return None if status else found
