"""Boxes of direct convolutions: how many pixels and blocks of filters are accumulated at once.

Decided by what is wasted on pixels that do not exist, and by the time to load factors. Where only a
run tells how long rows are, boxes are what suits most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fornix.compile.convolution import Convolution
from fornix.compile.cost import likely
from fornix.compile.schedule.inside import data_of, share
from fornix.compile.target import LINE_BYTES, WIDEST, Target
from fornix.ir.dim import known, less
from fornix.ir.loops import Variable

FEW = 8
"""Accumulators below which a multiplication waits for the one before: 4 cycles, 2 in each."""
LOAD_COST = 0.1
"""Of loading a factor, relative to a multiplication by it; see bench/micro conv."""
NEAR_PIXELS, FAR_PIXELS = 4, 12
"""Multiplications by a vector of weights that take as long as one from the second cache, and as one
from beyond it, where two units multiply vectors; a larger box costs others next to nothing."""
MAX_BLOCKS = {"mul": 7, "dot2": 7, "dot2i": 2, "dot4": 7}
"""Of filters in a box, by products: pairs of integers are as fast with more pixels instead."""
OPEN_PIXELS, OPEN_ROWS = 14, 2
"""Pixels at once where only a run tells how many there are, and the rows that share them."""
FEWER_PIXELS, OPEN_ROW = (7, 4, 3), 28
"""What else there may be, and a row as networks have them, which these fill more or less."""
FED_CHANNELS, FED_PIXELS, FED_SHARE = 4, (14, 8, 6, 4, 3), 0.75
"""Channels at most of images as networks are fed with, and what boxes of these may be: pixels of
one row, which is long, and the share of registers that hold sums, so that others hold weights of
several channels. With more, LLVM writes sums to memory and back."""
MANY_REGISTERS = 32
"""With fewer, boxes of fewer pixels were no faster."""
PORTS = 1.2
"""What loading as many factors as are multiplied takes, relative to multiplying."""
NEAR = 8
"""Rows between the first tap and the last up to which their padding is copied, for boxes that hold
several rows; taps that are further apart meet little else in small images."""
LEAST_PIXELS = 4
"""Of a box, below which it is not worth while to make it smaller for the padding beside it."""
MARGIN = 0.05
"""What another way has to gain."""


@dataclass(frozen=True)
class Box:
    """The accumulators: `rows` of the image by `pixels` of each by `blocks` of filters.

    In tile registers, each holds so many pixels as `square` says.
    """

    rows: int
    pixels: int
    blocks: int
    square: int = 0


def box_of(c: Convolution, blocks: int, target: Target, *, are_small: bool = False) -> Box:
    """The box that wastes least: of pixels that do not exist, and of time to load factors.

    Nor is time to be wasted on padding, which small boxes meet alone. Where bytes ``are_small``
    there are two vectors of weights at once for each block.
    """
    *lead, pixels = (s.out for s in c.spatial)
    rows = lead[-1] if lead else None
    most = MAX_BLOCKS["dot2i" if are_small else c.product.op]
    deep = [n for n in range(most, 0, -1) if blocks % n == 0]
    wide = pixels.extent
    if not isinstance(wide, int):
        return _open_box(c, deep, target)
    high = rows.extent if rows is not None and isinstance(rows.extent, int) else 1
    boxes = [
        Box(r, q, b)
        for b in deep
        for q in range(1, min(wide, target.vector_registers) + 1)
        for r in range(1, min(high, target.vector_registers // q) + 1)
        if r == 1 or q == wide
        if _registers(Box(r, q, b), are_small=are_small) <= target.vector_registers
    ]

    data = data_of(c)
    panel = math.prod(likely(a.extent) for a in c.sum.axes) * target.vector_bytes
    streamed = _streamed(c, blocks, target)

    def cost(box: Box) -> float:
        count = box.rows * box.pixels * box.blocks
        waste = _rounded(wide, box.pixels) * _rounded(high, box.rows)
        pixels = box.rows * box.pixels
        loads = 1 + LOAD_COST * (pixels + box.blocks) / count
        if pixels < high * wide:  # else weights are read once
            loads = max(loads, _least_pixels(box.blocks * panel, target) / pixels)
        loads += streamed / box.blocks
        seen = max(box.pixels, LEAST_PIXELS), box.rows
        counts = dict(zip(reversed(c.spatial), seen, strict=False))
        return waste * loads * max(1.0, FEW / count) * share(data, counts)

    return min(boxes, key=cost)


def _open_box(c: Convolution, deep: Sequence[int], target: Target) -> Box:
    """The box for rows of unknown length: as many pixels as usual, unless fewer are much faster.

    So it is where blocks come one by one, as each product waits for a pixel to be loaded then. Two
    rows of floats at once stay where vectors are of the widest and there are no tile registers: a
    vector of weights from the second cache serves more. That was measured on Zen 4, which
    multiplies one of them in a cycle; those that multiply two without tile registers were not.
    """
    together, most = _rows_together(c), target.vector_registers
    usual = [Box(together, OPEN_PIXELS // together, b) for b in deep]
    others = [Box(1, q, b) for q in FEWER_PIXELS for b in deep]
    first, *_ = [box for box in usual if _registers(box) <= most]
    if _is_fed(c):
        fed = [Box(1, q, b) for q in FED_PIXELS for b in deep if q * b <= most * FED_SHARE]
        return min((box for box in fed if _registers(box) <= most), key=_loads)
    keeps_rows = target.vector_bytes == WIDEST and not target.is_wide
    if most < MANY_REGISTERS or (keeps_rows and together > 1 and c.product.op == "mul"):
        return first

    def cost(box: Box) -> float:
        waste, loads = _rounded(OPEN_ROW, box.pixels) * _met(c, box.pixels), _loads(box)
        return waste * max(1 + LOAD_COST * loads, PORTS * loads)

    best = min((box for box in others if _registers(box) <= most), key=cost)
    return best if cost(best) < cost(first) * (1 - MARGIN) else first


def _met(c: Convolution, pixels: int) -> float:
    """The part of the taps of a usual row that boxes of so many ``pixels`` meet, if they are far.

    Those that are near each other meet data in all boxes, or nearly so.
    """
    row = c.spatial[-1]
    first = known(data_of(c).get(row, (0, 0))[0])
    if row.dilation <= NEAR // 2 or first is None:
        return 1.0
    row = replace(row, out=Variable(row.out.name, OPEN_ROW))
    return share({row: (first, first + OPEN_ROW * row.stride)}, {row: pixels})


def _least_pixels(weights: int, target: Target) -> int:
    """Pixels of boxes that take as long as reading so many bytes of ``weights`` for each."""
    if weights > target.l2_bytes // 2:
        return FAR_PIXELS
    return NEAR_PIXELS if weights > target.l1_bytes // 2 else 1


def _streamed(c: Convolution, blocks: int, target: Target) -> float:
    """What reading the image takes for each of ``blocks``, by one of its multiplications.

    That is nothing if a cache holds it from one panel of weights to the next.
    """
    size = image_bytes(c)
    if blocks == 1 or size <= target.l2_bytes // 2:
        return 0.0
    pixels = math.prod(likely(s.out.extent) for s in c.spatial)
    terms = math.prod(likely(a.extent) for a in c.sum.axes)
    return FAR_PIXELS * size / LINE_BYTES / (pixels * terms)


def image_bytes(c: Convolution) -> int:
    """Of the image that a filter reads."""
    channels = math.prod(likely(a.extent) for a in c.channels)
    return channels * math.prod(likely(s.place.extent) for s in c.spatial) * c.sum.dtype.bits // 8


def _rows_together(c: Convolution) -> int:
    """How many rows of an image share the pixels of a box, where those are of unknown number."""
    if len(c.spatial) < 2 or c.spatial[-2].out.extent == 1 or _is_fed(c):
        return 1
    rows = c.spatial[-2]
    return OPEN_ROWS if c.is_in_place or less((rows.taps - 1) * rows.dilation, NEAR + 1) else 1


def _is_fed(c: Convolution) -> bool:
    """Whether its image has as few channels as those that networks are fed with, of floats."""
    channels = math.prod(likely(a.extent) for a in c.channels) * c.product.elements
    return channels <= FED_CHANNELS and not c.has_groups and c.sum.dtype.is_float


def _loads(box: Box) -> float:
    """Factors that are loaded for a multiplication."""
    pixels = box.rows * box.pixels
    return (pixels + box.blocks) / (pixels * box.blocks)


def _registers(box: Box, *, are_small: bool = False) -> int:
    """Vector registers: the accumulators, the weights of a term, a pixel.

    Where bytes ``are_small``, the weights of two terms and what makes pairs of halves one sum, or
    so many registers again as hold accumulators: products of larger boxes are small more seldom.
    """
    count = box.rows * box.pixels * box.blocks
    if are_small:
        return max(2 * count, count + 2 * box.blocks + 3)
    return count + box.blocks + 1


def _rounded(extent: int, step: int) -> float:
    """How much longer ``extent`` is in whole steps."""
    return -(-extent // step) * step / extent


__all__ = ["MARGIN", "Box", "box_of", "image_bytes"]
