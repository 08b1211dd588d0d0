"""Models, graphs, functions, nodes, attributes, tensors and types from ONNX text.

Accepts what the standard's parser accepts, gives equal messages, and reads besides what fornix
writes for the rest: notes, quoted names wherever a name may stand, lists of tensors, graphs and
types, sparse tensors. Whether the model makes sense is left to the checker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from fornix.format.messages import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)
from fornix.format.text.elements import read_list, store
from fornix.format.text.notes import float32
from fornix.format.text.tokens import FLOAT, IDENTIFIER, INTEGER, STRING, Tokens
from fornix.format.text.value_parser import TYPE_WORDS, ValueParser

# Attribute types by their word, and the list type of each.
KINDS = {
    value.name.lower(): value.number
    for value in AttributeProto.AttributeType.DESCRIPTOR.values
    if value.number
}
LIST_OF = {KINDS[word]: KINDS[f"{word}s"] for word in KINDS if f"{word}s" in KINDS}
KIND_WORDS = {number: word for word, number in KINDS.items()}
ELEMENT_OF = {many: one for one, many in LIST_OF.items()}
MODEL_HEADER = (
    "ir_version", "opset_import", "producer_name", "producer_version", "domain", "model_version",
    "doc_string", "metadata_props",
)  # fmt: skip
FUNCTION_HEADER = ("domain", "overload", "opset_import", "doc_string")

_M = TypeVar("_M", bound=Message)


class Parser(ValueParser):
    """Recursive descent over `Tokens`; each method fills the message that it is given."""

    __slots__ = ()

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(tokens)
        self.fields.natural["GraphProto"] = self.graph

    # Models and functions

    def model(self, model: ModelProto) -> None:
        """A header, a graph and functions."""
        last_word = ModelProto()
        names = [name for name in self.preamble(last_word) if name != "defaults"]
        if self.tokens.word == "<":
            self._header(model, MODEL_HEADER)
        self.graph(model.graph)
        while self.tokens.kind != "end":
            self.function(model.functions.add())
        fields: Message = model  # whose ClearField takes any name
        for name in names:
            fields.ClearField(name)
        model.MergeFrom(last_word)

    def _header(self, message: ModelProto | FunctionProto, among: tuple[str, ...]) -> None:
        self.tokens.expect("<")
        goes_on = True
        while goes_on:
            name = self.fields.name(message, among=among)
            self.fields.value(message, name)
            goes_on = self.tokens.more(">", f"after field '{name}'")

    def function(self, function: FunctionProto) -> None:
        """A header, then a name with attributes, inputs, outputs, values and nodes."""
        tokens = self.tokens
        if tokens.word == "<":
            self._header(function, FUNCTION_HEADER)
        name = tokens.identifier_or_string("the name of a function")
        function.name = name
        if tokens.accept("<"):
            self._formal_attributes(function)
        tokens.expect("(", f"ahead of the inputs of function '{name}'")
        self._formals(function, function.input)
        tokens.expect("=>", f"after the inputs of function '{name}'")
        tokens.expect("(", f"ahead of the outputs of function '{name}'")
        self._formals(function, function.output)
        if tokens.accept("<"):
            self.values(function.value_info, ">")
        self._nodes(function.node)
        self.note(function)

    def _formal_attributes(self, function: FunctionProto) -> None:
        tokens = self.tokens
        goes_on = True
        while goes_on:
            if tokens.after().text in {":", "="}:
                self.attribute(function.attribute_proto.add(), is_formal=True)
            else:
                function.attribute.append(tokens.identifier_or_string("the name of an attribute"))
            goes_on = tokens.more(">", "after an attribute")

    def _formals(self, function: FunctionProto, names: Any) -> None:
        """Names, which go to ``names``; those with a type also to the function's values."""
        tokens = self.tokens
        goes_on = not tokens.accept(")")
        while goes_on:
            if tokens.kind == IDENTIFIER and tokens.word in TYPE_WORDS:
                value = function.value_info.add()
                self.value_info(value)
                name = value.name
            else:
                name = tokens.identifier_or_string("the name of a value")
            names.append(name)
            goes_on = tokens.more(")", f"after '{name}'")

    # Graphs and nodes

    def graph(self, graph: GraphProto) -> None:
        """``name (inputs) => (outputs) <values and initializers> {nodes}``."""
        tokens = self.tokens
        tokens.enter()
        graph.name = name = tokens.identifier_or_string("the name of a graph")
        tokens.expect("(", f"ahead of the inputs of graph '{name}'")
        self._inputs(graph)
        tokens.expect("=>", f"after the inputs of graph '{name}'")
        tokens.expect("(", f"ahead of the outputs of graph '{name}'")
        self.values(graph.output, ")")
        if tokens.accept("<"):
            self._values_and_initializers(graph)
        self._nodes(graph.node)
        self.note(graph)
        tokens.leave()

    def _inputs(self, graph: GraphProto) -> None:
        tokens = self.tokens
        goes_on = not tokens.accept(")")
        while goes_on:
            start = tokens.start
            value = graph.input.add()
            self.value_info(value)
            if tokens.word == "=":
                self._initializer(graph.initializer.add(), value, start)
            goes_on = tokens.more(")", f"after input '{value.name}'")

    def _values_and_initializers(self, graph: GraphProto) -> None:
        tokens = self.tokens
        goes_on = not tokens.accept(">")
        while goes_on:
            start, value = tokens.start, ValueInfoProto()
            self.value_info(value)
            if tokens.word == "=":
                self._initializer(graph.initializer.add(), value, start)
            else:
                graph.value_info.append(value)
            goes_on = tokens.more(">", f"after '{value.name}'")

    def _initializer(self, tensor: TensorProto, value: ValueInfoProto, start: int) -> None:
        self.tensor_header(tensor, value.type, start)
        tensor.name = value.name
        self.payload(tensor)

    def _nodes(self, nodes: Any) -> None:
        self.tokens.expect("{", "ahead of the nodes")
        while not self.tokens.accept("}"):
            self.node(nodes.add())

    def node(self, node: NodeProto) -> None:
        """``[name] outputs = domain.operator:overload <attributes> (inputs)``."""
        tokens = self.tokens
        if tokens.accept("["):
            node.name = ""
            if tokens.word != "]":
                node.name = tokens.identifier_or_string("the name of a node")
            tokens.expect("]", "after the name of the node")
        self._names(node.output, "=", "output")
        self._operator(node)
        comes_first = tokens.accept("<")
        if comes_first:
            self._attributes(node)
        tokens.expect("(", f"ahead of the inputs of {node.op_type}")
        self._names(node.input, ")", "input")
        if not comes_first and tokens.accept("<"):
            self._attributes(node)
        self.note(node)

    def _names(self, names: Any, close: str, what: str) -> None:
        """Names up to ``close``; nothing ahead of a comma is the empty name."""
        tokens = self.tokens
        while tokens.word != close:
            name = ""
            if tokens.word != ",":
                name = tokens.identifier_or_string(f"the name of an {what}")
            names.append(name)
            if not tokens.accept(",") and tokens.word != close:
                raise tokens.expected(f"',' or '{close}'", f"after {what} '{name}'")
        tokens.advance()

    def _operator(self, node: NodeProto) -> None:
        tokens = self.tokens
        tokens.accept(".")
        name, domain = tokens.identifier_or_string("the name of an operator"), ""
        while tokens.accept("."):
            domain += f".{name}" if domain else name
            name = tokens.identifier_or_string("the name of an operator")
        node.op_type = name
        if domain or "no_domain" not in self.defaults:
            node.domain = domain
        if tokens.accept(":"):
            node.overload = tokens.identifier_or_string("the overload of an operator")

    # Attributes

    def _attributes(self, node: NodeProto) -> None:
        goes_on = True
        while goes_on:
            attribute = node.attribute.add()
            self.attribute(attribute)
            goes_on = self.tokens.more(">", f"after attribute '{attribute.name}'")

    def attribute(self, attribute: AttributeProto, *, is_formal: bool = False) -> None:
        """``name: type = value``, the type only if the value does not tell it.

        The attribute of a function (``is_formal``) may have no value.
        """
        tokens = self.tokens
        attribute.name = name = tokens.identifier_or_string("the name of an attribute")
        kind = self._kind(name) if tokens.accept(":") else 0
        if is_formal and kind > 0 and tokens.word != "=":
            attribute.type = kind
        else:
            tokens.expect("=", f"after attribute '{name}'")
            self._value(attribute, kind)
        self.note(attribute)

    def _value(self, attribute: AttributeProto, kind: int) -> None:
        tokens = self.tokens
        if tokens.accept("@"):
            attribute.ref_attr_name = tokens.identifier_or_string("the name of an attribute")
            if kind > 0:
                attribute.type = kind
        elif kind < 0:
            raise tokens.expected("'@'", "after the type 'undefined'")
        elif tokens.word == "[":
            attribute.type = self._list(attribute, kind)
        else:
            attribute.type = self._single(attribute, kind)

    def _kind(self, name: str) -> int:
        """The number of the type at the cursor, −1 for "undefined", which a reference may have."""
        if self.tokens.accept("undefined"):
            return -1
        if self.tokens.word not in KINDS:
            raise self.tokens.expected(f"one of {', '.join(KINDS)} as type of attribute '{name}'")
        return KINDS[self.tokens.next().text]

    def _single(self, attribute: AttributeProto, kind: int) -> int:
        """Read the value of ``attribute``; its kind, which must be ``kind`` unless that is 0."""
        tokens = self.tokens
        start, found = tokens.start, self._next_kind(kind)
        if found == AttributeProto.INT:
            if kind == AttributeProto.FLOAT:
                attribute.f = float32(tokens)
                return kind
            attribute.i = tokens.integer()
        elif found == AttributeProto.FLOAT:
            attribute.f = float32(tokens)
        elif found == AttributeProto.STRING:
            attribute.s = tokens.raw_string()
        elif found == AttributeProto.GRAPH:
            self.graph(attribute.g)
        elif found == AttributeProto.SPARSE_TENSOR:
            attribute.sparse_tensor.SetInParent()
            self.fields.read(attribute.sparse_tensor)
        else:
            found = self._tensor_or_type(lambda: attribute.t, lambda: attribute.tp)
        self._agree(found, kind, start)
        return found

    def _list(self, attribute: AttributeProto, kind: int) -> int:
        """Read the values of ``attribute``; their kind, which must be ``kind`` unless that is 0."""
        tokens = self.tokens
        tokens.advance()
        if kind in ELEMENT_OF and tokens.accept("]"):
            return kind
        kind = LIST_OF.get(kind, kind)  # the standard's parser takes "a: int = [1, 2]" as well
        start, found = tokens.start, self._next_kind(ELEMENT_OF.get(kind, 0))
        if found in {AttributeProto.INT, AttributeProto.FLOAT}:
            return self._numbers(attribute, kind or LIST_OF[found])
        goes_on = True
        while goes_on:
            found = self._element(attribute, found)
            self._agree(LIST_OF[found], kind, start)
            kind, goes_on = LIST_OF[found], tokens.more("]", "after an element")
            start = tokens.start
            if goes_on:
                found = self._next_kind(found)
        return kind

    def _numbers(self, attribute: AttributeProto, kind: int) -> int:
        tokens, start = self.tokens, self.tokens.start
        if kind == AttributeProto.FLOATS:
            attribute.floats.extend(self._floats())
        elif kind == AttributeProto.INTS:
            values = [int(value) for value in read_list(tokens, "]", "integer")]
            if max(values) >= 2**63:
                tokens.seek(start)
                raise tokens.error("expected integers of 64 bits, found greater ones")
            attribute.ints.extend(values)
        else:
            self._agree(self._next_kind(0), ELEMENT_OF[kind], start)
        return kind

    def _floats(self) -> list[float]:
        scratch, start = TensorProto(data_type=TensorProto.FLOAT), self.tokens.start
        values = read_list(self.tokens, "]", "float")
        index = store(scratch, values, raw=False)
        if index is not None:
            self.tokens.seek(start)
            raise self.tokens.error(
                f"expected numbers in the range of float, found {values[index]}"
            )
        return values

    def _element(self, attribute: AttributeProto, found: int) -> int:
        if found == AttributeProto.STRING:
            attribute.strings.append(self.tokens.raw_string("a string"))
        elif found == AttributeProto.GRAPH:
            self.graph(attribute.graphs.add())
        elif found == AttributeProto.SPARSE_TENSOR:
            self.fields.read(attribute.sparse_tensors.add())
        elif found in {AttributeProto.TENSOR, AttributeProto.TYPE_PROTO}:
            return self._tensor_or_type(attribute.tensors.add, attribute.type_protos.add)
        else:
            raise self.tokens.expected(f"an element like the first, a {KIND_WORDS[found]}")
        return found

    def _agree(self, found: int, kind: int, start: int) -> None:
        if kind and found != kind:
            message = f"expected a value of type {KIND_WORDS[kind]}, found {KIND_WORDS[found]}"
            raise self.tokens.error(message, start)

    def _next_kind(self, wanted: int) -> int:
        """What the value at the cursor is: by its first token, TENSOR may turn out TYPE_PROTO."""
        tokens = self.tokens
        if tokens.kind == INTEGER:
            return AttributeProto.INT
        if tokens.kind == STRING:
            return AttributeProto.GRAPH if tokens.after().text == "(" else AttributeProto.STRING
        if tokens.kind == IDENTIFIER:
            if tokens.word in TYPE_WORDS:
                return AttributeProto.TENSOR
            return AttributeProto.FLOAT if tokens.at_float() else AttributeProto.GRAPH
        if tokens.kind == FLOAT:
            return AttributeProto.FLOAT
        if tokens.word == "{" and wanted == AttributeProto.SPARSE_TENSOR:
            return wanted
        raise tokens.expected("a value (a number, string, tensor, type or graph)")

    def _tensor_or_type(
        self, tensor: Callable[[], TensorProto], type_: Callable[[], TypeProto]
    ) -> int:
        """Read a tensor, or a type if nothing of a tensor follows; which of them it was."""
        tokens, start, head = self.tokens, self.tokens.start, TypeProto()
        self.type(head)
        if tokens.kind in {IDENTIFIER, STRING} or tokens.word in {"=", "{", "[", "..."}:
            self.tensor_body(tensor(), head, start)
            return AttributeProto.TENSOR
        type_().CopyFrom(head)
        return AttributeProto.TYPE_PROTO


