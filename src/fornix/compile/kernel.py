"""What the compiler hands to the runtime: native kernels and how they are called.

A kernel is ``i64 kernel(ptr args, ptr syms, ptr scratch, i64 chunk, i64 chunks)``. `args` are base
addresses in the order of `CompiledKernel.buffers`, `syms` the values of `symbols` as i64, `scratch`
the caller's own memory, aligned to 64 bytes. It does piece ``chunk`` of ``chunks``, and returns 0
or 1 + the index of the check that failed first. How work is cut never changes a bit of a result.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

from fornix.ir.buffer import Buffer
from fornix.ir.dim import DimLike

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
"""The type of kernels, to call one from Python without the GIL, or to be one in Python."""
SCRATCH_ALIGNMENT = 64
"""Bytes; a line of the cache, and the widest vector."""


CHECKS = ("index", "division", "power", "range")


@dataclass(frozen=True)
class Check:
    """Something that data can get wrong, or too large for the code: which of `CHECKS` it is."""

    kind: str
    text: str
    """The expression that was wrong, for whoever reads a report."""


@dataclass(frozen=True)
class Work:
    """What a run of a kernel takes at least; 0 where data decide it."""

    operations: DimLike = 0
    read: DimLike = 0
    """Bytes of its arguments that it reads."""
    written: DimLike = 0
    """Bytes of its results."""


@dataclass(frozen=True)
class CompiledKernel:
    """Machine code for a computation; immutable, callable from any thread."""

    name: str
    address: int
    buffers: tuple[str, ...]
    symbols: tuple[str, ...]
    parallel: DimLike
    """Into how many chunks it makes sense to cut the work; 0: nothing is read or written."""
    scratch: DimLike
    """Bytes of scratch memory that each thread needs."""
    checks: tuple[Check, ...]
    arguments: tuple[Buffer, ...] = ()
    """The buffers behind `buffers`, in the same order."""
    outputs: tuple[Buffer, ...] = ()
    """Those of `arguments` that the kernel fills."""
    is_constant: bool = False
    """Whether everything that it reads is stored data: it need run only once."""
    is_likely: bool = True
    """Whether runs of likely extents have any work for it."""
    schedule: str = ""
    """How the loops run: "map", "row", "contraction" …"""
    work: Work = field(default_factory=Work)
    """What a run of it takes at least."""
    steps: DimLike = 1
    """How many parts of it follow one another, each of them cut into `shares`."""
    shares: int = 1
    """Chunks of a step, begun when those of the steps before have ended, if `parallel` is 1."""
    owner: object = field(default=None, repr=False, compare=False)
    """Keeps the machine code in memory."""
