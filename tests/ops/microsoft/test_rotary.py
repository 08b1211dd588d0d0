from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import NotSupported, ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(12)


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 16), (2, 2, 3, 8)])
@pytest.mark.parametrize("places", [[2], [[0, 3, 1], [4, 5, 6]]])
def test_pairs_are_rotated(interleaved: int, shape: tuple[int, ...], places: list[Any]) -> None:
    inputs = [normal(*shape), np.array(places, np.int64), normal(9, 4), normal(9, 4)]
    agree("RotaryEmbedding", inputs, {"interleaved": interleaved}, symbolic=False)


def test_a_part_of_each_head_is_rotated() -> None:
    inputs = [normal(2, 3, 16), np.array([1], np.int64), normal(9, 2), normal(9, 2)]
    agree("RotaryEmbedding", inputs, {"num_heads": 2, "rotary_embedding_dim": 4}, symbolic=False)


def test_what_is_missing_is_named() -> None:
    inputs = [normal(2, 3, 16), np.array([1], np.int64), normal(9, 2), normal(9, 2)]
    where: dict[str, Any] = {"domain": DOMAIN, "opset": 1}
    with pytest.raises(ShapeError, match="num_heads is required with rotary_embedding_dim"):
        run_op("RotaryEmbedding", inputs, {"rotary_embedding_dim": 4}, **where)
    with pytest.raises(NotSupported, match="scale must be 1, got 2"):
        run_op("RotaryEmbedding", inputs, {"scale": 2.0}, **where)
