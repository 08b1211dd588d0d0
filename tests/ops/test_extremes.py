from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from fornix import InferenceSession, ops
from fornix.dtype import FLOAT32, INT64, DType
from fornix.errors import ShapeError
from fornix.ir.types import TensorType
from fornix.ops.fact import as_value, tensor
from fornix.ops.types import type_of
from tests.ops.differential.draw import contents
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_positions_of_extremes_break_ties_as_asked(name: str, last: int, keepdims: int) -> None:
    x = RANDOM.integers(0, 3, (4, 6, 5)).astype(np.float32)
    attributes = {"axis": 1, "select_last_index": last, "keepdims": keepdims}
    check_node(name, [x], attributes, expected=peer(name, [x], attributes))


def test_position_of_an_extreme_needs_an_element() -> None:
    with pytest.raises(ShapeError, match=r"axis 0 of data\[0, 2\] must have an element"):
        run_op("ArgMax", [np.empty((0, 2), np.float32)])


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.uint8, np.int8]
)
def test_positions_of_extremes_are_lowered(name: str, last: int, dtype: Any) -> None:
    x = RANDOM.integers(0, 4, (5, 9, 2)).astype(dtype)
    for axis, keepdims in ((1, 0), (-1, 1), (0, 1)):
        attributes = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
        check_lowering(name, [x], attributes)


@pytest.mark.parametrize("last", [0, 1])
def test_nan_is_the_extreme_that_is_found(last: int) -> None:
    x = np.array([[1, np.nan, 3, np.nan], [3, 1, 3, -np.inf], [-np.inf] * 4], np.float32)
    attributes = {"axis": 1, "select_last_index": last, "keepdims": 0}
    check_lowering("ArgMax", [x], attributes)
    check_lowering("ArgMin", [-x], attributes)
    wanted = [3, 2, 3] if last else [1, 0, 0]
    np.testing.assert_array_equal(run_op("ArgMax", [x], attributes)[0], wanted)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("k", [0, 1, 3])
def test_top_k_orders_ties_by_index(largest: int, axis: int, k: int) -> None:
    x = RANDOM.integers(0, 4, (5, 4, 6)).astype(np.float32)
    inputs = [x, np.array([k])]
    attributes = {"axis": axis, "largest": largest}
    wanted = peer("TopK", inputs, attributes, outputs=2)
    check_node("TopK", inputs, attributes, expected=wanted)


def test_top_k_takes_k_as_attribute_before_opset_10() -> None:
    x = np.array([[3.0, 1.0, 2.0]])
    wanted = [np.array([[3.0, 2.0]]), np.array([[0, 2]])]
    check_node("TopK", [x], {"k": 2}, opset=1, expected=wanted)


def test_top_k_counts_nan_as_greatest() -> None:
    values, indices = run_op("TopK", [np.array([1.0, np.nan, 2.0]), np.array([2])], outputs=2)
    np.testing.assert_array_equal(values, [np.nan, 2.0])
    np.testing.assert_array_equal(indices, [1, 2])


def test_top_k_refuses_more_than_there_are() -> None:
    message = r"K must be in \[0, 3\], the extent of axis -1, got 4"
    with pytest.raises(ShapeError, match=message):
        run_op("TopK", [np.zeros(3, np.float32), np.array([4])], outputs=2)
    with pytest.raises(ShapeError, match=message):
        infer_op("TopK", [tensor(FLOAT32, (3,)), tensor(INT64, (1,), as_value([4]))], outputs=2)


TOP_K_TYPES = [
    t.dtype
    for t in map(type_of, sorted(ops.schema_of("", "TopK", 28).constraints["T"].members))
    if isinstance(t, TensorType) and t.dtype is not None
]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", TOP_K_TYPES, ids=str)
def test_few_of_a_row_are_chosen_by_loops(dtype: DType, largest: int) -> None:
    x = contents(np.random.default_rng(3), dtype, (3, 7))
    if dtype.is_float:
        x[0, :4] = np.array([np.nan, np.inf, -np.nan, -np.inf]).astype(x.dtype)
        x[1, :4] = np.array([0.0, -0.0, 0.0, -0.0]).astype(x.dtype)
    else:
        ends = ml_dtypes.iinfo(x.dtype)
        x[0, :4] = ends.max, ends.min, ends.max, ends.min
    for count in (1, 4):
        check_lowering("TopK", [x, np.array([count])], {"largest": largest}, outputs=2)
    check_lowering("TopK", [x, np.array([2])], {"largest": largest, "axis": 0}, outputs=2)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8])
