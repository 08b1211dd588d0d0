"""Operations on values: one or a few instructions each, with NumPy's meaning in the corner cases.

NaN wins max and min; of two zeros of different sign the second operand is taken, as NumPy does on
x86-64. Integers wrap; shifts by the width or more give 0 or the sign; a division by zero fails a
check, and divides by 1 instead, for the processor would stop the process.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.types import literal, register_type, suffix
from fornix.dtype import BOOL, FLOAT32, FLOAT64, DType

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

_FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_COMPARE_FLOAT = {"lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}
_COMPARE = {"lt": "slt", "le": "sle", "eq": "eq", "ne": "ne"}
_ALIASES = {"sum": "add", "prod": "mul"}
_EXTREMES = {"min", "max", "lesser", "greater"}
_ROUND = {"floor", "ceil", "trunc", "rint"}


class Operands:
    """Operands brought to one form: all vectors if one is, where the result can live."""

    def __init__(self, em: Emitter, dtype: DType, *values: Value) -> None:
        self.em, self.dtype = em, dtype
        self.values = values
        self.is_vector = any(v.is_vector for v in values)
        self.texts = [em.splat(v, dtype) if self.is_vector else v.text for v in values]
        self.depth = max(v.depth for v in values)
        self.type = em.type(dtype, is_vector=self.is_vector)
        self.bit = em.type(BOOL, is_vector=self.is_vector)

    def literal(self, number: float) -> str:
        """A number of the operands' dtype in each lane."""
        text = literal(number, self.dtype)
        return f"splat ({register_type(self.dtype)} {text})" if self.is_vector else text

    def put(self, text: str) -> str:
        """An instruction; the name of its result."""
        return self.em.put(self.depth, text)

    def call(self, function: str, *texts: str) -> str:
        """An overloaded function of LLVM's on operands of the one type."""
        name = f"llvm.{function}.{suffix(self.type)}"
        return self.em.call(self.depth, self.type, name, *((self.type, t) for t in texts))

    def select(self, condition: str, a: str, b: str) -> str:
        """``a`` where the condition holds, else ``b``."""
        return self.put(f"select {self.bit} {condition}, {self.type} {a}, {self.type} {b}")

    def value(self, text: str) -> Value:
        """The result."""
        return Value(text, self.is_vector, self.depth)


def binary(em: Emitter, op: str, dtype: DType, *values: Value) -> Value:
    """``op`` of two or three operands of ``dtype``; reductions' names are understood too."""
    op = _ALIASES.get(op, op)
    o = Operands(em, dtype, *values)
    if op == "multiply_add":
        return o.value(_multiply_add(o))
    if op == "fma":
        return o.value(o.call("fma", *o.texts))
    if op in _COMPARE:
        return o.value(_compare(o, op))
    if dtype.is_float:
        text = _extreme(o, op) if op in _EXTREMES else _plain(o, _FLOAT[op])
    elif op in {"min", "max"} and dtype is not BOOL:
        text = o.call(f"{'s' if dtype.kind == 'int' else 'u'}{op}", *o.texts)
    elif op in {"shl", "shr"}:
        text = _shift(o, op)
    else:
        text = _plain(o, {"min": "and", "max": "or"}.get(op) or _INTEGER[op])
    return o.value(text)


def _plain(o: Operands, instruction: str) -> str:
    return o.put(f"{instruction} {o.type} {o.texts[0]}, {o.texts[1]}")


def _multiply_add(o: Operands) -> str:
    """``a*b + c``, rounded once where that is one instruction."""
    a, b, c = o.texts
    if o.em.target.fuses:
        return o.call("fma", a, b, c)
    product = o.put(f"fmul {o.type} {a}, {b}")
    return o.put(f"fadd {o.type} {product}, {c}")


def _compare(o: Operands, op: str) -> str:
    a, b = o.texts
    if o.dtype.is_float:
        return o.put(f"fcmp {_COMPARE_FLOAT[op]} {o.type} {a}, {b}")
    test = _COMPARE[op]
    if o.dtype.kind != "int" and test[0] == "s":
        test = "u" + test[1:]
    return o.put(f"icmp {test} {o.type} {a}, {b}")


