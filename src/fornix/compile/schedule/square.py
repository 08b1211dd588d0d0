"""Contractions in tile registers (AMX): 16 rows by 64 bytes of terms, by 16 columns, at once.

Decides which products of bytes, and of bfloat16s, are computed so. Both factors are words; the sum
is cut into steps of as many words as a tile register has in a row. Left rows whose terms do not
fill whole steps are copied with zeros behind them, and so is the right factor as it is packed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.compile.axes import rewritten
from fornix.compile.cost import likely, stride_of
from fornix.compile.nest import Nest
from fornix.compile.schedule.contraction import (
    SQUARE_ROWS,
    Contraction,
    axes_of_left,
    contraction,
    is_plain,
    is_worth_packing,
    nest_of_tiles,
)
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.compile.words import place_of
from fornix.ir.loops import (
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

FEATURES = {"dot4": "amx-int8", "dot2": "amx-bf16"}
"""The instructions that multiply tiles, by products."""
WORDS = 16
"""Of a row of a tile register, and its rows."""
SHAPE = 2 * WORDS, 2
"""Rows and vectors of a tile: four registers of sums, two for either factor."""
LEAST_WORDS = 32
"""Words of terms from which on the way of sums through memory costs less than tiles gain."""


def square_nests(
    c: Contraction, target: Target, lanes: int
) -> tuple[Sequence[Store], Store, Nest] | None:
    """Stores that have to be computed first, the rest of the work, and its nest.

    None if it is not done in tile registers.
    """
    if not _is_for(c, target, lanes):
        return None
    first, padded = _in_whole_steps(c)
    if padded is None or padded.row is None:
        return None
    height, vectors = SHAPE
    panel = Variable("p", -(-padded.column.extent // (vectors * lanes)))
    column = Variable("j", vectors * lanes)
    step, word = Variable("t", padded.sum.axes[0].extent // WORDS), Variable("s", WORDS)
    (k,) = padded.sum.axes
    at = step.dim * WORDS + word.dim
    packed, right = _packed(padded, (panel, step, word, column))
    left = substitute_scalar(padded.left, {k: at})
    whole = reduction("sum", (step, word), padded.product.of(left, right))
    if not isinstance(whole, Reduce):
        return None
    store = padded.store
    value = replace(store.value, {padded.sum: whole})
    store = rewritten(
        Store(store.buffer, store.axes, store.address, value),
        [*padded.outer, panel, padded.row, column],
        {padded.column: panel.dim * column.extent + column.dim},
    )
    shape = height, vectors, lanes
    nest = nest_of_tiles(
        padded, target, store, (panel, column), shape, is_packed=True, is_square=True
    )
    return [*first, packed], store, nest


def _is_for(c: Contraction, target: Target, lanes: int) -> bool:
    if c.product.op not in FEATURES or not target.has(FEATURES[c.product.op]):
        return False
    if lanes != WORDS or c.row is None or not is_worth_packing(c):
        return False
    (k,) = c.sum.axes
    if not isinstance(k.extent, int) or k.extent < LEAST_WORDS:
        return False
    return likely(c.row.extent) >= SQUARE_ROWS


def _in_whole_steps(c: Contraction) -> tuple[list[Store], Contraction | None]:
    """``c`` with its left factor in memory and terms for whole steps, and what is copied for it."""
    (k,) = c.sum.axes
    if k.extent % WORDS == 0 and is_plain(c) and _lies_in_rows(c):
        return [], c
    terms = Variable("k", -(-k.extent // WORDS) * WORDS)
    axes = [*axes_of_left(c)[:-1], terms]
    copy = filled("left", axes, up_to(c.left, k, terms))
    left = load(copy.buffer, copy.buffer.address(tuple(a.dim for a in axes)))
    product = c.product.of(left, up_to(c.right, k, terms))
    value = replace(c.store.value, {c.sum: reduction("sum", (terms,), product)})
    store = normal(Store(c.store.buffer, c.store.axes, c.store.address, value))
    return [copy], contraction(store)


def _lies_in_rows(c: Contraction) -> bool:
    """Whether the words of a left row lie side by side."""
    place = place_of(c.left)
    return place is not None and stride_of(place, c.sum.axes[0]) == 1


def up_to(e: Scalar, k: Variable, longer: Variable) -> Scalar:
    """``e`` at ``longer`` instead of ``k``, 0 behind its last one."""
    inside = apply("lt", index(longer.dim), index(k.extent))
    return select(inside, guarded(substitute_scalar(e, {k: longer.dim}), inside), 0)


def _packed(
    c: Contraction, places: tuple[Variable, Variable, Variable, Variable]
) -> tuple[Store, Scalar]:
    """The right factor in panels, step by step, 0 where columns end; and what the sum reads."""
    panel, step, word, column = places
    (k,) = c.sum.axes
    which = panel.dim * column.extent + column.dim
    inside = apply("lt", index(which), index(c.column.extent))
    value = substitute_scalar(c.right, {c.column: which, k: step.dim * WORDS + word.dim})
    batch = [a for a in c.outer if a in c.right.variables]
    axes = (*batch, *places)
    store = filled("packed", axes, select(inside, guarded(value, inside), 0))
    return store, load(store.buffer, store.buffer.address(tuple(a.dim for a in axes)))


__all__ = ["square_nests", "up_to"]
