"""Groups whose filters fill no vectors, filled up with filters of zeros.

Sums go to an image of their own, in which each group begins with a block; what is no sum of a
filter is never read.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace as replace_fields

from fornix.compile.axes import cut_at_blocks, rewritten
from fornix.compile.blocked import LEAST_LANES, Blocked, blocked_buffer
from fornix.compile.convolution import Convolution, Groups, groups
from fornix.compile.cost import accesses, likely, stride_of, useful_lanes
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike
from fornix.ir.loops import Store, Variable, apply, index, load, replace, substitute_scalar
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

COPIED_USE = 0.5
"""What vectors along rows do whose elements lie apart, so that a copy has them side by side."""
FAR_USE = 0.2
"""The same where windows have nothing in common, and no copy is made."""
OPEN_USE = 0.8
"""What is taken for the lanes of vectors along rows of unknown length that do work, of all."""
TURNING = 6.0
"""Terms that it costs to turn an element."""
MARGIN = 1.3
"""How many times as much work rows have to be."""

_SERIAL = itertools.count()


def with_whole_groups(
    c: Convolution, lanes: int, *, is_wide: bool
) -> tuple[Store, list[Store]] | None:
    """The sums of ``c`` with groups of whole blocks, and what makes its result of them.

    None if its groups are whole, or if too few of the lanes would be of use; of words any are, as
    rows of these are multiplied badly. Halves of vectors count as whole, unless a processor that
    ``is_wide`` multiplies whole ones as fast.
    """
    given = groups(c)
    if given is None or c.is_product or isinstance(c.store.buffer.address, Blocked):
        return None
    if not c.sums_words and (c.sum.dtype is not FLOAT32 or c.product.op != "mul"):
        return None
    if given.are_few:
        is_worth = given.filters > 1 if c.sums_words else _pays(c, given, lanes)
    else:
        is_odd = given.count > 1 and given.filters % lanes > 0 and not c.sums_words
        is_worth = is_wide and is_odd and given.filters > lanes
    if not is_worth:
        return None
    size = given.filters
    if c.sums_words and LEAST_LANES < lanes >= 2 * size:
        lanes //= 2  # half of a vector has half of the zeros
    whole = _whole(size, lanes)
    filled = Variable(c.filter.name, given.count * whole)
    group = filled.dim // whole
    one = filled.dim - group * whole
    inside = apply("lt", index(one), index(size))
    image = substitute_scalar(given.image, {given.axis: group})
    image = substitute_scalar(image, {s.place: s.read for s in c.spatial})
    weights = guarded(substitute_scalar(c.weights, {c.filter: group * size + one}), inside)
    term = c.product.of(image, select(inside, weights, 0))

    images: DimLike = 1
    number: DimLike = 0
    for axis in c.batch:
        images, number = images * axis.extent, number * axis.extent + axis.dim
    outs = [s.out for s in c.spatial]
    shape = (images, filled.extent, *(a.extent for a in outs))
    buffer = blocked_buffer(f"sums#{next(_SERIAL)}", shape, c.sum.dtype, lanes)
    places = [a.dim for a in outs]
    axes = tuple(filled if a is c.filter else a for a in c.store.axes)
    address = buffer.address((number, filled.dim, *places))
    sums = Store(buffer, axes, address, reduction("sum", c.sum.axes, term))
    buffer.source = sums

    group = c.filter.dim // size
    read = load(buffer, buffer.address((number, group * (whole - size) + c.filter.dim, *places)))
    rest = replace_fields(c.store, value=replace(c.store.value, {c.sum: read}))
    of_group, own = Variable("g", given.count), Variable("f", size)
    at = c.store.axes.index(c.filter)
    split = (*c.store.axes[:at], of_group, own, *c.store.axes[at + 1 :])
    rest = rewritten(rest, split, {c.filter: of_group.dim * size + own.dim})
    return sums, cut_at_blocks(rest, own, lanes)


def _pays(c: Convolution, given: Groups, lanes: int) -> bool:
    """Whether sums along rows take more than those of whole blocks and turning these."""
    row = c.spatial[-1]
    use = OPEN_USE
    if isinstance(row.out.extent, int):
        use = useful_lanes(row.out.extent, lanes) / lanes
    steps = [stride_of(e.address, row.place) for e in accesses([given.image])]
    if row.stride > 1 or any(n is not None and abs(n) > 1 for n in steps):
        use *= COPIED_USE if c.has_taps else FAR_USE
    terms = math.prod(likely(a.extent) for a in c.sum.axes)
    in_blocks = terms * _whole(given.filters, lanes) / given.filters + TURNING
    return terms / use > MARGIN * in_blocks


def _whole(filters: int, lanes: int) -> int:
    """The filters of a group that is filled up."""
    step = max(lanes, LEAST_LANES)
    return -(-filters // step) * step


__all__ = ["with_whole_groups"]
