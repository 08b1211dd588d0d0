"""Activations, element by element; those along an axis are in `softmax.py`.

Each is one function, which serves as kernel, inference and lowering; see `pointwise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import ConvertError, require
from fornix.ir.dim import DimLike, equal
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops import scalar as s
from fornix.ops.adapt import put_ahead, rank_of, shape_of, stored
from fornix.ops.call import BodyNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.pointwise import identical, of_first
from fornix.ops.precision import wide_element, widened
from fornix.ops.types import BF16, F16, F32, F64, FLOAT, I32, I64, NUMERIC, SINT, U32, U64

SQRT_HALF = math.sqrt(0.5)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
"""Coefficient of x³ in the tanh approximation; Hendrycks and Gimpel, arXiv 1606.08415, §2."""


def sigmoid(x: s.Operand) -> s.Operand:
    """The logistic function of x."""
    return 1.0 / (1.0 + s.exp(-x))


def _elu(x: s.Operand, *, alpha: float) -> s.Operand:
    return s.where(s.less(x, 0), alpha * (s.exp(s.minimum(x, 0.0)) - 1.0), x)


def _celu(x: s.Operand, *, alpha: float) -> s.Operand:
    """The product is bounded, not the exponential: they differ where alpha is negative."""
    return s.maximum(x, 0.0) + s.minimum(alpha * (s.exp(x / alpha) - 1.0), 0.0)


def swish(x: s.Operand, *, alpha: float) -> s.Operand:
    """The product of x and the sigmoid of alpha · x."""
    return x * sigmoid(alpha * x)


def _swiglu(a: s.Operand, b: s.Operand, *, alpha: float) -> s.Operand:
    return swish(a, alpha=alpha) * b


def gelu(x: s.Operand, *, approximate: str) -> s.Operand:
    """The product of x and Φ(x), exact or approximated."""
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
    .elementwise(lambda x: s.maximum(x, 0), "max(x, 0); NaN stays.")
)

Relu.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    Y = Max (X, Level)
    """,
    since=14,
    opset=18,
)

LeakyRelu = (
    op("LeakyRelu <alpha: float = 0.01, consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "LeakyRelu <alpha: float = 0.01> (X: T) => (Y: T)")
    .since(16, T=+BF16)
    .elementwise(lambda x, *, alpha: s.where(s.less(x, 0), alpha * x, x), "x, or alpha·x below 0.")
)

LeakyRelu.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, X)
    Below = Mul (Slope, X)
    IsBelow = Less (X, Level)
    Y = Where (IsBelow, Below, X)
    """,
    since=16,
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

PRelu.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    Below = Mul (slope, X)
    IsBelow = Less (X, Level)
    Y = Where (IsBelow, Below, X)
    """,
    since=16,
)


@PRelu.infer
def infer_prelu_of_channels(X: Fact, slope: Fact) -> Fact:
    if slope.has_rank:
        _check_slope(X.shape, math.prod(slope.shape))
    return tensor(X.dtype, X.shape)


def _check_slope(x: Sequence[DimLike], count: DimLike) -> None:
    channels = x[1] if len(x) > 1 else 1
    require(
        equal(count, 1) is not False or equal(count, channels) is not False,
        f"slope must have 1 element or one per channel of X{shape_text(x)}, {channels}, "
        f"found {count}",
    )


@PRelu.kernel
def prelu_of_channels(X: Array, slope: Array) -> Array:
    """`PRelu` before opset 7: one slope for all elements, or one per channel, axis 1 of X."""
    _check_slope(X.shape, slope.size)
    slope = slope.reshape(() if slope.size == 1 else (-1, *[1] * (X.ndim - 2)))
    return np.asarray(np.where(X < 0, widened(X) * widened(slope), X), X.dtype)


@PRelu.lower
def lower_prelu_of_channels(X: Tensor, slope: Tensor, *, node: LowerNode) -> Tensor:
    if X.rank > 1 and sum(extent != 1 for extent in slope.shape) > 1:
        node.decline("its slopes per channel lie along several axes")

    def at(*i: DimLike) -> Scalar:
        channel = i[1] if X.rank > 1 else 0
        place = tuple(0 if extent == 1 else channel for extent in slope.shape)
        return cast(_prelu(wide_element(X, i), wide_element(slope, place)), X.dtype)

    return compute(X.shape, at)


@PRelu.adapt(6, 7)
def prelu_6_to_7(node: Node, graph: Graph) -> None:
    """A slope per channel broadcasts once the axes behind the channels are there."""
    behind = rank_of(node.inputs[0], "X") - 2
    if behind > 0 and shape_of(node.inputs[1], "slope") != (1,):
        put_ahead(node, graph, 1, "Unsqueeze", axes=list(range(1, 1 + behind)))


