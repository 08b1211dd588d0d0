from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, Peer, check, random

X = random(2, 4, 7, 6)
W = random(6, 4, 3, 2, seed=1)
GROUPED = random(6, 2, 3, 2, seed=1)
DEPTHWISE = random(4, 1, 3, 2, seed=1)
B = random(6, seed=2)
SMALL = random(2, 3, 6, 5)


def conv(**window: Any) -> Peer:
    return lambda x, w, b=None: functional.conv2d(x, w, b, **window)


CONVOLUTIONS: list[tuple[list[Array], dict[str, Any], Peer]] = [
    ([X, W, B], {}, conv()),
    (
        [X, W, B],
        {"strides": [2, 3], "dilations": [2, 1], "pads": [1, 2, 1, 2]},
        conv(stride=(2, 3), dilation=(2, 1), padding=(1, 2)),
    ),
    ([X, GROUPED, B], {"group": 2, "strides": [2, 2]}, conv(groups=2, stride=2)),
    ([X, DEPTHWISE], {"group": 4, "pads": [1, 1, 1, 1]}, conv(groups=4, padding=1)),
    ([X, random(3, 4, 1, 1)], {"strides": [2, 2]}, conv(stride=2)),
]


@pytest.mark.parametrize(("inputs", "attributes", "function"), CONVOLUTIONS)
def test_convolutions(inputs: list[Array], attributes: dict[str, Any], function: Peer) -> None:
    check("Conv", inputs, attributes, peer=function, differences=False)


def test_uneven_padding() -> None:
    x, w = random(1, 2, 5, 4), random(2, 1, 3, 2, seed=1)
    attributes = {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 2]}
    check("Conv", [x, w], attributes)
    check("Conv", [x, w], {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
          dims=["static"])  # fmt: skip


def test_one_spatial_axis() -> None:
    check("Conv", [random(2, 2, 5), random(3, 2, 1, seed=1)], {"strides": [2]})


def test_padding_that_depends_on_unknown_extents_is_declined() -> None:
    case = Case("Conv", [X, W], {"auto_pad": "SAME_UPPER"}, dims="symbolic")
    with pytest.raises(NotSupported, match="its padding depends on extents that have to be known"):
        case.gradients(["x0"])


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], list[str]]] = [
    ((2, 4, 3, 2), (4, 3, 3, 2), {"strides": [2, 3], "pads": [1, 0, 1, 1],
     "output_padding": [1, 0]}, ["static", "symbolic"]),
    ((1, 4, 3, 2), (4, 3, 3, 2), {"group": 2, "dilations": [1, 2]}, ["static", "symbolic"]),
    ((1, 2, 3), (2, 3, 3), {"strides": [2], "output_shape": [8]}, ["static"]),
    ((1, 2, 3), (2, 3, 3), {"strides": [2], "auto_pad": "SAME_UPPER"}, ["static"]),
]  # fmt: skip


@pytest.mark.parametrize(("x", "w", "attributes", "dims"), TRANSPOSED)
def test_transposed_convolutions(x: Any, w: Any, attributes: dict[str, Any], dims: Any) -> None:
    bias = random(w[1] * attributes.get("group", 1), seed=3)
    check("ConvTranspose", [random(*x), random(*w, seed=1), bias], attributes, dims=dims)


AVERAGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"kernel_shape": [3, 2]}, ["static", "symbolic"]),
    ({"kernel_shape": [2, 2], "dilations": [2, 3]}, ["static", "symbolic"]),
    ({"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1]}, ["static"]),
    ({"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1,
      "ceil_mode": 1}, ["static"]),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "dims"), AVERAGES)
def test_means_of_windows(attributes: dict[str, Any], dims: list[str]) -> None:
    check("AveragePool", [SMALL], attributes, dims=dims)


def test_padded_means_need_extents() -> None:
    attributes = {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}
    with pytest.raises(NotSupported, match="with padding, the extents of X have to be known"):
        Case("AveragePool", [SMALL], attributes, dims="symbolic").gradients(["x0"])


@pytest.mark.parametrize("outputs", [1, 2])
def test_maxima_of_windows(outputs: int) -> None:
    attributes: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    check("MaxPool", [SMALL], attributes, outputs=outputs)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    check("MaxPool", [SMALL], attributes, outputs=outputs)


def test_a_window_of_padding_alone_has_no_gradient() -> None:
    x = random(1, 1, 2, 2)
    case = Case("MaxPool", [x], {"kernel_shape": [1, 1], "pads": [1, 0, 0, 0]})
    inside = case.weights[:, :, 1:]
    np.testing.assert_array_equal(case.gradients(["x0"])[0], inside)


def test_column_major_places_are_declined() -> None:
    attributes = {"kernel_shape": [2, 2], "storage_order": 1}
    with pytest.raises(NotSupported, match="with storage_order=1 it has no derivative here"):
        Case("MaxPool", [SMALL], attributes).gradients(["x0"])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_windows_and_channels(p: int) -> None:
    check("LpPool", [SMALL], {"kernel_shape": [3, 2], "strides": [2, 1], "p": p})
    check("GlobalLpPool", [SMALL], {"p": p})


WHOLE: list[tuple[str, Callable[..., torch.Tensor]]] = [
    ("GlobalAveragePool", lambda x: x.mean((2, 3), keepdim=True)),
    ("GlobalMaxPool", lambda x: x.amax((2, 3), keepdim=True)),
]


@pytest.mark.parametrize(("name", "function"), WHOLE)
def test_whole_channels(name: str, function: Peer) -> None:
    check(name, [SMALL], peer=function)
