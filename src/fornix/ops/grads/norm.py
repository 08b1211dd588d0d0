"""Derivatives of normalizations, and of Dropout.

With x̂ = (x − mean) / σ over some axes and the gradient ĝ of x̂, that of x is
(ĝ − mean ĝ − x̂ · mean(ĝ · x̂)) / σ; what differs are the axes, and how scale and bias are laid out.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.dtype import BOOL
from fornix.ops.batch_norm import BatchNormalization, Dropout
from fornix.ops.geometry import normalize_axis
from fornix.ops.grads.conv import of_channels
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.group_norm import LRN, GroupNormalization, InstanceNormalization
from fornix.ops.norm import (
    VARIANCE_FLOOR,
    LayerNormalization,
    LpNormalization,
    MeanVarianceNormalization,
    RMSNormalization,
)

PER_CHANNEL = 21
"""Version of GroupNormalization from which scale and bias have one element per channel."""


def _standardized(x: Term, axes: Sequence[int], epsilon: float) -> tuple[Term, Term]:
    """x̂ and 1 / σ."""
    deviation = x - x.make.mean(x, axes)
    variance = x.make.mean(deviation * deviation, axes)
    inverse = 1 / (variance + epsilon).Sqrt()
    return deviation * inverse, inverse


def _of_standardized(g: Term, standard: Term, inverse: Term, axes: Sequence[int]) -> Term:
    """The gradient of x, given that of x̂."""
    make = g.make
    return inverse * (g - make.mean(g, axes) - standard * make.mean(g * standard, axes))


def _channels(x: Term, rank: int) -> Term:
    """One element per channel, so that it broadcasts to a tensor of this rank."""
    return x.make.unsqueeze(x, range(1, rank - 1))


@LayerNormalization.grad
def grad_layer_normalization(
    x: Term,
    scale: Term,
    b: Term | None = None,
    *,
    axis: int,
    epsilon: float,
    node: GradNode,
    **_: int,
) -> Gradients:
    node.only_first()
    axes = list(range(normalize_axis(axis, x.rank), x.rank))
    standard, inverse = _standardized(x, axes, epsilon)
    of_x = _of_standardized(node.g * scale, standard, inverse, axes)
    of_scale = node.make.sum_to(node.g * standard, scale) if node.needs(1) else None
    return of_x, of_scale, None if b is None else node.make.sum_to(node.g, b)


@RMSNormalization.grad
def grad_rms_normalization(
    x: Term, scale: Term, *, axis: int, epsilon: float, node: GradNode, **_: int
) -> Gradients:
    make = node.make
    axes = list(range(normalize_axis(axis, x.rank), x.rank))
    inverse = 1 / (make.mean(x * x, axes) + epsilon).Sqrt()
    normal = x * inverse
    g = (node.g * scale).like(x)
    of_scale = make.sum_to(node.g * normal.like(node.g), scale) if node.needs(1) else None
    return inverse * (g - normal * make.mean(g * normal, axes)), of_scale


@InstanceNormalization.grad
def grad_instance_normalization(
    x: Term, scale: Term, b: Term, *, epsilon: float, node: GradNode
) -> Gradients:
    axes = list(range(2, x.rank))
    standard, inverse = _standardized(x, axes, epsilon)
    of_x = _of_standardized(node.g * _channels(scale, x.rank), standard, inverse, axes)
    return of_x, of_channels(node.g * standard), of_channels(node.g)


@GroupNormalization.grad
def grad_group_normalization(
    x: Term,
    scale: Term,
    bias: Term,
    *,
    epsilon: float,
    num_groups: int,
    node: GradNode,
    **_: int,
) -> Gradients:
    make, g = node.make, node.g
    grouped = make.ints([0, num_groups, -1])
    per_channel = scale if node.version >= PER_CHANNEL else _repeated(scale, x, num_groups)
    standard, inverse = _standardized(x.Reshape(grouped), [2], epsilon)
    weighted = (g * _channels(per_channel, x.rank)).Reshape(grouped)
    of_x = make.shaped(_of_standardized(weighted, standard, inverse, [2]), x)
    of_scale, of_bias = of_channels(g * make.shaped(standard, x)), of_channels(g)
    if node.version < PER_CHANNEL:
        groups = make.ints([num_groups, -1])
        of_scale = make.sum(of_scale.Reshape(groups), [1], keepdims=False)
        of_bias = make.sum(of_bias.Reshape(groups), [1], keepdims=False)
    return of_x, of_scale, of_bias


def _repeated(scale: Term, x: Term, groups: int) -> Term:
    """An element per group repeated for each of its channels."""
    make = x.make
    per_group = make.extent(x, 1).Div(make.ints([groups]))
    wide = make.unsqueeze(scale, [1]).Expand(make.joined([groups, per_group]))
    return wide.Reshape(make.ints([-1]))


@BatchNormalization.grad
def grad_batch_normalization(
    x: Term,
    scale: Term,
    b: Term,
    mean: Term,
    var: Term,
    *,
    epsilon: float,
    training_mode: int = 0,
    node: GradNode,
    **_: float,
) -> Gradients:
    """In training, statistics are x's own and the given ones matter for the running ones only."""
    node.only_first()
    g, rank = node.g, x.rank
    if training_mode or (node.version < 14 and node.output_count > 1):
        axes = [0, *range(2, rank)]
        standard, inverse = _standardized(x, axes, epsilon)
        of_x = _of_standardized(g * _channels(scale, rank), standard, inverse, axes)
        return of_x, of_channels(g * standard), of_channels(g)
    inverse = 1 / (var + epsilon).Sqrt()
    factor = (scale.like(inverse) * inverse).like(x)
    total = of_channels(g)
    deviation = x - _channels(mean.like(x), rank)
    along = of_channels(g * deviation)  # Σ g · (x − mean)
    return (
        g * _channels(factor, rank),
        (along * inverse.like(x)).like(scale),
        total.like(b),
        -(factor * total).like(mean),
        (along * factor).like(var) * (-0.5) * inverse * inverse,
    )


