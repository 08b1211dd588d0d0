from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail, ShapeError
from fornix.ir.dim import symbol
from fornix.ops.fact import tensor, unranked
from tests.ops.harness import check_lowering, check_node, infer_op, peer, run_op

F32_SUM = 1e-5
"""Means of a few dozen elements of size 1."""

N, C, R, B = (symbol(name) for name in "NCRB")


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def regions(count: int, dtype: Any = np.float32) -> Any:
    """Regions of an image of about 10 × 12 elements, some of them partly outside."""
    rng = np.random.default_rng(2)
    start = rng.uniform(-3, 8, (count, 2))
    return np.concatenate([start, start + rng.uniform(0.1, 9, (count, 2))], axis=1).astype(dtype)


@pytest.mark.parametrize("opset", [10, 16, 22])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_agrees_with_onnxruntime(opset: int, mode: str) -> None:
    x, rois = normal(2, 3, 10, 12), regions(6)
    batch = np.array([0, 1, 0, 0, 1, 1])
    transformations: list[dict[str, Any]] = [{}]
    if opset >= 16:
        names = ("half_pixel", "output_half_pixel")
        transformations = [{"coordinate_transformation_mode": name} for name in names]
    for transformation, ratio, scale in itertools.product(transformations, (0, 2), (1.0, 0.7)):
        attributes = {
            "mode": mode, "output_height": 3, "output_width": 2, "sampling_ratio": ratio,
            "spatial_scale": scale, **transformation,
        }  # fmt: skip
        expected = peer("RoiAlign", [x, rois, batch], attributes, opset=min(opset, 16))
        check_node(
            "RoiAlign", [x, rois, batch], attributes, opset=opset, expected=expected,
            rtol=F32_SUM, atol=F32_SUM,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_roi_align_of_half_precision_is_rounded_once(dtype: Any) -> None:
    x, rois, batch = normal(1, 2, 8, 8, dtype=dtype), regions(4, dtype), np.zeros(4, np.int64)
    attributes = {"output_height": 2, "output_width": 2}
    [wide] = run_op("RoiAlign", [x.astype(np.float32), rois.astype(np.float32), batch], attributes)
    check_node("RoiAlign", [x, rois, batch], attributes, expected=[wide.astype(dtype)])


def test_roi_align_of_a_constant_is_the_constant_in_float64() -> None:
    x, rois = np.full((1, 1, 6, 6), 2.5), np.array([[1.0, 1, 4, 5]])
    wanted = np.full((1, 1, 3, 2), 2.5)
    attributes = {"output_height": 3, "output_width": 2, "sampling_ratio": 3}
    check_node("RoiAlign", [x, rois, np.array([0])], attributes, expected=[wanted])


def test_regions_without_extent_and_no_regions_give_zeros() -> None:
    x = normal(1, 2, 4, 4)
    inverted = np.array([[3, 3, 1, 1]], np.float32)
    [y] = run_op("RoiAlign", [x, inverted, np.array([0])])
    assert y.tolist() == np.zeros((1, 2, 1, 1)).tolist()
    none = [x, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)]
    check_node("RoiAlign", none, {}, expected=[np.zeros((0, 2, 1, 1), np.float32)])


def test_roi_align_infers_from_any_of_its_inputs() -> None:
    attributes = {"output_height": 7, "output_width": 5}
    x = tensor(FLOAT32, (N, C, 9, 9))
    [fact] = infer_op("RoiAlign", [x, unranked(FLOAT32), tensor(INT64, (R,))], attributes)
    assert fact.shape == (R, C, 7, 5)
    [fact] = infer_op("RoiAlign", [x, tensor(FLOAT32, (R, 4)), unranked(INT64)], attributes)
    assert fact.shape == (R, C, 7, 5)
    [fact] = infer_op("RoiAlign", [unranked(FLOAT32)] * 2 + [unranked(INT64)], attributes)
    assert fact.shape[2:] == (7, 5)


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        (((1, 2, 3), (1, 4), (1,)), {}, r"X must be \[N, C, H, W\], found X\[1, 2, 3\]"),
        (((1, 1, 3, 3), (1, 5), (1,)), {}, r"rois must be \[R, 4\], found rois\[1, 5\]"),
        (((1, 1, 3, 3), (2, 4), (1,)), {}, r"batch_indices must have one element per region"),
        (((1, 1, 3, 3), (1, 4), (1,)), {"mode": "min"}, "mode must be avg or max, got 'min'"),
        (
            ((1, 1, 3, 3), (1, 4), (1,)),
            {"coordinate_transformation_mode": "asymmetric"},
            "coordinate_transformation_mode must be among half_pixel, output_half_pixel",
        ),
    ],
)
def test_roi_align_says_what_is_wrong(
    shapes: Any, attributes: dict[str, Any], message: str
) -> None:
    x, rois, batch = shapes
    inputs = [np.zeros(x, np.float32), np.zeros(rois, np.float32), np.zeros(batch, np.int64)]
    with pytest.raises(ShapeError, match=message):
        run_op("RoiAlign", inputs, attributes)


