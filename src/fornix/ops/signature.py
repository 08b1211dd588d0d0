"""Operator signatures in ONNX text notation, read into the formal parts of a schema.

    Name <attribute: kind, optional: kind?, preset: kind = value> (X: T, B: T?) => (Y: T)

The notation is that of ONNX function headers, extended by what schemas need: a formal's type is a
type variable or a literal such as ``tensor(int64)``, and a suffix says how often the formal occurs:
``T?`` optional, ``T+`` one or more, ``T*`` any number; ``each T+`` lets every occurrence differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import cast

from fornix.format.text.tokens import Tokens

AttributeDefault = int | float | str | list[int] | list[float] | list[str]


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
    if tokens.accept("?"):
        return Formal(name, type_text, Occurrence.OPTIONAL)
    for suffix, least in (("+", 1), ("*", 0)):
        if tokens.accept(suffix):
            return Formal(name, type_text, Occurrence.VARIADIC, is_homogeneous, least)
    return Formal(name, type_text)
