"""What decoders of texts do between steps: NGramRepeatBlock, BifurcationDetector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import INT64, UINT8
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, known, maximum
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    const,
    gathered,
    reduce,
    scatter,
    select,
)
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.types import I64

NGramRepeatBlock = op(
    """NGramRepeatBlock <ngram_size: int> (input_ids: tensor(int64), scores: tensor(float)) =>
                        (scores_out: tensor(float))""",
    since=1, domain=DOMAIN,
)  # fmt: skip


def _check_size(ngram_size: int) -> None:
    require(ngram_size > 0, f"ngram_size must be positive, got {ngram_size}")


@NGramRepeatBlock.infer
def infer_n_gram_repeat_block(input_ids: Fact, scores: Fact, *, ngram_size: int) -> Fact:
    _check_size(ngram_size)
    check_shape("input_ids", input_ids, (None, None))
    check_shape("scores", scores, (input_ids.shape[0] if input_ids.has_rank else None, None))
    return tensor(scores.dtype, scores.shape)


@NGramRepeatBlock.kernel
def n_gram_repeat_block(input_ids: Array, scores: Array, *, ngram_size: int) -> Array:
    """Scores, −∞ where one more token would make an n-gram that the row of input_ids has already.

    input_ids[B, S] · scores[B, V] → scores_out[B, V]: −∞ at input_ids[b, i + n − 1] for each i with
    input_ids[b, i : i + n − 1] = input_ids[b, S − n + 1 :], n = ngram_size.
    Raises Fail if such a token has no score. Source: onnxruntime's contributed operators,
    NGramRepeatBlock-1.
    """
    _check_size(ngram_size)
    batch, count = input_ids.shape
    check_extents("scores", scores.shape, (batch, None))
    y = scores.copy()
    if count < ngram_size:
        return y
    windows = np.lib.stride_tricks.sliding_window_view(input_ids, ngram_size, axis=1)
    tail = input_ids[:, None, count - ngram_size + 1 :]
    row, place = np.nonzero((windows[:, :, :-1] == tail).all(axis=2))
    tokens = windows[row, place, -1]
    wrong = tokens[(tokens < 0) | (tokens >= scores.shape[1])]
    require(
        not wrong.size, f"tokens must be in [0, {scores.shape[1] - 1}], got {wrong[:1].sum()}", Fail
    )
    y[row, tokens] = -math.inf
    return y


@NGramRepeatBlock.lower
def lower_n_gram_repeat_block(input_ids: Tensor, scores: Tensor, *, ngram_size: int) -> Tensor:
    (batch, count), before = input_ids.shape, ngram_size - 1

    def repeats(b: DimLike, i: DimLike) -> Scalar:
        def same(j: DimLike) -> Scalar:
            equal = apply("eq", input_ids[b, i + j], input_ids[b, count - before + j])
            return cast(equal, UINT8)

        return reduce("min", before, same) if before else const(1, UINT8)

    def token(b: DimLike, i: DimLike) -> tuple[DimLike, DimLike]:
        found = select(repeats(b, i) > 0, input_ids[b, i + before], 0)
        return b, gathered(found, scores.shape[1])

    places = (batch, maximum(count - before, 0))
    none = compute(scores.shape, lambda *_: 0, UINT8)
    hits = scatter(none, places, token, repeats, "max")
    return compute(scores.shape, lambda *i: select(hits[i] > 0, -math.inf, scores[i]))


BifurcationDetector = op(
    """BifurcationDetector <max_ngram_size: int = 3, min_ngram_size: int = 1>
                           (src_tokens: T, cur_tokens: T, prev_suffix_match_idx: T, pred_tokens: T?)
                        => (tokens: T, suffix_match_idx: T)""",
    since=1, domain=DOMAIN, T=I64,
).opaque("how many tokens agree only the data tell")  # fmt: skip


@BifurcationDetector.infer
def infer_bifurcation_detector(
    src_tokens: Fact,
    cur_tokens: Fact,
    prev_suffix_match_idx: Fact,
    pred_tokens: Fact | None = None,
    *,
    node: InferNode,
    **_sizes: int,
) -> tuple[Fact, Fact]:
    for name, fact in (("src_tokens", src_tokens), ("cur_tokens", cur_tokens)):
        check_shape(name, fact, (None,))
    if prev_suffix_match_idx.has_rank:
        _check_place(prev_suffix_match_idx.shape)
    count = cur_tokens.shape[0]
    if pred_tokens is not None:
        check_shape("pred_tokens", pred_tokens, (None,))
        count = node.unknown("how many tokens agree")
    return tensor(INT64, (count,)), tensor(INT64, prev_suffix_match_idx.shape)


def _check_place(shape: Sequence[DimLike]) -> None:
    require(
        all(known(extent) in {None, 1} for extent in shape),
        f"prev_suffix_match_idx must be one number, got prev_suffix_match_idx{shape_text(shape)}",
    )


@BifurcationDetector.kernel
def bifurcation_detector(
    src_tokens: Array,
    cur_tokens: Array,
    prev_suffix_match_idx: Array,
    pred_tokens: Array | None = None,
    *,
    max_ngram_size: int,
    min_ngram_size: int,
) -> tuple[Array, Array]:
    """Tokens so far and those predicted up to the first that differs from the source.

    tokens = cur_tokens, and behind it pred_tokens up to the first that is not src_tokens[prev + i],
    that one included. suffix_match_idx tells where in src_tokens the last n of them end, for the
    greatest n of min_ngram_size … max_ngram_size that they have, if once; −1 if more often.
    Source: onnxruntime's contributed operators, BifurcationDetector-1.
    """
    require(
        0 < min_ngram_size <= max_ngram_size,
        f"min_ngram_size must be in [1, {max_ngram_size}], got {min_ngram_size}",
    )
    _check_place(prev_suffix_match_idx.shape)
    tokens = cur_tokens
    if pred_tokens is not None:
        first = int(prev_suffix_match_idx.reshape(-1)[0])
        require(
            0 <= first <= len(src_tokens),
            f"prev_suffix_match_idx must be in [0, {len(src_tokens)}], got {first}",
        )
        rest = src_tokens[first:]
        check_extents("pred_tokens", pred_tokens.shape, (len(rest) + 1,))
        agreed = int(np.cumprod(pred_tokens[:-1] == rest).sum())
        tokens = np.concatenate([cur_tokens, pred_tokens[: agreed + 1]])
    end = _only_end(src_tokens, tokens, range(min_ngram_size, max_ngram_size + 1))
    return tokens, np.full(prev_suffix_match_idx.shape, end, np.int64)


def _only_end(source: Array, tokens: Array, sizes: range) -> int:
    """Where the most of the last tokens that ``source`` has end in it; −1 if at several places."""
    found = -1
    for size in sizes:
        if size > len(tokens) or size > len(source):
            break
        windows = np.lib.stride_tricks.sliding_window_view(source, size)
        places = np.nonzero((windows == tokens[len(tokens) - size :]).all(axis=1))[0]
        if not places.size:
            break
        found = int(places[0]) + size if len(places) == 1 else -1
    return found
