"""`OpSchema` and what it consists of: one version of an operator's interface, as onnx shows it.

Schemas of the standard are read from `fornix.ops`; schemas made here become such by
`OpSchema.schema`. Descriptions are fornix's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from fornix.errors import DTypeError, InvalidArgument
from fornix.onnx._attributes import get_attribute_value, make_attribute
from fornix.onnx._kinds import MANY, Member, all_of, member_of, takes
from fornix.onnx.defs import _parts as parts
from fornix.onnx.defs._rules import Rules
from fornix.ops.descriptions import parameters_of
from fornix.ops.differentiable import differentiable
from fornix.ops.op import Operator
from fornix.ops.schema import UNBOUNDED, Schema
from fornix.ops.signature import Formal, FormalAttribute, Occurrence
from fornix.ops.types import TypeSet, spelling


class OpSchema(Rules):
    """One version of an operator's interface.

    Raises ValueError for a type that is neither a variable with a constraint nor a type's spelling.
    """

    AttrType = parts.AttrType
    Attribute = parts.Attribute
    DifferentiationCategory = parts.DifferentiationCategory
    FormalParameter = parts.FormalParameter
    FormalParameterOption = parts.FormalParameterOption
    NodeDeterminism = parts.NodeDeterminism
    SupportType = parts.SupportType
    TypeConstraintParam = parts.TypeConstraintParam

    name = Member[str](is_settable=True)
    domain = Member[str](is_settable=True)
    since_version = Member[int](is_settable=True)
    doc = Member[str | None](is_settable=True)
    node_determinism = Member[parts.NodeDeterminism](is_settable=True)
    support_level = Member[parts.SupportType](is_settable=True)
    deprecated = Member[bool](is_settable=True)
    file = Member[str]()
    line = Member[int]()
    type_constraints = Member[list[parts.TypeConstraintParam]]()
    inputs = Member[list[parts.FormalParameter]]()
    outputs = Member[list[parts.FormalParameter]]()
    attributes = Member[dict[str, parts.Attribute]]()

    @takes(
        name=str,
        domain=str,
        since_version=int,
        doc=str,
        inputs=MANY,
        outputs=MANY,
        type_constraints=MANY,
        attributes=MANY,
    )
    def __init__(
        self,
        name: str,
        domain: str,
        since_version: int,
        doc: str = "",
        *,
        inputs: Sequence[parts.FormalParameter] = (),
        outputs: Sequence[parts.FormalParameter] = (),
        type_constraints: Sequence[tuple[str, Sequence[str], str] | parts.TypeConstraintParam] = (),
        attributes: Sequence[parts.Attribute] = (),
        node_determinism: parts.NodeDeterminism = parts.NodeDeterminism.Deterministic,
    ) -> None:
        self.name = name
        self.domain = domain
        self.since_version = since_version
        self.doc = doc or None
        self.node_determinism = member_of(
            parts.NodeDeterminism, "OpSchema: node_determinism", node_determinism
        )
        self.support_level = parts.SupportType.COMMON
        self.deprecated = False
        self.file, self.line = "", 0
        self.type_constraints = [
            given
            if isinstance(given, parts.TypeConstraintParam)
            else parts.TypeConstraintParam(*given)
            for given in type_constraints
        ]
        self.inputs = all_of("OpSchema: inputs", inputs, parts.FormalParameter)
        self.outputs = all_of("OpSchema: outputs", outputs, parts.FormalParameter)
        known = all_of("OpSchema: attributes", attributes, parts.Attribute)
        self.attributes = {attribute.name: attribute for attribute in known}
        variables = {x.type_param_str: set(x.allowed_type_strs) for x in self.type_constraints}
        for parameter in (*self.inputs, *self.outputs):
            allowed = variables.get(parameter.type_str)
            allowed = {_spelling(parameter.type_str)} if allowed is None else allowed
            parameter.allow({_in_full(text) for text in allowed})
        super().__init__(_schema_of(self))

    @property
    def min_input(self) -> int:
        """Least number of inputs of a node."""
        return self._schema.min_input

    @property
    def max_input(self) -> int:
        """Greatest number of inputs of a node."""
        return self._schema.max_input

    @property
    def min_output(self) -> int:
        """Least number of outputs of a node."""
        return self._schema.min_output

    @property
    def max_output(self) -> int:
        """Greatest number of outputs of a node."""
        return self._schema.max_output

    @property
    def non_deterministic(self) -> bool:
        """Whether equal inputs may give other results."""
        return self.node_determinism != parts.NodeDeterminism.Deterministic

    @staticmethod
    @takes(v=int)
    def is_infinite(v: int) -> bool:
        """Whether ``v`` stands for any number of inputs or outputs."""
        return v == UNBOUNDED

    def __repr__(self) -> str:
        named = ("name", "domain", "since_version", "doc", "type_constraints", "inputs", "outputs")
        told = [f"{name}={getattr(self, name)!r}" for name in (*named, "attributes")]
        return "OpSchema(\n    " + ",\n    ".join(told) + "\n)"


_OPTIONS = {
    parts.FormalParameterOption.Single: Occurrence.SINGLE,
    parts.FormalParameterOption.Optional: Occurrence.OPTIONAL,
    parts.FormalParameterOption.Variadic: Occurrence.VARIADIC,
}
_OCCURRENCES = {occurrence: option for option, occurrence in _OPTIONS.items()}


def schema_of(operator: Operator, schema: Schema, doc: str) -> OpSchema:
    """A schema of the standard."""
    known = parts.NodeDeterminism
    holds_graphs = any(formal.kind == "graph" for formal in schema.attributes.values())
    is_open = holds_graphs and not schema.domain  # bodies of control flow may draw numbers
    settled = operator.is_deterministic and not is_open
    determinism = known.Deterministic if settled else known.NonDeterministic
    inputs, outputs = differentiable(schema)
    told = parameters_of(schema)
    shown = OpSchema(
        schema.name,
        schema.domain,
        schema.since_version,
        doc,
        inputs=[_parameter(*each, told) for each in zip(schema.inputs, inputs, strict=True)],
        outputs=[_parameter(*each, told) for each in zip(schema.outputs, outputs, strict=True)],
        type_constraints=[
            parts.TypeConstraintParam(name, list(types), _bearers(schema, name))
            for name, types in schema.constraints.items()
        ],
        attributes=[_attribute(formal, told) for formal in schema.attributes.values()],
        node_determinism=known.Unknown if schema.is_undetermined else determinism,
    )
    shown.deprecated = schema.is_deprecated
    if schema.domain == "ai.onnx.preview" or (schema.name, schema.since_version) == ("Upsample", 1):
        shown.support_level = parts.SupportType.EXPERIMENTAL
    shown.belongs_to(operator)
    return shown


def _bearers(schema: Schema, variable: str) -> str:
    """The parameters whose type ``variable`` is, in a sentence; in Tile-1 one has none."""
    formals = (*schema.inputs, *schema.outputs)
    names = [formal.name for formal in formals if formal.type_text == variable]
    listed = ", ".join(names[:-1])
    return (
        f"Type of {listed} and {names[-1]}." if listed else "".join(f"Type of {x}." for x in names)
    )


_CATEGORIES = {
    None: parts.DifferentiationCategory.Unknown,
    True: parts.DifferentiationCategory.Differentiable,
    False: parts.DifferentiationCategory.NonDifferentiable,
}


def _parameter(
    formal: Formal, is_differentiable: bool | None, told: Mapping[str, str]
) -> parts.FormalParameter:
    return parts.FormalParameter(
        formal.name,
        formal.type_text,
        told.get(formal.name, ""),
        param_option=_OCCURRENCES[formal.occurrence],
        is_homogeneous=formal.is_homogeneous,
        min_arity=formal.min_arity,
        differentiation_category=_CATEGORIES[is_differentiable],
    )


def _attribute(formal: FormalAttribute, told: Mapping[str, str]) -> parts.Attribute:
    type_ = parts.AttrType[formal.kind.upper()]
    text = told.get(formal.name, "")
    if formal.default is None:
        return parts.Attribute(formal.name, type_, text, required=formal.is_required)
    default = make_attribute(formal.name, formal.default, attr_type=type_)
    return parts.Attribute(formal.name, description=text, default_value=default)


def _schema_of(given: OpSchema) -> Schema:
    """``given`` as the mechanism of operators reads it."""
    constraints = given.type_constraints
    variables = {x.type_param_str: TypeSet(frozenset(x.allowed_type_strs)) for x in constraints}
    return Schema(
        given.domain,
        given.name,
        given.since_version,
        tuple(_formal(parameter, variables) for parameter in given.inputs),
        tuple(_formal(parameter, variables) for parameter in given.outputs),
        {attribute.name: _formal_attribute(attribute) for attribute in given.attributes.values()},
        {x.type_param_str: TypeSet(frozenset(x.allowed_type_strs)) for x in given.type_constraints},
    )


def _formal(parameter: parts.FormalParameter, variables: Collection[str]) -> Formal:
    return Formal(
        parameter.name,
        parameter.type_str if parameter.type_str in variables else _spelling(parameter.type_str),
        _OPTIONS[parameter.option],
        parameter.is_homogeneous,
        parameter.min_arity,
    )


def _formal_attribute(attribute: parts.Attribute) -> FormalAttribute:
    default = get_attribute_value(attribute.default_value)
    if isinstance(default, bytes):
        default = default.decode()
    elif isinstance(default, list):
        default = [x.decode() if isinstance(x, bytes) else x for x in default]
    kind = attribute.type.name.lower()
    return FormalAttribute(attribute.name, kind, attribute.required, default)


def _in_full(text: str) -> str:
    """A type as parameters spell it: what maps hold are tensors."""
    return re.sub(r"map\((\w+), (\w+)\)", r"map(\1,tensor(\2))", text)


def _spelling(text: str) -> str:
    """The type that ``text`` names, as constraints spell it: ``seq(tensor(float))``.

    A bare element type stands for tensors of it.
    """
    try:
        return spelling(text)
    except DTypeError:
        raise InvalidArgument(
            f"type {text!r}: a type variable with a constraint, or a type such as tensor(float), "
            "is required"
        ) from None
