"""Attention, block by block: no score outlives the block of queries and keys that it belongs to.

Decides the blocks. A chunk takes one block of queries, the lanes of its vectors, through the keys
block by block: scores in tiles; the maximum so far, and by what it has grown; powers; what has been
summed before, scaled, and the new sums. Keys and values are read element by element as they lie;
only queries and masks are turned, into scratch memory. Keys that are hidden from a whole block of
queries are passed over. A few queries would waste lanes: each goes through the keys alone, with a
row of scores, and the keys are lanes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fornix.compile.attention import Attention
from fornix.compile.nest import Block, Chunks, Nest, When
from fornix.compile.schedule.attention_blocks import (
    Queries,
    Scratch,
    blocks_of,
    with_sink,
)
from fornix.compile.schedule.attention_few import are_few, few_of, few_queries
from fornix.compile.schedule.attention_halves import Pairs, goes_in_pairs, part_blocks
from fornix.compile.schedule.attention_parts import are_many, counts_of
from fornix.compile.schedule.chunks import combined
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.ir.dim import DimLike, maximum
from fornix.ir.loops import (
    FALSE,
    TRUE,
    Load,
    Scalar,
    Store,
    Variable,
    apply,
    load,
    replace,
)
from fornix.ir.loops.scalar import const, reduction

HEIGHTS = {32: {4: 6, 3: 8, 2: 8, 1: 12}, 16: {2: 6, 1: 8}}
"""By the number of vector registers: rows of tiles by their vectors; the widest stand first."""


def attention_nest(
    a: Attention, target: Target, lanes: int
) -> tuple[list[Store | Stage], Store, Nest]:
    """Stores that have to be computed first, the rest of the work, and its nest."""
    first: list[Store] = []
    counts = counts_of(a, target)
    a = dataclasses.replace(
        a,
        queries=_in_memory("queries", a.queries, (*a.store.axes, a.term), first),
        keys=_in_memory("keys", a.keys, (*a.outer, a.key, a.term), first),
        values=_in_memory("values", a.values, (*a.outer, a.key, a.column), first),
    )
    heights = HEIGHTS[32 if target.vector_registers >= 32 else 16]
    is_few = are_few(a)
    body: list[When] = []
    stages: list[Stage] = []
    scratch = Scratch()
    parallel: DimLike = 1
    drops_subnormal = False
    if is_few is not const(False, is_few.dtype):
        stage, few, scratch = few_queries(a, few_of(a), heights, lanes)
        stages += [] if stage is None else [stage]
        parallel = combined(few.axes)[0]
        body.append(When(is_few, (few,)))
    if a.row is not None and is_few is not TRUE:
        is_many = are_many(a, counts, target, lanes)
        is_paired = goes_in_pairs(a, counts, target, lanes)
        drops_subnormal = is_paired or (counts.powers == 1 and is_many is not FALSE)
        ways: list[tuple[Scalar, tuple[Variable, Block]]] = []
        if is_many is not TRUE:
            kind = Pairs if is_paired else Queries
            blocks = blocks_of(a, a.row, lanes, heights, scratch, kind)
            ways.append((apply("and", ~is_few, ~is_many), blocks))
        if is_many is not FALSE:
            ways.append((apply("and", ~is_few, is_many), part_blocks(a, counts, a.row, scratch)))
        for condition, (block, each) in ways:
            many = Chunks((*a.outer, block), each)
            parallel = maximum(parallel, combined(many.axes)[0])
            body.append(When(condition, (many,)))
    own = scratch.offsets
    beside = tuple(s.buffer for stage in stages for s in stage.stores)
    made = Nest(
        "attention",
        tuple(body),
        lanes,
        parallel,
        own,
        scratch.size,
        frozenset(own),
        beside,
        drops_subnormal=drops_subnormal,
    )
    return [*first, *stages], _spelled(a), made


def _in_memory(name: str, e: Scalar, axes: Sequence[Variable], first: list[Store]) -> Scalar:
    """``e`` as it lies, or a copy that is computed ``first``."""
    if isinstance(e, Load) and e.guard is None:
        return e
    own = [a for a in axes if a in e.variables]
    store = filled(name, own, e)
    first.append(store)
    return load(store.buffer, store.buffer.address(tuple(a.dim for a in own)))


def _spelled(a: Attention) -> Store:
    """The store of ``a`` as an expression of what is read."""
    product = reduction("sum", (a.term,), a.queries * a.scale * a.keys)
    scores = replace(a.scores, {a.score: product})
    top = reduction("max", (a.key,), scores)
    powers = apply("exp", scores - top)
    weights = powers / with_sink(a, top, reduction("sum", (a.key,), powers))
    total = reduction("sum", (a.key,), weights * a.values)
    value = replace(a.store.value, {a.sum: total})
    return Store(a.store.buffer, a.store.axes, a.store.address, value)


__all__ = ["attention_nest"]
