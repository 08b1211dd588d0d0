"""The expressions: atoms, polynomials over them, arithmetic, substitution, printing.

Decides the normal form and its bounds in size. Division, minimum and maximum are simplified in
`simplify`, order is decided in `prove`.
"""

from __future__ import annotations

import itertools
import operator
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

from fornix.errors import LimitError, ShapeError
from fornix.forks import awaited

MAX_TERMS = 256
"""Monomials in one expression; beyond it the value is called unknown."""
MAX_DEGREE = 32
"""Factors in one monomial."""
MAX_DEPTH = 24
"""Nesting of floor, min and max; also bounds the recursion of everything here."""
MAX_SIZE = 2048
"""Atoms inside one atom, counted with repetition."""
MAX_COEFFICIENT = 1 << 128
MAX_CHOICES = 16
"""Arguments of one min or max."""


class _OneOfAKind(type):
    """Of objects with one key there is one, so that comparing and hashing them is no work."""

    is_new: bool
    """Whether every object is the first with its key."""

    def __call__(cls, *args: object, **options: object) -> Any:
        made = super().__call__(*args, **options)
        return made if cls.is_new else _shared(made)


class Atom(metaclass=_OneOfAKind):
    """An integer that polynomial arithmetic does not look into.

    There is one of a class and `key` at a time; `key` also gives monomials their order.
    """

    __slots__ = ("__weakref__", "depth", "key", "size", "variables")
    is_new: ClassVar[bool] = False
    key: str
    depth: int
    size: int
    variables: frozenset[Atom]
    """Loop variables that the value depends on; empty for what a shape is made of."""

    def __init__(self, key: str, inner: tuple[DimLike, ...] = ()) -> None:
        atoms = [a for d in inner if isinstance(d, Dim) for m in d.terms for a in m]
        self.key = key
        self.depth = 1 + max((a.depth for a in atoms), default=0)
        self.size = 1 + sum(a.size for a in atoms)
        self.variables = frozenset().union(*[a.variables for a in atoms])

    def __repr__(self) -> str:
        return self.text

    def __deepcopy__(self, memo: object) -> Atom:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        slots = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        state = {name: getattr(self, name) for name in slots if name != "__weakref__"}
        return _restored, (type(self), state)

    @property
    def text(self) -> str:
        """How it is printed."""
        raise NotImplementedError

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

    def replaced(self, values: Mapping[Atom, DimLike], memo: Replaced) -> DimLike | Atom:
        """What becomes of the atom when atoms inside it get ``values``; itself if nothing does."""
        own = self.inner
        if not own:
            return self
        inner = tuple([substitute(i, values, memo) for i in own])
        return self if all(map(operator.is_, inner, own)) else self.rebuild(inner)


A = TypeVar("A", bound=Atom)

_POOL: WeakValueDictionary[tuple[type[Atom], str], Atom] = WeakValueDictionary()
_LOCK = awaited(threading.RLock())


def _shared(atom: A) -> A:
    """The atom that is kept for all of its class with its key."""
    with _LOCK:
        return cast("A", _POOL.setdefault((type(atom), atom.key), atom))


def _restored(kind: type[A], state: Mapping[str, object]) -> A:
    """The atom that was pickled."""
    atom = kind.__new__(kind)
    for name, value in state.items():
        setattr(atom, name, value)
    return _shared(atom)


