"""The operands of a direct convolution as its inner loop reads them.

Decides the order of the sum, and what is copied first: an image that has padding or is computed is
written once, with its padding; weights are laid out in the order of their use, block by block, once
and for all if they are stored data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fornix.compile.axes import cut_at_blocks
from fornix.compile.blocked import blocked_buffer, lanes_of_buffer
from fornix.compile.convolution import Convolution, Groups, Spatial
from fornix.compile.cost import accesses
from fornix.compile.schedule.inside import Extent
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    Buffer,
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
from fornix.ir.loops.scalar import const, select

WRITTEN = (4, 3, 2, 1)
"""How many channels may be written out in the inner loop."""
MOST_PAIRS = 2
"""Pairs of integers that may be: of more, LLVM adds products first, for which registers lack."""
MAX_TAPS = 9
"""Taps that are, where the number of channels is not known."""


@dataclass(frozen=True)
class Order:
    """The sum: `loops` from outermost to innermost, then the `written` axes; all new ones."""

    loops: tuple[Variable, ...]
    written: tuple[Variable, ...]
    values: Mapping[Atom, DimLike]
    """The axes of the convolution's sum by the new ones, where they differ."""
    block: DimLike
    """Channels that lie together in the image; 1 if it is not blocked."""


def order(c: Convolution) -> Order:
    """The order of the sum: blocks of channels, taps, the channels of a block.

    What is written out are channels, also of an image that is not blocked: taps beside each other
    read the same elements, which would stay in registers that hold accumulators.
    """
    taps = tuple(s.tap for s in c.spatial if s.tap is not None)
    extent = c.channels[0].extent if len(c.channels) == 1 else None
    if not isinstance(extent, int):
        return _by_taps((*c.channels, *taps))
    lanes = max((lanes_of_buffer(e.buffer) for e in accesses([c.image])), default=1)
    block = math.gcd(extent, lanes // c.product.elements or 1)
    few = [n for n in WRITTEN if n <= MOST_PAIRS or c.product.op != "dot2i"]
    step = next(n for n in few if (block if block > 1 else extent) % n == 0)
    whole = max(block, step)
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
    (store,) = filled_together(name, axes, [value])
    return store


def filled_together(
    name: str, axes: Sequence[Variable], values: Sequence[Scalar]
) -> tuple[Store, ...]:
    """Stores over the same axes, each of one of ``values`` into a buffer of its own."""
    fresh = tuple(Variable(a.name, a.extent) for a in axes)
    at: dict[Atom, DimLike] = {a: f.dim for a, f in zip(axes, fresh, strict=True)}
    stores = []
    for value in values:
        buffer = Buffer(f"{name}#{next(_SERIAL)}", [a.extent for a in axes], value.dtype)
        address = buffer.address(tuple(f.dim for f in fresh))
        store = Store(buffer, fresh, address, substitute_scalar(value, at))
        buffer.source = store
        stores.append(store)
    return tuple(stores)


def copied_image(
    c: Convolution, given: Groups, order_: Order, bare: Mapping[Spatial, Extent]
) -> tuple[Store, Scalar]:
    """The image with its padding in memory of its own, and what the sum reads of it.

    Along axes that are ``bare`` only the data are copied.
    """
    starts = {s: bare[s][0] if s in bare else 0 for s in c.spatial}
    places = [Variable("y", bare[s][1] - bare[s][0]) if s in bare else s.place for s in c.spatial]
    moved: dict[Atom, DimLike] = {
        s.place: place.dim + starts[s] for s, place in zip(c.spatial, places, strict=True)
    }
    whole_image = substitute_scalar(given.image, moved)
    lead = [*c.batch, given.axis]
    if order_.block == 1:
        store = filled("image", (*lead, *c.channels, *places), whole_image)
        inner: list[DimLike] = []
        channels = [order_.values.get(a, a.dim) for a in c.channels]
    else:
        (channel,) = c.channels
        block = Variable("o", channel.extent // order_.block)
        place = Variable("i", order_.block)
        image = substitute_scalar(whole_image, {channel: block.dim * order_.block + place.dim})
        store = filled("image", (*lead, block, *places, place), image)
        whole = order_.values[channel]
        channels = [whole // order_.block]
        inner = [whole - channels[0] * order_.block]
    read = [s.read - starts[s] for s in c.spatial]
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


def sums_in_blocks(c: Convolution, whole: Scalar, lanes: int) -> tuple[Store, list[Store]]:
    """The sum of ``c``, which is ``whole``, in a blocked image; and what makes its result of it.

    A result that is narrower is finished first, if it depends by places on the sum alone: less is
    turned.
    """
    images: DimLike = 1
    image: DimLike = 0
    for axis in c.batch:
        images, image = images * axis.extent, image * axis.extent + axis.dim
    outs = [s.out for s in c.spatial]
    shape = (images, c.filter.extent, *(a.extent for a in outs))
    made = c.store.value if is_narrowed(c) else c.sum
    buffer = blocked_buffer(f"sums#{next(_SERIAL)}", shape, made.dtype, lanes)
    address = buffer.address((image, c.filter.dim, *(a.dim for a in outs)))
    sums = Store(buffer, c.store.axes, address, replace(made, {c.sum: whole}))
    buffer.source = sums
    value = replace(c.store.value, {made: load(buffer, address)})
    rest = Store(c.store.buffer, c.store.axes, c.store.address, value)
    return sums, cut_at_blocks(rest, c.filter, lanes)


def is_narrowed(c: Convolution) -> bool:
    """Whether the value of ``c`` is narrower than its sum, of which alone it depends by places."""
    if c.store.value.dtype.bits >= c.sum.dtype.bits:
        return False
    rest = replace(c.store.value, {c.sum: const(0, c.sum.dtype)})
    return rest.variables.isdisjoint(s.out for s in c.spatial)


__all__ = [
    "Order",
    "copied_image",
    "filled",
    "filled_together",
    "is_narrowed",
    "order",
    "packed_weights",
    "sums_in_blocks",
]
