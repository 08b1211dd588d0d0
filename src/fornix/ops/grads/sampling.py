"""Derivatives of operators that read images at computed places.

GridSample, DeformConv, RoiAlign and MaxRoiPool are written out once more in simpler nodes, and
these are differentiated: the gradients of images and of places both come from them.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64
from fornix.errors import NotSupported
from fornix.ops.boxes import RoiAlign
from fornix.ops.conv import conv_taps
from fornix.ops.conv_variants import DeformConv
from fornix.ops.fact import Array, static
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.reverse import differentiate
from fornix.ops.grads.term import Make, Term
from fornix.ops.indexed_pool import MaxRoiPool
from fornix.ops.vision import MODES, GridSample
from fornix.ops.vision_loops import CUBIC_COEFFICIENT
from fornix.ops.window import Window, WindowAttributes, plain

Tap = tuple[Term, Term]
"""The place of an element along one axis, a whole number, and its weight."""


def through(y: Term, inputs: Sequence[Term | None], node: GradNode) -> Gradients:
    """The gradients of ``inputs``, of which ``y`` is the node's output written out."""
    make = node.make
    needed = [x for i, x in enumerate(inputs) if x is not None and node.needs(i)]
    fixed = [x.value for x in inputs if x is not None and x not in needed]
    seeds = {make.shaped(y, node.y).value: node.g}
    found = iter(differentiate(seeds, [x.value for x in needed], make, fixed))
    return tuple(next(found) if x in needed else None for x in inputs)


def _number(make: Make, extent: Term) -> Term:
    """A tensor of one element as a scalar."""
    return make.squeeze(extent, [0])


def _until(make: Make, count: Term) -> Term:
    """0, 1, … below the scalar ``count``, in its type."""
    return make.Range(make.full(0, count), count, make.full(1, count))


def sampled(data: Term, taps: Sequence[Sequence[Tap]]) -> Term:
    """The weighted sum of elements: data[N, C, *S] → [N, C, P], taps[axis] being of [N, P]."""
    make = data.make
    flat = make.reshape(data, [make.extent(data, 0), make.extent(data, 1), -1])
    parts = []
    for chosen in itertools.product(*taps):
        place, weight = _corner(data, chosen)
        shape = make.joined([make.extent(data, 0), make.extent(data, 1), make.extent(place, 1)])
        places = make.Expand(make.unsqueeze(place, [1]), shape)
        part = make.GatherElements(flat, places, axis=2)
        parts.append(part * make.unsqueeze(weight, [1]).like(data))
    return functools.reduce(operator.add, parts)


def _corner(data: Term, taps: Sequence[Tap]) -> Tap:
    """One tap of each axis: the place in the flattened axes, cut to the data, and the weight."""
    make = data.make
    places, weights = zip(*taps, strict=True)
    extents = [make.extent(data, axis) for axis in range(2, data.rank)]

    def inside(place: Term, extent: Term) -> Term:
        number = place.IsNaN().Where(0, place)
        return make.Min(make.Max(number, 0), (extent - 1).like(number)).cast(INT64)

    flat, *rest = map(inside, places, extents)
    for place, extent in zip(rest, extents[1:], strict=True):
        flat = flat * extent + place
    return flat, functools.reduce(operator.mul, weights)


def linear_taps(place: Term) -> list[Tap]:
    """The elements on both sides of ``place``."""
    low = place.Floor()
    part = place - low
    return [(low, 1 - part), (low + 1, part)]


def among(taps: Sequence[Tap], length: Term) -> list[Tap]:
    """``taps`` with zeros outside an axis of ``length`` elements."""
    return [(at, (at >= 0).And(at < length).Where(weight, 0)) for at, weight in taps]


@GridSample.grad
def grad_grid_sample(
    x: Term,
    grid: Term,
    *,
    mode: str,
    padding_mode: str,
    align_corners: int,
    node: GradNode,
) -> Gradients:
    make, rank = node.make, x.rank - 2
    places = make.reshape(grid, [make.extent(grid, 0), -1, rank])
    taps = []
    for axis in range(rank):
        innermost_first = make.constant(np.array(rank - 1 - axis, np.int64))
        place = places.Gather(innermost_first, axis=2)
        length = make.extent(x, 2 + axis).like(grid)
        reader = GridTaps(length, MODES[mode], padding_mode, is_aligned=bool(align_corners))
        taps.append(reader.at(place))
    return through(sampled(x, taps), [x, grid], node)


