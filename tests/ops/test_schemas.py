from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs

from fornix import ops
from fornix.errors import ParseError, SchemaError
from fornix.ops.call import IGNORED_ATTRIBUTES
from fornix.ops.differentiable import differentiable
from fornix.ops.op import RULES, op
from fornix.ops.schema import Schema
from fornix.ops.signature import parse_signature
from fornix.ops.types import BF16, F32, FLOAT, types

STANDARD = {(s.domain, s.name, s.since_version): s for s in defs.get_all_schemas_with_history()}
DECLARED = [schema for operator in ops.operators().values() for schema in operator.schemas]


def name_of(schema: Schema) -> str:
    return f"{schema.domain}:{schema.name}-{schema.since_version}"


def standard(schema: Schema) -> Any:
    return STANDARD[schema.domain, schema.name, schema.since_version]


def formals(parameters: Any) -> list[tuple[Any, ...]]:
    return [
        (p.name, p.type_str, p.option.name.lower(), p.is_homogeneous, p.min_arity)
        for p in parameters
    ]


def default_of(attribute: Any) -> Any:
    if not attribute.default_value.type:
        return None
    value = onnx.helper.get_attribute_value(attribute.default_value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (int, float)):
        return value
    return [v.decode() if isinstance(v, bytes) else v for v in value]


def test_the_whole_standard_is_declared() -> None:
    assert {(s.domain, s.name, s.since_version) for s in DECLARED} == STANDARD.keys()


@pytest.mark.parametrize("schema", DECLARED, ids=name_of)
def test_a_declared_schema_equals_the_standard(schema: Schema) -> None:
    wanted = standard(schema)
    for declared, parameters in ((schema.inputs, wanted.inputs), (schema.outputs, wanted.outputs)):
        found = [
            (f.name, f.type_text, f.occurrence.value, f.is_homogeneous, f.min_arity)
            for f in declared
        ]
        assert found == formals(parameters)
    assert (schema.min_input, schema.max_input) == (wanted.min_input, wanted.max_input)
    assert (schema.min_output, schema.max_output) == (wanted.min_output, wanted.max_output)
    assert schema.is_deprecated == wanted.deprecated
    constraints = {c.type_param_str: set(c.allowed_type_strs) for c in wanted.type_constraints}
    assert {name: set(members) for name, members in schema.constraints.items()} == constraints


@pytest.mark.parametrize("schema", DECLARED, ids=name_of)
def test_declared_attributes_equal_the_standard(schema: Schema) -> None:
    wanted = standard(schema).attributes
    assert set(schema.attributes) == set(wanted)
    for name, attribute in schema.attributes.items():
        assert attribute.kind == wanted[name].type.name.lower()
        assert attribute.is_required == wanted[name].required
        default = default_of(wanted[name])
        if isinstance(default, float):
            assert isinstance(attribute.default, float)
            assert np.float32(attribute.default) == np.float32(default)
        else:
            assert attribute.default == default


@pytest.mark.parametrize("schema", DECLARED, ids=name_of)
def test_what_is_differentiable_deterministic_or_a_function_equals_the_standard(
    schema: Schema,
) -> None:
    wanted = standard(schema)
    named = {None: "Unknown", True: "Differentiable", False: "NonDifferentiable"}
    for found, parameters in zip(
        differentiable(schema), (wanted.inputs, wanted.outputs), strict=True
    ):
        categories = [parameter.differentiation_category.name for parameter in parameters]
        assert [named[one] for one in found] == categories
    operator = ops.operators()[schema.domain, schema.name]
    holds_graphs = any(formal.kind == "graph" for formal in schema.attributes.values())
    is_unsaid = wanted.node_determinism.name == "Unknown"
    assert schema.is_undetermined is is_unsaid
    if not is_unsaid and not holds_graphs:  # there the bodies decide
        assert operator.is_deterministic is not wanted.non_deterministic
    has_body = operator.rule("body", schema.since_version) is not None
    assert has_body is (wanted.has_function or wanted.has_context_dependent_function)


@pytest.mark.parametrize("operator", ops.operators().values(), ids=repr)
def test_every_version_of_a_declared_operator_is_declared(operator: Any) -> None:
    versions = {
        version
        for domain, name, version in STANDARD
        if (domain, name) == (operator.domain, operator.name)
    }
    assert {schema.since_version for schema in operator.schemas} == versions


