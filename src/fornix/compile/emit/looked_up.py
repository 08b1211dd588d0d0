"""Bytes looked up in tables of 256: vectors of them that are picked out of registers.

Decides with which instructions; elements that are looked up otherwise are gathered one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.dtype import UINT8
from fornix.ir.dim import Dim
from fornix.ir.loops import Apply, Load, Loaded, Scalar

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.target import Target

BYTES = 256
"""Of a table."""
ROW = 16
"""Bytes of it among which older instructions pick: as many as the low half of a byte tells."""
OUTSIDE = 0x70
"""What is added, saturating, so that bytes of `ROW` and more pick nothing, but a 0."""
_IN_ROWS = {64: ("avx512bw", "avx512.pshuf.b.512"), 32: ("avx2", "avx2.pshuf.b")}
"""By bytes of a vector: who picks so, and with what."""


def finding(target: Target) -> str | None:
    """The instruction that picks bytes out of a register; None if there is none."""
    if target.has("avx512vbmi") and target.has("avx512bw"):
        return "avx512.vpermi2var.qi.512"
    feature, name = _IN_ROWS.get(target.vector_bytes, ("", ""))
    return name if target.has(feature) else None


def steps(target: Target) -> int:
    """Instructions that look a vector up."""
    return 4 if target.has("avx512vbmi") else 4 * BYTES // ROW


def byte_of(em: Emitter, e: Load) -> Scalar | None:
    """The byte that says where ``e`` lies in a table, if whole vectors of such are looked up."""
    if em.lanes != em.target.vector_bytes or finding(em.target) is None or e.guard is not None:
        return None
    atom = _only_atom(e.address)
    if e.dtype.bits != UINT8.bits or not isinstance(atom, Loaded) or atom.extent != BYTES:
        return None
    place = atom.expr
    is_byte = isinstance(place, Apply) and place.op == "cast" and place.args[0].dtype is UINT8
    return place.args[0] if is_byte else None


def _only_atom(address: object) -> object:
    if not isinstance(address, Dim) or len(address.terms) != 1:
        return None
    ((factors, count),) = address.terms.items()
    return factors[0] if len(factors) == 1 and count == 1 else None


def look_up(em: Emitter, e: Load, place: Scalar, unit: int, earliest: int) -> Value:
    """Elements of the table that ``e`` reads, which may be read from level ``earliest`` on."""
    at = em.value(place, unit)
    depth = max(at.depth, earliest)
    name = finding(em.target) or ""
    if em.target.has("avx512vbmi"):
        return Value(_in_halves(em, e, at, name, (depth, earliest)), True, depth)
    return Value(_in_rows(em, e, at, name, (depth, earliest)), True, depth)


def _in_halves(em: Emitter, e: Load, at: Value, name: str, depths: tuple[int, int]) -> str:
    """Out of both halves of the table by 7 bits of a byte, of which the last tells the half."""
    depth, earliest = depths
    kind = f"<{em.lanes} x i8>"
    quarters = [_read(em, e, em.lanes, k, earliest) for k in range(BYTES // em.lanes)]
    halves = [
        em.call(depth, kind, f"llvm.x86.{name}", (kind, a), (kind, at.text), (kind, b))
        for a, b in (quarters[:2], quarters[2:])
    ]
    is_high = em.put(depth, f"icmp slt {kind} {at.text}, zeroinitializer")
    low, high = halves[0], halves[1]
    return em.put(depth, f"select <{em.lanes} x i1> {is_high}, {kind} {high}, {kind} {low}")


def _in_rows(em: Emitter, e: Load, at: Value, name: str, depths: tuple[int, int]) -> str:
    """Out of all rows, of which each gives a 0 where the byte lies in another."""
    depth, earliest = depths
    kind, total = f"<{em.lanes} x i8>", ""
    picks = ", ".join(f"i32 {k % ROW}" for k in range(em.lanes))
    for k in range(BYTES // ROW):
        row = _read(em, e, ROW, k, earliest)
        lanes = f"<{ROW} x i8> {row}, <{ROW} x i8> poison, <{em.lanes} x i32> <{picks}>"
        row = em.put(earliest, f"shufflevector {lanes}")
        here = em.put(depth, f"xor {kind} {at.text}, splat (i8 {k * ROW})")
        outside = (kind, f"splat (i8 {OUTSIDE})")
        here = em.call(depth, kind, f"llvm.uadd.sat.v{em.lanes}i8", (kind, here), outside)
        found = em.call(depth, kind, f"llvm.x86.{name}", (kind, row), (kind, here))
        total = em.put(depth, f"or {kind} {total}, {found}") if total else found
    return total


def _read(em: Emitter, e: Load, count: int, number: int, depth: int) -> str:
    """The ``count`` bytes of the table that have ``number`` times as many before them."""
    base = em.pointers[e.buffer].text
    where = em.put(depth, f"getelementptr i8, ptr {base}, i64 {number * count}")
    return em.put(depth, f"load <{count} x i8>, ptr {where}, align 1")
