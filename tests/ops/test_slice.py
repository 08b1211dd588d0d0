from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.dtype import FLOAT32, INT64
from fornix.errors import ShapeError
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ops.fact import Fact, as_value, tensor, unranked
from fornix.ops.slice import cut
from tests.ops.harness import check_node, infer_op, peer, run_op

N, P = symbol("N"), symbol("P")
DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
INT_MAX, INT_MIN = 2**63 - 1, -(2**63)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def listed(*values: DimLike) -> Fact:
    return tensor(INT64, (len(values),), as_value(list(values)))


def sliced(
    extent: DimLike, start: DimLike, end: DimLike, step: int = 1, value: list[DimLike] | None = None
) -> Fact:
    contents = None if value is None else as_value(value)
    data = tensor(INT64, (extent,), contents)
    [fact] = infer_op("Slice", [data, listed(start), listed(end), listed(0), listed(step)])
    return fact


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, 5, 1), (1, 4, 2), (-3, -1, 1), (0, INT_MAX, 1), (-1, INT_MIN, -1), (-1, INT_MIN, -2),
        (-99, INT_MIN, -1), (99, -99, -3), (4, 1, 1), (2, 2, -1),
        (INT_MAX, INT_MIN, -1), (3, -99, -1),
    ],
)  # fmt: skip
def test_slice_clamps_as_the_peer_does(start: int, end: int, step: int) -> None:
    inputs = [DATA, ints(start), ints(end), ints(2), ints(step)]
    check_node("Slice", inputs, expected=peer("Slice", inputs))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    extent=st.integers(0, 6),
    start=st.integers(-9, 9),
    end=st.integers(-9, 9),
    step=st.sampled_from([-3, -2, -1, 1, 2, 3]),
)
def test_slice_has_the_same_arithmetic_for_numbers_and_symbols(
    extent: int, start: int, end: int, step: int
) -> None:
    window = cut(N, start, end, step)
    assert window is not None
    bound = tuple(x.bind({"N": extent}) if isinstance(x, Dim) else x for x in window)
    found = cut(extent, start, end, step)
    assert found is not None
    assert bound[1] == found[1]
    if found[1]:
        assert bound == found
    low, high = (0, extent) if step > 0 else (-1, extent - 1)
    places = [x + extent if x < 0 else x for x in (start, end)]
    first = min(max(places[0], 0), high)
    assert found[1] == len(range(first, min(max(places[1], low), high), step)) or extent == 0


def test_slice_without_axes_cuts_the_first_ones() -> None:
    check_node("Slice", [DATA, ints(1, 2), ints(3, 9)], expected=[DATA[1:3, 2:]])
    attributes = {"starts": [1, -2], "ends": [3, 9]}
    check_node("Slice", [DATA], attributes, opset=1, expected=[DATA[1:3, -2:]])


def test_slice_takes_axes_and_steps_of_int32() -> None:
    inputs = [DATA, *(np.array(x, np.int32) for x in ([0, 3], [9, 0], [-1, 1], [2, -1]))]
    check_node("Slice", inputs, expected=[DATA[:, 3:0:-1, ::2]])


def test_slice_infers_symbolic_extents_exactly() -> None:
    assert sliced(N + 3, 3, INT_MAX).shape == (N,)
    assert sliced(N, 0, P).shape[0] == sliced(N, 0, P, 1).shape[0]
    assert str(sliced(N, 1, INT_MAX).shape[0]) == "max(0, N - 1)"
    assert str(sliced(N, 0, -1).shape[0]) == "max(0, N - 1)"
    assert str(sliced(N, -3, INT_MAX).shape[0]) == "min(3, N)"
    assert sliced(N, 0, INT_MAX, 2).shape == ((N + 1) // 2,)
    assert sliced(N, -1, INT_MIN, -1).shape == (N,)
    assert sliced(N + P, P, N + P).shape == (N,)
    assert sliced(N, 0, 2**31 - 1).shape == (N,)


def test_slice_of_a_position_with_unknown_sign_is_unknown() -> None:
    extent = sliced(N, P - 1, INT_MAX).shape[0]
    assert isinstance(extent, Dim)
    assert extent.unknowns == ("Slice: where it cuts axis 0 is computed at run time",)


def test_slice_propagates_symbolic_contents() -> None:
    fact = sliced(4, 1, INT_MAX, 2, [N, P, 3, N + 1])
    assert fact.value is not None
    assert list(fact.value) == [P, N + 1]
    fact = sliced(3, -1, INT_MIN, -1, [N, P, 3])
    assert fact.value is not None
    assert list(fact.value) == [3, P, N]


def test_slice_with_unknown_bounds_knows_the_other_extents() -> None:
    data = tensor(FLOAT32, (N, 4))
    [fact] = infer_op("Slice", [data, tensor(INT64, (1,)), tensor(INT64, (1,)), listed(0)])
    assert fact.shape[1] == 4
    assert fact.shape[0] != N
    [fact] = infer_op("Slice", [data, tensor(INT64, (1,)), tensor(INT64, (1,))])
    assert fact.shape[1] == 4
    [fact] = infer_op("Slice", [data, unranked(INT64), unranked(INT64)])
    assert fact.rank == 2
    [fact] = infer_op("Slice", [data, listed(0), listed(1), tensor(INT64, (1,))])
    assert fact.rank == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([ints(0), ints(1), ints(0), ints(0)], "steps must not be 0"),
        ([ints(0, 1), ints(1)], "must have equally many entries, found 2 and 1"),
        ([ints(0), ints(1), ints(0, 1)], "axes must have 1 entries, as starts has, got [0, 1]"),
        ([ints(0, 0), ints(1, 1), ints(1, -2)], "axes must name each axis once, got [1, 1]"),
        ([ints(0), ints(1), ints(3)], "axes must be in [-3, 2] for rank 3, got 3"),
    ],
)
def test_slice_says_what_does_not_fit(inputs: list[Any], message: str) -> None:
    known = [listed(*x.tolist()) for x in inputs]
    for call in (
        lambda: run_op("Slice", [DATA, *inputs]),
        lambda: infer_op("Slice", [tensor(FLOAT32, DATA.shape), *known]),
    ):
        with pytest.raises(ShapeError) as raised:
            call()
        assert message in str(raised.value)
