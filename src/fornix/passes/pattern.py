"""Patterns of nodes, and rules that replace what they match.

A pattern is written as the expression that it matches, `P.Mul(any_("x"), number(0.5))`; what it
binds becomes the parameters of the rewrite by name. Guards stand in the pattern: `const` matches
stored data only and binds the array, ``"B?"`` may be absent, ``single_use`` spares nodes that
others read, a name that occurs twice must be the same value. Add and Mul match in both orders.

    @rewrite(P.Conv(any_("x"), const("W"), const("B?"), bind="conv"))
    def name_of_the_rule(x, W, B, conv, make): ...

A rewrite returns the value that replaces the matched node, built with `make`, or None to decline.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from fornix.dtype import BFLOAT16
from fornix.ir.graph import Node, Value

Bindings = Mapping[str, Any]
Rewrite = Callable[..., Value | None]

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal"})
"""Operators of two inputs whose order does not matter."""

_NUMBERS = frozenset({"float", "int", "uint", "bool"})

NUMBER_RTOL = 1e-3
"""How close a stored number must be to the one in a pattern: float16 exports round √2 that far."""


class Pattern:
    """What a value must be; `matches` yields every way in which it is."""

    def admits(self, value: Value | None) -> bool:
        """Whether `matches` is worth asking: most values are ruled out at a glance."""
        return value is not None

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        """The bindings, ``bound`` included, under which ``value`` matches."""
        raise NotImplementedError


@dataclass(frozen=True)
class Anything(Pattern):
    """Any value; binds it. A name with ``?`` may be absent and then binds None."""

    name: str

    def admits(self, value: Value | None) -> bool:
        return value is not None or self.name.endswith("?")

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        if value is not None or self.name.endswith("?"):
            yield from _bind(self.name.removesuffix("?"), value, bound)


@dataclass(frozen=True)
class Stored(Pattern):
    """A constant; binds its array. A name with ``?`` may be absent and then binds None."""

    name: str

    def admits(self, value: Value | None) -> bool:
        return _may_be_stored(value) if value is not None else self.name.endswith("?")

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        if value is None:
            if self.name.endswith("?"):
                yield {**bound, self.name.removesuffix("?"): None}
            return
        tensor = value.constant
        if tensor is not None:
            yield from _bind(self.name.removesuffix("?"), tensor.numpy(), bound)


@dataclass(frozen=True)
class Number(Pattern):
    """A constant of one element that is close to ``value``, or any such constant if it is None."""

    value: float | None
    name: str | None = None

    def admits(self, value: Value | None) -> bool:
        return value is not None and _may_be_stored(value)

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        tensor = None if value is None else value.constant
        if tensor is None or math.prod(tensor.shape) != 1 or tensor.dtype.kind not in _NUMBERS:
            return
        found = float(tensor.numpy().reshape(()).astype(np.float64))
        wanted = self.value
        if wanted is not None and tensor.dtype is BFLOAT16:  # of which exports round √2 farther
            wanted = float(BFLOAT16.numpy.type(wanted))
        if wanted is not None and not math.isclose(found, wanted, rel_tol=NUMBER_RTOL):
            return
        yield from [bound] if self.name is None else _bind(self.name, found, bound)


@dataclass(frozen=True)
class Application(Pattern):
    """The first result of a node; ``bind`` binds the node itself."""

    op_type: str
    inputs: tuple[Pattern, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    bind: str | None = None
    single_use: bool = False
    domain: str = ""

    def admits(self, value: Value | None) -> bool:
        node = None if value is None else value.producer
        return node is not None and node.op_type == self.op_type

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        node = None if value is None else value.producer
        if node is None or value is None or value.index != 0:
            return
        if self.single_use and (len(value.uses) != 1 or value.is_output):
            return
        yield from self.matches_node(node, bound)

    def matches_node(self, node: Node, bound: Bindings) -> Iterator[Bindings]:
        """As `matches`, for the node itself."""
        if node.op_type != self.op_type or node.domain != self.domain:
            return
        if len(node.inputs) > len(self.inputs):
            return
        if any(node.attr(name, wanted) != wanted for name, wanted in self.attributes.items()):
            return
        if self.bind is not None:
            bound = {**bound, self.bind: node}
        inputs = (*node.inputs, *[None] * (len(self.inputs) - len(node.inputs)))
        orders = [inputs]
        if self.op_type in COMMUTATIVE and len(inputs) == 2:
            orders.append(inputs[::-1])
        for order in orders:
            if all(map(_admits, self.inputs, order)):
                yield from _match_all(self.inputs, order, bound)


@dataclass(frozen=True)
class Either(Pattern):
    """Whatever one of ``choices`` matches."""

    choices: tuple[Pattern, ...]

    def admits(self, value: Value | None) -> bool:
        return any(choice.admits(value) for choice in self.choices)

    def matches(self, value: Value | None, bound: Bindings) -> Iterator[Bindings]:
        for choice in self.choices:
            yield from choice.matches(value, bound)


def _admits(pattern: Pattern, value: Value | None) -> bool:
    return pattern.admits(value)


def _may_be_stored(value: Value) -> bool:
    return value.producer is None or value.producer.op_type == "Constant"


def _bind(name: str, found: Any, bound: Bindings) -> Iterator[Bindings]:
    if name not in bound:
        yield {**bound, name: found}
    elif _is_same(found, bound[name]):
        yield bound


def _is_same(found: object, before: object) -> bool:
    """Whether both are one value, or constants with the same contents."""
    if isinstance(found, np.ndarray) and isinstance(before, np.ndarray):
        return found is before or np.array_equal(found, before)
    return found is before or (isinstance(found, float) and found == before)


def _match_all(
    patterns: tuple[Pattern, ...], values: tuple[Value | None, ...], bound: Bindings
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for inner in patterns[0].matches(values[0], bound):
        yield from _match_all(patterns[1:], values[1:], inner)


class Operators:
    """`P.Conv(…)`: the pattern of a node by its operator."""

    def __getattr__(self, op_type: str) -> Callable[..., Application]:
        def application(
            *inputs: Pattern,
            bind: str | None = None,
            single_use: bool = False,
            domain: str = "",
            **attributes: object,
        ) -> Application:
            return Application(op_type, inputs, attributes, bind, single_use, domain)

        return application


P = Operators()


def any_(name: str) -> Anything:
    """Any value; binds it as ``name``; ``name?`` may be absent and binds None."""
    return Anything(name)


def const(name: str) -> Stored:
    """A constant; binds its array as ``name``; ``name?`` may be absent and binds None."""
    return Stored(name)


def number(value: float | None = None, name: str | None = None) -> Number:
    """A constant of one element, close to ``value`` if that is given; binds it as ``name``."""
    return Number(value, name)


def either(*choices: Pattern) -> Either:
    """What one of ``choices`` matches, tried in order."""
    return Either(choices)


@dataclass(frozen=True)
class Rule:
    """A pattern and the rewrite of what it matches."""

    pattern: Application
    rewrite: Rewrite

    @property
    def name(self) -> str:
        """The name of the rewrite."""
        return getattr(self.rewrite, "__name__", "rule")

    def apply(self, node: Node, make: object) -> Value | None:
        """The replacement of ``node``, or None if nothing matches or the rewrite declines."""
        for bound in self.pattern.matches_node(node, {"make": make}):
            result = self.rewrite(**{n: bound[n] for n in _parameters(self.rewrite) if n in bound})
            if result is not None:
                return result
        return None


@cache
def _parameters(function: Rewrite) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def rewrite(*patterns: Application) -> Callable[[Rewrite], tuple[Rule, ...]]:
    """Decorate a rewrite: one rule for each of ``patterns``."""

    def decorate(function: Rewrite) -> tuple[Rule, ...]:
        return tuple(Rule(pattern, function) for pattern in patterns)

    return decorate


__all__ = [
    "Application", "P", "Pattern", "Rule", "any_", "const", "either", "number", "rewrite",
]  # fmt: skip
