from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import DimLike, symbol
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact, as_value, tensor, unranked
from tests.ops.harness import check_node, fact_of, infer_op, peer, run_op

N, S = symbol("N"), symbol("S")
DATA = np.random.default_rng(3).integers(-9, 9, (3, 4, 5)).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def listed(*values: DimLike) -> Fact:
    return tensor(INT64, (len(values),), as_value(list(values)))


def stored(array: Any) -> Fact:
    return Fact(TensorType(INT64, array.shape), None, ArrayTensor(array))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(), (0,), (2,), (2, 3)])
def test_gather_replaces_an_axis_by_those_of_the_indices(axis: int, shape: tuple[int, ...]) -> None:
    indices = np.random.default_rng(1).integers(-3, 3, shape)
    expected = np.take(DATA, indices, axis)
    check_node("Gather", [DATA, np.asarray(indices)], {"axis": axis}, expected=[expected])


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, object, ml_dtypes.bfloat16])
def test_gather_moves_any_dtype(dtype: Any) -> None:
    data = DATA.astype(dtype)
    check_node("Gather", [data, np.array([[2, 0]], np.int32)], expected=[data[[[2, 0]]]])


def test_gather_propagates_symbolic_contents() -> None:
    [fact] = infer_op("Gather", [listed(N, 3, S), stored(np.array(-1))])
    assert fact.shape == ()
    assert fact.value is not None
    assert fact.value.item() == S
    [fact] = infer_op("Gather", [listed(N, 3, S), stored(ints(2, 0))])
    assert fact.value is not None
    assert list(fact.value) == [S, N]


def test_gather_infers_symbolic_extents() -> None:
    [fact] = infer_op("Gather", [tensor(FLOAT32, (5, 768)), tensor(INT64, (N, S))])
    assert fact.shape == (N, S, 768)
    assert not infer_op("Gather", [unranked(FLOAT32), tensor(INT64, (N,))])[0].has_rank


def test_gather_of_nothing_has_no_index_out_of_range() -> None:
    with pytest.raises(Fail, match=r"indices\[0\] must be in \[-2, 1\] for axis 1"):
        run_op("Gather", [np.zeros((0, 2), np.float32), ints(1) + 7], {"axis": 1})


@pytest.mark.parametrize("index", [4, -5])
def test_gather_says_which_index_is_out_of_range(index: int) -> None:
    message = f"indices[1] must be in [-4, 3] for axis 1, whose extent is 4, found {index}"
    with pytest.raises(Fail) as raised:
        run_op("Gather", [DATA, ints(0, index)], {"axis": 1})
    assert str(raised.value) == message
    with pytest.raises(ShapeError) as contradiction:
        infer_op("Gather", [tensor(FLOAT32, (3, 4)), stored(ints(0, index))], {"axis": 1})
    assert str(contradiction.value) == message


def test_gather_from_an_empty_axis_has_no_index() -> None:
    with pytest.raises(Fail, match="indices must be none for axis 0, whose extent is 0, found 0"):
        run_op("Gather", [DATA[:0], np.array(0)])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements_agrees_with_torch(axis: int) -> None:
    generator = np.random.default_rng(2)
    indices = generator.integers(0, DATA.shape[axis], (2, 3, 4))
    expected = torch.gather(torch.from_numpy(DATA), axis, torch.from_numpy(indices)).numpy()
    check_node("GatherElements", [DATA, indices], {"axis": axis}, expected=[expected])
    check_node(
        "GatherElements", [DATA, indices - DATA.shape[axis]], {"axis": axis}, expected=[expected]
    )


def test_gather_elements_propagates_symbolic_contents() -> None:
    [fact] = infer_op("GatherElements", [listed(N, 3, S), stored(ints(1, -1))])
    assert fact.value is not None
    assert list(fact.value) == [3, S]


