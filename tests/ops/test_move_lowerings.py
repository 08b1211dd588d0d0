from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.errors import Fail
from fornix.ops.call import NotLowered
from tests.ops.harness import check_lowering, lower_op

DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
INT_MAX, INT_MIN = 2**63 - 1, -(2**63)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize("perm", [None, [1, 2, 0], [0, 2, 1]])
def test_transpose_permutes_indices(perm: list[int] | None) -> None:
    check_lowering("Transpose", [DATA], {} if perm is None else {"perm": perm})


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int8, np.float16])
def test_concat_chooses_the_input_by_index(dtype: Any) -> None:
    parts = [DATA.astype(dtype), DATA[:, :0].astype(dtype), DATA[:, 1:3].astype(dtype)]
    check_lowering("Concat", parts, {"axis": 1})
    check_lowering("Concat", parts[:1], {"axis": 0})


def test_split_shifts_indices() -> None:
    check_lowering("Split", [DATA], {"axis": 1}, opset=13, outputs=2)
    check_lowering("Split", [DATA], {"axis": -1, "num_outputs": 2}, outputs=2)
    check_lowering("Split", [DATA], {"axis": 1}, opset=1, outputs=2)
    lengths = ints(1, 0, 3)
    check_lowering("Split", [DATA, lengths], {"axis": 1}, outputs=3)


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, 5, 1), (1, INT_MAX, 2), (-3, -1, 1), (-1, INT_MIN, -1), (9, -9, -2), (4, 1, 1)],
)
def test_slice_scales_indices(start: int, end: int, step: int) -> None:
    inputs = [DATA, ints(start), ints(end), ints(2), ints(step)]
    check_lowering("Slice", inputs)
    attributes = {"starts": [start], "ends": [end], "axes": [1]}
    check_lowering("Slice", [DATA], attributes, opset=1)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_loads_its_index(axis: int) -> None:
    indices = np.array([[0, -1], [2, 1]], np.int32)
    check_lowering("Gather", [DATA, indices], {"axis": axis})
    check_lowering("Gather", [DATA, np.array(-2)], {"axis": axis})


def test_gather_elements_and_gather_nd_load_theirs() -> None:
    indices = np.random.default_rng(1).integers(-3, 3, (2, 3, 4))
    check_lowering("GatherElements", [DATA, indices], {"axis": 1})
    places = np.array([[[2, 1]], [[-1, 0]], [[0, 4]]])
    check_lowering("GatherND", [DATA, places], {"batch_dims": 1}, symbolic=False)
    check_lowering("GatherND", [DATA, places - 1], symbolic=False)
    with pytest.raises(NotLowered, match="how many axes its indices address depends on an extent"):
        lower_op("GatherND", [DATA, places], is_symbolic=True)


@pytest.mark.parametrize(("start", "end"), [(0, 2), (1, 9)])
def test_slice_follows_extents(start: int, end: int) -> None:
    check_lowering("Slice", [DATA[:0], ints(start), ints(end)])


def test_a_gathered_index_is_checked() -> None:
    with pytest.raises(Fail, match="out of range"):
        lower_op("Gather", [DATA, ints(0, 3)])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 0, 2, 1), (0, -1, 3, 1, 2, -2), (7, 0, 0, 0, 9, 0)])
def test_pad_reads_other_places(mode: str, pads: tuple[int, ...]) -> None:
    inputs = [DATA, ints(*pads)]
    check_lowering("Pad", inputs, {"mode": mode})


def test_pad_fills_with_a_constant_known_at_run_time() -> None:
    inputs = [DATA, ints(1, 2), np.array(7, np.float32), ints(-1)]
    check_lowering("Pad", inputs)
    check_lowering("Pad", [DATA > 2, ints(1, 2), None, ints(1)])


def test_pad_before_11_fills_with_its_attribute() -> None:
    attributes = {"pads": [0, 1, 0, 0, 0, 2], "value": 1.5}
    check_lowering("Pad", [DATA], attributes, opset=2)


def test_pad_reflects_a_single_element() -> None:
    check_lowering("Pad", [DATA[:1], ints(2, 0, 0, 2, 0, 0)], {"mode": "reflect"})


