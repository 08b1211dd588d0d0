"""Convolutions of images whose extents only a run tells, in ways of their own for small ones.

What suits large images takes a time that small ones have no use for: Winograd's algorithm reads
transformed weights, four times as many, and multiplies whole tiles; boxes along rows reach beyond
their ends, as registers of 16 pixels do. Decided here is which convolutions have several ways, and
which of them a run takes: that which takes least, in cycles, for its extents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution, Spatial, convolution
from fornix.compile.cost import likely_of_image
from fornix.compile.nest import Nest, When
from fornix.compile.schedule.chunks import rest_included
from fornix.compile.schedule.direct import direct_stages
from fornix.compile.schedule.few_taps import with_few_taps
from fornix.compile.schedule.inside import data_of
from fornix.compile.schedule.places import MOST_PLACES, are_apart
from fornix.compile.schedule.square import WORDS
from fornix.compile.schedule.square_boxes import is_open
from fornix.compile.schedule.square_cost import (
    STEP,
    STEP_CYCLES,
    cycles_in_tiles,
    speed_in_tiles,
)
from fornix.compile.schedule.square_floats import runs_in_tiles
from fornix.compile.schedule.winograd import Stage, has_open_phases
from fornix.compile.target import Target
from fornix.compile.winograd import UNITS, Winograd
from fornix.dtype import FLOAT32
from fornix.errors import LimitError
from fornix.ir.dim import DimLike, ceildiv, known, maximum, minimum
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Store, Variable, apply, index

SIDE = 8
"""Of an image that is small for tile registers, at most."""
GAIN = 1.2
"""By which tile registers have to be faster for the largest of these: others gain less."""
AXES = 3
"""Of places, at most, with that of several images: of more it takes thousands of terms to say where
boxes end."""
NEAR = 8
"""Places from the first tap to the last: taps that are further apart meet little but padding."""
PRODUCT = 0.62
"""Cycles of a product of vectors, where two units multiply them."""
TILE_PRODUCT = 0.5
"""The same of transformed images, of which few tiles are multiplied while weights are read."""
COPIED, READ = 6.0, 0.3
"""Of copying a vector of what a tap reads, and of reading a weight."""
NEAR_BYTES, FAR_BYTES = 28, 10
"""Of transformed weights, that are read in a cycle, from the second cache and from beyond: the
greater part of it they fill, the less of them other layers leave there.
"""
HIGH, WIDE = 2, 7
"""Rows and pixels of the boxes of large images."""
FAR_WIDE = 4
"""Pixels of those whose taps are far apart."""
SPLIT = 0.6
"""Cycles of splitting an element of an image, for tile registers; half of it for weights."""
PARTS = 1.0
"""Of reading a weight in parts."""


@dataclass(frozen=True)
class Way:
    """What computes a convolution, and how many cycles it takes; 0 for `fits` if it cannot."""

    stages: Sequence[Stage | Store]
    cycles: DimLike
    fits: DimLike = 1


def ways(
    c: Convolution,
    stages: Sequence[Stage | Store],
    algorithm: Winograd | None,
    target: Target,
    lanes: int,
) -> list[Way]:
    """Those of ``c``: ``stages``, which are for large images, and by ``algorithm``; and others.

    One, if it is known how large images are.
    """
    cycles = _Cycles(c, lanes)
    large = Way(stages, cycles.large(algorithm, target))
    if not _may_be_small(c):
        is_told = algorithm is not None and has_open_phases(c)
        plain = direct_stages(c, target, lanes) if is_told else None
        return [large] if plain is None else [Way(plain, cycles.large(None, target)), large]
    try:
        few = direct_stages(c, target, lanes, has_few_places=True)
    except LimitError:  # of three axes it may take too many terms to say where boxes end
        few = None
    if few is None:
        return [large]
    if are_apart(c):
        return [Way(few, 0)]
    places = math.prod((*(a.extent for a in c.batch), *(s.out.extent for s in c.spatial)))
    found = [Way(few, cycles.of_places(), is_less(places, MOST_PLACES + 1)), large]
    return found if algorithm is None else [*found, *_in_tiles(c, algorithm, target, lanes)]


def _may_be_small(c: Convolution) -> bool:
    opened = [*c.batch, *(s.out for s in c.spatial)]
    if all(isinstance(a.extent, int) for a in opened) or not c.has_taps:
        return False
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32:
        return False
    if len(c.channels) != 1 or known(c.channels[0].extent) is None:
        return False
    if sum(a.extent != 1 for a in c.batch) + len(c.spatial) > AXES:
        return False
    near = (((known(s.taps) or NEAR) - 1) * s.dilation <= NEAR for s in c.spatial)
    least = math.prod(a.extent for a in opened if isinstance(a.extent, int))
    return are_apart(c) or (least <= MOST_PLACES and all(near))


def _in_tiles(c: Convolution, algorithm: Winograd, target: Target, lanes: int) -> list[Way]:
    """The way in tile registers, where large images are transformed by too many weights."""
    opened = [s.out for s in c.spatial if not isinstance(s.out.extent, int)]
    weights = known(math.prod((c.filter.extent, *(a.extent for a in c.channels)))) or 0
    is_large = algorithm.positions * weights * FLOAT32.bits // 8 > target.l2_bytes
    if not is_large or any(likely_of_image(s.out.extent) <= SIDE for s in c.spatial):
        return []
    small = {axis: Variable(axis.name, minimum(axis.extent, SIDE)) for axis in opened}
    values: dict[Atom, DimLike] = {axis: new.dim for axis, new in small.items()}
    found = convolution(rewritten(c.store, [small.get(a, a) for a in c.store.axes], values))
    if found is None or not runs_in_tiles(found, target, lanes):
        return []
    stages = direct_stages(found, target, lanes)
    if stages is None or speed_in_tiles(found, target) <= GAIN:
        return []
    fits = math.prod((is_less(axis.extent, SIDE + 1) for axis in opened), start=1)
    return [Way(stages, _Cycles(c, lanes).in_joined_rows(), fits)]


class _Cycles:
    """How many cycles a convolution takes, by its extents."""

    def __init__(self, c: Convolution, lanes: int) -> None:
        self.c, self.lanes = c, lanes
        self.channels = known(c.channels[0].extent) or 1 if c.channels else 1
        filters = known(c.filter.extent) or 1
        self.blocks = -(-filters // lanes)
        self.vectors = -(-self.channels // lanes)
        self.taps = math.prod(known(s.taps) or 1 for s in c.spatial)
        self.weights = self.taps * self.channels * filters
        self.images = math.prod(a.extent for a in c.batch)
        self.outs = [s.out.extent for s in c.spatial]

    def of_places(self) -> DimLike:
        """Where taps are copied."""
        products = self.channels * self.blocks * PRODUCT
        each = self.taps * (products + self.vectors * COPIED)
        return self.images * math.prod(self.outs) * round(each) + round(self.weights * READ)

    def large(self, algorithm: Winograd | None, target: Target) -> DimLike:
        """By ``algorithm``, or in boxes along rows."""
        if algorithm is not None:
            return self._transformed(algorithm, target)
        if runs_in_tiles(self.c, target, WORDS):
            return self._in_registers(target)
        each, read = self.channels * self.blocks * PRODUCT, round(self.weights * READ)
        if has_open_phases(self.c):
            met = math.prod(self._met(s) for s in self.c.spatial)
            return self.images * met * round(each) + read
        places = maximum(math.prod(self.outs), HIGH * WIDE)
        if is_open(self.c):
            *lead, high, wide = (1, *self.outs)
            places = math.prod(lead) * ceildiv(high, HIGH) * ceildiv(wide, WIDE) * HIGH * WIDE
        return self.images * places * round(self.taps * each) + read

    def _met(self, s: Spatial) -> DimLike:
        """The taps that meet data for each element of an axis, all together, in boxes.

        Boxes leave out those that do not: in small images, those that are far from the middle one.
        """
        taps, pixels = known(s.taps) or 1, FAR_WIDE if s is self.c.spatial[-1] else 1
        first, end = data_of(self.c).get(s, (0, s.place.extent))
        before = min((known(first) or 0) // s.dilation, taps - 1)
        reach = end - first + pixels - 1
        met = end - first
        for beside in (before, taps - 1 - before):
            few = minimum(beside, reach // s.dilation)
            met += few * reach - few * (few + 1) // 2 * s.dilation
        return minimum(met, s.out.extent * taps)

    def _transformed(self, algorithm: Winograd, target: Target) -> DimLike:
        tiles = self.images
        axes = algorithm.axes[-len(self.c.spatial) :]
        for s, axis in zip(self.c.spatial, axes, strict=True):
            tiles = tiles * ceildiv(ceildiv(s.out.extent, s.dilation), axis.out) * s.dilation
        blocks = -(-self.blocks // UNITS) * UNITS if self.blocks > 1 else 1
        channels = known(with_few_taps(self.c).channels[0].extent) or 1
        places = algorithm.positions * channels * blocks
        vectors = -(-channels // self.lanes) + blocks
        each = places * TILE_PRODUCT + algorithm.transform_cost * vectors
        size = algorithm.stored * channels * blocks * self.lanes * FLOAT32.bits // 8
        far = min(1.0, size / target.l2_bytes)
        return tiles * round(each) + round(size * ((1 - far) / NEAR_BYTES + far / FAR_BYTES))

    def _in_registers(self, target: Target) -> DimLike:
        """In tile registers: of open images, two rows of 16 pixels at once."""
        if not is_open(self.c):
            return self.images * round(cycles_in_tiles(self.c, target))
        *lead, wide = (1, *self.outs)
        high = ceildiv(lead[-1], HIGH) * HIGH
        registers = math.prod(lead[:-1]) * high * ceildiv(wide, WORDS)
        strides = math.prod(s.stride for s in self.c.spatial)
        each = self._step * self.blocks + WORDS * strides * self.channels * SPLIT
        read = self.weights * PARTS
        return self.images * registers * round(each) + round(read)

    def in_joined_rows(self) -> DimLike:
        """In tile registers, the rows of an image as one."""
        *lead, wide = (1, *self.outs)
        border = (known(self.c.spatial[-1].taps) or 1) - 1
        length = (math.prod(lead) - 1) * (wide + border) + wide
        registers = ceildiv(length, 2 * WORDS) * 2
        each = registers * round(self._step * self.blocks) + round(self.weights * SPLIT)
        return self.images * each

    @property
    def _step(self) -> float:
        return self.taps * math.ceil(self.channels / STEP) * STEP_CYCLES


def chosen(found: Sequence[Way]) -> list[DimLike]:
    """For each of the ways: 1 if a run takes it, else 0."""
    told: list[DimLike] = []
    for k, way in enumerate(found):
        is_it: DimLike = way.fits
        for other_k, other in enumerate(found):
            if other is not way:
                is_best = is_less(way.cycles, other.cycles + (k < other_k))
                is_it = is_it * maximum(is_best, 1 - other.fits)
        told.append(is_it)
    return told


def only_if(is_it: DimLike, nest: Nest) -> Nest:
    """``nest`` where ``is_it`` is 1; where it is 0 there is nothing to do."""
    condition = apply("lt", index(0), index(is_it))
    body = (When(condition, nest.body),)
    return replace_fields(nest, body=body, parallel=rest_included(nest.parallel) * is_it)


def is_less(a: DimLike, b: DimLike) -> DimLike:
    """1 if ``a`` is less than ``b``, else 0."""
    return minimum(maximum(b - a, 0), 1)


__all__ = ["Way", "chosen", "is_less", "only_if", "ways"]
