from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import NotSupported, ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree
from tests.ops.microsoft.test_quantized import quanta, scale

rng = np.random.default_rng(18)
B, S, H, D = 2, 3, 2, 4


def inputs_of(columns: tuple[int, ...], right: Any) -> list[Any]:
    weight_scale = np.asarray(rng.random(columns) * 0.02 + 0.001, np.float32)
    return [
        quanta(B, S, 6, dtype=np.uint8),
        quanta(6, 3 * H * D, dtype=right),
        rng.standard_normal(3 * H * D).astype(np.float32),
        scale(0.01),
        weight_scale,
        np.array([2, 3], np.int32),
        np.array(128, np.uint8),
        np.full(columns, 3, right),
    ]


@pytest.mark.parametrize("right", [np.int8, np.uint8])
@pytest.mark.parametrize("columns", [(), (3 * H * D,)])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_projections_are_quantised(
    right: Any, columns: tuple[int, ...], unidirectional: int
) -> None:
    flags = {"num_heads": H, "unidirectional": unidirectional}
    inputs = inputs_of(columns, right)
    agree("QAttention", inputs, flags, rtol=1e-4)


def test_the_past_precedes_keys_and_values() -> None:
    inputs = inputs_of((), np.int8)
    inputs[5] = None
    inputs += [rng.standard_normal((2, B, H, 5, D)).astype(np.float32)]
    flags = {"num_heads": H, "unidirectional": 1}
    agree("QAttention", inputs, flags, outputs=2, rtol=1e-4)


@pytest.mark.parametrize("name", ["do_rotary", "past_present_share_buffer"])
def test_what_is_not_read_is_named(name: str) -> None:
    inputs = inputs_of((), np.int8)
    with pytest.raises(NotSupported, match=f"{name} must be 0, got 1"):
        run_op("QAttention", inputs, {"num_heads": H, name: 1}, domain=DOMAIN, opset=1)


def test_columns_are_for_three() -> None:
    inputs = inputs_of((), np.int8)
    inputs[1] = inputs[1][:, :7]
    with pytest.raises(ShapeError, match="columns for three, found 7"):
        run_op("QAttention", inputs, {"num_heads": H}, domain=DOMAIN, opset=1)
