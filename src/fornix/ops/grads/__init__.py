"""Derivatives: the ``grad`` rules of the operators, and what turns them into gradients of a graph.

A rule stands here and not in its operator's home because nothing but a Gradient asks for it: who
only runs models never loads these modules. They follow the families of `fornix.ops`. `node` says
what a rule sees, `reverse` walks a graph, `expand` replaces the Gradient nodes of a model.
"""

from __future__ import annotations

import importlib
from functools import cache

FAMILIES: tuple[str, ...] = (
    "elementwise",
    "activation",
    "shape",
    "move",
    "gather",
    "reduce",
    "linalg",
    "conv",
    "pool",
    "norm",
    "loss",
    "control",
)
"""Modules of this package that register rules."""


@cache
def load() -> None:
    """Register every rule."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
