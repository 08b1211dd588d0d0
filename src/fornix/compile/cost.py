"""What accesses cost along an axis: the numbers that schedules choose by.

Costs are per element and relative to a contiguous load, measured on Zen 4 with 16 lanes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from fornix.compile.axes import TYPICAL_LANES, groups_of, near_offsets
from fornix.compile.words import pair_of, word_of
from fornix.dtype import INT64, DType
from fornix.ir.dim import DimLike, known, less
from fornix.ir.dim.expression import Atom, Symbol, atoms, coefficient, substitute, variables
from fornix.ir.loops import (
    Apply,
    Const,
    Load,
    Loaded,
    Reduce,
    Scalar,
    Store,
    Variable,
    loaded,
    walk,
)

LOAD_COST = {-1: 2.0, 0: 0.5, 1: 1.0, 2: 3.0, 3: 4.0, 4: 5.0}
NEAR_COST = 2.0
"""Of neighbours of which some are repeated; so often as there are groups of such."""
GATHER_COST = 16.0
STORE_COST = {1: 2.0}
SCATTER_COST = 40.0
"""A vector that is stored lane by lane, as 16 stores and more."""
OPERATION_COST = 0.5
DIVISION_COST = 8.0
"""Of dividing integers of 64 bits, in each lane, also where that has no element."""
MASKED = 1.3
"""What the masked end of a short axis costs, as a factor."""
SHORT_VECTORS = 8
"""Of a longer axis one vector of many is masked."""
LIKELY_EXTENT = 1024
"""What is assumed of an extent that is not known."""
LIKELY_IMAGE = 256
"""Rows and columns assumed of an image that a model is given."""
LIKELY_BATCH = 4
"""What is assumed of one that a `LONG_ROW` follows."""
LONG_ROW = 256
"""Elements that follow from which on an extent that is not known counts images, not rows."""


def stride_of(d: DimLike, axis: Variable) -> int | None:
    """How far ``d`` moves along ``axis``; None if that is not a constant."""
    if isinstance(d, int) or axis not in d.variables:
        return 0
    split = coefficient(d, axis)
    if split is None or not isinstance(split[0], int) or axis in variables(split[1]):
        return None
    return split[0]


def goes_past(address: DimLike, axis: Variable, pitch: DimLike) -> bool:
    """Whether ``address`` surely moves along ``axis`` by ``pitch`` or more, from 1 to 1."""
    return stride_of(address, axis) == 1 and less(axis.extent, pitch + 1) is False


def accesses(values: Iterable[Scalar]) -> list[Load]:
    """Every load in ``values`` once, those inside indices included."""
    return [e for e in walk(*values) if isinstance(e, Load)]


def choices(e: Scalar) -> set[Loaded]:
    """The integers from memory by which ``e`` is chosen; not those that only choose them."""
    found = {i for x in accesses([e]) for i in loaded(*x.dims)}
    return found - {i for n in found for x in accesses([n.expr]) for i in loaded(*x.dims)}


def likely(extent: DimLike) -> int:
    """The extent, or a guess."""
    return extent if isinstance(extent, int) else LIKELY_EXTENT


def likely_of_image(extent: DimLike, size: int = LIKELY_IMAGE) -> int:
    """``extent``, in numbers: a sixteenth of the model's image, say, is one of ``size``."""
    values: dict[Atom, DimLike] = {a: size for a in atoms(extent) if isinstance(a, Symbol)}
    found = known(substitute(extent, values, {}))
    return size if found is None else found