def _parse(
    text: str, name: str, target: _M, read: Callable[[Parser, _M], None], *, whole: bool = True
) -> _M:
    parser = Parser(Tokens(text, name))
    if not isinstance(target, ModelProto):
        parser.preamble(target)
    read(parser, target)
    if whole and parser.tokens.kind != "end":
        raise parser.tokens.expected("the end of the text")
    return target


def parse_model(text: str, name: str = "<string>") -> ModelProto:
    """The model in ``text``; errors call it ``name``."""
    return _parse(text, name, ModelProto(), Parser.model)


def parse_graph(text: str, name: str = "<string>", *, whole: bool = True) -> GraphProto:
    """The graph in ``text``, behind which something may follow unless it is the ``whole``."""
    return _parse(text, name, GraphProto(), Parser.graph, whole=whole)


def parse_function(text: str, name: str = "<string>", *, whole: bool = True) -> FunctionProto:
    """The function in ``text``, behind which something may follow unless it is the ``whole``."""
    return _parse(text, name, FunctionProto(), Parser.function, whole=whole)


def parse_node(text: str, name: str = "<string>", *, whole: bool = True) -> NodeProto:
    """The node in ``text``, behind which something may follow unless it is the ``whole``."""
    return _parse(text, name, NodeProto(), Parser.node, whole=whole)


def parse_attribute(text: str, name: str = "<string>") -> AttributeProto:
    """The attribute in ``text``, as in the attribute list of a node."""
    return _parse(text, name, AttributeProto(), Parser.attribute)


def parse_tensor(text: str, name: str = "<string>") -> TensorProto:
    """The tensor in ``text``, as in the value of an attribute."""
    return _parse(text, name, TensorProto(), Parser.tensor)


def parse_type(text: str, name: str = "<string>") -> TypeProto:
    """The type in ``text``."""
    return _parse(text, name, TypeProto(), lambda parser, type_: parser.fields.message(type_))


def parse_value_info(text: str, name: str = "<string>") -> ValueInfoProto:
    """The value in ``text``, as among the inputs of a graph."""
    return _parse(text, name, ValueInfoProto(), Parser.value_info)
