"""Models, graphs, functions, nodes, attributes, tensors and types as ONNX text.

The text is the standard's, so that its own parser reads it, and whatever the standard has no words
for stands in notes, so that ours gives back an equal message. Two things cannot be kept: fields
unknown to this version of the standard, and the payload bits of NaNs outside of `raw_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    own,
)
from fornix.format.text.notes import is_pair, quote
from fornix.format.text.parser import (
    ELEMENT_OF,
    FUNCTION_HEADER,
    KIND_WORDS,
    MODEL_HEADER,
)
from fornix.format.text.value_parser import DEFAULTS
from fornix.format.text.value_printer import (
    ValuePrinter,
    name_text,
    names_text,
    operator_text,
    qualified,
    with_commas,
)

# The field of an AttributeProto that holds the value, by type.
_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
} | {many: KIND_WORDS[many] for many in ELEMENT_OF}
# What stands where the notation has no word for the value, and what the parser makes of it: the
# field and the type, which a note corrects.
_STAND_INS = {
    AttributeProto.FLOAT: ("0.0", "f", AttributeProto.FLOAT),
    AttributeProto.STRING: ('""', "s", AttributeProto.STRING),
}
_INT_STAND_IN = ("0", "i", AttributeProto.INT)
_GRAPHS = frozenset({AttributeProto.GRAPH, AttributeProto.GRAPHS})
_SPARSE = frozenset({AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS})
_WITH_NOTE = frozenset({AttributeProto.TENSOR, AttributeProto.GRAPH})
# Fields that have words of their own; the others go to notes.
_FUNCTION = (
    *("name", "input", "output", "attribute", "attribute_proto", "value_info", "node"),
    *FUNCTION_HEADER,
)
_GRAPH = ("name", "input", "output", "value_info", "initializer", "node")
_MODEL = (*MODEL_HEADER, "graph", "functions")
_NODE = ("input", "output", "name", "op_type", "domain", "overload", "attribute")

_M = TypeVar("_M", bound=Message)


class Printer(ValuePrinter):
    """Writes messages; see `ValuePrinter` for its state."""

    __slots__ = ()
    spells_types = False  # of attributes whose value tells it

    def __init__(self, elide: int | None = None, *, exact: bool = True) -> None:
        super().__init__(elide, exact=exact)
        self.writer.natural["GraphProto"] = self.on_one_line(self.graph)

    # Models and functions

    def model(self, model: ModelProto) -> str:
        """A header, the graph and the functions."""
        parts = [self.graph(model.graph), *map(self.function, model.functions)]
        return self._header(model, MODEL_HEADER) + "".join(map(_ended, parts))

    def preamble(self, message: Message) -> str:
        """The note ahead of everything else, which is written first but known last."""
        fields = []
        if isinstance(message, ModelProto):
            fields += [] if message.HasField("graph") else ["graph: none"]
            fields += self._rest(message, _MODEL)
        words = [word for word in DEFAULTS if self.defaults.get(word)]
        defaults = [f"defaults: [{', '.join(words)}]"] if words else []
        return self.note(defaults + fields).lstrip()

    def function(self, function: FunctionProto) -> str:
        """A header, a name with attributes, inputs, outputs, values and nodes."""
        attributes = [name_text(name) for name in function.attribute]
        attributes += [self.attribute(each, is_formal=True) for each in function.attribute_proto]
        head = f"{self._header(function, FUNCTION_HEADER)}{name_text(function.name)} "
        if attributes:
            head += self._formals(attributes)
        head += f"({names_text(function.input)}) => ({names_text(function.output)})"
        values = self.inside(lambda: [self.value_info(each) for each in function.value_info])
        fields = self.absent(function, "name")
        fields += self._rest(function, _FUNCTION)
        return f"{head}{self._body(function, values)}{self.note(fields)}"

    def _formals(self, attributes: list[str]) -> str:
        return f"<{with_commas(attributes)}> "

    def _header(self, message: ModelProto | FunctionProto, names: Sequence[str]) -> str:
        self.writer.keep, self.writer.pairs_only = self.keep, True
        present = {field.name: (field, value) for field, value in message.ListFields()}
        lines = [
            f"{self.newline}    {name}: {self.writer.value(*present[name])}"
            for name in names
            if name in present
        ]
        self.writer.keep, self.writer.pairs_only = frozenset(), False
        return f"<{','.join(lines)}{self.newline}>{self.newline}" if lines else ""

    def _rest(self, message: ModelProto | FunctionProto, known: Sequence[str]) -> list[str]:
        """The fields that are not ``known``, and lists of pairs that miss a half."""
        halves = {
            name
            for name in ("opset_import", "metadata_props")
            if self.keeps_presence
            and name in known
            and not all(map(is_pair, getattr(message, name)))
        }
        return self.writer.fields(message, set(known) - halves)

    # Graphs and nodes

    def graph(self, graph: GraphProto) -> str:
        """``name (inputs) => (outputs) <values and initializers> {nodes}``."""
        self.writer.enter()
        head = (
            f"{name_text(graph.name)} ({self.values(graph.input)}) => ({self.values(graph.output)})"
        )
        values = self.inside(lambda: self._graph_values(graph))
        fields = self.absent(graph, "name")
        fields += self.writer.fields(graph, _GRAPH)
        text = f"{head}{self._body(graph, values)}{self.note(fields)}"
        self.writer.leave()
        return text

    def _graph_values(self, graph: GraphProto) -> list[str]:
        return [
            *[self.value_info(each) for each in graph.value_info],
            *[self.tensor(each, is_initializer=True) for each in graph.initializer],
        ]

    def _body(self, message: GraphProto | FunctionProto, values: list[str]) -> str:
        return f"{self._block(values)} {self._nodes(message.node)}"

    def _block(self, items: list[str]) -> str:
        """Items in angle brackets, a line each."""
        if not items:
            return ""
        inner = self.newline if self.newline == " " else f"{self.newline}{self.indent}"
        return f"{self.newline}<{inner}{with_commas(items, f',{inner}').rstrip()}{self.newline}>"

    def _nodes(self, nodes: Sequence[NodeProto]) -> str:
        lines = self.inside(lambda: [self.newline + self.node(node) for node in nodes])
        return f"{{{''.join(lines)}{self.newline}}}"

    def node(self, node: NodeProto) -> str:
        """``[name] outputs = domain.operator:overload <attributes> (inputs)``."""
        fields = self.open_field("no_domain", node, "domain")
        fields += self.absent(node, "op_type")
        if self.keeps_presence and node.HasField("overload") and not node.overload:
            fields.append('overload: ""')
        fields += self.writer.fields(node, _NODE)
        operator, inputs = _operator(node), f"({names_text(node.input)})"
        if node.attribute:
            attributes = f"<{with_commas([self.attribute(each) for each in node.attribute])}>"
            graphs_last = any(each.type in _GRAPHS for each in node.attribute)
            inputs = f"{inputs} {attributes}" if graphs_last else f"{attributes} {inputs}"
        return f"{self._results(node)}= {operator} {inputs}{self.note(fields).rstrip()}"

    def _results(self, node: NodeProto) -> str:
        """The node's name and outputs, as they stand ahead of the sign of equality."""
        label = f"[{name_text(node.name) if node.name else ''}] " if node.HasField("name") else ""
        return f"{label}{names_text(node.output)} " if node.output else label

    # Attributes

    def attribute(self, attribute: AttributeProto, *, is_formal: bool = False) -> str:
        """``name: type = value``, the type only if the value does not tell it."""
        kind, name = attribute.type, name_text(attribute.name)
        present = {field.name for field, _ in attribute.ListFields()} - {"name", "doc_string"}
        fields = self.absent(attribute, "name")
        text = self._attribute_value(attribute, present, is_formal=is_formal)
        if text:
            fields += self.writer.fields(attribute, {"name", *present})
            takes_note = kind in _WITH_NOTE and _FIELDS[kind] in present
            if fields and takes_note and not text.endswith(self.newline):
                text += self.note([""])  # or the value would take the attribute's note for its own
            return f"{name}{text}{self.note(fields)}"
        text, stand_in, stand_in_kind = _STAND_INS.get(kind, _INT_STAND_IN)
        fields += [f"{each}: none" for each in (stand_in, "type") if each not in present]
        skip = {"name", "type"} if kind == stand_in_kind else {"name"}
        fields += self.writer.fields(attribute, skip)
        return f"{name} = {text}{self.note(fields)}"

    def _attribute_value(
        self, attribute: AttributeProto, present: set[str], *, is_formal: bool
    ) -> str:
        """What stands behind the name; empty if the notation does not hold these fields."""
        kind = attribute.type
        word = KIND_WORDS.get(kind, "")
        if present == {"ref_attr_name"}:
            return f" = @{name_text(attribute.ref_attr_name)}"
        if not kind:
            return ""
        if present == {"ref_attr_name", "type"}:
            return f": {word} = @{name_text(attribute.ref_attr_name)}"
        if present == {"type"} and (is_formal or kind in ELEMENT_OF):
            return f": {word}" if is_formal else f": {word} = []"
        if present != {"type", _FIELDS[kind]}:
            return ""
        values = getattr(attribute, _FIELDS[kind])
        texts = self._texts(ELEMENT_OF.get(kind, kind), values if kind in ELEMENT_OF else [values])
        if not all(texts):
            return ""
        colon = f": {word}" if self.spells_types or kind in _SPARSE else ""
        return (
            f"{colon} = [{with_commas(texts)}]" if kind in ELEMENT_OF else f"{colon} = {texts[0]}"
        )

    def _texts(self, kind: int, values: Sequence[Any]) -> list[str]:
        """Each of ``values``, which are of the element type ``kind``; empty if it has no text."""
        if kind == AttributeProto.INT:
            return list(map(str, values))
        if kind == AttributeProto.FLOAT:
            return self.floats(values)
        if kind == AttributeProto.STRING:
            return [quote(value, keep=self.keep) for value in values]
        if kind == AttributeProto.TENSOR:
            return [self.tensor(value) for value in values]
        if kind == AttributeProto.GRAPH:
            return [self.graph(value) for value in values]
        write = self.writer.brace if kind == AttributeProto.SPARSE_TENSOR else self.exact_type
        return [write(value) for value in values]


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _operator(node: NodeProto) -> str:
    text = operator_text(node.op_type)
    if node.domain:
        text = f"{qualified(node.domain)}.{text}"
    return f"{text}:{name_text(node.overload)}" if node.overload else text


