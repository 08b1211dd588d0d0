"""Weights of direct convolutions of which each panel stays in the cache while boxes pass.

Decides whether they do, or all weights pass for each box; which boxes meet all panels before others
do, so that their image stays, too; and which lines of the next panel each of them asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from fornix.compile.convolution import Convolution
from fornix.compile.cost import likely
from fornix.compile.nest import Block, Line, Stretch
from fornix.compile.schedule.ahead import AHEAD_BYTES
from fornix.compile.schedule.chunks import combined
from fornix.compile.schedule.direct_boxes import Box, image_bytes
from fornix.compile.schedule.spans import PIECE
from fornix.compile.target import LINE_BYTES, Target
from fornix.ir.dim import DimLike, ceildiv, known, minimum
from fornix.ir.loops import Buffer, Variable

NEAR_BYTES = 2 << 10
"""How far ahead of its use a panel is asked for that is used once; see bench/micro conv."""
MAX_CHUNKS = 64
"""Pieces of work that threads take: enough to share among 16."""
SHARE = 2
"""One in so many bytes of the second cache holds weights, or what boxes read of an image."""


@dataclass(frozen=True)
class Held:
    """The weights, and the boxes for which a panel of them stays."""

    weights: Buffer
    panels: tuple[Variable, Variable]
    """The axes of groups, and of the panels of one."""
    near: Variable | None
    """The number of a box among those that meet all panels before others do; None if all do."""
    is_square: bool

    def order(self, passing: Sequence[Variable], body: Block) -> tuple[list[Variable], Block]:
        """The axes around boxes that are ``passing``, and what is left within them."""
        if self.near is None:
            return [*self.panels, *passing], body
        boxes, _ = combined(passing)
        part = Variable("part", ceildiv(boxes, self.near.extent))
        first = part.dim * self.near.extent
        count = minimum(self.near.extent, boxes - first)
        group, panel = self.panels
        return [group, part, panel], (Stretch(tuple(passing), self.near, first, count, body),)

    def ahead(self, passing: Sequence[Variable], loops: Sequence[Variable]) -> tuple[Line, ...]:
        """The lines of the next panel that a box which is ``passing`` asks for.

        Each asks for its part, so that the panel comes from memory as evenly as time passes. Where
        an axis is of open length, which is that of batches, all of its values ask for the same. A
        panel that one box reads, in its ``loops``, passes the cache: it asks for what is read soon.
        """
        count = 1
        number: DimLike = 0
        for axis in (*(passing if self.near is None else (self.near,)), *loops):
            if isinstance(axis.extent, int):
                count, number = count * axis.extent, number * axis.extent + axis.dim
        elements, size = known(self.weights.elements), self.weights.dtype.bits // 8
        if elements is None or elements * size < AHEAD_BYTES:
            return ()
        group, panel = self.panels
        whole = elements // math.prod(known(a.extent) or 1 for a in self.panels)
        part = -(-whole // count)
        this = group.dim * panel.extent + panel.dim
        is_once = self.is_square and count == math.prod(known(a.extent) or 1 for a in loops)
        first = this * whole + number * part + (NEAR_BYTES // size if is_once else whole)
        return tuple((self.weights, first + k) for k in range(0, part, LINE_BYTES // size))


def held_weights(
    c: Convolution,
    filters: int,
    box: Box,
    axes: tuple[Variable, Variable],
    packed: Buffer,
    target: Target,
    *,
    is_once: bool,
) -> Held | None:
    """The weights of ``c``, ``packed`` over the ``axes`` of groups and panels, if a panel stays.

    It does where it is read once. Groups have so many ``filters``. Where it is as good to have all
    weights pass for each box, less passes from the second cache if they do, and weights from beyond
    are asked for ahead if they do not.
    """
    size = c.sum.dtype.bits // 8
    terms = math.prod(likely(a.extent) for a in c.sum.axes)
    weights = terms * filters * size
    image = image_bytes(c)
    pixels = math.prod(likely(s.out.extent) for s in c.spatial)
    boxes = max(1, pixels // (box.rows * box.pixels))
    panels = max(1, filters * size // target.vector_bytes // box.blocks)
    room = target.l2_bytes // SHARE
    by_pixels = image + weights * (boxes if weights > room else 1)
    by_weights = weights + image * (panels if image > room else 1)
    passes = by_pixels <= by_weights
    if by_pixels == by_weights and weights >= AHEAD_BYTES:
        passes = boxes * weights <= panels * image
    if not is_once and (passes or _is_for_pieces(c, weights, panels, room)):
        return None
    near = None if box.square else _near(c, box, (weights, panels), room)
    return Held(packed, axes, near, box.square > 0)


def _is_for_pieces(c: Convolution, weights: int, panels: int, room: int) -> bool:
    """Whether all ``panels`` pass for each piece of a row, of which only a run tells the length."""
    if len(c.spatial) > 1 or isinstance(c.spatial[0].out.extent, int):
        return False
    piece = image_bytes(c) * PIECE * c.spatial[0].stride // likely(c.spatial[0].place.extent)
    return piece <= room and weights <= panels * piece


def _near(c: Convolution, box: Box, weights: tuple[int, int], room: int) -> Variable | None:
    """Boxes that meet all panels before others do: there is ``room`` for what they read.

    None if there is for what all boxes read, or if ``weights``, bytes in so many panels, came from
    beyond more often than the image does now, pieces of work being enough for threads. What is read
    of an image lies here and there: it is waited for where it is not near, twice as long as usual
    if others use the memory.
    """
    size, panels = weights
    extents = [s.out.extent for s in reversed(c.spatial)]
    sizes = zip_longest(extents, (box.pixels, box.rows), fillvalue=1)
    batch = math.prod(known(a.extent) or 1 for a in c.batch)
    boxes = batch * math.prod(-(-likely(n) // count) for n, count in sizes)
    image = batch * image_bytes(c)
    parts = max(-(-image // room), -(-MAX_CHUNKS // panels))
    is_open = not all(isinstance(n, int) for n in extents)
    if is_open or image <= room or parts >= boxes or parts * size > panels * image:
        return None
    return Variable("near", -(-boxes // parts))


__all__ = ["MAX_CHUNKS", "Held", "held_weights"]
