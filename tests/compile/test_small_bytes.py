from __future__ import annotations

import numpy as np
import pytest

from fornix.compile.blocked import blocked_buffer
from fornix.compile.convolution import convolution
from fornix.compile.schedule.small_bytes import has_small_bytes
from fornix.dtype import INT8, INT32, UINT8
from fornix.ir.loops import Store, Tensor, compute, constant, stored
from fornix.ir.loops.scalar import const
from fornix.ops.byte_products import lower_byte_convolution
from fornix.ops.window import Window
from tests.compile.levels import target
from tests.compile.native import Runner
from tests.compile.test_pairs import drawn
from tests.ir.interpreter import Array

LANES = 8
BIAS = 5


def convolved(shape: tuple[int, ...], w: Array, stride: int, pad: int, zero: int | None) -> Tensor:
    """Bytes in blocks of channels by the weights ``w``, and 5 more."""
    x = Tensor(shape, UINT8, buffer=blocked_buffer("x", shape, UINT8, LANES))
    pads = (pad,) * 2
    out = tuple(
        (n + 2 * pad - k) // stride + 1 for n, k in zip(shape[2:], w.shape[2:], strict=True)
    )
    win = Window(shape[2:], w.shape[2:], (stride,) * 2, (1, 1), pads, pads, out)
    of_x = None if zero is None else const(zero, INT32)
    sums = lower_byte_convolution(x, constant(w), of_x, None, win, 1)
    y = compute(sums.shape, lambda *i: sums[i] + BIAS)
    return stored(y, "y", blocked_buffer("y", y.shape, INT32, LANES))


def expected(x: Array, w: Array, stride: int, pad: int, zero: int) -> Array:
    """The same by NumPy in 64 bits, tap by tap."""
    border = [(0, 0)] * 2 + [(pad, pad)] * 2
    data = np.pad(x.astype(np.int64) - zero, border)
    height, width = (
        (n - k) // stride + 1 for n, k in zip(data.shape[2:], w.shape[2:], strict=True)
    )
    y = np.full((len(x), len(w), height, width), BIAS, np.int64)
    for i, j in np.ndindex(*w.shape[2:]):
        part = data[:, :, i:, j:][:, :, ::stride, ::stride][:, :, :height, :width]
        y += np.einsum("nchw,mc->nmhw", part, w[:, :, i, j].astype(np.int64))
    return y


def is_marked(y: Tensor, level: str) -> bool:
    assert y.buffer is not None
    assert isinstance(y.buffer.source, Store)
    found = convolution(y.buffer.source)
    assert found is not None
    return has_small_bytes(found, target(level))


def mixed(shape: tuple[int, ...], seed: int) -> Array:
    """Small bytes, some at the very limit, and a few rows of extreme ones."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 64, shape)
    x[rng.random(shape) < 0.02] = 255
    few = rng.integers(0, 2, shape)
    few[:, ::4] = 252
    rows = rng.integers(0, 4, (shape[0], 1, shape[2], 1))
    extreme = drawn(UINT8, *shape, seed=seed)
    return np.choose(rows, [x % 64, extreme, few, x]).astype(np.uint8)


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize(
    ("channels", "filters", "size", "taps", "stride", "pad"),
    [
        (32, 16, (5, 7), 1, 1, 0),
        (64, 24, (1, 13), 1, 1, 0),
        (32, 40, (9, 14), 3, 1, 1),
        (40, 16, (8, 11), 3, 2, 1),
        (32, 16, (7, 9), 1, 2, 0),
        (32, 16, (6, 5), 5, 1, 2),
    ],
)
def test_convolutions_of_small_bytes_are_exact(
    channels: int,
    filters: int,
    size: tuple[int, int],
    taps: int,
    stride: int,
    pad: int,
    level: str,
) -> None:
    w = drawn(INT8, filters, channels, taps, taps, seed=1)
    shape = (2, channels, *size)
    y = convolved(shape, w, stride, pad, None)
    assert is_marked(y, level)
    for seed in range(3):
        x = mixed(shape, seed)
        (result,) = Runner([y], target(level)).run({"x": x})
        np.testing.assert_array_equal(result, expected(x, w, stride, pad, 0))


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("total", [255, 256, 510, 511, 1020])
def test_bytes_at_the_limit_are_exact(total: int, weight: int) -> None:
    w = np.full((16, 32, 1, 1), weight, np.int8)
    shape = (1, 32, 3, 9)
    lanes = np.zeros(8, np.int64)
    for place in (0, 1, 4, 5):  # which meet in one lane of 16 bits
        lanes[place] = min(255, total - lanes.sum())
    x = np.broadcast_to(np.tile(lanes, 4)[:, None, None], shape).astype(np.uint8)
    y = convolved(shape, w, 1, 0, None)
    for data in (x, np.where(np.arange(9) % 2, x, 0).astype(np.uint8)):
        (result,) = Runner([y], target("x86-64-v3"), chunks=2).run({"x": data})
        np.testing.assert_array_equal(result, expected(data, w, 1, 0, 0))


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize(
    "largest", [63, 64, 127, 128, 255]
)  # of which four, or two, are more than 255
def test_weights_at_the_limit_are_exact(largest: int, taps: int) -> None:
    rng = np.random.default_rng(largest)
    w = drawn(INT8, 24, 64, taps, taps, seed=1)
    w[:8], w[8:12] = 127, -128
    w[12:] //= 4
    shape = (1, 64, 6, 9)
    y = convolved(shape, w, 1, taps // 2, None)
    assert is_marked(y, "x86-64-v3")
    for share in (0.2, 1.0):
        x = np.where(rng.random(shape) < share, largest, 0).astype(np.uint8)
        (result,) = Runner([y], target("x86-64-v3"), chunks=2).run({"x": x})
        np.testing.assert_array_equal(result, expected(x, w, 1, taps // 2, 0))


def test_bytes_far_from_zero_are_not_asked_whether_they_are_small() -> None:
    w = drawn(INT8, 16, 32, 3, 3, seed=1)
    assert is_marked(convolved((1, 32, 6, 6), w, 1, 1, None), "x86-64-v3")
    assert not is_marked(convolved((1, 32, 6, 6), w, 1, 1, 7), "x86-64-v3")
    assert not is_marked(convolved((1, 32, 6, 6), w, 1, 1, None), "x86-64")


@pytest.mark.parametrize("name", ["alderlake", "cooperlake"])
def test_what_multiplies_bytes_asks_nothing(name: str) -> None:
    w = drawn(INT8, 16, 32, 1, 1, seed=1)
    assert not is_marked(convolved((1, 32, 6, 6), w, 1, 0, None), name)
