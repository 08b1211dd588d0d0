"""What `onnx.reference` offers: models evaluated node by node, with operators of one's own."""

from __future__ import annotations

from fornix.onnx.reference.reference_evaluator import ReferenceEvaluator

__all__ = ["ReferenceEvaluator"]
