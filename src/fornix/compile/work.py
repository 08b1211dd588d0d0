"""How much work a kernel is: arithmetic operations and bytes, as functions of its extents.

Counted on loop expressions, before they are cut into tiles and vectors, so that padding does not
count: an expression is computed once for every combination of the values of the loop variables
that it depends on. A sum of n products is 2 n operations, an exponential as many as take its time.
Arithmetic counts, indices, casts, comparisons and selections do not. Memory counts once, however
often it is read: caches are the processor's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fornix.compile.axes import split
from fornix.compile.cost import accesses
from fornix.compile.kernel import Work
from fornix.ir.dim import Dim, DimLike, atoms, maximum, minimum
from fornix.ir.dim.expression import Atom, Symbol, variables
from fornix.ir.loops import (
    Apply,
    Buffer,
    Const,
    Reduce,
    Scalar,
    Store,
    Variable,
    loaded,
    substitute_scalar,
)

OPERATIONS_OF = {
    **dict.fromkeys(("neg", "abs", "floor", "ceil", "rint", "trunc"), 1),
    **dict.fromkeys(("add", "sub", "mul", "min", "max"), 1),
    **dict.fromkeys(("div", "sqrt"), 4),
    **dict.fromkeys(("exp", "weight", "erf", "tanh"), 8),
    **dict.fromkeys(("log", "plain_log"), 16),
    **dict.fromkeys(("mod", "fmod"), 30),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos"), 45),
    "atan": 16,
    **dict.fromkeys(("sinh", "cosh", "asinh", "acosh", "atanh", "pow"), 140),
    "fma": 2,
    "dot2": 3,
    "halves": 3,
    "dot2i": 3,
    "dot4": 7,
}
"""Operations that count, and as how many: functions as many as take their time, in float32 with
AVX-512, where 50 take a nanosecond. So whether threads share a run is told from its count."""

PRODUCTS: dict[float, int] = {1: 0, 2: 1, 3: 2, -1: OPERATIONS_OF["div"]}
"""Exponents of powers that are made without logarithms, and as how many those count."""


def works(
    whole: Sequence[Store],
    parts: Sequence[Sequence[Store]],
    *,
    is_same: bool = True,
    ways: Sequence[DimLike] = (),
) -> list[Work]:
    """The work of ``parts``, which together do what ``whole`` says.

    What is not done by other parts is done by the last; unless they do other arithmetic, so that
    it is not the same. Parts that differ in ``ways`` do not run together: each way does it all, and
    products with zeros that fill its last block are none.
    """
    counts = [operations(stores) for stores in parts]
    if is_same:
        rest = asked = operations(map(split, whole))  # a part of an index is one of few values
        left: dict[DimLike, DimLike] = {}
        for k, way in enumerate(ways or [1] * len(parts)):
            rest = left.get(way, asked)
            left[way] = maximum(rest - counts[k], 0)
            counts[k] = minimum(counts[k], rest)  # products with zeros are none
        if len(left) == 1:
            counts[-1] = rest
    found = []
    for count, stores in zip(counts, parts, strict=True):
        read, written = traffic(stores)
        found.append(Work(_counted(count), _counted(read), _counted(written)))
    return found


def operations(stores: Iterable[Store]) -> DimLike:
    """Arithmetic operations in ``stores``."""
    counts: Counter[frozenset[Atom]] = Counter()
    seen = set[Scalar]()
    for store in stores:
        for e in _computed(store, seen):
            if isinstance(e, Apply):
                counts[e.variables] += _count(e)
            elif isinstance(e, Reduce):
                counts[e.variables.union(e.axes)] += 1
    total: DimLike = 0
    for loops, count in counts.items():
        total = total + _times(loops) * count
    return total


def _count(e: Apply) -> int:
    """As how many operations ``e`` counts; small powers are products."""
    if e.op == "pow" and isinstance(e.args[1], Const) and e.args[1].value in PRODUCTS:
        return PRODUCTS[e.args[1].value]
    return OPERATIONS_OF.get(e.op, 0)


def traffic(stores: Sequence[Store]) -> tuple[DimLike, DimLike]:
    """Bytes that ``stores`` read and write; of no buffer more than it has."""
    read: dict[Buffer, DimLike] = {}
    written: dict[Buffer, DimLike] = {}
    values = [x for s in stores for x in (s.value, *(a.expr for a in loaded(s.address)))]
    for e in accesses(values):
        read[e.buffer] = read.get(e.buffer, 0) + _times(e.variables)
    for store in stores:
        count = _times(variables(store.address).union(store.axes))
        written[store.buffer] = written.get(store.buffer, 0) + count
    return _bytes(read), _bytes(written)


def _counted(count: DimLike) -> DimLike:
    """``count`` if it follows from the extents of a run, else 0."""
    if isinstance(count, Dim) and not all(isinstance(a, Symbol) or a.inner for a in atoms(count)):
        return 0
    return count


def _computed(store: Store, seen: set[Scalar]) -> Iterator[Scalar]:
    """Every scalar in the value of ``store`` that was not ``seen``, except in index expressions."""
    waiting = [store.value]
    while waiting:
        e = waiting.pop()
        if e not in seen:
            seen.add(e)
            yield e
            waiting += [_along(e, store)] if isinstance(e, Reduce) else e.args


def _along(e: Reduce, store: Store) -> Scalar:
    """What ``e`` reduces, as a function of axes of ``store`` that are as long as its own.

    So what a row reduces and what it is made of are the same, as in ``exp(x - max(x))``.
    """
    free = [axis for axis in store.axes if axis not in e.body.variables]
    chosen: dict[Atom, DimLike] = {}
    for axis in e.axes:
        like = next((a for a in free if a.extent == axis.extent), None)
        if like is not None:
            free.remove(like)
            chosen[axis] = like.dim
    return substitute_scalar(e.body, chosen)


def _times(loops: Iterable[Atom]) -> DimLike:
    """How often a body that depends on ``loops`` is run."""
    total: DimLike = 1
    for axis in loops:
        if isinstance(axis, Variable):
            total = total * axis.extent
    return total


def _bytes(elements: Mapping[Buffer, DimLike]) -> DimLike:
    total: DimLike = 0
    for buffer, count in elements.items():
        total = total + minimum(count, buffer.elements) * buffer.dtype.numpy.itemsize
    return total
