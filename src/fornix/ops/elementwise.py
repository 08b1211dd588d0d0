"""Arithmetic and mathematical functions, element by element.

Each operator is one function, which serves as kernel, inference, data propagation and lowering; see
`pointwise`. Comparisons and logic stand in `logic`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fornix.dtype import FLOAT32, FLOAT64, DType
from fornix.errors import require
from fornix.ir.dim import DimLike, known
from fornix.ir.graph import Graph, Node
from fornix.ops import scalar as s
from fornix.ops.adapt import (
    broadcast_by_attribute,
    broadcast_by_rank,
    constant_input,
    drop_inputs,
    dtype_of,
    stored,
)
from fornix.ops.call import BodyNode
from fornix.ops.geometry import shape_text
from fornix.ops.op import Operator, op
from fornix.ops.pointwise import identical
from fornix.ops.types import BF16, FLOAT, I8, I16, I32, I64, INT, NUMERIC, SINT, U8, U16, U32, U64


def _in_float(function: Callable[[s.Operand], s.Operand]) -> Callable[[s.Operand], s.Operand]:
    """``function``, computed in float64 and cast back where elements are integers."""

    def computed(x: s.Operand) -> s.Operand:
        dtype = DType.of(x.dtype)
        if dtype.is_float:
            return function(x)
        return s.cast(function(s.cast(x, FLOAT64)), dtype)

    return computed


def _modulo(a: s.Operand, b: s.Operand, *, fmod: int) -> s.Operand:
    require(fmod in {0, 1}, f"fmod must be 0 or 1, got {fmod}")
    return s.fmod(a, b) if fmod else s.mod(a, b)


FLOAT32_WHOLE = 16
"""Bits of the integers that float32 holds exactly."""


def _power(x: s.Operand, y: s.Operand) -> s.Operand:
    """A float in the precision of both; integers in float64 by a float or negative exponent."""
    base, exponent = DType.of(x.dtype), DType.of(y.dtype)
    if base.is_float:
        fits = exponent is FLOAT32 or exponent.bits <= FLOAT32_WHOLE
        wide = base if fits else FLOAT64
        return s.cast(s.pow(s.cast(x, wide), s.cast(y, wide)), base)
    if exponent.is_float or exponent.is_signed:
        exact = s.pow(s.cast(x, FLOAT64), s.cast(y, FLOAT64))
        if exponent.is_float:
            return s.cast(exact, base)
        whole = s.pow(x, s.cast(s.maximum(y, 0), base))
        return s.where(s.less(y, 0), s.cast(exact, base), whole)
    return s.pow(x, s.cast(y, base))


def _clip_shape(input: tuple[DimLike, ...], *bounds: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The input's shape; the bounds are scalars, which older exporters give an axis."""
    for bound in bounds:
        is_one = len(bound) <= len(input) and all(known(n) in {1, None} for n in bound)
        require(is_one, f"min and max must be scalars, found shape {shape_text(bound)}")
    return input


Add = (
    op(
        """Add <axis: int?, broadcast: int = 0, consumed_inputs: ints?> (A: T, B: T) => (C: T)""",
        since=1,
        T=FLOAT,
    )
    .since(
        6, "Add <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T)", T=+(I32 | I64 | U32 | U64)
    )
    .since(7, "Add (A: T, B: T) => (C: T)")
    .since(13, T=+BF16)
    .since(14, T=+(I8 | I16 | U8 | U16))
    .elementwise(s.add, "A + B, element by element; integers wrap around.")
)

Sub = (
    op(
        """Sub <axis: int?, broadcast: int = 0, consumed_inputs: ints?> (A: T, B: T) => (C: T)""",
        since=1,
        T=FLOAT,
    )
    .since(
        6, "Sub <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T)", T=+(I32 | I64 | U32 | U64)
    )
    .since(7, "Sub (A: T, B: T) => (C: T)")
    .since(13, T=+BF16)
    .since(14, T=+(I8 | I16 | U8 | U16))
    .elementwise(s.sub, "A − B, element by element; integers wrap around.")
)

Mul = (
    op(
        """Mul <axis: int?, broadcast: int = 0, consumed_inputs: ints?> (A: T, B: T) => (C: T)""",
        since=1,
        T=FLOAT,
    )
    .since(
        6, "Mul <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T)", T=+(I32 | I64 | U32 | U64)
    )
    .since(7, "Mul (A: T, B: T) => (C: T)")
    .since(13, T=+BF16)
    .since(14, T=+(I8 | I16 | U8 | U16))
    .elementwise(s.mul, "A · B, element by element; integers wrap around.")
)

Div = (
    op(
        """Div <axis: int?, broadcast: int = 0, consumed_inputs: ints?> (A: T, B: T) => (C: T)""",
        since=1,
        T=FLOAT,
    )
    .since(
        6, "Div <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T)", T=+(I32 | I64 | U32 | U64)
    )
    .since(7, "Div (A: T, B: T) => (C: T)")
    .since(13, T=+BF16)
    .since(14, T=+(I8 | I16 | U8 | U16))
    .elementwise(
        s.div,
        "A / B, element by element; integers round towards zero, and none may be divided by 0.",
    )
)

