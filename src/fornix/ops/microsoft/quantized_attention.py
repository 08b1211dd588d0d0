"""Attention whose projections are products of quantised matrices: QAttention."""

from __future__ import annotations

from fornix.dtype import FLOAT32
from fornix.errors import require
from fornix.ir.dim import divide
from fornix.ir.loops import Tensor
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.attention import (
    HIDDEN,
    Mask,
    check_attention,
    self_attention,
    whole_heads,
)
from fornix.ops.microsoft.attention_loops import LoopMask, lower_self_attention
from fornix.ops.microsoft.quantized_products import (
    infer_mat_mul_integer_to_float,
    lower_mat_mul_integer_to_float,
    mat_mul_integer_to_float,
)
from fornix.ops.microsoft.shapes import check_added, check_heads, check_projection, check_shape
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.types import F16, F32, I8, I32, U8

QAttention = op(
    """QAttention <do_rotary: int?, mask_filter_value: float?, num_heads: int,
                   past_present_share_buffer: int?, scale: float?, unidirectional: int = 0>
                  (input: T1, weight: T2, bias: T3, input_scale: T3, weight_scale: T3,
                   mask_index: T4?, input_zero_point: T1?, weight_zero_point: T2?, past: T3?)
               => (output: T3, present: T3?)""",
    since=1, domain=DOMAIN, T1=I8 | U8, T2=I8 | U8, T3=F16 | F32, T4=I32,
)  # fmt: skip


@QAttention.infer
def infer_q_attention(
    input: Fact,
    weight: Fact,
    bias: Fact,
    input_scale: Fact,
    weight_scale: Fact,
    mask_index: Fact | None = None,
    input_zero_point: Fact | None = None,
    weight_zero_point: Fact | None = None,
    past: Fact | None = None,
    *,
    num_heads: int,
    node: InferNode,
    **attributes: object,
) -> tuple[Fact, ...]:
    check_heads(num_heads)
    check_projection(input, weight, bias)
    infer_mat_mul_integer_to_float(
        input, weight, input_scale, weight_scale, input_zero_point, weight_zero_point
    )
    batch, length, _ = input.shape
    check_shape("past", past, (2, batch, num_heads, None, None))
    width = whole_heads(weight.shape[1] // 3, num_heads)
    before = past.shape[3] if past is not None and past.has_rank else 0
    if past is not None and not past.has_rank:
        before = node.unknown("the past's length")
    check_added("mask_index", mask_index, None, (batch, num_heads, length, before + length))
    present = (2, batch, num_heads, before + length, width // num_heads)
    dtype = bias.dtype
    return (tensor(dtype, (batch, length, width)), tensor(dtype, present))[: node.output_count]


@QAttention.kernel
def q_attention(
    input: Array,
    weight: Array,
    bias: Array,
    input_scale: Array,
    weight_scale: Array,
    mask_index: Array | None = None,
    input_zero_point: Array | None = None,
    weight_zero_point: Array | None = None,
    past: Array | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: RunNode,
) -> tuple[Array, ...]:
    """Attention whose queries, keys and values are a product of quantised matrices.

    q, k, v are thirds of MatMulIntegerToFloat(input, weight, …) + bias, and what follows is as in
    Attention: input[B, S, I] · weight[I, 3·V] → output[B, S, V], present[2, B, H, P + S, D].
    Source: onnxruntime's contributed operators, QAttention-1.
    """
    check_attention(do_rotary, past_present_share_buffer)
    columns = weight.shape[1]
    require(columns % 3 == 0, f"weight must have columns for three, found {columns}")
    together = mat_mul_integer_to_float(
        input, weight, input_scale, weight_scale, input_zero_point, weight_zero_point, bias
    )
    mask = Mask(mask_index, None, mask_filter_value, bool(unidirectional))
    results = self_attention(together, [columns // 3] * 3, num_heads, past, mask, scale, node)
    return tuple(x.astype(bias.dtype, copy=False) for x in results)


@QAttention.lower
def lower_q_attention(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    mask_index: Tensor | None = None,
    input_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    past: Tensor | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: LowerNode,
) -> tuple[Tensor | None, ...]:
    check_attention(do_rotary, past_present_share_buffer)
    third = divide(weight.shape[1], 3)
    together = lower_mat_mul_integer_to_float(
        input,
        weight,
        input_scale,
        weight_scale,
        input_zero_point,
        weight_zero_point,
        bias,
    )
    wide = cast_tensor(together, FLOAT32)
    mask = LoopMask(mask_index, None, mask_filter_value, bool(unidirectional))
    return lower_self_attention(wide, [third] * 3, num_heads, past, mask, scale, bias.dtype, node)
