"""Extents of a model's inputs as symbols, which a compiled program is generic over; as numbers.

Every extent of an input that is not a number gets a symbol, which is at least 1: kernels are made
for tensors that have elements. A run whose extents are 0, or otherwise not those that the code was
made for, gets a program of its own in which these symbols are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.graph import Model, Value
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import values
from fornix.runtime.providers import NotAsCompiled


def name_extents(model: Model, numbers: Mapping[str, int]) -> None:
    """Make every symbol in ``model`` at least 1, or the number that ``numbers`` gives it.

    Extents that inputs are declared without become symbols of their own.
    """
    for value in values(model):
        type_ = value.declared_type
        if type_ is not None:
            value.type = _named(type_, value if value.is_input else None, numbers)


def _named(type_: Type, source: Value | None, numbers: Mapping[str, int]) -> Type:
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


def _extent(extent: DimLike | None, name: str | None, numbers: Mapping[str, int]) -> DimLike | None:
    if isinstance(extent, Dim):
        return extent.bind({s: numbers.get(s, symbol(s, 1)) for s in extent.symbols})
    if name is not None and (extent is None or extent < 0):
        return numbers.get(name, symbol(name, 1))
    return extent


def bound_symbols(inputs: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """The symbols that the shapes of ``inputs`` give values: the input and axis that says it."""
    found: dict[str, tuple[Value, int]] = {}
    for value in inputs:
        for axis, extent in enumerate(getattr(value.type, "shape", None) or ()):
            if isinstance(extent, Dim) and extent.name is not None:
                found.setdefault(extent.name, (value, axis))
    return found


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
