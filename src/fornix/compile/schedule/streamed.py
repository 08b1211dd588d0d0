"""One row times a matrix that is read as it lies, ``Σ_k a[k] · b[k, n]``: its rows in their order.

A tile of columns goes down the matrix in steps of a row, page after page, and so does every other
tile; here some rows at a time are read from end to end, as memory is read fastest. The sums lie in
scratch memory, which the first cache holds. Terms are added in the same order as in a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.cost import accesses, likely, stride_of
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Chunks, Lanes, Loop, Nest, Put, When
from fornix.compile.target import Target
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Buffer,
    Constant,
    Load,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import const

if TYPE_CHECKING:
    from fornix.compile.schedule.contraction import Contraction

ROWS = 8
"""Rows that are read together: each visit of the sums serves so many."""
UNITS = 4
"""Vectors of columns at a time."""
PANEL = 1024
"""Columns of a panel, about: their sums take a few kilobytes, and threads share panels."""
LEAST_COLUMNS = 256
"""Columns from which on rows are long enough to be read one after the other."""
SHARED_COLUMNS = 400
"""Columns of each of two panels, from which on there are two: a second thread is worth more than
longer pieces of rows."""
LEAST_ELEMENTS = 1 << 18
"""Elements of a matrix from which on it does not lie in the second cache; smaller ones are as fast
in tiles."""


def streamed_nest(c: Contraction, target: Target, lanes: int) -> Nest | None:
    """``c`` row by row of its right factor; None if that is no such matrix."""
    columns = c.column.extent
    if not _is_streamed(c) or not isinstance(columns, int):
        return None
    count = max(1, round(columns / PANEL), min(2, columns // SHARED_COLUMNS))
    whole = -(-columns // (count * lanes)) * lanes
    count = -(-columns // whole)
    last = columns - (count - 1) * whole
    panel, sums = Variable("p", count), Buffer("sums", (whole,), c.sum.dtype)
    narrow = _panel(c, target, (sums, panel.dim * whole), last)
    body = narrow
    if last < whole and count > 1:
        is_last = apply("lt", index(count - 2), index(panel.dim))
        is_whole = apply("lt", index(panel.dim), index(count - 1))
        wide = _panel(c, target, (sums, panel.dim * whole), whole)
        body = (When(is_whole, wide), When(is_last, narrow))
    axes = (*c.outer, panel)
    parallel: DimLike = 1
    for axis in axes:
        parallel = parallel * axis.extent
    size = -(-whole * sums.dtype.numpy.itemsize // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
    return Nest(
        "contraction", (Chunks(axes, body),), lanes, parallel, {sums: 0}, size, frozenset({sums})
    )


def _is_streamed(c: Contraction) -> bool:
    """Whether ``right`` is a large matrix in rows that is used once, and moves along columns."""
    e, columns = c.right, c.column.extent
    is_one_row = c.row is None and len(c.sum.axes) == 1 and c.product.op == "mul"
    if not is_one_row or not isinstance(columns, int) or columns < LEAST_COLUMNS:
        return False
    loads = accesses([e])
    if any(isinstance(x.buffer.source, Constant) for x in loads):
        return False
    is_even = all(_is_even(x, c.column) for x in loads)
    return is_even and columns * likely(c.sum.axes[0].extent) >= LEAST_ELEMENTS


def _is_even(e: Load, axis: Variable) -> bool:
    return e.guard is None and stride_of(e.address, axis) in {0, 1}


def _panel(c: Contraction, target: Target, where: tuple[Buffer, DimLike], width: int) -> Block:
    """The sums of ``width`` columns and what is done with them; ``where`` the first one is."""
    sums, first = where
    (k,) = c.sum.axes
    blocks = k.extent // ROWS
    block, rest = Variable("b", blocks), Variable("t", k.extent - blocks * ROWS)
    terms = [block.dim * ROWS + r for r in range(ROWS)]
    column = Variable("j", width)
    at: dict[Atom, DimLike] = {c.column: first + column.dim}
    value = replace(c.store.value, {c.sum: load(sums, c.column.dim - first)})
    put = Put(c.store.buffer, substitute(c.store.address, at, {}), substitute_scalar(value, at))
    start = Variable("j", width)
    return (
        Lanes(start, UNITS, (Put(sums, start.dim, const(0, sums.dtype)),)),
        Loop(block, (_added(c, target, where, width, terms),)),
        Loop(rest, (_added(c, target, where, width, [blocks * ROWS + rest.dim]),)),
        Lanes(column, UNITS, (put,)),
    )


def _added(
    c: Contraction,
    target: Target,
    where: tuple[Buffer, DimLike],
    width: int,
    terms: Sequence[DimLike],
) -> Lanes:
    """Some terms, added to the sums of ``width`` columns."""
    (k,), (sums, first) = c.sum.axes, where
    column = Variable("j", width)
    total = load(sums, column.dim)
    for term in terms:
        at: dict[Atom, DimLike] = {k: term, c.column: first + column.dim}
        left, right = substitute_scalar(c.left, at), substitute_scalar(c.right, at)
        if sums.dtype.is_float and target.fuses:
            total = apply("fma", left, right, total)
        else:
            total = total + left * right
    return Lanes(column, UNITS, (Put(sums, column.dim, total),))


__all__ = ["streamed_nest"]
