"""Bytes that are made of one byte each: what becomes of all 256 is computed once, and looked up.

What quantised tensors go through between two products, a sigmoid with its scales before and
behind, takes dozens of instructions for a few elements; processors that pick bytes out of
registers look a whole vector of them up in less.
"""

from __future__ import annotations

import math

from fornix.compile.cost import accesses
from fornix.compile.emit.looked_up import BYTES, finding, steps
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.compile.work import OPERATIONS_OF
from fornix.dtype import INT8, UINT8
from fornix.ir.dim import known
from fornix.ir.loops import (
    Apply,
    Load,
    Store,
    Variable,
    bitcast,
    cast,
    index,
    load,
    replace,
    walk,
)
from fornix.ir.loops.scalar import gathered

LEAST = 16 * BYTES
"""Elements from which on it is worth while to compute those of all bytes first, as it is where only
a run tells how many there are: that takes a tenth of a microsecond, and is done once where scales
are stored."""
_OF_BYTES = {INT8, UINT8}


def looked_up(store: Store, target: Target, lanes: int) -> tuple[Store, Store] | None:
    """The table, and a normal ``store`` that looks up in it; None where that is slower.

    ``lanes`` are those in which its values would be computed.
    """
    given = _only_byte(store)
    if given is None or finding(target) is None:
        return None
    count = known(math.prod(a.extent for a in store.axes))
    if count is not None and count < LEAST:
        return None
    work = sum(OPERATIONS_OF.get(e.op, 0) for e in walk(store.value) if isinstance(e, Apply))
    if target.vector_bytes // lanes * work <= steps(target):
        return None
    place = Variable("k", BYTES)
    each = bitcast(cast(index(place), UINT8), given.dtype)
    value = replace(store.value, {given: each})
    if not value.variables <= {place}:
        return None
    table = filled("table", (place,), value)
    found = load(table.buffer, gathered(bitcast(given, UINT8), BYTES))
    rest = Store(store.buffer, store.axes, store.address, found)
    return table, rest


def _only_byte(store: Store) -> Load | None:
    """What ``store`` reads at every place, if that is one byte, and a byte is made of it."""
    axes = set(store.axes)
    loads = [e for e in accesses([store.value]) if not e.variables.isdisjoint(axes)]
    if store.buffer.dtype not in _OF_BYTES or len(loads) != 1 or loads[0].guard is not None:
        return None
    # NB: what is read in a sum moves on along axes that are not the store's.
    return loads[0] if loads[0].dtype in _OF_BYTES and loads[0].variables <= axes else None


__all__ = ["looked_up"]
