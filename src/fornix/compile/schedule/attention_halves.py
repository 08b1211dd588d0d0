"""Attention whose numbers are bfloat16s, or are rounded to such.

Products are then fast, and what vectors do beside them counts: a score is read for the maximum, and
again for its power, which is as exact as it has to be. The sum of powers is that of products with
values of 1, which stand behind all columns. In tile registers (AMX) powers are made while others
are multiplied; elsewhere (AVX512-BF16) vectors multiply two terms at a time, those of a query and
a key the first and the second half of their elements, those of values and powers of two keys.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace as replace_fields

from fornix.compile.attention import Attention
from fornix.compile.emit.halves import WHOLE
from fornix.compile.emit.maths import polynomial
from fornix.compile.nest import Block, Lanes, Loop, Put, Tile, Turn
from fornix.compile.schedule.attention_blocks import Places, Queries, Scratch, as_load, shift
from fornix.compile.schedule.attention_parts import UNITS, Counts, Panels, below, panels_of
from fornix.compile.schedule.halves import HALVES, LEAST_TERMS
from fornix.compile.schedule.parts import FEATURE, TERMS, WORDS
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import DimLike, ceildiv
from fornix.ir.loops import (
    Buffer,
    Scalar,
    Variable,
    apply,
    bitcast,
    index,
    load,
    select,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import const, reduction

ONES = 0x3F803F80
"""1 as a bfloat16, twice."""
POWER = 0.9999280729906298, 0.6932609947483397, 0.24261113284104707, 0.05517160341542559
"""2ˣ for |x| ≤ ½ to 8·10⁻⁵, a 26th of what rounding to a bfloat16 may take: the polynomial of least
relative error, by Lawson's weights."""
MIDDLE = 1.5 * 2.0**23 + 127
"""What rounds a number to an integer, whose last bits are then those of an exponent."""
LOG2_E = 1 / math.log(2)
LEAST = -126.5 / LOG2_E
"""The power of less than this is no normal number, and counts as 0."""
AT_ONCE = 8
"""Scores of which the greatest is found before the one so far is asked."""


def part_blocks(
    a: Attention, counts: Counts, row: Variable, scratch: Scratch
) -> tuple[Variable, Block]:
    """The axis of chunks of queries, and what is done for each."""
    panel = Variable("p", panels_of(row.extent))
    block = Variable("q", ceildiv(row.extent, panel.extent * UNITS * WORDS))
    kind = Halves if counts.powers == 1 else Panels
    return block, kind(a, counts, row, (block, panel), scratch).body()


class Rounded(Queries):
    """Queries whose powers are rounded."""

    ones = 1
    less: Buffer
    """What is taken from scores."""

    def _highest(self, count: DimLike) -> Block:
        """The greatest score so far; behind the last one are some that count for nothing.

        One that is NaN is left out: its power is NaN anyway.
        """
        whole = ceildiv(count, TERMS) * TERMS
        none, some = Variable("j", whole - count), Variable("j", ceildiv(whole, AT_ONCE))
        behind = self._at(self.scores, none) + count * self.width
        nothing = Put(self.scores, behind, const(-math.inf, FLOAT32))
        fill = (
            () if whole == count else (Loop(none, (Lanes(self.query, self.vectors, (nothing,)),)),)
        )
        scores = [self._score_at(some.dim * AT_ONCE + k) for k in range(AT_ONCE)]
        highest = functools.reduce(
            _greater, [_greater(*scores[k : k + 2]) for k in range(0, AT_ONCE, 2)]
        )
        return (
            *fill,
            self._each(self.higher, self._of(self.top)),
            Loop(some, (self._each(self.higher, _greater(highest, self._of(self.higher))),)),
        )

    def _score_at(self, key: DimLike) -> Scalar:
        return load(self.scores, key * self.width + self.query.dim)

    def _power(self, key: DimLike) -> Scalar:
        """The exponential of a score less the highest, as exactly as a bfloat16 needs it."""
        x = self._score_at(key) - self._of(self.less)
        x = select(x < LEAST, LEAST, x)
        shifted = apply("fma", x, LOG2_E, MIDDLE)
        part = apply("fma", x, LOG2_E, MIDDLE - shifted)
        power = polynomial(part, POWER)
        return power * bitcast(apply("shl", bitcast(shifted, INT32), 23), FLOAT32)

    def _whole(self) -> Scalar:
        start = self.starts.get(self.sums, 0) + self.a.column.extent * self.width
        return load(self.sums, start + self.query.dim)


