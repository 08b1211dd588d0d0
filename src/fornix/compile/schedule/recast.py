"""Images that lie row by row, copied into blocks of channels for convolutions in tile registers.

A row of such a register are channels of one place. They are turned once, as far as there are data;
padding stays a question of places. Blocks are filled up with zeros, so that any number of channels
will do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution
from fornix.compile.parts import with_parts_of
from fornix.compile.schedule.inside import data_of
from fornix.compile.schedule.square import WORDS
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import select

_SERIAL = itertools.count()


def with_image_in_blocks(c: Convolution) -> tuple[list[Store], Convolution] | None:
    """The copy of the image of ``c``, and ``c`` that reads it; None if it is not for that."""
    if c.has_groups or len(c.channels) != 1 or c.image.dtype is not FLOAT32:
        return None
    (channel,) = c.channels
    count = channel.extent
    if not isinstance(count, int) or count < WORDS:
        return None
    data = data_of(c)
    firsts = {s: data[s][0] if s in data else 0 for s in c.spatial}
    ends = {s: data[s][1] if s in data else s.place.extent for s in c.spatial}
    places = [Variable("y", ends[s] - firsts[s]) for s in c.spatial]
    blocks = -(-count // WORDS)
    block, lane = Variable("o", blocks), Variable("i", WORDS)
    axes = (*c.batch, block, *places, lane)
    buffer = Buffer(f"image#{next(_SERIAL)}", [a.extent for a in axes], FLOAT32)
    at: dict[Atom, DimLike] = {
        s.place: place.dim + firsts[s] for s, place in zip(c.spatial, places, strict=True)
    }
    value = _up_to(c.image, channel, block.dim * WORDS + lane.dim, at)
    copy = Store(buffer, axes, buffer.address(tuple(a.dim for a in axes)), value)
    copies = list(_whole_and_rest(copy, block, count // WORDS))
    buffer.source = copies[0]  # which stands for both

    whole = Variable(channel.name, blocks * WORDS)
    here = [s.place.dim - firsts[s] for s in c.spatial]
    lead = [a.dim for a in c.batch]
    address = buffer.address((*lead, whole.dim // WORDS, *here, whole.dim % WORDS))
    inside: Scalar = TRUE
    for s in data:
        for limit in (_is_less(firsts[s] - 1, s.place.dim), _is_less(s.place.dim, ends[s])):
            inside = apply("and", inside, limit)
    read = with_parts_of(c.image, load(buffer, address))
    image = select(inside, guarded(read, inside), 0)
    weights = _up_to(c.weights, channel, whole.dim, {})
    return copies, replace(c, image=image, weights=weights, channels=(whole,))


def _up_to(e: Scalar, channel: Variable, at: DimLike, values: dict[Atom, DimLike]) -> Scalar:
    """``e`` for the channel ``at`` a place, 0 behind the last one."""
    inside = _is_less(at, channel.extent)
    return select(inside, guarded(substitute_scalar(e, {**values, channel: at}), inside), 0)


def _is_less(a: DimLike, b: DimLike) -> Scalar:
    return apply("lt", index(a), index(b))


def _whole_and_rest(store: Store, block: Variable, whole: int) -> Iterator[Store]:
    """``store`` for the blocks that are ``whole``, which are turned fast, and for what is left."""
    for low, high in ((0, whole), (whole, block.extent)):
        part = Variable(block.name, high - low)
        if part.extent != 0:
            axes = [part if a is block else a for a in store.axes]
            yield rewritten(store, axes, {block: part.dim + low})


__all__ = ["with_image_in_blocks"]
