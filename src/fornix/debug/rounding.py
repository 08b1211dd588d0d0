"""What rounding explains: how far a correct evaluation of some nodes may lie from the exact one.

A computed result is the exact one of inputs that are off a little (backward error). Adding n terms
in any order is off by about u·√n, u being the unit roundoff of the type: errors behave like a
random walk (Higham & Mary 2019, "A new approach to probabilistic rounding error analysis"). So the
nodes are evaluated in double precision on inputs that are off by h = 8·u·√n, at every node, some
times: what comes out differently, rounding may have made so. That covers cancellation,
amplification from node to node, and decisions (Round, Greater, TopK) that are close.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from fornix.debug.chance import is_random
from fornix.debug.measure import Gap, gap
from fornix.debug.part import (
    DOUBLE,
    OWN,
    Arithmetic,
    Array,
    Given,
    Part,
    double,
    is_float,
    magnitude,
)
from fornix.dtype import FLOAT32, DType
from fornix.errors import FornixError
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
from fornix.ops.call import REFUSALS

SAFETY = 8.0
"""√2 for two that err, times the 5 to 6 standard deviations of the worst of a million elements."""
ULPS = 2.0
"""What two results that are rounded once may differ by, in units of the last place."""
PERIOD = 65_537
"""Noise repeats after so many elements: a prime, which no extent divides."""
DRAWS = 5
"""Two that move one input alone, up and down, for decisions, and three by chance."""
INSIDE = 4.0
"""Units of roundoff of the largest result: Gelu, Sigmoid and their like cancel inside."""
WINOGRAD = 4e-5
"""Twice the error of Winograd's algorithm, relative to the largest result of a convolution."""

EXACT = frozenset(
    """Abs And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil
    Clip Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Equal Expand
    EyeLike Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity IsInf IsNaN
    Less LessOrEqual Max MaxPool Min Neg NonZero Not OneHot Or Pad ReduceMax ReduceMin Relu Reshape
    ReverseSequence Round ScatterElements ScatterND SequenceAt SequenceConstruct Shape Sign Size
    Slice SpaceToDepth Split SplitToSequence Squeeze Tile TopK Transpose Trilu Unique Unsqueeze
    Where Xor""".split()
)
"""Operators that move, choose or compare: nothing is rounded, but for types that are narrowed."""
NARROWING = frozenset({"Cast", "CastLike"})


def unit(dtype: DType) -> float:
    """Unit roundoff of a floating-point type."""
    if dtype.kind == "complex":
        return float(np.finfo(dtype.numpy).eps) / 2
    return float(ml_dtypes.finfo(dtype.numpy).eps) / 2  # type: ignore[no-untyped-call]


def precision_of(node: Node) -> DType:
    """The least precise floating-point type that ``node`` makes or, making none, reads."""
    for values in (node.outputs, node.inputs):
        types = [v.type for v in values if v is not None and isinstance(v.type, TensorType)]
        found = [x.dtype for x in types if x.dtype is not None and x.dtype.is_float]
        if found:
            return max(found, key=unit)
    return FLOAT32


