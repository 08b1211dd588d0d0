"""Normalizations of channels: InstanceNormalization, GroupNormalization, LRN."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import ConvertError, require
from fornix.ir.dim import DimLike, equal, known, maximum, minimum
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce
from fornix.ir.loops import stored as in_memory
from fornix.ops.adapt import put_ahead, shape_of, stored
from fornix.ops.along import mapped
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.norm import at_least, lower_at_least, square
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, mean_over, wide_dtype, widened
from fornix.ops.scalar import sqrt
from fornix.ops.types import BF16, FLOAT

InstanceNormalization = (
    op("""InstanceNormalization <consumed_inputs: ints?, epsilon: float = 1e-05>
                                (input: T, scale: T, B: T) => (output: T)""", since=1, T=FLOAT)
    .since(6, """InstanceNormalization <epsilon: float = 1e-05>
                                       (input: T, scale: T, B: T) => (output: T)""")
    .since(22, T=+BF16)
)  # fmt: skip


Shaped = Fact | Array | Tensor

ALONE = 8
"""Channels of a group at most that each take the sums of all of them, which is as fast as once."""


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


@InstanceNormalization.lower
def lower_instance_normalization(
    input: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    _check_channels("input", input.shape, scale, b)
    wide = cast_tensor(input, wide_dtype(input.dtype))
    return _lower_grouped(wide, scale, b, input.shape[1], epsilon, input.dtype)


def _check_channels(name: str, shape: Sequence[DimLike], scale: Shaped, bias: Shaped) -> None:
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
    y: Array = members - mean_over(members, [2])
    variance = mean_over(np.square(y), [2])
    y /= np.sqrt(variance + wide.dtype.type(epsilon))
    y = y.reshape(x.shape)
    per_channel = (-1, *[1] * (x.ndim - 2))
    y *= scale.astype(wide.dtype, copy=False).reshape(per_channel)
    y += bias.astype(wide.dtype, copy=False).reshape(per_channel)
    return y.astype(x.dtype, copy=False)


def _lower_grouped(
    wide: Tensor, scale: Tensor, bias: Tensor, groups: DimLike, epsilon: float, dtype: DType
) -> Tensor:
    n, channels, *spatial = wide.shape
    size = channels // groups
    box = (size, *spatial)
    count = cast(index(math.prod(box)), wide.dtype)
    is_row = equal(n * groups, 1) is True and known(math.prod(box)) is not None
    are_shared = (known(size) or ALONE + 1) > ALONE and not is_row

    def mean_of(x: Tensor) -> Tensor:
        def at(i: DimLike, g: DimLike) -> Scalar:
            return reduce("sum", box, lambda k, *s: x[i, g * size + k, *s]) / count

        mean = compute((n, groups), at)
        return in_memory(mean) if are_shared else mean  # loops over channels would sum for each

    mean = mean_of(wide)
    deviation = compute(wide.shape, lambda *i: wide[i] - mean[i[0], i[1] // size])
    variance = mean_of(mapped(square, deviation))
    root = mapped(lambda v: sqrt(v + epsilon), variance)

    def at(*i: DimLike) -> Scalar:
        factor, shift = (cast(t[i[1]], wide.dtype) for t in (scale, bias))
        return cast(deviation[i] / root[i[0], i[1] // size] * factor + shift, dtype)

    return compute(wide.shape, at)


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


@GroupNormalization.adapt(18, 21)
def group_normalization_18_to_21(node: Node, graph: Graph) -> None:
    """Scale and bias of each group become those of its channels."""
    channels, groups = shape_of(node.inputs[0], "X")[1], node.attr("num_groups")
    if not isinstance(channels, int):
        raise ConvertError(
            "since opset 21 scale and bias go by channel, and their number is not known"
        )
    for k in (1, 2):
        put_ahead(node, graph, k, "Unsqueeze", stored(node, graph, np.array([1])))
        sides = np.array([groups, channels // groups])
        put_ahead(node, graph, k, "Expand", stored(node, graph, sides))
        put_ahead(node, graph, k, "Reshape", stored(node, graph, np.array([channels])))


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
    wide = at_least(x, DType.of(stash_type).numpy)
    return _grouped(x, scale, bias, num_groups, epsilon, wide)


@GroupNormalization.lower
def lower_group_normalization_18(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    _check_groups(x.shape, num_groups)
    _check_channels("groups", (x.shape[0], num_groups), scale, bias)
    size = x.shape[1] // num_groups
    wide = cast_tensor(x, wide_dtype(x.dtype))
    factors, shifts = (compute(x.shape[1:2], lambda c, t=t: t[c // size]) for t in (scale, bias))
    return _lower_grouped(wide, factors, shifts, num_groups, epsilon, x.dtype)


@GroupNormalization.lower(since=21)
def lower_group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = FLOAT32.code,
) -> Tensor:
    _check_groups(x.shape, num_groups)
    _check_channels("X", x.shape, scale, bias)
    wide = lower_at_least(x, DType.of(stash_type))
    return _lower_grouped(wide, scale, bias, num_groups, epsilon, x.dtype)


GroupNormalization.body(
    """
    Shape = Shape (X)
    Batch = Constant <value_ints = [0]> ()
    Groups = Constant <value_int: int = @num_groups> ()
    First = Constant <value_ints = [0]> ()
    Count = Unsqueeze (Groups, First)
    Rest = Constant <value_ints = [-1]> ()
    Grouping = Concat <axis = 0> (Batch, Count, Rest)
    Members = Reshape (X, Grouping)
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
    ByGroup = Constant <value_ints = [1, -1, 1]> ()
    Scales = Reshape (scale, ByGroup)
    Biases = Reshape (bias, ByGroup)
    Scaled = Mul (Standard, Scales)
    Shifted = Add (Scaled, Biases)
    Y = Reshape (Shifted, Shape)
""",
    by_node=True,
)

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
    by_node=True,
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
    ahead, behind = (min(n, max(channels - 1, 0)) for n in ((size - 1) // 2, size // 2))
    for offset in range(-ahead, behind + 1):
        start, stop = max(0, -offset), min(channels, channels - offset)
        energy[:, start:stop] += square[:, start + offset : stop + offset]
    kind = wide.dtype.type
    y = wide / (kind(bias) + kind(alpha / size) * energy) ** kind(beta)
    return np.asarray(y).astype(x.dtype, copy=False)


@LRN.lower
def lower_lrn(
    x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    _check_neighbours(x.shape, size)
    wide, last = cast_tensor(x, wide_dtype(x.dtype)), maximum(x.shape[1] - 1, 0)
    ahead, behind = (minimum(n, last) for n in ((size - 1) // 2, size // 2))

    def at(n: DimLike, c: DimLike, *s: DimLike) -> Scalar:
        energy = reduce(
            "sum", ahead + behind + 1, lambda k: square(wide.get((n, c + k - ahead, *s), 0))
        )
        divisor = apply("pow", alpha / size * energy + bias, beta)
        return cast(wide[n, c, *s] / divisor, x.dtype)

    return compute(x.shape, at)


def _check_neighbours(shape: Sequence[DimLike], size: int) -> None:
    require(len(shape) >= 2, f"X must have rank 2 or more, got X{shape_text(shape)}")
    require(size > 0, f"size must be positive, got {size}")
