from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch.nn import functional

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, check, random

X = random(1, 2, 3, 4)
READINGS: list[dict[str, Any]] = [
    {},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic"},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
    {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
]


def scales(*values: float) -> Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize("reading", READINGS)
def test_scales_and_sizes(reading: dict[str, Any]) -> None:
    factors, extents = scales(1, 1, 2.0, 1.6), np.array([1, 2, 2, 6])
    check("Resize", [X, None, factors], reading, of_inputs=[0], constants=[2])
    check("Resize", [X, None, None, extents], reading, of_inputs=[0], constants=[3])
    check("Resize", [X, None, factors], reading, of_inputs=[0], dims=["symbolic"])
    check("Resize", [X, None, None, extents], reading, of_inputs=[0], dims=["symbolic"])


def test_named_axes() -> None:
    check("Resize", [X, None, scales(0.5, 2.0)], {"axes": [2, 3], "mode": "linear"},
          constants=[2], of_inputs=[0], dims=["static"])  # fmt: skip


def test_a_batch_of_unknown_extent_is_not_resized() -> None:
    def doubled(x: Any) -> Any:
        return functional.interpolate(x, scale_factor=(1, 2), mode="bilinear")

    check("Resize", [X, None, scales(1, 1, 1, 2)], {"mode": "linear"}, peer=doubled,
          constants=[2], of_inputs=[0], dims=["static"])  # fmt: skip
    check("Resize", [X, None, scales(1, 1, 1, 1)], constants=[2], of_inputs=[0])


def test_opset_12_leaves_inputs_out_by_empty_tensors() -> None:
    check("Resize", [X, scales(), scales(1, 1, 2, 2)], {"mode": "linear"}, opset=12,
          constants=[1, 2], of_inputs=[0], dims=["static"])  # fmt: skip


def test_other_policies_are_declined() -> None:
    inputs = [X, None, None, np.array([1, 2, 6, 8])]
    attributes = {"keep_aspect_ratio_policy": "not_larger"}
    case = Case("Resize", inputs, attributes, constants=[3])
    with pytest.raises(NotSupported, match="with an aspect ratio policy other than stretch it has"):
        case.gradients(["x0"])


def test_cropping_is_declined() -> None:
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float64)
    inputs = [X, roi, scales(1, 1, 2, 2)]
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    with pytest.raises(NotSupported, match="with tf_crop_and_resize it has no derivative here"):
        Case("Resize", inputs, attributes, constants=[1, 2]).gradients(["x0"])
