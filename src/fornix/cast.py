"""Conversion between element types, as Cast defines it: `convert`.

Every result is rounded once, whatever the pair of types. What the standard leaves undefined is
decided here, so that kernels, folding and compiled code agree on every platform:

* a float outside an integer type becomes what x86-64 makes of it, as in the peers: the minimum of
  int32 or int64 (types narrower than int32 keep its low bits, uint32 those of int64);
* float4 and float6 saturate, and NaN becomes −0, as the reference implementation does;
* negative numbers convert to float8e8m0 by magnitude;
* numbers are written with the fewest digits that read back the same, never with an exponent.

Source: ONNX Cast-25.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix import dtype as types
from fornix.dtype import DType
from fornix.errors import DTypeError, Fail, InvalidArgument

__all__ = ["convert"]

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_INT64_MIN = -(2**63)
# Integers below are exact in float64.
_EXACT_64 = 2**53
# Magnitudes of float8e8m0 are 2**(code − bias), codes 0 to 254; 255 is NaN.
_SCALE_BIAS, _SCALE_MAX, _SCALE_NAN = 127, 254, 255

# The largest finite numbers of the types that `saturate` speaks of.
_FLOAT8_MAX = {
    types.FLOAT8E4M3FN: np.float32(448),
    types.FLOAT8E4M3FNUZ: np.float32(240),
    types.FLOAT8E5M2: np.float32(57344),
    types.FLOAT8E5M2FNUZ: np.float32(57344),
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_PLAIN = b"0123456789+-.eE \t\n\r\f\v"
"""Of this Python reads as numbers what the two above are, between white space, and nothing else."""
_EXACT = 2.0**53
"""Below this integers are float64 numbers."""
_TIE_BITS = 2**27 - 1
"""Those of a float64 that are 0 where it lies between two numbers of 25 bits or less, or is one."""
_BITS_BELOW_FLOAT32 = 2**29 - 1
"""Those that a float32 lacks, unless it is subnormal."""
_SPECIAL = re.compile(r"[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def convert(
    array: NDArray[Any], target: DType, *, saturate: bool = True, round_mode: str = "up"
) -> NDArray[Any]:
    """The elements of ``array`` as ``target``: x[*S] → y[*S]; ``array`` itself if it is that.

    ``saturate`` clamps what float8 types cannot hold, instead of making it infinite or NaN;
    ``round_mode`` ("up", "down", "nearest") applies to float8e8m0 alone.
    Raises Fail for a string that is no number, DTypeError for complex to anything else.
    """
    source = DType.of(array.dtype)
    require_rounding(round_mode)
    if array.dtype != source.numpy:  # foreign byte order, NumPy's fixed-width strings
        array = array.astype(source.numpy)
    if source is target:
        return array
    _require_real(source, target)
    flat = array.reshape(-1)
    if target is types.STRING:
        return _to_strings(flat, source).reshape(array.shape)
    with np.errstate(all="ignore"):
        if source is types.STRING:
            result = _from_strings(flat, target, saturate=saturate, round_mode=round_mode)
        elif target is types.BOOL:
            result = _native(flat, source).astype(np.bool_)
        elif target.is_integer:
            result = _to_integer(flat, source, target)
        else:
            result = _to_float(flat, source, target, saturate=saturate, round_mode=round_mode)
    return result.reshape(array.shape)


def require_rounding(mode: str) -> None:
    """Raise InvalidArgument if ``mode`` is not a way to round to float8e8m0."""
    if mode not in {"up", "down", "nearest"}:
        raise InvalidArgument(f"round_mode must be up, down or nearest, found {mode!r}")


def _require_real(source: DType, target: DType) -> None:
    """Refuse what Cast does not define: complex to real, and strings to complex."""
    if source.kind == "complex" and target.kind != "complex":
        raise DTypeError(f"{source} converts to complex types only, found {target}")
    if source is types.STRING and target.kind == "complex":
        raise DTypeError(f"strings convert to real types only, found {target}")


def _native(flat: NDArray[Any], source: DType) -> NDArray[Any]:
    """The same numbers in a type that NumPy itself computes with."""
    if source.bits == 64 or source in {types.FLOAT32, types.INT32, types.UINT32}:
        return flat
    if source.kind == "complex":
        return flat
    return flat.astype(np.float32 if source.is_float else np.int32)


def _to_float(
    flat: NDArray[Any], source: DType, target: DType, *, saturate: bool, round_mode: str
) -> NDArray[Any]:
    native = _native(flat, source)
    if target.kind == "complex" or target in {types.FLOAT32, types.FLOAT64}:
        return native.astype(target.numpy)
    if target is types.FLOAT8E8M0:
        return _to_scale(_odd64(native), saturate=saturate, round_mode=round_mode)
    narrow = native
    if source.bits > 16 and source is not types.FLOAT32:
        narrow = _odd32(_odd64(native))
    narrow = narrow.astype(np.float32, copy=False)
    if saturate and target in _FLOAT8_MAX:
        limit = _FLOAT8_MAX[target]
        narrow = np.clip(narrow, -limit, limit)
    return narrow.astype(target.numpy)


def _odd64(native: NDArray[Any]) -> NDArray[np.float64]:
    """float64 rounded to odd: what is not exact has its last bit set.

    A number rounded to odd rounds to any type that is two bits narrower as the exact one does.
    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.
    """
    if native.dtype not in (np.int64, np.uint64):
        return native.astype(np.float64)
    if native.size == 0 or (native.min() >= -_EXACT_64 and native.max() <= _EXACT_64):
        return native.astype(np.float64)
    negative = native < 0
    size = np.where(negative, -native, native).view(np.uint64)
    # 64 − 11 = 53 bits: what float64 holds.
    sticky = (size >> np.uint64(11) | ((size & np.uint64(2047)) != 0)) << np.uint64(11)
    exact = np.where(size >= _EXACT_64, sticky, size).astype(np.float64)
    return np.where(negative, -exact, exact)


def _odd32(wide: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 rounded to odd from float64; see `_odd64`."""
    nearest = wide.astype(np.float32)
    back = nearest.astype(np.float64)
    bits = nearest.view(np.uint32) - (np.abs(back) > np.abs(wide))
    bits |= (back != wide) & ~np.isnan(wide)
    return bits.astype(np.uint32, copy=False).view(np.float32)


