"""Exact integer expressions: symbolic dims, and the indices of loops.

A `Dim` is a polynomial with integer coefficients over *atoms*: a named symbol, an unknown (with the
reason why it is not known), a floor division that does not come out, a minimum or maximum that
nothing decides; `ir/loops` adds loop variables and integers loaded from memory. Equality is equality
of normal forms, so ``(N + 1)*2 - 2 == 2*N``. Constants are plain ints: a dim is ``int | Dim``.

What is said about division (`divide`) and order (`prove`) holds for every value that the atoms can
take, where every division in sight is defined; when a proof does not succeed nothing is claimed.
Parsing ONNX's dim_param texts lives in `dim_text`. Bound solving and range facts from graphs are
left to others.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, NoReturn, TypeAlias

from fornix.errors import LimitError, ShapeError

MAX_TERMS = 256
"""Monomials in one expression; beyond it the value is called unknown."""
MAX_DEGREE = 32
"""Factors in one monomial."""
MAX_DEPTH = 24
"""Nesting of floor, min and max; also bounds the recursion of everything here."""
MAX_SIZE = 2048
"""Atoms inside one atom, counted with repetition."""
MAX_COEFFICIENT = 1 << 128
PROOF_STEPS = 64
"""Goals that one proof may open."""
MAX_CHOICES = 16
"""Arguments of one min or max."""


class Atom:
    """An integer that polynomial arithmetic does not look into.

    Atoms are equal when their class and `key` are; `key` also gives monomials their order.
    """

    __slots__ = ("depth", "key", "size", "text", "variables")
    key: str
    text: str
    depth: int
    size: int
    variables: frozenset[Atom]
    """Loop variables that the value depends on; empty for what a shape is made of."""

    def __init__(self, key: str, text: str, inner: tuple[DimLike, ...] = ()) -> None:
        atoms = [a for d in inner if isinstance(d, Dim) for m in d.terms for a in m]
        self.key, self.text = key, text
        self.depth = 1 + max((a.depth for a in atoms), default=0)
        self.size = 1 + sum(a.size for a in atoms)
        self.variables = frozenset().union(*(a.variables for a in atoms))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.key == other.key)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.text

    def __deepcopy__(self, memo: object) -> Atom:
        return self

    @property
    def low(self) -> DimLike | None:
        """A lower bound, or None."""
        return None

    @property
    def high(self) -> DimLike | None:
        """An upper bound, or None."""
        return None

    @property
    def inner(self) -> tuple[DimLike, ...]:
        """The expressions that the atom is made of."""
        return ()

    def rebuild(self, _inner: tuple[DimLike, ...], /) -> DimLike:
        """The same atom over other inner expressions, simplified anew."""
        return Dim({(self,): 1})


class Symbol(Atom):
    """A named integer, at least `least`."""

    __slots__ = ("least", "name")

    def __init__(self, name: str, least: int) -> None:
        text = name if _IDENTIFIER.fullmatch(name) else "'" + name.replace("'", "''") + "'"
        super().__init__(text if least == 0 else f"{text}>={least}", text)
        self.name, self.least = name, least

    @property
    def low(self) -> int:
        return self.least


class Unknown(Atom):
    """An integer without a name; equal to itself only."""

    __slots__ = ("least", "reason")
    _serial: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, reason: str, least: int | None) -> None:
        # The serial gives a stable order, the random part keeps unknowns of two processes apart.
        super().__init__(f"?{next(self._serial):09d}-{os.urandom(6).hex()}", "?")
        self.reason, self.least = reason, least

    @property
    def low(self) -> int | None:
        return self.least


class Floor(Atom):
    """``floor(num / den)``; has a value where ``den`` is not 0."""

    __slots__ = ("den", "num")

    def __init__(self, num: DimLike, den: DimLike) -> None:
        super().__init__(
            f"({_render(num, _key)})//({_render(den, _key)})",
            f"{_factor(num)}//{_factor(den)}",
            (num, den),
        )
        self.num, self.den = num, den

    @property
    def inner(self) -> tuple[DimLike, ...]:
        return (self.num, self.den)

    def rebuild(self, inner: tuple[DimLike, ...], /) -> DimLike:
        return divide(*inner)


class Extreme(Atom):
    """The least (``kind`` "min") or greatest ("max") of several expressions."""

    __slots__ = ("choices", "kind")

    def __init__(self, kind: str, choices: tuple[DimLike, ...]) -> None:
        keys = ", ".join(_render(c, _key) for c in choices)
        super().__init__(f"{kind}({keys})", f"{kind}({', '.join(_render(c, _text) for c in choices)})", choices)
        self.kind, self.choices = kind, choices

    @property
    def inner(self) -> tuple[DimLike, ...]:
        return self.choices

    def rebuild(self, inner: tuple[DimLike, ...], /) -> DimLike:
        return _extreme(self.kind, inner)


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = dict[Monomial, int]


class Dim:
    """An integer expression that is not a constant; immutable, hashable, in normal form.

    `terms` maps each monomial, a sorted tuple of atoms, to its coefficient; never write into it.
    """

    __slots__ = ("_hash", "_text", "terms")
    terms: Terms
    _hash: int | None
    _text: str | None

    def __init__(self, terms: Terms, text: str | None = None) -> None:
        self.terms, self._hash, self._text = terms, None, text

    def __reduce__(self) -> tuple[type[Dim], tuple[Terms, str | None]]:
        return Dim, (self.terms, self._text)

    def __deepcopy__(self, memo: object) -> Dim:
        return self

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __bool__(self) -> NoReturn:
        msg = f"the dim {self} has no truth value; compare it with ==, or ask less() for a proof"
        raise TypeError(msg)

    def __str__(self) -> str:
        if self._text is None:
            (monomial, c), *more = self.terms.items()
            alone = not more and c == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol)
            self._text = monomial[0].name if alone else _render(self, _text)  # type: ignore[attr-defined]
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __add__(self, other: DimLike) -> DimLike:
        if isinstance(other, Dim):
            small, terms = sorted((self.terms, other.terms), key=len)
            terms = dict(terms)
            for monomial, c in small.items():
                terms[monomial] = terms.get(monomial, 0) + c
            return collect(terms)
        constant = _integer(other)
        if constant is None:
            return NotImplemented
        if constant == 0:
            return self
        return collect({**self.terms, (): self.terms.get((), 0) + constant})

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return Dim({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: DimLike) -> DimLike:
        return self + -other

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        if isinstance(other, Dim):
            return _multiply(self, other)
        factor = _integer(other)
        if factor is None:
            return NotImplemented
        if factor == 0:
            return 0
        return self if factor == 1 else collect({m: c * factor for m, c in self.terms.items()})

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        divisor = other if isinstance(other, Dim) else _integer(other)
        return NotImplemented if divisor is None else divide(self, divisor)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        dividend = _integer(other)
        return NotImplemented if dividend is None else divide(dividend, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return self - other * (self // other)

    def __rmod__(self, other: DimLike) -> DimLike:
        return other - self * (other // self)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of the symbols in it, at any depth."""
        return frozenset(a.name for a in atoms(self) if isinstance(a, Symbol))

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Why it is not known: the reasons of its unknowns."""
        found = sorted((a for a in atoms(self) if isinstance(a, Unknown)), key=_key)
        return tuple(dict.fromkeys(a.reason for a in found))

    @property
    def name(self) -> str | None:
        """The symbol's name if the dim is one symbol and nothing else."""
        atom = self.atom
        return atom.name if isinstance(atom, Symbol) else None

    @property
    def atom(self) -> Atom | None:
        """The atom if the dim is one atom and nothing else."""
        if len(self.terms) == 1:
            ((monomial, c),) = self.terms.items()
            if c == 1 and len(monomial) == 1:
                return monomial[0]
        return None

    @property
    def variables(self) -> frozenset[Atom]:
        """Loop variables that the value depends on."""
        return frozenset().union(*(a.variables for m in self.terms for a in m))

    def bind(self, values: Mapping[str, DimLike]) -> DimLike:
        """The value once symbols are given values; raises ShapeError below a symbol's least."""
        chosen: dict[Atom, DimLike] = {}
        for atom in atoms(self):
            if isinstance(atom, Symbol) and atom.name in values:
                value = values[atom.name]
                if isinstance(value, int) and value < atom.least:
                    msg = f"dim {atom.text} is at least {atom.least}, got {value}"
                    raise ShapeError(msg)
                chosen[atom] = value
        return self.substitute(chosen)

    def substitute(self, values: Mapping[Atom, DimLike]) -> DimLike:
        """The expression with atoms replaced, at any depth, and simplified anew."""
        return _substitute(self, values, {}) if values else self


