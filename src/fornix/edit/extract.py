"""The part of a model that leads from some values to others, as a model of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from fornix.errors import InvalidArgument
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.nesting import own_values
from fornix.ir.walk import captured_values, nodes


def extract(model: Model, inputs: Sequence[str] | None, outputs: Sequence[str]) -> Model:
    """A copy of the part of ``model`` that computes ``outputs`` from ``inputs``, values by name.

    Inputs may be any values, results of nodes too; None stands for those of the model that are
    needed. Initializers that are needed and functions that are called come along. Raises
    InvalidArgument for a name that there is not, and where the outputs need more inputs.
    """
    part = model.clone()
    _cut(part.graph, inputs, outputs)
    part.functions = _called(part)
    return part


def extract_graph(graph: Graph, inputs: Sequence[str] | None, outputs: Sequence[str]) -> Graph:
    """The same of a graph that stands alone."""
    part = graph.clone()
    _cut(part, inputs, outputs)
    return part


def _cut(graph: Graph, inputs: Sequence[str] | None, outputs: Sequence[str]) -> None:
    """Leave in ``graph`` only what leads from ``inputs`` to ``outputs``."""
    known = {value.name: value for value in own_values(graph) if value.name}
    ends = [_value(name, known) for name in outputs]
    starts = [_value(name, known) for name in inputs or ()]
    stop = set(starts)
    needed = _needed(graph, stop, ends)
    if inputs is None:
        starts = [value for value in graph.inputs if value in needed]
        stop = set(starts)
    missing = [
        value.name
        for value in graph.inputs
        if value in needed and value not in stop and not value.is_initializer
    ]
    if missing:
        raise InvalidArgument(
            f"extract: {', '.join(outputs)} can be computed only with more inputs: "
            f"{', '.join(missing)}"
        )
    kept = {value.producer for value in needed if value not in stop}
    fed = {value: _as_input(value, kept) for value in starts}
    graph.outputs = ()
    graph.remove(*[node for node in graph.nodes if node not in kept])
    graph.inputs = [fed[value] for value in starts]
    for value in graph.initializer_values:
        if value not in needed and value not in fed:
            graph.remove_initializer(value)
    graph.outputs = [fed.get(value, value) for value in ends]


def _value(name: str, known: Mapping[str, Value]) -> Value:
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InvalidArgument(
            f"extract: the name of a value of the main graph is required, found {name!r}{hint}"
        )
    return known[name]


def _needed(graph: Graph, stop: set[Value], ends: Iterable[Value]) -> set[Value]:
    """The values that ``ends`` are computed from, back to those where to ``stop``."""
    needed: set[Value] = set()
    waiting = list(ends)
    while waiting:
        value = waiting.pop()
        if value in needed or value.graph is not graph:
            continue
        needed.add(value)
        if value not in stop and value.producer is not None:
            waiting += _read_by(value.producer)
    return needed


def _read_by(node: Node) -> list[Value]:
    """What ``node`` reads, in its subgraphs too."""
    captured = captured_values(node) if node.graphs else []
    return [*(value for value in node.inputs if value is not None), *captured]


def _as_input(value: Value, kept: set[Node | None]) -> Value:
    """``value`` or, of a node's result, a new value that is read instead."""
    producer = value.producer
    if producer is None:
        return value
    name = value.name
    fed = Value(None, value.declared_type, doc_string=value.doc_string)
    if producer in kept and producer.graph is not None:  # it computes something else as well
        value.name = producer.graph.fresh_name(name)
    value.replace_all_uses_with(fed, outputs=False)
    fed.name = name
    return fed


def _called(model: Model) -> list[Function]:
    """The functions that the graph calls, and those that they call in turn."""
    table = model.function_table
    called: set[tuple[str, str, str]] = set()
    waiting = [model.graph]
    while waiting:
        found = {(x.domain, x.op_type, x.overload) for x in nodes(waiting.pop())}
        fresh = (found & table.keys()) - called
        called |= fresh
        waiting += [table[key].graph for key in fresh]
    return [function for function in model.functions if function.key in called]
