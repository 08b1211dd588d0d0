"""Read tensors where a sequence would only hand them on: at a known place, by number, or joined.

1. SequenceAt(SequenceConstruct(a, b, …), 1) is b; so it is behind SequenceInsert and SequenceErase
   at known places, and where SplitToSequence has cut parts of stored lengths
2. SequenceAt(SplitToSequence(x), i) is Gather(x, i), where each part is one slice
3. ConcatFromSequence of such sequences is Concat, or x itself, turned
4. a Loop that appends one tensor in each iteration to a sequence which is only joined makes rows of
   an array instead

What may have no elements cannot be joined: that is for the operator to refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np

from fornix.infer import Inference
from fornix.ir.clone import clone
from fornix.ir.dim import Dim, DimLike, is_nonnegative, known, symbol
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values, graphs
from fornix.ops.fact import Fact, dims_of
from fornix.passes.apply import Changes, attempt
from fornix.passes.apply import replace as put_in_place
from fornix.passes.make import Maker

LEADING = 2
"""Inputs of a Loop ahead of carried values, and of its body."""
UNSQUEEZE_TAKES_AXES = 13
"""Since this opset, as an input."""
MAX_PARTS = 64
"""Of what is cut: each is a node of its own."""


@dataclass(frozen=True)
class Part:
    """A part of ``whole`` along an axis."""

    whole: Value
    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Rows:
    """Slices of ``whole`` along an axis, which they keep or do not."""

    whole: Value
    axis: int
    keeps: bool


Listed: TypeAlias = list["Value | Part"]
"""A sequence of known length."""


def unpack_sequences(root: Graph, inference: Inference, *, is_filled: bool = False) -> Changes:
    """Apply the four cases in ``root`` and its subgraphs.

    With ``is_filled``, extents that are symbols are 1 or more.
    """
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in list(graph.nodes):
            if node.domain or node.graph is not graph or node.op_type not in _READERS:
                continue
            make = _Making(node, graph, inference, is_filled=is_filled)
            results = attempt("unpack_sequences", make.unpacked, node, make)
            if results:
                put_in_place(node, results, inference)
                changes[f"unpacked {node.op_type}"] += 1
    return changes


class _Making(Maker):
    """Makes nodes, and knows what symbols are taken for."""

    def __init__(
        self, anchor: Node, graph: Graph, inference: Inference, *, is_filled: bool
    ) -> None:
        super().__init__(anchor, graph, inference)
        self.inference, self.is_filled = inference, is_filled

    def unpacked(self, node: Node, _: Maker) -> list[Value]:
        """What stands for the results of a node that reads a sequence; empty if nothing does."""
        return _READERS[node.op_type](node, self)

    def before(self, node: Node, graph: Graph) -> _Making:
        """The same, ahead of another node."""
        return _Making(node, graph, self.inference, is_filled=self.is_filled)

    def insert(self, node: Node) -> None:
        """Put a new node there."""
        self._graph.insert_before(self._anchor, node)
        self.inference.update([node])

    def at_least_one(self, extent: DimLike | None) -> bool:
        """Whether an extent, or a count, is certainly no less than 1."""
        if isinstance(extent, Dim) and self.is_filled:
            extent = extent.bind({name: symbol(f"{name} - 1") + 1 for name in extent.symbols})
        return extent is not None and is_nonnegative(extent - 1) is True

    def tensor(self, element: Value | Part) -> Value:
        """An element of a sequence."""
        if isinstance(element, Value):
            return element
        cut = (np.array([n]) for n in (element.start, element.stop, element.axis))
        made: Value = self.Slice(element.whole, *cut)
        return made

    def turned(self, x: Value, axis: int, place: int) -> Value:
        """``x`` with an axis moved to another place."""
        order = [a for a in range(self.fact(x).rank) if a != axis]
        order.insert(place, axis)
        made: Value = x if order == sorted(order) else self.Transpose(x, perm=order)
        return made


def _sequence(value: Value | None, make: _Making) -> Listed | Rows | None:
    """What is known of a sequence."""
    node = None if value is None else value.producer
    if node is None or node.domain:
        return None
    if node.op_type == "SequenceConstruct":
        return [x for x in node.inputs if x is not None]
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SplitToSequence":
        return _cut(node, make)
    if node.op_type not in {"SequenceInsert", "SequenceErase", "Identity"}:
        return None
    before = _sequence(node.inputs[0], make)
    is_same = node.op_type == "Identity"
    if is_same or not isinstance(before, list):
        return before if is_same else None
    inserts = node.op_type == "SequenceInsert"
    place = _place(node, 2 if inserts else 1, len(before) if inserts else len(before) - 1, make)
    if place is None:
        return None
    inserted = [x for x in node.inputs[1:2] if inserts and x is not None]
    return [*before[:place], *inserted, *before[place + (not inserts) :]]


def _place(node: Node, number: int, last: int, make: _Making) -> int | None:
    """The place up to ``last`` that an input says, by default the last; None if it is not known."""
    given = node.inputs[number] if number < len(node.inputs) else None
    if given is None:
        return last if last >= 0 else None
    stored = make.fact(given).constant
    if stored is None or stored.size != 1:
        return None
    place, count = int(stored.reshape(-1)[0]), last + (node.op_type != "SequenceInsert")
    place += count if place < 0 else 0
    return place if 0 <= place <= last else None


def _cut(node: Node, make: _Making) -> Listed | Rows | None:
    """What a SplitToSequence makes."""
    x, split = (*node.inputs, None)[:2]
    if x is None or not make.fact(x).has_rank:
        return None
    shape = make.fact(x).shape
    axis = node.attr("axis", 0) % len(shape)
    if split is None:
        return Rows(x, axis, bool(node.attr("keepdims", 1)))
    lengths, extent = make.fact(split).constant, known(shape[axis])
    if lengths is None:
        return Rows(x, axis, keeps=True) if _are_ones(split, shape[axis], make) else None
    if lengths.ndim == 0 and lengths == 1:
        return Rows(x, axis, bool(node.attr("keepdims", 1)))
    if extent is None or (lengths.ndim == 0 and lengths < 1):
        return None
    if lengths.ndim:
        ends = [0, *accumulate(map(int, lengths))]
    else:
        ends = [*range(0, extent, int(lengths)), extent]
    if ends[-1] != extent or (lengths < 0).any() or len(ends) > MAX_PARTS:
        return None
    return [Part(x, axis, *pair) for pair in pairwise(ends)]


def _are_ones(lengths: Value, extent: DimLike, make: _Making) -> bool:
    """Whether so many lengths are computed which are 1, as PyTorch's repeat_interleave has them."""
    node, fact = lengths.producer, make.fact(lengths)
    if node is None or node.op_type != "ConstantOfShape" or node.domain:
        return False
    value = node.attr("value")
    is_one = value is not None and bool((value.numpy() == 1).all())
    return is_one and fact.has_rank and fact.shape == (extent,)


