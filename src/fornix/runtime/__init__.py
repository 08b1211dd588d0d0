"""Machine code, or kernels, to answers: sessions."""

from __future__ import annotations

from fornix.runtime.interface import ModelMetadata, NodeArg
from fornix.runtime.options import RunOptions, SessionOptions
from fornix.runtime.providers import Placement, Provider
from fornix.runtime.session import InferenceSession

__all__ = [
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "Placement",
    "Provider",
    "RunOptions",
    "SessionOptions",
]
