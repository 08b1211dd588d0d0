"""Sessions and values, under the name of the module in which onnxruntime defines them."""

from __future__ import annotations

from fornix.onnxruntime._adapters import AdapterFormat
from fornix.onnxruntime._compiler import ModelCompiler
from fornix.onnxruntime._devices import (
    OrtDevice,
    OrtDeviceVendorId,
    get_ort_device_type,
    get_vendor_id_for_device_type,
)
from fornix.onnxruntime._process import copy_tensors
from fornix.onnxruntime._session import (
    InferenceSession,
    Session,
    check_and_normalize_provider_args,
)
from fornix.runtime import IOBinding, OrtValue, SparseTensor

__all__ = [
    "AdapterFormat",
    "IOBinding",
    "InferenceSession",
    "ModelCompiler",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "SparseTensor",
    "check_and_normalize_provider_args",
    "copy_tensors",
    "get_ort_device_type",
    "get_vendor_id_for_device_type",
]
