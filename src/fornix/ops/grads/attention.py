"""Derivatives of what attention is made of; Attention itself has none here."""

from __future__ import annotations

from fornix.errors import NotSupported
from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.rotary import RotaryEmbedding


@RotaryEmbedding.grad
def grad_rotary_embedding(
    x: Term,
    cosines: Term,
    sines: Term,
    positions: Term | None = None,
    *,
    node: GradNode,
    **attributes: int,
) -> Gradients:
    """The rotation back: by the negative angles."""
    if node.needs(1) or node.needs(2):
        raise NotSupported("the gradient of its cos_cache and sin_cache is not supported")
    return node.make.RotaryEmbedding(node.g, cosines, -sines, positions, **attributes)