class GridTaps:
    """How GridSample reads along one axis of ``length`` elements."""

    def __init__(self, length: Term, mode: str, padding: str, *, is_aligned: bool) -> None:
        self.length = length
        self.mode = mode
        self.padding = padding
        self.is_aligned = is_aligned

    def at(self, place: Term) -> list[Tap]:
        """What is read at ``place`` between the ends, which are −1 and 1."""
        if self.is_aligned:
            x = (place + 1) / 2 * (self.length - 1)
        else:
            x = ((place + 1) * self.length - 1) / 2
        if self.mode == "cubic":
            taps = self._cubic(x)
        elif self.mode == "nearest":
            nearest = self._inside(x).Round()
            taps = [(nearest, x.make.full(1, nearest))]
        else:
            taps = linear_taps(self._inside(x))
        return among(taps, self.length) if self.padding == "zeros" else taps

    def _cubic(self, x: Term) -> list[Tap]:
        """Four elements, each brought inside by itself."""
        low = x.Floor()
        part = x - low
        weights = [_far(part + 1), _near(part), _near(1 - part), _far(2 - part)]
        return [(self._inside(low + i), weight) for i, weight in enumerate(weights, -1)]

    def _inside(self, x: Term) -> Term:
        """Positions brought into the axis; as they are if zeros lie outside."""
        if self.padding == "zeros":
            return x
        if self.padding == "reflection":
            x = self._reflected(x)
        return x.make.Min(x.make.Max(x, 0), self.length - 1)

    def _reflected(self, x: Term) -> Term:
        """Positions reflected at both ends until they lie between."""
        low = 0.0 if self.is_aligned else -0.5
        span = self.length - 1 if self.is_aligned else self.length
        span = span.Equal(0).Where(1, span)  # of one element, which all positions come to
        distance = (x - low).Abs()
        turns = (distance / span).Floor()
        rest = distance - turns * span
        is_odd = (turns - (turns / 2).Floor() * 2).Equal(1)
        return low + is_odd.Where(span - rest, rest)


def _near(d: Term) -> Term:
    """The cubic weight at a distance of at most 1."""
    a = CUBIC_COEFFICIENT
    return ((a + 2) * d - (a + 3)) * d * d + 1


def _far(d: Term) -> Term:
    """The cubic weight at a distance from 1 to 2."""
    a = CUBIC_COEFFICIENT
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


