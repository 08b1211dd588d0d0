"""Routines: what is no expression per element, such as sorting and selecting, as Python functions.

A routine is a function of memory and whole numbers: ``x[k]`` is element ``k`` of a buffer in the
order in which it lies. It keeps to the few statements that the compiler translates, and Python runs
it as well, which is how tests know what it means. This file has the way to call one, and the words
that routines are written with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

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
