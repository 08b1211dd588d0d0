"""Normalizations of sums: SkipLayerNormalization, its simplified form, EmbedLayerNormalization."""

from __future__ import annotations

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT32, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index
from fornix.ops.along import along, mapped, mean_along, with_units
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.gather import gather, lower_taken
from fornix.ops.geometry import broadcast_shapes, normalize_axis, shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_broadcast, check_shape
from fornix.ops.norm import (
    at_least,
    infer_rms_normalization,
    layer_normalization,
    lower_at_least,
    lower_layer_normalization,
    lower_rms_normalization,
    rms_normalization,
    square,
)
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, mean_over, wide_dtype, wide_element, widened
from fornix.ops.scalar import sqrt
from fornix.ops.types import BF16, F16, F32, F64, FLOAT, I32

SimplifiedLayerNormalization = op(
    """SimplifiedLayerNormalization <axis: int = -1, epsilon: float = 1e-05, stash_type: int = 1>
                                    (X: T, scale: V) => (Y: V, inv_std_var: U?)""",
    since=1, T=FLOAT | BF16, U=F32 | F64, V=FLOAT | BF16,
)  # fmt: skip


@SimplifiedLayerNormalization.infer
def infer_simplified(
    x: Fact, scale: Fact, *, axis: int, epsilon: float, stash_type: int
) -> tuple[Fact, Fact]:
    first = normalize_axis(axis, x.rank)
    y = infer_rms_normalization(x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)
    wide = FLOAT64 if FLOAT64 in {x.dtype, DType.of(stash_type)} else FLOAT32
    return y, tensor(wide, (*x.shape[:first], *[1] * (x.rank - first)))


@SimplifiedLayerNormalization.kernel
def simplified_layer_normalization(
    x: Array, scale: Array, *, axis: int, epsilon: float, stash_type: int
) -> tuple[Array, Array]:
    """RMSNormalization, which also gives the factor: y = x · inv_std_var · scale.

    inv_std_var = (E[x²] + epsilon)^(−1/2) over the axes from ``axis`` on;  x[*P, *Q] → y[*P, *Q],
    inv_std_var[*P, 1 …]. It stands in the default domain, where the standard has no such operator.
    Source: onnxruntime's contributed operators, SimplifiedLayerNormalization-1.
    """
    y = rms_normalization(x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)
    return y, _inverse_root(at_least(x, DType.of(stash_type).numpy), axis, epsilon)


def _inverse_root(wide: Array, axis: int, epsilon: float) -> Array:
    axes = range(normalize_axis(axis, wide.ndim), wide.ndim)
    mean = mean_over(np.square(wide), axes)
    return np.asarray(1 / np.sqrt(mean + wide.dtype.type(epsilon)))


@SimplifiedLayerNormalization.lower
def lower_simplified(
    x: Tensor, scale: Tensor, *, axis: int, epsilon: float, stash_type: int
) -> tuple[Tensor, Tensor]:
    y = lower_rms_normalization(x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)
    return y, _lower_inverse_root(lower_at_least(x, DType.of(stash_type)), axis, epsilon)


def _lower_inverse_root(wide: Tensor, axis: int, epsilon: float) -> Tensor:
    axes = range(normalize_axis(axis, wide.rank), wide.rank)
    mean = mean_along(mapped(square, wide), axes)
    return with_units(mapped(lambda v: 1.0 / sqrt(v + epsilon), mean), axes)


SkipLayerNormalization = op(
    """SkipLayerNormalization <epsilon: float = 1e-12>
                              (input: T, skip: T, gamma: T, beta: T?, bias: T?)
                           => (output: T, mean: U?, inv_std_var: U?, input_skip_bias_sum: T?)""",
    since=1, domain=DOMAIN, T=F16 | F32 | BF16, U=F32,
)  # fmt: skip


@SkipLayerNormalization.infer
def infer_skip(
    input: Fact,
    skip: Fact,
    gamma: Fact,
    beta: Fact | None = None,
    bias: Fact | None = None,
    *,
    epsilon: float,
) -> tuple[Fact, ...]:
    _check_summand("skip", skip, input)
    for name, fact in (("gamma", gamma), ("beta", beta), ("bias", bias)):
        check_shape(name, fact, input.shape[-1:])
    whole = tensor(input.dtype, input.shape)
    statistics = tensor(FLOAT32, (*input.shape[:-1], 1))
    return whole, statistics, statistics, whole