def _at(node: Node, make: _Making) -> list[Value]:
    """The element at a place."""
    found, place = _sequence(node.inputs[0], make), node.inputs[1]
    if isinstance(found, list):
        known_place = _place(node, 1, len(found) - 1, make)
        if known_place is None:
            return _alike(found, place, make)
        return [make.tensor(found[known_place])]
    if found is None or place is None:
        return []
    shape = make.fact(place).shape
    if shape and not (found.keeps and shape == (1,)):
        return []
    if found.keeps and not shape:
        place = make.Reshape(place, np.array([1]))
    return [make.Gather(found.whole, place, axis=found.axis)]


def _alike(found: Listed, place: Value | None, make: _Making) -> list[Value]:
    """The part at a place that data say, of all parts of one length that a tensor is cut into."""
    first = found[0] if found else None
    if not isinstance(first, Part) or place is None or make.fact(place).rank:
        return []
    axis, length, shape = first.axis, first.stop, make.fact(first.whole).shape
    starts = [p.start for p in found if isinstance(p, Part) and p.stop == p.start + length]
    if starts != [n * length for n in range(len(found))] or _whole(found, axis, make) is None:
        return []
    extents = [-1 if (n := known(d)) is None else n for d in shape]
    extents[axis : axis + 1] = [len(found), length]
    if extents.count(-1) > 1 or 0 in extents:
        return []
    rows = make.Reshape(first.whole, np.array(extents, np.int64))
    return [make.Gather(rows, place, axis=axis)]


def _length(node: Node, make: _Making) -> list[Value]:
    """The number of elements."""
    found = _sequence(node.inputs[0], make)
    if isinstance(found, list):
        return [make.value(np.array(len(found)))]
    if found is None:
        return []
    return [make.Gather(make.Shape(found.whole), np.array(found.axis), axis=0)]


def _joined(node: Node, make: _Making) -> list[Value]:
    """All elements in one tensor."""
    found = _sequence(node.inputs[0], make)
    is_new = bool(node.attr("new_axis", 0))
    if isinstance(found, Rows):
        return _joined_rows(found, node.attr("axis", 0), make, is_new=is_new)
    if not found:
        return []
    first = found[0]
    rank = make.fact(first.whole if isinstance(first, Part) else first).rank + is_new
    if not rank:
        return []
    axis = node.attr("axis", 0) % rank
    whole = None if is_new else _whole(found, axis, make)
    return [whole or _concat([make.tensor(x) for x in found], axis, make, is_new=is_new)]