def terms(node: Node, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """How many terms ``node`` adds up for an element of its result, about."""
    shapes: list[tuple[int, ...]] = [getattr(x, "shape", ()) for x in inputs]
    sizes = [math.prod(shape) for shape in shapes]
    made = max((math.prod(getattr(x, "shape", ())) for x in outputs), default=1)
    ratio = max(sizes, default=1) // max(made, 1)
    match node.op_type:
        case "Conv" | "ConvInteger" | "QLinearConv" | "DeformConv" | "ConvTranspose" if (
            len(shapes) > 1 and shapes[1]
        ):
            axis = 1 if node.op_type == "ConvTranspose" else 0
            return max(sizes[1] // max(shapes[1][axis], 1), 1)
        case "Resize" | "Upsample" | "GridSample" | "RoiAlign":
            return max(shapes[0], default=1) ** 2  # places are off by u times the extent
        case "MatMul" | "MatMulInteger" | "Gemm" | "QLinearMatMul" | "Einsum":
            return max(*shapes[0], ratio, 1)
        case "LSTM" | "GRU" | "RNN":
            return max((shapes[1][-1] + shapes[2][-1]) * shapes[0][0], 1)
        case name if "Norm" in name or "Softmax" in name or "Attention" in name:
            return max(sizes[0] // max(shapes[0][0] if shapes[0] else 1, 1), 1)
    return max(ratio, 1)


FEW = 64
"""Elements up to which whole numbers are taken for extents and places."""


def is_whole(x: Array) -> bool:
    """Whether ``x`` is a few whole numbers, with which floats compute exactly."""
    return x.size <= FEW and x.dtype.kind == "f" and bool((x == np.rint(x)).all())


@dataclass
class Noise:
    """Double precision, where nodes read what is off by h, once in this, once in that way."""

    draw: int
    steps: dict[Node, float]
    base: Array = field(init=False)

    def __post_init__(self) -> None:
        self.base = np.random.default_rng(self.draw).uniform(-1, 1, PERIOD)

    def read(self, x: Array, node: Node, index: int) -> Array:
        """``x`` off by the h of ``node``."""
        wide, h = double(x), self.steps.get(node, 0.0)
        if h == 0 or not wide.size or is_whole(wide):
            return wide
        if self.draw < 2:
            sign = 1 - 2 * self.draw
            return wide * (1 + sign * h) if index == 0 else wide
        pattern = np.resize(np.roll(self.base, 7919 * (index + 1)), wide.size)
        return np.asarray(wide * (1 + h * pattern.reshape(wide.shape)))

    @property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic that this is."""
        return Arithmetic(f"noise {self.draw}", self.read, double)


@dataclass(frozen=True)
class Verdict:
    """Whether rounding explains what somebody computed for the result of a part."""

    exact: Any
    """The result in double precision."""
    gap: Gap
    """How far that is from what was found, in units of what rounding explains."""
    margin: Any = None
    """How far rounding may carry the result, where that had to be found out."""

    @property
    def is_explained(self) -> bool:
        """Whether it is what rounding makes of the exact result."""
        return self.gap.is_explained


def judge(
    part: Part, given: Given, found: Any, precision: DType | None = None, margin: Any = None
) -> Verdict:
    """Whether ``found`` is what ``part`` makes of ``given``, but for rounding.

    In the precision that the model declares, or in ``precision`` where that is coarser. ``margin``
    is how far rounding may carry the result, if that is known.
    """
    values = part.evaluate(given, DOUBLE)
    exact = values[part.leaving]
    quick = gap(found, exact, _ulps(part, exact, ULPS))
    if quick.is_explained:
        return Verdict(exact, quick)
    if precision is None:
        own = part.evaluate(given, OWN)[part.leaving]
        if gap(found, own).is_explained:
            return Verdict(exact, Gap(quick.absolute, quick.relative, 0.0, count=quick.count))
    if margin is None:
        margin = allowed(part, given, values, precision)
    return Verdict(exact, gap(found, exact, margin), margin)


def allowed(
    part: Part, given: Given, values: dict[Value, Any], precision: DType | None = None
) -> Any:
    """How far rounding may carry the result of ``part``, element by element.

    ``values`` are what it computes in double precision.
    """
    return margins(part, given, values, [part.leaving], precision)[part.leaving]


def margins(
    part: Part,
    given: Given,
    values: dict[Value, Any],
    wanted: Sequence[Value],
    precision: DType | None = None,
) -> dict[Value, Any]:
    """The same for several values that ``part`` computes."""
    steps = {node: _step(node, values, precision) for node in part.nodes}
    random = [node for node in part.nodes if is_random(node, part.plan)]
    drawn = {value: values[value] for node in random for value in node.outputs if value in values}
    draws = []
    for draw in range(DRAWS):
        try:
            noisy = part.evaluate(given, Noise(draw, steps).arithmetic, drawn)
        except (FornixError, *REFUSALS):
            continue  # what is close decides about extents, and these do not go together
        draws.append({value: noisy[value] for value in wanted})
    found = {}
    for value in wanted:
        node = value.producer
        floor = max(unit(precision) if precision else 0.0, _unit(value) * ULPS)
        relative = max(steps.get(node, 0.0) if node else 0.0, floor)
        moved = [draw[value] for draw in draws]
        found[value] = _margins(values[value], moved, relative, _of_largest(value))
    return found


def _step(node: Node, values: dict[Value, Any], precision: DType | None) -> float:
    """The h of ``node``."""
    if node.op_type in EXACT and not (precision and node.op_type in NARROWING):
        return 0.0
    inputs = [values.get(v) for v in node.inputs if v is not None]
    count = terms(node, inputs, [values.get(v) for v in node.outputs])
    u = unit(precision_of(node))
    if precision is not None and unit(precision) > u:  # terms are added more precisely
        return SAFETY / 2 * unit(precision)
    return SAFETY * u * math.sqrt(count)


def _unit(value: Value) -> float:
    type_ = value.type
    dtype = type_.dtype if isinstance(type_, TensorType) else None
    return unit(dtype) if dtype is not None and dtype.is_float else 0.0


def _ulps(part: Part, exact: Any, count: float) -> Any:
    """``count`` units in the last place of a result."""
    if isinstance(exact, list):
        return [_ulps(part, x, count) for x in exact]
    if not is_float(exact):
        return 0.0
    if part.last.op_type in EXACT:
        return 0.0
    return 2 * count * _unit(part.leaving) * magnitude(exact)


def _of_largest(value: Value) -> float:
    """What errors of ``value`` there may be relative to its largest element."""
    node = value.producer
    if node is None or node.op_type in EXACT:
        return 0.0
    is_sum = node.op_type in {"Conv", "ConvTranspose"} and precision_of(node) is FLOAT32
    return WINOGRAD if is_sum else INSIDE * _unit(value)


def _margins(exact: Any, draws: Sequence[Any], relative: float, of_largest: float) -> Any:
    if isinstance(exact, list):
        lists = [x if isinstance(x, list) and len(x) == len(exact) else exact for x in draws]
        return [
            _margins(x, parts, relative, of_largest)
            for x, *parts in zip(exact, *lists, strict=True)
        ]
    if not isinstance(exact, np.ndarray) or exact.dtype.kind in "OUS" or not exact.size:
        return 0.0
    spread = np.zeros(exact.shape)
    wide = double(exact)
    with np.errstate(all="ignore"):
        for draw in draws:
            if draw.shape != exact.shape:
                return np.full(exact.shape, np.inf)  # extents are decided by what is close
            off = np.abs(double(draw).astype(wide.dtype) - wide.astype(wide.dtype))
            spread = np.maximum(spread, np.where(np.isnan(off), np.inf, off))
        spread[~np.isfinite(wide)] = np.where(_all_alike(draws, exact), 0, np.inf)[
            ~np.isfinite(wide)
        ]
        if not is_float(exact):
            return spread
        size = magnitude(wide)
        largest = float(size.max(initial=0.0))
        middle = float(np.median(spread))
        return np.maximum(spread, middle) + relative * size + of_largest * largest


def _all_alike(draws: Sequence[Array], exact: Array) -> Array:
    """Where every draw has the infinity, or the NaN, that the exact result has."""
    alike = [(x == exact) | (np.isnan(x) & np.isnan(exact)) for x in draws]
    return np.asarray(np.logical_and.reduce(alike))
