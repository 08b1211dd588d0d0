from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix import ops
from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import Load, Store, Tensor, compute, stored
from fornix.ir.loops import tensor as loop_tensor
from fornix.ir.types import TensorType
from fornix.ops.call import LowerNode, NotLowered, lower_node
from fornix.ops.fact import Fact, as_value, tensor, unranked
from tests.ir.interpreter import interpret
from tests.ops.harness import check_lowering, check_node, fact_of, infer_op, lower_op, peer, run_op

N, S = symbol("N"), symbol("S")
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def shape_of(fact: Fact) -> list[str]:
    return [str(extent) for extent in fact.shape]


@pytest.mark.parametrize(
    ("target", "expected"),
    [((4, 6), (4, 6)), ((0, -1), (2, 12)), ((-1,), (24,)), ((2, 0, 4), (2, 3, 4))],
)
def test_reshape_copies_zeros_and_divides_the_rest(
    target: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    check_node("Reshape", [DATA, ints(*target)], expected=[DATA.reshape(expected)])
    check_node(
        "Reshape", [DATA], {"shape": list(target)}, opset=1, expected=[DATA.reshape(expected)]
    )


def test_reshape_with_allowzero_keeps_a_zero_extent() -> None:
    empty = np.empty((0, 3), np.float32)
    check_node("Reshape", [empty, ints(3, 0)], {"allowzero": 1}, expected=[empty.reshape(3, 0)])


def test_reshape_of_no_elements_divides_what_zeros_leave() -> None:
    empty = np.empty((0, 7, 768), np.float32)
    [found] = run_op("Reshape", [empty, ints(0, 7, 12, -1)])
    assert found.shape == (0, 7, 12, 64)


def test_reshape_infers_symbolic_extents_exactly() -> None:
    data = tensor(FLOAT32, (N, S, 768))
    target = tensor(INT64, (4,), as_value([N, S, 12, -1]))
    assert shape_of(infer_op("Reshape", [data, target])[0]) == ["N", "S", "12", "64"]
    flat = tensor(INT64, (2,), as_value([-1, 768]))
    assert infer_op("Reshape", [data, flat])[0].shape == (N * S, 768)


def test_reshape_knows_the_rank_of_an_unknown_target() -> None:
    [fact] = infer_op("Reshape", [tensor(FLOAT32, (N,)), tensor(INT64, (2,))])
    assert fact.rank == 2
    [fact] = infer_op("Reshape", [tensor(FLOAT32, (N,)), tensor(INT64, (N,))])
    assert not fact.has_rank


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ((5, 5), "has 24 elements, which do not fill [5, 5]"),
        ((5, -1), "has 24 elements, which the other extents, 5 together, do not divide"),
        ((-1, -1), "shape may hold −1 once, got [-1, -1]"),
        ((-2, 3), "entries of shape must be −1 or more, got [-2, 3]"),
        ((2, 3, 4, 0), "entry 3 of shape is 0 and copies that axis, but data[2, 3, 4] has none"),
    ],
)
def test_reshape_says_what_does_not_fit(target: tuple[int, ...], message: str) -> None:
    for call in (
        lambda: run_op("Reshape", [DATA, ints(*target)]),
        lambda: infer_op(
            "Reshape",
            [tensor(FLOAT32, DATA.shape), tensor(INT64, (len(target),), as_value(list(target)))],
        ),
    ):
        with pytest.raises(ShapeError) as raised:
            call()
        assert message in str(raised.value)


def test_reshape_refuses_zero_beside_minus_one_with_allowzero() -> None:
    with pytest.raises(ShapeError, match="with allowzero=1, shape may not hold both 0 and −1"):
        run_op("Reshape", [DATA, ints(0, -1)], {"allowzero": 1})


