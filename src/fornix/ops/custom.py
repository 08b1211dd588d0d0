"""Operators that users write: one decorated function with NumPy, or several for several versions.

    @fornix.op("my.domain::Clip01 <low: float = 0.0> (x: T[...]) => (y: T[...])", T="float, double")
    def clip01(x, *, low):
        return np.clip(x, low, 1).astype(x.dtype)

Decides what a decoration declares, and holds the parameters of functions to it. The operator stands
in the same table as those of the standard (`registered`); its functions are called through `guard`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from fornix import ops
from fornix.errors import DTypeError, FornixError, SchemaError
from fornix.ir.attribute import AttributeKind
from fornix.ops.call import RunNode, bind_attributes, check_arity, check_values, run_node
from fornix.ops.declared import rule_of
from fornix.ops.guard import grad_of, infer_of, kernel_of, lower_of
from fornix.ops.op import Rule
from fornix.ops.opsets import LATEST
from fornix.ops.parameters import check_parameters, signature_of
from fornix.ops.pointwise import pointwise_rules
from fornix.ops.registered import add_rule, deregister, register
from fornix.ops.schema import Schema
from fornix.ops.signature import Formal, FormalAttribute, Signature, parse_signature
from fornix.ops.types import BF16, E8M0, F4, F6, F8, I2, I4, TENSOR, TypeSet, spelling

F = TypeVar("F", bound=Callable[..., Any])
Types = TypeSet | str | Iterable[str]

ANY = TENSOR | BF16 | F8 | E8M0 | F6 | F4 | I4 | I2
"""What a type variable may be of which nothing is said."""

_NO_KINDS = {AttributeKind.UNDEFINED, AttributeKind.GRAPH, AttributeKind.GRAPHS}
# What the elements of a default may be; tensors and types have none.
_DEFAULTS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,)}
_DOMAIN = re.compile(r"\s*(?P<domain>[^\s:<(\"]+)::(?=\s*\w)")
_COMMA = re.compile(r",(?![^(]*\))")


class CustomOperator:
    """One version of a registered operator; calling it runs its kernel.

    `infer`, `lower` and `grad` are decorators that add its other rules, called like those of all
    operators.
    """

    def __init__(self, schema: Schema, function: Rule) -> None:
        self.schema = schema
        functools.update_wrapper(self, function)

    @property
    def domain(self) -> str:
        """The domain that models import."""
        return self.schema.domain

    @property
    def name(self) -> str:
        """What nodes have as their ``op_type``."""
        return self.schema.name

    @property
    def version(self) -> int:
        """The opset of the domain from which on it holds."""
        return self.schema.since_version

    def infer(self, function: F) -> F:
        """Register the rule that gives types and shapes of the outputs, in place of another."""
        return self._add("infer", function, infer_of(function))

    def lower(self, function: F) -> F:
        """Register the rule that writes the operator as loops; what it makes is compiled."""
        return self._add("lower", function, lower_of(function))

    def grad(self, function: F) -> F:
        """Register the derivative, which builds the gradients of the inputs as nodes."""
        return self._add("grad", function, grad_of(function))

    def _add(self, kind: str, function: F, rule: Rule) -> F:
        check_parameters(function, self.schema, kind)
        add_rule(self.domain, self.name, self.version, kind, rule)
        return function

    def unregister(self) -> None:
        """Forget this version; raises SchemaError if that has been done."""
        deregister(self.domain, self.name, self.version)

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        """What the kernel gives for arrays and, by keyword, attributes; several outputs a tuple.

        It is checked as in a run. Raises the errors of a run.
        """
        operator = ops.find(self.domain, self.name)
        try:
            if operator is None:
                raise SchemaError("it has to be registered, which it is no more")
            given = [_as_value(x, self.schema, index) for index, x in enumerate(inputs)]
            count = max(1, self.schema.min_output, len(self.schema.outputs))
            check_arity(self.schema, given, count)
            check_values(self.schema, given)
            node = RunNode(
                operator=operator,
                schema=self.schema,
                opset=self.version,
                wanted=(True,) * count,
                run_body=_no_body,
            )
            results = run_node(given, bind_attributes(self.schema, attributes), node)
        except FornixError as error:
            raise error.at(_label(self.schema)) from error.__cause__
        return results[0] if len(results) == 1 else results

    def __repr__(self) -> str:
        return f"<operator {_label(self.schema)}>"


def op(
    signature: str,
    *,
    since: int = 1,
    deterministic: bool = True,
    elementwise: bool = False,
    replace: bool = False,
    **types: Types,
) -> Callable[[Rule], CustomOperator]:
    """Decorate the NumPy kernel of an operator of your own, and so make it known everywhere.

    ``signature`` is ``domain::Name`` with attributes, inputs and outputs in the notation in which
    the standard's operators are declared; without these, they are read off the function. Extents
    behind types, ``T[N, C]``, say what inference may rely on. ``types`` are the sets of the type
    variables, as `TypeSet` or in words ("float, double"); of others any tensor will do. ``since``
    is the opset of the domain from which on this version holds. With ``elementwise`` the function
    is written with `fornix.ops.scalar` for one element, and compiled. What is ``deterministic`` may
    be computed ahead, once for equal nodes, or not at all where nobody reads it.

    Raises SchemaError for a version that is registered, unless ``replace``, and for an operator of
    the standard; ParseError for a signature that breaks the notation.
    """

    def decorate(function: Rule) -> CustomOperator:
        schema = _schema(signature, function, since, types)
        check_parameters(function, schema, "kernel")
        rules = _elementwise(function) if elementwise else {"kernel": kernel_of(function)}
        inferred = rule_of(schema)
        if inferred is not None:
            rules["infer"] = inferred
        register(schema, rules, is_deterministic=deterministic, replace=replace)
        return CustomOperator(schema, function)

    return decorate


def _elementwise(function: Rule) -> dict[str, Rule]:
    made = pointwise_rules(function, inspect.getdoc(function) or "")
    kernel, lower = kernel_of(made["kernel"]), lower_of(made["lower"])
    return {"infer": infer_of(made["infer"]), "kernel": kernel, "lower": lower}


def _schema(text: str, function: Rule, since: int, types: Mapping[str, Types]) -> Schema:
    found = _DOMAIN.match(text)
    domain = "" if found is None else found["domain"]
    if not domain or domain in LATEST:
        raise SchemaError(
            "an operator of your own needs a domain of its own, as in 'my.domain::Name', "
            f"found {text.strip()!r}"
        )
    rest = text[len(domain) + 2 :] if found is None else text[found.end() :]
    if "(" not in rest:
        rest = signature_of(rest.strip(), function)
    signature = parse_signature(rest)
    label = f"{domain}::{signature.name}-{since}"
    if since < 1:
        raise SchemaError(f"{label}: since has to be an opset, which is 1 or more, found {since}")
    return Schema(
        domain,
        signature.name,
        since,
        tuple(_formal(formal, label) for formal in signature.inputs),
        tuple(_formal(formal, label) for formal in signature.outputs),
        {x.name: _attribute(x, label) for x in signature.attributes},
        _constraints(signature, types, label),
    )


def _formal(formal: Formal, label: str) -> Formal:
    """``formal`` with its type, if that is no variable, as constraints spell it."""
    if "(" not in formal.type_text:
        return formal
    try:
        return dataclasses.replace(formal, type_text=spelling(formal.type_text))
    except DTypeError:
        raise DTypeError(
            f"{label}: {formal.name} must be of a type such as 'tensor(float)' or 'seq(float)', "
            f"found {formal.type_text!r}; a variable stands for types of all kinds: "
            f"{formal.name}: S with S='seq(tensor(float)), seq(tensor(double))'"
        ) from None


def _attribute(formal: FormalAttribute, label: str) -> FormalAttribute:
    """``formal``, held to the kinds that there are, with a default of its kind."""
    words = [kind.text for kind in AttributeKind if kind not in _NO_KINDS]
    if formal.kind not in words:
        raise SchemaError(
            f"{label}: attribute {formal.name} must be one of {', '.join(words)}, "
            f"found {formal.kind!r}"
        )
    default = formal.default
    if default is None:
        return formal
    is_list, allowed = isinstance(default, list), _DEFAULTS.get(formal.kind.removesuffix("s"), ())
    elements = default if isinstance(default, list) else [default]
    is_kind_list = AttributeKind[formal.kind.upper()].is_list
    if is_list != is_kind_list or not all(isinstance(x, allowed) for x in elements):
        raise SchemaError(
            f"{label}: the default of attribute {formal.name} must be of kind {formal.kind}, "
            f"found {default!r}"
        )
    if allowed is _DEFAULTS["float"]:
        floats = [float(cast("float", x)) for x in elements]
        return dataclasses.replace(formal, default=floats if is_list else floats[0])
    return formal


def _constraints(
    signature: Signature, types: Mapping[str, Types], label: str
) -> dict[str, TypeSet]:
    """The sets of the type variables in ``signature``, in the order in which they occur."""
    formals: tuple[Formal, ...] = (*signature.inputs, *signature.outputs)
    variables = dict.fromkeys(x.type_text for x in formals if "(" not in x.type_text)
    for name in types:
        if name not in variables:
            have = ", ".join(variables) or "none"
            raise SchemaError(
                f"{label}: its signature has the type variables {have}, found {name!r}"
            )
    return {
        name: _type_set(types[name], f"{label}: {name}") if name in types else ANY
        for name in variables
    }


def _type_set(given: Types, label: str) -> TypeSet:
    if isinstance(given, TypeSet):
        return given
    words = _COMMA.split(given) if isinstance(given, str) else list(given)
    try:
        return TypeSet(frozenset(map(spelling, words)))
    except DTypeError:
        raise DTypeError(
            f"{label} must be a set of types such as 'float, double' or 'seq(tensor(float))', "
            f"found {', '.join(words)!r}"
        ) from None


def _as_value(value: Any, schema: Schema, index: int) -> Any:
    """An input as kernels take it: a list is an array, unless it may be a sequence."""
    allowed = schema.allowed(schema.formal_input(index)) if schema.inputs else frozenset[str]()
    is_sequence = isinstance(value, list) and any(x.startswith("seq(") for x in allowed)
    return value if value is None or is_sequence else np.asarray(value)


def _label(schema: Schema) -> str:
    return f"{schema.domain}::{schema.name}-{schema.since_version}"


def _no_body(*_: object) -> list[Any]:
    raise SchemaError("bodies run only as part of a model")
