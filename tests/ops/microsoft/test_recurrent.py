from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from fornix.ops.microsoft.recurrent import dynamic_quantize_lstm
from tests.ops.harness import check_lowering, check_node, peer, run_op
from tests.ops.microsoft.peer import DOMAIN

rng = np.random.default_rng(17)
S, N, K, H = 5, 2, 6, 4
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


@pytest.fixture(autouse=True)
def drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test draws the same, whatever ran before it.

    Where a state lies halfway between two bytes, peers round it to either.
    """
    monkeypatch.setattr(f"{__name__}.rng", np.random.default_rng(17))


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


def one_by_one(inputs: list[Any], flags: dict[str, Any]) -> list[Any]:
    """What onnxruntime gives for each sequence alone, whose data have the range of all."""

    def alone(n: int) -> list[Any]:
        part = slice(n, n + 1)
        own = [*inputs]
        own[0], own[4] = inputs[0][:, part], inputs[4][part]
        own[5], own[6] = (inputs[k][:, part] for k in (5, 6))
        return peer("DynamicQuantizeLSTM", own, flags, opset=1, outputs=3, domain=DOMAIN)

    alone_each = [alone(n) for n in range(N)]
    return [np.concatenate(found, axis=-2) for found in zip(*alone_each, strict=True)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_data_and_states_are_rounded_to_bytes(dtype: Any, by_column: bool, direction: str) -> None:
    inputs = layer(1 + (direction == "bidirectional"), dtype, by_column=by_column)
    np.clip(inputs[0], -3, 3, out=inputs[0])
    inputs[0][0, :, :2] = -3, 3  # each sequence has the range of all of them
    flags = {"hidden_size": H, "direction": direction}
    expected = one_by_one(inputs, flags)
    check_node(
        "DynamicQuantizeLSTM", inputs, flags, expected=expected, rtol=1e-4, atol=1e-5, **WHERE
    )
    check_lowering("DynamicQuantizeLSTM", inputs, flags, outputs=3, symbolic=False, **WHERE)


def test_weights_have_any_zero_points() -> None:
    inputs = layer(2, np.int8, by_column=True)
    inputs[9], inputs[11] = (rng.integers(-9, 9, (2, 4 * H)).astype(np.int8) for _ in range(2))
    flags = {"hidden_size": H, "direction": "bidirectional"}
    rounded = [*inputs]
    for k in (1, 2):  # the same weights, their zero points taken off, in a wider type
        rounded[k] = inputs[k].astype(np.int32) - inputs[7 + 2 * k][:, None]
        rounded[7 + 2 * k] = np.zeros(2, np.int32)
    expected = evaluate(rounded, flags)
    for found, exact in zip(evaluate(inputs, flags), expected, strict=True):
        np.testing.assert_array_equal(found, exact)
    check_lowering("DynamicQuantizeLSTM", inputs, flags, outputs=3, symbolic=False, **WHERE)


def evaluate(inputs: list[Any], flags: dict[str, Any]) -> tuple[Any, ...]:
    """The kernel's results, whatever the types of weights."""
    return dynamic_quantize_lstm(*inputs, input_forget=0, **flags)


def test_what_lies_behind_all_sequences_has_no_part_in_their_range() -> None:
    inputs = layer(1, np.int8, by_column=False)
    inputs[4][:] = S - 2
    flags = {"hidden_size": H}
    plain = run_op("DynamicQuantizeLSTM", inputs, flags, **WHERE)
    wild = [inputs[0].copy(), *inputs[1:]]
    wild[0][S - 2 :] = 1e6
    for found, expected in zip(
        run_op("DynamicQuantizeLSTM", wild, flags, **WHERE), plain, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    expected = peer("DynamicQuantizeLSTM", wild, flags, opset=1, outputs=3, domain=DOMAIN)
    np.testing.assert_allclose(plain[0], expected[0], atol=0.01)
    check_lowering("DynamicQuantizeLSTM", wild, flags, outputs=3, symbolic=False, **WHERE)


@pytest.mark.parametrize("shape", [(3, 1, 5, 19), (4, 20, 3, 9), (1, 3, 4, 1), (2, 2, 3, 64)])
def test_layers_of_any_extent(shape: tuple[int, int, int, int]) -> None:
    steps, batch, size, hidden = shape
    inputs: list[Any] = [
        rng.standard_normal((steps, batch, size)).astype(np.float32),
        rng.integers(-128, 128, (2, size, 4 * hidden)).astype(np.int8),
        rng.integers(-128, 128, (2, hidden, 4 * hidden)).astype(np.int8),
        *[None] * 5,
        *[np.array([0.004, 0.006], np.float32), np.zeros(2, np.int8)] * 2,
    ]
    flags = {"hidden_size": hidden, "direction": "bidirectional"}
    check_lowering("DynamicQuantizeLSTM", inputs, flags, outputs=3, symbolic=False, **WHERE)


def test_scales_have_a_number_for_each_direction_or_column() -> None:
    inputs = layer(1, np.int8, by_column=True)
    inputs[8] = inputs[8][:, :3]
    with pytest.raises(
        ShapeError, match=r"W_scale must be \[1\] or \[1, 16\], found W_scale\[1, 3\]"
    ):
        run_op("DynamicQuantizeLSTM", inputs, {"hidden_size": H}, **WHERE)
