"""Schemas in words: signatures, sets of types, and what changed from one version to the next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fornix.dtype import ALL, DType
from fornix.ops.op import Operator
from fornix.ops.schema import Schema
from fornix.ops.signature import Formal, FormalAttribute, Occurrence

GROUPS: Mapping[str, frozenset[str]] = {
    "int8…int64": frozenset({"int8", "int16", "int32", "int64"}),
    "uint8…uint64": frozenset({"uint8", "uint16", "uint32", "uint64"}),
    "float16…float64": frozenset({"float16", "float32", "float64"}),
    "float8": frozenset({"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"}),
    "complex": frozenset({"complex64", "complex128"}),
}
"""Sets of dtypes that mostly come together, in words."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one schema version brought, in words."""

    version: int
    notes: tuple[str, ...]


def changelog(operator: Operator) -> list[Change]:
    """The history of ``operator``, newest first."""
    schemas = operator.schemas
    changes = [Change(schemas[0].since_version, ("introduced",))]
    for before, after in pairwise(schemas):
        notes = tuple(differences(before, after))
        changes.append(Change(after.since_version, notes or ("wording only",)))
    return changes[::-1]


def differences(before: Schema, after: Schema) -> Iterator[str]:
    """What ``after`` says otherwise than ``before``."""
    if after.is_deprecated and not before.is_deprecated:
        yield "deprecated"
    if after.note and after.note != before.note:
        yield after.note
    yield from list_changes("input", before.inputs, after.inputs)
    yield from list_changes("output", before.outputs, after.outputs)
    yield from attribute_changes(before.attributes, after.attributes)
    for name, constraint in after.constraints.items():
        if name not in before.constraints:
            yield f"{name} is {types_text(constraint)}"
            continue
        old, new = before.constraints[name].members, constraint.members
        if new - old:
            yield f"{name} + {types_text(new - old)}"
        if old - new:
            yield f"{name} − {types_text(old - new)}"


def list_changes(kind: str, before: Sequence[Formal], after: Sequence[Formal]) -> Iterator[str]:
    """What became of inputs or outputs; one that has another name is known by its place."""
    old, new = {x.name: x for x in before}, {x.name: x for x in after}
    renamed: dict[str, Formal] = {}
    for one, other in zip(before, after, strict=False):
        if one.name not in new and other.name not in old:
            renamed[other.name] = one
            yield f"{kind} {one.name} is called {other.name}"
    kept = {x.name for x in renamed.values()}
    yield from (f"− {kind} {name}" for name in old if name not in new and name not in kept)
    for name, formal in new.items():
        earlier = old.get(name) or renamed.get(name)
        if earlier is None:
            yield f"+ {kind} {formal_text(formal)}"
        elif replace(earlier, name=name) != formal:
            yield f"{kind} {formal_text(earlier)} → {formal_text(formal)}"


def attribute_changes(
    before: Mapping[str, FormalAttribute], after: Mapping[str, FormalAttribute]
) -> Iterator[str]:
    """What became of attributes."""
    yield from (f"− attribute {name}" for name in before if name not in after)
    for name, attribute in after.items():
        if name not in before:
            yield f"+ attribute {attribute_text(attribute)}"
        elif attribute != before[name]:
            yield f"attribute {attribute_text(before[name])} → {attribute_text(attribute)}"


def signature_text(schema: Schema) -> str:
    """The signature in the notation in which operators are declared."""
    attributes = ", ".join(map(attribute_text, schema.attributes.values()))
    inputs = ", ".join(map(formal_text, schema.inputs))
    outputs = ", ".join(map(formal_text, schema.outputs))
    middle = f" <{attributes}>" if attributes else ""
    return f"{schema.name}{middle} ({inputs}) => ({outputs})"


def formal_text(formal: Formal) -> str:
    """``X: T``, with how often it occurs."""
    name = formal.name if formal.name.isidentifier() else json.dumps(formal.name)
    suffix = {Occurrence.SINGLE: "", Occurrence.OPTIONAL: "?"}.get(formal.occurrence)
    if suffix is None:
        suffix = "+" if formal.min_arity else "*"
    each = "" if formal.is_homogeneous else "each "
    extents = ["..." if extent is ... else str(extent) for extent in formal.extents or ()]
    shape = "" if formal.extents is None else f"[{', '.join(extents)}]"
    return f"{name}: {each}{formal.type_text}{shape}{suffix}"


def attribute_text(attribute: FormalAttribute) -> str:
    """``axis: int = -1``; a question mark if it may be left out."""
    if attribute.default is not None:
        default = json.dumps(attribute.default)
        return f"{attribute.name}: {attribute.kind} = {default}"
    return f"{attribute.name}: {attribute.kind}{'' if attribute.is_required else '?'}"


def types_text(spellings: Iterable[str]) -> str:
    """A set of constraint spellings, short: ``float16…float64 bfloat16 seq(int64)``."""
    by_shell: dict[tuple[str, ...], set[str]] = {}
    others: list[str] = []
    for spelling in spellings:
        *shell, inner = spelling.rstrip(")").split("(")
        if "map" in shell or "tensor" not in shell:
            others.append(spelling)
        else:
            by_shell.setdefault(tuple(shell[:-1]), set()).add(DType.of(inner).name)
    told = [
        f"{'('.join([*shell, ''])}{dtypes_text(names)}{')' * len(shell)}"
        for shell, names in sorted(by_shell.items(), key=lambda item: (len(item[0]), item[0]))
    ]
    return " ".join([*told, *sorted(others)])


def dtypes_text(names: set[str]) -> str:
    """Names of dtypes in the standard's order, those of a whole group as one."""
    order = {dtype.name: place for place, dtype in enumerate(ALL)}
    told = {
        word: min(map(order.__getitem__, group)) for word, group in GROUPS.items() if group <= names
    }
    grouped = set().union(*(GROUPS[word] for word in told)) if told else set()
    told |= {name: order[name] for name in names - grouped}
    return " ".join(sorted(told, key=told.__getitem__))
