"""The invariants of the graph IR, checked.

A pass that breaks one of these has a defect, whatever the model means:

1. uses and inputs agree, in both directions, and so do lists of outputs;
2. a value's producer has it as that output; nodes, graphs and values know who owns them;
3. a value is read only where it is visible: in its own graph behind its definition, or in graphs
   nested in that one; nothing reads a value that nobody defines;
4. names of values are there, and unique among those that are visible at one place;
5. nodes stand in topological order, so there are no cycles.

3 to 5 also hold for every valid model, but not for every one that can be loaded. Whether operators,
types and attributes are what the standard says is for the checker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.errors import GraphError
from fornix.format.limits import DEFAULT, Limits
from fornix.ir import order, walk
from fornix.ir.graph import Function, Graph, Model, Node
from fornix.ir.nesting import stands_in

if TYPE_CHECKING:
    from fornix.ir.graph import Value


def verify(root: Model | Function | Graph, *, limits: Limits = DEFAULT) -> None:
    """Raise GraphError, naming place and finding, unless every invariant holds in ``root``.

    Raises LimitError where graphs nest deeper than ``limits`` allow.
    """
    for graph in walk.roots(root):
        check_owner(graph, root)
        check_tree(graph)
        check_uses(graph)
        Visit(limits).graph(graph)


def check_owner(graph: Graph, root: Model | Function | Graph) -> None:
    """Check that a model or one of its functions owns its graph."""
    owners = [root, *(root.functions if isinstance(root, Model) else [])]
    if not isinstance(root, Graph) and graph.owner not in owners:
        raise GraphError(f"{graph.label}: its model or function has to own it, found {graph.owner}")


def check_tree(top: Graph) -> None:
    """Check who owns what: graphs by nodes, nodes by graphs, values by both."""
    for graph in walk.graphs(top):
        inputs = set(graph.inputs)
        for value in (*graph.inputs, *graph.initializer_values):
            if value.producer is not None or value.graph is not graph:
                raise GraphError(
                    f"{graph.label}: input or initializer '{value.name}' has to belong to this "
                    f"graph, found it in {place_text(value)}"
                )
            if value.is_input is not (value in inputs):
                raise GraphError(
                    f"{graph.label}: is_input of '{value.name}' has to be {value in inputs}, "
                    f"found {value.is_input}"
                )
        for value in graph.initializer_values:
            if value.tensor is None:
                raise GraphError(f"{graph.label}: initializer '{value.name}' has no tensor")
        for node in graph.nodes:
            check_node(node, graph)


def check_node(node: Node, graph: Graph) -> None:
    """Check that ``node`` belongs to ``graph``, and what it holds to ``node``."""
    if node.graph is not graph:
        raise GraphError(f"{node.label}: it stands in {graph.label}, but says {node.graph!r}")
    for index, value in enumerate(node.outputs):
        if value.producer is not node or value.index != index:
            raise GraphError(
                f"{node.label}: output {index} '{value.name}' has to come from here, found "
                f"output {value.index} of {place_text(value)}"
            )
    for inner in node.graphs:
        if inner.owner is not node:
            raise GraphError(f"{node.label}: it has to own {inner.label}, found {inner.owner!r}")


def check_uses(top: Graph) -> None:
    """Check that uses are exactly the inputs of nodes, and lists of outputs likewise."""
    seen: dict[Value, None] = {}
    for graph in walk.graphs(top):
        seen.update(dict.fromkeys(graph.outputs))
        seen.update(dict.fromkeys((*graph.inputs, *graph.initializer_values)))
        for value in graph.outputs:
            if graph not in value.output_of:
                raise GraphError(f"{graph.label}: output '{value.name}' does not know of it")
        for node in graph.nodes:
            check_inputs(node)
            seen.update(dict.fromkeys(node.outputs))
            seen.update((value, None) for value in node.inputs if value is not None)
    for value in seen:
        check_value_uses(value)


def check_inputs(node: Node) -> None:
    """Check that what ``node`` reads counts it as a user."""
    for index, value in enumerate(node.inputs):
        if value is not None and not value.is_used_by(node, index):
            raise GraphError(f"{node.label}: input {index} '{value.name}' does not count this use")


def check_value_uses(value: Value) -> None:
    """Check that everything that counts as a use of ``value`` is one."""
    for node, index in value.uses:
        inputs = node.inputs
        if index >= len(inputs) or inputs[index] is not value:
            raise GraphError(
                f"value '{value.name}': {node.label} counts as a use by input {index}, but does "
                "not read it"
            )
        if not node.is_live:
            raise GraphError(f"value '{value.name}': {node.label} uses it and stands in no graph")
    for graph in value.output_of:
        if value not in graph.outputs:
            raise GraphError(f"value '{value.name}': {graph.label} does not list it as an output")


class Visit:
    """One walk through a graph and its subgraphs, with what is visible so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.visible: dict[Value, None] = {}
        self.names: dict[str, Value] = {}

    def graph(self, graph: Graph, depth: int = 0) -> None:
        """Check a graph, inside ``depth`` others; raises LimitError if that is too many."""
        self.limits.check("nesting", depth, graph.label)
        outside = len(self.visible)
        stored = [value for value in graph.initializer_values if not value.is_input]
        for value in (*graph.inputs, *stored):
            self.define(value, graph.label)
        for node in graph.nodes:
            self.node(node, depth)
        for value in graph.outputs:
            if value not in self.visible:
                raise unseen(value, f"{graph.label}: output", None)
        while len(self.visible) > outside:
            value, _ = self.visible.popitem()
            del self.names[value.name]

    def node(self, node: Node, depth: int) -> None:
        for index, read in enumerate(node.inputs):
            if read is not None and read not in self.visible:
                raise unseen(read, f"{node.label}: input {index}", node)
        for inner in node.graphs:
            self.graph(inner, depth + 1)
        for value in node.outputs:
            if not value.is_omitted:
                self.define(value, node.label)

    def define(self, value: Value, where: str) -> None:
        """Make ``value`` visible; raises GraphError if its name is missing or taken."""
        if not value.name:
            raise GraphError(f"{where}: a value needs a name, found one without")
        other = self.names.setdefault(value.name, value)
        if other is not value or value in self.visible:
            raise GraphError(
                f"{where}: '{value.name}' has to be the only value of that name, found another in "
                f"{place_text(other)}"
            )
        self.visible[value] = None


def unseen(value: Value, subject: str, reader: Node | None) -> GraphError:
    """The error for a ``value`` that ``subject`` reads where it is not visible."""
    subject = f"{subject} '{value.name}'"
    if value.is_undefined:
        return GraphError(f"{subject} has to be defined, found nothing of that name")
    if value.is_omitted:
        return GraphError(f"{subject} is an output that {place_text(value)} omits")
    if value.graph is None:
        return GraphError(f"{subject} comes from {place_text(value)}, which stands in no graph")
    if reader is not None and value.producer is not None and stands_behind(value.producer, reader):
        order.sorted_nodes(value.graph)  # which raises for a cycle
        return GraphError(
            f"{subject} has to be defined ahead of its use, found behind it {place_text(value)}; "
            "use fornix.ir.order.sort"
        )
    return GraphError(f"{subject} is defined in {place_text(value)}, which is not around this")


def stands_behind(producer: Node, reader: Node) -> bool:
    """Whether ``producer`` stands in a graph around ``reader``, at it or behind it."""
    return producer.graph is not None and stands_in(reader, producer.graph.nodes)


def place_text(value: Value) -> str:
    """Where ``value`` is defined, for messages."""
    if value.producer is not None:
        return value.producer.label
    return "no graph" if value.graph is None else value.graph.label
