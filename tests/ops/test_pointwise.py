"""What elementwise operators promise about shapes and dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.errors import SchemaError, ShapeError
from fornix.ir.dim import symbol
from fornix.ops import schema_of
from fornix.ops.call import check_arity
from fornix.ops.fact import tensor
from tests.ops.harness import check_node, infer_op, peer, run_op


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


def test_one_slope_in_any_shape_keeps_the_shape_of_the_input_before_opset_7() -> None:
    x = np.array([-2, 3], np.float32)
    wanted = np.array([-1, 3], np.float32)
    check_node("PRelu", [x, np.full((1, 1), 0.5, np.float32)], expected=[wanted], opset=6)


def test_bounds_of_clip_are_scalars_though_they_may_have_an_axis() -> None:
    x, bound = np.array([1, 5], np.float32), np.array([3], np.float32)
    check_node("Clip", [x, None, bound], expected=[np.array([1, 3], np.float32)], opset=13)
    for shape in ((2,), (1, 1)):
        with pytest.raises(ShapeError, match="min and max must be scalars, found shape"):
            run_op("Clip", [x, np.ones(shape, np.float32)])
        with pytest.raises(ShapeError, match="must be scalars"):
            infer_op("Clip", [tensor(None, (symbol("N"),)), None, tensor(None, shape)])


@pytest.mark.parametrize("alpha", [-2.0, 0.5])
def test_celu_bounds_the_product_with_alpha(alpha: float) -> None:
    x = np.array([-2, -0.5, 0, 0.5, 3], np.float32)
    wanted = peer("Celu", [x], {"alpha": alpha}, opset=12)
    check_node("Celu", [x], {"alpha": alpha}, expected=wanted, opset=12, rtol=1e-6)


def test_mod_has_two_ways_to_round() -> None:
    with pytest.raises(ShapeError, match="fmod must be 0 or 1, got 2"):
        run_op("Mod", [np.ones(2, np.int32), np.ones(2, np.int32)], {"fmod": 2})


def test_none_of_several_inputs_may_be_left_out() -> None:
    with pytest.raises(SchemaError, match="Sum-13: input data_0 is required, found none"):
        check_arity(schema_of("", "Sum", 13), ["a", None, "b"], 1)