def _to_scale(wide: NDArray[np.float64], *, saturate: bool, round_mode: str) -> NDArray[Any]:
    """float8e8m0: the power of two above, below or nearest in value, the larger of a tie.

    Beyond the largest and smallest power: those if ``saturate``, else NaN; zero is below them.
    """
    size = np.abs(wide)
    mantissa, exponent = np.frexp(size)
    if round_mode == "up":
        exponent -= mantissa == 0.5
    elif round_mode == "nearest":
        exponent -= mantissa < 0.75
    else:
        exponent -= 1
    code = exponent + _SCALE_BIAS
    above = np.isinf(size) | (code > _SCALE_MAX)
    below = (size == 0) | (code < 0)
    code = np.where(above, _SCALE_MAX if saturate else _SCALE_NAN, code)
    code = np.where(below, 0 if saturate else _SCALE_NAN, code)
    code = np.where(np.isnan(size), _SCALE_NAN, code)
    return code.astype(np.uint8).view(types.FLOAT8E8M0.numpy)


def _to_integer(flat: NDArray[Any], source: DType, target: DType) -> NDArray[Any]:
    native = _native(flat, source)
    if not source.is_float:
        return _wrap(native, target)
    low, high = _bounds(target)
    if target.bits >= 8 and ((native > low - 1) & (native < high + 1)).all():
        return native.astype(target.numpy)
    whole = np.trunc(native.astype(np.float64))
    inside = (whole >= _INT64_MIN) & (whole < -_INT64_MIN)
    integer = np.where(inside, whole, _INT64_MIN).astype(np.int64)
    if target is types.UINT64:
        upper = (whole >= -_INT64_MIN) & (whole < 2.0**64)
        integer[upper] = (whole[upper] + _INT64_MIN).astype(np.int64) + _INT64_MIN
        integer[whole >= 2.0**64] = 0
    elif target not in {types.INT64, types.UINT32}:
        fits = (integer >= _INT32_MIN) & (integer <= _INT32_MAX)
        integer = np.where(fits, integer, _INT32_MIN)
    return _wrap(integer, target)


def _bounds(target: DType) -> tuple[float, float]:
    if target.is_signed:
        return -(2.0 ** (target.bits - 1)), 2.0 ** (target.bits - 1) - 1
    return 0.0, 2.0**target.bits - 1


def _wrap(native: NDArray[Any], target: DType) -> NDArray[Any]:
    """Integers with the bits that ``target`` lacks discarded."""
    if target.bits >= 8:
        return native.astype(target.numpy)
    codes: NDArray[np.uint8] = (native & native.dtype.type(2**target.bits - 1)).astype(np.uint8)
    return codes.view(target.numpy)


