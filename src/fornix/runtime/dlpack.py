"""DLPack for the element types that NumPy has no name for: bfloat16 and float8.

Decides how tensors of other libraries become arrays over the same memory, and the other way round.
What NumPy exchanges itself is left to it. Source: DLPack 1.1, dlpack.h.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from fornix import dtype as dtypes
from fornix.dtype import DType
from fornix.errors import InvalidUse

Array = np.ndarray[Any, np.dtype[Any]]

CPU = 1
NAME = b"dltensor"
USED_NAME = b"used_dltensor"
CODES: dict[tuple[int, int], DType] = {
    (0, 8): dtypes.INT8, (0, 16): dtypes.INT16, (0, 32): dtypes.INT32, (0, 64): dtypes.INT64,
    (1, 8): dtypes.UINT8, (1, 16): dtypes.UINT16, (1, 32): dtypes.UINT32, (1, 64): dtypes.UINT64,
    (2, 16): dtypes.FLOAT16, (2, 32): dtypes.FLOAT32, (2, 64): dtypes.FLOAT64,
    (4, 16): dtypes.BFLOAT16, (5, 64): dtypes.COMPLEX64, (5, 128): dtypes.COMPLEX128,
    (6, 8): dtypes.BOOL, (10, 8): dtypes.FLOAT8E4M3FN, (11, 8): dtypes.FLOAT8E4M3FNUZ,
    (12, 8): dtypes.FLOAT8E5M2, (13, 8): dtypes.FLOAT8E5M2FNUZ, (14, 8): dtypes.FLOAT8E8M0,
}  # fmt: skip
"""Element types by code and bits."""
NUMBERS = {dtype: number for number, dtype in CODES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


def _function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of CPython; not the attribute of `pythonapi`, whose types everybody sets."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new = _function(
    "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)
_is_valid = _function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_rename = _function("PyCapsule_SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)


class _Owner:
    """Somebody else's tensor, which is given back with the last array over it."""

    def __init__(self, address: int, size: int, data: int) -> None:
        self.address = address
        self.__array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (data, False), "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        deleter = _Managed.from_address(self.address).deleter
        if deleter:
            deleter(self.address)


def array_of(data: Any) -> Array:
    """An array over the memory of ``data``, which has ``__dlpack__`` or is a capsule.

    Raises InvalidUse for memory that is not the processor's, for types of elements that nobody
    here knows and for layouts that are not row-major.
    """
    if hasattr(data, "__dlpack_device__") and int(data.__dlpack_device__()[0]) != CPU:
        raise InvalidUse("OrtValue.from_dlpack: data of the CPU are required, found another device")
    capsule = data.__dlpack__() if hasattr(data, "__dlpack__") else data
    if not _is_valid(id(capsule), NAME):
        raise InvalidUse(
            "OrtValue.from_dlpack: a tensor with __dlpack__ or an unused DLPack capsule is "
            f"required, found {type(data).__name__}"
        )
    address = _pointer(id(capsule), NAME)
    tensor = _Managed.from_address(address).tensor
    dtype = CODES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if tensor.device_type != CPU or dtype is None:
        raise InvalidUse(
            "OrtValue.from_dlpack: numbers on the CPU are required, found elements of code "
            f"{tensor.code} with {tensor.bits} bits on device {tensor.device_type}"
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if not _is_row_major(tensor, shape):
        raise InvalidUse(
            "OrtValue.from_dlpack: a tensor in row-major order is required, found another; "
            "make it contiguous first"
        )
    size = math.prod(shape) * dtype.numpy.itemsize
    if not size:
        return np.empty(shape, dtype.numpy)
    _rename(id(capsule), USED_NAME)
    owner = _Owner(address, size, (tensor.data or 0) + tensor.byte_offset)
    return np.asarray(owner).view(dtype.numpy).reshape(shape)


def _is_row_major(tensor: Any, shape: tuple[int, ...]) -> bool:
    if not tensor.strides or 0 in shape:
        return True
    step = 1
    for axis in reversed(range(tensor.ndim)):
        if shape[axis] > 1 and tensor.strides[axis] != step:
            return False
        step *= shape[axis]
    return True


_LENT: dict[int, tuple[object, ...]] = {}
"""What capsules and their users point into, by the address that they know."""


def _give_back(address: int | None) -> None:
    _LENT.pop(address or 0, None)


def _drop(capsule: int) -> None:
    """A capsule ends: nobody took what it holds."""
    if _is_valid(capsule, NAME):
        _give_back(_pointer(capsule, NAME))


_given_back = _Deleter(_give_back)
_dropped = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_drop)


def capsule_of(array: Array) -> object:
    """A DLPack capsule over the memory of ``array``, which is row-major."""
    code, bits = NUMBERS[DType.of(array.dtype)]
    shape = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
    managed = _Managed()
    managed.tensor = _Tensor(
        array.ctypes.data, CPU, 0, array.ndim, code, bits, 1,
        ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)), None, 0,
    )  # fmt: skip
    managed.deleter = _given_back
    address = ctypes.addressof(managed)
    _LENT[address] = (managed, shape, array)
    capsule: object = _new(address, NAME, ctypes.cast(_dropped, ctypes.c_void_p))
    return capsule
