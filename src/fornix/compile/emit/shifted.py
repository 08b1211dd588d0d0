"""Narrow elements that only some lanes read, where no instruction masks them: before AVX-512.

Lane after lane would be asked. Instead as many neighbours are read as a vector has, so that they
begin and end within the buffer, and those that were read too early or too late are shifted to their
lanes. If they are further off than a vector is long, no lane reads anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.types import memory_type, size_of
from fornix.dtype import DType
from fornix.ir.dim import is_nonnegative
from fornix.ir.dim.expression import terms_of
from fornix.ir.loops import Load

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

WORD = 8
"""Bytes of the longest integer that is shifted at once; beyond it, asking lanes is faster."""


def is_shifted(em: Emitter, e: Load, step: int) -> bool:
    """Whether ``e``, of every ``step``-th element, is so read: its buffer has a vector of them."""
    size, elements = size_of(e.dtype), e.buffer.elements
    if size >= em.target.least_masked:
        return False
    is_even = step & (step - 1) == 0  # so that shifts divide by it
    if not is_even or em.lanes * size > WORD or step * size > WORD:
        return False
    is_known = e.buffer in em.given - em.changing and em.is_told(elements)
    return is_known and is_nonnegative(elements - em.lanes * step) is True


def load_shifted(em: Emitter, e: Load, step: int, unit: int, earliest: int) -> Value:
    """The elements in the lanes of ``unit``; nothing in those that may not read."""
    size, whole = size_of(e.dtype), em.lanes * step
    constant = terms_of(e.address).get((), 0)
    offset, last = em.dim(e.address - constant), em.dim(e.buffer.elements - whole)
    depth = max(offset.depth, last.depth, earliest)
    wanted = em.put(depth, f"add i64 {offset.text}, {constant + unit * whole}")
    start = em.call(depth, "i64", "llvm.smin.i64", ("i64", wanted), ("i64", last.text))
    start = em.call(depth, "i64", "llvm.smax.i64", ("i64", start), ("i64", "0"))
    kind, base = memory_type(e.dtype), em.pointers[e.buffer].text
    where = em.put(depth, f"getelementptr {kind}, ptr {base}, i64 {start}")
    off = em.put(depth, f"sub i64 {wanted}, {start}")
    groups, ones = (f"<{em.lanes} x i{n * size * 8}>" for n in (step, 1))
    text = em.put(depth, f"load {groups}, ptr {where}, align {size}")
    if step > 1:  # which element of each group it is that lanes are for
        own = _bits(em, depth, em.put(depth, f"and i64 {off}, {step - 1}"), size, step)
        alike = em.splat(Value(own, False, depth), DType.of(f"uint{step * size * 8}"))
        text = em.put(depth, f"lshr {groups} {text}, {alike}")
        text = em.put(depth, f"trunc {groups} {text} to {ones}")
        off = em.put(depth, f"ashr i64 {off}, {step.bit_length() - 1}")
    word = f"i{em.lanes * size * 8}"
    text = em.put(depth, f"bitcast {ones} {text} to {word}")
    for how, more in (("lshr", off), ("shl", em.put(depth, f"sub i64 0, {off}"))):
        more = em.call(depth, "i64", "llvm.smax.i64", ("i64", more), ("i64", "0"))
        count = _bits(em, depth, more, size, em.lanes)
        text = em.put(depth, f"{how} {word} {text}, {count}")
    kinds = f"<{em.lanes} x {kind}>"
    return Value(em.put(depth, f"bitcast {word} {text} to {kinds}"), True, depth)


def _bits(em: Emitter, depth: int, count: str, size: int, of: int) -> str:
    """The bits of ``count`` elements of ``size`` bytes, as an integer as long as ``of`` them."""
    bits = em.put(depth, f"mul i64 {count}, {size * 8}")
    if of * size == WORD:
        return bits
    return em.put(depth, f"trunc i64 {bits} to i{of * size * 8}")


__all__ = ["is_shifted", "load_shifted"]
