from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import NotSupported
from tests.ops.grads.harness import Array, Case, check, random

X = random(3, 4)
Y = random(2, 3, 4, seed=1)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


SHAPES: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("Identity", [X], {}),
    ("Reshape", [X, ints(2, -1)], {}),
    ("Flatten", [Y], {"axis": 2}),
    ("Squeeze", [random(3, 1, 2), ints(1)], {}),
    ("Unsqueeze", [X, ints(0, -1)], {}),
    ("Expand", [random(3, 1), ints(2, 3, 4)], {}),
    ("Transpose", [Y], {"perm": [1, 2, 0]}),
    ("Transpose", [Y], {}),
    ("Tile", [X, ints(2, 3)], {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), SHAPES)
def test_other_shapes(name: str, inputs: list[Array], attributes: dict[str, Any]) -> None:
    check(name, inputs, attributes)
    check(name, inputs, attributes, constants=[1] if len(inputs) > 1 else [])


@pytest.mark.parametrize("opset", [12, 28])
def test_every_input_of_concat_gets_its_part(opset: int) -> None:
    dims = ["static"] if opset == 12 else ["static", "symbolic"]
    check("Concat", [X, random(3, 2, seed=3), X], {"axis": -1}, opset=opset, dims=dims)
    check("Concat", [X], {"axis": 0}, opset=opset, dims=dims)


def test_parts_of_split_that_nobody_reads_have_no_gradient() -> None:
    check("Split", [Y, ints(1, 3)], {"axis": 2}, outputs=2, of=1)
    check("Split", [Y], {"axis": 2, "num_outputs": 3}, outputs=3, of=0)


SLICES = [
    (ints(1), ints(3), ints(2), None),
    (ints(0, 1), ints(9, 9), None, None),
    (ints(-2), ints(9), ints(2), None),
    (ints(-1, 0), ints(-5, 3), ints(2, 1), ints(-2, 2)),
]


@pytest.mark.parametrize("given", SLICES)
def test_slices_known_and_computed(given: tuple[Array | None, ...]) -> None:
    check("Slice", [Y, *given], constants=[i for i, x in enumerate(given, 1) if x is not None])
    check("Slice", [Y, *given])


def test_a_slice_of_neighbours_is_padded_back() -> None:
    case = Case("Slice", [Y, ints(1), ints(3), ints(2)], constants=[1, 2, 3], opset=13)
    case.gradients(["x0"])  # ScatterElements adds up from opset 16 on only
    stepped = Case("Slice", [Y, ints(0), ints(3), ints(2), ints(2)], constants=[1, 2, 3, 4],
                   opset=13)  # fmt: skip
    with pytest.raises(NotSupported, match="attribute reduction of ScatterElements"):
        stepped.gradients(["x0"])


def test_padding_is_cut_off_and_its_value_gets_the_rest() -> None:
    check("Pad", [X, ints(1, 0, 2, 1), np.array(0.5)])
    check("Pad", [X, ints(1, -1, 0, 1)])
    check("Pad", [Y, ints(1, 2), None, ints(1)])


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_padding_with_elements_adds_them_up(mode: str) -> None:
    check("Pad", [Y, ints(0, 1, 2, 0, 2, 1)], {"mode": mode})