@pytest.mark.parametrize("extent", [255, 256, 700])
def test_the_foremost_of_a_row_of_any_length_is_found(
    extent: int, dtype: Any, largest: int
) -> None:
    x = np.random.default_rng(extent).integers(0, 50, (6, extent)).astype(dtype)
    if x.dtype.kind == "f":
        x[1, 3:], x[2, 9], x[3] = np.nan, np.inf, -0.0
        x[3, 200], x[4, 77] = 0.0, -np.inf
    given = [x, np.array([1])]
    check_lowering("TopK", given, {"largest": largest}, outputs=2)
    [y, _] = run_op("TopK", given, {"largest": largest}, outputs=2)
    extreme = (np.max if largest else np.fmin.reduce)(x, axis=1)
    np.testing.assert_array_equal(y[:, 0], extreme)


@pytest.mark.parametrize(
    ("shape", "count", "axis"),
    [((1, 8400), 16, 1), ((3, 900), 400, 1), ((130, 7), 130, 0), ((5, 64, 3), 20, 1), ((9,), 9, 0)],
)
@pytest.mark.parametrize("largest", [0, 1])
def test_loops_choose_what_the_kernel_does_however_many_are_wanted(
    shape: tuple[int, ...], count: int, axis: int, largest: int
) -> None:
    x = np.random.default_rng(0).integers(-500, 500, shape).astype(np.float32)
    x.flat[:: max(x.size // 7, 1)] = np.nan
    x.flat[1 :: max(x.size // 5, 2)] = -0.0
    check_lowering("TopK", [x, np.array([count])], {"largest": largest, "axis": axis}, outputs=2)


def ranked(row: list[float], largest: int) -> list[int]:
    """Places in order, by Python's stable sort: NaN before all numbers, or behind them."""
    sign = -1 if largest else 1
    return sorted(
        range(len(row)), key=lambda i: (sign, 0) if row[i] != row[i] else (0, sign * row[i])
    )


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", TOP_K_TYPES, ids=str)
def test_of_a_long_row_the_selected_are_those_that_sorting_all_puts_first(
    dtype: DType, largest: int
) -> None:
    random = np.random.default_rng(5)
    x = contents(random, dtype, (4, 700))
    x[0] = x[0, random.integers(0, 5, 700)]
    x[1] = x[1, 0]
    if dtype.is_float:
        extremes = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -np.nan]).astype(x.dtype)
        x[2] = np.where(random.random(700) < 0.3, extremes[random.integers(0, 6, 700)], x[2])
        x[3] = np.where(random.random(700) < 0.95, extremes[0], x[3])
    for count in (1, 30, 175):
        wanted = [
            ranked(row.astype(np.float64 if dtype.is_float else object).tolist(), largest)[:count]
            for row in x
        ]
        for data, axis in ((x, -1), (x.T, 0), (x.reshape(2, 2, 700), 2)):
            attributes = {"axis": axis, "largest": largest}
            values, places = run_op("TopK", [data, np.array([count])], attributes, outputs=2)
            rows = np.moveaxis(places, axis, -1).reshape(4, count)
            np.testing.assert_array_equal(rows, wanted)
            assert values.tobytes() == np.take_along_axis(data, places, axis).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint64])
@pytest.mark.parametrize(("extent", "k"), [(9, 9), (32, 32), (33, 17), (64, 40), (20, 6)])
def test_a_good_part_of_few_elements_is_chosen_in_order(dtype: Any, extent: int, k: int) -> None:
    x = RANDOM.integers(0, 9, (3, extent, 4)).astype(dtype)
    if x.dtype.kind == "f":
        x[0, 1], x[1, :3], x[2, 2:4] = np.nan, -0.0, np.inf
    for axis, rows in ((1, x), (-1, x[..., 0])):
        for largest in (0, 1):
            attributes = {"axis": axis, "largest": largest}
            given = [rows, np.array([k])]
            check_lowering("TopK", given, attributes, symbolic=False, outputs=2)


@pytest.mark.parametrize(("extent", "is_selected"), [(10, True), (28, True), (32, False)])
def test_ranks_are_for_rows_that_fill_vectors(extent: int, is_selected: bool) -> None:
    text = f"f (float[9, {extent}] x) => (float[] y, int64[] z) <int64[1] k = {{{extent // 2}}}>"
    body = "{ y, z = TopK (x, k) }"
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text} {body}')
    x = RANDOM.standard_normal((9, extent)).astype(np.float32)
    kernels = InferenceSession(model).profile({"x": x}, 1).entries
    assert ("routine" in [kernel.kind for kernel in kernels]) is is_selected
