"""Types between `TypeProto` and `fornix.ir.types`.

A type that is written is written plainly. What a message says besides (denotations, an empty
dim_param, an element type that nobody knows) is found by `read_type`, and stays where
`set_type` finds the message to mean the wanted type already, or dims of the same rank.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fornix.dtype import DType
from fornix.errors import DTypeError, GraphError, LimitError
from fornix.format.messages import TensorShapeProto, TypeProto
from fornix.ir.dim import Dim, named, symbol
from fornix.ir.leftover import as_text, writable
from fornix.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)

if TYPE_CHECKING:
    from fornix.ir.types import Shape

# Types within types; protobuf's own reader stops at 100 messages, two for each type.
MAX_NESTING = 64
# Distinct types that stay decoded.
_KEPT_TYPES = 4096


def read_type(message: TypeProto) -> tuple[Type | None, bool]:
    """The type that ``message`` means, None if it is not known, and whether that is all it says.

    Raises LimitError for more than `MAX_NESTING` types in one another.
    """
    return _read_bytes(message.SerializePartialToString(deterministic=True))


@lru_cache(_KEPT_TYPES)
def _read_bytes(data: bytes) -> tuple[Type | None, bool]:
    type_ = _read(TypeProto.FromString(data), 0)
    if type_ is None:
        return None, False
    plain = TypeProto()
    try:
        write_type(plain, type_)
    except GraphError:  # a name that is not UTF-8
        return type_, False
    return type_, plain.SerializePartialToString(deterministic=True) == data


def _read(message: TypeProto, depth: int) -> Type | None:
    if depth > MAX_NESTING:
        raise LimitError(f"type: at most {MAX_NESTING} types in one another are read, found more")
    kind = message.WhichOneof("value")
    if kind == "tensor_type":
        tensor = message.tensor_type
        return TensorType(
            read_dtype(tensor.elem_type),
            read_shape(tensor.shape) if tensor.HasField("shape") else None,
        )
    if kind == "sparse_tensor_type":
        sparse = message.sparse_tensor_type
        return SparseTensorType(
            read_dtype(sparse.elem_type),
            read_shape(sparse.shape) if sparse.HasField("shape") else None,
        )
    if kind == "sequence_type":
        return SequenceType(_read(message.sequence_type.elem_type, depth + 1))
    if kind == "optional_type":
        return OptionalType(_read(message.optional_type.elem_type, depth + 1))
    if kind == "map_type":
        pairs = message.map_type
        return MapType(read_dtype(pairs.key_type), _read(pairs.value_type, depth + 1))
    if kind == "opaque_type":
        return OpaqueType(as_text(message.opaque_type.domain), as_text(message.opaque_type.name))
    return None


def read_dtype(code: int) -> DType | None:
    """The element type with this number; None for undefined and for numbers that nobody knows."""
    try:
        return DType.of(code)
    except DTypeError:
        return None


def read_shape(message: TensorShapeProto) -> Shape:
    """The dims of a shape; one that has neither value nor name is None."""
    return tuple(_read_dim(dim) for dim in message.dim)


def _read_dim(message: TensorShapeProto.Dimension) -> int | Dim | None:
    if message.HasField("dim_value"):
        return message.dim_value
    return read_param(as_text(message.dim_param))


@lru_cache(_KEPT_TYPES)
def read_param(text: str) -> Dim | None:
    """The dim that a dim_param stands for: an expression, or else a symbol; None if empty."""
    if not text:
        return None
    dim = named(text)
    return symbol(text) if dim.unknowns else dim


def set_type(message: TypeProto, type_: Type | None) -> None:
    """Let ``message`` mean ``type_``, leaving alone what it says besides where that still fits."""
    if read_type(message)[0] == type_:
        return
    kind = message.WhichOneof("value")
    if isinstance(type_, TensorType) and kind == "tensor_type":
        _set_tensor(message.tensor_type, type_)
    elif isinstance(type_, SparseTensorType) and kind == "sparse_tensor_type":
        _set_tensor(message.sparse_tensor_type, type_)
    else:
        message.Clear()
        if type_ is not None:
            write_type(message, type_)


def _set_tensor(
    message: TypeProto.Tensor | TypeProto.SparseTensor, type_: TensorType | SparseTensorType
) -> None:
    if read_dtype(message.elem_type) is not type_.dtype:
        message.elem_type = 0 if type_.dtype is None else type_.dtype.code
    if type_.shape is None:
        message.ClearField("shape")
    elif len(message.shape.dim) != len(type_.shape) or not message.HasField("shape"):
        message.ClearField("shape")
        _write_shape(message.shape, type_.shape)
    else:
        for old, new in zip(message.shape.dim, type_.shape, strict=True):
            if _read_dim(old) != new:
                old.ClearField("dim_value")
                old.ClearField("dim_param")
                _write_dim(old, new)


def write_type(message: TypeProto, type_: Type) -> None:
    """Write ``type_`` into an empty message, plainly."""
    if isinstance(type_, TensorType):
        message.tensor_type.SetInParent()
        _write_tensor(message.tensor_type, type_)
    elif isinstance(type_, SparseTensorType):
        message.sparse_tensor_type.SetInParent()
        _write_tensor(message.sparse_tensor_type, type_)
    elif isinstance(type_, SequenceType):
        message.sequence_type.SetInParent()
        if type_.elem is not None:
            write_type(message.sequence_type.elem_type, type_.elem)
    elif isinstance(type_, OptionalType):
        message.optional_type.SetInParent()
        if type_.elem is not None:
            write_type(message.optional_type.elem_type, type_.elem)
    elif isinstance(type_, MapType):
        message.map_type.SetInParent()
        if type_.key is not None:
            message.map_type.key_type = type_.key.code
        if type_.value is not None:
            write_type(message.map_type.value_type, type_.value)
    else:
        message.opaque_type.domain = writable(type_.domain)
        message.opaque_type.name = writable(type_.name)


def _write_tensor(
    message: TypeProto.Tensor | TypeProto.SparseTensor, type_: TensorType | SparseTensorType
) -> None:
    if type_.dtype is not None:
        message.elem_type = type_.dtype.code
    if type_.shape is not None:
        _write_shape(message.shape, type_.shape)


def _write_shape(message: TensorShapeProto, shape: Shape) -> None:
    message.SetInParent()
    for dim in shape:
        _write_dim(message.dim.add(), dim)


def _write_dim(message: TensorShapeProto.Dimension, dim: int | Dim | None) -> None:
    if isinstance(dim, Dim):
        if not dim.unknowns:
            message.dim_param = writable(dim.name or str(dim))
    elif dim is not None:
        message.dim_value = dim
