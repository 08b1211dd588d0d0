"""Products of one row, as a run may tell, with columns that are not stored.

Columns are packed for many rows, which costs more than all else where there is one: what it reads
once would be written and read again.
"""

from __future__ import annotations

from fornix.compile.axes import if_long
from fornix.compile.cost import accesses
from fornix.compile.schedule.contraction import contraction
from fornix.ir.dim import DimLike, atoms
from fornix.ir.loops import Constant, Store


def single_row(store: Store) -> tuple[DimLike, Store] | None:
    """1 where a run has one row, else 0, and the product ``store`` for that.

    None unless a run tells how many rows there are, independently of all else, and of what columns
    read something is not stored.
    """
    c = contraction(store)
    if c is None or c.row is None or isinstance(c.row.extent, int):
        return None
    if all(isinstance(e.buffer.source, Constant) for e in accesses([c.right])):
        return None
    own = set(atoms(c.row.extent))
    others = (a.extent for a in (*store.axes, *c.sum.axes) if a is not c.row)
    if any(not isinstance(d, int) and not own.isdisjoint(atoms(d)) for d in others):
        return None
    return if_long(store, c.row, 1)


__all__ = ["single_row"]