def _whole(found: Listed, axis: int, make: _Making) -> Value | None:
    """What was cut, if ``found`` are all of its parts along an axis, in their order."""
    parts = [x for x in found if isinstance(x, Part)]
    if len(parts) < len(found) or any((p.whole, p.axis) != (parts[0].whole, axis) for p in parts):
        return None
    ends = [0, *(p.stop for p in parts)]
    is_all = [p.start for p in parts] == ends[:-1]
    return parts[0].whole if is_all and make.fact(parts[0].whole).shape[axis] == ends[-1] else None


def _concat(values: Sequence[Value], axis: int, make: _Making, *, is_new: bool) -> Value:
    """Tensors one behind the other, or stacked."""
    if is_new:
        values = [_widened(x, axis, make) for x in values]
    made: Value = make.node("Concat", tuple(values), {"axis": axis}) if values[1:] else values[0]
    return made


def _widened(x: Value, axis: int, make: _Making) -> Value:
    """``x`` with an axis more."""
    has_input = make.opset >= UNSQUEEZE_TAKES_AXES
    made: Value = (
        make.Unsqueeze(x, np.array([axis])) if has_input else make.Unsqueeze(x, axes=[axis])
    )
    return made


def _joined_rows(rows: Rows, axis: int, make: _Making, *, is_new: bool) -> list[Value]:
    """What was cut into slices, with these along another axis."""
    shape = make.fact(rows.whole).shape
    kept = (1,) if rows.keeps else ()
    element = (*shape[: rows.axis], *kept, *shape[rows.axis + 1 :])
    axis %= len(element) + is_new
    if not make.at_least_one(shape[rows.axis]):
        return []
    if rows.keeps and not is_new and axis == rows.axis:
        return [rows.whole]
    if not is_new and not _is_joinable(element, axis):
        return []
    if is_new and not rows.keeps:
        return [make.turned(rows.whole, rows.axis, axis)]
    stacked = make.turned(rows.whole, rows.axis, 0)
    if rows.keeps:
        stacked = _widened(stacked, rows.axis + 1, make)
    return [_unstacked(stacked, axis, make, is_new=is_new)]


def _is_joinable(element: Sequence[DimLike], axis: int) -> bool:
    """Whether rows of an array can be joined along ``axis``: extents beside it are numbers."""
    return 0 <= axis < len(element) and all(known(d) for a, d in enumerate(element) if a != axis)


def _unstacked(stacked: Value, axis: int, make: _Making, *, is_new: bool) -> Value:
    """Slices along the first axis one behind the other along ``axis``, or this axis there."""
    turned = make.turned(stacked, 0, axis)
    if is_new:
        return turned
    shape = make.fact(turned).shape
    ahead, behind = ([known(d) or 0 for d in part] for part in (shape[:axis], shape[axis + 2 :]))
    made: Value = make.Reshape(turned, np.array([*ahead, -1, *behind], np.int64))
    return made


def _looped(node: Node, make: _Making) -> list[Value]:
    """A Loop with rows instead of sequences that grow in it."""
    body: Graph = node.attributes["body"].value
    count = min(len(node.inputs) - LEADING, len(body.outputs) - 1)
    appended = [k for k in range(count) if _is_appended(node, k, make)]
    if not appended:
        return []
    copy = clone(body)
    nodes = [x for k in appended if (x := copy.outputs[1 + k].producer) is not None]
    rows = [
        _row(x, fact, copy) for x, fact in zip(nodes, _facts(body, appended, make), strict=True)
    ]
    kept = [n for n in range(len(copy.outputs)) if n - 1 not in appended]
    copy.outputs = [*(copy.outputs[n] for n in kept), *rows]
    copy.remove(*nodes)
    copy.inputs = [x for n, x in enumerate(copy.inputs) if n - LEADING not in appended]
    inputs = [x for n, x in enumerate(node.inputs) if n - LEADING not in appended]
    loop = Node("", "Loop", inputs, len(copy.outputs) - 1, {"body": copy}, name=node.name)
    make.insert(loop)
    results = dict(zip([n - 1 for n in kept[1:]], loop.outputs, strict=False))
    stacked = loop.outputs[len(kept) - 1 :]
    for k, whole in zip(appended, stacked, strict=True):
        _join_appended(node, k, whole, make)
        results[k] = whole  # which nobody reads as a sequence any more
    return [results[n] for n in range(len(node.outputs))]


def _facts(body: Graph, appended: Sequence[int], make: _Making) -> list[Fact]:
    """What is known of the tensors that are appended."""
    nodes = [body.outputs[1 + k].producer for k in appended]
    return [make.fact(x) for n in nodes if n is not None for x in n.inputs[1:2] if x is not None]


