"""Tools for models that onnxruntime ships: shapes and opsets."""

from __future__ import annotations
