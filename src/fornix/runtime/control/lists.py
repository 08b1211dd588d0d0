"""Sequences within a native call: tables of where their elements lie.

A table says how many entries there is room for and how many are in use; an entry says where an
element lies and what its extents are. A sequence is the first so many entries of a table, and never
changes: a longer one shares its table if the next entry is not in use, else it has another one. So
appending takes the same time however long a sequence is. Decides how each operator that makes,
changes and reads sequences becomes instructions, and which elements are copied: those that lie
where the next iteration writes. Tables and copies stay until the call is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fornix.compile import machine as words
from fornix.compile.generic import ENTRY, LISTED, MAX_RANK, OPTIONAL, ROOM, USED
from fornix.compile.generic import ENTRY_DATA as DATA
from fornix.compile.generic import ENTRY_EXTENTS as EXTENTS
from fornix.compile.generic import ENTRY_RANK as RANK
from fornix.compile.generic import TABLE_HEAD as HEAD
from fornix.dtype import FLOAT32, DType
from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.ops.geometry import normalize_axis
from fornix.runtime.control.places import LONG, TRUTH, Fed, Listed, Place, Places
from fornix.runtime.providers import ControlNode, NotAsCompiled
from fornix.runtime.shortcuts.generic import LONG as LONG_BYTES
from fornix.runtime.shortcuts.generic import ArrayType

if TYPE_CHECKING:
    from fornix.runtime.control.flow import Flow
    from fornix.runtime.control.late import LateFormulas

SPARE = 4
"""Entries that a new table has room for beyond twice as many as it begins with."""

ListWay: TypeAlias = "Callable[[Flow, ControlNode, Places, Mapping[Value, Place]], None]"


def changing_list(formulas: LateFormulas, listed: Listed) -> Listed:
    """A place for sequences of the same type, one after the other."""
    address, count = formulas.changing(), formulas.changing()
    return replace(listed, address=address, count=count, stays=False)


class _Tables:
    """Instructions on tables."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def number(self, value: int) -> int:
        return self.flow.formulas.number(value)

    def sum(self, a: int, b: int) -> int:
        return self.flow.slot_of(words.ADD, a, b)

    def product(self, a: int, b: int) -> int:
        return self.flow.slot_of(words.MULTIPLY, a, b)

    def difference(self, a: int, b: int) -> int:
        return self.sum(a, self.product(b, self.number(-1)))

    def read(self, address: int, offset: int) -> int:
        """The word so many bytes behind the address in a slot."""
        place = self.sum(address, self.number(offset))
        return self.flow.slot_of(words.READ_LONG, place, place)

    def put(self, slot: int, address: int, offset: int) -> None:
        """Write what ``slot`` holds so many bytes behind the address in another one."""
        self.flow.do(words.PUT, slot, slot, self.sum(address, self.number(offset)))

    @contextmanager
    def times(self, count: int) -> Iterator[int]:
        """Let what is written within run ``count`` times; the slot of the number of the turn."""
        flow = self.flow
        top, end, turn = flow.label(), flow.label(), flow.formulas.changing()
        flow.set(turn, flow.zero)
        flow.formulas.running.append(top)
        flow.jump(end, unless=self.difference(count, turn))
        yield turn
        flow.do(words.ADD, turn, turn, flow.one)
        flow.jump(top)
        flow.formulas.running.append(end)

    def entry(self, table: int, place: int) -> int:
        """The address of an entry."""
        behind = self.product(place, self.number(ENTRY))
        return self.sum(self.sum(table, behind), self.number(HEAD))

    def fill(self, table: int, place: int, element: int, extents: Sequence[int]) -> None:
        """Write an entry."""
        entry = self.entry(table, place)
        for index, slot in enumerate((element, self.number(len(extents)), *extents)):
            self.put(slot, entry, index * LONG_BYTES)

    def table(self, room: int, used: int) -> int:
        """The address of a new table."""
        size = self.sum(self.product(room, self.number(ENTRY)), self.number(HEAD))
        address = self.flow.staying_room(size)
        self.put(room, address, ROOM)
        self.put(used, address, USED)
        return address

    def move(self, to: int, source: int, count: int) -> None:
        """Copy entries, whose first one is at an address."""
        self.flow.do(words.COPY, to, source, self.product(count, self.number(ENTRY)))

    def larger(self, listed: Listed, used: int) -> int:
        """A new table for a sequence of ``used`` elements, with room for more."""
        twice = self.product(listed.count, self.number(2))
        return self.table(self.sum(twice, self.number(SPARE)), used)

    def extents_of(self, entry: int, rank: int) -> list[int]:
        """The slots of the extents of an element, which ends the call if it has another rank."""
        found = self.read(entry, RANK)
        self.flow.do(words.EQUAL, found, found, self.number(rank))
        return [self.read(entry, EXTENTS + axis * LONG_BYTES) for axis in range(rank)]

    def span(self, slots: Sequence[int], first: int) -> int:
        """The slot of the product of others, and of a number."""
        found = self.number(first)
        for slot in slots:
            found = self.product(found, slot)
        return found


