"""Shape computations as the exporters of torch write them: every step keeps the symbols."""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, INT64, DType
from fornix.ir.dim import DimLike, symbol
from fornix.ir.tensor import ArrayTensor
from fornix.ir.types import TensorType
from fornix.ops.fact import Fact, tensor
from fornix.ops.window import Window
from tests.ops.harness import infer_op

N, S = symbol("N"), symbol("S")
X = tensor(FLOAT32, (N, S, 768))
FLOAT_CODE, INT64_CODE = 1, 7


def stored(values: Any, dtype: Any = np.int64) -> Fact:
    array = np.asarray(values, dtype)
    return Fact(TensorType(DType.of(array.dtype), array.shape), None,
                ArrayTensor(array))  # fmt: skip


def run(name: str, *inputs: Fact | None, opset: int = 18, **attributes: Any) -> Fact:
    return infer_op(name, list(inputs), attributes, opset=opset)[0]


def contents(fact: Fact) -> list[DimLike]:
    assert fact.value is not None
    return list(fact.value.reshape(-1))


def extent(data: Fact, axis: int) -> Fact:
    """``data.size(axis)``: Shape, then Gather of one entry."""
    return run("Gather", run("Shape", data), stored(axis), axis=0)


def unsqueezed(*parts: Fact) -> list[Fact]:
    return [run("Unsqueeze", part, stored([0])) for part in parts]


def test_a_view_of_heads() -> None:
    parts = unsqueezed(extent(X, 0), extent(X, -2))
    target = run("Concat", *parts, stored([12]), stored([-1]), axis=0)
    assert contents(target) == [N, S, 12, -1]
    heads = run("Reshape", X, target)
    assert heads.shape == (N, S, 12, 64)
    assert run("Transpose", heads, perm=[0, 2, 1, 3]).shape == (N, 12, S, 64)


def test_a_view_with_one_extent_computed_at_run_time() -> None:
    unknown = tensor(INT64, (1,))
    target = run("Concat", *unsqueezed(extent(X, 0)), unknown, stored([768]), axis=0)
    first, middle, last = run("Reshape", X, target).shape
    assert (first, last) == (N, 768)
    assert middle != S


def test_the_leading_part_of_a_shape() -> None:
    leading = run("Slice", run("Shape", X), stored([0]), stored([-1]), stored([0]))
    assert contents(leading) == [N, S]
    target = run("Concat", leading, stored([12]), stored([64]), axis=0)
    assert run("Reshape", X, target).shape == (N, S, 12, 64)


def test_a_mask_that_is_expanded() -> None:
    wanted = run("Concat", *unsqueezed(extent(X, 0), extent(X, 1)), axis=0)
    ones = run("ConstantOfShape", run("Shape", wanted), value=np.array([1]))
    kept = run("Equal", wanted, run("Mul", ones, stored(-1)))
    target = run("Where", kept, ones, wanted)
    assert contents(target) == [N, S]
    assert run("Expand", stored(1.0, np.float32), target).shape == (N, S)


def test_a_tensor_filled_to_a_computed_shape() -> None:
    target = run("Concat", *unsqueezed(extent(X, 1), extent(X, 1)), axis=0)
    assert run("ConstantOfShape", target, value=np.ones(1, np.float32)).shape == (S, S)


