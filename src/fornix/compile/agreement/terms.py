"""What extents have to be for nodes to be valid, as formulas, and the proofs that follow.

Which extents are equal, and which are no less than others: what suffices, but need not be needed.
What operators ask is said in `agreement/rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from fornix.compile.bounds import Bound
from fornix.ir.dim import Dim, DimLike, atoms, exact_quotient, is_nonnegative, known, symbol
from fornix.ir.dim.expression import Atom, Extreme, Floor, Symbol, substitute, terms_of, variables
from fornix.ir.loops import Variable

Pair: TypeAlias = tuple[DimLike, DimLike]
Shape: TypeAlias = tuple[DimLike, ...]


@dataclass
class Agreement:
    """Pairs of extents that are equal, and pairs of which the first is no less."""

    equal: list[Pair] = field(default_factory=list)
    reach: list[Pair] = field(default_factory=list)
    alike: list[Pair] = field(default_factory=list)
    """Those that are to be equal, though one of a pair may as well be 1: they broadcast."""

    def broadcast(self, one: DimLike, other: DimLike) -> None:
        """Ask that two extents are equal of which one may be 1."""
        self.same(one, other)
        if one != other:
            self.alike.append((one, other))

    def same(self, one: DimLike, other: DimLike) -> None:
        """Ask that two extents are equal."""
        if one != other:
            self.equal.append((one, other))

    def add(self, other: Agreement) -> None:
        """Ask what ``other`` asks, too."""
        self.equal += [pair for pair in other.equal if pair not in self.equal]
        self.reach += [pair for pair in other.reach if pair not in self.reach]

    def has_elements(self, shapes: Iterable[Shape], results: Sequence[Shape] = ()) -> None:
        """Ask that no extent of ``shapes`` is 0, but those with which all ``results`` are empty."""
        for extent in dict.fromkeys(extent for shape in shapes for extent in shape):
            is_free = bool(results) and all(_has_factor(shape, extent) for shape in results)
            self._at_least(extent, 0 if is_free else 1)

    def exist(self, shapes: Iterable[Shape]) -> None:
        """Ask that no extent of ``shapes`` is less than 0."""
        for extent in dict.fromkeys(extent for shape in shapes for extent in shape):
            self._at_least(extent, 0)

    def _at_least(self, extent: DimLike, least: int) -> None:
        if isinstance(extent, Dim) and not is_nonnegative(extent - least):
            self.reach.append((extent, least))

    @property
    def values(self) -> dict[str, DimLike]:
        """What symbols are by the pairs that are equal, where one of a pair is a symbol."""
        found: dict[str, DimLike] = {}
        for pair in self.equal:
            one, other = (_bound(d, found) for d in pair)
            name = one.name if isinstance(one, Dim) else None
            if name is None:
                one, other = other, one
                name = one.name if isinstance(one, Dim) else None
            if name is not None and one != other:
                found = {key: _bound(d, {name: other}) for key, d in found.items()}
                found[name] = other
        return found

    def proves(self, bound: Bound) -> bool:
        """Whether ``bound`` holds for all extents that agree.

        A minimum is no more than its arguments, and may be agreed to be at least so much: a proof
        wants either. So is a quotient, and may be made of others.
        """
        return any(self._proves(bound, values) for values in self._attempts(bound))

    def _attempts(self, bound: Bound) -> Iterator[dict[Atom, DimLike]]:
        """What atoms of ``bound`` are taken for, by attempts at a proof."""
        yield from (self._atoms(bound, kinds) for kinds in _KINDS)
        yield from (self._left(self._atoms(bound, kinds)) for kinds in _KINDS)
        yield self._atoms(bound, (Floor,), are_inner=True)

    def _proves(self, bound: Bound, values: dict[Atom, DimLike]) -> bool:
        for number, atom in enumerate(_met(bound)):
            least = values.setdefault(atom, symbol(f"met {number}", 1))
            chosen = _chosen(atom, 1)
            if chosen is not None:
                values.setdefault(chosen, least)
        for variable in variables(bound.address):
            if isinstance(variable, Variable):
                extent = substitute(variable.extent, values, {})
                values[variable] = Variable(variable.name, extent).dim
        address = substitute(bound.address, values, {})
        wanted = [
            Bound(address, substitute(elements, values, {}))
            for elements in self._equals(bound.elements)
        ]
        return any(b.is_proved for b in wanted) or any(b.is_proved_in_parts for b in wanted)

    def _equals(self, count: DimLike) -> list[DimLike]:
        """``count`` and what is equal to it."""
        pairs = [*self.equal, *((other, one) for one, other in self.equal)]
        return [count, *(other for one, other in pairs if one == count)]

    def _atoms(
        self, bound: Bound, kinds: tuple[type[Atom], ...], *, are_inner: bool = False
    ) -> dict[Atom, DimLike]:
        """What atoms of ``bound`` are: equal to something, or symbols that are at least so much.

        Of the latter those of ``kinds``; if they ``are_inner``, those that no others are part of.
        """
        values = self.values
        found: dict[Atom, DimLike] = {
            a: values[a.name]
            for d in bound.dims
            for a in atoms(d)
            if isinstance(a, Symbol) and a.name in values
        }
        known = self._least(kinds)
        if are_inner:
            inside = {a: {b for d in a.inner for b in atoms(d)} for a in known}
            known = {a: n for a, n in known.items() if inside[a].isdisjoint(known)}
        for number, (atom, least) in enumerate(known.items()):
            agreed = found.setdefault(atom, symbol(f"agreed {number}", least))
            chosen = _chosen(atom, least)
            if chosen is not None:
                found.setdefault(chosen, agreed)
        return found

    def _left(self, values: dict[Atom, DimLike]) -> dict[Atom, DimLike]:
        """``values``, and symbols that are to be no more than something as what is left of it."""
        found = dict(values)
        for number, (more, less) in enumerate(self.reach):
            atom = less.atom if isinstance(less, Dim) else None
            if isinstance(atom, Symbol) and atom not in values:
                found[atom] = substitute(more, values, {}) - symbol(f"left {number}")
        return found

    def _least(self, kinds: tuple[type[Atom], ...]) -> dict[Atom, int]:
        """What atoms of ``kinds`` are at least, if they are 0 or more."""
        found: dict[Atom, int] = {}
        for more, less in self.reach:
            if not isinstance(more, Dim) or not isinstance(less, int):
                continue
            terms = dict(terms_of(more))
            beside = terms.pop((), 0)
            (monomial, factor), *others = terms.items()
            if not others and len(monomial) == 1 and factor > 0 and less >= beside:
                (atom,) = monomial
                least = -((beside - less) // factor)
                found |= {atom: max(found.get(atom, 0), least)} if isinstance(atom, kinds) else {}
        return found


_KINDS = ((Floor,), (Floor, Extreme), (Floor, Symbol))
"""What is taken for no more than a number that is at least so much, by attempts at a proof."""


class NothingSaid(Exception):
    """A rule cannot tell what suffices of a node."""


def fixed(*extents: DimLike) -> None:
    """Raise NothingSaid unless ``extents`` are numbers."""
    if any(known(extent) is None for extent in extents):
        raise NothingSaid


def _chosen(atom: Atom, least: int) -> Atom | None:
    """What a maximum of at least so much is, where its other choices are less."""
    if not isinstance(atom, Extreme) or atom.kind != "max":
        return None
    others = [d for d in atom.choices if not (isinstance(d, int) and d < least)]
    one = others[0] if len(others) == 1 else 0
    return one.atom if isinstance(one, Dim) else None


def _met(bound: Bound) -> list[Atom]:
    """What is 1 or more where anything is read: there are places along the least of these."""
    extents = [v.extent for v in variables(bound.address) if isinstance(v, Variable)]
    shortest = [m for d in extents if isinstance(d, Dim) if isinstance(m := d.atom, Extreme)]
    lengths = [d for m in shortest if m.kind == "min" for d in m.choices]
    return [a for d in lengths if isinstance(d, Dim) if isinstance(a := d.atom, Extreme | Symbol)]


def _has_factor(shape: Shape, extent: DimLike) -> bool:
    """Whether a value of ``shape`` is empty where ``extent`` is 0.

    So is one that is no longer than the shortest of some, as the foremost of a few.
    """
    shortest = [m for d in shape if isinstance(d, Dim) if isinstance(m := d.atom, Extreme)]
    lengths = [d for m in shortest if m.kind == "min" for d in m.choices]
    return any(exact_quotient(d, extent) is not None for d in (*shape, *lengths))


def _bound(d: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    return d.bind(values) if isinstance(d, Dim) else d