MOVES: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("DepthToSpace", [random(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [random(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [random(1, 2, 4, 6)], {"blocksize": 2}),
    ("Compress", [X, np.array([True, False, True, True])], {"axis": 1}),
    ("Compress", [X, np.array([True, False, True, True])], {}),
    ("CenterCropPad", [X, ints(2, 5)], {}),
    ("ReverseSequence", [X, ints(1, 3, 2, 3)], {"time_axis": 0, "batch_axis": 1}),
    ("Trilu", [Y], {"upper": 0}),
    ("Trilu", [Y, np.array(1)], {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), MOVES)
def test_elements_that_move(name: str, inputs: list[Array], attributes: dict[str, Any]) -> None:
    check(name, inputs, attributes)


GATHERS: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("Gather", [Y, np.array([[0, 2], [2, -1]])], {"axis": 1}),
    ("Gather", [Y, np.array(1)], {"axis": 2}),
    ("Gather", [Y, np.array([0, 0, 1], np.int32)], {}),
    ("GatherElements", [Y, np.array([[[0, 1, 2, 0]], [[1, 1, -1, 0]]])], {"axis": 1}),
    ("GatherND", [Y, np.array([[0, 1], [0, 1], [1, -1]])], {}),
    ("GatherND", [Y, np.array([[0, 2], [1, 3]])], {"batch_dims": 1}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), GATHERS)
def test_elements_chosen_twice_get_the_sum(
    name: str, inputs: list[Array], attributes: dict[str, Any]
) -> None:
    check(name, inputs, attributes)


def test_adding_up_needs_a_reduction() -> None:
    with pytest.raises(
        NotSupported,
        match=r"node for 'y0' \(Gather, opset 13\): its gradient needs attribute reduction of "
        "ScatterND, which ai.onnx opset 13 does not have",
    ):
        Case("Gather", [X, ints(0, 0)], opset=13).gradients(["x0"])


PLACES = np.array([[0, 1, 2, 0], [1, 0, 0, 2]])
POINTS = np.array([[0, 1], [1, 2]])


def test_updates_get_the_gradient_of_what_they_replace() -> None:
    check("ScatterElements", [X, PLACES[:1], random(1, 4, seed=9)])
    check("ScatterND", [Y, POINTS, random(2, 4, seed=4)])


def test_updates_that_are_added_share_it_with_the_data() -> None:
    check("ScatterElements", [X, PLACES, random(2, 4, seed=9)], {"reduction": "add"})
    twice = np.array([[0, 1], [0, 1]])
    check("ScatterND", [Y, twice, random(2, 4, seed=4)], {"reduction": "add"})


def test_other_reductions_are_declined() -> None:
    case = Case("ScatterElements", [X, PLACES, random(2, 4)], {"reduction": "mul"})
    with pytest.raises(NotSupported, match="the derivative of the reduction 'mul' is not"):
        case.gradients(["x0"])


def test_the_greatest_values_send_the_gradient_back() -> None:
    check("TopK", [Y, ints(2)], {"axis": 1}, outputs=2)


def test_the_values_of_one_hot_get_sums() -> None:
    check("OneHot", [np.array([0, 2, 1]), np.array(3), random(2)], of_inputs=[2])


def test_updates_of_a_cache() -> None:
    cache, update = random(2, 1, 4, 3), random(2, 1, 2, 3, seed=1)
    check("TensorScatter", [cache, update, ints(1, 2)])
    check("TensorScatter", [cache, update, ints(1, 3)], {"mode": "circular"})


def test_unpooled_elements_get_back_what_stands_where_they_went() -> None:
    x, places = random(1, 1, 2, 2), np.array([[[[5, 3], [8, 15]]]])
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check("MaxUnpool", [x, places], attributes)
    case = Case("MaxUnpool", [x, places, ints(1, 1, 5, 5)], attributes)
    with pytest.raises(NotSupported, match="with output_shape it has no derivative here"):
        case.gradients(["x0"])


def test_ranges_depend_on_start_and_step() -> None:
    limits = [np.array(0.5), np.array(2.25), np.array(0.5)]
    check("Range", limits, constants=[1], dims=["static"])


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotations_are_undone(interleaved: int) -> None:
    angles = random(2, 3, 2, seed=1).astype(np.float32)
    inputs = [random(2, 2, 3, 4).astype(np.float32), np.cos(angles), np.sin(angles)]
    attributes = {"interleaved": interleaved}
    for dims in ("static", "symbolic"):
        case = Case("RotaryEmbedding", inputs, attributes, dims=dims)
        back = Case("RotaryEmbedding", [case.weights, inputs[1], -inputs[2]], attributes)
        np.testing.assert_allclose(case.gradients(["x0"])[0], back.y, rtol=1e-6, atol=1e-6)
    with pytest.raises(NotSupported, match="the gradient of its cos_cache and sin_cache is not"):
        case.gradients(["x1"])
