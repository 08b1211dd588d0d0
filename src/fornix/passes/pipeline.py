"""The optimizer: an ordered list of passes, one line each, with the level at which it begins.

Levels are onnxruntime's. Each pass receives a valid graph and leaves a valid one; with ``debug``
the verifier runs between them. A pass takes the graph and what inference knows, changes the graph
in place and returns how often it did what.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from fornix.errors import InvalidArgument
from fornix.infer import Inference, infer_model
from fornix.ir.graph import Graph, Model
from fornix.ir.verify import verify
from fornix.ir.walk import nodes
from fornix.passes import canonicalize, fold_batchnorm, fuse_gelu, fuse_layernorm
from fornix.passes.apply import Changes, apply_rules
from fornix.passes.eliminate import eliminate_common, eliminate_dead, eliminate_stored
from fornix.passes.fold_constants import fold_constants
from fornix.passes.pattern import Rule


class Level(IntEnum):
    """How much the optimizer may do; each level includes the ones before it."""

    NONE = 0
    BASIC = 1
    """What keeps every result, up to the rounding of factors that are multiplied ahead of time."""
    EXTENDED = 2
    """Fusions into operators of the standard: they round differently, and where a step on the way
    was not finite, they may give what the operator says instead of NaN."""
    ALL = 99


Run = Callable[[Graph, Inference], Changes]


@dataclass(frozen=True, slots=True)
class Pass:
    """One step of the pipeline."""

    name: str
    level: Level
    run: Run


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass did to a model."""

    name: str
    changes: Changes
    nodes_before: int
    nodes_after: int
    """Nodes of the graph, those in subgraphs included."""
    seconds: float


def _rules(rules: tuple[Rule, ...]) -> Run:
    return lambda graph, inference: apply_rules(graph, rules, inference)


PIPELINE = (
    Pass("fold_constants", Level.BASIC, fold_constants),
    Pass("eliminate_dead", Level.BASIC, eliminate_dead),
    Pass("canonicalize", Level.BASIC, _rules(canonicalize.RULES)),
    Pass("eliminate_common", Level.BASIC, eliminate_common),
    Pass("fold_batchnorm", Level.BASIC, _rules(fold_batchnorm.RULES)),
    Pass("fuse_gelu", Level.EXTENDED, _rules(fuse_gelu.RULES)),
    Pass("fuse_layernorm", Level.EXTENDED, _rules(fuse_layernorm.RULES)),
    Pass("fold_constants", Level.BASIC, fold_constants),
    Pass("eliminate_dead", Level.BASIC, eliminate_dead),
    Pass("eliminate_stored", Level.BASIC, eliminate_stored),
)


def optimize(model: Model, level: Level | str = Level.ALL, *, debug: bool = False) -> Model:
    """A copy of ``model`` that computes the same with less work; names of outputs stay.

    ``level`` is a `Level` or its name in lower case. Raises InvalidArgument for another level.
    """
    return optimize_explained(model, level, debug=debug)[0]


def optimize_explained(
    model: Model, level: Level | str = Level.ALL, *, debug: bool = False
) -> tuple[Model, list[Step]]:
    """Like `optimize`, with what each pass did, in order."""
    level = _level(level)
    optimized = model.clone()
    steps: list[Step] = []
    if level is Level.NONE:
        return optimized, steps
    inference = infer_model(optimized)
    before = _size(optimized)
    for step in PIPELINE:
        if step.level > level:
            continue
        start = time.perf_counter()
        changes = step.run(optimized.graph, inference)
        seconds = time.perf_counter() - start
        after = _size(optimized)
        steps.append(Step(step.name, changes, before, after, seconds))
        before = after
        if debug:
            verify(optimized)
    return optimized, steps


def _size(model: Model) -> int:
    return sum(1 for _ in nodes(model.graph))


def _level(level: Level | str) -> Level:
    if isinstance(level, Level):
        return level
    if level.upper() not in Level.__members__:
        names = ", ".join(name.lower() for name in Level.__members__)
        raise InvalidArgument(f"optimize: level must be one of {names}, got {level!r}")
    return Level[level.upper()]
