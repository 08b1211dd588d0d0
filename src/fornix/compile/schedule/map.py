"""Maps: every element on its own. Decides the vector axis, pieces, the order and the chunks.

Reductions inside are left to `emit.folds`, which computes each at the outermost loop that it
depends on; so this schedule serves every `Store`, though not always at the best speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from fornix.compile import axes as change
from fornix.compile.cost import (
    LOAD_COST,
    accesses,
    lanes_for,
    likely,
    map_cost,
    outer_reductions,
    stride_of,
)
from fornix.compile.nest import Block, ChunkedLanes, Chunks, Lanes, Loop, Nest, Put
from fornix.compile.reductions import merged
from fornix.compile.schedule.chunks import chunked, looped
from fornix.compile.target import Target
from fornix.compile.work import OPERATIONS_OF
from fornix.dtype import UINT8
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import variables
from fornix.ir.loops import Apply, Constant, Load, Reduce, Scalar, Store, Variable, loaded, walk

HEAVY = 60
"""Nodes from which on two vectors at a time fill the registers; lighter bodies take four."""
HEAVY_UNITS, LIGHT_UNITS = 2, 4
MANY_ALIKE = 12
"""Operations alike for all of an axis, from which on they are done once for all of it."""
LEAST = 4
"""Lanes of a vector: with fewer, elements one by one are as fast."""
MANY_PARTS, MAX_PARTS = 8, 64
"""Parts of a row from which on each is computed on its own, and beyond which no more are."""
FEW_FAR = 32
"""Values of an axis along which stored data lie far apart that are taken together at most."""
MOST_VECTORS = 2
"""How many times the vectors of a row its parts may take that are computed one after the other."""
BEGINNING, CHOICE = 4, 3
"""Operations that take as long as a vector of one part, and as asking in a vector for one of many:
60 parts of 8 elements take 60 µs so for 1,010 by choosing."""
MOST_GATHERED = 32
"""Lanes of a vector at most that is gathered: a million bytes of three take 1.1 ms so for 1.4 to 3,
and those of rows in the nearest cache 0.41 for 0.50."""
MOST_PLACES = 8
"""Elements of a row that are taken at once."""
GRAIN, LEAST_GRAIN = 1024, 64
"""Elements; a chunk of one long axis begins at a multiple of it, of fewer where each has more
along axes inside."""
TABLE = 1 << 14
"""Bytes beyond which what every row is reduced with does not stay in the nearest cache."""


def normal(store: Store) -> Store:
    """``store`` with as few axes as its indices allow."""
    store = change.contiguous_last(change.split(change.without_units(store)))
    store = change.settled(change.merge(store))
    return Store(store.buffer, store.axes, store.address, merged(store.value))


def map_nest(store: Store, lanes: int) -> Nest:
    """Loops over the elements of a normal ``store``, in vectors where those are cheapest."""
    pieces = _pieces(store, vector_axis(store, lanes), lanes)
    lanes = max(_fitting(axis, lanes) for _, axis in pieces)
    body: list[Chunks | ChunkedLanes] = []
    parallel: DimLike = 1
    for piece, axis in pieces:
        statements, chunks = _piece(_as_stored(piece, axis), axis, lanes)
        body += statements
        parallel = chunks if parallel == 1 else parallel
    return Nest("map", tuple(body), lanes, parallel)


def _as_stored(store: Store, vector: Variable | None) -> Store:
    """``store`` in the order in which the stored data lie that it is made of alone, if it is.

    Pages of a mapped file are wanted once then, and can leave memory. A few values of the axis
    along which the data lie farthest apart are taken together, so that writes are no shorter.
    """
    loads = accesses([store.value])
    outer = [a for a in store.axes if a is not vector]
    if not loads or not outer or not all(isinstance(e.buffer.source, Constant) for e in loads):
        return store
    if not any(e.variables.issuperset(outer) for e in loads):  # read again and again
        return store
    far = max(outer, key=lambda axis: max(stride_of(e.address, axis) or 0 for e in loads))
    if far is outer[0] or not isinstance(far.extent, int):
        return store
    few = next(n for n in range(min(FEW_FAR, far.extent), 0, -1) if far.extent % n == 0)
    block, one = Variable("b", far.extent // few), Variable(far.name, few)
    axes = [block, *(one if axis is far else axis for axis in store.axes)]
    return change.rewritten(store, axes, {far: block.dim * few + one.dim})


def _fitting(axis: Variable | None, lanes: int) -> int:
    """As many lanes as a short ``axis`` fills exactly, if it does, so that none are masked."""
    extent = lanes if axis is None else axis.extent
    is_power = isinstance(extent, int) and extent & (extent - 1) == 0
    return extent if isinstance(extent, int) and is_power and LEAST <= extent < lanes else lanes


def _pieces(
    store: Store, vector: Variable | None, lanes: int
) -> list[tuple[Store, Variable | None]]:
    """``store`` cut where guards flip, each piece with its vector axis.

    Rows that are joined of a few others are computed by choosing; of many, each on its own.
    """
    if vector is None:
        return [(piece, None) for piece in change.cut(store, _open(store))]
    ends = [0, *change.flips(store.value, vector), vector.extent]
    steps = [b - a for a, b in pairwise(ends) if isinstance(a, int) and isinstance(b, int)]
    if len(steps) >= MANY_PARTS and all(step >= lanes for step in steps):
        parts = change.cut(store, [a for a in store.axes if a is not vector], MAX_PARTS)
        return [(part, vector_axis(part, lanes)) for part in parts]
    parts = change.cut(store, [vector, *_open(store)])
    return [_lengthened(part, vector, lanes) for part in parts]


def _lengthened(part: Store, vector: Variable, lanes: int) -> tuple[Store, Variable | None]:
    """``part`` with a longer axis than ``vector``, if it only moves what lies side by side.

    Pixels of three channels are one row, but for those that are mirrored.
    """
    merged = change.merge(part)
    if vector in merged.axes or not isinstance(part.value, Load):
        return part, vector
    return merged, vector_axis(merged, lanes)


def _open(store: Store) -> list[Variable]:
    """Axes of which only a run tells how long they are: parts of them may be few or none."""
    return [a for a in store.axes if not isinstance(a.extent, int)]


def vector_axis(store: Store, lanes: int) -> Variable | None:
    """The axis with the least cost; None if one element at a time is cheaper.

    Of equals it is the last: its elements lie nearest to each other.
    """
    written = variables(store.address)
    places = [n for n, axis in enumerate(store.axes) if axis in written]
    parts = change.cut(store, _open(store))
    costs = {n: _cost_along(store, parts, n, lanes) for n in reversed(places)}
    best = min(costs, key=lambda n: costs[n], default=None)
    single = map_cost(store, None, lanes) * _elements(store)
    return None if best is None or costs[best] >= single else store.axes[best]


def _cost_along(store: Store, parts: Sequence[Store], place: int, lanes: int) -> float:
    """Of all elements, chosen in vectors or part by part; few of a border go one by one."""
    chosen = map_cost(store, store.axes[place], lanes) * _elements(store)
    if len(parts) == 1:
        return chosen
    few = min(likely(store.axes[place].extent), LEAST)
    total = 0.0
    for part in parts:
        axis = part.axes[place] if likely(part.axes[place].extent) >= few else None
        total += map_cost(part, axis, lanes) * _elements(part)
    return min(chosen, total)


def _elements(store: Store) -> int:
    return math.prod(likely(a.extent) for a in store.axes)


def _piece(
    store: Store, vector: Variable | None, lanes: int
) -> tuple[Sequence[Chunks | ChunkedLanes], DimLike]:
    """The loops of one piece, and how many chunks they make."""
    outer, body = _around(store, vector)
    if vector is None:
        statement, chunks = chunked(outer, body)
        return [statement], chunks
    parts = [(vector, body)]
    if not outer_reductions(store.value):
        inner = [a for a in store.axes if a not in outer and a is not vector]
        parts = _parts(store, vector, inner, lanes) or parts
    units = _units(store)
    if not outer:
        extent = max((axis.extent for axis, _ in parts), key=likely)
        grain = _grain(store, vector)
        statements = [ChunkedLanes(axis, units, grain, put) for axis, put in parts]
        return statements, (extent + grain - 1) // grain
    grain = units * lanes
    if likely(vector.extent) > LEAST * grain and _is_compared(store, vector, outer):
        tiles = ChunkedLanes(vector, units, grain, looped(outer, body))
        return [tiles], (vector.extent + grain - 1) // grain
    row = (
        Lanes(axis, units, put)
        if axis is vector or likely(axis.extent) >= LEAST
        else Loop(axis, put)
        for axis, put in parts
    )
    statement, chunks = chunked(outer, tuple(row))
    return [statement], chunks


def _is_compared(store: Store, vector: Variable, outer: Sequence[Variable]) -> bool:
    """Whether every row is reduced with one table that is too large to stay in cache meanwhile.

    Then all rows meet a few columns of it before they go on to the next ones.
    """
    reductions = [e for e in walk(store.value) if isinstance(e, Reduce)]
    if len(reductions) != 1 or not {vector, *outer} <= reductions[0].variables:
        return False
    extents = [vector.extent, *(axis.extent for axis in reductions[0].axes)]
    if not all(isinstance(extent, int) for extent in extents):
        return False
    loads = [e for e in walk(reductions[0].body) if isinstance(e, Load)]
    tables = [e for e in loads if vector in e.variables]
    if not tables or not all(e.variables.isdisjoint(outer) for e in tables):
        return False
    return math.prod(map(likely, extents)) * max(e.dtype.bits for e in tables) // 8 > TABLE


def _grain(store: Store, vector: Variable) -> int:
    """Values of ``vector`` from one place to the next where a chunk may begin."""
    each = math.prod(likely(a.extent) for a in store.axes if a is not vector)
    return max(GRAIN // max(each, 1) // LEAST_GRAIN, 1) * LEAST_GRAIN


def _parts(
    store: Store, vector: Variable, inner: Sequence[Variable], lanes: int
) -> list[tuple[Variable, Block]]:
    """The parts of a row within which guards are decided, if they are long enough to pay.

    Each with the ``inner`` axes inside. To choose between them in each vector takes twice as long,
    and much longer where a vector that is not read would lie outside of the process's memory.
    """
    parts = change.cut(store, [a for a in store.axes if a is not vector], MAX_PARTS)
    found: list[tuple[Variable, Block]] = []
    vectors = singles = 0
    for part in parts:
        (axis,) = (a for a in part.axes if a not in store.axes or a is vector)
        n = axis.extent if isinstance(axis.extent, int) else 0
        singles += n if n < LEAST else 0
        vectors += n if n < LEAST else -(-n // lanes)
        found.append((axis, looped(inner, (Put(part.buffer, part.address, part.value),))))
    whole = -(-likely(vector.extent) // lanes)
    vectors += 0 if isinstance(vector.extent, int) else whole  # of those parts that a run tells
    work = sum(OPERATIONS_OF.get(e.op, 0) for e in walk(parts[0].value) if isinstance(e, Apply))
    apart = (vectors - singles // 2) * (BEGINNING + work)
    is_dear = apart > whole * (CHOICE * len(parts) + work)
    is_short = vectors > MOST_VECTORS * whole and is_dear
    return [] if len(parts) == 1 or is_short else found


def _around(store: Store, vector: Variable | None) -> tuple[Sequence[Variable], Block]:
    """The axes that go outside the vectors, and what goes inside.

    A reduction along the vector axis is the same for all values of an axis that it does not depend
    on: that axis goes inside, so that the reduction is computed once. So it is with most of what
    is computed, such as the places between which pictures are read, the same in all channels. An
    axis whose values lie side by side in what is read goes inside, too.
    """
    put: Block = (Put(store.buffer, store.address, store.value),)
    outer = [a for a in store.axes if a is not vector]
    if vector is None:
        return _with_places(store)
    shared = [e for e in outer_reductions(store.value) if vector in e.variables]
    inner = [
        a
        for a in outer
        if any(a not in e.variables for e in shared)
        or _is_alike(store.value, a, vector)
        or _is_between(store.value, a, vector)
    ]
    return [a for a in outer if a not in inner], looped(inner, put)


def _with_places(store: Store) -> tuple[Sequence[Variable], Block]:
    """All axes, with what is stored for each place of them; for several at once, if they are few.

    Of a few elements of each row, whose places in it are read from memory, these are read once.
    """
    asked = {i for e in accesses([store.value]) for i in loaded(e.address)}
    for last in store.axes[-1:] if store.value.size <= HEAVY else ():
        is_read = any(i.variables == {last} for i in asked)
        if is_read and isinstance(last.extent, int) and last.extent <= MOST_PLACES:
            outer = store.axes[:-1]
            at = [change.rewritten(store, outer, {last: k}) for k in range(last.extent)]
            return outer, tuple(Put(one.buffer, one.address, one.value) for one in at)
    return store.axes, (Put(store.buffer, store.address, store.value),)


def _is_alike(value: Scalar, axis: Variable, vector: Variable) -> bool:
    """Whether most of what is computed along ``vector`` is the same for all of ``axis``, and dear.

    Guards do not count, they may be decided for parts of a row.
    """
    wide = [e for e in walk(value) if isinstance(e, Apply) and vector in e.variables]
    alike = sum(OPERATIONS_OF.get(e.op, 0) for e in wide if axis not in e.variables)
    whole = sum(OPERATIONS_OF.get(e.op, 0) for e in wide)
    return alike >= MANY_ALIKE and 2 * alike > whole


def _is_between(value: Scalar, axis: Variable, vector: Variable) -> bool:
    """Whether vectors read what lies between, for other values of ``axis``: lines come once, then.

    So it is with the channels of pictures that are laid apart.
    """
    count = axis.extent
    loads = accesses([value]) if isinstance(count, int) and count in LOAD_COST else []
    return any(
        stride_of(e.address, axis) == 1 and stride_of(e.address, vector) == count for e in loads
    )


def _units(store: Store) -> int:
    return HEAVY_UNITS if store.value.size > HEAVY else LIGHT_UNITS


def alone(store: Store, lanes: int) -> Block:
    """The loops of ``store`` when one thread does all of it."""
    if 0 in [a.extent for a in store.axes]:
        return ()
    store = normal(store)
    vector = vector_axis(store, lanes)
    outer, body = _around(store, vector)
    if vector is not None:
        body = (Lanes(vector, _units(store), body),)
    return looped(outer, body)


def lanes_along(store: Store, vector: Variable | None, lanes: int) -> int:
    """``lanes`` of vectors along ``vector``, or fewer where they gather by places in memory.

    Places are wider than bytes: those of 64 would not fit the registers, nor be under way at once.
    """
    places = (i.expr for e in accesses([store.value]) for i in loaded(e.address))
    is_far = any(vector in i.variables and _is_wide(i) for i in places)
    return min(lanes, MOST_GATHERED) if is_far else lanes


def _is_wide(place: Scalar) -> bool:
    """Whether ``place`` is more than a byte, by which vectors are looked up in registers."""
    return any(e.dtype.bits > UINT8.bits for e in accesses([place]))


def lanes_of(store: Store, target: Target) -> int:
    """Lanes of the vectors in which ``store`` is computed."""
    return lanes_for([store.value], [store.buffer.dtype], target.vector_bytes)
