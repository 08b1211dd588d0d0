"""Fold constants that scale or shift a convolution or product into its weights.

    Conv(x, W, B) + b = Conv(x, W, B + b)        Conv(x, W, B) · k = Conv(x, k·W, k·B)

Constants that follow each other are one: (x + a) + b = x + (a + b), (x · a) · b = x · (a·b). That
rounds differently, as `fold_batchnorm` does.
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import DType
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.canonicalize.nothing import keeps_shape
from fornix.passes.linear import per_channel, scaled, weighted
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, rewrite


@rewrite(
    P.Add(weighted, const("shift"), bind="node"),
    P.Sub(weighted, const("shift"), bind="node"),
)
def fold_shift(
    x: Value,
    W: Array,
    shift: Array,
    linear: Node,
    node: Node,
    make: Maker,
    B: Array | None = None,
) -> Value | None:
    """A constant per channel behind a convolution or product joins its bias."""
    b = per_channel(linear, W, shift)
    if b is None or not keeps_shape(linear.output, node, make):
        return None
    return scaled(linear, x, W, B, None, -b if node.op_type == "Sub" else b, make)


@rewrite(
    P.Mul(weighted, const("factor"), bind="node"),
    P.Div(weighted, const("factor"), bind="node"),
)
def fold_factor(
    x: Value,
    W: Array,
    factor: Array,
    linear: Node,
    node: Node,
    make: Maker,
    B: Array | None = None,
) -> Value | None:
    """A constant factor per channel behind a convolution or product joins its weights."""
    k = per_channel(linear, W, factor)
    if k is None or not keeps_shape(linear.output, node, make):
        return None
    with np.errstate(all="ignore"):
        k = 1 / k if node.op_type == "Div" else k
    return scaled(linear, x, W, B, k, None, make) if np.isfinite(k).all() else None


@rewrite(
    P.Add(P.Add(any_("x"), const("first"), single_use=True), const("second"), bind="node"),
    P.Mul(P.Mul(any_("x"), const("first"), single_use=True), const("second"), bind="node"),
)
def merge_constants(x: Value, first: Array, second: Array, node: Node, make: Maker) -> Value | None:
    """Two constants in a row are one, unless together they are larger than each, or overflow."""
    try:
        joint = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        return None  # they meet only in the shape of x
    if joint not in {first.shape, second.shape}:
        return None
    combine = np.add if node.op_type == "Add" else np.multiply
    with np.errstate(all="ignore"):
        both = combine(first, second) if first.dtype.kind in "iu" else _wide(combine, first, second)
    return None if both is None else make.node(node.op_type, (x, both), {})


def _wide(combine: np.ufunc, first: Array, second: Array) -> Array | None:
    """The combination, rounded once; None if that leaves the range of normal numbers."""
    if not DType.of(first.dtype).is_float:
        return None
    exact = combine(first.astype(np.float64), second.astype(np.float64))
    rounded = exact.astype(first.dtype)
    near = np.isclose(rounded.astype(np.float64), exact, rtol=1e-2, atol=0)
    return rounded if bool(near.all()) else None


RULES: tuple[Rule, ...] = (*fold_shift, *fold_factor, *merge_constants)
