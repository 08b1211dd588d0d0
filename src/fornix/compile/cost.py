"""What accesses cost along an axis: the numbers that schedules choose by.

Costs are per element and relative to a contiguous load, measured on Zen 4 with 16 lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import coefficient, variables
from fornix.ir.loops import Apply, Load, Reduce, Scalar, Variable, walk

LOAD_COST = {0: 0.5, 1: 1.0, 2: 3.0, 3: 4.0, 4: 5.0}
GATHER_COST = 16.0
STORE_COST = {1: 2.0}
SCATTER_COST = 32.0
LIKELY_EXTENT = 1024
"""What is assumed of an extent that is not known."""


def stride_of(d: DimLike, axis: Variable) -> int | None:
    """How far ``d`` moves along ``axis``; None if that is not a constant."""
    if isinstance(d, int) or axis not in d.variables:
        return 0
    split = coefficient(d, axis)
    if split is None or not isinstance(split[0], int) or axis in variables(split[1]):
        return None
    return split[0]


def accesses(values: Iterable[Scalar]) -> list[Load]:
    """Every load in ``values`` once, those inside indices included."""
    found = {e: None for value in values for e in walk(value) if isinstance(e, Load)}
    return list(found)


def likely(extent: DimLike) -> int:
    """The extent, or a guess."""
    return extent if isinstance(extent, int) else LIKELY_EXTENT


def useful_lanes(extent: DimLike, lanes: int) -> float:
    """Lanes of an average vector along ``extent`` that do work."""
    n = max(likely(extent), 1)
    return n / -(-n // lanes)


def load_cost(e: Load, axis: Variable) -> float:
    """The cost of loading a vector of ``e`` along ``axis``."""
    step = stride_of(e.address, axis)
    cost = GATHER_COST if step is None else LOAD_COST.get(step, GATHER_COST)
    if cost < GATHER_COST and e.guard is not None and axis in e.guard.variables and step == 0:
        return GATHER_COST
    return cost


@functools.lru_cache(maxsize=4096)
def fold_axis(e: Reduce, lanes: int) -> Variable | None:
    """The axis of a reduction along which vectors pay; None if none does."""
    loads = accesses([e.body])
    scalar = float(lanes) * max(len(loads), 1)
    best: tuple[float, int] | None = None
    for k, axis in enumerate(e.axes):
        cost = sum(load_cost(x, axis) for x in loads) + 1
        cost *= lanes / useful_lanes(axis.extent, lanes)
        if cost < scalar and (best is None or cost < best[0]):
            best = cost, k
    return None if best is None else e.axes[best[1]]


def lanes_for(values: Iterable[Scalar], dtypes: Iterable[DType], vector_bytes: int) -> int:
    """Lanes of a vector: as many elements of the widest dtype as a register holds.

    Integers that only serve as indices do not count: they are wider than all else.
    """
    widths = [d.bits for d in dtypes]
    waiting, seen = list(values), set[Scalar]()
    while waiting:
        e = waiting.pop()
        if e in seen:
            continue
        seen.add(e)
        if isinstance(e, Load) or (isinstance(e, Apply) and e.op == "cast"):
            widths.append(e.dtype.bits)
        waiting += e.args
    return vector_bytes * 8 // max(8, *widths, MIN_WIDTH)


MIN_WIDTH = 8


__all__ = [
    "GATHER_COST",
    "LIKELY_EXTENT",
    "accesses",
    "fold_axis",
    "lanes_for",
    "likely",
    "load_cost",
    "stride_of",
    "useful_lanes",
]
