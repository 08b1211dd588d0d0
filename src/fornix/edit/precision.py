"""Float32 computed in a narrower float type: weights, values, and casts where both types meet.

Decides what becomes of each value: which inputs, outputs and stored data change, how numbers are
rounded that the narrower type cannot hold, and where casts stand. Which nodes may compute so, and
what they want to read, `eligible` says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from fornix.dtype import FLOAT16, FLOAT32, DType
from fornix.edit.eligible import CONTROL, Eligible, Wish
from fornix.errors import InvalidArgument
from fornix.infer import infer_model
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ir.nesting import inner_graphs
from fornix.ir.tensor import LazyTensor, Tensor
from fornix.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]

KEPT_OPERATORS = frozenset({
    "CumSum", "Max", "MaxRoiPool", "Min", "NonMaxSuppression", "RandomUniformLike", "Range",
    "RoiAlign", "TopK", "Upsample",
})  # fmt: skip
"""Operators that compute as they did unless told otherwise: sums that grow, places, order."""
CAST_BEGINS = 9
"""The opset for casts in models that have nothing else of the standard's main domain."""


@dataclass(frozen=True)
class Span:
    """Positive numbers that are kept apart from 0 and from infinity: others become the nearest."""

    least: float
    most: float

    @staticmethod
    def of(dtype: DType) -> Span:
        """All positive numbers that ``dtype`` has."""
        about = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call] # it has no stubs
        return Span(float(about.smallest_subnormal), float(about.max))


def narrowed(array: Array, dtype: DType, span: Span) -> Array:
    """``array`` in ``dtype``: no finite number becomes infinite, and none but 0 becomes 0."""
    size = np.abs(array)
    held = np.clip(size, span.least, span.most)
    changes = np.isfinite(array) & (size != held) & (size != 0)
    return np.where(changes, np.copysign(held, array), array).astype(dtype.numpy)


def lower_precision(
    model: Model,
    dtype: DType = FLOAT16,
    *,
    keep_io: Collection[str] = (),
    keep_ops: Collection[str] = KEPT_OPERATORS,
    keep_nodes: Collection[str] = (),
    span: Span | None = None,
    force_weights: bool = False,
) -> Model:
    """A copy of ``model`` that computes in ``dtype`` where it computed in float32.

    Inputs and outputs called as in ``keep_io`` stay as they are. Nodes of ``keep_ops``
    and those called as in ``keep_nodes``, calls of model functions, and nodes that the standard
    does not allow ``dtype`` go on in float32, between casts. What is stored becomes narrower if
    nobody wants it as it was, or with ``force_weights`` anyway; numbers beyond ``span`` are moved
    into it. Raises InvalidArgument for a type that is no narrower float.
    """
    if not dtype.is_float or dtype.bits >= FLOAT32.bits:
        raise InvalidArgument(f"lower_precision: a float type below 32 bits, found {dtype}")
    changed = model.clone()
    eligible = Eligible(changed, infer_model(changed), dtype, keep_ops, keep_nodes)
    change = _Change(changed, eligible, span or Span.of(dtype), force_weights=force_weights)
    change.choose(keep_io)
    change.apply()
    return changed


