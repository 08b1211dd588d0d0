"""What evaluators of onnx have as attributes with a trailing underscore: their parts.

All of it is made when somebody asks; evaluation itself does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fornix import reference
from fornix.format.messages import GraphProto, NodeProto, TensorProto, TypeProto
from fornix.ir.graph import Graph, Node
from fornix.ir.load import to_message
from fornix.onnx.reference._custom import message_of_node, run_params
from fornix.onnx.reference.op_run import OpFunction, OpRun, OpRunExpand
from fornix.onnx.reference.ops import load_op


class Parts(reference.ReferenceEvaluator):
    """An evaluator that tells what it consists of."""

    proto_: Any
    given_functions: list[Any]
    """Functions beside those of the model."""
    new_ops_: Mapping[tuple[str, str], type[OpRun]]

    def show(self, level: int, pattern: str, *args: Any) -> None:
        """Print from ``level`` of ``verbose`` on."""
        raise NotImplementedError

    @property
    def input_names_(self) -> list[str]:
        """Names of the inputs."""
        return self.input_names

    @property
    def output_names_(self) -> list[str]:
        """Names of the outputs."""
        return self.output_names

    @property
    def opsets_(self) -> dict[str, int]:
        """Opset imports."""
        return self.opsets

    @cached_property
    def onnx_graph_(self) -> GraphProto | None:
        """The graph; of a function None."""
        return None if self._is_function else to_message(self.model).graph

    @property
    def nodes_(self) -> Sequence[NodeProto]:
        """The nodes."""
        graph = self.onnx_graph_
        nodes: Sequence[NodeProto] = self.proto_.node if graph is None else graph.node
        return nodes

    @property
    def inits_(self) -> Sequence[TensorProto]:
        """The initializers."""
        graph = self.onnx_graph_
        return [] if graph is None else list(graph.initializer)

    @property
    def rt_inits_(self) -> dict[str, np.ndarray[Any, Any]]:
        """The data of the initializers by name."""
        stored = self.model.graph.initializer_values
        return {v.name: v.tensor.numpy() for v in stored if v.tensor is not None}

    @property
    def attributes_(self) -> list[str]:
        """Names of the attributes of a function."""
        return list(self.proto_.attribute) if self._is_function else []

    @property
    def all_types_(self) -> dict[str, TypeProto]:
        """The types that the graph declares, by name."""
        graph = self.onnx_graph_
        declared = () if graph is None else (*graph.input, *graph.value_info, *graph.output)
        return {info.name: info.type for info in declared}

    @cached_property
    def functions_(self) -> dict[tuple[str, str], Any]:
        """An evaluator of the same class for each function, which knows all of them."""
        if self._is_function:
            return {}
        functions = list(to_message(self.model).functions)
        new_ops = list(self.new_ops_.values()) or None
        return {
            (f.domain, f.name): type(self)(  # type: ignore[call-arg] # as the façade's class
                f, functions=functions, verbose=self.verbose, new_ops=new_ops
            )
            for f in functions
        }

    @cached_property
    def rt_nodes_(self) -> list[OpRun]:
        """Each node as something that runs."""
        return [self._running(node) for node in self._body.nodes]

    @property
    def _is_function(self) -> bool:
        return getattr(getattr(self.proto_, "DESCRIPTOR", None), "name", "") == "FunctionProto"

    @property
    def _body(self) -> Graph:
        """The graph that is evaluated; of a function its own, and not that of the call."""
        if not self._is_function:
            return self.model.graph
        return next(iter(self.model.functions)).graph

    def _running(self, node: Node) -> OpRun:
        message, params = message_of_node(node, node.attributes), run_params(self)
        kind = self.new_ops_.get((node.domain, node.op_type))
        if kind is not None and not issubclass(kind, OpRunExpand):
            return kind(message, params)
        function = self.functions_.get((node.domain, node.op_type))
        if function is not None:
            return OpFunction(message, params, function)
        made: OpRun = load_op(node.domain, node.op_type, self._opset(node))(message, params)
        return made

    def _opset(self, node: Node) -> int | None:
        return self.opsets.get(node.domain)
