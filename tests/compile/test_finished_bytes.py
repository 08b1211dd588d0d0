"""Convolutions of bytes whose results are bytes, and are not wanted in blocks of channels."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.dtype import INT8, INT32, UINT8, DType
from fornix.ir.loops import Tensor, apply, cast, compute, constant, stored, tensor
from fornix.ir.loops.scalar import const
from fornix.ops.byte_products import lower_byte_convolution
from fornix.ops.window import Window
from tests.compile.levels import OF_BYTES, target
from tests.compile.native import Runner
from tests.compile.test_pairs import drawn
from tests.compile.test_small_bytes import expected
from tests.ir.interpreter import Array

ZERO = 3


def summed(shape: tuple[int, ...], w: Array, stride: int) -> Tensor:
    """Sums of row-major bytes less 3 by the weights ``w``, with a border."""
    pads = tuple(k // 2 for k in w.shape[2:])
    out = tuple(
        (n + 2 * p - k) // stride + 1 for n, p, k in zip(shape[2:], pads, w.shape[2:], strict=True)
    )
    win = Window(shape[2:], w.shape[2:], (stride,) * 2, (1, 1), pads, pads, out)
    x = tensor("x", shape, UINT8)
    return lower_byte_convolution(x, constant(w), const(ZERO, INT32), None, win, 1)


def written(runner: Runner) -> set[DType]:
    """What the convolution leaves for others to turn."""
    return {b.dtype for k in runner.kernels if k.schedule == "convolution" for b in k.outputs}


@pytest.mark.parametrize("level", OF_BYTES)
@pytest.mark.parametrize(
    ("channels", "filters", "size", "taps", "stride"),
    [
        (3, 64, (19, 23), 7, 2),
        (32, 48, (7, 9), 3, 1),
        (20, 44, (5, 13), 3, 1),
        (8, 21, (6, 6), 5, 2),
    ],
)
def test_bytes_are_finished_before_they_are_turned(
    channels: int, filters: int, size: tuple[int, int], taps: int, stride: int, level: str
) -> None:
    shape = (2, channels, *size)
    w = drawn(INT8, filters, channels, taps, taps, seed=1)
    x, bias = drawn(UINT8, *shape, seed=2), np.arange(filters, dtype=np.int32)
    sums, of_filter = summed(shape, w, stride), constant(bias)
    y = compute(
        sums.shape,
        lambda n, m, *at: cast(apply("and", sums[n, m, *at] + of_filter[m], 255), UINT8),
    )
    runner = Runner([stored(y, "y")], target(level), chunks=2)
    assert written(runner) == {UINT8}
    (found,) = runner.run({"x": x})
    whole = expected(x, w, stride, taps // 2, ZERO) - 5 + bias[:, None, None]
    np.testing.assert_array_equal(found, whole & 255)


def test_what_meets_another_image_is_finished_where_that_is_read() -> None:
    shape = (1, 32, 6, 7)
    w, x = drawn(INT8, 32, 32, 3, 3, seed=1), drawn(UINT8, *shape, seed=2)
    sums, other = summed(shape, w, 1), tensor("other", shape, UINT8)
    y = compute(
        sums.shape, lambda *i: cast(apply("and", sums[i] + cast(other[i], INT32), 255), UINT8)
    )
    runner = Runner([stored(y, "y")])
    assert UINT8 not in written(runner)
    (found,) = runner.run({"x": x, "other": x})
    np.testing.assert_array_equal(found, (expected(x, w, 1, 1, ZERO) - 5 + x) & 255)
