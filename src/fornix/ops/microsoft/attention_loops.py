"""Attention of com.microsoft as loops: the counterparts of `attention` for lowerings.

Queries, keys and values are brought into [batch, heads, length, size]; what a mask says becomes an
expression of the place of a score; the rest are the standard's loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.dtype import INT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, divide, equal, maximum, minimum
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, const, index, select, stored
from fornix.ir.loops.scalar import gathered
from fornix.ops.attention_loops import lower_average, lower_similarity, lower_weights
from fornix.ops.call import LowerNode
from fornix.ops.geometry import shape_text
from fornix.ops.move import lower_concat
from fornix.ops.precision import cast_tensor, wide_dtype

At = Callable[[DimLike, DimLike, DimLike, DimLike], Scalar]
"""From batch, head, query and key to a number."""


def heads_apart(x: Tensor, heads: int, first: DimLike = 0, width: DimLike | None = None) -> Tensor:
    """``width`` columns of x[B, L, …] from ``first`` on as [B, H, L, D]; all of them if None."""
    columns = x.shape[2] if width is None else width
    size = divide(columns, heads)
    shape = (x.shape[0], heads, x.shape[1], size)
    return compute(shape, lambda b, h, i, d: x[b, i, first + h * size + d])


def heads_together(y: Tensor, dtype: DType) -> Tensor:
    """y[B, H, S, E] as [B, S, H·E]."""
    batch, heads, length, size = y.shape
    return compute(
        (batch, length, heads * size),
        lambda b, i, e: cast(y[b, e // size, i, e - e // size * size], dtype),
    )


@dataclass(frozen=True)
class LoopMask:
    """`attention.Mask` for lowerings."""

    index: Tensor | None
    bias: Tensor | None
    filter_value: float
    is_causal: bool

    def applied(self, scores: Tensor) -> Tensor:
        """``scores`` with what is added, and −∞ for keys behind a query's position."""
        _, _, queries, keys = scores.shape
        added = None if self.bias is None else _bias_at(self.bias, scores)
        seen = None if self.index is None else _seen_at(self.index, scores)

        def at(b: DimLike, h: DimLike, i: DimLike, j: DimLike) -> Scalar:
            value = scores[b, h, i, j]
            total = None if added is None else added(b, h, i, j)
            if seen is not None:
                hidden = select(seen(b, h, i, j), const(0.0, value.dtype), self.filter_value)
                total = hidden if total is None else total + hidden
            value = value if total is None else value + total
            if not self.is_causal:
                return value
            return select(index(j) <= index(i) + index(keys - queries), value, -math.inf)

        return compute(scores.shape, at)


def _bias_at(bias: Tensor, scores: Tensor) -> At:
    """What ``bias`` adds to a score; it broadcasts.

    Where it has an open number of batches or heads that may be 1, the last of these is read. Open
    numbers of queries and keys are those of the scores.
    """
    require(bias.rank == 4, f"attention_bias must have 4 axes, found {shape_text(bias.shape)}")

    def at(*i: DimLike) -> Scalar:
        extents = zip(i, bias.shape, scores.shape, strict=True)
        outer = [_least(*each) for each in list(extents)[:2]]
        inner = [0 if n == 1 else k for n, k in zip(bias.shape[2:], i[2:], strict=True)]
        return cast(bias[(*outer, *inner)], scores.dtype)

    return at


def _least(place: DimLike, extent: DimLike, whole: DimLike) -> DimLike:
    """``place`` among ``whole`` in what is as long, or of one element."""
    if extent == 1:
        return 0
    return place if equal(extent, whole) is True else minimum(place, extent - 1)


def _seen_at(mask: Tensor, scores: Tensor) -> At:
    """Whether a mask leaves a key; see `attention._padding` for its forms."""
    batch, _, queries, keys = scores.shape
    if mask.rank == 1:
        return _within(mask, batch)
    rows = mask.shape[0]
    if mask.rank == 2:
        return lambda b, _h, _i, j: mask[0 if rows == 1 else b, j] > 0
    if mask.rank == 3:
        return lambda b, _h, i, j: mask[0 if rows == 1 else b, i, j] > 0
    past = keys - queries
    return lambda b, _h, i, j: mask[0 if rows == 1 else b, 0, i + past, j] > 0


def _within(ends: Tensor, batch: DimLike) -> At:
    """Whether a key is before the end of its batch, and behind its begin if ``ends`` says it."""
    count = ends.shape[0]

    def seen(b: DimLike, _h: DimLike, _i: DimLike, j: DimLike) -> Scalar:
        is_before = index(j) < cast(ends[b], INT64)
        if equal(count, batch) is True or equal(count, 3 * batch + 2) is True:
            return is_before
        if equal(count, 2 * batch) is True:
            return is_before & (index(j) >= cast(ends[b + batch], INT64))
        begin = cast(ends[minimum(b + batch, count - 1)], INT64)
        has_begins = apply("eq", index(2 * batch), index(count))
        return is_before & (index(j) >= select(has_begins, begin, 0))

    return seen


