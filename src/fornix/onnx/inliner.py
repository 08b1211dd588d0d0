"""What `onnx.inliner` offers: calls of functions replaced by their bodies.

Inlining is `fornix.passes.inline`'s. Here stands which functions are chosen, and that bodies of
another opset are converted first, where that is asked for or where the body is fornix's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fornix import ops
from fornix.errors import ConvertError, FornixError
from fornix.format.messages import ModelProto
from fornix.infer import Inference, infer_model
from fornix.ir.graph import Function, Model, Node
from fornix.ir.load import from_message, to_message
from fornix.onnx._own import owned
from fornix.ops.body import function_of
from fornix.ops.call import REFUSALS, BodyNode
from fornix.passes.inline import inline_functions
from fornix.version import convert_function

__all__ = ["inline_local_functions", "inline_selected_functions"]

Finder = Callable[[Node], Function | None]


def inline_local_functions(model: ModelProto, convert_version: bool = False) -> ModelProto:
    """A copy of ``model`` in which calls of model functions are replaced by their bodies.

    Functions of another opset stay, unless ``convert_version`` is true and they can be converted.
    """
    source = from_message(owned(model, ModelProto))
    if convert_version:
        source.functions = [_in_opset(x, source.opset_imports) for x in source.functions]
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
    inline_functions(
        source, body_of=_chosen(source, function_ids, exclude, inline_schema_functions)
    )
    return to_message(source)


def _chosen(
    model: Model, function_ids: Iterable[tuple[str, str]], exclude: bool, of_schemas: bool
) -> Finder:
    """What finds the function that stands for a node, if it is chosen."""
    ids = {("" if domain == "ai.onnx" else domain, name) for domain, name in function_ids}
    table = model.function_table
    inference = infer_model(model) if of_schemas else Inference()

    def find(node: Node) -> Function | None:
        if ((node.domain, node.op_type) in ids) is exclude:
            return None
        function = table.get((node.domain, node.op_type, node.overload))
        if function is None:
            return _of_schema(node, model, inference) if of_schemas else None
        in_model = node.graph is not None and node.graph.model is model
        return _in_opset(function, model.opset_imports) if in_model else function

    return find


def _of_schema(node: Node, model: Model, inference: Inference) -> Function | None:
    """The body of an operator that is defined by others, in the opset of ``model``."""
    operator = ops.find(node.domain, node.op_type)
    opset = model.opset_imports.get(node.domain)
    if operator is None or opset is None:
        return None
    types = [None if value is None else inference.fact(value).type for value in node.inputs]
    try:
        body = function_of(BodyNode.of(node, operator, operator.schema(opset), opset, types))
    except (FornixError, *REFUSALS):
        return None  # it is not what its schema asks for, and stays for the checker to name
    return None if body is None else _in_opset(body, model.opset_imports)


def _in_opset(function: Function, imports: Mapping[str, int]) -> Function:
    """``function`` in the opset of ai.onnx that ``imports`` has, if it can be converted."""
    target = imports.get("")
    if target is None or function.opset_imports.get("", target) == target:
        return function
    try:
        return convert_function(function, target)
    except ConvertError:
        return function