@pytest.mark.parametrize("schema", DECLARED, ids=name_of)
def test_rules_accept_every_input_and_attribute_of_the_versions_they_hold_for(
    schema: Schema,
) -> None:
    operator = ops.operators()[schema.domain, schema.name]
    inputs = [None] * len(schema.inputs)
    attributes = dict.fromkeys(name for name in schema.attributes if name not in IGNORED_ATTRIBUTES)
    required = {
        name
        for name, attribute in schema.attributes.items()
        if (attribute.is_required or attribute.default is not None) and name in attributes
    }
    for kind in ("infer", "kernel", "lower"):
        rule = operator.rule(kind, schema.since_version)
        if rule is None:
            continue
        signature = inspect.signature(rule)
        extra = {"node": None} if "node" in signature.parameters else {}
        signature.bind(*inputs, **attributes, **extra)
        signature.bind(*inputs[: schema.min_input], **dict.fromkeys(required), **extra)


def test_a_history_inherits_what_a_step_leaves_out() -> None:
    declared = op("F <a: int = 1> (X: T) => (Y: T)", since=1, T=F32).since(3, T=+BF16).since(5)
    assert [s.since_version for s in declared.schemas] == [1, 3, 5]
    assert set(declared.schema(4).constraints["T"]) == {"tensor(bfloat16)", "tensor(float)"}
    assert declared.schema(9).attributes["a"].default == 1


def test_a_set_may_narrow() -> None:
    declared = op("F (X: T) => (Y: T)", since=1, T=FLOAT).since(2, T=-F32).since(3, T=+BF16 - F32)
    assert "tensor(float)" not in declared.schema(2).constraints["T"]
    assert "tensor(bfloat16)" in declared.schema(3).constraints["T"]


def test_rules_hold_until_they_are_replaced() -> None:
    declared = op("F (X: T) => (Y: T)", since=1, T=F32).since(7).since(13)

    @declared.kernel
    def old() -> None: ...

    @declared.kernel(since=13)
    def new() -> None: ...

    assert declared.rule("kernel", 7) is old
    assert declared.rule("kernel", 13) is new
    assert declared.rule("lower", 13) is None
    assert "grad" in RULES


def test_an_operator_older_than_the_import_is_named() -> None:
    with pytest.raises(SchemaError, match=r"Gelu: needs ai.onnx opset 20 or newer"):
        ops.schema_of("", "Gelu", 19)


def test_an_operator_that_optimizers_write_too_early_is_what_it_became() -> None:
    assert ops.schema_of("", "LayerNormalization", 10).since_version == 17
    with pytest.raises(SchemaError, match=r"LayerNormalization: needs ai.onnx opset 17 or newer"):
        ops.schema_of("", "LayerNormalization", 10, strict=True)


def test_a_misspelt_operator_is_corrected() -> None:
    with pytest.raises(SchemaError, match=r"found 'Rellu'; did you mean 'Relu'?"):
        ops.schema_of("", "Rellu", 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("F <a int> (X: T) => (Y: T)", "expected ':' after attribute a, found 'int'"),
        ("F (X: T) (Y: T)", "expected '=>' between inputs and outputs"),
        ("F (X T) => (Y: T)", "expected ':' after parameter X, found 'T'"),
        ("F (X: T", "expected ',' or ')' in the formal parameters"),
    ],
)
def test_signatures_say_where_they_break(text: str, message: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_signature(text)
    assert message in str(raised.value)


def test_a_signature_must_name_its_operator() -> None:
    with pytest.raises(SchemaError, match="F-2: its signature must name it"):
        _ = op("F (X: T) => (Y: T)", since=1, T=F32).since(2, "G (X: T) => (Y: T)").schemas
    with pytest.raises(SchemaError, match="must begin with the operator's name"):
        op("<a: int>", since=1)


def test_a_change_needs_a_set_to_change() -> None:
    with pytest.raises(SchemaError, match="F-2: U must have a type set before it changes"):
        _ = op("F (X: T) => (Y: T)", since=1, T=types("tensor(float)")).since(2, U=+BF16).schemas
