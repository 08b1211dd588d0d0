"""Which experts rows go to, and rows that one expert reads side by side.

Rows are brought into tiles of one expert each, whose weights are then read for several of them at
once. How high tiles are follows from how many rows an expert has on the average: in a step, where
rows have an expert each, they are rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fornix.dtype import INT32
from fornix.ir.dim import Dim, DimLike, ceildiv, maximum, minimum
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    reduce,
    scan,
    scatter,
    select,
    stored,
)
from fornix.ops.extremes import lower_foremost, top_k
from fornix.ops.fact import Array

HEIGHT = 8
"""Rows of a tile at most: more share what they read, but more tiles are not full. 128 rows of 32
experts, 4 of each, take 26.0 ms with 8 and 34.5 with 16."""


def ranked(logits: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` highest of logits[T, E] and whose they are; of equals those of the last."""
    values, places = top_k(logits[:, ::-1], np.array(count), axis=1)
    return values, logits.shape[1] - 1 - places


def lower_ranked(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`ranked` for lowerings."""
    last = logits.shape[1] - 1
    turned = compute(logits.shape, lambda t, e: logits[t, last - e])
    values, places = lower_foremost(turned, 1, count, is_largest=True)
    chosen = compute(places.shape, lambda t, j: index(last) - places[t, j])
    return values, stored(chosen, "experts")


def as_parts_of_one(weights: Array) -> Array:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def lower_as_parts_of_one(weights: Tensor) -> Tensor:
    """`as_parts_of_one` for lowerings."""
    rows, count = weights.shape
    total = compute((rows,), lambda t: reduce("sum", count, lambda j: weights[t, j]))
    return compute(weights.shape, lambda t, j: weights[t, j] / total[t])


@dataclass(frozen=True)
class Groups:
    """Tiles of rows."""

    rows: Tensor
    """[tiles, height]: the row of the input that is there; one of them where none is."""
    experts: Tensor
    """[tiles, height]: whose they are, the same for all of a tile."""
    slots: Tensor
    """[T, k]: the place of each row of each expert among those of all tiles."""

    def place(self, t: DimLike, j: DimLike) -> tuple[DimLike, DimLike]:
        """The tile, and the place in it, of row ``t`` for its expert number ``j``."""
        tiles, height = self.rows.shape
        slot = self.slots[t, j]
        return (
            gathered(apply("div", slot, cast(index(height), INT32)), tiles),
            gathered(apply("mod", slot, cast(index(height), INT32)), height),
        )


def grouped(chosen: Tensor, experts: DimLike) -> Groups:
    """Tiles of the rows of ``chosen`` [T, k], of so many ``experts``."""
    rows, count = chosen.shape
    pairs = rows * count
    height = maximum(minimum(ceildiv(pairs, experts), HEIGHT), 1)
    tiles = (pairs + experts * (height - 1)) // height
    first, slots = _slots(chosen, experts, cast(index(height), INT32))
    none = compute((tiles * height,), lambda _: 0, INT32)
    row = scatter(
        none, (rows, count), lambda t, j: (gathered(slots[t, j], tiles * height),),
        lambda t, _: cast(index(t), INT32),
    )  # fmt: skip

    def owner(tile: DimLike) -> Scalar:
        def is_behind(e: DimLike) -> Scalar:
            return cast(apply("le", first[e], cast(index(tile), INT32)), INT32)

        return reduce("sum", experts, is_behind) - 1

    of_tile = stored(compute((tiles,), owner), "experts")
    return Groups(
        compute((tiles, height), lambda i, r: row[i * height + r]),
        compute((tiles, height), lambda i, _: of_tile[i]),
        slots,
    )


def _slots(chosen: Tensor, experts: DimLike, height: Scalar) -> tuple[Tensor, Tensor]:
    """The first tile of each expert, and the place among those of all tiles of each row of one."""
    rows, count = chosen.shape
    pairs = rows * count

    def expert(p: DimLike) -> Scalar:
        return cast(chosen[p // count, p - p // count * count], INT32)

    whose = stored(compute((pairs,), expert), "whose")

    def counted(p: Dim, seen: Tensor) -> Tensor:
        def one(e: DimLike) -> Scalar:
            return seen[e] + cast(apply("eq", whose[p], cast(index(e), INT32)), INT32)

        return compute((experts,), one)

    (seen,) = scan(pairs, [compute((experts,), lambda _: 0, INT32)], counted)
    tiles = compute((experts,), lambda e: apply("div", seen[pairs, e] + (height - 1), height))
    tiles = stored(tiles, "tiles")

    def before(e: DimLike) -> Scalar:
        def if_before(other: DimLike) -> Scalar:
            return select(apply("lt", index(other), index(e)), tiles[other], 0)

        return reduce("sum", experts, if_before)

    first = stored(compute((experts,), before), "first")

    def slot(t: DimLike, j: DimLike) -> Scalar:
        p = t * count + j
        own = gathered(whose[p], experts)
        return first[own] * height + seen[p, own]

    return first, stored(compute((rows, count), slot), "slots")
