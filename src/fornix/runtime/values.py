"""`OrtValue`: a value as sessions take and give it, whatever its type.

Decides what a value shows of itself and how its memory is shared: with the array that it was made
from, with the arrays that it gives, and with other libraries through DLPack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fornix.dtype import STRING, DType
from fornix.errors import DTypeError, InvalidUse
from fornix.ir.tensor import SparseTensor as StoredSparse
from fornix.runtime.dlpack import CPU, array_of, capsule_of
from fornix.runtime.sparse import SparseTensor

Array = np.ndarray[Any, np.dtype[Any]]

NUMPY_EXCHANGES = frozenset("biufc")
"""Kinds of dtypes that NumPy itself speaks DLPack for."""


class OrtValue:
    """A tensor, a sparse tensor, a sequence, a map, or nothing where that is optional.

    Tensors share the memory of the array that they are made from, if it is row-major.
    `element_type` is spelled by number as in messages, `data_type` as ``tensor(float)``.
    """

    __slots__ = ("__weakref__", "_type", "_value")

    def __init__(self, value: Any, data_type: str | None = None) -> None:
        """``data_type`` tells what an empty sequence or nothing would be."""
        held = value.value if isinstance(value, OrtValue) else value
        self._value: Any = SparseTensor.of(held) if isinstance(held, StoredSparse) else held
        self._type = data_type

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Any, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor over the memory of an array; a copy where that is not row-major."""
        check_device(device_type, "OrtValue.ortvalue_from_numpy")
        if not isinstance(numpy_obj, np.ndarray):
            raise InvalidUse(
                "OrtValue.ortvalue_from_numpy: a NumPy array is required, "
                f"found {type(numpy_obj).__name__}"
            )
        return cls(_tensor(numpy_obj))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Any, /, onnx_element_type: int) -> OrtValue:
        """A tensor over the memory of an array whose elements mean another type of that size."""
        dtype = _element_type(onnx_element_type)
        array = np.ascontiguousarray(data)
        if dtype is STRING or array.dtype.itemsize != dtype.numpy.itemsize:
            raise InvalidUse(
                f"OrtValue: elements of {dtype.numpy.itemsize} bytes are required for {dtype}, "
                f"found {array.dtype} with {array.dtype.itemsize}"
            )
        return cls(array.reshape(-1).view(dtype.numpy).reshape(array.shape))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: object = None,
    ) -> OrtValue:
        """A tensor of this shape, its contents undefined; the type is NumPy's or a number."""
        check_device(device_type, "OrtValue.ortvalue_from_shape_and_type")
        dtype = _element_type(element_type)
        if any(extent < 0 for extent in shape):
            raise InvalidUse(f"OrtValue: extents of 0 or more are required, found {list(shape)}")
        if dtype is STRING:
            return cls(np.full(tuple(shape), "", object))
        try:
            return cls(np.empty(tuple(shape), dtype.numpy))
        except ValueError as error:
            raise InvalidUse(f"OrtValue: {dtype}{list(shape)}: {error}") from error

    @classmethod
    def ort_value_from_sparse_tensor(cls, sparse_tensor: SparseTensor) -> OrtValue:
        """A value that is this sparse tensor."""
        if not isinstance(sparse_tensor, SparseTensor):
            raise InvalidUse(
                f"OrtValue: a SparseTensor is required, found {type(sparse_tensor).__name__}"
            )
        return cls(sparse_tensor)

    @classmethod
    def from_dlpack(cls, data: Any, is_bool_tensor: object = None, /) -> OrtValue:
        """A tensor over the memory of another library's, which has ``__dlpack__``, or a capsule."""
        return cls(array_of(data))

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule over the same memory."""
        array = self._array("__dlpack__")
        if array.dtype.isbuiltin == 1 and array.dtype.kind in NUMPY_EXCHANGES:
            return array.__dlpack__(max_version=max_version, dl_device=dl_device, copy=copy)
        if array.dtype == object or DType.of(array.dtype).bits < BITS_OF_A_BYTE:
            raise InvalidUse(f"OrtValue: DLPack has no {DType.of(array.dtype)}")
        return capsule_of(array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def to_dlpack(self) -> object:
        """A DLPack capsule over the memory, which the value and the capsule share."""
        return self.__dlpack__()

    @property
    def _ortvalue(self) -> OrtValue:
        """What programs take for the native value: the value."""
        return self

    def _get_c_value(self) -> OrtValue:
        return self

    def numpy(self) -> Array:
        """The tensor as an array over the same memory."""
        return self._array("numpy")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:  # noqa: FBT001 - NumPy's
        """What NumPy makes of it: the array over the same memory, if its type is the wanted one."""
        array = self._array("__array__")
        wanted = array.dtype if dtype is None else np.dtype(dtype)
        if copy is False and wanted != array.dtype:
            raise ValueError(f"OrtValue: {array.dtype} cannot be {wanted} without a copy")
        return array.astype(wanted, copy=bool(copy))

    @property
    def value(self) -> Any:
        """What it holds: an array, a `SparseTensor`, a list, a dict or None."""
        return self._value

    def data_ptr(self) -> int:
        """The address of the tensor's first element."""
        return int(self._array("data_ptr").ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        """Bytes of the tensor in memory, where elements of 4 bits take a byte each."""
        return int(self._array("tensor_size_in_bytes").nbytes)

    def shape(self) -> list[int]:
        """Extents of a dense or sparse tensor."""
        if isinstance(self._value, SparseTensor):
            return self._value.dense_shape()
        return list(self._array("shape").shape)

    def data_type(self) -> str:
        """The type, spelled as ``tensor(float)``."""
        return self._type or type_text(self._value)

    def element_type(self) -> int:
        """The number of the type of the tensor's elements, or of a sequence's."""
        text = self.data_type()
        name = text[text.rindex("(") + 1 :].rstrip(")") if "(" in text else ""
        try:
            return DType.of(name).code
        except DTypeError:
            raise InvalidUse(f"OrtValue: a value with elements is required, found {text}") from None

    def device_name(self) -> str:
        """Where the tensor lies: "cpu"."""
        if not (self.is_tensor() or self.is_sparse_tensor()):
            raise InvalidUse(
                f"OrtValue.device_name: a tensor is required, found {self.data_type()}"
            )
        return "cpu"

    def has_value(self) -> bool:
        """Whether it is not an optional value that is absent."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether it is a dense tensor."""
        return isinstance(self._value, np.ndarray)

    def is_sparse_tensor(self) -> bool:
        """Whether it is a sparse tensor."""
        return isinstance(self._value, SparseTensor)

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence."""
        return isinstance(self._value, list)

    def as_sparse_tensor(self) -> SparseTensor:
        """The sparse tensor that it is."""
        if not isinstance(self._value, SparseTensor):
            raise InvalidUse(f"OrtValue: a sparse tensor is required, found {self.data_type()}")
        return self._value

    def update_inplace(self, data: Any) -> None:
        """Copy an array, or another value, of as many elements of the type into the tensor."""
        array = self._array("update_inplace")
        given = np.asarray(data.numpy() if isinstance(data, OrtValue) else data)
        if given.size != array.size or given.dtype != array.dtype:
            raise InvalidUse(
                f"OrtValue.update_inplace: {array.size} elements of {array.dtype} are required, "
                f"found {given.size} of {given.dtype}"
            )
        np.copyto(array, given.reshape(array.shape))

    def _array(self, what: str) -> Array:
        if not isinstance(self._value, np.ndarray):
            raise InvalidUse(f"OrtValue.{what}: a tensor is required, found {self.data_type()}")
        return self._value

    def __repr__(self) -> str:
        if isinstance(self._value, np.ndarray):
            return f"<OrtValue {self.data_type()} {list(self._value.shape)}>"
        return f"<OrtValue {self.data_type()}>"


class OrtValueVector(list[OrtValue]):
    """Values in a row."""

    push_back = list[OrtValue].append

    def push_back_batch(
        self,
        tensors: Sequence[object],
        data_ptrs: Sequence[int],
        element_types: Sequence[Any],
        shapes: Sequence[Sequence[int]],
        devices: Sequence[object],
    ) -> None:
        """Add tensors of another library, which lie at ``data_ptrs``, and keep them alive."""
        for tensor in tensors:
            self.append(OrtValue.from_dlpack(tensor))

    def reserve(self, count: int) -> None:
        """Nothing: lists grow by themselves."""

    def shrink_to_fit(self) -> None:
        """Nothing: lists shrink by themselves."""

    def element_type_at(self, idx: int) -> int:
        """The number of the type of a value's elements."""
        return self[idx].element_type()

    def dlpack_at(self, idx: int) -> object:
        """A DLPack capsule over a value's memory."""
        return self[idx].__dlpack__()

    def to_dlpacks(self, to_tensor: Callable[[object], object] | None) -> list[object]:
        """Capsules over the memory of all values, or what ``to_tensor`` makes of them."""
        capsules = [value.__dlpack__() for value in self]
        return capsules if to_tensor is None else [to_tensor(capsule) for capsule in capsules]

    def bool_tensor_indices(self) -> list[int]:
        """Where there are bools."""
        return [i for i, value in enumerate(self) if value.data_type() == "tensor(bool)"]


BITS_OF_A_BYTE = 8


def text_of_device(name: object, what: str) -> str:
    """``name``; raises TypeError for what is no text."""
    if not isinstance(name, str):
        raise TypeError(f"{what}: a device is called by a text, found {type(name).__name__}")
    return name


def check_device(name: object, what: str) -> None:
    """Raise InvalidUse for memory of another device, TypeError for what is no text."""
    if text_of_device(name, what).lower() != "cpu":
        raise InvalidUse(f"{what}: memory of 'cpu' is required, found {name!r}")


def unwrapped(feeds: Any) -> Any:
    """``feeds`` with what values hold in place of `OrtValue` objects."""
    if isinstance(feeds, (dict, Mapping)):  # that of a dict is answered at once
        for feed in feeds.values():
            if isinstance(feed, OrtValue):
                return {name: _plain(feed) for name, feed in feeds.items()}
    return feeds


def in_rows(feeds: Any) -> Any:
    """``feeds`` of a dict with arrays that lie in memory row by row, as code reads them."""
    if not isinstance(feeds, dict) or all(map(_is_in_rows, feeds.values())):
        return feeds
    return {n: x if _is_in_rows(x) else np.ascontiguousarray(x) for n, x in feeds.items()}


def _is_in_rows(feed: Any) -> bool:
    return not isinstance(feed, np.ndarray) or feed.flags.c_contiguous


def _plain(feed: Any) -> Any:
    held = feed.value if isinstance(feed, OrtValue) else feed
    return held.stored() if isinstance(held, SparseTensor) else held


def type_text(value: Any) -> str:
    """The type of a value, spelled as ``tensor(float)``."""
    if isinstance(value, np.ndarray | np.generic):
        return f"tensor({DType.of(value.dtype).text})"
    if isinstance(value, SparseTensor):
        return value.data_type()
    if isinstance(value, list):
        return f"seq({type_text(value[0]) if value else 'tensor(float)'})"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:1]
        key, item = (_scalar_text(pairs[0][0]), pairs[0][1]) if pairs else ("int64", 0.0)
        inner = (
            _scalar_text(item) if not isinstance(item, np.ndarray) else DType.of(item.dtype).text
        )
        return f"map({key},tensor({inner}))"
    return "optional(tensor(float))" if value is None else _scalar_text(value)


def _scalar_text(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return DType.of(np.asarray(value).dtype).text if not isinstance(value, float) else "float"


def _tensor(array: Array) -> Array:
    """``array``, row-major, of a type that ONNX has."""
    try:
        dtype = DType.of(array.dtype)
    except DTypeError as error:
        raise InvalidUse(f"OrtValue: {error}") from error
    if dtype is STRING and array.dtype != object:
        return array.astype(object)
    return np.ascontiguousarray(array, dtype.numpy).reshape(array.shape)


def _element_type(given: Any) -> DType:
    try:
        return DType.of(given)
    except (DTypeError, TypeError) as error:
        raise InvalidUse(f"OrtValue: {error}") from error
