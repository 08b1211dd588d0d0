"""Products of one row, as a run may tell, with columns that are not stored.

Columns are packed for many rows, which costs more than all else where there is one: what it reads
once would be written and read again.
"""

from __future__ import annotations

from fornix.compile.axes import if_long
from fornix.compile.cost import accesses, stride_of
from fornix.compile.schedule.contraction import contraction
from fornix.ir.dim import DimLike, atoms, maximum, minimum
from fornix.ir.loops import Constant, Store

LEAST_TERMS = 48
"""Of sums along what lies side by side, where only a run tells how many: each adds up the lanes of
a vector. For twelve heads of 1,000 keys of 16 that takes 32 µs, packing them 25; of 64, 42 and 106.
"""


def single_row(store: Store) -> tuple[DimLike, Store] | None:
    """1 where a run has one row, and sums that are long enough, else 0, and ``store`` for that.

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
    found = if_long(store, c.row, 1)
    along = next((a for a in c.sum.axes if not isinstance(a.extent, int)), None)
    if found is None or along is None:
        return found
    if all(stride_of(e.address, along) != 1 for e in accesses([c.right])):
        return found
    is_long = minimum(maximum(along.extent - (LEAST_TERMS - 1), 0), 1)
    return found[0] * is_long, found[1]


__all__ = ["single_row"]
