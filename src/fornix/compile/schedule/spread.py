"""Convolutions to few filters: places times weights first, then what each result sums of them.

Filters that fill no vectors leave registers without work, and a transposed convolution meets zeros
between its places. The sum over channels alone is a product of matrices: for each place of the
image, which is read as it lies, one row for each filter and tap. A result adds up those elements
that its taps meet, and no others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.convolution import Convolution, Groups, Spatial, each_for_itself, groups
from fornix.compile.cost import accesses, likely
from fornix.compile.phases import FEW_FILTERS, Phased, are_joined, has_waste, phased_axes
from fornix.compile.schedule.inside import is_even, limits, needed_for
from fornix.compile.schedule.packing import filled
from fornix.compile.schedule.small_images import is_less
from fornix.ir.dim import DimLike, known, maximum, minimum
from fornix.ir.dim.expression import Atom, coefficient
from fornix.ir.loops import (
    TRUE,
    Buffer,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

LEAST_TERMS, MOST_ROWS = 16, 256
"""Of sums from which on it pays to write and read them once for each tap; and filters times taps
up to which products are in a cache when they are summed up."""
MANY_TERMS, FEW_ROWS, SHORT_ROWS = 64, 64, 384
"""The same without phases, where the other ways lose less; but for short rows of an image."""
READING = 16
"""Multiplications of an element that it costs to read a product which is in no cache."""
WAITING = 4
"""Vectors of results in these, at most: then each product waits for the one before."""

_SERIAL = itertools.count()


@dataclass(frozen=True)
class _Axis:
    """An axis of the image: with `phases`, of a transposed convolution, else with windows."""

    out: Variable
    tap: Variable
    place: Variable
    """That holds data."""
    first: DimLike
    """The first such place, as windows count."""
    dilation: int
    phases: Phased | None

    def term(self, own: DimLike, place: DimLike) -> _Term:
        """What the phase ``own`` adds at ``place``."""
        if self.phases is None:
            return _Term(self.tap, self.tap.dim, place + self.tap.dim * self.dilation - self.first)
        turn = Variable(self.tap.name, self.phases.taps)
        at = turn.dim if self.phases.taps > 1 else 0
        return _Term(turn, self.phases.tap_of(at, own), place + at + self.phases.ahead - self.first)

    def is_met(self, term: _Term) -> Scalar:
        """Whether there is such a tap, and it meets data."""
        low, high = index(term.place), index(self.place.extent)
        is_met = apply("and", apply("le", index(0), low), apply("lt", low, high))
        if self.phases is None or not has_waste([self.phases]):
            return is_met
        return apply("and", is_met, apply("lt", index(term.tap), index(self.tap.extent)))


@dataclass(frozen=True)
class _Term:
    """A tap, as `axis` counts those of one phase, and the place of the data that it meets."""

    axis: Variable
    tap: DimLike
    place: DimLike


def spread(c: Convolution, lanes: int) -> tuple[list[Store], DimLike] | None:
    """The products, their sums and the result of ``c``, and 1 where that is best, 0 where not.

    None if it never is.
    """
    given, phased = groups(c) or each_for_itself(c), phased_axes(c)
    if given is None or phased is None or not c.sum.dtype.is_float or c.product.op != "mul":
        return None
    if any(_is_dilated(c, x) for x in phased):
        return None
    windows = [s for s in c.spatial if s.tap is not None and s.out not in {x.out for x in phased}]
    axes = [*map(_of_phases, phased), *map(_of_windows, windows)]
    channels = [a for a in c.channels if a not in {x.tap for x in axes}]
    others: dict[Atom, DimLike] = {s.place: s.read for s in c.spatial if s not in windows}
    image, axes = _data(substitute_scalar(given.image, others), axes)
    row = c.spatial[-1].out.extent * given.filters
    is_short = is_less(row, WAITING * lanes + 1)
    pays = _pays(given, channels, axes, is_short)
    if any(s.stride > 1 for s in windows) or known(pays) == 0:
        return None
    one = Variable("f", given.filters)
    weights = substitute_scalar(c.weights, {c.filter: given.axis.dim * given.filters + one.dim})
    moved = {x.out for x in axes}
    kept = [a for a in (*c.batch, *(s.out for s in c.spatial)) if a not in moved]
    rows = (*kept, given.axis, one, *(x.tap for x in axes), *(x.place for x in axes))
    whole = reduction("sum", tuple(channels), c.product.of(image, weights))
    products = filled("products", rows, whole)
    group = c.filter.dim // given.filters
    at = (*(a.dim for a in kept), group, c.filter.dim - group * given.filters)
    return [products, *_sums(c, products.buffer, at, axes)], pays


def _is_dilated(c: Convolution, x: Phased) -> bool:
    """Whether taps are further apart than places: more than their phase decides what they meet."""
    steps = [coefficient(e.address, x.tap) for e in accesses([c.product.left])]
    return any(step is None or step[0] != 0 for step in steps)


def _of_phases(x: Phased) -> _Axis:
    return _Axis(x.out, x.tap, Variable("z", x.last + 1), 0, 1, x)


def _of_windows(s: Spatial) -> _Axis:
    return _Axis(s.out, s.tap or s.out, s.place, 0, s.dilation, None)


def _pays(
    given: Groups, channels: Sequence[Variable], axes: Sequence[_Axis], is_short: DimLike
) -> DimLike:
    """Whether there are few filters, and enough channels; or no other way meets no other places.

    Without phases, there are more filters times taps only where rows are short, as ``is_short``
    says, or the image is small.
    """
    if not axes or not all(isinstance(x.tap.extent, int) for x in axes):
        return 0
    rows = given.filters * math.prod(likely(x.tap.extent) for x in axes)
    terms = math.prod(likely(a.extent) for a in channels)
    phased = [x.phases for x in axes if x.phases is not None]
    is_few = given.filters <= FEW_FILTERS
    if not phased:
        if terms < MANY_TERMS or not is_few:
            return 0
        near = is_short if rows <= SHORT_ROWS else 0
        return 1 if rows <= FEW_ROWS else maximum(near, _is_small(axes, terms))
    if has_waste(phased):
        return int(are_joined(phased, given, is_depthwise=not channels))
    return int(is_few and terms >= LEAST_TERMS and rows <= MOST_ROWS)


def _is_small(axes: Sequence[_Axis], terms: int) -> DimLike:
    """Whether reading products costs less than to multiply zeros beside the image would."""
    places = math.prod(x.place.extent for x in axes)
    outs = math.prod(x.out.extent for x in axes)
    return 0 if places == outs else is_less(places * terms + outs * READING, outs * terms)


def _data(image: Scalar, axes: Sequence[_Axis]) -> tuple[Scalar, list[_Axis]]:
    """``image`` by the places that hold data, and ``axes`` of these."""
    found = []
    for x in axes:
        if x.phases is not None:
            image = substitute_scalar(image, x.phases.at(x.place.dim))
        low: DimLike = 0
        high: DimLike = x.place.extent
        guards = {g for g in needed_for(image, "sum") if g.variables == {x.place}}
        own = {g for g in guards if is_even(g, x.place)}
        for guard in own:
            first, end = limits(guard, x.place)
            low, high = maximum(low, first), minimum(high, end)
        place = Variable("z", high - low)
        image = replace(image, dict.fromkeys(own, TRUE))
        image = substitute_scalar(image, {x.place: place.dim + low})
        found.append(replace_fields(x, place=place, first=low))
    return image, found


def _sums(
    c: Convolution, products: Buffer, at: tuple[DimLike, ...], axes: Sequence[_Axis]
) -> Iterator[Store]:
    """What makes the result of ``c`` of the ``products`` of its filters, which are ``at`` a place.

    Phases are summed up one after the other: what they have side by side lies apart in the result.
    """
    own = {x.out: Variable("r", x.phases.stride) for x in axes if x.phases is not None}
    place = {x.out: x.out if x.phases is None else x.phases.place for x in axes}
    terms = [x.term(own[x.out].dim if x.out in own else 0, place[x.out].dim) for x in axes]
    inside: Scalar = TRUE
    for x, term in zip(axes, terms, strict=True):
        inside = apply("and", inside, x.is_met(term))
    address = products.address((*at, *(t.tap for t in terms), *(t.place for t in terms)))
    value = select(inside, guarded(load(products, address), inside), 0)
    whole = reduction("sum", tuple(t.axis for t in terms if t.axis.extent != 1), value)
    if own:
        lead = [a for a in c.store.axes if a not in place]
        outs = [a for a in c.store.axes if a in place]
        rows = (*lead, *(own[a] for a in outs if a in own), *(place[a] for a in outs))
        sums = Buffer(f"sums#{next(_SERIAL)}", [a.extent for a in rows], c.sum.dtype)
        sums.source = Store(sums, rows, sums.address(tuple(a.dim for a in rows)), whole)
        yield sums.source
        read = {x.out: x.phases.read(x.out.dim) for x in axes if x.phases is not None}
        phase = (read[a][0] for a in outs if a in own)
        moved = (read[a][1] if a in own else a.dim for a in outs)
        whole = load(sums, sums.address((*(a.dim for a in lead), *phase, *moved)))
    value = replace(c.store.value, {c.sum: whole})
    yield Store(c.store.buffer, c.store.axes, c.store.address, value)


__all__ = ["spread"]
