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
from fornix.runtime.memory import Lifetime, place, size_class
from fornix.runtime.providers import NotAsCompiled
from fornix.runtime.sizing.formulas import Evaluator
from fornix.runtime.wiring import Wiring

Array = np.ndarray[Any, np.dtype[Any]]

LOADS = 6
"""Numbers that `Numbers` has of each kernel."""
MAX_PLACEMENTS = 8
"""Placements that are kept for other extents."""


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
    """Bytes of what is in the block."""
    types: Mapping[Value, tuple[tuple[int, ...], np.dtype[Any]]]
    """Of what runs bring and take away."""


class Sizes:
    """The sizes of a step for any extents."""

    def __init__(self, wiring: Wiring, machine: Machine) -> None:
        self.wiring = wiring
        self.types = {v: wiring.types[v] for v in wiring.outside if v in wiring.types}
        self._itemsizes = np.array([itemsize for _, itemsize in wiring.sizes], np.int64)
        self._evaluator = Evaluator(machine, self._dims())
        self._placements: deque[tuple[Array, Array, int]] = deque(maxlen=MAX_PLACEMENTS)
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
        yield from (extent for shape, _ in self.types.values() for extent in shape)

    def numbers(self, symbols: Mapping[str, int]) -> Numbers:
        """What ``symbols`` decide; raises NotAsCompiled where no number comes of it."""
        found = self._evaluator(symbols)
        if found is None:
            raise NotAsCompiled(f"sizes are beyond what native code counts to for {symbols}")
        kernels, inside = len(self.wiring.kernels), len(self._itemsizes)
        loads, sizes, extents = np.split(found, [LOADS * kernels, LOADS * kernels + inside])
        rest = iter(extents.tolist())
        types = {
            value: (tuple(itertools.islice(rest, len(shape))), dtype)
            for value, (shape, dtype) in self.types.items()
        }
        parallel, scratch, operations, read, written, steps = loads.reshape(LOADS, kernels)
        bytes_ = sizes * self._itemsizes
        return Numbers(parallel, scratch, operations, read, written, steps, bytes_, types)

    def placed(self, sizes: Array) -> tuple[Array, int]:
        """Where what is in the block lies, given ``sizes`` in bytes, and how large that is.

        A placement serves others too that need no more anywhere, and not much less in all. As long
        as extents stay the same it is exact; once they vary, it leaves room for what grows.
        """
        for room, offsets, size in tuple(self._placements):
            if (sizes <= room).all() and 2 * sizes.sum() >= room.sum():
                return offsets, size
        room = sizes.copy()
        if self._placements:
            grown = np.flatnonzero(sizes != self._last)
            room[grown] = [size_class(size) for size in sizes[grown].tolist()]
        stays = zip(room.tolist(), self.wiring.stays.values(), strict=True)
        found, size = place(Lifetime(bytes_, stay.first, stay.last) for bytes_, stay in stays)
        offsets = np.array(found or [0], np.int64)
        self._placements.append((room, offsets, size))
        self._last = sizes
        return offsets, size
