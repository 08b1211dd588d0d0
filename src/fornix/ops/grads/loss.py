"""Derivatives of losses by their scores; class weights have none here."""

from __future__ import annotations

import numpy as np

from fornix.errors import NotSupported
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.loss import NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss

CLASSES = 1
"""The axis of the scores along which classes lie."""


@NegativeLogLikelihoodLoss.grad
def grad_negative_log_likelihood(
    scores: Term,
    target: Term,
    weight: Term | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
    node: GradNode,
) -> Gradients:
    return _picked(scores, target, weight, ignore_index, reduction, node)


@SoftmaxCrossEntropyLoss.grad
def grad_softmax_cross_entropy(
    scores: Term,
    labels: Term,
    weights: Term | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
    node: GradNode,
) -> Gradients:
    """Through log softmax: x′ = g − softmax(x) · Σ g, g the gradient of log_prob."""
    make = node.make
    g = None
    if node.gradients[0] is not None:
        g = _picked(scores, labels, weights, ignore_index, reduction, node)
    other = node.gradients[1] if len(node.gradients) > 1 else None
    if g is None or other is not None:
        g = other if g is None or other is None else g + other
    if g is None:
        return None
    log_prob = scores - make.along("ReduceLogSumExp", scores, [CLASSES])
    return g - log_prob.Exp() * make.sum(g, [CLASSES])


def _picked(
    scores: Term,
    target: Term,
    weight: Term | None,
    ignore_index: int | None,
    reduction: str,
    node: GradNode,
) -> Term:
    """Minus the weight of its class at every target, times the gradient of the loss."""
    if node.needs(2):
        raise NotSupported("the gradient of class weights is not supported")
    make, g = node.make, node.g
    ends = make.constant(np.array([0, 1], scores.dtype.numpy))
    shares = make.OneHot(target, make.extent(scores, CLASSES), ends, axis=CLASSES)
    if weight is not None:
        shares = shares * make.unsqueeze(weight, range(1, scores.rank - 1))
    if ignore_index is not None:
        is_ignored = make.unsqueeze(target.Equal(ignore_index), [CLASSES])
        shares = is_ignored.Where(0, shares)
    if reduction == "none":
        return -(shares * make.unsqueeze(g, [CLASSES]))
    if reduction == "mean":
        g = g / make.sum(shares, range(scores.rank), keepdims=False)
    return -(shares * g)
