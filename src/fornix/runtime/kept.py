"""What a kept program is in a file: a description in JSON, and arrays.

Decides how types, units and their code, the machine code as one image and the places of weights in
the model's file are written down, and makes them a program again: weights are packed anew, which
takes no longer than reading them packed. Which programs are kept, and where, is left to `shelf`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary, ref

import numpy as np

from fornix.compile.disk import OBJECT, PLAN, DiskCache
from fornix.compile.image import Image, MappedCode, image_of
from fornix.compile.notes import UnitCode, code_of, dim_of, dim_text, note_of, object_name
from fornix.compile.support import Support
from fornix.compile.units import CompiledUnit, NativeUnit
from fornix.dtype import DType
from fornix.format.mapped import MappedBytes
from fornix.ir.graph import Model, Value
from fornix.ir.tensor import ArrayTensor, MappedTensor
from fornix.ir.types import TensorType
from fornix.ir.walk import nodes
from fornix.runtime.content import Content
from fornix.runtime.interface import Interface, NodeArg, output_args
from fornix.runtime.native import NativeStep
from fornix.runtime.packing import StoredData, stored_values
from fornix.runtime.program import Program
from fornix.runtime.threads import Pool

Array = np.ndarray[Any, np.dtype[Any]]

MAX_DATA_BYTES = 64 << 20
"""Of the data in a file: what is not stored in the model as it is read."""
ALIGNMENT = 64
"""Bytes; of each array in a file."""
LENGTH_BYTES = 8
"""Of the number with which a file begins: how long its description is."""


class KeptProgram:
    """What was kept, in memory: a description, and arrays by number; sessions share it."""

    def __init__(self, body: memoryview, content: Content) -> None:
        end = LENGTH_BYTES + int.from_bytes(body[:LENGTH_BYTES], "little")
        self.head: dict[str, Any] = json.loads(bytes(body[LENGTH_BYTES:end]))
        self.body, self.content = body, content
        self._lock = threading.Lock()
        self._data: ref[StoredData] | None = None
        self.values = [_value(note) for note in self.head["values"]]
        for number, array in self.head["derived"]:
            self.values[number].tensor = ArrayTensor(self.array(array))
        for number, dtype, shape, start, size in self.head["placed"]:
            place = MappedBytes(content.region, start, size)
            self.values[number].tensor = MappedTensor(place, DType.of(dtype), tuple(shape))

    @staticmethod
    def of(disk: DiskCache, name: str, content: Content) -> KeptProgram | None:
        """What is kept under ``name`` of a model with this ``content``."""
        found = _OPEN.get(name)
        if found is None or not found.content.is_intact:
            body = disk.read(name, PLAN)
            if body is None:
                return None
            found = _OPEN[name] = KeptProgram(body, content)
        return found

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
        kind = DType.of(dtype).numpy
        found = np.frombuffer(self.body, kind, math.prod(shape), start).reshape(shape)
        found.flags.writeable = False
        return found

    @cached_property
    def code(self) -> MappedCode:
        """The machine code; raises OSError where it cannot be run."""
        head = self.head
        content, fixups = self.array(head["image"]), self.array(head["fixups"])
        return MappedCode(Image(content.tobytes(), fixups, head["entries"]))

    @cached_property
    def units(self) -> list[NativeUnit]:
        """Units without nodes."""
        loaded = {name: (address, self.code) for name, address in self.code.addresses.items()}
        codes = [code_of(note, loaded, self._table) for note in self.head["codes"]]
        return [
            NativeUnit(CompiledUnit((), self._picked(read), self._picked(made)), codes[which])
            for which, read, made in self.head["units"]
        ]

    def _table(self, number: int, _: DType) -> Array:
        return self.array(number)

    def program(self, pool: Pool) -> Program:
        """A program that shares everything but its threads with others of this file."""
        with self._lock:
            head, code, units = self.head, self.code, self.units
            data = self._data() if self._data else None
            if data is None:
                data = StoredData.soon(units, pool)
                self._data = ref(data)  # who compiles anew after all has packed weights of its own
        addresses = [code.addresses[name] for name in head["support"]]
        support = Support.at(addresses, (code,) * len(addresses))
        interface = self._picked(head["reads"]), self._picked(head["writes"])
        step = NativeStep(units, interface, data, pool, support)
        symbols = {name: (self.values[v], axis) for name, v, axis in head["symbols"]}
        inputs, results = self._picked(head["inputs"]), self._picked(head["results"])
        return Program(inputs, results, symbols, [step], {})

    def _picked(self, numbers: Sequence[int]) -> tuple[Value, ...]:
        return tuple(self.values[number] for number in numbers)


_OPEN: WeakValueDictionary[str, KeptProgram] = WeakValueDictionary()
"""Files that sessions of this process use."""


def written(
    program: Program, step: NativeStep, model: Model, content: Content, disk: DiskCache
) -> memoryview | None:
    """What a file holds of ``program``, which is ``step``; None if something cannot be kept."""
    return _Description(program, step, model, content, disk).file()


def _has_registered(model: Model) -> bool:
    """Whether users registered what nodes of ``model`` mean: in the next process it may be else."""
    from fornix.ops.registered import is_registered  # noqa: PLC0415 - kept programs do without

    table = model.function_table
    return any(
        is_registered(node.domain, node.op_type)
        for node in nodes(model)
        if (node.domain, node.op_type, node.overload) not in table
    )


class _Description:
    """A program on its way into a file."""

    def __init__(
        self, program: Program, step: NativeStep, model: Model, content: Content, disk: DiskCache
    ) -> None:
        self.program, self.step, self.model = program, step, model
        self.content, self.disk = content, disk
        self.numbers: dict[Value, int] = {}
        self.arrays: list[Array] = []

    def file(self) -> memoryview | None:
        """The content of the file; None if something in it cannot be kept."""
        stored = self._stored()
        tables = [table for code in self._codes() for table in code.tables.values()]
        if stored is None or not all(map(_is_plain, self.model.graph.inputs)):
            return None
        if _has_registered(self.model):
            return None
        derived, placed = stored
        size = sum(array.nbytes for array in (*derived.values(), *tables))
        image = self._image() if size <= MAX_DATA_BYTES else None
        if image is None:
            return None
        head = {**self._session(), **self._steps(), "entries": image.entries, "placed": placed}
        head["derived"] = [[*self._of([v]), self._add(array)] for v, array in derived.items()]
        head["codes"] = [note_of(code, self._add) for code in self._codes()]
        head["image"] = self._add(np.frombuffer(image.content, np.uint8))
        head["fixups"] = self._add(image.fixups)
        head["values"] = [_note(value) for value in self.numbers]
        return _joined(head, self.arrays)

    def _stored(self) -> tuple[dict[Value, Array], list[Any]] | None:
        """Initializers: those that are not read in place, and where in the model the others lie.

        None if one lies in another file.
        """
        derived: dict[Value, Array] = {}
        placed: list[Any] = []
        for value in stored_values(self.step.units):
            tensor = value.constant
            place = getattr(tensor, "place", None)
            start = self.content.offset(place)
            if tensor is None or (place is not None and start is None):
                return None
            if place is None:
                derived[value] = tensor.numpy()
            else:
                shape = list(tensor.shape)
                placed.append([*self._of([value]), tensor.dtype.name, shape, start, place.nbytes])
        return derived, placed

    def _session(self) -> dict[str, Any]:
        """What a session shows, and where its feeds and results belong."""
        interface, program = Interface.of(self.model), self.program
        return {
            "fed": self._of(interface.inputs),
            "overridable": self._of(interface.overridable),
            "outputs": [[o.name, o.type, o.shape] for o in output_args(self.model)],
            "inputs": self._of(program.inputs.values()),
            "results": self._of(program.outputs.values()),
            "symbols": [[n, *self._of([v]), axis] for n, (v, axis) in program.symbols.items()],
        }

    def _steps(self) -> dict[str, Any]:
        """What runs, and on what."""
        step, support = self.step, self.step.support
        at = {id(code): number for number, code in enumerate(self._codes())}
        pairs = zip(support.addresses, support.owners, strict=True)
        return {
            "units": [
                [at[id(u.code)], self._of(u.unit.inputs), self._of(u.unit.outputs)]
                for u in step.units
            ],
            "reads": self._of(step.reads),
            "writes": self._of(step.writes),
            "support": [object_name(address, owner) for address, owner in pairs],
        }

    def _codes(self) -> list[UnitCode]:
        return list({id(u.code): u.code for u in self.step.units}.values())

    def _image(self) -> Image | None:
        """The machine code of all kernels, and of what runs them."""
        kernels = [kernel for code in self._codes() for kernel in code.kernels]
        support = self.step.support
        places = [(kernel.address, kernel.owner) for kernel in kernels]
        places += zip(support.addresses, support.owners, strict=True)
        objects: dict[str, bytes] = {}
        for name in {object_name(address, owner): None for address, owner in places}:
            found = self.disk.read(name, OBJECT)
            if found is None:
                return None
            objects[name] = bytes(found)
        return image_of(objects)

    def _of(self, values: Iterable[Value]) -> list[int]:
        return [self.numbers.setdefault(value, len(self.numbers)) for value in values]

    def _add(self, array: Array) -> int:
        self.arrays.append(array)
        return len(self.arrays) - 1


def _joined(head: dict[str, Any], arrays: Sequence[Array]) -> memoryview:
    """The description, its length ahead, and the arrays, each at a multiple of `ALIGNMENT`."""
    head["arrays"] = [[DType.of(a.dtype).name, list(a.shape), 0] for a in arrays]
    # Places are written with all their digits, so that the length does not depend on them.
    size = len(json.dumps(head)) + len(arrays) * len(str(MAX_DATA_BYTES * 4)) + LENGTH_BYTES
    for entry, array in zip(head["arrays"], arrays, strict=True):
        size += -size % ALIGNMENT
        entry[2] = size
        size += array.nbytes
    text = json.dumps(head).encode()
    whole = np.zeros(size, np.uint8)
    whole[:LENGTH_BYTES] = np.frombuffer(len(text).to_bytes(LENGTH_BYTES, "little"), np.uint8)
    whole[LENGTH_BYTES : LENGTH_BYTES + len(text)] = np.frombuffer(text, np.uint8)
    for (_, _, start), array in zip(head["arrays"], arrays, strict=True):
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        whole[start : start + array.nbytes] = content
    return whole.data


def _is_plain(value: Value) -> bool:
    """Whether notes hold the type of ``value`` as it is."""
    return isinstance(value.type, TensorType) and value.type.dtype is not None


def _note(value: Value) -> list[Any]:
    """A value as JSON knows it; a type is left out if it is no tensor's."""
    type_ = value.type
    if not isinstance(type_, TensorType) or type_.dtype is None:
        return [value.name]
    shape = type_.shape
    dims = () if shape is None else [None if d is None else dim_text(d) for d in shape]
    return [value.name, type_.dtype.name, None if shape is None else list(dims)]


def _value(note: Sequence[Any]) -> Value:
    if len(note) == 1:
        return Value(note[0])
    name, dtype, dims = note
    shape = None if dims is None else tuple(None if d is None else dim_of(d) for d in dims)
    return Value(name, TensorType(DType.of(dtype), shape))
