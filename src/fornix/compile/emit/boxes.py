"""Boxes of direct convolutions of float32 in tile registers (AMX): of both factors three parts.

Sums begin at 0 and end on the stack, or begin and end in memory where they are held until all of
their slices were added. Those that are not finite are computed anew, see `compile.parts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit import square
from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import over
from fornix.compile.emit.memory import address, ask
from fornix.compile.emit.parts import Factor, any_not_finite, part_products
from fornix.compile.nest import Patch
from fornix.dtype import BOOL, FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Scalar, Variable

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.emit.square import Place

CHECKED = 4
"""Vectors of sums that are looked at together."""


def sums_of_patch(em: Emitter, p: Patch, ranges: Sequence[Sequence[Place]]) -> str:
    """A pointer to the sums of a box of an image, in the order of all combinations of ``ranges``.

    Those that are held are added to, if there is something to add.
    """
    if p.square is None:
        raise ValueError("a box in tile registers has rows along an axis")
    if p.held is not None:
        sums = address(em, *p.held).text
        if not p.loops:
            return sums
    else:
        sums = em.stack(math.prod(map(len, ranges)) * square.ROW_BYTES)
    square.set_up_once(em, p.square[1])
    points, places, row_step = square.corners(p.square, ranges, square.ROW_BYTES)
    step = ("i64", str(row_step))
    deep = len(ranges[-1])
    numbers = [square.SUMS + k // deep * 2 + k % deep for k in range(len(places))]
    wheres = [
        (register, ("ptr", em.put(em.top, f"getelementptr i8, ptr {sums}, i64 {place}")), step)
        for register, place in zip(square.registers(*numbers), places, strict=True)
    ]
    for operands in wheres:
        if p.held is None:
            em.call(em.top, "void", "llvm.x86.tilezero", operands[0])
        else:
            em.call(em.top, "void", "llvm.x86.tileloadd64", *operands)
    _add_products(em, p, points[::deep], [dict([place]) for place in ranges[-1]])
    for operands in wheres:
        em.call(em.top, "void", "llvm.x86.tilestored64", *operands)
    return sums


def _add_products(
    em: Emitter,
    p: Patch,
    pixels: Sequence[dict[Atom, DimLike]],
    blocks: Sequence[dict[Atom, DimLike]],
) -> None:
    """Those of all steps; of registers of ``pixels`` by those of ``blocks`` of filters."""
    (word,) = p.written
    if p.square is None or p.parts is None:
        raise ValueError("a box of parts says how far they lie apart")
    axis, (image, weights) = p.square[0], p.result.body.args
    steps = p.parts

    def left(point: dict[Atom, DimLike]) -> Factor:
        at = {**point, word: 0}
        return lambda part, register: square.fill(em, register, image, axis, at, part * steps[0])

    def right(block: dict[Atom, DimLike]) -> Factor:
        at = {**block, word: 0, p.column: 0}
        return lambda part, register: square.fill(em, register, weights, word, at, part * steps[1])

    def turn(_: list[str]) -> Sequence[str]:
        for buffer, place in p.ahead:
            ask(em, buffer, place)
        factors = [left(point) for point in pixels], [right(block) for block in blocks]
        part_products(em, *factors, counts=p.counts)
        return []

    over(em, p.loops, [], turn)


def compute_anew(em: Emitter, p: Patch, ranges: Sequence[Sequence[Place]], sums: str) -> None:
    """Sum products of float32s in the lanes where ``sums`` are not finite, if there are any."""
    if p.again is None:
        return
    again = p.again
    count = math.prod(map(len, ranges))
    units = next(n for n in range(CHECKED, 0, -1) if count % n == 0)
    is_wrong = any_not_finite(em, sums, str(count // units), units)
    em.once(is_wrong, lambda: _each(em, again, list(ranges), {}, ("0", sums)))


def _each(
    em: Emitter,
    again: Scalar,
    ranges: list[Sequence[Place]],
    point: dict[Atom, DimLike],
    place: tuple[str, str],
) -> None:
    """Loops over ``ranges``; ``place`` is the number of the vector so far, and where all lie."""
    number, sums = place
    if not ranges:
        _replace(em, em.moved(again, point), place)
        return
    (axis, first), *_ = ranges[0]
    base = em.dim(first)

    def turn(i: str, _: list[str]) -> Sequence[str]:
        here = Variable("q", axis.extent if isinstance(axis, Variable) else 1)
        em.places[here] = Value(em.put(em.top, f"add nsw i64 {base.text}, {i}"), False, em.top)
        scaled = em.put(em.top, f"mul nsw i64 {number}, {len(ranges[0])}")
        at = em.put(em.top, f"add nsw i64 {scaled}, {i}")
        _each(em, again, ranges[1:], {**point, axis: here.dim}, (at, sums))
        return []

    em.loop("0", str(len(ranges[0])), 1, [], turn, is_sure=True)


def _replace(em: Emitter, again: Scalar, place: tuple[str, str]) -> None:
    """Put ``again`` in those lanes of the vector at ``place`` that are not finite."""
    number, sums = place
    kind, bools = (em.type(dtype, is_vector=True) for dtype in (FLOAT32, BOOL))
    offset = em.put(em.top, f"mul nsw i64 {number}, {square.ROW_BYTES}")
    where = em.put(em.top, f"getelementptr i8, ptr {sums}, i64 {offset}")
    old = em.put(em.top, f"load {kind}, ptr {where}, align {square.ROW_BYTES}")
    gap = em.put(em.top, f"fsub {kind} {old}, {old}")
    is_wrong = em.put(em.top, f"fcmp uno {kind} {gap}, {gap}")
    new = em.splat(em.value(again), FLOAT32)
    found = em.put(em.top, f"select {bools} {is_wrong}, {kind} {new}, {kind} {old}")
    em.do(f"store {kind} {found}, ptr {where}, align {square.ROW_BYTES}")


__all__ = ["compute_anew", "sums_of_patch"]
