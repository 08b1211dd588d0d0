"""The mechanism by which one operator's whole life stands in one place.

`op` starts a declaration, `.since` continues its history as deltas, and the decorators `infer`,
`kernel`, `lower`, `body`, `grad` and `adapt` add its rules. A rule holds from the schema version
at which it was registered until a later registration replaces it. How rules are called is
`call.py`'s matter; what a signature may say is `signature.py`'s.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, overload

from fornix.errors import SchemaError
from fornix.ops.geometry import broadcast_shapes
from fornix.ops.pointwise import pointwise_rules
from fornix.ops.schema import Schema
from fornix.ops.signature import Signature, parse_signature
from fornix.ops.types import Change, TypeSet

F = TypeVar("F", bound=Callable[..., Any])
Rule = Callable[..., Any]

RULES = ("infer", "kernel", "lower", "opaque", "body", "grad")
"""The kinds of rule that hold from a schema version on; `adapt` stands between two versions."""

EARLY = frozenset({"LayerNormalization"})
"""Operators of ai.onnx that optimizers write into models of opsets that did not have them yet."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of an operator's history: what this schema version changes."""

    version: int
    signature: str | None
    constraints: dict[str, TypeSet | Change]
    note: str
    is_deprecated: bool
    is_undetermined: bool


@dataclass(eq=False, repr=False)
class Operator:
    """An operator with its history and its rules; one object per (domain, name)."""

    domain: str
    name: str
    history: list[Step]
    rules: dict[str, dict[int, Rule | None]] = field(default_factory=dict)
    """By kind and by the version from which they hold; None where an earlier one holds no more."""
    adapters: dict[tuple[int, int], Rule] = field(default_factory=dict)
    body_opsets: dict[int, int | None] = field(default_factory=dict)
    """By the version from which a text holds as body, the opset of its nodes; None: its own."""
    older_bodies: dict[int, dict[int, Rule]] = field(default_factory=dict)
    """By the version from which they hold and by opset: bodies in opsets older than the body's."""
    is_deterministic: bool = True
    stamp: str = ""
    """Tells apart what a name meant at different times, of operators that users registered."""

    def __repr__(self) -> str:
        return f"<operator {self.domain or 'ai.onnx'}::{self.name}>"

    # NB: a plain method, not a decorator: it continues the declaration as an expression.
    def since(
        self,
        version: int,
        signature: str | None = None,
        *,
        note: str = "",
        deprecated: bool = False,
        undetermined: bool = False,
        **constraints: TypeSet | Change,
    ) -> Operator:
        """Declare what schema version ``version`` changes; what is left out is inherited.

        Of one that is ``undetermined`` the standard does not say whether equal inputs give equal
        results; kernels of fornix see to it.
        """
        self.history.append(Step(version, signature, constraints, note, deprecated, undetermined))
        return self

    @cached_property
    def schemas(self) -> tuple[Schema, ...]:
        """Every schema version, oldest first."""
        schemas: list[Schema] = []
        constraints: dict[str, TypeSet] = {}
        signature: Signature | None = None
        for step in self.history:
            if step.signature is not None:
                signature = parse_signature(step.signature)
            if signature is None or signature.name != self.name:
                raise SchemaError(f"{self.name}-{step.version}: its signature must name it")
            constraints = self._constraints(constraints, step, signature)
            schemas.append(
                Schema(
                    self.domain,
                    self.name,
                    step.version,
                    signature.inputs,
                    signature.outputs,
                    {attribute.name: attribute for attribute in signature.attributes},
                    constraints,
                    step.note,
                    step.is_deprecated,
                    step.is_undetermined,
                )
            )
        return tuple(schemas)

    def _constraints(
        self, inherited: dict[str, TypeSet], step: Step, signature: Signature
    ) -> dict[str, TypeSet]:
        """The type variables that ``signature`` uses, each with its set after ``step``."""
        merged = dict(inherited)
        for name, change in step.constraints.items():
            if isinstance(change, TypeSet):
                merged[name] = change
            elif name in inherited:
                merged[name] = change.apply(inherited[name])
            else:
                raise SchemaError(
                    f"{self.name}-{step.version}: {name} must have a type set before it changes"
                )
        used = {formal.type_text for formal in (*signature.inputs, *signature.outputs)}
        return {name: merged[name] for name in merged if name in used or name in step.constraints}

    def schema(self, opset: int, *, strict: bool = False) -> Schema:
        """The schema in force at ``opset``: the newest that is not newer.

        For one of those that come `EARLY` the oldest, unless ``strict`` asks for the standard's.
        """
        found = [schema for schema in self.schemas if schema.since_version <= opset]
        if not found and not strict and not self.domain and self.name in EARLY:
            return self.schemas[0]
        if not found:
            raise SchemaError(
                f"{self.name}: needs {self.domain or 'ai.onnx'} opset "
                f"{self.schemas[0].since_version} or newer, the model imports {opset}"
            )
        return found[-1]

    def rule(self, kind: str, version: int) -> Rule | None:
        """The ``kind`` rule that holds at schema version ``version``, if there is one."""
        versions = self.rules.get(kind)
        if not versions:
            return None
        since = max((start for start in versions if start <= version), default=None)
        return None if since is None else versions[since]

    def _register(self, kind: str, function: F | None, since: int) -> F | Callable[[F], F]:
        def keep(function: F) -> F:
            self.rules.setdefault(kind, {})[since] = function
            return function

        return keep if function is None else keep(function)

    @overload
    def infer(self, function: F) -> F: ...
    @overload
    def infer(self, *, since: int) -> Callable[[F], F]: ...
    def infer(self, function: F | None = None, *, since: int = 1) -> F | Callable[[F], F]:
        """Register the rule that gives types and shapes of the outputs."""
        return self._register("infer", function, since)

    @overload
    def kernel(self, function: F) -> F: ...
    @overload
    def kernel(self, *, since: int) -> Callable[[F], F]: ...
    def kernel(self, function: F | None = None, *, since: int = 1) -> F | Callable[[F], F]:
        """Register the NumPy rule, the meaning of the operator."""
        return self._register("kernel", function, since)

    @overload
    def lower(self, function: F) -> F: ...
    @overload
    def lower(self, *, since: int) -> Callable[[F], F]: ...
    def lower(self, function: F | None = None, *, since: int = 1) -> F | Callable[[F], F]:
        """Register the rule that writes the operator as tensor expressions."""
        return self._register("lower", function, since)

    @overload
    def body(self, text: F) -> F: ...
    @overload
    def body(
        self, text: str, *, since: int = 1, opset: int | None = None, by_node: bool = False
    ) -> Operator: ...
    @overload
    def body(self, *, since: int) -> Callable[[F], F]: ...
    def body(
        self,
        text: str | F | None = None,
        *,
        since: int = 1,
        opset: int | None = None,
        by_node: bool = False,
    ) -> Operator | F | Callable[[F], F]:
        """Register the decomposition: nodes in ONNX text, or a rule that writes them for a node.

        Nodes in text are those of ``opset``, by default of the schema's own version; ``by_node``
        gives them where they are asked for a node, as the standard does, and not else.
        See `fornix.ops.body` for the header that completes them to a function.
        """
        if not isinstance(text, str):
            return self._register("body", text, since)
        nodes = textwrap.dedent(text).strip("\n")

        def of_node(*, node: object) -> str:
            return nodes

        self.rules.setdefault("body", {})[since] = of_node if by_node else lambda: nodes
        if not by_node:
            self.body_opsets[since] = opset
        return self

    def older_body(self, *, since: int, opset: int) -> Callable[[F], F]:
        """Register the body of version ``since`` for models that import ``opset`` or some newer.

        It is for operators whose `body`, of the same version, is written in an opset newer still.
        """

        def keep(function: F) -> F:
            self.older_bodies.setdefault(since, {})[opset] = function
            return function

        return keep

    def opaque(self, reason: str, *, since: int = 1) -> Operator:
        """Declare that the kernel serves compiled models too, and why loops do not fit."""
        self.rules.setdefault("opaque", {})[since] = lambda: reason
        return self

    @overload
    def grad(self, function: F) -> F: ...
    @overload
    def grad(self, *, since: int) -> Callable[[F], F]: ...
    def grad(self, function: F | None = None, *, since: int = 1) -> F | Callable[[F], F]:
        """Register the derivative: a rule that builds the gradients of the inputs as nodes."""
        return self._register("grad", function, since)

    def elementwise(
        self,
        function: Rule,
        description: str,
        *,
        since: int = 1,
        common_shape: Rule = broadcast_shapes,
    ) -> Operator:
        """Register the rules of an operator that computes each element by ``function``."""
        for kind, rule in pointwise_rules(function, description, common_shape).items():
            self.rules.setdefault(kind, {})[since] = rule
        return self

    def adapt(self, source: int, target: int) -> Callable[[F], F]:
        """Register the step that rewrites a node of schema ``source`` as one of ``target``."""

        def keep(function: F) -> F:
            self.adapters[source, target] = function
            return function

        return keep


def op(
    signature: str,
    *,
    since: int,
    domain: str = "",
    note: str = "",
    deprecated: bool = False,
    deterministic: bool = True,
    undetermined: bool = False,
    **constraints: TypeSet,
) -> Operator:
    """Start the declaration of an operator with its first schema version."""
    name = re.match(r"\s*(\w+)", signature)
    if name is None:
        raise SchemaError(f"a signature must begin with the operator's name, found {signature!r}")
    operator = Operator(domain, name[1], [], is_deterministic=deterministic)
    return operator.since(
        since,
        signature,
        note=note,
        deprecated=deprecated,
        undetermined=undetermined,
        **constraints,
    )
