from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import DTypeError, Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_node, fact_of, infer_op, peer, run_op

N = symbol("N")
DATA = np.random.default_rng(3).integers(-9, 9, (3, 4, 5)).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def some(seed: int, shape: tuple[int, ...], low: int = -9, high: int = 9) -> Any:
    return np.random.default_rng(seed).integers(low, high, shape)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements_agrees_with_the_peer(axis: int, reduction: str) -> None:
    indices = some(1, (2, 3, 4), -3, 3)
    if reduction == "none":  # the standard leaves repeated places open
        indices = np.argsort(some(2, (3, 4, 5)), axis)[tuple(map(slice, (2, 3, 4)))]
    inputs = [DATA, indices, some(4, indices.shape).astype(np.float32)]
    attributes = {"axis": axis, "reduction": reduction}
    if reduction == "none":
        indices %= DATA.shape[axis]
    check_node("ScatterElements", inputs, attributes,
               expected=peer("ScatterElements", inputs, attributes))  # fmt: skip


def test_scatter_is_scatter_elements() -> None:
    inputs = [DATA, some(1, (1, 4, 5), 0, 3), some(2, (1, 4, 5)).astype(np.float32)]
    [expected] = run_op("ScatterElements", inputs)
    check_node("Scatter", inputs, opset=9, expected=[expected])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_scatter_adds_narrow_floats_with_one_rounding(dtype: Any) -> None:
    data, updates = np.array([1], dtype), np.full(1000, 2.0**-9, dtype)
    expected = [(np.float32(1) + np.float32(1000 * 2.0**-9)).astype(dtype).reshape(1)]
    indices = np.zeros(1000, np.int64)
    check_node("ScatterElements", [data, indices, updates], {"reduction": "add"}, expected=expected)
    check_node("ScatterND", [data, indices[:, np.newaxis], updates], {"reduction": "add"},
               expected=expected)  # fmt: skip


def test_scatter_moves_strings() -> None:
    words = np.array(["a", "b", "c"], object)
    expected = [np.array(["x", "b", "y"], object)]
    updates = np.array(["y", "x"], object)
    check_node("ScatterElements", [words, ints(-1, 0), updates], expected=expected)
    check_node("ScatterND", [words, ints(-1, 0).reshape(2, 1), updates], expected=expected)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd_agrees_with_the_peer(depth: int, reduction: str) -> None:
    indices = np.array([[2, 1, 0], [0, 3, 4], [1, -1, 2]])[:, :depth]
    updates = some(4, (3, *DATA.shape[depth:])).astype(np.float32)
    inputs, attributes = [DATA, indices, updates], {"reduction": reduction}
    check_node("ScatterND", inputs, attributes, expected=peer("ScatterND", inputs, attributes))


def test_scatter_keeps_the_shape_of_the_data() -> None:
    data, rest = tensor(FLOAT32, (N, 3)), [unranked(INT64), unranked(FLOAT32)]
    for name in ("ScatterElements", "ScatterND"):
        assert infer_op(name, [data, *rest])[0].shape == (N, 3)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "error", "message"),
    [
        ("ScatterElements", [ints(4), ints(0)], {}, Fail, "must be in [-3, 2] for axis 0"),
        ("ScatterElements", [ints(0, 1), ints(0)], {}, ShapeError,
         "updates[1] must have the shape of indices[2]"),
        ("ScatterElements", [ints(0), ints(0)], {"reduction": "sum"}, ShapeError,
         "reduction must be one of none, add, mul, max, min, got 'sum'"),
        ("ScatterND", [ints(3).reshape(1, 1), ints(0)], {}, Fail, "indices[0] must be in [-3, 2]"),
        ("ScatterND", [ints(1, 1).reshape(1, 2), ints(0)], {}, ShapeError,
         "must index 1 to 1 axes of data[3], found 2"),
        ("ScatterND", [ints(1).reshape(1, 1), ints(0, 0)], {}, ShapeError,
         "updates must be [1] for data[3] and indices[1, 1], found [2]"),
    ],
)  # fmt: skip
def test_scatter_says_what_does_not_fit(
    name: str, inputs: list[Any], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        run_op(name, [ints(1, 2, 3), *inputs], attributes)
    assert message in str(raised.value)


@pytest.mark.parametrize("opset", [16, 17])
@pytest.mark.parametrize("reduction", ["max", "min"])
def test_scatter_takes_extremes_before_the_text_has_them_as_the_peer(
    reduction: str, opset: int
) -> None:
    attributes, updates = {"reduction": reduction}, some(4, (4, 5)).astype(np.float32)
    for name, indices in (
        ("ScatterElements", some(1, (4, 5), -3, 3)),
        ("ScatterND", some(1, (4, 1), -3, 3)),
    ):
        inputs = [DATA[:, 0], indices, updates]
        check_node(name, inputs, attributes, opset=opset,
                   expected=peer(name, inputs, attributes, opset=opset))  # fmt: skip


def test_scatter_cannot_add_strings() -> None:
    words = np.array(["a"], object)
    with pytest.raises(DTypeError, match="reduction add needs numbers, found string"):
        run_op("ScatterElements", [words, ints(0), words], {"reduction": "add"})


CACHE = np.zeros((2, 3, 4, 2), np.float32)
STEPS = np.arange(1, 2 * 3 * 2 * 2 + 1, dtype=np.float32).reshape(2, 3, 2, 2)


@pytest.mark.parametrize("axis", [-2, 2])
def test_tensor_scatter_writes_from_the_indices_on(axis: int) -> None:
    expected = CACHE.copy()
    expected[0, :, 1:3], expected[1, :, 2:4] = STEPS
    check_node("TensorScatter", [CACHE, STEPS, ints(1, 2)], {"axis": axis}, expected=[expected])


def test_tensor_scatter_begins_at_the_front() -> None:
    expected = CACHE.copy()
    expected[:, :, :2] = STEPS
    check_node("TensorScatter", [CACHE, STEPS], expected=[expected])


def test_tensor_scatter_goes_round_in_mode_circular() -> None:
    expected = CACHE.copy()
    expected[0][:, [3, 0]], expected[1][:, [1, 2]] = STEPS
    inputs = [CACHE, STEPS, ints(3, 5)]
    check_node("TensorScatter", inputs, {"mode": "circular"}, expected=[expected])


@pytest.mark.parametrize(
    ("inputs", "attributes", "error", "message"),
    [
        ([STEPS, ints(0, 3)], {}, Fail, "write_indices must be in [0, 2] for 2 steps in a cache"),
        ([STEPS, ints(0)], {}, ShapeError, "write_indices must be [2], found [1]"),
        ([STEPS], {"mode": "ring"}, ShapeError, "mode must be linear or circular, got 'ring'"),
        ([STEPS], {"axis": 0}, ShapeError, "axis must not be 0, the batch"),
        ([STEPS[:, :2]], {}, ShapeError, "update[2, 2, 2, 2] must have the extents of past_cache"),
        ([np.zeros((2, 3, 5, 2), np.float32)], {}, ShapeError, "no longer along axis 2"),
    ],
)
def test_tensor_scatter_says_what_does_not_fit(
    inputs: list[Any], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        run_op("TensorScatter", [CACHE, *inputs], attributes)
    assert message in str(raised.value)
    if error is ShapeError:
        with pytest.raises(error) as raised:
            infer_op("TensorScatter", [fact_of(x) for x in (CACHE, *inputs)], attributes)
        assert message in str(raised.value)
