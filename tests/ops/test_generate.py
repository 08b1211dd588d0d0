from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, FLOAT64, INT64, DType
from fornix.errors import DTypeError, Fail, SchemaError, ShapeError
from fornix.format.text import parse_model
from fornix.infer import infer_strictly
from fornix.ir.dim import symbol
from fornix.ir.load import from_message
from fornix.ir.tensor import ArrayTensor, SparseTensor
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact, as_value, tensor, unranked
from tests.ops.harness import check_node, infer_op, peer, run_op

N, S = symbol("N"), symbol("S")


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": np.ones((2, 3), np.int8)}, np.ones((2, 3), np.int8)),
        ({"value_float": 1.5}, np.array(1.5, np.float32)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": []}, np.array([], np.int64)),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "bc"]}, np.array(["a", "bc"], object)),
    ],
)
def test_constant_is_what_its_attribute_holds(attributes: dict[str, Any], expected: Any) -> None:
    check_node("Constant", [], attributes, expected=[expected])
    [fact] = infer_op("Constant", [], attributes)
    assert fact.constant is not None
    assert fact.constant.tolist() == expected.tolist()


def test_constant_makes_a_sparse_value_dense() -> None:
    sparse = SparseTensor(
        ArrayTensor(np.array([5, 7], np.float32)), ArrayTensor(ints(1, 5)), (2, 3)
    )
    expected = np.array([[0, 5, 0], [0, 0, 7]], np.float32)
    check_node("Constant", [], {"sparse_value": sparse}, opset=11, expected=[expected])


@pytest.mark.parametrize("attributes", [{}, {"value_int": 1, "value_float": 1.0}])
def test_constant_has_exactly_one_value(attributes: dict[str, Any]) -> None:
    for call in (run_op, infer_op):
        with pytest.raises(SchemaError, match="exactly one attribute must hold the value, found"):
            call("Constant", [], attributes)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_constant_of_shape_fills(dtype: Any, shape: tuple[int, ...]) -> None:
    value = np.ones(1, dtype)
    check_node(
        "ConstantOfShape", [ints(*shape)], {"value": value}, expected=[np.ones(shape, dtype)]
    )


def test_constant_of_shape_fills_with_zeros_of_float32() -> None:
    check_node("ConstantOfShape", [ints(2)], expected=[np.zeros(2, np.float32)])


