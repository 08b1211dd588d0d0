"""From messages to the graph IR.

Nothing is decoded that need not be: tensors stay in their messages. Nothing is judged either: what
breaks the standard is represented as it is. See `fornix.ir.leftover` for what the IR does not hold.
"""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from math import isnan, prod
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf.unknown_fields import UnknownFieldSet

from fornix.errors import DTypeError
from fornix.format.limits import DEFAULT, Limits
from fornix.format.wire import Skeleton, contents
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.fields import (
    FUNCTION,
    GRAPH,
    KIND_FIELDS,
    MODEL,
    NODE,
    REBUILT,
    SPARSE,
    VALUE,
    attribute_kind,
)
from fornix.ir.graph import Function, Graph, Model, Node, Value
from fornix.ir.leftover import (
    are_plain_names,
    as_dict,
    as_domain,
    as_names,
    as_opsets,
    as_text,
    kept_fields,
    plain_opsets,
)
from fornix.ir.message_tensor import MessageTensor
from fornix.ir.scope import Scope
from fornix.ir.tensor import SparseTensor
from fornix.ir.typemessages import read_type
from fornix.ir.writing import value_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from google.protobuf.message import Message

    from fornix.format.external import Folder
    from fornix.format.messages import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        OperatorSetIdProto,
        SparseTensorProto,
        TensorProto,
        ValueInfoProto,
    )
    from fornix.ir.attribute import AttributeValue
    from fornix.ir.leftover import Modelled


