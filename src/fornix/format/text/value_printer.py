"""Types, tensors and values as ONNX text, and the notes behind them.

Writes what has a dtype; graphs, nodes and attributes are left to `printer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from fornix.format.messages import TensorProto, TensorShapeProto, TypeProto, ValueInfoProto
from fornix.format.text.elements import (
    STORAGE,
    TEXTS,
    can_write_raw,
    element_count,
    element_texts,
    float32_texts,
)
from fornix.format.text.notes import FieldWriter, is_pair, quote
from fornix.format.text.value_parser import STORED, TYPE_WORDS

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_QUALIFIED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+(?:\.[A-Za-z_][A-Za-z0-9_]*+)*+")
_WORDS = TYPE_WORDS | {"none"}
_NUMBERS = frozenset({"inf", "infinity", "nan"})  # in any case
_NO_LIMIT = float("inf")


class ValuePrinter:
    """Writes messages; `newline` is what separates lines, a space inside of notes.

    `keep` has the control characters that strings may hold as they are. `defaults` collects, at the
    first node and tensor that leave it open, what the note ahead of everything has to say.

    A subclass with another layout sets `comma`, which is between dims, and `indent`. Without
    `keeps_presence` notes leave out what no reader of a model sees: whether an empty field is
    there, and which field of a tensor has its elements.
    """

    __slots__ = ("defaults", "elide", "exact", "keep", "newline", "writer")
    comma = ", "
    indent = "    "
    keeps_presence = True

    def __init__(self, elide: int | None = None, *, exact: bool = True) -> None:
        self.elide = _NO_LIMIT if elide is None else elide
        self.exact = exact
        self.defaults: dict[str, bool] = {}
        self.newline = "\n"
        self.keep = frozenset("\n\t")
        self.writer = FieldWriter(
            {"TensorProto": self.on_one_line(self.tensor), "TypeProto": self.exact_type}
        )

    def values(self, values: Iterable[ValueInfoProto]) -> str:
        """Values with commas between them."""
        return with_commas([self.value_info(each) for each in values])

    def value_info(self, value: ValueInfoProto) -> str:
        """A name, ahead of it the type if it is known."""
        text, is_exact = self.type(value.type) if value.HasField("type") else ("", True)
        fields = self.absent(value, "name")
        fields += self.writer.fields(value, ("name", "type") if is_exact else ("name",))
        return f"{self.type_ahead(text)}{name_text(value.name)}{self.note(fields)}"

    def type_ahead(self, text: str) -> str:
        """The ``text`` of a type as it stands ahead of a name."""
        return f"{text} " if text else ""

    def tensor(self, tensor: TensorProto, *, is_initializer: bool = False) -> str:
        """``type[dims] name = {elements}``."""
        code = tensor.data_type if tensor.data_type in TEXTS else TensorProto.FLOAT
        skip = {"dims", "name"} | ({"data_type"} if tensor.data_type == code else set())
        payload, fields = self._payload(tensor, code, skip)
        if not tensor.HasField("data_type"):
            fields.append("data_type: none")
        if is_initializer:
            fields += self.absent(tensor, "name")
        else:
            fields += self.open_field("no_name", tensor, "name")
        fields += self.writer.fields(tensor, skip)
        dims = f"[{self.comma.join(map(str, tensor.dims))}]" if tensor.dims else ""
        head = (
            f"{TEXTS[code]}{dims}{self.name_ahead(tensor, payload, is_initializer=is_initializer)}"
        )
        return f"{head}{payload}{self.note(fields)}"

    def name_ahead(self, tensor: TensorProto, payload: str, *, is_initializer: bool) -> str:
        """The name of ``tensor`` as it stands ahead of its ``payload``."""
        if tensor.name or is_initializer:
            return f" {name_text(tensor.name)} = "
        return " = " if payload[0] == "[" else " "

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
            texts = "..." if is_large else self.elements(tensor)
        is_raw = "raw_data" in skip
        if STORAGE[code].raw is None or not self.keeps_presence:
            return f"{{{texts}}}", []
        if self.defaults.setdefault("raw_data", is_raw) == is_raw:
            return f"{{{texts}}}", []
        return f"{{{texts}}}", [f"stored: {STORED[not is_raw]}"]

    def elements(self, tensor: TensorProto) -> str:
        """The stored elements with commas between them."""
        return ", ".join(element_texts(tensor, self.keep))

    def floats(self, values: Sequence[float]) -> list[str]:
        """The values of attributes, which are of float32, as text."""
        return float32_texts(values)

    def exact_type(self, message: TypeProto) -> str:
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
            return self._tensor_type(message.tensor_type)
        if form == "opaque_type":
            text = self._opaque(message.opaque_type)
            return text, bool(text)
        if form == "sparse_tensor_type":
            word, (text, is_exact) = "sparse_tensor", self._tensor_type(message.sparse_tensor_type)
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

    def _tensor_type(self, tensor: TypeProto.Tensor | TypeProto.SparseTensor) -> tuple[str, bool]:
        if tensor.elem_type not in TEXTS:
            return "", False
        text = TEXTS[tensor.elem_type]
        if not tensor.HasField("shape"):
            return f"{text}[]", True
        dims = [_dim(dim) for dim in tensor.shape.dim]
        is_exact = not any(dim.HasField("denotation") for dim in tensor.shape.dim)
        return (f"{text}[{self.comma.join(dims)}]" if dims else text), is_exact

    def _opaque(self, opaque: TypeProto.Opaque) -> str:
        if not opaque.HasField("name"):
            return "" if opaque.HasField("domain") else "opaque()"
        if not opaque.HasField("domain"):
            return f"opaque({qualified(opaque.name)})"
        return f"opaque({qualified(opaque.domain)}{self.comma}{name_text(opaque.name)})"

    def inside(self, write: Callable[[], list[str]]) -> list[str]:
        """What ``write`` gives, indented one level more."""
        newline = self.newline
        self.newline = newline if newline == " " else f"{newline}{self.indent}"
        items = write()
        self.newline = newline
        return items

    def note(self, fields: list[str]) -> str:
        """The note of ``fields``, which ends its line."""
        if not fields or not self.exact:
            return ""
        self.writer.enter()
        self.writer.leave()
        return f"  #@ {{{', '.join(fields)}}}{self.newline}"

    def absent(self, message: Message, name: str) -> list[str]:
        """What a note must say of the field ``name`` that is written even if it is not there."""
        return [] if message.HasField(name) or not self.keeps_presence else [f"{name}: none"]

    def open_field(self, default: str, message: Message, name: str) -> list[str]:
        """What a note must say of the empty field ``name``: nothing if it is as by ``default``."""
        if getattr(message, name) or not self.keeps_presence:
            return []
        is_absent = not message.HasField(name)
        if self.defaults.setdefault(default, is_absent) == is_absent:
            return []
        return [f"{name}: none" if is_absent else f'{name}: ""']

    def on_one_line(self, write: Callable[[Any], str]) -> Callable[[Any], str]:
        """``write``, but without ends of lines."""

        def on_one_line(message: object) -> str:
            newline, keep = self.newline, self.keep
            self.newline, self.keep = " ", frozenset()
            text = write(message)
            self.newline, self.keep = newline, keep
            return text

        return on_one_line


def with_commas(items: Sequence[str], separator: str = ", ") -> str:
    """``items`` with ``separator`` between them, on the next line behind a note."""
    ahead = [f"{each}, " if each[-1:].isspace() else each + separator for each in items[:-1]]
    return "".join(ahead) + "".join(items[-1:])


def name_text(name: str | bytes) -> str:
    """``name`` as it is if it is an identifier and no word of the notation, else quoted.

    Names that are not UTF-8 are bytes, as protobuf gives them.
    """
    if isinstance(name, bytes):
        return quote(name)
    if IDENTIFIER.fullmatch(name) and name not in _WORDS and name.lower() not in _NUMBERS:
        return name
    return quote(name)


def names_text(names: Iterable[str]) -> str:
    return ", ".join(map(name_text, names))


def _dim(dim: TensorShapeProto.Dimension) -> str:
    if dim.HasField("dim_value"):
        return str(dim.dim_value)
    return name_text(dim.dim_param) if dim.HasField("dim_param") else "?"


def operator_text(name: str | bytes) -> str:
    """The name of an operator: words of the notation need no quotes there."""
    return name if isinstance(name, str) and IDENTIFIER.fullmatch(name) else quote(name)


def qualified(name: str | bytes) -> str:
    """A domain as it is if it is made of identifiers and points, else quoted."""
    return name if isinstance(name, str) and _QUALIFIED.fullmatch(name) else quote(name)
