from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, check, random

SCORES = random(3, 4, 2)
LABELS = np.array([[0, 2], [1, 1], [3, 0]])
WEIGHTS = random(4, low=0.5)


@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(reduction: str, weights: Array | None, ignored: int | None) -> None:
    attributes: dict[str, Any] = {"reduction": reduction}
    attributes |= {} if ignored is None else {"ignore_index": ignored}
    options = attributes if ignored is not None else {**attributes, "ignore_index": -1}

    def nll(x: torch.Tensor, t: torch.Tensor, w: torch.Tensor | None = None) -> torch.Tensor:
        return functional.nll_loss(x, t, w, **options)

    def entropy(x: torch.Tensor, t: torch.Tensor, w: torch.Tensor | None = None) -> torch.Tensor:
        return functional.cross_entropy(x, t, w, **options)

    labels = LABELS if ignored != -100 else np.where(LABELS == 1, -100, LABELS)
    inputs = [SCORES, labels, weights]
    check("NegativeLogLikelihoodLoss", inputs, attributes, of_inputs=[0], peer=nll)
    check("SoftmaxCrossEntropyLoss", inputs, attributes, of_inputs=[0], peer=entropy)


def test_log_probabilities_have_gradients_too() -> None:
    check("SoftmaxCrossEntropyLoss", [SCORES, LABELS], outputs=2, of=1, of_inputs=[0])


def test_losses_of_opset_12() -> None:
    check("SoftmaxCrossEntropyLoss", [SCORES, LABELS], of_inputs=[0], opset=12, dims=["static"])


def test_class_weights_have_no_gradient() -> None:
    case = Case("NegativeLogLikelihoodLoss", [SCORES, LABELS, WEIGHTS])
    with pytest.raises(NotSupported, match="the gradient of class weights is not supported"):
        case.gradients(["x2"])
