"""Quantization and back: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.

Decides which scale belongs to which element (`check_scale`, `spread`) and how quotients become
elements of the quantised types. Products of quantised tensors are in `quantized_products.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.cast import convert
from fornix.dtype import FLOAT8E8M0, FLOAT32, INT32, UINT8, DType
from fornix.errors import ConvertError, DTypeError, require
from fornix.ir.dim import DimLike, ceildiv, equal, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, index, reduce, select, stored
from fornix.ops.adapt import shape_of
from fornix.ops.call import InferNode, LowerNode, NodeView, RunNode
from fornix.ops.fact import Array, Fact, tensor, unranked
from fornix.ops.geometry import normalize_axis, shape_text
from fornix.ops.op import op
from fornix.ops.quantize_loops import (
    integer_bounds,
    lower_quantized,
    lower_quotient,
    lower_spread,
    rounded,
    steps_dtype,
)
from fornix.ops.types import (
    BF16,
    E8M0,
    F4,
    F6,
    F8,
    F16,
    F32,
    I2,
    I4,
    I8,
    I16,
    I32,
    U8,
    U16,
)

OWN_PRECISION_SINCE = 23
"""Schema version from which the scale's type sets the precision of QuantizeLinear's division."""

NARROWEST_BITS = 16
"""Narrower float types are no precision to divide in."""

QuantizeLinear = (
    op("QuantizeLinear (x: T1, y_scale: tensor(float), y_zero_point: T2?) => (y: T2)",
       since=10, T1=F32 | I32, T2=I8 | U8)
    .since(13, """QuantizeLinear <axis: int = 1>
                                 (x: T1, y_scale: tensor(float), y_zero_point: T2?) => (y: T2)""")
    .since(19, """QuantizeLinear <axis: int = 1, saturate: int = 1>
                                 (x: T1, y_scale: T1, y_zero_point: T2?) => (y: T2)""",
           T1=+(BF16 | F16), T2=+F8)
    .since(21, """QuantizeLinear <axis: int = 1, block_size: int = 0, output_dtype: int = 0,
                                  saturate: int = 1>
                                 (x: T1, y_scale: T1, y_zero_point: T2?) => (y: T2)""",
           T2=+(I4 | I16 | U16))
    .since(23, """QuantizeLinear <axis: int = 1, block_size: int = 0, output_dtype: int = 0,
                                  precision: int = 0, saturate: int = 1>
                                 (x: T1, y_scale: T2, y_zero_point: T3?) => (y: T3)""",
           T2=BF16 | F16 | F32 | I32, T3=F8 | I4 | F4 | I8 | I16 | U8 | U16)
    .since(24, T2=+E8M0)
    .since(25, T3=+I2)
    .since(28, T3=+F6)
)  # fmt: skip


@QuantizeLinear.adapt(13, 10)
def quantize_linear_13_to_10(node: Node, _: Graph) -> None:
    check_one_scale(node)


def check_one_scale(node: Node) -> None:
    """Raise ConvertError unless all elements have one scale, as they have before opset 13."""
    shape = shape_of(node.inputs[1], "the scale")
    if any(extent != 1 for extent in shape):
        raise ConvertError(
            f"before opset 13 the scale must be one number, found one of shape {shape_text(shape)}"
        )
    node.remove_attribute("axis")


@QuantizeLinear.infer
def infer_quantize_linear(
    x: Fact,
    y_scale: Fact,
    y_zero_point: Fact | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    node: InferNode,
) -> Fact:
    if y_zero_point is not None and y_zero_point.dtype is None:
        return tensor(None, x.shape)
    dtype = _target(None if y_zero_point is None else y_zero_point.dtype, output_dtype, node)
    if not x.has_rank:
        return unranked(dtype)
    _check_parameters("y", x, y_scale, y_zero_point, axis, block_size)
    return tensor(dtype, x.shape)


@QuantizeLinear.kernel
def quantize_linear(
    x: Array,
    y_scale: Array,
    y_zero_point: Array | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    node: RunNode,
) -> Array:
    """``x`` in units of a scale, counted from a zero point: y = saturate(x / y_scale + zero point).

    x[*S] → y[*S] of the zero point's type, else output_dtype, else uint8. The scale is one number,
    a vector along ``axis``, or with block_size B of the shape of x with Sᵢ/B (rounded up) blocks.
    Integers: the quotient is rounded to the nearest, ties to even, before the zero point is added;
    NaN gives the least integer. Floats are rounded once from the sum; of those only float8 types
    heed ``saturate``. The division has the precision of that attribute, else of the scale's type
    (float8e8m0 and int32: of x); before opset 23 it is float32, as in onnxruntime.
    Source: ONNX QuantizeLinear-28.
    """
    zero_dtype = None if y_zero_point is None else DType.of(y_zero_point.dtype)
    target = _target(zero_dtype, output_dtype, node)
    check_scale("y_scale", y_scale.shape, x.shape, axis, block_size)
    scale = spread(y_scale, x.shape, axis, block_size)
    rounded_to = _precision(DType.of(x.dtype), DType.of(y_scale.dtype), precision, node)
    quotient = _quotient(x, scale, rounded_to)
    if y_zero_point is None:
        return quantized(quotient, None, target, saturate=bool(saturate))
    check_zero_point("y", y_scale.shape, y_zero_point.shape)
    zero = spread(y_zero_point, x.shape, axis, block_size)
    return quantized(quotient, zero, target, saturate=bool(saturate))


@QuantizeLinear.lower
def lower_quantize_linear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    node: LowerNode,
) -> Tensor:
    zero_dtype = None if y_zero_point is None else y_zero_point.dtype
    target = _target(zero_dtype, output_dtype, node)
    if target.is_float and not saturate:
        node.decline("loops saturate floats")
    check_scale("y_scale", y_scale.shape, x.shape, axis, block_size)
    rounded_to = _precision(x.dtype, y_scale.dtype, precision, node)
    scale = lower_spread(y_scale, x.shape, axis, block_size, y_scale.dtype)
    if y_zero_point is None:
        return compute(
            x.shape,
            lambda *i: lower_quantized(lower_quotient(x[i], scale(i), rounded_to), None, target),
        )
    check_zero_point("y", y_scale.shape, y_zero_point.shape)
    zero = lower_spread(y_zero_point, x.shape, axis, block_size, FLOAT32)
    return compute(
        x.shape,
        lambda *i: lower_quantized(lower_quotient(x[i], scale(i), rounded_to), zero(i), target),
    )


def _target(zero: DType | None, output_dtype: int, node: NodeView) -> DType:
    """The quantised type: the zero point's, else the one stated, else uint8."""
    stated = DType.of(output_dtype) if output_dtype else None
    require(
        zero is None or stated is None or zero is stated,
        f"output_dtype must be the type of y_zero_point ({zero}), got {stated}",
        DTypeError,
    )
    target = zero or stated or UINT8
    allowed = node.schema.allowed(node.schema.formal_output(0))
    require(
        f"tensor({target.text})" in allowed,
        f"output_dtype must be one of {', '.join(sorted(allowed))}, got {target}",
        DTypeError,
    )
    return target


