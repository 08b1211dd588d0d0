"""Loads and stores: one element, neighbouring elements, every second to fourth, or scattered ones.

Every access states the alignment that holds for any base address: that of one element. Memory is
touched only in the lanes that exist and where a load's guard holds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fornix.compile.axes import groups_of, near_offsets
from fornix.compile.emit.builder import Value
from fornix.compile.emit.indices import stride
from fornix.compile.emit.instructions import binary
from fornix.compile.emit.looked_up import byte_of, look_up
from fornix.compile.emit.picked import picked, picks_of
from fornix.compile.emit.shifted import is_shifted, load_shifted
from fornix.compile.emit.types import literal, memory_type, register_type, size_of, suffix
from fornix.compile.nest import Put
from fornix.dtype import BOOL, UINT8, DType
from fornix.ir.dim import Dim, DimLike, is_nonnegative
from fornix.ir.dim.expression import substitute, terms_of
from fornix.ir.loops import Apply, Buffer, Const, Load, Scalar, const, loaded, select
from fornix.ir.loops import load as load_scalar

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

ALL_CACHES, SECOND_CACHE = 3, 2
"""Which caches fetch a line that is asked for, as LLVM counts them."""
MAX_STRIDE = 4
"""Up to here elements are read as whole vectors and picked; beyond it they are gathered."""


def load(em: Emitter, e: Load, unit: int) -> Value:
    """The element, or those in the lanes of ``unit``."""
    guard = None if e.guard is None else em.value(e.guard, unit)
    guard = _guard_of_empty_axes(em, e, guard)
    if not em.depends(e):
        return _load_one(em, e, guard)
    step = stride(em, e.address)
    if step == 0 and guard is None:
        return _load_one(em, e, None)
    place, picks = byte_of(em, e), picks_of(em, e)
    if place is not None:
        value = look_up(em, e, place, unit, _earliest(em, e.buffer))
    elif picks is not None:
        origin = address(em, e.buffer, e.address - Dim({(picks.place,): 1}))
        value = picked(em, e, picks, unit, origin, guard)
    elif step == 1 and guard is not None and not guard.is_vector and unit not in em.masks:
        value = _load_or_default(em, e, guard, unit)
    else:
        is_padded = e.buffer in em.padded and step != -1  # nothing lies before its first element
        mask = guard if is_padded else em.mask_of(unit, guard)
        value = _load_lanes(em, e, step, mask, unit)
    return _to_register(em, value, e.dtype)


def _load_lanes(em: Emitter, e: Load, step: int | None, mask: Value | None, unit: int) -> Value:
    """The elements in the lanes of ``unit`` where ``mask`` is on, ``step`` apart if that is known.

    NB: for processors without AVX-512, LLVM makes of a masked load whose mask is constant and off
    in every second lane one that reads all lanes, also what lies behind the end of a buffer.
    """
    is_masked = mask is not None and (e.guard is not None or "avx512f" not in em.target.features)
    if step is None and not is_masked and em.is_aligned and em.vector is not None:
        near = near_offsets(e.address, em.vector, em.lanes)
        if near is not None:
            return _load_near(em, e, near, mask, unit)
    if step == -1 and (mask is None or "avx512f" in em.target.features):
        return _load_backwards(em, e, mask, unit)
    if step is None or not 1 <= step <= MAX_STRIDE:
        return _gather(em, e, mask, unit)
    if mask is not None and is_shifted(em, e, step):
        return _load_shifted(em, e, step, mask, unit)
    if step > 1 and mask is not None and "avx512f" not in em.target.features:
        return _gather(em, e, mask, unit)
    where = address(em, e.buffer, e.address, unit * em.lanes * step)
    if step > 1 and not any(loaded(e.address)) and e.buffer not in em.padded:
        where, mask = _chosen(em, e, where, step, unit)
    if step > 1 and mask is None:
        return _load_between(em, e, where, step)
    depth = max(where.depth, _earliest(em, e.buffer), mask.depth if mask else 0)
    return _load_wide(em, e, where, step, mask, depth)


def _chosen(em: Emitter, e: Load, where: Value, step: int, unit: int) -> tuple[Value, Value | None]:
    """``where``, or memory that holds the default, and the mask of lanes to be read there.

    What a guard asks for all lanes alike chooses the address, so that rows have a mask in common.
    """
    guards = [] if e.guard is None else list(_conjuncts(e.guard))
    moving = [em.value(guard, unit) for guard in guards if em.depends(guard)]
    still = [em.value(guard) for guard in guards if not em.depends(guard)]
    if still:
        is_it = functools.reduce(functools.partial(_both, em), still)
        size = em.lanes * step * size_of(e.dtype)
        kind = f"<{em.lanes * step} x {memory_type(e.dtype)}>"
        other = _spare(em, size, f"{kind} splat ({_element(e)})")
        depth = max(where.depth, is_it.depth)
        text = em.put(depth, f"select i1 {is_it.text}, ptr {where.text}, ptr {other}")
        where = Value(text, False, depth)
    own = functools.reduce(functools.partial(_both, em), moving) if moving else None
    return where, em.mask_of(unit, own)


def _conjuncts(guard: Scalar) -> Iterator[Scalar]:
    """What ``guard`` demands, one thing after the other."""
    if isinstance(guard, Apply) and guard.op == "and":
        for part in guard.args:
            yield from _conjuncts(part)
    else:
        yield guard


def _load_shifted(em: Emitter, e: Load, step: int, mask: Value, unit: int) -> Value:
    """The elements where ``mask`` is on, of what may be read whether it is or not."""
    v = load_shifted(em, e, step, unit, _earliest(em, e.buffer))
    depth = max(v.depth, mask.depth)
    lanes, kind = em.type(BOOL, is_vector=True), f"<{em.lanes} x {memory_type(e.dtype)}>"
    chosen = f"select {lanes} {mask.text}, {kind} {v.text}, {kind} splat ({_element(e)})"
    return Value(em.put(depth, chosen), True, depth)


def _load_near(
    em: Emitter, e: Load, offsets: tuple[int, ...], mask: Value | None, unit: int
) -> Value:
    """The elements ``offsets`` behind that of the first lane: read once each, then repeated.

    Of those only that lanes of ``mask`` ask for.
    """
    ahead: DimLike = 0
    if em.vector is not None:
        moved = substitute(e.address, {em.vector: em.vector.dim + unit * em.lanes}, {})
        ahead = moved - e.address
    if not isinstance(ahead, int):
        return _gather(em, e, mask, unit)
    text, depth, kinds = "", _earliest(em, e.buffer), f"<{em.lanes} x {memory_type(e.dtype)}>"
    for first, last in groups_of(offsets):
        where = address(em, e.buffer, e.address, ahead + first)
        depth = max(where.depth, depth, mask.depth if mask else 0)
        asked = [offsets.index(n) if n in offsets else None for n in range(first, last + 1)]
        kind, part = _neighbours(em, e, where, asked, mask, depth)
        own = [first <= offset <= last for offset in offsets]
        chosen = zip(offsets, own, strict=True)
        picks = ", ".join(f"i32 {n - first if is_own else 'poison'}" for n, is_own in chosen)
        part = _shuffled(em, (kind, part, "poison"), picks, depth)
        if text:
            ones = ", ".join(f"i32 {k + em.lanes * is_own}" for k, is_own in enumerate(own))
            part = _shuffled(em, (kinds, text, part), ones, depth)
        text = part
    return Value(text, True, depth)


def _neighbours(
    em: Emitter,
    e: Load,
    where: Value,
    asked: Sequence[int | None],
    mask: Value | None,
    depth: int,
) -> tuple[str, str]:
    """The type and text of elements side by side, of each of which a lane is the first that asks.

    Those are not read of which that lane is not in ``mask``.
    """
    if mask is None:
        kind = f"<{len(asked)} x {memory_type(e.dtype)}>"
        text = em.put(depth, f"load {kind}, ptr {where.text}, align {size_of(e.dtype)}")
        return kind, text
    whole = [*asked, *[None] * (em.lanes - len(asked))]
    picks = ", ".join(f"i32 {em.lanes if k is None else k}" for k in whole)
    operands = em.type(BOOL, is_vector=True), mask.text, "zeroinitializer"
    lanes = Value(_shuffled(em, operands, picks, depth), True, depth)
    kind = f"<{em.lanes} x {memory_type(e.dtype)}>"
    return kind, _load_wide(em, e, where, 1, lanes, depth).text


def _shuffled(em: Emitter, operands: tuple[str, str, str], picks: str, depth: int) -> str:
    """The lanes ``picks`` of two vectors of a type."""
    kind, a, b = operands
    return em.put(depth, f"shufflevector {kind} {a}, {kind} {b}, <{em.lanes} x i32> <{picks}>")


def _load_backwards(em: Emitter, e: Load, mask: Value | None, unit: int) -> Value:
    """Neighbours from the last one on: a vector as it lies, turned around."""
    picks = ", ".join(f"i32 {k}" for k in reversed(range(em.lanes)))
    where = address(em, e.buffer, e.address, 1 - (unit + 1) * em.lanes)
    depth = max(where.depth, _earliest(em, e.buffer), mask.depth if mask else 0)
    if mask is not None:
        kind = em.type(BOOL, is_vector=True)
        kinds = f"{kind} {mask.text}, {kind} poison, <{em.lanes} x i32> <{picks}>"
        mask = Value(em.put(mask.depth, f"shufflevector {kinds}"), True, mask.depth)
    found = _load_wide(em, e, where, 1, mask, depth)
    kind = f"<{em.lanes} x {memory_type(e.dtype)}>"
    kinds = f"{kind} {found.text}, {kind} poison, <{em.lanes} x i32> <{picks}>"
    return Value(em.put(depth, f"shufflevector {kinds}"), True, depth)


def _load_between(em: Emitter, e: Load, where: Value, step: int) -> Value:
    """Elements ``step`` apart from whole vectors, which lie between the first and the last."""
    lanes, last = em.lanes, (em.lanes - 1) * step
    starts = [min(start, last - lanes + 1) for start in range(0, last + 1, lanes)]
    kind, size = f"<{lanes} x {memory_type(e.dtype)}>", size_of(e.dtype)
    text, depth = "", max(where.depth, _earliest(em, e.buffer))
    for part, start in enumerate(starts):
        place = f"getelementptr {memory_type(e.dtype)}, ptr {where.text}, i64 {start}"
        place = em.put(where.depth, place) if start else where.text
        loaded_part = em.put(depth, f"load {kind}, ptr {place}, align {size}")
        picks = []
        for k in range(lanes):
            own = min(k * step // lanes, len(starts) - 1)
            picks.append(k if own < part else lanes + k * step - start if own == part else None)
        chosen = ", ".join("i32 poison" if p is None else f"i32 {p}" for p in picks)
        kinds = f"{kind} {text or 'poison'}, {kind} {loaded_part}, <{lanes} x i32> <{chosen}>"
        text = em.put(depth, f"shufflevector {kinds}")
    return Value(text, True, depth)


def _guard_of_empty_axes(em: Emitter, e: Load, guard: Value | None) -> Value | None:
    """What is gathered along an axis that may be empty is read only if it is not.

    Without a guard of its own such a load fails, as any index does that is out of range.
    """
    for atom in loaded(e.address):
        if is_nonnegative(atom.extent - 1) is True:
            continue
        extent = em.dim(atom.extent)
        key = ("empty", atom.extent)
        found = em.find(key)
        if found is None:
            depth = max(extent.depth, em.barrier)
            text = em.put(depth, f"icmp sgt i64 {extent.text}, 0")
            found = em.remember(key, Value(text, False, depth))
        if e.guard is None:
            em.check("index", f"{atom}", found, 0)
        guard = found if guard is None else _both(em, guard, found)
    return guard


def _both(em: Emitter, a: Value, b: Value) -> Value:
    is_vector, depth = a.is_vector or b.is_vector, max(a.depth, b.depth)
    x, y = (em.splat(v, BOOL) if is_vector else v.text for v in (a, b))
    kind = em.type(BOOL, is_vector=is_vector)
    return Value(em.put(depth, f"and {kind} {x}, {y}"), is_vector, depth)


def address(em: Emitter, buffer: Buffer, place: DimLike, more: int = 0) -> Value:
    """A pointer to element ``place + more``."""
    constant = terms_of(place).get((), 0)
    rest = place - constant
    pointer = em.pointers[buffer]
    kind = memory_type(buffer.dtype)
    if not isinstance(rest, int):
        key = ("address", buffer, rest)
        found = em.find(key)
        if found is None:
            offset = em.dim(rest)
            depth = max(offset.depth, pointer.depth)
            text = em.put(depth, f"getelementptr {kind}, ptr {pointer.text}, i64 {offset.text}")
            found = em.remember(key, Value(text, False, depth))
        pointer = found
    if constant + more == 0:
        return pointer
    step = f"getelementptr {kind}, ptr {pointer.text}, i64 {constant + more}"
    return Value(em.put(pointer.depth, step), False, pointer.depth)


def ask(
    em: Emitter,
    buffer: Buffer,
    place: DimLike,
    more: int = 0,
    *,
    by: int = ALL_CACHES,
    is_written: bool = False,
) -> None:
    """Have the line of element ``place + more`` fetched ``by`` some caches; there may be none.

    It is going to be read, unless it is ``is_written``.
    """
    where = address(em, buffer, place, more)
    how = (("i32", str(int(is_written))), ("i32", str(by)), ("i32", "1"))  # data
    em.call(em.top, "void", "llvm.prefetch.p0", ("ptr", where.text), *how)


def _earliest(em: Emitter, buffer: Buffer) -> int:
    """The outermost level at which ``buffer`` may be read: what changes, where it is asked for."""
    return em.top if buffer in em.changing else em.barrier


def _load_one(em: Emitter, e: Load, guard: Value | None) -> Value:
    where = address(em, e.buffer, e.address)
    depth = max(where.depth, _earliest(em, e.buffer))
    kind = memory_type(e.dtype)
    pointer = where.text
    if guard is not None:  # what may not be read is read elsewhere, and not used
        depth = max(depth, guard.depth)
        pointer = em.put(depth, f"select i1 {guard.text}, ptr {pointer}, ptr %nowhere")
    text = em.put(depth, f"load {kind}, ptr {pointer}, align {size_of(e.dtype)}")
    value = _to_register(em, Value(text, False, depth), e.dtype)
    if guard is None:
        return value
    kind = register_type(e.dtype)
    default = literal(e.default, e.dtype)
    chosen = f"select i1 {guard.text}, {kind} {value.text}, {kind} {default}"
    return Value(em.put(depth, chosen), False, depth)


def _to_register(em: Emitter, v: Value, dtype: DType) -> Value:
    if dtype is not BOOL:
        return v
    kind = f"<{em.lanes} x i8>" if v.is_vector else "i8"
    zero = "zeroinitializer" if v.is_vector else "0"
    return Value(em.put(v.depth, f"icmp ne {kind} {v.text}, {zero}"), v.is_vector, v.depth)


def _load_or_default(em: Emitter, e: Load, guard: Value, unit: int) -> Value:
    """Neighbouring elements if ``guard`` holds, for all lanes alike: chosen by their address."""
    kind = f"<{em.lanes} x {memory_type(e.dtype)}>"
    where = address(em, e.buffer, e.address, unit * em.lanes)
    other = _spare(em, em.lanes * size_of(e.dtype), f"{kind} splat ({_element(e)})")
    depth = max(where.depth, _earliest(em, e.buffer), guard.depth)
    pointer = em.put(depth, f"select i1 {guard.text}, ptr {where.text}, ptr {other}")
    return Value(
        em.put(depth, f"load {kind}, ptr {pointer}, align {size_of(e.dtype)}"), True, depth
    )


def _spare(em: Emitter, size: int, content: str) -> str:
    """A pointer to memory of the kernel's own that holds ``content``, or what was put there."""
    key = ("spare", size, content)
    found = em.find(key)
    if found is None:
        text = em.stack(size)
        if content:
            em.do(f"store {content}, ptr {text}", 0)
        found = em.remember(key, Value(text, False, 0))
    return found.text


