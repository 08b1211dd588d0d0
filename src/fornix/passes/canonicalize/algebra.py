"""Identities of arithmetic, logic and conversions that hold for all numbers, NaN and −0 too."""

from __future__ import annotations

import math

import numpy as np

from fornix.dtype import BOOL, STRING, DType
from fornix.ir.graph import Node, Value
from fornix.ops.fact import Array, static
from fornix.ops.geometry import broadcast_shapes
from fornix.passes.canonicalize.nothing import keeps_shape
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, const, number, rewrite

RANGE = 11
"""The opset in which Range appears."""


@rewrite(P.Not(P.Not(any_("x"))), P.Neg(P.Neg(any_("x"))))
def cancel_twice(x: Value) -> Value:
    """Not(Not(x)) = Neg(Neg(x)) = x."""
    return x


@rewrite(
    P.Relu(P.Relu(any_("x"), bind="inner")),
    P.Abs(P.Abs(any_("x"), bind="inner")),
    P.Sign(P.Sign(any_("x"), bind="inner")),
    P.Ceil(P.Ceil(any_("x"), bind="inner")),
    P.Floor(P.Floor(any_("x"), bind="inner")),
    P.Round(P.Round(any_("x"), bind="inner")),
)
def drop_repetition(inner: Node) -> Value:
    """Relu, Abs, Sign, Ceil, Floor and Round change nothing the second time."""
    return inner.output


@rewrite(P.Abs(P.Neg(any_("x"))))
def drop_sign(x: Value, make: Maker) -> Value:
    """|−x| = |x|."""
    return make.Abs(x)


@rewrite(P.Add(any_("x"), P.Neg(any_("y"))))
def subtract(x: Value, y: Value, make: Maker) -> Value:
    """X + (−y) = x − y."""
    return make.Sub(x, y)


@rewrite(P.Sub(any_("x"), P.Neg(any_("y"))))
def add(x: Value, y: Value, make: Maker) -> Value:
    """X − (−y) = x + y."""
    return make.Add(x, y)


@rewrite(P.Div(any_("x"), number(name="divisor"), bind="node"))
def multiply(x: Value, divisor: float, node: Node, make: Maker) -> Value | None:
    """X / 2ⁿ = x · 2⁻ⁿ, which is as exact and faster."""
    dtype, other = make.fact(x).dtype, node.inputs[1]
    fraction, exponent = math.frexp(divisor)
    if dtype is None or not dtype.is_float or abs(fraction) != 0.5 or other is None:
        return None
    if dtype.bits < 16 or abs(exponent) > 8:  # so that the factor is a normal number everywhere
        return None
    shape = static(make.fact(other).shape)
    return None if shape is None else make.Mul(x, np.full(shape, 1 / divisor, dtype.numpy))


@rewrite(P.Pow(any_("x"), number(2.0), bind="node"))
def square(x: Value, node: Node, make: Maker) -> Value | None:
    """X² = x · x for floats."""
    dtype, exponent = make.fact(x).dtype, node.inputs[1]
    is_two = exponent is not None and exponent.constant is not None
    is_two = is_two and bool((exponent.constant.numpy() == 2).all())  # type: ignore[union-attr]
    if dtype is None or not dtype.is_float or not is_two or not keeps_shape(x, node, make):
        return None
    return make.Mul(x, x)


@rewrite(P.Cast(P.Cast(any_("x"), bind="inner"), bind="outer"))
def merge_casts(x: Value, inner: Node, outer: Node, make: Maker) -> Value | None:
    """Cast(Cast(x, wide), to) = Cast(x, to) where ``wide`` holds every value of x's dtype."""
    source = make.fact(x).dtype
    wide, target = (DType.of(node.attr("to")) for node in (inner, outer))
    if source is None or not holds_all(wide, source) or target is STRING:
        return None  # as text, 1/3 of float16 has other digits than the same number of float32
    # A float that leaves the range of integers is undefined; an integer wraps around.
    wraps = wide.is_float and not source.is_float and target.is_integer and source is not BOOL
    if wraps and target is not source:
        return None
    return make.node("Cast", (x,), dict(outer.attributes))