def test_gather_elements_has_the_shape_of_the_indices() -> None:
    [fact] = infer_op("GatherElements", [unranked(FLOAT32), tensor(INT64, (N, 2))])
    assert fact.shape == (N, 2)
    assert infer_op("GatherElements", [tensor(FLOAT32, (N, 2)), unranked(INT64)])[0].rank == 2


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (ints(0).reshape(1, 1, 1) + 3, Fail, r"indices\[0, 0, 0\] must be in \[-3, 2\]"),
        (ints(0), ShapeError, r"indices\[1\] must have the rank of data\[3, 4, 5\]"),
        (np.zeros((1, 5, 1), np.int64), ShapeError, "beside axis 0, no greater extent"),
    ],
)
def test_gather_elements_says_what_does_not_fit(
    indices: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_op("GatherElements", [DATA, indices])


@pytest.mark.parametrize(
    ("batch_dims", "shape"),
    [(0, (2, 1)), (0, (3,)), (0, (2, 2, 2)), (1, (3, 2, 1)), (2, (3, 4, 1))],
)
def test_gather_nd_agrees_with_the_peer(batch_dims: int, shape: tuple[int, ...]) -> None:
    indices = np.random.default_rng(5).integers(-3, 3, shape)
    attributes = {"batch_dims": batch_dims}
    expected = peer("GatherND", [DATA, indices], attributes)
    check_node("GatherND", [DATA, indices], attributes, expected=expected)


@pytest.mark.parametrize("count", [1, 16, 17])
def test_few_and_many_indices_are_held_to_the_same_bounds(count: int) -> None:
    words, indices = np.array(["a", "b", "c"], object), np.full(count, -3)
    [found] = run_op("GatherND", [words, indices.reshape(-1, 1)])
    assert found.tolist() == ["a"] * count
    assert run_op("GatherND", [words, indices[:1]])[0].tolist() == "a"
    for wrong in (3, -4):
        indices[-1] = wrong
        with pytest.raises(Fail, match=rf"must be in \[-3, 2\] .* found {wrong}"):
            run_op("GatherND", [words, indices.reshape(-1, 1)])
        with pytest.raises(Fail, match=rf"must be in \[-3, 2\] .* found {wrong}"):
            run_op("Gather", [words, indices])


@pytest.mark.parametrize(("batch_dims", "shape"), [(0, (0, 2)), (1, (0, 4, 5)), (1, (3, 0, 1))])
def test_gather_nd_takes_no_elements(batch_dims: int, shape: tuple[int, ...]) -> None:
    data = DATA[: shape[0]] if batch_dims else DATA
    indices = np.zeros((*shape[:-1], 1), np.int64)
    [found] = run_op("GatherND", [data, indices], {"batch_dims": batch_dims})
    assert found.shape == (*shape[:-1], *data.shape[batch_dims + 1 :])


def test_gather_nd_infers_symbolic_extents() -> None:
    inputs = [tensor(FLOAT32, (N, 3, 4)), tensor(INT64, (S, 2))]
    assert infer_op("GatherND", inputs)[0].shape == (S, 4)
    assert not infer_op("GatherND", [inputs[0], tensor(INT64, (2, S))])[0].has_rank


@pytest.mark.parametrize(
    ("indices", "batch_dims", "error", "message"),
    [
        (ints(3), 0, Fail, "indices must be in [-3, 2] for axis 0"),
        (ints(0, 0, 0, 0), 0, ShapeError, "must index 1 to 3 axes of data[3, 4, 5], found 4"),
        (ints(0), 1, ShapeError, "batch_dims must be less than the ranks of data[3, 4, 5] and"),
        (np.zeros((2, 1), np.int64), 1, ShapeError, "the first 1 extents of data[3, 4, 5] and"),
    ],
)
def test_gather_nd_says_what_does_not_fit(
    indices: Any, batch_dims: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        run_op("GatherND", [DATA, indices], {"batch_dims": batch_dims})
    assert message in str(raised.value)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_one_hot_agrees_with_the_peer(axis: int, dtype: Any) -> None:
    indices = np.array([0, 2, 4, 1], dtype)
    inputs = [indices, np.array([3], np.int64), np.array([-1, 5], np.float32)]
    expected = peer("OneHot", [indices.astype(np.int64), *inputs[1:]], {"axis": axis})
    check_node("OneHot", inputs, {"axis": axis}, expected=expected)


def test_one_hot_counts_negative_indices_from_the_end_since_opset_11() -> None:
    inputs = [ints(-1, -4), np.array(3.0, np.float32), np.array([False, True])]
    check_node("OneHot", inputs, opset=11, expected=[np.array([[0, 0, 1], [0, 0, 0]], bool)])
    check_node("OneHot", inputs, opset=9, expected=[np.zeros((2, 3), bool)])


def test_one_hot_infers_a_symbolic_depth() -> None:
    facts = [tensor(INT64, (N,)), tensor(INT64, (1,), as_value([S])), tensor(FLOAT32, (2,))]
    assert infer_op("OneHot", facts, {"axis": 0})[0].shape == (S, N)
    assert infer_op("OneHot", [facts[0], tensor(INT64, ()), facts[2]])[0].rank == 2


@pytest.mark.parametrize(
    ("depth", "values", "message"),
    [
        (ints(-1), ints(0, 1), "depth must be 0 or more, got -1"),
        (ints(1, 2), ints(0, 1), r"depth must have one element, found shape \[2\]"),
        (ints(2), ints(0, 1, 2), r"values must be \[off, on\], found \[3\]"),
    ],
)
def test_one_hot_says_what_does_not_fit(depth: Any, values: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("OneHot", [ints(0), depth, values])
    with pytest.raises(ShapeError, match=message):
        infer_op("OneHot", [fact_of(x) for x in (ints(0), depth, values)])
