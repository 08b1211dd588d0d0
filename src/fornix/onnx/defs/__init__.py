"""What `onnx.defs` offers: the schemas of operators, and registration of further ones.

The operators are `fornix.ops`'; what is registered here is theirs as well, and so known to the
checker, to inference and to evaluation.
"""

from __future__ import annotations

import sys
from functools import cache
from types import NoneType

from fornix import ops
from fornix.errors import SchemaError
from fornix.onnx._kinds import takes
from fornix.onnx.defs._schema import OpSchema, schema_of
from fornix.ops.matrix import description
from fornix.ops.op import Operator
from fornix.ops.opsets import LATEST
from fornix.ops.registered import deregister, register
from fornix.ops.schema import Schema

__all__ = [
    "AI_ONNX_PREVIEW_DOMAIN",
    "AI_ONNX_PREVIEW_TRAINING_DOMAIN",
    "ONNX_DOMAIN",
    "ONNX_ML_DOMAIN",
    "C",
    "OpSchema",
    "SchemaError",
    "deregister_schema",
    "get_all_schemas",
    "get_all_schemas_with_history",
    "get_function_ops",
    "get_schema",
    "has",
    "has_schema",
    "onnx_ml_opset_version",
    "onnx_opset_version",
    "register_schema",
    "schema_version_map",
]

ONNX_DOMAIN = ""
ONNX_ML_DOMAIN = "ai.onnx.ml"
AI_ONNX_PREVIEW_DOMAIN = "ai.onnx.preview"
AI_ONNX_PREVIEW_TRAINING_DOMAIN = "ai.onnx.preview.training"

C = sys.modules[__name__]
"""What the `onnx` package has in C++; here it is this module."""

VERSION = (str, int, NoneType)
"""A version, or the domain in its place."""

_registered: dict[tuple[str, str, int], OpSchema] = {}


def onnx_opset_version() -> int:
    """The newest opset of ai.onnx."""
    return LATEST[ONNX_DOMAIN]


def onnx_ml_opset_version() -> int:
    """The newest opset of ai.onnx.ml."""
    return LATEST[ONNX_ML_DOMAIN]


def schema_version_map() -> dict[str, tuple[int, int]]:
    """The oldest and the newest version of each domain."""
    versions = {domain: (1, newest) for domain, newest in LATEST.items() if domain != "ai.onnx"}
    for operator in ops.operators().values():
        first, last = operator.schemas[0].since_version, operator.schemas[-1].since_version
        oldest, newest = versions.get(operator.domain, (first, last))
        versions[operator.domain] = min(oldest, first), max(newest, last)
    return versions


@takes(op_type=str, max_inclusive_version=VERSION, domain=str)
def get_schema(
    op_type: str, max_inclusive_version: int | str | None = None, domain: str = ""
) -> OpSchema:
    """The newest schema of an operator, or the one in force at ``max_inclusive_version``.

    The domain may take the place of the version. Raises SchemaError if there is none.
    """
    if isinstance(max_inclusive_version, str):
        domain, max_inclusive_version = max_inclusive_version, None
    operator = ops.operators().get((domain, op_type))
    if operator is None:
        operator = ops.operators()[_missing(domain, op_type)]
    opset = max_inclusive_version
    newest = operator.schemas[-1].since_version
    found = operator.schema(newest if opset is None else opset, strict=True)
    return _shown(operator, found)


def _missing(domain: str, op_type: str) -> tuple[str, str]:
    """Raise SchemaError for an operator that does not exist."""
    operator = ops.find(domain, op_type)
    if operator is None or operator not in ops.operators().values():
        raise ops.unknown(domain, op_type)
    [schema, *_] = operator.schemas
    raise SchemaError(
        f"the domain of {op_type} must be {schema.domain!r}, as schemas spell it, found {domain!r}"
    )


@takes(op_type=str, max_inclusive_version=VERSION, domain=str)
def has_schema(
    op_type: str, max_inclusive_version: int | str | None = None, domain: str = ""
) -> bool:
    """Whether `get_schema` would find one."""
    try:
        get_schema(op_type, max_inclusive_version, domain)
    except SchemaError:
        return False
    return True


has = has_schema


def get_all_schemas() -> list[OpSchema]:
    """The newest schema of every operator."""
    return [_shown(operator, operator.schemas[-1]) for operator in ops.operators().values()]


def get_all_schemas_with_history() -> list[OpSchema]:
    """Every schema version of every operator."""
    return [
        _shown(operator, schema)
        for operator in ops.operators().values()
        for schema in operator.schemas
    ]


def get_function_ops() -> list[OpSchema]:
    """The newest schemas of the operators that are defined by others."""
    return [
        schema
        for schema in get_all_schemas()
        if schema.has_function or schema.has_context_dependent_function
    ]


def register_schema(schema: OpSchema) -> None:
    """Make ``schema`` known; its domain gets the version, if it lacks it.

    Raises SchemaError for an operator of the standard and for a version that exists.
    """
    version = schema.since_version
    infer = schema.operator.rule("infer", version)
    rules = {} if infer is None else {"infer": infer}
    register(schema.schema, rules, is_deterministic=not schema.non_deterministic)
    _registered[schema.domain, schema.name, version] = schema


def deregister_schema(op_type: str, version: int, domain: str) -> None:
    """Forget a schema that was registered; raises SchemaError if it was not."""
    deregister(domain, op_type, version)
    _registered.pop((domain, op_type, version), None)


def _shown(operator: Operator, schema: Schema) -> OpSchema:
    given = _registered.get((schema.domain, schema.name, schema.since_version))
    return _of_standard(operator, schema.since_version) if given is None else given


@cache
def _of_standard(operator: Operator, version: int) -> OpSchema:
    return schema_of(operator, operator.schema(version), description(operator))
