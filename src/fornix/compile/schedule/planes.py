"""Convolutions of few filters, or with groups of few: vectors are neighbours in a row of the image.

The filters of a group fill no vector, so what fills it is a row of one channel, from which all
filters of the group are computed at once. Decided here is how the convolution becomes a contraction
with the filters of a group as its rows: its loops are chosen there. Where steps along rows are
long, a copy has side by side what neighbours in the result read. A result in which rows do not lie
side by side takes the way through one in which they do.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from fornix.compile.axes import rewritten
from fornix.compile.convolution import (
    Convolution,
    Groups,
    Spatial,
    convolution,
    each_for_itself,
    groups,
)
from fornix.compile.cost import outer_reductions, stride_of
from fornix.compile.phases import phases
from fornix.compile.schedule.packing import Order, copied_image, filled
from fornix.ir.dim import DimLike, ceildiv, less
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    Buffer,
    Load,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

LONGEST_STEP = 2
"""Between elements of a row that are read from whole vectors."""
LONG_ROW, LONG_LINE = 9, 3
"""Taps in a row from which on a copy pays that holds padding, for channels on their own: with taps
along other axes as well, and without. Rows of a window share what they have asked for."""

_SERIAL = itertools.count()


def plane_stages(c: Convolution) -> list[Store] | None:
    """Copies of the image, unless it is read as it lies, and the convolution of its rows.

    None if some other schedule serves it better, as the contraction that one filter of an image in
    rows is already. Those that fill vectors of filters, `direct` has.
    """
    if not c.sum.dtype.is_float or not c.has_taps:
        return None
    found: list[Store] = []
    for part in phases(c.store):
        if not outer_reductions(part.value):  # it meets no taps, or one
            found.append(part)
            continue
        conv = c if part is c.store else convolution(part)
        given = None if conv is None else groups(conv) or _single(conv)
        if conv is None or given is None:
            return None
        found += _in_rows(conv, given)
    return None if len(found) == 1 == c.filter.extent else found


def _single(c: Convolution) -> Groups | None:
    """Channels as groups of one filter, if so many taps lie in a row that a copy pays."""
    *others, row = c.spatial
    least = LONG_ROW if any(s.tap is not None for s in others) else LONG_LINE
    is_long = isinstance(row.taps, int) and row.taps >= least
    if not is_long or c.is_in_place or stride_of(c.store.address, row.out) != 1:
        return None
    return each_for_itself(c)


def _in_rows(c: Convolution, given: Groups) -> list[Store]:
    """The stages of one phase, the last of which stores the result."""
    if stride_of(c.store.address, c.spatial[-1].out) == 1:
        return _stages(c, given, c.store)
    axes = (*c.batch, c.filter, *(s.out for s in c.spatial))
    places = tuple(a.dim for a in axes)
    sums = Buffer(f"sums#{next(_SERIAL)}", [a.extent for a in axes], c.sum.dtype)
    store = Store(sums, axes, sums.address(places), c.sum)
    sums.source = store
    value = replace(c.store.value, {c.sum: load(sums, sums.address(places))})
    rest = Store(c.store.buffer, c.store.axes, c.store.address, value)
    return [*_stages(c, given, store), rest]


def _stages(c: Convolution, given: Groups, store: Store) -> list[Store]:
    """What has to be done for the sum of ``c`` in ``store``, filters counted group by group."""
    stages: list[Store] = []
    image = substitute_scalar(given.image, {s.place: s.read for s in c.spatial})
    if c.spatial[-1].stride > LONGEST_STEP:
        copy, image = _apart(c, given)
        stages.append(copy)
    elif not _is_in_rows(c, given):
        copy, image = copied_image(c, given, Order((), (), {}, 1), {})
        stages.append(copy)
    taps = tuple(s.tap for s in c.spatial if s.tap is not None)
    whole = reduction("sum", (*c.channels, *taps), c.weights * image)
    value = replace(store.value, {c.sum: whole})
    one = Variable("f", given.filters)
    axes = (*c.batch, given.axis, one, *(s.out for s in c.spatial))
    filter_ = given.axis.dim * given.filters + one.dim
    split = Store(store.buffer, store.axes, store.address, value)
    return [*stages, rewritten(split, axes, {c.filter: filter_})]


def _is_in_rows(c: Convolution, given: Groups) -> bool:
    """Whether the image lies in memory as it is read, its rows side by side."""
    image, row = given.image, c.spatial[-1]
    return c.is_in_place and isinstance(image, Load) and stride_of(image.address, row.place) == 1


def _apart(c: Convolution, given: Groups) -> tuple[Store, Scalar]:
    """The image with every n-th element of a row side by side, and what the sum reads of it."""
    copied = [_copied(s) for s in c.spatial[:-1]]
    copied.append(_turns(c.spatial[-1]))
    at: dict[Atom, DimLike] = {s.place: a.place for s, a in zip(c.spatial, copied, strict=True)}
    image = substitute_scalar(given.image, at)
    inside = apply("lt", index(copied[-1].place), index(c.spatial[-1].place.extent))
    lead = (*c.batch, given.axis, *c.channels)
    axes = (*lead, *(axis for a in copied for axis in a.axes))
    store = filled("image", axes, select(inside, guarded(image, inside), 0))
    read = (*(a.dim for a in lead), *(d for a in copied for d in a.read))
    return store, load(store.buffer, store.buffer.address(read))


class _Copied(NamedTuple):
    """What a copy has of an axis of the image: the place at its `axes`, and what a tap reads."""

    axes: tuple[Variable, ...]
    place: DimLike
    read: tuple[DimLike, ...]


def _copied(axis: Spatial) -> _Copied:
    """All places of ``axis``; or what taps read, if these are so few that none share a place."""
    if not less(axis.taps, axis.stride):
        return _Copied((axis.place,), axis.place.dim, (axis.read,))
    tap, out = Variable("t", axis.taps), Variable("o", axis.out.extent)
    place = out.dim * axis.stride + tap.dim * axis.dilation
    own: DimLike = 0 if axis.tap is None else axis.tap.dim
    return _Copied((tap, out), place, (own, axis.out.dim))


def _turns(row: Spatial) -> _Copied:
    """``row`` with places side by side that neighbours in the result read."""
    if less(row.taps, row.stride):
        return _copied(row)
    start, turn = Variable("r", row.stride), Variable("q", ceildiv(row.place.extent, row.stride))
    tap: DimLike = 0 if row.tap is None else row.tap.dim * row.dilation
    read = (tap % row.stride, row.out.dim + tap // row.stride)
    return _Copied((start, turn), turn.dim * row.stride + start.dim, read)


__all__ = ["plane_stages"]