DimLike: TypeAlias = int | Dim


def symbol(name: str, least: int = 0) -> Dim:
    """The dim called ``name``, any text; two symbols are the same if name and ``least`` are."""
    return Dim({(Symbol(name, least),): 1})


def unknown(reason: str, least: int | None = 0) -> Dim:
    """A new dim that equals nothing but itself; ``least`` None if it may be negative."""
    return Dim({(Unknown(reason, least),): 1})


def known(d: object) -> int | None:
    """The value of ``d`` if it is a constant."""
    return d if isinstance(d, int) else None


def atoms(d: DimLike) -> set[Atom]:
    """Every atom of ``d``, inner ones included."""
    found: set[Atom] = set()
    waiting = [d]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Dim):
            new = {a for m in here.terms for a in m} - found
            found |= new
            waiting.extend(i for a in new for i in a.inner)
    return found


def variables(d: DimLike) -> frozenset[Atom]:
    """Loop variables that ``d`` depends on."""
    return d.variables if isinstance(d, Dim) else frozenset()


# ── arithmetic ─────────────────────────────────────────────────────────────────────────────────


def _integer(x: object) -> int | None:
    """``x`` as an int, if it is an integer of any type (NumPy's too)."""
    if type(x) is int:
        return x
    convert = getattr(type(x), "__index__", None)
    return None if convert is None else int(convert(x))


