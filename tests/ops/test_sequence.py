from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import DTypeError, Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ir.types import SequenceType, TensorType
from fornix.ops.fact import Fact, as_value, tensor, unranked
from fornix.reference import ReferenceEvaluator
from tests.compare import assert_same
from tests.ops.harness import check_node, infer_op, run_op

N, S = symbol("N"), symbol("S")
A, B, C = (np.full((2, n), n, np.float32) for n in (1, 2, 3))


def at(position: int) -> Any:
    return np.array(position, np.int64)


def sequence(*shape: Any) -> Fact:
    return Fact(SequenceType(TensorType(FLOAT32, shape)))


def element(fact: Fact) -> TensorType:
    assert isinstance(fact.type, SequenceType)
    assert isinstance(fact.type.elem, TensorType)
    return fact.type.elem


def test_sequence_construct_keeps_the_order() -> None:
    assert_same(run_op("SequenceConstruct", [A, B])[0], [A, B])


def test_sequence_construct_infers_what_all_elements_share() -> None:
    [fact] = infer_op("SequenceConstruct", [tensor(FLOAT32, (N, 2)), tensor(FLOAT32, (N, S))])
    first, second = element(fact).shape or ()
    assert first == N
    assert second not in {2, S}


def test_sequence_empty_has_a_type() -> None:
    assert run_op("SequenceEmpty", [])[0] == []
    assert element(infer_op("SequenceEmpty", [])[0]).dtype is FLOAT32
    assert element(infer_op("SequenceEmpty", [], {"dtype": 11})[0]).dtype is FLOAT64


@pytest.mark.parametrize("position", [None, 0, 2, -1, -2])
def test_sequence_insert_puts_a_tensor_at_any_position(position: int | None) -> None:
    expected = [A, B]
    expected.insert(2 if position is None else position, C)
    inputs = [[A, B], C] if position is None else [[A, B], C, at(position)]
    assert_same(run_op("SequenceInsert", inputs)[0], expected)


@pytest.mark.parametrize("position", [None, 0, 1, -2])
def test_sequence_erase_drops_one_element(position: int | None) -> None:
    expected = [A, B, C]
    del expected[-1 if position is None else position]
    inputs = [[A, B, C]] if position is None else [[A, B, C], at(position)]
    assert_same(run_op("SequenceErase", inputs)[0], expected)


@pytest.mark.parametrize("position", [0, 2, -1])
def test_sequence_at_counts_from_either_end(position: int) -> None:
    assert_same(run_op("SequenceAt", [[A, B, C], at(position)])[0], [A, B, C][position])


def test_sequence_length_counts() -> None:
    check_node("SequenceLength", [[A, B]], expected=[np.array(2, np.int64)])


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("SequenceAt", [[A], at(1)], "position must be in [-1, 0] for a sequence of 1, found 1"),
        ("SequenceInsert", [[A], B, at(2)], "position must be in [-1, 1] for a sequence of 1"),
        ("SequenceErase", [[A], at(-2)], "position must be in [-1, 0] for a sequence of 1"),
        ("SequenceErase", [[]], "the sequence must have an element, found none"),
        ("ConcatFromSequence", [[]], "the sequence must have an element, found none"),
    ],
)
def test_sequences_say_which_position_is_wrong(name: str, inputs: list[Any], message: str) -> None:
    attributes = {"axis": 0} if name == "ConcatFromSequence" else {}
    with pytest.raises(Fail) as raised:
        run_op(name, inputs, attributes)
    assert message in str(raised.value)


def test_a_sequence_takes_elements_of_its_type_alone() -> None:
    with pytest.raises(DTypeError, match=r"tensor must be float32 .* found int64"):
        run_op("SequenceInsert", [[A], at(1)])


def test_changing_a_sequence_leaves_the_old_one_alone() -> None:
    old = [A]
    run_op("SequenceInsert", [old, B])
    run_op("SequenceErase", [old])
    assert len(old) == 1


def test_inference_follows_the_elements() -> None:
    whole = sequence(N, 3)
    assert infer_op("SequenceAt", [whole, tensor(INT64, ())])[0].shape == (N, 3)
    assert infer_op("SequenceErase", [whole])[0].type == whole.type
    inserted = infer_op("SequenceInsert", [whole, tensor(FLOAT32, (N, 4))])[0]
    assert (element(inserted).shape or ())[0] == N
    unknown = infer_op("SequenceInsert", [Fact(), tensor(FLOAT32, (N, 4))])[0]
    assert element(unknown).dtype is FLOAT32


DATA = np.arange(14, dtype=np.float32).reshape(2, 7)


@pytest.mark.parametrize(
    ("split", "ends"), [(3, [3, 6]), (7, []), (9, []), ([2, 0, 5], [2, 2]), ([7], [])]
)
def test_split_to_sequence_cuts_by_length(split: Any, ends: list[int]) -> None:
    inputs = [DATA, np.array(split, np.int64)]
    found = run_op("SplitToSequence", inputs, {"axis": -1, "keepdims": 0})
    assert_same(found[0], np.split(DATA, ends, 1))


@pytest.mark.parametrize("keepdims", [0, 1])
def test_split_to_sequence_without_lengths_gives_slices(keepdims: int) -> None:
    [found] = run_op("SplitToSequence", [DATA], {"axis": 0, "keepdims": keepdims})
    assert_same(found, [DATA[i : i + 1] if keepdims else DATA[i] for i in range(2)])


