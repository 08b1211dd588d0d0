"""Products of small integers: `dot4` of int32s that hold four bytes each, `dot2i` of two halves.

The bytes of the first operand of `dot4` are unsigned, those of the second signed; a sum of four
products fits 17 bits, so that only totals wrap. With VNNI it is one instruction; on other x86-64,
halves of 16 bits are multiplied and added in pairs, which is all that `dot2i` does; elsewhere, and
for single elements, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.instructions import Operands
from fornix.dtype import INT32

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.target import Target

_PAIRS = {
    16: ("llvm.x86.sse2.pmadd.wd", "sse2"),
    32: ("llvm.x86.avx2.pmadd.wd", "avx2"),
    64: ("llvm.x86.avx512.pmaddw.d.512", "avx512bw"),
}
"""By bytes of a vector: products of 16-bit integers, added in pairs, and who has them."""
_NARROW = {
    32: ("llvm.x86.avx2.pmadd.ub.sw", "avx2"),
    64: ("llvm.x86.avx512.pmaddubs.w.512", "avx512bw"),
}
"""The same: products of unsigned and signed bytes, added in pairs of 16 bits, which saturate."""
_BYTES = {16: "128", 32: "256", 64: "512"}


def dot4(em: Emitter, a: Value, b: Value, total: Value) -> Value:
    """``total`` and the four products of the bytes of ``a``, unsigned, and ``b``, signed."""
    o = Operands(em, INT32, a, b, total)
    width = em.lanes * 4 if o.is_vector else 0
    if width in _BYTES and em.target.multiplies_bytes(width):
        name = f"llvm.x86.avx512.vpdpbusd.{_BYTES[width]}"
        x, y, z = ((o.type, text) for text in o.texts)
        return o.value(em.call(o.depth, o.type, name, z, x, y))
    if width in _PAIRS and em.target.has(_PAIRS[width][1]):
        return _by_pairs(em, o, width)
    return _one_by_one(o)


def adds_in_halves(target: Target) -> bool:
    """Whether products of bytes are added fastest in 16 bits, where these hold the sums."""
    width = target.vector_bytes
    return width in _NARROW and target.has(_NARROW[width][1]) and not target.multiplies_bytes(width)


def dot4_together(em: Emitter, factors: Sequence[tuple[Value, Value]], total: Value) -> Value:
    """``total`` and the products of all ``factors``, whose sums fit 16 bits; see `dot4`."""
    pairs = [Operands(em, INT32, a, b, total) for a, b in factors]
    o, width = pairs[0], em.lanes * 4
    narrow, half = f"<{width} x i8>", f"<{width // 2} x i16>"
    sums = ""
    for p in pairs:
        x, y = (p.put(f"bitcast {p.type} {text} to {narrow}") for text in p.texts[:2])
        found = em.call(p.depth, half, _NARROW[width][0], (narrow, x), (narrow, y))
        sums = p.put(f"add {half} {sums}, {found}") if sums else found
    wide = em.call(o.depth, o.type, _PAIRS[width][0], (half, sums), (half, "splat (i16 1)"))
    return o.value(o.put(f"add {o.type} {o.texts[2]}, {wide}"))


def dot2i(em: Emitter, a: Value, b: Value, total: Value) -> Value:
    """``total`` and the two products of the halves of ``a`` and ``b``, all of them signed."""
    o = Operands(em, INT32, a, b, total)
    width = em.lanes * 4 if o.is_vector else 0
    if width not in _PAIRS or not em.target.has(_PAIRS[width][1]):
        return _half_by_half(o)
    half = f"<{width // 2} x i16>"
    x, y = (o.put(f"bitcast {o.type} {text} to {half}") for text in o.texts[:2])
    products = em.call(o.depth, o.type, _PAIRS[width][0], (half, x), (half, y))
    return o.value(o.put(f"add {o.type} {o.texts[2]}, {products}"))


def _by_pairs(em: Emitter, o: Operands, width: int) -> Value:
    """Even bytes and odd bytes as halves of 16 bits."""
    half = f"<{width // 2} x i16>"
    total = o.texts[2]
    name = _PAIRS[width][0]
    for low in (True, False):
        x, y = (
            _halves(em, (o.type, half), v, text, low=low, is_signed=signed)
            for v, text, signed in zip(o.values, o.texts, (False, True), strict=False)
        )
        pairs = em.call(o.depth, o.type, name, (half, x), (half, y))
        total = o.put(f"add {o.type} {total}, {pairs}")
    return o.value(total)


def _halves(
    em: Emitter, kinds: tuple[str, str], v: Value, text: str, *, low: bool, is_signed: bool
) -> str:
    """The even or the odd bytes of ``v`` as 16-bit integers; made once."""
    wide, half = kinds
    key = ("halves", text, half, low, is_signed)
    found = em.find(key)
    if found is None:
        bits = em.put(v.depth, f"bitcast {wide} {text} to {half}")
        if low:
            bits = em.put(v.depth, f"shl {half} {bits}, splat (i16 8)")
        shift = "ashr" if is_signed else "lshr"
        bits = em.put(v.depth, f"{shift} {half} {bits}, splat (i16 8)")
        found = em.remember(key, Value(bits, True, v.depth))
    return found.text


def _one_by_one(o: Operands) -> Value:
    a, b, total = o.texts
    for k in range(4):
        x = o.put(f"lshr {o.type} {a}, {o.literal(8 * k)}")
        x = o.put(f"and {o.type} {x}, {o.literal(255)}")
        y = o.put(f"shl {o.type} {b}, {o.literal(24 - 8 * k)}")
        y = o.put(f"ashr {o.type} {y}, {o.literal(24)}")
        total = o.put(f"add {o.type} {total}, {o.put(f'mul {o.type} {x}, {y}')}")
    return o.value(total)


def _half_by_half(o: Operands) -> Value:
    a, b, total = o.texts
    for k in (16, 0):
        x, y = (o.put(f"shl {o.type} {text}, {o.literal(k)}") for text in (a, b))
        x, y = (o.put(f"ashr {o.type} {text}, {o.literal(16)}") for text in (x, y))
        total = o.put(f"add {o.type} {total}, {o.put(f'mul {o.type} {x}, {y}')}")
    return o.value(total)


__all__ = ["adds_in_halves", "dot2i", "dot4", "dot4_together"]
