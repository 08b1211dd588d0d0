"""Convolutions as others of fewer taps and more channels, which Winograd's algorithm takes.

Its tiles have few taps, along two axes of an image at most. All others are told apart by channels:
3×3×3 taps on C channels are 3×3 taps on 3 C channels, and 7 taps are 4 on 2 C, the last of them 0.
"""

from __future__ import annotations

import dataclasses

from fornix.compile.convolution import Convolution, Spatial
from fornix.compile.winograd import MOST_AXES, TAPS
from fornix.ir.dim import DimLike, ceildiv, known
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Load, Scalar, Variable, apply, guarded, index, substitute_scalar
from fornix.ir.loops.scalar import select

GROUP = 4
"""Taps of which longer rows are put together, at most. One of F(3, 4) takes half a product."""


def with_few_taps(conv: Convolution) -> Convolution:
    """``conv`` with few taps, along two axes of the image at most; itself if it has no others."""
    conv = conv.with_all_places
    while len(conv.channels) == 1:
        tapped = [s for s in conv.spatial if s.tap is not None]
        long = [s for s in tapped if (known(s.taps) or 0) > TAPS[-1] and s.stride == 1]
        if len(tapped) > MOST_AXES:
            conv = _with_taps(conv, tapped[0], 1)
        elif long:
            groups = ceildiv(long[0].taps, GROUP)
            conv = _with_taps(conv, long[0], known(ceildiv(long[0].taps, groups)) or GROUP)
        else:
            break
    return conv


def _with_taps(conv: Convolution, axis: Spatial, kept: int) -> Convolution:
    """``conv`` with ``kept`` taps along ``axis``, whose groups of so many are channels."""
    if axis.tap is None:
        return conv
    (own,) = conv.channels
    joined = Variable("c", own.extent * ceildiv(axis.taps, kept))
    group = joined.dim // own.extent
    left = Spatial(axis.out, None, 1, 1, axis.out)
    place, tap = axis.out.dim * axis.stride, group
    if kept > 1:
        one = Variable(axis.tap.name, kept)
        extent = (axis.out.extent - 1) * axis.stride + (kept - 1) * axis.dilation + 1
        left = dataclasses.replace(axis, tap=one, place=Variable("y", extent))
        place, tap = left.place.dim, group * kept + one.dim
    place = place + group * (kept * axis.dilation)
    values: dict[Atom, DimLike] = {own: joined.dim - group * own.extent}
    image = substitute_scalar(conv.image, {**values, axis.place: place})
    weights = substitute_scalar(conv.weights, {**values, axis.tap: tap})
    if known(axis.taps % kept) != 0:  # those that are missing are 0
        image = where(apply("lt", index(place), index(axis.place.extent)), image)
        weights = where(apply("lt", index(tap), index(axis.taps)), weights)
    return dataclasses.replace(
        conv,
        image=image,
        weights=weights,
        channels=(joined,),
        spatial=tuple(left if s is axis else s for s in conv.spatial),
    )


def where(inside: Scalar, value: Scalar) -> Scalar:
    """``value`` where it is ``inside``, else 0."""
    value = guarded(value, inside)
    return value if isinstance(value, Load) else select(inside, value, 0)


__all__ = ["where", "with_few_taps"]
