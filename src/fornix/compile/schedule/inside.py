"""Guards of windows: which taps meet data, and which only padding.

A tap in the padding adds nothing to a sum, so schedules leave it out: they ask here what a guard
demands, and between which values of an axis it holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fornix.compile.convolution import Convolution, Spatial
from fornix.compile.nest import Span, Taps
from fornix.ir.dim import DimLike, ceildiv, is_nonnegative, maximum, minimum
from fornix.ir.dim.expression import coefficient, variables
from fornix.ir.loops import Apply, Const, Index, Load, Scalar, Variable, identity

Extent = tuple[DimLike, DimLike]
"""The first place, and that behind the last."""


def needed_for(e: Scalar, op: str) -> set[Scalar]:
    """Comparisons that ``e`` needs: it is the neutral element of ``op`` where one is false."""
    neutral = identity(op, e.dtype)
    if isinstance(e, Load):
        return set() if e.guard is None or e.default != neutral else set(_conjuncts(e.guard))
    if not isinstance(e, Apply):
        return set()
    if e.op == "select" and isinstance(e.args[2], Const) and e.args[2].value == neutral:
        return {*_conjuncts(e.args[0]), *needed_for(e.args[1], op)}
    if e.op == "cast" and (op == "sum" or (e.dtype.is_float and e.args[0].dtype.is_float)):
        return needed_for(e.args[0], op)
    if e.op == "mul" and op == "sum":
        return needed_for(e.args[0], op) | needed_for(e.args[1], op)
    return set()


def _conjuncts(guard: Scalar) -> Iterator[Scalar]:
    """The comparisons of a number with an index that ``guard`` demands."""
    if isinstance(guard, Apply) and guard.op == "and":
        for part in guard.args:
            yield from _conjuncts(part)
    elif isinstance(guard, Apply) and guard.op == "le":
        least, surplus = guard.args
        axes = [a for a in surplus.variables if isinstance(a, Variable)]
        if isinstance(least, Const) and isinstance(surplus, Index):
            slopes = [coefficient(surplus.dims[0], a) for a in axes]
            if all(s is not None and isinstance(s[0], int) for s in slopes):
                yield guard


def limits(guard: Scalar, tap: Variable) -> tuple[DimLike, DimLike]:
    """From which value of ``tap`` on ``guard`` holds, and from which on it no longer does."""
    least, surplus = guard.args
    found = coefficient(surplus.dims[0], tap)
    slope, rest = found or (0, 0)
    if not isinstance(slope, int) or not isinstance(least, Const):
        raise TypeError("a guard is linear in its axes")
    missing = int(least.value) - rest
    if slope > 0:
        return ceildiv(missing, slope), tap.extent
    return 0, (-missing) // -slope + 1


def data_of(c: Convolution) -> dict[Spatial, Extent]:
    """By axes of the image that have taps and padding: the places where data are."""
    found: dict[Spatial, Extent] = {}
    guards = needed_for(c.image, "sum")
    for axis in c.spatial:
        own = [g for g in guards if g.variables == {axis.place} and is_even(g, axis.place)]
        if axis.tap is None or not own:
            continue
        first: DimLike = 0
        end: DimLike = axis.place.extent
        for guard in own:
            low, high = limits(guard, axis.place)
            first, end = maximum(first, low), minimum(end, high)
        found[axis] = first, end
    return found


def is_even(guard: Scalar, place: Variable) -> bool:
    """Whether ``guard`` limits ``place`` itself, no quotient of it."""
    found = coefficient(guard.args[1].dims[0], place)
    return found is not None and found[0] != 0 and place not in variables(found[1])


def taps_of(axis: Spatial, data: Extent, span: Span) -> Taps | None:
    """The taps that meet data for some element of ``span``; None if all of them may."""
    return taps_between(axis, data, (span.start, span.start + (span.count - 1)))


def taps_between(axis: Spatial, data: Extent, outs: Extent) -> Taps | None:
    """The taps that meet data for some element from the first of ``outs`` to the last."""
    first, end = data
    if axis.tap is None:
        return None
    low = ceildiv(first - outs[1] * axis.stride, axis.dilation)
    high = ceildiv(end - outs[0] * axis.stride, axis.dilation)
    if is_nonnegative(-low) is True and is_nonnegative(high - axis.taps) is True:
        return None
    return Taps(axis.tap, maximum(low, 0), minimum(high, axis.taps))


def share(data: Mapping[Spatial, Extent], counts: Mapping[Spatial, int]) -> float:
    """Which part of its terms a direct sum goes through, by boxes of ``counts`` elements.

    Taps that meet nothing but padding are left out. 1 if extents are not known.
    """
    return math.prod(_share(axis, extent, counts.get(axis, 1)) for axis, extent in data.items())


def _share(axis: Spatial, data: Extent, count: int) -> float:
    outs, taps, (first, end) = axis.out.extent, axis.taps, data
    if not (isinstance(outs, int) and isinstance(taps, int)):
        return 1.0
    if not (isinstance(first, int) and isinstance(end, int)):
        return 1.0
    met = 0
    starts = range(0, outs, count)
    for start in starts:
        last = min(start + count, outs) - 1
        low = -((last * axis.stride - first) // axis.dilation)
        high = -((start * axis.stride - end) // axis.dilation)
        met += max(0, min(high, taps) - max(low, 0))
    return met / (len(starts) * taps)


__all__ = [
    "Extent",
    "data_of",
    "is_even",
    "limits",
    "needed_for",
    "share",
    "taps_between",
    "taps_of",
]
