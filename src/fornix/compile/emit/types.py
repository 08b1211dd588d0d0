"""How elements are held: LLVM's types for registers and memory, and literals.

Floats narrower than 32 bits are held as integers of their bits (LLVM's own narrow floats would call
functions that a process need not have), bools as i1 in registers and as bytes in memory, integers
below 8 bits as bytes, as ml_dtypes does.
"""

from __future__ import annotations

import functools
import struct

import numpy as np

from fornix.dtype import BOOL, DType
from fornix.ir.loops import Number


def memory_type(dtype: DType) -> str:
    """The LLVM type of one element in memory."""
    if dtype.is_float and dtype.bits >= 32:
        return "float" if dtype.bits == 32 else "double"
    return f"i{8 * size_of(dtype)}"


def register_type(dtype: DType) -> str:
    """The LLVM type of one element in a register."""
    return "i1" if dtype is BOOL else memory_type(dtype)


@functools.cache
def vector_type(dtype: DType, lanes: int) -> str:
    """The LLVM type of ``lanes`` elements in a register."""
    return f"<{lanes} x {register_type(dtype)}>"


def suffix(kind: str) -> str:
    """How names of LLVM's overloaded functions write a type."""
    if kind.startswith("<"):
        lanes, _, element = kind[1:-1].split(" ")
        return f"v{lanes}{suffix(element)}"
    return {"float": "f32", "double": "f64", "ptr": "p0"}.get(kind, kind)


def size_of(dtype: DType) -> int:
    """Bytes of one element in memory."""
    return max(dtype.bits, 8) // 8


def literal(value: Number, dtype: DType) -> str:
    """``value`` rounded to ``dtype``, as LLVM writes it."""
    if dtype is BOOL:
        return "true" if value else "false"
    if not dtype.is_float:
        return str(int(value))
    with np.errstate(all="ignore"):
        exact = np.asarray(value, np.float64).astype(dtype.numpy)
    if dtype.bits < 32:
        return str(int(exact.view(f"u{size_of(dtype)}")))
    (bits,) = struct.unpack("<Q", struct.pack("<d", float(exact)))
    return f"0x{bits:016X}"


def splat(text: str, dtype: DType) -> str:
    """A literal in every lane."""
    return f"splat ({register_type(dtype)} {text})"


def lane_numbers(first: int, step: int, lanes: int, kind: str = "i64") -> str:
    """The constant vector ``first, first + step …``."""
    return f"<{', '.join(f'{kind} {first + step * k}' for k in range(lanes))}>"
