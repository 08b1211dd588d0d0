"""Convolutions of windows that lie apart: all that a place reads is copied, and summed in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fornix.compile.convolution import convolution
from fornix.compile.nest import When
from fornix.compile.schedule.places import are_apart
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import Tensor, compute, constant
from fornix.ops import scalar as s
from fornix.ops.conv import lower_conv
from tests.compile.levels import LEVELS, target
from tests.compile.native import Runner
from tests.compile.test_direct import H, N, W, blocked, image, lanes
from tests.compile.test_small_images import pieces, store_of

LANES = lanes(FLOAT32)
rng = np.random.default_rng(7)


def integers(*shape: int) -> Any:
    """Numbers whose sums of products are exact."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def sums(w: Any, block: int, window: dict[str, Any]) -> Tensor:
    """A convolution of an image of which a run tells the extents, with its activation."""
    x = image("x", (N, w.shape[1], H, W), FLOAT32, block)
    bias = constant(np.arange(len(w), dtype=np.float32))
    z = lower_conv(x, constant(w), bias, **window)
    y = compute(z.shape, lambda *i: s.maximum(z[i], 0.0))
    return y if block == 1 else blocked(y, block)


def wanted(x: Any, w: Any, window: dict[str, Any]) -> Any:
    """The same by torch, in double precision."""
    top, left, bottom, right = window.get("pads", [0] * 4)
    x, w = (torch.from_numpy(np.asarray(a, np.float64)) for a in (x, w))
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    bias = torch.arange(len(w), dtype=torch.float64)
    return torch.relu(torch.nn.functional.conv2d(x, w, bias, window["strides"])).numpy()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("filters", "channels", "taps", "window"),
    [
        (48, 3, (8, 8), {"strides": [8, 8], "pads": [3] * 4}),
        (40, 5, (5, 6), {"strides": [5, 7], "pads": [2, 1, 4, 5]}),
        (96, 7, (3, 5), {"strides": [4, 5], "pads": [0, 3, 1, 2]}),
        (32, 16, (1, 5), {"strides": [3, 5], "pads": [1, 0, 0, 0]}),
        (16, 1, (16, 16), {"strides": [16, 16]}),  # which are sums over three channels
    ],
)
def test_images_in_rows(
    filters: int, channels: int, taps: tuple[int, int], window: dict[str, Any], level: str
) -> None:
    w = integers(filters, channels, *taps)
    y = sums(w, 1, window)
    runner = Runner([y], target(level))
    for n, a, b in ((1, 1, 1), (2, 3, 5), (1, 9, 17), (1, 23, 6), (3, 1, 1)):
        high, wide = a * window["strides"][0] + 2, b * window["strides"][1] + 3
        high, wide = max(high, taps[0]), max(wide, taps[1])
        x = integers(n, channels, high, wide)
        for runner.chunks in (1, 3):
            (found,) = runner.run({"x": x}, {"N": n, "H": high, "W": wide})
            expected = wanted(x, w, window)
            np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_images_in_blocks_of_channels() -> None:
    w, window = integers(2 * LANES, 2 * LANES, 5, 5), {"strides": [5, 6], "pads": [1, 2, 3, 0]}
    runner = Runner([sums(w, LANES, window)], chunks=2)
    for n, high, wide in ((1, 5, 5), (2, 11, 60), (1, 131, 47)):
        x = integers(n, 2 * LANES, high, wide)
        (found,) = runner.run({"x": x}, {"N": n, "H": high, "W": wide})
        expected = wanted(x, w, window)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_no_images_and_no_places() -> None:
    x = image("x", (symbol("M"), 3, H, W), FLOAT32, 1)
    runner = Runner([lower_conv(x, constant(integers(32, 3, 8, 8)), None, strides=[8, 8])])
    for n, high, wide in ((0, 16, 16), (2, 7, 16), (1, 8, 1)):
        (found,) = runner.run({"x": integers(n, 3, high, wide)}, {"M": n, "H": high, "W": wide})
        assert found.size == 0


@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_what_is_not_finite_reaches_one_place(strange: float) -> None:
    x = np.abs(integers(1, 3, 26, 40)) + 1
    x[0, 2, 15, 39] = strange
    runner = Runner([sums(np.abs(integers(32, 3, 8, 8)) + 1, 1, {"strides": [8, 8]})])
    found = runner.run({"x": x}, {"N": 1, "H": 26, "W": 40})[0].reshape(32, 3, 5)
    np.testing.assert_array_equal(found[:, 1, 4], np.full(32, strange, np.float32))
    found[:, 1, 4] = 0
    assert np.isfinite(found).all()


def test_lines() -> None:
    w = integers(32, 9, 10)
    y = lower_conv(image("x", (N, 9, W), FLOAT32, 1), constant(w), None, strides=[10], pads=[4, 3])
    runner = Runner([y])
    for n, wide in ((1, 3), (2, 10), (1, 1234)):
        x = integers(n, 9, wide)
        (found,) = runner.run({"x": x}, {"N": n, "W": wide})
        padded = torch.nn.functional.pad(torch.from_numpy(x), (4, 3))
        expected = torch.nn.functional.conv1d(padded, torch.from_numpy(w), stride=10).numpy()
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("taps", "channels", "window", "is_so"),
    [
        (8, 3, {"strides": [8, 8]}, True),
        (5, 3, {"strides": [6, 5]}, True),
        (5, 3, {"strides": [5, 4]}, False),  # they overlap
        (4, 64, {"strides": [4, 4]}, False),  # short runs
        (5, 2, {"strides": [5, 5]}, False),  # short sums
        (5, 64, {"strides": [5, 5], "group": 2}, False),
        (5, 64, {"strides": [9, 9], "dilations": [2, 2]}, False),
    ],
)
def test_windows_that_lie_apart(
    taps: int, channels: int, window: dict[str, Any], *, is_so: bool
) -> None:
    w = constant(integers(64, channels // window.get("group", 1), taps, taps))
    x = image("x", (N, channels, H, W), FLOAT32, 1)
    y = lower_conv(x, w, None, pads=[1] * 4, **window)
    found = convolution(store_of(y))
    assert found is not None
    assert are_apart(found) == is_so


def test_all_sizes_take_one_way() -> None:
    y = sums(integers(64, 3, 16, 16), 1, {"strides": [16, 16], "pads": [7] * 4})
    found = pieces(y, target("host"))
    assert "places" in {p.nest.kind for p in found}
    assert not any(isinstance(p.nest.body[0], When) for p in found)
