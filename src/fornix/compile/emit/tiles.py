"""The inner loop of contractions: accumulators for a tile of the result, all in registers.

Per term one row of vectors of the right operand is loaded, and one element of the left operand per
row of the tile is multiplied with each of them. What is done with the sums stands in a small loop
over the rows, through memory on the stack, unless it is next to nothing: written out for every
element it would triple the code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fornix.compile.cost import outer_reductions
from fornix.compile.emit import parts, square
from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import add_product, nest, start, step, surely_runs
from fornix.compile.emit.instructions import binary
from fornix.compile.emit.memory import SECOND_CACHE, ask
from fornix.compile.emit.packed import store_all
from fornix.compile.emit.types import size_of
from fornix.compile.narrow import unwidened
from fornix.compile.nest import Line, Put, Tile
from fornix.compile.reductions import field_axes, points
from fornix.compile.target import LINE_BYTES
from fornix.dtype import DType
from fornix.ir.dim import DimLike, known, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Buffer, Load, Reduce, Scalar, Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

WRITTEN_OUT = 9
"""Taps that are written out in the inner loop, such as those of a 3×3 filter."""
ROWS_AHEAD, LEAST_ROWS = 8, 64
"""Rows of the right operand that are asked for before a tile needs them; and from how many on,
where the left one has several."""
BYTES_AHEAD, HALF_AHEAD = 1536, 1024
"""Bytes of a panel that are asked for before a tile needs them, and of each half of one; memory
answers in so many steps. What lies a page ahead, or a number of pages, comes a seventh slower."""
HALVED = 128
"""Terms from which on few rows read the halves of a panel side by side. A processor fetches ahead
in each of them: 500 MB of weights of large pages by one row take 32 ms for 34."""
AT_ONCE = 4
"""Terms that a turn of the inner loop writes out: addresses and counting, which take their share of
the ports of multipliers, serve all of them."""
FEW = 8
"""Accumulators below which a multiplication waits for the one before: 4 cycles, 2 in each."""
INLINE_NODES = 4
"""Nodes around the sum that are written out for every element of the tile."""


def tile(em: Emitter, t: Tile) -> None:
    """The rows of ``t``, ``height`` at a time, then those that are left."""
    if t.is_square:
        square.tile(em, t)
        return
    if t.found is not None:
        parts.finish(em, t, t.found)
        return
    if t.row is None:
        _block(em, t, None, 1)
        return
    first, end, count = (em.dim(d) for d in t.rows)
    if isinstance(t.rows[2], int):
        rest = t.rows[2] % t.height
        middle = em.dim(minimum(t.rows[1], t.rows[2] - rest))
        _blocks(em, t, (first, middle), t.height)
        if rest:
            _blocks(em, t, (middle, end), rest)
        return
    depth = max(first.depth, end.depth, count.depth)
    half = _half(t)
    for height in (t.height, half) if half else (t.height,):
        here = em.put(depth, f"sub i64 {end.text}, {first.text}")
        left = em.put(depth, f"urem i64 {here}, {height}")
        middle = Value(em.put(depth, f"sub i64 {end.text}, {left}"), False, depth)
        _blocks(em, t, (first, middle), height)
        first = middle
    for height in range(1, half or t.height):
        is_it = em.put(depth, f"icmp eq i64 {left}, {height}")
        text = em.put(depth, f"select i1 {is_it}, i64 {middle.text}, i64 {end.text}")
        _blocks(em, t, (Value(text, False, depth), end), height)


def _half(t: Tile) -> int:
    """The height of tiles of half as many rows, which more rows that are left are cut into.

    Their code is a third of that of tiles of all heights up to the whole one, and they take as long
    as long as they have accumulators enough; where they have not, 0.
    """
    half = -(-t.height // 2)
    return half if half * t.units >= FEW else 0


def _blocks(em: Emitter, t: Tile, bounds: tuple[Value, Value], height: int) -> None:
    """Blocks of ``height`` rows from one bound to the other."""
    low, high = bounds
    block = Variable("m", t.rows[2] - (height - 1))  # with the bounds that proofs may use

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[block] = Value(i, False, em.top)
        _block(em, t, block, height)
        return []

    em.loop(low.text, high.text, height, [], turn, is_sure=False)


def _block(em: Emitter, t: Tile, block: Variable | None, height: int) -> None:
    """One tile: the sums, then what is done with them."""
    partial = not _is_whole(em, t)
    masks = {}
    width = em.dim(t.width)
    with em.along(t.column, range(t.units)):
        em.places[t.column] = Value("0", False, 0)
        if partial:
            masks = {u: em.first_lanes(width, u) for u in em.units}
        em.masks = {} if t.is_padded else masks
        found = sums(em, t, block, height)
        em.masks = masks
        if t.put.value.size - t.result.size <= INLINE_NODES:
            _write_out(em, t, block, found)
        else:
            _write_rows(em, t, block, found)


def _is_whole(em: Emitter, t: Tile) -> bool:
    return t.width == t.units * em.lanes


def _row_place(block: Variable | None, row: int) -> DimLike:
    return row if block is None else block.dim + row


def sums(em: Emitter, t: Tile, block: Variable | None, height: int) -> list[list[str]]:
    """The accumulators, row by row."""
    body = t.result.body
    inner = outer_reductions(body)
    if inner:
        return _block_sums(em, t, block, height, inner[0])
    left, right = body.args
    is_turned = t.column in left.variables
    if is_turned:
        left, right = right, left
    dtype = t.result.dtype
    kind = em.type(dtype, is_vector=True)
    lefts = [left]
    if t.row is not None:
        lefts = [em.moved(left, {t.row: _row_place(block, r)}) for r in range(height)]
    axes, inside = _inner_axes(t)
    at_once = AT_ONCE if 1 < height == t.height else 1
    halves = [] if em.target.is_strict else _halves(t, height)
    turns = halves or _turns(axes[-1], inside, at_once)
    own = height * t.units
    ways = min(len(points(inside)), -(-FEW // (t.height * t.units)))
    carried = [(kind, start("sum", dtype, is_vector=True))] * (own * ways)
    before = HALF_AHEAD if halves else BYTES_AHEAD
    beside = _is_asked_for(em, t, right, height), next_panel(t, block, height), before

    def term(totals: list[str], number: int, at: Mapping[Atom, DimLike]) -> list[str]:
        first = number % ways * own
        _ask_before(em, t, beside, number, at)
        b = [em.value(em.moved(right, at), u) for u in em.units]
        for r, e in enumerate(lefts):
            a = em.value(em.moved(e, at))
            for u in em.units:
                place = first + r * t.units + u
                total = Value(totals[place], True, em.top)
                factors = (b[u], a) if is_turned else (a, b[u])
                totals[place] = add_product(em, body, factors, total).text
        return totals

    results = _together(em, _loops(em, axes, carried, turns, term), own, dtype)
    return [results[r * t.units : (r + 1) * t.units] for r in range(height)]


def _together(em: Emitter, sums: list[str], count: int, dtype: DType) -> list[str]:
    """``count`` sums of those that terms were added to in turn."""
    found = sums[:count]
    for k in range(count, len(sums)):
        pair = Value(found[k % count], True, em.top), Value(sums[k], True, em.top)
        found[k % count] = binary(em, "add", dtype, *pair).text
    return found


def _is_asked_for(em: Emitter, t: Tile, right: Scalar, height: int) -> Load | None:
    """The right operand, if its rows are asked for before they are needed.

    That is where all rows of the left one are done at once: those of one, or many, of which the
    second cache does not hold all.
    """
    if t.is_padded or not isinstance(right, Load):
        return None
    if t.height == 1 and len(t.result.axes) == 1:
        return right
    count, rows = known(right.buffer.elements), known(_inner_axes(t)[0][-1].extent)
    if (t.row is not None and t.rows[2] != height) or count is None or (rows or 0) < LEAST_ROWS:
        return None
    return right if count * size_of(right.dtype) > em.target.l2_bytes // 2 else None


def _ask_ahead(
    em: Emitter, e: Load, axis: Variable, number: int, at: Mapping[Atom, DimLike]
) -> None:
    """Ask for the lines of ``e`` that are read some terms later: rows that lie pages apart.

    These are rows of the same place ``at`` the axes that are written out.
    """
    later = minimum(axis.dim + number + ROWS_AHEAD, axis.extent - 1)
    ahead = substitute(e.address, {**at, axis: later}, {})
    for unit in em.units:
        ask(em, e.buffer, ahead, unit * em.lanes)


def _ask_before(
    em: Emitter,
    t: Tile,
    beside: tuple[Load | None, Sequence[Line], int],
    number: int,
    at: Mapping[Atom, DimLike],
) -> None:
    """What is asked for before the term ``at`` a place, which is that ``number`` of its turn.

    That is, ``beside`` its own panel, rows of the right operand and lines of the next panel; and
    how many bytes before they are needed those of its own are asked for.
    """
    (*_, axis), inside = _inner_axes(t)
    rows, ahead, before = beside
    if rows is not None and (number == 0 or not inside):
        _ask_ahead(em, rows, axis, number, at)
    panel = unwidened(t.result.body.args[t.column in t.result.body.args[1].variables])
    if t.is_padded and isinstance(panel, Load):
        _ask_panel(em, t, panel, at, before)
    for buffer, place in ahead:
        if _is_new_line(place, axis, number, buffer):
            ask(em, buffer, substitute(place, at, {}), by=SECOND_CACHE)


def next_panel(t: Tile, block: Variable | None, height: int) -> list[Line]:
    """The lines that a tile whose first row is that of ``block`` asks for, if it is a whole one."""
    if height != t.height:
        return []
    if t.row is None:
        return list(t.ahead)
    here: dict[Atom, DimLike] = {t.row: _row_place(block, 0)}
    return [(buffer, substitute(place, here, {})) for buffer, place in t.ahead]


def _is_new_line(place: DimLike, axis: Variable, number: int, buffer: Buffer) -> bool:
    """Whether ``place`` is in another line for term ``number`` of a turn than for the one before.

    What share of a panel falls to a term may be a part of a line, which is asked for once a turn.
    """
    step = substitute(place, {axis: axis.dim + 1}, {}) - place
    line = LINE_BYTES // size_of(buffer.dtype)
    if number == 0 or not isinstance(step, int):
        return True
    return step * number // line != step * (number - 1) // line


def _ask_panel(em: Emitter, t: Tile, e: Load, at: Mapping[Atom, DimLike], before: int) -> None:
    """Ask for the lines of a panel ``e`` that are read so many bytes after those ``at`` a place.

    A processor that fetches ahead by itself stops where a page ends, and a panel of few rows is
    used as fast as memory gives it.
    """
    size = size_of(e.dtype)
    row = t.units * em.lanes * size
    axis = t.result.axes[-1]
    ahead = substitute(e.address, at, {})
    ahead = substitute(ahead, {axis: axis.dim + -(-before // row)}, {})
    for place in range(0, row, LINE_BYTES):
        ask(em, e.buffer, ahead, place // size)


def _block_sums(
    em: Emitter, t: Tile, block: Variable | None, height: int, inner: Reduce
) -> list[list[str]]:
    """The accumulators of a sum over blocks of what is made of an ``inner`` sum of products.

    A vector of the right operand is used for all rows as soon as it is there. The axes of the inner
    sum that it does not move along in memory choose fields of it: they are written out.
    """
    rows: list[dict[Atom, DimLike]] = [{}]
    if t.row is not None:
        rows = [{t.row: _row_place(block, r)} for r in range(height)]
    sums = [em.moved(inner, at) for at in rows]
    bodies = [em.moved(t.result.body, at) for at in rows]
    dtype, kind = t.result.dtype, em.type(t.result.dtype, is_vector=True)
    carried = [(kind, start("sum", dtype, is_vector=True))] * (height * t.units)

    def turn(totals: list[str]) -> list[str]:
        found = _inner_sums(em, t, sums)
        totals = list(totals)
        for r, (e, body) in enumerate(zip(sums, bodies, strict=True)):
            for u in em.units:
                em.remember((e, u), Value(found[r][u], True, em.top))
            for u in em.units:
                total = Value(totals[r * t.units + u], True, em.top)
                totals[r * t.units + u] = em.splat(step(em, "sum", total, body, u), dtype)
        return totals

    results = nest(em, t.result.axes, carried, turn)
    return [results[r * t.units : (r + 1) * t.units] for r in range(height)]


def _inner_sums(em: Emitter, t: Tile, sums: Sequence[Scalar]) -> list[list[str]]:
    """The sums of products of one block, row by row."""
    inner = [e for e in sums if isinstance(e, Reduce)]
    dtype, bodies = inner[0].dtype, [e.body for e in inner]
    is_turned = t.column in bodies[0].args[0].variables
    lefts = [body.args[is_turned] for body in bodies]
    right = bodies[0].args[not is_turned]
    fields = field_axes(inner[0], right)
    combinations = points(fields)

    def turn(totals: list[str]) -> list[str]:
        totals = list(totals)
        for at in combinations:
            b = [em.value(em.moved(right, at), u) for u in em.units]
            for r, e in enumerate(lefts):
                a = em.value(em.moved(e, at))
                for u in em.units:
                    total = Value(totals[r * t.units + u], True, em.top)
                    factors = (b[u], a) if is_turned else (a, b[u])
                    totals[r * t.units + u] = add_product(em, bodies[0], factors, total).text
        return totals

    kind = em.type(dtype, is_vector=True)
    carried = [(kind, start("sum", dtype, is_vector=True))] * (len(inner) * t.units)
    results = nest(em, [a for a in inner[0].axes if a not in fields], carried, turn)
    return [results[r * t.units : (r + 1) * t.units] for r in range(len(inner))]


def _inner_axes(t: Tile) -> tuple[list[Variable], list[Variable]]:
    """The axes of the sum that are loops, and the innermost ones, which are written out."""
    outer = list(t.result.axes)
    inner: list[Variable] = []
    count = 1
    while len(outer) > 1:
        extent = outer[-1].extent
        if not isinstance(extent, int) or count * extent > WRITTEN_OUT:
            break
        count *= extent
        inner.insert(0, outer.pop())
    return outer, inner


@dataclass(frozen=True)
class _Turns:
    """Turns of the innermost loop, from `first` to `end`, and the places of each one's terms."""

    first: int
    end: DimLike
    step: int
    terms: Sequence[Mapping[Atom, DimLike]]


