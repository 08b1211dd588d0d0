from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.ops.call import NotLowered
from tests.ops.harness import check_lowering, check_node, lower_op, peer

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_running_sums_agree_with_onnxruntime(exclusive: int, reverse: int, dtype: Any) -> None:
    x = RANDOM.integers(-9, 9, (3, 4)).astype(dtype)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    axis = np.array(-1, np.int32)
    check_node("CumSum", [x, axis], attributes, expected=peer("CumSum", [x, axis], attributes))


def test_running_products_start_at_one_if_exclusive() -> None:
    x = np.array([2.0, 3.0, 4.0])
    wanted = np.array([1.0, 2.0, 6.0])
    check_node("CumProd", [x, np.array(0)], {"exclusive": 1}, expected=[wanted])


@pytest.mark.parametrize("flags", [{}, {"exclusive": 1}, {"exclusive": 1, "reverse": 1}])
@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3), (2, 0, 5)])
def test_sums_along_an_axis_without_steps_touch_no_memory(
    shape: tuple[int, ...], flags: dict[str, int]
) -> None:
    place = np.array(shape.index(0), np.int64)
    check_lowering("CumSum", [np.zeros(shape, np.int32), place], flags)


@pytest.mark.parametrize("name", ["CumSum", "CumProd"])
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_running_sums_and_products_are_lowered(name: str, exclusive: int, reverse: int) -> None:
    attributes = {"exclusive": exclusive, "reverse": reverse}
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int32, np.uint64):
        x = (RANDOM.random((3, 5, 2)) * 3).astype(dtype)
        check_lowering(name, [x, np.array(1)], attributes)
    check_lowering(name, [x[:0], np.array([0])], attributes)


def test_a_running_sum_along_an_axis_of_the_run_is_not_lowered() -> None:
    with pytest.raises(NotLowered, match="its input axis is computed at run time"):
        lower_op("CumSum", [np.zeros(3), np.array([[0]])])
