"""What this machine can do at best: multiplications with addition, and bytes from and to memory.

Measured, not looked up, in some tenths of a second, by loops that do nothing else, on as many
threads as are asked for. One has more independent chains of fused multiply-add, in vectors of
float32, than the processor can have under way; two walk over a block of memory that is larger than
caches: one reads it, one copies one half to the other. The best of several tries counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fornix.compile.cache import ObjectCache
from fornix.compile.driver import ARGUMENTS, CHUNKS, FUNCTION, RECORD_WORDS, SYMBOLS, driver
from fornix.compile.target import Target

SPARE_REGISTERS = 4
"""Vector registers that the arithmetic loop leaves free; all others hold chains. Latency times
units of current processors is 8 to 16, below what is left of 32 registers and about that of 16."""
TURNS = 100_000
"""Turns of the arithmetic loop: a millisecond or some."""
BLOCK_BYTES = 128 << 20
"""Bytes of the block."""
VECTORS = 4
"""Vectors that a turn of the memory loops handles."""
TRIES = 20
SCRATCH_WORDS = 8
"""Words of 8 bytes in the widest vector."""

Together = Callable[[Callable[[int], None]], None]
"""Calls its argument in every thread that takes part, with the number of the thread."""


@dataclass(frozen=True)
class Peak:
    """Rates that no kernel exceeds for long."""

    operations: float
    """Per second, float32; a fused multiplication and addition is two."""
    read: float
    """Bytes per second."""
    copied: float
    """Bytes per second, those read and those written."""

    @property
    def bytes(self) -> float:
        """The better one of memory's rates."""
        return max(self.read, self.copied)


def measure(threads: int, together: Together, cache: ObjectCache) -> Peak:
    """The rates of ``threads`` threads at once."""
    target = Target.host()
    width, chains = target.vector_bytes, target.vector_registers - SPARE_REGISTERS
    block = np.ones(BLOCK_BYTES // 8, np.int64)
    first, middle = block.ctypes.data, block.ctypes.data + BLOCK_BYTES // 2
    turn = VECTORS * width
    jobs = [
        (_arithmetic(target, chains), threads * TURNS * chains * width // 4 * 2, [TURNS * threads]),
        (_reading(width // 8), BLOCK_BYTES, [BLOCK_BYTES // turn, first]),
        (_copying(width // 8), BLOCK_BYTES, [BLOCK_BYTES // 2 // turn, first, middle]),
    ]
    rates = [
        amount / min(_seconds(text, symbols, threads, together, cache) for _ in range(TRIES))
        for text, amount, symbols in jobs
    ]
    return Peak(*rates)


def _seconds(
    text: str, symbols: list[int], threads: int, together: Together, cache: ObjectCache
) -> float:
    """How long a loop takes, each thread doing its share."""
    address, _ = cache.load([text], Target.host())[text]
    drive = driver(cache)
    syms = np.array(symbols, np.int64)
    scratch = np.zeros((threads, SCRATCH_WORDS), np.int64)
    status = np.zeros(1, np.int64)
    record = np.zeros(RECORD_WORDS, np.int64)
    record[FUNCTION], record[CHUNKS] = address, threads
    record[ARGUMENTS] = record[SYMBOLS] = syms.ctypes.data

    def work(index: int) -> None:
        drive(record.ctypes.data, 1, scratch[index].ctypes.data, 0, status.ctypes.data)

    begin = time.perf_counter()
    together(work)
    return time.perf_counter() - begin


_LOOP = """
define i64 @kernel(ptr %args, ptr %syms, ptr %scratch, i64 %chunk, i64 %chunks) {
entry:
  %turns = load i64, ptr %syms
  %next.chunk = add i64 %chunk, 1
  %begin.all = mul i64 %turns, %chunk
  %begin = udiv i64 %begin.all, %chunks
  %end.all = mul i64 %turns, %next.chunk
  %end = udiv i64 %end.all, %chunks
  @BEFORE@
  br label %loop
loop:
  %turn = phi i64 [ %begin, %entry ], [ %next, %loop ]
  @BODY@
  %next = add i64 %turn, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %after
after:
  @AFTER@
  ret i64 0
}
"""
"""A kernel that does its chunk of ``syms[0]`` turns."""


def _loop(before: list[str], body: list[str], after: list[str]) -> str:
    parts = {"@BEFORE@": before, "@BODY@": body, "@AFTER@": after}
    text = _LOOP
    for place, lines in parts.items():
        text = text.replace(place, "\n  ".join(lines))
    return text


def _arithmetic(target: Target, count: int) -> str:
    """``count`` chains of ``a := a · m + m``, which tend to a number of common size."""
    lanes = target.vector_bytes // 4
    vector = f"<{lanes} x float>"
    numbers = ", ".join(["float 0.5"] * lanes)
    half = f"<{numbers}>"
    chains = range(count)
    phis = [f"%a{k} = phi {vector} [ {half}, %entry ], [ %b{k}, %loop ]" for k in chains]
    steps = []
    for k in chains:
        if target.fuses:
            call = f"@llvm.fma.v{lanes}f32({vector} %a{k}, {vector} {half}, {vector} {half})"
            steps.append(f"%b{k} = call {vector} {call}")
        else:
            steps.append(f"%p{k} = fmul {vector} %a{k}, {half}")
            steps.append(f"%b{k} = fadd {vector} %p{k}, {half}")
    sums = [f"%s{k} = fadd {vector} %{f's{k - 1}' if k > 1 else 'b0'}, %b{k}" for k in chains[1:]]
    keep = f"store {vector} %s{count - 1}, ptr %scratch, align 8"
    declared = f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})\n"
    return _loop([], [*phis, *steps], [*sums, keep]) + declared


def _reading(lanes: int) -> str:
    """Every vector is added to a sum that is kept, so that none can be left out."""
    vector = f"<{lanes} x i64>"
    chains = range(VECTORS)
    phis = [f"%a{k} = phi {vector} [ zeroinitializer, %entry ], [ %b{k}, %loop ]" for k in chains]
    steps = [f"%b{k} = add {vector} %a{k}, %x{k}" for k in chains]
    sums = [f"%s{k} = add {vector} %{f's{k - 1}' if k > 1 else 'b0'}, %b{k}" for k in chains[1:]]
    keep = f"store {vector} %s{VECTORS - 1}, ptr %scratch, align 8"
    return _loop(_base("from", 1), [*phis, *_loads(vector, lanes), *steps], [*sums, keep])


def _copying(lanes: int) -> str:
    vector = f"<{lanes} x i64>"
    stores = []
    for k in range(VECTORS):
        stores.append(f"%to{k} = getelementptr i64, ptr %to, i64 %at{k}")
        stores.append(f"store {vector} %x{k}, ptr %to{k}, align 8")
    before = [*_base("from", 1), *_base("to", 2)]
    return _loop(before, [*_loads(vector, lanes), *stores], [])


def _base(name: str, index: int) -> list[str]:
    """The address in ``syms[index]``."""
    return [
        f"%{name}.at = getelementptr i64, ptr %syms, i64 {index}",
        f"%{name} = load ptr, ptr %{name}.at",
    ]


def _loads(vector: str, lanes: int) -> list[str]:
    """The vectors of a turn."""
    lines = [f"%line = mul i64 %turn, {VECTORS * lanes}"]
    for k in range(VECTORS):
        lines.append(f"%at{k} = add i64 %line, {k * lanes}")
        lines.append(f"%from{k} = getelementptr i64, ptr %from, i64 %at{k}")
        lines.append(f"%x{k} = load {vector}, ptr %from{k}, align 8")
    return lines
