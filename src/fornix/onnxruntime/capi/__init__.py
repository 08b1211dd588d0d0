"""The modules that onnxruntime's package is made of, under their names."""

from __future__ import annotations