def attended(
    q: Tensor, k: Tensor, v: Tensor, mask: LoopMask, scale: float, node: LowerNode
) -> tuple[Tensor, Tensor]:
    """`attention._attended` for lowerings, heads apart."""
    require(
        equal(q.shape[3], k.shape[3]) is not False and equal(k.shape[2], v.shape[2]) is not False,
        f"queries, keys and values must fit, found {shape_text(q.shape)}, {shape_text(k.shape)} "
        f"and {shape_text(v.shape)} of form [batch, heads, length, size]",
    )
    scores = mask.applied(lower_similarity(q, k, scale or None, node))
    return lower_average(lower_weights(scores, 0.0), v, node), scores


def lower_self_attention(
    together: Tensor,
    columns: Sequence[DimLike],
    num_heads: int,
    past: Tensor | None,
    mask: LoopMask,
    scale: float,
    dtype: DType,
    node: LowerNode,
) -> tuple[Tensor | None, ...]:
    """`attention.self_attention` for lowerings."""
    together = stored(together, "projected")
    firsts: Sequence[DimLike] = (0, columns[0], columns[0] + columns[1])
    q, k, v = (
        heads_apart(together, num_heads, first, width)
        for first, width in zip(firsts, columns, strict=True)
    )
    if past is not None:
        k, v = (lower_concat(_part(past, part, k.dtype), x, axis=2) for part, x in ((0, k), (1, v)))
    present = compute(
        (2, *k.shape),
        lambda p, *i, k=k, v=v: cast(select(apply("eq", index(p), 0), k[i], v[i]), dtype),
    )
    if past is not None and dtype is k.dtype:  # it lies in memory for this step, too
        present = stored(present, "cache")
        k, v = (_part(present, part, dtype) for part in range(2))
    y, _ = attended(q, k, v, mask, scale, node)
    return heads_together(y, dtype), present if node.wants(1) else None


def _part(past: Tensor, part: int, dtype: DType) -> Tensor:
    return compute(past.shape[1:], lambda *i: cast(past[(part, *i)], dtype))


def with_bias(x: Tensor, bias: Tensor | None, first: DimLike) -> Tensor:
    """x[B, H, L, D] in float32 or wider, with H·D elements of a bias from ``first`` on added."""
    size, wide = x.shape[3], wide_dtype(x.dtype)
    if bias is None:
        return cast_tensor(x, wide)
    return compute(
        x.shape,
        lambda b, h, i, d: cast(x[b, h, i, d], wide) + cast(bias[first + h * size + d], wide),
    )


@dataclass(frozen=True)
class Cache:
    """Where a cache takes new keys: behind what each batch has in it."""

    filled: Tensor
    """seqlens_k: keys of each batch, the new ones included, less one."""
    past: DimLike
    """Places of the cache as it comes."""
    queries: DimLike
    total: DimLike
    """Keys that queries may see, the new ones included."""

    @property
    def capacity(self) -> DimLike:
        """Places of the cache as it goes."""
        return maximum(self.past, self.total)

    def start(self, b: DimLike) -> DimLike:
        """Keys of a batch that were there, which is checked; none where all are new."""
        place = (b,) if self.filled.rank == 1 else (b, 0)
        count = cast(self.filled[place], INT64) + 1 - index(self.queries)
        is_new = apply("eq", index(self.total), index(self.queries))
        return gathered(select(is_new, 0, count), self.capacity - self.queries + 1)

    def positions(self, position_ids: Tensor | None, rows: DimLike) -> Tensor:
        """The rows of tables of ``rows`` angles for the new keys."""
        batch = self.filled.shape[0]

        def at(b: DimLike, i: DimLike) -> Scalar:
            place = index(self.start(b) + i)
            if position_ids is not None:
                is_prompt = apply("eq", index(self.total), index(self.queries))
                is_prompt = is_prompt & (index(self.queries) > 1)
                place = select(is_prompt, position_ids[0, 0] + index(i), position_ids[b, i])
            return apply("min", apply("max", place, 0), index(rows - 1))

        return compute((batch, self.queries), at)

    def joined(self, past: Tensor | None, new: Tensor) -> Tensor:
        """The cache with ``new`` in it, 0 behind that."""
        batch, groups, _, size = new.shape

        def at(b: DimLike, g: DimLike, t: DimLike, d: DimLike) -> Scalar:
            start = self.start(b)
            later = new.get((b, g, t - start, d), 0)
            if past is None:
                return later
            earlier = cast(past.get((b, g, t, d), 0), new.dtype)
            return select(index(t) < index(start), earlier, later)

        return stored(compute((batch, groups, self.capacity, size), at), "cache")

    def visible(self, scores: Tensor, window: int) -> Tensor:
        """``scores`` of keys at or before the query's position, ``window`` of them unless −1."""

        def at(b: DimLike, h: DimLike, i: DimLike, j: DimLike) -> Scalar:
            position = index(self.start(b) + i)
            seen = index(j) <= position
            if window >= 0:
                seen = seen & (index(j) > position - window)
            return select(seen, scores[b, h, i, j], -math.inf)

        return compute(scores.shape, at)


def front(cache: Tensor, count: DimLike) -> Tensor:
    """The first ``count`` places of a cache."""
    batch, groups, _, size = cache.shape
    return compute((batch, groups, count, size), lambda *i: cache[i])


__all__ = [
    "Cache",
    "LoopMask",
    "attended",
    "front",
    "heads_apart",
    "heads_together",
    "lower_self_attention",
    "with_bias",
]
