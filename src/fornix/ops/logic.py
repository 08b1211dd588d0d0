"""Comparisons, logic and bits, element by element, and the choice between two tensors.

Each operator is one function, which serves as kernel, inference, data propagation and lowering; see
`pointwise`.
"""

from __future__ import annotations

import math

from fornix.errors import require
from fornix.ir.graph import Graph, Node
from fornix.ops import scalar as s
from fornix.ops.adapt import broadcast_by_attribute, broadcast_by_rank
from fornix.ops.op import op
from fornix.ops.types import (
    BF16,
    BOOL,
    F8,
    F16,
    F32,
    F64,
    FLOAT,
    I32,
    I64,
    INT,
    NUMERIC,
    SINT,
    STRING,
    TENSOR,
    UINT,
)


def _shift(x: s.Operand, y: s.Operand, *, direction: str) -> s.Operand:
    require(direction in {"LEFT", "RIGHT"}, f"direction must be LEFT or RIGHT, got {direction!r}")
    return s.shift_left(x, y) if direction == "LEFT" else s.shift_right(x, y)


def _is_infinite(x: s.Operand, *, detect_negative: int, detect_positive: int) -> s.Operand:
    positive = s.equal(x, math.inf) if detect_positive else s.not_equal(x, x) & s.equal(x, x)
    return positive | s.equal(x, -math.inf) if detect_negative else positive


Equal = (
    op(
        "Equal <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)",
        since=1,
        T=BOOL | I32 | I64,
        T1=BOOL,
    )
    .since(7, "Equal (A: T, B: T) => (C: T1)")
    .since(11, T=+(NUMERIC - I32 - I64))
    .since(13, T=+BF16)
    .since(19, T=+STRING)
    .elementwise(s.equal, "Whether A = B, element by element; NaN equals nothing.")
)

Less = (
    op("Less <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)", since=1, T=FLOAT, T1=BOOL)
    .since(7, "Less (A: T, B: T) => (C: T1)")
    .since(9, T=+INT)
    .since(13, T=+BF16)
    .elementwise(s.less, "Whether A < B, element by element; never for NaN.")
)

LessOrEqual = (
    op("LessOrEqual (A: T, B: T) => (C: T1)", since=12, T=NUMERIC, T1=BOOL)
    .since(16, T=+BF16)
    .elementwise(s.less_equal, "Whether A ≤ B, element by element; never for NaN.")
)

LessOrEqual.body(
    """
    IsLess = Less (A, B)
    IsEqual = Equal (A, B)
    C = Or (IsLess, IsEqual)
    """,
    since=12,
)

Greater = (
    op(
        "Greater <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)",
        since=1,
        T=FLOAT,
        T1=BOOL,
    )
    .since(7, "Greater (A: T, B: T) => (C: T1)")
    .since(9, T=+INT)
    .since(13, T=+BF16)
    .elementwise(s.greater, "Whether A > B, element by element; never for NaN.")
)

GreaterOrEqual = (
    op("GreaterOrEqual (A: T, B: T) => (C: T1)", since=12, T=NUMERIC, T1=BOOL)
    .since(16, T=+BF16)
    .elementwise(s.greater_equal, "Whether A ≥ B, element by element; never for NaN.")
)

GreaterOrEqual.body(
    """
    IsGreater = Greater (A, B)
    IsEqual = Equal (A, B)
    C = Or (IsGreater, IsEqual)
    """,
    since=12,
)

And = (
    op("And <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)", since=1, T=BOOL, T1=BOOL)
    .since(7, "And (A: T, B: T) => (C: T1)")
    .elementwise(s.logical_and, "Whether A and B both hold.")
)

Or = (
    op("Or <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)", since=1, T=BOOL, T1=BOOL)
    .since(7, "Or (A: T, B: T) => (C: T1)")
    .elementwise(s.logical_or, "Whether A or B holds.")
)

Xor = (
    op("Xor <axis: int?, broadcast: int = 0> (A: T, B: T) => (C: T1)", since=1, T=BOOL, T1=BOOL)
    .since(7, "Xor (A: T, B: T) => (C: T1)")
    .elementwise(s.logical_xor, "Whether exactly one of A and B holds.")
)

Not = op("Not (X: T) => (Y: T)", since=1, T=BOOL).elementwise(
    s.logical_not, "Whether X does not hold."
)

BitwiseAnd = op("BitwiseAnd (A: T, B: T) => (C: T)", since=18, T=INT).elementwise(
    s.bitwise_and, "Bits that are set in A and in B."
)

BitwiseOr = op("BitwiseOr (A: T, B: T) => (C: T)", since=18, T=INT).elementwise(
    s.bitwise_or, "Bits that are set in A or in B."
)

BitwiseXor = op("BitwiseXor (A: T, B: T) => (C: T)", since=18, T=INT).elementwise(
    s.bitwise_xor, "Bits that are set in exactly one of A and B."
)

BitwiseNot = op("BitwiseNot (X: T) => (Y: T)", since=18, T=INT).elementwise(
    s.bitwise_not, "Bits that are not set in X."
)

BitShift = (
    op("BitShift <direction: string> (X: T, Y: T) => (Z: T)", since=11, T=UINT)
    .since(28, T=+SINT)
    .elementwise(_shift, "X shifted by Y bits to the LEFT or to the RIGHT, as ``direction`` says.")
)

IsNaN = (
    op("IsNaN (X: T1) => (Y: T2)", since=9, T1=FLOAT, T2=BOOL)
    .since(13, T1=+BF16)
    .since(20, T1=+F8)
    .elementwise(s.isnan, "Whether an element is NaN.")
)

IsInf = (
    op(
        "IsInf <detect_negative: int = 1, detect_positive: int = 1> (X: T1) => (Y: T2)",
        since=10,
        T1=F32 | F64,
        T2=BOOL,
    )
    .since(20, T1=+(F8 | BF16 | F16))
    .elementwise(_is_infinite, "Whether an element is infinite, of the signs that are asked for.")
)

Where = (
    op("Where (condition: B, X: T, Y: T) => (output: T)", since=9, B=BOOL, T=TENSOR)
    .since(16, T=+BF16)
    .elementwise(s.where, "X where the condition holds, else Y.")
)


@Equal.adapt(1, 7)
@Less.adapt(1, 7)
@Greater.adapt(1, 7)
@And.adapt(1, 7)
@Or.adapt(1, 7)
@Xor.adapt(1, 7)
def comparison_to_7(node: Node, graph: Graph) -> None:
    broadcast_by_rank(node, graph)


@Equal.adapt(7, 1)
@Less.adapt(7, 1)
@Greater.adapt(7, 1)
@And.adapt(7, 1)
@Or.adapt(7, 1)
@Xor.adapt(7, 1)
def comparison_from_7(node: Node, _: Graph) -> None:
    broadcast_by_attribute(node)