def test_constant_of_shape_infers_what_its_input_tells() -> None:
    [fact] = infer_op("ConstantOfShape", [tensor(INT64, (2,), as_value([N, 3]))])
    assert fact.shape == (N, 3)
    assert infer_op("ConstantOfShape", [tensor(INT64, (2,))])[0].rank == 2
    assert not infer_op("ConstantOfShape", [unranked(INT64)])[0].has_rank
    filled = infer_op("ConstantOfShape", [tensor(INT64, (1,), as_value([2]))], {"value": ints(5)})
    assert filled[0].value is not None
    assert list(filled[0].value) == [5, 5]


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        (ints(2, -1), ints(1), r"entries of input must be 0 or more, got \[2, -1\]"),
        (ints(2), ints(1, 2), r"value must have one element, found shape \[2\]"),
    ],
)
def test_constant_of_shape_says_what_does_not_fit(shape: Any, value: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("ConstantOfShape", [shape], {"value": value})


def test_constant_of_shape_counts_in_int64() -> None:
    """Inference that does not look at the types of inputs finds it as well."""
    head = '<ir_version: 8, opset_import: ["": 20]>'
    model = parse_model(f"{head} g (int32[2] x) => (y) {{ y = ConstantOfShape (x) }}")
    with pytest.raises(DTypeError, match="input must be int64, found int32"):
        infer_strictly(from_message(model), checks_types=False)


@pytest.mark.parametrize("k", [0, 1, -2, 9, -9, 2**62])
def test_eye_like_has_ones_on_one_diagonal(k: int) -> None:
    like = np.zeros((3, 4), np.int32)
    expected = np.eye(3, 4, min(max(k, -9), 9)).astype(np.int32)
    check_node("EyeLike", [like], {"k": k}, expected=[expected])
    expected = expected.astype(ml_dtypes.bfloat16)
    check_node("EyeLike", [like], {"k": k, "dtype": 16}, expected=[expected])


def test_eye_like_needs_a_matrix() -> None:
    assert infer_op("EyeLike", [unranked(FLOAT32)])[0].rank == 2
    with pytest.raises(ShapeError, match=r"input must be \[N, M\], found \[3\]"):
        run_op("EyeLike", [np.zeros(3)])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize(
    ("start", "limit", "delta"), [(0, 5, 1), (5, 0, -2), (1, 1, 1), (3, 1, 1), (-4, 9, 3)]
)
def test_range_agrees_with_the_peer(dtype: Any, start: int, limit: int, delta: int) -> None:
    inputs = [np.array(x, dtype) for x in (start, limit, delta)]
    check_node("Range", inputs, expected=peer("Range", inputs))


def test_range_of_fractions_multiplies_its_step() -> None:
    inputs = [np.array(x, np.float32) for x in (0, 1, 0.1)]
    expected = [(np.arange(10, dtype=np.float32) * np.float32(0.1))]
    check_node("Range", inputs, expected=expected)
    np.testing.assert_allclose(expected[0], peer("Range", inputs)[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_range_of_narrow_floats_computes_in_float32(dtype: Any) -> None:
    inputs = [np.array(x, dtype) for x in (0, 3000, 3)]
    expected = (np.arange(len(run_op("Range", inputs)[0])) * 3).astype(np.float32).astype(dtype)
    check_node("Range", inputs, expected=[expected])


def test_range_of_huge_integers_is_stored() -> None:
    inputs = [np.array(x, np.int64) for x in (2**62, 2**62 + 3, 1)]
    check_node("Range", inputs, expected=[ints(2**62, 2**62 + 1, 2**62 + 2)])


def scalar(value: Any) -> Fact:
    return tensor(INT64, (), as_value(value))


def stored(value: Any) -> Fact:
    return Fact(TensorType(DType.of(value.dtype), ()), None, ArrayTensor(np.asarray(value)))


def test_range_infers_a_symbolic_length() -> None:
    assert infer_op("Range", [scalar(N), scalar(N + S), scalar(1)])[0].shape == (S,)
    assert infer_op("Range", [scalar(0), scalar(N), scalar(3)])[0].shape == ((N + 2) // 3,)
    [fact] = infer_op("Range", [scalar(1), scalar(7), scalar(2)])
    assert fact.value is not None
    assert list(fact.value) == [1, 3, 5]
    assert infer_op("Range", [scalar(0), scalar(10**6), scalar(1)])[0].shape == (10**6,)
    assert infer_op("Range", [scalar(0), scalar(3), scalar(N)])[0].rank == 1


@pytest.mark.parametrize("start", [0.5, -0.5, -2.25, 1.75])
@pytest.mark.parametrize("step", [1.0, 3.0, -1.0, -2.0])
def test_range_from_a_fraction_has_a_symbolic_length(start: float, step: float) -> None:
    limit = tensor(FLOAT32, (), as_value(N))
    [fact] = infer_op("Range", [stored(np.float32(start)), limit, stored(np.float32(step))])
    for extent in range(9):
        found = [np.array(x, np.float32) for x in (start, extent, step)]
        [result] = run_op("Range", found)
        count = fact.shape[0]
        assert (count if isinstance(count, int) else count.bind({"N": extent})) == result.size


@pytest.mark.parametrize("start", [np.nan, np.inf, 2.0**30 + 0.5])
def test_range_from_no_small_number_has_an_open_length(start: float) -> None:
    limit = tensor(FLOAT64, (), as_value(N))
    [fact] = infer_op("Range", [stored(np.float64(start)), limit, stored(np.float64(1))])
    [count] = fact.shape
    assert not isinstance(count, int)
    assert count.unknowns == ("Range: its number of steps is computed at run time",)


@pytest.mark.parametrize(
    ("limit", "delta", "message"),
    [
        (np.float32(1), np.float32(0), "delta must not be 0"),
        (np.float32(np.inf), np.float32(1), "must be finite, got 0.0, inf and 1.0"),
    ],
)
def test_range_says_what_does_not_fit(limit: Any, delta: Any, message: str) -> None:
    with pytest.raises(Fail, match=message):
        run_op("Range", [np.array(0, np.float32), np.array(limit), np.array(delta)])


@pytest.mark.parametrize("limit", [np.int64(2**63 - 1), np.float64(2**63), 1e30])
def test_a_range_that_no_memory_holds_is_refused(limit: Any) -> None:
    one = np.array(1, np.asarray(limit).dtype)
    with pytest.raises(MemoryError, match="PiB"):
        run_op("Range", [one - one, np.array(limit), one])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize(("start", "limit", "delta"), [(0, -9, -2), (5, 50, 7), (3, 3, 1)])
def test_a_range_begins_at_start_with_its_sign(
    dtype: Any, start: int, limit: int, delta: int
) -> None:
    first, end, step = (np.array(number, dtype) for number in (start, limit, delta))
    expected = np.array([start + i * delta for i in range(-((limit - start) // -delta))], dtype)
    (found,) = run_op("Range", [first, end, step])
    assert found.dtype == dtype
    assert found.tobytes() == expected.tobytes()  # 0, not -0
