"""What `onnx.mapping` offered until onnx 1.18: tables between element types and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from fornix.onnx._dtypes import tensor_dtype_to_field
from fornix.onnx._mapping import TENSOR_TYPE_MAP, TensorDtypeMap

__all__ = [
    "NP_TYPE_TO_TENSOR_TYPE",
    "OPTIONAL_ELEMENT_TYPE_TO_FIELD",
    "STORAGE_TENSOR_TYPE_TO_FIELD",
    "TENSOR_TYPE_MAP",
    "TENSOR_TYPE_TO_NP_TYPE",
    "TENSOR_TYPE_TO_STORAGE_TENSOR_TYPE",
    "TensorDtypeMap",
]

TENSOR_TYPE_TO_NP_TYPE: dict[int, np.dtype[Any]] = {
    code: entry.np_dtype for code, entry in TENSOR_TYPE_MAP.items()
}
NP_TYPE_TO_TENSOR_TYPE: dict[np.dtype[Any], int] = {
    dtype: code for code, dtype in TENSOR_TYPE_TO_NP_TYPE.items()
}
TENSOR_TYPE_TO_STORAGE_TENSOR_TYPE: dict[int, int] = {
    code: entry.storage_dtype for code, entry in TENSOR_TYPE_MAP.items()
}
STORAGE_TENSOR_TYPE_TO_FIELD: dict[int, str] = {
    storage: tensor_dtype_to_field(storage)
    for storage in dict.fromkeys(TENSOR_TYPE_TO_STORAGE_TENSOR_TYPE.values())
}
OPTIONAL_ELEMENT_TYPE_TO_FIELD: dict[int, str] = {
    1: "tensor_value",
    2: "sparse_tensor_value",
    3: "sequence_value",
    4: "map_value",
    5: "optional_value",
}