class Halves(Rounded, Panels):
    """Panels of them in tile registers."""

    def __init__(
        self,
        a: Attention,
        counts: Counts,
        row: Variable,
        axes: tuple[Variable, Variable],
        scratch: Scratch,
    ) -> None:
        super().__init__(a, counts, row, axes, scratch)
        self.less = scratch.buffer("less", self.width, FLOAT32)

    def body(self) -> Block:
        """Everything for one chunk of queries."""
        step, word = Variable("s", self.keys // TERMS), Variable("w", WORDS)
        place = (step.dim * self.columns + self.a.column.extent) * WORDS + word.dim
        ones = Put(self.value_parts[0], place, const(ONES, INT32))
        return (Loop(step, (Lanes(word, 1, (ones,)),)), *super().body())

    def _through(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on."""
        a, key, column = self.a, Variable("j", count), Variable("e", self.a.column.extent + 1)
        turned, (product, score) = self._score(first, key)
        tile = self._tile(key, product, Put(self.scores, self._at(self.scores, key), score))
        if score is product:
            tile = replace_fields(tile, found=(self.scores, 0))
        term = Variable("j", count)
        is_value = apply("lt", index(column.dim), index(a.column.extent))
        value = substitute_scalar(a.values, {a.key: first + term.dim, a.column: column.dim})
        value = select(is_value, guarded(value, is_value), 1.0)
        means = reduction("sum", (term,), value * self._power(term.dim))
        sum_ = self._of(self.sums, column) * self._of(self.factor) + means
        higher = self._of(self.higher)
        return (
            *turned,
            *self._scores_by(tile),
            *self._highest(count),
            self._each(self.factor, apply("exp", self._of(self.top) - shift(higher))),
            self._each(self.top, higher),
            self._each(self.less, shift(higher)),
            *self._sums_by(
                self._tile(column, means, Put(self.sums, self._at(self.sums, column), sum_)), count
            ),
        )

    def _sums_by(self, tile: Tile, count: DimLike) -> Block:
        step, word = Variable("s", ceildiv(count, TERMS)), Variable("w", WORDS)
        place = (step.dim * WORDS + word.dim) * self.width + self.query.dim
        (powers,) = self.power_parts
        terms = (step.dim * TERMS + word.dim + k for k in (0, WORDS))
        made = Put(powers, place, apply("halves", *map(self._power, terms)))
        right = (load(powers, place),)
        return self._products(tile, self.value_parts, self.columns, right, (step, word), (made,))


class Pairs(Rounded):
    """A block of them in vectors."""

    def __init__(
        self,
        a: Attention,
        row: Variable,
        first: DimLike,
        shape: tuple[int, int, int],
        scratch: Scratch,
    ) -> None:
        super().__init__(a, row, first, shape, scratch)
        self.less = scratch.buffer("less", self.width, FLOAT32)
        self.pair = Variable("d", a.term.extent // 2)
        self.columns = a.column.extent + self.ones
        words = {
            "query": self.pair.extent * self.width,
            "key": self.keys * self.pair.extent,
            "value": self.keys // 2 * self.columns,
            "power": self.keys // 2 * self.width,
        }
        self.words = {name: scratch.buffer(name, n, INT32) for name, n in words.items()}

    def body(self) -> Block:
        """Everything for one block of queries."""
        pair = Variable("j", self.keys // 2)
        place = pair.dim * self.columns + self.a.column.extent
        ones = Put(self.words["value"], place, const(ONES, INT32))
        return (Loop(pair, (ones,)), *super().body())

    def _turned_queries(self) -> Loop:
        at: Places = {self.row: self._place(self.query)}
        loads = self._both(substitute_scalar(self.a.queries, at))
        value = apply("halves", *(e * self.a.scale for e in loads))
        tile = Variable("t", ceildiv(self.pair.extent, self.lanes))
        put = Put(self.words["query"], self._at(self.words["query"], self.pair), value)
        turned = tuple(as_load(e) for e in loads)
        turn = Turn(self.query, self.pair, tile.dim * self.lanes, turned, put)
        return Loop(tile, (Lanes(self.query, 1, (turn,)),))

    def _both(self, e: Scalar) -> list[Scalar]:
        """``e`` at the two terms of a pair."""
        term, pair = self.a.term, self.pair
        return [substitute_scalar(e, {term: pair.dim + k * pair.extent}) for k in range(2)]

    def _through(self, first: DimLike, count: DimLike) -> Block:
        """``count`` keys from ``first`` on."""
        key, column = Variable("j", count), Variable("e", self.columns)
        pair = Variable("j", ceildiv(count, 2))
        turned, (product, score) = self._score(first, key)
        powers, sums, higher = self.words["power"], self.sums, self._of(self.higher)
        made = apply("halves", *(self._power(pair.dim * 2 + k) for k in range(2)))
        values = load(self.words["value"], pair.dim * self.columns + column.dim)
        means = reduction("sum", (pair,), apply("dot2", values, self._of(powers, pair)))
        sum_ = self._of(sums, column) * self._of(self.factor) + means
        return (
            *turned,
            self._key_pairs(first, count),
            self._tile(key, product, Put(self.scores, self._at(self.scores, key), score)),
            *self._highest(count),
            self._each(self.factor, apply("exp", self._of(self.top) - shift(higher))),
            self._each(self.top, higher),
            self._each(self.less, shift(higher)),
            Loop(pair, (self._each(powers, made, pair),)),
            self._value_pairs(first, count),
            self._tile(column, means, Put(sums, self._at(sums, column), sum_)),
        )

    def _product(self, _first: DimLike, key: Variable) -> Scalar:
        keys = load(self.words["key"], key.dim * self.pair.extent + self.pair.dim)
        queries = self._of(self.words["query"], self.pair)
        return reduction("sum", (self.pair,), apply("dot2", keys, queries))

    def _key_pairs(self, first: DimLike, count: DimLike) -> Loop:
        key = Variable("j", count)
        value = apply(
            "halves", *self._both(substitute_scalar(self.a.keys, {self.a.key: first + key.dim}))
        )
        put = Put(self.words["key"], key.dim * self.pair.extent + self.pair.dim, value)
        return Loop(key, (Lanes(self.pair, UNITS, (put,)),))

    def _value_pairs(self, first: DimLike, count: DimLike) -> Loop:
        pair, column = Variable("j", ceildiv(count, 2)), Variable("e", self.a.column.extent)
        values = [
            below(
                term,
                count,
                substitute_scalar(
                    self.a.values, {self.a.key: first + term, self.a.column: column.dim}
                ),
            )
            for term in (pair.dim * 2 + k for k in range(2))
        ]
        put = Put(
            self.words["value"], pair.dim * self.columns + column.dim, apply("halves", *values)
        )
        return Loop(pair, (Lanes(column, UNITS, (put,)),))


def goes_in_pairs(a: Attention, counts: Counts, target: Target, lanes: int) -> bool:
    """Whether vectors multiply the numbers of ``a`` two at a time.

    Not beside tile registers: vectors there multiply floats twice in a cycle, and pairs once.
    """
    if counts.powers != 1 or target.is_strict or lanes != WHOLE or a.sum.dtype is not FLOAT32:
        return False
    if target.has(FEATURE) or not target.has(HALVES):
        return False
    terms = a.term.extent
    return isinstance(terms, int) and terms % 2 == 0 and terms >= LEAST_TERMS


def _greater(a: Scalar, b: Scalar) -> Scalar:
    """The greater one; ``b`` where ``a`` is NaN."""
    return select(b < a, a, b)


__all__ = ["Pairs", "goes_in_pairs", "part_blocks"]
