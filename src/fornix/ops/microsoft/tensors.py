"""Rearrangements and functions of tensors, from ExpandDims to CDist.

ExpandDims, Range, Trilu and Unique came into the standard later, in other forms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT64, INT32, INT64
from fornix.errors import require
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    constant,
    index,
    reduce,
    scan,
    select,
    stored,
)
from fornix.ir.loops.scalar import gathered
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.elimination import check_square, exchanged, lower_pivot, square_rows
from fornix.ops.fact import Array, Fact, as_value, tensor
from fornix.ops.generate import infer_range, lower_range, range_
from fornix.ops.geometry import normalize_axis, shape_text
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, widened
from fornix.ops.shuffle import infer_trilu, lower_trilu, trilu
from fornix.ops.types import BF16, BOOL, F32, F64, FLOAT, I16, I32, I64, INT, TENSOR

ExpandDims = op(
    "ExpandDims (X: T, axis: tensor(int32)) => (Y: T)", since=1, domain=DOMAIN, T=TENSOR
)


@ExpandDims.infer
def infer_expand_dims(x: Fact, axis: Fact, *, node: InferNode) -> Fact:
    place = axis.constant
    if place is None:
        return tensor(x.dtype, [node.unknown("its axis is computed at run time")] * (x.rank + 1))
    at = _place(place, x.rank)
    return tensor(x.dtype, (*x.shape[:at], 1, *x.shape[at:]))


def _place(axis: Array, rank: int) -> int:
    require(axis.size == 1, f"axis must be one number, got axis{shape_text(axis.shape)}")
    return normalize_axis(int(axis.reshape(-1)[0]), rank + 1)


@ExpandDims.kernel
def expand_dims(x: Array, axis: Array) -> Array:
    """``X`` with an axis of extent 1 put in at ``axis``, which may count from the end.

    X[*S, *T] → Y[*S, 1, *T]. Source: onnxruntime's contributed operators, ExpandDims-1.
    """
    return np.expand_dims(x, _place(axis, x.ndim))


@ExpandDims.lower
def lower_expand_dims(x: Tensor, axis: Tensor, *, node: LowerNode) -> Tensor:
    [axis_number] = node.numbers(1)
    at = normalize_axis(axis_number, x.rank + 1)
    shape = (*x.shape[:at], 1, *x.shape[at:])
    return compute(shape, lambda *i: x[(*i[:at], *i[at + 1 :])])


Range = op(
    "Range (start: T, limit: T, delta: T?) => (Y: T)",
    since=1, domain=DOMAIN, T=F32 | F64 | I16 | I32 | I64,
)  # fmt: skip


@Range.infer
def infer_range_by_one(
    start: Fact, limit: Fact, delta: Fact | None = None, *, node: InferNode
) -> Fact:
    step = tensor(start.dtype, (), as_value(1)) if delta is None else delta
    return infer_range(start, limit, step, node=node)


@Range.kernel
def range_by_one(start: Array, limit: Array, delta: Array | None = None) -> Array:
    """start, start + delta, start + 2 · delta, … up to, not including, ``limit``.

    delta is 1 if absent. There are max(⌈(limit − start) / delta⌉, 0) elements.
    Source: onnxruntime's contributed operators, Range-1.
    """
    return range_(start, limit, np.ones((), start.dtype) if delta is None else delta)


@Range.lower
def lower_range_by_one(
    start: Tensor, limit: Tensor, delta: Tensor | None = None, *, node: LowerNode
) -> Tensor:
    step = constant(np.ones((), start.dtype.numpy)) if delta is None else delta
    return lower_range(start, limit, step, node=node)


Trilu = op(
    "Trilu <upper: int = 1> (X: T, k: tensor(int64)?) => (Y: T)",
    since=1, domain=DOMAIN, T=FLOAT | BF16 | INT | BOOL,
)  # fmt: skip


@Trilu.infer
def infer_triangle(x: Fact, k: Fact | None = None, *, upper: int) -> Fact:
    return infer_trilu(x, k, upper=upper)


@Trilu.kernel
def triangle(x: Array, k: Array | None = None, *, upper: int) -> Array:
    """The part of each matrix on and above (or below) its k-th diagonal; zeros elsewhere.

    X[…, M, N] → Y[…, M, N], as in the standard. Source: onnxruntime's contributed operators,
    Trilu-1.
    """
    return trilu(x, k, upper=upper)


@Trilu.lower
def lower_triangle(x: Tensor, k: Tensor | None = None, *, upper: int) -> Tensor:
    return lower_trilu(x, k, upper=upper)


Unique = op(
    "Unique (x: T) => (y: T, idx: tensor(int64), counts: tensor(int64))",
    since=1, domain=DOMAIN, T=TENSOR,
).opaque("how many elements differ only the data tell")  # fmt: skip


@Unique.infer
def infer_unique(x: Fact, *, node: InferNode) -> tuple[Fact, ...]:
    count = node.unknown("how many elements differ")
    return tensor(x.dtype, (count,)), tensor(INT64, x.shape), tensor(INT64, (count,))


@Unique.kernel
def unique(x: Array) -> tuple[Array, Array, Array]:
    """The elements of a vector that differ, in the order in which they come first.

    x[N] → y[M], idx[N], where in y each element is, and counts[M], how often each comes. NaN
    differs from NaN. Source: onnxruntime's contributed operators, Unique-1.
    """
    require(x.ndim == 1, f"x must be a vector, got x{shape_text(x.shape)}")
    places: dict[object, int] = {}
    index = np.array([places.setdefault(v, len(places)) for v in x.tolist()], np.int64)
    first = np.full(len(places), len(x), np.int64)
    np.minimum.at(first, index, np.arange(len(x)))
    return x[first], index, np.bincount(index, minlength=len(places)).astype(np.int64)


UnfoldTensor = op(
    "UnfoldTensor <dim: int = -1, size: int, step: int = 1> (input: T) => (output: T)",
    since=1, domain=DOMAIN, T=TENSOR | BF16,
)  # fmt: skip


def _unfolded(shape: Sequence[DimLike], dim: int, size: int, step: int) -> tuple[DimLike, ...]:
    """The shape of slices, their axis last."""
    axis = normalize_axis(dim, len(shape))
    require(size > 0 and step > 0, f"size and step must be positive, got {size} and {step}")
    extent = shape[axis]
    fixed = known(extent)
    require(
        fixed is None or fixed >= size,
        f"size must be at most the {extent} elements of axis {axis}, got {size}",
    )
    return (*shape[:axis], (extent - size) // step + 1, *shape[axis + 1 :], size)


@UnfoldTensor.infer
def infer_unfold_tensor(input: Fact, *, dim: int, size: int, step: int) -> Fact:
    return tensor(input.dtype, _unfolded(input.shape, dim, size, step))


@UnfoldTensor.kernel
def unfold_tensor(input: Array, *, dim: int, size: int, step: int) -> Array:
    """All slices of ``size`` along an axis, ``step`` elements apart, as PyTorch's unfold.

    input[*S, N, *T] → output[*S, (N − size) / step + 1, *T, size].
    Source: onnxruntime's contributed operators, UnfoldTensor-1.
    """
    _unfolded(input.shape, dim, size, step)
    axis = normalize_axis(dim, input.ndim)
    windows = np.lib.stride_tricks.sliding_window_view(input, size, axis)
    places = (*[slice(None)] * axis, slice(None, None, step))
    return np.ascontiguousarray(windows[places])


@UnfoldTensor.lower
def lower_unfold_tensor(input: Tensor, *, dim: int, size: int, step: int) -> Tensor:
    axis = normalize_axis(dim, input.rank)

    def at(*i: DimLike) -> Scalar:
        *place, k = i
        place[axis] = place[axis] * step + k
        return input[tuple(place)]

    return compute(_unfolded(input.shape, dim, size, step), at)


Inverse = op("Inverse (X: T) => (Y: T)", since=1, domain=DOMAIN, T=FLOAT)


@Inverse.infer
def infer_inverse(x: Fact) -> Fact:
    check_square(x.shape)
    return tensor(x.dtype, x.shape)


@Inverse.kernel
def inverse(x: Array) -> Array:
    """Inverse of each square matrix: X[…, M, M] → Y[…, M, M]; of a singular one, infinities.

    Computes float16 in float32. Source: onnxruntime's contributed operators, Inverse-1.
    """
    check_square(x.shape)
    wide = widened(x)
    try:
        y = np.linalg.inv(wide)
    except np.linalg.LinAlgError:
        y = np.empty_like(wide)
        for place in np.ndindex(*x.shape[:-2]):
            y[place] = _inverted(wide[place])
    return np.asarray(y).astype(x.dtype, copy=False)


def _inverted(x: Array) -> Array:
    """The inverse of one matrix, infinities if it has none."""
    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        return np.full_like(x, np.inf)


@Inverse.lower
def lower_inverse(x: Tensor, *, node: LowerNode) -> Tensor:
    """Gauss-Jordan elimination in place, a row changing places with that of its pivot.

    The columns of what is left are those of the inverse, in the order of the rows that were
    pivots: ``column`` says where each went. A pivot of 0 makes all of its matrix infinite.
    """
    rows = square_rows(x, node)
    wide, batch = cast_tensor(x, FLOAT64), x.shape[:-2]

    def step(t: Dim, a: Tensor, column: Tensor, regular: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pivot = lower_pivot(a, rows, t)

        def eliminated(*i: DimLike) -> Scalar:
            (*b, r, c), p = i, pivot[i[:-2]]
            here = exchanged(r, t, p)
            divisor, is_own = a[(*b, p, t)], apply("eq", index(c), index(t))
            top = select(is_own, 1, a[(*b, p, c)]) / divisor
            rest = select(is_own, 0, a[(*b, here, c)]) - a[(*b, here, t)] * top
            return select(apply("eq", index(r), index(t)), top, rest)

        def moved(*i: DimLike) -> Scalar:
            at, own = column[i], pivot[i[:-1]]
            there = select(apply("eq", at, cast(own, INT32)), cast(index(t), INT32), at)
            return select(apply("eq", at, cast(index(t), INT32)), cast(own, INT32), there)

        def remains(*b: DimLike) -> Scalar:
            return select(apply("eq", a[(*b, pivot[b], t)], 0), 0, regular[b])

        return compute(a.shape, eliminated), compute(column.shape, moved), compute(batch, remains)

    order = compute((*batch, rows), lambda *i: cast(index(i[-1]), INT32))
    ones = compute(batch, lambda *_: 1, INT32)
    left, column, regular = scan(rows, [wide, order, ones], step)

    def at(*i: DimLike) -> Scalar:
        *b, r, c = i
        value = left[(rows, *b, r, gathered(column[(rows, *b, c)], rows))]
        return cast(select(regular[(rows, *b)] > 0, value, math.inf), x.dtype)

    return compute(x.shape, at)


CDist = op(
    'CDist <metric: string = "sqeuclidean"> (A: T, B: T) => (C: T)',
    since=1, domain=DOMAIN, T=F32 | F64,
)  # fmt: skip

METRICS = ("sqeuclidean", "euclidean")
"""Distances that CDist knows."""


def _check_points(a: tuple[object, ...], b: tuple[object, ...], metric: str) -> None:
    require(
        len(a) == 2 and len(b) == 2,
        f"A and B must be matrices, got A[{len(a)} axes] and B[{len(b)} axes]",
    )
    require(metric in METRICS, f"metric must be {' or '.join(METRICS)}, got {metric}")


@CDist.infer
def infer_c_dist(a: Fact, b: Fact, *, metric: str) -> Fact:
    _check_points(a.shape, b.shape, metric)
    return tensor(a.dtype, (a.shape[0], b.shape[0]))


@CDist.kernel
def c_dist(a: Array, b: Array, *, metric: str) -> Array:
    """Distance of each row of A to each row of B: Σ (a − b)², of euclidean its root.

    A[M, K] · B[N, K] → C[M, N]. Source: onnxruntime's contributed operators, CDist-1.
    """
    _check_points(a.shape, b.shape, metric)
    require(
        a.shape[1] == b.shape[1],
        f"rows must have one length, got A{shape_text(a.shape)} and B{shape_text(b.shape)}",
    )
    square = np.empty((len(a), len(b)), a.dtype)
    for row, point in enumerate(a):
        square[row] = np.square(b - point).sum(axis=1)
    return square if metric == "sqeuclidean" else np.sqrt(square)


@CDist.lower
def lower_c_dist(a: Tensor, b: Tensor, *, metric: str, node: LowerNode) -> Tensor:
    _check_points(a.shape, b.shape, metric)
    known = node.facts[1]
    fixed = None if known is None else known.constant
    # Side by side lie the points of B, of which many are compared with one of A.
    if fixed is None:
        columns = stored(compute((b.shape[1], b.shape[0]), lambda k, n: b[n, k]), "columns")
    else:
        columns = constant(np.ascontiguousarray(fixed.T))

    def at(m: DimLike, n: DimLike) -> Scalar:
        def term(k: DimLike) -> Scalar:
            difference = a[m, k] - columns[k, n]
            return difference * difference

        total = reduce("sum", a.shape[1], term)
        return total if metric == "sqeuclidean" else apply("sqrt", total)

    return compute((a.shape[0], b.shape[0]), at)
