"""Attention as onnxruntime fuses it: Attention, MultiHeadAttention.

All bring queries, keys and values into [batch, heads, length, size], say by numbers that are added
to the scores which keys are seen, and leave the rest to the standard's rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, divide, known
from fornix.ir.loops import Tensor, cast, compute, stored
from fornix.ops.attention import average, similarity, softmax
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import lower_multiply, multiply
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.attention_loops import (
    LoopMask,
    attended,
    heads_apart,
    heads_together,
    lower_self_attention,
    with_bias,
)
from fornix.ops.microsoft.shapes import (
    check_added,
    check_ends,
    check_extents,
    check_heads,
    check_projection,
    check_shape,
)
from fornix.ops.move import lower_concat
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, widened
from fornix.ops.types import BF16, F16, F32, I32

HIDDEN = -10_000.0
"""What is added to the score of a key that a mask hides, unless mask_filter_value says another."""


def split(x: Array, heads: int) -> Array:
    """x[B, L, H·D] as [B, H, L, D]."""
    require(
        x.ndim == 3 and x.shape[2] % heads == 0,
        f"[batch, length, {heads} heads · size] is required, found {shape_text(x.shape)}",
    )
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def joined(x: Array) -> Array:
    """x[B, H, L, D] as [B, L, H·D]."""
    batch, heads, length, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, heads * size)


def _padding(mask: Array, batch: int, queries: int, keys: int) -> Array:
    """Which keys a mask leaves, [B, 1, S or 1, T].

    It has an element for each key, or for each query and key, or tells where the keys of each batch
    end, and, in a second row, where they begin; behind it may be sums of lengths.
    """
    if mask.ndim == 1:
        place = np.arange(keys)
        ends = mask[:batch].reshape(-1, 1, 1, 1)
        seen = place < ends
        if len(mask) == 2 * batch:
            seen = seen & (place >= mask[batch:].reshape(-1, 1, 1, 1))
        check_ends(len(mask), batch)
        return np.asarray(seen)
    if mask.ndim == 2:
        return np.asarray(mask[:, None, None, :] > 0)
    if mask.ndim == 3:
        return np.asarray(mask[:, None] > 0)
    require(
        mask.shape[1] == 1,
        f"a mask of four axes must be the same for all heads, found {shape_text(mask.shape)}",
    )
    past = keys - queries
    return np.asarray(mask[:, :, past : past + queries, :keys] > 0)


def _added(
    mask: Array | None,
    bias: Array | None,
    extents: tuple[int, int, int],
    filter_value: float,
    is_causal: bool,
) -> Array | None:
    """What is added to scores [B, H, S, T]: a bias, and numbers that hide keys."""
    batch, queries, keys = extents
    total = None if bias is None else widened(bias)
    if mask is not None:
        hidden = np.where(_padding(mask, batch, queries, keys), 0, filter_value).astype(np.float32)
        total = hidden if total is None else total + hidden
    if is_causal:
        later = np.arange(keys) > np.arange(queries)[:, None] + (keys - queries)
        ahead = np.where(later, -np.inf, 0).astype(np.float32)
        total = ahead if total is None else total + ahead
    return total


def with_added(scores: Array, added: Array | None) -> Array:
    """``scores`` and what broadcasts to them."""
    if added is None:
        return scores
    total = np.asarray(scores + added)
    require(
        total.shape == scores.shape,
        f"masks and attention_bias must broadcast to {shape_text(scores.shape)}, "
        f"found {shape_text(added.shape)}",
    )
    return total


def _attended(
    q: Array, k: Array, v: Array, added: Array | None, scale: float
) -> tuple[Array, Array]:
    """softmax(q · kᵀ · scale + added) · v as [B, S, H·E], and the scores."""
    require(
        q.shape[3] == k.shape[3] and k.shape[:3] == v.shape[:3],
        f"queries, keys and values must fit, found {shape_text(q.shape)}, {shape_text(k.shape)} "
        f"and {shape_text(v.shape)} of form [batch, heads, length, size]",
    )
    scores = similarity(q, k, scale or None)
    scores = with_added(scores, added)
    return joined(average(softmax(scores, empty=0.0), v)), scores


Attention = op(
    """Attention <do_rotary: int?, mask_filter_value: float?, num_heads: int,
                  past_present_share_buffer: int?, qkv_hidden_sizes: ints?,
                  rotary_embedding_dim: int?, scale: float?, unidirectional: int = 0>
                 (input: T, weights: T, bias: T?, mask_index: M?, past: T?, attention_bias: T?,
                  past_sequence_length: M?)
              => (output: T, present: T?)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, M=I32,
)  # fmt: skip


