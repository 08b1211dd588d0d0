"""Convolutions, found in what they compute: sums of products over windows of an image.

Any computation whose value holds one such sum is a convolution, whichever operators it came from.
What is found are its axes and, for each spatial one, how taps and results move over the image. How
a convolution is computed, directly or another way, is decided by schedules.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fornix.compile.blocked import CHANNELS, LEAST_LANES
from fornix.compile.cost import outer_reductions
from fornix.compile.products import Product, products
from fornix.compile.words import is_word
from fornix.ir.dim import DimLike, less
from fornix.ir.dim.expression import Atom, Floor, atoms, coefficient, terms_of, variables
from fornix.ir.loops import (
    Index,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    substitute_scalar,
    walk,
)


@dataclass(frozen=True)
class Spatial:
    """An axis of the image: ``out`` of the result reads ``place = out·stride + tap·dilation``.

    Places count from the first one that is read, which is in the padding if there is any.
    """

    out: Variable
    tap: Variable | None
    """None where there is one tap."""
    stride: int
    dilation: int
    place: Variable

    @property
    def taps(self) -> DimLike:
        """Number of taps."""
        return 1 if self.tap is None else self.tap.extent

    @property
    def read(self) -> DimLike:
        """The place that ``tap`` of ``out`` reads."""
        tap: DimLike = 0 if self.tap is None else self.tap.dim
        return self.out.dim * self.stride + tap * self.dilation


@dataclass(frozen=True)
class Convolution:
    """``Σ image[batch, channels, places] · weights[filter, channels, taps]`` in a store's value.

    With groups the image depends on the filter too; a depthwise one sums over taps alone.
    """

    store: Store
    sum: Reduce
    product: Product
    """Of the image and the weights."""
    image: Scalar
    """What is read at `Spatial.place` of each axis, 0 in the padding, over batch and channels."""
    weights: Scalar
    batch: tuple[Variable, ...]
    filter: Variable
    channels: tuple[Variable, ...]
    """The other axes of the sum: one, as a rule."""
    spatial: tuple[Spatial, ...]

    @property
    def has_groups(self) -> bool:
        """Whether not every filter reads every channel."""
        return self.filter in self.image.variables

    @property
    def is_depthwise(self) -> bool:
        """Whether every filter reads one channel of its own."""
        return self.has_groups and not self.channels

    @property
    def is_in_place(self) -> bool:
        """Whether the image lies in memory as it is read: nothing is padded, nothing computed."""
        is_load = isinstance(self.image, Load) and self.image.guard is None
        return is_load or is_word(self.image)

    @property
    def has_taps(self) -> bool:
        """Whether windows have more than one element."""
        return any(s.tap is not None for s in self.spatial)

    @property
    def is_product(self) -> bool:
        """Whether it is a product of matrices: one axis to sum over, and no taps."""
        return not self.has_taps and len(self.channels) == 1

    @property
    def sums_words(self) -> bool:
        """Whether what it multiplies are words of bytes, or pairs of integers."""
        return self.product.op in {"dot2i", "dot4"}

    @property
    def with_all_places(self) -> Convolution:
        """Itself with axes that follow the filter counted to the image, though without taps."""
        axes = self.store.axes
        if self.filter not in axes or not self.has_taps:
            return self
        after = [a for a in self.batch if axes.index(a) > axes.index(self.filter)]
        batch = tuple(a for a in self.batch if a not in after)
        spatial = (*(Spatial(a, None, 1, 1, a) for a in after), *self.spatial)
        return dataclasses.replace(self, batch=batch, spatial=spatial)

    def image_at(self, values: Mapping[Atom, DimLike]) -> Scalar:
        """`image` at some place, for some channel."""
        return substitute_scalar(self.image, values)


@dataclass(frozen=True)
class Groups:
    """``filter = group·filters + f``: which channels a filter reads depends on its group only."""

    count: int
    filters: int
    """Of one group."""
    axis: Variable
    image: Scalar
    """The image over `axis` instead of the filter."""

    @property
    def are_few(self) -> bool:
        """Whether the filters of a group fill no vectors, be it by halves."""
        return self.count > 1 and self.filters % LEAST_LANES != 0


def convolution(store: Store) -> Convolution | None:
    """``store`` as a convolution; None if it is none. Axes of extent 1 may be left out."""
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return None
    for product in products(folds[0].body):
        image = product.left.variables
        filters = [a for a in store.axes if a in product.right.variables]
        filters = filters or _single(store, image)
        if len(filters) == 1 and image & {a for a in store.axes if a is not filters[0]}:
            return _found(store, folds[0], product, filters[0])
    return None


def _single(store: Store, image: Collection[Atom]) -> list[Variable]:
    """The axis of the one filter: it has one element, as others may have beside it."""
    found = [a for a in store.axes if a.extent == 1 and a not in image]
    return sorted(found, key=lambda a: abs(store.axes.index(a) - CHANNELS))[:1]


def groups(c: Convolution) -> Groups | None:
    """The groups of ``c``; None if each filter reads another channel."""
    if not isinstance(c.filter.extent, int):
        return None
    if c.filter.extent == 1:
        return Groups(1, 1, Variable("g", 1), substitute_scalar(c.image, {c.filter: 0}))
    if not c.has_groups:
        return Groups(1, c.filter.extent, Variable("g", 1), c.image)
    divisors = (a for node in walk(c.image) for d in node.dims for a in atoms(d))
    sizes = {a.den for a in divisors if isinstance(a, Floor) and variables(a.num) == {c.filter}}
    for size in sorted((n for n in sizes if isinstance(n, int)), reverse=True):
        count, rest = divmod(c.filter.extent, size)
        axis, one = Variable("g", count), Variable("f", size)
        image = substitute_scalar(c.image, {c.filter: axis.dim * size + one.dim})
        if rest == 0 and one not in image.variables:
            return Groups(count, size, axis, image)
    return None


def each_for_itself(c: Convolution) -> Groups | None:
    """The channels of a depthwise ``c`` as groups of one filter."""
    count = c.filter.extent
    if not c.is_depthwise or not isinstance(count, int):
        return None
    return Groups(count, 1, c.filter, c.image)


def _found(store: Store, e: Reduce, product: Product, axis: Variable) -> Convolution | None:
    image, weights = product.left, product.right
    is_out = {a: a in image.variables or a.extent == 1 for a in store.axes if a is not axis}
    outs = [a for a, is_one in is_out.items() if is_one]
    spatial: dict[Variable, Spatial] = {}
    channels: list[Variable] = []
    for tap in e.axes:
        if tap not in image.variables or tap not in weights.variables:
            return None
        found = window_over(image, tap, [a for a in outs if a not in spatial])
        if found is None:
            channels.append(tap)
        else:
            image = found.image
            spatial[found.axis.out] = found.axis
    # What follows the first axis with taps are axes of the image as well.
    first = min((outs.index(out) for out in spatial), default=min(1, len(outs) - 1))
    axes = tuple(spatial.get(a) or Spatial(a, None, 1, 1, a) for a in outs[first:])
    batch = tuple(outs[:first])
    return Convolution(store, e, product, image, weights, batch, axis, tuple(channels), axes)


@dataclass(frozen=True)
class Window:
    """The axis over which a tap moves, and what is read by its places."""

    image: Scalar
    axis: Spatial


def window_over(image: Scalar, tap: Variable, outs: Sequence[Variable]) -> Window | None:
    """The axis over which ``tap`` moves, and ``image`` by its places; None if there is none."""
    steps = {(out, *step) for out in outs for step in _steps(image, tap, out)}
    for out, stride, dilation in sorted(steps, key=lambda x: (x[1] * x[2], outs.index(x[0]))):
        place = Variable("y", (out.extent - 1) * stride + (tap.extent - 1) * dilation + 1)
        axis = Spatial(out, tap, stride, dilation, place)
        of_tap = 1 if dilation == 1 else pow(dilation, -1, stride)
        of_out = (1 - of_tap * dilation) // stride  # so that both together move by one place
        values: dict[Atom, DimLike] = {out: place.dim * of_out, tap: place.dim * of_tap}
        found = substitute_scalar(image, values)
        if substitute_scalar(found, {place: axis.read}) is image:
            return Window(found, axis)
    return None


def _steps(image: Scalar, tap: Variable, out: Variable) -> Iterator[tuple[int, int]]:
    """Strides and dilations by which ``out`` and ``tap`` may move over one axis.

    In an address, windows side by side look like rows of a matrix, and channels like far taps: one
    axis is what overlaps, or what a guard says is one.
    """
    for node in walk(image):
        is_sure = isinstance(node, Index)
        if out.extent == 1 and not is_sure:
            continue
        for d in node.dims:
            of_out, of_tap = coefficient(d, out), coefficient(d, tap)
            if of_out is None or of_tap is None or of_out[0] == 0 or of_tap[0] == 0:
                continue
            step = _ratio(of_out[0], of_tap[0])
            if step is not None and (is_sure or _overlaps(*step, out, tap)):
                yield step


def _ratio(of_out: DimLike, of_tap: DimLike) -> tuple[int, int] | None:
    """The least stride and dilation that are to one another as two coefficients are."""
    stride, dilation = (math.gcd(*terms_of(d).values()) for d in (of_out, of_tap))
    both = math.gcd(stride, dilation)
    found = stride // both, dilation // both
    return found if of_out * found[1] == of_tap * found[0] else None


def _overlaps(stride: int, dilation: int, out: Variable, tap: Variable) -> bool:
    """Whether windows have places in common, or lie between the taps of one another."""
    if (stride > 1 or dilation == 1) and not less(stride, (tap.extent - 1) * dilation + 1):
        return False
    return dilation == 1 or bool(less(dilation, (out.extent - 1) * stride + 1))


__all__ = [
    "Convolution",
    "Groups",
    "Spatial",
    "Window",
    "convolution",
    "each_for_itself",
    "groups",
    "window_over",
]
