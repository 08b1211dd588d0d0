"""What decoders with linear attention are made of, as onnxruntime's tools write them.

LinearAttention and CausalConvWithState are those of the standard, which adopted them; states of
several steps (state_window) and images are refused. LinearAttentionGate computes their gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops import scalar as s
from fornix.ops.activation import sigmoid
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.conv_variants import causal_conv, infer_causal_conv, lower_causal_conv
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import of_rank
from fornix.ops.linear_attention import (
    infer_linear_attention,
    linear_attention,
    lower_linear_attention,
)
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.types import BF16, F16, F32

CausalConvWithState = op(
    """CausalConvWithState <activation: string = "none", channels_last: int = 0, dilation: int = 1,
                            ndim: int = 1, state_window: int = 0>
                           (input: T, weight: T, bias: T?, past_state: T?)
                        => (output: T, present_state: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32,
)  # fmt: skip


def _check_causal(ndim: int, state_window: int) -> None:
    require(ndim == 1, f"ndim must be 1, got {ndim}", NotSupported)
    _check_window(state_window)


def _check_window(state_window: int) -> None:
    require(
        state_window == 0,
        f"state_window must be 0, which keeps the last state alone, got {state_window}",
        NotSupported,
    )


@CausalConvWithState.infer
def infer_causal(
    input: Fact,
    weight: Fact,
    bias: Fact | None = None,
    past_state: Fact | None = None,
    *,
    activation: str,
    channels_last: int,
    dilation: int,
    ndim: int,
    state_window: int,
) -> tuple[Fact, Fact]:
    _check_causal(ndim, state_window)
    if not channels_last:
        return infer_causal_conv(
            input, weight, bias, past_state, activation=activation, dilation=dilation
        )
    y, state = infer_causal_conv(
        _turned_fact(of_rank(input, 3, "input")),
        weight,
        bias,
        None if past_state is None or not past_state.has_rank else _turned_fact(past_state),
        activation=activation,
        dilation=dilation,
    )
    return _turned_fact(y), _turned_fact(state)


def _turned_fact(x: Fact) -> Fact:
    """[B, L, C] of [B, C, L], and back."""
    return tensor(x.dtype, (x.shape[0], *reversed(x.shape[1:])))


@CausalConvWithState.kernel
def causal(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    past_state: Array | None = None,
    *,
    activation: str,
    channels_last: int,
    dilation: int,
    ndim: int,
    state_window: int,
) -> tuple[Array, ...]:
    """The standard's operator of the same name, whose taps may stand ``dilation`` places apart.

    input[B, C, L] · weight[C, 1, K] + bias[C] → output[B, C, L]; past_state and present_state are
    [B, C, (K − 1) · dilation]. With channels_last input, output and states are [B, L, C].
    Source: onnxruntime's contributed operators, CausalConvWithState-1.
    """
    _check_causal(ndim, state_window)

    def turn(x: Array) -> Array:
        return np.ascontiguousarray(x.swapaxes(1, 2)) if channels_last else x

    past = None if past_state is None else turn(past_state)
    results = causal_conv(turn(input), weight, bias, past, activation=activation, dilation=dilation)
    return tuple(map(turn, results))


@CausalConvWithState.lower
def lower_causal(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    activation: str,
    channels_last: int,
    dilation: int,
    ndim: int,
    state_window: int,
) -> tuple[Tensor, ...]:
    _check_causal(ndim, state_window)

    def turn(x: Tensor) -> Tensor:
        shape = (x.shape[0], *reversed(x.shape[1:]))
        return compute(shape, lambda b, i, j: x[b, j, i]) if channels_last else x

    past = None if past_state is None else turn(past_state)
    results = lower_causal_conv(
        turn(input), weight, bias, past, activation=activation, dilation=dilation
    )
    return tuple(map(turn, results))


