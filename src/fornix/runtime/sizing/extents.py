"""Extents of a model's inputs as symbols, which a compiled program is generic over; as numbers.

Every extent of an input that is not a number gets a symbol, which is at least 1: kernels are made
for tensors that have elements. A run whose extents are 0, or otherwise not those that the code was
made for, gets a program of its own in which these symbols are numbers.

Symbols of two inputs that are broadcast with each other are taken for equal: exporters often give
one batch as many names as there are inputs. A run in which one of them is 1 gets another program.
So do others that are broadcast: a mask for keys, and the keys of before with those that are new;
and what an image of H rows is when it was halved twice and doubled once, beside what was halved
once. The former tells what the mask has, the latter that H is a multiple of 4.
A mask of M × L that is reshaped to N rows for N texts has M · L / N columns: L, if M is N.
So does one that is too long for a table of positions, of which Slice takes as many as there are: up
to the length of the table it counts from the front, beyond that it would count from the end. Where
rows of before and new ones share a table, the latter may be as many as the former leave. And one
that is too short for lengths that a model computes, of what convolutions leave of a sound for
instance: below 0 Div rounds up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import permutations
from math import lcm
from typing import TYPE_CHECKING, Any, TypeAlias

from fornix.errors import ShapeError
from fornix.ir.dim import Dim, DimLike, atoms, is_nonnegative, known, less, symbol
from fornix.ir.dim.expression import Extreme, Floor, Symbol, Unknown, coefficient
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import values
from fornix.runtime.providers import NotAsCompiled

if TYPE_CHECKING:
    from fornix.infer import Inference
    from fornix.ops.fact import Fact


LATE = "late "
"""What names of extents begin with that only a run tells."""
WORTH_ASSUMING = 128
"""Extents that runs may have before a program of their own is made for each."""
MOST_ASSUMED = 512
"""Extents that runs may be taken to have at least."""
MOST_LIMITED = 2**40
"""Extents of which a limit is looked for, where it is not that of a product."""
MOST_MULTIPLE = 256
"""Numbers that extents may be taken to be multiples of."""

Range: TypeAlias = tuple[int, DimLike | None, int]
"""Numbers of a symbol: the least and the greatest one, and what they are multiples of.

