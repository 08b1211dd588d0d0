"""Recipes of operators that compute each element on its own, and of the softmax kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.differential.draw import Arguments, Draw

Recipe = Callable[[Draw], Arguments]
Generator = Callable[[Draw], Any]


def number(least: float = -2.0, most: float = 2.0) -> Generator:
    return lambda draw: draw.maybe(lambda: draw.real(least, most))


def one_of(*options: Any) -> Generator:
    return lambda draw: draw.pick((None, *options))


UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu"
    " HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu"
    " Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
    " NonZero Identity Shape Size"
).split()
BINARY = (
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual"
    " Mul Or Sub Xor StringConcat"
).split()
VARIADIC = "Max Mean Min Sum".split()

ATTRIBUTES: dict[str, dict[str, Generator]] = {
    "Celu": {"alpha": number(0.2, 3)},
    "Elu": {"alpha": number()},
    "Gelu": {"approximate": one_of("none", "tanh")},
    "HardSigmoid": {"alpha": number(), "beta": number()},
    "IsInf": {"detect_negative": one_of(0, 1), "detect_positive": one_of(0, 1)},
    "LeakyRelu": {"alpha": number()},
    "Selu": {"alpha": number(), "gamma": number()},
    "Shape": {"start": lambda d: d.pick((None, d.whole(-8, 8))), "end": lambda d: d.whole(-8, 8)},
    "Shrink": {"bias": number(0, 0.5), "lambd": number(0, 2)},
    "Swish": {"alpha": number()},
    "SwiGLU": {"alpha": number()},
    "ThresholdedRelu": {"alpha": number()},
}


def attributes_of(draw: Draw) -> dict[str, Any]:
    """Values from the table for the operator of ``draw``."""
    return {n: make(draw) for n, make in ATTRIBUTES.get(draw.schema.name, {}).items()}


def unary(draw: Draw) -> Arguments:
    variable = draw.schema.inputs[0].type_text
    return Arguments([draw.array(variable, draw.shape())], attributes_of(draw))


def binary(draw: Draw) -> Arguments:
    variables = [formal.type_text for formal in draw.schema.inputs]
    shapes, extra = pair(draw)
    inputs = [draw.array(v, s) for v, s in zip(variables, shapes, strict=True)]
    return Arguments(inputs, attributes_of(draw) | extra)


def pair(draw: Draw) -> tuple[list[tuple[int, ...]], dict[str, Any]]:
    """Two shapes that broadcast, the way this schema version does it."""
    shape = draw.shape()
    if not draw.has("broadcast"):
        return [draw.broadcast(shape), draw.broadcast(shape)], {}
    if draw.chance(0.3):
        return [shape, shape], {"broadcast": draw.pick((None, 0, 1))}
    first = draw.whole(0, max(len(shape) - 1, 0))
    last = draw.whole(first, len(shape))
    if draw.chance(0.4) or not shape:
        return [shape, shape[first:]], {"broadcast": 1}
    axis = first - len(shape) if draw.chance(0.3) and first < len(shape) else first
    return [shape, shape[first:last]], {"broadcast": 1, "axis": axis}


def same_shape(draw: Draw) -> Arguments:
    shape = draw.shape()
    return Arguments([draw.array("T", shape), draw.array("T", shape)], attributes_of(draw))


def variadic(draw: Draw) -> Arguments:
    shape = draw.shape()
    broadcasts = draw.schema.since_version >= 8
    shapes = [draw.broadcast(shape) if broadcasts else shape for _ in range(draw.whole(1, 4))]
    return Arguments([draw.array("T", s) for s in shapes])


def power(draw: Draw) -> Arguments:
    shapes, extra = pair(draw)
    x, y = draw.weights("T", shapes[0]), draw.array(draw.schema.inputs[1].type_text, shapes[1])
    if y.dtype.kind in "iu":
        y = np.asarray(np.clip(y, 0, 5), y.dtype)
    return Arguments([x, y], extra)


def modulo(draw: Draw) -> Arguments:
    shapes, _ = pair(draw)
    x, y = draw.array("T", shapes[0]), draw.array("T", shapes[1])
    is_float = draw.dtype("T").is_float
    return Arguments([x, y], {"fmod": 1 if is_float else draw.pick((None, 0, 1))})


def shift(draw: Draw) -> Arguments:
    shapes, _ = pair(draw)
    x, y = draw.array("T", shapes[0]), draw.array("T", shapes[1])
    bits = 8 * y.dtype.itemsize
    y = np.asarray(np.clip(y, 0, bits - 1), y.dtype)
    return Arguments([x, y], {"direction": draw.pick(("LEFT", "RIGHT"))})


def where(draw: Draw) -> Arguments:
    shape = draw.shape()
    condition, x, y = (draw.broadcast(shape) for _ in range(3))
    return Arguments([draw.array("B", condition), draw.array("T", x), draw.array("T", y)])


def prelu(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    if draw.opset < 7:
        slope: tuple[int, ...] = draw.pick(((1,), (shape[1],) if len(shape) > 1 else (1,)))
    elif draw.opset < 9:
        slope = tuple(n if draw.chance() else 1 for n in shape)[draw.whole(0, len(shape)) :]
    else:
        slope = draw.broadcast(shape)
    return Arguments([draw.array("T", shape), draw.array("T", slope)])


def clip(draw: Draw) -> Arguments:
    x = draw.array("T", draw.shape())
    if draw.has("min"):
        ends = {"min": draw.maybe(draw.real), "max": draw.maybe(draw.real)}
        return Arguments([x], ends)
    low, high = (draw.maybe(lambda: draw.weights("T")) for _ in range(2))
    return Arguments([x, low, high])


def along_axis(draw: Draw) -> Arguments:
    """Softmax and its kin: before 13 the axis splits the shape in two, and may not be negative."""
    shape = draw.shape(1)
    rank = len(shape)
    is_old = draw.opset < 13 and draw.schema.name != "LpNormalization"
    axis = draw.whole(0, rank - 1) if is_old and draw.opset < 11 else draw.axis(rank)
    is_default = draw.chance(0.3) and (rank > 1 or not is_old)
    given = {"axis": None if is_default else axis, "p": draw.pick((None, 1, 2))}
    return Arguments([draw.array("T", shape, mild=True)], given)


RECIPES: dict[str, Recipe] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(VARIADIC, variadic),
    "BitShift": shift,
    "Clip": clip,
    "Hardmax": along_axis,
    "LogSoftmax": along_axis,
    "LpNormalization": along_axis,
    "Mod": modulo,
    "PRelu": prelu,
    "Pow": power,
    "Softmax": along_axis,
    "SwiGLU": same_shape,
    "Where": where,
}