def test_regions_without_bins_are_not_read() -> None:
    inputs = [np.ones((1, 2, 3, 4), np.float32), np.ones((1, 4), np.float32), np.array([0])]
    [y] = run_op("RoiAlign", inputs, {"output_height": 0, "output_width": 2})
    assert y.shape == (1, 2, 0, 2)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e30])
def test_bins_are_read_element_by_element_within_bounds(scale: float) -> None:
    rois = np.array([[0, 0, 2, 2]], np.float32)
    inputs = [np.ones((1, 2, 3, 4), np.float32), rois, np.array([0])]
    with pytest.raises(Fail, match="without sampling_ratio a bin is at most 65536 elements long"):
        run_op("RoiAlign", inputs, {"spatial_scale": scale})


def test_roi_align_refuses_images_that_do_not_exist() -> None:
    inputs = [np.zeros((2, 1, 3, 3), np.float32), np.zeros((2, 4), np.float32), np.array([0, 2])]
    with pytest.raises(Fail, match=r"batch_indices must be in \[0, 1\], got \[2\]"):
        run_op("RoiAlign", inputs)


def scalar(value: float) -> Any:
    return np.array([value], np.float32)


@pytest.mark.parametrize("is_centered", [0, 1])
@pytest.mark.parametrize("opset", [10, 11])
def test_non_max_suppression_agrees_with_onnxruntime(is_centered: int, opset: int) -> None:
    rng = np.random.default_rng(3)
    boxes = rng.uniform(0, 1, (2, 30, 4)).astype(np.float32)
    scores = rng.integers(0, 8, (2, 3, 30)).astype(np.float32) / 8  # with ties
    for limit, overlap, floor in itertools.product((0, 3, 50), (0.0, 0.3, 1.0), (None, 0.25)):
        inputs = [
            boxes, scores, np.array([limit]), scalar(overlap),
            None if floor is None else scalar(floor),
        ]  # fmt: skip
        attributes = {"center_point_box": is_centered}
        expected = peer("NonMaxSuppression", inputs, attributes, opset=opset)
        check_node("NonMaxSuppression", inputs, attributes, opset=opset, expected=expected)


def greedy(
    boxes: np.ndarray[Any, Any],
    scores: np.ndarray[Any, Any],
    limit: int,
    floor: float,
    most: float = 0.5,
) -> list[list[int]]:
    """The definition: each class on its own, every box compared with every one selected."""

    def overlap(a: Any, b: Any) -> float:
        ends = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        common = float(np.prod(np.maximum(ends, 0)))
        union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
        return common / union if common > 0 else 0.0

    rows = []
    for image, number in np.ndindex(scores.shape[:2]):
        kept: list[int] = []
        ranked = sorted(range(len(boxes[image])), key=lambda k: -scores[image, number, k])
        for k in ranked:
            is_free = all(overlap(boxes[image, k], boxes[image, other]) <= most for other in kept)
            if scores[image, number, k] > floor and is_free and len(kept) < limit:
                kept.append(k)
        rows += [[image, number, k] for k in kept]
    return rows


def test_classes_are_thinned_out_each_for_itself() -> None:
    rng = np.random.default_rng(4)
    corners = rng.integers(0, 8, (3, 40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 5, (3, 40, 2))], -1)
    scores = rng.integers(0, 16, (3, 9, 40)) / 16
    scores[1, 4] = 0  # of these no box is a candidate
    for limit in (1, 4, 40):
        thresholds = [np.array([limit]), scalar(0.5), scalar(0.4)]
        inputs = [boxes.astype(np.float32), scores.astype(np.float32), *thresholds]
        wanted = np.array(greedy(boxes, scores, limit, 0.4))
        check_node("NonMaxSuppression", inputs, {}, expected=[wanted])


