"""Winograd's convolution: transforms and matrix products, in vectors of channels.

Decides how the stages of `compile.winograd` run. Images and results are handled in vectors of
channels; where they do not lie in memory like that, copies that do come first or last, and take
padding and epilogue with them. Weights are transformed once, when a session is made. For position
p in a tile, tile t, channel c and filter f, the stages hand on

    filters[p, panel, c, f]    images[p, t, c]    products[p, t, f]

Where the last two are small, each stage is a kernel. Where they are large, or the first is small,
one kernel does all stages for a block of tiles after the other, in scratch memory that stays in the
cache: panel by panel, or, where filters are small, position by position. Where the first is so
large that memory counts, filters wait for the transform along the last axis, which each run does
for the positions of a line and a panel at once: there are half as many elements to be read.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fornix.compile.axes import cut_at_blocks
from fornix.compile.convolution import Convolution, Spatial
from fornix.compile.cost import LIKELY_EXTENT, LIKELY_IMAGE, accesses, likely_of_image, stride_of
from fornix.compile.nest import Block, Chunks, Lanes, Line, Loop, Nest, Put, Stretch, Tile
from fornix.compile.phases import phases
from fornix.compile.schedule.ahead import AHEAD_SHARE, shares
from fornix.compile.schedule.chunks import combined, even_height, in_scratch, shared_size
from fornix.compile.schedule.few_taps import where, with_few_taps
from fornix.compile.schedule.inside import data_of, share
from fornix.compile.target import Target
from fornix.compile.winograd import (
    HELD_BYTES,
    TAPS,
    UNITS,
    Along,
    Image,
    Place,
    Windows,
    Winograd,
    along_all,
    best,
)
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from fornix.ir.dim import DimLike, ceildiv, known, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    TRUE,
    Apply,
    Buffer,
    Constant,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    cast,
    guarded,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import select

RESULTS = {FLOAT32, FLOAT16, BFLOAT16}
"""What sums of float32 may become: halves are rounded far more coarsely than by the algorithm."""
SUMS = {32: 24, 16: 12}
"""Vectors of a tile of the products at most, by the number of vector registers."""
ROW_BLOCK = 16
"""Tiles of rows in a chunk of the products."""
ALIASING = 256
"""Elements; rows that lie a multiple of this apart share few lines of a cache."""
STAGED_BYTES = 6 << 20
"""Of images and products, up to which a shared cache holds them from stage to stage."""
FILTERS_BYTES = 5 << 20
"""Of transformed filters, up to which they can be read again for each block of tiles."""
SCRATCH_BYTES = 384 << 10
"""Of images and products of a block of tiles: they stay in the cache of a core."""
NEAR_SHARE = 3
"""Of the second cache, transformed filters take so small a part, or less, where it takes little
time that each block of a few tiles reads them."""

LIKELY_ROWS = 48
"""What is taken for a number of tiles that is not known."""
DIRECT_PIXELS = 7
"""Of a row that the direct sum computes at once."""
SMALL_IMAGE = 128
"""The least of which dilated filters are to be worth it, where those for direct sums are too large
to be kept beside them: phases of less are all borders."""

_SERIAL = itertools.count()


@dataclass(frozen=True)
class Stage:
    """A nest and the stores that it executes."""

    nest: Nest
    stores: tuple[Store, ...]
    is_same: bool = True
    """Whether its arithmetic is that of the convolution, in whatever order."""


def winograd_stages(
    conv: Convolution, target: Target, lanes: int, algorithm: Winograd | None
) -> list[Stage | Store] | None:
    """What has to be done for ``conv``, in order; stores are left to other schedules.

    None without an algorithm: then another schedule serves it better.
    """
    if algorithm is None:
        return None
    return _Stages(with_few_taps(conv), algorithm, target, lanes).found()


def winograd_algorithm(
    conv: Convolution, target: Target, lanes: int, speed: float = 1.0
) -> Winograd | None:
    """What computes ``conv``; None if that is another schedule."""
    flat = with_few_taps(conv)
    is_gathered = flat.channels != conv.channels and _is_split(conv, flat, lanes)
    return _algorithm(conv, flat, target, lanes, speed, is_gathered=is_gathered)


def _terms(c: Convolution) -> int:
    """Products of which a sum consists."""
    axes = (*c.channels, *(s.tap for s in c.spatial if s.tap is not None))
    return known(math.prod(axis.extent for axis in axes)) or 1


def _is_split(conv: Convolution, flat: Convolution, lanes: int) -> bool:
    """Whether vectors of channels of ``flat`` hold those of ``conv`` for several taps."""
    (own,), (joined,) = conv.channels, flat.channels
    return own.extent != joined.extent and known(own.extent % lanes) != 0


def _algorithm(
    plain: Convolution, conv: Convolution, target: Target, lanes: int, speed: float,
    *, is_gathered: bool,
) -> Winograd | None:  # fmt: skip
    """What computes ``conv``, which is ``plain`` with few taps; None if another schedule does."""
    if target.is_strict or conv.has_groups or len(conv.channels) != 1 or not conv.has_taps:
        return None
    if any(s.tap and (s.tap.extent not in TAPS or s.stride != 1) for s in conv.spatial):
        return None
    axes = {*conv.batch, conv.filter, *(s.out for s in conv.spatial)}
    stored = [isinstance(e.buffer.source, Constant) for e in accesses([conv.weights])]
    if set(conv.store.axes) != axes or not target.fuses or not all(stored):
        return None
    if len(phases(conv.store)) > 1:  # each is a convolution of its own, without the zeros
        return None
    is_float = conv.sum.dtype is FLOAT32 and conv.product.op == "mul"
    if not is_float or conv.store.buffer.dtype not in RESULTS:
        return None
    channels, filters = known(conv.channels[0].extent), known(conv.filter.extent)
    if channels is None or filters is None:
        return None
    held = HELD_BYTES if speed > 1 and target.is_wide else 0
    sizes = [LIKELY_IMAGE if len(conv.spatial) > 1 else LIKELY_EXTENT]
    if has_open_phases(conv):
        sizes = [sizes[0] * max(s.dilation for s in conv.spatial), SMALL_IMAGE]
    images = [_image(plain, conv, size, is_gathered=is_gathered) for size in sizes]
    cache = target.l2_bytes * AHEAD_SHARE
    found = [best(image, channels, filters, lanes, speed, held, cache) for image in images]
    is_held = found[0] and 4 * found[0].positions * channels * filters <= HELD_BYTES
    return found[0] if is_held or all(found) else None


def has_open_phases(c: Convolution) -> bool:
    """Whether a run tells how many elements taps find that are more than one place apart."""
    return any(s.dilation > 1 and known(s.out.extent) is None for s in c.spatial)


def _image(plain: Convolution, conv: Convolution, size: int, *, is_gathered: bool) -> Image:
    """What ``conv`` computes of a model's image of ``size``, where its extents are not known.

    The direct sum is that of ``plain``: it leaves out the padding and has no taps more.
    """
    data = {
        dataclasses.replace(s, out=Variable(s.out.name, likely_of_image(s.out.extent, size))): (
            likely_of_image(first, size),
            likely_of_image(end, size),
        )
        for s, (first, end) in data_of(plain).items()
    }
    counts = {s: DIRECT_PIXELS for s in data if s.place is plain.spatial[-1].place}
    extents = tuple(likely_of_image(s.out.extent, size) for s in conv.spatial)
    dilations = tuple(s.dilation for s in conv.spatial)
    images = known(math.prod(a.extent for a in conv.batch)) or 1
    taps = tuple(known(s.taps) or 1 for s in conv.spatial)
    summed = share(data, counts) * _terms(plain) / _terms(conv)
    return Image(extents, dilations, taps, summed, is_gathered, images)


@dataclass(frozen=True)
class _Part:
    """The inner loops of a stage, and what is computed by them and the loops around them."""

    body: Block
    stores: tuple[Store, ...]


@dataclass(frozen=True)
class _Grid:
    """The tiles along an axis of the image: with a dilation of d, those of each d-th place."""

    phase: Variable | None
    tile: Variable
    along: Along
    dilation: int

    @staticmethod
    def of(s: Spatial, along: Along) -> _Grid:
        """The tiles along ``s``."""
        phase = Variable("r", s.dilation) if s.dilation > 1 else None
        tile = Variable("t", ceildiv(ceildiv(s.out.extent, s.dilation), along.out))
        return _Grid(phase, tile, along, s.dilation)

    @property
    def extent(self) -> DimLike:
        """Places that the tiles read."""
        return (self.tile.extent * self.along.out + self.along.taps - 1) * self.dilation

    def at(self, k: int) -> DimLike:
        """The place of element ``k`` of the present tile, and of its result ``k``."""
        first = 0 if self.phase is None else self.phase.dim
        return (self.tile.dim * self.along.out + k) * self.dilation + first


class _Stages:
    """The stages of one convolution, and the axes and buffers that they share."""

    def __init__(self, conv: Convolution, algorithm: Winograd, target: Target, lanes: int) -> None:
        self.conv, self.algorithm, self.lanes = conv, algorithm, lanes
        self.target = target
        self.units = min(UNITS, known(ceildiv(conv.filter.extent, lanes)) or UNITS)
        width = self.units * lanes
        (self.channel,) = conv.channels
        self.grids = tuple(map(_Grid.of, conv.spatial, algorithm.axes))
        of_image = [axis for grid in self.grids for axis in (grid.phase, grid.tile) if axis]
        self.outer = (*conv.batch, *of_image)
        self.is_half, last = algorithm.is_half, algorithm.axes[-1]
        self.position = Variable("e", last.edge if self.is_half else algorithm.positions)
        self.line = Variable("i", algorithm.lines if self.is_half else 1)
        self.taps = last.taps if self.is_half else 1
        self.block = Variable("b", ceildiv(self.channel.extent, lanes))
        self.panel = Variable("p", ceildiv(conv.filter.extent, width))
        self.unit, self.lane = Variable("u", self.units), Variable("l", lanes)
        self.at_channel = self.block.dim * lanes + self.lane.dim
        self.at_filter = (self.panel.dim * self.units + self.unit.dim) * lanes + self.lane.dim
        self.tiles, self.tile = combined(self.outer)
        self.first_column: DimLike = self.panel.dim * width
        rows, columns = self.tiles, self.panel.extent * width
        count, _ = combined(of_image)
        places, depth = algorithm.positions, self.block.extent * lanes
        self.filters_bytes = known(4 * places * self.channel.extent * columns) or math.inf
        self.is_near = self.filters_bytes <= target.l2_bytes // NEAR_SHARE
        most = SUMS[32 if target.vector_registers >= 32 else 16] // self.units
        self.size = self._block_size(known(self.tiles) or count, most)
        if self.size is not None:
            self.number = Variable("i", self.size)
            self.tile, rows, count = self.number.dim, self.size, self.size
            if not self.is_near:
                self.first_column, columns = 0, width
        self.row = Variable("t", rows)
        self.height = even_height(count, most)
        stored = algorithm.stored // self.taps, self.panel.extent, self.taps * self.channel.extent
        self.filters = _buffer("filters", (*stored, width))
        self.whole = _buffer("whole", (last.edge, self.channel.extent + 1, width))
        self.images = _buffer("images", (places, rows, _spread(depth, lanes)))
        self.products = _buffer("products", (places, rows, _spread(columns, lanes)))

    def _block_size(self, tiles: DimLike, most: int) -> int | None:
        """Tiles of a block for which one kernel does all stages; None if each has its own.

        Blocks share nothing but filters, so that threads wait for nothing that others' caches have.
        Of a number of images that is not known it is assumed that it is 1.
        """
        if self.is_half:
            return None
        if self.is_near:
            count = known(tiles)
            return most if count is None else shared_size(count, most)
        depth, width = self.block.extent * self.lanes, self.units * self.lanes
        of_column = 4 * self.algorithm.positions
        staged = known(of_column * tiles * (depth + self.panel.extent * width))
        scratch = known(of_column * most * (depth + width))
        if (staged or math.inf) <= STAGED_BYTES or self.filters_bytes > FILTERS_BYTES:
            return None
        return max(SCRATCH_BYTES // (scratch or 1), 1) * most

    def found(self) -> list[Stage | Store]:
        """The stages in their order."""
        before, image = self._image()
        after, results = self._results()
        filters, images = self._filters(), self._images(image)
        prepared = self._kernel((self.panel, self.channel), filters.body, (filters,))
        together = self._staged if self.size is None else self._blocked
        return [*before, prepared, *together(images, results), *after]

    def _staged(self, images: _Part, results: _Part) -> list[Stage]:
        """A kernel for each stage."""
        body = (Loop(self.panel, results.body),)
        return [
            self._kernel(self.outer, images.body, (images,)),
            self._multiplied(),
            self._kernel(self.outer, body, (results,)),
        ]

    def _multiplied(self) -> Stage:
        """All products; filters that are stored by half are transformed line by line for them."""
        if self.is_half:
            filters, products = self._whole(), self._products(0, self.tiles)
            both = (*filters.body, Loop(self.position, products.body))
            outer = self.line, self.panel
            return self._kernel(outer, both, (filters, products), (self.whole,))
        rows = ROW_BLOCK * self.height
        slab = Variable("q", ceildiv(self.tiles, rows))
        first = slab.dim * rows
        products = self._products(first, minimum(first + rows, self.tiles))
        return self._kernel((self.position, self.panel, slab), products.body, (products,))

    def _blocked(self, images: _Part, results: _Part) -> list[Stage]:
        """One kernel that does all stages for a block of tiles, then for the next."""
        size = self.size or 1
        turn = Variable("q", ceildiv(self.tiles, size))
        first = turn.dim * size
        count = minimum(size, self.tiles - first)

        def each(part: _Part) -> Stretch:
            return Stretch(self.outer, self.number, first, count, part.body)

        products = self._products(0, count)
        inner: Block = (Loop(self.position, products.body), each(results))
        body: Block = (each(images), Loop(self.panel, inner))
        if self.is_near:
            inner = (Loop(self.panel, products.body),)
            last = dataclasses.replace(results, body=(Loop(self.panel, results.body),))
            body = (each(images), Loop(self.position, inner), each(last))
        shared = self.images, self.products
        return [self._kernel((turn,), body, (images, products, results), shared)]

    def _kernel(
        self, outer: tuple[Variable, ...], body: Block, parts: Sequence[_Part],
        shared: Sequence[Buffer] = (),
    ) -> Stage:  # fmt: skip
        """``body`` in chunks of ``outer``, which does ``parts``; what these share is scratch."""
        parallel, _ = combined(outer)
        stores = tuple(store for part in parts for store in part.stores)
        for store in stores:
            store.buffer.source = store.buffer.source or store  # the first one stands for all
        scratch, size = in_scratch(shared)
        chunks = (Chunks(outer, body),)
        nest = Nest("winograd", chunks, self.lanes, parallel, scratch, size, drops_subnormal=True)
        return Stage(nest, stores, is_same=False)

    # ── filters

    def _filters(self) -> _Part:
        """``G w``, along each axis, computed in double precision, for it is computed once."""
        inside = apply("lt", index(self.at_filter), index(self.conv.filter.extent))
        axes = self.algorithm.axes

        def tap(place: Place) -> Scalar:
            values: dict[Atom, DimLike] = {self.conv.filter: self.at_filter}
            values |= {s.tap: k for s, k in zip(self.conv.spatial, place, strict=True) if s.tap}
            value = substitute_scalar(self.conv.weights, values)
            return cast(select(inside, guarded(value, inside), 0), FLOAT64)

        taps = {p: tap(p) for p in itertools.product(*(range(axis.taps) for axis in axes))}
        ahead = axes[:-1] if self.is_half else axes
        values = along_all([axis.filters for axis in ahead], taps)
        values = {place: cast(value, FLOAT32) for place, value in values.items()}
        puts = tuple(
            Put(self.filters, self._filter(*divmod(p, self.taps)), value)
            for p, value in enumerate(values.values())
        )
        body = (Loop(self.unit, (Lanes(self.lane, 1, puts),)),)
        return _Part(body, _stores(puts, (self.panel, self.channel, self.unit, self.lane)))

    def _filter(self, line: DimLike, tap: int) -> DimLike:
        """The address in `filters` of the present panel, channel and filter."""
        row = self.channel.extent * tap + self.channel.dim
        column = self.unit.dim * self.lanes + self.lane.dim
        return self.filters.address((line, self.panel.dim, row, column))

    def _whole(self) -> _Part:
        """``G w`` along the last axis, of a line and a panel: few enough to stay in a cache."""
        taps = [load(self.filters, self._filter(self.line.dim, k)) for k in range(self.taps)]
        values: Windows = {(p,): e for p, e in enumerate(self.algorithm.axes[-1].filters(taps))}
        column = self.unit.dim * self.lanes + self.lane.dim
        puts = _puts(self.whole, (self.channel.dim, column), values)
        body = (Loop(self.channel, (Loop(self.unit, (Lanes(self.lane, 1, puts),)),)),)
        axes = (self.line, self.panel, self.channel, self.unit, self.lane)
        return _Part(body, _stores(puts, axes))

    # ── images

    def _image(self) -> tuple[list[Store], Windows]:
        """What is read for a tile, and what has to be copied before, to read it in vectors."""
        image = substitute_scalar(self.conv.image, {self.channel: self.at_channel})
        is_whole, read = known(self.channel.extent % self.lanes) == 0, _widened(image)
        if is_whole and isinstance(read, Load) and _is_contiguous(read, self.lane):
            return [], {place: self._element(image, place) for place in self.algorithm.places()}
        return self._copied()

    def _element(self, image: Scalar, place: Place) -> Scalar:
        """``image`` at a place of a tile, 0 beyond what any result reads."""
        values: dict[Atom, DimLike] = {}
        inside: Scalar = TRUE
        for s, grid, k in zip(self.conv.spatial, self.grids, place, strict=True):
            values[s.place] = grid.at(k)
            inside &= apply("lt", index(values[s.place]), index(s.place.extent))
        return guarded(substitute_scalar(image, values), inside)

    def _copied(self) -> tuple[list[Store], Windows]:
        """A copy of the image, padded to whole tiles, in blocks of channels."""
        conv = self.conv
        places = tuple(Variable("y", grid.extent) for grid in self.grids)
        inside = apply("lt", index(self.at_channel), index(self.channel.extent))
        values: dict[Atom, DimLike] = {self.channel: self.at_channel}
        for s, place in zip(conv.spatial, places, strict=True):
            values[s.place] = place.dim
            inside &= apply("lt", index(place), index(s.place.extent))
        value = where(inside, substitute_scalar(conv.image, values))
        copy = _stored("image", (*conv.batch, self.block, *places, self.lane), value)
        around = tuple(a.dim for a in conv.batch)

        def element(place: Place) -> Scalar:
            inner = (grid.at(k) for grid, k in zip(self.grids, place, strict=True))
            at = (*around, self.block.dim, *inner, self.lane.dim)
            return load(copy.buffer, copy.buffer.address(at))

        return [copy], {place: element(place) for place in self.algorithm.places()}

    def _images(self, image: Windows) -> _Part:
        """``Bᵀ d``, along each axis."""
        values = along_all([axis.images for axis in self.algorithm.axes], image)
        puts = _puts(self.images, (self.tile, self.at_channel), values)
        body = (Loop(self.block, (Lanes(self.lane, 1, puts),)),)
        return _Part(body, _stores(puts, (*self.outer, self.block, self.lane)))

    # ── products

    def _products(self, first: DimLike, end: DimLike) -> _Part:
        """For one position and panel: tiles by channels times channels by filters."""
        column = Variable("j", self.units * self.lanes)
        where: DimLike = self.position.dim
        k, row = self.channel, self.row
        right = load(self.filters, self.filters.address((where, self.panel.dim, k.dim, column.dim)))
        if self.is_half:
            right = load(self.whole, self.whole.address((where, k.dim, column.dim)))
            where = self.line.dim * self.position.extent + where
        left = load(self.images, self.images.address((where, row.dim, k.dim)))
        total = Reduce("sum", (k,), left * right)
        is_even = self.size is None or known(self.tiles % self.height) == 0
        place = (where, row.dim, self.first_column + column.dim)
        put = Put(self.products, self.products.address(place), total)
        tile = Tile(
            result=total,
            row=row,
            rows=(first, end, row.extent if is_even else end),
            height=self.height,
            column=column,
            width=column.extent,
            units=self.units,
            is_padded=True,
            put=put,
            ahead=self._ahead(),
        )
        every = Variable("t", self.tiles)  # of a block of tiles, for all blocks
        value = substitute_scalar(total, {row: every.dim})
        axes = (self.line, self.position, self.panel, every, column)
        return _Part((tile,), (Store(put.buffer, axes, put.address, value),))

    def _ahead(self) -> tuple[Line, ...]:
        """The lines of the next panel that a channel asks for, if each stage has its kernel.

        Each position of a line asks for its share.
        """
        channels, width = known(self.channel.extent), self.units * self.lanes * self.taps
        has_order = self.size is None or self.is_near
        filters = load(self.filters, 0)
        if not has_order or channels is None or not isinstance(filters, Load):
            return ()
        line = self.line if self.is_half else self.position
        start = (line.dim * self.panel.extent + self.panel.dim + 1) * (channels * width)
        if self.is_half:
            width //= self.algorithm.axes[-1].edge
            start += self.position.dim * (channels * width)
        next_ = start, channels, width
        turns = self.height, known(self.row.extent) or LIKELY_ROWS
        return shares(filters, next_, self.row, turns, (self.channel.dim, 1), self.target)

    # ── results

    def _results(self) -> tuple[list[Store], _Part]:
        """``Aᵀ t`` and what follows the sum, or, where that has to be apart, what is left."""
        conv = self.conv
        hole = load(_buffer("sum", ()), 0)
        value = replace(conv.store.value, {conv.sum: hole})
        store = Store(conv.store.buffer, conv.store.axes, conv.store.address, value)
        after: list[Store] = []
        if not self._is_in_vectors(store, hole):
            after, store = self._separate(store, hole)
        column = self.first_column + self.unit.dim * self.lanes + self.lane.dim
        found = {
            place: load(self.products, self.products.address((position, self.tile, column)))
            for position, place in enumerate(self.algorithm.places())
        }
        totals = along_all([axis.results for axis in self.algorithm.axes], found)
        puts = tuple(self._result(store, at, hole, total) for at, total in totals.items())
        body = (Loop(self.unit, (Lanes(self.lane, 1, puts),)),)
        axes = (*self.outer, self.panel, self.unit, self.lane)
        return after, _Part(body, _stores(puts, axes))

    def _is_in_vectors(self, store: Store, hole: Scalar) -> bool:
        """Whether filters that are neighbours lie side by side in all that ``store`` touches."""
        if known(self.conv.filter.extent % self.lanes) != 0:
            return False
        values: dict[Atom, DimLike] = {self.conv.filter: self.at_filter}
        moved = accesses([substitute_scalar(store.value, values)])
        address = substitute(store.address, values, {})
        return stride_of(address, self.lane) == 1 and all(
            e is hole or self.lane not in e.variables or _is_contiguous(e, self.lane) for e in moved
        )

    def _separate(self, store: Store, hole: Scalar) -> tuple[list[Store], Store]:
        """``store`` reading sums from memory, and the store that puts them there in vectors."""
        conv, lanes = self.conv, self.lanes
        outs = [s.out for s in conv.spatial]
        blocks = self.panel.extent * self.units
        extents = [*(a.extent for a in conv.batch), blocks, *(a.extent for a in outs), lanes]
        sums = _buffer("sums", extents)
        f = conv.filter.dim
        place = (*(a.dim for a in conv.batch), f // lanes, *(a.dim for a in outs), f % lanes)
        address = sums.address(place)
        value = replace(store.value, {hole: load(sums, address)})
        rest = Store(store.buffer, store.axes, store.address, value)
        return cut_at_blocks(rest, conv.filter, lanes), Store(sums, store.axes, address, hole)

    def _result(self, store: Store, place: Place, hole: Scalar, total: Scalar) -> Put:
        """The result at ``place`` of a tile, with ``total`` for its sum, if there is one."""
        values: dict[Atom, DimLike] = {self.conv.filter: self.at_filter}
        first = self.at_filter - self.lane.dim
        inside = apply("lt", index(first), index(self.conv.filter.extent))
        for s, grid, k in zip(self.conv.spatial, self.grids, place, strict=True):
            values[s.out] = grid.at(k)
            inside &= apply("lt", index(values[s.out]), index(s.out.extent))
        value = guarded(substitute_scalar(store.value, values), inside)
        value = replace(value, {guarded(hole, inside): total})
        address = substitute(store.address, values, {})
        return Put(store.buffer, address, value, guard=None if inside is TRUE else inside)


def _widened(e: Scalar) -> Scalar:
    """What ``e`` is the float32 of, if that is all it is."""
    return e.args[0] if isinstance(e, Apply) and e.op == "cast" else e


def _is_contiguous(e: Load, axis: Variable) -> bool:
    """Whether ``e`` reads neighbouring elements along ``axis``, all of them or none."""
    return stride_of(e.address, axis) == 1 and all(axis not in guard.variables for guard in e.args)


def _puts(buffer: Buffer, place: tuple[DimLike, ...], values: Windows) -> tuple[Put, ...]:
    """``values`` at ``place``, one for each position in a tile."""
    numbered = enumerate(values.values())
    return tuple(Put(buffer, buffer.address((p, *place)), value) for p, value in numbered)


def _stores(puts: Sequence[Put], axes: tuple[Variable, ...]) -> tuple[Store, ...]:
    return tuple(Store(put.buffer, axes, put.address, put.value) for put in puts)


def _buffer(name: str, shape: Sequence[DimLike]) -> Buffer:
    return Buffer(f"{name}#{next(_SERIAL)}", shape, FLOAT32)


def _stored(name: str, axes: Sequence[Variable], value: Scalar) -> Store:
    """``value`` in memory of its own."""
    buffer = _buffer(name, [a.extent for a in axes])
    fresh = [Variable(a.name, a.extent) for a in axes]
    value = substitute_scalar(value, {a: f.dim for a, f in zip(axes, fresh, strict=True)})
    store = Store(buffer, tuple(fresh), buffer.address(tuple(f.dim for f in fresh)), value)
    buffer.source = store
    return store


def _spread(extent: DimLike, lanes: int) -> DimLike:
    """The length of a row of ``extent`` elements, such that rows do not share lines of a cache."""
    return extent + lanes if known(extent % ALIASING) == 0 else extent


__all__ = ["Stage", "has_open_phases", "winograd_algorithm", "winograd_stages"]
