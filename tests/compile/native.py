"""Compiled kernels, run on memory between pages that must not be touched.

`run` fills every buffer that a tensor needs and runs its kernels; `check` holds the result against
the interpreter. Each buffer ends right before a page without access (or begins right behind one),
so that a read outside it stops the test; where the platform has no such pages, a margin of bytes
is watched for writes instead.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from fornix.compile import CompiledKernel, ObjectCache, Target, compile_stores
from fornix.compile.kernel import KERNEL
from fornix.dtype import DType
from fornix.errors import Fail
from fornix.ir.dim import Dim, DimLike
from fornix.ir.loops import Buffer, Constant, Tensor
from fornix.ir.loops.tensor import stored
from tests.compile import foreign
from tests.ir.interpreter import Array, Machine, interpret

CACHE = ObjectCache()
PAGE = mmap.PAGESIZE
POISON = 0xA5


class Memory:
    """``size`` bytes with a page on either side that nobody may touch."""

    def __init__(self, size: int, *, at_end: bool = True) -> None:
        pages = -(-max(size, 1) // PAGE)
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.size = size
        self.offset = (pages + 1) * PAGE - size if at_end else PAGE
        self.bytes[:] = POISON
        if sys.platform != "win32":
            libc = ctypes.CDLL(None, use_errno=True)
            for page in (0, pages + 1):
                libc.mprotect(ctypes.c_void_p(self.base + page * PAGE), PAGE, mmap.PROT_READ * 0)

    @property
    def address(self) -> int:
        return self.base + self.offset

    @property
    def bytes(self) -> Array:
        array = (ctypes.c_uint8 * self.size).from_address(self.address)
        return np.ctypeslib.as_array(array)


def whole(d: DimLike, symbols: Mapping[str, int]) -> int:
    value = d.bind(dict(symbols)) if isinstance(d, Dim) else d
    assert isinstance(value, int), f"{d} is not known"
    return value


class Runner:
    """The kernels of some tensors, with memory for one run."""

    def __init__(
        self,
        outputs: Sequence[Tensor],
        target: Target | None = None,
        *,
        chunks: int = 1,
        at_end: bool = True,
    ) -> None:
        self.outputs = [stored(x) for x in outputs]
        self.target = target or Target.host()
        self.chunks, self.at_end = chunks, at_end
        self.objects = foreign.Objects() if self.target.triple else None
        self.kernels = compile_stores(self.outputs, "test", self.target, self.objects or CACHE)

    def run(
        self, feeds: Mapping[str, Array], symbols: Mapping[str, int] | None = None
    ) -> list[Array]:
        """The outputs; raises Fail where a check fails."""
        values = dict(symbols or {})
        memory: dict[Buffer, Memory] = {}
        machine = Machine(feeds, values, {})
        for kernel in self.kernels:
            for buffer in kernel.arguments:
                if buffer not in memory:
                    memory[buffer] = self.filled(buffer, machine)
            if self.objects is None and all(whole(b.elements, values) for b in kernel.outputs):
                call(kernel, [memory[b].address for b in kernel.arguments], values, self.chunks)
        if self.objects is not None:
            self.emulate(self.objects, memory, values)
        for x in self.outputs:
            assert x.buffer is not None
            if x.buffer in memory:
                flat = memory[x.buffer].bytes.view(x.dtype.numpy)
                machine.memory[x.buffer] = flat.copy()
        return [machine.contents(x.buffer) for x in self.outputs]

    def emulate(
        self, objects: foreign.Objects, memory: Mapping[Buffer, Memory], symbols: Mapping[str, int]
    ) -> None:
        """Run all kernels by an emulator of the processor that they are for."""
        places = {buffer: k for k, buffer in enumerate(memory)}
        kernels = [k for k in self.kernels if all(whole(b.elements, symbols) for b in k.outputs)]
        calls = [
            (
                kernel.address,
                [places[b] for b in kernel.arguments],
                [symbols[name] for name in kernel.symbols],
                scratch_bytes(kernel, symbols),
                self.chunks if kernel.shares == 1 else 1,
            )
            for kernel in kernels
        ]
        contents = [m.bytes.tobytes() for m in memory.values()]
        code, contents = foreign.run(objects, self.target, contents, calls, at_end=self.at_end)
        if code:
            failed(kernels[code >> 32], code & 0xFFFFFFFF)
        for m, content in zip(memory.values(), contents, strict=True):
            m.bytes[:] = np.frombuffer(content, np.uint8)

    def filled(self, buffer: Buffer, machine: Machine) -> Memory:
        size = whole(buffer.elements, machine.symbols) * buffer.dtype.numpy.itemsize
        memory = Memory(size, at_end=self.at_end)
        if buffer.source is None or isinstance(buffer.source, Constant):
            content = machine.flat(buffer)
            memory.bytes[:] = content.reshape(-1).view(np.uint8)
        return memory


def call(
    kernel: CompiledKernel, addresses: Sequence[int], symbols: Mapping[str, int], chunks: int
) -> None:
    """Run all chunks of ``kernel``, the last one first, or of each of its steps."""
    args = (ctypes.c_void_p * len(addresses))(*addresses)
    syms = (ctypes.c_int64 * max(len(kernel.symbols), 1))(*[symbols[s] for s in kernel.symbols])
    scratch = Memory(scratch_bytes(kernel, symbols))
    function = KERNEL(kernel.address)
    steps, shares = 1, chunks
    if kernel.shares > 1 and whole(kernel.parallel, symbols) == 1:
        steps, shares = whole(kernel.steps, symbols), kernel.shares
    for place in range(steps * shares):
        step, rest = divmod(place, shares)
        chunk, chunks = (step + 1) * shares - 1 - rest, steps * shares
        code = function(args, syms, scratch.address, chunk, chunks)
        if code:
            failed(kernel, code)


def scratch_bytes(kernel: CompiledKernel, symbols: Mapping[str, int]) -> int:
    """What a thread needs, in whole lines of the cache."""
    return -(-whole(kernel.scratch, symbols) // 64) * 64


def failed(kernel: CompiledKernel, code: int) -> NoReturn:
    """Raise Fail for what ``kernel`` answers with."""
    check = kernel.checks[code - 1]
    raise Fail(f"{check.kind}: {check.text}")


def compiled(
    result: Tensor,
    feeds: Mapping[str, Array] | None = None,
    symbols: Mapping[str, int] | None = None,
    **options: Any,
) -> Array:
    """The values of ``result`` by machine code."""
    return Runner([result], **options).run(feeds or {}, symbols)[0]


EPSILONS = 64
"""Rounding steps by which machine code may differ: functions to some ulp, sums in other orders."""


def assert_close(found: Array, wanted: Array, epsilons: float = EPSILONS) -> None:
    """Raise AssertionError unless both are equal, floats to some rounding steps of the largest."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if not DType.of(wanted.dtype).is_float:
        np.testing.assert_array_equal(found, wanted)
        return
    step = epsilons * float(ml_dtypes.finfo(wanted.dtype).eps)
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        scale = np.max(np.abs(b), where=np.isfinite(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=step, atol=step * min(scale, 1.0), equal_nan=True)


def check(
    result: Tensor,
    feeds: Mapping[str, Array] | None = None,
    symbols: Mapping[str, int] | None = None,
    **options: Any,
) -> Array:
    """The values of ``result`` by machine code, held against the interpreter."""
    return check_all([result], feeds, symbols, **options)[0]


def check_all(
    results: Sequence[Tensor],
    feeds: Mapping[str, Array] | None = None,
    symbols: Mapping[str, int] | None = None,
    **options: Any,
) -> list[Array]:
    """As `check`, for the values of all ``results`` by one program."""
    wanted = [interpret(result, feeds, symbols) for result in results]
    found = Runner(results, **options).run(feeds or {}, symbols)
    for each, other in zip(found, wanted, strict=True):
        assert_close(each, other)
    return wanted
