"""Boxes of convolutions of bytes in tile registers (AMX), and rows of small images as one.

A tap of a result is as far from it in each row, so that the rows of results, with what lies between
those of the image, are one row: it fills registers to their last place where rows are too short to.
Places between the rows are summed up as well and not written. Up to four registers of pixels share
one of weights there, which then pass the cache once and not for every few rows. Where only a run
tells how large an image is, boxes have one size and reach beyond its end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fornix.compile.convolution import Convolution, Spatial
from fornix.compile.cost import likely
from fornix.compile.schedule.square import WORDS, up_to
from fornix.compile.target import Target
from fornix.ir.dim import DimLike, ceildiv, known, maximum
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Scalar, Variable, apply, index

SHARE = 0.8
"""The part of the registers that rows of their own take, up to which one row is worth its tests."""
BOXES = ((4, 1), (2, 2), (2, 1), (1, 2), (1, 1))
"""Registers of pixels by blocks of filters, as four registers of sums allow."""
PRODUCT, NEAR, FAR = 16, 8, 24
"""What a product takes, and filling a register, of weights in the first cache and in the second."""
NEAR_BYTES = 24 << 10
"""Of a panel of weights that stays in the first cache."""
ROW_BYTES, WORD_BYTES = 64, 4
"""Of a tile register."""
NEAR_SHARE = 2 / 3
"""The part of the first cache that an image may take which all weights pass by."""


Box = tuple[int, int, int, int]
"""Rows, pixels of each, blocks of filters, and pixels of a register."""


@dataclass(frozen=True)
class Joined:
    """The results of a convolution as one row, or as rows of whole boxes."""

    axis: Variable
    """The places of a row; of one row those of all, and those between them."""
    at: Mapping[Atom, DimLike]
    """The axes of the results by it, and by the rows."""
    inside: Scalar
    """Whether there is a result."""
    box: Box
    rows: Variable | None = None


def joined_rows(c: Convolution, blocks: int) -> Joined | None:
    """``c`` with its rows as one, if that takes fewer registers."""
    if len(c.spatial) != 2 or not c.channels or not c.has_taps:
        return None
    rows, pixels = c.spatial
    high, wide, pitch = rows.out.extent, pixels.out.extent, pixels.place.extent
    if not (isinstance(high, int) and isinstance(wide, int) and isinstance(pitch, int)):
        return None
    if rows.stride != 1 or pixels.stride != 1:
        return None
    length = (high - 1) * pitch + wide
    needed = math.ceil(length / WORDS)
    if needed > SHARE * high * math.ceil(wide / WORDS):
        return None
    count, deep = _registers(c, needed, blocks)
    axis = Variable("s", length)
    row = axis.dim // pitch
    at: dict[Atom, DimLike] = {rows.out: row, pixels.out: axis.dim - row * pitch}
    inside = apply("lt", index(at[pixels.out]), index(wide))
    whole = min(count * WORDS, length)
    return Joined(axis, at, inside, (1, whole, deep, min(WORDS, whole)))


def in_whole_boxes(c: Convolution, blocks: int) -> tuple[Convolution, Joined | None]:
    """``c`` of an image whose extents only a run tells, and its results, for boxes of one size.

    Boxes reach beyond the end of the image, which is 0 there; what has no place is not written.
    None of rows so short that this were most of a box: those have boxes of their own length.
    """
    deep = 2 if blocks % 2 == 0 else 1
    if len(c.spatial) == 2 and c.channels and c.has_taps and all(s.stride == 1 for s in c.spatial):
        return _in_whole_row(c, deep)
    *rows, pixels = c.spatial[-2:]
    if 2 * (known(pixels.out.extent) or WORDS) <= WORDS:
        return c, None
    counts = {pixels: WORDS, rows[0]: 2} if rows else {pixels: 2 * WORDS}
    axes = {s: Variable(s.out.name, ceildiv(s.out.extent, n) * n) for s, n in counts.items()}
    ends = {
        s: (axis.extent - 1) * s.stride + (s.taps - 1) * s.dilation + 1 for s, axis in axes.items()
    }
    at: dict[Atom, DimLike] = {s.out: axis.dim for s, axis in axes.items()}
    box = (2 if rows else 1, counts[pixels], deep, WORDS)
    return _longer(c, ends), Joined(
        axes[pixels], at, _are_inside(c, at), box, axes[rows[0]] if rows else None
    )


def _in_whole_row(c: Convolution, deep: int) -> tuple[Convolution, Joined]:
    """``c`` with its rows as one, which ends with a box."""
    rows, pixels = c.spatial
    pitch, whole = maximum(pixels.place.extent, 1), 2 * WORDS
    length = maximum((rows.out.extent - 1) * pitch + pixels.out.extent, 0)
    axis = Variable("s", ceildiv(length, whole) * whole)
    row = axis.dim // pitch
    at: dict[Atom, DimLike] = {rows.out: row, pixels.out: axis.dim - row * pitch}
    behind = axis.extent + (pixels.taps - 1) * pixels.dilation
    high = (rows.taps - 1) * rows.dilation + ceildiv(behind, pitch)
    return _longer(c, {rows: high, pixels: pitch}), Joined(
        axis, at, _are_inside(c, at), (1, whole, deep, WORDS)
    )


def _longer(c: Convolution, ends: Mapping[Spatial, DimLike]) -> Convolution:
    """``c`` with so many places along axes of its image; those behind its own are 0."""
    image, places = c.image, {s: Variable(s.place.name, end) for s, end in ends.items()}
    for s, place in places.items():
        image = up_to(image, s.place, place)
    spatial = tuple(replace(s, place=places.get(s, s.place)) for s in c.spatial)
    return replace(c, image=image, spatial=spatial)


def _are_inside(c: Convolution, at: Mapping[Atom, DimLike]) -> Scalar:
    """Whether places of results are less than their ends."""
    outs = [s.out for s in c.spatial if s.out in at]
    tests = (apply("lt", index(at[out]), index(out.extent)) for out in outs)
    return functools.reduce(lambda a, b: apply("and", a, b), tests)


def _registers(c: Convolution, needed: int, blocks: int) -> tuple[int, int]:
    """Registers of pixels, of ``needed`` ones in all, and blocks of filters of the best box."""
    terms = math.prod(a.extent if isinstance(a.extent, int) else 1 for a in c.sum.axes)

    def cost(box: tuple[int, int]) -> float:
        count, deep = box
        fill = NEAR if terms * ROW_BYTES * deep <= NEAR_BYTES else FAR
        step = count * deep * PRODUCT + count * NEAR + deep * fill
        return math.ceil(needed / count) * step / deep

    return min((box for box in BOXES if blocks % box[1] == 0), key=cost)


def square_box(c: Convolution, blocks: int, target: Target) -> Box:
    """The box of an image with rows of its own: two registers of pixels by two, as full as can be.

    All of an image that stays in the first cache, if that is four: weights are read once for it.
    """
    *_, pixels = c.spatial
    wide, high = (known(s.out.extent) or 1 for s in (pixels, c.spatial[-2 % len(c.spatial)]))
    high = high if len(c.spatial) > 1 else 1
    image = math.prod(likely(a.extent) for a in c.sum.axes) * WORD_BYTES * wide
    is_near = image <= target.l1_bytes * NEAR_SHARE
    if len(c.spatial) == 1 and 2 * WORDS < wide <= 4 * WORDS and is_near:
        return 1, wide, 1, WORDS
    deep = 2 if blocks % 2 == 0 else 1
    boxes = [
        (r, n * height, deep, height)
        for r, n in ((1, 1), (1, 2), (2, 1))
        for height in range(1, WORDS + 1)
        if r <= high and n * height <= wide
    ]

    def cost(box: Box) -> float:
        rows, row, _, height = box
        registers = rows * row // height
        steps = registers * deep * height + NEAR * (deep + registers)
        return math.ceil(wide / row) * math.ceil(high / rows) * steps

    return min(boxes, key=cost)


__all__ = ["Joined", "in_whole_boxes", "joined_rows", "square_box"]
