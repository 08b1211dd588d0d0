"""What direct convolutions of float32 take in tile registers, and what is done at once there.

Decides which factor is split ahead, how deep panels of weights are, which of them form a group, and
how long the pieces of an image are; `square_floats` does it so.
"""

from __future__ import annotations

import math

from fornix.compile.convolution import Convolution
from fornix.compile.cost import likely_of_image
from fornix.compile.parts import BYTES, PRODUCTS, count_of, products_of
from fornix.compile.schedule.square import WORDS
from fornix.compile.schedule.square_boxes import box_of, is_open, length_of, places_of, sides_of
from fornix.compile.target import Target
from fornix.ir.dim import DimLike, known

STEP = 2 * WORDS
"""Channels of a step of the sum."""
STREAMED_BYTES, STREAM_CYCLES = 1 << 20, 0.08
"""Of an image in parts that caches do not hold, and what a byte of it takes for each panel."""
DEEP_SIDE = 64
"""Rows of images with so many channels that pieces are large are no longer, whatever is fed."""
SPLIT_PANELS = 0.15
"""What splitting an image takes beside the sums of one panel."""
SHARE = 4
"""The part of the second cache that a piece may take, where it does not fit half of the first."""
STEP_CYCLES, PLACE_CYCLES, WEIGHT_CYCLES, RESULT_CYCLES = 120.0, 0.6, 0.5, 5.0
"""That a step of a register of sums takes, splitting an element, and what follows a vector of sums.
"""
FAR_CYCLES, NEAR_BYTES = 0.7, 1 << 20
"""That an element of a larger image takes in addition, as it comes from memory."""
COPY_CYCLES = 1.5
"""That an element of the image takes which is turned into blocks."""
VECTOR_CYCLES = 0.64
"""That a product of vectors takes beside two units for them; see bench/micro conv."""
DEEP = 2
"""Blocks of filters in a panel where the image is split: it is read once for both. Where weights
are, panels of one block leave more of the first cache to the image, and more for threads to share,
unless the image comes from further away.
"""
FEW_REGISTERS = 8
"""Of pixels, up to which weights of one part come from memory no faster than they are used: tiles
that are read from there take a third longer than weights that vectors copy to the first cache."""
WORD_BYTES = 4
GAIN = 1.05
"""By which tile registers have to be faster."""


def speed_in_tiles(c: Convolution, target: Target, *, is_copied: bool = False) -> float:
    """How many times as fast as with vectors ``c`` is, if its image was copied for that or not."""
    axes = (*c.sum.axes, *(s.out for s in c.spatial))
    products = math.prod(likely_of_image(a.extent) for a in axes)
    copied = is_copied * COPY_CYCLES * places_of(c) * (known(c.channels[0].extent) or 1)
    return products * blocks_of(c) * VECTOR_CYCLES / (cycles_in_tiles(c, target) + copied)


def cycles_in_tiles(c: Convolution, target: Target) -> float:
    """Cycles that the sums of an image, and all that is around them, take on one thread."""
    channels, blocks = known(c.channels[0].extent) or 1, blocks_of(c)
    taps = math.prod(known(s.taps) or 1 for s in c.spatial)
    results = math.prod(likely_of_image(s.out.extent) for s in c.spatial)
    places = places_of(c)
    filters = known(c.filter.extent) or 1
    has_more_weights = weights_are_larger(c)
    is_far = places * channels * WORD_BYTES > NEAR_BYTES
    groups, overlap = (1, 1.0) if has_more_weights else _times_split(c, target)
    split = places * overlap * (groups * PLACE_CYCLES + is_far * FAR_CYCLES)
    split += splits_weights(c) * taps * filters * WEIGHT_CYCLES
    sides = sides_of(c, is_whole=has_more_weights)
    registers = box_of(c, *sides).in_all(*sides) * blocks
    share = len(products_of(count_of(c.image), count_of(c.weights))) / len(PRODUCTS)
    sums = registers * taps * math.ceil(channels / STEP) * STEP_CYCLES * share
    is_streamed = _is_streamed(c) if has_more_weights else _is_large_piece(c, target)
    streamed = is_streamed * _image_bytes(c) * overlap * blocks // deep_of(c, blocks)
    streamed *= STREAM_CYCLES
    return sums + split * channels + results * blocks * RESULT_CYCLES + streamed