@LpNormalization.grad
def grad_lp_normalization(x: Term, *, axis: int, p: int, node: GradNode) -> Gradients:
    """``x′ = (g − n′ · Σ g · y) / n`` with the norm n, whose derivative n′ is y or sign(x)."""
    make, g, y = node.make, node.g, node.y
    norm = make.along("ReduceL1" if p == 1 else "ReduceL2", x, [axis])
    is_zero = norm.Equal(0)
    weighted = make.sum(g * y, [axis])
    inner = g - (x.Sign() if p == 1 else y) * weighted
    return is_zero.Where(0, inner / is_zero.Where(1, norm))


@MeanVarianceNormalization.grad
def grad_mean_variance_normalization(x: Term, *, axes: Sequence[int], node: GradNode) -> Gradients:
    """As `_of_standardized`, with y = (x − mean) / (σ + 1e-9); 0 where σ is 0."""
    make, g = node.make, node.g
    deviation = x - make.mean(x, axes)
    sigma = make.mean(deviation * deviation, axes).Sqrt()
    inverse = 1 / (sigma + VARIANCE_FLOOR)
    along = make.mean(g * deviation, axes) / sigma.Equal(0).Where(1, sigma)
    return inverse * (g - make.mean(g, axes) - node.y * along)


@LRN.grad
def grad_lrn(
    x: Term, *, alpha: float, beta: float, bias: float, size: int, node: GradNode
) -> Gradients:
    """``y = x · s^−beta`` with s = bias + alpha · mean of x² over neighbouring channels."""
    before = (size - 1) // 2
    after = size - 1 - before
    s = bias + alpha * _over_channels(x * x, before, after)
    first = node.g * s ** (-beta)
    spread = _over_channels(first * x / s, after, before)
    return first - 2 * alpha * beta * (x * spread)


def _over_channels(x: Term, before: int, after: int) -> Term:
    """Sums over neighbouring channels, divided by the number of neighbours, of x[N, C, *S]."""
    flat = x.Reshape(x.make.joined([x.make.extent(x, 0), 1, x.make.extent(x, 1), -1]))
    pooled = flat.AveragePool(
        kernel_shape=[before + 1 + after, 1],
        pads=[before, 0, after, 0],
        count_include_pad=1,
    )
    return x.make.shaped(pooled, x)


@Dropout.grad
def grad_dropout(
    x: Term,
    ratio: Term | None = None,
    training_mode: Term | None = None,
    *,
    node: GradNode,
    **_: int,
) -> Gradients:
    """What the mask kept passes, scaled alike; outside of training everything does."""
    known = None if training_mode is None else training_mode.fact.constant
    if training_mode is None or (known is not None and not known.any()):
        return node.g
    kept = 0.5 if ratio is None else 1 - ratio.like(node.g)
    scaled = node.g / kept
    chosen = scaled if known is not None else training_mode.Where(scaled, node.g)
    return node.output(1).cast(BOOL).Where(chosen, 0)