def _precision(x: DType, scale: DType, stated: int, node: NodeView) -> DType:
    """The type in which the quotient is rounded."""
    if node.version < OWN_PRECISION_SINCE:
        return FLOAT32
    found = DType.of(stated) if stated else scale
    if not stated and (found is FLOAT8E8M0 or not found.is_float):
        found = x if x.is_float else FLOAT32
    require(
        found.is_float and found.bits >= NARROWEST_BITS,
        f"precision must be a float type of {NARROWEST_BITS} bits or more, got {found}",
        DTypeError,
    )
    return found


def _quotient(x: Array, scale: Array, precision: DType) -> Array:
    """``x / scale`` rounded to ``precision``, as float32 or float64."""
    dividend, divisor = convert(x, precision), convert(scale, precision)
    if precision.bits >= FLOAT32.bits:
        return np.asarray(dividend / divisor)
    # float32 has more than twice the digits: rounding its quotient again gives the exact one's.
    quotient = dividend.astype(np.float32) / divisor.astype(np.float32)
    return np.asarray(quotient).astype(precision.numpy).astype(np.float32)


def quantized(
    quotient: Array, zero: Array | None, target: DType, *, saturate: bool = True
) -> Array:
    """Quotients as elements of a quantised type, counted from a zero point."""
    if target.is_float:
        total = quotient if zero is None else quotient + zero.astype(quotient.dtype)
        return convert(np.asarray(total), target, saturate=saturate)
    rounded = np.rint(quotient)
    if zero is not None:
        rounded = rounded + zero.astype(np.float32)
    low, high = integer_bounds(target)
    # fmax prefers a number to NaN.
    clipped = np.minimum(np.fmax(rounded, np.float32(low)), np.float32(high))
    return np.asarray(clipped).astype(np.int32).astype(target.numpy)