def terms_of(d: DimLike) -> Terms:
    """Monomials and coefficients of ``d``."""
    return d.terms if isinstance(d, Dim) else {(): d} if d else {}


def collect(terms: Terms) -> DimLike:
    """The expression with these terms: zeros dropped, constants plain, size bounded."""
    if 0 in terms.values():
        terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    if len(terms) > MAX_TERMS:
        return _give_up(Dim(terms), f"more than {MAX_TERMS} terms")
    if max(map(abs, terms.values())) > MAX_COEFFICIENT:
        return _give_up(Dim(terms), "a coefficient of more than 128 bits")
    return Dim(terms)


def _give_up(d: Dim, what: str) -> Dim:
    """An unknown in place of an expression that has grown too large.

    Raises LimitError if it depends on loop variables: an index must not lose what it stands for.
    """
    if d.variables:
        msg = f"index expression: {what}"
        raise LimitError(msg)
    return unknown(f"the expression has {what}", least=None)


def _multiply(a: Dim, b: Dim) -> DimLike:
    if len(a.terms) * len(b.terms) > 4 * MAX_TERMS:
        return _give_up(Dim({**a.terms, **b.terms}), f"more than {MAX_TERMS} terms")
    terms: Terms = {}
    for (m, c), (n, d) in itertools.product(a.terms.items(), b.terms.items()):
        monomial = tuple(sorted(m + n, key=_key)) if m and n else m or n
        if len(monomial) > MAX_DEGREE:
            return _give_up(Dim({monomial: 1}), f"a degree above {MAX_DEGREE}")
        terms[monomial] = terms.get(monomial, 0) + c * d
    return collect(terms)


def _key(atom: Atom) -> str:
    return atom.key


def _text(atom: Atom) -> str:
    return atom.text


def _of_atom(atom: Atom) -> Dim:
    """The expression that is ``atom``, unless it is too large to work with."""
    d = Dim({(atom,): 1})
    if atom.depth > MAX_DEPTH:
        return _give_up(d, f"more than {MAX_DEPTH} nested divisions, min and max")
    return _give_up(d, f"more than {MAX_SIZE} parts") if atom.size > MAX_SIZE else d


def _substitute(d: DimLike, values: Mapping[Atom, DimLike], memo: dict[Atom, DimLike]) -> DimLike:
    if not isinstance(d, Dim):
        return d
    result: DimLike = 0
    kept: Terms = {}
    for monomial, c in d.terms.items():
        new = [substitute_atom(a, values, memo) for a in monomial]
        if all(n is a for n, a in zip(new, monomial, strict=True)):
            kept[monomial] = c
            continue
        product: DimLike = c
        for factor in new:
            product = product * (Dim({(factor,): 1}) if isinstance(factor, Atom) else factor)
        result = result + product
    if len(kept) == len(d.terms):
        return d
    return result + collect(kept) if kept else result


def substitute_atom(
    atom: Atom, values: Mapping[Atom, DimLike], memo: dict[Atom, DimLike]
) -> DimLike | Atom:
    """What ``atom`` becomes; the atom itself if nothing in it changes."""
    if atom in values:
        return values[atom]
    if not atom.inner:
        return atom
    if atom not in memo:
        inner = tuple(_substitute(i, values, memo) for i in atom.inner)
        same = all(n is o for n, o in zip(inner, atom.inner, strict=True))
        memo[atom] = Dim({(atom,): 1}) if same else atom.rebuild(inner)
    return memo[atom]


