"""Regions of images: RoiAlign pools them, NonMaxSuppression thins them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.dtype import INT64
from fornix.errors import Fail, require
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import (
    Scalar,
    Tensor,
    apply,
    cast,
    compute,
    gathered,
    index,
    select,
    stored,
)
from fornix.ops.adapt import check_attribute
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text, single, unified
from fornix.ops.op import op
from fornix.ops.precision import cast_tensor, wide_dtype, widened
from fornix.ops.region_loops import pooled_samples
from fornix.ops.types import BF16, FLOAT, I64

RoiAlign = (
    op("""RoiAlign <mode: string = "avg", output_height: int = 1, output_width: int = 1,
                    sampling_ratio: int = 0, spatial_scale: float = 1.0>
                   (X: T1, rois: T1, batch_indices: T2) => (Y: T1)""", since=10, T1=FLOAT, T2=I64)
    .since(16, """RoiAlign <coordinate_transformation_mode: string = "half_pixel",
                            mode: string = "avg", output_height: int = 1, output_width: int = 1,
                            sampling_ratio: int = 0, spatial_scale: float = 1.0>
                           (X: T1, rois: T1, batch_indices: T2) => (Y: T1)""")
    .since(22, T1=+BF16)
)  # fmt: skip


@RoiAlign.adapt(10, 16)
def roi_align_10_to_16(node: Node, _: Graph) -> None:
    """Before opset 16, nothing is shifted by half a pixel."""
    node.set_attribute("coordinate_transformation_mode", "output_half_pixel")


@RoiAlign.adapt(16, 10)
def roi_align_16_to_10(node: Node, _: Graph) -> None:
    name = "coordinate_transformation_mode"
    check_attribute(node, name, ["output_half_pixel"], 16, default="half_pixel")
    node.remove_attribute(name)


ROI_TRANSFORMATIONS = ("half_pixel", "output_half_pixel")


@RoiAlign.infer
def infer_roi_align(
    X: Fact,
    rois: Fact,
    batch_indices: Fact,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    coordinate_transformation_mode: str = "output_half_pixel",
    node: InferNode,
) -> Fact:
    counts = [fact.shape[0] for fact in (rois, batch_indices) if fact.has_rank and fact.rank]
    count = unified(counts) if counts else node.unknown("the number of regions")
    _check_output(output_height, output_width)
    if X.has_rank:
        require(X.rank == 4, f"X must be [N, C, H, W], found X{shape_text(X.shape)}")
    if X.has_rank and rois.has_rank and batch_indices.has_rank:
        _check_rois(X.shape, rois.shape, batch_indices.shape)
    channels = X.shape[1] if X.has_rank else None
    return tensor(X.dtype, (count, channels, output_height, output_width))


def _check_output(height: int, width: int) -> None:
    require(
        height >= 0 and width >= 0,
        f"output_height and output_width must not be negative, got {height} and {width}",
    )


def _check_rois(
    x: Sequence[DimLike], rois: Sequence[DimLike], batch_indices: Sequence[DimLike]
) -> None:
    require(len(x) == 4, f"X must be [N, C, H, W], found X{shape_text(x)}")
    require(
        len(rois) == 2 and known(rois[1]) in {None, 4},
        f"rois must be [R, 4], found rois{shape_text(rois)}",
    )
    require(
        len(batch_indices) == 1 and unified((rois[0], batch_indices[0])) is not None,
        f"batch_indices must have one element per region of rois{shape_text(rois)}, "
        f"found batch_indices{shape_text(batch_indices)}",
    )


@RoiAlign.kernel
def roi_align(
    X: Array,
    rois: Array,
    batch_indices: Array,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    coordinate_transformation_mode: str = "output_half_pixel",
) -> Array:
    """Pool each region of ``rois`` to one size, reading between elements.

    x[N, C, H, W] · rois[R, 4] · batch_indices[R] → y[R, C, output_height, output_width]. A region
    (x1, y1, x2, y2) · spatial_scale, half an element less in mode half_pixel, is divided into bins;
    each is the mean (avg) of sampling_ratio² evenly spaced bilinear samples, or of as many as keep
    them at most one element apart if that is 0. Samples more than one element outside are 0.
    Elements without weight count as 0, whatever they are.
    mode max takes the greatest of the weighted corners of all samples, not of the samples.
    RoiAlign-10 and output_half_pixel make regions at least one element wide.
    Source: ONNX RoiAlign-22; K. He et al., Mask R-CNN, 2017, ¶ 3.
    """
    _check_rois(X.shape, rois.shape, batch_indices.shape)
    _check_modes(mode, coordinate_transformation_mode)
    _check_output(output_height, output_width)
    is_inside = (batch_indices >= 0) & (batch_indices < len(X))
    require(
        np.all(is_inside),
        f"batch_indices must be in [0, {len(X) - 1}], got {batch_indices[~is_inside][:1].tolist()}",
        Fail,
    )
    x, boxes = widened(X), widened(rois)
    is_half = coordinate_transformation_mode == "half_pixel"
    corners = boxes * boxes.dtype.type(spatial_scale) - boxes.dtype.type(is_half / 2)
    y = np.zeros((len(rois), X.shape[1], output_height, output_width), x.dtype)
    for number, (left, top, right, bottom) in enumerate(corners):
        spans = [bottom - top, right - left]
        if not is_half:
            spans = [max(span, span.dtype.type(1)) for span in spans]
        if not y.size or 0 in X.shape[2:]:
            break  # every sample lies outside
        rows = Samples.of(top, spans[0], output_height, sampling_ratio, X.shape[2])
        columns = Samples.of(left, spans[1], output_width, sampling_ratio, X.shape[3])
        if rows.count and columns.count:
            y[number] = _pool(x[batch_indices[number]], rows, columns, mode)
    return np.asarray(y.astype(X.dtype, copy=False))


@RoiAlign.lower
def lower_roi_align(
    X: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    coordinate_transformation_mode: str = "output_half_pixel",
) -> Tensor:
    _check_rois(X.shape, rois.shape, batch_indices.shape)
    _check_modes(mode, coordinate_transformation_mode)
    is_half, wide = coordinate_transformation_mode == "half_pixel", wide_dtype(X.dtype)
    bins = (output_height, output_width)

    def bin_of(r: DimLike, axis: int) -> tuple[Scalar, Scalar]:
        start, stop = (
            cast(rois[r, side], wide) * spatial_scale - is_half / 2 for side in (1 - axis, 3 - axis)
        )
        span = stop - start if is_half else apply("max", stop - start, 1)
        return start, span / bins[axis]

    return _lower_samples(X, batch_indices, bin_of, bins, sampling_ratio, is_mean=mode == "avg")


def _lower_samples(
    x: Tensor,
    batch_indices: Tensor,
    bin_of: Callable[[DimLike, int], tuple[Scalar, Scalar]],
    bins: tuple[int, int],
    ratio: int,
    *,
    is_mean: bool,
) -> Tensor:
    """Bins of ``ratio``² samples, or of as many as keep them at most one element apart."""
    wide, regions = wide_dtype(x.dtype), batch_indices.shape[0]

    def is_near(r: DimLike) -> Scalar:
        sizes = [bin_of(r, axis)[1] for axis in range(2)]
        near = [(size <= MAX_BIN) & (size >= -MAX_BIN) for size in sizes]
        return near[0] & near[1]

    def count(r: DimLike, axis: int) -> Scalar:
        if ratio > 0:
            return index(ratio)
        size = select(is_near(r), bin_of(r, axis)[1], 0)
        return apply("max", cast(apply("ceil", size), INT64), 0)

    def image(r: DimLike) -> Scalar:
        number = batch_indices[r]
        if ratio <= 0:
            number = select(is_near(r), number, -1)  # of others kernels say what is wrong
        return index(gathered(number, x.shape[0]))

    def by_axis(function: Callable[[DimLike, int], Scalar]) -> Tensor:
        def at(r: DimLike, axis: DimLike) -> Scalar:
            return select(index(axis) < 1, function(r, 0), function(r, 1))

        return stored(compute((regions, 2), at))

    starts = by_axis(lambda r, axis: bin_of(r, axis)[0])
    sizes = by_axis(lambda r, axis: bin_of(r, axis)[1])
    counts = by_axis(count)
    given = stored(cast_tensor(x, wide))
    images = stored(compute((regions,), image))
    sums = pooled_samples(given, images, (starts, sizes, counts), bins, is_sum=is_mean)

    def at(r: DimLike, *place: DimLike) -> Scalar:
        samples = apply("max", counts[r, 0] * counts[r, 1], 1)
        return sums[(r, *place)] / cast(samples, wide) if is_mean else sums[(r, *place)]

    return cast_tensor(compute(sums.shape, at), x.dtype)


def _check_modes(mode: str, transformation: str) -> None:
    require(mode in {"avg", "max"}, f"mode must be avg or max, got {mode!r}")
    require(
        transformation in ROI_TRANSFORMATIONS,
        f"coordinate_transformation_mode must be among {', '.join(ROI_TRANSFORMATIONS)}, "
        f"got {transformation!r}",
    )


MAX_BIN = 1 << 16
"""The longest bin that is read element by element."""


@dataclass(frozen=True)
class Samples:
    """Where the bins along one axis are read: ``count`` samples each, between two elements."""

    count: int
    low: Array
    high: Array
    low_weight: Array
    high_weight: Array

    @classmethod
    def of(cls, start: Any, span: Any, bins: int, ratio: int, length: int) -> Samples:
        """The samples of ``bins`` equal parts of [start, start + span]."""
        size = span / bins
        require(
            ratio > 0 or size <= MAX_BIN,
            f"without sampling_ratio a bin is at most {MAX_BIN} elements long, got {size}",
            Fail,
        )
        count = ratio if ratio > 0 else max(int(np.ceil(size)), 0)
        inner = (np.arange(count, dtype=size.dtype) + size.dtype.type(0.5)) * size / max(count, 1)
        at = (start + np.arange(bins, dtype=size.dtype)[:, None] * size + inner).reshape(-1)
        is_inside = (at >= -1) & (at <= length)
        at = np.clip(np.nan_to_num(at), 0, max(length - 1, 0))
        low = np.floor(at)
        part = at - low
        return cls(
            count,
            low.astype(np.intp),
            np.minimum(low + 1, max(length - 1, 0)).astype(np.intp),
            np.where(is_inside, 1 - part, 0),
            np.where(is_inside, part, 0),
        )

    @property
    def sides(self) -> tuple[tuple[Array, Array], ...]:
        """Index and weight of the element on either side."""
        return (self.low, self.low_weight), (self.high, self.high_weight)


def _pool(image: Array, rows: Samples, columns: Samples, mode: str) -> Array:
    """The bins of one region: image[C, H, W] → [C, bins, bins]."""
    shape = (
        len(image),
        len(rows.low) // rows.count,
        rows.count,
        len(columns.low) // columns.count,
        columns.count,
    )
    corners = [
        _weighted(image[:, i[:, None], j], u[:, None] * v)
        for i, u in rows.sides
        for j, v in columns.sides
    ]
    if mode == "avg":
        return np.asarray(
            np.add.reduce(corners).reshape(shape).mean(axis=(2, 4), dtype=image.dtype)
        )
    return np.asarray(np.maximum.reduce(corners).reshape(shape).max(axis=(2, 4)))


def _weighted(values: Array, weights: Array) -> Array:
    """``values · weights``; without weight nothing is read: 0 · ∞ would be NaN."""
    return np.multiply(values, weights, out=np.zeros_like(values), where=weights != 0)


NonMaxSuppression = (
    op("""NonMaxSuppression <center_point_box: int = 0>
              (boxes: tensor(float), scores: tensor(float),
               max_output_boxes_per_class: tensor(int64)?, iou_threshold: tensor(float)?,
               score_threshold: tensor(float)?)
           => (selected_indices: tensor(int64))""", since=10)
    .since(11)
    .opaque("how many boxes are selected depends on data")
)  # fmt: skip


@NonMaxSuppression.infer
def infer_non_max_suppression(
    boxes: Fact,
    scores: Fact,
    max_output_boxes_per_class: Fact | None = None,
    iou_threshold: Fact | None = None,
    score_threshold: Fact | None = None,
    *,
    center_point_box: int = 0,
    node: InferNode,
) -> Fact:
    if boxes.has_rank and scores.has_rank:
        check_boxes(boxes.shape, scores.shape)
    return tensor(INT64, (node.unknown("how many boxes are selected depends on data"), 3))


def check_boxes(boxes: Sequence[DimLike], scores: Sequence[DimLike]) -> None:
    require(
        len(boxes) == 3 and known(boxes[2]) in {None, 4},
        f"boxes must be [N, B, 4], found boxes{shape_text(boxes)}",
    )
    require(
        len(scores) == 3
        and unified((boxes[0], scores[0])) is not None
        and unified((boxes[1], scores[2])) is not None,
        f"scores must be [N, classes, B] for boxes{shape_text(boxes)}, "
        f"found scores{shape_text(scores)}",
    )


@NonMaxSuppression.kernel
def non_max_suppression(
    boxes: Array,
    scores: Array,
    max_output_boxes_per_class: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
    *,
    center_point_box: int = 0,
) -> Array:
    """Select boxes by score, dropping those that overlap a selected one too much.

    boxes[N, B, 4] · scores[N, classes, B] → selected_indices[K, 3], rows (batch, class, box), the
    best score first within a class, the lower index first among equals. A box needs a score above
    score_threshold, and with every selected box an intersection over union of at most
    iou_threshold (0 if absent). A class yields at most max_output_boxes_per_class, 0 if absent.
    Boxes are two opposite corners (y1, x1, y2, x2), with center_point_box=1 center and size
    (x, y, width, height). Source: ONNX NonMaxSuppression-11.
    """
    check_boxes(boxes.shape, scores.shape)
    limit = int(_scalar(max_output_boxes_per_class, "max_output_boxes_per_class", 0))
    overlap = _scalar(iou_threshold, "iou_threshold", np.float32(0))
    require(0 <= overlap <= 1, f"iou_threshold must be in [0, 1], got {overlap}", Fail)
    floor = None
    if score_threshold is not None:
        floor = _scalar(score_threshold, "score_threshold", None)
    if limit < 1 or not scores.size:
        return np.empty((0, 3), np.int64)
    candidates = _candidates(boxes, scores, floor, is_centered=bool(center_point_box))
    return _suppressed(candidates, limit, overlap)


def _scalar(x: Array | None, name: str, absent: Any) -> Any:
    return absent if x is None else single(x, name)


def _corners(boxes: Array, *, is_centered: bool) -> Array:
    """Boxes as [4, B]: the lower and the upper end along both axes."""
    if is_centered:
        x, y, width, height = boxes.T
        half = np.float32(0.5)
        return np.stack([
            x - width * half, y - height * half, x + width * half, y + height * half
        ])  # fmt: skip
    one, other = boxes.T[:2], boxes.T[2:]
    return np.concatenate([np.minimum(one, other), np.maximum(one, other)])


@dataclass(frozen=True)
class Candidates:
    """Boxes that may be selected: those of a class together, the best first."""

    rows: Array
    """[K, 3]: batch, class, box."""
    group: Array
    """[K]: a number for batch and class together."""
    corners: Array
    """[4, K]: the lower and the upper end along both axes."""


def _candidates(boxes: Array, scores: Array, floor: Any | None, *, is_centered: bool) -> Candidates:
    """The boxes with a score above ``floor``; all, those whose score is NaN last, if it is None."""
    flat = scores.reshape(-1)
    found = np.arange(flat.size) if floor is None else np.flatnonzero(flat > floor)
    group = found // max(scores.shape[2], 1)
    order = np.lexsort((-flat[found], group))
    batch, number, box = np.unravel_index(found[order], scores.shape)
    corners = _corners(boxes[batch, box], is_centered=is_centered)
    return Candidates(np.stack([batch, number, box], axis=1), group[order], corners)


def _suppressed(candidates: Candidates, limit: int, overlap: Any) -> Array:
    """Rows of the boxes to keep, of every class at most ``limit``.

    Each round keeps the best one left of every part of a class and drops what overlaps it. Parts
    lie apart along an axis, as images do that are joined by moving the boxes of each.
    """
    group, corners = candidates.group, candidates.corners
    for low, high in zip(corners[:2], corners[2:], strict=True):
        group = _apart(group, low, high)
    left = np.argsort(group, kind="stable")
    boxes = np.concatenate([corners, _area(corners)[np.newaxis]])[:, left]
    group, kept = group[left], [left[:0]]
    while len(left) and len(kept) <= limit:
        is_best = np.ones(len(left), np.bool_)
        np.not_equal(group[1:], group[:-1], out=is_best[1:])
        kept.append(left[is_best])
        rivals = boxes[:, is_best]
        if rivals.shape[1] > 1:
            rivals = rivals[:, np.cumsum(is_best) - 1]
        stay = np.flatnonzero(~(is_best | (_overlap(rivals, boxes) > overlap)))
        left, group, boxes = left[stay], group[stay], boxes[:, stay]
    order = np.sort(np.concatenate(kept))
    of_class = candidates.group[order]
    place = np.arange(len(order)) - np.searchsorted(of_class, of_class)
    return candidates.rows[order[place < limit]].astype(np.int64)


def _apart(group: Array, low: Array, high: Array) -> Array:
    """Numbers for parts of each group: no interval of one part meets one of another.

    Groups are numbered in their order, and so are parts. Intervals with a NaN keep parts together.
    """
    count = len(group)
    order = np.lexsort((low, group))
    by_end = np.argsort(high)
    rank = np.empty(count, np.int64)
    rank[by_end] = np.arange(count)
    # A running maximum begins anew with each group, whose numbers are above those before.
    reach = np.maximum.accumulate(group[order] * count + rank[order])
    is_first = np.ones(count, np.bool_)
    np.not_equal(group[order][1:], group[order][:-1], out=is_first[1:])
    is_first[1:] |= low[order][1:] >= high[by_end[reach[:-1] % max(count, 1)]]
    parts = np.empty(count, np.int64)
    parts[order] = np.cumsum(is_first)
    return parts


def _overlap(one: Array, others: Array) -> Array:
    """Intersection over union, pair by pair or with one for all; 0 for boxes without area.

    Boxes are [5, K]: their corners, and their areas.
    """
    low, high = np.maximum(one[:2], others[:2]), np.minimum(one[2:4], others[2:4])
    height, width = np.maximum(high - low, 0)
    shared, area, other_area = height * width, one[4], others[4]
    is_proper = (shared > 0) & (area > 0) & (other_area > 0)
    return np.where(is_proper, shared / (area + other_area - shared), 0)


def _area(boxes: Array) -> Array:
    height, width = boxes[2:] - boxes[:2]
    return np.asarray(height * width)
