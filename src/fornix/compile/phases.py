"""Transposed convolutions without their zeros: by the phases of their strides, apart or joined.

With stride 2, an even place of the result meets the even taps, an odd one the odd taps; the sum
over all taps is one over zeros for the most part. So places are split, ``o = stride·p + phase``,
and taps, ``k = stride·q + r``. Of the remainders one is left: whatever the others select is 0.

Taken apart, each phase is a convolution of its own. Joined, they are filters of a single one: all
of them read the same places, of each filter one for each phase, and its results are put between
each other afterwards. Then few filters are enough to fill registers, and many phases are no more
code than few; but taps have to come out even. Where they do not, `schedule.spread` serves instead.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fornix.compile.axes import rewritten
from fornix.compile.blocked import LEAST_LANES
from fornix.compile.convolution import Convolution, Groups, each_for_itself, groups
from fornix.compile.cost import outer_reductions, stride_of
from fornix.ir.dim import DimLike, ceildiv, exact_quotient
from fornix.ir.dim.expression import Atom, Floor, atoms, coefficient
from fornix.ir.loops import (
    TRUE,
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
"""Stores that one is taken apart into, at most: convolutions, and rows that meet no taps."""
FEW_FILTERS = 8
"""Filters up to which phases are joined in any case."""

_SERIAL = itertools.count()


def phases(store: Store) -> list[Store]:
    """Stores that together do what ``store`` does; itself alone if it has one phase."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return [store]
    strides = dict(_strides(store, folds[0]))
    if math.prod(strides.values()) > MAX_PHASES:
        return [store]
    for chosen in (strides | dict(_strides(store, folds[0], are_alone=True)), strides):
        axes = [(a, chosen[a]) for a in store.axes if a in chosen]
        if all(isinstance(a.extent, int) or _is_cut(a.extent, stride) for a, stride in axes):
            found = [*itertools.islice(_split(store, axes), MAX_PHASES + 1)]
            if len(found) <= MAX_PHASES:
                return found
    return [store]


