"""Steps of recurrences: the sums of all gates for some rows and columns, then the cell.

A step multiplies the states by the weights of every gate. The accumulators of all gates for the
same states are in registers together, so that the cell, which needs one of each, runs where they
are. Weights are read one vector after the other, in the order in which they were packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import add_product, start, surely_runs
from fornix.compile.emit.memory import store
from fornix.compile.emit.types import size_of
from fornix.compile.nest import Gates
from fornix.ir.dim import DimLike, ceildiv
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

UNROLL = 4
"""Terms per turn of the inner loop, where their number is a multiple of it."""

Sums = list[list[str]]
"""By row, the accumulators: of each gate in turn, its vectors."""


def gates(em: Emitter, g: Gates) -> None:
    """The rows of ``g`` in blocks as even as can be: of two heights that differ by one."""
    if g.row is None:
        _block(em, g, None, 1)
        return
    first, end = g.rows
    blocks = ceildiv(end - first, g.height)
    high = ceildiv(end - first, blocks)
    middle = first + (end - first - blocks * (high - 1)) * high
    if isinstance(high, int):
        _blocks(em, g, (em.dim(first), em.dim(middle)), high)
        if high > 1:
            _blocks(em, g, (em.dim(middle), em.dim(end)), high - 1)
        return
    for height in range(g.height, 0, -1):
        begin = _where(em, high, height, (first, middle))
        stop = _where(em, high, height, (middle, _where(em, high, height + 1, (end, middle))))
        _blocks(em, g, (begin, stop), height)


def _where(
    em: Emitter, height: DimLike, is_: int, choices: tuple[DimLike | Value, DimLike | Value]
) -> Value:
    """The first choice where ``height`` is that number, else the second."""
    given = em.dim(height)
    a, b = (x if isinstance(x, Value) else em.dim(x) for x in choices)
    depth = max(given.depth, a.depth, b.depth)
    same = em.put(depth, f"icmp eq i64 {given.text}, {is_}")
    text = em.put(depth, f"select i1 {same}, i64 {a.text}, i64 {b.text}")
    return Value(text, False, depth)


def _blocks(em: Emitter, g: Gates, bounds: tuple[Value, Value], height: int) -> None:
    """The rows in ``bounds``, ``height`` at a time."""
    low, high = bounds
    if low.text == high.text:
        return
    extent = 1 if g.row is None else g.row.extent
    block = Variable("m", extent - (height - 1))  # with the bounds that proofs may use

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[block] = Value(i, False, em.top)
        _block(em, g, block, height)
        return []

    em.loop(low.text, high.text, height, [], turn, is_sure=False)


def _block(em: Emitter, g: Gates, block: Variable | None, height: int) -> None:
    """Some rows: the sums, then the cell."""
    is_partial = g.width != g.units * em.lanes
    width = em.dim(g.width)
    with em.along(g.column, range(g.units)):
        em.places[g.column] = Value("0", False, 0)
        sums = _sums(em, g, block, height)
        if is_partial:
            em.masks = {u: em.first_lanes(width, u) for u in em.units}
        if height == 1:
            if g.row is not None and block is not None:
                em.places[g.row] = em.places[block]
            _cell(em, g, sums[0])
        else:
            _cells(em, g, block, sums)


def _sums(em: Emitter, g: Gates, block: Variable | None, height: int) -> Sums:
    (axis,) = g.results[0].axes
    product, dtype = g.results[0].body, g.results[0].dtype
    place = int(g.column in product.args[0].variables)
    left = product.args[place]
    lefts = [left]
    if g.row is not None and block is not None:
        lefts = [em.moved(left, {g.row: block.dim + r}) for r in range(height)]
    rights = [e.body.args[1 - place] for e in g.results]
    width = len(rights) * g.units
    steps = _steps(axis.extent)

    def turn(i: str, totals: list[str]) -> Sequence[str]:
        em.places[axis] = Value(i, False, em.top)
        totals = list(totals)
        for k in range(steps):
            at: dict[Atom, DimLike] = {axis: axis.dim + k}
            vectors = [em.value(em.moved(e, at), u) for e in rights for u in em.units]
            for r, e in enumerate(lefts):
                one = em.value(em.moved(e, at))
                for c, vector in enumerate(vectors, r * width):
                    total = Value(totals[c], True, em.top)
                    factors = (vector, one) if place else (one, vector)
                    totals[c] = add_product(em, product, factors, total).text
        return totals

    kind = em.type(dtype, is_vector=True)
    carried = [(kind, start("sum", dtype, is_vector=True))] * (height * width)
    extent = em.dim(axis.extent).text
    found = em.loop("0", extent, steps, carried, turn, is_sure=surely_runs(axis.extent))
    return [found[r * width : (r + 1) * width] for r in range(height)]


def _steps(extent: DimLike) -> int:
    """Terms per turn."""
    if not isinstance(extent, int):
        return 1
    return next((n for n in (UNROLL, 2) if extent % n == 0), 1)


def _cell(em: Emitter, g: Gates, row: Sequence[str]) -> None:
    """What is done with the sums of one row."""
    pairs = ((e, u) for e in g.results for u in em.units)
    for pair, text in zip(pairs, row, strict=True):
        em.remember(pair, Value(text, True, em.top))
    for u in em.units:
        for put in g.puts:
            store(em, put, u)


def _cells(em: Emitter, g: Gates, block: Variable | None, sums: Sums) -> None:
    """The sums go to the stack, a loop over the rows does the rest."""
    dtype = g.results[0].dtype
    kind, size = em.type(dtype, is_vector=True), em.lanes * size_of(dtype)
    pitch = len(sums[0]) * size
    stack = em.stack(len(sums) * pitch)
    for k, text in enumerate(text for row in sums for text in row):
        place = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {k * size}")
        em.do(f"store {kind} {text}, ptr {place}, align {size_of(dtype)}")

    def turn(i: str, _: list[str]) -> Sequence[str]:
        if g.row is not None and block is not None:
            text = em.put(em.top, f"add i64 {em.places[block].text}, {i}")
            em.places[g.row] = Value(text, False, em.top)
        offset = em.put(em.top, f"mul i64 {i}, {pitch}")
        base = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
        row = []
        for k in range(len(sums[0])):
            place = em.put(em.top, f"getelementptr i8, ptr {base}, i64 {k * size}")
            row.append(em.put(em.top, f"load {kind}, ptr {place}, align {size_of(dtype)}"))
        _cell(em, g, row)
        return []

    em.loop("0", str(len(sums)), 1, [], turn, is_sure=True)


__all__ = ["gates"]
