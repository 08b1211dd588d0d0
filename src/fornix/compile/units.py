"""Units: nodes of a graph that become kernels together, or that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fornix.compile.notes import UnitCode
from fornix.ir.graph import Node, Value


@dataclass(frozen=True, eq=False)
class CompiledUnit:
    """Nodes that become one group of kernels, in order; the last one is what they serve."""

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class IslandUnit:
    """A node that runs its NumPy kernel, and why."""

    node: Node
    reason: str


@dataclass(frozen=True, eq=False)
class NativeUnit:
    """A unit and its code."""

    unit: CompiledUnit
    code: UnitCode


Unit: TypeAlias = CompiledUnit | IslandUnit