def test_boxes_whose_score_is_no_number_come_last() -> None:
    boxes = np.array([[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]], np.float32)
    scores = np.array([[[np.nan, -np.inf, 2]]], np.float32)
    inputs = [boxes, scores, np.array([9]), scalar(0.5)]
    wanted = np.array([[0, 0, 2], [0, 0, 1], [0, 0, 0]])
    check_node("NonMaxSuppression", inputs, {}, expected=[wanted])
    wanted = np.array([[0, 0, 2]])
    check_node("NonMaxSuppression", [*inputs, scalar(-np.inf)], {}, expected=[wanted])


def test_without_a_limit_nothing_is_selected() -> None:
    inputs = [np.ones((1, 2, 4), np.float32), np.ones((1, 1, 2), np.float32)]
    check_node("NonMaxSuppression", inputs, {}, expected=[np.zeros((0, 3), np.int64)])


def test_of_no_boxes_nothing_is_selected() -> None:
    boxes, scores = np.zeros((2, 0, 4), np.float32), np.zeros((2, 3, 0), np.float32)
    limit, overlap = np.array([9], np.int64), np.array([2], np.float32)
    nothing = [np.zeros((0, 3), np.int64)]
    check_node("NonMaxSuppression", [boxes, scores, limit], {}, expected=nothing)
    with pytest.raises(Fail, match="iou_threshold must be in"):
        run_op("NonMaxSuppression", [boxes, scores, None, overlap])


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = np.zeros((1, 2, 4), np.float32)
    inputs = [boxes, np.ones((1, 1, 2), np.float32), np.array(9), scalar(0.0)]
    wanted = np.array([[0, 0, 0], [0, 0, 1]])
    check_node("NonMaxSuppression", inputs, {}, expected=[wanted])


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_boxes_that_lie_apart_are_selected_as_others_are(limit: int, overlap: float) -> None:
    rng = np.random.default_rng(limit)
    for spread in (0, 7, 40):  # of clusters: all meet, some touch, all lie apart
        corner = rng.integers(0, 9, (2, 30, 2)) + spread * rng.integers(0, 4, (2, 30, 1))
        sides = rng.integers(0, 5, (2, 30, 2))
        boxes = np.concatenate([corner, corner + sides], axis=2).astype(np.float32)
        scores = rng.integers(0, 30, (2, 2, 30)).astype(np.float32)
        inputs = [boxes, scores, np.array([limit]), scalar(overlap)]
        wanted = np.reshape(greedy(boxes, scores, limit, -1, overlap), (-1, 3))
        np.testing.assert_array_equal(run_op("NonMaxSuppression", inputs)[0], wanted)


def test_boxes_with_nan_meet_nothing_and_hide_nothing() -> None:
    near: list[list[float]] = [[0, 0, 4, 4], [np.nan, 0, 4, 4], [0, 1, 4, 4], [8, 0, 9, 9]]
    boxes = np.array([near + [[x + 20 for x in box] for box in near]], np.float32)
    scores = np.arange(8, 0, -1, dtype=np.float32).reshape(1, 1, 8)
    inputs = [boxes, scores, np.array([8]), scalar(0.5)]
    [found] = run_op("NonMaxSuppression", inputs)
    np.testing.assert_array_equal(found[:, 2], [0, 1, 3, 4, 5, 7])


