"""What machine code does of Cast between texts and numbers.

Makes its tables. What a text spells otherwise than with ASCII digits, a point and an exponent, and
what is near a tie between two float32 or beyond all, is read by the kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fornix.compile.text import finding
from fornix.compile.text import routines as words
from fornix.compile.text.calls import powers_to_read, powers_to_write
from fornix.dtype import BOOL, FLOAT32, FLOAT64, INT64, STRING, DType
from fornix.errors import FornixError
from fornix.ir.graph import Node
from fornix.runtime.links import ArrayType, Link, LinkedWay
from fornix.runtime.providers import Kernel, OwnWay, Run, TextCode, Way
from fornix.runtime.text.finding import Mapped, found_table
from fornix.runtime.text.tables import TextTable

NAMES = ["NaN", "INF", "-INF"]
"""What floats are called that are no numbers, in the order of the routines."""


def cast_way(node: Node, code: TextCode, kernel: Kernel) -> Way | None:
    """What does the work of ``node``; None if its kernel has to."""
    read, made = (getattr(getattr(v, "type", None), "dtype", None)
                  for v in (node.inputs[0], node.outputs[0]))  # fmt: skip
    if not isinstance(read, DType) or not isinstance(made, DType):
        return None
    if read is STRING:
        return _reading(made, code, kernel)
    return _writing(read, code) if made is STRING else None


def _reading(made: DType, code: TextCode, kernel: Kernel) -> Way | None:
    table = found_table(finding.READ, code)
    if made in {FLOAT32, FLOAT64}:
        table.put(words.STEPS, powers_to_read())
        table.words[words.IS_WIDE] = made is FLOAT64
        return _ReadFloats(table, made, kernel)
    if not _is_plain(made):
        return None
    whole = Mapped(table, np.dtype(np.int64))
    return whole if made is INT64 else _Read(whole, made.numpy)


def _writing(read: DType, code: TextCode) -> Way | None:
    table = found_table(finding.WRITE, code)
    if read in {FLOAT32, FLOAT64}:
        table.put(words.STEPS, powers_to_write())
        table.kept.append(NAMES)
        table.put(words.NAMES, np.array([id(name) for name in NAMES], np.int64))
        table.words[words.IS_WIDE] = read is FLOAT64
        return _Written(table, read.numpy)
    if not _is_plain(read) or read.numpy == np.uint64:
        return None
    return _Written(table, np.dtype(np.int64))


def _is_plain(dtype: DType) -> bool:
    """Whether it has truth values, or whole numbers of whole bytes."""
    return dtype is BOOL or (dtype.is_integer and dtype.bits >= 8)


class _Read(OwnWay):
    """Texts to the lowest bits of the whole numbers that they spell, or whether these are not 0."""

    def __init__(self, whole: Mapped, dtype: np.dtype[Any]) -> None:
        self.whole, self.dtype = whole, dtype

    def __call__(self, given: list[Any], run: Run) -> list[Any] | None:
        found = self.whole(given, run)
        return None if found is None else [found[0].astype(self.dtype)]


class _ReadFloats(OwnWay):
    """Texts to the floats next to what they spell; the kernel reads those that code leaves."""

    def __init__(self, table: TextTable, dtype: DType, kernel: Kernel) -> None:
        self.table, self.call = table, table.call()
        self.dtype, self.kernel = dtype, kernel

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        texts = given[0]
        nearest, left = np.empty(texts.shape), np.empty(texts.size + 1, np.int64)
        if self.call([texts, nearest, left]) is None:
            return None
        numbers = nearest.astype(self.dtype.numpy, copy=False)
        if left[0]:
            rows = left[1 : left[0] + 1]
            try:
                [others] = self.kernel.call([texts.reshape(-1)[rows]])
            except FornixError:  # who runs the node says which it is
                return None
            numbers.reshape(-1)[rows] = others
        return [numbers]


class _Written(LinkedWay):
    """Numbers to texts."""

    def __init__(self, table: TextTable, dtype: np.dtype[Any]) -> None:
        self.table, self.dtype, self.call = table, dtype, table.call()

    def __call__(self, given: list[Any], _: Run) -> list[Any] | None:
        numbers = np.ascontiguousarray(given[0], self.dtype).reshape(given[0].shape)
        found = self.call([numbers, np.empty(numbers.shape, object)])
        return None if found is None else [found]

    def link(self, read: ArrayType | None) -> Link | None:
        if read is None or read[1] != np.int64 or self.dtype != np.int64:
            return None
        return self.table.link(math.prod(read[0]), (read[0], np.dtype(object)))
