"""Slices whose bounds only a run tells: of one axis each, and those of one entry as Gather.

For sessions alone: of one axis at a time formulas tell whether it stays within its data, so that
compiled code has all of them, in one loop. x[i:i+1] has one entry, wherever it has any: as Gather
gives it, whatever i is. Where there is none, Gather ends the run, and kernels do it as it was.
Decides which nodes are rewritten: those of the main graph whose axes and steps are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.dtype import BOOL
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim, is_nonnegative
from fornix.ir.graph import Model, Node, Value
from fornix.ops.slice import cut_axes
from fornix.passes.apply import attempt, replace
from fornix.passes.make import Maker

SINCE = 10
"""The opset from which on bounds are inputs."""
MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that give the number that they read."""
STEPS = MOVES | {"Add", "Sub"}
"""Those of which the result is as much more than what they read as a stored number says."""


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
    if not isinstance(count, int):
        return None
    is_forward = stored[1] is None or bool((stored[1] == 1).all())
    is_one = is_forward and _has_code(data, make) and _follows(ends, starts, make)
    if count == 0 or (count == 1 and not is_one):
        return None
    named = None if stored[0] is None else stored[0].tolist()
    places = cut_axes(make.fact(data).rank, count, named)
    for number, axis in enumerate(places):
        if is_one:
            place = _in_place(_entry(starts, number, make), make)
            data = make.Gather(data, place, axis=axis)
            continue
        bounds = (_entry(bound, number, make) for bound in (starts, ends))
        strides = [] if stored[1] is None else [stored[1][[number]]]
        data = make.Slice(data, *bounds, np.array([axis], _kind(starts, make)), *strides)
    return data


def _has_code(data: Value, make: Maker) -> bool:
    """Whether entries of ``data`` are gathered by code, which leaves it to kernels to have none.

    Where there are no elements, or none that code holds, the kernel of Gather would end the run.
    """
    fact = make.fact(data)
    dtype = fact.dtype
    is_held = dtype is not None and (dtype.is_float or dtype.is_integer or dtype is BOOL)
    return is_held and all(is_nonnegative(extent - 1) is True for extent in fact.shape)


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
    if make.fact(bounds).shape == (1,):
        return bounds
    return make.Gather(bounds, np.array([number], np.int64), axis=0)


def _follows(ends: Value, starts: Value, make: Maker) -> bool:
    """Whether each of ``ends`` is one more than that of ``starts``."""
    (value, last), (base, first) = _offset(ends, make), _offset(starts, make)
    return value is base and last == first + 1


def _offset(value: Value, make: Maker) -> tuple[Value, int]:
    """What ``value`` is more than another one, and by how much."""
    node, offset = value.producer, 0
    while node is not None and not node.domain and node.op_type in STEPS:
        one, other = (*node.inputs, None)[:2]
        if node.op_type in MOVES:
            other = None
        elif node.op_type == "Add" and one is not None and make.fact(one).constant is not None:
            one, other = other, one
        added = None if other is None else make.fact(other).constant
        if one is None or (other is not None and (added is None or added.size != 1)):
            break
        if added is not None:
            offset += int(added.item()) * (-1 if node.op_type == "Sub" else 1)
        value, node = one, one.producer
    return value, offset


def _in_place(start: Value, make: Maker) -> Value:
    """``start``; below 0, where it would count from the end, a place that there is not."""
    kind = _kind(start, make)
    beyond = np.array(np.iinfo(kind).max, kind)
    return make.Where(make.Less(start, np.array(0, kind)), beyond, start)


def _kind(bounds: Value, make: Maker) -> np.dtype[Any]:
    """The dtype of ``bounds``, which those of all inputs but the first are."""
    dtype = make.fact(bounds).dtype
    return np.dtype(np.int64) if dtype is None else dtype.numpy