def _extreme(o: Operands, op: str) -> str:
    """The greater or lesser number, or NaN.

    Both compare-and-select and the instruction of x86-64 give the second operand where one is NaN.
    So if the first cannot be NaN that is all; a constant is made the first. "greater" and "lesser"
    are that instruction.
    """
    a, b = o.texts
    test = "ogt" if op in {"max", "greater"} else "olt"
    if op in {"greater", "lesser"}:
        return o.select(o.put(f"fcmp {test} {o.type} {a}, {b}"), a, b)
    if _is_number(b) and not _is_number(a):
        a, b = b, a
        if a == o.literal(0.0):  # NumPy takes the second of two zeros
            test = test.replace("t", "e")
    chosen = o.select(o.put(f"fcmp {test} {o.type} {a}, {b}"), a, b)
    if _is_number(a):
        return chosen
    return o.select(o.put(f"fcmp uno {o.type} {a}, {a}"), a, chosen)


def _is_name(text: str) -> bool:
    return text.startswith("%")


def _is_number(text: str) -> bool:
    """Whether it is a literal other than NaN, whose bits end in 8 and zeros."""
    return not _is_name(text) and NAN not in text


NAN = literal(math.nan, FLOAT32)


def _shift(o: Operands, op: str) -> str:
    """Shifts; by the width or more, everything has gone."""
    a, by = o.texts
    signed = op == "shr" and o.dtype.kind == "int"
    instruction = {"shl": "shl", "shr": "ashr" if signed else "lshr"}[op]
    width = max(o.dtype.bits, 8)
    amount = o.values[1].text
    if not _is_name(amount) and 0 <= int(amount) < width:
        return o.put(f"{instruction} {o.type} {a}, {by}")
    inside = o.put(f"icmp ult {o.type} {by}, {o.literal(width)}")
    safe = o.select(inside, by, o.literal(width - 1 if signed else 0))
    shifted = o.put(f"{instruction} {o.type} {a}, {safe}")
    return shifted if signed else o.select(inside, shifted, o.literal(0))


def unary(em: Emitter, op: str, dtype: DType, value: Value) -> Value:
    """``op`` of one operand."""
    o = Operands(em, dtype, value)
    (x,) = o.texts
    if op == "not":
        return o.value(o.put(f"xor {o.type} {x}, {o.literal(-1)}"))
    if not dtype.is_float:
        if op == "neg":
            return o.value(o.put(f"sub {o.type} {o.literal(0)}, {x}"))
        return o.value(_absolute(o, x))
    if op == "neg":
        return o.value(o.put(f"fneg {o.type} {x}"))
    if op in _ROUND and not em.target.rounds:
        return o.value(_rounded(o, op, x))
    return o.value(o.call({"abs": "fabs"}.get(op, op), x))


def _absolute(o: Operands, x: str) -> str:
    if o.dtype.kind == "uint":
        return x
    negative = o.put(f"icmp slt {o.type} {x}, {o.literal(0)}")
    return o.select(negative, o.put(f"sub {o.type} {o.literal(0)}, {x}"), x)


MANTISSA = {32: 2.0**23, 64: 2.0**52}
"""From here on every float is an integer."""


def _rounded(o: Operands, op: str, x: str) -> str:
    """Rounding where there is no instruction for it: adding 2^23 drops what is below 1."""
    big = o.literal(MANTISSA[o.dtype.bits])
    size = o.call("fabs", x)
    moved = o.put(f"fsub {o.type} {o.put(f'fadd {o.type} {size}, {big}')}, {big}")
    near = o.call("copysign", moved, x)
    is_small = o.put(f"fcmp olt {o.type} {size}, {big}")
    result = o.select(is_small, near, x)
    if op == "rint":
        return result
    one = o.literal(1.0)
    if op == "trunc":
        down = o.put(f"fcmp olt {o.type} {size}, {o.call('fabs', result)}")
        fixed = o.put(f"fsub {o.type} {o.call('fabs', result)}, {one}")
        return o.call("copysign", o.select(down, fixed, o.call("fabs", result)), x)
    test, step = ("ogt", "fsub") if op == "floor" else ("olt", "fadd")
    beyond = o.put(f"fcmp {test} {o.type} {result}, {x}")
    fixed = o.select(beyond, o.put(f"{step} {o.type} {result}, {one}"), result)
    return o.call("copysign", fixed, x)


