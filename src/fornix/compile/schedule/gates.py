"""Scans whose steps multiply states by weights: recurrent layers.

Decides which stores of a step are computed together, because they sum over the same states; how the
weights of all their sums are packed, once, in the order of their use; what is prepared for the
sums, row by row, as states are rounded to bytes; and into which chunks the work falls. Along an
axis whose slices never read each other, such as directions and sequences of a batch, each chunk
takes all its steps alone, so that no thread waits within a scan. Where there is one slice, threads
share the columns of each step if these read many weights, and wait for each other after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from fornix.compile.axes import rewritten
from fornix.compile.cost import accesses, lanes_for, outer_reductions, stride_of
from fornix.compile.nest import Block, Chunks, Gates, Loop, Nest, Put, When
from fornix.compile.products import Product, products
from fornix.compile.schedule.chunks import looped
from fornix.compile.schedule.map import alone
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.ir.dim import DimLike, ceildiv, is_nonnegative, long_division, maximum, minimum
from fornix.ir.dim.expression import Atom, coefficient
from fornix.ir.loops import (
    Apply,
    Buffer,
    Load,
    Reduce,
    Scalar,
    Scan,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    select,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction

ROWS = 8
"""Rows of a chunk at most: so many share the weights that a step reads."""
VECTORS = 4
"""Accumulators of a row at least, where one row is all there is: additions take so many cycles."""

SHARED_WEIGHTS = 32768
"""Weights that a chunk of a step reads at least, which threads share: they take 0.5 µs."""


@dataclass(frozen=True)
class Phase:
    """Stores of a step that are computed together: the sums in them have one left factor."""

    stores: tuple[Store, ...]
    sums: Mapping[Reduce, Product]
    term: Variable
    """What is summed over."""

    @property
    def left(self) -> Scalar:
        return next(iter(self.sums.values())).left

    @property
    def rights(self) -> list[Scalar]:
        return [p.right for p in self.sums.values()]


@dataclass(frozen=True)
class Axes:
    """The axes that all stores of a step share."""

    outer: tuple[Variable, ...]
    row: Variable | None
    """An axis that no weight depends on."""
    column: Variable


@dataclass(frozen=True)
class Steps:
    """How a scan runs: what is packed first, the stores of its steps, and its nest."""

    packed: tuple[Store, ...]
    stores: tuple[Store, ...]
    nest: Nest


def gate_steps(scan: Scan, target: Target) -> Steps | None:
    """The steps of ``scan`` if all they store are sums of products of states, else None."""
    axes = scan.steps[0].axes
    prepared, inner = _parted(scan.inner, axes)
    left = [a for a in axes if a.extent != 1]
    aligned = [_over(store, axes, left) for store in (*inner, *scan.steps)]
    if prepared is None or None in aligned:
        return None
    stores = [store for store in aligned if store is not None]
    if not left or any(0 in [a.extent for a in s.axes] for s in (*stores, *prepared)):
        return None
    phases = _phases(stores, left[-1], {store.buffer for store in inner})
    if phases is None or not _are_weights(phases, scan):
        return None
    found = _axes(left, phases)
    if not _are_apart([*prepared, *stores], found):
        return None
    values, dtypes = [s.value for s in stores], [s.buffer.dtype for s in stores]
    lanes = lanes_for(values, dtypes, target.vector_bytes)
    packed, plans = _plans(phases, found, lanes)
    done = (*prepared, *(store for plan in plans for store in plan.stores))
    return Steps(packed, done, _nest(scan, (prepared, plans), found, target, lanes))


def _parted(
    inner: Sequence[Store], axes: Sequence[Variable]
) -> tuple[list[Store] | None, list[Store]]:
    """Of what is stored within a step: what is prepared, over ``axes`` but the last; the rest.

    None in place of the first if it is no row's own, or reads some of the rest.
    """
    extents = [a.extent for a in axes]
    rest = [store for store in inner if [a.extent for a in store.axes] == extents]
    others = [store for store in inner if store not in rest]
    if not others:
        return [], rest
    lead = axes[:-1]
    prepared = [_over(store, lead, store.axes[len(lead) :]) for store in others]
    read = {e.buffer for e in accesses([store.value for store in others])}
    if None in prepared or axes[-1].extent == 1 or read & {store.buffer for store in rest}:
        return None, rest
    return [store for store in prepared if store is not None], rest


def _over(store: Store, axes: Sequence[Variable], left: Sequence[Variable]) -> Store | None:
    """``store`` over ``left``, with ``axes`` for its first ones; None if they differ in extent."""
    first = store.axes[: len(axes)]
    if [a.extent for a in first] != [a.extent for a in axes]:
        return None
    pairs = zip(first, axes, strict=True)
    places: dict[Atom, DimLike] = {old: 0 if new.extent == 1 else new.dim for old, new in pairs}
    return rewritten(store, left, places)


# ── what is computed together ──────────────────────────────────────────────────────────────────


def _phases(
    stores: Sequence[Store], column: Variable, inner: AbstractSet[Buffer]
) -> list[Phase] | None:
    """``stores`` in their order, joined where their sums share the left factor."""
    phases: list[Phase] = []
    term: Variable | None = None
    for store in stores:
        if stride_of(store.address, column) != 1:
            return None
        term = term or _term(store)
        found = None if term is None else _phase(store, column, term)
        if found is None:
            return None
        joined = _joined(phases[-1], found, inner) if phases else None
        if joined is None:
            phases.append(found)
        else:
            phases[-1] = joined
    return phases


def _term(store: Store) -> Variable | None:
    """A variable for what the sums in ``store`` run over; None if there are none."""
    sums = outer_reductions(store.value)
    return Variable("k", sums[0].axes[0].extent) if sums else None


def _phase(store: Store, column: Variable, term: Variable) -> Phase | None:
    """``store`` with its sums over ``term``; None unless they share their left factor."""
    new: dict[Scalar, Scalar] = {}
    sums: dict[Reduce, Product] = {}
    for e in outer_reductions(store.value):
        product = _product(e, column, term)
        if product is None:
            return None
        total = reduction("sum", (term,), product.of(product.left, product.right))
        if not isinstance(total, Reduce):
            return None
        new[e] = total
        sums[total] = product
    if len({(p.left, p.op, p.is_turned) for p in sums.values()}) != 1:
        return None
    store = Store(store.buffer, store.axes, store.address, replace(store.value, new))
    return Phase((store,), sums, term)


def _product(e: Reduce, column: Variable, term: Variable) -> Product | None:
    """The product that ``e`` sums; only its right factor depends on ``column``."""
    if e.op != "sum" or len(e.axes) != 1 or e.axes[0].extent != term.extent:
        return None
    body = substitute_scalar(e.body, {e.axes[0]: term.dim})
    if not body.dtype.is_float and not (isinstance(body, Apply) and body.op == "dot4"):
        return None
    for p in products(body):
        is_fit = isinstance(p.left, Load) and column not in p.left.variables
        if is_fit and column in p.right.variables:
            return p
    return None


def _joined(a: Phase, b: Phase, inner: AbstractSet[Buffer]) -> Phase | None:
    """Both as one; None if their left factors differ, or ``b`` needs what ``a`` makes."""
    made = {store.buffer for store in a.stores}
    read = {e.buffer for store in b.stores for e in accesses([store.value])}
    if a.left is not b.left or made & read & inner:
        return None
    return Phase((*a.stores, *b.stores), {**a.sums, **b.sums}, a.term)


def _are_weights(phases: Sequence[Phase], scan: Scan) -> bool:
    """Whether all right factors are the same at all times."""
    made = {store.buffer for store in (*scan.starts, *scan.inner)}
    rights = [e for phase in phases for e in phase.rights]
    read = {e.buffer for e in accesses(rights)}
    return not made & read and not any(scan.time in e.variables for e in rights)


# ── which axes are chunks ──────────────────────────────────────────────────────────────────────


def _axes(axes: Sequence[Variable], phases: Sequence[Phase]) -> Axes:
    """Rows are the last axis that states depend on and no weight does."""
    *others, column = axes
    weighed = {v for phase in phases for e in phase.rights for v in e.variables}
    rows = [a for a in others if a not in weighed and all(a in p.left.variables for p in phases)]
    row = rows[-1] if rows else None
    return Axes(tuple(a for a in others if a is not row), row, column)


def _are_apart(stores: Sequence[Store], axes: Axes) -> bool:
    """Whether no slice of rows or outer axes reads what another one writes."""
    values = [store.value for store in stores]
    for store in stores:
        own = [e.address for e in accesses(values) if e.buffer is store.buffer]
        for axis in (*axes.outer, *([axes.row] if axes.row else [])):
            split = coefficient(store.address, axis)
            if split is None or not all(
                _is_digit(address, axis, split[0]) for address in (store.address, *own)
            ):
                return False
    return True


def _is_digit(address: DimLike, axis: Variable, pitch: DimLike) -> bool:
    """Whether ``address`` is ``(… · extent + axis)·pitch + rest``, with a rest below ``pitch``."""
    _, rest = long_division(address - axis.dim * pitch, pitch * axis.extent)
    return is_nonnegative(rest) is True and is_nonnegative(pitch - 1 - rest) is True


# ── weights, in the order of their use ─────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """A phase that reads packed weights: its columns are panels of `width`."""

    stores: tuple[Store, ...]
    sums: tuple[Reduce, ...]
    panel: Variable
    column: Variable
    columns: DimLike
    units: int


def _plans(phases: Sequence[Phase], axes: Axes, lanes: int) -> tuple[tuple[Store, ...], list[Plan]]:
    """What is packed, and the phases by panels."""
    packed, plans = [], []
    for phase in phases:
        extent = axes.column.extent
        units = max(1, VECTORS // len(phase.sums))
        if isinstance(extent, int):
            units = min(units, -(-extent // lanes))
        panel = Variable("p", ceildiv(extent, units * lanes))
        column = Variable("j", units * lanes)
        weights, rights = _packed(phase, axes, panel, column)
        packed.append(weights)
        new: dict[Scalar, Scalar] = {
            e: reduction("sum", (phase.term,), product.of(phase.left, right))
            for (e, product), right in zip(phase.sums.items(), rights, strict=True)
        }
        at: dict[Atom, DimLike] = {axes.column: panel.dim * column.extent + column.dim}
        stores = [
            rewritten(
                Store(s.buffer, s.axes, s.address, replace(s.value, new)),
                [*s.axes[:-1], panel, column],
                at,
            )
            for s in phase.stores
        ]
        sums = tuple(e for e in new.values() if isinstance(e, Reduce))
        plans.append(Plan(tuple(stores), sums, panel, column, extent, units))
    return tuple(packed), plans


def _packed(
    phase: Phase, axes: Axes, panel: Variable, column: Variable
) -> tuple[Store, list[Scalar]]:
    """The weights of all sums, term by term and in each sum by sum; and what the sums read."""
    at = panel.dim * column.extent + column.dim
    inside = apply("lt", index(at), index(axes.column.extent))
    rights = [substitute_scalar(e, {axes.column: at}) for e in phase.rights]
    which = Variable("g", len(rights))
    value = rights[-1]
    for k in reversed(range(len(rights) - 1)):
        value = select(apply("lt", index(which.dim), k + 1), rights[k], value)
    value = select(inside, guarded(value, inside), 0)
    outer = [a for a in axes.outer if any(a in e.variables for e in rights)]
    store = filled("weights", (*outer, panel, phase.term, which, column), value)
    lead = [*(a.dim for a in outer), panel.dim, phase.term.dim]
    address = store.buffer.address
    reads = [load(store.buffer, address((*lead, k, column.dim))) for k in range(len(rights))]
    return store, reads


# ── the loops ──────────────────────────────────────────────────────────────────────────────────


def _nest(
    scan: Scan,
    work: tuple[Sequence[Store], Sequence[Plan]],
    axes: Axes,
    target: Target,
    lanes: int,
) -> Nest:
    """The nest of ``work``: what is prepared in each step, and what is computed then."""
    prepared, plans = work
    chunks = list(axes.outer)
    first: DimLike = 0
    end: DimLike = 1
    if axes.row is not None:
        end = axes.row.extent
        # Twice as many rows multiply a vector of weights in the time that it takes to come.
        needs_more = target.is_wide or _is_even(axes.outer)
        count, rows = divided(end, 4 if needs_more else 2)
        if count != 1:
            block = Variable("q", count)
            first, end = block.dim * rows, minimum(block.dim * rows + rows, end)
            chunks.append(block)
    steps: Block = tuple(
        Loop(plan.panel, (_gates(plan, axes, (first, end), target),), scan.time) for plan in plans
    )
    steps = (*_preparation(prepared, axes.row, (first, end), lanes), *steps)
    parallel: DimLike = 1
    for axis in chunks:
        parallel = parallel * axis.extent
    body: Block = (Chunks(tuple(chunks), (Loop(scan.time, steps),)),)
    shares = 1 if prepared or len(plans) > 1 else _shares(plans[0])
    if shares == 1 or any(isinstance(a.extent, int) and a.extent > 1 for a in chunks):
        return Nest("gates", body, lanes, parallel)
    whole = (0, 1 if axes.row is None else axes.row.extent)
    each = looped(axes.outer, (_gates(plans[0], axes, whole, target),))
    shared: Block = (Chunks((scan.time, plans[0].panel), each, swings=True),)
    if chunks:
        is_one = apply("eq", index(parallel), 1)
        shared = (When(is_one, shared), When(~is_one, body))
    return Nest("gates", shared, lanes, parallel, steps=scan.time.extent, shares=shares)


def _shares(plan: Plan) -> int:
    """Into how many chunks of panels threads cut a step; 1 if they do not.

    They wait for each other after each, so that a chunk reads `SHARED_WEIGHTS` at least.
    """
    weights: DimLike = len(plan.sums)
    for axis in (*plan.sums[0].axes, plan.panel, plan.column):
        weights = weights * axis.extent
    panels = plan.panel.extent
    if not isinstance(weights, int) or not isinstance(panels, int):
        return 1
    return max(n for n in (1, 2, 4, 8) if n == 1 or n <= min(weights // SHARED_WEIGHTS, panels))


def divided(rows: DimLike, least: int) -> tuple[DimLike, DimLike]:
    """Into how many chunks ``rows`` fall, and how many of them one takes: as many in each of two.

    Fewer than ``least`` take no less time, as they wait for the weights, which each chunk reads.
    """
    parts = minimum(2 * ceildiv(rows, 2 * ROWS), rows // least)
    each = maximum(ceildiv(rows, maximum(parts, 1)), 1)
    return ceildiv(rows, each), each


def _is_even(axes: Sequence[Variable]) -> bool:
    """Whether two threads have as many of ``axes`` each, as of both directions."""
    count = math.prod([axis.extent for axis in axes])
    return isinstance(count, int) and count % 2 == 0


def _preparation(
    prepared: Sequence[Store], row: Variable | None, rows: tuple[DimLike, DimLike], lanes: int
) -> Block:
    """What is done for each row, from the first to the end of ``rows``."""
    if row is None or not prepared:
        return tuple(statement for store in prepared for statement in alone(store, lanes))
    place = Variable("r", rows[1] - rows[0])
    at: dict[Atom, DimLike] = {row: rows[0] + place.dim}
    moved = [rewritten(store, store.axes, at) for store in prepared]
    return (Loop(place, _preparation(moved, None, rows, lanes)),)


def _gates(plan: Plan, axes: Axes, rows: tuple[DimLike, DimLike], target: Target) -> Gates:
    width, vectors = plan.column.extent, len(plan.sums) * plan.units
    # A register is left for the left factor, and one for each vector of weights.
    return Gates(
        results=plan.sums,
        row=axes.row,
        rows=rows,
        height=max(1, (target.vector_registers - vectors - 1) // vectors),
        column=plan.column,
        width=minimum(width, plan.columns - plan.panel.dim * width),
        units=plan.units,
        puts=tuple(Put(s.buffer, s.address, s.value) for s in plan.stores),
    )


__all__ = ["Steps", "divided", "gate_steps"]
