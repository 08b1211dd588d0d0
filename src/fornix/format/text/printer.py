"""Models, graphs, functions, nodes, attributes, tensors and types as ONNX text.

The text is the standard's, so that its own parser reads it, and whatever the standard has no words
for stands in notes, so that ours gives back an equal message. Two things cannot be kept: fields
unknown to this version of the standard, and the payload bits of NaNs outside of `raw_data`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from fornix.format.messages import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
    own,
)
from fornix.format.text.elements import (
    STORAGE,
    TEXTS,
    can_write_raw,
    element_count,
    element_texts,
    float32_texts,
)
from fornix.format.text.notes import FieldWriter, is_pair, quote
from fornix.format.text.parser import (
    ELEMENT_OF,
    FUNCTION_HEADER,
    KIND_WORDS,
    MODEL_HEADER,
)
from fornix.format.text.value_parser import DEFAULTS, STORED, TYPE_WORDS

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_QUALIFIED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+(?:\.[A-Za-z_][A-Za-z0-9_]*+)*+")
_WORDS = TYPE_WORDS | {"none"}
_NUMBERS = frozenset({"inf", "infinity", "nan"})  # in any case
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
_VALUE = ("name", "type")
_NO_LIMIT = float("inf")

_M = TypeVar("_M", bound=Message)


class Printer:
    """Writes messages; `newline` is what separates lines, a space inside of notes.

    `defaults` collects, at the first node and tensor that leave it open, what the note ahead of
    everything has to say.
    """

    __slots__ = ("defaults", "elide", "exact", "keep", "newline", "writer")

    def __init__(self, elide: int | None = None, *, exact: bool = True) -> None:
        self.elide = _NO_LIMIT if elide is None else elide
        self.exact = exact
        self.defaults: dict[str, bool] = {}
        self.newline = "\n"
        self.keep = frozenset("\n\t")
        self.writer = FieldWriter(
            {
                "GraphProto": self._on_one_line(self.graph),
                "TensorProto": self._on_one_line(self.tensor),
                "TypeProto": self._exact_type,
            }
        )

    # A whole text

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
        return self._note(defaults + fields).lstrip()

    def function(self, function: FunctionProto) -> str:
        """A header, a name with attributes, inputs, outputs, values and nodes."""
        attributes = [_name(name) for name in function.attribute]
        attributes += [self.attribute(each, is_formal=True) for each in function.attribute_proto]
        head = f"{self._header(function, FUNCTION_HEADER)}{_name(function.name)} "
        if attributes:
            head += f"<{', '.join(attributes)}> "
        head += f"({_names(function.input)}) => ({_names(function.output)})"
        values = self._inside(lambda: [self.value_info(each) for each in function.value_info])
        fields = [] if function.HasField("name") else ["name: none"]
        fields += self._rest(function, _FUNCTION)
        return f"{head}{self._block(values)}{self._nodes(function.node)}{self._note(fields)}"

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
            if name in known and not all(map(is_pair, getattr(message, name)))
        }
        return self.writer.fields(message, set(known) - halves)

    # Graphs and nodes

    def graph(self, graph: GraphProto) -> str:
        """``name (inputs) => (outputs) <values and initializers> {nodes}``."""
        self.writer.enter()
        head = (
            f"{_name(graph.name)} ({self._values(graph.input)}) => ({self._values(graph.output)})"
        )
        values = self._inside(
            lambda: [
                *[self.value_info(each) for each in graph.value_info],
                *[self.tensor(each, is_initializer=True) for each in graph.initializer],
            ]
        )
        fields = [] if graph.HasField("name") else ["name: none"]
        fields += self.writer.fields(graph, _GRAPH)
        text = f"{head}{self._block(values)}{self._nodes(graph.node)}{self._note(fields)}"
        self.writer.leave()
        return text

    def _values(self, values: Iterable[ValueInfoProto]) -> str:
        return ", ".join([self.value_info(each) for each in values])

    def value_info(self, value: ValueInfoProto) -> str:
        """A name, ahead of it the type if it is known."""
        text, is_exact = self.type(value.type) if value.HasField("type") else ("", True)
        fields = [] if is_exact else [f"type: {self.writer.brace(value.type)}"]
        fields += [] if value.HasField("name") else ["name: none"]
        fields += self.writer.fields(value, _VALUE)
        return f"{text}{' ' if text else ''}{_name(value.name)}{self._note(fields)}"

    def _inside(self, write: Callable[[], list[str]]) -> list[str]:
        newline = self.newline
        self.newline = newline if newline == " " else f"{newline}    "
        items = write()
        self.newline = newline
        return items

    def _block(self, items: list[str]) -> str:
        """Items in angle brackets, a line each."""
        if not items:
            return ""
        inner = self.newline if self.newline == " " else f"{self.newline}    "
        return f"{self.newline}<{inner}{f',{inner}'.join(items)}{self.newline}>"

    def _nodes(self, nodes: Sequence[NodeProto]) -> str:
        lines = self._inside(lambda: [self.newline + self.node(node) for node in nodes])
        return f" {{{''.join(lines)}{self.newline}}}"

    def node(self, node: NodeProto) -> str:
        """``[name] outputs = domain.operator:overload <attributes> (inputs)``."""
        fields = self._open("no_domain", node, "domain")
        fields += [] if node.HasField("op_type") else ["op_type: none"]
        if node.HasField("overload") and not node.overload:
            fields.append('overload: ""')
        fields += self.writer.fields(node, _NODE)
        label = f"[{_name(node.name) if node.name else ''}] " if node.HasField("name") else ""
        outputs = f"{_names(node.output)} " if node.output else ""
        operator, inputs = _operator(node), f"({_names(node.input)})"
        if node.attribute:
            attributes = f"<{', '.join([self.attribute(each) for each in node.attribute])}>"
            graphs_last = any(each.type in _GRAPHS for each in node.attribute)
            inputs = f"{inputs} {attributes}" if graphs_last else f"{attributes} {inputs}"
        return f"{label}{outputs}= {operator} {inputs}{self._note(fields).rstrip()}"

    def _open(self, default: str, message: Message, name: str) -> list[str]:
        """What a note must say of the empty field ``name``: nothing if it is as by ``default``."""
        if getattr(message, name):
            return []
        is_absent = not message.HasField(name)
        if self.defaults.setdefault(default, is_absent) == is_absent:
            return []
        return [f"{name}: none" if is_absent else f'{name}: ""']

    # Attributes

    def attribute(self, attribute: AttributeProto, *, is_formal: bool = False) -> str:
        """``name: type = value``, the type only if the value does not tell it."""
        kind, name = attribute.type, _name(attribute.name)
        present = {field.name for field, _ in attribute.ListFields()} - {"name", "doc_string"}
        fields = [] if attribute.HasField("name") else ["name: none"]
        text = self._attribute_value(attribute, present, is_formal=is_formal)
        if text:
            fields += self.writer.fields(attribute, {"name", *present})
            takes_note = kind in _WITH_NOTE and _FIELDS[kind] in present
            if fields and takes_note and not text.endswith(self.newline):
                text += self._note([""])  # or the value would take the attribute's note for its own
            return f"{name}{text}{self._note(fields)}"
        text, stand_in, stand_in_kind = _STAND_INS.get(kind, _INT_STAND_IN)
        fields += [f"{each}: none" for each in (stand_in, "type") if each not in present]
        skip = {"name", "type"} if kind == stand_in_kind else {"name"}
        fields += self.writer.fields(attribute, skip)
        return f"{name} = {text}{self._note(fields)}"

    def _attribute_value(
        self, attribute: AttributeProto, present: set[str], *, is_formal: bool
    ) -> str:
        """What stands behind the name; empty if the notation does not hold these fields."""
        kind = attribute.type
        word = KIND_WORDS.get(kind, "")
        if present == {"ref_attr_name"}:
            return f" = @{_name(attribute.ref_attr_name)}"
        if not kind:
            return ""
        if present == {"ref_attr_name", "type"}:
            return f": {word} = @{_name(attribute.ref_attr_name)}"
        if present == {"type"} and (is_formal or kind in ELEMENT_OF):
            return f": {word}" if is_formal else f": {word} = []"
        if present != {"type", _FIELDS[kind]}:
            return ""
        values = getattr(attribute, _FIELDS[kind])
        texts = self._texts(ELEMENT_OF.get(kind, kind), values if kind in ELEMENT_OF else [values])
        if not all(texts):
            return ""
        colon = f": {word}" if kind in _SPARSE else ""
        return f"{colon} = [{', '.join(texts)}]" if kind in ELEMENT_OF else f"{colon} = {texts[0]}"

    def _texts(self, kind: int, values: Sequence[Any]) -> list[str]:
        """Each of ``values``, which are of the element type ``kind``; empty if it has no text."""
        if kind == AttributeProto.INT:
            return list(map(str, values))
        if kind == AttributeProto.FLOAT:
            return float32_texts(values)
        if kind == AttributeProto.STRING:
            return [quote(value, keep=self.keep) for value in values]
        if kind == AttributeProto.TENSOR:
            return [self.tensor(value) for value in values]
        if kind == AttributeProto.GRAPH:
            return [self.graph(value) for value in values]
        write = self.writer.brace if kind == AttributeProto.SPARSE_TENSOR else self._exact_type
        return [write(value) for value in values]

    # Tensors and types

    def tensor(self, tensor: TensorProto, *, is_initializer: bool = False) -> str:
        """``type[dims] name = {elements}``."""
        code = tensor.data_type if tensor.data_type in TEXTS else TensorProto.FLOAT
        skip = {"dims", "name"} | ({"data_type"} if tensor.data_type == code else set())
        payload, fields = self._payload(tensor, code, skip)
        if not tensor.HasField("data_type"):
            fields.append("data_type: none")
        name = f" {_name(tensor.name)} =" if tensor.name or is_initializer else ""
        if not is_initializer:
            fields += self._open("no_name", tensor, "name")
            name = name or (" =" if payload[0] == "[" else "")
        elif not tensor.HasField("name"):
            fields.append("name: none")
        fields += self.writer.fields(tensor, skip)
        dims = f"[{', '.join(map(str, tensor.dims))}]" if tensor.dims else ""
        return f"{TEXTS[code]}{dims}{name} {payload}{self._note(fields)}"

    def _payload(self, tensor: TensorProto, code: int, skip: set[str]) -> tuple[str, list[str]]:
        """The elements or where they are, and what a note must say; ``skip`` gains the fields."""
        entries = tensor.external_data
        if tensor.data_location == TensorProto.EXTERNAL and entries and all(map(is_pair, entries)):
            skip |= {"external_data", "data_location"}
            return f"[{', '.join([self.writer.message(entry) for entry in entries])}]", []
        is_known, is_raw, texts = tensor.data_type == code, tensor.HasField("raw_data"), ""
        if is_known and (not is_raw or can_write_raw(tensor)):
            skip.add("raw_data" if is_raw else STORAGE[code].field)
            is_large = element_count(tensor) > self.elide
            texts = "..." if is_large else ", ".join(element_texts(tensor, self.keep))
        is_raw = "raw_data" in skip
        if STORAGE[code].raw is None or self.defaults.setdefault("raw_data", is_raw) == is_raw:
            return f"{{{texts}}}", []
        return f"{{{texts}}}", [f"stored: {STORED[not is_raw]}"]

    def _exact_type(self, message: TypeProto) -> str:
        text, is_exact = self.type(message)
        return text if is_exact else ""

    def type(self, message: TypeProto) -> tuple[str, bool]:
        """The text of a type, empty if there is none, and whether it says everything."""
        self.writer.enter()
        form = message.WhichOneof("value")
        text, is_exact = self._type_forms(message, form) if form else ("", False)
        self.writer.leave()
        return text, is_exact and not message.HasField("denotation")

    def _type_forms(self, message: TypeProto, form: str) -> tuple[str, bool]:
        if form == "tensor_type":
            return _tensor_type(message.tensor_type)
        if form == "opaque_type":
            text = _opaque(message.opaque_type)
            return text, bool(text)
        if form == "sparse_tensor_type":
            word, (text, is_exact) = "sparse_tensor", _tensor_type(message.sparse_tensor_type)
        elif form == "map_type":
            word, (text, is_exact) = "map", self._map_arguments(message.map_type)
        else:
            word = "seq" if form == "sequence_type" else "optional"
            holder = message.sequence_type if word == "seq" else message.optional_type
            present = holder.HasField("elem_type")
            text, is_exact = self.type(holder.elem_type) if present else ("", False)
        return (f"{word}({text})" if text else ""), is_exact

    def _map_arguments(self, map_type: TypeProto.Map) -> tuple[str, bool]:
        if map_type.key_type not in TEXTS or not map_type.HasField("value_type"):
            return "", False
        text, is_exact = self.type(map_type.value_type)
        return (f"{TEXTS[map_type.key_type]}, {text}" if text else ""), is_exact

    def _note(self, fields: list[str]) -> str:
        """The note of ``fields``, which ends its line."""
        return f"  #@ {{{', '.join(fields)}}}{self.newline}" if fields and self.exact else ""

    def _on_one_line(self, write: Callable[[Any], str]) -> Callable[[Any], str]:
        def on_one_line(message: object) -> str:
            newline, keep = self.newline, self.keep
            self.newline, self.keep = " ", frozenset()
            text = write(message)
            self.newline, self.keep = newline, keep
            return text

        return on_one_line


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _name(name: str) -> str:
    """``name`` as it is if it is an identifier and no word of the notation, else quoted."""
    if _IDENTIFIER.fullmatch(name) and name not in _WORDS and name.lower() not in _NUMBERS:
        return name
    return quote(name)


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_name, names))


def _operator(node: NodeProto) -> str:
    text = node.op_type if _IDENTIFIER.fullmatch(node.op_type) else quote(node.op_type)
    if node.domain:
        text = f"{_qualified(node.domain)}.{text}"
    return f"{text}:{_name(node.overload)}" if node.overload else text


def _tensor_type(tensor: TypeProto.Tensor | TypeProto.SparseTensor) -> tuple[str, bool]:
    if tensor.elem_type not in TEXTS:
        return "", False
    text = TEXTS[tensor.elem_type]
    if not tensor.HasField("shape"):
        return f"{text}[]", True
    dims = [_dim(dim) for dim in tensor.shape.dim]
    is_exact = not any(dim.HasField("denotation") for dim in tensor.shape.dim)
    return (f"{text}[{', '.join(dims)}]" if dims else text), is_exact


def _dim(dim: TensorShapeProto.Dimension) -> str:
    if dim.HasField("dim_value"):
        return str(dim.dim_value)
    return _name(dim.dim_param) if dim.HasField("dim_param") else "?"


def _opaque(opaque: TypeProto.Opaque) -> str:
    if not opaque.HasField("name"):
        return "" if opaque.HasField("domain") else "opaque()"
    if not opaque.HasField("domain"):
        return f"opaque({_qualified(opaque.name)})"
    return f"opaque({_qualified(opaque.domain)}, {_name(opaque.name)})"


def _qualified(name: str) -> str:
    return name if _QUALIFIED.fullmatch(name) else quote(name)


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