def _turns(axis: Variable, inside: Sequence[Variable], step: int) -> list[_Turns]:
    """The turns along ``axis``, of ``step`` terms each, and those of terms that are left."""
    taps, extent = points(inside), axis.extent
    if len(taps) > 1 or not isinstance(extent, int) or extent < step:
        return [_Turns(0, extent, 1, taps)]
    later: list[Mapping[Atom, DimLike]] = [{axis: axis.dim + n} for n in range(1, step)]
    end = extent // step * step
    whole = _Turns(0, end, step, [*taps, *later])
    return [whole] if end == extent else [whole, _Turns(end, extent, 1, taps)]


def _halves(t: Tile, height: int) -> list[_Turns]:
    """The turns of few rows that read the halves of a panel side by side; none if they do not."""
    (*_, axis), inside = _inner_axes(t)
    extent, are_few = axis.extent, height < t.height or (height == 1 and not t.ahead)
    if not (t.is_padded and are_few) or inside or not isinstance(extent, int) or extent < HALVED:
        return []
    half = extent // 2
    whole = _Turns(0, half, 1, [{}, {axis: axis.dim + half}])
    return [whole] if half * 2 == extent else [whole, _Turns(half * 2, extent, 1, [{}])]


def _loops(
    em: Emitter,
    axes: list[Variable],
    carried: Sequence[tuple[str, str]],
    turns: Sequence[_Turns],
    term: Callable[[list[str], int, Mapping[Atom, DimLike]], list[str]],
) -> list[str]:
    """The loops over the axes of the sum around each ``term``; the last one takes ``turns``."""
    *around, last = axes

    def body(totals: list[str]) -> Sequence[str]:
        for some in turns:
            given = [(kind, total) for (kind, _), total in zip(carried, totals, strict=True)]
            bounds = str(some.first), em.dim(some.end).text, some.step
            turn = functools.partial(_turn, em, last, some, term)
            totals = em.loop(*bounds, given, turn, is_sure=surely_runs(some.end - some.first))
        return totals

    return nest(em, around, carried, body)


