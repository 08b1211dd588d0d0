"""The inner loop of contractions: accumulators for a tile of the result, all in registers.

Per term one row of vectors of the right operand is loaded, and one element of the left operand per
row of the tile is multiplied with each of them. What is done with the sums stands in a small loop
over the rows, through memory on the stack, unless it is next to nothing: written out for every
element it would triple the code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import nest, start, surely_runs
from fornix.compile.emit.instructions import binary
from fornix.compile.emit.memory import store
from fornix.compile.emit.types import size_of
from fornix.compile.nest import Put, Tile
from fornix.ir.dim import DimLike, is_nonnegative
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Scalar, Variable, substitute_scalar

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

UNROLL = 4
"""Terms per turn of the inner loop, where their number is a multiple of it."""
WRITTEN_OUT = 9
"""Taps that are written out in the inner loop, such as those of a 3×3 filter."""
LOW_HEIGHTS = {
    **dict.fromkeys((6, 7, 8), (4, 2, 1)), 12: (6, 2, 1), 14: (7, 2, 1), 4: (2, 1), 3: (2, 1),
}  # fmt: skip
"""Heights of tiles for rows that whole ones leave, by the height of whole ones; 1 ends each."""
INLINE_NODES = 4
"""Nodes around the sum that are written out for every element of the tile."""


def tile(em: Emitter, t: Tile) -> None:
    """The rows of ``t``, ``height`` at a time; where there may be few, by lower tiles too."""
    if t.row is None:
        _block(em, t, None, 1)
        return
    first, end, count = (em.dim(d) for d in t.rows)
    fits = is_nonnegative(t.rows[2] - t.height)
    if fits is not None:
        _blocks(em, t, (first, end), t.height if fits else 1)
        return
    low, *lower = LOW_HEIGHTS.get(t.height, (1,))
    depth = max(first.depth, end.depth, count.depth)
    here = em.put(depth, f"sub i64 {end.text}, {first.text}")
    short = _short(em, depth, (here, count.text), (t.height, low))
    place = Value(em.put(depth, f"sub i64 {end.text}, {short}"), False, depth)
    _blocks(em, t, (first, place), t.height)
    for height in (low, *lower):
        are_few = em.put(depth, f"icmp slt i64 {count.text}, {height}")
        text = f"select i1 {are_few}, i64 {place.text}, i64 {end.text}"
        after = Value(em.put(depth, text), False, depth)
        _blocks(em, t, (place, after), height)
        place = after


def _short(em: Emitter, depth: int, rows: tuple[str, str], heights: tuple[int, int]) -> str:
    """How many of the last rows are left to low tiles, so that least is computed twice.

    ``rows`` are those of the chunk and of the whole result. All, where the result has fewer than a
    tall tile. Else none if a tall tile that overlaps its neighbour does less than low ones; and a
    row or two that tall tiles leave may be best with the last of them: 7 are 4 and 4, not 6 and 4.
    """
    here, count = rows
    height, low = heights
    rest = em.put(depth, f"urem i64 {here}, {height}")
    is_much = em.put(depth, f"icmp sgt i64 {rest}, {low}")
    short = em.put(depth, f"select i1 {is_much}, i64 0, i64 {rest}")
    if 2 * low > height:
        before = em.put(depth, f"sub i64 {rest}, 1")
        is_little = em.put(depth, f"icmp ult i64 {before}, {2 * low - height}")
        more = em.put(depth, f"add i64 {rest}, {height}")
        more = em.call(depth, "i64", "llvm.smin.i64", ("i64", here), ("i64", more))
        short = em.put(depth, f"select i1 {is_little}, i64 {more}, i64 {short}")
    are_few = em.put(depth, f"icmp slt i64 {count}, {height}")
    return em.put(depth, f"select i1 {are_few}, i64 {here}, i64 {short}")


def _blocks(em: Emitter, t: Tile, bounds: tuple[Value, Value], height: int) -> None:
    """Blocks of ``height`` rows; the last one begins earlier if it would reach beyond the end."""
    low, high = bounds
    block = Variable("m", t.rows[2] - (height - 1))  # with the bounds that proofs may use

    def turn(i: str, _: list[str]) -> Sequence[str]:
        place = Value(i, False, em.top)
        if height > 1:
            least = em.dim(t.rows[2] - height)
            text = em.call(em.top, "i64", "llvm.smin.i64", ("i64", i), ("i64", least.text))
            place = Value(text, False, em.top)
        em.places[block] = place
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
        sums = _sums(em, t, block, height)
        em.masks = masks
        if t.put.value.size - t.result.size <= INLINE_NODES:
            _write_out(em, t, block, sums)
        else:
            _write_rows(em, t, block, sums)


def _is_whole(em: Emitter, t: Tile) -> bool:
    return t.width == t.units * em.lanes


def _row_place(block: Variable | None, row: int) -> DimLike:
    return row if block is None else block.dim + row


def _sums(em: Emitter, t: Tile, block: Variable | None, height: int) -> list[list[str]]:
    """The accumulators, row by row."""
    left, right = t.result.body.args
    dtype = t.result.dtype
    kind = em.type(dtype, is_vector=True)
    lefts = [left]
    if t.row is not None:
        lefts = [substitute_scalar(left, {t.row: _row_place(block, r)}) for r in range(height)]
    carried = [(kind, start("sum", dtype, is_vector=True))] * (height * t.units)

    def terms(totals: list[str], at: dict[Atom, DimLike]) -> list[str]:
        b = [em.value(substitute_scalar(right, at), u) for u in em.units]
        for r, e in enumerate(lefts):
            a = em.value(substitute_scalar(e, at))
            for u in em.units:
                total = Value(totals[r * t.units + u], True, em.top)
                totals[r * t.units + u] = _step(em, (a, b[u]), total, e)
        return totals

    results = _loops(em, _inner_axes(t), carried, terms)
    return [results[r * t.units : (r + 1) * t.units] for r in range(height)]


def _step(em: Emitter, factors: tuple[Value, Value], total: Value, e: Scalar) -> str:
    if e.dtype.is_float:
        return binary(em, "multiply_add", e.dtype, *factors, total).text
    product = binary(em, "mul", e.dtype, *factors)
    return binary(em, "add", e.dtype, total, product).text


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


def _loops(
    em: Emitter,
    axes: tuple[list[Variable], list[Variable]],
    carried: Sequence[tuple[str, str]],
    terms: Callable[[list[str], dict[Atom, DimLike]], list[str]],
) -> list[str]:
    """The loops over the axes of the sum around ``terms``."""
    (*around, last), inner = axes
    steps, points = _turns(last, inner)

    def turn(i: str, values: list[str]) -> Sequence[str]:
        em.places[last] = Value(i, False, em.top)
        for k in range(steps):
            for point in points:
                values = terms(list(values), {**point, last: last.dim + k})
        return values

    def body(totals: list[str]) -> Sequence[str]:
        given = [(kind, total) for (kind, _), total in zip(carried, totals, strict=True)]
        extent = em.dim(last.extent).text
        return em.loop("0", extent, steps, given, turn, is_sure=surely_runs(last.extent))

    return nest(em, around, carried, body)


def _turns(last: Variable, inner: list[Variable]) -> tuple[int, list[dict[Atom, DimLike]]]:
    """How many values of ``last`` one turn handles, and the combinations of ``inner`` axes."""
    points: list[dict[Atom, DimLike]] = [{}]
    for axis in inner:
        if isinstance(axis.extent, int):
            points = [{**p, axis: k} for p in points for k in range(axis.extent)]
    if len(points) > 1 or not isinstance(last.extent, int):
        return 1, points
    extent = last.extent
    return next((n for n in (UNROLL, 2) if extent % n == 0), 1), points


def _write_out(em: Emitter, t: Tile, block: Variable | None, sums: list[list[str]]) -> None:
    """Every row of the tile written out."""
    for r, row in enumerate(sums):
        at: dict[Atom, DimLike] = {} if t.row is None else {t.row: _row_place(block, r)}
        result = substitute_scalar(t.result, at)
        for u, text in zip(em.units, row, strict=True):
            em.remember((result, u), Value(text, True, em.top))
        put = Put(
            t.put.buffer,
            substitute(t.put.address, at, {}),
            substitute_scalar(t.put.value, at),
        )
        for u in em.units:
            store(em, put, u)


def _write_rows(em: Emitter, t: Tile, block: Variable | None, sums: list[list[str]]) -> None:
    """The sums go to the stack, a loop over the rows does the rest."""
    dtype = t.result.dtype
    kind = em.type(dtype, is_vector=True)
    row_bytes = t.units * em.lanes * size_of(dtype)
    stack = em.stack(len(sums) * row_bytes)
    flat = [text for row in sums for text in row]
    size = em.lanes * size_of(dtype)
    for k, text in enumerate(flat):
        place = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {k * size}")
        em.do(f"store {kind} {text}, ptr {place}, align {size_of(dtype)}")

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
        for u in em.units:
            store(em, t.put, u)
        return []

    em.loop("0", str(len(sums)), 1, [], turn, is_sure=True)
