"""Reductions: sums, norms, extremes and positions of extremes over axes; running sums; TopK.

The ten Reduce operators differ only in what they do to the elements: `_reduction` gives them their
rules from that. Narrow floats are reduced in float32.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fornix.dtype import INT64
from fornix.errors import require
from fornix.ir.dim import DimLike, known, maximum, minimum
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, as_value, tensor, unranked
from fornix.ops.geometry import normalize_axes, normalize_axis, shape_text
from fornix.ops.op import Operator, op
from fornix.ops.precision import widened
from fornix.ops.types import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    FLOAT,
    I8,
    I32,
    I64,
    INT,
    NUMERIC,
    U8,
    U32,
    U64,
)

Axes = tuple[int, ...]


def _reduction(
    declared: Operator,
    description: str,
    reduce: Callable[[Array, Axes], Array],
    propagate: Callable[[DimLike, DimLike], DimLike] | None = None,
) -> None:
    """Give ``declared`` its rules; ``reduce`` keeps the reduced axes, with extent 1."""

    def infer(
        data: Fact,
        axes: Fact | list[int] | None = None,
        *,
        keepdims: int,
        noop_with_empty_axes: int = 0,
        node: InferNode,
    ) -> Fact:
        named = _named(axes)
        if isinstance(named, Fact):
            return _of_unknown_axes(data, named, bool(keepdims), node)
        reduced = _axes(named, data.rank, bool(noop_with_empty_axes))
        extents = _reduced(data.shape, reduced, bool(keepdims))
        value = data.value if data.rank == 1 and reduced else None
        if propagate is None or value is None or not value.size:
            return tensor(data.dtype, extents)
        total = functools.reduce(propagate, value.tolist())
        return tensor(data.dtype, extents, as_value([total] if keepdims else total))

    def kernel(
        data: Array,
        axes: Array | list[int] | None = None,
        *,
        keepdims: int,
        noop_with_empty_axes: int = 0,
    ) -> Array:
        named = None if axes is None else np.asarray(axes, np.int64).reshape(-1).tolist()
        reduced = _axes(named, data.ndim, bool(noop_with_empty_axes))
        result = np.asarray(reduce(widened(data), reduced)).astype(data.dtype)
        return result if keepdims else result.reshape(_reduced(data.shape, reduced, False))

    kernel.__doc__ = description
    declared.infer(infer)
    declared.kernel(kernel)


def _named(axes: Fact | list[int] | None) -> Fact | list[int] | None:
    """The axes as a list where they are known."""
    if not isinstance(axes, Fact) or axes.constant is None:
        return axes
    return [int(axis) for axis in axes.constant.reshape(-1)]


def _axes(named: Sequence[int] | None, rank: int, is_noop: bool) -> Axes:
    """The axes to reduce: those named, else all, or none where that is asked for."""
    if named:
        return tuple(sorted(normalize_axes(named, rank)))
    return () if is_noop else tuple(range(rank))


def _reduced(shape: Sequence[DimLike], axes: Axes, keeps: bool) -> list[DimLike]:
    if keeps:
        return [1 if axis in axes else extent for axis, extent in enumerate(shape)]
    return [extent for axis, extent in enumerate(shape) if axis not in axes]


def _of_unknown_axes(data: Fact, axes: Fact, keeps: bool, node: InferNode) -> Fact:
    """What is known of a reduction over axes that are computed at run time."""
    reason = "its axes are computed at run time"
    if keeps:
        return tensor(data.dtype, [node.unknown(reason) for _ in data.shape])
    count = known(axes.shape[0]) if axes.has_rank and axes.rank == 1 else None
    if not count or count > data.rank:
        return unranked(data.dtype)
    return tensor(data.dtype, [node.unknown(reason) for _ in range(data.rank - count)])


def _count(x: Array, axes: Axes) -> int:
    return math.prod(x.shape[axis] for axis in axes)


def _lowest(dtype: np.dtype[Any]) -> Any:
    """The neutral element of max: −∞ or the least value of ``dtype``."""
    if dtype.kind == "b":
        return False
    return np.array(-np.inf, dtype) if dtype.kind not in "iu" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    """The neutral element of min: ∞ or the greatest value of ``dtype``."""
    if dtype.kind == "b":
        return True
    return np.array(np.inf, dtype) if dtype.kind not in "iu" else np.iinfo(dtype).max


ReduceSum = (
    op("ReduceSum <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, """ReduceSum <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                       axes: tensor(int64)?) => (reduced: T)""", T=+BF16)
)  # fmt: skip

_reduction(
    ReduceSum,
    "Sum over ``axes``: Σ x. Integers wrap around. Source: ONNX ReduceSum-13.",
    lambda x, axes: np.sum(x, axes, keepdims=True, dtype=x.dtype),
    operator.add,
)

ReduceMean = (
    op("ReduceMean <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceMean <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                        axes: tensor(int64)?) => (reduced: T)""")
)  # fmt: skip

