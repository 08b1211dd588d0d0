"""What the extents of a run decide about a native step: shapes, sizes, how much work, and places.

All of it is computed in one native call, and placements are used again: new extents cost little.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.compile.machine import Machine
from fornix.ir.dim import DimLike
from fornix.ir.graph import Value
from fornix.runtime.memory import size_class
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.sizing.formulas import Evaluator
from fornix.runtime.sizing.placing import Lifetime, Placing
from fornix.runtime.wiring import JoinedUnit, Wiring

Array = np.ndarray[Any, np.dtype[Any]]

LOADS = 6
"""Numbers that `Numbers` has of each kernel."""
MAX_PLACEMENTS = 8
"""Placements that are kept for other extents."""


@dataclass(frozen=True)
class Placement:
    """Where what is in the block lies."""

    room: Array
    """Bytes that there are for each."""
    offsets: Array
    size: int
    """Bytes of the block."""
    asked: list[JoinedUnit]
    joined: list[JoinedUnit]
    """Those of ``asked`` whose parts lie in their result."""

    def serves(self, sizes: Array, asked: list[JoinedUnit]) -> bool:
        """Whether all of ``sizes`` fit, and there is not much less in all."""
        if asked != self.asked or (sizes > self.room).any() or 2 * sizes.sum() < self.room.sum():
            return False
        beside = _joined(asked)
        return bool((sizes[beside] == self.room[beside]).all())


@dataclass(frozen=True)
class Numbers:
    """What symbols decide; of each kernel, if nothing else is said."""

    parallel: Array
    scratch: Array
    operations: Array
    read: Array
    written: Array
    steps: Array
    sizes: Array
    """Bytes of what is in the block; 0 where no kernel has any work for it."""
    joined: list[JoinedUnit]
    """Units whose parts would lie in one piece each, where their results have them."""
    types: Mapping[Value, tuple[tuple[int, ...], np.dtype[Any]]]
    """Of what runs bring and take away."""


class Sizes:
    """The sizes of a step for any extents."""

    def __init__(self, wiring: Wiring, machine: Machine) -> None:
        self.wiring = wiring
        self.types = {v: wiring.types[v] for v in wiring.outside if v in wiring.types}
        self._itemsizes = np.array([itemsize for _, itemsize in wiring.sizes], np.int64)
        self._evaluator = Evaluator(machine, self._dims())
        self._placements: deque[Placement] = deque(maxlen=MAX_PLACEMENTS)
        self._last = self._itemsizes
        """The sizes of the last placement."""

    def _dims(self) -> Iterator[DimLike]:
        """Loads of kernels, elements in the block, extents outside."""
        kernels = [kernel for kernel, _ in self.wiring.kernels]
        works = [kernel.work for kernel in kernels]
        yield from (kernel.parallel for kernel in kernels)
        yield from (kernel.scratch for kernel in kernels)
        yield from (work.operations for work in works)
        yield from (work.read for work in works)
        yield from (work.written for work in works)
        yield from (kernel.steps for kernel in kernels)
        yield from (elements for elements, _ in self.wiring.sizes)
        yield from (unit.runs for unit in self.wiring.joined)
        yield from (extent for shape, _ in self.types.values() for extent in shape)

    def numbers(self, symbols: Mapping[str, int]) -> Numbers:
        """What ``symbols`` decide; raises NotAsCompiled where no number comes of it."""
        found = self._evaluator(symbols)
        if found is None:
            raise NotAsCompiled(f"sizes are beyond what native code counts to for {symbols}")
        kernels, inside = len(self.wiring.kernels), len(self._itemsizes)
        ends = np.cumsum([LOADS * kernels, inside, len(self.wiring.joined)])
        loads, sizes, runs, extents = np.split(found, ends)
        rest = iter(extents.tolist())
        types = {
            value: (tuple(itertools.islice(rest, len(shape))), dtype)
            for value, (shape, dtype) in self.types.items()
        }
        parallel, scratch, operations, read, written, steps = loads.reshape(LOADS, kernels)
        is_used = np.zeros(inside, bool)
        is_used[self.wiring.entries[parallel[self.wiring.users] > 0]] = True
        bytes_ = np.where(is_used, sizes * self._itemsizes, 0)
        joined = list(itertools.compress(self.wiring.joined, runs == 1))
        return Numbers(parallel, scratch, operations, read, written, steps, bytes_, joined, types)

    def placed(self, sizes: Array, asked: list[JoinedUnit]) -> Placement:
        """Where what is in the block lies, given ``sizes`` in bytes; what is ``asked`` is joined.

        A placement serves others too that need no more anywhere, and not much less in all. As long
        as extents stay the same it is exact; once they vary, it leaves room for what grows.
        """
        for placement in tuple(self._placements):
            if placement.serves(sizes, asked):
                return placement
        room = sizes.copy()
        if self._placements:
            grown = set(np.flatnonzero(sizes != self._last).tolist())
            for index in grown.difference(_joined(asked)):
                room[index] = size_class(int(sizes[index]))
        stays = zip(room.tolist(), self.wiring.stays.values(), strict=True)
        placing = Placing(Lifetime(bytes_, stay.first, stay.last) for bytes_, stay in stays)
        joined = [unit for unit in asked if placing.join(unit.join)]
        offsets, size = placing.places()
        made = Placement(room, np.array(offsets or [0], np.int64), size, asked, joined)
        self._placements.append(made)
        self._last = sizes
        return made


def _joined(units: list[JoinedUnit]) -> list[int]:
    """What is whole or part in ``units``, by number."""
    return [i for unit in units for i in (unit.join.whole, *unit.join.parts)]
