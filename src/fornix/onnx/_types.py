"""The part of `onnx.helper` about types and values: `TypeProto` and `ValueInfoProto`."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.errors import InvalidArgument
from fornix.format.messages import TensorShapeProto, TypeProto, ValueInfoProto
from fornix.onnx._kinds import TEXT, takes
from fornix.onnx._own import owned

Shape = Sequence[str | int | None] | None


def make_tensor_type_proto(
    elem_type: int, shape: Shape, shape_denotation: list[str] | None = None
) -> TypeProto:
    """The type of a tensor; a ``shape`` of None is unknown, a dim of None likewise."""
    made = TypeProto()
    made.tensor_type.elem_type = elem_type
    if shape is not None:
        made.tensor_type.shape.CopyFrom(_shape(shape, shape_denotation))
    return made


def make_sparse_tensor_type_proto(
    elem_type: int, shape: Shape, shape_denotation: list[str] | None = None
) -> TypeProto:
    """The type of a sparse tensor, as `make_tensor_type_proto`."""
    made = TypeProto()
    made.sparse_tensor_type.elem_type = elem_type
    if shape is not None:
        made.sparse_tensor_type.shape.CopyFrom(_shape(shape, shape_denotation))
    return made


def _shape(dims: Sequence[str | int | None], denotations: list[str] | None) -> TensorShapeProto:
    if denotations and len(denotations) != len(dims):
        raise InvalidArgument(
            f"shape_denotation: {len(dims)} entries are required, found {len(denotations)}"
        )
    shape = TensorShapeProto()
    for index, dim in enumerate(dims):
        entry = shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif isinstance(dim, str):
            entry.dim_param = dim
        elif dim is not None:
            raise InvalidArgument(f"dim {index}: an int, str or None is required, found {dim!r}")
        if denotations:
            entry.denotation = denotations[index]
    return shape


def make_sequence_type_proto(inner_type_proto: TypeProto) -> TypeProto:
    """The type of a sequence of ``inner_type_proto``."""
    made = TypeProto()
    made.sequence_type.elem_type.CopyFrom(owned(inner_type_proto, TypeProto))
    return made


def make_optional_type_proto(inner_type_proto: TypeProto) -> TypeProto:
    """The type of an optional ``inner_type_proto``."""
    made = TypeProto()
    made.optional_type.elem_type.CopyFrom(owned(inner_type_proto, TypeProto))
    return made


def make_map_type_proto(key_type: int, value_type: TypeProto) -> TypeProto:
    """The type of a map from ``key_type``, a dtype's number, to ``value_type``."""
    made = TypeProto()
    made.map_type.key_type = key_type
    made.map_type.value_type.CopyFrom(owned(value_type, TypeProto))
    return made


@takes(name=TEXT)
def make_empty_tensor_value_info(name: str) -> ValueInfoProto:
    """A value of which only the name is known."""
    return ValueInfoProto(name=name)


@takes(name=TEXT)
def make_value_info(name: str, type_proto: TypeProto, doc_string: str = "") -> ValueInfoProto:
    """A value of any type."""
    made = ValueInfoProto(name=name, type=owned(type_proto, TypeProto))
    if doc_string:
        made.doc_string = doc_string
    return made


@takes(name=TEXT)
def make_tensor_value_info(
    name: str,
    elem_type: int,
    shape: Shape,
    doc_string: str = "",
    shape_denotation: list[str] | None = None,
) -> ValueInfoProto:
    """A value that is a tensor; the shape as in `make_tensor_type_proto`."""
    kind = make_tensor_type_proto(elem_type, shape, shape_denotation)
    return make_value_info(name, kind, doc_string)


@takes(name=TEXT)
def make_sparse_tensor_value_info(
    name: str,
    elem_type: int,
    shape: Shape,
    doc_string: str = "",
    shape_denotation: list[str] | None = None,
) -> ValueInfoProto:
    """A value that is a sparse tensor."""
    kind = make_sparse_tensor_type_proto(elem_type, shape, shape_denotation)
    return make_value_info(name, kind, doc_string)


@takes(name=TEXT)
def make_tensor_sequence_value_info(
    name: str,
    elem_type: int,
    shape: Shape,
    doc_string: str = "",
    elem_shape_denotation: list[str] | None = None,
) -> ValueInfoProto:
    """A value that is a sequence of tensors."""
    kind = make_tensor_type_proto(elem_type, shape, elem_shape_denotation)
    return make_value_info(name, make_sequence_type_proto(kind), doc_string)
