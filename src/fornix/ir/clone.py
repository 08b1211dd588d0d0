"""Copies of models, functions and graphs: `clone`, `copy.deepcopy` and pickles.

The IR is a web of references that no recursion can walk safely: a chain of 30,000 nodes is as deep
as it is long. So `flatten` writes it down as tables, in which values and graphs are numbers, and
`rebuild` makes objects of them again. Tensors are immutable; clones share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from fornix.errors import GraphError
from fornix.ir import walk
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.nesting import inner_graphs

R = TypeVar("R", Model, Function, Graph)
Record = dict[str, Any]

# What is copied as it is; the rest of each object is references.
_VALUE = ("declared_type", "tensor", "doc_string", "leftover")
_NODE = ("domain", "op_type", "name", "overload", "doc_string", "leftover")
_GRAPH = ("name", "doc_string", "leftover")
_FUNCTION = ("domain", "name", "overload", "doc_string", "leftover")
_MODEL = (
    "ir_version",
    "producer_name",
    "producer_version",
    "domain",
    "model_version",
    "doc_string",
    "leftover",
)


class Tables(NamedTuple):
    """A model, function or graph as plain data."""

    kind: str
    values: list[Record]
    graphs: list[Record]
    root: Record


def clone(root: R, values: Mapping[Value, Value] | None = None) -> R:
    """A copy of ``root`` that shares nothing but tensors.

    Values from outside that a graph captures stay what they are, or become what ``values`` says.
    """
    flat = Flattener(root)
    tables = flat.tables()
    given = values or {}
    made: Any = rebuild(tables, [given.get(value, value) for value in flat.outside])
    copied: R = made  # of the kind that was flattened
    return copied


def reduce(root: R) -> tuple[Callable[..., object], tuple[Tables]]:
    """What `pickle` and `copy.deepcopy` want to know.

    Raises GraphError for a graph that captures values from outside.
    """
    flat = Flattener(root)
    tables = flat.tables()
    if flat.outside:
        raise GraphError(
            f"{root!r}: what is copied or pickled has to be whole, found '{flat.outside[0].name}' "
            "captured from outside; use clone()"
        )
    return rebuild, (tables,)


class Flattener:
    """Numbers the values and graphs of ``root``; `outside` has the values that it captures."""

    def __init__(self, root: Model | Function | Graph) -> None:
        self.root = root
        graphs = list(walk.graphs(root))
        functions = [root] if isinstance(root, Function) else getattr(root, "functions", [])
        defaults = [x for function in functions for x in function.defaults.values()]
        for graph in [graph for attribute in defaults for graph in attribute.graphs]:
            graphs += [graph, *inner_graphs(graph)]
        self.graphs = {graph: number for number, graph in enumerate(graphs)}
        self.numbers: dict[Value, int] = {}
        self.records: list[Record] = []
        self.outside: list[Value] = []

    def tables(self) -> Tables:
        graphs = [self.graph(graph) for graph in self.graphs]
        root = self.root
        kind = type(root).__name__
        if isinstance(root, Graph):
            return Tables(kind, self.records, graphs, {})
        record = self.model(root) if isinstance(root, Model) else self.function(root)
        return Tables(kind, self.records, graphs, record)

    def model(self, model: Model) -> Record:
        return {
            **fields(model, _MODEL),
            "metadata": dict(model.metadata),
            "opset_imports": dict(model.opset_imports),
            "graph": self.graphs[model.graph],
            "functions": [self.function(function) for function in model.functions],
        }

    def function(self, function: Function) -> Record:
        return {
            **fields(function, _FUNCTION),
            "metadata": dict(function.metadata),
            "opset_imports": dict(function.opset_imports),
            "attributes": list(function.attributes),
            "defaults": self.attributes(function.defaults),
            "graph": self.graphs[function.graph],
        }

    def graph(self, graph: Graph) -> Record:
        number = self.number
        return {
            **fields(graph, _GRAPH),
            "metadata": dict(graph.metadata),
            "inputs": [number(value) for value in graph.inputs],
            "initializers": [number(value) for value in graph.initializer_values],
            "nodes": [self.node(node) for node in graph.nodes],
            "outputs": [number(value) for value in graph.outputs],
            "declared": [
                x if isinstance(x, bytes) else number(x)
                for x in graph.declared
                if isinstance(x, bytes) or x.graph is graph
            ],
            "alternates": [
                (number(x), list(raw)) for x, raw in graph.alternates.items() if x in graph.outputs
            ],
        }

    def node(self, node: Node) -> Record:
        return {
            **fields(node, _NODE),
            "metadata": dict(node.metadata) if node.has_metadata else None,
            "inputs": [None if value is None else self.number(value) for value in node.inputs],
            "outputs": [self.number(value) for value in node.outputs],
            "attributes": self.attributes(node.attributes),
        }

    def attributes(self, attributes: Mapping[str, Attribute]) -> list[tuple[Any, ...]]:
        return [
            (key, x.name, int(x.kind), self.held(x), x.ref, x.doc_string, x.leftover)
            for key, x in attributes.items()
        ]

    def held(self, attribute: Attribute) -> Any:
        """The value of an attribute; graphs by their numbers."""
        value = attribute.value
        if value is None or not attribute.graphs:
            return list(value) if isinstance(value, list) else value
        numbers = [self.graphs[graph] for graph in attribute.graphs]
        return numbers if attribute.kind.is_list else numbers[0]

    def number(self, value: Value) -> int:
        """The number of a value; one from outside has a record that says which."""
        found = self.numbers.get(value)
        if found is not None:
            return found
        number = self.numbers[value] = len(self.records)
        if value.graph not in self.graphs:
            self.records.append({"outside": len(self.outside)})
            self.outside.append(value)
            return number
        record = {
            **fields(value, _VALUE),
            "name": None if value.is_unnamed else value.name,
            "metadata": dict(value.metadata) if value.has_metadata else None,
        }
        if value.is_undefined:
            record["undefined_in"] = self.graphs[value.graph]
        self.records.append(record)
        return number


def rebuild(tables: Tables, outside: list[Value] | None = None) -> Model | Function | Graph:
    """The model, function or graph that `Flattener` has written down."""
    builder = Builder(tables, outside or [])
    for graph, record in zip(builder.graphs, tables.graphs, strict=True):
        builder.fill(graph, record)
    if tables.kind == "Graph":
        return builder.graphs[0]
    make = builder.model if tables.kind == "Model" else builder.function
    return make(tables.root)


class Builder:
    """Makes objects of tables: all values and graphs first, then what they hold."""

    def __init__(self, tables: Tables, outside: list[Value]) -> None:
        self.graphs = [Graph(record["name"]) for record in tables.graphs]
        self.values = [self.value(record, outside) for record in tables.values]

    def value(self, record: Record, outside: list[Value]) -> Value:
        if "outside" in record:
            return outside[record["outside"]]
        value = Value(record["name"], record["declared_type"], record["tensor"])
        value.doc_string, value.leftover = record["doc_string"], record["leftover"]
        if record["metadata"] is not None:
            value.metadata = record["metadata"]
        if "undefined_in" in record:
            value.note_owner(self.graphs[record["undefined_in"]])
        return value

    def fill(self, graph: Graph, record: Record) -> None:
        values = self.values
        set_fields(graph, record, _GRAPH)
        graph.metadata = record["metadata"]
        graph.inputs = [values[number] for number in record["inputs"]]
        for number in record["initializers"]:
            graph.add_initializer(values[number])
        for item in record["nodes"]:
            graph.adopt(self.node(item))
        graph.outputs = [values[number] for number in record["outputs"]]
        graph.declared = [x if isinstance(x, bytes) else values[x] for x in record["declared"]]
        graph.alternates = {values[number]: raw for number, raw in record["alternates"]}

    def node(self, record: Record) -> Node:
        node = Node(
            record["domain"],
            record["op_type"],
            [None if number is None else self.values[number] for number in record["inputs"]],
            [self.values[number] for number in record["outputs"]],
            self.attributes(record["attributes"]),
            name=record["name"],
            overload=record["overload"],
        )
        node.doc_string, node.leftover = record["doc_string"], record["leftover"]
        if record["metadata"] is not None:
            node.metadata = record["metadata"]
        return node

    def attributes(self, records: list[tuple[Any, ...]]) -> dict[str, Attribute]:
        found = {}
        for key, name, code, held, ref, doc_string, leftover in records:
            kind, value = AttributeKind(code), held
            if kind is AttributeKind.GRAPH and held is not None:
                value = self.graphs[held]
            elif kind is AttributeKind.GRAPHS:
                value = [self.graphs[number] for number in held]
            found[key] = Attribute(name, kind, value, ref, doc_string, leftover)
        return found

    def function(self, record: Record) -> Function:
        graph = self.graphs[record["graph"]]
        function = Function(record["domain"], record["name"], graph, record["opset_imports"])
        set_fields(function, record, _FUNCTION)
        function.attributes, function.metadata = record["attributes"], record["metadata"]
        function.defaults = self.attributes(record["defaults"])
        return function

    def model(self, record: Record) -> Model:
        functions = [self.function(item) for item in record["functions"]]
        graph = self.graphs[record["graph"]]
        model = Model(graph, record["opset_imports"], functions=functions)
        set_fields(model, record, _MODEL)
        model.metadata = record["metadata"]
        return model


def fields(source: object, names: tuple[str, ...]) -> Record:
    return {name: getattr(source, name) for name in names}


def set_fields(target: object, record: Record, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(target, name, record[name])
