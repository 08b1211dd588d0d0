"""Embeddings whose tables are quantised: QEmbedLayerNormalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fornix.dtype import FLOAT32, INT32
from fornix.errors import require
from fornix.ir.loops import Tensor, cast, compute
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.norm import embed_layer_normalization, infer_embed, lower_embed
from fornix.ops.op import op
from fornix.ops.quantize_loops import lower_single
from fornix.ops.quantized_products import check_one_number, one_number
from fornix.ops.types import F32, I8, I32, U8

D = TypeVar("D", Array, Tensor)

QEmbedLayerNormalization = op(
    """QEmbedLayerNormalization <epsilon: float = 1e-12>
                                (input_ids: T1, segment_ids: T1?, word_embedding_quant: T2,
                                 position_embedding_quant: T2, segment_embedding: T2?,
                                 gamma_quant: T2, beta_quant: T2, mask: T1?,
                                 word_embedding_scale: T, position_embedding_scale: T,
                                 segment_embedding_scale: T?, gamma_scale: T, beta_scale: T,
                                 word_embedding_zero_point: T2, position_embedding_zero_point: T2,
                                 segment_embedding_zero_point: T2?, gamma_zero_point: T2,
                                 beta_zero_point: T2)
                             => (layernorm_out: T, mask_index_out: T1)""",
    since=1, domain=DOMAIN, T1=I32, T2=I8 | U8, T=F32,
)  # fmt: skip

TABLES, SEGMENT = 5, 2
"""What has a scale and, so many inputs later, a zero point; the place of the segments."""


@QEmbedLayerNormalization.infer
def infer_q_embed(
    input_ids: Fact,
    segment_ids: Fact | None,
    word: Fact,
    position: Fact,
    segment: Fact | None,
    gamma: Fact,
    beta: Fact,
    mask: Fact | None,
    *how: Fact | None,
    epsilon: float,
    node: InferNode,
) -> tuple[Fact, Fact]:
    _check_segment(segment, how)
    for scale, zero in zip(how[:TABLES], how[TABLES:], strict=False):
        check_one_number(**{"a scale": scale, "a zero point": zero})
    whole, count, _ = infer_embed(
        input_ids, segment_ids, word, position, segment, gamma, beta, mask,
        epsilon=epsilon, node=node,
    )  # fmt: skip
    return tensor(FLOAT32, whole.shape), count


def _check_segment(segment: object, how: Sequence[object]) -> None:
    require(
        segment is None or (how[SEGMENT] is not None and how[TABLES + SEGMENT] is not None),
        "segment_embedding needs its scale and zero point, found only the table",
    )


def _numbers(
    numbers: Callable[[D, int], D], word: D, position: D, segment: D | None, gamma: D, beta: D
) -> tuple[D, D, D | None, D, D]:
    """What the tables stand for, each with the scale and the zero point of its place."""
    return (
        numbers(word, 0),
        numbers(position, 1),
        None if segment is None else numbers(segment, SEGMENT),
        numbers(gamma, 3),
        numbers(beta, 4),
    )


@QEmbedLayerNormalization.kernel
def q_embed_layer_normalization(
    input_ids: Array,
    segment_ids: Array | None,
    word: Array,
    position: Array,
    segment: Array | None,
    gamma: Array,
    beta: Array,
    mask: Array | None,
    *how: Array,
    epsilon: float,
) -> tuple[Array, Array]:
    """EmbedLayerNormalization of tables that are quantised.

    A table, gamma and beta stand for (x − zero point) · scale, with one scale and one zero point
    each;  input_ids[B, S] → layernorm_out[B, S, H], mask_index_out[B].
    Source: onnxruntime's contributed operators, QEmbedLayerNormalization-1.
    """
    _check_segment(segment, how)

    def numbers(x: Array, place: int) -> Array:
        zero = one_number("a zero point", how[TABLES + place]).astype(np.int32)
        steps = (x.astype(np.int32) - zero).astype(np.float32)
        return np.asarray(steps * one_number("a scale", how[place]))

    tables = _numbers(numbers, word, position, segment, gamma, beta)
    y, count, _ = embed_layer_normalization(input_ids, segment_ids, *tables, mask, epsilon=epsilon)
    return y, count


@QEmbedLayerNormalization.lower
def lower_q_embed(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word: Tensor,
    position: Tensor,
    segment: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None,
    *how: Tensor,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    def numbers(x: Tensor, place: int) -> Tensor:
        zero = lower_single(how[TABLES + place], INT32)
        scale = lower_single(how[place], FLOAT32)
        return compute(x.shape, lambda *i: cast(cast(x[i], INT32) - zero, FLOAT32) * scale)

    tables = _numbers(numbers, word, position, segment, gamma, beta)
    y, count, _ = lower_embed(input_ids, segment_ids, *tables, mask, epsilon=epsilon)
    return y, count
