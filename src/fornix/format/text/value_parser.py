"""Types, tensors and values from ONNX text, and the notes behind them.

Reads what has a dtype; graphs, nodes and attributes are left to `parser`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from fornix.format.messages import TensorProto, TensorShapeProto, TypeProto, ValueInfoProto
from fornix.format.text.elements import CODES, read_elements
from fornix.format.text.notes import FieldReader
from fornix.format.text.tokens import IDENTIFIER, INTEGER, STRING, Tokens

TYPE_WORDS = frozenset({*CODES, "seq", "map", "optional", "sparse_tensor", "opaque"})
# What the notation leaves open; `#@ {defaults: […]}` ahead of everything settles it.
DEFAULTS = ("no_domain", "no_name", "raw_data")
STORED = ("raw_data", "typed_data")
_STORED = re.compile(r"#@\s*+\{\s*+stored\s*+:\s*+(raw_data|typed_data)\b")
_EXTERNAL = re.compile(r'\[\s*+b?"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:', re.DOTALL)


class ValueParser:
    """Recursive descent over `Tokens`; each method fills the message that it is given."""

    __slots__ = ("defaults", "fields", "tokens")

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.defaults: frozenset[str] = frozenset()
        self.fields = FieldReader(tokens, {"TensorProto": self.tensor, "TypeProto": self.type})

    def preamble(self, message: Message) -> list[str]:
        """Read the note ahead of everything into ``message``; the names of its fields."""
        if not self.tokens.accept("#@"):
            return []
        return self.fields.read(message, {"defaults": self._defaults})

    def _defaults(self) -> None:
        words = []
        self.tokens.expect("[", "ahead of the defaults")
        goes_on = not self.tokens.accept("]")
        while goes_on:
            words.append(self._word(DEFAULTS))
            goes_on = self.tokens.more("]", "after a default")
        self.defaults = frozenset(words)

    def _word(self, among: tuple[str, ...]) -> str:
        if self.tokens.word not in among:
            raise self.tokens.expected(f"one of {', '.join(among)}")
        return self.tokens.next().text

    def note(self, message: Message, special: dict[str, Callable[[], None]] | None = None) -> None:
        """Let the note at the cursor, if there is one, have the last word on ``message``."""
        if self.tokens.word == "#@":
            self.tokens.advance()
            self.fields.read(message, special)

    def values(self, values: Any, close: str) -> None:
        """Values up to ``close``."""
        goes_on = not self.tokens.accept(close)
        while goes_on:
            value = values.add()
            self.value_info(value)
            goes_on = self.tokens.more(close, f"after '{value.name}'")

    def value_info(self, value: ValueInfoProto) -> None:
        """A name, ahead of it a type if it is known."""
        tokens = self.tokens
        if tokens.kind == IDENTIFIER and tokens.word in TYPE_WORDS:
            self.type(value.type)
        value.name = tokens.identifier_or_string("the name of a value")
        self.note(value)

    def tensor(self, tensor: TensorProto) -> None:
        """``type name = {elements}``; the name may be missing, and the = as well."""
        start, head = self.tokens.start, TypeProto()
        self.type(head)
        self.tensor_body(tensor, head, start)

    def tensor_body(self, tensor: TensorProto, head: TypeProto, start: int) -> None:
        """Read what follows the type ``head``, which started at ``start``."""
        tokens = self.tokens
        self.tensor_header(tensor, head, start)
        if tokens.kind in {IDENTIFIER, STRING}:
            tensor.name = tokens.identifier_or_string()
        elif "no_name" not in self.defaults:
            tensor.name = ""
        self.payload(tensor)

    def tensor_header(self, tensor: TensorProto, head: TypeProto, start: int) -> None:
        """Take dtype and dims from the type ``head``, which started at ``start``."""
        tokens = self.tokens
        if not head.tensor_type.HasField("shape"):
            raise tokens.error("expected the dtype and dims of a tensor, found another type", start)
        tensor.data_type = head.tensor_type.elem_type
        for dim in head.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                found = dim.dim_param or "?"
                raise tokens.error(f"expected integers as dims of a tensor, found '{found}'", start)
            tensor.dims.append(dim.dim_value)

    def payload(self, tensor: TensorProto) -> None:
        """Read the elements or where they are, and the tensor's note."""
        tokens = self.tokens
        tokens.accept("=")
        if tokens.word == "...":
            raise tokens.error("expected the elements, found '...', printed in place of them")
        raw = "raw_data" in self.defaults
        if tokens.word == "{":
            elements = read_elements(tokens, tensor)
            stored = _STORED.match(tokens.text, tokens.start)
            raw = stored[1] == "raw_data" if stored else raw
            elements.store(raw=raw)
        elif tokens.word == "[":
            self.fields.value(tensor, "external_data")
            tensor.data_location = TensorProto.EXTERNAL
        self.note(tensor, {"stored": lambda: self._stored(raw=raw)})

    def _stored(self, *, raw: bool) -> None:
        """Pass the word that says where the elements are; it was read ahead of them."""
        start = self.tokens.start
        if self._word(STORED) != STORED[not raw]:
            raise self.tokens.error("expected 'stored' as first field behind the elements", start)

    def type(self, target: TypeProto) -> None:
        """A tensor, sparse tensor, sequence, map, optional or opaque type."""
        tokens = self.tokens
        tokens.enter()
        word = tokens.word
        if word in CODES:
            self._tensor_type(target.tensor_type)
        elif word not in TYPE_WORDS:
            raise tokens.expected("a type")
        else:
            tokens.advance()
            tokens.expect("(", f"after '{word}'")
            if word == "seq":
                self.type(target.sequence_type.elem_type)
            elif word == "optional":
                self.type(target.optional_type.elem_type)
            elif word == "map":
                target.map_type.key_type = self._dtype()
                tokens.expect(",", "after the key type")
                self.type(target.map_type.value_type)
            elif word == "sparse_tensor":
                self._tensor_type(target.sparse_tensor_type)
            else:
                self._opaque(target.opaque_type)
            tokens.expect(")", f"after the arguments of '{word}'")
        tokens.leave()

    def _dtype(self) -> int:
        if self.tokens.word not in CODES:
            raise self.tokens.expected("an element type (float, int64, string …)")
        return CODES[self.tokens.next().text]

    def _tensor_type(self, target: TypeProto.Tensor | TypeProto.SparseTensor) -> None:
        target.elem_type = self._dtype()
        tokens = self.tokens
        if tokens.word != "[" or _EXTERNAL.match(tokens.text, tokens.start):
            target.shape.SetInParent()
            return
        tokens.advance()
        if not tokens.accept("]"):
            self._dims(target.shape)

    def _dims(self, shape: TensorShapeProto) -> None:
        tokens = self.tokens
        goes_on = True
        while goes_on:
            dim = shape.dim.add()
            if tokens.kind == INTEGER:
                dim.dim_value = tokens.integer("a dim")
            elif not tokens.accept("?"):
                dim.dim_param = tokens.identifier_or_string("a dim (an integer, a name or '?')")
            goes_on = tokens.more("]", "after a dim")

    def _opaque(self, target: TypeProto.Opaque) -> None:
        tokens = self.tokens
        target.SetInParent()
        if tokens.word == ")":
            return
        first = tokens.identifier_or_string("a name")
        while tokens.accept("."):
            first += f".{tokens.identifier_or_string('a name')}"
        if tokens.accept(","):
            target.domain = first
            first = tokens.identifier_or_string("a name")
        target.name = first
