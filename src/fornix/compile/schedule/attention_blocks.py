"""Blocks of queries that go through the keys of an attention, block by block.

Decides what is done for the queries in the lanes of a few vectors: scores in tiles; the maximum so
far, and by what it has grown; powers; what has been summed before, scaled, and the new sums. Here
too stands what a softmax is made of, for all ways through the keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fornix.compile.attention import LOW, Attention, visible
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Lanes, Loop, Put, Tile, Turn, When
from fornix.dtype import DType
from fornix.ir.dim import DimLike, ceildiv, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Load,
    Reduce,
    Scalar,
    Variable,
    apply,
    index,
    load,
    replace,
    select,
    substitute_scalar,
)
from fornix.ir.loops.scalar import const, reduction

KEYS = 64
"""Keys of a block: their scores stay in the nearest cache, beside the queries."""

Places = Mapping[Atom, DimLike]


@dataclass
class Scratch:
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


def shift(top: Scalar) -> Scalar:
    """What is taken from scores: their maximum, or nothing if that is −∞."""
    return select(apply("eq", top, -math.inf), 0.0, top)


def with_sink(a: Attention, top: Scalar, total: Scalar) -> Scalar:
    """``total``, the sum of the keys' powers, and that of a sink."""
    return total if a.sink is None else total + apply("exp", a.sink - shift(top))


def finished(a: Attention, top: Scalar, total: Scalar) -> Scalar:
    """What sums are multiplied with; where queries with NaN get 0 it is NaN for these."""
    inverse = 1.0 / with_sink(a, top, total)
    if not a.zero_if_blind:
        return inverse
    blind = math.nan if a.zero_if_nan else 0.0
    return select(apply("eq", top, -math.inf), blind, inverse)


def result_of(a: Attention, total: Scalar, factor: Scalar) -> Scalar:
    """What is stored, by the sum of powers times values and the factor of `finished`."""
    value = total * factor
    if a.zero_if_nan:
        value = select(apply("ne", factor, factor), 0.0, value)
    return replace(a.store.value, {a.sum: value})


def power(x: Scalar) -> Scalar:
    """The exponential of ``x``, a score less the highest; 0 below normal numbers.

    Those Intel's processors make slowly. As a weight beside one of 1 it counts for nothing.
    """
    return apply("weight", x)


# ── blocks of queries ──────────────────────────────────────────────────────────────────────────