def _check_summand(name: str, other: Fact, x: Fact) -> None:
    if other.has_rank and x.has_rank:
        extents = broadcast_shapes(x.shape, other.shape)
        fits = len(extents) == len(x.shape) and all(
            equal(extent, own) is not False for extent, own in zip(extents, x.shape, strict=True)
        )
        require(
            fits,
            f"{name}{shape_text(other.shape)} must broadcast to input{shape_text(x.shape)}",
        )


@SkipLayerNormalization.kernel
def skip_layer_normalization(
    input: Array,
    skip: Array,
    gamma: Array,
    beta: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
) -> tuple[Array, ...]:
    """LayerNormalization over the last axis of a sum, which may be an output too.

    s = input + skip + bias,   output = (s − mean) · (var + epsilon)^(−1/2) · gamma + beta
    input[B, S, H] · skip[B, S, H], [1, S, H] or [S, H] · gamma, beta, bias[H] → output[B, S, H],
    mean[B, S, 1], inv_std_var[B, S, 1], input_skip_bias_sum[B, S, H]. Computes in float32.
    Source: onnxruntime's contributed operators, SkipLayerNormalization-1.
    """
    total = _summed(input, skip, bias)
    y, mean, inverse = layer_normalization(total, gamma, beta, epsilon=epsilon)
    return y.astype(input.dtype, copy=False), mean, inverse, total.astype(input.dtype, copy=False)


def _summed(input: Array, skip: Array, bias: Array | None) -> Array:
    total: Array = widened(input) + widened(skip)
    require(
        total.shape == input.shape,
        f"skip{shape_text(skip.shape)} must broadcast to input{shape_text(input.shape)}",
    )
    return total if bias is None else total + widened(bias)


@SkipLayerNormalization.lower
def lower_skip(
    input: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float,
) -> tuple[Tensor, ...]:
    total = _lower_summed(input, skip, bias)
    y, mean, inverse = lower_layer_normalization(total, gamma, beta, epsilon=epsilon)
    return cast_tensor(y, input.dtype), mean, inverse, cast_tensor(total, input.dtype)


