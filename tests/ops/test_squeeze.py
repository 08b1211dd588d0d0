from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, run_op

N = symbol("N")
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("axes", [(0,), (-4, 2), (0, 2)])
def test_squeeze_and_unsqueeze_undo_each_other(axes: tuple[int, ...]) -> None:
    whole = np.arange(6, dtype=np.int8).reshape(1, 2, 1, 3)
    part = np.squeeze(whole, tuple(axes))
    check_node("Squeeze", [whole, ints(*axes)], expected=[part])
    check_node("Unsqueeze", [part, ints(*axes)], expected=[whole])
    check_node("Squeeze", [whole], {"axes": list(axes)}, opset=11, expected=[part])
    check_node("Unsqueeze", [part], {"axes": list(axes)}, opset=11, expected=[whole])
    check_lowering("Squeeze", [whole, ints(*axes)])
    check_lowering("Unsqueeze", [part, ints(*axes)])
    check_lowering("Squeeze", [whole], {"axes": list(axes)}, opset=11)
    check_lowering("Unsqueeze", [part], {"axes": list(axes)}, opset=11)


def test_squeeze_without_axes_drops_every_one() -> None:
    whole = np.ones((1, 2, 1), np.float64)
    check_node("Squeeze", [whole], expected=[np.ones(2)])
    assert not infer_op("Squeeze", [tensor(FLOAT32, (N, 1))])[0].has_rank


def test_squeeze_refuses_an_extent_that_is_not_one() -> None:
    with pytest.raises(ShapeError, match=r"axis 1 of data\[2, 3, 4\] must be 1 to be squeezed"):
        run_op("Squeeze", [DATA, ints(1)])


def test_unsqueeze_refuses_an_axis_named_twice() -> None:
    with pytest.raises(ShapeError, match=r"axes must name each axis once, got \[1, 1\]"):
        run_op("Unsqueeze", [DATA, ints(1, -4)])


def test_squeeze_without_axes_is_lowered_if_every_extent_is_known() -> None:
    check_lowering("Squeeze", [np.ones((1, 2, 1))], symbolic=False)
    with pytest.raises(NotLowered, match="extents decide at run time which axes go"):
        lower_op("Squeeze", [np.ones((1, 2, 1))], is_symbolic=True)


def test_axes_of_the_run_are_left_to_the_kernel() -> None:
    for name in ("Squeeze", "Unsqueeze"):
        with pytest.raises(NotLowered, match="its input axes is computed at run time"):
            lower_op(name, [np.ones((1, 2)), ints(0)[None]])