def _load_wide(
    em: Emitter, e: Scalar, where: Value, step: int, mask: Value | None, depth: int
) -> Value:
    element, size = memory_type(e.dtype), size_of(e.dtype)
    kind = f"<{em.lanes} x {element}>"
    if step == 1 and mask is None:
        return Value(em.put(depth, f"load {kind}, ptr {where.text}, align {size}"), True, depth)
    count = em.lanes * step
    wide = f"<{count} x {element}>"
    lanes = _spread(em, mask, step, depth)
    default = f"splat ({_element(e)})"
    text = em.call(
        depth,
        wide,
        f"llvm.masked.load.{suffix(wide)}.p0",
        ("ptr", where.text),
        ("i32", str(size)),
        (f"<{count} x i1>", lanes),
        (wide, default),
    )
    if step > 1:
        picks = f"<{', '.join(f'i32 {k * step}' for k in range(em.lanes))}>"
        kinds = f"{wide} {text}, {wide} poison, <{em.lanes} x i32> {picks}"
        text = em.put(depth, f"shufflevector {kinds}")
    return Value(text, True, depth)


def _spread(em: Emitter, mask: Value | None, step: int, depth: int) -> str:
    """The mask of a wide load: of each group of ``step`` elements, the first, if its lane is on.

    NB: LLVM hands on masks whose size is no power of 2 bit by bit from block to block of its code,
    so that these are made where they are used.
    """
    if step == 1:
        return mask.text if mask else "splat (i1 true)"
    count = em.lanes * step
    if mask is None:
        bits = ("i1 false" if k % step else "i1 true" for k in range(count))
        return f"<{', '.join(bits)}>"
    is_whole = count & (count - 1) == 0
    depth = mask.depth if is_whole else depth
    key = ("spread", mask.text, step, depth)
    found = em.find(key)
    if found is None:
        kind = em.type(BOOL, is_vector=True)
        picks = ", ".join(f"i32 {em.lanes if k % step else k // step}" for k in range(count))
        kinds = f"{kind} {mask.text}, {kind} zeroinitializer, <{count} x i32> <{picks}>"
        found = Value(em.write(depth, f"shufflevector {kinds}"), True, depth)
        if is_whole:
            em.remember(key, found)
    return found.text


