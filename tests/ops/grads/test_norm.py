from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, check, random

X = random(3, 4, 5)
ROW, OTHER_ROW = random(5, seed=3), random(5, seed=4)
SCALE, BIAS = random(4, seed=3), random(4, seed=4)
MEAN, VARIANCE = random(4, seed=5), random(4, seed=6, low=0.5)
IMAGES = random(2, 4, 3, 2)

CASES: list[tuple[str, list[Array | None], dict[str, Any], int]] = [
    ("LayerNormalization", [X, ROW, OTHER_ROW], {}, 28),
    ("LayerNormalization", [X, random(4, 5), None], {"axis": 1}, 28),
    ("RMSNormalization", [X, ROW], {}, 28),
    ("RMSNormalization", [X, random(4, 5)], {"axis": 1}, 28),
    ("InstanceNormalization", [X, SCALE, BIAS], {}, 28),
    ("GroupNormalization", [IMAGES, SCALE, BIAS], {"num_groups": 2}, 28),
    ("GroupNormalization", [IMAGES, SCALE[:2], BIAS[:2]], {"num_groups": 2}, 18),
    ("BatchNormalization", [X, SCALE, BIAS, MEAN, VARIANCE], {}, 28),
    ("LpNormalization", [X], {"axis": 1}, 28),
    ("LpNormalization", [X], {"axis": 1, "p": 1}, 28),
    ("MeanVarianceNormalization", [IMAGES], {}, 28),
    ("MeanVarianceNormalization", [X], {"axes": [1]}, 13),
    ("LRN", [random(2, 7, 2, 2)], {"size": 4, "alpha": 0.3, "beta": 0.6, "bias": 1.5}, 28),
]


@pytest.mark.parametrize(("name", "inputs", "attributes", "opset"), CASES)
def test_normalizations(
    name: str, inputs: list[Array | None], attributes: dict[str, Any], opset: int
) -> None:
    check(name, inputs, attributes, opset=opset)


def test_layer_normalization_agrees_with_the_peer() -> None:
    check("LayerNormalization", [X, ROW, OTHER_ROW], {"epsilon": 0.5}, differences=False,
          peer=lambda x, w, b: functional.layer_norm(x, (5,), w, b, 0.5))  # fmt: skip


@pytest.mark.parametrize("outputs", [1, 3])
def test_in_training_statistics_depend_on_the_data(outputs: int) -> None:
    def batch_norm(*inputs: torch.Tensor) -> torch.Tensor:
        x, w, b, mean, variance = inputs
        return functional.batch_norm(x, mean.clone(), variance.clone(), w, b, True, 0.1, 0.25)

    inputs = [X, SCALE, BIAS, MEAN, VARIANCE]
    attributes = {"training_mode": 1, "epsilon": 0.25}
    check("BatchNormalization", inputs, attributes, outputs=outputs, peer=batch_norm,
          of_inputs=[0, 1, 2])  # fmt: skip


def test_further_outputs_are_declined() -> None:
    inputs = [X, SCALE, BIAS, MEAN, VARIANCE]
    case = Case("BatchNormalization", inputs, {"training_mode": 1}, outputs=3, of=1)
    with pytest.raises(NotSupported, match="the gradient of its output running_mean is not"):
        case.gradients(["x0"])


def test_dropout_passes_everything_outside_of_training() -> None:
    check("Dropout", [X])
    check("Dropout", [X, np.array(0.5), np.array(False)], of_inputs=[0])
    check("Dropout", [X, np.array(0.5), np.array(False)], of_inputs=[0], constants=[1, 2])


@pytest.mark.parametrize("ratio", [None, np.array(0.25)])
@pytest.mark.parametrize("constants", [[], [2]])
def test_in_training_dropout_passes_what_the_mask_kept(
    ratio: Array | None, constants: list[int]
) -> None:
    data = random(50, low=1.0)
    inputs = [data, ratio, np.array(True)]
    case = Case("Dropout", inputs, constants=constants)
    case.graph.outputs = [case.node.output]  # in the same run, as masks are random
    y, gradient = case.run(["x0"])
    np.testing.assert_allclose(gradient * data, y * case.weights)
