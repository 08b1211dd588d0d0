"""Fuse activations that exporters spell out into the operators that the standard has for them.

Swish      x · σ(α·x)                    from opset 24; SiLU with α = 1, QuickGelu with 1.702
HardSigmoid  clip(x + 3, 0, 6) / 6
HardSwish  x · clip(x + 3, 0, 6) / 6     from opset 14
Mish       x · tanh(softplus(x))         from opset 18
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import FLOAT16, FLOAT32, FLOAT64
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, either, number, rewrite

SWISH_SINCE, HARD_SWISH_SINCE, MISH_SINCE = 24, 14, 18
DTYPES = {FLOAT16, FLOAT32, FLOAT64}
"""What HardSigmoid and HardSwish take in every version; integers would divide by 6 otherwise."""
HARD_TOLERANCE = 1e-3
"""How close alpha and beta of a HardSigmoid must be to 1/6 and 1/2 to be one of a HardSwish."""

_x = any_("x")


@rewrite(P.Mul(_x, P.Sigmoid(_x)))
def fuse_silu(x: Value, make: Maker) -> Value | None:
    """x·σ(x) = Swish(x)."""
    return make.Swish(x) if make.opset >= SWISH_SINCE else None


@rewrite(P.Mul(_x, P.Sigmoid(P.Mul(_x, number(name="alpha")))))
def fuse_swish(x: Value, alpha: float, make: Maker) -> Value | None:
    """x·σ(α·x) = Swish(x, α)."""
    return make.Swish(x, alpha=alpha) if make.opset >= SWISH_SINCE else None


@rewrite(P.Mul(_x, P.Tanh(P.Softplus(_x))))
def fuse_mish(x: Value, make: Maker) -> Value | None:
    """x·tanh(softplus(x)) = Mish(x)."""
    return make.Mish(x) if make.opset >= MISH_SINCE else None


_shifted = P.Add(_x, number(3.0))
_clipped = either(P.Clip(_shifted, const("low"), const("high")), P.Clip(_shifted, bind="clip"))


@rewrite(P.Div(_clipped, number(6.0)), P.Mul(_clipped, number(1 / 6)))
def fuse_hard_sigmoid(
    x: Value,
    make: Maker,
    low: Array | None = None,
    high: Array | None = None,
    clip: Node | None = None,
) -> Value | None:
    """clip(x + 3, 0, 6) / 6 = HardSigmoid(x, 1/6, 1/2)."""
    if not _is_six(low, high, clip) or make.fact(x).dtype not in DTYPES:
        return None
    return make.HardSigmoid(x, alpha=1 / 6, beta=0.5)


def _is_six(low: Array | None, high: Array | None, clip: Node | None) -> bool:
    """Whether the bounds, inputs or attributes, are 0 and 6."""
    if clip is not None:
        return (clip.attr("min"), clip.attr("max")) == (0.0, 6.0)
    return low is not None and high is not None and bool(np.all(low == 0) and np.all(high == 6))


@rewrite(
    P.Mul(_x, P.HardSigmoid(_x, bind="gate")),
    P.Div(P.Mul(_x, _clipped), number(6.0)),
    P.Mul(P.Mul(_x, _clipped), number(1 / 6)),
)
def fuse_hard_swish(
    x: Value,
    make: Maker,
    gate: Node | None = None,
    low: Array | None = None,
    high: Array | None = None,
    clip: Node | None = None,
) -> Value | None:
    """x·HardSigmoid(x, 1/6, 1/2) = HardSwish(x)."""
    if make.opset < HARD_SWISH_SINCE or make.fact(x).dtype not in DTYPES:
        return None
    if gate is None:
        return make.HardSwish(x) if _is_six(low, high, clip) else None
    slope, offset = gate.attr("alpha", 0.2), gate.attr("beta", 0.5)
    is_hard = np.allclose([slope, offset], [1 / 6, 0.5], rtol=HARD_TOLERANCE, atol=0)
    return make.HardSwish(x) if is_hard else None


RULES: tuple[Rule, ...] = (
    *fuse_silu,
    *fuse_swish,
    *fuse_mish,
    *fuse_hard_sigmoid,
    *fuse_hard_swish,
)
