"""Computations to nests: which loops, in which order, which of them in vectors.

One module per kind of schedule; `schedule` picks the kind.
"""

from __future__ import annotations

from fornix.compile.nest import Nest
from fornix.compile.schedule.map import map_nest
from fornix.compile.schedule.ordered import scan_nest, update_nest
from fornix.compile.target import Target
from fornix.errors import NotSupported
from fornix.ir.loops import Scan, Scatter, Store
from fornix.ir.loops.tensor import Computation


def schedule(source: Computation, target: Target) -> list[Nest]:
    """The nests that together, one after the other, do what ``source`` says."""
    match source:
        case Store():
            return [map_nest(source, target)]
        case Scan():
            return [scan_nest(source, target)]
        case Scatter():
            return [map_nest(source.base, target), update_nest(source, target)]
    raise NotSupported(f"{type(source).__name__} has no native code")


__all__ = ["schedule"]
