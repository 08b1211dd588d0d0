"""Interpolation as loops: each axis reads at indices that are computed, with weights from a table.

Where an element is read is arithmetic of its index if the scale is a simple fraction, found by
comparing with the positions that the kernel computes; otherwise the positions are a table.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from fornix.dtype import BOOL, FLOAT64
from fornix.ir.dim import DimLike, maximum, minimum
from fornix.ir.loops import Scalar, Tensor, apply, cast, compute, constant, gathered, select
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array
from fornix.ops.interpolate import WHOLE, Axis, Sampling, positions, round_position, taps
from fornix.ops.precision import cast_tensor, wide_dtype

Reader = Callable[[DimLike], DimLike]
"""From an index of the result to one of the source."""

SIMPLE = 64
"""Numerators and denominators of scales up to which indices are sought as arithmetic."""

UNROLLED = 16
"""Elements of the source per axis that one element of the result may take in."""

PROBED = 256
"""Length of the axis on which the arithmetic of an axis of unknown length is found."""

FREE_OF_LENGTH = ("asymmetric", "half_pixel")
"""Transformations of positions that do not ask for the length of an axis."""


def lower_resample_all(
    x: Tensor, axes: dict[int, Axis], sampling: Sampling, node: LowerNode
) -> Tensor:
    """`resample_all` for lowerings."""
    sampling.check()
    if sampling.transformation == "tf_crop_and_resize":
        node.decline("regions fill what lies outside of them")
    is_nearest = sampling.mode == "nearest"
    result = x
    if not is_nearest:
        result = cast_tensor(x, wide_dtype(x.dtype) if x.dtype.is_float else FLOAT64)
    for number, axis in axes.items():
        if is_nearest:
            at = round_position(
                positions(axis, sampling.transformation, np.float32),
                sampling.nearest_mode,
                axis.scale,
            )
            result = taken(result, number, axis.resized, _reader(at, axis))
        elif axis.scale != 1 or axis.length != axis.resized or axis.region != WHOLE:
            result = _lower_weighted(result, number, axis, sampling, node)
    return lower_narrowed(result, x)


def taken(x: Tensor, number: int, extent: DimLike, source: Reader) -> Tensor:
    """``x`` with axis ``number`` of another ``extent``, read where ``source`` says."""
    return compute(
        (*x.shape[:number], extent, *x.shape[number + 1 :]),
        lambda *i: x[(*i[:number], source(i[number]), *i[number + 1 :])],
    )


def reader_of_any_length(length: DimLike, scale: float, sampling: Sampling) -> Reader | None:
    """Where the nearest elements lie along an axis of symbolic ``length``, if that can be told."""
    if sampling.mode != "nearest" or sampling.transformation not in FREE_OF_LENGTH:
        return None
    probe = Axis(PROBED, int(PROBED * scale), scale)
    at = positions(probe, sampling.transformation, np.float32)
    found = _arithmetic(round_position(at, sampling.nearest_mode, scale), scale, PROBED)
    if found is None or Fraction(scale).numerator > SIMPLE:
        return None
    factor, offset, divisor = found
    return lambda i: minimum(maximum((i * factor + offset) // divisor, 0), length - 1)


def _reader(at: Array, axis: Axis) -> Reader:
    """Where the places ``at``, one per element of the result, lie in the source."""
    found, last = _arithmetic(at, axis.scale, axis.length), axis.length - 1
    if found is not None:
        factor, offset, divisor = found
        return lambda i: minimum(maximum((i * factor + offset) // divisor, 0), last)
    table = constant(np.clip(at, 0, last).astype(np.int64))
    return lambda i: gathered(table[i], axis.length)


def _arithmetic(at: Array, scale: float, length: int) -> tuple[int, int, int] | None:
    """``(factor, offset, divisor)`` with at[i] = ⌊(i · factor + offset) / divisor⌋, clamped."""
    exact = Fraction(scale).limit_denominator(SIMPLE)
    if exact.numerator > SIMPLE or exact == 0:
        return None
    wanted = np.clip(at, 0, length - 1)
    scaled = np.arange(len(at)) * exact.denominator
    for offset in range(-2 * exact.numerator, 2 * exact.numerator + 1):
        found = np.clip((scaled + offset) // exact.numerator, 0, length - 1)
        if np.array_equal(found, wanted):
            return exact.denominator, offset, exact.numerator
    return None


def _lower_weighted(
    x: Tensor, number: int, axis: Axis, sampling: Sampling, node: LowerNode
) -> Tensor:
    place, weight = taps(axis, sampling)
    count = place.shape[1]
    if count > UNROLLED:
        node.decline(f"{count} elements per axis are too many to write out")
    readers = [_reader(place[:, tap], axis) for tap in range(count)]
    weights = constant(weight.astype(x.dtype.numpy))
    all_weigh = [bool(weight[:, tap].all()) for tap in range(count)]

    def at(*i: DimLike) -> Scalar:
        def part(tap: int) -> Scalar:
            factor, k = weights[i[number], tap], readers[tap](i[number])
            product = x[(*i[:number], k, *i[number + 1 :])] * factor
            # Without weight nothing is read: 0 · ∞ would be NaN.
            return product if all_weigh[tap] else select(apply("eq", factor, 0.0), 0.0, product)

        return functools.reduce(operator.add, map(part, range(count)))

    return compute((*x.shape[:number], axis.resized, *x.shape[number + 1 :]), at)


def lower_narrowed(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the dtype of ``x``: integers rounded to nearest even and saturated."""
    if y.dtype is x.dtype or x.dtype.is_float or x.dtype is BOOL:
        return cast_tensor(y, x.dtype)
    info = np.iinfo(x.dtype.numpy)
    low, high = float(info.min), float(info.max)

    def at(*i: DimLike) -> Scalar:
        rounded = apply("rint", y[i])
        is_beyond = rounded >= high  # the largest 64-bit integers have no float64
        inside = select(is_beyond, 0.0, apply("max", rounded, low))
        return select(is_beyond, int(info.max), cast(inside, x.dtype))

    return compute(y.shape, at)
