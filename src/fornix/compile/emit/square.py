"""The inner loop of contractions in tile registers (AMX): four of sums, two for either factor.

A register has up to 16 rows of 64 bytes. Of the left factor it holds 16 rows by 16 words of terms,
of the right one 16 words of terms by 16 columns, of the sums 16 rows by 16 columns. How many rows
registers have is set before they are used; after that sums lie on the stack, as those of tiles of
vectors do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit import tiles
from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import over
from fornix.compile.emit.memory import SECOND_CACHE, address, ask
from fornix.compile.nest import Patch, Tile
from fornix.compile.words import word_of
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Apply, Buffer, Load, Scalar, Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

Place = tuple[Atom, DimLike]
"""An axis, and a place along it."""
ROWS, ROW_BYTES = 16, 64
"""Of a register."""
WORD_BYTES = 4
SUMS, LEFT, RIGHT, END = 0, 4, 6, 8
"""The first register of each kind, and what follows the last."""
CONFIGURATION_BYTES, WIDTHS, HEIGHTS = 64, 16, 48
"""Of what sets registers up: its size, where bytes of rows stand, and where numbers of rows do.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG."""
PALETTE = 1


def tile(em: Emitter, t: Tile) -> None:
    """The rows of ``t``, two registers at a time, then one with up to 16 that are left."""
    set_up_once(em, ROWS)
    first, end, count = (em.dim(d) for d in t.rows)
    stack = em.stack(t.height * t.units * ROW_BYTES)
    depth = max(first.depth, end.depth, count.depth)
    here = em.put(depth, f"sub i64 {end.text}, {first.text}")
    left = em.put(depth, f"urem i64 {here}, {t.height}")
    middle = em.put(depth, f"sub i64 {end.text}, {left}")
    known = t.rows[2]

    def whole(i: str, _: list[str]) -> Sequence[str]:
        _block(em, t, (i, str(t.height)), stack, t.height // ROWS)
        return []

    def rest(i: str, _: list[str]) -> Sequence[str]:
        rows = em.put(em.top, f"sub i64 {end.text}, {i}")
        is_less = em.put(em.top, f"icmp slt i64 {rows}, {ROWS}")
        rows = em.put(em.top, f"select i1 {is_less}, i64 {rows}, i64 {ROWS}")
        setup = em.stack(CONFIGURATION_BYTES)
        _set_up(em, setup, rows)
        _block(em, t, (i, rows), stack, 1)
        _set_up(em, setup, str(ROWS))
        return []

    if not isinstance(known, int) or known >= t.height:
        em.loop(first.text, middle, t.height, [], whole, is_sure=False)
    if not isinstance(known, int) or known % t.height:
        em.loop(middle, end.text, ROWS, [], rest, is_sure=False)


def sums_of_patch(em: Emitter, p: Patch, ranges: Sequence[Sequence[Place]]) -> str:
    """A pointer to the sums of a box of an image, in the order of all combinations of ``ranges``.

    Registers are set up once in a kernel, whose boxes are alike.
    """
    if p.square is None or len(p.written) != 1:
        raise ValueError("a box in tile registers has rows along an axis, and words of terms")
    set_up_once(em, p.square[1])
    stack = em.stack(math.prod(map(len, ranges)) * em.lanes * WORD_BYTES)
    points, places, row_step = corners(p.square, ranges, em.lanes * WORD_BYTES)
    for k in range(len(points)):
        em.call(em.top, "void", "llvm.x86.tilezero", _register(SUMS + k))
    _add_boxes(em, p, points)
    for k, place in enumerate(places):
        where = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {place}")
        step = ("i64", str(row_step))
        em.call(em.top, "void", "llvm.x86.tilestored64", _register(SUMS + k), ("ptr", where), step)
    return stack


def corners(
    square: tuple[Variable, int], ranges: Sequence[Sequence[Place]], size: int
) -> tuple[list[dict[Atom, DimLike]], list[int], int]:
    """The first place of each register of a box, and where in memory its first row lies.

    Vectors of ``size`` bytes lie there in the order of all combinations of ``ranges``; also says
    how far the rows of a register lie apart. The last register of an axis begins earlier if it has
    to: it and the one before have rows in common.
    """
    axis, height = square
    steps = [math.prod(map(len, ranges[k + 1 :])) * size for k in range(len(ranges))]
    places_along = [
        [min(k, len(r) - height) for k in range(0, len(r), height)]
        if r[0][0] is axis
        else list(range(len(r)))
        for r in ranges
    ]
    firsts = [[r[k] for k in along] for r, along in zip(ranges, places_along, strict=True)]
    offsets = [[k * step for k in along] for along, step in zip(places_along, steps, strict=True)]
    points = [dict(pairs) for pairs in itertools.product(*firsts)]
    places = [sum(parts) for parts in itertools.product(*offsets)]
    row_step = next((s for r, s in zip(ranges, steps, strict=True) if r[0][0] is axis), size)
    return points, places, row_step


def _add_boxes(em: Emitter, p: Patch, points: Sequence[dict[Atom, DimLike]]) -> None:
    """The products of all steps of the sum; ``points`` are the first places of registers."""
    (word,) = p.written
    body = p.result.body
    a, b = body.args
    is_turned = p.column in a.variables
    image, weights = (b, a) if is_turned else (a, b)
    axis = None if p.square is None else p.square[0]
    function = _product(body, is_turned=is_turned)

    def turn(_: list[str]) -> Sequence[str]:
        for buffer, place in p.ahead:
            ask(em, buffer, place)
        found: dict[Scalar, int] = {}
        free = {LEFT: itertools.cycle(range(LEFT, RIGHT)), RIGHT: iter(range(RIGHT, END))}
        for k, point in enumerate(points):
            registers = [SUMS + k]
            for first, e, along in ((LEFT, image, axis), (RIGHT, weights, word)):
                at = em.moved(e, {**point, word: 0})
                if at not in found:
                    found[at] = next(free[first])
                    fill(em, found[at], e, along, point | {word: 0, p.column: 0})
                registers.append(found[at])
            em.call(em.top, "void", function, *map(_register, registers))
        return []

    over(em, p.loops, [], turn)


def set_up_once(em: Emitter, height: int) -> None:
    """Registers of ``height`` rows, from the beginning of the kernel to its end."""
    key = ("registers", height)
    if em.find(key) is not None:
        return
    with em.at(0):
        setup = em.stack(CONFIGURATION_BYTES)
        _set_up(em, setup, str(height))
        em.remember(key, Value(setup, False, 0))
        em.declarations.add("declare void @llvm.x86.tilerelease()")
    em.ending.append("  call void @llvm.x86.tilerelease()")


def _set_up(em: Emitter, place: str, rows: str) -> None:
    """Registers of sums and of the left factor with ``rows`` rows, the others with all."""
    values = [0] * CONFIGURATION_BYTES
    values[0] = PALETTE
    is_known = not rows.startswith("%")
    for register in range(END):
        values[WIDTHS + 2 * register] = ROW_BYTES
        values[HEIGHTS + register] = int(rows) if is_known and register < RIGHT else ROWS
    kind = f"<{CONFIGURATION_BYTES} x i8>"
    em.do(f"store {kind} <{', '.join(f'i8 {v}' for v in values)}>, ptr {place}, align 1")
    if not is_known:
        byte = em.put(em.top, f"trunc i64 {rows} to i8")
        for register in range(RIGHT):
            where = em.put(em.top, f"getelementptr i8, ptr {place}, i64 {HEIGHTS + register}")
            em.do(f"store i8 {byte}, ptr {where}")
    em.call(em.top, "void", "llvm.x86.ldtilecfg", ("ptr", place))


def _block(em: Emitter, t: Tile, rows: tuple[str, str], stack: str, high: int) -> None:
    """The rows from one on, so many, in ``high`` registers: sums, then what is done with them."""
    first, count = rows
    block = Variable("m", t.rows[2])
    em.places[block] = Value(first, False, em.top)
    with em.along(t.column, range(t.units)):
        em.places[t.column] = Value("0", False, 0)
        width = em.dim(t.width)
        sums = [(h, u) for h in range(high) for u in range(t.units)]
        for h, u in sums:
            em.call(em.top, "void", "llvm.x86.tilezero", _register(SUMS + h * 2 + u))
        _add_products(em, t, block, high)
        for h, u in sums:
            offset = h * ROWS * t.units * ROW_BYTES + u * ROW_BYTES
            where = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
            step = ("i64", str(t.units * ROW_BYTES))
            register = _register(SUMS + h * 2 + u)
            em.call(em.top, "void", "llvm.x86.tilestored64", register, ("ptr", where), step)
        if t.width != t.units * em.lanes:
            em.masks = {u: em.first_lanes(width, u) for u in em.units}
        tiles.rows_from(em, t, block, stack, count)


def _add_products(em: Emitter, t: Tile, block: Variable, high: int) -> None:
    """Step by step along the sum: registers of both factors, and their products."""
    body, (step, word) = t.result.body, t.result.axes
    a, b = body.args
    is_turned = t.column in a.variables
    left, right = (b, a) if is_turned else (a, b)
    function = _product(body, is_turned=is_turned)

    ahead = tiles.next_panel(t, block, high * ROWS)

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[step] = Value(i, False, em.top)
        for line in ahead:
            ask(em, *line, by=SECOND_CACHE)
        for u in range(t.units):
            fill(em, RIGHT + u, right, word, {word: 0, t.column: u * em.lanes})
        for h in range(high):
            at: dict[Atom, DimLike] = {word: 0}
            if t.row is not None:
                at[t.row] = block.dim + h * ROWS
            fill(em, LEFT + h, left, t.row, at)
            for u in range(t.units):
                registers = map(_register, (SUMS + h * 2 + u, LEFT + h, RIGHT + u))
                em.call(em.top, "void", function, *registers)
        return []

    em.loop("0", em.dim(step.extent).text, 1, [], turn, is_sure=True)


def _product(body: Scalar, *, is_turned: bool) -> str:
    """The instruction that adds products of a left and a right register."""
    if isinstance(body, Apply) and body.op == "dot2":
        return "llvm.x86.tdpbf16ps"
    return "llvm.x86.tdpbsud" if is_turned else "llvm.x86.tdpbusd"


def fill(
    em: Emitter,
    register: int,
    e: Scalar,
    along: Variable | None,
    at: dict[Atom, DimLike],
    more: int = 0,
) -> None:
    """Fill a register with what ``e`` is ``at`` a place and the rows ``along`` an axis behind.

    All of it is read ``more`` words further on.
    """
    if along is None:
        raise TypeError(f"a tile register has rows along an axis, found {e}")
    buffer, place = _place(em, e)
    step = substitute(place, {along: along.dim + 1}, {}) - place
    where = address(em, buffer, substitute(place, at, {}), more)
    size = ("i64", em.dim(step * WORD_BYTES).text)
    em.call(em.top, "void", "llvm.x86.tileloadd64", _register(register), ("ptr", where.text), size)


def _place(em: Emitter, e: Scalar) -> tuple[Buffer, DimLike]:
    """Where the word ``e`` lies."""
    if isinstance(e, Load) and e.guard is None:
        return e.buffer, e.address
    word = word_of(e)
    if word is None or word.guard is not None:
        raise TypeError(f"a tile register is filled from memory, found {e}")
    return em.words(word.buffer), word.place


def _register(number: int) -> tuple[str, str]:
    return "i8", str(number)


def registers(*numbers: int) -> list[tuple[str, str]]:
    """Registers, as operands."""
    return [_register(number) for number in numbers]


__all__ = [
    "LEFT", "RIGHT", "ROWS", "ROW_BYTES", "SUMS", "corners", "fill", "registers", "set_up_once",
    "sums_of_patch", "tile",
]  # fmt: skip
