"""Memory for native code: aligned arrays, and one block for values that do not live at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.runtime.platform import READS_ANYWHERE

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""

Array = np.ndarray[Any, np.dtype[Any]]


def aligned_bytes(count: int) -> Array:
    """``count`` bytes that begin at a multiple of `ALIGNMENT`."""
    block = np.empty(count + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + count]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array in memory of its own, its contents undefined."""
    block = np.empty(math.prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, block, -block.ctypes.data % ALIGNMENT)


def readable(array: Array) -> Array:
    """``array`` as native code reads it: in row-major order, and at an address it can read."""
    if array.flags.c_contiguous and (array.flags.aligned or READS_ANYWHERE):
        return array
    return np.array(array, order="C")


def owned(value: Any) -> Any:
    """``value`` in memory of its own, C-contiguous and writable."""
    if isinstance(value, list):
        return [owned(item) for item in value]
    if isinstance(value, np.ndarray):
        return np.array(value, order="C")
    return value


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A value in the block: its size in bytes, and the steps from ``first`` to ``last``."""

    size: int
    first: int
    last: int


def place(lifetimes: Iterable[Lifetime]) -> tuple[list[int], int]:
    """Offsets in one block, large values first, and its size; values alive at once are apart."""
    given = list(lifetimes)
    offsets = [0] * len(given)
    placed: list[tuple[int, int, Lifetime]] = []
    for index in sorted(range(len(given)), key=lambda i: -given[i].size):
        one = given[index]
        size = -(-one.size // ALIGNMENT) * ALIGNMENT
        start = 0
        for begin, end, other in placed:
            apart = one.last < other.first or other.last < one.first
            if not apart and begin < start + size and start < end:
                start = end
        offsets[index] = start
        placed.append((start, start + size, one))
        placed.sort(key=lambda entry: entry[0])
    return offsets, max((end for _, end, _ in placed), default=0)
