"""Nodes against schemas: operators exist, and inputs, outputs and attributes are as they say."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fornix import ops
from fornix.check.finding import Findings, place
from fornix.check.header import imports_of, owners
from fornix.errors import SchemaError
from fornix.format.limits import Limits
from fornix.format.messages import AttributeProto
from fornix.ir import walk
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Function, Model, Node
from fornix.ops.call import bind_attributes, check_arity, check_kinds
from fornix.ops.opsets import LATEST
from fornix.ops.schema import Schema

# The first IR version in which attributes say of what type they are.
_IR_TYPES = 2

NO_OPERATOR = (
    "the standard has no such operator, the model no such function, and nobody has registered one"
)
"""What the checker says of operators of other domains; `fornix.op` registers."""

DEPRECATED = " is deprecated since opset "
"""What it says of operators that the opset has no longer."""


def check_nodes(model: Model, findings: Findings, _limits: Limits) -> None:
    """Note what is wrong with each node, in every graph and function."""
    table = model.function_table
    for owner, graph in owners(model):
        imports = imports_of(owner) or imports_of(model)
        function = owner if isinstance(owner, Function) else None
        scope = Scope(imports, table, function, findings)
        for node in walk.nodes(graph):
            scope.node(node)
            if model.ir_version >= _IR_TYPES:
                check_types_of_attributes(node, findings)


VALUES = {
    AttributeKind.FLOAT: "f",
    AttributeKind.INT: "i",
    AttributeKind.STRING: "s",
    AttributeKind.TENSOR: "t",
    AttributeKind.GRAPH: "g",
    AttributeKind.TYPE_PROTO: "tp",
    AttributeKind.SPARSE_TENSOR: "sparse_tensor",
    **{kind: kind.text for kind in AttributeKind if kind.is_list},
}
"""The field of an AttributeProto that holds values of each kind."""

EXPERIMENTS = frozenset(
    {
        *("ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill"),
        *("ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"),
    }
)
"""Operators that early versions tried and that the standard dropped again."""


def check_types_of_attributes(node: Node, findings: Findings) -> None:
    """Note attributes whose message leaves open of what type they are, although it shows."""
    for attribute in node.attributes.values():
        if attribute.leftover is None or attribute.kind is AttributeKind.UNDEFINED:
            continue
        said = AttributeProto.FromString(attribute.leftover)
        subject = f"{place(node)}, attribute {attribute.name}"
        if not said.HasField("type"):
            findings.error(
                subject, f"a type is required, found none; it holds {attribute.kind.text}"
            )
        held = [field.name for field, _ in said.ListFields() if field.name in VALUES.values()]
        others = [name for name in held if name != VALUES.get(attribute.kind)]
        if others:
            findings.error(subject, f"it is {attribute.kind.text}, found data in {others[0]}")


def names_of_attributes(node: Node) -> dict[str, str]:
    """The name of each attribute by its key, which is another if the name was taken."""
    return {
        key: attribute.name if "\0" in key else key for key, attribute in node.attributes.items()
    }


def _meant(name: str, known: Sequence[str]) -> str:
    """What ``name`` was probably meant to be."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class Scope:
    """The checks of nodes in one model or function."""

    imports: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], Function]
    function: Function | None
    findings: Findings

    def node(self, node: Node) -> None:
        """Check one node."""
        opset = self.imports.get(node.domain)
        if opset is None and not node.domain:
            opset = self.imports.get("ai.onnx")
        callee = self.functions.get((node.domain, node.op_type, node.overload))
        where = place(node, opset)
        if opset is None:
            domain = node.domain or "ai.onnx"
            self.findings.error(
                where, f"an opset import for domain {domain!r} is required, found none"
            )
        self.references(node, where)
        for key, name in names_of_attributes(node).items():
            if key != name:
                self.findings.error(where, f"one attribute {name!r} is required, found another")
        if callee is not None:
            self.call(node, callee, where)
        elif opset is not None:
            self.operator(node, opset, where)

    def bind(self, schema: Schema, given: Mapping[str, object], where: str) -> None:
        """Note the first attribute of ``given`` that is unknown, or else missing from it."""
        try:
            bind_attributes(schema, given)
        except SchemaError as error:
            self.findings.error(where, error)

    def operator(self, node: Node, opset: int, where: str) -> None:
        """Check a node of an operator against the schema in force."""
        if not ops.find(node.domain, node.op_type) and node.domain not in LATEST:
            tables = (ops.operators(), (key[:2] for key in self.functions))
            known = [name for table in tables for domain, name in table if domain == node.domain]
            self.findings.warn(where, f"{NO_OPERATOR}{_meant(node.op_type, known)}")
            return
        if node.domain in ops.CONTRIBUTED:
            return  # what its owner's release adds is no mistake of the model
        if node.op_type in EXPERIMENTS and not ops.find(node.domain, node.op_type):
            self.findings.warn(where, "an experiment of early versions, which is no operator")
            return
        homes = [domain for domain, name in ops.operators() if name == node.op_type]
        if homes and not ops.find(node.domain, node.op_type):
            self.findings.error(
                where,
                f"domain {node.domain or 'ai.onnx'!r} has no such operator, "
                f"domain {homes[0] or 'ai.onnx'!r} has",
            )
            return
        try:
            schema = ops.schema_of(node.domain, node.op_type, opset, strict=True)
        except SchemaError as error:
            self.findings.error(where, error)
            return
        if schema.is_deprecated:
            note = f": {schema.note}" if schema.note else ""
            self.findings.warn(where, f"{schema.name}{DEPRECATED}{schema.since_version}{note}")
        try:
            check_arity(schema, node.inputs, len(node.outputs))
        except SchemaError as error:
            self.findings.error(where, error)
        self.attributes(node, schema, where)

    def attributes(self, node: Node, schema: Schema, where: str) -> None:
        """Check names, presence and kinds of attributes."""
        given = node.attributes
        names = names_of_attributes(node)
        formals = schema.attributes.values()
        missing = [x.name for x in formals if x.is_required and x.name not in given]
        for key, attribute in given.items():
            if names[key] not in schema.attributes:
                self.bind(schema, {**dict.fromkeys(missing), names[key]: attribute}, where)
            try:
                check_kinds(schema, {key: attribute})
            except SchemaError as error:
                self.findings.error(where, error)
        for key in missing:
            self.bind(schema, {other: None for other in missing if other != key}, where)

    def call(self, node: Node, callee: Function, where: str) -> None:
        """Check a node that calls a model function."""
        for what, count, most in (
            ("inputs", len(node.inputs), len(callee.graph.inputs)),
            ("outputs", len(node.outputs), len(callee.graph.outputs)),
        ):
            if count > most:
                self.findings.error(where, f"{callee.label} has {most} {what}, found {count}")
        for name in callee.attributes:
            if name not in node.attributes:
                self.findings.error(
                    where, f"{callee.label}: attribute {name} is required, found none"
                )
        known = [*callee.attributes, *callee.defaults]
        for name in dict.fromkeys(names_of_attributes(node).values()):
            if name not in known:
                hint = _meant(name, known)
                has = ", ".join(known) or "none"
                self.findings.error(
                    where, f"{callee.label} has the attributes {has}, found {name!r}{hint}"
                )

    def references(self, node: Node, where: str) -> None:
        """Check attributes that stand for one of the function around the node."""
        referring: list[Attribute] = [a for a in node.attributes.values() if a.ref]
        for attribute in referring:
            if self.function is None:
                self.findings.error(
                    where,
                    f"attribute {attribute.name} refers to {attribute.ref!r} of a function, "
                    "but stands in none",
                )
            elif attribute.ref not in (*self.function.attributes, *self.function.defaults):
                self.findings.error(
                    where,
                    f"attribute {attribute.name} refers to {attribute.ref!r}, which "
                    f"{self.function.label} does not have",
                )
