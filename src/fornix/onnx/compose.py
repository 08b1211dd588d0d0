"""What `onnx.compose` offers: two models as one, prefixes for names, one more axis for outputs.

The edits are `fornix.edit`'s; here stand onnx's names for them, and what it writes into the
results besides. ``inplace`` changes the message that is given.
"""

from __future__ import annotations

from types import NoneType
from typing import TypeVar

from google.protobuf.message import Message

from fornix import edit
from fornix.format.messages import GraphProto, ModelProto
from fornix.ir.graph import Graph, Model
from fornix.ir.load import from_message, to_message
from fornix.onnx import checker
from fornix.onnx._kinds import TEXT_OR_NONE, WHOLE, takes
from fornix.onnx._own import owned, put
from fornix.ops.opsets import LATEST

__all__ = [
    "add_prefix",
    "add_prefix_graph",
    "check_overlapping_names",
    "expand_out_dim",
    "expand_out_dim_graph",
    "merge_graphs",
    "merge_models",
]

M = TypeVar("M", bound=Message)


def check_overlapping_names(
    g1: GraphProto, g2: GraphProto, io_map: list[tuple[str, str]] | None = None
) -> list[tuple[str, list[str]]]:
    """Names that both graphs have, by kind, but for the inputs of ``g2`` in ``io_map``."""
    found = dict(edit.overlaps(_graph(g1), _graph(g2), io_map or ()))
    found["value_info"] = _both(*([x.name for x in g.value_info] for g in (g1, g2)))
    stored = [g.sparse_initializer for g in (g1, g2)]
    found["sparse_initializer"] = [
        *_both(*([x.values.name for x in sparse] for sparse in stored)),
        *_both(*([x.indices.name for x in sparse] for sparse in stored)),
    ]
    kinds = ("edge", "value_info", "initializer", "sparse_initializer")
    return [(kind, found[kind]) for kind in kinds if found.get(kind)]


def _both(one: list[str], other: list[str]) -> list[str]:
    return sorted(set(one) & set(other))


@takes(name=TEXT_OR_NONE, doc_string=TEXT_OR_NONE)
def merge_graphs(
    g1: GraphProto,
    g2: GraphProto,
    io_map: list[tuple[str, str]],
    inputs: list[str] | None = None,
    outputs: list[str] | None = None,
    prefix1: str | None = None,
    prefix2: str | None = None,
    name: str | None = None,
    doc_string: str | None = None,
) -> GraphProto:
    """The graph that runs ``g1``, then ``g2``, whose inputs are outputs of ``g1`` by ``io_map``.

    ``inputs`` and ``outputs`` choose among those that are left. Raises ValueError for names that
    do not exist, or that both graphs have.
    """
    first, second = _prefixed(_graph(g1), prefix1), _prefixed(_graph(g2), prefix2)
    links = _links(io_map, prefix1, prefix2)
    merged = edit.merge_graphs(first, second, links, inputs=inputs or (), outputs=outputs or ())
    if name is not None:
        merged.name = name
    merged.doc_string = _doc(first, second) if doc_string is None else doc_string
    return to_message(Model(merged)).graph


@takes(
    name=TEXT_OR_NONE,
    doc_string=TEXT_OR_NONE,
    producer_name=str,
    producer_version=str,
    domain=str,
    model_version=WHOLE,
)
def merge_models(
    m1: ModelProto,
    m2: ModelProto,
    io_map: list[tuple[str, str]],
    inputs: list[str] | None = None,
    outputs: list[str] | None = None,
    prefix1: str | None = None,
    prefix2: str | None = None,
    name: str | None = None,
    doc_string: str | None = None,
    producer_name: str | None = "onnx.compose.merge_models",
    producer_version: str | None = "1.0",
    domain: str | None = "",
    model_version: int | None = 1,
) -> ModelProto:
    """The model that runs ``m1``, then ``m2``; see `merge_graphs`.

    Raises ValueError also where IR versions, opsets or metadata contradict each other, and
    ValidationError if the result breaks the standard.
    """
    first, second = (from_message(owned(message, ModelProto)) for message in (m1, m2))
    first = edit.prefix(first, prefix1) if prefix1 else first
    second = edit.prefix(second, prefix2) if prefix2 else second
    links = _links(io_map, prefix1, prefix2)
    merged = edit.merge(first, second, links, inputs=inputs or (), outputs=outputs or ())
    if name is not None:
        merged.graph.name = name
    told = _doc(first.graph, second.graph)
    merged.graph.doc_string = told if doc_string is None else doc_string
    merged.producer_name = producer_name or ""
    merged.producer_version = producer_version or ""
    merged.domain = domain or ""
    merged.model_version = model_version or 0
    message = to_message(merged)
    checker.check_model(message)
    return message


