"""Forms of GELU: Gelu, BiasGelu, FastGelu, QuickGelu."""

from __future__ import annotations

from fornix.ops import scalar as s
from fornix.ops.activation import gelu, swish
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.pointwise import of_first
from fornix.ops.types import BF16, FLOAT


def _fast_gelu(x: s.Operand, bias: s.Operand | None = None) -> s.Operand:
    return gelu(x if bias is None else x + bias, approximate="tanh")


Gelu = op("Gelu (X: T) => (Y: T)", since=1, domain=DOMAIN, T=FLOAT | BF16).elementwise(
    lambda x: gelu(x, approximate="none"),
    "x · Φ(x), Φ the normal distribution: ½ · x · (1 + erf(x / √2)).",
)

BiasGelu = op(
    "BiasGelu (A: T, B: T) => (C: T)", since=1, domain=DOMAIN, T=FLOAT | BF16
).elementwise(
    lambda a, b: gelu(a + b, approximate="none"),
    "Gelu of A + B; B has one element per index of the last axis of A.",
    common_shape=of_first,
)

FastGelu = op(
    "FastGelu (X: T, bias: T?) => (Y: T)", since=1, domain=DOMAIN, T=FLOAT | BF16
).elementwise(
    _fast_gelu,
    "Gelu of X + bias, by ½ · z · (1 + tanh(√(2/π) · (z + 0.044715 · z³))).",
    common_shape=of_first,
)

QuickGelu = op(
    "QuickGelu <alpha: float = 1.702> (X: T) => (Y: T)", since=1, domain=DOMAIN, T=FLOAT | BF16
).elementwise(swish, "x · Sigmoid(alpha·x), near Gelu for alpha = 1.702.")
