"""Operator signatures in ONNX text notation, read into the formal parts of a schema.

    Name <attribute: kind, optional: kind?, preset: kind = value> (X: T, B: T?) => (Y: T)

The notation is that of ONNX function headers, extended by what schemas need: a formal's type is a
type variable or a literal such as ``tensor(int64)``, or ``int64`` for short, and a suffix says how
often the formal occurs: ``T?`` optional, ``T+`` one or more, ``T*`` any number; ``each T+`` lets
every occurrence differ. Extents may stand behind the type: ``T[N, 2*C]``, where ``...`` is any
number of axes, as in ``T[..., N]``; what follows from them is decided in `declared`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import EllipsisType
from typing import TypeAlias, cast

from fornix.dtype import ALL
from fornix.format.text.tokens import END, Tokens
from fornix.ir.dim import DimLike, parse

AttributeDefault = int | float | str | list[int] | list[float] | list[str]

Extents: TypeAlias = tuple[DimLike | EllipsisType, ...]
"""What a signature says of a shape; an ellipsis stands for any number of axes."""

_DTYPES = {name: dtype.text for dtype in ALL for name in (dtype.name, dtype.text)}


class Occurrence(Enum):
    """How often a formal parameter occurs in a node."""

    SINGLE = "single"
    OPTIONAL = "optional"
    VARIADIC = "variadic"


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal input or output: `type_text` is a type variable or a literal type."""

    name: str
    type_text: str
    occurrence: Occurrence = Occurrence.SINGLE
    is_homogeneous: bool = True
    min_arity: int = 1
    extents: Extents | None = None
    """Its shape, if the signature says one."""


@dataclass(frozen=True, slots=True)
class FormalAttribute:
    """A formal attribute: `kind` is the attribute type of ONNX text (``int``, ``floats`` …)."""

    name: str
    kind: str
    is_required: bool = True
    default: AttributeDefault | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """The parts of one signature, in the order in which they are written."""

    name: str
    attributes: tuple[FormalAttribute, ...]
    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]


def parse_signature(text: str) -> Signature:
    """Read ``text``; raises ParseError with the place where it leaves the notation."""
    tokens = Tokens(text, "<signature>")
    name = tokens.identifier("an operator name")
    attributes = tuple(_attributes(tokens)) if tokens.accept("<") else ()
    inputs = tuple(_formals(tokens))
    tokens.expect("=>", "between inputs and outputs")
    return Signature(name, attributes, inputs, tuple(_formals(tokens)))


def _attributes(tokens: Tokens) -> Iterator[FormalAttribute]:
    while True:
        name = tokens.identifier("an attribute name")
        tokens.expect(":", f"after attribute {name}")
        kind = tokens.identifier("an attribute type")
        if tokens.accept("?"):
            yield FormalAttribute(name, kind, is_required=False)
        elif tokens.accept("="):
            yield FormalAttribute(name, kind, is_required=False, default=_default(tokens))
        else:
            yield FormalAttribute(name, kind)
        if not tokens.more(">", "in the attributes"):
            return


def _default(tokens: Tokens) -> AttributeDefault:
    if not tokens.accept("["):
        return tokens.literal("a default")
    values = [tokens.literal("an element of the default")]
    while tokens.more("]", "in the default"):
        values.append(tokens.literal("an element of the default"))
    return cast("AttributeDefault", values)


def _formals(tokens: Tokens) -> Iterator[Formal]:
    tokens.expect("(", "before the formal parameters")
    if tokens.accept(")"):
        return
    while True:
        name = tokens.identifier_or_string("a parameter name")
        tokens.expect(":", f"after parameter {name}")
        yield _formal(tokens, name)
        if not tokens.more(")", "in the formal parameters"):
            return


def _formal(tokens: Tokens, name: str) -> Formal:
    is_homogeneous = not tokens.accept("each")
    type_text = tokens.identifier("a type variable or a type")
    if tokens.accept("("):
        type_text += f"({tokens.identifier('an element type')})"
        tokens.expect(")", "after the element type")
    elif type_text in _DTYPES:
        type_text = f"tensor({_DTYPES[type_text]})"
    extents = tuple(_extents(tokens)) if tokens.accept("[") else None
    if tokens.accept("?"):
        return Formal(name, type_text, Occurrence.OPTIONAL, extents=extents)
    for suffix, least in (("+", 1), ("*", 0)):
        if tokens.accept(suffix):
            return Formal(name, type_text, Occurrence.VARIADIC, is_homogeneous, least, extents)
    return Formal(name, type_text, extents=extents)


def _extents(tokens: Tokens) -> Iterator[DimLike | EllipsisType]:
    if tokens.accept("]"):
        return
    has_rest = False
    while True:
        if not has_rest and tokens.accept("..."):
            has_rest = True
            yield ...
        else:
            yield _extent(tokens)
        if not tokens.more("]", "in the extents"):
            return


def _extent(tokens: Tokens) -> DimLike:
    """The expression up to the next comma or bracket that belongs to none of its parentheses."""
    start, depth = tokens.start, 0
    while tokens.kind != END and (depth > 0 or tokens.word not in {",", "]"}):
        depth += {"(": 1, ")": -1}.get(tokens.word, 0)
        tokens.advance()
    found = parse(tokens.text[start : tokens.start])
    if found is None or (isinstance(found, int) and found < 0):
        raise tokens.error("expected an extent, such as N, 3 or 2*N + 1", start)
    return found
