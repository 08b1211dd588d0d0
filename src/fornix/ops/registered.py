"""Operators that users add to those of the standard, and take away again.

They stand in the table that `fornix.ops.operators` gives, so that the checker, inference, sessions
and evaluation find them like all others. The standard's own operators cannot be changed here: what
their names mean is what models rely on. Nothing that others may hold is changed either: each change
makes a new `Operator` and a new table, so that threads see one state or the next, and plans made
before keep what they have.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fornix import ops
from fornix.errors import SchemaError
from fornix.forks import awaited
from fornix.ops.op import Operator, Rule
from fornix.ops.schema import Schema

Key = tuple[str, str]

_lock = awaited(threading.RLock())
_added: dict[Key, Operator] = {}

KINDS = ("infer", "kernel", "lower", "grad", "body", "opaque")
"""Rules of which a version of a registered operator has its own, or none."""


def register(
    schema: Schema,
    rules: Mapping[str, Rule],
    *,
    is_deterministic: bool = True,
    replace: bool = False,
) -> Operator:
    """Add one schema version of an operator, with its rules by kind.

    Without an ``infer`` rule, outputs get the element types that the type variables say. Raises
    SchemaError for an operator of the standard and, unless ``replace``, for a version that exists.
    """
    version = schema.since_version
    label = _label(schema.domain, schema.name, version)
    with _lock:
        key = key_of(schema.domain, schema.name)
        if key in ops.standard():
            raise SchemaError(f"{label}: a name that the standard does not use is required")
        old = _added.get(key)
        others = tuple(s for s in (old.schemas if old else ()) if s.since_version != version)
        if old and len(others) < len(old.schemas) and not replace:
            raise SchemaError(
                f"{label}: a version that is not registered is required, found one; "
                "replace=True takes its place"
            )
        own: dict[str, Rule | None] = dict.fromkeys(KINDS) | {"infer": _infer_nothing} | dict(rules)
        by_version = tuple(sorted((*others, schema), key=lambda known: known.since_version))
        return _keep(key, by_version, old, {version: own}, is_deterministic)


def add_rule(domain: str, name: str, version: int, kind: str, rule: Rule) -> None:
    """Give a registered version a rule, or another one; SchemaError if it is not registered."""
    with _lock:
        old = _registered(domain, name, version)
        key = key_of(domain, name)
        _keep(key, old.schemas, old, {version: {kind: rule}}, old.is_deterministic)


def deregister(domain: str, name: str, version: int) -> None:
    """Take away one schema version that `register` has added; SchemaError if it has not."""
    with _lock:
        old = _registered(domain, name, version)
        kept = tuple(s for s in old.schemas if s.since_version != version)
        if kept:
            _keep(key_of(domain, name), kept, old, {}, old.is_deterministic)
        else:
            del _added[key_of(domain, name)]
            _publish()


def is_registered(domain: str, name: str) -> bool:
    """Whether a user has added the operator."""
    return key_of(domain, name) in _added


@contextmanager
def temporary() -> Iterator[None]:
    """Take away at the end whatever is registered inside, and bring back what was there; for tests.

    It goes for all threads: there is one table.
    """
    with _lock:
        before = dict(_added)
    try:
        yield
    finally:
        with _lock:
            _added.clear()
            _added.update(before)
            _publish()


def key_of(domain: str, name: str) -> Key:
    """Under what an operator stands in the table."""
    return "" if domain == "ai.onnx" else domain, name


def _keep(
    key: Key,
    schemas: tuple[Schema, ...],
    old: Operator | None,
    changes: Mapping[int, Mapping[str, Rule | None]],
    is_deterministic: bool,
) -> Operator:
    """Put the operator with these versions in place of ``old``."""
    made = Operator(*key, [], is_deterministic=is_deterministic, stamp=secrets.token_hex(8))
    made.schemas = schemas
    kept = {schema.since_version for schema in schemas}
    for kind, versions in (old.rules if old else {}).items():
        made.rules[kind] = {version: rule for version, rule in versions.items() if version in kept}
    for version, rules in changes.items():
        for kind, rule in rules.items():
            made.rules.setdefault(kind, {})[version] = rule
    _added[key] = made
    _publish()
    return made


def _registered(domain: str, name: str, version: int) -> Operator:
    """The operator, if that version of it was registered."""
    found = _added.get(key_of(domain, name))
    if found is None or all(s.since_version != version for s in found.schemas):
        raise SchemaError(
            f"{_label(domain, name, version)}: a schema that was registered is required, found none"
        )
    return found


def _publish() -> None:
    ops.use_table({**ops.standard(), **_added})


def _infer_nothing(*_inputs: object, **_attributes: object) -> tuple[()]:
    return ()


def _label(domain: str, name: str, version: int) -> str:
    return f"operator {domain or 'ai.onnx'}::{name}-{version}"
