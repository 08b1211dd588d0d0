"""Resize and Upsample: how each version names its way to the extents of the result.

How long axes become is `resize_axes.py`'s matter, and how elements are weighted `interpolate.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from fornix.errors import ConvertError, require
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node
from fornix.ir.loops import Tensor
from fornix.ops.adapt import constant_input, put_ahead, stored, taken_input
from fornix.ops.call import InferNode, LowerNode
from fornix.ops.fact import Array, Fact, axes_listed, dims_of, tensor
from fornix.ops.geometry import listed, normalize_axes
from fornix.ops.interpolate import Axis, Sampling, resample_all
from fornix.ops.interpolate_loops import OpenAxis, lower_resample_all
from fornix.ops.op import op
from fornix.ops.resize_axes import (
    check_count,
    check_enlarging,
    regions_in_run,
    scaled,
    scaled_axes,
    scaled_in_run,
    sized,
    sized_axes,
    sized_in_run,
    with_regions,
)
from fornix.ops.types import BF16, BOOL, COMPLEX, FLOAT, I8, I16, I32, I64, STRING, TENSOR, UINT

Resize = (
    op("""Resize <mode: string = "nearest"> (X: T, scales: tensor(float)) => (Y: T)""",
       since=10, T=TENSOR)
    .since(11, """Resize <coordinate_transformation_mode: string = "half_pixel",
                          cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
                          extrapolation_value: float = 0.0, mode: string = "nearest",
                          nearest_mode: string = "round_prefer_floor">
                         (X: T1, roi: T2, scales: tensor(float), sizes: tensor(int64)?)
                      => (Y: T1)""", T1=TENSOR, T2=FLOAT)
    .since(13, """Resize <coordinate_transformation_mode: string = "half_pixel",
                          cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
                          extrapolation_value: float = 0.0, mode: string = "nearest",
                          nearest_mode: string = "round_prefer_floor">
                         (X: T1, roi: T2?, scales: tensor(float)?, sizes: tensor(int64)?)
                      => (Y: T1)""", T1=+BF16)
    .since(18, """Resize <antialias: int = 0, axes: ints?,
                          coordinate_transformation_mode: string = "half_pixel",
                          cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
                          extrapolation_value: float = 0.0,
                          keep_aspect_ratio_policy: string = "stretch",
                          mode: string = "nearest", nearest_mode: string = "round_prefer_floor">
                         (X: T1, roi: T2?, scales: tensor(float)?, sizes: tensor(int64)?)
                      => (Y: T1)""")
    .since(19)
)  # fmt: skip


class ReadingAttributes(TypedDict, total=False):
    """Attributes of Resize that say how elements are read."""

    mode: str
    nearest_mode: str
    coordinate_transformation_mode: str
    cubic_coeff_a: float
    exclude_outside: int
    extrapolation_value: float
    antialias: int


@Resize.infer
def infer_resize_10(X: Fact, scales: Fact, *, mode: str = "nearest") -> Fact:
    return _infer_scaled(X, scales)


@Resize.infer(since=11)
def infer_resize(
    X: Fact,
    roi: Fact | None = None,
    scales: Fact | None = None,
    sizes: Fact | None = None,
    *,
    axes: list[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    node: InferNode,
    **reading: Unpack[ReadingAttributes],
) -> Fact:
    if axes is None and not X.has_rank:
        X = _with_rank_of(X, scales, sizes, node)
    numbers = axes_of(X.rank, axes)
    sizes, scales = (None if _is_empty(fact, numbers) else fact for fact in (sizes, scales))
    if _is_filled(sizes) and not _is_filled(scales):
        scales = None
    shape = list(X.shape)
    if sizes is not None and scales is None:
        extents = sized(X.shape, numbers, dims_of(sizes.value), keep_aspect_ratio_policy)
    elif scales is not None and sizes is None:
        return _infer_scaled(X, scales, numbers)
    else:
        extents = [None] * len(numbers)
    for number, extent in zip(numbers, extents, strict=True):
        shape[number] = node.unknown("its extent is computed") if extent is None else extent
    return tensor(X.dtype, shape)


def _with_rank_of(X: Fact, scales: Fact | None, sizes: Fact | None, node: InferNode) -> Fact:
    """``X`` with as many unknown extents as ``scales`` or ``sizes`` has elements."""
    for fact in (scales, sizes):
        rank = None if fact is None else axes_listed(fact)
        if rank:
            return tensor(X.dtype, [node.unknown("X has no known extents") for _ in range(rank)])
    return X


def _is_empty(fact: Fact | None, numbers: Sequence[int]) -> bool:
    """Whether ``fact`` stands for an input left out: Resize-11 writes it as an empty tensor."""
    return fact is not None and len(numbers) > 0 and fact.has_rank and fact.shape == (0,)


def _is_filled(fact: Fact | None) -> bool:
    """Whether ``fact`` certainly has elements, and the other one of scales and sizes has none."""
    if fact is None or not fact.has_rank or fact.rank != 1:
        return False
    return fact.shape[0] != 0 and known(fact.shape[0]) is not None


def axes_of(rank: int, axes: list[int] | None) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else normalize_axes(axes, rank)


def _infer_scaled(X: Fact, scales: Fact, numbers: Sequence[int] | None = None) -> Fact:
    numbers = range(X.rank) if numbers is None else numbers
    values = scales.constant
    factors: list[Any] | None = values.reshape(-1).tolist() if values is not None else None
    if factors is None and scales.value is not None:
        factors = list(scales.value.reshape(-1))
    shape: list[DimLike | None] = list(X.shape)
    if factors is not None:
        check_count("scales", len(factors), numbers)
    for place, number in enumerate(numbers):
        factor = None if factors is None else factors[place]
        shape[number] = None if factor is None else scaled(X.shape[number], factor)
    return tensor(X.dtype, shape)


@Resize.kernel
def resize_10(X: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Resize by ``scales``: y[i] reads x at i / scale.

    x[*S] → y[⌊S · scales⌋]. mode nearest rounds positions up along axes that shrink, down along
    axes that grow; linear interpolates along every axis. Source: ONNX Resize-10.
    """
    return _scaled_by(X, scales, mode, "outward")


