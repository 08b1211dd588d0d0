"""Dims that the command line sets: ``--dim N=4``; whatever is not set is 1."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fornix.errors import InvalidArgument
from fornix.ir.dim import Dim, known
from fornix.ir.graph import Value
from fornix.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType, Type


@dataclass(frozen=True)
class Dims:
    """Extents by name."""

    given: Mapping[str, int]

    @classmethod
    def of(cls, options: Sequence[str], inputs: Iterable[Value]) -> Dims:
        """Those of ``options``; raises InvalidArgument unless each names a dim of ``inputs``."""
        names = sorted({name for value in inputs for name in symbols(value.type)})
        given: dict[str, int] = {}
        for option in options:
            name, _, extent = option.rpartition("=")
            if not name or not extent.isdecimal():
                raise InvalidArgument(f"--dim: name=extent is required, found '{option}'")
            if name not in names:
                close = difflib.get_close_matches(name, names, 1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise InvalidArgument(
                    f"--dim: a named dim of the inputs ({', '.join(names) or 'there is none'}) is "
                    f"required, found '{name}'{hint}"
                )
            given[name] = int(extent)
        return cls(given)

    def unset(self, values: Iterable[Value]) -> list[str]:
        """Names of the dims of ``values`` that are 1 because nobody set them."""
        return sorted({name for value in values for name in symbols(value.type)} - set(self.given))

    def extent(self, dim: int | Dim | None) -> int | None:
        """The extent of ``dim`` if it is fixed or set, else None."""
        if isinstance(dim, Dim):
            return known(dim.bind(self.given))
        return dim if dim is not None and dim >= 0 else None

    def shape(self, value: Value, type_: TensorType) -> tuple[int, ...]:
        """The shape of a tensor of ``type_`` for ``value``; dims that nobody sets are 1."""
        if type_.shape is None:
            raise InvalidArgument(
                f"input '{value.name}' is {type_}: its rank is not declared; feed it with --input"
            )
        return tuple(self.chosen(value, type_, axis) for axis in range(len(type_.shape)))

    def chosen(self, value: Value, type_: TensorType, axis: int) -> int:
        """The extent of one axis."""
        dim = None if type_.shape is None else type_.shape[axis]
        if not isinstance(dim, Dim):
            return 1 if dim is None or dim < 0 else dim
        if dim.unknowns:
            return 1
        bound = known(dim.bind({name: self.given.get(name, 1) for name in dim.symbols}))
        if bound is None or bound < 0:
            told = ", ".join(f"{name}={self.given.get(name, 1)}" for name in sorted(dim.symbols))
            raise InvalidArgument(
                f"input '{value.name}' is {type_}: axis {axis} cannot be {bound}, "
                f"which follows from {told}; set --dim"
            )
        return bound


def symbols(type_: Type | None) -> set[str]:
    """Names of the dims in ``type_``."""
    if isinstance(type_, SequenceType | OptionalType):
        return symbols(type_.elem)
    if isinstance(type_, TensorType | SparseTensorType):
        return {name for dim in type_.shape or () if isinstance(dim, Dim) for name in dim.symbols}
    return set()
