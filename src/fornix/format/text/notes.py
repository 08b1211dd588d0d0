r"""Fields of any message in braces: what the standard's notation has no words for.

    y = Relu (x)  #@ {doc_string: b"first\nsecond", metadata_props: ["key": "value"]}
    float[2] x    #@ {name: none}

A note follows what it describes and has the last word: each field is replaced by the note's, and
``none`` removes it. Values are written as in the header of a model; a message is a brace with its
fields, or the standard's notation where there is one (tensors, graphs, types). For other readers of
ONNX text a note is a comment. What goes into notes is decided by the parser and the printer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from fornix.errors import LimitError
from fornix.format.text.tokens import IDENTIFIER, MAX_DEPTH, STRING, Tokens

# Messages written as `"first field": second field`.
_PAIRS = {"StringStringEntryProto": ("key", "value"), "OperatorSetIdProto": ("domain", "version")}
# Magnitudes from here on round to infinity: the greatest float32 and half a unit in its last place.
FLOAT32_END = float.fromhex("0x1.ffffffp+127")
_INTEGERS = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
    }
)
# The text of each byte in b"…".
_BYTES = [chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(256)]
for _byte, _text in zip(b'\n\r\t"\\', ("\\n", "\\r", "\\t", '\\"', "\\\\"), strict=True):
    _BYTES[_byte] = _text


class FieldReader:
    """Reads fields into messages; ``natural`` reads, by name, messages that have a notation."""

    __slots__ = ("natural", "tokens")

    def __init__(
        self, tokens: Tokens, natural: dict[str, Callable[[Any], None]] | None = None
    ) -> None:
        self.tokens = tokens
        self.natural = natural or {}

    def read(
        self, message: Message, special: Mapping[str, Callable[[], None]] | None = None
    ) -> list[str]:
        """Replace the fields of ``message`` by those in the brace at the cursor; their names.

        ``special`` reads the values of names that are not fields.
        """
        tokens = self.tokens
        tokens.enter()
        tokens.expect("{")
        names: list[str] = []
        goes_on = not tokens.accept("}")
        while goes_on:
            name = self.name(message, special or ())
            names.append(name)
            if special and name in special:
                special[name]()
            else:
                message.ClearField(name)
                self.value(message, name)
            goes_on = tokens.more("}", f"after field '{name}'")
        tokens.leave()
        return names

    def name(self, message: Message, more: Iterable[str] = (), among: Iterable[str] = ()) -> str:
        """The name of a field, and its colon: of ``message`` or ``more``, if given of ``among``."""
        start = self.tokens.start
        name = self.tokens.identifier("the name of a field")
        known = [*(among or message.DESCRIPTOR.fields_by_name), *more]
        if name not in known:
            raise self.tokens.error(f"expected one of {', '.join(known)}, found '{name}'", start)
        self.tokens.expect(":", f"after field '{name}'")
        return name

    def value(self, message: Message, name: str) -> None:
        """Add the value at the cursor to the field ``name``."""
        field = cast("FieldDescriptor", message.DESCRIPTOR.fields_by_name[name])
        if self.tokens.accept("none"):
            return
        if is_repeated(field):
            self._list(field, getattr(message, name))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, name).SetInParent()
            self.message(getattr(message, name))
        else:
            setattr(message, name, self._scalar(field))

    def message(self, target: Message) -> None:
        """Fill ``target`` from a brace, a pair or the notation of its kind."""
        tokens, kind = self.tokens, target.DESCRIPTOR.name
        if tokens.word == "{":
            self.read(target)
        elif tokens.kind == STRING and kind in _PAIRS:
            key, value = _PAIRS[kind]
            self.value(target, key)
            tokens.expect(":", f"after the {key}")
            self.value(target, value)
        elif kind in self.natural:
            self.natural[kind](target)
        else:
            raise tokens.expected("'{'", f"ahead of the fields of {kind}")

    def _list(self, field: FieldDescriptor, values: Any) -> None:
        tokens = self.tokens
        tokens.expect("[", f"ahead of the values of '{field.name}'")
        goes_on = not tokens.accept("]")
        while goes_on:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                self.message(values.add())
            else:
                values.append(self._scalar(field))
            goes_on = tokens.more("]", f"after a value of '{field.name}'")

    def _scalar(self, field: FieldDescriptor) -> int | float | str | bytes:
        tokens, what = self.tokens, f"the value of '{field.name}'"
        if field.type == FieldDescriptor.TYPE_STRING:
            return tokens.string(f"{what}, a string")
        if field.type == FieldDescriptor.TYPE_BYTES:
            return tokens.raw_string(f"{what}, a string")
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._enum(field)
        if field.type == FieldDescriptor.TYPE_FLOAT:
            return float32(tokens, f"{what}, a number")
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return tokens.number(f"{what}, a number")
        bits = 31 if field.type == FieldDescriptor.TYPE_INT32 else 63
        if field.type == FieldDescriptor.TYPE_UINT64:
            return tokens.integer(f"{what}, an integer", 0, 2**64 - 1)
        return tokens.integer(f"{what}, an integer", -(2**bits), 2**bits - 1)

    def _enum(self, field: FieldDescriptor) -> int:
        names = cast("EnumDescriptor", field.enum_type).values_by_name
        if self.tokens.kind != IDENTIFIER or self.tokens.word not in names:
            raise self.tokens.expected(f"one of {', '.join(names)}")
        return int(names[self.tokens.next().text].number)


def float32(tokens: Tokens, what: str = "a number") -> float:
    """The number at the cursor, which must be in the range of float32."""
    word = tokens.peek()
    value = tokens.number(what)
    if FLOAT32_END <= abs(value) < float("inf"):
        raise tokens.error(
            f"expected {what} in the range of float, found '{word.text}'", word.start
        )
    return float(word.text)


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether ``field`` holds a list."""
    if hasattr(field, "is_repeated"):  # protobuf 6; its 7 warns about `label`
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)  # type: ignore[attr-defined] # protobuf 5