def _scaled_by(X: Array, scales: Sequence[float] | Array, mode: str, nearest_mode: str) -> Array:
    factors = np.asarray(scales, np.float32)
    reading = Sampling(mode, "asymmetric", nearest_mode)
    return resample_all(X, scaled_axes(X.shape, range(X.ndim), factors), reading)


@Resize.kernel(since=11)
def resize(
    X: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    axes: list[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    **reading: Unpack[ReadingAttributes],
) -> Array:
    """Resize by interpolation, to ``sizes`` or by ``scales``, along ``axes`` or all of them.

    x[*S] → y[sizes] or y[⌊S · scales⌋]. Element i of the result lies at a position of the source:

    * half_pixel              (i + ½) / scale − ½
    * pytorch_half_pixel      the same; 0 where the result has one element
    * half_pixel_symmetric    the same, shifted so that both centers meet if ⌊S · scale⌋ rounded
    * asymmetric              i / scale
    * tf_half_pixel_for_nn    (i + ½) / scale, or i where the scale is 1; before opset 13
    * align_corners           i · (S − 1) / (S · scale − 1)
    * tf_crop_and_resize      evenly from roi's start to its end, both relative to S − 1;
                              extrapolation_value where that lies outside the source

    nearest takes the element that nearest_mode chooses, linear weighs 2 elements per axis, cubic 4
    with coefficient cubic_coeff_a. The border continues outside unless exclude_outside is set.
    antialias widens the weights by 1/scale along axes that shrink. keep_aspect_ratio_policy
    resizes all axes by one scale, the least (not_larger) or greatest (not_smaller) of sizes / S.
    Source: ONNX Resize-19.
    """
    numbers = axes_of(X.ndim, axes)
    if numbers:
        sizes, scales = (None if x is not None and x.size == 0 else x for x in (sizes, scales))
    require(
        (sizes is None) != (scales is None),
        f"either scales or sizes is required, found {'neither' if sizes is None else 'both'}",
    )
    if scales is not None:
        mapped = scaled_axes(X.shape, numbers, scales)
    else:
        mapped = sized_axes(X.shape, numbers, _integers(sizes), keep_aspect_ratio_policy)
    sampling = sampling_of(**reading)
    if sampling.transformation == "tf_crop_and_resize":
        mapped = with_regions(mapped, roi)
    return resample_all(X, mapped, sampling)


@Resize.lower
def lower_resize_10(X: Tensor, scales: Tensor, *, mode: str = "nearest", node: LowerNode) -> Tensor:
    return lower_scaled(X, node.constant(1), Sampling(mode, "asymmetric", "outward"), node)


@Resize.lower(since=11)
def lower_resize(
    X: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    axes: list[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    node: LowerNode,
    **reading: Unpack[ReadingAttributes],
) -> Tensor:
    numbers = axes_of(X.rank, axes)
    if scales is not None and (not numbers or scales.shape != (0,)):
        mapped = scaled_in_run(X, numbers, node.constant(2), node.shape())
    else:
        mapped = sized_in_run(X, numbers, node.required(3), keep_aspect_ratio_policy)
    return lower_resized(X, roi, mapped, sampling_of(**reading), node)


def lower_resized(
    X: Tensor,
    roi: Tensor | None,
    axes: dict[int, Axis | OpenAxis],
    sampling: Sampling,
    node: LowerNode,
) -> Tensor:
    """``X`` with ``axes`` resized, or the regions of them that ``roi`` says."""
    if sampling.transformation == "tf_crop_and_resize":
        axes = regions_in_run(axes, roi, node)
    return lower_resample_all(X, axes, sampling)


def lower_scaled(X: Tensor, scales: Array, reading: Sampling, node: LowerNode) -> Tensor:
    """``X`` with every axis resized by its scale."""
    return lower_resample_all(X, scaled_in_run(X, range(X.rank), scales, node.shape()), reading)


def _integers(sizes: Array | None) -> list[int]:
    return [] if sizes is None else listed(sizes, "sizes")


def sampling_of(
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
) -> Sampling:
    return Sampling(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        extrapolation_value,
        is_antialiased=bool(antialias),
        excludes_outside=bool(exclude_outside),
    )


Upsample = (
    op("""Upsample <height_scale: float, mode: string = "nearest", width_scale: float>
                   (X: T) => (Y: T)""", since=1, T=FLOAT | BOOL | I32 | I64)
    .since(7, """Upsample <mode: string = "nearest", scales: floats> (X: T) => (Y: T)""",
           T=+(UINT | COMPLEX | STRING | I8 | I16))
    .since(9, """Upsample <mode: string = "nearest"> (X: T, scales: tensor(float)) => (Y: T)""")
    .since(10, deprecated=True)
)  # fmt: skip

UPSAMPLE_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}
"""Upsample-1 says bilinear, which Upsample-7 calls linear."""


@Upsample.infer
def infer_upsample_1(
    X: Fact, *, height_scale: float, width_scale: float, mode: str = "nearest"
) -> Fact:
    scales = _spatial_scales(X.rank, height_scale, width_scale)
    return tensor(X.dtype, [scaled(n, s) for n, s in zip(X.shape, scales, strict=True)])


@Upsample.infer(since=7)
def infer_upsample_7(X: Fact, *, scales: list[float], mode: str = "nearest") -> Fact:
    check_count("scales", len(scales), range(X.rank))
    return tensor(X.dtype, [scaled(n, s) for n, s in zip(X.shape, scales, strict=True)])


@Upsample.infer(since=9)
def infer_upsample(X: Fact, scales: Fact, *, mode: str = "nearest") -> Fact:
    return _infer_scaled(X, scales)


@Upsample.kernel
def upsample_1(
    X: Array, *, height_scale: float, width_scale: float, mode: str = "nearest"
) -> Array:
    """Enlarge images: y[n, c, i, j] reads x at (i / height_scale, j / width_scale).

    x[N, C, H, W] → y[N, C, ⌊H · height_scale⌋, ⌊W · width_scale⌋]. Source: ONNX Upsample-1.
    """
    return upsample(X, _spatial_scales(X.ndim, height_scale, width_scale), mode=mode)


def _spatial_scales(rank: int, height_scale: float, width_scale: float) -> list[float]:
    require(rank == 4, f"X must have 4 axes, [N, C, H, W], found {rank}")
    return [1.0, 1.0, height_scale, width_scale]


@Upsample.kernel(since=7)
def upsample(X: Array, scales: list[float] | Array, *, mode: str = "nearest") -> Array:
    """Enlarge by ``scales``, each at least 1: y[i] reads x at i / scale.

    x[*S] → y[⌊S · scales⌋]. mode nearest rounds positions down, linear interpolates along every
    axis. Resize has replaced it. Source: ONNX Upsample-9.
    """
    factors = np.asarray(scales, np.float32)
    require(
        mode in UPSAMPLE_MODES,
        f"mode must be among {', '.join(UPSAMPLE_MODES)}, got {mode!r}",
    )
    check_enlarging(factors)
    return _scaled_by(X, factors, UPSAMPLE_MODES[mode], "floor")


@Upsample.lower
def lower_upsample_1(
    X: Tensor, *, height_scale: float, width_scale: float, mode: str = "nearest", node: LowerNode
) -> Tensor:
    scales = _spatial_scales(X.rank, height_scale, width_scale)
    return lower_upsample_7(X, scales=scales, mode=mode, node=node)


@Upsample.lower(since=7)
def lower_upsample_7(
    X: Tensor, *, scales: list[float], mode: str = "nearest", node: LowerNode
) -> Tensor:
    reading = Sampling(UPSAMPLE_MODES[mode], "asymmetric", "floor")
    return lower_scaled(X, np.array(scales, np.float32), reading, node)


@Upsample.lower(since=9)
def lower_upsample(X: Tensor, scales: Tensor, *, mode: str = "nearest", node: LowerNode) -> Tensor:
    return lower_upsample_7(X, scales=node.constant(1).tolist(), mode=mode, node=node)


@Upsample.adapt(1, 7)
def upsample_1_to_7(node: Node, _: Graph) -> None:
    scales = [node.attr("height_scale"), node.attr("width_scale")]
    node.remove_attribute("height_scale")
    node.remove_attribute("width_scale")
    node.set_attribute("scales", [1.0, 1.0, *scales])
    node.set_attribute("mode", UPSAMPLE_MODES[node.attr("mode", "nearest")])


@Upsample.adapt(7, 9)
def upsample_7_to_9(node: Node, graph: Graph) -> None:
    scales = np.array(node.attr("scales"), np.float32)
    node.remove_attribute("scales")
    node.set_input(1, stored(node, graph, scales))


@Upsample.adapt(9, 7)
def upsample_9_to_7(node: Node, graph: Graph) -> None:
    scales = taken_input(node, graph, 1, "opset 7 takes scales as an attribute")
    node.set_attribute("scales", [] if scales is None else scales.tolist())


@Upsample.adapt(9, 10)
def upsample_to_resize(node: Node, graph: Graph) -> None:
    """Scales computed at run time are at least 1, and say so in the way that `_rounding` sees."""
    if node.inputs[1] is not None and node.inputs[1].constant is None:
        put_ahead(node, graph, 1, "Max", stored(node, graph, np.ones(1, np.float32)))
    node.op_type = "Resize"


@Resize.adapt(10, 9)
def resize_to_upsample(node: Node, _: Graph) -> None:
    scales = constant_input(node, 1, "Upsample enlarges only, which its scales have to show")
    if scales is not None and (scales < 1).any():
        raise ConvertError(f"opset 9 has no operator that shrinks, found scales {scales.tolist()}")
    node.op_type = "Upsample"


@Resize.adapt(10, 11)
def resize_10_to_11(node: Node, graph: Graph) -> None:
    """Positions are rounded outward: down along axes that grow, up along axes that shrink."""
    node.set_attribute("coordinate_transformation_mode", "asymmetric")
    if node.attr("mode", "nearest") == "nearest":
        node.set_attribute("nearest_mode", _rounding(node, 1))
    scales = node.inputs[1]
    node.set_input(1, stored(node, graph, np.zeros(0, np.float32)))
    node.set_input(2, scales)


def _rounding(node: Node, place: int) -> str:
    """How Resize-10 rounds positions along all axes; ``place`` is the input that holds scales."""
    value = node.inputs[place]
    largest = value.producer if value is not None else None
    if largest is not None and largest.op_type == "Max":
        least = [x.constant.numpy() for x in largest.inputs if x is not None and x.constant]
        if any((x >= 1).all() for x in least):
            return "floor"
    scales = constant_input(node, place, "how opset 10 rounds positions depends on scales")
    if scales is None or (scales >= 1).all():
        return "floor"
    if (scales <= 1).all():
        return "ceil"
    raise ConvertError(
        f"opset 11 rounds positions along all axes alike, found scales {scales.tolist()}"
    )


@Resize.adapt(11, 10)
def resize_11_to_10(node: Node, graph: Graph) -> None:
    scales = node.inputs[2] if len(node.inputs) == SCALED_INPUTS else None
    if scales is None:
        raise ConvertError("opset 10 resizes by scales, not to sizes")
    found = [node.attr("coordinate_transformation_mode", "half_pixel")]
    wanted = ["asymmetric"]
    if node.attr("mode", "nearest") == "nearest":
        found.append(node.attr("nearest_mode", "round_prefer_floor"))
        wanted.append(_rounding(node, 2))
    if found != wanted:
        raise ConvertError(
            f"opset 10 resizes by {' and '.join(wanted)}, found {' and '.join(found)}"
        )
    node.set_input(1, scales)
    node.inputs = node.inputs[:2]
    node.remove_attribute("coordinate_transformation_mode")
    node.remove_attribute("nearest_mode")


@Resize.adapt(11, 13)
def resize_11_to_13(node: Node, _: Graph) -> None:
    if node.attr("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        raise ConvertError("opset 13 has no coordinate_transformation_mode tf_half_pixel_for_nn")


@Resize.adapt(19, 18)
def resize_19_to_18(node: Node, _: Graph) -> None:
    if node.attr("coordinate_transformation_mode") == "half_pixel_symmetric":
        raise ConvertError("opset 18 has no coordinate_transformation_mode half_pixel_symmetric")


SCALED_INPUTS = 3
"""Inputs of Resize-11 that is given scales: X, roi and scales; sizes would be the fourth."""
