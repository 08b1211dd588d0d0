"""Bodies of function operators: nodes in ONNX text, completed to functions.

A body is written as the nodes alone; the header with names, attributes and defaults is the schema's
and is not written twice. Nodes mean what they mean in the opset of the schema, or in opset `OPSET`
where they are written for a node, whatever opset the model has; the declaration may say otherwise,
and so may a text that begins with its own header.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from fornix.errors import NotSupported
from fornix.ir.nesting import inner_graphs, own_values
from fornix.ir.walk import captured_values
from fornix.ops.call import BodyNode, call_rule

if TYPE_CHECKING:
    from fornix.format.messages import NodeProto, TensorProto
    from fornix.ir.graph import Function, Graph
    from fornix.ops.op import Operator, Rule
    from fornix.ops.schema import Schema
    from fornix.ops.signature import FormalAttribute

OPSET = 18
"""The opset in whose operators bodies are written for nodes."""
MAX_PARSED = 256
"""Texts of bodies whose functions are remembered: those of the models that are opened now."""


def function_text(schema: Schema, text: str, opset: int = OPSET) -> str:
    """The function in ONNX text whose nodes are ``text``; itself if it has a header."""
    if text.lstrip().startswith("<"):
        return text
    attributes = ", ".join(map(_attribute_text, schema.attributes.values()))
    inputs, outputs = (
        ", ".join(formal.name for formal in formals) for formals in (schema.inputs, schema.outputs)
    )
    head = f"{schema.name} {f'<{attributes}> ' if attributes else ''}({inputs}) => ({outputs})"
    return f'<domain: "{schema.domain}", opset_import: ["": {opset}]>\n{head}\n{{\n{text}\n}}\n'


def _attribute_text(formal: FormalAttribute) -> str:
    if formal.default is None:
        return f"{formal.name}: {formal.kind}"
    default = formal.default
    value = f'"{default}"' if isinstance(default, str) else repr(default).replace("'", '"')
    return f"{formal.name}: {formal.kind} = {value}"


def body_text(node: BodyNode) -> str | None:
    """The node's decomposition as a function in ONNX text; None if its operator has no body."""
    bodies = bodies_of(node.operator, node.schema)
    if not bodies:
        return None
    opset = max((one for one in bodies if one <= node.opset), default=min(bodies))
    [text] = call_rule(bodies[opset], (), {}, node)
    return function_text(node.schema, text, opset)


def bodies_of(operator: Operator, schema: Schema) -> dict[int, Rule]:
    """The bodies of ``schema`` by the opset of their nodes, oldest first; one at most, as a rule.

    Which one is for a node is up to its model: the newest that is not newer than its opset.
    """
    rule = operator.rule("body", schema.since_version)
    if rule is None:
        return {}
    since = max(start for start in operator.rules["body"] if start <= schema.since_version)
    newest = operator.body_opsets.get(since, OPSET) or schema.since_version
    return {**operator.older_bodies.get(since, {}), newest: rule}


def function_of(node: BodyNode) -> Function | None:
    """`body_text` as a function, which nodes of one text share; it is not to be changed."""
    text = body_text(node)
    return None if text is None else parsed(text)


def inlined(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """The nodes of ``graph`` in text: they read the body's ``inputs`` and give its ``outputs``.

    The graph's own name goes ahead of every name inside, so that none meets one of the body.
    Raises NotSupported if it reads values from outside, of which the body knows nothing.
    """
    for value in captured_values(graph):
        raise NotSupported(
            f"{graph.label}: a graph whose nodes are written into a body must read its inputs "
            f"alone, found '{value.name}' of a graph around it"
        )
    from fornix.format.messages import GraphProto  # noqa: PLC0415 - nodes that run have no need
    from fornix.format.text import print_node  # noqa: PLC0415 - likewise
    from fornix.ir.writing import Writer  # noqa: PLC0415 - likewise

    copy = graph.clone()
    for inner in (copy, *inner_graphs(copy)):
        for value in own_values(inner):
            value.name = f"{graph.name or 'graph'}/{value.name}"
    message = GraphProto()
    Writer().graph(message, copy, 0)
    nodes = [
        *map(_identity, inputs, (value.name for value in copy.inputs)),
        *map(_constant, message.initializer),
        *message.node,
        *map(_identity, (value.name for value in copy.outputs), outputs),
    ]
    return "\n".join(print_node(node, exact=False) for node in nodes)


def _identity(source: str, target: str) -> NodeProto:
    from fornix.format.messages import NodeProto  # noqa: PLC0415 - nodes that run have no need

    return NodeProto(op_type="Identity", input=[source], output=[target])


def _constant(tensor: TensorProto) -> NodeProto:
    from fornix.format.messages import AttributeProto, NodeProto  # noqa: PLC0415 - as above

    value = AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
    return NodeProto(op_type="Constant", output=[tensor.name], attribute=[value])


@lru_cache(MAX_PARSED)
def parsed(text: str) -> Function:
    """The function in ``text``, as long as it is among those that were asked for last."""
    from fornix.format.messages import ModelProto  # noqa: PLC0415 - nodes that run have no need
    from fornix.format.text import parse_function  # noqa: PLC0415 - likewise
    from fornix.ir.load import from_message  # noqa: PLC0415 - likewise

    model = from_message(ModelProto(functions=[parse_function(text)]))
    return next(iter(model.functions))
