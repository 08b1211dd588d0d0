"""Fuse the steps of layer and RMS normalization into the operators of the standard.

    LayerNormalization  d = x − mean(x),   y = d / √(mean(d²) + ε) · scale + bias    from opset 17
    RMSNormalization    y = x / √(mean(x²) + ε) · scale                              from opset 23

Means over the last axes. The division may be a product with a reciprocal or a power. It is fused by
itself, with a scale of ones; the scale, the bias and the Casts around it, each of which may be
missing, are absorbed afterwards. Before opset 23 the engine has half precision fused as well.
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array, static
from fornix.ops.microsoft import DOMAIN
from fornix.passes.make import Maker
from fornix.passes.pattern import (
    Application,
    P,
    Pattern,
    Rule,
    any_,
    const,
    either,
    number,
    rewrite,
)

LAYER_NORMALIZATION_SINCE = 17
RMS_NORMALIZATION_SINCE = 23
HALF = {FLOAT16, BFLOAT16}
DTYPES = {FLOAT32, *HALF}
"""Not float64: both operators compute in float32 or narrower."""


def _mean(of: Pattern, bind: str) -> Pattern:
    return either(P.ReduceMean(of, bind=bind), P.ReduceMean(of, const(f"{bind}_axes"), bind=bind))


def _square(of: Pattern) -> Pattern:
    return either(P.Mul(of, of), P.Pow(of, number(2.0)))


def _over_root(x: Pattern, variance: Pattern) -> tuple[Application, ...]:
    """X / √(variance + ε), in every way to divide."""
    total = P.Add(variance, number(name="epsilon"))
    root = P.Sqrt(total)
    inverse = either(P.Reciprocal(root), P.Div(number(1.0), root), P.Pow(total, number(-0.5)))
    return P.Div(x, root), P.Mul(x, inverse)


_x = any_("x")
_d = P.Sub(_x, _mean(_x, "center"))
_sum = P.Add(_mean(_square(_d), "spread"), number(name="epsilon"))


@rewrite(*_over_root(_d, _mean(_square(_d), "spread")))
def fuse_layernorm(
    x: Value,
    epsilon: float,
    center: Node,
    spread: Node,
    make: Maker,
    center_axes: Array | None = None,
    spread_axes: Array | None = None,
) -> Value | None:
    """D / √(mean(d²) + ε) = LayerNormalization(x, 1)."""
    axes = _last_axes(x, spread, spread_axes, make)
    if axes is None or axes != _last_axes(x, center, center_axes, make):
        return None
    ones = _spanned(np.ones(()), x, axes, make)
    if make.opset < LAYER_NORMALIZATION_SINCE or ones is None:
        return None
    return make.LayerNormalization(x, ones, axis=-axes, epsilon=epsilon)


_factor = P.Mul(P.Reciprocal(P.Sqrt(_sum)), const("scale"))


@rewrite(P.Add(P.Mul(_x, _factor), P.Sub(const("bias"), P.Mul(_mean(_x, "center"), _factor))))
def fuse_expanded_layernorm(
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
    """TensorFlow's form, x·f + (bias − mean(x)·f) with f = scale / √(mean(d²) + ε)."""
    axes = _last_axes(x, spread, spread_axes, make)
    if axes is None or axes != _last_axes(x, center, center_axes, make):
        return None
    weights = [_spanned(weight, x, axes, make) for weight in (scale, bias)]
    if make.opset < LAYER_NORMALIZATION_SINCE or any(weight is None for weight in weights):
        return None
    return make.LayerNormalization(x, *weights, axis=-axes, epsilon=epsilon)


@rewrite(*_over_root(_x, _mean(_square(_x), "spread")))
def fuse_rmsnorm(
    x: Value, epsilon: float, spread: Node, make: Maker, spread_axes: Array | None = None
) -> Value | None:
    """X / √(mean(x²) + ε) = RMSNormalization(x, 1).

    Squares of float16 from 256 on are infinite: what is fused computes half precision in float32,
    and so does the contributed operator, which the engine knows before the standard's begins.
    """
    axes = _last_axes(x, spread, spread_axes, make)
    ones = None if axes is None else _spanned(np.ones(()), x, axes, make)
    if ones is None or axes is None:
        return None
    if make.opset >= RMS_NORMALIZATION_SINCE:
        return make.RMSNormalization(x, ones, axis=-axes, epsilon=epsilon)
    if make.fact(x).dtype not in HALF or not make.imports(DOMAIN):
        return None
    return make.SimplifiedLayerNormalization(x, ones, axis=-axes, epsilon=epsilon)


