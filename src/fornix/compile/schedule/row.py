"""Rows: reductions along an axis and the elementwise work on the same axis, in one visit.

Softmax and the normalisations are rows. The axis of each reduction is renamed to the row's axis, so
that what two stages share is one expression: ``exp(x − max)`` is in the sum and in the quotient. A
short row stays in registers from stage to stage; in a long one, what is dear and used again goes to
a row buffer in scratch memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fornix.compile.cost import accesses, lanes_for, stride_of
from fornix.compile.kernel import SCRATCH_ALIGNMENT
from fornix.compile.nest import Block, Fold, Lanes, Line, Nest, Put
from fornix.compile.reductions import reductions
from fornix.compile.schedule.chunks import chunked
from fornix.compile.target import Target
from fornix.dtype import FLOAT32, FLOAT64
from fornix.ir.dim import DimLike, known, minimum
from fornix.ir.dim.expression import Atom, substitute
from fornix.ir.loops import (
    Apply,
    Buffer,
    Load,
    Reduce,
    Scalar,
    Store,
    Variable,
    apply,
    const,
    load,
    loaded,
    replace,
    select,
    substitute_scalar,
    walk,
)

TEMPORARIES = 20
"""Vector registers that the work on a row needs besides the row: 12 of 32 hold the row."""
COSTLY = 12
"""Nodes from which on a value that is used again is kept instead of computed again."""
MAX_BUFFERS = 3
LONG = 512
"""Elements from which on a row buffer takes the place of data that caches could hold."""
UNITS = 4


@dataclass(frozen=True)
class Stage:
    """A reduction of the row: ``body`` is over the row's axis."""

    result: Reduce
    body: Scalar
    kept: tuple[Put, ...] = ()


def row_axis(store: Store, vector: Variable | None) -> tuple[Variable, list[Reduce]] | None:
    """The axis of a row, and the reductions along it; None if ``store`` is none.

    It is the vector axis ``vector`` of the store, or if that has none, the reductions' own.
    """
    found = [e for e in reductions([store.value]) if _may_be_row(e, store, vector)]
    if not found:
        return None
    if vector is None:
        axis = Variable("r", found[0].axes[0].extent)
        same = [e for e in found if e.axes[0].extent == axis.extent]
        return (axis, same) if len(same) > 1 else None
    same = [e for e in found if e.axes[0].extent == vector.extent]
    return (vector, same) if same else None


def _may_be_row(e: Reduce, store: Store, vector: Variable | None) -> bool:
    """Whether it has one axis, and is the same for the whole row and for every other reduction."""
    return len(e.axes) == 1 and e.variables <= {a for a in store.axes if a is not vector}


