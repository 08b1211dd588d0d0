"""Computations to nests: which loops, in which order, which of them in vectors.

One module per kind of schedule; `schedule` picks the kind.
"""

from __future__ import annotations

from fornix.compile.nest import Nest
from fornix.compile.schedule.map import lanes_of, map_nest, normal, vector_axis
from fornix.compile.schedule.ordered import scan_nest, update_nest
from fornix.compile.schedule.row import row_axis, row_nest
from fornix.compile.target import Target
from fornix.errors import NotSupported
from fornix.ir.loops import Scan, Scatter, Store
from fornix.ir.loops.tensor import Computation


def schedule(source: Computation, target: Target) -> list[Nest]:
    """The nests that together, one after the other, do what ``source`` says."""
    match source:
        case Store():
            return [_of_store(source, target)]
        case Scan():
            return [scan_nest(source, target)]
        case Scatter():
            return [_of_store(source.base, target), update_nest(source, target)]
    raise NotSupported(f"{type(source).__name__} has no native code")


def _of_store(store: Store, target: Target) -> Nest:
    lanes = lanes_of(store, target)
    if 0 in [a.extent for a in store.axes]:
        return Nest("map", (), lanes)
    store = normal(store)
    row = row_axis(store, vector_axis(store, lanes))
    if row is not None:
        axis, along = row
        return row_nest(store, axis, along, target)
    return map_nest(store, lanes)


__all__ = ["schedule"]
