from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fornix.errors import Fail, ShapeError
from tests.ops.harness import check_inference, check_lowering, run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(17)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 4), (1, 5), (6, 1)])
def test_regions_are_sampled(mode: str, size: tuple[int, int]) -> None:
    rois = np.array([[0, 0, 1, 1], [0.23, -0.1, 0.7, 1.2], [0.9, 0.8, 0.1, 0.2]], np.float32)
    inputs = [normal(2, 3, 6, 7), rois, np.array([0, 1, 1], np.int32), np.array(size, np.int32)]
    agree("CropAndResize", inputs, {"mode": mode, "extrapolation_value": 0.5})


def test_what_does_not_fit_is_named() -> None:
    ids, size = np.array([0], np.int32), np.array([2, 2], np.int32)
    x, box = normal(1, 1, 2, 2), normal(1, 4)
    with pytest.raises(ShapeError, match=r"rois \[R, 4\], got"):
        run_op("CropAndResize", [x, normal(1, 3), ids, size], **WHERE)
    with pytest.raises(ShapeError, match="mode must be bilinear or nearest, got cubic"):
        run_op("CropAndResize", [x, box, ids, size], {"mode": "cubic"}, **WHERE)
    with pytest.raises(Fail, match=r"batch_indices must be in \[0, 0\]"):
        run_op("CropAndResize", [x, box, ids + 1, size], **WHERE)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_groups_are_normalized_as_torch_does(last: int, activation: int) -> None:
    x, gamma, beta = normal(2, 6, 4, 5), normal(6), normal(6)
    y = torch.nn.functional.group_norm(
        *map(torch.tensor, (x,)), 3, *map(torch.tensor, (gamma, beta))
    )
    wanted = (torch.nn.functional.silu(y) if activation else y).numpy()
    inputs = [x.transpose(0, 2, 3, 1) if last else x, gamma, beta]
    flags = {"groups": 3, "activation": activation, "channels_last": last}
    found = run_op("GroupNorm", inputs, flags, **WHERE)
    check_inference("GroupNorm", inputs, flags, found, **WHERE, outputs=1)
    check_lowering("GroupNorm", inputs, flags, symbolic=False, **WHERE)
    wanted = wanted.transpose(0, 2, 3, 1) if last else wanted
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


def test_an_activation_is_none_or_one() -> None:
    with pytest.raises(ShapeError, match="activation must be 0 or 1, got 2"):
        run_op("GroupNorm", [normal(1, 1, 1, 1)] * 3, {"groups": 1, "activation": 2}, **WHERE)
