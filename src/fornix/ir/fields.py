"""Which fields of which message the IR models, and which field holds which kind of attribute."""

from __future__ import annotations

from collections.abc import Mapping

from fornix.format.messages import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    ValueInfoProto,
)
from fornix.ir.attribute import AttributeKind
from fornix.ir.leftover import Modelled

MODEL = Modelled(
    ModelProto,
    texts=("producer_name", "producer_version", "domain", "doc_string"),
    entries=("metadata_props",),
    children=("ir_version", "model_version", "opset_import", "graph", "functions"),
)
FUNCTION = Modelled(
    FunctionProto,
    texts=("name", "domain", "overload", "doc_string"),
    names=("input", "output", "attribute"),
    entries=("metadata_props",),
    children=("attribute_proto", "node", "opset_import", "value_info"),
    domain="domain",
)
GRAPH = Modelled(
    GraphProto,
    texts=("name", "doc_string"),
    entries=("metadata_props",),
    children=("node", "initializer", "sparse_initializer", "input", "output", "value_info"),
)
NODE = Modelled(
    NodeProto,
    texts=("op_type", "domain", "name", "overload", "doc_string"),
    names=("input", "output"),
    entries=("metadata_props",),
    children=("attribute",),
    domain="domain",
)
VALUE = Modelled(
    ValueInfoProto,
    texts=("name", "doc_string"),
    entries=("metadata_props",),
    children=("type",),
)
SPARSE = Modelled(SparseTensorProto, children=("values", "indices", "dims"))

KIND_FIELDS = {
    AttributeKind.FLOAT: "f",
    AttributeKind.INT: "i",
    AttributeKind.STRING: "s",
    AttributeKind.TENSOR: "t",
    AttributeKind.GRAPH: "g",
    AttributeKind.FLOATS: "floats",
    AttributeKind.INTS: "ints",
    AttributeKind.STRINGS: "strings",
    AttributeKind.TENSORS: "tensors",
    AttributeKind.GRAPHS: "graphs",
    AttributeKind.SPARSE_TENSOR: "sparse_tensor",
    AttributeKind.SPARSE_TENSORS: "sparse_tensors",
    AttributeKind.TYPE_PROTO: "tp",
    AttributeKind.TYPE_PROTOS: "type_protos",
}
KINDS: dict[object, AttributeKind] = {int(kind): kind for kind in AttributeKind}
# Fields that are written anew from the attribute's value, never left over.
REBUILT = {"t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"}


def attribute_kind(present: Mapping[str, object]) -> AttributeKind:
    """The kind of an attribute that has these fields.

    Without a type, as in models of IR version 1, its one value tells.
    """
    declared = present.get("type")
    if declared is not None:
        return KINDS[declared]
    possible = [kind for kind, field in KIND_FIELDS.items() if field in present]
    return possible[0] if len(possible) == 1 else AttributeKind.UNDEFINED
