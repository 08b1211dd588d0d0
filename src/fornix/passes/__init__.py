"""Graph → graph: what makes a model cheaper without changing what it computes."""

from __future__ import annotations

from fornix.passes.pipeline import (
    PIPELINE,
    Level,
    Native,
    Pass,
    Step,
    optimize,
    optimize_explained,
)

__all__ = ["PIPELINE", "Level", "Native", "Pass", "Step", "optimize", "optimize_explained"]
