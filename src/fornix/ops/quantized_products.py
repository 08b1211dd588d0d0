"""Products of quantised tensors: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.

Integers are multiplied as floats wide enough to hold every sum exactly (`exact_dtype`), which lets
BLAS do the work; sums beyond 32 bits wrap, as the standard allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from fornix.dtype import FLOAT32, INT32, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import Scalar, Tensor, cast, compute
from fornix.ops.byte_products import (
    are_bytes,
    fits_quads,
    is_zero,
    lower_byte_convolution,
    lower_byte_product,
)
from fornix.ops.conv import check_bias, conv_taps, convolve, lower_convolve
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.linalg import lower_multiply, matmul_shape, multiply
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor
from fornix.ops.quantize import quantized
from fornix.ops.quantize_loops import (
    At,
    less_zero,
    lower_per_line,
    lower_quantized,
    lower_single,
)
from fornix.ops.types import BF16, F8, F16, F32, I8, I32, U8
from fornix.ops.window import Window, WindowAttributes

LARGEST_PRODUCT = 255 * 255
"""Of two elements of 8 bits, each less a zero point."""

FLOAT32_EXACT = 2**24
"""Integers up to which float32 is exact."""


def exact_dtype(terms: int) -> type[np.float32 | np.float64]:
    """The narrower float that holds a sum of so many products of 8-bit elements exactly."""
    return np.float32 if terms * LARGEST_PRODUCT <= FLOAT32_EXACT else np.float64


def wrapped(total: Array) -> Array:
    """Integers held as floats, as int32 that wraps."""
    return total.astype(np.int64).astype(np.int32)


MatMulInteger = op(
    "MatMulInteger (A: T1, B: T2, a_zero_point: T1?, b_zero_point: T2?) => (Y: T3)",
    since=10, T1=I8 | U8, T2=I8 | U8, T3=I32,
)  # fmt: skip


@MatMulInteger.infer
def infer_mat_mul_integer(
    A: Fact, B: Fact, a_zero_point: Fact | None = None, b_zero_point: Fact | None = None
) -> Fact:
    check_factor("a_zero_point", a_zero_point, A, is_rows=True)
    check_factor("b_zero_point", b_zero_point, B, is_rows=False)
    return tensor(INT32, matmul_shape(A.shape, B.shape))


@MatMulInteger.kernel
def mat_mul_integer(
    A: Array, B: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None
) -> Array:
    """Matrix product of 8-bit integers less their zero points, in 32 bits that wrap.

    A[…, M, K] · B[…, K, N] → Y[…, M, N]; zero points are one number, or one per row of A and one
    per column of B. Source: ONNX MatMulInteger-10.
    """
    matmul_shape(A.shape, B.shape)
    return wrapped(_exact_product(A, B, a_zero_point, b_zero_point))


@MatMulInteger.lower
def lower_mat_mul_integer(
    A: Tensor,
    B: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
) -> Tensor:
    return _lower_product(A, B, a_zero_point, b_zero_point)


def _lower_product(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> Tensor:
    """The product of ``a`` and ``b`` less their zero points, in int32 or float32."""
    for name, zero, factor, is_rows in (
        ("a_zero_point", a_zero, a, True), ("b_zero_point", b_zero, b, False)
    ):  # fmt: skip
        if zero is not None:
            _check_per_line(name, zero.shape, factor.shape, is_rows=is_rows)
    if are_bytes(a, b) and min(a.rank, b.rank) > 1:
        shape = matmul_shape(a.shape, b.shape)
        of_a = _zero_at(a_zero, shape, -2)
        of_b = _zero_at(b_zero, shape, -1)
        return lower_byte_product(a, b, of_a, of_b)
    left, right = less_zero(a, a_zero, -2), less_zero(b, b_zero, -1)
    is_float = FLOAT32 in {left.dtype, right.dtype}
    wide = FLOAT32 if is_float else INT32
    return lower_multiply(cast_tensor(left, wide), cast_tensor(right, wide))


def _zero_at(values: Tensor | None, shape: Sequence[DimLike], per_line: int) -> At | None:
    """Zero points by the place in a tensor of ``shape``; None where all are known to be 0."""
    if values is None or is_zero(values):
        return None
    return lower_per_line(values, shape, per_line, INT32)


def _exact_product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """The product of ``a`` and ``b`` less their zero points, exact in a float type."""
    wide = exact_dtype(a.shape[-1])
    left, right = a.astype(wide), b.astype(wide)
    if a_zero is not None:
        left = left - per_line("a_zero_point", a_zero, a.shape, is_rows=True).astype(wide)
    if b_zero is not None:
        right = right - per_line("b_zero_point", b_zero, b.shape, is_rows=False).astype(wide)
    return multiply(left, right)


def per_line(name: str, values: Array, shape: tuple[int, ...], *, is_rows: bool) -> Array:
    """Numbers per row (or column) of matrices of ``shape``, ready to broadcast with them."""
    _check_per_line(name, values.shape, shape, is_rows=is_rows)
    if values.size == 1:
        return values.reshape(())
    return values[:, None] if values.ndim == 1 and is_rows else values


def check_factor(name: str, values: Fact | None, matrix: Fact, *, is_rows: bool) -> None:
    """`_check_per_line` as far as shapes are known."""
    if values is not None and values.has_rank and matrix.has_rank:
        _check_per_line(name, values.shape, matrix.shape, is_rows=is_rows)


def _check_per_line(
    name: str, found: Sequence[DimLike], shape: Sequence[DimLike], *, is_rows: bool
) -> None:
    """Raise ShapeError unless there is one number, or one per row (or column) of the matrices."""
    if all(known(extent) in {None, 1} for extent in found):
        return
    lines = shape[-2:-1] if is_rows else shape[-1:]
    wanted = lines if len(found) == 1 else [*shape[:-2], *((*lines, 1) if is_rows else (1, *lines))]
    fits = len(found) == len(wanted) and all(
        equal(a, b) is not False for a, b in zip(found, wanted, strict=True)
    )
    what = "row" if is_rows else "column"
    require(
        fits,
        f"{name} must be one number or have one per {what} of the matrices {shape_text(shape)}, "
        f"got {name}{shape_text(found)}",
    )


QLinearMatMul = (
    op("""QLinearMatMul (a: T1, a_scale: tensor(float), a_zero_point: T1, b: T2,
                         b_scale: tensor(float), b_zero_point: T2, y_scale: tensor(float),
                         y_zero_point: T3)
                     => (y: T3)""",
       since=10, T1=I8 | U8, T2=I8 | U8, T3=I8 | U8)
    .since(21, """QLinearMatMul (a: T1, a_scale: TS, a_zero_point: T1, b: T2, b_scale: TS,
                                 b_zero_point: T2, y_scale: TS, y_zero_point: T3)
                             => (y: T3)""",
           TS=BF16 | F16 | F32, T1=+F8, T2=+F8, T3=+F8)
)  # fmt: skip


@QLinearMatMul.infer
def infer_q_linear_mat_mul(
    a: Fact,
    a_scale: Fact,
    a_zero_point: Fact,
    b: Fact,
    b_scale: Fact,
    b_zero_point: Fact,
    y_scale: Fact,
    y_zero_point: Fact,
) -> Fact:
    for name, values in (("a_scale", a_scale), ("a_zero_point", a_zero_point)):
        check_factor(name, values, a, is_rows=True)
    for name, values in (("b_scale", b_scale), ("b_zero_point", b_zero_point)):
        check_factor(name, values, b, is_rows=False)
    shape = matmul_shape(a.shape, b.shape)
    for name, values in (("y_scale", y_scale), ("y_zero_point", y_zero_point)):
        check_factor(name, values, tensor(None, shape), is_rows=True)
    return tensor(y_zero_point.dtype, shape)


@QLinearMatMul.kernel
def q_linear_mat_mul(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
) -> Array:
    """Matrix product of quantised tensors, quantised.

    y = saturate(round((a − a_zero_point) · (b − b_zero_point) · a_scale · b_scale / y_scale)
                 + y_zero_point),   a[…, M, K] · b[…, K, N] → y[…, M, N], ties to even
    Scales and zero points are one number, or one per row of a, per column of b and per row of y.
    Sums of integers are exact in 32 bits and scaled in float32; float8 is multiplied in float32.
    Source: ONNX QLinearMatMul-21.
    """
    shape = tuple(map(int, matmul_shape(a.shape, b.shape)))  # type: ignore[arg-type]
    if DType.of(a.dtype).is_float or DType.of(b.dtype).is_float:
        rows = per_line("a_zero_point", a_zero_point, a.shape, is_rows=True).astype(np.float32)
        columns = per_line("b_zero_point", b_zero_point, b.shape, is_rows=False).astype(np.float32)
        total = multiply(a.astype(np.float32) - rows, b.astype(np.float32) - columns)
    else:
        total = wrapped(_exact_product(a, b, a_zero_point, b_zero_point)).astype(np.float32)
    of_a = per_line("a_scale", a_scale, a.shape, is_rows=True).astype(np.float32)
    of_b = per_line("b_scale", b_scale, b.shape, is_rows=False).astype(np.float32)
    of_y = per_line("y_scale", y_scale, shape, is_rows=True).astype(np.float32)
    zero = per_line("y_zero_point", y_zero_point, shape, is_rows=True)
    return quantized(np.asarray(total * (of_a * of_b / of_y)), zero, DType.of(y_zero_point.dtype))


@QLinearMatMul.lower
def lower_q_linear_mat_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    total = _lower_product(a, b, a_zero_point, b_zero_point)

    def lined(name: str, values: Tensor, *, is_rows: bool) -> At:
        _check_per_line(name, values.shape, total.shape, is_rows=is_rows)
        return lower_per_line(values, total.shape, -2 if is_rows else -1, FLOAT32)

    of_a, of_b = lined("a_scale", a_scale, is_rows=True), lined("b_scale", b_scale, is_rows=False)
    of_y = lined("y_scale", y_scale, is_rows=True)
    zero = lined("y_zero_point", y_zero_point, is_rows=True)

    def at(*i: DimLike) -> Scalar:
        scaled = cast(total[i], FLOAT32) * (of_a(i) * of_b(i) / of_y(i))
        return lower_quantized(scaled, zero(i), y_zero_point.dtype)

    return compute(total.shape, at)


ConvInteger = op(
    """ConvInteger <auto_pad: string = "NOTSET", dilations: ints?, group: int = 1,
                    kernel_shape: ints?, pads: ints?, strides: ints?>
                   (x: T1, w: T2, x_zero_point: T1?, w_zero_point: T2?) => (y: T3)""",
    since=10, T1=I8 | U8, T2=I8 | U8, T3=I32,
)  # fmt: skip


@ConvInteger.infer
def infer_conv_integer(
    x: Fact,
    w: Fact,
    x_zero_point: Fact | None = None,
    w_zero_point: Fact | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    _check_filters("w_zero_point", w_zero_point, w)
    check_one_number(x_zero_point=x_zero_point)
    return tensor(INT32, _conv_shape(x.shape, w.shape, group, kernel_shape, window))


@ConvInteger.kernel
def conv_integer(
    x: Array,
    w: Array,
    x_zero_point: Array | None = None,
    w_zero_point: Array | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Convolution of 8-bit integers less their zero points, in 32 bits that wrap.

    x[N, C, *S] · w[M, C/group, *K] → y[N, M, *O], with the window of Conv; padding stands for the
    zero point. The zero point of x is one number, that of w one, or one per filter.
    Source: ONNX ConvInteger-10.
    """
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    geometry = Window.of(x.shape[2:], taps, **window)
    return wrapped(_exact_convolution(x, w, x_zero_point, w_zero_point, geometry, group))