def check_attention(do_rotary: int, share: int) -> None:
    """Raise NotSupported for what rotates, or writes its cache in place."""
    require(not do_rotary, f"do_rotary must be 0, got {do_rotary}", NotSupported)
    require(not share, f"past_present_share_buffer must be 0, got {share}", NotSupported)


def _widths(columns: int, sizes: list[int] | None) -> list[int]:
    """Columns of the queries, keys and values among the projection's."""
    if sizes:
        require(
            len(sizes) == 3 and sum(sizes) == columns,
            f"qkv_hidden_sizes must be three numbers with the sum {columns}, got {sizes}",
        )
        return sizes
    require(columns % 3 == 0, f"weights must have columns for three, found {columns}")
    return [columns // 3] * 3


def whole_heads(width: DimLike, heads: int) -> DimLike:
    """``width`` columns of so many heads as these have them, of one size each."""
    return heads * divide(width, heads)


def _lower_widths(columns: DimLike, sizes: list[int] | None) -> Sequence[DimLike]:
    """`_widths` for lowerings."""
    count = known(columns)
    return (
        [divide(columns, 3)] * 3
        if count is None and not sizes
        else _widths(count or sum(sizes or []), sizes)
    )


@Attention.infer
def infer_attention(
    input: Fact,
    weights: Fact,
    bias: Fact | None = None,
    mask_index: Fact | None = None,
    past: Fact | None = None,
    attention_bias: Fact | None = None,
    past_sequence_length: Fact | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: InferNode,
) -> tuple[Fact, ...]:
    check_heads(num_heads)
    check_projection(input, weights, bias)
    batch, length, _ = input.shape
    check_shape("past", past, (2, batch, num_heads, None, None))
    width = qkv_hidden_sizes[2] if qkv_hidden_sizes else weights.shape[1] // 3
    width = whole_heads(width, num_heads)
    before = past.shape[3] if past is not None and past.has_rank else 0
    if past is not None and not past.has_rank:
        before = node.unknown("the past's length")
    scores = (batch, num_heads, length, before + length)
    check_added("mask_index", mask_index, attention_bias, scores)
    present = (2, batch, num_heads, before + length, width // num_heads)
    return tensor(input.dtype, (batch, length, width)), tensor(input.dtype, present)


@Attention.kernel
def attention(
    input: Array,
    weights: Array,
    bias: Array | None = None,
    mask_index: Array | None = None,
    past: Array | None = None,
    attention_bias: Array | None = None,
    past_sequence_length: Array | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: RunNode,
) -> tuple[Array, ...]:
    """Self-attention with the projections to queries, keys and values in front.

    q, k, v = input · weights + bias, cut by qkv_hidden_sizes or in three;  per head
    output = softmax(q · kᵀ · scale + attention_bias + mask) · v;  scale = 1/√size if 0.
    input[B, S, I] · weights[I, Q + K + V] + bias → output[B, S, V], present[2, B, H, P + S, D];
    past[2, B, H, P, D] precedes the keys and values. The mask adds mask_filter_value for hidden
    keys: mask_index is 0 there, [B, T], [B, S, T] or [B, 1, M, M], or it has the lengths of the
    keys, [B], alone or ahead of where they begin, [2·B], or of lengths summed up, which say nothing
    more, [3·B + 2]. unidirectional hides keys behind a query's position.
    Source: onnxruntime's contributed operators, Attention-1.
    """
    check_attention(do_rotary, past_present_share_buffer)
    columns = _widths(weights.shape[1], qkv_hidden_sizes)
    together = multiply(widened(input), widened(weights))
    if bias is not None:
        together = together + widened(bias)
    mask = Mask(mask_index, attention_bias, mask_filter_value, bool(unidirectional))
    results = self_attention(together, columns, num_heads, past, mask, scale, node)
    return tuple(x.astype(input.dtype, copy=False) for x in results)


@Attention.lower
def lower_attention(
    input: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: LowerNode,
) -> tuple[Tensor | None, ...]:
    check_attention(do_rotary, past_present_share_buffer)
    columns = _lower_widths(weights.shape[1], qkv_hidden_sizes)
    product = lower_multiply(input, weights)
    together = product
    if bias is not None:
        together = compute(product.shape, lambda *i: product[i] + cast(bias[i[-1]], product.dtype))
    mask = LoopMask(mask_index, attention_bias, mask_filter_value, bool(unidirectional))
    dtype = input.dtype
    return lower_self_attention(together, columns, num_heads, past, mask, scale, dtype, node)


@dataclass(frozen=True)
class Mask:
    """What says which keys are seen."""

    index: Array | None
    bias: Array | None
    filter_value: float
    is_causal: bool


def self_attention(
    together: Array,
    columns: list[int],
    num_heads: int,
    past: Array | None,
    mask: Mask,
    scale: float,
    node: RunNode,
) -> tuple[Array, ...]:
    """Attention of queries, keys and values that lie side by side, in float32 or wider.

    Keys and values, the past ahead of them, come second, if the node wants them.
    """
    parts = np.split(together, np.cumsum(columns)[:2], axis=2)
    q, k, v = (split(part, num_heads) for part in parts)
    if past is not None:
        k = np.concatenate([widened(past[0]), k], axis=2)
        v = np.concatenate([widened(past[1]), v], axis=2)
    extents = (len(together), q.shape[2], k.shape[2])
    added = _added(mask.index, mask.bias, extents, mask.filter_value, mask.is_causal)
    y, _ = _attended(q, k, v, added, scale)
    return (y, np.stack([k, v])) if node.wants(1) else (y,)


MultiHeadAttention = op(
    """MultiHeadAttention <mask_filter_value: float?, num_heads: int, scale: float?,
                           unidirectional: int = 0>
                          (query: T, key: T?, value: T?, bias: T?, key_padding_mask: M?,
                           attention_bias: T?, past_key: T?, past_value: T?,
                           past_sequence_length: M?, cache_indirection: M?)
                       => (output: T, present_key: T?, present_value: T?, qk: QK?)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, QK=BF16 | F16 | F32, M=I32,
)  # fmt: skip


@MultiHeadAttention.infer
def infer_multi_head(
    query: Fact,
    key: Fact | None = None,
    value: Fact | None = None,
    bias: Fact | None = None,
    key_padding_mask: Fact | None = None,
    attention_bias: Fact | None = None,
    past_key: Fact | None = None,
    past_value: Fact | None = None,
    past_sequence_length: Fact | None = None,
    cache_indirection: Fact | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = HIDDEN,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: InferNode,
) -> tuple[Fact, ...]:
    check_heads(num_heads)
    batch, length = query.shape[:2]
    keys, size, width = _multi_head_extents(query, key, value, num_heads)
    for name, fact in (("query", query), ("key", key), ("value", value)):
        if fact is not None and fact.rank == 3:
            check_shape(name, fact, (None, None, whole_heads(fact.shape[2], num_heads)))
    if key is None:
        check_shape("query", query, (None, None, num_heads, None, None))
    for name, fact in (("key", key), ("value", value)):
        if fact is not None:
            along = (num_heads, keys) if fact.rank == 4 else (keys,)
            apart = (num_heads,) if fact.rank == PACKED_AXES else ()
            free = [None] * (fact.rank - 1 - len(along) - len(apart))
            check_shape(name, fact, (batch, *along, *apart, *free))
    check_shape("past_key", past_key, (batch, num_heads, None, size))
    before = past_key.shape[2] if past_key is not None and past_key.has_rank else None
    check_shape("past_value", past_value, (batch, num_heads, before, width))
    check_shape("bias", bias, (num_heads * (2 * size + width),))
    if past_key is not None:
        keys = keys + (
            past_key.shape[2] if past_key.has_rank else node.unknown("the past's length")
        )
    scores = (batch, num_heads, length, keys)
    check_added("key_padding_mask", key_padding_mask, attention_bias, scores)
    dtype = query.dtype
    return (
        tensor(dtype, (batch, length, num_heads * width)),
        tensor(dtype, (batch, num_heads, keys, size)),
        tensor(dtype, (batch, num_heads, keys, width)),
        tensor(dtype, (batch, num_heads, length, keys)),
    )[: node.output_count]


PACKED_AXES = 5
"""Axes of a tensor that holds keys and values, or queries as well."""


def _multi_head_extents(
    query: Fact, key: Fact | None, value: Fact | None, heads: int
) -> tuple[DimLike, DimLike, DimLike]:
    """How many keys there are, their size, and the size of values."""
    packed = query if key is None else key if value is None else None
    require(
        packed is None or packed.rank == PACKED_AXES,
        "queries, keys and values in one tensor must be [batch, length, heads, parts, size]",
    )
    if key is None:
        return query.shape[1], query.shape[4], query.shape[4]
    if value is None:
        return key.shape[1], key.shape[4], key.shape[4]
    if key.rank == 4:
        return key.shape[2], key.shape[3], value.shape[3]
    return key.shape[1], key.shape[2] // heads, value.shape[2] // heads


@MultiHeadAttention.kernel
def multi_head_attention(
    query: Array,
    key: Array | None = None,
    value: Array | None = None,
    bias: Array | None = None,
    key_padding_mask: Array | None = None,
    attention_bias: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    past_sequence_length: Array | None = None,
    cache_indirection: Array | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = HIDDEN,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: RunNode,
) -> tuple[Array, ...]:
    """Attention of queries to keys and values, which may come in one tensor.

    output = softmax(q · kᵀ · scale + attention_bias + mask) · v per head;  scale = 1/√size if 0.
    query[B, S, H·D], key[B, T, H·D], value[B, T, H·E] → output[B, S, H·E]; or query[B, S, H, 3, D]
    with all three, or key[B, T, H, 2, D] with the values, or key and value [B, H, T, ·] as they
    are. bias[2·H·D + H·E] is added to all three first. past_key and past_value [B, H, P, ·] precede
    keys and values; present_key and present_value are both. key_padding_mask[B], [B, T] or
    [B, S, T] and unidirectional hide keys as in Attention; qk holds the scores after the mask.
    Source: onnxruntime's contributed operators, MultiHeadAttention-1.
    """
    require(cache_indirection is None, "cache_indirection must be left out", NotSupported)
    q, k, v = _heads_of(query, key, value, bias, num_heads)
    if past_key is not None and past_value is not None:
        k = np.concatenate([widened(past_key), k], axis=2)
        v = np.concatenate([widened(past_value), v], axis=2)
    extents = (len(q), q.shape[2], k.shape[2])
    added = _added(
        key_padding_mask, attention_bias, extents, mask_filter_value, bool(unidirectional)
    )
    y, scores = _attended(q, k, v, added, scale)
    results = (y, k, v, scores)[: node.output_count]
    return tuple(x.astype(query.dtype, copy=False) for x in results)


@MultiHeadAttention.lower
def lower_multi_head(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    cache_indirection: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = HIDDEN,
    scale: float = 0.0,
    unidirectional: int = 0,
    node: LowerNode,
) -> tuple[Tensor | None, ...]:
    require(cache_indirection is None, "cache_indirection must be left out", NotSupported)
    q, k, v = _lower_heads_of(query, key, value, bias, num_heads)
    if past_key is not None and past_value is not None:
        k = stored(lower_concat(cast_tensor(past_key, k.dtype), k, axis=2), "keys")
        v = stored(lower_concat(cast_tensor(past_value, v.dtype), v, axis=2), "values")
    mask = LoopMask(key_padding_mask, attention_bias, mask_filter_value, bool(unidirectional))
    y, scores = attended(q, k, v, mask, scale, node)
    rest = (cast_tensor(x, query.dtype) for x in (k, v, scores))
    return (heads_together(y, query.dtype), *rest)


def _lower_heads_of(
    query: Tensor, key: Tensor | None, value: Tensor | None, bias: Tensor | None, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`_heads_of` for lowerings."""
    is_kept = key is not None and value is not None and key.rank == 4
    if key is None:
        parts = [_side_by_side(query, part, heads) for part in range(3)]
    elif value is None:
        parts = [heads_apart(query, heads), *(_side_by_side(key, part, heads) for part in range(2))]
    elif is_kept:
        kept = (
            compute((x.shape[0], heads, *x.shape[2:]), lambda *i, x=x: x[i]) for x in (key, value)
        )
        parts = [heads_apart(query, heads), *kept]
    else:
        parts = [heads_apart(x, heads) for x in (query, key, value)]
    firsts = accumulate((heads * x.shape[3] for x in parts), initial=0)
    given = (bias, None, None) if is_kept else (bias, bias, bias)
    q, k, v = (with_bias(*part) for part in zip(parts, given, firsts, strict=False))
    return q, k, v


def _side_by_side(x: Tensor, part: int, heads: int) -> Tensor:
    """x[B, L, H, :, D] as [B, H, L, D]."""
    batch, length, _, _, size = x.shape
    return compute((batch, heads, length, size), lambda b, h, i, d: x[b, i, h, part, d])


def _heads_of(
    query: Array, key: Array | None, value: Array | None, bias: Array | None, heads: int
) -> tuple[Array, Array, Array]:
    """Queries, keys and values [B, H, L, D] in float32 or wider, the bias added."""
    if key is None:
        check_extents("query", query.shape, (None, None, heads, None, None))
        parts = [widened(query)[:, :, :, part].swapaxes(1, 2) for part in range(3)]
    elif value is None:
        parts = [
            split(widened(query), heads),
            *(widened(key)[:, :, :, part].swapaxes(1, 2) for part in range(2)),
        ]
    elif key.ndim == 4:
        parts = [split(widened(query), heads), widened(key), widened(value)]
    else:
        parts = [split(widened(x), heads) for x in (query, key, value)]
    if bias is not None:
        ends = np.cumsum([heads * part.shape[3] for part in parts])
        require(
            bias.shape == (ends[-1],),
            f"bias must have shape [{ends[-1]}], got bias{shape_text(bias.shape)}",
        )
        added = np.split(widened(bias), ends[:2])
        is_kept = key is not None and key.ndim == 4 and value is not None
        for place in range(1 if is_kept else 3):
            parts[place] = parts[place] + added[place].reshape(1, heads, 1, -1)
    return parts[0], parts[1], parts[2]
