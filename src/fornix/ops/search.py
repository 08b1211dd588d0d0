"""Elements that fulfil a condition: Compress, NonZero, Unique.

How many there are depends on the data, so inference knows extents only of known contents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fornix.dtype import BFLOAT16, INT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, less
from fornix.ops.call import InferNode, RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.geometry import normalize_axis, shape_text
from fornix.ops.op import op
from fornix.ops.types import BF16, BOOL, TENSOR

COUNTED = "only the data tell how many elements there are"
"""Why compiled code calls the kernels."""
MOST_NUMBERS = 2**62
"""How many rows of integers may differ for each to be a number of 64 bits."""

Compress = (
    op("Compress <axis: int?> (input: T, condition: T1) => (output: T)",
       since=9, T=TENSOR, T1=BOOL)
    .since(11)
    .since(28, T=+BF16)
    .opaque(COUNTED)
)  # fmt: skip


@Compress.infer
def infer_compress(
    input: Fact, condition: Fact, *, axis: int | None = None, node: InferNode
) -> Fact:
    chosen = condition.constant
    count: DimLike = node.unknown("its condition is computed at run time")
    if chosen is not None:
        count = int(np.count_nonzero(chosen))
    elif condition.has_rank and 0 in condition.shape:
        count = 0
    if axis is None:
        return tensor(input.dtype, (count,))
    place = normalize_axis(axis, input.rank)
    if condition.has_rank:
        _check_condition(condition.shape, input.shape[place])
    return tensor(input.dtype, (*input.shape[:place], count, *input.shape[place + 1 :]))


@Compress.kernel
def compress(input: Array, condition: Array, *, axis: int | None = None) -> Array:
    """The slices of ``input`` along ``axis`` for which ``condition`` holds.

    input[*A, N, *B] · condition[M] → output[*A, count, *B], M ≤ N. Without ``axis``, the elements
    of the flattened input. What ``condition`` does not reach is left out. Raises ShapeError if it
    is longer than the axis. Source: ONNX Compress-11.
    """
    source = input.reshape(-1) if axis is None else input
    place = 0 if axis is None else normalize_axis(axis, input.ndim)
    _check_condition(condition.shape, source.shape[place])
    return np.take(source, np.flatnonzero(condition), place)


def _check_condition(shape: Sequence[DimLike], extent: DimLike) -> None:
    require(
        len(shape) == 1 and not less(extent, shape[0]),
        f"condition must be a list of at most {extent} entries, found {shape_text(shape)}",
    )


NonZero = (
    op("NonZero (X: T) => (Y: tensor(int64))", since=9, T=TENSOR)
    .since(13, T=+BF16)
    .opaque(COUNTED)
)  # fmt: skip


@NonZero.infer
def infer_non_zero(X: Fact, *, node: InferNode) -> Fact:
    if X.constant is not None:
        places = non_zero(X.constant)
        return tensor(INT64, places.shape, places.astype(object))
    if X.has_rank and 0 in X.shape:
        return tensor(INT64, (X.rank, 0), np.empty((X.rank, 0), object))
    rank = X.rank if X.has_rank else node.unknown("the rank of its input is unknown")
    return tensor(INT64, (rank, node.unknown("how many elements differ from zero")))


@NonZero.kernel
def non_zero(X: Array) -> Array:
    """Positions of the elements of ``X`` that are not zero, one per column, in row-major order.

    X[*S] → Y[rank, count]; of strings, those that are not empty. Source: ONNX NonZero-13.
    """
    return np.ascontiguousarray(np.argwhere(X).T, np.int64)


Unique = (
    op("""Unique <axis: int?, sorted: int = 1> (X: T) =>
              (Y: T, indices: tensor(int64)?, inverse_indices: tensor(int64)?,
               counts: tensor(int64)?)""", since=11, T=TENSOR)
    .since(28, T=+BF16)
    .opaque(COUNTED)
)  # fmt: skip


@Unique.infer
def infer_unique(
    X: Fact, *, axis: int | None = None, sorted: int, node: InferNode
) -> tuple[Fact, ...]:
    count = node.unknown("how many elements differ")
    found = tensor(INT64, (count,))
    if axis is None:
        whole: DimLike = node.unknown("the shape of its input is unknown")
        if X.has_rank:
            whole = 1
            for extent in X.shape:
                whole = whole * extent
        if whole == 0:
            found = tensor(INT64, (0,))
            return tensor(X.dtype, (0,)), found, found, found
        return tensor(X.dtype, (count,)), found, tensor(INT64, (whole,)), found
    if not X.has_rank:
        return unranked(X.dtype), found, tensor(INT64, (node.unknown("its extent"),)), found
    place = normalize_axis(axis, X.rank)
    extents = (*X.shape[:place], count, *X.shape[place + 1 :])
    return tensor(X.dtype, extents), found, tensor(INT64, (X.shape[place],)), found


@Unique.kernel
def unique(
    X: Array, *, axis: int | None = None, sorted: int, node: RunNode | None = None
) -> tuple[Array, ...]:
    """The distinct elements of ``X``, or its distinct slices along ``axis``.

    X[*S] → Y[count], with ``axis`` Y[*A, count, *B]; indices[count], inverse_indices[N],
    counts[count]: the distinct ones, where each stands first, which one each element of ``X`` is,
    and how often each occurs. They are sorted, slices lexicographically, or with sorted=0 in order
    of occurrence. All NaN count as one. Source: ONNX Unique-11.
    """
    place = 0 if axis is None else normalize_axis(axis, X.ndim)
    source = X.reshape(-1) if axis is None else X
    lines = np.moveaxis(source, place, 0) if place else source
    rows = lines.reshape(len(lines), -1 if lines.size else 0)
    if X.dtype == object and node is not None and not any(node.wanted[1:]):
        kinds = _kinds(_keys(rows), bool(sorted))
        found = np.array(kinds, object).reshape(len(kinds), *lines.shape[1:])
        return (np.moveaxis(found, 0, place) if place else found,)
    first, group = (_grouped_texts if X.dtype == object else _grouped)(rows, bool(sorted))
    counts = np.bincount(group, minlength=len(first)).astype(np.int64)
    return source.take(first, place), first.astype(np.int64), group, counts


def _grouped(rows: Array, is_sorted: bool) -> tuple[Array, Array]:
    """Where each distinct row stands first, and of each row which of these it is."""
    order, differs = _sorted_rows(rows if _is_ordered(rows) else _ranks(rows))
    first = order[differs]  # the sort is stable: the first of its kind leads each run
    group = np.empty(len(rows), np.int64)
    group[order] = np.cumsum(differs) - 1
    if not is_sorted:
        by_place = np.argsort(first)
        first, renamed = first[by_place], np.argsort(by_place)
        group = renamed[group]
    return first, group


def _grouped_texts(rows: Array, is_sorted: bool) -> tuple[Array, Array]:
    """The same of texts, which Python hashes once: NumPy compares two of them again and again."""
    keys = _keys(rows)
    numbers = {kind: number for number, kind in enumerate(_kinds(keys, is_sorted))}
    group = np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys))
    first = np.empty(len(numbers), np.int64)
    first[group[::-1]] = np.arange(len(keys) - 1, -1, -1)  # of places that repeat, the last counts
    return first, group


def _keys(rows: Array) -> list[Any]:
    """Rows of texts as what Python hashes."""
    if rows.shape[1] == 1:
        keys: list[Any] = rows[:, 0].tolist()
        return keys
    return [*zip(*rows.T.tolist(), strict=True)] if rows.shape[1] else [()] * len(rows)


def _kinds(keys: list[Any], is_sorted: bool) -> list[Any]:
    """Those of ``keys`` that differ."""
    kinds = dict.fromkeys(keys)
    return sorted(kinds) if is_sorted else [*kinds]


def _sorted_rows(rows: Array) -> tuple[Array, Array]:
    """The order that sorts rows, and whether each of them, so sorted, differs from the one before.

    Integers of few values are digits of one number.
    """
    differs = np.ones(len(rows), bool)
    if not rows.size:
        differs[1:] = False
        return np.arange(len(rows)), differs
    numbers = _as_numbers(rows)
    if numbers is None:
        order = np.lexsort(rows.T[::-1])
        differs[1:] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    else:
        order = numbers.argsort(kind="stable")
        found = numbers[order]
        np.not_equal(found[1:], found[:-1], out=differs[1:])
    return order, differs


def _as_numbers(rows: Array) -> Array | None:
    """A number for each row, in the same order, if there are some that 64 bits can tell."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    if rows.dtype.kind not in "biu":
        return None
    least = [int(low) for low in rows.min(axis=0)]
    spans = [int(most) - low + 1 for most, low in zip(rows.max(axis=0), least, strict=True)]
    if math.prod(spans) > MOST_NUMBERS:
        return None
    numbers = np.zeros(len(rows), np.int64)
    for column, low, span in zip(rows.T, least, spans, strict=True):
        wide = column if column.dtype.kind == "u" else column.astype(np.int64)
        numbers *= span
        numbers += (wide - wide.dtype.type(low)).astype(np.int64)
    return numbers


def _is_ordered(x: Array) -> bool:
    """Whether NumPy sorts and compares elements of ``x`` as they are, each equal to itself."""
    return x.dtype.kind in "biu" or (x.dtype.kind == "f" and not np.isnan(x).any())


def _ranks(x: Array) -> Array:
    """``x`` with each element replaced by its rank among the distinct ones."""
    if DType.of(x.dtype) is BFLOAT16:
        x = x.astype(np.float32)  # NumPy sorts NaN to the end of its own types only
    return np.unique(x, return_inverse=True)[1].reshape(x.shape)
