from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.models.compare import difference, disagreements, output_difference
from bench.models.seeding import settle_batchnorm
from bench.models.spec import Built
from bench.models.tolerance import FLOOR, terms, tolerance

y = np.array([1.0, -4.0], np.float32)


def test_difference_is_relative_to_the_largest_magnitude() -> None:
    assert difference(np.array([1.2, -4.0]), np.array([1.0, -4.0])) == pytest.approx(0.05)
    assert difference(np.array([0.5]), np.array([0.0])) == 0.5
    assert difference(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


def test_nan_disagrees() -> None:
    built = Built(Path(), [{}], [{"y": y}], tolerance=1.0)
    assert list(disagreements(built, 0, [np.array([np.nan, 1.0], np.float32)])) == ["y"]


def test_labels_agree_wholly_or_not() -> None:
    labels = np.array(["a", "b"], dtype=object)
    assert output_difference("label", labels.copy(), labels) == 0.0
    assert output_difference("label", labels[::-1], labels) == 1.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (y[:, None], r"output 'y': shape \(2,\) expected, got \(2, 1\)"),
        (y.astype(np.float64), "output 'y': float32 expected, got float64"),
    ],
)
def test_shape_and_dtype_must_be_right(value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        output_difference("y", value, y)


def test_labels_must_have_the_right_dtype() -> None:
    with pytest.raises(ValueError, match="output 'label': int64 expected, got int32"):
        output_difference("label", np.array([1], np.int32), np.array([1], np.int64))


def test_terms_count_what_one_element_adds_up() -> None:
    module = nn.Sequential(
        nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ConvTranspose2d(5, 7, 2)
    )
    assert terms(module) == 3 * 9 + 5
    assert terms(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2))) == 8


def test_tolerance_bounds_what_another_order_of_summation_changes() -> None:
    stream = np.random.default_rng(0)
    x = stream.standard_normal((64, 4096)).astype(np.float32)
    layer = nn.Linear(4096, 256, bias=False)
    w = layer.weight.detach().numpy()
    order = stream.permutation(4096)
    forward = np.cumsum(x[0] * w, axis=1, dtype=np.float32)[:, -1]
    other = np.cumsum((x[0] * w)[:, order], axis=1, dtype=np.float32)[:, -1]
    assert FLOOR < difference(other, forward) * 10 < 10 * tolerance(layer)


def test_settled_batchnorm_normalises_the_data() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    x = 5 + 3 * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    settle_batchnorm(module, [x])
    with torch.no_grad():
        y = module(x)
    assert not module.training
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(y.std((0, 2, 3)), torch.ones(4), atol=1e-2)