def _lower_summed(input: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    def at(*i: DimLike) -> Scalar:
        total = wide_element(input, i) + wide_element(skip, i)
        return total if bias is None else total + wide_element(bias, i)

    return compute(input.shape, at)


SkipSimplifiedLayerNormalization = op(
    """SkipSimplifiedLayerNormalization <epsilon: float = 1e-12>
                                        (input: T, skip: T, gamma: T, bias: T?)
                                     => (output: T, mean: U?, inv_std_var: U?,
                                         input_skip_bias_sum: T?)""",
    since=1, domain=DOMAIN, T=F16 | F32 | BF16, U=F32,
)  # fmt: skip


@SkipSimplifiedLayerNormalization.infer
def infer_skip_simplified(
    input: Fact, skip: Fact, gamma: Fact, bias: Fact | None = None, *, epsilon: float
) -> tuple[Fact, ...]:
    return infer_skip(input, skip, gamma, None, bias, epsilon=epsilon)


@SkipSimplifiedLayerNormalization.kernel
def skip_simplified_layer_normalization(
    input: Array, skip: Array, gamma: Array, bias: Array | None = None, *, epsilon: float
) -> tuple[Array, ...]:
    """RMSNormalization over the last axis of a sum, which may be an output too.

    s = input + skip + bias,   output = s · (E[s²] + epsilon)^(−1/2) · gamma, shapes as in
    SkipLayerNormalization. Nothing has a mean here: that output is 0. Computes in float32.
    Source: onnxruntime's contributed operators, SkipSimplifiedLayerNormalization-1.
    """
    total = _summed(input, skip, bias)
    y = rms_normalization(total, widened(gamma), epsilon=epsilon)
    inverse = _inverse_root(total, -1, epsilon)
    mean = np.zeros_like(inverse)
    return y.astype(input.dtype, copy=False), mean, inverse, total.astype(input.dtype, copy=False)


@SkipSimplifiedLayerNormalization.lower
def lower_skip_simplified(
    input: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, *, epsilon: float
) -> tuple[Tensor, ...]:
    total = _lower_summed(input, skip, bias)
    wide = cast_tensor(gamma, wide_dtype(gamma.dtype))
    y = lower_rms_normalization(total, wide, epsilon=epsilon)
    inverse = _lower_inverse_root(total, -1, epsilon)
    mean = compute(inverse.shape, lambda *_: 0.0, FLOAT32)
    return cast_tensor(y, input.dtype), mean, inverse, cast_tensor(total, input.dtype)


EmbedLayerNormalization = op(
    """EmbedLayerNormalization <epsilon: float = 1e-12, mask_index_type: int?>
                               (input_ids: T1, segment_ids: T1?, word_embedding: T,
                                position_embedding: T, segment_embedding: T?, gamma: T, beta: T,
                                mask: T1?, position_ids: T1?)
                            => (output: T, mask_index: T1?, embedding_sum: T?)""",
    since=1, domain=DOMAIN, T=F16 | F32, T1=I32,
)  # fmt: skip


@EmbedLayerNormalization.infer
def infer_embed(
    input_ids: Fact,
    segment_ids: Fact | None,
    word_embedding: Fact,
    position_embedding: Fact,
    segment_embedding: Fact | None,
    gamma: Fact,
    beta: Fact,
    mask: Fact | None = None,
    position_ids: Fact | None = None,
    *,
    epsilon: float,
    mask_index_type: int = 0,
    node: InferNode,
) -> tuple[Fact, ...]:
    width = word_embedding.shape[-1] if word_embedding.has_rank else node.unknown("its width")
    tables = (word_embedding, position_embedding, segment_embedding)
    for name, table in zip(("word", "position", "segment"), tables, strict=True):
        check_shape(f"{name}_embedding", table, (None, width))
    check_shape("gamma", gamma, (width,))
    check_shape("beta", beta, (width,))
    check_shape("segment_ids", segment_ids, input_ids.shape)
    check_shape("mask", mask, input_ids.shape)
    check_broadcast("position_ids", position_ids, input_ids.shape)
    whole = tensor(word_embedding.dtype, (*input_ids.shape, width))
    return whole, tensor(INT32, input_ids.shape[:1]), whole


@EmbedLayerNormalization.kernel
def embed_layer_normalization(
    input_ids: Array,
    segment_ids: Array | None,
    word_embedding: Array,
    position_embedding: Array,
    segment_embedding: Array | None,
    gamma: Array,
    beta: Array,
    mask: Array | None = None,
    position_ids: Array | None = None,
    *,
    epsilon: float,
    mask_index_type: int = 0,
) -> tuple[Array, ...]:
    """LayerNormalization over the last axis of the sum of up to three embeddings.

    s[b, i] = word[input_ids[b, i]] + position[position_ids[b, i]] + segment[segment_ids[b, i]];
    position_ids are 0 … S − 1 if absent, and one row of them serves every batch.
    input_ids[B, S] → output[B, S, H], mask_index[B], how many elements of a row of ``mask`` are 1,
    or 0 without mask, embedding_sum[B, S, H]. Computes in float32.
    Source: onnxruntime's contributed operators, EmbedLayerNormalization-1.
    """
    width = word_embedding.shape[-1:]
    require(
        gamma.shape == beta.shape == width,
        f"gamma and beta must have shape {shape_text(width)}, got gamma{shape_text(gamma.shape)} "
        f"and beta{shape_text(beta.shape)}",
    )
    length = input_ids.shape[1]
    places = np.arange(length)[None] if position_ids is None else position_ids
    total = widened(gather(word_embedding, input_ids, axis=0))
    total = total + widened(gather(position_embedding, places, axis=0))
    if segment_ids is not None and segment_embedding is not None:
        total = total + widened(gather(segment_embedding, segment_ids, axis=0))
    [y, *_] = layer_normalization(total, gamma, beta, epsilon=epsilon)
    dtype = word_embedding.dtype
    count = np.zeros(len(input_ids)) if mask is None else (mask == 1).sum(axis=1)
    return y.astype(dtype, copy=False), count.astype(np.int32), total.astype(dtype, copy=False)


@EmbedLayerNormalization.lower
def lower_embed(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    epsilon: float,
    mask_index_type: int = 0,
) -> tuple[Tensor, ...]:
    batch, length = input_ids.shape
    places = position_ids or compute((1, length), lambda _, i: cast(index(i), INT32))
    parts = [
        lower_taken(word_embedding, input_ids, 0),
        lower_taken(position_embedding, places, 0),
    ]
    if segment_ids is not None and segment_embedding is not None:
        parts.append(lower_taken(segment_embedding, segment_ids, 0))

    def at(*i: DimLike) -> Scalar:
        first, *rest = (wide_element(part, i) for part in parts)
        for part in rest:
            first = first + part
        return first

    total = compute((batch, length, word_embedding.shape[1]), at)
    [y, *_] = lower_layer_normalization(total, gamma, beta, epsilon=epsilon)
    dtype = word_embedding.dtype
    return cast_tensor(y, dtype), _lower_count(mask, batch), cast_tensor(total, dtype)


def _lower_count(mask: Tensor | None, batch: DimLike) -> Tensor:
    if mask is None:
        return compute((batch,), lambda *_: 0, INT32)
    return along("sum", mapped(lambda m: cast(apply("eq", m, 1), INT32), mask), [1])
