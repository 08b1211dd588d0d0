"""How work is cut into chunks, and which loops are left."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.compile.nest import Block, Chunks, Loop
from fornix.ir.dim import DimLike
from fornix.ir.loops import Variable

CHUNKS = 16
"""Leading axes are cut into chunks until there are so many of them."""


def chunked(axes: Sequence[Variable], body: Block) -> tuple[Chunks, DimLike]:
    """The leading ``axes`` cut into chunks, loops over the others, around ``body``.

    Also says into how many chunks that can be cut. Of an extent that is not known nothing is
    expected: it may be 1.
    """
    count: DimLike = 1
    known = 1
    lead = 0
    while lead < len(axes) and known < CHUNKS:
        extent = axes[lead].extent
        count = count * extent
        known *= extent if isinstance(extent, int) else 1
        lead += 1
    return Chunks(tuple(axes[:lead]), looped(axes[lead:], body)), count


def looped(axes: Sequence[Variable], body: Block) -> Block:
    """Loops over ``axes``, the first one outermost, around ``body``."""
    for axis in reversed(axes):
        body = (Loop(axis, body),)
    return body
