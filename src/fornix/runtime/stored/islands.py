"""Nodes of a kept program that run their NumPy kernels: written as a model, and made ready again.

Decides what of them is kept: the nodes in their order, with the bodies that they hold and stored
data that nobody else keeps. What they need to run, the operators and the reader of messages, is
imported by a thread of its own while the creator of the session goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

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
)
from fornix.runtime.threads import Ahead

if TYPE_CHECKING:
    from fornix.reference.plan import Plan, Scope
    from fornix.reference.plan import Step as PlannedNode
    from fornix.runtime.stored.shelf import Shelf


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


class Ready(NamedTuple):
    """Nodes that can run, and what stands for the values of the program in their plan."""

    plan: Plan
    nodes: Sequence[PlannedNode]
    own: Mapping[Value, Value]


class Islands:
    """The nodes that `written` has written, as they are read again."""

    def __init__(
        self,
        message: bytes,
        read: Sequence[Value],
        options: SessionOptions,
        shelf: Shelf | None = None,
    ) -> None:
        """``read`` are values of the program, or stored data, that the inputs stand for.

        Programs of bodies are kept within ``shelf``.
        """
        self._message, self._read, self._options = message, read, options
        self._shelf = shelf
        self.stored = tuple(value for value in read if value.tensor is not None)
        self._writes: list[tuple[int, Sequence[Value]]] = []
        self._found: Ahead[Ready] | None = None

    def step(self, number: int, reads: Sequence[Value], writes: Sequence[Value]) -> IslandStep:
        """The node of that number as a step."""
        self._writes.append((number, writes))
        return IslandStep(self, number, reads, writes)

    def start(self) -> None:
        """Make all nodes ready, in a thread of its own."""
        self._found = Ahead(self._prepare, imports=True)

    @cached_property
    def ready(self) -> Ready:
        """The nodes; waits until they can run. Raises NotAsCompiled if they cannot."""
        try:
            return self._found.result() if self._found else self._prepare()
        except FornixError as error:
            raise NotAsCompiled(f"kept nodes are not as they were: {error}") from error

    def _prepare(self) -> Ready:
        from fornix.format.messages import ModelProto  # noqa: PLC0415 - by a thread of its own
        from fornix.ir.load import from_message  # noqa: PLC0415 - likewise
        from fornix.reference.plan import Plan, Scope  # noqa: PLC0415 - likewise

        model = from_message(ModelProto.FromString(self._message))
        graph = model.graph
        own = dict(zip(self._read, graph.inputs, strict=True))
        for value, copy in own.items():
            if value.tensor is not None:
                copy.tensor = value.tensor
                graph.add_initializer(copy)
        graph.inputs = [value for value in graph.inputs if value.tensor is None]
        plan = Plan(graph, Scope(model.opset_imports, model.function_table))
        if any(node.graphs for node in graph.nodes):
            from fornix.runtime.control.bodies import compile_bodies  # noqa: PLC0415 - of control flow

            for node in graph.nodes:
                compile_bodies(node, plan, self._options, self._shelf)
        for number, writes in self._writes:
            own.update(zip(writes, graph.nodes[number].outputs, strict=True))
        return Ready(plan, plan.steps, own)


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

            return text_way(self.single.node, self.code, self.kernel)
        if self.control is None:
            return None
        from fornix.runtime.control.collecting import way_of  # noqa: PLC0415 - of control flow

        return way_of(self)

    @property
    def single(self) -> ControlNode:
        plan, nodes, own = self.islands.ready
        names = {copy: value for value, copy in own.items()}
        return ControlNode(nodes[self.number].node, plan, names)

    @property
    def kernel(self) -> Kernel | None:
        plan, nodes, own = self.islands.ready
        names = {copy: v for v, copy in own.items() if copy not in plan.constants}
        return Kernel.of(nodes[self.number], plan, names)

    def run(self, values: dict[Value, Any], run: Run) -> None:
        if self.way is not None and self.run_by(self.way, values, run):
            return
        plan, nodes, own = self.islands.ready
        given = dict(plan.constants)
        given.update((own[value], values[value]) for value in self.reads)
        results = plan.evaluate(nodes[self.number], given)
        values.update(zip(self.writes, results, strict=False))

    def placements(self) -> Iterator[Placement]:
        """None: what is kept does not say where nodes run."""
        return iter(())