class _Writer(_Tables):
    """Instructions on tables, for one operator."""

    def __init__(
        self, flow: Flow, control: ControlNode, places: Places, wanted: Mapping[Value, Place]
    ) -> None:
        super().__init__(flow)
        self.control, self.places, self.wanted = control, places, wanted
        self.attributes = {key: a.value for key, a in control.node.attributes.items()}
        self.inputs = [*control.inputs, None]
        """One is left out, for those that may be."""
        (self.output,) = control.outputs

    def listed(self) -> Listed:
        """The sequence that the operator reads first."""
        found = self.flow.place_of(self.inputs[0], self.places)
        if not isinstance(found, Listed):
            raise NotAsCompiled("a sequence is given from outside")
        return found

    def element(self, value: Value | None) -> tuple[int, list[int], np.dtype[np.generic]]:
        """Where an element lies that a sequence is to have, and the slots of its extents."""
        place = self.flow.place_of(value, self.places)
        if place.type is None or len(place.type[0]) > MAX_RANK:
            raise NotAsCompiled("an element has more axes than a table has room for")
        extents = [self.flow.formulas.of(extent) for extent in place.type[0]]
        return self.staying(place.address, place.type), extents, place.type[1]

    def staying(self, address: int, type_: ArrayType) -> int:
        """Where what lies at an address stays: there, unless the next iteration writes there."""
        if not self.flow.loops:
            return address
        size = self.flow.nbytes(type_)
        copy = self.flow.staying_room(size)
        self.flow.do(words.COPY, copy, address, size)
        return copy

    def counted(self, position: Value | None, count: int, last: int) -> int:
        """The slot of a position, counted from the front; ends the call if there is none such.

        It is at most what the slot ``last`` holds, which it is unless given.
        """
        flow = self.flow
        if position is None:
            flow.do(words.REACH, last, last, flow.zero)
            return last
        place = flow.place_of(position, self.places)
        if place.type is None or place.type[1].kind != "i":
            raise NotAsCompiled("a position is no integer")
        found = flow.number_at(place, place.type)
        below = self.product(found, self.number(-1))
        at_most = flow.slot_of(words.LEAST, below, flow.one)
        is_negative = flow.slot_of(words.GREATEST, at_most, flow.zero)
        found = self.sum(found, self.product(is_negative, count))
        flow.do(words.REACH, found, found, flow.zero)
        flow.do(words.REACH, last, last, found)
        return found

    def give(self, listed: Listed) -> None:
        """Let a sequence be the result."""
        self.places[self.output] = listed

    def rank(self, listed: Listed | None = None) -> int:
        """How many axes somebody takes the result for; the run checks it."""
        if self.output in self.flow.expected:
            return len(self.flow.expected[self.output][0])
        type_ = self.output.type
        if isinstance(type_, TensorType) and type_.shape is not None:
            return len(type_.shape)
        if listed is None or listed.rank is None:
            raise NotAsCompiled("nobody says how many axes an element has")
        return listed.rank

    def array(self, address: int, extents: Sequence[int], dtype: np.dtype[np.generic]) -> None:
        """Let an array of such extents be the result."""
        shape = tuple(map(self.flow.formulas.extent, extents))
        self.places[self.output] = Place(address, (shape, dtype))


