"""Rows read at places from memory that lie near each other, as those of a resized image do.

To gather the elements of a row takes an access for each. Where places rise by little from one
element to the next, which only a run tells, they are picked out of vectors that are read whole. A
run takes the way that its places allow.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from fornix.compile.axes import only_place, rewritten
from fornix.compile.cost import outer_reductions, stride_of
from fornix.compile.emit.picked import picked_bits
from fornix.compile.nest import Block, Chunks, Lanes, Loop, Nest, Picked, Picks, Put, When
from fornix.compile.schedule.chunks import combined, in_scratch
from fornix.compile.target import Target
from fornix.dtype import INT64, DType
from fornix.ir.dim import Dim, DimLike, ceildiv, minimum
from fornix.ir.dim.expression import Atom, substitute, terms_of
from fornix.ir.loops import (
    Buffer,
    Load,
    Loaded,
    Scalar,
    Store,
    Variable,
    apply,
    cast,
    index,
    load,
    substitute_scalar,
)
from fornix.ir.loops import replace as replace_scalar
from fornix.ir.loops.scalar import reduction

ROWS = 16
"""Rows of a piece of work: their numbers cost a division each."""
COUNTS = (1, 2, 4)
"""Vectors that are picked from, as many as places may rise from one element to the next."""
FAR = 1 << 20
"""What a fall by 1 counts as, which is more than any of these."""

_SERIAL = itertools.count()


def picked_nest(store: Store, vector: Variable | None, target: Target, lanes: int) -> Nest | None:
    """Loops over a normal ``store`` whose elements may lie at near places along ``vector``."""
    if vector is None or stride_of(store.address, vector) != 1 or outer_reductions(store.value):
        return None
    bits = _places(store, vector, target, lanes)
    outer = [a for a in store.axes if a is not vector]
    if not bits or not outer:
        return None
    rows = outer[-1]
    block = Variable("b", ceildiv(rows.extent, ROWS))
    row = Variable(rows.name, minimum(rows.extent - block.dim * ROWS, ROWS))
    axes = (*outer[:-1], block)
    part = rewritten(store, (*axes, row, vector), {rows: block.dim * ROWS + row.dim})
    put = Put(part.buffer, part.address, part.value)
    tables = [_tables(vector, lanes, own) for own in bits.values()]
    body = _ways(vector, bits, tables, (Chunks(axes, _rows(put, row, vector)),))
    if len(bits) == 1:  # no tables are read: that matters where results leave the caches
        (place,) = bits
        twice = replace(put, value=_twice(put.value, place, vector))
        is_it, is_not = _is_twice(place, vector)
        whole = (Chunks(axes, (Loop(row, (Lanes(vector, 1, (twice,)),)),)),)
        body = (When(is_it, whole), When(is_not, body))
    scratch, size = in_scratch(itertools.chain(*tables))
    return Nest("map", body, lanes, combined(axes)[0], scratch=scratch, scratch_bytes=size)


def _is_twice(place: Loaded, vector: Variable) -> tuple[Scalar, Scalar]:
    """Whether each value of ``place`` is there for two of ``vector``, in order; whether not."""
    own = Variable("s", vector.extent)
    here = cast(substitute_scalar(place.expr, {vector: own.dim}), INT64)
    half = index(own.dim // 2)
    far = reduction("max", (own,), apply("max", here - half, half - here))
    is_beyond = cast(apply("le", index(place.extent * 2), index(vector.extent - 1)), INT64)
    far = apply("max", far, is_beyond)
    return apply("le", far, 0), apply("lt", 0, far)


def _twice(value: Scalar, place: Loaded, vector: Variable) -> Scalar:
    """``value`` with half of ``vector`` for ``place``, where elements lie at it."""
    at = Dim({(place,): 1})
    return replace_scalar(
        value,
        {
            e: load(e.buffer, e.address - at + vector.dim // 2)
            for e in _outside(value)
            if isinstance(e, Load) and e.guard is None and only_place(e.address, vector) is place
        },
    )


def _rows(put: Put, row: Variable, vector: Variable) -> Block:
    """``put`` for each value of ``row``, for two at once where they read the same elements."""
    places = _alone(put, row)
    if not places:
        return (Loop(row, (Lanes(vector, 1, (put,)),)),)
    pair = Variable(row.name, ceildiv(row.extent, 2))
    ends = (pair.dim * 2, minimum(pair.dim * 2 + 1, row.extent - 1))
    first, other = (_at(put, {row: end}) for end in ends)
    apart: list[Scalar] = []
    for place in places:
        a, b = (substitute_scalar(place.expr, {row: end}) for end in ends)
        apart += [a - b, b - a]
    far = functools.reduce(functools.partial(apply, "max"), apart)
    both = Lanes(vector, 1, (first, replace(other, value=first.value)))
    each = (Lanes(vector, 1, (first,)), Lanes(vector, 1, (other,)))
    is_one, are_two = apply("le", far, 0), apply("lt", 0, far)
    return (Loop(pair, (When(is_one, (both,)), When(are_two, each))),)


def _at(put: Put, values: Mapping[Atom, DimLike]) -> Put:
    address = substitute(put.address, values, {})
    return Put(put.buffer, address, substitute_scalar(put.value, values))


def _alone(put: Put, row: Variable) -> list[Loaded]:
    """The places from memory that alone tell what ``row`` reads; none if something else does."""
    dims = [d for e in _outside(put.value) for d in e.dims]
    factors = {a for d in dims for m in terms_of(d) for a in m if row in a.variables}
    places = [a for a in factors if isinstance(a, Loaded)]
    return places if len(places) == len(factors) else []


def _outside(value: Scalar) -> Iterator[Scalar]:
    """What ``value`` is computed of, but for what tells places."""
    waiting, seen = [value], {value}
    while waiting:
        e = waiting.pop()
        yield e
        waiting += [part for part in e.args if part not in seen]
        seen.update(e.args)


def _places(store: Store, vector: Variable, target: Target, lanes: int) -> dict[Loaded, int]:
    """The places along ``vector`` at which elements lie that can be picked, and bits of these.

    They are the same for all rows.
    """
    found: dict[Loaded, int] = {}
    for e in _outside(store.value):
        if not isinstance(e, Load) or e.guard is not None:
            continue
        place, bits = only_place(e.address, vector), picked_bits(target, e.dtype, lanes)
        if place is None or bits is None or place.wraps or place.variables != {vector}:
            continue
        found.setdefault(place, bits)
    return found


def _tables(vector: Variable, lanes: int, bits: int) -> tuple[Buffer, Buffer]:
    """Memory for what is worked out for a row."""
    count = ceildiv(vector.extent, lanes)
    return (
        Buffer(f"firsts#{next(_SERIAL)}", (count,), INT64),
        Buffer(f"numbers#{next(_SERIAL)}", (count * lanes,), DType.of(f"int{bits}")),
    )


def _ways(
    vector: Variable,
    bits: dict[Loaded, int],
    tables: list[tuple[Buffer, Buffer]],
    body: Block,
) -> Block:
    """``body`` in the way that the greatest step from one place to the next allows."""
    most = _greatest_step([*bits], vector)
    ways: list[When] = []
    low = -1
    for count in COUNTS:
        picks = (
            Picks(place, count, own, *table)
            for (place, own), table in zip(bits.items(), tables, strict=True)
        )
        is_it = apply("and", apply("lt", low, most), apply("le", most, count))
        ways.append(When(is_it, (Picked(vector, tuple(picks), body),)))
        low = count
    return (*ways, When(apply("lt", low, most), body))


def _greatest_step(places: list[Loaded], vector: Variable) -> Scalar:
    """How far ``places`` rise along ``vector`` from one value to the next; `FAR` if one falls."""
    step = Variable("s", vector.extent - 1)
    found: list[Scalar] = []
    for place in places:
        here, there = (
            cast(substitute_scalar(place.expr, {vector: step.dim + k}), INT64) for k in (0, 1)
        )
        found += [there - here, (here - there) * FAR]
    most = functools.reduce(functools.partial(apply, "max"), found)
    return apply("max", reduction("max", (step,), most), 0)


__all__ = ["picked_nest"]
