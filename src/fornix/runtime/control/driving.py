"""Control flow that Python drives: what each run would look up is looked up once.

Decides nothing: bodies run as `bodies` says, again and again as the kernel of the operator does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias

from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Graph, Node, Value
from fornix.ops.control import Many, Turns, repeated, swept
from fornix.ops.scanning import Scanning, told_shapes, truth
from fornix.ops.sequence import mapped
from fornix.reference.plan import Body
from fornix.runtime.control.bodies import MAX_MET, CompiledBody
from fornix.runtime.control.joining import is_pointwise, joined
from fornix.runtime.control.singles import single_turns
from fornix.runtime.control.turning import Turned
from fornix.runtime.providers import ControlNode, NotAsCompiled
from fornix.runtime.shortcuts.shortcut import Looks, Steady, looks, tried

Environment: TypeAlias = Callable[[], dict[Value, Any]]
"""Gives all values that there are, by what they are in the plan."""
Find: TypeAlias = Callable[[Iterable[Value | None]], list[int]]
"""From values to their places among all that there are."""
Ways: TypeAlias = tuple[dict[Looks, Steady], dict[Looks, Steady]]
"""From the looks of carried values to what runs an iteration, and to what runs many of them.

Of what is not carried, the latter are those of the last program that was met.
"""
Opened: TypeAlias = tuple[Callable[[list[Any]], Sequence[Any]], Many | None]
"""What runs a body on values of its inputs, and many iterations, as `repeated` has it."""
Opening: TypeAlias = Callable[[Sequence[Any], Environment], Opened]
"""From all values that there are to what runs a body."""
Drive: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Environment], Sequence[Any]]
"""From what a node reads itself, and all that is there, to what it gives."""


class Driver:
    """From the values that a node and its bodies read to what it gives; raises anything."""

    def __init__(
        self, control: ControlNode, reads: Sequence[Value], constants: Mapping[Value, Any]
    ) -> None:
        """``constants`` are stored values of the program. Raises NotAsCompiled."""
        inside = {value: own for own, value in control.names.items()}
        stored = {inside.get(value, value): data for value, data in constants.items()}
        stored.update(control.plan.constants)
        self._names = [*stored, *(inside.get(value, value) for value in reads)]
        self._stored = [None, *stored.values()]
        places = {value: place for place, value in enumerate(self._names, 1)}
        find = partial(_places_of, places)
        self._pick = _picker(find(control.node.inputs))
        self._drive = _DRIVES[control.node.op_type](control.node, control.plan.bodies, find)

    def __call__(self, values: Sequence[Any]) -> Sequence[Any]:
        found = [*self._stored, *values]
        return self._drive(self._pick(found), found, partial(self._environment, found))

    def _environment(self, found: Sequence[Any]) -> dict[Value, Any]:
        return dict(zip(self._names, found[1:], strict=True))


def _places_of(places: Mapping[Value, int], values: Iterable[Value | None]) -> list[int]:
    """The places of values; that of None for what is not given. Raises NotAsCompiled."""
    try:
        return [0 if value is None else places[value] for value in values]
    except KeyError as error:
        raise NotAsCompiled(f"'{error.args[0].name}' is not among what a step reads") from None


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What gives the values at some places, in their order."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))


def _opening(body: Body, find: Find, form: Turned) -> Opening:
    """What opens ``body``, which need not look for what it captures.

    Many iterations at once are done of what is of a ``form``.
    """
    if not isinstance(body, CompiledBody):
        return lambda _, environment: (body.opened(environment()), None)
    pick, known = _picker(find(body.captured)), dict[Looks, Ways]()

    def opened(found: Sequence[Any], environment: Environment) -> Opened:
        one = _Opened(body, pick(found), environment, known, form)
        return one.run, one.turn

    return opened


class _Opened:
    """A body on what it captures, the values of which look like others before."""

    def __init__(
        self,
        body: CompiledBody,
        captured: Sequence[Any],
        environment: Environment,
        known: dict[Looks, Ways],
        form: Turned | None,
    ) -> None:
        """Ways are ``known`` by the looks of what is captured, and of what is carried."""
        self._body, self._captured, self._environment = body, captured, environment
        self._form, self._leading = form, 0 if form is None else form.leading
        self._elements = 0 if form is None else form.elements
        found = looks(captured)
        self._ways, self._turning = ways = known.get(found) or ({}, {})
        if len(known) < MAX_MET:
            known[found] = ways

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Values of its outputs; the inputs of a Loop that are not carried always look alike.

        Many iterations are written once for a look: where a way fails, they would be in each run.
        """
        found = looks(inputs[self._leading :])
        way = self._ways.get(found)
        results = None if way is None else way([*inputs, *self._captured])
        if results is not None:
            return results
        results = self._body.run_on(inputs, self._captured, self._environment)
        values = [*inputs, *self._captured]
        new = self._body.steady(values, self._form if way is None else None)
        if new is not None and len(self._ways) < MAX_MET:
            self._ways[found], many = new
            if many is not None and self._form is not None and self._elements:
                self._turning[NO_LOOKS] = many
            elif many is not None and self._form is not None:
                single = single_turns(self._body.graph, self._body.captured, values, self._form)
                self._turning[found] = many if single is None else partial(tried, single)
        return results

    def turn(self, turns: Turns) -> bool:
        """Whether there were iterations, all of carried values that look alike.

        Those that look otherwise at once are not tried again, nor are others once one fails: all
        iterations up to it would be done again and again.
        """
        if not self._turning:
            return False
        found = NO_LOOKS if self._elements else looks([*turns.carried, *turns.slices()])
        many = self._turning.get(found)
        if many is None:
            return False
        first, is_done = turns.iteration, many([turns, *self._captured]) is not None
        if not is_done:
            self._turning = {}
        elif self._elements:
            return turns.iteration > first
        elif turns.goes_on and turns.iteration == first + 1 < turns.limit:
            self._turning.pop(found, None)
        return is_done


