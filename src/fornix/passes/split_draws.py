"""Random numbers as two parts: one that draws them, and the arithmetic that compiled code does.

For sessions alone, as `split_counted`; everything is computed as the kernels do it.

1. RandomNormal and its kin: y = mean + scale · drawn, in float64; RandomUniform's likewise, with
   low and high − low.
2. Bernoulli: where drawn < chance.
3. Multinomial of few samples: how many of the sums of e^(x − max x) are at most drawn · the last.
4. Dropout in training: where drawn ≥ ratio the data by 1 / (1 − ratio), else 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, INT64, DType
from fornix.infer import Inference
from fornix.ir.graph import Model, Node, Value
from fornix.ops import PART_DOMAIN
from fornix.ops.drawn import NORMAL, UNIFORM
from fornix.ops.fact import Fact
from fornix.passes.apply import replace
from fornix.passes.make import Maker

SINCE = 13
"""The opset from which on all that is made here is as it is written here."""
AXES_AS_INPUT = 18
"""The opset from which on ReduceMax is told its axes by an input."""
MAX_SAMPLES = 8
"""Of Multinomial: each is compared to all sums, where its kernel looks for its place."""


def split_draws(model: Model, inference: Inference) -> bool:
    """Take nodes of the main graph apart; whether there were any."""
    found = [n for n in model.graph.nodes if not n.domain and n.op_type in _SPLITS]
    if not found or model.opset_imports.get("", 0) < SINCE:
        return False
    was_imported = PART_DOMAIN in model.opset_imports
    model.opset_imports.setdefault(PART_DOMAIN, 1)
    changed = False
    for node in found:
        parts = _Parts(node, model, inference)
        results = _SPLITS[node.op_type](parts) if parts.are_plain else None
        if results is not None:
            replace(node, results, inference)
            changed = True
    if not changed and not was_imported:
        model.opset_imports.pop(PART_DOMAIN)
    return changed


class _Parts:
    """A node, what it is given, and what makes others ahead of it."""

    def __init__(self, node: Node, model: Model, inference: Inference) -> None:
        self.node, self.inference = node, inference
        self.make = Maker(node, model.graph, inference)
        self.given: Mapping[str, Any] = {key: a.value for key, a in node.attributes.items()}

    def fact(self, place: int) -> Fact:
        """What is known of an input."""
        given = self.node.inputs[place] if place < len(self.node.inputs) else None
        return Fact() if given is None else self.inference.fact(given)

    @property
    def are_plain(self) -> bool:
        """Whether the result is of known rank, and has elements as far as that is known."""
        fact = self.inference.fact(self.node.outputs[0])
        return fact.has_rank and 0 not in fact.shape and fact.dtype is not None

    @property
    def dtype(self) -> DType:
        """The type of the result."""
        return self.inference.fact(self.node.outputs[0]).dtype or FLOAT32

    def cast(self, value: Value, dtype: DType) -> Value:
        """``value`` as one of that type."""
        is_so = self.inference.fact(value).dtype is dtype
        return value if is_so else self.make.Cast(value, to=dtype.code)

    def drawn(self, kind: str, like: Value | None) -> Value:
        """Numbers in the shape of a value, or in that which an attribute tells."""
        seed, shape = self.given.get("seed"), self.given.get("shape")
        return self.make.Drawn(like, kind=kind, seed=seed, shape=shape, domain=PART_DOMAIN)


def _normal(parts: _Parts) -> list[Value] | None:
    given = parts.given
    return _scaled(parts, NORMAL, given.get("mean", 0.0), given.get("scale", 1.0))


def _uniform(parts: _Parts) -> list[Value] | None:
    low, high = parts.given.get("low", 0.0), parts.given.get("high", 1.0)
    return _scaled(parts, UNIFORM, low, high - low)


def _scaled(parts: _Parts, kind: str, first: float, span: float) -> list[Value] | None:
    if span < 0:  # which the kernel refuses
        return None
    make = parts.make
    found = parts.drawn(kind, parts.node.inputs[0] if parts.node.inputs else None)
    if span != 1:
        found = make.Mul(found, np.float64(span))
    if first:
        found = make.Add(found, np.float64(first))
    return [parts.cast(found, parts.dtype)]


def _bernoulli(parts: _Parts) -> list[Value] | None:
    (x,) = parts.node.inputs
    if x is None or parts.fact(0).rank == 0:
        return None
    hits = parts.make.Hits(parts.cast(x, FLOAT64), parts.drawn(UNIFORM, x), domain=PART_DOMAIN)
    return [parts.cast(hits, parts.dtype)]


def _multinomial(parts: _Parts) -> list[Value] | None:
    (x,), make, fact = parts.node.inputs, parts.make, parts.fact(0)
    count = int(parts.given.get("sample_size", 1))
    if x is None or not fact.has_rank or not 1 <= count <= MAX_SAMPLES:
        return None
    one, two, last = (np.array([number]) for number in (1, 2, -1))
    wide = parts.cast(x, FLOAT64)
    by_input = make.opset >= AXES_AS_INPUT
    most = make.ReduceMax(wide, one) if by_input else make.ReduceMax(wide, axes=[1])
    sums = make.CumSum(make.Exp(make.Sub(wide, most)), np.array(1))
    total = make.Slice(sums, last, np.array([2**63 - 1]), one)
    drawn = parts.drawn(UNIFORM, make.Expand(total, np.array([1, count])))
    points = make.Unsqueeze(make.Mul(drawn, total), two)
    below = make.LessOrEqual(make.Unsqueeze(sums, one), points)
    places = make.ReduceSum(make.Cast(below, to=INT64.code), two, keepdims=0)
    return [parts.cast(places, parts.dtype)]


def _dropout(parts: _Parts) -> list[Value] | None:
    x, make = parts.node.inputs[0], parts.make
    ratio, trains = (_number(parts.fact(place), unless) for place, unless in ((1, 0.5), (2, 0)))
    if x is None or not trains or ratio is None or not 0 < ratio < 1 or "seed" in parts.given:
        return None
    if parts.dtype not in {FLOAT32, FLOAT64}:
        return None
    kept = make.GreaterOrEqual(parts.drawn(UNIFORM, x), np.float64(ratio))
    kind = parts.dtype.numpy.type
    scaled = make.Mul(x, kind(1 / (1 - ratio)))
    return [make.Where(kept, scaled, kind(0)), kept]


def _number(fact: Fact, unless: float) -> float | None:
    """The one number that an input holds, which is ``unless`` where it is left out."""
    if fact.type is None:
        return unless
    found = fact.constant
    return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else None


_SPLITS: dict[str, Callable[[_Parts], list[Value] | None]] = {
    "Bernoulli": _bernoulli,
    "Dropout": _dropout,
    "Multinomial": _multinomial,
    "RandomNormal": _normal,
    "RandomNormalLike": _normal,
    "RandomUniform": _uniform,
    "RandomUniformLike": _uniform,
}
