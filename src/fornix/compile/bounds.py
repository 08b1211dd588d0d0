"""Proofs that code reads within its inputs, once extents are numbers.

Rules of operators take shapes at their word: that two extents agree where the standard says so,
that an extent is 1 or is not. What `fornix.ir.dim` does not prove for every extent is proved here
for those of a run, before native code sees them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.ir.dim import Dim, DimLike, is_nonnegative
from fornix.ir.dim.expression import (
    Atom,
    Extreme,
    Floor,
    Terms,
    collect,
    substitute,
    terms_of,
    variables,
)
from fornix.ir.loops import Loaded, Variable

Array = np.ndarray[Any, np.dtype[Any]]

MAX_PLACES = 1 << 18
"""Values of the variables inside divisions that are tried one by one."""


@dataclass(frozen=True)
class Bound:
    """``0 <= address < elements``, for every value of the loop variables in it."""

    address: DimLike
    elements: DimLike

    @property
    def dims(self) -> Iterator[DimLike]:
        """All that it depends on."""
        yield from (self.address, self.elements)
        yield from (v.extent for v in variables(self.address) if isinstance(v, Variable))

    @property
    def is_proved(self) -> bool:
        """Whether it holds for all extents."""
        below = self.elements - 1 - self.address
        return bool(is_nonnegative(self.address)) and bool(is_nonnegative(below))

    @property
    def is_proved_in_parts(self) -> bool:
        """Whether it holds for all extents: parts of the address whose extents are numbers tried.

        What else is in it is taken as it is by `is_proved`.
        """
        least, most = _between(self.address)
        below = self.elements - 1 - most
        return bool(is_nonnegative(least)) and bool(is_nonnegative(below))

    def holds(self, extents: Mapping[Atom, int]) -> bool:
        """Whether it is proved once symbols have these values."""
        values: dict[Atom, DimLike] = dict(extents)
        for variable in variables(self.address):
            if isinstance(variable, Variable):
                extent = substitute(variable.extent, values, {})
                if extent == 0:  # nothing is read, and nothing divided by it
                    return True
                values[variable] = Variable(variable.name, extent).dim
        elements = substitute(self.elements, values, {})
        bound = Bound(substitute(self.address, values, {}), elements)
        return bound.is_proved or (
            isinstance(elements, int) and _is_within(bound.address, elements)
        )


class _Undecided(Exception):
    """The address is of no form that can be tried."""


def _is_within(address: DimLike, elements: int) -> bool:
    """Whether ``0 <= address < elements``: by trying the variables inside divisions.

    What else the address contains is linear in it, and extreme at its ends.
    """
    low = high = 0
    try:
        for part in _apart(address):
            ends = _ends_of(*part)
            if ends is None:
                return True
            low, high = low + ends[0], high + ends[1]
    except _Undecided:
        return False
    return low >= 0 and high < elements


def _between(address: DimLike) -> tuple[DimLike, DimLike]:
    """What ``address`` is no less and no more than: numbers for those parts that can be tried."""
    least: DimLike = 0
    most: DimLike = 0
    for terms, inside in _apart(address):
        try:
            ends = _ends_of(terms, inside)
        except _Undecided:
            ends = None
        low, high = (collect(terms),) * 2 if ends is None else ends
        least, most = least + low, most + high
    return least, most


def _ends_of(terms: Terms, inside: set[Atom]) -> tuple[int, int] | None:
    """The least and the greatest value of a part of an address; None if it has none."""
    grid = _grid(inside)
    ends = [_ends(monomial, c, grid) for monomial, c in terms.items()]
    least, most = (np.asarray(sum(x)) for x in zip(*ends, strict=True))
    return (int(least.min()), int(most.max())) if least.size and most.size else None


def _apart(address: DimLike) -> list[tuple[Terms, set[Atom]]]:
    """The terms of ``address`` in sums of which none has to do with another.

    With each, the variables inside its divisions: its ends are found whatever those of others are.
    """
    terms = terms_of(address)
    compound = {a for m in terms for a in m if isinstance(a, Floor | Extreme)}
    divided = {v for a in compound for v in a.variables}
    found: list[tuple[Terms, set[Atom]]] = []
    for monomial, c in terms.items():
        inside = divided & {v for a in monomial for v in (a, *a.variables)}
        own = {monomial: c}
        joined = [x for x in found if x[1] & inside]
        for other in joined:
            own, inside = own | other[0], inside | other[1]
            found.remove(other)
        found.append((own, inside))
    return found


def _grid(variables_inside: set[Atom]) -> dict[Atom, Array]:
    """The variables inside divisions, each with its values along an axis of its own."""
    inside = sorted(variables_inside, key=lambda v: v.key)
    extents = [v.extent for v in inside if isinstance(v, Variable) and isinstance(v.extent, int)]
    if len(extents) < len(inside) or math.prod(extents) > MAX_PLACES:
        raise _Undecided
    shapes = np.eye(len(inside), dtype=int) * (np.array(extents, int) - 1) + 1
    return {
        v: np.arange(extent).reshape(shape)
        for v, extent, shape in zip(inside, extents, shapes, strict=True)
    }


def _ends(monomial: tuple[Atom, ...], c: int, grid: dict[Atom, Array]) -> tuple[Array, Array]:
    """The least and the greatest value of ``c`` times the product of ``monomial``."""
    factor, free = np.asarray(c), None
    for atom in monomial:
        if atom in grid or isinstance(atom, Floor | Extreme):
            factor = factor * _value(Dim({(atom,): 1}), grid)
        elif free is None and isinstance(atom, Variable | Loaded):
            free = atom.extent - 1
        else:
            raise _Undecided
    if free is None:
        return factor, factor
    if not isinstance(free, int):
        raise _Undecided
    return np.minimum(factor * free, 0), np.maximum(factor * free, 0)


def _value(d: DimLike, grid: dict[Atom, Array]) -> Array:
    """``d`` for all values of the variables of ``grid``."""
    total = np.zeros((), np.int64)
    for monomial, c in terms_of(d).items():
        product = np.asarray(c, np.int64)
        for atom in monomial:
            product = product * _atom(atom, grid)
        total = total + product
    return np.asarray(total)


def _atom(atom: Atom, grid: dict[Atom, Array]) -> Array:
    if atom in grid:
        return grid[atom]
    inner = [_value(i, grid) for i in atom.inner]
    if isinstance(atom, Floor) and np.all(inner[1] != 0):
        return np.asarray(np.floor_divide(*inner))
    if not isinstance(atom, Extreme):
        raise _Undecided
    pick = np.minimum if atom.kind == "min" else np.maximum
    return np.asarray(functools.reduce(pick, inner))
