"""Products of float32 in tile registers (AMX), which multiply bfloat16s: as those of three parts.

Decides which contractions are computed so, and in which order. Left rows are taken apart once, in
front; panels of the right factor, which stay float32 in memory, by each chunk as it needs them. The
chunk uses them again for as many rows as the second cache holds the parts of. So three times the
arithmetic takes half the time; for a few rows vectors are faster, and are used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, likely, outer_reductions, stride_of
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Chunks, Lanes, Loop, Nest, Parts, Put, Tile, When
from fornix.compile.parts import in_parts
from fornix.compile.schedule.contraction import (
    Contraction,
    by_width,
    contraction,
    in_order,
    is_panel,
    is_plain,
    is_worth_packing,
    reading,
)
from fornix.compile.schedule.packing import filled, filled_together
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import DimLike, ceildiv, minimum
from fornix.ir.loops import (
    Buffer,
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
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

FEATURE = "amx-bf16"
WORDS = 16
"""Of a row of a tile register, and its rows."""
TERMS = 2 * WORDS
"""Of a step: a word holds a term and the one so many words behind it."""
HEIGHT, MOST_UNITS = 2 * WORDS, 2
"""Rows and vectors of a tile: four registers of sums, two for either factor."""
PART_BYTES = 6
"""Of a number in three parts."""
LEAST = LEAST_ROWS, LEAST_TERMS, LEAST_COLUMNS = 24, 32, 8
"""From which on tiles of parts are faster than vectors."""
FEW_HEIGHT = 8
"""Rows of the tiles of vectors for fewer."""
ROW_BLOCK = 128, 512
"""Rows of a chunk, at least and at most, if there are so many."""


@dataclass(frozen=True)
class Axes:
    """What factors in parts are cut into; `terms` are those of whole steps."""

    tile: Variable
    row: Variable
    step: Variable
    word: Variable
    panel: Variable
    column: Variable
    units: int
    """Vectors of a panel."""
    terms: DimLike


def part_nests(
    c: Contraction, target: Target, lanes: int
) -> tuple[Sequence[Store | Stage], Store, Nest] | None:
    """Stores that have to be computed first, the rest of the work, and its nest.

    None if vectors are faster.
    """
    if not _is_for(c, target, lanes):
        return None
    first: list[Store | Stage] = []
    if not is_plain(c):
        plain = in_order(c)
        first.append(plain)
        again = contraction(reading(c, plain))
        if again is None or not _is_for(again, target, lanes):
            return None
        c = again
    if c.row is None:
        return None
    axes = _axes(c, lanes)
    left, loads = _left(c, axes, c.row)
    first.append(left)
    right = c.right
    if not _lies_in_panels(c, axes):
        packed = _packed(c, axes)
        first.append(packed)
        right = _read_panel(c, packed.buffer, axes)
    else:
        right = substitute_scalar(right, {c.column: _place(axes)})
    whole = reduction("sum", c.sum.axes, c.product.of(c.left, right))
    if not isinstance(whole, Reduce):
        return None
    value = replace(c.store.value, {c.sum: whole})
    store = rewritten(
        Store(c.store.buffer, c.store.axes, c.store.address, value),
        [*c.outer, axes.panel, c.row, axes.column],
        {c.column: _place(axes)},
    )
    return first, store, _nest(c, store, axes, (loads, right), target)


def _is_for(c: Contraction, target: Target, lanes: int) -> bool:
    if not target.has(FEATURE) or target.is_strict or lanes != WORDS or c.row is None:
        return False
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32 or not is_worth_packing(c):
        return False
    if not isinstance(c.row.extent, int) and is_panel(c, lanes):
        return False  # a step of a decoder reads its cache as it lies
    extents = c.row.extent, c.sum.axes[0].extent, c.column.extent
    return all(likely(n) >= least for n, least in zip(extents, LEAST, strict=True))


def _axes(c: Contraction, lanes: int) -> Axes:
    (k,) = c.sum.axes
    columns, rows = c.column.extent, 1 if c.row is None else c.row.extent
    units = MOST_UNITS
    if isinstance(columns, int):
        units = min(units, -(-columns // lanes))
    steps = ceildiv(k.extent, TERMS)
    return Axes(
        tile=Variable("t", ceildiv(rows, WORDS)),
        row=Variable("r", WORDS),
        step=Variable("s", steps),
        word=Variable("w", WORDS),
        panel=Variable("p", ceildiv(columns, units * lanes)),
        column=Variable("j", units * lanes),
        units=units,
        terms=steps * TERMS,
    )


def _place(axes: Axes) -> DimLike:
    """The column at a place of a panel."""
    return axes.panel.dim * axes.column.extent + axes.column.dim


def _terms(axes: Axes) -> tuple[DimLike, DimLike]:
    """The terms in a word."""
    first = axes.step.dim * TERMS + axes.word.dim
    return first, first + WORDS


# ── the left factor ────────────────────────────────────────────────────────────────────────────


def _left(c: Contraction, axes: Axes, row: Variable) -> tuple[Stage, tuple[Scalar, ...]]:
    """What takes the left factor apart, and how its parts are read; 0 behind its end."""
    (k,) = c.sum.axes
    which = axes.tile.dim * WORDS + axes.row.dim
    pair = [
        _inside(c.left, [(row, which), (k, place)]) for place in _terms(axes)
    ]  # of rows that end within a register, too
    lead = [a for a in c.outer if a in c.left.variables]
    all_axes = (*lead, axes.tile, axes.step, axes.row, axes.word)
    stores = filled_together("parts", all_axes, in_parts(*pair))
    own = stores[0].axes
    puts = tuple(Put(s.buffer, s.address, s.value) for s in stores)
    body: Block = (Chunks(own[:-1], (Lanes(own[-1], 1, puts),)),)
    if not isinstance(row.extent, int):
        body = (When(_are_many(row.extent), body),)
    stage = Stage(Nest("parts", body, WORDS, _product(own[:-1])), stores)
    place = tuple(a.dim for a in all_axes)
    return stage, tuple(load(s.buffer, s.buffer.address(place)) for s in stores)


def _inside(e: Scalar, places: Sequence[tuple[Variable, DimLike]]) -> Scalar:
    """``e`` at ``places`` along axes, 0 behind the end of any."""
    tests = [apply("lt", index(place), index(axis.extent)) for axis, place in places]
    inside = tests[0]
    for test in tests[1:]:
        inside = apply("and", inside, test)
    value = substitute_scalar(e, dict(places))
    return select(inside, guarded(value, inside), 0)


def _product(axes: Sequence[Variable]) -> DimLike:
    found: DimLike = 1
    for axis in axes:
        found = found * axis.extent
    return found


# ── the right factor ───────────────────────────────────────────────────────────────────────────


def _lies_in_panels(c: Contraction, axes: Axes) -> bool:
    """Whether ``right`` is read where it lies: whole panels and steps of neighbouring columns."""
    e, (k,), columns, width = c.right, c.sum.axes, c.column.extent, axes.column.extent
    if not isinstance(e, Load) or e.guard is not None or e.buffer.source is None:
        return False
    if not isinstance(columns, int) or not isinstance(k.extent, int) or not isinstance(width, int):
        return False
    lies_so = stride_of(e.address, c.column) == 1 and columns == width
    return lies_so and k.extent % TERMS == 0 and stride_of(e.address, k) is not None


def _packed(c: Contraction, axes: Axes) -> Store:
    """``right`` in panels, each as wide as a tile, its terms one after the other; 0 at the end."""
    (k,) = c.sum.axes
    term = Variable("k", axes.terms)
    batch = [a for a in c.outer if a in c.right.variables]
    value = _inside(c.right, [(c.column, _place(axes)), (k, term.dim)])
    return filled("packed", (*batch, axes.panel, term, axes.column), value)


def _read_panel(c: Contraction, buffer: Buffer, axes: Axes) -> Scalar:
    (k,) = c.sum.axes
    batch = [a.dim for a in c.outer if a in c.right.variables]
    return load(buffer, buffer.address((*batch, axes.panel.dim, k.dim, axes.column.dim)))


# ── the loops ──────────────────────────────────────────────────────────────────────────────────


def _nest(
    c: Contraction,
    store: Store,
    axes: Axes,
    factors: tuple[tuple[Scalar, ...], Scalar],
    target: Target,
) -> Nest:
    """The loops of ``store``: blocks of rows, in each all panels."""
    lefts, right = factors
    own = (axes.step, axes.word, axes.column)
    buffers = tuple(Buffer(f"parts{n}", [a.extent for a in own], INT32) for n in range(3))
    place = buffers[0].address(tuple(a.dim for a in own))
    rights = tuple(load(buffer, place) for buffer in buffers)
    (result,) = outer_reductions(store.value)
    rows: DimLike = 1 if c.row is None else c.row.extent
    size, count = _row_blocks(rows, axes.terms, target)
    block = Variable("q", count)
    first = block.dim * size
    width = minimum(axes.column.extent, c.column.extent - axes.panel.dim * axes.column.extent)
    tile = Tile(
        result=result,
        row=c.row,
        rows=(first, minimum(first + size, rows), rows),
        height=HEIGHT,
        column=axes.column,
        width=width,
        units=axes.units,
        is_padded=True,
        put=Put(store.buffer, store.address, store.value),
        parts=Parts(lefts, rights, axes.tile, axes.row, axes.step, axes.word, axes.column),
    )
    body = _by_rows(tile, axes, _apart(c, axes, right, buffers))
    chunks = (*c.outer, block, axes.panel)
    offsets, size_of_all = _scratch(buffers)
    return Nest(
        "contraction",
        (Chunks(chunks, body),),
        WORDS,
        _product(chunks),
        offsets,
        size_of_all,
        frozenset(buffers),
        tuple(e.buffer for e in accesses(lefts)),
    )


def _apart(c: Contraction, axes: Axes, right: Scalar, buffers: Sequence[Buffer]) -> Block:
    """The panel taken apart, step by step."""
    (k,) = c.sum.axes
    column = Variable("j", axes.column.extent)
    pair = [substitute_scalar(right, {k: place, axes.column: column.dim}) for place in _terms(axes)]
    place = buffers[0].address((axes.step.dim, axes.word.dim, column.dim))
    parts = zip(buffers, in_parts(*pair), strict=True)
    puts = tuple(Put(buffer, place, value) for buffer, value in parts)
    lanes = Lanes(column, axes.units, puts)
    return (Loop(axes.step, (Loop(axes.word, (lanes,)),)),)


def _by_rows(tile: Tile, axes: Axes, apart: Block) -> Block:
    """Tiles of parts, or of vectors for so few rows that these are faster."""
    rows = tile.rows[2]
    square = (*apart, *by_width(tile, axes.panel, WORDS))
    if isinstance(rows, int):
        return square
    few = replace_fields(tile, parts=None, height=FEW_HEIGHT)
    are_few = apply("lt", index(rows), index(LEAST_ROWS))
    return (When(are_few, by_width(few, axes.panel, WORDS)), When(_are_many(rows), square))


def _are_many(rows: DimLike) -> Scalar:
    """Whether there are ``rows`` enough for tiles of parts."""
    return apply("le", index(LEAST_ROWS), index(rows))


def _row_blocks(rows: DimLike, terms: DimLike, target: Target) -> tuple[int, DimLike]:
    """Rows of a chunk, in whole tiles, and how many chunks of rows there are."""
    least, most = ROW_BLOCK
    fitting = target.l2_bytes // 2 // (PART_BYTES * likely(terms))
    size = max(least, min(most, fitting // HEIGHT * HEIGHT))
    if isinstance(rows, int):
        count = max(1, round(rows / size))
        size = math.ceil(rows / count / HEIGHT) * HEIGHT
    return size, ceildiv(rows, size)


def _scratch(buffers: Sequence[Buffer]) -> tuple[dict[Buffer, DimLike], DimLike]:
    """Where ``buffers`` lie in scratch memory, and how much they take."""
    sizes = [
        ceildiv(b.elements * b.dtype.numpy.itemsize, SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
        for b in buffers
    ]
    ends = list(itertools.accumulate(sizes))
    return dict(zip(buffers, [0, *ends[:-1]], strict=True)), ends[-1]


__all__ = ["part_nests"]
