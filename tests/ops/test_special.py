from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special

from fornix.ops.special import CHUNK, erf

# Relative: 1e-15 was asked for; float32 may fall to the other side of a tie.
F64_ERROR, F32_ULPS = 1e-15, 1


def grid() -> Any:
    """Numbers of every size, and many where the function bends."""
    small = np.geomspace(5e-324, 1e-3, 20_001)
    bends = np.linspace(0, 7, 200_001)
    large = np.geomspace(7, 1e308, 1001)
    return np.concatenate([small, bends, large])


def test_erf_is_exact_to_a_few_steps_of_float64() -> None:
    x = grid()
    normal = x[x > 1e-300]
    found, wanted = erf(normal), scipy.special.erf(normal)
    assert np.max(np.abs(found - wanted) / wanted) < F64_ERROR
    tiny = x[x <= 1e-300]
    np.testing.assert_allclose(erf(tiny), scipy.special.erf(tiny), rtol=1e-15, atol=5e-324)
    np.testing.assert_array_equal(erf(-x), -erf(x))


def test_erf_never_exceeds_1_and_reaches_it() -> None:
    found = erf(grid())
    assert found.max() == 1
    assert np.all(found[grid() >= 6] == 1)


def test_erf_of_float32_is_the_nearest_float32() -> None:
    x = np.concatenate([grid()[grid() < 1e38], [1e38]]).astype(np.float32)
    found, wanted = erf(x), scipy.special.erf(x.astype(np.float64)).astype(np.float32)
    assert found.dtype == np.float32
    steps = np.abs(found.view(np.int32) - wanted.view(np.int32))
    assert steps.max() <= F32_ULPS
    assert np.mean(steps != 0) < 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_of_special_values(dtype: Any) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    found = erf(x)
    np.testing.assert_array_equal(found, np.array([0.0, -0.0, 1, -1, np.nan], dtype))
    assert np.signbit(found[:2]).tolist() == [False, True]


def test_erf_keeps_shapes_and_reads_across_chunks() -> None:
    x = np.linspace(-3, 3, 3 * CHUNK + 5).reshape(1, -1, 1)[:, ::-1]
    np.testing.assert_allclose(erf(x), scipy.special.erf(x), rtol=F64_ERROR)
    assert erf(np.array(0.5)).shape == ()
    assert erf(np.zeros((0, 3))).shape == (0, 3)