@PRelu.adapt(7, 6)
def prelu_7_to_6(node: Node, graph: Graph) -> None:
    """One slope stays; slopes that differ by channel alone become a vector."""
    slope, rank = shape_of(node.inputs[1], "slope"), rank_of(node.inputs[0], "X")
    is_one = all(extent == 1 for extent in slope)
    is_by_channel = len(slope) == rank - 1 and all(extent == 1 for extent in slope[1:])
    if not is_one and not (is_by_channel and isinstance(slope[0], int)):
        raise ConvertError(
            "before opset 7 slope must have 1 element or one per channel, "
            f"found slope{shape_text(slope)} for X of rank {rank}"
        )
    count = 1 if is_one else slope[0]
    put_ahead(node, graph, 1, "Reshape", stored(node, graph, np.array([count])))


ThresholdedRelu = (
    op("ThresholdedRelu <alpha: float = 1.0> (X: T) => (Y: T)", since=10, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x, *, alpha: s.where(s.greater(x, alpha), x, 0), "x above alpha, else 0.")
)

ThresholdedRelu.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    Alpha = Constant <value_float: float = @alpha> ()
    Threshold = CastLike (Alpha, X)
    IsAbove = Greater (X, Threshold)
    Y = Where (IsAbove, X, Level)
    """,
    since=10,
    opset=18,
)

Elu = (
    op("Elu <alpha: float = 1.0, consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Elu <alpha: float = 1.0> (X: T) => (Y: T)")
    .since(22, T=+BF16)
    .elementwise(_elu, "x, or alpha·(eˣ − 1) below 0.")
)

Elu.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    One = Constant <value_float = 1.0> ()
    Unit = CastLike (One, X)
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, X)
    Low = Min (X, Level)
    Power = Exp (Low)
    Fall = Sub (Power, Unit)
    Below = Mul (Slope, Fall)
    IsBelow = Less (X, Level)
    Y = Where (IsBelow, Below, X)
    """,
    since=6,
    opset=18,
)

Celu = (
    op("Celu <alpha: float = 1.0> (X: T) => (Y: T)", since=12, T=F32)
    .since(28, T=+(BF16 | F16 | F64))
    .elementwise(
        _celu,
        "max(x, 0) + min(alpha·(exp(x/alpha) − 1), 0).",
    )
)

CELU_BODY = """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, X)
    Ratio = Div (X, Slope)
    Grown = Elu (Ratio)
    Fall = Min (Grown, Level)
    Below = Mul (Slope, Fall)
    Above = Max (X, Level)
    Y = Add (Above, Below)
"""

Celu.body(CELU_BODY, since=12, by_node=True).body(CELU_BODY, since=28)

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

Selu.body(
    """
    Gamma = Constant <value_float: float = @gamma> ()
    Scale = CastLike (Gamma, X)
    Grown = Elu <alpha: float = @alpha> (X)
    Y = Mul (Scale, Grown)
    """,
    since=6,
    opset=18,
)

