"""If and Loop where Python drives them: what each run would look up is looked up once.

Decides nothing: bodies run as `bodies` says, again and again as the kernel of the operator does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from fornix.ir.graph import Graph, Node, Value
from fornix.ops.control import repeated, told_shapes, truth
from fornix.reference.plan import Body, Environment
from fornix.runtime.providers import ControlNode

Drive: TypeAlias = Callable[[list[Any], Environment], Sequence[Any]]
"""From what a node reads itself, and all that is there, to what it gives."""


class Driver:
    """From the values that a node and its bodies read to what it gives; raises anything."""

    def __init__(
        self, control: ControlNode, reads: Sequence[Value], constants: Mapping[Value, Any]
    ) -> None:
        """``constants`` are stored values of the program."""
        inside = {value: own for own, value in control.names.items()}
        self._read = [inside.get(value, value) for value in reads]
        stored = {inside.get(value, value): data for value, data in constants.items()}
        self._stored = {**stored, **control.plan.constants}
        self._inputs = control.node.inputs
        self._drive = _DRIVES[control.node.op_type](control.node, control.plan.bodies)

    def __call__(self, values: Sequence[Any]) -> Sequence[Any]:
        found = self._stored.copy()
        found.update(zip(self._read, values, strict=True))
        return self._drive([None if v is None else found[v] for v in self._inputs], found)


def is_driven(control: ControlNode | None) -> bool:
    """Whether there is a `Driver` for such a node."""
    is_watched = control is not None and control.plan.scope.watch is not None
    known = control is not None and not control.node.domain and control.node.op_type in _DRIVES
    return known and not is_watched


def _if(node: Node, bodies: Mapping[Graph, Body]) -> Drive:
    sides = [bodies[node.attributes[f"{side}_branch"].value] for side in ("else", "then")]

    def drive(inputs: list[Any], found: Environment) -> Sequence[Any]:
        return sides[truth(inputs[0])].opened(found)(())

    return drive


def _loop(node: Node, bodies: Mapping[Graph, Body]) -> Drive:
    graph: Graph = node.attributes["body"].value
    body, told = bodies[graph], told_shapes(graph)

    def drive(inputs: list[Any], found: Environment) -> Sequence[Any]:
        limit, goes_on = [*inputs, None, None][:LEADING]
        return repeated(body.opened(found), graph, told, limit, goes_on, inputs[LEADING:])

    return drive


LEADING = 2
"""Inputs of a Loop ahead of carried values."""
_DRIVES: dict[str, Callable[[Node, Mapping[Graph, Body]], Drive]] = {"If": _if, "Loop": _loop}
