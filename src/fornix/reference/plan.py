"""Plans: a graph prepared once, so that running it is a walk over a list of steps.

Preparing finds each node's operator or model function, checks its attributes and decides after
which step a value is no longer needed. Values live in an environment that a graph shares with its
subgraphs, since those read outer values; a function gets an environment of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fornix import ops
from fornix.errors import Fail, FornixError, ValidationError
from fornix.format.mapped import mapped_files
from fornix.ir.attribute import Attribute, plain_attributes, resolved
from fornix.ir.graph import Function, Graph, Node, Value
from fornix.ir.nesting import fed_inputs, own_values
from fornix.ir.walk import captured_values
from fornix.ops.body import function_of
from fornix.ops.call import (
    REFUSALS,
    BodyNode,
    RunNode,
    bind_attributes,
    check_arity,
    check_kinds,
    check_values,
    prepared,
    subject,
)
from fornix.ops.refusal import explained
from fornix.reference.scope import Call, Environment, Scope

log = logging.getLogger(__name__)

Observer = Callable[[Node, Sequence[Any]], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One node, ready to run."""

    node: Node
    subject: str
    call: Call
    release: tuple[Value, ...]
    """Values that nothing reads after this step."""
    is_custom: bool = False
    """Whether it is somebody else's code, whose errors are theirs."""
    size: int = 1
    """Nodes that it stands for, in functions and subgraphs as well."""


@dataclass(frozen=True)
class KernelCall:
    """A kernel of the standard's, for inputs that are looked at before."""

    check: Callable[[list[Any]], None]
    run: Callable[[list[Any]], Sequence[Any]]
    """For inputs of types that have been looked at; raises anything."""
    explain: Callable[[Exception, list[Any]], Exception]

    def __call__(self, inputs: list[Any], _: Environment) -> Sequence[Any]:
        self.check(inputs)
        try:
            return self.run(inputs)
        except FornixError:
            raise
        except REFUSALS as error:
            raise self.explain(error, inputs) from error


