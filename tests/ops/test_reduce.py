from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.call import NotLowered
from fornix.ops.fact import as_value, tensor
from tests.ops.harness import check_lowering, check_node, infer_op, lower_op, peer, run_op

N = symbol("N")
RANDOM = np.random.default_rng(7)
REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]


def positive(*shape: int, dtype: Any = np.float32) -> Any:
    return (RANDOM.random(shape) * 2 + 0.5).astype(dtype)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axes", [[1], [-1, 0], None])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_agree_with_onnxruntime_in_both_spellings(
    name: str, axes: list[int] | None, keepdims: int
) -> None:
    x = positive(3, 4, 5)
    attributes: dict[str, Any] = {"keepdims": keepdims}
    old = attributes | ({"axes": axes} if axes else {})
    wanted = peer(name, [x], old, opset=11)
    check_node(name, [x], old, opset=11, expected=wanted, rtol=1e-5)
    inputs = [x] if axes is None else [x, np.array(axes, np.int64)]
    check_node(name, inputs, attributes, opset=18, expected=wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["ReduceSum", "ReduceProd", "ReduceSumSquare"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integer_reductions_wrap_around(name: str, dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.array([[info.max, 2, 3]], dtype)
    term = {"ReduceSumSquare": [int(v) ** 2 for v in x[0]]}.get(name, [int(v) for v in x[0]])
    total = int(np.prod(np.array(term, object))) if name == "ReduceProd" else sum(term)
    wrapped = (total - info.min) % 2 ** (8 * x.itemsize) + info.min
    check_node(name, [x, np.array([1])], expected=[np.array([[wrapped]], dtype)])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_summed_in_float32(dtype: Any) -> None:
    x = np.full(4096, 1.0, dtype)
    check_node("ReduceSum", [x], {"keepdims": 0}, expected=[np.array(4096.0, dtype)])


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("ReduceSum", 0.0),
        ("ReduceProd", 1.0),
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
        ("ReduceL1", 0.0),
        ("ReduceL2", 0.0),
    ],
)
def test_reducing_nothing_gives_the_neutral_element(name: str, neutral: float) -> None:
    x = np.empty((2, 0), np.float32)
    wanted = np.full((2, 1), neutral, np.float32)
    check_node(name, [x, np.array([1])], expected=[wanted])


def test_reductions_of_bool_are_any_and_all() -> None:
    x = np.array([[True, False], [True, True]])
    check_node("ReduceMax", [x, np.array([1])], {"keepdims": 0}, expected=[x.any(1)])
    check_node("ReduceMin", [x, np.array([1])], {"keepdims": 0}, expected=[x.all(1)])


def test_noop_reduces_over_no_axes() -> None:
    x = positive(2, 3)
    attributes = {"noop_with_empty_axes": 1}
    check_node("ReduceSum", [x, np.array([], np.int64)], attributes, expected=[x])
    check_node("ReduceSum", [x], attributes, expected=[x])


def test_log_sum_exp_does_not_overflow() -> None:
    x = np.array([1000.0, 1000.0])
    check_node("ReduceLogSumExp", [x], {"keepdims": 0}, expected=[np.array(1000 + np.log(2))])


def test_sum_of_a_shape_is_symbolic() -> None:
    fact = tensor(INT64, (3,), as_value([N, 2, N]))
    [product] = infer_op("ReduceProd", [fact], {"keepdims": 0})
    assert product.value is not None
    assert product.value.item() == 2 * N * N
    [total] = infer_op("ReduceSum", [fact], {"keepdims": 1})
    assert total.value is not None
    assert list(total.value) == [2 * N + 2]


def test_unknown_axes_keep_the_rank_if_dims_are_kept() -> None:
    data, axes = tensor(FLOAT32, (N, 3, 4)), tensor(INT64, (1,))
    assert infer_op("ReduceSum", [data, axes])[0].rank == 3
    assert infer_op("ReduceSum", [data, axes], {"keepdims": 0})[0].rank == 2
    open_axes = tensor(INT64, (N,))
    assert not infer_op("ReduceSum", [data, open_axes], {"keepdims": 0})[0].has_rank


@pytest.mark.parametrize("axes", [[3], [-4]])
def test_reductions_refuse_an_axis_out_of_range(axes: list[int]) -> None:
    with pytest.raises(ShapeError, match=r"axes must be in \[-3, 2\] for rank 3, got -?\d"):
        run_op("ReduceSum", [positive(2, 3, 4), np.array(axes)])


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.uint64]
)
def test_reductions_are_lowered(name: str, dtype: Any) -> None:
    opset = 18 if name.startswith("ReduceLog") else 28
    x = positive(2, 3, 4, dtype=dtype) * 2
    for axes in ([1], [0, -1], [0, 1, 2]):
        check_lowering(name, [x, np.array(axes)], {"keepdims": len(axes) % 2}, opset=opset)
    check_lowering(name, [x], {"noop_with_empty_axes": 1}, opset=opset)
    if dtype != ml_dtypes.bfloat16:
        check_lowering(name, [x], {"axes": [1]}, opset=11)


def test_integer_means_round_towards_zero_when_lowered() -> None:
    x = np.array([[-3, -4], [3, 4], [2**31 - 1, 2**31 - 1]], np.int32)
    check_lowering("ReduceMean", [x], {"axes": [1]}, opset=13)


def test_extremes_are_lowered_with_nan_infinities_and_nothing() -> None:
    x = np.array([[1, np.nan], [-np.inf, np.inf], [-0.0, 0.0]], np.float32)
    for name in ("ReduceMax", "ReduceMin", "ReduceLogSumExp"):
        check_lowering(name, [x, np.array([1])])
        check_lowering(name, [x[:, :0], np.array([1])])
    for name in ("ReduceMax", "ReduceMin"):
        check_lowering(name, [x > 0, np.array([0])])
        check_lowering(name, [(x > 0).astype(np.int8), np.array([0])])


def test_a_reduction_over_axes_of_the_run_is_not_lowered() -> None:
    with pytest.raises(NotLowered, match="its input axes is computed at run time"):
        lower_op("ReduceSum", [positive(2, 3), np.array([[1]])])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(2, 0), (0, 0), (0, 3)])
def test_the_mean_of_nothing_is_0_as_in_onnxruntime(shape: tuple[int, int], dtype: Any) -> None:
    none, axes = np.zeros(shape, dtype), np.array([1])
    expected = peer("ReduceMean", [none], {"axes": [1]}, opset=13)
    np.testing.assert_array_equal(expected[0], np.zeros((shape[0], 1), dtype))
    check_node("ReduceMean", [none, axes], expected=expected)
    check_lowering("ReduceMean", [none, axes])


def test_means_of_large_integers_are_exact_and_cut_towards_zero() -> None:
    x = np.array([[2**60, 2**60 + 3], [-(2**60), -(2**60) - 3]])
    mean = np.array([[2**60 + 1], [-(2**60) - 1]])
    check_node("ReduceMean", [x, np.array([1])], expected=[mean])
    check_lowering("ReduceMean", [x, np.array([1])])