class FieldWriter:
    """Writes fields; ``natural`` writes, by name, messages that have a notation.

    It answers "" for a message that its notation cannot hold.
    """

    __slots__ = ("depth", "keep", "natural", "pairs_only")

    def __init__(self, natural: dict[str, Callable[[Any], str]] | None = None) -> None:
        self.natural = natural or {}
        self.depth = 0
        self.keep: frozenset[str] = frozenset()
        self.pairs_only = False  # as the standard's parser requires in headers

    def enter(self) -> None:
        """Count one more level of nesting, of which the reader allows so many."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise LimitError(
                f"ONNX text: at most {MAX_DEPTH} levels of nesting can be written, found more"
            )

    def leave(self) -> None:
        """Count one level of nesting less."""
        self.depth -= 1

    def fields(self, message: Message, skip: Iterable[str] = ()) -> list[str]:
        """``name: value`` of each field that is present, but for those in ``skip``."""
        present = [item for item in message.ListFields() if item[0].name not in skip]
        if not present:
            return []
        self.enter()
        texts = [f"{field.name}: {self.value(field, value)}" for field, value in present]
        self.leave()
        return texts

    def value(self, field: FieldDescriptor, value: Any) -> str:
        """The text of a field's value."""
        if not is_repeated(field):
            return self._single(field, value)
        return f"[{', '.join([self._single(field, item) for item in value])}]"

    def message(self, message: Message) -> str:
        """``message`` as a pair, in the notation of its kind, or in a brace."""
        kind = message.DESCRIPTOR.name
        if kind in _PAIRS and (self.pairs_only or is_pair(message)):
            key, value = (getattr(message, name) for name in _PAIRS[kind])
            text = quote(value, keep=self.keep) if isinstance(value, str) else str(value)
            return f"{quote(key, keep=self.keep)}: {text}"
        text = self.natural[kind](message) if kind in self.natural else ""
        return text or self.brace(message)

    def brace(self, message: Message) -> str:
        """``message`` as its fields in a brace."""
        self.enter()  # the reader counts a brace even if it is empty
        self.leave()
        return f"{{{', '.join(self.fields(message))}}}"

    def _single(self, field: FieldDescriptor, value: Any) -> str:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return self.message(value)
        if isinstance(value, str | bytes):
            return quote(value, keep=self.keep)
        if field.type == FieldDescriptor.TYPE_ENUM:
            enum = cast("EnumDescriptor", field.enum_type)
            return str(enum.values_by_number[value].name)
        if field.type == FieldDescriptor.TYPE_FLOAT:
            return float32_text(value)
        return repr(value)


def is_pair(message: Message) -> bool:
    """Whether both fields of an entry are present, so that it can be written as a pair."""
    return all(message.HasField(name) for name in _PAIRS[message.DESCRIPTOR.name])


def quote(text: str | bytes, *, keep: frozenset[str] = frozenset()) -> str:
    r"""``text`` as a string of the notation, on one line unless ``keep`` has "\n".

    Control characters, but for those in ``keep``, and bytes that are not UTF-8 need b"…".
    """
    if isinstance(text, bytes):
        try:
            return quote(text.decode(), keep=keep)
        except UnicodeDecodeError:
            return _quote_bytes(text)
    if text.isprintable() or _is_plain(text, keep):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return _quote_bytes(text.encode())


def _quote_bytes(data: bytes) -> str:
    return f'b"{"".join([_BYTES[byte] for byte in data])}"'


def _is_plain(text: str, keep: frozenset[str]) -> bool:
    return all(c in keep or (c >= " " and c != "\x7f") for c in text)


def float32_text(value: float) -> str:
    """The shortest text that reads as the float32 ``value``, and as a float."""
    text = str(np.float32(value))
    return text if math.isnan(value) or np.float32(float(text)) == value else repr(value)
