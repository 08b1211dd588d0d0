"""Running sums as routines: row is added to row where axes follow, else rows go side by side.

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
BLOCK, WIDE = 128, 4096
"""Elements of rows that one call adds up, and of those of much data: memory is read in order then,
where columns of few elements take a third to twice as long and have more threads share."""
ABREAST = 4
"""Rows that one call sums along the last axis: none waits for the sum before, which takes as many
cycles."""
FEW = 1 << 11
"""Elements that the nearest cache holds, so that columns may be read one after the other: sums wait
in registers then, and not for memory to give back what was written last. Parts of longer rows lie
a page apart, say, where that cache holds few of them."""
LARGE_BYTES = 1 << 21
"""Of much data, which the caches of one core do not hold."""


def running_sums(x: Tensor, axis: int, *, is_exclusive: bool, is_reverse: bool) -> Tensor | None:
    """The sums of ``x`` along ``axis``; None for one row, of which a scan is what it has to be."""
    steps, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    if x.dtype not in SUMMED or inner == 1 == math.prod(x.shape[:axis]):
        return None
    if inner == 1:
        return _sums_of_rows(x, axis, is_exclusive=is_exclusive, is_reverse=is_reverse)
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


def _sums_of_rows(x: Tensor, axis: int, *, is_exclusive: bool, is_reverse: bool) -> Tensor:
    """The sums of rows that lie one behind the other, begun with -0 where that must not show."""
    steps, rows = x.shape[axis], math.prod(x.shape[:axis])
    alone = 2 if x.dtype.is_float else 3  # sums of integers hardly wait

    def told(call: DimLike) -> tuple[DimLike, ...]:
        start, rest = call * ABREAST * steps, rows - call * ABREAST
        if is_reverse:
            return start + steps - 1, steps, -1, int(is_exclusive), rest, alone
        return start, steps, 1, int(is_exclusive), rest, alone

    begun = np.full(1, 0.0 if is_exclusive else -0.0, x.dtype.numpy)
    [y] = routine(
        add_along,
        (rows + ABREAST - 1) // ABREAST,
        [x, constant(begun)],
        [(x.shape, x.dtype)],
        told,
        operations=math.prod(x.shape),
    )
    return y


def add_along(
    x: Memory, begun: Memory, y: Memory, start: int, steps: int, move: int, is_exclusive: int,
    rest: int, alone: int,
) -> None:  # fmt: skip
    """The sums of up to ``ABREAST`` rows, whose elements lie ``move`` apart.

    Up to ``alone`` rows go one by one; of three that do not, the last is summed twice.
    """
    if rest > alone:
        add_four(x, begun, y, start, steps, min(rest - 1, 3) * steps, move, is_exclusive)
        return
    for row in range(rest):
        so_far = begun[0]
        at = start + row * steps
        for _ in range(steps):
            after = so_far + x[at]
            y[at] = so_far if is_exclusive != 0 else after
            so_far = after
            at += move


def add_four(
    x: Memory, begun: Memory, y: Memory, start: int, steps: int, fourth: int, move: int,
    is_exclusive: int,
) -> None:  # fmt: skip
    """The sums of four rows side by side, of which the last begins ``fourth`` elements behind."""
    a = begun[0]
    b = begun[0]
    c = begun[0]
    d = begun[0]
    at = start
    for _ in range(steps):
        e = a + x[at]
        f = b + x[at + steps]
        g = c + x[at + 2 * steps]
        h = d + x[at + fourth]
        y[at] = a if is_exclusive != 0 else e
        y[at + steps] = b if is_exclusive != 0 else f
        y[at + 2 * steps] = c if is_exclusive != 0 else g
        y[at + fourth] = d if is_exclusive != 0 else h
        a = e
        b = f
        c = g
        d = h
        at += move


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
    """The sums of up to ``block`` columns, from one row to that ``move`` elements behind.

    Each row reads the one before in the lanes in which it was written, else it would wait for that.
    Whole rows, from the last one on, go from their ends: memory is read ahead in either direction.
    """
    count = min(rest, block) if steps > 0 else 0
    for k in range(count):
        y[start + k] = zero[0] if is_exclusive != 0 else x[start + k]
    before = start
    to = start + move
    source = start if is_exclusive != 0 else to
    if steps * count <= FEW and count == max(move, -move):
        add_columns(x, y, start, to, source, steps, move, count)
        return
    step = -16 if count == -move else 16
    for _ in range(1, steps):
        at = count // 16 * 16 - 16 if step < 0 else 0
        k = 0
        while k + 16 <= count:
            put_lanes(y, to + at, lanes(y, before + at, 16) + lanes(x, source + at, 16))
            at += step
            k += 16
        while k + 4 <= count:
            put_lanes(y, to + k, lanes(y, before + k, 4) + lanes(x, source + k, 4))
            k += 4
        while k < count:
            y[to + k] = y[before + k] + x[source + k]
            k += 1
        before = to
        to += move
        source += move


def add_columns(
    x: Memory, y: Memory, before: int, to: int, source: int, steps: int, move: int, count: int
) -> None:
    """What `add_rows` does, some columns from the first to the last row, then the next ones.

    The last ones may be summed twice.
    """
    k = 0
    while count >= 16 and k < count:
        at = min(k, count - 16)
        many = lanes(y, before + at, 16)
        for _ in range(1, steps):
            many = many + lanes(x, source + at, 16)
            put_lanes(y, to + at, many)
            at += move
        k += 16
    while count >= 4 and k < count:
        at = min(k, count - 4)
        some = lanes(y, before + at, 4)
        for _ in range(1, steps):
            some = some + lanes(x, source + at, 4)
            put_lanes(y, to + at, some)
            at += move
        k += 4
    while k < count:
        one = y[before + k]
        at = k
        for _ in range(1, steps):
            one = one + x[source + at]
            y[to + at] = one
            at += move
        k += 1
