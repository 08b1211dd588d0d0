"""Reading between elements as loops: weighted corners at places that data give.

What GridSample and DeformConv have in common; each says which corners there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from fornix.dtype import INT64, DType
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, apply, cast, gathered, index, select
from fornix.ops.scalar import isnan

Tap = tuple[DimLike, Scalar]
"""An index along one axis and its weight; 0 where nothing is to be read."""


def corner_tap(at: Scalar, weight: Scalar, extent: DimLike, *, is_clipped: bool) -> Tap:
    """The tap at the whole number ``at``; outside of the axis the border, or without weight."""
    last = extent_as(extent, at.dtype) - 1
    if not is_clipped:
        inside = (at >= 0) & (at <= last)
        weight = select(inside, weight, 0)
    number = select(isnan(at), 0, at)
    place = apply("min", apply("max", number, 0), last)
    return gathered(cast(place, INT64), extent), weight


def extent_as(extent: DimLike, dtype: DType) -> Scalar:
    """``extent`` as a float."""
    return cast(index(extent), dtype)


def weighted(
    taps: Sequence[Sequence[Tap]], read: Callable[[Sequence[DimLike]], Scalar]
) -> list[Scalar]:
    """What every combination of one tap per axis contributes, in row-major order.

    Without weight nothing is read: 0 · ∞ would be NaN.
    """
    parts = []
    for chosen in itertools.product(*taps):
        weights = [weight for _, weight in chosen]
        value = read([place for place, _ in chosen])
        factor = cast(math.prod(weights[1:], start=weights[0]), value.dtype)
        parts.append(select(apply("eq", factor, 0), 0, value * factor))
    return parts
