"""What a kept program is in a file: a description in JSON, and arrays.

Decides how a file is read: types, units and their code, the machine code as one image, nodes that
run their NumPy kernels and the places of weights in the model's files become a program again.
Weights are packed anew, which takes no longer than reading them packed, unless they are mapped as
they were packed. What writes such files is `keeping`; which programs are kept, and where, is left
to `shelf` and `artifact`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, ref

import numpy as np

from fornix.compile.disk import PLAN, DiskCache
from fornix.compile.image import Image, MappedCode
from fornix.compile.notes import code_of, dim_of
from fornix.compile.support import Support
from fornix.compile.units import CompiledUnit, NativeUnit
from fornix.dtype import DType
from fornix.forks import tell
from fornix.format.mapped import MappedFile
from fornix.ir.graph import Value
from fornix.ir.tensor import ArrayTensor, MappedTensor
from fornix.runtime.interface import Interface, NodeArg
from fornix.runtime.memory import ALIGNMENT, aligned_array
from fornix.runtime.native import NativeStep, Pairs
from fornix.runtime.options import SessionOptions
from fornix.runtime.packing import StoredData
from fornix.runtime.program import Program
from fornix.runtime.providers import Step, TextCode
from fornix.runtime.sizing.learned import Formulas, Kernels, Learned, Source
from fornix.runtime.stored.content import Content
from fornix.runtime.stored.notes import type_of
from fornix.runtime.threads import Pool

if TYPE_CHECKING:
    from fornix.runtime.stored.shelf import Shelf

Array = np.ndarray[Any, np.dtype[Any]]
Head = Mapping[str, Any]
"""A description, as JSON knows it; `keeping` says what is in it."""

LENGTH_BYTES = 8
"""Of the number with which a file begins: how long its description is."""
NOTHING = memoryview(b"")


class KeptProgram:
    """What was kept, in memory: a description, and arrays by number; sessions share it."""

    def __init__(self, body: memoryview, content: Content, data: memoryview = NOTHING) -> None:
        """``data``, of the model's own file, is what lies behind ``body``."""
        head = self.head = head_of(body)
        self.body, self.content, self.data = body, content, data
        self.served = {tuple(key) for key in head["served"]}
        """Extents for which it is known to be made; there may be others."""
        self.forget()
        tell(self)
        self._data: list[ref[StoredData]] = []
        self.values = [Value(name, type_of(note)) for name, note in head["values"]]
        for number, array in head["derived"]:
            self.values[number].tensor = ArrayTensor(self.array(array))
        for number, dtype, shape, *place in head["placed"]:
            payload = content.payload(*place)
            self.values[number].tensor = MappedTensor(payload, DType.of(dtype), tuple(shape))

    @staticmethod
    def of(disk: DiskCache, name: str, content: Content, pool: Pool) -> KeptProgram | None:
        """What is kept under ``name`` of a model with this ``content``."""
        found = KeptProgram.opened(name, content, pool)
        body = disk.read(name, PLAN) if found is None else None
        if body is None or not content.holds(head_of(body)["external"], pool):
            return found
        return KeptProgram.open(name, body, content)

    @staticmethod
    def opened(name: str, content: Content, pool: Pool) -> KeptProgram | None:
        """What sessions of this process use of a model with this ``content``."""
        found = _OPEN.get(name)
        return found if found is not None and found.is_for(content, pool) else None

    @staticmethod
    def open(
        name: str, body: memoryview, content: Content, data: memoryview = NOTHING
    ) -> KeptProgram:
        """What is in ``body``, for this and later sessions."""
        found = _OPEN[name] = KeptProgram(body, content, data)
        return found

    def is_for(self, content: Content, pool: Pool) -> bool:
        """Whether it is made of what is still there, and ``content`` is the same."""
        return self.content.is_intact and content.holds(self.head["external"], pool)

    def forget(self) -> None:
        """In the child of a fork: whoever was making a program is not there."""
        self._lock = threading.Lock()

    @property
    def interface(self) -> Interface:
        """What a session has to know of the model."""
        fed, overridable = (self._picked(self.head[kind]) for kind in ("fed", "overridable"))
        return Interface(fed, overridable, [name for name, *_ in self.head["outputs"]])

    @property
    def outputs(self) -> list[NodeArg]:
        """What a session shows of the outputs."""
        return [NodeArg(*shown) for shown in self.head["outputs"]]

    def array(self, number: int) -> Array:
        """A view of an array; read-only."""
        dtype, shape, start = self.head["arrays"][number]
        kind, count = DType.of(dtype).numpy, math.prod(shape)
        size = len(self.body)
        is_behind = start >= size and self.data.nbytes
        place = (self.data, start - size) if is_behind else (self.body, start)
        found = np.frombuffer(place[0], kind, count, place[1]).reshape(shape)
        found.flags.writeable = False
        return found

    @cached_property
    def code(self) -> MappedCode:
        """The machine code; raises OSError where it cannot be run."""
        head = self.head
        content, fixups = self.array(head["image"]), self.array(head["fixups"])
        image = Image(content.tobytes(), fixups, head["entries"], head["calls"])
        return MappedCode(image)

    @cached_property
    def rows(self) -> list[list[NativeUnit]]:
        """The units of each native step, without nodes."""
        loaded = {name: (address, self.code) for name, address in self.code.addresses.items()}
        codes = [code_of(note, loaded, self._table) for note in self.head["codes"]]
        return [
            [
                NativeUnit(CompiledUnit((), self._picked(read), self._picked(made)), codes[which])
                for which, read, made in step["units"]
            ]
            for step in self.head["steps"]
            if "units" in step
        ]

    def _table(self, number: int, _: DType) -> Array:
        return self.array(number)

    def program(self, pool: Pool, options: SessionOptions, shelf: Shelf | None = None) -> Program:
        """A program that shares everything but its threads with others of this file.

        Programs of its bodies are kept within ``shelf``.
        """
        with self._lock:
            head, rows = self.head, self.rows
            stored = [data() for data in self._data]
            data = [x for x in stored if x is not None]
            if not data or len(data) < len(stored):
                data = self._stored_data(rows, pool, is_limited=options.memory_limit > 0)
                # Who compiles anew after all has packed weights of its own.
                self._data = [ref(x) for x in data]
        steps = self._steps_of(rows, data, pool, self._kernels(options, shelf))
        symbols = {name: (self.values[v], axis) for name, v, axis in head["symbols"]}
        inputs, results = self._picked(head["inputs"]), self._picked(head["results"])
        stays = ((value, value.constant) for value in self._picked(head["constants"]))
        constants = {value: tensor.numpy() for value, tensor in stays if tensor is not None}
        region = self.content.region
        files = [region] if isinstance(region, MappedFile) and self.data.nbytes else []
        program = Program(inputs, results, symbols, steps, constants, files=files)
        program.ranges = {
            name: (least, None if most is None else dim_of(most), unit)
            for name, least, most, unit in head["ranges"]
        }
        program.telling = head["telling"]
        return program

    def _stored_data(
        self, rows: Sequence[Sequence[NativeUnit]], pool: Pool, *, is_limited: bool
    ) -> list[StoredData]:
        """What kernels of each native step read: packed while the caller goes on, or mapped."""
        found = []
        is_mapped = isinstance(self.content.region, MappedFile)
        notes = [step["packed"] for step in self.head["steps"] if "units" in step]
        for units, note in zip(rows, notes, strict=True):
            if note is None:
                packing = StoredData.later if is_limited else StoredData.soon
                found.append(packing(units, pool))
                continue
            packed = {
                (unit, units[unit].code.temporaries[temporary]): self._aligned(array)
                for unit, temporary, array in note
            }
            found.append(StoredData.ready(units, pool, packed, is_mapped=is_mapped))
        return found

    def _aligned(self, number: int) -> Array:
        """An array that kernels find where they write packed weights: at a line of the cache."""
        array = self.array(number)
        if array.ctypes.data % ALIGNMENT == 0:
            return array
        copy = aligned_array(array.shape, array.dtype)
        copy[...] = array
        return copy

    def _steps_of(
        self,
        rows: Sequence[Sequence[NativeUnit]],
        data: Sequence[StoredData],
        pool: Pool,
        kernels: Iterator[Step],
    ) -> list[Step]:
        """The steps: machine code, and nodes which run their NumPy ``kernels``."""
        steps: list[Step] = []
        support = self._support() if rows else None
        native = iter(zip(rows, data, strict=True))
        for note in self.head["steps"]:
            if support is None or "units" not in note:
                steps.append(self._with_code(next(kernels), note))
                continue
            units, own = next(native)
            interface = self._picked(note["reads"]), self._picked(note["writes"])
            step = NativeStep(
                units, interface, own, pool, support, agreement=_agreement(note["agreement"])
            )
            own_kernels = list(islice(kernels, len(note["kernels"])))
            if note["learned"]:
                told = self._formulas(note["told"])
                step.learn(self._learned(note["learned"], Kernels(own_kernels, {}, told)))
            if note["learned"] or (len(self.head["steps"]) > 1 and step.tells_its_extents):
                from fornix.runtime.shortcuts.generic import ShortWay  # noqa: PLC0415 - few have one

                step.short = ShortWay([step], sorted(name for name, *_ in self.head["symbols"]))
            steps.append(step)
        return steps

    def _with_code(self, step: Step, note: Mapping[str, Any]) -> Step:
        """``step``, which knows where the code for texts is if it needs that."""
        from fornix.runtime.stored.islands import IslandStep  # noqa: PLC0415 - few programs have any

        if note["texts"] and isinstance(step, IslandStep):
            (name,) = note["texts"]
            step.code = TextCode(self.code.addresses[name], self.code, self._support())
        return step

    def _support(self) -> Support:
        code = self.code
        addresses = [code.addresses[name] for name in self.head["support"]]
        return Support.at(addresses, (code,) * len(addresses))

    def _formulas(self, notes: Sequence[Sequence[Any]]) -> dict[Value, Formulas]:
        """What formulas tell beside steps."""
        return {
            self.values[value]: Formulas([*map(dim_of, dims)], shape, DType.of(dtype).numpy)
            for value, dims, shape, dtype in notes
        }

    def _learned(self, notes: Sequence[Sequence[Any]], kernels: Kernels) -> Learned:
        """What a step learns; ``kernels`` do its work where its code is not made for that."""
        sources = {
            name: Source(
                self.values[value], place, is_element, tuple(map(dim_of, dims)),
                DType.of(dtype).numpy,
            )
            for name, value, place, is_element, dims, dtype in notes
        }  # fmt: skip
        return Learned(sources, lambda: kernels)

    def _kernels(self, options: SessionOptions, shelf: Shelf | None) -> Iterator[Step]:
        """The nodes that run their NumPy kernels, or may, in their order."""
        if self.head["kernels"] is None:
            return
        from fornix.runtime.stored.islands import Islands  # noqa: PLC0415 - few programs have any

        number, read, nodes = self.head["kernels"]
        islands = Islands(self.array, number, self._picked(read), options, shelf)
        places: list[Sequence[Sequence[int]]] = []
        for note in self.head["steps"]:
            places += note["kernels"] if "units" in note else [(note["reads"], note["writes"])]
        made = [
            islands.step(node, *map(self._picked, place))
            for node, place in zip(nodes, places, strict=True)
        ]
        own = [note for note in self.head["steps"] if "units" not in note]
        if own:  # the others may never run
            islands.start(is_certain=any(not (note["texts"] or note["driven"]) for note in own))
        yield from made

    def _picked(self, numbers: Sequence[int]) -> tuple[Value, ...]:
        return tuple(self.values[number] for number in numbers)


def head_of(body: memoryview) -> Head:
    """The description in ``body``."""
    end = LENGTH_BYTES + int.from_bytes(body[:LENGTH_BYTES], "little")
    found: Head = json.loads(bytes(body[LENGTH_BYTES:end]))
    return found


_OPEN: WeakValueDictionary[str, KeptProgram] = WeakValueDictionary()
"""Files that sessions of this process use."""


def _agreement(note: Sequence[Any] | None) -> tuple[Pairs, Pairs] | None:
    """The pairs of extents that ``note``, which `keeping` wrote, says."""
    if note is None:
        return None
    equal, reach = ([(dim_of(one), dim_of(other)) for one, other in pairs] for pairs in note)
    return equal, reach
