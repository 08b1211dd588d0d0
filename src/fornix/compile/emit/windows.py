"""Windows of neighbours: their sums or extremes at once, what they have in common read once.

Which elements share what is not said anywhere: it is one expression, and what an open level has
computed it remembers. Taps that are known to lie outside of the data add nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fornix.compile.cost import outer_reductions
from fornix.compile.emit.builder import Value
from fornix.compile.emit.folds import over, start, step
from fornix.compile.emit.memory import store
from fornix.compile.emit.types import literal, size_of
from fornix.compile.nest import Put, Sum, Window
from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Apply,
    Const,
    Reduce,
    Scalar,
    Variable,
    identity,
)

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

INLINE_WORK = 256
"""Operations after the sums that are written out for all elements; more of them become a loop."""
FUNCTION_WORK = 16
"""What a mathematical function counts as."""
FUNCTIONS = {"exp", "log", "erf", "tanh", "sin", "cos", "pow", "div"}

Point = dict[Atom, DimLike]


class _Total(NamedTuple):
    """A reduction, its body, and the vector for which it is computed; None: for all lanes alike."""

    result: Reduce
    body: Scalar
    unit: int | None


def window(em: Emitter, w: Window) -> None:
    """The sums of one block, then what is done with them."""
    points: list[Point] = [{w.span.axis: w.span.start + k} for k in range(w.span.count)]
    for s in w.sums:
        _compute(em, s, points)
    if _work(w.put.value) * len(points) * len(em.units) <= INLINE_WORK:
        for point in points:
            _write(em, w.put, point)
    else:
        _write_in_loop(em, w, points)


def _points(axes: Iterable[Variable]) -> list[Point]:
    """All combinations of the values of ``axes``."""
    ranges = [[(a, k) for k in range(a.extent)] for a in axes if isinstance(a.extent, int)]
    return [dict(pairs) for pairs in itertools.product(*ranges)]


# ── sums ───────────────────────────────────────────────────────────────────────────────────────


def _compute(em: Emitter, s: Sum, points: Sequence[Point]) -> None:
    """Every reduction that ``s`` is for some of ``points``, remembered for who asks."""
    places = [{**point, **tap} for point in points for tap in _points(s.around)]
    pairs = [(em.moved(s.result, p), em.moved(s.body, p)) for p in places]
    totals = [
        _Total(e, body, unit)
        for e, body in dict(pairs).items()
        if isinstance(e, Reduce)
        for unit in (em.units if em.depends(e) else (None,))
        if em.find((e, unit)) is None
    ]
    taps = _points(s.written)

    def add(values: Sequence[Value | None]) -> list[Value | None]:
        found = list(values)
        for tap in taps:
            for k, total in enumerate(totals):
                found[k] = _added(em, total, found[k], em.moved(total.body, tap))
        return found

    results = _looped(em, s, totals, add) if s.loops else add([None] * len(totals))
    for total, result in zip(totals, results, strict=True):
        neutral = literal(identity(total.result.op, total.result.dtype), total.result.dtype)
        em.remember((total.result, total.unit), result or Value(neutral, False, 0))


def _added(em: Emitter, total: _Total, before: Value | None, term: Scalar) -> Value | None:
    """``before`` combined with ``term``."""
    op, unit = total.result.op, total.unit or 0
    if _is_neutral(term, op):
        return before
    return em.value(term, unit) if before is None else step(em, op, before, term, unit)


def _is_neutral(term: Scalar, op: str) -> bool:
    """Whether it is what lies outside of the data, or a multiple of that."""
    if isinstance(term, Const):
        return bool(term.value == identity(op, term.dtype))
    if not isinstance(term, Apply):
        return False
    if term.op == "mul" and op == "sum":
        return any(_is_neutral(factor, op) for factor in term.args)
    return term.op == "cast" and _is_neutral(term.args[0], op)


def _looped(
    em: Emitter,
    s: Sum,
    totals: Sequence[_Total],
    add: Callable[[Sequence[Value | None]], list[Value | None]],
) -> list[Value]:
    """The loops of ``s`` around ``add``."""
    op, dtype = s.result.op, s.result.dtype
    wide = [total.unit is not None for total in totals]
    kinds = [em.type(dtype, is_vector=w) for w in wide]

    def turn(given: Sequence[str]) -> list[str]:
        before = [Value(text, w, em.top) for text, w in zip(given, wide, strict=True)]
        after = [new or old for new, old in zip(add(before), before, strict=True)]
        return [_text(em, v, dtype, is_vector=w) for v, w in zip(after, wide, strict=True)]

    first = [start(op, dtype, is_vector=w) for w in wide]
    carried = list(zip(kinds, first, strict=True))
    results = over(em, s.loops, carried, turn)
    return [Value(text, w, em.top) for text, w in zip(results, wide, strict=True)]


def _text(em: Emitter, v: Value, dtype: DType, *, is_vector: bool) -> str:
    return em.splat(v, dtype) if is_vector else v.text


# ── results ────────────────────────────────────────────────────────────────────────────────────


def _work(value: Scalar) -> int:
    """Operations around the sums of ``value``."""
    work, waiting, seen = 0, [value], set[Scalar]()
    while waiting:
        e = waiting.pop()
        if e in seen or isinstance(e, Reduce):
            continue
        seen.add(e)
        if isinstance(e, Apply):
            work += FUNCTION_WORK if e.op in FUNCTIONS else 1
        waiting += e.args
    return work


def _write(em: Emitter, put: Put, point: Point) -> None:
    """One element of the span, or its vectors."""
    address = substitute(put.address, point, {})
    moved = Put(put.buffer, address, em.moved(put.value, point))
    for unit in em.units if em.depends(address) else (0,):
        store(em, moved, unit)


def _write_in_loop(em: Emitter, w: Window, points: Sequence[Point]) -> None:
    """The sums go to the stack, but for those alike; a loop over the span does the rest."""
    axis = w.span.axis
    sums = [e for e in outer_reductions(w.put.value) if axis in e.variables]
    stacks = [_kept(em, e, points) for e in sums]
    here = Variable("q", axis.extent)
    first = em.dim(w.span.start).text

    def turn(i: str, _: list[str]) -> Sequence[str]:
        em.places[here] = Value(em.put(em.top, f"add nsw i64 {first}, {i}"), False, em.top)
        for e, stack in zip(sums, stacks, strict=True):
            size = em.lanes * size_of(e.dtype)
            moved = em.moved(e, {axis: here.dim})
            kind = em.type(e.dtype, is_vector=True)
            offset = em.put(em.top, f"mul nsw i64 {i}, {size * len(em.units)}")
            row = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
            for k, unit in enumerate(em.units):
                place = em.put(em.top, f"getelementptr i8, ptr {row}, i64 {k * size}")
                text = em.put(em.top, f"load {kind}, ptr {place}, align {size_of(e.dtype)}")
                key = (moved, unit if em.depends(moved) else None)
                em.remember(key, Value(text, True, em.top))
        _write(em, w.put, {axis: here.dim})
        return []

    em.loop("0", str(len(points)), 1, [], turn, is_sure=True)


def _kept(em: Emitter, e: Reduce, points: Sequence[Point]) -> str:
    """Memory on the stack with ``e`` at ``points``, in every vector of each."""
    size = em.lanes * size_of(e.dtype)
    stack = em.stack(len(points) * len(em.units) * size)
    kind = em.type(e.dtype, is_vector=True)
    for k, point in enumerate(points):
        moved = em.moved(e, point)
        for u, unit in enumerate(em.units):
            text = em.splat(em.value(moved, unit), e.dtype)
            offset = (k * len(em.units) + u) * size
            place = em.put(em.top, f"getelementptr i8, ptr {stack}, i64 {offset}")
            em.do(f"store {kind} {text}, ptr {place}, align {size_of(e.dtype)}")
    return stack


__all__ = ["window"]
