"""Which nodes become one kernel, and which run their NumPy kernel.

The rule, from the last node to the first: a value is computed where it is read, unless

1. somebody else needs it in memory: an output of the graph, a node that is not lowered,
2. its node fills memory itself (a scan, a scatter), or sums over many elements and its readers are
   not its epilogue: arithmetic of the same elements, in one kernel that has no other such node,
3. computing it as often as it is read costs more than a trip to memory, or it is computed and its
   rows are read as parts of longer ones, or several as one, whose lengths are open,
4. it is dear, continues a sum that has to be stored anyway, and is read by another, which has less
   time for it,
5. it is a sum, or takes long, and is scattered, which one thread does, element by element,
6. it has narrower elements than a sum that it comes of, and that sum has to be stored otherwise,
   because it meets another one in the kernel (as a shortcut of quantised layers does),
7. it joins sums, is no wider than what would be stored of them, and what reads it is behind yet
   another one: of many that are added one after the other, none has to wait for the last,
8. it exchanges rows and columns of a large value and meets another one ahead of a sum: one of the
   two would be read across its rows, whichever way the loops run,
9. it exchanges rows and columns of a large value, and what reads it asks at each place what to
   read, as mirrors do and what joins many; or the other way round: tiles are turned of what lies
   in memory,
10. it is made of nothing, as a state of zeros is, and a sum reads it again and again, as products
   do and windows that overlap: they are scheduled for operands in memory,
11. it moves or mixes elements, as short windows and borders do, and a sum of the kernel would do so
   anew: it reads them in rows of another length, or dear ones in several loops,
12. it is a dear one of these, and read behind a sum of products: tiles of it would be left for
   single elements, or
13. the kernel has become large.

What else only moves data costs nothing, so it goes where it is read. Nodes of a chain (`chains`)
are computed with its end, whatever these rules say of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fornix.compile.chains import Chain
from fornix.compile.readings import OTHER, SAME, Reading
from fornix.compile.traits import Traits
from fornix.compile.units import CompiledUnit, IslandUnit, Unit
from fornix.ir.graph import Node, Value
from fornix.ir.walk import captured_values

RECOMPUTED = 0.5
"""Operations per element that are repeated rather than stored."""
DEAR = 8.0
"""Operations per element that are not to be done in a sum, if they can be done behind another."""
SLOW = 64.0
"""Operations per element that are not to be done by one thread, element by element."""
WHOLE = 0.9
"""Of the elements of a value, from which on as good as all are read."""
MAX_NODES = 64
"""Nodes in one kernel."""


@dataclass
class _Place:
    """Where a value is computed: in which kernels, how often, and whether it ends up in memory."""

    is_stored: bool
    times: dict[Node, float] = field(default_factory=dict)
    """By the last node of each kernel, how often an element is computed there."""
    is_epilogue: bool = True
    """Whether every reader, up to the end of the kernel, handles the same element."""
    is_relaid: bool = False
    """Whether some reader, up to the end of the kernel, divides places by open lengths of rows."""
    is_cut: bool = False
    """Whether some reader, up to the end of the kernel, has rows of another length."""
    is_whole: bool = True
    """Whether every reader, up to the end of the kernel, keeps channels apart."""
    passes: int = 1
    """In how many loops a reader, up to the end of the kernel, reads it."""
    is_turned: bool = False
    """Whether some reader, up to the end of the kernel, exchanges rows and columns."""
    is_chosen: bool = False
    """Whether some reader, up to the end of the kernel, chooses or mixes what it reads."""


def partition(
    nodes: Sequence[Node],
    traits: Mapping[Node, Traits | str],
    needed: Collection[Value],
    alone: Collection[Node] = (),
    chains: Mapping[Node, Chain] | None = None,
) -> list[Unit]:
    """The units of ``nodes``, in an order in which they can run.

    ``needed`` are the values that others read, ``alone`` nodes that are not to be joined to others.
    """
    return _Partition(nodes, traits, needed, alone, chains or {}).units()


class _Partition:
    def __init__(
        self,
        nodes: Sequence[Node],
        traits: Mapping[Node, Traits | str],
        needed: Collection[Value],
        alone: Collection[Node],
        chains: Mapping[Node, Chain],
    ) -> None:
        self.nodes, self.traits, self.chains = nodes, traits, chains
        self.needed, self.alone = set(needed), frozenset(alone)
        self.places: dict[Value, _Place] = {}
        self.sizes: dict[Node, int] = {}
        self.cores: dict[Node, Node] = {}
        self.sums = _last_sums(nodes, traits)
        self.narrowest = _narrowest(nodes, traits, self.sums)
        for node in nodes:
            if isinstance(traits[node], str):
                captured = captured_values(node) if node.graphs else ()
                self.needed.update(v for v in (*node.inputs, *captured) if v is not None)

    def units(self) -> list[Unit]:
        for node in reversed(self.nodes):
            trait = self.traits[node]
            if isinstance(trait, Traits):
                self._place(node, trait)
        units: list[Unit] = []
        for node in self.nodes:
            trait = self.traits[node]
            if isinstance(trait, str):
                units.append(IslandUnit(node, trait))
                continue
            stored = tuple(v for v in node.outputs if v in self.places and self.places[v].is_stored)
            if stored:
                units.append(self._unit(node, stored))
        return units

    def _place(self, node: Node, trait: Traits) -> None:
        """Decide where the results of ``node`` are computed."""
        for value in node.outputs:
            if value.is_used or value in self.needed:
                found = self._inside(node, trait, value)
                self.places[value] = found or _Place(is_stored=True, times={node: 1.0})
        if any(v in self.places and self.places[v].is_stored for v in node.outputs):
            self.sizes[node] = 1
            if trait.is_reduction:
                self.cores[node] = node

    def _inside(self, node: Node, trait: Traits, value: Value) -> _Place | None:
        """Where ``value`` is computed if it is not stored; None if it has to be."""
        if value in self.needed or trait.has_memory or node in self.alone:
            return None
        is_from_nothing = not self._read_by(node)
        if self._ends_other_sum(node, trait) or (is_from_nothing and self._is_operand(value)):
            return None
        chain = self.chains.get(node)
        if chain is not None and chain.end not in self.alone:
            return self._with_end(node, chain, value)
        place = self._demand(value)
        if place is None or any(self.sizes[end] >= MAX_NODES for end in place.times):
            return None
        if trait.is_reduction:
            ends = list(place.times)
            if len(ends) != 1 or not place.is_epilogue or ends[0] in self.cores:
                return None
            self.cores[ends[0]] = node
        elif trait.cost * (sum(place.times.values()) - 1.0) > RECOMPUTED:
            return None
        if self._has_better_place(node, trait, place):
            return None
        for end in place.times:
            self.sizes[end] += 1
        return place

    def _has_better_place(self, node: Node, trait: Traits, place: _Place) -> bool:
        """Whether it is computed in other rows than it is read, or may as well be behind a sum.

        Or by all threads, a vector at a time, where it is read by one, element by element.
        """
        if place.is_relaid and (trait.is_reduction or trait.cost > 0):
            return True
        is_apart = (place.is_turned and _chooses(trait)) or (place.is_chosen and _is_turned(trait))
        if is_apart and sum(place.times.values()) >= WHOLE:
            return True
        if _is_turned(trait) and not place.is_epilogue and self._joins(node.output):
            return True
        if _chooses(trait) and place.is_epilogue and self._follows_product(place):
            return True
        if _mixes(trait) and self._is_summed_anew(trait, place):
            return True
        is_slow = trait.is_reduction or trait.cost >= SLOW
        if is_slow and any(self._fills_memory(end) for end in place.times):
            return True
        own = self.sums.get(node)
        follows_sum = own is not None and own is not node and trait.bits <= self._bits(own)
        return trait.cost >= DEAR and not place.is_epilogue and follows_sum

    def _is_summed_anew(self, trait: Traits, place: _Place) -> bool:
        """Whether a sum of the kernel reads it in rows of another length, or dear in many loops.

        Whole channels that are joined are read as they lie. Filters of few taps cost a sum of
        one channel less than to bring images into blocks and back.
        """
        if place.is_epilogue or not any(end in self.cores for end in place.times):
            return False
        if place.is_whole and (
            _joins_channels(trait) or (trait.is_convolution and not place.is_cut)
        ):
            return False
        return place.is_cut or (place.passes > 1 and trait.cost >= DEAR)

    def _follows_product(self, place: _Place) -> bool:
        """Whether it is read behind sums of products, which are written a tile at a time."""
        sums = [self.traits[one] for one in map(self.sums.get, place.times) if one is not None]
        return any(isinstance(trait, Traits) and _reads_again(trait) for trait in sums)

    def _joins(self, value: Value) -> bool:
        """Whether ``value`` meets another one of its extents in a kernel, ahead of its sums."""
        for user in value.users:
            trait = self.traits.get(user)
            if not isinstance(trait, Traits) or trait.is_reduction or len(user.outputs) != 1:
                continue
            if self._is_stored(user.output):
                continue
            if trait.cost > 0 and not _strongest(trait, user, value).is_in_place:
                continue
            pairs = zip(user.inputs, trait.readings, strict=True)
            met = {v for v, reading in pairs if reading is not None and reading.is_in_place}
            if (value in met and len(met) > 1) or self._joins(user.output):
                return True
        return False

    def _is_operand(self, value: Value) -> bool:
        """Whether a sum reads each element of ``value`` more than once, as it is or moved."""
        for user in value.users:
            trait = self.traits.get(user)
            if not isinstance(trait, Traits):
                continue
            if trait.is_reduction and not trait.has_memory:
                if _strongest(trait, user, value).count > 1:
                    return True
                continue
            moves = trait.cost == 0 and len(user.outputs) == len(self._read_by(user)) == 1
            if moves and not self._is_stored(user.output) and self._is_operand(user.output):
                return True
        return False

    def _fills_memory(self, node: Node) -> bool:
        trait = self.traits[node]
        return isinstance(trait, Traits) and trait.has_memory

    def _ends_other_sum(self, node: Node, trait: Traits) -> bool:
        """Whether its result comes of a sum which is not the one of the kernel around it.

        Only where that takes no more memory than to store that sum, or what is narrower, and if it
        is narrow or made of several sums; of those that could be stored, the last is.
        """
        own = self.sums.get(node)
        if own is None or trait.is_reduction or trait.bits > self.narrowest[node]:
            return False
        if trait.bits == self._bits(own) and not self._joins_sums(node, trait):
            return False
        while len(node.output.uses) == 1 and not self._is_stored(node.output):
            (node,) = node.output.users
            other = self.sums.get(node)
            if other is None or other is node:  # a sum that reads it begins a kernel of its own
                return False
            if other is not own:
                return True
        return False

    def _is_stored(self, value: Value) -> bool:
        return value in self.places and self.places[value].is_stored

    def _joins_sums(self, node: Node, trait: Traits) -> bool:
        """Whether each element of it is made of those of several sums."""
        pairs = zip(node.inputs, trait.readings, strict=True)
        read = {v.producer for v, reading in pairs if v and reading and reading.is_in_place}
        return sum(maker is not None and self.sums.get(maker) is not None for maker in read) > 1

    def _bits(self, node: Node) -> int:
        trait = self.traits[node]
        return trait.bits if isinstance(trait, Traits) else 0

    def _with_end(self, node: Node, chain: Chain, value: Value) -> _Place | None:
        """The place of a node of ``chain`` in the one kernel that computes the end of it."""
        ends = list(self._ends(chain.end))
        if len(ends) != 1 or self.cores.get(ends[0]) is not chain.end:
            return None
        self.sizes[ends[0]] += 1
        demand = self._demand(value) if node in chain.scaled else None
        times = {ends[0]: 1.0} if demand is None else demand.times
        return _Place(is_stored=False, times=times, is_epilogue=False)

    def _demand(self, value: Value) -> _Place | None:
        """Which kernels read ``value``, how often; None if one of them must have it in memory."""
        place = _Place(is_stored=False)
        shared: dict[Node, float] = {}
        for user in value.users:
            trait = self.traits.get(user)
            if not isinstance(trait, Traits) or user in self.alone:
                return None
            reading = _strongest(trait, user, value)
            if not reading.count:
                continue  # its extents or contents are known, so nobody reads it
            for end, times in self._ends(user).items():
                if reading.is_in_place:  # read by several, computed once
                    shared[end] = max(shared.get(end, 0.0), times)
                else:
                    place.times[end] = place.times.get(end, 0.0) + times * reading.count
            place.is_epilogue &= reading.is_in_place and self._is_epilogue(user)
            further = [self.places[v] for v in user.outputs if v in self.places]
            place.is_relaid |= reading.is_relaid or any(p.is_relaid for p in further)
            place.is_cut |= reading.is_cut or any(p.is_cut for p in further)
            place.is_whole &= reading.channels == SAME and all(p.is_whole for p in further)
            place.passes = max([place.passes, *(reading.passes * p.passes for p in further)])
            place.is_turned |= _is_turned(trait) or any(p.is_turned for p in further)
            place.is_chosen |= _chooses(trait) or any(p.is_chosen for p in further)
        for end, times in shared.items():
            place.times[end] = place.times.get(end, 0.0) + times
        return place

    def _ends(self, node: Node) -> dict[Node, float]:
        """The kernels in which ``node`` is computed, and how often each of its elements is."""
        ends: dict[Node, float] = {}
        for value in node.outputs:
            place = self.places.get(value)
            for end, times in ({} if place is None else place.times).items():
                ends[end] = max(ends.get(end, 0.0), times)
        return ends

    def _is_epilogue(self, node: Node) -> bool:
        trait = self.traits[node]
        places = [self.places[v] for v in node.outputs if v in self.places]
        plain = isinstance(trait, Traits) and not trait.is_reduction
        return plain and all(place.is_stored or place.is_epilogue for place in places)

    def _unit(self, node: Node, outputs: tuple[Value, ...]) -> CompiledUnit:
        """The kernel that ends with ``node``: it, and what is computed inside."""
        inside: dict[Node, None] = {}
        inputs: dict[Value, None] = {}
        waiting = [node]
        while waiting:
            here = waiting.pop()
            if here in inside:
                continue
            inside[here] = None
            for value in self._read_by(here):
                place = self.places.get(value)
                if place is None or place.is_stored or value.producer is None:
                    inputs[value] = None
                else:
                    waiting.append(value.producer)
        order = {member: index for index, member in enumerate(self.nodes) if member in inside}
        return CompiledUnit(tuple(sorted(inside, key=order.__getitem__)), tuple(inputs), outputs)

    def _read_by(self, node: Node) -> list[Value]:
        """The inputs of ``node`` of which it reads elements."""
        trait = self.traits[node]
        readings = trait.readings if isinstance(trait, Traits) else ()
        pairs = zip(node.inputs, readings, strict=True)
        return [v for v, reading in pairs if v is not None and reading and reading.count]


def _last_sums(
    nodes: Sequence[Node], traits: Mapping[Node, Traits | str]
) -> dict[Node, Node | None]:
    """The last of the sums that each node continues in place, without anybody else reading it."""
    found: dict[Node, Node | None] = {}
    order = {node: index for index, node in enumerate(nodes)}
    for node in nodes:
        trait = traits[node]
        if not isinstance(trait, Traits) or len(node.outputs) != 1:
            continue
        if trait.is_reduction:
            found[node] = node
            continue
        sums = [
            found[value.producer]
            for value, reading in zip(node.inputs, trait.readings, strict=True)
            if value is not None and reading is not None and reading.is_in_place
            if value.producer in found and len(value.uses) == 1
        ]
        known = [one for one in sums if one is not None]
        found[node] = max(known, key=order.__getitem__, default=None)
    return found


def _narrowest(
    nodes: Sequence[Node],
    traits: Mapping[Node, Traits | str],
    sums: Mapping[Node, Node | None],
) -> dict[Node, int]:
    """The fewest bits of an element on the way from the last sum to each node, both included."""
    found: dict[Node, int] = {}
    for node in nodes:
        trait, own = traits[node], sums.get(node)
        if own is None or not isinstance(trait, Traits):
            continue
        before = [] if own is node else [v.producer for v in node.inputs if v is not None]
        on_way = [found[one] for one in before if one in found and sums[one] is own]
        found[node] = min([trait.bits, *on_way])
    return found


def _strongest(trait: Traits, user: Node, value: Value) -> Reading:
    """How ``user`` reads ``value``, which may be several of its inputs."""
    found = [
        reading
        for given, reading in zip(user.inputs, trait.readings, strict=True)
        if given is value and reading is not None
    ]
    in_place = bool(found) and all(reading.is_in_place for reading in found)
    channels = {reading.channels for reading in found}
    return Reading(
        sum(reading.count for reading in found),
        is_in_place=in_place,
        channels=channels.pop() if len(channels) == 1 else OTHER,
        is_relaid=any(reading.is_relaid for reading in found),
        is_cut=any(reading.is_cut for reading in found),
        passes=sum(reading.passes for reading in found),
        is_turned=any(reading.is_turned for reading in found),
    )


def _mixes(trait: Traits) -> bool:
    """Whether a node asks at each place which elements it reads, or mixes some."""
    is_moved = not any(r is not None and r.is_in_place for r in trait.readings)
    return is_moved and trait.cost > 0 and not trait.is_reduction


def _joins_channels(trait: Traits) -> bool:
    """Whether a node puts together whole channels of several images."""
    return any(reading is not None and reading.shift for reading in trait.readings)


def _reads_again(trait: Traits) -> bool:
    """Whether a sum has filters, or reads each element of all its operands more than once."""
    read = [r for r in trait.readings if r is not None and not r.is_in_place]
    return trait.is_convolution or all(reading.count > 1 for reading in read)


def _chooses(trait: Traits) -> bool:
    """Whether a node moves or mixes elements, and that is dear, as what mirrors ask is."""
    return _mixes(trait) and trait.cost >= DEAR


def _is_turned(trait: Traits) -> bool:
    """Whether a node does nothing but exchange rows and columns of a large value."""
    turns = any(reading is not None and reading.is_turned for reading in trait.readings)
    return turns and trait.cost == 0 and not trait.is_reduction
