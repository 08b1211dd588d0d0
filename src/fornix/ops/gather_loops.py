"""Some columns of rows, at places that the model says: a routine that copies them one by one.

Vectors of such elements are gathered in the compiler's loops, at three cycles for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64
from fornix.ir.dim import DimLike, known
from fornix.ir.loops import Scalar, Tensor, compute, constant
from fornix.ir.loops.routines import Memory, after, routine

PLAIN = {FLOAT32, FLOAT64, INT32, INT64}
"""What is copied as it is."""
PART = 256
"""Rows of a call."""


def columns_of(x: Tensor, places: Sequence[DimLike] | None) -> Tensor | None:
    """The columns at ``places`` of x[N, F], counted from the end too; None if nobody knows them."""
    width = known(x.shape[-1])
    numbers = [place for place in places or () if isinstance(place, int)]
    if (
        x.rank != 2
        or x.dtype not in PLAIN
        or width is None
        or not numbers
        or len(numbers) < len(places or ())
    ):
        return None
    if min(numbers) < -width or max(numbers) >= width:
        return None
    columns = np.array([place % width for place in numbers], np.int64)
    rows, count, start = x.shape[0], columns.size, int(columns[0])
    if (np.diff(columns) == 1).all():

        def at(n: DimLike, k: DimLike) -> Scalar:
            return x[n, k + start]

        return compute((rows, count), at)
    parts = (rows + PART - 1) // PART

    def told(call: DimLike) -> tuple[DimLike, ...]:
        return call * PART, rows, width, count

    [y] = routine(
        take_columns,
        parts,
        [x, constant(columns)],
        [((rows, count), x.dtype)],
        told,
        operations=8 * rows * count,
    )
    return y


def take_columns(
    x: Memory, columns: Memory, y: Memory, first: int, rows: int, width: int, count: int
) -> None:
    """Columns of up to `PART` rows from the ``first`` on, four rows at a time."""
    end = min(first + PART, rows)
    row = first
    while row + 4 <= end:
        a, to = after(x, row * width), after(y, row * count)
        b, second = after(a, width), after(to, count)
        c, third = after(b, width), after(second, count)
        d, fourth = after(c, width), after(third, count)
        for k in range(count):
            at = columns[k]
            to[k] = a[at]
            second[k] = b[at]
            third[k] = c[at]
            fourth[k] = d[at]
        row += 4
    while row < end:
        a, to = after(x, row * width), after(y, row * count)
        for k in range(count):
            to[k] = a[columns[k]]
        row += 1