@ConvInteger.lower
def lower_conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    geometry = Window.of(x.shape[2:], taps, **window)
    return _lower_convolution(x, w, x_zero_point, w_zero_point, geometry, group)


def _lower_convolution(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
    window: Window,
    group: int,
) -> Tensor:
    """The convolution of ``x`` and ``w`` less their zero points, in int32 that wraps."""
    if w_zero is not None:
        _check_per_filter("w_zero_point", w_zero.shape, w.shape)
    if are_bytes(x, w) and fits_quads(w, group):
        zero = None
        if x_zero is not None and not is_zero(x_zero):
            zero = lower_single(x_zero, INT32)
        of_w = _zero_at(w_zero, w.shape, -w.rank)
        return lower_byte_convolution(x, w, zero, of_w, window, group)
    data = cast_tensor(x, INT32)
    if x_zero is not None:
        zero = lower_single(x_zero, INT32)
        data = compute(x.shape, lambda *i: cast(x[i], INT32) - zero)
    return lower_convolve(data, less_zero(w, w_zero, -w.rank), window, group)


def _exact_convolution(
    x: Array,
    w: Array,
    x_zero: Array | None,
    w_zero: Array | None,
    window: Window,
    group: int,
) -> Array:
    """The convolution of ``x`` and ``w`` less their zero points, exact in a float type."""
    wide = exact_dtype(math.prod(w.shape[1:]))
    data, filters = x.astype(wide), w.astype(wide)
    if x_zero is not None:
        data = data - one_number("x_zero_point", x_zero).astype(wide)
    if w_zero is not None:
        filters = filters - per_filter("w_zero_point", w_zero, w.shape).astype(wide)
    return convolve(data, filters, window, group)


