"""Windows: sums and extremes over a few neighbours, as in depthwise convolutions and pools.

Several elements that lie side by side along one axis, the run, are computed at once, so that what
their windows have in common is read once. Decided here are the run, the vector axis, how many
elements are computed at once, and which taps are loops. Where a run begins and ends its windows
reach beyond the data; these blocks stand apart, so that the blocks between them ask nothing. Taps
that lie outside of the data along other axes are left out of their loops. What does not move with
the run, such as filters, is laid out in vectors first, once and for all if it is stored data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.cost import (
    GATHER_COST,
    accesses,
    load_cost,
    outer_reductions,
    stride_of,
    useful_lanes,
)
from fornix.compile.nest import Block, Lanes, Loop, Nest, Put, Span, Sum, Taps, Window
from fornix.compile.schedule.chunks import chunked, looped
from fornix.compile.schedule.inside import is_even, limits, needed_for
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, ceildiv, exact_quotient, less, maximum, minimum
from fornix.ir.dim.expression import Atom, coefficient, substitute, variables
from fornix.ir.loops import (
    TRUE,
    Apply,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    load,
    replace,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.scalar import reduction

MAX_TAPS, MAX_EDGE = 4096, 128
"""Elements of a window that are few, in all and along an axis."""
MAX_WRITTEN = 1024
"""Elements that are read where terms are written out for one block, of words four for each term;
what is beyond becomes a loop over taps."""
MAX_WRITTEN_OPEN = 128
"""The same where extents are known at run time only: blocks are then written several times."""
MAX_WRITTEN_EVEN = 384
"""And where they are, but all blocks are alike: these are written once."""
RESERVED = 8
"""Vector registers that hold no accumulator: elements that are read, filters."""
MAX_RUN = 14
MAX_UNITS = 7
"""Vectors of a row that are handled together: 112 elements of 32 bits."""
LONG_UNITS, OPEN_UNITS = 4, 2
"""Of a row that is longer, and of one of unknown length, which single vectors end: with more, fewer
rows would share what they read."""
SOME_ROWS = 6
"""Elements of a run that are computed at once at least: rows of unknown length end in one vector of
them, and a multiplication waits for the one before."""
NEAR = 2
"""First caches that a small image fills: memory need not be read in order."""
HALF_PAYS = 1.25
"""Vectors of half the width are used where so many more of their lanes do work."""
MAX_POINTS = 32
"""Partial results that are combined to one: `emit.folds` writes no more out."""


@dataclass(frozen=True)
class _Plan:
    """Which axes are what, and how much is done at once."""

    run: Variable
    vector: Variable
    lanes: int
    units: int


def window_nest(store: Store, target: Target, lanes: int) -> tuple[list[Store], Store, Nest] | None:
    """Stores that have to be computed first, the rest of the work, and its nest.

    None if windows of ``store`` do not overlap, or lie in memory so that vectors do not pay.
    """
    folds = outer_reductions(store.value)
    if not folds or not all(map(_is_small, folds)):
        return None
    plan = _plan(store, folds, lanes)
    if plan is None:
        return None
    first, store = _packed(store, plan)
    store, plan, blocks = _in_blocks(store, plan)
    store, sums, count = _sums(store, plan, target)
    put = Put(store.buffer, store.address, store.value)
    least = _least(count, plan.run, folds)
    outer = [a for a in store.axes if a not in {plan.run, plan.vector, *blocks}]
    body: Block = tuple(_blocks(plan.run, count, least, sums, put))
    if not outer and _step(folds, plan.run) is None:
        body, outer = _apart(plan.run, count, sums, put)
    if not isinstance(plan.run.extent, int):
        body = (*body, *_one_by_one(plan, least, put))
    is_image = _step(folds, plan.vector) is not None
    goes_in_rows = is_image and not _is_near(plan, store, target)
    steps = tuple(_in_rows(plan, body)) if goes_in_rows else (_in_vectors(plan, body),)
    body = looped(blocks, steps)
    chunks, parallel = chunked(outer, body)
    return (
        first,
        store,
        Nest("window", (chunks,), plan.lanes, parallel, drops_subnormal=_has_products(folds)),
    )


def _is_near(plan: _Plan, store: Store, target: Target) -> bool:
    """Whether an image is known to be small: what its borders ask is then asked once a column."""
    places = plan.run.extent * plan.vector.extent
    most = NEAR * target.l1_bytes
    return isinstance(places, int) and places * store.buffer.dtype.bits <= 8 * most


def _in_vectors(plan: _Plan, body: Block) -> Lanes:
    return Lanes(plan.vector, plan.units, body)


def _in_rows(plan: _Plan, body: Block) -> Iterator[Loop | Lanes]:
    """``body`` in vectors, all of a row before the next ones: so memory is read in order."""
    for step in body:
        if isinstance(step, Loop):
            yield replace_fields(step, body=(_in_vectors(plan, step.body),))
        else:
            yield _in_vectors(plan, (step,))


def _has_products(folds: Sequence[Reduce]) -> bool:
    """Whether ``folds`` are sums of products, as in depthwise convolutions."""
    terms = (e.body for e in folds)
    return all(
        e.op == "sum" and e.dtype is FLOAT32 and isinstance(x, Apply) and x.op == "mul"
        for e, x in zip(folds, terms, strict=True)
    )


def _is_small(e: Reduce) -> bool:
    count = 1
    for axis in e.axes:
        if not isinstance(axis.extent, int) or axis.extent > MAX_EDGE:
            return False
        count *= axis.extent
    return count <= MAX_TAPS and not any(isinstance(x, Reduce) for x in walk(e.body))


# ── axes ───────────────────────────────────────────────────────────────────────────────────────


def _plan(store: Store, folds: Sequence[Reduce], lanes: int) -> _Plan | None:
    """The vector axis whose accesses are cheapest, with the run that shares most."""
    best: tuple[float, _Plan] | None = None
    for vector in store.axes:
        if stride_of(store.address, vector) != 1:
            continue
        runs = [(_step(folds, a), a) for a in store.axes if a is not vector]
        found = [(step, -store.axes.index(a), a) for step, a in runs if step]
        if not found and _step(folds, vector):
            beside = [a for a in store.axes if _is_beside(folds, a, vector)]
            found = [(1, -store.axes.index(a), a) for a in beside]
        if not found:
            continue
        _, _, run = min(found)
        costs = [load_cost(e, vector) for e in accesses([store.value]) if not _is_filter(e, run)]
        width = _width(vector.extent, lanes)
        cost = sum(costs) * lanes / useful_lanes(vector.extent, lanes)
        if max(costs, default=GATHER_COST) < GATHER_COST and (best is None or cost < best[0]):
            is_image = _step(folds, vector) is not None
            units = _units(vector.extent, width, folds) if is_image else 1
            best = cost, _Plan(run, vector, width, units)
    return None if best is None else best[1]


def _is_beside(folds: Sequence[Reduce], axis: Variable, vector: Variable) -> bool:
    """Whether rows along ``vector`` of all values of ``axis`` have the same filters."""
    loads = accesses(folds)
    if axis is vector:
        return False
    return all((axis in e.variables) == (vector in e.variables) for e in loads)


def _is_filter(e: Load, run: Variable) -> bool:
    """Whether it is the same for the whole run, wherever it is read."""
    return run not in e.variables and e.guard is None


def _step(folds: Iterable[Reduce], run: Variable) -> int | None:
    """How many taps windows move on from one value of ``run`` to the next, if they overlap."""
    steps = [step for e in folds for tap in e.axes if (step := _stride(e, tap, run)) is not None]
    return min(steps, default=None)


def _stride(e: Reduce, tap: Variable, run: Variable) -> int | None:
    """Over how many taps a step of ``run`` moves; 1 also where taps are further apart."""
    for node in walk(e.body):
        for d in node.dims:
            of_run, of_tap = coefficient(d, run), coefficient(d, tap)
            if of_run is None or of_tap is None or of_run[0] == 0 or of_tap[0] == 0:
                continue
            stride = exact_quotient(of_run[0], of_tap[0])
            if isinstance(stride, int) and stride > 0 and less(stride, tap.extent):
                return stride
            dilation = exact_quotient(of_tap[0], of_run[0])
            if isinstance(dilation, int) and dilation > 1 and _may_be_less(dilation, run.extent):
                return 1
    return None


def _may_be_less(dilation: int, extent: DimLike) -> bool:
    return dilation < extent if isinstance(extent, int) else True


def _width(extent: DimLike, lanes: int) -> int:
    """All lanes of a register, or half of them where the others would have little to do."""
    half = lanes // 2
    if not isinstance(extent, int) or half < 1:
        return lanes
    gain = (useful_lanes(extent, half) / half) / (useful_lanes(extent, lanes) / lanes)
    return half if gain >= HALF_PAYS else lanes


def _units(extent: DimLike, lanes: int, folds: Sequence[Reduce]) -> int:
    """Vectors at once along an axis of the image."""
    if not isinstance(extent, int):
        terms = max(_volume(e.axes) for e in folds)
        return max(1, min(OPEN_UNITS, MAX_WRITTEN_OPEN // (SOME_ROWS * terms)))
    vectors = -(-extent // lanes)
    return vectors if vectors <= MAX_UNITS else LONG_UNITS


def _in_blocks(store: Store, plan: _Plan) -> tuple[Store, _Plan, list[Variable]]:
    """``store`` with channels that end within a vector in whole ones, and the axis of these.

    The last one overlaps that before it: a masked one would have all windows written once more.
    """
    count, lanes = plan.vector.extent, plan.lanes
    if not isinstance(count, int) or plan.units > 1 or count < lanes or count % lanes == 0:
        return store, plan, []
    block, lane = Variable("v", -(-count // lanes)), Variable(plan.vector.name, lanes)
    place = minimum(block.dim * lanes, count - lanes) + lane.dim
    axes = [x for a in store.axes for x in ((block, lane) if a is plan.vector else (a,))]
    store = rewritten(store, axes, {plan.vector: place})
    return store, replace_fields(plan, vector=lane), [block]


# ── filters ────────────────────────────────────────────────────────────────────────────────────


def _packed(store: Store, plan: _Plan) -> tuple[list[Store], Store]:
    """Copies of what varies along the vectors but not along the run, its lanes side by side."""
    first: list[Store] = []
    new: dict[Scalar, Scalar] = {}
    for e in accesses([store.value]):
        if not _is_filter(e, plan.run) or stride_of(e.address, plan.vector) in {0, 1}:
            continue
        if not all(isinstance(a, Variable) for a in e.variables):
            continue
        others = [a for a in e.variables if isinstance(a, Variable) and a is not plan.vector]
        axes = (*sorted(others, key=lambda a: a.key), plan.vector)
        copy = filled("filters", axes, e)
        first.append(copy)
        new[e] = load(copy.buffer, copy.buffer.address(tuple(a.dim for a in axes)))
    if not new:
        return [], store
    return first, Store(store.buffer, store.axes, store.address, replace(store.value, new))


# ── sums ───────────────────────────────────────────────────────────────────────────────────────


def _sums(store: Store, plan: _Plan, target: Target) -> tuple[Store, tuple[Sum, ...], int]:
    """The reductions as they are computed, and for how many elements at once."""
    room = target.vector_registers - RESERVED
    is_open = not all(isinstance(a.extent, int) for a in (plan.run, plan.vector))
    most = MAX_WRITTEN_EVEN if _is_even(store.value, plan.run) else MAX_WRITTEN_OPEN
    written = (most if is_open else MAX_WRITTEN) // plan.units
    new: dict[Scalar, Scalar] = {}
    sums: list[Sum] = []
    count = MAX_RUN
    folds = outer_reductions(store.value)
    for e in folds:
        moving = tuple(a for a in e.axes if _moves(e, a, plan.run))
        found = _partial(e, moving, plan.run)
        if found is None:
            sums.append(_sum(e, (), moving, plan))
            count = min(count, room // plan.units)
        else:
            new[e] = found[0]
            sums.append(_sum(found[1], moving, (), plan))
            step, points = _step([e], plan.run) or 1, _volume(moving)
            count = min(count, (room // plan.units - points) // step + 1)
        few = min(count, SOME_ROWS // plan.units)
        count = min(count, max(written // (_volume(sums[-1].written) * _reads(e, plan)), few))
    count = _balanced(plan.run.extent, max(count, 1), _step(folds, plan.run) or 1)
    sums = [_fitting(s, written // (count * _reads(s.result, plan))) for s in sums]
    value = replace(store.value, new) if new else store.value
    return Store(store.buffer, store.axes, store.address, value), tuple(sums), count


def _reads(e: Reduce, plan: _Plan) -> int:
    """How many elements a term of ``e`` reads, but for filters: those of a word may lie apart."""
    return max(1, sum(not _is_filter(x, plan.run) for x in accesses([e.body])))


def _is_even(value: Scalar, run: Variable) -> bool:
    """Whether windows are the same where ``run`` begins and ends: none reaches beyond the data."""
    conditions = [e.args[0] for e in walk(value) if isinstance(e, Apply) and e.op == "select"]
    guards = [e.guard for e in accesses([value]) if e.guard is not None]
    return not any(run in e.variables for e in (*conditions, *guards))


def _volume(axes: Iterable[Variable]) -> int:
    return math.prod(a.extent for a in axes if isinstance(a.extent, int))


def _balanced(extent: DimLike, count: int, step: int) -> int:
    """At most ``count``: so many that blocks of ``extent`` hardly overlap, as rows often are.

    Windows that move on by a ``step`` of several taps leave few rows, and share less.
    """
    half = MAX_RUN // 2
    if not isinstance(extent, int):
        return half if half <= count and (count < MAX_RUN or step > 1) else count
    return -(-extent // -(-extent // count))


def _moves(e: Reduce, tap: Variable, run: Variable) -> bool:
    """Whether windows along ``run`` have elements along ``tap`` in common, or a guard asks of both.

    An address holds all axes; whether they meet in it, their steps tell.
    """
    guards = (g for node in walk(e.body) if not isinstance(node, Load) for g in node.dims)
    return _stride(e, tap, run) is not None or any({tap, run} <= variables(d) for d in guards)


def _partial(
    e: Reduce, moving: tuple[Variable, ...], run: Variable
) -> tuple[Scalar, Reduce] | None:
    """``e`` as a reduction of partial ones, which the elements of a run share; also the latter."""
    still = tuple(a for a in e.axes if a not in moving)
    if not moving or not still or _volume(moving) > MAX_POINTS:
        return None
    taps = range(_volume(moving[:1]))
    body = replace(e.body, dict.fromkeys(needed_for(e.body, e.op), TRUE))  # padding is all alike
    bodies = [substitute_scalar(body, {run: t, moving[0]: k}) for t in (0, 1) for k in taps]
    if len(set(bodies)) == len(bodies):
        return None
    inner = reduction(e.op, still, e.body)
    whole = reduction(e.op, moving, inner)
    return (whole, inner) if isinstance(inner, Reduce) else None


def _sum(e: Reduce, around: tuple[Variable, ...], moving: Sequence[Variable], plan: _Plan) -> Sum:
    """``e`` with the taps that a guard limits as loops, all others written out."""
    fixed = frozenset({plan.run, plan.vector, *e.axes, *around})
    body, loops = _limited(e.op, e.body, [a for a in e.axes if a not in moving], fixed)
    limited = {taps.axis for taps in loops}
    return Sum(e, body, around, tuple(loops), tuple(a for a in e.axes if a not in limited))


def _limited(
    op: str, body: Scalar, taps: Iterable[Variable], fixed: frozenset[Variable]
) -> tuple[Scalar, list[Taps]]:
    """``body`` without the guards that limit one of ``taps``, and loops over as many as they let.

    What depends on another of the ``fixed`` axes limits none, nor what asks for a quotient of one.
    """
    loops = []
    needed = needed_for(body, op)
    for tap in taps:
        own = [g for g in needed if tap in g.variables and not g.variables & (fixed - {tap})]
        guards = [g for g in own if is_even(g, tap)]
        if not guards:
            continue
        low: DimLike = 0
        high: DimLike = tap.extent
        for guard in guards:
            first, end = limits(guard, tap)
            low, high = maximum(low, first), minimum(high, end)
        body = replace(body, dict.fromkeys(guards, TRUE))
        loops.append(Taps(tap, low, high))
    return body, loops


def _fitting(s: Sum, room: int) -> Sum:
    """``s`` with as many more loops as it takes to write out ``room`` terms, or taps of one axis.

    Where so many taps are left, elements are computed one by one: they would share nothing.
    """
    loops, written = list(s.loops), list(s.written)
    while len(written) > 1 and _volume(written) > room:
        axis = written.pop(0)
        loops.append(Taps(axis, 0, axis.extent))
    return Sum(s.result, s.body, s.around, tuple(loops), tuple(written))


# ── blocks ─────────────────────────────────────────────────────────────────────────────────────


def _least(count: int, run: Variable, folds: Sequence[Reduce]) -> int:
    """The extent of ``run`` from which on blocks of ``count`` pay: most taps have to meet data."""
    if all(_is_even(e, run) for e in folds):
        return count
    taps = (a.extent for e in folds for a in e.axes if _moves(e, a, run))
    return max(count, *(n // 2 for n in taps if isinstance(n, int)), 1)


def _blocks(
    run: Variable, count: int, least: int, sums: tuple[Sum, ...], put: Put
) -> Iterator[Loop | Window]:
    """``run`` in blocks of ``count``: the first, those between, the last, which may overlap.

    None where only a run tells the extent, and it is below ``least``: see `_one_by_one`.
    """
    extent = run.extent

    def window(start: DimLike) -> Window:
        return Window(Span(run, start, count), sums, put)

    if not isinstance(extent, int):
        fits = minimum(extent // least, 1)
        if _is_even(put.value, run):
            turn = Variable(run.name, ceildiv(extent, count) * fits)
            yield Loop(turn, (window(minimum(turn.dim * count, extent - count)),))
            return
        is_long = Variable(run.name, fits)
        yield Loop(is_long, (window(0),))
        between = Variable(run.name, (ceildiv(extent, count) - 2) * fits)
        yield Loop(between, (window((between.dim + 1) * count),))
        is_longer = Variable(run.name, minimum((extent - 1) // count, 1) * fits)
        yield Loop(is_longer, (window(extent - count),))
        return
    blocks = -(-extent // count)
    yield window(0)
    if blocks > 2:
        between = Variable(run.name, blocks - 2)
        yield Loop(between, (window((between.dim + 1) * count),))
    if blocks > 1:
        yield window(extent - count)


def _apart(
    run: Variable, count: int, sums: tuple[Sum, ...], put: Put
) -> tuple[Block, list[Variable]]:
    """Blocks of rows beside each other, which may be computed in any order, and their axis."""
    turn = Variable(run.name, ceildiv(run.extent, count))
    body: Block = (
        Window(Span(run, minimum(turn.dim * count, run.extent - count), count), sums, put),
    )
    if not isinstance(run.extent, int):
        body = (Loop(Variable(run.name, minimum(run.extent // count, 1)), body),)
    return body, [turn]


def _one_by_one(plan: _Plan, least: int, put: Put) -> Block:
    """Each element on its own, if there are fewer than ``least``: of many taps few meet data.

    Nothing where there never are.
    """
    extent = plan.run.extent
    turn = Variable(plan.run.name, extent * (1 - minimum(extent // least, 1)))
    if turn.extent == 0:
        return ()
    alone = tuple(_of_one(e, plan, turn) for e in outer_reductions(put.value))
    return (Loop(turn, (Window(Span(plan.run, turn.dim, 1), alone, put),)),)


def _of_one(e: Reduce, plan: _Plan, turn: Variable) -> Sum:
    """``e`` for the element ``turn`` of the run, with all taps that a guard limits as loops."""
    inner = e.body
    axes, body = e.axes, inner
    if isinstance(inner, Reduce):
        axes, body = (*axes, *inner.axes), inner.body
    body, loops = _limited(e.op, body, axes, frozenset({plan.vector, *axes}))
    at: dict[Atom, DimLike] = {plan.run: turn.dim}
    loops = [Taps(x.axis, *(substitute(d, at, {}) for d in (x.low, x.high))) for x in loops]
    limited = {x.axis for x in loops}
    written = tuple(a for a in axes if a not in limited)
    return _fitting(Sum(e, body, (), tuple(loops), written), MAX_WRITTEN_OPEN // plan.units)


__all__ = ["window_nest"]
