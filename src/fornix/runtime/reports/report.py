"""How much memory a session takes, and what a run will take, before it takes it.

Decides what is counted: stored data where kernels read it, what is packed for them beside that, the
block of values and everybody's scratch for each set of extents, and results. Results of NumPy
kernels are counted ahead as far as their extents are known, and once they are there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.errors import LimitError
from fornix.format.mapped import MappedBytes, MappedFile
from fornix.ir.dim import Dim
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.runtime.native import Bound, NativeStep
from fornix.runtime.program import Program
from fornix.runtime.providers import Run, Step


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
    runs: dict[tuple[int, ...], int] = {}
    results: dict[tuple[int, ...], int] = {}
    for step in steps:
        for key, bound in step.bounds.items():
            runs[key] = runs.get(key, 0) + bound.nbytes
            results[key] = results.get(key, 0) + _written(bound)
    mapped, weights = _stored_bytes(stored)
    mapped += _packed(steps, is_mapped=True)
    packed = _packed(steps, is_mapped=False)
    return MemoryReport(mapped, weights, packed, runs, results, _kept(steps))


def _packed(steps: Iterable[NativeStep], *, is_mapped: bool) -> int:
    """Bytes that ``steps`` have packed, in files or in memory: what several read counts once."""
    data = [step.data for step in steps if step.data.is_mapped == is_mapped]
    return sum({id(x): x.nbytes for own in data for x in own.prepared.values()}.values())


def allowance(limit: int, program: Program, run: Run) -> Allowance:
    """What is left for NumPy kernels in a run of ``program``, which may take ``limit`` bytes.

    Raises LimitError if the rest takes more.
    """
    steps = [step for step in program.steps if isinstance(step, NativeStep)]
    stored = {value: None for step in steps for value in step.stored}
    _, weights = _stored_bytes(stored)
    packed = sum(
        {k: n for s in steps if not s.data.is_mapped for k, n in s.data.sizes.items()}.values()
    )
    if weights + packed > limit:  # before they are packed, which a look at the steps would wait for
        raise LimitError(f"memory_limit is {limit} bytes, but weights take {weights + packed}")
    bounds = [step.bound(run) for step in steps if step.learned is None]
    block = sum(bound.nbytes for bound in bounds)
    results = sum(map(_written, bounds))
    needed = weights + packed + block + results
    if needed > limit:
        extents = ", ".join(f"{name} = {extent}" for name, extent in run.extents.items())
        raise LimitError(
            f"memory_limit is {limit} bytes, but a run{f' with {extents}' * bool(extents)} takes "
            f"{needed}: {weights + packed} of weights, {block} of values and scratch, "
            f"{results} of results"
        )
    learning = [step for step in steps if step.learned is not None]
    others = [step for step in program.steps if step.uses_numpy]
    made = {value for step in (*learning, *others) for value in step.writes}
    return Allowance(limit, needed, made)


class Allowance:
    """Memory that NumPy kernels may take in one run, beside what was counted before."""

    def __init__(self, limit: int, taken: int, made: Collection[Value]) -> None:
        """``made`` are the values that they compute, and what has extents that a run learns."""
        self.limit, self.taken, self.made = limit, taken, made

    def before(self, step: Step, values: Mapping[Value, Any], run: Run) -> None:
        """Raise LimitError if the results of ``step`` would be too much, as far as one knows."""
        coming = 0
        if step.uses_numpy:
            coming = sum(expected_bytes(value, run) for value in step.writes)
        elif isinstance(step, NativeStep) and step.learned is not None:
            told = step.informed(values, run)
            bound = None if told is None else step.bound(told)
            coming = 0 if bound is None else bound.nbytes + _written(bound)
        names = ", ".join(f"'{value.name}'" for value in step.writes if value.name)
        self.require(values, f"{names} would take {coming} more", coming)

    def require(self, values: Mapping[Value, Any], place: str, coming: int = 0) -> None:
        """Raise LimitError if ``values``, and as many bytes that are coming, are too much."""
        own: dict[int, int] = {}
        for value, held in values.items():
            if value in self.made:
                own |= memory_of(held)
        held_bytes = sum(own.values())
        if self.taken + held_bytes + coming > self.limit:
            raise LimitError(
                f"memory_limit is {self.limit} bytes, but {place}: {held_bytes} are held by "
                f"results of NumPy kernels, {self.taken} by weights and compiled code"
            )


def expected_bytes(value: Value, run: Run) -> int:
    """How large a tensor is going to be in ``run``; 0 if nobody knows."""
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.dtype is None or type_.shape is None:
        return 0
    extents = [d.bind(run.extents) if isinstance(d, Dim) else d for d in type_.shape]
    numbers = [d for d in extents if isinstance(d, int)]
    is_known = len(numbers) == len(extents)
    return math.prod(numbers) * type_.dtype.numpy.itemsize if is_known else 0


def memory_of(held: Any) -> dict[int, int]:
    """The blocks of memory that NumPy has made for a value, and their sizes in bytes."""
    if isinstance(held, list):
        return {key: size for item in held for key, size in memory_of(item).items()}
    while isinstance(held, np.ndarray) and isinstance(held.base, np.ndarray):
        held = held.base
    return {id(held): held.nbytes} if isinstance(held, np.ndarray) and held.base is None else {}


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


def kept_beside(programs: Iterable[Program], program: Program, run: Run) -> int:
    """Bytes that `_kept` counts for other runs than ``run`` of ``program``."""
    every = [s for p in programs for s in p.steps if isinstance(s, NativeStep)]
    own = [s.bounds.get(run.key) for s in program.steps if isinstance(s, NativeStep)]
    return _kept(every) - sum(_idle(bound) for bound in own if bound is not None)


def _kept(steps: Iterable[NativeStep]) -> int:
    """Bytes of memory for runs that nobody uses now."""
    return sum(_idle(bound) for step in steps for bound in step.bounds.values())


def _idle(bound: Bound) -> int:
    """The same of one set of extents."""
    return sum(frame.memory.nbytes for frame in list(bound.frames))
