"""What elementwise operators promise about shapes and dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor
from tests.ops.harness import check_node, infer_op, run_op


def test_comparing_no_strings_gives_bools() -> None:
    empty = np.zeros((0, 2), object)
    check_node("Equal", [empty, empty], expected=[np.zeros((0, 2), bool)])


def test_gate_and_value_of_swiglu_have_one_shape() -> None:
    gate, value = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ShapeError, match=r"one shape, got \[2, 3\] and \[3\]"):
        run_op("SwiGLU", [gate, value])
    with pytest.raises(ShapeError, match="one shape"):
        infer_op("SwiGLU", [tensor(None, (symbol("N"), 3)), tensor(None, (symbol("N"), 4))])


@pytest.mark.parametrize("slope", [(4, 3), (1, 2, 3), (2,)])
def test_slopes_broadcast_to_the_input_and_not_the_input_to_them(slope: tuple[int, ...]) -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"must broadcast to the first input's \[2, 3\]"):
        run_op("PRelu", [x, np.ones(slope, np.float32)])
    with pytest.raises(ShapeError, match="must broadcast to the first"):
        infer_op("PRelu", [tensor(None, x.shape), tensor(None, slope)])


def test_slopes_of_no_channels_are_none_before_opset_7() -> None:
    x = np.ones((1, 0, 2), np.float32)
    check_node("PRelu", [x, np.ones(0, np.float32)], expected=[x], opset=6)