def _to_strings(flat: NDArray[Any], source: DType) -> NDArray[Any]:
    result = np.empty(flat.size, object)
    if source.is_float:
        numbers = flat if source is types.FLOAT16 else _native(flat, source)
        is_wide = numbers.dtype == np.float64
        texts = map(repr, numbers.tolist()) if is_wide else numbers.astype(np.str_).tolist()
        result[:] = [_trimmed(text, number) for text, number in zip(texts, numbers, strict=True)]
    elif source is types.BOOL:
        result[:] = np.where(flat, np.array("1", object), np.array("0", object))
    else:
        result[:] = list(map(str, _native(flat, source).tolist()))
    return result


def _trimmed(text: str, number: np.floating[Any]) -> str:
    """The shortest ``text`` of ``number``, if it has neither an exponent nor a fraction of 0."""
    if "e" in text or "n" in text:
        return _float_text(number)
    return text.removesuffix(".0")


def _float_text(number: np.floating[Any]) -> str:
    if np.isnan(number):
        return "NaN"
    if np.isinf(number):
        return "INF" if number > 0 else "-INF"
    return np.format_float_positional(number, trim="-")


def _from_strings(
    flat: NDArray[Any], target: DType, *, saturate: bool, round_mode: str
) -> NDArray[Any]:
    if target.is_integer:
        return _wrap(_integers(flat, target), target)
    numbers = _numbers(flat, target)
    if target is types.BOOL:
        return numbers.astype(np.bool_)
    return convert(numbers, target, saturate=saturate, round_mode=round_mode)


def _plain(flat: NDArray[Any]) -> list[str]:
    """Texts of nothing but digits, signs, points and exponents.

    Raises ValueError for others, and TypeError where one is no text.
    """
    texts: list[str] = flat.tolist()
    if "\n".join(texts).encode("ascii").translate(None, _PLAIN):
        raise ValueError
    return texts


def _integers(flat: NDArray[Any], target: DType) -> NDArray[np.uint64]:
    """The integers that texts spell, modulo 2⁶⁴."""
    try:
        return np.array(list(map(int, _plain(flat))), np.int64).view(np.uint64)
    except (TypeError, ValueError, OverflowError):
        mask = 2**64 - 1
        return np.array([_integer(_text(entry), target) & mask for entry in flat], np.uint64)


def _numbers(flat: NDArray[Any], target: DType) -> NDArray[np.float64]:
    """The numbers that texts spell; on the way to less than float64, rounded to odd near ties."""
    try:
        texts = _plain(flat)
        nearest = np.array(list(map(float, texts)), np.float64)
    except (TypeError, ValueError):
        return np.array([_number(_text(entry), target) for entry in flat], np.float64)
    if target not in {types.FLOAT64, types.BOOL}:
        for place in np.flatnonzero(_may_tie(nearest, target)):
            nearest[place] = _number(texts[place].strip(), target)
    return nearest


def _may_tie(nearest: NDArray[np.float64], target: DType) -> NDArray[np.bool_]:
    """Where what a text spells may be rounded otherwise than the float64 that is nearest to it."""
    bits = nearest.view(np.uint64)
    is_short: NDArray[np.bool_] = bits & _TIE_BITS == 0
    if target is types.FLOAT32:
        is_between = bits & _BITS_BELOW_FLOAT32 == (_BITS_BELOW_FLOAT32 + 1) // 2
        is_short &= np.abs(nearest) < np.finfo(np.float32).tiny
        is_short |= is_between
    return is_short


def _text(entry: object) -> str:
    text = entry.decode("utf-8", "surrogateescape") if isinstance(entry, bytes) else str(entry)
    return text.strip()


def _number(text: str, target: DType) -> float:
    """The number that ``text`` spells; rounded to odd, as in `_odd64`, on the way to less."""
    if _SPECIAL.fullmatch(text):
        return float(text)
    if not _NUMBER.fullmatch(text):
        raise Fail(f"a number is required to convert a string to {target}, found {text!r}")
    nearest = float(text)
    if target is types.FLOAT64 or target.is_integer:
        return nearest
    if nearest == 0 or np.isinf(nearest):
        return nearest
    if nearest.is_integer() and abs(nearest) < _EXACT and _INTEGER.fullmatch(text):
        return nearest
    exact, found = Decimal(text).copy_abs(), Decimal(nearest).copy_abs()
    if exact == found:
        return nearest
    bits = np.float64(nearest).view(np.uint64)
    return float(np.uint64(int(bits) - (found > exact) | 1).view(np.float64))


def _integer(text: str, target: DType) -> int:
    """The integer that ``text`` spells; fractions are cut off."""
    if _INTEGER.fullmatch(text):
        return int(text)
    number = np.array([_number(text, target)])
    return int(_to_integer(number, types.FLOAT64, target)[0])
