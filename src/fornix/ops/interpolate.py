"""Interpolation along one axis: where each output element reads, and with which weights.

`Axis` says how an axis is mapped, `Sampling` how it is read between its elements; `resample` does
both along one axis of an array. Resizing is separable, so Resize and Upsample (`resize.py`) call
it once per axis. Shapes and the versions of the operators are their matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fornix.cast import convert
from fornix.dtype import BOOL, DType
from fornix.errors import DTypeError, require
from fornix.ops.fact import Array
from fornix.ops.precision import widened

MODES = ("nearest", "linear", "cubic")
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "outward")
"""How Resize rounds a position; "outward" is the way of Resize-10, see `round_position`."""

TRANSFORMATIONS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)

WHOLE = (0.0, 1.0)
"""The region that is the whole axis."""


@dataclass(frozen=True)
class Axis:
    """How one axis is resized."""

    length: int
    resized: int
    scale: float
    """Elements of the result per element of the source; `resized` is a rounding of it."""
    region: tuple[float, float] = WHOLE
    """The part of the axis that tf_crop_and_resize takes, relative to its length − 1."""


@dataclass(frozen=True)
class Sampling:
    """How elements are read at positions between them."""

    mode: str
    transformation: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    extrapolation_value: float = 0.0
    is_antialiased: bool = False
    excludes_outside: bool = False

    def check(self) -> None:
        """Raise ShapeError for a mode that does not exist or modes that exclude each other."""
        for name, value, allowed in (
            ("mode", self.mode, MODES),
            ("coordinate_transformation_mode", self.transformation, TRANSFORMATIONS),
            ("nearest_mode", self.nearest_mode, NEAREST_MODES),
        ):
            require(value in allowed, f"{name} must be among {', '.join(allowed)}, got {value!r}")
        require(
            not self.is_antialiased or self.mode != "nearest",
            "antialias=1 needs mode linear or cubic, got 'nearest'",
        )


def positions(axis: Axis, transformation: str, dtype: type[np.floating]) -> Array:
    """Where in the source each element of the result lies, computed in ``dtype``."""
    i: Array = np.arange(axis.resized, dtype=dtype)
    x: Array
    scale, half = dtype(axis.scale), dtype(0.5)
    match transformation:
        case "asymmetric":
            x = i / scale
        case "tf_half_pixel_for_nn":  # an axis that stays is not moved, as in onnxruntime
            x = i if axis.scale == 1 else (i + half) / scale
        case "align_corners":
            # The target length may be fractional: the standard's cases divide by it, not by
            # the integer that its text names.
            last = dtype(axis.scale * axis.length - 1)
            x = i * dtype(axis.length - 1) / last if last > 0 else np.zeros_like(i)
        case "tf_crop_and_resize":
            x = _cropped(axis, i, dtype)
        case "pytorch_half_pixel" if axis.resized <= 1:
            x = np.zeros_like(i)
        case _:
            x = (i + half) / scale - half
    if transformation == "half_pixel_symmetric" and axis.length:
        adjustment = axis.resized / (axis.scale * axis.length)
        x += dtype(axis.length / 2 * (1 - adjustment))
    return x


def _cropped(axis: Axis, i: Array, dtype: type[np.floating]) -> Array:
    """Positions that divide the region evenly, its ends included."""
    start, end = map(dtype, axis.region)
    last = dtype(axis.length - 1)
    if axis.resized <= 1:
        return np.full_like(i, dtype(0.5) * (start + end) * last)
    x: Array = start * last + i * (end - start) * last / dtype(axis.resized - 1)
    return x


def round_position(x: Array, nearest_mode: str, scale: float) -> Array:
    """The integer position that stands for each of ``x``.

    "outward" is what Resize-10 does: up where the axis shrinks, down where it grows.
    """
    floor: Array = np.floor(x)
    match nearest_mode:
        case "round_prefer_floor":
            return np.asarray(floor + (x - floor > 0.5))
        case "round_prefer_ceil":
            return np.asarray(floor + (x - floor >= 0.5))
        case "ceil":
            return np.asarray(np.ceil(x))
        case "outward" if scale < 1:
            return np.asarray(np.ceil(x))
        case _:
            return floor


def triangle(distance: Array) -> Array:
    """Weights of linear interpolation: 1 − |d|, not below 0."""
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def keys_cubic(distance: Array, a: float) -> Array:
    """Weights of cubic convolution: two cubics that meet smoothly at |d| = 1 and end at 2.

    (a+2)|d|³ − (a+3)|d|² + 1 for |d| ≤ 1;  a|d|³ − 5a|d|² + 8a|d| − 4a for |d| < 2.
    Source: R. Keys, Cubic convolution interpolation for digital image processing, 1981, eq. 4.
    """
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def support(scale: float, sampling: Sampling) -> tuple[float, int]:
    """By how much weights are stretched, and how many elements they reach to either side."""
    stretch = min(scale, 1.0) if sampling.is_antialiased else 1.0
    return stretch, int(np.ceil((2 if sampling.mode == "cubic" else 1) / stretch))


def taps(axis: Axis, sampling: Sampling) -> tuple[Array, Array]:
    """Places [resized, taps] in the source, clamped to it, and their weights, of sum 1.

    Antialiasing stretches the weights by 1/scale where the axis shrinks.
    """
    x = positions(axis, sampling.transformation, np.float64)
    stretch, reach = support(axis.scale, sampling)
    place = np.floor(x)[:, None] + np.arange(1 - reach, reach + 1)
    distance = (place - x[:, None]) * stretch
    if sampling.mode == "cubic":
        weight = keys_cubic(distance, sampling.cubic_coeff_a)
    else:
        weight = triangle(distance)
    if sampling.excludes_outside:
        weight = np.where((place >= 0) & (place < axis.length), weight, 0)
    total = weight.sum(axis=1, keepdims=True)
    # A position with no weight inside at all reads the border.
    weight = np.where(total == 0, 1 / weight.shape[1], weight / np.where(total == 0, 1, total))
    return np.clip(place, 0, axis.length - 1).astype(np.intp), weight


def resample(x: Array, number: int, axis: Axis, sampling: Sampling) -> Array:
    """``x`` with axis ``number`` resized; numbers come back in the precision of `widened`."""
    if sampling.mode == "nearest":
        result = _take_nearest(x, number, axis, sampling)
    elif axis.scale == 1 and axis.length == axis.resized and axis.region == WHOLE:
        return x
    else:
        result = _weighted(x, number, axis, sampling)
    if sampling.transformation == "tf_crop_and_resize":
        shape = [1] * number + [-1] + [1] * (x.ndim - number - 1)
        fill = _fill(sampling.extrapolation_value, x.dtype)
        result = np.where(is_outside(axis).reshape(shape), fill.astype(result.dtype), result)
    return result


def is_outside(axis: Axis) -> Array:
    """For each element of the result, whether tf_crop_and_resize takes it from outside."""
    at = positions(axis, "tf_crop_and_resize", np.float32)
    return np.asarray((at < 0) | (at > axis.length - 1))


def _fill(value: float, dtype: np.dtype[Any]) -> Array:
    if DType.of(dtype).kind == "string":
        raise DTypeError("tf_crop_and_resize fills with a number, found X of string")
    return np.asarray(value)


def _take_nearest(x: Array, number: int, axis: Axis, sampling: Sampling) -> Array:
    # float32, as in the peers: in which element a position at its edge lies is a matter of
    # rounding, and models are trained with theirs.
    at = positions(axis, sampling.transformation, np.float32)
    place = round_position(at, sampling.nearest_mode, axis.scale)
    index = np.clip(place, 0, axis.length - 1).astype(np.intp)
    if np.array_equal(index, np.arange(axis.length)):
        return x
    return np.take(x, index, axis=number)


def _weighted(x: Array, number: int, axis: Axis, sampling: Sampling) -> Array:
    place, weight = taps(axis, sampling)
    weight = weight.astype(np.result_type(x.real.dtype, np.float32))
    shape = [1] * number + [-1] + [1] * (x.ndim - number - 1)
    result = np.zeros((*x.shape[:number], axis.resized, *x.shape[number + 1 :]), x.dtype)
    for tap in range(place.shape[1]):
        factor = weight[:, tap].reshape(shape)
        part = np.take(x, place[:, tap], axis=number) * factor
        # Without weight nothing is read: 0 · ∞ would be NaN.
        result += part if np.all(factor) else np.where(factor == 0, 0, part)
    return result


class Scaled(Protocol):
    """What `in_order` asks of an axis."""

    @property
    def scale(self) -> float | None: ...


def in_order(axes: Mapping[int, Scaled]) -> list[int]:
    """The numbers of ``axes`` in the order in which they are resized with the least work.

    Those that shrink come first; of those that grow the last one, whose elements lie together.
    """
    shrinking = [n for n, axis in axes.items() if axis.scale is not None and axis.scale < 1]
    return [*sorted(shrinking), *sorted(axes.keys() - set(shrinking), reverse=True)]


def resample_all(x: Array, axes: dict[int, Axis], sampling: Sampling) -> Array:
    """``x`` with every axis of ``axes`` resized, in the dtype of ``x``.

    Integers are interpolated in float64 and rounded to nearest, ties to even, saturating.
    """
    sampling.check()
    if sampling.mode == "nearest":
        result = x
    elif DType.of(x.dtype).kind == "string":
        raise DTypeError(f"mode {sampling.mode!r} needs numbers, found X of string")
    else:
        result = widened(x) if x.dtype.kind not in "iub" else x.astype(np.float64)
    for number in in_order(axes):
        axis = axes[number]
        require(
            axis.length > 0 or axis.resized == 0,
            f"axis {number} has no elements to read, but {axis.resized} are required",
        )
        result = resample(result, number, axis, sampling)
    return narrowed(result, x.dtype)


def narrowed(y: Array, dtype: np.dtype[Any]) -> Array:
    """``y`` as ``dtype``, which it came from: integers rounded to nearest even and saturated."""
    if y.dtype == dtype:
        return y
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        y = np.clip(np.rint(y), float(info.min), float(info.max))
        # The largest 64-bit integers have no float64: the clamp is one above.
        return np.where(y >= float(info.max), info.max, y.astype(dtype))
    return convert(y, BOOL) if dtype == np.bool_ else y.astype(dtype)
