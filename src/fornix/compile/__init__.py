"""Graph to machine code, in stages; each reads one small form and gives the next.

    traits     what a node costs and how it reads, or why it has no code  traits.Traits
    partition  nodes that become one group of kernels                     partition.Unit
    layout     which values lie in blocks of channels, which row-major    layout.Layouts
    lower      operators' ``lower`` rules give tensors                    ir.loops.Tensor
    schedule   a computation becomes loops, vectors, chunks               nest.Nest
    emit       a nest becomes LLVM IR text in its final form              emit.Code
    link       text becomes machine code; `cache` keeps it                kernel.CompiledKernel

`program` drives them all for a graph; `driver` is the native loop that runs kernels. `target` says
what the processor can do and `peak` how fast, `work` counts what a kernel does, `axes` and `cost`
serve the schedules, `bounds` proves that reads stay inside; `blocked` is the layout of images,
`convolution` finds what convolves them. Only this room imports llvmlite.
"""

from __future__ import annotations

from fornix.compile.cache import ObjectCache
from fornix.compile.compiler import compile_stores, computations
from fornix.compile.kernel import Check, CompiledKernel
from fornix.compile.target import Target

__all__ = [
    "Check",
    "CompiledKernel",
    "ObjectCache",
    "Target",
    "compile_stores",
    "computations",
]
