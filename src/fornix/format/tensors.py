"""The one decoder and encoder of tensor payloads: messages to NumPy and back.

Decides which field of a `TensorProto` holds the elements of a dtype, how many bytes its dims
require, and what is refused. Sequences, maps, optionals and sparse tensors nest tensors and are
read here too. Where external bytes come from is left to `external`, how elements are packed to
`fornix.dtype`.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fornix import dtype as types
from fornix.dtype import DType
from fornix.errors import DTypeError, TensorDataError
from fornix.format.messages import SparseTensorProto, TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from fornix.dtype import Buffer

__all__ = [
    "Layout",
    "Sparse",
    "field",
    "from_array",
    "from_sparse",
    "layout",
    "subject",
    "to_array",
    "to_sparse",
    "unpack",
]

# NumPy's limit, and rule 3 of the security rules.
MAX_RANK = 64

# Typed payload fields with the dtype of their numbers; string_data holds bytes.
_FIELDS: dict[str, type[np.generic]] = {
    "float_data": np.float32,
    "int32_data": np.int32,
    "int64_data": np.int64,
    "double_data": np.float64,
    "uint64_data": np.uint64,
    "string_data": np.object_,
}
# Every dtype that is missing here is stored in int32_data.
_FIELD_OF: dict[DType, str] = {
    types.FLOAT32: "float_data",
    types.COMPLEX64: "float_data",
    types.FLOAT64: "double_data",
    types.COMPLEX128: "double_data",
    types.INT64: "int64_data",
    types.UINT32: "uint64_data",
    types.UINT64: "uint64_data",
    types.STRING: "string_data",
}


class Layout(NamedTuple):
    """What a tensor message promises about its payload."""

    dtype: DType
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    """Bytes in packed storage; 0 for strings."""


class Sparse(NamedTuple):
    """A sparse tensor: values[NNZ] at indices[NNZ, R] or, flattened, [NNZ] of a dense shape."""

    values: NDArray[Any]
    indices: NDArray[np.int64]
    shape: tuple[int, ...]


def field(dtype: DType) -> str:
    """The typed field that carries elements of ``dtype``, for instance "int32_data"."""
    return _FIELD_OF.get(dtype, "int32_data")


def subject(tensor: TensorProto) -> str:
    """What errors call ``tensor``."""
    return f"tensor {tensor.name!r}" if tensor.name else "unnamed tensor"


def layout(tensor: TensorProto) -> Layout:
    """The dtype, shape, element count and packed size that ``tensor`` declares.

    Raises TensorDataError for an unknown dtype, a negative dim, a rank above 64, a shape that
    memory cannot address, or a segment.
    """
    name = subject(tensor)
    try:
        dtype = DType.of(tensor.data_type)
    except DTypeError:
        raise TensorDataError(
            f"{name}: data_type must be 1 to {len(types.ALL)}, found {tensor.data_type}"
        ) from None
    if tensor.HasField("segment"):
        raise TensorDataError(f"{name}: all of its data is required, found a segment of it")
    return _layout(dtype, tensor.dims, name)


def _layout(dtype: DType, dims: Iterable[int], name: str) -> Layout:
    shape = tuple(dims)
    if len(shape) > MAX_RANK:
        raise TensorDataError(
            f"{name}: a rank of at most {MAX_RANK} is required, found {len(shape)}"
        )
    if any(dim < 0 for dim in shape):
        raise TensorDataError(f"{name}: dims must not be negative, found {list(shape)}")
    # Zero dims do not excuse the others: NumPy computes strides from them.
    if math.prod(max(dim, 1) for dim in shape) * dtype.numpy.itemsize > sys.maxsize:
        raise TensorDataError(f"{name}: {dtype}{list(shape)} is larger than memory can address")
    count = math.prod(shape)
    return Layout(dtype, shape, count, dtype.nbytes(count))


def to_array(tensor: TensorProto, base_dir: str = "") -> NDArray[Any]:
    """The elements of ``tensor`` as an array of its dims: x[*dims], read-only where it is a view.

    Strings become an object array of `str`; bytes that are not UTF-8 survive as surrogate escapes.
    External data is read below ``base_dir``. In typed fields the bits beyond an element's width
    are ignored. Raises TensorDataError unless the payload is exactly what dims and dtype require,
    in one field; ExternalDataError as `external.load` does.
    """
    declared = layout(tensor)
    if tensor.data_location == TensorProto.EXTERNAL:
        from fornix.format import external  # noqa: PLC0415 - it builds on this module

        _require_empty(tensor, _present(tensor))
        return _from_raw(external.load(tensor, base_dir), declared, tensor)
    present = _present(tensor)
    expected = field(declared.dtype)
    if len(present) > 1:
        raise TensorDataError(
            f"{subject(tensor)}: one payload is required, found {' and '.join(present)}"
        )
    if present == ["raw_data"] and declared.dtype is not types.STRING:
        return _from_raw(tensor.raw_data, declared, tensor)
    if present and present != [expected]:
        raise TensorDataError(
            f"{subject(tensor)}: {declared.dtype} belongs in {expected}, found {present[0]}"
        )
    return _from_typed(tensor, declared)


def unpack(tensor: TensorProto, payload: Buffer) -> NDArray[Any]:
    """The elements of ``tensor``, whose packed bytes stand elsewhere: x[*dims], as `to_array`.

    What the message has in `raw_data` does not count. Raises TensorDataError unless the bytes are
    exactly what dims and dtype require.
    """
    declared = layout(tensor)
    _require_empty(tensor, [name for name in _present(tensor) if name != "raw_data"])
    return _from_raw(payload, declared, tensor)


def _present(tensor: TensorProto) -> list[str]:
    """The payload fields that hold something."""
    return [name for name in ("raw_data", *_FIELDS) if len(getattr(tensor, name))]


def _require_empty(tensor: TensorProto, present: list[str]) -> None:
    if present:
        raise TensorDataError(
            f"{subject(tensor)}: external data leaves the message empty, found {present[0]}"
        )


def _from_raw(buffer: Buffer, declared: Layout, tensor: TensorProto) -> NDArray[Any]:
    size = np.frombuffer(buffer, np.uint8).size
    if size != declared.nbytes:
        raise _wrong_size(tensor, declared, declared.nbytes, "bytes", size)
    return declared.dtype.unpack(buffer, declared.elements).reshape(declared.shape)


def _from_typed(tensor: TensorProto, declared: Layout) -> NDArray[Any]:
    """The payload of the typed field that belongs to the dtype."""
    dtype, shape, count, nbytes = declared
    name = field(dtype)
    entries = getattr(tensor, name)
    needed = _entries(dtype, count)
    if len(entries) != needed:
        raise _wrong_size(tensor, declared, needed, f"entries of {name}", len(entries))
    if dtype is types.STRING:
        strings = np.empty(count, object)
        strings[:] = [entry.decode("utf-8", "surrogateescape") for entry in entries]
        return strings.reshape(shape)
    if hasattr(entries, "__array__"):
        numbers = np.array(entries, _FIELDS[name])
    else:  # protobuf before 6: iterating beats NumPy's use of the sequence protocol
        numbers = np.fromiter(entries, _FIELDS[name], needed)
    if name != "int32_data":
        if dtype.kind == "complex":
            return numbers.view(dtype.numpy).reshape(shape)
        return numbers.astype(dtype.numpy, copy=False).reshape(shape)
    if dtype is types.BOOL:
        return numbers.astype(np.bool_).reshape(shape)
    if dtype.bits < 8 and dtype.bits != 6:
        return dtype.unpack(numbers.astype(np.uint8)[:nbytes], count).reshape(shape)
    codes = numbers.astype(f"u{dtype.numpy.itemsize}")
    if dtype.bits == 6:
        codes &= np.uint8(63)
    return codes.view(dtype.numpy).reshape(shape)


def _entries(dtype: DType, count: int) -> int:
    """How many entries of its typed field ``count`` elements take.

    Source: onnx.proto, TensorProto.int32_data: 4-bit and 2-bit elements share an entry, 6-bit ones
    do not; complex numbers take two.
    """
    if dtype.kind == "complex":
        return 2 * count
    return dtype.nbytes(count) if dtype.bits in {2, 4} else count


def _wrong_size(
    tensor: TensorProto, declared: Layout, needed: int, unit: str, found: int
) -> TensorDataError:
    shape = ", ".join(map(str, declared.shape))
    return TensorDataError(
        f"{subject(tensor)}: {declared.dtype}[{shape}] takes {needed} {unit}, found {found}"
    )


def from_array(array: ArrayLike, name: str | None = None) -> TensorProto:
    """``array`` as a message: raw little-endian data, or string_data for strings.

    Raises DTypeError for a NumPy dtype that ONNX lacks, and for objects that are not strings.
    """
    elements = np.asarray(array)
    dtype = DType.of(elements.dtype)
    tensor = TensorProto(dims=elements.shape, data_type=dtype.code)
    if name:
        tensor.name = name
    if dtype is types.STRING:
        tensor.string_data.extend(_encoded(entry) for entry in elements.reshape(-1))
    else:
        tensor.raw_data = dtype.pack(elements)
    return tensor


def _encoded(entry: object) -> bytes:
    if isinstance(entry, str):
        return entry.encode("utf-8", "surrogateescape")
    if isinstance(entry, bytes):
        return entry
    raise NoTensor(f"a string tensor holds str or bytes, found {type(entry).__name__}")


class NoTensor(DTypeError, NotImplementedError):
    """Objects that no element type holds; onnx raises NotImplementedError for them."""


def to_sparse(sparse: SparseTensorProto, base_dir: str = "") -> Sparse:
    """The parts of a sparse tensor, with every index inside its shape.

    Raises TensorDataError if values[NNZ], int64 indices[NNZ] or [NNZ, R] and dims[R] disagree.
    """
    name = f"sparse {subject(sparse.values)}"
    values = to_array(sparse.values, base_dir)
    indices = to_array(sparse.indices, base_dir)
    shape = _layout(DType.of(values.dtype), sparse.dims, name).shape
    if values.ndim != 1:
        raise TensorDataError(f"{name}: values must have rank 1, found {values.ndim}")
    if indices.dtype != np.int64:
        raise TensorDataError(f"{name}: indices must be int64, found {DType.of(indices.dtype)}")
    if indices.shape not in {(values.size,), (values.size, len(shape))}:
        raise TensorDataError(
            f"{name}: indices must be [{values.size}] or [{values.size}, {len(shape)}], "
            f"found {list(indices.shape)}"
        )
    bound = np.array(shape if indices.ndim == 2 else [math.prod(shape)], np.int64)
    if values.size and not ((indices >= 0) & (indices < bound)).all():
        raise TensorDataError(f"{name}: indices must lie within {list(shape)}, found others")
    return Sparse(values, indices, shape)


def from_sparse(
    values: ArrayLike, indices: ArrayLike, shape: Sequence[int], name: str | None = None
) -> SparseTensorProto:
    """A sparse tensor message of values[NNZ] at indices[NNZ] or [NNZ, R] of ``shape``."""
    return SparseTensorProto(
        values=from_array(values, name),
        indices=from_array(np.asarray(indices, np.int64)),
        dims=shape,
    )
