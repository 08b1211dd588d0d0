"""Floor division, minimum and maximum, simplified as far as proofs reach."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable

from fornix.errors import ShapeError
from fornix.ir.dim.expression import (
    MAX_CHOICES,
    MAX_TERMS,
    Dim,
    DimLike,
    Extreme,
    Floor,
    Monomial,
    Terms,
    atom_key,
    atoms,
    collect,
    give_up,
    of_atom,
    order,
    render,
    terms_of,
)
from fornix.ir.dim.prove import proves, proves_in


def divide(a: DimLike, b: DimLike) -> DimLike:
    """``floor(a / b)``, as Python rounds.

    Where ``b >= 1`` is proved it is simplified: 1. monomials that ``b`` divides are taken out; 2. a
    rest proved to lie in ``[0, b)`` is dropped; 3. common factors of rest and divisor cancel; 4.
    ``(x // m + c) // n`` becomes ``(x + c*m) // (m*n)``. Anything else stays an atom, and so does a
    division by what may be 0. Raises ShapeError where ``b`` is 0.
    """
    if isinstance(b, int):
        if b == 0:
            msg = f"{a} is divided by zero"
            raise ShapeError(msg)
        if isinstance(a, int):
            return a // b
        if b == 1:
            return a
    return _divide(a, b)


def ceildiv(a: DimLike, b: DimLike) -> DimLike:
    """``ceil(a / b)``."""
    return -divide(-a, b)


def exact_quotient(a: DimLike, b: DimLike) -> DimLike | None:
    """The ``q`` with ``q*b == a`` as polynomials, whatever the symbols are; None if there is none.

    Unlike ``//`` it divides by symbols that may be 0: ``N*S*768`` by ``N*S`` is 768.
    """
    if isinstance(b, int) and b == 0:
        return None
    quotient, rest = long_division(a, b)
    if not isinstance(rest, int) or rest != 0 or not atoms(quotient) <= atoms(a):
        return None  # an atom that is not in ``a`` says that the quotient is too large
    return quotient


@functools.lru_cache(maxsize=8192)
def _divide(a: DimLike, b: DimLike) -> DimLike:
    if not proves_in(b - 1, a):
        if proves_in(-b - 1, a):
            return divide(-a, -b)
        return of_atom(Floor(a, b))
    quotient, rest = long_division(a, b)
    if proves(rest) and proves_in(b - 1 - rest, a):
        return quotient
    if _leads_negative(rest):  # floor(r / b) = -1 - floor((-r - 1) / b)
        return quotient - 1 - divide(-rest - 1, b)
    smaller = _cancel(rest, b, a)
    if smaller is None:
        smaller = _unnest(rest, b)
    return quotient + (of_atom(Floor(rest, b)) if smaller is None else divide(*smaller))


def long_division(a: DimLike, b: DimLike) -> tuple[DimLike, DimLike]:
    """``(q, r)`` with ``a == q*b + r``: division of polynomials by the leading term of ``b``.

    Coefficients are divided towards zero, so that signs stay; the constant is floored. A division
    that makes many terms out of few is given up: ``(0, a)``.
    """
    divisor = terms_of(b)
    lead = min(divisor, key=order)
    others = [(m, k) for m, k in divisor.items() if m != lead]
    work = dict(terms_of(a))
    quotient: Terms = {}
    rest: Terms = {}
    while work:
        if len(work) + len(rest) + len(quotient) > 2 * MAX_TERMS:
            return 0, a
        monomial = min(work, key=order) if others else next(iter(work))
        c = work.pop(monomial)
        factor = _without(monomial, lead)
        times = 0 if factor is None else _times(c, divisor[lead], is_constant=not monomial)
        if c != times * divisor[lead]:
            rest[monomial] = c - times * divisor[lead]
        if factor is not None and times:
            quotient[factor] = times
            _subtract(work, [(factor + m, times * k) for m, k in others])
    return collect(quotient), collect(rest)


def _times(c: int, unit: int, *, is_constant: bool) -> int:
    """How many times ``unit`` goes into the coefficient ``c``."""
    times = c // unit
    return times + 1 if times < 0 and times * unit != c and not is_constant else times


def _subtract(work: Terms, terms: list[tuple[Monomial, int]]) -> None:
    for factors, c in terms:
        monomial = tuple(sorted(factors, key=atom_key))
        work[monomial] = work.get(monomial, 0) - c
        if not work[monomial]:
            del work[monomial]


def _without(monomial: Monomial, part: Monomial) -> Monomial | None:
    """``monomial / part``, or None if it does not divide."""
    left = list(monomial)
    for atom in part:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _leads_negative(d: DimLike) -> bool:
    terms = terms_of(d)
    return terms[min(terms, key=order)] < 0


def _cancel(a: DimLike, b: DimLike, context: DimLike) -> tuple[DimLike, DimLike] | None:
    """``(x + y // g, b / g)`` for ``a = g*x + y`` and a ``g`` that divides ``b``.

    floor((g*x + y) / (g*n)) = floor((x + floor(y / g)) / n) for any y, if g >= 1.
    """
    tried: set[tuple[int, Monomial]] = set()
    for monomial, c in terms_of(a).items():
        k, common = _common(c, monomial, b)
        if not monomial or (k, common) in tried or (k == 1 and not common):
            continue
        tried.add((k, common))
        g = collect({common: k})
        n = exact_quotient(b, g)
        if n is None or not proves_in(g - 1, context):
            continue
        x, y = long_division(a, g)
        whole = _quotient_of_small(y, g)
        if whole is not None:
            return x + whole, n
    return None


def _quotient_of_small(y: DimLike, g: DimLike) -> int | None:
    """``y // g`` where that is a constant."""
    if isinstance(y, int) and isinstance(g, int):
        return y // g
    return 0 if proves(y) and proves(g - 1 - y) else None


def _common(c: int, monomial: Monomial, b: DimLike) -> tuple[int, Monomial]:
    """The greatest term that divides ``c * monomial`` and every term of ``b``."""
    common = list(monomial)
    for other, k in terms_of(b).items():
        c = math.gcd(c, k)
        left = list(other)
        for atom in tuple(common):
            if atom in left:
                left.remove(atom)
            else:
                common.remove(atom)
    return c, tuple(common)


def _unnest(a: DimLike, b: DimLike) -> tuple[DimLike, DimLike] | None:
    """``(x + c*m, m*b)`` for ``a = x // m + c`` with a constant ``c`` and ``m >= 1``."""
    terms = dict(terms_of(a))
    constant = terms.pop((), 0)
    if len(terms) != 1:
        return None
    ((monomial, k),) = terms.items()
    inner = monomial[0]
    if k != 1 or len(monomial) != 1 or not isinstance(inner, Floor) or not proves(inner.den - 1):
        return None
    return inner.num + inner.den * constant, inner.den * b


def minimum(*choices: DimLike) -> DimLike:
    """The least of ``choices``; those proved not to matter are left out."""
    return extreme("min", choices)


def maximum(*choices: DimLike) -> DimLike:
    """The greatest of ``choices``; those proved not to matter are left out."""
    return extreme("max", choices)


def extreme(kind: str, choices: tuple[DimLike, ...]) -> DimLike:
    if all(isinstance(c, int) for c in choices):
        return min(choices) if kind == "min" else max(choices)  # type: ignore[type-var]
    flat = dict.fromkeys(
        itertools.chain.from_iterable(_choices(kind, c) for c in _unbeaten(kind, choices))
    )
    if len(flat) > MAX_CHOICES:
        return give_up(Dim({m: 1 for c in flat for m in terms_of(c) if m}), f"{len(flat)} choices")
    kept = _unbeaten(kind, flat)
    if len(kept) == 1:
        return kept[0]
    shared = set.intersection(*(set(terms_of(c).items()) for c in kept))
    common = collect(dict(shared))
    ordered = sorted((c - common for c in kept), key=lambda c: render(c, atom_key))
    return common + of_atom(Extreme(kind, tuple(ordered)))


def _unbeaten(kind: str, choices: Iterable[DimLike]) -> list[DimLike]:
    """Those of ``choices`` that are not proved not to matter."""
    kept: list[DimLike] = []
    for c in choices:
        if not any(_beats(kind, other, c) for other in kept):
            kept = [other for other in kept if not _beats(kind, c, other)]
            kept.append(c)
    return kept


def _choices(kind: str, d: DimLike) -> list[DimLike]:
    """What ``d`` is the extreme of: max(x, y) + 1 is the greatest of x + 1 and y + 1."""
    for monomial, c in terms_of(d).items():
        if c == 1 and len(monomial) == 1:
            atom = monomial[0]
            if isinstance(atom, Extreme) and atom.kind == kind:
                rest = d - Dim({monomial: 1})
                return [choice + rest for choice in atom.choices]
    return [d]


def _beats(kind: str, a: DimLike, b: DimLike) -> bool:
    return proves(b - a if kind == "min" else a - b)