def check_scale(
    name: str, scale: Sequence[DimLike], x: Sequence[DimLike], axis: int | None, block_size: int
) -> None:
    """Raise ShapeError unless a scale of this shape belongs to a tensor of shape ``x``.

    It does as one number, a vector along ``axis``, or a tensor of blocks along ``axis``. An axis
    of None allows one number only.
    """
    require(block_size >= 0, f"block_size must not be negative, got {block_size}")
    if all(known(extent) in {None, 1} for extent in scale):
        return
    require(axis is not None, f"{name} must be one number, got {name}{shape_text(scale)}")
    place = normalize_axis(axis or 0, len(x))
    if not block_size:
        require(
            len(scale) == 1 and equal(scale[0], x[place]) is not False,
            f"{name} must be one number or have one per index of axis {place} of "
            f"{shape_text(x)}, got {name}{shape_text(scale)}",
        )
        return
    blocks = [*x[:place], ceildiv(x[place], block_size), *x[place + 1 :]]
    fits = len(scale) == len(x) and all(
        equal(found, wanted) is not False for found, wanted in zip(scale, blocks, strict=True)
    )
    require(
        fits,
        f"{name} must have shape {shape_text(blocks)}, one number per block of {block_size} along "
        f"axis {place} of {shape_text(x)}, got {name}{shape_text(scale)}",
    )


def check_zero_point(tensor_name: str, scale: Sequence[DimLike], zero: Sequence[DimLike]) -> None:
    """Raise ShapeError unless a zero point of this shape belongs to such a scale."""
    same = len(scale) == len(zero) and all(
        equal(a, b) is not False for a, b in zip(scale, zero, strict=True)
    )
    is_single = all(known(extent) in {None, 1} for extent in (*scale, *zero))
    require(
        same or is_single,
        f"{tensor_name}_zero_point must have the shape of {tensor_name}_scale, "
        f"{shape_text(scale)}, got {shape_text(zero)}",
    )


def spread(values: Array, shape: tuple[int, ...], axis: int | None, block_size: int) -> Array:
    """Scales or zero points in a shape that broadcasts to ``shape``; see `check_scale`."""
    if values.size == 1:
        return values.reshape(())
    place = normalize_axis(axis or 0, len(shape))
    if block_size:
        repeated = np.repeat(values, block_size, axis=place)
        kept = (slice(None),) * place + (slice(shape[place]),)
        return np.asarray(repeated[kept])
    return values.reshape([-1 if other == place else 1 for other in range(len(shape))])


def _check_parameters(
    name: str, x: Fact, scale: Fact, zero: Fact | None, axis: int | None, block_size: int
) -> None:
    """`check_scale` and `check_zero_point` as far as ranks are known."""
    if not scale.has_rank:
        return
    check_scale(f"{name}_scale", scale.shape, x.shape, axis, block_size)
    if zero is not None and zero.has_rank:
        check_zero_point(name, scale.shape, zero.shape)


DequantizeLinear = (
    op("DequantizeLinear (x: T, x_scale: tensor(float), x_zero_point: T?) => (y: tensor(float))",
       since=10, T=I8 | I32 | U8)
    .since(13, """DequantizeLinear <axis: int = 1>
                                   (x: T, x_scale: tensor(float), x_zero_point: T?)
                                => (y: tensor(float))""")
    .since(19, """DequantizeLinear <axis: int = 1>
                                   (x: T1, x_scale: T2, x_zero_point: T1?) => (y: T2)""",
           T1=F8 | I8 | I32 | U8, T2=BF16 | F16 | F32)
    .since(21, """DequantizeLinear <axis: int = 1, block_size: int = 0>
                                   (x: T1, x_scale: T2, x_zero_point: T1?) => (y: T2)""",
           T1=+(I4 | I16 | U16))
    .since(23, """DequantizeLinear <axis: int = 1, block_size: int = 0, output_dtype: int = 0>
                                   (x: T1, x_scale: T2, x_zero_point: T1?) => (y: T3)""",
           T1=+F4, T3=BF16 | F16 | F32)
    .since(24, T2=+E8M0)
    .since(25, T1=+I2)
    .since(28, T1=+F6)
)  # fmt: skip


@DequantizeLinear.adapt(13, 10)
def dequantize_linear_13_to_10(node: Node, _: Graph) -> None:
    check_one_scale(node)


