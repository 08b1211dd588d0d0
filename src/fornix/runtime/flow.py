"""A program with control flow as one native call: If, Loop and Scan are jumps between its kernels.

What extents decide is computed once, ahead of everything: no shape changes within a call. What runs
comes behind it: each body once, its values in the same places in every iteration. Carried values
change between two buffers, scanned ones are written to their row. Decides which programs get such a
call: those of compiled parts and control flow alone. What is not as it should be ends the call,
and whoever made it goes the long way from the beginning.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from fornix.compile import machine as words
from fornix.compile.support import Support
from fornix.dtype import BOOL, INT64
from fornix.format.mapped import MappedFile
from fornix.ir.dim import known
from fornix.ir.graph import Graph, Value
from fornix.ops.control import Scanning
from fornix.runtime.bodies import CompiledBody
from fornix.runtime.generic import LONGEST, ArrayType, CheckedCall
from fornix.runtime.memory import readable
from fornix.runtime.native import WORTH_SHARING, NativeStep
from fornix.runtime.places import (
    Carried,
    Code,
    Iteration,
    Label,
    Place,
    Places,
    Rows,
    declared_extents,
    never_ends,
)
from fornix.runtime.providers import ControlNode, NotAsCompiled, Step
from fornix.runtime.wired import WiredStep

Array = np.ndarray[Any, np.dtype[Any]]

UNENDING = 2**63 - 1
"""Iterations of a loop that nothing limits."""
LONG: ArrayType = (), INT64.numpy
TRUTH: ArrayType = (), BOOL.numpy
"""What the number of an iteration and a condition are."""


class Flow(CheckedCall):
    """Arrays to the outputs of a program, in one call."""

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[tuple[Value, ArrayType]],
        outputs: Sequence[Value],
        support: Support,
        memory: int,
        budget: int,
    ) -> None:
        """``memory`` is in bytes, and ``budget`` for each result of a loop that may end early.

        Raises NotAsCompiled where a step is no kernel and no control flow, or a shape may change.
        """
        super().__init__()
        types = [type_ for _, type_ in inputs]
        if any(dtype.hasobject for _, dtype in types) or len({*outputs}) < len(outputs):
            raise NotAsCompiled("a call takes numbers, and gives each result once")
        rows = [self.given(type_) for type_ in types]
        named = frozenset(self.formulas.symbols)
        self.check(types, rows)
        self.reserve(memory)
        self.budget = budget
        self.files: list[MappedFile] = []
        self._unset = ctypes.c_int64()
        self._flag = self.formulas.slot(ctypes.addressof(self._unset))
        """The slot of the address of what is not 0 once somebody wants the call to end."""
        self._zero, self._one = self.formulas.number(0), self.formulas.number(1)
        self._scratch, self._most = self.formulas.slot(), self._zero
        self._flow: Code = []
        self._results = {value: number for number, value in enumerate(outputs)}
        self._made: set[Value] = set()
        self._inner = {value for step in steps for value in step.reads}
        self._expected: dict[Value, ArrayType] = {}
        """What steps that read values take them for."""
        self._trimmed: list[tuple[int, Array]] = []
        """Results with room for more rows than there are, and how many there are."""
        self._opened: list[list[int]] = []
        """Such results of the loop that is being written."""
        self._short_of: list[tuple[int, int]] = []
        """Slots of how many rows there are, and for how many there is memory."""
        self._depth = self._loops = 0
        places = {
            value: Place(row[-1], type_, stays=True)
            for (value, type_), row in zip(inputs, rows, strict=True)
        }
        self._steps(steps, places, {})
        for value in outputs:
            self._give(value, places)
        self._assemble()
        if set(self.formulas.symbols) > named:
            raise NotAsCompiled("its inputs do not say what all symbols are")
        self._native = self.function(rows, len(outputs), support.generic)

    def __call__(self, arrays: list[Any], flag: ctypes.c_int64 | None = None) -> list[Any] | None:
        """The outputs; None if they have to be computed the long way, or ``flag`` is set."""
        for file in self.files:
            file.check()
        self.slots[self._flag] = ctypes.addressof(self._unset if flag is None else flag)
        results = self._native(arrays)
        if results is not None:
            for number, length in self._trimmed:
                if len(results[number]) > length[0]:
                    results[number] = results[number][: length[0]].copy()
        return results

    @property
    def lacks_rows(self) -> bool:
        """Whether results may have had more rows than there was memory for, in the last call."""
        return any(self.slots[count] >= self.slots[most] for count, most in self._short_of)

    def _assemble(self) -> None:
        """Put what runs behind what is computed ahead, and tell jumps where it is."""
        formulas = self.formulas
        formulas.code.append((words.ADD, self._scratch, self.close(self._most), self._zero))
        for instruction in self._flow:
            if isinstance(instruction, Label):
                formulas.values[instruction.slot] = len(formulas.code)
            else:
                formulas.code.append(instruction)

    def _do(self, what: int, x: int, a: int, b: int) -> None:
        """Let an instruction run."""
        self._flow.append((what, x, a, b))

    def _slot(self, what: int, a: int, b: int) -> int:
        """The slot that gets what an instruction makes of two others each time it runs."""
        slot = self.formulas.slot()
        self._do(what, slot, a, b)
        return slot

    def _set(self, slot: int, other: int) -> None:
        self._do(words.ADD, slot, other, self._zero)

    def _copy(self, target: Place, source: Place) -> None:
        """Let what lies at ``source`` lie at ``target``, too."""
        self._agree(source.type, target.type)
        if target.address != source.address and source.type is not None:
            self._do(words.COPY, target.address, source.address, self.nbytes(source.type))

    def _label(self) -> Label:
        return Label(self.formulas.slot())

    def _jump(self, label: Label, unless: int | None = None) -> None:
        """Go on at ``label``, unless a slot holds something else than 0."""
        slot = self._zero if unless is None else unless
        self._do(words.JUMP, slot, slot, label.slot)

    def _agree(self, one: ArrayType | None, other: ArrayType | None) -> None:
        """End the call unless arrays of two types are alike; raises where they cannot be."""
        if one is None or other is None:
            return
        if one[1] != other[1] or len(one[0]) != len(other[0]):
            raise NotAsCompiled(f"a value is {one}, but was to be {other}")
        for a, b in zip(one[0], other[0], strict=True):
            if a != b:
                if known(a - b) is not None:
                    raise NotAsCompiled(f"an extent is {a}, but was to be {b}")
                self.formulas.check(words.EQUAL, self.formulas.of(a), self.formulas.of(b))

    def _room_for(self, type_: ArrayType | None) -> Place:
        """Memory for a value."""
        if type_ is None:
            raise NotAsCompiled("nobody says what a value is")
        return Place(self.room(self.nbytes(type_)), type_, stays=True)

    def _stored(self, array: Array) -> Place:
        """Where stored data lie."""
        array = readable(array)
        if array.dtype.hasobject:
            raise NotAsCompiled("texts are no numbers")
        self.kept.append(array)
        return Place(self.formulas.number(array.ctypes.data), (array.shape, array.dtype), True)

    def _place(self, value: Value | None, places: Mapping[Value, Place]) -> Place:
        """Where ``value`` lies."""
        if value is None:
            raise NotAsCompiled("an input is left out")
        found = places.get(value)
        if found is None and value.constant is not None:
            return self._stored(value.constant.numpy())
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

    def _read(self, place: Place, type_: ArrayType) -> int:
        """The slot that gets the number in memory: a limit or a condition."""
        what = words.READ_LONG if type_ is LONG else words.READ_BYTE
        address = self._one_of(place, type_).address
        return self._slot(what, address, address)

    def _make(self, value: Value, shape: Sequence[int], type_: ArrayType) -> Place:
        """Make a result whose extents are in slots."""
        instructions, address = self.making(shape, type_[1], self._results[value])
        self._flow += instructions
        self._made.add(value)
        return Place(address, type_)

    def _give(self, value: Value, places: Mapping[Value, Place]) -> None:
        """Let ``value`` be a result."""
        if value not in self._made:
            place = self._place(value, places)
            type_ = place.type or LONG
            extents = [self.formulas.of(extent) for extent in type_[0]]
            self._copy(self._make(value, extents, type_), place)

    def _steps(self, steps: Sequence[Step], places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let ``steps`` run, and note where their results lie: at ``wanted`` places, or others."""
        for step in steps:
            if isinstance(step, NativeStep):
                self._expected.update((value, step.types[value]) for value in step.reads)
        for step in steps:
            control = step.control
            if isinstance(step, NativeStep):
                self._kernels(step, places, wanted)
            elif control is not None and control.node.op_type in _WAYS:
                _WAYS[control.node.op_type](self, control, places, wanted)
            else:
                raise NotAsCompiled("some of its nodes run their NumPy kernels")

    def _kernels(self, step: NativeStep, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let the kernels of ``step`` run."""
        if step.learned or step.conditions[-1]:
            raise NotAsCompiled("only a run tells whether its code is made for these extents")
        wired = WiredStep(step, self.formulas, self.room)
        self.kept.append(wired)
        if step.pool.threads > 1 or not self._loops:
            self.check_work(wired.work, LONGEST if step.pool.threads == 1 else WORTH_SHARING)
        self._most = self.formulas.apply(words.GREATEST, self._most, wired.scratch)
        for value in step.reads:
            place = self._place(value, places)
            self._agree(place.type, step.types[value])
            self._wire(wired, value, place)
        for value in step.writes:
            type_ = step.types[value]
            place = self._target(value, type_, wanted)
            self._agree(place.type, type_)
            places[value] = replace(place, type=type_)
            self._wire(wired, value, place)
        self._flow += wired.running(self._scratch)

    def _target(self, value: Value, type_: ArrayType, wanted: Mapping[Value, Place]) -> Place:
        """Where kernels write ``value``."""
        if value in wanted:
            return wanted[value]
        if not self._depth and value in self._results:
            return self._make(value, [self.formulas.of(extent) for extent in type_[0]], type_)
        return self._room_for(type_)

    def _wire(self, wired: WiredStep, value: Value, place: Place) -> None:
        if place.stays:
            wired.place(value, place.address)
        else:
            self._flow += wired.placing(value, place.address)

    def _body(
        self,
        control: ControlNode,
        graph: Graph,
        given: Sequence[Place],
        places: Places,
        handed: Mapping[int, int],
    ) -> tuple[Sequence[Step], Places, list[Value]]:
        """The steps of a body, where its inputs lie, and its outputs.

        By number, outputs in ``handed`` are inputs of the next iteration.
        """
        body = control.plan.bodies[graph]
        if not isinstance(body, CompiledBody):
            raise NotAsCompiled("a body is not compiled")
        captured = [self._place(control.outside(value), places) for value in body.captured]
        types = [place.type for place in (*given, *captured) if place.type is not None]
        if len(types) < len(given) + len(captured):
            raise NotAsCompiled("a body reads what only a run tells the shape of")
        compiled = body.typed(types, handed)
        program = compiled.programs.general
        self.kept.append(compiled)
        self.files += program.files
        pairs = zip(compiled.names, (*given, *captured), strict=True)
        inner = {program.inputs[name]: place for name, place in pairs if name in program.inputs}
        return program.steps, inner, [program.outputs[name] for name in compiled.outputs]

    def _run(
        self,
        body: tuple[Sequence[Step], Places, list[Value]],
        wanted: Sequence[Place | None],
    ) -> list[Place]:
        """Let a body run; where its outputs lie, for each of which there may be a wanted place."""
        steps, inner, outputs = body
        targets: Places = {}
        for value, place in zip(outputs, wanted, strict=True):
            if place is not None:
                targets.setdefault(value, place)
        self._depth += 1
        self._steps(steps, inner, targets)
        self._depth -= 1
        return [self._place(value, inner) for value in outputs]

    def _if(self, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Jump over one of two bodies; each shapes anew what is a result and nothing else."""
        (condition,), outputs = control.inputs, control.outputs
        is_free = not self._depth and {*outputs} <= {*self._results} - self._inner
        targets = [wanted.get(value) for value in outputs]
        other, end = self._label(), self._label()
        self._jump(other, unless=self._read(self._place(condition, places), TRUTH))
        for name, last in (("then_branch", other), ("else_branch", end)):
            graph: Graph = control.node.attributes[name].value
            found = self._branch(control, graph, places, targets)
            if is_free:
                self._made.difference_update(outputs)
                for value, place in zip(outputs, found, strict=True):
                    self._give(value, {value: place})
            else:
                targets = [*found]
            if last is other:
                self._jump(end)
            self._flow.append(last)
        places.update(zip(outputs, found, strict=True))

    def _branch(
        self, control: ControlNode, graph: Graph, places: Places, wanted: Sequence[Place | None]
    ) -> list[Place]:
        """Let a branch run; its outputs lie where they are wanted, or in memory of its own."""
        body = steps, _, outputs = self._body(control, graph, [], places, {})
        if len(outputs) != len(wanted):
            raise NotAsCompiled("a branch has another number of outputs")
        own = {value for step in steps for value in step.writes}
        settled: list[Place] = []
        for value, place, target in zip(outputs, self._run(body, wanted), wanted, strict=True):
            if target is None:
                is_own = value in own and place.stays and place not in settled
                target = place if is_own else self._room_for(place.type)
            self._copy(target, place)
            settled.append(replace(target, type=place.type))
        return settled

    def _carried(self, value: Value | None, places: Places) -> Carried:
        """A value that begins as ``value``, with memory for two of it."""
        initial = self._place(value, places)
        now = Place(self.formulas.slot(), initial.type)
        return Carried(
            initial, now, replace(now, address=self.formulas.slot()), self.formulas.slot()
        )

    def _loop(self, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let a body run until its condition or a limit ends it."""
        trips, condition, *initial = (*control.inputs, None, None)[: max(2, len(control.inputs))]
        limit, count = self.formulas.number(UNENDING), None
        if trips is not None:
            place = self._place(trips, places)
            limit = self._slot(words.GREATEST, self._read(place, LONG), self._zero)
            if trips.constant is not None and never_ends(control.node.attributes["body"].value):
                count = max(int(trips.constant.numpy().reshape(-1)[0]), 0)
        goes_on = self.formulas.slot()
        self._set(goes_on, self._one)
        if condition is not None:
            self._set(goes_on, self._read(self._place(condition, places), TRUTH))
        graph: Graph = control.node.attributes["body"].value
        iteration = Iteration(
            graph=graph,
            leading=[self._room_for(LONG), self._stored(np.array(True))],
            carried=[self._carried(value, places) for value in initial],
            read=[],
            made=[self._rows() for _ in graph.outputs[1 + len(initial) :]],
            number=self.formulas.slot(),
            limit=limit,
            goes_on=goes_on,
            count=count,
        )
        self._iterate(control, iteration, places, wanted)

    def _scan(self, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
        """Let a body run for each row."""
        attributes = {key: a.value for key, a in control.node.attributes.items()}
        graph: Graph = attributes.pop("body")
        inputs, outputs = control.inputs, len(graph.outputs)
        if control.plan.scope.opset("") < Scanning.SINCE:
            raise NotAsCompiled("Scan of opset 8 scans batches")
        scanning = Scanning.of(len(inputs), outputs, **attributes)
        if any((*scanning.input_axes, *scanning.output_axes)) and not control.is_turned:
            raise NotAsCompiled("rows are no rows of memory")
        found = [self._place(value, places) for value in inputs[scanning.states :]]
        lengths = [place.type[0][0] for place in found if place.type and place.type[0]]
        if len(lengths) < len(found):
            raise NotAsCompiled("a scanned value has no rows")
        for length in lengths[1:]:
            self._agree(((length,), INT64.numpy), ((lengths[0],), INT64.numpy))
        pairs = zip(found, scanning.input_backward, strict=True)
        iteration = Iteration(
            graph=graph,
            leading=[],
            carried=[self._carried(value, places) for value in inputs[: scanning.states]],
            read=[self._rows(place, is_backward=is_backward) for place, is_backward in pairs],
            made=[self._rows(is_backward=b) for b in scanning.output_backward],
            number=self.formulas.slot(),
            limit=self.formulas.of(lengths[0]),
            goes_on=None,
            count=lengths[0],
        )
        self._iterate(control, iteration, places, wanted)

    def _rows(self, whole: Place | None = None, *, is_backward: bool = False) -> Rows:
        """The rows of an array that is read, or of one that is made."""
        type_ = (whole.type[0][1:], whole.type[1]) if whole and whole.type else None
        return Rows(Place(self.formulas.slot(), type_), is_backward, whole)

    def _iterate(
        self, control: ControlNode, it: Iteration, places: Places, wanted: Mapping[Value, Place]
    ) -> None:
        """Let a body run again and again."""
        skipped = 0 if it.goes_on is None else 1
        carried = [c.now for c in it.carried]
        given = [*it.leading, *carried, *(rows.row for rows in it.read)]
        handed = {skipped + k: len(it.leading) + k for k in range(len(carried))}
        body = _, inner, outputs = self._body(control, it.graph, given, places, handed)
        if len(outputs) != skipped + len(carried) + len(it.made):
            raise NotAsCompiled("the body has another number of outputs")
        pairs = zip(it.carried, outputs[skipped:], strict=False)
        moving = [c for c, value in pairs if inner.get(value) is not c.now]
        targets = [None] * skipped + [c.next if c in moving else None for c in it.carried]
        before, self._flow = self._flow, []
        self._loops += 1
        found = self._run(body, [*targets, *(rows.row for rows in it.made)])
        self._loops -= 1
        for c, place in zip(it.carried, found[skipped:], strict=False):
            self._copy(c.next if c in moving else c.now, place)
        made = [
            replace(rows, row=self._filled(rows.row, place))
            for rows, place in zip(it.made, found[skipped + len(carried) :], strict=True)
        ]
        if it.goes_on is not None:
            self._set(it.goes_on, self._read(found[0], TRUTH))
        code, self._flow = self._flow, before
        names = control.outputs
        whole, most = self._wholes(names[len(carried) :], made, it, wanted)
        for name, place in zip(names, carried, strict=False):
            places[name] = place
        for name, place in zip(names[len(carried) :], whole, strict=True):
            places[name] = place
        made = [replace(rows, whole=place) for rows, place in zip(made, whole, strict=True)]
        self._repeat(replace(it, made=made), moving, code, most)

    def _filled(self, row: Place, source: Place) -> Place:
        """``row`` as it is when what lies at ``source`` is in it."""
        self._copy(row, source)
        return replace(row, type=source.type)

    def _wholes(
        self,
        names: Sequence[Value],
        made: Sequence[Rows],
        it: Iteration,
        wanted: Mapping[Value, Place],
    ) -> tuple[list[Place], int]:
        """Where arrays lie that iterations make, and the slot of how many rows they have."""
        if len(names) != len(made):
            raise NotAsCompiled("not all of its outputs have names")
        if not made:
            return [], it.limit
        types = [rows.row.type or LONG for rows in made]
        taken = [self._expected[name][0][0] for name in names if name in self._expected]
        count = it.count if it.count is not None else next(iter(taken), None)
        if count is None:
            return self._open_ended(names, types, it)
        rows = self.formulas.of(count)
        found: list[Place] = []
        for name, (shape, dtype) in zip(names, types, strict=True):
            type_ = (count, *shape), dtype
            place = wanted.get(name) or self._target(name, type_, {})
            self._agree(place.type, type_)
            found.append(replace(place, type=type_))
        return found, rows

    def _open_ended(
        self, names: Sequence[Value], types: Sequence[ArrayType], it: Iteration
    ) -> tuple[list[Place], int]:
        """Like `_wholes`, where only the last iteration tells how many there are."""
        if self._depth or not {*names} <= {*self._results}:
            raise NotAsCompiled("how many rows a value has is known when it is there")
        formulas, most = self.formulas, it.limit
        for type_ in types:
            size = formulas.apply(words.GREATEST, self.nbytes(type_), self._one)
            room = formulas.apply(words.FLOOR, formulas.number(self.budget), size)
            most = self._slot(words.LEAST, most, room)
        found: list[Place] = []
        for name, (shape, dtype) in zip(names, types, strict=True):
            extents = [most, *map(formulas.of, shape)]
            found.append(replace(self._make(name, extents, ((), dtype)), type=None))
        self._opened.append([self._results[name] for name in names])
        self._short_of.append((it.number, most))
        return found, most

    def _repeat(self, it: Iteration, moving: Sequence[Carried], code: Code, most: int) -> None:
        """Let ``code`` run for each iteration, with carried values and rows where they belong."""
        self._begin(it, moving)
        left = self._slot(words.LEAST, it.limit, most)
        top, end = self._label(), self._label()
        if not self._loops:
            self._do(words.RELEASE, left, left, left)
        self._flow.append(top)
        self._jump(end, unless=left)
        if it.goes_on is not None:
            self._jump(end, unless=it.goes_on)
        is_set = self._slot(words.READ_LONG, self._flag, self._flag)
        self._do(words.EQUAL, is_set, is_set, self._zero)
        for place in it.leading[:1]:
            self._do(words.PUT, it.number, it.number, place.address)
        self._flow += code
        for c in moving:
            self._set(c.now.address, c.next.address)
            self._set(c.next.address, c.spare)
            self._set(c.spare, c.now.address)
        for rows in (*it.read, *it.made):
            row = rows.row.address
            self._do(words.ADD, row, row, self._stride(rows))
        self._do(words.ADD, left, left, self.formulas.number(-1))
        self._do(words.ADD, it.number, it.number, self._one)
        self._jump(top)
        self._flow.append(end)
        if not self._loops:
            self._do(words.RESUME, left, left, left)
        self._check_rows(it, most)

    def _begin(self, it: Iteration, moving: Sequence[Carried]) -> None:
        """Let carried values and rows be where they are in the first iteration."""
        self._set(it.number, self._zero)
        for c in it.carried:
            self._set(c.now.address, c.initial.address)
            if c in moving:
                self._set(c.next.address, self._room_for(c.now.type).address)
                self._set(c.spare, self._room_for(c.now.type).address)
        for rows in (*it.read, *it.made):
            row = rows.row.address
            if rows.whole is not None:
                self._set(row, rows.whole.address)
            if rows.is_backward:
                last = self._slot(words.ADD, it.limit, self.formulas.number(-1))
                above = self._slot(
                    words.MULTIPLY, last, self._stride(replace(rows, is_backward=False))
                )
                self._do(words.ADD, row, row, above)

    def _stride(self, rows: Rows) -> int:
        """The slot of how many bytes the row of the next iteration lies behind that of this one."""
        nbytes = self.nbytes(rows.row.type or LONG)
        sign = self.formulas.number(-1 if rows.is_backward else 1)
        return self.formulas.apply(words.MULTIPLY, nbytes, sign)

    def _check_rows(self, it: Iteration, most: int) -> None:
        """End the call unless there was room for all rows, and arrays have as many as was said.

        Without iterations the shapes of rows are what the body declares, which kernels know.
        """
        if not it.made:
            return
        declared = it.graph.outputs[-len(it.made) :]
        fine = self._label()
        if it.goes_on is not None:
            self._jump(fine, unless=it.goes_on)
        self._do(words.REACH, most, most, it.limit)
        self._flow.append(fine)
        if any(
            not isinstance(extent, int) for value in declared for extent in declared_extents(value)
        ):
            self._do(words.REACH, it.number, it.number, self._one)
        if all(rows.whole and rows.whole.type for rows in it.made):
            self._do(words.EQUAL, it.number, it.number, most)
        else:
            length = np.zeros(1, np.int64)
            self._do(words.PUT, it.number, it.number, self.formulas.number(length.ctypes.data))
            self._trimmed += [(number, length) for number in self._opened.pop()]


Way: TypeAlias = Callable[[Flow, ControlNode, Places, Mapping[Value, Place]], None]

_WAYS: dict[str, Way] = {"If": Flow._if, "Loop": Flow._loop, "Scan": Flow._scan}  # noqa: SLF001
"""How each operator with bodies becomes instructions."""
