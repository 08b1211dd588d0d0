"""Changes of reductions that keep what is computed, and what a schedule asks about them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from fornix.compile.axes import moves_as_one
from fornix.compile.cost import accesses
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Apply, Reduce, Scalar, Variable, replace, substitute_scalar, walk
from fornix.ir.loops.scalar import reduction


def reductions(values: Iterable[Scalar]) -> list[Reduce]:
    """Every reduction in ``values`` once, inner ones first."""
    found = {e: None for value in values for e in walk(value) if isinstance(e, Reduce)}
    return list(found)


def merged(value: Scalar) -> Scalar:
    """``value`` with neighbouring axes of each reduction joined where its indices allow it."""
    done: dict[Scalar, Scalar] = {}
    for e in reductions([value]):
        body = replace(e.body, done) if done else e.body
        joined = _merged(e.op, e.axes, body)
        if joined is not e:
            done[e] = joined
    return replace(value, done) if done else value


def _merged(op: str, axes: tuple[Variable, ...], body: Scalar) -> Scalar:
    k = 0
    while k + 1 < len(axes):
        a, b = axes[k], axes[k + 1]
        if all(moves_as_one(d, a, b) for node in walk(body) for d in node.dims):
            joined = Variable(f"{a.name}{b.name}"[:8], a.extent * b.extent)
            body = substitute_scalar(body, {a: 0, b: joined.dim})
            axes = (*axes[:k], joined, *axes[k + 2 :])
            k = max(k - 1, 0)
        else:
            k += 1
    return reduction(op, axes, body)


def is_below_top(x: Scalar) -> bool:
    """Whether ``x`` is a value less the greatest one of a row that holds it: at most 0, or NaN."""
    if not isinstance(x, Apply) or x.op != "sub":
        return False
    value, top = x.args
    if not isinstance(top, Reduce) or top.op != "max" or len(top.axes) != 1:
        return False
    own = {a for a in value.variables - top.variables if isinstance(a, Variable)}
    extent = top.axes[0].extent
    rows = (a for a in own if a.extent == extent)
    return any(substitute_scalar(top.body, {top.axes[0]: a.dim}) is value for a in rows)


def field_axes(e: Reduce, operand: Scalar) -> list[Variable]:
    """The axes of ``e`` along which ``operand`` loads the same and takes other fields out of it."""
    moving = {a for x in accesses([operand]) for a in x.variables}
    return [a for a in e.axes if a not in moving]


def points(axes: Sequence[Variable]) -> list[dict[Atom, DimLike]]:
    """The combinations of values of ``axes``, as far as their extents are known."""
    known = {a: range(a.extent) for a in axes if isinstance(a.extent, int)}
    return [dict(zip(known, place, strict=True)) for place in itertools.product(*known.values())]


__all__ = ["field_axes", "is_below_top", "merged", "points", "reductions"]