def coefficient(d: DimLike, atom: Atom) -> tuple[DimLike, DimLike] | None:
    """``(c, rest)`` with ``d == c*atom + rest`` and neither containing ``atom`` as a factor.

    None if some monomial has a higher power of it.
    """
    slope: Terms = {}
    rest: Terms = {}
    for monomial, c in terms_of(d).items():
        power = monomial.count(atom)
        if power > 1:
            return None
        if power:
            at = monomial.index(atom)
            slope[monomial[:at] + monomial[at + 1 :]] = c
        else:
            rest[monomial] = c
    return collect(slope), collect(rest)


# ── division ───────────────────────────────────────────────────────────────────────────────────


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
    quotient, rest = _long_division(a, b)
    return quotient if isinstance(rest, int) and rest == 0 else None


@functools.lru_cache(maxsize=8192)
def _divide(a: DimLike, b: DimLike) -> DimLike:
    if not _proves_in(b - 1, a):
        if _proves_in(-b - 1, a):
            return divide(-a, -b)
        return _of_atom(Floor(a, b))
    quotient, rest = _long_division(a, b)
    if _proves(rest) and _proves_in(b - 1 - rest, a):
        return quotient
    if _leads_negative(rest):  # floor(r / b) = -1 - floor((-r - 1) / b)
        return quotient - 1 - divide(-rest - 1, b)
    smaller = _cancel(rest, b, a)
    if smaller is None:
        smaller = _unnest(rest, b)
    return quotient + (_of_atom(Floor(rest, b)) if smaller is None else divide(*smaller))


def _long_division(a: DimLike, b: DimLike) -> tuple[DimLike, DimLike]:
    """``(q, r)`` with ``a == q*b + r``: division of polynomials by the leading term of ``b``.

    Coefficients are divided towards zero, so that signs stay; the constant is floored.
    """
    divisor = terms_of(b)
    lead = min(divisor, key=_order)
    unit = divisor[lead]
    work = dict(terms_of(a))
    quotient: Terms = {}
    rest: Terms = {}
    while work:
        monomial = min(work, key=_order) if len(divisor) > 1 else next(iter(work))
        c = work.pop(monomial)
        factor = _without(monomial, lead)
        times = 0
        if factor is not None:
            times = c // unit if not monomial else abs(c) // abs(unit)
            if monomial and (c < 0) != (unit < 0):
                times = -times
        if c != times * unit:
            rest[monomial] = c - times * unit
        if times and factor is not None:
            quotient[factor] = times
            for other, k in divisor.items():
                if other != lead:
                    product = tuple(sorted(factor + other, key=_key))
                    work[product] = work.get(product, 0) - times * k
                    if not work[product]:
                        del work[product]
    return collect(quotient), collect(rest)


def _order(monomial: Monomial) -> tuple[int, list[str]]:
    """Sorts the highest degree first, then by key: an order that multiplication keeps."""
    return -len(monomial), [a.key for a in monomial]


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
    lead = min(terms, key=_order)
    return bool(lead) and terms[lead] < 0


def _cancel(a: DimLike, b: DimLike, context: DimLike) -> tuple[DimLike, DimLike] | None:
    """``(x + y // g, b / g)`` for ``a = g*x + y`` where ``g`` divides ``b`` and ``y // g`` is known.

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
        if n is None or not _proves_in(g - 1, context):
            continue
        x, y = _long_division(a, g)
        whole = _quotient_of_small(y, g)
        if whole is not None:
            return x + whole, n
    return None


def _quotient_of_small(y: DimLike, g: DimLike) -> int | None:
    """``y // g`` where that is a constant."""
    if isinstance(y, int) and isinstance(g, int):
        return y // g
    return 0 if _proves(y) and _proves(g - 1 - y) else None


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
    if k != 1 or len(monomial) != 1 or not isinstance(inner, Floor) or not _proves(inner.den - 1):
        return None
    return inner.num + inner.den * constant, inner.den * b


# ── minimum and maximum ────────────────────────────────────────────────────────────────────────


def minimum(*choices: DimLike) -> DimLike:
    """The least of ``choices``; those proved not to matter are left out."""
    return _extreme("min", choices)


def maximum(*choices: DimLike) -> DimLike:
    """The greatest of ``choices``; those proved not to matter are left out."""
    return _extreme("max", choices)


