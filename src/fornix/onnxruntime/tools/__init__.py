"""Tools for models that onnxruntime ships: shapes and opsets."""

from __future__ import annotations

from fornix.lazy import submodules

__getattr__ = submodules(__name__)
