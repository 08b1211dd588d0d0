"""Two models as one: outputs of the first become inputs of the second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fornix.edit.extract import extract_graph
from fornix.errors import InvalidArgument
from fornix.ir.graph import Graph, Model, Value
from fornix.ir.tensor import SparseTensor

T = TypeVar("T")

Links = Sequence[tuple[str, str]]
"""Pairs of an output of the first graph and the input of the second that it becomes."""


def merge(
    first: Model,
    second: Model,
    links: Links,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Model:
    """The model that runs ``first``, then ``second``; see `merge_graphs`.

    Raises InvalidArgument where IR versions, opsets or metadata contradict each other, and for a
    function that both have.
    """
    if first.ir_version != second.ir_version:
        raise InvalidArgument(
            "merge: both models must have the same IR version, "
            f"found {first.ir_version} and {second.ir_version}"
        )
    imports = _joined(first.opset_imports, second.opset_imports, "opset of domain")
    metadata = _joined(first.metadata, second.metadata, "metadata")
    both = {x.key for x in first.functions} & {x.key for x in second.functions}
    if both:
        names = ", ".join(sorted(name for _, name, _ in both))
        raise InvalidArgument(f"merge: each function must be in one model, found in both: {names}")
    graph = merge_graphs(first.graph, second.graph, links, inputs=inputs, outputs=outputs)
    functions = [x.clone() for x in (*first.functions, *second.functions)]
    merged = Model(graph, imports, first.ir_version, functions)
    merged.metadata = metadata
    return merged


def _joined(first: dict[str, T], second: dict[str, T], what: str) -> dict[str, T]:
    for key in first.keys() & second.keys():
        if first[key] != second[key]:
            raise InvalidArgument(
                f"merge: {what} {key!r} must be the same in both models, "
                f"found {first[key]!r} and {second[key]!r}"
            )
    return {**first, **second}


def merge_graphs(
    first: Graph,
    second: Graph,
    links: Links,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Graph:
    """The graph that runs ``first``, then ``second`` on what ``links`` connects.

    Inputs and outputs that are not linked stay; ``inputs`` and ``outputs`` choose among them, and
    what the chosen outputs do not need is left out. Raises InvalidArgument for links between what
    does not exist and for names that both graphs have; see `fornix.edit.prefix_graph`.
    """
    _check_links(first, second, links)
    first, second = first.clone(), second.clone()
    if inputs or outputs:
        first = _chosen(first, inputs, outputs, linked_outputs={out for out, _ in links})
        second = _chosen(second, inputs, outputs, linked_inputs={into for _, into in links})
    found = overlaps(first, second, links)
    if found:
        kind, names = found[0]
        raise InvalidArgument(
            f"merge: every {kind} name must be in one graph only, found in both: "
            f"{', '.join(names)}; prefix the names of one"
        )
    _connect(first, second, links, set(outputs))
    first.name = f"{first.name}_{second.name}"
    return first


def overlaps(first: Graph, second: Graph, links: Links = ()) -> list[tuple[str, list[str]]]:
    """Names that both graphs have, by kind; inputs of ``second`` that are linked do not count."""
    linked = {into for _, into in links}
    found = [
        ("edge", _edges(first) & (_edges(second) - linked)),
        ("value_info", _declared(first) & _declared(second)),
        ("initializer", _stored(first, sparse=False) & _stored(second, sparse=False)),
        ("sparse_initializer", _stored(first, sparse=True) & _stored(second, sparse=True)),
    ]
    return [(kind, sorted(names)) for kind, names in found if names]


def _edges(graph: Graph) -> set[str]:
    values = (x for node in graph.nodes for x in (*node.inputs, *node.outputs))
    return {value.name for value in values if value is not None and value.name}


def _declared(graph: Graph) -> set[str]:
    return {item.name for item in graph.declared if isinstance(item, Value)}


def _stored(graph: Graph, *, sparse: bool) -> set[str]:
    values = graph.initializer_values
    return {x.name for x in values if isinstance(x.tensor, SparseTensor) is sparse}


def _check_links(first: Graph, second: Graph, links: Links) -> None:
    made = {value.name for value in first.outputs}
    read = {value.name for value in second.inputs}
    for out, into in links:
        for name, known, what in (
            (out, made, "an output of the first graph"),
            (into, read, "an input of the second graph"),
        ):
            if name not in known:
                has = ", ".join(sorted(known)) or "none"
                raise InvalidArgument(f"merge: {what} ({has}) is required, found {name!r}")


def _chosen(
    graph: Graph,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    linked_inputs: Iterable[str] = (),
    linked_outputs: Iterable[str] = (),
) -> Graph:
    """The part of ``graph`` with the chosen inputs and outputs and those that are linked."""
    starts = {*inputs, *linked_inputs} if inputs else {x.name for x in graph.inputs}
    ends = {*outputs, *linked_outputs} if outputs else {x.name for x in graph.outputs}
    read = [value.name for value in graph.inputs if value.name in starts]
    made = [value.name for value in graph.outputs if value.name in ends]
    if len(read) == len(graph.inputs) and len(made) == len(graph.outputs):
        return graph
    return extract_graph(graph, read, made)


def _connect(first: Graph, second: Graph, links: Links, wanted: set[str]) -> None:
    """Move what ``second`` holds into ``first``, reading what ``links`` say."""
    made = {value.name: value for value in first.outputs}
    source = {into: made[out] for out, into in links}
    results = list(second.outputs)
    declared = [x for x in second.declared if isinstance(x, bytes) or x.name not in source]
    second.outputs = ()
    moved = {value: _moved(value, first, source.get(value.name)) for value in _free(second)}
    nodes = list(second.nodes)
    second.remove(*nodes)
    first.append(*nodes)
    first.declared += [x if isinstance(x, bytes) else moved.get(x, x) for x in declared]
    taken = {out for out, _ in links} - wanted
    kept = [value for value in first.outputs if value.name not in taken]
    first.outputs = [*kept, *(moved.get(value, value) for value in results)]


def _free(graph: Graph) -> list[Value]:
    """Inputs and initializers, each once."""
    return list(dict.fromkeys((*graph.inputs, *graph.initializer_values)))


def _moved(value: Value, target: Graph, source: Value | None) -> Value:
    """What stands in ``target`` for an input or initializer: ``source``, or a copy."""
    if source is None:
        tensor = value.tensor if value.is_initializer else None
        source = Value(value.name, value.declared_type, tensor, value.doc_string)
        source.leftover = value.leftover
        source.metadata = dict(value.metadata)
        if tensor is not None:
            target.add_initializer(source)
        if value.is_input:
            target.inputs = (*target.inputs, source)
    value.replace_all_uses_with(source, outputs=False)
    return source
