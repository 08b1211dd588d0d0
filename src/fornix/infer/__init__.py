"""Type and shape inference over models."""

from __future__ import annotations

from fornix.infer.annotate import annotate
from fornix.infer.model import Inference, infer_model

__all__ = ["Inference", "annotate", "infer_model"]
