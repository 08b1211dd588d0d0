"""Narrow rows that repeat, copied from a few of them that are made first.

A row of ten bytes fills a sixth of a vector, and so does every write of it. Many of them behind
each other fill vectors: they are made once, and copied from there.
"""

from __future__ import annotations

from fornix.compile.axes import if_long, rewritten
from fornix.compile.cost import accesses, outer_reductions, stride_of
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.ir.dim import DimLike, less, minimum
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Load, Store, Variable, load

ROWS = 64
"""Rows that are copied at once: whatever they are made of, they fill whole vectors."""
LEAST = 1024
"""Rows from which on it pays to make so many first."""
WIDE = 2
"""Vectors from which on rows are as well written one by one."""


def repeated(store: Store, lanes: int) -> list[Store] | None:
    """Some rows of a normal ``store``, copies of them, and the last rows; None if rows are wide."""
    own = store.axes[-1] if len(store.axes) > 1 else None
    if own is None or not isinstance(own.extent, int) or stride_of(store.address, own) != 1:
        return None
    rows = next((a for a in store.axes if stride_of(store.address, a) == own.extent), None)
    if rows is None or less(rows.extent, LEAST) is True or not store.value.variables <= {own}:
        return None
    if own.extent % lanes == 0 or own.extent >= WIDE * lanes or outer_reductions(store.value):
        return None
    first = filled("rows", (Variable("r", ROWS), own), store.value)
    block, place = Variable("b", rows.extent // ROWS), Variable("e", ROWS * own.extent)
    outer = [a for a in store.axes if a is not own]
    at: dict[Atom, DimLike] = {rows: block.dim * ROWS, own: place.dim}
    copies = rewritten(store, [*(block if a is rows else a for a in outer), place], at)
    copies = Store(copies.buffer, copies.axes, copies.address, load(first.buffer, place.dim))
    done = block.extent * ROWS
    last = Variable(rows.name, minimum(rows.extent - done, ROWS - 1))
    axes = [*(last if a is rows else a for a in outer), own]
    return [first, copies, rewritten(store, axes, {rows: last.dim + done})]


def as_column(store: Store, vector: Variable) -> tuple[DimLike, Store] | None:
    """1 where ``vector`` has one value, for which nothing repeats, and a normal ``store`` for that.

    Rows of one element would be vectors of one lane each. None unless a run tells how long they
    are, some of what is read repeats along them, and all of it where other axes are not as one.
    """
    loads = accesses([store.value])
    if len(store.axes) == 1 or all(stride_of(e.address, vector) != 0 for e in loads):
        return None
    found = None if outer_reductions(store.value) else if_long(store, vector, 1)
    if found is None:
        return None
    is_it, column = found[0], normal(found[1])
    *outer, last = column.axes or (vector,)
    if outer and vector in store.value.variables:
        return None
    if not all(_is_along(e, last) for e in accesses([column.value])):
        return None
    return is_it, column


def _is_along(e: Load, axis: Variable) -> bool:
    """Whether neighbours along ``axis`` read neighbours, or all the same."""
    return stride_of(e.address, axis) in {0, 1}


__all__ = ["as_column", "repeated"]
