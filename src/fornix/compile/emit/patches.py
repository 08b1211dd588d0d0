"""The inner loop of direct convolutions: a box of accumulators, all of them in registers.

One factor of the products is a vector, the other one element for all its lanes. Which elements of
the box share a factor is not said anywhere: shared factors are one expression, and what an open
level has computed it remembers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fornix.compile.cost import accesses, stride_of
from fornix.compile.emit import boxes, square
from fornix.compile.emit.builder import Value
from fornix.compile.emit.bytes import dot4_together
from fornix.compile.emit.folds import add_product, over, start, surely_runs
from fornix.compile.emit.memory import ask, store
from fornix.compile.emit.packed import MOST, store_all
from fornix.compile.emit.square import Place
from fornix.compile.emit.types import size_of
from fornix.compile.nest import Boxes, Patch, Put, Span
from fornix.ir.dim import DimLike, known
from fornix.ir.dim.expression import Atom, substitute, variables
from fornix.ir.loops import Load, Scalar, Variable, replace
from fornix.ir.loops.scalar import const
from fornix.ops.quantize_loops import rounded_byte

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

INLINE_NODES = 8
"""Nodes around the sum that are written out for every element of the box."""
INLINE_TERMS = 256
"""Terms of the sum from which on a trip of the result over the stack does not matter."""

Point = dict[Atom, DimLike]


def patch(em: Emitter, p: Patch | Boxes) -> None:
    """The sums of one box, then what is done with them; or of all of a size that a run tells."""
    if isinstance(p, Boxes):
        _by_size(em, p)
        return
    with em.along(p.column):
        em.places[p.column] = Value("0", False, 0)
        ranges = [_values(em, span) for span in p.spans]
        if p.square is not None:
            _in_tile_registers(em, p, ranges)
            return
        points = [dict(pairs) for pairs in itertools.product(*ranges)]
        _ask_for_rest(em, p, points)
        sums = _sums(em, p, points)
        if _is_inline(p):
            _finish(em, p, list(zip(points, sums, strict=True)))
        else:
            stack = _stack(em, p, len(sums))
            _spill(em, p, sums, stack)
            _finish_in_loop(em, p, ranges, stack)


def _by_size(em: Emitter, b: Boxes) -> None:
    """The sums of boxes of the size that is best, each with what is done with them."""
    best = em.value(b.best)
    less = em.put(best.depth, f"sub nsw i64 {best.text}, 1")
    em.place(b.less, Value(less, False, best.depth))
    tests = [em.put(best.depth, f"icmp eq i64 {best.text}, {size}") for size in b.sizes]

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.place(b.turn, Value(i, False, em.top))
        em.place(b.first, em.dim(b.start))
        with em.along(b.patch.column):
            em.places[b.patch.column] = Value("0", False, 0)
            _sized(em, b.patch, dict(zip(b.sizes, tests, strict=True)), best.text)
        return []

    extent = b.turn.extent
    em.loop("0", em.dim(extent).text, 1, [], turn, is_sure=surely_runs(extent))


def _sized(em: Emitter, p: Patch, tests: Mapping[int, str], best: str) -> None:
    """The sums of as many elements of the first span as the ``best`` of ``tests``, and the rest."""
    span, *others = p.spans
    ranges: list[list[Place]] = [[(span.axis, span.start + k) for k in range(span.count)]]
    ranges += [_values(em, other) for other in others]
    points: list[Point] = [dict(pairs) for pairs in itertools.product(*ranges)]
    stack = None if _is_inline(p) else _stack(em, p, len(points))

    def sized(size: int) -> None:
        some = points[: len(points) // span.count * size]
        with em.along(p.column):  # without the masks of another size
            _ask_for_rest(em, p, some)
            sums = _sums(em, p, some)
            if stack is None:
                _finish(em, p, list(zip(some, sums, strict=True)))
            else:
                _spill(em, p, sums, stack)

    for size, test in tests.items():
        em.once(test, functools.partial(sized, size))
    if stack is not None:
        _finish_in_loop(em, p, ranges, stack, best)


def _in_tile_registers(em: Emitter, p: Patch, ranges: Sequence[Sequence[Place]]) -> None:
    """The same in tile registers, unless the sums go on elsewhere."""
    if p.parts is None:
        sums = square.sums_of_patch(em, p, ranges)
        boxes.compute_anew(em, p, ranges, sums)
        _finish_in_loop(em, p, ranges, sums)
        return
    sums = boxes.sums_of_patch(em, p, ranges)
    if p.held is None or not p.loops:
        boxes.compute_anew(em, p, ranges, sums)
        _finish_in_loop(em, p, ranges, sums)


def _ask_for_rest(em: Emitter, p: Patch, points: Sequence[Point]) -> None:
    """Have lines fetched while the sums are made: what these are added to, and where that goes.

    Of all of it together, as nothing is multiplied while they come. What is small is near anyway,
    and what is only written nobody waits for.
    """
    rest = replace(p.put.value, {p.result: const(0, p.result.dtype)})
    read = [(e.buffer, e.address) for e in accesses([rest]) if _is_far(em, p, e)]
    for point in points if read else ():
        at = {**point, p.column: 0}
        for buffer, place in read:
            ask(em, buffer, substitute(place, at, {}))
        ask(em, p.put.buffer, substitute(p.put.address, at, {}), is_written=True)


def _is_far(em: Emitter, p: Patch, e: Load) -> bool:
    """Whether each vector of the box reads a vector of ``e``, which the second cache may not hold.

    That is so as well where only a run tells how long ``e`` is.
    """
    size = known(e.buffer.elements)
    if size is not None and size * size_of(e.dtype) <= em.target.l2_bytes // 2:
        return False
    moving = {span.axis for span in p.spans if span.count > 1}
    return stride_of(e.address, p.column) == 1 and moving <= variables(e.address)


def _is_inline(p: Patch) -> bool:
    """Whether what is done with the sums is written out: it is little, but so is the sum."""
    terms = math.prod(a.extent if isinstance(a.extent, int) else 1 for a in p.result.axes)
    return p.put.value.size - p.result.size <= INLINE_NODES and terms < INLINE_TERMS


def _values(em: Emitter, span: Span) -> list[Place]:
    """The values of the axis of ``span``, from a variable on that is its start."""
    if isinstance(span.start, int):
        return [(span.axis, span.start + k) for k in range(span.count)]
    base = Variable(span.axis.name, span.axis.extent - (span.count - 1))
    em.places[base] = em.dim(span.start)
    return [(span.axis, base.dim + k) for k in range(span.count)]


def _sums(em: Emitter, p: Patch, points: Sequence[Point]) -> list[str]:
    """The accumulators, in the order of ``points``."""
    dtype = p.result.dtype
    factors = [[em.moved(factor, point) for factor in p.result.body.args] for point in points]
    written: list[Point] = [
        dict(pairs)
        for pairs in itertools.product(
            *([(a, k) for k in range(a.extent)] for a in p.written if isinstance(a.extent, int))
        )
    ]
    kind, zero = em.type(dtype, is_vector=True), start("sum", dtype, is_vector=True)

    def terms(totals: list[str], some: Sequence[Point], together: int) -> list[str]:
        found: dict[tuple[Scalar, int], Value] = {}
        sums = list(totals)
        for k, (point, pair) in enumerate(zip(points, factors, strict=True)):
            if p.edge is not None and (point[p.edge.out], some[0][p.edge.tap]) in p.edge.padding:
                continue
            for (number, at), factor in itertools.product(enumerate(some), pair):
                if (factor, number) not in found:
                    found[factor, number] = em.value(em.moved(factor, at))
            total = Value(totals[k], True, em.top)
            a, b = pair
            products = [(found[a, number], found[b, number]) for number in range(len(some))]
            sums[k] = _added(em, p, products, total, together).text
        return sums

    def turn(totals: list[str], tap: Point, together: int = 0) -> list[str]:
        for buffer, place in p.ahead:
            ask(em, buffer, substitute(place, tap, {}))
        step = max(together, 1)
        for first in range(0, len(written), step):
            some = [{**tap, **at} for at in written[first : first + step]]
            totals = terms(totals, some, together)
        return totals

    totals = [zero] * len(points)
    for tap in _taps(p):
        carried = [(kind, total) for total in totals]
        totals = _over(em, p, carried, functools.partial(turn, tap=tap))
    return totals


def _over(
    em: Emitter, p: Patch, carried: Sequence[tuple[str, str]], visit: Callable[..., list[str]]
) -> list[str]:
    """The loops around ``visit``, but for the taps of an edge, which are written out."""
    loops = p.loops if p.edge is None else p.loops[1:]
    if not p.ways:
        return over(em, loops, carried, visit)
    kind = em.type(p.result.dtype, is_vector=True)
    return over(em, loops[:1], carried, functools.partial(_in_one_way, em, p, kind, visit))


def _in_one_way(
    em: Emitter, p: Patch, kind: str, visit: Callable[..., list[str]], totals: list[str]
) -> list[str]:
    """The turns of all loops but the first, in the one of the ways whose condition holds."""

    def turn(_: str, values: list[str], together: int) -> Sequence[str]:
        carried = [(kind, value) for value in values]
        return over(em, p.loops[1:], carried, functools.partial(visit, together=together))

    for condition, together in p.ways:
        turns = em.put(em.top, f"zext i1 {em.value(condition).text} to i64")
        carried = [(kind, total) for total in totals]
        each = functools.partial(turn, together=together)
        totals = em.loop("0", turns, 1, carried, each, is_sure=False)
    return totals


def _added(
    em: Emitter, p: Patch, factors: Sequence[tuple[Value, Value]], total: Value, together: int
) -> Value:
    """``total`` and the products of ``factors``, one or as many as are small ``together``."""
    if together:
        return dot4_together(em, factors, total)
    return add_product(em, p.result.body, factors[0], total)


def _taps(p: Patch) -> list[Point]:
    """The taps of the edge one by one, each of which has loops of its own."""
    if p.edge is None:
        return [{}]
    count = p.edge.tap.extent
    return [{p.edge.tap: k} for k in range(count)] if isinstance(count, int) else []


def _finish(em: Emitter, p: Patch, totals: Sequence[tuple[Point, str]]) -> None:
    """Write some vectors of the box."""
    for point, total in totals:
        em.remember((em.moved(p.result, point), 0), Value(total, True, em.top))
    puts = [_put(em, p, point) for point, _ in totals]
    if p.width is None:
        store_all(em, [(put, 0) for put in puts])
        return
    for put, (point, _) in zip(puts, totals, strict=True):
        em.masks = {0: em.first_lanes(em.dim(substitute(p.width, point, {})), 0)}
        store(em, put, 0)


def _put(em: Emitter, p: Patch, point: Point) -> Put:
    """The store of one vector of the box."""
    guard = None if p.put.guard is None else em.moved(p.put.guard, point)
    address = substitute(p.put.address, point, {})
    return Put(p.put.buffer, address, em.moved(p.put.value, point), guard=guard)


def _stack(em: Emitter, p: Patch, count: int) -> str:
    """A pointer to so many sums on the stack."""
    return em.stack(count * em.lanes * size_of(p.result.dtype))


def _spill(em: Emitter, p: Patch, sums: Sequence[str], stack: str) -> None:
    """Store the ``sums`` at ``stack``."""
    dtype = p.result.dtype
    kind, size = em.type(dtype, is_vector=True), em.lanes * size_of(dtype)
    for k, total in enumerate(sums):
        place = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {k * size}")
        em.do(f"store {kind} {total}, ptr {place}, align {size_of(dtype)}")


def _finish_in_loop(
    em: Emitter, p: Patch, ranges: Sequence[Sequence[Place]], stack: str, some: str = ""
) -> None:
    """A loop over the longest span does the rest with the sums on the stack.

    Or over ``some`` values of the first one. A turn does as many values as make vectors that are
    written together.
    """
    size = em.lanes * size_of(p.result.dtype)
    longest = 0 if some else max(range(len(ranges)), key=lambda k: len(ranges[k]))
    strides = [math.prod(map(len, ranges[k + 1 :])) * size for k in range(len(ranges))]
    others = [list(enumerate(r)) for k, r in enumerate(ranges) if k != longest]
    other_strides = [s for k, s in enumerate(strides) if k != longest]
    axis, first = ranges[longest][0]

    def turn(i: str, _: list[str], count: int) -> Sequence[str]:
        here = Variable("q", axis.high + 2 - count if isinstance(axis, Variable) else 1)
        base = em.dim(first).text
        em.places[here] = Value(em.put(em.top, f"add nsw i64 {base}, {i}"), False, em.top)
        offset = em.put(em.top, f"mul nsw i64 {i}, {strides[longest]}")
        row = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
        totals = []
        for number, chosen in itertools.product(range(count), itertools.product(*others)):
            skip = sum(k * s for (k, _), s in zip(chosen, other_strides, strict=True))
            total = _total(em, p, row, number * strides[longest] + skip)
            totals.append(({axis: here.dim + number, **dict(pair for _, pair in chosen)}, total))
        _finish(em, p, totals)
        return []

    if some:
        em.loop("0", some, 1, [], functools.partial(turn, count=1), is_sure=True)
        return
    length, count = len(ranges[longest]), _at_once(p, math.prod(map(len, others)))
    whole = length - length % count
    for low, high, step in ((0, whole, count), (whole, length, 1)):
        if low < high:
            each = functools.partial(turn, count=step)
            em.loop(str(low), str(high), step, [], each, is_sure=True)


def _at_once(p: Patch, each: int) -> int:
    """How many values of which ``each`` makes so many vectors are done in a turn."""
    is_packed = p.width is None and p.put.guard is None and rounded_byte(p.put.value) is not None
    return max(1, MOST // each) if is_packed else 1


def _total(em: Emitter, p: Patch, row: str, place: int) -> str:
    """The sums that lie so many bytes behind ``row``."""
    where = em.put(em.top, f"getelementptr i8, ptr {row}, i64 {place}")
    kind = em.type(p.result.dtype, is_vector=True)
    return em.put(em.top, f"load {kind}, ptr {where}, align {size_of(p.result.dtype)}")
