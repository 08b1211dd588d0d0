"""From the graph IR to messages.

Each message begins as the object's leftover, if it has one, and then gets every modelled field that
does not read as the object's value yet; see `fornix.ir.leftover`. Where payloads go is decided by
`Writer.store`.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from fornix.dtype import STRING
from fornix.errors import GraphError
from fornix.format.limits import DEFAULT, Limits
from fornix.format.messages import TensorProto, ValueInfoProto
from fornix.format.tensors import from_array
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.fields import KIND_FIELDS, attribute_kind
from fornix.ir.leftover import (
    as_domain,
    set_entries,
    set_names,
    set_opsets,
    set_text,
    writable,
)
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.tensor import MappedTensor, SparseTensor
from fornix.ir.typemessages import read_type, set_type

if TYPE_CHECKING:
    from fornix.format.mapped import Payload
    from fornix.format.messages import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        SparseTensorProto,
    )
    from fornix.ir.graph import Function, Graph, Model, Node, Value
    from fornix.ir.tensor import Tensor


class Writer:
    """Writes objects into empty messages; payloads go into `raw_data`."""

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.limits = limits

    def store(self, message: TensorProto, payload: Payload | bytes) -> None:
        """Give ``message`` its payload."""
        message.raw_data = payload if isinstance(payload, bytes) else bytes(payload.view())

    def model(self, message: ModelProto, model: Model) -> None:
        message.MergeFromString(model.leftover)
        if message.ir_version != model.ir_version:
            message.ir_version = model.ir_version
        set_text(message, "producer_name", model.producer_name)
        set_text(message, "producer_version", model.producer_version)
        set_text(message, "domain", model.domain)
        set_text(message, "doc_string", model.doc_string)
        if message.model_version != model.model_version:
            message.model_version = model.model_version
        set_opsets(message.opset_import, model.opset_imports)
        set_entries(message.metadata_props, model.metadata)
        if not is_bare(model.graph):
            self.graph(message.graph, model.graph, 0)
        for function in model.functions:
            self.function(message.functions.add(), function)

    def function(self, message: FunctionProto, function: Function) -> None:
        message.MergeFromString(function.leftover)
        set_text(message, "name", function.name)
        set_text(message, "overload", function.overload)
        set_text(message, "doc_string", function.doc_string)
        if as_domain(message.domain) != function.domain:
            message.domain = writable(function.domain)
        set_names(message.input, [value.name for value in function.graph.inputs])
        set_names(message.output, [value.name for value in function.graph.outputs])
        set_names(message.attribute, function.attributes)
        set_opsets(message.opset_import, function.opset_imports)
        set_entries(message.metadata_props, function.metadata)
        for attribute in function.defaults.values():
            self.attribute(message.attribute_proto.add(), attribute, 0)
        for node in function.graph.nodes:
            self.node(message.node.add(), node, 0)
        self.value_info(message, function.graph, set())

    def graph(self, message: GraphProto, graph: Graph, depth: int) -> None:
        """Write a graph, inside ``depth`` others; raises LimitError if that is too many."""
        self.limits.check("nesting", depth, graph.label)
        message.MergeFromString(graph.leftover)
        set_text(message, "name", graph.name)
        set_text(message, "doc_string", graph.doc_string)
        set_entries(message.metadata_props, graph.metadata)
        for value in graph.inputs:
            write_value(message.input.add(), value)
        self.outputs(message, graph)
        for value in graph.initializer_values:
            if isinstance(value.tensor, SparseTensor):
                self.sparse(message.sparse_initializer.add(), value.tensor, value.name)
            elif value.tensor is not None:
                self.tensor(message.initializer.add(), value.tensor, value.name)
        for node in graph.nodes:
            self.node(message.node.add(), node, depth)
        self.value_info(message, graph, {*graph.inputs, *graph.outputs})

    def outputs(self, message: GraphProto, graph: Graph) -> None:
        declared = set(graph.inputs)
        alternates = {value: iter(items) for value, items in graph.alternates.items()}
        for value in graph.outputs:
            info = message.output.add()
            alternate = None
            if value in declared or not graph.defines(value):
                alternate = next(alternates.get(value, iter(())), None)
            declared.add(value)
            if alternate is not None:
                info.MergeFromString(alternate)
                set_text(info, "name", value.name)
            else:
                write_value(info, value)

    def value_info(
        self, message: GraphProto | FunctionProto, graph: Graph, listed: set[Value]
    ) -> None:
        """Write the types of values: those declared before, in their order, and new ones."""
        written = set(listed)
        for item in graph.declared:
            if isinstance(item, bytes):
                message.value_info.add().MergeFromString(item)
            elif item.graph is graph and not item.is_omitted:
                write_value(message.value_info.add(), item)
                written.add(item)
        for node in graph.nodes:
            for value in node.outputs:
                if value.declared_type is not None and value not in written and value.name:
                    write_value(message.value_info.add(), value)

    def node(self, message: NodeProto, node: Node, depth: int) -> None:
        if node.leftover:
            message.MergeFromString(node.leftover)
        set_text(message, "op_type", node.op_type)
        set_text(message, "name", node.name)
        set_text(message, "overload", node.overload)
        set_text(message, "doc_string", node.doc_string)
        if as_domain(message.domain) != node.domain:
            message.domain = writable(node.domain)
        set_names(message.input, ["" if value is None else value.name for value in node.inputs])
        set_names(message.output, [value.name for value in node.outputs])
        if node.leftover or node.has_metadata:
            set_entries(message.metadata_props, node.metadata)
        for attribute in node.attributes.values():
            self.attribute(message.attribute.add(), attribute, depth)

    def attribute(self, message: AttributeProto, attribute: Attribute, depth: int) -> None:
        kind = attribute.kind
        plain = attribute.leftover is None
        message.MergeFromString(attribute.leftover or b"")
        set_text(message, "name", attribute.name)
        set_text(message, "doc_string", attribute.doc_string)
        if attribute.ref is not None:
            set_text(message, "ref_attr_name", attribute.ref)
        elif message.ref_attr_name:
            message.ClearField("ref_attr_name")
        if attribute.value is not None:
            self.held(message, attribute, depth, plain=plain)
        if plain or read_kind(message) is not kind:
            message.type = int(kind)

    def held(
        self, message: AttributeProto, attribute: Attribute, depth: int, *, plain: bool
    ) -> None:
        """Write the value; ``plain``: nothing of it is left over."""
        kind = attribute.kind
        field = KIND_FIELDS.get(kind)
        if field is None:
            raise GraphError(f"attribute '{attribute.name}': a kind is required, found undefined")
        if kind in _DATA:
            set_data(message, field, attribute.value, plain=plain)
        elif kind is AttributeKind.TYPE_PROTO:
            set_type(message.tp, attribute.value)
        else:
            self.children(getattr(message, field), attribute, depth)

    def children(self, field: Any, attribute: Attribute, depth: int) -> None:
        """Write tensors, graphs or types into the ``field`` for the kind of ``attribute``."""
        kind, value = attribute.kind, attribute.value
        if kind is AttributeKind.TYPE_PROTOS and [read_type(x)[0] for x in field] == value:
            return
        write = {
            "TENSOR": lambda message, tensor: self.tensor(message, tensor, None),
            "SPARSE_TENSOR": lambda message, tensor: self.sparse(message, tensor, None),
            "GRAPH": lambda message, graph: self.graph(message, graph, depth + 1),
            "TYPE_PROTO": set_type,
        }[kind.name.removesuffix("S")]
        if not kind.is_list:
            field.SetInParent()
            write(field, value)
            return
        del field[:]
        for item in value:
            write(field.add(), item)

    def tensor(self, message: TensorProto, tensor: Tensor, name: str | None) -> None:
        """Write a tensor, under another ``name`` than its own if one is given."""
        if isinstance(tensor, MessageTensor):
            self.message_tensor(message, tensor)
        elif isinstance(tensor, MappedTensor):
            if tensor.message is not None:
                message.CopyFrom(tensor.message)
            set_layout(message, tensor)
            self.store(message, tensor.payload)
        elif tensor.dtype is STRING:
            message.CopyFrom(from_array(tensor.numpy(), tensor.name))
        else:
            set_layout(message, tensor)
            self.store(message, tensor.tobytes())
        if name is not None:
            set_text(message, "name", name)

    def message_tensor(self, message: TensorProto, tensor: MessageTensor) -> None:
        """Copy a tensor's message; a reference to external data stays one."""
        message.CopyFrom(tensor.message)
        if tensor.skeleton is not None:
            payload = tensor.skeleton.marked(message.raw_data)
            if payload is not None:
                self.store(message, payload)

    def sparse(self, message: SparseTensorProto, tensor: SparseTensor, name: str | None) -> None:
        message.MergeFromString(tensor.leftover)
        values, indices = TensorProto(), TensorProto()
        self.tensor(values, tensor.values, name)
        self.tensor(indices, tensor.indices, None)
        if values.ByteSize():
            message.values.MergeFrom(values)
        if indices.ByteSize():
            message.indices.MergeFrom(indices)
        message.dims.extend(tensor.shape)


