"""Transposed convolutions taken apart: one convolution for each phase of their strides.

With stride 2, an even place of the result meets the even taps, an odd one the odd taps; the sum
over all taps is one over zeros for the most part. So places are split, ``o = stride·p + phase``,
and taps, ``k = stride·q + r``. Of the remainders one is left: whatever the others select is 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from fornix.compile.axes import rewritten
from fornix.compile.cost import outer_reductions, stride_of
from fornix.ir.dim import DimLike, exact_quotient
from fornix.ir.dim.expression import Atom, Floor, atoms
from fornix.ir.loops import Const, Reduce, Scalar, Store, Variable, replace, substitute_scalar, walk
from fornix.ir.loops.scalar import reduction

MAX_PHASES = 16
"""Convolutions that one is taken apart into, at most."""


def phases(store: Store) -> list[Store]:
    """Stores that together do what ``store`` does; itself alone if it has one phase."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return [store]
    strides = dict(_strides(store, folds[0]))
    if not 1 < math.prod(strides.values()) <= MAX_PHASES:
        return [store]
    open_ = [a for a in strides if not isinstance(a.extent, int)]
    if any(exact_quotient(a.extent, strides[a]) is None for a in open_):
        return [store]
    found: list[Store] = []
    for chosen in itertools.product(*(range(stride) for stride in strides.values())):
        fresh: dict[Variable, Variable] = {}
        values: dict[Atom, DimLike] = {}
        for (axis, stride), phase in zip(strides.items(), chosen, strict=True):
            fresh[axis] = Variable(axis.name, (axis.extent + (stride - 1 - phase)) // stride)
            values[axis] = fresh[axis].dim * stride + phase
        part = rewritten(store, [fresh.get(a, a) for a in store.axes], values)
        if 0 not in [a.extent for a in part.axes]:
            found.append(_thinned(part, set(strides.values())))
    return found


def _strides(store: Store, e: Reduce) -> Iterator[tuple[Variable, int]]:
    """Axes that are divided together with a tap, and by what."""
    divisions = {a for node in walk(e.body) for d in node.dims for a in atoms(d)}
    for axis in store.axes:
        found = {
            a.den
            for a in divisions
            if isinstance(a, Floor) and a.variables & set(e.axes) and stride_of(a.num, axis)
        }
        if len(found) == 1:
            (stride,) = found
            if isinstance(stride, int):
                yield axis, stride


def _thinned(store: Store, strides: set[int]) -> Store:
    """``store`` with the taps left out of its sum that only meet zeros."""
    folds = outer_reductions(store.value)
    if len(folds) != 1:
        return store
    (e,) = folds
    body, axes = e.body, []
    for tap in e.axes:
        left = _remainder(body, tap, strides)
        if left is None:
            axes.append(tap)
        else:
            body, found = left
            axes += found
    return Store(
        store.buffer,
        store.axes,
        store.address,
        replace(store.value, {e: reduction("sum", tuple(axes), body)}),
    )


def _remainder(
    body: Scalar, tap: Variable, strides: set[int]
) -> tuple[Scalar, list[Variable]] | None:
    """``body`` with ``tap`` at the only remainder that counts, and the axis that is left of it."""
    for stride in strides:
        if not isinstance(tap.extent, int) or tap not in body.variables:
            return None
        found: list[tuple[Scalar, list[Variable]]] = []
        for r in range(min(stride, tap.extent)):
            count = -(-(tap.extent - r) // stride)
            axis = Variable(tap.name, count)
            place = r if count == 1 else axis.dim * stride + r
            part = substitute_scalar(body, {tap: place})
            if not _is_zero(part):
                found.append((part, [] if count == 1 else [axis]))
        if len(found) == 1 and stride > 1:
            return found[0]
    return None


def _is_zero(e: Scalar) -> bool:
    """Whether ``e`` is a product with the number 0: what padding and gaps hold."""
    return any(isinstance(x, Const) and x.value == 0 for x in (e, *e.args))


__all__ = ["phases"]