class Symbol(Atom):
    """A named integer, at least `least` and at most `most`, if that is given."""

    __slots__ = ("least", "most", "name", "text")
    text: str

    def __init__(self, name: str, least: int, most: DimLike | None = None) -> None:
        text = name if IDENTIFIER.fullmatch(name) else "'" + name.replace("'", "''") + "'"
        key = text if least == 0 else f"{text}>={least}"
        inner = (most,) if isinstance(most, Dim) else ()
        bound = "" if most is None else f"<={render(most, atom_key)}"
        super().__init__(key + bound, inner)
        self.name, self.text, self.least, self.most = name, text, least, most

    def bind(self, value: DimLike) -> DimLike:
        """``value``; raises ShapeError outside of the bounds."""
        if isinstance(value, int) and value < self.least:
            raise ShapeError(f"dim {self.text} is at least {self.least}, got {value}")
        if isinstance(value, int) and isinstance(self.most, int) and value > self.most:
            raise ShapeError(f"dim {self.text} is at most {self.most}, got {value}")
        return value

    @property
    def low(self) -> int:
        return self.least

    @property
    def high(self) -> DimLike | None:
        return self.most

    @property
    def inner(self) -> tuple[DimLike, ...]:
        return (self.most,) if isinstance(self.most, Dim) else ()

    def rebuild(self, inner: tuple[DimLike, ...], /) -> DimLike:
        return symbol(self.name, self.least, inner[0])


class Unknown(Atom):
    """An integer without a name; equal to itself only, and to one of `among` if there are any."""

    __slots__ = ("among", "least", "reason")
    _serial: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, reason: str, least: int | None, among: tuple[DimLike, ...] = ()) -> None:
        # The serial gives a stable order, the random part keeps unknowns of two processes apart.
        super().__init__(f"?{next(self._serial):09d}-{os.urandom(6).hex()}")
        self.reason, self.least, self.among = reason, least, among

    @property
    def text(self) -> str:
        return "?"

    @property
    def low(self) -> int | None:
        return self.least


class Floor(Atom):
    """``floor(num / den)``; has a value where ``den`` is not 0."""

    __slots__ = ("den", "num")

    def __init__(self, num: DimLike, den: DimLike) -> None:
        super().__init__(f"({render(num, atom_key)})//({render(den, atom_key)})", (num, den))
        self.num, self.den = num, den

    @property
    def text(self) -> str:
        return f"{_factor(self.num)}//{_factor(self.den)}"

    @property
    def inner(self) -> tuple[DimLike, ...]:
        return (self.num, self.den)

    def rebuild(self, inner: tuple[DimLike, ...], /) -> DimLike:
        return _divide(*inner)


class Extreme(Atom):
    """The least (``kind`` "min") or greatest ("max") of several expressions."""

    __slots__ = ("choices", "kind")

    def __init__(self, kind: str, choices: tuple[DimLike, ...]) -> None:
        keys = ", ".join(render(c, atom_key) for c in choices)
        super().__init__(f"{kind}({keys})", choices)
        self.kind, self.choices = kind, choices

    @property
    def text(self) -> str:
        return f"{self.kind}({', '.join(render(c, _text) for c in self.choices)})"

    @property
    def inner(self) -> tuple[DimLike, ...]:
        return self.choices

    def rebuild(self, inner: tuple[DimLike, ...], /) -> DimLike:
        from fornix.ir.dim.simplify import extreme  # noqa: PLC0415 -- as in _divide

        return extreme(self.kind, inner)


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = dict[Monomial, int]