def divide(em: Emitter, op: str, dtype: DType, a: Value, b: Value, unit: int) -> Value:
    """Quotient or rest of integers: "div" rounds to zero, "fmod" goes with it, "mod" has b's sign.

    The least integer divided by -1 wraps, as in NumPy; the processor would stop.
    """
    o = Operands(em, dtype, a, b)
    x, y = o.texts
    signed = dtype.kind == "int"
    if _is_name(y) or b.text == "0":
        y = _safe_divisor(o, y, unit)
    elif b.text == "-1" and signed:
        negated = f"sub {o.type} {o.literal(0)}, {x}"
        return o.value(o.put(negated) if op == "div" else o.literal(0))
    result = _quotient(o, op, x, y, signed=signed)
    if op != "mod" or not signed:
        return o.value(result)
    inexact = o.put(f"icmp ne {o.type} {result}, {o.literal(0)}")
    signs = o.put(f"xor {o.type} {result}, {y}")
    differ = o.put(f"icmp slt {o.type} {signs}, {o.literal(0)}")
    moved = o.put(f"add {o.type} {result}, {y}")
    return o.value(o.select(o.put(f"and {o.bit} {inexact}, {differ}"), moved, result))


def _safe_divisor(o: Operands, y: str, unit: int) -> str:
    """``y``, or 1 where it is 0 or the lane does not exist."""
    good = o.put(f"icmp ne {o.type} {y}, {o.literal(0)}")
    o.em.check("division", "an integer is divided by zero", Value(good, o.is_vector, o.depth), unit)
    return o.select(good, y, o.literal(1))


def _quotient(o: Operands, op: str, x: str, y: str, *, signed: bool) -> str:
    """What is left of a division toward zero: its quotient if it is "div", else its rest."""
    if not _is_name(y):
        return _divided(o, op, x, y, signed=signed)
    if not signed:
        return _by_lanes(o, op, x, y, signed=False)
    minus = o.put(f"icmp eq {o.type} {y}, {o.literal(-1)}")
    quotient = _by_lanes(o, op, x, o.select(minus, o.literal(1), y), signed=True)
    if op != "div":  # a rest modulo 1 is 0, as it is modulo -1
        return quotient
    return o.select(minus, o.put(f"sub {o.type} {o.literal(0)}, {x}"), quotient)


def _divided(o: Operands, op: str, x: str, y: str, *, signed: bool) -> str:
    sign, word = "s" if signed else "u", "div" if op == "div" else "rem"
    return o.put(f"{sign}{word} {o.type} {x}, {y}")


def _by_lanes(o: Operands, op: str, x: str, y: str, *, signed: bool) -> str:
    """`_divided`, of vectors in floats that hold all such integers: processors divide one by one.

    It is exact: a quotient that is no integer is farther from one than it is rounded.
    """
    if not o.is_vector or o.dtype.bits > WIDEST_IN_FLOATS:
        return _divided(o, op, x, y, signed=signed)
    wide = o.em.type(FLOAT64 if o.dtype.bits > WIDEST_IN_FLOATS // 2 else FLOAT32, is_vector=True)
    sign = "s" if signed else "u"
    a, b = (o.put(f"{sign}itofp {o.type} {operand} to {wide}") for operand in (x, y))
    quotient = o.put(f"fpto{sign}i {wide} {o.put(f'fdiv {wide} {a}, {b}')} to {o.type}")
    if op == "div":
        return quotient
    return o.put(f"sub {o.type} {x}, {o.put(f'mul {o.type} {quotient}, {y}')}")


WIDEST_IN_FLOATS = 32
"""Bits of integers of which float64 holds all; of those of half as many, float32 does."""