def _split(store: Store, strides: Sequence[tuple[Variable, int]]) -> Iterator[Store]:
    """``store`` by the phases of its axes one after the other; not further where it sums nothing.

    So rows that meet no taps are written as they lie.
    """
    if not strides or not outer_reductions(store.value):
        yield store
        return
    (axis, stride), *others = strides
    for phase in range(stride):
        own = Variable(axis.name, (axis.extent + (stride - 1 - phase)) // stride)
        if own.extent != 0:
            axes = [own if a is axis else a for a in store.axes]
            part = rewritten(store, axes, {axis: own.dim * stride + phase})
            yield from _split(_thinned(part, stride), others)


# ── joined ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Phased:
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
    def place(self) -> Variable:
        """A new axis of the elements of one phase."""
        return Variable(self.out.name, ceildiv(self.out.extent - self.first, self.stride))

    def tap_of(self, turn: DimLike, own: DimLike) -> DimLike:
        """The tap that the phase ``own`` counts as ``turn``; there may be none."""
        return turn * self.stride + (self.stride - 1) - own

    def out_of(self, place: DimLike, own: DimLike) -> DimLike:
        """Where an element of the phase ``own`` stands in the result."""
        return place * self.stride + own + self.first

    def read(self, out: DimLike) -> tuple[DimLike, DimLike]:
        """The phase of an element of the result, and its place there."""
        place = (out - self.first) // self.stride
        return out - self.first - place * self.stride, place

    def at(self, place: DimLike) -> dict[Atom, DimLike]:
        """An element of the result and a tap that meet the ``place`` of the image."""
        last = self.stride - 1
        return {self.out: self.out_of(place - self.ahead, last), self.tap: self.tap_of(0, last)}


def joined(c: Convolution) -> tuple[Store, Store] | None:
    """The sums of all phases of ``c``, and what makes its result of them; None if that is worse.

    So it is where taps do not come out even: those that are 0 make a NaN of an infinity.
    """
    axes, given = phased_axes(c), groups(c) or each_for_itself(c)
    if not axes or given is None or not c.sum.dtype.is_float or has_waste(axes):
        return None
    return _joined(c, axes) if are_joined(axes, given, is_depthwise=c.is_depthwise) else None


def has_waste(axes: Sequence[Phased]) -> bool:
    """Whether some phases have fewer taps than others."""
    return any(_count(x.tap) % x.stride for x in axes)


def are_joined(axes: Sequence[Phased], given: Groups, *, is_depthwise: bool) -> bool:
    """Whether phases are better not taken apart: they are many, or filters fill no vectors."""
    if math.prod(x.stride for x in axes) > MAX_PHASES:
        return True
    is_odd = given.filters % LEAST_LANES != 0
    return not is_depthwise and (given.filters <= FEW_FILTERS or is_odd)


def phased_axes(c: Convolution) -> list[Phased] | None:
    """The axes of ``c`` whose results lie in phases; None if some are not known to."""
    found = [_phased(c, a, stride) for a, stride in _strides(c.store, c.sum)]
    axes = [x for x in found if x is not None]
    return axes if len(axes) == len(found) else None


def _count(axis: Variable) -> int:
    return axis.extent if isinstance(axis.extent, int) else 1


def _phased(c: Convolution, out: Variable, stride: int) -> Phased | None:
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
    return Phased(out, tap, stride, first, (stride - 1 + first + before) // stride, last)


def _joined(c: Convolution, phased: list[Phased]) -> tuple[Store, Store] | None:
    strides = math.prod(x.stride for x in phased)
    which = Variable(c.filter.name, c.filter.extent * strides)
    values: dict[Atom, DimLike] = {c.filter: which.dim // strides}
    places = {x.out: x.place for x in phased}
    taps: dict[Variable, Variable] = {}
    in_image: Scalar = TRUE
    phase: DimLike = which.dim
    number: DimLike = c.filter.dim
    moved: dict[Variable, DimLike] = {}
    left = strides
    for x in phased:
        phase, left = phase - left * (phase // left), left // x.stride
        own, p, q = phase // left, places[x.out], Variable(x.tap.name, x.taps)
        turn = q.dim if x.taps > 1 else 0
        tap = x.tap_of(turn, own)
        values |= {x.out: x.out_of(p.dim, own), x.tap: tap}
        taps[x.tap] = q
        place = p.dim + turn + x.ahead
        in_image = apply("and", in_image, apply("le", index(place), index(x.last)))
        own, moved[x.out] = x.read(x.out.dim)
        number = number * x.stride + own
    image = substitute_scalar(c.product.left, values)
    weights = substitute_scalar(c.product.right, values)
    if any(isinstance(e, Apply) and e.op == "eq" for e in walk(image)):
        return None
    one, phase_of = Variable("f", c.filter.extent), Variable("r", strides)
    if phase_of in substitute_scalar(image, {which: one.dim * strides + phase_of.dim}).variables:
        return None
    image = select(in_image, guarded(image, in_image), 0)
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


def _strides(store: Store, e: Reduce, *, are_alone: bool = False) -> Iterator[tuple[Variable, int]]:
    """Axes that are divided together with a tap, and by what.

    Or ``are_alone``, where what is left is asked for: taps that are whole strides apart, or one,
    say no more of the places that they meet.
    """
    nodes = [n for n in walk(e.body) if not are_alone or (isinstance(n, Apply) and n.op == "eq")]
    dims = [d for n in nodes for x in (n.args if are_alone else [n]) for d in x.dims]
    divisions = {a for d in dims for a in atoms(d) if isinstance(a, Floor)}
    for axis in store.axes:
        found = {
            a.den
            for a in divisions
            if (a.variables & set(e.axes) or are_alone) and stride_of(a.num, axis)
        }
        if len(found) == 1:
            (stride,) = found
            if isinstance(stride, int):
                yield axis, stride


def _is_cut(extent: DimLike, stride: int) -> bool:
    """Whether it is known how many phases of ``extent`` are longer than the others."""
    return any(exact_quotient(extent - more, stride) is not None for more in range(stride))


def _thinned(store: Store, stride: int) -> Store:
    """``store`` with the taps left out of its sum that only meet zeros."""
    folds = outer_reductions(store.value)
    if len(folds) != 1:
        return store
    (e,) = folds
    body, axes = e.body, []
    for tap in e.axes:
        left = _remainder(body, tap, stride)
        if left is None:
            axes.append(tap)
        else:
            body, found = left
            axes += found
    whole = const(0, e.dtype) if _is_zero(body) else reduction("sum", tuple(axes), body)
    return Store(store.buffer, store.axes, store.address, replace(store.value, {e: whole}))


def _remainder(body: Scalar, tap: Variable, stride: int) -> tuple[Scalar, list[Variable]] | None:
    """``body`` with ``tap`` at the only remainder that counts, and the axis that is left of it.

    With few taps there may be none: then ``body`` is 0. Taps that are part of a stride apart come
    back to a phase after as much less.
    """
    if not isinstance(tap.extent, int) or tap not in body.variables:
        return None
    for step in (d for d in range(stride, 1, -1) if stride % d == 0):
        found: list[tuple[Scalar, list[Variable]]] = []
        for r in range(min(step, tap.extent)):
            count = -(-(tap.extent - r) // step)
            axis = Variable(tap.name, count)
            place = r if count == 1 else axis.dim * step + r
            part = substitute_scalar(body, {tap: place})
            if not _is_zero(part):
                found.append((part, [] if count == 1 else [axis]))
        if len(found) == 1:
            return found[0]
        if not found:
            return const(0, body.dtype), []
    return None


def _is_zero(e: Scalar) -> bool:
    """Whether ``e`` is a product with the number 0: what padding and gaps hold."""
    return any(isinstance(x, Const) and x.value == 0 for x in (e, *e.args))


__all__ = ["Phased", "joined", "phased_axes", "phases"]