def _turn(
    em: Emitter,
    axis: Variable,
    turns: _Turns,
    term: Callable[[list[str], int, Mapping[Atom, DimLike]], list[str]],
    i: str,
    values: list[str],
) -> Sequence[str]:
    """One of ``turns`` along ``axis``: each of its terms, at ``i`` and beyond."""
    em.place(axis, Value(i, False, em.top))
    for number, at in enumerate(turns.terms):
        values = term(list(values), number, at)
    return values


def _write_out(em: Emitter, t: Tile, block: Variable | None, sums: list[list[str]]) -> None:
    """Every row of the tile written out."""
    for r, row in enumerate(sums):
        at: dict[Atom, DimLike] = {} if t.row is None else {t.row: _row_place(block, r)}
        result = em.moved(t.result, at)
        for u, text in zip(em.units, row, strict=True):
            em.remember((result, u), Value(text, True, em.top))
        put = Put(
            t.put.buffer,
            substitute(t.put.address, at, {}),
            em.moved(t.put.value, at),
        )
        store_all(em, [(put, u) for u in em.units])


def _write_rows(em: Emitter, t: Tile, block: Variable | None, sums: list[list[str]]) -> None:
    """The sums go to the stack, a loop over the rows does the rest."""
    dtype = t.result.dtype
    kind = em.type(dtype, is_vector=True)
    size = em.lanes * size_of(dtype)
    stack = em.stack(len(sums) * t.units * size)
    flat = [text for row in sums for text in row]
    for k, text in enumerate(flat):
        place = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {k * size}")
        em.do(f"store {kind} {text}, ptr {place}, align {size_of(dtype)}")
    rows_from(em, t, block, stack, str(len(sums)))


def rows_from(em: Emitter, t: Tile, block: Variable | None, stack: str, count: str) -> None:
    """What is done with ``count`` rows of sums that lie at ``stack``."""
    dtype = t.result.dtype
    kind = em.type(dtype, is_vector=True)
    size = em.lanes * size_of(dtype)
    row_bytes = t.units * size

    def turn(i: str, _: list[str]) -> Sequence[str]:
        if t.row is not None and block is not None:
            base = em.places[block].text
            em.places[t.row] = Value(em.put(em.top, f"add i64 {base}, {i}"), False, em.top)
        offset = em.put(em.top, f"mul i64 {i}, {row_bytes}")
        row = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
        for u in em.units:
            place = em.put(em.top, f"getelementptr i8, ptr {row}, i64 {u * size}")
            text = em.put(em.top, f"load {kind}, ptr {place}, align {size_of(dtype)}")
            em.remember((t.result, u), Value(text, True, em.top))
        store_all(em, [(t.put, u) for u in em.units])
        return []

    em.loop("0", count, 1, [], turn, is_sure=True)
