"""Changes of loops that keep what is computed: axes dropped, split, merged, cut in pieces.

Each function takes a `Store` and gives one that writes the same elements, or several that together
do. Why which change pays is the schedules' business.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from fornix.ir.dim import DimLike, ceildiv, exact_quotient, is_nonnegative, maximum, minimum
from fornix.ir.dim.expression import (
    Atom,
    Dim,
    Floor,
    Symbol,
    atoms,
    coefficient,
    substitute,
    terms_of,
    variables,
)
from fornix.ir.loops import (
    Apply,
    Const,
    Index,
    Load,
    Loaded,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    index,
    loaded,
    replace,
    substitute_scalar,
    walk,
)

MAX_SPLITS = 8
MAX_PIECES = 9
"""A nest is cut into at most so many: borders and middle of two axes."""


def only_place(address: DimLike, axis: Variable) -> Loaded | None:
    """The integer from memory that ``address`` is counted on by along ``axis``, if nothing else."""
    if isinstance(address, int):
        return None
    moved = [(m, c) for m, c in address.terms.items() if any(axis in a.variables for a in m)]
    if len(moved) != 1 or len(moved[0][0]) != 1 or moved[0][1] != 1:
        return None
    (atom,) = moved[0][0]
    return atom if isinstance(atom, Loaded) else None


def rewritten(store: Store, axes: Iterable[Variable], values: Mapping[Atom, DimLike]) -> Store:
    """``store`` over other ``axes``, with its loop variables replaced by ``values``."""
    return Store(
        store.buffer,
        tuple(axes),
        substitute(store.address, values, {}),
        substitute_scalar(store.value, values),
    )


def index_dims(*stores: Store) -> Iterator[DimLike]:
    """Every index expression in ``stores``: addresses, guards, indices as values."""
    addresses = [store.address for store in stores]
    yield from addresses
    places = (a.expr for a in loaded(*addresses))
    for node in walk(*(store.value for store in stores), *places):
        yield from node.dims


def without_units(store: Store) -> Store:
    """``store`` without axes of extent 1."""
    single = [a for a in store.axes if a.extent == 1]
    if not single:
        return store
    kept = [a for a in store.axes if a.extent != 1]
    return rewritten(store, kept, dict.fromkeys(single, 0))


# ── split and merge ────────────────────────────────────────────────────────────────────────────


def split(store: Store) -> Store:
    """Axes split where the index divides them: ``v = d*v1 + v0`` makes ``v // d`` into v1."""
    for _ in range(MAX_SPLITS):
        found = next(_divisions(store), None)
        if found is None:
            break
        axis, outer, inner = found
        axes = [part for a in store.axes for part in ((outer, inner) if a is axis else (a,))]
        store = rewritten(store, axes, {axis: outer.dim * inner.extent + inner.dim})
    return store


