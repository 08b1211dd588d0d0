"""Stored data as kernels read them: weights in the order in which they are wanted.

Decides what of a model's stored data is kept. Weights that kernels read in another order are packed
before the first run, those that only runs of unlikely extents read before the first such run; where
no run reads the original, its pages of the model's file are given back while that goes on. Programs
for other extents of the same model share what is packed.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

import numpy as np

from fornix.compile.kernel import KERNEL, CompiledKernel
from fornix.compile.notes import UnitCode, object_name
from fornix.compile.units import NativeUnit
from fornix.errors import Fail, FornixError
from fornix.forks import tell
from fornix.format.mapped import MappedBytes, mapped_files
from fornix.ir.buffer import Buffer
from fornix.ir.graph import Value
from fornix.runtime.memory import ALIGNMENT, SideBySide, aligned_bytes, readable
from fornix.runtime.sizing.extents import Extents
from fornix.runtime.threads import Ahead, Pool

Array = np.ndarray[Any, np.dtype[Any]]
Place = tuple[int, Buffer]
"""The number of a unit, and a buffer."""
Prepared = Mapping[Place, Array]
"""What was computed of initializers ahead of runs."""

LARGE_BYTES = 64 << 20
"""Of an initializer, from which on it leaves memory piece by piece."""
PARTS = 8
"""How often it does while a kernel reads it; kernels may read it in any order."""
PIECES = 32
"""Into which a kernel is cut for each thread, at most: each is a call from Python."""


Key = Hashable
"""What an array is made of: the machine code that packs, and what of which files it reads."""
_PACKED: WeakValueDictionary[Key, Array] = WeakValueDictionary()
"""What is packed in this process, as long as some program reads it."""
_GOING_ON: WeakKeyDictionary[Ahead[Prepared], frozenset[Key]] = WeakKeyDictionary()
"""What threads are about to pack."""


class StoredData:
    """What kernels read in every run."""

    def __init__(
        self,
        packing: Packing,
        find: Callable[[], object] | None = None,
        *,
        is_mapped: bool = False,
    ) -> None:
        """``find`` waits for what is packed ahead."""
        self.tables, self.sizes = packing.tables(), packing.sizes()
        """Initializers, as they are; and bytes of all that may be packed."""
        self.places = frozenset((n, b) for n, _, k in packing.ahead for b in k.outputs)
        """All that may be packed."""
        self.is_mapped = is_mapped
        """Whether what was computed ahead lies in a file."""
        self._packing, self._find = packing, find
        self.forget()
        tell(self)

    def forget(self) -> None:
        """Take a new lock; in the child of a fork, others may hold it."""
        self._lock = threading.Lock()

    @staticmethod
    def of(units: Sequence[NativeUnit], pool: Pool) -> StoredData:
        """The data of ``units``; weights are packed at once."""
        packing = Packing(units, pool)
        packing.pack_likely()
        return StoredData(packing)

    @staticmethod
    def soon(units: Sequence[NativeUnit], pool: Pool) -> StoredData:
        """The data of ``units``; weights are packed while the caller goes on."""
        packing = Packing(units, pool)
        if not packing.ahead:
            return StoredData(packing)
        keys = frozenset(packing.keys.values())
        earlier = [ref(ahead) for ahead, own in list(_GOING_ON.items()) if keys & own]
        found = Ahead(lambda: packing.pack_likely(earlier))
        _GOING_ON[found] = keys
        return StoredData(packing, found.result)

    @staticmethod
    def later(units: Sequence[NativeUnit], pool: Pool) -> StoredData:
        """The data of ``units``; weights are packed when somebody wants them."""
        return StoredData(Packing(units, pool))

    @staticmethod
    def ready(
        units: Sequence[NativeUnit], pool: Pool, prepared: Prepared, *, is_mapped: bool
    ) -> StoredData:
        """The data of ``units``, whose packed weights are there."""
        packing = Packing(units, pool)
        packing.found.update(prepared)
        return StoredData(packing, is_mapped=is_mapped)

    @property
    def prepared(self) -> Prepared:
        """What was packed so far; waits for what is packed ahead."""
        if self._find is not None:
            self._find()
        return self._packing.found.copy()  # at one time: other threads change it

    def packed(self, wanted: AbstractSet[Place]) -> Prepared:
        """`prepared` after all that is ``wanted`` of `places` is there."""
        found = self.prepared
        if found.keys() >= wanted:
            return found
        with self._lock:
            self._packing.pack(wanted)
        return self.prepared


def is_prepared(code: UnitCode, kernel: CompiledKernel) -> bool:
    """Whether ``kernel`` runs once, ahead of all runs: it packs weights, for other kernels."""
    return kernel.is_constant and not any(buffer in code.outputs for buffer in kernel.outputs)


def stored_values(units: Sequence[NativeUnit]) -> list[Value]:
    """The initializers that kernels read, in runs or ahead."""
    return list(dict.fromkeys(v for k in (False, True) for v in _stored(units, prepared=k)))


class Packing:
    """Runs the kernels that read stored data only, and keeps what they give."""

    def __init__(self, units: Sequence[NativeUnit], pool: Pool) -> None:
        self.units, self.pool = units, pool
        self.ahead = list(_kernels(units, prepared=True))
        """The kernels that pack."""
        self.found: dict[Place, Array] = {}
        """What they have given so far."""
        self.stored = list(_stored(units, prepared=False))
        """The initializers that kernels read in runs."""
        self.keys: dict[Place, Key] = {}
        """What the buffers that kernels fill ahead are made of, where others may have the same."""
        for number, unit, kernel in self.ahead:
            read = [buffer for buffer in kernel.arguments if buffer not in kernel.outputs]
            sources = [self._source(number, unit, buffer) for buffer in read]
            if None not in sources:
                name = object_name(kernel.address, kernel.owner)
                made = {(number, b): (name, k, *sources) for k, b in enumerate(kernel.outputs)}
                self.keys |= made

    def tables(self) -> dict[Value, Array]:
        """The initializers that runs read."""
        computed = {value for unit in self.units for value in unit.unit.outputs}
        read = dict.fromkeys(self.stored)
        return {v: _array(v) for v in read if v not in computed}  # what Constant gives is

    def sizes(self) -> dict[Hashable, int]:
        """Bytes of what kernels compute ahead, by what others may have the same of."""
        return {
            self._key((number, buffer)): _bytes_of(buffer)
            for number, _, kernel in self.ahead
            for buffer in kernel.outputs
        }

    def _key(self, place: Place) -> Hashable:
        return self.keys.get(place, (id(self), *place))

    def pack_likely(self, earlier: Sequence[ref[Ahead[Prepared]]] = ()) -> Prepared:
        """What runs of likely extents read of what kernels compute ahead.

        ``earlier`` packs some of it already.
        """
        for ahead in filter(None, (reference() for reference in earlier)):
            with suppress(FornixError):  # it is for others to say
                ahead.result()
        places = {(number, buffer) for number, _, k in self.ahead for buffer in k.outputs}
        wanted: set[Place] = set()
        for number, _, kernel in _kernels(self.units, prepared=False):
            if kernel.is_likely:
                wanted |= places.intersection((number, buffer) for buffer in kernel.arguments)
        self.pack(wanted)
        return self.found

    def pack(self, wanted: AbstractSet[Place]) -> None:
        """Pack what is ``wanted`` and not there; FormatError if files are written to meanwhile."""
        needed = set(wanted)
        rows: list[tuple[int, NativeUnit, CompiledKernel]] = []
        for number, unit, kernel in reversed(self.ahead):
            places = {(number, buffer) for buffer in kernel.outputs}
            if places & needed and not self.found.keys() >= places:
                needed.update((number, buffer) for buffer in kernel.arguments)
                rows.insert(0, (number, unit, kernel))
        waiting = Counter(v for _, unit, kernel in rows for v in _stored_inputs(unit, kernel))
        leaving = waiting.keys() - self.stored
        files = list(mapped_files(getattr(v.constant, "place", None) for v in waiting))
        for file in files:
            file.check()  # it may be long since the session was made
        room = SideBySide(_bytes_of(buffer) for *_, kernel in rows for buffer in kernel.outputs)
        for number, unit, kernel in rows:
            self._prepare(number, unit, kernel, room, leaving)
            for value in _stored_inputs(unit, kernel):
                waiting[value] -= 1
                if not waiting[value] and value in leaving:
                    _give_back(value)
        for file in files:
            file.check()

    def _prepare(
        self,
        number: int,
        unit: NativeUnit,
        kernel: CompiledKernel,
        room: SideBySide,
        leaving: Collection[Value],
    ) -> None:
        """Run ``kernel`` and keep what it gives, unless another program has the same."""
        places = [(number, buffer) for buffer in kernel.outputs]
        shared = [_PACKED.get(self.keys.get(place)) for place in places]
        given = {place: x for place, x in zip(places, shared, strict=True) if x is not None}
        if len(given) < len(places):
            given |= self._given(number, unit, kernel, room, leaving)
            _PACKED.update({self.keys[p]: given[p] for p in places if p in self.keys})
        self.found |= given

    def _given(
        self,
        number: int,
        unit: NativeUnit,
        kernel: CompiledKernel,
        room: SideBySide,
        leaving: Collection[Value],
    ) -> dict[Place, Array]:
        """What ``kernel`` gives, in memory from ``room``."""
        extent = Extents({})
        given: dict[Place, Array] = {}
        arrays: list[Array] = []
        for buffer in kernel.arguments:
            place = number, buffer
            if buffer in kernel.outputs:
                given[place] = room.array(extent(buffer.elements), buffer.dtype.numpy)
                arrays.append(given[place])
            elif place in self.found:
                arrays.append(self.found[place])
            elif buffer in unit.code.tables:
                arrays.append(readable(unit.code.tables[buffer]))
            else:
                arrays.append(_array(unit.unit.inputs[unit.code.inputs[buffer]]))
        self._run(kernel, arrays, [v for v in _stored_inputs(unit, kernel) if v in leaving])
        return given

    def _source(self, number: int, unit: NativeUnit, buffer: Buffer) -> Key | None:
        """What is read from ``buffer``; None if nobody can tell."""
        if (number, buffer) in self.keys:
            return self.keys[number, buffer]
        if buffer in unit.code.tables:
            return unit.code.tables[buffer].tobytes()
        if buffer not in unit.code.inputs:
            return None
        place = getattr(unit.unit.inputs[unit.code.inputs[buffer]].constant, "place", None)
        return None if place is None else (place.region, place.offset, place.nbytes)

    def _run(
        self, kernel: CompiledKernel, arrays: Sequence[Array], leaving: Sequence[Value]
    ) -> None:
        """Run ``kernel`` on ``arrays``; little of what is large and ``leaving`` stays in memory."""
        extent = Extents({})
        chunks = max(1, min(extent(kernel.parallel), PIECES * self.pool.threads))
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


def _kernels(
    units: Sequence[NativeUnit], *, prepared: bool
) -> Iterator[tuple[int, NativeUnit, CompiledKernel]]:
    """The kernels that run ahead, or those that do not, with their units."""
    for number, unit in enumerate(units):
        for kernel in unit.code.kernels:
            if is_prepared(unit.code, kernel) is prepared:
                yield number, unit, kernel


def _bytes_of(buffer: Buffer) -> int:
    return Extents({})(buffer.elements) * buffer.dtype.numpy.itemsize


def _stored(units: Sequence[NativeUnit], *, prepared: bool) -> Iterator[Value]:
    """The initializers that such kernels read."""
    for _, unit, kernel in _kernels(units, prepared=prepared):
        yield from _stored_inputs(unit, kernel)


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
