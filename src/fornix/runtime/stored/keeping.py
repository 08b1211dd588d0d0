"""What of a program is written to a file, for `kept` to read.

Decides how types, units and their code, the machine code as one image, nodes that run their NumPy
kernels and the places of weights in the model's files are written down, and what has no such form:
steps of other providers, operators that users registered, and more data than is worth a copy. For a
compiled model the weights that are packed are written, too, behind all else: arrays to be mapped.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fornix.compile.disk import OBJECT, DiskCache
from fornix.compile.image import Image, image_of
from fornix.compile.notes import dim_text, note_of, object_name
from fornix.dtype import DType
from fornix.ir.graph import Model, Value
from fornix.ir.tensor import Tensor
from fornix.ir.walk import nodes
from fornix.ops.registered import is_registered
from fornix.runtime.interface import Interface, output_args
from fornix.runtime.native import NativeStep
from fornix.runtime.packing import stored_values
from fornix.runtime.program import Program
from fornix.runtime.providers import KernelStep, Step
from fornix.runtime.settling import telling
from fornix.runtime.sizing.learned import Sources
from fornix.runtime.stored import islands
from fornix.runtime.stored.content import Content
from fornix.runtime.stored.graphs import graph_text
from fornix.runtime.stored.kept import LENGTH_BYTES
from fornix.runtime.stored.notes import NotKept, dim_note, type_note

Array = np.ndarray[Any, np.dtype[Any]]

MAX_DATA_BYTES = 256 << 20
"""Of the data in a file: what is not stored in the model as it is read."""
ALIGNMENT = 64
"""Bytes; of each array in a file."""
PLACE_DIGITS = 15
"""With which places in a file are written, at most."""


class Written(NamedTuple):
    """A program for a file."""

    body: memoryview
    """Its description, its code and what goes with that."""
    data: list[Array]
    """What is to lie behind it, each at a multiple of `ALIGNMENT`."""


def written(
    program: Program,
    model: Model,
    content: Content,
    disk: DiskCache,
    *,
    packed: bool = False,
    served: Sequence[Sequence[int]] = (),
) -> Written | None:
    """What a file holds of ``program``; None if something cannot be kept.

    If ``packed``, weights as they are packed and stored data of any size are `Written.data`.
    ``served`` are extents for which the program is known to be made.
    """
    if not all(isinstance(step, NativeStep | KernelStep) for step in program.steps):
        return None
    if _has_registered(model):
        return None
    try:
        description = _Description(program, model, content, disk, packed=packed)
        return description.file({"served": [list(key) for key in served]})
    except NotKept:
        return None


def is_code_kept(program: Program, disk: DiskCache) -> bool:
    """Whether ``disk`` still has all machine code of ``program``, or its steps are of other kinds.

    Files go when there are too many; what has been loaded before runs without them.
    """
    return all(disk.read(name, OBJECT) is not None for name in _object_names(program.steps))


def _object_names(steps: Sequence[Step]) -> list[str]:
    """Under which names the machine code of ``steps`` is kept, and that which runs kernels."""
    native = [step for step in steps if isinstance(step, NativeStep)]
    codes = {id(unit.code): unit.code for step in native for unit in step.units}.values()
    kernels = [kernel for code in codes for kernel in code.kernels]
    names = [object_name(kernel.address, kernel.owner) for kernel in kernels]
    return list(dict.fromkeys([*names, *_support_names(steps), *_text_names(steps)]))


def _text_names(steps: Sequence[Step]) -> list[str]:
    """The objects with the code for texts; none where no step needs any."""
    codes = [step.code for step in steps if isinstance(step, KernelStep)]
    found = (object_name(code.address, code.owner) for code in codes if code is not None)
    return list(dict.fromkeys(found))


def _support_names(steps: Sequence[Step]) -> list[str]:
    """The objects with the code that runs kernels; none where there are none."""
    supports = [step.support for step in steps if isinstance(step, NativeStep)]
    codes = [step.code for step in steps if isinstance(step, KernelStep)]
    supports += [code.support for code in codes if code is not None]
    pairs = [pair for s in supports[:1] for pair in zip(s.addresses, s.owners, strict=True)]
    return [object_name(address, owner) for address, owner in pairs]


def _has_registered(model: Model) -> bool:
    """Whether users registered what nodes of ``model`` mean: in the next process it may be else."""
    table = model.function_table
    return any(
        is_registered(node.domain, node.op_type)
        for node in nodes(model)
        if (node.domain, node.op_type, node.overload) not in table
    )


class _Description:
    """A program on its way into a file."""

    def __init__(
        self, program: Program, model: Model, content: Content, disk: DiskCache, *, packed: bool
    ) -> None:
        self.program, self.model, self.packed = program, model, packed
        self.content, self.disk = content, disk
        self.native = [step for step in program.steps if isinstance(step, NativeStep)]
        self.others = [step for row in program.steps for step in _kernels(row)]
        self.codes = list({id(u.code): u.code for step in self.native for u in step.units}.values())
        self.numbers: dict[Value, int] = {}
        self.arrays: list[Array] = []
        self.apart: dict[int, int] = {}
        """Numbers of arrays that lie behind all else, by what is the same array in memory."""
        self.derived: dict[Value, int] = {}
        """Stored data by the array that holds them, as they lie in no file of the model."""
        self.placed: dict[Value, list[Any]] = {}
        """Types of stored data that lie in a file of the model, and where."""

    def file(self, more: Mapping[str, Any]) -> Written:
        """The content of the file; raises NotKept if something in it cannot be kept.

        ``more`` becomes part of the description.
        """
        for value in {v: None for step in self.native for v in self._read(step)}:
            self._store(value)
        kernels = self._kernels() if self.others else None
        head = {**more, **self._session(), **self._steps(), "kernels": kernels}
        head["codes"] = [note_of(code, self._add) for code in self.codes]
        image = self._image()
        near = (x.nbytes for n, x in enumerate(self.arrays) if n not in self.apart.values())
        if sum(near) > MAX_DATA_BYTES:
            raise NotKept
        head["entries"], head["calls"] = image.entries, image.calls
        head["image"] = self._add(np.frombuffer(image.content, np.uint8))
        head["fixups"] = self._add(image.fixups)
        head["derived"] = [[*self._of([v]), array] for v, array in self.derived.items()]
        head["placed"] = [[*self._of([v]), *place] for v, place in self.placed.items()]
        head["external"] = self.content.digests
        head["values"] = [[value.name, type_note(value.type)] for value in self.numbers]
        return _joined(head, self.arrays, {*self.apart.values()})

    def _read(self, step: NativeStep) -> Iterable[Value]:
        """The stored values that kernels of ``step`` read: in runs, and ahead if they are to."""
        return step.data.tables if self.packed else stored_values(step.units)

    def _store(self, value: Value) -> None:
        """Note where the stored data of ``value`` are."""
        tensor = value.constant
        if tensor is None or value in self.derived or value in self.placed:
            return
        place = self.content.place(getattr(tensor, "place", None))
        if place is not None:
            size = tensor.place.nbytes  # type: ignore[attr-defined] # where it was found
            self.placed[value] = [tensor.dtype.name, list(tensor.shape), *place, size]
            return
        array = tensor.numpy()
        if getattr(tensor, "place", None) is not None or array.dtype.kind == "O":
            raise NotKept
        self.derived[value] = self._add_apart(array) if self.packed else self._add(array)

    def _kernels(self) -> list[Any]:
        """The nodes that run their NumPy kernels: the array with their model, and what it reads.

        And which of them each step is: what several steps compute where they read it is there once.
        """
        plan = self.others[0].plan
        planned = [step.planned.node for step in self.others]
        kept = {*planned}
        nodes = [node for node in plan.steps_by_node if node in kept]
        numbers = {node: number for number, node in enumerate(nodes)}
        made = islands.written(nodes, plan.scope, self._is_placed)
        for value in made.read:
            self._store(value)
        if made.nbytes > MAX_DATA_BYTES:
            raise NotKept
        text = graph_text(made.model, self._add)
        steps = [numbers[node] for node in planned]
        return [self._add(np.frombuffer(text, np.uint8)), self._of(made.read), steps]

    def _is_placed(self, tensor: Tensor) -> bool:
        return self.content.place(getattr(tensor, "place", None)) is not None

    def _session(self) -> dict[str, Any]:
        """What a session shows, and where its feeds and results belong."""
        interface, program = Interface.of(self.model), self.program
        stays = [value for value in program.outputs.values() if value in program.constants]
        for value in stays:
            self._store(value)
        return {
            "fed": self._of(interface.inputs),
            "overridable": self._of(interface.overridable),
            "outputs": [[o.name, o.type, o.shape] for o in output_args(self.model)],
            "inputs": self._of(program.inputs.values()),
            "results": self._of(program.outputs.values()),
            "constants": self._of(stays),
            "symbols": [[n, *self._of([v]), axis] for n, (v, axis) in program.symbols.items()],
            "telling": telling(self.model),
            "ranges": [
                [name, least, None if most is None else dim_text(most), unit]
                for name, (least, most, unit) in program.ranges.items()
            ],
        }

    def _steps(self) -> dict[str, Any]:
        """What runs, and on what."""
        at = {id(code): number for number, code in enumerate(self.codes)}
        steps: list[dict[str, Any]] = []
        for step in self.program.steps:
            steps.append({"reads": self._of(step.reads), "writes": self._of(step.writes)})
            if isinstance(step, NativeStep):
                steps[-1]["reads"] = self._of(step.inputs)
                steps[-1]["units"] = [
                    [at[id(u.code)], self._of(u.unit.inputs), self._of(u.unit.outputs)]
                    for u in step.units
                ]
                steps[-1]["agreement"] = _agreement_note(step)
                steps[-1]["learned"] = self._learned(step)
                steps[-1]["kernels"] = [
                    [self._of(kernel.reads), self._of(kernel.writes)] for kernel in _kernels(step)
                ]
                steps[-1]["told"] = self._told(step)
                steps[-1]["packed"] = self._packed(step) if self.packed else None
            elif isinstance(step, KernelStep):
                steps[-1]["texts"] = _text_names([step])
                steps[-1]["driven"] = step.control is not None
        return {"steps": steps, "support": _support_names(self.program.steps)}

    def _packed(self, step: NativeStep) -> list[list[int]]:
        """What was packed for each unit: its number, that of the temporary, that of the array."""
        found = []
        for (unit, buffer), array in step.data.packed(step.data.places).items():
            temporary = step.units[unit].code.temporaries.index(buffer)
            found.append([unit, temporary, self._add_apart(array)])
        return found

    def _learned(self, step: NativeStep) -> list[list[Any]]:
        """What ``step`` learns: symbols, and where their numbers are."""
        return [
            [
                name, *self._of([source.value]), source.place, source.is_element,
                [dim_note(d) for d in source.shape], DType.of(source.dtype).name,
            ]
            for name, source in _sources(step).items()
        ]  # fmt: skip

    def _told(self, step: NativeStep) -> list[list[Any]]:
        """What formulas tell the NumPy kernels of ``step``."""
        told = step.learned.kernels().told if step.learned else {}
        return [
            [*self._of([v]), [dim_note(d) for d in f.elements], f.shape, DType.of(f.dtype).name]
            for v, f in told.items()
        ]

    def _image(self) -> Image:
        """The machine code of all kernels, and of what runs them."""
        objects: dict[str, bytes] = {}
        for name in _object_names(self.program.steps):
            found = self.disk.read(name, OBJECT)
            if found is None:
                raise NotKept
            objects[name] = bytes(found)
        image = image_of(objects)
        if image is None:
            raise NotKept
        return image

    def _of(self, values: Iterable[Value]) -> list[int]:
        return [self.numbers.setdefault(value, len(self.numbers)) for value in values]

    def _add(self, array: Array) -> int:
        self.arrays.append(array)
        return len(self.arrays) - 1

    def _add_apart(self, array: Array) -> int:
        if id(array) not in self.apart:
            self.apart[id(array)] = self._add(array)
        return self.apart[id(array)]


def _joined(head: dict[str, Any], arrays: Sequence[Array], apart: Collection[int]) -> Written:
    """The description, its length ahead, and the arrays, each at a multiple of `ALIGNMENT`.

    Those whose numbers are ``apart`` lie behind the others.
    """
    entries = head["arrays"] = [[DType.of(a.dtype).name, list(a.shape), 0] for a in arrays]
    near, far = ([n for n in range(len(arrays)) if (n in apart) is x] for x in (False, True))
    size = len(json.dumps(head)) + len(arrays) * PLACE_DIGITS + LENGTH_BYTES
    for number in (*near, *far):
        size += -size % ALIGNMENT
        entries[number][2] = size
        size += arrays[number].nbytes
    end = entries[far[0]][2] if far else size
    text = json.dumps(head).encode()
    whole = np.zeros(end, np.uint8)
    whole[:LENGTH_BYTES] = np.frombuffer(len(text).to_bytes(LENGTH_BYTES, "little"), np.uint8)
    whole[LENGTH_BYTES : LENGTH_BYTES + len(text)] = np.frombuffer(text, np.uint8)
    for number in near:
        array, start = arrays[number], entries[number][2]
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        whole[start : start + array.nbytes] = content
    return Written(whole.data, [arrays[number] for number in far])


def _kernels(step: Step) -> Iterator[KernelStep]:
    """The nodes of ``step`` that may run their NumPy kernels, in their order."""
    if isinstance(step, KernelStep):
        yield step
    elif isinstance(step, NativeStep) and step.learned is not None:
        yield from (k for k in step.learned.kernels().steps if isinstance(k, KernelStep))


def _sources(step: NativeStep) -> Sources:
    return {} if step.learned is None else step.learned.sources


def _agreement_note(step: NativeStep) -> list[Any] | None:
    """The extents for which ``step`` is certain to be made; None if rules are asked of some."""
    *agreement, asked = step.conditions
    if asked:
        return None
    return [[[dim_text(one), dim_text(other)] for one, other in pairs] for pairs in agreement]