_STRINGS = {AttributeKind.STRING, AttributeKind.STRINGS}
_DATA = _STRINGS | {
    AttributeKind.INT,
    AttributeKind.INTS,
    AttributeKind.FLOAT,
    AttributeKind.FLOATS,
}


def write_value(message: ValueInfoProto, value: Value) -> None:
    """Write what is declared of ``value``: name, type, documentation."""
    if value.leftover:
        message.MergeFromString(value.leftover)
    set_text(message, "name", value.name)
    if value.declared_type is not None or message.HasField("type"):
        set_type(message.type, value.declared_type)
    set_text(message, "doc_string", value.doc_string)
    if value.leftover or value.has_metadata:
        set_entries(message.metadata_props, value.metadata)


def value_bytes(value: Value) -> bytes:
    """The message of ``value``, serialized."""
    message = ValueInfoProto()
    write_value(message, value)
    return message.SerializePartialToString(deterministic=True)


def set_data(message: AttributeProto, field: str, value: Any, *, plain: bool) -> None:
    """Let numbers or strings read as ``value``; ``plain``: write them even if they do already."""
    found: Any = getattr(message, field)
    if not isinstance(value, list):
        data = value.encode() if isinstance(value, str) else value
        if plain or not (found == data or (isinstance(data, float) and isnan(data))):
            setattr(message, field, data)
        return
    items = [item.encode() if isinstance(item, str) else item for item in value]
    if repr(list(found)) != repr(items):  # NaN is written as NaN, and so the same
        del found[:]
        found.extend(items)


def set_layout(message: TensorProto, tensor: Tensor) -> None:
    """Let dims, element type and name read as those of ``tensor``."""
    if tuple(message.dims) != tensor.shape:
        del message.dims[:]
        message.dims.extend(tensor.shape)
    if message.data_type != tensor.dtype.code:
        message.data_type = tensor.dtype.code
    if tensor.name:
        set_text(message, "name", tensor.name)


def read_kind(message: AttributeProto) -> AttributeKind:
    """The kind that ``message`` has for a reader."""
    return attribute_kind({field.name: value for field, value in message.ListFields()})


def is_bare(graph: Graph) -> bool:
    """Whether there is nothing to write of ``graph``."""
    held = (graph.name, graph.doc_string, graph.metadata, graph.leftover, graph.declared)
    kept = (graph.inputs, graph.outputs, graph.initializer_values, len(graph.nodes))
    return not any(held) and not any(kept)
