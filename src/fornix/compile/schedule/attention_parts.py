"""Attention in tile registers (AMX): both its products as those of numbers in three parts.

Halves have fewer, and one is all where products may round their factors. Decides when, and which
queries take keys apart together. A chunk has several panels of queries, two vectors each. Block by
block keys and values are taken apart into scratch memory, as left factors, values turned; then each
panel takes its scores, which go through vectors for masks and powers, and back as parts, made while
others are multiplied. Products that are not finite are computed anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.attention import Attention
from fornix.compile.cost import likely
from fornix.compile.nest import Block, Lanes, Loop, Parts, Put, Tile, Turn, When
from fornix.compile.parts import PARTS, PRODUCTS, count_of, in_parts, products_of
from fornix.compile.schedule.attention_blocks import Queries, Scratch, as_load
from fornix.compile.schedule.parts import FEATURE, HEIGHT, TERMS, WORDS
from fornix.compile.target import Target
from fornix.dtype import BOOL, FLOAT32, INT32
from fornix.ir.dim import DimLike, ceildiv
from fornix.ir.loops import (
    FALSE,
    TRUE,
    Buffer,
    Scalar,
    Variable,
    apply,
    index,
    load,
    select,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import const, reduction

UNITS = 2
"""Vectors of a panel."""
MOST_PANELS = 8
"""Of a chunk: so many queries take a block of keys apart once."""
LEAST = 128
"""Queries and keys below which vectors are faster, if a run tells how many there are."""
PAIR, TILES, APART = (25.0, 54.0), 0.66, 25.0
"""What a score takes beside products, in vectors and with tiles, a product, and a number of keys or
values that is taken apart, relative to a product in vectors; measured from 128 to 1500 queries."""


@dataclass(frozen=True)
class Counts:
    """Of how many parts the numbers of each factor are."""

    queries: int
    keys: int
    values: int
    powers: int = len(PARTS)

    @property
    def shares(self) -> tuple[float, float]:
        """Of all products of parts, those that are summed for scores, and with values."""
        pairs = (self.keys, self.queries), (self.values, self.powers)
        one, two = (len(products_of(*pair)) / len(PRODUCTS) for pair in pairs)
        return one, two


def counts_of(a: Attention, target: Target) -> Counts:
    """The parts of the factors of ``a``, as they are before they are copied to memory."""
    if target.rounds_products:
        return Counts(1, 1, 1, 1)
    is_exact = math.frexp(abs(a.scale))[0] == 1 / 2  # of two: its products have no more bits
    queries = count_of(a.queries) if is_exact else len(PARTS)
    keys, values = count_of(a.keys), count_of(a.values)
    powers = 1 if queries == keys == values == 1 else len(PARTS)  # as nodes of such would have them
    return Counts(queries, keys, values, powers)


def are_many(a: Attention, counts: Counts, target: Target, lanes: int) -> Scalar:
    """Whether tile registers are there for ``a``, and faster."""
    if not target.has(FEATURE) or target.is_strict or lanes != WORDS or a.row is None:
        return FALSE
    factors = (a.sum, a.score, a.queries, a.keys, a.values)
    if any(e.dtype is not FLOAT32 for e in factors) or not _pays(a, counts, a.row):
        return FALSE
    enough = [apply("le", index(LEAST), index(axis.extent)) for axis in (a.row, a.key)]
    return apply("and", *enough)


def _pays(a: Attention, counts: Counts, row: Variable) -> bool:
    """Whether so many queries and keys are faster in tiles, of those that are known."""
    terms, columns = a.term.extent, a.column.extent
    if not isinstance(terms, int) or not isinstance(columns, int):
        return False
    rows, keys, width = likely(row.extent), likely(a.key.extent), UNITS * WORDS
    padded = -(-rows // width) * width * (-(-keys // TERMS) * TERMS)
    whole = -(-terms // TERMS) * TERMS, -(-columns // WORDS) * WORDS
    products = padded * sum(n * share for n, share in zip(whole, counts.shares, strict=True))
    chunks = -(-rows // (panels_of(row.extent) * width))
    apart = APART * chunks * keys * (terms + columns)
    tiles = TILES * products + PAIR[1] * padded + apart
    return tiles < rows * keys * (terms + columns + PAIR[0])


def panels_of(rows: DimLike) -> int:
    """Panels of a chunk, all of about as many."""
    if not isinstance(rows, int):
        return MOST_PANELS
    panels = -(-rows // (UNITS * WORDS))
    return -(-panels // -(-panels // MOST_PANELS))


class Panels(Queries):
    """Panels of queries that take keys and values apart together.

    Words of a factor hold a term and the one 16 behind it. Parts lie by step of 32 terms, then by
    row or word of a register, then by word or column.
    """

    keys = 128

    def __init__(
        self,
        a: Attention,
        counts: Counts,
        row: Variable,
        axes: tuple[Variable, Variable],
        scratch: Scratch,
    ) -> None:
        width, (block, panel) = UNITS * WORDS, axes
        first = (block.dim * panel.extent + panel.dim) * width
        super().__init__(a, row, first, (WORDS, UNITS, HEIGHT), scratch, panel)
        self.panels = panel
        self.steps = terms = -(-likely(a.term.extent) // TERMS)
        self.columns = -(-(likely(a.column.extent) + self.ones) // TERMS) * TERMS
        rows = max(self.keys, self.columns)
        self.found = scratch.buffer("products", rows * width, FLOAT32)
        self.turned = scratch.buffer("turned", self.columns * self.keys, FLOAT32)
        words = terms * WORDS * width
        self.query_parts = [self._kept("query", words, INT32) for _ in range(counts.queries)]
        self.key_parts = self._parts("key", terms * self.keys * WORDS, counts.keys)
        self.value_parts = self._parts("value", self.columns * self.keys // 2, counts.values)
        self.power_parts = self._parts("power", self.keys // 2 * width, counts.powers)
        self.is_seen = scratch.buffer("seen", panel.extent, BOOL)

    def _parts(self, name: str, words: int, count: int) -> list[Buffer]:
        return [self.scratch.buffer(name, words, INT32) for _ in range(count)]

    def body(self) -> Block:
        """Everything for one chunk of queries."""
        return (
            Loop(self.panels, (*self._start(), *self._query_parts())),
            *self._steps(),
            Loop(self.panels, self._end()),
        )

    def _step(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on, taken apart if any panel sees them."""
        through = self._through(first, count)
        made = (*self._key_parts(first, count), *self._value_parts(first, count))
        exists = apply("lt", index(self.first), index(self.row.extent))
        seen = apply("and", exists, self._is_seen(first, count))
        if seen is TRUE:
            return (*made, Loop(self.panels, through))
        one = Variable("p", self.panels.extent)
        any_ = reduction("or", (one,), load(self.is_seen, one.dim))
        mine = load(self.is_seen, self.panels.dim)
        return (
            Loop(self.panels, (Put(self.is_seen, self.panels.dim, seen),)),
            When(any_, (*made, Loop(self.panels, (When(mine, through),)))),
        )

    # ── what is taken apart

    def _query_parts(self) -> Block:
        step, word = Variable("s", self.steps), Variable("w", WORDS)
        terms = [step.dim * TERMS + word.dim + k for k in (0, WORDS)]
        pair = [
            below(term, self.a.term.extent, substitute_scalar(e, {self.a.term: term}))
            for e in [self._of(self.queries, self.a.term)]
            for term in terms
        ]
        place = (step.dim * WORDS + word.dim) * self.width + self.query.dim
        puts = tuple(
            replace_fields(put, address=self.starts[put.buffer] + put.address)
            for put in self._put_parts(self.query_parts, place, pair)
        )
        return (Loop(step, (Loop(word, (Lanes(self.query, UNITS, puts),)),)),)

    def _key_parts(self, first: DimLike, count: DimLike) -> Block:
        step, key, word = Variable("s", self.steps), Variable("j", count), Variable("w", WORDS)
        a = self.a
        pair = [
            below(
                term,
                a.term.extent,
                substitute_scalar(a.keys, {a.key: first + key.dim, a.term: term}),
            )
            for term in (step.dim * TERMS + word.dim + k for k in (0, WORDS))
        ]
        place = (step.dim * self.keys + key.dim) * WORDS + word.dim
        puts = self._put_parts(self.key_parts, place, pair)
        return (Loop(key, (Loop(step, (Lanes(word, 1, puts),)),)),)

    def _value_parts(self, first: DimLike, count: DimLike) -> Block:
        a = self.a
        key, column = Variable("j", count), Variable("e", a.column.extent)
        e = substitute_scalar(a.values, {a.key: first + key.dim, a.column: column.dim})
        tile = Variable("t", ceildiv(column.extent, WORDS))
        put = Put(self.turned, column.dim * self.keys + key.dim, e)
        turn = Turn(key, column, tile.dim * WORDS, (as_load(e),), put)
        step, word = Variable("s", ceildiv(count, TERMS)), Variable("w", WORDS)
        pair = [
            below(term, count, load(self.turned, column.dim * self.keys + term))
            for term in (step.dim * TERMS + word.dim + k for k in (0, WORDS))
        ]
        place = (step.dim * self.columns + column.dim) * WORDS + word.dim
        puts = self._put_parts(self.value_parts, place, pair)
        return (
            Loop(tile, (Lanes(key, 1, (turn,)),)),
            Loop(column, (Loop(step, (Lanes(word, 1, puts),)),)),
        )

    def _put_parts(
        self, buffers: list[Buffer], place: DimLike, pair: list[Scalar]
    ) -> tuple[Put, ...]:
        """What stores the parts of two numbers, as many as there are ``buffers`` for."""
        made = in_parts(*pair)[: len(buffers)] if len(buffers) > 1 else (apply("halves", *pair),)
        parts = zip(buffers, made, strict=True)
        return tuple(Put(buffer, place, part) for buffer, part in parts)

    # ── products

    def _scores_by(self, tile: Tile) -> Block:
        step, word = Variable("s", self.steps), Variable("w", WORDS)
        place = (step.dim * WORDS + word.dim) * self.width + self.query.dim
        right = tuple(load(b, self.starts[b] + place) for b in self.query_parts)
        return self._products(tile, self.key_parts, self.keys, right, (step, word), ())

    def _sums_by(self, tile: Tile, count: DimLike) -> Block:
        step, word = Variable("s", ceildiv(count, TERMS)), Variable("w", WORDS)
        place = (step.dim * WORDS + word.dim) * self.width + self.query.dim
        right = tuple(load(b, place) for b in self.power_parts)
        pair = [
            load(self.scores, (step.dim * TERMS + word.dim + k) * self.width + self.query.dim)
            for k in (0, WORDS)
        ]
        made = self._put_parts(self.power_parts, place, pair)
        left = step.extent * TERMS - count
        none = Variable("j", left)
        zero = Put(
            self.scores, (count + none.dim) * self.width + self.query.dim, const(0.0, FLOAT32)
        )
        fill = () if left == 0 else (Loop(none, (Lanes(self.query, UNITS, (zero,)),)),)
        products = self._products(tile, self.value_parts, self.columns, right, (step, word), made)
        return (*fill, *products)

    def _products(
        self,
        tile: Tile,
        left: list[Buffer],
        rows: int,
        right: tuple[Scalar, ...],
        axes: tuple[Variable, Variable],
        made: tuple[Put, ...],
    ) -> Block:
        """The sums of ``tile``, in tile registers, and what is done with them."""
        step, word = axes
        found = tile.found or (self.found, 0)
        block, row = Variable("t", ceildiv(tile.rows[2], WORDS)), Variable("r", WORDS)
        place = (step.dim * rows + block.dim * WORDS + row.dim) * WORDS + word.dim
        parts = Parts(
            left=tuple(load(b, place) for b in left),
            right=right,
            tile=block,
            row=row,
            step=step,
            word=word,
            column=self.query,
            rows=tile.rows[:2],
            units=UNITS,
            sums=found,
            fresh=True,
            made=made,
        )
        return (parts, replace_fields(tile, found=found))


def below(place: DimLike, end: DimLike, e: Scalar) -> Scalar:
    """``e`` where ``place`` is below ``end``, 0 behind it."""
    inside = apply("lt", index(place), index(end))
    return select(inside, guarded(e, inside), 0)


__all__ = ["Counts", "Panels", "are_many", "below", "counts_of", "panels_of"]