LinearAttention = op(
    """LinearAttention <chunk_size: int = 64, kv_num_heads: int, q_num_heads: int,
                        scale: float = 0.0, state_window: int = 0,
                        update_rule: string = "gated_delta">
                       (query: T, key: T, value: T, past_state: S?, decay: T?, beta: T?)
                    => (output: T, present_state: S)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, S=BF16 | F16 | F32,
)  # fmt: skip


@LinearAttention.infer
def infer_linear(
    query: Fact,
    key: Fact,
    value: Fact,
    *inputs: Fact | None,
    state_window: int,
    node: InferNode,
    **given: Any,
) -> tuple[Fact, ...]:
    _check_window(state_window)
    return infer_linear_attention(query, key, value, *inputs, node=node, **given)


@LinearAttention.kernel
def linear(
    query: Array,
    key: Array,
    value: Array,
    *inputs: Array | None,
    state_window: int,
    **given: Any,
) -> tuple[Array, Array]:
    """The standard's operator of the same name, of which states of several steps may be asked.

    Source: onnxruntime's contributed operators, LinearAttention-1.
    """
    _check_window(state_window)
    return linear_attention(query, key, value, *inputs, **given)


@LinearAttention.lower
def lower_linear(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *inputs: Tensor | None,
    state_window: int,
    node: LowerNode,
    **given: Any,
) -> tuple[Tensor, Tensor]:
    _check_window(state_window)
    return lower_linear_attention(query, key, value, *inputs, node=node, **given)


LinearAttentionGate = op(
    """LinearAttentionGate (a: T, dt_bias: TF, decay_scale: TF, b: T?) => (decay: T, beta: T?)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, TF=F32,
)  # fmt: skip


@LinearAttentionGate.infer
def infer_gate(
    a: Fact, dt_bias: Fact, decay_scale: Fact, b: Fact | None = None, *, node: InferNode
) -> tuple[Fact, ...]:
    require(
        b is not None or not node.wants(1),
        "b is required where the output beta is asked for, found none",
    )
    heads = a.shape[-1:]
    check_shape("dt_bias", dt_bias, heads)
    check_shape("decay_scale", decay_scale, heads)
    decay = tensor(a.dtype, a.shape)
    return (decay,) if b is None else (decay, tensor(b.dtype, b.shape))


def _decay(a: s.Operand, dt_bias: s.Operand, decay_scale: s.Operand) -> s.Operand:
    return decay_scale * s.softplus(a + dt_bias)


@LinearAttentionGate.kernel
def gate(a: Array, dt_bias: Array, decay_scale: Array, b: Array | None = None) -> tuple[Array, ...]:
    """How fast each head of LinearAttention forgets, and how fast it learns.

    decay = decay_scale · log(1 + exp(a + dt_bias)),   beta = 1 / (1 + e⁻ᵇ)
    a, b[B, T, H] · dt_bias, decay_scale[H] → decay, beta[B, T, H]. Computes in float32.
    Source: onnxruntime's contributed operators, LinearAttentionGate-1.
    """
    check_extents("dt_bias", dt_bias.shape, a.shape[-1:])
    check_extents("decay_scale", decay_scale.shape, a.shape[-1:])
    decay = _decay(a.astype(np.float32), dt_bias, decay_scale).astype(a.dtype)
    return (decay,) if b is None else (decay, sigmoid(b.astype(np.float32)).astype(b.dtype))


@LinearAttentionGate.lower
def lower_gate(
    a: Tensor, dt_bias: Tensor, decay_scale: Tensor, b: Tensor | None = None
) -> tuple[Tensor, ...]:
    def decay(*i: DimLike) -> Scalar:
        wide = cast(a[i], FLOAT32)
        return cast(_decay(wide, dt_bias[i[-1]], decay_scale[i[-1]]), a.dtype)

    forgets = compute(a.shape, decay)
    if b is None:
        return (forgets,)
    rates = b
    return forgets, compute(b.shape, lambda *i: cast(sigmoid(cast(rates[i], FLOAT32)), a.dtype))
