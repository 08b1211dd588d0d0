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
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fornix.compile.attention import LOW, Attention, visible
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Chunks, Fold, Lanes, Loop, Nest, Put, Tile, Turn, When
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.ir.dim import DimLike, ceildiv, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    select,
    substitute_scalar,
)
from fornix.ir.loops.scalar import const, reduction

HEIGHTS = {32: {4: 6, 3: 8, 2: 8, 1: 12}, 16: {2: 6, 1: 8}}
"""By the number of vector registers: rows of tiles by their vectors; the widest stand first."""
KEYS = 64
"""Keys of a block: their scores stay in the nearest cache, beside the queries."""
LEAST_POWER = {FLOAT32: -87.3, FLOAT64: -708.3}
"""Of what the exponential is a normal number: ln 2⁻¹²⁶ and ln 2⁻¹⁰²²."""
FEW = 8
"""Queries below which each goes through the keys alone."""
UNITS = 4

Places = Mapping[Atom, DimLike]


def attention_nest(a: Attention, target: Target, lanes: int) -> tuple[list[Store], Store, Nest]:
    """Stores that have to be computed first, the rest of the work, and its nest."""
    first: list[Store] = []
    a = dataclasses.replace(
        a,
        queries=_in_memory("queries", a.queries, (*a.store.axes, a.term), first),
        keys=_in_memory("keys", a.keys, (*a.outer, a.key, a.term), first),
        values=_in_memory("values", a.values, (*a.outer, a.key, a.column), first),
    )
    rows: DimLike = 1 if a.row is None else a.row.extent
    heights = HEIGHTS[32 if target.vector_registers >= 32 else 16]
    is_few = apply("lt", index(rows), index(FEW))
    chunks = list(a.outer)
    body: list[When] = []
    scratch = _Scratch()
    if is_few is not const(False, is_few.dtype):
        body.append(When(is_few, _alone(a, scratch)))
    if a.row is not None and is_few is not TRUE:
        block, blocks = _blocks(a, a.row, lanes, heights, scratch)
        chunks.append(block)
        body.append(When(~is_few if body else TRUE, blocks))
    parallel: DimLike = 1
    for axis in chunks:
        parallel = parallel * axis.extent
    nest = (Chunks(tuple(chunks), tuple(body)),)
    own = scratch.offsets
    made = Nest("attention", nest, lanes, parallel, own, scratch.size, frozenset(own))
    return first, _spelled(a), made


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
    weights = powers / _with_sink(a, top, reduction("sum", (a.key,), powers))
    total = reduction("sum", (a.key,), weights * a.values)
    value = replace(a.store.value, {a.sum: total})
    return Store(a.store.buffer, a.store.axes, a.store.address, value)


@dataclass
class _Scratch:
    """Memory of a thread."""

    offsets: dict[Buffer, DimLike] = field(default_factory=dict)
    size: DimLike = 0

    def buffer(self, name: str, elements: DimLike, dtype: DType) -> Buffer:
        """``elements`` more."""
        buffer = Buffer(name, (elements,), dtype)
        self.offsets[buffer] = self.size
        lines = ceildiv(elements * dtype.numpy.itemsize, SCRATCH_ALIGNMENT)
        self.size = self.size + lines * SCRATCH_ALIGNMENT
        return buffer


def _shift(top: Scalar) -> Scalar:
    """What is taken from scores: their maximum, or nothing if that is −∞."""
    return select(apply("eq", top, -math.inf), 0.0, top)


def _with_sink(a: Attention, top: Scalar, total: Scalar) -> Scalar:
    """``total``, the sum of the keys' powers, and that of a sink."""
    return total if a.sink is None else total + apply("exp", a.sink - _shift(top))


def _finished(a: Attention, top: Scalar, total: Scalar) -> Scalar:
    """What sums are multiplied with; where queries with NaN get 0 it is NaN for these."""
    inverse = 1.0 / _with_sink(a, top, total)
    if not a.zero_if_blind:
        return inverse
    blind = math.nan if a.zero_if_nan else 0.0
    return select(apply("eq", top, -math.inf), blind, inverse)


