"""Words as vectors, by convolutions over their characters: WordConvEmbedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fornix.dtype import INT64
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    reduce,
    select,
    stored,
)
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.types import F32, I32

WordConvEmbedding = op(
    """WordConvEmbedding <char_embedding_size: int?, conv_window_size: int?, embedding_size: int?>
                         (Sequence: T, W: T1, B: T1, C: T1) => (Y: T1)""",
    since=1, domain=DOMAIN, T=I32, T1=F32,
)  # fmt: skip

FILTER_AXES = 4
"""Axes of W: filters, one channel, characters of a window, elements of a character."""


@WordConvEmbedding.infer
def infer_word_conv_embedding(sequence: Fact, w: Fact, b: Fact, c: Fact, **sizes: int) -> Fact:
    _check_words(sequence.shape, w.shape, b.shape, c.shape, sizes)
    return tensor(w.dtype, (sequence.shape[0], w.shape[0]))


@WordConvEmbedding.kernel
def word_conv_embedding(sequence: Array, w: Array, b: Array, c: Array, **sizes: int) -> Array:
    """Vectors of words: the greatest tanh(Σ W · characters + B) of the windows of each word.

    Sequence[S, L] of characters, W[F, 1, K, E], B[F], C[V, E] with a row for each character →
    Y[S, F]. A word has as many characters as are above 0, K at least; one whose first is 0 is empty
    and gets zeros. Source: onnxruntime's contributed operators, WordConvEmbedding-1.
    """
    _check_words(sequence.shape, w.shape, b.shape, c.shape, sizes)
    inside = (sequence >= 0) & (sequence < len(c))
    require(bool(inside.all()), f"characters must be in [0, {len(c) - 1}]", Fail)
    width = w.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(c[sequence], width, axis=1)  # [S, P, E, K]
    y = np.tanh(np.tensordot(windows, w[:, 0], axes=([2, 3], [2, 1])) + b)
    counts = np.maximum((sequence > 0).sum(axis=1), width) - width + 1
    is_seen = np.arange(y.shape[1]) < counts[:, None]
    best = np.where(is_seen[:, :, None], y, np.float32(-np.inf)).max(axis=1)
    return np.where(sequence[:, :1] > 0, best, np.float32(0)).astype(w.dtype, copy=False)


@WordConvEmbedding.lower
def lower_word_conv_embedding(
    sequence: Tensor, w: Tensor, b: Tensor, c: Tensor, **sizes: int
) -> Tensor:
    _check_words(sequence.shape, w.shape, b.shape, c.shape, sizes)
    (words, length), (filters, _, width, size) = sequence.shape, w.shape
    places = length - width + 1

    def character(s: DimLike, at: DimLike, e: DimLike) -> Scalar:
        return c[gathered(sequence[s, at], c.shape[0]), e]

    characters = stored(compute((words, length, size), character), "characters")

    def window(s: DimLike, p: DimLike, f: DimLike) -> Scalar:
        total = reduce("sum", (width, size), lambda k, e: characters[s, p + k, e] * w[f, 0, k, e])
        return apply("tanh", total + b[f])

    values = stored(compute((words, places, filters), window), "windows")
    counted = compute(
        (words,), lambda s: reduce("sum", length, lambda at: cast(sequence[s, at] > 0, INT64))
    )
    counts = stored(counted, "counts")

    def best(s: DimLike, f: DimLike) -> Scalar:
        last = apply("max", counts[s] - index(width), 0)
        lowest = -1.0  # of tanh
        most = reduce("max", places, lambda p: select(index(p) <= last, values[s, p, f], lowest))
        return select(sequence[s, 0] > 0, most, 0)

    return compute((words, filters), best)


def _check_words(
    sequence: Sequence[DimLike],
    w: Sequence[DimLike],
    b: Sequence[DimLike],
    c: Sequence[DimLike],
    sizes: Mapping[str, int],
) -> None:
    require(
        (len(sequence), len(w), len(b), len(c)) == (2, FILTER_AXES, 1, 2),
        f"Sequence must be [S, L], W [F, 1, K, E], B [F] and C [V, E], got {shape_text(sequence)}, "
        f"{shape_text(w)}, {shape_text(b)} and {shape_text(c)}",
    )
    fits = equal(w[1], 1), equal(b[0], w[0]), equal(c[1], w[3])
    require(
        False not in fits,
        f"B and C must have an element for each of F and E of W[F, 1, K, E], got W{shape_text(w)}, "
        f"B{shape_text(b)} and C{shape_text(c)}",
    )
    room = sequence[1] - w[2]
    require(
        not isinstance(room, int) or room >= 0,
        f"words must be as long as windows, got {sequence[1]} characters and windows of {w[2]}",
    )
    names = {"embedding_size": w[0], "conv_window_size": w[2], "char_embedding_size": w[3]}
    for name, given in sizes.items():
        require(
            equal(names[name], given) is not False, f"{name} must be {names[name]}, got {given}"
        )


__all__ = ["WordConvEmbedding"]
