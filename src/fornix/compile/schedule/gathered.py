"""Rows that lie apart in memory, put side by side before several sums read them.

A norm of an image that was transposed and reshaped finds each element by dividing its place in the
row: once for the mean, once for the spread, once for the result, and never a vector at a time.
Decided here is which loads are copied into rows first; what becomes of both parts, other schedules
do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fornix.compile.reductions import reductions
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, Floor, atoms, substitute, variables
from fornix.ir.loops import Buffer, Load, Scalar, Store, Variable, load, replace, walk

LEAST = 16
"""Elements of a row from which on it is worth a copy."""
READERS = 2
"""Sums that read a row of which there is one."""

_SERIAL = itertools.count()


@dataclass(frozen=True)
class _Row:
    """What is read along one axis, which is called `axis` in all that read it."""

    buffer: Buffer
    address: DimLike
    axis: Variable


def gathered(store: Store) -> list[Store] | None:
    """The copies of rows that ``store`` reads apart, and ``store`` reading those; None if none."""
    sums = list(_sums(store))
    extents = {axis.extent for _, axis in sums}
    if len(sums) < READERS or len(extents) != 1:
        return None
    row = Variable("r", sums[0][1].extent)
    readers: dict[_Row, int] = {}
    for body, axis in sums:
        for found in {x for _, x in _apart(body, axis, row)}:
            readers[found] = readers.get(found, 0) + 1
    copies = {x: _copy(x, store) for x, count in readers.items() if count >= READERS}
    whole = [(store.value, axis) for axis in store.axes if axis.extent == row.extent]
    new: dict[Scalar, Scalar] = {}
    for value, axis in (*sums, *whole):
        for e, found in _apart(value, axis, row):
            if found in copies:
                place = substitute(_place(copies[found], found, store), {row: axis.dim}, {})
                new[e] = load(copies[found].buffer, place)
    if not new:
        return None
    value = replace(store.value, new)
    return [*copies.values(), Store(store.buffer, store.axes, store.address, value)]


def _sums(store: Store) -> Iterator[tuple[Scalar, Variable]]:
    """What is reduced along one axis, with that axis, where it is the same for a whole row."""
    for e in reductions([store.value]):
        long = [a for a in e.axes if a.extent != 1]
        if len(long) != 1 or not e.variables <= {*store.axes}:
            continue
        if isinstance(long[0].extent, int) and long[0].extent >= LEAST:
            yield e.body, long[0]


def _apart(value: Scalar, axis: Variable, row: Variable) -> Iterator[tuple[Load, _Row]]:
    """The loads in ``value`` whose places divide ``axis``, as reading along ``row``."""
    for e in walk(value):
        if not isinstance(e, Load) or e.args or axis not in variables(e.address):
            continue
        if any(isinstance(a, Floor) and axis in a.variables for a in atoms(e.address)):
            units: Mapping[Atom, DimLike] = {
                a: 0 for a in variables(e.address) if isinstance(a, Variable) and a.extent == 1
            }
            yield e, _Row(e.buffer, substitute(e.address, {**units, axis: row.dim}, {}), row)


def _outer(found: _Row, store: Store) -> list[Variable]:
    """The axes of ``store`` that tell rows apart."""
    return [a for a in store.axes if a in variables(found.address)]


def _copy(found: _Row, store: Store) -> Store:
    """What puts the elements of ``found`` side by side, for all of its rows."""
    axes = [*_outer(found, store), found.axis]
    fresh = tuple(Variable(a.name, a.extent) for a in axes)
    buffer = Buffer(f"rows#{next(_SERIAL)}", [a.extent for a in axes], found.buffer.dtype)
    values: dict[Atom, DimLike] = {a: new.dim for a, new in zip(axes, fresh, strict=True)}
    value = load(found.buffer, substitute(found.address, values, {}))
    first = Store(buffer, fresh, buffer.address(tuple(a.dim for a in fresh)), value)
    buffer.source = first
    return first


def _place(copy: Store, found: _Row, store: Store) -> DimLike:
    """Where ``copy`` put what ``found`` reads."""
    axes = [*_outer(found, store), found.axis]
    return copy.buffer.address(tuple(a.dim for a in axes))


__all__ = ["gathered"]
