"""Fuse products of matrices with what is added to them into Gemm: a·b + c.

Only for two axes each; where there are more, MatMul and Add say it.
"""

from __future__ import annotations

from fornix.dtype import FLOAT16, FLOAT32, FLOAT64
from fornix.ir.graph import Node, Value
from fornix.passes.canonicalize.nothing import keeps_shape
from fornix.passes.canonicalize.transposes import permutation
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, rewrite

BROADCASTS_SINCE = 7
"""Since this opset Gemm broadcasts its bias by itself."""


@rewrite(P.Add(P.MatMul(any_("a"), any_("b"), bind="product", single_use=True), any_("c"),
               bind="node"))  # fmt: skip
def fuse_gemm(a: Value, b: Value, c: Value, product: Node, node: Node, make: Maker) -> Value | None:
    """MatMul(a, b) + c = Gemm(a, b, c) for matrices, if c broadcasts to the product."""
    facts = [make.fact(value) for value in (a, b, c)]
    if make.opset < BROADCASTS_SINCE or not all(fact.has_rank for fact in facts):
        return None
    if [fact.rank for fact in facts[:2]] != [2, 2] or facts[2].rank > 2:
        return None
    if facts[0].dtype not in {FLOAT16, FLOAT32, FLOAT64}:
        return None
    return make.Gemm(a, b, c) if keeps_shape(product.output, node, make) else None


@rewrite(
    P.Gemm(P.Transpose(any_("a"), bind="turned"), any_("b"), any_("c?"), bind="node"),
    P.Gemm(any_("a"), P.Transpose(any_("b"), bind="turned"), any_("c?"), bind="node"),
)
def turn_gemm(
    a: Value, b: Value, turned: Node, node: Node, make: Maker, c: Value | None = None
) -> Value | None:
    """Gemm reads a transposed matrix as it is stored."""
    name = "transA" if turned.output is node.inputs[0] else "transB"
    if permutation(turned, a if name == "transA" else b, make) != [1, 0]:
        return None
    attributes = dict(node.attributes) | {name: 1 - node.attr(name, 0)}
    return make.node("Gemm", (a, b, c), attributes)


RULES: tuple[Rule, ...] = (*fuse_gemm, *turn_gemm)
