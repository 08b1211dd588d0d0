"""Batches whose DeformConv would keep much at once: so many images at a time as are little.

Compiled code keeps what the taps of all images sample until their products are computed. Of parts
of a batch that come one after the other each takes the memory of the one before. For the engine
alone: other runtimes take image by image, or keep nothing.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, rewrite

PART_BYTES = 64 << 20
"""What taps may sample at once, if it is more than one image. Threads have enough to share in as
much, so that parts cost no time."""
FLOAT_BYTES = 4
"""What an element takes that is sampled, whatever the dtype of the image."""


@rewrite(P.DeformConv(any_("x"), any_("w"), any_("offset"), any_("b?"), any_("mask?"), bind="node"))
def split_batches(
    x: Value,
    w: Value,
    offset: Value,
    node: Node,
    make: Maker,
    b: Value | None = None,
    mask: Value | None = None,
) -> Value | None:
    """Only where extents are known: else nobody can say how many parts there are.

    Offsets and masks are of as many images: parts would not see what is left of more.
    """
    image, taps = make.fact(x), make.fact(offset)
    facts = [image, *(make.fact(value) for value in (offset, mask) if value is not None)]
    if not all(fact.has_rank and fact.shape[:1] == image.shape[:1] for fact in facts):
        return None
    count, channels, *places = image.shape
    extents = [e for e in (count, channels, *taps.shape[1:]) if isinstance(e, int)]
    if len(extents) < image.rank + 1 or not all(extents):
        return None
    count, channels, *displaced = extents
    sampled = channels * math.prod(displaced) // (node.attr("offset_group", 1) * len(places))
    images = max(1, PART_BYTES // (sampled * FLOAT_BYTES))
    if count <= images:
        return None
    images = math.ceil(count / math.ceil(count / images))

    def part(value: Value | None, start: int) -> Value | None:
        ends = (np.array([place]) for place in (start, min(start + images, count)))
        return None if value is None else make.Slice(value, *ends, np.array([0]))

    return make.Concat(
        *(
            make.DeformConv(
                part(x, n), w, part(offset, n), b, part(mask, n), **dict(node.attributes)
            )
            for n in range(0, count, images)
        ),
        axis=0,
    )


RULES: tuple[Rule, ...] = split_batches
