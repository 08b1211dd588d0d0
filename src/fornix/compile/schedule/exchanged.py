"""Products of few rows with a matrix whose columns lie in memory end to end: rows for columns.

Such a matrix would be turned as it is packed, which writes and reads it twice more, for the sake of
a few rows. Here these rows take the place of columns: they are packed, and each of the matrix' own
columns, as it lies, is a row. The sums are turned as they are read.
"""

from __future__ import annotations

from typing import TypeAlias

from fornix.compile.cost import accesses, stride_of
from fornix.compile.schedule.contraction import (
    DOT_ROWS,
    Contraction,
    contraction,
    contraction_nests,
)
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.ir.loops import Constant, Load, Scalar, Store, Variable, load, replace

Exchanged: TypeAlias = "tuple[list[Store | Stage], Store]"

FAR = 8
"""Second caches that a matrix fills which two rows had better not read one after the other."""
LEAST_LANES = 8
"""Lanes down to which vectors become narrower with the rows: two of 8 take no longer than one of
16, or less."""


def exchanged(c: Contraction, target: Target, lanes: int) -> Exchanged | None:
    """The sums with rows and columns exchanged, and the store of ``c`` reading them.

    None if that does not pay: the rows fill no vector, and the matrix is near.
    """
    if c.row is None or len(c.sum.axes) != 1 or c.outer or c.product.op != "mul":
        return None
    (k,) = c.sum.axes
    terms, rows, columns = k.extent, c.row.extent, c.column.extent
    if not (isinstance(terms, int) and isinstance(rows, int) and isinstance(columns, int)):
        return None
    nearest = target.l2_bytes * (FAR if rows <= DOT_ROWS else 1)
    if not 1 < rows <= lanes or terms * columns * c.right.dtype.bits // 8 < nearest:
        return None
    if not _lies_along(c.right, k) or any(_is_stored(e) for e in accesses([c.left, c.right])):
        return None
    sums = filled("sums", (c.column, c.row), c.sum)
    turned = contraction(normal(sums))
    while 2 * rows <= lanes and lanes > LEAST_LANES:
        lanes //= 2
    made = None if turned is None else contraction_nests(turned, target, lanes)
    if made is None:
        return None
    first, rest, nest = made
    read = load(sums.buffer, sums.buffer.address((c.column.dim, c.row.dim)))
    store = c.store
    value = replace(store.value, {c.sum: read})
    turned_back = Store(store.buffer, store.axes, store.address, value)
    return [*first, Stage(nest, (rest,))], turned_back


def _lies_along(e: Scalar, axis: Variable) -> bool:
    return isinstance(e, Load) and stride_of(e.address, axis) == 1


def _is_stored(e: Load) -> bool:
    return isinstance(e.buffer.source, Constant)


__all__ = ["exchanged"]
