"""Nodes whose results are as long as data say, as a part that counts and one that is told.

For sessions alone: no model that is written has these parts. Decides which nodes are taken apart:
those of numbers, of known rank, whose limits are stored. What is refused of others' inputs is not
looked at here: a node that might be refused stays what it is, unless that is seen of extents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fornix.infer import Inference
from fornix.ir.attribute import Attribute
from fornix.ir.dim import known, less
from fornix.ir.graph import Graph, Model, Node, Value
from fornix.ops.fact import Fact
from fornix.passes.apply import replace
from fornix.passes.make import Maker

DOMAIN = "fornix.parts"
MAX_BITS = 64


def split_counted(model: Model, inference: Inference) -> bool:
    """Take nodes of the main graph apart; whether there were any."""
    found = [n for n in model.graph.nodes if not n.domain and n.op_type in _SPLITS]
    was_imported = DOMAIN in model.opset_imports
    changed = False
    for node in found:
        given = [inference.fact(value) for value in node.inputs if value is not None]
        if not given or not all(map(is_plain, given)):
            continue
        facts = [Fact() if value is None else inference.fact(value) for value in node.inputs]
        model.opset_imports.setdefault(DOMAIN, 1)
        results = _SPLITS[node.op_type](_Parts(node, model.graph, inference), facts)
        if results is not None:
            replace(node, results, inference)
            changed = True
    if not changed and not was_imported:
        model.opset_imports.pop(DOMAIN, None)
    return changed


def is_plain(fact: Fact) -> bool:
    """Whether it is a tensor of known rank, with elements, that native code can read."""
    return (
        fact.has_rank
        and 0 not in fact.shape
        and fact.dtype is not None
        and fact.dtype.kind in {"int", "uint", "bool", "float"}
    )


class _Parts:
    """A node and what makes others ahead of it."""

    def __init__(self, node: Node, graph: Graph, inference: Inference) -> None:
        self.node, self.graph, self.inference = node, graph, inference
        self.make = Maker(node, graph, inference)

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        return self.node.attributes

    def given(self, number: int) -> Value | None:
        """An input, or None if it is left out."""
        return self.node.inputs[number] if number < len(self.node.inputs) else None

    def several(self, op_type: str, inputs: list[Value | None], count: int) -> tuple[Value, ...]:
        """The results of a new node with the attributes of this one."""
        made = Node(DOMAIN, op_type, inputs, count, self.attributes, name=self.node.name)
        self.graph.insert_before(self.node, made)
        self.inference.update([made])
        return made.outputs


def _non_zero(parts: _Parts, facts: list[Fact]) -> list[Value] | None:
    (x,) = parts.node.inputs
    if facts[0].rank == 0 or facts[0].constant is not None:
        return None
    count = parts.make.Count(x, domain=DOMAIN)
    return [parts.make.Places(x, count, domain=DOMAIN)]


def _compress(parts: _Parts, facts: list[Fact]) -> list[Value] | None:
    x, condition = parts.node.inputs
    data, chosen = facts
    attribute = parts.attributes.get("axis")
    axis = None if attribute is None else int(attribute.value)
    if chosen.rank != 1 or chosen.constant is not None or data.rank == 0:
        return None
    if axis is None and data.rank != 1:
        return None
    if not -data.rank <= (axis or 0) < data.rank:
        return None
    if less(data.shape[axis or 0], chosen.shape[0]):
        return None
    count = parts.make.Count(condition, domain=DOMAIN)
    return [parts.make.Chosen(x, condition, count, axis=axis, domain=DOMAIN)]


def _unique(parts: _Parts, facts: list[Fact]) -> list[Value] | None:
    (x,) = parts.node.inputs
    dtype = facts[0].dtype
    if x is None or dtype is None or dtype.kind == "bool":
        return None
    if facts[0].rank != 1 and "axis" in parts.attributes:
        return None
    if facts[0].constant is not None or dtype.bits > MAX_BITS:
        return None
    if facts[0].rank != 1:
        x = parts.make.Reshape(x, np.array([-1], np.int64))
    attributes = {k: a for k, a in parts.attributes.items() if k == "sorted"}
    made = Node(DOMAIN, "Distinct", [x], 4, attributes, name=parts.node.name)
    parts.graph.insert_before(parts.node, made)
    parts.inference.update([made])
    first, group, counts, number = made.outputs
    places = parts.make.Front(first, number, domain=DOMAIN)
    wanted = [parts.make.Gather(x, places)]
    used = len(parts.node.outputs)
    wanted += [places, group][: used - 1]
    if used > len(wanted):
        wanted.append(parts.make.Front(counts, number, domain=DOMAIN))
    return wanted


def _suppression(parts: _Parts, facts: list[Fact]) -> list[Value] | None:
    limit, overlap = (_number(facts, k) for k in (2, 3))
    if limit is None or limit < 1 or facts[0].rank != 3 or facts[1].rank != 3:
        return None
    if known(facts[0].shape[2]) not in {None, 4}:
        return None
    if parts.given(3) is not None and overlap is None:
        return None
    if not 0 <= (overlap or 0) <= 1:
        return None
    given = [parts.given(k) for k in range(5)]
    given[3] = given[3] or parts.make.value(np.zeros(1, np.float32))
    if given[4] is not None and any(extent != 1 for extent in facts[4].shape):
        return None
    while given[-1] is None:
        given.pop()
    rows, number = parts.several("Suppressed", given, 2)
    return [parts.make.Front(rows, number, domain=DOMAIN)]


def _number(facts: list[Fact], place: int) -> float | None:
    """The one stored number that an input is."""
    found = facts[place].constant if place < len(facts) else None
    return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else None


_SPLITS: dict[str, Callable[[_Parts, list[Fact]], list[Value] | None]] = {
    "Compress": _compress,
    "NonMaxSuppression": _suppression,
    "NonZero": _non_zero,
    "Unique": _unique,
}
