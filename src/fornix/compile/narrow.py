"""Stored halves that lie in memory as such and are widened where they are read.

Weights of float16 and bfloat16 are multiplied as float32s. Rows that wait for memory wait half as
long if a panel holds what the model stores, and widening a vector takes an instruction or two.
"""

from __future__ import annotations

from fornix.compile.cost import accesses
from fornix.compile.target import Target
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32
from fornix.ir.loops import Apply, Constant, Scalar


def unwidened(e: Scalar) -> Scalar:
    """``e`` before it was widened from float16 or bfloat16, if it was."""
    if isinstance(e, Apply) and e.op == "cast" and e.dtype is FLOAT32:
        (given,) = e.args
        if given.dtype in {FLOAT16, BFLOAT16}:
            return given
    return e


def as_stored(e: Scalar, target: Target) -> Scalar:
    """What is to lie in memory of ``e``: halves, if it is made of stored ones and they widen fast.

    float16 needs an instruction for that, which the oldest of x86-64 lack.
    """
    narrow = unwidened(e)
    if narrow.dtype is FLOAT16 and target.is_x86 and not target.has("f16c"):
        return e
    are_stored = all(isinstance(read.buffer.source, Constant) for read in accesses([e]))
    return narrow if are_stored else e


__all__ = ["as_stored", "unwidened"]
