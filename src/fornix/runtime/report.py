"""How much memory a session takes, and what a run will take, before it takes it.

Decides what is counted: stored data where kernels read it, what is packed for them beside that, the
block of values and everybody's scratch for each set of extents, and results. Values of NumPy
kernels are not known before they are there and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fornix.errors import LimitError
from fornix.format.mapped import MappedBytes, MappedFile
from fornix.ir.graph import Value
from fornix.runtime.native import Bound, NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import Run


@dataclass(frozen=True)
class MemoryReport:
    """Bytes that a session takes."""

    mapped: int
    """Stored data that kernels read in the model's files: the system's cache, shared by all."""
    weights: int
    """Stored data that kernels read in memory."""
    packed: int
    """Weights that are packed for kernels, beside the stored data."""
    runs: Mapping[tuple[int, ...], int]
    """By extents of the symbols: values and scratch of one run, without its results."""
    results: Mapping[tuple[int, ...], int]
    """By extents: results of one run."""
    kept: int
    """Of memory for runs, what is kept for the next ones."""

    @property
    def peak(self) -> int:
        """What the largest run took in all, where one ran at a time; mapped data aside."""
        largest = max((n + self.results[key] for key, n in self.runs.items()), default=0)
        return self.weights + self.packed + max(self.kept, largest)


def report(programs: Iterable[Program]) -> MemoryReport:
    """What ``programs`` take together; what they share counts once."""
    steps = [s for p in programs for s in p.steps if isinstance(s, NativeStep)]
    stored = {value: None for step in steps for value in step.stored}
    data = list({id(step.data): step.data for step in steps}.values())
    packed = {id(x): x.nbytes for d in data if not d.is_mapped for x in d.prepared.values()}
    in_files = {id(x): x.nbytes for d in data if d.is_mapped for x in d.prepared.values()}
    runs: dict[tuple[int, ...], int] = {}
    results: dict[tuple[int, ...], int] = {}
    for step in steps:
        for key, bound in step.bounds.items():
            runs[key] = runs.get(key, 0) + bound.nbytes
            results[key] = results.get(key, 0) + _written(bound)
    mapped, weights = _stored_bytes(stored)
    mapped += sum(in_files.values())
    return MemoryReport(mapped, weights, sum(packed.values()), runs, results, _kept(steps))


def require_within(limit: int, program: Program, run: Run, label: str) -> None:
    """Raise LimitError if a run of ``program`` would take more than ``limit`` bytes in all."""
    steps = [step for step in program.steps if isinstance(step, NativeStep)]
    stored = {value: None for step in steps for value in step.stored}
    _, weights = _stored_bytes(stored)
    data = [step.data for step in steps if not step.data.is_mapped]
    packed = sum(x.nbytes for own in data for x in own.prepared.values())
    bounds = [step.bound(run) for step in steps]
    block = sum(bound.nbytes for bound in bounds)
    results = sum(map(_written, bounds))
    needed = weights + packed + block + results
    if needed > limit:
        extents = ", ".join(f"{name} = {extent}" for name, extent in run.extents.items())
        raise LimitError(
            f"{label}: memory_limit is {limit} bytes, but a run{f' with {extents}' * bool(extents)}"
            f" takes {needed}: {weights + packed} of weights, {block} of values and scratch, "
            f"{results} of results"
        )


def _stored_bytes(values: Iterable[Value]) -> tuple[int, int]:
    """Bytes of stored data in files, and in memory."""
    mapped = weights = 0
    for value in values:
        tensor = value.constant
        if tensor is None:
            continue
        place = getattr(tensor, "place", None)
        if isinstance(place, MappedBytes) and isinstance(place.region, MappedFile):
            mapped += tensor.nbytes
        else:
            weights += tensor.nbytes
    return mapped, weights


def _written(bound: Bound) -> int:
    types = [bound.types[value] for value in bound.step.writes]
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in types)


def _kept(steps: Iterable[NativeStep]) -> int:
    """Bytes of memory for runs that nobody uses now."""
    frames = [frame for s in steps for bound in s.bounds.values() for frame in list(bound.frames)]
    return sum(frame.memory.nbytes for frame in frames)
