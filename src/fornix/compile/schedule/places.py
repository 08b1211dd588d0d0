"""Direct convolutions by places, of images whose extents only a run tells, in vectors.

Rows may be short and few, and images many: places are counted through all of them, and a box takes
so many that follow one another, wherever rows end. What the taps of a place read is copied side by
side before, so that places are evenly apart: that pays for few places, and for any number of them
whose windows have nothing in common.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution, Groups, Spatial
from fornix.compile.cost import accesses, outer_reductions, stride_of
from fornix.compile.nest import Chunks, Lanes, Nest, Patch, Put, Span, Taps
from fornix.compile.schedule.chunks import combined, looped
from fornix.compile.schedule.inside import Extent, data_of, taps_between
from fornix.compile.schedule.packing import Order, filled, order, packed_weights
from fornix.compile.schedule.spans import boxes
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, ceildiv, known, maximum, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import Buffer, Scalar, Store, Variable, load, replace, substitute_scalar
from fornix.ir.loops.scalar import reduction

MOST_PLACES = 512
"""That have a copy for each of their taps: of more, it would not stay in caches."""
LEAST_PIECE, PIECE = 28, 126
"""Places of a piece, of which threads take their share: two boxes, and as many as let an image of
patches stay in the second cache while all filters read it."""
SHARED = 7
"""Places of a piece for each panel of filters, between these: 16 shares of 112 places."""
MOST_CHUNKS = 64
"""Pieces of work that threads take: enough to share among 16."""
AT_ONCE = 14
"""Places of a box at most."""
DEEP = 3
"""Blocks of filters that share a place, at most."""
LOW = 8
"""Places of a box that has so many blocks, where their sum is one loop: of 9, registers spill."""
WRITTEN = 2
"""Channels that are written out in the inner loop: there are boxes of many sizes."""
ALIASING, LINE = 256, 16
"""Elements; places that lie a multiple of the former apart share few lines of a cache."""
LEAST_RUN = 5
"""Taps side by side from which on copies of windows cost little beside their sums."""
MANY_TERMS = 64
"""Of a sum, from which on it takes longer than the copy of what it reads."""
LONG = 1 << 40
"""More than any axis has."""

_SERIAL = itertools.count()


def are_apart(c: Convolution) -> bool:
    """Whether windows have nothing in common, and copies of them cost little beside their sums."""
    along = [(known(s.taps) or 0, s) for s in c.spatial if s.tap is not None]
    if c.has_groups or not all(s.dilation == 1 and 0 < n <= s.stride for n, s in along):
        return False
    terms = math.prod(known(a.extent) or 0 for a in c.sum.axes)
    return bool(along) and along[-1][0] >= LEAST_RUN and terms > MANY_TERMS


def stages_by_places(
    c: Convolution, given: Groups, target: Target, lanes: int
) -> list[Stage | Store]:
    """The copies, then the sums of boxes."""
    return _Stages(c, given, target, lanes).found()


class _Stages:
    """The stages of one convolution, and the axes that they share."""

    def __init__(self, c: Convolution, given: Groups, target: Target, lanes: int) -> None:
        self.c, self.given, self.lanes = c, given, lanes
        blocks = -(-given.filters // lanes)
        is_apart = are_apart(c)
        deep = next(n for n in range(DEEP, 0, -1) if blocks % n == 0)
        self.most = min(AT_ONCE, (target.vector_registers - 1) // deep - 1)
        self.panel, self.block = Variable("p", blocks // deep), Variable("b", deep)
        self.lane = Variable("j", lanes)
        self.lies_apart = order(c).block == 1
        self.in_runs = self.lies_apart and is_apart and _lies_in_runs(c)
        if self.in_runs and deep == DEEP:
            self.most = min(self.most, LOW)
        channels = known(c.channels[0].extent) or 1
        block = channels if self.lies_apart else known(order(c).block) or 1
        self.sum = _in_one(c) if self.in_runs else _order(c, block)
        axes = (*c.batch, *(s.out for s in c.spatial))
        places = math.prod(a.extent for a in axes)
        self.axis = Variable("s", places if is_apart else minimum(places, MOST_PLACES))
        self.at: dict[Atom, DimLike] = {}
        rest: DimLike = self.axis.dim
        self.inner: dict[Variable, DimLike] = {}
        """Places that lie between two neighbours along an axis."""
        for k, axis in enumerate(axes):
            self.inner[axis] = maximum(math.prod(a.extent for a in axes[k + 1 :]), 1)
            self.at[axis] = rest // self.inner[axis]
            rest = rest - self.at[axis] * self.inner[axis]

    def found(self) -> list[Stage | Store]:
        """The stages in their order."""
        c, given = self.c, self.given
        at = (self.panel.dim * self.block.extent + self.block.dim) * self.lanes + self.lane.dim
        which, left = given.axis.dim * given.filters + at, given.filters - at
        stages, image = self._image()
        axes = (given.axis, self.panel, self.block, self.lane)
        pack, weights = packed_weights(c, self.sum, (which, left), axes)
        total = reduction("sum", (*self.sum.loops, *self.sum.written), c.product.of(image, weights))
        value = replace(c.store.value, {c.sum: total})
        store = Store(c.store.buffer, c.store.axes, c.store.address, value)
        around = (given.axis, self.panel, self.axis, self.block, self.lane)
        store = rewritten(store, around, {c.filter: which, **self.at})
        width = None if given.filters % self.lanes == 0 else left + self.lane.dim
        return [*stages, pack, Stage(self._nest(store, width), (store,))]

    def _image(self) -> tuple[list[Stage | Store], Scalar]:
        """What is copied, and what the sum reads of it."""
        c, image, group = self.c, self.given.image, self.given.axis
        (channel,) = c.channels
        first: list[Stage | Store] = []
        if self.lies_apart and not self.in_runs:
            axes = (group, *c.batch, *(s.place for s in c.spatial), channel)
            turned = filled("turned", axes, image)
            image = load(turned.buffer, turned.buffer.address(tuple(a.dim for a in axes)))
            first.append(turned)
        at: dict[Atom, DimLike] = {s.place: s.read for s in c.spatial}
        image = substitute_scalar(substitute_scalar(image, at), self.at)
        if self.in_runs:
            *taps, inner = _taps(c)
            loops = [channel, *(taps or [Variable("t", 1)])]
        else:
            *loops, middle = self.sum.loops
            inner = Variable("i", middle.extent * math.prod(a.extent for a in self.sum.written))
            image = substitute_scalar(image, {channel: loops[0].dim * inner.extent + inner.dim})
        count, number = combined((*loops, inner))
        pitch = count + LINE if known(count % ALIASING) == 0 else count
        shape = (self.given.count, self.axis.extent, pitch)
        buffer = Buffer(f"places#{next(_SERIAL)}", shape, image.dtype)
        put = Put(buffer, buffer.address((group.dim, self.axis.dim, number)), image)
        stage = self._copy(put, loops, inner)
        _, read = combined((*self.sum.loops, *self.sum.written))
        return [*first, stage], load(buffer, buffer.address((group.dim, self.axis.dim, read)))

    def _copy(self, put: Put, loops: Sequence[Variable], inner: Variable) -> Stage:
        """``put`` in vectors along ``inner``; the last of the ``loops``, taps, is written out."""
        outer, *taps, last = loops
        each: list[dict[Atom, DimLike]] = [{last: k} for k in range(known(last.extent) or 1)]
        puts = tuple(
            Put(put.buffer, substitute(put.address, at, {}), substitute_scalar(put.value, at))
            for at in each
        )
        lead = (self.given.axis, self.axis)
        axes = (*lead, *taps, outer, inner)
        stores = tuple(Store(p.buffer, axes, p.address, p.value) for p in puts)
        put.buffer.source = stores[0]  # which stands for all
        body = looped((*taps, outer), (Lanes(inner, 1, puts),))
        nest = Nest("places", (Chunks(lead, body),), self.lanes, combined(lead)[0])
        return Stage(nest, stores)

    def _nest(self, store: Store, width: DimLike | None) -> Nest:
        """The loops around the boxes."""
        count = self.given.count * (known(self.panel.extent) or 1)
        places = max(min(count * SHARED, PIECE), LEAST_PIECE)
        piece = Variable("q", ceildiv(self.axis.extent, places))
        (result,) = outer_reductions(store.value)
        put = Put(store.buffer, store.address, store.value)
        block = Span(self.block, 0, known(self.block.extent) or 1)

        def box(span: Span, last: DimLike) -> Patch:
            spans, loops = (span, block), self._loops((span.start, last))
            return Patch(result, spans, self.lane, loops, self.sum.written, put, width)

        row = self.c.spatial[-1].out.extent
        body = (boxes(self.axis, self.most, box, piece, row),)
        axes = (piece, self.given.axis, self.panel)
        parallel = minimum(combined(axes)[0], MOST_CHUNKS)
        is_float = store.value.dtype is FLOAT32
        chunks = (Chunks(axes, body),)
        return Nest("convolution", chunks, self.lanes, parallel, drops_subnormal=is_float)

    def _loops(self, ends: tuple[DimLike, DimLike]) -> tuple[Taps, ...]:
        """The loops of the sum from one place to another, without taps that meet but padding."""
        found: dict[Variable, Taps | None] = {}
        for s, data in data_of(self.c).items():
            if s.tap is not None:
                found[s.tap] = taps_between(s, data, self._outs(s, ends))
        return tuple(found.get(a) or Taps(a, 0, a.extent) for a in self.sum.loops)

    def _outs(self, s: Spatial, ends: tuple[DimLike, DimLike]) -> Extent:
        """The first place along ``s`` of those between ``ends``, and the last."""
        size = maximum(s.out.extent, 1)
        first, last = (end // self.inner[s.out] for end in ends)
        more = (last // size - first // size) * LONG
        first, last = first - first // size * size - more, last - last // size * size + more
        return maximum(first, 0), minimum(last, s.out.extent - 1)


def _taps(c: Convolution) -> tuple[Variable, ...]:
    return tuple(s.tap for s in c.spatial if s.tap is not None)


def _lies_in_runs(c: Convolution) -> bool:
    """Whether taps along the last axis, of which there are some, lie side by side."""
    *_, row = (s for s in c.spatial if s.tap is not None)
    return [stride_of(e.address, row.place) for e in accesses([c.image])] == [1]


def _in_one(c: Convolution) -> Order:
    """The order of the sum, where all that a place reads lies in the order of the weights."""
    axes = (*c.channels, *_taps(c))
    count, _ = combined(axes)
    step = WRITTEN if known(count % WRITTEN) == 0 else 1
    middle, last = Variable("d", count // step), Variable("e", step)
    rest: DimLike = middle.dim * step + last.dim
    values: dict[Atom, DimLike] = {}
    for axis in reversed(axes):
        values[axis] = rest % axis.extent
        rest = rest // axis.extent
    return Order((middle,), (last,), values, 1)


def _order(c: Convolution, block: int) -> Order:
    """The order of the sum, where so many channels of a place lie side by side."""
    (channel,) = c.channels
    taps = _taps(c)
    step = WRITTEN if block % WRITTEN == 0 else 1
    outer = Variable("c", channel.extent // block)
    middle, last = Variable("d", block // step), Variable("e", step)
    place = outer.dim * block + middle.dim * step + last.dim
    return Order((outer, *taps, middle), (last,), {channel: place}, block)


__all__ = ["MOST_PLACES", "are_apart", "stages_by_places"]
