from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import as_value, tensor, unranked
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, peer, run_op

N, S = symbol("N"), symbol("S")
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_transpose_puts_axes_in_the_order_of_perm(perm: tuple[int, ...]) -> None:
    check_node("Transpose", [DATA], {"perm": list(perm)}, expected=[np.transpose(DATA, perm)])


def test_transpose_without_perm_reverses_the_axes() -> None:
    check_node("Transpose", [DATA], expected=[DATA.T])
    check_node("Transpose", [np.array("a", object)], expected=[np.array("a", object)])


def test_transpose_knows_the_rank_that_perm_tells() -> None:
    assert infer_op("Transpose", [unranked(FLOAT32)], {"perm": [1, 0]})[0].rank == 2
    assert not infer_op("Transpose", [unranked(FLOAT32)])[0].has_rank


def test_transpose_carries_symbolic_contents() -> None:
    pads = tensor(INT64, (2, 2), np.array([[0, N], [1, S]], object))
    [fact] = infer_op("Transpose", [pads])
    assert fact.value is not None
    assert fact.value.tolist() == [[0, 1], [N, S]]


@pytest.mark.parametrize("perm", [[0, 1], [0, 1, 1], [1, 2, 3], [-1, 0, 1]])
def test_transpose_refuses_what_is_no_permutation(perm: list[int]) -> None:
    with pytest.raises(ShapeError, match=r"perm must be a permutation of \[0, 1, 2\]"):
        run_op("Transpose", [DATA], {"perm": perm})


