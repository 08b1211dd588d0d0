"""Conversions between dtypes, as `fornix.cast.convert` defines them, from what processors have.

A processor converts between float32, float64 and integers; floats narrower than that are made of
their bits here. Everything is an expression of loop scalars; only the last step, an instruction
whose operand is known to be in range, is `Raw`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fornix.compile.emit.raw import Raw
from fornix.compile.target import Target
from fornix.dtype import (
    BFLOAT16,
    BOOL,
    FLOAT4E2M1,
    FLOAT6E2M3,
    FLOAT6E3M2,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
    FLOAT8E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from fornix.ir.loops import Scalar, apply, bitcast, const, select


@dataclass(frozen=True)
class Format:
    """A narrow float: bits of exponent and mantissa, bias, the largest finite code, NaN's code.

    `infinity` is the code of infinity, None if there is none. What is too large `saturates`, to the
    largest finite number, or becomes infinite.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: int
    nan: int | None
    infinity: int | None = None
    saturates: bool = True
    has_negative_zero: bool = True


# Source: ONNX, "Float stored in 8 bits" and "Float stored in 4 bits"; IEEE 754 for float16.
FORMATS = {
    FLOAT16: Format(5, 10, 15, 0x7BFF, 0x7E00, 0x7C00, saturates=False),
    FLOAT8E4M3FN: Format(4, 3, 7, 0x7E, 0x7F),
    FLOAT8E4M3FNUZ: Format(4, 3, 8, 0x7F, 0x80, has_negative_zero=False),
    FLOAT8E5M2: Format(5, 2, 15, 0x7B, 0x7E, 0x7C),
    FLOAT8E5M2FNUZ: Format(5, 2, 16, 0x7F, 0x80, has_negative_zero=False),
    FLOAT6E2M3: Format(2, 3, 1, 0x1F, None),
    FLOAT6E3M2: Format(3, 2, 3, 0x1F, None),
    FLOAT4E2M1: Format(2, 1, 1, 0x7, None),
}
_SIZE = 0x7FFFFFFF
_BIAS, _MANTISSA = 127, 23
_NAN = 0x7FC00000


def convert(x: Scalar, dtype: DType, target: Target) -> Scalar:
    """``x`` as ``dtype``, in terms of simpler conversions."""
    source = x.dtype
    if source is BOOL:
        return _to(Raw("zext", x, UINT8), dtype, target)
    if source.is_float and source.bits < FLOAT32.bits:
        return _to(widen(x, target), dtype, target)
    if source.bits < 8:
        return _to(_whole_byte(x), dtype, target)
    return _to(x, dtype, target)


def _to(x: Scalar, dtype: DType, target: Target) -> Scalar:
    """From float32, float64 or an integer of whole bytes."""
    if x.dtype is dtype:
        return x
    if dtype is BOOL:
        return apply("ne", x, 0)
    if dtype.is_float:
        return _to_float(x, dtype, target)
    return _float_to_integer(x, dtype) if x.dtype.is_float else _wrap(x, dtype)


def _whole_byte(x: Scalar) -> Scalar:
    """An integer of 2 or 4 bits as int8 or uint8; bits that it lacks may be anything."""
    unused = 8 - x.dtype.bits
    whole = Raw("same", x, INT8 if x.dtype.kind == "int" else UINT8)
    return apply("shr", apply("shl", whole, unused), unused)


def _wrap(x: Scalar, dtype: DType) -> Scalar:
    """An integer with the bits that ``dtype`` lacks discarded."""
    if dtype.bits < 8:
        byte = apply("and", _wrap(x, UINT8), 2**dtype.bits - 1)
        return Raw("same", byte, dtype)
    if dtype.bits == x.dtype.bits:
        return x if dtype is x.dtype else Raw("same", x, dtype)
    if dtype.bits < x.dtype.bits:
        return Raw("trunc", x, dtype)
    return Raw("sext" if x.dtype.kind == "int" else "zext", x, dtype)


def _float_to_integer(x: Scalar, dtype: DType) -> Scalar:
    """Towards zero; outside the type, what `fornix.cast` says."""
    if dtype is UINT64:
        return _float_to_uint64(x)
    wide = INT64 if dtype in {INT64, UINT32} else INT32
    low, high = -(2.0 ** (wide.bits - 1)), 2.0 ** (wide.bits - 1)
    above = low - 1 < x if low - 1 != low and x.dtype is FLOAT64 else low <= x
    inside = apply("and", above, x < high)
    whole = Raw("fptosi", select(inside, x, 0.0), wide)
    return _wrap(select(inside, whole, int(low)), dtype)


