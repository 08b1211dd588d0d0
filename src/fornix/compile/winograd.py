"""Winograd's convolution with 3×3 taps: fewer multiplications, by transforms of small tiles.

A tile of m×m results reads (m + 2)² elements d of the image. With fixed small matrices B, G and A,

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A

so the sum over channels becomes one matrix product for each of the (m + 2)² positions. This file
holds the matrices, as arithmetic on loop scalars, and the choice of m; `schedule.winograd` decides
how the three stages run. Transforms add rounding: on normal data, relative to the largest result,
the error is 4e-7 to 9e-7 for m = 2, and for m = 4 from 4e-6 with 16 channels to 16e-6 with 512,
against 5e-7 for the direct sum. A NaN or an infinity reaches all results of its tile.
Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.ir.loops import Scalar, apply

Vector = list[Scalar]
Matrix = list[Vector]
Transform = Callable[[Sequence[Scalar]], Vector]

TAPS = 3


def _fma(a: Scalar, factor: float, b: Scalar) -> Scalar:
    """``factor·a + b``."""
    return apply("fma", a, factor, b)


def _filter_2(w: Sequence[Scalar]) -> Vector:
    outer = w[0] + w[2]
    return [w[0], (outer + w[1]) * 0.5, (outer - w[1]) * 0.5, w[2]]


def _image_2(d: Sequence[Scalar]) -> Vector:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _result_2(t: Sequence[Scalar]) -> Vector:
    return [t[0] + (t[1] + t[2]), (t[1] - t[2]) - t[3]]


def _filter_4(w: Sequence[Scalar]) -> Vector:
    outer, far = w[0] + w[2], w[0] * (1 / 24) + w[2] * (1 / 6)
    return [
        w[0] * 0.25,
        (outer + w[1]) * (-1 / 6),
        (outer - w[1]) * (-1 / 6),
        _fma(w[1], 1 / 12, far),
        _fma(w[1], -1 / 12, far),
        w[2],
    ]


def _image_4(d: Sequence[Scalar]) -> Vector:
    even, odd = _fma(d[2], -4.0, d[4]), _fma(d[1], -4.0, d[3])
    near, step = d[4] - d[2], d[3] - d[1]
    return [
        _fma(d[0], 4.0, _fma(d[2], -5.0, d[4])),
        even + odd,
        even - odd,
        _fma(step, 2.0, near),
        _fma(step, -2.0, near),
        _fma(d[1], 4.0, _fma(d[3], -5.0, d[5])),
    ]


def _result_4(t: Sequence[Scalar]) -> Vector:
    sum1, sum2 = t[1] + t[2], t[3] + t[4]
    gap1, gap2 = t[1] - t[2], t[3] - t[4]
    return [
        t[0] + sum1 + sum2,
        _fma(gap2, 2.0, gap1),
        _fma(sum2, 4.0, sum1),
        _fma(gap2, 8.0, gap1) + t[5],
    ]


@dataclass(frozen=True)
class Winograd:
    """The algorithm for tiles of ``out`` × ``out`` results."""

    out: int
    """m."""
    filters: Transform
    """G, applied to one column of taps; `images` and `results` are Bᵀ and Aᵀ."""
    images: Transform
    results: Transform
    transform_cost: float
    """Cycles for a tile of one vector of channels, of the image and of the result alike."""

    @property
    def edge(self) -> int:
        """Elements of the image along an edge of a tile."""
        return self.out + TAPS - 1

    @property
    def positions(self) -> int:
        """Matrix products."""
        return self.edge**2


F2 = Winograd(2, _filter_2, _image_2, _result_2, 90.0)
F4 = Winograd(4, _filter_4, _image_4, _result_4, 230.0)


def both_ways(transform: Transform, block: Matrix) -> Matrix:
    """``transform`` of the columns of ``block``, then of its rows."""
    columns = [transform(column) for column in zip(*block, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


# ── choice ─────────────────────────────────────────────────────────────────────────────────────

MEMORY_BYTES = 6.5
"""Bytes that a core reads from memory in a cycle; weights come from there."""
LARGE_BYTES = 16 << 20
"""Of transformed filters, up to which nobody minds that they take more memory than weights."""
HELD_BYTES = 4 << 20
"""Of transformed filters, up to which large second caches hold most of them from run to run."""
LARGE_PRICE = 0.25
"""Cycles that each further byte is worth: 15 MB cost about a millisecond of one thread."""
DIRECT_EFFICIENCY = 0.85
"""Share of the multipliers that the direct sum keeps busy."""
LEAST_CHANNELS = 16
"""Channels and filters below which transforms cost more than they save, whatever the tile."""
GATHER_COST = 7.0
"""Cycles to copy an element of an image one by one, in vectors of channels from several planes."""


@dataclass(frozen=True)
class Image:
    """The results of a convolution: extents along both axes, and the dilations of the taps."""

    extents: tuple[int, ...]
    dilations: tuple[int, ...] = (1, 1)
    share: float = 1.0
    """Of the taps, which the direct sum goes through: it leaves out what lies in the padding."""
    is_gathered: bool = False
    """Whether vectors of its channels are gathered from several planes."""
    images: int = 1
    """Alike, for which weights are read once."""

    @property
    def size(self) -> int:
        """Number of results."""
        return math.prod(self.extents)

    def tiles(self, out: int) -> int:
        """Tiles of ``out`` × ``out`` results; with a dilation of d, those of each d-th row."""
        pairs = zip(self.extents, self.dilations, strict=True)
        return math.prod(d * -(-n // (d * out)) for n, d in pairs)


def best(
    image: Image, channels: int, filters: int, lanes: int, speed: float = 1.0, held: int = 0
) -> Winograd | None:
    """The algorithm with the least cost for an ``image`` of results; None for the direct sum.

    That may be at such a ``speed``, relative to that of vectors of float32. Of transformed filters
    caches keep ``held`` bytes.
    """
    if channels < LEAST_CHANNELS or filters * 2 < LEAST_CHANNELS:
        return None
    vectors = -(-filters // lanes)
    weights = 4 * channels * filters / MEMORY_BYTES / image.images
    taps = TAPS**2
    terms = image.size * image.share * taps * channels
    direct = terms * vectors / DIRECT_EFFICIENCY / speed + taps * weights
    costs: dict[Winograd, float] = {}
    for algorithm in (F2, F4):
        tiles = image.tiles(algorithm.out)
        products = tiles * algorithm.positions * channels * vectors
        transforms = tiles * algorithm.transform_cost * (channels / lanes + vectors)
        cost = products + transforms + algorithm.positions * weights
        cost += GATHER_COST * image.size * channels * image.is_gathered
        large = max(0, 4 * algorithm.positions * channels * filters - LARGE_BYTES)
        cost += LARGE_PRICE * large / image.images
        costs[algorithm] = cost
    found = min(costs, key=costs.__getitem__)
    is_held = 4 * found.positions * channels * filters <= held
    return found if costs[found] - is_held * found.positions * weights < direct else None


__all__ = ["F2", "F4", "HELD_BYTES", "TAPS", "Image", "Winograd", "best", "both_ways"]