def _result(a: Attention, total: Scalar, factor: Scalar) -> Scalar:
    """What is stored, by the sum of powers times values and the factor of `_finished`."""
    value = total * factor
    if a.zero_if_nan:
        value = select(apply("ne", factor, factor), 0.0, value)
    return replace(a.store.value, {a.sum: value})


# ── few queries ────────────────────────────────────────────────────────────────────────────────


def _power(x: Scalar) -> Scalar:
    """The exponential of ``x``; 0 below normal numbers, which Intel's processors make slowly.

    As a weight beside one of 1 it counts for nothing.
    """
    return apply("exp", select(x < LEAST_POWER[x.dtype], -math.inf, x))


def _alone(a: Attention, scratch: _Scratch) -> Block:
    """One query after the other."""
    row = scratch.buffer("row", a.key.extent, a.sum.dtype)
    product = reduction("sum", (a.term,), a.queries * a.scale * a.keys)
    scores = replace(a.scores, {a.score: product})
    top = reduction("max", (a.key,), load(row, a.key.dim))
    powers = _power(load(row, a.key.dim) - _shift(top))
    total = reduction("sum", (a.key,), powers)
    means = reduction("sum", (a.key,), load(row, a.key.dim) * a.values)
    axes = [Variable("j", a.key.extent) for _ in range(3)]
    at: list[Places] = [{a.key: axis.dim} for axis in axes]
    body: Block = (
        Loop(axes[0], (Put(row, axes[0].dim, substitute_scalar(scores, at[0])),)),
        When(
            TRUE,
            (
                _fold(top, axes[1]),
                _fold(total, axes[2], row),
                Lanes(
                    a.column,
                    UNITS,
                    (
                        Put(
                            a.store.buffer,
                            a.store.address,
                            _result(a, means, _finished(a, top, total)),
                        ),
                    ),
                ),
            ),
        ),
    )
    return body if a.row is None else (Loop(a.row, (When(TRUE, body),)),)


def _fold(result: Scalar, axis: Variable, kept: Buffer | None = None) -> Fold:
    if not isinstance(result, Reduce):
        raise TypeError("a fold computes a reduction")
    body = substitute_scalar(result.body, {result.axes[0]: axis.dim})
    return Fold(result, axis, UNITS, body, (Put(kept, axis.dim, body),) if kept else ())


# ── blocks of queries ──────────────────────────────────────────────────────────────────────────


