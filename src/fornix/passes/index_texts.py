"""Texts that If, Loop and Scan only choose, move and compare, as numbers of places in a list.

For sessions alone: native code has bodies of numbers, and NumPy kernels those of texts. What enters
is numbered, stored texts ahead; what comes out is looked up in the list of all that entered. Where
texts are compared, each is in the list once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fornix.dtype import INT64, STRING
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import inner_graphs
from fornix.ir.types import TensorType, Type
from fornix.ir.walk import captured_values
from fornix.ops.fact import Fact
from fornix.passes.apply import sweep
from fornix.passes.make import Maker

PARTS = "fornix.parts"
CONTROL = frozenset({"If", "Loop", "Scan"})
MOVING: Mapping[str, tuple[int, ...]] = {
    "Compress": (0,), "Equal": (0, 1), "Expand": (0,), "Flatten": (0,), "Gather": (0,),
    "GatherElements": (0,), "GatherND": (0,), "Identity": (0,), "Reshape": (0,), "Shape": (0,),
    "Size": (0,), "Slice": (0,), "Split": (0,), "Squeeze": (0,), "Tile": (0,), "Transpose": (0,),
    "Unsqueeze": (0,), "Where": (1, 2),
}  # fmt: skip
"""Operators that do the same with numbers, and which of their inputs may be texts."""
JOINING = frozenset({"Concat", *CONTROL})
"""Those of which any input may be."""
COMPARING = "Equal"
SINCE = 14
"""The opset from which on all of these take numbers as they take texts, and Reshape zeros."""


def index_texts(model: Model, inference: Inference) -> bool:
    """Let such nodes of the main graph work with numbers; whether there were any.

    Afterwards the model has to be inferred anew.
    """
    if model.opset_imports.get("", 0) < SINCE:
        return False
    changed = False
    for node in list(model.graph.nodes):
        if node.op_type in CONTROL and not node.domain:
            indexed = _Indexed(node, model.graph, inference)
            if indexed.is_fit():
                model.opset_imports.setdefault(PARTS, 1)
                indexed.rewrite()
                changed = True
    return changed


class _Indexed:
    """A node with bodies, and the texts in it."""

    def __init__(self, node: Node, graph: Graph, inference: Inference) -> None:
        self.node, self.graph, self.inference = node, graph, inference
        self.make = Maker(node, graph, inference)
        self.graphs = list(inner_graphs(node))
        self.inside = [inner for graph in self.graphs for inner in graph.nodes]
        own = [v for g in self.graphs for v in (*g.inputs, *g.initializer_values)]
        made = [value for inner in (*self.inside, node) for value in inner.outputs]
        read = [value for value in node.inputs if value is not None]
        every = dict.fromkeys([*own, *made, *read, *captured_values(node)])
        self.texts = {v for v in every if self._is_text(v)}
        outer = [value for value in every if value in self.texts and value.graph is graph]
        self.entering = [v for v in outer if v.producer is not node and v.constant is None]
        self.stored = [v for v in every if v in self.texts and v.constant is not None]
        compared = [n for n in self.inside if n.op_type == COMPARING and self._reads_texts(n)]
        self.compares = bool(compared)
        known = all(not {*self.stored}.isdisjoint(node.inputs) for node in compared)
        self.is_known = known and self.texts.isdisjoint(node.outputs)
        """Whether texts stay inside, and are compared with stored ones alone."""

    def _reads_texts(self, node: Node) -> bool:
        return not self.texts.isdisjoint(node.inputs)

    def _is_text(self, value: Value) -> bool:
        type_ = value.type or self.inference.fact(value).type
        return isinstance(type_, TensorType) and type_.dtype is STRING

    def is_fit(self) -> bool:
        """Whether there are texts that are only moved, and only such."""
        if not self.texts or self.node in self.inference.broken:
            return False
        if not all(map(self._is_numbered, self.entering)):
            return False
        return all(map(self._moves, (*self.inside, self.node)))

    def _is_numbered(self, value: Value) -> bool:
        """Whether there is one number for each of its elements, as far as anybody can tell."""
        fact = self.inference.fact(value)
        return fact.has_rank and not any(map(has_unknown, fact.shape))

    def _moves(self, node: Node) -> bool:
        """Whether ``node`` does with texts what it would do with their numbers."""
        at = [index for index, value in enumerate(node.inputs) if value in self.texts]
        gives = any(value in self.texts for value in node.outputs)
        if node.op_type not in CONTROL and any(map(self._holds_texts, inner_graphs(node))):
            return False
        if not at and not gives:
            return True
        if node.domain or node in self.inference.broken:
            return False
        if node.op_type == "Constant":
            return node.output.constant is not None
        moved = {*MOVING.get(node.op_type, ())}
        return node.op_type in JOINING or (bool(at) and moved.issuperset(at))

    def _holds_texts(self, graph: Graph) -> bool:
        """Whether elements of sequences, which are not numbered, may be among them."""
        return not self.texts.isdisjoint((*graph.inputs, *graph.outputs))

    def rewrite(self) -> None:
        """Put numbers in place of the texts."""
        stored = (text for value in self.stored for text in _data(value).ravel().tolist())
        places = {text: place for place, text in enumerate(dict.fromkeys(stored))}
        numbers, names = self._looked_up(places) if self.is_known else self._entered(places)
        for value in self.stored:
            found = np.array([places[text] for text in _data(value).flat], np.int64)
            numbers[value] = self.make.value(found.reshape(_data(value).shape))
        results = [value for value in self.node.outputs if value in self.texts]
        for value in self.texts - numbers.keys() - {*results}:
            value.type = _of_numbers(value.type)
        for node in (self.node, *self.inside):
            node.inputs = [v if v is None else numbers.get(v, v) for v in node.inputs]
        for graph in self.graphs:
            graph.outputs = [numbers.get(value, value) for value in graph.outputs]
        sweep(self.stored)
        for value in results:
            self._name(value, names, self.inference.fact(value))

    def _looked_up(self, places: Mapping[str, int]) -> tuple[dict[Value, Value], None]:
        """The numbers of what enters: places among stored texts, one number for all others."""
        keys = [*places] or [""]
        make = self.make
        return {v: make.Numbered(v, domain=PARTS, keys=keys) for v in self.entering}, None

    def _entered(self, places: Mapping[str, int]) -> tuple[dict[Value, Value], Value]:
        """The numbers of what enters, and the list of all texts: stored ones have ``places``."""
        if not self.entering:
            return {}, self.make.value(np.array([*places], object))
        attributes = {"compares": Attribute.of("compares", int(self.compares))}
        if places:
            attributes["stored"] = Attribute.of("stored", [*places])
        count = 1 + len(self.entering)
        node = Node(PARTS, "Indexed", self.entering, count, attributes, name=self.node.name)
        self.graph.insert_before(self.node, node)
        self.inference.update([node])
        names, *numbers = node.outputs
        return dict(zip(self.entering, numbers, strict=True)), names

    def _name(self, value: Value, names: Value | None, known: Fact) -> None:
        """Let whoever reads ``value``, a result that is a number now, read the text."""
        naming = Node("", "Gather", [names, value], 1, name=self.node.name)
        naming.output.type = known.type if value.is_output else None
        self.graph.insert_after(self.node, naming)
        value.replace_all_uses_with(naming.output)
        naming.inputs = [names, value]
        value.type = _of_numbers(known.type)
        self.inference.facts |= {value: Fact(value.type), naming.output: Fact(known.type)}


def _data(value: Value) -> np.ndarray[Any, Any]:
    """Stored texts."""
    stored = value.constant
    return np.empty(0, object) if stored is None else stored.numpy()


def _of_numbers(type_: Type | None) -> Type | None:
    """The type of the numbers of texts of a type."""
    return TensorType(INT64, type_.shape) if isinstance(type_, TensorType) else type_
