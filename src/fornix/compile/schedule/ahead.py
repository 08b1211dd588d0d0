"""Weights that are asked for before they are needed: panels that tiles read one after the other.

Decides which lines of the next panel each tile asks for while it reads the present one, so that the
panel comes from memory as evenly as time passes, and not as fast as its first tile reads it.
"""

from __future__ import annotations

from fornix.compile.nest import Line
from fornix.compile.target import LINE_BYTES, Target
from fornix.ir.dim import DimLike
from fornix.ir.loops import Load, Variable

AHEAD_BYTES = 64 << 10
"""Of weights, from which on it is worth while to ask for a panel before it is needed."""
AHEAD_SHARE = 0.375
"""Of the second cache, that a panel may take if the next one is to come beside it."""
LEAST_TILES = 2
"""Tiles, one below the other, from which on the next panel is asked for: one alone is as fast as
memory anyway, 20 rows take 156 µs for 169 so, but 28 take 213 for 171 and 64 582 for 420."""


def shares(
    right: Load, panel: tuple[DimLike, int, int], row: Variable, turns: tuple[int, int],
    terms_of: tuple[DimLike, int], target: Target,
) -> tuple[Line, ...]:  # fmt: skip
    """The lines that ``terms_of`` a tile ask for, whose first ``row`` is the present one.

    Those are so many terms from one on. A ``panel`` has so many terms of so many columns, which
    ``right`` reads; the next one begins at a place. ``turns`` are the rows of a tile, and those
    that ask for all of it: where there are more, those that follow ask once more.
    """
    start, terms, width = panel
    height, rows = turns
    size = right.dtype.bits // 8
    if rows < LEAST_TILES * height or terms * width * size > target.l2_bytes * AHEAD_SHARE:
        return ()
    share, first = -(-height * width // rows), row.dim % rows * (terms * width) // rows
    term, count = terms_of
    place = start + first + term * share
    return tuple((right.buffer, place + n) for n in range(0, share * count, LINE_BYTES // size))


__all__ = ["AHEAD_BYTES", "shares"]