def _float_to_uint64(x: Scalar) -> Scalar:
    half = 2.0**63
    lower = apply("and", -half <= x, x < half)
    upper = apply("and", half <= x, x < 2 * half)
    moved = select(upper, x - half, select(lower, x, 0.0))
    whole = Raw("same", Raw("fptosi", moved, INT64), UINT64)
    sign = 1 << 63
    return select(
        lower,
        whole,
        select(upper, apply("xor", whole, sign), select(2 * half <= x, const(0, UINT64), sign)),
    )


def _to_float(x: Scalar, dtype: DType, target: Target) -> Scalar:
    if dtype in {FLOAT32, FLOAT64}:
        if x.dtype.is_float:
            return Raw("fpext" if dtype is FLOAT64 else "fptrunc", x, dtype)
        return Raw("sitofp" if x.dtype.kind == "int" else "uitofp", x, dtype)
    if dtype is FLOAT8E8M0:
        return _to_scale(_odd64(x))
    exact_in_32 = x.dtype is FLOAT32 or x.dtype.bits <= 16
    narrow = _to_float(x, FLOAT32, target) if exact_in_32 else _odd32(_odd64(x))
    if x.dtype is FLOAT32:
        narrow = x
    return encode(narrow, dtype, target)


def _odd64(x: Scalar) -> Scalar:
    """float64 rounded to odd; see `fornix.cast`."""
    if x.dtype not in {INT64, UINT64}:
        return x if x.dtype is FLOAT64 else _exact64(x)
    size = Raw("same", apply("abs", x), UINT64)
    dropped = apply("ne", apply("and", size, 2047), 0)
    kept = apply("shl", apply("shr", size, 11), 11)
    sticky = apply("or", kept, apply("shl", Raw("zext", dropped, UINT64), 11))
    exact = Raw("uitofp", select(apply("le", 2**53, size), sticky, size), FLOAT64)
    return select(x < 0, -exact, exact) if x.dtype is INT64 else exact


def _exact64(x: Scalar) -> Scalar:
    """What float64 holds without rounding."""
    if x.dtype.is_float:
        return Raw("fpext", x, FLOAT64)
    return Raw("sitofp" if x.dtype.kind == "int" else "uitofp", x, FLOAT64)


def _odd32(x: Scalar) -> Scalar:
    """float32 rounded to odd from float64."""
    nearest = Raw("fptrunc", x, FLOAT32)
    back = Raw("fpext", nearest, FLOAT64)
    bits = bitcast(nearest, UINT32)
    beyond = Raw("zext", abs(x) < abs(back), UINT32)
    inexact = apply("and", apply("ne", back, x), apply("eq", x, x))
    odd = apply("or", bits - beyond, Raw("zext", inexact, UINT32))
    return bitcast(odd, FLOAT32)


# ── narrow floats ──────────────────────────────────────────────────────────────────────────────


def _code(x: Scalar) -> Scalar:
    """The bits of a narrow float, in 32."""
    own = UINT16 if x.dtype.bits == 16 else UINT8
    return Raw("zext", Raw("same", x, own), UINT32)


def _has_half(target: Target) -> bool:
    return not target.is_x86 or target.has("f16c")


def widen(x: Scalar, target: Target) -> Scalar:
    """A narrow float as float32, exactly."""
    if x.dtype is FLOAT16 and _has_half(target):
        return Raw("half_to_float", x, FLOAT32)
    code = _code(x)
    if x.dtype is BFLOAT16:
        return bitcast(apply("shl", code, 16), FLOAT32)
    if x.dtype is FLOAT8E8M0:
        least = const(1 << _MANTISSA - 1, UINT32)  # 2^-127, which float32 holds as a subnormal
        bits = select(apply("eq", code, 0), least, apply("shl", code, _MANTISSA))
        return bitcast(select(apply("eq", code, 0xFF), const(_NAN, UINT32), bits), FLOAT32)
    return _decode(code, FORMATS[x.dtype])


