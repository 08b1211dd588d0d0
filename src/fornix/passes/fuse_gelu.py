"""Fuse the spellings of GELU that exporters write into Gelu, which begins at opset 20.

erf:   x/2 · (1 + erf(x/√2)), the factors in any order and grouping
tanh:  x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), the cube as Pow or as products, multiplied out
       or not
"""

from __future__ import annotations

import math

from fornix.ir.graph import Value
from fornix.passes.make import Maker
from fornix.passes.pattern import Application, P, Pattern, any_, either, number, rewrite

GELU_SINCE = 20

C = 0.044715
"""The coefficient of x³ in the tanh form."""
K = math.sqrt(2 / math.pi)

_x = any_("x")
_half = number(0.5)

_scaled = either(P.Div(_x, number(math.sqrt(2))), P.Mul(_x, number(math.sqrt(0.5))))
_erf = P.Erf(_scaled)

_square = either(P.Mul(_x, _x), P.Pow(_x, number(2.0)))
_cube = either(P.Pow(_x, number(3.0)), P.Mul(_square, _x))
_small_cube = either(
    P.Mul(_cube, number(C)),
    P.Mul(P.Mul(_x, number(C)), _square),
    P.Mul(P.Mul(P.Mul(_x, number(C)), _x), _x),
    P.Mul(P.Mul(_square, number(C)), _x),
)
_growth = P.Add(
    either(P.Mul(_square, number(C)), P.Mul(P.Mul(_x, number(C)), _x)), number(1.0)
)  # 1 + 0.044715·x²
_inner = either(
    P.Mul(P.Add(_x, _small_cube), number(K)),
    P.Mul(P.Mul(_x, number(K)), _growth),
    P.Mul(P.Mul(_x, _growth), number(K)),
    P.Add(P.Mul(_x, number(K)), P.Mul(_cube, number(C * K))),
)
_tanh = P.Tanh(_inner)


def _spellings(step: Pattern) -> list[Application]:
    """x/2 · (1 + step), as a product of what is in there in every grouping."""
    gate = P.Add(step, number(1.0))
    halved = either(P.Mul(gate, _half), P.Add(P.Mul(step, _half), _half), P.Div(gate, number(2.0)))
    return [
        P.Mul(P.Mul(_x, gate), _half),
        P.Mul(either(P.Mul(_x, _half), P.Div(_x, number(2.0))), gate),
        P.Mul(_x, halved),
        P.Div(P.Mul(_x, gate), number(2.0)),
    ]


@rewrite(*_spellings(_erf))
def fuse_gelu(x: Value, make: Maker) -> Value | None:
    """x·Φ(x) by the error function."""
    return make.Gelu(x) if make.opset >= GELU_SINCE else None


@rewrite(*_spellings(_tanh))
def fuse_tanh_gelu(x: Value, make: Maker) -> Value | None:
    """The tanh approximation."""
    return make.Gelu(x, approximate="tanh") if make.opset >= GELU_SINCE else None


RULES = (*fuse_gelu, *fuse_tanh_gelu)
