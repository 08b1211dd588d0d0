"""Units to steps: what a provider of machine code makes of its nodes when a session is made."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from fornix.compile.program import compile_nodes, support, texts
from fornix.compile.target import Target
from fornix.compile.units import IslandUnit, NativeUnit
from fornix.dtype import STRING
from fornix.ir.dim import Dim
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.ir.walk import captured_values
from fornix.runtime.control.bodies import compile_bodies, declare_carried
from fornix.runtime.native import NativeStep
from fornix.runtime.options import SessionOptions
from fornix.runtime.packing import StoredData
from fornix.runtime.providers import KernelStep, Part, Step, TextCode
from fornix.runtime.shortcuts.generic import ShortWay
from fornix.runtime.sizing.learned import Formulas, Kernels, Learned, Sources, values_of
from fornix.runtime.sizing.learning import deciding, name_learned
from fornix.runtime.text.tables import text_family

log = logging.getLogger(__name__)

HALVES = "avx512bf16"
"""The instructions that multiply bfloat16s."""


def _target(options: SessionOptions) -> Target:
    """The processor at hand, and what is asked of it."""
    host = Target.host()
    rounds = options.rounds_products and host.has(HALVES)
    if options.rounds_products and not rounds:
        log.warning("fornix.products has no effect: the processor does not multiply bfloat16s")
    return dataclasses.replace(host, is_strict=options.is_strict, rounds_products=rounds)


def native_steps(part: Part) -> list[Step]:
    """Steps for ``part``: compiled units in rows, NumPy kernels between them."""
    return _Preparing(part).steps()


@dataclass
class _Preparing:
    """A part on its way to steps."""

    part: Part

    def __post_init__(self) -> None:
        part = self.part
        target = _target(part.options)
        self.inference = dataclasses.replace(part.inference, facts=dict(part.inference.facts))
        self.sources = name_learned(part.nodes, self.inference, part.symbols, is_wary=part.is_wary)
        self.needed = part.needed | frozenset(values_of(self.sources))
        told = {name: source.value for name, source in self.sources.items()}
        self.compiled = compile_nodes(
            part.nodes, self.needed, self.inference, part.symbols, target, told,
            is_wary=part.is_wary,
        )  # fmt: skip

    def steps(self) -> list[Step]:
        """The steps in an order in which they can run."""
        steps: list[Step] = []
        for row in self._rows():
            if isinstance(row, IslandUnit):
                steps.append(self._island_step(row))
            else:
                steps.append(self._native_step(row))
        return steps

    def _rows(self) -> list[list[NativeUnit] | IslandUnit]:
        """Units that one step runs, and those without machine code.

        A step begins anew where a unit needs a number that another one of it computes, and where
        what it gives may be empty when the rest is not, or the other way round.
        """
        rows: list[list[NativeUnit] | IslandUnit] = []
        for unit in self.compiled.units:
            last = rows[-1] if rows else None
            if isinstance(unit, IslandUnit):
                rows.append(unit)
            elif isinstance(last, list) and not self._parts_from(unit, last):
                last.append(unit)
            else:
                rows.append([unit])
        return rows

    def _waits(self, unit: NativeUnit, others: Iterable[NativeUnit]) -> bool:
        """Whether a symbol of ``unit`` stands for a number that ``others`` compute."""
        if not self.sources:
            return False
        made = {value for other in others for value in other.unit.outputs}
        return any(value in made for value in values_of(self._sources_of([unit])))

    def _parts_from(self, unit: NativeUnit, others: Sequence[NativeUnit]) -> bool:
        """Whether ``unit`` begins another step than that of ``others``."""
        return bool(self.sources) and (
            self._waits(unit, others)
            or self._learned_extents(unit) != self._learned_extents(others[0])
        )

    def _learned_extents(self, unit: NativeUnit) -> frozenset[str]:
        """The learned symbols in extents of what ``unit`` gives."""
        shapes = [self.inference.fact(value).shape for value in unit.unit.outputs]
        names = (
            name for shape in shapes for d in shape if isinstance(d, Dim) for name in d.symbols
        )
        return frozenset(names) & self.sources.keys()

    def _sources_of(self, units: Iterable[NativeUnit]) -> Sources:
        """What tells the learned symbols in extents that ``units`` handle, and in their code."""
        if not self.sources:
            return {}
        names: set[str] = set()
        for unit in units:
            names.update(name for kernel in unit.code.kernels for name in kernel.symbols)
            for node in unit.unit.nodes:
                names.update(s for d in self._extents_of(node) for s in d.symbols)
        return {name: source for name, source in self.sources.items() if name in names}

    def _extents_of(self, node: Node) -> Iterator[Dim]:
        """The symbolic extents of what ``node`` reads and makes, and contents that decide them."""
        facts = [self.inference.fact(v) for v in (*node.inputs, *node.outputs) if v is not None]
        entries = [extent for fact in facts if fact.has_rank for extent in fact.shape]
        for value in deciding(node):
            known = self.inference.fact(value).value
            entries += () if known is None else known.flat
        yield from (entry for entry in entries if isinstance(entry, Dim))

    def _island_step(self, island: IslandUnit) -> KernelStep:
        step = self._kernel_step(island.node, island.reason)
        declare_carried(island.node, self.inference)
        self._declare_texts(island.node)
        compile_bodies(island.node, self.part.plan, self.part.options, self.part.shelf)
        family = text_family(island.node)
        if family:
            step.code = TextCode(*texts(family), support())
        if island.node.graphs:
            from fornix.runtime.control.collecting import way_of  # noqa: PLC0415 - of control flow

            step.way = way_of(step, self.part.shelf)
        return step

    def _declare_texts(self, node: Node) -> None:
        """Let what nobody declares be texts where it is; of Cast, what these are made of too."""
        values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type is None]
        for value in values:
            type_ = self.inference.fact(value).type
            dtype = type_.dtype if isinstance(type_, TensorType) else None
            if dtype is STRING or (dtype is not None and node.op_type == "Cast"):
                value.type = TensorType(dtype, None)

    def _kernel_step(self, node: Node, reason: str) -> KernelStep:
        plan = self.part.plan
        return KernelStep(plan.steps_by_node[node], plan, reason)

    def _native_step(self, units: Sequence[NativeUnit]) -> NativeStep:
        part, compiled = self.part, self.compiled
        needed = self.needed | _read_outside(units, compiled.units)
        made = dict.fromkeys(value for unit in units for value in unit.unit.outputs)
        read = dict.fromkeys(value for unit in units for value in unit.unit.inputs)
        reads = [v for v in read if v not in made and v.constant is None]
        writes = [v for v in made if v in needed]
        data = (StoredData.of if part.packs else StoredData.later)(units, part.pool)
        rest = compiled if compiled.is_conditional(units) else None
        agreement = None if rest else ((), ())
        step = NativeStep(units, (reads, writes), data, part.pool, support(), rest, agreement)
        sources = self._sources_of(units)
        if sources:
            step.learn(Learned(sources, cache(lambda: self._kernels_of(units, reads))))
        step.short = ShortWay([step], sorted(part.symbols))
        return step

    def _kernels_of(self, units: Sequence[NativeUnit], given: Sequence[Value]) -> Kernels:
        """The NumPy kernels of the nodes of ``units``, in their order; they are ``given`` values.

        Beside these they read what formulas tell: code needs no array for it, nor for extents.
        """
        inside = {node for unit in units for node in unit.unit.nodes}
        reason = "its code is not made for what this run has learned"
        nodes = [node for node in self.part.nodes if node in inside]
        read = {v: v.constant for node in nodes for v in node.inputs if v is not None}
        stored = {v: tensor.numpy() for v, tensor in read.items() if tensor is not None}
        found = Kernels([], stored, told := dict[Value, Formulas]())
        known = {*given, *stored}
        for node in nodes:
            missing = {v for v in node.inputs if v is not None} - known
            told |= self._formulas(missing)
            results = {} if missing <= told.keys() else self._formulas(node.outputs)
            told |= results
            if len(results) < len(node.outputs):
                found.steps.append(self._kernel_step(node, reason))
            known.update(told, node.outputs)
        return found

    def _formulas(self, values: Iterable[Value]) -> dict[Value, Formulas]:
        """What ``values`` hold, of those of which inference knows that."""
        facts = {value: self.inference.fact(value) for value in values}
        return {
            value: Formulas(list(known.flat), known.shape, fact.dtype.numpy)
            for value, fact in facts.items()
            if (known := fact.value) is not None and fact.dtype and None not in known.flat
        }


def _read_outside(
    row: Sequence[NativeUnit], units: Sequence[NativeUnit | IslandUnit]
) -> frozenset[Value]:
    """Values that units outside of ``row`` read."""
    inside = set(row)
    found: set[Value] = set()
    for unit in units:
        if isinstance(unit, IslandUnit):
            captured = captured_values(unit.node) if unit.node.graphs else ()
            found.update(v for v in (*unit.node.inputs, *captured) if v is not None)
        elif unit not in inside:
            found.update(unit.unit.inputs)
    return frozenset(found)
