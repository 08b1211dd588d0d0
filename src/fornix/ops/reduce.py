"""Reductions: sums, products, norms and extremes over axes.

The ten Reduce operators differ only in what they do to the elements: `_reduction` gives them their
rules from that. Narrow floats are reduced in float32. Positions of extremes are in `extremes.py`,
running sums in `cumulative.py`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fornix.dtype import FLOAT64, INT64, UINT64
from fornix.errors import ConvertError
from fornix.ir.dim import DimLike, maximum, minimum
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor, apply, compute, select
from fornix.ops import scalar as s
from fornix.ops.adapt import attribute_to_input, input_to_attribute
from fornix.ops.along import along, count_along, mapped, mean_along, outside, with_units
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, as_value, axes_listed, tensor, unranked
from fornix.ops.geometry import listed, normalize_axes
from fornix.ops.op import Operator, op
from fornix.ops.precision import cast_tensor, mean_over, wide_dtype, widened
from fornix.ops.types import (
    BF16,
    BOOL,
    FLOAT,
    I8,
    I32,
    I64,
    U8,
    U32,
    U64,
)

Axes = tuple[int, ...]

SHAPES = """\
data[*S] → reduced[*S] where each of ``axes`` has the extent 1, or with keepdims=0 is left out.
Without ``axes`` all are reduced, with noop_with_empty_axes=1 none. Computes float16 and bfloat16
in float32."""
"""What all reductions have in common."""


def _reduction(
    declared: Operator,
    description: str,
    reduce: Callable[[Array, Axes], Array],
    lowered: Callable[[Tensor, Axes], Tensor],
    propagate: Callable[[DimLike, DimLike], DimLike] | None = None,
) -> None:
    """Give ``declared`` its rules.

    ``reduce`` keeps the reduced axes, with extent 1; ``lowered`` says the same of loop tensors and
    drops them. Both see narrow floats widened and may give another dtype, which is converted.
    """

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
        total = _total(data, reduced, propagate)
        known = None if total is None else as_value([total] if keepdims else total)
        return tensor(data.dtype, extents, known)

    def kernel(
        data: Array,
        axes: Array | list[int] | None = None,
        *,
        keepdims: int,
        noop_with_empty_axes: int = 0,
    ) -> Array:
        named = None if axes is None else listed(axes, "axes")
        reduced = _axes(named, data.ndim, bool(noop_with_empty_axes))
        result = np.asarray(reduce(widened(data), reduced)).astype(data.dtype)
        return result if keepdims else result.reshape(_reduced(data.shape, reduced, False))

    source = f"Source: ONNX {declared.name}-{declared.schemas[-1].since_version}."
    kernel.__doc__ = f"{description}\n\n{SHAPES}\n{source}"
    declared.infer(infer)
    declared.kernel(kernel)
    declared.lower(_lower_rule(lowered))
    _adapt(declared)


def _total(
    data: Fact, reduced: Axes, propagate: Callable[[DimLike, DimLike], DimLike] | None
) -> DimLike | None:
    """What the known contents of one axis reduce to."""
    value = data.value if data.rank == 1 and reduced else None
    if propagate is None or value is None or not value.size:
        return None
    extents: list[DimLike] = value.tolist()
    return functools.reduce(propagate, extents)


def _lower_rule(lowered: Callable[[Tensor, Axes], Tensor]) -> Callable[..., Tensor]:
    def lower(
        data: Tensor,
        axes: Tensor | list[int] | None = None,
        *,
        keepdims: int,
        noop_with_empty_axes: int = 0,
        node: LowerNode,
    ) -> Tensor:
        named = node.numbers(1) if isinstance(axes, Tensor) else axes
        reduced = _axes(named, data.rank, bool(noop_with_empty_axes))
        result = lowered(cast_tensor(data, wide_dtype(data.dtype)), reduced)
        result = cast_tensor(result, data.dtype)
        return with_units(result, reduced) if keepdims else result

    return lower


def _adapt(declared: Operator) -> None:
    """Between the versions of which one has the axes as an attribute, the other as an input."""
    for old, new in pairwise(declared.schemas):
        if len(old.inputs) < len(new.inputs):
            before, since = old.since_version, new.since_version
            declared.adapt(before, since)(_axes_to_input)
            declared.adapt(since, before)(
                lambda node, graph, before=before: _axes_to_attribute(node, graph, before)
            )


def _axes_to_input(node: Node, graph: Graph) -> None:
    attribute_to_input(node, graph, "axes", 1)


def _axes_to_attribute(node: Node, graph: Graph, opset: int) -> None:
    input_to_attribute(node, graph, "axes", 1, opset)
    if node.attr("noop_with_empty_axes", 0) and not node.attr("axes"):
        raise ConvertError(f"opset {opset} reduces over all axes where none are named")
    node.remove_attribute("noop_with_empty_axes")


def _named(axes: Fact | list[int] | None) -> Fact | list[int] | None:
    """The axes as a list where they are known."""
    if not isinstance(axes, Fact) or axes.constant is None:
        return axes
    return listed(axes.constant, "axes")


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
    count = axes_listed(axes)
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


def _as_floats(x: Tensor) -> Tensor:
    """``x``; integers as float64, in which NumPy takes roots and logarithms of them."""
    return x if x.dtype.is_float else cast_tensor(x, FLOAT64)


def _sum_of_squares(x: Tensor, axes: Axes) -> Tensor:
    return along("sum", mapped(lambda v: v * v, x), axes)


ReduceSum = (
    op("ReduceSum <axes: ints?, keepdims: int = 1> (data: T) => (reduced: T)",
       since=1, T=FLOAT | I32 | I64 | U32 | U64)
    .since(11)
    .since(13, """ReduceSum <keepdims: int = 1, noop_with_empty_axes: int = 0> (data: T,
                       axes: tensor(int64)?) => (reduced: T)""", T=+BF16)
)  # fmt: skip

_reduction(
    ReduceSum,
    "Sum over ``axes``: Σ x. Integers wrap around.",
    lambda x, axes: np.sum(x, axes, keepdims=True, dtype=x.dtype),
    lambda x, axes: along("sum", x, axes),
    operator.add,
)


def _mean(x: Array, axes: Axes) -> Array:
    """Σ x / n, and 0 of nothing, which the standard leaves open.

    onnxruntime and OpenVINO answer so, and PyTorch's exporter relies on it for empty bags.
    """
    if x.dtype.kind not in "iu":
        return mean_over(x, axes)
    total = np.asarray(np.sum(x, axes, keepdims=True))
    rounded, rest = np.divmod(total, total.dtype.type(max(1, _count(x, axes))))
    return np.asarray(rounded + ((rest != 0) & (total < 0)).astype(total.dtype))  # towards zero


def _lower_mean(x: Tensor, axes: Axes) -> Tensor:
    if x.dtype.is_float:
        return mean_along(x, axes)
    wide = INT64 if x.dtype.is_signed else UINT64
    total, count = along("sum", cast_tensor(x, wide), axes), count_along(x.shape, axes, wide)
    return mapped(lambda v: apply("div", v, count), total)


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
    "Arithmetic mean over ``axes``: Σ x / n, 0 where none is averaged. Integers truncate.",
    _mean,
    _lower_mean,
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
    "Product over ``axes``: ∏ x. Integers wrap around.",
    lambda x, axes: np.prod(x, axes, keepdims=True, dtype=x.dtype),
    lambda x, axes: along("prod", x, axes),
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
    lambda x, axes: along("max", x, axes),
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
    lambda x, axes: along("min", x, axes),
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
    "L1 norm over ``axes``: Σ |x|.",
    lambda x, axes: np.sum(np.abs(x), axes, keepdims=True, dtype=x.dtype),
    lambda x, axes: along("sum", mapped(s.abs, x), axes),
)

ReduceL1.body(
    """
    Sizes = Abs (data)
    reduced = ReduceSum <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (Sizes, axes)
    """,
    since=18,
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
    "L2 norm over ``axes``: √Σ x²; integers truncate.",
    lambda x, axes: np.sqrt(np.sum(x * x, axes, keepdims=True, dtype=x.dtype)),
    lambda x, axes: mapped(s.sqrt, _as_floats(_sum_of_squares(x, axes))),
)

ReduceL2.body(
    """
    Squares = Mul (data, data)
    Total = ReduceSum <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (Squares, axes)
    Wide = Cast <to = 11> (Total)
    Root = Sqrt (Wide)
    reduced = CastLike (Root, data)
    """,
    since=18,
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
    "Sum of squares over ``axes``: Σ x².",
    lambda x, axes: np.sum(x * x, axes, keepdims=True, dtype=x.dtype),
    _sum_of_squares,
)

ReduceSumSquare.body(
    """
    Squares = Mul (data, data)
    reduced = ReduceSum <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (Squares, axes)
    """,
    since=18,
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
    "Logarithm of the sum over ``axes``: log Σ x.",
    lambda x, axes: np.log(np.sum(x, axes, keepdims=True, dtype=x.dtype)),
    lambda x, axes: mapped(s.log, _as_floats(along("sum", x, axes))),
)

ReduceLogSum.body(
    """
    Total = ReduceSum <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (data, axes)
    Wide = Cast <to = 11> (Total)
    Logarithm = Log (Wide)
    reduced = CastLike (Logarithm, data)
    """,
    since=18,
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


def _lower_log_sum_exp(x: Tensor, axes: Axes) -> Tensor:
    x = _as_floats(x)
    top = mapped(lambda v: select(s.abs(v) < math.inf, v, 0.0), along("max", x, axes))
    shifted = compute(x.shape, lambda *i: s.exp(x[i] - top[outside(i, axes)]))
    total = along("sum", shifted, axes)
    return compute(total.shape, lambda *i: s.log(total[i]) + top[i])


_reduction(
    ReduceLogSumExp,
    "Logarithm of the sum of exponentials over ``axes``: log Σ exp x, without overflow.",
    _log_sum_exp,
    _lower_log_sum_exp,
)


ReduceLogSumExp.body(
    """
    Wide = Cast <to = 11> (data)
    Top = ReduceMax <noop_with_empty_axes: int = @noop_with_empty_axes> (Wide, axes)
    IsInfinite = IsInf (Top)
    Zero = Constant <value = double {0.0}> ()
    Shift = Where (IsInfinite, Zero, Top)
    Shifted = Sub (Wide, Shift)
    Powers = Exp (Shifted)
    Total = ReduceSum <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (Powers, axes)
    Logarithm = Log (Total)
    Back = ReduceMax <keepdims: int = @keepdims,
        noop_with_empty_axes: int = @noop_with_empty_axes> (Shift, axes)
    Summed = Add (Logarithm, Back)
    reduced = CastLike (Summed, data)
    """,
    since=18,
)