def is_driven(control: ControlNode | None) -> bool:
    """Whether there is a `Driver` for such a node."""
    if control is None or control.node.domain or control.plan.scope.watch is not None:
        return False
    is_old = control.plan.scope.opset("") < Scanning.SINCE
    return control.node.op_type in _DRIVES and not (is_old and control.node.op_type == "Scan")


def _if(node: Node, bodies: Mapping[Graph, Body], find: Find) -> Drive:
    graphs = [node.attributes[f"{side}_branch"].value for side in ("else", "then")]
    sides = [_side(bodies[graph], find) for graph in graphs]

    def drive(
        inputs: Sequence[Any], found: Sequence[Any], environment: Environment
    ) -> Sequence[Any]:
        return sides[truth(inputs[0])](found, environment)

    return drive


def _side(body: Body, find: Find) -> Callable[[Sequence[Any], Environment], Sequence[Any]]:
    """What runs ``body``, which has no inputs and runs once."""
    if not isinstance(body, CompiledBody):
        return lambda _, environment: body.opened(environment())([])
    pick, known = _picker(find(body.captured)), dict[Looks, Ways]()

    def run(found: Sequence[Any], environment: Environment) -> Sequence[Any]:
        captured = pick(found)
        ways = known.get(looks(captured))
        way = None if ways is None else ways[0].get(NO_LOOKS)
        results = None if way is None else way([*captured])
        if results is not None:
            return results
        return _Opened(body, captured, environment, known, None).run([])

    return run


def _loop(node: Node, bodies: Mapping[Graph, Body], find: Find) -> Drive:
    graph: Graph = node.attributes["body"].value
    form = Turned(LEADING, max(len(graph.inputs) - LEADING, 0), 0)
    opened, told = _opening(bodies[graph], find, form), told_shapes(graph)

    def drive(
        inputs: Sequence[Any], found: Sequence[Any], environment: Environment
    ) -> Sequence[Any]:
        limit, goes_on = [*inputs, None, None][:LEADING]
        run, many = opened(found, environment)
        return repeated(run, graph, told, limit, goes_on, inputs[LEADING:], many)

    return drive


def _scan(node: Node, bodies: Mapping[Graph, Body], find: Find) -> Drive:
    given: dict[str, Any] = plain_attributes(node.attributes, {})
    graph: Graph = given.pop("body")
    plan = Scanning.of(len(node.inputs), len(graph.outputs), **given)
    form = Turned(0, plan.states, len(plan.input_axes))
    opened = _opening(bodies[graph], find, form)

    def drive(
        inputs: Sequence[Any], found: Sequence[Any], environment: Environment
    ) -> Sequence[Any]:
        run, many = opened(found, environment)
        return swept(run, graph, plan, inputs, many)

    return drive


def _map(node: Node, bodies: Mapping[Graph, Body], find: Find) -> Drive:
    graph: Graph = node.attributes["body"].value
    opened = _opening(bodies[graph], find, Turned(0, 0, 0, len(graph.inputs)))
    may_join = is_pointwise(graph)

    def drive(
        inputs: Sequence[Any], found: Sequence[Any], environment: Environment
    ) -> Sequence[Any]:
        run, many = opened(found, environment)
        results: Sequence[Any] | None = None
        if may_join:
            results = tried(lambda given, _: joined(run, given), inputs)
        return mapped(run, graph, inputs, many) if results is None else results

    return drive


LEADING = 2
"""Inputs of a Loop ahead of carried values."""
NO_LOOKS: Looks = ()
"""Those of no values: of a body without inputs, and of elements that need not look alike."""
_DRIVES: dict[str, Callable[[Node, Mapping[Graph, Body], Find], Drive]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _map,
}
