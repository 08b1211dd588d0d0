"""RotaryEmbedding of com.microsoft: positions come second, or are one offset for all.

MRotaryEmbedding has three positions for each token: in time, height and width.
"""

from __future__ import annotations

import numpy as np

from fornix.dtype import INT64
from fornix.errors import Fail, NotSupported, require
from fornix.ir.dim import DimLike, divide, known
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, gathered, index, select
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.shapes import check_extents, check_shape
from fornix.ops.op import op
from fornix.ops.rotary import lower_rotary_embedding, rotary_embedding
from fornix.ops.types import BF16, F16, F32, I64

RotaryEmbedding = op(
    """RotaryEmbedding <interleaved: int?, is_packed_batching: int?, num_heads: int?,
                        rotary_embedding_dim: int?, scale: float?>
                       (input: T, position_ids: M, cos_cache: T, sin_cache: T) => (output: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, M=I64,
)  # fmt: skip


@RotaryEmbedding.infer
def infer_rotary(
    x: Fact,
    position_ids: Fact,
    cos_cache: Fact,
    sin_cache: Fact,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Fact:
    if position_ids.has_rank:
        rows = (x.shape[0], x.shape[2 if x.rank == 4 else 1])
        check_shape("position_ids", position_ids, (1,) if position_ids.rank == 1 else rows)
    return tensor(x.dtype, x.shape)


def _check_plain(scale: float) -> None:
    require(scale == 1, f"scale must be 1, got {scale}", NotSupported)


def _heads(x: tuple[DimLike, ...], cos: tuple[DimLike, ...], stated: int, size: int) -> int | None:
    """How many heads the last axis of ``x`` has; None if ``x`` has an axis of them, or unknown."""
    if len(x) == 4 or stated:
        return stated or None
    require(not size, "num_heads is required with rotary_embedding_dim, found none")
    half = known(cos[-1])
    return None if half is None else known(divide(x[-1], 2 * max(half, 1)))


@RotaryEmbedding.kernel
def rotary(
    x: Array,
    position_ids: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Array:
    """Rotate pairs of elements by angles that depend on their position, as the standard's does.

    input[B, S, H·D] or [B, H, S, D] → output like it; position_ids[B, S], or [1]: the position of
    the first element of each row. Without num_heads, heads have the caches' two halves as size.
    Source: onnxruntime's contributed operators, RotaryEmbedding-1.
    """
    _check_plain(scale)
    length = x.shape[2 if x.ndim == 4 else 1]
    places = position_ids
    if position_ids.size == 1 and position_ids.ndim == 1:
        places = np.broadcast_to(position_ids + np.arange(length), (x.shape[0], length))
    return rotary_embedding(
        x,
        cos_cache,
        sin_cache,
        places,
        interleaved=interleaved,
        num_heads=_heads(x.shape, cos_cache.shape, num_heads, rotary_embedding_dim),
        rotary_embedding_dim=rotary_embedding_dim,
    )


@RotaryEmbedding.lower
def lower_rotary(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
    node: LowerNode,
) -> Tensor:
    _check_plain(scale)
    heads = _heads(x.shape, cos_cache.shape, num_heads, rotary_embedding_dim)
    if x.rank == 3 and heads is None:
        node.decline("the number of heads is known at run time only")
    length = x.shape[2 if x.rank == 4 else 1]
    places = position_ids
    if position_ids.rank == 1:
        places = compute((x.shape[0], length), lambda _, i: cast(position_ids[0], INT64) + index(i))
    return lower_rotary_embedding(
        x,
        cos_cache,
        sin_cache,
        places,
        interleaved=interleaved,
        num_heads=heads,
        rotary_embedding_dim=rotary_embedding_dim,
        node=node,
    )


MRotaryEmbedding = op(
    """MRotaryEmbedding <interleaved: int?, is_packed_batching: int?, mrope_layout: int?,
                         mrope_section: ints, num_heads: int?, rotary_embedding_dim: int?,
                         scale: float?>
                        (input: T, position_ids: M, cos_cache: T, sin_cache: T) => (output: T)""",
    since=1, domain=DOMAIN, T=BF16 | F16 | F32, M=I64,
)  # fmt: skip

STREAMS = 3
"""Positions of a token: in time, height and width."""
CHUNKS, WOVEN = 0, 1
"""How pairs are dealt out to them: one stretch for each, or in turns where each has any left."""


@MRotaryEmbedding.infer
def infer_streams(
    x: Fact,
    position_ids: Fact,
    cos_cache: Fact,
    sin_cache: Fact,
    *,
    mrope_section: list[int],
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Fact:
    _check_section(mrope_section, mrope_layout)
    length = x.shape[2 if x.rank == 4 else 1]
    check_shape("position_ids", position_ids, (STREAMS, x.shape[0], length))
    for name, cache in (("cos_cache", cos_cache), ("sin_cache", sin_cache)):
        check_shape(name, cache, (None, sum(mrope_section)))
    return tensor(x.dtype, x.shape)


def _check_section(section: list[int], layout: int) -> None:
    require(
        len(section) == STREAMS and min(section, default=0) >= 0,
        f"mrope_section must be three numbers, none negative, got {section}",
    )
    require(layout in {CHUNKS, WOVEN}, f"mrope_layout must be 0 or 1, got {layout}")


def _streams(section: list[int], layout: int) -> list[int]:
    """Which of its token's positions turns each pair."""
    if layout == CHUNKS:
        return [stream for stream, count in enumerate(section) for _ in range(count)]
    turns = [(pair % STREAMS, pair // STREAMS) for pair in range(sum(section))]
    return [stream if turn < section[stream] else 0 for stream, turn in turns]


@MRotaryEmbedding.kernel
def rotary_streams(
    x: Array,
    position_ids: Array,
    cos_cache: Array,
    sin_cache: Array,
    *,
    mrope_section: list[int],
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Array:
    """Rotate pairs of elements by angles that depend on where their token is in time and image.

    input[B, S, H·D] or [B, H, S, D] → output like it; position_ids[3, B, S]. Of the R/2 pairs
    mrope_section says how many each position turns: pairs in three stretches, or, with mrope_layout
    1, every third pair from the second on and from the third on, as long as the section lasts.
    Source: onnxruntime's contributed operators, MRotaryEmbedding-1.
    """
    _check_plain(scale)
    _check_section(mrope_section, mrope_layout)
    streams = _streams(mrope_section, mrope_layout)
    require(
        cos_cache.shape[1:] == sin_cache.shape[1:] == (len(streams),),
        f"mrope_section must have the sum {cos_cache.shape[-1]}, the width of the caches, "
        f"got {mrope_section}",
    )
    length = x.shape[2 if x.ndim == 4 else 1]
    check_extents("position_ids", position_ids.shape, (STREAMS, x.shape[0], length))
    rows = min(len(cos_cache), len(sin_cache))
    outside = position_ids[(position_ids < 0) | (position_ids >= rows)]
    require(
        not outside.size,
        f"position_ids must be in [0, {rows - 1}], the rows of the caches, "
        f"got {outside[:1].tolist()}",
        Fail,
    )
    places = np.moveaxis(position_ids[streams], 0, -1)
    pairs = np.arange(len(streams))
    return rotary_embedding(
        x,
        cos_cache[places, pairs],
        sin_cache[places, pairs],
        interleaved=interleaved,
        num_heads=_heads(x.shape, cos_cache.shape, num_heads, rotary_embedding_dim),
        rotary_embedding_dim=rotary_embedding_dim,
    )


@MRotaryEmbedding.lower
def lower_rotary_streams(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    mrope_section: list[int],
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
    node: LowerNode,
) -> Tensor:
    _check_plain(scale)
    heads = _heads(x.shape, cos_cache.shape, num_heads, rotary_embedding_dim)
    if x.rank == 3 and heads is None:
        node.decline("the number of heads is known at run time only")
    streams = _streams(mrope_section, mrope_layout)

    def angles(cache: Tensor) -> Tensor:
        def at(b: DimLike, t: DimLike, j: DimLike) -> Scalar:
            place = position_ids[0, b, t]
            for stream in range(1, STREAMS):
                place = select(_is_of(j, stream), position_ids[stream, b, t], place)
            return cache[gathered(place, cache.shape[0]), j]

        return compute((*position_ids.shape[1:], len(streams)), at)

    def _is_of(j: DimLike, stream: int) -> Scalar:
        if mrope_layout == CHUNKS:
            first = sum(mrope_section[:stream])
            return (index(j) >= first) & (index(j) < first + mrope_section[stream])
        turn = apply("eq", index(j - j // STREAMS * STREAMS), stream)
        return turn & (index(j // STREAMS) < mrope_section[stream])

    return lower_rotary_embedding(
        x,
        angles(cos_cache),
        angles(sin_cache),
        interleaved=interleaved,
        num_heads=heads,
        rotary_embedding_dim=rotary_embedding_dim,
        node=node,
    )