def _print(
    message: object,
    kind: type[_M],
    write: Callable[[Printer, _M], str],
    elide: int | None,
    *,
    exact: bool,
) -> str:
    printer, ours = Printer(elide, exact=exact), own(message, kind)
    text = write(printer, ours)
    return printer.preamble(ours) + text


def print_model(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a model."""
    return _print(message, ModelProto, Printer.model, elide, exact=exact)


def print_graph(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a graph."""
    return _print(message, GraphProto, Printer.graph, elide, exact=exact)


def print_function(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a model function."""
    return _print(message, FunctionProto, Printer.function, elide, exact=exact)


def print_node(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a node."""
    return _print(message, NodeProto, Printer.node, elide, exact=exact)


def print_attribute(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of an attribute."""
    return _print(message, AttributeProto, Printer.attribute, elide, exact=exact)


def print_tensor(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a tensor."""
    return _print(message, TensorProto, Printer.tensor, elide, exact=exact)


def print_value_info(message: object, *, elide: int | None = None, exact: bool = True) -> str:
    """The text of a value: its type and name."""
    return _print(message, ValueInfoProto, Printer.value_info, elide, exact=exact)


def print_type(message: object, *, exact: bool = True) -> str:
    """The text of a type."""
    printer, ours = Printer(exact=exact), own(message, TypeProto)
    return printer.writer.message(ours) if exact else printer.type(ours)[0]