_reduction(
    ReduceMean,
    "Arithmetic mean over ``axes``: Σ x / n; integers truncate. Source: ONNX ReduceMean-18.",
    lambda x, axes: np.sum(x, axes, keepdims=True) / _count(x, axes),
)

ReduceProd = (
    op("ReduceProd <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceProd <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                        axes: tensor(int64)?) => (reduced: T)""")
)  # fmt: skip

_reduction(
    ReduceProd,
    "Product over ``axes``: ∏ x. Integers wrap around. Source: ONNX ReduceProd-18.",
    lambda x, axes: np.prod(x, axes, keepdims=True, dtype=x.dtype),
    operator.mul,
)

ReduceMax = (
    op("ReduceMax <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(12, T=+(I8 | U8))
    .since(13, T=+BF16)
    .since(18, """ReduceMax <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                       axes: tensor(int64)?) => (reduced: T)""")
    .since(20, T=+BOOL)
)  # fmt: skip

_reduction(
    ReduceMax,
    "Greatest element over ``axes``; NaN wins, nothing gives the least value of the dtype.",
    lambda x, axes: np.max(x, axes, keepdims=True, initial=_lowest(x.dtype)),
    maximum,
)

ReduceMin = (
    op("ReduceMin <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(12, T=+(I8 | U8))
    .since(13, T=+BF16)
    .since(18, """ReduceMin <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                       axes: tensor(int64)?) => (reduced: T)""")
    .since(20, T=+BOOL)
)  # fmt: skip

_reduction(
    ReduceMin,
    "Least element over ``axes``; NaN wins, nothing gives the greatest value of the dtype.",
    lambda x, axes: np.min(x, axes, keepdims=True, initial=_highest(x.dtype)),
    minimum,
)

ReduceL1 = (
    op("ReduceL1 <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceL1 <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T, axes:
                      tensor(int64)?) => (reduced: T)""")
)  # fmt: skip

_reduction(
    ReduceL1,
    "L1 norm over ``axes``: Σ |x|. Source: ONNX ReduceL1-18.",
    lambda x, axes: np.sum(np.abs(x), axes, keepdims=True, dtype=x.dtype),
)

ReduceL2 = (
    op("ReduceL2 <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceL2 <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T, axes:
                      tensor(int64)?) => (reduced: T)""")
)  # fmt: skip

_reduction(
    ReduceL2,
    "L2 norm over ``axes``: √Σ x²; integers truncate. Source: ONNX ReduceL2-18.",
    lambda x, axes: np.sqrt(np.sum(x * x, axes, keepdims=True, dtype=x.dtype)),
)

ReduceSumSquare = (
    op("""ReduceSumSquare <axes: ints?, keepdims: int = 1> (data: T) => (reduced:
                         T)""", since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceSumSquare <keepdims: int = 1, noop_with_empty_axes: int = 0>
                             (data: T, axes: tensor(int64)?) => (reduced: T)""")
)  # fmt: skip

_reduction(
    ReduceSumSquare,
    "Sum of squares over ``axes``: Σ x². Source: ONNX ReduceSumSquare-18.",
    lambda x, axes: np.sum(x * x, axes, keepdims=True, dtype=x.dtype),
)

ReduceLogSum = (
    op("ReduceLogSum <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceLogSum <keepdims: int = 1, noop_with_empty_axes: int = 0> (data:
                          T, axes: tensor(int64)?) => (reduced: T)""")
    .since(28, T=FLOAT | BF16)
)  # fmt: skip

_reduction(
    ReduceLogSum,
    "Logarithm of the sum over ``axes``: log Σ x. Source: ONNX ReduceLogSum-18.",
    lambda x, axes: np.log(np.sum(x, axes, keepdims=True, dtype=x.dtype)),
)

ReduceLogSumExp = (
    op("""ReduceLogSumExp <axes: ints?, keepdims: int = 1> (data: T) => (reduced:
                         T)""", since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, T=+BF16)
    .since(18, """ReduceLogSumExp <keepdims: int = 1, noop_with_empty_axes: int = 0>
                             (data: T, axes: tensor(int64)?) => (reduced: T)""")
    .since(28, T=FLOAT | BF16)
)  # fmt: skip


def _log_sum_exp(x: Array, axes: Axes) -> Array:
    if x.dtype.kind in "iu":
        x = x.astype(np.float64)
    top = np.max(x, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total: Array = np.log(np.sum(np.exp(x - top), axes, keepdims=True)) + top
    return total


_reduction(
    ReduceLogSumExp,
    "Logarithm of the sum of exponentials over ``axes``: log Σ exp x, without overflow.",
    _log_sum_exp,
)


ArgMax = (
    op("""ArgMax <axis: int = 0, keepdims: int = 1> (data: T) => (reduced: tensor(int64))""",
       since=1, T=NUMERIC)
    .since(11)
    .since(12, """ArgMax <axis: int = 0, keepdims: int = 1, select_last_index: int = 0> (data:
                    T) => (reduced: tensor(int64))""")
    .since(13, T=+BF16)
)  # fmt: skip

ArgMin = (
    op("""ArgMin <axis: int = 0, keepdims: int = 1> (data: T) => (reduced: tensor(int64))""",
       since=1, T=NUMERIC)
    .since(11)
    .since(12, """ArgMin <axis: int = 0, keepdims: int = 1, select_last_index: int = 0> (data:
                    T) => (reduced: tensor(int64))""")
    .since(13, T=+BF16)
)  # fmt: skip


@ArgMax.infer
@ArgMin.infer
def infer_arg(data: Fact, *, axis: int, keepdims: int, select_last_index: int = 0) -> Fact:
    reduced = (normalize_axis(axis, data.rank),)
    return tensor(INT64, _reduced(data.shape, reduced, bool(keepdims)))


@ArgMax.kernel
def arg_max(data: Array, *, axis: int, keepdims: int, select_last_index: int = 0) -> Array:
    """Index of the greatest element along ``axis``, the first or, on request, the last of several.

    NaN counts as greatest. Raises ShapeError if the axis is empty. Source: ONNX ArgMax-13.
    """
    return _arg(np.argmax, data, axis, bool(keepdims), bool(select_last_index))


@ArgMin.kernel
def arg_min(data: Array, *, axis: int, keepdims: int, select_last_index: int = 0) -> Array:
    """Index of the least element along ``axis``, the first or, on request, the last of several.

    NaN counts as least. Raises ShapeError if the axis is empty. Source: ONNX ArgMin-13.
    """
    return _arg(np.argmin, data, axis, bool(keepdims), bool(select_last_index))


def _arg(
    find: Callable[..., Array], data: Array, axis: int, keeps: bool, takes_last: bool
) -> Array:
    axis = normalize_axis(axis, data.ndim)
    require(
        data.shape[axis] > 0,
        f"axis {axis} of data{shape_text(data.shape)} must have an element to choose from",
    )
    data = widened(data)
    if takes_last:
        found = data.shape[axis] - 1 - find(np.flip(data, axis), axis, keepdims=keeps)
    else:
        found = find(data, axis, keepdims=keeps)
    return np.asarray(found, np.int64)


CumSum = (
    op("CumSum <exclusive: int = 0, reverse: int = 0> (x: T, axis: T2) => (y: T)",
       since=11, T=F32 | F64 | I32 | I64 | U32 | U64, T2=I32 | I64)
    .since(14, T=+(BF16 | F16))
)  # fmt: skip

CumProd = (
    op("CumProd <exclusive: int = 0, reverse: int = 0> (x: T, axis: T2) => (y: T)",
       since=26, T=FLOAT | BF16 | I32 | I64 | U32 | U64, T2=I32 | I64)
)  # fmt: skip


@CumSum.infer
@CumProd.infer
def infer_cumulative(x: Fact, axis: Fact, *, exclusive: int, reverse: int) -> Fact:
    return tensor(x.dtype, x.shape)


@CumSum.kernel
def cum_sum(x: Array, axis: Array, *, exclusive: int, reverse: int) -> Array:
    """Running sum along ``axis``: yᵢ = Σ_{j≤i} xⱼ, or j < i if exclusive, from the end if reverse.

    Integers wrap around. Source: ONNX CumSum-14.
    """
    return _cumulative(np.cumsum, 0, x, axis, bool(exclusive), bool(reverse))


@CumProd.kernel
def cum_prod(x: Array, axis: Array, *, exclusive: int, reverse: int) -> Array:
    """Running product along ``axis``: yᵢ = ∏_{j≤i} xⱼ; j < i if exclusive, from the end if reverse.

    Integers wrap around. Source: ONNX CumProd-26.
    """
    return _cumulative(np.cumprod, 1, x, axis, bool(exclusive), bool(reverse))


def _cumulative(
    run: Callable[..., Array],
    neutral: int,
    x: Array,
    axis: Array,
    is_exclusive: bool,
    is_reverse: bool,
) -> Array:
    require(axis.size == 1, f"axis must be one number, found shape {shape_text(axis.shape)}")
    place = normalize_axis(int(axis.reshape(())), x.ndim)
    moved = np.moveaxis(widened(x), place, 0)
    if is_reverse:
        moved = moved[::-1]
    if is_exclusive:
        first = np.full((min(1, len(moved)), *moved.shape[1:]), neutral, moved.dtype)
        moved = np.concatenate([first, moved[:-1]])
    result = run(moved, axis=0, dtype=moved.dtype)
    return np.moveaxis(result[::-1] if is_reverse else result, 0, place).astype(x.dtype)


TopK = (
    op("TopK <axis: int = -1, k: int> (X: T) => (Values: T, Indices: I)", since=1, T=FLOAT, I=I64)
    .since(10, "TopK <axis: int = -1> (X: T, K: tensor(int64)) => (Values: T, Indices: I)")
    .since(11, """TopK <axis: int = -1, largest: int = 1, sorted: int = 1> (X: T, K:
                  tensor(int64)) => (Values: T, Indices: I)""", T=+INT)
    .since(24, T=+BF16)
)  # fmt: skip


@TopK.infer
def infer_top_k(
    X: Fact,
    K: Fact | None = None,
    *,
    axis: int,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
    node: InferNode,
) -> tuple[Fact, Fact]:
    place = normalize_axis(axis, X.rank)
    count: DimLike | None = k
    if K is not None:
        count = K.value.reshape(-1)[0] if K.value is not None and K.value.size else None
    if count is None:
        count = node.unknown("K is computed at run time")
    extent, wanted = known(X.shape[place]), known(count)
    require(
        wanted is None or (wanted >= 0 and (extent is None or wanted <= extent)),
        f"K must be in [0, {X.shape[place]}], the extent of axis {axis}, got {count}",
    )
    shape = (*X.shape[:place], count, *X.shape[place + 1 :])
    return tensor(X.dtype, shape), tensor(INT64, shape)


@TopK.kernel
def top_k(
    X: Array,
    K: Array | None = None,
    *,
    axis: int,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Array, Array]:
    """The K greatest, or least, elements along ``axis``, in order, and their indices.

    X[*A, N, *B] → Values, Indices[*A, K, *B]. Of equal elements the one with the lower index comes
    first; NaN counts as greatest. Raises ShapeError unless 0 ≤ K ≤ N. Source: ONNX TopK-11.
    """
    place = normalize_axis(axis, X.ndim)
    count = int(k if K is None else K.reshape(-1)[0])  # type: ignore[arg-type]
    extent = X.shape[place]
    require(
        0 <= count <= extent, f"K must be in [0, {extent}], the extent of axis {axis}, got {count}"
    )
    keys = widened(X)
    if largest:
        # A stable sort of the reversed axis, read from the end, keeps lower indices first.
        ascending = np.argsort(np.flip(keys, place), place, kind="stable")
        order = extent - 1 - np.flip(ascending, place)
    else:
        order = np.argsort(keys, place, kind="stable")
    chosen = np.take(order, np.arange(count), place)
    return np.take_along_axis(X, chosen, place), chosen.astype(np.int64)
