"""Activations: element by element, and along an axis (Softmax, LogSoftmax, Hardmax).

The elementwise ones are one function each, which serves as kernel, inference and lowering; see
`pointwise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import ConvertError, require
from fornix.ir.attribute import Attribute
from fornix.ir.dim import DimLike
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.loops import Scalar, Tensor, cast, compute, index, reduce, select
from fornix.ir.types import TensorType
from fornix.ops import scalar as s
from fornix.ops.adapt import count_from_front, put_ahead, put_behind, rank_of, shape_of
from fornix.ops.along import along, merged, outside
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis, row_major, shape_text
from fornix.ops.op import op
from fornix.ops.pointwise import identical, of_first
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.types import BF16, F16, F32, F64, FLOAT, I32, I64, NUMERIC, SINT, U32, U64

SQRT_HALF = math.sqrt(0.5)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
"""Coefficient of x³ in the tanh approximation; Hendrycks and Gimpel, arXiv 1606.08415, §2."""


def _sigmoid(x: s.Operand) -> s.Operand:
    return 1.0 / (1.0 + s.exp(-x))


def _elu(x: s.Operand, *, alpha: float) -> s.Operand:
    return s.where(s.less(x, 0), alpha * (s.exp(s.minimum(x, 0.0)) - 1.0), x)


def _celu(x: s.Operand, *, alpha: float) -> s.Operand:
    """The product is bounded, not the exponential: they differ where alpha is negative."""
    return s.maximum(x, 0.0) + s.minimum(alpha * (s.exp(x / alpha) - 1.0), 0.0)


def _softplus(x: s.Operand) -> s.Operand:
    return s.maximum(x, 0.0) + s.log(1.0 + s.exp(-s.abs(x)))


def _swish(x: s.Operand, *, alpha: float) -> s.Operand:
    return x * _sigmoid(alpha * x)


def _swiglu(a: s.Operand, b: s.Operand, *, alpha: float) -> s.Operand:
    return _swish(a, alpha=alpha) * b


def _gelu(x: s.Operand, *, approximate: str) -> s.Operand:
    require(
        approximate in {"none", "tanh"}, f"approximate must be none or tanh, got {approximate!r}"
    )
    if approximate == "none":
        return 0.5 * x * (1.0 + s.erf(x * SQRT_HALF))
    return 0.5 * x * (1.0 + s.tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)))


def _prelu(x: s.Operand, slope: s.Operand) -> s.Operand:
    return s.where(s.less(x, 0), slope * x, x)


def _shrink(x: s.Operand, *, bias: float, lambd: float) -> s.Operand:
    """Integers are computed in float32, and rounded towards zero."""
    dtype = DType.of(x.dtype)
    wide = x if dtype.is_float else s.cast(x, FLOAT32)
    above = s.where(s.greater(wide, lambd), wide - bias, 0.0 * wide)
    return s.cast(s.where(s.less(wide, -lambd), wide + bias, above), dtype)


Relu = (
    op("Relu <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Relu (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .since(14, T=+SINT)
    .elementwise(lambda x: s.maximum(x, 0), "max(x, 0).")
)

LeakyRelu = (
    op("LeakyRelu <alpha: float = 0.01, consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "LeakyRelu <alpha: float = 0.01> (X: T) => (Y: T)")
    .since(16, T=+BF16)
    .elementwise(lambda x, *, alpha: s.where(s.less(x, 0), alpha * x, x), "x, or alpha·x below 0.")
)

PRelu = (
    op("PRelu <consumed_inputs: ints?> (X: T, slope: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "PRelu (X: T, slope: T) => (Y: T)")
    .since(7)
    .since(9, T=+(I32 | I64 | U32 | U64))
    .since(16, T=+BF16)
    .elementwise(
        _prelu, "x, or slope·x below 0; ``slope`` broadcasts to X.", since=7, common_shape=of_first
    )
)


@PRelu.infer
def infer_prelu_of_channels(X: Fact, slope: Fact) -> Fact:
    return tensor(X.dtype, X.shape)


@PRelu.kernel
def prelu_of_channels(X: Array, slope: Array) -> Array:
    """`PRelu` before opset 7: one slope for all elements, or one per channel, axis 1 of X."""
    channels = X.shape[1] if X.ndim > 1 else 1
    require(
        slope.size in {1, channels},
        f"slope must have 1 element or one per channel of X{shape_text(X.shape)}, {channels}, "
        f"found {slope.size}",
    )
    slope = slope.reshape(() if slope.size == 1 else (channels, *[1] * (X.ndim - 2)))
    return np.asarray(np.where(X < 0, widened(X) * widened(slope), X), X.dtype)


@PRelu.adapt(6, 7)
def prelu_6_to_7(node: Node, graph: Graph) -> None:
    """A slope per channel broadcasts once the axes behind the channels are there."""
    behind = rank_of(node.inputs[0], "X") - 2
    if behind > 0 and shape_of(node.inputs[1], "slope") != (1,):
        put_ahead(node, graph, 1, "Unsqueeze", axes=list(range(1, 1 + behind)))


ThresholdedRelu = (
    op("ThresholdedRelu <alpha: float = 1.0> (X: T) => (Y: T)", since=10, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x, *, alpha: s.where(s.greater(x, alpha), x, 0), "x above alpha, else 0.")
)

Elu = (
    op("Elu <alpha: float = 1.0, consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Elu <alpha: float = 1.0> (X: T) => (Y: T)")
    .since(22, T=+BF16)
    .elementwise(_elu, "x, or alpha·(eˣ − 1) below 0.")
)

Celu = (
    op("Celu <alpha: float = 1.0> (X: T) => (Y: T)", since=12, T=F32)
    .since(28, T=+(BF16 | F16 | F64))
    .elementwise(
        _celu,
        "max(x, 0) + min(alpha·(exp(x/alpha) − 1), 0).",
    )
)

Selu = (
    op(
        """Selu <alpha: float = 1.6732, consumed_inputs: ints?, gamma: float = 1.0507> (X: T)
              => (Y: T)""",
        since=1,
        T=FLOAT,
    )
    .since(6, "Selu <alpha: float = 1.6732632, gamma: float = 1.050701> (X: T) => (Y: T)")
    .since(22, T=+BF16)
    .elementwise(
        lambda x, *, alpha, gamma: gamma * _elu(x, alpha=alpha),
        "gamma·x, or gamma·alpha·(eˣ − 1) below 0.",
    )
)

Sigmoid = (
    op("Sigmoid <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Sigmoid (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(_sigmoid, "1 / (1 + e⁻ˣ).")
)

HardSigmoid = (
    op(
        """HardSigmoid <alpha: float = 0.2, beta: float = 0.5, consumed_inputs: ints?>
                     (X: T) => (Y: T)""",
        since=1,
        T=FLOAT,
    )
    .since(6, "HardSigmoid <alpha: float = 0.2, beta: float = 0.5> (X: T) => (Y: T)")
    .since(22, T=+BF16)
    .elementwise(
        lambda x, *, alpha, beta: s.clip(alpha * x + beta, 0.0, 1.0),
        "alpha·x + beta, kept in [0, 1].",
    )
)

HardSwish = (
    op("HardSwish (X: T) => (Y: T)", since=14, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(
        lambda x: x * s.clip(x * (1 / 6) + 0.5, 0.0, 1.0),
        "x · HardSigmoid(x) with alpha = 1/6, beta = 1/2.",
    )
)

Swish = op("Swish <alpha: float = 1.0> (X: T) => (Y: T)", since=24, T=FLOAT | BF16).elementwise(
    _swish, "x · Sigmoid(alpha·x)."
)

SwiGLU = op(
    "SwiGLU <alpha: float = 1.0> (A: T, B: T) => (Y: T)", since=28, T=FLOAT | BF16
).elementwise(
    _swiglu, "Swish(A) · B, the gate times the value; both have one shape.", common_shape=identical
)

Mish = (
    op("Mish (X: T) => (Y: T)", since=18, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x: x * s.tanh(_softplus(x)), "x · tanh(log(1 + eˣ)).")
)

Gelu = op(
    'Gelu <approximate: string = "none"> (X: T) => (Y: T)', since=20, T=FLOAT | BF16
).elementwise(_gelu, "x · Φ(x), Φ the normal distribution; ``tanh`` approximates it.")

Softplus = (
    op("Softplus (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(_softplus, "log(1 + eˣ), without overflow.")
)

Softsign = (
    op("Softsign (input: T) => (output: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x: x / (1.0 + s.abs(x)), "x / (1 + |x|).")
)

Tanh = (
    op("Tanh <consumed_inputs: ints?> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(6, "Tanh (input: T) => (output: T)")
    .since(13, T=+BF16)
    .elementwise(s.tanh, "Hyperbolic tangent.")
)

Shrink = op(
    "Shrink <bias: float = 0.0, lambd: float = 0.5> (input: T) => (output: T)", since=9, T=NUMERIC
).elementwise(_shrink, "x + bias below −lambd, x − bias above lambd, 0 between.")

Softmax = (
    op("Softmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "Softmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


@Softmax.infer
def infer_along_axis(input: Fact, *, axis: int) -> Fact:
    normalize_axis(axis, input.rank)
    return tensor(input.dtype, input.shape)


@Softmax.kernel
def softmax_of_rows(input: Array, *, axis: int) -> Array:
    """`softmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(softmax, input, axis)


@Softmax.kernel(since=13)
def softmax(input: Array, *, axis: int) -> Array:
    """exp(x) / Σ exp(x) along ``axis``, shifted by the maximum so that nothing overflows.

    input[*S] → output[*S]. Computes float16 and bfloat16 in float32. Source: ONNX Softmax-13.
    """
    e = np.exp(_shifted(input, axis))
    result: Array = e / e.sum(axis, keepdims=True)
    return result.astype(input.dtype)


@Softmax.lower
def lower_softmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_softmax(input, range(normalize_axis(axis, input.rank), input.rank))


@Softmax.lower(since=13)
def lower_softmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_softmax(input, [normalize_axis(axis, input.rank)])


def _lower_softmax(input: Tensor, axes: Collection[int]) -> Tensor:
    x = _lower_shifted(input, axes)
    e = compute(x.shape, lambda *i: s.exp(x[i]))
    total = along("sum", e, axes)
    return compute(x.shape, lambda *i: cast(e[i] / total[outside(i, axes)], input.dtype))


LogSoftmax = (
    op("LogSoftmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "LogSoftmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


LogSoftmax.infer(infer_along_axis)


@LogSoftmax.kernel
def log_softmax_of_rows(input: Array, *, axis: int) -> Array:
    """`log_softmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(log_softmax, input, axis)


