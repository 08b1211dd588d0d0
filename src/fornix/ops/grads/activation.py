"""Derivatives of activations.

At a corner the slope is the one that PyTorch takes: below it for Relu and its kin.
"""

from __future__ import annotations

from fornix.ops.activation import (
    GELU_CUBIC,
    SQRT_2_OVER_PI,
    SQRT_HALF,
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    PRelu,
    Relu,
    Selu,
    Shrink,
    Sigmoid,
    Softplus,
    Softsign,
    SwiGLU,
    Swish,
    Tanh,
    ThresholdedRelu,
)
from fornix.ops.geometry import normalize_axis
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.slope import broadcast, flat, slope
from fornix.ops.grads.term import Term
from fornix.ops.softmax import Hardmax, LogSoftmax, Softmax


def _inside(x: Term, low: float, high: float) -> Term:
    """1 where x lies between the bounds, else 0."""
    return (x > low).And(x < high).like(x)


def _elu_slope(x: Term, alpha: float) -> Term:
    """1 above 0, else alpha · eˣ; of the branch not taken no exponential overflows."""
    return (x > 0).Where(1, alpha * x.Min(0).Exp())


def _gelu_slope(x: Term, *, approximate: str) -> Term:
    """Φ(x) + x · φ(x), or the derivative of what approximates x · Φ(x)."""
    if approximate == "none":
        density = 0.5 * SQRT_2_OVER_PI * (-0.5 * (x * x)).Exp()
        return 0.5 * (1 + (x * SQRT_HALF).Erf()) + x * density
    square = x * x
    bend = (SQRT_2_OVER_PI * (x * (1 + GELU_CUBIC * square))).Tanh()
    inner = SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * square)
    return 0.5 * (1 + bend) + 0.5 * x * (1 - bend * bend) * inner


def _mish_slope(x: Term) -> Term:
    bend = x.Softplus().Tanh()
    return bend + x * x.Sigmoid() * (1 - bend * bend)


def _swish_slope(x: Term, alpha: float) -> Term:
    gate = (alpha * x).Sigmoid()
    return gate + alpha * (x * gate * (1 - gate))


slope(Relu, lambda x, _: (x > 0).like(x))
slope(LeakyRelu, lambda x, _, *, alpha: (x > 0).Where(1, x.make.full(alpha, x)))
slope(ThresholdedRelu, lambda x, _, *, alpha: (x > alpha).like(x))
slope(Elu, lambda x, _, *, alpha: _elu_slope(x, alpha))
slope(Celu, lambda x, _, *, alpha: (x > 0).Where(1, (x.Min(0) / alpha).Exp()))
slope(Selu, lambda x, _, *, alpha, gamma: gamma * _elu_slope(x, alpha))
slope(Sigmoid, lambda _, y: y * (1 - y))
slope(HardSigmoid, lambda x, _, *, alpha, beta: alpha * _inside(alpha * x + beta, low=0, high=1))
slope(HardSwish, lambda x, _: (x > 3).like(x) + _inside(x, -3, 3) * (x / 3 + 0.5))
slope(Swish, lambda x, _, *, alpha: _swish_slope(x, alpha))
slope(Mish, lambda x, _: _mish_slope(x))
slope(Gelu, lambda x, _, *, approximate: _gelu_slope(x, approximate=approximate))
slope(Softplus, lambda x, _: x.Sigmoid())
slope(Softsign, lambda x, _: ((1 + x.Abs()) * (1 + x.Abs())).Reciprocal())
slope(Tanh, lambda _, y: 1 - y * y)
slope(Shrink, lambda x, _, *, lambd, **__: (x > lambd).Or(x < -lambd).like(x))

flat(Hardmax)


@PRelu.grad
@broadcast
def grad_prelu(x: Term, slope: Term, *, node: GradNode) -> Gradients:
    is_above = x > 0
    of_slope = is_above.Where(0, node.g * x) if node.needs(1) else None
    return is_above.Where(node.g, node.g * slope), of_slope


@SwiGLU.grad
def grad_swiglu(a: Term, b: Term, *, alpha: float, node: GradNode) -> Gradients:
    return node.g * b * _swish_slope(a, alpha), node.g * (a * (alpha * a).Sigmoid())


def softmax_axes(x: Term, axis: int, node: GradNode) -> list[int]:
    """The axes that are normalized together: before opset 13 all from ``axis`` on."""
    first = normalize_axis(axis, x.rank)
    return [first] if node.version >= 13 else list(range(first, x.rank))


@Softmax.grad
def grad_softmax(x: Term, *, axis: int, node: GradNode) -> Gradients:
    """x′ = y · (g − Σ g · y)."""
    weighted = node.g * node.y
    return weighted - node.y * node.make.sum(weighted, softmax_axes(x, axis, node))


@LogSoftmax.grad
def grad_log_softmax(x: Term, *, axis: int, node: GradNode) -> Gradients:
    """x′ = g − eʸ · Σ g."""
    return node.g - node.y.Exp() * node.make.sum(node.g, softmax_axes(x, axis, node))