@DequantizeLinear.infer
def infer_dequantize_linear(
    x: Fact,
    x_scale: Fact,
    x_zero_point: Fact | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    node: InferNode,
) -> Fact:
    dtype = None if x_scale.dtype is None else _restored(x_scale.dtype, output_dtype, node)
    if not x.has_rank:
        return unranked(dtype)
    _check_parameters("x", x, x_scale, x_zero_point, axis, block_size)
    return tensor(dtype, x.shape)


@DequantizeLinear.kernel
def dequantize_linear(
    x: Array,
    x_scale: Array,
    x_zero_point: Array | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    node: RunNode,
) -> Array:
    """The numbers that quantised elements stand for: y = (x − x_zero_point) · x_scale.

    x[*S] → y[*S] of type output_dtype, else of the scale's; scales and zero points as in
    QuantizeLinear. Multiplies in float32 and rounds once. Source: ONNX DequantizeLinear-28.
    """
    dtype = _restored(DType.of(x_scale.dtype), output_dtype, node)
    check_scale("x_scale", x_scale.shape, x.shape, axis, block_size)
    wide = np.int64 if x.dtype == np.int32 else np.float32
    steps = x.astype(wide)
    if x_zero_point is not None:
        check_zero_point("x", x_scale.shape, x_zero_point.shape)
        steps = steps - spread(x_zero_point, x.shape, axis, block_size).astype(wide)
    scale = spread(x_scale, x.shape, axis, block_size).astype(np.float32)
    return np.asarray(steps.astype(np.float32) * scale).astype(dtype.numpy)


@DequantizeLinear.lower
def lower_dequantize_linear(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    *,
    axis: int | None = None,
    block_size: int = 0,
    output_dtype: int = 0,
    node: LowerNode,
) -> Tensor:
    dtype = _restored(x_scale.dtype, output_dtype, node)
    check_scale("x_scale", x_scale.shape, x.shape, axis, block_size)
    scale = lower_spread(x_scale, x.shape, axis, block_size, FLOAT32)
    wide = steps_dtype(x.dtype)
    zero = number = None
    if x_zero_point is not None:
        check_zero_point("x", x_scale.shape, x_zero_point.shape)
        zero = lower_spread(x_zero_point, x.shape, axis, block_size, wide)
        number = lower_spread(x_zero_point, x.shape, axis, block_size, FLOAT32)

    def steps(i: tuple[DimLike, ...]) -> Scalar:
        found = rounded(x[i], None if number is None else number(i))
        if found is not None:
            return found
        return cast(x[i] if zero is None else cast(x[i], wide) - zero(i), FLOAT32)

    return compute(x.shape, lambda *i: cast(steps(i) * scale(i), dtype))


def _restored(scale: DType, output_dtype: int, node: NodeView) -> DType:
    """The type of dequantised elements."""
    dtype = DType.of(output_dtype) if output_dtype else scale
    allowed = node.schema.allowed(node.schema.formal_output(0))
    require(
        f"tensor({dtype.text})" in allowed,
        f"output_dtype must be one of {', '.join(sorted(allowed))}, got {dtype}"
        + ("" if output_dtype else ", the type of x_scale"),
        DTypeError,
    )
    return dtype


DynamicQuantizeLinear = op(
    """DynamicQuantizeLinear (x: T1)
                          => (y: T2, y_scale: tensor(float), y_zero_point: T2)""",
    since=11, T1=F32, T2=U8,
)  # fmt: skip

STEPS = 255
"""Steps between the least and the greatest uint8."""


@DynamicQuantizeLinear.infer
def infer_dynamic_quantize_linear(x: Fact) -> tuple[Fact, Fact, Fact]:
    y = tensor(UINT8, x.shape) if x.has_rank else unranked(UINT8)
    return y, tensor(FLOAT32, ()), tensor(UINT8, ())


@DynamicQuantizeLinear.kernel
def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """``x`` as uint8 with the scale and zero point that its own range, 0 included, asks for.

    y_scale = (max(x, 0) − min(x, 0)) / 255,   y_zero_point = round(−min(x, 0) / y_scale)
    y = saturate(round(x / y_scale) + y_zero_point), ties to even; zeros alone have the scale 1, as
    in onnxruntime. x[*S] → y[*S], both others scalars. Source: ONNX DynamicQuantizeLinear-11.
    """
    high = np.max(x, initial=np.float32(0))
    low = np.min(x, initial=np.float32(0))
    scale = np.float32(1) if high == low else (high - low) / np.float32(STEPS)
    zero = np.asarray(np.rint(np.clip(-low / scale, 0, STEPS)))
    y = quantized(x / scale, zero, UINT8)
    return y, np.asarray(scale, np.float32), zero.astype(np.uint8)


