from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree
from tests.ops.microsoft.test_quantized import quanta, scale

rng = np.random.default_rng(23)
B, S, H = 2, 5, 8
BYTES = pytest.mark.parametrize("dtype", [np.int8, np.uint8])


def inputs_of(dtype: Any, *, has_segments: bool, has_mask: bool = True) -> list[Any]:
    ids: list[Any] = [rng.integers(0, most, (B, S)).astype(np.int32) for most in (9, 2)]
    tables: list[Any] = [quanta(*s, dtype=dtype) for s in ((9, H), (6, H), (2, H), (H,), (H,))]
    scales: list[Any] = [scale(0.01 * k) for k in range(1, 6)]
    zeros: list[Any] = [np.array(k, dtype) for k in (3, 0, 90, 7, 1)]
    if not has_segments:
        ids[1] = tables[2] = scales[2] = zeros[2] = None
    mask = (np.arange(S) < np.array([[3], [5]])).astype(np.int32) if has_mask else None
    return [*ids, *tables, mask, *scales, *zeros]


@BYTES
@pytest.mark.parametrize("has_segments", [False, True])
@pytest.mark.parametrize("has_mask", [False, True])
def test_quantised_embeddings_are_summed_and_normalized(
    dtype: Any, has_segments: bool, has_mask: bool
) -> None:
    inputs = inputs_of(dtype, has_segments=has_segments, has_mask=has_mask)
    agree("QEmbedLayerNormalization", inputs, {"epsilon": 1e-5}, outputs=2, rtol=1e-4)


@BYTES
def test_tables_are_those_of_numbers(dtype: Any) -> None:
    """One scale of 1/4 and zero points: sums are exact, so that both operators do the same."""
    inputs = inputs_of(dtype, has_segments=True)
    inputs[8:13] = [scale(0.25)] * 5
    tables = [
        (x.astype(np.float32) - zero.astype(np.float32)) * np.float32(0.25)
        for x, zero in zip(inputs[2:7], inputs[13:], strict=True)
    ]
    given = [*inputs[:2], *tables, inputs[7]]
    y, count, _ = run_op("EmbedLayerNormalization", given, domain=DOMAIN, opset=1, outputs=3)
    found = run_op("QEmbedLayerNormalization", inputs, domain=DOMAIN, opset=1, outputs=2)
    np.testing.assert_array_equal(found[0], y)
    np.testing.assert_array_equal(found[1], count)


@pytest.mark.parametrize("place", [10, 15])
def test_segments_need_a_scale_and_a_zero_point(place: int) -> None:
    inputs = inputs_of(np.int8, has_segments=True)
    inputs[place] = None
    with pytest.raises(ShapeError, match="segment_embedding needs its scale and zero point, found"):
        run_op("QEmbedLayerNormalization", inputs, domain=DOMAIN, opset=1, outputs=2)


def test_a_table_has_one_scale() -> None:
    inputs = inputs_of(np.int8, has_segments=True)
    inputs[8] = np.ones(9, np.float32)
    with pytest.raises(ShapeError, match="a scale must be one number"):
        run_op("QEmbedLayerNormalization", inputs, domain=DOMAIN, opset=1, outputs=2)
