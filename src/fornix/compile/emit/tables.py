"""Functions of float32 by tables of 32 numbers, where one instruction looks up each lane.

That is AVX-512, of which two vectors are such a table. What is looked up are numbers of a piece of
a function, which takes half the steps that a function takes in one piece. Errors in ulp are stated
as in `maths`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fornix.compile.emit.builder import Value
from fornix.compile.emit.maths import LEAST_WEIGHT, polynomial
from fornix.compile.emit.raw import Raw
from fornix.compile.emit.types import literal
from fornix.dtype import FLOAT32, INT32
from fornix.ir.loops import Apply, Const, Scalar, apply, bitcast, const, select

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

BITS = 5
"""Of a number in a table."""
PIECES = 1 << BITS
_MANTISSA = 23


def by_table(em: Emitter, e: Apply) -> Callable[[Scalar], Scalar] | None:
    """The function of ``e`` by a table; None where there is none, or no instruction for it."""
    if e.dtype is not FLOAT32 or not em.target.has("avx512f") or 2 * em.lanes != PIECES:
        return None
    return _FUNCTIONS.get(e.op)


def _number(x: Scalar, scale: float, step: float) -> tuple[Scalar, Scalar]:
    """``x·scale`` in whole steps, as an integer and as a float: a sum with 1½·2²³ steps ends so."""
    middle = 1.5 * 2.0**_MANTISSA * step
    shifted = x + middle if scale == 1 else apply("fma", x, scale, middle)
    return bitcast(shifted, INT32), shifted - middle


def _chosen(number: Scalar, table: Sequence[float], like: Scalar) -> Scalar:
    """The number in ``table`` that the last bits of ``number`` say, of the dtype of ``like``."""
    return Raw("choose", number, like.dtype, *(const(v, like.dtype) for v in table))


_ROOT_TERMS = [1.00001466, 0.50000076]
"""(eʳ − 1) / r for |r| ≤ ln 2 / 64 to 2^-24 of eʳ: least squares, weighed until errors are even."""


def _weight(x: Scalar) -> Scalar:
    """`maths.weight`: 2ᵏ/³²·eʳ with r = x − k·ln 2/32. To (3 + |x|)/2 ulp, too.

    The table has the bits of powers with k from 0 to 31, less k where their exponents end: all of k
    is added there.
    """
    number, whole = _number(x, 1 / math.log(2), 1 / PIECES)
    r = apply("fma", whole, -math.log(2), x)
    end = _MANTISSA - BITS
    roots = [int(np.float32(2 ** (k / PIECES)).view(np.int32)) - (k << end) for k in range(PIECES)]
    power = bitcast(_chosen(number, roots, number) + apply("shl", number, end), FLOAT32)
    value = apply("fma", power, r * polynomial(r, _ROOT_TERMS), power)
    return select(x < LEAST_WEIGHT, 0.0, value)


_ERF_STEP = 1 / 8
_ERF_LIMIT = (PIECES - 0.5) * _ERF_STEP - 2.0**-20
"""The end of the last piece, where the function is 1 − 2^-25."""


def _erf(x: Scalar) -> Scalar:
    """The error function: a polynomial around each eighth, 1 in the last one; 2.2 ulp."""
    size = apply("min", _ERF_LIMIT, abs(x))
    number, whole = _number(size, 1, _ERF_STEP)
    terms = [_chosen(number, table, x) for table in _pieces()]
    value, rest = terms[-1], size - whole
    for term in terms[-2::-1]:
        value = apply("fma", value, rest, term)
    sign = apply("and", bitcast(x, INT32), -(2**31))
    return bitcast(apply("or", bitcast(value, INT32), sign), FLOAT32)


@functools.cache
def _pieces() -> list[list[float]]:
    """Tables of coefficients of `_erf`, the constants first. That of the first piece is 0."""
    reach = _ERF_STEP / 2

    def piece(number: int) -> list[float]:
        center = number * _ERF_STEP
        return _interpolated(lambda p: math.erf(center + p), 0, reach, 5)

    first = [0.0, *_interpolated(lambda p: math.erf(p) / p, reach / 2, reach / 2, 4)]
    tables = [first, *map(piece, range(1, PIECES - 1)), [1.0, 0.0, 0.0, 0.0, 0.0]]
    return [list(table) for table in zip(*tables, strict=True)]


def _interpolated(
    f: Callable[[float], float], center: float, reach: float, count: int
) -> list[float]:
    """Coefficients of ``count`` powers that are ``f`` at Chebyshev's points, by Newton's way."""
    points = [center + reach * math.cos(math.pi * (k + 0.5) / count) for k in range(count)]
    slopes = [f(p) for p in points]
    for order in range(1, count):
        for k in range(count - 1, order - 1, -1):
            slopes[k] = (slopes[k] - slopes[k - 1]) / (points[k] - points[k - order])
    found: list[float] = []
    for slope, point in zip(reversed(slopes), reversed(points), strict=True):
        moved = [-point * a for a in found] + [0.0]
        found = [a + b for a, b in zip(moved, [slope, *found], strict=True)]
    return found


_FUNCTIONS: dict[str, Callable[[Scalar], Scalar]] = {"weight": _weight, "erf": _erf}


def choose(em: Emitter, e: Raw, unit: int) -> Value:
    """The code of `_chosen`."""
    number, dtype = em.value(e.args[0], unit), e.dtype
    kind, whole = (em.type(d, is_vector=True) for d in (dtype, INT32))
    one = em.type(dtype, is_vector=False)
    table = [f"{one} {literal(a.value, dtype)}" for a in e.args[1:] if isinstance(a, Const)]
    low, high = (f"<{', '.join(part)}>" for part in (table[: em.lanes], table[em.lanes :]))
    name = "llvm.x86.avx512.vpermi2var." + ("ps.512" if dtype is FLOAT32 else "d.512")
    given = [(kind, low), (whole, em.splat(number, INT32)), (kind, high)]
    text = em.call(number.depth, kind, name, *given)
    if not number.is_vector:
        text = em.put(number.depth, f"extractelement {kind} {text}, i32 0")
    return Value(text, number.is_vector, number.depth)
