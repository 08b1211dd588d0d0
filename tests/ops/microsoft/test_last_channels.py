from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.microsoft.peer import agree

rng = np.random.default_rng(5)


def quanta(dtype: type, *shape: int) -> Any:
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize(
    ("channels", "filters", "group", "taps", "stride"),
    [(4, 8, 1, 3, 1), (3, 5, 1, 1, 2), (8, 8, 8, 3, 1), (8, 16, 2, 3, 2)],
)
def test_q_linear_conv_convolves_images_whose_channels_are_first_or_last(
    dtype: type, channels_last: int, channels: int, filters: int, group: int, taps: int, stride: int
) -> None:
    shape = (2, 7, 6, channels) if channels_last else (2, channels, 7, 6)
    inputs = [
        quanta(dtype, *shape), np.asarray(np.float32(0.02)), np.asarray(dtype(3)),
        quanta(np.int8, filters, channels // group, taps, taps),
        rng.uniform(0.001, 0.01, filters).astype(np.float32), np.zeros(filters, np.int8),
        np.asarray(np.float32(0.1)), np.asarray(dtype(5)),
        rng.integers(-500, 500, filters).astype(np.int32),
    ]  # fmt: skip
    attributes = {"channels_last": channels_last, "group": group, "pads": [taps // 2] * 4}
    attributes |= {"kernel_shape": [taps] * 2, "strides": [stride] * 2}
    agree("QLinearConv", inputs, attributes, atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_nhwc_max_pool_is_a_pool_over_the_middle_axes(dtype: type) -> None:
    x = quanta(dtype, 2, 9, 7, 5)
    window = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2], "ceil_mode": 1}
    agree("NhwcMaxPool", [x], window)
    agree("NhwcMaxPool", [x], {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"})
