"""Units to machine code: the last stage, and what is done when one is refused.

A unit that nothing can be emitted for is taken apart: first its last node is tried alone, then
that node runs its kernel. Units alike, as the layers of a network are, are compiled once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fornix.compile.cache import ObjectCache
from fornix.compile.compiler import compile_stores
from fornix.compile.kernel import CompiledKernel
from fornix.compile.lower import Lowering
from fornix.compile.partition import CompiledUnit, IslandUnit, partition
from fornix.compile.target import Target
from fornix.compile.traits import Survey, Traits
from fornix.errors import FornixError
from fornix.infer import Inference
from fornix.ir.dim.expression import Atom, Symbol
from fornix.ir.graph import Node, Value
from fornix.ir.loops import Buffer, Constant
from fornix.ops.call import NotLowered

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
REFUSED = (FornixError, NotLowered, TypeError, ValueError, ArithmeticError, LookupError)
"""What the stages raise for a unit that they cannot handle."""


@dataclass(frozen=True)
class UnitCode:
    """The kernels of a unit and of all units like it: what each buffer is, by position."""

    kernels: tuple[CompiledKernel, ...]
    inputs: Mapping[Buffer, int]
    outputs: Mapping[Buffer, int]
    tables: Mapping[Buffer, Array]
    """Buffers of the code's own, with their contents."""
    temporaries: tuple[Buffer, ...]
    """Buffers that its kernels fill for each other."""


@dataclass(frozen=True, eq=False)
class NativeUnit:
    """A unit and its code."""

    unit: CompiledUnit
    code: UnitCode


@dataclass
class Compiled:
    """A graph, or part of one, as units in an order in which they can run."""

    units: list[NativeUnit | IslandUnit]
    survey: Survey
    traits: Mapping[Node, Traits | str]

    def holds(self, extents: Mapping[str, int], units: Iterable[NativeUnit]) -> bool:
        """Whether the code of ``units`` is made for ``extents``: shapes agree, reads stay inside.

        Rules of operators are asked anew, with numbers for symbols; nodes alike are asked once.
        """
        bound: dict[Atom, int] = {Symbol(name, 1): extent for name, extent in extents.items()}
        seen: set[object] = set()
        for node in (node for unit in units for node in unit.unit.nodes):
            traits, key = self.traits[node], self.survey.same[node]
            if key in seen or not isinstance(traits, Traits):
                continue
            seen.add(key)
            if not self._node_holds(node, traits, extents, bound):
                return False
        return True

    def _node_holds(
        self, node: Node, traits: Traits, extents: Mapping[str, int], bound: Mapping[Atom, int]
    ) -> bool:
        try:
            if traits.needs_check:
                self.survey.infer(node, extents)
        except NotLowered as reason:
            log.debug("%s: not as compiled: %s", node.label, reason)
            return False
        return all(b.holds(bound) for b in traits.bounds)


Key: TypeAlias = tuple[object, ...]


def compile_nodes(
    nodes: Sequence[Node], needed: Collection[Value], inference: Inference, symbols: Collection[str]
) -> Compiled:
    """Machine code for ``nodes``, in the order of their graph; ``needed`` are read by others."""
    survey = Survey(Lowering(inference, symbols))
    traits: dict[Node, Traits | str] = {node: survey.traits(node) for node in nodes}
    alone: set[Node] = set()
    codes: dict[Key, UnitCode] = {}
    while True:
        refused = False
        found: list[NativeUnit | IslandUnit] = []
        for unit in partition(nodes, traits, needed, alone):
            if isinstance(unit, IslandUnit):
                found.append(unit)
                continue
            key = _key(unit, survey)
            try:
                if key not in codes:
                    codes[key] = _code(unit, survey.lowering)
                found.append(NativeUnit(unit, codes[key]))
            except REFUSED as error:
                refused = True
                _refuse(unit, error, traits, alone)
        if not refused:
            return Compiled(found, survey, traits)


def _refuse(
    unit: CompiledUnit, error: Exception, traits: dict[Node, Traits | str], alone: set[Node]
) -> None:
    last = unit.nodes[-1]
    log.debug("%s: refused: %s", last.label, error)
    if len(unit.nodes) > 1:
        alone.update(unit.nodes)
    else:
        traits[last] = str(error)


def _code(unit: CompiledUnit, lowering: Lowering) -> UnitCode:
    """Lower, schedule, emit and link ``unit``."""
    lowered = lowering.unit(unit)
    name = "+".join(node.op_type for node in unit.nodes[-MAX_NAME_PARTS:])
    kernels = tuple(compile_stores(lowered.outputs, name, Target.host(), object_cache()))
    inputs = {b: unit.inputs.index(v) for b, v in lowered.arguments.items()}
    outputs = {b: unit.outputs.index(v) for b, v in lowered.results.items()}
    others = {b: None for kernel in kernels for b in kernel.arguments if b not in inputs | outputs}
    tables = {b: b.source.array for b in others if isinstance(b.source, Constant)}
    temporaries = tuple(b for b in others if b not in tables)
    return UnitCode(kernels, inputs, outputs, tables, temporaries)


MAX_NAME_PARTS = 4
"""Nodes that give a kernel its name."""


@functools.cache
def object_cache() -> ObjectCache:
    """The cache of machine code that all sessions of this process share."""
    return ObjectCache.default()


def _key(unit: CompiledUnit, survey: Survey) -> Key:
    """What units share whose code is the same: their nodes, and how these are joined."""
    numbers: dict[Value, object] = {value: index for index, value in enumerate(unit.inputs)}
    parts: list[object] = []
    for position, node in enumerate(unit.nodes):
        wiring = tuple(None if v is None else numbers.get(v, "unread") for v in node.inputs)
        parts.append((survey.same[node], wiring))
        numbers |= {value: (position, index) for index, value in enumerate(node.outputs)}
    return (*parts, tuple(numbers[value] for value in unit.outputs))
