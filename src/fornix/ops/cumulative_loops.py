"""Running sums along an axis that others follow: a routine that adds row to row, side by side.

The sums stand where they belong at once; a scan keeps its steps outermost and is copied.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64
from fornix.ir.dim import DimLike, minimum
from fornix.ir.loops import Tensor, constant
from fornix.ir.loops.routines import Memory, lanes, put_lanes, routine

SUMMED = {FLOAT32, FLOAT64, INT32, INT64}
"""What is added as it is."""
BLOCK, WIDE = 128, 1024
"""Elements of rows that one call adds up, and of those of much data: memory is read in order then,
where columns of few elements take a third longer and have more threads share."""
LARGE_BYTES = 1 << 21
"""Of much data, which the caches of one core do not hold."""


def running_sums(x: Tensor, axis: int, *, is_exclusive: bool, is_reverse: bool) -> Tensor | None:
    """The sums of ``x`` along ``axis``; None where elements lie behind each other."""
    steps, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    if x.dtype not in SUMMED or inner == 1:
        return None
    is_large = minimum(steps * inner * x.dtype.bits // (8 * LARGE_BYTES), 1)
    block = BLOCK + is_large * (WIDE - BLOCK)
    blocks = (inner + block - 1) // block

    def told(call: DimLike) -> tuple[DimLike, ...]:
        count = 1 if blocks == 0 else blocks  # without elements nothing is called
        first = call % count * block
        start = call // count * steps * inner + first
        rest = inner - first
        if is_reverse:
            return start + (steps - 1) * inner, steps, -inner, int(is_exclusive), rest, block
        return start, steps, inner, int(is_exclusive), rest, block

    [y] = routine(
        add_rows,
        math.prod(x.shape[:axis]) * blocks,
        [x, constant(np.zeros(1, x.dtype.numpy))],
        [(x.shape, x.dtype)],
        told,
        operations=2 * math.prod(x.shape),
    )
    return y


def add_rows(
    x: Memory,
    zero: Memory,
    y: Memory,
    start: int,
    steps: int,
    move: int,
    is_exclusive: int,
    rest: int,
    block: int,
) -> None:
    """The sums of up to ``block`` columns, from one row to that ``move`` elements behind."""
    count = min(rest, block) if steps > 0 else 0
    for k in range(count):
        y[start + k] = zero[0] if is_exclusive != 0 else x[start + k]
    before = start
    to = start + move
    source = start if is_exclusive != 0 else to
    for _ in range(1, steps):
        k = 0
        while k + 16 <= count:
            put_lanes(y, to + k, lanes(y, before + k, 16) + lanes(x, source + k, 16))
            k += 16
        if count >= 16 and k < count:  # the last lanes may be summed twice
            put_lanes(
                y,
                to + count - 16,
                lanes(y, before + count - 16, 16) + lanes(x, source + count - 16, 16),
            )
            k = count
        while k < count:
            y[to + k] = y[before + k] + x[source + k]
            k += 1
        before = to
        to += move
        source += move
