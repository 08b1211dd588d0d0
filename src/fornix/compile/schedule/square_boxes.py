"""Boxes of convolutions of float32 in tile registers: their sizes, and how images are cut up.

Where only a run tells how large an image is, sizes are chosen for a likely one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from fornix.compile.convolution import Convolution
from fornix.compile.cost import likely_of_image
from fornix.compile.schedule.square import WORDS
from fornix.ir.dim import DimLike, ceildiv, maximum, minimum

PIECES = 16
"""Pieces of an image at least, for threads to share."""
BOX_COST = 0.25
"""What a box costs beside its registers, each of which takes the same time however few its rows."""


def places_of(c: Convolution) -> int:
    """Places in the image, its padding included."""
    return math.prod(likely_of_image(s.place.extent) for s in c.spatial)


def is_open(c: Convolution) -> bool:
    """Whether only a run tells how large the image is."""
    return not all(isinstance(s.out.extent, int) for s in c.spatial)


@dataclass(frozen=True)
class Box:
    """Registers of ``height`` pixels, so many along a row, of so many rows."""

    rows: int
    registers: int
    height: int

    @property
    def pixels(self) -> int:
        """Of a row."""
        return self.registers * self.height

    @property
    def sides(self) -> tuple[int, int]:
        """Rows, and pixels of each."""
        return self.rows, self.pixels

    def in_all(self, high: int, wide: int) -> int:
        """Registers for an image of ``high`` by ``wide`` results."""
        turns = math.ceil(high / self.rows) * math.ceil(wide / self.pixels)
        return turns * self.rows * self.registers


def sides_of(c: Convolution, *, is_whole: bool) -> tuple[int, int]:
    """Rows and pixels of the results.

    Of a whole image they may be one row, with what lies between the rows of the image, if that
    takes fewer registers: the tap of a result is as far from it in each row.
    """
    *rows, pixels = c.spatial
    high = math.prod(likely_of_image(s.out.extent) for s in rows)
    wide = likely_of_image(pixels.out.extent)
    if is_whole and rows and all(s.stride == 1 for s in c.spatial):
        joined = 1, (high - 1) * likely_of_image(pixels.place.extent) + wide
        few, many = (box_of(c, *sides).in_all(*sides) for sides in (joined, (high, wide)))
        if few < many or is_open(c):  # where rows may be far shorter
            return joined
    return high, wide


def box_of(c: Convolution, high: int, wide: int) -> Box:
    """The box for an image of ``high`` by ``wide`` results: whole registers, if it is a guess."""
    if is_open(c):
        return Box(2, 1, WORDS) if high > 1 else Box(1, 2, WORDS)
    return _box(high, wide)


@functools.cache
def _box(high: int, wide: int) -> Box:
    """The box for an image of ``high`` by ``wide`` results that wastes least."""
    boxes = [
        Box(rows, registers, height)
        for rows, registers in ((1, 2), (2, 1), (1, 1))
        for height in range(1, WORDS + 1)
        if rows <= high and registers * height <= wide
    ]

    return min(
        boxes, key=lambda box: box.in_all(high, wide) * (1 + BOX_COST / box.registers / box.rows)
    )


def length_of(extent: DimLike, step: int, bytes_: int, room: int, *, is_open: bool) -> DimLike:
    """The length of pieces of an axis, each element of which takes so many bytes of ``room``.

    Pieces are alike: the last one begins earlier if it has to, or reaches beyond an open image.
    """
    if is_open or not isinstance(extent, int):
        most = max(1, room // (step * bytes_))
        return step * maximum(minimum(ceildiv(extent, step * PIECES), most), 1)
    return _length(extent, step, bytes_, room)


@functools.cache
def _length(extent: int, step: int, bytes_: int, room: int) -> int:
    """The length that wastes least."""
    least = max(1, min(PIECES, extent // step), math.ceil(extent * bytes_ / room))
    lengths = (math.ceil(extent / (n * step)) * step for n in range(least, 2 * least + 1))
    fitting = [n for n in lengths if n <= extent]
    return min(fitting, key=lambda n: math.ceil(extent / n) * n, default=min(extent, step))


__all__ = ["Box", "box_of", "is_open", "length_of", "places_of", "sides_of"]
