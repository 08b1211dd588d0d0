"""Calls of model functions, in the place of which compiled code has the bodies."""

from __future__ import annotations

from fornix.ir.calls import expanded_nodes, recursions
from fornix.ir.graph import Model

MAX_NODES = 20_000
"""How large bodies may make a model; calls of more stay, as each node takes time to compile."""


def without_calls(model: Model) -> Model:
    """``model`` with bodies in place of calls of its functions, as far as opsets agree.

    Functions in another opset of ai.onnx are converted to that of the model where they can be.
    """
    if not model.functions or any(recursions(model)) or expanded_nodes(model) > MAX_NODES:
        return model
    from fornix.passes.bodies import in_opset  # noqa: PLC0415 - few models have functions
    from fornix.passes.inline import inline_functions  # noqa: PLC0415
    from fornix.version import convert_function  # noqa: PLC0415

    changed = model.clone()
    imports = changed.opset_imports
    changed.functions = [in_opset(x, imports, convert_function) for x in changed.functions]
    inline_functions(changed)
    return changed
