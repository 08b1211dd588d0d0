"""Which function stands for a node that is to be inlined: a model function, or its operator's body.

Bodies have opsets of their own. How a function gets from one opset to another is `fornix.version`'s
to say, which this room does not know: callers hand in `convert`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fornix import ops
from fornix.errors import ConvertError, FornixError
from fornix.infer import Inference, infer_model
from fornix.ir.graph import Function, Model, Node
from fornix.ops.body import function_of
from fornix.ops.call import REFUSALS, BodyNode

Finder = Callable[[Node], Function | None]
Convert = Callable[[Function, int], Function]
"""Gives a function in another opset of ai.onnx; raises ConvertError where that cannot be."""


def bodies_of(
    model: Model, is_chosen: Callable[[Node], bool], convert: Convert, *, operators: bool = False
) -> Finder:
    """What finds the function for a node of ``model`` that ``is_chosen``, for `inline_functions`.

    With ``operators``, operators that are defined by others count as functions, too.
    """
    table = model.function_table
    inference = infer_model(model) if operators else Inference()

    def find(node: Node) -> Function | None:
        if not is_chosen(node):
            return None
        function = table.get((node.domain, node.op_type, node.overload))
        if function is None:
            return of_operator(node, model, inference, convert) if operators else None
        in_model = node.graph is not None and node.graph.model is model
        return in_opset(function, model.opset_imports, convert) if in_model else function

    return find


def of_operator(
    node: Node, model: Model, inference: Inference, convert: Convert
) -> Function | None:
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
    return None if body is None else in_opset(body, model.opset_imports, convert)


def in_opset(function: Function, imports: Mapping[str, int], convert: Convert) -> Function:
    """``function`` in the opset of ai.onnx that ``imports`` has, if it can be converted."""
    target = imports.get("")
    if target is None or function.opset_imports.get("", target) == target:
        return function
    try:
        return convert(function, target)
    except ConvertError:
        return function
