"""Depthwise convolutions of row-major images by way of blocks of channels, where that is less work.

Rows fill vectors badly if they are short, are read with effort if steps along them are long, and
share little if only a run tells their length; with many taps that costs more than to turn the image
into blocks of channels and the result back.
Where only one of the two lies in rows, no vector fits both, and that one is turned.
Decided here is whether it does; the sums themselves are those of an image that lies in blocks.
"""

from __future__ import annotations

import itertools
import math

from fornix.compile.blocked import LEAST_LANES, blocked_buffer, lanes_of_buffer
from fornix.compile.convolution import Convolution
from fornix.compile.cost import accesses, stride_of, useful_lanes
from fornix.compile.phases import phases
from fornix.compile.schedule.inside import data_of, needed_for
from fornix.compile.schedule.packing import is_narrowed, sums_in_blocks
from fornix.compile.schedule.small_images import is_less
from fornix.compile.target import Target
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, Floor, atoms, coefficient
from fornix.ir.loops import Scalar, Store, Variable, load, replace, substitute_scalar
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

STEP_COST = {1: 1.0, 2: 2.0}
"""Of a term along rows that are read at every element, or every second one."""
STEP_COST_OF_BYTES = {1: 1.0, 2: 1.5}
"""The same of bytes: a vector that is loaded holds more of them than one of sums."""
FAR_COST = 6.0
"""The same at elements that are further apart."""
ROW_COST, WIDE_ROW_COST = (1.6, 2.4), (2.5, 4.0)
"""Of a term along rows of stored and of open length, relative to one in blocks; and where vectors
are multiplied twice in a cycle, which reading them across lines of the cache does not keep up with.
The first two were measured on Zen 4, with vectors of 64 and of 32 bytes. See bench/micro
depthwise."""
UNMASKED_COST = 3.0
"""How many times as much a term along rows costs whose elements no instruction masks: they are
shifted to their lanes, or asked one by one. Measured on Zen 4 with vectors of 32 bytes."""
UNPICKED_COST = 2.5
"""The same along rows of floats that are read at every second one, where no instruction picks lanes
of two vectors: those that mask none do not either."""
TURNING, WIDE_TURNING = 8.5, 15.0
"""Terms that it costs to turn an element where both sides are turned, and on such processors."""
NARROW_TURNING, NARROW_TURNING_OF_FLOATS = 4.0, 6.0
"""The same of sums of bytes and of floats where the result is finished in blocks and turned as
bytes, unless rows are of open length and the image is not `NEAR`. Measured on Zen 4."""
NEAR = 4
"""Times what the second cache holds, below which an image in blocks costs that: larger ones leave
it between one stage and the next. Measured on Zen 4."""
ONE_TURNING = 6.0
"""The same where one side is."""
REPEATED = 12
"""How many times as long the image takes where several filters read a channel: its elements are
copied one by one."""
OPEN_USE = 0.8
"""What is taken for the lanes of vectors along rows of unknown length that do work, of all."""
MARGIN = 1.3
"""How many times as much work rows have to be."""

_SERIAL = itertools.count()


def across_by_size(
    c: Convolution, target: Target, lanes: int
) -> tuple[list[Store], DimLike] | None:
    """`across_stages`, and 1 where a run takes them, else 0; None if rows are always better."""
    for is_near in (False, True):
        more = {"is_wide": target.is_wide, "is_near": is_near}
        stages = across_stages(c, lanes, **more, least_masked=target.least_masked)
        if stages is None:
            continue
        image = stages[0].buffer
        size = math.prod(image.shape) * image.dtype.bits // 8
        return stages, is_less(size, NEAR * target.l2_bytes) if is_near else 1
    return None


def across_stages(
    c: Convolution, lanes: int, *, is_wide: bool, least_masked: int = 1, is_near: bool = True
) -> list[Store] | None:
    """The image in blocks, its sums in blocks, and the result of ``c``; None if rows are better.

    Some processors are ``is_wide``: see `Target.is_wide`, and `Target.least_masked`. An image of
    open rows ``is_near`` if it is small enough for caches: see `NEAR`.
    """
    count = c.filter.extent
    if not c.is_depthwise or not isinstance(count, int):
        return None
    if not c.has_taps or phases(c.store) != [c.store]:
        return None
    read, written = _read_in_rows(c), stride_of(c.store.address, c.spatial[-1].out) == 1
    block = _width(c)
    width = block or (lanes if count % lanes == 0 else LEAST_LANES)
    is_mixed = read != written and (block > 0 or _is_beside(c, read=not read))
    if lanes < LEAST_LANES or count % width != 0:
        return None
    is_half = is_wide and width < lanes
    more = _more(c, least_masked) * (WIDE_ROW_COST if is_wide else ROW_COST)[_is_open(c)]
    turning = _turning(c, is_wide=is_wide, is_near=is_near)
    if not (
        _is_far(c)
        if is_mixed
        else read and written and _pays(c, lanes, more, turning, is_half=is_half)
    ):
        return None
    stages: list[Store] = []
    image = c.image
    if read:
        copy, image = _image_in_blocks(c, width)
        stages.append(copy)
    image = substitute_scalar(image, {s.place: s.read for s in c.spatial})
    whole = reduction("sum", c.sum.axes, c.product.of(image, c.weights))
    if written:
        sums, rest = sums_in_blocks(c, whole, width)
        return [*stages, sums, *rest]
    value = replace(c.store.value, {c.sum: whole})
    return [*stages, Store(c.store.buffer, c.store.axes, c.store.address, value)]


