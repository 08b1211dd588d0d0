"""The modules that onnxruntime's package is made of, under their names."""

from __future__ import annotations

from fornix.lazy import submodules

__getattr__ = submodules(__name__)