def _is_appended(loop: Node, number: int, make: _Making) -> bool:
    """Whether a carried value is a sequence that grows by a tensor of one shape and is joined."""
    body: Graph = loop.attributes["body"].value
    before, after = body.inputs[LEADING + number], body.outputs[1 + number]
    node, whole = after.producer, loop.outputs[number]
    if node is None or node.op_type != "SequenceInsert" or node.domain or before.is_output:
        return False
    if node.inputs[0] is not before or before.users != (node,) or any(node.inputs[2:]):
        return False
    if after.users or body.outputs.count(after) > 1 or whole.is_output or not whole.users:
        return False
    if any(user.op_type != "ConcatFromSequence" or user.domain for user in whole.users):
        return False
    initial = _sequence(loop.inputs[LEADING + number], make)
    (fact,) = _facts(body, [number], make)
    if not isinstance(initial, list) or not fact.has_rank or fact.dtype is None:
        return False
    told = _steady_names(loop, make)
    if any(isinstance(d, Dim) and (d.unknowns or d.symbols - told) for d in fact.shape):
        return False
    is_certain = _runs(loop, make)
    is_static = all(known(d) for d in fact.shape)
    takes = all(_takes(user, fact) for user in whole.users)
    if is_certain or not takes:
        return takes
    fits = all(_fits(x, user, fact.shape, make) for x in initial for user in whole.users)
    return bool(initial) and is_static and fits


def _steady_names(loop: Node, make: _Making) -> set[str]:
    """Names of extents that are the same in all iterations: those of what ``loop`` reads.

    What a body declares beside these may be another number in each.
    """
    values = (*loop.inputs, *captured_values(loop))
    facts = [make.fact(value) for value in values if value is not None]
    dims = [d for fact in facts for d in (*(fact.shape if fact.has_rank else ()), *_contents(fact))]
    return {name for d in dims if isinstance(d, Dim) for name in d.symbols}


def _contents(fact: Fact) -> list[DimLike]:
    """What is known to be in a tensor of integers."""
    return [] if fact.known_value is None else list(fact.known_value.flat)


def _takes(join: Node, fact: Fact) -> bool:
    """Whether rows of an array can be joined as ``join`` has it."""
    axis = join.attr("axis", 0) % max(fact.rank, 1)
    return bool(join.attr("new_axis", 0)) or _is_joinable(fact.shape, axis)


def _fits(element: Value | Part, join: Node, row: Sequence[DimLike], make: _Making) -> bool:
    """Whether ``join`` can put an element and a row of that shape behind each other."""
    whole = element.whole if isinstance(element, Part) else element
    shape = list(make.fact(whole).shape)
    if isinstance(element, Part):
        shape[element.axis] = element.stop - element.start
    axis = -1 if join.attr("new_axis", 0) else join.attr("axis", 0) % max(len(row), 1)
    beside = [[d for a, d in enumerate(extents) if a != axis] for extents in (shape, row)]
    return len(shape) == len(row) and beside[0] == beside[1]


def _runs(loop: Node, make: _Making) -> bool:
    """Whether the first iteration is certain."""
    trips, condition = loop.inputs[:LEADING]
    stored = None if condition is None else make.fact(condition).constant
    if condition is not None and (stored is None or not stored.all()):
        return False
    counts = None if trips is None else dims_of(make.fact(trips).value)
    return trips is None or (counts is not None and make.at_least_one(counts[0]))


def _row(insert: Node, fact: Fact, body: Graph) -> Value:
    """The output of the body that is a row of what was appended."""
    value = insert.inputs[1]
    is_own = value is not None and value.graph is body and value.producer is not None
    if value is None or not is_own or value.is_output:
        copied = Node("", "Identity", [value], 1)
        body.append(copied)
        value = copied.output
    value.type = TensorType(fact.dtype, fact.shape)
    return value


def _join_appended(loop: Node, number: int, rows: Value, make: _Making) -> None:
    """Join what a sequence begins with and what was appended to it."""
    for user in list(loop.outputs[number].users):
        if user.graph is None:
            continue
        maker = make.before(user, user.graph)
        is_new = bool(user.attr("new_axis", 0))
        initial = _sequence(loop.inputs[LEADING + number], maker)
        axis = user.attr("axis", 0) % (maker.fact(rows).rank - (not is_new))
        parts = [maker.tensor(x) for x in initial] if isinstance(initial, list) else []
        if is_new:
            parts = [_widened(x, axis, maker) for x in parts]
        parts.append(_unstacked(rows, axis, maker, is_new=is_new))
        put_in_place(user, [_concat(parts, axis, maker, is_new=False)], make.inference)


_READERS = {
    "ConcatFromSequence": _joined,
    "Loop": _looped,
    "SequenceAt": _at,
    "SequenceLength": _length,
}
"""What reads sequences, and what becomes of it."""
