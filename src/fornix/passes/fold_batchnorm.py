"""Fold an inference BatchNormalization into the convolution or product that feeds it.

    Conv(x, W, B) = W∗x + B,   BatchNorm(y) = (y − mean)·k + bias,   k = scale / √(var + ε)
    ⇒  BatchNorm(Conv(x, W, B)) = (k·W)∗x + (B − mean)·k + bias

``k`` has one entry per output channel: axis 0 of a Conv's ``W``, axis 1 of a ConvTranspose's.
"""

from __future__ import annotations

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import Application, P, any_, const, rewrite


def _normalized(convolution: str) -> Application:
    return P.BatchNormalization(
        getattr(P, convolution)(any_("x"), const("W"), const("B?"), bind="conv", single_use=True),
        const("scale"),
        const("bias"),
        const("mean"),
        const("var"),
        bind="norm",
    )


@rewrite(_normalized("Conv"), _normalized("ConvTranspose"))
def fold_batchnorm(
    x: Value,
    W: Array,
    B: Array | None,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    conv: Node,
    norm: Node,
    make: Maker,
) -> Value | None:
    """One convolution with scaled filters; declines in training and for grouped transposes."""
    is_transposed = conv.op_type == "ConvTranspose"
    if norm.attr("training_mode", 0) or norm.attr("is_test", 1) == 0:
        return None
    if norm.attr("spatial", 1) != 1 or (is_transposed and conv.attr("group", 1) != 1):
        return None
    wide = np.float64
    k = scale.astype(wide) / np.sqrt(var.astype(wide) + norm.attr("epsilon", 1e-5))
    along = [1] * W.ndim
    along[1 if is_transposed else 0] = -1
    filters = (W * k.reshape(along)).astype(W.dtype)
    shift = ((0 if B is None else B) - mean.astype(wide)) * k + bias
    return make.node(conv.op_type, (x, filters, shift.astype(W.dtype)), dict(conv.attributes))


RULES = fold_batchnorm
