"""Derivative of Scan: a Scan in the other direction.

A first Scan repeats the computation and keeps the states that every iteration began with. The
second walks back: its states are the gradients of the states and, added up, those of what the body
reads from outside; each iteration differentiates the body where it stood then.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.ir.graph import Graph, Node, Value
from fornix.ops.control import Scan
from fornix.ops.fact import Fact
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.reverse import differentiate, is_differentiable
from fornix.ops.grads.term import Make, Term
from fornix.ops.scanning import Scanning


@Scan.grad(since=9)
def grad_scan(
    *values: Term, body: Graph, num_scan_inputs: int, node: GradNode, **axes: list[int] | None
) -> Gradients:
    plan = Scanning.of(len(values), len(body.outputs), num_scan_inputs, **axes)
    back = _Backward(values, body, plan, node)
    made = back.made(back.kept_states())
    gradients: list[Term | None] = [None] * len(values)
    places = [*back.active, *(plan.states + place for place in back.wanted)]
    count = len(back.active)
    of_captured = made[count : count + len(node.captured)]
    found = [*made[:count], *made[count + len(of_captured) :]]
    for place, gradient in zip(places, found, strict=True):
        gradients[place] = gradient
    node.of_captured.update(zip(node.captured, of_captured, strict=True))
    return tuple(gradients)


class _Backward:
    """Makes the Scan that walks back."""

    def __init__(self, values: Sequence[Term], body: Graph, plan: Scanning, node: GradNode) -> None:
        self.values, self.body, self.plan, self.node = values, body, plan, node
        self.make = node.make
        states = plan.states
        self.active = [i for i in range(states) if is_differentiable(values[i].value, node.make)]
        """The states that have gradients."""
        self.wanted = [i for i in range(len(values) - states) if node.needs(states + i)]
        """The scanned inputs whose gradients are asked for."""
        self.given = [i for i, g in enumerate(node.gradients[states:]) if g is not None]
        """The scanned outputs whose gradients are there."""

    def kept_states(self) -> list[Term]:
        """The states that every iteration began with, stacked along a new first axis."""
        count = self.plan.states
        if not count:
            return []
        body, inner = self._copy()
        kept = [inner.Identity(inner.term(value)).value for value in body.inputs[:count]]
        body.outputs = [*body.outputs, *kept]
        plan = self.plan
        return self._scan(
            body,
            self.values,
            scan_input_axes=plan.input_axes,
            scan_input_directions=[int(x) for x in plan.input_backward],
            scan_output_axes=[*plan.output_axes, *[0] * count],
            scan_output_directions=[*(int(x) for x in plan.output_backward), *[0] * count],
        )[-count:]

    def made(self, states: Sequence[Term]) -> list[Term]:
        """Gradients of active states, captured values and wanted inputs."""
        plan, make, node = self.plan, self.make, self.node
        first = [self._gradient(i) for i in self.active]
        first += [make.zeros(make.term(value)) for value in node.captured]
        scanned = self.values[plan.states :]
        arrived = [self._gradient(plan.states + i) for i in self.given]
        turned = [1 - int(x) for x in plan.input_backward]
        return self._scan(
            self._body(),
            [*first, *states, *scanned, *arrived],
            scan_input_axes=[
                *[0] * len(states),
                *plan.input_axes,
                *(plan.output_axes[i] for i in self.given),
            ],
            scan_input_directions=[
                *[1] * len(states),
                *turned,
                *(1 - int(plan.output_backward[i]) for i in self.given),
            ],
            scan_output_axes=[plan.input_axes[i] for i in self.wanted],
            scan_output_directions=[turned[i] for i in self.wanted],
        )

    def _gradient(self, index: int) -> Term:
        """The gradient of an output, zeros where nothing depends on it."""
        found = self.node.gradients[index]
        return self.make.zeros(self.node.output(index)) if found is None else found

    def _body(self) -> Graph:
        """One iteration: from gradients behind it to gradients ahead of it."""
        states, node = self.plan.states, self.node
        body, make = self._copy()
        inputs = body.inputs
        behind = [self._like(body.outputs[i], make) for i in self.active]
        sums = [self._like(value, make) for value in node.captured]
        arrived = [self._like(body.outputs[states + i], make) for i in self.given]
        results = [body.outputs[i] for i in (*self.active, *(states + i for i in self.given))]
        seeds: dict[Value, Term] = {}
        for value, gradient in zip(results, (*behind, *arrived), strict=True):
            seed = make.term(gradient)
            seeds[value] = seeds[value] + seed if value in seeds else seed
        xs = [
            *(inputs[i] for i in self.active),
            *node.captured,
            *(inputs[states + i] for i in self.wanted),
        ]
        found = [
            make.zeros(make.term(x)) if gradient is None else gradient
            for x, gradient in zip(xs, differentiate(seeds, xs, make), strict=True)
        ]
        for place, total in enumerate(sums, len(self.active)):
            found[place] = make.term(total) + found[place]
        body.inputs = [*behind, *sums, *inputs, *arrived]
        body.outputs = [make.Identity(gradient).value for gradient in found]
        return body

    def _like(self, value: Value, make: Make) -> Value:
        """A new input of which is known what is known of ``value``."""
        known = make.knowledge.fact(value)
        new = Value(None, known.type)
        make.knowledge.facts[new] = Fact(known.type)
        return new

    def _scan(self, body: Graph, inputs: Sequence[Term], **axes: list[int]) -> list[Term]:
        attributes: dict[str, object] = {name: given for name, given in axes.items() if given}
        attributes |= {"body": body, "num_scan_inputs": len(axes["scan_input_axes"])}
        values = [term.value for term in inputs]
        made = Node("", "Scan", values, len(body.outputs), attributes, name=self.make.label)
        self.make.insert(made)
        return [self.make.term(value) for value in made.outputs]

    def _copy(self) -> tuple[Graph, Make]:
        """A copy of the body, of whose inputs is known what is known of the originals."""
        body = self.body.clone()
        make = Make(body, None, self.make.knowledge, self.make.label)
        for copy, value in zip(body.inputs, self.body.inputs, strict=True):
            make.knowledge.facts[copy] = make.knowledge.fact(value)
        learn(body, make)
        return body, make


def learn(body: Graph, make: Make) -> None:
    """Find out what is known of the values of a copied graph."""
    for value in body.initializer_values:
        make.knowledge.facts[value] = Fact(value.type, None, value.tensor)
    make.knowledge.update(body.nodes)
