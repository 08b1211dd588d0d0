"""Products of float32 in tile registers (AMX), which multiply bfloat16s: as those of three parts.

Decides which contractions are computed so, and in which order. Left rows are taken apart once, in
front; panels of the right factor, which stay float32 in memory, by each chunk as it needs them. The
chunk uses them again for as many rows as the second cache holds the parts of. So three times the
arithmetic takes half the time; for a few rows vectors are faster, and are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, likely, outer_reductions, stride_of
from fornix.compile.narrow import as_stored, unwidened
from fornix.compile.nest import Block, Chunks, Lanes, Line, Loop, Nest, Parts, Put, Tile, When
from fornix.compile.parts import BYTES, PARTS, PRODUCTS, count_of, in_parts, products_of
from fornix.compile.schedule.chunks import combined, in_scratch
from fornix.compile.schedule.contraction import (
    Contraction,
    contraction,
    in_order,
    is_panel,
    is_plain,
    is_worth_packing,
    of_several,
    reading,
)
from fornix.compile.schedule.packing import filled, filled_together
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import DimLike, ceildiv, minimum
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
    cast,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import const, reduction, select

FEATURE = "amx-bf16"
WORDS = 16
"""Of a row of a tile register, and its rows."""
TERMS = 2 * WORDS
"""Of a step: a word holds a term and the one so many words behind it."""
HEIGHT, MOST_UNITS = 2 * WORDS, 2
"""Rows and vectors of a tile: four registers of sums, two for either factor."""
TILES, LEFT, RIGHT, SUM = 0.55, 29.0, 17.0, 17.0
"""What a product takes, a number of either factor that is taken apart, and a sum that goes through
memory, relative to a product in vectors; measured from 12x49 by 56 to 1000x3072 by 768."""
FAR_LEFT, NEAR = 40.0, 2 / 3
"""What a number of the left factor takes in addition, if each panel reads its parts anew and they
do not fit this share of the second cache."""
LEAST_ROWS = 56
"""From which on tiles are faster, if a run tells how many there are."""
FEW_HEIGHT = 14
"""Rows of the tiles of vectors for fewer: weights that come from memory are used by so many."""
ROW_BLOCK = 128, 512
"""Rows of a chunk, at least and at most, if there are so many."""
MOST_STEPS = 24
"""Steps of a block of terms."""
MOST_PANELS, LEAST_GROUPS = 8, 6
"""Panels of a group, and groups, where there are several blocks of terms."""


LEAST_SCALED_ROWS = 4
"""The same where the right factor is of scaled blocks of small integers, which are one part."""


@dataclass(frozen=True)
class Scales:
    """Of blocks of so many steps: how many there are, and what sums are multiplied by."""

    steps: int
    count: int
    numbers: Callable[[Axes], Scalar]
    """Those of a panel, of one part each."""
    scale: Callable[[Axes, DimLike], Scalar]
    """Of a panel, for the block at a place."""


@dataclass(frozen=True)
class Axes:
    """What factors in parts are cut into."""

    tile: Variable
    row: Variable
    part: Variable
    """Blocks of terms; `step` is a step within."""
    step: Variable
    word: Variable
    group: Variable
    """Groups of panels; `inner` is a panel within."""
    inner: Variable
    column: Variable
    units: int
    """Vectors of a panel."""
    panels: DimLike
    rows: int
    """Of a block."""
    counts: tuple[int, int]
    """Parts of the left factor and of the right one."""
    least: int
    """Rows from which on tiles are faster, if a run tells how many there are."""

    @property
    def panel(self) -> DimLike:
        """The panel at a place of a group."""
        return self.group.dim * self.inner.extent + self.inner.dim

    @property
    def place(self) -> DimLike:
        """The column at a place of a panel."""
        return self.panel * self.column.extent + self.column.dim

    @property
    def steps(self) -> DimLike:
        """Steps of all terms."""
        return self.part.extent * self.step.extent

    @property
    def whole_step(self) -> DimLike:
        """The step, of all, at a place of a block of terms."""
        return self.part.dim * self.step.extent + self.step.dim

    def terms_of(self) -> tuple[DimLike, DimLike]:
        """The terms in a word."""
        first = self.whole_step * TERMS + self.word.dim
        return first, first + WORDS


def part_nests(
    c: Contraction, target: Target, lanes: int
) -> tuple[Sequence[Store | Stage], Store, Nest] | None:
    """Stores that have to be computed first, the rest of the work, and its nest.

    None if vectors are faster.
    """
    if not _is_for(c, target, lanes):
        return None
    first: list[Store | Stage] = []
    counts = count_of(c.left), count_of(c.right)
    if not _is_plain(c):
        plain = in_order(c)
        first.append(plain)
        again = contraction(reading(c, plain))
        if again is None or not _is_for(again, target, lanes):
            return None
        c = again
    if c.row is None:
        return None
    axes = _axes(c, target, lanes, counts)
    left, loads = _left(c, axes, c.row)
    first.append(left)
    right = c.right
    if not _is_read_in_place(c, axes):
        packed = _packed(c, axes, target)
        first.append(packed)
        right = _read_panel(c, packed.buffer, axes)
    else:
        right = substitute_scalar(right, {c.column: axes.place})
    store = _by_panels(c, axes, right)
    return None if store is None else (first, store, _Loops(c, store, axes, loads, right).nest())


def nest_of_read(
    c: Contraction,
    read: Callable[[Axes], Scalar | None],
    scales: Scales | None,
    target: Target,
    lanes: int,
) -> tuple[Stage, Nest] | None:
    """What takes the left factor of ``c`` apart, and the nest for many rows alone.

    Says nothing about few rows: the kernel does nothing for them. The right factor is not packed,
    but what ``read`` makes of the place of a panel, and what ``scales`` say if they are given. None
    if vectors are faster.
    """
    if not _can_be(c, target, lanes) or c.row is None:
        return None
    pays = _pays_for(c, target) if scales is None else likely(c.row.extent) >= LEAST_SCALED_ROWS
    if not pays:
        return None
    axes = _axes(c, target, lanes, (count_of(c.left), 1 if scales else len(PARTS)), scales)
    right = read(axes)
    store = None if right is None else _by_panels(c, axes, right)
    if right is None or store is None:
        return None
    left, loads = _left(c, axes, c.row)
    if scales is not None:
        right = scales.numbers(axes)
    return left, _Loops(c, store, axes, loads, right, scales, is_cut=scales is None).nest_of_many()


def _by_panels(c: Contraction, axes: Axes, right: Scalar) -> Store | None:
    """The store of ``c`` over rows and panels, of which it reads ``right``."""
    whole = reduction("sum", c.sum.axes, c.product.of(c.left, right))
    if not isinstance(whole, Reduce) or c.row is None:
        return None
    value = replace(c.store.value, {c.sum: whole})
    return rewritten(
        Store(c.store.buffer, c.store.axes, c.store.address, value),
        [*c.outer, axes.group, axes.inner, c.row, axes.column],
        {c.column: axes.place},
    )


def _is_for(c: Contraction, target: Target, lanes: int) -> bool:
    return _can_be(c, target, lanes) and _pays_for(c, target)


def _can_be(c: Contraction, target: Target, lanes: int) -> bool:
    """Whether tile registers multiply what ``c`` does."""
    if not target.has(FEATURE) or target.is_strict or lanes != WORDS or c.row is None:
        return False
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32 or not is_worth_packing(c):
        return False
    if of_several(c) is not None:
        return False
    if not isinstance(c.row.extent, int) and is_panel(c, lanes):
        return False  # a step of a decoder reads its cache as it lies
    # weights of attention, which are large, would take 6 bytes more each
    return isinstance(c.sum.axes[0].extent, int) or _is_stored(c.right)


def _pays_for(c: Contraction, target: Target) -> bool:
    if c.row is None:
        return False
    rows, terms, columns = (likely(a.extent) for a in (c.row, c.sum.axes[0], c.column))
    share = len(products_of(count_of(c.left), count_of(c.right))) / len(PRODUCTS)
    return _pays(rows, terms, columns, share, target)


def _pays(rows: int, terms: int, columns: int, share: float, target: Target) -> bool:
    """Whether products of so many are faster in tiles, that of few parts in a ``share`` of time."""
    padded = math.prod(
        -(-n // step) * step for n, step in ((rows, WORDS), (terms, TERMS), (columns, TERMS))
    )
    is_alone = columns < 2 * LEAST_GROUPS * MOST_UNITS * WORDS  # a panel is a group of its own
    is_read_again = is_alone and terms > MOST_STEPS * TERMS
    is_far = is_read_again and rows * terms * BYTES > target.l2_bytes * NEAR
    left = LEFT + FAR_LEFT * is_far
    apart = left * rows * terms + RIGHT * terms * columns + SUM * rows * columns
    return TILES * share * padded + apart < rows * terms * columns


def _is_plain(c: Contraction) -> bool:
    """Whether the left factor is read as it lies; halves are, where no rows are left to vectors."""
    if c.row is None or not isinstance(c.row.extent, int):
        return is_plain(c)
    product = replace_fields(c.product, left=unwidened(c.left))
    return is_plain(replace_fields(c, product=product))


def _axes(
    c: Contraction,
    target: Target,
    lanes: int,
    counts: tuple[int, int],
    scales: Scales | None = None,
) -> Axes:
    (k,) = c.sum.axes
    columns, rows = c.column.extent, 1 if c.row is None else c.row.extent
    units = MOST_UNITS
    if isinstance(columns, int):
        units = min(units, -(-columns // lanes))
    steps, parts = ceildiv(k.extent, TERMS), 1
    if scales is not None:
        blocks = (n for n in range(1, scales.count + 1) if scales.count % n == 0)
        each = max(n for n in blocks if n == 1 or n * scales.steps <= MOST_STEPS)
        steps, parts = each * scales.steps, scales.count // each
    elif isinstance(steps, int):
        parts = -(-steps // MOST_STEPS)
        steps = -(-steps // parts)
    panels, inner = ceildiv(columns, units * lanes), 1
    if parts > 1:
        inner = max(1, min(MOST_PANELS, likely(panels) // LEAST_GROUPS))
    return Axes(
        tile=Variable("t", ceildiv(rows, WORDS)),
        row=Variable("r", WORDS),
        part=Variable("b", parts),
        step=Variable("s", steps),
        word=Variable("w", WORDS),
        group=Variable("g", ceildiv(panels, inner)),
        inner=Variable("p", inner),
        column=Variable("j", units * lanes),
        units=units,
        panels=panels,
        rows=_rows_of_block(rows, likely(steps) * TERMS, target),
        counts=counts,
        least=LEAST_ROWS if scales is None else LEAST_SCALED_ROWS,
    )


def _rows_of_block(rows: DimLike, terms: int, target: Target) -> int:
    """Rows of a chunk, in whole tiles: the second cache holds so many ``terms`` of them."""
    least, most = ROW_BLOCK
    fitting = target.l2_bytes // 2 // (BYTES * terms)
    size = max(least, min(most, fitting // HEIGHT * HEIGHT))
    if not isinstance(rows, int):
        return size
    count = max(1, round(rows / size))
    return math.ceil(rows / count / HEIGHT) * HEIGHT


# ── the left factor ────────────────────────────────────────────────────────────────────────────


def _left(c: Contraction, axes: Axes, row: Variable) -> tuple[Stage, tuple[Scalar, ...]]:
    """What takes the left factor apart, and how its parts are read; 0 behind its end."""
    (k,) = c.sum.axes
    which = axes.tile.dim * WORDS + axes.row.dim
    pair = [
        _inside(c.left, [(row, which), (k, place)]) for place in axes.terms_of()
    ]  # of rows that end within a register, too
    lead = [a for a in c.outer if a in c.left.variables]
    all_axes = (*lead, axes.tile, axes.part, axes.step, axes.row, axes.word)
    stores = filled_together("parts", all_axes, in_parts(*pair)[: axes.counts[0]])
    own = stores[0].axes
    puts = tuple(Put(s.buffer, s.address, s.value) for s in stores)
    body: Block = (Chunks(own[:-1], (Lanes(own[-1], 1, puts),)),)
    if not isinstance(row.extent, int):
        body = (When(are_many(row.extent, axes.least), body),)
    stage = Stage(Nest("parts", body, WORDS, combined(own[:-1])[0]), stores)
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


# ── the right factor ───────────────────────────────────────────────────────────────────────────


def _is_read_in_place(c: Contraction, axes: Axes) -> bool:
    """Whether panels of ``right`` are read where they lie: whole steps of whole vectors."""
    e, (k,), columns = c.right, c.sum.axes, c.column.extent
    if not isinstance(e, Load) or e.guard is not None or c.row is None:
        return False
    if (
        not isinstance(c.row.extent, int)
        or not isinstance(columns, int)
        or not isinstance(k.extent, int)
        or _is_stored(c.right)
    ):
        return False
    is_whole = columns % (axes.units * WORDS) == 0 and k.extent == axes.steps * TERMS
    return is_whole and stride_of(e.address, c.column) == 1 and stride_of(e.address, k) is not None


def _is_stored(e: Scalar) -> bool:
    return all(isinstance(read.buffer.source, Constant) for read in accesses([e]))


def _packed(c: Contraction, axes: Axes, target: Target) -> Store:
    """``right`` in panels, each as wide as a tile, its terms one after the other; 0 at the end."""
    (k,) = c.sum.axes
    term, panel = Variable("k", axes.steps * TERMS), Variable("p", axes.panels)
    batch = [a for a in c.outer if a in c.right.variables]
    which = panel.dim * axes.column.extent + axes.column.dim
    value = _inside(as_stored(c.right, target), [(c.column, which), (k, term.dim)])
    return filled("packed", (*batch, panel, term, axes.column), value)


def _read_panel(c: Contraction, buffer: Buffer, axes: Axes) -> Scalar:
    (k,) = c.sum.axes
    batch = [a.dim for a in c.outer if a in c.right.variables]
    read = load(buffer, buffer.address((*batch, axes.panel, k.dim, axes.column.dim)))
    return cast(read, c.right.dtype)


# ── the loops ──────────────────────────────────────────────────────────────────────────────────


class _Loops:
    """The loops of ``store``: blocks of rows, groups of panels, then blocks of terms.

    All panels of a group go through a block of terms before the next one, so that the second cache
    holds the left factor; their sums lie in memory meanwhile. Where the right factor `is_cut`, it
    has no terms that fill the last step.
    """

    def __init__(
        self,
        c: Contraction,
        store: Store,
        axes: Axes,
        left: tuple[Scalar, ...],
        right: Scalar,
        scales: Scales | None = None,
        *,
        is_cut: bool = False,
    ) -> None:
        self.c, self.store, self.axes, self.left, self.right = c, store, axes, left, right
        self.scales, self.is_cut = scales, is_cut
        rows: DimLike = 1 if c.row is None else c.row.extent
        self.size, self.block = axes.rows, Variable("q", ceildiv(rows, axes.rows))
        first = self.block.dim * self.size
        self.rows = (first, minimum(first + self.size, rows), rows)
        own = (axes.step, axes.word, axes.column)
        self.parts = [
            Buffer(f"parts{n}", [a.extent for a in own], INT32) for n in range(axes.counts[1])
        ]
        shape = [axes.inner.extent, self.size, axes.column.extent]
        self.sums = Buffer("sums", shape, FLOAT32)

    def nest(self) -> Nest:
        """All of it."""
        rows = self.rows[2]
        if isinstance(rows, int):
            return self._nest(self._square())
        few = self._of_panels(self._ends(FEW_HEIGHT, None))
        least = self.axes.least
        are_few = apply("lt", index(rows), index(least))
        return self._nest((When(are_few, few), When(are_many(rows, least), self._square())))

    def nest_of_many(self) -> Nest:
        """What is done with many rows, whoever does the others."""
        return self._nest(self._square())

    def _nest(self, body: Block) -> Nest:
        """``body`` for blocks of rows and groups of panels."""
        chunks = (*self.c.outer, self.block, self.axes.group)
        scratch, size = in_scratch([*self.parts, self.sums])
        return Nest(
            "contraction",
            (Chunks(chunks, body),),
            WORDS,
            combined(chunks)[0],
            scratch,
            size,
            frozenset(scratch),
            tuple(e.buffer for e in accesses(self.left)),
        )

    def _square(self) -> Block:
        """Products in tile registers, and what is done with the sums."""
        axes = self.axes
        found = self.sums, self.sums.address((axes.inner.dim, 0, 0))
        ends = self._ends(HEIGHT, found)
        if axes.part.extent == 1 and self.scales is None:
            body = self._of_panels(self._products(found), ends)
            return (Loop(axes.part, body),)
        row = Variable("r", self.rows[1] - self.rows[0])
        column = Variable("j", axes.column.extent)
        place = self.sums.address((axes.inner.dim, row.dim, column.dim))
        zeros = Lanes(column, axes.units, (Put(self.sums, place, const(0.0, FLOAT32)),))
        return (
            Loop(axes.inner, (Loop(row, (zeros,)),)),
            Loop(axes.part, self._of_panels(self._products(found))),
            *self._of_panels(ends),
        )

    def _of_panels(self, *bodies: Block) -> Block:
        """``bodies`` for each panel of a group that there is."""
        axes, body = self.axes, tuple(s for body in bodies for s in body)
        if axes.inner.extent == 1:
            return (Loop(axes.inner, body),)
        is_one = apply("lt", index(axes.panel), index(axes.panels))
        return (Loop(axes.inner, (When(is_one, body),)),)

    def _made(self) -> tuple[Put, ...]:
        """What takes words of a panel apart."""
        axes, (k,) = self.axes, self.c.sum.axes
        pair = [substitute_scalar(self.right, {k: place}) for place in axes.terms_of()]
        if self.is_cut:
            pair = [_inside(self.right, [(k, place)]) for place in axes.terms_of()]
        place = self.parts[0].address((axes.step.dim, axes.word.dim, axes.column.dim))
        parts = zip(self.parts, in_parts(*pair)[: axes.counts[1]], strict=True)
        return tuple(Put(buffer, place, value) for buffer, value in parts)

    def _products(self, sums: Line) -> Block:
        axes = self.axes
        place = self.parts[0].address((axes.step.dim, axes.word.dim, axes.column.dim))
        blocks = None
        if self.scales is not None:
            block = Variable("n", likely(axes.step.extent) // self.scales.steps)
            number = axes.part.dim * block.extent + block.dim
            blocks = block, self.scales.scale(axes, number)
        return (
            Parts(
                left=self.left,
                right=tuple(load(buffer, place) for buffer in self.parts),
                tile=axes.tile,
                row=axes.row,
                step=axes.step,
                word=axes.word,
                column=axes.column,
                rows=self.rows[:2],
                units=axes.units,
                sums=sums,
                fresh=axes.part.extent == 1,
                made=self._made(),
                ahead=self._ahead(),
                blocks=blocks,
            ),
        )

    def _ahead(self) -> tuple[Line, ...]:
        """The lines of the next panel that a step asks for: their share of those of its terms."""
        axes, e, (k,) = self.axes, unwidened(self.right), self.c.sum.axes
        width = axes.column.extent
        if not isinstance(e, Load) or stride_of(e.address, k) != width:
            return ()
        words = WORDS * FLOAT32.bits // e.dtype.bits
        count = -(-TERMS * axes.units * HEIGHT * WORDS // (self.size * words))
        count += count % 2
        first = axes.terms_of()[0] - axes.word.dim
        at: dict[Atom, DimLike] = {k: first, axes.column: 0, axes.inner: axes.inner.dim + 1}
        turn = axes.tile.dim - self.block.dim * (self.size // WORDS)
        start = substitute(e.address, at, {}) + turn * (count // 2 * words)
        return tuple((e.buffer, start + line * words) for line in range(count))

    def _ends(self, height: int, found: Line | None) -> Block:
        """What is done with sums of ``height`` rows, which are those that were ``found``."""
        c, store, axes = self.c, self.store, self.axes
        (result,) = outer_reductions(store.value)
        width = minimum(axes.column.extent, c.column.extent - axes.panel * axes.column.extent)
        tile = Tile(
            result=result,
            row=c.row,
            rows=self.rows,
            height=height,
            column=axes.column,
            width=width,
            units=axes.units,
            is_padded=True,
            put=Put(store.buffer, store.address, store.value),
            found=found,
        )
        whole, columns = axes.units * WORDS, c.column.extent
        if isinstance(columns, int) and columns % whole == 0:
            return (replace_fields(tile, width=whole),)
        if found is None or not isinstance(columns, int) or columns < whole:
            return (tile,)
        is_last = apply("lt", index(axes.panels - 2), index(axes.panel))
        is_whole = apply("lt", index(axes.panel), index(axes.panels - 1))
        last = replace_fields(tile, width=columns % whole)
        return (When(is_whole, (replace_fields(tile, width=whole),)), When(is_last, (last,)))


def are_many(rows: DimLike, least: int) -> Scalar:
    """Whether there are ``rows`` enough for tiles of parts, which ``least`` are."""
    return apply("le", index(least), index(rows))


__all__ = [
    "LEAST_ROWS",
    "LEAST_SCALED_ROWS",
    "TERMS",
    "Axes",
    "Scales",
    "are_many",
    "nest_of_read",
    "part_nests",
]
