"""Exact integer expressions: symbolic dims, and the indices of loops.

A `Dim` is a polynomial with integer coefficients over *atoms*: a named symbol, an unknown (with
the reason why it is not known), a floor division that does not come out, a minimum or maximum that
nothing decides; `ir.loops` adds loop variables and integers loaded from memory. Equality is
equality of normal forms: ``(N + 1)*2 - 2 == 2*N``. Constants are plain ints: a dim is
``int | Dim``, and whoever handles dims handles both. Symbols and unknowns are at least 0 unless
declared otherwise.
"""

from __future__ import annotations

from fornix.ir.dim.expression import (
    Dim,
    DimLike,
    atoms,
    known,
    symbol,
    unknown,
)
from fornix.ir.dim.prove import bounds, equal, is_nonnegative, less
from fornix.ir.dim.simplify import (
    ceildiv,
    divide,
    exact_quotient,
    long_division,
    maximum,
    minimum,
)
from fornix.ir.dim.text import named, parse

__all__ = [
    "Dim",
    "DimLike",
    "atoms",
    "bounds",
    "ceildiv",
    "divide",
    "equal",
    "exact_quotient",
    "is_nonnegative",
    "known",
    "less",
    "long_division",
    "maximum",
    "minimum",
    "named",
    "parse",
    "symbol",
    "unknown",
]