def blocks_of(c: Convolution) -> int:
    """Blocks of filters, those included that fill the last panel."""
    blocks = math.ceil((known(c.filter.extent) or 1) / WORDS)
    deep = deep_of(c, blocks)
    return math.ceil(blocks / deep) * deep


def deep_of(c: Convolution, blocks: int) -> int:
    """Blocks in a panel."""
    return 1 if splits_weights(c) and not _is_streamed(c) else min(DEEP, blocks)


def _is_streamed(c: Convolution) -> bool:
    """Whether the image in parts does not stay in a cache while a panel is multiplied by it."""
    return _image_bytes(c) > STREAMED_BYTES


def _image_bytes(c: Convolution) -> int:
    """Of the image in parts."""
    return places_of(c) * (known(c.channels[0].extent) or 1) * BYTES


def splits_weights(c: Convolution) -> bool:
    """Whether weights are split in scratch memory, panel by panel.

    Those of one part take no more memory in words than as they are stored.
    """
    sides = sides_of(c, is_whole=True)
    are_streamed = box_of(c, *sides).in_all(*sides) <= FEW_REGISTERS
    return weights_are_larger(c) and (count_of(c.weights) > 1 or are_streamed)


def weights_are_larger(c: Convolution) -> bool:
    """Whether a channel has more weights than places in the image."""
    terms = math.prod(known(s.taps) or 1 for s in c.spatial)
    return places_of(c) <= terms * (known(c.filter.extent) or 1)


def _times_split(c: Convolution, target: Target) -> tuple[int, float]:
    """How often a place is split: for each group of panels, and with each piece that reads it."""
    cut = c.spatial[0]
    groups, _ = grouped(c, blocks_of(c) // deep_of(c, blocks_of(c)), target)
    length = likely_of_image(piece_of(c, target))
    return groups, _rows_read(c, length) / (length * cut.stride)


def _rows_read(c: Convolution, length: int) -> int:
    """Places along the first axis that a piece of so many results reads."""
    cut = c.spatial[0]
    return (length - 1) * cut.stride + ((known(cut.taps) or 1) - 1) * cut.dilation + 1


def _is_large_piece(c: Convolution, target: Target) -> bool:
    """Whether pieces of the image in parts do not stay in a cache, be they as short as can be."""
    rows = _rows_read(c, likely_of_image(piece_of(c, target)))
    others = math.prod(min(likely_of_image(s.place.extent), DEEP_SIDE) for s in c.spatial[1:])
    return rows * others * (known(c.channels[0].extent) or 1) * BYTES > target.l2_bytes


def grouped(c: Convolution, panels: int, target: Target) -> tuple[int, int]:
    """Groups of panels that a cache holds, and the panels of each.

    The image is split anew for each group, which counts as so much of a panel.
    """
    taps = math.prod(known(s.taps) or 1 for s in c.spatial)
    steps, deep = -(-(known(c.channels[0].extent) or 1) // STEP), deep_of(c, blocks_of(c))
    size = steps * STEP * taps * deep * WORDS * BYTES
    if panels * size <= target.l2_bytes // 2:
        return 1, panels
    sizes = range(1, max(1, target.l2_bytes // SHARE // size) + 1)
    each = min(sizes, key=lambda n: math.ceil(panels / n) * (n + SPLIT_PANELS))
    return math.ceil(panels / each), each


def piece_of(c: Convolution, target: Target) -> DimLike:
    """The length of the pieces of the first axis that are split at once."""
    cut, steps = c.spatial[0], -(-(known(c.channels[0].extent) or 1) // STEP)
    of_one = places_of(c) // likely_of_image(cut.place.extent) * cut.stride
    of_one *= steps * STEP * BYTES
    box = box_of(c, *sides_of(c, is_whole=weights_are_larger(c)))
    step = box.rows if len(c.spatial) > 1 else box.pixels
    rooms = target.l1_bytes // 2, target.l2_bytes // SHARE
    room = rooms[c.has_taps or step * of_one > rooms[0]]  # what taps share is split once
    return length_of(cut.out.extent, step, of_one, room, is_open=is_open(c))


__all__ = [
    "GAIN",
    "STEP",
    "blocks_of",
    "cycles_in_tiles",
    "deep_of",
    "grouped",
    "piece_of",
    "speed_in_tiles",
    "splits_weights",
    "weights_are_larger",
]
