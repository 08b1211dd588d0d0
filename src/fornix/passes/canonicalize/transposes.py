"""Transposes that do nothing, meet, or go around axes that a Reshape only merged for them."""

from __future__ import annotations

from fornix.ir.graph import Node, Value
from fornix.passes.make import Maker
from fornix.passes.pattern import P, Rule, any_, rewrite


@rewrite(P.Transpose(any_("x"), bind="node"))
def drop_transpose(x: Value, node: Node, make: Maker) -> Value | None:
    """Transpose(x, 0, 1, 2 …) = x."""
    perm = permutation(node, x, make)
    is_same = perm is not None and perm == list(range(len(perm)))
    return x if is_same and make.fact(x).has_rank else None


@rewrite(P.Transpose(P.Transpose(any_("x"), bind="inner"), bind="outer"))
def merge_transposes(x: Value, inner: Node, outer: Node, make: Maker) -> Value | None:
    """Transpose(Transpose(x, p), q) = Transpose(x, p∘q)."""
    first, second = permutation(inner, x, make), permutation(outer, x, make)
    if first is None or second is None or len(first) != len(second):
        return None
    return make.Transpose(x, perm=[first[axis] for axis in second])


@rewrite(
    P.Reshape(
        P.Transpose(P.Reshape(any_("x"), any_("s")), bind="inner"), any_("shape"), bind="outer"
    )
)
def unwrap_transpose(x: Value, inner: Node, outer: Node, make: Maker) -> Value | None:
    """Leading axes that are merged for a Transpose and split again behind it need not be.

    x[A, B, S, D] → [A·B, S, D] → [A·B, D, S] → [A, B, D, S]  is  Transpose(x, 0, 1, 3, 2)
    """
    merged = inner.inputs[0]
    facts = [make.fact(value) for value in (x, merged, outer.output) if value is not None]
    if not all(fact.has_rank for fact in facts) or merged is None:
        return None
    before, between, after = (fact.shape for fact in facts)
    perm, more = permutation(inner, merged, make), len(before) - len(between)
    if perm is None or not perm or perm[0] != 0 or more < 0:
        return None
    full = [*range(more + 1), *(axis + more for axis in perm[1:])]
    if before[more + 1 :] != between[1:] or after != tuple(before[axis] for axis in full):
        return None
    return make.Transpose(x, perm=full)


def permutation(node: Node, x: Value, make: Maker) -> list[int] | None:
    """The permutation of ``node``, whose data has the rank of ``x``."""
    perm = node.attr("perm")
    if perm is not None:
        return list(perm)
    fact = make.fact(x)
    return list(range(fact.rank))[::-1] if fact.has_rank else None


RULES: tuple[Rule, ...] = (*drop_transpose, *merge_transposes, *unwrap_transpose)