def _element(e: Scalar) -> str:
    """What lanes hold that are not loaded, with its type."""
    default = e.default if isinstance(e, Load) else 0
    text = str(int(default)) if e.dtype is BOOL else literal(default, e.dtype)
    return f"{memory_type(e.dtype)} {text}"


def _pointers(em: Emitter, buffer: Buffer, place: DimLike, unit: int) -> Value:
    """One pointer per lane."""
    places = em.dims(place, unit)
    base = em.pointers[buffer]
    kind = memory_type(buffer.dtype)
    lanes = f"<{em.lanes} x i64> {places.text}"
    text = em.put(places.depth, f"getelementptr {kind}, ptr {base.text}, {lanes}")
    return Value(text, True, places.depth)


def _gather(em: Emitter, e: Load, mask: Value | None, unit: int) -> Value:
    where = _pointers(em, e.buffer, e.address, unit)
    depth = max(where.depth, _earliest(em, e.buffer), mask.depth if mask else 0)
    return _gather_at(em, e, where, mask, depth)


def _gather_at(em: Emitter, e: Scalar, where: Value, mask: Value | None, depth: int) -> Value:
    kind = f"<{em.lanes} x {memory_type(e.dtype)}>"
    text = em.call(
        depth,
        kind,
        f"llvm.masked.gather.{suffix(kind)}.v{em.lanes}p0",
        (f"<{em.lanes} x ptr>", where.text),
        ("i32", str(size_of(e.dtype))),
        (em.type(BOOL, is_vector=True), mask.text if mask else "splat (i1 true)"),
        (kind, f"splat ({_element(e)})"),
    )
    return Value(text, True, depth)


