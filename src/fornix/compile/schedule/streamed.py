"""Sums down the columns of a matrix that is read as it lies: its rows in their order.

Of one row times a matrix, ``Σ_k a[k] · b[k, n]``, and of the rows themselves, ``Σ_k b[k, n]``. A
tile of columns goes down the matrix in steps of a row, page after page, and so does every other
tile; here some rows at a time are read from end to end, as memory is read fastest. The sums lie in
scratch memory, which the first cache holds. Terms are added in the same order as in a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fornix.compile.cost import accesses, likely, outer_reductions, stride_of
from fornix.compile.nest import Block, ChunkedLanes, Chunks, Lanes, Loop, Nest, Put, When
from fornix.compile.schedule.chunks import in_scratch
from fornix.compile.target import Target
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Buffer,
    Constant,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
    walk,
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
WHOLE = 1 << 14
"""Bytes of sums up to which a single panel has all columns: pieces of rows are as long as there are
few threads, and the nearest cache holds both."""
LEAST_COLUMNS = 256
"""Columns from which on rows are long enough to be read one after the other."""
PAGE_COLUMNS = 1024
"""Columns from which on rows that are only summed lie in pages of their own."""
SHARED_COLUMNS = 256
"""Columns of each half of a single panel from which on two threads share it: the second is worth
more than longer pieces of rows, and one that is alone reads them whole."""
LEAST_ELEMENTS = 1 << 18
"""Elements of a matrix from which on it does not lie in the second cache; smaller ones are as fast
in tiles."""


@dataclass(frozen=True)
class _Down:
    """The sums of `store` for each `column`, and what adds a term to one, both at some place."""

    store: Store
    sum: Reduce
    outer: Sequence[Variable]
    column: Variable
    columns: int
    added: Callable[[Scalar, Mapping[Atom, DimLike]], Scalar]


def streamed_nest(c: Contraction, target: Target, lanes: int) -> Nest | None:
    """``c`` row by row of its right factor; None if that is no such matrix."""
    columns = c.column.extent
    if c.row is not None or c.product.op != "mul" or not isinstance(columns, int):
        return None
    if not _is_large(c.right, c.column, c.sum):
        return None

    def added(total: Scalar, at: Mapping[Atom, DimLike]) -> Scalar:
        left, right = substitute_scalar(c.left, at), substitute_scalar(c.right, at)
        if total.dtype.is_float and target.fuses:
            return apply("fma", left, right, total)
        return total + left * right

    return _nest(_Down(c.store, c.sum, c.outer, c.column, columns, added), "contraction", lanes)


def streamed_sums(store: Store, column: Variable | None, lanes: int) -> Nest | None:
    """``store`` if it sums rows of a large matrix, vectors along ``column``; None if not."""
    folds = outer_reductions(store.value)
    if column is None or len(folds) != 1 or folds[0].op != "sum" or len(folds[0].axes) != 1:
        return None
    (e,), columns = folds, column.extent
    if not isinstance(columns, int) or columns < PAGE_COLUMNS or not _is_large(e.body, column, e):
        return None
    others = accesses([replace(store.value, {e: const(0, e.dtype)})])
    is_even = all(_is_even(x, column) for x in others) and stride_of(store.address, column) == 1
    is_nested = any(isinstance(x, Reduce) for x in walk(e.body))
    if not is_even or is_nested or not {*store.axes} <= e.variables:
        return None

    def added(total: Scalar, at: Mapping[Atom, DimLike]) -> Scalar:
        return total + substitute_scalar(e.body, at)

    outer = [a for a in store.axes if a is not column]
    return _nest(_Down(store, e, outer, column, columns, added), "map", lanes)


def _nest(down: _Down, kind: str, lanes: int) -> Nest:
    """Panels of columns, in each the rows one after the other."""
    columns = down.columns
    count = max(1, round(columns / PANEL))
    if (count == 1 or columns * down.sum.dtype.numpy.itemsize <= WHOLE) and not down.outer:
        return _one_panel(down, kind, lanes)
    whole = -(-columns // (count * lanes)) * lanes
    count = -(-columns // whole)
    last = columns - (count - 1) * whole
    panel, sums = Variable("p", count), Buffer("sums", (whole,), down.sum.dtype)
    narrow = _panel(down, (sums, panel.dim * whole), last)
    body = narrow
    if last < whole and count > 1:
        is_last = apply("lt", index(count - 2), index(panel.dim))
        is_whole = apply("lt", index(panel.dim), index(count - 1))
        wide = _panel(down, (sums, panel.dim * whole), whole)
        body = (When(is_whole, wide), When(is_last, narrow))
    axes = (*down.outer, panel)
    parallel: DimLike = 1
    for axis in axes:
        parallel = parallel * axis.extent
    offsets, size = in_scratch([sums])
    return Nest(kind, (Chunks(axes, body),), lanes, parallel, offsets, size, frozenset({sums}))


def _one_panel(down: _Down, kind: str, lanes: int) -> Nest:
    """All columns, of which each chunk takes a share of every row, or one takes all."""
    columns = down.columns
    parallel = max(min(2, columns // SHARED_COLUMNS), round(columns / PANEL))
    sums = Buffer("sums", (columns,), down.sum.dtype)
    body = _panel(down, (sums, 0), columns, UNITS * lanes)
    offsets, size = in_scratch([sums])
    return Nest(kind, body, lanes, parallel, offsets, size, frozenset({sums}))


def _is_large(e: Scalar, column: Variable, total: Reduce) -> bool:
    """Whether ``e`` reads a large matrix in rows, used once, and moves along ``column``."""
    columns = column.extent
    if len(total.axes) != 1 or not isinstance(columns, int) or columns < LEAST_COLUMNS:
        return False
    loads = accesses([e])
    if any(isinstance(x.buffer.source, Constant) for x in loads):
        return False
    is_even = all(_is_even(x, column) for x in loads)
    return is_even and columns * likely(total.axes[0].extent) >= LEAST_ELEMENTS


def _is_even(e: Load, axis: Variable) -> bool:
    return e.guard is None and stride_of(e.address, axis) in {0, 1}


def _panel(down: _Down, where: tuple[Buffer, DimLike], width: int, grain: int = 0) -> Block:
    """The sums of ``width`` columns and what is done with them; ``where`` the first one is.

    Chunks share them, cut at multiples of ``grain``; or each does all.
    """
    sums, first = where
    (k,) = down.sum.axes
    blocks = k.extent // ROWS
    block, rest = Variable("b", blocks), Variable("t", k.extent - blocks * ROWS)
    terms = [block.dim * ROWS + r for r in range(ROWS)]
    column = Variable("j", width)
    at: dict[Atom, DimLike] = {down.column: first + column.dim}
    store = down.store
    value = replace(store.value, {down.sum: load(sums, down.column.dim - first)})
    put = Put(store.buffer, substitute(store.address, at, {}), substitute_scalar(value, at))
    start = Variable("j", width)
    return (
        _along(start, Put(sums, start.dim, const(0, sums.dtype)), grain),
        Loop(block, (_along(*_added(down, where, width, terms), grain),)),
        Loop(rest, (_along(*_added(down, where, width, [blocks * ROWS + rest.dim]), grain),)),
        _along(column, put, grain),
    )


def _along(column: Variable, put: Put, grain: int) -> Lanes | ChunkedLanes:
    """``put`` for all columns, or for a chunk's share of them."""
    return ChunkedLanes(column, UNITS, grain, (put,)) if grain else Lanes(column, UNITS, (put,))


def _added(
    down: _Down, where: tuple[Buffer, DimLike], width: int, terms: Sequence[DimLike]
) -> tuple[Variable, Put]:
    """Some terms, added to the sums of ``width`` columns."""
    (k,), (sums, first) = down.sum.axes, where
    column = Variable("j", width)
    total: Scalar = load(sums, column.dim)
    for term in terms:
        total = down.added(total, {k: term, down.column: first + column.dim})
    return column, Put(sums, column.dim, total)


__all__ = ["streamed_nest", "streamed_sums"]
