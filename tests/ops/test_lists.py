"""Inputs that are lists of numbers (shapes, axes, pads): one axis, and as many as are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.errors import Fail, ShapeError
from tests.ops.harness import check_node, fact_of, infer_op, run_op

X = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
LISTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Reshape", [X, [[6]]], {}),
    ("Expand", [X, [[2, 3]]], {}),
    ("Tile", [X, [[1, 1, 1]]], {}),
    ("Slice", [X, [[0]], [1]], {}),
    ("Slice", [X, [0], [[1]]], {}),
    ("Slice", [X, [0], [1], [[0]]], {}),
    ("Slice", [X, [0], [1], [0], [[1]]], {}),
    ("Pad", [X, [[0] * 6]], {}),
    ("Pad", [X, [0, 0], None, [[0]]], {}),
    ("Squeeze", [X, [[0]]], {}),
    ("Unsqueeze", [X, [[0]]], {}),
    ("ReduceSum", [X, [[0]]], {}),
    ("Split", [X, [[1, 1]]], {"axis": 1}),
    ("SplitToSequence", [X, [[1, 1]]], {"axis": 1}),
    ("ConstantOfShape", [[[2, 3]]], {}),
    ("CenterCropPad", [X, [[1, 2, 3]]], {}),
    ("Col2Im", [X, [[3]], [2]], {}),
    ("AffineGrid", [X, [[1, 1, 2, 2]]], {}),
    ("Resize", [X, None, None, [[1, 2, 3]]], {}),
]


@pytest.mark.parametrize(("name", "inputs", "attributes"), LISTS)
def test_lists_have_one_axis(name: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    arrays = [np.array(x, np.int64) if isinstance(x, list) else x for x in inputs]
    with pytest.raises(ShapeError, match="must have one axis, found shape"):
        run_op(name, arrays, attributes, outputs=2 if name == "Split" else 1)
    with pytest.raises(ShapeError, match="must have one axis, found shape"):
        infer_op(name, [fact_of(x) for x in arrays], attributes)


@pytest.mark.parametrize("name", ["Expand", "Reshape", "Tile"])
def test_a_scalar_is_a_list_of_one(name: str) -> None:
    x = np.ones(1, np.float32)
    check_node(name, [x, np.array(1)], expected=[x])


def test_blocks_of_columns_have_the_rank_of_their_image() -> None:
    with pytest.raises(ShapeError, match="an entry for each of image_shape's 1, got 2"):
        run_op("Col2Im", [X, np.array([4]), np.array([1, 2])])


def test_blocks_and_grids_have_extents() -> None:
    with pytest.raises(ShapeError, match="entries of block_shape must be 1 or more"):
        run_op("Col2Im", [X, np.array([4]), np.array([0])])
    for run in (run_op, lambda name, xs: infer_op(name, [fact_of(x) for x in xs])):
        with pytest.raises(ShapeError, match="size must hold no negative extent"):
            run("AffineGrid", [X, np.array([1, 1, -2, 2])])


def test_regions_have_no_negative_extents_and_nothing_to_read_gives_zeros() -> None:
    x, rois = np.zeros((1, 2, 0, 3), np.float32), np.array([[0, 0, 2, 2]], np.float32)
    inputs = [x, rois, np.array([0])]
    wanted = np.zeros((1, 2, 2, 2), np.float32)
    check_node("RoiAlign", inputs, {"output_height": 2, "output_width": 2}, expected=[wanted])
    with pytest.raises(ShapeError, match="output_height and output_width must not be negative"):
        run_op("RoiAlign", inputs, {"output_width": -1})


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_regions_without_end_are_no_regions(scale: float) -> None:
    inputs = [np.ones((1, 1, 2, 2), np.float32), np.array([[0, 1, 1, 1, 1]], np.float32)]
    with pytest.raises(Fail, match="regions must have finite corners"):
        run_op("MaxRoiPool", inputs, {"pooled_shape": [1, 1], "spatial_scale": scale})


def test_a_scale_of_one_element_may_have_axes_however_little_is_known() -> None:
    x, scale = np.ones((2, 3), np.int8), np.full((1, 1), 2, np.float32)
    check_node("DequantizeLinear", [x, scale], expected=[np.full((2, 3), 2, np.float32)])


def test_how_many_elements_topk_finds_is_one_number() -> None:
    for count in (np.zeros(0, np.int64), np.array([1, 2])):
        with pytest.raises(ShapeError, match="K must have one element"):
            run_op("TopK", [X, count], outputs=2)
        with pytest.raises(ShapeError, match="K must have one element"):
            infer_op("TopK", [fact_of(X), fact_of(count)], outputs=2)
