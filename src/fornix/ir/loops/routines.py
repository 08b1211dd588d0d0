"""Routines: what is no expression per element, such as sorting and selecting, as Python functions.

A routine is a function of memory and whole numbers: ``x[k]`` is element ``k`` of a buffer in the
order in which it lies. It keeps to the few statements that the compiler translates, and Python runs
it as well, which is how tests know what it means. This file has the way to call one, and the words
that routines are written with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fornix.dtype import DType
from fornix.ir.buffer import Buffer
from fornix.ir.dim import DimLike
from fornix.ir.loops.index import Variable
from fornix.ir.loops.tensor import Routine, Tensor, new_buffer, stored

Memory: TypeAlias = Any
"""Elements of a buffer one after the other; anything that is indexed by a whole number."""


def routine(
    function: Callable[..., None],
    rows: DimLike,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[Sequence[DimLike], DType]],
    numbers: Callable[[DimLike], Sequence[DimLike]],
    *,
    scratch: Sequence[tuple[DimLike, DType]] = (),
    operations: DimLike = 0,
) -> tuple[Tensor, ...]:
    """What ``function`` writes when it is called for each of ``rows``, in any order.

    It is given memory of the inputs, of the outputs and of so many elements of scratch, then what
    ``numbers`` says for a row. ``operations`` are about as many as a call for all rows takes.
    """
    axis = Variable("row", rows)
    given = tuple(x.buffer for x in map(stored, inputs) if x.buffer is not None)
    made = tuple(new_buffer(function.__name__, shape, dtype) for shape, dtype in outputs)
    room = tuple(Buffer("scratch", (count,), dtype) for count, dtype in scratch)
    source = Routine(function, axis, given, made, room, tuple(numbers(axis.dim)), operations)
    for buffer in made:
        buffer.source = source
    return tuple(Tensor(b.shape, b.dtype, buffer=b) for b in made)


def first_below(keys: Memory, start: int, end: int, bound: int) -> int:
    """The first place from ``start`` on where the element is less than ``bound``; else ``end``."""
    at = start
    while at < end and keys[at] >= bound:
        at += 1
    return at


class Part:
    """Memory from a place on; what lies ahead of it has negative numbers."""

    def __init__(self, memory: Memory, start: int) -> None:
        self.memory, self.start = memory, start
        self.dtype = memory.dtype

    def __getitem__(self, place: int) -> Any:
        return self.memory[self.start + place]

    def __setitem__(self, place: int, value: Any) -> None:
        self.memory[self.start + place] = value


def after(memory: Memory, start: int) -> Memory:
    """``memory`` of which element 0 is element ``start``."""
    return Part(memory, start)


def number_in(memory: Memory, place: int, like: Memory) -> Any:
    """The number, of the dtype of ``like``, whose bytes are elements of memory from a place on."""
    count = like.dtype.itemsize // memory.dtype.itemsize
    return lanes(memory, place, count).view(like.dtype)[0]


def lanes(memory: Memory, place: int, count: int) -> Any:
    """So many elements side by side, on which arithmetic and comparisons work one by one."""
    return np.array([memory[place + lane] for lane in range(count)], memory.dtype)


def put_lanes(memory: Memory, place: int, values: Any) -> None:
    """Write values side by side."""
    for lane, value in enumerate(values):
        memory[place + lane] = value


def alike(number: int, count: int) -> Any:
    """A whole number of 32 bits in so many lanes."""
    return np.full(count, number, np.int32)


def pick(condition: Any, x: Any, y: Any) -> Any:
    """``x`` in lanes where ``condition`` holds, else ``y``."""
    return np.where(condition, x, y)


def lowest_bit(x: Any) -> Any:
    """The number of the lowest bit that is set in each lane, of which every one has some."""
    return np.array([(int(e) & -int(e)).bit_length() - 1 for e in x], np.int32)


def leading_zeros(word: int) -> int:
    """How many bits of a word above 0 are 0 ahead of the first that is 1."""
    return 64 - int(word).bit_length()


def wide(x: Any) -> Any:
    """Floats as float64."""
    return x.astype(np.float64)


def narrow(x: float) -> Any:
    """A float64 as the float32 next to it, or an infinity."""
    with np.errstate(over="ignore"):
        return np.float32(x)


def float_like(number: int, like: Memory) -> Any:
    """A whole number as a float of the dtype of ``like``."""
    return like.dtype.type(number)


def truncated(x: float) -> int:
    """A float without what is behind its point."""
    return int(x)


def memory_at(address: int, like: Memory) -> Memory:
    """Memory that begins at an address, with elements of the dtype of ``like``."""
    return _Raw(address, np.dtype(like.dtype))


class _Raw:
    """Memory at an address, of which nobody knows how long it is."""

    def __init__(self, address: int, dtype: np.dtype[Any]) -> None:
        self.address, self.dtype = int(address), dtype

    def _at(self, place: int) -> Any:
        kind = np.ctypeslib.as_ctypes_type(self.dtype)
        return kind.from_address(self.address + self.dtype.itemsize * place)

    def __getitem__(self, place: int) -> Any:
        return self._at(place).value

    def __setitem__(self, place: int, value: Any) -> None:
        self._at(place).value = value


def invoke(function: int, x: int, y: int, z: int) -> int:
    """What the C function at an address gives for whole numbers; it ignores those beyond its own.

    It is called as Python's own functions are: the caller holds the GIL.
    """
    kind = ctypes.PYFUNCTYPE(*[ctypes.c_int64] * 4)
    return int(kind(int(function))(int(x), int(y), int(z)))


def invoke_with(function: int, x: Any) -> int:
    """The same for one float64."""
    return int(ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_double)(int(function))(float(x)))
