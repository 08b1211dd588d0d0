"""Transposed convolutions without their zeros: by the phases of their strides, apart or joined.

With stride 2, an even place of the result meets the even taps, an odd one the odd taps; the sum
over all taps is one over zeros for the most part. So places are split, ``o = stride·p + phase``,
and taps, ``k = stride·q + r``. Of the remainders one is left: whatever the others select is 0.

Taken apart, each phase is a convolution of its own. Joined, they are filters of a single one: all
of them read the same places, of each filter one for each phase, and its results are put between
each other afterwards. Then few filters are enough to fill registers, and many phases are no more
code than few; but where taps do not come out even, some are 0 that were not there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from fornix.compile.axes import rewritten
from fornix.compile.blocked import LEAST_LANES
from fornix.compile.convolution import Convolution, groups
from fornix.compile.cost import outer_reductions, stride_of
from fornix.ir.dim import DimLike, ceildiv, exact_quotient
from fornix.ir.dim.expression import Atom, Floor, atoms, coefficient
from fornix.ir.loops import (
    Apply,
    Buffer,
    Const,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    const,
    index,
    load,
    replace,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

MAX_PHASES = 16
"""Convolutions that one is taken apart into, at most."""
FEW_FILTERS = 8
"""Filters up to which phases are joined though that makes more taps."""
MORE_TAPS = 1.3
"""How many more taps are taken, as a factor, for filters that do not fill blocks."""

_SERIAL = itertools.count()


def phases(store: Store) -> list[Store]:
    """Stores that together do what ``store`` does; itself alone if it has one phase."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return [store]
    strides = dict(_strides(store, folds[0]))
    if not 1 < math.prod(strides.values()) <= MAX_PHASES:
        return [store]
    open_ = [a for a in strides if not isinstance(a.extent, int)]
    if not all(_is_cut(a.extent, strides[a]) for a in open_):
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


