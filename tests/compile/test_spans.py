from __future__ import annotations

from typing import cast

import pytest

from fornix.compile.nest import Block, Loop, Span
from fornix.compile.schedule.spans import Box, OpenBox, boxes, open_row, open_rows, pieces
from fornix.ir.dim import DimLike, ceildiv, symbol
from fornix.ir.dim.expression import Atom, atoms, substitute
from fornix.ir.loops import Variable

H, W = (symbol(name, least=1) for name in "HW")
SPANS = cast("Box", lambda *spans: spans)
"""A box that is nothing but its spans."""


def number(d: DimLike, at: dict[Atom, DimLike]) -> int:
    value = substitute(d, at, {})
    assert isinstance(value, int), f"{d} is not known"
    return value


def computed(body: Block, axis: Variable, at: dict[Atom, DimLike]) -> list[int]:
    """The elements of ``axis`` that ``body`` computes, as often as it does."""
    found: list[int] = []
    for loop in body:
        assert isinstance(loop, Loop)
        for k in range(number(loop.axis.extent, at)):
            inner = {**at, loop.axis: k}
            if isinstance(loop.body[0], Loop):
                found += computed(loop.body, axis, inner)
            else:
                *_, span = cast("tuple[Span, ...]", loop.body[0])
                first = number(span.start, inner)
                found += range(first, first + span.count)
    return found


def at_run(**extents: int) -> dict[Atom, DimLike]:
    return {next(iter(atoms(d))): extents[str(d)] for d in (H, W) if str(d) in extents}


@pytest.mark.parametrize("most", [3, 4, 7, 8, 14])
def test_boxes_of_a_row_of_unknown_length_compute_little_twice(most: int) -> None:
    axis = Variable("w", W)
    piece = pieces(axis)
    body = open_row(axis, most, piece, SPANS)
    some = most // 2 + 1
    for n in (*range(1, 65), 81, 100, 112, 113, 144, 169, 196):
        at = at_run(W=n)
        found: list[int] = []
        for k in range(number(piece.extent, at)):
            found += computed(body, axis, {**at, piece: k})
        assert set(found) == set(range(n)), n
        assert len(found) < n + max(most - some, 4) * number(piece.extent, at), n


@pytest.mark.parametrize("high", [1, 2, 5])
def test_boxes_of_two_rows_of_unknown_length_compute_little_twice(high: int) -> None:
    rows, axis = Variable("h", H), Variable("w", W)
    body = open_rows(axis, 7, Span(rows, 0, 2), SPANS)
    for n in range(1, 65):
        found = computed(body, axis, at_run(H=high, W=n))
        are_together = high > 1 and n >= 4
        assert set(found) == set(range(n)), n
        if are_together:
            assert len(found) < n + 4, n
        else:
            assert len(found) < (n + 7) * min(high, 2), n


@pytest.mark.parametrize(("most", "row"), [(3, 0), (7, 5), (14, 13)])
def test_boxes_of_one_size_that_a_run_tells_compute_little_twice(most: int, row: int) -> None:
    axis, piece = Variable("s", W), Variable("q", ceildiv(W, 28))
    found = boxes(axis, most, cast("OpenBox", lambda span, last: (span, last)), piece, row)
    span, last = cast("tuple[Span, DimLike]", found.patch)
    lengths = (*range(1, 30), 56, 81, 112, 113, 200)
    for n, size in ((n, size) for n in lengths for size in found.sizes if size <= n):
        at = at_run(W=n)
        done: list[int] = []
        for k, turn in ((k, t) for k in range(number(piece.extent, at)) for t in range(n)):
            here = {**at, piece: k, found.less: size - 1, found.turn: turn}
            if turn < number(found.turn.extent, here):
                here[found.first] = number(found.start, here)
                first = number(span.start, here)
                assert number(last, here) == first + size - 1
                done += range(first, first + size)
        assert set(done) == set(range(n)), n
        assert len(done) < n + size, n
