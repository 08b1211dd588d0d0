"""Along which axis the cost of accesses puts vectors."""

from __future__ import annotations

import pytest
from onnx import parser

from fornix.compile import Target
from fornix.compile.schedule.map import lanes_of, normal, vector_axis
from fornix.compile.units import CompiledUnit
from fornix.ir.loops import Store
from fornix.reference.source import as_model
from tests.compile.units import Units


def only_store(text: str) -> Store:
    """What the one kernel of a model computes, of as few axes as may be."""
    model = Units(as_model(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')))
    (unit,) = model.units
    assert isinstance(unit, CompiledUnit)
    (result,) = model.lowering.unit(unit).outputs
    assert result.buffer is not None
    assert isinstance(result.buffer.source, Store)
    return normal(result.buffer.source)


BOXES = """f (float[N, 4200, 16] x, float[4200, 2] z) => (float[N, 4200, 2] y)
<int64[1] start = {6}, int64[1] end = {8}, int64[1] axes = {2}> {
    sizes = Slice (x, start, end, axes)
    grown = Exp (sizes)
    y = Mul (grown, z)
}"""


MIRRORED = """f (float[512, 66, 63] x) => (float[512, 72, 66] y)
<int64[6] pads = {0, 3, 2, 0, 3, 1}> {
    y = Pad <mode = "reflect"> (x, pads)
}"""


SAMPLED = """f (float[16, 16, 50, 50] x, float[16, 50, 50, 2] g) => (float[16, 16, 50, 50] y) {
    y = GridSample (x, g)
}"""


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        # images of an unknown number of classes: lanes are places, not images
        ("f (float[N, 2, S] x, float[S] z) => (float[N, 2, S] y) { y = Mul (x, z) }", "S"),
        ("f (float[N, S, 2] x, float[S, 1] z) => (float[N, S, 2] y) { y = Mul (x, z) }", "S"),
        # boxes of 4200 places: lanes are these, not images
        (BOXES, 4200),
        # places that do not fill their last vector, of many: lanes are no channels, which do
        (SAMPLED, 2500),
        # what is mirrored at the ends of rows is little: lanes are places, not images
        (MIRRORED, 66),
        # rows of few numbers that lie far apart: each lane is a row
        ("f (float[N, 16, 2100] x) => (float[N, 16, 2100] y) { y = Softmax <axis = 1> (x) }", 2100),
    ],
)
def test_lanes_go_along_what_is_long_and_lies_together(text: str, chosen: int | str) -> None:
    store = only_store(text)
    axis = vector_axis(store, 16)
    assert axis is not None
    assert str(axis.extent) == str(chosen)


def test_a_number_loaded_once_leaves_vectors_as_long_as_they_are() -> None:
    triangle = "f (bool[90, 70] x, int64 k) => (bool[90, 70] y) { y = Trilu (x, k) }"
    target = Target.host()
    assert lanes_of(only_store(triangle), target) == target.vector_bytes


@pytest.mark.parametrize(
    ("dtype", "columns", "is_vector"),
    [("int64", 10, False), ("int64", 80, True), ("int32", 10, True)],
)
def test_wide_integers_are_divided_one_by_one_where_lanes_stay_empty(
    dtype: str, columns: int, *, is_vector: bool
) -> None:
    """Processors divide them in every lane, also in those without an element."""
    given = f"{dtype}[N, {columns}] x, {dtype}[{columns}] z"
    store = only_store(f"f ({given}) => ({dtype}[N, {columns}] y) {{ y = Div (x, z) }}")
    lanes = lanes_of(store, Target.masked("x86-64-v4"))
    assert (vector_axis(store, lanes) is not None) is is_vector