@takes(name_map=(dict, NoneType))
def add_prefix_graph(
    graph: GraphProto,
    prefix: str,
    rename_nodes: bool | None = True,
    rename_edges: bool | None = True,
    rename_inputs: bool | None = True,
    rename_outputs: bool | None = True,
    rename_initializers: bool | None = True,
    rename_value_infos: bool | None = True,
    inplace: bool | None = False,
    name_map: dict[str, str] | None = None,
) -> GraphProto:
    """``graph`` with a prefix ahead of its names; ``name_map`` gets the names, old to new."""
    parts = edit.Parts(
        nodes=bool(rename_nodes),
        edges=bool(rename_edges),
        inputs=bool(rename_inputs),
        outputs=bool(rename_outputs),
        initializers=bool(rename_initializers),
        value_infos=bool(rename_value_infos),
    )
    source = _graph(graph)
    changed = edit.prefix_graph(source, prefix, parts)
    if name_map is not None:
        pairs = zip(edit.value_names(source), edit.value_names(changed), strict=True)
        name_map.update((old, new) for old, new in pairs if old != new)
    made = to_message(Model(changed)).graph
    _prefix_rest(made, changed, prefix, parts)
    return _result(made, graph, inplace)


def add_prefix(
    model: ModelProto,
    prefix: str,
    rename_nodes: bool | None = True,
    rename_edges: bool | None = True,
    rename_inputs: bool | None = True,
    rename_outputs: bool | None = True,
    rename_initializers: bool | None = True,
    rename_value_infos: bool | None = True,
    rename_functions: bool | None = True,
    inplace: bool | None = False,
) -> ModelProto:
    """``model`` with a prefix ahead of its names, those of its functions included."""
    parts = edit.Parts(
        nodes=bool(rename_nodes),
        edges=bool(rename_edges),
        inputs=bool(rename_inputs),
        outputs=bool(rename_outputs),
        initializers=bool(rename_initializers),
        value_infos=bool(rename_value_infos),
        functions=bool(rename_functions),
    )
    changed = edit.prefix(from_message(owned(model, ModelProto)), prefix, parts)
    made = to_message(changed)
    _prefix_rest(made.graph, changed.graph, prefix, parts)
    return _result(made, model, inplace)


def _prefix_rest(made: GraphProto, changed: Graph, prefix: str, parts: edit.Parts) -> None:
    """Put the prefix ahead of names in ``made`` that belong to no value of ``changed``."""
    known = set(edit.value_names(changed))
    for declared in made.value_info:
        if parts.value_infos and declared.name not in known:
            declared.name = prefix + declared.name
    for sparse in made.sparse_initializer:
        if parts.initializers and sparse.indices.name:
            sparse.indices.name = prefix + sparse.indices.name


@takes(dim_idx=WHOLE)
def expand_out_dim_graph(
    graph: GraphProto, dim_idx: int, inplace: bool | None = False
) -> GraphProto:
    """``graph`` with one more axis, of extent 1, in each output; for opset 13 and newer."""
    changed = edit.expand_outputs(_graph(graph), dim_idx)
    return _result(to_message(Model(changed)).graph, graph, inplace)


@takes(dim_idx=WHOLE)
def expand_out_dim(model: ModelProto, dim_idx: int, inplace: bool | None = False) -> ModelProto:
    """``model`` with one more axis, of extent 1, in each output."""
    source = from_message(owned(model, ModelProto))
    opset = source.opset_imports.get("", LATEST[""])
    graph = edit.expand_outputs(source.graph, dim_idx, opset)
    changed = source.clone()
    changed.graph = graph
    graph.owner = changed
    return _result(to_message(changed), model, inplace)


def _graph(message: GraphProto) -> Graph:
    return from_message(ModelProto(graph=owned(message, GraphProto))).graph


def _result(result: M, given: M, inplace: bool | None) -> M:
    """``result`` or, if ``inplace``, ``given`` with the same content."""
    if not inplace:
        return result
    put(result, given)
    return given


def _prefixed(graph: Graph, text: str | None) -> Graph:
    return edit.prefix_graph(graph, text) if text else graph


def _links(
    io_map: list[tuple[str, str]], prefix1: str | None, prefix2: str | None
) -> list[tuple[str, str]]:
    return [((prefix1 or "") + out, (prefix2 or "") + into) for out, into in io_map]


def _doc(first: Graph, second: Graph) -> str:
    """What says where the parts of a merged graph come from."""
    parts = [f"{graph.name}:\n{graph.doc_string}" for graph in (first, second)]
    return f"{first.name}, then {second.name}\n\n" + "\n\n".join(parts)