def test_shape_gives_symbolic_contents() -> None:
    [fact] = infer_op("Shape", [tensor(FLOAT32, (N, 3, S + 1))], {"start": -2})
    assert fact.shape == (2,)
    assert fact.value is not None
    assert list(fact.value) == [3, S + 1]


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, 2), (-1, None), (-9, 9), (2, 1)])
def test_shape_clamps_its_bounds(start: int, end: int | None) -> None:
    attributes = {"start": start} | ({} if end is None else {"end": end})
    check_node("Shape", [DATA], attributes, expected=peer("Shape", [DATA], attributes))


def test_size_counts_elements() -> None:
    check_node("Size", [DATA], expected=[np.array(24, np.int64)])
    check_node("Size", [np.empty((0, 3))], expected=[np.array(0, np.int64)])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_flatten_splits_at_any_axis(axis: int) -> None:
    rows = int(np.prod(DATA.shape[: axis if axis >= 0 else axis + 3], dtype=int))
    check_node("Flatten", [DATA], {"axis": axis}, expected=[DATA.reshape(rows, -1)])


def test_flatten_refuses_an_axis_beyond_the_rank() -> None:
    with pytest.raises(ShapeError, match=r"axis must be in \[-3, 2\] for rank 3, got 4"):
        run_op("Flatten", [DATA], {"axis": 4})


@pytest.mark.parametrize("target", [(2, 3, 4), (5, 1, 1, 1), (1,), (3, 1), (0, 1, 1, 1)])
def test_expand_broadcasts_both_ways(target: tuple[int, ...]) -> None:
    expected = np.broadcast_to(DATA, np.broadcast_shapes(DATA.shape, target))
    check_node("Expand", [DATA, ints(*target)], expected=[expected])


@pytest.mark.parametrize("target", [(), (5,), (0,), (3, 1, 2), (70, 70)])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_expand_repeats_one_element_of_any_type(target: tuple[int, ...], rank: int) -> None:
    shape = np.broadcast_shapes((1,) * rank, target)
    for value in (np.float32(2.5), np.int8(-3), np.bool_(True)):
        expected = np.full(shape, value)
        check_node("Expand", [np.full((1,) * rank, value), ints(*target)], expected=[expected])
    words = np.empty((1,) * rank, object)
    words[...] = "word"
    [found] = run_op("Expand", [words, ints(*target)])
    assert found.dtype == object
    assert found.shape == shape
    assert found.tolist() == np.full(shape, "word").tolist()


def test_expand_says_which_extents_differ() -> None:
    with pytest.raises(ShapeError, match="4 and 5 differ and neither is 1"):
        run_op("Expand", [DATA, ints(5)])


def test_expand_has_no_negative_extent() -> None:
    message = r"entries of shape must be 0 or more, got \[2, -7\]"
    with pytest.raises(ShapeError, match=message):
        run_op("Expand", [np.zeros((2, 1), np.float32), ints(2, -7)])
    for wrong in (as_value([2, -7]), as_value([N, -7])):
        with pytest.raises(ShapeError, match=r"entries of shape must be 0 or more, got \[.*, -7\]"):
            infer_op("Expand", [tensor(FLOAT32, (2, 1)), tensor(INT64, (2,), wrong)])


def test_expand_with_unknown_target_knows_the_least_rank() -> None:
    [fact] = infer_op("Expand", [tensor(FLOAT32, (N, 3)), tensor(INT64, (1,))])
    assert fact.rank == 2
    assert not infer_op("Expand", [tensor(FLOAT32, (N, 3)), unranked(INT64)])[0].has_rank


def test_identity_keeps_what_is_known() -> None:
    value = as_value([N, 2])
    [fact] = infer_op("Identity", [tensor(INT64, (2,), value)])
    assert fact.known_value is value


@pytest.mark.parametrize("target", [(4, 6), (0, -1), (-1,), (2, 1, 0, -1), (1, 24, 1)])
def test_reshape_is_lowered_to_arithmetic_of_indices(target: tuple[int, ...]) -> None:
    check_lowering("Reshape", [DATA, ints(*target)])
    check_lowering("Reshape", [DATA.astype(np.float16), ints(*target)])
    check_lowering("Reshape", [DATA], {"shape": list(target)}, opset=1)


