from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, check, random

X = random(2, 3, 4, 5)
GRID = random(2, 3, 2, 2, seed=1, low=-1.4, high=1.4)
READINGS = list(itertools.product(["linear", "cubic", "nearest"], ["zeros", "border", "reflection"],
                                  [0, 1]))  # fmt: skip


@pytest.mark.parametrize(("mode", "padding", "align"), READINGS)
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}

    def peer(x: Any, grid: Any) -> Any:
        return functional.grid_sample(x, grid, names[mode], padding, align_corners=bool(align))

    given = {"mode": mode, "padding_mode": padding, "align_corners": align}
    check("GridSample", [X, GRID], given, peer=peer, differences=False)


def test_grid_sample_of_volumes_and_rows() -> None:
    volume, places = random(1, 2, 3, 2, 4), random(1, 2, 1, 3, 3, seed=1)
    check("GridSample", [volume, places], {}, peer=lambda x, grid: functional.grid_sample(
        x, grid, align_corners=False))  # fmt: skip
    check("GridSample", [random(1, 2, 5), random(1, 4, 1, seed=1, low=-0.9, high=0.9)])
    check("GridSample", [X, GRID], {"mode": "bicubic"}, opset=16, dims=["static"])


def test_grid_sample_of_one_element_and_of_places_that_are_no_numbers() -> None:
    check("GridSample", [random(1, 1, 1, 1), random(1, 3, 1, 2, seed=1)],
          {"padding_mode": "reflection", "align_corners": 1}, dims=["static"])  # fmt: skip
    inputs = [np.ones((1, 1, 2, 2)), np.full((1, 1, 1, 2), np.nan)]
    case = Case("GridSample", inputs, {"padding_mode": "border"})
    assert np.isnan(case.gradients(["x0"])[0]).any()


def deformed(x: Any, w: Any, offset: Any, b: Any = None, mask: Any = None, *, pad: int) -> Any:
    """Two rows and columns of taps: images read by `grid_sample`, multiplied by the filters."""
    height, width = x.shape[2:]
    size = [height + 2 * pad - 1, width + 2 * pad - 1]
    columns = []
    for tap, (i, j) in enumerate(itertools.product(range(2), range(2))):
        rows = torch.arange(size[0]).reshape(-1, 1) + i - pad + offset[:, 2 * tap]
        places = torch.arange(size[1]) + j - pad + offset[:, 2 * tap + 1]
        grid = torch.stack([2 * places / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
        read = functional.grid_sample(x, grid, align_corners=True)
        columns.append(read if mask is None else read * mask[:, tap : tap + 1])
    stacked = torch.stack(columns, 2)
    y = torch.einsum("mck,nckhw->nmhw", w.reshape(*w.shape[:2], 4), stacked)
    return y if b is None else y + b.reshape(-1, 1, 1)


def test_deform_conv() -> None:
    w, offset = random(2, 3, 2, 2, seed=2), random(2, 8, 5, 6, seed=3)
    b, mask = random(2, seed=4), random(2, 4, 5, 6, seed=5)
    pads = {"pads": [1, 1, 1, 1]}
    check("DeformConv", [X, w, offset, b, mask], pads, dims=["static"], differences=False,
          peer=lambda *given: deformed(*given, pad=1))  # fmt: skip
    check("DeformConv", [X, w, offset[:, :, 1:4, 1:5]], dims=["static"], differences=False,
          peer=lambda *given: deformed(*given, pad=0))  # fmt: skip


def test_deform_conv_in_groups_with_strides_and_dilations() -> None:
    x, w = random(1, 4, 5, 5), random(2, 2, 2, 2, seed=1)
    attributes = {"group": 2, "offset_group": 4, "strides": [2, 1], "dilations": [1, 2]}
    check("DeformConv", [x, w, random(1, 32, 2, 3, seed=2), random(2, seed=3),
                         random(1, 16, 2, 3, seed=4)], attributes, dims=["static"])  # fmt: skip


def test_deform_conv_of_unknown_extents_is_declined() -> None:
    case = Case("DeformConv", [X, random(2, 3, 2, 2), random(2, 8, 3, 4)], dims="symbolic")
    with pytest.raises(NotSupported, match="the extents of X and W have to be known before a run"):
        case.gradients(["x0"])


ROIS = np.array([[0.3, 0.2, 4.1, 3.3], [-0.9, 1.1, 2.2, 5.3], [1.2, 0.7, 1.5, 1.3]])
IMAGES = np.array([0, 1, 1])


@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(transformation: str, ratio: int) -> None:
    attributes = {
        "output_height": 2,
        "output_width": 3,
        "sampling_ratio": ratio,
        "spatial_scale": 0.9,
        "coordinate_transformation_mode": transformation,
    }
    check("RoiAlign", [X, ROIS, IMAGES], attributes)  # fmt: skip


def test_roi_align_of_greatest_corners_is_declined() -> None:
    case = Case("RoiAlign", [X, ROIS, IMAGES], {"mode": "max"})
    with pytest.raises(NotSupported, match="with mode max it has no derivative here"):
        case.gradients(["x0"])


def test_max_roi_pool() -> None:
    rois = np.array([[0, 0, 0, 4, 3], [1, 1, 1, 2.5, 2], [1, 3, 2, 9, 9], [0, 7, 7, 9, 9.0]])
    check("MaxRoiPool", [X, rois], {"pooled_shape": [2, 3]}, of_inputs=[0])
    check("MaxRoiPool", [X, rois], {"pooled_shape": [3, 1], "spatial_scale": 0.7}, of_inputs=[0],
          dims=["static"])  # fmt: skip


BLOCKS: list[tuple[dict[str, Any], int]] = [
    ({}, 12),
    ({"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}, 12),
]


@pytest.mark.parametrize(("window", "count"), BLOCKS)
def test_col2im(window: dict[str, Any], count: int) -> None:
    image, block = np.array([5, 4]), np.array([2, 2])
    inputs: list[Array] = [random(2, 8, count), image, block]
    check("Col2Im", inputs, window, constants=[1, 2], dims=["static"])
    check("Col2Im", inputs, window, constants=[2])
    with pytest.raises(NotSupported, match="its input block_shape has to be known before a run"):
        Case("Col2Im", inputs, window).gradients(["x0"])