class Reader:
    """Reads messages of one model; ``skeleton`` and ``folder`` find payloads outside of them."""

    def __init__(
        self,
        skeleton: Skeleton[Any] | None = None,
        folder: Folder | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        self.skeleton = skeleton
        self.folder = folder
        self.limits = limits
        self.nodes = 0  # read so far
        self.initializers = 0  # likewise

    def model(self, message: ModelProto) -> Model:
        functions = [self.function(item) for item in message.functions]
        opsets = as_opsets(message.opset_import)
        model = Model(self.graph(message.graph), opsets, message.ir_version, functions)
        model.producer_name = as_text(message.producer_name)
        model.producer_version = as_text(message.producer_version)
        model.domain = as_text(message.domain)
        model.doc_string = as_text(message.doc_string)
        model.model_version = message.model_version
        model.metadata = as_dict(message.metadata_props)
        odd = [x for x in ("ir_version", "model_version") if is_empty(message, x)]
        odd += [x for x in ("graph",) if message.HasField(x) and _says_nothing(message.graph)]
        odd += odd_opsets(message.opset_import)
        model.leftover = self.leftover(MODEL, message, odd)
        return model

    def function(self, message: FunctionProto) -> Function:
        graph = Graph(as_text(message.name))
        self.count(len(message.node), graph)
        scope = Scope(graph)
        graph.inputs = [Value(name) for name in as_names(message.input)]
        for value in graph.inputs:
            scope.define(value)
        for item in message.node:
            self.node(item, scope, 0)
        graph.outputs = [scope.find(name) for name in as_names(message.output)]
        self.value_info(message.value_info, scope, listed=False)
        scope.close()
        function = Function(
            as_domain(message.domain),
            as_text(message.name),
            graph,
            as_opsets(message.opset_import),
            overload=as_text(message.overload),
            attributes=as_names(message.attribute),
        )
        defaults = (self.attribute(item, scope, 0) for item in message.attribute_proto)
        function.defaults = by_name(defaults)
        function.doc_string = as_text(message.doc_string)
        function.metadata = as_dict(message.metadata_props)
        function.leftover = self.leftover(FUNCTION, message, odd_opsets(message.opset_import))
        return function

    def graph(self, message: GraphProto, around: Scope | None = None, depth: int = 0) -> Graph:
        """A graph, inside ``depth`` others; raises LimitError if that is too many."""
        graph = Graph(as_text(message.name))
        self.limits.check("nesting", depth, graph.label)
        self.count(len(message.node), graph)
        graph.doc_string = as_text(message.doc_string)
        graph.metadata = as_dict(message.metadata_props)
        graph.leftover = self.leftover(GRAPH, message)
        scope = Scope(graph, around)
        graph.inputs = [self.value(item) for item in message.input]
        for value in graph.inputs:
            scope.define(value)
        self.initializers += len(message.initializer) + len(message.sparse_initializer)
        self.limits.check("initializers", self.initializers, graph.label)
        for tensor in message.initializer:
            self.initializer(self.tensor(tensor), scope)
        for sparse in message.sparse_initializer:
            self.initializer(self.sparse(sparse), scope)
        for item in message.node:
            self.node(item, scope, depth)
        self.outputs(message.output, scope)
        self.value_info(message.value_info, scope)
        scope.close()
        return graph

    def count(self, nodes: int, graph: Graph) -> None:
        """Count nodes of ``graph``; raises LimitError if they are too many for one model."""
        self.nodes += nodes
        self.limits.check("nodes", self.nodes, graph.label)

    def initializer(self, tensor: MessageTensor | SparseTensor, scope: Scope) -> None:
        """Store a tensor: of the input with its name, or of a value of its own."""
        value = scope.names.get(tensor.name)
        if value is None or value.tensor is not None:
            value = Value(tensor.name)
        value.tensor = tensor
        scope.graph.add_initializer(value)
        scope.define(value)

    def value(self, message: ValueInfoProto) -> Value:
        value = Value(as_text(message.name))
        self.declare(value, message)
        return value

    def declare(self, value: Value, message: ValueInfoProto) -> None:
        """Let ``value`` have what ``message`` says of it."""
        odd = []
        if message.HasField("type"):
            value.type, plain = read_type(message.type)
            odd = [] if plain else ["type"]
        value.doc_string = as_text(message.doc_string)
        if len(message.metadata_props):
            value.metadata = as_dict(message.metadata_props)
        value.leftover = self.leftover(VALUE, message, odd)

    def outputs(self, messages: Iterable[ValueInfoProto], scope: Scope) -> None:
        """Read the outputs; the first declaration of a value is its own, others are alternates."""
        graph = scope.graph
        values = []
        declared = set(graph.inputs)
        for message in messages:
            value = scope.find(as_text(message.name))
            values.append(value)
            if graph.defines(value) and value not in declared:
                self.declare(value, message)
                declared.add(value)
            else:
                raw = message.SerializePartialToString(deterministic=True)
                same = graph.defines(value) and raw == value_bytes(value)
                alternate = None if same else raw
                graph.alternates.setdefault(value, []).append(alternate)
        graph.outputs = values

    def value_info(
        self, messages: Iterable[ValueInfoProto], scope: Scope, *, listed: bool = True
    ) -> None:
        """Read types of values; what is said of others than the graph's own is kept as it is.

        ``listed``: inputs and outputs have declarations already, as they do not in functions.
        """
        graph = scope.graph
        declared = {*graph.inputs, *graph.outputs} if listed else set()
        for message in messages:
            value = scope.names.get(as_text(message.name))
            raw = message.SerializePartialToString(deterministic=True)
            if value is None or value.is_omitted:
                graph.declared.append(raw)
            elif value not in declared:
                self.declare(value, message)
                declared.add(value)
                graph.declared.append(value)
            else:
                graph.declared.append(value if value_bytes(value) == raw else raw)

    def node(self, message: NodeProto, scope: Scope, depth: int) -> None:
        """Read a node and put it at the end of its graph."""
        node = Node(
            as_domain(message.domain),
            as_text(message.op_type),
            [scope.find(name) if name else None for name in as_names(message.input)],
            as_names(message.output),
            by_name(self.attribute(item, scope, depth) for item in message.attribute),
            name=as_text(message.name),
            overload=as_text(message.overload),
        )
        node.doc_string = as_text(message.doc_string)
        if len(message.metadata_props):
            node.metadata = as_dict(message.metadata_props)
        node.leftover = self.leftover(NODE, message)
        scope.graph.adopt(node)
        for value in node.outputs:
            if value.name:
                scope.define(value)

    def attribute(self, message: AttributeProto, scope: Scope, depth: int) -> Attribute:
        present = {field.name: value for field, value in message.ListFields()}
        kind = attribute_kind(present)
        field = KIND_FIELDS.get(kind, "")
        ref = as_text(present["ref_attr_name"]) if "ref_attr_name" in present else None
        value: Any = None
        plain = True
        if field in present or kind.is_list or (ref is None and kind in _SCALARS):
            value, plain = self.held(kind, getattr(message, field), scope, depth)
        attribute = Attribute(as_text(message.name), kind, value, ref, as_text(message.doc_string))
        if not (plain and is_plain(message, present, kind, field)):
            kept = kept_fields(message, present.keys() - (REBUILT & {field}))
            attribute.leftover = self.settled(type(message), kept)
        return attribute

    def held(
        self, kind: AttributeKind, raw: Any, scope: Scope, depth: int
    ) -> tuple[AttributeValue, bool]:
        """The value in the field of ``kind``, and whether writing it plainly gives the same."""
        if kind in _PLAIN:
            return raw, True
        if kind in _NUMBERS:
            return list(raw), True
        if kind is AttributeKind.FLOAT:
            return raw, not isnan(raw)
        if kind is AttributeKind.FLOATS:
            floats = list(raw)
            return floats, not isnan(sum(floats))
        readers: dict[str, Callable[[Any], Any]] = {
            "STRING": as_string,
            "TENSOR": self.tensor,
            "SPARSE_TENSOR": self.sparse,
            "GRAPH": lambda graph: self.graph(graph, scope, depth + 1),
            "TYPE_PROTO": lambda type_: read_type(type_)[0],
        }
        read = readers[kind.name.removesuffix("S")]
        if not kind.is_list:
            return read(raw), kind is not AttributeKind.TYPE_PROTO or read_type(raw)[1]
        plain = kind is not AttributeKind.TYPE_PROTOS or all(read_type(x)[1] for x in raw)
        return [read(item) for item in raw], plain

    def tensor(self, message: TensorProto) -> MessageTensor:
        """A stored tensor; raises LimitError if it says that it is too large."""
        tensor = MessageTensor(message, self.skeleton, self.folder)
        with suppress(DTypeError):  # an element type that does not exist is for others to note
            claimed = tensor.dtype.nbytes(prod(message.dims))
            self.limits.check("tensor_bytes", claimed, f"tensor '{tensor.name}'")
        return tensor

    def sparse(self, message: SparseTensorProto) -> SparseTensor:
        values, indices = self.tensor(message.values), self.tensor(message.indices)
        odd = []
        if message.HasField("values") and not message.values.ByteSize():
            odd.append("values")
        if message.HasField("indices") and not message.indices.ByteSize():
            odd.append("indices")
        leftover = self.leftover(SPARSE, message, odd)
        return SparseTensor(values, indices, tuple(message.dims), leftover)

    def leftover(self, modelled: Modelled, message: Message, odd: Collection[str] = ()) -> bytes:
        return self.settled(modelled.message, modelled.leftover(message, odd))

    def settled(self, kind: type[Message], leftover: bytes) -> bytes:
        """``leftover`` with its payloads in place: it may be written without their skeleton."""
        if self.skeleton is None or self.skeleton.nonce not in leftover:
            return leftover
        part = copy(self.skeleton)
        part.message = kind.FromString(leftover)
        return b"".join(contents(part))


_SCALARS = {AttributeKind.FLOAT, AttributeKind.INT, AttributeKind.STRING}
_PLAIN = {AttributeKind.INT}
_NUMBERS = {AttributeKind.INTS}


def is_plain(
    message: AttributeProto, present: dict[str, Any], kind: AttributeKind, field: str
) -> bool:
    """Whether ``message`` says what an attribute of this kind says, and nothing else."""
    if not message.name or len(UnknownFieldSet(message)):
        return False
    expected = {"name", "type"}
    if message.doc_string:
        expected.add("doc_string")
    if message.ref_attr_name:
        expected.add("ref_attr_name")
    if field in present or (not kind.is_list and "ref_attr_name" not in present):
        expected.add(field)
    texts = (message.name, message.doc_string, message.ref_attr_name)
    return present.keys() == expected and are_plain_names(texts)


def by_name(attributes: Iterable[Attribute]) -> dict[str, Attribute]:
    """Attributes by name; one whose name is taken stands under a key that no valid name is."""
    found: dict[str, Attribute] = {}
    for attribute in attributes:
        key = attribute.name
        found[f"{key}\0{len(found)}" if key in found else key] = attribute
    return found


def as_string(value: bytes) -> str | bytes:
    """A string attribute: text, or bytes if they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def odd_opsets(imports: Iterable[OperatorSetIdProto]) -> list[str]:
    return [] if plain_opsets(imports) else ["opset_import"]


def is_empty(message: ModelProto, field: Literal["ir_version", "model_version"]) -> bool:
    """Whether a number is there and 0."""
    return message.HasField(field) and not getattr(message, field)


def _says_nothing(message: GraphProto) -> bool:
    """Whether its bytes are none; to count those of a graph takes as long as to write it."""
    return not message.ListFields() and not message.ByteSize()
