"""Reshape, Squeeze, Unsqueeze and Flatten keep all elements in their order, so two are one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array, Fact, static
from fornix.passes.make import Maker
from fornix.passes.pattern import Application, P, Pattern, Rule, any_, const, either, rewrite

RESHAPE_TAKES_INPUT = 5
"""Since this opset the shape is an input."""


def _reshaping(of: Pattern, bind: str | None = None) -> tuple[Application, ...]:
    return (
        P.Reshape(of, any_(f"{bind or 'inner'}_shape?"), bind=bind),
        P.Squeeze(of, any_(f"{bind or 'inner'}_shape?"), bind=bind),
        P.Unsqueeze(of, any_(f"{bind or 'inner'}_shape?"), bind=bind),
        P.Flatten(of, bind=bind),
    )


@rewrite(P.Reshape(any_("x"), any_("shape"), bind="node"))
def store_reshape(x: Value, shape: Value, node: Node, make: Maker) -> Value | None:
    """A computed target whose extents are known becomes stored: 0 copies, one −1 takes the rest.

    Reshape(x[N, S, 768], Concat(Shape(x)[:2], 12, 64)) = Reshape(x, [0, 0, 12, 64])
    """
    before, wanted = make.fact(x), make.fact(shape).value
    if shape.constant is not None or wanted is None or not before.has_rank:
        return None
    if -1 not in wanted and not keeps_elements(node, make):
        return None  # whether they fill the target, a run checks
    target = target_of(before.shape, list(wanted.reshape(-1)))
    return None if target is None else make.Reshape(x, target)


@rewrite(*_reshaping(either(*_reshaping(any_("x"), bind="first")), bind="node"))
def merge_reshapes(x: Value, first: Node, node: Node, make: Maker) -> Value | None:
    """Two in a row, where shapes are known: x if it gets its shape back, else one Reshape."""
    if make.opset < RESHAPE_TAKES_INPUT or not all(keeps_elements(n, make) for n in (first, node)):
        return None
    before, after = make.fact(x), make.own_fact(node)
    if before.shape == after.shape:
        return x
    target = target_of(before.shape, after.shape)
    return None if target is None else make.Reshape(x, target)


@rewrite(P.Reshape(either(*_reshaping(any_("x"), bind="first")), const("shape"), bind="node"))
def merge_reshape(x: Value, shape: Array, first: Node, node: Node, make: Maker) -> Value | None:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), unless t copies an extent of s."""
    if (shape == 0).any() or not keeps_elements(first, make):
        return None
    return make.Reshape(x, shape, **dict(node.attributes))


@rewrite(
    P.Squeeze(any_("x"), any_("axes?"), bind="node"),
    P.Unsqueeze(any_("x"), any_("axes?"), bind="node"),
    P.Flatten(any_("x"), bind="node"),
)
def write_as_reshape(x: Value, node: Node, make: Maker, axes: Value | None = None) -> Value | None:
    """Squeeze, Unsqueeze, Flatten of static shapes are Reshapes; fed axes, a run checks."""
    if axes is not None and make.fact(axes).value is None:
        return None
    before, after = make.fact(x), make.fact(node.output)
    if make.opset < RESHAPE_TAKES_INPUT or not before.has_rank or not after.has_rank:
        return None
    if static(before.shape) is None:
        return None
    target = target_of(before.shape, after.shape)
    return None if target is None else make.Reshape(x, target)


def keeps_elements(node: Node, make: Maker) -> bool:
    """Whether it is certain that the data of ``node`` fill its shape: no run need check it."""
    data = node.inputs[0]
    before = Fact() if data is None else make.fact(data)
    after = make.own_fact(node)
    return before.has_rank and after.has_rank and math.prod(before.shape) == math.prod(after.shape)


def target_of(before: Sequence[DimLike], after: Sequence[DimLike]) -> Array | None:
    """What Reshape needs to hear to make ``after`` of ``before``; None if it has no words for it.

    Unknown extents that stay on their axis are copied by 0, and one more may be −1, of which
    nothing says how long it is where another one is 0.
    """
    target = [_entry(extent, before[axis : axis + 1]) for axis, extent in enumerate(after)]
    most = 0 if 0 in map(known, after) else 1
    return None if target.count(-1) > most else np.array(target, np.int64)


def _entry(extent: DimLike, there: Sequence[DimLike]) -> int:
    """How a Reshape says ``extent``, ``there`` being the extent of the data on that axis."""
    fixed = known(extent)
    if fixed is not None and fixed > 0:
        return fixed
    return 0 if list(there) == [extent] else -1


RULES: tuple[Rule, ...] = (
    *store_reshape,
    *merge_reshapes,
    *merge_reshape,
    *write_as_reshape,
)
