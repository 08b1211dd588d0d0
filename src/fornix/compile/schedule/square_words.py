"""Convolutions of few channels of bfloat16s in tile registers (AMX): the taps of a row as words.

Decides which convolutions are computed so. The image is copied with the channels of a pixel side by
side, two in a word, and with room for a whole row of a register behind the last pixel. Of such an
image a convolution is left that has no channels, taps that are words, and moves by whole pixels:
`direct` computes it as it does those of bytes (`square_images`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fornix.compile.convolution import Convolution, Spatial, convolution
from fornix.compile.cost import accesses
from fornix.compile.schedule.halves import in_pairs, may_round
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.square import FEATURES, WORDS, up_to
from fornix.compile.schedule.square_images import LEAST_USES, LEAST_WORDS
from fornix.compile.target import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, known
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    Constant,
    Scalar,
    Store,
    Variable,
    apply,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import reduction


def rows_in_words(c: Convolution, target: Target, lanes: int) -> tuple[Store, Convolution] | None:
    """The copy of the image of ``c`` in words, and ``c`` of it; None if vectors serve it better."""
    words = _words_of_pixel(c, target, lanes)
    if words is None:
        return None
    (channel,), (*rows, last) = c.channels, c.spatial
    pair, word = Variable("h", words), Variable("e", last.taps * words)
    count = (last.out.extent - 1) * last.stride + math.ceil(WORDS / words)
    place = Variable(last.place.name, count)
    image = up_to(in_pairs(c.image, channel, pair), last.place, place)
    copy = filled("image", (*c.batch, *(s.place for s in rows), place, pair), image)
    first = last.out.dim * last.stride
    at = copy.buffer.address((*(a.dim for a in c.batch), *(s.read for s in rows), first, 0))
    weights = _weights(c, pair, word)
    taps = (*(s.tap for s in rows if s.tap is not None), word)
    total = reduction("sum", taps, apply("dot2", load(copy.buffer, at + word.dim), weights))
    value = replace(c.store.value, {c.sum: total})
    found = convolution(Store(c.store.buffer, c.store.axes, c.store.address, value))
    if found is None or found.channels or found.spatial[-1].tap is not word:
        return None
    return copy, found


def _words_of_pixel(c: Convolution, target: Target, lanes: int) -> int | None:
    """How many words hold the channels of a pixel; None if ``c`` is not computed so."""
    if not may_round(c.product, target) or c.product.op != "mul" or c.sum.dtype is not FLOAT32:
        return None
    if lanes != WORDS or target.is_strict or not target.has(FEATURES["dot2"]):
        return None
    if c.has_groups or len(c.channels) != 1 or c.spatial[-1].dilation != 1:
        return None
    if not all(isinstance(e.buffer.source, Constant) for e in accesses([c.weights])):
        return None
    high, wide = (math.prod(known(s.out.extent) or 0 for s in some) for some in _lines(c))
    above, taps = (math.prod(known(s.taps) or 0 for s in some) for some in _lines(c))
    words = math.ceil((known(c.channels[0].extent) or 0) / 2)
    is_full = LEAST_WORDS <= words * taps <= WORDS <= wide and high > 0
    uses = above * taps * (known(c.filter.extent) or 0)
    return words if is_full and uses >= LEAST_USES else None


def _lines(c: Convolution) -> tuple[Sequence[Spatial], Sequence[Spatial]]:
    """The axes of the image across rows, and the one along them."""
    return c.spatial[:-1], c.spatial[-1:]


def _weights(c: Convolution, pair: Variable, word: Variable) -> Scalar:
    """The weights at a word of a row of taps."""
    tap = c.spatial[-1].tap
    which = word.dim // pair.extent
    places: dict[Atom, DimLike] = {pair: word.dim - which * pair.extent}
    if tap is not None:
        places[tap] = which
    return substitute_scalar(in_pairs(c.weights, c.channels[0], pair), places)


__all__ = ["rows_in_words"]