def _decode(code: Scalar, f: Format) -> Scalar:
    width = f.exponent + f.mantissa
    size = apply("and", code, (1 << width) - 1)
    rebias = (_BIAS - f.bias) << _MANTISSA
    normal = apply("shl", size, _MANTISSA - f.mantissa) + rebias
    small = Raw("uitofp", size, FLOAT32) * 2.0 ** (1 - f.bias - f.mantissa)
    bits = select(size < 1 << f.mantissa, bitcast(small, UINT32), normal)
    if f.infinity is not None:
        top = const(f.infinity, UINT32)
        infinite = select(apply("eq", size, top), const(0xFF << _MANTISSA, UINT32), _NAN)
        bits = select(apply("le", top, size), infinite, bits)
    elif f.nan is not None and f.has_negative_zero:
        bits = select(apply("eq", size, f.nan), const(_NAN, UINT32), bits)
    sign = apply("shl", apply("and", apply("shr", code, width), 1), 31)
    signed = apply("or", bits, sign)
    if not f.has_negative_zero:  # the code of -0 is NaN
        signed = select(apply("eq", code, 1 << width), const(_NAN, UINT32), signed)
    return bitcast(signed, FLOAT32)


def encode(x: Scalar, dtype: DType, target: Target) -> Scalar:
    """float32 rounded to a narrow float."""
    if dtype is FLOAT16 and _has_half(target):
        return Raw("float_to_half", x, FLOAT16)
    if dtype is BFLOAT16:
        return Raw("same", Raw("trunc", _round_to_bfloat(x), UINT16), BFLOAT16)
    f = FORMATS[dtype]
    code = _encode(x, f)
    own = UINT16 if dtype.bits == 16 else UINT8
    return Raw("same", Raw("trunc", code, own), dtype)


def in_halves(low: Scalar, high: Scalar, target: Target) -> Scalar:
    """Two float32s rounded to bfloat16, in an int32."""
    codes = (
        Raw("zext", Raw("same", encode(x, BFLOAT16, target), UINT16), INT32) for x in (low, high)
    )
    first, second = codes
    return apply("or", first, apply("shl", second, UINT16.bits))


def _round_to_bfloat(x: Scalar) -> Scalar:
    bits = bitcast(x, UINT32)
    odd = apply("and", apply("shr", bits, 16), 1)
    rounded = apply("shr", bits + odd + 0x7FFF, 16)
    quiet = apply("or", apply("shr", bits, 16), 0x40)
    return select(apply("eq", x, x), rounded, quiet)


def _encode(x: Scalar, f: Format) -> Scalar:
    """The code: rounded to even, beyond the largest number infinite or that number."""
    bits = bitcast(x, UINT32)
    size = apply("and", bits, _SIZE)
    drop = _MANTISSA - f.mantissa
    rebias = (_BIAS - f.bias) << _MANTISSA
    odd = apply("and", apply("shr", size, drop), 1)
    rounded = apply("shr", size - rebias + odd + ((1 << drop - 1) - 1), drop)
    steps = apply("rint", bitcast(size, FLOAT32) * 2.0 ** (f.bias - 1 + f.mantissa))
    least = 2.0 ** (1 - f.bias)
    magnitude = bitcast(size, FLOAT32)
    is_small = magnitude < least
    small = Raw("fptosi", select(is_small, steps, 0.0), UINT32)
    code = select(is_small, small, rounded)
    beyond = f.largest if f.saturates or f.infinity is None else f.infinity
    code = select(f.largest < code, const(beyond, UINT32), code)
    sign = apply("shl", apply("shr", bits, 31), f.exponent + f.mantissa)
    if not f.has_negative_zero:
        sign = select(apply("eq", code, 0), const(0, UINT32), sign)
    code = apply("or", code, sign)
    nan = 1 << f.exponent + f.mantissa if f.nan is None else f.nan
    return select(apply("eq", x, x), code, const(nan, UINT32))


def _to_scale(x: Scalar) -> Scalar:
    """float8e8m0 from float64: the power of two that is not below the magnitude."""
    bits = apply("and", bitcast(x, UINT64), (1 << 63) - 1)
    exponent = Raw("trunc", apply("shr", bits, 52), INT32) - (1023 - _BIAS)
    inexact = apply("ne", apply("and", bits, (1 << 52) - 1), 0)
    code = exponent + Raw("zext", inexact, INT32)
    clamped = apply("max", apply("min", code, 254), 0)
    byte = Raw("trunc", select(apply("eq", x, x), clamped, 0xFF), UINT8)
    return Raw("same", byte, FLOAT8E8M0)


__all__ = ["FORMATS", "Format", "convert", "encode", "in_halves", "widen"]