class Dim:
    """An integer expression that is not a constant; immutable, hashable, in normal form.

    `terms` maps each monomial, a sorted tuple of atoms, to its coefficient; never write into it.
    """

    __slots__ = ("_hash", "_text", "_variables", "terms")
    terms: Terms
    _hash: int | None
    _text: str | None
    _variables: frozenset[Atom] | None

    def __init__(self, terms: Terms, text: str | None = None) -> None:
        self.terms, self._hash, self._text, self._variables = terms, None, text, None

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
            self._text = monomial[0].name if alone else render(self, _text)  # type: ignore[attr-defined]
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __add__(self, other: DimLike) -> DimLike:
        if isinstance(other, Dim):
            small, large = self.terms, other.terms
            if len(small) > len(large):
                small, large = large, small
            terms = dict(large)
            for monomial, c in small.items():
                terms[monomial] = terms.get(monomial, 0) + c
            return collect(terms)
        constant = other if type(other) is int else _integer(other)
        if constant is None:
            return NotImplemented
        if constant == 0:
            return self
        total = self.terms.get((), 0) + constant
        if 0 < abs(total) <= MAX_COEFFICIENT and len(self.terms) < MAX_TERMS:
            return Dim({**self.terms, (): total})
        return collect({**self.terms, (): total})

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
        factor = other if type(other) is int else _integer(other)
        if factor is None:
            return NotImplemented
        if factor == 0:
            return 0
        return self if factor == 1 else collect({m: c * factor for m, c in self.terms.items()})

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        divisor = other if isinstance(other, Dim) else _integer(other)
        return NotImplemented if divisor is None else _divide(self, divisor)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        dividend = _integer(other)
        return NotImplemented if dividend is None else _divide(dividend, self)

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
        found = sorted((a for a in atoms(self) if isinstance(a, Unknown)), key=atom_key)
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
        if self._variables is None:
            self._variables = frozenset().union(*[a.variables for m in self.terms for a in m])
        return self._variables

    def bind(self, values: Mapping[str, DimLike]) -> DimLike:
        """The value once symbols are given values; raises ShapeError outside a symbol's bounds."""
        own = self.atom
        if isinstance(own, Symbol) and (own.name in values or not own.inner):
            return own.bind(values[own.name]) if own.name in values else self  # nearly all runs do
        chosen: dict[Atom, DimLike] = {
            atom: atom.bind(values[atom.name])
            for atom in atoms(self)
            if isinstance(atom, Symbol) and atom.name in values
        }
        return self.substitute(chosen)

    def substitute(self, values: Mapping[Atom, DimLike]) -> DimLike:
        """The expression with atoms replaced, at any depth, and simplified anew."""
        return substitute(self, values, {}) if values else self


DimLike: TypeAlias = int | Dim
Replaced: TypeAlias = dict[Atom, DimLike | Atom]


def symbol(name: str, least: int = 0, most: DimLike | None = None) -> Dim:
    """The dim called ``name``, any text; two symbols are the same if name and bounds are."""
    return Dim({(Symbol(name, least, most),): 1})


def unknown(reason: str, least: int | None = 0, among: tuple[DimLike, ...] = ()) -> Dim:
    """A new dim that equals nothing but itself; ``least`` None if it may be negative.

    It is known to be one ``among`` these, if that is known.
    """
    return Dim({(Unknown(reason, least, among),): 1})


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
            new = {a for m in here.terms for a in m if a not in found}
            found |= new
            for atom in new:
                waiting += atom.inner
    return found


def variables(d: DimLike) -> frozenset[Atom]:
    """Loop variables that ``d`` depends on."""
    return d.variables if isinstance(d, Dim) else frozenset()


def _integer(x: object) -> int | None:
    """``x`` as an int, if it is an integer of any type (NumPy's too)."""
    if type(x) is int:
        return x
    convert = getattr(type(x), "__index__", None)
    return None if convert is None else int(convert(x))


def _divide(a: DimLike, b: DimLike) -> DimLike:
    from fornix.ir.dim.simplify import divide  # noqa: PLC0415 -- the two modules need each other

    return divide(a, b)


def terms_of(d: DimLike) -> Terms:
    """Monomials and coefficients of ``d``."""
    return d.terms if isinstance(d, Dim) else {(): d} if d else {}


def collect(terms: Terms) -> DimLike:
    """The expression with these terms: zeros dropped, constants plain, size bounded."""
    if 0 in terms.values():
        terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1:
        if () in terms:
            return terms[()]
    elif len(terms) > MAX_TERMS:
        return give_up(Dim(terms), f"more than {MAX_TERMS} terms")
    if max(terms.values()) > MAX_COEFFICIENT or min(terms.values()) < -MAX_COEFFICIENT:
        return give_up(Dim(terms), "a coefficient of more than 128 bits")
    return Dim(terms)


