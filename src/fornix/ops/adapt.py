"""What adapters share: attributes that become inputs between two opsets, and the way back.

An adapter is called with a node and its graph and edits the node in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fornix.errors import ConvertError
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Node

if TYPE_CHECKING:
    from fornix.ir.graph import Graph


def attribute_to_input(node: Node, graph: Graph, name: str, index: int) -> None:
    """Let attribute ``name``, a list of integers, be input ``index`` instead: a Constant.

    A node, not an initializer: bodies of functions have no initializers. Without the attribute,
    nothing changes.
    """
    attribute = node.remove_attribute(name)
    if attribute is None:
        return
    if attribute.ref is not None:  # in a function, whose caller gives the value
        held = Attribute("value_ints", AttributeKind.INTS, None, attribute.ref)
    else:
        held = Attribute.of("value", np.array(attribute.value, np.int64))
    source = Node("", "Constant", attributes={held.name: held})
    graph.insert_before(node, source)
    node.set_input(index, source.output)


def input_to_attribute(node: Node, graph: Graph, name: str, index: int, opset: int) -> None:
    """Let input ``index``, which must be a constant, be attribute ``name`` instead.

    Without the input, nothing changes. Raises ConvertError if it is computed at run time, which
    ``opset`` has no way to say.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return
    if value.constant is None:
        raise ConvertError(
            f"opset {opset} takes {name} as an attribute, so it must be a constant, but "
            f"'{value.name}' is computed at run time"
        )
    node.set_attribute(name, value.constant.numpy().reshape(-1).tolist(), AttributeKind.INTS)
    node.inputs = node.inputs[:index]
    source = value.producer
    if source is not None and source.graph is graph and not value.is_used:
        graph.remove(source)