def holds_all(wide: DType, source: DType) -> bool:
    """Whether ``wide`` represents every value of ``source``, NaN and −0 included."""
    if source is BOOL:
        return wide.is_integer or wide.is_float or wide is BOOL
    if source.name in _MANTISSA:
        return wide is source or (wide.name in _MANTISSA and wide.bits > source.bits)
    if not source.is_integer:
        return wide is source
    if wide.is_float:
        return _MANTISSA.get(wide.name, 0) >= source.bits - source.is_signed
    if not wide.is_integer or (source.is_signed and not wide.is_signed):
        return False
    return wide.bits - wide.is_signed >= source.bits - source.is_signed


_MANTISSA = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Significant bits. A format with more bits in all holds the other; float16 and bfloat16, of equal
size, hold neither the other."""


@rewrite(P.Where(const("condition"), any_("x"), any_("y"), bind="node"))
def choose(condition: Array, x: Value, y: Value, node: Node, make: Maker) -> Value | None:
    """Where of a condition that is the same everywhere is one of its values, expanded."""
    after = make.fact(node.output)
    if not condition.size or not after.has_rank or condition.any() != condition.all():
        return None
    chosen = x if condition.all() else y
    if keeps_shape(chosen, node, make):
        return chosen
    shape = static(after.shape)
    return None if shape is None else make.Expand(chosen, np.array(shape, np.int64))


@rewrite(P.Where(P.Expand(const("condition"), any_("shape"), bind="expand"), any_("x"), any_("y"),
                 bind="node"))  # fmt: skip
def choose_expanded(
    condition: Array, x: Value, y: Value, shape: Value, expand: Node, node: Node, make: Maker
) -> Value | None:
    """Where(Expand(true, s), x, y) = Expand(x, s), if s says the whole shape."""
    if not condition.size or condition.any() != condition.all():
        return None
    if not keeps_shape(expand.output, node, make):
        return None
    return make.Expand(x if condition.all() else y, shape)


@rewrite(P.NonZero(P.ConstantOfShape(any_("extents"), bind="filled")))
def number_places(extents: Value, filled: Node, make: Maker) -> Value | None:
    """NonZero(ConstantOfShape([n], 1)) = 0, 1, … n − 1, which an extent tells ahead of a run.

    Exporters of PyTorch index so what is assigned to, or read in strides.
    """
    number, wanted = filled.attr("value"), make.fact(extents).value
    if make.opset < RANGE or number is None or not number.numpy().any():
        return None
    if wanted is None or wanted.size != 1:
        return None
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    places = make.Range(zero, make.Reshape(extents, np.array([], np.int64)), one)
    return make.Reshape(places, np.array([1, -1], np.int64))


_BROADCASTING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "And", "Or", "Xor", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual",
)  # fmt: skip


@rewrite(
    *(
        getattr(P, name)(*operands, bind="node")
        for name in _BROADCASTING
        for expanded in [P.Expand(any_("y"), any_("shape"), bind="expand")]
        for operands in [(any_("x"), expanded), (expanded, any_("x"))]
    )
)
def drop_operand_expand(x: Value, y: Value, expand: Node, node: Node, make: Maker) -> Value | None:
    """An Expand ahead of an operator that broadcasts is not needed where x has that shape."""
    facts = [make.fact(value) for value in (x, y, node.output)]
    if x is expand.output or not all(fact.has_rank for fact in facts):
        return None
    one, other, after = (fact.shape for fact in facts)
    if tuple(broadcast_shapes(one, other)) != after:
        return None
    inputs = tuple(y if value is expand.output else value for value in node.inputs)
    return make.node(node.op_type, inputs, dict(node.attributes))


@rewrite(P.Softmax(P.Add(any_("x"), const("zero"), bind="sum"), bind="node"))
def drop_shift(x: Value, zero: Array, sum: Node, node: Node, make: Maker) -> Value | None:  # noqa: A002 - as bound
    """Softmax(x + 0) = Softmax(x): of −0 and 0 the exponential is the same."""
    if zero.any() or not keeps_shape(x, sum, make):
        return None
    return make.node("Softmax", (x,), dict(node.attributes))


RULES: tuple[Rule, ...] = (
    *cancel_twice,
    *drop_repetition,
    *drop_sign,
    *subtract,
    *add,
    *multiply,
    *square,
    *merge_casts,
    *choose,
    *choose_expanded,
    *drop_operand_expand,
    *drop_shift,
    *number_places,
)