class _Change:
    """The change of one model, to be made once everything has been chosen."""

    def __init__(
        self, model: Model, eligible: Eligible, span: Span, *, force_weights: bool
    ) -> None:
        self.model, self.eligible, self.span = model, eligible, span
        self.force_weights = force_weights
        self.graphs = [model.graph, *inner_graphs(model.graph)]
        self.nodes = [node for graph in self.graphs for node in graph.nodes]
        self.narrow: set[Value] = set()
        """Float32 values that change their type."""
        self.wide_outputs: set[Value] = set()
        """Outputs of the model that are to be as they are."""
        self.casts: dict[Value, Value] = {}
        """Values in the other type."""

    def choose(self, keep_io: Collection[str]) -> None:
        """Decide which values change."""
        main = self.model.graph
        self.wide_outputs = {v for v in main.outputs if v.name in keep_io}
        for graph in self.graphs:
            given = [v for v in graph.inputs if not v.is_initializer and self._is_wide(v)]
            if graph is main:
                self.narrow |= {v for v in given if v.name not in keep_io}
            elif not self._is_kept_body(graph):
                self.narrow |= {*given}
        sources = [v for one in self.graphs for v in one.initializer_values if self._is_wide(v)]
        for node in self.nodes:
            if self.eligible.is_source(node):
                sources.append(node.output)
            else:
                self.narrow |= {*self.eligible.narrow_outputs(node)}
        wishes = self._wishes()
        for value in sources:
            wanted = wishes.get(value, set())
            is_forced = self.force_weights and value.constant is not None
            if is_forced or (Wish.NARROW in wanted and Wish.WIDE not in wanted):
                self.narrow.add(value)

    def _is_wide(self, value: Value) -> bool:
        return self.eligible.is_wide(value)

    def _is_kept_body(self, graph: Graph) -> bool:
        owner = graph.owner
        return (
            not isinstance(owner, Node)
            or owner.op_type not in CONTROL
            or self.eligible.is_kept(owner)
        )

    def _wishes(self) -> dict[Value, set[Wish]]:
        """How each float32 value is wanted by those who read it."""
        found: dict[Value, set[Wish]] = {}
        for node in self.nodes:
            for index, wish in self.eligible.wishes(node):
                value = node.inputs[index]
                if value is not None:
                    found.setdefault(value, set()).add(wish)
        for graph in self.graphs:
            for value in graph.outputs:
                wish = Wish.WIDE if self._wants_wide(graph, value) else Wish.NARROW
                found.setdefault(value, set()).add(wish)
        return found

    def _wants_wide(self, graph: Graph, output: Value) -> bool:
        if graph is self.model.graph:
            return output in self.wide_outputs
        return self._is_kept_body(graph)

    def apply(self) -> None:
        """Change types, stored data and attributes, and put casts in between."""
        reads = [(node, *wish) for node in self.nodes for wish in self.eligible.wishes(node)]
        gives = [
            (graph, place, Wish.WIDE if self._wants_wide(graph, value) else Wish.NARROW)
            for graph in self.graphs
            for place, value in enumerate(graph.outputs)
            if self._is_wide(value)
        ]
        for value in self.narrow:
            self._make_narrow(value)
        for node, index, wish in reads:
            read = node.inputs[index]
            if read is not None and self._differs(read, wish):
                node.set_input(index, self._cast(read))
        for graph, place, wish in gives:
            if self._differs(graph.outputs[place], wish):
                self._cast_output(graph, place)

    def _differs(self, value: Value, wish: Wish) -> bool:
        return wish is not Wish.ANY and (wish is Wish.NARROW) != (value in self.narrow)

    def _make_narrow(self, value: Value) -> None:
        """Give ``value``, and what makes it, the narrower type."""
        dtype, node = self.eligible.dtype, value.producer
        if isinstance(value.declared_type, TensorType):
            value.type = replace(value.declared_type, dtype=dtype)
        if value.tensor is not None:
            value.tensor = self._narrowed(value.tensor)
        if node is None:
            return
        name = self.eligible.dtype_attribute(node)
        if name is not None:
            node.set_attribute(name, dtype.code)
        elif node.op_type == "Constant":
            held = value.constant
            for key in list(node.attributes):
                node.remove_attribute(key)
            node.set_attribute("value", None if held is None else self._narrowed(held))
        elif node.op_type == "ConstantOfShape":
            held = node.attr("value") or LazyTensor(partial(np.zeros, 1, np.float32), FLOAT32, (1,))
            node.set_attribute("value", self._narrowed(held))

    def _narrowed(self, tensor: Tensor) -> Tensor:
        """What ``tensor`` holds, rounded when it is wanted."""
        dtype, span = self.eligible.dtype, self.span
        make: Callable[[], Array] = lambda: narrowed(tensor.numpy(), dtype, span)  # noqa: E731
        return LazyTensor(make, dtype, tensor.shape, tensor.name)

    def _cast(self, value: Value) -> Value:
        """``value`` in the other type: one Cast for all, behind what makes it."""
        graph = value.graph
        if value not in self.casts:
            node = self._cast_node(value)
            self.casts[value] = node.output
            first = None if graph is None else next(iter(graph.nodes), None)
            if graph is not None and value.producer is not None:
                graph.insert_after(value.producer, node)
            elif graph is not None and first is not None:
                graph.insert_before(first, node)
        return self.casts[value]

    def _cast_node(self, value: Value) -> Node:
        is_narrow = value in self.narrow
        dtype = FLOAT32 if is_narrow else self.eligible.dtype
        self.model.opset_imports.setdefault("", CAST_BEGINS)
        node = Node("", "Cast", [value], 1, {"to": dtype.code})
        shape = getattr(value.type, "shape", None)
        node.output.type = TensorType(dtype, shape)
        return node

    def _cast_output(self, graph: Graph, place: int) -> None:
        """Let ``graph`` give the other type; outputs of the model keep their names."""
        value = graph.outputs[place]
        node = self._cast_node(value)
        graph.append(node)
        outputs = list(graph.outputs)
        outputs[place] = node.output
        graph.outputs = outputs
        if graph is self.model.graph:
            name = value.name
            value.name = graph.fresh_name(f"{name}_uncast")
            node.output.name = name


__all__ = ["KEPT_OPERATORS", "Span", "lower_precision", "narrowed"]
