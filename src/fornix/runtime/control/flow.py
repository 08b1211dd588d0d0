"""A program with control flow as one native call: If, Loop and Scan are jumps between its kernels.

What extents of feeds decide is computed once, ahead of everything. What runs comes behind it: each
body once, its values in the same places in every iteration, but for those as large as only the
iteration tells (`late`). Decides which programs get such a call: those of compiled parts and
control flow alone. What is not as it should be ends the call, and whoever made it goes the long way
from the beginning.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial, reduce
from operator import mul
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fornix.compile import machine as words
from fornix.compile.entry import DATA
from fornix.compile.support import Support
from fornix.format.mapped import MappedFile
from fornix.ir.dim import Dim, DimLike, known
from fornix.ir.graph import Graph, Value
from fornix.runtime.control.bodies import CompiledBody, ListKind, ReadType, changes
from fornix.runtime.control.branching import Forked, branch, joined
from fornix.runtime.control.draws import draw, is_draw, is_written
from fornix.runtime.control.late import LateCall
from fornix.runtime.control.lists import check_fed, fed_list, give_list, list_way
from fornix.runtime.control.looping import loop, scan
from fornix.runtime.control.places import (
    LONG,
    Budget,
    Fed,
    Label,
    Listed,
    Place,
    Places,
)
from fornix.runtime.links import LinkedWay
from fornix.runtime.memory import readable
from fornix.runtime.native import WORTH_SHARING, NativeStep
from fornix.runtime.programs import WaryPrograms
from fornix.runtime.providers import ControlNode, NotAsCompiled, Step
from fornix.runtime.shortcuts.generic import LONG as LONG_BYTES
from fornix.runtime.shortcuts.generic import LONGEST, ArrayType
from fornix.runtime.shortcuts.wired import WiredStep

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")
_READS = {1: words.READ_BYTE, 4: words.READ_INT, LONG_BYTES: words.READ_LONG}
"""What reads a number of so many bytes."""
MAX_FORKS = 8
"""How often what follows branches of several ranks is written twice."""
Body: TypeAlias = tuple[Sequence[Step], Places, list[Value]]
"""The steps of a body, where its inputs lie, and its outputs."""


class Flow(LateCall):
    """Arrays to the outputs of a program, in one call."""

    is_guessed = False
    """Whether carried extents are taken for equal of which that is not known, or others in bodies
    that data tell."""

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[tuple[Value, ArrayType | Fed]],
        outputs: Sequence[Value],
        budget: Budget,
    ) -> None:
        """Raises NotAsCompiled where a step is no kernel and no control flow."""
        super().__init__()
        types = [type_ for _, type_ in inputs if not isinstance(type_, Fed)]
        if len({*outputs}) < len(outputs):
            raise NotAsCompiled("a call gives each result once")
        self.budget = budget
        self._fed: list[tuple[Fed, Listed]] = []
        """Lists that are fed, and where their tables lie."""
        rows = [self._row(type_) for _, type_ in inputs]
        self.formulas.is_closed = True
        pairs = zip(inputs, rows, strict=True)
        self.check(types, [row for (_, type_), row in pairs if not isinstance(type_, Fed)])
        self.reserve(budget.block)
        self.reserve_late(budget.late)
        self.files: list[MappedFile] = []
        self.locks: list[AbstractContextManager[bool]] = []
        """Those of generators, which nobody else may draw from meanwhile."""
        self._unset = ctypes.c_int64()
        self.flag = self.formulas.slot(ctypes.addressof(self._unset))
        """The slot of the address of what is not 0 once somebody wants the call to end."""
        self.zero, self.one = self.formulas.number(0), self.formulas.number(1)
        self._scratch, self._most = self.formulas.slot(), self.zero
        self.results = {value: number for number, value in enumerate(outputs)}
        self._made: set[Value] = set()
        self._inner = {value for step in steps for value in step.reads}
        self.expected: dict[Value, ArrayType] = {}
        """What steps that read values take them for."""
        self.trimmed: list[tuple[int, Array]] = []
        """Results with room for more rows than there are, and how many there are."""
        self.opened: list[list[int]] = []
        """Such results of the loop that is being written."""
        self.short_of: list[tuple[int, int]] = []
        """Slots of how many rows there are, and for how many there is memory."""
        self.depth = self.loops = self.forks = 0
        """Levels of bodies and of loops that are being written; `forks`: how often what follows a
        node is written for each of two kinds of its results."""
        self._support: Support | None = None
        """That of some step, which may be code that was kept with it."""
        self._finish(steps, self._given(inputs, rows))
        self._assemble()
        self._native = self.function(rows, len(outputs), self._common().generic)

    def __call__(self, arrays: list[Any], flag: ctypes.c_int64 | None = None) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way, or ``flag`` is set."""
        for file in self.files:
            file.check()
        self.slots[self.flag] = ctypes.addressof(self._unset if flag is None else flag)
        results = self._drawn(arrays) if self.locks else self._native(arrays)
        if results is not None:
            for number, length in self.trimmed:
                if len(results[number]) > length[0]:
                    results[number] = results[number][: length[0]].copy()
        return results

    def _common(self) -> Support:
        """The code that all calls share, without LLVM where a step brings it."""
        if self._support is None:
            from fornix.compile.program import support  # noqa: PLC0415 - imports llvmlite

            self._support = support()
        return self._support

    def _drawn(self, arrays: list[Any]) -> list[Any] | None:
        """The outputs, while nobody else draws; all calls lock generators in one order."""
        if len(self.locks) == 1:
            with self.locks[0]:
                return self._native(arrays)
        with ExitStack() as held:
            for lock in sorted(self.locks, key=id):
                held.enter_context(lock)
            return self._native(arrays)

    def _row(self, type_: ArrayType | Fed) -> list[int]:
        """The row of an input."""
        if not isinstance(type_, Fed):
            return self.given(type_)
        row, place = fed_list(self, type_, self.budget.entries)
        self._fed.append((type_, place))
        return row

    def _given(
        self, inputs: Sequence[tuple[Value, ArrayType | Fed]], rows: Sequence[Sequence[int]]
    ) -> Places:
        """Where inputs lie; lists are looked at first."""
        for fed, listed in self._fed:
            check_fed(self, fed, listed)
        tables = (listed for _, listed in self._fed)
        return {
            value: next(tables) if isinstance(type_, Fed) else Place(row[-1], type_, stays=True)
            for (value, type_), row in zip(inputs, rows, strict=True)
        }

    @property
    def lacks_entries(self) -> int:
        """How many elements a list had that the last call had no room for; 0 if it had."""
        most = max((int(self.slots[place.count]) for _, place in self._fed), default=0)
        return most if most > self.budget.entries else 0

    @property
    def lacks_rows(self) -> bool:
        """Whether results may have had more rows than there was memory for, in the last call."""
        return any(self.slots[count] >= self.slots[most] for count, most in self.short_of)

    def _assemble(self) -> None:
        """Put what runs behind what is computed ahead, and tell jumps where it is."""
        formulas = self.formulas
        formulas.code.append((words.ADD, self._scratch, self.close(self._most), self.zero))
        for instruction in self.formulas.running:
            if isinstance(instruction, Label):
                formulas.values[instruction.slot] = len(formulas.code)
            else:
                formulas.code.append(instruction)

    def do(self, what: int, x: int, a: int, b: int) -> None:
        """Let an instruction run."""
        self.formulas.running.append((what, x, a, b))

    def slot_of(self, what: int, a: int, b: int) -> int:
        """The slot that gets what an instruction makes of two others each time it runs."""
        return self.formulas.slot_of(what, a, b)

    def set(self, slot: int, other: int) -> None:
        self.do(words.ADD, slot, other, self.zero)

    def copy(self, target: Place, source: Place) -> None:
        """Let what lies at ``source`` lie at ``target``, too."""
        self.agree(source.type, target.type)
        if target.address != source.address and source.type is not None:
            self.do(words.COPY, target.address, source.address, self.nbytes(source.type))

    def label(self) -> Label:
        return Label(self.formulas.slot())

    def jump(self, label: Label, unless: int | None = None) -> None:
        """Go on at ``label``, unless a slot holds something else than 0."""
        slot = self.zero if unless is None else unless
        self.do(words.JUMP, slot, slot, label.slot)

    def agree(self, one: ArrayType | None, other: ArrayType | None) -> None:
        """End the call unless arrays of two types are alike; raises where they cannot be."""
        if one is None or other is None:
            return
        if one[1] != other[1] or len(one[0]) != len(other[0]):
            raise NotAsCompiled(f"a value is {one}, but was to be {other}")
        for a, b in zip(one[0], other[0], strict=True):
            if a != b:
                if known(a - b) is not None:
                    raise NotAsCompiled(f"an extent is {a}, but was to be {b}")
                slots = self.formulas.of(a), self.formulas.of(b)
                if slots[0] != slots[1]:
                    self.formulas.check(words.EQUAL, *slots)

    def is_another(self, before: DimLike, after: DimLike) -> bool:
        """Whether an extent is to be taken for another one in the next iteration."""
        found = before != after and (self.budget.is_wary or changes(before, after))
        self.is_guessed |= not found and before != after
        return found

    def room_for(self, type_: ArrayType | None) -> Place:
        """Memory for a value."""
        if type_ is None or type_[1].hasobject:
            raise NotAsCompiled("nobody says what a value is, or it holds objects")
        stays = not self.formulas.is_late(type_)
        return Place(self.room(self.nbytes(type_)), type_, stays)

    def late_room_for(self, type_: ArrayType) -> Place:
        """The same, of late memory."""
        return Place(self.late_room(self.nbytes(type_)), type_)

    def stored(self, array: Array) -> Place:
        """Where stored data lie."""
        array = readable(array)
        if array.dtype.hasobject:
            raise NotAsCompiled("texts are no numbers")
        self.kept.append(array)
        return Place(self.formulas.number(array.ctypes.data), (array.shape, array.dtype), True)

    def place_of(self, value: Value | None, places: Mapping[Value, Place]) -> Place:
        """Where ``value`` lies."""
        if value is None:
            raise NotAsCompiled("an input is left out")
        found = places.get(value)
        if found is None and value.constant is not None:
            return self.stored(value.constant.numpy())
        if found is None:
            raise NotAsCompiled(f"nothing computes '{value.name}'")
        return found

    def _one_of(self, place: Place, type_: ArrayType) -> Place:
        """``place`` of a single element; raises if there may be more."""
        if place.type is None or place.type[1] != type_[1]:
            raise NotAsCompiled(f"a value is {place.type}, but was to be {type_}")
        if any(extent != 1 for extent in place.type[0]):
            raise NotAsCompiled("a condition or a limit has several elements")
        return place

    def number_at(self, place: Place, type_: ArrayType) -> int:
        """The slot that gets the number in memory: a limit, a condition or a position."""
        address = self._one_of(place, type_).address
        return self.slot_of(_READS[type_[1].itemsize], address, address)

    def make(
        self, value: Value, shape: Sequence[int], type_: ArrayType, *, is_counted: bool = False
    ) -> Place:
        """Make a result whose extents are in slots, of texts only if who writes it counts them."""
        if type_[1].hasobject and not is_counted:
            raise NotAsCompiled("texts would be copied uncounted")
        instructions, address = self.making(shape, type_[1], self.results[value])
        self.formulas.running += instructions
        self._made.add(value)
        return Place(address, type_)

    def _give(self, value: Value, places: Mapping[Value, Place]) -> None:
        """Let ``value`` be a result."""
        if value not in self._made:
            place = self.place_of(value, places)
            if isinstance(place, Listed):
                self._give_list(value, place)
                return
            type_ = place.type or LONG
            extents = [self.formulas.of(extent) for extent in type_[0]]
            self.copy(self.make(value, extents, type_), place)

    def _give_list(self, value: Value, listed: Listed) -> None:
        """Let a sequence be a result."""
        if listed.is_optional or listed.dtype.hasobject:
            raise NotAsCompiled("a result may be missing, or texts would be copied uncounted")
        give_list(self, self.results[value], listed)
        self._made.add(value)

    def is_free(self, values: Sequence[Value]) -> bool:
        """Whether ``values`` are results that are made here, and nothing else."""
        return not self.depth and {*values} <= {*self.results} - self._inner

    def give(self, places: Mapping[Value, Place]) -> None:
        """Let values be results, as if they were none so far."""
        self._made.difference_update(places)
        for value in places:
            self._give(value, places)

    def _outputs(
        self,
        steps: Sequence[Step],
        places: Places,
        outputs: Sequence[Value],
        wanted: Mapping[Value, Place],
    ) -> list[Place]:
        """Let ``steps`` run; where the ``outputs`` of a body lie: at ``wanted`` places, or others.

        Behind branches whose results have several ranks, that is written in both of them.
        """
        self._expect(steps)
        for number, step in enumerate(steps):
            try:
                self._step(step, places, wanted)
            except Forked as fork:
                rest = steps[number + 1 :]
                follow = partial(self._outputs, rest, outputs=outputs, wanted=wanted)
                return joined(self, self._fork(fork, places, follow), fork)
        return [self.place_of(value, places) for value in outputs]

    def _expect(self, steps: Sequence[Step]) -> None:
        """Note what ``steps`` take values for; raises NotAsCompiled if one needs its kernel."""
        for step in steps:
            if isinstance(step, NativeStep):
                self.expected.update((value, step.types[value]) for value in step.reads)
            elif not (_is_controlled(step) or is_written(step.single) or self._is_linked(step)):
                raise NotAsCompiled("some of its nodes run their NumPy kernels")

    def _step(self, step: Step, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let a step run."""
        if isinstance(step, NativeStep):
            self._support = self._support or step.support
            self._kernels(step, places, wanted)
            return
        if isinstance(step.way, LinkedWay):
            self._link(step, step.way, places)
            return
        control, single = step.control, step.single
        if control is not None and _is_controlled(step):
            _WAYS[control.node.op_type](self, control, places, wanted)
        elif single is not None and (way := list_way(single)) is not None:
            way(self, single, places, wanted)
        elif single is not None and is_draw(single):
            draw(self, single, places, wanted)

    def _is_linked(self, step: Step) -> bool:
        """Whether ``step`` speaks of texts in code that may run here: with the GIL held."""
        return isinstance(step.way, LinkedWay) and not (self.depth or self.loops)

    def _link(self, step: Step, way: LinkedWay, places: Places) -> None:
        """Let code run that makes an array of as many elements as it reads, texts among them."""
        (read,), (written,) = step.reads, step.writes
        place, formulas = self.place_of(read, places), self.formulas
        shape, dtype = place.type or LONG
        link = way.link(((1,) * len(shape), dtype))
        if place.type is None or link is None or link.result is None:
            raise NotAsCompiled("its way stands for itself")
        made = shape, link.result[1]
        if link.result[0] != (1,) * len(shape) or (made[1].hasobject and written in self._inner):
            raise NotAsCompiled("a row of texts is no single element, or texts are read again")
        if written in self.results:
            target = self.make(written, [*map(formulas.of, shape)], made, is_counted=True)
        else:
            target = self.room_for(made)
        table, owner = link.table, np.zeros(DATA // LONG_BYTES + 1, np.int64)
        owner[-1] = table.ctypes.data
        record = np.array([link.function, owner.ctypes.data, 0], np.int64)
        self.kept += [link, owner, record]
        count = formulas.of(reduce(mul, shape, 1))
        told = (count, link.rows), (place.address, link.source), (target.address, link.target)
        for slot, word in told:
            address = formulas.number(table.ctypes.data + LONG_BYTES * word)
            self.do(words.PUT, slot, slot, address)
        self.do(words.RUN, formulas.slot(), formulas.number(record.ctypes.data), self.zero)
        places[written] = target

    def _finish(self, steps: Sequence[Step], places: Places) -> None:
        """Let the last ``steps`` of the program run, and give the results.

        Behind branches whose results have several ranks, that is written in both of them.
        """
        self._expect(steps)
        for number, step in enumerate(steps):
            try:
                self._step(step, places, {})
            except Forked as fork:
                follow = partial(self._finish_anew, steps[number + 1 :], made={*self._made})
                self._fork(fork, places, follow)
                self.join(fork)
                return
        for value in self.results:
            self._give(value, places)

    def _finish_anew(self, steps: Sequence[Step], places: Places, made: Collection[Value]) -> None:
        """The same, where only ``made`` of the results are made so far."""
        self._made = {*made}
        self._finish(steps, places)

    def _fork(self, fork: Forked, places: Places, follow: Callable[[Places], T]) -> list[T | None]:
        """Let the rest of a program or a body ``follow`` in each of two branches.

        A branch after which there can be none ends the call; its result is None.
        """
        self.forks += 1
        if self.forks > MAX_FORKS:
            raise NotAsCompiled("values may have too many ranks")
        levels = self.depth, self.loops
        reasons: list[NotAsCompiled] = []
        found: list[T | None] = []
        for side, code in zip(fork.sides, fork.codes, strict=True):
            self.formulas.running = code
            try:
                with self.formulas.scope():
                    own = dict(zip(fork.outputs, side, strict=True))
                    found.append(follow({**places, **own}))
            except NotAsCompiled as reason:
                reasons.append(reason)
                found.append(None)
                self.depth, self.loops = levels
                code[:] = [(words.REACH, self.zero, self.zero, self.one)]
        if len(reasons) == len(fork.codes):
            raise reasons[0]
        return found

    def join(self, fork: Forked) -> None:
        """Put the code of two branches where one of them is to run."""
        end, (first, second) = self.label(), fork.codes
        self.formulas.running = first
        self.jump(end)
        self.formulas.running = fork.before
        self.formulas.running += [*first, fork.other, *second, end]

    def _kernels(self, step: NativeStep, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let the kernels of ``step`` run."""
        if not step.tells_its_extents:
            raise NotAsCompiled("only a run tells whether its code is made for these extents")
        formulas = self.formulas
        elements = self._learn(step, places)
        is_empty = None if elements is None else self.is_zero(elements)
        wired = WiredStep(step, formulas, self.room, is_empty)
        self.kept.append(wired)
        if step.pool.threads > 1 or not self.loops:
            self.check_work(wired.work, LONGEST if step.pool.threads == 1 else WORTH_SHARING)
        for value in step.reads:
            place = self.place_of(value, places)
            self.agree(place.type, step.types[value])
            self._wire(wired, value, place)
        for value in step.writes:
            type_ = step.types[value]
            place = self.target(value, type_, wanted)
            self.agree(place.type, type_)
            places[value] = replace(place, type=formulas.named(type_))
            self._wire(wired, value, place)
        scratch, end = self._scratch_for(wired), self.label()
        if elements is not None:
            self.do(words.JUMP, elements, elements, end.slot)
        formulas.running += [*wired.running(scratch), end]

    def _learn(self, step: NativeStep, places: Places) -> int | None:
        """Read what ``step`` learns as it begins; how many elements it writes, if it does so."""
        if step.learned is None:
            return None
        formulas = self.formulas
        for name, source in step.learned.sources.items():
            place = self.place_of(source.value, places)
            if source.is_element:
                self.agree(place.type, (source.shape, source.dtype))
                size = formulas.number(source.dtype.itemsize * source.place)
                address = self.slot_of(words.ADD, place.address, size)
                is_long = source.dtype.itemsize == LONG_BYTES
                read = words.READ_LONG if is_long else words.READ_INT
                formulas.learn(name, self.slot_of(read, address, address))
            elif place.type is not None:
                formulas.learn(name, formulas.of(place.type[0][source.place]))
            formulas.check(words.REACH, formulas.symbol(name), self.zero)
        return self.elements_of(step)

    def _scratch_for(self, wired: WiredStep) -> int:
        """The slot of the address of memory that kernels need beside their values."""
        scratch = wired.scratch
        if scratch in self.formulas.late:
            return self.room(scratch)
        self._most = self.formulas.apply(words.GREATEST, self._most, scratch)
        return self._scratch

    def target(self, value: Value, type_: ArrayType, wanted: Mapping[Value, Place]) -> Place:
        """Where kernels write ``value``."""
        if value in wanted and not self.formulas.is_late(type_):
            return wanted[value]
        if not self.depth and value in self.results:
            return self.make(value, [self.formulas.of(extent) for extent in type_[0]], type_)
        return self.room_for(type_)

    def _wire(self, wired: WiredStep, value: Value, place: Place) -> None:
        if place.stays:
            wired.place(value, place.address)
        else:
            self.formulas.running += wired.placing(value, place.address)

    def compiled(self, control: ControlNode, graph: Graph) -> CompiledBody:
        """A body that is compiled; raises NotAsCompiled if it is not."""
        body = control.plan.bodies[graph]
        if not isinstance(body, CompiledBody):
            raise NotAsCompiled("a body is not compiled")
        self.is_counted |= body.options.memory_limit > 0
        return body

    def read_by(
        self, control: ControlNode, graph: Graph, given: Sequence[Place], places: Places
    ) -> list[tuple[Place, ReadType]]:
        """Where a body finds its inputs and what it captures, and of which types these are."""
        captured = [control.outside(value) for value in self.compiled(control, graph).captured]
        found = [*given, *(self.place_of(value, places) for value in captured)]
        types = [_read_type(place) for place in found]
        names = {d.name for shape, _ in types for d in shape if isinstance(d, Dim) and d.name}
        return [
            (place, (tuple(self._as_told(d, names) for d in shape), kind))
            for place, (shape, kind) in zip(found, types, strict=True)
        ]

    def _as_told(self, extent: DimLike, given: Collection[str]) -> DimLike:
        """An extent; by a name of its own where those that are ``given`` do not tell it."""
        if not isinstance(extent, Dim) or extent.name or extent.symbols.issubset(given):
            return extent
        return self.formulas.extent(self.formulas.of(extent))

    def body(
        self, control: ControlNode, graph: Graph, given: Sequence[Place], places: Places
    ) -> Body:
        """A body for inputs at ``given`` places."""
        body, read = self.compiled(control, graph), self.read_by(control, graph, given, places)
        types = [type_ for _, type_ in read]
        compiled = body.typed(types)
        if any(map(_is_guessed, compiled.programs.general.steps)):
            if self.budget.is_wary:
                compiled = body.typed(types, WaryPrograms)
            self.is_guessed = True
        program = compiled.programs.general
        self.kept.append(compiled)
        self.files += program.files
        pairs = zip(compiled.names, read, strict=True)
        inner = {program.inputs[k]: place for k, (place, _) in pairs if k in program.inputs}
        return program.steps, inner, [program.outputs[name] for name in compiled.outputs]

    def run_body(self, body: Body, wanted: Sequence[Place | None]) -> list[Place]:
        """Let a body run; where its outputs lie, for each of which there may be a wanted place."""
        steps, inner, outputs = body
        targets: Places = {}
        for value, place in zip(outputs, wanted, strict=True):
            if place is not None:
                targets.setdefault(value, place)
        with self.formulas.scope():
            self.depth += 1
            found = self._outputs(steps, inner, outputs, targets)
            self.depth -= 1
            return found


def _is_guessed(step: Step) -> bool:
    """Whether extents are taken for equal in ``step`` that only data tell."""
    return isinstance(step, NativeStep) and step.learned is not None and bool(step.conditions[0])


def _is_controlled(step: Step) -> bool:
    """Whether ``step`` is a node with bodies that become instructions."""
    return step.control is not None and step.control.node.op_type in _WAYS


def _read_type(place: Place) -> ReadType:
    """What a body takes the value at ``place`` for."""
    if isinstance(place, Listed):
        return (), ListKind(place.rank)
    if place.type is None:
        raise NotAsCompiled("a body reads what only a run tells the shape of")
    return place.type


Way: TypeAlias = Callable[[Flow, ControlNode, Places, Mapping[Value, Place]], None]

_WAYS: dict[str, Way] = {"If": branch, "Loop": loop, "Scan": scan}
"""How each operator with bodies becomes instructions."""
