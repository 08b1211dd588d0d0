"""Depthwise convolutions of row-major images by way of blocks of channels, where that is less work.

Rows fill vectors badly if they are short, and are read with effort if steps along them are long;
with many taps that costs more than to turn the image into blocks of channels and the result back.
Where only one of the two lies in rows, no vector fits both, and that one is turned.
Decided here is whether it does; the sums themselves are those of an image that lies in blocks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from fornix.compile.blocked import LEAST_LANES, blocked_buffer, lanes_of_buffer
from fornix.compile.convolution import Convolution
from fornix.compile.cost import accesses, stride_of, useful_lanes
from fornix.compile.phases import phases
from fornix.compile.schedule.inside import data_of, needed_for
from fornix.compile.schedule.packing import sums_in_blocks
from fornix.ir.dim import DimLike, minimum
from fornix.ir.dim.expression import Atom, coefficient
from fornix.ir.loops import Scalar, Store, Variable, load, replace, substitute_scalar
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

STEP_COST = {1: 1.0, 2: 2.0}
"""Of a term along rows that are read at every element, or every second one."""
FAR_COST = 6.0
"""The same at elements that are further apart."""
TURNING = 6.0
"""Terms that it costs to turn an element."""
OPEN_USE, SHORT_USE = 0.8, 0.5
"""What is taken for the lanes of vectors along rows of unknown length that do work, of all; steps
make rows shorter."""
MARGIN = 1.3
"""How many times as much work rows have to be."""
ONE_BY_ONE = 2.0
"""What a term takes of an element that is computed on its own."""
MANY_TERMS = 49
"""From which on short rows of open length get code of their own."""

_SERIAL = itertools.count()


@dataclass(frozen=True)
class ShortRows:
    """What is done for rows of open length where they are short."""

    is_it: DimLike
    """1 if they are, else 0."""
    stages: list[Store]


def short_rows(c: Convolution, lanes: int) -> ShortRows | None:
    """The way by blocks of channels for short rows; None if it is none, or for all lengths."""
    row, count = c.spatial[-1], c.filter.extent
    terms = math.prod(s.taps for s in c.spatial if isinstance(s.taps, int))
    if isinstance(row.out.extent, int) or not isinstance(count, int) or count % LEAST_LANES:
        return None
    if c.is_in_place or terms < MANY_TERMS or lanes < LEAST_LANES or across_stages(c, lanes):
        return None
    longest = max((n for n in range(1, lanes) if _pays(c, lanes, n)), default=0)
    stages = across_stages(c, lanes, longest)
    is_it = 1 - minimum(row.out.extent // (longest + 1), 1)
    return ShortRows(is_it, stages) if stages else None


def across_stages(c: Convolution, lanes: int, length: int | None = None) -> list[Store] | None:
    """The image in blocks, its sums in blocks, and the result of ``c``; None if rows are better.

    That is asked for rows of ``length``, if it is told.
    """
    count = c.filter.extent
    if not c.is_depthwise or not c.sum.dtype.is_float or not isinstance(count, int):
        return None
    if not c.has_taps or phases(c.store) != [c.store]:
        return None
    read, written = _read_in_rows(c), stride_of(c.store.address, c.spatial[-1].out) == 1
    block = _width(c)
    width = block or (lanes if count % lanes == 0 else LEAST_LANES)
    is_mixed = read != written and (block > 0 or _is_beside(c, read=not read))
    is_better = _is_far(c) if is_mixed else read and written and _pays(c, lanes, length)
    if lanes < LEAST_LANES or count % width != 0 or not is_better:
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


def _is_beside(c: Convolution, *, read: bool) -> bool:
    """Whether channels lie side by side in the image that is ``read``, else in the result."""
    addresses = [e.address for e in accesses([c.image])] if read else [c.store.address]
    return all(stride_of(a, c.filter) == 1 for a in addresses)


def _is_far(c: Convolution) -> bool:
    """Whether elements that lie apart cost more than turning what they lie in."""
    terms = math.prod(s.taps for s in c.spatial if isinstance(s.taps, int))
    steps = math.prod(s.stride for s in c.spatial)
    return terms * FAR_COST > MARGIN * (terms + TURNING * steps)


def _pays(c: Convolution, lanes: int, length: int | None) -> bool:
    """Whether sums along rows take more than those in blocks and turning there and back."""
    row = c.spatial[-1]
    extent = row.out.extent if length is None else length
    terms: float = math.prod(s.taps for s in c.spatial if isinstance(s.taps, int))
    steps = math.prod(s.stride for s in c.spatial)
    use = OPEN_USE if row.stride == 1 else SHORT_USE
    if isinstance(extent, int):
        use = useful_lanes(extent, lanes) / lanes
    in_rows = terms * STEP_COST.get(row.stride, FAR_COST) / use
    if length is not None:  # taps that meet no data are left out, one by one
        met = math.prod(min(1.0, length / s.taps) for s in c.spatial if isinstance(s.taps, int))
        terms *= min(1.0, ONE_BY_ONE * met)
    return in_rows > MARGIN * (terms + TURNING * (1 + steps))


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


__all__ = ["ShortRows", "across_stages", "short_rows"]
