"""What has to happen in an order: scans step by step, scattered writes one after the other.

And routines, which have an order of their own for each row.
"""

from __future__ import annotations

from fornix.compile.axes import without_units
from fornix.compile.cost import lanes_for, stride_of
from fornix.compile.nest import Block, Call, Chunks, Lanes, Loop, Nest, Put
from fornix.compile.schedule.chunks import chunked, in_scratch, looped
from fornix.compile.schedule.map import LIGHT_UNITS, alone
from fornix.compile.target import Target
from fornix.ir.loops import Routine, Scan, Scatter, Store


def scan_nest(scan: Scan, target: Target) -> Nest:
    """The starts, then all steps for one value of time after the other."""
    in_step = (*scan.inner, *scan.steps)
    lanes = _lanes((*scan.starts, *in_step), target)
    starts = [statement for s in scan.starts for statement in alone(s, lanes)]
    steps = [statement for s in in_step for statement in alone(s, lanes)]
    return Nest("scan", _one_thread((*starts, Loop(scan.time, tuple(steps)))), lanes)


def update_nest(scatter: Scatter, target: Target) -> Nest:
    """The writes of a scatter in their order; vectors only along an axis of distinct places."""
    update = scatter.update
    lanes = _lanes([update], target)
    if 0 in [a.extent for a in update.axes]:
        return Nest("scatter", (), lanes)
    update = without_units(update)
    body: Block = (Put(update.buffer, update.address, update.value, scatter.op),)
    axes = list(update.axes)
    if axes and stride_of(update.address, axes[-1]) == 1:
        body = (Lanes(axes.pop(), LIGHT_UNITS, body),)
    return Nest("scatter", _one_thread(looped(axes, body)), lanes)


def routine_nest(source: Routine, target: Target) -> Nest:
    """A call for each row; those of a chunk use the same scratch memory."""
    body, parallel = chunked([source.row], (Call(source),))
    offsets, size = in_scratch(source.scratch)
    lanes = target.vector_bytes // 4
    return Nest("routine", (body,), lanes, parallel, offsets, size)


def _one_thread(body: Block) -> Block:
    """The first chunk that has work does all of it."""
    return (Chunks((), body),)


def _lanes(stores: tuple[Store, ...] | list[Store], target: Target) -> int:
    values, dtypes = [s.value for s in stores], [s.buffer.dtype for s in stores]
    return lanes_for(values, dtypes, target.vector_bytes)
