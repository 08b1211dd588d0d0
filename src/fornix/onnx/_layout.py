"""ONNX text in the layout of `onnx.printer`, character by character.

Changes only how `fornix.format.text` lays things out. What onnx's text cannot say stays as there:
notes for doc strings and metadata, values of dtypes that onnx leaves out, names in quotes. Fields
that are there but empty, and in which field a tensor has its elements, are not told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import cast

import numpy as np

from fornix.dtype import DType
from fornix.errors import InferenceError
from fornix.format.messages import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StringStringEntryProto,
    TensorProto,
)
from fornix.format.text.elements import STORAGE, TEXTS, element_texts, float32_texts
from fornix.format.text.notes import quote
from fornix.format.text.printer import Printer
from fornix.format.text.value_printer import name_text, names_text, with_commas


class OnnxPrinter(Printer):
    """Writes messages as onnx does."""

    __slots__ = ()
    comma = ","
    indent = "   "
    keeps_presence = False
    spells_types = True

    def model(self, model: ModelProto) -> str:
        return super().model(model).removesuffix("\n")

    def node(self, node: NodeProto) -> str:
        if self.newline != "\n":
            return super().node(node)
        return f"{self.indent}{self.inside(lambda: [self.node(node)])[0]}\n"  # alone

    def _header(self, message: ModelProto | FunctionProto, names: Sequence[str]) -> str:
        """All fields that are not empty, and two more in any case."""
        is_model = isinstance(message, ModelProto)
        always = ("ir_version" if is_model else "domain", "opset_import")
        between, indent = (", ", "   ") if is_model else (",", "  ")
        lines = [
            f"\n{indent}{name}: {self._header_value(getattr(message, name), between)}"
            for name in names
            if name in always or getattr(message, name)
        ]
        return f"<{','.join(lines)}\n>\n"

    def _header_value(self, value: object, between: str) -> str:
        if isinstance(value, int):
            return str(value)
        if isinstance(value, str | bytes):
            return quote(value, keep=self.keep)
        pairs = cast("Iterable[OperatorSetIdProto | StringStringEntryProto]", value)
        return f"[{between.join(map(self._pair, pairs))}]"

    def _pair(self, pair: OperatorSetIdProto | StringStringEntryProto) -> str:
        if isinstance(pair, OperatorSetIdProto):
            return f"{quote(pair.domain, keep=self.keep)} : {pair.version}"
        return self.writer.message(pair)

    def _formals(self, attributes: list[str]) -> str:
        return f"<{with_commas(attributes, ',')}>"

    def _graph_values(self, graph: GraphProto) -> list[str]:
        return [
            *[self.tensor(each, is_initializer=True) for each in graph.initializer],
            *[self.value_info(each) for each in graph.value_info],
        ]

    def _body(self, message: GraphProto | FunctionProto, values: list[str]) -> str:
        nodes = self._nodes(message.node)
        if self.newline == " " or not (values or isinstance(message, FunctionProto)):
            return f"{self._block(values)} {nodes}"
        return f"{self._block(values)}\n{nodes}"

    def _block(self, items: list[str]) -> str:
        if not items:
            return ""
        inner = self.newline if self.newline == " " else f"{self.newline}{self.indent}"
        return f" {inner}<{with_commas(items)}>"

    def _results(self, node: NodeProto) -> str:
        label = f"[{name_text(node.name)}] " if node.name else ""
        return f"{label}{names_text(node.output)} "

    def type_ahead(self, text: str) -> str:
        return f"{text} "

    def name_ahead(self, tensor: TensorProto, payload: str, *, is_initializer: bool) -> str:
        """A blank more ahead of numbers; the sign of equality only where it has to be."""
        is_text = tensor.data_type == TensorProto.STRING
        blank = "" if payload[0] == "[" or is_text else " "
        if is_initializer:
            return f" {name_text(tensor.name)} = {blank}"
        name = f" {name_text(tensor.name)}" if tensor.name else ""
        return f"{name} = " if payload[0] == "[" else f"{name}{blank}"

    def tensor(self, tensor: TensorProto, *, is_initializer: bool = False) -> str:
        """As there; InferenceError if `raw_data` is not as long as the dims say."""
        if tensor.HasField("raw_data") and tensor.data_type in TEXTS:
            found = len(tensor.raw_data)
            expected = DType.of(tensor.data_type).nbytes(math.prod(tensor.dims))
            if found != expected:
                raise InferenceError(
                    f"Data size mismatch: tensor '{tensor.name}' has {found} bytes in raw_data, "
                    f"its type and dims take {expected}"
                )
        return super().tensor(tensor, is_initializer=is_initializer)

    def elements(self, tensor: TensorProto) -> str:
        """Numbers without blanks, floats as short as they can be.

        Elements of 6 bits are packed in `raw_data` only: each has a number of its own, as in
        `int32_data`, from which the text is read.
        """
        dtype = DType.of(tensor.data_type)
        if dtype.bits == 6 and tensor.HasField("raw_data"):
            values = dtype.unpack(tensor.raw_data, math.prod(tensor.dims))
            return ",".join(map(str, values.view(np.uint8).tolist()))
        storage, texts = STORAGE[tensor.data_type], element_texts(tensor, self.keep)
        if storage.literal == "string":
            return ", ".join(texts)
        if storage.literal == "float":
            of = np.float32 if storage.field == "float_data" else float
            texts = [_shortest(text, of) for text in texts]
        return ",".join(texts)

    def floats(self, values: Sequence[float]) -> list[str]:
        return [_shortest(text, np.float32) for text in float32_texts(values)]


def _shortest(text: str, of: type[float | np.float32]) -> str:
    """The digits of ``text`` with or without an exponent, whichever is shorter.

    Where they are as short, without one; integers are then those that ``of`` holds.
    """
    if text[-2:] != ".0" and "e" not in text and not text.lstrip("-").startswith("0.0"):
        return text
    sign, digits, exponent = Decimal(text).normalize().as_tuple()
    exponent = int(exponent)  # for infinities and NaNs, which are not here, a letter
    power = len(digits) + exponent - 1
    first, *others = map(str, digits)
    scientific = f"{first}{'.' if others else ''}{''.join(others)}e{power:+03d}"
    exact = Decimal(int(of(text))) if exponent >= 0 else Decimal(text).normalize()
    fixed = f"{abs(exact):f}"
    return ("-" if sign else "") + (fixed if len(fixed) <= len(scientific) else scientific)
