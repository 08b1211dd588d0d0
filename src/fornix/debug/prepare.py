"""A model as it is compared: flat, every constant an initializer, every value with a name and type.

Decides nothing about values. Names of the model that was given stay, so that findings can use them.
"""

from __future__ import annotations

from collections.abc import Collection

from fornix.errors import FornixError
from fornix.infer import annotate, infer_model
from fornix.ir.graph import Model, Node, Value
from fornix.ir.order import sort
from fornix.ir.tensor import SparseTensor
from fornix.passes.inline import inline_functions

INITIALIZERS_ALONE = 4
"""Since this IR version initializers need not be listed as inputs."""


def prepared(model: Model) -> Model:
    """A copy of ``model`` without functions and Constant nodes, types inferred."""
    flat = model.clone()
    flat.ir_version = max(flat.ir_version, INITIALIZERS_ALONE)
    inline_functions(flat)
    sort(flat.graph)
    for node in list(flat.graph.nodes):
        if node.op_type == "Constant":
            _store(flat, node)
    for index, node in enumerate(flat.graph.nodes):
        node.name = node.name or f"{node.op_type}_{index}"
    annotate(flat, infer_model(flat))
    return flat


def _store(model: Model, node: Node) -> None:
    """Let an initializer stand for the result of a Constant node."""
    [value] = node.outputs
    tensor = value.constant
    if tensor is None or value.is_output or isinstance(tensor, SparseTensor):
        return
    graph, name = model.graph, value.name
    stored = graph.add_initializer(Value(None, tensor=tensor))
    value.replace_all_uses_with(stored)
    graph.remove(node)
    stored.name = name


def exposed(model: Model, names: Collection[str] | None = None) -> Model:
    """A copy whose outputs are all results of nodes, or those of ``names``, its own ones first."""
    shown = model.clone()
    listed = dict.fromkeys(shown.graph.outputs)
    for node in shown.graph.nodes:
        wanted = (v for v in node.outputs if v.name and (names is None or v.name in names))
        listed.update(dict.fromkeys(wanted))
    shown.graph.outputs = list(listed)
    return shown


def retyped(model: Model) -> None:
    """Infer the types of ``model`` anew; what cannot be inferred stays open."""
    try:
        annotate(model, infer_model(model))
    except FornixError:
        return
