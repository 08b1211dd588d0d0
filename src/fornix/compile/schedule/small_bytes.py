"""Convolutions of bytes that are small together, whose sums of products fit 16 bits.

Without instructions that add products of bytes in 32 bits, x86-64 multiplies unsigned bytes by
signed ones and adds pairs of products in 16 bits, where they saturate. Where no two, or four, bytes
of the image that meet in a lane come to more than 255 that cannot happen, whatever the weights are,
and so it is nearly everywhere in what ReLU leaves of an image. Where it is not, only a run knows:
places of the image are marked first, and boxes ask for each group of channels what they may do.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.convolution import Convolution, Groups, Spatial
from fornix.compile.cost import accesses, likely
from fornix.compile.emit.bytes import adds_in_halves
from fornix.compile.nest import Span
from fornix.compile.schedule.inside import Extent
from fornix.compile.schedule.packing import Order, filled, order
from fornix.compile.target import Target
from fornix.compile.words import Word, word_of
from fornix.dtype import INT32, UINT8
from fornix.ir.dim import DimLike, known, maximum, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Apply,
    Constant,
    Load,
    Scalar,
    Store,
    Variable,
    apply,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import const, reduction

LEAST_WORDS = 8
"""Words of channels from which on marking the image costs little beside the products."""
LEAST_FILTERS = 16
"""Filters from which on it does."""
TOGETHER = 2
"""Words whose products are added in 16 bits."""
BLOCKS = (4, 2, 1)
"""Blocks of channels for which it is asked at once whether bytes are small, without taps."""
WRITTEN = 4
"""Words that are written out there, of as many blocks as have them."""
BYTES = 0x00FF00FF
"""The even bytes of a word."""
CARRIES = 0x03000300
"""Where sums of up to four bytes in each half of a word are more than 255."""
ALONE = 2
"""How far left of them the bits stand that tell so of the sums of two bytes."""


@dataclass(frozen=True)
class Marks:
    """Which bytes that boxes read are not small: of a `group` of channels, for a row of the image.

    Rows are counted from `start`; images of one axis have none. What is asked of each place stands
    in `sums`, which come first.
    """

    sums: Store
    store: Store
    lead: tuple[Variable, ...]
    group: Variable
    rows: Spatial | None
    start: DimLike

    def ways(self, turn: DimLike, spans: Sequence[Span]) -> tuple[tuple[Scalar, int], ...]:
        """When boxes at number ``turn`` of their row add how many words; ``spans`` are its rows.

        That is in 16 bits; 0 stands for bytes that are taken apart.
        """
        place = (*(a.dim for a in self.lead), self.group.dim)
        buffer = self.store.buffer
        rows = [()] if self.rows is None else [(row,) for row in self._rows(self.rows, spans)]
        found = _any(load(buffer, buffer.address((*place, *row, turn))) for row in rows)
        are_small = apply("eq", found, 0)
        is_any = apply("eq", apply("and", found, CARRIES << ALONE), 0)
        return (are_small, TOGETHER), (is_any & ~are_small, 1), (~is_any, 0)

    def _rows(self, rows: Spatial, spans: Sequence[Span]) -> Iterator[DimLike]:
        """The rows of the image that ``spans`` of those of the result read, which may be one."""
        (span,) = spans or [Span(rows.out, rows.out.dim, 1)]
        stride, taps = _steps(rows)
        last = self.store.axes[-2].extent - 1
        for k in range((span.count - 1) * stride + taps):
            yield minimum(maximum(span.start * stride - self.start + k, 0), last)


def has_small_bytes(c: Convolution, target: Target) -> bool:
    """Whether ``c`` multiplies stored weights by bytes as they lie, of which 0 stands for 0."""
    word = _word(c.image)
    if c.product.op != "dot4" or c.product.is_turned or not adds_in_halves(target):
        return False
    if c.has_groups or len(c.channels) != 1 or len(c.spatial) > 2 or c.store.value is c.sum:
        return False
    words, filters = known(c.channels[0].extent) or 0, known(c.filter.extent) or 0
    if words < LEAST_WORDS or filters < LEAST_FILTERS or order(c).written[0].extent % TOGETHER:
        return False
    if word is None or word.buffer.dtype is not UINT8 or word.default:
        return False
    if not all(isinstance(s.place.extent, int) and s.dilation == 1 for s in c.spatial):
        return False
    weights = accesses([c.weights])
    return all(isinstance(e.buffer.source, Constant) for e in weights) and not _is_moved(c, weights)


def in_groups(c: Convolution, sum_: Order) -> Order:
    """``sum_`` by groups of channels, for each of which it is asked whether bytes are small."""
    first, *others = sum_.loops
    count = next(n for n in BLOCKS if first.extent % n == 0) if not c.has_taps else 1
    words = known(sum_.written[0].extent) or WRITTEN
    turns = math.gcd(count, max(1, WRITTEN // words))
    group, block = Variable("g", first.extent // count), Variable("c", count // turns)
    beside = Variable("b", turns)
    at: dict[Atom, DimLike] = {first: (group.dim * block.extent + block.dim) * turns + beside.dim}
    once: dict[Atom, DimLike] = {a: 0 for a in (block, beside, *others) if a.extent == 1}
    values = {axis: substitute(substitute(d, at, {}), once, {}) for axis, d in sum_.values.items()}
    loops = [a for a in (block, *others) if a not in once]
    written = [a for a in (beside, *sum_.written) if a not in once]
    return replace_fields(sum_, loops=(group, *loops), written=tuple(written), values=values)


def marks_of(
    c: Convolution,
    given: Groups,
    sum_: Order,
    image: Scalar,
    wide: int,
    bare: Mapping[Spatial, Extent],
) -> Marks:
    """Marks of the ``image`` that boxes of rows of ``wide`` pixels read."""
    *lead, last = c.spatial
    extent = likely(last.out.extent)
    turn = Variable("t", -(-extent // wide))
    start = minimum(turn.dim * wide, extent - wide)
    stride, taps = _steps(last)
    x = Variable("x", (wide - 1) * stride + taps)
    at: dict[Atom, DimLike] = {given.axis: 0}
    rows = lead[0] if lead else None
    first: DimLike = 0
    axes = [*c.batch, sum_.loops[0]]
    if rows is not None:
        size = rows.out.extent if rows.tap is None else rows.place.extent
        first, end = bare.get(rows, (0, size))
        axes.append(Variable("y", end - first))
        at |= _place(rows, axes[-1].dim + first)
    place = Variable("z", (extent - 1) * stride + taps)
    words = substitute_scalar(image, at | _place(last, place.dim))
    sums = _sums(words, c, sum_, [*axes, place])
    pair = sums.axes[-1]
    of_turn = (*(a.dim for a in axes), start * stride + x.dim, pair.dim)
    found = reduction("or", (x, pair), load(sums.buffer, sums.buffer.address(of_turn)))
    store = filled("marks", (*axes, turn), found)
    return Marks(sums, store, c.batch, sum_.loops[0], rows, first)


def _sums(image: Scalar, c: Convolution, sum_: Order, axes: Sequence[Variable]) -> Store:
    """The bits of `CARRIES` for each place and pair of words of the ``image``, over ``axes``.

    In vectors, as words lie side by side; those of a box lie apart from those of the next.
    """
    *others, step = sum_.written
    taps = {s.tap for s in c.spatial}
    own = [a for a in (*sum_.loops[1:], *others) if a not in taps]
    pair = Variable("k", step.extent // TOGETHER)
    found = []
    for numbers in itertools.product(*(range(known(a.extent) or 1) for a in own)):
        at: dict[Atom, DimLike] = dict(zip(own, numbers, strict=True))
        words = (
            substitute_scalar(image, at | {step: pair.dim * TOGETHER + k}) for k in range(TOGETHER)
        )
        sums = [_pairs(word) for word in words]
        together = functools.reduce(lambda a, b: a + b, sums)
        alone = apply("shl", apply("and", _any(sums), CARRIES), ALONE)
        found.append(apply("or", apply("and", together, CARRIES), alone))
    return filled("sums", (*axes, pair), _any(found))


def _place(axis: Spatial, place: DimLike) -> dict[Atom, DimLike]:
    """Where the image is read ``place`` elements behind the first that belongs to 0."""
    return {axis.out: place} if axis.tap is None else {axis.out: 0, axis.tap: place}


def _steps(axis: Spatial) -> tuple[int, int]:
    """The stride and the taps of ``axis``; results stand for places if there is one tap."""
    return (1, 1) if axis.tap is None else (axis.stride, likely(axis.taps))


def _word(e: Scalar) -> Word | None:
    """The bytes of ``e``, beside which 0 may stand; None if they do not lie in memory."""
    is_bordered = isinstance(e, Apply) and e.op == "select" and e.args[2] is const(0, INT32)
    return word_of(e.args[1] if is_bordered else e)


def _is_moved(c: Convolution, weights: Sequence[Load]) -> bool:
    """Whether sums of the ``weights`` are taken off, as a zero point that is not 0 asks for."""
    stored = {e.buffer for e in weights}
    rest = accesses([replace(c.store.value, {c.sum: const(0, INT32)})])
    sources = [e.buffer.source for e in rest]
    values = [source.value for source in sources if isinstance(source, Store)]
    return not stored.isdisjoint(e.buffer for e in accesses(values))


def _any(found: Iterable[Scalar]) -> Scalar:
    """The bits of all that was ``found``."""
    return functools.reduce(lambda a, b: apply("or", a, b), found)


def _pairs(word: Scalar) -> Scalar:
    """The sums of the first two bytes of ``word`` and of the others, in its halves."""
    return apply("and", word, BYTES) + apply("and", apply("shr", word, 8), BYTES)


__all__ = ["Marks", "has_small_bytes", "in_groups", "marks_of"]