def _extreme(kind: str, choices: tuple[DimLike, ...]) -> DimLike:
    if all(isinstance(c, int) for c in choices):
        return min(choices) if kind == "min" else max(choices)  # type: ignore[type-var]
    flat = dict.fromkeys(itertools.chain.from_iterable(_choices(kind, c) for c in choices))
    kept: list[DimLike] = []
    if len(flat) > MAX_CHOICES:
        return _give_up(Dim({m: 1 for c in flat for m in terms_of(c) if m}), f"{len(flat)} choices")
    for c in flat:
        if not any(_beats(kind, other, c) for other in kept):
            kept = [other for other in kept if not _beats(kind, c, other)]
            kept.append(c)
    if len(kept) == 1:
        return kept[0]
    shared = set.intersection(*(set(terms_of(c).items()) for c in kept))
    common = collect(dict(shared))
    ordered = sorted((c - common for c in kept), key=lambda c: _render(c, _key))
    return common + _of_atom(Extreme(kind, tuple(ordered)))


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
    return _proves(b - a if kind == "min" else a - b)


# ── proofs ─────────────────────────────────────────────────────────────────────────────────────


def is_nonnegative(d: DimLike) -> bool | None:
    """Whether ``d >= 0`` always holds (True), never holds (False), or is not decided (None)."""
    if isinstance(d, int):
        return d >= 0
    if _proves(d):
        return True
    return False if _proves(-d - 1) else None


def less(a: DimLike, b: DimLike) -> bool | None:
    """Whether ``a < b`` always holds, never holds, or is not decided."""
    return is_nonnegative(b - a - 1)


def equal(a: DimLike, b: DimLike) -> bool | None:
    """Whether ``a == b`` always holds, never holds, or is not decided."""
    if a == b:
        return True
    return False if less(a, b) or less(b, a) else None


def bounds(d: DimLike) -> tuple[int | None, int | None]:
    """Constants that enclose ``d``, None where there is none: interval arithmetic."""
    if isinstance(d, int):
        return d, d
    low: int | None = 0
    high: int | None = 0
    for monomial, c in d.terms.items():
        ends: tuple[int | None, int | None] = (c, c)
        for atom in monomial:
            ends = _interval_product(ends, _atom_bounds(atom))
        low = None if low is None or ends[0] is None else low + ends[0]
        high = None if high is None or ends[1] is None else high + ends[1]
    return low, high


def _atom_bounds(atom: Atom) -> tuple[int | None, int | None]:
    inner = [bounds(i) for i in atom.inner]
    if isinstance(atom, Floor):
        (low, high), (den, most) = inner
        if den is None or den < 0:
            return None, None
        smallest = max(den, 1)
        divide_low = smallest if low is not None and low < 0 else most
        divide_high = smallest if high is not None and high >= 0 else most
        least = 0 if low is not None and low >= 0 else None
        return (
            least if low is None or divide_low is None else low // divide_low,
            -1 if high is not None and high < 0 and divide_high is None
            else None if high is None or divide_high is None else high // divide_high,
        )
    if isinstance(atom, Extreme):
        lows, highs = [b[0] for b in inner], [b[1] for b in inner]
        pick = min if atom.kind == "min" else max
        some_low, some_high = [x for x in lows if x is not None], [x for x in highs if x is not None]
        if atom.kind == "min":
            return (pick(some_low) if None not in lows else None), min(some_high, default=None)
        return max(some_low, default=None), (pick(some_high) if None not in highs else None)
    low_end = None if atom.low is None else bounds(atom.low)[0]
    return low_end, None if atom.high is None else bounds(atom.high)[1]


