"""Transposes: what is read along one axis and written along another, in square tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fornix.compile.axes import if_long, rewritten
from fornix.compile.cost import LOAD_COST, accesses, likely, outer_reductions, stride_of
from fornix.compile.nest import (
    SHORT_VECTOR,
    Block,
    Chunks,
    Lanes,
    Loop,
    Nest,
    Put,
    Turn,
    Weave,
    When,
)
from fornix.compile.schedule.chunks import CHUNKS, combined
from fornix.dtype import BOOL
from fornix.ir.dim import DimLike, ceildiv, known, less, maximum, minimum
from fornix.ir.loops import Constant, Load, Store, Variable, index

MAX_LANES = 16
"""Vectors of a tile: as many as fit half of the registers."""
MAX_NODES = 24
"""Nodes of a value that is written out once for each vector of a tile."""
LEAST_EXTENT = 4
"""Shorter axes waste more of a tile than turning saves."""
LARGE_EXTENT, TILES = 512, 4
"""Extents from which on each row of a tile lies in a page of its own, and how many tiles beside
each other are turned then: what is read of a page is four lines, not one."""

LARGE_LANES, PAGE = 8, 4096
"""Lanes of a tile of a large matrix: half a line of float32, since rows seldom begin where lines
do. Where they all begin at the same place of a page, caches hold too few lines to write by halves.
"""

NARROW = 2
"""Bytes of elements whose lanes are put in turn, in tiles as high as such vectors are long."""
MAX_WOVEN = 15
"""Rows that are woven; more fill the tiles that are turned."""
COLOURS = 3
"""Channels of most pictures."""
BLOCKS = 16
"""Vectors along the rows in a piece, at most."""
LEAST_PIECE = 256
"""Elements along the vectors of a transpose in a piece, at least: threads share long ones."""


def woven_nest(store: Store, lanes: int) -> Nest | None:
    """``store`` if it writes a few rows as columns; None if not, or if rows are short.

    The last vectors along the rows end with them, and overlap those before.
    """
    loads, is_moved = accesses([store.value]), isinstance(store.value, Load)
    is_computed = store.buffer.dtype is BOOL and not is_moved
    if is_computed or store.value.size > MAX_NODES or not loads:
        return None
    if outer_reductions(store.value) or any(e.guard is not None for e in loads):
        return None
    short = [a for a in store.axes if stride_of(store.address, a) == 1]
    if len(short) != 1 or not isinstance(short[0].extent, int) or short[0].extent > MAX_WOVEN:
        return None
    for axis in store.axes:
        length = axis.extent
        if stride_of(store.address, axis) != short[0].extent or axis is short[0]:
            continue
        steps = {stride_of(e.address, axis) for e in loads}
        if less(length, lanes) is not True and 1 in steps and steps <= {0, 1}:
            make = _woven if isinstance(length, int) else _woven_if_long
            return make(store, axis, short[0], lanes)
    return None


def _woven(store: Store, along: Variable, across: Variable, lanes: int) -> Nest:
    vectors = -(-likely(along.extent) // lanes)
    pieces = Variable("c", -(-vectors // BLOCKS))
    blocks = Variable("b", -(-vectors // likely(pieces.extent)))
    first = minimum((pieces.dim * blocks.extent + blocks.dim) * lanes, along.extent - lanes)
    put = Put(store.buffer, store.address, store.value)
    body: Block = (Loop(blocks, (Weave(along, across, first, put),)),)
    axes = (*(a for a in store.axes if a is not along and a is not across), pieces)
    return Nest("turned", (Chunks(axes, body),), lanes, combined(axes)[0])


def _woven_if_long(store: Store, along: Variable, across: Variable, lanes: int) -> Nest:
    """The same where a run tells whether the rows fill a vector: if not, element by element."""
    blocks = Variable("b", ceildiv(along.extent, lanes))
    first = minimum(blocks.dim * lanes, along.extent - lanes)
    put = Put(store.buffer, store.address, store.value)
    vectors: Block = (Weave(along, across, first, put),)
    row: Block = (Loop(across, (put,)),)
    axes: tuple[Variable, ...] = tuple(a for a in store.axes if a not in {along, across})
    if axes:
        long, short = Chunks(axes, (Loop(blocks, vectors),)), Chunks(axes, (Loop(along, row),))
    else:
        long, short = Chunks((blocks,), vectors), Chunks((along,), row)
    is_long = index(lanes - 1) < index(along.extent)
    body = (When(is_long, (long,)), When(~is_long, (short,)))
    return Nest("turned", body, lanes, combined(long.axes)[0])


def in_colours(store: Store) -> tuple[DimLike, Store] | None:
    """1 where an axis that is turned has `COLOURS` values, else 0, and ``store`` for that many.

    Tiles would be nearly empty. None unless all that is turned is as long as only a run tells.
    """
    loads = accesses([store.value])
    addresses = (store.address, *(e.address for e in loads))
    turned = [a for a in store.axes if any(stride_of(d, a) == 1 for d in addresses)]
    if _is_stored(store) or any(isinstance(a.extent, int) for a in turned):
        return None
    found = (if_long(store, axis, COLOURS) for axis in turned)
    return next((way for way in found if way is not None), None)


def turned_nest(store: Store, vector: Variable | None, lanes: int) -> Nest | None:
    """``store`` in tiles, if some of what it reads lies across its vector axis.

    That is the one along which elements lie side by side, but where it is too short for a tile and
    another one, ``vector``, is better.
    """
    lanes = _lanes_of(store, lanes)
    beside = next((a for a in store.axes if stride_of(store.address, a) == 1), None)
    if vector is None or (beside is not None and less(beside.extent, MAX_LANES) is not True):
        vector = beside
    if vector is None or lanes < LEAST_EXTENT or store.value.size > MAX_NODES:
        return None
    if stride_of(store.address, vector) != 1 or outer_reductions(store.value):
        return None
    for axis in store.axes:
        along = _along(store, vector, axis)
        if axis is not vector and along and _is_long(axis) and _is_long(vector):
            return _nest(store, vector, axis, along, _filled(store, axis, lanes))
    return None


def _lanes_of(store: Store, lanes: int) -> int:
    """Lanes of a tile: of narrow elements as many as one instruction puts in turn."""
    widest = _widest(store)
    return min(lanes, SHORT_VECTOR // widest if widest <= NARROW else MAX_LANES)


def _filled(store: Store, across: Variable, lanes: int) -> int:
    """Of narrow elements no more ``lanes`` than ``across`` has, as in blocks of few channels."""
    count = across.extent
    if not isinstance(count, int) or count.bit_count() != 1 or _widest(store) > NARROW:
        return lanes
    return min(lanes, count)


def _widest(store: Store) -> int:
    """Bytes of the widest elements that ``store`` reads or writes."""
    dtypes = (store.buffer.dtype, *(e.dtype for e in accesses([store.value])))
    return max(d.numpy.itemsize for d in dtypes)


def _along(store: Store, vector: Variable, axis: Variable) -> list[Load]:
    """What ``store`` reads far across ``vector`` and along ``axis``."""
    loads = [e for e in accesses([store.value]) if _is_far(e, vector)]
    return [e for e in loads if stride_of(e.address, axis) == 1]


def _is_far(e: Load, vector: Variable) -> bool:
    """Whether neighbouring lanes of ``e`` are too far apart to be loaded together."""
    return stride_of(e.address, vector) not in LOAD_COST


def _is_long(axis: Variable) -> bool:
    return not isinstance(axis.extent, int) or axis.extent >= LEAST_EXTENT


def _is_in_pages(store: Store, across: Variable) -> bool:
    """Whether what lies side by side along ``across`` is written whole pages apart."""
    step = stride_of(store.address, across)
    return step is not None and step * store.buffer.dtype.numpy.itemsize % PAGE == 0


def _is_stored(store: Store) -> bool:
    """Whether ``store`` rearranges stored data, once: half as high, tiles have a third of code."""
    return all(isinstance(e.buffer.source, Constant) for e in accesses([store.value]))


def _in_pieces(
    store: Store, vector: Variable, across: Variable, lanes: int
) -> tuple[Store, Variable, list[Variable]]:
    """``store`` with a long ``vector`` in pieces that threads share, if there is little else.

    Also the axis along a piece, and that of the pieces. The last one overlaps that before it.
    """
    others = [known(a.extent) or 1 for a in store.axes if a is not vector and a is not across]
    rows = math.prod(others) * -(-likely(across.extent) // lanes)
    extent = vector.extent
    count = min(CHUNKS // rows, likely(extent) // LEAST_PIECE)
    if count < 2:
        return store, vector, []
    step = -(-likely(extent) // (count * lanes)) * lanes
    pieces = Variable("p", ceildiv(extent, step))
    along = Variable(vector.name, minimum(extent, step))
    start = maximum(minimum(pieces.dim * step, extent - step), 0)
    axes = [x for a in store.axes for x in ((pieces, along) if a is vector else (a,))]
    return rewritten(store, axes, {vector: start + along.dim}), along, [pieces]


def _nest(store: Store, vector: Variable, across: Variable, loads: list[Load], lanes: int) -> Nest:
    """Tiles in rows; of large matrices, some tiles beside each other before those below them."""
    is_large = min(likely(vector.extent), likely(across.extent)) >= LARGE_EXTENT
    is_wide = all(e.dtype.numpy.itemsize > NARROW for e in loads)
    if (is_large and is_wide and not _is_in_pages(store, across)) or _is_stored(store):
        lanes = min(lanes, LARGE_LANES)
    store, vector, pieces = _in_pieces(store, vector, across, lanes)
    if pieces:
        loads = _along(store, vector, across)
    count = 2 if _are_paired(store, loads, across, lanes) else 1
    width = lanes * count
    tiles = Variable("c", TILES // count if is_large else 1)
    block = Variable("b", ceildiv(across.extent, width * tiles.extent))
    first = (block.dim * tiles.extent + tiles.dim if is_large else block.dim) * width
    put = Put(store.buffer, store.address, store.value)
    begin = minimum(first, across.extent - width) if count > 1 else first
    body: Block = (Turn(vector, across, begin, tuple(loads), put, count),)
    if is_large:
        is_whole = isinstance(across.extent, int) and across.extent % (width * tiles.extent) == 0
        exists = index(first) < index(across.extent)
        body = (Loop(tiles, body if is_whole else (When(exists, body),)),)
    others = tuple(a for a in store.axes if a is not vector and a is not across)
    chunks = Chunks((*others, block), (Lanes(vector, 1, body),))
    parallel = combined(chunks.axes)[0]
    if count == 1 or isinstance(across.extent, int):
        return Nest("turned", (chunks,), lanes, parallel)
    fits = index(width - 1) < index(across.extent)
    single = Variable("b", ceildiv(across.extent, lanes))
    narrow = Turn(vector, across, single.dim * lanes, tuple(loads), put)
    rest = Chunks((*others, single), (Lanes(vector, 1, (narrow,)),))
    return Nest("turned", (When(fits, (chunks,)), When(~fits, (rest,))), lanes, parallel)


def _are_paired(store: Store, loads: Sequence[Load], across: Variable, lanes: int) -> bool:
    """Whether two tiles of what is only moved are turned at once, by instructions twice as long.

    Where they do not fill their axis the last pair overlaps that before it.
    """
    is_moved = isinstance(store.value, Load) and not _is_stored(store)
    fill = all(e.dtype.numpy.itemsize * lanes == SHORT_VECTOR for e in loads)
    return is_moved and fill and less(across.extent, 2 * lanes) is not True
