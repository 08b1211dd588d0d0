"""Running results: scans of which every element only goes on from itself, as running sums do.

Elements are independent of each other then, so loops over them go outside that over time: what one
turn hands to the next stays in registers, and several threads share the elements.
"""

from __future__ import annotations

from fornix.compile.axes import rewritten
from fornix.compile.cost import lanes_for, stride_of
from fornix.compile.nest import Block, Carry, ChunkedLanes, Lanes, Nest, Put
from fornix.compile.schedule.chunks import chunked
from fornix.compile.schedule.map import LIGHT_UNITS, normal, vector_axis
from fornix.compile.target import Target
from fornix.ir.dim.expression import substitute
from fornix.ir.loops import Load, Scan, Store, walk

GRAIN = 64
"""Elements; four vectors of floats, so that each visit of a row reads whole lines."""


def running_nest(scan: Scan, target: Target) -> Nest | None:
    """For every element: its start, then all steps; None if steps read other elements."""
    if len(scan.steps) != 1 or scan.inner:
        return None
    start, step = normal(scan.starts[0]), normal(scan.steps[0])
    if [a.extent for a in start.axes] != [a.extent for a in step.axes]:
        start, step = scan.starts[0], scan.steps[0]
    last = _last(step, scan)
    if last is None or 0 in [a.extent for a in step.axes]:
        return None
    axes = zip(start.axes, step.axes, strict=True)
    start = rewritten(start, step.axes, {a: b.dim for a, b in axes})
    lanes = lanes_for([start.value, step.value], [step.buffer.dtype], target.vector_bytes)
    vector = vector_axis(step, lanes)
    if vector is not None and stride_of(step.address, vector) != 1:
        return None
    first = Put(start.buffer, start.address, start.value)
    body: Block = (Carry(scan.time, first, Put(step.buffer, step.address, step.value), last),)
    outer = [a for a in step.axes if a is not vector]
    if vector is not None and not outer:
        parts = (vector.extent + GRAIN - 1) // GRAIN
        return Nest("scan", (ChunkedLanes(vector, LIGHT_UNITS, GRAIN, body),), lanes, parts)
    if vector is not None:
        body = (Lanes(vector, LIGHT_UNITS, body),)
    chunks, parallel = chunked(outer, body)
    return Nest("scan", (chunks,), lanes, parallel)


def _last(step: Store, scan: Scan) -> Load | None:
    """What ``step`` reads of its buffer, if that is just the element that it goes on from."""
    read = [e for e in walk(step.value) if isinstance(e, Load) and e.buffer is step.buffer]
    before = substitute(step.address, {scan.time: scan.time.dim - 1}, {})
    if len(read) != 1 or read[0].address != before or read[0].guard is not None:
        return None
    return read[0]


__all__ = ["running_nest"]
