"""Building what replaces a match: ``make.Conv(x, W, group=2)`` gives the new node's value.

A `Maker` stands at one node. New nodes go ahead of it, arrays become initializers, and what is
known of new values is inferred at once, so that later rules may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fornix.errors import FornixError
from fornix.infer import Inference
from fornix.infer.model import infer_alone
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ops.fact import Fact

Input = Value | np.ndarray[Any, Any] | None


class Maker:
    """Makes nodes ahead of ``anchor``."""

    def __init__(self, anchor: Node, graph: Graph, inference: Inference) -> None:
        self._anchor = anchor
        self._graph = graph
        self._inference = inference

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        def make(*inputs: Input, domain: str = "", **attributes: Any) -> Value:
            return self.node(op_type, inputs, attributes, domain=domain)

        return make

    def node(
        self,
        op_type: str,
        inputs: tuple[Input, ...],
        attributes: dict[str, Any],
        *,
        domain: str = "",
    ) -> Value:
        """The first result of a new node; attributes that are None are left out."""
        given = {name: value for name, value in attributes.items() if value is not None}
        # NumPy gives scalars, not arrays without axes, for arithmetic of such arrays
        values = [
            x if x is None or isinstance(x, Value) else self.value(np.asarray(x)) for x in inputs
        ]
        while values and values[-1] is None:
            values.pop()
        made = Node(domain, op_type, values, 1, given, name=self._anchor.name)
        made.metadata.update(self._anchor.metadata)
        self._graph.insert_before(self._anchor, made)
        self._inference.update([made])
        return made.output

    def value(self, array: np.ndarray[Any, Any]) -> Value:
        """A new initializer that holds ``array``."""
        name = self._graph.fresh_name(f"{self._anchor.name or self._anchor.op_type}_constant")
        stored = self._graph.add_initializer(ArrayTensor(array, name), name)
        self._inference.facts[stored] = Fact(stored.type, None, stored.tensor)
        return stored

    def fact(self, value: Value) -> Fact:
        """What is known of ``value``."""
        return self._inference.fact(value)

    def own_fact(self, node: Node) -> Fact:
        """What the rule of ``node`` says of its first result, whatever the model declares of it.

        Only this is certain: a declaration may be wrong, and whoever runs the node finds out.
        """
        try:
            return infer_alone(node, self._inference)[0]
        except FornixError:
            return Fact()

    @property
    def opset(self) -> int:
        """Version of ai.onnx that the model imports; 0 if it does not."""
        return self._inference.imports.get("", 0)

    def imports(self, domain: str) -> bool:
        """Whether the model may have operators of ``domain``."""
        return domain in self._inference.imports
