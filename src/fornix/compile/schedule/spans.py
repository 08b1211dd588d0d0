"""Axes of an image cut into spans, of which a box of accumulators takes one each.

Where only a run tells how long an axis is there are boxes of several sizes; what it tells decides
which of them does all the work. Rows that are done together hold fewer pixels each, so that less of
a box lies beyond the end of a short row. Spans overlap at the end: all of them are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fornix.compile.nest import Block, Boxes, Loop, Patch, Span, When
from fornix.ir.dim import DimLike, ceildiv, maximum, minimum
from fornix.ir.loops import Scalar, Variable, apply, index
from fornix.ir.loops.scalar import select

FEW, LEAST = 4, 2
"""Elements at once of an axis that is short, and of one that is shorter than these: the sum of one
waits for every product."""
PIECE = 112
"""Elements of a piece of a row: whole spans of 14, 8 and 4."""
SOME_GAIN = 6, 7
"""About half as many are computed at once where these are so much less, in whole spans."""

SIZES = 1, 2, 3, 4, 5, 6, 7, 8, 9, 14
"""Elements at once, where registers hold sums of so many."""
BOX_COST = 3
"""Halves of an element that take as long as beginning with so many."""
OF_ROWS, OF_OTHERS = 7, 8
"""What boxes of whole rows take, which meet less padding, relative to others."""

Box = Callable[..., Patch]
"""The box of these spans."""
OpenBox = Callable[[Span, DimLike], Patch]
"""The box of a span that may be shorter, and the last element that it has then."""


def turns(axis: Variable, count: int) -> tuple[Variable, Span | None]:
    """The loop that goes over ``axis`` by ``count``; the last turn begins earlier if it has to.

    Where only a run tells how long ``axis`` is, spans of several elements may not fit at all.
    """
    extent = axis.extent
    if count == 1:
        return axis, None
    found = Variable(axis.name, ceildiv(extent, count))
    start: DimLike = found.dim * count
    if not isinstance(extent, int):
        start = maximum(minimum(start, extent - count), 0)
    elif extent % count:
        start = minimum(start, extent - count)
    return found, Span(axis, 0 if extent == count else start, count)


def pieces(axis: Variable) -> Variable:
    """The pieces of ``axis``, of which threads take their share."""
    return Variable("c", ceildiv(axis.extent, PIECE))


def open_row(axis: Variable, most: int, piece: Variable, box: Box) -> Block:
    """``box`` for all spans of a ``piece`` of ``axis``: of ``most`` elements, and of fewer.

    These waste little at its end; the last ones may begin in the piece before.
    """
    some = most // 2 + 1
    sizes = sorted({most, some, min(FEW, some)}, reverse=True)
    fits = [_fits(axis, count) for count in sizes]
    fits[0] = fits[0] * _is_worth(axis, most, some)
    first = piece.dim * PIECE
    length = minimum(axis.extent - first, PIECE)
    return tuple(_loops(axis, first, length, (*sizes, 1), (*fits, 1), box))


def _loops(
    axis: Variable,
    first: DimLike,
    length: DimLike,
    sizes: Sequence[int],
    fits: Sequence[DimLike],
    box: Callable[[Span], Patch],
) -> Iterator[Loop]:
    """``box`` for spans of each of ``sizes`` that ``fits``, where that is 1, from ``first`` on.

    Together they are ``length`` elements. What one span of the next size holds is left to it.
    """
    done: DimLike = 0
    for count, after, is_it in zip(sizes, (*sizes[1:], 0), fits, strict=True):
        many = ceildiv(maximum(length - done - after, 0), count) * is_it
        turn = Variable(axis.name, many)
        start = minimum(first + done + turn.dim * count, axis.extent - count)
        yield Loop(turn, (box(Span(axis, start, count)),))
        done = done + many * count


def by_size(axis: Variable, most: int, box: Box) -> Iterator[When]:
    """``box`` for all of ``axis``, by as many elements as take least for it, ``most`` at most."""
    sizes = sorted({min(size, most) for size in SIZES})
    best = _best(axis.extent, sizes)
    for size in sizes:
        turn = Variable(axis.name, ceildiv(axis.extent, size))
        start = minimum(turn.dim * size, axis.extent - size)
        loop = Loop(turn, (box(Span(axis, start, size)),))
        yield When(apply("eq", best, index(size)), (loop,))


def boxes(axis: Variable, most: int, box: OpenBox, piece: Variable, row: DimLike) -> Boxes:
    """The same for one ``piece`` of several, by one ``box``, which is as long as a run tells.

    Each piece takes as many boxes, or one more; the last box of all may begin in the one before.
    The axis may consist of rows of so many elements.
    """
    sizes = sorted({min(size, most) for size in SIZES})
    less, begin = Variable("n", sizes[-1]), Variable(axis.name, axis.extent)
    size = less.dim + 1
    end = ceildiv(axis.extent, size)
    first, end = ((piece.dim + k) * end // piece.extent for k in (0, 1))
    turn = Variable(axis.name, end - first)
    start = minimum((first + turn.dim) * size, axis.extent - size)
    patch = box(Span(axis, begin.dim, sizes[-1]), begin.dim + less.dim)
    return Boxes(patch, (*sizes,), _best(axis.extent, sizes, row), less, turn, begin, start)


def _best(count: DimLike, sizes: Sequence[int], row: DimLike = 0) -> Scalar:
    """Which of ``sizes`` takes least for ``count`` elements."""
    best: Scalar = index(1)
    least: Scalar | None = None
    for size in sizes:
        cost = ceildiv(count, size) * (2 * size + BOX_COST)
        is_row = apply("eq", index(row), index(size))
        own = select(is_row, index(cost * OF_ROWS), index(cost * OF_OTHERS))
        if least is not None:
            is_less = apply("lt", index(size - 1), index(count)) & apply("lt", own, least)
            best, own = select(is_less, index(size), best), select(is_less, own, least)
        least = own
    return best


def open_rows(axis: Variable, most: int, rows: Span, box: Box) -> Block:
    """The same for several ``rows`` at once, or one by one where they are too few or too short."""
    extent, high = axis.extent, rows.axis.extent
    has_rows = minimum(high // rows.count, 1)
    together = has_rows * _fits(axis, LEAST)
    apart = 1 - together
    row = Variable(rows.axis.name, minimum(high, rows.count) * apart)
    single = Span(rows.axis, rows.start + row.dim, 1)
    some = has_rows * _fits(axis, FEW)
    fits = some * _fits(axis, most) * _is_worth(axis, most, FEW), some, together
    both = _loops(axis, 0, extent, (most, FEW, LEAST), fits, lambda span: box(rows, span))
    ends = _fits(axis, most), 1
    alone = _loops(axis, 0, extent, (most, 1), ends, lambda span: box(single, span))
    return (*both, Loop(row, tuple(alone)))


def _fits(axis: Variable, count: int) -> DimLike:
    """1 if ``axis`` has ``count`` elements, else 0."""
    return minimum(axis.extent // count, 1)


def _is_worth(axis: Variable, most: int, some: int) -> DimLike:
    """1 if spans of ``most`` elements do not waste much more than those of ``some``, else 0."""
    long, short = (ceildiv(axis.extent, count) * count for count in (most, some))
    return 1 - minimum(maximum(long * SOME_GAIN[0] - short * SOME_GAIN[1] + 1, 0), 1)


__all__ = ["boxes", "by_size", "open_row", "open_rows", "pieces", "turns"]
