"""Reductions to code: unrolled where they are small, loops with accumulators where they are not.

A reduction that varies along the vector axis keeps one accumulator per vector; one that does not
may itself run in vectors along one of its own axes (`cost.fold_axis`), and its lanes are combined
at the end. The order of additions depends on shapes and target, never on how work is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fornix.compile.cost import accesses, fold_axis
from fornix.compile.emit.builder import Value
from fornix.compile.emit.bytes import dot2i, dot4
from fornix.compile.emit.halves import dot2
from fornix.compile.emit.instructions import binary
from fornix.compile.emit.types import literal, splat
from fornix.dtype import DType
from fornix.ir.dim import DimLike, is_nonnegative
from fornix.ir.loops import Apply, Reduce, Scalar, Variable, identity, substitute_scalar

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.nest import Taps

MAX_POINTS = 32
"""Elements of a reduction that are written out one by one."""
MAX_UNROLLED = 1024
"""Nodes that writing them out may make."""
FOLD_UNITS = 4
"""Accumulators of a reduction in vectors: additions take 3 to 4 cycles, two start in each."""


def reduce(em: Emitter, e: Reduce, unit: int) -> Value:
    """The value of ``e``, written at the outermost level where it can stand."""
    varies = em.depends(e)
    changes = _changes(em, e)
    depth = em.top if changes else max(em.depth_of(e), em.barrier)
    axis = None if varies else fold_axis(e, em.lanes)
    is_long = axis is not None and isinstance(axis.extent, int) and axis.extent > em.lanes
    # at places by number it may remember what was there
    points = None if changes or is_long else _points(e)
    if points is not None:
        terms = [substitute_scalar(e.body, dict(p)) for p in points]
        result = em.value(terms[0], unit)
        for term in terms[1:]:
            result = step(em, e.op, result, term, unit)
        return result
    with em.at(depth):
        if varies:
            return _in_lanes(em, e, unit)
        return _alone(em, e) if axis is None else _in_vectors(em, e, axis)


def _changes(em: Emitter, e: Reduce) -> bool:
    """Whether it reads what is written as the kernel runs."""
    return bool(em.changing) and any(x.buffer in em.changing for x in accesses([e.body]))


def _points(e: Reduce) -> list[list[tuple[Variable, int]]] | None:
    """The values of the axes one by one, if there are few."""
    count = 1
    for axis in e.axes:
        if not isinstance(axis.extent, int):
            return None
        count *= axis.extent
    if not 0 < count <= MAX_POINTS or count * e.body.size > MAX_UNROLLED:
        return None
    ranges = [[(a, k) for k in range(a.extent)] for a in e.axes if isinstance(a.extent, int)]
    return [list(point) for point in itertools.product(*ranges)]


def step(em: Emitter, op: str, total: Value, term: Scalar, unit: int) -> Value:
    """``total`` combined with ``term``; sums of products are fused."""
    dtype = term.dtype
    is_fused = isinstance(term, Apply) and (
        term.op in {"dot2", "dot2i", "dot4"} or (dtype.is_float and term.op == "mul")
    )
    if op == "sum" and is_fused:
        a, b = (em.value(x, unit) for x in term.args)
        if a.is_vector or b.is_vector or not total.is_vector:
            return add_product(em, term, (a, b), total)
    return binary(em, op, dtype, total, em.value(term, unit))


def add_product(em: Emitter, product: Scalar, factors: tuple[Value, Value], total: Value) -> Value:
    """``total`` and one more ``product``, of these factors."""
    dtype = product.dtype
    if isinstance(product, Apply) and product.op == "dot4":
        return dot4(em, *factors, total)
    if isinstance(product, Apply) and product.op == "dot2i":
        return dot2i(em, *factors, total)
    if isinstance(product, Apply) and product.op == "dot2":
        return dot2(em, *factors, total)
    if dtype.is_float:
        return binary(em, "multiply_add", dtype, *factors, total)
    return binary(em, "add", dtype, total, binary(em, "mul", dtype, *factors))


def start(op: str, dtype: DType, *, is_vector: bool) -> str:
    """The neutral element."""
    text = literal(identity(op, dtype), dtype)
    return splat(text, dtype) if is_vector else text


def nest(
    em: Emitter,
    axes: Sequence[Variable],
    carried: Sequence[tuple[str, str]],
    body: Callable[[list[str]], Sequence[str]],
) -> list[str]:
    """Loops over ``axes`` around ``body``, which takes and gives what is carried."""
    if not axes:
        return list(body([first for _, first in carried]))
    axis, *rest = axes

    def turn(i: str, values: list[str]) -> Sequence[str]:
        em.place(axis, Value(i, False, em.top))
        kinds = [kind for kind, _ in carried]
        return nest(em, rest, list(zip(kinds, values, strict=True)), body)

    extent = em.dim(axis.extent).text
    return em.loop("0", extent, 1, carried, turn, is_sure=surely_runs(axis.extent))


def over(
    em: Emitter,
    loops: Sequence[Taps],
    carried: Sequence[tuple[str, str]],
    body: Callable[[list[str]], Sequence[str]],
) -> list[str]:
    """The same over the taps that exist."""
    if not loops:
        return list(body([first for _, first in carried]))
    taps, *rest = loops

    def turn(i: str, values: list[str]) -> Sequence[str]:
        em.place(taps.axis, Value(i, False, em.top))
        kinds = [kind for kind, _ in carried]
        return over(em, rest, list(zip(kinds, values, strict=True)), body)

    low, high = em.dim(taps.low).text, em.dim(taps.high).text
    return em.loop(low, high, 1, carried, turn, is_sure=surely_runs(taps.high - taps.low))


def surely_runs(extent: DimLike) -> bool:
    """Whether a loop of ``extent`` turns has a first one."""
    return is_nonnegative(extent - 1) is True


def _in_lanes(em: Emitter, e: Reduce, unit: int) -> Value:
    """One accumulator for each vector that is handled at once."""
    kind = em.type(e.dtype, is_vector=True)
    units = em.units
    carried = [(kind, start(e.op, e.dtype, is_vector=True)) for _ in units]

    def body(totals: list[str]) -> list[str]:
        found = [
            step(em, e.op, Value(total, True, em.top), e.body, u)
            for total, u in zip(totals, units, strict=True)
        ]
        return [em.splat(v, e.dtype) for v in found]

    results = nest(em, e.axes, carried, body)
    for u, text in zip(units, results, strict=True):
        em.remember((e, u), Value(text, True, em.top))
    return Value(results[list(units).index(unit)], True, em.top)


def _alone(em: Emitter, e: Reduce) -> Value:
    """One element after the other."""
    kind = em.type(e.dtype, is_vector=False)

    def body(totals: list[str]) -> list[str]:
        return [step(em, e.op, Value(totals[0], False, em.top), e.body, 0).text]

    with em.along(None):
        (result,) = nest(em, e.axes, [(kind, start(e.op, e.dtype, is_vector=False))], body)
    return Value(result, False, em.top)


def _in_vectors(em: Emitter, e: Reduce, axis: Variable) -> Value:
    """Vectors along ``axis``, loops over the other axes, lanes combined at the end."""
    from fornix.compile.emit.statements import vector_loop  # noqa: PLC0415 -- loops hold reductions

    kind = em.type(e.dtype, is_vector=True)
    neutral = start(e.op, e.dtype, is_vector=True)
    others = [a for a in e.axes if a is not axis]

    def body(totals: list[str]) -> Sequence[str]:
        return vector_loop(
            em, axis, (0, axis.extent), FOLD_UNITS, [(kind, t) for t in totals], turn
        )

    def turn(totals: list[str]) -> list[str]:
        given = dict(zip(em.units, totals, strict=False))
        return [fold_lanes(em, e.op, e.body, total, u) for u, total in given.items()]

    totals = nest(em, others, [(kind, neutral)] * FOLD_UNITS, body)
    return horizontal(em, e.op, e.dtype, totals, axis.extent)


def fold_lanes(em: Emitter, op: str, body: Scalar, total: str, unit: int) -> str:
    """``total`` combined with the lanes of ``body`` that exist."""
    dtype = body.dtype
    old = Value(total, True, em.top)
    new = step(em, op, old, body, unit)
    mask = em.masks.get(unit)
    if mask is None:
        return em.splat(new, dtype)
    kind = em.type(dtype, is_vector=True)
    lanes = f"{em.type(DType.of('bool'), is_vector=True)} {mask.text}"
    return em.put(em.top, f"select {lanes}, {kind} {em.splat(new, dtype)}, {kind} {total}")


def horizontal(em: Emitter, op: str, dtype: DType, totals: Sequence[str], extent: DimLike) -> Value:
    """All lanes of all accumulators combined, by halves.

    Beyond ``extent`` terms lanes are neutral: halves of nothing else are left out. LLVM would see
    that too, but joins the rest with a register of the row before, for which it then waits.
    """
    few = extent if isinstance(extent, int) and extent < em.lanes else em.lanes
    left = [Value(t, True, em.top) for t in totals]
    while len(left) > 1:
        half = len(left) // 2
        pairs = zip(left[:half], left[half : 2 * half], strict=True)
        left = [binary(em, op, dtype, a, b) for a, b in pairs] + left[2 * half :]
    text, lanes = left[0].text, em.lanes
    whole = em.lanes
    try:
        while lanes > 1:
            kind = em.type(dtype, is_vector=True)
            lanes //= 2
            parts = [
                em.put(
                    em.top,
                    f"shufflevector {kind} {text}, {kind} poison, <{lanes} x i32> "
                    f"<{', '.join(f'i32 {k + first}' for k in range(lanes))}>",
                )
                for first in ((0, lanes) if lanes < few else (0,))
            ]
            em.lanes = lanes
            halves = [Value(p, True, em.top) for p in parts]
            text = binary(em, op, dtype, *halves).text if len(halves) > 1 else parts[0]
    finally:
        em.lanes = whole
    kind = f"<1 x {em.type(dtype, is_vector=False)}>"
    return Value(em.put(em.top, f"extractelement {kind} {text}, i32 0"), False, em.top)
