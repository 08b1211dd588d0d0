"""Fuse the spellings of GELU that exporters write into Gelu, which begins at opset 20.

erf:   x/2 · (1 + erf(x/√2)), the factors in any order and grouping
tanh:  x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), the cube as Pow or as products
"""

from __future__ import annotations

import math

from fornix.ir.graph import Value
from fornix.passes.make import Maker
from fornix.passes.pattern import Application, P, Pattern, any_, either, number, rewrite

GELU_SINCE = 20

_x = any_("x")


_halved = either(P.Div(_x, number(math.sqrt(2))), P.Mul(_x, number(math.sqrt(0.5))))
_gate = P.Add(P.Erf(_halved), number(1.0))
_cube = either(P.Pow(_x, number(3.0)), P.Mul(P.Mul(_x, _x), _x), P.Mul(_x, P.Mul(_x, _x)))
_inner = P.Mul(P.Add(_x, P.Mul(_cube, number(0.044715))), number(math.sqrt(2 / math.pi)))
_tanh_gate = P.Add(P.Tanh(_inner), number(1.0))


def _spellings(gate: Pattern) -> list[Application]:
    half = number(0.5)
    return [
        P.Mul(P.Mul(_x, gate), half),
        P.Mul(P.Mul(_x, half), gate),
        P.Mul(_x, P.Mul(gate, half)),
        P.Div(P.Mul(_x, gate), number(2.0)),
    ]


@rewrite(*_spellings(_gate))
def fuse_gelu(x: Value, make: Maker) -> Value | None:
    """x·Φ(x) by the error function."""
    return make.Gelu(x) if make.opset >= GELU_SINCE else None


@rewrite(*_spellings(_tanh_gate))
def fuse_tanh_gelu(x: Value, make: Maker) -> Value | None:
    """The tanh approximation."""
    return make.Gelu(x, approximate="tanh") if make.opset >= GELU_SINCE else None


RULES = (*fuse_gelu, *fuse_tanh_gelu)
