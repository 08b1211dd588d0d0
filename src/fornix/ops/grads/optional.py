"""Derivatives of operators on optionals: the gradient of an optional is that of what it holds."""

from __future__ import annotations

from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.optional import Optional, OptionalGetElement


@Optional.grad
@OptionalGetElement.grad
def grad_held(_: Term, *, node: GradNode, **type: object) -> Gradients:
    """It passes on as it is."""
    return node.g
