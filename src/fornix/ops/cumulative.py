"""Running sums and products along an axis: CumSum, CumProd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fornix.errors import require
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, cast, compute, const, scan
from fornix.ops.along import merged, outside
from fornix.ops.call import LowerNode
from fornix.ops.cumulative_loops import running_sums
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, F16, F32, F64, FLOAT, I32, I64, U32, U64

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

    x[*S] · axis[] → y[*S]; a negative axis counts from the end. Integers wrap around.
    Source: ONNX CumSum-14.
    """
    return _cumulative(np.cumsum, 0, x, axis, bool(exclusive), bool(reverse))


@CumProd.kernel
def cum_prod(x: Array, axis: Array, *, exclusive: int, reverse: int) -> Array:
    """Running product along ``axis``: yᵢ = ∏_{j≤i} xⱼ; j < i if exclusive, from the end if reverse.

    x[*S] · axis[] → y[*S]; a negative axis counts from the end. Integers wrap around.
    Source: ONNX CumProd-26.
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


@CumSum.lower
def lower_cum_sum(
    x: Tensor, axis: Tensor, *, exclusive: int, reverse: int, node: LowerNode
) -> Tensor:
    place = normalize_axis(node.numbers(1)[0], x.rank)
    sums = running_sums(x, place, is_exclusive=bool(exclusive), is_reverse=bool(reverse))
    if sums is not None:
        return sums
    return _lower_cumulative(lambda a, b: a + b, 0, x, node, bool(exclusive), bool(reverse))


@CumProd.lower
def lower_cum_prod(
    x: Tensor, axis: Tensor, *, exclusive: int, reverse: int, node: LowerNode
) -> Tensor:
    return _lower_cumulative(lambda a, b: a * b, 1, x, node, bool(exclusive), bool(reverse))


def _lower_cumulative(
    combine: Callable[[Scalar, Scalar], Scalar],
    neutral: int,
    x: Tensor,
    node: LowerNode,
    is_exclusive: bool,
    is_reverse: bool,
) -> Tensor:
    """h[t + 1] = combine(h[t], x[t]) along the axis: what stands before x[t] is h[t].

    Where there are known to be elements, h begins with the first result and is all of them.
    """
    [axis] = node.numbers(1)
    place = [normalize_axis(axis, x.rank)]
    steps, wide = x.shape[place[0]], cast_tensor(x, wide_dtype(x.dtype))
    rest = outside(x.shape, place)

    def turned(t: DimLike) -> DimLike:
        return steps - 1 - t if is_reverse else t

    def element(t: DimLike, i: tuple[DimLike, ...]) -> Scalar:
        return wide[merged(x.rank, place, i, [turned(t)])]

    has_elements = isinstance(steps, int) and steps > 0
    begun = has_elements and not is_exclusive

    def first(*i: DimLike) -> Scalar:
        return element(0, i) if begun else const(neutral, wide.dtype)

    def step(t: DimLike, so_far: Tensor) -> Tensor:
        return compute(rest, lambda *i: combine(so_far[i], element(t + begun, i)))

    length = steps - 1 if has_elements else steps
    [history] = scan(length, [compute(rest, first, wide.dtype)], step)
    if has_elements and place == [0] and not is_reverse and wide.dtype is x.dtype:
        return history
    behind = 0 if has_elements or is_exclusive else 1

    def at(*i: DimLike) -> Scalar:
        t = turned(i[place[0]]) + behind
        return cast(history[(t, *outside(i, place))], x.dtype)

    return compute(x.shape, at)