@LogSoftmax.kernel(since=13)
def log_softmax(input: Array, *, axis: int) -> Array:
    """X − log Σ exp(x) along ``axis``, shifted by the maximum so that nothing overflows.

    input[*S] → output[*S]. Computes float16 and bfloat16 in float32. Source: ONNX LogSoftmax-13.
    """
    x = _shifted(input, axis)
    result: Array = x - np.log(np.exp(x).sum(axis, keepdims=True))
    return result.astype(input.dtype)


@LogSoftmax.lower
def lower_log_softmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_log_softmax(input, range(normalize_axis(axis, input.rank), input.rank))


@LogSoftmax.lower(since=13)
def lower_log_softmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_log_softmax(input, [normalize_axis(axis, input.rank)])


def _lower_log_softmax(input: Tensor, axes: Collection[int]) -> Tensor:
    x = _lower_shifted(input, axes)
    total = along("sum", compute(x.shape, lambda *i: s.exp(x[i])), axes)
    return compute(x.shape, lambda *i: cast(x[i] - s.log(total[outside(i, axes)]), input.dtype))


Hardmax = (
    op("Hardmax <axis: int = 1> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(11)
    .since(13, "Hardmax <axis: int = -1> (input: T) => (output: T)", T=+BF16)
)


Hardmax.infer(infer_along_axis)


@Hardmax.kernel
def hardmax_of_rows(input: Array, *, axis: int) -> Array:
    """`hardmax` over all axes from ``axis`` on together, as before opset 13."""
    return _on_rows(hardmax, input, axis)


@Hardmax.kernel(since=13)
def hardmax(input: Array, *, axis: int) -> Array:
    """1 at the first maximum along ``axis``, 0 elsewhere. Source: ONNX Hardmax-13."""
    axis = normalize_axis(axis, input.ndim)
    result = np.zeros_like(input)
    if input.size:
        first = np.argmax(widened(input), axis, keepdims=True)
        np.put_along_axis(result, first, np.array(1, input.dtype), axis)
    return result


@Hardmax.lower
def lower_hardmax_of_rows(input: Tensor, *, axis: int) -> Tensor:
    return _lower_hardmax(input, range(normalize_axis(axis, input.rank), input.rank))


@Hardmax.lower(since=13)
def lower_hardmax(input: Tensor, *, axis: int) -> Tensor:
    return _lower_hardmax(input, [normalize_axis(axis, input.rank)])


def _lower_hardmax(input: Tensor, axes: Collection[int]) -> Tensor:
    """1 at the least place, counted within the row, that holds the maximum; NaN is a maximum."""
    x = cast_tensor(input, wide_dtype(input.dtype))
    top = along("max", x, axes)
    box = [input.shape[axis] for axis in axes]

    def first(*i: DimLike) -> Scalar:
        def candidate(*k: DimLike) -> Scalar:
            value = x[merged(x.rank, axes, i, k)]
            is_top = s.logical_or(s.equal(value, top[i]), s.isnan(value))
            return select(is_top, index(row_major(k, box)), index(math.prod(box)))

        return reduce("min", box, candidate)

    firsts = compute(top.shape, first)

    def at(*i: DimLike) -> Scalar:
        own = row_major([i[axis] for axis in axes], box)
        is_first = s.equal(firsts[outside(i, axes)], index(own))
        return cast(is_first, input.dtype)

    return compute(input.shape, at)


def _shifted(input: Array, axis: int) -> Array:
    """``input`` less its maximum along ``axis``, in float32 or wider."""
    axis = normalize_axis(axis, input.ndim)
    x = widened(input)
    shifted: Array = x - x.max(axis, keepdims=True, initial=-np.inf)
    return shifted


def _lower_shifted(input: Tensor, axes: Collection[int]) -> Tensor:
    x = cast_tensor(input, wide_dtype(input.dtype))
    top = along("max", x, axes)
    return compute(x.shape, lambda *i: x[i] - top[outside(i, axes)])


def _on_rows(function: Callable[..., Array], input: Array, axis: int) -> Array:
    """``function`` of each row of ``input`` flattened to a matrix at ``axis``."""
    axis = normalize_axis(axis, input.ndim)
    rows = input.reshape(math.prod(input.shape[:axis]), math.prod(input.shape[axis:]))
    return function(rows, axis=1).reshape(input.shape)


# Softmax, LogSoftmax and Hardmax share their history: until opset 11 a row is all axes from
# ``axis`` on, and until opset 1 that is no negative number.


@Softmax.adapt(11, 1)
@LogSoftmax.adapt(11, 1)
@Hardmax.adapt(11, 1)
def axis_from_front(node: Node, _: Graph) -> None:
    count_from_front(node, "axis")


@Softmax.adapt(11, 13)
@LogSoftmax.adapt(11, 13)
@Hardmax.adapt(11, 13)
def row_to_axis(node: Node, graph: Graph) -> None:
    """Flatten the axes of a row into one, and give the result its shape back."""
    axis = node.remove_attribute("axis") or Attribute.of("axis", 1)
    if axis.ref is None and _is_last(axis.value, node.inputs[0]):
        node.set_attribute("axis", -1)
        return
    shape = Node("", "Shape", node.inputs)
    graph.insert_before(node, shape)
    put_ahead(node, graph, 0, "Flatten", axis=axis)
    node.set_attribute("axis", -1)
    put_behind(node, graph, "Reshape", shape.output)


@Softmax.adapt(13, 11)
@LogSoftmax.adapt(13, 11)
@Hardmax.adapt(13, 11)
def axis_to_row(node: Node, graph: Graph) -> None:
    """Exchange the axis with the last one, whose row it then is, and exchange them back."""
    axis = node.remove_attribute("axis") or Attribute.of("axis", -1)
    if axis.ref is not None:
        raise ConvertError(f"opset 11 flattens from axis on, so axis must be known, found {axis}")
    if _is_last(axis.value, node.inputs[0]):
        node.set_attribute("axis", axis.value)
        return
    rank = rank_of(node.inputs[0], "the input")
    node.set_attribute("axis", rank - 1)
    order = list(range(rank))
    order[axis.value], order[-1] = order[-1], order[axis.value]
    put_ahead(node, graph, 0, "Transpose", perm=order)
    put_behind(node, graph, "Transpose", perm=order)


def _is_last(axis: int, value: Value | None) -> bool:
    """Whether ``axis`` of ``value`` is known to be the last one."""
    type_ = None if value is None else value.type
    shape = type_.shape if isinstance(type_, TensorType) else None
    return axis == -1 or (shape is not None and axis == len(shape) - 1)
