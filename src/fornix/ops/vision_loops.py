"""GridSample as loops: per axis the taps and their weights, then every combination of them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from fornix.dtype import FLOAT64
from fornix.ir.dim import DimLike, is_nonnegative
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, const, index, select, stored
from fornix.ops.interpolate_loops import lower_narrowed
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.sampling_loops import Tap, corner_tap, extent_as, weighted

CUBIC_COEFFICIENT = -0.75
"""The coefficient a of the cubic weights; the operator has no attribute for it."""


def lower_grid_sample(
    x: Tensor, grid: Tensor, mode: str, padding: str, *, is_aligned: bool
) -> Tensor:
    """The elements of x[N, C, *S] at the places grid[N, *O, rank]."""
    size, rank = x.shape[2:], x.rank - 2
    is_nearest = mode == "nearest"
    wide = wide_dtype(x.dtype) if x.dtype.is_float else FLOAT64

    def at(n: DimLike, c: DimLike, *o: DimLike) -> Scalar:
        def read(place: Sequence[DimLike]) -> Scalar:
            value = x[(n, c, *place)]
            return value if is_nearest else cast(value, wide)

        places = [cast(grid[(n, *o, rank - 1 - k)], wide_dtype(grid.dtype)) for k in range(rank)]
        taps = [
            axis_taps(place, extent, mode, padding, is_aligned=is_aligned)
            for place, extent in zip(places, size, strict=True)
        ]
        if not is_nearest:
            return functools.reduce(operator.add, weighted(taps, read))
        chosen = [tap for (tap,) in taps]
        weights = [apply("ne", weight, 0) for _, weight in chosen]
        is_inside = functools.reduce(operator.and_, weights)
        return select(is_inside, read([place for place, _ in chosen]), 0)

    y = compute((x.shape[0], x.shape[1], *grid.shape[1:-1]), at)
    if is_nearest or x.dtype.is_float:
        return lower_narrowed(y, x)
    return lower_narrowed(compute(y.shape, lambda *i: apply("trunc", y[i])), x)


def axis_taps(
    place: Scalar, extent: DimLike, mode: str, padding: str, *, is_aligned: bool
) -> list[Tap]:
    """`vision._taps` for lowerings: the taps of one place along one axis."""
    length = extent_as(extent, place.dtype)
    ends = (length * 0, length - 1) if is_aligned else (length * 0 - 0.5, length - 0.5)
    x = (place + 1) / 2 * (length - 1) if is_aligned else ((place + 1) * length - 1) / 2
    if mode != "cubic":
        x = _inside(x, length, padding, *ends)
    is_clipped = padding != "zeros"
    if mode == "nearest":
        rounded = apply("rint", x)
        return [corner_tap(rounded, rounded * 0 + 1, extent, is_clipped=is_clipped)]
    low = apply("floor", x)
    steps = range(-1, 3) if mode == "cubic" else range(2)
    taps = []
    for step in steps:
        tap = low + step
        distance = abs(tap - x)
        weight = _cubic(distance) if mode == "cubic" else 1 - distance
        if mode == "cubic":
            tap = _inside(tap, length, padding, *ends)
        taps.append(corner_tap(tap, weight, extent, is_clipped=is_clipped))
    return taps


def _cubic(d: Scalar) -> Scalar:
    """`interpolate.keys_cubic` of the distance ``d``, which is not negative."""
    a = CUBIC_COEFFICIENT
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return select(d <= 1, near, select(d < 2, far, 0))


def _inside(x: Scalar, length: Scalar, padding: str, low: Scalar, high: Scalar) -> Scalar:
    """`vision._inside` for lowerings."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        x = _reflected(x, low, high)
    return apply("min", apply("max", x, 0), length - 1)


def _reflected(x: Scalar, low: Scalar, high: Scalar) -> Scalar:
    """`vision._reflected` for lowerings."""
    span = high - low
    distance = abs(x - low)
    rest = apply("fmod", distance, span)
    is_odd = apply("eq", apply("fmod", apply("floor", distance / span), 2), 1)
    return select(span <= 0, low, low + select(is_odd, span - rest, rest))


def lower_affine_grid(theta: Tensor, shape: Sequence[DimLike], *, is_aligned: bool) -> Tensor:
    """grid[N, *S, r] = theta · (x, y, …, 1), of the centers of elements, innermost axis first."""
    rank = len(shape) - 2
    wide = wide_dtype(theta.dtype)
    factors = cast_tensor(theta, wide)

    def center(i: DimLike, length: DimLike) -> Scalar:
        if is_aligned and length == 1:
            return const(0.0, wide)
        steps = length - 1 if is_aligned else length
        twice = index(2 * i if is_aligned else 2 * i + 1)
        place = cast(cast(twice, FLOAT64) / cast(index(steps), FLOAT64) - 1.0, wide)
        if is_aligned and is_nonnegative(length - 2) is not True:
            return select(index(length) > 1, place, 0.0)
        return place

    def line(length: DimLike) -> Tensor:
        return stored(compute((length,), lambda i: center(i, length)), "centers")

    lines = [line(length) for length in reversed(shape[1:-1])]

    def at(n: DimLike, *place: DimLike) -> Scalar:
        *where, r = place
        terms = [factors[n, r, k] * lines[k][x] for k, x in enumerate(reversed(where))]
        return functools.reduce(operator.add, [*terms, factors[n, r, rank]])

    return cast_tensor(compute(shape, at), theta.dtype)
