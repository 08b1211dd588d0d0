"""Attention as loops: two contractions with masks and a softmax between them.

The counterparts of what `attention.py` and `visibility.py` do on arrays; scores are [B, H, S, T].
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.dtype import BOOL, FLOAT64, INT64, DType
from fornix.ir.dim import DimLike, equal, known, minimum
from fornix.ir.loops import TRUE, Scalar, Tensor, apply, cast, compute, index, reduce, select
from fornix.ops.along import along
from fornix.ops.call import LowerNode
from fornix.ops.precision import cast_tensor, wide_dtype
from fornix.ops.visibility import check_windows

Seen = Callable[[DimLike, DimLike, DimLike], Scalar]
"""From batch, query and key to whether the query sees the key."""


@dataclass(frozen=True)
class LoopVisibility:
    """`visibility.Visibility` for lowerings."""

    queries: DimLike
    keys: DimLike
    past: DimLike
    filled: Tensor | None
    is_causal: bool
    windows: tuple[int, int]

    def masked(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """``scores`` with ``mask`` added, and −∞ for keys that are not seen."""
        check_windows(self.windows)
        reader = None if mask is None else _mask_reader(mask, scores.shape)

        def at(*i: DimLike) -> Scalar:
            score, seen = scores[i], self.seen(i[0], i[2], i[3])
            if mask is not None and reader is not None:
                if mask.dtype is BOOL:
                    seen = seen & reader(i, BOOL)
                else:
                    added = reader(i, scores.dtype)
                    # A key hidden by −∞ stays hidden where its score is +∞ or NaN.
                    score = select(apply("eq", added, -math.inf), -math.inf, score + added)
            return select(seen, score, -math.inf)

        return compute(scores.shape, at)

    def seen(self, batch: DimLike, query: DimLike, key: DimLike) -> Scalar:
        """Whether ``query`` sees ``key``, masks aside."""
        left, right = self.windows
        limits: list[Scalar] = []
        position = index(query + self.past)
        if self.filled is not None:
            end = cast(self.filled[batch], INT64)
            position = index(query - self.queries) + end
            limits.append(index(key) < end)
        if self.is_causal:
            limits.append(index(key) <= position)
        if left >= 0:
            limits.append(index(key) >= position - left)
        if right >= 0:
            limits.append(index(key) <= position + right)
        return functools.reduce(operator.and_, limits, TRUE)


Reader = Callable[[Sequence[DimLike], DType], Scalar]
"""From the place of a score and a dtype to the mask's element there."""


def _mask_reader(mask: Tensor, shape: Sequence[DimLike]) -> Reader:
    """Reads a mask that broadcasts to ``shape``; keys that it does not reach to are hidden.

    Open extents are those of ``shape``: runs in which they are 1 have a program of their own.
    """
    lead = len(shape) - mask.rank
    pairs = zip(mask.shape[:-1], shape[lead:-1], strict=True)
    is_sure = all(extent == 1 or equal(extent, wanted) is True for extent, wanted in pairs)

    def read(i: Sequence[DimLike], dtype: DType) -> Scalar:
        if not mask.rank:
            return cast(mask[()], dtype)
        own = [0 if n == 1 else k for n, k in zip(mask.shape[:-1], i[lead:-1], strict=True)]
        reaches = index(i[-1]) < index(mask.shape[-1])
        if is_sure:
            value = mask.get((*own, i[-1]), False)
        else:  # each run is asked whether the other places lie in the mask
            value = mask[(*own, minimum(i[-1], mask.shape[-1] - 1))]
        if dtype is BOOL:
            return value & reaches
        return select(reaches, cast(value, dtype), -math.inf)

    return read


def lower_similarity(q: Tensor, k: Tensor, scale: float | None, node: LowerNode) -> Tensor:
    """`attention.similarity` for lowerings."""
    wide, shared = wide_dtype(q.dtype), _sharing(q.shape[1], k.shape[1], node)
    factor = _factor(q.shape[3], scale, wide)

    def at(b: DimLike, h: DimLike, i: DimLike, j: DimLike) -> Scalar:
        def product(d: DimLike) -> Scalar:
            return cast(q[b, h, i, d], wide) * factor * cast(k[b, h // shared, j, d], wide)

        return reduce("sum", q.shape[3], product)

    return compute((*q.shape[:3], k.shape[2]), at)


def _factor(size: DimLike, scale: float | None, wide: DType) -> Scalar | float:
    if scale is not None:
        return scale
    extent = known(size)
    if extent is not None:
        return 1 / math.sqrt(extent) if extent else 1.0
    return cast(1.0 / apply("sqrt", cast(index(size), FLOAT64)), wide)


def _sharing(heads: DimLike, groups: DimLike, node: LowerNode) -> int:
    """How many query heads in a row share a key head."""
    if equal(heads, groups) is True:
        return 1
    many, few = known(heads), known(groups)
    if many is None or few is None:
        node.decline("how many query heads share a key head depends on an extent")
    return many // max(few, 1)


def lower_average(weights: Tensor, v: Tensor, node: LowerNode) -> Tensor:
    """`attention.average` for lowerings."""
    shared = _sharing(weights.shape[1], v.shape[1], node)
    wide = max(wide_dtype(weights.dtype), wide_dtype(v.dtype), key=lambda dtype: dtype.bits)

    def at(b: DimLike, h: DimLike, i: DimLike, e: DimLike) -> Scalar:
        def product(j: DimLike) -> Scalar:
            return cast(weights[b, h, i, j], wide) * cast(v[b, h // shared, j, e], wide)

        return reduce("sum", v.shape[2], product)

    return compute((*weights.shape[:3], v.shape[3]), at)


def lower_weights(
    scores: Tensor, empty: float, sink: Callable[[DimLike], Scalar] | None = None
) -> Tensor:
    """`attention.softmax` for lowerings; ``sink`` is a head's score that no key has."""
    wide = cast_tensor(scores, wide_dtype(scores.dtype))
    top = along("max", wide, [3])

    def power(score: Scalar, *i: DimLike) -> Scalar:
        highest = top[i[:3]]
        shift = select(apply("eq", highest, -math.inf), 0.0, highest)
        return apply("exp", score - shift)

    powers = compute(wide.shape, lambda *i: power(wide[i], *i))
    total = along("sum", powers, [3])

    def weight(*i: DimLike) -> Scalar:
        is_empty = apply("eq", top[i[:3]], -math.inf)
        whole = total[i[:3]]
        whole = whole if sink is None else whole + power(cast(sink(i[1]), wide.dtype), *i)
        return select(is_empty, empty, powers[i] / whole)

    return compute(wide.shape, weight)