def test_split_to_sequence_by_a_single_one_may_drop_the_axis() -> None:
    one = np.array(1, np.int64)
    [found] = run_op("SplitToSequence", [DATA, one], {"axis": 1, "keepdims": 0})
    assert_same(found, [DATA[:, i] for i in range(7)])
    [found] = run_op("SplitToSequence", [DATA, np.array([1, 1])], {"axis": 0, "keepdims": 0})
    assert_same(found, [DATA[:1], DATA[1:]])


def test_split_to_sequence_infers_whether_the_axis_is_dropped() -> None:
    data, attributes = tensor(FLOAT32, (N, 6)), {"axis": 1, "keepdims": 0}
    cases: list[tuple[Any, Any]] = [
        (tensor(INT64, (), as_value(1)), (N,)),
        (tensor(INT64, (), as_value(2)), (N, 2)),
        (tensor(INT64, (2,), as_value([3, 3])), (N, 3)),
        (tensor(INT64, ()), None),
    ]
    for split, expected in cases:
        assert element(infer_op("SplitToSequence", [data, split], attributes)[0]).shape == expected


def test_split_to_sequence_infers_the_part() -> None:
    data = tensor(FLOAT32, (N, 6))
    cases = [
        ([data], {"axis": 0, "keepdims": 0}, (6,)),
        ([data], {"axis": 0}, (1, 6)),
        ([data, tensor(INT64, (), as_value(3))], {"axis": 1}, (N, 3)),
        ([data, tensor(INT64, (2,), as_value([3, 3]))], {"axis": 1}, (N, 3)),
    ]
    for inputs, attributes, expected in cases:
        assert element(infer_op("SplitToSequence", inputs, attributes)[0]).shape == expected
    for split in (tensor(INT64, (), as_value(4)), tensor(INT64, (2,)), tensor(INT64, ())):
        part = element(infer_op("SplitToSequence", [data, split], {"axis": 1})[0]).shape or ()
        assert part[0] == N
        assert part[1] not in {4, 6}
    assert element(infer_op("SplitToSequence", [unranked(FLOAT32)])[0]).shape is None


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([3, 3], r"add up to 7, got \[3, 3\]"),
        ([8, -1], r"must be 0 or more and add up to 7, got \[8, -1\]"),
        (0, "a scalar split must be 1 or more, got 0"),
    ],
)
def test_split_to_sequence_says_what_does_not_fit(split: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("SplitToSequence", [DATA, np.array(split, np.int64)], {"axis": 1})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_from_sequence_joins_or_stacks(axis: int) -> None:
    attributes = {"axis": axis, "new_axis": 1}
    expected = np.stack([B, B + 1], axis)
    check_node("ConcatFromSequence", [[B, B + 1]], attributes, expected=[expected])
    expected = np.concatenate([A, A + 1], axis)
    check_node("ConcatFromSequence", [[A, A + 1]], {"axis": axis}, expected=[expected])


def test_concat_from_sequence_infers_the_other_extents() -> None:
    joined = infer_op("ConcatFromSequence", [sequence(N, 3)], {"axis": 0})[0].shape
    stacked = infer_op("ConcatFromSequence", [sequence(N, 3)], {"axis": -1, "new_axis": 1})[0].shape
    assert joined[1:] == (3,)
    assert stacked[:2] == (N, 3)
    assert infer_op("ConcatFromSequence", [Fact(SequenceType(TensorType(FLOAT32)))],
                    {"axis": 0})[0].dtype is FLOAT32  # fmt: skip


def test_concat_from_sequence_stacks_equal_shapes_only() -> None:
    with pytest.raises(ShapeError, match=r"one shape, found \[2, 1\] and \[2, 2\]"):
        run_op("ConcatFromSequence", [[A, B]], {"axis": 0, "new_axis": 1})


def mapping(inputs: list[str]) -> onnx.ModelProto:
    """A model that adds to each element of a sequence what its second input holds."""
    is_sequence = inputs[1].startswith("s")
    plain = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("a", "b", "c")]
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])], "b", plain[:2], plain[2:]
    )
    many = helper.make_tensor_sequence_value_info
    declared = [
        many(inputs[0], TensorProto.FLOAT, None),
        many(inputs[1], TensorProto.FLOAT, None)
        if is_sequence
        else helper.make_tensor_value_info(inputs[1], TensorProto.FLOAT, None),
    ]
    node = helper.make_node("SequenceMap", inputs, ["out"], body=body)
    graph = helper.make_graph([node], "g", declared, [many("out", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_sequence_map_runs_its_body_on_each_element() -> None:
    two = np.array(2, np.float32)
    [found] = ReferenceEvaluator(mapping(["s0", "x"])).run(None, {"s0": [A, C], "x": two})
    assert_same(found, [A + 2, C + 2])
    [found] = ReferenceEvaluator(mapping(["s0", "s1"])).run(None, {"s0": [A, C], "s1": [A, two]})
    assert_same(found, [A + A, C + 2])


def test_sequence_map_needs_sequences_of_one_length() -> None:
    with pytest.raises(Fail, match=r"sequences must have one length, found \[2, 1\]"):
        ReferenceEvaluator(mapping(["s0", "s1"])).run(None, {"s0": [A, C], "s1": [A]})
