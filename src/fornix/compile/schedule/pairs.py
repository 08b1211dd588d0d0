"""Products of bytes as products of 16-bit integers, two at a time, which x86-64 has always had.

Where no instruction multiplies bytes, taking them apart takes as long as the products do. So both
factors are widened ahead: stored weights once and for all, the other one as it is copied. What is
left is a convolution or a contraction like any other, with twice the terms.
"""

from __future__ import annotations

from collections.abc import Mapping

from fornix.compile.convolution import Convolution, convolution
from fornix.compile.cost import accesses, likely
from fornix.compile.products import Product
from fornix.compile.schedule.contraction import Contraction, contraction
from fornix.compile.schedule.map import normal
from fornix.compile.target import Target
from fornix.compile.words import word_of
from fornix.dtype import INT32
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Apply,
    Const,
    Constant,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    cast,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.scalar import const, reduction

LEAST_ROWS = 4
"""Rows from which on products outweigh reading weights that are twice as wide."""
LEAST_FILTERS = 8
"""Filters, or columns, from which on widening what all of them read costs little."""


def convolution_in_pairs(c: Convolution, target: Target) -> Convolution | None:
    """``c`` over pairs of channels; None if it stays as it is."""
    if not _is_for(target, c.product) or likely(c.filter.extent) < LEAST_FILTERS:
        return None
    if len(c.channels) > 1:
        return None
    store = _in_pairs(c.store, c.sum, c.product, c.channels[0] if c.channels else None)
    return None if store is None else convolution(store)


def contraction_in_pairs(c: Contraction, target: Target) -> Contraction | None:
    """``c`` over pairs of terms; None if it stays as it is."""
    if not _is_for(target, c.product) or len(c.sum.axes) != 1 or c.row is None:
        return None
    is_stored = all(isinstance(e.buffer.source, Constant) for e in accesses([c.right]))
    if not is_stored or likely(c.row.extent) < LEAST_ROWS:
        return None
    if likely(c.column.extent) < LEAST_FILTERS:
        return None
    store = _in_pairs(c.store, c.sum, c.product, c.sum.axes[0])
    return None if store is None else contraction(normal(store))


def _is_for(target: Target, product: Product) -> bool:
    is_of_bytes = product.op == "dot4" and target.is_x86
    return is_of_bytes and not target.multiplies_bytes(target.vector_bytes)


def _in_pairs(store: Store, e: Reduce, product: Product, four: Variable | None) -> Store | None:
    """``store`` with its sum over pairs instead of the fours of ``four``, or of the only one.

    None if the left factor does not lie in memory: widening it would compute it twice. That is
    little beside taps that all read one word of channels.
    """
    pair = Variable("k", (1 if four is None else four.extent) * 2)
    place = pair.dim // 2 if four is not None else 0
    part = pair.dim - place * 2
    at: dict[Atom, DimLike] = {} if four is None else {four: place}
    lies = _unsigned(product.left, at, part)
    if lies is None and four is None:
        lies = _parted(product.left, part)
    if lies is None or product.is_turned:
        return None
    right = substitute_scalar(product.right, at)
    axes = tuple(pair if a is four else a for a in e.axes)
    axes = axes if four is not None else (*axes, pair)
    whole = reduction("sum", axes, apply("dot2i", lies, _signed(right, part)))
    return Store(store.buffer, store.axes, store.address, replace(store.value, {e: whole}))


def _signed(e: Scalar, part: DimLike) -> Scalar:
    """The lower or the upper bytes of ``e``, which are signed, as the halves of an int32."""
    bits = apply("shr", e, cast(index(part * 16), INT32))
    low, high = (apply("shr", apply("shl", bits, 24 - 8 * k), 24) for k in range(2))
    return apply("or", apply("and", low, 0xFFFF), apply("shl", high, 16))


def _parted(e: Scalar, part: DimLike) -> Scalar:
    """The lower or the upper bytes of ``e``, which are unsigned, as the halves of an int32."""
    bits = apply("shr", e, cast(index(part * 16), INT32))
    return apply("or", apply("and", bits, 255), apply("shl", apply("and", bits, 0xFF00), 8))


def _unsigned(e: Scalar, at: Mapping[Atom, DimLike], part: DimLike) -> Scalar | None:
    """The same of unsigned bytes that lie in memory, taken ``at``; None if they do not.

    They may be moved by a constant, and stand in a border of one.
    """
    if isinstance(e, Const):
        return _doubled(e)
    if isinstance(e, Apply) and e.op in {"select", "xor"}:
        first, second = (_unsigned(x, at, part) for x in e.args[-2:])
        if first is None or second is None:
            return None
        condition = (substitute_scalar(x, at) for x in e.args[:-2])
        return e.rebuild((*condition, first, second), ())
    word = word_of(e)
    if word is None:
        return None
    default = word.default & 255
    if word.buffer.dtype.is_signed:
        default -= (default & 128) * 2
    place = substitute(word.place, at, {}) * 4 + part * 2
    guard = None if word.guard is None else substitute_scalar(word.guard, at)
    low, high = (
        apply("and", cast(load(word.buffer, place + k, guard, default), INT32), 255)
        for k in range(2)
    )
    return apply("or", low, apply("shl", high, 16))


def _doubled(e: Const) -> Scalar | None:
    """A byte that ``e`` repeats four times, in each half."""
    found = set((int(e.value) & 0xFFFFFFFF).to_bytes(4, "little"))
    return const(min(found) * 0x00010001, INT32) if len(found) == 1 else None


__all__ = ["contraction_in_pairs", "convolution_in_pairs"]
