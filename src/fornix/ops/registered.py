"""Operators that users add to those of the standard, and take away again.

They stand in the table that `fornix.ops.operators` gives, so that the checker, inference and
evaluation find them like all others. The standard's own operators cannot be changed here: what
their names mean is what models rely on.
"""

from __future__ import annotations

from fornix import ops
from fornix.errors import SchemaError
from fornix.ops.op import Operator, Rule
from fornix.ops.schema import Schema

_added: set[tuple[str, str]] = set()


def register(schema: Schema, infer: Rule | None = None) -> Operator:
    """Add one schema version of an operator, with the rule that infers its outputs.

    Without a rule, outputs get the element types that the schema's type variables say. Raises
    SchemaError for an operator of the standard and for a version that exists.
    """
    key = _key(schema.domain, schema.name)
    operator = ops.operators().get(key)
    label = _label(*key, schema.since_version)
    if operator is not None and key not in _added:
        raise SchemaError(f"{label}: a name that the standard does not use is required")
    if operator is None:
        operator = Operator(*key, [])
        operator.schemas = ()
    if any(known.since_version == schema.since_version for known in operator.schemas):
        raise SchemaError(f"{label}: a version that is not registered is required, found one")
    by_version = sorted((*operator.schemas, schema), key=lambda known: known.since_version)
    operator.schemas = tuple(by_version)
    operator.rules.setdefault("infer", {})[schema.since_version] = infer or _infer_nothing
    ops.operators()[key] = operator
    _added.add(key)
    return operator


def deregister(domain: str, name: str, version: int) -> None:
    """Take away one schema version that `register` has added; SchemaError if it has not."""
    key = _key(domain, name)
    operator = ops.operators().get(key) if key in _added else None
    kept = [s for s in operator.schemas if s.since_version != version] if operator else []
    if operator is None or len(kept) == len(operator.schemas):
        raise SchemaError(
            f"{_label(*key, version)}: a schema that was registered is required, found none"
        )
    operator.schemas = tuple(kept)
    del operator.rules["infer"][version]
    if not kept:
        del ops.operators()[key]
        _added.remove(key)


def _infer_nothing(*_inputs: object, **_attributes: object) -> tuple[()]:
    return ()


def _key(domain: str, name: str) -> tuple[str, str]:
    return "" if domain == "ai.onnx" else domain, name


def _label(domain: str, name: str, version: int) -> str:
    return f"operator {domain or 'ai.onnx'}::{name}-{version}"
