"""Nodes that are attention together: a product, a softmax of it, and a product of that.

Decides which nodes one kernel has to compute because `schedule.attention` then never stores what
lies between them. Found are candidates, by their order in the graph; whether they are attention
says their common expression (`attention`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fornix.compile.attention import as_attention
from fornix.compile.lower import RULE_ERRORS, Lowering
from fornix.compile.schedule.map import normal
from fornix.compile.traits import Traits, estimate
from fornix.compile.units import CompiledUnit
from fornix.ir.graph import Node, Value
from fornix.ir.loops import Store
from fornix.ops.call import NotLowered


@dataclass(frozen=True)
class Chain:
    """Nodes that are computed where ``end`` is."""

    end: Node
    inner: frozenset[Node]
    """From the product of queries and keys on; each is read by others of them and the end only."""
    scaled: frozenset[Node]
    """What scales or moves queries and keys ahead of their product."""


def chains(
    nodes: Sequence[Node],
    traits: Mapping[Node, Traits | str],
    needed: Collection[Value],
    lowering: Lowering,
    name: Callable[[CompiledUnit], str],
) -> dict[Node, Chain]:
    """The chains in ``nodes``, by each node of theirs but the end; ``name`` tells units alike."""
    finder = _Finder(nodes, traits, frozenset(needed), lowering)
    known: dict[str, bool] = {}
    found: dict[Node, Chain] = {}
    for node in nodes:
        chain = finder.chain(node) if _is(node, "MatMul") else None
        if chain is None or found.keys() & (chain.inner | chain.scaled):
            continue
        unit = finder.unit(chain)
        key = name(unit)
        if key not in known:
            known[key] = _is_attention(unit, lowering)
        if known[key]:
            found |= dict.fromkeys((*chain.inner, *chain.scaled), chain)
    return found


def _is(node: Node, op_type: str) -> bool:
    return node.op_type == op_type and not node.domain


def _is_attention(unit: CompiledUnit, lowering: Lowering) -> bool:
    try:
        (output,) = lowering.unit(unit).outputs
    except (*RULE_ERRORS, NotLowered):
        return False
    source = None if output.buffer is None else output.buffer.source
    return isinstance(source, Store) and as_attention(normal(source)) is not None


class _Finder:
    """Walks up from a product as far as everything is read inside the chain only."""

    def __init__(
        self,
        nodes: Sequence[Node],
        traits: Mapping[Node, Traits | str],
        needed: frozenset[Value],
        lowering: Lowering,
    ) -> None:
        self.traits, self.needed, self.lowering = traits, needed, lowering
        self.order = {node: index for index, node in enumerate(nodes)}

    def chain(self, end: Node) -> Chain | None:
        """The candidate that ends with ``end``."""
        weights = end.inputs[0]
        producer = None if weights is None else weights.producer
        if producer is None or not isinstance(self.traits.get(end), Traits):
            return None
        members: dict[Node, None] = {end: None}
        waiting, product, scores = {producer}, None, math.inf
        while waiting and product is None:
            node = max(waiting, key=lambda n: self.order.get(n, -1))
            waiting.discard(node)
            trait = self.traits.get(node)
            if not isinstance(trait, Traits) or not self._is_inside(node, members):
                continue
            if _is(node, "MatMul") and self._size(node) >= scores:
                product = node
            elif _is(node, "Softmax") and scores == math.inf:
                scores = self._size(node)
            elif trait.is_reduction or trait.has_memory:
                continue
            members[node] = None
            waiting |= {v.producer for v in node.inputs if v is not None and v.producer is not None}
        if product is None:
            return None
        after = self._after(product, members)
        if producer not in after:
            return None
        return Chain(end, frozenset(after - {end}), self._scaled(product, after))

    def _size(self, node: Node) -> float:
        """About how many elements the result of ``node`` has.

        A product of fewer than there are scores is a table that scores are looked up in, such as
        one of relative positions: it is computed once, not where it is read.
        """
        return math.prod(map(estimate, self.lowering.shape(node.output)))

    def _is_inside(self, node: Node, members: Collection[Node]) -> bool:
        """Whether only ``members`` read what ``node`` gives."""
        return all(
            value not in self.needed and not value.is_output and set(value.users) <= {*members}
            for value in node.outputs
        )

    def _after(self, product: Node, members: Collection[Node]) -> set[Node]:
        """``product`` and those of ``members`` that depend on it."""
        found = {product}
        for node in sorted(members, key=self.order.__getitem__):
            if any(v is not None and v.producer in found for v in node.inputs):
                found.add(node)
        return found

    def _scaled(self, product: Node, members: set[Node]) -> frozenset[Node]:
        """Multiplications by numbers and movements of data right ahead of ``product``."""
        found: set[Node] = set()
        waiting = [v.producer for v in product.inputs if v is not None]
        while waiting:
            node = waiting.pop()
            if node is None or not self._is_inside(node, members | found):
                continue
            trait = self.traits.get(node)
            moves = isinstance(trait, Traits) and not trait.cost and not trait.is_reduction
            if moves or _is_scaling(node):
                found.add(node)
                waiting += [v.producer for v in node.inputs if v is not None]
        return frozenset(found)

    def unit(self, chain: Chain) -> CompiledUnit:
        """``chain`` as a unit of its own."""
        members = {chain.end, *chain.inner, *chain.scaled}
        nodes = tuple(sorted(members, key=self.order.__getitem__))
        read = dict.fromkeys(
            v for node in nodes for v in node.inputs if v is not None and v.producer not in members
        )
        return CompiledUnit(nodes, tuple(read), (chain.end.outputs[0],))


def _is_scaling(node: Node) -> bool:
    """Whether it multiplies or divides by a number."""
    if not (_is(node, "Mul") or _is(node, "Div")):
        return False
    stored = [v.constant for v in node.inputs if v is not None]
    return any(x is not None and math.prod(x.shape) == 1 for x in stored)


__all__ = ["Chain", "chains"]