@DynamicQuantizeLinear.lower
def lower_dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    least, greatest = _lower_extremes(x)
    low, high = apply("min", least[()], 0.0), apply("max", greatest[()], 0.0)
    y_scale = stored(compute((), lambda: lower_range_scale(low, high)), "scale")
    zero = stored(compute((), lambda: lower_range_zero(low, y_scale[()])), "zero")
    y = compute(
        x.shape, lambda *i: lower_quantized(x[i] / y_scale[()], zero[()], UINT8)
    )  # fmt: skip
    return y, y_scale, compute((), lambda: cast(cast(zero[()], INT32), UINT8))


def lower_range_scale(low: Scalar, high: Scalar) -> Scalar:
    """The scale of uint8s for numbers from ``low`` to ``high``, between which 0 lies."""
    return select(apply("eq", high, low), 1.0, (high - low) / float(STEPS))


def lower_range_zero(low: Scalar, scale: Scalar) -> Scalar:
    """The zero point that goes with it, as a float."""
    distance = apply("max", -low / scale, 0.0)
    return apply("rint", apply("min", distance, float(STEPS)))


LINE = 4096
"""Elements of a line that is read twice from the first cache."""
SHORTEST = 256
"""Elements of a line from which on it is worth while to keep its extremes side by side."""


def _lower_extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest element: line by line, then of all lines; each computed once.

    Both are found in a line before the next one is read, as what is greatest of its negative and of
    itself.
    """
    length = known(x.shape[0]) if x.rank == 1 else None
    if length is not None and length % LINE == 0:
        shape = (length // LINE, LINE)
        return _lower_extremes(compute(shape, lambda p, k: x[p * LINE + k]))
    first = _first_of_line(x.shape)
    if not first:
        return _lower_extreme("min", x), _lower_extreme("max", x)
    rows, columns = x.shape[:first], x.shape[first:]

    def greatest_of(*i: DimLike) -> Scalar:
        sign = cast(index(2 * i[-1] - 1), FLOAT32)
        return reduce("max", columns, lambda *k: x[(*i[:-1], *k)] * sign)

    lines = stored(compute((*rows, 2), greatest_of), "extremes")

    def whole(which: int) -> Scalar:
        return reduce("max", rows, lambda *i: lines[(*i, which)])

    least = stored(compute((), lambda: -whole(0)), "min")
    return least, stored(compute((), lambda: whole(1)), "max")


def _first_of_line(shape: Sequence[DimLike]) -> int:
    """The first of the axes that make lines long enough to keep their extremes side by side."""
    count = 1
    for axis in reversed(range(1, len(shape))):
        count *= known(shape[axis]) or SHORTEST
        if count >= SHORTEST:
            return axis
    return 0


def _lower_extreme(op: str, x: Tensor) -> Tensor:
    """The least or the greatest element: row by row, then of all rows; each is computed once."""
    if x.rank < 2:
        return stored(compute((), lambda: reduce(op, x.shape, lambda *i: x[i])), op)
    *rows, columns = x.shape
    of_rows = compute(tuple(rows), lambda *i: reduce(op, columns, lambda k: x[(*i, k)]))
    found = stored(of_rows, op)
    return stored(compute((), lambda: reduce(op, rows, lambda *i: found[i])), op)


DynamicQuantizeLinear.body(
    """
    <domain: "", opset_import: ["": 11]>
    DynamicQuantizeLinear (x) => (y, y_scale, y_zero_point)
    {
        Zero = Constant <value = float {0.0}> ()
        Steps = Constant <value = float {255.0}> ()
        Least = ReduceMin <keepdims = 0> (x)
        Greatest = ReduceMax <keepdims = 0> (x)
        Low = Min (Least, Zero)
        High = Max (Greatest, Zero)
        Range = Sub (High, Low)
        y_scale = Div (Range, Steps)
        Below = Sub (Zero, Low)
        Distance = Div (Below, y_scale)
        Clipped = Clip (Distance, Zero, Steps)
        Rounded = Round (Clipped)
        y_zero_point = Cast <to = 2> (Rounded)
        y = QuantizeLinear (x, y_scale, y_zero_point)
    }
    """,
    since=11,
)
