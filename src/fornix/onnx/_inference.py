"""What inference functions written in Python see of their node: `InferenceContext`.

Between facts, which fornix infers with, and the messages that onnx's interface speaks of. Used by
`defs`, whose schemas have such functions, and by `shape_inference`, which has the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fornix.errors import InferenceError, InvalidArgument
from fornix.format.messages import (
    AttributeProto,
    GraphProto,
    SparseTensorProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
)
from fornix.format.tensors import from_array, to_array
from fornix.ir.dim import Dim
from fornix.ir.graph import Graph
from fornix.ir.tensor import ArrayTensor
from fornix.ir.typemessages import read_type, write_type
from fornix.ir.types import TensorType
from fornix.ir.writing import Writer
from fornix.onnx._attributes import make_attribute
from fornix.onnx._own import owned
from fornix.ops.call import InferNode, bind_attributes, infer_node
from fornix.ops.fact import Fact, tensor

InferenceFunction = Callable[["InferenceContext"], None]


class GraphInferencer:
    """Infers the outputs of a subgraph."""

    def __init__(self, graph: Graph, node: InferNode) -> None:
        self._graph = graph
        self._node = node

    def do_inferencing(
        self, input_types: Sequence[TypeProto], input_data: Sequence[TensorProto | None]
    ) -> list[TypeProto]:
        """Types of the subgraph's outputs, given types and, where known, contents of its inputs."""
        data = [*input_data, *[None] * (len(input_types) - len(input_data))]
        facts = [fact_of(*item) for item in zip(input_types, data, strict=True)]
        return [message_of(fact) for fact in self._node.infer_body(self._graph, facts)]


class InferenceContext:
    """One node: its inputs and attributes, and the types of its outputs to be set."""

    def __init__(
        self, inputs: Sequence[Fact | None], attributes: Mapping[str, Any], node: InferNode
    ) -> None:
        self._inputs = inputs
        self._attributes = attributes
        self._node = node
        self._outputs = [Fact() for _ in node.wanted]

    def get_attribute(self, name: str) -> AttributeProto | None:
        """The attribute, as the node or the schema's default has it; None if there is none."""
        value = self._attributes.get(name)
        if value is None:
            return None
        if isinstance(value, Graph):
            message = GraphProto()
            Writer().graph(message, value, 0)
            return make_attribute(name, message)
        if hasattr(value, "dtype"):
            value = from_array(value)
        formal = self._node.schema.attributes.get(name)
        kind = AttributeProto.AttributeType.Value(formal.kind.upper()) if formal else None
        return make_attribute(name, value, attr_type=kind if isinstance(value, list) else None)

    def get_num_inputs(self) -> int:
        """Number of inputs that the node lists."""
        return len(self._inputs)

    def has_input(self, idx: int) -> bool:
        """Whether the input is there and not omitted."""
        return _natural(idx) < len(self._inputs) and self._inputs[idx] is not None

    def get_input_type(self, idx: int) -> TypeProto | None:
        """The type of an input, None if it is omitted or not known."""
        fact = self._input(idx)
        return None if fact is None or fact.type is None else message_of(fact)

    def get_input_data(self, idx: int) -> TensorProto | None:
        """The contents of an input, if they are known."""
        fact = self._input(idx)
        constant = None if fact is None else fact.constant
        return None if constant is None else from_array(constant)

    def get_input_sparse_data(self, idx: int) -> SparseTensorProto | None:
        """The contents of a sparse input; they are never known."""
        self._input(idx)
        return None

    def get_symbolic_input(self, idx: int) -> TensorShapeProto | None:
        """The contents of an integer input as a shape, symbolic elements included."""
        fact = self._input(idx)
        value = None if fact is None else fact.value
        if value is None:
            return None
        shape = TensorShapeProto()
        for extent in value.reshape(-1):
            dim = shape.dim.add()
            if not isinstance(extent, Dim):
                dim.dim_value = int(extent)
            elif not extent.unknowns:
                dim.dim_param = str(extent)
        return shape

    def get_num_outputs(self) -> int:
        """Number of outputs that the node lists."""
        return len(self._outputs)

    def has_output(self, idx: int) -> bool:
        """Whether the node lists the output."""
        return _natural(idx) < len(self._outputs)

    def get_output_type(self, idx: int) -> TypeProto:
        """The type that an output has got so far."""
        self._check_output(idx)
        return message_of(self._outputs[idx])

    def set_output_type(self, idx: int, type_proto: TypeProto) -> bool:
        """Give an output its type."""
        self._check_output(idx)
        self._outputs[idx] = fact_of(type_proto)
        return True

    def get_graph_attribute_inferencer(self, attr_name: str) -> GraphInferencer:
        """What infers a subgraph; InferenceError for an attribute that is none."""
        graph = self._attributes.get(attr_name)
        if not isinstance(graph, Graph):
            raise InferenceError(f"attribute {attr_name} must be a graph, found none")
        return GraphInferencer(graph, self._node)

    def get_display_name(self) -> str:
        """How messages may call the node."""
        operator = self._node.operator
        return f"node {operator.name}[{operator.domain}]"

    def _input(self, idx: int) -> Fact | None:
        if not 0 <= idx < len(self._inputs):
            raise IndexOutOfRange(f"input {idx}: the node has {len(self._inputs)} inputs")
        return self._inputs[idx]

    def _check_output(self, idx: int) -> None:
        if not self.has_output(idx):
            raise IndexOutOfRange(f"output {idx}: the node has {len(self._outputs)} outputs")


class IndexOutOfRange(InvalidArgument, RuntimeError):
    """An input or output that the node does not have, also for those who catch RuntimeError."""


def rule_of(function: InferenceFunction) -> Callable[..., tuple[Fact, ...]]:
    """``function`` as the rule of an operator."""

    def infer(*inputs: Fact | None, node: InferNode, **attributes: object) -> tuple[Fact, ...]:
        context = InferenceContext(inputs, attributes, node)
        function(context)
        return tuple(context._outputs)  # noqa: SLF001 - the same module

    return infer


def infer_by_rule(context: InferenceContext) -> None:
    """Set the outputs of ``context`` to what the rule of its node's operator says."""
    inside = context._node  # noqa: SLF001 - the same module
    given = bind_attributes(inside.schema, context._attributes)  # noqa: SLF001
    context._outputs = list(infer_node(context._inputs, given, inside))  # noqa: SLF001


def fact_of(message: TypeProto | None, data: TensorProto | None = None) -> Fact:
    """What a type and, where they are known, contents say of a value."""
    stored = None if data is None else ArrayTensor(to_array(owned(data, TensorProto)))
    type_ = None if message is None else read_type(owned(message, TypeProto))[0]
    if type_ is None and stored is not None:
        type_ = TensorType(stored.dtype, stored.shape)
    if isinstance(type_, TensorType) and type_.shape is not None:
        type_ = tensor(type_.dtype, type_.shape).type
    return Fact(type_, None, stored)


def message_of(fact: Fact) -> TypeProto:
    """The type of a fact; extents that are not known stay open."""
    message = TypeProto()
    if fact.type is not None:
        write_type(message, fact.type)
    return message


def _natural(index: int) -> int:
    """``index``; raises TypeError below 0, as where it becomes an unsigned number."""
    if index < 0:
        raise TypeError(f"an index from 0 on is required, found {index}")
    return index
