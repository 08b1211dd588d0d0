"""Products of bfloat16, two at a time: `dot2` of int32s that hold two each, added in float32.

One instruction of x86-64 with AVX512-BF16. It rounds after each of two additions, and takes
subnormal numbers for 0; nothing else computes the same, so it is emitted for such processors only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.dtype import FLOAT32, INT32
from fornix.errors import NotSupported

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

_WIDTHS = {4: "128", 8: "256", 16: "512"}
"""Bits of a vector by its lanes."""


def dot2(em: Emitter, a: Value, b: Value, total: Value) -> Value:
    """``total`` and the two products of the halves of ``a`` and ``b``."""
    if em.lanes not in _WIDTHS or not em.target.has("avx512bf16"):
        raise NotSupported("products of bfloat16 need vectors of AVX512-BF16")
    kind, words = em.type(FLOAT32, is_vector=True), em.type(INT32, is_vector=True)
    depth = max(v.depth for v in (a, b, total))
    given = [(kind, em.splat(total, FLOAT32)), *((words, em.splat(v, INT32)) for v in (a, b))]
    name = f"llvm.x86.avx512bf16.dpbf16ps.{_WIDTHS[em.lanes]}"
    return Value(em.call(depth, kind, name, *given), True, depth)


__all__ = ["dot2"]
