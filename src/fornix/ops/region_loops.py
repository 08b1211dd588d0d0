"""Regions of images as routines: how many elements each of them reads depends on data.

Whoever calls them has checked where regions lie; what is read here is inside of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.ir.dim import DimLike
from fornix.ir.loops import Tensor, constant
from fornix.ir.loops.routines import Memory, after, float_like, pick, routine, truncated

CHANNELS = 32
"""Channels of a call, which share the places and weights of its samples."""
SUM, FIRST, LATER = 1, 2, 3
"""What a sample is to its bin: a part of the sum, or the first or a later one of which the greatest
counts."""
TYPICAL_ELEMENTS = 4
"""Elements of a cell, as far as operations are counted."""


def maxima_of_cells(
    x: Tensor,
    images: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
) -> Tensor:
    """The maximum of each cell of each region, 0 of none; NaN if there is one in it.

    x[N, C, H, W] · images[R] · rows[R, P] · columns[R, Q] → y[R, C, P, Q]; bounds of cells are
    their first element and their end.
    """
    (_, channels, height, width), (regions, tall), wide = (
        x.shape,
        rows[0].shape,
        columns[0].shape[1],
    )

    def told(call: DimLike) -> tuple[DimLike, ...]:
        region = call // channels
        return region, call - region * channels, channels, height * width, width, tall, wide

    calls = regions * channels
    [y] = routine(
        take_maxima,
        calls,
        [x, images, constant(np.zeros(1, x.dtype.numpy)), *rows, *columns],
        [((regions, channels, tall, wide), x.dtype)],
        told,
        operations=calls * tall * wide * TYPICAL_ELEMENTS,
    )
    return y


def take_maxima(
    x: Memory,
    images: Memory,
    zero: Memory,
    above: Memory,
    below: Memory,
    before: Memory,
    behind: Memory,
    y: Memory,
    region: int,
    channel: int,
    channels: int,
    elements: int,
    width: int,
    tall: int,
    wide: int,
) -> None:
    """The maxima of a region of one channel, which has so many ``elements``."""
    start = (images[region] * channels + channel) * elements
    out = (region * channels + channel) * tall * wide
    for i in range(tall):
        low, high = above[region * tall + i], below[region * tall + i]
        for j in range(wide):
            first, end = before[region * wide + j], behind[region * wide + j]
            y[out + i * wide + j] = zero[0]
            if low < high and first < end:
                y[out + i * wide + j] = greatest(x, start, width, low, high, first, end)


def greatest(x: Memory, start: int, width: int, low: int, high: int, first: int, end: int) -> Any:
    """The greatest element of some columns of some rows, of which there are."""
    best = x[start + low * width + first]
    for h in range(low, high):
        for w in range(first, end):
            best = greater(best, x[start + h * width + w])
    return best


def pooled_samples(
    x: Tensor,
    images: Tensor,
    samples: tuple[Tensor, Tensor, Tensor],
    bins: Sequence[int],
    *,
    is_sum: bool,
) -> Tensor:
    """The sums, or the greatest weighted corners, of the samples of each bin of each region.

    x[N, C, H, W] · images[R] · samples[R, 2] → y[R, C, *bins]. The samples are told by where a
    region begins along an axis, how long its bins are, and how many each has; of none the result
    is 0.
    """
    (_, channels, height, width), (tall, wide) = x.shape, bins
    regions = samples[0].shape[0]
    parts = (channels + CHANNELS - 1) // CHANNELS

    def told(call: DimLike) -> tuple[DimLike, ...]:
        region = call // parts
        first = (call - region * parts) * CHANNELS
        return region, first, channels, height, width, tall, wide, int(is_sum)

    [y] = routine(
        take_samples,
        regions * parts,
        [x, images, constant(np.zeros(1, x.dtype.numpy)), *samples],
        [((regions, channels, tall, wide), x.dtype)],
        told,
        scratch=[(2, x.dtype)],
        operations=regions * channels * tall * wide * TYPICAL_ELEMENTS * 8,
    )
    return y


def take_samples(
    x: Memory,
    images: Memory,
    zero: Memory,
    starts: Memory,
    sizes: Memory,
    counts: Memory,
    y: Memory,
    weights: Memory,
    region: int,
    channel: int,
    channels: int,
    height: int,
    width: int,
    tall: int,
    wide: int,
    is_sum: int,
) -> None:
    """The bins of a region, of up to `CHANNELS` channels from ``channel`` on."""
    start = (images[region] * channels + channel) * height * width
    out = (region * channels + channel) * tall * wide
    count = min(channels - channel, CHANNELS)
    for k in range(count * tall * wide):
        y[out + k] = zero[0]
    if height < 1 or width < 1:
        return
    down, across = counts[2 * region], counts[2 * region + 1]
    for row in range(tall * down):
        i = row // down
        low = place_of(i, row - i * down, starts, sizes, counts, 2 * region, height, weights)
        upper, lower = weights[0], weights[1]
        here = start + low * width
        behind = start + min(low + 1, height - 1) * width
        for column in range(wide * across):
            j = column // across
            k = column - j * across
            first = place_of(j, k, starts, sizes, counts, 2 * region + 1, width, weights)
            second = min(first + 1, width - 1)
            near, far = weights[0], weights[1]
            how = SUM if is_sum != 0 else FIRST if row == i * down and k == 0 else LATER
            a, b = after(x, here + first), after(x, here + second)
            c, d = after(x, behind + first), after(x, behind + second)
            to = after(y, out + i * wide + j)
            u, v, s, t = upper * near, upper * far, lower * near, lower * far
            add_sample(a, b, c, d, u, v, s, t, to, count, height * width, tall * wide, how)


def add_sample(
    a: Memory,
    b: Memory,
    c: Memory,
    d: Memory,
    u: float,
    v: float,
    s: float,
    t: float,
    y: Memory,
    channels: int,
    step: int,
    bins: int,
    how: int,
) -> None:
    """Add the corners of a sample of each channel, times u, v, s and t, or keep the greatest."""
    to = 0
    for at in range(channels):
        place = at * step
        first, second = weighted(a, place, u), weighted(b, place, v)
        third, fourth = weighted(c, place, s), weighted(d, place, t)
        best = greater(greater(first, second), greater(third, fourth))
        if how == SUM:
            best = y[to] + (first + second + third + fourth)
        elif how == LATER:
            best = greater(y[to], best)
        y[to] = best
        to += bins


def weighted(x: Memory, place: int, weight: float) -> Any:
    """An element times its weight; without weight nothing is read: 0 · ∞ would be NaN."""
    return pick(weight == 0.0, weight, x[place] * weight)


def greater(a: float, b: float) -> Any:
    """The greater one of two numbers, NaN if either is."""
    return pick(a != a, a, pick(a >= b, a, b))  # noqa: PLR0124 - that is a NaN


def place_of(
    number: int,
    sample: int,
    starts: Memory,
    sizes: Memory,
    counts: Memory,
    axis: int,
    length: int,
    weights: Memory,
) -> int:
    """The element before a ``sample`` of bin ``number``; the weights of it and of the next one.

    They are 0 where the sample is more than an element outside.
    """
    size, count = sizes[axis], counts[axis]
    step = float_like(sample, starts) + 0.5
    at = starts[axis] + float_like(number, starts) * size
    at += step * size / float_like(count, starts)
    is_inside = at >= float_like(-1, starts) and at <= float_like(length, starts)
    inner = at if at > 0.0 else float_like(0, starts)
    inner = min(inner, float_like(length - 1, starts))
    low = truncated(inner)
    part = inner - float_like(low, starts)
    weights[0] = 1.0 - part if is_inside else float_like(0, starts)
    weights[1] = part if is_inside else float_like(0, starts)
    return low


__all__ = ["maxima_of_cells", "pooled_samples"]
