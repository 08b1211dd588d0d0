"""Windows over several axes of an image, reduced along one axis after the other, or by pieces.

The sum over a window of 9×9 is that over 9 sums over 9: what is reduced along the first axis is
written once, for all places of the others, and serves every window in which it lies. Decided here
is whether that pays; what is written, and what becomes of it, other schedules do. Small windows
share what they have in common in registers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fornix.compile.blocked import Blocked, blocked_buffer
from fornix.compile.convolution import Spatial, window_over
from fornix.compile.cost import likely, outer_reductions
from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import (
    Buffer,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    load,
    replace,
    substitute_scalar,
    walk,
)
from fornix.ir.loops.scalar import reduction

FEW_TAPS, MANY_TAPS = 24, 16
"""Elements of a window that are reduced at once: a pass through memory costs as much. And of a line
from which on pieces of it are reduced first."""
GAIN = 1.5
"""How many times as much work it has to be without."""
COMBINED = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}
"""What puts two results of a reduction together."""

_SERIAL = itertools.count()


@dataclass(frozen=True)
class _Parts:
    """A reduction as two: that along `tap`, over places of the `others`, and that over `taps`."""

    op: str
    tap: Variable
    taps: tuple[Variable, ...]
    others: tuple[Spatial, ...]
    body: Scalar
    """What is reduced, by places of the `others`."""
    rest: Scalar | None = None
    """What both leave out."""


def separated(store: Store) -> list[Store] | None:
    """The windows of ``store`` reduced along one axis, and then along the others.

    None if none of them is large, or they share too little.
    """
    first: list[Store] = []
    new: dict[Scalar, Scalar] = {}
    for e in outer_reductions(store.value):
        parts = _parts(e, store.axes) or _pieces(e, store.axes)
        if parts is not None:
            along, value = _along(parts, store)
            both = value if parts.rest is None else apply(COMBINED[e.op], value, parts.rest)
            new[e] = both
            first.append(along)
    if not new:
        return None
    value = replace(store.value, new)
    return [*first, Store(store.buffer, store.axes, store.address, value)]


def _parts(e: Reduce, axes: Sequence[Variable]) -> _Parts | None:
    """``e`` in two parts, if they are less work."""
    taps = [a for a in e.axes if a.extent != 1]
    count = math.prod(likely(a.extent) for a in taps)
    is_known = all(isinstance(a.extent, int) for a in taps)
    if not is_known or len(taps) < 2 or count <= FEW_TAPS:
        return None
    if any(isinstance(x, Reduce) for x in walk(e.body)):
        return None
    tap, body, others = taps[0], e.body, list[Spatial]()
    for other in (a for a in e.axes if a is not tap):
        taken = {s.out for s in others}
        found = window_over(body, other, [a for a in axes if a not in taken])
        if found is None:
            return None
        body = found.image
        others.append(found.axis)
    places = math.prod(map(_places_of_one, others))
    length = likely(tap.extent)
    if count < GAIN * (length * places + count / length):
        return None
    further = tuple(a for a in e.axes if a is not tap)
    return _Parts(e.op, tap, further, tuple(others), body)


def _places_of_one(axis: Spatial) -> float:
    """How many places there are for each element of the result."""
    places, outs = axis.place.extent, axis.out.extent
    if isinstance(places, int) and isinstance(outs, int):
        return places / max(outs, 1)
    return axis.stride


def _pieces(e: Reduce, axes: Sequence[Variable]) -> _Parts | None:
    """``e`` along one axis by pieces of the window, which serve every window in which they lie.

    Of 101 taps 10 are reduced at all places, then 10 of these results, and the last tap.
    """
    taps = [a for a in e.axes if a.extent != 1]
    if len(taps) != 1 or not isinstance(taps[0].extent, int) or taps[0].extent < MANY_TAPS:
        return None
    if any(isinstance(x, Reduce) for x in walk(e.body)):
        return None
    (tap,), count = taps, taps[0].extent
    image = substitute_scalar(e.body, {a: 0 for a in e.axes if a is not tap})
    found = window_over(image, tap, axes)
    if found is None:
        return None
    work, length = min((_work_in(found.axis, n), n) for n in range(2, count // 2 + 1))
    if count < GAIN * work:
        return None
    whole = count // length
    piece, one = Variable("p", whole), Variable("t", length)
    far = _in_pieces(found.axis, piece, length)
    near = far.place.dim + one.dim * found.axis.dilation
    body = substitute_scalar(found.image, {found.axis.place: near})
    left = Variable("r", count - whole * length)
    beyond = substitute_scalar(image, {tap: left.dim + whole * length})
    rest = reduction(e.op, (left,), beyond) if left.extent else None
    return _Parts(e.op, one, (piece,), (far,), body, rest)


def _work_in(axis: Spatial, length: int) -> float:
    """Taps that are reduced for each window, in pieces of ``length`` of them."""
    count, windows = likely(axis.taps), max(likely(axis.out.extent), 1)
    pieces, rest = divmod(count, length)
    places = (windows - 1) * axis.stride + (pieces - 1) * length * axis.dilation + 1
    return length * places / windows + pieces + rest


def _in_pieces(axis: Spatial, piece: Variable, length: int) -> Spatial:
    """``axis`` with a tap for each piece of ``length`` taps."""
    step = length * axis.dilation
    extent = (axis.out.extent - 1) * axis.stride + (piece.extent - 1) * step + 1
    return Spatial(axis.out, piece, axis.stride, step, Variable("y", extent))


def _along(parts: _Parts, store: Store) -> tuple[Store, Scalar]:
    """The store of what is reduced along the first axis, and the rest of the reduction."""
    places = {s.out: s for s in parts.others}
    kept = [a for a in store.axes if a in places or a in parts.body.variables]
    axes = [places[a].place if a in places else a for a in kept]
    buffer = _buffer(store, axes, parts.body.dtype)
    fresh = [Variable(a.name, a.extent) for a in axes]
    values: dict[Atom, DimLike] = {a: new.dim for a, new in zip(axes, fresh, strict=True)}
    value = substitute_scalar(reduction(parts.op, (parts.tap,), parts.body), values)
    address = buffer.address(tuple(new.dim for new in fresh))
    first = Store(buffer, tuple(fresh), address, value)
    buffer.source = first
    read: list[DimLike] = [places[a].read if a in places else a.dim for a in kept]
    return first, reduction(parts.op, parts.taps, load(buffer, buffer.address(tuple(read))))


def _buffer(store: Store, axes: Sequence[Variable], dtype: DType) -> Buffer:
    """Memory for all values of ``axes``, in blocks of channels if the result lies so."""
    name, shape = f"windows#{next(_SERIAL)}", [a.extent for a in axes]
    layout = store.buffer.address
    if isinstance(layout, Blocked) and len(axes) == len(layout.shape) == len(store.axes):
        return blocked_buffer(name, shape, dtype, layout.lanes)
    return Buffer(name, shape, dtype)


__all__ = ["separated"]
