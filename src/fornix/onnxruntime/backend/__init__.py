"""onnx's backend interface over sessions."""

from __future__ import annotations

from fornix.lazy import submodules
from fornix.onnxruntime.backend.backend import is_compatible, prepare, run, supports_device

__all__ = ["is_compatible", "prepare", "run", "supports_device"]

__getattr__ = submodules(__name__)
