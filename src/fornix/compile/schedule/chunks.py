"""How work is cut into chunks, which loops are left, and what chunks have of scratch memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Chunks, Loop
from fornix.ir.dim import Dim, DimLike, atoms, ceildiv, known, maximum
from fornix.ir.dim.expression import Symbol
from fornix.ir.loops import Buffer, Variable

CHUNKS = 16
"""Leading axes are cut into chunks until there are so many of them."""
READ_ROWS = 2
"""Rows of products that take as long as reading these does."""


def chunked(axes: Sequence[Variable], body: Block) -> tuple[Chunks, DimLike]:
    """The leading ``axes`` cut into chunks, loops over the others, around ``body``.

    Also says into how many chunks that can be cut. Of an extent that is not known nothing is
    expected: it may be 1.
    """
    count: DimLike = 1
    least = 1
    lead = 0
    while lead < len(axes) and least < CHUNKS:
        extent = axes[lead].extent
        count = count * extent
        least *= extent if isinstance(extent, int) else 1
        lead += 1
    return Chunks(tuple(axes[:lead]), looped(axes[lead:], body)), count


def rest_included(parallel: DimLike) -> DimLike:
    """``parallel``, but 1 where it is 0 although something is left to do beside the chunks."""
    has_symbols = isinstance(parallel, Dim) and all(isinstance(a, Symbol) for a in atoms(parallel))
    return parallel if has_symbols else maximum(parallel, 1)


def looped(axes: Sequence[Variable], body: Block) -> Block:
    """Loops over ``axes``, the first one outermost, around ``body``."""
    for axis in reversed(axes):
        body = (Loop(axis, body),)
    return body


def combined(axes: Sequence[Variable]) -> tuple[DimLike, DimLike]:
    """How many combinations of ``axes`` there are, and the number of the present one."""
    count: DimLike = 1
    number: DimLike = 0
    for axis in axes:
        count, number = count * axis.extent, number * axis.extent + axis.dim
    return count, number


def even_height(rows: DimLike, most: int) -> int:
    """Rows of a tile of products: tiles are of one height, so it is to divide the rows."""
    count = known(rows)
    return most if count is None else -(-count // -(-count // most))


def shared_size(rows: int, most: int) -> int:
    """Rows of a block, for which one thread and two take least, in all."""

    def cost(size: int) -> int:
        blocks, height = -(-rows // size), even_height(size, most)
        return (blocks + -(-blocks // 2)) * (-(-size // height) * height + READ_ROWS)

    return min(range(2 * most, 0, -1), key=cost)


def in_scratch(buffers: Iterable[Buffer]) -> tuple[dict[Buffer, DimLike], DimLike]:
    """Where ``buffers`` lie in scratch memory, each on lines of its own, and the bytes of all."""
    offsets: dict[Buffer, DimLike] = {}
    size: DimLike = 0
    for buffer in buffers:
        offsets[buffer] = size
        lines = ceildiv(buffer.elements * buffer.dtype.numpy.itemsize, SCRATCH_ALIGNMENT)
        size = size + lines * SCRATCH_ALIGNMENT
    return offsets, size
