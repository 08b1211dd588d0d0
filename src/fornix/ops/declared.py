"""Inference from the extents that a signature declares: ``(x: T[N, C]) => (y: T[N])``.

A name stands for one extent in the whole node. Inputs say what it is, or an integer attribute of
that name does; an extent that neither says is decided by the run. Expressions of names are computed
for outputs, and checked for inputs. ``...`` is any number of axes, the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from fornix.errors import ShapeError
from fornix.ir.dim import Dim, DimLike, atoms, known
from fornix.ir.dim.expression import Atom, Symbol, Unknown
from fornix.ops.call import InferNode
from fornix.ops.fact import Fact, tensor
from fornix.ops.geometry import shape_text, unified
from fornix.ops.op import Rule
from fornix.ops.schema import Schema
from fornix.ops.signature import Extents, Formal


def rule_of(schema: Schema) -> Rule | None:
    """The ``infer`` rule that follows from the extents in ``schema``; None if it has none."""
    if all(formal.extents is None for formal in schema.outputs):
        return None

    def infer(
        *inputs: Fact | None, node: InferNode, **attributes: object
    ) -> tuple[Fact | None, ...]:
        read = _Reading(node, {k: x for k, x in attributes.items() if type(x) is int})
        for index, fact in enumerate(inputs):
            if fact is not None and fact.has_rank:
                read.input(schema.formal_input(index), fact.shape)
        read.check()
        return tuple(read.output(schema.formal_output(index)) for index in range(node.output_count))

    return infer


@dataclass
class _Reading:
    """What the inputs of one node say of the names in its signature."""

    node: InferNode
    values: dict[str, DimLike]
    """What each name stands for."""
    places: dict[str, str] = field(default_factory=dict)
    """Which input said so."""
    rest: Sequence[DimLike] | None = None
    """What ``...`` stands for."""
    rest_place: str = ""
    pairs: list[tuple[DimLike, DimLike, str]] = field(default_factory=list)
    """Expressions in the shapes of inputs, with what they are there."""

    def input(self, formal: Formal, shape: Sequence[DimLike]) -> None:
        """Note what an input of ``shape`` says."""
        if formal.extents is None:
            return
        place = f"{formal.name}{shape_text(shape)}"
        for declared, found in self._aligned(formal, formal.extents, shape, place):
            if isinstance(declared, Dim) and declared.name is not None:
                self._bind(declared.name, found, place)
            else:
                self.pairs.append((declared, found, place))

    def _aligned(
        self, formal: Formal, extents: Extents, shape: Sequence[DimLike], place: str
    ) -> Iterator[tuple[DimLike, DimLike]]:
        """Each declared extent with what is there."""
        cut = extents.index(...) if ... in extents else len(extents)
        behind = len(extents) - cut - 1 if ... in extents else 0
        if len(shape) < cut + behind or (... not in extents and len(shape) > cut):
            raise ShapeError(f"{_text(formal)} is declared, found {place}")
        if ... in extents:
            self._bind_rest(shape[cut : len(shape) - behind], place)
        ends = (*extents[:cut], *extents[cut + 1 :])
        found = (*shape[:cut], *shape[len(shape) - behind :]) if ... in extents else shape
        for declared, extent in zip(ends, found, strict=True):
            if not isinstance(declared, type(...)):
                yield declared, extent

    def _bind(self, name: str, found: DimLike, place: str) -> None:
        one = self.values.get(name, found)
        both = unified([one, found])
        if both is None:
            where = self.places.get(name, f"the attribute {name}")
            raise ShapeError(f"{name} is {one} in {where}, but {found} in {place}")
        self.values[name] = both
        if name not in self.places or known(one) is None:
            self.places[name] = place

    def _bind_rest(self, found: Sequence[DimLike], place: str) -> None:
        rest = found if self.rest is None else self.rest
        both = [None if None in pair else unified(pair) for pair in zip_longest(rest, found)]
        merged = [extent for extent in both if extent is not None]
        if len(merged) < len(both):
            told = f"{shape_text(rest)} in {self.rest_place}"
            raise ShapeError(f"... is {told}, but {shape_text(found)} in {place}")
        self.rest, self.rest_place = merged, self.rest_place or place

    def check(self) -> None:
        """Raise ShapeError if an input is not what an expression says of it."""
        for declared, found, place in self.pairs:
            wanted = _computed(declared, self.values)
            if known(wanted) is not None and known(found) is not None and wanted != found:
                value = "" if known(declared) is not None else f" = {wanted}"
                raise ShapeError(
                    f"an extent {declared}{value} is declared, found {found} in {place}"
                )

    def output(self, formal: Formal) -> Fact | None:
        """The fact of an output, without element type."""
        if formal.extents is None or (... in formal.extents and self.rest is None):
            return None
        shape: list[DimLike] = []
        for extent in formal.extents:
            if isinstance(extent, int | Dim):
                shape.append(self._decided(extent))
            else:
                shape += self.rest or ()
        return tensor(None, shape)

    def _decided(self, extent: DimLike) -> DimLike:
        for atom in atoms(extent):
            if isinstance(atom, Unknown):
                return self.node.unknown("an extent is decided by the run")
            if isinstance(atom, Symbol) and atom.name not in self.values:
                self.values[atom.name] = self.node.unknown(f"{atom.name} is decided by the run")
        return _computed(extent, self.values)


def _computed(extent: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """``extent`` with the names that are known replaced."""
    if not isinstance(extent, Dim):
        return extent
    found: dict[Atom, DimLike] = {
        atom: values[atom.name]
        for atom in atoms(extent)
        if isinstance(atom, Symbol) and atom.name in values
    }
    return extent.substitute(found)


def _text(formal: Formal) -> str:
    extents = ("..." if extent is ... else extent for extent in formal.extents or ())
    return f"{formal.name}{shape_text(extents)}"
