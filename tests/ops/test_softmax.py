from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

RANDOM = np.random.default_rng(11)
F32 = 1e-6  # a few steps of float32, exp included


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_before_13_flattens(name: str, axis: int, opset: int) -> None:
    x = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
    wanted = peer(name, [x], {"axis": axis}, opset=opset)
    check_node(name, [x], {"axis": axis}, opset=opset, expected=wanted, rtol=F32, atol=F32)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 7, 1), (4, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_is_lowered(name: str, opset: int, shape: tuple[int, ...], axis: int) -> None:
    x = (RANDOM.standard_normal(shape) * 5).astype(np.float32)
    check_lowering(name, [x], {"axis": axis}, opset=opset)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_softmax_is_lowered_in_every_dtype(name: str, dtype: Any) -> None:
    check_lowering(name, [(RANDOM.standard_normal((3, 50)) * 5).astype(dtype)])


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_what_is_no_number_is_lowered(name: str) -> None:
    x = np.array([[1, np.nan, np.nan], [1, np.inf, 0], [2, 3, 3], [-np.inf] * 3], np.float32)
    check_lowering(name, [x])


def test_softmax_before_13_differs_from_softmax_along_one_axis() -> None:
    x = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
    [old] = run_op("Softmax", [x], opset=11)
    [new] = run_op("Softmax", [x], {"axis": 1})
    np.testing.assert_allclose(old.reshape(2, -1).sum(1), 1, rtol=F32)
    np.testing.assert_allclose(new.sum(1), 1, rtol=F32)
    assert not np.allclose(old, new)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_softmax_of_narrow_floats_is_computed_in_float32(dtype: Any) -> None:
    x = np.full((1, 3000), 1.0, dtype)
    [found] = run_op("Softmax", [x])
    assert found.dtype == dtype
    assert np.all(found == np.array(1 / 3000, dtype))


def test_softmax_does_not_overflow() -> None:
    x = np.array([[1000.0, 1001.0, -np.inf]])
    wanted = np.exp([-1.0, 0.0, -np.inf]) / (1 + np.exp(-1.0))
    check_node("Softmax", [x], expected=[wanted[None]], rtol=1e-15)


def test_softmax_of_nothing_is_nothing() -> None:
    check_node("Softmax", [np.empty((2, 0))], expected=[np.empty((2, 0))])
    check_node("Hardmax", [np.empty((2, 0))], expected=[np.empty((2, 0))])


def test_an_axis_out_of_range_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"axis must be in \[-2, 1\] for rank 2, got 2"):
        run_op("Softmax", [np.zeros((2, 3))], {"axis": 2})
    extent = symbol("N")
    with pytest.raises(ShapeError, match="axis must be in"):
        infer_op("Softmax", [tensor(FLOAT32, (extent, 3))], {"axis": -3})
