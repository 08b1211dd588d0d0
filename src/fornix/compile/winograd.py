"""Winograd's convolution: fewer multiplications, by transforms of small tiles.

Along an axis with r taps w, a tile of m results reads n = m + r - 1 elements d. The products of two
polynomials are known by their values at n points, of which each takes one multiplication; so with
small fixed matrices B, G and A (Toom and Cook's)

    y = Aᵀ [(G w) ⊙ (Bᵀ d)]

Let M(x) be the product of all x - p, of the points p that are finite. Then a column of A holds the
powers of p, a row of G those divided by M'(p), and a row of Bᵀ the coefficients of M(x) / (x - p).
For the point at infinity A and G have 1 at the highest power, and B has M(x). Along several axes
one transform follows the other. The sum over channels becomes one matrix product for each position
in a tile. This file holds the matrices, as arithmetic on loop scalars, and the choice of m;
`schedule.winograd` decides how the three stages run.

Points are 0 and ±1 for n = 4, and ±2 too for n = 6: with these transforms are few operations. They
add rounding: on normal data, relative to the largest result, the error of n = 4 is 2e-7 with 16
channels to 1e-6 with 512, that of n = 6 along one axis 6e-7 to 8e-6, along two 2e-6 to 24e-6
(F(4, 3), the others are below it), against 5e-7 for the direct sum. A NaN or an infinity reaches
all results of its tile.
Sources: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin & Gray, "Fast Algorithms for
Convolutional Neural Networks", 2015.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from fornix.ir.loops import Scalar, apply

Vector = list[Scalar]
Place = tuple[int, ...]
Windows = dict[Place, Scalar]
"""What stands at the positions of a tile, in their order: the last axis is the fastest."""
Transform = Callable[[Sequence[Scalar]], Vector]
Factors = Sequence[int | Fraction]

TAPS = range(2, 6)
"""Along an axis; more would need tiles, and points, whose transforms round too much."""
MOST_AXES = 2
"""With taps. A tile along three would have 64 to 216 positions."""
POINTS: dict[int, tuple[int, ...]] = {1: (), 4: (1,), 6: (1, 2)}
"""By n: the finite points above 0. As many are below, and one is 0 where there are any."""


def _combined(factors: Factors, values: Sequence[Scalar]) -> Scalar:
    """The sum of ``values`` times ``factors``; a value with the factor 1 is where it starts."""
    terms = [(f, v) for f, v in zip(factors, values, strict=True) if f != 0]
    (factor, total), *rest = sorted(terms, key=lambda term: term[0] != 1)
    if factor != 1:
        total = total * float(factor)
    for factor, value in rest:
        if abs(factor) == 1:
            total = total + value if factor == 1 else total - value
        else:
            total = apply("fma", value, float(factor), total)
    return total


def _at_both(factors: Factors, values: Sequence[Scalar]) -> Vector:
    """A polynomial by its ``factors`` at some point, and at the one below 0: even ± odd powers."""
    odd = factors[1::2]
    last = next(f for f in reversed(odd) if f != 0)
    even, odd_sum = (
        _combined(factors[::2], values[::2]),
        _combined([Fraction(f) / last for f in odd], values[1::2]),
    )
    return [_combined((1, sign * last), (even, odd_sum)) for sign in (1, -1)]


def _product(points: Sequence[int]) -> list[int]:
    """The coefficients of x · Π (x² - p²), the lowest first."""
    found = [0, 1]
    for p in points:
        found = [a - p * p * b for a, b in zip([0, 0, *found], [*found, 0, 0], strict=True)]
    return found


@dataclass(frozen=True)
class Along:
    """The algorithm along one axis: tiles of ``out`` results, of ``taps`` each. F(m, r)."""

    out: int
    taps: int

    @property
    def edge(self) -> int:
        """Elements of the image along a tile."""
        return self.out + self.taps - 1

    @property
    def points(self) -> tuple[int, ...]:
        """Those above 0."""
        return POINTS[self.edge]

    @property
    def operations(self) -> int:
        """Of the transform of an image, about those of the results."""
        return self.edge * len(self.points)

    def filters(self, w: Sequence[Scalar]) -> Vector:
        """``G w``."""
        if self.edge == 1:
            return [*w]
        found = [w[0] * (1 / _product(self.points)[1])]
        for p in self.points:
            others = _product([q for q in self.points if q != p])
            slope = 2 * p * sum(c * p**k for k, c in enumerate(others))
            found += _at_both([Fraction(p**k, slope) for k in range(self.taps)], w)
        return [*found, w[-1]]

    def images(self, d: Sequence[Scalar]) -> Vector:
        """``Bᵀ d``."""
        if self.edge == 1:
            return [*d]
        whole = _product(self.points)
        found = [_combined(whole[1:], d[:-1])]
        for p in self.points:
            others = _product([q for q in self.points if q != p])
            factors = [a + p * b for a, b in zip([0, *others], [*others, 0], strict=True)]
            found += _at_both(factors, d[:-1])
        return [*found, _combined(whole, d)]

    def results(self, t: Sequence[Scalar]) -> Vector:
        """``Aᵀ t``."""
        if self.edge == 1:
            return [*t]
        pairs = list(zip(t[1:-1:2], t[2:-1:2], strict=True))
        sums, gaps = [a + b for a, b in pairs], [a - b for a, b in pairs]
        found: Vector = []
        for k in range(self.out):
            factors = [int(k == 0), *(p**k for p in self.points), int(k == self.out - 1)]
            found.append(_combined(factors, (t[0], *(gaps if k % 2 else sums), t[-1])))
        return found


@dataclass(frozen=True)
class Winograd:
    """The algorithm along the axes of an image; those without taps have tiles of 1."""

    axes: tuple[Along, ...]
    is_half: bool = False
    """Whether filters are stored as they are before the transform along the last axis."""

    @property
    def positions(self) -> int:
        """Matrix products."""
        return math.prod(axis.edge for axis in self.axes)

    @property
    def lines(self) -> int:
        """Of a tile, along its last axis."""
        return self.positions // self.axes[-1].edge

    @property
    def stored(self) -> int:
        """Elements of a filter of one channel, as it is stored."""
        return self.lines * self.axes[-1].taps if self.is_half else self.positions

    def halved(self, channels: int, filters: int, lanes: int, cache: float) -> Winograd:
        """Itself, with filters stored by half if they are large and a ``cache`` holds a line."""
        line = 4 * self.axes[-1].edge * channels * UNITS * lanes
        is_large = 4 * self.positions * channels * filters > LARGE_BYTES
        return replace(self, is_half=is_large and self.axes[-1].taps > 1 and line <= cache)

    @property
    def taps(self) -> int:
        """Of the filters, in all."""
        return math.prod(axis.taps for axis in self.axes)

    @property
    def transform_cost(self) -> float:
        """Cycles for a tile of one vector of channels, of the image and of the result alike."""
        operations = sum(self.positions // x.edge * x.operations for x in self.axes)
        return MOVED * 2 * self.positions + OPERATION * operations

    def places(self) -> Iterator[Place]:
        """Of the elements of the image in a tile, in their order."""
        return itertools.product(*(range(axis.edge) for axis in self.axes))


def algorithms(taps: Sequence[int]) -> list[Winograd]:
    """Those for filters with so many ``taps`` along each axis."""
    found: list[Winograd] = []
    for edge in sorted(POINTS)[1:]:
        axes = tuple(Along(1 if r == 1 else edge - r + 1, r) for r in taps)
        if all(x.taps == 1 or x.out > 1 for x in axes):
            found.append(Winograd(axes))
    return found


def along_all(transforms: Sequence[Transform], tile: Windows) -> Windows:
    """``tile`` transformed along its first axis, then along the next."""
    for k, transform in enumerate(transforms):
        lines: dict[Place, Vector] = {}
        for place, value in tile.items():
            lines.setdefault((*place[:k], *place[k + 1 :]), []).append(value)
        tile = {
            (*rest[:k], i, *rest[k:]): value
            for rest, line in lines.items()
            for i, value in enumerate(transform(line))
        }
    return dict(sorted(tile.items()))


# ── choice ─────────────────────────────────────────────────────────────────────────────────────

MEMORY_BYTES = 6.5
"""Bytes that a core reads from memory in a cycle; weights come from there."""
UNITS = 2
"""Vectors of filters in a panel, unless there are no more than one."""
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
MOVED, OPERATION = 2.4, 0.4
"""Cycles to load or store a vector of a tile, and of an operation of a transform."""
GATHER_COST = 7.0
"""Cycles to copy an element of an image one by one, in vectors of channels from several planes."""


@dataclass(frozen=True)
class Image:
    """The results of a convolution: extents along its axes, and the taps there."""

    extents: tuple[int, ...]
    dilations: tuple[int, ...] = (1, 1)
    taps: tuple[int, ...] = (3, 3)
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

    def tiles(self, algorithm: Winograd) -> int:
        """Tiles of the results; with a dilation of d, those of each d-th row."""
        along = zip(self.extents, self.dilations, algorithm.axes, strict=True)
        return math.prod(d * -(-n // (d * axis.out)) for n, d, axis in along)


def best(
    image: Image, channels: int, filters: int, lanes: int,
    speed: float = 1.0, held: int = 0, cache: float = 0,
) -> Winograd | None:  # fmt: skip
    """The algorithm with the least cost for an ``image`` of results; None for the direct sum.

    That may be at such a ``speed``, relative to that of vectors of float32. Of transformed filters
    caches keep ``held`` bytes; a ``cache`` may hold those of a line and a panel for each run.
    """
    if channels < LEAST_CHANNELS or filters * 2 < LEAST_CHANNELS:
        return None
    vectors = -(-filters // lanes)
    weights = 4 * channels * filters / MEMORY_BYTES / image.images
    taps = math.prod(image.taps)
    terms = image.size * image.share * taps * channels
    direct = terms * vectors / DIRECT_EFFICIENCY / speed + taps * weights
    costs: dict[Winograd, float] = {}
    for whole in algorithms(image.taps):
        algorithm = whole.halved(channels, filters, lanes, cache)
        tiles = image.tiles(algorithm)
        products = tiles * algorithm.positions * channels * vectors
        transforms = tiles * algorithm.transform_cost * (channels / lanes + vectors)
        cost = products + transforms + algorithm.stored * weights
        if algorithm.is_half:
            moved = algorithm.stored + algorithm.positions
            cost += MOVED * moved * channels * vectors / image.images
        cost += GATHER_COST * image.size * channels * image.is_gathered
        large = max(0, 4 * algorithm.stored * channels * filters - LARGE_BYTES)
        cost += LARGE_PRICE * large / image.images
        costs[algorithm] = cost
    found = min(costs, key=costs.__getitem__)
    is_held = 4 * found.stored * channels * filters <= held
    return found if costs[found] - is_held * found.stored * weights < direct else None


__all__ = [
    "HELD_BYTES",
    "MOST_AXES",
    "TAPS",
    "UNITS",
    "Along",
    "Image",
    "Place",
    "Windows",
    "Winograd",
    "algorithms",
    "along_all",
    "best",
]