def useful_lanes(extent: DimLike, lanes: int) -> float:
    """Lanes of an average vector along ``extent`` that do work."""
    n = max(likely(extent), 1)
    return n / -(-n // lanes)


def load_cost(e: Load, axis: Variable) -> float:
    """The cost of loading a vector of ``e`` along ``axis``."""
    return _cost_at(e.address, e.guard, axis)


def _cost_at(address: DimLike, guard: Scalar | None, axis: Variable) -> float:
    step = stride_of(address, axis)
    cost = GATHER_COST if step is None else LOAD_COST.get(step, GATHER_COST)
    near = near_offsets(address, axis, TYPICAL_LANES) if step is None and guard is None else None
    if near is not None:
        return NEAR_COST * len(groups_of(near))
    if cost < GATHER_COST and guard is not None and axis in guard.variables and step == 0:
        return GATHER_COST
    return cost


@functools.lru_cache(maxsize=4096)
def fold_axis(e: Reduce, lanes: int) -> Variable | None:
    """The axis of a reduction along which vectors pay; None if none does."""
    best = min(e.axes, key=lambda axis: _fold_cost(e, axis, lanes))
    return best if _fold_cost(e, best, lanes) < _fold_cost(e, None, lanes) else None


def _fold_cost(e: Reduce, axis: Variable | None, lanes: int) -> float:
    """What ``lanes`` elements of a reduction cost, in vectors along ``axis``."""
    loads = accesses([e.body])
    if axis is None:
        return lanes * (len(loads) + 1.0)
    cost = sum(load_cost(x, axis) for x in loads) + 1
    return cost * lanes / useful_lanes(axis.extent, lanes)


def map_cost(store: Store, axis: Variable | None, lanes: int) -> float:
    """What an element of ``store`` costs, in vectors along ``axis``, or one at a time.

    Reductions that do not depend on the axis run in vectors of their own, once for all of it.
    """
    folds = outer_reductions(store.value)
    words = {e: word for e in walk(store.value) if (word := word_of(e) or pair_of(e))}
    inside = {x for e in folds for x in accesses([e.body])}.union(accesses(words))
    loads = [x for x in accesses([store.value]) if x not in inside]
    counted = store.value.size - sum(e.size for e in (*folds, *words)) - _border(store.value)
    work = OPERATION_COST * min(counted, 1000)
    work += DIVISION_COST * sum(map(_is_wide_division, walk(store.value))) * (lanes if axis else 1)
    total = work + sum(1.0 if axis is None else load_cost(x, axis) for x in loads)
    for x in words.values():
        total += 1.0 if axis is None else _cost_at(x.place, x.guard, axis)
    if axis is None:
        total += 1.0
    else:
        step = stride_of(store.address, axis)
        total += SCATTER_COST if step is None else STORE_COST.get(step, SCATTER_COST)
    useful = 1.0 if axis is None else useful_lanes(_likely_along(store, axis), lanes)
    total /= useful
    for e in folds:
        total += _reduction_cost(e, axis, lanes, useful) / _shared(store, e, axis)
    is_short = axis is not None and likely(axis.extent) <= SHORT_VECTORS * lanes
    return total * MASKED if is_short and useful not in {1.0, lanes} else total


def _is_wide_division(e: Scalar) -> bool:
    """Whether processors divide so one by one, by what is no constant."""
    is_integer = isinstance(e, Apply) and e.op in _DIVISIONS and e.dtype.is_integer
    return is_integer and e.dtype.bits == INT64.bits and not isinstance(e.args[1], Const)


_DIVISIONS = frozenset({"div", "mod", "fmod"})


def _likely_along(store: Store, axis: Variable) -> int:
    """The extent of ``axis``, or a guess: a batch is small where rows may be long."""
    first, *others = store.axes
    if axis is not first or isinstance(first.extent, int):
        return likely(axis.extent)
    is_long = math.prod(likely(a.extent) for a in others) >= LONG_ROW
    return LIKELY_BATCH if is_long else LIKELY_EXTENT


def _shared(store: Store, e: Reduce, axis: Variable | None) -> int:
    """Elements for which `map_nest` computes reduction ``e`` once, if it depends on ``axis``.

    Where these are not written side by side, what is saved goes into moving them.
    """
    if axis is None or axis not in e.variables or stride_of(store.address, axis) != 1:
        return 1
    others = (a for a in store.axes if a is not axis and a not in e.variables)
    return math.prod(likely(a.extent) for a in others)


def _border(e: Scalar) -> int:
    """Nodes that ask whether a place is inside: they go, for what is outside is done apart."""
    if not isinstance(e, Apply) or e.op != "select" or accesses([e.args[0]]):
        return 0
    return e.args[0].size


def _reduction_cost(e: Reduce, axis: Variable | None, lanes: int, useful: float) -> float:
    """What reduction ``e`` costs for one element."""
    count = 1
    for a in e.axes:
        count *= likely(a.extent)
    if axis is not None and axis in e.variables:
        return count * (sum(load_cost(x, axis) for x in accesses([e.body])) + 1) / useful
    own = min(_fold_cost(e, a, lanes) for a in (None, *e.axes)) / lanes
    return count * own / (1 if axis is None else likely(axis.extent))


def outer_reductions(value: Scalar) -> list[Reduce]:
    """The reductions in ``value`` that are not inside another one."""
    found: dict[Reduce, None] = {}
    waiting, seen = [value], set[Scalar]()
    while waiting:
        e = waiting.pop()
        if e in seen:
            continue
        seen.add(e)
        if isinstance(e, Reduce):
            found[e] = None
        else:
            waiting += e.args
    return list(found)


def lanes_for(values: Iterable[Scalar], dtypes: Iterable[DType], vector_bytes: int) -> int:
    """Lanes of a vector: as many elements of the widest dtype as a register holds.

    Integers that only serve as indices do not count: they are wider than all else. Nor does what is
    loaded once for all elements: what is computed with it in vectors is cast, or compared with one.
    """
    widths = [d.bits for d in dtypes]
    waiting, seen = list(values), set[Scalar]()
    while waiting:
        e = waiting.pop()
        if e in seen:
            continue
        seen.add(e)
        is_own = isinstance(e, Load) and bool(e.variables)
        if is_own or (isinstance(e, Apply) and e.op == "cast"):
            widths.append(e.dtype.bits)
        waiting += e.args
    return vector_bytes * 8 // max(8, *widths, MIN_WIDTH)


MIN_WIDTH = 8


__all__ = [
    "GATHER_COST",
    "LIKELY_EXTENT",
    "LIKELY_IMAGE",
    "accesses",
    "choices",
    "fold_axis",
    "goes_past",
    "lanes_for",
    "likely",
    "likely_of_image",
    "load_cost",
    "map_cost",
    "outer_reductions",
    "stride_of",
    "useful_lanes",
]
