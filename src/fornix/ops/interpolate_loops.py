"""Interpolation as loops: each axis reads at indices that are computed, with weights from tables.

Axes are resized one after the other, as kernels do it, with memory between them: so each element
takes in a few others instead of all combinations of them. Those that shrink come first; where only
a run tells whether rows do, they have a turn ahead of the last axis and one after it.

Where the nearest element lies is arithmetic of the index if the scale is a simple fraction, found
by comparing with the positions that the kernel computes. Otherwise positions and weights are
tables: constants where the extents of the axis are known, else computed once in each run.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fornix.dtype import BOOL, FLOAT32, FLOAT64, INT64, DType
from fornix.ir.dim import DimLike, ceildiv, maximum, minimum
from fornix.ir.loops import (
    Scalar,
    Tensor,
    Variable,
    apply,
    cast,
    compute,
    const,
    constant,
    gathered,
    index,
    loaded,
    reduce,
    select,
    stored,
)
from fornix.ops.fact import Array
from fornix.ops.interpolate import (
    WHOLE,
    Axis,
    Sampling,
    in_order,
    is_outside,
    positions,
    round_position,
    support,
    taps,
)
from fornix.ops.precision import cast_tensor, wide_dtype

Reader = Callable[[DimLike], DimLike]
"""From an index of the result to one of the source."""

SIMPLE = 64
"""Numerators and denominators of scales up to which indices are sought as arithmetic."""

UNROLLED = 16
"""Elements of the source per axis that are written out as a sum; of more the sum is a loop."""

FEW = 4
"""Elements of the source per axis whose weights are computed anew for their sum."""

GROWTH = 1.5
"""How many times rows whose elements are looked up are read that are written first."""

PROBED = 256
"""Length of the axis on which the arithmetic of an axis of unknown length is found."""

FREE_OF_LENGTH = ("asymmetric", "half_pixel")
"""Transformations of positions that do not ask for the length of an axis."""


DIVIDED = ("align_corners", "tf_crop_and_resize")
"""Transformations that multiply positions and divide them again."""


@dataclass(frozen=True)
class OpenAxis:
    """How an axis is resized whose extents are known in a run only; see `Axis`."""

    length: DimLike
    resized: DimLike
    scale: float | None
    """None where `factor` tells it, or else it is resized / length."""
    factor: Scalar | None = None
    """The scale as a float64 that a run tells."""
    region: tuple[Scalar | float, Scalar | float] = WHOLE
    """Like that of `Axis`."""

    def scale_in_run(self) -> Scalar:
        """The scale as a float64."""
        if self.scale is not None:
            return const(self.scale, FLOAT64)
        if self.factor is not None:
            return self.factor
        return cast(index(self.resized), FLOAT64) / cast(index(self.length), FLOAT64)


@dataclass(frozen=True)
class Taps:
    """Which elements one of the result is the weighted sum of, along one axis."""

    place: Tensor
    """[taps, resized], in the source."""
    weight: Tensor
    """[taps, resized]"""
    may_vanish: tuple[bool, ...] | None
    """For each tap, whether a weight of it may be 0; None where only a run tells how many."""


@dataclass(frozen=True)
class _Turn:
    """How one axis is resized by weighted sums."""

    number: int
    axis: Axis | OpenAxis
    taps: Taps

    def shrinking(self) -> _Turn:
        """What is done where the axis shrinks; else all elements stay."""
        happens = index(self.axis.resized) < index(self.axis.length)
        return self._only_if(happens, self.axis.length, self._least)

    def growing(self) -> _Turn:
        """What is done where the axis does not shrink; else all elements stay."""
        happens = index(self.axis.resized) >= index(self.axis.length)
        return self._only_if(happens, self._least, self.axis.resized)

    @property
    def _least(self) -> DimLike:
        return minimum(self.axis.length, self.axis.resized)

    def _only_if(self, happens: Scalar, length: DimLike, resized: DimLike) -> _Turn:
        """The axis resized from ``length`` where that ``happens``; elsewhere read as it is."""
        place, weight = self.taps.place, self.taps.weight
        shape = (place.shape[0], resized)

        def weigh(tap: DimLike, i: DimLike) -> Scalar:
            is_first = cast(apply("eq", index(tap), 0), weight.dtype)
            return select(happens, weight[tap, i], is_first)

        own = compute(shape, lambda tap, i: select(happens, place[tap, i], index(i)))
        taps = Taps(own, compute(shape, weigh), self.taps.may_vanish)
        return _Turn(self.number, OpenAxis(length, resized, None), taps)


def lower_resample_all(
    x: Tensor, axes: Mapping[int, Axis | OpenAxis], sampling: Sampling
) -> Tensor:
    """`resample_all` for lowerings."""
    sampling.check()
    order = [number for number in _in_order(axes, sampling) if not _stays(axes[number], sampling)]
    if sampling.mode == "nearest":
        return lower_narrowed(_all_taken(x, {n: axes[n] for n in order}, sampling), x)
    result = cast_tensor(x, wide_dtype(x.dtype) if x.dtype.is_float else FLOAT64)
    if order:
        result = stored(result, "source")  # whose elements are read several times, and not in order
    turns = [_Turn(n, axes[n], _taps(axes[n], sampling, result.dtype)) for n in order]
    if len(turns) > 1 and turns[0].number == x.rank - 1 and _is_told_whether(turns[1], sampling):
        last, rows, *others = turns
        # Looking up elements of rows costs most: it is done while there are the fewest of them.
        turns = [rows.shrinking(), last, rows.growing(), *others]
    for turn in turns:
        result = _weighted(result, turn)
        if sampling.transformation == "tf_crop_and_resize":
            result = _with_fill(result, turn.number, turn.axis, sampling)
        if turn is not turns[-1]:
            result = stored(result, "resized")
    return lower_narrowed(result, x)


def _is_told_whether(turn: _Turn, sampling: Sampling) -> bool:
    """Whether a run tells if ``turn`` shrinks its axis."""
    is_evened = sampling.is_antialiased or sampling.transformation == "tf_crop_and_resize"
    return turn.axis.scale is None and not is_evened


def _all_taken(x: Tensor, axes: Mapping[int, Axis | OpenAxis], sampling: Sampling) -> Tensor:
    """``x`` with the nearest elements along ``axes``, one after the other."""
    order = list(axes)
    for turn, (number, axis) in enumerate(axes.items(), 1):
        source = _nearest(axis, sampling)
        x = taken(x, number, axis.resized, source)
        if sampling.transformation == "tf_crop_and_resize":
            x = _with_fill(x, number, axis, sampling)
        is_row = number == x.rank - 1 and _is_looked_up(source, axis.resized)
        if is_row and turn < len(order) and _growth(axes[n] for n in order[turn:]) >= GROWTH:
            x = stored(x, "resized")
    return x


def _is_looked_up(source: Reader, extent: DimLike) -> bool:
    """Whether a table says where the elements of an axis of such an ``extent`` lie."""
    return any(loaded(source(Variable("i", extent).dim)))


def _growth(axes: Iterable[Axis | OpenAxis]) -> float:
    """How many times an element is read along ``axes``, as far as it is known."""
    return math.prod(1.0 if axis.scale is None else axis.scale for axis in axes)


def _in_order(axes: Mapping[int, Axis | OpenAxis], sampling: Sampling) -> list[int]:
    """`in_order`; who antialiases shrinks, where only a run tells."""
    are_told = all(axis.scale is None for axis in axes.values())
    return sorted(axes) if sampling.is_antialiased and are_told else in_order(axes)


def _stays(axis: Axis | OpenAxis, sampling: Sampling) -> bool:
    """Whether resizing along ``axis`` changes nothing."""
    if axis.length != axis.resized or axis.scale not in {None, 1}:
        return False
    if any(isinstance(side, Scalar) for side in axis.region) or axis.region != WHOLE:
        return False
    if isinstance(axis, OpenAxis):
        # Nearest positions of these may be a rounding away from whole numbers.
        exact = sampling.mode != "nearest" or sampling.transformation not in DIVIDED
        return exact and axis.factor is None
    return sampling.mode != "nearest"


def _nearest(axis: Axis | OpenAxis, sampling: Sampling) -> Reader:
    """Where the nearest elements lie along ``axis``."""
    if isinstance(axis, Axis):
        at = positions(axis, sampling.transformation, np.float32)
        return _reader(round_position(at, sampling.nearest_mode, axis.scale), axis)
    if axis.scale is not None:
        found = reader_of_any_length(axis.length, axis.scale, sampling)
        if found is not None:
            return found
    length = axis.length
    x = _open_positions(axis, sampling.transformation, FLOAT32)
    mode, scale = sampling.nearest_mode, axis.scale_in_run()
    table = compute((axis.resized,), lambda i: _clipped(_rounded(x(i), mode, scale), length))
    own = stored(table, "places")
    return lambda i: gathered(own[i], length)


def _rounded(x: Scalar, nearest_mode: str, scale: Scalar) -> Scalar:
    """`round_position` for lowerings."""
    floor = apply("floor", x)
    match nearest_mode:
        case "outward":
            return select(scale < 1, apply("ceil", x), floor)
        case "round_prefer_floor":
            return select(x - floor > 0.5, floor + 1, floor)
        case "round_prefer_ceil":
            return select(x - floor >= 0.5, floor + 1, floor)
        case "ceil":
            return apply("ceil", x)
        case _:
            return floor


def _clipped(place: Scalar, length: DimLike) -> Scalar:
    """The whole number ``place`` as an index into an axis of ``length``, clamped to it."""
    last = cast(index(length), place.dtype) - 1
    return cast(apply("min", apply("max", place, 0), last), INT64)


def _open_positions(
    axis: OpenAxis, transformation: str, dtype: DType
) -> Callable[[DimLike], Scalar]:
    """`positions` for axes whose extents are known in a run only."""
    length, resized = (cast(index(d), FLOAT64) for d in (axis.length, axis.resized))
    wide = axis.scale_in_run()
    scale = cast(wide, dtype)

    def center(i: DimLike) -> Scalar:
        return (cast(index(i), dtype) + 0.5) / scale

    def half_pixel(i: DimLike) -> Scalar:
        return center(i) - 0.5

    match transformation:
        case "asymmetric":
            return lambda i: cast(index(i), dtype) / scale
        case "align_corners":
            last = cast(wide * length - 1, dtype)
            reach = cast(length - 1, dtype)
            is_wide = last > 0
            return lambda i: select(
                is_wide, cast(index(i), dtype) * reach / select(is_wide, last, 1), 0
            )
        case "tf_crop_and_resize":
            return _cropped(axis, dtype)
        case "tf_half_pixel_for_nn":
            is_one = apply("eq", wide, 1.0)
            return lambda i: select(is_one, cast(index(i), dtype), center(i))
        case "pytorch_half_pixel":
            return lambda i: select(resized <= 1, 0, half_pixel(i))
        case "half_pixel_symmetric":
            adjustment = resized / (wide * length)
            shift = cast(length / 2 * (1 - adjustment), dtype)
            return lambda i: half_pixel(i) + shift
        case _:
            return half_pixel


def _cropped(axis: OpenAxis, dtype: DType) -> Callable[[DimLike], Scalar]:
    """`interpolate._cropped` for lowerings."""
    start, end = (
        cast(side, dtype) if isinstance(side, Scalar) else const(side, dtype)
        for side in axis.region
    )
    last, count = (cast(index(d - 1), dtype) for d in (axis.length, axis.resized))
    middle = (start + end) * 0.5 * last
    is_several = count > 0

    def at(i: DimLike) -> Scalar:
        step = cast(index(i), dtype) * (end - start) * last / select(is_several, count, 1)
        return select(is_several, start * last + step, middle)

    return at


def _taps(axis: Axis | OpenAxis, sampling: Sampling, dtype: DType) -> Taps:
    if isinstance(axis, OpenAxis):
        return _open_taps(axis, sampling, dtype)
    place, weight = taps(axis, sampling)
    return Taps(
        constant(place.T.astype(np.int64)),
        constant(weight.T.astype(dtype.numpy)),
        tuple(not column.all() for column in weight.T),
    )


def _open_taps(axis: OpenAxis, sampling: Sampling, dtype: DType) -> Taps:
    """`interpolate.taps` for axes whose extents are known in a run only."""
    stretch, reach = _open_support(axis, sampling)
    count = 2 * reach
    shape = (count, axis.resized)
    x = _open_positions(axis, sampling.transformation, FLOAT64)
    last = cast(index(axis.length), FLOAT64) - 1

    def place(tap: DimLike, i: DimLike) -> Scalar:
        return apply("floor", x(i)) + cast(index(tap + 1 - reach), FLOAT64)

    def weigh(tap: DimLike, i: DimLike) -> Scalar:
        at = place(tap, i)
        distance = abs((at - x(i)) * stretch)
        if sampling.mode == "cubic":
            found = _keys_cubic(distance, sampling.cubic_coeff_a)
        else:
            found = apply("max", 1 - distance, 0)
        return select((at >= 0) & (at <= last), found, 0) if sampling.excludes_outside else found

    weight = compute(shape, weigh)
    is_few = isinstance(count, int) and count <= FEW
    if not is_few:
        weight = stored(weight, "unscaled")
    sums = compute((axis.resized,), lambda i: reduce("sum", count, lambda k: weight[k, i]))
    total = sums if is_few else stored(sums, "totals")

    def share(tap: DimLike, i: DimLike) -> Scalar:
        is_none = apply("eq", total[i], 0)
        even = 1 / cast(index(count), FLOAT64)
        found = select(is_none, even, weight[tap, i] / select(is_none, 1, total[i]))
        return cast(found, dtype)

    return Taps(
        stored(compute(shape, lambda tap, i: _clipped(place(tap, i), axis.length)), "places"),
        stored(compute(shape, share), "weights"),
        (True,) * count if isinstance(count, int) else None,
    )


def _open_support(axis: OpenAxis, sampling: Sampling) -> tuple[Scalar | float, DimLike]:
    """`interpolate.support` for lowerings; elements that it has too many have no weight."""
    if axis.scale is not None or not sampling.is_antialiased:
        return support(axis.scale or 1.0, sampling)
    own = 2 if sampling.mode == "cubic" else 1
    reach = ceildiv(own * axis.length, maximum(axis.resized, 1)) + 1
    return apply("min", axis.scale_in_run(), 1), maximum(own, reach)


def _keys_cubic(d: Scalar, a: float) -> Scalar:
    """`interpolate.keys_cubic` of the distance ``d``, which is not negative."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return select(d <= 1, near, select(d < 2, far, 0))


