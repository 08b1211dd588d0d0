"""Tensors: data with dtype and shape, however it is stored.

Consumers ask for `numpy()` or `tobytes()` and need not know whether the data lies in an array, in
a mapped file, in a message (`fornix.ir.message_tensor`) or does not exist yet. Tensors are
immutable: arrays that they hand out are read-only, copies of a model share them. How payloads are
encoded is `fornix.format.tensors`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fornix.dtype import STRING, DType
from fornix.errors import DTypeError, LimitError, TensorDataError
from fornix.format.mapped import MappedBytes, Payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from fornix.format.messages import TensorProto

Array = np.ndarray[Any, np.dtype[Any]]


class Tensor(Protocol):
    """What every tensor offers; anything with these members is one."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> DType: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int:
        """Bytes in packed storage; of strings, their UTF-8."""

    def numpy(self) -> Array:
        """The elements as a read-only array; strings as an object array of str."""

    def tobytes(self) -> bytes:
        """The elements packed, little-endian, row-major; raises DTypeError for strings."""


class Stored:
    """What the storages share: a copy is the tensor itself, text is a type and a name."""

    __slots__ = ()

    def __copy__(self: Tensor) -> Tensor:
        return self

    def __deepcopy__(self: Tensor, memo: dict[int, object]) -> Tensor:
        return self

    def __repr__(self: Tensor) -> str:
        dims = ", ".join(map(str, self.shape))
        try:
            dtype = self.dtype.name
        except DTypeError:  # of a message that is not sound
            dtype = "?"
        return f"<{type(self).__name__} {self.name or '_'}: {dtype}[{dims}]>"


class ArrayTensor(Stored):
    """A tensor over a NumPy array, which must not change any more."""

    __slots__ = ("_array", "dtype", "name")

    def __init__(self, array: NDArray[Any], name: str = "") -> None:
        self.name = name
        self.dtype = DType.of(array.dtype)
        if self.dtype is STRING and array.dtype != object:
            array = array.astype(object)
        self._array: Array = array.view()
        self._array.flags.writeable = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    @property
    def nbytes(self) -> int:
        return packed_size(self._array, self.dtype)

    def numpy(self) -> Array:
        return self._array

    def tobytes(self) -> bytes:
        return self.dtype.pack(self._array)

    def __reduce__(self) -> tuple[type[ArrayTensor], tuple[Array, str]]:
        return ArrayTensor, (self._array, self.name)


class LazyTensor(Stored):
    """A tensor whose elements a function makes when they are first wanted."""

    __slots__ = ("_array", "_make", "dtype", "name", "shape")

    def __init__(
        self, make: Callable[[], NDArray[Any]], dtype: DType, shape: tuple[int, ...], name: str = ""
    ) -> None:
        self.name, self.dtype, self.shape = name, dtype, tuple(shape)
        self._make = make
        self._array: Array | None = None

    @property
    def nbytes(self) -> int:
        return packed_size(self.numpy(), STRING) if self.dtype is STRING else packed_bytes(self)

    def numpy(self) -> Array:
        """The elements; raises TensorDataError if the function breaks its promise."""
        if self._array is None:
            array = self._make()
            if array.shape != self.shape or DType.of(array.dtype) is not self.dtype:
                raise TensorDataError(
                    f"tensor '{self.name}': {self.dtype}{list(self.shape)} was promised, "
                    f"found {array.dtype}{list(array.shape)}"
                )
            self._array = array.view()
            self._array.flags.writeable = False
        return self._array

    def tobytes(self) -> bytes:
        return self.dtype.pack(self.numpy())

    def __reduce__(self) -> tuple[type[ArrayTensor], tuple[Array, str]]:
        return ArrayTensor, (self.numpy(), self.name)


