"""Losses of classifiers: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

Both pick one score per target and reduce; they differ in what the scores are. Narrow floats are
computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, equal, known
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    const,
    gathered,
    reduce,
    select,
)
from fornix.ops.call import BodyNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import agreed_shape, shape_text
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.softmax import lower_log_softmax
from fornix.ops.types import BF16, FLOAT, I32, I64

REDUCTIONS = ("none", "mean", "sum")

NegativeLogLikelihoodLoss = (
    op("""NegativeLogLikelihoodLoss <ignore_index: int?, reduction: string = "mean">
                                    (input: T, target: Tind, weight: T?) => (loss: T)""",
       since=12, T=FLOAT, Tind=I32 | I64)
    .since(13)
    .since(22, T=+BF16)
)  # fmt: skip


@NegativeLogLikelihoodLoss.infer
def infer_negative_log_likelihood_loss(
    input: Fact,
    target: Fact,
    weight: Fact | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> Fact:
    return _infer_loss(input, target, weight, reduction)


@NegativeLogLikelihoodLoss.kernel
def negative_log_likelihood_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> Array:
    """The negative logarithms of the probabilities of the target classes, weighted per class.

    loss[n, *d] = −weight[t] · input[n, t, *d],  t = target[n, *d];  input[N, C, *D], target[N, *D]
    "sum" adds them up, "mean" divides that by the sum of weights, "none" leaves loss[N, *D].
    Targets that equal ignore_index count for nothing. Raises Fail for one outside 0..C−1.
    Source: ONNX NegativeLogLikelihoodLoss-22.
    """
    _check_shapes(input.shape, target.shape, None if weight is None else weight.shape, reduction)
    loss = _picked_loss(widened(input), target, weight, ignore_index, reduction)
    return loss.astype(input.dtype, copy=False)


@NegativeLogLikelihoodLoss.lower
def lower_negative_log_likelihood_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> Tensor:
    _check_shapes(input.shape, target.shape, None if weight is None else weight.shape, reduction)
    wide = cast_tensor(input, wide_dtype(input.dtype))
    loss = _lower_picked_loss(wide, target, weight, ignore_index, reduction)
    return cast_tensor(loss, input.dtype)


@NegativeLogLikelihoodLoss.body(since=12)
def negative_log_likelihood_loss_body(*, node: BodyNode) -> str:
    return f"""
        Scores = Cast <to = {_wide_code(node)}> (input)
        {_picked_body(node, "target", "weight")}
        loss = CastLike (Result, input)
    """


def _wide_code(node: BodyNode) -> int:
    """The number of the type that the scores are computed in."""
    return wide_dtype(node.dtype(0)).code


def _picked_body(node: BodyNode, target: str, weight: str) -> str:
    """`_picked_loss` of ``Scores`` in text; it gives ``Result``."""
    classes = f"""
        Skipped = Equal ({target}, Other)
        Class = Where (Skipped, Start, {target})"""
    counted = """
        Picked = Where (Skipped, Nothing, Column)
        Share = Where (Skipped, Nothing, Each)"""
    everything = """
        Picked = Identity (Column)
        Share = Identity (Each)"""
    weighted = f"""
        Wide = CastLike ({weight}, Scores)
        Each = Gather (Wide, Class)"""
    evenly = f"""
        Extents = Shape ({target})
        Ones = ConstantOfShape <value = float[1] {{1}}> (Extents)
        Each = CastLike (Ones, Scores)"""
    results = {
        "none": "Result = Identity (Losses)",
        "sum": "Result = ReduceSum <keepdims = 0> (Losses)",
        "mean": """Total = ReduceSum <keepdims = 0> (Losses)
        Shares = ReduceSum <keepdims = 0> (Share)
        Result = Div (Total, Shares)""",
    }
    ignores = "ignore_index" in node.attributes
    given = "Constant <value_int: int = @ignore_index> ()"
    return f"""
        Zero = Constant <value_float = 0.0> ()
        Nothing = CastLike (Zero, Scores)
        Start = CastLike (Zero, {target})
        Ignored = {given if ignores else "Identity (Start)"}
        Other = CastLike (Ignored, {target})
        {classes if ignores else f"Class = Identity ({target})"}
        Along = Constant <value_ints = [1]> ()
        Index = Unsqueeze (Class, Along)
        Columns = GatherElements <axis = 1> (Scores, Index)
        Column = Squeeze (Columns, Along)
        {weighted if node.has(2) else evenly}
        {counted if ignores else everything}
        Gains = Mul (Share, Picked)
        Losses = Neg (Gains)
        {results[str(node.attributes["reduction"])]}"""


SoftmaxCrossEntropyLoss = (
    op("""SoftmaxCrossEntropyLoss <ignore_index: int?, reduction: string = "mean">
                                  (scores: T, labels: Tind, weights: T?)
                               => (output: T, log_prob: T?)""",
       since=12, T=FLOAT, Tind=I32 | I64)
    .since(13, T=+BF16)
)  # fmt: skip


@SoftmaxCrossEntropyLoss.infer
def infer_softmax_cross_entropy_loss(
    scores: Fact,
    labels: Fact,
    weights: Fact | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> tuple[Fact, ...]:
    return _infer_loss(scores, labels, weights, reduction), Fact(scores.type)


@SoftmaxCrossEntropyLoss.kernel
def softmax_cross_entropy_loss(
    scores: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> tuple[Array, ...]:
    """NegativeLogLikelihoodLoss of log_prob = log softmax(scores) along the classes, axis 1.

    scores[N, C, *D] · labels[N, *D] · weights[C] → output[] or output[N, *D], log_prob[N, C, *D]
    Source: ONNX SoftmaxCrossEntropyLoss-13.
    """
    _check_shapes(scores.shape, labels.shape, None if weights is None else weights.shape, reduction)
    wide = widened(scores)
    shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
    log_prob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    output = _picked_loss(log_prob, labels, weights, ignore_index, reduction)
    return (
        output.astype(scores.dtype, copy=False),
        log_prob.astype(scores.dtype, copy=False),
    )


@SoftmaxCrossEntropyLoss.lower
def lower_softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    _check_shapes(scores.shape, labels.shape, None if weights is None else weights.shape, reduction)
    log_prob = lower_log_softmax(cast_tensor(scores, wide_dtype(scores.dtype)), axis=1)
    output = _lower_picked_loss(log_prob, labels, weights, ignore_index, reduction)
    return cast_tensor(output, scores.dtype), cast_tensor(log_prob, scores.dtype)


@SoftmaxCrossEntropyLoss.body(since=12)
def softmax_cross_entropy_loss_body(*, node: BodyNode) -> str:
    return f"""
        Given = Cast <to = {_wide_code(node)}> (scores)
        Scores = LogSoftmax <axis = 1> (Given)
        {_picked_body(node, "labels", "weights")}
        output = CastLike (Result, scores)
        log_prob = CastLike (Scores, scores)
    """


def _infer_loss(scores: Fact, target: Fact, weight: Fact | None, reduction: str) -> Fact:
    known_weight = weight.shape if weight is not None and weight.has_rank else None
    if scores.has_rank and target.has_rank:
        _check_shapes(scores.shape, target.shape, known_weight, reduction)
    if reduction != "none":
        return tensor(scores.dtype, ())
    samples = tensor(None, (scores.shape[0], *scores.shape[2:])) if scores.has_rank else None
    return tensor(scores.dtype, agreed_shape(target, samples))


def _check_shapes(
    scores: Sequence[DimLike],
    target: Sequence[DimLike],
    weight: Sequence[DimLike] | None,
    reduction: str,
) -> None:
    require(
        reduction in REDUCTIONS,
        f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}",
    )
    require(
        len(scores) >= 2 and known(scores[1]) != 0,
        f"scores must be [N, C, ...] with at least one class, got {shape_text(scores)}",
    )
    wanted = [scores[0], *scores[2:]]
    fits = len(target) == len(wanted) and all(
        equal(a, b) is not False for a, b in zip(target, wanted, strict=True)
    )
    require(
        fits,
        f"target must have shape {shape_text(wanted)}, that of the scores {shape_text(scores)} "
        f"without classes, got {shape_text(target)}",
    )
    if weight is not None:
        require(
            len(weight) == 1 and equal(weight[0], scores[1]) is not False,
            f"weight must have one entry per class ({scores[1]}), got {shape_text(weight)}",
        )


def _picked_loss(
    scores: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int | None,
    reduction: str,
) -> Array:
    """The loss in the dtype of ``scores``: [N, C, *D] with target[N, *D]."""
    classes = scores.shape[1]
    counts = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    wrong = target[counts & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise Fail(f"target must name one of {classes} classes, found {wrong[0]}")
    index = np.where(counts, target, 0).astype(np.intp)
    picked = np.take_along_axis(scores, index[:, None], axis=1)[:, 0]
    each = np.ones(classes, scores.dtype) if weight is None else widened(weight)
    shares = np.where(counts, each[index], 0)
    # An ignored score may be infinite; it must not meet its weight 0.
    loss = np.asarray(-shares * np.where(counts, picked, 0))
    if reduction == "none":
        return loss
    total = loss.sum()
    return np.asarray(total / shares.sum() if reduction == "mean" else total, scores.dtype)


def _lower_picked_loss(
    scores: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int | None,
    reduction: str,
) -> Tensor:
    """`_picked_loss` for lowerings."""
    dtype, classes = scores.dtype, scores.shape[1]

    def both(*i: DimLike) -> tuple[Scalar, Scalar]:
        """The loss of one target, and its share of the mean."""
        label = target[i]
        counts = None if ignore_index is None else apply("ne", label, ignore_index)
        index = gathered(label if counts is None else select(counts, label, 0), classes)
        picked: Scalar = scores[(i[0], index, *i[1:])]
        share: Scalar = const(1.0, dtype) if weight is None else cast(weight[index], dtype)
        if counts is not None:
            picked, share = select(counts, picked, 0), select(counts, share, 0)
        return -share * picked, share

    if reduction == "none":
        return compute(target.shape, lambda *i: both(*i)[0])
    total = reduce("sum", target.shape, lambda *i: both(*i)[0])
    if reduction == "sum":
        return compute((), lambda: total)
    return compute((), lambda: total / reduce("sum", target.shape, lambda *i: both(*i)[1]))
