"""Bodies of function operators: nodes in ONNX text, completed to functions.

A body is written as the nodes alone; the header with names, attributes and defaults is the schema's
and is not written twice. Nodes mean what they mean in opset `OPSET`, whatever opset the model has;
a text that begins with its own header may say otherwise.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fornix.format.messages import ModelProto
from fornix.format.text import parse_function
from fornix.ir.load import from_message
from fornix.ops.call import BodyNode, call_rule

if TYPE_CHECKING:
    from fornix.ir.graph import Function
    from fornix.ops.schema import Schema
    from fornix.ops.signature import FormalAttribute

OPSET = 18
"""The opset in whose operators bodies are written."""


def function_text(schema: Schema, text: str) -> str:
    """The function in ONNX text whose nodes are ``text``; itself if it has a header."""
    if text.lstrip().startswith("<"):
        return text
    attributes = ", ".join(map(_attribute_text, schema.attributes.values()))
    inputs, outputs = (
        ", ".join(formal.name for formal in formals) for formals in (schema.inputs, schema.outputs)
    )
    head = f"{schema.name} {f'<{attributes}> ' if attributes else ''}({inputs}) => ({outputs})"
    return f'<domain: "{schema.domain}", opset_import: ["": {OPSET}]>\n{head}\n{{\n{text}\n}}\n'


def _attribute_text(formal: FormalAttribute) -> str:
    if formal.default is None:
        return f"{formal.name}: {formal.kind}"
    default = formal.default
    value = f'"{default}"' if isinstance(default, str) else repr(default).replace("'", '"')
    return f"{formal.name}: {formal.kind} = {value}"


def body_text(node: BodyNode) -> str | None:
    """The node's decomposition as a function in ONNX text; None if its operator has no body."""
    rule = node.operator.rule("body", node.version)
    if rule is None:
        return None
    [text] = call_rule(rule, (), {}, node)
    return function_text(node.schema, text)


def function_of(node: BodyNode) -> Function | None:
    """`body_text` as a function, which nodes of one text share; it is not to be changed."""
    text = body_text(node)
    return None if text is None else _parsed(text)


@cache
def _parsed(text: str) -> Function:
    model = from_message(ModelProto(functions=[parse_function(text)]))
    return next(iter(model.functions))
