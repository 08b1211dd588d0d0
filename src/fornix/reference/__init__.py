"""Evaluation node by node on the NumPy kernels: what a model means, without any compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix import lazy

if TYPE_CHECKING:
    from fornix.reference.evaluator import ReferenceEvaluator

__all__ = ["ReferenceEvaluator"]

__getattr__ = lazy.names(__name__, {"ReferenceEvaluator": "evaluator"})
