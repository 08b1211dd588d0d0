"""What scales and shifts the results of a convolution or product can be multiplied ahead of time.

    Conv(x, W, B)·k + b = Conv(x, k·W, k·B + b)

``k`` and ``b`` have one entry per output channel, which is axis 0 of a Conv's ``W``, axis 1 of a
ConvTranspose's, and the columns of a product's. `fold_batchnorm` and `fold_affine` build on this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Pattern, any_, const, either

CONVOLUTIONS = {"Conv", "ConvTranspose"}

weighted: Pattern = either(
    P.Conv(any_("x"), const("W"), const("B?"), bind="linear", single_use=True),
    P.ConvTranspose(any_("x"), const("W"), const("B?"), bind="linear", single_use=True),
    P.Gemm(any_("x"), const("W"), const("B?"), bind="linear", single_use=True),
    P.MatMul(any_("x"), const("W"), bind="linear", single_use=True),
)
"""A convolution or product whose weights are constants and whose result nobody else reads."""


def channel_axis(node: Node, W: Array) -> int | None:
    """The axis of ``W`` that output channels stand on; None if there is no single one."""
    if W.dtype.kind not in "fV":
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if node.attr("group", 1) == 1 else None
    if W.ndim != 2:
        return None
    return 0 if node.attr("transB", 0) else 1


def per_channel(node: Node, W: Array, factor: Array) -> Array | None:
    """``factor``, which broadcasts against the result, as one number per channel, if it is one."""
    axis = channel_axis(node, W)
    if axis is None:
        return None
    channels, aligned, place = W.shape[axis], factor.shape or (1,), -1
    if node.op_type in CONVOLUTIONS:
        if factor.ndim > W.ndim:
            return None
        aligned, place = (1,) * (W.ndim - factor.ndim) + factor.shape, 1
    if aligned[place] not in {1, channels} or factor.size != aligned[place]:
        return None
    return np.broadcast_to(factor.reshape(-1).astype(np.float64), (channels,))


def scaled(
    linear: Node, x: Value, W: Array, B: Array | None, k: Array | None, b: Array | None, make: Maker
) -> Value | None:
    """``linear(x, W, B)·k + b``; declines if a weight would leave the range of its dtype."""
    bias = _bias(linear, W, B)
    if (B is not None and bias is None) or not _takes_bias(linear, x, b, make):
        return None
    weights = W if k is None else _rounded(W * _along(linear, W, k), W)
    if bias is not None and k is not None:
        bias = bias * k
    if b is not None:
        bias = b if bias is None else bias + b
    stored = None if bias is None else _rounded(bias, W)
    if weights is None or (stored is None and bias is not None):
        return None
    return _made(linear, x, weights, stored, make)


def _takes_bias(linear: Node, x: Value, b: Array | None, make: Maker) -> bool:
    """Whether there is a way to add ``b``: of products only those of matrices have one."""
    if b is None or linear.op_type != "MatMul":
        return True
    fact = make.fact(x)
    return fact.has_rank and fact.rank == 2


def _along(linear: Node, W: Array, k: Array) -> Array:
    """``k`` in a shape that broadcasts along the output channels of ``W``."""
    shape = [1] * W.ndim
    shape[channel_axis(linear, W) or 0] = -1
    return k.reshape(shape)


def _bias(linear: Node, W: Array, B: Array | None) -> Array | None:
    """The bias per channel as it is added: Gemm multiplies it by beta."""
    if B is None:
        return None
    if linear.op_type != "Gemm":
        return B.astype(np.float64)
    found = per_channel(linear, W, B)
    return None if found is None else found * linear.attr("beta", 1.0)


def _rounded(wide: Array, like: Array) -> Array | None:
    """``wide`` in the dtype of ``like``; None if it does not fit."""
    rounded = wide.astype(like.dtype)
    is_finite = np.isfinite(rounded.astype(np.float64)).all()
    return rounded if is_finite else None


def _made(linear: Node, x: Value, W: Array, B: Array | None, make: Maker) -> Value:
    attributes: dict[str, Any] = dict(linear.attributes)
    if linear.op_type == "MatMul":
        return make.MatMul(x, W) if B is None else make.Gemm(x, W, B)
    if linear.op_type == "Gemm" and B is not None:
        attributes["beta"] = 1.0
    return make.node(linear.op_type, (x, W, B), attributes)