def _weighted(x: Tensor, turn: _Turn) -> Tensor:
    """``x`` with an axis resized as ``turn`` says: sums of elements."""
    number, axis, own = turn.number, turn.axis, turn.taps
    count = own.place.shape[0]

    def at(*i: DimLike) -> Scalar:
        def part(tap: DimLike, *, may_vanish: bool) -> Scalar:
            k = gathered(own.place[tap, i[number]], axis.length)
            factor = own.weight[tap, i[number]]
            product = x[(*i[:number], k, *i[number + 1 :])] * factor
            # Without weight nothing is read: 0 · ∞ would be NaN.
            return select(apply("eq", factor, 0), 0, product) if may_vanish else product

        if own.may_vanish is None or len(own.may_vanish) > UNROLLED:
            return reduce("sum", count, lambda tap: part(tap, may_vanish=True))
        parts = (part(tap, may_vanish=vanishes) for tap, vanishes in enumerate(own.may_vanish))
        return functools.reduce(operator.add, parts)

    return compute((*x.shape[:number], axis.resized, *x.shape[number + 1 :]), at)


def _with_fill(x: Tensor, number: int, axis: Axis | OpenAxis, sampling: Sampling) -> Tensor:
    """``x`` with what tf_crop_and_resize puts where the region leaves the source."""
    outside = constant(is_outside(axis)) if isinstance(axis, Axis) else _open_outside(axis)
    fill = cast(const(sampling.extrapolation_value, FLOAT64), x.dtype)
    return compute(x.shape, lambda *i: select(outside[i[number]], fill, x[i]))


def _open_outside(axis: OpenAxis) -> Tensor:
    """`is_outside` for lowerings."""
    positions = _open_positions(axis, "tf_crop_and_resize", FLOAT32)
    at = stored(compute((axis.resized,), positions), "positions")
    last = cast(index(axis.length), FLOAT32) - 1
    return compute((axis.resized,), lambda i: (at[i] < 0) | (at[i] > last))


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
    if factor != 1 and divisor != 1:
        return None  # a table is faster than a division of each index
    if offset % divisor:
        return None  # and than one that leaves neighbours a remainder
    return lambda i: minimum(maximum((i * factor + offset) // divisor, 0), length - 1)


def _reader(at: Array, axis: Axis) -> Reader:
    """Where the places ``at``, one per element of the result, lie in the source."""
    found, last = _arithmetic(at, axis.scale, axis.length), axis.length - 1
    factor, offset, divisor = found or (1, 1, 2)
    if offset % divisor == 0 and (factor == 1 or axis.scale < 1):
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