def test_reshape_of_one_element_and_of_none_is_lowered() -> None:
    one = np.ones((1, 1), np.int8)
    check_lowering("Reshape", [one, np.zeros(0, np.int64)])
    check_lowering("Reshape", [one.reshape(()), ints(1, 1)])
    check_lowering("Reshape", [one[:0], ints(3, 0)], {"allowzero": 1})


def reshaped(data: Tensor, shape: tuple[DimLike, ...]) -> Tensor:
    operator = ops.find("", "Reshape")
    assert operator is not None
    node = LowerNode(
        operator=operator,
        schema=operator.schema(14),
        opset=14,
        wanted=(True,),
        output_types=(TensorType(data.dtype, shape),),
        facts=(),
    )
    [result] = lower_node([data, None], {"allowzero": 0}, node)
    assert result is not None
    return result


def turned(x: Tensor) -> Tensor:
    b, s, h, d = x.shape
    return compute((b, h, s, d), lambda i, j, k, m: x[i, k, j, m])


def test_heads_that_are_split_turned_and_merged_again_cost_nothing() -> None:
    batch, steps = symbol("B", least=1), symbol("S", least=1)
    x = loop_tensor("x", (batch, steps, 768), FLOAT32)
    heads = reshaped(x, (batch, steps, 12, 64))
    merged = stored(reshaped(turned(turned(heads)), (batch, steps, 768)))
    assert merged.buffer is not None
    source = merged.buffer.source
    assert isinstance(source, Store)
    assert isinstance(source.value, Load)
    assert source.value.address == source.address


def test_reshape_to_a_shape_of_the_run_is_not_lowered() -> None:
    with pytest.raises(NotLowered, match="the extents of its result are computed at run time"):
        lower_op("Reshape", [DATA, ints(4, 6)[None]])


def test_shape_and_size_are_lowered_to_extents() -> None:
    check_lowering("Shape", [DATA])
    check_lowering("Shape", [DATA], {"start": -2, "end": 2})
    check_lowering("Shape", [DATA], {"start": 2, "end": 1})
    check_lowering("Size", [DATA])


def test_flatten_expand_and_identity_are_lowered() -> None:
    for axis in (0, 1, 3, -1):
        check_lowering("Flatten", [DATA], {"axis": axis})
    for target in ((2, 3, 4), (5, 1, 1, 1), (1,), (3, 1), (0, 1, 1, 1)):
        check_lowering("Expand", [DATA, ints(*target)])
    check_lowering("Expand", [DATA[:, :1], ints(7, 1)])
    check_lowering("Identity", [DATA > 3])


def test_an_open_extent_is_taken_for_the_stored_one() -> None:
    """A run in which it is 1 has a program of its own: tests/runtime/test_expanded.py."""
    x = np.arange(5, dtype=np.float32)
    unnamed = loop_tensor("x", (N,), FLOAT32)
    operator = ops.find("", "Expand")
    assert operator is not None
    node = LowerNode(
        operator=operator,
        schema=operator.schema(13),
        opset=13,
        wanted=(True,),
        output_types=(TensorType(FLOAT32, (2, 5)),),
        facts=(None, fact_of(ints(2, 5))),
    )
    [result] = lower_node([unnamed, None], {}, node)
    assert result is not None
    found = interpret(result, {"x": x}, {"N": 5})
    np.testing.assert_array_equal(found, np.broadcast_to(x, (2, 5)))


def test_what_is_left_of_no_elements_leaves_copied_zeros_out() -> None:
    x = np.zeros((3, 2, 0, 2, 3), np.uint8)
    wanted = np.zeros((1, 6, 0, 6), np.uint8)
    check_node("Reshape", [x, np.array([1, -1, 0, 6])], expected=[wanted])


def test_the_shape_of_a_node_stays_as_it_was_written() -> None:
    shape = [0, -1]
    run_op("Reshape", [np.zeros((2, 3, 4), np.float32)], {"shape": shape}, opset=1)
    assert shape == [0, -1]