def blocks_of(
    a: Attention,
    row: Variable,
    lanes: int,
    heights: Mapping[int, int],
    scratch: Scratch,
    kind: type[Queries],
) -> tuple[Variable, Block]:
    """The axis of blocks of queries, and what is done for each, which is one of ``kind``.

    The last one has no more vectors than its queries fill. Where only a run tells how many, single
    vectors take less if half of them do.
    """
    rows, vectors = row.extent, max(heights)
    if isinstance(rows, int):
        vectors = min(vectors, -(-rows // lanes))
    width = lanes * vectors
    block = Variable("q", ceildiv(rows, width))
    wide = kind(a, row, block.dim * width, (lanes, vectors, heights[vectors]), scratch)
    last = rows % width if isinstance(rows, int) else width // 2
    few = -(-last // lanes) if isinstance(rows, int) else 1
    if vectors == 1 or last == 0 or few == vectors:
        return block, wide.body()
    left = rows - block.dim * width
    part = Variable("p", ceildiv(left, lanes * few))
    first = block.dim * width + part.dim * lanes * few
    narrow = kind(a, row, first, (lanes, few, heights[few]), scratch)
    are_many = apply("lt", index(last), index(left))
    return block, (When(are_many, wide.body()), When(~are_many, (Loop(part, narrow.body()),)))


class Queries:
    """A block of queries goes through the keys; scratch is by key, term or column, then query."""

    keys = KEYS
    """Of a block."""
    ones = 0
    """Columns of values that are 1, behind all others: their sums are those of the powers."""

    def __init__(
        self,
        a: Attention,
        row: Variable,
        first: DimLike,
        shape: tuple[int, int, int],
        scratch: Scratch,
        panel: Variable | None = None,
    ) -> None:
        """``first`` is its first query, ``shape`` lanes, vectors of queries and rows of tiles.

        It is one ``panel`` of several, which have the buffers of what is kept from block to block
        of keys for themselves.
        """
        self.a, self.row, self.first = a, row, first
        self.lanes, self.vectors, self.height = shape
        self.width = width = self.lanes * self.vectors
        self.scratch = scratch
        self.query = Variable("i", width)
        dtype = a.sum.dtype
        self.panel = panel
        self.starts: dict[Buffer, DimLike] = {}
        """Where what belongs to these queries begins, in buffers that hold more."""
        self.queries = self._kept("queries", a.term.extent * width, dtype)
        self.sums = self._kept("sums", (a.column.extent + self.ones) * width, dtype)
        self.top = self._kept("top", width, dtype)
        self.total = self._kept("total", width, dtype)
        self.scores = scratch.buffer("scores", self.keys * width, dtype)
        self.higher = scratch.buffer("higher", width, dtype)
        self.factor = scratch.buffer("factor", width, dtype)
        self.masks: dict[Load, Buffer] = {}

    def _kept(self, name: str, elements: DimLike, dtype: DType) -> Buffer:
        """Memory for ``elements``, in each panel."""
        if self.panel is None:
            return self.scratch.buffer(name, elements, dtype)
        buffer = self.scratch.buffer(name, self.panel.extent * elements, dtype)
        self.starts[buffer] = self.panel.dim * elements
        return buffer

    def body(self) -> Block:
        """Everything for one block of queries."""
        return (*self._start(), *self._steps(), *self._end())

    def _start(self) -> Block:
        zero = const(0.0, self.a.sum.dtype)
        column = Variable("e", self.a.column.extent + self.ones)
        return (
            self._turned_queries(),
            self._each(self.top, const(-math.inf, zero.dtype)),
            self._each(self.total, zero),
            Loop(column, (self._each(self.sums, zero, column),)),
        )

    def _steps(self) -> Block:
        """All keys: whole blocks, then the rest."""
        whole = Variable("b", self.a.key.extent // self.keys)
        rest = self.a.key.extent - whole.extent * self.keys
        steps: list[Loop | When] = []
        if whole.extent != 0:
            steps.append(Loop(whole, self._step(whole.dim * self.keys, self.keys)))
        if rest != 0:
            some = apply("lt", index(0), index(rest))
            steps.append(When(some, self._step(whole.extent * self.keys, rest)))
        return tuple(steps)

    def _each(self, buffer: Buffer, value: Scalar, axis: Variable | None = None) -> Lanes:
        """``value`` for each query."""
        return Lanes(self.query, self.vectors, (Put(buffer, self._at(buffer, axis), value),))

    def _at(self, buffer: Buffer, axis: Variable | None = None) -> DimLike:
        """Where in ``buffer`` the element for `query` is, at a value of ``axis``."""
        place = self.query.dim if axis is None else axis.dim * self.width + self.query.dim
        return self.starts.get(buffer, 0) + place

    def _of(self, buffer: Buffer, axis: Variable | None = None) -> Scalar:
        return load(buffer, self._at(buffer, axis))

    def _place(self, query: Variable) -> DimLike:
        """The row of ``query``; beyond the last one that again."""
        place, rows = self.first + query.dim, self.row.extent
        if isinstance(rows, int) and rows % self.width == 0:
            return place
        return minimum(place, rows - 1)

    def _turned(self, e: Load, axis: Variable, buffer: Buffer, value: Scalar) -> Loop:
        """``value``, made of the one load ``e`` of a query at ``axis``, into ``buffer``."""
        tile = Variable("t", ceildiv(axis.extent, self.lanes))
        put = Put(buffer, self._at(buffer, axis), value)
        turn = Turn(self.query, axis, tile.dim * self.lanes, (e,), put)
        return Loop(tile, (Lanes(self.query, 1, (turn,)),))

    def _turned_queries(self) -> Loop:
        term = Variable("d", self.a.term.extent)
        at: Places = {self.row: self._place(self.query), self.a.term: term.dim}
        e = substitute_scalar(self.a.queries, at)
        return self._turned(as_load(e), term, self.queries, e * self.a.scale)

    def _step(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on, unless they are hidden."""
        return (When(self._is_seen(first, count), self._through(first, count)),)

    def _through(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on."""
        a, scores, sums = self.a, self.scores, self.sums
        key = [Variable("j", count) for _ in range(5)]
        turned, (product, score) = self._score(first, key[0])
        column = Variable("e", a.column.extent)
        highest = reduction("max", (key[1],), self._of(scores, key[1]))
        higher, factor = self._of(self.higher), self._of(self.factor)
        powers = power(self._of(scores, key[2]) - shift(higher))
        total = reduction("sum", (key[3],), self._of(scores, key[3]))
        values = substitute_scalar(a.values, {a.key: first + key[4].dim, a.column: column.dim})
        means = reduction("sum", (key[4],), values * self._of(scores, key[4]))
        sum_ = self._of(sums, column) * factor + means
        return (
            *turned,
            *self._scores_by(
                self._tile(key[0], product, Put(scores, self._at(scores, key[0]), score))
            ),
            self._each(self.higher, apply("max", self._of(self.top), highest)),
            self._each(self.factor, apply("exp", self._of(self.top) - shift(higher))),
            self._each(self.top, higher),
            Loop(key[2], (self._each(scores, powers, key[2]),)),
            self._each(self.total, self._of(self.total) * factor + total),
            *self._sums_by(
                self._tile(column, means, Put(sums, self._at(sums, column), sum_)), count
            ),
        )

    def _scores_by(self, tile: Tile) -> Block:
        """The products of queries and keys that ``tile`` says."""
        return (tile,)

    def _sums_by(self, tile: Tile, _count: DimLike) -> Block:
        """The products of powers and values that ``tile`` says."""
        return (tile,)

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
        for e in outer_loads(score):
            if self.row not in e.variables:
                continue
            if e not in self.masks:
                self.masks[e] = self.scratch.buffer("mask", self.keys * self.width, e.dtype)
            mine = substitute_scalar(e, near)
            turned.append(self._turned(as_load(mine), key, self.masks[e], mine))
            new[e] = load(self.masks[e], 0)
        score = replace(score, new)
        place = self.first + self.query.dim
        score = substitute_scalar(score, {**near, self.row: place})
        product = self._product(first, key)
        back = {load(b, 0): self._of(b, key) for b in self.masks.values()}
        return tuple(turned), (product, replace(score, {**back, mark: product}))

    def _product(self, first: DimLike, key: Variable) -> Scalar:
        """That of a query and ``key``, from ``first`` on."""
        keys = substitute_scalar(self.a.keys, {self.a.key: first + key.dim})
        return reduction("sum", (self.a.term,), keys * self._of(self.queries, self.a.term))

    def _is_seen(self, first: DimLike, count: DimLike) -> Scalar:
        """Whether any query of the block sees any of these keys."""
        query, key = Variable("i", self.width), Variable("j", count)
        seen = visible(
            self.a, apply("lt", LOW, load(self.top, self.starts.get(self.top, 0) + query.dim))
        )
        if seen is None:
            return TRUE
        at: Places = {self.row: self._place(query), self.a.key: first + key.dim}
        return reduction("or", (query, key), substitute_scalar(seen, at))

    def _whole(self) -> Scalar:
        """The sum of all powers."""
        return self._of(self.total)

    def _end(self) -> Block:
        """The means are turned back and written."""
        a = self.a
        factor = finished(a, self._of(self.top), self._whole())
        factor = substitute_scalar(factor, {self.row: self._place(self.query)})
        place = self.first + self.query.dim
        sums = self._of(self.sums, a.column)
        value = result_of(a, sums, self._of(self.factor))
        at: Places = {self.row: place}
        put = Put(
            a.store.buffer,
            substitute(a.store.address, at, {}),
            substitute_scalar(value, at),
            guard=apply("lt", index(place), index(self.row.extent)),
        )
        tile = Variable("t", self.vectors)
        turn = Turn(a.column, self.query, tile.dim * self.lanes, (as_load(sums),), put)
        return (
            self._each(self.factor, factor),
            Loop(tile, (Lanes(a.column, 1, (turn,)),)),
        )


def as_load(e: Scalar) -> Load:
    if not isinstance(e, Load):
        raise TypeError("what is turned lies in memory")
    return e


def outer_loads(e: Scalar) -> list[Load]:
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


__all__ = [
    "Places", "Queries", "Scratch", "as_load", "blocks_of", "finished", "power", "result_of",
    "shift", "with_sink",
]  # fmt: skip
