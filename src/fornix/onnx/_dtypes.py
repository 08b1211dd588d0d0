"""The part of `onnx.helper` about element types: numbers of `TensorProto.DataType` and NumPy."""

from __future__ import annotations

from collections.abc import KeysView
from typing import Any

import numpy as np

from fornix.dtype import ALL, DType
from fornix.errors import DTypeError
from fornix.format.messages import TensorProto
from fornix.format.tensors import field

_BY_CODE = {dtype.code: dtype for dtype in ALL}
# The field of a tensor, and the dtype of its entries.
_STORAGE = {
    "float_data": TensorProto.FLOAT,
    "int32_data": TensorProto.INT32,
    "int64_data": TensorProto.INT64,
    "double_data": TensorProto.DOUBLE,
    "uint64_data": TensorProto.UINT64,
    "string_data": TensorProto.STRING,
}


class UnknownDType(DTypeError, KeyError):
    """The number of no dtype, also for those who catch what onnx's table raises."""

    __str__ = Exception.__str__


def found_dtype(number: int) -> DType:
    """The dtype of a number; raises UnknownDType if there is none."""
    try:
        return DType.of(number)
    except DTypeError as error:
        raise UnknownDType(str(error)) from None


def tensor_dtype_to_np_dtype(tensor_dtype: int) -> np.dtype[Any]:
    """The NumPy dtype that holds elements of ``tensor_dtype``."""
    return found_dtype(tensor_dtype).numpy


def tensor_dtype_to_storage_tensor_dtype(tensor_dtype: int) -> int:
    """The dtype of the entries of the field that elements of ``tensor_dtype`` are stored in."""
    return _STORAGE[field(found_dtype(tensor_dtype))]


def tensor_dtype_to_string(tensor_dtype: int) -> str:
    """``tensor_dtype`` by name, as in "TensorProto.FLOAT"."""
    return f"TensorProto.{TensorProto.DataType.Name(found_dtype(tensor_dtype).code)}"


def tensor_dtype_to_field(tensor_dtype: int) -> str:
    """The field of a tensor that elements of ``tensor_dtype`` are stored in."""
    return field(found_dtype(tensor_dtype))


def np_dtype_to_tensor_dtype(np_dtype: np.dtype[Any]) -> int:
    """The number of the dtype that a NumPy dtype stands for; DTypeError if ONNX lacks it."""
    return DType.of(numpy_dtype(np_dtype)).code


def numpy_dtype(source: object) -> np.dtype[Any]:
    """What NumPy makes of ``source``; DTypeError if that is nothing, or None, which is no dtype."""
    try:
        if source is not None:
            return np.dtype(source)  # type: ignore[call-overload,no-any-return] # whatever it is
    except (TypeError, ValueError):
        pass
    raise DTypeError(f"a NumPy dtype is required, found {source!r}")


def get_all_tensor_dtypes() -> KeysView[int]:
    """The number of every dtype."""
    return _BY_CODE.keys()
