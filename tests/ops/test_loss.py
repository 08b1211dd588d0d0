from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fornix.dtype import BFLOAT16, FLOAT32, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, infer_op, run_op

N, C, S = symbol("N"), symbol("C"), symbol("S")
SHAPES = ((5, 3), (2, 4, 6), (2, 3, 2, 2), (1, 3, 2, 1, 2))
# Some twenty terms of magnitude 1, by two orders of adding.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def case(shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    stream = np.random.default_rng(len(shape))
    scores = stream.standard_normal(shape).astype(dtype)
    target = stream.integers(0, shape[1], (shape[0], *shape[2:]))
    return scores, target, (stream.random(shape[1]) + 0.5).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("softmax", [False, True])
def test_losses_are_torchs(
    shape: tuple[int, ...], reduction: str, weighted: bool, ignored: int | None, softmax: bool
) -> None:
    scores, target, weight = case(shape)
    if ignored is not None:
        target.reshape(-1)[::3] = ignored
    inputs = [scores, target, weight if weighted else None]
    attributes: dict[str, Any] = {"reduction": reduction}
    if ignored is not None:
        attributes["ignore_index"] = ignored
    functional = torch.nn.functional
    loss = functional.cross_entropy if softmax else functional.nll_loss
    expected = loss(
        torch.from_numpy(scores),
        torch.from_numpy(target),
        torch.from_numpy(weight) if weighted else None,
        reduction=reduction,
        ignore_index=-1000 if ignored is None else ignored,
    ).numpy()
    name = "SoftmaxCrossEntropyLoss" if softmax else "NegativeLogLikelihoodLoss"
    check_node(name, inputs, attributes, expected=[expected], **TOLERANCE)


def test_softmax_cross_entropy_gives_log_probabilities() -> None:
    scores, target, _ = case((2, 4, 3), np.float64)
    loss, found = run_op("SoftmaxCrossEntropyLoss", [scores * 900, target], outputs=2)
    expected = torch.log_softmax(torch.from_numpy(scores * 900), 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    check_node("SoftmaxCrossEntropyLoss", [scores * 900, target], expected=[loss, found])


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16.numpy, np.float64])
def test_narrow_losses_are_rounded_once(dtype: Any) -> None:
    scores, target, weight = case((40, 3), dtype)
    wide = [scores.astype(np.float64), target, weight.astype(np.float64)]
    [exact] = run_op("NegativeLogLikelihoodLoss", wide)
    step = 2.0**-50 if dtype is np.float64 else float(2.0 ** (-10 if dtype is np.float16 else -7))
    check_node(
        "NegativeLogLikelihoodLoss",
        [scores, target, weight],
        expected=[exact.astype(dtype)],
        rtol=step,
    )


def test_ignored_scores_may_be_infinite() -> None:
    scores = np.array([[-np.inf, -1], [-2, -3]], np.float32)
    attributes = {"ignore_index": 0}
    check_node(
        "NegativeLogLikelihoodLoss",
        [scores, np.array([0, 1])],
        attributes,
        expected=[np.array(3, np.float32)],
    )


def test_losses_infer_their_shape() -> None:
    scores, target = tensor(FLOAT32, (N, C, S)), tensor(INT64, (N, S))
    [mean] = infer_op("NegativeLogLikelihoodLoss", [scores, target])
    assert mean.shape == ()
    loss, log_prob = infer_op(
        "SoftmaxCrossEntropyLoss", [scores, target], {"reduction": "none"}, outputs=2
    )
    assert (loss.shape, log_prob.shape) == ((N, S), (N, C, S))
    inputs = [scores, unranked(INT64)]
    assert infer_op("NegativeLogLikelihoodLoss", inputs, {"reduction": "none"})[0].shape == (N, S)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3,)), r"scores must be \[N, C, ...\] with at least one class, got \[3\]"),
        (((3, 0), (3,)), r"with at least one class, got \[3, 0\]"),
        (((3, 2, 4), (3, 5)), r"target must have shape \[3, 4\], that of the scores \[3, 2, 4\]"),
        (((3, 2), (3,), (3,)), r"weight must have one entry per class \(2\), got \[3\]"),
    ],
)
def test_losses_say_what_does_not_fit(shapes: Any, message: str) -> None:
    dtypes = (np.float32, np.int64, np.float32)
    inputs = [np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        with pytest.raises(ShapeError, match=message):
            run_op(name, inputs)
        facts = [tensor(INT64 if i == 1 else FLOAT32, x.shape) for i, x in enumerate(inputs)]
        with pytest.raises(ShapeError, match=message):
            infer_op(name, facts)


def test_losses_refuse_other_reductions_and_classes() -> None:
    scores, target, _ = case((4, 3))
    with pytest.raises(ShapeError, match="reduction must be one of none, mean, sum, got 'max'"):
        run_op("NegativeLogLikelihoodLoss", [scores, target], {"reduction": "max"})
    for wrong in (3, -1):
        with pytest.raises(Fail, match=f"target must name one of 3 classes, found {wrong}"):
            run_op("NegativeLogLikelihoodLoss", [scores, np.full(4, wrong)])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_losses_are_lowered(reduction: str, ignored: int | None, dtype: Any) -> None:
    scores, target, weight = case((3, 4, 2), dtype)
    attributes: dict[str, Any] = {"reduction": reduction}
    if ignored is not None:
        target.reshape(-1)[::3] = ignored
        attributes["ignore_index"] = ignored
    for more in ([], [weight]):
        inputs = [scores, target, *more]
        check_lowering("NegativeLogLikelihoodLoss", inputs, attributes)
        check_lowering("SoftmaxCrossEntropyLoss", inputs, attributes, outputs=2)
