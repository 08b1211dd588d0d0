"""Units to steps: what a provider of machine code makes of its nodes when a session is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fornix.compile.program import Compiled, compile_nodes, support
from fornix.compile.target import Target
from fornix.compile.units import IslandUnit, NativeUnit
from fornix.ir.graph import Value
from fornix.ir.walk import captured_values
from fornix.runtime.bodies import compile_bodies
from fornix.runtime.generic import ShortWay, symbols_of
from fornix.runtime.native import NativeStep
from fornix.runtime.packing import StoredData
from fornix.runtime.providers import KernelStep, Part, Step


def native_steps(part: Part) -> list[Step]:
    """Steps for ``part``: compiled units in rows, NumPy kernels between them."""
    target = dataclasses.replace(Target.host(), is_strict=part.options.is_strict)
    names = part.symbols | part.learned
    compiled = compile_nodes(part.nodes, part.needed, part.inference, names, target)
    rows: list[list[NativeUnit] | IslandUnit] = []
    for unit in compiled.units:
        if isinstance(unit, IslandUnit):
            rows.append(unit)
        elif rows and isinstance(rows[-1], list):
            rows[-1].append(unit)
        else:
            rows.append([unit])
    steps: list[Step] = []
    for row in rows:
        if isinstance(row, IslandUnit):
            planned = part.plan.steps_by_node[row.node]
            compile_bodies(row.node, part.plan, part.options)
            step = KernelStep(planned, part.plan, row.reason)
            if row.node.graphs:
                from fornix.runtime.collecting import way_of  # noqa: PLC0415 - of control flow

                step.way = way_of(step)
            steps.append(step)
        else:
            needed = part.needed | _read_outside(row, compiled.units)
            steps.append(_native_step(row, needed, part, compiled))
    return steps


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


def _native_step(
    units: Sequence[NativeUnit], needed: frozenset[Value], part: Part, compiled: Compiled
) -> NativeStep:
    made = dict.fromkeys(value for unit in units for value in unit.unit.outputs)
    read = dict.fromkeys(value for unit in units for value in unit.unit.inputs)
    reads = [v for v in read if v not in made and v.constant is None]
    writes = [v for v in made if v in needed]
    data = (StoredData.of if part.packs else StoredData.later)(units, part.pool)
    rest = compiled if compiled.is_conditional(units) else None
    step = NativeStep(units, (reads, writes), data, part.pool, support(), rest)
    step.short = ShortWay(step, sorted(part.symbols))
    step.learned = part.learned & symbols_of(step)
    return step