Sigmoid = (
    op("Sigmoid <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Sigmoid (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(sigmoid, "1 / (1 + e⁻ˣ).")
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

HardSigmoid.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    One = Constant <value_float = 1.0> ()
    Unit = CastLike (One, X)
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, X)
    Beta = Constant <value_float: float = @beta> ()
    Offset = CastLike (Beta, X)
    Steep = Mul (Slope, X)
    Line = Add (Steep, Offset)
    Above = Max (Line, Level)
    Y = Min (Above, Unit)
    """,
    since=6,
    opset=18,
)

HardSwish = (
    op("HardSwish (X: T) => (Y: T)", since=14, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(
        lambda x: x * s.clip(x * (1 / 6) + 0.5, 0.0, 1.0),
        "x · HardSigmoid(x) with alpha = 1/6, beta = 1/2.",
    )
)

HardSwish.body(
    """
    Gate = HardSigmoid <alpha = 0.16666667, beta = 0.5> (X)
    Y = Mul (X, Gate)
    """,
    since=14,
)

Swish = op("Swish <alpha: float = 1.0> (X: T) => (Y: T)", since=24, T=FLOAT | BF16).elementwise(
    swish, "x · Sigmoid(alpha·x)."
)

Swish.body(
    """
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, X)
    Steep = Mul (Slope, X)
    Gate = Sigmoid (Steep)
    Y = Mul (X, Gate)
    """,
    since=24,
)

SwiGLU = op(
    "SwiGLU <alpha: float = 1.0> (A: T, B: T) => (Y: T)", since=28, T=FLOAT | BF16
).elementwise(
    _swiglu, "Swish(A) · B, the gate times the value; both have one shape.", common_shape=identical
)

SwiGLU.body(
    """
    Alpha = Constant <value_float: float = @alpha> ()
    Slope = CastLike (Alpha, A)
    Steep = Mul (Slope, A)
    Gate = Sigmoid (Steep)
    Gated = Mul (A, Gate)
    Y = Mul (Gated, B)
    """,
    since=28,
)

Mish = (
    op("Mish (X: T) => (Y: T)", since=18, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x: x * s.tanh(s.softplus(x)), "x · tanh(log(1 + eˣ)).")
)

Mish.body(
    """
    Soft = Softplus (X)
    Gate = Tanh (Soft)
    Y = Mul (X, Gate)
    """,
    since=18,
)

Gelu = op(
    'Gelu <approximate: string = "none"> (X: T) => (Y: T)', since=20, T=FLOAT | BF16
).elementwise(
    gelu,
    "x · Φ(x), Φ the normal distribution: ½ · (1 + erf(x / √2)).\n\n"
    "``tanh`` approximates Φ by ½ · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).",
)


@Gelu.body
def gelu_body(*, node: BodyNode) -> str:
    if node.attributes["approximate"] == "none":
        gate = f"""
            Root = Constant <value_float = {SQRT_HALF!r}> ()
            Scale = CastLike (Root, X)
            Scaled = Mul (X, Scale)
            Gate = Erf (Scaled)"""
    else:
        gate = f"""
            Coefficient = Constant <value_float = {GELU_CUBIC!r}> ()
            Cubic = CastLike (Coefficient, X)
            Root = Constant <value_float = {SQRT_2_OVER_PI!r}> ()
            Scale = CastLike (Root, X)
            Square = Mul (X, X)
            Cube = Mul (Square, X)
            Bent = Mul (Cubic, Cube)
            Sum = Add (X, Bent)
            Scaled = Mul (Scale, Sum)
            Gate = Tanh (Scaled)"""
    return f"""
        One = Constant <value_float = 1.0> ()
        Unit = CastLike (One, X)
        Half = Constant <value_float = 0.5> ()
        Part = CastLike (Half, X){gate}
        Raised = Add (Unit, Gate)
        Halved = Mul (Part, X)
        Y = Mul (Halved, Raised)
    """


Softplus = (
    op("Softplus (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.softplus, "log(1 + eˣ), without overflow.")
)

Softplus.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, X)
    One = Constant <value_float = 1.0> ()
    Unit = CastLike (One, X)
    Size = Abs (X)
    Below = Neg (Size)
    Power = Exp (Below)
    Raised = Add (Power, Unit)
    Rest = Log (Raised)
    Above = Max (X, Level)
    Y = Add (Above, Rest)
    """,
    since=1,
    opset=18,
)

Softsign = (
    op("Softsign (input: T) => (output: T)", since=1, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(lambda x: x / (1.0 + s.abs(x)), "x / (1 + |x|).")
)

Softsign.body(
    """
    One = Constant <value_float = 1.0> ()
    Unit = CastLike (One, input)
    Size = Abs (input)
    Raised = Add (Unit, Size)
    output = Div (input, Raised)
    """,
    since=1,
    opset=18,
)

Tanh = (
    op("Tanh <consumed_inputs: ints?> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(6, "Tanh (input: T) => (output: T)")
    .since(13, T=+BF16)
    .elementwise(s.tanh, "Hyperbolic tangent: (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ).")
)

Shrink = op(
    "Shrink <bias: float = 0.0, lambd: float = 0.5> (input: T) => (output: T)", since=9, T=NUMERIC
).elementwise(_shrink, "x + bias below −lambd, x − bias above lambd, 0 between.")

Shrink.body(
    """
    Zero = Constant <value_float = 0.0> ()
    Level = CastLike (Zero, input)
    Lambd = Constant <value_float: float = @lambd> ()
    High = CastLike (Lambd, input)
    Low = Neg (High)
    Bias = Constant <value_float: float = @bias> ()
    Step = CastLike (Bias, input)
    Raised = Add (input, Step)
    Lowered = Sub (input, Step)
    IsAbove = Greater (input, High)
    IsBelow = Less (input, Low)
    Above = Where (IsAbove, Lowered, Level)
    output = Where (IsBelow, Raised, Above)
    """,
    since=9,
    opset=18,
)
