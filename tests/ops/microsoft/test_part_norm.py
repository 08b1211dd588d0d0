from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(28)
WHERE: dict[str, Any] = {"domain": DOMAIN, "opset": 1}


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("heads", [1, 3])
def test_heads_are_normalized_and_gated(activation: str, heads: int) -> None:
    x, gate = normal(2, 5, heads * 20), normal(2, 5, heads * 20)
    given = {"activation": activation, "epsilon": 1e-3}
    agree("GatedRMSNorm", [x, normal(20), gate], given, symbolic=False)


def test_a_gated_norm_says_what_does_not_fit() -> None:
    for width, given, message in (
        (5, {}, "must be a multiple of scale"),
        (4, {"activation": "relu"}, "activation must be one of silu, swish, sigmoid, got 'relu'"),
    ):
        with pytest.raises(ShapeError, match=message):
            run_op("GatedRMSNorm", [normal(2, 8), normal(width), normal(2, 8)], given, **WHERE)
    with pytest.raises(ShapeError, match=r"gate must be gate\[2, 8\], got gate\[1, 8\]"):
        run_op("GatedRMSNorm", [normal(2, 8), normal(4), normal(1, 8)], **WHERE)


@pytest.mark.parametrize("scale", [None, (3, 20), (60,), (20,)])
@pytest.mark.parametrize("flat", [False, True])
def test_branches_are_normalized_by_themselves(scale: tuple[int, ...] | None, flat: bool) -> None:
    x = normal(2, 60) if flat else normal(2, 3, 20)
    given = {"num_branches": 3} if flat else {}
    inputs = [x] if scale is None else [x, normal(*scale)]
    agree("BranchwiseRMSNorm", inputs, given, symbolic=False)


@pytest.mark.parametrize("scale", [(0,), (3, 0)])
def test_branches_of_no_elements_are_normalized_to_none(scale: tuple[int, ...]) -> None:
    [y] = run_op("BranchwiseRMSNorm", [normal(2, 3, 0), normal(*scale)], **WHERE)
    assert y.shape == (2, 3, 0)


def test_branches_say_what_does_not_fit() -> None:
    for inputs, given, message in (
        ([normal(2, 7)], {"num_branches": 3}, "must divide into num_branches=3"),
        ([normal(2, 6)], {"num_branches": -1}, "num_branches must be 0 or more, got -1"),
        ([normal(2, 6), normal(5)], {"num_branches": 3}, "scale must be one of"),
        ([normal().reshape(())], {}, "X must have an axis to normalize"),
    ):
        with pytest.raises(ShapeError, match=message):
            run_op("BranchwiseRMSNorm", inputs, given, **WHERE)
