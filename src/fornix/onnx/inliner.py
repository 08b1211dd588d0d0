"""What `onnx.inliner` offers: calls of functions replaced by their bodies.

Inlining is `fornix.passes.inline`'s, and which function stands for a node `fornix.passes.bodies`'s.
Here stands which of them are chosen.
"""

from __future__ import annotations

from fornix.format.messages import ModelProto
from fornix.ir.load import from_message, to_message
from fornix.onnx._own import WrongKind, owned
from fornix.passes.bodies import bodies_of, in_opset
from fornix.passes.inline import inline_functions
from fornix.version import convert_function

__all__ = ["inline_local_functions", "inline_selected_functions"]


def inline_local_functions(model: ModelProto, convert_version: bool = False) -> ModelProto:
    """A copy of ``model`` in which calls of model functions are replaced by their bodies.

    Functions of another opset stay, unless ``convert_version`` is true and they can be converted.
    """
    source = from_message(owned(model, ModelProto))
    if convert_version:
        source.functions = [
            in_opset(x, source.opset_imports, convert_function) for x in source.functions
        ]
    inline_functions(source)
    return to_message(source)


def inline_selected_functions(
    model: ModelProto,
    function_ids: list[tuple[str, str]],
    exclude: bool = False,
    inline_schema_functions: bool = False,
) -> ModelProto:
    """`inline_local_functions` for those of (domain, name), or with ``exclude`` for all others.

    Functions of another opset are converted, if they can be; else their calls stay. With
    ``inline_schema_functions`` operators that are defined by others count as functions, too.
    """
    source = from_message(owned(model, ModelProto))
    ids = {
        ("" if domain == "ai.onnx" else domain, name) for domain, name in map(_pair, function_ids)
    }
    body_of = bodies_of(
        source,
        lambda node: ((node.domain, node.op_type) in ids) is not exclude,
        convert_function,
        operators=inline_schema_functions,
    )
    inline_functions(source, body_of=body_of)
    return to_message(source)


def _pair(key: object) -> tuple[str, str]:
    match key:
        case (str() as domain, str() as name):
            return domain, name
    raise WrongKind(f"function_ids: pairs of domain and name are required, found {key!r}")
