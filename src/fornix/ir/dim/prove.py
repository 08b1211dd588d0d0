"""Proofs of order: what holds for every value of the atoms.

There is no solver. Atoms with bounds are replaced by the end that is worse, outermost first; what
remains is a polynomial in atoms that have a least value, which is not negative if no coefficient
is. A proof that is not found claims nothing. Every statement is about the values at which the
expressions are defined: where no division by 0 occurs and every loop variable exists.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from fornix.errors import LimitError
from fornix.ir.dim.expression import (
    MAX_TERMS,
    Atom,
    Dim,
    DimLike,
    Extreme,
    Floor,
    Symbol,
    Terms,
    Unknown,
    atom_key,
    coefficient,
    known,
    terms_of,
    variables,
)
from fornix.ir.dim.refute import is_refuted

PROOF_STEPS = 64
"""Goals that one proof may open."""

Interval: TypeAlias = tuple[float, float]
"""Ends are ints, or infinite."""


def is_nonnegative(d: DimLike) -> bool | None:
    """Whether ``d >= 0`` always holds (True), never holds (False), or is not decided (None)."""
    if isinstance(d, int):
        return d >= 0
    if proves(d):
        return True
    return False if proves(-d - 1) else None


def less(a: DimLike, b: DimLike) -> bool | None:
    """Whether ``a < b`` always holds, never holds, or is not decided."""
    return is_nonnegative(b - a - 1)


def equal(a: DimLike, b: DimLike) -> bool | None:
    """Whether ``a == b`` always holds, never holds, or is not decided."""
    if a == b:
        return True
    return False if less(a, b) or less(b, a) else None


def bounds(d: DimLike) -> tuple[int | None, int | None]:
    """Constants that enclose ``d``, by interval arithmetic; None where there is none."""
    low, high = _interval(d)
    return (
        low if isinstance(low, int) else None,
        high if isinstance(high, int) else None,
    )


def _interval(d: DimLike) -> Interval:
    low: float = 0
    high: float = 0
    for monomial, c in terms_of(d).items():
        ends: Interval = (c, c)
        for atom in monomial:
            others = _interval_of_atom(atom)
            ends = _enclose([_times(x, y) for x in ends for y in others])
        low, high = low + ends[0], high + ends[1]
    return low, high


def _interval_of_atom(atom: Atom) -> Interval:
    inner = [_interval(i) for i in atom.inner]
    if isinstance(atom, Floor):
        (low, high), (den, most) = inner
        if den < 0:
            return -math.inf, math.inf
        den = max(den, 1)  # where den is 0 the atom has no value
        return _over(low, den if low < 0 else most), _over(high, den if high >= 0 else most)
    if isinstance(atom, Extreme):
        pick = min if atom.kind == "min" else max
        return pick(low for low, _ in inner), pick(high for _, high in inner)
    return (
        -math.inf if atom.low is None else _interval(atom.low)[0],
        math.inf if atom.high is None else _interval(atom.high)[1],
    )


def _enclose(ends: list[float]) -> Interval:
    return min(ends), max(ends)


def _times(x: float, y: float) -> float:
    if x == 0 or y == 0:
        return 0
    if math.inf in {abs(x), abs(y)}:
        return math.inf if (x < 0) == (y < 0) else -math.inf
    return x * y


def _over(x: float, y: float) -> float:
    if abs(x) == math.inf:
        return x
    if y == math.inf:
        return 0 if x >= 0 else -1
    return x // y


def proves(d: DimLike) -> bool:
    """Whether ``d >= 0`` is proved."""
    return proves_in(d, 0)


def proves_in(d: DimLike, context: DimLike) -> bool:
    """Whether ``d >= 0`` is proved for every value at which ``context`` is evaluated too.

    A loop variable exists only where its extent is at least 1: the symbols that are factors of an
    extent are taken as positive.
    """
    if isinstance(d, int):
        return d >= 0
    least = _least_in_box(d)
    if least is not None:
        return least >= 0
    return _proves_with(d, variables(d) | variables(context))


def _least_in_box(d: Dim) -> int | None:
    """The least value of ``d``, a sum of multiples of loop variables that have constant bounds.

    That decides most questions, and nothing else could: the least value occurs.
    """
    total = 0
    for monomial, c in d.terms.items():
        if not monomial:
            total += c
            continue
        atom = monomial[0]
        end = atom.low if c > 0 else atom.high
        if len(monomial) > 1 or not atom.variables or not isinstance(end, int):
            return None
        total += c * end
    return total


@functools.lru_cache(maxsize=8192)
def _positive(variable: Atom) -> frozenset[Atom]:
    """What is at least 1 where ``variable`` exists."""
    return frozenset(() if variable.high is None else _factors(variable.high + 1))


def _factors(d: DimLike) -> Iterable[Atom]:
    """The atoms that are not 0 where ``d`` is not 0, if ``d`` is a product."""
    terms = terms_of(d)
    return next(iter(terms)) if len(terms) == 1 else ()


@functools.lru_cache(maxsize=8192)
def _proves_with(d: DimLike, present: frozenset[Atom]) -> bool:
    if is_refuted(d, present):
        return False
    positive = frozenset().union(*map(_positive, present))
    try:
        return _Proof(positive).holds(d)
    except LimitError:
        return False


def _is_made(atom: Atom) -> bool:
    """Whether ``atom`` is made of other expressions, or bounded by some."""
    return not isinstance(atom, Symbol | Unknown)


def _in_turn(atoms: Collection[Atom]) -> Iterator[Atom]:
    """``atoms`` as they are replaced: outermost first, of quotients ahead of what they are by.

    Ahead of all loop variables that are in none of them: they are least at one of their ends.
    """
    inside = frozenset().union(*[atom.variables for atom in atoms if atom not in atom.variables])
    alone = [atom for atom in atoms if atom in atom.variables and atom not in inside]
    yield from sorted(alone, key=atom_key)
    yield from sorted([atom for atom in atoms if atom not in alone], key=_turn)


def _turn(atom: Atom) -> tuple[int, int, str]:
    den = atom.den if isinstance(atom, Floor) else 0
    return -atom.depth, -den if isinstance(den, int) else 0, atom.key


def _by_a_quotient(atom: Floor, others: DimLike) -> tuple[DimLike, DimLike]:
    """What ``atom`` divides and by what: another quotient, if it can be by one among ``others``.

    ``(x + c*m) // (m*n)`` is ``(x // m + c) // n``: an extent that is half of another, rounded up.
    """
    num, den = atom.inner
    for inner in _floors(others) if isinstance(den, int) else ():
        part = inner.den
        if isinstance(part, int) and isinstance(den, int) and 1 < part < den and den % part == 0:
            more = num - inner.num
            if isinstance(more, int) and more % part == 0:
                return Dim({(inner,): 1}) + more // part, den // part
    return num, den


def _greatest(atom: Floor) -> DimLike | None:
    """What ``atom`` is where loop variables are greatest, if that divides nothing any more."""
    most, den = atom.inner
    if not atom.variables or not isinstance(den, int) or den < 1:
        return None
    for variable in variables(most):
        slope, rest = coefficient(most, variable) or (None, most)
        end = variable.high if isinstance(slope, int) and slope > 0 else variable.low
        if not isinstance(slope, int) or end is None:
            return None
        most = rest + slope * end
    whole = most // den
    return whole if {*_floors(whole)} <= {*_floors(most)} else None


def _exact_quotient(num: DimLike, den: DimLike) -> DimLike | None:
    if isinstance(den, int):
        return None
    from fornix.ir.dim.simplify import exact_quotient  # noqa: PLC0415 -- it needs proofs

    return exact_quotient(num, den)


def _floors(d: DimLike) -> list[Floor]:
    """The quotients that are factors in ``d``, in the order of their keys."""
    found = {a for m in terms_of(d) for a in m if isinstance(a, Floor)}
    return sorted(found, key=lambda a: a.key)


def _times_surplus(terms: Terms, atom: Atom, least: int) -> Terms:
    """``terms`` times ``surplus + least``; the surplus is called like the atom."""
    product = {(*monomial, atom): c for monomial, c in terms.items()}
    if least:
        for monomial, c in terms.items():
            product[monomial] = product.get(monomial, 0) + c * least
    return product


class _Proof:
    """The search for a proof of ``d >= 0``: atoms with bounds are replaced, outermost first."""

    def __init__(self, positive: frozenset[Atom]) -> None:
        self.positive = positive
        self.steps = PROOF_STEPS
        self.found: dict[Atom, int | None] = {}

    def holds(self, d: DimLike) -> bool:
        if isinstance(d, int):
            return d >= 0
        self.steps -= 1
        if self.steps < 0:
            return False
        if self.by_coefficients(d):
            return True
        inside = {a for m in d.terms for a in m if a.high is not None or _is_made(a)}
        for atom in _in_turn(inside):
            split = coefficient(d, atom)
            if split is not None:
                ways = self.ways(atom, *split)
                if ways is not None:
                    return any(all(self.holds(goal) for goal in goals) for goals in ways)
        return False

    def ways(self, atom: Atom, c: DimLike, rest: DimLike) -> list[list[DimLike]] | None:
        """Sets of goals without ``atom``, each of which implies ``c*atom + rest >= 0``."""
        sign = self.sign(c)
        if isinstance(atom, Extreme):
            goals = [rest + c * choice for choice in atom.choices]
            alternatives = sign is not None and (sign > 0) == (atom.kind == "max")
            return [[goal] for goal in goals] if alternatives else [goals]
        if isinstance(atom, Floor):
            return self.ways_of_floor(atom, c, rest, sign)
        low, high = atom.low, atom.high
        if sign is not None:
            end = low if sign > 0 else high
            return None if end is None else [[rest + c * end]]
        # Linear in the atom, hence least at one of the ends.
        return None if low is None or high is None else [[rest + c * low, rest + c * high]]

    def ways_of_floor(
        self, atom: Floor, c: DimLike, rest: DimLike, sign: int | None
    ) -> list[list[DimLike]] | None:
        """From ``den*f <= num <= den*f + den - 1``, multiplied by ``den``.

        A multiple of ``den`` that is above ``-den`` is not negative: hence ``den - 1`` to spare.
        Variables that are nowhere else are greatest, where that leaves nothing to divide.
        """
        exact = _exact_quotient(*atom.inner)
        if exact is not None:
            return [[rest + c * exact]]
        num, den = _by_a_quotient(atom, rest)
        if sign is None or not self.holds(den):  # where den is 0 there is nothing to prove
            return None
        spare = den * rest + den - 1
        if sign < 0:
            most = None if atom.variables & variables(rest) else _greatest(atom)
            return [[spare + c * num if most is None else rest + c * most]]
        return [[spare + c * (num - den + 1)], [rest, num]]

    def sign(self, c: DimLike) -> int | None:
        """1 if ``c >= 0`` is proved, -1 if ``c <= 0`` is."""
        if isinstance(c, int):
            return 1 if c >= 0 else -1
        likely = -1 if all(k < 0 for k in c.terms.values()) else 1
        return next((sign for sign in (likely, -likely) if self.holds(c * sign)), None)

    def by_coefficients(self, d: Dim) -> bool:
        """With every atom written as its least value plus a surplus, no coefficient is negative."""
        if all(c > 0 for c in d.terms.values()) and self.least_all(d) == 0:
            return True
        degree = max(map(len, d.terms))
        if any(c < 0 for monomial, c in d.terms.items() if len(monomial) == degree):
            return False  # nothing is added to the coefficients of the highest monomials
        shifted: Terms = {}
        for monomial, c in d.terms.items():
            product: Terms = {(): c}
            for atom in monomial:
                least = self.least(atom)
                if least is None or len(product) > MAX_TERMS:
                    return False
                product = _times_surplus(product, atom, least)
            for m, k in product.items():
                shifted[m] = shifted.get(m, 0) + k
        return all(c >= 0 for c in shifted.values())

    def least_all(self, d: Dim) -> int | None:
        """0 if no atom of ``d`` can be negative."""
        for monomial in d.terms:
            for atom in monomial:
                least = self.least(atom)
                if least is None or least < 0:
                    return None
        return 0

    def least(self, atom: Atom) -> int | None:
        """A constant lower bound of ``atom``."""
        if atom not in self.found:
            self.found[atom] = self._least(atom)
        return self.found[atom]

    def _least(self, atom: Atom) -> int | None:
        least, there = known(atom.low), int(atom in self.positive)
        if isinstance(atom, Floor):
            return there if self.holds(atom.num) and self.holds(atom.den) else None
        if isinstance(atom, Extreme):
            some = any if atom.kind == "max" else all
            return there if some(self.holds(choice) for choice in atom.choices) else None
        return max(least or 0, 1) if there and (least or 0) >= 0 else least
