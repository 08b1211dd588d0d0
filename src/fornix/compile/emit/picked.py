"""Elements at places from memory that lie near each other: picked out of vectors read whole.

To gather takes an access per lane. Where places go on by little from lane to lane, those of a
vector of elements lie within a few vectors, of which an instruction picks them by their numbers.
Where these begin and what the numbers are is worked out before, once for all rows. What is read
stays inside the axis that the places number. Decides for which elements a processor has such an
instruction; that places do lie so near the schedule has to make sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.axes import only_place
from fornix.compile.emit.builder import Value
from fornix.compile.emit.types import memory_type, size_of
from fornix.compile.nest import Picks
from fornix.dtype import BOOL, DType
from fornix.ir.dim import Dim, is_nonnegative
from fornix.ir.loops import Load

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.target import Target

AVX2_BITS, AVX2_VECTOR = 32, 256
"""Bits of elements that AVX2 picks, and of the vectors."""
_NAMES = {
    8: ("qi", "qi", "avx512vbmi"),
    16: ("hi", "hi", "avx512bw"),
    32: ("si", "d", "avx512f"),
    64: ("di", "q", "avx512f"),
}
"""By bits: what LLVM calls elements picked out of one vector, out of two, and who does that."""
SHORTEST, WIDEST = 128, 512
"""Bits of vectors that AVX-512 picks from."""


def picked_bits(target: Target, dtype: DType, lanes: int) -> int | None:
    """The bits of elements of ``dtype`` in registers that are picked from; None if none can be."""
    own = size_of(dtype) * 8
    if target.has("avx512vl"):
        fitting = (b for b in _NAMES if b >= own and SHORTEST <= b * lanes <= WIDEST)
        return next((b for b in fitting if target.has(_NAMES[b][-1])), None)
    is_it = own == AVX2_BITS and own * lanes == AVX2_VECTOR
    return own if target.has("avx2") and is_it else None


def prepare(em: Emitter, picks: Picks, unit: int) -> None:
    """Write where the vectors begin that ``unit`` picks from, and the numbers of its elements.

    They begin early enough to end with the axis, so that lanes are masked only of short axes.
    """
    lanes, top, place = em.lanes, em.top, Dim({(picks.place,): 1})
    at = em.dims(place, unit)
    text = em.put(at.depth, f"extractelement <{lanes} x i64> {at.text}, i32 0")
    last = em.dim(picks.place.extent - picks.count * lanes)
    depth = max(at.depth, last.depth)
    text = em.call(depth, "i64", "llvm.smin.i64", ("i64", text), ("i64", last.text))
    text = em.call(depth, "i64", "llvm.smax.i64", ("i64", text), ("i64", "0"))
    first = Value(text, False, depth)
    text = em.put(depth, f"sub <{lanes} x i64> {at.text}, {em.splat_index(first)}")
    if picks.bits < 64:
        text = em.put(depth, f"trunc <{lanes} x i64> {text} to <{lanes} x i{picks.bits}>")
    firsts, numbers = _tables(em, picks, unit)
    em.do(f"store i64 {first.text}, ptr {firsts.text}, align 8", top)
    em.do(f"store <{lanes} x i{picks.bits}> {text}, ptr {numbers.text}, align 8", top)


def _tables(em: Emitter, picks: Picks, unit: int) -> tuple[Value, Value]:
    """Where the first element of the vectors of ``unit`` is kept, and where the numbers are."""
    (axis,) = picks.place.variables
    at = em.places[axis]
    vector = em.put(at.depth, f"lshr i64 {at.text}, {em.lanes.bit_length() - 1}")
    found = []
    for buffer, number, more in ((picks.firsts, vector, 1), (picks.numbers, at.text, em.lanes)):
        kind, base = memory_type(buffer.dtype), em.pointers[buffer].text
        text = em.put(at.depth, f"getelementptr {kind}, ptr {base}, i64 {number}")
        if unit:
            text = em.put(at.depth, f"getelementptr {kind}, ptr {text}, i64 {unit * more}")
        found.append(Value(text, False, at.depth))
    return found[0], found[1]


def picks_of(em: Emitter, e: Load) -> Picks | None:
    """How elements of ``e`` are picked, if they are."""
    if not em.picks or e.guard is not None or e.buffer in em.changing or em.vector is None:
        return None
    place = only_place(e.address, em.vector)
    picks = None if place is None else em.picks.get(place)
    is_it = picks is not None and picked_bits(em.target, e.dtype, em.lanes) == picks.bits
    return picks if is_it else None


def picked(
    em: Emitter, e: Load, picks: Picks, unit: int, origin: Value, guard: Value | None
) -> Value:
    """The elements of ``unit`` that ``e`` reads, of which the one numbered 0 lies at ``origin``.

    Nothing is read where ``guard`` does not hold, which is the same in all lanes.
    """
    kind, lanes, bits = memory_type(e.dtype), em.lanes, picks.bits
    first, numbers = _told(em, picks, unit)
    depth = max(origin.depth, first.depth)
    where = f"getelementptr {kind}, ptr {origin.text}, i64 {first.text}"
    pointer = Value(em.put(depth, where), False, depth)
    parts = [_part(em, e, pointer, picks, k, guard) for k in range(picks.count)]
    text = _of_parts(em, parts, numbers.text, bits, depth)
    if bits > size_of(e.dtype) * 8:
        text = em.put(depth, f"trunc <{lanes} x i{bits}> {text} to <{lanes} x {kind}>")
    elif kind != f"i{bits}":
        text = em.put(depth, f"bitcast <{lanes} x i{bits}> {text} to <{lanes} x {kind}>")
    return Value(text, True, depth)


def _told(em: Emitter, picks: Picks, unit: int) -> tuple[Value, Value]:
    """What was written for ``unit``."""
    keys = [(what, picks.place, unit) for what in ("first", "numbers")]
    found = [em.find(key) for key in keys]
    if found[0] is not None and found[1] is not None:
        return found[0], found[1]
    kinds = "i64", f"<{em.lanes} x i{picks.bits}>"
    depth = max(em.top, em.barrier)
    first, numbers = (
        em.remember(key, Value(em.put(depth, f"load {kind}, ptr {at.text}, align 8"), False, depth))
        for key, kind, at in zip(keys, kinds, _tables(em, picks, unit), strict=True)
    )
    return first, numbers


def _part(
    em: Emitter, e: Load, where: Value, picks: Picks, number: int, guard: Value | None
) -> str:
    """Vector ``number`` of those picked from; lanes beyond the axis are not read."""
    size, lanes, depth = size_of(e.dtype), em.lanes, where.depth
    own, wide = f"i{size * 8}", f"i{picks.bits}"
    kind, text = f"<{lanes} x {own}>", where.text
    if number:
        text = em.put(depth, f"getelementptr {own}, ptr {text}, i64 {number * lanes}")
    is_long = is_nonnegative(picks.place.extent - picks.count * lanes) is True
    if is_long and guard is None:
        text = em.put(depth, f"load {kind}, ptr {text}, align {size}")
    else:
        mask = em.first_lanes(em.dim(picks.place.extent), number)
        if guard is not None:
            own_depth = max(mask.depth, guard.depth)
            given_lanes = f"and <{lanes} x i1> {mask.text}, {em.splat(guard, BOOL)}"
            mask = Value(em.put(own_depth, given_lanes), True, own_depth)
        function = f"llvm.masked.load.v{lanes}{own}.p0"
        given = (("ptr", text), ("i32", str(size)), (f"<{lanes} x i1>", mask.text))
        text = em.call(depth, kind, function, *given, (kind, "zeroinitializer"))
    return text if own == wide else em.put(depth, f"zext {kind} {text} to <{lanes} x {wide}>")


def _of_parts(em: Emitter, parts: Sequence[str], numbers: str, bits: int, depth: int) -> str:
    """The elements of one, two or four vectors that ``numbers`` count through them."""
    kind = f"<{em.lanes} x i{bits}>"
    if len(parts) == 1:
        return _of_one(em, parts[0], numbers, bits, depth)
    half = len(parts) // 2 * em.lanes
    if len(parts) == 2 and em.target.has("avx512vl"):
        function = f"llvm.x86.avx512.vpermi2var.{_NAMES[bits][1]}.{em.lanes * bits}"
        return em.call(depth, kind, function, *((kind, x) for x in (parts[0], numbers, parts[1])))
    low, high = (
        _of_parts(em, some, numbers, bits, depth)
        for some in (parts[: len(parts) // 2], parts[len(parts) // 2 :])
    )
    high_bit = em.put(depth, f"and {kind} {numbers}, splat (i{bits} {half})")
    is_high = em.put(depth, f"icmp ne {kind} {high_bit}, zeroinitializer")
    return em.put(depth, f"select <{em.lanes} x i1> {is_high}, {kind} {high}, {kind} {low}")


def _of_one(em: Emitter, part: str, numbers: str, bits: int, depth: int) -> str:
    """The elements of ``part`` that the lowest bits of ``numbers`` count."""
    kind, total = f"<{em.lanes} x i{bits}>", em.lanes * bits
    if (bits, total) == (AVX2_BITS, AVX2_VECTOR):
        return em.call(depth, kind, "llvm.x86.avx2.permd", (kind, part), (kind, numbers))
    if bits >= AVX2_BITS and total == SHORTEST:
        function = f"llvm.x86.avx512.vpermi2var.{_NAMES[bits][1]}.{total}"
        return em.call(depth, kind, function, (kind, part), (kind, numbers), (kind, part))
    function = f"llvm.x86.avx512.permvar.{_NAMES[bits][0]}.{total}"
    return em.call(depth, kind, function, (kind, part), (kind, numbers))


__all__ = ["picked", "picked_bits", "picks_of", "prepare"]