def _blocks(
    a: Attention, row: Variable, lanes: int, heights: Mapping[int, int], scratch: _Scratch
) -> tuple[Variable, Block]:
    """The axis of blocks of queries, and what is done for each.

    Of the last one, which may have few, single vectors take less where half of them do.
    """
    rows, vectors = row.extent, max(heights)
    if isinstance(rows, int):
        vectors = min(vectors, -(-rows // lanes))
    width = lanes * vectors
    block = Variable("q", ceildiv(rows, width))
    wide = _Block(a, row, block.dim * width, (lanes, vectors, heights[vectors]), scratch)
    last = rows % width if isinstance(rows, int) else 1
    if vectors == 1 or last == 0 or last > width // 2:
        return block, wide.body()
    left = rows - block.dim * width
    part = Variable("p", ceildiv(left, lanes))
    first = block.dim * width + part.dim * lanes
    narrow = _Block(a, row, first, (lanes, 1, heights[1]), scratch)
    are_many = apply("lt", index(width // 2), index(left))
    return block, (When(are_many, wide.body()), When(~are_many, (Loop(part, narrow.body()),)))


class _Block:
    """A block of queries goes through the keys; scratch is by key, term or column, then query."""

    def __init__(
        self,
        a: Attention,
        row: Variable,
        first: DimLike,
        shape: tuple[int, int, int],
        scratch: _Scratch,
    ) -> None:
        """``first`` is its first query, ``shape`` lanes, vectors of queries and rows of tiles."""
        self.a, self.row, self.first = a, row, first
        self.lanes, self.vectors, self.height = shape
        self.width = width = self.lanes * self.vectors
        self.scratch = scratch
        self.query = Variable("i", width)
        dtype = a.sum.dtype
        self.queries = scratch.buffer("queries", a.term.extent * width, dtype)
        self.scores = scratch.buffer("scores", KEYS * width, dtype)
        self.sums = scratch.buffer("sums", a.column.extent * width, dtype)
        self.top = scratch.buffer("top", width, dtype)
        self.higher = scratch.buffer("higher", width, dtype)
        self.factor = scratch.buffer("factor", width, dtype)
        self.total = scratch.buffer("total", width, dtype)
        self.masks: dict[Load, Buffer] = {}

    def body(self) -> Block:
        """Everything for one block of queries."""
        zero = const(0.0, self.a.sum.dtype)
        column = Variable("e", self.a.column.extent)
        whole = Variable("b", self.a.key.extent // KEYS)
        rest = self.a.key.extent - whole.extent * KEYS
        start: Block = (
            self._turned_queries(),
            self._each(self.top, const(-math.inf, zero.dtype)),
            self._each(self.total, zero),
            Loop(column, (self._each(self.sums, zero, column),)),
        )
        steps: list[Loop | When] = []
        if whole.extent != 0:
            steps.append(Loop(whole, self._step(whole.dim * KEYS, KEYS)))
        if rest != 0:
            steps.append(
                When(apply("lt", index(0), index(rest)), self._step(whole.extent * KEYS, rest))
            )
        return (*start, *steps, *self._end())

    def _each(self, buffer: Buffer, value: Scalar, axis: Variable | None = None) -> Lanes:
        """``value`` for each query."""
        return Lanes(self.query, self.vectors, (Put(buffer, self._at(axis), value),))

    def _at(self, axis: Variable | None) -> DimLike:
        """Where in scratch the element for `query` is, at a value of ``axis``."""
        return self.query.dim if axis is None else axis.dim * self.width + self.query.dim

    def _of(self, buffer: Buffer, axis: Variable | None = None) -> Scalar:
        return load(buffer, self._at(axis))

    def _place(self, query: Variable) -> DimLike:
        """The row of ``query``; beyond the last one that again."""
        place, rows = self.first + query.dim, self.row.extent
        if isinstance(rows, int) and rows % self.width == 0:
            return place
        return minimum(place, rows - 1)

    def _turned(self, e: Load, axis: Variable, buffer: Buffer, value: Scalar) -> Loop:
        """``value``, made of the one load ``e`` of a query at ``axis``, into ``buffer``."""
        tile = Variable("t", ceildiv(axis.extent, self.lanes))
        put = Put(buffer, self._at(axis), value)
        turn = Turn(self.query, axis, tile.dim * self.lanes, (e,), put)
        return Loop(tile, (Lanes(self.query, 1, (turn,)),))

    def _turned_queries(self) -> Loop:
        term = Variable("d", self.a.term.extent)
        at: Places = {self.row: self._place(self.query), self.a.term: term.dim}
        e = substitute_scalar(self.a.queries, at)
        return self._turned(_as_load(e), term, self.queries, e * self.a.scale)

    def _step(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on, unless they are hidden."""
        a = self.a
        key = [Variable("j", count) for _ in range(5)]
        turned, score = self._score(first, key[0])
        column = Variable("e", a.column.extent)
        highest = reduction("max", (key[1],), self._of(self.scores, key[1]))
        higher = self._of(self.higher)
        power = _power(self._of(self.scores, key[2]) - _shift(higher))
        total = reduction("sum", (key[3],), self._of(self.scores, key[3]))
        values = substitute_scalar(a.values, {a.key: first + key[4].dim, a.column: column.dim})
        means = reduction("sum", (key[4],), values * self._of(self.scores, key[4]))
        factor = self._of(self.factor)
        body: Block = (
            *turned,
            self._tile(key[0], score[0], Put(self.scores, self._at(key[0]), score[1])),
            self._each(self.higher, apply("max", self._of(self.top), highest)),
            self._each(self.factor, apply("exp", self._of(self.top) - _shift(higher))),
            self._each(self.top, higher),
            Loop(key[2], (self._each(self.scores, power, key[2]),)),
            self._each(self.total, self._of(self.total) * factor + total),
            self._tile(
                column,
                means,
                Put(self.sums, self._at(column), self._of(self.sums, column) * factor + means),
            ),
        )
        return (When(self._is_seen(first, count), body),)

    def _tile(self, row: Variable, result: Scalar, put: Put) -> Tile:
        if not isinstance(result, Reduce):
            raise TypeError("a tile computes a sum")
        return Tile(
            result=result,
            row=row,
            rows=(0, row.extent, row.extent),
            height=self.height,
            column=self.query,
            width=self.width,
            units=self.vectors,
            is_padded=True,
            put=put,
        )

    def _score(self, first: DimLike, key: Variable) -> tuple[Block, tuple[Scalar, Scalar]]:
        """The masks that are turned, the product of query and ``key``, and the score."""
        a = self.a
        mark = load(Buffer("product", (1,), a.score.dtype), 0)
        score = replace(a.scores, {a.score: mark})
        near: Places = {self.row: self._place(self.query), a.key: first + key.dim}
        turned: list[Loop] = []
        new: dict[Scalar, Scalar] = {}
        for e in _outer_loads(score):
            if self.row not in e.variables:
                continue
            if e not in self.masks:
                self.masks[e] = self.scratch.buffer("mask", KEYS * self.width, e.dtype)
            mine = substitute_scalar(e, near)
            turned.append(self._turned(_as_load(mine), key, self.masks[e], mine))
            new[e] = load(self.masks[e], 0)
        score = replace(score, new)
        place = self.first + self.query.dim
        score = substitute_scalar(score, {**near, self.row: place})
        keys = substitute_scalar(a.keys, {a.key: first + key.dim})
        product = reduction("sum", (a.term,), keys * load(self.queries, self._at(a.term)))
        back = {load(b, 0): self._of(b, key) for b in self.masks.values()}
        return tuple(turned), (product, replace(score, {**back, mark: product}))

    def _is_seen(self, first: DimLike, count: DimLike) -> Scalar:
        """Whether any query of the block sees any of these keys."""
        query, key = Variable("i", self.width), Variable("j", count)
        seen = visible(self.a, apply("lt", LOW, load(self.top, query.dim)))
        if seen is None:
            return TRUE
        at: Places = {self.row: self._place(query), self.a.key: first + key.dim}
        return reduction("or", (query, key), substitute_scalar(seen, at))

    def _end(self) -> Block:
        """The means are turned back and written."""
        a = self.a
        finished = _finished(a, self._of(self.top), self._of(self.total))
        finished = substitute_scalar(finished, {self.row: self._place(self.query)})
        place = self.first + self.query.dim
        sums = load(self.sums, a.column.dim * self.width + self.query.dim)
        value = _result(a, sums, self._of(self.factor))
        at: Places = {self.row: place}
        put = Put(
            a.store.buffer,
            substitute(a.store.address, at, {}),
            substitute_scalar(value, at),
            guard=apply("lt", index(place), index(self.row.extent)),
        )
        tile = Variable("t", self.vectors)
        turn = Turn(a.column, self.query, tile.dim * self.lanes, (_as_load(sums),), put)
        return (
            self._each(self.factor, finished),
            Loop(tile, (Lanes(a.column, 1, (turn,)),)),
        )


def _as_load(e: Scalar) -> Load:
    if not isinstance(e, Load):
        raise TypeError("what is turned lies in memory")
    return e


def _outer_loads(e: Scalar) -> list[Load]:
    """The loads in ``e`` that are not inside indices of others."""
    found: dict[Load, None] = {}
    waiting, seen = [e], set[Scalar]()
    while waiting:
        x = waiting.pop()
        if x in seen:
            continue
        seen.add(x)
        if isinstance(x, Load):
            found[x] = None
        else:
            waiting += x.args
    return list(found)


__all__ = ["attention_nest"]