@DeformConv.grad
def grad_deform_conv(
    x: Term,
    w: Term,
    offset: Term,
    b: Term | None = None,
    mask: Term | None = None,
    *,
    group: int,
    offset_group: int,
    kernel_shape: list[int] | None = None,
    node: GradNode,
    **window: Unpack[WindowAttributes],
) -> Gradients:
    """Images at the displaced taps, as columns, are multiplied by the filters."""
    make = node.make
    win = Window.of(x.shape[2:], conv_taps(x.shape, w.shape, group, kernel_shape), **window)
    if static(win.size) is None or static(w.shape) is None:
        raise NotSupported("the extents of X and W have to be known before a run")
    filters, *_ = (plain(extent) for extent in w.shape)
    rank, taps = len(win.size), math.prod(win.tap_shape)
    shifts = make.reshape(offset, [-1, taps, rank, math.prod(win.shape)])
    per_axis = []
    for axis in range(rank):
        shift = shifts.Gather(make.constant(np.array(axis, np.int64)), axis=2)
        place = make.reshape(shift + _undisplaced(win, axis, x), [make.extent(shifts, 0), -1])
        length = make.extent(x, 2 + axis).like(x)
        per_axis.append(among(linear_taps(place), length))
    share = plain(x.shape[1]) // offset_group
    columns = sampled(make.reshape(x, [-1, share, *map(plain, win.size)]), per_axis)
    if mask is not None:
        columns = columns * make.reshape(mask, [make.extent(shifts, 0), 1, -1])
    rows = plain(w.shape[1]) * taps
    product = make.MatMul(
        make.reshape(w, [group, filters // group, rows]),
        make.reshape(columns, [-1, group, rows, math.prod(win.shape)]),
    )
    y = make.shaped(product, node.y)
    if b is not None:
        y = y + make.reshape(b, [-1, *[1] * rank])
    return through(y, [x, w, offset, b, mask], node)


def _undisplaced(window: Window, axis: int, like: Term) -> Array:
    """Where the taps lie along one axis without offsets: [∏K, ∏O]."""
    taps = np.indices(window.tap_shape)[axis].reshape(-1, 1) * window.dilation[axis]
    blocks = np.indices(window.shape)[axis].reshape(1, -1) * window.stride[axis]
    places: Array = taps + blocks - plain(window.before[axis])
    return places.astype(like.dtype.numpy)


@RoiAlign.grad
def grad_roi_align(
    x: Term,
    rois: Term,
    images: Term,
    *,
    mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
    coordinate_transformation_mode: str = "output_half_pixel",
    node: GradNode,
) -> Gradients:
    """Means of bilinear samples: a product with a matrix for rows and one for columns."""
    if mode != "avg":
        raise NotSupported(f"with mode {mode} it has no derivative here")
    make = node.make
    is_half = coordinate_transformation_mode == "half_pixel"
    corners = rois * spatial_scale - is_half / 2
    matrices = []
    for axis, bins in enumerate((output_height, output_width)):
        start, stop = (
            corners.Gather(make.constant(np.array(side, np.int64)), axis=1)
            for side in (1 - axis, 3 - axis)
        )
        span = stop - start if is_half else make.Max(stop - start, 1)
        length = _number(make, make.extent(x, 2 + axis)).like(x)
        matrices.append(_means(start, span, bins, sampling_ratio, length))
    chosen = x.Gather(images, axis=0)
    y = make.Einsum(*matrices, chosen, equation="rph,rqw,rchw->rcpq")
    return through(y, [x, rois, images], node)


def _means(start: Term, span: Term, bins: int, ratio: int, length: Term) -> Term:
    """What each element of an axis weighs in each bin of each region: [R, bins, length].

    A bin is the mean of ``ratio`` samples, or of as many as it is elements long.
    """
    make = start.make
    wide = np.dtype(start.dtype.numpy)
    size = make.unsqueeze(span / bins, [1, 2])
    count = make.full(ratio, size) if ratio > 0 else make.Max(size.Ceil(), 0)
    samples = make.unsqueeze(_until(make, make.ReduceMax(count, keepdims=0)), [0, 1])
    offsets = make.constant(np.arange(bins, dtype=wide).reshape(1, -1, 1)) * size
    at = make.unsqueeze(start, [1, 2]) + offsets + (samples + 0.5) * size / make.Max(count, 1)
    is_read = (samples < count).And(at >= -1).And(at <= length)
    inner = make.Min(make.Max(at, 0), length - 1)
    distance = make.unsqueeze(inner, [3]) - make.unsqueeze(_until(make, length), [0, 1, 2])
    weight = make.Max(1 - distance.Abs(), 0) * make.unsqueeze(is_read, [3]).like(start)
    return make.sum(weight, [2], keepdims=False) / make.Max(count, 1)


@MaxRoiPool.grad
def grad_max_roi_pool(
    x: Term, rois: Term, *, pooled_shape: list[int], spatial_scale: float, node: GradNode
) -> Gradients:
    """Maxima over the columns of the cells, then over their rows; where cells are empty, zeros."""
    make = node.make
    regions = rois.cast(FLOAT64)

    def side(index: int) -> Term:
        return regions.Gather(make.constant(np.array(index, np.int64)), axis=1)

    rows, columns = (
        _cells(side(2 - axis), side(4 - axis), bins, spatial_scale, make.extent(x, 2 + axis))
        for axis, bins in enumerate(pooled_shape)
    )
    chosen = x.Gather(side(0).cast(INT64), axis=0)
    of_columns = _greatest(make.unsqueeze(chosen, [3]), make.unsqueeze(columns, [1, 2]))
    turned = make.unsqueeze(make.swapped(of_columns), [3])
    y = make.swapped(_greatest(turned, make.unsqueeze(rows, [1, 2])))
    return through((y > -np.inf).Where(y, 0), [x, rois], node)


def _greatest(x: Term, is_inside: Term) -> Term:
    """The greatest elements inside, over the last axis."""
    return x.make.along("ReduceMax", is_inside.Where(x, -np.inf), [-1], keepdims=False)


def _cells(first: Term, last: Term, count: int, scale: float, length: Term) -> Term:
    """Whether each element of an axis lies in each cell of each region: [R, count, length]."""
    make = first.make
    low, high = (_rounded(corner * scale) for corner in (first, last))
    extent = make.Max(high - low + 1, 1).cast(FLOAT32)
    cell = make.unsqueeze(extent / count, [1, 2])
    numbers = make.constant(np.arange(count, dtype=np.float32).reshape(1, -1, 1))
    start = make.unsqueeze(low.cast(FLOAT32), [1, 2])
    at = make.unsqueeze(_until(make, _number(make, length)).cast(FLOAT32), [0, 1])
    begin, end = (numbers * cell).Floor(), ((numbers + 1) * cell).Ceil()
    return (at >= start + begin).And(at < start + end)


def _rounded(x: Term) -> Term:
    """To the nearest integer, halves away from zero."""
    return (x.Abs() + 0.5).Floor() * x.Sign()
