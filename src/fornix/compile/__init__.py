"""Graph to machine code, in stages; each reads one small form and gives the next.

    traits     what a node costs and how it reads, or why it has no code  traits.Traits
    chains     nodes that are attention together                          chains.Chain
    partition  nodes that become one group of kernels                     partition.Unit
    layout     which values lie in blocks of channels, which row-major    layout.Layouts
    lower      operators' ``lower`` rules give tensors                    ir.loops.Tensor
    schedule   a computation becomes loops, vectors, chunks               nest.Nest
    emit       a nest becomes LLVM IR text in its final form              emit.Code
    link       text becomes machine code; `cache` keeps it                kernel.CompiledKernel

`program` drives them all for a graph, `memo` and `notes` remember what they found, `disk` keeps it
and `image` maps machine code without LLVM; `driver` is the native loop that runs kernels, `crew`
that of threads which help, `machine` interprets formulas of extents, `entry` and `generic` are what
short calls go through. `agreement` says which extents a node takes. `target` says what the
processor can do and `peak` how fast, `work` counts what a kernel does, `axes` and `cost` serve the
schedules, `bounds` proves that reads stay inside; `attention` finds what is one; `blocked` is the
layout of images, `products` tells products of numbers and of bytes, `words` finds bytes that are
read four or two at a time, `convolution` finds what convolves images, `phases` takes transposed
ones apart or joins their phases, `winograd` is how they take fewer products; `reductions` changes
sums and keeps what they are. `units` are what `partition` finds, `support` is code that serves all
models, `identity` what machine code depends on besides the model. Only this room imports llvmlite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.lazy import names

if TYPE_CHECKING:
    from fornix.compile.cache import ObjectCache as ObjectCache
    from fornix.compile.compiler import compile_stores as compile_stores
    from fornix.compile.compiler import computations as computations
    from fornix.compile.kernel import Check as Check
    from fornix.compile.kernel import CompiledKernel as CompiledKernel
    from fornix.compile.target import Target as Target

# Public name → its module, imported on first use: what is compiled already runs without LLVM.
_HOMES = {
    "Check": "kernel",
    "CompiledKernel": "kernel",
    "ObjectCache": "cache",
    "Target": "target",
    "compile_stores": "compiler",
    "computations": "compiler",
}

__all__ = list(_HOMES)
__getattr__ = names(__name__, _HOMES)
