"""The elements of tensors as numbers and strings.

Decides which field of a TensorProto the written elements go to, and that they are the stored
numbers: of float16, bfloat16 and everything below 16 bits the bit patterns, of packed dtypes the
bytes. So says the standard's notation; `fornix.format.tensors` knows what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from fornix import dtype
from fornix.format.messages import TensorProto
from fornix.format.text.notes import FLOAT32_END, float32_text, quote
from fornix.format.text.tokens import Tokens

_SPACE = r"[ \t\r\n\f\v]*+"
_INTEGER = rf"{_SPACE}-?[0-9]{{1,18}}+{_SPACE}"
_FLOAT = rf"{_SPACE}-?(?:[0-9]++(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?|(?i:inf(?:inity)?|nan)){_SPACE}"
# Whole lists at once: a tensor may have millions of elements, and a token costs half a microsecond.
_INTEGERS = re.compile(f"(?:{_INTEGER},)*+{_INTEGER}")
_FLOATS = re.compile(f"(?:{_FLOAT},)*+{_FLOAT}")
_CANONICAL_NAN = {4: 0x7FC00000, 8: 0x7FF8000000000000}


class Storage(NamedTuple):
    """How a dtype is stored: its field, its form in `raw_data`, and the kind of its literals."""

    field: str
    raw: np.dtype[np.generic] | None
    literal: str  # "float", "integer" or "string"


def _storage(of: dtype.DType) -> Storage:
    if of.kind == "string":
        return Storage("string_data", None, "string")
    if of.kind == "complex" or (of.kind == "float" and of.bits >= 32):
        bits = of.bits // 2 if of.kind == "complex" else of.bits
        field = "float_data" if bits == 32 else "double_data"
        return Storage(field, np.dtype(f"<f{bits // 8}"), "float")
    signed = of.kind == "int" and of.bits >= 8
    raw = np.dtype(f"<{'i' if signed else 'u'}{max(of.bits // 8, 1)}")
    fields = {"int64": "int64_data", "uint32": "uint64_data", "uint64": "uint64_data"}
    return Storage(fields.get(of.name, "int32_data"), raw, "integer")


CODES: dict[str, int] = {of.text: of.code for of in dtype.ALL}
TEXTS: dict[int, str] = {of.code: of.text for of in dtype.ALL}
STORAGE: dict[int, Storage] = {of.code: _storage(of) for of in dtype.ALL}


def read_list(tokens: Tokens, close: str, literal: str) -> list[float]:
    """The numbers from the cursor to ``close``, separated by commas; moves behind it."""
    text, start = tokens.text, tokens.start
    end = text.find(close, start)
    pattern, number = (_FLOATS, float) if literal == "float" else (_INTEGERS, int)
    if end > start and pattern.fullmatch(text, start, end):
        values: list[float] = list(map(number, text[start:end].split(",")))
        if literal != "float" or np.isfinite(values).all():
            tokens.seek(end)
            tokens.advance()
            return values
    return _read_slowly(tokens, close, literal)


def _read_slowly(tokens: Tokens, close: str, literal: str) -> list[float]:
    values: list[float] = []
    goes_on = not tokens.accept(close)
    while goes_on:
        if literal == "float":
            word = tokens.word
            tokens.number()
            values.append(float(word))
        else:
            values.append(tokens.integer(least=-(2**63), greatest=2**64 - 1))
        goes_on = tokens.more(close, "after an element")
    return values


class Elements(NamedTuple):
    """Elements that were read and are still to be stored; ``start`` is where their text starts."""

    tokens: Tokens
    tensor: TensorProto
    values: list[float]
    start: int

    def store(self, *, raw: bool) -> None:
        """Put them into `raw_data` if ``raw`` and the dtype can be there, else into its field."""
        index = store(self.tensor, self.values, raw=raw)
        if index is None:
            return
        self.tokens.seek(self.start)
        for _ in range(2 * index):  # an element and a comma each
            self.tokens.advance()
        least, greatest = _range(STORAGE[self.tensor.data_type], raw=raw)
        raise self.tokens.expected(f"an element from {least} to {greatest}")


def read_elements(tokens: Tokens, tensor: TensorProto) -> Elements:
    """Read the elements in the brace at the cursor; strings are stored at once."""
    tokens.expect("{")
    if tokens.word == "...":
        raise tokens.error("expected the elements, found '...'; print the model without elide")
    literal, start = STORAGE[tensor.data_type].literal, tokens.start
    if literal != "string":
        return Elements(tokens, tensor, read_list(tokens, "}", literal), start)
    goes_on = not tokens.accept("}")
    while goes_on:
        tensor.string_data.append(tokens.raw_string("an element, a string"))
        goes_on = tokens.more("}", "after an element")
    return Elements(tokens, tensor, [], start)


def store(tensor: TensorProto, values: list[float], *, raw: bool) -> int | None:
    """Put ``values`` where the dtype keeps its elements; the index of one that does not fit."""
    storage = STORAGE[tensor.data_type]
    least, greatest = _range(storage, raw=raw)
    if storage.literal == "float":
        array = np.array(values, np.float64)
        outside = np.isfinite(array) & ~((array > least) & (array < greatest))
        if outside.any():
            return int(outside.argmax())
    elif values and not least <= min(values) <= max(values) <= greatest:
        return next(i for i, value in enumerate(values) if not least <= value <= greatest)
    if raw and storage.raw is not None:
        tensor.raw_data = np.array(values, storage.raw).tobytes()
    elif storage.field == "uint64_data":
        tensor.uint64_data.extend([int(value) % 2**64 for value in values])
    else:
        getattr(tensor, storage.field).extend(values)
    return None


def _range(storage: Storage, *, raw: bool) -> tuple[float, float]:
    """Least and greatest element; those of floats are out of range themselves."""
    if storage.literal == "float":
        end = FLOAT32_END if storage.raw == np.dtype("<f4") else float("inf")
        return -end, end
    if raw and storage.raw is not None:
        info = np.iinfo(cast("np.dtype[np.integer[Any]]", storage.raw))
        return int(info.min), int(info.max)
    if storage.field == "uint64_data":
        return -(2**63), 2**64 - 1  # the standard's parser takes −1 for 2⁶⁴ − 1
    bits = 63 if storage.field == "int64_data" else 31
    return -(2**bits), 2**bits - 1


def can_write_raw(tensor: TensorProto) -> bool:
    """Whether the text of the elements of `raw_data` reads as the same bytes."""
    raw = STORAGE[tensor.data_type].raw
    if raw is None or len(tensor.raw_data) % raw.itemsize:
        return False
    if raw.kind != "f":
        return True
    array = np.frombuffer(tensor.raw_data, raw)
    bits = array.view(f"<u{raw.itemsize}")[np.isnan(array)]
    return bool((bits == _CANONICAL_NAN[raw.itemsize]).all())


def element_texts(tensor: TensorProto, keep: frozenset[str] = frozenset()) -> list[str]:
    """The stored elements, each as a literal; ``keep`` as for `quote`."""
    storage = STORAGE[tensor.data_type]
    if storage.literal == "string":
        return [quote(item, keep=keep) for item in tensor.string_data]
    if storage.raw is not None and tensor.HasField("raw_data"):
        values: list[float] = np.frombuffer(tensor.raw_data, storage.raw).tolist()
    else:
        values = list(getattr(tensor, storage.field))
    if storage.raw == np.dtype("<f4"):
        return float32_texts(values)
    return list(map(repr, values))


def element_count(tensor: TensorProto) -> int:
    """How many elements are stored in `raw_data` or else in the field of the dtype."""
    storage = STORAGE[tensor.data_type]
    if storage.raw is not None and tensor.HasField("raw_data"):
        return len(tensor.raw_data) // storage.raw.itemsize
    return len(getattr(tensor, storage.field))


def float32_texts(values: Sequence[float]) -> list[str]:
    """The shortest texts that read as the same float32, by way of float64."""
    if len(values) == 1:
        return [float32_text(values[0])]
    array = np.array(values, np.float32)
    texts = list(map(str, array))
    read = np.array(list(map(float, texts))).astype(np.float32)
    for i in np.flatnonzero((read != array) & ~np.isnan(array)):
        texts[i] = repr(float(array[i]))
    return texts
