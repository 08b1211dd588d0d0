"""Loops that append to a sequence: native code has rows of an array, the sequence is made of them.

Decides which loops those are: each iteration appends one tensor, and looks at the sequence for
nothing else. The loop without it, whose body gives the tensor as a scanned output, runs as others
do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fornix.ir.clone import clone
from fornix.ir.graph import Graph, Node, Value
from fornix.runtime.control.bodies import CompiledBody
from fornix.runtime.control.ways import ControlWay
from fornix.runtime.providers import ControlNode, NotAsCompiled, RestStep, Run, Step, Way
from fornix.runtime.stored.inner import BodyPlace

if TYPE_CHECKING:
    from fornix.runtime.stored.shelf import Shelf

LEADING = 2
"""Inputs of a Loop ahead of carried values, and of its body."""


def way_of(step: Step, shelf: Shelf | None = None) -> Way | None:
    """What may do ``step`` in one call, if it is a node with bodies.

    ``shelf`` is the place of the program that it is a part of.
    """
    control = step.control
    if control is None:
        return None
    appended, nodes = _appended(control), control.plan.graph.nodes
    place = BodyPlace.of_node(shelf, control.node, nodes) if shelf else None
    if appended:
        return CollectingWay(step, control, appended, place)
    return ControlWay(step, place)


def _appended(control: ControlNode) -> list[int]:
    """The numbers of carried values that are sequences which only grow."""
    if control.node.op_type != "Loop":
        return []
    graph: Graph = control.node.attributes["body"].value
    count = len(control.node.inputs) - LEADING
    if not isinstance(control.plan.bodies[graph], CompiledBody) or count >= len(graph.outputs):
        return []
    return [k for k in range(count) if _grows(graph.inputs[LEADING + k], graph.outputs[1 + k])]


def _grows(before: Value, after: Value) -> bool:
    """Whether ``after`` is ``before`` with one more tensor, and nobody looks at either."""
    node = after.producer
    if node is None or node.op_type != "SequenceInsert" or node.domain or before.is_output:
        return False
    has_place = any(value is not None for value in node.inputs[2:])
    return node.inputs[0] is before and before.users == (node,) and not (has_place or after.users)


class CollectingWay:
    """A loop that appends to sequences, and what it does beside that in one call."""

    def __init__(
        self,
        step: Step,
        control: ControlNode,
        appended: Sequence[int],
        place: BodyPlace | None = None,
    ) -> None:
        """``appended`` are numbers of carried values; calls are kept at ``place``."""
        self.appended = appended
        given = [control.inputs[LEADING + k] for k in appended]
        self._lists = [step.reads.index(value) for value in given if value in step.reads]
        self._arrays = [n for n in range(len(step.reads)) if n not in self._lists]
        reads = [step.reads[n] for n in self._arrays]
        self._outputs = len(step.writes)
        self._way = ControlWay(RestStep(_without(control, appended), reads), place)

    def __call__(self, values: list[Any], run: Run) -> list[Any] | None:
        """What the step writes; None if its kernel has to do it."""
        lists = [values[n] for n in self._lists]
        if len(lists) < len(self.appended) or not all(type(x) is list for x in lists):
            return None
        results = self._way([values[n] for n in self._arrays], run)
        if results is None:
            return None
        count = len(results) - len(lists)
        others = iter(results[:count])
        sequences = {
            k: [*before, *(rows[n, ...] for n in range(len(rows)))]
            for k, before, rows in zip(self.appended, lists, results[count:], strict=True)
        }
        return [sequences[k] if k in sequences else next(others) for k in range(self._outputs)]


def _without(control: ControlNode, appended: Sequence[int]) -> ControlNode:
    """The loop without sequences; what was appended to them are its last scanned outputs."""
    graph: Graph = control.node.attributes["body"].value
    body = control.plan.bodies[graph]
    if not isinstance(body, CompiledBody):
        raise NotAsCompiled("a body is not compiled")
    copy = clone(graph)
    nodes = [node for k in appended if (node := copy.outputs[1 + k].producer) is not None]
    others = [value for n, value in enumerate(copy.outputs) if n - 1 not in appended]
    copy.outputs = [*others, *(v for node in nodes if (v := node.inputs[1]) is not None)]
    copy.remove(*nodes)
    copy.inputs = [v for n, v in enumerate(copy.inputs) if n - LEADING not in appended]
    made = CompiledBody(copy, body.prepare, body.scope, body.options, body.place)
    control.plan.bodies[copy] = made
    inputs = [v for n, v in enumerate(control.node.inputs) if n - LEADING not in appended]
    loop = Node("", "Loop", inputs, len(copy.outputs) - 1, {"body": copy})
    return ControlNode(loop, control.plan, control.names)
