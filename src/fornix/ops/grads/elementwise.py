"""Derivatives of arithmetic, powers, trigonometric functions, choices and casts.

Where a function has a corner, the subgradient is the one that PyTorch takes: |x|′ is 0 at 0, Clip
passes the gradient on at its bounds, and equal arguments of Max and Min share it evenly.
"""

from __future__ import annotations

import math

from fornix.ops.cast import BitCast, Cast, CastLike
from fornix.ops.elementwise import (
    Abs,
    Acos,
    Acosh,
    Add,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Clip,
    Cos,
    Cosh,
    Div,
    Erf,
    Exp,
    Floor,
    Log,
    Max,
    Mean,
    Min,
    Mod,
    Mul,
    Neg,
    Pow,
    Reciprocal,
    Round,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Sub,
    Sum,
    Tan,
)
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.slope import broadcast, flat, slope
from fornix.ops.grads.term import Term
from fornix.ops.logic import Where

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

slope(Abs, lambda x, _: x.Sign())
slope(Exp, lambda _, y: y)
slope(Log, lambda x, _: x.Reciprocal())
slope(Sqrt, lambda _, y: 0.5 / y)
slope(Reciprocal, lambda _, y: -(y * y))
slope(Erf, lambda x, _: TWO_OVER_ROOT_PI * (-(x * x)).Exp())
slope(Sin, lambda x, _: x.Cos())
slope(Cos, lambda x, _: -x.Sin())
slope(Tan, lambda _, y: 1 + y * y)
slope(Asin, lambda x, _: 1 / (1 - x * x).Sqrt())
slope(Acos, lambda x, _: -1 / (1 - x * x).Sqrt())
slope(Atan, lambda x, _: 1 / (1 + x * x))
slope(Sinh, lambda x, _: x.Cosh())
slope(Cosh, lambda x, _: x.Sinh())
slope(Asinh, lambda x, _: 1 / (x * x + 1).Sqrt())
slope(Acosh, lambda x, _: 1 / (x * x - 1).Sqrt())
slope(Atanh, lambda x, _: 1 / (1 - x * x))

flat(Sign, Floor, Ceil, Round, BitCast)


@Neg.grad
def grad_neg(x: Term, *, node: GradNode) -> Gradients:
    return -node.g


@Add.grad
@broadcast
def grad_add(a: Term, b: Term, *, node: GradNode) -> Gradients:
    return node.g, node.g


@Sub.grad
@broadcast
def grad_sub(a: Term, b: Term, *, node: GradNode) -> Gradients:
    return node.g, -node.g if node.needs(1) else None


@Mul.grad
@broadcast
def grad_mul(a: Term, b: Term, *, node: GradNode) -> Gradients:
    return node.g * b if node.needs(0) else None, node.g * a if node.needs(1) else None


@Div.grad
@broadcast
def grad_div(a: Term, b: Term, *, node: GradNode) -> Gradients:
    first = node.g / b
    return first, -(first * node.y) if node.needs(1) else None


@Mod.grad
@broadcast
def grad_mod(a: Term, b: Term, *, fmod: int = 0, node: GradNode) -> Gradients:
    """Y is a − b · q, the quotient being constant between its jumps."""
    return node.g, -(node.g * ((a - node.y) / b)) if node.needs(1) else None


@Pow.grad
@broadcast
def grad_pow(x: Term, exponent: Term, *, node: GradNode) -> Gradients:
    """``x′ = e · xᵉ⁻¹``, 0 for e = 0;  ``e′ = y · ln x``, 0 for x = 0: y is constant if e > 0."""
    e = exponent.like(x)
    first = second = None
    if node.needs(0):
        is_zero = e.Equal(0)
        first = node.g * e * x ** (is_zero.Where(1, e) - 1)
    if node.needs(1):
        is_zero = x.Equal(0)
        second = (node.g * node.y * is_zero.Where(1, x).Log()).like(exponent)
    return first, second


@Max.grad
@Min.grad
@broadcast
def grad_extreme(*inputs: Term, node: GradNode) -> Gradients:
    if len(inputs) == 1:
        return node.g
    chosen = [x.Equal(node.y).like(node.y) for x in inputs]
    share = node.g / (node.make.Sum(*chosen))
    return tuple(share * is_it for is_it in chosen)


@Sum.grad
@broadcast
def grad_sum(*inputs: Term, node: GradNode) -> Gradients:
    return (node.g,) * len(inputs)


@Mean.grad
@broadcast
def grad_mean(*inputs: Term, node: GradNode) -> Gradients:
    return (node.g / len(inputs),) * len(inputs)


@Where.grad
@broadcast
def grad_where(condition: Term, x: Term, y: Term, *, node: GradNode) -> Gradients:
    return (
        None,
        condition.Where(node.g, 0) if node.needs(1) else None,
        condition.Where(0, node.g) if node.needs(2) else None,
    )


@Clip.grad
@broadcast
def grad_clip(
    x: Term,
    low: Term | float | None = None,
    high: Term | float | None = None,
    *,
    node: GradNode,
) -> Gradients:
    """The gradient passes where min ≤ x ≤ max; a bound gets it where it is the result."""
    g, passed = node.g, node.g
    of_low = of_high = None
    if low is not None:
        passed = (x >= low).Where(passed, 0)
        of_low = (x < low).Where(g, 0) if node.needs(1) else None
    if high is not None:
        passed = (x <= high).Where(passed, 0)
        of_high = (x > high).Where(g, 0) if node.needs(2) else None
    return passed, of_low, of_high


@Cast.grad
@CastLike.grad
def grad_cast(x: Term, *_: Term, node: GradNode, **__: object) -> Gradients:
    """Rounding is taken as the identity."""
    return node.g.like(x)