class MappedTensor(Stored):
    """A tensor over packed bytes that lie elsewhere, such as a slice of a mapped file.

    ``payload`` finds them when they are wanted; ``message`` is what the tensor's message says
    besides (documentation, metadata).
    """

    __slots__ = ("dtype", "message", "name", "payload", "shape")

    def __init__(
        self,
        payload: Payload | Buffer,
        dtype: DType,
        shape: tuple[int, ...],
        name: str = "",
        message: TensorProto | None = None,
    ) -> None:
        self.payload = payload if isinstance(payload, Payload) else MappedBytes.of(payload)
        self.name, self.dtype, self.shape = name, dtype, tuple(shape)
        self.message = message

    @property
    def nbytes(self) -> int:
        return self.payload.nbytes

    def numpy(self) -> Array:
        """A view of the mapped bytes where storage and memory agree.

        Raises TensorDataError if their number is not what shape and dtype require.
        """
        return self.dtype.unpack(memoryview(self.payload.view()), prod(self.shape)).reshape(
            self.shape
        )

    @property
    def place(self) -> Payload:
        """The payload whose bytes `numpy` shows in place."""
        return self.payload

    def tobytes(self) -> bytes:
        return bytes(self.payload.view())

    def __reduce__(self) -> tuple[type[MappedTensor], tuple[object, ...]]:
        return MappedTensor, (self.payload, self.dtype, self.shape, self.name, self.message)


class SparseTensor(Stored):
    """A tensor of which only some elements, ``values``, are stored; the others are zero.

    values[NNZ] · indices[NNZ], linear and row-major, or indices[NNZ, rank]
    """

    __slots__ = ("indices", "leftover", "shape", "values")

    def __init__(
        self, values: Tensor, indices: Tensor, shape: tuple[int, ...], leftover: bytes = b""
    ) -> None:
        self.values, self.indices, self.shape = values, indices, tuple(shape)
        self.leftover = leftover

    @property
    def name(self) -> str:
        return self.values.name

    @property
    def dtype(self) -> DType:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the dense form."""
        return packed_bytes(self)

    def numpy(self) -> Array:
        """The dense form; raises as `check` does."""
        values, indices = self.check()
        dense = np.zeros(self.shape, values.dtype)
        if self.dtype is STRING:
            dense.fill("")
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        dense.flags.writeable = False
        return dense

    def check(self) -> tuple[Array, Array]:
        """Values and indices as arrays, without making anything dense.

        Raises TensorDataError if values, indices and shape contradict each other; LimitError if
        the dense form would exceed `DENSE_BYTES`.
        """
        values, indices = self.values.numpy(), self.indices.numpy()
        subject = f"sparse tensor '{self.name}'"
        count, rank = values.size, len(self.shape)
        if values.ndim != 1 or indices.shape not in {(count,), (count, rank)}:
            raise TensorDataError(
                f"{subject}: values[NNZ] and indices[NNZ] or indices[NNZ, {rank}] are required, "
                f"found values{list(values.shape)} and indices{list(indices.shape)}"
            )
        if min(self.shape, default=0) < 0:
            raise TensorDataError(f"{subject}: dims ≥ 0 are required, found {list(self.shape)}")
        if prod(self.shape) * values.dtype.itemsize > DENSE_BYTES:
            raise LimitError(
                f"{subject}: at most {DENSE_BYTES} bytes are made dense, {list(self.shape)} takes "
                f"{prod(self.shape) * values.dtype.itemsize}; use `values` and `indices`"
            )
        ends = np.array([prod(self.shape)] if indices.ndim == 1 else self.shape)
        if count and ((indices < 0) | (indices >= ends)).any():
            raise TensorDataError(f"{subject}: an index lies outside {list(self.shape)}")
        return values, indices

    def tobytes(self) -> bytes:
        return self.dtype.pack(self.numpy())

    def __reduce__(self) -> tuple[type[SparseTensor], tuple[object, ...]]:
        return SparseTensor, (self.values, self.indices, self.shape, self.leftover)


# A sparse tensor may claim dims of any size; what it makes dense is bounded, in bytes.
DENSE_BYTES = 1 << 32


def packed_size(array: Array, dtype: DType) -> int:
    """Bytes that ``array`` takes packed; of strings, their UTF-8."""
    if dtype is STRING:
        return sum(len(x.encode() if isinstance(x, str) else x) for x in array.reshape(-1))
    return dtype.nbytes(array.size)


def packed_bytes(tensor: Tensor) -> int:
    """Bytes that the elements of ``tensor`` take packed, which are no strings."""
    return tensor.dtype.nbytes(prod(tensor.shape))
