"""If within a native call: one of two bodies is jumped over.

Decides where results lie: those of both branches in the same memory, if they are alike, else where
each branch leaves them, with extents that only the run tells. Branches whose results have several
ranks are left to the caller, who has what follows written for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import TYPE_CHECKING

from fornix.ir.dim import equal
from fornix.ir.graph import Graph, Value
from fornix.runtime.control.lists import changing_list
from fornix.runtime.control.places import LONG, TRUTH, Code, Label, Listed, Place, Places
from fornix.runtime.native import NativeStep
from fornix.runtime.providers import ControlNode, NotAsCompiled, Step
from fornix.runtime.shortcuts.generic import ArrayType

if TYPE_CHECKING:
    from fornix.runtime.control.flow import Flow


BRANCHES = ("then_branch", "else_branch")


@dataclass
class Forked(Exception):
    """Two branches are written whose results have several ranks; what follows is not yet."""

    outputs: Sequence[Value]
    sides: Sequence[Sequence[Place]]
    """Where the results lie in each of them."""
    codes: Sequence[Code]
    before: Code
    """What runs ahead of them."""
    other: Label
    """Where the second one begins."""


def branch(flow: Flow, control: ControlNode, places: Places, wanted: Mapping[Value, Place]) -> None:
    """Let one of two bodies run; raises Forked where what follows depends on which it is."""
    _Branching(flow, control, places).write(wanted)


@dataclass
class _Branching:
    """An If on its way to instructions."""

    flow: Flow
    control: ControlNode
    places: Places

    def write(self, wanted: Mapping[Value, Place]) -> None:
        """Jump over one of two bodies; each shapes anew what is a result and nothing else."""
        flow, formulas, outputs = self.flow, self.flow.formulas, self.control.outputs
        (condition,) = self.control.inputs
        if condition is not None and condition.constant is not None:
            self._choose(holds=bool(condition.constant.numpy().all()))
            return
        is_free = flow.is_free(outputs)
        targets = self._targets(wanted)
        other = flow.label()
        flow.jump(other, unless=flow.number_at(flow.place_of(condition, self.places), TRUTH))
        before = formulas.running
        codes: list[Code] = []
        sides: list[list[Place]] = []
        for name in BRANCHES:
            formulas.running = []
            with formulas.scope(is_branch=True):
                found = self._side(self.control.node.attributes[name].value, targets)
                if is_free:
                    flow.give(dict(zip(outputs, found, strict=True)))
                else:
                    targets = [None if self._is_where_made(p) else p for p in found]
            sides.append(found)
            codes.append(formulas.running)
        fork = Forked(outputs, sides, codes, before, other)
        pairs = list(zip(*sides, strict=True))
        if not (is_free or flow.loops) and any(starmap(_differ_in_rank, pairs)):
            raise fork
        if not is_free:
            found = [_joined(flow, one, another, codes) for one, another in pairs]
        flow.join(fork)
        self.places.update(zip(outputs, found, strict=True))

    def _targets(self, wanted: Mapping[Value, Place]) -> list[Place | None]:
        """Where both branches are to write what they give.

        A place whose extents nobody knows may be nowhere before they are: it serves branches of
        one type.
        """
        targets = [wanted.get(value) for value in self.control.outputs]
        if not any(place and place.type is None for place in targets):
            return targets
        graphs = [self.control.node.attributes[name].value for name in BRANCHES]
        bodies = [self.flow.body(self.control, graph, [], self.places) for graph in graphs]
        one, other = ([_types(steps).get(v) for v in outputs] for steps, _, outputs in bodies)
        are_alike = [a is not None and a == b for a, b in zip(one, other, strict=True)]
        pairs = zip(targets, are_alike, strict=True)
        return [t if t is None or t.type or is_alike else None for t, is_alike in pairs]

    def _choose(self, *, holds: bool) -> None:
        """Let the one branch run that a stored condition chooses."""
        name = "then_branch" if holds else "else_branch"
        graph: Graph = self.control.node.attributes[name].value
        body = self.flow.body(self.control, graph, [], self.places)
        found = self.flow.run_body(body, [None] * len(body[-1]))
        self.places.update(zip(self.control.outputs, found, strict=True))

    def _side(self, graph: Graph, wanted: Sequence[Place | None]) -> list[Place]:
        """Let a branch run; its outputs lie where they are wanted, or in memory of its own."""
        flow = self.flow
        body = steps, _, outputs = flow.body(self.control, graph, [], self.places)
        if len(outputs) != len(wanted):
            raise NotAsCompiled("a branch has another number of outputs")
        own = {value for step in steps for value in step.writes}
        types = _types(steps)
        pairs = list(zip(outputs, wanted, strict=True))
        direct = [
            t if t and v in types and self._may_share(t, types[v]) else None for v, t in pairs
        ]
        settled: list[Place] = []
        for (value, target), place in zip(pairs, flow.run_body(body, direct), strict=True):
            if self._is_where_made(place):
                settled.append(place)
                continue
            if target is None or not self._may_share(target, place.type):
                is_own = value in own and place.stays and place not in settled
                target = place if is_own else flow.room_for(place.type)
            flow.copy(target, place)
            settled.append(replace(target, type=place.type))
        return settled

    def _may_share(self, place: Place, type_: ArrayType | None) -> bool:
        """Whether arrays of a type may lie at ``place``, which those of the other branch do.

        Those of other extents lie elsewhere; within loops, those that are not known to be equal
        are taken to be.
        """
        if place.type is None or type_ is None:
            return True
        if not self.flow.loops:
            return place.type == type_
        (shape, dtype), (extents, kind) = place.type, type_
        is_like = dtype == kind and len(shape) == len(extents)
        return is_like and not any(
            equal(a, b) is False for a, b in zip(shape, extents, strict=True)
        )

    def _is_where_made(self, place: Place) -> bool:
        """Whether a branch leaves its output where it lies."""
        return isinstance(place, Listed) or self.flow.formulas.is_late(place.type)


def joined(flow: Flow, sides: Sequence[Sequence[Place] | None], fork: Forked) -> list[Place]:
    """Where values lie behind two branches, in each of which they lie at places of their own.

    Whoever comes to the end of one without places has ended the call.
    """
    one, other = sides
    found = list(one or other or ())
    if one is not None and other is not None:
        pairs = zip(one, other, strict=True)
        found = [_joined(flow, place, another, fork.codes) for place, another in pairs]
    flow.join(fork)
    return found


def _joined_lists(flow: Flow, sides: Sequence[Place], codes: Sequence[Code]) -> Place:
    """The sequence that is that of one of two branches."""
    listed = [side for side in sides if isinstance(side, Listed)]
    if len({side.dtype for side in listed}) != 1 or len(listed) < len(sides):
        raise NotAsCompiled("branches give other kinds of values")
    place = changing_list(flow.formulas, listed[0])
    for side, code in zip(listed, codes, strict=True):
        flow.formulas.running = code
        flow.set(place.address, side.address)
        flow.set(place.count, side.count)
    return place


def _joined(flow: Flow, one: Place, other: Place, codes: Sequence[Code]) -> Place:
    """Where the output of an If lies, which is at two places, as late as they may be."""
    if isinstance(one, Listed) or isinstance(other, Listed):
        return _joined_lists(flow, (one, other), codes)
    formulas, types = flow.formulas, (one.type or LONG, other.type or LONG)
    if one.address == other.address and types[0] == types[1] and not formulas.is_late(types[0]):
        return other
    (shape, dtype), (extents, kind) = types
    if dtype != kind or len(shape) != len(extents):
        raise NotAsCompiled(f"branches give {types[0]} and {types[1]}")
    axes = [a for a, (d, e) in enumerate(zip(shape, extents, strict=True)) if d != e]
    slots = {axis: formulas.changing() for axis in axes}
    place = Place(formulas.changing(), None)
    for side, type_, code in zip((one, other), types, codes, strict=True):
        formulas.running = code
        with formulas.scope():
            flow.set(place.address, side.address)
            for axis, slot in slots.items():
                flow.set(slot, formulas.of(type_[0][axis]))
    if {one.address, other.address} <= flow.fresh:
        flow.fresh.add(place.address)
    named = tuple(formulas.extent(slots[a]) if a in slots else d for a, d in enumerate(shape))
    return replace(place, type=(named, dtype))


def _types(steps: Sequence[Step]) -> dict[Value, ArrayType]:
    """What machine code among ``steps`` writes."""
    native = [step for step in steps if isinstance(step, NativeStep)]
    return {value: step.types[value] for step in native for value in step.writes}


def _differ_in_rank(one: Place, other: Place) -> bool:
    """Whether two branches give arrays of different ranks."""
    return bool(one.type and other.type) and len((one.type or LONG)[0]) != len(
        (other.type or LONG)[0]
    )
