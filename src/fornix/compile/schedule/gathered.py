"""Rows that lie apart in memory, put side by side before sums read them.

A norm of an image that was transposed and reshaped finds each element by dividing its place in the
row: once for the mean, once for the spread, once for the result, and never a vector at a time. A
sum over a row that is joined of many parts asks of each element which of them it lies in; a copy is
made part by part. Decided here is what is copied into rows first; what becomes of both parts, other
schedules do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fornix.compile.axes import flips
from fornix.compile.reductions import reductions
from fornix.compile.schedule.packing import filled
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, Floor, atoms, substitute, variables
from fornix.ir.loops import (
    Apply,
    Load,
    Scalar,
    Store,
    Variable,
    load,
    replace,
    substitute_scalar,
    walk,
)

LEAST = 16
"""Elements of a row from which on it is worth a copy."""
READERS = 2
"""Sums that read a row of which there is one."""
JOINED = 4
"""Places where a part of a row ends and the next one begins, from which on one sum is enough: of 8
parts of 12 elements 2048 rows take 29 µs so for 156, of 4 the same."""


@dataclass(frozen=True)
class _Row:
    """What is read along one axis, which is called `axis` in all that read it."""

    value: Scalar
    axis: Variable
    readers: int
    """Sums from which on a copy is worth while."""


def gathered(store: Store) -> list[Store] | None:
    """The copies of rows that ``store`` reads apart, and ``store`` reading those; None if none."""
    sums = list(_sums(store))
    extents = {axis.extent for _, axis in sums}
    if len(extents) != 1:
        return None
    row = Variable("r", sums[0][1].extent)
    readers: dict[_Row, int] = {}
    for body, axis in sums:
        for found in {x for _, x in _apart(body, axis, row)}:
            readers[found] = readers.get(found, 0) + 1
    copies = {
        x: filled("rows", _axes(x, store), x.value)
        for x, count in readers.items()
        if count >= x.readers
    }
    whole = [(store.value, axis) for axis in store.axes if axis.extent == row.extent]
    new: dict[Scalar, Scalar] = {}
    for value, axis in (*sums, *whole):
        for e, found in _apart(value, axis, row):
            if found in copies:
                buffer = copies[found].buffer
                place = buffer.address(tuple(a.dim for a in _axes(found, store)))
                new[e] = load(buffer, substitute(place, {row: axis.dim}, {}))
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


def _apart(value: Scalar, axis: Variable, row: Variable) -> Iterator[tuple[Scalar, _Row]]:
    """What in ``value`` is read apart along ``axis``, as reading along ``row``."""
    inside: set[Scalar] = set()
    for e in reversed([*walk(value)]):
        readers = 0 if e in inside or axis not in e.variables else _readers(e, axis)
        if not readers:
            continue
        inside.update(walk(e))
        units: Mapping[Atom, DimLike] = {
            a: 0 for a in e.variables if isinstance(a, Variable) and a.extent == 1
        }
        yield e, _Row(substitute_scalar(e, {**units, axis: row.dim}), row, readers)


def _readers(e: Scalar, axis: Variable) -> int:
    """How many sums have to read ``e`` along ``axis`` to be worth a copy; 0 if none are."""
    if isinstance(e, Load) and not e.args and axis in variables(e.address):
        is_divided = any(isinstance(a, Floor) and axis in a.variables for a in atoms(e.address))
        return READERS if is_divided else 0
    chooses = isinstance(e, Apply) and e.op == "select" and flips(e.args[0], axis)
    return 1 if chooses and len(flips(e, axis)) >= JOINED else 0


def _axes(found: _Row, store: Store) -> list[Variable]:
    """The axes of ``store`` that tell rows apart, and that of the row."""
    return [*(a for a in store.axes if a in found.value.variables), found.axis]


__all__ = ["gathered"]
