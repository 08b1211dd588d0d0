"""Stores of what is rounded to bytes: vectors are packed into one another, and written together.

A quotient that QuantizeLinear rounds is bounded from above, converted to an integer of 32 bits,
and narrowed twice by instructions that saturate: of 4 vectors that takes 4 instructions, where a
vector alone takes two more bounds and a truncation, each of 2. What is not a number becomes the
least integer there, which saturates to the least byte, as QuantizeLinear has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fornix.compile.emit.builder import Value
from fornix.compile.emit.indices import stride
from fornix.compile.emit.memory import address, store
from fornix.compile.nest import Put
from fornix.dtype import FLOAT32, INT8, INT16, INT32, UINT8
from fornix.ir.loops import Apply, Const, Scalar, apply, cast, const, select
from fornix.ops.quantize_loops import Rounded, rounded_byte

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

Write = tuple[Put, int]
"""A store, and the vector of its lanes that it is for."""
MOST, FEWEST = 4, 2
"""Vectors that are written together."""
LANE_BYTES = 16
"""Of the parts of a vector within which instructions pack."""
CURRENT_ROUNDING = 4
EXTREME = 2.0**60
"""Of scales below this, and above its inverse, what is next to bytes is a normal number."""


class _Instructions(NamedTuple):
    """What converts and packs vectors of one width, and the feature that has it."""

    feature: str
    convert: str
    halves: str
    unsigned: str
    signed: str


_BY_LANES = {
    16: _Instructions(
        "avx512bw",
        "llvm.x86.avx512.mask.cvtps2dq.512",
        "llvm.x86.avx512.packssdw.512",
        "llvm.x86.avx512.packuswb.512",
        "llvm.x86.avx512.packsswb.512",
    ),
    8: _Instructions(
        "avx2",
        "llvm.x86.avx.cvt.ps2dq.256",
        "llvm.x86.avx2.packssdw",
        "llvm.x86.avx2.packuswb",
        "llvm.x86.avx2.packsswb",
    ),
    4: _Instructions(
        "sse2",
        "llvm.x86.sse2.cvtps2dq",
        "llvm.x86.sse2.packssdw.128",
        "llvm.x86.sse2.packuswb.128",
        "llvm.x86.sse2.packsswb.128",
    ),
}


def store_all(em: Emitter, writes: Sequence[Write]) -> None:
    """Write vectors, those together that are rounded to bytes in one way."""
    left = list(writes)
    while left:
        first = _rounded(em, left[0])
        count = 0 if first is None else _alike(em, left[:MOST], first)
        count = next((n for n in (MOST, FEWEST) if n <= count), 0)
        if count and first is not None:
            _store_packed(em, left[:count], first)
        else:
            count = 1
            store(em, *left[0])
        del left[:count]


def _rounded(em: Emitter, write: Write) -> Rounded | None:
    """What ``write`` rounds, if it writes all lanes of a vector of bytes side by side."""
    put, unit = write
    given = _BY_LANES.get(em.lanes)
    if given is None or not em.target.has(given.feature) or put.buffer.dtype not in {INT8, UINT8}:
        return None
    is_plain = put.op is None and put.guard is None and unit not in em.masks
    if not is_plain or not em.depends(put.address) or stride(em, put.address) != 1:
        return None
    found = rounded_byte(put.value)
    return None if found is None or not em.depends(found.quotient) else found


def _alike(em: Emitter, writes: Sequence[Write], first: Rounded) -> int:
    """How many of the ``writes`` round to the same type with the same zero point."""
    (put, _), *_ = writes
    for count, (other, unit) in enumerate(writes):
        found = first if count == 0 else _rounded(em, (other, unit))
        is_alike = found is not None and found.zero is first.zero
        if not is_alike or other.buffer is not put.buffer or _varies(em, found):
            return count
    return len(writes)


def _varies(em: Emitter, found: Rounded | None) -> bool:
    """Whether its zero point is not the same in all lanes."""
    return found is not None and found.zero is not None and em.depends(found.zero)


def _store_packed(em: Emitter, writes: Sequence[Write], first: Rounded) -> None:
    """Write as many vectors as are packed into one."""
    vectors = []
    for put, unit in writes:
        found = rounded_byte(put.value)
        if found is not None:
            vectors.append(_converted(em, _bounded(em, found), unit))
    given, kind = _BY_LANES[em.lanes], f"<{em.lanes} x i32>"
    wide = f"<{2 * em.lanes} x i16>"
    pairs = zip(vectors[::2], vectors[1::2], strict=True)
    halves = [em.call(em.top, wide, given.halves, (kind, a), (kind, b)) for a, b in pairs]
    if first.zero is not None:
        zeros = _zeros(em, first.zero, wide)
        name = f"llvm.sadd.sat.v{2 * em.lanes}i16"
        halves = [em.call(em.top, wide, name, (wide, half), (wide, zeros)) for half in halves]
    pack = given.signed if writes[0][0].buffer.dtype is INT8 else given.unsigned
    operands = [(wide, halves[0]), (wide, halves[-1])]
    packed = em.call(em.top, f"<{4 * em.lanes} x i8>", pack, *operands)
    _write(em, writes, _in_order(em, packed, len(vectors)))


def _bounded(em: Emitter, found: Rounded) -> Scalar:
    """A quotient that is at most the greatest one."""
    nearest = _by_inverse(found) if em.target.fuses else None
    if nearest is not None:
        return nearest
    return select(found.greatest < found.quotient, found.greatest, found.quotient)


def _by_inverse(found: Rounded) -> Scalar | None:
    """``x / s`` from ``1 / s`` for a stored scale, as the division rounds it near bytes.

    ``x`` is bounded before: what is left then of infinite numbers is the negative one, which gives
    NaN. The product with the inverse is off by an ulp or so; what is left of ``x`` behind it is
    exact, and its quotient, added, gives the one that is nearest (Markstein, IBM Journal of
    Research and Development 34 (1), 1990). A division takes some three times as long.
    """
    quotient = found.quotient
    if not isinstance(quotient, Apply) or quotient.op != "div":
        return None
    x, divisor = quotient.args
    if not isinstance(divisor, Const) or not 1 / EXTREME < divisor.value < EXTREME:
        return None
    inverse = const(float(1 / np.float32(divisor.value)), FLOAT32)
    most = found.greatest * divisor
    bounded = select(most < x, most, x)
    near = bounded * inverse
    return apply("fma", apply("fma", -near, divisor, bounded), inverse, near)


def _converted(em: Emitter, bounded: Scalar, unit: int) -> str:
    """``bounded`` to the nearest integers, of even ones where two are as near."""
    given, lanes = _BY_LANES[em.lanes], em.lanes
    x = em.splat(em.value(bounded, unit), FLOAT32)
    operands = [(em.type(FLOAT32, is_vector=True), x)]
    kind = em.type(INT32, is_vector=True)
    if ".mask." in given.convert:
        operands += [(kind, "zeroinitializer"), (f"i{lanes}", "-1")]
        operands += [("i32", str(CURRENT_ROUNDING))]
    return em.call(em.top, kind, given.convert, *operands)


def _zeros(em: Emitter, zero: Scalar, kind: str) -> str:
    """A zero point in every lane of a vector of halves."""
    value = em.value(cast(zero, INT16))
    if not value.text.startswith("%"):
        return f"splat (i16 {value.text})"
    key = ("zeros", value.text, kind)
    found = em.find(key)
    if found is None:
        one = em.put(value.depth, f"insertelement {kind} poison, i16 {value.text}, i32 0")
        lanes = f"<{2 * em.lanes} x i32> zeroinitializer"
        text = em.put(value.depth, f"shufflevector {kind} {one}, {kind} poison, {lanes}")
        found = em.remember(key, Value(text, True, value.depth))
    return found.text


def _in_order(em: Emitter, packed: str, count: int) -> str:
    """The bytes of ``count`` vectors one behind the other, of which lanes had parts in turn."""
    parts = em.lanes * INT32.bits // 8 // LANE_BYTES
    words = em.put(em.top, f"bitcast <{4 * em.lanes} x i8> {packed} to <{em.lanes} x i32>")
    picks = ", ".join(f"i32 {MOST * part + v}" for v in range(count) for part in range(parts))
    kind, length = f"<{em.lanes} x i32>", count * parts
    chosen = f"{kind} {words}, {kind} poison, <{length} x i32> <{picks}>"
    turned = em.put(em.top, f"shufflevector {chosen}")
    return em.put(em.top, f"bitcast <{length} x i32> {turned} to <{count * em.lanes} x i8>")


def _write(em: Emitter, writes: Sequence[Write], text: str) -> None:
    """Write vectors that are one text, those at once that lie one behind the other."""
    whole = f"<{len(writes) * em.lanes} x i8>"
    first = 0
    while first < len(writes):
        end = first + 1
        while end < len(writes) and _follows(em, writes[end - 1], writes[end]):
            end += 1
        part, kind = text, f"<{(end - first) * em.lanes} x i8>"
        if kind != whole:
            picks = ", ".join(f"i32 {k}" for k in range(first * em.lanes, end * em.lanes))
            mask = f"<{(end - first) * em.lanes} x i32> <{picks}>"
            part = em.put(em.top, f"shufflevector {whole} {text}, {whole} poison, {mask}")
        put, unit = writes[first]
        where = address(em, put.buffer, put.address, unit * em.lanes)
        em.do(f"store {kind} {part}, ptr {where.text}, align 1")
        first = end


def _follows(em: Emitter, a: Write, b: Write) -> bool:
    """Whether the elements of ``b`` lie behind those of ``a``."""
    gap = b[0].address - a[0].address
    return isinstance(gap, int) and gap + (b[1] - a[1]) * em.lanes == em.lanes


__all__ = ["MOST", "store_all"]
