"""Units to steps: what is done once, when a session is made.

Decides what of the stored data is kept. Weights that kernels read in another order are packed;
where nobody reads the original any more, its pages of the model's file are given back.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fornix.compile.kernel import CompiledKernel
from fornix.compile.program import Compiled, compile_nodes, support
from fornix.compile.target import Target
from fornix.compile.units import IslandUnit, NativeUnit
from fornix.errors import Fail
from fornix.format.mapped import MappedBytes
from fornix.ir.graph import Value
from fornix.ir.loops import Buffer
from fornix.ir.walk import captured_values
from fornix.runtime.bodies import compile_bodies
from fornix.runtime.memory import ALIGNMENT, aligned_array, aligned_bytes, readable
from fornix.runtime.native import Extents, NativeStep, StoredData, is_prepared
from fornix.runtime.providers import KernelStep, Part, Step
from fornix.runtime.threads import Pool

Array = np.ndarray[Any, np.dtype[Any]]

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
LARGE_BYTES = 64 << 20
"""Of an initializer, from which on it leaves memory piece by piece."""
PARTS = 8
"""How often it does while a kernel reads it; kernels may read it in any order."""


def native_steps(part: Part) -> list[Step]:
    """Steps for ``part``: compiled units in rows, NumPy kernels between them."""
    target = dataclasses.replace(Target.host(), is_strict=part.options.is_strict)
    compiled = compile_nodes(part.nodes, part.needed, part.inference, part.symbols, target)
    rows: list[list[NativeUnit] | IslandUnit] = []
    for unit in compiled.units:
        if isinstance(unit, IslandUnit):
            rows.append(unit)
        elif rows and isinstance(rows[-1], list):
            rows[-1].append(unit)
        else:
            rows.append([unit])
    steps: list[Step] = []
    for row in rows:
        if isinstance(row, IslandUnit):
            planned = part.plan.steps_by_node[row.node]
            compile_bodies(row.node, part.plan, part.options)
            steps.append(KernelStep(planned, part.plan, row.reason))
        else:
            needed = part.needed | _read_outside(row, compiled.units)
            steps.append(_native_step(row, needed, part.pool, compiled))
    return steps


def _read_outside(
    row: Sequence[NativeUnit], units: Sequence[NativeUnit | IslandUnit]
) -> frozenset[Value]:
    """Values that units outside of ``row`` read."""
    inside = set(row)
    found: set[Value] = set()
    for unit in units:
        if isinstance(unit, IslandUnit):
            captured = captured_values(unit.node) if unit.node.graphs else ()
            found.update(v for v in (*unit.node.inputs, *captured) if v is not None)
        elif unit not in inside:
            found.update(unit.unit.inputs)
    return frozenset(found)


def _native_step(
    units: Sequence[NativeUnit], needed: frozenset[Value], pool: Pool, compiled: Compiled
) -> NativeStep:
    made = dict.fromkeys(value for unit in units for value in unit.unit.outputs)
    read = dict.fromkeys(value for unit in units for value in unit.unit.inputs)
    reads = [v for v in read if v not in made and v.constant is None]
    writes = [v for v in made if v in needed]
    data = _Preparation(units, pool).data()
    rest = compiled if compiled.is_conditional(units) else None
    return NativeStep(units, (reads, writes), data, pool, support(), rest)


class _Preparation:
    """Runs the kernels that read stored data only, and keeps what they give."""

    def __init__(self, units: Sequence[NativeUnit], pool: Pool) -> None:
        self.units, self.pool = units, pool
        self.prepared: dict[tuple[int, Buffer], Array] = {}
        self.leaving: set[Value] = set()
        """Initializers that nobody reads once these kernels have run."""

    def data(self) -> StoredData:
        """The data that runs need."""
        computed = {value for unit in self.units for value in unit.unit.outputs}
        read = self._stored(prepared=False)
        in_runs = dict.fromkeys(v for v in read if v not in computed)  # what Constant gives is
        waiting = Counter(self._stored(prepared=True))
        self.leaving = waiting.keys() - in_runs.keys()
        for number, unit, kernel in self._kernels(prepared=True):
            self._prepare(number, unit, kernel)
            for value in _stored_inputs(unit, kernel):
                waiting[value] -= 1
                if not waiting[value] and value in self.leaving:
                    _give_back(value)
        return StoredData({value: _array(value) for value in in_runs}, self.prepared)

    def _kernels(self, *, prepared: bool) -> Iterator[tuple[int, NativeUnit, CompiledKernel]]:
        """The kernels that run ahead, or those that do not, with their units."""
        for number, unit in enumerate(self.units):
            for kernel in unit.code.kernels:
                if is_prepared(unit.code, kernel) is prepared:
                    yield number, unit, kernel

    def _stored(self, *, prepared: bool) -> Iterator[Value]:
        """The initializers that such kernels read."""
        for _, unit, kernel in self._kernels(prepared=prepared):
            yield from _stored_inputs(unit, kernel)

    def _prepare(self, number: int, unit: NativeUnit, kernel: CompiledKernel) -> None:
        """Run ``kernel`` and keep what it gives."""
        extent = Extents({})
        arrays: list[Array] = []
        for buffer in kernel.arguments:
            if buffer in kernel.outputs:
                size = extent(buffer.elements)
                self.prepared[number, buffer] = aligned_array((size,), buffer.dtype.numpy)
            if (number, buffer) in self.prepared:
                arrays.append(self.prepared[number, buffer])
            elif buffer in unit.code.tables:
                arrays.append(readable(unit.code.tables[buffer]))
            else:
                arrays.append(_array(unit.unit.inputs[unit.code.inputs[buffer]]))
        self._run(kernel, arrays, [v for v in _stored_inputs(unit, kernel) if v in self.leaving])

    def _run(
        self, kernel: CompiledKernel, arrays: Sequence[Array], leaving: Sequence[Value]
    ) -> None:
        """Run ``kernel`` on ``arrays``; little of what is large and ``leaving`` stays in memory."""
        extent = Extents({})
        chunks = max(1, extent(kernel.parallel))
        large = [v for v in leaving if v.constant is not None and v.constant.nbytes >= LARGE_BYTES]
        part = max(1, chunks // PARTS)
        function = KERNEL(kernel.address)
        arguments = np.array([array.ctypes.data for array in arrays], np.int64)
        size = -(-extent(kernel.scratch) // ALIGNMENT) * ALIGNMENT
        scratch = aligned_bytes(size * self.pool.threads)
        following = itertools.count()
        failed: list[int] = []

        def work(index: int) -> None:
            places = arguments.ctypes.data  # of symbols there are none
            own = scratch.ctypes.data + index * size
            while (chunk := next(following)) < chunks:
                if function(places, places, own, chunk, chunks):
                    failed.append(chunk)
                if chunk % part == part - 1:
                    for value in large:
                        _give_back(value)

        self.pool.run(work)
        if failed:
            raise Fail(f"{kernel.name}: stored data do not fit the model")


def _stored_inputs(unit: NativeUnit, kernel: CompiledKernel) -> list[Value]:
    """The initializers that ``kernel`` reads."""
    own = [unit.unit.inputs[unit.code.inputs[b]] for b in kernel.arguments if b in unit.code.inputs]
    return [value for value in own if value.constant is not None]


def _array(value: Value) -> Array:
    tensor = value.constant
    if tensor is None:
        raise TypeError(f"'{value.name}' is not stored")
    return readable(tensor.numpy())


def _give_back(value: Value) -> None:
    """Say that the stored data of ``value`` are not wanted soon."""
    payload = getattr(value.constant, "payload", None)
    if isinstance(payload, MappedBytes):
        payload.give_back()
