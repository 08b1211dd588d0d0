"""Reading dims from text: ONNX's dim_param as exporters write it, and what `str` prints.

Understood are integers, names, ``+ - * / // % **``, parentheses, and the functions of sympy and
torch by which shapes are written: floor, ceiling, Min, Max, FloorDiv, CleanDiv, Mod … A ``/``
gives a fraction, which must vanish again: ``floor(x/2)`` is ``x//2``, a lone ``x/2`` is no dim.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fornix.errors import FornixError, ParseError
from fornix.ir.dim.expression import (
    IDENTIFIER,
    Dim,
    DimLike,
    Extreme,
    Floor,
    symbol,
    unknown,
)
from fornix.ir.dim.prove import is_nonnegative
from fornix.ir.dim.simplify import ceildiv, divide, exact_quotient, maximum, minimum

MAX_LENGTH = 2048
"""Characters that are read of anybody's text; longer ones are names."""
MAX_NESTING = 32
MAX_POWER = 16

_TOKEN = re.compile(
    rf"\s*(?:(?P<number>\d{{1,30}}(?![\w.]))|(?P<name>{IDENTIFIER.pattern})"
    r"|'(?P<quoted>(?:[^']|'')*)'|(?P<sign>//|\*\*|[-+*/%^(),?]))"
)


class _Fraction(NamedTuple):
    """``num / den``, an exact rational; ``den`` is 1 for whole numbers."""

    num: DimLike
    den: DimLike = 1


def parse(text: str, at_most: int = MAX_LENGTH) -> DimLike | None:
    """The dim that ``text`` describes, or None if it is no dim expression or is longer than that.

    The result prints as ``text`` again. Names become symbols that are at least 0.
    """
    if len(text) > at_most:
        return None
    try:
        parsed = _Parser(text).whole()
    except FornixError:
        return None
    if not isinstance(parsed, Dim):
        return parsed
    return Dim(parsed.terms, text)


def printed(text: str) -> DimLike | None:
    """The dim that has been printed as ``text``; None if that is no dim expression.

    Whoever printed it had it in normal form, so that nothing in it is looked at for what is
    simpler: that takes most of the time of `parse`.
    """
    try:
        return _Parser(text, is_normal=True).whole()
    except FornixError:
        return None


def named(text: str) -> Dim:
    """The dim of a dim_param: parsed if it is an expression, else a symbol of that name."""
    parsed = parse(text)
    return parsed if isinstance(parsed, Dim) else symbol(text)


class _Parser:
    """Recursive descent over tokens ``(kind, text)``; raises ParseError at what it cannot read."""

    def __init__(self, text: str, *, is_normal: bool = False) -> None:
        """Of what ``is_normal``, quotients and extremes are taken as they are written."""
        self.is_normal = is_normal
        self.tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise ParseError(f"no dim expression: {text!r}")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind]))
            at = found.end()
        self.at = 0
        self.depth = 0

    def whole(self) -> DimLike:
        value = self.sum()
        if self.at != len(self.tokens):
            raise ParseError("expected the end of the dim expression")
        return _integral(value)

    def accept(self, *signs: str) -> str | None:
        """The next token if it is one of ``signs``."""
        if self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if kind == "sign" and text in signs:
                self.at += 1
                return text
        return None

    def expect(self, sign: str) -> None:
        if self.accept(sign) is None:
            raise ParseError(f"expected {sign!r}")

    def sum(self) -> _Fraction:
        value = self.product()
        while sign := self.accept("+", "-"):
            other = self.product()
            other_num = other.num if sign == "+" else -other.num
            value = _Fraction(value.num * other.den + other_num * value.den, value.den * other.den)
        return value

    def product(self) -> _Fraction:
        value = self.signed()
        while sign := self.accept("*", "/", "//", "%"):
            other = self.signed()
            if sign == "//" and self.is_normal:
                value = _Fraction(Dim({(Floor(value.num, other.num),): 1}))
            else:
                value = _combine(sign, value, other)
        return value

    def signed(self) -> _Fraction:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise ParseError(f"a dim expression nests at most {MAX_NESTING} levels")
        if self.accept("-"):
            value = self.signed()
            value = _Fraction(-value.num, value.den)
        else:
            value = self.primary()
            if self.accept("**", "^"):
                value = _power(value, _integral(self.signed()))
        self.depth -= 1
        return value

    def primary(self) -> _Fraction:
        if self.accept("("):
            value = self.sum()
            self.expect(")")
            return value
        if self.accept("?"):
            return _Fraction(unknown("written as ?"))
        if self.at == len(self.tokens):
            raise ParseError("the dim expression ends too early")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return _Fraction(int(text))
        if kind == "quoted":
            return _Fraction(symbol(text.replace("''", "'")))
        if kind != "name":
            raise ParseError(f"expected a number or a name, found {text!r}")
        if self.accept("("):
            values = self.arguments()
            if self.is_normal and text in {"min", "max"}:
                extreme = Extreme(text, tuple(value.num for value in values))
                return _Fraction(Dim({(extreme,): 1}))
            return _call(text.lower(), values)
        return _Fraction(symbol(text))

    def arguments(self) -> list[_Fraction]:
        values = [self.sum()]
        while self.accept(","):
            values.append(self.sum())
        self.expect(")")
        return values


