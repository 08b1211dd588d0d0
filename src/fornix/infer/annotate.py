"""What inference found, written into the model: types where it said none, or said less.

An extent that only a run can tell gets a name, the same wherever it is the same: ``unk__0``.
"""

from __future__ import annotations

from collections.abc import Iterator

from fornix.errors import InferenceError
from fornix.infer.model import Inference, merge
from fornix.ir.dim import DimLike, atoms, symbol
from fornix.ir.dim.expression import Atom, Symbol, Unknown, substitute
from fornix.ir.graph import Model, Value
from fornix.ir.nesting import own_values
from fornix.ir.types import OptionalType, SequenceType, TensorType, Type
from fornix.ir.walk import graphs
from fornix.ops.fact import Fact

PREFIX = "unk__"
"""What the names of extents begin with; the `onnx` package gives the same."""


def annotate(model: Model, inference: Inference) -> None:
    """Declare in ``model`` what ``inference`` knows of its values, those of subgraphs included.

    Inputs stay as they are, and so do values of which nothing is known and declarations that
    inference contradicts. Bodies of model functions get no types: every call may give others.
    """
    names = _Names(model)
    for value in _inferred(model):
        fact = inference.fact(value)
        if fact.type is not None and _agrees(fact, value):
            value.type = names.in_type(fact.type)


def _agrees(fact: Fact, value: Value) -> bool:
    try:
        merge(Fact(value.type), fact, value)
    except InferenceError:
        return False
    return True


def _inferred(model: Model) -> Iterator[Value]:
    for graph in graphs(model.graph):
        inputs = set(graph.inputs) if graph is model.graph else ()
        yield from (v for v in own_values(graph) if not v.is_initializer and v not in inputs)


class _Names:
    """Names of unknown extents that the model does not use."""

    def __init__(self, model: Model) -> None:
        self.chosen: dict[Atom, DimLike] = {}
        self.taken = {
            atom.name
            for graph in graphs(model.graph)
            for value in own_values(graph)
            for extent in getattr(value.type, "shape", None) or ()
            if extent is not None
            for atom in atoms(extent)
            if isinstance(atom, Symbol)
        }
        self.next = 0

    def in_type(self, type_: Type | None) -> Type | None:
        """``type_`` with names for what is unknown."""
        if isinstance(type_, SequenceType | OptionalType):
            return type(type_)(self.in_type(type_.elem))
        if not isinstance(type_, TensorType) or type_.shape is None:
            return type_
        return TensorType(type_.dtype, tuple(map(self._in_extent, type_.shape)))

    def _in_extent(self, extent: DimLike | None) -> DimLike | None:
        if extent is None:
            return None
        for atom in sorted((a for a in atoms(extent) if isinstance(a, Unknown)), key=str):
            if atom not in self.chosen:
                self.chosen[atom] = symbol(self._fresh())
        return substitute(extent, self.chosen, {})

    def _fresh(self) -> str:
        while f"{PREFIX}{self.next}" in self.taken:
            self.next += 1
        self.next += 1
        return f"{PREFIX}{self.next - 1}"
