from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import ShapeError
from tests.ops.harness import run_op
from tests.ops.microsoft.peer import DOMAIN, agree

rng = np.random.default_rng(8)
BYTES = pytest.mark.parametrize("dtype", [np.int8, np.uint8])


def quanta(*shape: int, dtype: Any) -> Any:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero(dtype: Any) -> Any:
    return np.array(rng.integers(-9, 9) + (128 if dtype is np.uint8 else 0), dtype)


def scale(value: float) -> Any:
    return np.array(value, np.float32)


@BYTES
@pytest.mark.parametrize("name", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("other", [(2, 3, 40), (40,), (1, 3, 1)])
def test_sums_and_products_are_those_of_onnxruntime_to_a_quantum(
    name: str, dtype: Any, other: tuple[int, ...]
) -> None:
    inputs = [quanta(2, 3, 40, dtype=dtype), scale(0.03), zero(dtype)]
    inputs += [quanta(*other, dtype=dtype), scale(0.02), zero(dtype), scale(0.05), zero(dtype)]
    agree(name, inputs, rtol=0, atol=1)


@BYTES
def test_what_a_condition_chooses_is_quantised_anew(dtype: Any) -> None:
    """Scales and zero points differ; powers of two, so that quotients are exact."""
    inputs = [rng.random((3, 5)) < 0.5]
    for step, place in ((0.5, 3), (0.25, 8)):
        inputs += [quanta(3, 5, dtype=dtype), scale(step), np.array(place, dtype)]
    inputs += [scale(1), np.array(4, dtype)]
    [z] = run_op("QLinearWhere", inputs, domain=DOMAIN, opset=1)
    x, y = (
        (inputs[k].astype(np.float32) - np.float32(inputs[k + 2])) * inputs[k + 1] for k in (1, 4)
    )
    bounds = np.iinfo(dtype)
    wanted = np.clip(np.rint(np.where(inputs[0], x, y)) + 4, bounds.min, bounds.max)
    np.testing.assert_array_equal(z, wanted.astype(dtype))
    agree("QLinearWhere", inputs, rtol=0, atol=1)


@BYTES
def test_sums_round_ties_to_even(dtype: Any) -> None:
    a = np.arange(0, 100, dtype=dtype)
    inputs = [a, scale(0.5), np.array(0, dtype), np.zeros_like(a), scale(1), np.array(0, dtype)]
    [y] = run_op("QLinearAdd", [*inputs, scale(1), np.array(3, dtype)], domain=DOMAIN, opset=1)
    assert y.dtype == dtype
    assert y.tolist() == [int(np.rint(x / 2)) + 3 for x in range(100)]


@BYTES
@pytest.mark.parametrize(
    ("name", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.3})]
)
def test_tables_of_256_values_are_those_of_onnxruntime(
    name: str, attributes: dict[str, float], dtype: Any
) -> None:
    info = np.iinfo(dtype)
    x = np.arange(info.min, info.max + 1).astype(dtype)
    inputs = [x, scale(0.05), zero(dtype), scale(0.02), zero(dtype)]
    agree(name, inputs, attributes, rtol=0, atol=1)


@BYTES
@pytest.mark.parametrize(("axis", "opset"), [(-1, 13), (1, 13), (1, 11)])
def test_softmax_is_that_of_onnxruntime(dtype: Any, axis: int, opset: int) -> None:
    low = -128 if dtype is np.int8 else 0
    inputs = [quanta(2, 5, 7, dtype=dtype), scale(0.05), zero(dtype)]
    inputs += [scale(1 / 256), np.array(low, dtype)]
    agree("QLinearSoftmax", inputs, {"axis": axis, "opset": opset}, rtol=0, atol=1)


@BYTES
def test_parts_are_brought_to_one_scale(dtype: Any) -> None:
    inputs = [scale(0.04), zero(dtype)]
    for width in (3, 1, 4):
        inputs += [quanta(2, width, 5, dtype=dtype), scale(0.01 * width), zero(dtype)]
    agree("QLinearConcat", inputs, {"axis": 1}, rtol=0, atol=1)


def test_parts_come_with_scale_and_zero_point() -> None:
    inputs = [scale(1), zero(np.int8), quanta(2, dtype=np.int8)]
    with pytest.raises(ShapeError, match="a scale and a zero point each, found 1"):
        run_op("QLinearConcat", inputs, {"axis": 0}, domain=DOMAIN, opset=1)


@BYTES
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("counted", [0, 1])
def test_windows_are_averaged(dtype: Any, last: int, counted: int) -> None:
    shape = (1, 7, 8, 3) if last else (1, 3, 7, 8)
    inputs = [quanta(*shape, dtype=dtype), scale(1 / 16), zero(dtype), scale(1 / 8), zero(dtype)]
    # Windows of two by two and scales that are powers of two: ties are ties in any order.
    window = {"kernel_shape": [2, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    flags = {"channels_last": last, "count_include_pad": counted, **window}
    agree("QLinearAveragePool", inputs, flags, rtol=0, atol=1)


@BYTES
@pytest.mark.parametrize("last", [0, 1])
def test_channels_are_averaged(dtype: Any, last: int) -> None:
    shape = (2, 7, 8, 3) if last else (2, 3, 7, 8)
    inputs = [quanta(*shape, dtype=dtype), scale(0.05), zero(dtype), scale(0.01), zero(dtype)]
    agree("QLinearGlobalAveragePool", inputs, {"channels_last": last}, rtol=0, atol=1)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    ("pair", "factor", "mean"), [([7, -8], 0.1, 0), ([2, -9], 0.3, -4), ([-8, 7], 0.05, 0)]
)
def test_means_half_way_between_quanta_go_to_the_even_one(
    pair: list[int], factor: float, mean: int, last: int
) -> None:
    x = np.array(pair, np.int8).reshape((1, 1, 2, 1) if last else (1, 1, 1, 2)) + np.int8(3)
    inputs = [x, scale(factor), np.int8(3), scale(factor), np.int8(3)]
    flags = {"channels_last": last, "kernel_shape": [1, 2]}
    [y] = run_op("QLinearAveragePool", inputs, flags, domain=DOMAIN, opset=1)
    assert y.item() == mean + 3
