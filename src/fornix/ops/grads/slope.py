"""Derivatives of operators that compute each element from the elements at its place.

`slope` serves those of one input, whose gradient is that of the output times a slope; `broadcast`
sums gradients over the axes along which an input was broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from fornix.ops.grads.node import Gradients, GradNode
from fornix.ops.grads.term import Term
from fornix.ops.op import Operator

Rule = Callable[..., Gradients]


def slope(operator: Operator, of: Callable[..., Term]) -> None:
    """Let ``of(x, y, **attributes)`` be the derivative of y by x at every element."""

    def rule(x: Term, *, node: GradNode, **attributes: Any) -> Term:
        return node.g * of(x, node.y, **attributes)

    operator.grad(rule)


def broadcast(rule: Rule) -> Rule:
    """``rule``, its gradients summed to the shapes of its inputs."""

    @wraps(rule)
    def summed(*inputs: Term | None, node: GradNode, **attributes: Any) -> Gradients:
        found = rule(*inputs, node=node, **attributes)
        gradients = found if isinstance(found, tuple) else (found,)
        return tuple(
            None if g is None or x is None else node.make.sum_to(g, x)
            for g, x in zip(gradients, inputs, strict=False)
        )

    return summed


def flat(*operators: Operator) -> None:
    """Say that the derivative is zero wherever there is one."""
    for operator in operators:
        operator.grad(_zero)


def _zero(*_: object, **__: object) -> None:
    """No gradient for any input."""
    return
