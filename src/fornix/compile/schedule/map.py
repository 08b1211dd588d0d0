"""Maps: every element on its own. Decides the vector axis, pieces, the order and the chunks.

Reductions inside are left to `emit.folds`, which computes each at the outermost loop that it
depends on; so this schedule serves every `Store`, though not always at the best speed.
"""

from __future__ import annotations

from fornix.compile import axes as change
from fornix.compile.cost import (
    SCATTER_COST,
    STORE_COST,
    accesses,
    lanes_for,
    load_cost,
    stride_of,
    useful_lanes,
)
from fornix.compile.nest import Block, ChunkedLanes, Chunks, Lanes, Loop, Nest, Put
from fornix.compile.target import Target
from fornix.ir.dim import DimLike
from fornix.ir.loops import Store, Variable

HEAVY = 60
"""Nodes from which on two vectors at a time fill the registers; lighter bodies take four."""
HEAVY_UNITS, LIGHT_UNITS = 2, 4
CHUNKS = 16
"""Leading axes are cut into chunks until there are so many of them."""
GRAIN = 1024
"""Elements; a chunk of one long axis begins at a multiple of it."""
OPERATION_COST = 0.5
MASKED = 1.3
"""What the masked end of a short axis costs, as a factor."""


def map_nest(store: Store, target: Target) -> Nest:
    """Loops over the elements of ``store``, in vectors along the axis where that is cheapest."""
    lanes = lanes_for([store.value], [store.buffer.dtype], target.vector_bytes)
    if 0 in [a.extent for a in store.axes]:
        return Nest("map", (), lanes)
    store = change.merge(change.split(change.without_units(store)))
    vector = vector_axis(store, lanes)
    pieces = change.cut(store, [] if vector is None else [vector])
    body: list[Chunks | ChunkedLanes] = []
    parallel: DimLike = 1
    for piece in pieces:
        axis = None if vector is None else next((a for a in piece.axes if a is vector), None)
        statement, chunks = _piece(piece, axis)
        body.append(statement)
        parallel = chunks if parallel == 1 else parallel
    return Nest("map", tuple(body), lanes, parallel)


def vector_axis(store: Store, lanes: int) -> Variable | None:
    """The axis with the least cost per element; None if one element at a time is cheaper."""
    loads = accesses([store.value])
    work = OPERATION_COST * min(store.value.size, 1000)

    def cost(axis: Variable) -> float:
        step = stride_of(store.address, axis)
        total = SCATTER_COST if step is None else STORE_COST.get(step, SCATTER_COST)
        total += sum(load_cost(e, axis) for e in loads) + work
        useful = useful_lanes(axis.extent, lanes)
        return total / useful * (1.0 if useful == lanes else MASKED)

    best = min(store.axes, key=cost, default=None)
    if best is None or cost(best) >= len(loads) + 1 + work:
        return None
    return best


def _piece(store: Store, vector: Variable | None) -> tuple[Chunks | ChunkedLanes, DimLike]:
    """The loops of one piece, and how many chunks they make."""
    put: Block = (Put(store.buffer, store.address, store.value),)
    outer = [a for a in store.axes if a is not vector]
    if vector is not None:
        units = HEAVY_UNITS if store.value.size > HEAVY else LIGHT_UNITS
        if not outer:
            return ChunkedLanes(vector, units, GRAIN, put), (vector.extent + GRAIN - 1) // GRAIN
        put = (Lanes(vector, units, put),)
    return chunked(outer, put)


def alone(store: Store, lanes: int) -> Block:
    """The loops of ``store`` when one thread does all of it."""
    if 0 in [a.extent for a in store.axes]:
        return ()
    store = change.merge(change.split(change.without_units(store)))
    vector = vector_axis(store, lanes)
    body: Block = (Put(store.buffer, store.address, store.value),)
    if vector is not None:
        body = (Lanes(vector, HEAVY_UNITS if store.value.size > HEAVY else LIGHT_UNITS, body),)
    for axis in reversed([a for a in store.axes if a is not vector]):
        body = (Loop(axis, body),)
    return body


def chunked(axes: list[Variable], body: Block) -> tuple[Chunks, DimLike]:
    """The leading ``axes`` cut into chunks, loops over the others, around ``body``."""
    count: DimLike = 1
    known = 1
    lead = 0
    while lead < len(axes) and known < CHUNKS:
        extent = axes[lead].extent
        count = count * extent
        known *= extent if isinstance(extent, int) else 1
        lead += 1
    for axis in reversed(axes[lead:]):
        body = (Loop(axis, body),)
    return Chunks(tuple(axes[:lead]), body), count
