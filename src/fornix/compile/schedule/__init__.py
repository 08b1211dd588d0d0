"""Computations to nests: which loops, in which order, which of them in vectors.

One module per kind of schedule; `schedule` picks the kind.
"""

from __future__ import annotations

from fornix.compile.nest import Nest
from fornix.compile.schedule.map import map_nest
from fornix.compile.target import Target
from fornix.ir.loops import Store


def schedule(store: Store, target: Target) -> Nest:
    """The nest that fills ``store``'s buffer."""
    return map_nest(store, target)


__all__ = ["schedule"]
