"""The graph IR: models as objects that can be walked, checked and changed."""

from __future__ import annotations

from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Function, Graph, Model, Node, Use, Value
from fornix.ir.tensor import (
    ArrayTensor,
    LazyTensor,
    MappedTensor,
    SparseTensor,
    Tensor,
)
from fornix.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

__all__ = [
    "ArrayTensor",
    "Attribute",
    "AttributeKind",
    "Function",
    "Graph",
    "LazyTensor",
    "MapType",
    "MappedTensor",
    "Model",
    "Node",
    "OpaqueType",
    "OptionalType",
    "SequenceType",
    "SparseTensor",
    "SparseTensorType",
    "Tensor",
    "TensorType",
    "Type",
    "Use",
    "Value",
]
