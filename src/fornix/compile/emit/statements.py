"""Nests to code: what each kind of statement becomes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit import parts, turned
from fornix.compile.emit.builder import Carried, Value
from fornix.compile.emit.folds import fold_lanes, horizontal, start, surely_runs
from fornix.compile.emit.gates import gates
from fornix.compile.emit.memory import ask, in_bytes, store
from fornix.compile.emit.packed import store_all
from fornix.compile.emit.patches import patch
from fornix.compile.emit.picked import prepare
from fornix.compile.emit.routines import call
from fornix.compile.emit.tiles import tile
from fornix.compile.emit.windows import window
from fornix.compile.nest import (
    Block,
    Boxes,
    Call,
    Carry,
    ChunkedLanes,
    Chunks,
    Fold,
    Gates,
    Lanes,
    Loop,
    Parts,
    Patch,
    Picked,
    Put,
    Statement,
    Stretch,
    Tile,
    Turn,
    Weave,
    When,
    Window,
)
from fornix.ir.dim import DimLike
from fornix.ir.loops import Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

Visit = Callable[[list[str]], Sequence[str]]


def run(em: Emitter, block: Block) -> None:
    """Write the code of ``block``."""
    for statement in block:
        _statement(em, statement)


def _statement(em: Emitter, statement: Statement) -> None:
    match statement:
        case Put():
            put = in_bytes(em, statement)
            units = em.units if em.depends(put.address) else (0,)
            store_all(em, [(put, unit) for unit in units])
        case Loop():
            _loop(em, statement)
        case When():
            _when(em, statement)
        case Picked():
            _picked(em, statement)
        case Lanes():
            bounds = (0, statement.axis.extent)
            vector_loop(
                em, statement.axis, bounds, statement.units, [], _no_result(em, statement.body)
            )
        case Chunks():
            _chunks(em, statement)
        case Stretch():
            _stretch(em, statement)
        case ChunkedLanes():
            _chunked_lanes(em, statement)
        case Fold():
            _fold(em, statement)
        case _:
            _elements(em, statement)


def _elements(
    em: Emitter,
    statement: Carry | Tile | Parts | Gates | Patch | Boxes | Window | Turn | Weave | Call,
) -> None:
    """Several elements of the result at once."""
    match statement:
        case Carry():
            _carry(em, statement)
        case Tile():
            tile(em, statement)
        case Parts():
            parts.products(em, statement)
        case Gates():
            gates(em, statement)
        case Patch() | Boxes():
            patch(em, statement)
        case Window():
            window(em, statement)
        case Turn():
            turned.tile(em, statement)
        case Weave():
            turned.weave(em, statement)
        case Call():
            call(em, statement)


def _no_result(em: Emitter, body: Block) -> Visit:
    def turn(_: list[str]) -> Sequence[str]:
        run(em, body)
        return []

    return turn


def _loop(em: Emitter, loop: Loop) -> None:
    extent = em.dim(loop.axis.extent)

    def turn(i: str, _: list[str]) -> Sequence[str]:
        place = Value(i, False, em.top)
        if loop.swing is not None:
            place = _swung(em, i, extent, em.places[loop.swing])
        em.place(loop.axis, place)
        run(em, loop.body)
        return []

    em.loop("0", extent.text, 1, [], turn, is_sure=surely_runs(loop.axis.extent))


def _when(em: Emitter, when: When) -> None:
    """What is in it reads memory there."""
    em.once(em.value(when.condition).text, lambda: run(em, when.body))


def _picked(em: Emitter, statement: Picked) -> None:
    def turn(_: list[str]) -> Sequence[str]:
        for picks, unit in itertools.product(statement.picks, em.units):
            prepare(em, picks, unit)
        return []

    vector_loop(em, statement.axis, (0, statement.axis.extent), 1, [], turn)
    em.picks = {picks.place: picks for picks in statement.picks}
    run(em, statement.body)
    em.picks = {}


def _swung(em: Emitter, i: str, extent: Value, swing: Value) -> Value:
    """``i``, or where ``swing`` is odd the value as far from the end."""
    odd = em.put(swing.depth, f"trunc i64 {swing.text} to i1")
    last = em.put(extent.depth, f"sub i64 {extent.text}, 1")
    back = em.put(em.top, f"sub i64 {last}, {i}")
    return Value(em.put(em.top, f"select i1 {odd}, i64 {back}, i64 {i}"), False, em.top)


# ── vectors ────────────────────────────────────────────────────────────────────────────────────


def vector_loop(
    em: Emitter,
    axis: Variable,
    bounds: tuple[DimLike | Value, DimLike | Value],
    units: int,
    carried: Carried,
    turn: Visit,
) -> list[str]:
    """``axis`` over ``bounds``: whole steps of several vectors, then single masked ones.

    Where the extent is known the rest is one step, of which the last vector alone is masked.
    ``turn`` sees `Emitter.units` and `masks`; it gets what is carried for each unit, if anything
    is, and gives it anew. A short axis of known extent takes no loop.
    """
    low, high = (b if isinstance(b, Value) else em.dim(b) for b in bounds)
    whole_step = em.lanes * units
    extent = None
    if not (low.text + high.text).count("%"):
        extent = int(high.text) - int(low.text)
        if extent <= whole_step:
            return _straight(em, axis, low, extent, carried, turn, is_aligned=low.text == "0")
        units = _even_units(extent, em.lanes, units)
        whole_step = em.lanes * units
    middle = high
    if extent is None or extent % whole_step:
        middle = _last_whole(em, low, high, whole_step)
    first = carried[:units]
    results = _vectors(em, axis, (low, middle), range(units), first, turn, extent is not None)
    if middle is high:
        return [*results, *(text for _, text in carried[units:])]
    kinds = [kind for kind, _ in carried]
    left = list(zip(kinds, results, strict=False))
    if extent is not None:
        rest = extent % whole_step
        tail = _straight(em, axis, middle, rest, left, turn, is_aligned=low.text == "0")
        return [*tail, *(text for _, text in carried[units:])]
    left = left[:1]
    tail = _masked(em, axis, (middle, high), left, turn, is_aligned=low.text == "0")
    return [*tail, *results[1:], *(text for _, text in carried[units:])]


def _straight(
    em: Emitter,
    axis: Variable,
    low: Value,
    extent: int,
    carried: Carried,
    turn: Visit,
    *,
    is_aligned: bool,
) -> list[str]:
    """All vectors one after the other, the last one masked."""
    count = -(-extent // em.lanes)
    with em.along(axis, range(count), is_aligned=is_aligned):
        em.place(axis, Value(low.text, False, low.depth))
        if extent % em.lanes:
            left = Value(str(extent), False, 0)
            em.masks = {count - 1: em.first_lanes(left, count - 1)}
        results = turn([text for _, text in carried[:count]])
    return [*results, *(text for _, text in carried[count:])]


def _even_units(extent: int, lanes: int, units: int) -> int:
    """Up to ``units`` vectors at a time, so that no masked turn is needed if that is possible."""
    if extent % lanes:
        return units
    even = [n for n in range(units, 0, -1) if extent % (lanes * n) == 0]
    return next((n for n in even if 2 * n >= units), units)


def _last_whole(em: Emitter, low: Value, high: Value, step: int) -> Value:
    """Where whole steps from ``low`` end."""
    depth = max(low.depth, high.depth)
    length = em.put(depth, f"sub i64 {high.text}, {low.text}")
    rest = em.put(depth, f"srem i64 {length}, {step}")
    return Value(em.put(depth, f"sub i64 {high.text}, {rest}"), False, depth)


def _vectors(
    em: Emitter,
    axis: Variable,
    bounds: tuple[Value, Value],
    units: Sequence[int],
    carried: Carried,
    turn: Visit,
    is_sure: bool,  # noqa: FBT001 -- handed through
) -> list[str]:
    low, high = bounds

    def body(i: str, values: list[str]) -> Sequence[str]:
        with em.along(axis, units, is_aligned=low.text == "0"):
            em.place(axis, Value(i, False, em.top))
            return turn(values)

    return em.loop(low.text, high.text, em.lanes * len(units), carried, body, is_sure=is_sure)


def _masked(
    em: Emitter,
    axis: Variable,
    bounds: tuple[Value, Value],
    carried: Carried,
    turn: Visit,
    *,
    is_aligned: bool,
) -> list[str]:
    """The rest, one vector at a time; only lanes below the end exist."""
    low, high = bounds

    def body(i: str, values: list[str]) -> Sequence[str]:
        with em.along(axis, is_aligned=is_aligned):
            em.place(axis, Value(i, False, em.top))
            left = Value(em.put(em.top, f"sub i64 {high.text}, {i}"), False, em.top)
            em.masks = {0: em.first_lanes(left, 0)}
            return turn(values)

    return em.loop(low.text, high.text, em.lanes, carried, body, is_sure=False)


def _fold(em: Emitter, fold: Fold) -> None:
    """A reduction in vectors; its value is remembered where it is computed."""
    dtype, op = fold.result.dtype, fold.result.op
    kind = em.type(dtype, is_vector=True)
    neutral = start(op, dtype, is_vector=True)
    if not fold.needs_nan:
        op = {"max": "greater", "min": "lesser"}.get(op, op)

    def turn(totals: list[str]) -> list[str]:
        results = []
        for unit, total in zip(em.units, totals, strict=True):
            for buffer, place in fold.ahead:
                ask(em, buffer, place, unit * em.lanes)
            for put in fold.kept:
                store(em, put, unit)
            results.append(fold_lanes(em, op, fold.body, total, unit))
        return results

    bounds = (0, fold.axis.extent)
    carried = [(kind, neutral)] * fold.units
    totals = vector_loop(em, fold.axis, bounds, fold.units, carried, turn)
    used = [t for t in totals if t != neutral] or totals[:1]
    em.remember((fold.result, None), horizontal(em, op, dtype, used, fold.axis.extent))


def _carry(em: Emitter, carry: Carry) -> None:
    """A loop over time that hands on one value for each unit."""
    dtype, is_vector = carry.put.buffer.dtype, em.depends(carry.put.address)
    units = em.units if is_vector else (0,)
    kind = em.type(dtype, is_vector=is_vector)

    def put(statement: Put) -> list[str]:
        for unit in units:
            store(em, statement, unit)
        found = [em.value(statement.value, unit) for unit in units]
        return [em.splat(v, dtype) if is_vector else v.text for v in found]

    def turn(i: str, values: list[str]) -> Sequence[str]:
        em.place(carry.axis, Value(i, False, em.top))
        for unit, text in zip(units, values, strict=True):
            key = (carry.last, unit if is_vector else None)
            em.remember(key, Value(text, is_vector, em.top))
        return put(carry.put)

    extent = carry.axis.extent
    carried = [(kind, text) for text in put(carry.first)]
    em.loop("0", em.dim(extent).text, 1, carried, turn, is_sure=surely_runs(extent))


# ── chunks ─────────────────────────────────────────────────────────────────────────────────────


def _share(em: Emitter, count: Value) -> tuple[Value, Value]:
    """What chunk ``%chunk`` of ``%chunks`` does of ``count`` pieces: from, to."""

    def cut(number: str) -> Value:
        product = em.put(count.depth, f"mul i64 {count.text}, {number}")
        return Value(em.put(count.depth, f"udiv i64 {product}, %chunks"), False, count.depth)

    return cut("%chunk"), cut(em.put(count.depth, "add i64 %chunk, 1"))


def _pieces(em: Emitter, extent: DimLike, grain: int) -> Value:
    """How many pieces of ``grain`` there are in ``extent``."""
    return em.dim((extent + (grain - 1)) // grain)


def _chunks(em: Emitter, chunks: Chunks) -> None:
    """One loop over all combinations of the axes."""
    count: DimLike = 1
    for axis in chunks.axes:
        count = count * axis.extent
    low, high = _share(em, em.dim(count))

    def turn(i: str, _: list[str]) -> Sequence[str]:
        _take_apart(em, chunks.axes, i)
        if chunks.swings:
            swing, last = chunks.axes[-2:]
            place = _swung(em, em.places[last].text, em.dim(last.extent), em.places[swing])
            em.place(last, place)
        run(em, chunks.body)
        return []

    em.loop(low.text, high.text, 1, [], turn, is_sure=False)


def _take_apart(em: Emitter, axes: Sequence[Variable], number: str) -> None:
    """Give ``axes`` their values in combination ``number``, by division."""
    rest = number
    for axis in reversed(axes[1:]):
        extent = em.dim(axis.extent).text
        em.place(axis, Value(em.put(em.top, f"urem i64 {rest}, {extent}"), False, em.top))
        rest = em.put(em.top, f"udiv i64 {rest}, {extent}")
    if axes:
        em.place(axes[0], Value(rest, False, em.top))


def _stretch(em: Emitter, stretch: Stretch) -> None:
    first = em.dim(stretch.first).text

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.place(stretch.number, Value(i, False, em.top))
        _take_apart(em, stretch.axes, em.put(em.top, f"add i64 {first}, {i}"))
        run(em, stretch.body)
        return []

    count = em.dim(stretch.count).text
    em.loop("0", count, 1, [], turn, is_sure=surely_runs(stretch.count))


def _chunked_lanes(em: Emitter, lanes: ChunkedLanes) -> None:
    """A share of one axis, cut at whole grains."""
    low, high = _share(em, _pieces(em, lanes.axis.extent, lanes.grain))
    extent = em.dim(lanes.axis.extent)
    depth = max(low.depth, extent.depth)
    ends = [
        Value(em.put(depth, f"mul nsw i64 {v.text}, {lanes.grain}"), False, depth)
        for v in (low, high)
    ]
    end = em.call(depth, "i64", "llvm.smin.i64", ("i64", ends[1].text), ("i64", extent.text))
    bounds = (ends[0], Value(end, False, depth))
    vector_loop(em, lanes.axis, bounds, lanes.units, [], _no_result(em, lanes.body))


__all__ = ["run", "vector_loop"]
