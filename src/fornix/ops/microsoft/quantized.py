"""Quantised tensors element by element, in windows and along an axis: the QLinear operators.

Each takes scale and zero point with every tensor: x stands for (x − zero point) · scale. Between,
all is computed in float32, and rounded once, ties to even; means are those of whole steps, whose
sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import require
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops import scalar as s
from fornix.ops.along import mapped, mean_along, with_units
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import normalize_axis
from fornix.ops.microsoft import DOMAIN
from fornix.ops.microsoft.last_channels import infer_first, infer_last, lower_first, lower_last
from fornix.ops.move import concat, infer_concat, lower_concat
from fornix.ops.op import op
from fornix.ops.pool import average_pool, infer_average_pool, lower_average_pool
from fornix.ops.precision import mean_over
from fornix.ops.quantize import quantized
from fornix.ops.quantize_loops import lower_quantized, lower_single, rounded
from fornix.ops.quantized_products import check_one_number, one_number
from fornix.ops.softmax import lower_softmax, lower_softmax_of_rows, softmax, softmax_of_rows
from fornix.ops.types import BOOL, F32, I8, U8
from fornix.ops.window import WindowAttributes

AXES_APART_SINCE = 13
"""The opset from which on Softmax works along one axis, not over rows."""


def _number(x: s.Operand, scale: s.Operand, zero: s.Operand | None) -> s.Operand:
    """What a quantised element stands for."""
    wide = s.cast(x, FLOAT32)
    return (wide if zero is None else wide - s.cast(zero, FLOAT32)) * scale


def _nearest(
    number: s.Operand, scale: s.Operand, zero: s.Operand | None, like: s.Operand
) -> s.Operand:
    """The quantised element for ``number``, of the type of ``like``."""
    dtype = DType.of(like.dtype)
    quotient = number / scale
    if isinstance(quotient, Scalar):
        origin = None if zero is None else s.cast(zero, FLOAT32)
        return lower_quantized(quotient, origin, dtype)
    return quantized(quotient, zero, dtype)


Numbers = Callable[..., s.Operand]


def _unary(function: Numbers) -> Numbers:
    def rule(
        x: s.Operand,
        x_scale: s.Operand,
        x_zero: s.Operand | None,
        y_scale: s.Operand,
        y_zero: s.Operand | None = None,
        **attributes: float,
    ) -> s.Operand:
        y = function(_number(x, x_scale, x_zero), **attributes)
        return _nearest(y, y_scale, y_zero, x)

    return rule


def _binary(function: Numbers) -> Numbers:
    def rule(
        a: s.Operand,
        a_scale: s.Operand,
        a_zero: s.Operand | None,
        b: s.Operand,
        b_scale: s.Operand,
        b_zero: s.Operand | None,
        c_scale: s.Operand,
        c_zero: s.Operand | None = None,
    ) -> s.Operand:
        c = function(_number(a, a_scale, a_zero), _number(b, b_scale, b_zero))
        return _nearest(c, c_scale, c_zero, a)

    return rule


QLinearAdd = op(
    """QLinearAdd (A: T, A_scale: tensor(float), A_zero_point: T?, B: T, B_scale: tensor(float),
                   B_zero_point: T?, C_scale: tensor(float), C_zero_point: T?)
               => (C: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
).elementwise(_binary(s.add), "A + B of quantised tensors, quantised.")  # fmt: skip

