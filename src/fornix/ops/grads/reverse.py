"""Reverse accumulation: from gradients of results back to gradients of what they depend on.

`differentiate` walks the nodes between both, last first, and asks each operator's ``grad`` rule.
What it does not know is where values come from by name; that is `expand`'s matter. Gradients of
values without a floating-point type are zero, so nothing is passed through them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from fornix import ops
from fornix.errors import FornixError, NotSupported
from fornix.ir.attribute import plain_attributes
from fornix.ir.graph import Node, Value
from fornix.ir.walk import captured_values
from fornix.ops.call import bind_attributes, call_rule, subject
from fornix.ops.grads import load
from fornix.ops.grads.node import GradNode
from fornix.ops.grads.term import Make, Term

Gradients = dict[Value, list[Term]]


def differentiate(
    seeds: Mapping[Value, Term], xs: Sequence[Value], make: Make, constants: Collection[Value] = ()
) -> list[Term | None]:
    """Gradients of ``xs``, given those of results; None where nothing depends on one.

    Results are functions of ``xs`` and ``constants``: of values that are computed from others, too,
    only what lies behind them counts. Raises NotSupported for a node without a rule.
    """
    load()
    independent = {*xs, *constants}
    nodes = nodes_between(seeds, independent)
    active = dependent(nodes, xs, independent)
    found: Gradients = {value: [seed] for value, seed in seeds.items()}
    label = make.label
    for node in reversed(nodes):
        gradients = tuple(
            None if value in independent else _total(found, value) for value in node.outputs
        )
        if any(gradient is not None for gradient in gradients):
            make.label = _gradient_name(node)
            for value, gradient in _of_inputs(node, gradients, active, make):
                found.setdefault(value, []).append(gradient)
    make.label = label
    return [_total(found, x) for x in xs]


def nodes_between(results: Collection[Value], independent: Collection[Value]) -> list[Node]:
    """The nodes that compute ``results`` from ``independent`` values, each behind its producers."""
    done: dict[Node, None] = {}
    for result in results:
        if result.producer is None or result in independent or result.producer in done:
            continue
        path = [(result.producer, _producers(result.producer, independent))]
        while path:
            rest = path[-1][1]
            needed = next((x for x in rest if x not in done), None)
            if needed is None:
                done[path.pop()[0]] = None
            else:
                path.append((needed, _producers(needed, independent)))
    return list(done)


def reads(node: Node) -> list[Value]:
    """What ``node`` and its subgraphs read."""
    given = [value for value in node.inputs if value is not None]
    return given + captured_values(node) if node.graphs else given


def _producers(node: Node, independent: Collection[Value]) -> Iterator[Node]:
    for value in reads(node):
        if value.producer is not None and value not in independent:
            yield value.producer


def dependent(
    nodes: Sequence[Node], xs: Sequence[Value], independent: Collection[Value]
) -> set[Value]:
    """The values that depend on ``xs``."""
    active = set(xs)
    for node in nodes:
        if not active.isdisjoint(reads(node)):
            active.update(value for value in node.outputs if value not in independent)
    return active


def _total(found: Gradients, value: Value) -> Term | None:
    """The sum of the gradients that arrived at ``value``."""
    arrived = found.get(value, [])
    if len(arrived) > 1:
        total = arrived[0]
        for other in arrived[1:]:
            total = total + other
        found[value] = [total]
    return found[value][0] if arrived else None


def _gradient_name(node: Node) -> str:
    named = node.name or next((value.name for value in node.outputs if value.name), node.op_type)
    return f"{named}_gradient"


def is_differentiable(value: Value, make: Make) -> bool:
    """Whether ``value`` may have a gradient: its element type is a float's or not known."""
    dtype = make.knowledge.fact(value).dtype
    return dtype is None or dtype.is_float


def _of_inputs(
    node: Node, gradients: tuple[Term | None, ...], active: set[Value], make: Make
) -> Iterator[tuple[Value, Term]]:
    """Every value that ``node`` reads, with the gradient that it gets from it."""
    needed = tuple(
        value is not None and value in active and is_differentiable(value, make)
        for value in node.inputs
    )
    captured = tuple(
        value
        for value in (captured_values(node) if node.graphs else ())
        if value in active and is_differentiable(value, make)
    )
    if not any(needed) and not captured:
        return
    opset = make.knowledge.imports.get(node.domain, make.opset if not node.domain else None)
    try:
        view = _view(node, opset or 0, gradients, needed, captured, make)
        inputs = [None if value is None else make.term(value) for value in node.inputs]
        results = _call(view, inputs)
    except FornixError as error:
        raise error.at(subject(node, opset)) from None
    for value, is_needed, gradient in zip(node.inputs, needed, results, strict=False):
        if value is not None and is_needed and gradient is not None:
            yield value, gradient
    yield from view.of_captured.items()


def _view(
    node: Node,
    opset: int,
    gradients: tuple[Term | None, ...],
    needed: tuple[bool, ...],
    captured: tuple[Value, ...],
    make: Make,
) -> GradNode:
    schema = ops.schema_of(node.domain, node.op_type, opset)
    return GradNode(
        operator=ops.operator_of(schema),
        schema=schema,
        opset=opset,
        wanted=tuple(node.wants(index) for index in range(len(node.outputs))),
        make=make,
        forward=node,
        gradients=gradients,
        needed=needed,
        captured=captured,
    )


def _call(view: GradNode, inputs: Sequence[Term | None]) -> tuple[Term | None, ...]:
    """What the rule of the node gives for its inputs."""
    rule = view.operator.rule("grad", view.version)
    if rule is None:
        raise NotSupported(
            f"it lies on the way of a Gradient, and {view.operator.name} has no derivative here"
        )
    given = plain_attributes(view.forward.attributes, {})
    results: tuple[Term | None, ...] = call_rule(
        rule, inputs, bind_attributes(view.schema, given), view
    )
    return results
