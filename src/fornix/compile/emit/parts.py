"""The inner loop of float32 products in tile registers (AMX): of both factors all three parts.

A step multiplies 32 terms: 16 words, each of which holds a term and the one 16 behind it. Sums that
are not finite are computed anew, from the factors themselves; see `compile.parts`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from fornix.compile.emit import square, tiles
from fornix.compile.emit.builder import Value
from fornix.compile.nest import Parts, Tile
from fornix.compile.parts import PRODUCTS
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

Factor: TypeAlias = "Callable[[int, int], None]"
"""Writes what loads a part of a factor into a register."""


def six_products(em: Emitter, lefts: Sequence[Factor], rights: Sequence[Factor]) -> None:
    """Add the products of up to two left factors and up to two right ones.

    Those of left factor h and right factor u go to register ``SUMS + 2 * h + u``.
    """
    held: dict[int, int] = {}

    def hold(first: int, factors: Sequence[Factor], part: int) -> None:
        if held.get(first) != part:
            held[first] = part
            for k, factor in enumerate(factors):
                factor(part, first + k)

    for left, right in PRODUCTS:
        hold(square.LEFT, lefts, left)
        hold(square.RIGHT, rights, right)
        for h, u in itertools.product(range(len(lefts)), range(len(rights))):
            three = square.registers(square.SUMS + 2 * h + u, square.LEFT + h, square.RIGHT + u)
            em.call(em.top, "void", "llvm.x86.tdpbf16ps", *three)


def tile(em: Emitter, t: Tile, p: Parts) -> None:
    """The rows of ``t``, two registers at a time, then one with up to 16 that are left."""
    square.set_up_once(em, square.ROWS)
    first, end, _ = (em.dim(d) for d in t.rows)
    depth = max(first.depth, end.depth)
    here = em.put(depth, f"sub i64 {end.text}, {first.text}")
    left = em.put(depth, f"urem i64 {here}, {t.height}")
    middle = em.put(depth, f"sub i64 {end.text}, {left}")
    stack = em.stack(t.height * t.units * square.ROW_BYTES)
    known = t.rows[2]

    def whole(i: str, _: list[str]) -> Sequence[str]:
        _block(em, t, p, (i, str(t.height)), stack)
        return []

    def rest(i: str, _: list[str]) -> Sequence[str]:
        rows = em.put(em.top, f"sub i64 {end.text}, {i}")
        is_less = em.put(em.top, f"icmp slt i64 {rows}, {square.ROWS}")
        rows = em.put(em.top, f"select i1 {is_less}, i64 {rows}, i64 {square.ROWS}")
        _block(em, t, p, (i, rows), stack)
        return []

    if not isinstance(known, int) or known >= t.height:
        em.loop(first.text, middle, t.height, [], whole, is_sure=False)
    if not isinstance(known, int) or known % t.height:
        em.loop(middle, end.text, square.ROWS, [], rest, is_sure=False)


def _block(em: Emitter, t: Tile, p: Parts, rows: tuple[str, str], stack: str) -> None:
    """The rows from one on, so many: sums, then what is done with them."""
    first, count = rows
    high = t.height // square.ROWS if count == str(t.height) else 1
    block = Variable("m", t.rows[2])
    em.places[block] = Value(first, False, em.top)
    number = em.put(em.top, f"udiv i64 {first}, {square.ROWS}")
    em.places[p.tile] = Value(number, False, em.top)
    with em.along(t.column, range(t.units)):
        em.places[t.column] = Value("0", False, 0)
        width = em.dim(t.width)
        sums = list(itertools.product(range(high), range(t.units)))
        for h, u in sums:
            em.call(em.top, "void", "llvm.x86.tilezero", *square.registers(square.SUMS + 2 * h + u))
        _add_products(em, t, p, high)
        for h, u in sums:
            offset = h * square.ROWS * t.units * square.ROW_BYTES + u * square.ROW_BYTES
            where = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
            (register,) = square.registers(square.SUMS + 2 * h + u)
            step = ("i64", str(t.units * square.ROW_BYTES))
            em.call(em.top, "void", "llvm.x86.tilestored64", register, ("ptr", where), step)
        _compute_anew(em, t, block, stack, count)
        if t.width != t.units * em.lanes:
            em.masks = {u: em.first_lanes(width, u) for u in em.units}
        tiles.rows_from(em, t, block, stack, count)


def _add_products(em: Emitter, t: Tile, p: Parts, high: int) -> None:
    """Step by step along the sum."""

    def left(h: int) -> Factor:
        at: dict[Atom, DimLike] = {p.tile: p.tile.dim + h, p.row: 0, p.word: 0}
        return lambda part, register: square.fill(em, register, p.left[part], p.row, at)

    def right(u: int) -> Factor:
        at: dict[Atom, DimLike] = {p.word: 0, p.column: u * em.lanes}
        return lambda part, register: square.fill(em, register, p.right[part], p.word, at)

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[p.step] = Value(i, False, em.top)
        six_products(em, [left(h) for h in range(high)], [right(u) for u in range(t.units)])
        return []

    em.loop("0", em.dim(p.step.extent).text, 1, [], turn, is_sure=False)


def _compute_anew(em: Emitter, t: Tile, block: Variable, stack: str, count: str) -> None:
    """Sum the products of float32s, row by row, if any sum at ``stack`` is not finite."""
    kind = em.type(FLOAT32, is_vector=True)
    is_wrong = any_not_finite(em, stack, count, t.units)
    turns = em.put(em.top, f"select i1 {is_wrong}, i64 {count}, i64 0")
    base = em.places[block].text

    def turn(i: str, _: list[str]) -> Sequence[str]:
        row = Variable("m", t.rows[2])
        em.places[row] = Value(em.put(em.top, f"add i64 {base}, {i}"), False, em.top)
        (sums,) = tiles.sums(em, t, row, 1)
        for u, text in enumerate(sums):
            where = _vector_at(em, stack, i, u, t.units)
            em.do(f"store {kind} {text}, ptr {where}, align {square.ROW_BYTES}")
        return []

    em.loop("0", turns, 1, [], turn, is_sure=False)


def any_not_finite(em: Emitter, stack: str, count: str, units: int) -> str:
    """Whether any of ``count`` rows of sums at ``stack``, each of ``units`` vectors, is not finite.

    Of such numbers alone 0 times the number is NaN.
    """
    kind = em.type(FLOAT32, is_vector=True)

    def turn(i: str, totals: list[str]) -> Sequence[str]:
        found = []
        for u, total in enumerate(totals):
            where = _vector_at(em, stack, i, u, units)
            text = em.put(em.top, f"load {kind}, ptr {where}, align {square.ROW_BYTES}")
            nothing = em.put(em.top, f"fmul {kind} {text}, zeroinitializer")
            found.append(em.put(em.top, f"fadd {kind} {total}, {nothing}"))
        return found

    given = [(kind, "zeroinitializer")] * units
    totals = em.loop("0", count, 1, given, turn, is_sure=True)
    while len(totals) > 1:
        totals = [em.put(em.top, f"fadd {kind} {totals[0]}, {totals[1]}"), *totals[2:]]
    lanes = em.put(em.top, f"fcmp uno {kind} {totals[0]}, {totals[0]}")
    return em.call(
        em.top, "i1", f"llvm.vector.reduce.or.v{em.lanes}i1", (f"<{em.lanes} x i1>", lanes)
    )


def _vector_at(em: Emitter, stack: str, row: str, unit: int, units: int) -> str:
    """Where a vector of the sums of a row lies."""
    offset = em.put(em.top, f"mul i64 {row}, {units * square.ROW_BYTES}")
    where = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
    return em.put(em.top, f"getelementptr i8, ptr {where}, i64 {unit * square.ROW_BYTES}")


__all__ = ["Factor", "any_not_finite", "six_products", "tile"]
