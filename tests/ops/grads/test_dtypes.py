from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.ops.grads.harness import Array, Case, random

# Rounding steps of an element type by which a chain of a few operators may be off.
STEPS = 32

LAYERS: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("Gelu", [random(3, 4)], {}),
    ("Pow", [random(3, low=0.5), np.array(2.0)], {}),
    ("Clip", [random(3), np.array(-0.5), np.array(0.5)], {}),
    ("Softmax", [random(3, 4)], {}),
    ("Gather", [random(3, 4), np.array([0, 0])], {}),
    ("Conv", [random(1, 2, 4), random(3, 2, 2)], {}),
    ("MaxPool", [random(1, 2, 4)], {"kernel_shape": [2]}),
    ("LayerNormalization", [random(3, 4), random(4), random(4)], {}),
    ("SoftmaxCrossEntropyLoss", [random(3, 4), np.array([0, 1, 2])], {}),
    ("LSTM", [random(3, 2, 2), random(1, 8, 2), random(1, 8, 2)], {"hidden_size": 2}),
]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize(("name", "inputs", "attributes"), LAYERS)
def test_gradients_have_the_element_type_of_their_inputs(
    name: str, inputs: list[Array], attributes: dict[str, Any], dtype: Any
) -> None:
    narrow = [x.astype(dtype) if x.dtype == np.float64 else x for x in inputs]
    names = [f"x{i}" for i, x in enumerate(inputs) if x.dtype == np.float64]
    found = Case(name, narrow, attributes).gradients(names)
    exact = Case(name, inputs, attributes).gradients(names)
    tolerance = STEPS * float(ml_dtypes.finfo(dtype).eps)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == dtype
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(one.astype(np.float64), other, atol=tolerance * scale)
