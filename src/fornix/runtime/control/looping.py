"""Loop and Scan within a native call: their bodies are written once, and jumped back to.

Carried values change between two buffers, scanned ones are written to their row. Values whose
extents change from one iteration to the next are handed on where the iteration has made them: late
memory is two halves then, which iterations take in turns. Decides which extents those are, how many
rows results have, and when a loop ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fornix.compile import machine as words
from fornix.dtype import INT64
from fornix.ir.dim import DimLike
from fornix.ir.graph import Graph, Value
from fornix.ops.scanning import Scanning, told_shapes
from fornix.runtime.control.bodies import RankChanges
from fornix.runtime.control.late import Halves, LateFormulas, LateMemory, Mark
from fornix.runtime.control.lists import changing_list
from fornix.runtime.control.places import (
    LONG,
    TRUTH,
    Carried,
    Code,
    Iteration,
    Listed,
    Place,
    Places,
    Rows,
    declared_extents,
    never_ends,
)
from fornix.runtime.providers import ControlNode, NotAsCompiled
from fornix.runtime.shortcuts.generic import ArrayType

if TYPE_CHECKING:
    from fornix.runtime.control.flow import Flow

UNENDING = 2**63 - 1
"""Iterations of a loop that nothing limits."""
PARTS = 4
"""Of late memory one is for rows of which only the last iteration tells how many there are."""
MAX_ROUNDS = 32
"""Of finding out which extents change."""


def loop(flow: Flow, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
    """Let a body run until its condition or a limit ends it."""
    trips, condition, *initial = (*control.inputs, None, None)[: max(2, len(control.inputs))]
    graph: Graph = control.node.attributes["body"].value
    limit: int = flow.formulas.number(UNENDING)
    count: DimLike | None = None
    if trips is not None:
        number = flow.number_at(flow.place_of(trips, places), LONG)
        limit = flow.slot_of(words.GREATEST, number, flow.zero)
        if trips.constant is not None and never_ends(graph):
            count = max(int(trips.constant.numpy().reshape(-1)[0]), 0)
    goes_on = flow.formulas.slot()
    flow.set(goes_on, flow.one)
    if condition is not None:
        flow.set(goes_on, flow.number_at(flow.place_of(condition, places), TRUTH))
    made = len(graph.outputs) - 1 - len(initial)
    places_shape, truths = told_shapes(graph)
    iteration = Iteration(
        graph=graph,
        leading=[
            flow.room_for((places_shape, INT64.numpy)),
            flow.stored(np.full(truths, fill_value=True)),
        ],
        carried=[_carried(flow, flow.place_of(value, places)) for value in initial],
        read=[],
        made=[_rows(flow) for _ in range(made)],
        number=flow.formulas.slot(),
        done=flow.zero,
        limit=limit,
        goes_on=goes_on,
        count=count,
    )
    _Looping(flow, control, iteration, places, wanted).write()


def scan(flow: Flow, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
    """Let a body run for each row."""
    attributes = {key: a.value for key, a in control.node.attributes.items()}
    graph: Graph = attributes.pop("body")
    inputs, outputs = control.inputs, len(graph.outputs)
    if control.plan.scope.opset("") < Scanning.SINCE:
        raise NotAsCompiled("Scan of opset 8 scans batches")
    scanning = Scanning.of(len(inputs), outputs, **attributes)
    if any((*scanning.input_axes, *scanning.output_axes)):
        raise NotAsCompiled("rows are no rows of memory")
    found = [flow.place_of(value, places) for value in inputs[scanning.states :]]
    lengths = [place.type[0][0] for place in found if place.type and place.type[0]]
    if len(lengths) < len(found):
        raise NotAsCompiled("a scanned value has no rows")
    for length in lengths[1:]:
        flow.agree(((length,), INT64.numpy), ((lengths[0],), INT64.numpy))
    pairs = zip(found, scanning.input_backward, strict=True)
    states = inputs[: scanning.states]
    iteration = Iteration(
        graph=graph,
        leading=[],
        carried=[_carried(flow, flow.place_of(value, places)) for value in states],
        read=[_rows(flow, place, is_backward=is_backward) for place, is_backward in pairs],
        made=[_rows(flow, is_backward=b) for b in scanning.output_backward],
        number=flow.formulas.slot(),
        done=flow.zero,
        limit=flow.formulas.of(lengths[0]),
        goes_on=None,
        count=lengths[0],
    )
    _Looping(flow, control, iteration, places, wanted).write()


def _carried(flow: Flow, initial: Place) -> Carried:
    """A value that begins at a place, with memory for two of it."""
    if isinstance(initial, Listed):
        listed = changing_list(flow.formulas, initial)
        return Carried(initial, listed, listed, listed.address)
    now, after, spare = (flow.formulas.slot() for _ in range(3))
    return Carried(initial, Place(now, initial.type), Place(after, initial.type), spare)


def _rows(flow: Flow, whole: Place | None = None, *, is_backward: bool = False) -> Rows:
    """The rows of an array that is read, or of one that is made."""
    type_ = (whole.type[0][1:], whole.type[1]) if whole and whole.type else None
    return Rows(Place(flow.formulas.slot(), type_), is_backward, whole)


def _is_copied(c: Carried) -> bool:
    """Whether a carried value lies in the same memory in every iteration."""
    return not c.extents and not isinstance(c.now, Listed)


def _ranked(c: Carried, found: Place) -> Carried:
    """``c``; if it began as a sequence of nothing, iterations tell how many axes elements have."""
    if not isinstance(c.now, Listed) or not isinstance(found, Listed) or c.now.rank is not None:
        return c
    return replace(c, now=replace(c.now, rank=found.rank))


def _list_moves(now: Listed, found: Place) -> dict[int, int]:
    """The slots that tell of a carried sequence, and those that tell of the next one."""
    if not isinstance(found, Listed) or found.dtype != now.dtype:
        raise NotAsCompiled("a value is of another kind in the next iteration")
    return {now.address: found.address, now.count: found.count}


def _emptied(place: Place, empty: set[int], formulas: LateFormulas) -> Place:
    """``place`` with 0 for extents that are in the slots ``empty``."""
    if place.type is None:
        return place
    shape, dtype = place.type
    return replace(place, type=(tuple(0 if formulas.of(d) in empty else d for d in shape), dtype))


@dataclass
class _Looping:
    """A loop on its way to instructions."""

    flow: Flow
    control: ControlNode
    it: Iteration
    places: Places
    wanted: Mapping[Value, Place]
    moving: Sequence[Carried] = ()
    """Carried values that change between two buffers."""
    takes_late: bool = False
    """Whether iterations take late memory."""
    count: int | None = None
    """The slot that gets how many rows there are, if others ask for that."""

    def write(self) -> None:
        """Let the body run again and again."""
        try:
            self._settle()
        except RankChanges:
            self._begin_otherwise()
            self._settle()
        code = self._iteration()
        it, names = self.it, self.control.outputs
        carried = [c.now for c in it.carried]
        whole, most = self._wholes(names[len(carried) :])
        self.places.update(zip(names, carried, strict=False))
        self.places.update(zip(names[len(carried) :], whole, strict=True))
        made = [replace(rows, whole=place) for rows, place in zip(it.made, whole, strict=True)]
        self.it = replace(it, made=made)
        self._repeat(code, most)

    @property
    def _given(self) -> list[Place]:
        """Where the body finds its inputs."""
        it = self.it
        return [*it.leading, *(c.now for c in it.carried), *(rows.row for rows in it.read)]

    def _settle(self) -> None:
        """Name the extents of carried values that change from one iteration to the next.

        Those that begin and go on alike are one number.
        """
        flow, first = self.flow, len(self.it.leading)
        skipped = 0 if self.it.goes_on is None else 1
        before = [c.initial.type or LONG for c in self.it.carried]
        handed = {skipped + k: first + k for k in range(len(before))}
        body = flow.compiled(self.control, self.it.graph)
        kinds: dict[tuple[int, int], tuple[object, ...]] = {}
        """Of extents that change, what they have had in common."""
        for _ in range(MAX_ROUNDS):
            self._name(kinds)
            read = flow.read_by(self.control, self.it.graph, self._given, self.places)
            now = [type_ for _, type_ in read]
            after = body.handed_on(now, handed)
            found: dict[tuple[int, int], tuple[object, ...]] = {}
            for (number, axis), extent in after.items():
                place = number - first, axis
                if place in kinds:
                    found[place] = (*kinds[place], extent)
                elif flow.is_another(now[number][0][axis], extent):
                    found[place] = (before[place[0]][0][axis],)
            if len(found) == len(kinds) and len({*found.values()}) == len({*kinds.values()}):
                return
            kinds = found
        raise NotAsCompiled("nobody can say which extents change")

    def _begin_otherwise(self) -> None:
        """Let the first iteration run by itself, which is to be there: ranks change in it."""
        flow, it = self.flow, self.it
        if it.goes_on is None or it.made:
            raise NotAsCompiled("a value has another rank in the next iteration")
        for slot in (it.limit, it.goes_on):
            flow.do(words.REACH, slot, slot, flow.one)
        flow.do(words.PUT, flow.zero, flow.zero, it.leading[0].address)
        body = flow.body(self.control, it.graph, self._given_first, self.places)
        condition, *found = flow.run_body(body, [None] * (1 + len(it.carried)))
        flow.set(it.goes_on, flow.number_at(condition, TRUTH))
        carried = [_carried(flow, place) for place in found]
        self.it = replace(it, carried=carried, done=flow.one)

    @property
    def _given_first(self) -> list[Place]:
        """Where the body finds its inputs in the first iteration."""
        return [*self.it.leading, *(c.initial for c in self.it.carried)]

    def _name(self, kinds: Mapping[tuple[int, int], tuple[object, ...]]) -> None:
        """Let extents of the same kind be one number that changes."""
        formulas = self.flow.formulas
        slots = {kind: formulas.changing() for kind in dict.fromkeys(kinds.values())}
        carried = []
        for k, c in enumerate(self.it.carried):
            own = {axis: slots[kind] for (number, axis), kind in kinds.items() if number == k}
            shape, dtype = c.initial.type or LONG
            extents = (formulas.extent(own[a]) if a in own else d for a, d in enumerate(shape))
            type_ = (tuple(extents), dtype) if own else c.initial.type
            now, after = replace(c.now, type=type_), replace(c.next, type=type_)
            carried.append(replace(c, now=now, next=after, extents=own))
        self.it = replace(self.it, carried=carried)

    def _iteration(self) -> Code:
        """What runs again and again."""
        flow, formulas = self.flow, self.flow.formulas
        before, fresh, pieces = formulas.running, flow.fresh, flow.pieces
        with formulas.scope():  # there may be none, and what stands ahead is written later
            code = self._version(self._given)
        if empty := self._begun_empty():
            code = self._with_empty(code, empty)
        formulas.running = before
        flow.fresh, self.takes_late = fresh, flow.pieces > pieces
        return code

    def _version(self, given: Sequence[Place], *, is_first: bool = True) -> Code:
        """An iteration on inputs at ``given`` places."""
        flow, it, formulas = self.flow, self.it, self.flow.formulas
        formulas.running, flow.fresh = [], set()
        body = _, inner, outputs = flow.body(self.control, it.graph, given, self.places)
        skipped = 0 if it.goes_on is None else 1
        if len(outputs) != skipped + len(it.carried) + len(it.made):
            raise NotAsCompiled("the body has another number of outputs")
        if is_first:
            pairs = zip(it.carried, outputs[skipped:], strict=False)
            self.moving = [c for c, v in pairs if _is_copied(c) and inner.get(v) is not c.now]
        targets = [c.next if c in self.moving else None for c in it.carried]
        rows = [rows.row for rows in it.made]
        flow.loops += 1
        found = flow.run_body(body, [*[None] * skipped, *targets, *rows])
        flow.loops -= 1
        self._keep(found[:skipped], found[skipped:])
        return formulas.running

    def _begun_empty(self) -> set[int]:
        """The slots of changing extents that are 0 in the first iteration."""
        pairs = [(c.initial.type or LONG, c.extents) for c in self.it.carried]
        return {slot for (shape, _), own in pairs for axis, slot in own.items() if shape[axis] == 0}

    def _with_empty(self, code: Code, empty: set[int]) -> Code:
        """``code``, and what runs in its place as long as extents are 0 that begin so."""
        flow, formulas = self.flow, self.flow.formulas
        other, end = flow.label(), flow.label()
        before = self.it, flow.depth, flow.loops
        try:
            with formulas.scope():
                own = self._version(
                    [_emptied(p, empty, formulas) for p in self._given], is_first=False
                )
        except NotAsCompiled:
            self.it, flow.depth, flow.loops = before
            return code
        first, *others = empty
        formulas.running = []
        flow.jump(other, unless=first)
        formulas.running += code
        flow.jump(end)
        formulas.running.append(other)
        for slot in others:
            flow.do(words.EQUAL, slot, slot, flow.zero)
        return [*formulas.running, *own, end]

    def _keep(self, condition: Sequence[Place], results: Sequence[Place]) -> None:
        """Let what an iteration has made be where the next one, or a row, is to have it."""
        flow, it = self.flow, self.it
        pairs = list(zip(it.carried, results, strict=False))
        for c, place in pairs:
            if _is_copied(c):
                flow.copy(c.next if c in self.moving else c.now, place)
        made = zip(it.made, results[len(it.carried) :], strict=True)
        self.it = replace(it, made=[self._filled(rows, place) for rows, place in made])
        for place in condition:
            flow.set(it.goes_on or 0, flow.number_at(place, TRUTH))
        self._hand_on([(c, place) for c, place in pairs if not _is_copied(c)])
        self.it = replace(self.it, carried=[_ranked(c, place) for c, place in pairs])

    def _filled(self, rows: Rows, source: Place) -> Rows:
        """``rows`` with what lies at ``source`` in the present one."""
        if source.type is not None and self.flow.formulas.is_late(source.type):
            rows = self._measured(rows, source.type)
            self.flow.copy(rows.row, source)  # those of later iterations have to be as large
            return rows
        self.flow.copy(rows.row, source)
        return replace(rows, row=replace(rows.row, type=source.type))

    def _measured(self, rows: Rows, type_: ArrayType) -> Rows:
        """``rows`` in memory that the first iteration takes, which tells how large each is."""
        if rows.is_backward:
            raise NotAsCompiled("only a run tells where the last row begins")
        flow, it, formulas = self.flow, self.it, self.flow.formulas
        shape, dtype = type_
        found, size = [formulas.of(extent) for extent in shape], flow.nbytes(type_)
        slots = rows.extents or [formulas.changing() for _ in shape]
        whole = rows.whole or Place(formulas.changing(), None)
        first, later = flow.label(), flow.label()
        done = flow.slot_of(words.MULTIPLY, it.done, formulas.number(-1))
        flow.jump(first, unless=flow.slot_of(words.ADD, it.number, done))
        flow.jump(later)
        formulas.running.append(first)
        address = flow.staying_room(flow.slot_of(words.MULTIPLY, size, it.limit))
        for slot, source in zip((*slots, rows.row.address), (*found, address), strict=True):
            flow.set(slot, source)
        flow.set(whole.address, address)
        formulas.running.append(later)
        row = replace(rows.row, type=(tuple(map(formulas.extent, slots)), dtype))
        return replace(rows, row=row, whole=whole, extents=slots)

    def _hand_on(self, pairs: Sequence[tuple[Carried, Place]]) -> None:
        """Let carried values of changing extents be what this iteration has made of them."""
        flow, formulas = self.flow, self.flow.formulas
        moves: dict[int, int] = {}
        for c, found in pairs:
            if isinstance(c.now, Listed):
                moves |= _list_moves(c.now, found)
                continue
            shape, dtype = found.type or LONG
            now, _ = c.now.type or LONG
            others = tuple(d if a in c.extents else now[a] for a, d in enumerate(shape))
            flow.agree((shape, dtype), (others, dtype))
            place = found
            if place.address not in flow.fresh:  # the iteration after the next takes its memory
                place = flow.late_room_for((shape, dtype))
                flow.copy(place, found)
            moves[c.now.address] = place.address
            for axis, slot in c.extents.items():
                extent = formulas.of(shape[axis])
                if moves.setdefault(slot, extent) != extent:
                    formulas.check(words.EQUAL, moves[slot], extent)
        copies = [(a, flow.slot_of(words.ADD, b, flow.zero)) for a, b in moves.items()]
        for slot, copied in copies:
            flow.set(slot, copied)

    def _wholes(self, names: Sequence[Value]) -> tuple[list[Place], int]:
        """Where arrays lie that iterations make, and the slot of how many rows they have."""
        flow, it, formulas = self.flow, self.it, self.flow.formulas
        if len(names) != len(it.made):
            raise NotAsCompiled("not all of its outputs have names")
        if not it.made:
            return [], it.limit
        types = [rows.row.type or LONG for rows in it.made]
        count = self._count(names)
        if count is None and self._are_results(names):
            return self._open_ended(names, types)
        if count is None:
            return self._counted(types)
        found: list[Place] = []
        for name, rows, (shape, dtype) in zip(names, it.made, types, strict=True):
            type_ = (count, *shape), dtype
            measured = rows.whole if rows.extents else None
            place = measured or flow.target(name, type_, self.wanted)
            flow.agree(place.type, type_)
            found.append(replace(place, type=type_))
        return found, formulas.of(count)

    def _count(self, names: Sequence[Value]) -> DimLike | None:
        """How many rows there are; None if that is known when they are there."""
        flow, it = self.flow, self.it
        if it.count is not None:
            return it.count
        taken = [flow.expected[name][0][0] for name in names if name in flow.expected]
        told = [d for d in taken if flow.formulas.is_told(d)]
        if told:
            return told[0]
        is_told = it.limit in flow.formulas.late and never_ends(it.graph)
        return flow.formulas.extent(it.limit) if is_told and not self._are_results(names) else None

    def _are_results(self, names: Sequence[Value]) -> bool:
        """Whether rows are results that nobody else reads, and begin where they stay."""
        flow = self.flow
        is_measured = any(rows.extents for rows in self.it.made)
        is_read = any(name in flow.expected for name in names)
        return not (flow.depth or is_read or is_measured) and {*names} <= {*flow.results}

    def _counted(self, types: Sequence[ArrayType]) -> tuple[list[Place], int]:
        """Like `_wholes`, where others read what has as many rows as the last iteration tells."""
        flow, it, formulas = self.flow, self.it, self.flow.formulas
        if any(rows.extents for rows in it.made):
            raise NotAsCompiled("how many rows of unknown size there are is known at the end")
        share = formulas.number(flow.budget.late // (PARTS * len(types)))
        most, sizes = it.limit, [flow.nbytes(type_) for type_ in types]
        for size in sizes:
            room = formulas.apply(
                words.FLOOR, share, formulas.apply(words.GREATEST, size, flow.one)
            )
            most = flow.slot_of(words.LEAST, most, room)
        self.count = formulas.changing()
        flow.filled.append((it.number, most))
        addresses = [flow.late_room(flow.slot_of(words.MULTIPLY, size, most)) for size in sizes]
        count = formulas.extent(self.count)
        pairs = zip(addresses, types, strict=True)
        return [Place(at, ((count, *shape), dtype)) for at, (shape, dtype) in pairs], most

    def _open_ended(
        self, names: Sequence[Value], types: Sequence[ArrayType]
    ) -> tuple[list[Place], int]:
        """Like `_wholes`, where only the last iteration tells how many there are."""
        flow, it, formulas = self.flow, self.it, self.flow.formulas
        if flow.forks:
            raise NotAsCompiled("such rows are noted for calls that always come here")
        most = it.limit
        for type_ in types:
            size = formulas.apply(words.GREATEST, flow.nbytes(type_), flow.one)
            room = formulas.apply(words.FLOOR, formulas.number(flow.budget.rows), size)
            most = flow.slot_of(words.LEAST, most, room)
        found: list[Place] = []
        for name, (shape, dtype) in zip(names, types, strict=True):
            extents = [most, *map(formulas.of, shape)]
            found.append(replace(flow.make(name, extents, ((), dtype)), type=None))
        flow.opened.append([flow.results[name] for name in names])
        flow.short_of.append((it.number, most))
        return found, most

    def _repeat(self, code: Code, most: int) -> None:
        """Let ``code`` run for each iteration, with carried values and rows where they belong."""
        flow, it, running = self.flow, self.it, self.flow.formulas.running
        self._begin()
        memory = self._memory()
        done = flow.formulas.apply(words.MULTIPLY, it.done, flow.formulas.number(-1))
        left = flow.slot_of(words.ADD, flow.slot_of(words.LEAST, it.limit, most), done)
        top, end = flow.label(), flow.label()
        if not flow.loops:
            flow.do(words.RELEASE, left, left, left)
        running.append(top)
        flow.jump(end, unless=left)
        if it.goes_on is not None:
            flow.jump(end, unless=it.goes_on)
        is_set = flow.slot_of(words.READ_LONG, flow.flag, flow.flag)
        flow.do(words.EQUAL, is_set, is_set, flow.zero)
        for place in it.leading[:1]:
            flow.do(words.PUT, it.number, it.number, place.address)
        memory.enter()
        running += code
        memory.turn()
        for c in self.moving:
            flow.set(c.now.address, c.next.address)
            flow.set(c.next.address, c.spare)
            flow.set(c.spare, c.now.address)
        for rows in (*it.read, *it.made):
            row = rows.row.address
            flow.do(words.ADD, row, row, self._stride(rows))
        flow.do(words.ADD, left, left, flow.formulas.number(-1))
        flow.do(words.ADD, it.number, it.number, flow.one)
        flow.jump(top)
        running.append(end)
        memory.leave()
        if not flow.loops:
            flow.do(words.RESUME, left, left, left)
        self._check_rows(most)

    def _memory(self) -> LateMemory:
        """What becomes of late memory around an iteration."""
        is_handed_on = any(c.extents for c in self.it.carried)
        made = Halves if is_handed_on else Mark if self.takes_late else LateMemory
        return made(self.flow)

    def _begin(self) -> None:
        """Let carried values and rows be where they are in the first iteration."""
        flow, it = self.flow, self.it
        flow.set(it.number, it.done)
        for c in it.carried:
            flow.set(c.now.address, c.initial.address)
            if isinstance(c.now, Listed) and isinstance(c.initial, Listed):
                flow.set(c.now.count, c.initial.count)
            shape, _ = c.initial.type or LONG
            for axis, slot in c.extents.items():
                flow.set(slot, flow.formulas.of(shape[axis]))
            if c in self.moving:
                flow.set(c.next.address, flow.room_for(c.now.type).address)
                flow.set(c.spare, flow.room_for(c.now.type).address)
        for rows in (*it.read, *it.made):
            row = rows.row.address
            if rows.whole is not None:
                flow.set(row, rows.whole.address)
            if rows.is_backward:
                last = flow.slot_of(words.ADD, it.limit, flow.formulas.number(-1))
                stride = self._stride(replace(rows, is_backward=False))
                above = flow.slot_of(words.MULTIPLY, last, stride)
                flow.do(words.ADD, row, row, above)

    def _stride(self, rows: Rows) -> int:
        """The slot of how many bytes the row of the next iteration lies behind that of this one."""
        formulas, nbytes = self.flow.formulas, self.flow.nbytes(rows.row.type or LONG)
        return formulas.apply(
            words.MULTIPLY, nbytes, formulas.number(-1 if rows.is_backward else 1)
        )

    def _check_rows(self, most: int) -> None:
        """End the call unless there was room for all rows, and arrays have as many as was said.

        Without iterations the shapes of rows are what the body declares, which kernels know.
        """
        flow, it = self.flow, self.it
        if not it.made:
            return
        declared = it.graph.outputs[-len(it.made) :]
        fine = flow.label()
        if it.goes_on is not None:
            flow.jump(fine, unless=it.goes_on)
        flow.do(words.REACH, most, most, it.limit)
        flow.formulas.running.append(fine)
        if any(rows.extents for rows in it.made) or any(
            not isinstance(extent, int) for value in declared for extent in declared_extents(value)
        ):
            flow.do(words.REACH, it.number, it.number, flow.one)
        if self.count is not None:
            flow.set(self.count, it.number)
        elif all(rows.whole and rows.whole.type for rows in it.made):
            flow.do(words.EQUAL, it.number, it.number, most)
        else:
            length = np.zeros(1, np.int64)
            place = flow.formulas.number(length.ctypes.data)
            flow.do(words.PUT, it.number, it.number, place)
            flow.trimmed += [(number, length) for number in flow.opened.pop()]