def row_nest(store: Store, axis: Variable, along: Sequence[Reduce], target: Target) -> Nest:
    """One visit per row: the stages in their order, then the elements of ``store``."""
    lanes = lanes_for([store.value], [store.buffer.dtype], target.vector_bytes)
    value = by_reciprocals(store.value, set(along), axis)
    stages = [Stage(e, substitute_scalar(e.body, {e.axes[0]: axis.dim})) for e in along]
    free = {s.result for k, s in enumerate(stages) if spoils(s, stages[k + 1 :], value)}
    vectors = -(-axis.extent // lanes) if isinstance(axis.extent, int) else None
    scratch: dict[Buffer, DimLike] = {}
    if vectors is not None and vectors <= target.vector_registers - TEMPORARIES:
        units = vectors
    else:
        units = UNITS
        stages, value, scratch = _with_buffers(axis, stages, value, _room(store, axis))
    ahead = [*[()] * (len(stages) - 1), _next_row(store, axis, stages, target)]
    body: Block = tuple(
        Fold(s.result, axis, units, s.body, s.kept, s.result not in free, asked)
        for s, asked in zip(stages, ahead, strict=True)
    )
    put = Put(store.buffer, store.address, value)
    body = (*body, Lanes(axis, units, (put,)) if axis in store.axes else put)
    chunks, parallel = chunked([a for a in store.axes if a is not axis], body)
    size = sum((_aligned(axis, b) for b in scratch), start=0)
    changing = frozenset((*scratch, store.buffer))
    return Nest("row", (chunks,), lanes, parallel, scratch, size, changing)


def _next_row(
    store: Store, axis: Variable, stages: Sequence[Stage], target: Target
) -> tuple[Line, ...]:
    """Lines of the next row that the first of several stages reads, for the last one to ask for.

    If that is dear, memory would wait while it reads what is near. Rows that the nearest cache does
    not hold come from farther away in every stage.
    """
    outer = next((a for a in reversed(store.axes) if a is not axis), None)
    if outer is None or len(stages) == 1 or _cost(stages[-1].body) < COSTLY:
        return ()
    later: dict[Atom, DimLike] = {outer: minimum(outer.dim + 1, outer.extent - 1)}
    size = known(axis.extent) or 0
    return tuple(
        (e.buffer, substitute(e.address, later, {}))
        for e in accesses([stages[0].body])
        if outer in e.variables
        and e.variables <= {*store.axes, axis}  # what a sum inside of it reads has more
        and not loaded(e.address)
        and stride_of(e.address, axis) == 1
        and size * e.dtype.bits // 8 <= target.l1_bytes
    )


STRICT = {"add", "sub", "mul", "div", "fma", "neg", "abs", "sqrt", "exp", "log", "plain_log"}
"""Operations on floats that give NaN wherever an operand is NaN."""


def spoils(top: Stage, later: Sequence[Stage], value: Scalar) -> bool:
    """Whether NaN in a row shows in ``value`` even where the extreme ``top`` passes over it.

    So it is in a softmax: the sum of exp(x − max) is NaN if an x is, and so is all that is divided
    by it. What depends on the extreme may be anything where it depends on such a sum as well.
    """
    if top.result.op not in {"max", "min"} or not top.result.dtype.is_float:
        return False
    spoiled: set[Scalar] = set()
    changed: set[Scalar] = {top.result}
    kept: set[Scalar] = {s.result for s in later}
    for stage in later:
        if stage.result.op == "sum" and stage.body in _carriers(stage.body, {top.body, *spoiled}):
            spoiled.add(stage.result)
        elif not _is_kept(stage.body, spoiled, changed, kept):
            changed.add(stage.result)
    return _is_kept(value, spoiled, changed, kept)


def _carriers(e: Scalar, sources: Collection[Scalar]) -> set[Scalar]:
    """What in ``e`` is NaN where one of ``sources`` is."""
    found = set(sources)
    for x in walk(e):
        is_strict = isinstance(x, Apply) and x.dtype.is_float and (x.op in STRICT or x.op == "cast")
        if is_strict and not found.isdisjoint(x.args):
            found.add(x)
    return found


def _is_kept(e: Scalar, spoiled: set[Scalar], changed: set[Scalar], kept: set[Scalar]) -> bool:
    """Whether ``e``, of results some of which are ``changed``, is NaN or what it was all the same.

    Of the results that are ``kept`` unless ``changed`` nothing else is asked.
    """
    is_nan = _carriers(e, spoiled)
    good = set[Scalar]()
    for x in walk(e):
        parts = {*x.args, *(atom.expr for atom in loaded(*x.dims))}
        if x in is_nan or (x not in changed and (x in kept or parts <= good)):
            good.add(x)
    return e in good


def _room(store: Store, axis: Variable) -> Store | None:
    """``store`` if a row of its result may be long, and whole, so that it serves as a row buffer.

    Two such rows and a third one in scratch memory do not fit the caches that two fit.
    """
    is_long = not isinstance(axis.extent, int) or axis.extent >= LONG
    is_whole = axis in store.axes and stride_of(store.address, axis) == 1
    return store if is_long and is_whole else None


def by_reciprocals(value: Scalar, along: set[Reduce], axis: Variable) -> Scalar:
    """Division by what is the same for the whole row is multiplication by its reciprocal.

    That are the reductions ``along`` its ``axis``, and roots, as of variances. The logarithm of the
    sum of a softmax asks for no care: that is 1 or more, and no more than a row has elements.
    """
    new: dict[Scalar, Scalar] = {
        e: apply("plain_log", *e.args)
        for e in walk(value)
        if isinstance(e, Apply) and e.op == "log" and _is_1_or_more(e.args[0], along)
    }
    found = (e for e in walk(value) if isinstance(e, Apply) and e.op == "div")
    for e in (x for x in found if x.dtype in _LEAST):
        divided, by = e.args
        is_root = isinstance(by, Apply) and by.op == "sqrt" and axis not in by.variables
        if is_root or by in along:
            if not (is_root or _is_1_or_more(by, along)):
                # the reciprocal of a subnormal number, which no root is, is infinite
                least, factor = _LEAST[e.dtype]
                scale = select(apply("lt", apply("abs", by), least), factor, const(1.0, e.dtype))
                divided, by = divided * scale, by * scale
            new[e] = divided * (1.0 / by)
    return replace(value, new) if new else value


_LEAST = {FLOAT32: (2.0**-126, 2.0**24), FLOAT64: (2.0**-1022, 2.0**53)}
"""The least normal number, and a power of 2 that makes all below it, but 0, such numbers."""


def _is_1_or_more(e: Scalar, along: Collection[Reduce]) -> bool:
    """Whether ``e`` is the sum of a softmax, one term of which is the exponential of 0, or NaN."""
    if not isinstance(e, Reduce) or e.op != "sum":
        return False
    at = e.axes[0].dim
    tops = (x for x in along if x.op == "max")
    shifted = (substitute_scalar(x.body, {x.axes[0]: at}) - x for x in tops)
    return any(e.body == apply("exp", x) for x in shifted)


def _with_buffers(
    axis: Variable, stages: list[Stage], value: Scalar, room: Store | None
) -> tuple[list[Stage], Scalar, dict[Buffer, DimLike]]:
    """The stages, with values that later ones use again kept in row buffers.

    What the last stage keeps lies in the row of the result, if that has ``room``.
    """
    bodies = [*(s.body for s in stages), value]
    kept: dict[int, list[Put]] = {}
    buffers: list[Buffer] = []
    for k in range(len(stages)):
        for e in _used_again(axis, bodies[k], bodies[k + 1 :]):
            is_last = k == len(stages) - 1
            if is_last and room is not None and room.buffer.dtype is e.dtype:
                kept.setdefault(k, []).append(Put(room.buffer, room.address, e))
                bodies[-1] = replace(bodies[-1], {e: load(room.buffer, room.address)})
                room = None
                continue
            if len(buffers) == MAX_BUFFERS:
                break
            buffer = Buffer(f"row{len(buffers)}", (axis.extent,), e.dtype)
            buffers.append(buffer)
            kept.setdefault(k, []).append(Put(buffer, axis.dim, e))
            again = {e: load(buffer, axis.dim)}
            bodies[k + 1 :] = [replace(b, again) for b in bodies[k + 1 :]]
    stages = [
        Stage(s.result, body, tuple(kept.get(k, ())))
        for k, (s, body) in enumerate(zip(stages, bodies, strict=False))
    ]
    return stages, bodies[-1], _offsets(axis, buffers)


def _used_again(axis: Variable, body: Scalar, later: Sequence[Scalar]) -> Iterable[Scalar]:
    """The dearest values in ``body`` that ``later`` ones contain, none inside another."""
    shared = {e for b in later for e in walk(b)}
    found = [
        e
        for e in walk(body)
        if e in shared and axis in e.variables and _cost(e) >= COSTLY and not isinstance(e, Load)
    ]
    inner = {x for e in found for x in walk(e) if x is not e}
    return [e for e in found if e not in inner]


FUNCTION_COST = 15
"""What a mathematical function counts as, in nodes."""


def _cost(e: Scalar) -> int:
    functions = sum(isinstance(x, Apply) and x.op in _DEAR for x in walk(e))
    return min(e.size, COSTLY * 4) + FUNCTION_COST * functions


_DEAR = {"exp", "log", "erf", "tanh", "sin", "cos", "pow", "div", "sqrt"}


def _aligned(axis: Variable, buffer: Buffer) -> DimLike:
    size = buffer.dtype.numpy.itemsize
    lines = (axis.extent * size + SCRATCH_ALIGNMENT - 1) // SCRATCH_ALIGNMENT
    return lines * SCRATCH_ALIGNMENT


def _offsets(axis: Variable, buffers: Sequence[Buffer]) -> dict[Buffer, DimLike]:
    offset: DimLike = 0
    found: dict[Buffer, DimLike] = {}
    for buffer in buffers:
        found[buffer] = offset
        offset = offset + _aligned(axis, buffer)
    return found


__all__ = ["by_reciprocals", "row_axis", "row_nest"]
