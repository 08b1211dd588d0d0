"""Counterexamples: values of all atoms at which an expression is negative.

Most questions about indices are not decided, and a search for a proof ends only when it has tried
everything. One place where a statement does not hold says as much, and takes a twentieth of that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TypeAlias

from fornix.ir.dim.expression import Atom, DimLike, Extreme, Floor, terms_of

Place: TypeAlias = tuple[int, bool]
"""What atoms are that have no upper bound, and whether those that have one are there, or least."""

SIZES = 1, 10_001, 100, 10_002
"""What is as large as it likes: little, more than what divides extents, and in between."""
PLACES = tuple((size, is_high) for size in SIZES for is_high in (False, True))
MAX_KNOWN = 1 << 15
"""Values of atoms that are remembered."""


def is_refuted(d: DimLike, present: Iterable[Atom]) -> bool:
    """Whether ``d`` is negative somewhere, where all the variables ``present`` have values."""
    return any(
        (_value(d, place) or 0) < 0 and all(_value_of(v, place) is not None for v in present)
        for place in PLACES
    )


def _value(d: DimLike, place: Place) -> int | None:
    """``d`` at ``place``, None where it has no value."""
    total = 0
    for monomial, factor in terms_of(d).items():
        product = factor
        for atom in monomial:
            value = _value_of(atom, place)
            if value is None:
                return None
            product *= value
        total += product
    return total


@functools.lru_cache(maxsize=MAX_KNOWN)
def _value_of(atom: Atom, place: Place) -> int | None:
    """What ``atom`` is at ``place``: all that has the same bounds is the same there."""
    if isinstance(atom, Floor | Extreme):
        inner = [_value(d, place) for d in atom.inner]
        if None in inner:
            return None
        values = [value for value in inner if value is not None]
        if isinstance(atom, Extreme):
            return min(values) if atom.kind == "min" else max(values)
        return values[0] // values[1] if values[1] else None
    if atom.low is None:
        return None
    size, is_high = place
    low = _value(atom.low, place)
    high = None if atom.high is None else _value(atom.high, place)
    if low is None or (atom.high is not None and high is None):
        return None
    if high is None:
        return max(size, low)
    return None if high < low else high if is_high else low
