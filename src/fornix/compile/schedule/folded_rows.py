"""Windows with steps along rows: their rows first, as one, then every n-th place of that.

To read every second element of a row takes two loads and a shuffle, for each tap, and masks where
there is padding. Here rows that lie in a window are reduced as they lie, to one in scratch memory,
which holds the padding as well; steps are taken in that alone. Decided is where that pays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import and_

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Spatial, window_over
from fornix.compile.cost import accesses, likely, outer_reductions, stride_of
from fornix.compile.nest import Block, Lanes, Loop, Nest, Put, Span, Statement, Sum, When, Window
from fornix.compile.schedule.chunks import chunked, in_scratch
from fornix.compile.schedule.inside import Extent, is_even, limits, needed_for
from fornix.compile.target import Target
from fornix.ir.dim import DimLike, ceildiv, less, maximum, minimum
from fornix.ir.dim.expression import coefficient
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    const,
    identity,
    index,
    load,
    replace,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.scalar import reduction

ROWS = 4
"""Rows of the result that are computed together: what is written is read again a while later, and
rows that windows share are read once."""
UNITS = 4
"""Vectors of a row that are handled together, if it is known how long that is."""
MAX_TAPS = 32
"""Of rows, and of columns: they are written out."""
MASKED, GATHERED = 2.0, 4.0
"""How much longer elements take to be read with masks that only a run tells, and with any masks by
processors that gather them then: those without AVX-512."""
VISIT = 6.0
"""Of a row in scratch memory, relative to a load."""


@dataclass(frozen=True)
class _Fold:
    """A reduction as two: that of `image`, over `rows`, by places of `axis`; and along `axis`."""

    result: Reduce
    axis: Spatial
    tap: Variable
    rows: tuple[Variable, ...]
    image: Scalar
    """What is reduced, where data are along `axis`."""
    data: Extent
    row: Buffer
    """Rows of what is reduced first."""


def folded_rows(store: Store, target: Target, lanes: int) -> Nest | None:
    """The nest of ``store``; None if it does not pay, or not for all that is reduced."""
    axes = [a for a in store.axes if a.extent != 1]
    if len(axes) < 2 or stride_of(store.address, axes[-1]) != 1:
        return None
    *others, run, vector = axes
    results = [e for e in outer_reductions(store.value) if accesses([e.body])]
    found = [_fold(e, run, vector, target, lanes) for e in results]
    folds = [f for f in found if f is not None]
    if not folds or len(folds) < len(found):
        return None
    store, counted = _counted(store, vector)
    turn, body = _blocks(store, folds, run, vector, lanes)
    chunks, parallel = chunked([*others, turn], body)
    rows = [f.row for f in folds]
    scratch, size = in_scratch([*rows, *(put.buffer for put in counted)])
    before: Block = (Lanes(vector, 1, counted),) if counted else ()
    body = (*(_padding(f) for f in folds), *before, chunks)
    changing = frozenset(scratch)
    return Nest("folded", body, lanes, parallel, scratch, size, changing, padded=frozenset(rows))


def _blocks(
    store: Store, folds: Sequence[_Fold], run: Variable, vector: Variable, lanes: int
) -> tuple[Variable, Block]:
    """The axis of blocks of rows, the last of which may overlap, and what happens in each.

    Where only a run tells how many rows there are, and there are too few, they are taken singly.
    """
    extent = run.extent
    count = -(-extent // -(-extent // ROWS)) if isinstance(extent, int) else ROWS
    is_enough = minimum(extent // count, 1)
    turn = Variable(run.name, ceildiv(extent, count) * is_enough + extent * (1 - is_enough))
    first = minimum(turn.dim * count, extent - count)
    block = _rows(store, folds, Span(run, first, count), vector, lanes)
    if isinstance(extent, int):
        return turn, block
    alone = _rows(store, folds, Span(run, turn.dim, 1), vector, lanes)
    are_many = apply("le", count, index(extent))
    return turn, (When(are_many, block), When(apply("not", are_many), alone))


def _counted(store: Store, vector: Variable) -> tuple[Store, tuple[Put, ...]]:
    """``store`` with counts of what lies in the data along ``vector`` in memory, and these."""
    counts = [e for e in outer_reductions(store.value) if e.variables == {vector}]
    buffers = [Buffer(f"counts{k}", (vector.extent,), e.dtype) for k, e in enumerate(counts)]
    pairs = list(zip(counts, buffers, strict=True))
    value = replace(store.value, {e: load(buffer, vector.dim) for e, buffer in pairs})
    puts = tuple(Put(buffer, vector.dim, e) for e, buffer in pairs)
    return Store(store.buffer, store.axes, store.address, value), puts


# ── what is folded ─────────────────────────────────────────────────────────────────────────────


def _fold(e: Reduce, run: Variable, vector: Variable, target: Target, lanes: int) -> _Fold | None:
    """``e`` in two parts, if they take less time."""
    if any(isinstance(x, Reduce) for x in walk(e.body)):
        return None
    for tap in e.axes:
        found = window_over(e.body, tap, [vector])
        if found is None or found.axis.stride == 1:
            continue
        axis, place = found.axis, found.axis.place
        data, image = _in_data(found.image, e.op, place)
        if any(place in g.variables for g in needed_for(image, e.op)):
            return None
        is_padded = data != (0, place.extent)
        steps = {stride_of(x.address, place) for x in accesses([image])}
        masks = _masks(vector.extent, target, lanes, is_padded=is_padded)
        if not steps <= {0, 1} or not _pays(e, axis, run, masks):
            return None
        beyond = ceildiv(vector.extent, lanes) * lanes - vector.extent
        buffer = Buffer("rows", (ROWS, place.extent + beyond * axis.stride), e.dtype)
        rows = tuple(a for a in e.axes if a is not tap)
        return _Fold(e, axis, tap, rows, image, data, buffer)
    return None


def _in_data(image: Scalar, op: str, place: Variable) -> tuple[Extent, Scalar]:
    """Between which places there are data, and ``image`` there."""
    own = [g for g in needed_for(image, op) if g.variables == {place} and is_even(g, place)]
    first: DimLike = 0
    end: DimLike = place.extent
    for guard in own:
        low, high = limits(guard, place)
        first, end = maximum(first, low), minimum(end, high)
    return (first, end), replace(image, dict.fromkeys(own, TRUE))


def _masks(extent: DimLike, target: Target, lanes: int, *, is_padded: bool) -> float:
    """How much longer masks let it take to read every n-th element of a row."""
    is_open = not isinstance(extent, int)
    if target.is_x86 and not target.has("avx512f"):
        return GATHERED if is_padded or is_open or extent % lanes else 1.0
    return MASKED if is_padded and is_open else 1.0


def _pays(e: Reduce, axis: Spatial, run: Variable, masks: float) -> bool:
    """Whether reading every n-th element of each row would take longer, by the cost of ``masks``.

    NB: rows that windows share are read once either way.
    """
    rows = [a for a in e.axes if a is not axis.tap]
    high, wide, step = math.prod(likely(a.extent) for a in rows), likely(axis.taps), axis.stride
    if max(high, wide) > MAX_TAPS:
        return False
    found = [window_over(e.body, a, [run]) for a in rows]
    shares = [w.axis.stride / likely(w.axis.taps) for w in found if w is not None]
    read = high * min([1.0, *shares])
    picked = wide * (2 * step - 1)
    return read * step + high * step + picked + VISIT < read * picked * masks


# ── how ────────────────────────────────────────────────────────────────────────────────────────


def _padding(f: _Fold) -> Loop:
    """What lies beside the data of rows, once and for all."""
    neutral = const(identity(f.result.op, f.result.dtype), f.result.dtype)
    count, pitch = f.row.shape
    row = Variable("r", count)
    first, end = f.data
    body = list[Lanes]()
    for start, stop in ((0, first), (end, pitch)):
        beside = Variable("y", stop - start)
        put = Put(f.row, f.row.address((row.dim, start + beside.dim)), neutral)
        body.append(Lanes(beside, 1, (put,)))
    return Loop(row, tuple(body))


def _rows(store: Store, folds: Sequence[_Fold], span: Span, vector: Variable, lanes: int) -> Block:
    """The rows of ``span``: what is reduced first, then the result."""
    new: dict[Scalar, Scalar] = {}
    for f in folds:
        place = f.row.address((span.axis.dim - span.start, f.axis.read))
        new[f.result] = reduction(f.result.op, (f.tap,), load(f.row, place))
    store = Store(store.buffer, store.axes, store.address, replace(store.value, new))
    turn = Variable("r", span.count)
    here = Span(span.axis, span.start + turn.dim, 1)

    def result(place: DimLike) -> Window:
        moved = rewritten(store, store.axes, {vector: place})
        put = Put(moved.buffer, moved.address, moved.value)
        return Window(here, _written(moved.value), put)

    first = (x for f in folds for x in _reduced(f, span, lanes))
    return (*first, Loop(turn, _in_vectors(vector.extent, lanes, result)))


def _reduced(f: _Fold, span: Span, lanes: int) -> Block:
    """What is reduced first; where all windows of ``span`` lie in the data, nothing is asked."""
    first, end = f.data

    def made(image: Scalar) -> Block:
        def rows(inside: DimLike) -> Window:
            place = first + inside
            e = reduction(f.result.op, f.rows, substitute_scalar(image, {f.axis.place: place}))
            put = Put(f.row, f.row.address((span.axis.dim - span.start, place)), e)
            return Window(span, _written(e), put)

        return _in_vectors(end - first, lanes, rows)

    needed = needed_for(f.image, f.result.op)
    guards = [e for e in walk(f.image) if e in needed]
    if not guards or span.count == 1:
        return made(f.image)
    ends: dict[Variable, Extent] = {a: (0, a.extent - 1) for a in f.rows}
    ends[span.axis] = span.start, span.start + (span.count - 1)
    is_inside = functools.reduce(and_, (_holds(g, ends) for g in guards))
    free = made(replace(f.image, dict.fromkeys(guards, TRUE)))
    return When(is_inside, free), When(apply("not", is_inside), made(f.image))


def _holds(guard: Scalar, ends: Mapping[Variable, Extent]) -> Scalar:
    """Whether ``guard`` does, for all that lies between the ``ends`` of axes."""
    least, surplus = guard.args
    lowest = surplus.dims[0]
    for axis, (first, last) in ends.items():
        slope, rest = coefficient(lowest, axis) or (0, lowest)
        lowest = rest + slope * (last if less(slope, 0) else first)
    return apply("le", least, index(lowest))


def _written(value: Scalar) -> tuple[Sum, ...]:
    """The sums in ``value`` of what lies in memory, their terms written out."""
    found = (e for e in outer_reductions(value) if accesses([e.body]))
    return tuple(Sum(e, e.body, (), (), e.axes) for e in found)


def _in_vectors(extent: DimLike, lanes: int, made: Callable[[DimLike], Statement]) -> Block:
    """What is ``made`` for all of ``extent``: in whole vectors, the last of which may overlap."""
    if isinstance(extent, int):
        axis = Variable("x", extent)
        return (Lanes(axis, UNITS, (made(axis.dim),)),)
    is_enough = minimum(extent // lanes, 1)
    turn, lane = Variable("v", ceildiv(extent, lanes) * is_enough), Variable("j", lanes)
    place = minimum(turn.dim * lanes, extent - lanes) + lane.dim
    short = Variable("x", extent * (1 - is_enough))
    return Loop(turn, (Lanes(lane, 1, (made(place),)),)), Lanes(short, 1, (made(short.dim),))


__all__ = ["folded_rows"]
