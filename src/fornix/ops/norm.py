"""Normalizations over channels, layers and neighbourhoods, and Dropout.

BatchNormalization is in `batch_norm.py`. Statistics are computed in two passes, mean first: the
difference of E[x²] and E[x]² loses all digits where the mean is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, cast, compute, index, reduce
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axes, normalize_axis, shape_text
from fornix.ops.op import op
from fornix.ops.pool import powers, root
from fornix.ops.precision import cast_tensor, wide_dtype, wide_element, widened
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
    wide = _at_least(x, stash)
    axes = tuple(range(first, x.ndim))
    mean = np.mean(wide, axis=axes, keepdims=True)
    deviation = wide - mean
    variance = np.mean(np.square(deviation), axis=axes, keepdims=True)
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
    wide = cast_tensor(x, FLOAT64 if stash is FLOAT64 else wide_dtype(x.dtype))
    outer, inner = x.shape[:first], x.shape[first:]
    count = cast(index(math.prod(inner)), wide.dtype)

    def mean_of(t: Tensor) -> Tensor:
        return compute(outer, lambda *i: reduce("sum", inner, lambda *k: t[i + k]) / count)

    mean = mean_of(wide)
    deviation = compute(x.shape, lambda *i: wide[i] - mean[i[:first]])
    variance = mean_of(compute(x.shape, lambda *i: deviation[i] * deviation[i]))
    inverse = compute(outer, lambda *i: 1.0 / sqrt(variance[i] + epsilon))

    def at(*i: DimLike) -> Scalar:
        y = deviation[i] * inverse[i[:first]] * wide_element(scale, i, wide.dtype)
        return cast(y if b is None else y + wide_element(b, i, wide.dtype), x.dtype)

    def kept(t: Tensor) -> Tensor:
        return compute((*outer, *[1] * len(inner)), lambda *i: cast(t[i[:first]], stash))

    return compute(x.shape, at), kept(mean), kept(inverse)


def _at_least(x: Array, stash: np.dtype[np.generic]) -> Array:
    """``x`` in its own precision, float32, or that of ``stash``: the widest of them.

    NB: the standard narrows float64 to stash_type; results are then less exact, and no peer does.
    """
    wide = widened(x)
    return wide.astype(np.float64) if stash == np.float64 else wide


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
    wide = _at_least(x, DType.of(stash_type).numpy)
    square = np.mean(np.square(wide), axis=tuple(range(first, x.ndim)), keepdims=True)
    y = wide / np.sqrt(square + wide.dtype.type(epsilon)) * widened(scale)
    return np.asarray(y).astype(scale.dtype, copy=False)


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
)


InstanceNormalization = (
    op("""InstanceNormalization <consumed_inputs: ints?, epsilon: float = 1e-05>
                                (input: T, scale: T, B: T) => (output: T)""", since=1, T=FLOAT)
    .since(6, """InstanceNormalization <epsilon: float = 1e-05>
                                       (input: T, scale: T, B: T) => (output: T)""")
    .since(22, T=+BF16)
)  # fmt: skip


@InstanceNormalization.infer
def infer_instance_normalization(
    input: Fact, scale: Fact, b: Fact, *, epsilon: float = 1e-5
) -> Fact:
    _check_channels("input", input.shape, scale, b)
    return tensor(input.dtype, input.shape)


@InstanceNormalization.kernel
def instance_normalization(input: Array, scale: Array, b: Array, *, epsilon: float = 1e-5) -> Array:
    """Standardize every channel of every instance, then scale and shift it.

    y = (x − mean) / √(var + epsilon) · scale + b;  x[N, C, *S] · scale[C] · b[C] → y[N, C, *S].
    Computes float16 and bfloat16 in float32. Source: ONNX InstanceNormalization-22.
    """
    _check_channels("input", input.shape, scale, b)
    return _grouped(input, scale, b, input.shape[1], epsilon, widened(input))


def _check_channels(
    name: str, shape: Sequence[DimLike], scale: Fact | Array, bias: Fact | Array
) -> None:
    """Raise ShapeError unless there are an instance and a channel axis, and C scales and biases."""
    require(len(shape) >= 2, f"{name} must have rank 2 or more, got {name}{shape_text(shape)}")
    for what, other in (("scale", scale), ("bias", bias)):
        if isinstance(other, Fact) and not other.has_rank:
            continue
        fits = len(other.shape) == 1 and equal(other.shape[0], shape[1]) is not False
        require(
            fits,
            f"{what} must have one element per channel of {name}{shape_text(shape)}, "
            f"got shape {shape_text(other.shape)}",
        )


def _grouped(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float, wide: Array
) -> Array:
    """``wide`` standardized per instance and group of channels, scaled and shifted per channel."""
    members = wide.reshape(x.shape[0], groups, -1 if x.size else 0)
    y: Array = members - np.mean(members, axis=2, keepdims=True)
    variance = np.mean(np.square(y), axis=2, keepdims=True)
    y /= np.sqrt(variance + wide.dtype.type(epsilon))
    y = y.reshape(x.shape)
    per_channel = (-1, *[1] * (x.ndim - 2))
    y *= scale.astype(wide.dtype, copy=False).reshape(per_channel)
    y += bias.astype(wide.dtype, copy=False).reshape(per_channel)
    return y.astype(x.dtype, copy=False)


GroupNormalization = (
    op("""GroupNormalization <epsilon: float = 1e-05, num_groups: int>
                             (X: T, scale: T, bias: T) => (Y: T)""",
       since=18, T=FLOAT | BF16, deprecated=True)
    .since(21, """GroupNormalization <epsilon: float = 1e-05, num_groups: int, stash_type: int = 1>
                                     (X: T, scale: T, bias: T) => (Y: T)""")
)  # fmt: skip


@GroupNormalization.infer
def infer_group_normalization_18(
    x: Fact, scale: Fact, bias: Fact, *, num_groups: int, epsilon: float = 1e-5
) -> Fact:
    _check_groups(x.shape, num_groups)
    _check_channels("groups", (x.shape[0], num_groups), scale, bias)
    return tensor(x.dtype, x.shape)


@GroupNormalization.infer(since=21)
def infer_group_normalization(
    x: Fact,
    scale: Fact,
    bias: Fact,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = FLOAT32.code,
) -> Fact:
    _check_groups(x.shape, num_groups)
    _check_channels("X", x.shape, scale, bias)
    return tensor(x.dtype, x.shape)


@GroupNormalization.kernel
def group_normalization_18(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5
) -> Array:
    """Standardize every group of channels, then scale and shift it.

    x[N, C, *S] · scale[G] · bias[G] → y[N, C, *S]. Deprecated: with one scale per group it could
    not express what models do. Source: ONNX GroupNormalization-18.
    """
    _check_groups(x.shape, num_groups)
    _check_channels("groups", (x.shape[0], num_groups), scale, bias)
    size = x.shape[1] // num_groups
    return _grouped(x, scale.repeat(size), bias.repeat(size), num_groups, epsilon, widened(x))


@GroupNormalization.kernel(since=21)
def group_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = FLOAT32.code,
) -> Array:
    """Standardize every group of channels, then scale and shift each channel.

    y = (x − mean) / √(var + epsilon) · scale + bias;  x[N, C, *S] · scale[C] · bias[C] →
    y[N, C, *S], statistics per instance and group. Computes in the wider of stash_type and x's
    dtype, and rounds once. Source: ONNX GroupNormalization-21.
    """
    _check_groups(x.shape, num_groups)
    _check_channels("X", x.shape, scale, bias)
    wide = _at_least(x, DType.of(stash_type).numpy)
    return _grouped(x, scale, bias, num_groups, epsilon, wide)


GroupNormalization.body(
    """
    <domain: "", opset_import: ["": 18]>
    GroupNormalization <epsilon: float = 1e-5, num_groups: int, stash_type: int = 1>
                       (X, scale, bias) => (Y)
    {
        Wide = Cast <to: int = @stash_type> (X)
        Shape = Shape (X)
        Batch = Constant <value_ints = [0]> ()
        Groups = Constant <value_int: int = @num_groups> ()
        First = Constant <value_ints = [0]> ()
        Count = Unsqueeze (Groups, First)
        Rest = Constant <value_ints = [-1]> ()
        Grouping = Concat <axis = 0> (Batch, Count, Rest)
        Members = Reshape (Wide, Grouping)
        Along = Constant <value_ints = [2]> ()
        Mean = ReduceMean (Members, Along)
        Deviation = Sub (Members, Mean)
        Squares = Mul (Deviation, Deviation)
        Variance = ReduceMean (Squares, Along)
        Given = Constant <value_float: float = @epsilon> ()
        Epsilon = CastLike (Given, Variance)
        Raised = Add (Variance, Epsilon)
        Root = Sqrt (Raised)
        Standard = Div (Deviation, Root)
        Cut = CastLike (Standard, X)
        ByChannel = Constant <value_ints = [1, -1, 1]> ()
        Scales = Reshape (scale, ByChannel)
        Biases = Reshape (bias, ByChannel)
        Channels = Shape <start = 1, end = 2> (X)
        Flat = Concat <axis = 0> (Batch, Channels, Rest)
        Rows = Reshape (Cut, Flat)
        Scaled = Mul (Rows, Scales)
        Shifted = Add (Scaled, Biases)
        Y = Reshape (Shifted, Shape)
    }
    """,
    since=21,
)


def _check_groups(shape: Sequence[DimLike], groups: int) -> None:
    require(len(shape) >= 2, f"X must have rank 2 or more, got X{shape_text(shape)}")
    require(
        groups > 0 and (known(shape[1]) or 0) % groups == 0,
        f"the channels of X{shape_text(shape)} must be a multiple of num_groups={groups}",
    )


LRN = (
    op("""LRN <alpha: float = 1e-04, beta: float = 0.75, bias: float = 1.0, size: int>
              (X: T) => (Y: T)""", since=1, T=FLOAT)
    .since(13, T=+BF16)
)  # fmt: skip


@LRN.infer
def infer_lrn(
    x: Fact, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Fact:
    _check_neighbours(x.shape, size)
    return tensor(x.dtype, x.shape)


@LRN.kernel
def lrn(
    x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Array:
    """Divide by a power of the energy of the neighbouring channels.

    y = x / (bias + alpha / size · Σ x²)^beta over channels c − ⌊(size − 1)/2⌋ … c + ⌈(size − 1)/2⌉;
    x[N, C, *S] → y[N, C, *S]. Computes float16 and bfloat16 in float32. Source: ONNX LRN-13.
    """
    _check_neighbours(x.shape, size)
    wide = widened(x)
    square, channels = np.square(wide), x.shape[1]
    energy = np.zeros_like(square)
    for offset in range(-((size - 1) // 2), size // 2 + 1):
        start, stop = max(0, -offset), min(channels, channels - offset)
        if start < stop:
            energy[:, start:stop] += square[:, start + offset : stop + offset]
    kind = wide.dtype.type
    y = wide / (kind(bias) + kind(alpha / size) * energy) ** kind(beta)
    return np.asarray(y).astype(x.dtype, copy=False)


def _check_neighbours(shape: Sequence[DimLike], size: int) -> None:
    require(len(shape) >= 2, f"X must have rank 2 or more, got X{shape_text(shape)}")
    require(size > 0, f"size must be positive, got {size}")


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
    along = normalize_axis(axis, input.ndim)
    norm = root(np.sum(powers(wide, p), axis=along, keepdims=True), p)
    y = np.where(norm == 0, wide.dtype.type(0), wide / norm)
    return y.astype(input.dtype, copy=False)


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
    along, wide = normalize_axes(axes, x.ndim), widened(x)
    y: Array = wide - np.mean(wide, axis=along, keepdims=True)
    deviation = np.sqrt(np.mean(np.square(y), axis=along, keepdims=True))
    y /= deviation + wide.dtype.type(VARIANCE_FLOOR)
    return y.astype(x.dtype, copy=False)


MeanVarianceNormalization.body(
    """
    <domain: "", opset_import: ["": 18]>
    MeanVarianceNormalization <axes: ints = [0, 2, 3]> (X) => (Y)
    {
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
    }
    """,
    since=9,
)
