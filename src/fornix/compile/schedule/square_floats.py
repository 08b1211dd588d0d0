"""Direct convolutions of float32 in tile registers (AMX), as products of bfloat16s.

Decides which convolutions are computed so, and who splits which factor when (`compile.parts`). Of
the image and the weights the one with fewer elements is split ahead, stored weights once and for
all. The other one is split in scratch memory, as much of it at a time as caches hold, and serves
all of the first: weights slice by slice of the sum, whose sums wait in scratch memory meanwhile,
the image in pieces of whole sums.

Weights of one part take no more memory in words than as they are stored. They are split ahead in
any case, but for the smallest images; of an image that they outnumber, all is.

Where only a run tells how large the image is, boxes have a size of their own, and reach beyond its
end: factors are 0 there, and results are not written.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution, Groups, Spatial
from fornix.compile.cost import accesses, likely_of_image, outer_reductions, stride_of
from fornix.compile.narrow import as_stored
from fornix.compile.nest import Block, Chunks, Lanes, Line, Loop, Nest, Patch, Put, Span, Taps
from fornix.compile.parts import count_of, in_parts
from fornix.compile.schedule.chunks import combined, in_scratch, looped
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.square import FEATURES, WORDS
from fornix.compile.schedule.square_boxes import (
    box_of,
    is_open,
    sides_of,
)
from fornix.compile.schedule.square_cost import (
    GAIN,
    STEP,
    deep_of,
    grouped,
    piece_of,
    speed_in_tiles,
    splits_weights,
    weights_are_larger,
)
from fornix.compile.schedule.square_few import Weights, either, few_places, may_be_few
from fornix.compile.schedule.winograd import Stage
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, INT32
from fornix.ir.dim import DimLike, ceildiv, known, maximum, minimum
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Constant,
    Scalar,
    Store,
    Variable,
    apply,
    cast,
    const,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

SLICE = 2
"""Steps at most of a slice of the sum."""
LINE_WORDS = 16
"""Of a line of a cache."""
CLEARED = 4
"""Vectors that are set to 0 at a time."""
FEWER_TURNS = 2
"""By how much fewer turns than are likely go over an image of unknown size."""

_SERIAL = itertools.count()


def float_stages(
    c: Convolution, given: Groups, target: Target, lanes: int
) -> list[Stage | Store] | None:
    """What has to be done for ``c``, in order; None if it is not done in tile registers."""
    if not runs_in_tiles(c, target, lanes):
        return None
    stages = _Stages(c, given, target)
    return stages.by_panels() if stages.splits_weights else stages.of_whole_weights()


def has_float_tiles(c: Convolution, target: Target, lanes: int) -> bool:
    """Whether numbers are as tile registers take them, however they lie."""
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32 or lanes != WORDS:
        return False
    return not target.is_strict and target.has(FEATURES["dot2"])


def runs_in_tiles(c: Convolution, target: Target, lanes: int) -> bool:
    """Whether ``c`` is computed in tile registers."""
    if not has_float_tiles(c, target, lanes):
        return False
    if c.has_groups or len(c.channels) != 1 or len(c.spatial) > 2:
        return False
    channels = c.channels[0].extent
    if not isinstance(c.filter.extent, int) or not isinstance(channels, int) or channels % WORDS:
        return False
    if not all(isinstance(s.taps, int) for s in c.spatial):
        return False
    if not all(isinstance(e.buffer.source, Constant) for e in accesses([c.weights])):
        return False
    return _is_read_in_vectors(c) and speed_in_tiles(c, target) > GAIN


def _is_read_in_vectors(c: Convolution) -> bool:
    """Whether channels that are neighbours lie side by side in all that the image is made of."""
    (channel,) = c.channels
    block, lane = Variable("c", ceildiv(channel.extent, WORDS)), Variable("e", WORDS)
    image = substitute_scalar(c.image, {channel: block.dim * WORDS + lane.dim})
    loads = [e for e in accesses([image]) if lane in e.variables]
    return bool(loads) and all(
        stride_of(e.address, lane) == 1 and all(lane not in a.variables for a in e.args)
        for e in loads
    )


@dataclass(frozen=True)
class _Split:
    """What splits a factor, in loops over ``axes``, and what is read of its first parts."""

    buffer: Buffer
    axes: tuple[Variable, ...]
    inner: tuple[Variable, ...]
    """Axes within, of which the last is a vector."""
    puts: tuple[Put, ...]
    read: Scalar

    @property
    def body(self) -> Block:
        """What is done for each value of ``axes``."""
        *others, last = self.inner
        return looped(others, (Lanes(last, 1, self.puts),))

    @property
    def loops(self) -> Block:
        """All of it."""
        return looped(self.axes, self.body)

    def stage(self) -> Stage:
        """All of it, before anything else."""
        axes = (*self.axes, *self.inner)
        stores = tuple(Store(put.buffer, axes, put.address, put.value) for put in self.puts)
        self.buffer.source = stores[0]  # which stands for all
        chunks = (Chunks(self.axes, self.body),)
        nest = Nest("parts", chunks, WORDS, combined(self.axes)[0], drops_subnormal=True)
        return Stage(nest, stores)


class _Stages:
    """The stages of one convolution, and the axes that they share."""

    def __init__(self, c: Convolution, given: Groups, target: Target) -> None:
        self.c, self.given, self.target = c, given, target
        self.counts = count_of(given.image), count_of(c.weights)
        self.is_whole = weights_are_larger(c)
        self.splits_weights = splits_weights(c)
        (self.channel,) = c.channels
        blocks = -(-given.filters // WORDS)
        self.block, self.lane = Variable("b", deep_of(c, blocks)), Variable("j", WORDS)
        self.steps = -(-(known(self.channel.extent) or 1) // STEP)
        self.panels = self._panels(-(-blocks // deep_of(c, blocks)), target)
        self.filters, self.at_filter = combined((*self.panels, self.block, self.lane))
        self.word = Variable("e", WORDS)
        taps = tuple(s.tap for s in c.spatial if s.tap is not None)
        few = 1 if taps or not self.splits_weights else _divisor(self.steps)
        outer, inner = Variable("c", self.steps // few), Variable("d", few)
        self.loops = (outer, *taps, inner) if few > 1 else (outer, *taps)
        self.step = outer.dim * few + inner.dim if few > 1 else outer.dim
        sides = sides_of(c, is_whole=self.is_whole)
        self.box = box_of(c, *sides)
        self.is_open = is_open(c)
        self.cut = c.spatial[0]
        self.local = {s: s.out for s in c.spatial}
        self.piece = Variable("q", 1)
        self.first: DimLike = 0
        is_joined = len(c.spatial) > 1 and sides[0] == 1 < likely_of_image(self.cut.out.extent)
        if not self.is_whole:
            self._cut(target)
        if self.is_open and not is_joined:
            self._round_up()
        self.outs = tuple(self.local.values())
        self.at: dict[Atom, DimLike] = {s.out: self._out(s) for s in c.spatial}
        self.inside: Scalar = TRUE
        if is_joined:
            self._join()
        elif self.is_open:
            self.inside = _are_below((self.at[s.out], s.out.extent) for s in c.spatial)
        counts = self.box.sides[-len(self.outs) :]
        self.spans = [_span(axis, n) for axis, n in zip(self.outs, counts, strict=True)]

    def _panels(self, count: int, target: Target) -> tuple[Variable, ...]:
        """The panels of weights; in groups that a cache holds, where these are split ahead.

        Groups are alike, so that there may be panels of zeros.
        """
        if self.is_whole:
            return (Variable("p", count),)
        groups, each = grouped(self.c, count, target)
        return Variable("g", groups), Variable("p", each)

    def _cut(self, target: Target) -> None:
        """Cut the image along its first axis into pieces that are split at once."""
        extent, length = self.cut.out.extent, piece_of(self.c, target)
        self.local[self.cut] = Variable(self.cut.out.name, length)
        self.piece = Variable("q", ceildiv(extent, length))
        self.first = self.piece.dim * length
        if not self.is_open:
            self.first = minimum(self.first, extent - length)

    def _round_up(self) -> None:
        """Let the axes of the results end with a box."""
        counts = self.box.sides[-len(self.local) :]
        for (s, out), n in zip(self.local.items(), counts, strict=True):
            self.local[s] = Variable(out.name, ceildiv(out.extent, n) * n)

    def _join(self) -> None:
        """Make one row of the results, of which some are between the rows of the image."""
        rows, pixels = self.c.spatial
        pitch = pixels.place.extent
        length = (rows.out.extent - 1) * pitch + pixels.out.extent
        if self.is_open:
            length = ceildiv(maximum(length, 0), self.box.pixels) * self.box.pixels
            pitch = maximum(pitch, 1)
        joined = Variable("s", length)
        row = joined.dim // pitch
        self.outs = (joined,)
        self.at = {rows.out: row, pixels.out: joined.dim - row * pitch}
        within = [pixels, rows] if self.is_open else [pixels]
        self.inside = _are_below((self.at[s.out], s.out.extent) for s in within)

    # ── the two ways

    def of_whole_weights(self) -> list[Stage | Store]:
        """Weights are split once and for all, the image at once or piece by piece."""
        own = self._weight()
        halves = self._at_half(own, 0, self.step), self._at_half(own, 1, self.step)
        weights = self._weights(halves, (*self.panels, *self.loops))
        image = self._image(self.c.batch if self.is_whole else ())
        patch, store = self._patch(image, weights, halves)
        first = [weights.stage()]
        if self.is_whole:
            turns = (*(turn for turn, _ in self.spans), *self.loops)
            patch = replace_fields(patch, ahead=self._ahead(weights.buffer, self.panels, turns))
            outer, body = (*self.panels, *self.c.batch), self._boxes(patch)
            last = _stage(outer, body, store, [], image.buffer, weights.buffer)
            first.append(image.stage())
        else:
            group, panel = self.panels
            body = (*image.loops, Loop(panel, self._boxes(patch)))
            outer = (group, *self.c.batch, self.piece)
            last = _stage(outer, body, store, [image.buffer], weights.buffer)
        if not may_be_few(self.c):
            return [*first, last]
        packed, _ = self._packed()
        if self.is_whole:
            first[-1] = either(first[-1], self.c)
        return [packed, *first, self._or_few(last, packed)]

    def by_panels(self) -> list[Stage | Store]:
        """The image is split once, the weights panel by panel, slice by slice, for all of it."""
        packed, halves = self._packed()
        *slices, last = self.loops
        image = self._image(self.c.batch)
        weights = self._weights(halves, (last,))
        patch, store = self._patch(image, weights, halves)
        turns = [turn for turn, _ in self.spans]
        size = math.prod(span.count for _, span in self.spans)
        extents = (*(t.extent for t in turns), size * (known(self.block.extent) or 1) * WORDS)
        sums = Buffer(f"sums#{next(_SERIAL)}", extents, FLOAT32)
        patch = replace_fields(patch, held=(sums, sums.address((*(t.dim for t in turns), 0))))
        ahead = self._ahead(packed.buffer, (*self.panels, *slices), (*turns, last))
        adding = replace_fields(patch, loops=patch.loops[-1:], ahead=ahead)
        every = Variable("z", sums.elements)
        body = (
            Lanes(every, CLEARED, (Put(sums, every.dim, const(0, FLOAT32)),)),
            *looped(slices, (*weights.loops, *self._boxes(adding))),
            *self._boxes(replace_fields(patch, loops=())),
        )
        outer, scratch = (*self.panels, *self.c.batch), [weights.buffer, sums]
        stage = _stage(outer, body, store, scratch, image.buffer)
        if not may_be_few(self.c):
            return [packed, image.stage(), stage]
        return [packed, either(image.stage(), self.c), self._or_few(stage, packed)]

    def _or_few(self, stage: Stage, packed: Store) -> Stage:
        """``stage``, or vectors of ``packed`` weights where there turn out to be few places."""
        half, blocks = Variable("h", 2), (known(self.channel.extent) or 0) // WORDS
        axes = (*self.panels, *self.loops, half, self.word, self.block, self.lane)
        place = packed.buffer.address(tuple(a.dim for a in axes))
        weights = Weights(
            panels=self.panels,
            steps=self.loops,
            half=half,
            word=self.word,
            block=Span(self.block, 0, known(self.block.extent) or 1),
            lane=self.lane,
            filter=self.at_filter,
            width=self._width(),
            read=cast(load(packed.buffer, place), FLOAT32),
            term=self.step * STEP + half.dim * WORDS + self.word.dim,
            halves=minimum(2, blocks - self.step * 2),
        )
        stage = either(stage, self.c, few_places(self.c, self.given, weights))
        nest = replace_fields(stage.nest, beside=(*stage.nest.beside, packed.buffer))
        return replace_fields(stage, nest=nest)

    # ── factors

    def _at_half(self, e: Scalar, half: DimLike, step: DimLike) -> Scalar:
        """``e`` at a word of the lower or the upper half of a step, 0 behind the last channel."""
        first = step * STEP + half * WORDS
        inside = apply("lt", index(first), index(self.channel.extent))
        value = substitute_scalar(e, {self.channel: first + self.word.dim})
        return select(inside, guarded(value, inside), 0)

    def _image(self, lead: tuple[Variable, ...]) -> _Split:
        """The image in parts, padding included, for all of the axes that ``lead``."""
        step = Variable("c", self.steps)
        places: list[Variable] = []
        reads: list[DimLike] = []
        at: dict[Atom, DimLike] = {}
        for s, out in self.local.items():
            places.append(Variable("y", self._read(s)))
            reads.append((out.dim * s.stride if out in self.outs else 0) + _reach(s))
            at[s.place] = places[-1].dim + (self.first * s.stride if s is self.cut else 0)
        if len(self.outs) < len(reads):
            reads[-1] = reads[-1] + self.outs[0].dim
        image = self._image_at(at)
        halves = [self._at_half(image, k, step.dim) for k in range(2)]
        axes = (*lead, step, *places)
        buffer = _words((*axes, self.counts[0], self.word))
        puts = _puts(buffer, axes, (self.word,), halves)
        read = buffer.address((*(a.dim for a in lead), self.step, *reads, 0, self.word.dim))
        return _Split(buffer, axes, (self.word,), puts, load(buffer, read))

    def _image_at(self, at: Mapping[Atom, DimLike]) -> Scalar:
        """The image at some places, 0 at those that boxes reach beyond its end."""
        value = substitute_scalar(self.given.image, at)
        if not self.is_open:
            return value
        inside = _are_below((at[s.place], s.place.extent) for s in self.c.spatial)
        return select(inside, guarded(value, inside), 0)

    def _read(self, s: Spatial) -> DimLike:
        """Places along ``s`` that are read, those included that boxes reach beyond the end."""
        more = (s.taps - 1) * s.dilation
        if not self.is_open or len(self.outs) == len(self.local) or s is self.c.spatial[-1]:
            return (self.local[s].extent - 1) * s.stride + more + 1
        row = self.c.spatial[-1]
        behind = (row.taps - 1) * row.dilation
        return more + ceildiv(self.outs[0].extent + behind, maximum(row.place.extent, 1))

    def _weight(self, *, is_narrow: bool = False) -> Scalar:
        """The weights at a place in a panel, 0 behind the last filter; as stored if `is_narrow`."""
        inside = apply("lt", index(self.at_filter), index(self.given.filters))
        weights = as_stored(self.c.weights, self.target) if is_narrow else self.c.weights
        value = substitute_scalar(weights, {self.c.filter: self.at_filter})
        return select(inside, guarded(value, inside), 0)

    def _packed(self) -> tuple[Store, tuple[Scalar, Scalar]]:
        """The weights in the order of their use, and those of both halves of a step."""
        half = Variable("h", 2)
        axes = (*self.panels, *self.loops, half, self.word, self.block, self.lane)
        stored = self._weight(is_narrow=True)
        packed = filled("weights", axes, self._at_half(stored, half.dim, self.step))

        def at(k: int) -> Scalar:
            place = (k if a is half else a.dim for a in axes)
            return cast(load(packed.buffer, packed.buffer.address(tuple(place))), FLOAT32)

        return packed, (at(0), at(1))

    def _weights(self, halves: tuple[Scalar, Scalar], axes: tuple[Variable, ...]) -> _Split:
        """Weights in parts, over ``axes``; loops over others are around them."""
        inner = (self.block, self.word, self.lane)
        buffer = _words((*axes, self.counts[1], *inner))
        puts = _puts(buffer, axes, inner, halves)
        read = buffer.address((*(a.dim for a in axes), 0, *(a.dim for a in inner)))
        order = (self.word, self.block, self.lane)
        return _Split(buffer, axes, order, puts, load(buffer, read))

    def _ahead(
        self, weights: Buffer, slices: Sequence[Variable], turns: Sequence[Variable]
    ) -> tuple[Line, ...]:
        """The lines of the next slice of ``weights`` that one of the ``turns`` with this asks for.

        Each asks for its part, so that it comes from memory as evenly as time passes.
        """
        (count, number), (own_count, own) = combined(slices), combined(turns)
        size = (known(weights.elements) or 0) // (known(count) or 1)
        least = known(own_count) or max(1, likely_of_image(own_count) // FEWER_TURNS)
        share = -(-size // least)
        first = (number + 1) * size + minimum(own, least - 1) * share
        line = LINE_WORDS * FLOAT32.bits // weights.dtype.bits
        return tuple((weights, first + k) for k in range(0, share, line))

    # ── the sums

    def _patch(
        self, image: _Split, weights: _Split, halves: tuple[Scalar, Scalar]
    ) -> tuple[Patch, Store]:
        """One box, and all that the boxes compute, as sums of float32s."""
        axes = (*self.loops, self.word)
        places: dict[Atom, DimLike] = {}
        for s in self.c.spatial:
            places[s.place] = self.at[s.out] * s.stride + _reach(s)
        whole = guarded(substitute_scalar(self.given.image, places), self.inside)
        whole = select(self.inside, whole, 0)
        terms = [self._at_half(whole, k, self.step) * halves[k] for k in range(2)]
        again = self._store(reduction("sum", axes, terms[0] + terms[1]))
        store = self._store(reduction("sum", axes, apply("dot2", image.read, weights.read)))
        guard = None if self.inside is TRUE else self.inside
        (e,), (plain,) = (outer_reductions(s.value) for s in (store, again))
        patch = Patch(
            result=e,
            spans=(*(s for _, s in self.spans), Span(self.block, 0, known(self.block.extent) or 1)),
            column=self.lane,
            loops=tuple(Taps(a, 0, a.extent) for a in self.loops),
            written=(self.word,),
            put=Put(store.buffer, store.address, store.value, guard=guard),
            width=self._width(),
            square=(self.outs[-1], self.box.height),
            parts=(WORDS, (known(self.block.extent) or 1) * WORDS * WORDS),
            counts=self.counts,
            again=plain if max(self.counts) > 1 else None,
        )
        return patch, again

    def _width(self) -> DimLike | None:
        """The lanes that are filters, if not all are."""
        if self.filters == self.given.filters:
            return None
        return self.given.filters - self.at_filter + self.lane.dim

    def _out(self, s: Spatial) -> DimLike:
        """The place along ``s`` in the whole result of what is at one in a piece."""
        return self.local[s].dim + (self.first if s is self.cut else 0)

    def _store(self, whole: Scalar) -> Store:
        """The store of the convolution, with ``whole`` for its sum."""
        c = self.c
        hole = load(Buffer("sum", (), FLOAT32), 0)
        value = replace(c.store.value, {c.sum: hole})
        store = Store(c.store.buffer, c.store.axes, c.store.address, value)
        axes = (*c.batch, self.piece, *self.panels, *self.outs, self.block, self.lane)
        store = rewritten(store, axes, {c.filter: self.at_filter, **self.at})
        value = replace(guarded(store.value, self.inside), {guarded(hole, self.inside): whole})
        return Store(store.buffer, store.axes, store.address, value)

    def _boxes(self, patch: Patch) -> Block:
        """``patch`` for all boxes."""
        return looped([turn for turn, _ in self.spans], (patch,))


def _are_below(limits: Iterable[tuple[DimLike, DimLike]]) -> Scalar:
    """Whether each of some places is less than its end."""
    found = [apply("lt", index(place), index(end)) for place, end in limits]
    return functools.reduce(lambda a, b: apply("and", a, b), found)


def _reach(s: Spatial) -> DimLike:
    """How far a tap lies from the first one."""
    return 0 if s.tap is None else s.tap.dim * s.dilation


def _span(axis: Variable, count: int) -> tuple[Variable, Span]:
    """The loop over ``axis`` by ``count``, and what a turn takes; the last one begins earlier."""
    turn = Variable("t", ceildiv(axis.extent, count))
    start = 0 if turn.extent == 1 else minimum(turn.dim * count, axis.extent - count)
    return turn, Span(axis, start, count)


def _divisor(steps: int) -> int:
    """Steps of a slice."""
    return next(n for n in range(SLICE, 0, -1) if steps % n == 0)


def _words(shape: Sequence[Variable | int]) -> Buffer:
    extents = [a.extent if isinstance(a, Variable) else a for a in shape]
    return Buffer(f"parts#{next(_SERIAL)}", extents, INT32)


def _puts(
    buffer: Buffer, axes: Sequence[Variable], inner: Sequence[Variable], halves: Sequence[Scalar]
) -> tuple[Put, ...]:
    """The parts of both ``halves`` of a step, part by part."""
    lead, tail = [a.dim for a in axes], [a.dim for a in inner]
    count = buffer.shape[len(axes)]
    parts = [*enumerate(in_parts(*halves))][: known(count)]
    return tuple(Put(buffer, buffer.address((*lead, k, *tail)), part) for k, part in parts)


def _stage(
    axes: Sequence[Variable], body: Block, store: Store, scratch: Sequence[Buffer], *beside: Buffer
) -> Stage:
    """``body`` in chunks of ``axes``, which does ``store`` and reads parts ``beside``."""
    places, size = in_scratch(scratch)
    chunks = (Chunks(tuple(axes), body),)
    nest = Nest("convolution", chunks, WORDS, combined(axes)[0], places, size)
    return Stage(replace_fields(nest, beside=beside, drops_subnormal=True), (store,))


__all__ = ["float_stages", "has_float_tiles", "runs_in_tiles"]