def test_positions_up_to_a_length() -> None:
    past, length = stored(0), extent(X, 1)
    assert run("Range", past, length, stored(1)).shape == (S,)
    total = run("Add", length, extent(X, 0))
    assert run("Range", length, total, stored(1)).shape == (N,)
    backward = run("Range", length, stored(0), stored(-2))
    assert backward.shape == ((S + 1) // 2,)


def test_half_an_extent_through_floats() -> None:
    wide = run("Cast", extent(X, 1), to=FLOAT_CODE)
    same = run("Cast", run("Floor", wide), to=INT64_CODE)
    assert contents(same) == [S]
    doubled = run("Mul", wide, stored(2.0, np.float32))
    assert contents(run("Cast", run("Floor", doubled), to=INT64_CODE)) == [2 * S]


def test_a_quotient_of_floats_is_not_taken_for_that_of_integers() -> None:
    wide = run("Cast", extent(X, 1), to=FLOAT_CODE)
    assert run("Div", wide, stored(2.0, np.float32)).value is None


def same_padding(extent: Fact, *, taps: int, stride: int, dilation: int) -> tuple[Fact, Fact]:
    """What timm pads ahead of and behind an axis, as torch writes it: through floats."""
    wide = run("Cast", extent, to=FLOAT_CODE)
    count = run("Ceil", run("Div", wide, stored(float(stride), np.float32)))
    less = run("Sub", count, stored(1.0, np.float32))
    reach = run("Mul", less, stored(float(stride), np.float32))
    reach = run("Add", reach, stored(float((taps - 1) * dilation + 1), np.float32))
    total = run("Clip", run("Sub", reach, wide), stored(0.0, np.float32))
    half = run("Mul", total, stored(0.5, np.float32))
    before = run("Cast", half, to=INT64_CODE)
    return before, run("Sub", total, run("Cast", before, to=FLOAT_CODE))


def test_padding_to_the_extent_over_the_stride_is_that_of_windows() -> None:
    axes = [(3, 2, 1), (5, 2, 1), (7, 4, 1), (3, 3, 2), (2, 1, 1), (1, 2, 1)]
    for taps, stride, dilation in axes:
        before, after = same_padding(extent(X, 1), taps=taps, stride=stride, dilation=dilation)
        window = Window.of(
            (S,), (taps,), strides=[stride], dilations=[dilation], auto_pad="SAME_UPPER"
        )
        assert [*contents(before), *contents(after)] == [*window.before, *window.after]


def test_quotients_are_whole_where_a_function_rounds_them() -> None:
    wide = run("Cast", extent(X, 1), to=FLOAT_CODE)
    third = run("Div", wide, stored(3.0, np.float32))
    half = run("Mul", wide, stored(0.5, np.float32))
    assert half.value is None
    assert contents(run("Floor", third)) == [S // 3]
    assert contents(run("Ceil", third)) == [(S + 2) // 3]
    assert contents(run("Cast", third, to=INT64_CODE)) == [S // 3]
    assert run("Cast", third, to=1).value is None
    assert run("Round", third).value is None


def test_the_greatest_and_the_least_of_extents_in_floats_are_extents() -> None:
    wide = run("Cast", extent(X, 1), to=FLOAT_CODE)
    less = run("Sub", wide, stored(3.0, np.float32))
    zero, nine = (stored(number, np.float32) for number in (0.0, 9.0))
    assert contents(run("Max", less, zero)) == contents(run("Clip", less, zero))
    assert contents(run("Min", wide, nine)) == contents(run("Clip", wide, None, nine))
    assert run("Max", wide, stored(0.5, np.float32)).value is None


def test_factors_that_are_no_reciprocals_and_numbers_below_zero_leave_no_quotient() -> None:
    wide = run("Cast", extent(X, 1), to=FLOAT_CODE)
    for other in (0.0, -2.0, 1.5, np.inf, np.nan):
        divided = run("Div", wide, stored(other, np.float32))
        assert run("Floor", divided).value is None
    scaled = run("Mul", wide, stored(1 / 3, np.float32))  # 3 · fl(1/3) is below 1 or above it
    assert run("Floor", scaled).value is None
    narrow = run("Div", stored(2049, np.float16), stored(2, np.float16))
    assert run("Floor", narrow).value is None  # float16 has no 1024.5
    less = run("Sub", wide, stored(3.0, np.float32))
    assert run("Ceil", run("Div", less, stored(2.0, np.float32))).value is None


def test_floats_round_quotients_of_exact_integers_as_integers_do() -> None:
    rng = np.random.default_rng(0)
    divisors = np.concatenate([np.arange(1, 65), rng.integers(1, 2**24, 2_000)])
    near = rng.integers(0, 2**24, (len(divisors), 50))
    near[:, :25] = near[:, :25] // divisors[:, None] * divisors[:, None] + rng.integers(-1, 2, 25)
    whole = np.clip(near, 0, 2**24 - 1)
    floats = whole.astype(np.float32) / divisors[:, None].astype(np.float32)
    np.testing.assert_array_equal(np.floor(floats), whole // divisors[:, None])
    np.testing.assert_array_equal(np.ceil(floats), -(-whole // divisors[:, None]))


def test_pads_as_the_exporter_reorders_them() -> None:
    # torch lists pads from the last axis on, pair by pair; ONNX all beginnings, then all ends.
    listed = run("Concat", *unsqueezed(extent(X, 0)), stored([2, 0, 0]), axis=0)
    filled = run("Concat", listed, run("ConstantOfShape", stored([2]), value=np.zeros(1, np.int64)),
                 axis=0)  # fmt: skip
    pairs = run("Reshape", filled, stored([-1, 2]))
    turned = run("Slice", pairs, stored([-1]), stored([-(2**63) + 1]), stored([0]), stored([-1]))
    pads = run("Cast", run("Reshape", run("Transpose", turned, perm=[1, 0]), stored([-1])),
               to=INT64_CODE)  # fmt: skip
    assert contents(pads) == [0, 0, N, 0, 0, 2]
    assert run("Pad", X, pads).shape == (N, S, N + 770)


def test_chunks_of_a_projection() -> None:
    facts = infer_op("Split", [X], {"axis": 2, "num_outputs": 3}, opset=18, outputs=3)
    assert [fact.shape for fact in facts] == [(N, S, 256)] * 3


def test_a_causal_mask_cut_to_the_length() -> None:
    bias = tensor(FLOAT32, (1, 1, 1024, 1024))
    length = unsqueezed(extent(X, 1))[0]
    rows = run("Slice", bias, stored([0]), length, stored([2]), stored([1]))
    assert str(rows.shape[2]) == "min(1024, S)"