def test_tile_takes_indices_modulo_the_extent() -> None:
    check_lowering("Tile", [DATA, ints(2, 1, 3)])
    times, axis = (np.array(n, DATA.dtype) for n in (2, 1))
    check_lowering("Tile", [DATA, times, axis], opset=1, symbolic=False)
    check_lowering("Tile", [DATA[:, :0], ints(2, 1, 3)])


@pytest.mark.parametrize("target", [1, 7, 3, 9, 10, 16, 11])
def test_cast_converts_elements(target: int) -> None:
    check_lowering("Cast", [DATA - 7.5], {"to": target})
    check_lowering("CastLike", [DATA, np.zeros((), ml_dtypes.bfloat16)])


@pytest.mark.parametrize(
    "attributes", [{"to": 17, "saturate": 0}, {"to": 24, "round_mode": "down"}]
)
def test_cast_leaves_rare_modes_to_the_kernel(attributes: dict[str, Any]) -> None:
    with pytest.raises(NotLowered, match="with saturation and round scales up"):
        lower_op("Cast", [DATA], attributes)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("Slice", [DATA, ints(0), ints(1), ints(2), np.array([[1]])]),
        ("Pad", [DATA, np.zeros((1, 6), np.int64)]),
    ],
)
def test_geometry_known_at_run_time_is_left_to_the_kernel(name: str, inputs: list[Any]) -> None:
    with pytest.raises(NotLowered, match="is computed at run time"):
        lower_op(name, inputs)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("DepthToSpace", [np.arange(48.0).reshape(1, 8, 2, 3)], {"blocksize": 2, "mode": "DCR"}),
        ("DepthToSpace", [np.arange(48.0).reshape(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", [np.arange(48.0).reshape(1, 2, 4, 6)], {"blocksize": 2, "mode": "DCR"}),
        ("SpaceToDepth", [np.arange(48.0).reshape(1, 2, 4, 6)], {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", [np.zeros((1, 0, 4, 6))], {"blocksize": 2}),
        ("ReverseSequence", [DATA, ints(0, 1, 2, 3)], {}),
        ("ReverseSequence", [DATA, ints(4, 0, 2)], {"batch_axis": 0, "time_axis": 1}),
        ("Trilu", [DATA, np.array(-1)], {"upper": 0}),
        ("Trilu", [DATA], {}),
        ("OneHot", [ints(0, -1, 9), ints(4), np.array([2.0, 3.0])], {"axis": 0}),
        ("Constant", [], {"value_ints": [1, 2]}),
        ("ConstantOfShape", [ints(2, 3)], {"value": np.array([7], np.int8)}),
        ("EyeLike", [DATA[0]], {"k": 1, "dtype": 7}),
        ("Range", [np.array(1.5), np.array(9.0), np.array(2.0)], {}),
        ("Range", [np.array(9), np.array(1), np.array(-3)], {}),
        ("BitCast", [DATA], {"to": 6}),
    ],
)
def test_elements_are_found_or_made_by_index(
    name: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    check_lowering(name, inputs, attributes, symbolic=False)


@pytest.mark.parametrize("shape", [(6, 1), (5, 2), (1, 7)])
def test_whether_axes_grow_may_depend_on_extents(shape: tuple[int, ...]) -> None:
    check_lowering("CenterCropPad", [DATA, ints(*shape)], {"axes": [0, 2]})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_scatter_writes_where_data_say(reduction: str, dtype: Any) -> None:
    data, attributes = DATA.astype(dtype), {"reduction": reduction}
    indices = np.random.default_rng(1).integers(-3, 3, (2, 4, 5))
    check_lowering("ScatterElements", [data, indices, data[:2] + 1], attributes)
    places = np.array([[2, 1], [-1, 0], [2, 1]])
    check_lowering("ScatterND", [data, places, data[0, :3]], attributes, symbolic=False)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter_writes_from_a_loaded_index_on(mode: str) -> None:
    inputs = [DATA, DATA[:, :2] + 1, ints(0, 2, 1)]
    check_lowering("TensorScatter", inputs, {"mode": mode})
    check_lowering("TensorScatter", inputs[:2], {"mode": mode})


def test_truth_values_are_not_added_by_loops() -> None:
    truths = DATA[0] > 3
    with pytest.raises(NotLowered, match="loops do not add or multiply truth values"):
        lower_op("ScatterElements", [truths, np.zeros((1, 5), np.int64), truths[:1]],
                 {"reduction": "add"})  # fmt: skip