@functools.lru_cache(maxsize=4096)
def near_offsets(d: DimLike, axis: Variable, lanes: int) -> tuple[int, ...] | None:
    """How far ``d`` is in each of ``lanes`` values of ``axis`` from where it is in the first.

    None unless that is the same for every vector, and in few `groups_of`: then a vector is a few
    neighbours, some of them repeated, as in an image that is enlarged, or several such, put between
    each other.
    """
    vector = Variable("v", (axis.extent + lanes - 1) // lanes)
    places = [substitute(d, {axis: vector.dim * lanes + k}, {}) for k in range(lanes)]
    offsets = [place - places[0] for place in places]
    found = tuple(n for n in offsets if isinstance(n, int))
    if len(found) < lanes:
        return None
    count = len(groups_of(found))
    is_between = all(b == a + 1 for a, b in zip(found, found[count:], strict=False))
    return found if count == 1 or (count <= lanes // 4 and is_between) else None


def groups_of(offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Neighbours that ``offsets`` name, nowhere as far apart as there are lanes: first and last."""
    found: list[tuple[int, int]] = []
    for n in sorted(set(offsets)):
        if found and n - found[-1][0] < len(offsets):
            found[-1] = found[-1][0], n
        else:
            found.append((n, n))
    return found


MAX_REPEATED = 8
"""Divisors of an index up to which lanes are expected to repeat elements."""
TYPICAL_LANES = 16


def _repeats(store: Store, axis: Variable) -> bool:
    """Whether vectors along ``axis``, along which ``store`` writes neighbours, repeat elements."""
    if coefficient(store.address, axis) != (1, store.address - axis.dim):
        return False
    if isinstance(axis.extent, int) and axis.extent < TYPICAL_LANES:
        return False
    if any(isinstance(node, Reduce) for node in walk(store.value)):
        return False
    for node in walk(store.value):
        signs = (1,) if isinstance(node, Load) else (1, -1)  # numbers may as well fall
        for d in node.dims:
            if axis in variables(d) and not any(
                near_offsets(d * sign, axis, TYPICAL_LANES) for sign in signs
            ):
                return False
    return True


def _divisions(store: Store) -> Iterator[tuple[Variable, Variable, Variable]]:
    """An axis that is divided by a divisor of its extent, and the two axes that replace it."""
    for d in index_dims(store):
        for atom in sorted(atoms(d), key=lambda a: a.key):
            if not isinstance(atom, Floor):
                continue
            inside = [a for a in store.axes if a in variables(atom.num)]
            if len(inside) != 1:
                continue
            (axis,) = inside
            slope = coefficient(atom.num, axis)
            if slope is None or slope[0] != 1 or variables(atom.den):
                continue
            count = exact_quotient(axis.extent, atom.den)
            is_small = isinstance(atom.den, int) and atom.den <= MAX_REPEATED
            if is_small and _repeats(store, axis):
                continue
            if count is not None and count != 1 and atom.den != axis.extent:
                yield axis, Variable(f"{axis.name}o", count), Variable(f"{axis.name}i", atom.den)


def contiguous_last(store: Store) -> Store:
    """``store`` with the axis along which it writes neighbours as the last one."""
    beside = [a for a in store.axes if coefficient(store.address, a) == (1, store.address - a.dim)]
    if len(beside) != 1 or beside[0] is store.axes[-1]:
        return store
    axes = [*(a for a in store.axes if a is not beside[0]), *beside]
    return Store(store.buffer, tuple(axes), store.address, store.value)


def merge(store: Store, *, has_parts: bool = False) -> Store:
    """Neighbouring axes joined where every index moves as if they were one.

    If the store `has_parts`, guards may tell the parts of the first of the two axes.
    """
    k = 0
    while k + 1 < len(store.axes):
        a, b = store.axes[k], store.axes[k + 1]
        wide = _widened(store, a, b) if has_parts else store
        if all(moves_as_one(d, a, b) for d in index_dims(wide)):
            joined = Variable(f"{a.name}{b.name}"[:8], a.extent * b.extent)
            axes = (*store.axes[:k], joined, *store.axes[k + 2 :])
            store = rewritten(wide, axes, {a: 0, b: joined.dim})
            k = max(k - 1, 0)
        else:
            k += 1
    return store


def _widened(store: Store, a: Variable, b: Variable) -> Store:
    """``store`` whose guards of ``a`` alone ask for as many elements as there are along both."""
    changed: dict[Scalar, Scalar] = {}
    for node in walk(store.value):
        at = None if b in node.variables else _flip(node, a)
        if at is None:
            continue
        beyond = (a.dim - at) * b.extent + b.dim
        slope, _ = coefficient(node.args[1].dims[0], a) or (0, 0)
        rises = is_nonnegative(slope) is True
        changed[node] = apply("le", 0, index(beyond if rises else -1 - beyond))
    if not changed:
        return store
    return Store(store.buffer, store.axes, store.address, replace(store.value, changed))


def moves_as_one(d: DimLike, a: Variable, b: Variable) -> bool:
    """Whether ``d`` depends on ``a*extent(b) + b`` only.

    What is loaded to index is looked at where its own indices are.
    """
    if not isinstance(d, Dim) or not {a, b} & d.variables:
        return True
    for atom in (x for m in d.terms for x in m):
        if isinstance(atom, Loaded) or atom in {a, b}:
            continue
        if not all(moves_as_one(i, a, b) for i in atom.inner):
            return False
    of_a, of_b = coefficient(d, a), coefficient(d, b)
    if of_a is None or of_b is None:
        return False
    return bool(of_a[0] == of_b[0] * b.extent) and not {a, b} & (
        _direct(of_a[0]) | _direct(of_b[0])
    )


def _direct(d: DimLike) -> set[Atom]:
    """The atoms that are factors in ``d``."""
    return {x for m in d.terms for x in m} if isinstance(d, Dim) else set()


# ── pieces ─────────────────────────────────────────────────────────────────────────────────────


def cut(store: Store, whole: Iterable[Variable] = (), at_most: int = MAX_PIECES) -> list[Store]:
    """``store`` in pieces within which guards of one axis are decided; ``whole`` axes stay."""
    pieces = [store]
    kept = set(whole)
    k = 0
    while k < len(pieces):
        halves = _halves(pieces[k], kept) if len(pieces) < at_most else None
        if halves is None:
            k += 1
        else:
            pieces[k : k + 1] = halves
    return pieces


def _halves(store: Store, kept: set[Variable]) -> list[Store] | None:
    for node in walk(store.value):
        for axis in store.axes:
            at = None if axis in kept else _flip(node, axis)
            if at is None or not _is_inside(at, axis.extent):
                continue
            parts = []
            ends: tuple[tuple[DimLike, DimLike], ...] = ((0, at), (at, axis.extent - at))
            for low, extent in ends:
                part = Variable(axis.name, extent)
                axes = [part if a is axis else a for a in store.axes]
                parts.append(rewritten(store, axes, {axis: part.dim + low}))
            return parts
    return None


def _is_inside(at: DimLike, extent: DimLike) -> bool:
    """Whether there are two parts of an axis; where only a run tells, either may be empty."""
    if isinstance(at, int) and isinstance(extent, int):
        return 0 < at < extent
    return at not in (0, extent) and all(is_nonnegative(d) is True for d in (at, extent - at))


def if_long(store: Store, axis: Variable, count: int) -> tuple[DimLike, Store] | None:
    """1 where ``axis`` has ``count`` values, else 0, and ``store`` for that many.

    None unless a run tells how many it has.
    """
    symbol = axis.extent.atom if isinstance(axis.extent, Dim) else None
    if not isinstance(symbol, Symbol) or symbol.least > count:
        return None
    values: dict[Atom, DimLike] = {symbol: count}
    axes = {a: Variable(a.name, substitute(a.extent, values, {})) for a in store.axes}
    values |= {old: new.dim for old, new in axes.items()}
    is_less = minimum(maximum(count + 1 - axis.extent, 0), 1)
    is_it = is_less * minimum(maximum(axis.extent - count + 1, 0), 1)
    return is_it, rewritten(store, axes.values(), values)


def settled(store: Store) -> Store:
    """``store`` whose guards have only axes that decide them.

    Where blocks of 16 are joined at a multiple of 16, which part an element is from is a matter of
    its block, whatever its place in it.
    """
    values: dict[Scalar, Scalar] = {}
    for node in walk(store.value):
        if isinstance(node, Apply) and node.op == "le":
            values[node] = _settled(node, store.axes)
    changed = {node: value for node, value in values.items() if value is not node}
    if not changed:
        return store
    return Store(store.buffer, store.axes, store.address, replace(store.value, changed))


def _settled(guard: Apply, axes: Iterable[Variable]) -> Scalar:
    """``least <= surplus`` without the axes along which it never changes."""
    least, surplus = guard.args
    if not isinstance(least, Const) or not isinstance(surplus, Index):
        return guard
    bound, d = int(least.value), surplus.dims[0]
    for axis in axes:
        parts = coefficient(d, axis)
        if parts is None or not isinstance(parts[0], int) or not isinstance(axis.extent, int):
            continue
        slope, rest = parts[0], parts[1]
        step = math.gcd(*terms_of(rest).values())  # that is what the rest is a multiple of
        low, high = sorted((bound, bound - slope * (axis.extent - 1)))
        changes = step == 0 or (high - 1) // step > (low - 1) // step  # for low <= rest < high
        if slope and not changes and axis not in variables(rest):
            d = rest
    return apply("le", least, index(d)) if d is not surplus.dims[0] else guard


def cut_at_blocks(store: Store, axis: Variable, size: int) -> list[Store]:
    """``store`` for whole blocks of ``axis``, then for the rest of it."""
    if not isinstance(axis.extent, int):
        return [store]
    ends = [0, axis.extent // size * size, axis.extent]
    found: list[Store] = []
    for low, high in pairwise(ends):
        if low < high:
            part = Variable(axis.name, high - low)
            axes = [part if a is axis else a for a in store.axes]
            found.append(rewritten(store, axes, {axis: part.dim + low}))
    return found


def flips(value: Scalar, axis: Variable) -> list[int]:
    """The values of ``axis`` from which on guards in ``value`` give other answers, in order."""
    found = {_flip(node, axis) for node in walk(value)}
    inside = (at for at in found if isinstance(at, int) and at > 0)
    return sorted(at for at in inside if isinstance(axis.extent, int) and at < axis.extent)


def _flip(node: Scalar, axis: Variable) -> DimLike | None:
    """The value of ``axis`` from which on the comparison ``node`` gives another answer."""
    if not isinstance(node, Apply) or node.op != "le":
        return None
    least, surplus = node.args
    if not isinstance(least, Const) or not isinstance(surplus, Index):
        return None
    slope, rest = coefficient(surplus.dims[0], axis) or (0, 0)
    bound = int(least.value)
    if not isinstance(slope, int) or slope == 0:
        return None
    if rest != 0 and (abs(slope) != 1 or not _is_told(rest)):
        return None
    missing = bound - rest
    return ceildiv(missing, slope) if slope > 0 else -missing // -slope + 1


def _is_told(d: DimLike) -> bool:
    """Whether ``d`` is one number for all of a run, which is told before."""
    return not any(isinstance(a, Variable | Loaded) for a in atoms(d))


__all__ = [
    "contiguous_last",
    "cut",
    "cut_at_blocks",
    "flips",
    "groups_of",
    "if_long",
    "index_dims",
    "merge",
    "moves_as_one",
    "near_offsets",
    "rewritten",
    "settled",
    "split",
    "without_units",
]