def _conv_shape(
    x: Sequence[DimLike],
    w: Sequence[DimLike],
    group: int,
    kernel_shape: list[int] | None,
    window: WindowAttributes,
) -> tuple[DimLike, ...]:
    taps = conv_taps(x, w, group, kernel_shape)
    return (x[0], w[0], *Window.of(x[2:], taps, **window).out)


def one_number(name: str, values: Array) -> Array:
    """The only element of ``values``, as a scalar."""
    _check_one(name, values.shape)
    return values.reshape(())


def check_one_number(**values: Fact | None) -> None:
    """Raise ShapeError unless each of ``values``, by name, may be one number."""
    for name, fact in values.items():
        if fact is not None and fact.has_rank:
            _check_one(name, fact.shape)


def _check_one(name: str, shape: Sequence[DimLike]) -> None:
    is_one = all(known(extent) in {None, 1} for extent in shape)
    require(is_one, f"{name} must be one number, got {name}{shape_text(shape)}")


def per_filter(name: str, values: Array, w: tuple[int, ...]) -> Array:
    """Numbers per filter, ready to broadcast with filters of shape ``w``."""
    _check_per_filter(name, values.shape, w)
    return values.reshape(()) if values.size == 1 else values.reshape(-1, *[1] * (len(w) - 1))


