"""The optimizer: an ordered list of passes, one line each, with the level at which it begins.

Levels are onnxruntime's. Each pass receives a valid graph and leaves a valid one; with ``debug``
the verifier runs between them. A pass takes the graph and what inference knows, changes the graph
in place and returns how often it did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from fornix.errors import InvalidArgument
from fornix.infer import Inference, infer_model
from fornix.ir.graph import Graph, Model
from fornix.ir.verify import verify
from fornix.passes import canonicalize, fold_batchnorm, fuse_gelu, fuse_layernorm
from fornix.passes.apply import apply_rules
from fornix.passes.eliminate import eliminate_common, eliminate_dead
from fornix.passes.fold_constants import fold_constants
from fornix.passes.pattern import Rule

log = logging.getLogger(__name__)


class Level(IntEnum):
    """How much the optimizer may do; each level includes the ones before it."""

    NONE = 0
    BASIC = 1
    """What keeps every result as it is, or rounds it as the original does."""
    EXTENDED = 2
    """Fusions into operators of the standard, which may round differently."""
    ALL = 99


Run = Callable[[Graph, Inference], int]


@dataclass(frozen=True, slots=True)
class Pass:
    """One step of the pipeline."""

    name: str
    level: Level
    run: Run


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
)


def optimize(model: Model, level: Level | str = Level.ALL, *, debug: bool = False) -> Model:
    """A copy of ``model`` that computes the same with less work; names of outputs stay.

    ``level`` is a `Level` or its name in lower case. Raises InvalidArgument for another level.
    """
    level = _level(level)
    optimized = model.clone()
    if level is Level.NONE:
        return optimized
    inference = infer_model(optimized)
    for step in PIPELINE:
        if step.level <= level:
            count = step.run(optimized.graph, inference)
            log.debug("%s: %d changes", step.name, count)
            if debug:
                verify(optimized)
    return optimized


def _level(level: Level | str) -> Level:
    if isinstance(level, Level):
        return level
    if level.upper() not in Level.__members__:
        names = ", ".join(name.lower() for name in Level.__members__)
        raise InvalidArgument(f"optimize: level must be one of {names}, got {level!r}")
    return Level[level.upper()]
