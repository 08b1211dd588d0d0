"""Nodes of a kept program that run their NumPy kernels: written as a model, and made ready again.

Decides what of them is kept: the nodes in their order, with the bodies that they hold and stored
data that nobody else keeps. They are read by a thread of its own while the creator of the session
goes on; the operators that kernels need, once one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fornix.errors import FornixError
from fornix.ir.graph import Attribute, Graph, Model, Node, Value
from fornix.ir.tensor import Tensor
from fornix.ir.walk import captured_values, tensors
from fornix.runtime.options import SessionOptions
from fornix.runtime.providers import (
    ControlNode,
    Kernel,
    NotAsCompiled,
    Placement,
    Run,
    Step,
    Way,
    may_warn,
)
from fornix.runtime.stored.inner import BodyPlace
from fornix.runtime.threads import Ahead

if TYPE_CHECKING:
    from fornix.reference.plan import Body, Plan
    from fornix.reference.scope import Scope
    from fornix.runtime.stored.shelf import Shelf

Array = np.ndarray[Any, np.dtype[Any]]


class Written(NamedTuple):
    """Nodes as a model, and the values that its inputs stand for: stored ones lie elsewhere."""

    model: Model
    read: list[Value]

    @property
    def nbytes(self) -> int:
        """Bytes of the data in it."""
        return sum(tensor.nbytes for tensor in tensors(self.model))


def written(nodes: Sequence[Node], scope: Scope, is_elsewhere: Callable[[Tensor], bool]) -> Written:
    """A model of ``nodes``; stored data that lie elsewhere are inputs of it."""
    made = {value for node in nodes for value in node.outputs if value.constant is None}
    read = dict.fromkeys(v for node in nodes for v in _read(node) if v not in made)
    copies = {value: Value(value.name, value.type) for value in read}
    stored = {v: t for v in read if (t := v.constant) is not None and not is_elsewhere(t)}
    inputs = [value for value in read if value not in stored]
    graph = Graph("kernels", [copies[value] for value in inputs])
    for value, tensor in stored.items():
        copies[value].tensor = tensor
        graph.add_initializer(copies[value])
    for node in nodes:
        graph.append(_copied(node, copies))
    graph.outputs = [v for node in graph.nodes for v in node.outputs if not v.is_omitted]
    functions = [function.clone() for function in scope.functions.values()]
    return Written(Model(graph, scope.imports, functions=functions), inputs)


def _read(node: Node) -> Iterator[Value]:
    """What ``node`` and the bodies that it holds read."""
    yield from (value for value in node.inputs if value is not None)
    if node.graphs:
        yield from captured_values(node)


def _copied(node: Node, copies: dict[Value, Value]) -> Node:
    """``node`` on copies of what it reads; its own results are noted among them.

    What Constant gives is copied as stored data already.
    """
    inputs = [None if value is None else copies[value] for value in node.inputs]
    outputs = [Value(v.name if v.constant is None else None, v.type) for v in node.outputs]
    attributes = {key: _copied_attribute(x, copies) for key, x in node.attributes.items()}
    made = zip(node.outputs, outputs, strict=True)
    copies.update((value, copy) for value, copy in made if value.constant is None)
    domain, name, overload = node.domain, node.name, node.overload
    return Node(domain, node.op_type, inputs, outputs, attributes, name=name, overload=overload)


def _copied_attribute(attribute: Attribute, copies: Mapping[Value, Value]) -> Attribute:
    if not attribute.graphs:
        return attribute
    graphs = [graph.clone(copies) for graph in attribute.graphs]
    held = graphs if attribute.kind.is_list else graphs[0]
    return Attribute(attribute.name, attribute.kind, held, attribute.ref)


class KeptPlan:
    """Kept nodes, and their bodies; those that run their kernels are planned once one does."""

    def __init__(
        self, graph: Graph, scope: Scope, options: SessionOptions, shelf: Shelf | None = None
    ) -> None:
        """Programs of bodies are kept within ``shelf``."""
        self.nodes, self.graph, self.scope = list(graph.nodes), graph, scope
        self.constants = {
            value: value.tensor.numpy()
            for value in graph.initializer_values
            if value.tensor is not None
        }
        self.bodies: dict[Graph, Body] = {}
        self._made: tuple[Plan, Mapping[Graph, Body]] | None = None
        if any(node.graphs for node in self.nodes):
            from fornix.runtime.control.bodies import CompiledBody  # noqa: PLC0415 - of control flow

            for holder, inner in [(node, inner) for node in self.nodes for inner in node.graphs]:
                place = BodyPlace.of(shelf, holder, inner, self.nodes) if shelf else None
                kernels = partial(self._kernels, inner)
                self.bodies[inner] = CompiledBody(inner, kernels, scope, options, place)

    def _kernels(self, graph: Graph) -> Body:
        """What runs a body by its kernels."""
        return self._planned()[1][graph]

    @property
    def whole(self) -> Plan:
        """The plan by which kernels run."""
        return self._planned()[0]

    def _planned(self) -> tuple[Plan, Mapping[Graph, Body]]:
        """The plan, and its own bodies; two threads may make it, as no lock outlives a fork."""
        if self._made is None:
            from fornix.reference.plan import Plan  # noqa: PLC0415 - kept programs may do without

            plan = Plan(self.graph, self.scope)
            kernels = dict(plan.bodies)
            plan.bodies.update(self.bodies)
            self._made = plan, kernels
        return self._made


class Ready(NamedTuple):
    """Nodes that can run, and what stands for the values of the program in their plan."""

    plan: KeptPlan
    own: Mapping[Value, Value]


class Islands:
    """The nodes that `written` has written, as they are read again."""

    def __init__(
        self,
        array: Callable[[int], Array],
        text: int,
        read: Sequence[Value],
        options: SessionOptions,
        shelf: Shelf | None = None,
    ) -> None:
        """``text`` is the number of the array that has them as `graphs` writes them.

        ``read`` are values of the program, or stored data, that the inputs stand for. Programs of
        bodies are kept within ``shelf``.
        """
        self._array, self._text = array, text
        self._read, self._options, self.shelf = read, options, shelf
        self.stored = tuple(value for value in read if value.tensor is not None)
        self._writes: list[tuple[int, Sequence[Value]]] = []
        self._found: Ahead[Ready] | None = None
        self._is_certain = False

    def step(self, number: int, reads: Sequence[Value], writes: Sequence[Value]) -> IslandStep:
        """The node of that number as a step."""
        self._writes.append((number, writes))
        return IslandStep(self, number, reads, writes)

    def start(self, *, is_certain: bool) -> None:
        """Make all nodes ready, in a thread of its own.

        Their kernels too if it ``is_certain`` that one runs.
        """
        self._is_certain = is_certain
        self._found = Ahead(self._prepare, imports=True)

    @cached_property
    def ready(self) -> Ready:
        """The nodes; waits until they can run. Raises NotAsCompiled if they cannot."""
        try:
            return self._found.result() if self._found else self._prepare()
        except FornixError as error:
            raise _changed(error) from error

    @property
    def plan(self) -> Plan:
        """The plan by which kernels run; raises NotAsCompiled if they cannot."""
        try:
            return self.ready.plan.whole
        except FornixError as error:
            raise _changed(error) from error

    def _prepare(self) -> Ready:
        from fornix.reference.scope import Scope  # noqa: PLC0415 - few programs have any
        from fornix.runtime.stored.graphs import graph_of  # noqa: PLC0415 - likewise

        model = graph_of(self._array(self._text).tobytes(), self._array)
        graph = model.graph
        own = dict(zip(self._read, graph.inputs, strict=True))
        for value, copy in own.items():
            if value.tensor is not None:
                copy.tensor = value.tensor
                graph.add_initializer(copy)
        graph.inputs = [value for value in graph.inputs if value.tensor is None]
        scope = Scope(model.opset_imports, model.function_table)
        plan = KeptPlan(graph, scope, self._options, self.shelf)
        for number, writes in self._writes:
            own.update(zip(writes, plan.nodes[number].outputs, strict=True))
        if self._is_certain:
            plan.whole  # noqa: B018 - made here, while the creator of the session goes on
        return Ready(plan, own)


def _changed(error: FornixError) -> NotAsCompiled:
    return NotAsCompiled(f"kept nodes are not as they were: {error}")


class IslandStep(Step):
    """One node of `Islands`."""

    uses_numpy = True

    def __init__(
        self, islands: Islands, number: int, reads: Sequence[Value], writes: Sequence[Value]
    ) -> None:
        self.islands, self.number = islands, number
        self.reads, self.writes = tuple(reads), tuple(writes)
        self.stored = islands.stored

    @cached_property
    def way(self) -> Way | None:
        if self.code is not None:
            from fornix.runtime.text.tables import text_way  # noqa: PLC0415 - few nodes read texts

            return text_way(self.single.node, self.code, self._later)
        if self.control is None:
            return None
        from fornix.runtime.control.collecting import way_of  # noqa: PLC0415 - of control flow

        return way_of(self, self.islands.shelf)

    @property
    def single(self) -> ControlNode:
        plan, own = self.islands.ready
        names = {copy: value for value, copy in own.items()}
        return ControlNode(plan.nodes[self.number], plan, names)

    @property
    def kernel(self) -> Kernel | None:
        if self.control is not None:
            return None
        plan = self.islands.plan
        return Kernel.of(plan.steps[self.number], plan, self._names)

    @property
    def _names(self) -> dict[Value, Value]:
        """What values of the plan are in the program, but for those that never change."""
        plan, own = self.islands.ready
        return {copy: v for v, copy in own.items() if copy not in plan.constants}

    @property
    def _later(self) -> Kernel | None:
        """The kernel of a node that machine code does, planned once something is left to it."""
        plan, names = self.islands.ready.plan, self._names
        node = plan.nodes[self.number]
        if (node.domain, node.op_type, node.overload) in plan.scope.functions:
            return None  # which may mean something else

        def call(inputs: list[Any]) -> Sequence[Any]:
            kernel = self.kernel
            if kernel is None:
                raise NotAsCompiled("a kept node has no kernel")
            return kernel.call(inputs)

        inputs = [None if value is None else names.get(value, value) for value in node.inputs]
        return Kernel(call, lambda *given: call([*given]), inputs, plan.constants, may_warn(node))

    def run(self, values: dict[Value, Any], run: Run) -> None:
        if self.way is not None and self.run_by(self.way, values, run):
            return
        plan, own = self.islands.plan, self.islands.ready.own
        given = dict(plan.constants)
        given.update((own[value], values[value]) for value in self.reads)
        results = plan.evaluate(plan.steps[self.number], given)
        values.update(zip(self.writes, results, strict=False))

    def placements(self) -> Iterator[Placement]:
        """None: what is kept does not say where nodes run."""
        return iter(())
