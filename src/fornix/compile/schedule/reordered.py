"""Sums of products whose results lie across: summed in an order of their own, and turned then.

A product of matrices needs columns side by side in its right factor and in its result. Where an
einsum, or transpositions that were read into a product, leave none, all that both factors have
alone becomes rows and columns of a result in memory of its own; decided here is which factor has
the columns, and whether it is copied to have them side by side.
"""

from __future__ import annotations

import math

from fornix.compile.cost import accesses, likely, outer_reductions, stride_of
from fornix.compile.products import Product, products
from fornix.compile.schedule.contraction import contraction
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.work import OPERATIONS_OF
from fornix.ir.dim import less
from fornix.ir.loops import (
    Apply,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    const,
    load,
    replace,
    walk,
)
from fornix.ir.loops.scalar import reduction

LEAST = 8
"""Rows, columns and terms from which on ways through memory cost less than is gained; and columns
of a sum that is computed where its result lies."""
DEAR = 8
"""Operations for each element from which on vectors of several rows gain more than memory costs."""


def has_few_columns(store: Store) -> bool:
    """Whether ``store`` is a product of matrices that vectors of columns would leave half empty."""
    c = contraction(store)
    return c is not None and likely(c.column.extent) < LEAST


def with_rest_apart(store: Store) -> list[Store] | None:
    """The sum of ``store`` and what is made of it, which takes long in vectors that are half empty.

    None if there is little to make, or the vectors are fuller.
    """
    c = contraction(store)
    if c is None or c.row is None or likely(c.column.extent) >= LEAST:
        return None
    rest = replace(store.value, {c.sum: const(0, c.sum.dtype)})
    work = sum(OPERATIONS_OF.get(e.op, 0) for e in walk(rest) if isinstance(e, Apply))
    if work < DEAR or not {*store.axes} <= c.sum.variables:
        return None
    sums = filled("sums", store.axes, c.sum)
    read = load(sums.buffer, sums.buffer.address(tuple(a.dim for a in store.axes)))
    value = replace(store.value, {c.sum: read})
    return [sums, Store(store.buffer, store.axes, store.address, value)]


def reordered(store: Store) -> list[Store] | None:
    """What is copied, the sum of ``store`` as a product of matrices, and the rest of it.

    None if it is no such sum, or a small one.
    """
    folds = outer_reductions(store.value)
    if len(folds) != 1 or folds[0].op != "sum":
        return None
    (e,) = folds
    if any(isinstance(x, Reduce) for x in walk(e.body)):
        return None
    found = [made for p in products(e.body) if (made := _ordered(store, e, p)) is not None]
    if not found:
        return None
    axes, stores = min(found, key=lambda made: len(made[1]))
    sums = stores[-1].buffer
    read = load(sums, sums.address(tuple(a.dim for a in axes)))
    value = replace(store.value, {e: read})
    return [*stores, Store(store.buffer, store.axes, store.address, value)]


def _ordered(store: Store, e: Reduce, p: Product) -> tuple[list[Variable], list[Store]] | None:
    """The axes of the sum with the columns of `right`, and the stores that compute it.

    The last one is the sum itself; before it stands the copy of `right` if there has to be one.
    None if there are few columns, or factors are read again and again, as windows of an image are.
    """
    axes = [a for a in store.axes if a in e.variables and a.extent != 1]
    rows = [a for a in axes if a not in p.right.variables]
    columns = [a for a in axes if a not in p.left.variables]
    batch = [a for a in axes if a not in rows and a not in columns]
    if min(math.prod(likely(a.extent) for a in part) for part in (rows, columns, e.axes)) < LEAST:
        return None
    if not all(_is_read_once(x) for x in accesses([e.body])):
        return None
    rows, columns = _as_they_lie(p.left, rows), _as_they_lie(p.right, columns)
    order, terms = [*batch, *rows, *columns], [*batch, *e.axes, *columns]
    sums = filled("sums", order, e)
    if _fits(sums, columns):
        return order, [sums]
    copy = filled("right", terms, p.right)
    right = load(copy.buffer, copy.buffer.address(tuple(a.dim for a in terms)))
    sums = filled("sums", order, reduction("sum", e.axes, p.of(p.left, right)))
    return (order, [copy, sums]) if _fits(sums, columns) else None


def _is_read_once(e: Load) -> bool:
    """Whether each element of a tensor is read at one place of all its axes, or none."""
    count = math.prod(a.extent for a in e.variables if isinstance(a, Variable))
    return e.guard is None and not e.args and less(math.prod(e.buffer.shape), count) is False


def _as_they_lie(e: Scalar, axes: list[Variable]) -> list[Variable]:
    """``axes`` in the order in which ``e`` has them in memory, the farthest apart first."""

    def step(axis: Variable) -> float:
        steps = [stride_of(x.address, axis) for x in accesses([e])]
        return max((math.inf if one is None else one for one in steps), default=0)

    return sorted(axes, key=step, reverse=True)


def _fits(sums: Store, columns: list[Variable]) -> bool:
    """Whether all ``columns`` are one in a product of matrices, side by side in its factor."""
    c = contraction(normal(sums))
    if c is None or not isinstance(c.right, Load) or stride_of(c.right.address, c.column) != 1:
        return False
    return bool(c.column.extent == math.prod(a.extent for a in columns))


__all__ = ["has_few_columns", "reordered", "with_rest_apart"]
