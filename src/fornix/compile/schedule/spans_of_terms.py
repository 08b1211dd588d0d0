"""Products of few rows and columns with many terms: terms in spans, each a product of its own.

The tiles of such a product read both factors from end to end, one tile after the other, and what
leaves the caches comes back as often as there are tiles. A span of terms stays in the second cache
until all tiles have read it; its sums are added to those of the others at the end. Threads share
spans where there are few tiles to share.
"""

from __future__ import annotations

from fornix.compile.cost import accesses
from fornix.compile.schedule.contraction import Contraction
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Constant, Scalar, Store, Variable, load, replace, substitute_scalar
from fornix.ir.loops.scalar import reduction

SPAN = 512
"""Terms of a span, at most: 64 rows and 64 columns of so many take 256 kB."""
MOST_SUMS = 1 << 13
"""Elements of the result up to which spans pay: as many sums are written and read for each."""


def in_spans(c: Contraction, target: Target) -> tuple[list[Store], Store] | None:
    """The sums of each span of terms, and the store of ``c`` reading them; None if none pays."""
    if c.row is None or len(c.sum.axes) != 1 or c.outer or c.product.op != "mul":
        return None
    (k,) = c.sum.axes
    terms, rows, columns = k.extent, c.row.extent, c.column.extent
    if not (isinstance(terms, int) and isinstance(rows, int) and isinstance(columns, int)):
        return None
    if c.sum.dtype is not FLOAT32 or rows * columns > MOST_SUMS or terms <= SPAN:
        return None
    if terms * (rows + columns) * 4 <= target.l2_bytes:
        return None
    if any(isinstance(e.buffer.source, Constant) for e in accesses([c.left, c.right])):
        return None
    count = -(-terms // SPAN)
    size = terms // count
    span = Variable("s", count)
    sums = filled("sums", (span, c.row, c.column), _part(c, k, span, size))
    stores, place = [sums], (c.row.dim, c.column.dim)
    each = load(sums.buffer, sums.buffer.address((span.dim, *place)))
    total = reduction("sum", (span,), each)
    left = terms - count * size
    if left:
        one = Variable("s", 1)
        rest = filled("sums", (c.row, c.column), _part(c, k, one, left, count * size))
        stores.append(rest)
        total = total + load(rest.buffer, rest.buffer.address(place))
    value = replace(c.store.value, {c.sum: total})
    return stores, Store(c.store.buffer, c.store.axes, c.store.address, value)


def _part(c: Contraction, k: Variable, span: Variable, size: int, first: int = 0) -> Scalar:
    """The sum of ``size`` terms of a ``span``."""
    term = Variable("k", size)
    at: dict[Atom, DimLike] = {k: term.dim + first + (span.dim * size if span.extent != 1 else 0)}
    left, right = (substitute_scalar(e, at) for e in (c.left, c.right))
    return reduction("sum", (term,), c.product.of(left, right))


__all__ = ["in_spans"]