def in_bytes(em: Emitter, put: Put) -> Put:
    """``put`` of bools that are moved or chosen and no more as one of bytes, without masks."""
    is_bool = put.buffer.dtype is BOOL and put.op is None
    value = _as_byte(em, put.value) if is_bool and not isinstance(put.value, Const) else None
    return put if value is None else replace(put, buffer=em.words(put.buffer, UINT8), value=value)


def _as_byte(em: Emitter, e: Scalar) -> Scalar | None:
    """The byte that holds the bool ``e`` in memory; None where it is computed."""
    if isinstance(e, Const):
        return const(int(e.value), UINT8)
    if isinstance(e, Load) and e.buffer not in em.changing:
        return load_scalar(em.words(e.buffer, UINT8), e.address, e.guard, int(e.default))
    if isinstance(e, Apply) and e.op == "select":
        condition, *choices = e.args
        a, b = (_as_byte(em, choice) for choice in choices)
        return None if a is None or b is None else select(condition, a, b)
    return None


def store(em: Emitter, put: Put, unit: int) -> None:
    """Write an element, or those in the lanes of ``unit``.

    NB: where the mask is one lane, LLVM makes of a masked store of what is truncated one of an
    element before that, which overwrites what lies behind. It does not see through `freeze`.
    """
    buffer, place = put.buffer, put.address
    value = em.value(put.value, unit)
    size = size_of(buffer.dtype)
    if not em.depends(place):
        where = _guarded(em, put, address(em, buffer, place))
        if put.op is not None:
            value = _combined(em, put, where, value, unit)
        text = _to_memory(em, value, buffer.dtype)
        em.do(f"store {memory_type(buffer.dtype)} {text}, ptr {where.text}, align {size}")
        return
    mask = em.masks.get(unit)
    if stride(em, place) == 1:
        where = _guarded(em, put, address(em, buffer, place, unit * em.lanes))
    else:
        where = _pointers(em, buffer, place, unit)
    value = Value(em.splat(value, buffer.dtype), True, value.depth)
    if put.op is not None:
        value = _combined(em, put, where, value, unit)
    text = _to_memory(em, value, buffer.dtype)
    kind = f"<{em.lanes} x {memory_type(buffer.dtype)}>"
    if mask is None and not where.is_vector:
        em.do(f"store {kind} {text}, ptr {where.text}, align {size}")
        return
    lanes = (em.type(BOOL, is_vector=True), mask.text if mask else "splat (i1 true)")
    text = em.put(em.top, f"freeze {kind} {text}")
    what = "scatter" if where.is_vector else "store"
    places = (f"<{em.lanes} x ptr>" if where.is_vector else "ptr", where.text)
    function = f"llvm.masked.{what}.{suffix(kind)}.{suffix(places[0])}"
    em.call(em.top, "void", function, (kind, text), places, ("i32", str(size)), lanes)


