from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import NotSupported, ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(13)


def case(
    bits: int, block: int, k: int, n: int, zeros: str | None
) -> tuple[list[Any], dict[str, int]]:
    count = -(-k // block)
    inputs = [
        rng.standard_normal((2, 3, k)).astype(np.float32),
        rng.integers(0, 256, (n, count, block * bits // 8)).astype(np.uint8),
        (rng.random((n, count)) * 0.1).astype(np.float32),
    ]
    if zeros == "bytes":
        inputs.append(rng.integers(0, 256, (n, -(-count * bits // 8))).astype(np.uint8))
    elif zeros == "floats":
        inputs.append((rng.random((n, count)) * 15).astype(np.float32))
    return inputs, {"K": k, "N": n, "bits": bits, "block_size": block}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [None, "bytes"])
@pytest.mark.parametrize(("block", "k"), [(16, 48), (32, 64), (32, 80)])
def test_blocks_of_small_weights_are_multiplied(
    bits: int, zeros: str | None, block: int, k: int
) -> None:
    agree("MatMulNBits", *case(bits, block, k, 5, zeros), rtol=1e-4, atol=1e-3, lowered=False)


def test_zero_points_may_be_floats() -> None:
    agree("MatMulNBits", *case(4, 32, 64, 5, "floats"), rtol=1e-4, atol=1e-3, lowered=False)


def test_a_bias_is_added() -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    inputs += [None, None, rng.standard_normal(5).astype(np.float32)]
    agree("MatMulNBits", inputs, sizes, rtol=1e-4, atol=1e-3, lowered=False)


def test_two_bits_are_the_lowest_first() -> None:
    inputs, sizes = case(2, 16, 16, 1, None)
    y = run_op("MatMulNBits", inputs, sizes, domain=DOMAIN, opset=1)[0]
    digits = [int(byte) >> shift & 3 for byte in inputs[1].reshape(-1) for shift in (0, 2, 4, 6)]
    weights = (np.array(digits) - 2) * inputs[2][0, 0]
    np.testing.assert_allclose(y[..., 0], inputs[0] @ weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "bits must be 2, 4 or 8, got 3"),
        ({"block_size": 0}, "block_size must be positive, got 0"),
        ({"N": 6}, "B must have 192 bytes"),
        ({"weight_prepacked": 1}, "weight_prepacked must be 0, got 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, int], message: str) -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    with pytest.raises((ShapeError, NotSupported), match=message):
        run_op("MatMulNBits", inputs, sizes | change, domain=DOMAIN, opset=1)


def test_parameters_have_one_number_per_block() -> None:
    inputs, sizes = case(4, 32, 64, 5, None)
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    with pytest.raises(ShapeError, match=r"scales must have shape \[5, 2\], got scales\[4, 2\]"):
        run_op("MatMulNBits", [*inputs[:2], inputs[2][:4]], sizes, **where)
    with pytest.raises(ShapeError, match="zero_points must have 5 bytes"):
        run_op("MatMulNBits", [*inputs, np.zeros(4, np.uint8)], sizes, **where)
    with pytest.raises(NotSupported, match="g_idx must be left out"):
        run_op("MatMulNBits", [*inputs, None, np.zeros(64, np.int32)], sizes, **where)
