"""Read the one place that a loop counts: Slice(x, i, i + 1) is Gather(x, [i]) where i is in x.

What a Slice makes is as long as data say, and a Gather of one place has one. Decides which values
count: the number of an iteration, and what begins at a stored integer and grows by another one each
time; and how far they get: as far as a limit of iterations or a comparison with what comes next
lets them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fornix.infer import Inference
from fornix.ir.dim import DimLike, is_nonnegative, maximum
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.ops.fact import dims_of
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Maker

LEADING = 2
"""Inputs of a Loop ahead of carried values, and of its body."""
RESHAPING = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Count:
    """A value that counts, and between what it lies."""

    value: Value
    least: int
    most: DimLike


def gather_counted(root: Graph, inference: Inference) -> Changes:
    """Rewrite such nodes in the bodies of loops in ``root``."""
    changes: Changes = Counter()
    counted: dict[Value, Count] = {}
    for graph in list(graphs(root)):
        for node in list(graph.nodes):
            make = Maker(node, graph, inference)
            if node.op_type == "Loop" and not node.domain:
                counted.update((c.value, c) for c in attempt("", _counters, node, make) or [])
    if not counted:
        return changes
    for graph in list(graphs(root)):
        for node in [n for n in graph.nodes if n.op_type == "Slice" and not n.domain]:
            make = Maker(node, graph, inference)
            result = attempt("gather_counted", lambda n, m: _gathered(n, m, counted), node, make)
            if result is not None:
                replace(node, [result], inference)
                changes["gathered"] += 1
    return changes


def _counters(loop: Node, make: Maker) -> list[Count]:
    """What counts in the body of ``loop``."""
    body: Graph = loop.attributes["body"].value
    trips = loop.inputs[0]
    told = None if trips is None else dims_of(make.fact(trips).value)
    limit = told[0] if told else None
    found = [] if limit is None else [Count(body.inputs[0], 0, limit - 1)]
    for initial, before, after in zip(
        loop.inputs[LEADING:], body.inputs[LEADING:], body.outputs[1:], strict=False
    ):
        first, step = _number(initial, make), _step(before, after, make)
        if first is None or step is None:
            continue
        below = _bound(body, after, make)
        if below is not None:
            found.append(Count(before, first, maximum(first, below - 1)))
        elif limit is not None:
            found.append(Count(before, first, (limit - 1) * step + first))
    return found


def _number(value: Value | None, make: Maker) -> int | None:
    """The one stored integer that ``value`` is."""
    stored = None if value is None else make.fact(value).constant
    is_one = stored is not None and stored.size == 1 and stored.dtype.kind == "i"
    return int(stored.reshape(-1)[0]) if stored is not None and is_one else None


def _step(before: Value, after: Value, make: Maker) -> int | None:
    """By how much a carried value grows in each iteration."""
    node = after.producer
    if node is None or node.op_type != "Add" or node.domain or before not in node.inputs:
        return None
    (other,) = [x for x in node.inputs if x is not before] or [None]
    step = _number(other, make)
    return step if step is not None and step > 0 else None


def _bound(body: Graph, after: Value, make: Maker) -> DimLike | None:
    """What the next value has to be below for another iteration."""
    node = body.outputs[0].producer
    if node is None or node.op_type != "Less" or node.domain or node.inputs[0] is not after:
        return None
    limit = node.inputs[1]
    told = None if limit is None else dims_of(make.fact(limit).value)
    return told[0] if told and len(told) == 1 else None


def _counted(
    value: Value | None, make: Maker, counted: dict[Value, Count]
) -> tuple[Count, int] | None:
    """The value that counts in a list of one place, and what is added to it."""
    offset = 0
    while value is not None and value not in counted:
        node = value.producer
        if node is None or node.domain:
            return None
        if node.op_type == "Add":
            numbers = [_number(x, make) for x in node.inputs]
            added = next((n for n in numbers if n is not None), None)
            if added is None:
                return None
            offset += added
            value = node.inputs[0 if numbers[0] is None else 1]
        elif node.op_type in RESHAPING:
            value = node.inputs[0]
        else:
            return None
    return None if value is None else (counted[value], offset)


def _gathered(node: Node, make: Maker, counted: dict[Value, Count]) -> Value | None:
    """What stands for the Slice ``node``, if it takes one place that is there."""
    x, start, stop, axes, steps = (*node.inputs, None, None)[:5]
    if x is None or start is None or len(node.inputs) < 3:
        return None
    axis = 0 if axes is None else _number(axes, make)
    one, other = _counted(start, make, counted), _counted(stop, make, counted)
    if one is None or other is None or axis is None or make.fact(start).shape != (1,):
        return None
    if steps is not None and _number(steps, make) != 1:
        return None
    (counter, offset), (same, end) = one, other
    shape = make.fact(x).shape
    axis %= len(shape)
    ends = shape[axis] - 1 - offset - counter.most
    if counter != same or end != offset + 1 or counter.least + offset < 0:
        return None
    return make.Gather(x, start, axis=axis) if is_nonnegative(ends) else None
