"""Few queries of an attention, as those of a step of a decoder: keys are the lanes, not queries.

Decides how keys are cut, and which queries go through them together. Many keys are cut into parts
of a fixed length, so that threads share those of one head and bits do not depend on how many they
are: of each part the highest score, the sum of powers and that of powers times values are kept, and
put together afterwards; of keys that turn out to be one part nothing is. Queries that share keys,
as the heads of a group do, read them once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fornix.compile.attention import Attention
from fornix.compile.cost import likely, outer_reductions, stride_of
from fornix.compile.nest import Block, Chunks, Fold, Lanes, Loop, Nest, Put, Tile, Turn, When
from fornix.compile.schedule.attention_blocks import (
    Scratch,
    as_load,
    finished,
    power,
    result_of,
    shift,
)
from fornix.compile.schedule.chunks import combined
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.winograd import Stage
from fornix.ir.dim import DimLike, ceildiv, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import reduction

FEW = 8
"""Queries below which keys are lanes."""
MOST_MATES = 16
"""Queries that go through the keys together, at most: those of so many take no more time than
lanes for 16."""
MANY = 256
"""Keys from which on that is so."""
PART = 2048
"""Keys of a part: their scores stay in the nearest cache."""
KEYS = 64
"""Keys that are turned at a time."""
UNITS = 4


@dataclass(frozen=True)
class Few:
    """How few queries go through the keys of an attention."""

    row: Variable | None
    """The axis of queries that go through the keys one after the other."""
    mate: Variable | None
    """An axis of queries that go through them together."""
    part: Variable | None
    """Parts of the keys, if there is more than one."""


def few_of(a: Attention) -> Few:
    """How few queries of ``a`` go through the keys."""
    own = a.values.variables | a.keys.variables
    shared = [x for x in a.store.axes if x in a.queries.variables and x not in own]
    mates = [x for x in shared if 1 < _length(x) <= MOST_MATES]
    mate = max(mates, key=_length, default=None) if isinstance(a.column.extent, int) else None
    keys = a.key.extent
    is_long = not isinstance(keys, int) or keys >= 2 * PART
    part = Variable("p", ceildiv(keys, PART)) if is_long else None
    return Few(None if a.row is mate else a.row, mate, part)


def _length(axis: Variable) -> int:
    return axis.extent if isinstance(axis.extent, int) else 0


def are_few(a: Attention) -> Scalar:
    """Whether keys are lanes."""
    rows: DimLike = 1 if a.row is None else a.row.extent
    if few_of(a).mate is a.row and likely(a.key.extent) >= MANY:
        return TRUE
    return apply("lt", index(rows), index(FEW))


def few_queries(
    a: Attention, few: Few, heights: Mapping[int, int], lanes: int
) -> tuple[Stage | None, Chunks, Scratch]:
    """What is computed first if there are parts, and what is done for few queries."""
    outer = tuple(x for x in a.outer if x is not few.mate)
    scratch = Scratch()
    if few.part is None:
        body = _Part(a, few, heights, lanes, scratch).body(0, a.key.extent)
        return None, Chunks(outer, _each(few.row, body)), scratch
    kept = _Kept.of(a, few)
    chunks = (*outer, few.part)
    is_one = apply("lt", index(a.key.extent), index(PART + 1))
    is_few = apply("and", are_few(a), ~is_one)
    steps = _Part(a, few, heights, lanes, scratch, kept).steps(few.part)
    body = (When(is_few, (Chunks(chunks, _each(few.row, steps)),)),)
    own = scratch.offsets
    nest = Nest("attention", body, lanes, combined(chunks)[0], own, scratch.size, frozenset(own))
    scratch = Scratch()
    last = _together(a, few.part, kept, scratch)
    for axis in (few.row, few.mate):
        last = _each(axis, last)
    if not isinstance(a.key.extent, int):
        one = _Part(a, few, heights, lanes, scratch).body(0, a.key.extent)
        last = (When(is_one, _each(few.row, one)), When(~is_one, last))
    return Stage(nest, kept.stores), Chunks(outer, last), scratch


def _each(axis: Variable | None, body: Block) -> Block:
    """``body`` for each query along ``axis``; in it memory is read anew."""
    return body if axis is None else (Loop(axis, (When(TRUE, body),)),)


# ── what is kept of parts ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Kept:
    """What is kept of each part of the keys: where, and what of its queries."""

    stores: tuple[Store, ...]
    axes: tuple[Variable, ...]
    column: Variable

    @staticmethod
    def of(a: Attention, few: Few) -> _Kept:
        """The highest score, the sum of powers, and that of powers times values."""
        if few.part is None:
            raise ValueError("nothing is kept of keys that are one part")
        axes = [*(x for x in a.outer if x is not few.mate), few.part]
        at: dict[Atom, DimLike] = {}
        fresh = list(axes)
        if few.row is not None:
            near = Variable("i", minimum(few.row.extent, FEW - 1))
            at[few.row] = near.dim
            axes.append(few.row)
            fresh.append(near)
        if few.mate is not None:
            axes.append(few.mate)
            fresh.append(few.mate)
        key = Variable("j", minimum(PART, a.key.extent))
        each = minimum(few.part.dim * PART + key.dim, a.key.extent - 1)
        place: dict[Atom, DimLike] = {**at, a.key: each}
        product = reduction("sum", (a.term,), a.queries * a.scale * a.keys)
        scores = substitute_scalar(replace(a.scores, {a.score: product}), place)
        values = substitute_scalar(a.values, place)
        top = filled("top", fresh, reduction("max", (key,), scores))
        total = filled("total", fresh, reduction("sum", (key,), scores))
        means = filled("means", [*fresh, a.column], reduction("sum", (key,), scores * values))
        return _Kept((top, total, means), tuple(axes), a.column)

    def place(self, number: int) -> tuple[Buffer, DimLike]:
        """Where the top, the total or the means are."""
        buffer = self.stores[number].buffer
        axes = self.axes if number < 2 else (*self.axes, self.column)
        return buffer, buffer.address(tuple(x.dim for x in axes))

    def read(self, number: int) -> Scalar:
        """The top, the total or the means."""
        return load(*self.place(number))


def _together(a: Attention, part: Variable, kept: _Kept, scratch: Scratch) -> Block:
    """All parts of the keys of a query."""
    weights = scratch.buffer("weights", part.extent, a.sum.dtype)
    top = reduction("max", (part,), kept.read(0))
    weight = load(weights, part.dim)
    total = reduction("sum", (part,), weight * kept.read(1))
    means = reduction("sum", (part,), weight * kept.read(2))
    axes = [Variable("p", part.extent) for _ in range(3)]
    power_ = substitute_scalar(power(kept.read(0) - shift(top)), {part: axes[1].dim})
    result = result_of(a, means, finished(a, top, total))
    return (
        _fold(top, axes[0]),
        Lanes(axes[1], 1, (Put(weights, axes[1].dim, power_),)),
        When(TRUE, (_fold(total, axes[2]), _columns(a, result))),
    )


def _columns(a: Attention, result: Scalar) -> Lanes:
    return Lanes(a.column, UNITS, (Put(a.store.buffer, a.store.address, result),))


def _fold(result: Scalar, axis: Variable, kept: Buffer | None = None, first: DimLike = 0) -> Fold:
    if not isinstance(result, Reduce):
        raise TypeError("a fold computes a reduction")
    body = substitute_scalar(result.body, {result.axes[0]: axis.dim})
    puts = (Put(kept, first + axis.dim, body),) if kept else ()
    return Fold(result, axis, UNITS, body, puts)


def _sums(axis: Variable, put: Put, factor: Scalar, term: Variable) -> Loop | Lanes:
    """Sums over ``term``, one for each of ``axis``: whichever ``factor`` lies along are lanes."""
    if stride_of(as_load(factor).address, term) == 1:
        return Loop(axis, (put,))
    return Lanes(axis, UNITS, (put,))


# ── a part of the keys ─────────────────────────────────────────────────────────────────────────


class _Part:
    """A part of the keys for some queries that share them, or all of them."""

    def __init__(
        self,
        a: Attention,
        few: Few,
        heights: Mapping[int, int],
        lanes: int,
        scratch: Scratch,
        kept: _Kept | None = None,
    ) -> None:
        self.a, self.few, self.heights, self.lanes, self.kept = a, few, heights, lanes, kept
        self.first: DimLike = 0
        self.count = self.width = a.key.extent if few.part is None else PART
        self.mates = 1 if few.mate is None else _length(few.mate)
        self.row: DimLike = 0 if few.mate is None else few.mate.dim * self.width
        dtype = a.sum.dtype
        self.scores = scratch.buffer("scores", self.mates * self.width, dtype)
        self.turned = self.tops = self.totals = self.scores
        if few.mate is not None:
            self.turned = scratch.buffer("turned", a.term.extent * KEYS, dtype)
            self.tops = scratch.buffer("tops", self.mates, dtype)
            self.totals = scratch.buffer("totals", self.mates, dtype)

    def steps(self, part: Variable) -> Block:
        """One part, which is whole or the last one."""
        whole = self.a.key.extent // PART
        rest = self.a.key.extent - whole * PART
        is_whole = apply("lt", index(part.dim), index(whole))
        steps = [When(is_whole, self.body(part.dim * PART, PART))]
        if rest != 0:
            steps.append(When(~is_whole, self.body(whole * PART, rest)))
        return tuple(steps)

    def body(self, first: DimLike, count: DimLike) -> Block:
        """Scores, powers and means of ``count`` keys from ``first`` on."""
        self.first, self.count = first, count
        top, total, means = self._reductions()
        folds = (
            _fold(top, Variable("j", self.count)),
            _fold(total, Variable("j", self.count), self.scores, self.row),
        )
        if self.few.mate is not None:
            return self._beside(self.few.mate, (*folds, *self._keep(top, total)), means)
        axis = Variable("j", self.count)
        score = Put(self.scores, axis.dim, self._score(self.a.keys, axis))
        mean = self._mean(means, finished(self.a, top, total))
        return (
            _sums(axis, score, self.a.keys, self.a.term),
            When(TRUE, (*folds, *self._keep(top, total), mean)),
        )

    def _mean(self, means: Scalar, total: Scalar) -> Loop | Lanes:
        """All columns of a query."""
        a = self.a
        put = Put(a.store.buffer, a.store.address, result_of(a, means, total))
        if self.kept is not None:
            put = Put(*self.kept.place(2), means)
        return _sums(a.column, put, a.values, a.key)

    def _reductions(self) -> tuple[Scalar, Scalar, Scalar]:
        """The highest score of a query, the sum of its powers, and of those times values."""
        a, axis = self.a, Variable("j", self.count)
        score = load(self.scores, self.row + axis.dim)
        top = reduction("max", (axis,), score)
        total = reduction("sum", (axis,), power(score - shift(top)))
        values = substitute_scalar(a.values, {a.key: self.first + axis.dim})
        return top, total, reduction("sum", (axis,), score * values)

    def _score(self, keys: Scalar, axis: Variable, first: DimLike = 0) -> Scalar:
        """That of the key at a place of ``axis``."""
        a, place = self.a, self.first + first + axis.dim
        keys = substitute_scalar(keys, {a.key: place})
        product = reduction("sum", (a.term,), a.queries * a.scale * keys)
        mark = load(Buffer("product", (1,), a.score.dtype), 0)
        score = substitute_scalar(replace(a.scores, {a.score: mark}), {a.key: place})
        return replace(score, {mark: product})

    def _keep(self, top: Scalar, total: Scalar) -> Block:
        """What `_together` or the end of a query needs."""
        if self.kept is not None:
            return Put(*self.kept.place(0), top), Put(*self.kept.place(1), total)
        if self.few.mate is None:
            return ()
        mate = self.few.mate.dim
        return Put(self.tops, mate, top), Put(self.totals, mate, total)

    # ── queries that share keys

    def _beside(self, mate: Variable, folds: Block, means: Scalar) -> Block:
        """All queries along ``mate``, for which keys and values are read once."""
        a, block = self.a, Variable("b", ceildiv(self.count, KEYS))
        first, column = block.dim * KEYS, Variable("k", KEYS)
        left = minimum(KEYS, self.count - first)
        lies_along = stride_of(as_load(a.keys).address, a.key) == 1
        keys = a.keys if lies_along else load(self.turned, a.term.dim * KEYS + column.dim)
        score = self._score(keys, column, first)
        put = Put(self.scores, self.row + first + column.dim, score)
        tiles: Block = tuple(
            When(condition, self._tiles(mate, column, (left, most), put, is_padded=not lies_along))
            for condition, most in self._widths(left)
        )
        steps = tiles if lies_along else (self._turn(first, left), *tiles)
        return (
            Loop(block, steps),
            Loop(mate, (When(TRUE, folds),)),
            When(TRUE, self._means(mate, means)),
        )

    def _turn(self, first: DimLike, left: DimLike) -> Loop:
        """The keys of a block, which lie term by term, one beside the other."""
        a, key = self.a, Variable("k", left)
        tile = Variable("t", ceildiv(a.term.extent, self.lanes))
        place = self.first + first + key.dim
        e = as_load(substitute_scalar(a.keys, {a.key: place}))
        put = Put(self.turned, a.term.dim * KEYS + key.dim, e)
        turn = Turn(key, a.term, tile.dim * self.lanes, (e,), put)
        return Loop(tile, (Lanes(key, 1, (turn,)),))

    def _widths(self, left: DimLike) -> list[tuple[Scalar, int]]:
        """How many keys tiles are made for, and when: a vector of them is not worth a block."""
        if isinstance(self.count, int) and self.count <= KEYS:
            return [(TRUE, self.count)]
        is_short = apply("lt", index(left), index(self.lanes + 1))
        return [(is_short, self.lanes), (~is_short, KEYS)]

    def _means(self, mate: Variable, means: Scalar) -> Block:
        a = self.a
        buffer, place = a.store.buffer, a.store.address
        if self.kept is not None:
            (buffer, place), value = self.kept.place(2), means
        else:
            top, total = load(self.tops, mate.dim), load(self.totals, mate.dim)
            value = result_of(a, means, finished(a, top, total))
        put = Put(buffer, place, value)
        return self._tiles(mate, a.column, (a.column.extent,) * 2, put, is_padded=False)

    def _tiles(
        self,
        mate: Variable,
        axis: Variable,
        ends: tuple[DimLike, DimLike],
        put: Put,
        *,
        is_padded: bool,
    ) -> Block:
        """``put``, with a sum of products in it, for all mates and what there is of ``axis``.

        ``ends`` are how many there are, and how many there may be.
        """
        end, most = ends
        units = max(n for n in self.heights if n * self.lanes < likely(most) + self.lanes)
        panel, column = (
            Variable("p", ceildiv(most, units * self.lanes)),
            Variable("c", units * self.lanes),
        )
        place: dict[Atom, DimLike] = {axis: panel.dim * units * self.lanes + column.dim}
        width = minimum(units * self.lanes, end - panel.dim * units * self.lanes)
        value = substitute_scalar(put.value, place)
        tile = Tile(
            result=outer_reductions(value)[0],
            row=mate,
            rows=(0, mate.extent, mate.extent),
            height=self.heights[units],
            column=column,
            width=width,
            units=units,
            is_padded=is_padded,
            put=Put(put.buffer, substitute(put.address, place, {}), value),
        )
        return (Loop(panel, (tile,)),)


__all__ = ["are_few", "few_of", "few_queries"]
