from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case

X = np.arange(-9, 9, dtype=np.int8).reshape(3, 6)
ZERO = np.int8(2)
SCALES: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((), {}),
    ((1,), {}),
    ((3,), {"axis": 0}),
    ((6,), {"axis": -1}),
    ((3, 3), {"axis": 1, "block_size": 2}),
    ((3, 2), {"axis": 1, "block_size": 4}),
    ((2, 6), {"axis": 0, "block_size": 2}),
]


def spread(scale: Array, axis: int = 1, block_size: int = 0) -> Array:
    """``scale`` in the shape of X."""
    if scale.size == 1:
        return np.full(X.shape, scale.reshape(()))
    if block_size:
        return np.repeat(scale, block_size, axis)[: X.shape[0], : X.shape[1]]
    return np.broadcast_to(scale.reshape([-1, 1] if axis == 0 else [1, -1]), X.shape)


@pytest.mark.parametrize(("shape", "placed"), SCALES)
def test_a_scale_gets_what_its_elements_stand_for(
    shape: tuple[int, ...], placed: dict[str, Any]
) -> None:
    scale = np.linspace(0.5, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    case = Case("DequantizeLinear", [X, scale, np.full(shape, ZERO)], placed)
    [found] = case.gradients(["x1"])
    each = case.weights * (X.astype(np.float32) - ZERO)
    owner = spread(np.arange(scale.size, dtype=np.float64).reshape(shape), **placed).astype(int)
    wanted = np.bincount(owner.reshape(-1), each.reshape(-1), scale.size)
    np.testing.assert_allclose(found, wanted.reshape(shape), rtol=1e-5)


def test_elements_that_are_floats_get_the_scale() -> None:
    x = np.array([[1, -2, 0.5]], ml_dtypes.float8_e4m3fn)
    scale = np.array([1, 2, 4], np.float32)
    case = Case("DequantizeLinear", [x, scale])
    [found] = case.gradients(["x0"])
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, (case.weights * scale).astype(x.dtype))


def test_what_cannot_be_differentiated_is_told() -> None:
    x = np.array([[1, -2, 0.5]], ml_dtypes.float8_e4m3fn)
    case = Case("DequantizeLinear", [x, np.array(1, np.float32), x[0, 0]])
    with pytest.raises(NotSupported, match="gradient of its input x_zero_point is not supported"):
        case.gradients(["x2"])
    case = Case("DequantizeLinear", [X, np.ones((3, 2), np.float32)], {"block_size": 3},
                dims="symbolic")  # fmt: skip
    with pytest.raises(NotSupported, match="the extent that is divided into blocks has to be kn"):
        case.gradients(["x1"])