def test_non_max_suppression_infers_rows_of_three() -> None:
    [fact] = infer_op("NonMaxSuppression", [unranked(FLOAT32), unranked(FLOAT32)])
    assert fact.dtype is INT64
    assert fact.shape[1] == 3
    assert "depends on data" in str(fact.shape[0].unknowns)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ((1, 2, 5), (1, 1, 2), r"boxes must be \[N, B, 4\], found boxes\[1, 2, 5\]"),
        ((1, 2, 4), (1, 1, 3), r"scores must be \[N, classes, B\] for boxes\[1, 2, 4\], found"),
        ((1, 2, 4), (2, 1, 2), r"scores must be \[N, classes, B\]"),
    ],
)
def test_non_max_suppression_says_what_is_wrong(boxes: Any, scores: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_op("NonMaxSuppression", [np.zeros(boxes, np.float32), np.zeros(scores, np.float32)])


def test_the_thresholds_are_scalars_in_their_range() -> None:
    inputs = [np.ones((1, 2, 4), np.float32), np.ones((1, 1, 2), np.float32), np.array([1])]
    with pytest.raises(Fail, match=r"iou_threshold must be in \[0, 1\], got 1.5"):
        run_op("NonMaxSuppression", [*inputs, scalar(1.5)])
    with pytest.raises(ShapeError, match="score_threshold must have one element, found shape"):
        run_op("NonMaxSuppression", [*inputs, scalar(0.5), np.zeros(2, np.float32)])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_roi_align_is_lowered(mode: str, transformation: str, dtype: Any) -> None:
    stream = np.random.default_rng(0)
    x = stream.standard_normal((2, 3, 6, 7)).astype(dtype)
    rois = np.array([[0, 0, 3, 4], [1.5, 2, 6.5, 3], [-3, -2, 9, 8], [4, 4, 3, 2]], dtype)
    attributes = {
        "mode": mode, "coordinate_transformation_mode": transformation, "output_height": 2,
        "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.75,
    }  # fmt: skip
    check_lowering("RoiAlign", [x, rois, np.array([0, 1, 1, 0])], attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (1, 33, 1, 5), (1, 2, 0, 3)])
def test_samples_by_the_size_of_a_region_are_lowered(
    shape: tuple[int, ...], mode: str, transformation: str, dtype: Any
) -> None:
    stream = np.random.default_rng(1)
    x = stream.standard_normal(shape).astype(dtype)
    rois = stream.uniform(-6, 14, (4, 4)).astype(dtype)  # some are the wrong way round
    rois[:2] = [[0, 0, 3, 4], [5, 5, 5, 5]]
    attributes = {
        "mode": mode, "coordinate_transformation_mode": transformation, "output_height": 2,
        "output_width": 3, "sampling_ratio": 0, "spatial_scale": 0.75,
    }  # fmt: skip
    check_lowering("RoiAlign", [x, rois, np.arange(4) % shape[0]], attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_nan_in_an_image_reaches_the_bins_that_read_it(mode: str) -> None:
    x = np.random.default_rng(2).standard_normal((1, 2, 8, 8)).astype(np.float32)
    x[0, 0, 2, 3] = np.nan
    rois = np.array([[0, 0, 7, 7], [4, 4, 7, 7]], np.float32)
    attributes = {"mode": mode, "output_height": 3, "output_width": 3}
    check_lowering("RoiAlign", [x, rois, np.zeros(2, np.int64)], attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
def test_elements_without_weight_count_as_nothing(sampling_ratio: int, mode: str) -> None:
    x = np.ones((1, 1, 5, 5), np.float32)
    x[0, 0, 0], x[0, 0, :, 3], x[0, 0, 4] = np.inf, np.nan, -np.inf
    rois = np.array([[1, 1, 3, 3], [-20, -20, -9, -9], [30, 30, 40, 40]], np.float32)
    attributes = {"mode": mode, "output_height": 2, "output_width": 2}
    attributes["sampling_ratio"] = sampling_ratio
    inputs = [x, rois, np.zeros(3, np.int64)]
    check_lowering("RoiAlign", inputs, attributes, opset=10)
    (y,) = run_op("RoiAlign", inputs, attributes, opset=10)
    assert not y[1:].any(), "regions beyond the image read nothing of it"


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 1])
def test_the_element_behind_a_sample_on_an_element_is_not_read(
    sampling_ratio: int, mode: str
) -> None:
    x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    x[0, 0, 2:, :], x[0, 0, :, 2:] = np.inf, np.nan
    rois = np.array([[0.5, 0.5, 1.5, 1.5]], np.float32)  # of one bin, sampled at [1, 1]
    attributes = {"mode": mode, "sampling_ratio": sampling_ratio}
    (y,) = run_op("RoiAlign", [x, rois, np.zeros(1, np.int64)], attributes, opset=10)
    assert y.item() == 6
    check_lowering("RoiAlign", [x, rois, np.zeros(1, np.int64)], attributes, opset=10)
