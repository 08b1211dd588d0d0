"""Attention as it is written down, and products of quantized numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from fornix.dtype import DType
from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]


def linear_attention(case: Case) -> list[Any]:
    """A state per head; every step fades it, corrects what it knows of the key, and adds."""
    given = case.attributes
    q, k, v = (x.astype(np.float64) for x in case.inputs[:3])
    rest = [*case.inputs[3:], *[None] * (6 - len(case.inputs))]
    past, decay, beta = (None if x is None else x.astype(np.float64) for x in rest)
    heads, groups = given["q_num_heads"], given["kv_num_heads"]
    batch, steps, _ = q.shape
    size, width = k.shape[2] // groups, v.shape[2] // groups
    scale = given.get("scale") or size**-0.5
    y = np.zeros((batch, steps, heads, width))
    last = np.zeros((batch, groups, size, width))
    for b, g in np.ndindex(batch, groups):
        state = np.zeros((size, width)) if past is None else past[b, g]
        for t in range(steps):
            key = k[b, t, g * size : (g + 1) * size]
            value = v[b, t, g * width : (g + 1) * width]
            if decay is not None:
                own = decay[b, t].reshape(groups, -1)[g]
                state = np.exp(own)[:, None] * state
            if beta is not None:
                rate = beta[b, t, g if beta.shape[2] > 1 else 0]
                value = rate * (value - key @ state)
            state = state + np.outer(key, value)
            for h in range(g * heads // groups, (g + 1) * heads // groups):
                y[b, t, h] = scale * (q[b, t, h * size : (h + 1) * size] @ state)
        last[b, g] = state
    kept = case.inputs[0] if past is None else case.inputs[3]
    flat = y.reshape(batch, steps, heads * width)
    return [flat.astype(case.inputs[0].dtype), last.astype(kept.dtype)]


def flex_attention(case: Case) -> list[Any]:
    """Softmax of scaled products, without graphs that change scores or weights."""
    if case.inputs[0].dtype == np.float64 and "softmax_precision" in case.attributes:
        raise Refused("the precision is float32")
    q, k, v = (x.astype(np.float64) for x in case.inputs)
    share = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, share, axis=1) for x in (k, v))
    scores = q @ np.swapaxes(k, 2, 3) * case.attributes.get("scale", q.shape[3] ** -0.5)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ v
    return [y.astype(case.inputs[0].dtype)]


def qlinear_matmul(case: Case) -> list[Any]:
    """Quantized again: integers round to the nearest even and saturate, floats saturate."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (
        x.astype(np.float64) for x in case.inputs
    )
    product = ((a - a_zero) * a_scale) @ ((b - b_zero) * b_scale) / y_scale
    dtype = case.inputs[7].dtype
    if DType.of(dtype).is_float:
        most = float(ml_dtypes.finfo(dtype).max)
        return [np.clip(product + y_zero, -most, most).astype(dtype)]
    ends = np.iinfo(dtype)
    return [np.clip(np.rint(product) + y_zero, ends.min, ends.max).astype(dtype)]


FORMULAS: dict[str, Formula] = {
    "FlexAttention": flex_attention,
    "LinearAttention": linear_attention,
    "QLinearMatMul": qlinear_matmul,
}