@pytest.mark.parametrize(
    "dtype", [np.int8, np.bool_, np.complex64, np.float16, ml_dtypes.bfloat16, object]
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_joins_along_any_axis(dtype: Any, axis: int) -> None:
    parts = [DATA.astype(dtype), DATA[:, :, :].astype(dtype)]
    check_node("Concat", parts, {"axis": axis}, expected=[np.concatenate(parts, axis)])


def test_concat_takes_one_input_and_empty_ones() -> None:
    check_node("Concat", [DATA], {"axis": 1}, expected=[DATA])
    check_node("Concat", [DATA, DATA[:, :0]], {"axis": 1}, expected=[DATA])


@pytest.mark.slow
def test_concat_of_a_thousand_parts_is_lowered() -> None:
    check_lowering("Concat", list(np.arange(1100.0, dtype=np.float32)[:, None]), {"axis": 0})


def test_concat_before_opset_4_joins_along_axis_1() -> None:
    check_node("Concat", [DATA, DATA], opset=3, expected=[np.concatenate([DATA, DATA], 1)])


def test_concat_adds_symbolic_extents() -> None:
    [fact] = infer_op("Concat", [tensor(FLOAT32, (S, N)), tensor(FLOAT32, (S, 3))], {"axis": -1})
    assert fact.shape == (S, N + 3)


def test_concat_keeps_the_extent_that_is_known() -> None:
    [fact] = infer_op("Concat", [tensor(FLOAT32, (N, 2)), tensor(FLOAT32, (5, 3))], {"axis": 1})
    assert fact.shape == (5, 5)


def test_concat_knows_what_ranked_inputs_tell() -> None:
    inputs = [tensor(FLOAT32, (2, N)), unranked(FLOAT32)]
    [fact] = infer_op("Concat", inputs, {"axis": 1})
    assert fact.shape[0] == 2
    assert fact.rank == 2
    assert not infer_op("Concat", [unranked(FLOAT32)], {"axis": 1})[0].has_rank


def test_concat_joins_symbolic_contents() -> None:
    parts = [tensor(INT64, (1,), as_value([N])), tensor(INT64, (2,), as_value([-1, S + 1]))]
    [fact] = infer_op("Concat", parts, {"axis": 0})
    assert fact.value is not None
    assert list(fact.value) == [N, -1, S + 1]


def test_concat_keeps_known_entries_beside_unknown_ones() -> None:
    parts = [tensor(INT64, (1,), as_value([N])), tensor(INT64, (1,)), tensor(INT64, (1,))]
    [fact] = infer_op("Concat", parts, {"axis": 0})
    assert fact.value is not None
    first, second, third = fact.value
    assert first == N
    assert second != third


@pytest.mark.parametrize(
    ("shapes", "axis", "message"),
    [
        ([(2, 3), (2, 3, 1)], 0, "inputs must have one rank, found [2, 3] and [2, 3, 1]"),
        ([(2, 3), (3, 3)], 1, "extents other than that of axis 1 must agree, found [2, 3] and"),
        ([(2, 3)], 2, "axis must be in [-2, 1] for rank 2, got 2"),
    ],
)
def test_concat_says_what_does_not_fit(
    shapes: list[tuple[int, ...]], axis: int, message: str
) -> None:
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    for call in (
        lambda: run_op("Concat", inputs, {"axis": axis}),
        lambda: infer_op("Concat", [tensor(FLOAT32, shape) for shape in shapes], {"axis": axis}),
    ):
        with pytest.raises(ShapeError) as raised:
            call()
        assert message in str(raised.value)


@pytest.mark.parametrize("opset", [2, 11, 13, 18])
def test_split_takes_lengths_from_attribute_or_input(opset: int) -> None:
    expected = np.split(DATA, [1], axis=-1)
    if opset < 13:
        check_node("Split", [DATA], {"axis": 2, "split": [1, 3]}, opset=opset, expected=expected)
    else:
        check_node("Split", [DATA, ints(1, 3)], {"axis": -1}, opset=opset, expected=expected)


def test_split_1_takes_lengths_of_the_dtype_of_its_input() -> None:
    lengths = np.array([1, 2], np.float32)
    check_node("Split", [DATA, lengths], {"axis": 1}, opset=1, expected=np.split(DATA, [1], 1))
    attributes = {"axis": 1, "split": [1, 2]}
    check_node("Split", [DATA], attributes, opset=1, expected=np.split(DATA, [1], 1))


def test_split_cuts_equal_parts_by_the_number_of_outputs() -> None:
    check_node("Split", [DATA], {"axis": 2}, opset=13, expected=np.split(DATA, 2, 2))
    check_node("Split", [DATA], opset=11, expected=np.split(DATA, 2, 0))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_split_18_leaves_a_shorter_last_part(count: int) -> None:
    data = np.arange(7.0)
    attributes = {"num_outputs": count}
    check_node(
        "Split", [data], attributes, expected=peer("Split", [data], attributes, outputs=count)
    )


def test_split_infers_symbolic_parts() -> None:
    data = tensor(FLOAT32, (N, 2 * S))
    for opset in (13, 18):
        facts = infer_op("Split", [data], {"axis": 1}, opset=opset, outputs=2)
        assert [fact.shape for fact in facts] == [(N, S), (N, S)]
    facts = infer_op("Split", [tensor(FLOAT32, (N,))], {"num_outputs": 2}, outputs=2)
    assert [str(fact.shape[0]) for fact in facts] == ["(N + 1)//2", "N - (N + 1)//2"]


def test_split_divides_symbolic_contents() -> None:
    value = tensor(INT64, (3,), as_value([N, S, 4]))
    facts = infer_op("Split", [value], {"split": [2, 1]}, opset=11, outputs=2)
    assert [list(fact.value) for fact in facts if fact.value is not None] == [[N, S], [4]]


def test_split_with_unknown_lengths_knows_the_rest() -> None:
    facts = infer_op("Split", [tensor(FLOAT32, (N, 3)), tensor(INT64, (2,))], outputs=2)
    assert [fact.shape[1] for fact in facts] == [3, 3]
    facts = infer_op("Split", [tensor(FLOAT32, (N, 3)), tensor(FLOAT32, (2,))], opset=1, outputs=2)
    assert [fact.shape[1] for fact in facts] == [3, 3]


@pytest.mark.parametrize(
    ("inputs", "attributes", "opset", "message"),
    [
        ([DATA, ints(1, 1)], {"axis": 1}, 18, "must add up to 3, got [1, 1], which is 2"),
        ([DATA, ints(4, -1)], {"axis": 1}, 18, "must be 0 or more, got [4, -1]"),
        ([DATA, ints(3)], {"axis": 1}, 18, "an entry for each of the 2 outputs, got [3]"),
        ([DATA, ints(1, 2)], {"axis": 1, "num_outputs": 2}, 18, "either split or num_outputs"),
        ([DATA], {"num_outputs": 3}, 18, "num_outputs must be the number of outputs, 2, got 3"),
        ([DATA], {"axis": 1}, 13, "3 elements must be a multiple of the 2 outputs"),
    ],
)
def test_split_says_what_does_not_fit(
    inputs: list[Any], attributes: dict[str, Any], opset: int, message: str
) -> None:
    with pytest.raises(ShapeError) as raised:
        run_op("Split", inputs, attributes, opset=opset, outputs=2)
    assert message in str(raised.value)


def test_split_18_refuses_more_parts_than_there_is_to_share() -> None:
    with pytest.raises(ShapeError, match="would be 2 long and leave -1 for the last"):
        run_op("Split", [np.zeros(7)], {"num_outputs": 5}, outputs=5)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 3), (0, 2, 1)])
