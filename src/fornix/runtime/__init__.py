"""Machine code, or kernels, to answers: sessions."""

from __future__ import annotations

from fornix.runtime.binding import IOBinding
from fornix.runtime.interface import ModelMetadata, NodeArg
from fornix.runtime.options import RunOptions, SessionOptions
from fornix.runtime.providers import Placement, Provider
from fornix.runtime.session import InferenceSession
from fornix.runtime.sparse import SparseTensor
from fornix.runtime.values import OrtValue

__all__ = [
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtValue",
    "Placement",
    "Provider",
    "RunOptions",
    "SessionOptions",
    "SparseTensor",
]
