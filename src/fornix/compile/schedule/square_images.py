"""Direct convolutions in tile registers (AMX): pixels by the words of 64 channels, by 16 filters.

Decides which convolutions of bytes are computed so, and the order of their sums: a step takes as
many channels as fill a register's row, for one tap. They are read where they lie if the words of a
pixel lie side by side and pixels evenly apart.
"""

from __future__ import annotations

from fornix.compile.convolution import Convolution, Groups
from fornix.compile.cost import stride_of
from fornix.compile.schedule.packing import Order
from fornix.compile.schedule.square import FEATURES, WORDS
from fornix.compile.target import Target
from fornix.compile.words import word_of
from fornix.ir.loops import Load, Scalar, Variable


def is_for_squares(c: Convolution, given: Groups, target: Target, lanes: int) -> bool:
    """Whether ``c`` is computed in tile registers."""
    if c.product.op != "dot4" or not target.has(FEATURES["dot4"]) or lanes != WORDS:
        return False
    if given.count > 1 or len(c.channels) != 1:
        return False
    words, pixels = c.channels[0].extent, c.spatial[-1].out.extent
    return isinstance(words, int) and words % WORDS == 0 and isinstance(pixels, int)


def order_in_squares(c: Convolution) -> Order:
    """The order of the sum: blocks of channels, taps, the words of a register's row."""
    (channel,) = c.channels
    taps = tuple(s.tap for s in c.spatial if s.tap is not None)
    outer, word = Variable("c", channel.extent // WORDS), Variable("e", WORDS)
    return Order((outer, *taps), (word,), {channel: outer.dim * WORDS + word.dim}, WORDS)


def lies_in_lines(image: Scalar, sum_: Order, pixels: Variable) -> bool:
    """Whether ``image`` fills tile registers as it lies."""
    word = word_of(image)
    if isinstance(image, Load):
        place = image.address
    elif word is not None:
        place = word.place
    else:
        return False
    return stride_of(place, sum_.written[0]) == 1 and stride_of(place, pixels) is not None


__all__ = ["is_for_squares", "lies_in_lines", "order_in_squares"]
