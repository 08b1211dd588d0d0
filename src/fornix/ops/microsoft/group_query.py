"""Attention whose heads share keys, with a cache that it fills: GroupQueryAttention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fornix.dtype import FLOAT32
from fornix.errors import NotSupported, require
from fornix.ir.dim import DimLike, divide, known, maximum
from fornix.ir.loops import Scalar, Tensor, cast, const, stored
from fornix.ops import scalar as s
from fornix.ops.along import mapped
from fornix.ops.attention import average, similarity, softmax
from fornix.ops.attention_loops import lower_average, lower_similarity, lower_weights
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.attention import joined, split, with_added
from fornix.ops.microsoft.attention_loops import (
    Cache,
    LoopMask,
    front,
    heads_apart,
    heads_together,
)
from fornix.ops.microsoft.shapes import check_broadcast, check_heads, check_shape
from fornix.ops.op import op
from fornix.ops.precision import widened
from fornix.ops.rotary import lower_rotary_embedding, rotary_embedding
from fornix.ops.types import BF16, F16, F32, I8, I32, U8, tensors

GroupQueryAttention = op(
    """GroupQueryAttention <causal: int = 1, do_rotary: int?, k_quant_type: string = "NONE",
                            kv_cache_bit_width: int?, kv_num_heads: int,
                            local_window_size: int = -1, num_heads: int,
                            qk_norm_epsilon: float = 1e-06, qk_output: int = 0,
                            rotary_interleaved: int?, scale: float?,
                            sliding_window_cache: int = 0, smooth_softmax: int = -1,
                            softcap: float?, v_quant_type: string = "NONE">
                           (query: T, key: T?, value: T?, past_key: T_CACHE?, past_value: T_CACHE?,
                            seqlens_k: M, total_sequence_length: M, cos_cache: T?, sin_cache: T?,
                            position_ids: tensor(int64)?, attention_bias: T?, head_sink: T?,
                            k_scale: T_KV_SCALE?, v_scale: T_KV_SCALE?, q_norm_weight: T?,
                            k_norm_weight: T?)
                        => (output: T, present_key: T_CACHE?, present_value: T_CACHE?,
                            output_qk: T?)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32,
    T_CACHE=BF16 | F16 | F32 | tensors("float8e4m3fn") | I8 | U8, T_KV_SCALE=F32, M=I32,
)  # fmt: skip


BIAS, SINK = 3, 4
"""Places of attention_bias and head_sink among the inputs behind total_sequence_length."""


@GroupQueryAttention.infer
def infer_group_query(
    query: Fact,
    key: Fact | None,
    value: Fact | None,
    past_key: Fact | None,
    past_value: Fact | None,
    seqlens_k: Fact,
    total_sequence_length: Fact,
    *more: Fact | None,
    num_heads: int,
    kv_num_heads: int,
    node: InferNode,
    **attributes: object,
) -> tuple[Fact, ...]:
    check_heads(num_heads, kv_num_heads)
    batch, length, width = query.shape
    size = width // (num_heads if key is not None else num_heads + 2 * kv_num_heads)
    for name, fact in (("key", key), ("value", value)):
        check_shape(name, fact, (batch, length, kv_num_heads * size))
    for name, cache_fact in (("past_key", past_key), ("past_value", past_value)):
        check_shape(name, cache_fact, (batch, kv_num_heads, None, size))
    check_shape("seqlens_k", seqlens_k, (batch, 1) if _has_columns(seqlens_k) else (batch,))
    check_shape("head_sink", more[SINK] if len(more) > SINK else None, (num_heads,))
    total = _total_length(total_sequence_length)
    seen = node.unknown("total_sequence_length") if total is None else total
    bias = more[BIAS] if len(more) > BIAS else None
    check_broadcast("attention_bias", bias, (batch, num_heads, length, seen))
    past = 0 if past_key is None or not past_key.has_rank else past_key.shape[2]
    if total is None or (past_key is not None and not past_key.has_rank):
        places: DimLike = node.unknown("the cache's length")
    else:
        places = maximum(past, total)
    cache = tensor(
        query.dtype if past_key is None else past_key.dtype, (batch, kv_num_heads, places, size)
    )
    return (tensor(query.dtype, (batch, length, num_heads * size)), cache, cache)[
        : node.output_count
    ]