# ── joined ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Phased:
    """An axis of the result: ``out = stride·p + phase + first``, with ``stride·q + r`` for a tap.

    Then all phases read the place ``p + q + ahead``.
    """

    out: Variable
    tap: Variable
    stride: int
    first: int
    ahead: int
    last: DimLike
    """The greatest place that is read; beyond it nothing is."""

    @property
    def taps(self) -> int:
        """Taps of each phase."""
        return -(-_count(self.tap) // self.stride)

    @property
    def waste(self) -> float:
        """How many more taps there are for it, as a factor."""
        return self.taps * self.stride / _count(self.tap)


def joined(c: Convolution, *, is_strict: bool) -> tuple[Store, Store] | None:
    """The sums of all phases of ``c``, and what makes its result of them; None if that is worse.

    Unless it ``is_strict``, taps may be added that are 0: of an infinity they make a NaN.
    """
    found = [_phased(c, a, stride) for a, stride in _strides(c.store, c.sum)]
    given = groups(c)
    if not found or not (given or c.is_depthwise) or not c.sum.dtype.is_float:
        return None
    axes = [x for x in found if x is not None]
    waste = math.prod(x.waste for x in axes)
    if len(axes) < len(found) or (is_strict and waste > 1):
        return None
    is_much = math.prod(x.stride for x in axes) > MAX_PHASES
    filters = given.filters if given else 1
    is_few = filters <= FEW_FILTERS
    is_odd = filters % LEAST_LANES != 0 and waste < MORE_TAPS
    if is_much or (not c.is_depthwise and (is_few or is_odd)):
        return _joined(c, axes)
    return None


def _count(axis: Variable) -> int:
    return axis.extent if isinstance(axis.extent, int) else 1


def _phased(c: Convolution, out: Variable, stride: int) -> _Phased | None:
    """How ``out`` and the tap beside it choose a place; None unless by one division."""
    divided = {
        a
        for node in walk(c.product.left)
        for d in node.dims
        for a in atoms(d)
        if isinstance(a, Floor) and out in a.variables
    }
    taps = [a for a in c.sum.axes if any(a in x.variables for x in divided)]
    if len(divided) != 1 or len(taps) != 1 or not isinstance(taps[0].extent, int):
        return None
    (atom,), (tap,) = divided, taps
    of_out = coefficient(atom.num, out)
    of_tap = None if of_out is None else coefficient(of_out[1], tap)
    if of_out is None or of_tap is None or (of_out[0], of_tap[0]) != (1, 1):
        return None
    before = of_tap[1]
    if not isinstance(before, int) or atom.den != stride:
        return None
    first = -((before - 1) % stride)
    last = (out.extent + tap.extent - 2 + before) // stride
    return _Phased(out, tap, stride, first, (stride - 1 + first + before) // stride, last)


def _joined(c: Convolution, phased: list[_Phased]) -> tuple[Store, Store] | None:
    strides = math.prod(x.stride for x in phased)
    which = Variable(c.filter.name, c.filter.extent * strides)
    values: dict[Atom, DimLike] = {c.filter: which.dim // strides}
    places = {
        x.out: Variable(x.out.name, ceildiv(x.out.extent - x.first, x.stride)) for x in phased
    }
    taps: dict[Variable, Variable] = {}
    in_image = in_weights = apply("le", index(0), index(0))
    phase: DimLike = which.dim
    number: DimLike = c.filter.dim
    moved: dict[Variable, DimLike] = {}
    left = strides
    for x in phased:
        phase, left = phase - left * (phase // left), left // x.stride
        own, p, q = phase // left, places[x.out], Variable(x.tap.name, x.taps)
        tap = (q.dim if x.taps > 1 else 0) * x.stride + (x.stride - 1) - own
        values |= {x.out: p.dim * x.stride + own + x.first, x.tap: tap}
        taps[x.tap] = q
        place = p.dim + (q.dim if x.taps > 1 else 0) + x.ahead
        in_image = apply("and", in_image, apply("le", index(place), index(x.last)))
        in_weights = apply("and", in_weights, apply("lt", index(tap), index(x.tap.extent)))
        moved[x.out] = (x.out.dim - x.first) // x.stride
        number = number * x.stride + (x.out.dim - x.first - moved[x.out] * x.stride)
    image = substitute_scalar(c.product.left, values)
    weights = substitute_scalar(c.product.right, values)
    if any(isinstance(e, Apply) and e.op == "eq" for e in walk(image)):
        return None
    one, phase_of = Variable("f", c.filter.extent), Variable("r", strides)
    if phase_of in substitute_scalar(image, {which: one.dim * strides + phase_of.dim}).variables:
        return None
    image = select(in_image, guarded(image, in_image), 0)
    weights = select(in_weights, guarded(weights, in_weights), 0)
    kept = [taps.get(a, a) for a in c.sum.axes]
    kept = [a for a in kept if a.extent != 1]
    whole = reduction("sum", tuple(kept), c.product.of(image, weights))
    others = [a for a in c.store.axes if a is not c.filter]
    at = min(others.index(x.out) for x in phased)
    order = [*others[:at], c.filter, *others[at:]]
    axes = tuple(which if a is c.filter else places.get(a, a) for a in order)
    sums = Buffer(f"sums#{next(_SERIAL)}", [a.extent for a in axes], c.sum.dtype)
    store = Store(sums, axes, sums.address(tuple(a.dim for a in axes)), whole)
    sums.source = store
    read = tuple(number if a is c.filter else moved.get(a, a.dim) for a in order)
    value = replace(c.store.value, {c.sum: load(sums, sums.address(read))})
    return store, Store(c.store.buffer, c.store.axes, c.store.address, value)


# ── apart ──────────────────────────────────────────────────────────────────────────────────────


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


def _is_cut(extent: DimLike, stride: int) -> bool:
    """Whether it is known how many phases of ``extent`` are longer than the others."""
    return any(exact_quotient(extent - more, stride) is not None for more in range(stride))


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
    whole = const(0, e.dtype) if _is_zero(body) else reduction("sum", tuple(axes), body)
    return Store(store.buffer, store.axes, store.address, replace(store.value, {e: whole}))


def _remainder(
    body: Scalar, tap: Variable, strides: set[int]
) -> tuple[Scalar, list[Variable]] | None:
    """``body`` with ``tap`` at the only remainder that counts, and the axis that is left of it.

    With few taps there may be none: then ``body`` is 0.
    """
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
        if not found:
            return const(0, body.dtype), []
    return None


def _is_zero(e: Scalar) -> bool:
    """Whether ``e`` is a product with the number 0: what padding and gaps hold."""
    return any(isinstance(x, Const) and x.value == 0 for x in (e, *e.args))


__all__ = ["joined", "phases"]
