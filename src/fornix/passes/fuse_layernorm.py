"""Fuse the steps of layer normalization into LayerNormalization, which begins at opset 17.

d = x − mean(x),   y = d / √(mean(d²) + ε) · scale + bias,   means over the last axis
"""

from __future__ import annotations

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Pattern, any_, const, either, number, rewrite

LAYER_NORMALIZATION_SINCE = 17


def _mean(of: Pattern, bind: str) -> Pattern:
    return either(P.ReduceMean(of, bind=bind), P.ReduceMean(of, const(f"{bind}_axes"), bind=bind))


_x = any_("x")
_d = P.Sub(_x, _mean(_x, "center"))
_square = either(P.Pow(_d, number(2.0)), P.Mul(_d, _d))
_deviation = P.Sqrt(P.Add(_mean(_square, "spread"), number(name="epsilon")))
_normalized = P.Div(_d, _deviation)


@rewrite(P.Add(P.Mul(_normalized, const("scale")), const("bias")))
def fuse_layernorm(
    x: Value,
    scale: Array,
    bias: Array,
    epsilon: float,
    center: Node,
    spread: Node,
    make: Maker,
    center_axes: Array | None = None,
    spread_axes: Array | None = None,
) -> Value | None:
    """Only over the last axis, with scale and bias of that axis."""
    fact = make.fact(x)
    if make.opset < LAYER_NORMALIZATION_SINCE or not fact.has_rank or scale.ndim != 1:
        return None
    last = [fact.rank - 1]
    for node, axes in ((center, center_axes), (spread, spread_axes)):
        named = node.attr("axes") if axes is None else axes.reshape(-1).tolist()
        if not named or [axis % fact.rank for axis in named] != last:
            return None
        if node.attr("keepdims", 1) != 1:
            return None
    if scale.shape != bias.shape or fact.shape[-1] != scale.shape[0]:
        return None
    return make.LayerNormalization(x, scale, bias, axis=-1, epsilon=epsilon)


RULES = fuse_layernorm