Mod = (
    op("Mod <fmod: int = 0> (A: T, B: T) => (C: T)", since=10, T=NUMERIC)
    .since(13, T=+BF16)
    .since(28)
    .elementwise(
        _modulo,
        "The rest of A / B, A − ⌊A / B⌋ · B, with the sign of B; with that of A if fmod is set.\n\n"
        "Raises Fail for an integer divided by 0; floats give NaN there.",
    )
)

Pow = (
    op("Pow <axis: int?, broadcast: int = 0> (X: T, Y: T) => (Z: T)", since=1, T=FLOAT)
    .since(7, "Pow (X: T, Y: T) => (Z: T)")
    .since(12, "Pow (X: T, Y: T1) => (Z: T)", T=+(I32 | I64), T1=NUMERIC)
    .since(13, T=+BF16)
    .since(15, T1=+BF16)
    .elementwise(
        _power,
        "X to the power Y, in the dtype of X.\n\n"
        "0⁰ is 1, and a negative number to a power that is no integer NaN. Integers wrap around;\n"
        "with a negative exponent, or a float, they are raised in float64 and truncated.",
    )
)

Neg = (
    op("Neg <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Neg (X: T) => (Y: T)", T=+SINT)
    .since(13, T=+BF16)
    .elementwise(s.neg, "−X, element by element; of the least integer it is that integer.")
)

Abs = (
    op("Abs <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Abs (X: T) => (Y: T)", T=+INT)
    .since(13, T=+BF16)
    .elementwise(s.abs, "|X|, element by element; of the least integer it is that integer.")
)

Sign = (
    op("Sign (input: T) => (output: T)", since=9, T=NUMERIC)
    .since(13, T=+BF16)
    .elementwise(s.sign, "−1, 0 or 1 as the element is negative, zero or positive; NaN stays.")
)

Reciprocal = (
    op("Reciprocal <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Reciprocal (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(
        lambda x: s.div(1.0, x), "1 / X, element by element; infinite at 0, with its sign."
    )
)

