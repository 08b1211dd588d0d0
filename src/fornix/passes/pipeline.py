"""The optimizer: an ordered list of passes, one line each, with the level at which it begins.

Levels are onnxruntime's. Each pass receives a valid graph and leaves a valid one; with ``debug``
the verifier runs between them. A pass takes the graph and what inference knows, changes the graph
in place and returns how often it did what.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial

import numpy as np

from fornix.errors import InvalidArgument
from fornix.infer import Inference, infer_model
from fornix.ir.graph import Graph, Model
from fornix.ir.load import collector_paused
from fornix.ir.verify import verify
from fornix.ir.walk import nodes
from fornix.ops.microsoft import DOMAIN
from fornix.passes import (
    advance_pointwise,
    canonicalize,
    channels_first,
    few_bits,
    fold_affine,
    fold_batchnorm,
    fold_pad,
    fold_scales,
    fuse_activations,
    fuse_attention,
    fuse_gelu,
    fuse_gemm,
    fuse_layernorm,
    fuse_quantized,
    split_batches,
    trim_windows,
    unblock_filters,
)
from fornix.passes.apply import Changes, apply_rules
from fornix.passes.cancel_splits import cancel_splits
from fornix.passes.eliminate import eliminate_common, eliminate_dead, eliminate_stored
from fornix.passes.fold_constants import fold_constants
from fornix.passes.gather_counted import gather_counted
from fornix.passes.inline import inline_branches, inline_functions
from fornix.passes.join_columns import join_columns
from fornix.passes.pattern import Rule
from fornix.passes.push_transposes import push_transposes
from fornix.passes.raise_opset import raise_opset
from fornix.passes.spread_scans import spread_scans
from fornix.passes.unpack_sequences import unpack_sequences


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
Watch = Callable[[str, Model], None]
Look = Callable[[Graph, Inference], None]


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
    Pass("inline_branches", Level.BASIC, inline_branches),
    Pass("unblock_filters", Level.BASIC, unblock_filters.unblock_filters),
    Pass("channels_first", Level.BASIC, channels_first.channels_first),
    Pass("fuse_quantized", Level.EXTENDED, _rules(fuse_quantized.RULES)),
    Pass("fold_constants", Level.BASIC, fold_constants),
    Pass("eliminate_dead", Level.BASIC, eliminate_dead),
    Pass("gather_counted", Level.BASIC, gather_counted),
    Pass("unpack_sequences", Level.BASIC, unpack_sequences),
    Pass("canonicalize", Level.BASIC, _rules(canonicalize.RULES)),
    Pass("cancel_splits", Level.BASIC, cancel_splits),
    Pass("eliminate_common", Level.BASIC, eliminate_common),
    Pass("fold_batchnorm", Level.BASIC, _rules(fold_batchnorm.RULES)),
    Pass("fold_pad", Level.BASIC, _rules(fold_pad.RULES)),
    Pass("trim_windows", Level.BASIC, _rules(trim_windows.RULES)),
    Pass("fuse_gemm", Level.BASIC, _rules(fuse_gemm.RULES)),
    Pass("fuse_gelu", Level.EXTENDED, _rules(fuse_gelu.RULES)),
    Pass("fuse_activations", Level.EXTENDED, _rules(fuse_activations.RULES)),
    Pass("fuse_layernorm", Level.EXTENDED, _rules(fuse_layernorm.RULES)),
    Pass("fuse_attention", Level.EXTENDED, _rules(fuse_attention.RULES)),
    Pass("advance_pointwise", Level.EXTENDED, _rules(advance_pointwise.RULES)),
    Pass("push_transposes", Level.BASIC, push_transposes),
    Pass("canonicalize", Level.BASIC, _rules(canonicalize.RULES)),
    Pass("fold_affine", Level.EXTENDED, _rules(fold_affine.RULES)),
    Pass("fold_scales", Level.EXTENDED, _rules(fold_scales.RULES)),
    Pass("fold_constants", Level.BASIC, fold_constants),
    Pass("eliminate_dead", Level.BASIC, eliminate_dead),
    Pass("eliminate_stored", Level.BASIC, eliminate_stored),
)


FIRST = (
    Pass("sort_columns", Level.BASIC, _rules(few_bits.sort_columns)),
    Pass(
        "quantize_as_the_standard", Level.EXTENDED, _rules(fuse_quantized.quantize_as_the_standard)
    ),
    Pass("keep_few_bits", Level.EXTENDED, few_bits.keep_few_bits),
    Pass("dequantize_bytes", Level.EXTENDED, _rules(fuse_quantized.dequantize_bytes)),
    Pass("spread_scans", Level.BASIC, spread_scans),
    Pass("join_columns", Level.BASIC, join_columns),
    Pass("split_batches", Level.BASIC, _rules(split_batches.RULES)),
)
"""What the engine has done ahead of the rest, before numbers are folded."""
LAST = (
    Pass("round_weights", Level.BASIC, few_bits.round_weights),
    Pass("eliminate_dead", Level.BASIC, eliminate_dead),
    Pass("eliminate_stored", Level.BASIC, eliminate_stored),
)
"""What is done at its end, on request."""
OF_BYTES: dict[str, Run] = {
    "keep_few_bits": partial(few_bits.keep_few_bits, accuracy=few_bits.COARSE),
    "round_weights": partial(few_bits.round_weights, accuracy=few_bits.COARSE),
}
"""What passes do where rows may be rounded, too."""


@dataclass(frozen=True, slots=True)
class Native:
    """What the engine asks for besides: operators that no written model is to contain."""

    rounds_weights: bool = False
    """Whether stored matrices of products may be rounded to 8 bits."""
    rounds_rows: bool = False
    """Whether so may rows that meet matrices of few bits."""


def _unwatched(_name: str, _model: Model) -> None:
    """Nobody watches."""


def _unseen(_graph: Graph, _inference: Inference) -> None:
    """Nobody looks."""


def optimize(
    model: Model,
    level: Level | str = Level.ALL,
    *,
    opset: int | None = None,
    inline: bool = False,
    debug: bool = False,
    native: Native | None = None,
    look: Look = _unseen,
) -> Model:
    """A copy of ``model`` that computes the same with less work; names of outputs stay.

    ``level`` is a `Level` or its name in lower case. With ``opset`` the model may come to import
    that version of ai.onnx, if all of its nodes mean the same there, so that newer operators can be
    used; with ``inline`` calls of model functions are replaced by their bodies. ``debug`` verifies
    the graph after each pass. With ``native`` the result is for the engine, which knows operators
    besides the standard's. A model that cannot run as the standard has it stays as it is, for the
    kernels to say what is wrong with which node. ``look`` is given the graph before the first pass.
    Raises InvalidArgument for another level.
    """
    with collector_paused(), np.errstate(all="ignore"):  # as kernels compute
        found = _optimized(
            model, _level(level), opset, _unwatched, look, inline=inline, debug=debug, native=native
        )
    return found[0]


def optimize_explained(
    model: Model,
    level: Level | str = Level.ALL,
    *,
    opset: int | None = None,
    inline: bool = False,
    debug: bool = False,
    native: Native | None = None,
    watch: Watch = _unwatched,
) -> tuple[Model, list[Step]]:
    """Like `optimize`, with what each pass did, in order.

    ``watch`` is called with the model as it is given, and again after each pass, with its name.
    """
    with collector_paused(), np.errstate(all="ignore"):  # as kernels compute
        return _optimized(
            model, _level(level), opset, watch, _unseen, inline=inline, debug=debug, native=native
        )


def _optimized(
    model: Model,
    level: Level,
    opset: int | None,
    watch: Watch,
    look: Look,
    *,
    inline: bool,
    debug: bool,
    native: Native | None,
) -> tuple[Model, list[Step]]:
    optimized = model.clone()
    steps: list[Step] = []
    watch("", optimized)

    def run(name: str, change: Callable[[], Changes]) -> None:
        before, start = _size(optimized), time.perf_counter()
        changes = change()
        seconds = time.perf_counter() - start
        steps.append(Step(name, changes, before, _size(optimized), seconds))
        watch(name, optimized)
        if debug:
            verify(optimized)

    if level is Level.NONE:
        return optimized, steps
    if inline:
        run("inline_functions", lambda: inline_functions(optimized))
    if opset is not None:
        run("raise_opset", lambda: raise_opset(optimized, opset))
    if native is not None:
        optimized.opset_imports.setdefault(DOMAIN, 1)
    inference = infer_model(optimized)
    look(optimized.graph, inference)
    for step in _passes(native):
        if step.level <= level:
            run(step.name, partial(step.run, optimized.graph, inference))
        if _is_broken(optimized, inference):  # and not in a branch that is never taken
            break
    return optimized, steps


def _passes(native: Native | None) -> tuple[Pass, ...]:
    """The passes in their order."""
    if native is None:
        return PIPELINE
    passes = (*FIRST, *PIPELINE, *(LAST if native.rounds_weights else ()))
    if not native.rounds_rows:
        return passes
    return tuple(replace(step, run=OF_BYTES.get(step.name, step.run)) for step in passes)


def _is_broken(model: Model, inference: Inference) -> bool:
    """Whether a node of ``model`` cannot run; passes rely on what such nodes do not keep."""
    broken = inference.broken
    return bool(broken) and any(node in broken for node in nodes(model.graph))


def _size(model: Model) -> int:
    return sum(1 for _ in nodes(model.graph))


def _level(level: Level | str) -> Level:
    if isinstance(level, Level):
        return level
    if level.upper() not in Level.__members__:
        names = ", ".join(name.lower() for name in Level.__members__)
        raise InvalidArgument(f"optimize: level must be one of {names}, got {level!r}")
    return Level[level.upper()]
