"""Derivatives: the ``grad`` rules of the operators, and what turns them into gradients of a graph.

A rule stands here and not in its operator's home because nothing but a Gradient asks for it: who
only runs models never loads these modules. They follow the families of `fornix.ops`. `node` says
what a rule sees, `reverse` walks a graph, `expand` replaces the Gradient nodes of a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fornix.ir.graph import Model
    from fornix.ops.grads.term import Knowledge

DOMAIN = "ai.onnx.preview.training"
"""The domain of Gradient."""

FAMILIES: tuple[str, ...] = (
    "elementwise",
    "activation",
    "shape",
    "move",
    "gather",
    "reduce",
    "linalg",
    "conv",
    "pool",
    "norm",
    "resize",
    "sampling",
    "quantize",
    "attention",
    "loss",
    "optional",
    "control",
    "scan",
    "recurrent",
)
"""Modules of this package that register rules."""


def expand_gradients(model: Model, infer: Callable[[Model], Knowledge]) -> Model:
    """``model`` with every Gradient replaced, or itself if there is none; see `expand`.

    ``infer`` finds types and shapes (`fornix.infer.infer_model`).
    """
    imported = [model.opset_imports, *(f.opset_imports for f in model.functions)]
    if not any(DOMAIN in imports for imports in imported):
        return model
    from fornix.ops.grads.expand import expanded  # noqa: PLC0415 - few models have gradients

    return expanded(model, infer)


@cache
def load() -> None:
    """Register every rule."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
