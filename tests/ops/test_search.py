from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import BOOL, FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor, unranked
from tests.ops.harness import check_node, infer_op, run_op

N = symbol("N")
DATA = np.random.default_rng(3).integers(0, 3, (3, 4)).astype(np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress_picks_what_the_condition_reaches(axis: int | None) -> None:
    condition = np.array([True, False, True])
    attributes = {} if axis is None else {"axis": axis}
    expected = np.compress(condition, DATA, axis)
    check_node("Compress", [DATA, condition], attributes, expected=[expected])


def test_compress_counts_a_known_condition() -> None:
    chosen = tensor(BOOL, (3,), as_value([1, 0, 1]))
    assert infer_op("Compress", [tensor(FLOAT32, (N, 3)), chosen], {"axis": 0})[0].shape == (2, 3)


def test_compress_refuses_a_condition_longer_than_the_axis() -> None:
    with pytest.raises(ShapeError, match=r"a list of at most 3 entries, found \[4\]"):
        run_op("Compress", [DATA, np.ones(4, bool)], {"axis": 0})


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, ml_dtypes.bfloat16, np.complex64])
def test_non_zero_lists_positions_in_columns(dtype: Any) -> None:
    check_node("NonZero", [DATA.astype(dtype)], expected=[np.array(np.nonzero(DATA))])


def test_non_zero_of_strings_finds_those_that_are_not_empty() -> None:
    check_node("NonZero", [np.array(["", "a"], object)], expected=[np.array([[1]])])


@pytest.mark.parametrize(("value", "count"), [(0, 0), (5, 1)])
def test_non_zero_of_a_scalar_has_no_rows(value: int, count: int) -> None:
    check_node("NonZero", [np.array(value)], expected=[np.zeros((0, count), np.int64)])


def test_non_zero_knows_the_rank() -> None:
    assert infer_op("NonZero", [tensor(FLOAT32, (N, 3))])[0].shape[0] == 2
    assert infer_op("NonZero", [unranked(FLOAT32)])[0].rank == 2


def test_non_zero_of_a_known_value_is_known() -> None:
    [fact] = infer_op("NonZero", [tensor(INT64, (3,), as_value([4, 0, 1]))])
    assert fact.value is not None
    assert fact.value.tolist() == [[0, 2]]


def test_of_nothing_there_is_nothing_whatever_is_fed() -> None:
    [fact] = infer_op("NonZero", [tensor(FLOAT32, (N, 0))])
    assert fact.shape == (2, 0)
    chosen = [tensor(FLOAT32, (N, 3)), tensor(BOOL, (0,))]
    assert infer_op("Compress", chosen, {"axis": 0})[0].shape == (0, 3)
    facts = infer_op("Unique", [tensor(FLOAT32, (N, 0))], outputs=4)
    assert [fact.shape for fact in facts] == [(0,)] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, ml_dtypes.bfloat16, np.complex64])
def test_unique_sorts_and_counts_elements(dtype: Any) -> None:
    data = DATA.astype(dtype)
    values, first, inverse, counts = np.unique(
        DATA if dtype is not np.bool_ else data,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    expected = [values.astype(dtype), first, inverse.reshape(-1), counts]
    check_node("Unique", [data], expected=expected)


def test_unique_of_strings() -> None:
    words = np.array(["b", "a", "b"], object)
    expected = [np.array(["a", "b"], object), *map(np.array, ([1, 0], [1, 0, 1], [1, 2]))]
    check_node("Unique", [words], expected=expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.bool_])
@pytest.mark.parametrize("axis", [0, 1])
def test_unique_rows_of_the_widest_integers_stay_apart(dtype: Any, axis: int) -> None:
    limits = (0, 1) if dtype is np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for span in (limits, (limits[1] - 1, limits[1])):
        data = np.array([[span[0], span[1]], [span[1], span[0]], [span[0], span[1]]], dtype)
        values, first, inverse, counts = np.unique(
            data, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        expected = [values, first, inverse.reshape(-1), counts]
        check_node("Unique", [data], {"axis": axis}, expected=expected)


def test_unique_keeps_the_order_of_occurrence() -> None:
    data = np.array([2, 1, 1, 3, 4, 3])
    expected = [*map(np.array, ([2, 1, 3, 4], [0, 1, 3, 4], [0, 1, 1, 2, 3, 2], [1, 2, 2, 1]))]
    check_node("Unique", [data], {"sorted": 0}, expected=expected)


@pytest.mark.parametrize("dtype", [np.float32, object])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_unique_slices_are_sorted_lexicographically(axis: int, dtype: Any) -> None:
    data = np.random.default_rng(1).integers(0, 2, (6, 3, 2)).astype(np.float32)
    values, first, inverse, counts = np.unique(
        data, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    given = data.astype(str).astype(object) if dtype is object else data
    expected = [np.take(given, first, axis), first, inverse.reshape(-1), counts]
    np.testing.assert_array_equal(values, np.take(data, first, axis))
    check_node("Unique", [given], {"axis": axis}, expected=expected)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_unique_counts_every_nan_as_one(dtype: Any) -> None:
    data = np.array([np.nan, 1, np.nan, 0], dtype)
    found, first, inverse, counts = run_op("Unique", [data], outputs=4)
    assert found.astype(np.float32)[:2].tolist() == [0, 1]
    assert [x.tolist() for x in (first, inverse, counts)] == [[3, 1, 0], [2, 1, 2, 0], [1, 1, 2]]


@pytest.mark.parametrize(("shape", "axis", "kept"), [((0, 3), 0, (0, 3)), ((3, 0), 0, (1, 0))])
def test_unique_of_slices_without_elements(
    shape: tuple[int, ...], axis: int, kept: tuple[int, ...]
) -> None:
    check_node("Unique", [np.zeros(shape)], {"axis": axis}, expected=[np.zeros(kept)])


def test_unique_knows_the_length_of_the_inverse() -> None:
    facts = infer_op("Unique", [tensor(FLOAT32, (N, 3))], outputs=4)
    assert facts[2].shape == (3 * N,)
    facts = infer_op("Unique", [tensor(FLOAT32, (N, 3))], {"axis": 0}, outputs=4)
    assert facts[0].shape[1] == 3
    assert facts[0].shape[0] == facts[1].shape[0] == facts[3].shape[0]
    assert facts[2].shape == (N,)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("order", [0, 1])
def test_unique_of_drawn_texts_is_that_of_their_numbers(axis: int | None, order: int) -> None:
    rng = np.random.default_rng(5)
    names = np.array(sorted(["", "a", "B", "é", "aa", "\U0001f600", "\uffff", "b c"]), object)
    attributes: dict[str, Any] = {"sorted": order} | ({} if axis is None else {"axis": axis})
    for shape in [(1, 1), (3, 2), (2, 5), (40, 2), (1, 60), (0, 2), (2, 0)]:
        numbers = rng.integers(len(names), size=shape)
        expected = run_op("Unique", [numbers], attributes, outputs=4)
        found = run_op("Unique", [names[numbers]], attributes, outputs=4)
        assert found[0].tolist() == names[expected[0]].tolist()
        for one, other in zip(found[1:], expected[1:], strict=True):
            assert one.dtype == other.dtype == np.int64
            np.testing.assert_array_equal(one, other)
        alone = run_op("Unique", [names[numbers]], attributes)[0]
        assert alone.dtype == object
        assert alone.tolist() == found[0].tolist()
        assert alone.shape == found[0].shape
