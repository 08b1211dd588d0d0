"""Quantization as loops: which scale meets which element, and how quotients become integers.

The counterpart, element by element, of what `quantize.py` and `quantized_products.py` do on arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fornix.dtype import FLOAT32, INT8, INT32, INT64, UINT8, DType
from fornix.ir.dim import DimLike
from fornix.ir.loops import (
    Apply,
    Const,
    Scalar,
    Tensor,
    apply,
    bitcast,
    cast,
    compute,
    const,
    select,
)
from fornix.ops.geometry import normalize_axis
from fornix.ops.precision import wide_element

At = Callable[[tuple[DimLike, ...]], Scalar]
"""From the place of an element to the scale or zero point that belongs to it."""


def lower_spread(
    values: Tensor, shape: Sequence[DimLike], axis: int | None, block_size: int, dtype: DType
) -> At:
    """`quantize.spread` for lowerings: ``values`` in ``dtype`` by the place of an element.

    Open extents are those of an axis: for runs in which they are 1 there is a program of its own.
    """
    if all(extent == 1 for extent in values.shape) or (values.rank > 1 and not block_size):
        return lambda _: lower_single(values, dtype)
    place = normalize_axis(axis or 0, len(shape))
    if not block_size:
        return lambda i: cast(values[i[place]], dtype)
    return lambda i: cast(values[(*i[:place], i[place] // block_size, *i[place + 1 :])], dtype)


def lower_quantized(quotient: Scalar, zero: Scalar | None, target: DType) -> Scalar:
    """`quantize.quantized` of one element; floats saturate."""
    if target.is_float:
        return cast(quotient if zero is None else quotient + cast(zero, quotient.dtype), target)
    if quotient.dtype is FLOAT32 and target.bits <= MAX_SHORT_BITS:
        return _lower_short(quotient, zero, target)
    rounded = apply("rint", quotient)
    if zero is not None:
        rounded = rounded + cast(zero, quotient.dtype)
    low, high = integer_bounds(target)
    clipped = select(rounded >= float(low), apply("min", rounded, float(high)), float(low))
    return cast(cast(clipped, INT32), target)


MAX_SHORT_BITS = 16
ROUNDING = 1.5 * 2.0**23
"""Added to a number of less than 22 bits, this leaves its nearest integer in the last bits."""


def _lower_short(quotient: Scalar, zero: Scalar | None, target: DType) -> Scalar:
    """`lower_quantized` for integers of up to 16 bits: clipped first, then rounded by an addition.

    Bounds are integers, so that clipping and rounding may change places. ``zero`` is one too. The
    bits of `ROUNDING` that the target keeps are 0.
    """
    low, high = (float(bound) for bound in integer_bounds(target))
    if zero is not None and _number(zero) == 0:
        zero = None
    least = const(low, FLOAT32) if zero is None else low - cast(zero, FLOAT32)
    greatest = const(high, FLOAT32) if zero is None else high - cast(zero, FLOAT32)
    above = select(least < quotient, quotient, least)  # NaN gives the least
    clipped = select(above < greatest, above, greatest)
    steps = bitcast(clipped + ROUNDING, INT32)
    return cast(steps if zero is None else steps + cast(zero, INT32), target)


def rounded(x: Scalar, zero: Scalar | None) -> Scalar | None:
    """``x`` less ``zero``, if that is what `_lower_short` has just rounded and added ``zero`` to.

    Then it need not become an integer first.
    """
    if not x.dtype.is_integer or x.dtype.bits > MAX_SHORT_BITS:
        return None
    steps = _operand(x, "cast")
    for bits in (steps, _operand(steps, "add")):
        total = _operand(bits, "bitcast")
        quotient = _operand(_operand(_operand(total, "add"), "select", 1), "select", 1)
        if total is None or quotient is None or quotient.dtype is not FLOAT32:
            continue
        if _lower_short(quotient, zero, x.dtype) is x:
            return total - ROUNDING
    return None


@dataclass(frozen=True)
class Rounded:
    """A quotient that becomes a byte: bounded by the greatest one, rounded, and a zero point added.

    The zero point is an int32.
    """

    quotient: Scalar
    greatest: Scalar
    zero: Scalar | None


def rounded_byte(x: Scalar) -> Rounded | None:
    """What ``x`` is made of if `_lower_short` made it."""
    steps = _operand(x, "cast")
    if x.dtype not in {INT8, UINT8} or steps is None:
        return None
    zero = _operand(steps, "add", 1)
    bits = steps if zero is None else _operand(steps, "add")
    clipped = _operand(_operand(bits, "bitcast"), "add")
    quotient = _operand(_operand(clipped, "select", 1), "select", 1)
    greatest = _operand(clipped, "select", 2)
    if quotient is None or greatest is None or quotient.dtype is not FLOAT32:
        return None
    is_same = any(_lower_short(quotient, number, x.dtype) is x for number in _numbers(zero))
    return Rounded(quotient, greatest, zero) if is_same else None


def _numbers(zero: Scalar | None) -> list[Scalar | None]:
    """What may have been converted to ``zero``, an int32."""
    if zero is None:
        return [None]
    return [zero, _operand(zero, "cast"), cast(zero, FLOAT32)]


def _operand(e: Scalar | None, op: str, place: int = 0) -> Scalar | None:
    """An operand of ``e``, if it is an ``op``."""
    return e.args[place] if isinstance(e, Apply) and e.op == op else None


def _number(e: Scalar | None) -> float | None:
    """What a zero point is, if it is stored."""
    if isinstance(e, Apply) and e.op == "cast":
        return _number(e.args[0])
    return e.value if isinstance(e, Const) else None


def integer_bounds(dtype: DType) -> tuple[int, int]:
    """The least and the greatest element of an integer type."""
    if dtype.is_signed:
        return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1
    return 0, 2**dtype.bits - 1


def lower_quotient(x: Scalar, scale: Scalar, precision: DType) -> Scalar:
    """``x / scale`` rounded to ``precision``, as float32 or float64."""
    if isinstance(scale, Const) and scale.value == 1 and precision.bits >= FLOAT32.bits:
        return cast(x, precision)
    if precision.bits >= FLOAT32.bits:
        return cast(x, precision) / cast(scale, precision)
    dividend, divisor = (cast(cast(v, precision), FLOAT32) for v in (x, scale))
    return cast(cast(dividend / divisor, precision), FLOAT32)


def steps_dtype(dtype: DType) -> DType:
    """The type in which elements of ``dtype`` less a zero point are exact."""
    if dtype.is_float:
        return FLOAT32
    return INT64 if dtype is INT32 else INT32


def less_zero(x: Tensor, zero: Tensor | None, per_line: int) -> Tensor:
    """``x`` less a zero point, in `steps_dtype`: one number, or one per index of axis ``per_line``.

    ``per_line`` counts from the end; a zero point of the rank of ``x`` broadcasts.
    """
    wide = steps_dtype(x.dtype)
    if zero is None:
        return compute(x.shape, lambda *i: cast(x[i], wide))
    at = lower_per_line(zero, x.shape, per_line, wide)
    return compute(x.shape, lambda *i: cast(x[i], wide) - at(i))


def lower_per_line(values: Tensor, shape: Sequence[DimLike], per_line: int, dtype: DType) -> At:
    """Numbers for tensors of ``shape``: a single one, per index of one axis, or broadcasting.

    Open extents are taken as in `lower_spread`.
    """
    if all(extent == 1 for extent in values.shape) or len(shape) < -per_line:
        return lambda _: lower_single(values, dtype)
    if values.rank > 1:
        return lambda i: wide_element(values, i, dtype)
    return lambda i: cast(values[i[per_line]], dtype)


def lower_single(values: Tensor, dtype: DType) -> Scalar:
    """The only element of ``values``."""
    return cast(values[(0,) * values.rank], dtype)
