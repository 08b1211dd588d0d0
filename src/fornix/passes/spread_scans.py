"""Scans that carry nothing from row to row, as tensors with one axis more, for the engine.

skl2onnx writes distances between all rows of two matrices so: one matrix goes through a Scan
unchanged, the other row by row. What a row makes becomes a place on a new last axis:

    y[t] = Reduce(f(a, x[t]), axes)    →    Reduce(f(a[..., None], xᵀ), axes)

There it is side by side in memory. Decides which bodies are such: elementwise operators that end in
reductions. No tensor with the axis is read twice ahead of those, so that loops need not keep it;
who runs node by node would have to, which is why models that are written keep their Scans.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fornix.errors import GraphError
from fornix.infer import Inference
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Maker

LEAST = 13
"""Version of ai.onnx from which on axes of Unsqueeze are an input."""
ELEMENTWISE = frozenset("Abs Add Cast Div Exp Max Min Mul Neg Pow Sqrt Sub".split())
REDUCTIONS = frozenset(
    "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare".split()
)


def spread_scans(root: Graph, inference: Inference) -> Changes:
    """Rewrite what is found in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in [n for n in graph.nodes if n.op_type == "Scan" and not n.domain]:
            make = Maker(node, graph, inference)
            results = attempt("spread_scans", _spread, node, make)
            if results is not None:
                replace(node, results, inference)
                changes["Scan"] += 1
    return changes


def _spread(node: Node, make: Maker) -> list[Value] | None:
    """What stands for the outputs of ``node``, if no row depends on others."""
    if make.opset < LEAST or any(node.attr(name) and any(node.attr(name)) for name in _TURNS):
        return None
    body = node.attr("body")
    scanned = node.attr("num_scan_inputs")
    carried = len(node.inputs) - scanned
    given = [value for value in node.inputs if value is not None]
    if not isinstance(body, Graph) or len(given) != len(body.inputs):
        return None
    places = list(zip(body.inputs, body.outputs, strict=False))[:carried]
    if any(_original(after) is not before for before, after in places):
        return None
    if not all(_is_reduced(value) for value in body.outputs[carried:]):
        return None
    rows = [_turned(value, make, 1) for value in given[carried:]]
    count = make.fact(rows[0]).shape[-1]
    if any(make.fact(row).shape[-1] != count for row in rows):
        return None  # whether there are as many of each, a run has to ask
    outer = dict(zip(body.inputs[:carried], given, strict=False))
    spread = _Spread(make, body, outer, dict(zip(body.inputs[carried:], rows, strict=True)))
    made = [spread.value(value) for value in body.outputs[carried:]]
    if any(make.fact(value).shape[-1] != count for value in made):
        return None  # it is the same for all rows
    return [*given[:carried], *(_turned(value, make, -1) for value in made)]


_TURNS = (
    "scan_input_axes",
    "scan_input_directions",
    "scan_output_axes",
    "scan_output_directions",
)
"""Attributes that a Scan of rows in their order leaves out, or at zero."""


def _original(value: Value) -> Value:
    """What ``value`` is another name of."""
    node = value.producer
    while node is not None and node.op_type == "Identity" and not node.domain:
        source = node.inputs[0]
        if source is None:
            break
        value, node = source, source.producer
    return value


def _turned(value: Value, make: Maker, by: int) -> Value:
    """``value`` with its first axis last, or with -1 its last one first."""
    axes = list(range(make.fact(value).rank))
    return make.Transpose(value, perm=axes[by:] + axes[:by])


def _is_reduced(value: Value) -> bool:
    """Whether ``value`` is a reduction of what loops need not keep, or computed of such."""
    node = _original(value).producer
    if node is None or node.domain:
        return False
    if node.op_type in REDUCTIONS:
        return node.inputs[0] is not None and _is_passing(node.inputs[0])
    return node.op_type in ELEMENTWISE and any(_is_reduced(x) for x in node.inputs if x)


def _is_passing(value: Value) -> bool:
    """Whether ``value``, and each that it is computed of in the body, has one reader."""
    node = value.producer
    if node is None:
        return True
    is_known = node.op_type in ELEMENTWISE and not node.domain
    return is_known and len(value.uses) == 1 and all(_is_passing(x) for x in node.inputs if x)


class _Spread:
    """Values of a body, outside of it and with an axis more if rows differ."""

    def __init__(
        self, make: Maker, body: Graph, outer: dict[Value, Value], rows: dict[Value, Value]
    ) -> None:
        self._make, self._body, self._outer, self._rows = make, body, outer, rows

    def value(self, value: Value) -> Value:
        """``value`` for all rows, on a last axis."""
        value = _original(value)
        node = value.producer
        if value in self._rows:
            return self._rows[value]
        if node is None or node.domain or node.op_type not in ELEMENTWISE | REDUCTIONS:
            return self._same(value)
        attributes = {name: node.attr(name) for name in node.attributes}
        if node.op_type in REDUCTIONS:
            made = self._reduced(node, attributes)
        else:
            inputs = tuple(self.value(x) for x in node.inputs if x is not None)
            made = self._make.node(node.op_type, inputs, attributes)
        self._rows[value] = made
        return made

    def _same(self, value: Value) -> Value:
        """A value that is the same for all rows, with an axis of one."""
        stored = self._make.fact(value).constant
        if value in self._outer:
            found = self._outer[value]
        elif stored is not None:
            found = self._make.value(stored)
        elif value.graph is self._body:
            raise GraphError(f"{value.name} is computed in the body in another way")
        else:
            found = value
        return self._make.Unsqueeze(found, np.array([-1], np.int64))

    def _reduced(self, node: Node, attributes: dict[str, Any]) -> Value:
        """A reduction, its axes counted from the front."""
        x, axes = (*node.inputs, None)[:2]
        listed = attributes.get("axes")
        if listed is None and axes is not None:
            listed = self._make.fact(axes).constant
        if x is None or listed is None or not len(listed):
            raise GraphError("a reduction of all axes is not spread")
        rank = self._make.fact(x).rank
        places = [int(axis) % rank for axis in listed]
        if "axes" in attributes:
            return self._make.node(node.op_type, (self.value(x),), attributes | {"axes": places})
        given = np.array(places, np.int64)
        return self._make.node(node.op_type, (self.value(x), given), attributes)
