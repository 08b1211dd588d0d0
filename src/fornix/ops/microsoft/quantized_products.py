"""Products of quantised matrices that end in floats or in quanta, and quantization with 16 bits.

MatMulIntegerToFloat, DynamicQuantizeMatMul, QGemm; QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.dtype import FLOAT32, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops.call import InferNode, LowerNode, RunNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import matmul_shape
from fornix.ops.microsoft import DOMAIN
from fornix.ops.op import op
from fornix.ops.precision import wide_element, widened
from fornix.ops.quantize import (
    dequantize_linear,
    dynamic_quantize_linear,
    infer_dequantize_linear,
    infer_quantize_linear,
    lower_dequantize_linear,
    lower_dynamic_quantize_linear,
    lower_quantize_linear,
    quantize_linear,
    quantized,
)
from fornix.ops.quantize_loops import lower_per_line, lower_quantized, lower_single
from fornix.ops.quantized_products import (
    check_factor,
    check_one_number,
    lower_mat_mul_integer,
    mat_mul_integer,
    one_number,
    per_line,
)
from fornix.ops.types import F16, F32, I4, I8, I16, I32, U8, U16

MatMulIntegerToFloat = op(
    """MatMulIntegerToFloat (A: T1, B: T2, a_scale: T3, b_scale: T3, a_zero_point: T1?,
                             b_zero_point: T2?, bias: T3?)
                         => (Y: T3)""",
    since=1, domain=DOMAIN, T1=I8 | U8, T2=I8 | U8, T3=F16 | F32,
)  # fmt: skip


@MatMulIntegerToFloat.infer
def infer_mat_mul_integer_to_float(
    a: Fact,
    b: Fact,
    a_scale: Fact,
    b_scale: Fact,
    a_zero_point: Fact | None = None,
    b_zero_point: Fact | None = None,
    bias: Fact | None = None,
) -> Fact:
    check_factor("a_scale", a_scale, a, is_rows=True)
    check_factor("a_zero_point", a_zero_point, a, is_rows=True)
    check_factor("b_scale", b_scale, b, is_rows=False)
    check_factor("b_zero_point", b_zero_point, b, is_rows=False)
    shape = matmul_shape(a.shape, b.shape)
    _check_addend("bias", bias, shape)
    return tensor(a_scale.dtype, shape)


@MatMulIntegerToFloat.kernel
def mat_mul_integer_to_float(
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero_point: Array | None = None,
    b_zero_point: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """The numbers that a product of quantised matrices stands for, plus a bias.

    Y = (A − a_zero_point) · (B − b_zero_point) · a_scale · b_scale + bias
    A[…, M, K] · B[…, K, N] + bias[N] → Y[…, M, N]; scale and zero point of B are one number, or one
    per column. Sums of integers are exact in 32 bits and scaled in float32.
    Source: onnxruntime's contributed operators, MatMulIntegerToFloat-1.
    """
    total = mat_mul_integer(a, b, a_zero_point, b_zero_point).astype(np.float32)
    columns = per_line("b_scale", b_scale, b.shape, is_rows=False).astype(np.float32)
    rows = per_line("a_scale", a_scale, a.shape, is_rows=True).astype(np.float32)
    y = np.asarray(total * (rows * columns))
    return (y if bias is None else y + widened(bias)).astype(a_scale.dtype, copy=False)


@MatMulIntegerToFloat.lower
def lower_mat_mul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    total = lower_mat_mul_integer(a, b, a_zero_point, b_zero_point)
    rows = lower_per_line(a_scale, total.shape, -2, FLOAT32)
    columns = lower_per_line(b_scale, total.shape, -1, FLOAT32)

    def at(*i: DimLike) -> Scalar:
        y = cast(total[i], FLOAT32) * (rows(i) * columns(i))
        return cast(y if bias is None else y + wide_element(bias, i), a_scale.dtype)

    return compute(total.shape, at)


DynamicQuantizeMatMul = op(
    """DynamicQuantizeMatMul (A: T1, B: T2, b_scale: T1, b_zero_point: T2?, bias: T1?)
                          => (Y: T1)""",
    since=1, domain=DOMAIN, T1=F32, T2=I8 | U8,
)  # fmt: skip


@DynamicQuantizeMatMul.infer
def infer_dynamic_quantize_mat_mul(
    a: Fact, b: Fact, b_scale: Fact, b_zero_point: Fact | None = None, bias: Fact | None = None
) -> Fact:
    one = tensor(FLOAT32, ())
    return infer_mat_mul_integer_to_float(a, b, one, b_scale, None, b_zero_point, bias)


@DynamicQuantizeMatMul.kernel
def dynamic_quantize_mat_mul(
    a: Array, b: Array, b_scale: Array, b_zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """Product of a matrix, quantised on the way as its range asks for, and a quantised one.

    MatMulIntegerToFloat of what DynamicQuantizeLinear makes of A;  A[…, M, K] · B[…, K, N] +
    bias[N] → Y[…, M, N]. Source: onnxruntime's contributed operators, DynamicQuantizeMatMul-1.
    """
    steps, a_scale, a_zero = dynamic_quantize_linear(a)
    return mat_mul_integer_to_float(steps, b, a_scale, b_scale, a_zero, b_zero_point, bias)


@DynamicQuantizeMatMul.lower
def lower_dynamic_quantize_mat_mul(
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    steps, a_scale, a_zero = lower_dynamic_quantize_linear(a)
    return lower_mat_mul_integer_to_float(steps, b, a_scale, b_scale, a_zero, b_zero_point, bias)


QGemm = op(
    """QGemm <alpha: float = 1.0, transA: int = 0, transB: int = 0>
             (A: TA, a_scale: T, a_zero_point: TA, B: TB, b_scale: T, b_zero_point: TB, C: TC?,
              y_scale: T?, y_zero_point: TYZ?)
          => (Y: TY)""",
    since=1, domain=DOMAIN, T=F32, TA=I8 | U8, TB=I8 | U8, TC=I32, TYZ=I8 | U8,
    TY=F32 | I8 | U8,
)  # fmt: skip


def _turned(shape: Sequence[DimLike], is_transposed: int) -> tuple[DimLike, ...]:
    require(len(shape) == 2, f"A and B must be matrices, got shape {shape_text(shape)}")
    return (shape[1], shape[0]) if is_transposed else tuple(shape)


def _check_addend(name: str, addend: Fact | Array | None, y: Sequence[DimLike]) -> None:
    """Raise ShapeError unless what is added to a product of shape ``y`` may broadcast to it."""
    if addend is None or (isinstance(addend, Fact) and not addend.has_rank):
        return
    found = addend.shape
    pairs = zip(reversed(found), reversed(y), strict=False)
    fits = len(found) <= len(y) and all(known(n) == 1 or equal(n, m) is not False for n, m in pairs)
    require(
        fits,
        f"{name} must broadcast to the product's shape {shape_text(y)}, "
        f"got {name}{shape_text(found)}",
    )


def _check_result(y_scale: object, y_zero_point: object) -> None:
    require(
        (y_scale is None) == (y_zero_point is None),
        "y_scale and y_zero_point come together, found only one of them",
    )


@QGemm.infer
def infer_q_gemm(
    a: Fact,
    a_scale: Fact,
    a_zero_point: Fact,
    b: Fact,
    b_scale: Fact,
    b_zero_point: Fact,
    c: Fact | None = None,
    y_scale: Fact | None = None,
    y_zero_point: Fact | None = None,
    *,
    alpha: float,
    transA: int,
    transB: int,
) -> Fact:
    _check_result(y_scale, y_zero_point)
    left, right = (tensor(None, _turned(x.shape, t)) for x, t in ((a, transA), (b, transB)))
    check_factor("a_zero_point", a_zero_point, left, is_rows=True)
    for name, values in (("b_scale", b_scale), ("b_zero_point", b_zero_point)):
        check_factor(name, values, right, is_rows=False)
    shape = matmul_shape(left.shape, right.shape)
    check_one_number(a_scale=a_scale, y_scale=y_scale, y_zero_point=y_zero_point)
    _check_addend("C", c, shape)
    return tensor(FLOAT32 if y_zero_point is None else y_zero_point.dtype, shape)


@QGemm.kernel
def q_gemm(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    c: Array | None = None,
    y_scale: Array | None = None,
    y_zero_point: Array | None = None,
    *,
    alpha: float,
    transA: int,
    transB: int,
) -> Array:
    """Gemm of quantised matrices, quantised where it is said how, else float32.

    Y = alpha · a_scale · b_scale · ((A − a_zero_point)′ · (B − b_zero_point)′ + C)
    A[M, K] · B[K, N] + C → Y[M, N], ′ transposes on demand; C, in steps of a_scale · b_scale,
    broadcasts to the result. Scale and zero point of B are one number, or one per column.
    Source: onnxruntime's contributed operators, QGemm-1.
    """
    _check_result(y_scale, y_zero_point)
    matmul_shape(_turned(a.shape, transA), _turned(b.shape, transB))
    left, right = a.T if transA else a, b.T if transB else b
    total = mat_mul_integer(left, right, a_zero_point, b_zero_point)
    _check_addend("C", c, total.shape)
    if c is not None:
        total = total + c
    columns = per_line("b_scale", b_scale, right.shape, is_rows=False)
    factor = np.float32(alpha) * one_number("a_scale", a_scale) * columns
    if y_scale is None or y_zero_point is None:
        return np.asarray(total.astype(np.float32) * factor)
    quotient = total.astype(np.float32) * (factor / one_number("y_scale", y_scale))
    zero = one_number("y_zero_point", y_zero_point)
    return quantized(np.asarray(quotient), zero, DType.of(y_zero_point.dtype))


@QGemm.lower
def lower_q_gemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float,
    transA: int,
    transB: int,
) -> Tensor:
    _check_result(y_scale, y_zero_point)
    left, right = (_lower_turned(x, t) for x, t in ((a, transA), (b, transB)))
    total = lower_mat_mul_integer(left, right, a_zero_point, b_zero_point)
    of_a = lower_single(a_scale, FLOAT32)
    columns = lower_per_line(b_scale, total.shape, -1, FLOAT32)

    def at(*i: DimLike) -> Scalar:
        steps = total[i] if c is None else total[i] + wide_element(c, i)
        factor = alpha * of_a * columns(i)
        if y_scale is None or y_zero_point is None:
            return cast(steps, FLOAT32) * factor
        quotient = cast(steps, FLOAT32) * (factor / lower_single(y_scale, FLOAT32))
        zero = lower_single(y_zero_point, FLOAT32)
        return lower_quantized(quotient, zero, y_zero_point.dtype)

    return compute(total.shape, at)


def _lower_turned(x: Tensor, is_transposed: int) -> Tensor:
    shape = _turned(x.shape, is_transposed)
    return compute(shape, lambda i, j: x[j, i]) if is_transposed else x


QuantizeLinear = op(
    "QuantizeLinear <axis: int?> (x: T1, y_scale: T1, y_zero_point: T2?) => (y: T2)",
    since=1, domain=DOMAIN, T1=F16 | F32, T2=I4 | I8 | I16 | U8 | U16,
)  # fmt: skip


@QuantizeLinear.infer
def infer_quantize(
    x: Fact, y_scale: Fact, y_zero_point: Fact | None = None, *, axis: int = 1, node: InferNode
) -> Fact:
    return infer_quantize_linear(x, y_scale, y_zero_point, axis=axis, node=node)


@QuantizeLinear.kernel
def quantize(
    x: Array, y_scale: Array, y_zero_point: Array | None = None, *, axis: int = 1, node: RunNode
) -> Array:
    """``x`` in units of a scale, counted from a zero point: y = saturate(x / y_scale + zero point).

    x[*S] → y[*S] of the zero point's type, or uint8; scale and zero point are one number, or one
    per index of ``axis``. Ties round to even, before the zero point is added.
    Source: onnxruntime's contributed operators, QuantizeLinear-1.
    """
    return quantize_linear(x, y_scale, y_zero_point, axis=axis, node=node)


@QuantizeLinear.lower
def lower_quantize(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    node: LowerNode,
) -> Tensor:
    return lower_quantize_linear(x, y_scale, y_zero_point, axis=axis, node=node)


DequantizeLinear = op(
    "DequantizeLinear <axis: int?> (x: T1, x_scale: T2, x_zero_point: T1?) => (y: T2)",
    since=1, domain=DOMAIN, T1=I4 | I8 | I16 | I32 | U8 | U16, T2=F16 | F32,
)  # fmt: skip


@DequantizeLinear.infer
def infer_dequantize(
    x: Fact, x_scale: Fact, x_zero_point: Fact | None = None, *, axis: int = 1, node: InferNode
) -> Fact:
    return infer_dequantize_linear(x, x_scale, x_zero_point, axis=axis, node=node)


@DequantizeLinear.kernel
def dequantize(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, *, axis: int = 1, node: RunNode
) -> Array:
    """The numbers that quantised elements stand for: y = (x − x_zero_point) · x_scale.

    x[*S] → y[*S] of the scale's type; scale and zero point are one number, or one per index of
    ``axis``. Multiplies in float32 and rounds once.
    Source: onnxruntime's contributed operators, DequantizeLinear-1.
    """
    return dequantize_linear(x, x_scale, x_zero_point, axis=axis, node=node)


@DequantizeLinear.lower
def lower_dequantize(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    node: LowerNode,
) -> Tensor:
    return lower_dequantize_linear(x, x_scale, x_zero_point, axis=axis, node=node)