def _guarded(em: Emitter, put: Put, where: Value) -> Value:
    """``where``, or memory of no use where the guard of ``put`` does not hold."""
    if put.guard is None:
        return where
    guard = em.value(put.guard)
    unused = _spare(em, em.lanes * size_of(put.buffer.dtype), "")
    depth = max(where.depth, guard.depth)
    text = em.put(depth, f"select i1 {guard.text}, ptr {where.text}, ptr {unused}")
    return Value(text, False, depth)


def _combined(em: Emitter, put: Put, where: Value, new: Value, unit: int) -> Value:
    """The element at ``where``, read anew, combined with ``new``."""
    dtype = put.buffer.dtype
    e = load_scalar(put.buffer, put.address)
    if where.is_vector:
        old = _gather_at(em, e, where, em.masks.get(unit), em.top)
    elif em.depends(put.address):
        old = _load_wide(em, e, where, 1, em.masks.get(unit), em.top)
    else:
        kind = memory_type(dtype)
        text = em.put(em.top, f"load {kind}, ptr {where.text}, align {size_of(dtype)}")
        old = Value(text, False, em.top)
    return binary(em, put.op or "", dtype, _to_register(em, old, dtype), new)


def _to_memory(em: Emitter, v: Value, dtype: DType) -> str:
    if dtype is not BOOL:
        return v.text
    kind = em.type(BOOL, is_vector=v.is_vector)
    to = f"<{em.lanes} x i8>" if v.is_vector else "i8"
    return em.put(v.depth, f"zext {kind} {v.text} to {to}")
