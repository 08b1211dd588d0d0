"""Scaled dot-product attention: Attention and FlexAttention.

Query heads that share a key head are multiplied as one matrix, so that keys are never repeated.
Everything between the inputs and the one final rounding is computed in float32 or wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType
from fornix.errors import DTypeError, require
from fornix.ir.dim import DimLike, divide, equal, known
from fornix.ir.graph import Graph
from fornix.ir.loops import Tensor, compute, stored
from fornix.ops import scalar as s
from fornix.ops.along import mapped
from fornix.ops.attention_bodies import attention_body, flex_attention_body
from fornix.ops.attention_loops import (
    LoopVisibility,
    lower_average,
    lower_similarity,
    lower_weights,
)
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, of_rank, shape_text, unified
from fornix.ops.move import lower_concat
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, widened
from fornix.ops.types import BF16, BOOL, FLOAT, NUMERIC
from fornix.ops.visibility import Visibility, check_windows

Shape = tuple[DimLike, ...]

PRECISIONS = (FLOAT32, FLOAT16, FLOAT64, BFLOAT16)
"""What softmax_precision may ask for."""

Attention = (
    op("""Attention <is_causal: int = 0, kv_num_heads: int?, q_num_heads: int?,
                     qk_matmul_output_mode: int = 0, scale: float?, softcap: float = 0.0,
                     softmax_precision: int?>
                    (Q: T1, K: T1, V: T2, attn_mask: U?, past_key: T1?, past_value: T2?)
                 => (Y: T1, present_key: T1?, present_value: T2?, qk_matmul_output: T1?)""",
       since=23, T1=FLOAT | BF16, T2=FLOAT | BF16, U=NUMERIC | BF16 | BOOL)
    .since(24, """Attention <is_causal: int = 0, kv_num_heads: int?, q_num_heads: int?,
                             qk_matmul_output_mode: int = 0, scale: float?, softcap: float = 0.0,
                             softmax_precision: int?>
                            (Q: T1, K: T1, V: T2, attn_mask: U?, past_key: T1?, past_value: T2?,
                             nonpad_kv_seqlen: tensor(int64)?)
                         => (Y: T1, present_key: T1?, present_value: T2?,
                             qk_matmul_output: T1?)""")
    .since(25, """Attention <is_causal: int = 0, kv_num_heads: int?, left_window_size: int = -1,
                             q_num_heads: int?, qk_matmul_output_mode: int = 0,
                             right_window_size: int = -1, scale: float?, softcap: float = 0.0,
                             softmax_precision: int?>
                            (Q: T1, K: T1, V: T2, attn_mask: U?, past_key: T1?, past_value: T2?,
                             nonpad_kv_seqlen: tensor(int64)?)
                         => (Y: T1, present_key: T1?, present_value: T2?,
                             qk_matmul_output: T1?)""")
)  # fmt: skip


Attention.body(since=23)(attention_body)


@Attention.infer
def infer_attention(
    Q: Fact,
    K: Fact,
    V: Fact,
    attn_mask: Fact | None = None,
    past_key: Fact | None = None,
    past_value: Fact | None = None,
    nonpad_kv_seqlen: Fact | None = None,
    *,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    node: InferNode,
    **attributes: object,
) -> tuple[Fact, ...]:
    _check_given(past_key, past_value, nonpad_kv_seqlen)
    check_windows((left_window_size, right_window_size))
    q = _heads(Q.shape, q_num_heads, "Q", "q_num_heads")
    k = _heads(of_rank(K, Q.rank, "K").shape, kv_num_heads, "K", "kv_num_heads")
    v = _heads(of_rank(V, Q.rank, "V").shape, kv_num_heads, "V", "kv_num_heads")
    _check_heads(q, k, v)
    key, before = _with_past(k, past_key, node)
    value, passed = _with_past(v, past_value, node)
    past, new = agreed_shape((before, k[2]), (passed, v[2]))
    total = past + new
    [batch] = agreed_shape(q[:1], key[:1], value[:1])
    filled = nonpad_kv_seqlen
    _check_cache(k, v, None, None, filled.shape if filled and filled.has_rank else None)
    [heads] = agreed_shape(key[1:2], value[1:2])
    if attn_mask is not None and attn_mask.has_rank:
        _check_mask(attn_mask.shape, (batch, q[1], q[2], total))
    y = (batch, q[1], q[2], value[3]) if Q.rank == 4 else (batch, q[2], q[1] * value[3])
    return (
        tensor(Q.dtype, y),
        tensor(K.dtype, (batch, heads, total, key[3])),
        tensor(V.dtype, (batch, heads, total, value[3])),
        tensor(Q.dtype, (batch, q[1], q[2], total)),
    )[: node.output_count]


def _with_past(new: Shape, past: Fact | None, node: InferNode) -> tuple[Shape, DimLike]:
    """[batch, heads, length, size] of keys or values, as the past has them too; its length."""
    if past is None:
        return new, 0
    before = past.shape if past.has_rank else (*new[:2], node.unknown("the past's length"), new[3])
    require(len(before) == 4, f"what is past must have 4 axes, found {shape_text(before)}")
    return agreed_shape(new, (*before[:2], new[2], before[3])), before[2]


def _heads(shape: Sequence[DimLike], count: int | None, name: str, attribute: str) -> Shape:
    """[batch, heads, length, size] of an input that may have its heads in the last axis."""
    if len(shape) == 4:
        require(
            count is None or known(shape[1]) in {None, count},
            f"{name}{shape_text(shape)} must have {attribute}={count} heads",
        )
        return tuple(shape)
    require(
        len(shape) == 3,
        f"{name} must be [batch, heads, length, size] or [batch, length, heads·size], "
        f"found {name}{shape_text(shape)}",
    )
    require(
        count is not None and count > 0,
        f"{attribute} is required for {name}{shape_text(shape)} of rank 3, found {count}",
    )
    hidden = known(shape[2])
    require(
        hidden is None or hidden % (count or 1) == 0,
        f"{name}{shape_text(shape)} must divide into {attribute}={count} heads",
    )
    return shape[0], count or 1, shape[1], divide(shape[2], count or 1)


def _check_heads(q: Shape, k: Shape, v: Shape) -> None:
    """Raise ShapeError unless query, key and value [batch, heads, length, size] fit."""
    texts = ", ".join(f"{n}{shape_text(x)}" for n, x in (("Q", q), ("K", k), ("V", v)))
    form = "of form [batch, heads, length, size]"
    for what, dims in (
        ("one batch", (q[0], k[0], v[0])),
        ("one head size of Q and K", (q[3], k[3])),
        ("one number of heads of K and V", (k[1], v[1])),
        ("one length of K and V", (k[2], v[2])),
    ):
        require(unified(dims) is not None, f"attention needs {what}, found {texts} {form}")
    queries, keys = known(q[1]), known(k[1])
    require(
        queries is None or not keys or queries % keys == 0,
        f"the heads of Q must be a multiple of those of K, found {texts} {form}",
    )


def _check_mask(mask: Sequence[DimLike], scores: Sequence[DimLike | None]) -> None:
    """Raise ShapeError if the mask surely does not broadcast; a shorter one hides other keys."""
    reach, keys = known(mask[-1]) if mask else 1, known(scores[-1])
    pairs = zip(reversed(mask[:-1]), reversed(scores[:-1]), strict=False)
    fits = len(mask) <= len(scores) and all(
        known(n) == 1 or wanted is None or equal(n, wanted) is not False for n, wanted in pairs
    )
    require(
        fits and (reach is None or keys is None or reach <= max(keys, 1)),
        f"attn_mask must broadcast to {shape_text(scores)}, found {shape_text(mask)}",
    )


@Attention.kernel
def attention(
    Q: Array,
    K: Array,
    V: Array,
    attn_mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad_kv_seqlen: Array | None = None,
    *,
    is_causal: int = 0,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    node: RunNode,
) -> tuple[Array | None, ...]:
    """Averages of values, weighted by how well their keys fit the queries.

    y = softmax(mask(cap(q · kᵀ · scale))) · v per head;  scale = 1/√size if absent.
    q[B, H, S, D] · k[B, G, T, D] · v[B, G, T, E] → y[B, H, S, E]; or heads in the last axis, given
    their numbers: q[B, S, H·D] … → y[B, S, H·E]. H/G query heads in a row share a key head.
    past_key and past_value [B, G, P, ·] precede k and v; present_key and present_value are both.

    Query i stands at position i + o; o is P, or nonpad_kv_seqlen − S for each batch, else 0. It
    sees keys up to its position (is_causal), from left_window_size before it to right_window_size
    after it (−1: all), below nonpad_kv_seqlen, and where a boolean attn_mask holds; another mask is
    added to the scores. Masks broadcast to [B, H, S, T]; a shorter last axis hides the rest.
    A query that sees no key yields zeros. softcap limits scores smoothly: c · tanh(s/c).

    qk_matmul_output[B, H, S, T] holds, by qk_matmul_output_mode: 0 scores, 1 after softcap,
    2 after the mask, 3 after softmax, which is rounded to softmax_precision before and after.
    Source: ONNX Attention-25.
    """
    q = split_heads(Q, q_num_heads, "Q", "q_num_heads")
    k = split_heads(K, kv_num_heads, "K", "kv_num_heads")
    v = split_heads(V, kv_num_heads, "V", "kv_num_heads")
    _check_heads(q.shape, k.shape, v.shape)
    cache = (past_key, past_value, nonpad_kv_seqlen)
    _check_cache(k.shape, v.shape, *(None if x is None else x.shape for x in cache))
    past = 0 if past_key is None else past_key.shape[2]
    windows = (left_window_size, right_window_size)
    visible = Visibility(
        q.shape[2], past + k.shape[2], past, nonpad_kv_seqlen, bool(is_causal), windows
    )
    present_key = k if past_key is None else np.concatenate([past_key, k], axis=2)
    present_value = v if past_value is None else np.concatenate([past_value, v], axis=2)
    scores = similarity(q, present_key, scale)
    stages = _stages(scores, softcap, visible, attn_mask, softmax_precision)
    y = average(stages[3], present_value)
    if Q.ndim == 3:
        y = y.swapaxes(1, 2).reshape(*Q.shape[:2], q.shape[1] * v.shape[3])
    shown = _shown(stages, qk_matmul_output_mode, Q.dtype) if node.wants(3) else None
    return y.astype(Q.dtype, copy=False), present_key, present_value, shown


@Attention.lower
def lower_attention(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    node: LowerNode,
) -> tuple[Tensor | None, ...]:
    q = _lower_split(Q, q_num_heads, "Q", "q_num_heads")
    k = _lower_split(K, kv_num_heads, "K", "kv_num_heads")
    v = _lower_split(V, kv_num_heads, "V", "kv_num_heads")
    _check_heads(q.shape, k.shape, v.shape)
    cache = (past_key, past_value, nonpad_kv_seqlen)
    _check_cache(k.shape, v.shape, *(None if x is None else x.shape for x in cache))
    past: DimLike = 0 if past_key is None else past_key.shape[2]
    # What the next step gets lies in memory for this one, too.
    present_key = k if past_key is None else stored(lower_concat(past_key, k, axis=2), "keys")
    present_value = (
        v if past_value is None else stored(lower_concat(past_value, v, axis=2), "values")
    )
    filled = nonpad_kv_seqlen
    if filled is not None and filled.rank != 1:
        node.decline("nonpad_kv_seqlen is no vector")
    windows = (left_window_size, right_window_size)
    visible = LoopVisibility(
        q.shape[2], past + k.shape[2], past, filled, bool(is_causal), windows
    )  # fmt: skip
    scores = lower_similarity(q, present_key, scale, node)
    capped = mapped(lambda x: s.tanh(x / softcap) * softcap, scores) if softcap else scores
    masked = visible.masked(capped, attn_mask)
    weights = _lower_rounded(
        lower_weights(_lower_rounded(masked, softmax_precision), 0.0), softmax_precision
    )
    y = _lower_joined(lower_average(weights, present_value, node), Q)
    stages = [scores, capped, masked, weights]
    mode = qk_matmul_output_mode
    _check_mode(mode)
    shown = cast_tensor(stages[mode], Q.dtype) if node.wants(3) else None
    return y, present_key, present_value, shown


def _lower_split(x: Tensor, count: int | None, name: str, attribute: str) -> Tensor:
    """`split_heads` for lowerings."""
    shape = _heads(x.shape, count, name, attribute)
    if x.rank == 4:
        return x
    return compute(shape, lambda b, h, i, d: x[b, i, h * shape[3] + d])


def _lower_joined(y: Tensor, like: Tensor) -> Tensor:
    """y[B, H, S, E] with the dtype of ``like``, and its heads in the last axis if it has them."""
    y = cast_tensor(y, like.dtype)
    if like.rank == 4:
        return y
    batch, heads, length, size = y.shape
    return compute(
        (batch, length, heads * size), lambda b, i, e: y[b, e // size, i, e - e // size * size]
    )


def _lower_rounded(x: Tensor, precision: int | None) -> Tensor:
    return x if precision is None else cast_tensor(x, _precision(precision))


def _stages(
    scores: Array, softcap: float, visible: Visibility, mask: Array | None, precision: int | None
) -> list[Array]:
    """The scores as they are, limited, masked, and as weights."""
    capped = scores
    if softcap:
        cap = scores.dtype.type(softcap)
        capped = np.tanh(scores / cap) * cap
    masked = visible.masked(capped, mask)
    weights = softmax(_rounded(masked, precision), empty=0.0)
    return [scores, capped, masked, _rounded(weights, precision)]


def _check_mode(mode: int) -> None:
    require(mode in range(4), f"qk_matmul_output_mode must be 0, 1, 2 or 3, got {mode}")


def _shown(stages: Sequence[Array], mode: int, dtype: np.dtype[Any]) -> Array:
    _check_mode(mode)
    return stages[mode].astype(dtype, copy=False)


def split_heads(x: Array, count: int | None, name: str, attribute: str) -> Array:
    """x[B, L, H·D] as [B, H, L, D]; what has four axes as it is."""
    _heads(x.shape, count, name, attribute)
    if x.ndim == 4 or count is None:
        return x
    return x.reshape(*x.shape[:2], count, x.shape[2] // count).swapaxes(1, 2)


def _check_given(past_key: object, past_value: object, nonpad: object) -> None:
    """Raise ShapeError for inputs that describe half a cache, or two."""
    require(
        (past_key is None) == (past_value is None),
        f"past_key and past_value come together, found only "
        f"{'past_value' if past_key is None else 'past_key'}",
    )
    require(
        nonpad is None or past_key is None,
        "nonpad_kv_seqlen describes a cache kept outside, and excludes past_key and past_value",
    )


def _check_cache(
    k: Shape, v: Shape, past_key: Shape | None, past_value: Shape | None, nonpad: Shape | None
) -> None:
    _check_given(past_key, past_value, nonpad)
    for name, past, new in (("past_key", past_key, k), ("past_value", past_value, v)):
        fits = past is None or (
            len(past) == 4
            and all(equal(past[axis], new[axis]) is not False for axis in (0, 1, 3))
            and (past_key is None or equal(past[2], past_key[2]) is not False)
        )
        wanted = (*new[:2], "past", new[3])
        require(fits, f"{name} must be {shape_text(wanted)}, found {shape_text(past or ())}")
    count = None if nonpad is None else math.prod(nonpad)
    require(
        count is None or equal(count, k[0]) is not False,
        f"nonpad_kv_seqlen must have one element per batch, {k[0]}, found {count}",
    )


def similarity(q: Array, k: Array, scale: float | None) -> Array:
    """Scores q · kᵀ · scale: q[B, H, S, D] · k[B, G, T, D] → [B, H, S, T]."""
    batch, heads, length, size = q.shape
    groups = k.shape[1]
    wide = widened(q)
    factor = wide.dtype.type((1 / math.sqrt(size) if size else 1.0) if scale is None else scale)
    rows = heads // groups * length if groups else 0
    together = (wide * factor).reshape(batch, groups, rows, size)
    scores: Array = together @ widened(k).swapaxes(2, 3)
    return scores.reshape(batch, heads, length, k.shape[2])


def average(weights: Array, v: Array) -> Array:
    """Weighted sums of values: weights[B, H, S, T] · v[B, G, T, E] → [B, H, S, E]."""
    batch, heads, length, count = weights.shape
    groups = v.shape[1]
    rows = heads // groups * length if groups else 0
    together = widened(weights).reshape(batch, groups, rows, count)
    means: Array = together @ widened(v)
    return means.reshape(batch, heads, length, v.shape[3])


def softmax(scores: Array, *, empty: float = math.nan) -> Array:
    """Softmax over the last axis; rows of −∞ alone, or without elements, become ``empty``."""
    wide = widened(scores)
    top = wide.max(axis=-1, keepdims=True, initial=-np.inf)
    weights: Array = np.exp(wide - np.where(np.isneginf(top), 0, top))
    total = weights.sum(axis=-1, keepdims=True)
    is_empty = np.isneginf(top)
    weights /= total
    return np.where(is_empty, wide.dtype.type(empty), weights) if np.any(is_empty) else weights


def _rounded(x: Array, precision: int | None) -> Array:
    """``x`` rounded to the precision that softmax_precision asks for."""
    if precision is None:
        return x
    return x.astype(_precision(precision).numpy, copy=False)


def _precision(code: int) -> DType:
    names = ", ".join(f"{dtype.code} ({dtype})" for dtype in PRECISIONS)
    require(
        code in {dtype.code for dtype in PRECISIONS},
        f"softmax_precision must be among {names}, got {code}",
        DTypeError,
    )
    return DType.of(code)


FlexAttention = op(
    """FlexAttention <prob_mod: graph?, scale: float?, score_mod: graph?, softmax_precision: int?>
                     (Q: T1, K: T1, V: T1) => (Y: T1)""",
    since=1, domain="ai.onnx.preview", T1=FLOAT | BF16,
).opaque("its scores and weights pass through graphs")  # fmt: skip


FlexAttention.body(since=1)(flex_attention_body)


@FlexAttention.infer
def infer_flex_attention(
    Q: Fact,
    K: Fact,
    V: Fact,
    *,
    scale: float | None = None,
    softmax_precision: int | None = None,
    score_mod: Graph | None = None,
    prob_mod: Graph | None = None,
    node: InferNode,
) -> Fact:
    for name, fact in (("Q", Q), ("K", K), ("V", V)):
        require(
            fact.dtype in {None, Q.dtype},
            f"Q, K and V must have one type, found Q {Q.dtype} and {name} {fact.dtype}",
            DTypeError,
        )
        _check_rank(fact.shape, name)
    q, k, v = Q.shape, K.shape, V.shape
    _check_heads(q, k, v)
    batch = unified((q[0], k[0], v[0]))
    precision = _flex_precision(Q.dtype, softmax_precision)
    for graph in (score_mod, prob_mod):
        if graph is not None:
            node.infer_body(graph, [tensor(precision, (batch, q[1], q[2], k[2]))])
    return tensor(Q.dtype, (batch, q[1], q[2], v[3]))


def _check_rank(shape: Sequence[DimLike], name: str) -> None:
    require(
        len(shape) == 4,
        f"{name} must be [batch, heads, length, size], found {name}{shape_text(shape)}",
    )


def _flex_precision(dtype: DType | None, code: int | None) -> DType:
    if code is not None:
        return _precision(code)
    return FLOAT64 if dtype is FLOAT64 else FLOAT32


@FlexAttention.kernel
def flex_attention(
    Q: Array,
    K: Array,
    V: Array,
    *,
    scale: float | None = None,
    softmax_precision: int | None = None,
    score_mod: Graph | None = None,
    prob_mod: Graph | None = None,
    node: RunNode,
) -> Array:
    """Attention whose scores and weights pass through graphs of the model.

    y = prob_mod(softmax(score_mod(q · kᵀ · scale))) · v per head;  scale = 1/√size if absent.
    q[B, H, S, D] · k[B, G, T, D] · v[B, G, T, E] → y[B, H, S, E]; H/G query heads in a row share a
    key head. Both graphs map [B, H, S, T] to the same shape, in softmax_precision: float32 if
    absent, float64 for float64. Masks are scores of −∞; a row of them alone gives NaN.
    Source: ai.onnx.preview FlexAttention-1.
    """
    for name, x in (("Q", Q), ("K", K), ("V", V)):
        _check_rank(x.shape, name)
    _check_heads(Q.shape, K.shape, V.shape)
    precision = _flex_precision(DType.of(Q.dtype), softmax_precision).numpy
    scores = similarity(Q, K, scale).astype(precision, copy=False)
    if score_mod is not None:
        scores = _modified(scores, score_mod, "score_mod", node)
    weights = softmax(scores).astype(precision, copy=False)
    if prob_mod is not None:
        weights = _modified(weights, prob_mod, "prob_mod", node)
    return average(weights, V).astype(Q.dtype, copy=False)


def _modified(x: Array, graph: Graph, name: str, node: RunNode) -> Array:
    """What ``graph`` makes of ``x``: one tensor of the same dtype and shape."""
    results = node.run_body(graph, [x])
    require(len(results) == 1, f"{name} must give one output, found {len(results)}")
    result = np.asarray(results[0])
    require(
        result.shape == x.shape and result.dtype == x.dtype,
        f"{name} must keep {DType.of(x.dtype)}{shape_text(x.shape)}, "
        f"found {DType.of(result.dtype)}{shape_text(result.shape)}",
    )
    return result