def _interval_product(
    a: tuple[int | None, int | None], b: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    (a0, a1), (b0, b1) = a, b
    if a0 is not None and a1 is not None and b0 is not None and b1 is not None:
        ends = [x * y for x in (a0, a1) for y in (b0, b1)]
        return min(ends), max(ends)
    if a0 is not None and a0 == a1 and a0 < 0:
        high, low = _interval_product((-a0, -a0), b)
        return None if low is None else -low, None if high is None else -high
    if a0 is not None and b0 is not None and a0 >= 0 and b0 >= 0:
        return a0 * b0, None if a1 is None or b1 is None else a1 * b1
    if a0 is not None and a0 == a1:
        return None if b0 is None else a0 * b0, None if b1 is None else a0 * b1
    return None, None


def _proves(d: DimLike) -> bool:
    """Whether ``d >= 0`` is proved."""
    return _proves_in(d, 0)


def _proves_in(d: DimLike, context: DimLike) -> bool:
    """Whether ``d >= 0`` is proved for every value at which ``context`` is evaluated too.

    A loop variable exists only where its extent is at least 1: the symbols that are factors of an
    extent are taken as positive.
    """
    if isinstance(d, int):
        return d >= 0
    positive = [
        atom
        for variable in variables(d) | variables(context)
        if variable.high is not None
        for atom in _factors(variable.high + 1)
    ]
    return _proves_with(d, frozenset(positive))


def _factors(d: DimLike) -> Iterable[Atom]:
    """The atoms that are not 0 where ``d`` is not 0, if ``d`` is a product."""
    terms = terms_of(d)
    return next(iter(terms)) if len(terms) == 1 else ()


@functools.lru_cache(maxsize=8192)
def _proves_with(d: DimLike, positive: frozenset[Atom]) -> bool:
    try:
        return _Proof(positive).holds(d)
    except LimitError:
        return False


class _Proof:
    """The search for a proof of ``d >= 0``: atoms with bounds are replaced, outermost first."""

    def __init__(self, positive: frozenset[Atom]) -> None:
        self.positive = positive
        self.steps = PROOF_STEPS

    def holds(self, d: DimLike) -> bool:
        if isinstance(d, int):
            return d >= 0
        self.steps -= 1
        if self.steps < 0:
            return False
        if self.by_coefficients(d):
            return True
        inside = {a for m in d.terms for a in m if not isinstance(a, Symbol | Unknown)}
        for atom in sorted(inside, key=lambda a: (-a.depth, a.key)):
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
        """
        num, den = atom.inner
        if sign is None or not self.holds(den):  # where den is 0 there is nothing to prove
            return None
        spare = den * rest + den - 1
        if sign < 0:
            return [[spare + c * num]]
        return [[spare + c * (num - den + 1)], [rest, num]]

    def sign(self, c: DimLike) -> int | None:
        """1 if ``c >= 0`` is proved, -1 if ``c <= 0`` is."""
        if isinstance(c, int):
            return 1 if c >= 0 else -1
        return 1 if self.holds(c) else -1 if self.holds(-c) else None

    def by_coefficients(self, d: Dim) -> bool:
        """With every atom written as its least value plus a surplus, no coefficient is negative."""
        if all(c > 0 for c in d.terms.values()) and self.least_all(d) == 0:
            return True
        shifted: DimLike = 0
        for monomial, c in d.terms.items():
            product: DimLike = c
            for atom in monomial:
                least = self.least(atom)
                if least is None:
                    return False
                product = product * (Dim({(atom,): 1}) + least)
            shifted = shifted + product
        return all(c >= 0 for c in terms_of(shifted).values())

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
        least = known(atom.low)
        if isinstance(atom, Floor):
            return 0 if self.holds(atom.num) and self.holds(atom.den) else None
        if isinstance(atom, Extreme):
            some = any if atom.kind == "max" else all
            return 0 if some(self.holds(choice) for choice in atom.choices) else None
        return max(least or 0, 1) if atom in self.positive and (least or 0) >= 0 else least


# ── printing ───────────────────────────────────────────────────────────────────────────────────

_IDENTIFIER = re.compile(r"[^\W\d][\w.]*(?:-[^\W\d][\w.]*)*")
"""A name that needs no quotes. A hyphen between letters, as in seq-len, belongs to the name."""


def _render(d: DimLike, name: Callable[[Atom], str]) -> str:
    """``2*N*M + N - 1``: highest degree first, positive terms ahead of negative ones."""
    terms = terms_of(d)
    parts: list[str] = []
    for monomial in sorted(terms, key=lambda m: (terms[m] < 0, _order(m))):
        c = terms[monomial]
        sign = ("-" if c < 0 else "") if not parts else (" - " if c < 0 else " + ")
        factors = [str(abs(c))] if abs(c) != 1 or not monomial else []
        alone = len(monomial) == 1 and not factors and sign != "-"
        factors += [
            f"({name(a)})" if isinstance(a, Floor) and not alone else name(a) for a in monomial
        ]
        parts.append(sign + "*".join(factors))
    return "".join(parts) or "0"


def _factor(d: DimLike) -> str:
    """``d`` as it stands next to an operator."""
    text = _render(d, _text)
    atom = d.atom if isinstance(d, Dim) else None
    plain = d >= 0 if isinstance(d, int) else atom is not None and not isinstance(atom, Floor)
    return text if plain else f"({text})"
