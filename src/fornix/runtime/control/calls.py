"""Calls of functions, in the place of which compiled code has the bodies."""

from __future__ import annotations

from fornix.infer import infer_model
from fornix.ir.calls import expanded_nodes, recursions
from fornix.ir.graph import Function, Model, Node
from fornix.ir.walk import nodes

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

    def body_of(node: Node) -> Function | None:
        return of_operator(node, changed, inference, convert_function) if _is_map(node) else None

    inline_functions(changed, body_of=body_of)
    return changed