def _integral(value: _Fraction) -> DimLike:
    """The value, which must be whole for all values of its symbols."""
    if isinstance(value.den, int) and value.den == 1:
        return value.num
    quotient = exact_quotient(value.num, value.den)
    if quotient is None:
        raise ParseError(f"({value.num})/({value.den}) is not an integer")
    return quotient


def _combine(sign: str, a: _Fraction, b: _Fraction) -> _Fraction:
    if sign == "*":
        return _Fraction(a.num * b.num, a.den * b.den)
    num, den = a.num * b.den, a.den * b.num
    if sign == "/":
        return _Fraction(num, den)
    floor = divide(num, den)
    if sign == "//":
        return _Fraction(floor)
    return _Fraction(a.num * b.den - floor * a.den * b.num, a.den * b.den)


def _power(base: _Fraction, exponent: DimLike) -> _Fraction:
    if not isinstance(exponent, int) or not 0 <= exponent <= MAX_POWER:
        raise ParseError(f"an exponent lies in 0..{MAX_POWER}")
    result = _Fraction(1)
    for _ in range(exponent):
        result = _Fraction(result.num * base.num, result.den * base.den)
    return result


def _call(function: str, values: list[_Fraction]) -> _Fraction:
    """A function of sympy, torch or Python; names in lower case."""
    if function in {"min", "max"}:
        choices = [_integral(v) for v in values]
        return _Fraction(minimum(*choices) if function == "min" else maximum(*choices))
    if len(values) == 1:
        return _Fraction(_rounded(function, values[0]))
    if len(values) == 2:
        a, b = values
        match function:
            case "floordiv" | "cleandiv":
                return _combine("//", a, b)
            case "ceildiv":
                return _Fraction(ceildiv(a.num * b.den, a.den * b.num))
            case "inttruediv" | "floattruediv":
                return _combine("/", a, b)
            case "mod" | "pythonmod":
                return _combine("%", a, b)
            case "powbynatural" | "pow":
                return _power(a, _integral(b))
    raise ParseError(f"{function}() of {len(values)} arguments is not known in dim expressions")


def _rounded(function: str, value: _Fraction) -> DimLike:
    """A function that makes an integer of a fraction."""
    match function:
        case "floor" | "floortoint":
            return divide(value.num, value.den)
        case "ceil" | "ceiling" | "ceiltoint":
            return ceildiv(value.num, value.den)
        case "identity" | "int":
            return _integral(value)
        case "trunc" | "trunctoint" if is_nonnegative(value.num) and is_nonnegative(value.den):
            return divide(value.num, value.den)
    raise ParseError(f"{function}() is not known in dim expressions")
