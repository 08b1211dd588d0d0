"""Which nodes draw numbers, so that two runs have a right to differ."""

from __future__ import annotations

from fornix.ir.graph import Node
from fornix.reference.plan import Plan

RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)
"""Operators that always draw numbers."""
TRAINING_IS_INPUT = 12
"""Since this opset Dropout takes ratio and training_mode as inputs."""
NEVER_DROPS = 7
"""Since this opset, and until then, Dropout has no training mode; before, an attribute said so."""


def is_random(node: Node, plan: Plan) -> bool:
    """Whether ``node`` of ``plan`` draws numbers."""
    return (node.op_type in RANDOM and not node.domain) or drops(node, plan)


def drops(node: Node, plan: Plan) -> bool:
    """Whether ``node`` is a Dropout in training mode, as far as stored data say."""
    if node.op_type != "Dropout" or node.domain:
        return False
    opset = plan.scope.opset("")
    if opset < NEVER_DROPS:
        return bool(node.attr("is_test", 0) == 0 and node.attr("ratio", 0.5) > 0)
    inputs = node.inputs
    if opset < TRAINING_IS_INPUT or len(inputs) <= 2 or inputs[2] is None:
        return False
    mode = plan.constants.get(inputs[2])
    ratio = plan.constants.get(inputs[1]) if inputs[1] is not None else None
    return bool(mode is not None and mode.all() and (ratio is None or (ratio > 0).all()))
