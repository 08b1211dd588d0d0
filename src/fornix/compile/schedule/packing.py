"""The operands of a direct convolution as its inner loop reads them.

Decides the order of the sum, and what is copied first: an image that has padding or is computed is
written once, with its padding; weights are laid out in the order of their use, block by block, once
and for all if they are stored data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fornix.compile.axes import moves_as_one
from fornix.compile.blocked import lanes_of_buffer
from fornix.compile.convolution import Convolution
from fornix.compile.cost import accesses
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, Floor, atoms, variables
from fornix.ir.loops import (
    Buffer,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import select

MAX_WRITTEN = 4
"""Channels that are written out in the inner loop."""
MAX_TAPS = 9
"""Taps that are, where channels are not blocked."""


@dataclass(frozen=True)
class Groups:
    """``filter = group·filters + f``: which channels a filter reads depends on its group only."""

    count: int
    filters: int
    """Of one group."""
    axis: Variable
    image: Scalar
    """The image over `axis` instead of the filter."""


@dataclass(frozen=True)
class Order:
    """The sum: `loops` from outermost to innermost, then the `written` axes; all new ones."""

    loops: tuple[Variable, ...]
    written: tuple[Variable, ...]
    values: Mapping[Atom, DimLike]
    """The axes of the convolution's sum by the new ones, where they differ."""
    block: DimLike
    """Channels that lie together in the image; 1 if it is not blocked."""


def groups(c: Convolution) -> Groups | None:
    """The groups of ``c``; None if each filter reads another channel."""
    if not isinstance(c.filter.extent, int):
        return None
    if not c.has_groups:
        return Groups(1, c.filter.extent, Variable("g", 1), c.image)
    divisors = (a for node in walk(c.image) for d in node.dims for a in atoms(d))
    sizes = {a.den for a in divisors if isinstance(a, Floor) and variables(a.num) == {c.filter}}
    for size in sorted((n for n in sizes if isinstance(n, int)), reverse=True):
        count, rest = divmod(c.filter.extent, size)
        axis, one = Variable("g", count), Variable("f", size)
        image = substitute_scalar(c.image, {c.filter: axis.dim * size + one.dim})
        if rest == 0 and one not in image.variables:
            return Groups(count, size, axis, image)
    return None


def merged(c: Convolution, given: Groups, count: int) -> tuple[Convolution, Groups]:
    """``c`` with ``count`` of its groups as one: weights of channels of other groups are 0.

    So few filters are enough for a vector. A NaN or an infinity reaches the results of all of them.
    """
    if count == 1:
        return c, given
    dims = [d for node in walk(given.image) for d in node.dims]
    of_group = [a for a in c.channels if all(moves_as_one(d, given.axis, a) for d in dims)][:1]
    own = of_group[0].extent if of_group else 1
    left = given.count // count
    channel, axis = Variable("c", own * count), Variable("g", left)
    group = channel.dim // own
    values: dict[Atom, DimLike] = dict.fromkeys(of_group, channel.dim - group * own)
    image = substitute_scalar(given.image, {**values, given.axis: axis.dim * count + group})
    filter_ = c.filter.dim // given.filters
    is_own = apply("eq", index(filter_ - filter_ // count * count), index(group))
    weights = select(is_own, substitute_scalar(c.weights, values), 0)
    others = (a for a in c.channels if a not in of_group)
    wide = replace(c, channels=(channel, *others), weights=weights)
    return wide, Groups(left, given.filters * count, axis, image)


def order(c: Convolution) -> Order:
    """The order of the sum: blocks of channels, taps, the channels of a block."""
    taps = tuple(s.tap for s in c.spatial if s.tap is not None)
    extent = c.channels[0].extent if len(c.channels) == 1 else None
    if not isinstance(extent, int):
        return _by_taps((*c.channels, *taps))
    lanes = max((lanes_of_buffer(e.buffer) for e in accesses([c.image])), default=1)
    block = math.gcd(extent, lanes)
    if block == 1 and taps:
        return _by_taps((*c.channels, *taps))
    whole = block if block > 1 else extent
    step = next(n for n in (MAX_WRITTEN, 2, 1) if whole % n == 0)
    outer, middle = Variable("c", extent // whole), Variable("d", whole // step)
    last = Variable("e", step)
    values: dict[Atom, DimLike] = {c.channels[0]: outer.dim * whole + middle.dim * step + last.dim}
    return Order((outer, *taps, middle), (last,), values, block)


def _by_taps(axes: tuple[Variable, ...]) -> Order:
    """The axes as they are; the last ones are written out as far as they are short."""
    count, first = 1, len(axes)
    while first > 0:
        extent = axes[first - 1].extent
        if not isinstance(extent, int) or count * extent > MAX_TAPS:
            break
        count, first = count * extent, first - 1
    return Order(axes[:first], axes[first:], {}, 1)


_SERIAL = itertools.count()


def filled(name: str, axes: Sequence[Variable], value: Scalar) -> Store:
    """A store of ``value`` for all values of ``axes`` into a buffer of its own."""
    buffer = Buffer(f"{name}#{next(_SERIAL)}", [a.extent for a in axes], value.dtype)
    fresh = [Variable(a.name, a.extent) for a in axes]
    value = substitute_scalar(value, {a: f.dim for a, f in zip(axes, fresh, strict=True)})
    store = Store(buffer, tuple(fresh), buffer.address(tuple(f.dim for f in fresh)), value)
    buffer.source = store
    return store


def copied_image(c: Convolution, given: Groups, order_: Order) -> tuple[Store, Scalar]:
    """The image with its padding in memory of its own, and what the sum reads of it."""
    places = [s.place for s in c.spatial]
    lead = [*c.batch, given.axis]
    if order_.block == 1:
        store = filled("image", (*lead, *c.channels, *places), given.image)
        inner: list[DimLike] = []
        channels = [order_.values.get(a, a.dim) for a in c.channels]
    else:
        (channel,) = c.channels
        block = Variable("o", channel.extent // order_.block)
        place = Variable("i", order_.block)
        image = substitute_scalar(given.image, {channel: block.dim * order_.block + place.dim})
        store = filled("image", (*lead, block, *places, place), image)
        whole = order_.values[channel]
        channels = [whole // order_.block]
        inner = [whole - channels[0] * order_.block]
    read = [s.read for s in c.spatial]
    address = store.buffer.address((*(a.dim for a in lead), *channels, *read, *inner))
    return store, load(store.buffer, address)


def packed_weights(
    c: Convolution, order_: Order, filters: tuple[DimLike, DimLike], axes: Sequence[Variable]
) -> tuple[Store, Scalar]:
    """The weights over panels, the sum and the places in a panel, and what the sum reads of them.

    ``filters`` are the filter by ``axes``, of which the last two are places in a panel, and how
    many filters there are from its group on; those that do not exist are 0.
    """
    which, left = filters
    value = substitute_scalar(c.weights, {**order_.values, c.filter: which})
    inside = apply("lt", index(0), index(left))
    value = select(inside, guarded(value, inside), 0)
    all_axes = (*axes[:-2], *order_.loops, *order_.written, *axes[-2:])
    store = filled("weights", all_axes, value)
    return store, load(store.buffer, store.buffer.address(tuple(a.dim for a in all_axes)))


__all__ = [
    "Groups",
    "Order",
    "copied_image",
    "filled",
    "groups",
    "merged",
    "order",
    "packed_weights",
]
