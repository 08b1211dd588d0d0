"""Products of stored rows with columns of which a run tells that they are few.

Vectors of columns would be nearly empty: so it is with pointwise convolutions of one token, or of a
pixel, whose results are not in blocks. Their stored factor is laid out for vectors of rows instead,
and read once for all columns of all images; results are written where they belong, one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, outer_reductions
from fornix.compile.narrow import as_stored
from fornix.compile.nest import Chunks, Nest, Patch, Put, Span, Taps
from fornix.compile.schedule.chunks import combined
from fornix.compile.schedule.contraction import Contraction, contraction
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.spans import by_size
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import WIDEST, Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, ceildiv, known, less, maximum, minimum
from fornix.ir.loops import (
    Constant,
    Load,
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
from fornix.ir.loops.scalar import reduction, select

MOST_COLUMNS, SOME_COLUMNS = 16, 256
"""Up to which vectors of rows are faster, and up to which they may be: where columns end soon after
a vector of them began, or sums are long."""
DEEP, WRITING = 256, 20
"""Terms from which on they may be so, and how many take as long as writing a result on its own."""
LEAST_WEIGHTS = 1 << 13
"""Stored numbers of a product from which on it pays to have another way for it."""
MANY_REGISTERS = 32
"""With so many registers of vectors, boxes are two vectors of rows deep."""
WRITTEN = 4, 2, 1
"""Terms that may be written out in the inner loop."""


@dataclass(frozen=True)
class FewColumns:
    """What is computed first, the sums, and 1 where a run has few columns, else 0."""

    first: tuple[Store, ...]
    sums: Stage
    is_it: DimLike


def few_columns(store: Store, target: Target, lanes: int) -> FewColumns | None:
    """``store`` for few columns; None if it is no such product, or has many in any case."""
    if all(isinstance(a.extent, int) for a in store.axes):
        return None
    c = contraction(store)
    if c is None or c.row is None or not _is_for(c, c.row):
        return None
    columns, most = c.column.extent, _most(c, target)
    few = Variable(c.column.name, minimum(columns, most))
    axes = [few if a is c.column else a for a in store.axes]
    c_few = contraction(rewritten(store, axes, {c.column: few.dim}))
    if c_few is None or c_few.row is None or c_few.column.extent != few.extent:
        return None
    is_it = minimum(maximum(MOST_COLUMNS + 1 - columns, 0), 1)
    if most > MOST_COLUMNS:
        rows, terms = (known(a.extent) or 1 for a in (c.row, *c.sum.axes))
        spent = ceildiv(columns, lanes) * lanes * rows * terms
        least = columns * (-(-rows // lanes) * lanes * (terms + WRITING))
        are_wasted = minimum(maximum(spent - least + 1, 0), 1)
        is_it = maximum(is_it, are_wasted * minimum(maximum(most + 1 - columns, 0), 1))
    return FewColumns(*_Boxes(c_few, c_few.row, most, target, lanes).found(), is_it)


def _most(c: Contraction, target: Target) -> int:
    """Columns up to which vectors of rows may be faster: of the widest, which end within most rows.

    Boxes of 16 registers take longer than what shorter vectors waste; tile registers waste less.
    """
    (term,) = c.sum.axes
    has_waste = target.vector_bytes == WIDEST and not target.is_wide
    is_deep = (known(term.extent) or 0) >= DEEP
    return SOME_COLUMNS if has_waste and is_deep else MOST_COLUMNS


def _is_for(c: Contraction, row: Variable) -> bool:
    """Whether ``c`` has stored rows, enough of them, and columns that may be few."""
    columns, rows = c.column.extent, known(row.extent)
    if isinstance(columns, int) or less(columns, MOST_COLUMNS + 1) is False or rows is None:
        return False
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32 or len(c.sum.axes) != 1:
        return False
    terms = known(c.sum.axes[0].extent)
    if terms is None or rows * terms < LEAST_WEIGHTS:
        return False
    lead = [a.extent for a in c.outer if a in c.left.variables]
    sources = [e.buffer.source for e in accesses([c.left])]
    return all(isinstance(n, int) for n in lead) and all(isinstance(s, Constant) for s in sources)


class _Boxes:
    """The axes of one product, and what is made of it."""

    def __init__(
        self, c: Contraction, row: Variable, most: int, target: Target, lanes: int
    ) -> None:
        self.c, self.row, self.most, self.target, self.lanes = c, row, most, target, lanes
        self.rows = known(row.extent) or 0
        blocks = -(-self.rows // lanes)
        deep = 2 if target.vector_registers >= MANY_REGISTERS and blocks % 2 == 0 else 1
        self.panel = Variable("p", blocks // deep)
        self.block, self.lane = Variable("b", deep), Variable("j", lanes)
        (term,) = c.sum.axes
        step = next(n for n in WRITTEN if (known(term.extent) or 0) % n == 0)
        self.steps, self.word = Variable("c", term.extent // step), Variable("e", step)
        self.lead = tuple(a for a in c.outer if a in c.left.variables)
        self.others = tuple(a for a in c.outer if a not in c.left.variables)

    @property
    def at_row(self) -> DimLike:
        """The row at a place of a panel."""
        return (self.panel.dim * self.block.extent + self.block.dim) * self.lanes + self.lane.dim

    def found(self) -> tuple[tuple[Store, ...], Stage]:
        """What comes before the sums, and these."""
        c = self.c
        (term,) = c.sum.axes
        first: list[Store] = []
        right = c.right
        if not isinstance(right, Load):  # which each panel of rows would compute anew
            axes = [*(a for a in c.store.axes if a in right.variables), term]
            copy = filled("right", axes, right)
            right = load(copy.buffer, copy.buffer.address(tuple(a.dim for a in axes)))
            first.append(copy)
        packed = self._packed()
        axes = [*self.lead, self.panel, self.steps, self.word, self.block, self.lane]
        left = load(packed.buffer, packed.buffer.address(tuple(a.dim for a in axes)))
        left = cast(left, FLOAT32)
        at = self.steps.dim * self.word.extent + self.word.dim
        right = substitute_scalar(right, {term: at})
        whole = reduction("sum", (self.steps, self.word), c.product.of(left, right))
        value = replace(c.store.value, {c.sum: whole})
        store = Store(c.store.buffer, c.store.axes, c.store.address, value)
        outer = (*self.lead, self.panel, *self.others)
        store = rewritten(store, [*outer, c.column, self.block, self.lane], {self.row: self.at_row})
        body = (Chunks(outer, tuple(by_size(c.column, self.most, self._box(store)))),)
        nest = Nest("contraction", body, self.lanes, combined(outer)[0])
        return (*first, packed), Stage(nest, (store,))

    def _packed(self) -> Store:
        """The stored rows panel by panel, the terms of those of a panel side by side."""
        (term,) = self.c.sum.axes
        at = self.steps.dim * self.word.extent + self.word.dim
        inside = apply("lt", index(self.at_row), index(self.rows))
        stored = as_stored(self.c.left, self.target)
        value = substitute_scalar(stored, {self.row: self.at_row, term: at})
        value = select(inside, guarded(value, inside), 0)
        axes = (*self.lead, self.panel, self.steps, self.word, self.block, self.lane)
        return filled("rows", axes, value)

    def _box(self, store: Store) -> Callable[[Span], Patch]:
        """The sums of a span of columns by the rows of a panel."""
        (result,) = outer_reductions(store.value)
        block = Span(self.block, 0, known(self.block.extent) or 1)
        loops = (Taps(self.steps, 0, self.steps.extent),)
        put = Put(store.buffer, store.address, store.value)
        width: DimLike | None = self.rows - self.at_row + self.lane.dim
        if self.rows % self.lanes == 0:
            width = None

        def box(span: Span) -> Patch:
            return Patch(result, (span, block), self.lane, loops, (self.word,), put, width)

        return box


__all__ = ["FewColumns", "few_columns"]
