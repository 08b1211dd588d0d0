"""Products of bfloat16, two at a time: `dot2` of int32s that hold two each, added in float32.

One instruction of x86-64 with AVX512-BF16. It rounds after each of two additions, and takes
subnormal numbers for 0; nothing else computes the same, so it is emitted for such processors only.
Two numbers are rounded for it (`halves`) by another one, which makes subnormal ones 0; so is a
single one (`half`) where that is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.dtype import BFLOAT16, FLOAT32, INT32
from fornix.errors import NotSupported

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

_WIDTHS = {4: "128", 8: "256", 16: "512"}
"""Bits of a vector by its lanes."""
WHOLE = 16
"""Lanes of the widest one."""


def dot2(em: Emitter, a: Value, b: Value, total: Value) -> Value:
    """``total`` and the two products of the halves of ``a`` and ``b``."""
    if em.lanes not in _WIDTHS or not em.target.has("avx512bf16"):
        raise NotSupported("products of bfloat16 need vectors of AVX512-BF16")
    kind, words = em.type(FLOAT32, is_vector=True), em.type(INT32, is_vector=True)
    depth = max(v.depth for v in (a, b, total))
    given = [(kind, em.splat(total, FLOAT32)), *((words, em.splat(v, INT32)) for v in (a, b))]
    name = f"llvm.x86.avx512bf16.dpbf16ps.{_WIDTHS[em.lanes]}"
    return Value(em.call(depth, kind, name, *given), True, depth)


def rounds_in_pairs(em: Emitter) -> bool:
    """Whether there are instructions for `halves` and `half`."""
    return em.lanes == WHOLE and em.target.has("avx512bf16")


def halves(em: Emitter, a: Value, b: Value) -> Value:
    """``a`` and ``b`` as bfloat16s, to nearest and even, ``a`` in the lower half."""
    depth, kind = max(a.depth, b.depth), em.type(FLOAT32, is_vector=True)
    low, high = ((kind, em.splat(v, FLOAT32)) for v in (a, b))
    both, words = f"<{2 * WHOLE} x bfloat>", em.type(INT32, is_vector=True)
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    rounded = em.call(depth, both, name, high, low)
    order = ", ".join(f"i32 {k + half}" for k in range(WHOLE) for half in (0, WHOLE))
    mask = f"<{2 * WHOLE} x i32> <{order}>"
    woven = em.put(depth, f"shufflevector {both} {rounded}, {both} poison, {mask}")
    text = em.put(depth, f"bitcast {both} {woven} to {words}")
    if a.is_vector or b.is_vector:
        return Value(text, True, depth)
    return Value(em.put(depth, f"extractelement {words} {text}, i32 0"), False, depth)


def half(em: Emitter, x: Value) -> Value:
    """``x`` as a bfloat16, to nearest and even."""
    kind, narrow = (em.type(dtype, is_vector=True) for dtype in (FLOAT32, BFLOAT16))
    whole, name = f"<{WHOLE} x bfloat>", "llvm.x86.avx512bf16.cvtneps2bf16.512"
    rounded = em.call(x.depth, whole, name, (kind, em.splat(x, FLOAT32)))
    text = em.put(x.depth, f"bitcast {whole} {rounded} to {narrow}")
    if x.is_vector:
        return Value(text, True, x.depth)
    return Value(em.put(x.depth, f"extractelement {narrow} {text}, i32 0"), False, x.depth)


__all__ = ["dot2", "half", "halves", "rounds_in_pairs"]
