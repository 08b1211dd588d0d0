"""Products of bfloat16s, two at a time, where the processor has the instruction for it.

Those of factors that are bfloat16s in float32 are exact; others are rounded where a session allows
that (`Target.rounds_products`). Strict sums stay as they are. Pairs of neighbouring terms become
one int32 of two halves; what is left is a contraction like any other, with half the terms, so that
tiles, packing and chunks are those of `contraction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace as replace_fields

from fornix.compile.convolution import Convolution, convolution
from fornix.compile.cost import accesses, likely
from fornix.compile.narrow import unwidened
from fornix.compile.products import Product
from fornix.compile.schedule.contraction import (
    Contraction,
    axes_of_left,
    contraction,
    is_plain,
)
from fornix.compile.schedule.direct import is_for_tiles
from fornix.compile.schedule.map import normal
from fornix.compile.schedule.packing import filled
from fornix.compile.target import Target
from fornix.compile.words import is_word
from fornix.dtype import BFLOAT16, FLOAT32, INT32, UINT16
from fornix.ir.dim import DimLike, ceildiv
from fornix.ir.loops import (
    Constant,
    Scalar,
    Store,
    Variable,
    apply,
    bitcast,
    cast,
    index,
    load,
    replace,
    substitute_scalar,
)
from fornix.ir.loops.rewrite import guarded
from fornix.ir.loops.scalar import reduction, select

HALVES = "avx512bf16"
"""The instructions that multiply bfloat16s."""
LEAST_TERMS = 16
"""Terms from which on rounding the left factor costs little beside the products. Taps of several
channels count where two products take no longer than one: there a channel of 0 for a third pays."""
LEAST_ROWS = 24
"""Rows from which on rounding the right factor does, unless it is stored."""


def in_halves(c: Contraction, target: Target) -> tuple[list[Store], Contraction] | None:
    """What has to be computed first, and ``c`` with rounded factors; None if it stays as it is."""
    if not may_round(c.product, target) or not _is_worthwhile(c):
        return None
    (k,) = c.sum.axes
    pair = Variable("k", ceildiv(k.extent, 2))
    first, left = _left_pairs(c, pair)
    product = apply("dot2", left, in_pairs(c.right, k, pair))
    value = replace(c.store.value, {c.sum: reduction("sum", (pair,), product)})
    store = normal(Store(c.store.buffer, c.store.axes, c.store.address, value))
    found = contraction(store)
    return None if found is None else (first, found)


def _left_pairs(c: Contraction, pair: Variable) -> tuple[list[Store], Scalar]:
    """Pairs of the left factor, and what has to be copied before they can be read."""
    (k,), left = c.sum.axes, unwidened(c.left)
    first: list[Store] = []
    if left.dtype is not BFLOAT16:
        left = c.left
    if not is_plain(replace_fields(c, product=replace_fields(c.product, left=left))):
        left = _copied("left", axes_of_left(c), left, first)
    pairs = in_pairs(left, k, pair)
    if is_word(pairs):
        return first, pairs
    axes = [*(a for a in c.store.axes if a in c.left.variables), pair]
    return first, _copied("pairs", axes, pairs, first)


def _copied(name: str, axes: Sequence[Variable], e: Scalar, first: list[Store]) -> Scalar:
    """``e`` over ``axes``, which is computed ``first``."""
    store = filled(name, axes, e)
    first.append(store)
    return load(store.buffer, store.buffer.address(tuple(a.dim for a in axes)))


def convolution_in_halves(c: Convolution, target: Target) -> Convolution | None:
    """``c`` over pairs of channels with rounded factors; None if it stays as it is."""
    if not may_round(c.product, target) or c.product.op != "mul" or c.sum.dtype is not FLOAT32:
        return None
    if c.has_groups or len(c.channels) != 1:
        return None
    (k,) = c.channels
    uses = 1 if target.is_wide or k.extent == 1 else math.prod(likely(s.taps) for s in c.spatial)
    if likely(k.extent) * uses < LEAST_TERMS:
        return None
    pair = Variable("k", ceildiv(k.extent, 2))
    product = apply("dot2", in_pairs(c.product.left, k, pair), in_pairs(c.product.right, k, pair))
    axes = tuple(pair if a is k else a for a in c.sum.axes)
    value = replace(c.store.value, {c.sum: reduction("sum", axes, product)})
    return convolution(Store(c.store.buffer, c.store.axes, c.store.address, value))


def rounded_in_tiles(c: Convolution, target: Target, lanes: int) -> Convolution | None:
    """``c`` with factors of one part each, rounded where they are not bfloat16s.

    None if tile registers are not faster.
    """
    if not may_round(c.product, target) or c.product.op != "mul" or c.sum.dtype is not FLOAT32:
        return None
    factors = (c.product.left, c.product.right)
    left, right = (cast(cast(unwidened(e), BFLOAT16), FLOAT32) for e in factors)
    total = reduction("sum", c.sum.axes, c.product.of(left, right))
    value = replace(c.store.value, {c.sum: total})
    found = convolution(Store(c.store.buffer, c.store.axes, c.store.address, value))
    return found if found is not None and is_for_tiles(found, target, lanes) else None


def may_round(product: Product, target: Target) -> bool:
    """Whether the factors are bfloat16s, or may be rounded to such."""
    if target.rounds_products:
        return True
    is_exact = all(unwidened(e).dtype is BFLOAT16 for e in (product.left, product.right))
    return is_exact and target.has(HALVES) and not target.is_strict


def _is_worthwhile(c: Contraction) -> bool:
    if c.product.op != "mul" or c.sum.dtype is not FLOAT32 or len(c.sum.axes) != 1:
        return False
    if likely(c.sum.axes[0].extent) < LEAST_TERMS:
        return False
    is_stored = all(isinstance(e.buffer.source, Constant) for e in accesses([c.right]))
    return is_stored or (c.row is not None and likely(c.row.extent) >= LEAST_ROWS)


def in_pairs(e: Scalar, k: Variable, pair: Variable) -> Scalar:
    """Two neighbouring terms of ``e`` as the halves of an int32, the first one low."""
    low, high = (_half(e, k, pair.dim * 2 + part) for part in range(2))
    if low.dtype is FLOAT32:
        return apply("halves", low, high)
    return apply("or", low, apply("shl", high, UINT16.bits))


def _half(e: Scalar, k: Variable, place: DimLike) -> Scalar:
    """The term at ``place``, the bits of one that is a bfloat16; 0 behind the last one."""
    inside = apply("lt", index(place), index(k.extent))
    narrow = unwidened(e)
    if narrow.dtype is BFLOAT16:
        e = cast(bitcast(narrow, UINT16), INT32)
    return select(inside, guarded(substitute_scalar(e, {k: place}), inside), 0)


__all__ = ["convolution_in_halves", "in_halves", "in_pairs", "may_round", "rounded_in_tiles"]