def give_up(d: Dim, what: str) -> Dim:
    """An unknown in place of an expression that has grown too large.

    Raises LimitError if it depends on loop variables: an index must not lose what it stands for.
    """
    if d.variables:
        msg = f"index expression: {what}"
        raise LimitError(msg)
    return unknown(f"the expression has {what}", least=None)


def _multiply(a: Dim, b: Dim) -> DimLike:
    if len(a.terms) * len(b.terms) > 4 * MAX_TERMS:
        return give_up(Dim({**a.terms, **b.terms}), f"more than {MAX_TERMS} terms")
    terms: Terms = {}
    for (m, c), (n, d) in itertools.product(a.terms.items(), b.terms.items()):
        monomial = tuple(sorted(m + n, key=atom_key)) if m and n else m or n
        if len(monomial) > MAX_DEGREE:
            return give_up(Dim({monomial: 1}), f"a degree above {MAX_DEGREE}")
        terms[monomial] = terms.get(monomial, 0) + c * d
    return collect(terms)


def atom_key(atom: Atom) -> str:
    return atom.key


def _text(atom: Atom) -> str:
    return atom.text


def of_atom(atom: Atom) -> Dim:
    """The expression that is ``atom``, unless it is too large to work with."""
    d = Dim({(atom,): 1})
    if atom.depth > MAX_DEPTH:
        return give_up(d, f"more than {MAX_DEPTH} nested divisions, min and max")
    return give_up(d, f"more than {MAX_SIZE} parts") if atom.size > MAX_SIZE else d


def substitute(d: DimLike, values: Mapping[Atom, DimLike], memo: Replaced) -> DimLike:
    """``d`` with atoms replaced; ``memo`` is shared by calls with the same ``values``."""
    if not isinstance(d, Dim):
        return d
    if not memo:
        memo.update(values)
    result: DimLike = 0
    kept: Terms = {}
    for monomial, c in d.terms.items():
        new = _replacements(monomial, values, memo)
        if all(map(operator.is_, new, monomial)):
            kept[monomial] = c
            continue
        product: DimLike = c
        for factor in new:
            product = product * (Dim({(factor,): 1}) if isinstance(factor, Atom) else factor)
        result = result + product
    if len(kept) == len(d.terms):
        return d
    if not isinstance(result, int):
        return result + collect(kept) if kept else result
    if result:
        kept[()] = kept.get((), 0) + result
    return collect(kept)


def _replacements(
    monomial: Monomial, values: Mapping[Atom, DimLike], memo: Replaced
) -> list[DimLike | Atom]:
    """What becomes of each factor, itself if nothing does."""
    found: list[DimLike | Atom] = []
    for atom in monomial:
        new = memo.get(atom)
        if new is None:
            new = memo[atom] = atom.replaced(values, memo)
        found.append(new)
    return found


def order(monomial: Monomial) -> tuple[int, list[str]]:
    """Sorts the highest degree first, then by key: an order that multiplication keeps."""
    return -len(monomial), [a.key for a in monomial]


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


IDENTIFIER = re.compile(r"[^\W\d][\w.]*(?:-[^\W\d][\w.]*)*")
"""A name that needs no quotes. A hyphen between letters, as in seq-len, belongs to the name."""


def render(d: DimLike, name: Callable[[Atom], str]) -> str:
    """``2*N*M + N - 1``: highest degree first, positive terms ahead of negative ones."""
    terms = terms_of(d)
    parts: list[str] = []
    for monomial in sorted(terms, key=lambda m: (terms[m] < 0, order(m))):
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
    text = render(d, _text)
    atom = d.atom if isinstance(d, Dim) else None
    plain = d >= 0 if isinstance(d, int) else atom is not None and not isinstance(atom, Floor)
    return text if plain else f"({text})"
