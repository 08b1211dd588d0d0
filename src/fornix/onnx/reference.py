"""What `onnx.reference` offers: models evaluated node by node on NumPy kernels."""

from __future__ import annotations

from fornix.reference import ReferenceEvaluator

__all__ = ["ReferenceEvaluator"]