def _empty(write: _Writer) -> None:
    """A table without room, which nobody appends to."""
    code = write.attributes.get("dtype")
    write.give(_of_none(write, FLOAT32 if code is None else DType.of(code)))


def _of_none(write: _Writer, dtype: DType) -> Listed:
    """A sequence without elements, which would be of a type."""
    if dtype.numpy.hasobject:
        raise NotAsCompiled("texts are no numbers")
    table = np.zeros(HEAD // LONG_BYTES, np.int64)
    write.flow.kept.append(table)
    address = write.number(table.ctypes.data)
    return Listed(address, None, stays=True, count=write.flow.zero, dtype=dtype.numpy)


def _hold(write: _Writer) -> None:
    """A sequence of one array, or of none, which stands for what may be missing."""
    told = write.attributes.get("type")
    if write.inputs[0] is not None:
        _construct(write)
    elif isinstance(told, TensorType) and told.dtype is not None:
        write.give(_of_none(write, told.dtype))
    made = write.places.get(write.output)
    if not isinstance(made, Listed):
        raise NotAsCompiled("an optional sequence is made")
    write.give(replace(made, is_optional=True))


def _construct(write: _Writer) -> None:
    elements = [write.element(value) for value in write.control.inputs]
    count = write.number(len(elements))
    table = write.table(count, count)
    for place, (address, extents, _) in enumerate(elements):
        write.fill(table, write.number(place), address, extents)
    _, extents, dtype = elements[0]
    if any(other != dtype for _, _, other in elements):
        raise NotAsCompiled("elements have several types")
    write.give(Listed(table, None, count=count, dtype=dtype, rank=len(extents)))


def _insert(write: _Writer) -> None:
    listed = write.listed()
    address, extents, dtype = write.element(write.inputs[1])
    if dtype != listed.dtype:
        raise NotAsCompiled("an element is of another type than the sequence")
    position = write.inputs[2]
    longer = write.sum(listed.count, write.flow.one)
    if position is None:
        table = _appended(write, listed, longer)
        place = listed.count
    else:
        place = write.counted(position, listed.count, listed.count)
        table = write.larger(listed, longer)
        write.move(write.entry(table, write.flow.zero), _first(write, listed), place)
        behind = write.difference(listed.count, place)
        after = write.entry(table, write.sum(place, write.flow.one))
        write.move(after, write.entry(listed.address, place), behind)
    write.fill(table, place, address, extents)
    write.give(replace(listed, address=table, count=longer, stays=False, rank=len(extents)))


def _first(write: _Writer, listed: Listed) -> int:
    return write.sum(listed.address, write.number(HEAD))


def _appended(write: _Writer, listed: Listed, longer: int) -> int:
    """The address of a table with another entry in use: the same, if it has one that is not."""
    flow = write.flow
    address = flow.formulas.changing()
    shared, grow, end = flow.label(), flow.label(), flow.label()
    flow.set(address, listed.address)
    beyond = write.difference(write.read(address, USED), listed.count)
    flow.jump(shared, unless=beyond)
    flow.jump(grow)
    flow.formulas.running.append(shared)
    flow.jump(grow, unless=write.difference(write.read(address, ROOM), listed.count))
    write.put(longer, address, USED)
    flow.jump(end)
    flow.formulas.running.append(grow)
    table = write.larger(listed, longer)
    write.move(write.entry(table, flow.zero), _first(write, listed), listed.count)
    flow.set(address, table)
    flow.formulas.running.append(end)
    return address


def _erase(write: _Writer) -> None:
    listed, flow = write.listed(), write.flow
    last = write.sum(listed.count, write.number(-1))
    place = write.counted(write.inputs[1], listed.count, last)
    if _is_last(write.inputs[1]):
        write.give(replace(listed, count=last, stays=False))
        return
    table = write.larger(listed, last)
    write.move(write.entry(table, flow.zero), _first(write, listed), place)
    after = write.entry(listed.address, write.sum(place, flow.one))
    write.move(write.entry(table, place), after, write.difference(last, place))
    write.give(replace(listed, address=table, count=last, stays=False))


def _is_last(position: Value | None) -> bool:
    """Whether a position is that of the last element, however many there are."""
    if position is None:
        return True
    return position.constant is not None and bool((position.constant.numpy() == -1).all())


def _at(write: _Writer) -> None:
    listed = write.listed()
    last = write.sum(listed.count, write.number(-1))
    _element_at(write, listed, write.counted(write.inputs[1], listed.count, last))


def _element_at(write: _Writer, listed: Listed, place: int) -> None:
    entry = write.entry(listed.address, place)
    extents = write.extents_of(entry, write.rank(listed))
    write.array(write.read(entry, DATA), extents, listed.dtype)


def _present(write: _Writer) -> None:
    """An array that may be missing is a sequence of none or one."""
    listed, flow = _optional(write), write.flow
    flow.do(words.REACH, listed.count, listed.count, flow.one)
    _element_at(write, listed, flow.zero)


def _is_present(write: _Writer) -> None:
    place = write.flow.room_for(((LONG_BYTES,), TRUTH[1]))  # for a whole word
    write.flow.do(words.PUT, *(_optional(write).count,) * 2, place.address)
    write.places[write.output] = replace(place, type=TRUTH)


def _optional(write: _Writer) -> Listed:
    listed = write.listed()
    if not listed.is_optional:
        raise NotAsCompiled("an optional sequence is given")
    return listed


def _length(write: _Writer) -> None:
    flow = write.flow
    place = flow.target(write.output, LONG, write.wanted)
    flow.do(words.PUT, *(write.listed().count,) * 2, place.address)
    write.places[write.output] = place


def _identity(write: _Writer) -> None:
    """The same place, also for an array, which has a kernel where it has no elements."""
    write.places[write.output] = write.flow.place_of(write.inputs[0], write.places)


def _constant(write: _Writer) -> None:
    """Stored data; those without elements have no machine code that would give them."""
    tensor = write.attributes.get("value")
    if tensor is None:
        raise NotAsCompiled("a constant is no tensor")
    write.places[write.output] = write.flow.stored(tensor.numpy())


def _split(write: _Writer) -> None:
    """Entries for parts of an array, one after the other; parts of rows are copied."""
    flow = write.flow
    address, shape, dtype = write.element(write.inputs[0])
    axis = normalize_axis(write.attributes.get("axis", 0), len(shape))
    is_flat = not write.attributes.get("keepdims", 1) and _are_slices(write)
    count, length_of = _parts(write, shape[axis])
    table = write.table(count, count)
    outer, inner = write.span(shape[:axis], 1), write.span(shape[axis + 1 :], dtype.itemsize)
    start, row = flow.formulas.changing(), write.product(shape[axis], inner)
    flow.set(start, flow.zero)
    with write.times(count) as turn:
        length, left = length_of(turn, start), write.difference(shape[axis], start)
        flow.do(words.REACH, left, left, length)
        size = write.product(length, inner)
        data = write.sum(address, write.product(start, inner))
        if axis:
            source, data = data, flow.staying_room(write.product(size, outer))
            with write.times(outer) as line:
                to = write.sum(data, write.product(line, size))
                flow.do(words.COPY, to, write.sum(source, write.product(line, row)), size)
        kept = [] if is_flat else [length]
        write.fill(table, turn, data, [*shape[:axis], *kept, *shape[axis + 1 :]])
        flow.set(start, write.sum(start, length))
    flow.do(words.EQUAL, start, start, shape[axis])
    rank = len(shape) - is_flat
    write.give(Listed(table, None, count=count, dtype=dtype, rank=rank))


def _are_slices(write: _Writer) -> bool:
    """Whether each part is one slice because nothing, or a single 1, says so."""
    split = write.inputs[1]
    if split is None:
        return True
    type_ = write.flow.place_of(split, write.places).type
    if type_ is None or type_[0]:
        return False
    if split.constant is None:
        raise NotAsCompiled("a number in memory tells how many axes parts have")
    return int(split.constant.numpy()) == 1


def _parts(write: _Writer, extent: int) -> tuple[int, Callable[[int, int], int]]:
    """The slot of how many parts there are, and what tells the length of one.

    It is told the number of the part and where it begins.
    """
    flow, split = write.flow, write.inputs[1]
    if split is None:
        return extent, lambda turn, start: flow.one  # noqa: ARG005 - each is one slice
    place = flow.place_of(split, write.places)
    if place.type is None or len(place.type[0]) > 1:
        raise NotAsCompiled("lengths of parts are no list")
    itemsize = place.type[1].itemsize
    what = words.READ_LONG if itemsize == LONG_BYTES else words.READ_INT
    if place.type[0]:

        def told(turn: int, start: int) -> int:  # noqa: ARG001 - each part has its own
            at = write.sum(place.address, write.product(turn, write.number(itemsize)))
            found = flow.slot_of(what, at, at)
            flow.do(words.REACH, found, found, flow.zero)
            return found

        return flow.formulas.of(place.type[0][0]), told
    length = flow.slot_of(what, place.address, place.address)
    flow.do(words.REACH, length, length, flow.one)
    more = write.sum(extent, write.sum(length, write.number(-1)))

    def alike(turn: int, start: int) -> int:  # noqa: ARG001 - the last one may be shorter
        return flow.slot_of(words.LEAST, length, write.difference(extent, start))

    return flow.slot_of(words.FLOOR, more, length), alike


def _concat(write: _Writer) -> None:
    """The elements along one axis, which may be a new one; others have to be alike."""
    listed, flow = write.listed(), write.flow
    flow.do(words.REACH, listed.count, listed.count, flow.one)
    is_new = bool(write.attributes.get("new_axis", 0))
    rank = write.rank(replace(listed, rank=None if listed.rank is None else listed.rank + is_new))
    axis = normalize_axis(write.attributes["axis"], rank)
    first = write.entry(listed.address, flow.zero)
    extents = write.extents_of(first, rank - is_new)
    ahead, behind = extents[:axis], extents[axis if is_new else axis + 1 :]
    total, offset = flow.formulas.changing(), flow.formulas.changing()
    flow.set(total, flow.zero)
    with write.times(listed.count) as turn:
        own = write.extents_of(write.entry(listed.address, turn), rank - is_new)
        joined = flow.one if is_new else own.pop(axis)
        for found, wanted in zip(own, [*ahead, *behind], strict=True):
            flow.do(words.EQUAL, found, found, wanted)
        flow.set(total, write.sum(total, joined))
    shape = [*ahead, write.sum(total, flow.zero), *behind]
    outer, inner = write.span(ahead, 1), write.span(behind, listed.dtype.itemsize)
    row = write.product(total, inner)
    address = _room_for(write, shape, listed.dtype, write.product(outer, row))
    flow.set(offset, address)
    with write.times(listed.count) as turn:
        entry = write.entry(listed.address, turn)
        source = write.read(entry, DATA)
        length = flow.one if is_new else write.read(entry, EXTENTS + axis * LONG_BYTES)
        size = write.product(length, inner)
        with write.times(outer) as line:
            to = write.sum(offset, write.product(line, row))
            flow.do(words.COPY, to, write.sum(source, write.product(line, size)), size)
        flow.set(offset, write.sum(offset, size))
    write.array(address, shape, listed.dtype)


def _room_for(write: _Writer, shape: Sequence[int], dtype: np.dtype[np.generic], size: int) -> int:
    """The slot of the address of an array: of the result itself, if nobody copies it."""
    flow = write.flow
    if flow.depth or write.output not in flow.results:
        return flow.late_room(size)
    return flow.make(write.output, shape, ((), dtype)).address


def fed_list(flow: Flow, fed: Fed, room: int) -> tuple[list[int], Listed]:
    """The row of an input that is a list, and where its table lies, with ``room`` for entries."""
    table = np.zeros((HEAD + room * ENTRY) // LONG_BYTES, np.int64)
    table[ROOM // LONG_BYTES] = room
    flow.kept.append(table)
    count, address = flow.formulas.slot(), flow.formulas.number(table.ctypes.data)
    rank = None if fed.shape is None else len(fed.shape)
    kind = OPTIONAL if fed.is_optional else LISTED
    row = [flow.keep(fed.dtype), kind, count, address]
    place = Listed(
        address, None, stays=True, count=count, dtype=fed.dtype, rank=rank,
        is_optional=fed.is_optional,
    )  # fmt: skip
    return row, place


def check_fed(flow: Flow, fed: Fed, listed: Listed) -> None:
    """End the call unless elements of a list are as they are declared."""
    if fed.shape is None:
        return
    tables = _Tables(flow)
    with tables.times(listed.count) as turn:
        found = tables.extents_of(tables.entry(listed.address, turn), len(fed.shape))
        for slot, extent in zip(found, fed.shape, strict=True):
            if isinstance(extent, int):
                flow.do(words.EQUAL, slot, slot, tables.number(extent))


def give_list(flow: Flow, number: int, listed: Listed) -> None:
    """Let result ``number`` be a list of copies of the elements of a sequence."""
    tables, kind = _Tables(flow), flow.keep(listed.dtype)
    row = np.array([kind, *[0] * (words.ROW_WORDS - 1)], np.int64)
    flow.kept.append(row)
    address = tables.number(row.ctypes.data)
    made = flow.slot_of(words.LIST, listed.count, tables.number(number))
    tables.put(made, address, words.ROW_LIST * LONG_BYTES)
    size = flow.formulas.changing()
    with tables.times(listed.count) as turn:
        entry = tables.entry(listed.address, turn)
        rank, extents = tables.read(entry, RANK), tables.sum(entry, tables.number(EXTENTS))
        told = (words.ROW_RANK, rank), (words.ROW_EXTENTS, extents), (words.ROW_NUMBER, turn)
        for word, slot in told:
            tables.put(slot, address, word * LONG_BYTES)
        flow.set(size, tables.number(listed.dtype.itemsize))
        with tables.times(rank) as axis:
            behind = tables.product(axis, tables.number(LONG_BYTES))
            place = tables.sum(extents, behind)
            flow.do(words.MULTIPLY, size, size, flow.slot_of(words.READ_LONG, place, place))
        copy = flow.slot_of(words.MAKE, address, address)
        flow.do(words.COPY, copy, tables.read(entry, DATA), size)


_RULES: dict[str, Callable[[_Writer], None]] = {
    "Constant": _constant,
    "ConcatFromSequence": _concat,
    "Optional": _hold,
    "OptionalGetElement": _present,
    "OptionalHasElement": _is_present,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}


def list_way(control: ControlNode | None) -> ListWay | None:
    """What turns a node into instructions, if it is one that makes, changes or reads sequences."""
    if control is None or control.node.domain:
        return None
    op_type = control.node.op_type
    rule = _identity if op_type == "Identity" else _RULES.get(op_type)
    if rule is None:
        return None
    return lambda *given: rule(_Writer(*given))
