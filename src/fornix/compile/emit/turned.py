"""Square tiles that are read along one axis, turned in registers, and written along another.

A transpose reads contiguous memory in one direction and writes it in the other; gathering costs an
element at a time, turning a tile of vectors costs log2(lanes) shuffles per vector. A few rows that
become columns, as the channels of a picture do, are put between each other without a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.memory import address, in_bytes, store
from fornix.compile.emit.types import memory_type, register_type, size_of
from fornix.compile.nest import SHORT_VECTOR, Put, Turn, Weave
from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.dim.expression import Atom, coefficient, substitute, variables
from fornix.ir.loops import Load, Variable, substitute_scalar

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter


def tile(em: Emitter, t: Turn) -> None:
    """What ``t`` turns at the present value of ``t.axis``, whose lanes are the vector axis."""
    base, put = em.places[t.axis], in_bytes(em, t.put)
    if put is not t.put and isinstance(put.value, Load):
        t = replace(t, put=put, loads=tuple(put.value if e is t.put.value else e for e in t.loads))
    width = em.lanes * t.count
    is_whole = t.count > 1 or (isinstance(t.across.extent, int) and t.across.extent % em.lanes == 0)
    left = None if is_whole else em.dim(t.across.extent - t.first)
    for e in t.loads:
        rows = _rows(em, t, e, base, left)
        for q, text in enumerate(_turned(em, e.dtype, rows, t.count)):
            moved = substitute_scalar(e, {t.across: t.first + q})
            em.remember((moved, 0), Value(text, True, em.top))
    for q, place in enumerate(_places(em, t.put.address, t, width)):
        _write(em, t, place, q, left)


def _places(em: Emitter, place: DimLike, t: Turn, count: int) -> list[DimLike]:
    """``place`` for ``count`` values of ``t.across``, where a run tells the step as running sums.

    One after the other these take two registers, where products would take one each.
    """
    step = coefficient(place, t.across)
    if step is None or isinstance(step[0], int) or t.across in variables(step[1]):
        return [substitute(place, {t.across: t.first + q}, {}) for q in range(count)]
    begin = substitute(place, {t.across: t.first}, {})
    found, text, size = [begin], "0", em.dim(step[0]).text
    for _ in range(1, count):
        far = Variable("s", step[0] * count)
        text = em.put(em.top, f"add nsw i64 {text}, {size}")
        em.places[far] = Value(text, False, em.top)
        found.append(begin + far.dim)
    return found


def _write(em: Emitter, t: Turn, place: DimLike, q: int, left: Value | None) -> None:
    """Vector ``q`` of the tile to ``place``, if there are so many ``left``."""
    at: dict[Atom, DimLike] = {t.across: t.first + q}
    value = substitute_scalar(t.put.value, at)
    guard = None if t.put.guard is None else substitute_scalar(t.put.guard, at)
    put = Put(t.put.buffer, place, value, guard=guard)
    if left is None:
        store(em, put, 0)
        return

    exists = em.put(em.top, f"icmp slt i64 {q}, {left.text}")
    em.once(exists, lambda: store(em, put, 0))


def _rows(em: Emitter, t: Turn, e: Load, base: Value, left: Value | None) -> list[str]:
    """Vectors along ``t.across``, one for each lane of ``t.axis``; beyond its end the last.

    They are as long as tiles beside each other are wide.
    """
    lane = Variable("l", em.lanes)
    end = em.dim(t.axis.extent - 1) if em.masks else None
    rows = []
    for r in range(em.lanes):
        text = em.put(em.top, f"add nsw i64 {base.text}, {r}")
        if end is not None:
            text = em.call(em.top, "i64", "llvm.smin.i64", ("i64", text), ("i64", end.text))
        row = Variable("r", t.axis.extent)  # proofs may use its bounds
        em.places[row] = Value(text, False, em.top)
        parts = []
        for n in range(t.count):
            first = t.first + n * em.lanes
            moved = substitute_scalar(e, {t.axis: row.dim, t.across: first + lane.dim})
            with em.along(lane):
                em.places[lane] = Value("0", False, 0)
                em.masks = {} if left is None else {0: em.first_lanes(left, n)}
                value = em.value(moved)
            parts.append(em.splat(value, e.dtype))
        rows.append(_beside(em, em.type(e.dtype, is_vector=True), parts))
    return rows


def _beside(em: Emitter, kind: str, parts: Sequence[str]) -> str:
    """One or two vectors as one."""
    if len(parts) == 1:
        return parts[0]
    picks = ", ".join(f"i32 {k}" for k in range(2 * em.lanes))
    pair = f"{kind} {parts[0]}, {kind} {parts[1]}"
    return em.put(em.top, f"shufflevector {pair}, <{2 * em.lanes} x i32> <{picks}>")


def _turned(em: Emitter, dtype: DType, rows: Sequence[str], count: int) -> list[str]:
    """The columns of square tiles: rows swap lanes, or are put in turn, log2 times.

    Processors put the lanes of two short vectors in turn in one instruction; they swap them in one
    where lanes are as wide as those that their shuffles choose.
    """
    if size_of(dtype) * em.lanes <= SHORT_VECTOR:
        return _put_in_turn(em, dtype, rows, count)
    found = list(rows)
    kind = em.type(dtype, is_vector=True)
    lanes, step = em.lanes, 1
    while step < lanes:
        for r in range(lanes):
            if r & step:
                continue
            pair = found[r], found[r + step]
            low = [(0, k) if not k & step else (1, k - step) for k in range(lanes)]
            high = [(0, k + step) if not k & step else (1, k) for k in range(lanes)]
            found[r] = _picked(em, kind, pair, low)
            found[r + step] = _picked(em, kind, pair, high)
        step *= 2
    return found


def _put_in_turn(em: Emitter, dtype: DType, rows: Sequence[str], count: int) -> list[str]:
    """The columns of tiles: each row in turn with the one half a tile below it, log2 times."""
    lanes, found = em.lanes, list(rows)
    half, kind = lanes // 2, f"<{lanes * count} x {register_type(dtype)}>"
    halves = [
        [(of, n * lanes + at + k) for n in range(count) for k in range(half) for of in (0, 1)]
        for at in (0, half)
    ]
    for _ in range(half.bit_length()):
        pairs = zip(found[:half], found[half:], strict=True)
        found = [_picked(em, kind, pair, picks) for pair in pairs for picks in halves]
    if count == 1:
        return found
    return [
        _picked(em, kind, (text, "poison"), [(0, n * lanes + k) for k in range(lanes)])
        for n in range(count)
        for text in found
    ]


def weave(em: Emitter, t: Weave) -> None:
    """A vector of each of a few rows, their lanes put between each other, and written as one."""
    put = in_bytes(em, t.put)
    if put is not t.put and isinstance(put.value, Load):
        t = replace(t, put=put, rows=tuple((put.value, axis) for _, axis in t.rows))
    count, buffer, lane = t.across.extent, t.put.buffer, Variable("l", em.lanes)
    if not isinstance(count, int):
        raise TypeError("rows that are woven are written out")
    kind = em.type(buffer.dtype, is_vector=True)
    em.places[lane] = Value("0", False, 0)
    for e, axis in t.rows:
        _sort(em, t, e, axis, lane)
    rows: list[str] = []
    for k in range(count):
        at: dict[Atom, DimLike] = {t.across: k, t.along: t.first + lane.dim}
        with em.along(lane):
            rows.append(em.splat(em.value(substitute_scalar(t.put.value, at)), buffer.dtype))
    place = substitute(t.put.address, {t.across: 0, t.along: t.first}, {})
    for q, text in enumerate(_woven(em, kind, rows)):
        where = address(em, buffer, place, q * em.lanes)
        em.do(f"store {kind} {text}, ptr {where.text}, align {size_of(buffer.dtype)}")


def _sort(em: Emitter, t: Weave, e: Load, axis: Variable, lane: Variable) -> None:
    """A vector of rows that ``e`` reads along ``axis``, one vector for each of their elements."""
    count = axis.extent
    if not isinstance(count, int):
        raise TypeError("rows that are sorted are written out")
    kind = f"<{em.lanes} x {memory_type(e.dtype)}>"
    place = substitute(e.address, {axis: 0, t.along: t.first}, {})
    found = []
    for q in range(count):
        where = address(em, e.buffer, place, q * em.lanes)
        text = em.put(em.top, f"load {kind}, ptr {where.text}, align {size_of(e.dtype)}")
        found.append(text)
    for k, text in enumerate(_unwoven(em, kind, found)):
        moved = substitute_scalar(e, {axis: k, t.along: t.first + lane.dim})
        em.remember((moved, 0), Value(text, True, em.top))


def _unwoven(em: Emitter, kind: str, vectors: Sequence[str]) -> list[str]:
    """As many rows of which ``vectors`` are the lanes in turn: `_woven` of these is them."""
    count = len(vectors)
    if count == 1:
        return list(vectors)
    parts = next(n for n in range(2, count + 1) if count % n == 0)
    groups = [_apart(em, kind, vectors[k : k + parts]) for k in range(0, count, parts)]
    strands = [_unwoven(em, kind, list(strand)) for strand in zip(*groups, strict=True)]
    return [row for rows in zip(*strands, strict=True) for row in rows]


def _apart(em: Emitter, kind: str, vectors: Sequence[str]) -> Iterator[str]:
    """Every so many of all lanes as there are vectors, from each of the first lanes on."""
    count, lanes = len(vectors), em.lanes
    for q in range(count):
        yield _picked(em, kind, vectors, [divmod(k * count + q, lanes) for k in range(lanes)])


def _woven(em: Emitter, kind: str, rows: Sequence[str]) -> list[str]:
    """The lanes of ``rows`` in turn, as as many vectors.

    Of six rows, those of even number are woven, and the others, and then both: each vector takes
    one shuffle less than the sum of the factors of how many rows there are.
    """
    count = len(rows)
    if count == 1:
        return list(rows)
    parts = next(n for n in range(2, count + 1) if count % n == 0)
    strands = [_woven(em, kind, rows[k::parts]) for k in range(parts)]
    return [text for vectors in zip(*strands, strict=True) for text in _in_turn(em, kind, vectors)]


def _in_turn(em: Emitter, kind: str, vectors: Sequence[str]) -> Iterator[str]:
    """The lanes of ``vectors`` in turn: of the first lane of each, then of the second."""
    count, lanes = len(vectors), em.lanes
    for q in range(count):
        places = (divmod(q * lanes + k, count) for k in range(lanes))
        yield _picked(em, kind, vectors, [(of, lane) for lane, of in places])


def _picked(
    em: Emitter, kind: str, vectors: Sequence[str], sources: Sequence[tuple[int, int]]
) -> str:
    """A vector whose lanes are those of ``sources``: the number of a vector, and its lane."""
    text, length = vectors[0], int(kind[1:].split(maxsplit=1)[0])
    for n in range(1, len(vectors)):
        # Once two are put together, their lanes are where they belong.
        here = [lane if n == 1 else k for k, (_, lane) in enumerate(sources)]
        picks = [length + lane if of == n else here[k] for k, (of, lane) in enumerate(sources)]
        mask = f"<{len(sources)} x i32> <{', '.join(f'i32 {k}' for k in picks)}>"
        text = em.put(em.top, f"shufflevector {kind} {text}, {kind} {vectors[n]}, {mask}")
    return text
