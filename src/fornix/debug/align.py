"""Which value of one model is which of another.

1. by value    tensors that are alike, whatever they are called, also with axes in another order
2. by name     where names that both have mean the same as far as values show it
3. by place    results of like nodes that read what is aligned, and what makes like nodes read

Values that are constant all over, or tiny, show nothing and are aligned by name and place alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from fornix.debug.part import Array, double, is_float
from fornix.ir.graph import Graph, Node, Value

LIKE = 2e-3
"""Difference, relative to the largest element, up to which tensors are alike: float16 is among."""
TELLING = 4
"""Elements from which on a tensor says which value it is."""
MAX_RANK = 5
"""Ranks up to which axes may be in another order."""

Order = tuple[int, ...]
Values = Mapping[str, Any]


@dataclass
class Alignment:
    """Values of one model by name, and those of another that correspond to them."""

    names: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    """Where axes are in another order: how those of the other become ours."""

    @property
    def taken(self) -> set[str]:
        """Values of the other model that are aligned."""
        return set(self.names.values())

    def put(self, one: str, other: str, order: Order | None) -> None:
        """Align two values."""
        self.names[one] = other
        if order is not None and order != tuple(range(len(order))):
            self.orders[one] = order

    def translated(self, theirs: Values) -> dict[str, Any]:
        """Values of the other model by our names, axes in our order."""
        return {
            one: turned(theirs[other], self.orders.get(one)) for one, other in self.names.items()
        }


def turned(x: Any, order: Order | None) -> Any:
    """``x`` with its axes in ``order``."""
    return x if order is None else np.transpose(x, order)


def align(
    ours: Graph, mine: Values, theirs: Graph, others: Values, ends: Mapping[str, str]
) -> Alignment:
    """Which values of ``theirs`` are which of ``ours``; ``ends`` are inputs and outputs by name."""
    found = Alignment()
    alike = dict(_by_value(ours, mine, theirs, others))
    for one, other in ends.items():
        found.put(one, other, order_of(mine.get(one), others.get(other)))
    shared = [name for name in alike if name in others]
    trusted = 2 * sum(alike[name][0] == name for name in shared) >= len(shared)
    if trusted:
        _by_name(ours, mine, theirs, others, found)
    for one, (other, order) in alike.items():
        if one not in found.names and other not in found.taken:
            found.put(one, other, order)
    while _by_place(ours, mine, others, theirs, found):
        pass
    return found


def order_of(one: Any, other: Any, usual: Order | None = None) -> Order | None:
    """How the axes of ``other`` become those of ``one``; None if they cannot, or need not.

    Of several orders that fit, the one whose values are nearest; ``usual`` where none is near.
    """
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return None
    if one.ndim > MAX_RANK or one.ndim != other.ndim:
        return None
    fitting = list(_orders(one.shape, other.shape))
    if not fitting:
        return None
    straight = tuple(range(one.ndim))
    near = [order for order in fitting if distance(one, np.transpose(other, order)) < LIKE]
    if near:
        return straight if straight in near else near[0]
    if one.shape == other.shape:
        return straight
    return usual if usual in fitting else fitting[0]


def _orders(shape: tuple[int, ...], other: tuple[int, ...]) -> Iterator[Order]:
    if sorted(shape) != sorted(other):
        return
    for order in permutations(range(len(shape))):
        if tuple(other[axis] for axis in order) == shape:
            yield order


def distance(one: Any, other: Any) -> float:
    """The largest difference relative to the largest element; infinite for other shapes."""
    if one.shape != other.shape or one.dtype.kind in "OUS" or other.dtype.kind in "OUS":
        return np.inf
    with np.errstate(all="ignore"):
        a, b = double(one), double(other)
        if a.dtype.kind in "biu" and b.dtype.kind in "biu":
            return 0.0 if np.array_equal(a, b) else np.inf
        scale = float(np.nanmax(np.abs(a), initial=0.0))
        off = float(np.max(np.abs(a - b), initial=0.0))
    return off / scale if scale else off


def are_alike(one: Any, other: Any) -> bool:
    """Whether two values are alike, their axes in any order."""
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    order = order_of(one, other)
    return order is not None and distance(one, np.transpose(other, order)) < LIKE


def _by_value(
    ours: Graph, mine: Values, theirs: Graph, others: Values
) -> Iterator[tuple[str, tuple[str, Order]]]:
    """Pairs of results that are alike; of several, that of the same name, then operator."""
    index: dict[tuple[int, ...], list[tuple[Value, Array]]] = {}
    for value in _results(theirs):
        array = others.get(value.name)
        if array is not None and _tells(array):
            index.setdefault(tuple(sorted(array.shape)), []).append((value, _mark(array)))
    for value in _results(ours):
        array = mine.get(value.name)
        if array is None or not _tells(array):
            continue
        mark = _mark(array)
        near: list[tuple[tuple[bool, bool, float], str, Order]] = []
        for other, its in index.get(tuple(sorted(array.shape)), ()):
            if not np.allclose(mark, its, rtol=10 * LIKE, atol=LIKE * mark[-1]):
                continue
            order = order_of(array, others[other.name])
            if order is None:
                continue
            off = distance(array, np.transpose(others[other.name], order))
            if off < LIKE:
                rank = other.name != value.name, not _same_operator(value, other), off
                near.append((rank, other.name, order))
        if near:
            _, name, order = min(near)
            yield value.name, (name, order)


def _results(graph: Graph) -> Iterator[Value]:
    return (value for node in graph.nodes for value in node.outputs if value.name)


def _tells(x: Any) -> bool:
    """Whether a value shows by its elements which one it is."""
    if not is_float(x) or x.size < TELLING:
        return False
    wide = double(x)
    return bool(np.isfinite(wide).all() and wide.min() < wide.max())


def _mark(x: Array) -> Array:
    """Numbers that do not depend on the order of elements: mean, mean magnitude, deviation."""
    wide = double(x)
    return np.array([wide.mean(), np.abs(wide).mean(), np.sqrt(np.square(wide).mean())])


def _same_operator(one: Value, other: Value) -> bool:
    a, b = one.producer, other.producer
    return bool(a and b and (a.domain, a.op_type) == (b.domain, b.op_type))


def _by_name(ours: Graph, mine: Values, theirs: Graph, others: Values, found: Alignment) -> None:
    named = {value.name: value for value in _results(theirs)}
    for value in _results(ours):
        other = named.get(value.name)
        if value.name in found.names or other is None or other.name in found.taken:
            continue
        order = order_of(mine.get(value.name), others.get(other.name), _usual(found, value, mine))
        if order is not None or (_same_operator(value, other) and value.name in others):
            found.put(value.name, other.name, order)


def _usual(found: Alignment, value: Value, mine: Values) -> Order | None:
    """The order of axes that aligned values of this rank have most."""
    rank = getattr(mine.get(value.name), "ndim", -1)
    orders = Counter(order for order in found.orders.values() if len(order) == rank)
    return orders.most_common(1)[0][0] if orders else None


def _by_place(ours: Graph, mine: Values, others: Values, theirs: Graph, found: Alignment) -> bool:
    """Align what lies beside aligned values; whether there was any."""
    readers: dict[str, list[Node]] = {}
    for node in theirs.nodes:
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            readers.setdefault(value.name, []).append(node)
    makers = {value.name: value for value in _results(theirs)}
    before = len(found.names)
    for node in ours.nodes:
        for one, other, has_to_agree in _beside(node, found, readers, makers, (mine, others)):
            if one.name in found.names or other.name in found.taken or other.name not in others:
                continue
            a, b = mine.get(one.name), others[other.name]
            if has_to_agree and not are_alike(a, b):
                continue
            order = order_of(a, b, _usual(found, one, mine))
            if order is not None or not isinstance(a, np.ndarray):
                found.put(one.name, other.name, order)
    return len(found.names) > before


def _beside(
    node: Node,
    found: Alignment,
    readers: Mapping[str, list[Node]],
    makers: Mapping[str, Value],
    values: tuple[Values, Values],
) -> Iterator[tuple[Value, Value, bool]]:
    """Results of ``node`` and of its like, and what nodes read that make aligned values.

    What makes values that agree has to agree itself: the same may be made of something else, as
    Reshape does of other extents.
    """
    if any(value.name not in found.names for value in node.outputs if value.name):
        follower = _follower(node, found, readers)
        for one, other in zip(node.outputs, follower.outputs if follower else (), strict=False):
            yield one, other, False
    mine, others = values
    for one in node.outputs:
        made = makers.get(found.names.get(one.name, ""))
        if made is None or made.producer is None or not _same_operator(one, made):
            continue
        agrees = are_alike(mine.get(one.name), others.get(made.name))
        for x, y in zip(node.inputs, made.producer.inputs, strict=False):
            if x is not None and y is not None and x.producer and y.producer:
                yield x, y, agrees


def _follower(node: Node, found: Alignment, readers: Mapping[str, list[Node]]) -> Node | None:
    """The one node of the other model that does the same with the same values."""
    known = {
        index: found.names[value.name]
        for index, value in enumerate(node.inputs)
        if value is not None and value.name in found.names
    }
    if not known:
        return None
    fitting = [
        other
        for other in readers.get(next(iter(known.values())), ())
        if (other.domain, other.op_type) == (node.domain, node.op_type)
        and known.items() <= {i: v.name for i, v in enumerate(other.inputs) if v}.items()
    ]
    return fitting[0] if len(fitting) == 1 else None
