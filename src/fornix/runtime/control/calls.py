"""Calls of functions, in the place of which compiled code has the bodies."""

from __future__ import annotations

from fornix.dtype import STRING
from fornix.infer import Inference, infer_model
from fornix.ir.calls import expanded_nodes, recursions
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.nesting import inner_graphs
from fornix.ir.types import SequenceType, TensorType, Type
from fornix.ir.value import Use
from fornix.ir.walk import captured_values, nodes

MAX_NODES = 20_000
"""How large bodies may make a model; calls of more stay, as each node takes time to compile."""


def without_calls(model: Model) -> Model:
    """``model`` with bodies in place of calls of its functions, as far as opsets agree.

    Functions in another opset of ai.onnx are converted to that of the model where they can be.
    SequenceMap is a call, too.
    """
    if model.functions and not any(recursions(model)) and expanded_nodes(model) <= MAX_NODES:
        model = _without_functions(model)
    return _without_maps(model) if any(map(_is_map, nodes(model.graph))) else model


def _without_functions(model: Model) -> Model:
    from fornix.passes.bodies import in_opset  # noqa: PLC0415 - few models have functions
    from fornix.passes.inline import inline_functions  # noqa: PLC0415
    from fornix.version import convert_function  # noqa: PLC0415

    changed = model.clone()
    imports = changed.opset_imports
    changed.functions = [in_opset(x, imports, convert_function) for x in changed.functions]
    inline_functions(changed)
    return changed


def _is_map(node: Node) -> bool:
    return not node.domain and node.op_type == "SequenceMap"


def _without_maps(model: Model) -> Model:
    """``model`` with loops for maps over sequences."""
    from fornix.passes.bodies import of_operator  # noqa: PLC0415 - few models have sequences
    from fornix.passes.inline import inline_functions  # noqa: PLC0415
    from fornix.version import convert_function  # noqa: PLC0415

    changed = model.clone()
    inference = infer_model(changed)
    maps = [*filter(_is_map, nodes(changed.graph))]
    kept = {node for node in maps if _has_texts(node, inference)}
    for node in reversed(maps):  # those inside of others first
        if node not in kept:
            _hand_in(node, inference)

    told: list[tuple[Use, Type | None]] = []

    def body_of(node: Node) -> Function | None:
        if node in kept or not _is_map(node):
            return None
        types = [(value, _of_any_extents(inference.fact(value).type)) for value in node.outputs]
        told.extend((use, type_) for value, type_ in types for use in value.uses)
        return of_operator(node, changed, inference, convert_function)

    inline_functions(changed, body_of=body_of)
    for use, type_ in told:  # what a loop adds to nothing is of any shape
        value = use.node.inputs[use.index] if use.node.graph else None
        if value is not None and value.type is None:
            value.type = type_
    return changed


def _of_any_extents(type_: Type | None) -> Type | None:
    """The type of a sequence with nothing but the rank of its elements; None if that is open."""
    elem = type_.elem if isinstance(type_, SequenceType) else None
    if not isinstance(elem, TensorType) or elem.shape is None:
        return None
    return SequenceType(TensorType(elem.dtype, (None,) * len(elem.shape)))


def _has_texts(node: Node, inference: Inference) -> bool:
    """Whether a map has tensors of many texts: a loop of these runs no faster than the map."""
    types = [inference.fact(x).type for x in (*node.inputs, *node.outputs) if x is not None]
    elements = [x.elem for x in types if isinstance(x, SequenceType)]
    texts = [x.shape for x in elements if isinstance(x, TensorType) and x.dtype is STRING]
    return any(shape is None or any(extent != 1 for extent in shape) for shape in texts)


def _hand_in(node: Node, inference: Inference) -> None:
    """Give the tensors that the body of a map captures as inputs of its own, which each run reads.

    A sequence would be walked along: such a map keeps its kernel, as one of unknown types does.
    """
    body = node.attributes["body"].value
    captured = captured_values(body) if isinstance(body, Graph) else []
    if not all(isinstance(inference.fact(value).type, TensorType) for value in captured):
        return
    inside = {body, *inner_graphs(node)}
    for value in captured:
        own = Value(body.fresh_name(value.name), inference.fact(value).type)
        body.inputs = [*body.inputs, own]
        for use in value.uses:
            if use.node.graph in inside:
                use.node.set_input(use.index, own)
        body.outputs = [own if output is value else output for output in body.outputs]
    node.inputs = [*node.inputs, *captured]
