"""Files of adapters: named tensors that take the place of a model's, in onnxruntime's format.

Decides how such a file is read and written. It is a FlatBuffer with the mark ``TORT`` whose root is

    table Adapter { format_version: int; adapter_version: int; model_version: int;
                    parameters: [Parameter]; }
    table Parameter { name: string; dims: [int64]; data_type: int; raw_data: [uint8]; }

with the element types of ONNX by their numbers. Source: FlatBuffers' description of its binary
format. Nothing in a file is believed: each place that it names is compared with its size.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fornix.dtype import STRING, DType
from fornix.errors import DTypeError, FormatError, TensorDataError
from fornix.format.atomic import write_file
from fornix.format.mapped import MappedFile

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 1
MARK = b"TORT"
MAX_RANK = 64
MAX_BYTES = 2**31 - 1
"""Of a file: its places are signed where they are relative."""
_ROOT = struct.Struct("<I4s")
_ALIGNMENT = 64
"""Bytes, of the data of a parameter."""


@dataclass
class Adapter:
    """Versions, and tensors by name."""

    adapter_version: int = 0
    model_version: int = 0
    parameters: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def read_adapter(path: str | os.PathLike[str]) -> Adapter:
    """The adapter in a file, which is mapped; raises NoSuchFile, and FormatError for others."""
    file = MappedFile.open(path)
    return parse_adapter(file.view(0, file.size), file.name)


def parse_adapter(body: memoryview, name: str = "<bytes>") -> Adapter:
    """The adapter in ``body``, whose arrays are views of it; raises FormatError for others."""
    if len(body) < _ROOT.size or _ROOT.unpack_from(body)[1] != MARK:
        raise FormatError(f"{name}: an adapter of onnxruntime is required, found something else")
    try:
        return _read(body)
    except (_Outside, struct.error, UnicodeDecodeError, DTypeError, TensorDataError) as error:
        raise FormatError(f"{name}: adapter: {error}") from error


class _Outside(Exception):
    """A place that is not in the file, or a number that cannot be."""


def _read(body: memoryview) -> Adapter:
    root = _Table(body, _ROOT.unpack_from(body)[0])
    versions = [root.number(slot) for slot in range(3)]
    if versions[0] != FORMAT_VERSION:
        raise _Outside(f"format version {FORMAT_VERSION} is required, found {versions[0]}")
    found: dict[str, np.ndarray[Any, Any]] = {}
    start, count = root.vector(3, 4)
    for place in range(start, start + 4 * count, 4):
        parameter = _Table(body, place + struct.unpack_from("<I", body, place)[0])
        name, array = _parameter(parameter)
        if name in found:
            raise _Outside(f"parameter {name!r} must be there once, found two")
        found[name] = array
    return Adapter(versions[1], versions[2], found, versions[0])


def _parameter(table: _Table) -> tuple[str, np.ndarray[Any, Any]]:
    body = table.body
    start, size = table.vector(0, 1)
    name = bytes(body[start : start + size]).decode()
    start, rank = table.vector(1, 8)
    if rank > MAX_RANK:
        raise _Outside(f"parameter {name!r}: up to {MAX_RANK} axes are required, found {rank}")
    dims = struct.unpack_from(f"<{rank}q", body, start)
    if any(extent < 0 for extent in dims):
        raise _Outside(f"parameter {name!r}: extents of 0 or more are required, found {dims}")
    dtype = DType.of(table.number(2))
    start, size = table.vector(3, 1)
    return name, dtype.unpack(body[start : start + size], math.prod(dims)).reshape(dims)


class _Table:
    """A table of a FlatBuffer: slots, of which a list of places says where they are."""

    def __init__(self, body: memoryview, start: int) -> None:
        self.body, self.start = body, start
        self._slots = start - _number("<i", body, start)
        self._size = _number("<H", body, self._slots)

    def _place(self, slot: int) -> int | None:
        """Where ``slot`` is; None if the table does without."""
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return None
        offset = _number("<H", self.body, self._slots + entry)
        return self.start + offset if offset else None

    def number(self, slot: int) -> int:
        """The integer in ``slot``, 0 without one."""
        place = self._place(slot)
        return 0 if place is None else _number("<i", self.body, place)

    def vector(self, slot: int, width: int) -> tuple[int, int]:
        """Where the elements of ``width`` bytes begin to which ``slot`` points, and their count."""
        place = self._place(slot)
        if place is None:
            return 0, 0
        start = place + _number("<I", self.body, place)
        count = _number("<I", self.body, start)
        if start + 4 + count * width > len(self.body):
            raise _Outside(f"{count} elements at byte {start} are beyond the end")
        return start + 4, count


def _number(form: str, body: memoryview, place: int) -> int:
    if not 0 <= place <= len(body) - struct.calcsize(form):
        raise _Outside(f"byte {place} is beyond the {len(body)} that there are")
    found: int = struct.unpack_from(form, body, place)[0]
    return found


def write_adapter(adapter: Adapter, path: str | os.PathLike[str]) -> None:
    """Write a file, whole or not at all; raises DTypeError for texts, FormatError above 2 GiB."""
    write_file(path, [_Writing(adapter).body])


class _Writing:
    """A file on its way: tables first, then what they point to."""

    def __init__(self, adapter: Adapter) -> None:
        self.body = bytearray(_ROOT.pack(0, MARK))
        slots = self._append(struct.pack("<6H", 12, 20, 4, 8, 12, 16), 4)
        versions = (FORMAT_VERSION, adapter.adapter_version, adapter.model_version)
        root = self._append(struct.pack("<4iI", 0, *versions, 4), 4)
        struct.pack_into("<I", self.body, 0, root)
        struct.pack_into("<i", self.body, root, root - slots)
        count = len(adapter.parameters)
        entries = self._append(struct.pack("<I", count) + bytes(4 * count), 4) + 4
        for number, (name, array) in enumerate(adapter.parameters.items()):
            place = entries + 4 * number
            table = self._parameter(name, array, slots)
            struct.pack_into("<I", self.body, place, table - place)

    def _parameter(self, name: str, array: np.ndarray[Any, Any], slots: int) -> int:
        dtype = DType.of(array.dtype)
        if dtype is STRING:
            raise DTypeError(f"parameter {name!r}: numbers are required in adapters, found texts")
        data = dtype.pack(array)
        table = self._append(struct.pack("<iIIiI", 0, 0, 0, dtype.code, 0), 4)
        struct.pack_into("<i", self.body, table, table - slots)
        text = name.encode()
        dims = struct.pack(f"<{array.ndim}q", *array.shape)
        self._point(table + 4, len(text), text + b"\0", 4)
        self._point(table + 8, array.ndim, dims, 8)
        self._point(table + 16, len(data), data, _ALIGNMENT)
        return table

    def _point(self, place: int, count: int, content: bytes, alignment: int) -> None:
        """Append a vector whose elements are aligned, and let ``place`` point to it."""
        self.body += bytes(-(len(self.body) + 4) % alignment)
        start = self._append(struct.pack("<I", count) + content, 4)
        struct.pack_into("<I", self.body, place, start - place)

    def _append(self, content: bytes, alignment: int) -> int:
        self.body += bytes(-len(self.body) % alignment)
        start = len(self.body)
        if start + len(content) > MAX_BYTES:
            raise FormatError(f"an adapter of at most {MAX_BYTES} bytes is required, found more")
        self.body += content
        return start
