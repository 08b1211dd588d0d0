"""Evaluation node by node on the NumPy kernels: what a model means, without any compiler."""

from __future__ import annotations

from fornix.reference.evaluator import ReferenceEvaluator

__all__ = ["ReferenceEvaluator"]