class Watch(Protocol):
    """Who looks on as nodes run, and as the graphs inside of them do."""

    def begins(self, step: Step) -> None:
        """A node is about to run."""

    def enters(self, graph: Graph, values: Mapping[Value, Any]) -> None:
        """The node that began last runs a graph, with these ``values`` of inputs and constants."""

    def leaves(self, graph: Graph) -> None:
        """The graph has run."""

    def ends(self, step: Step, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        """The node has run."""


class Body(Protocol):
    """What runs a subgraph: a `Plan`, or whoever stands in for it."""

    @property
    def size(self) -> int:
        """How many nodes run, each call of a function counted in full."""

    def run(self, inputs: Mapping[Value, Any], environment: Environment | None = None) -> list[Any]:
        """Values of the graph's outputs; ``environment`` has those that it captures."""

    def opened(self, environment: Environment) -> Callable[[Sequence[Any]], list[Any]]:
        """What runs it on values of its inputs, again and again in the same ``environment``."""


class Plan:
    """A graph prepared for evaluation; safe to run from several threads at once."""

    def __init__(
        self, graph: Graph, scope: Scope, given: Mapping[str, Attribute] | None = None
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.given = given or {}
        self.constants: Environment = {
            value: value.tensor.numpy()
            for value in graph.initializer_values
            if value.tensor is not None
        }
        places = (getattr(value.tensor, "place", None) for value in self.constants)
        self.files = mapped_files(places)
        """Files whose bytes are among the constants."""
        self.bodies: dict[Graph, Body] = {}
        nodes = list(graph.nodes)
        check_names(graph)
        release = _last_uses(graph, nodes)
        self.steps = [
            self._step(node, tuple(release.get(index, ()))) for index, node in enumerate(nodes)
        ]
        self.steps_by_node = {step.node: step for step in self.steps}
        self.size = sum(step.size for step in self.steps)
        """How many nodes run, each call of a function counted in full."""
        scope.limits.check("function_nodes", self.size, graph.label)

    def run(
        self,
        inputs: Mapping[Value, Any],
        environment: Environment | None = None,
        *,
        keep: frozenset[Value] = frozenset(),
        observe: Observer | None = None,
    ) -> list[Any]:
        """Values of the graph's outputs; values in ``keep`` stay in ``environment`` as well."""
        for file in self.files:
            file.check()
        watch = self.scope.watch
        values: Environment = {} if environment is None else environment
        values.update(self.constants)
        values.update(inputs)
        if watch is not None:
            watch.enters(self.graph, {**self.constants, **inputs})
        with np.errstate(all="ignore"):
            for step in self.steps:
                self._run_step(step, values, keep, observe)
        if watch is not None:
            watch.leaves(self.graph)
        results = [self._result(value, values) for value in self.graph.outputs]
        for value in self.graph.outputs:
            if value.graph is self.graph and value not in keep:
                values.pop(value, None)
        return results

    def step_with(self, node: Node, replaced: Callable[[Graph, Body], Body]) -> Step:
        """The step of ``node``, the bodies of which are others, as ``replaced`` gives them."""
        other = copy(self)
        other.bodies = dict(self.bodies)
        step = Plan._step(other, node, ())
        for graph in node.graphs:
            other.bodies[graph] = replaced(graph, self.bodies[graph])
        return step

    def opened(self, environment: Environment) -> Callable[[Sequence[Any]], list[Any]]:
        """What runs it on values of its inputs, again and again in the same ``environment``."""
        formal = fed_inputs(self.graph)

        def run(inputs: Sequence[Any]) -> list[Any]:
            check_count(self.graph, inputs)
            return self.run(dict(zip(formal, inputs, strict=True)), environment)

        return run

    def _run_step(
        self,
        step: Step,
        values: Environment,
        keep: frozenset[Value],
        observe: Observer | None,
    ) -> None:
        results = self.evaluate(step, values)
        if observe is not None:
            observe(step.node, results)
        for value in step.release:
            if value not in keep:
                values.pop(value, None)

    def evaluate(self, step: Step, values: Environment) -> Sequence[Any]:
        """Add the results of one step to ``values``, and give them back."""
        node = step.node
        watch = self.scope.watch
        try:
            inputs = [None if value is None else values[value] for value in node.inputs]
            if watch is not None:
                watch.begins(step)
            results = step.call(inputs, values)
        except FornixError as error:
            placed = error if self._is_placed(error) else error.at(step.subject)
            raise placed from error.__cause__
        except KeyError as error:
            if not isinstance(next(iter(error.args), None), Value):
                if step.is_custom:
                    raise
                raise Fail(f"{step.subject}: {type(error).__name__}: {error}") from error
            raise ValidationError(
                f"{step.subject}: input '{error.args[0].name}' must be computed before, "
                "found no value"
            ) from None
        except REFUSALS as error:
            if step.is_custom:
                raise
            raise Fail(f"{step.subject}: {type(error).__name__}: {error}") from error
        for value, result in zip(node.outputs, results, strict=False):
            values[value] = result
        if watch is not None:
            watch.ends(step, inputs, results)
        return results

    @staticmethod
    def _is_placed(error: FornixError) -> bool:
        """Whether a node inside, in a subgraph or function, has already put its name ahead."""
        return str(error).startswith("node ")

    def _result(self, value: Value, values: Environment) -> Any:
        if value not in values:
            raise ValidationError(
                f"{self.graph.label}: output '{value.name}' must be computed, found no value"
            )
        return values[value]

    def _step(self, node: Node, release: tuple[Value, ...]) -> Step:
        function = self.scope.functions.get((node.domain, node.op_type, node.overload))
        custom = self.scope.custom.get((node.domain, node.op_type))
        opset = None
        inside = 0
        try:
            if custom is not None:
                call = custom(node, resolved(node.attributes, self.given))
            elif function is not None:
                call, inside = self._function_call(node, function)
            else:
                opset = self.scope.opset(node.domain)
                call, inside = self._operator_call(node, opset)
        except FornixError as error:
            raise error.at(subject(node, opset)) if not self._is_placed(error) else error from None
        return Step(node, subject(node, opset), call, release, custom is not None, 1 + inside)

    def _operator_call(self, node: Node, opset: int) -> tuple[Call, int]:
        """What evaluates ``node``, and how many nodes there are inside it."""
        given = plain_attributes(node.attributes, self.given)
        schema = ops.schema_of(node.domain, node.op_type, opset)
        operator = ops.operator_of(schema)
        check_arity(schema, node.inputs, len(node.outputs))
        attributes = bind_attributes(schema, given)
        check_kinds(schema, resolved(node.attributes, self.given))
        parts: dict[str, Any] = {
            "operator": operator,
            "schema": schema,
            "opset": opset,
            "wanted": tuple(node.wants(index) for index in range(len(node.outputs))),
        }
        key = schema.domain, schema.name
        types = tuple(None if value is None else value.type for value in node.inputs)
        if key in self.scope.expanded or operator.rule("kernel", schema.since_version) is None:
            present = tuple(value is not None for value in node.inputs)
            body = function_of(BodyNode(**parts, attributes=attributes, given=present, types=types))
            if body is not None:
                return self._function_call(node, body)
        view = RunNode(
            **parts,
            run_body=lambda graph, inputs: self.bodies[graph].opened({})(inputs),
            random=self.scope.random(),
            types=types,
        )
        allowed: set[tuple[object, ...]] = set()

        def check(inputs: list[Any]) -> None:
            """Raise DTypeError for types that the schema does not allow; once for each."""
            types = tuple([getattr(value, "dtype", type(value)) for value in inputs])
            if types not in allowed:
                check_values(schema, inputs)
                allowed.add(types)

        run = prepared(attributes, view)

        def explain(error: Exception, inputs: list[Any]) -> Exception:
            return explained(error, inputs, attributes, view)

        if not node.graphs:
            return KernelCall(check, run, explain), 0

        for graph in node.graphs:
            self.bodies[graph] = Plan(graph, self.scope, self.given)
        return self._driving(check, run, view), sum(self.bodies[g].size for g in node.graphs)

    def _driving(
        self,
        check: Callable[[list[Any]], None],
        run: Callable[..., Sequence[Any]],
        view: RunNode,
    ) -> Call:
        """What evaluates a node whose kernel runs bodies; each is opened when it first does."""

        def call(inputs: list[Any], environment: Environment) -> Sequence[Any]:
            check(inputs)
            opened: dict[Graph, Callable[[Sequence[Any]], list[Any]]] = {}

            def run_body(graph: Graph, values: Sequence[Any]) -> list[Any]:
                if graph not in opened:
                    opened[graph] = self.bodies[graph].opened(environment)
                return opened[graph](values)

            own = RunNode(
                operator=view.operator,
                schema=view.schema,
                opset=view.opset,
                wanted=view.wanted,
                run_body=run_body,
                random=view.random,
                made=view.made,
                types=view.types,
            )
            return run(inputs, own)

        return call

    def _function_call(self, node: Node, function: Function) -> tuple[Call, int]:
        """What evaluates ``function`` for ``node``, and how many nodes there are inside it."""
        plan = self._function_plan(node, function)
        formal = function.graph.inputs
        if len(node.inputs) > len(formal):
            raise ValidationError(
                f"function {function.name} takes {len(formal)} inputs, found {len(node.inputs)}"
            )

        def call(inputs: list[Any], _: Environment) -> Sequence[Any]:
            padded = [*inputs, *[None] * (len(formal) - len(inputs))]
            return plan.run(dict(zip(formal, padded, strict=True)))

        return call, plan.size

    def _function_plan(self, node: Node, function: Function) -> Plan:
        given = function.defaults | resolved(node.attributes, self.given)
        key = (function, *sorted((name, id(attribute)) for name, attribute in given.items()))
        if key not in self.scope.plans:
            self.scope.plans[key] = Plan(function.graph, self.scope.inside(function), given)
        return self.scope.plans[key]


def check_count(graph: Graph, inputs: Sequence[Any]) -> None:
    """Raise ValidationError unless there is a value for each input that ``graph`` is fed."""
    count = len(fed_inputs(graph))
    if len(inputs) != count:
        raise ValidationError(
            f"{graph.label} takes {count} inputs, the operator gives {len(inputs)}"
        )


def check_names(graph: Graph) -> None:
    """Raise ValidationError if two values of ``graph`` share a name: which is meant is unsaid."""
    seen: set[str] = set()
    for value in own_values(graph):
        if value.name in seen:
            raise ValidationError(
                f"{graph.label}: '{value.name}' has to be the only value of that name, "
                "found another"
            )
        seen.add(value.name)


def _last_uses(graph: Graph, nodes: Sequence[Node]) -> dict[int, list[Value]]:
    """By index of step, the values of ``graph`` that nothing reads later."""
    last: dict[Value, int] = {}
    for index, node in enumerate(nodes):
        for value in node.outputs:
            last[value] = index
        captured = captured_values(node) if node.graphs else ()
        for used in (*node.inputs, *captured):
            if used is not None and used.graph is graph:
                last[used] = index
    stay = set(graph.outputs) | set(graph.initializer_values)
    release: dict[int, list[Value]] = {}
    for value, index in last.items():
        if value not in stay:
            release.setdefault(index, []).append(value)
    return release