def test_tile_repeats_every_axis(repeats: tuple[int, ...]) -> None:
    check_node("Tile", [DATA, ints(*repeats)], expected=[np.tile(DATA, repeats)])


def test_tile_of_a_scalar_is_the_scalar() -> None:
    check_node("Tile", [np.array(3.0), ints()], expected=[np.array(3.0)])


def test_tile_1_repeats_one_axis() -> None:
    three, one = np.array(3, np.float32), np.array([1], np.float32)
    check_node("Tile", [DATA, three, one], opset=1, expected=[np.tile(DATA, (1, 3, 1))])


def test_tile_multiplies_symbolic_extents_and_repeats_contents() -> None:
    repeats = tensor(INT64, (2,), as_value([N, 2]))
    assert infer_op("Tile", [tensor(FLOAT32, (S, 3)), repeats])[0].shape == (N * S, 6)
    twice = tensor(INT64, (1,), as_value([2]))
    [fact] = infer_op("Tile", [tensor(INT64, (2,), as_value([N, 1])), twice])
    assert fact.value is not None
    assert list(fact.value) == [N, 1, N, 1]


def test_tile_with_unknown_repeats_knows_the_rank() -> None:
    assert infer_op("Tile", [tensor(FLOAT32, (N, 3)), tensor(INT64, (2,))])[0].rank == 2
    assert infer_op("Tile", [unranked(FLOAT32), tensor(INT64, (2,))])[0].rank == 2
    assert not infer_op("Tile", [unranked(FLOAT32), tensor(INT64, (N,))])[0].has_rank


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ((2, 2), r"an entry for each axis of input\[2, 3, 4\], got \[2, 2\]"),
        ((1, -1, 1), r"repeats must be 0 or more, got \[1, -1, 1\]"),
    ],
)
def test_tile_says_what_does_not_fit(repeats: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("Tile", [DATA, ints(*repeats)])


def test_tile_repeats_by_a_list_of_one_axis() -> None:
    message = r"repeats must have one axis, found shape \[1, 3\]"
    with pytest.raises(ShapeError, match=message):
        run_op("Tile", [DATA, ints(1, 2, 1).reshape(1, 3)])
    for fact in (fact_of(ints(1, 2, 1).reshape(1, 3)), tensor(INT64, (1, 3))):
        with pytest.raises(ShapeError, match=message):
            infer_op("Tile", [tensor(FLOAT32, (2, 3, 4)), fact])


def test_tile_1_takes_numbers_of_one_element() -> None:
    with pytest.raises(ShapeError, match=r"axis must have one element, found shape \[2\]"):
        run_op("Tile", [DATA, np.ones(1, np.float32), np.ones(2, np.float32)], opset=1)
