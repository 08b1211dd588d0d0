"""Extents of a model's inputs as symbols, which a compiled program is generic over; as numbers.

Every extent of an input that is not a number gets a symbol, which is at least 1: kernels are made
for tensors that have elements. A run whose extents are 0, or otherwise not those that the code was
made for, gets a program of its own in which these symbols are numbers.

Symbols of two inputs that are broadcast with each other are taken for equal: exporters often give
one batch as many names as there are inputs. A run in which one of them is 1 gets another program.
So does one that is too long for a table of positions, of which Slice takes as many as there are: up
to the length of the table it counts from the front, beyond that it would count from the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fornix.ir.dim import Dim, DimLike, atoms, is_nonnegative, known, symbol
from fornix.ir.dim.expression import Symbol, Unknown, coefficient
from fornix.ir.graph import Model, Node, Value
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import values
from fornix.runtime.providers import NotAsCompiled

if TYPE_CHECKING:
    from fornix.infer import Inference


WORTH_ASSUMING = 128
"""Extents that runs may have before a program of their own is made for each."""


def name_extents(model: Model, numbers: Mapping[str, DimLike]) -> None:
    """Make every symbol in ``model`` at least 1, or what ``numbers`` gives it.

    Extents that inputs are declared without become symbols of their own.
    """
    for value in values(model):
        type_ = value.declared_type
        if type_ is not None:
            value.type = _named(type_, value if value.is_input else None, numbers)


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
        return extent.bind({s: numbers.get(s, symbol(s, 1)) for s in extent.symbols})
    if name is not None and (extent is None or extent < 0):
        return numbers.get(name, symbol(name, 1))
    return extent


def taken_for_equal(inference: Inference, inputs: Sequence[Value]) -> dict[str, DimLike]:
    """Symbols of ``inputs`` that are broadcast with others of them, each with that other one."""
    given = bound_symbols(inputs)
    found: dict[str, DimLike] = {}
    for fact in inference.facts.values():
        for atom in {a for d in getattr(fact.type, "shape", None) or () for a in atoms(d)}:
            if not isinstance(atom, Unknown):
                continue
            met = [d for d in atom.among if isinstance(d, Dim) and d.name in given]
            names = [d.name for d in met if d.name is not None]
            if len(met) < 2 or len(met) < len(atom.among) or found.keys() & set(names):
                continue
            found |= dict.fromkeys(names[1:], met[0])
    return {name: d for name, d in found.items() if getattr(d, "name", None) not in found}


def taken_to_fit(inference: Inference, nodes: Sequence[Node]) -> dict[str, DimLike]:
    """Symbols that Slice subtracts from a number, with what they may be until that is negative."""
    most: dict[str, int] = {}
    slices = [node for node in nodes if node.op_type == "Slice" and not node.domain]
    facts = [inference.fact(v) for node in slices for v in node.inputs[1:3] if v is not None]
    for name, limit in (
        _limit(d) for f in facts if f.known_value is not None for d in f.known_value.flat
    ):
        if limit >= WORTH_ASSUMING:
            most[name] = min(limit, most.get(name, limit))
    return {name: symbol(name, 1, limit) for name, limit in most.items()}


def _limit(d: DimLike) -> tuple[str, int]:
    """The symbol in ``d``, and how large it may be until ``d`` is negative; 0 if that is open."""
    found = [a for a in atoms(d) if isinstance(a, Symbol) and a.most is None]
    split = coefficient(d, found[0]) if len(found) == 1 else None
    if split is None or is_nonnegative(d) is not None:
        return "", 0
    factor, rest = map(known, split)
    if factor is None or rest is None or factor >= 0:
        return "", 0
    return found[0].name, rest // -factor


def bound_symbols(inputs: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """The symbols that the shapes of ``inputs`` give values: the input and axis that says it."""
    found: dict[str, tuple[Value, int]] = {}
    for value in inputs:
        for axis, extent in enumerate(getattr(value.type, "shape", None) or ()):
            if isinstance(extent, Dim) and extent.name is not None:
                found.setdefault(extent.name, (value, axis))
    return found


def greatest(inputs: Sequence[Value]) -> dict[str, int]:
    """What the symbols of ``inputs`` may be, where that has an end."""
    shapes = [getattr(value.type, "shape", None) or () for value in inputs]
    found = {a for shape in shapes for d in shape for a in atoms(d) if isinstance(a, Symbol)}
    return {a.name: a.most for a in found if a.most is not None}


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
