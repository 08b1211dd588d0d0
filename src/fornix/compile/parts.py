"""A float32 as the sum of three bfloat16s, for processors that multiply tiles of such.

x = h + m + l without an error: each part holds 8 of the 24 bits of x. Of the nine products of the
parts of two numbers the six largest are summed in float32; those left out, m·l, l·m and l·l, are
together below 2⁻²² |a·b|, as an ulp of the product is. h is rounded, so that the others have either
sign and errors do not add up.

Numbers that were stored in fewer bits have fewer parts: a float16 is the sum of the first two, a
bfloat16 is the first one, and so is an integer of 8 bits. The others are 0, and so are their
products, which are left out.

Nothing is asked about numbers that are not finite: x − h is NaN for them, and so is every sum that
they take part in. Whoever sums products of parts computes what is not finite anew, from the numbers
themselves; of infinities, of sums that overflow and of what rounds to an infinity that is right.
"""

from __future__ import annotations

import math

from fornix.compile.narrow import unwidened
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, INT32, UINT16, UINT32
from fornix.ir.loops import Apply, Const, Scalar, apply, bitcast, cast

PARTS = HIGH, MIDDLE, LOW = range(3)
"""x rounded, what is left truncated, and the rest."""
BYTES = len(PARTS) * 2
"""Of a number in parts."""
_SIGNIFICANT = {BFLOAT16: 1, FLOAT16: 2}
"""Parts of a number that is widened, by the type that it had; all others have three."""
PRODUCTS = (
    (LOW, HIGH), (MIDDLE, HIGH), (MIDDLE, MIDDLE), (HIGH, MIDDLE), (HIGH, HIGH), (HIGH, LOW),
)  # fmt: skip
"""The products of parts that are summed, in an order in which neighbours have a factor in common.
"""
EXACT = 256
"""Integers of up to such a magnitude are bfloat16s."""
_CHOOSING = frozenset({"select", "max", "min"})
"""What gives one of its last two operands."""
_UPPER, _HALF = 0xFFFF0000, 0x8000
"""The bits of a float32 that are a bfloat16, and half of the last of them."""


def count_of(e: Scalar) -> int:
    """How many of the parts of ``e`` may be other than 0."""
    if isinstance(e, Const) and e.value == 0:
        return 1
    if isinstance(e, Apply) and e.op == "cast" and _largest(e.args[0]) <= EXACT:
        return 1
    if isinstance(e, Apply) and e.op in _CHOOSING:
        return max(map(count_of, e.args[-2:]))
    return _SIGNIFICANT.get(unwidened(e).dtype, len(PARTS))


def _largest(e: Scalar) -> float:
    """What no magnitude of the integer ``e`` is above, as far as its operations say."""
    if not e.dtype.is_integer:
        return math.inf
    if isinstance(e, Const):
        return abs(e.value)
    own = 2.0 ** (e.dtype.bits - e.dtype.is_signed)
    if not isinstance(e, Apply) or not e.dtype.is_signed:
        return own  # what has no signs wraps around
    first, last = e.args[0], e.args[-1]
    if e.op == "shr" and isinstance(last, Const):
        return own / 2.0**last.value
    if e.op == "cast":
        return min(own, _largest(first))
    if e.op in {"add", "sub"}:
        return min(own, _largest(first) + _largest(last))
    return own


def with_parts_of(e: Scalar, copy: Scalar) -> Scalar:
    """``copy``, a float32 that is ``e``, as one of as many parts."""
    narrow = next((dtype for dtype, n in _SIGNIFICANT.items() if n == count_of(e)), FLOAT32)
    return cast(cast(copy, narrow), FLOAT32)


def products_of(left: int, right: int) -> list[tuple[int, int]]:
    """Those of `PRODUCTS` that are of the first so many parts of both factors."""
    return [(a, b) for a, b in PRODUCTS if a < left and b < right]


def in_parts(first: Scalar, second: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The parts of two float32s, each as an int32: those of ``first`` in the lower half."""
    parts = (_pair(a, b) for a, b in zip(_parts(first), _parts(second), strict=True))
    high, middle, low = parts
    return high, middle, low


def _parts(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The bits of three float32s that are bfloat16s and whose sum is ``x``."""
    bits = bitcast(x, UINT32)
    high = bits if count_of(x) == 1 else apply("and", bits + _HALF, _UPPER)
    rest = x - bitcast(high, FLOAT32)
    middle = apply("and", bitcast(rest, UINT32), _UPPER)
    low = apply("and", bitcast(rest - bitcast(middle, FLOAT32), UINT32), _UPPER)
    return high, middle, low


def _pair(low: Scalar, high: Scalar) -> Scalar:
    """Two bfloat16s, given as the bits of float32s, in one int32."""
    return bitcast(apply("or", apply("shr", low, UINT16.bits), high), INT32)


__all__ = [
    "BYTES",
    "HIGH",
    "LOW",
    "MIDDLE",
    "PARTS",
    "PRODUCTS",
    "count_of",
    "in_parts",
    "products_of",
    "with_parts_of",
]
