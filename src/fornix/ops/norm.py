"""Normalizations over axes: LayerNormalization, RMSNormalization, LpNormalization and by variance.

Those of channels are in `group_norm.py`, BatchNormalization in `batch_norm.py`. Statistics are
computed in two passes, mean first: the difference of E[x²] and E[x]² loses all digits where the
mean is large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, select
from fornix.ops.along import along, mapped, mean_along, outside, with_units
from fornix.ops.call import BodyNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.geometry import normalize_axes, normalize_axis, shape_text
from fornix.ops.op import op
from fornix.ops.pool import powers, root
from fornix.ops.precision import cast_tensor, mean_over, wide_dtype, wide_element, widened
from fornix.ops.scalar import sqrt
from fornix.ops.types import BF16, F32, FLOAT

LayerNormalization = (
    op("""LayerNormalization <axis: int = -1, epsilon: float = 1e-05, stash_type: int = 1>
                             (X: T, Scale: T, B: T?) => (Y: T, Mean: U?, InvStdDev: U?)""",
       since=17, T=FLOAT | BF16, U=BF16 | F32)
)  # fmt: skip


@LayerNormalization.infer
def infer_layer_normalization(
    x: Fact,
    scale: Fact,
    b: Fact | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Fact, Fact, Fact]:
    if not x.has_rank:
        return x, unranked(DType.of(stash_type)), unranked(DType.of(stash_type))
    first = normalize_axis(axis, x.rank)
    for name, other in (("Scale", scale), ("B", b)):
        if other is not None and other.has_rank:
            _check_broadcast(name, other.shape, x.shape)
    statistics = tensor(DType.of(stash_type), (*x.shape[:first], *[1] * (x.rank - first)))
    return tensor(x.dtype, x.shape), statistics, statistics


@LayerNormalization.kernel
def layer_normalization(
    x: Array,
    scale: Array,
    b: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Array, Array, Array]:
    """Standardize over the axes from ``axis`` on, then scale and shift.

    y = (x − mean) · (var + epsilon)^(−1/2) · scale + b;  x[*P, *Q] → y[*P, *Q], mean[*P, 1 …],
    inverse deviation[*P, 1 …]. Computes in the wider of stash_type and x's dtype, and rounds once.
    Source: ONNX LayerNormalization-17.
    """
    first = normalize_axis(axis, x.ndim)
    _check_broadcast("Scale", scale.shape, x.shape)
    stash = DType.of(stash_type).numpy
    wide = at_least(x, stash)
    axes = tuple(range(first, x.ndim))
    mean = mean_over(wide, axes)
    deviation = wide - mean
    variance = mean_over(np.square(deviation), axes)
    inverse = 1 / np.sqrt(variance + wide.dtype.type(epsilon))
    deviation *= inverse
    deviation *= scale.astype(wide.dtype, copy=False)
    if b is not None:
        _check_broadcast("B", b.shape, x.shape)
        deviation += b.astype(wide.dtype, copy=False)
    return deviation.astype(x.dtype, copy=False), mean.astype(stash), inverse.astype(stash)


@LayerNormalization.lower
def lower_layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    first, stash = normalize_axis(axis, x.rank), DType.of(stash_type)
    axes, wide = range(first, x.rank), lower_at_least(x, stash)
    mean = mean_along(wide, axes)
    deviation = compute(x.shape, lambda *i: wide[i] - mean[i[:first]])
    variance = mean_along(mapped(square, deviation), axes)
    inverse = mapped(lambda v: 1.0 / sqrt(v + epsilon), variance)

    def at(*i: DimLike) -> Scalar:
        y = deviation[i] * inverse[i[:first]] * wide_element(scale, i, wide.dtype)
        return cast(y if b is None else y + wide_element(b, i, wide.dtype), x.dtype)

    kept = [with_units(cast_tensor(t, stash), axes) for t in (mean, inverse)]
    return compute(x.shape, at), kept[0], kept[1]


@LayerNormalization.body(since=17)
def layer_normalization_body(*, node: BodyNode) -> str:
    return _layer_normalization_body(node, "ReduceMean ({}, Along)")


@LayerNormalization.older_body(since=17, opset=17)
def layer_normalization_body_in_opset_17(*, node: BodyNode) -> str:
    return _layer_normalization_body(node, "ReduceMean <axes = [1]> ({})")


def _layer_normalization_body(node: BodyNode, mean: str) -> str:
    shift = "Add (Scaled, B)" if node.has(2) else "Identity (Scaled)"
    return f"""
        Wide = Cast <to: int = @stash_type> (X)
        Shape = Shape (X)
        Rows = Flatten <axis: int = @axis> (Wide)
        Along = Constant <value_ints = [1]> ()
        Means = {mean.format("Rows")}
        Deviation = Sub (Rows, Means)
        Squares = Mul (Deviation, Deviation)
        Variance = {mean.format("Squares")}
        Given = Constant <value_float: float = @epsilon> ()
        Epsilon = CastLike (Given, Variance)
        Raised = Add (Variance, Epsilon)
        Root = Sqrt (Raised)
        Inverse = Reciprocal (Root)
        Standard = Mul (Deviation, Inverse)
        Shaped = Reshape (Standard, Shape)
        Normalized = CastLike (Shaped, X)
        Scaled = Mul (Normalized, Scale)
        Y = {shift}
        Outer = Shape <start = 0, end: int = @axis> (X)
        Inner = Shape <start: int = @axis> (X)
        Count = Shape (Inner)
        Ones = ConstantOfShape <value = int64[1] {{1}}> (Count)
        Kept = Concat <axis = 0> (Outer, Ones)
        Mean = Reshape (Means, Kept)
        InvStdDev = Reshape (Inverse, Kept)
    """


def at_least(x: Array, stash: np.dtype[np.generic]) -> Array:
    """``x`` in its own precision, float32, or that of ``stash``: the widest of them.

    NB: the standard narrows float64 to stash_type; results are then less exact, and no peer does.
    """
    wide = widened(x)
    return wide.astype(np.float64) if stash == np.float64 else wide


def lower_at_least(x: Tensor, stash: DType) -> Tensor:
    """`at_least` for lowerings."""
    return cast_tensor(x, FLOAT64 if stash is FLOAT64 else wide_dtype(x.dtype))


def square(x: Scalar) -> Scalar:
    """x²."""
    return x * x


def _check_broadcast(name: str, shape: Sequence[DimLike], target: Sequence[DimLike]) -> None:
    """Raise ShapeError unless ``shape`` broadcasts to ``target`` without widening it."""
    fits = len(shape) <= len(target) and all(
        n == 1 or equal(n, m) is not False for n, m in zip(shape[::-1], target[::-1], strict=False)
    )
    require(fits, f"{name}{shape_text(shape)} must broadcast to X{shape_text(target)}")


RMSNormalization = (
    op("""RMSNormalization <axis: int = -1, epsilon: float = 1e-05, stash_type: int = 1>
                           (X: T, scale: V) => (Y: V)""",
       since=23, T=FLOAT | BF16, V=FLOAT | BF16)
)  # fmt: skip


@RMSNormalization.infer
def infer_rms_normalization(
    x: Fact, scale: Fact, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Fact:
    normalize_axis(axis, x.rank)
    if scale.has_rank:
        _check_broadcast("scale", scale.shape, x.shape)
    return tensor(scale.dtype, x.shape)


@RMSNormalization.kernel
def rms_normalization(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    """Divide by the root mean square over the axes from ``axis`` on, then scale.

    y = x · (E[x²] + epsilon)^(−1/2) · scale;  x[*P, *Q] → y[*P, *Q] in the dtype of ``scale``.
    Computes in the wider of stash_type and x's dtype, and rounds once.
    Source: ONNX RMSNormalization-23.
    """
    first = normalize_axis(axis, x.ndim)
    _check_broadcast("scale", scale.shape, x.shape)
    wide = at_least(x, DType.of(stash_type).numpy)
    square = mean_over(np.square(wide), range(first, x.ndim))
    y = wide / np.sqrt(square + wide.dtype.type(epsilon)) * widened(scale)
    return np.asarray(y).astype(scale.dtype, copy=False)


@RMSNormalization.lower
def lower_rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    first = normalize_axis(axis, x.rank)
    _check_broadcast("scale", scale.shape, x.shape)
    wide = lower_at_least(x, DType.of(stash_type))
    mean = mean_along(mapped(square, wide), range(first, x.rank))
    root_mean = mapped(lambda v: sqrt(v + epsilon), mean)
    product = FLOAT64 if FLOAT64 in {wide.dtype, scale.dtype} else FLOAT32

    def at(*i: DimLike) -> Scalar:
        y = cast(wide[i] / root_mean[i[:first]], product)
        return cast(y * wide_element(scale, i, product), scale.dtype)

    return compute(x.shape, at)


RMSNormalization.body(
    """
    <domain: "", opset_import: ["": 18]>
    RMSNormalization <axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1>
                     (X, scale) => (Y)
    {
        Wide = Cast <to: int = @stash_type> (X)
        Shape = Shape (X)
        Rows = Flatten <axis: int = @axis> (Wide)
        Squares = Mul (Rows, Rows)
        Along = Constant <value_ints = [1]> ()
        Mean = ReduceMean (Squares, Along)
        Given = Constant <value_float: float = @epsilon> ()
        Epsilon = CastLike (Given, Mean)
        Raised = Add (Mean, Epsilon)
        Root = Sqrt (Raised)
        Divided = Div (Rows, Root)
        Shaped = Reshape (Divided, Shape)
        Normalized = CastLike (Shaped, scale)
        Y = Mul (Normalized, scale)
    }
    """,
    since=23,
    by_node=True,
)


LpNormalization = (
    op("LpNormalization <axis: int = -1, p: int = 2> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
)  # fmt: skip


@LpNormalization.infer
def infer_lp_normalization(input: Fact, *, axis: int = -1, p: int = 2) -> Fact:
    _check_order(p)
    normalize_axis(axis, input.rank)
    return tensor(input.dtype, input.shape)


@LpNormalization.kernel
def lp_normalization(input: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Divide by the Lp norm along ``axis``; where the norm is 0, so is the result.

    y = x / (Σ |x|ᵖ)^(1/p) with p 1 or 2;  x[*S] → y[*S].
    Computes float16 and bfloat16 in float32. Source: ONNX LpNormalization-22.
    """
    _check_order(p)
    wide = widened(input)
    place = normalize_axis(axis, input.ndim)
    norm: Array = root(np.sum(powers(wide, p), axis=place, keepdims=True), p)
    y = np.where(norm == 0, wide.dtype.type(0), wide / norm)
    return y.astype(input.dtype, copy=False)


