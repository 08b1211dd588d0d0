"""What `onnx.helper` offers: building messages, one function per kind.

Every function takes onnx's own messages as well as ours and returns ours. What belongs to types,
attributes and element types stands in the modules of those names; printing is `_printing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import ArrayLike, NDArray

from fornix import cast
from fornix import dtype as types
from fornix.dtype import DType
from fornix.errors import DTypeError, InvalidArgument, SchemaError, TensorDataError
from fornix.format import tensors
from fornix.format.messages import (
    IR_VERSION,
    AttributeProto,
    FunctionProto,
    GraphProto,
    MapProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    OptionalProto,
    SequenceProto,
    SparseTensorProto,
    TensorProto,
    TensorShapeProto,
    TrainingInfoProto,
    TypeProto,
    ValueInfoProto,
)
from fornix.format.walk import descriptor_of, is_repeated
from fornix.onnx._attributes import (
    get_attribute_value,
    get_node_attr_value,
    make_attribute,
    make_attribute_ref,
)
from fornix.onnx._dtypes import (
    found_dtype,
    get_all_tensor_dtypes,
    np_dtype_to_tensor_dtype,
    tensor_dtype_to_field,
    tensor_dtype_to_np_dtype,
    tensor_dtype_to_storage_tensor_dtype,
    tensor_dtype_to_string,
)
from fornix.onnx._kinds import MANY, TEXT, WHOLE, takes
from fornix.onnx._own import owned, owned_part
from fornix.onnx._printing import (
    printable_attribute,
    printable_dim,
    printable_graph,
    printable_node,
    printable_tensor_proto,
    printable_type,
    printable_value_info,
)
from fornix.onnx._types import (
    make_empty_tensor_value_info,
    make_map_type_proto,
    make_optional_type_proto,
    make_sequence_type_proto,
    make_sparse_tensor_type_proto,
    make_sparse_tensor_value_info,
    make_tensor_sequence_value_info,
    make_tensor_type_proto,
    make_tensor_value_info,
    make_value_info,
)
from fornix.onnx.numpy_helper import saturate_cast, tobytes_little_endian

__all__ = [
    "OP_SET_ID_VERSION_MAP",
    "VERSION_TABLE",
    "AssignmentBindingType",
    "TensorShapeProto",
    "TypeProto",
    "VersionMapType",
    "VersionRowType",
    "VersionTableType",
    "find_min_ir_version_for",
    "get_all_tensor_dtypes",
    "get_attribute_value",
    "get_node_attr_value",
    "make_attribute",
    "make_attribute_ref",
    "make_empty_tensor_value_info",
    "make_function",
    "make_graph",
    "make_map",
    "make_map_type_proto",
    "make_model",
    "make_model_gen_version",
    "make_node",
    "make_operatorsetid",
    "make_opsetid",
    "make_optional",
    "make_optional_type_proto",
    "make_sequence",
    "make_sequence_type_proto",
    "make_sparse_tensor",
    "make_sparse_tensor_type_proto",
    "make_sparse_tensor_value_info",
    "make_tensor",
    "make_tensor_sequence_value_info",
    "make_tensor_type_proto",
    "make_tensor_value_info",
    "make_training_info",
    "make_value_info",
    "np_dtype_to_tensor_dtype",
    "printable_attribute",
    "printable_dim",
    "printable_graph",
    "printable_node",
    "printable_tensor_proto",
    "printable_type",
    "printable_value_info",
    "set_metadata_props",
    "set_model_props",
    "strip_doc_string",
    "tensor_dtype_to_field",
    "tensor_dtype_to_np_dtype",
    "tensor_dtype_to_storage_tensor_dtype",
    "tensor_dtype_to_string",
]

VersionRowType = tuple[str, int, int, int] | tuple[str, int, int, int, int]
VersionTableType = list[VersionRowType]
VersionMapType = dict[tuple[str, int], int]
AssignmentBindingType = list[tuple[str, str]]

# Release, IR version, opsets of ai.onnx, ai.onnx.ml and, from 1.7, ai.onnx.training.
# Source: onnx, docs/Versioning.md.
VERSION_TABLE: VersionTableType = [
    ("1.0", 3, 1, 1),
    ("1.1", 3, 5, 1),
    ("1.1.2", 3, 6, 1),
    ("1.2", 3, 7, 1),
    ("1.3", 3, 8, 1),
    ("1.4.1", 4, 9, 1),
    ("1.5.0", 5, 10, 1),
    ("1.6.0", 6, 11, 2),
    ("1.7.0", 7, 12, 2, 1),
    ("1.8.0", 7, 13, 2, 1),
    ("1.8.1", 7, 13, 2, 1),
    ("1.9.0", 7, 14, 2, 1),
    ("1.10.0", 8, 15, 2, 1),
    ("1.10.1", 8, 15, 2, 1),
    ("1.10.2", 8, 15, 2, 1),
    ("1.11.0", 8, 16, 3, 1),
    ("1.12.0", 8, 17, 3, 1),
    ("1.13.0", 8, 18, 3, 1),
    ("1.13.1", 8, 18, 3, 1),
    ("1.14.0", 9, 19, 3, 1),
    ("1.14.1", 9, 19, 3, 1),
    ("1.15.0", 9, 20, 4, 1),
    ("1.16.0", 10, 21, 5, 1),
    ("1.16.1", 10, 21, 5, 1),
    ("1.16.2", 10, 21, 5, 1),
    ("1.17.0", 10, 22, 5, 1),
    ("1.18.0", 11, 23, 5, 1),
    ("1.19.0", 12, 24, 5, 1),
    ("1.19.1", 12, 24, 5, 1),
    ("1.20.0", 13, 25, 5, 1),
    ("1.20.1", 13, 25, 5, 1),
    ("1.21.0", 13, 26, 5, 1),
    ("1.22.0", 13, 27, 5, 1),
    ("1.23.0", 14, 28, 5, 1),
]
# The names that the columns of opsets stand for.
_DOMAINS = (
    ("ai.onnx", "ai.onnx.preview"),
    ("ai.onnx.ml",),
    ("ai.onnx.training", "ai.onnx.preview.training"),
)
# The IR version of the first release, for models that import nothing known.
_FIRST_IR_VERSION = 3

OP_SET_ID_VERSION_MAP: VersionMapType = {}
for _, _ir_version, *_opsets in VERSION_TABLE:
    for _names, _opset in zip(_DOMAINS, _opsets, strict=False):
        for _name in _names:
            OP_SET_ID_VERSION_MAP.setdefault((_name, _opset), _ir_version)

_M = TypeVar("_M", bound=Message)


def find_min_ir_version_for(
    opsetidlist: Sequence[OperatorSetIdProto] | None, ignore_unknown: bool = False
) -> int:
    """The least IR version of a release that has all of these opsets.

    Raises SchemaError for an opset that no release has, unless those are ignored.
    """
    found = [_FIRST_IR_VERSION]
    for opset in opsetidlist or ():
        key = (opset.domain or "ai.onnx", opset.version)
        if key not in OP_SET_ID_VERSION_MAP and not ignore_unknown:
            raise SchemaError(f"opset {key[1]} of {key[0]}: no release of the standard has it")
        found.append(OP_SET_ID_VERSION_MAP.get(key, _FIRST_IR_VERSION))
    return max(found)


def _all(messages: Iterable[_M] | None) -> list[_M]:
    return [owned_part(message) for message in messages or ()]


@takes(op_type=TEXT, inputs=MANY, outputs=MANY)
def make_node(
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str | None = None,
    doc_string: str | None = None,
    domain: str | None = None,
    overload: str | None = None,
    **kwargs: Any,
) -> NodeProto:
    """A node; further keywords are its attributes, sorted by name, those that are None left out."""
    node = NodeProto(op_type=op_type, input=inputs, output=outputs)
    if domain is not None:
        node.domain = domain
    if overload is not None:
        node.overload = overload
    if name:
        node.name = name
    if doc_string:
        node.doc_string = doc_string
    node.attribute.extend(
        make_attribute(key, value) for key, value in sorted(kwargs.items()) if value is not None
    )
    return node


@takes(domain=TEXT, version=WHOLE)
def make_operatorsetid(domain: str, version: int) -> OperatorSetIdProto:
    """The import of an opset."""
    return OperatorSetIdProto(domain=domain, version=version)


make_opsetid = make_operatorsetid


@takes(nodes=MANY, name=TEXT, inputs=MANY, outputs=MANY)
def make_graph(
    nodes: Sequence[NodeProto],
    name: str,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializer: Sequence[TensorProto] | None = None,
    doc_string: str | None = None,
    value_info: Sequence[ValueInfoProto] | None = None,
    sparse_initializer: Sequence[SparseTensorProto] | None = None,
) -> GraphProto:
    """A graph of copies of these messages."""
    graph = GraphProto(name=name)
    graph.node.extend(_all(nodes))
    graph.input.extend(_all(inputs))
    graph.output.extend(_all(outputs))
    graph.initializer.extend(_all(initializer))
    graph.sparse_initializer.extend(_all(sparse_initializer))
    graph.value_info.extend(_all(value_info))
    if doc_string:
        graph.doc_string = doc_string
    return graph


@takes(domain=TEXT, fname=TEXT, inputs=MANY, outputs=MANY, nodes=MANY, opset_imports=MANY)
def make_function(
    domain: str,
    fname: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[NodeProto],
    opset_imports: Sequence[OperatorSetIdProto],
    attributes: Sequence[str] | None = None,
    attribute_protos: Sequence[AttributeProto] | None = None,
    doc_string: str | None = None,
    overload: str | None = None,
    value_info: Sequence[ValueInfoProto] | None = None,
) -> FunctionProto:
    """A model function; ``attribute_protos`` are the attributes that have defaults."""
    function = FunctionProto(domain=domain, name=fname, input=inputs, output=outputs)
    function.node.extend(_all(nodes))
    function.opset_import.extend(_all(opset_imports))
    function.attribute.extend(attributes or [])
    function.attribute_proto.extend(_all(attribute_protos))
    function.value_info.extend(_all(value_info))
    if doc_string:
        function.doc_string = doc_string
    if overload is not None:
        function.overload = overload
    return function


def make_model(graph: GraphProto, **kwargs: Any) -> ModelProto:
    """A model around ``graph``, of the newest IR version and opset unless keywords say others.

    ``opset_imports`` and ``functions`` are sequences of messages; any other keyword sets the field
    of that name.
    """
    model = ModelProto(ir_version=IR_VERSION)
    model.graph.CopyFrom(owned(graph, GraphProto))
    imports = kwargs.pop("opset_imports", None)
    if imports is None:
        model.opset_import.add().version = VERSION_TABLE[-1][2]
    else:
        model.opset_import.extend(_all(imports))
    model.functions.extend(_all(kwargs.pop("functions", None)))
    for field, value in kwargs.items():
        setattr(model, field, value)
    return model


def make_model_gen_version(graph: GraphProto, **kwargs: Any) -> ModelProto:
    """A model of the least IR version that has its opsets, unless ``ir_version`` is given."""
    kwargs.setdefault("ir_version", find_min_ir_version_for(kwargs.get("opset_imports")))
    return make_model(graph, **kwargs)


def set_metadata_props(
    proto: ModelProto | GraphProto | FunctionProto | NodeProto | TensorProto | ValueInfoProto,
    dict_value: dict[str, str],
) -> None:
    """Replace the metadata of a message."""
    proto.ClearField("metadata_props")
    for key, value in dict_value.items():
        proto.metadata_props.add(key=key, value=value)


def set_model_props(model: ModelProto, dict_value: dict[str, str]) -> None:
    """Replace the metadata of a model."""
    set_metadata_props(model, dict_value)


@takes(name=TEXT)
def make_tensor(
    name: str,
    data_type: int,
    dims: Sequence[int],
    vals: ArrayLike | bytes,
    raw: bool = False,
) -> TensorProto:
    """A tensor whose values go to the field of its dtype or, if ``raw``, packed to raw_data.

    With ``raw``, values are packed bytes or an array; else float8 values are clamped to what their
    dtype holds. Raises TensorDataError if there are not as many as ``dims`` require, DTypeError
    for raw strings and other values.
    """
    dtype = found_dtype(data_type)
    tensor = TensorProto(name=name, data_type=data_type, dims=dims)
    count = math.prod(dims)
    if raw:
        tensor.raw_data = _raw(vals, dtype)
        found, needed, unit = len(tensor.raw_data), dtype.nbytes(count), "bytes"
    else:
        elements = _elements(vals, dtype)
        found, needed, unit = elements.size, count, "values"
    if found != needed:
        raise TensorDataError(
            f"tensor {name!r}: {dtype}{list(dims)} takes {needed} {unit}, found {found}"
        )
    if not raw:
        getattr(tensor, tensors.field(dtype)).extend(_entries(elements, dtype))
    return tensor


def _raw(vals: ArrayLike | bytes, dtype: DType) -> bytes:
    if dtype is types.STRING:
        raise DTypeError("strings have no raw data; use raw=False")
    if isinstance(vals, bytes):
        return vals
    if not isinstance(vals, np.ndarray):
        raise DTypeError(f"raw data is bytes or an array, found {type(vals).__name__}")
    same = vals.dtype == dtype.numpy
    return dtype.pack(vals) if same or dtype.bits < 8 else tobytes_little_endian(vals)


def _elements(vals: ArrayLike | bytes, dtype: DType) -> NDArray[Any]:
    """The values as a flat array of ``dtype``."""
    if dtype is types.STRING:
        return np.array(vals, dtype=object).reshape(-1)
    if dtype is types.FLOAT8E8M0:
        return cast.convert(np.asarray(vals, np.float32), dtype, round_mode="up").reshape(-1)
    if dtype.is_float and dtype.bits == 8:
        return saturate_cast(np.asarray(vals), dtype.numpy).reshape(-1)
    return np.asarray(vals, dtype=dtype.numpy).reshape(-1)


def _entries(elements: NDArray[Any], dtype: DType) -> Iterable[Any]:
    """What the field of ``dtype`` holds for ``elements``."""
    if dtype is types.STRING:
        return [x.encode() if isinstance(x, str) else bytes(x) for x in elements]
    if dtype.kind == "complex":
        return elements.view(np.float32 if dtype is types.COMPLEX64 else np.float64)
    if dtype.bits in {2, 4}:
        return dtype.pack(elements)
    if dtype.is_float and dtype.bits < 32:
        return elements.view(f"u{dtype.numpy.itemsize}")
    return elements.astype(np.uint8) if dtype is types.BOOL else elements


@takes(dims=MANY)
def make_sparse_tensor(
    values: TensorProto, indices: TensorProto, dims: Sequence[int]
) -> SparseTensorProto:
    """A sparse tensor of copies of ``values`` and ``indices``."""
    return SparseTensorProto(
        values=owned(values, TensorProto), indices=owned(indices, TensorProto), dims=dims
    )


@takes(name=TEXT, values=MANY)
def make_sequence(name: str, elem_type: int, values: Sequence[Any]) -> SequenceProto:
    """A sequence of messages of the kind that ``elem_type`` says."""
    sequence = SequenceProto(name=name, elem_type=elem_type)
    kind = _kind(elem_type, "sequence")
    if kind is not None:
        getattr(sequence, f"{kind}_values").extend(_all(values))
    return sequence


@takes(name=TEXT)
def make_map(name: str, key_type: int, keys: list[Any], values: SequenceProto) -> MapProto:
    """A map from keys, integers or strings by ``key_type``, to the elements of ``values``."""
    made = MapProto(name=name, key_type=key_type, values=owned(values, SequenceProto))
    dtype = found_dtype(key_type)
    if dtype is types.STRING:
        made.string_keys.extend(key.encode() if isinstance(key, str) else key for key in keys)
    elif dtype.is_integer and dtype.bits >= 8:
        made.keys.extend(keys)
    return made


@takes(name=TEXT)
def make_optional(name: str, elem_type: int, value: Message | None) -> OptionalProto:
    """An optional of the message ``value``, of the kind that ``elem_type`` says."""
    optional = OptionalProto(name=name, elem_type=elem_type)
    kind = _kind(elem_type, "optional")
    if kind is not None:
        if value is None:
            raise InvalidArgument(f"optional {name!r}: a {kind} is required, found None")
        getattr(optional, f"{kind}_value").CopyFrom(owned_part(value))
    return optional


def _kind(elem_type: int, subject: str) -> str | None:
    """The kind of element behind a `SequenceProto.DataType`; None if that is undefined."""
    known = {number: name.lower() for name, number in SequenceProto.DataType.items()}
    if elem_type not in known:
        raise DTypeError(f"{subject}: elem_type must be 0 to {max(known)}, found {elem_type}")
    return known[elem_type] if elem_type else None


def make_training_info(
    algorithm: GraphProto,
    algorithm_bindings: AssignmentBindingType,
    initialization: GraphProto | None,
    initialization_bindings: AssignmentBindingType | None,
) -> TrainingInfoProto:
    """How to train a model: a graph for a step, one for the start, and what they assign."""
    info = TrainingInfoProto(algorithm=owned(algorithm, GraphProto))
    for key, value in algorithm_bindings:
        info.update_binding.add(key=key, value=value)
    if initialization:
        info.initialization.CopyFrom(owned(initialization, GraphProto))
    for key, value in initialization_bindings or ():
        info.initialization_binding.add(key=key, value=value)
    return info


def strip_doc_string(proto: Message) -> None:
    """Clear every documentation string in a message, at any depth."""
    if not isinstance(proto, Message):
        raise DTypeError(f"a protobuf message is required, found {type(proto).__name__}")
    for field in descriptor_of(proto).fields:
        if field.name == "doc_string":
            proto.ClearField(field.name)
        elif field.message_type is not None and is_repeated(field):
            for inner in getattr(proto, field.name):
                strip_doc_string(inner)
        elif field.message_type is not None and proto.HasField(field.name):
            strip_doc_string(getattr(proto, field.name))
