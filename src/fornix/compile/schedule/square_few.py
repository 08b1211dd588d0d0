"""Pointwise convolutions in tile registers, of which a run may tell that they have few places.

Splitting weights, and multiplying registers that are nearly empty, takes longer there than products
in vectors. Those read weights that are packed as float32, each once for all the places.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields

from fornix.compile.axes import rewritten
from fornix.compile.convolution import Convolution, Groups
from fornix.compile.cost import outer_reductions
from fornix.compile.nest import Block, Chunks, Patch, Put, Span, Taps, When
from fornix.compile.schedule.chunks import looped
from fornix.compile.schedule.spans import by_size
from fornix.compile.schedule.winograd import Stage
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom
from fornix.ir.loops import Scalar, Store, Variable, apply, index, replace, substitute_scalar
from fornix.ir.loops.scalar import reduction

MOST_PLACES = 28
"""Up to which vectors are faster."""
WRITTEN = 4
"""Terms that are written out in the inner loop, of 16 that lie together: there is a box for each
number of places, and all 16 in each were most of the code of such a convolution."""


@dataclass(frozen=True)
class Weights:
    """How weights lie that are float32: panel by panel, the terms of its filters side by side."""

    panels: tuple[Variable, ...]
    steps: tuple[Variable, ...]
    half: Variable
    word: Variable
    block: Span
    lane: Variable
    filter: DimLike
    width: DimLike | None
    """Of the lanes, those that are filters, if not all are."""
    read: Scalar
    term: DimLike
    """The channel at `half` and `word` of a step."""
    halves: DimLike
    """That a step has; the last one may have one."""


def may_be_few(c: Convolution) -> bool:
    """Whether ``c`` is pointwise, and a run tells how many places it has."""
    is_open = not all(isinstance(s.out.extent, int) for s in c.spatial)
    return is_open and not c.has_taps and c.is_in_place and all(s.stride == 1 for s in c.spatial)


def either(stage: Stage, c: Convolution, few: Block = ()) -> Stage:
    """``stage`` where ``c`` has many places, else ``few``."""
    count: DimLike = 1
    for s in c.spatial:
        count = count * s.out.extent
    are_many = apply("lt", index(MOST_PLACES), index(count))
    are_few = apply("le", index(count), index(MOST_PLACES))
    body: Block = (When(are_many, stage.nest.body),)
    if few:
        body = (When(are_few, few), *body)
    return replace_fields(stage, nest=replace_fields(stage.nest, body=body))


def few_places(c: Convolution, given: Groups, w: Weights) -> Block:
    """``c`` in vectors of filters."""
    (channel,) = c.channels
    at: dict[Atom, DimLike] = {s.place: s.out.dim for s in c.spatial}
    image = substitute_scalar(given.image, {**at, channel: w.term})
    turn, word = Variable("u", w.word.extent // WRITTEN), Variable(w.word.name, WRITTEN)
    product = substitute_scalar(
        c.product.of(image, w.read), {w.word: turn.dim * WRITTEN + word.dim}
    )
    terms = (*w.steps, w.half, turn, word)
    value = replace(c.store.value, {c.sum: reduction("sum", terms, product)})
    store = Store(c.store.buffer, c.store.axes, c.store.address, value)
    *rows, pixels = (s.out for s in c.spatial)
    axes = (*c.batch, *w.panels, *rows, pixels, w.block.axis, w.lane)
    store = rewritten(store, axes, {c.filter: w.filter})
    (result,) = outer_reductions(store.value)
    put = Put(store.buffer, store.address, store.value)
    loops = (*(Taps(a, 0, a.extent) for a in w.steps), Taps(w.half, 0, w.halves))
    loops = (*loops, Taps(turn, 0, turn.extent))

    def box(span: Span) -> Patch:
        return Patch(result, (span, w.block), w.lane, loops, (word,), put, w.width)

    body = looped(rows, tuple(by_size(pixels, MOST_PLACES, box)))
    return (Chunks((*w.panels, *c.batch), body),)


__all__ = ["MOST_PLACES", "Weights", "either", "few_places", "may_be_few"]