@LpNormalization.lower
def lower_lp_normalization(input: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    _check_order(p)
    place = [normalize_axis(axis, input.rank)]
    wide = cast_tensor(input, wide_dtype(input.dtype))
    total = along("sum", mapped(lambda v: powers(v, p), wide), place)
    norm = mapped(lambda v: root(v, p), total)

    def at(*i: DimLike) -> Scalar:
        own = norm[outside(i, place)]
        return cast(select(apply("eq", own, 0.0), 0.0, wide[i] / own), input.dtype)

    return compute(input.shape, at)


def _check_order(p: int) -> None:
    require(p in {1, 2}, f"p must be 1 or 2, got {p}")


MeanVarianceNormalization = (
    op("MeanVarianceNormalization <axes: ints = [0, 2, 3]> (X: T) => (Y: T)", since=9, T=FLOAT)
    .since(13, T=+BF16)
)  # fmt: skip

VARIANCE_FLOOR = 1e-9
"""Added to the deviation, as in the standard's function body."""


@MeanVarianceNormalization.infer
def infer_mean_variance_normalization(x: Fact, *, axes: Sequence[int] = (0, 2, 3)) -> Fact:
    normalize_axes(axes, x.rank)
    return tensor(x.dtype, x.shape)


@MeanVarianceNormalization.kernel
def mean_variance_normalization(x: Array, *, axes: Sequence[int] = (0, 2, 3)) -> Array:
    """Standardize over ``axes``: y = (x − mean) / (deviation + 1e−9), x[*S] → y[*S].

    Computes float16 and bfloat16 in float32.
    Source: ONNX MeanVarianceNormalization-13 and its function body.
    """
    places, wide = normalize_axes(axes, x.ndim), widened(x)
    y: Array = wide - mean_over(wide, places)
    deviation = np.sqrt(mean_over(np.square(y), places))
    y /= deviation + wide.dtype.type(VARIANCE_FLOOR)
    return y.astype(x.dtype, copy=False)


@MeanVarianceNormalization.lower
def lower_mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    places, wide = normalize_axes(axes, x.rank), cast_tensor(x, wide_dtype(x.dtype))
    mean = mean_along(wide, places)
    deviation = compute(x.shape, lambda *i: wide[i] - mean[outside(i, places)])
    variance = mean_along(mapped(square, deviation), places)
    divisor = mapped(lambda v: sqrt(v) + VARIANCE_FLOOR, variance)
    return compute(x.shape, lambda *i: cast(deviation[i] / divisor[outside(i, places)], x.dtype))


OLDER_BODY = """
    Mean = ReduceMean <axes: ints = @axes> (X)
    Deviation = Sub (X, Mean)
    Squares = Mul (Deviation, Deviation)
    Variance = ReduceMean <axes: ints = @axes> (Squares)
    Root = Sqrt (Variance)
    {floor}
    Divisor = Add (Root, Floor)
    Y = Div (Deviation, Divisor)
"""
# Before CastLike, 1e-9 in the type of X is computed: as 0·sign + 1e-9, and as 2 ** log2(1e-9).
FLOOR_BY_HARD_SIGMOID = """
    Positive = Sign (Root)
    Floor = HardSigmoid <alpha = 0.0, beta = 1e-9> (Positive)
"""
FLOOR_BY_POW = """
    Zero = Constant <value_float = 0.0> ()
    One = Pow (Root, Zero)
    Two = Add (One, One)
    Exponent = Constant <value_float = -29.897353> ()
    Floor = Pow (Two, Exponent)
"""

MeanVarianceNormalization.body(OLDER_BODY.format(floor=FLOOR_BY_HARD_SIGMOID), since=9)
MeanVarianceNormalization.body(
    """
    Along = Constant <value_ints: ints = @axes> ()
    Mean = ReduceMean (X, Along)
    Deviation = Sub (X, Mean)
    Squares = Mul (Deviation, Deviation)
    Variance = ReduceMean (Squares, Along)
    Root = Sqrt (Variance)
    Given = Constant <value_float = 1e-9> ()
    Floor = CastLike (Given, X)
    Divisor = Add (Root, Floor)
    Y = Div (Deviation, Divisor)
    """,
    since=13,
    opset=18,
)


@MeanVarianceNormalization.older_body(since=13, opset=13)
def mean_variance_normalization_body_in_opset_13() -> str:
    return OLDER_BODY.format(floor=FLOOR_BY_POW)