@rewrite(
    P.Cast(
        P.RMSNormalization(
            P.Cast(_x, bind="widen"), const("scale"), bind="norm", single_use=True, stash_type=1
        ),
        bind="narrow",
    )
)
def absorb_casts(
    x: Value, scale: Array, norm: Node, widen: Node, narrow: Node, make: Maker
) -> Value | None:
    """Half precision that is widened to float32 for it alone: RMSNormalization does that itself."""
    dtype = make.fact(x).dtype
    casts = [DType.of(node.attr("to")) for node in (widen, narrow)]
    if dtype not in HALF or casts != [FLOAT32, dtype] or (scale != 1).any():
        return None
    return make.RMSNormalization(x, scale.astype(dtype.numpy), **dict(norm.attributes))


@rewrite(
    P.Mul(P.LayerNormalization(_x, const("scale"), bind="norm", single_use=True), const("factor")),
    P.Mul(P.RMSNormalization(_x, const("scale"), bind="norm", single_use=True), const("factor")),
    P.Mul(
        P.SimplifiedLayerNormalization(_x, const("scale"), bind="norm", single_use=True),
        const("factor"),
    ),
)
def absorb_scale(x: Value, scale: Array, factor: Array, norm: Node, make: Maker) -> Value | None:
    """A factor behind a normalization without bias is part of its scale."""
    wanted = _spanned(factor, x, scale.ndim, make)
    if wanted is None or wanted.shape != scale.shape or wanted.dtype != scale.dtype:
        return None
    both = (scale.astype(np.float64) * wanted.astype(np.float64)).astype(scale.dtype)
    return make.node(norm.op_type, (x, both), dict(norm.attributes))


@rewrite(
    P.Add(P.LayerNormalization(_x, const("scale"), bind="norm", single_use=True), const("bias"))
)
def absorb_bias(x: Value, scale: Array, bias: Array, norm: Node, make: Maker) -> Value | None:
    """What is added to a LayerNormalization without bias is its bias."""
    wanted = _spanned(bias, x, scale.ndim, make)
    if wanted is None or wanted.shape != scale.shape or wanted.dtype != scale.dtype:
        return None
    return make.LayerNormalization(x, scale, wanted, **dict(norm.attributes))


def _last_axes(x: Value, node: Node, axes: Array | None, make: Maker) -> int | None:
    """How many of the last axes of ``x`` the mean ``node`` takes; None if it takes others."""
    fact = make.fact(x)
    named = node.attr("axes") if axes is None else axes.reshape(-1).tolist()
    if not fact.has_rank or not named or node.attr("keepdims", 1) != 1:
        return None
    count = len(named)
    last = list(range(fact.rank - count, fact.rank))
    return count if sorted(axis % fact.rank for axis in named) == last else None


def _spanned(weight: Array, x: Value, axes: int, make: Maker) -> Array | None:
    """``weight`` in the shape of the last ``axes`` of ``x``; None if it does not broadcast so."""
    fact = make.fact(x)
    shape = static(fact.shape[-axes:]) if fact.has_rank and fact.rank >= axes else None
    if shape is None or fact.dtype not in DTYPES or weight.ndim > fact.rank:
        return None
    inner = weight.reshape(-1) if weight.size == 1 else weight
    while inner.ndim > axes and inner.shape[0] == 1:
        inner = inner[0]
    try:
        full = np.broadcast_to(inner, shape)
    except ValueError:
        return None
    return np.ascontiguousarray(full.astype(fact.dtype.numpy))


RULES: tuple[Rule, ...] = (
    *fuse_layernorm,
    *fuse_expanded_layernorm,
    *fuse_rmsnorm,
    *absorb_casts,
    *absorb_scale,
    *absorb_bias,
)