QLinearMul = op(
    """QLinearMul (A: T, A_scale: tensor(float), A_zero_point: T?, B: T, B_scale: tensor(float),
                   B_zero_point: T?, C_scale: tensor(float), C_zero_point: T?)
               => (C: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
).elementwise(_binary(s.mul), "A · B of quantised tensors, quantised.")  # fmt: skip

QLinearSigmoid = op(
    """QLinearSigmoid (X: T, X_scale: tensor(float), X_zero_point: T?, Y_scale: tensor(float),
                       Y_zero_point: T?)
                   => (Y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
).elementwise(
    _unary(lambda x: 1.0 / (1.0 + s.exp(-x))), "1 / (1 + e⁻ˣ) of a quantised tensor, quantised."
)  # fmt: skip

QLinearLeakyRelu = op(
    """QLinearLeakyRelu <alpha: float = 0.01>
                        (X: T, X_scale: tensor(float), X_zero_point: T?, Y_scale: tensor(float),
                         Y_zero_point: T?)
                     => (Y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
).elementwise(
    _unary(lambda x, *, alpha: s.where(s.less(x, 0), alpha * x, x)),
    "x, or alpha·x below 0, of a quantised tensor, quantised.",
)  # fmt: skip


def _chosen(
    condition: s.Operand,
    x: s.Operand,
    x_scale: s.Operand,
    x_zero: s.Operand,
    y: s.Operand,
    y_scale: s.Operand,
    y_zero: s.Operand,
    z_scale: s.Operand,
    z_zero: s.Operand,
) -> s.Operand:
    z = s.where(condition, _number(x, x_scale, x_zero), _number(y, y_scale, y_zero))
    return _nearest(z, z_scale, z_zero, x)


QLinearWhere = op(
    """QLinearWhere (condition: B, X: T, x_scale: TF, x_zero_point: T, Y: T, y_scale: TF,
                     y_zero_point: T, z_scale: TF, z_zero_point: T)
                 => (Z: T)""",
    since=1, domain=DOMAIN, B=BOOL, TF=F32, T=I8 | U8,
).elementwise(
    _chosen, "X where the condition holds, else Y, of quantised tensors, quantised."
)  # fmt: skip


def steps_of(name: str, x: Array, zero: Array | None) -> Array:
    """How many steps the elements of ``x`` lie above the zero point, as floats."""
    wide = x.astype(np.float32)
    if zero is None:
        return wide
    return np.asarray(wide - one_number(f"{name}_zero_point", zero).astype(np.float32))


def restored(name: str, x: Array, scale: Array, zero: Array | None) -> Array:
    """The numbers that the elements of ``x`` stand for."""
    return np.asarray(steps_of(name, x, zero) * one_number(f"{name}_scale", scale))


def settled(y: Array, name: str, scale: Array, zero: Array | None, dtype: DType) -> Array:
    """``y`` quantised as elements of ``dtype``."""
    origin = None if zero is None else one_number(f"{name}_zero_point", zero)
    return quantized(np.asarray(y / one_number(f"{name}_scale", scale)), origin, dtype)


def lower_restored(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """`restored` for lowerings."""
    factor = lower_single(scale, FLOAT32)
    return mapped(lambda v: v * factor, lower_steps(x, zero))


def lower_steps(x: Tensor, zero: Tensor | None) -> Tensor:
    """`steps_of` for lowerings."""
    origin = None if zero is None else lower_single(zero, FLOAT32)

    def steps(*i: DimLike) -> Scalar:
        found = rounded(x[i], origin)
        if found is not None:
            return found
        return cast(x[i], FLOAT32) if origin is None else cast(x[i], FLOAT32) - origin

    return compute(x.shape, steps)


def lower_settled(y: Tensor, scale: Tensor, zero: Tensor | None, dtype: DType) -> Tensor:
    """`settled` for lowerings."""
    factor = lower_single(scale, FLOAT32)
    origin = None if zero is None else lower_single(zero, FLOAT32)
    return compute(y.shape, lambda *i: lower_quantized(y[i] / factor, origin, dtype))


QLinearSoftmax = op(
    """QLinearSoftmax <axis: int = -1, opset: int>
                      (X: T, X_scale: tensor(float), x_zero_point: T?, y_scale: tensor(float),
                       y_zero_point: T)
                   => (Y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
)  # fmt: skip


@QLinearSoftmax.infer
def infer_q_linear_softmax(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact | None,
    y_scale: Fact,
    y_zero_point: Fact,
    *,
    axis: int,
    opset: int,
) -> Fact:
    check_one_number(
        X_scale=x_scale, X_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point
    )
    normalize_axis(axis, x.rank)
    return tensor(x.dtype, x.shape)


@QLinearSoftmax.kernel
def q_linear_softmax(
    x: Array,
    x_scale: Array,
    x_zero_point: Array | None,
    y_scale: Array,
    y_zero_point: Array,
    *,
    axis: int,
    opset: int,
) -> Array:
    """Softmax of a quantised tensor, quantised: along ``axis``, before ``opset`` 13 over rows.

    X[*S] → Y[*S]. Source: onnxruntime's contributed operators, QLinearSoftmax-1.
    """
    rule = softmax if opset >= AXES_APART_SINCE else softmax_of_rows
    y = rule(restored("X", x, x_scale, x_zero_point), axis=axis)
    return settled(y, "y", y_scale, y_zero_point, DType.of(x.dtype))


@QLinearSoftmax.lower
def lower_q_linear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    axis: int,
    opset: int,
) -> Tensor:
    rule = lower_softmax if opset >= AXES_APART_SINCE else lower_softmax_of_rows
    y = rule(lower_restored(x, x_scale, x_zero_point), axis=axis)
    return lower_settled(y, y_scale, y_zero_point, x.dtype)


QLinearConcat = op(
    "QLinearConcat <axis: int> (Y_scale: TF, Y_zero_point: T8, inputs: each TV+) => (Y: T8)",
    since=1, domain=DOMAIN, T8=I8 | U8, TF=F32, TV=F32 | I8 | U8,
)  # fmt: skip

TRIPLE = 3
"""Inputs for each tensor: it, its scale and its zero point."""


def _check_triples(count: int) -> None:
    require(
        count % TRIPLE == 0,
        f"inputs must be tensors with a scale and a zero point each, found {count} of them",
    )


@QLinearConcat.infer
def infer_q_linear_concat(
    y_scale: Fact, y_zero_point: Fact, *inputs: Fact, axis: int, node: InferNode
) -> Fact:
    _check_triples(len(inputs))
    check_one_number(Y_scale=y_scale, Y_zero_point=y_zero_point)
    for scale, zero in zip(inputs[1::TRIPLE], inputs[2::TRIPLE], strict=True):
        check_one_number(x_scale=scale, x_zero_point=zero)
    whole = infer_concat(*inputs[::TRIPLE], axis=axis)
    return tensor(y_zero_point.dtype, whole.shape)


@QLinearConcat.kernel
def q_linear_concat(y_scale: Array, y_zero_point: Array, *inputs: Array, axis: int) -> Array:
    """Quantised tensors one after the other along ``axis``, each brought to the result's scale.

    inputs are x, its scale, its zero point, and so on; extents are as in Concat.
    Source: onnxruntime's contributed operators, QLinearConcat-1.
    """
    _check_triples(len(inputs))
    triples = zip(inputs[::TRIPLE], inputs[1::TRIPLE], inputs[2::TRIPLE], strict=True)
    parts = [restored("x", *triple) for triple in triples]
    dtype = DType.of(y_zero_point.dtype)
    return settled(concat(*parts, axis=axis), "Y", y_scale, y_zero_point, dtype)


@QLinearConcat.lower
def lower_q_linear_concat(
    y_scale: Tensor, y_zero_point: Tensor, *inputs: Tensor, axis: int
) -> Tensor:
    _check_triples(len(inputs))
    triples = zip(inputs[::TRIPLE], inputs[1::TRIPLE], inputs[2::TRIPLE], strict=True)
    dtype = y_zero_point.dtype
    numbers = (lower_restored(*triple) for triple in triples)
    parts = [lower_settled(x, y_scale, y_zero_point, dtype) for x in numbers]
    return lower_concat(*parts, axis=axis)


QLinearAveragePool = op(
    """QLinearAveragePool <auto_pad: string = "NOTSET", ceil_mode: int = 0, channels_last: int = 0,
                           count_include_pad: int = 0, kernel_shape: ints, pads: ints?,
                           strides: ints?>
                          (X: T, x_scale: tensor(float), x_zero_point: T?, y_scale: tensor(float),
                           y_zero_point: T?)
                       => (Y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
)  # fmt: skip


@QLinearAveragePool.infer
def infer_q_linear_average_pool(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact | None,
    y_scale: Fact,
    y_zero_point: Fact | None = None,
    *,
    channels_last: int,
    kernel_shape: list[int],
    count_include_pad: int,
    **window: Unpack[WindowAttributes],
) -> Fact:
    check_one_number(
        x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point
    )
    image = infer_first(x) if channels_last else x
    y = infer_average_pool(image, kernel_shape=kernel_shape, **window)
    return infer_last(y) if channels_last else y


@QLinearAveragePool.kernel
def q_linear_average_pool(
    x: Array,
    x_scale: Array,
    x_zero_point: Array | None,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    channels_last: int,
    kernel_shape: list[int],
    count_include_pad: int,
    **window: Unpack[WindowAttributes],
) -> Array:
    """AveragePool of a quantised tensor, quantised.

    X[N, C, *S] → Y[N, C, *O], or with channels_last X[N, *S, C] → Y[N, *O, C]; padding counts as 0.
    Source: onnxruntime's contributed operators, QLinearAveragePool-1.
    """
    steps = steps_of("x", x, x_zero_point)
    steps = np.moveaxis(steps, -1, 1) if channels_last else steps
    mean = average_pool(
        steps, kernel_shape=kernel_shape, count_include_pad=count_include_pad, **window
    )
    mean = np.moveaxis(mean, 1, -1) if channels_last else mean
    y = np.asarray(mean * one_number("x_scale", x_scale))
    return settled(y, "y", y_scale, y_zero_point, DType.of(x.dtype))


@QLinearAveragePool.lower
def lower_q_linear_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    channels_last: int,
    kernel_shape: list[int],
    count_include_pad: int,
    node: LowerNode,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    steps = lower_steps(x, x_zero_point)
    mean = lower_average_pool(
        lower_first(steps) if channels_last else steps,
        kernel_shape=kernel_shape,
        count_include_pad=count_include_pad,
        node=node,
        **window,
    )
    factor = lower_single(x_scale, FLOAT32)
    y = mapped(lambda v: v * factor, mean)
    done = lower_settled(y, y_scale, y_zero_point, x.dtype)
    return lower_last(done) if channels_last else done


QLinearGlobalAveragePool = op(
    """QLinearGlobalAveragePool <channels_last: int = 0>
                                (X: T, x_scale: tensor(float), x_zero_point: T,
                                 y_scale: tensor(float), y_zero_point: T)
                             => (Y: T)""",
    since=1, domain=DOMAIN, T=I8 | U8,
)  # fmt: skip


def _spatial(rank: int, channels_last: int) -> range:
    require(rank >= 2, f"X must have rank 2 or more, got rank {rank}")
    return range(1, rank - 1) if channels_last else range(2, rank)


@QLinearGlobalAveragePool.infer
def infer_q_linear_global_average_pool(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact,
    y_scale: Fact,
    y_zero_point: Fact,
    *,
    channels_last: int,
) -> Fact:
    check_one_number(
        x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point
    )
    axes = _spatial(x.rank, channels_last)
    return tensor(x.dtype, [1 if axis in axes else n for axis, n in enumerate(x.shape)])


@QLinearGlobalAveragePool.kernel
def q_linear_global_average_pool(
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
    *,
    channels_last: int,
) -> Array:
    """Mean of every channel of a quantised tensor, quantised.

    X[N, C, *S] → Y[N, C, 1 …], or with channels_last X[N, *S, C] → Y[N, 1 …, C].
    Source: onnxruntime's contributed operators, QLinearGlobalAveragePool-1.
    """
    mean = mean_over(steps_of("x", x, x_zero_point), _spatial(x.ndim, channels_last))
    y = np.asarray(mean * one_number("x_scale", x_scale))
    return settled(y, "y", y_scale, y_zero_point, DType.of(x.dtype))


@QLinearGlobalAveragePool.lower
def lower_q_linear_global_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    channels_last: int,
) -> Tensor:
    axes = _spatial(x.rank, channels_last)
    mean = mean_along(lower_steps(x, x_zero_point), axes)
    factor = lower_single(x_scale, FLOAT32)
    y = mapped(lambda v: v * factor, mean)
    return with_units(lower_settled(y, y_scale, y_zero_point, x.dtype), axes)
