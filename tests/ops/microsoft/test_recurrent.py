from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import check_lowering, check_node, peer, run_op
from tests.ops.microsoft.peer import DOMAIN

rng = np.random.default_rng(17)
S, N, K, H = 5, 2, 6, 4
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def layer(count: int, dtype: Any, *, by_column: bool) -> list[Any]:
    """Inputs of a layer of ``count`` directions."""

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    def drawn(*shape: int) -> Any:
        low, high = (0, 256) if dtype == np.uint8 else (-128, 128)
        return rng.integers(low, high, shape).astype(dtype)

    shape = (count, 4 * H) if by_column else (count,)
    middle = 128 if dtype == np.uint8 else 0
    scales = [(rng.random(shape) * 0.005 + 0.002).astype(np.float32) for _ in range(2)]
    zeros = [np.full(shape, middle, dtype) for _ in range(2)]
    lengths = np.array([S, S - 2], np.int32)
    return [
        normal(S, N, K), drawn(count, K, 4 * H), drawn(count, H, 4 * H), normal(count, 8 * H),
        lengths, normal(count, N, H), normal(count, N, H), normal(count, 3 * H),
        scales[0], zeros[0], scales[1], zeros[1],
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_weights_of_a_layer_are_integers(dtype: Any, by_column: bool, direction: str) -> None:
    inputs = layer(1 + (direction == "bidirectional"), dtype, by_column=by_column)
    flags = {"hidden_size": H, "direction": direction}
    rounded = peer("DynamicQuantizeLSTM", inputs, flags, opset=1, outputs=3, domain=DOMAIN)
    weights = [
        ((w.astype(np.float32) - z.reshape(len(w), 1, -1)) * s.reshape(len(w), 1, -1))
        for w, s, z in ((inputs[1], *inputs[8:10]), (inputs[2], *inputs[10:]))
    ]
    plain = [inputs[0], *(w.swapaxes(1, 2).copy() for w in weights), *inputs[3:8]]
    expected = peer("LSTM", plain, flags, opset=22, outputs=3)
    for exact, coarse in zip(expected, rounded, strict=True):
        np.testing.assert_allclose(coarse, exact, atol=0.05)  # it rounds X and states as well
    check_node(
        "DynamicQuantizeLSTM", inputs, flags, expected=expected, rtol=1e-4, atol=1e-5, **WHERE
    )
    check_lowering("DynamicQuantizeLSTM", inputs, flags, outputs=3, symbolic=False, **WHERE)


def test_scales_have_a_number_for_each_direction_or_column() -> None:
    inputs = layer(1, np.int8, by_column=True)
    inputs[8] = inputs[8][:, :3]
    with pytest.raises(
        ShapeError, match=r"W_scale must be \[1\] or \[1, 16\], found W_scale\[1, 3\]"
    ):
        run_op("DynamicQuantizeLSTM", inputs, {"hidden_size": H}, **WHERE)
