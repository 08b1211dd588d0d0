"""Mathematical functions from additions, multiplications and bits.

Every function is an expression of loop scalars, so the emitter knows no mathematics, and tests hold
the expressions against NumPy without LLVM. Errors in ulp are stated per function; NaN gives NaN,
infinities and zeros what C's library gives. What is rare is computed in float64 for float32 too,
and rounded. Coefficients are those of Taylor series unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from fornix.compile.emit.raw import Raw
from fornix.compile.reductions import is_below_top
from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64, DType
from fornix.ir.loops import Apply, Const, Scalar, apply, bitcast, const, select

INF, NAN = math.inf, math.nan


def _fma(a: Scalar | float, b: Scalar | float, c: Scalar | float) -> Scalar:
    return apply("fma", a, b, c)


def polynomial(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """The polynomial with these coefficients, the constant first, by Horner's rule."""
    *rest, last = coefficients
    result: Scalar = const(float(last), x.dtype)
    for c in reversed(rest):
        result = _fma(result, x, float(c))
    return result


def _in_float64(function: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    """``function`` of float64, for float32 too: half an ulp there."""

    def widened(x: Scalar) -> Scalar:
        if x.dtype is FLOAT64:
            return function(x)
        return Raw("fptrunc", function(Raw("fpext", x, FLOAT64)), FLOAT32)

    return widened


# ── exp, log, pow ──────────────────────────────────────────────────────────────────────────────

LOG2_E = 1 / math.log(2)
_LN2: dict[DType, tuple[float, float]] = {
    # ln 2 in two parts; the first has few enough bits that its multiples are exact.
    FLOAT32: (0.693359375, -2.12194440054690583e-4),
    FLOAT64: (float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}
_EXP_TERMS = {
    # (eʳ − 1 − r) / r² to 2^-28 of eʳ: least squares, weighed anew until errors are even; and the
    # series, whose next term is below 2^-55 at |r| = ln 2 / 2.
    FLOAT32: [
        0.4999999344773533, 0.16666520630833492, 0.04166838805441335, 0.008368716983713501,
        0.0013814598565218177,
    ],
    FLOAT64: [1 / math.factorial(k) for k in range(2, 14)],
}  # fmt: skip
_EXP_RANGE = {FLOAT32: (-104.0, 89.0), FLOAT64: (-746.0, 710.0)}  # beyond: 0 and infinity
_NORMAL_POWERS = {FLOAT32: (-87.3, 87.3), FLOAT64: (-708.3, 708.3)}
"""Of what the exponential is a normal number, and its reciprocal."""
LEAST_WEIGHT, _ = _NORMAL_POWERS[FLOAT32]
"""Of what `weight` is not 0, of float32."""


def exp(x: Scalar) -> Scalar:
    """eˣ = 2ⁿ·eʳ with r = x − n·ln 2, |r| ≤ ½ ln 2; 1.2 ulp.

    What is 0 is not computed: processors of Intel take some 150 cycles for a result so small.
    What is less than a maximum by some amount needs no limit above.
    """
    low, high = _EXP_RANGE[x.dtype]
    is_zero = x < low
    x = x if is_below_top(x) else apply("min", high, x)
    n = select(is_zero, 0.0, apply("rint", x * LOG2_E))
    return select(is_zero, 0.0, _scaled_exp(x, n))


def _scaled_exp(x: Scalar, n: Scalar) -> Scalar:
    return Raw("scale", _exp_small(_reduced(x, n)), x.dtype, n)


def weight(x: Scalar) -> Scalar:
    """`exp` of what is at most 0; 0 where that is no normal number. To (3 + |x|)/2 ulp.

    A sum with 1½·2ᵐ, m bits of a mantissa, is rounded to an integer, whose bits are the last ones:
    moved to the exponent they are the power of two. The product with ln 2 is not in two parts: x
    has been rounded by as much.
    """
    whole, mantissa, bias = _BITS[x.dtype]
    middle = 1.5 * 2.0**mantissa + bias
    shifted = _fma(x, LOG2_E, middle)
    r = _fma(shifted - middle, -math.log(2), x)
    bits = apply("shl", bitcast(shifted, whole), mantissa)
    power = _exp_small(r) * bitcast(bits, x.dtype)
    return select(x < _NORMAL_POWERS[x.dtype][0], 0.0, power)


def beside_one(e: Apply) -> Scalar | None:
    """``eˣ - 1``, or ``1 / (1 + eˣ)``, of numbers that are normal or 0; None for all else.

    Beside 1 a power less than those changes nothing, but processors of Intel take some 150 cycles
    to make it and as many to add it; and to make a quotient that is less.
    """
    first, second = e.args
    if e.op == "sub":
        is_it = _is_power(first) and _is_one(second)
        return _normal_exp(first.args[0], _EXP_RANGE[e.dtype][1]) - 1.0 if is_it else None
    if not (_is_one(first) and isinstance(second, Apply) and second.op == "add"):
        return None
    one, power = second.args
    if not (_is_one(one) and _is_power(power)):
        return None
    x, high = power.args[0], _NORMAL_POWERS[e.dtype][1]
    return select(x > high, 0.0, 1.0 / (1.0 + _normal_exp(x, high)))


def _is_power(e: Scalar) -> bool:
    return isinstance(e, Apply) and e.op == "exp"


def _is_one(e: Scalar) -> bool:
    return isinstance(e, Const) and e.value == 1.0


def _normal_exp(x: Scalar, high: float) -> Scalar:
    """`exp`, but a normal number where it is less than all of them; up to that of ``high``."""
    x = apply("min", high, apply("max", _NORMAL_POWERS[x.dtype][0], x))
    return _scaled_exp(x, apply("rint", x * LOG2_E))


def _reduced(x: Scalar, n: Scalar) -> Scalar:
    high, low = _LN2[x.dtype]
    return _fma(n, -low, _fma(n, -high, x))


def _exp_small(r: Scalar) -> Scalar:
    return polynomial(r, [1.0, 1.0, *_EXP_TERMS[r.dtype]])


_BITS = {FLOAT32: (INT32, 23, 127), FLOAT64: (INT64, 52, 1023)}
_LOG_TERMS = {FLOAT32: 4, FLOAT64: 10}


def _split(x: Scalar) -> tuple[Scalar, Scalar]:
    """M and e with x = m·2ᵉ and √½ ≤ m < √2, for x positive and finite; e as a float."""
    _, mantissa, bias = _BITS[x.dtype]
    least = 2.0 ** (1 - bias)
    is_tiny = x < least
    m, exponent = _split_normal(select(is_tiny, x * 2.0**mantissa, x))
    return m, exponent - select(is_tiny, const(float(mantissa), x.dtype), 0.0)


def _split_normal(x: Scalar) -> tuple[Scalar, Scalar]:
    """The same for x normal."""
    whole, mantissa, _ = _BITS[x.dtype]
    root = {FLOAT32: 0x3F3504F3, FLOAT64: 0x3FE6A09E667F3BCD}[x.dtype]  # the bits of √½
    shifted = bitcast(x, whole) - root
    e = apply("shr", shifted, mantissa)
    m = bitcast(apply("and", shifted, (1 << mantissa) - 1) + root, x.dtype)
    return m, Raw("sitofp", e, x.dtype)


def _log_series(s: Scalar) -> Scalar:
    """(log((1+s)/(1−s)) − 2s) / s = Σ 2/(2k+1)·s²ᵏ."""
    z = s * s
    return z * polynomial(z, [2 / (2 * k + 3) for k in range(_LOG_TERMS[s.dtype])])


def log(x: Scalar) -> Scalar:
    """With x = 2ᵉ·m and f = m − 1: e·ln 2 + f − f²/2 + s·(f²/2 + R(s)), s = f/(2 + f); 1 ulp."""
    result = _log_of(*_split(x))
    result = select(apply("eq", x, INF), x, result)
    result = select(apply("eq", x, 0.0), -INF, result)
    return select(x >= 0.0, result, NAN)


def plain_log(x: Scalar) -> Scalar:
    """`log` of a normal number above 0, for which x − x is 0, or of NaN, for which it is NaN."""
    m, e = _split_normal(x)
    return _log_of(m, e + (x - x))


def _log_of(m: Scalar, e: Scalar) -> Scalar:
    """Log(m·2ᵉ)."""
    f = m - 1.0
    s = f / (f + 2.0)
    half = 0.5 * f * f
    high, low = _LN2[m.dtype]
    inner = _fma(s, half + _log_series(s), e * low)
    return _fma(e, high, f - (half - inner))


def log1p(u: Scalar) -> Scalar:
    """log(1 + u) = log(w)·u/(w − 1) with w = 1 + u rounded: its error cancels. Source: Kahan."""
    w = u + 1.0
    is_small = apply("eq", w, 1.0)
    near = log(w) * (u / select(is_small, 1.0, w - 1.0))
    return select(is_small, u, select(apply("eq", u, INF), u, near))


def power(x: Scalar, y: Scalar) -> Scalar:
    """The power xʸ; 1 ulp. Float32 in float64; float64 with log x in two parts."""
    simple = _constant_power(x, y)
    if simple is not None:
        return simple
    if x.dtype is FLOAT32:
        wide = power(Raw("fpext", x, FLOAT64), Raw("fpext", y, FLOAT64))
        return Raw("fptrunc", wide, FLOAT32)
    return _pow_special(x, y, _pow_positive(abs(x), y))


def _constant_power(x: Scalar, y: Scalar) -> Scalar | None:
    if not isinstance(y, Const):
        return None
    if y.value == 2.0:
        return x * x
    if y.value == 1.0:
        return x
    if y.value == 3.0:
        return x * x * x
    return 1.0 / x if y.value == -1.0 else None


_POWER_LIMIT = 800.0
"""Beyond this exponent of e everything is 0 or infinite."""


def _pow_positive(x: Scalar, y: Scalar) -> Scalar:
    """X to the power y for x ≥ 0: exp(y·log x), log x = high + low."""
    m, e = _split(x)
    f = m - 1.0
    d = f + 2.0
    s = f / d
    rest = _fma(-s, d, f) + (f - (d - 2.0)) * -s
    s_low = rest / d
    ln2_high, ln2_low = _LN2[FLOAT64]
    big = e * ln2_high
    high = big + 2.0 * s
    low = (big - high) + 2.0 * s
    low = low + (2.0 * s_low + _fma(s, _log_series(s), e * ln2_low))
    log_high = select(apply("eq", x, INF), x, select(apply("eq", x, 0.0), -INF, high))
    p = y * log_high
    is_finite = abs(p) < INF
    p_low = select(is_finite, _fma(y, log_high, -p) + y * low, 0.0)
    limited = apply("min", _POWER_LIMIT, apply("max", -_POWER_LIMIT, p))
    n = apply("rint", limited * LOG2_E)
    r = _reduced(limited, n) + apply("min", 1.0, apply("max", -1.0, p_low))
    value = Raw("scale", _exp_small(r), FLOAT64, n)
    return select(is_finite, value, select(p > 0.0, INF, select(p < 0.0, 0.0, p)))


def _pow_special(x: Scalar, y: Scalar, positive: Scalar) -> Scalar:
    """The cases of C's pow; ``positive`` is that of |x|."""
    is_whole = apply("eq", apply("trunc", y), y)
    half = y * 0.5
    is_odd = apply("and", is_whole, apply("ne", apply("trunc", half), half))
    negative = bitcast(x, INT64) < 0
    signed = select(apply("and", negative, is_odd), -positive, positive)
    signed = select(apply("and", x < 0.0, apply("not", is_whole)), _or_infinite(x, signed), signed)
    one = apply("or", apply("eq", y, 0.0), apply("eq", x, 1.0))
    endless = apply("and", apply("eq", x, -1.0), apply("eq", abs(y), INF))
    result = select(apply("or", one, endless), 1.0, signed)
    return select(apply("or", one, apply("eq", x, x)), result, x)


def _or_infinite(x: Scalar, signed: Scalar) -> Scalar:
    """−∞ has fractional powers, finite negative numbers have none."""
    return select(apply("eq", x, -INF), signed, NAN)


def remainder(op: str, x: Scalar, y: Scalar) -> Scalar:
    """The rest of x / y: "fmod" with the sign of x, "mod" with that of y.

    Exact where |x / y| is below 2^53, in float64 for float32 too.
    """
    if x.dtype is FLOAT32:
        wide = remainder(op, Raw("fpext", x, FLOAT64), Raw("fpext", y, FLOAT64))
        return Raw("fptrunc", wide, FLOAT32)
    size, step = abs(x), abs(y)
    rest = _fma(apply("trunc", size / step), -step, size)
    rest = select(rest < 0.0, rest + step, rest)
    rest = select(apply("or", rest < 0.0, rest >= step), 0.0, rest)
    rest = select(apply("and", apply("eq", step, INF), size < INF), size, rest)
    negative = bitcast(x, INT64) < 0
    result = select(negative, -rest, rest)
    if op == "fmod":
        return result
    differ = apply("ne", result < 0.0, y < 0.0)
    moved = select(apply("and", apply("ne", result, 0.0), differ), result + y, result)
    return select(
        apply("eq", result, 0.0), select(bitcast(y, INT64) < 0, const(-0.0, FLOAT64), 0.0), moved
    )


def _has_rest(x: Scalar, y: Scalar) -> Scalar:
    """Whether `remainder` is exact: a quotient of more bits than a float64 has is left to C."""
    if x.dtype is FLOAT32:
        return _has_rest(Raw("fpext", x, FLOAT64), Raw("fpext", y, FLOAT64))
    is_large = abs(x) / abs(y) >= 2.0**53
    is_number = apply("and", abs(x) < INF, apply("ne", y, 0.0))
    return apply("not", apply("and", is_large, is_number))


# ── trigonometric ──────────────────────────────────────────────────────────────────────────────

# π/2 in three parts of 53 bits each.
_HALF_PI = (
    float.fromhex("0x1.921fb54442d18p+0"),
    float.fromhex("0x1.1a62633145c07p-54"),
    float.fromhex("-0x1.f1976b7ed8fbcp-110"),
)
_TURNS = 2.0**45
"""The largest angle of which the rest is exact: n·π/2 by the first part, and n, are sure so far."""
_SIN_TERMS, _COS_TERMS = 8, 9  # the next terms are below 2^-56 at π/4


def _quadrant(x: Scalar) -> tuple[Scalar, Scalar]:
    """R and n with x = n·π/2 + r, |r| ≤ π/4; n as int64. For |x| up to `_TURNS`."""
    n = apply("rint", x * (2 / math.pi))
    r = x
    for part in _HALF_PI:
        r = _fma(n, -part, r)
    return r, Raw("fptosi", select(abs(n) <= _TURNS, n, 0.0), INT64)


def _has_phase(x: Scalar) -> Scalar:
    """Whether `_quadrant` holds for ``x``: larger angles take more digits of π, and are left to C.

    Infinite ones have no phase anyway.
    """
    return apply("or", abs(x) <= _TURNS, apply("not", abs(x) < INF))


def _sin_cos(r: Scalar) -> tuple[Scalar, Scalar]:
    z = r * r
    sines = [(-1) ** k / math.factorial(2 * k + 1) for k in range(1, _SIN_TERMS + 1)]
    cosines = [(-1) ** k / math.factorial(2 * k) for k in range(2, _COS_TERMS + 1)]
    sine = _fma(r * z, polynomial(z, sines), r)
    return sine, _fma(z * z, polynomial(z, cosines), _fma(z, -0.5, 1.0))


def _turned(x: Scalar, quarter: int) -> Scalar:
    """sin(x + quarter·π/2)."""
    r, n = _quadrant(x)
    sine, cosine = _sin_cos(r)
    turns = n + quarter
    value = select(apply("eq", apply("and", turns, 1), 0), sine, cosine)
    return select(apply("eq", apply("and", turns, 2), 0), value, -value)


def _sin(x: Scalar) -> Scalar:
    return select(apply("eq", x, 0.0), x, _turned(x, 0))


def _cos(x: Scalar) -> Scalar:
    return _turned(x, 1)


def _tan(x: Scalar) -> Scalar:
    r, n = _quadrant(x)
    sine, cosine = _sin_cos(r)
    is_even = apply("eq", apply("and", n, 1), 0)
    value = select(is_even, sine, -cosine) / select(is_even, cosine, sine)
    return select(apply("eq", x, 0.0), x, value)


# Terms of Σ (−1)ᵏ t²ᵏ⁺¹/(2k+1) at t = tan(π/8), and π/2 in two parts.
_ATAN_TERMS = {FLOAT32: 10, FLOAT64: 23}
_RIGHT_ANGLE = {
    FLOAT32: (1.57079637050628662109375, -4.37113900018624283e-8),
    FLOAT64: _HALF_PI[:2],
}


def _atan(x: Scalar) -> Scalar:
    """Above tan(3π/8): π/2 − atan(1/x); above tan(π/8): π/4 + atan((x−1)/(x+1)).

    1 ulp, of float32 2.
    """
    size = abs(x)
    is_large, is_middle = size > math.tan(3 * math.pi / 8), size > math.tan(math.pi / 8)
    above = select(is_large, -1.0, select(is_middle, size - 1.0, size))
    below = select(is_large, size, select(is_middle, size + 1.0, 1.0))
    u = above / below
    z = u * u
    series = [(-1) ** k / (2 * k + 1) for k in range(1, _ATAN_TERMS[x.dtype])]
    small = _fma(u * z, polynomial(z, series), u)
    high, rest = (
        select(is_large, part, select(is_middle, const(part / 2, x.dtype), 0.0))
        for part in _RIGHT_ANGLE[x.dtype]
    )
    angle = high + (small + rest)
    return select(bitcast(x, _BITS[x.dtype][0]) < 0, -angle, angle)


def _asin(x: Scalar) -> Scalar:
    return select(apply("eq", x, 0.0), x, _atan(x / apply("sqrt", (1.0 - x) * (1.0 + x))))


def _acos(x: Scalar) -> Scalar:
    return 2.0 * _atan(apply("sqrt", (1.0 - x) / (1.0 + x)))


# ── hyperbolic ─────────────────────────────────────────────────────────────────────────────────


def _sinh(x: Scalar) -> Scalar:
    """(eˣ − e⁻ˣ)/2; its series below 1. 2 ulp."""
    size = abs(x)
    half = exp(size * 0.5)
    z = x * x
    series = [1 / math.factorial(2 * k + 1) for k in range(1, 10)]
    small = _fma(x * z, polynomial(z, series), x)
    large = select(size < 20.0, 0.5 * (exp(size) - exp(-size)), half * (0.5 * half))
    return select(size < 1.0, small, select(x < 0.0, -large, large))


def _cosh(x: Scalar) -> Scalar:
    """(eˣ + e⁻ˣ)/2; 2 ulp."""
    size = abs(x)
    half = exp(size * 0.5)
    return select(size < 20.0, 0.5 * (exp(size) + exp(-size)), half * (0.5 * half))


def _tangent_series(terms: int) -> list[float]:
    """Coefficients of tanh x / x in powers of x², from those of sinh and cosh."""
    sine = [Fraction(1, math.factorial(2 * k + 1)) for k in range(terms)]
    cosine = [Fraction(1, math.factorial(2 * k)) for k in range(terms)]
    quotient: list[Fraction] = []
    for k in range(terms):
        known = sum((quotient[j] * cosine[k - j] for j in range(k)), Fraction(0))
        quotient.append(sine[k] - known)
    return [float(q) for q in quotient]


_TANH_LIMIT, _TANH_SERIES = 0.625, _tangent_series(20)  # (0.625 / (π/2))^40 < 2^-53


def _tanh(x: Scalar) -> Scalar:
    """1 − 2/(e²ˣ + 1); its series near 0. 2 ulp."""
    size = abs(x)
    large = 1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    z = x * x
    small = _fma(x * z, polynomial(z, _TANH_SERIES[1:]), x)
    small = select(apply("eq", x, 0.0), x, _fma(x * z, polynomial(z, _TANH_SERIES[1:]), x))
    return select(size < _TANH_LIMIT, small, select(x < 0.0, -large, large))


BIG = 2.0**28
"""From here on √(x² ± 1) is x."""


def _asinh(x: Scalar) -> Scalar:
    size = abs(x)
    is_big = size > BIG
    safe = select(is_big, 1.0, size)
    z = safe * safe
    near = log1p(safe + z / (1.0 + apply("sqrt", z + 1.0)))
    value = select(is_big, log(size) + math.log(2), near)
    return select(apply("eq", x, 0.0), x, select(x < 0.0, -value, value))


def _acosh(x: Scalar) -> Scalar:
    is_big = x > BIG
    t = select(is_big, 1.0, x) - 1.0
    value = select(is_big, log(x) + math.log(2), log1p(t + apply("sqrt", t * (t + 2.0))))
    return select(x < 1.0, NAN, value)


def _atanh(x: Scalar) -> Scalar:
    size = abs(x)
    value = 0.5 * log1p(2.0 * size / (1.0 - size))
    return select(apply("eq", x, 0.0), x, select(x < 0.0, -value, value))


# ── the error function ─────────────────────────────────────────────────────────────────────────

_ERF_SERIES = [
    2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(30)
]
_ERF_LIMIT = 1.5  # below, the terms of the series cancel by less than a factor of 10
_ERFC_CENTER = 5 / 12
# exp(x²)·erfc(x) for 1.5 ≤ x ≤ 6 as a polynomial in 1/x − 5/12, to 1e-17. Source: Chebyshev fit by
# tools/fit_functions.py.
_ERFC_SCALED = [
    0.21849873453703333, 0.45841098999025504, -0.18799628662602255, -0.005491348993553555,
    0.10762902385196194, -0.11861005477834989, 0.05628531035552623, 0.044107506992303064,
    -0.13497956183643933, 0.16699631485602, -0.10471141093681298, -0.0554087156105905,
    0.2698652277466282, -0.44316182923853253, 0.4406400022837657, -0.14132986478344176,
    -0.4529056154586638, 1.3263334230276618, -2.723723643120705, 2.8290357048018517,
    3.1320290358017036, -7.806994059688908,
]  # fmt: skip


def _erf(x: Scalar) -> Scalar:
    """The error function by its series below 1.5, else 1 − erfc; 2 ulp."""
    size = apply("min", 6.0, abs(x))
    z = size * size
    small = size * polynomial(z, _ERF_SERIES)
    inverse = 1.0 / apply("max", _ERF_LIMIT, size) - _ERFC_CENTER
    large = 1.0 - exp(-z) * polynomial(inverse, _ERFC_SCALED)
    value = select(size < _ERF_LIMIT, small, large)
    return select(x < 0.0, -value, select(apply("eq", x, 0.0), x, value))


# ── float32 in its own precision ───────────────────────────────────────────────────────────────


def _rational(
    limit: float, numerator: Sequence[float], denominator: Sequence[float]
) -> Callable[[Scalar], Scalar]:
    """The function x·P(x²)/Q(x²), constant beyond ``limit``."""

    def function(x: Scalar) -> Scalar:
        x = apply("min", limit, apply("max", -limit, x))
        z = x * x
        return x * polynomial(z, numerator) / polynomial(z, denominator)

    return function


# Least relative error on [0, limit], where the function is 1 − 2^-25: 7e-9 and 2e-8; with rounding
# 5 and 6 ulp. Source: weighted least squares by tools/fit_functions.py.
_tanh32 = _rational(
    9.02,
    [1.0, 0.130831584, 0.00310300314, 1.11442741e-05, -2.01840411e-08, 5.25781294e-11,
     -8.43612832e-14],
    [1.0, 0.464164853, 0.0244913884, 0.000254475366],
)  # fmt: skip
_erf32 = _rational(
    3.945,  # the result is 1 here and beyond, as Gelu relies on
    [1.12837911, 0.19078441, 0.0527903549, 0.00377962994, 0.000284808368, 2.04195771e-06],
    [1.0, 0.502411008, 0.114257753, 0.0149974814, 0.00116521632, 3.80039273e-05],
)


def _by_dtype(
    narrow: Callable[[Scalar], Scalar], wide: Callable[[Scalar], Scalar]
) -> Callable[[Scalar], Scalar]:
    return lambda x: (narrow if x.dtype is FLOAT32 else wide)(x)


FUNCTIONS: dict[str, Callable[[Scalar], Scalar]] = {
    "exp": exp,
    "weight": weight,
    "log": log,
    "plain_log": plain_log,
    "erf": _by_dtype(_erf32, _erf),
    "tanh": _by_dtype(_tanh32, _tanh),
    "sin": _in_float64(_sin),
    "cos": _in_float64(_cos),
    "tan": _in_float64(_tan),
    "asin": _asin,
    "acos": _acos,
    "atan": _atan,
    "sinh": _in_float64(_sinh),
    "cosh": _in_float64(_cosh),
    "asinh": _in_float64(_asinh),
    "acosh": _in_float64(_acosh),
    "atanh": _in_float64(_atanh),
}
"""The functions of one operand that are expanded."""

LIMITS: dict[str, Callable[..., Scalar]] = {
    **dict.fromkeys(("sin", "cos", "tan"), _has_phase),
    **dict.fromkeys(("mod", "fmod"), _has_rest),
}
"""Whether the code of an operation is right for its operands, where it is not so for all."""
