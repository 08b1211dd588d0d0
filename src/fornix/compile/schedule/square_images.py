"""Direct convolutions in tile registers (AMX): pixels by the words of 64 channels, by 16 filters.

Decides which convolutions of bytes, or of rows of words (`square_words`), are computed so, and the
order of their sums: a step takes as many channels as fill a register's row, for one tap. They are
read where they lie if the words of a pixel lie side by side and pixels evenly apart. Of other
numbers of channels the image is copied with zeros behind them; where one word holds all channels,
the taps of a row fill a register's row, as far as they do: what is read behind them is multiplied
by 0.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fornix.compile.convolution import Convolution, Groups, Spatial, groups
from fornix.compile.cost import likely, stride_of
from fornix.compile.schedule.packing import Order
from fornix.compile.schedule.square import FEATURES, WORDS, up_to
from fornix.compile.target import Target
from fornix.compile.words import word_of
from fornix.dtype import FLOAT32, UINT16
from fornix.ir.dim import known
from fornix.ir.loops import Load, Scalar, Variable, apply, bitcast, substitute_scalar

LEAST_WORDS = 4
"""Words that a row has to have of 16: of fewer, vectors multiply as fast."""
LEAST_USES = 256
"""Products of a word of the image from which on it is worth while to copy it."""
_UPPER = -1 << 16
"""The bits of a word that are its upper half."""


def with_whole_rows(
    c: Convolution, given: Groups, target: Target, lanes: int
) -> tuple[Convolution, Groups]:
    """``c`` with terms for whole rows of registers, if it is for them; those behind its own are 0.

    They are beyond the channels, or the last taps where there is one word of channels.
    """
    longer = _longer(c, target, lanes)
    return (c, given) if longer is c else (longer, groups(longer) or given)


def _longer(c: Convolution, target: Target, lanes: int) -> Convolution:
    if has_rows_of_words(c, target, lanes):
        return _with_taps(c)
    if not _is_of_bytes(c, target, lanes) or c.has_groups:
        return c
    taps = math.prod(likely(s.taps) for s in c.spatial)
    if taps * likely(c.filter.extent) < LEAST_USES:
        return c
    last = c.spatial[-1]
    if len(c.channels) == 1:
        return _with_channels(c, c.channels[0])
    if c.channels or last.tap is None or last.dilation != 1:
        return c
    words = last.tap.extent
    is_fitting = isinstance(words, int) and LEAST_WORDS <= words <= WORDS
    return _with_taps(c) if is_fitting else c


def _with_taps(c: Convolution) -> Convolution:
    """``c`` with the taps of a row up to a whole one."""
    last = c.spatial[-1]
    if last.tap is None:
        return c
    tap = Variable(last.tap.name, WORDS)
    place = Variable(last.place.name, (last.out.extent - 1) * last.stride + WORDS)
    has_room = c.product.op == "dot2"
    image = substitute_scalar(c.image, {last.place: place.dim})
    image = image if has_room else up_to(c.image, last.place, place)
    spatial = (*c.spatial[:-1], replace(last, tap=tap, place=place))
    return replace(c, image=image, weights=up_to(c.weights, last.tap, tap), spatial=spatial)


def _with_channels(c: Convolution, channel: Variable) -> Convolution:
    """``c`` with the words of `channel` up to whole rows."""
    words = channel.extent
    if not isinstance(words, int) or words < LEAST_WORDS or words % WORDS == 0:
        return c
    whole = Variable(channel.name, -(-words // WORDS) * WORDS)
    image, weights = (up_to(e, channel, whole) for e in (c.image, c.weights))
    return replace(c, image=image, weights=weights, channels=(whole,))


def has_rows_of_words(c: Convolution, target: Target, lanes: int) -> bool:
    """Whether the taps of ``c`` are words of two bfloat16s, with room for whole rows of them."""
    if c.product.op != "dot2" or not target.has(FEATURES["dot2"]) or lanes != WORDS:
        return False
    if c.channels or not isinstance(c.image, Load) or c.image.guard is not None:
        return False
    last, row = c.spatial[-1], known(math.prod(c.image.buffer.shape[-2:])) or 0
    taps = known(last.taps) or 0
    return 0 < taps <= WORDS and (known(last.place.extent) or row + 1) + WORDS - taps <= row


def exact(c: Convolution, image: Scalar, weights: Scalar, sum_: Order) -> tuple[Order, Scalar]:
    """The sum of ``c`` without words behind its taps, and its body, of numbers one by one.

    Behind them are numbers of the image, which may be infinite, times 0.
    """
    (word,) = sum_.written
    few = Variable(word.name, c.spatial[-1].taps)
    a, b = (substitute_scalar(e, {word: few.dim}) for e in (image, weights))
    return replace(sum_, written=(few,)), _low(a) * _low(b) + _high(a) * _high(b)


def _low(word: Scalar) -> Scalar:
    """The bfloat16 in the lower half of a word."""
    return bitcast(apply("shl", word, UINT16.bits), FLOAT32)


def _high(word: Scalar) -> Scalar:
    """The one in the upper half."""
    return bitcast(apply("and", word, _UPPER), FLOAT32)


def _is_of_bytes(c: Convolution, target: Target, lanes: int) -> bool:
    return c.product.op == "dot4" and target.has(FEATURES["dot4"]) and lanes == WORDS


def is_for_squares(c: Convolution, given: Groups, target: Target, lanes: int) -> bool:
    """Whether ``c`` is computed in tile registers."""
    last = c.spatial[-1]
    of_words = _is_of_bytes(c, target, lanes) or has_rows_of_words(c, target, lanes)
    if not of_words or given.count > 1 or len(c.channels) > 1:
        return False
    words = c.channels[0].extent if c.channels else last.taps
    is_whole = isinstance(words, int) and words % WORDS == 0
    return is_whole and (bool(c.channels) or _fits(last))


def _fits(last: Spatial) -> bool:
    """Whether the taps of ``last`` are the words of one row."""
    return last.taps == WORDS and last.dilation == 1


def order_in_squares(c: Convolution) -> Order:
    """The order of the sum: blocks of channels, taps, the words of a register's row."""
    taps = tuple(s.tap for s in c.spatial if s.tap is not None)
    if not c.channels:
        return Order(taps[:-1], taps[-1:], {}, 1)
    (channel,) = c.channels
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


__all__ = [
    "LEAST_USES",
    "LEAST_WORDS",
    "exact",
    "has_rows_of_words",
    "is_for_squares",
    "lies_in_lines",
    "order_in_squares",
    "with_whole_rows",
]
