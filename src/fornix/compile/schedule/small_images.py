"""Convolutions of images whose extents only a run tells, in a way of their own for small ones.

What suits large images may read far more weights than a small one has use for: those of Winograd's
algorithm are transformed, four times as many. Decided here is which convolutions have two ways, and
up to which sizes the one for small images is taken; it is scheduled like any other, for images that
are no larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution, convolution
from fornix.compile.cost import likely_of_image
from fornix.compile.nest import Nest, When
from fornix.compile.schedule.square import FEATURES
from fornix.compile.schedule.square_cost import speed_in_tiles
from fornix.compile.schedule.square_floats import runs_in_tiles
from fornix.compile.target import Target
from fornix.compile.winograd import F4
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, known, maximum, minimum
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Variable, apply, index

SIDE = 8
"""Of a small image, at most."""
MOST_PLACES, MOST_IN_TILES = 64, 88
"""Places up to which their sums take less than reading transformed weights does: in vectors and in
tile registers, which are faster."""
GAIN = 1.2
"""By which tile registers have to be faster for the largest of small images: others gain less."""
OF_IMAGE, OF_IMAGE_IN_TILES = 12, 24
"""Those that take as long as reading weights as they are, once for each image; for tile registers
they are taken apart as well."""


@dataclass(frozen=True)
class Small:
    """A convolution of small images: its store, and 1 where a run has such, else 0."""

    conv: Convolution
    is_it: DimLike
    target: Target
    """For which it is scheduled."""


def small_images(c: Convolution, target: Target, lanes: int) -> Small | None:
    """``c`` for small images; None if it is known how large they are, or reads few weights."""
    opened = [s.out for s in c.spatial if not isinstance(s.out.extent, int)]
    sides = [known(s.out.extent) or 0 for s in c.spatial]
    if all(likely_of_image(axis.extent) <= SIDE for axis in opened) or not c.has_taps:
        return None
    weights = known(math.prod((c.filter.extent, *(a.extent for a in c.channels))))
    if max(sides) > SIDE or weights is None:
        return None
    if F4.positions * weights * FLOAT32.bits // 8 <= target.l2_bytes:
        return None
    small = {axis: Variable(axis.name, minimum(axis.extent, SIDE)) for axis in opened}
    values: dict[Atom, DimLike] = {axis: new.dim for axis, new in small.items()}
    axes = [small.get(axis, axis) for axis in c.store.axes]
    found = convolution(rewritten(c.store, axes, values))
    if found is None:
        return None
    most, of_image = MOST_PLACES, OF_IMAGE
    if runs_in_tiles(found, target, lanes) and speed_in_tiles(found, target) > GAIN:
        most, of_image = MOST_IN_TILES, OF_IMAGE_IN_TILES
    else:
        target = replace_fields(target, features=target.features - {FEATURES["dot2"]})
    images = math.prod(a.extent for a in c.batch)
    places = math.prod(s.out.extent for s in c.spatial)
    is_small = _is_at_most(images * (places + of_image), most)
    for axis in opened:
        is_small = is_small * _is_at_most(axis.extent, SIDE)
    return Small(found, is_small, target)


def only_if(is_it: DimLike, nest: Nest) -> Nest:
    """``nest`` where ``is_it`` is 1; where it is 0, one thread sees that there is nothing to do."""
    condition = apply("lt", index(0), index(is_it))
    parallel = maximum(nest.parallel * is_it, 1)
    return replace_fields(nest, body=(When(condition, nest.body),), parallel=parallel)


def _is_at_most(extent: DimLike, most: int) -> DimLike:
    """1 if ``extent`` is no more than ``most``, else 0."""
    return minimum(maximum(most + 1 - extent, 0), 1)


__all__ = ["Small", "only_if", "small_images"]