def _check_filters(name: str, values: Fact | None, w: Fact) -> None:
    if values is not None and values.has_rank:
        _check_per_filter(name, values.shape, w.shape)


def _check_per_filter(name: str, found: Sequence[DimLike], w: Sequence[DimLike]) -> None:
    is_single = all(known(extent) in {None, 1} for extent in found)
    require(
        is_single or (len(found) == 1 and equal(found[0], w[0]) is not False),
        f"{name} must be one number or have one per filter ({w[0]}), got {name}{shape_text(found)}",
    )


QLinearConv = op(
    """QLinearConv <auto_pad: string = "NOTSET", dilations: ints?, group: int = 1,
                    kernel_shape: ints?, pads: ints?, strides: ints?>
                   (x: T1, x_scale: tensor(float), x_zero_point: T1, w: T2,
                    w_scale: tensor(float), w_zero_point: T2, y_scale: tensor(float),
                    y_zero_point: T3, B: T4?)
                => (y: T3)""",
    since=10, T1=I8 | U8, T2=I8 | U8, T3=I8 | U8, T4=I32,
)  # fmt: skip


@QLinearConv.infer
def infer_q_linear_conv(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact,
    w: Fact,
    w_scale: Fact,
    w_zero_point: Fact,
    y_scale: Fact,
    y_zero_point: Fact,
    B: Fact | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Fact:
    _check_filters("w_scale", w_scale, w)
    _check_filters("w_zero_point", w_zero_point, w)
    check_one_number(
        x_scale=x_scale, x_zero_point=x_zero_point, y_scale=y_scale, y_zero_point=y_zero_point
    )
    check_bias(B.shape if B is not None and B.has_rank else None, w.shape[0])
    return tensor(y_zero_point.dtype, _conv_shape(x.shape, w.shape, group, kernel_shape, window))


@QLinearConv.kernel
def q_linear_conv(
    x: Array,
    x_scale: Array,
    x_zero_point: Array,
    w: Array,
    w_scale: Array,
    w_zero_point: Array,
    y_scale: Array,
    y_zero_point: Array,
    B: Array | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Array:
    """Convolution of quantised tensors, quantised.

    y = saturate(round(((x − x_zero_point) ∗ (w − w_zero_point) + B) · x_scale · w_scale / y_scale)
                 + y_zero_point),   x[N, C, *S] · w[M, C/group, *K] · B[M] → y[N, M, *O]
    Scale and zero point of w are one number, or one per filter; padding stands for the zero point
    of x. Sums are exact in 32 bits and scaled in float32; ties round to even.
    Source: ONNX QLinearConv-10.
    """
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(None if B is None else B.shape, w.shape[0])
    geometry = Window.of(x.shape[2:], taps, **window)
    total = wrapped(_exact_convolution(x, w, x_zero_point, w_zero_point, geometry, group))
    ones = [1] * len(taps)
    if B is not None:
        total = total + B.reshape(-1, *ones)
    scale = per_filter("w_scale", w_scale, w.shape).reshape(-1, *ones)
    scale = one_number("x_scale", x_scale) * scale / one_number("y_scale", y_scale)
    zero = one_number("y_zero_point", y_zero_point)
    return quantized(total.astype(np.float32) * scale, zero, DType.of(y_zero_point.dtype))


@QLinearConv.lower
def lower_q_linear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    B: Tensor | None = None,
    *,
    group: int,
    kernel_shape: list[int] | None = None,
    **window: Unpack[WindowAttributes],
) -> Tensor:
    taps = conv_taps(x.shape, w.shape, group, kernel_shape)
    check_bias(None if B is None else B.shape, w.shape[0])
    _check_per_filter("w_scale", w_scale.shape, w.shape)
    geometry = Window.of(x.shape[2:], taps, **window)
    total = _lower_convolution(x, w, x_zero_point, w_zero_point, geometry, group)
    of_x = lower_single(x_scale, FLOAT32)
    of_y = lower_single(y_scale, FLOAT32)
    zero = lower_single(y_zero_point, FLOAT32)
    of_w = lower_per_line(w_scale, w.shape, -w.rank, FLOAT32)

    def at(n: DimLike, m: DimLike, *o: DimLike) -> Scalar:
        y = total[n, m, *o] if B is None else total[n, m, *o] + B[m]
        scale = of_x * of_w((m, *[0] * (w.rank - 1))) / of_y
        return lower_quantized(cast(y, FLOAT32) * scale, zero, y_zero_point.dtype)

    return compute(total.shape, at)
