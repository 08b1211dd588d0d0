"""Let a model import a newer opset, so that passes may use the operators that begin there.

Only from opset 18 on, where nearly every version widens types: a node may stay as it is if each
step of its operator changes type sets only, is listed below as one that only adds to it, or has an
adapter. One node for which none of this holds keeps the whole model where it is.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from fornix import ops
from fornix.ir.graph import Model, Node
from fornix.ir.walk import nodes
from fornix.ops.op import Operator
from fornix.ops.opsets import LATEST
from fornix.passes.apply import Changes

LOWEST = 18
"""Below, too many operators changed their meaning; that is for the version converter."""

ADDS_ONLY = {
    ("AveragePool", 19),
    ("Cast", 19),
    ("Cast", 24),
    ("CastLike", 19),
    ("CastLike", 24),
    ("Attention", 24),
    ("Attention", 25),
    ("DequantizeLinear", 19),
    ("DequantizeLinear", 21),
    ("DequantizeLinear", 23),
    ("QuantizeLinear", 19),
    ("QuantizeLinear", 21),
    ("QuantizeLinear", 23),
    ("QLinearMatMul", 21),
}
"""Versions whose new attributes and inputs are optional and by default keep the old meaning."""

ASKS_FOR_SHAPES = {("GroupNormalization", 21)}
"""Versions whose adapters have to know shapes, and fail where they do not."""


def raise_opset(model: Model, opset: int) -> Changes:
    """Import version ``opset`` of ai.onnx, if every node means the same there."""
    imported = model.opset_imports.get("", 0)
    if imported < LOWEST or imported >= opset or model.functions:
        return Counter()
    if not all(_stays(node, imported, opset) for node in nodes(model.graph)):
        return Counter()
    for node in list(nodes(model.graph)):
        for step in _steps(node, imported, opset):
            adapter = _operator(node).adapters.get(step)
            if adapter is not None and node.graph is not None:
                adapter(node, node.graph)
    model.opset_imports[""] = opset
    return Counter({"raised opset": 1})


def _stays(node: Node, imported: int, opset: int) -> bool:
    """Whether ``node`` means the same, possibly adapted, at ``opset``."""
    if node.domain:
        return True
    operator = ops.find("", node.op_type)
    if operator is None or operator.schema(opset).is_deprecated:
        return False
    changed = {step.version for step in operator.history if step.signature is not None}
    steps = _steps(node, imported, opset)
    if any((node.op_type, step[1]) in ASKS_FOR_SHAPES for step in steps):
        return False
    return all(
        step in operator.adapters or step[1] not in changed or (node.op_type, step[1]) in ADDS_ONLY
        for step in steps
    )


def _steps(node: Node, imported: int, opset: int) -> list[tuple[int, int]]:
    """The versions of the operator of ``node`` that ``opset`` passes, pair by pair."""
    if node.domain:
        return []
    versions = [schema.since_version for schema in _operator(node).schemas]
    return [step for step in pairwise(versions) if imported < step[1] <= opset]


def _operator(node: Node) -> Operator:
    return ops.operator_of(ops.schema_of("", node.op_type, LATEST[""]))