Sqrt = (
    op("Sqrt <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Sqrt (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(s.sqrt, "√X, element by element; NaN below 0.")
)

Exp = (
    op("Exp <consumed_inputs: ints?> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(6, "Exp (input: T) => (output: T)")
    .since(13, T=+BF16)
    .elementwise(s.exp, "eˣ, element by element; infinite where that is too large.")
)

Log = (
    op("Log <consumed_inputs: ints?> (input: T) => (output: T)", since=1, T=FLOAT)
    .since(6, "Log (input: T) => (output: T)")
    .since(13, T=+BF16)
    .elementwise(s.log, "Natural logarithm; −∞ at 0, NaN below.")
)

Erf = (
    op("Erf (input: T) => (output: T)", since=9, T=NUMERIC)
    .since(13, T=FLOAT | BF16)
    .elementwise(_in_float(s.erf), "Error function: 2/√π ∫₀ˣ exp(−t²) dt, from −1 to 1.")
)

Floor = (
    op("Floor <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Floor (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(s.floor, "Greatest integer that is not above X; NaN and infinities stay.")
)

Ceil = (
    op("Ceil <consumed_inputs: ints?> (X: T) => (Y: T)", since=1, T=FLOAT)
    .since(6, "Ceil (X: T) => (Y: T)")
    .since(13, T=+BF16)
    .elementwise(s.ceil, "Least integer that is not below X; NaN and infinities stay.")
)

Round = (
    op("Round (X: T) => (Y: T)", since=11, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.rint, "Nearest integer; halves go to the even one. NaN and infinities stay.")
)

Sin = (
    op("Sin (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.sin, "Sine of an angle in radians; NaN at infinity.")
)

Cos = (
    op("Cos (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.cos, "Cosine of an angle in radians; NaN at infinity.")
)

Tan = (
    op("Tan (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.tan, "Tangent of an angle in radians; NaN at infinity.")
)

Asin = (
    op("Asin (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(
        s.asin, "Angle in radians, from −π/2 to π/2, whose sine is X; NaN outside [−1, 1]."
    )
)

Acos = (
    op("Acos (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.acos, "Angle in radians, from 0 to π, whose cosine is X; NaN outside [−1, 1].")
)

Atan = (
    op("Atan (input: T) => (output: T)", since=7, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.atan, "Angle in radians, from −π/2 to π/2, whose tangent is X.")
)

Sinh = (
    op("Sinh (input: T) => (output: T)", since=9, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.sinh, "Hyperbolic sine: (eˣ − e⁻ˣ) / 2.")
)

Cosh = (
    op("Cosh (input: T) => (output: T)", since=9, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.cosh, "Hyperbolic cosine: (eˣ + e⁻ˣ) / 2.")
)

Asinh = (
    op("Asinh (input: T) => (output: T)", since=9, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.asinh, "Inverse of the hyperbolic sine: log(x + √(x² + 1)).")
)

Acosh = (
    op("Acosh (input: T) => (output: T)", since=9, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(s.acosh, "Inverse of the hyperbolic cosine: log(x + √(x² − 1)); NaN below 1.")
)

Atanh = (
    op("Atanh (input: T) => (output: T)", since=9, T=FLOAT)
    .since(22, T=+BF16)
    .elementwise(
        s.atanh,
        "Inverse of the hyperbolic tangent: ½ log((1 + x) / (1 − x)); infinite at ±1, NaN beyond.",
    )
)


def _of_many(operator: Operator, function: Callable[..., s.Operand], description: str) -> Operator:
    """``operator`` of any number of inputs, of one shape before opset 8, of any that broadcast."""
    return operator.elementwise(function, description, common_shape=identical).elementwise(
        function, description, since=8
    )


Max = _of_many(
    op("Max <consumed_inputs: ints?> (data_0: T+) => (max: T)", since=1, T=FLOAT)
    .since(6, "Max (data_0: T+) => (max: T)")
    .since(8)
    .since(12, T=+INT)
    .since(13, T=+BF16),
    s.greatest,
    "Greatest of the inputs, element by element; NaN wins.",
)

Min = _of_many(
    op("Min <consumed_inputs: ints?> (data_0: T+) => (min: T)", since=1, T=FLOAT)
    .since(6, "Min (data_0: T+) => (min: T)")
    .since(8)
    .since(12, T=+INT)
    .since(13, T=+BF16),
    s.least,
    "Least of the inputs, element by element; NaN wins.",
)

Sum = _of_many(
    op("Sum <consumed_inputs: ints?> (data_0: T+) => (sum: T)", since=1, T=FLOAT)
    .since(6, "Sum (data_0: T+) => (sum: T)")
    .since(8)
    .since(13, T=+BF16),
    lambda *xs: functools.reduce(s.add, xs),
    "Sum of the inputs, element by element.",
)

Mean = _of_many(
    op("Mean <consumed_inputs: ints?> (data_0: T+) => (mean: T)", since=1, T=FLOAT)
    .since(6, "Mean (data_0: T+) => (mean: T)")
    .since(8)
    .since(13, T=+BF16),
    lambda *xs: functools.reduce(s.add, xs) / float(len(xs)),
    "Arithmetic mean of the inputs, element by element.",
)

Clip = (
    op(
        """Clip <consumed_inputs: ints?, max: float?, min: float?> (input: T) => (output: T)""",
        since=1,
        T=FLOAT,
    )
    .since(
        6,
        """Clip <max: float = 3.4028235e+38, min: float = -3.4028235e+38> (input: T) =>
                  (output: T)""",
    )
    .since(11, "Clip (input: T, min: T?, max: T?) => (output: T)")
    .since(12, T=+INT)
    .since(13, T=+BF16)
    .elementwise(
        s.clip,
        "X, at least ``min`` and at most ``max``, which wins if they cross.",
        common_shape=_clip_shape,
    )
)


@Clip.body(since=13)
def clip_body(*, node: BodyNode) -> str:
    lines = ["Raised = Max (input, min)" if node.has(1) else "Raised = Identity (input)"]
    lines.append("output = Min (Raised, max)" if node.has(2) else "output = Identity (Raised)")
    return "\n".join(lines)


@Clip.adapt(6, 11)
def clip_6_to_11(node: Node, graph: Graph) -> None:
    """Bounds become inputs; absent, there are none, rather than the greatest float32."""
    for index, name in ((1, "min"), (2, "max")):
        bound = node.attr(name)
        node.remove_attribute(name)
        if bound is not None:
            dtype = dtype_of(node.inputs[0], "the input").numpy
            node.set_input(index, stored(node, graph, np.array(bound, dtype)))


@Clip.adapt(11, 6)
def clip_11_to_6(node: Node, graph: Graph) -> None:
    names = ("min", "max")
    what = "opset 6 takes bounds as attributes"
    bounds = [constant_input(node, index, what) for index in (1, 2)]
    drop_inputs(node, graph, 1)
    for name, bound in zip(names, bounds, strict=True):
        if bound is not None:
            node.set_attribute(name, float(bound))


@Add.adapt(6, 7)
@Sub.adapt(6, 7)
@Mul.adapt(6, 7)
@Div.adapt(6, 7)
@Pow.adapt(1, 7)
def arithmetic_to_7(node: Node, graph: Graph) -> None:
    broadcast_by_rank(node, graph)


@Add.adapt(7, 6)
@Sub.adapt(7, 6)
@Mul.adapt(7, 6)
@Div.adapt(7, 6)
@Pow.adapt(7, 1)
def arithmetic_from_7(node: Node, _: Graph) -> None:
    broadcast_by_attribute(node)
