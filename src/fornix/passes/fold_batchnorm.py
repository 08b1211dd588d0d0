"""Fold an inference BatchNormalization into the convolution or product that feeds it.

Conv(x, W, B) = W∗x + B,   BatchNorm(y) = (y − mean)·k + bias,   k = scale / √(var + ε)
⇒  BatchNorm(Conv(x, W, B)) = (k·W)∗x + (B − mean)·k + bias
"""

from __future__ import annotations

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.linear import channel_axis, scaled, weighted
from fornix.passes.make import Maker
from fornix.passes.pattern import P, const, rewrite


@rewrite(
    P.BatchNormalization(
        weighted, const("scale"), const("bias"), const("mean"), const("var"), bind="norm"
    )
)
def fold_batchnorm(
    x: Value,
    W: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    linear: Node,
    norm: Node,
    make: Maker,
    B: Array | None = None,
) -> Value | None:
    """One convolution with scaled filters; declines in training and for grouped transposes."""
    if norm.attr("training_mode", 0) or norm.attr("is_test", 1) == 0:
        return None
    if norm.attr("spatial", 1) != 1 or channel_axis(linear, W) is None:
        return None
    wide = np.float64
    k = scale.astype(wide) / np.sqrt(var.astype(wide) + norm.attr("epsilon", 1e-5))
    return scaled(linear, x, W, B, k, bias - mean.astype(wide) * k, make)


RULES = fold_batchnorm
