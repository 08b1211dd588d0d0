"""Numbers that only the data of a run tell, as symbols: what depends on them can be compiled.

They are of two kinds. A node whose results have extents that no rule can tell runs its NumPy
kernel; behind it these extents stand in the shapes of arrays. And integers that a run computes, or
is fed, may say where a Slice cuts, or how long a Range is; these stand in small tensors. Decides
which of both get a symbol, and what follows from them; `learned` says how runs find the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fornix.dtype import INT32, INT64
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.dim.expression import Unknown
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact, static
from fornix.passes.split_counted import DOMAIN
from fornix.runtime.sizing.learned import Source

DECIDING = {
    "CenterCropPad": (1,), "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,),
    "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,), "Resize": (3,), "Slice": (1, 2),
    "Split": (1,), "Tile": (1,), "TopK": (1,),
}  # fmt: skip
"""Inputs whose contents decide the extents of results."""
TOLD = {"Chosen": (2,), "Front": (1,), "Places": (1,), "Resized": (3,)}
"""The same of what operators were taken apart into."""
CONTRIBUTED = {"CropAndResize": (3,), "GroupQueryAttention": (6,)}
"""The same of com.microsoft: how large crops are, and how many keys there are."""
TABLES: Mapping[str, Mapping[str, Sequence[int]]] = {
    "": DECIDING,
    DOMAIN: TOLD,
    "com.microsoft": CONTRIBUTED,
}
FOLLOWED = frozenset({
    "Add", "Cast", "Concat", "Div", "Gather", "Identity", "Max", "Min", "Mul", "Neg", "Reshape",
    "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators whose rules follow contents: what they compute is known where their inputs are."""
MAX_ELEMENTS = 16
"""Of a tensor with such contents; lists with an entry for each axis have fewer."""


def name_learned(
    nodes: Sequence[Node],
    inference: Inference,
    symbols: frozenset[str],
    *,
    is_wary: bool = False,
) -> dict[str, Source]:
    """Give numbers that only data tell a symbol each, and infer anew what follows from them.

    ``symbols`` are those that the extents of inputs tell. Unless it ``is_wary``, extents that
    broadcast are taken for equal.
    """
    naming = _Naming(inference, _told(nodes, inference), symbols, is_wary=is_wary)
    for value in dict.fromkeys(v for node in nodes for v in node.inputs if v is not None):
        if value.producer is None and value.constant is None:
            naming.name(value)
    for node in nodes:
        naming.pass_on(node)
    return naming.sources


def deciding(node: Node) -> list[Value]:
    """The inputs of ``node`` whose contents decide the extents of its results."""
    places = TABLES.get(node.domain, {}).get(node.op_type, ())
    return [v for at, v in enumerate(node.inputs) if at in places and v is not None]


def _told(nodes: Sequence[Node], inference: Inference) -> frozenset[Value]:
    """Values whose contents decide extents, and what these are computed from."""
    found: dict[Value, None] = {}
    for node in reversed(nodes):
        read = deciding(node)
        if _follows(node) and any(value in found for value in node.outputs):
            read += [value for value in node.inputs if value is not None]
        for value in read:
            if value.constant is None and _is_list(inference.fact(value)):
                found[value] = None
    return frozenset(found)


def _follows(node: Node) -> bool:
    """Whether what ``node`` computes is known where its inputs are."""
    return not node.domain and node.op_type in FOLLOWED


def _is_list(fact: Fact) -> bool:
    """Whether ``fact`` is of a few integers."""
    if not fact.has_rank or fact.dtype not in {INT32, INT64}:
        return False
    extents = static(fact.shape)
    return extents is not None and 0 < math.prod(extents) <= MAX_ELEMENTS


def _is_unknown(entry: DimLike) -> bool:
    return isinstance(entry, Dim) and has_unknown(entry)


class _Naming:
    """Symbols on their way through a graph."""

    def __init__(
        self,
        inference: Inference,
        told: frozenset[Value],
        symbols: frozenset[str],
        *,
        is_wary: bool = False,
    ) -> None:
        self.is_wary = is_wary
        self.inference, self.told, self.symbols = inference, told, symbols
        self.sources: dict[str, Source] = {}
        self._known: dict[Dim, Dim] = {}
        self._changed: set[Value] = set()

    def pass_on(self, node: Node) -> None:
        """Infer ``node`` anew if what it reads has changed, and name what data decide of it."""
        if any(value in self._changed for value in node.inputs):
            self.inference.update([node])
            self._changed.update(node.outputs)
        for value in node.outputs:
            self._name_extents(value)
            if not (_follows(node) and any(value in self.told for value in node.inputs)):
                self.name(value)
        named = [self.name(value) for value in deciding(node)]
        if any(named):
            self.pass_on(node)

    def name(self, value: Value) -> bool:
        """Give contents of ``value`` symbols if they decide extents and are not known."""
        fact = self.inference.fact(value)
        if value not in self.told or not _is_list(fact):
            return False
        shape = static(fact.shape) or ()
        contents = np.empty(shape, object) if fact.value is None else fact.value.copy()
        open_ = [n for n, entry in enumerate(contents.flat) if entry is None or _is_unknown(entry)]
        for place in open_:
            index = np.unravel_index(place, shape)
            found = self._symbol(f"{value.name}{[int(k) for k in index]}")
            contents[index] = found
            self._add(found, value, place, fact, is_element=True)
        if open_:
            self._learn(value, Fact(fact.type, contents))
        return bool(open_)

    def _symbol(self, name: str) -> Dim:
        """A new symbol, which may be 0: data decide."""
        while name in self.sources or name in self.symbols:
            name += "'"
        return symbol(name, least=0)

    def _name_extents(self, value: Value) -> None:
        """Give extents of ``value`` that are not known a symbol each, the same for the same one."""
        fact = self.inference.fact(value)
        if not isinstance(fact.type, TensorType) or not fact.has_rank:
            return
        shape = list(fact.shape)
        new: list[int] = []
        for axis, extent in enumerate(fact.shape):
            if isinstance(extent, Dim) and not self._is_told(extent):
                found = self._known.get(extent)
                if found is None and not self.is_wary:
                    found = self._one_of(extent)
                if found is None:
                    found = self._symbol(f"{value.name}.shape[{axis}]")
                    new.append(axis)
                if has_unknown(extent):
                    self._known[extent] = found
                shape[axis] = found
        named = Fact(TensorType(fact.dtype, tuple(shape)))
        if shape != list(fact.shape):
            self._learn(value, named)
            for axis in new:
                self._add(named.shape[axis], value, axis, named, is_element=False)

    def _one_of(self, extent: Dim) -> Dim | None:
        """What ``extent`` is if those agree that broadcast to it, which is asked of each run."""
        among = extent.atom.among if isinstance(extent.atom, Unknown) else ()
        named = [d for d in among if isinstance(d, Dim) and self._is_told(d)]
        return named[0] if named and len(named) == len(among) else None

    def _is_told(self, extent: Dim) -> bool:
        """Whether inputs, or what is learned before, tell ``extent``; declarations may not."""
        known = self.symbols | self.sources.keys()
        return not has_unknown(extent) and extent.symbols <= known

    def _add(
        self, found: DimLike, value: Value, place: int, fact: Fact, *, is_element: bool
    ) -> None:
        name, dtype = getattr(found, "name", None), fact.dtype
        if name is not None and dtype is not None:
            self.sources[name] = Source(value, place, is_element, fact.shape, dtype.numpy)

    def _learn(self, value: Value, fact: Fact) -> None:
        self.inference.facts[value] = fact
        self._changed.add(value)