def _width(c: Convolution) -> int:
    """How many channels lie in a block of the image or of the result; 0 if they are in none."""
    buffers = [e.buffer for e in accesses([c.image])] + [c.store.buffer]
    found = {lanes_of_buffer(b) for b in buffers} - {1}
    return found.pop() if len(found) == 1 else 0


def _read_in_rows(c: Convolution) -> bool:
    """Whether rows of the image lie side by side, and no channels."""
    loads = accesses([c.image])
    steps = [coefficient(e.address, c.filter) for e in loads]
    return all(step is not None and step[0] != 1 for step in steps) and not any(
        lanes_of_buffer(e.buffer) > 1 for e in loads
    )


def _is_repeated(c: Convolution) -> bool:
    """Whether several filters read a channel, of which each has a copy."""
    found = (a for e in accesses([c.image]) for a in atoms(e.address))
    return any(isinstance(a, Floor) and c.filter in a.variables for a in found)


def _is_beside(c: Convolution, *, read: bool) -> bool:
    """Whether channels lie side by side in the image that is ``read``, else in the result."""
    addresses = [e.address for e in accesses([c.image])] if read else [c.store.address]
    return all(stride_of(a, c.filter) == 1 for a in addresses)


def _is_far(c: Convolution) -> bool:
    """Whether elements that lie apart cost more than turning what they lie in."""
    terms = math.prod(s.taps for s in c.spatial if isinstance(s.taps, int))
    steps = math.prod(s.stride for s in c.spatial)
    return terms * FAR_COST > MARGIN * (terms + ONE_TURNING * steps)


def _more(c: Convolution, least_masked: int) -> float:
    """How many times as much a term along rows costs as of floats that are masked and picked."""
    if any(e.dtype.bits // 8 < least_masked for e in accesses([c.image])):
        return UNMASKED_COST
    return UNPICKED_COST if least_masked > 1 and c.spatial[-1].stride == 2 else 1.0


def _is_open(c: Convolution) -> bool:
    """Whether only a run tells how long rows are."""
    return not isinstance(c.spatial[-1].out.extent, int)


def _turning(c: Convolution, *, is_wide: bool, is_near: bool) -> float:
    """Terms that it costs to turn an element, which an image of open rows that is far pays."""
    if is_wide:
        return WIDE_TURNING
    if not is_narrowed(c) or (_is_open(c) and not is_near):
        return TURNING
    return NARROW_TURNING_OF_FLOATS if c.sum.dtype.is_float else NARROW_TURNING


def _pays(c: Convolution, lanes: int, more: float, turning: float, *, is_half: bool) -> bool:
    """Whether sums along rows take more than those in blocks and ``turning`` there and back.

    Terms along rows that are read at every element cost so many times ``more`` than those in
    blocks. Blocks that fill half of a vector take ``is_half`` of the lanes.
    """
    row = c.spatial[-1]
    extent = row.out.extent
    terms = math.prod(s.taps for s in c.spatial if isinstance(s.taps, int))
    steps = math.prod(s.stride for s in c.spatial)
    use = useful_lanes(extent, lanes) / lanes if isinstance(extent, int) else OPEN_USE
    step = (STEP_COST if c.sum.dtype.is_float else STEP_COST_OF_BYTES).get(row.stride, FAR_COST)
    copies = steps * (REPEATED if _is_repeated(c) else 1)
    return terms * step * more / use > MARGIN * (terms * (1 + is_half) + turning * (1 + copies))


def _image_in_blocks(c: Convolution, lanes: int) -> tuple[Store, Scalar]:
    """A copy of the data of the image, and what the sum reads of it by its places."""
    data = data_of(c)
    limits = [data.get(s, (0, s.place.extent)) for s in c.spatial]
    images: DimLike = 1
    number: DimLike = 0
    for axis in c.batch:
        images, number = images * axis.extent, number * axis.extent + axis.dim
    shape = (images, c.filter.extent, *(end - first for first, end in limits))
    buffer = blocked_buffer(f"image#{next(_SERIAL)}", shape, c.image.dtype, lanes)
    places = [Variable("y", end - first) for first, end in limits]
    at: dict[Atom, DimLike] = {
        s.place: place.dim + first
        for s, place, (first, _) in zip(c.spatial, places, limits, strict=True)
    }
    axes = (*c.batch, c.filter, *places)
    address = buffer.address((number, c.filter.dim, *(p.dim for p in places)))
    copy = Store(buffer, axes, address, c.image_at(at))
    buffer.source = copy
    moved = (s.place.dim - first for s, (first, _) in zip(c.spatial, limits, strict=True))
    read: Scalar = load(buffer, buffer.address((number, c.filter.dim, *moved)))
    for guard in sorted(needed_for(c.image, "sum"), key=str):
        read = select(guard, guarded(read, guard), 0)
    return copy, read


__all__ = ["across_by_size", "across_stages"]
