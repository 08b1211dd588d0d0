"""The inner loop of float32 products in tile registers (AMX): of both factors all three parts.

A step multiplies 32 terms: 16 words, each of which holds a term and the one 16 behind it. Sums that
are not finite are computed anew, from the factors themselves; see `compile.parts`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from fornix.compile.emit import square, tiles
from fornix.compile.emit.builder import Body, Value
from fornix.compile.emit.memory import address, ask, store
from fornix.compile.emit.types import suffix
from fornix.compile.nest import Line, Parts, Put, Tile
from fornix.compile.parts import PARTS, products_of
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, exact_quotient, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Scalar, Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

HEIGHT = 32
"""Rows of two registers."""
AT_ONCE = 4
"""Rows of sums that are looked at in a turn: an addition waits for the one before."""
Factor: TypeAlias = "Callable[[int, int], None]"
"""Writes what loads a part of a factor into a register."""


def part_products(
    em: Emitter,
    lefts: Sequence[Factor],
    rights: Sequence[Factor],
    between: Sequence[Callable[[], None]] = (),
    counts: tuple[int, int] = (len(PARTS), len(PARTS)),
) -> None:
    """Add the products of up to two left factors and up to two right ones.

    Each has three parts, or as many as ``counts`` say of the left ones and the right ones.

    Those of left factor h and right factor u go to register ``SUMS + 2 * h + u``. What is done
    ``between`` them takes no time of its own: the processor's vectors work as its tiles do.
    """
    held: dict[int, int] = {}
    pairs = list(itertools.product(range(len(lefts)), range(len(rights))))
    all_parts = products_of(*counts)
    waiting, share = list(between), len(between) / (len(all_parts) * len(pairs))

    def hold(first: int, factors: Sequence[Factor], part: int) -> None:
        if held.get(first) != part:
            held[first] = part
            for k, factor in enumerate(factors):
                factor(part, first + k)

    done = 0.0
    for left, right in all_parts:
        hold(square.LEFT, lefts, left)
        hold(square.RIGHT, rights, right)
        for h, u in pairs:
            three = square.registers(square.SUMS + 2 * h + u, square.LEFT + h, square.RIGHT + u)
            em.call(em.top, "void", "llvm.x86.tdpbf16ps", *three)
            done += share
            while waiting and len(between) - len(waiting) < done:
                waiting.pop(0)()


def products(em: Emitter, p: Parts) -> None:
    """Products of all rows, two registers at a time, then one with up to 16 that are left.

    Registers of rows that do not exist are filled and stored like others.
    """
    square.set_up_once(em, square.ROWS)
    first, end = (em.dim(d) for d in p.rows)
    depth = max(first.depth, end.depth)
    here = em.put(depth, f"sub i64 {end.text}, {first.text}")
    left = em.put(depth, f"urem i64 {here}, {HEIGHT}")
    most = square.ROWS if p.made else HEIGHT  # more rows are a pair where sums of one have room
    is_one = em.put(depth, f"icmp sle i64 {left}, {most}")
    left = em.put(depth, f"select i1 {is_one}, i64 {left}, i64 0")
    middle = em.put(depth, f"sub i64 {end.text}, {left}")
    has_pair = em.put(depth, f"icmp slt i64 {first.text}, {middle}")
    size = em.put(depth, f"select i1 {has_pair}, i64 {HEIGHT if p.made else 0}, i64 0")
    second = em.put(depth, f"add i64 {first.text}, {size}")
    last = em.put(depth, f"select i1 {has_pair}, i64 {middle}, i64 {end.text}")
    if p.made:
        _make_first_step(em, p)

    def rows(high: int, *, is_first: bool = False) -> Body:
        def turn(i: str, _: list[str]) -> Sequence[str]:
            _add_products(em, p, i, high, is_first=is_first)
            return []

        return turn

    em.loop(first.text, second, HEIGHT, [], rows(2, is_first=True), is_sure=False)
    em.loop(second, middle, HEIGHT, [], rows(2), is_sure=False)
    if p.made:
        em.loop(middle, last, square.ROWS, [], rows(1, is_first=True), is_sure=False)
    em.loop(last if p.made else middle, end.text, square.ROWS, [], rows(1), is_sure=False)


def _make_first_step(em: Emitter, p: Parts) -> None:
    """The first step of the right factor; the first rows make the others."""

    def word(i: str, _: list[str]) -> Sequence[str]:
        em.places[p.word] = Value(i, False, em.top)
        with em.along(p.column, range(p.units)):
            em.places[p.column] = Value("0", False, 0)
            for put in p.made:
                for u in em.units:
                    store(em, put, u)
        return []

    def step(i: str, _: list[str]) -> Sequence[str]:
        em.places[p.step] = Value(i, False, em.top)
        em.loop("0", str(square.ROWS), 1, [], word, is_sure=True)
        return []

    em.loop("0", em.dim(minimum(p.step.extent, 1)).text, 1, [], step, is_sure=False)


def _makers(em: Emitter, p: Parts) -> list[Callable[[], None]]:
    """What makes the words of the step behind this one; behind the last one, its own again."""
    following = minimum(p.step.dim + 1, p.step.extent - 1)

    def maker(w: int, u: int) -> Callable[[], None]:
        at: dict[Atom, DimLike] = {p.step: following, p.word: w}

        def make() -> None:
            with em.along(p.column, (u,)):
                em.places[p.column] = Value("0", False, 0)
                for put in p.made:
                    value = em.moved(put.value, at)
                    store(em, Put(put.buffer, substitute(put.address, at, {}), value), u)

        return make

    return [maker(w, u) for w in range(square.ROWS) for u in range(p.units)]


def _add_products(em: Emitter, p: Parts, row: str, high: int, *, is_first: bool) -> None:
    """The products of the rows from one on, in ``high`` registers."""
    number = em.put(em.top, f"udiv i64 {row}, {square.ROWS}")
    em.places[p.tile] = Value(number, False, em.top)
    buffer, place = p.sums
    base = address(em, buffer, place)
    offset = em.put(em.top, f"sub i64 {row}, {em.dim(p.rows[0]).text}")
    offset = em.put(em.top, f"mul i64 {offset}, {p.units * square.ROW_BYTES}")
    where = em.put(em.top, f"getelementptr i8, ptr {base.text}, i64 {offset}")
    steps = em.dim(p.step.extent).text
    if p.blocks is None:
        _sum_steps(em, p, where, ("0", steps), high, is_first=is_first)
        return
    index, scale = p.blocks
    stack = em.stack(high * square.ROWS * p.units * square.ROW_BYTES)
    each = exact_quotient(p.step.extent, index.extent)

    def block(i: str, _: list[str]) -> Sequence[str]:
        em.places[index] = Value(i, False, em.top)
        low = em.put(em.top, f"mul i64 {i}, {each}")
        end = em.put(em.top, f"add i64 {low}, {each}")
        _sum_steps(em, p, stack, (low, end), high, is_first=is_first)
        _add_scaled(em, p, scale, (stack, where), (row, high))
        return []

    em.loop("0", em.dim(index.extent).text, 1, [], block, is_sure=True)


def _add_scaled(
    em: Emitter, p: Parts, scale: Scalar, memory: tuple[str, str], rows: tuple[str, int]
) -> None:
    """Add the sums of a block, in ``memory`` first, times its ``scale`` to the others there."""
    kind = em.type(FLOAT32, is_vector=True)
    rest = em.put(em.top, f"sub i64 {em.dim(p.rows[1]).text}, {rows[0]}")
    most = str(rows[1] * square.ROWS)
    count = em.call(em.top, "i64", "llvm.smin.i64", ("i64", rest), ("i64", most))
    with em.along(p.column, range(p.units)):
        em.places[p.column] = Value("0", False, 0)
        scales = [em.splat(em.value(scale, u), FLOAT32) for u in em.units]

    def turn(i: str, _: list[str]) -> Sequence[str]:
        for u, factor in enumerate(scales):
            places = [_vector_at(em, base, i, u, p.units) for base in memory]
            texts = [
                em.put(em.top, f"load {kind}, ptr {x}, align {square.ROW_BYTES}") for x in places
            ]
            given = [(kind, x) for x in (texts[0], factor, texts[1])]
            total = em.call(em.top, kind, f"llvm.fma.{suffix(kind)}", *given)
            em.do(f"store {kind} {total}, ptr {places[1]}, align {square.ROW_BYTES}")
        return []

    em.loop("0", count, 1, [], turn, is_sure=True)


def _sum_steps(
    em: Emitter, p: Parts, memory: str, steps: tuple[str, str], high: int, *, is_first: bool
) -> None:
    """The products of some ``steps``, added in ``memory``, or written there if they are fresh."""
    step = ("i64", str(p.units * square.ROW_BYTES))
    sums = []
    for h, u in itertools.product(range(high), range(p.units)):
        more = (h * square.ROWS * p.units + u) * square.ROW_BYTES
        where = em.put(em.top, f"getelementptr i8, ptr {memory}, i64 {more}")
        (register,) = square.registers(square.SUMS + 2 * h + u)
        sums.append((register, ("ptr", where), step))
        if p.fresh or p.blocks is not None:
            em.call(em.top, "void", "llvm.x86.tilezero", register)
        else:
            em.call(em.top, "void", "llvm.x86.tileloadd64", *sums[-1])
    _add_steps(em, p, steps, high, is_first=is_first)
    for operands in sums:
        em.call(em.top, "void", "llvm.x86.tilestored64", *operands)


def _add_steps(em: Emitter, p: Parts, steps: tuple[str, str], high: int, *, is_first: bool) -> None:
    """Step by step along the sum."""

    def left(h: int) -> Factor:
        at: dict[Atom, DimLike] = {p.tile: p.tile.dim + h, p.row: 0, p.word: 0}
        return lambda part, register: square.fill(em, register, p.left[part], p.row, at)

    def right(u: int) -> Factor:
        at: dict[Atom, DimLike] = {p.word: 0, p.column: u * em.lanes}
        return lambda part, register: square.fill(em, register, p.right[part], p.word, at)

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[p.step] = Value(i, False, em.top)
        for line in p.ahead if high > 1 else ():
            ask(em, *line)
        factors = [left(h) for h in range(high)], [right(u) for u in range(p.units)]
        makers = _makers(em, p) if is_first else ()
        part_products(em, *factors, makers, (len(p.left), len(p.right)))
        return []

    em.loop(*steps, 1, [], turn, is_sure=False)


def finish(em: Emitter, t: Tile, found: Line) -> None:
    """What is done with the sums of ``t`` that were ``found``: nothing if they stay there."""
    first, end, _ = (em.dim(d) for d in t.rows)
    buffer, place = found

    def turn(i: str, _: list[str]) -> Sequence[str]:
        rows = em.put(em.top, f"sub i64 {end.text}, {i}")
        is_less = em.put(em.top, f"icmp slt i64 {rows}, {t.height}")
        rows = em.put(em.top, f"select i1 {is_less}, i64 {rows}, i64 {t.height}")
        block = Variable("m", t.rows[2])
        em.places[block] = Value(i, False, em.top)
        offset = em.put(em.top, f"sub i64 {i}, {first.text}")
        offset = em.put(em.top, f"mul i64 {offset}, {t.units * square.ROW_BYTES}")
        base = address(em, buffer, place)
        where = em.put(em.top, f"getelementptr i8, ptr {base.text}, i64 {offset}")
        with em.along(t.column, range(t.units)):
            em.places[t.column] = Value("0", False, 0)
            width = em.dim(t.width)
            _compute_anew(em, t, block, where, rows)
            if t.width != t.units * em.lanes:
                em.masks = {u: em.first_lanes(width, u) for u in em.units}
            if t.put.buffer is not buffer:
                tiles.rows_from(em, t, block, where, rows)
        return []

    em.loop(first.text, end.text, t.height, [], turn, is_sure=False)


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

    def turns_of(count: int) -> Callable[[str, list[str]], Sequence[str]]:
        def turn(i: str, totals: list[str]) -> Sequence[str]:
            found = []
            for k, total in enumerate(totals[: count * units]):
                where = _vector_at(em, stack, i, k, units)
                text = em.put(em.top, f"load {kind}, ptr {where}, align {square.ROW_BYTES}")
                given = [(kind, x) for x in (text, "zeroinitializer", total)]
                found.append(em.call(em.top, kind, f"llvm.fma.{suffix(kind)}", *given))
            return [*found, *totals[len(found) :]]

        return turn

    middle = em.put(em.top, f"and i64 {count}, {-AT_ONCE}")
    given = [(kind, "zeroinitializer")] * (AT_ONCE * units)
    totals = em.loop("0", middle, AT_ONCE, given, turns_of(AT_ONCE), is_sure=False)
    given = [(kind, total) for total in totals]
    totals = em.loop(middle, count, 1, given, turns_of(1), is_sure=False)
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


__all__ = ["Factor", "any_not_finite", "finish", "part_products", "products"]
