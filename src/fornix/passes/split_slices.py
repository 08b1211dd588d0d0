"""Slices of several axes, where only a run tells the bounds, as Slices of one axis each.

For sessions alone: of one axis at a time formulas tell whether it stays within its data, so that
compiled code has all of them, in one loop. Decides which nodes are split: those of the main graph
whose axes and steps are stored.
"""

from __future__ import annotations

import numpy as np

from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim
from fornix.ir.graph import Model, Node, Value
from fornix.ops.slice import cut_axes
from fornix.passes.apply import attempt, replace
from fornix.passes.make import Maker

SINCE = 10
"""The opset from which on bounds are inputs."""


def split_slices(model: Model, inference: Inference) -> bool:
    """Split nodes of the main graph; whether there were any."""
    if model.opset_imports.get("", 0) < SINCE:
        return False
    changed = False
    for node in [n for n in model.graph.nodes if n.op_type == "Slice" and not n.domain]:
        if node in inference.broken:
            continue
        result = attempt("split_slices", _split, node, Maker(node, model.graph, inference))
        if result is not None:
            replace(node, [result], inference)
            changed = True
    return changed


def _split(node: Node, make: Maker) -> Value | None:
    """What stands for the result of ``node``; None where it is not to be split."""
    data, starts, ends, axes, steps = (*node.inputs, None, None)[:5]
    if data is None or starts is None or ends is None:
        return None
    if not (_is_open(starts, make) or _is_open(ends, make)):
        return None
    stored = [None if v is None else make.fact(v).constant for v in (axes, steps)]
    if any(v is not None and c is None for v, c in zip((axes, steps), stored, strict=True)):
        return None
    (count,) = make.fact(starts).shape
    if not isinstance(count, int) or count < 2:
        return None
    named = None if stored[0] is None else stored[0].tolist()
    places = cut_axes(make.fact(data).rank, count, named)
    for number, axis in enumerate(places):
        bounds = (_entry(bound, number, make) for bound in (starts, ends))
        strides = [] if stored[1] is None else [stored[1][[number]]]
        data = make.Slice(data, *bounds, np.array([axis], np.int64), *strides)
    return data


def _is_open(bounds: Value, make: Maker) -> bool:
    """Whether nobody knows some of ``bounds`` ahead of a run."""
    fact = make.fact(bounds)
    if fact.constant is not None:
        return False
    if fact.value is None:
        return True
    return any(e is None or (isinstance(e, Dim) and has_unknown(e)) for e in fact.value.flat)


def _entry(bounds: Value, number: int, make: Maker) -> Value:
    """One of ``bounds``, as a list."""
    stored = make.fact(bounds).constant
    if stored is not None:
        return make.value(stored[[number]])
    return make.Gather(bounds, np.array([number], np.int64), axis=0)
