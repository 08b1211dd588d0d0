"""Type and shape inference over models."""

from __future__ import annotations

from fornix.infer.annotate import annotate
from fornix.infer.blame import explained, infer_strictly
from fornix.infer.model import Inference, infer_model
from fornix.infer.origin import Origin, origin, origins

__all__ = [
    "Inference",
    "Origin",
    "annotate",
    "explained",
    "infer_model",
    "infer_strictly",
    "origin",
    "origins",
]