The greatest may be what other symbols leave of a number.
"""


def name_extents(model: Model, numbers: Mapping[str, DimLike]) -> None:
    """Make every symbol in ``model`` at least 1, late ones 0, or what ``numbers`` gives it.

    Extents that inputs are declared without become symbols of their own. Those that others are
    declared with, and inputs are not, say less than what is found out about them, and may be 0.
    """
    for value in values(model):
        type_ = value.declared_type
        if type_ is not None:
            value.type = _named(type_, value if value.is_input else None, numbers)
    given, fed = bound_symbols(model.graph.inputs), {*model.graph.inputs}
    for value in values(model):
        type_ = value.declared_type
        if isinstance(type_, TensorType) and type_.shape and value not in fed:
            shape = [d if given.keys() >= _symbols(d) else None for d in type_.shape]
            value.type = TensorType(type_.dtype, tuple(shape))


def _symbols(extent: DimLike | None) -> AbstractSet[str]:
    return extent.symbols if isinstance(extent, Dim) else frozenset()


def _named(type_: Type, source: Value | None, numbers: Mapping[str, DimLike]) -> Type:
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    shape = [
        _extent(extent, None if source is None else extent_name(source, axis), numbers)
        for axis, extent in enumerate(type_.shape)
    ]
    return TensorType(type_.dtype, tuple(shape))


def extent_name(value: Value, axis: int) -> str:
    """What the extent of an input is called that the model gives no name."""
    return f"{value.name}.shape[{axis}]"


def _extent(
    extent: DimLike | None, name: str | None, numbers: Mapping[str, DimLike]
) -> DimLike | None:
    if isinstance(extent, Dim):
        return extent.bind({s: numbers.get(s, symbol(s, _least(s))) for s in extent.symbols})
    if name is not None and (extent is None or extent < 0):
        return numbers.get(name, symbol(name, 1))
    return extent


def _least(name: str) -> int:
    """What the extent of an input is at least: data decide about those that come late."""
    return 0 if name.startswith(LATE) else 1


def taken_for_equal(facts: Iterable[Fact], inputs: Sequence[Value]) -> dict[str, DimLike]:
    """Symbols of ``inputs`` that are broadcast with others in ``facts``, each with what it is."""
    given = bound_symbols(inputs)
    found: dict[str, DimLike] = {}
    for fact in facts:
        for atom in {a for d in getattr(fact.type, "shape", None) or () for a in atoms(d)}:
            if not isinstance(atom, Unknown):
                continue
            among = dict.fromkeys(d.bind(found) if isinstance(d, Dim) else d for d in atom.among)
            found |= _rows_taken_for_equal(among, given)
            met = [d for d in among if isinstance(d, Dim) and d.name in given]
            names = [d.name for d in met if d.name is not None]
            if len(met) < 2 or len(met) < len(among) or found.keys() & set(names):
                found |= solved([*among], given, found)
                continue
            found |= dict.fromkeys(names[1:], met[0])
    return {name: d for name, d in found.items() if not found.keys() & _symbols(d) - {name}}


def solved(
    extents: Sequence[DimLike],
    given: Mapping[str, tuple[Value, int]],
    found: Mapping[str, DimLike],
) -> dict[str, DimLike]:
    """A symbol of ``given``, and what it is where two of ``extents`` are equal."""
    for other in extents[1:]:
        difference = _of_extent(extents[0]) - _of_extent(other)
        if not isinstance(difference, Dim) or difference.unknowns:
            continue
        names = difference.symbols
        if names <= given.keys():
            solved = _multiple(difference) or (_sum(difference) if not names & found.keys() else {})
            if solved:
                return solved
    return {}


def _of_extent(d: DimLike) -> DimLike:
    """``d`` without telling that it is not negative, which an extent never is."""
    whole = next((a for a in atoms(d) if isinstance(a, Extreme) and d == Dim({(a,): 1})), None)
    if whole is None or whole.kind != "max" or 0 not in whole.choices:
        return d
    rest = [choice for choice in whole.choices if choice != 0]
    return rest[0] if len(rest) == 1 else d


def _sum(difference: Dim) -> dict[str, DimLike]:
    """A symbol, and the sum of others with which ``difference`` is 0."""
    for atom in sorted((a for a in atoms(difference) if isinstance(a, Symbol)), key=str):
        factor, rest = coefficient(difference, atom) or (0, 0)
        if known(factor) in {1, -1}:
            value = rest * -factor
            if isinstance(value, Dim) and atom.name not in value.symbols and less(0, value):
                return {atom.name: value}
    return {}


def _multiple(difference: Dim) -> dict[str, DimLike]:
    """The symbol of ``difference``, and a multiple with which all is divided without a rest, to 0.

    The multiple of m is written m · ⌊N / m⌋.
    """
    divisors = [known(a.den) or 0 for a in atoms(difference) if isinstance(a, Floor)]
    named = [a for a in atoms(difference) if isinstance(a, Symbol)]
    unit = lcm(*divisors)
    if len(named) != 1 or not 1 < unit <= MOST_MULTIPLE:
        return {}
    (atom,) = named
    whole = symbol(atom.name, max(atom.least, unit), atom.most)
    multiple = whole // unit * unit
    return {atom.name: multiple} if difference.bind({atom.name: multiple}) == 0 else {}


def _rows_taken_for_equal(
    extents: Collection[DimLike], given: Mapping[str, tuple[Value, int]]
) -> dict[str, DimLike]:
    """A symbol of ``given``, and that of the same axis of another input, for one of ``extents``.

    It is a symbol itself if they are equal, as all others of ``extents`` are.
    """
    others = [d for d in extents if isinstance(d, Dim) and d.name is None]
    if len(extents) < 2 or len(others) != 1 or not set(others[0].symbols) <= given.keys():
        return {}
    for one, other in permutations(sorted(others[0].symbols), 2):
        equal = next(
            symbol(a.name, a.least, a.most)
            for a in atoms(others[0])
            if isinstance(a, Symbol) and a.name == one
        )
        rest = others[0].bind({other: equal})
        if given[one][1] == given[other][1] and isinstance(rest, Dim) and rest.name in given:
            return {other: equal}
    return {}


def taken_to_fit(inference: Inference, nodes: Sequence[Node]) -> dict[str, DimLike]:
    """Symbols with other bounds: numbers that Slice and Div read are not negative within these."""
    ends: dict[str, tuple[int, DimLike | None]] = {}
    for d in _signed(inference, nodes):
        found = [a for a in atoms(d) if isinstance(a, Symbol)]
        if len(found) > 1 and not ends:
            ends = _shared(d, found)
        elif len(found) == 1:
            (atom,) = found
            least, most = ends.get(atom.name, (atom.least, atom.most))
            limit, start = _limit(d, atom), _start(d, atom)
            if most is None and limit >= WORTH_ASSUMING:
                ends[atom.name] = least, limit
            elif start > least:
                ends[atom.name] = start, most
    return {name: symbol(name, least, most) for name, (least, most) in ends.items()}


def _shared(d: Dim, found: Sequence[Symbol]) -> dict[str, tuple[int, DimLike | None]]:
    """Bounds of all symbols in ``d``, a number less their sum, within which it is not negative."""
    *others, last = sorted(found, key=lambda a: a.name)
    total = known(d + sum(Dim({(a,): 1}) for a in found))
    spare = (total or 0) - sum(a.least for a in found)
    if spare < WORTH_ASSUMING or any(a.most is not None for a in found):
        return {}
    bounded = {a.name: symbol(a.name, a.least, a.least + spare) for a in others}
    ends: dict[str, tuple[int, DimLike | None]] = {
        a.name: (a.least, a.least + spare) for a in others
    }
    rest: DimLike = total or 0
    for extent in bounded.values():
        rest = rest - extent
    return ends | {last.name: (last.least, rest)}


def _signed(inference: Inference, nodes: Sequence[Node]) -> list[Dim]:
    """Numbers of which nodes have to know whether they are negative, and inference does not."""
    found: list[object] = []
    for node in nodes:
        places = {"Slice": (1, 2), "Div": (0,)}.get(node.op_type, ()) if not node.domain else ()
        for value in (v for at, v in enumerate(node.inputs) if at in places and v is not None):
            known_value = inference.fact(value).known_value
            found += [] if known_value is None else [*known_value.flat]
    return [d for d in found if isinstance(d, Dim) and is_nonnegative(d) is None]


def _start(d: Dim, atom: Symbol) -> int:
    """From which value of ``atom`` on ``d`` is never negative; 0 if that is open, or far."""
    low, high = atom.least, MOST_ASSUMED + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_natural(d, atom, middle) else (middle + 1, high)
    later = symbol(atom.name, low, atom.most)
    return low if low <= MOST_ASSUMED and is_nonnegative(d.substitute({atom: later})) else 0


def _limit(d: Dim, atom: Symbol) -> int:
    """How large ``atom`` may be until ``d`` is negative; 0 if that is open, or far."""
    factor, rest = map(known, coefficient(d, atom) or (None, None))
    if factor is not None and rest is not None:
        return 0 if factor >= 0 else rest // -factor
    low, high = atom.least, MOST_LIMITED + 1
    if low >= high or not _is_natural(d, atom, low) or _is_natural(d, atom, high):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_natural(d, atom, middle) else (low, middle)
    until = symbol(atom.name, atom.least, low)
    return low if is_nonnegative(d.substitute({atom: until})) else 0


def _is_natural(d: Dim, atom: Symbol, value: int) -> bool:
    """Whether ``d`` is a number of 0 and more where ``atom`` is ``value``."""
    try:
        found = d.substitute({atom: value})
    except ShapeError:  # a divisor in it is 0 there
        return False
    return isinstance(found, int) and found >= 0


def bound_symbols(inputs: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """The symbols that the shapes of ``inputs`` give values: the input and axis that says it."""
    found: dict[str, tuple[Value, int]] = {}
    for value in inputs:
        for axis, extent in enumerate(getattr(value.type, "shape", None) or ()):
            name, _ = told(extent)
            if name is not None:
                found.setdefault(name, (value, axis))
    return found


def told(extent: DimLike | None) -> tuple[str | None, int]:
    """The symbol whose number ``extent`` is, and what that is a multiple of; None for others."""
    if not isinstance(extent, Dim) or extent.name is not None:
        return (extent.name if isinstance(extent, Dim) else None), 1
    (monomial, factor), *others = extent.terms.items()
    floor = monomial[0] if len(monomial) == 1 and not others else None
    if isinstance(floor, Floor) and isinstance(floor.num, Dim) and floor.den == factor:
        return floor.num.name, factor
    return None, 1


def named_extents(model: Model, feeds: Mapping[str, Any]) -> dict[str, int]:
    """The extents of ``feeds`` for which the inputs of ``model`` have symbols of their own."""
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        for axis, extent in enumerate(getattr(value.declared_type, "shape", None) or ()):
            name = extent.name if isinstance(extent, Dim) else None
            if extent is None or (isinstance(extent, int) and extent < 0):
                name = extent_name(value, axis)
            if name is not None and value.name in feeds:
                found.setdefault(name, feeds[value.name].shape[axis])
    return found


def ranges(inputs: Sequence[Value]) -> dict[str, Range]:
    """What symbols of ``inputs`` are taken to be besides 1 and more."""
    shapes = [getattr(value.type, "shape", None) or () for value in inputs]
    extents = [d for shape in shapes for d in shape]
    units = dict(map(told, extents))
    found = {a for d in extents for a in atoms(d) if isinstance(a, Symbol)}
    made = {a.name: (a.least, _of_any(a.most), units.get(a.name, 1)) for a in found}
    return {name: range_ for name, range_ in made.items() if range_ != (1, None, 1)}


def _of_any(most: DimLike | None) -> DimLike | None:
    """``most`` for symbols of any number: one beyond its own bounds is found to be so itself."""
    return most.bind({n: symbol(n) for n in most.symbols}) if isinstance(most, Dim) else most


class Extents:
    """Dims with numbers for symbols, each computed once."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self.symbols = symbols
        self.known: dict[Dim, int] = {}

    def __call__(self, d: DimLike) -> int:
        if isinstance(d, int):
            return d
        found = self.known.get(d)
        if found is None:
            bound = d.bind(self.symbols)
            if not isinstance(bound, int):
                raise NotAsCompiled(f"{d} is {bound}")
            found = self.known[d] = bound
        return found
