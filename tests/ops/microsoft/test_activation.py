from __future__ import annotations

import numpy as np
import pytest

from tests.ops.microsoft.peer import agree

rng = np.random.default_rng(5)


@pytest.mark.parametrize("name", ["Gelu", "FastGelu", "QuickGelu"])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_forms_of_gelu_are_those_of_onnxruntime(name: str, shape: tuple[int, ...]) -> None:
    agree(name, [(rng.standard_normal(shape) * 4).astype(np.float32)], rtol=2e-5)


def test_a_bias_is_added_ahead_of_gelu() -> None:
    x, bias = rng.standard_normal((2, 3, 4)), rng.standard_normal(4)
    for name in ("BiasGelu", "FastGelu"):
        agree(name, [x.astype(np.float32), bias.astype(np.float32)])


def test_quick_gelu_takes_its_slope_from_alpha() -> None:
    agree("QuickGelu", [rng.standard_normal((5, 2)).astype(np.float32)], {"alpha": 0.7})