@GroupQueryAttention.kernel
def group_query_attention(
    query: Array,
    key: Array | None,
    value: Array | None,
    past_key: Array | None,
    past_value: Array | None,
    seqlens_k: Array,
    total_sequence_length: Array,
    cos_cache: Array | None = None,
    sin_cache: Array | None = None,
    position_ids: Array | None = None,
    attention_bias: Array | None = None,
    head_sink: Array | None = None,
    *more: Array | None,
    num_heads: int,
    kv_num_heads: int,
    do_rotary: int = 0,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    node: RunNode,
    **others: object,
) -> tuple[Array, ...]:
    """Causal attention in which heads share keys, with a cache that it fills.

    query[B, S, H·D], key and value [B, S, G·D], or query[B, S, (H + 2·G)·D] with all three →
    output[B, S, H·D]; H/G query heads in a row share a key head. Batch b has seqlens_k[b] + 1 keys;
    where total_sequence_length is S these are all new, else the last S of them, and those before
    stand in past_key and past_value [B, G, P, D]. present_key and present_value [B, G, L, D] have
    both, L the greater of P and total_sequence_length. do_rotary rotates R elements of each head of
    queries and new keys by cos_cache and sin_cache [positions, R/2] at position_ids[B, S], or where
    all keys are new from the first of these on, else at their positions. A query sees the keys up
    to its own position, local_window_size of them at most unless −1; softcap and attention_bias are
    the standard's. A sink adds exp(head_sink[h]), or with smooth_softmax 1, to the weights' sum.
    Source: onnxruntime's contributed operators, GroupQueryAttention-1.
    """
    _check_group_query(more, others, node)
    q, k, v = _group_heads(query, key, value, num_heads, kv_num_heads)
    length, total = q.shape[2], int(total_sequence_length.reshape(-1)[0])
    filled = seqlens_k.reshape(-1).astype(np.int64) + 1
    before = np.zeros_like(filled) if total == length else filled - length
    places = before[:, None] + np.arange(length)
    if do_rotary and cos_cache is not None and sin_cache is not None:
        rotated = partial(
            rotary_embedding, cos_cache=cos_cache, sin_cache=sin_cache,
            position_ids=_positions(position_ids, places, total, len(cos_cache)),
            interleaved=rotary_interleaved, rotary_embedding_dim=2 * cos_cache.shape[1],
        )  # fmt: skip
        q, k = rotated(q), rotated(k)
    present_key, present_value = (
        _filled(past, new, before, total) for past, new in ((past_key, k), (past_value, v))
    )
    scores = _limited(similarity(q, present_key[:, :, :total], scale or None), softcap)
    scores = with_added(scores, None if attention_bias is None else widened(attention_bias))
    scores = np.where(_seen(places, total, local_window_size), scores, np.float32(-np.inf))
    y = joined(average(_with_sink(scores, head_sink, smooth_softmax), present_value[:, :, :total]))
    results = (y, present_key, present_value)[: node.output_count]
    return tuple(x.astype(query.dtype, copy=False) for x in results)


