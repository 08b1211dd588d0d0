"""Extents that Resize and Upsample give axes, and how each of them is resized by that.

Extents given as scales are rounded down after one float32 product, as the standard's own inference
does. Axes come as kernels have them, whose extents are numbers, or as loops do, for any extents.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from fornix.dtype import FLOAT64
from fornix.errors import require
from fornix.ir.dim import DimLike, divide, exact_quotient, known, maximum, minimum
from fornix.ir.loops import Scalar, Tensor, apply, cast, index
from fornix.ops.call import LowerNode
from fornix.ops.fact import Array, static
from fornix.ops.geometry import shape_text
from fornix.ops.interpolate import WHOLE, Axis
from fornix.ops.interpolate_loops import OpenAxis

POLICIES = ("stretch", "not_larger", "not_smaller")


def check_count(name: str, count: int, numbers: Sequence[int]) -> None:
    require(
        count == len(numbers),
        f"{name} must have one element per resized axis, {len(numbers)}, found {count}",
    )


def check_scales(numbers: Sequence[int], scales: Array) -> None:
    check_count("scales", scales.size, numbers)
    require(
        bool(np.all(scales > 0) and np.all(np.isfinite(scales))),
        f"scales must be positive, got {scales.tolist()}",
    )


def check_enlarging(scales: Array) -> None:
    require(bool(np.all(scales >= 1)), f"scales must be at least 1, got {scales.tolist()}")


EXACT_EXTENT = 2**24
"""Extents from here on are not all numbers of float32: their products are doubles."""

EXACT_NUMERATOR = 2**12
"""Fractions below it scale extents of up to 4096 exactly in float32; larger ones may round."""


def scaled(extent: DimLike, factor: float | DimLike) -> DimLike | None:
    """⌊extent · factor⌋, the product rounded to float32; None where that is not decided.

    Of extents that float32 does not hold, it is rounded to float64.
    """
    length = known(extent)
    if not isinstance(factor, (int, float)):
        return extent * factor
    if not 0 < factor < float("inf"):
        return None
    if length is not None and length >= EXACT_EXTENT:
        return int(np.floor(length * float(np.float32(factor))))
    if length is not None:
        return int(np.floor(np.float32(length) * np.float32(factor)))
    exact = simple_fraction(factor)
    return None if exact is None else divide(extent * exact.numerator, exact.denominator)


def simple_fraction(factor: float) -> Fraction | None:
    """``factor`` if its product with extents is a formula; that holds while float32 holds it."""
    exact = Fraction(factor)
    return exact if max(exact.numerator, exact.denominator) <= EXACT_NUMERATOR else None


def sized(
    shape: Sequence[DimLike],
    numbers: Sequence[int],
    sizes: list[DimLike] | None,
    policy: str,
) -> list[DimLike | None]:
    """Extents of the axes ``numbers`` after resizing to ``sizes``; None where unknown."""
    require(
        policy in POLICIES,
        f"keep_aspect_ratio_policy must be among {', '.join(POLICIES)}, got {policy!r}",
    )
    if sizes is None:
        return [None] * len(numbers)
    check_count("sizes", len(sizes), numbers)
    require(
        all((known(size) or 0) >= 0 for size in sizes),
        f"sizes must not be negative, got {shape_text(sizes)}",
    )
    if policy == "stretch":
        return list(sizes)
    lengths = [shape[number] for number in numbers]
    pairs = [(s, n) for s, n in zip(sizes, lengths, strict=True) if n != 0]
    choose = minimum if policy == "not_larger" else maximum
    return [
        choose(*(divide(2 * s * own + n, 2 * n) for s, n in pairs)) if pairs else own
        for own in lengths
    ]


def aspect_scale(lengths: Sequence[int], sizes: Sequence[int], policy: str) -> Fraction:
    """The one scale by which all axes are resized so that their proportions stay."""
    ratios = [Fraction(size, length) for size, length in zip(sizes, lengths, strict=True) if length]
    choose = min if policy == "not_larger" else max
    return choose(ratios, default=Fraction(1))


def scaled_axes(shape: Sequence[int], numbers: Sequence[int], scales: Array) -> dict[int, Axis]:
    check_scales(numbers, scales)
    axes = {}
    for number, scale in zip(numbers, scales.reshape(-1).tolist(), strict=True):
        resized = scaled(shape[number], scale)
        axes[number] = Axis(shape[number], known(resized) or 0, scale)
    return axes


def sized_axes(
    shape: Sequence[int], numbers: Sequence[int], sizes: list[int], policy: str
) -> dict[int, Axis]:
    extents = [known(e) or 0 for e in sized(shape, numbers, list(sizes), policy) if e is not None]
    lengths = [shape[number] for number in numbers]
    common = None if policy == "stretch" else float(aspect_scale(lengths, sizes, policy))
    return {
        number: Axis(length, extent, common or (extent / length if length else 1.0))
        for number, length, extent in zip(numbers, lengths, extents, strict=True)
    }


def with_regions(axes: dict[int, Axis], roi: Array | None) -> dict[int, Axis]:
    """``axes`` with the starts and ends that ``roi`` [2 · axes] holds."""
    found = "none" if roi is None else shape_text(roi.shape)
    require(
        roi is not None and roi.size == 2 * len(axes),
        f"tf_crop_and_resize needs roi with a start and an end for each of {len(axes)} axes, "
        f"found {found}",
    )
    bounds = [] if roi is None else roi.reshape(2, -1).T.astype(np.float64).tolist()
    return {
        number: Axis(axis.length, axis.resized, axis.scale, (start, end))
        for (number, axis), (start, end) in zip(axes.items(), bounds, strict=True)
    }


def scaled_in_run(
    X: Tensor,
    numbers: Sequence[int],
    scales: Array | Tensor,
    extents: Sequence[DimLike],
) -> dict[int, Axis | OpenAxis]:
    """How ``numbers`` are resized by ``scales``, which may be those of a run, to ``extents``."""
    if isinstance(scales, Tensor):
        factors = [cast(scales[place], FLOAT64) for place in range(len(numbers))]
        return {
            number: OpenAxis(X.shape[number], extents[number], None, factor)
            for number, factor in zip(numbers, factors, strict=True)
        }
    check_scales(numbers, scales)
    return {
        number: _axis(X.shape[number], extents[number], scale)
        for number, scale in zip(numbers, scales.reshape(-1).tolist(), strict=True)
    }


def sized_in_run(
    X: Tensor, numbers: Sequence[int], sizes: list[DimLike], policy: str
) -> dict[int, Axis | OpenAxis]:
    """How the axes ``numbers`` are resized to ``sizes``; extents may be symbolic."""
    check_count("sizes", len(sizes), numbers)
    lengths, wanted = static([X.shape[number] for number in numbers]), static(sizes)
    if lengths is not None and wanted is not None:
        shape = [known(extent) or 0 for extent in X.shape]
        return dict(sized_axes(shape, numbers, list(wanted), policy))
    if policy == "stretch":
        return {
            number: _axis(X.shape[number], size, None)
            for number, size in zip(numbers, sizes, strict=True)
        }
    extents = sized(X.shape, numbers, sizes, policy)
    ratios = [
        cast(index(size), FLOAT64) / cast(index(X.shape[number]), FLOAT64)
        for number, size in zip(numbers, sizes, strict=True)
    ]
    common = ratios[0]
    for ratio in ratios[1:]:
        common = apply("min" if policy == "not_larger" else "max", common, ratio)
    return {
        number: OpenAxis(X.shape[number], extent, None, common)
        for number, extent in zip(numbers, extents, strict=True)
        if extent is not None
    }


def _axis(length: DimLike, resized: DimLike, scale: float | None) -> Axis | OpenAxis:
    """How an axis is resized; ``scale`` is None where it is what the extents say."""
    if isinstance(length, int) and isinstance(resized, int):
        return Axis(length, resized, resized / length if scale is None else scale)
    factor = exact_quotient(resized, length) if scale is None else None
    return OpenAxis(length, resized, float(factor) if isinstance(factor, int) else scale)


def regions_in_run(
    axes: dict[int, Axis | OpenAxis], roi: Tensor | None, node: LowerNode
) -> dict[int, Axis | OpenAxis]:
    """`with_regions` for lowerings; that a region is the whole axis a stored ``roi`` tells."""
    fixed = {number: axis for number, axis in axes.items() if isinstance(axis, Axis)}
    fact = node.facts[1]
    stored = None if fact is None else fact.constant
    if len(fixed) == len(axes) and stored is not None:
        return dict(with_regions(fixed, stored))
    if roi is None or roi.shape != (2 * len(axes),):
        node.decline("regions need a start and an end for each axis")
    found: dict[int, Axis | OpenAxis] = {}
    for place, (number, axis) in enumerate(axes.items()):
        ends = (place, place + len(axes))
        region: tuple[Scalar | float, ...] = tuple(cast(roi[end], FLOAT64) for end in ends)
        if stored is not None and tuple(float(stored[end]) for end in ends) == WHOLE:
            region = WHOLE
        factor = axis.factor if isinstance(axis, OpenAxis) else None
        start, end = region
        found[number] = OpenAxis(axis.length, axis.resized, axis.scale, factor, (start, end))
    return found