@GroupQueryAttention.lower
def lower_group_query(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    head_sink: Tensor | None = None,
    *more: Tensor | None,
    num_heads: int,
    kv_num_heads: int,
    do_rotary: int = 0,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    node: LowerNode,
    **others: object,
) -> tuple[Tensor | None, ...]:
    _check_group_query(more, others, node)
    total = _total_length(node.facts[6])
    if total is None:
        node.decline("total_sequence_length is known at run time only")
    q, k, v = _lower_group_heads(query, key, value, num_heads, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    cache = Cache(seqlens_k, past, q.shape[2], total)
    if do_rotary and cos_cache is not None and sin_cache is not None:
        turned = cache.positions(position_ids, cos_cache.shape[0])
        pairs = known(cos_cache.shape[1])
        if pairs is None:
            node.decline("how much of a head is rotated is known at run time only")
        rotated = partial(
            lower_rotary_embedding, cos_cache=cos_cache, sin_cache=sin_cache, position_ids=turned,
            interleaved=rotary_interleaved, rotary_embedding_dim=2 * pairs, node=node,
        )  # fmt: skip
        q, k = rotated(q), rotated(k)
    if do_rotary or known(q.shape[3]) is None:  # of open width, where they lie is told by a run
        q = stored(q, "queries")
    keys, values = cache.joined(past_key, k), cache.joined(past_value, v)
    scores = lower_similarity(q, front(keys, total), scale or None, node)
    capped = mapped(lambda x: s.tanh(x / softcap) * softcap, scores) if softcap else scores
    biased = LoopMask(None, attention_bias, 0.0, is_causal=False).applied(capped)
    sink = _lower_sink(head_sink, smooth_softmax)
    weights = lower_weights(cache.visible(biased, local_window_size), 0.0, sink)
    y = lower_average(weights, front(values, total), node)
    return heads_together(y, query.dtype), keys, values


def _lower_sink(sink: Tensor | None, smooth: int) -> Callable[[DimLike], Scalar] | None:
    """From a head to the score that no key of it has, if there is one."""
    if sink is None:
        return None if smooth <= 0 else lambda _: const(0.0, FLOAT32)
    return lambda h: cast(sink[h], FLOAT32)


def _has_columns(lengths: Fact) -> bool:
    return lengths.has_rank and lengths.rank > 1


def _total_length(fact: Fact | None) -> DimLike | None:
    """How many keys there are for queries to see, if that is known before a run."""
    known_value = None if fact is None else fact.value
    return None if known_value is None else known_value.reshape(-1)[0]


def _lower_group_heads(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`_group_heads` for lowerings."""
    if key is not None and value is not None:
        q = heads_apart(query, heads)
        k, v = (heads_apart(x, groups, 0, groups * q.shape[3]) for x in (key, value))
        return q, k, v
    size = divide(query.shape[2], heads + 2 * groups)
    q, k, v = (
        heads_apart(query, count, first * size, count * size)
        for count, first in ((heads, 0), (groups, heads), (groups, heads + groups))
    )
    return q, k, v


PLAIN = {"k_quant_type": "NONE", "v_quant_type": "NONE", "qk_output": 0, "causal": 1}
"""Attributes of GroupQueryAttention, as far as others than these values are not read."""


def _check_group_query(
    more: tuple[object, ...], others: dict[str, object], node: RunNode | LowerNode
) -> None:
    for name, value in PLAIN.items():
        require(others[name] == value, f"{name} must be {value}, got {others[name]}", NotSupported)
    require(not others["sliding_window_cache"], "sliding_window_cache must be 0", NotSupported)
    names = [formal.name for formal in node.schema.inputs[-4:]]
    given = [name for name, x in zip(names, more, strict=False) if x is not None]
    require(not given, f"{', '.join(given)} must be left out", NotSupported)


def _group_heads(
    query: Array, key: Array | None, value: Array | None, heads: int, groups: int
) -> tuple[Array, Array, Array]:
    """Queries [B, H, S, D], keys and values [B, G, S, D]."""
    if key is not None and value is not None:
        return split(query, heads), split(key, groups), split(value, groups)
    together = split(query, heads + 2 * groups)
    return together[:, :heads], together[:, heads : heads + groups], together[:, heads + groups :]


def _filled(past: Array | None, new: Array, before: Array, total: int) -> Array:
    """The cache with ``new`` behind what each batch has in it."""
    batch, groups, length, size = new.shape
    capacity = max(total, 0 if past is None else past.shape[2])
    cache = np.zeros((batch, groups, capacity, size), new.dtype)
    for row, start in enumerate(before.tolist()):
        require(
            start >= 0 and start + length <= capacity,
            f"seqlens_k must leave room for {length} keys in {capacity}, got {start + length - 1}",
        )
        if past is not None:
            cache[row, :, :start] = past[row, :, :start]
        cache[row, :, start : start + length] = new[row]
    return cache


def _positions(position_ids: Array | None, places: Array, total: int, rows: int) -> Array:
    """Rows of angles for new keys; those of a prompt follow the first of ``position_ids``."""
    found = places if position_ids is None else position_ids
    if position_ids is not None and 1 < places.shape[1] == total:
        found = places + position_ids.flat[0]
    return np.clip(found, 0, rows - 1)


def _seen(places: Array, total: int, window: int) -> Array:
    """Whether the query at each place sees a key, [B, 1, S, T]."""
    at, key = places[:, None, :, None], np.arange(total)
    seen = key <= at
    return np.asarray(seen if window < 0 else seen & (key > at - window))


def _limited(scores: Array, softcap: float) -> Array:
    """``scores`` kept between −softcap and softcap, smoothly; as they are if that is 0."""
    if not softcap:
        return scores
    return np.asarray(np.tanh(scores / np.float32(softcap)) * np.float32(softcap))


def _with_sink(scores: Array, sink: Array | None, smooth: int) -> Array:
    """Softmax whose sum has one more term, of a score that no key has."""
    if sink is None and smooth <= 0:
        return softmax(scores, empty=0.0)
    own = np.zeros(scores.shape[1]) if sink is None else widened(sink)
    column = np.broadcast_to(own.astype(scores.dtype).reshape(1, -1, 1, 1), (*scores.shape[:3], 1))
    return softmax(np.concatenate([scores, column], axis=3), empty=0.0)[..., :-1]
